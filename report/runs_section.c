#include "report/runs_section.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/figure.h"

// ---- numbers ----

const char *energy_text(char out[TEXT_NUMBER], double joules) {
    static const struct {
        double from, divisor;
        const char *unit;
    } rows[] = {{3.6e6, 3.6e6, "kWh"}, {3.6e3, 3.6e3, "Wh"}, {0, 1, "J"}};
    *out = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && !*out; i++)
        if (joules >= rows[i].from) snprintf(out, TEXT_NUMBER, "%.4g %s", joules / rows[i].divisor, rows[i].unit);
    return out;
}

const char *count_text(char out[TEXT_NUMBER], double count) { return isfinite(count) ? text_count(out, count) : ""; }

const char *duration_text(char out[TEXT_NUMBER], double seconds) {
    return isfinite(seconds) ? text_duration(out, seconds) : "";
}

// ---- cards ----

void cards_begin(Page *page) { text_add(&page->out, "<div class=\"cards\">\n"); }

void card(Page *page, const char *name, const char *value) {
    if (*value) markup(&page->out, "<dl class=\"card\"><dt>%s</dt><dd><bdi>%s</bdi></dd></dl>\n", name, value);
}

void cards_end(Page *page) { text_add(&page->out, "</div>\n"); }

// "3.42 at step 600".
static void add_best(const RunFacts *f, Text *out) {
    char number[TEXT_NUMBER];
    if (isnan(f->best)) return;
    text_add(out, markup_number(number, f->best, 5));
    if (!isnan(f->best_step) && f->best_step != (double)f->steps) text_printf(out, " at step %.0f", f->best_step);
}

static void add_progress(const RunFacts *f, Text *out) {
    text_printf(out, "%ld", f->steps);
    if (isfinite(f->planned_steps)) text_printf(out, " of %.0f", f->planned_steps);
}

static void write_cards(Page *page, const RunFacts *f, const char *metric) {
    char number[TEXT_NUMBER];
    Text text = {0};
    cards_begin(page);
    run_facts_model(f, &text);
    card(page, "model", text_string(&text));
    card(page, "parameters", count_text(number, f->parameters));
    card(page, "optimizer", run_facts_setting(f, "optim.name"));
    card(page, "device", f->device);
    text_clear(&text);
    add_progress(f, &text);
    card(page, "steps", text_string(&text));
    card(page, "tokens", count_text(number, f->tokens));
    text_clear(&text);
    add_best(f, &text);
    bool is_loss = strcmp(metric, metric_facts[METRIC_VAL_LOSS].name) == 0;
    card(page, is_loss ? "best validation loss" : metric, text_string(&text));
    card(page, is_loss ? "last validation loss" : "last", markup_number(number, f->last, 5));
    card(page, "last training loss", markup_number(number, f->last_loss, 5));
    card(page, "training time", duration_text(number, f->seconds));
    card(page, "tokens per second", count_text(number, f->speed));
    card(page, "energy", energy_text(number, f->energy));
    card(page, "steps skipped", f->skipped > 0 ? markup_number(number, f->skipped, 10) : "");
    cards_end(page);
    text_close(&text);
}

static void write_run_row(Page *page, const RunFacts *f, const char *name, bool energy) {
    char n[TEXT_NUMBER];
    Text text = {0};
    page_row(page);
    page_cell(page, name);
    run_facts_model(f, &text);
    page_cell(page, text_string(&text));
    page_cell(page, run_facts_setting(f, "optim.name"));
    page_cell(page, f->device);
    page_number(page, f->parameters, count_text(n, f->parameters));
    text_clear(&text);
    add_progress(f, &text);
    page_number(page, (double)f->steps, text_string(&text));
    page_number(page, f->tokens, count_text(n, f->tokens));
    page_number(page, f->best, markup_number(n, f->best, 5));
    page_number(page, f->last, markup_number(n, f->last, 5));
    page_number(page, f->last_loss, markup_number(n, f->last_loss, 5));
    page_number(page, f->seconds, duration_text(n, f->seconds));
    page_number(page, f->speed, count_text(n, f->speed));
    page_number(page, f->skipped, markup_number(n, f->skipped, 10));
    if (energy) page_number(page, f->energy, energy_text(n, f->energy));
    text_close(&text);
}

