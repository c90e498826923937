// Successive halving: which runs may go on, by records made by hand.
#include <math.h>

#include "runtime/philox.h"
#include "sweep/halving.h"
#include "tests/test.h"

enum { RUNS = 9 };

typedef struct {
    SweepRecord records[RUNS];
    SweepRung rungs[RUNS][4];
    HalvingRun runs[RUNS];
    HalvingMove moves[RUNS];
    int64_t count;
} Table;

static const Halving thirds = {.min_steps = 10, .eta = 3};

// Runs of 100 steps, evaluated every 5: rungs at 10, 30, 90.
static Table *table_of(int64_t count) {
    Table *t = test_take(sizeof *t);
    t->count = count;
    for (int i = 0; i < count; i++) {
        t->records[i].rungs = t->rungs[i];
        t->runs[i] = (HalvingRun){&t->records[i], 100, 5};
    }
    return t;
}

static void pause_at(Table *t, int run, int64_t step, double metric) {
    SweepRecord *r = &t->records[run];
    r->status = SWEEP_PAUSED;
    r->rungs[r->rung_count++] = (SweepRung){r->step = step, r->metric = metric};
}

// "g10 w p . g0": goes to 10, waits, is pruned, has a result, goes to its end.
static void moves(Table *t, const Halving *halving, const char *expected) {
    Text text = {0};
    halving_moves(halving, t->runs, t->count, t->moves);
    for (int i = 0; i < t->count; i++) {
        const HalvingMove *m = &t->moves[i];
        bool over = sweep_status_is_result(t->records[i].status);
        assert_false(m->go && m->prune);
        if (i) text_add(&text, " ");
        if (m->go) text_printf(&text, "g%ld", m->until);
        else text_add(&text, m->prune ? "p" : over ? "." : "w");
    }
    if (strcmp(text_string(&text), expected) != 0) fail_msg("%s, expected %s", text_string(&text), expected);
    text_close(&text);
}

TEST(rungs_are_evaluations_below_the_end) {
    int64_t steps[HALVING_RUNGS];
    const SweepRecord none = {0};
    static const struct {
        Halving halving;
        int64_t steps, every, count, rungs[4];
    } rows[] = {{{10, 3, false}, 100, 5, 3, {10, 30, 90}},  {{10, 3, false}, 90, 5, 2, {10, 30}},
                {{10, 3, false}, 100, 25, 2, {25, 50}},     {{10, 3, false}, 10, 1, 0, {0}},
                {{1, 2, false}, 30, 10, 2, {10, 20}},       {{7, 2, false}, 30, 0, 3, {7, 14, 28}},
                {{0, 3, false}, 100, 5, 0, {0}}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        HalvingRun run = {&none, rows[i].steps, rows[i].every};
        int64_t count = halving_rungs(&rows[i].halving, &run, steps);
        assert_int_equal(count, rows[i].count);
        for (int k = 0; k < count; k++) assert_int_equal(steps[k], rows[i].rungs[k]);
    }
}

TEST(the_best_third_goes_on_before_the_others_arrive) {
    Table *t = table_of(4);
    moves(t, &thirds, "g10 g10 g10 g10");
    pause_at(t, 0, 10, 5);
    pause_at(t, 1, 10, 4);
    moves(t, &thirds, "w w g10 g10");
    pause_at(t, 2, 10, 6);
    moves(t, &thirds, "w g30 w g10");
    t->records[3].status = SWEEP_RUNNING;
    moves(t, &thirds, "w g30 w g10"); // it may be one that was killed
    assert_int_equal(t->moves[1].rung, 1);
    free(t);
}

TEST(when_no_more_can_arrive_the_rest_is_pruned) {
    Table *t = table_of(4);
    for (int i = 0; i < 4; i++) pause_at(t, i, 10, 4 - i);
    moves(t, &thirds, "p p p g30");
    t->records[3].status = SWEEP_RUNNING;
    moves(t, &thirds, "p p p g30");
    for (int i = 0; i < 3; i++) t->records[i].status = SWEEP_PRUNED;
    pause_at(t, 3, 30, 1);
    moves(t, &thirds, ". . . g90"); // alone at its rung
    pause_at(t, 3, 90, 1);
    moves(t, &thirds, ". . . g0");
    t->records[3].status = SWEEP_FINISHED;
    moves(t, &thirds, ". . . .");
    free(t);
}

