#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/figure.h"
#include "report/parallel.h"
#include "report/sweep_view.h"
#include "runtime/memory.h"

static const char lr_key[] = "optim.lr", seed_key[] = "run.seed";

// ---- the result along one axis ----

// Positive values over more than half a decade, and learning rates whatever they are.
static bool is_log(const SweepView *view, const char *key) {
    double low = INFINITY, high = -INFINITY;
    for (int64_t i = 0; i < view->history.count; i++) {
        double value = sweep_view_number(view, i, key);
        if (isnan(value)) continue;
        low = fmin(low, value);
        high = fmax(high, value);
    }
    return low > 0 && (strcmp(key, lr_key) == 0 || high / low > 4);
}

// The best group of an arm at each value, with its spread over seeds.
static Curve best_at_each(const SweepView *view, int64_t arm, const char *key) {
    Curve curve = {0};
    for (int64_t g = 0; g < view->group_count; g++) {
        const SweepGroup *group = &view->groups[g];
        int64_t record = group->first - view->history.records;
        double x = sweep_view_number(view, record, key);
        if (view->arm[record] != arm || !isfinite(group->mean) || isnan(x)) continue;
        double spread = isfinite(group->error) ? group->error * sqrt((double)group->seeds) : 0;
        CurvePoint point = {{x, NAN, NAN, NAN}, group->mean, group->mean - spread, group->mean + spread};
        int64_t place = 0;
        while (place < curve.count && curve.points[place].x[0] < x) place++;
        if (place < curve.count && curve.points[place].x[0] == x) {
            if (sweep_better(view->history.maximise, point.y, curve.points[place].y)) curve.points[place] = point;
            continue;
        }
        curve_add(&curve, point); // makes room
        memmove(curve.points + place + 1, curve.points + place, (size_t)(curve.count - 1 - place) * sizeof point);
        curve.points[place] = point;
    }
    return curve;
}

static void add_noted(Series *series, const SweepView *view, int64_t record, double x, double y) {
    Text note = {0};
    sweep_view_describe(view, record, &note);
    curve_add(&series->own, (CurvePoint){{x, NAN, NAN, NAN}, y, y, y});
    text_list_add(&series->notes, text_string(&note));
    text_close(&note);
}

static bool has_spread(const Curve *curve) {
    for (int64_t i = 0; i < curve->count; i++)
        if (curve->points[i].high > curve->points[i].low) return true;
    return false;
}

static Curve copy_of(const Curve *curve) {
    Curve copy = {0};
    for (int64_t i = 0; i < curve->count; i++) curve_add(&copy, curve->points[i]);
    return copy;
}

static void add_arm(Figure *figure, const SweepView *view, int64_t arm, const char *key) {
    const char *name = view->arms.items[arm];
    Curve line = best_at_each(view, arm, key);
    Series dots = {.mark = MARK_DOTS, .colour = (int)arm, .name = name};
    Series rings = {.mark = MARK_RINGS, .colour = (int)arm, .name = name};
    Series edges = {.mark = MARK_EDGES, .colour = (int)arm, .name = name};
    for (int64_t i = 0; i < view->history.count; i++) {
        double x = sweep_view_number(view, i, key), y = sweep_view_result(view, i);
        if (view->arm[i] != arm || isnan(x)) continue;
        if (isfinite(y)) add_noted(&dots, view, i, x, y);
        else if (view->history.records[i].status == SWEEP_DIVERGED) add_noted(&edges, view, i, x, 0);
    }
    if (view->best[arm] >= 0) {
        int64_t best = view->best[arm];
        double x = sweep_view_number(view, best, key);
        if (!isnan(x)) add_noted(&rings, view, best, x, view->groups[view->group[best]].mean);
    }
    Series band = {.mark = MARK_BAND, .colour = (int)arm, .name = name};
    if (has_spread(&line)) {
        band.own = copy_of(&line);
        figure_add(figure, band);
    }
    figure_add(figure, (Series){.mark = MARK_LINE, .colour = (int)arm, .name = name, .own = line});
    figure_add(figure, dots);
    figure_add(figure, edges);
    figure_add(figure, rings);
}

