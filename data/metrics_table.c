// Lines as our own runs write them are read without a tree; what looks different in any way goes to the strict parser,
// which decides.
#include "data/metrics_table.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/file.h"
#include "runtime/json.h"
#include "runtime/memory.h"

// ---- rows and columns ----

static bool is_key(const MetricsColumn *column, const char *key, size_t size) {
    return strncmp(column->key, key, size) == 0 && !column->key[size];
}

// The column of a key, made where there is none; `hint` is the one behind the last, which it mostly is. -1: too many.
static int64_t find_column(MetricsTable *t, const char *key, size_t size, int64_t hint) {
    if (hint < t->column_count && is_key(&t->columns[hint], key, size)) return hint;
    for (int64_t i = 0; i < t->column_count; i++)
        if (is_key(&t->columns[i], key, size)) return i;
    if (t->column_count == METRICS_KEYS || (t->rows + 1) * (t->column_count + 1) > METRICS_VALUES) return -1;
    t->columns = memory_grow(t->columns, t->column_count + 1, sizeof *t->columns, "columns of metrics");
    MetricsColumn *column = &t->columns[t->column_count];
    column->key = memcpy(memory_take((int64_t)size + 1, 1, "a key"), key, size);
    column->values = memory_grow(NULL, t->capacity, sizeof *column->values, "rows of metrics");
    for (int64_t row = 0; row <= t->rows; row++) column->values[row] = NAN;
    return t->column_count++;
}

// Room for the row behind the last one, empty.
static bool begin_row(MetricsTable *t) {
    if ((t->rows + 1) * t->column_count > METRICS_VALUES) return false;
    if (t->rows == t->capacity) {
        t->capacity = t->capacity ? 2 * t->capacity : 256;
        for (int64_t i = 0; i < t->column_count; i++)
            t->columns[i].values = memory_grow(t->columns[i].values, t->capacity, sizeof(double), "rows of metrics");
    }
    for (int64_t i = 0; i < t->column_count; i++) t->columns[i].values[t->rows] = NAN;
    return true;
}

static void add_note(MetricsTable *t, const char *key, const char *value) {
    t->notes = memory_room(t->notes, t->note_count + 1, &t->note_capacity, sizeof *t->notes, "notes of metrics");
    t->notes[t->note_count++] = (MetricsNote){memory_string(key), memory_string(value), t->rows};
}

// ---- a line ----

