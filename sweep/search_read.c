// Reading a sweep file: its options by their rows, its arms, and where it is wrong. Nothing stops at the first mistake.
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/memory.h"
#include "sweep/search_parts.h"

enum { SIZE_LIMIT = 4 << 20, NAME_LIMIT = 63 };

// ---- options ----

#define OPTION OPTION_ROW
#define CHOICE CHOICE_ROW
#define OPTION_STRUCT SearchOptions
static const OptionRow search_rows[] = {
#define SEARCH_SECTION
#include "sweep/search_options.def"
};
#undef OPTION_STRUCT

#define OPTION OPTION_ROW
#define CHOICE CHOICE_ROW
#define OPTION_STRUCT MetricOptions
static const OptionRow metric_rows[] = {
#define METRIC_SECTION
#include "sweep/search_options.def"
};
#undef OPTION_STRUCT

#define OPTION OPTION_ROW
#define CHOICE CHOICE_ROW
#define OPTION_STRUCT RandomOptions
static const OptionRow random_rows[] = {
#define RANDOM_SECTION
#include "sweep/search_options.def"
};
#undef OPTION_STRUCT

#define OPTION OPTION_ROW
#define CHOICE CHOICE_ROW
#define OPTION_STRUCT BudgetOptions
static const OptionRow budget_rows[] = {
#define BUDGET_SECTION
#include "sweep/search_options.def"
};
#undef OPTION_STRUCT

#define OPTION OPTION_ROW
#define CHOICE CHOICE_ROW
#define OPTION_STRUCT EarlyStopOptions
static const OptionRow early_stop_rows[] = {
#define EARLY_STOP_SECTION
#include "sweep/search_options.def"
};
#undef OPTION_STRUCT

#define OPTION OPTION_ROW
#define CHOICE CHOICE_ROW
#define OPTION_STRUCT OnFailureOptions
static const OptionRow on_failure_rows[] = {
#define ON_FAILURE_SECTION
#include "sweep/search_options.def"
};
#undef OPTION_STRUCT

#define ROWS(table) {table, (int)(sizeof(table) / sizeof(table)[0])}
// In the order of the bits of `given`. The first one's keys stand at the top.
static const struct {
    const char *name;
    OptionRows rows;
    size_t offset;
} sections[] = {{"", ROWS(search_rows), offsetof(SearchFile, options)},
                {"metric", ROWS(metric_rows), offsetof(SearchFile, metric)},
                {"random", ROWS(random_rows), offsetof(SearchFile, random)},
                {"budget", ROWS(budget_rows), offsetof(SearchFile, budget)},
                {"early_stop", ROWS(early_stop_rows), offsetof(SearchFile, early_stop)},
                {"on_failure", ROWS(on_failure_rows), offsetof(SearchFile, on_failure)}};
enum { SECTIONS = sizeof sections / sizeof sections[0] };

// What else stands at the top of the file, and in an arm.
static const char *const others[] = {"set", "axes", "paired", "arms", "exclude", "$schema"};
static const char *const of_arm[] = {"name", "base", "set", "axes", "paired"};
#define COUNT(array) ((int)(sizeof(array) / sizeof(array)[0]))

// ---- mistakes ----

bool search_complain(const SearchFile *file, const cJSON *node, const char *key, const char *format, ...) {
    if (search_enough(file)) { // a place costs a walk through the document
        file->errors->count++;
        return false;
    }
    Text place = {0}, problem = {0};
    va_list arguments;
    va_start(arguments, format);
    text_vprintf(&problem, format, arguments);
    va_end(arguments);
    json_position(file->json, node, &place);
    text_add(&place, ": ");
    text_excerpt(&place, key);
    errors_add(file->errors, EXIT_USAGE, "%s%s%s", text_string(&place), *key ? ": " : "", text_string(&problem));
    text_close(&place);
    text_close(&problem);
    return false;
}

bool search_enough(const SearchFile *file) { return file->errors->count > ERRORS_TOLD; }

// Where a key of the configuration stands in a place for keys of the sweep file, it is said where it belongs.
static void refuse_member(SearchFile *file, const cJSON *node, const char *const *names, int count) {
    const char *nearest = text_nearest(node->string, names, count);
    bool configured = config_key_find(node->string) >= 0 || config_is_section(node->string);
    if (configured)
        search_complain(file, node, node->string, "belongs to the configuration; it goes into \"set\", for one value, "
                        "or into \"axes\", for several");
    else
        search_complain(file, node, node->string, "there is no such key here%s%s%s; docs/sweeps.md lists them",
                        nearest ? "; did you mean \"" : "", nearest ? nearest : "", nearest ? "\"?" : "");
}

// ---- sections ----