static void write_along(Page *page, const SweepView *view, const char *key) {
    Text title = {0};
    bool lr = strcmp(key, lr_key) == 0;
    text_printf(&title, "%s against %s", sweep_view_metric(view), lr ? "learning rate" : key);
    Figure figure = {.title = text_string(&title),
                     .note = "lines: the best mean over seeds at each value; bands: one standard deviation over seeds; "
                             "rings: the best of each arm; crosses: diverged",
                     .x = {key, UNIT_PLAIN, is_log(view, key)}, .y = {view->history.metric, UNIT_PLAIN, false},
                     .cut = view->history.maximise ? 0 : 4, .worst_low = view->history.maximise, .end_labels = true};
    for (int64_t arm = 0; arm < view->arms.count; arm++) add_arm(&figure, view, arm, key);
    figure_write(&figure, page);
    text_close(&title);
}

// A best value at the end of those that have a result may have a better one beyond it. To have diverged or to have been
// pruned is a result; what failed or is still to come says nothing.
static void tell_ends(Page *page, const SweepView *view, const char *key) {
    for (int64_t arm = 0; arm < view->arms.count; arm++) {
        double low = INFINITY, high = -INFINITY, best = NAN;
        for (int64_t i = 0; i < view->history.count; i++) {
            double value = sweep_view_number(view, i, key);
            bool known = sweep_status_is_result(view->history.records[i].status);
            if (view->arm[i] != arm || isnan(value) || !known) continue;
            low = fmin(low, value);
            high = fmax(high, value);
            if (i == view->best[arm]) best = value;
        }
        if (low < high && (best == low || best == high))
            markup(&page->out, "<p class=\"soft\"><bdi>%s</bdi>: its best %s, %g, is the %s that has a result.</p>\n",
                   view->arms.items[arm], key, best, best == low ? "smallest" : "largest");
    }
}

// ---- the frontier ----

static void write_frontier_table(Page *page, const SweepView *view, const Frontier *frontiers) {
    static const char *const numbers[] = {"best", "at tokens", "runs that count", "of them at their end alone",
                                          "tokens of all its runs"};
    char n[TEXT_NUMBER];
    page_table(page, true);
    page_head(page, "arm");
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) page_number_head(page, numbers[i]);
    for (int64_t arm = 0; arm < view->arms.count; arm++) {
        const Frontier *f = &frontiers[arm];
        double best = f->curve.count ? f->curve.points[f->curve.count - 1].y : NAN, at = NAN;
        for (int64_t k = f->curve.count - 1; k >= 0 && f->curve.points[k].y == best; k--)
            at = f->curve.points[k].x[ALONG_TOKENS];
        page_row(page);
        page_cell(page, view->arms.items[arm]);
        page_number(page, best, markup_number(n, best, 5));
        page_number(page, at, count_text(n, at));
        page_number(page, (double)f->runs, markup_number(n, (double)f->runs, 10));
        page_number(page, (double)f->at_end, markup_number(n, (double)f->at_end, 10));
        page_number(page, f->tokens, count_text(n, f->tokens));
    }
    page_table_end(page);
}

static void write_frontier_figure(Page *page, const SweepView *view, const Frontier *frontiers) {
    Figure figure = {.title = "Best result by budget", .note = "the anytime frontier, explained below",
                     .x = {"tokens of one run", UNIT_COUNT, true}, .y = {view->history.metric, UNIT_PLAIN, false},
                     .along = ALONG_TOKENS, .cut = view->history.maximise ? 0 : 8, .end_labels = true};
    for (int64_t arm = 0; arm < view->arms.count; arm++)
        figure_add(&figure, (Series){.mark = MARK_STAIRS, .colour = (int)arm, .name = view->arms.items[arm],
                                     .curve = &frontiers[arm].curve});
    figure_write(&figure, page);
}

// The arm whose frontier is the best at a count of tokens; the first of those that are equal. -1: none is there yet.
static int64_t leader_at(const SweepView *view, const Frontier *frontiers, double tokens) {
    int64_t leader = -1;
    double best = NAN;
    for (int64_t arm = 0; arm < view->arms.count; arm++)
        for (int64_t k = 0; k < frontiers[arm].curve.count; k++) {
            const CurvePoint *p = &frontiers[arm].curve.points[k];
            if (p->x[ALONG_TOKENS] > tokens || !sweep_better(view->history.maximise, p->y, best)) continue;
            best = p->y;
            leader = arm;
        }
    return leader;
}