static void write_runs_table(Page *page, const RunSet *set) {
    static const char *const words[] = {"run", "model", "optimizer", "device"};
    static const char *const numbers[] = {"parameters", "steps",    "tokens",  "best",   "last", "training loss",
                                          "time",       "tokens/s", "skipped", "energy"};
    bool energy = false;
    for (int64_t i = 0; i < set->count; i++) energy = energy || isfinite(set->runs[i].energy);
    page_table(page, true);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) page_head(page, words[i]);
    for (size_t i = 0; i + !energy < sizeof numbers / sizeof numbers[0]; i++) page_number_head(page, numbers[i]);
    for (int64_t i = 0; i < set->count; i++) write_run_row(page, &set->runs[i], set->names.items[i], energy);
    page_table_end(page);
}

// ---- figures ----

static const Axis along_axes[ALONGS] = {
    {"step", UNIT_COUNT, false}, {"tokens", UNIT_COUNT, false}, {"training time", UNIT_SECONDS, false},
    {"floating-point operations", UNIT_FLOPS, false}};

static void add_trace(Figure *figure, const RunSet *set, Trace trace, bool raw) {
    for (int64_t i = 0; i < set->count; i++) {
        const Curve *curve = &set->runs[i].traces[trace];
        if (raw && curve->count > 2)
            figure_add(figure, (Series){.mark = MARK_BAND, .colour = (int)i, .name = "", .curve = curve});
        figure_add(figure, (Series){.mark = MARK_LINE, .colour = (int)i, .name = set->names.items[i], .curve = curve});
    }
}

static bool has_trace(const RunSet *set, Trace trace) {
    for (int64_t i = 0; i < set->count; i++)
        if (set->runs[i].traces[trace].count > 0) return true;
    return false;
}

static bool knows_along(const RunSet *set, int along) {
    for (int64_t i = 0; i < set->count; i++)
        for (int t = TRACE_METRIC; t <= TRACE_LOSS; t++) {
            const Curve *curve = &set->runs[i].traces[t];
            if (curve->count > 0 && isfinite(curve->points[curve->count - 1].x[along])) return true;
        }
    return false;
}

enum { RAW_RUNS = 3 }; // behind so many smoothed curves the raw ones can still be told apart

static void write_trace(Page *page, const RunSet *set, Trace trace, Along along) {
    const TraceRow *row = &trace_rows[trace];
    bool metric = trace == TRACE_METRIC;
    bool own_metric = metric && strcmp(set->metric, metric_facts[row->metric].name) != 0;
    bool raw = row->smooth && set->count <= RAW_RUNS;
    char note[160];
    int64_t reach = 0;
    for (int64_t i = 0; i < set->count; i++) reach = set->runs[i].reach > reach ? set->runs[i].reach : reach;
    Figure figure = {.title = own_metric ? set->metric : row->title, .x = along_axes[along], .along = along,
                     .y = {own_metric ? "" : row->label, row->unit, row->log}, .from_zero = true,
                     .calm = trace >= TRACE_SPEED && trace <= TRACE_MEMORY,
                     .cut = trace == TRACE_LOSS ? 20 : metric && !set->maximise ? 8 : 0, .end_labels = set->count > 1};
    snprintf(note, sizeof note, "mean over up to %ld lines around each; %s", 2 * reach + 1,
             raw ? "behind it, the least and the greatest" : "raw values are not shown");
    if (row->smooth && reach > 0) figure.note = note;
    add_trace(&figure, set, trace, raw);
    figure_write(&figure, page);
}

void runs_curves(Page *page, const RunSet *set) {
    static const char *const names[ALONGS] = {"steps", "tokens", "time", "FLOPs"};
    const char *known[ALONGS];
    Along alongs[ALONGS];
    int count = 0;
    for (int along = 0; along < ALONGS; along++)
        if (knows_along(set, along)) known[count] = names[along], alongs[count++] = (Along)along;
    legend_write(page, &set->names);
    if (count == 0) text_add(&page->out, "<p class=\"soft\">No step was logged yet.</p>\n");
    if (count == 0) return;
    page_tabs(page, known, count);
    for (int i = 0; i < count; i++) {
        page_pane(page, i);
        text_add(&page->out, "<div class=\"figures\">\n");
        write_trace(page, set, TRACE_METRIC, alongs[i]);
        write_trace(page, set, TRACE_LOSS, alongs[i]);
        text_add(&page->out, "</div>\n");
    }
    page_end_tabs(page);
}

// Those of the GPU, and of further evaluations, where there are any.
static void write_traces(Page *page, const RunSet *set) {
    text_add(&page->out, "<div class=\"figures\">\n");
    for (int t = TRACE_RATE_OF_LEARNING; t < TRACES; t++)
        if (has_trace(set, (Trace)t)) write_trace(page, set, (Trace)t, ALONG_STEPS);
    text_add(&page->out, "</div>\n");
}

// ---- configuration ----

