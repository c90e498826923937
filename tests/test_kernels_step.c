// The loss and the decision of the step against the reference.
#include <math.h>

#include "tests/support_kernels.h"
#include "tests/test.h"

enum { ROWS = 4096, SEGMENTS = 3 };

static Twin scalars_twin(const StepScalars *scalars) { return twin_of_bytes("scalars", scalars, sizeof *scalars); }

// ---- segments ----

// Of `count` elements: all but some at the end of each segment, as padding is.
static void set_segments(Segment segments[SEGMENTS], int64_t count) {
    int64_t third = count / 3;
    segments[0] = (Segment){.offset = 0, .count = third - third / 8};
    segments[1] = (Segment){.offset = third, .count = third};
    segments[2] = (Segment){.offset = 2 * third, .count = count - 2 * third - count / 20};
}

static Segments segments_on(Twin segments, int side) { return (Segments){segments.on[side].data, SEGMENTS}; }

// ---- loss ----

enum { GRADIENT = 1, SQUARES = 2, HUGE_LOGITS = 4 };

// `in` words, `out` columns. Padding holds numbers that would win every softmax.
static void cross_entropy(const Sizes *s) {
    int64_t rows = s->b * s->t;
    int32_t targets[ROWS];
    for (int64_t i = 0; i < rows; i++) targets[i] = i % 5 == 3 ? (i % 2 ? -1 : -100) : (int32_t)(i * i % s->in);
    Twin losses = twin("losses", POISON, WIDE, rows, 0, 0), weights = twin("weights", POSITIVE, WEIGHTS, rows, 0, 0);
    Twin squares = s->variant & SQUARES ? twin("probability_squares", POISON, WIDE, rows, 0, 0) : TWIN_NONE;
    Twin logits = twin("logits", NORMAL, COMPUTE, rows, s->out, 0),
         target = twin_of_integers("targets", targets, rows, 0);
    for (int64_t i = 0; i < rows; i += 4) twin_set(weights, i, 0);
    for (int64_t i = 0; i < rows && s->variant & HUGE_LOGITS; i++) {
        twin_set(logits, i * s->out, i % 2 ? 3e4 : -3e4);
        twin_set(logits, i * s->out + s->in - 1, i % 3 ? 3e4 : -3e4);
    }
    for (int64_t i = 0; i < rows && s->variant & GRADIENT; i++)
        for (int64_t v = s->in; v < s->out; v++) twin_set(logits, i * s->out + v, 0x1p120);
    Twin scalars = scalars_twin(&(StepScalars){.inverse_weight = 1.0 / 37});
    BOTH(k, i) {
        CrossEntropy options = {.vocab = s->in, .gradient = s->variant & GRADIENT, .scalars = scalars.on[i].data};
        k->cross_entropy(losses.on[i], squares.on[i], logits.on[i], target.on[i], weights.on[i], &options);
    }
}

TEST(cross_entropy_equals_the_reference) {
    for (int variant = 0; variant < 8; variant++) {
        const Sizes list[] = {{.b = 1, .t = 1, .in = 1, .out = 1, .variant = variant},
                              {.b = 1, .t = 7, .in = 5, .out = 8, .variant = variant},
                              {.b = 3, .t = 43, .in = 67, .out = 130, .variant = variant},
                              {.b = 1, .t = 9, .in = 1237, .out = 1280, .variant = variant},
                              {.b = 1, .t = 2, .in = 1280, .out = 1280, .variant = variant},
                              {.b = 1, .t = 4, .in = 20003, .out = 20024, .variant = variant}};
        COMPARE_BACKENDS(cross_entropy, list, 32); // p carries the rounding of a log-sum of size 7
    }
    compare_backends(cross_entropy, &(Sizes){.b = 1, .t = 3, .in = 130000, .out = 130048, .variant = GRADIENT}, 32);
}