// The next count of tokens at which any frontier has a point; INFINITY: there is none.
static double next_tokens(const SweepView *view, const Frontier *frontiers, double tokens) {
    double next = INFINITY;
    for (int64_t arm = 0; arm < view->arms.count; arm++)
        for (int64_t k = 0; k < frontiers[arm].curve.count; k++) {
            double x = frontiers[arm].curve.points[k].x[ALONG_TOKENS];
            if (x > tokens) next = fmin(next, x);
        }
    return next;
}

// "The best: SF-Muon from 410K tokens, Muon from 8.19M."
static void tell_leaders(Page *page, const SweepView *view, const Frontier *frontiers) {
    enum { TOLD = 8 };
    int64_t leader = -1, told = 0;
    char n[TEXT_NUMBER];
    Text text = {0};
    for (double at = next_tokens(view, frontiers, 0); isfinite(at); at = next_tokens(view, frontiers, at)) {
        int64_t now = leader_at(view, frontiers, at);
        if (now == leader) continue;
        leader = now;
        if (told++ >= TOLD) continue;
        markup(&text, told > 1 ? ", <bdi>%s</bdi> from %s" : " <bdi>%s</bdi> from %s tokens on", view->arms.items[now],
               count_text(n, at));
    }
    if (told > TOLD) markup(&text, "; it changes %ld more times, in the end to <bdi>%s</bdi>", told - TOLD,
                            view->arms.items[leader]);
    if (told > 0 && view->arms.count > 1) {
        text_add(&page->out, "<p class=\"soft\">The best by budget:");
        text_add(&page->out, text_string(&text));
        text_add(&page->out, ".</p>\n");
    }
    text_close(&text);
}

static void explain_frontier(Page *page, const SweepView *view, const Frontier *frontiers) {
    text_add(&page->out,
             "<p class=\"soft\">The frontier is the best result that any run of an arm had reached by each count of "
             "tokens. A run whose schedule ends with it (cosine, linear, wsd, trapezoid) had to know its end in "
             "advance, so it counts at its end alone; what a run with a constant schedule shows at any moment is a "
             "result. Tokens are those of the one run that reached it; what all runs of the arm took together stands "
             "in the last column.</p>\n");
    write_frontier_table(page, view, frontiers);
}

// ---- curves of the best runs ----

static void write_best_curves(Page *page, const SweepView *view) {
    RunSet set = {.metric = view->history.metric, .maximise = view->history.maximise};
    RunFacts *runs = memory_take(view->arms.count, sizeof *runs, "the best runs of arms");
    for (int64_t arm = 0; arm < view->arms.count; arm++) { // without a best one an empty place keeps the colours
        if (view->best[arm] >= 0) runs[arm] = view->facts[view->best[arm]];
        text_list_add(&set.names, view->arms.items[arm]);
    }
    set.runs = runs;
    set.count = view->arms.count;
    text_add(&page->out, "<h3>The best run of each arm</h3>\n");
    if (sweep_best(&view->history)) runs_curves(page, &set);
    else text_add(&page->out, "<p class=\"soft\">No run has a result yet.</p>\n");
    text_list_close(&set.names);
    free(runs); // what they hold is the view's
}

// ---- all axes at once ----

// Each word once, in the order of the runs; and by run its index.
static void index_words(const SweepView *view, const char *key, TextList *words, double *values) {
    for (int64_t i = 0; i < view->history.count; i++) {
        const char *word = key ? sweep_view_setting(view, i, key) : view->arms.items[view->arm[i]];
        int64_t w = 0;
        while (w < words->count && strcmp(words->items[w], word) != 0) w++;
        if (w == words->count) text_list_add(words, word);
        values[i] = (double)w;
    }
}

