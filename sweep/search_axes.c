// The parts of a sweep file that name keys of the configuration: axes, pairs, settings, and what is left out. Every
// value is read by the row of its key.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "runtime/memory.h"
#include "runtime/philox.h"
#include "sweep/search_parts.h"

// ---- keys and values ----

static const OptionRow *find_row(const char *name) {
    int64_t number = config_key_find(name);
    return number < 0 ? NULL : config_key(number).row;
}

// The row of a key; NULL and a message where no run has it.
static const OptionRow *row_of(SearchFile *file, const cJSON *node) {
    const OptionRow *row = find_row(node->string);
    Text problem = {0};
    if (!row) {
        config_key_unknown(node->string, &problem);
        search_complain(file, node, node->string, "%s", text_string(&problem));
    }
    text_close(&problem);
    return row;
}

static const OptionRow *row_of_axis(SearchFile *file, const cJSON *node) {
    const OptionRow *row = row_of(file, node);
    const char *idle = row ? config_key_idle(node->string) : NULL;
    if (!idle) return row;
    search_complain(file, node, node->string, "%s, so that it is no axis: all its runs would be the same one; give it "
                    "one value for all, in \"set\"", idle);
    return NULL;
}

static bool is_number(const OptionRow *row) {
    return row->type == OPTION_INT || row->type == OPTION_TOKENS || row->type == OPTION_FLOAT ||
           row->type == OPTION_SECONDS;
}

static bool is_whole(const OptionRow *row) { return row->type == OPTION_INT || row->type == OPTION_TOKENS; }

bool search_read_value(SearchFile *file, const OptionRow *row, const char *key, const cJSON *node, Text *out) {
    Text value = {0}, problem = {0};
    bool good = config_row_text(row, node, &value, &problem) &&
                option_normalise(row, text_string(&value), out, &problem);
    if (!good) search_complain(file, node, key, "%s", text_string(&problem));
    text_close(&value);
    text_close(&problem);
    return good;
}

static bool read_number(SearchFile *file, const OptionRow *row, const char *key, const cJSON *node, double *value) {
    Text text = {0};
    bool good = search_read_value(file, row, key, node, &text);
    if (good && !text_read_number(text_string(&text), value))
        good = search_complain(file, node, key, "expected a number here");
    text_close(&text);
    return good;
}

// To six digits, of which people write down few more, and which all machines agree on: what a point is called must not
// hang on the last bit of a logarithm.
static double rounded(double value) {
    char digits[TEXT_NUMBER];
    locale_t before = uselocale(c_locale());
    snprintf(digits, sizeof digits, "%.6g", value);
    value = strtod(digits, NULL);
    uselocale(before);
    return value;
}

// A number between the ends of a range, as a value of its key.
static void add_number(const OptionRow *row, double value, double from, double to, Text *out) {
    char number[TEXT_NUMBER];
    double low = fmin(from, to), high = fmax(from, to);
    value = value == from || value == to ? value : is_whole(row) ? rint(value) : rounded(value);
    text_add(out, text_double(number, fmin(fmax(value, low), high)));
}

// ---- axes ----

static Axis *add_axis(AxisList *list) {
    list->items = memory_grow(list->items, list->count + 1, sizeof *list->items, "axes");
    list->items[list->count] = (Axis){0};
    return &list->items[list->count++];
}

bool axis_has(const Axis *axis, const char *key) {
    for (int64_t i = 0; i < axis->keys.count; i++)
        if (strcmp(axis->keys.items[i], key) == 0) return true;
    return false;
}

// What a form of an axis gets: the node of its value, and the axis to be filled.
typedef struct {
    SearchFile *file;
    const OptionRow *row;
    const char *key;
    const cJSON *node;
    Axis *axis;
} AxisReader;

static bool read_values(AxisReader *r, const char *form) {
    (void)form;
    const cJSON *item;
    int before = r->file->errors->count;
    cJSON_ArrayForEach(item, r->node) {
        Text value = {0};
        if (search_enough(r->file)) return false;
        if (search_read_value(r->file, r->row, r->key, item, &value))
            text_list_add(&r->axis->values, text_string(&value));
        text_close(&value);
    }
    r->axis->count = r->axis->values.count;
    if (r->file->errors->count > before) return false;
    if (!cJSON_IsArray(r->node)) return search_complain(r->file, r->node, r->key, "expected a list of values");
    if (r->axis->count == 0) return search_complain(r->file, r->node, r->key, "an axis needs a value at least");
    if (r->axis->count <= r->file->points) return true;
    return search_complain(r->file, r->node, r->key, "%ld values are too many; up to %ld", r->axis->count,
                           r->file->points);
}