// A number of JSON's grammar; NULL for anything else. Up to 2^53 and with an exact power of ten, one division or
// product rounds as strtod does.
static const char *read_number(const char *s, double *value) {
    static const double powers[] = {1,    1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const char *begin = s, *first;
    bool negative = *s == '-';
    uint64_t digits = 0;
    int point = 0, exponent = 0;
    s += negative;
    for (first = s; *s >= '0' && *s <= '9'; s++) digits = digits * 10 + (uint64_t)(*s - '0');
    if (s == first || (*first == '0' && s - first > 1)) return NULL;
    if (*s == '.') {
        for (first = ++s; *s >= '0' && *s <= '9'; s++, point++) digits = digits * 10 + (uint64_t)(*s - '0');
        if (s == first) return NULL;
    }
    if (*s == 'e' || *s == 'E') {
        bool down = *++s == '-';
        s += *s == '-' || *s == '+';
        for (first = s; *s >= '0' && *s <= '9' && s - first < 4; s++) exponent = exponent * 10 + (*s - '0');
        if (s == first) return NULL;
        if (down) exponent = -exponent;
    }
    int power = exponent - point;
    if (s - begin <= 18 && digits <= (uint64_t)1 << 53 && power >= -22 && power <= 22) {
        double whole = (double)digits;
        *value = power < 0 ? whole / powers[-power] : whole * powers[power];
        if (negative) *value = -*value;
        return s;
    }
    char *end;
    *value = strtod_l(begin, &end, c_locale());
    return end == s && isfinite(*value) && s - begin <= 62 ? s : NULL;
}

// {"key":number,...} with null for a number. False for all else, and the row may hold a part of it.
static bool read_plain(MetricsTable *t, const char *s) {
    int64_t column = -1;
    if (*s++ != '{') return false;
    for (;;) {
        if (*s++ != '"') return false;
        const char *key = s;
        while (*s > ' ' && *s != '"' && *s != '\\') s++; // what is not ASCII is negative
        if (*s != '"' || s[1] != ':') return false;
        column = find_column(t, key, (size_t)(s - key), column + 1);
        s += 2;
        if (column < 0) return false;
        double *value = &t->columns[column].values[t->rows];
        if (strncmp(s, "null", 4) == 0) s += 4;
        else if (!isnan(*value) || !(s = read_number(s, value))) return false;
        if (*s == '}') return s[1] == 0;
        if (*s++ != ',') return false;
    }
}

// True and a row for any object.
static bool read_strict(MetricsTable *t, const char *name, const char *line, size_t size, Errors *errors) {
    Json *json = json_parse(name, line, size, EXIT_DATA, errors);
    if (!json) return false;
    const cJSON *root = json_root(json);
    bool good = cJSON_IsObject(root), event = cJSON_IsString(json_member(root, "event"));
    if (!good) errors_add(errors, EXIT_DATA, "%s: expected an object, {\"step\":1,...}", name);
    for (const cJSON *node = root->child; good && node; node = node->next) {
        if (cJSON_IsString(node)) add_note(t, node->string, node->valuestring);
        if (!cJSON_IsNumber(node)) continue;
        if (event && strcmp(node->string, "step") != 0 && strcmp(node->string, "tokens") != 0) continue;
        int64_t column = find_column(t, node->string, strlen(node->string), 0);
        good = column >= 0;
        if (good) t->columns[column].values[t->rows] = node->valuedouble;
        else
            errors_add(errors, EXIT_DATA, "%s: more than %d different keys, or %d numbers", name, METRICS_KEYS,
                       METRICS_VALUES);
    }
    json_close(json);
    return good;
}

typedef struct {
    MetricsTable *table;
    const char *path;
    int64_t number; // of the line, from 1
} Reading;

// `line` is terminated. `whole`: it ended with a newline.
static bool read_line(Reading *r, const char *line, size_t size, bool whole, Errors *errors) {
    MetricsTable *t = r->table;
    r->number++;
    bool room = begin_row(t);
    if (room && strlen(line) == size && read_plain(t, line)) {
        t->rows++;
        return true;
    }
    Errors own = {0};
    Text name = {0};
    text_printf(&name, "%s, line %ld", r->path, r->number);
    if (!room) errors_add(&own, EXIT_DATA, "%s: more than %d numbers", text_string(&name), METRICS_VALUES);
    else begin_row(t);
    bool good = room && read_strict(t, text_string(&name), line, size, &own);
    bool torn = !good && !whole && room;
    t->rows += good;
    if (!good && !torn) errors_move(errors, &own);
    errors_close(&own);
    text_close(&name);
    return good || torn;
}

// ---- the file ----

// The next bytes behind what is waiting; 0 at the end, -1 and a message where they cannot be read.
static ssize_t read_more(int descriptor, const char *path, Text *waiting, Errors *errors) {
    enum { CHUNK = 1 << 18 };
    static _Thread_local char chunk[CHUNK];
    ssize_t got;
    do got = read(descriptor, chunk, CHUNK);
    while (got < 0 && errno == EINTR);
    if (got < 0) file_complain(path, "read", errno, EXIT_DATA, errors);
    else text_append(waiting, chunk, (size_t)got);
    return got;
}

static bool read_lines(Reading *r, int descriptor, Errors *errors) {
    Text waiting = {0};
    bool good = true;
    ssize_t got = 1;
    while (good && (got = read_more(descriptor, r->path, &waiting, errors)) > 0) {
        char *begin = waiting.data, *end = waiting.data + waiting.size, *newline;
        while (good && (newline = memchr(begin, '\n', (size_t)(end - begin)))) {
            *newline = 0;
            good = read_line(r, begin, (size_t)(newline - begin), true, errors);
            begin = newline + 1;
        }
        waiting.size = (size_t)(end - begin);
        memmove(waiting.data, begin, waiting.size + 1);
        if (good && waiting.size > METRICS_LINE)
            good = errors_add(errors, EXIT_DATA, "%s, line %ld: longer than %d bytes", r->path, r->number + 1,
                              METRICS_LINE);
    }
    good = good && got == 0;
    if (good && waiting.size) good = read_line(r, waiting.data, waiting.size, false, errors);
    text_close(&waiting);
    return good;
}

bool metrics_table_read(MetricsTable *table, const char *run_dir, Errors *errors) {
    char path[4096];
    struct stat facts;
    *table = (MetricsTable){0};
    path_join(path, run_dir, "metrics.jsonl");
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a pipe is not waited for
    if (descriptor < 0 && (errno == ENOENT || errno == ENOTDIR)) return true;
    if (descriptor < 0) return file_complain(path, "open", errno, EXIT_NO_INPUT, errors);
    bool regular = fstat(descriptor, &facts) == 0 && S_ISREG(facts.st_mode);
    if (!regular) errors_add(errors, EXIT_DATA, "%s is not a regular file", path);
    bool good = regular && read_lines(&(Reading){.table = table, .path = path}, descriptor, errors);
    close(descriptor);
    return good;
}

void metrics_table_close(MetricsTable *table) {
    for (int64_t i = 0; i < table->column_count; i++) {
        free(table->columns[i].key);
        free(table->columns[i].values);
    }
    for (int64_t i = 0; i < table->note_count; i++) {
        free(table->notes[i].key);
        free(table->notes[i].value);
    }
    free(table->columns);
    free(table->notes);
    *table = (MetricsTable){0};
}

const double *metrics_table_column(const MetricsTable *table, const char *key) {
    for (int64_t i = 0; i < table->column_count; i++)
        if (strcmp(table->columns[i].key, key) == 0) return table->columns[i].values;
    return NULL;
}

double metrics_table_last(const MetricsTable *table, const char *key) {
    const double *column = metrics_table_column(table, key);
    for (int64_t i = table->rows - 1; column && i >= 0; i--)
        if (isfinite(column[i])) return column[i];
    return NAN;
}
