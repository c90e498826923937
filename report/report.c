#include "report/report.h"

#include <stdlib.h>
#include <string.h>

#include "report/runs_section.h"
#include "report/sweep_view.h"
#include "runtime/file.h"
#include "runtime/memory.h"

// Points of a curve, so that many runs on one page stay readable and small.
static int64_t points_for(int64_t runs) {
    enum { ALL = 6000, MOST = 300, LEAST = 30 };
    int64_t points = ALL / (runs ? runs : 1);
    return points > MOST ? MOST : points < LEAST ? LEAST : points;
}

static bool is_known(const char *dir, Errors *errors) {
    if (sweep_dir_is(dir) || run_dir_is(dir)) return true;
    return errors_add(errors, EXIT_NO_INPUT, "%s: %s; name a run directory, which has a run.json and a metrics.jsonl, "
                      "or a sweep's, which has a state.jsonl", dir,
                      path_is_directory(dir) ? "neither a run nor a sweep" : "there is no such directory");
}

// A run that was named is to be whole.
static void read_runs(RunSet *set, const TextList *directories, Errors *errors) {
    RunFacts *runs = memory_take(directories->count, sizeof *runs, "runs");
    FactsRequest request = {.metric = set->metric, .points = points_for(directories->count)};
    request.metric_points = request.points;
    for (int64_t i = 0; i < directories->count; i++) {
        if (sweep_dir_is(directories->items[i])) continue;
        RunFacts *facts = &runs[set->count++];
        run_facts_read(facts, directories->items[i], &request);
        if (facts->trouble.count) errors_move(errors, &facts->trouble);
    }
    set->runs = runs;
    runs_names(set);
}

static void close_runs(RunSet *set) {
    for (int64_t i = 0; i < set->count; i++) run_facts_close((RunFacts *)&set->runs[i]);
    free((RunFacts *)set->runs);
    text_list_close(&set->names);
}

static bool write_sweep(Page *page, const char *dir, bool headed, Errors *errors) {
    SweepView view;
    if (!sweep_view_open(&view, dir, errors)) return false;
    if (headed) markup(&page->out, "<h2>Sweep <bdi>%s</bdi></h2>\n", *view.history.name ? view.history.name : dir);
    sweep_section(page, &view);
    sweep_view_close(&view);
    return true;
}

static void add_title(const TextList *directories, const RunSet *set, Text *out) {
    if (directories->count > 1) text_printf(out, "Report of %ld directories", directories->count);
    if (directories->count > 1) return;
    char *name = run_dir_name(directories->items[0]);
    text_printf(out, "%s %s", set->count ? "Run" : "Sweep", name);
    free(name);
}

bool report_write(const TextList *directories, const char *out, Errors *errors) {
    Page page = {0};
    Text title = {0};
    RunSet set = {.metric = metric_facts[trace_rows[TRACE_METRIC].metric].name};
    int before = errors->count;
    for (int64_t i = 0; i < directories->count; i++) is_known(directories->items[i], errors);
    if (errors->count > before) return false;
    read_runs(&set, directories, errors);
    add_title(directories, &set, &title);
    page_begin(&page, text_string(&title));
    for (int64_t i = 0; i < directories->count; i++)
        if (sweep_dir_is(directories->items[i]))
            write_sweep(&page, directories->items[i], directories->count > 1, errors);
    if (set.count > 0 && set.count < directories->count) text_add(&page.out, "<h2>Runs</h2>\n");
    if (set.count > 0) runs_section(&page, &set);
    page_end(&page);
    bool good = errors->count == before && file_replace(out, page.out.data, page.out.size, errors);
    close_runs(&set);
    text_close(&page.out);
    text_close(&title);
    return good;
}
