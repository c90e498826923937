// Successive halving: which runs may go on, by records made by hand.
#include <math.h>

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