// One logit of row 1 of 3 is not finite: at the front, at the end, and in padding, where it does not matter.
static void cross_entropy_of_not_finite(const Sizes *s) {
    static const int64_t columns[] = {0, 1236, 1240};
    Twin losses = twin("losses", POISON, WIDE, 3, 0, 0), weights = twin("weights", POSITIVE, WEIGHTS, 3, 0, 0);
    Twin logits = twin("logits", NORMAL, COMPUTE, 3, 1280, 0);
    Twin target = twin_of_integers("targets", (const int32_t[]){5, 6, 7}, 3, 0);
    Twin scalars = scalars_twin(&(StepScalars){.inverse_weight = 1});
    twin_set(logits, 1280 + columns[s->in], s->out ? INFINITY : NAN);
    BOTH(k, i) {
        CrossEntropy options = {.vocab = 1237, .gradient = s->variant & GRADIENT, .scalars = scalars.on[i].data};
        k->cross_entropy(losses.on[i], TENSOR_NONE, logits.on[i], target.on[i], weights.on[i], &options);
        for (int64_t r = 0; r < 3; r++)
            assert_int_equal(isfinite(twin_get(losses, i, r)), r != 1 || columns[s->in] >= options.vocab);
    }
}

TEST(cross_entropy_hides_nothing_that_is_not_finite) {
    for (int64_t column = 0; column < 3; column++)
        for (int64_t infinite = 0; infinite < 2; infinite++)
            for (int variant = 0; variant <= GRADIENT; variant++)
                compare_backends(cross_entropy_of_not_finite,
                                 &(Sizes){.in = column, .out = infinite, .variant = variant}, 32);
}

static void loss_add(const Sizes *s) {
    int64_t rows = s->b * s->t;
    int32_t targets[ROWS];
    for (int64_t i = 0; i < rows; i++) targets[i] = i % 5 == 3 ? -1 : (int32_t)i;
    Twin status = twin("status", TEN, STATUS, STATUS_COUNT, 0, 0), losses = twin("losses", POSITIVE, WIDE, rows, 0, 0);
    Twin target = twin_of_integers("targets", targets, rows, 0),
         weights = twin("weights", POSITIVE, WEIGHTS, rows, 0, 0);
    BOTH(k, i) k->loss_add(status.on[i], losses.on[i], target.on[i], weights.on[i]);
}

// What lies between segments is NaN.
static void sum_squares(const Sizes *s) {
    Segment segments[SEGMENTS];
    set_segments(segments, s->in);
    Twin out = twin("out", POISON, STATUS, STATUS_COUNT, 0, 0), values = twin("values", NORMAL, WIDE, s->in, 0, 0);
    Twin segment = twin_of_bytes("segments", segments, sizeof segments);
    if (s->variant) twin_set(values, s->in / 2, 0x1p100); // its square is not in fp32
    for (int j = 0; j < SEGMENTS; j++) {
        int64_t end = j + 1 < SEGMENTS ? segments[j + 1].offset : s->in;
        for (int64_t i = segments[j].offset + segments[j].count; i < end; i++) twin_set(values, i, NAN);
    }
    BOTH(k, i) {
        Tensor sum = tensor_slice(out.on[i], 0, STATUS_GRAD_SQUARES, 1);
        k->sum_squares(sum, values.on[i], segments_on(segment, i));
        assert_true(isfinite(twin_get(out, i, STATUS_GRAD_SQUARES)));
    }
}

TEST(sums_equal_the_reference) {
    static const Sizes list[] = {{.b = 1, .t = 1, .in = 1},
                                 {.b = 1, .t = 7, .in = 7},
                                 {.b = 5, .t = 103, .in = 130001},
                                 {.b = 2, .t = 3, .in = 1000, .variant = 1}};
    COMPARE_BACKENDS(loss_add, list, 0x1p-24);
    COMPARE_BACKENDS(sum_squares, list, 0x1p-16); // sums of doubles in another order
}

// ---- the decision ----

