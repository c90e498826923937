#include "sweep/search.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "sweep/search_parts.h"

// base=FILE is no key of the configuration.
static const char *take_base(const SearchRequest *request, TextList *overrides) {
    const char *base = NULL;
    for (int i = 0; i < request->count; i++) {
        if (strncmp(request->overrides[i], "base=", 5) == 0) base = request->overrides[i] + 5;
        else text_list_add(overrides, request->overrides[i]);
    }
    return base;
}

// ---- names ----

static void name_search(Search *search, const SearchFile *file) {
    const char *slash = strrchr(file->path, '/'), *name = slash ? slash + 1 : file->path;
    size_t size = strlen(name);
    if (size > 5 && strcmp(name + size - 5, ".json") == 0) size -= 5;
    if (*file->options.name) name = file->options.name, size = strlen(name);
    snprintf(search->name, sizeof search->name, "%.*s", (int)size, name);
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

// Six digits for what the command line changes in the results, in whatever order: other settings are another sweep.
// Empty where it changes nothing.
static void add_overrides(const TextList *overrides, const char *base, Text *out) {
    Text all = {0};
    TextList sorted = {0};
    char hash[HASH_HEX];
    for (int64_t i = 0; i < overrides->count; i++) {
        Text key = {0};
        text_append(&key, overrides->items[i], strcspn(overrides->items[i], "="));
        if (!config_key_idle(text_string(&key))) text_list_add(&sorted, overrides->items[i]);
        text_close(&key);
    }
    if (sorted.count) qsort(sorted.items, (size_t)sorted.count, sizeof *sorted.items, by_text);
    if (base) text_printf(&all, "base=%s\n", base);
    for (int64_t i = 0; i < sorted.count; i++) text_printf(&all, "%s\n", sorted.items[i]);
    if (all.size) {
        bytes_hash(all.data, all.size, hash);
        text_printf(out, "-%.6s", hash);
    }
    text_list_close(&sorted);
    text_close(&all);
}

static bool name_directory(Search *search, const SearchFile *file, const SearchRequest *request, const Text *suffix,
                           Errors *errors) {
    Text dir = {0};
    if (request->dir) text_add(&dir, request->dir);
    else if (*file->options.dir) text_printf(&dir, "%s%s", file->options.dir, text_string(suffix));
    else text_printf(&dir, "sweeps/%s%s", search->name, text_string(suffix));
    while (dir.size > 1 && dir.data[dir.size - 1] == '/') dir.data[--dir.size] = 0;
    bool good = dir.size > 0 && dir.size < sizeof search->dir / 2; // room for the names of its files
    if (good) memcpy(search->dir, dir.data, dir.size + 1);
    else errors_add(errors, EXIT_USAGE, "--dir: expected the path of a directory, of up to %zu bytes",
                    sizeof search->dir / 2);
    text_close(&dir);
    return good;
}

// ---- the whole ----

static void take_options(Search *search, const SearchFile *file) {
    snprintf(search->metric, sizeof search->metric, "%s", file->metric.name);
    bool more = metric_find(file->metric.name)->more_is_better;
    search->maximise = file->metric.goal == OPTION_AUTO ? more : file->metric.goal == 1;
    search->at_best = file->metric.at == 1;
    search->gpus_per_run = file->budget.gpus_per_run;
    search->max_parallel = file->budget.max_parallel;
    search->max_seconds = 3600 * file->budget.max_hours;
    search->retries = file->on_failure.retries;
    for (int64_t i = 0; i < file->arms.count; i++) text_list_add(&search->arms, file->arms.items[i]);
}

bool search_open(Search *search, const SearchRequest *request, Errors *errors) {
    TextList overrides = {0};
    Text suffix = {0};
    const char *base = take_base(request, &overrides);
    SearchFile file = {.path = request->path,
                       .points = request->points ? request->points : SEARCH_POINTS,
                       .rebased = base != NULL};
    *search = (Search){0};
    bool good = search_file_read(&file, errors);
    if (good) {
        name_search(search, &file);
        take_options(search, &file);
        add_overrides(&overrides, base, &suffix);
        good = name_directory(search, &file, request, &suffix, errors);
        good = search_make_runs(search, &file, base, &overrides, errors) && good;
    }
    search_file_close(&file);
    text_list_close(&overrides);
    text_close(&suffix);
    return good;
}

void search_close(Search *search) {
    for (int64_t i = 0; i < search->count; i++) {
        text_close(&search->runs[i].config);
        text_list_close(&search->runs[i].settings);
    }
    free(search->runs);
    text_list_close(&search->arms);
    text_list_close(&search->notes);
    *search = (Search){0};
}

void search_settings_json(const SearchRun *run, JsonWriter *writer) {
    static const bool quoted[] = {[OPTION_CHOICE] = true, [OPTION_TEXT] = true, [OPTION_LIST] = true};
    for (int64_t i = 0; i < run->settings.count; i++) {
        const char *value = strchr(run->settings.items[i], '=') + 1;
        Text key = {0};
        text_append(&key, run->settings.items[i], (size_t)(value - run->settings.items[i]) - 1);
        bool as_text = quoted[config_key(config_key_find(text_string(&key))).row->type] || strcmp(value, "auto") == 0;
        (as_text ? json_string : json_raw)(writer, text_string(&key), value);
        text_close(&key);
    }
}
