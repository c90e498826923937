#include "sweep/dry_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/memory.h"

enum { COLUMNS = 6, GAP = 2, NAMED = 6 };
static const char *const heads[COLUMNS] = {"run", "arm", "memory", "time", "status", "settings"};

typedef struct {
    const Search *search;
    const Forecast *forecasts;
    const SweepHistory *history;
} Table;

static const SweepRecord *find_record(const Table *table, int64_t run) { // NULL: none
    return table->history ? sweep_record(table->history, table->search->runs[run].id) : NULL;
}

static bool is_done(const Table *table, int64_t run) {
    const SweepRecord *record = find_record(table, run);
    return record && sweep_status_is_result(record->status);
}

static void add_settings(const SearchRun *run, Text *out) {
    for (int64_t i = 0; i < run->settings.count; i++) text_printf(out, "%s%s", i ? " " : "", run->settings.items[i]);
}

static void add_cell(const Table *table, int64_t run, int column, Text *out) {
    char number[TEXT_NUMBER];
    const SearchRun *r = &table->search->runs[run];
    const Forecast *f = &table->forecasts[run];
    const SweepRecord *record = find_record(table, run);
    Text raw = {0};
    switch (column) {
    case 0: text_add(&raw, r->id); break;
    case 1: text_add(&raw, r->arm >= 0 ? table->search->arms.items[r->arm] : ""); break;
    case 2: text_add(&raw, f->bytes > 0 ? text_bytes(number, f->bytes) : "?"); break;
    case 3: text_add(&raw, isnan(f->seconds) ? "?" : text_duration(number, f->seconds)); break;
    case 4: text_add(&raw, record ? sweep_status_name(record->status) : !f->good ? "cannot run" : "new"); break;
    default: add_settings(r, &raw); break;
    }
    text_escape(out, raw.data, raw.size);
    text_close(&raw);
}

static void print_row(const Table *table, int64_t run, const int64_t widths[COLUMNS]) {
    for (int c = 0; c < COLUMNS; c++) {
        Text cell = {0};
        if (run < 0) text_add(&cell, heads[c]);
        else add_cell(table, run, c, &cell);
        if (c + 1 < COLUMNS) text_pad(&cell, 0, widths[c] + GAP);
        if (widths[c] > 0) fputs(text_string(&cell), stdout);
        text_close(&cell);
    }
    putchar('\n');
}

static void print_table(const Table *table, const int64_t *order) {
    int64_t widths[COLUMNS] = {0};
    for (int c = 0; c < COLUMNS; c++) {
        for (int64_t run = 0; run < table->search->count; run++) {
            Text cell = {0};
            add_cell(table, run, c, &cell);
            int64_t width = text_width(text_string(&cell));
            if (widths[c] < width) widths[c] = width;
            text_close(&cell);
        }
        if (widths[c] > 0 && widths[c] < text_width(heads[c])) widths[c] = text_width(heads[c]);
    }
    print_row(table, -1, widths);
    for (int64_t i = 0; i < table->search->count; i++) print_row(table, order[i], widths);
}

// ---- problems ----

static bool same_problem(const Forecast *a, const Forecast *b) {
    return !a->good && !b->good && strcmp(text_string(&a->problem), text_string(&b->problem)) == 0;
}

// Each once, with the runs that have it.
static void print_problems(const Table *table) {
    for (int64_t i = 0; i < table->search->count; i++) {
        const Forecast *f = &table->forecasts[i];
        bool told = f->good;
        for (int64_t k = 0; k < i && !told; k++) told = same_problem(&table->forecasts[k], f);
        if (told) continue;
        printf("\ncannot run (exit %d):", f->exit_code);
        int64_t named = 0;
        for (int64_t k = i; k < table->search->count; k++)
            if (same_problem(&table->forecasts[k], f) && named++ < NAMED) printf(" %s", table->search->runs[k].id);
        if (named > NAMED) printf(" and %ld more", named - NAMED);
        text_print(stdout, "\n%s", text_string(&f->problem));
    }
}

// ---- totals ----

typedef struct {
    int64_t runs, done, bad, unknown;
    double seconds, device_seconds; // of what is left; GPUs, or cores
    double wall;
    bool host;
    double bytes, there; // of those that may run at once, on the CPU
} Totals;

// What is left, longest first, each to the slot that is free first.
static Totals add_up(const Table *table, const int64_t *order, int64_t slots) {
    Totals t = {0};
    double *busy = memory_take(slots, sizeof *busy, "slots");
    for (int64_t i = 0; i < table->search->count; i++) {
        const Forecast *f = &table->forecasts[order[i]];
        int64_t earliest = 0;
        if (is_done(table, order[i])) t.done++;
        else if (!f->good) t.bad++;
        else if (isnan(f->seconds)) t.unknown++;
        if (!f->good || is_done(table, order[i])) continue;
        t.host = f->host;
        if (t.runs++ < slots && f->host) t.bytes += f->bytes, t.there = f->there;
        if (isnan(f->seconds)) continue;
        t.seconds += f->seconds;
        t.device_seconds += f->seconds * (double)(f->host ? f->threads : table->search->gpus_per_run);
        for (int64_t s = 1; s < slots; s++)
            if (busy[s] < busy[earliest]) earliest = s;
        busy[earliest] += f->seconds;
    }
    for (int64_t s = 0; s < slots; s++) t.wall = fmax(t.wall, busy[s]);
    free(busy);
    return t;
}

static void add_part(Text *out, int64_t count, const char *what) {
    if (count) text_printf(out, ", %ld %s", count, what);
}

static void print_totals(const Table *table, const Totals *t, int64_t slots) {
    const Search *s = table->search;
    char work[TEXT_NUMBER], wall[TEXT_NUMBER], bytes[TEXT_NUMBER], there[TEXT_NUMBER];
    Text parts = {0};
    add_part(&parts, t->done, "done");
    add_part(&parts, t->bad, "that cannot run");
    add_part(&parts, s->excluded, "left out");
    add_part(&parts, s->duplicates, "duplicates");
    add_part(&parts, t->unknown, "whose time is not known");
    printf("\n%ld run%s%s\n", s->count, s->count == 1 ? "" : "s", text_string(&parts));
    text_close(&parts);
    if (t->runs == 0) return;
    printf("%ld to run: %s of work, %.3g %s-hours; about %s on %ld slot%s\n", t->runs, text_duration(work, t->seconds),
           t->device_seconds / 3600, t->host ? "core" : "GPU", text_duration(wall, t->wall), slots,
           slots == 1 ? "" : "s");
    if (s->max_seconds > 0 && t->wall > s->max_seconds)
        printf("budget.max_hours ends it after %s: some will be left\n", text_duration(wall, s->max_seconds));
    if (t->there > 0 && t->bytes > t->there)
        printf("side by side they may need %s of memory, and there are %s: use fewer slots\n",
               text_bytes(bytes, t->bytes), text_bytes(there, t->there));
}

void dry_run_print(const Search *search, const Forecast *forecasts, int64_t slots, const SweepHistory *history) {
    Table table = {search, forecasts, history};
    int64_t *order = forecast_order(forecasts, search->count);
    if (slots < 1) slots = 1;
    if (search->max_parallel > 0 && slots > search->max_parallel) slots = search->max_parallel;
    Totals totals = add_up(&table, order, slots);
    text_print(stdout, "%s: the runs of %s, by %s\n\n", search->name, search->dir, search->metric);
    print_table(&table, order);
    print_problems(&table);
    print_totals(&table, &totals, slots);
    free(order);
}
