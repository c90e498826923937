#include "commands/measurements.h"

#include <fcntl.h>
#include <math.h>
#include <stddef.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "runtime/file.h"
#include "runtime/json.h"

static const char FORMAT[] = "thalweg-bench-1";

void measurements_path(char out[4096]) { path_of_data(out, "bench.json"); }

// ---- the fields ----

typedef enum { FIELD_TEXT, FIELD_INTEGER, FIELD_NUMBER } FieldType;

// `kind`: part of what was measured; `least`: of a number.
typedef struct {
    const char *key;
    FieldType type;
    size_t offset, size;
    bool kind;
    double least;
} Field;

#define FIELD(name, type, kind, least) \
    {#name, type, offsetof(Measurement, name), sizeof ((Measurement *)0)->name, kind, least}
static const Field fields[] = {
    FIELD(device, FIELD_TEXT, true, 0),
    FIELD(precision, FIELD_TEXT, true, 0),
    FIELD(optimizer, FIELD_TEXT, true, 0),
    FIELD(threads, FIELD_INTEGER, true, 0),
    FIELD(parameters, FIELD_INTEGER, true, 1),
    FIELD(sequence_length, FIELD_INTEGER, true, 1),
    FIELD(micro_batch, FIELD_INTEGER, true, 1),
    FIELD(micro_steps, FIELD_INTEGER, false, 1),
    FIELD(recompute, FIELD_INTEGER, true, 0),
    FIELD(flops_per_token, FIELD_NUMBER, true, 1),
    FIELD(step_seconds, FIELD_NUMBER, false, 1e-9),
    FIELD(micro_batch_seconds, FIELD_NUMBER, false, 1e-9),
    FIELD(optimizer_seconds, FIELD_NUMBER, false, 0),
    FIELD(product_flops, FIELD_NUMBER, false, 1),
    FIELD(copy_bytes, FIELD_NUMBER, false, 0),
    FIELD(time, FIELD_INTEGER, false, 0),
};
enum { FIELDS = sizeof fields / sizeof fields[0] };

static char *place(Measurement *m, const Field *field) { return (char *)m + field->offset; }
static const char *value(const Measurement *m, const Field *field) { return (const char *)m + field->offset; }

bool measurement_same_kind(const Measurement *a, const Measurement *b) {
    for (int i = 0; i < FIELDS; i++) {
        const Field *field = &fields[i];
        if (!field->kind) continue;
        if (field->type == FIELD_TEXT ? strcmp(value(a, field), value(b, field)) != 0
                                      : memcmp(value(a, field), value(b, field), field->size) != 0)
            return false;
    }
    return true;
}

// ---- reading ----

static bool read_field(Measurement *m, const Field *field, const cJSON *node) {
    char *out = place(m, field);
    if (field->type == FIELD_TEXT) {
        if (!cJSON_IsString(node) || strlen(node->valuestring) >= field->size) return false;
        strcpy(out, node->valuestring);
        return true;
    }
    if (!cJSON_IsNumber(node) || !(node->valuedouble >= field->least)) return false;
    if (field->type == FIELD_INTEGER) return json_is_integer(node, (int64_t *)(void *)out);
    memcpy(out, &node->valuedouble, sizeof(double));
    return true;
}

static bool read_one(Measurement *m, const cJSON *node, const char **wrong) {
    *m = (Measurement){0};
    for (int i = 0; i < FIELDS; i++) {
        *wrong = fields[i].key;
        if (!cJSON_IsObject(node) || !read_field(m, &fields[i], json_member(node, fields[i].key))) return false;
    }
    return true;
}

// The first one that is passed over is told, and how many more there are.
static void read_list(Measurements *out, const Json *json, const cJSON *list, const char *path, Errors *errors) {
    const cJSON *node;
    int passed_over = 0;
    cJSON_ArrayForEach(node, list) {
        const char *wrong;
        Text at = {0};
        if (out->count == MEASUREMENTS) break;
        if (read_one(&out->items[out->count], node, &wrong)) {
            out->count++;
            continue;
        }
        if (passed_over++ > 0) continue;
        json_position(json, node, &at);
        errors_add(errors, EXIT_DATA, "%s: this measurement is passed over: \"%s\" is missing or not what it should be",
                   text_string(&at), wrong);
        text_close(&at);
    }
    if (passed_over > 1) errors_add(errors, EXIT_DATA, "%s: and %d more of them", path, passed_over - 1);
}

static void read_all(Measurements *out, const Json *json, const char *path, Errors *errors) {
    const cJSON *root = json_root(json), *format, *list;
    bool ours = cJSON_IsObject(root) && (format = json_member(root, "format")) && cJSON_IsString(format) &&
                strcmp(format->valuestring, FORMAT) == 0;
    list = ours ? json_member(root, "measurements") : NULL;
    if (!cJSON_IsArray(list)) {
        errors_add(errors, EXIT_DATA, "%s: passed over, it is no list of measurements of this program; `train_gpt "
                   "bench` writes a new one", path);
        return;
    }
    read_list(out, json, list, path, errors);
}

bool measurements_read(Measurements *out, Errors *errors) {
    enum { SIZE_LIMIT = 1 << 20 };
    char path[4096];
    int before = errors->count;
    out->count = 0;
    measurements_path(path);
    if (!path_exists(path)) return true;
    Json *json = json_open(path, SIZE_LIMIT, EXIT_DATA, errors);
    if (json) read_all(out, json, path, errors);
    json_close(json);
    return errors->count == before;
}

// ---- writing ----

static void write_one(const Measurement *m, JsonWriter *w) {
    json_begin(w, NULL, '{');
    for (int i = 0; i < FIELDS; i++) {
        const Field *field = &fields[i];
        const char *from = value(m, field);
        double number;
        int64_t integer;
        memcpy(&number, from, sizeof number);
        memcpy(&integer, from, sizeof integer);
        if (field->type == FIELD_TEXT) json_string(w, field->key, from);
        else if (field->type == FIELD_INTEGER) json_integer(w, field->key, integer);
        else json_number(w, field->key, number);
    }
    json_end(w, '}');
}

static bool write_all(const Measurements *all, const char *path, Errors *errors) {
    Text text = {0};
    JsonWriter w = {.out = &text, .indent = 2};
    json_begin(&w, NULL, '{');
    json_string(&w, "format", FORMAT);
    json_begin(&w, "measurements", '[');
    for (int i = 0; i < all->count; i++) write_one(&all->items[i], &w);
    json_end(&w, ']');
    json_end(&w, '}');
    text_add(&text, "\n");
    bool good = file_replace(path, text_string(&text), text.size, errors);
    text_close(&text);
    return good;
}

// For the moment that it takes to read and write. A lock that is not to be had is not waited for long.
static int lock(const char *path, Errors *errors) {
    enum { TRIES = 100 };
    char name[4096 + 8];
    snprintf(name, sizeof name, "%s.lock", path);
    int descriptor = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    for (int i = 0; descriptor >= 0 && i < TRIES; i++) {
        if (flock(descriptor, LOCK_EX | LOCK_NB) == 0) return descriptor;
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    if (descriptor >= 0) close(descriptor);
    errors_add(errors, EXIT_CANNOT_WRITE, "%s: cannot be locked; the measurement is not kept. THALWEG_DATA names "
               "another directory", name);
    return -1;
}

bool measurements_add(const Measurement *measurement, Errors *errors) {
    static Measurements before, now;
    char path[4096], directory[4096];
    Errors ignored = {0}; // it is replaced
    measurements_path(path);
    path_directory(directory, path);
    if (!directory_make(directory, errors)) return false;
    int descriptor = lock(path, errors);
    if (descriptor < 0) return false;
    measurements_read(&before, &ignored);
    errors_close(&ignored);
    now.items[0] = *measurement;
    now.count = 1;
    for (int i = 0; i < before.count && now.count < MEASUREMENTS; i++)
        if (!measurement_same_kind(&before.items[i], measurement)) now.items[now.count++] = before.items[i];
    bool good = write_all(&now, path, errors);
    close(descriptor);
    return good;
}
