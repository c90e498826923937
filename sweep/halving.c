#include "sweep/halving.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/memory.h"

int64_t halving_rungs(const Halving *halving, const HalvingRun *run, int64_t steps[HALVING_RUNGS]) {
    int64_t count = 0, every = run->every > 0 ? run->every : 1, eta = halving->eta > 1 ? halving->eta : 2;
    double rung = (double)halving->min_steps;
    for (; halving->min_steps > 0 && rung < (double)run->steps && count < HALVING_RUNGS; rung *= (double)eta) {
        int64_t step = ((int64_t)rung + every - 1) / every * every;
        if (step < run->steps && (count == 0 || step > steps[count - 1])) steps[count++] = step;
    }
    return count;
}

// ---- where runs stand ----

// A run at the rungs: how many are behind it, and its metric at each of them.
typedef struct {
    int64_t rungs, reached; // that it has, that are behind it
    int64_t steps[HALVING_RUNGS];
    double metrics[HALVING_RUNGS];
    bool counts_on; // it diverged on its way to the next one: there it is the worst
} Standing;

static Standing standing_of(const Halving *halving, const HalvingRun *run) {
    const SweepRecord *r = run->record;
    Standing s = {0};
    int64_t seen = 0;
    s.rungs = halving_rungs(halving, run, s.steps);
    for (; s.reached < s.rungs; s.reached++) {
        while (seen < r->rung_count && r->rungs[seen].step < s.steps[s.reached]) seen++;
        if (seen == r->rung_count && r->status != SWEEP_FINISHED) break;
        s.metrics[s.reached] = seen < r->rung_count ? r->rungs[seen].metric : r->metric;
    }
    s.counts_on = r->status == SWEEP_DIVERGED && s.reached < s.rungs;
    if (s.counts_on) s.metrics[s.reached] = NAN;
    return s;
}

static bool is_at(const Standing *s, int64_t rung) { return rung < s->reached || (rung == s->reached && s->counts_on); }

// Nothing keeps it from arriving at the next rung. One that is paused before the first one was so by another min_steps.
static bool is_under_way(const SweepRecord *record, int64_t reached) {
    return record->status == SWEEP_PLANNED || record->status == SWEEP_RUNNING ||
           record->status == SWEEP_INTERRUPTED || (record->status == SWEEP_PAUSED && reached == 0);
}

// A run at a rung.
typedef struct {
    double metric;
    int64_t run;
    bool maximise;
} Place;

// The best first; of runs that are alike the first.
static int compare(const void *a, const void *b) {
    const Place *p = a, *q = b;
    if (sweep_better(p->maximise, p->metric, q->metric)) return -1;
    if (sweep_better(p->maximise, q->metric, p->metric)) return 1;
    return (p->run > q->run) - (p->run < q->run);
}

// ---- moves ----

typedef struct {
    const Halving *halving;
    const HalvingRun *runs;
    Standing *standings;
    Place *places; // room for those at a rung
    int64_t count;
} Field;

static int64_t next_step(const Standing *s) { return s->reached < s->rungs ? s->steps[s->reached] : 0; }

// Those at a rung, the best first; returns how many.
static int64_t rank(Field *field, int64_t rung) {
    int64_t there = 0;
    for (int64_t i = 0; i < field->count; i++)
        if (is_at(&field->standings[i], rung))
            field->places[there++] = (Place){field->standings[i].metrics[rung], i, field->halving->maximise};
    qsort(field->places, (size_t)there, sizeof *field->places, compare);
    return there;
}

// Those that are paused at a rung. `complete`: no more can arrive there. Returns whether none of them goes on.
static bool decide(Field *field, int64_t rung, bool complete, HalvingMove *moves) {
    int64_t there = rank(field, rung), best = there / (field->halving->eta > 1 ? field->halving->eta : 2);
    bool none = true;
    if (complete && best == 0) best = 1;
    for (int64_t k = 0; k < there; k++) {
        int64_t i = field->places[k].run;
        if (field->runs[i].record->status != SWEEP_PAUSED || field->standings[i].reached != rung + 1) continue;
        moves[i].go = k < best;
        moves[i].prune = !moves[i].go && complete;
        none = none && !moves[i].go;
    }
    return none;
}

void halving_moves(const Halving *halving, const HalvingRun *runs, int64_t count, HalvingMove *moves) {
    Field field = {halving, runs, memory_take(count, sizeof *field.standings, "rungs of runs"),
                   memory_take(count, sizeof *field.places, "rungs of runs"), count};
    int64_t rungs = 0;
    bool complete = true;
    for (int64_t i = 0; i < count; i++) {
        SweepStatus status = runs[i].record->status;
        Standing *s = &field.standings[i];
        *s = standing_of(halving, &runs[i]);
        if (s->rungs > rungs) rungs = s->rungs;
        bool free_to_go = !sweep_status_is_result(status) && (status != SWEEP_PAUSED || s->reached == 0);
        moves[i] = (HalvingMove){.go = free_to_go, .until = next_step(s), .rung = s->reached};
    }
    for (int64_t rung = 0; rung < rungs; rung++) {
        for (int64_t i = 0; i < count; i++) {
            const Standing *s = &field.standings[i];
            if (s->reached == rung && rung < s->rungs && is_under_way(runs[i].record, s->reached)) complete = false;
        }
        complete = decide(&field, rung, complete, moves) && complete;
    }
    free(field.standings), free(field.places);
}