static bool read_single(AxisReader *r, const char *form) {
    Text value = {0};
    (void)form;
    bool good = search_read_value(r->file, r->row, r->key, r->node, &value);
    if (good) text_list_add(&r->axis->values, text_string(&value));
    r->axis->count = r->axis->values.count;
    text_close(&value);
    return good;
}

// [from, to] and, of a grid, a number of points.
static bool read_range(AxisReader *r, const char *form, bool logarithmic, bool grid) {
    const char *example = grid ? "from, to, number of points" : "from, to";
    const cJSON *node = r->node;
    if (!is_number(r->row))
        return search_complain(r->file, node, r->key, "takes no range, it is no number; list its values instead");
    if (!cJSON_IsArray(node) || cJSON_GetArraySize(node) != (grid ? 3 : 2))
        return search_complain(r->file, node, r->key, "\"%s\": expected [%s]", form, example);
    const cJSON *first = node->child;
    double *from = &r->axis->from, *to = &r->axis->to;
    bool good = read_number(r->file, r->row, r->key, first, from);
    good = read_number(r->file, r->row, r->key, first->next, to) && good;
    if (good && grid && (!json_is_integer(first->next->next, &r->axis->count) || r->axis->count < 2 ||
                         r->axis->count > r->file->points))
        return search_complain(r->file, first->next->next, r->key, "\"%s\": expected a number of points, 2 to %ld, "
                               "both ends among them", form, r->file->points);
    if (good && logarithmic && (*from <= 0 || *to <= 0))
        return search_complain(r->file, node, r->key, "\"%s\": both ends must be above 0", form);
    if (good && (grid ? *from == *to : *from >= *to))
        return search_complain(r->file, node, r->key, "\"%s\": expected [%s] with from below to", form, example);
    return good;
}

static void fill_grid(AxisReader *r, bool logarithmic) {
    Axis *a = r->axis;
    for (int64_t i = 0; i < a->count; i++) {
        double share = (double)i / (double)(a->count - 1);
        double value = logarithmic ? a->from * pow(a->to / a->from, share) : a->from + share * (a->to - a->from);
        if (i == 0 || i == a->count - 1) value = i ? a->to : a->from;
        Text text = {0};
        add_number(r->row, value, a->from, a->to, &text);
        text_list_add(&a->values, text_string(&text));
        text_close(&text);
    }
}

static bool read_grid(AxisReader *r, const char *form) {
    bool logarithmic = *form == 'l', good = read_range(r, form, logarithmic, true);
    if (good) fill_grid(r, logarithmic);
    return good;
}

static bool read_drawn(AxisReader *r, const char *form) {
    static const struct {
        const char *form;
        AxisKind kind;
    } kinds[] = {{"uniform", AXIS_UNIFORM}, {"log_uniform", AXIS_LOG_UNIFORM}, {"int_uniform", AXIS_INT_UNIFORM}};
    for (int i = 0; i < 3; i++)
        if (strcmp(kinds[i].form, form) == 0) r->axis->kind = kinds[i].kind;
    if (!(r->file->given & GIVEN_RANDOM))
        return search_complain(r->file, r->node, r->key, "\"%s\" is drawn from at random; add \"random\": "
                               "{\"samples\": N} to the file, or list \"values\", or give a \"grid\"", form);
    if (!read_range(r, form, r->axis->kind == AXIS_LOG_UNIFORM, false)) return false;
    bool whole = r->axis->from == floor(r->axis->from) && r->axis->to == floor(r->axis->to);
    if (r->axis->kind != AXIS_INT_UNIFORM || whole) return true;
    return search_complain(r->file, r->node, r->key, "\"%s\": both ends must be integers", form);
}

static const struct {
    const char *name;
    bool (*read)(AxisReader *reader, const char *form);
} forms[] = {{"values", read_values},  {"value", read_single},       {"grid", read_grid},
             {"log_grid", read_grid},  {"uniform", read_drawn},      {"log_uniform", read_drawn},
             {"int_uniform", read_drawn}};
enum { FORMS = sizeof forms / sizeof forms[0] };
static const char form_list[] = "values, value, grid, log_grid, uniform, log_uniform, int_uniform";

static bool read_cross(SearchFile *file, const cJSON *node, const char *key, Axis *axis) {
    axis->cross = cJSON_IsTrue(node);
    if (cJSON_IsBool(node)) return true;
    return search_complain(file, node, key, "\"cross\": expected true or false");
}

