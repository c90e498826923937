// Unicode's normalisation form C as the `tokenizers` library has it, whose tables are those of Unicode 9: what came
// later joins nothing and is not moved. By utf8proc's tables, in time that grows with the text: marks are ordered by
// counting. Code points below U+0300 stay as they are and never join what stands before them, so only a stretch from
// the last such one to the next is looked at.
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "data/tokenizer_rows.h"
#include "runtime/memory.h"

// The lead byte of U+0300, and how many code points one is taken apart into at most.
enum { FIRST_LEAD = 0xCC, PARTS = 8 };

typedef struct {
    utf8proc_int32_t *items;
    size_t count, capacity;
} Points;

static void points_reserve(Points *points, size_t more) {
    if (points->count + more <= points->capacity) return;
    points->capacity = 2 * points->capacity + more;
    points->items = memory_grow(points->items, (int64_t)points->capacity, sizeof *points->items, "characters");
}

static size_t next_high(const char *text, size_t size, size_t at) {
    while (at < size && (unsigned char)text[at] < FIRST_LEAD) at++;
    return at;
}

bool text_is_nfc_plainly(const char *text, size_t size) { return next_high(text, size, 0) == size; }

static bool is_continuation(char c) { return ((unsigned char)c & 0xC0) == 0x80; }

static size_t next_character(const char *text, size_t size, size_t at) {
    at++;
    while (at < size && is_continuation(text[at])) at++;
    return at;
}

// Marks, and one letter of two parts, that came with Unicode 10 to 15.
static const struct {
    utf8proc_int32_t first, last;
} later[] = {
    {0x07FD, 0x07FD},   {0x0898, 0x089F},   {0x08CA, 0x08D3},   {0x09FE, 0x09FE},   {0x0C3C, 0x0C3C},
    {0x0D3B, 0x0D3C},   {0x0EBA, 0x0EBA},   {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},
    {0xA82C, 0xA82C},   {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50},
    {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E}, {0x11839, 0x1183A},
    {0x11930, 0x11938}, {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34},
    {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97},
    {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE},
    {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF},
};
enum { LATER = sizeof later / sizeof later[0] };

static bool is_later(utf8proc_int32_t point) {
    int low = 0, high = LATER;
    while (low < high) {
        int middle = (low + high) / 2;
        if (later[middle].last < point)
            low = middle + 1;
        else
            high = middle;
    }
    return low < LATER && later[low].first <= point;
}

static int mark_class(utf8proc_int32_t point) { return utf8proc_get_property(point)->combining_class; }

// Marks behind one another by class, those of one class as they were. `sorted` is room for as many.
static void order_marks(utf8proc_int32_t *marks, size_t count, utf8proc_int32_t *sorted) {
    size_t starts[256] = {0};
    bool ordered = true;
    for (size_t i = 1; i < count; i++) ordered = ordered && mark_class(marks[i - 1]) <= mark_class(marks[i]);
    if (ordered) return;
    for (size_t i = 0; i < count; i++) starts[mark_class(marks[i])]++;
    for (size_t class = 0, begin = 0; class < 256; class++) {
        size_t members = starts[class];
        starts[class] = begin;
        begin += members;
    }
    for (size_t i = 0; i < count; i++) sorted[starts[mark_class(marks[i])]++] = marks[i];
    memcpy(marks, sorted, count * sizeof *marks);
}

static void take_apart(Points *points, utf8proc_int32_t point) {
    int unused = 0;
    points_reserve(points, PARTS);
    utf8proc_ssize_t parts = utf8proc_decompose_char(point, points->items + points->count, PARTS,
                                                     UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &unused);
    REQUIRE(parts > 0 && parts <= PARTS, "U+%04X has %ld parts", (unsigned)point, (long)parts);
    points->count += (size_t)parts;
}

static void put_together(Text *out, Points *points) {
    points_reserve(points, points->count); // room for order_marks, behind what is there
    for (size_t at = 0, end; at < points->count; at = end + 1) {
        for (end = at; end < points->count && mark_class(points->items[end]) > 0;) end++;
        order_marks(points->items + at, end - at, points->items + points->count);
    }
    utf8proc_ssize_t count = utf8proc_normalize_utf32(points->items, (utf8proc_ssize_t)points->count,
                                                      UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    REQUIRE(count >= 0, "utf8proc answers %ld", (long)count);
    for (utf8proc_ssize_t i = 0; i < count; i++) {
        utf8proc_uint8_t bytes[4];
        text_append(out, bytes, (size_t)utf8proc_encode_char(points->items[i], bytes));
    }
    points->count = 0;
}

static void normalise(Text *out, Points *points, const char *text, size_t size) {
    utf8proc_int32_t point;
    for (size_t at = 0, end; at < size; at = end) {
        const utf8proc_uint8_t *next = (const utf8proc_uint8_t *)text + at;
        end = at + (size_t)utf8proc_iterate(next, (utf8proc_ssize_t)(size - at), &point);
        if (!is_later(point)) {
            take_apart(points, point);
            continue;
        }
        put_together(out, points);
        text_append(out, next, end - at);
    }
    put_together(out, points);
}

void text_nfc(Text *out, const char *text, size_t size) {
    Points points = {0};
    for (size_t at = 0, end; at < size; at = end) {
        size_t begin = next_high(text, size, at);
        for (end = begin; end < size && (unsigned char)text[end] >= FIRST_LEAD;) end = next_character(text, size, end);
        if (begin < size)
            while (begin > at && is_continuation(text[--begin])) {}
        text_append(out, text + at, begin - at);
        normalise(out, &points, text + begin, end - begin);
    }
    free(points.items);
}
