// What a sweep leaves out: elements of "exclude", of which each leaves out the runs that are all that it says.
#include <string.h>

#include "runtime/memory.h"
#include "sweep/search_parts.h"

static const struct {
    const char *name;
    MatchKind kind;
} comparisons[] = {{"lt", MATCH_LT}, {"le", MATCH_LE}, {"gt", MATCH_GT}, {"ge", MATCH_GE}};
enum { COMPARISONS = sizeof comparisons / sizeof comparisons[0] };

static void add_match(SearchFile *file, const Match *match) {
    file->matches = memory_grow(file->matches, file->match_count + 1, sizeof *match, "exclusions");
    file->matches[file->match_count++] = *match;
}

static bool read_arm(SearchFile *file, const cJSON *node, Text *out) {
    for (int64_t i = 0; i < file->arms.count; i++)
        if (cJSON_IsString(node) && strcmp(file->arms.items[i], node->valuestring) == 0) {
            text_add(out, node->valuestring);
            return true;
        }
    return search_complain(file, node, "arm", "expected the name of an arm of this file");
}

// One value, or a list of them.
static void read_alternatives(SearchFile *file, const OptionRow *row, const cJSON *node, Match *match) {
    bool list = cJSON_IsArray(node) && (!row || row->type != OPTION_LIST);
    for (const cJSON *item = list ? node->child : node; item; item = list ? item->next : NULL) {
        Text value = {0};
        if (search_enough(file)) return;
        if (row ? search_read_value(file, row, match->key, item, &value) : read_arm(file, item, &value))
            text_list_add(&match->values, text_string(&value));
        text_close(&value);
    }
    if (list && !node->child) search_complain(file, node, match->key, "expected a value at least");
}

// {"gt": 0.01, "lt": 0.1}: each is a match of its own.
static void read_comparisons(SearchFile *file, const OptionRow *row, const cJSON *object, Match match) {
    const cJSON *node;
    if (!object->child) search_complain(file, object, match.key, "expected a value, or one of lt, le, gt, ge");
    cJSON_ArrayForEach(node, object) {
        int found = 0;
        while (found < COMPARISONS && strcmp(comparisons[found].name, node->string) != 0) found++;
        Text limit = {0};
        if (search_enough(file)) return;
        if (found == COMPARISONS)
            search_complain(file, node, match.key, "expected one of lt, le, gt, ge");
        else if (search_read_value(file, row, match.key, node, &limit) &&
                 !text_read_number(text_string(&limit), &match.limit))
            search_complain(file, node, match.key, "is no number; list its values instead");
        text_close(&limit);
        if (found < COMPARISONS) match.kind = comparisons[found].kind;
        add_match(file, &match);
    }
}

static void read_member(SearchFile *file, const cJSON *node, int64_t element) {
    bool arm = strcmp(node->string, "arm") == 0;
    int64_t number = config_key_find(node->string);
    if (number < 0 && !arm) {
        Text problem = {0};
        config_key_unknown(node->string, &problem);
        search_complain(file, node, node->string, "%s", text_string(&problem));
        text_close(&problem);
        return;
    }
    const OptionRow *row = arm ? NULL : config_key(number).row;
    Match match = {.element = element};
    snprintf(match.key, sizeof match.key, "%s", node->string);
    if (cJSON_IsObject(node) && row) {
        read_comparisons(file, row, node, match);
        return;
    }
    read_alternatives(file, row, node, &match);
    add_match(file, &match);
}

void search_read_exclude(SearchFile *file, const cJSON *list) {
    const cJSON *object, *node;
    if (!cJSON_IsArray(list)) search_complain(file, list, "exclude", "expected a list of objects");
    else cJSON_ArrayForEach(object, list) {
        if (search_enough(file)) return;
        if (!cJSON_IsObject(object) || !object->child)
            search_complain(file, object, "exclude", "expected an object with the keys and values to leave out");
        else cJSON_ArrayForEach(node, object) read_member(file, node, file->exclusions);
        file->exclusions++;
    }
}

// ---- matching ----

static bool matches(const Match *match, const char *value) {
    double number = 0;
    if (match->kind == MATCH_VALUES) {
        for (int64_t i = 0; i < match->values.count; i++)
            if (strcmp(match->values.items[i], value) == 0) return true;
        return false;
    }
    if (!text_read_number(value, &number)) return false; // auto
    switch (match->kind) {
    case MATCH_LT: return number < match->limit;
    case MATCH_LE: return number <= match->limit;
    case MATCH_GT: return number > match->limit;
    default: return number >= match->limit;
    }
}

bool search_excludes(const SearchFile *file, const Config *config, const char *arm, int64_t *hits) {
    bool all = true, excluded = false; // of this element; by any of them
    for (int64_t i = 0; i < file->match_count; i++) {
        const Match *match = &file->matches[i];
        Text value = {0};
        if (i > 0 && match->element != match[-1].element) all = true;
        if (all && strcmp(match->key, "arm") == 0) text_add(&value, arm);
        else if (all) config_key_value(config, match->key, &value);
        all = all && matches(match, text_string(&value));
        text_close(&value);
        bool last = i + 1 == file->match_count || match[1].element != match->element;
        if (all && last) hits[match->element]++;
        excluded = excluded || (all && last);
    }
    return excluded;
}