// Whether arms are named after the values of a setting: then it says nothing more.
static bool names_arms(const SweepView *view, const char *key) {
    for (int64_t i = 0; i < view->history.count; i++)
        if (strcmp(sweep_view_setting(view, i, key), view->arms.items[view->arm[i]]) != 0) return false;
    return true;
}

enum { PARALLEL_KEYS = 24 };

typedef struct {
    ParallelAxis axes[PARALLEL_KEYS + 2];
    TextList words[PARALLEL_KEYS + 2];
    int64_t count;
} Axes;

// Of a setting, or without a key of the arms.
static void add_axis(Axes *axes, const SweepView *view, const char *key, double *values) {
    ParallelAxis *axis = &axes->axes[axes->count];
    *axis = (ParallelAxis){.name = key ? key : "arm", .values = values};
    if (key && sweep_view_is_number(view, key)) {
        axis->log = is_log(view, key) && strcmp(key, seed_key) != 0;
        for (int64_t i = 0; i < view->history.count; i++) values[i] = sweep_view_number(view, i, key);
    } else {
        axis->words = &axes->words[axes->count];
        index_words(view, key, &axes->words[axes->count], values);
    }
    axes->count++;
}

static void write_parallel(Page *page, const SweepView *view) {
    const SweepHistory *h = &view->history;
    Axes axes = {0};
    TextList notes = {0};
    double *values = memory_take((PARALLEL_KEYS + 2) * h->count, sizeof *values, "the axes of runs");
    add_axis(&axes, view, NULL, values);
    for (int64_t k = 0; k < h->key_count && axes.count <= PARALLEL_KEYS; k++)
        if (!names_arms(view, h->keys[k])) add_axis(&axes, view, h->keys[k], values + axes.count * h->count);
    axes.axes[axes.count] = (ParallelAxis){.name = h->metric, .values = values + axes.count * h->count};
    for (int64_t i = 0; i < h->count; i++) {
        Text note = {0};
        axes.axes[axes.count].values[i] = sweep_view_result(view, i);
        sweep_view_describe(view, i, &note);
        text_list_add(&notes, text_string(&note));
        text_close(&note);
    }
    text_add(&page->out, "<h3>All settings at once</h3>\n<p class=\"soft\">One line for each run. The more a line "
                         "stands out from the page, the better its result; dotted: no result. The best lie on top; a "
                         "line tells under the pointer which run it is.</p>\n");
    Parallel parallel = {axes.axes, axes.count + 1, h->count, (const char *const *)notes.items, h->maximise};
    parallel_write(&parallel, page);
    for (int64_t a = 0; a < axes.count; a++) text_list_close(&axes.words[a]);
    text_list_close(&notes);
    free(values);
}

// ---- the whole ----

// The result along what was varied as a number, learning rates first.
static void write_results(Page *page, const SweepView *view) {
    const SweepHistory *h = &view->history;
    enum { MOST = 6 };
    int shown = 0;
    if (sweep_view_varies(view, lr_key)) write_along(page, view, lr_key), shown++;
    for (int64_t k = 0; k < h->key_count && shown < MOST; k++) {
        bool own = strcmp(h->keys[k], lr_key) == 0 || strcmp(h->keys[k], seed_key) == 0;
        if (!own && sweep_view_varies(view, h->keys[k])) write_along(page, view, h->keys[k]), shown++;
    }
}

void sweep_figures(Page *page, const SweepView *view) {
    Frontier *frontiers = memory_take(view->arms.count, sizeof *frontiers, "the frontiers of arms");
    for (int64_t arm = 0; arm < view->arms.count; arm++) sweep_view_frontier(view, arm, &frontiers[arm]);
    text_add(&page->out, "<h3>Results</h3>\n");
    legend_write(page, &view->arms);
    text_add(&page->out, "<div class=\"figures\">\n");
    write_results(page, view);
    write_frontier_figure(page, view, frontiers);
    text_add(&page->out, "</div>\n");
    tell_ends(page, view, lr_key);
    tell_leaders(page, view, frontiers);
    explain_frontier(page, view, frontiers);
    for (int64_t arm = 0; arm < view->arms.count; arm++) curve_close(&frontiers[arm].curve);
    free(frontiers);
    write_best_curves(page, view);
    write_parallel(page, view);
}
