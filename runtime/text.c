#include "runtime/text.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <utf8proc.h>

#include "runtime/error.h"
#include "runtime/memory.h"

static void reserve(Text *text, size_t size) {
    if (size + 1 <= text->capacity) return;
    size_t capacity = text->capacity ? text->capacity : 64;
    while (capacity < size + 1) capacity *= 2;
    text->data = memory_grow(text->data, (int64_t)capacity, 1, "a text");
    text->capacity = capacity;
}

void text_append(Text *text, const void *bytes, size_t size) {
    reserve(text, text->size + size);
    if (size) memcpy(text->data + text->size, bytes, size);
    text->size += size;
    text->data[text->size] = 0;
}

void text_add(Text *text, const char *string) { text_append(text, string, strlen(string)); }

void text_vprintf(Text *text, const char *format, va_list arguments) {
    va_list again;
    va_copy(again, arguments);
    int size = vsnprintf(NULL, 0, format, arguments);
    REQUIRE(size >= 0, "format %s", format);
    reserve(text, text->size + (size_t)size);
    vsnprintf(text->data + text->size, (size_t)size + 1, format, again);
    text->size += (size_t)size;
    va_end(again);
}

void text_printf(Text *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    text_vprintf(text, format, arguments);
    va_end(arguments);
}

void text_clear(Text *text) {
    text->size = 0;
    if (text->data) text->data[0] = 0;
}

void text_close(Text *text) {
    free(text->data);
    *text = (Text){0};
}

const char *text_string(const Text *text) { return text->data ? text->data : ""; }

void text_list_add(TextList *list, const char *string) {
    list->items = memory_room(list->items, list->count + 1, &list->capacity, sizeof *list->items, "a list of strings");
    list->items[list->count++] = memory_string(string);
}

void text_list_close(TextList *list) {
    for (int64_t i = 0; i < list->count; i++) free(list->items[i]);
    free(list->items);
    *list = (TextList){0};
}

// ---- numbers ----

typedef struct {
    double size;
    const char *suffix;
} Unit;

static const char *with_unit(char out[TEXT_NUMBER], double value, const Unit *units, int count) {
    int i = 0;
    while (i + 1 < count && fabs(value) < units[i].size) i++;
    double scaled = value / units[i].size;
    int digits = units[i].size <= 1 && scaled == floor(scaled) ? 0 : fabs(scaled) < 10 ? 2 : fabs(scaled) < 100 ? 1 : 0;
    snprintf(out, TEXT_NUMBER, "%.*f%s", digits, scaled, units[i].suffix);
    return out;
}

const char *text_bytes(char out[TEXT_NUMBER], double bytes) {
    static const Unit units[] = {{0x1p40, " TiB"}, {0x1p30, " GiB"}, {0x1p20, " MiB"}, {0x1p10, " KiB"}, {1, " B"}};
    return with_unit(out, bytes, units, 5);
}

const char *text_count(char out[TEXT_NUMBER], double count) {
    static const Unit units[] = {{1e12, "T"}, {1e9, "B"}, {1e6, "M"}, {1e3, "K"}, {1, ""}};
    return with_unit(out, count, units, 5);
}

const char *text_duration(char out[TEXT_NUMBER], double seconds) {
    if (!(seconds >= 0 && seconds < 1e10)) {
        snprintf(out, TEXT_NUMBER, "-");
        return out;
    }
    long s = lround(seconds);
    if (seconds < 10)
        snprintf(out, TEXT_NUMBER, "%.1fs", seconds);
    else if (s < 60)
        snprintf(out, TEXT_NUMBER, "%lds", s);
    else if (s < 3600)
        snprintf(out, TEXT_NUMBER, "%ldm%02lds", s / 60, s % 60);
    else if (s < 86400)
        snprintf(out, TEXT_NUMBER, "%ldh%02ldm", s / 3600, s / 60 % 60);
    else
        snprintf(out, TEXT_NUMBER, "%ldd%02ldh", s / 86400, s / 3600 % 24);
    return out;
}

locale_t c_locale(void) {
    static locale_t locale;
    if (!locale) locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    return locale;
}