static void set_defaults(SearchFile *file) {
    for (int s = 0; s < SECTIONS; s++)
        for (int i = 0; i < sections[s].rows.count; i++) {
            const OptionRow *row = &sections[s].rows.rows[i];
            Text problem = {0};
            bool good = option_set(row, (char *)file + sections[s].offset, row->fallback, &file->strings, &problem);
            REQUIRE(good, "default of %s.%s: %s", sections[s].name, row->name, text_string(&problem));
        }
}

static const OptionRow *find_row(int section, const char *name) {
    const OptionRows *rows = &sections[section].rows;
    for (int i = 0; i < rows->count; i++)
        if (strcmp(rows->rows[i].name, name) == 0) return &rows->rows[i];
    return NULL;
}

static void read_option(SearchFile *file, int section, const OptionRow *row, const cJSON *node) {
    Text name = {0}, value = {0}, problem = {0};
    text_printf(&name, "%s%s%s", sections[section].name, section ? "." : "", row->name);
    if (!config_row_text(row, node, &value, &problem) ||
        !option_set(row, (char *)file + sections[section].offset, text_string(&value), &file->strings, &problem))
        search_complain(file, node, text_string(&name), "%s", text_string(&problem));
    text_close(&name);
    text_close(&value);
    text_close(&problem);
}

static void read_section(SearchFile *file, int section, const cJSON *object) {
    const cJSON *node;
    const char *names[16];
    const OptionRows *rows = &sections[section].rows;
    for (int i = 0; i < rows->count; i++) names[i] = rows->rows[i].name;
    if (!cJSON_IsObject(object)) {
        search_complain(file, object, sections[section].name, "expected an object");
        return;
    }
    file->given |= 1u << section;
    cJSON_ArrayForEach(node, object) {
        const OptionRow *row = find_row(section, node->string);
        if (search_enough(file)) return;
        if (row) read_option(file, section, row, node);
        else refuse_member(file, node, names, rows->count);
    }
}

// ---- scopes ----

// A file that another one names, relative to that one.
static bool find_base(SearchFile *file, const cJSON *node, char base[4096]) {
    const char *slash = strrchr(file->path, '/'), *name = node->valuestring;
    int folder = *name == '/' || !slash ? 0 : (int)(slash + 1 - file->path);
    int size = snprintf(base, 4096, "%.*s%s", folder, file->path, name);
    if (size < 4096 && path_exists(base) && !path_is_directory(base)) return true;
    Text shown = {0};
    text_excerpt(&shown, size < 4096 ? base : name);
    search_complain(file, node, "base", "%s: there is no such file; a base is named relative to the sweep file",
                    text_string(&shown));
    text_close(&shown);
    return false;
}

static void read_scope(SearchFile *file, const cJSON *object, Scope *scope) {
    const cJSON *base = json_member(object, "base"), *set = json_member(object, "set");
    const cJSON *axes = json_member(object, "axes"), *paired = json_member(object, "paired");
    bool replaced = file->rebased && scope == &file->common;
    if (base && cJSON_IsString(base) && *base->valuestring) {
        if (!replaced) find_base(file, base, scope->base);
    } else if (base) {
        search_complain(file, base, "base", "expected the path of a configuration");
    }
    if (set) search_read_set(file, set, scope);
    if (axes) search_read_axes(file, axes, scope);
    if (paired) search_read_paired(file, paired, scope);
}

static bool is_plain(const char *name) {
    for (const unsigned char *c = (const unsigned char *)name; *c; c++)
        if (*c < ' ' || *c == 0x7F) return false;
    return *name && strlen(name) <= NAME_LIMIT;
}

static bool is_listed(const TextList *list, const char *name) {
    for (int64_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i], name) == 0) return true;
    return false;
}

static void read_arm(SearchFile *file, const cJSON *object) {
    const cJSON *name = json_member(object, "name"), *node;
    const char *text = name && cJSON_IsString(name) ? name->valuestring : "";
    if (!is_plain(text))
        search_complain(file, name ? name : object, "arms", "an arm needs a \"name\" of 1 to %d bytes", NAME_LIMIT);
    else if (is_listed(&file->arms, text))
        search_complain(file, name, "arms", "there is an arm of this name already");
    cJSON_ArrayForEach(node, object) {
        bool known = false;
        for (int i = 0; i < COUNT(of_arm); i++) known = known || strcmp(of_arm[i], node->string) == 0;
        if (!known) refuse_member(file, node, of_arm, COUNT(of_arm));
    }
    read_scope(file, object, &file->scopes[file->arms.count]);
    text_list_add(&file->arms, text);
}

