// The folder of a sweep, and what it has already.
#include <string.h>

#include "runtime/file.h"
#include "runtime/memory.h"
#include "sweep/work_lines.h"

static bool make_folders(const char *dir, Errors *errors) {
    static const char *const names[] = {"configs", "runs", "logs", "locks"};
    char path[4096];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        path_join(path, dir, names[i]);
        if (!directory_make(path, errors)) return false;
    }
    return true;
}

static bool says(const char *path, const Text *text) {
    File file;
    Errors ignored = {0};
    bool read = path_exists(path) && file_read(&file, path, text->size, EXIT_DATA, &ignored);
    bool same = read && file.size == text->size && memcmp(file.bytes, text->data, file.size) == 0;
    if (read) file_close(&file);
    errors_close(&ignored);
    return same;
}

// Processes that begin together write the same files.
static bool write_configs(const Search *search, const Journal *journal, Errors *errors) {
    char name[64], path[4096];
    bool good = true;
    journal_lock(journal);
    for (int64_t i = 0; i < search->count && good; i++) {
        const Text *config = &search->runs[i].config;
        snprintf(name, sizeof name, "configs/%s.json", search->runs[i].id);
        path_join(path, search->dir, name);
        good = says(path, config) || file_replace(path, config->data, config->size, errors);
    }
    journal_unlock(journal);
    return good;
}

// eval.every of a resolved configuration; 0: never.
static int64_t evaluated_every(const Text *config) {
    Errors errors = {0};
    int64_t every = 0;
    Json *json = json_parse("configuration", text_string(config), config->size, EXIT_INTERNAL, &errors);
    if (!json) DIE(EXIT_INTERNAL, "%s", text_string(&errors.text));
    json_is_integer(json_member(json_member(json_root(json), "eval"), "every"), &every);
    json_close(json);
    return every;
}

// Results are numbers of the metric that they were recorded for; another one would rank them by those.
static bool is_of_this_metric(const Work *work, Errors *errors) {
    const Search *search = work->search;
    const SweepHistory *history = &work->history;
    bool same = strcmp(history->metric, search->metric) == 0 && history->maximise == search->maximise;
    for (int64_t i = 0; i < history->count && !same; i++)
        if (history->records[i].attempts > 0)
            return errors_add(errors, EXIT_USAGE, "%s: its runs are compared by %s (%s), not by %s (%s); choose "
                              "another --dir: with a copy of this one's runs/ in it, no run is trained again",
                              search->dir,
                              history->metric, history->maximise ? "max" : "min", search->metric,
                              search->maximise ? "max" : "min");
    return true;
}

// What a run was when this process began.
static void take_over(Work *work) {
    for (int64_t i = 0; i < work->search->count; i++) {
        const SweepRecord *record = sweep_record(&work->history, work->search->runs[i].id);
        work->runs[i].failures = record ? record->failures : 0;
    }
}

bool work_open(Work *work, const WorkSetup *setup, Pool *pool, Errors *errors) {
    const Search *search = setup->search;
    *work = (Work){.search = search, .forecasts = setup->forecasts, .pool = *pool, .begun = clock_seconds(),
                   .has_threads = setup->has_threads,
                   .journal.descriptor = -1, .history = {.name = "", .metric = ""}};
    work->order = forecast_order(setup->forecasts, search->count);
    work->runs = memory_take(search->count, sizeof *work->runs, "runs of a sweep");
    work->moves = memory_take(search->count, sizeof *work->moves, "runs of a sweep");
    if (search->min_steps > 0) work->halving = memory_take(search->count, sizeof *work->halving, "runs of a sweep");
    for (int64_t i = 0; i < search->count; i++) {
        work->runs[i] = (WorkRun){.number = i, .ours = i % setup->shards == setup->shard,
                                  .host = setup->forecasts[i].host || pool_places(pool, false) == 0,
                                  .claim.descriptor = -1};
        if (work->halving)
            work->halving[i] = (HalvingRun){.steps = setup->forecasts[i].steps,
                                            .every = evaluated_every(&search->runs[i].config)};
    }
    bool good = make_folders(search->dir, errors) && journal_open(&work->journal, search->dir, errors) &&
                write_configs(search, &work->journal, errors) &&
                sweep_history_read(&work->history, search->dir, errors) && is_of_this_metric(work, errors);
    if (!good) return false;
    take_over(work);
    return work_line_plan(work, errors);
}
