// Learning-rate curves.
#include <math.h>

#include "optim/schedule.h"
#include "tests/test.h"

static Schedule schedule(ScheduleKind kind) {
    return (Schedule){.kind = kind, .warmup = 10, .steps = 110, .final = 0.1, .decay_fraction = 0.2};
}

TEST(every_schedule_warms_up_linearly) {
    for (ScheduleKind kind = SCHEDULE_CONSTANT; kind <= SCHEDULE_INVERSE_SQRT; kind++) {
        Schedule s = schedule(kind);
        for (int64_t t = 1; t <= 10; t++) CHECK_CLOSE(schedule_factor(&s, t), (double)t / 10, 1e-15);
    }
}

TEST(schedules_reach_their_ends) {
    static const struct {
        ScheduleKind kind;
        double half, end; // at t = 60 and t = 110
    } rows[] = {{SCHEDULE_CONSTANT, 1, 1},
                {SCHEDULE_LINEAR, 0.55, 0.1},
                {SCHEDULE_COSINE, 0.55, 0.1},
                {SCHEDULE_WSD, 1, 0.1},
                {SCHEDULE_TRAPEZOID, 1, 0.1},
                {SCHEDULE_INVERSE_SQRT, 0.408248290463863, 0.301511344577764}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Schedule s = schedule(rows[i].kind);
        CHECK_CLOSE(schedule_factor(&s, 60), rows[i].half, 1e-14);
        CHECK_CLOSE(schedule_factor(&s, 110), rows[i].end, 1e-14);
        CHECK_CLOSE(schedule_factor(&s, 1000), rows[i].end, 1e-14);
    }
}

TEST(schedules_begin_before_the_first_step) {
    for (ScheduleKind kind = SCHEDULE_CONSTANT; kind <= SCHEDULE_INVERSE_SQRT; kind++) {
        Schedule s = schedule(kind);
        CHECK_CLOSE(schedule_factor(&s, 0), 0, 0);
        CHECK_CLOSE(schedule_factor(&s, -3), 0, 0);
        s.warmup = 0;
        CHECK_CLOSE(schedule_factor(&s, 0), 1, 0);
        CHECK_CLOSE(schedule_factor(&s, -3), 1, 0);
    }
}

TEST(wsd_decays_in_its_last_share_of_the_run) {
    Schedule s = schedule(SCHEDULE_WSD);
    CHECK_CLOSE(schedule_factor(&s, 88), 1, 1e-14); // 110 - 0.2 * 110
    CHECK_CLOSE(schedule_factor(&s, 99), 0.55, 1e-12);
    s.decay_fraction = 1; // longer than what warmup leaves
    CHECK_CLOSE(schedule_factor(&s, 110), 0.1, 1e-14);
    CHECK_CLOSE(schedule_factor(&s, 60), 0.55, 1e-12);
}

// Of each shape, a quarter, a half and three quarters through the decay from 1 to 0.1.
TEST(wsd_decays_by_its_shape) {
    static const struct {
        DecayShape shape;
        double quarter, half, three;
    } rows[] = {{SHAPE_LINEAR, 0.75, 0.5, 0.25},
                {SHAPE_SQRT, 0.866025403784439, 0.707106781186548, 0.5},
                {SHAPE_1_SQRT, 0.5, 0.292893218813452, 0.133974596215561},
                {SHAPE_SQUARE, 0.5625, 0.25, 0.0625},
                {SHAPE_COSINE, 0.853553390593274, 0.5, 0.146446609406726}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Schedule s = {.kind = SCHEDULE_WSD, .warmup = 10, .steps = 100, .final = 0.1, .decay_fraction = 0.4};
        s.shape = rows[i].shape;
        CHECK_CLOSE(schedule_factor(&s, 60), 1, 1e-14);
        CHECK_CLOSE(schedule_factor(&s, 70), 0.1 + 0.9 * rows[i].quarter, 1e-14);
        CHECK_CLOSE(schedule_factor(&s, 80), 0.1 + 0.9 * rows[i].half, 1e-14);
        CHECK_CLOSE(schedule_factor(&s, 90), 0.1 + 0.9 * rows[i].three, 1e-14);
        CHECK_CLOSE(schedule_factor(&s, 100), 0.1, 1e-14);
    }
}

TEST(wsd_may_decay_by_equal_factors) {
    Schedule s = {.kind = SCHEDULE_WSD, .warmup = 10, .steps = 100, .final = 0.01, .decay_fraction = 0.4,
                  .shape = SHAPE_EXP};
    CHECK_CLOSE(schedule_factor(&s, 60), 1, 1e-14);
    CHECK_CLOSE(schedule_factor(&s, 80), 0.1, 1e-14);
    CHECK_CLOSE(schedule_factor(&s, 100), 0.01, 1e-14);
    s.final = 0; // it cannot end there
    CHECK_CLOSE(schedule_factor(&s, 100), 1e-3, 1e-14);
}

TEST(trapezoid_is_wsd_in_a_straight_line) {
    Schedule trapezoid = schedule(SCHEDULE_TRAPEZOID), wsd = schedule(SCHEDULE_WSD);
    trapezoid.shape = SHAPE_SQUARE; // not read
    for (int64_t t = 0; t <= 120; t++) CHECK_CLOSE(schedule_factor(&trapezoid, t), schedule_factor(&wsd, t), 0);
}

TEST(inverse_sqrt_without_warmup_begins_at_1) {
    for (int64_t steps = 1; steps <= 1000; steps *= 10) {
        Schedule s = {.kind = SCHEDULE_INVERSE_SQRT, .steps = steps};
        for (int64_t t = 1; t <= steps; t++) CHECK_CLOSE(schedule_factor(&s, t), 1 / sqrt((double)t), 1e-14);
    }
}

TEST(schedules_are_finite_for_degenerate_runs) {
    for (ScheduleKind kind = SCHEDULE_CONSTANT; kind <= SCHEDULE_INVERSE_SQRT; kind++) {
        for (int64_t n = 0; n < 4 * 5 * 6; n++) {
            Schedule s = {.kind = kind, .warmup = n % 5, .steps = n / 5 % 4, .final = 0, .decay_fraction = 0,
                          .shape = (DecayShape)(n / 20)};
            for (int64_t t = -1; t <= 5; t++) {
                double factor = schedule_factor(&s, t);
                assert_true(isfinite(factor) && factor >= 0 && factor <= 1);
            }
        }
    }
}
