// One row of `kinds` per type says how its values look; the rest follows from it. Numbers are read in the C locale.
#include "runtime/options.h"

#include <ctype.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/json.h"

typedef struct {
    char suffix; // lower case; 0 ends the list
    double factor;
} Unit;

static const Unit no_units[] = {{0}};
static const Unit token_units[] = {{'k', 1e3}, {'m', 1e6}, {'b', 1e9}, {'t', 1e12}, {0}};
static const Unit second_units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {0}};

typedef struct {
    const char *noun, *reason; // what it is; what a malformed value is not
    const Unit *units;         // of numbers
    bool integral;
} Kind;

static const Kind kinds[] = {
    [OPTION_INT] = {"an integer", "not an integer", no_units, true},
    [OPTION_TOKENS] = {"a count such as 8192, 8K, 4.5M or 10B,", "not a count", token_units, true},
    [OPTION_BOOL] = {"true or false", "neither true nor false", NULL, true},
    [OPTION_CHOICE] = {"one of", "not one of the choices", NULL, true},
    [OPTION_FLOAT] = {"a number", "not a number", no_units, false},
    [OPTION_SECONDS] = {"seconds, or a time such as 30m, 1.5h or 2d,", "not a time", second_units, false},
    [OPTION_TEXT] = {"text", "not valid UTF-8", NULL, false},
    [OPTION_LIST] = {"text or a list of texts", "not a list of texts", NULL, false},
};

static bool allows_auto(const OptionRow *row) { return strcmp(row->fallback, "auto") == 0; }

// ---- what is expected ----

// A limit of a range, short: 1e12 rather than thirteen digits.
static void add_limit(Text *out, double limit) {
    enum { FEWEST_ZEROS = 6 };
    char number[TEXT_NUMBER];
    text_double(number, limit);
    size_t size = strlen(number), zeros = 0;
    if (limit == floor(limit) && !strchr(number, 'e'))
        while (zeros + 1 < size && number[size - 1 - zeros] == '0') zeros++;
    if (zeros < FEWEST_ZEROS) zeros = 0;
    text_append(out, number, size - zeros);
    if (zeros) text_printf(out, "e%zu", zeros);
}

static void add_choices(Text *out, const OptionRow *row) {
    for (const char *c = row->choices; *c; c++) {
        if (*c == '|')
            text_add(out, ", ");
        else
            text_append(out, c, 1);
    }
}

void option_expected(const OptionRow *row, Text *out) {
    const Kind *kind = &kinds[row->type];
    text_add(out, kind->noun);
    if (row->type == OPTION_CHOICE) {
        text_add(out, " ");
        add_choices(out, row);
    }
    if (kind->units) {
        text_add(out, " ");
        add_limit(out, row->minimum);
        text_add(out, "..");
        add_limit(out, row->maximum);
    }
    if (allows_auto(row)) text_add(out, " or auto");
}

static void suggest_choice(const OptionRow *row, const char *value, Text *out) {
    TextList names = {0};
    Text name = {0};
    option_choice_name(row->choices, 0, &name);
    while (name.size) {
        text_list_add(&names, text_string(&name));
        text_clear(&name);
        option_choice_name(row->choices, names.count, &name);
    }
    if (allows_auto(row)) text_list_add(&names, "auto");
    const char *nearest = text_nearest(value, (const char *const *)names.items, names.count);
    if (nearest) text_printf(out, "; did you mean \"%s\"?", nearest);
    text_list_close(&names);
    text_close(&name);
}

bool option_refuse(const OptionRow *row, const char *value, const char *reason, Text *problem) {
    text_add(problem, "\"");
    text_excerpt(problem, value);
    text_printf(problem, "\" is %s; expected ", reason);
    option_expected(row, problem);
    if (row->type == OPTION_CHOICE) suggest_choice(row, value, problem);
    text_printf(problem, " (%s)", row->help);
    return false;
}

// ---- set ----

static double unit_factor(const Unit *units, char suffix) {
    for (; units->suffix; units++)
        if (units->suffix == tolower((unsigned char)suffix)) return units->factor;
    return 0;
}

// A decimal number with at most one unit behind it. A product such as 4.35 x 1e6 may miss its integer by rounding.
static bool read_number(const Kind *kind, const char *text, double *value) {
    const char *end = text_read_number(text, value);
    if (!end) return false;
    if (*end) {
        double factor = end[1] ? 0 : unit_factor(kind->units, *end);
        if (factor == 0) return false;
        *value *= factor;
    }
    if (!isfinite(*value)) return false;
    if (!kind->integral) return true;
    double exact = *value;
    *value = rint(exact);
    return fabs(*value - exact) <= 2 * DBL_EPSILON * fabs(exact) && fabs(*value) < 0x1p53;
}

static bool set_number(const OptionRow *row, void *place, const char *value, Text *problem) {
    const Kind *kind = &kinds[row->type];
    double number;
    if (!read_number(kind, value, &number)) return option_refuse(row, value, kind->reason, problem);
    if (number < row->minimum || number > row->maximum)
        return option_refuse(row, value, "outside the range", problem);
    if (kind->integral)
        *(int64_t *)place = (int64_t)number;
    else
        *(double *)place = number;
    return true;
}

static bool set_choice(const OptionRow *row, int64_t *place, const char *value, Text *problem) {
    const char *choices = row->type == OPTION_BOOL ? "false|true" : row->choices;
    int64_t index = option_choice_find(choices, value);
    if (index < 0) return option_refuse(row, value, kinds[row->type].reason, problem);
    *place = index;
    return true;
}