TEST(a_rung_waits_for_all_that_may_come_from_below) {
    Table *t = table_of(6);
    for (int i = 0; i < 5; i++) pause_at(t, i, 10, i + 1);
    pause_at(t, 0, 30, 1); // 1 of 5 went on, the sixth is on its way
    t->records[5].status = SWEEP_INTERRUPTED;
    moves(t, &thirds, "w w w w w g10");
    pause_at(t, 5, 10, 9);
    moves(t, &thirds, "w g30 p p p p"); // two of six: the second may still come
    pause_at(t, 1, 30, 3);
    moves(t, &thirds, "g90 p p p p p");
    free(t);
}

TEST(one_that_paused_before_the_first_rung_is_waited_for) {
    Table *t = table_of(3);
    for (int i = 0; i < 2; i++) pause_at(t, i, 10, i);
    pause_at(t, 2, 5, 9); // where min_steps was 5
    moves(t, &thirds, "w w g10");
    free(t);
}

TEST(diverged_is_worst_and_failed_counts_nowhere) {
    Table *t = table_of(3);
    t->records[0].status = SWEEP_DIVERGED;
    t->records[1].status = SWEEP_DIVERGED;
    pause_at(t, 2, 10, 8);
    moves(t, &thirds, ". . g30"); // the best of three
    t->records[0].status = SWEEP_FAILED;
    t->records[1].status = SWEEP_PLANNED;
    moves(t, &thirds, "g10 g10 w"); // one of one, and another will come
    t->records[1].status = SWEEP_REFUSED;
    moves(t, &thirds, "g10 g10 g30");
    free(t);
    t = table_of(6);
    for (int i = 0; i < 3; i++) t->records[i].status = SWEEP_DIVERGED;
    for (int i = 3; i < 6; i++) pause_at(t, i, 10, i);
    moves(t, &thirds, ". . . g30 g30 p"); // two of six
    free(t);
}

TEST(a_metric_that_is_none_is_worst_and_of_equals_the_first_goes_on) {
    Table *t = table_of(3);
    pause_at(t, 0, 10, NAN);
    pause_at(t, 1, 10, 2);
    pause_at(t, 2, 10, 2);
    moves(t, &thirds, "p g30 p");
    Halving most = thirds;
    most.maximise = true;
    t->records[2].rungs[0].metric = 3;
    moves(t, &most, "p p g30");
    free(t);
}

TEST(what_finished_without_rungs_counts_at_all_of_them) {
    Table *t = table_of(3);
    t->records[0] = (SweepRecord){.status = SWEEP_FINISHED, .step = 100, .metric = 1, .rungs = t->rungs[0]};
    pause_at(t, 1, 10, 2);
    pause_at(t, 2, 10, 3);
    moves(t, &thirds, ". p p"); // one of three goes on, and it did
    free(t);
}

// ---- the rule, pair by pair ----

static bool is_behind(const Table *t, int run, int64_t rung, int64_t rungs) {
    return rung < rungs && (t->records[run].status == SWEEP_FINISHED || rung < t->records[run].rung_count);
}

static int64_t rungs_of(const Table *t, int run) {
    int64_t steps[HALVING_RUNGS];
    return halving_rungs(&thirds, &t->runs[run], steps);
}

static bool is_at(const Table *t, int run, int64_t rung) {
    const SweepRecord *r = &t->records[run];
    bool on_its_way = r->status == SWEEP_DIVERGED && rung == r->rung_count && rung < rungs_of(t, run);
    return on_its_way || is_behind(t, run, rung, rungs_of(t, run));
}

static double metric_at(const Table *t, int run, int64_t rung) {
    const SweepRecord *r = &t->records[run];
    if (rung < r->rung_count) return r->rungs[rung].metric;
    return r->status == SWEEP_FINISHED ? r->metric : NAN;
}