const char *text_double(char out[TEXT_NUMBER], double value) {
    locale_t before = uselocale(c_locale());
    if (value == floor(value) && fabs(value) <= 0x1p53) {
        snprintf(out, TEXT_NUMBER, "%.0f", value);
    } else {
        for (int digits = 1; digits <= 17; digits++) {
            snprintf(out, TEXT_NUMBER, "%.*g", digits, value);
            if (strtod(out, NULL) == value) break;
        }
    }
    uselocale(before);
    return out;
}

// ---- words ----

static int least(int a, int b) { return a < b ? a : b; }

// Optimal string alignment distance, up to `limit` + 1.
static int distance(const char *a, const char *b, int limit) {
    enum { LONGEST = 64 };
    int n = (int)strlen(a), m = (int)strlen(b);
    if (n > LONGEST || m > LONGEST || n - m > limit || m - n > limit) return limit + 1;
    int rows[3][LONGEST + 1];
    int *before = rows[0], *last = rows[1], *row = rows[2];
    for (int j = 0; j <= m; j++) last[j] = j;
    for (int i = 1; i <= n; i++) {
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int cost = a[i - 1] != b[j - 1];
            row[j] = least(least(last[j] + 1, row[j - 1] + 1), last[j - 1] + cost);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = least(row[j], before[j - 2] + 1);
        }
        int *oldest = before;
        before = last, last = row, row = oldest;
    }
    return last[m];
}

const char *text_read_number(const char *text, double *value) {
    char *end;
    *value = strtod_l(text, &end, c_locale());
    if (end == text || (size_t)(end - text) > strspn(text, "0123456789+-.eE") || !isfinite(*value)) return NULL;
    return end;
}

const char *text_nearest(const char *word, const char *const *candidates, int64_t count) {
    enum { NEAR = 2 };
    const char *best = NULL;
    int best_distance = NEAR + 1;
    for (int64_t i = 0; i < count; i++) {
        int d = distance(word, candidates[i], NEAR);
        if (d < best_distance && d < (int)strlen(candidates[i])) best = candidates[i], best_distance = d;
    }
    if (best || !*word) return best;
    for (int64_t i = 0; i < count; i++) {
        size_t shorter = strlen(word) < strlen(candidates[i]) ? strlen(word) : strlen(candidates[i]);
        if (shorter >= 2 && strncmp(word, candidates[i], shorter) == 0) return candidates[i];
    }
    return NULL;
}

// ---- UTF-8 ----

// Bytes of the valid sequence at `s`, or 0.
static size_t sequence_size(const unsigned char *s, size_t available) {
    static const struct {
        unsigned char mask, lead;
        uint32_t smallest;
    } forms[] = {{0x80, 0x00, 0}, {0xE0, 0xC0, 0x80}, {0xF0, 0xE0, 0x800}, {0xF8, 0xF0, 0x10000}};
    for (size_t form = 0; form < 4; form++) {
        if ((s[0] & forms[form].mask) != forms[form].lead) continue;
        if (form + 1 > available) return 0;
        uint32_t code = s[0] & (unsigned char)~forms[form].mask;
        for (size_t i = 1; i <= form; i++) {
            if ((s[i] & 0xC0) != 0x80) return 0;
            code = code << 6 | (s[i] & 0x3F);
        }
        bool surrogate = code >= 0xD800 && code <= 0xDFFF;
        return code >= forms[form].smallest && code <= 0x10FFFF && !surrogate ? form + 1 : 0;
    }
    return 0;
}

bool text_is_utf8(const void *bytes, size_t size, size_t *bad_offset) {
    const unsigned char *s = bytes;
    for (size_t i = 0; i < size;) {
        size_t step = sequence_size(s + i, size - i);
        if (step == 0) {
            if (bad_offset) *bad_offset = i;
            return false;
        }
        i += step;
    }
    return true;
}

