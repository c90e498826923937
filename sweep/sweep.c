// sweep: the runs that a sweep file asks for, each once.
#include <stdlib.h>
#include <string.h>

#include "commands/arguments.h"
#include "commands/command.h"
#include "commands/console.h"
#include "sweep/dry_run.h"
#include "sweep/work.h"

typedef struct {
    SearchRequest search;
    PoolSetup pool;
    int64_t shard, shards;
    bool dry_run;
} Request;

// ---- arguments ----

// A whole number at the start of `text`; where it ends, NULL where there is none.
static const char *read_count(const char *text, int64_t *count) {
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 6) return NULL;
    *count = strtoll(text, NULL, 10);
    return text + digits;
}

static bool read_jobs(const char *text, Request *request, Errors *errors) {
    const char *end = text ? read_count(text, &request->pool.jobs) : "";
    if (end && !*end && (!text || request->pool.jobs > 0)) return true;
    return errors_add(errors, EXIT_USAGE, "--jobs %s: expected how many runs the CPU has at a time, from 1 on", text);
}

static bool read_shard(const char *text, Request *request, Errors *errors) {
    request->shards = 1;
    const char *slash = text ? read_count(text, &request->shard) : NULL;
    const char *end = slash && *slash == '/' ? read_count(slash + 1, &request->shards) : NULL;
    if (!text || (end && !*end && request->shard < request->shards)) return true;
    return errors_add(errors, EXIT_USAGE, "--shard %s: expected I/N, the part I, from 0 to N - 1, of N, such as 0/4",
                      text);
}

static bool read_arguments(int argc, char **argv, Request *request) {
    const char *jobs = NULL, *shard = NULL;
    Errors errors = {0};
    const Argument arguments[] = {{"--dir", .text = &request->search.dir}, {"--dry-run", .flag = &request->dry_run},
                                  {"--gpus", .text = &request->pool.gpus}, {"--jobs", .text = &jobs},
                                  {"--shard", .text = &shard},             {0}};
    argc = arguments_take(argc, argv, arguments, 1, "sweep SWEEP.json [key=value ...] [--dir DIR] [--dry-run] "
                          "[--gpus 0,1,...] [--jobs N] [--shard I/N]");
    if (argc == 0) return false;
    request->search.path = argv[1];
    request->search.overrides = argv + 2;
    request->search.count = argc - 2;
    read_jobs(jobs, request, &errors);
    read_shard(shard, request, &errors);
    errors_exit_if_any(&errors);
    return true;
}

// ---- before anything is begun ----

// Whether the configuration says how many threads a run has.
static bool has_threads(const Search *search) {
    Errors errors = {0};
    int64_t threads = 0;
    if (search->count == 0) return false;
    const Text *config = &search->runs[0].config;
    Json *json = json_parse("configuration", text_string(config), config->size, EXIT_INTERNAL, &errors);
    if (!json) DIE(EXIT_INTERNAL, "%s", text_string(&errors.text));
    json_is_integer(json_member(json_root(json), "threads"), &threads);
    json_close(json);
    return threads > 0;
}

static ForecastPlace place_of(const Pool *pool, const Search *search, char devices[256]) {
    const char *first = pool_first_devices(pool, devices);
    return (ForecastPlace){.ranks = first ? pool->gpus_per_run : 1, .devices = first,
                           .threads = has_threads(search) ? 0 : pool_threads(pool, first == NULL)};
}

// All of them lack the same data: nobody wants as many failures.
static bool lacks_data(const Forecast *forecasts, int64_t count, Errors *errors) {
    for (int64_t i = 0; i < count; i++)
        if (forecasts[i].good || forecasts[i].exit_code != EXIT_NO_INPUT ||
            strcmp(text_string(&forecasts[i].problem), text_string(&forecasts[0].problem)) != 0)
            return false;
    if (count > 0)
        errors_add(errors, EXIT_NO_INPUT, "%snone of the %ld runs was begun", text_string(&forecasts[0].problem),
                   count);
    return count > 0;
}

static bool fits_places(const Pool *pool, const Forecast *forecasts, const Request *request, int64_t count,
                        Errors *errors) {
    bool on_cpu = false, on_gpus = false;
    for (int64_t i = 0; i < count; i++) {
        on_cpu = on_cpu || forecasts[i].host;
        on_gpus = on_gpus || (forecasts[i].good && !forecasts[i].host);
    }
    if (request->pool.gpus && !on_gpus && on_cpu)
        return errors_add(errors, EXIT_USAGE, "--gpus %s: these runs are on the CPU (device=cpu); leave it out",
                          request->pool.gpus);
    if (request->pool.jobs > 0 && on_gpus && !on_cpu)
        return errors_add(errors, EXIT_USAGE, "--jobs %ld: these runs are on GPUs; say which by --gpus, or how many at "
                          "a time by budget.max_parallel", request->pool.jobs);
    if (on_gpus && pool_places(pool, false) == 0)
        return errors_add(errors, EXIT_USAGE, "a run of this sweep takes %ld GPUs (budget.gpus_per_run), and there are "
                          "%ld", pool->gpus_per_run, pool->gpus.count);
    return true;
}

// The exit code: that of the first run that cannot run where none of them can.
static int print_dry_run(const Search *search, const Forecast *forecasts, const Pool *pool) {
    SweepHistory history;
    Errors errors = {0};
    bool begun = sweep_dir_is(search->dir) && sweep_history_read(&history, search->dir, &errors);
    bool host = search->count > 0 && forecasts[0].host;
    dry_run_print(search, forecasts, pool_places(pool, host), begun ? &history : NULL);
    if (begun) sweep_history_close(&history);
    errors_exit_if_any(&errors);
    for (int64_t i = 0; i < search->count; i++)
        if (forecasts[i].good) return 0;
    return forecasts[0].exit_code;
}

static int work(const Search *search, const Forecast *forecasts, const Request *request, Pool *pool) {
    Work work;
    Errors errors = {0};
    int exit_code = EXIT_CANNOT_WRITE;
    WorkSetup setup = {search, forecasts, has_threads(search), request->shard, request->shards};
    if (work_open(&work, &setup, pool, &errors))
        exit_code = work_run(&work);
    else exit_code = errors.exit_code;
    console_errors(&errors);
    work_close(&work);
    return exit_code;
}

int command_sweep(int argc, char **argv) {
    Request request = {0};
    Search search;
    Pool pool;
    Forecast *forecasts = NULL;
    Errors errors = {0};
    char devices[256];
    if (!read_arguments(argc, argv, &request)) return EXIT_USAGE;
    bool good = search_open(&search, &request.search, &errors);
    errors_exit_if_any(&errors);
    for (int64_t i = 0; i < search.notes.count; i++) console_note("%s", search.notes.items[i]);
    request.pool.gpus_per_run = search.gpus_per_run;
    request.pool.most = search.max_parallel;
    request.pool.runs = search.count;
    good = good && pool_open(&pool, &request.pool, &errors);
    errors_exit_if_any(&errors);
    ForecastPlace place = place_of(&pool, &search, devices);
    good = good && forecast_runs(&search, &place, &forecasts, &errors);
    errors_exit_if_any(&errors);
    int exit_code = 0;
    if (request.dry_run) exit_code = print_dry_run(&search, forecasts, &pool), pool_close(&pool);
    else if (lacks_data(forecasts, search.count, &errors) ||
             !fits_places(&pool, forecasts, &request, search.count, &errors))
        errors_exit_if_any(&errors);
    else exit_code = work(&search, forecasts, &request, &pool);
    forecast_close(forecasts, search.count);
    search_close(&search);
    return exit_code;
}