static const struct {
    double squares, loss, clip;    // given
    double norm, factor, skip;     // expected
} decisions[] = {
    {4, 1, 0, 2, 1, 0},
    {4, 1, 1, 2, 0.5, 0},
    {4, 1, 2, 2, 1, 0},
    {0, 1, 1, 0, 1, 0},
    {1e-30, 1, 1, 1e-15, 1, 0},
    {4, NAN, 1, 2, 0.5, 1},
    {4, INFINITY, 0, 2, 1, 1},
    {NAN, 1, 1, NAN, 1, 1},
    {INFINITY, 1, 1, INFINITY, 0, 1},
    {1e36, 1, 0, 1e18, 1, 0},
    {1e40, 1, 0, 1e20, 1, 1}, // its square is not in fp32
    {1e40, 1, 1, 1e20, 1e-20, 0},
};

// A window of `count` accepted steps, the last bad one of which was `bad`: losses of 0.1 and norms of 2, or a little
// more, by turns. What was never filled is NaN.
static Twin window_twin(int64_t count, int64_t bad) {
    Twin window = twin("window", POISON, STATUS, WINDOW_SIZE, 0, 0);
    twin_set(window, WINDOW_COUNT, (double)count);
    twin_set(window, WINDOW_BAD, (double)bad);
    for (int64_t i = 0; i < count && i < SPIKE_WINDOW; i++) {
        twin_set(window, WINDOW_LOSSES + i, 0.1 + 0.01 * (double)(i % 2));
        twin_set(window, WINDOW_NORMS + i, 2 + 0.2 * (double)(i % 2));
    }
    return window;
}

static void step_decide(const Sizes *s) {
    Twin status = twin("status", TEN, STATUS, STATUS_COUNT, 0, 0), window = window_twin(0, 0);
    twin_set(status, STATUS_GRAD_SQUARES, decisions[s->variant].squares);
    twin_set(status, STATUS_LOSS_SUM, decisions[s->variant].loss);
    Twin scalars = scalars_twin(&(StepScalars){.t = 1, .clip = decisions[s->variant].clip, .spike_sigma = 1});
    BOTH(k, i) {
        k->step_decide(status.on[i], window.on[i], scalars.on[i].data);
        const double expected[] = {decisions[s->variant].norm, decisions[s->variant].factor,
                                   decisions[s->variant].skip};
        for (int j = 0; j < 3; j++) {
            double got = twin_get(status, i, STATUS_GRAD_NORM + j);
            if (!isnan(expected[j]) || !isnan(got)) CHECK_CLOSE(got, expected[j], isinf(expected[j]) ? 0 : 1e-15);
        }
        CHECK_CLOSE(twin_get(window, i, WINDOW_BAD), decisions[s->variant].skip, 0); // t is 1
        CHECK_CLOSE(twin_get(window, i, WINDOW_COUNT), 1 - decisions[s->variant].skip, 0);
    }
}

TEST(step_decides) {
    for (int i = 0; i < (int)(sizeof decisions / sizeof decisions[0]); i++)
        compare_backends(step_decide, &(Sizes){.variant = i}, 0);
}

// Step 1000 with a window: mean and deviation are 0.105 and 0.005 of losses, 2.1 and 0.1 of norms.
static const struct {
    double loss, norm, sigma;  // given; loss is the mean
    int64_t count, bad, seen;
    Skip skip;                 // expected
} judgements[] = {
    {0.1, 2, 6, 1000, 0, 999, SKIP_NONE},
    {0.134, 2.69, 6, 1000, 0, 999, SKIP_NONE},
    {0.136, 2, 6, 1000, 0, 999, SKIP_SPIKE},
    {0.1, 2.71, 6, 1000, 0, 999, SKIP_SPIKE},
    {0.1, 2.71, 6, 64, 0, 999, SKIP_SPIKE},
    {0.1, 2.71, 6, 63, 0, 999, SKIP_NONE}, // not half a window
    {0.1, 2.71, 6.2, 1000, 0, 999, SKIP_NONE},
    {100, 1e6, 0, 1000, 0, 999, SKIP_NONE}, // not looked for
    {-100, 0, 6, 1000, 0, 999, SKIP_NONE},  // below is no spike
    {NAN, 2, 6, 1000, 0, 999, SKIP_NOT_FINITE},
    {100, INFINITY, 6, 1000, 0, 999, SKIP_NOT_FINITE},
    {0.1, 2, 6, 1000, 999, 998, SKIP_HELD},
    {NAN, 2, 6, 1000, 999, 998, SKIP_HELD},
    {100, 2, 6, 1000, 999, 998, SKIP_HELD},
    {0.1, 2, 6, 1000, 999, 999, SKIP_NONE},
    {NAN, 2, 6, 1000, 998, 998, SKIP_NOT_FINITE},
};

