// Options: one row per option = field, type, default, range, help. The row is all there is: from it come the struct,
// parsing, range errors, printing, help, documentation and sweep axes.
//
// A module writes its rows in NAME_options.def, as
//     OPTION(INT, depth, "auto", 1, 1000, "transformer blocks")
//     CHOICE(norm, "auto", "layernorm|rmsnorm", "normalisation")
// and expands them in its header with OPTION_FIELDS (the struct) and in one source file with OPTION_ROWS (the rows).
// A default of "auto" allows the value `auto`, which the module resolves itself: integers and choices hold OPTION_AUTO
// then, real numbers NaN, texts "auto". The values of a choice are indices into its list; an enum in the module's
// header names them.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/text.h"

#define OPTION_AUTO INT64_MIN

typedef enum {
    OPTION_INT,     // int64_t
    OPTION_TOKENS,  // int64_t; "10B", "4.5M", "8K"
    OPTION_BOOL,    // int64_t 0 or 1; true, false
    OPTION_CHOICE,  // int64_t: index into the row's choices
    OPTION_FLOAT,   // double, finite
    OPTION_SECONDS, // double; "90", "30m", "1.5h", "2d"
    OPTION_TEXT,    // const char *, never NULL
    OPTION_LIST,    // TextList: one string or an array of them
} OptionType;

typedef struct {
    const char *name;
    OptionType type;
    size_t offset; // of the field in its struct
    const char *fallback;
    double minimum, maximum; // inclusive; for OPTION_TEXT and OPTION_LIST unused
    const char *choices;     // "a|b|c"
    const char *help;
} OptionRow;

#define OPTION_FIELD_INT int64_t
#define OPTION_FIELD_TOKENS int64_t
#define OPTION_FIELD_BOOL int64_t
#define OPTION_FIELD_FLOAT double
#define OPTION_FIELD_SECONDS double
#define OPTION_FIELD_TEXT const char *
#define OPTION_FIELD_LIST TextList

// In a header:   typedef struct {
//                #define OPTION OPTION_FIELD
//                #define CHOICE CHOICE_FIELD
//                #include "model/model_options.def"
//                } ModelOptions;
// In a source:   const OptionRow model_option_rows[] = { (the same with OPTION_ROW and CHOICE_ROW) };
// Each .def file ends with #undef OPTION and #undef CHOICE.
#define OPTION_FIELD(type, field, fallback, minimum, maximum, help) OPTION_FIELD_##type field;
#define CHOICE_FIELD(field, fallback, choices, help) int64_t field;
// OPTION_STRUCT names the struct while the rows are expanded.
#define OPTION_ROW(type, field, fallback, minimum, maximum, help) \
    {#field, OPTION_##type, offsetof(OPTION_STRUCT, field), fallback, minimum, maximum, "", help},
#define CHOICE_ROW(field, fallback, choices, help) \
    {#field, OPTION_CHOICE, offsetof(OPTION_STRUCT, field), fallback, 0, 0, choices, help},

typedef struct {
    const OptionRow *rows;
    int count;
} OptionRows;

// Parses `value` (text as a user writes it; lists: one item, or a JSON array of strings that begins with ["), into the
// row's field of `options`. On failure adds to `problem` what is wrong, naming expected type, range and help, and
// leaves the field alone. Texts are kept alive by `strings`; a list owns its items and is closed by whoever owns the
// struct.
bool option_set(const OptionRow *row, void *options, const char *value, TextList *strings, Text *problem);

// The field as text that option_set reads back to exactly the same value; lists as a JSON array.
void option_print(const OptionRow *row, const void *options, Text *out);
bool option_is_auto(const OptionRow *row, const void *options);
bool option_is_fallback(const OptionRow *row, const void *options);

// The value as option_print shows it once it is set: two that mean the same become the same. False as option_set.
bool option_normalise(const OptionRow *row, const char *value, Text *out, Text *problem);

// What the row takes: "an integer 1..1000 or auto".
void option_expected(const OptionRow *row, Text *out);

// Adds "VALUE is REASON; expected ... (help)" to `problem`; always returns false.
bool option_refuse(const OptionRow *row, const char *value, const char *reason, Text *problem);

// The name of choice `index` of "a|b|c"; and its index, or -1.
void option_choice_name(const char *choices, int64_t index, Text *out);
int64_t option_choice_find(const char *choices, const char *name);
