#include "sweep/standings.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/memory.h"

static void add_settings(const SweepRecord *record, bool with_seed, Text *out) {
    Text raw = {0};
    text_add(&raw, record->arm);
    for (int64_t i = 0; i < record->setting_count; i++) {
        const SweepSetting *s = &record->settings[i];
        if (with_seed || strcmp(s->key, "run.seed") != 0)
            text_printf(&raw, "%s%s=%s", raw.size ? " " : "", s->key, s->value);
    }
    for (size_t i = 0; i < raw.size; i++)
        if (raw.data[i] == '\n' || raw.data[i] == '\t') raw.data[i] = ' '; // on its line
    text_escape(out, raw.data, raw.size);
    text_close(&raw);
}

void standings_settings(const SweepRecord *record, Text *out) { add_settings(record, true, out); }

void standings_counts(const SweepHistory *history, Text *out) {
    static const SweepStatus order[] = {SWEEP_FINISHED,  SWEEP_DIVERGED,     SWEEP_PRUNED,      SWEEP_OUT_OF_MEMORY,
                                        SWEEP_NO_DATA,   SWEEP_CANNOT_WRITE, SWEEP_REFUSED,     SWEEP_FAILED,
                                        SWEEP_RUNNING,   SWEEP_PAUSED,       SWEEP_INTERRUPTED, SWEEP_PLANNED};
    size_t before = out->size;
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        int64_t count = 0;
        for (int64_t r = 0; r < history->count; r++)
            count += history->records[r].planned && history->records[r].status == order[i];
        if (count > 0)
            text_printf(out, "%s%ld %s", out->size > before ? ", " : "", count, sweep_status_name(order[i]));
    }
}

// ---- the table ----

// What a run is placed by: its result; of one that was ended early what it had then, behind all results.
typedef struct {
    const SweepRecord *record;
    int class;
    double value;
    bool maximise;
} Place;

static Place place_of(const SweepHistory *history, const SweepRecord *record) {
    double result = sweep_result(history, record);
    Place place = {record, 0, result, history->maximise};
    if (isfinite(result)) return place;
    place.value = history->at_best ? record->best : record->metric;
    place.class = record->status == SWEEP_DIVERGED ? 2 : sweep_status_is_failure(record->status) ? 3 : 1;
    if (place.class > 1) place.value = NAN;
    if (record->status == SWEEP_PLANNED) place.class = 4;
    return place;
}

static int compare(const void *a, const void *b) {
    const Place *p = a, *q = b;
    if (p->class != q->class) return p->class < q->class ? -1 : 1;
    if (sweep_better(p->maximise, p->value, q->value)) return -1;
    if (sweep_better(p->maximise, q->value, p->value)) return 1;
    return p->record < q->record ? -1 : p->record > q->record; // as they were planned
}

// With as many decimals as all others of usual size have.
static void show(double value, char out[32]) {
    double size = fabs(value);
    snprintf(out, 32, size == 0 || (size >= 0.01 && size < 1e5) ? "%.4f" : "%.4g", value);
}

static void add_row(const Place *place, Text *out) {
    const SweepRecord *r = place->record;
    char value[32] = "", step[48] = "", wall[TEXT_NUMBER] = "";
    if (isfinite(place->value)) show(place->value, value);
    if (r->steps > 0) snprintf(step, sizeof step, "%ld/%ld", r->step, r->steps);
    else if (r->step > 0) snprintf(step, sizeof step, "%ld", r->step);
    if (r->wall > 0) text_duration(wall, r->wall);
    text_printf(out, "%s  %-13s  %10s  %13s  %8s  ", r->id, sweep_status_name(r->status), value, step, wall);
    standings_settings(r, out);
    text_add(out, "\n");
    if (*r->reason) {
        text_add(out, "              ");
        text_escape(out, r->reason, strlen(r->reason));
        text_add(out, "\n");
    }
}

static void add_groups(const SweepHistory *history, Text *out) {
    SweepGroup *groups;
    int64_t count = sweep_groups(history, &groups, NULL);
    bool head = false;
    for (int64_t i = 0; i < count; i++) {
        char mean[32];
        if (groups[i].seeds < 2) continue;
        if (!head) text_printf(out, "\nmean and standard error over seeds of %s\n", history->metric);
        head = true;
        show(groups[i].mean, mean);
        text_printf(out, "%10s +- %-8.2g  %ld seeds  ", mean, groups[i].error, groups[i].seeds);
        add_settings(groups[i].first, false, out);
        text_add(out, "\n");
    }
    free(groups);
}

void standings_print(const SweepHistory *history, Text *out) {
    Place *places = memory_take(history->count, sizeof *places, "a table of runs");
    int64_t count = 0;
    for (int64_t i = 0; i < history->count; i++)
        if (history->records[i].planned) places[count++] = place_of(history, &history->records[i]);
    qsort(places, (size_t)count, sizeof *places, compare);
    text_printf(out, "%-12s  %-13s  %10.10s  %13s  %8s\n", "run", "status", history->metric, "step", "time");
    for (int64_t i = 0; i < count; i++) add_row(&places[i], out);
    add_groups(history, out);
    free(places);
}