static bool differs(const RunSet *set, const char *key) {
    for (int64_t i = 1; i < set->count; i++)
        if (strcmp(run_facts_setting(&set->runs[0], key), run_facts_setting(&set->runs[i], key)) != 0) return true;
    return false;
}

static bool has_key(const TextList *keys, const char *key) {
    for (int64_t i = 0; i < keys->count; i++)
        if (strcmp(keys->items[i], key) == 0) return true;
    return false;
}

// Keys of any run; where it was put is no part of what it is.
static void list_keys(const RunSet *set, TextList *different, TextList *same) {
    for (int64_t i = 0; i < set->count; i++)
        for (int64_t k = 0; k < set->runs[i].keys.count; k++) {
            const char *key = set->runs[i].keys.items[k];
            if (strcmp(key, "run.dir") == 0 || has_key(different, key) || has_key(same, key)) continue;
            text_list_add(differs(set, key) ? different : same, key);
        }
}

static void write_configuration(Page *page, const RunSet *set) {
    TextList different = {0}, same = {0};
    list_keys(set, &different, &same);
    text_add(&page->out, "<h3>Configuration</h3>\n");
    if (different.count > 0) {
        page_table(page, true);
        page_head(page, "run");
        for (int64_t k = 0; k < different.count; k++) page_head(page, different.items[k]);
        for (int64_t i = 0; i < set->count; i++) {
            page_row(page);
            page_cell(page, set->names.items[i]);
            for (int64_t k = 0; k < different.count; k++)
                page_cell(page, run_facts_setting(&set->runs[i], different.items[k]));
        }
        page_table_end(page);
    }
    markup(&page->out, "<details><summary>%s</summary>\n", set->count > 1 ? "what is the same in all" : "all options");
    page_table(page, true);
    page_head(page, "key");
    page_head(page, "value");
    for (int64_t k = 0; k < same.count; k++) {
        page_row(page);
        page_cell(page, same.items[k]);
        page_cell(page, run_facts_setting(&set->runs[0], same.items[k]));
    }
    page_table_end(page);
    text_add(&page->out, "</details>\n");
    text_list_close(&different);
    text_list_close(&same);
}

static void write_origins(Page *page, const RunSet *set) {
    text_add(&page->out, "<details><summary>how they came about</summary>\n");
    page_table(page, false);
    static const char *const heads[] = {"run", "command", "host", "program"};
    for (int i = 0; i < 4; i++) page_head(page, heads[i]);
    for (int64_t i = 0; i < set->count; i++) {
        const RunFacts *f = &set->runs[i];
        Text command = {0};
        for (int64_t w = 0; w < f->command.count; w++) {
            if (w > 0) text_add(&command, " ");
            text_add_shell(&command, f->command.items[w]);
        }
        page_row(page);
        page_cell(page, set->names.items[i]);
        page_code(page, text_string(&command));
        page_cell(page, f->host);
        page_cell(page, f->program);
        text_close(&command);
    }
    page_table_end(page);
    text_add(&page->out, "</details>\n");
}

// ---- the whole ----

void runs_names(RunSet *set) {
    for (int64_t i = 0; i < set->count; i++) {
        bool alone = true;
        for (int64_t k = 0; k < set->count; k++)
            alone = alone && (k == i || strcmp(set->runs[k].name, set->runs[i].name) != 0);
        text_list_add(&set->names, alone ? set->runs[i].name : set->runs[i].dir);
    }
}

void runs_troubles(Page *page, const RunSet *set) {
    for (int64_t i = 0; i < set->count; i++) {
        const Errors *trouble = &set->runs[i].trouble;
        if (trouble->count)
            markup(&page->out, "<p class=\"trouble\"><bdi>%s</bdi>: not all could be read. %s</p>\n",
                   set->names.items[i], text_string(&trouble->text));
    }
}

static void write_events(Page *page, const RunSet *set) {
    for (int64_t i = 0; i < set->count; i++) {
        const RunFacts *f = &set->runs[i];
        if (f->event_count == 0) continue;
        markup(&page->out, "<p class=\"soft\"><bdi>%s</bdi>: ", set->names.items[i]);
        for (int64_t e = 0; e < f->events.count; e++) markup(&page->out, "%s%s", e ? ", " : "", f->events.items[e]);
        if (f->event_count > f->events.count) markup(&page->out, " and %ld more", f->event_count - f->events.count);
        text_add(&page->out, "</p>\n");
    }
}

void runs_section(Page *page, const RunSet *set) {
    runs_troubles(page, set);
    if (set->count == 1) write_cards(page, &set->runs[0], set->metric);
    else write_runs_table(page, set);
    write_events(page, set);
    runs_curves(page, set);
    write_traces(page, set);
    write_configuration(page, set);
    write_origins(page, set);
}