static void step_judge(const Sizes *s) {
    int i = s->variant;
    Twin status = twin("status", TEN, STATUS, STATUS_COUNT, 0, 0);
    Twin window = window_twin(judgements[i].count, judgements[i].bad);
    twin_set(status, STATUS_GRAD_SQUARES, judgements[i].norm * judgements[i].norm);
    twin_set(status, STATUS_LOSS_SUM, judgements[i].loss * 10); // TEN is the weight
    Twin scalars = scalars_twin(&(StepScalars){.t = 1000, .seen = judgements[i].seen,
                                               .spike_sigma = judgements[i].sigma});
    BOTH(k, side) {
        bool accepted = judgements[i].skip == SKIP_NONE, held = judgements[i].skip == SKIP_HELD;
        int64_t place = WINDOW_NORMS + judgements[i].count % SPIKE_WINDOW;
        double before = twin_get(window, side, place);
        k->step_decide(status.on[side], window.on[side], scalars.on[side].data);
        CHECK_CLOSE(twin_get(status, side, STATUS_SKIP), judgements[i].skip, 0);
        CHECK_CLOSE(twin_get(window, side, WINDOW_COUNT), (double)(judgements[i].count + accepted), 0);
        CHECK_CLOSE(twin_get(window, side, WINDOW_BAD), accepted || held ? (double)judgements[i].bad : 1000, 0);
        double after = twin_get(window, side, place);
        if (accepted) CHECK_CLOSE(after, judgements[i].norm, 1e-12);
        else assert_true(after == before || (isnan(after) && isnan(before)));
    }
}

TEST(steps_are_judged_by_the_window) {
    for (int i = 0; i < (int)(sizeof judgements / sizeof judgements[0]); i++)
        compare_backends(step_judge, &(Sizes){.variant = i}, 0);
}

// Losses that never change, where every move would be one of any number of deviations.
static void step_of_constants(const Sizes *s) {
    Twin status = twin("status", TEN, STATUS, STATUS_COUNT, 0, 0), window = window_twin(1000, 0);
    for (int64_t i = 0; i < SPIKE_WINDOW; i++) twin_set(window, WINDOW_LOSSES + i, 0.1);
    twin_set(status, STATUS_GRAD_SQUARES, 4);
    twin_set(status, STATUS_LOSS_SUM, s->variant ? 1.007 : 1.005);
    Twin scalars = scalars_twin(&(StepScalars){.t = 1000, .seen = 999, .spike_sigma = 6});
    BOTH(k, i) {
        k->step_decide(status.on[i], window.on[i], scalars.on[i].data);
        CHECK_CLOSE(twin_get(status, i, STATUS_SKIP), s->variant ? SKIP_SPIKE : SKIP_NONE, 0);
    }
}

TEST(a_deviation_is_no_less_than_a_part_of_the_mean) {
    for (int variant = 0; variant < 2; variant++)
        compare_backends(step_of_constants, &(Sizes){.variant = variant}, 0);
}

