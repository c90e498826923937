#include "report/sweep_view.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/memory.h"

// ---- settings ----

static const SweepSetting *find_setting(const SweepRecord *record, const char *key) {
    for (int64_t i = 0; i < record->setting_count; i++)
        if (strcmp(record->settings[i].key, key) == 0) return &record->settings[i];
    return NULL;
}

const char *sweep_view_setting(const SweepView *view, int64_t record, const char *key) {
    const SweepSetting *setting = find_setting(&view->history.records[record], key);
    return setting ? setting->value : run_facts_setting(&view->facts[record], key);
}

double sweep_view_number(const SweepView *view, int64_t record, const char *key) {
    double value;
    const char *text = sweep_view_setting(view, record, key), *end = text_read_number(text, &value);
    return end && !*end ? value : NAN;
}

bool sweep_view_is_number(const SweepView *view, const char *key) {
    for (int64_t i = 0; i < view->history.count; i++)
        if (*sweep_view_setting(view, i, key) && isnan(sweep_view_number(view, i, key))) return false;
    return true;
}

bool sweep_view_varies(const SweepView *view, const char *key) {
    double first = NAN;
    for (int64_t i = 0; i < view->history.count; i++) {
        double value = sweep_view_number(view, i, key);
        if (isnan(value)) continue;
        if (!isnan(first) && value != first) return true;
        first = value;
    }
    return false;
}

// ---- results ----

double sweep_view_result(const SweepView *view, int64_t record) {
    return sweep_result(&view->history, &view->history.records[record]);
}

const char *sweep_view_metric(const SweepView *view) {
    const TraceRow *usual = &trace_rows[TRACE_METRIC];
    const char *metric = view->history.metric;
    return strcmp(metric, metric_facts[usual->metric].name) == 0 ? usual->title : metric;
}

void sweep_view_describe(const SweepView *view, int64_t record, Text *out) {
    const SweepRecord *r = &view->history.records[record];
    char number[TEXT_NUMBER];
    double result = sweep_view_result(view, record);
    text_printf(out, "%s %s", r->id, r->arm);
    for (int64_t i = 0; i < r->setting_count; i++)
        text_printf(out, ", %s=%s", r->settings[i].key, r->settings[i].value);
    text_printf(out, ": %s", isfinite(result) ? markup_number(number, result, 6) : sweep_status_name(r->status));
}

// ---- arms ----

static const char *arm_name(const SweepView *view, int64_t record) {
    const char *arm = view->history.records[record].arm;
    if (!*arm) arm = sweep_view_setting(view, record, "optim.name");
    return *arm ? arm : "all runs";
}

static void find_arms(SweepView *view) {
    for (int64_t i = 0; i < view->history.count; i++) {
        const char *name = arm_name(view, i);
        int64_t arm = 0;
        while (arm < view->arms.count && strcmp(view->arms.items[arm], name) != 0) arm++;
        if (arm == view->arms.count) text_list_add(&view->arms, name);
        view->arm[i] = arm;
    }
}

// By the mean of its group first, then by its own result.
static void find_best(SweepView *view) {
    const SweepHistory *h = &view->history;
    view->best = memory_take(view->arms.count, sizeof *view->best, "arms of a sweep");
    for (int64_t a = 0; a < view->arms.count; a++) view->best[a] = -1;
    for (int64_t i = 0; i < h->count; i++) {
        int64_t *best = &view->best[view->arm[i]];
        if (!isfinite(sweep_view_result(view, i))) continue;
        double mean = view->groups[view->group[i]].mean, old = *best < 0 ? NAN : view->groups[view->group[*best]].mean;
        bool same = *best >= 0 && view->group[i] == view->group[*best];
        bool better = same ? sweep_better(h->maximise, sweep_view_result(view, i), sweep_view_result(view, *best))
                           : *best < 0 || sweep_better(h->maximise, mean, old);
        if (better) *best = i;
    }
}

// ---- the frontier ----

static int compare_points(const void *a, const void *b) {
    double x = ((const CurvePoint *)a)->x[ALONG_TOKENS], y = ((const CurvePoint *)b)->x[ALONG_TOKENS];
    return (x > y) - (x < y);
}

// Of one run: all its evaluations, or the last one of a run that came to its end.
static bool add_evaluations(const SweepView *view, int64_t record, Curve *all) {
    const RunFacts *facts = &view->facts[record];
    const Curve *metric = &facts->traces[TRACE_METRIC];
    int64_t first = 0, before = all->count;
    if (!facts->anytime) first = isfinite(sweep_view_result(view, record)) ? metric->count - 1 : metric->count;
    for (int64_t k = first < 0 ? 0 : first; k < metric->count; k++)
        if (isfinite(metric->points[k].x[ALONG_TOKENS])) curve_add(all, metric->points[k]);
    return all->count > before;
}

void sweep_view_frontier(const SweepView *view, int64_t arm, Frontier *out) {
    Curve all = {0};
    *out = (Frontier){0};
    for (int64_t i = 0; i < view->history.count; i++) {
        if (view->arm[i] != arm) continue;
        if (isfinite(view->facts[i].tokens)) out->tokens += view->facts[i].tokens;
        bool counts = add_evaluations(view, i, &all);
        out->runs += counts;
        out->at_end += counts && !view->facts[i].anytime;
    }
    if (all.count > 1) qsort(all.points, (size_t)all.count, sizeof *all.points, compare_points);
    double best = NAN;
    for (int64_t k = 0; k < all.count; k++) {
        bool better = sweep_better(view->history.maximise, all.points[k].y, best);
        if (better) best = all.points[k].y;
        if (!better && k < all.count - 1) continue;
        CurvePoint *last = out->curve.count ? &out->curve.points[out->curve.count - 1] : NULL;
        all.points[k].y = best;
        if (last && last->x[ALONG_TOKENS] == all.points[k].x[ALONG_TOKENS]) *last = all.points[k];
        else curve_add(&out->curve, all.points[k]);
    }
    curve_close(&all);
}

// ---- opening ----

enum { POINTS = 160, METRIC_POINTS = 4000 };

bool sweep_view_open(SweepView *view, const char *dir, Errors *errors) {
    *view = (SweepView){.dir = dir};
    if (!sweep_history_read(&view->history, dir, errors)) return false;
    sweep_history_keep_planned(&view->history);
    int64_t count = view->history.count;
    view->facts = memory_take(count, sizeof *view->facts, "runs of a sweep");
    view->arm = memory_take(count, sizeof *view->arm, "runs of a sweep");
    view->group = memory_take(count, sizeof *view->group, "runs of a sweep");
    FactsRequest request = {.metric = view->history.metric, .maximise = view->history.maximise, .points = POINTS,
                            .metric_points = METRIC_POINTS};
    for (int64_t i = 0; i < count; i++) {
        char name[32], path[4096];
        snprintf(name, sizeof name, "runs/%s", view->history.records[i].id);
        path_join(path, dir, name);
        run_facts_read(&view->facts[i], path, &request);
    }
    find_arms(view);
    view->group_count = sweep_groups(&view->history, &view->groups, view->group);
    find_best(view);
    return true;
}

void sweep_view_close(SweepView *view) {
    for (int64_t i = 0; view->facts && i < view->history.count; i++) run_facts_close(&view->facts[i]);
    free(view->facts);
    free(view->arm);
    free(view->group);
    free(view->groups);
    free(view->best);
    text_list_close(&view->arms);
    sweep_history_close(&view->history);
    *view = (SweepView){0};
}