static bool is_better(const Table *t, int a, int b, int64_t rung, bool maximise) {
    double x = metric_at(t, a, rung), y = metric_at(t, b, rung);
    return sweep_better(maximise, x, y) || (!sweep_better(maximise, y, x) && a < b);
}

// Whether one that is paused at a rung is among its best.
static bool is_among_best(const Table *t, const Halving *halving, int run, bool complete) {
    int64_t rung = t->records[run].rung_count - 1, there = 0, better = 0;
    for (int other = 0; other < t->count; other++) {
        if (!is_at(t, other, rung)) continue;
        there++;
        better += other != run && is_better(t, other, run, rung, halving->maximise);
    }
    int64_t best = there / halving->eta;
    return better < (complete && best == 0 ? 1 : best);
}

// Whether one may still arrive at a rung: it is on its way there or to one below, or may go on from one below.
static bool may_arrive(const Table *t, const Halving *halving, int64_t rung) {
    for (int i = 0; i < t->count; i++) {
        const SweepRecord *r = &t->records[i];
        bool goes = r->status == SWEEP_PLANNED || r->status == SWEEP_RUNNING || r->status == SWEEP_INTERRUPTED ||
                    (r->status == SWEEP_PAUSED && r->rung_count == 0);
        if (goes && r->rung_count <= rung && r->rung_count < rungs_of(t, i)) return true;
        if (r->status != SWEEP_PAUSED || r->rung_count > rung) continue;
        if (is_among_best(t, halving, i, !may_arrive(t, halving, r->rung_count - 1))) return true;
    }
    return false;
}

static void check_moves(Table *t, const Halving *halving) {
    halving_moves(halving, t->runs, t->count, t->moves);
    for (int i = 0; i < t->count; i++) {
        const SweepRecord *r = &t->records[i];
        bool paused = r->status == SWEEP_PAUSED && r->rung_count > 0;
        bool complete = paused && !may_arrive(t, halving, r->rung_count - 1);
        bool go = paused ? is_among_best(t, halving, i, complete) : !sweep_status_is_result(r->status);
        assert_int_equal(t->moves[i].go, go);
        assert_int_equal(t->moves[i].prune, complete && !go);
    }
}

// Metrics of few values, so that many are alike; some are none.
static void fill(Table *t, uint64_t seed) {
    static const SweepStatus statuses[] = {SWEEP_PAUSED, SWEEP_PAUSED, SWEEP_PAUSED,   SWEEP_PAUSED,
                                           SWEEP_PRUNED, SWEEP_FAILED, SWEEP_FINISHED, SWEEP_DIVERGED,
                                           SWEEP_RUNNING, SWEEP_INTERRUPTED, SWEEP_PLANNED};
    int64_t steps[HALVING_RUNGS], draws = 0;
#define DRAW(n) ((int64_t)(philox_u64(seed, STREAM_TEST, 0, (uint64_t)draws++) % (uint64_t)(n)))
    int64_t kinds = DRAW(4) ? 8 : 11; // in most tables none is under way
    for (int i = 0; i < t->count; i++) {
        t->runs[i].steps = DRAW(3) ? 100 : 20;
        int64_t reached = DRAW(halving_rungs(&thirds, &t->runs[i], steps) + 1);
        for (int64_t k = 0; k < reached; k++) pause_at(t, i, steps[k], DRAW(6) ? (double)DRAW(4) : NAN);
        t->records[i].status = statuses[DRAW(kinds)];
        t->records[i].metric = DRAW(6) ? (double)DRAW(4) : NAN;
    }
#undef DRAW
}

TEST(moves_are_what_comparing_all_pairs_gives) {
    for (uint64_t seed = 0; seed < 3000; seed++) {
        Table *t = table_of(1 + (int64_t)(seed % RUNS));
        Halving halving = thirds;
        halving.maximise = seed & 1;
        fill(t, seed);
        check_moves(t, &halving);
        free(t);
    }
}