// 400 steps, three times round the ring: bad ones at once and late, a spike before it is looked for, and two behind.
static void step_decide_often(const Sizes *s) {
    Twin status = twin("status", TEN, STATUS, STATUS_COUNT, 0, 0), window = window_twin(0, 0);
    Twin scalars = scalars_twin(&(StepScalars){0});
    int64_t skipped = 0;
    for (int64_t t = 1; t <= 400; t++) {
        bool bad = t == 1 || t == 3 || t == 200, spike = t == 150 || t == 390, early = t == 40;
        StepScalars now = {.t = t, .seen = t - 1, .spike_sigma = 6};
        twin_set(status, STATUS_GRAD_SQUARES, t == 3 ? NAN : spike || early ? 1e6 : 4 + (double)(t * 7 % 5));
        twin_set(status, STATUS_LOSS_SUM, t != 3 && bad ? INFINITY : 30 - (double)t / 100 + (double)(t * 3 % 4));
        skipped += bad || spike;
        BOTH(k, i) {
            k->upload(scalars.on[i], &now);
            k->step_decide(status.on[i], window.on[i], scalars.on[i].data);
            CHECK_CLOSE(twin_get(status, i, STATUS_SKIP), bad ? SKIP_NOT_FINITE : spike ? SKIP_SPIKE : SKIP_NONE, 0);
            CHECK_CLOSE(twin_get(window, i, WINDOW_COUNT), (double)(t - skipped), 0);
        }
    }
    BOTH(k, i)
        for (int64_t place = 0; place < WINDOW_SIZE; place++) assert_true(isfinite(twin_get(window, i, place)));
    (void)s;
}

TEST(the_window_goes_round_and_keeps_nothing_bad) { compare_backends(step_decide_often, &(Sizes){0}, 0); }

// Every operation on status, given one in fp32.
static void status_in_fp32(const void *operation) {
    float room[STATUS_COUNT] = {0}, numbers[1] = {0};
    int32_t target[1] = {0};
    double window[WINDOW_SIZE] = {0};
    Tensor status = tensor_1d(room, DTYPE_F32, STATUS_COUNT), one = tensor_1d(numbers, DTYPE_F32, 1);
    Tensor matrix = tensor_3d(numbers, DTYPE_F32, 1, 1, 1);
    StepScalars scalars = {0};
    Segment segment = {.count = 1, .gap = -1};
    Segments none = {NULL, 0};
    Update update = {.weights = one, .z = one, .state = one, .grads = one, .scalars = &scalars, .status = status};
    switch (*(const int *)operation) {
    case 0: cpu_kernels.loss_add(status, one, tensor_1d(target, DTYPE_I32, 1), one); break;
    case 1: cpu_kernels.sum_squares(tensor_slice(status, 0, 0, 1), one, none); break;
    case 2: cpu_kernels.step_decide(status, tensor_1d(window, DTYPE_F64, WINDOW_SIZE), &scalars); break;
    case 3: cpu_kernels.update(&update); break;
    case 4: cpu_kernels.readout_add(one, &update); break;
    case 5: cpu_kernels.momentum_mix(matrix, &update); break;
    case 6:
        update.segments = (Segments){&segment, 1};
        cpu_kernels.neuron_normalise(matrix, false, &update);
        break;
    }
}

TEST(status_is_refused_in_another_dtype) {
    char printed[1024];
    for (int operation = 0; operation < 7; operation++) {
        assert_int_equal(test_status_of(status_in_fp32, &operation, printed, sizeof printed), EXIT_INTERNAL);
        assert_non_null(strstr(printed, "f32 where f64 belongs"));
    }
}

// ---- threads ----

TEST(steps_are_equal_on_one_and_two_threads) {
    for (int variant = 0; variant < 4; variant++)
        compare_threads(cross_entropy, &(Sizes){.b = 3, .t = 71, .in = 1237, .out = 1280, .variant = variant});
    compare_threads(loss_add, &(Sizes){.b = 4, .t = 1024});
    compare_threads(sum_squares, &(Sizes){.in = 1000003});
}
