// Text: a growing string that is always terminated. Zero-initialised is empty; text_close gives the memory back.
#pragma once

#include <locale.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct {
    char *data;  // NULL while empty; read it through text_string
    size_t size; // bytes without the terminator
    size_t capacity;
} Text;

void text_append(Text *text, const void *bytes, size_t size);
void text_add(Text *text, const char *string);
void text_printf(Text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_vprintf(Text *text, const char *format, va_list arguments) __attribute__((format(printf, 2, 0)));
void text_clear(Text *text);
void text_close(Text *text);
const char *text_string(const Text *text); // "" when empty, never NULL

// A list of strings, each owned by the list.
typedef struct {
    char **items;
    int64_t count;
    int64_t capacity;
} TextList;

void text_list_add(TextList *list, const char *string);
void text_list_close(TextList *list);

// A number for people: 1536 -> "1.5 KiB"; 4096000 -> "4.1M"; 75 -> "1m15s". Written to `out`, which is returned.
enum { TEXT_NUMBER = 32 };
const char *text_bytes(char out[TEXT_NUMBER], double bytes);
const char *text_count(char out[TEXT_NUMBER], double count);
const char *text_duration(char out[TEXT_NUMBER], double seconds);

// Where a number has a point whatever the user's locale.
locale_t c_locale(void);

// The shortest decimal that reads back as exactly `value`; integers up to 2^53 without exponent. Never locale
// dependent.
const char *text_double(char out[TEXT_NUMBER], double value);

// A decimal number at the start of `text`, whatever the user's locale: not hexadecimal, infinite or NaN. Where it ends,
// or NULL.
const char *text_read_number(const char *text, double *value);

// The candidate nearest to `word` by Damerau-Levenshtein distance <= 2, or one that `word` is a prefix of (or the
// reverse); NULL when none is near. `candidates` holds `count` strings.
const char *text_nearest(const char *word, const char *const *candidates, int64_t count);

// Bytes from strangers for a terminal: control characters, those that turn the direction of text and invalid UTF-8
// become \xNN; tabs and newlines stay, and what was escaped before is not changed.
void text_escape(Text *out, const void *bytes, size_t size);
// The beginning of a stranger's word for a message, at most 80 bytes of whole characters, with ... where it goes on. It
// stays on its line: newlines and tabs are escaped too.
void text_excerpt(Text *out, const char *word);
// printf through text_escape: for whatever may hold names or texts from strangers.
void text_print(FILE *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_vprint(FILE *out, const char *format, va_list arguments) __attribute__((format(printf, 2, 0)));

// Columns of a terminal, for text that text_escape let through: two for a wide character, none for a mark that joins
// the one before it. text_fitting: how many bytes of it fill at most so many, with the marks of the last character.
// text_pad: text that began at byte `begin` gets blanks behind it until it fills so many.
int64_t text_width(const char *text);
size_t text_fitting(const char *text, int64_t columns);
void text_pad(Text *text, size_t begin, int64_t columns);

// A word as a shell reads it back, in quotes only where it needs them.
void text_add_shell(Text *text, const char *word);
bool text_is_utf8(const void *bytes, size_t size, size_t *bad_offset);
// Appends the text with U+FFFD for each byte that is in no valid sequence; returns how many there were.
#define REPLACEMENT "\xEF\xBF\xBD" // U+FFFD
int64_t text_repair(Text *out, const char *bytes, size_t size);

double clock_seconds(void); // monotonic
double clock_unix(void);    // seconds since 1970, to the millisecond
