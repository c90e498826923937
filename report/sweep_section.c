#include <math.h>
#include <string.h>

#include "report/sweep_view.h"
#include "runtime/file.h"

// ---- at a glance ----

// The record is of ended processes, the metrics tell of the one at work.
static double seconds_of(const SweepView *view, int64_t record) {
    return fmax(view->history.records[record].seconds, view->facts[record].seconds);
}

static double sum(const SweepView *view, bool tokens) {
    double total = 0;
    for (int64_t i = 0; i < view->history.count; i++) {
        double value = tokens ? view->facts[i].tokens : seconds_of(view, i);
        if (isfinite(value)) total += value;
    }
    return total;
}

static double total_energy(const SweepView *view) {
    double total = NAN;
    for (int64_t i = 0; i < view->history.count; i++) {
        double energy = view->history.records[i].energy;
        if (isfinite(energy)) total = isnan(total) ? energy : total + energy;
    }
    return total;
}

static void write_cards(Page *page, const SweepView *view) {
    const SweepHistory *h = &view->history;
    char n[TEXT_NUMBER];
    Text best = {0};
    const SweepRecord *record = sweep_best(h);
    cards_begin(page);
    snprintf(n, sizeof n, "%ld", h->count);
    card(page, "runs", n);
    for (int s = 0; s < SWEEP_STATUSES; s++) {
        int64_t count = 0;
        for (int64_t i = 0; i < h->count; i++) count += h->records[i].status == (SweepStatus)s;
        snprintf(n, sizeof n, "%ld", count);
        if (count > 0) card(page, sweep_status_name((SweepStatus)s), n);
    }
    if (record) text_printf(&best, "%s", markup_number(n, sweep_result(h, record), 5));
    if (record) text_printf(&best, " by %s", view->arms.items[view->arm[record - h->records]]);
    card(page, h->maximise ? "highest result" : "lowest result", text_string(&best));
    card(page, "tokens", count_text(n, sum(view, true)));
    card(page, "training time, all runs", duration_text(n, sum(view, false)));
    card(page, "energy", energy_text(n, total_energy(view)));
    cards_end(page);
    text_close(&best);
}

// ---- the best of each arm ----

static void add_settings(const SweepRecord *record, Text *out) {
    for (int64_t i = 0; i < record->setting_count; i++)
        text_printf(out, "%s%s=%s", i ? ", " : "", record->settings[i].key, record->settings[i].value);
}

static void add_command(const SweepView *view, const SweepRecord *record, Text *out) {
    char name[64], path[4096];
    snprintf(name, sizeof name, "configs/%s.json", record->id);
    path_join(path, view->dir, name);
    text_add(out, "train_gpt train ");
    text_add_shell(out, path);
    text_printf(out, " run.dir=runs/%s-again", record->id);
}

static void write_best_row(Page *page, const SweepView *view, int64_t arm) {
    char n[TEXT_NUMBER];
    int64_t best = view->best[arm];
    const SweepRecord *record = &view->history.records[best];
    const SweepGroup *group = &view->groups[view->group[best]];
    Text settings = {0}, command = {0};
    add_settings(record, &settings);
    add_command(view, record, &command);
    page_row(page);
    page_cell(page, view->arms.items[arm]);
    page_number(page, group->mean, markup_number(n, group->mean, 5));
    page_number(page, group->error, markup_number(n, group->error, 2));
    page_number(page, (double)group->seeds, markup_number(n, (double)group->seeds, 10));
    page_cell(page, text_string(&settings));
    page_code(page, text_string(&command));
    text_close(&settings);
    text_close(&command);
}

static void write_best(Page *page, const SweepView *view) {
    text_add(&page->out, "<h3>The best of each arm</h3>\n");
    if (!sweep_best(&view->history)) text_add(&page->out, "<p class=\"soft\">No run has a result yet.</p>\n");
    if (!sweep_best(&view->history)) return;
    page_table(page, true);
    page_head(page, "arm");
    page_number_head(page, "mean result");
    page_number_head(page, "standard error");
    page_number_head(page, "seeds");
    page_head(page, "settings of its best run");
    page_head(page, "the same again");
    for (int64_t arm = 0; arm < view->arms.count; arm++)
        if (view->best[arm] >= 0) write_best_row(page, view, arm);
    page_table_end(page);
}

// ---- all runs ----

static const char *status_class(SweepStatus status) {
    if (status == SWEEP_FINISHED) return "good";
    return status == SWEEP_DIVERGED || sweep_status_is_failure(status) ? "bad" : "wait";
}