static bool set_text(const OptionRow *row, const char **place, const char *value, TextList *strings, Text *problem) {
    if (!text_is_utf8(value, strlen(value), NULL)) return option_refuse(row, value, kinds[OPTION_TEXT].reason, problem);
    text_list_add(strings, value);
    *place = strings->items[strings->count - 1];
    return true;
}

static bool read_array(const char *value, TextList *items) {
    Errors errors = {0};
    Json *json = json_parse("list", value, strlen(value), EXIT_USAGE, &errors);
    bool good = json != NULL;
    const cJSON *item;
    if (json) cJSON_ArrayForEach(item, json_root(json)) {
        good = good && cJSON_IsString(item);
        if (good) text_list_add(items, item->valuestring);
    }
    json_close(json);
    errors_close(&errors);
    return good;
}

static bool set_list(const OptionRow *row, TextList *place, const char *value, Text *problem) {
    TextList items = {0};
    bool array = strncmp(value, "[\"", 2) == 0 || strcmp(value, "[]") == 0; // "[a-c]*.bin" is a glob
    bool good = array ? read_array(value, &items) : text_is_utf8(value, strlen(value), NULL);
    if (good && !array && *value) text_list_add(&items, value);
    if (!good) {
        text_list_close(&items);
        return option_refuse(row, value, kinds[OPTION_LIST].reason, problem);
    }
    text_list_close(place);
    *place = items;
    return true;
}

static void set_auto(const OptionRow *row, void *place) {
    if (kinds[row->type].integral)
        *(int64_t *)place = OPTION_AUTO;
    else
        *(double *)place = NAN;
}

bool option_set(const OptionRow *row, void *options, const char *value, TextList *strings, Text *problem) {
    void *place = (char *)options + row->offset;
    if (row->type == OPTION_TEXT) return set_text(row, place, value, strings, problem);
    if (row->type == OPTION_LIST) return set_list(row, place, value, problem);
    if (allows_auto(row) && strcmp(value, "auto") == 0) {
        set_auto(row, place);
        return true;
    }
    if (kinds[row->type].units) return set_number(row, place, value, problem);
    return set_choice(row, place, value, problem);
}

// ---- print ----

static void print_list(const TextList *list, Text *out) {
    JsonWriter writer = {.out = out};
    json_begin(&writer, NULL, '[');
    for (int64_t i = 0; i < list->count; i++) json_string(&writer, NULL, list->items[i]);
    json_end(&writer, ']');
}

void option_print(const OptionRow *row, const void *options, Text *out) {
    const void *place = (const char *)options + row->offset;
    char number[TEXT_NUMBER];
    if (option_is_auto(row, options)) {
        text_add(out, "auto");
        return;
    }
    switch (row->type) {
    case OPTION_INT:
    case OPTION_TOKENS: text_printf(out, "%ld", *(const int64_t *)place); break;
    case OPTION_BOOL: text_add(out, *(const int64_t *)place ? "true" : "false"); break;
    case OPTION_CHOICE: option_choice_name(row->choices, *(const int64_t *)place, out); break;
    case OPTION_FLOAT:
    case OPTION_SECONDS: text_add(out, text_double(number, *(const double *)place)); break;
    case OPTION_TEXT: text_add(out, *(const char *const *)place); break;
    case OPTION_LIST: print_list(place, out); break;
    }
}

bool option_is_auto(const OptionRow *row, const void *options) {
    if (!allows_auto(row)) return false;
    const void *place = (const char *)options + row->offset;
    if (row->type == OPTION_TEXT) return strcmp(*(const char *const *)place, "auto") == 0;
    return kinds[row->type].integral ? *(const int64_t *)place == OPTION_AUTO : isnan(*(const double *)place);
}

bool option_normalise(const OptionRow *row, const char *value, Text *out, Text *problem) {
    union {
        int64_t integer;
        double real;
        const char *text;
        TextList list;
    } place = {.list = {0}};
    OptionRow alone = *row;
    alone.offset = 0;
    TextList strings = {0};
    bool good = option_set(&alone, &place, value, &strings, problem);
    if (good) option_print(&alone, &place, out);
    if (row->type == OPTION_LIST) text_list_close(&place.list);
    text_list_close(&strings);
    return good;
}

bool option_is_fallback(const OptionRow *row, const void *options) {
    Text fallback = {0}, value = {0}, problem = {0};
    bool good = option_normalise(row, row->fallback, &fallback, &problem);
    REQUIRE(good, "default of %s: %s", row->name, text_string(&problem));
    option_print(row, options, &value);
    bool same = strcmp(text_string(&fallback), text_string(&value)) == 0;
    text_close(&fallback);
    text_close(&value);
    text_close(&problem);
    return same;
}

// ---- choices ----

void option_choice_name(const char *choices, int64_t index, Text *out) {
    for (; index > 0 && *choices; choices++) index -= *choices == '|';
    if (index == 0) text_append(out, choices, strcspn(choices, "|"));
}

int64_t option_choice_find(const char *choices, const char *name) {
    size_t size = strlen(name);
    for (int64_t index = 0; *choices; index++) {
        size_t length = strcspn(choices, "|");
        if (length == size && strncmp(choices, name, size) == 0) return index;
        choices += length + (choices[length] == '|');
    }
    return -1;
}