static bool refuse_form(AxisReader *r, const cJSON *member) {
    const char *names[FORMS + 1] = {[FORMS] = "cross"};
    for (int i = 0; i < FORMS; i++) names[i] = forms[i].name;
    const char *nearest = text_nearest(member->string, names, FORMS + 1);
    Text name = {0};
    text_excerpt(&name, member->string);
    search_complain(r->file, member, r->key, "an axis has no \"%s\"%s%s%s; expected one of %s, and perhaps \"cross\"",
                    text_string(&name), nearest ? "; did you mean \"" : "", nearest ? nearest : "",
                    nearest ? "\"?" : "", form_list);
    text_close(&name);
    return false;
}

// {"log_grid": [0.001, 0.03, 4]}
static bool read_form(AxisReader *r, const cJSON *object) {
    const cJSON *member, *chosen = NULL;
    int form = -1;
    bool good = true;
    cJSON_ArrayForEach(member, object) {
        if (search_enough(r->file)) return false;
        int found = 0;
        while (found < FORMS && strcmp(forms[found].name, member->string) != 0) found++;
        if (strcmp(member->string, "cross") == 0)
            good = read_cross(r->file, member, r->key, r->axis) && good;
        else if (found == FORMS)
            good = refuse_form(r, member);
        else if (chosen)
            good = search_complain(r->file, member, r->key, "\"%s\" and \"%s\": an axis is one of them",
                                   forms[form].name, forms[found].name);
        else
            chosen = member, form = found;
    }
    if (!good) return false;
    if (!chosen) return search_complain(r->file, object, r->key, "expected one of %s", form_list);
    r->node = chosen;
    good = forms[form].read(r, forms[form].name);
    if (good && r->axis->cross && r->axis->count == 0)
        return search_complain(r->file, object, r->key, "\"cross\" needs points to cross with, and a range has none");
    return good;
}

static bool is_taken(const Scope *scope, const char *key) {
    for (int64_t i = 0; i < scope->axes.count; i++)
        if (axis_has(&scope->axes.items[i], key)) return true;
    return false;
}

// Whether a new axis of the scope may have this key: it is in no other one, nor in its settings.
static bool check_free(SearchFile *file, const cJSON *node, const Scope *scope) {
    if (list_value(&scope->set, node->string))
        return search_complain(file, node, node->string, "is in \"set\", too; leave it out of one of them");
    return !is_taken(scope, node->string) ||
           search_complain(file, node, node->string, "is an axis already; leave it out of one of them");
}

void search_read_axes(SearchFile *file, const cJSON *object, Scope *scope) {
    const cJSON *node;
    if (!cJSON_IsObject(object)) {
        search_complain(file, object, "axes", "expected an object with an axis for each key");
        return;
    }
    cJSON_ArrayForEach(node, object) {
        if (search_enough(file)) return;
        const OptionRow *row = row_of_axis(file, node);
        if (!row || !check_free(file, node, scope)) continue;
        Axis *axis = add_axis(&scope->axes);
        text_list_add(&axis->keys, node->string);
        AxisReader reader = {file, row, node->string, node, axis};
        if (cJSON_IsArray(node)) read_values(&reader, "values");
        else if (cJSON_IsObject(node)) read_form(&reader, node);
        else search_complain(file, node, node->string, "expected a list of values, or an object such as {\"log_grid\": "
                             "[0.001, 0.03, 4]}; one value for all runs goes into \"set\"");
    }
}

// ---- pairs ----

// The values of a pair come key by key; an axis has them point by point.
static void zip(Axis *axis, const TextList *columns) {
    for (int64_t point = 0; point < axis->count; point++)
        for (int64_t key = 0; key < axis->keys.count; key++)
            text_list_add(&axis->values, columns[key].items[point]);
}

static void read_pair(SearchFile *file, const cJSON *object, Scope *scope) {
    const cJSON *node;
    Axis axis = {0};
    int before = file->errors->count;
    TextList *columns = memory_take(cJSON_GetArraySize(object), sizeof *columns, "paired keys");
    cJSON_ArrayForEach(node, object) {
        if (search_enough(file)) break;
        if (strcmp(node->string, "cross") == 0) {
            read_cross(file, node, "paired", &axis);
            continue;
        }
        const OptionRow *row = row_of_axis(file, node);
        if (!row || !check_free(file, node, scope)) continue;
        Axis column = {0};
        AxisReader reader = {file, row, node->string, node, &column};
        if (read_values(&reader, "values") && axis.keys.count > 0 && column.count != axis.count)
            search_complain(file, node, node->string, "has %ld values, and %s has %ld: what is paired must be alike in "
                            "number", column.count, axis.keys.items[0], axis.count);
        if (axis.keys.count == 0) axis.count = column.count;
        columns[axis.keys.count] = column.values;
        text_list_add(&axis.keys, node->string);
    }
    if (file->errors->count == before && axis.keys.count == 0)
        search_complain(file, object, "paired", "an element needs keys, each with a list of values");
    if (file->errors->count == before) zip(&axis, columns);
    for (int64_t i = 0; i < axis.keys.count; i++) text_list_close(&columns[i]);
    free(columns);
    *add_axis(&scope->axes) = axis;
}

