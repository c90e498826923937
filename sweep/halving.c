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

// Nothing keeps it from arriving at the next rung.
static bool is_under_way(const SweepRecord *record) {
    return record->status == SWEEP_PLANNED || record->status == SWEEP_RUNNING || record->status == SWEEP_INTERRUPTED;
}

// How many of those at a rung are better than run i; of runs that are alike the first is.
static int64_t rank_of(const Halving *halving, const Standing *all, int64_t count, int64_t i, int64_t rung) {
    int64_t better = 0;
    for (int64_t j = 0; j < count; j++) {
        if (j == i || !is_at(&all[j], rung)) continue;
        double a = all[j].metrics[rung], b = all[i].metrics[rung];
        bool alike = !sweep_better(halving->maximise, a, b) && !sweep_better(halving->maximise, b, a);
        better += alike ? j < i : sweep_better(halving->maximise, a, b);
    }
    return better;
}

// ---- moves ----

static int64_t next_step(const Standing *s) { return s->reached < s->rungs ? s->steps[s->reached] : 0; }

// Those that are paused at a rung. `complete`: no more can arrive there. Returns whether none of them goes on.
static bool decide(const Halving *halving, const HalvingRun *runs, const Standing *all, int64_t count, int64_t rung,
                   bool complete, HalvingMove *moves) {
    int64_t there = 0;
    bool none = true;
    for (int64_t i = 0; i < count; i++) there += is_at(&all[i], rung);
    int64_t best = there / (halving->eta > 1 ? halving->eta : 2);
    if (complete && best == 0) best = 1;
    for (int64_t i = 0; i < count; i++) {
        if (runs[i].record->status != SWEEP_PAUSED || all[i].reached != rung + 1) continue;
        moves[i].go = rank_of(halving, all, count, i, rung) < best;
        moves[i].prune = !moves[i].go && complete;
        none = none && !moves[i].go;
    }
    return none;
}

void halving_moves(const Halving *halving, const HalvingRun *runs, int64_t count, HalvingMove *moves) {
    Standing *all = memory_take(count, sizeof *all, "rungs of runs");
    int64_t rungs = 0;
    bool complete = true;
    for (int64_t i = 0; i < count; i++) {
        SweepStatus status = runs[i].record->status;
        all[i] = standing_of(halving, &runs[i]);
        if (all[i].rungs > rungs) rungs = all[i].rungs;
        bool free_to_go = !sweep_status_is_result(status) && (status != SWEEP_PAUSED || all[i].reached == 0);
        moves[i] = (HalvingMove){.go = free_to_go, .until = next_step(&all[i]), .rung = all[i].reached};
    }
    for (int64_t rung = 0; rung < rungs; rung++) {
        for (int64_t i = 0; i < count; i++)
            if (all[i].reached == rung && rung < all[i].rungs && is_under_way(runs[i].record)) complete = false;
        complete = decide(halving, runs, all, count, rung, complete, moves) && complete;
    }
    free(all);
}