int64_t text_repair(Text *out, const char *bytes, size_t size) {
    int64_t replaced = 0;
    size_t at = 0, good;
    while (!text_is_utf8(bytes + at, size - at, &good)) {
        text_append(out, bytes + at, good);
        text_add(out, REPLACEMENT);
        replaced++;
        at += good + 1;
    }
    text_append(out, bytes + at, size - at);
    return replaced;
}

// Code points that a terminal obeys: controls, and those that turn the direction of what follows.
static bool is_command(const unsigned char *s, size_t size) {
    if (size == 1) return s[0] < 0x20 || s[0] == 0x7F;
    if (size == 2) return s[0] == 0xC2 && s[1] < 0xA0;
    bool turns = s[1] == 0x80 ? s[2] >= 0xAA && s[2] <= 0xAE : s[1] == 0x81 && s[2] >= 0xA6 && s[2] <= 0xA9;
    return size == 3 && s[0] == 0xE2 && turns;
}

// With `kept`: control characters that stay.
static void escape(Text *out, const void *bytes, size_t size, const char *kept) {
    const unsigned char *s = bytes;
    for (size_t i = 0; i < size;) {
        size_t step = sequence_size(s + i, size - i);
        bool stays = step == 1 && s[i] && strchr(kept, s[i]);
        if (step == 0 || (is_command(s + i, step) && !stays)) {
            text_printf(out, "\\x%02x", s[i]);
            i++;
        } else {
            text_append(out, s + i, step);
            i += step;
        }
    }
}

void text_escape(Text *out, const void *bytes, size_t size) { escape(out, bytes, size, "\n\t"); }

void text_excerpt(Text *out, const char *word) {
    enum { LONGEST = 80 };
    size_t size = strlen(word), shown = size < LONGEST ? size : LONGEST;
    while (shown < size && shown > LONGEST - 3 && ((unsigned char)word[shown] & 0xC0) == 0x80) shown--;
    escape(out, word, shown, "");
    if (shown < size) text_add(out, "...");
}

// A message that memory for this ran out is our own, and goes out as it is.
void text_vprint(FILE *out, const char *format, va_list arguments) {
    static _Thread_local bool printing;
    if (printing) {
        vfprintf(out, format, arguments);
        return;
    }
    printing = true;
    Text raw = {0}, safe = {0};
    text_vprintf(&raw, format, arguments);
    text_escape(&safe, raw.data, raw.size);
    fputs(text_string(&safe), out);
    text_close(&raw);
    text_close(&safe);
    printing = false;
}

void text_print(FILE *out, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    text_vprint(out, format, arguments);
    va_end(arguments);
}

// ---- columns ----

// Bytes of the character at `text`, which is not at its end, and its columns. A byte that is in no valid sequence has
// one.
static size_t character(const char *text, int64_t *columns) {
    utf8proc_int32_t point;
    utf8proc_ssize_t size = utf8proc_iterate((const utf8proc_uint8_t *)text, -1, &point);
    *columns = size > 0 ? utf8proc_charwidth(point) : 1;
    return size > 0 ? (size_t)size : 1;
}

size_t text_fitting(const char *text, int64_t columns) {
    size_t size = 0;
    while (text[size]) {
        int64_t wide;
        size_t next = character(text + size, &wide);
        columns -= wide;
        if (columns < 0) break;
        size += next;
    }
    return size;
}

int64_t text_width(const char *text) {
    int64_t all = 0, wide;
    for (; *text; all += wide) text += character(text, &wide);
    return all;
}

void text_pad(Text *text, size_t begin, int64_t columns) {
    int64_t missing = columns - (begin < text->size ? text_width(text->data + begin) : 0);
    for (; missing > 0; missing--) text_append(text, " ", 1);
}

// ---- the rest ----

void text_add_shell(Text *text, const char *word) {
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./=,:+%@-";
    if (*word && !word[strspn(word, plain)]) {
        text_add(text, word);
        return;
    }
    text_add(text, "'");
    for (; *word; word++) {
        if (*word == '\'') text_add(text, "'\\''");
        else text_append(text, word, 1);
    }
    text_add(text, "'");
}

double clock_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double clock_unix(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + 1e-3 * (double)(now.tv_nsec / 1000000);
}