void search_read_paired(SearchFile *file, const cJSON *list, Scope *scope) {
    const cJSON *object;
    if (!cJSON_IsArray(list))
        search_complain(file, list, "paired", "expected a list of objects: [{\"KEY\": [...], \"OTHER\": [...]}]");
    else cJSON_ArrayForEach(object, list) {
        if (search_enough(file)) return;
        if (cJSON_IsObject(object)) read_pair(file, object, scope);
        else search_complain(file, object, "paired", "expected an object: {\"KEY\": [...], \"OTHER\": [...]}");
    }
}

// ---- settings ----

const char *list_value(const TextList *settings, const char *key) {
    size_t size = strlen(key);
    for (int64_t i = 0; i < settings->count; i++)
        if (strncmp(settings->items[i], key, size) == 0 && settings->items[i][size] == '=')
            return settings->items[i] + size + 1;
    return NULL;
}

static void read_setting(SearchFile *file, const cJSON *node, const char *key, const OptionRow *row, Scope *scope) {
    Text setting = {0};
    text_printf(&setting, "%s=", key);
    if (strcmp(key, "run.dir") == 0)
        search_complain(file, node, key, "each run has its own directory in that of the sweep, which \"dir\" sets");
    else if (is_taken(scope, key))
        search_complain(file, node, key, "is an axis, too; leave it out of one of them");
    else if (list_value(&scope->set, key))
        search_complain(file, node, key, "is set a second time");
    else if (search_read_value(file, row, key, node, &setting))
        text_list_add(&scope->set, text_string(&setting));
    text_close(&setting);
}

static void read_settings(SearchFile *file, const cJSON *object, const char *prefix, Scope *scope) {
    const cJSON *node;
    cJSON_ArrayForEach(node, object) {
        if (search_enough(file)) return;
        Text key = {0}, problem = {0};
        text_printf(&key, "%s%s%s", prefix, *prefix ? "." : "", node->string);
        const OptionRow *row = find_row(text_string(&key));
        if (row) {
            read_setting(file, node, text_string(&key), row, scope);
        } else if (config_is_section(text_string(&key)) && cJSON_IsObject(node)) {
            read_settings(file, node, text_string(&key), scope);
        } else {
            config_key_unknown(text_string(&key), &problem);
            search_complain(file, node, text_string(&key), "%s", text_string(&problem));
        }
        text_close(&key);
        text_close(&problem);
    }
}

void search_read_set(SearchFile *file, const cJSON *node, Scope *scope) {
    if (cJSON_IsObject(node)) read_settings(file, node, "", scope);
    else search_complain(file, node, "set", "expected an object with a value for each key");
}

// ---- draws ----

// Two axes have streams of their own, whatever their order in the file and that of the keys in a pair.
static double draw(const Axis *axis, int64_t seed, int64_t index) {
    uint64_t stream = (uint64_t)seed;
    for (int64_t i = 0; i < axis->keys.count; i++)
        stream ^= XXH3_64bits(axis->keys.items[i], strlen(axis->keys.items[i]));
    return philox_uniform(stream, STREAM_SWEEP, 0, (uint64_t)index);
}

void axis_draw(const Axis *axis, int64_t seed, int64_t index, int64_t key, Text *out) {
    double share = draw(axis, seed, index), from = axis->from, to = axis->to, value = from;
    if (axis->kind == AXIS_POINTS) {
        int64_t point = (int64_t)(share * (double)axis->count);
        text_add(out, axis->values.items[point * axis->keys.count + key]);
        return;
    }
    if (axis->kind == AXIS_UNIFORM) value = from + share * (to - from);
    if (axis->kind == AXIS_LOG_UNIFORM) value = from * pow(to / from, share);
    if (axis->kind == AXIS_INT_UNIFORM) value = from + floor(share * (to - from + 1));
    add_number(find_row(axis->keys.items[0]), value, from, to, out);
}