static void write_run_row(Page *page, const SweepView *view, int64_t index, bool energy) {
    const SweepRecord *r = &view->history.records[index];
    char n[TEXT_NUMBER];
    const RunFacts *facts = &view->facts[index];
    bool ended = r->status != SWEEP_RUNNING;
    double last = ended ? r->metric : facts->last, best = ended ? r->best : facts->best;
    double speed = ended ? r->tokens_per_second : facts->speed, seconds = seconds_of(view, index);
    page_row(page);
    page_code(page, r->id);
    page_cell(page, view->arms.items[view->arm[index]]);
    markup(&page->out, "<td class=\"status %s\">%s</td>", status_class(r->status), sweep_status_name(r->status));
    page_number(page, last, markup_number(n, last, 5));
    page_number(page, best, markup_number(n, best, 5));
    for (int64_t k = 0; k < view->history.key_count; k++) {
        const char *value = sweep_view_setting(view, index, view->history.keys[k]);
        double number = sweep_view_number(view, index, view->history.keys[k]);
        if (isfinite(number)) page_number(page, number, value);
        else page_cell(page, value);
    }
    int64_t reached = r->step > facts->steps ? r->step : facts->steps;
    page_number(page, (double)reached, markup_number(n, (double)reached, 15));
    page_number(page, r->steps ? (double)r->steps : NAN, markup_number(n, (double)r->steps, 15));
    page_number(page, facts->tokens, count_text(n, facts->tokens));
    page_number(page, speed, count_text(n, speed));
    page_number(page, seconds > 0 ? seconds : NAN, duration_text(n, seconds));
    page_number(page, (double)r->attempts, markup_number(n, (double)r->attempts, 15));
    if (energy) page_number(page, r->energy, energy_text(n, r->energy));
    page_cell(page, r->reason);
}

// The best result first; what has none comes last, in the order of the plan.
static void write_all(Page *page, const SweepView *view) {
    static const char *const words[] = {"run", "arm", "status"}, *const numbers[] = {"last", "best"};
    static const char *const behind[] = {"step", "of", "tokens", "tokens/s", "time", "attempts"};
    const SweepHistory *h = &view->history;
    bool energy = isfinite(total_energy(view));
    markup(&page->out, "<h3>All runs</h3>\n<p class=\"soft\">last and best: %s.</p>\n", h->metric);
    page_table(page, true);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) page_head(page, words[i]);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) page_number_head(page, numbers[i]);
    for (int64_t k = 0; k < h->key_count; k++)
        (sweep_view_is_number(view, h->keys[k]) ? page_number_head : page_head)(page, h->keys[k]);
    for (size_t i = 0; i < sizeof behind / sizeof behind[0]; i++) page_number_head(page, behind[i]);
    if (energy) page_number_head(page, "energy");
    page_head(page, "reason");
    double last = NAN;
    for (int64_t done = 0; done < h->count;) { // those with one result together, from the best on
        double next = NAN;
        for (int64_t i = 0; i < h->count; i++) {
            double result = sweep_view_result(view, i);
            bool later = done == 0 || sweep_better(h->maximise, last, result);
            if (isfinite(result) && later && (isnan(next) || sweep_better(h->maximise, result, next))) next = result;
        }
        for (int64_t i = 0; i < h->count; i++) {
            double result = sweep_view_result(view, i);
            bool now = isnan(next) ? !isfinite(result) : result == next;
            if (now) write_run_row(page, view, i, energy);
            done += now;
        }
        last = next;
    }
    page_table_end(page);
}

// ---- what went wrong ----

static void write_failures(Page *page, const SweepView *view) {
    const SweepHistory *h = &view->history;
    bool any = false;
    for (int64_t i = 0; i < h->count; i++) {
        const SweepRecord *r = &h->records[i];
        bool failed = r->status == SWEEP_DIVERGED || sweep_status_is_failure(r->status);
        if (!failed) continue;
        if (!any) text_add(&page->out, "<h3>Diverged and failed</h3>\n<ul>\n");
        any = true;
        markup(&page->out, "<li><code>%s</code> <bdi>%s</bdi>: <span class=\"status bad\">%s</span>", r->id,
               view->arms.items[view->arm[i]], sweep_status_name(r->status));
        if (*r->reason) markup(&page->out, ", <bdi>%s</bdi>", r->reason);
        markup(&page->out, " <span class=\"soft\">(its log: logs/%s.log)</span></li>\n", r->id);
    }
    if (any) text_add(&page->out, "</ul>\n");
}

static void write_troubles(Page *page, const SweepView *view) {
    for (int64_t i = 0; i < view->history.count; i++)
        if (view->facts[i].trouble.count)
            markup(&page->out, "<p class=\"trouble\"><code>%s</code>: not all of it could be read. %s</p>\n",
                   view->history.records[i].id, text_string(&view->facts[i].trouble.text));
}

// ---- the whole ----

void sweep_section(Page *page, const SweepView *view) {
    write_troubles(page, view);
    write_cards(page, view);
    if (view->history.count == 0) {
        text_add(&page->out, "<p class=\"soft\">No run was planned yet.</p>\n");
        return;
    }
    write_best(page, view);
    sweep_figures(page, view);
    write_all(page, view);
    write_failures(page, view);
}
