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

TEST(schedules_are_finite_for_degenerate_runs) {
    for (ScheduleKind kind = SCHEDULE_CONSTANT; kind <= SCHEDULE_INVERSE_SQRT; kind++) {
        for (int64_t steps = 0; steps <= 3; steps++) {
            for (int64_t warmup = 0; warmup <= 4; warmup++) {
                Schedule s = {.kind = kind, .warmup = warmup, .steps = steps, .final = 0, .decay_fraction = 0};
                for (int64_t t = -1; t <= 5; t++) {
                    double factor = schedule_factor(&s, t);
                    assert_true(isfinite(factor) && factor >= 0 && factor <= 1);
                }
            }
        }
    }
}