static void read_arms(SearchFile *file, const cJSON *list) {
    static const char expected[] = "with \"name\" and \"set\" or \"axes\"";
    const cJSON *object;
    int count = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;
    file->scopes = memory_take(count, sizeof *file->scopes, "arms");
    if (count == 0) search_complain(file, list, "arms", "expected a list of objects %s", expected);
    else cJSON_ArrayForEach(object, list) {
        if (search_enough(file)) return;
        if (cJSON_IsObject(object)) read_arm(file, object);
        else search_complain(file, object, "arms", "expected an object %s", expected);
    }
}

// ---- the file ----

static void read_member(SearchFile *file, const cJSON *node) {
    const char *names[16];
    int count = 0;
    const OptionRow *row = find_row(0, node->string);
    for (int i = 0; i < COUNT(others); i++) {
        if (strcmp(others[i], node->string) == 0) return; // later
        names[count++] = others[i];
    }
    for (int i = 0; i < sections[0].rows.count; i++) names[count++] = sections[0].rows.rows[i].name;
    for (int s = 1; s < SECTIONS; s++) {
        if (strcmp(sections[s].name, node->string) == 0) {
            read_section(file, s, node);
            return;
        }
        names[count++] = sections[s].name;
    }
    if (!row) refuse_member(file, node, names, count);
    else if (strcmp(row->name, "base") != 0) read_option(file, 0, row, node);
}

static void check_metric(SearchFile *file, const cJSON *node) {
    const char *name = file->metric.name, *nearest = metric_nearest(name);
    if (metric_find(name)) return;
    if (nearest)
        search_complain(file, node, "metric.name", "no number of metrics.jsonl; did you mean \"%s\"?", nearest);
    else search_complain(file, node, "metric.name", "expected a number of metrics.jsonl, such as val_loss");
}

// What is required where something else is there.
static void check_sections(SearchFile *file, const cJSON *root) {
    const cJSON *name = json_member(root, "name");
    if (name && (!is_plain(file->options.name) || strchr(file->options.name, '/') || *file->options.name == '.'))
        search_complain(file, name, "name", "expected 1 to %d bytes, without \"/\" and no \".\" in front: it names a "
                        "directory", NAME_LIMIT);
    check_metric(file, json_member(root, "metric"));
    if (file->given & GIVEN_RANDOM && file->random.samples == OPTION_AUTO)
        search_complain(file, json_member(root, "random"), "random", "say how many to draw: {\"samples\": 50}");
    if (file->given & GIVEN_EARLY_STOP && file->early_stop.min_steps == OPTION_AUTO)
        search_complain(file, json_member(root, "early_stop"), "early_stop", "say how many steps every run makes: "
                        "{\"kind\": \"asha\", \"min_steps\": 500}");
}

static void read_root(SearchFile *file, const cJSON *root) {
    const cJSON *node, *arms = json_member(root, "arms"), *exclude = json_member(root, "exclude");
    cJSON_ArrayForEach(node, root) {
        if (search_enough(file)) return;
        read_member(file, node);
    }
    check_sections(file, root);
    read_scope(file, root, &file->common);
    if (arms) read_arms(file, arms);
    if (exclude) search_read_exclude(file, exclude);
}

bool search_file_read(SearchFile *file, Errors *errors) {
    int before = errors->count;
    const char *path = file->path;
    file->errors = errors;
    set_defaults(file);
    if (!path_exists(path))
        return errors_add(errors, EXIT_NO_INPUT, "%s: there is no such sweep file%s", path,
                          strchr(path, '=') ? "; it comes first, then key=value" : "; configs/sweeps/ holds examples");
    Json *json = json_open(path, SIZE_LIMIT, EXIT_USAGE, errors);
    if (!json) return false;
    file->json = json;
    if (cJSON_IsObject(json_root(json))) read_root(file, json_root(json));
    else search_complain(file, json_root(json), "", "expected an object; docs/sweeps.md tells what is in it");
    file->json = NULL;
    json_close(json);
    return errors->count == before;
}

static void close_scope(Scope *scope) {
    text_list_close(&scope->set);
    for (int64_t i = 0; i < scope->axes.count; i++) {
        text_list_close(&scope->axes.items[i].keys);
        text_list_close(&scope->axes.items[i].values);
    }
    free(scope->axes.items);
}

void search_file_close(SearchFile *file) {
    close_scope(&file->common);
    for (int64_t i = 0; i < file->arms.count; i++) close_scope(&file->scopes[i]);
    free(file->scopes);
    for (int64_t i = 0; i < file->match_count; i++) text_list_close(&file->matches[i].values);
    free(file->matches);
    text_list_close(&file->arms);
    text_list_close(&file->strings);
    *file = (SearchFile){0};
}
