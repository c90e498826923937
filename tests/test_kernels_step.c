// The loss and the optimizer's step against the reference.
#include <math.h>

#include "tests/support_kernels.h"
#include "tests/test.h"

enum { ROWS = 4096, SEGMENTS = 3 };

static Twin scalars_twin(const StepScalars *scalars) { return twin_of_bytes("scalars", scalars, sizeof *scalars); }

// ---- segments ----

// Of `count` elements: all but some at the end of each segment, as padding is; routes and scales differ.
static void set_segments(Segment segments[SEGMENTS], int64_t count) {
    int64_t third = count / 3;
    segments[0] = (Segment){0, third - third / 8, RECIPE_MATRIX, 1, 1};
    segments[1] = (Segment){third, third, RECIPE_OTHER, 0.5f, 0};
    segments[2] = (Segment){2 * third, count - 2 * third - count / 20, RECIPE_OTHER, 2, 0.25f};
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
                              {.b = 1, .t = 9, .in = 1237, .out = 1280, .variant = variant}};
        COMPARE_BACKENDS(cross_entropy, list, 32); // p carries the rounding of a log-sum of size 7
    }
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
    static const Sizes list[] = {
        {.b = 1, .t = 1, .in = 1}, {.b = 1, .t = 7, .in = 7}, {.b = 5, .t = 103, .in = 130001}};
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

static void step_decide(const Sizes *s) {
    Twin status = twin("status", TEN, STATUS, STATUS_COUNT, 0, 0);
    twin_set(status, STATUS_GRAD_SQUARES, decisions[s->variant].squares);
    twin_set(status, STATUS_LOSS_SUM, decisions[s->variant].loss);
    Twin scalars = scalars_twin(&(StepScalars){.clip = decisions[s->variant].clip});
    BOTH(k, i) {
        k->step_decide(status.on[i], scalars.on[i].data);
        const double expected[] = {decisions[s->variant].norm, decisions[s->variant].factor,
                                   decisions[s->variant].skip};
        for (int j = 0; j < 3; j++) {
            double got = twin_get(status, i, STATUS_GRAD_NORM + j);
            if (!isnan(expected[j]) || !isnan(got)) CHECK_CLOSE(got, expected[j], isinf(expected[j]) ? 0 : 1e-15);
        }
    }
}

TEST(step_decides) {
    for (int i = 0; i < (int)(sizeof decisions / sizeof decisions[0]); i++)
        compare_backends(step_decide, &(Sizes){.variant = i}, 0);
}

// Every operation on status, given one in fp32.
static void status_in_fp32(const void *operation) {
    float room[STATUS_COUNT] = {0}, numbers[1] = {0};
    int32_t target[1] = {0};
    Tensor status = tensor_1d(room, DTYPE_F32, STATUS_COUNT), one = tensor_1d(numbers, DTYPE_F32, 1);
    StepScalars scalars = {0};
    Segments none = {NULL, 0};
    switch (*(const int *)operation) {
    case 0: cpu_kernels.loss_add(status, one, tensor_1d(target, DTYPE_I32, 1), one); break;
    case 1: cpu_kernels.sum_squares(tensor_slice(status, 0, 0, 1), one, none); break;
    case 2: cpu_kernels.step_decide(status, &scalars); break;
    case 3: cpu_kernels.adamw_update(&(AdamwUpdate){one, one, one, one, one, none, &scalars, status}); break;
    }
}

TEST(status_is_refused_in_another_dtype) {
    char printed[1024];
    for (int operation = 0; operation < 4; operation++) {
        assert_int_equal(test_status_of(status_in_fp32, &operation, printed, sizeof printed), EXIT_INTERNAL);
        assert_non_null(strstr(printed, "f32 where f64 belongs"));
    }
}

// ---- AdamW ----

enum { SKIP = 1, ALIASED = 2, NO_EPSILON = 4 };

static StepScalars adamw_scalars(double epsilon) {
    return (StepScalars){.t = 3,
                         .recipe = {[RECIPE_MATRIX] = {0.25, 0.1, 0.9, 0.95, epsilon, 0.271, 0.142625},
                                    [RECIPE_OTHER] = {0.5, 0.3, 0.8, 0.99, epsilon, 0.488, 0.029701}}};
}

static void adamw(const Sizes *s) {
    Segment segments[SEGMENTS];
    set_segments(segments, s->in);
    StepScalars step = adamw_scalars(s->variant & NO_EPSILON ? 0 : 1e-3);
    Twin z = twin("z", NORMAL, WIDE, s->in, 0, 0), grads = twin("grads", NORMAL, WIDE, s->in, 0, 0);
    Twin m = twin("m", NORMAL, WIDE, s->in, 0, 0), v = twin("v", POSITIVE, WIDE, s->in, 0, 0);
    Twin status = twin("status", TEN, STATUS, STATUS_COUNT, 0, 0), scalars = scalars_twin(&step);
    Twin segment = twin_of_bytes("segments", segments, sizeof segments);
    bool aliased = s->variant & ALIASED && twin_get(z, 0, 0) == twin_get(z, 1, 0);
    Twin weights = twin("weights", POISON, COMPUTE, s->in, 0, 0);
    for (int i = 0; i < 2; i++) aliased = aliased && weights.on[i].dtype == z.on[i].dtype;
    for (int64_t i = 0; i < s->in; i += 3) { // gradient and state that are 0
        twin_set(grads, i, 0);
        if (i % 2 == 0) twin_set(m, i, 0), twin_set(v, i, 0);
    }
    if (s->variant & NO_EPSILON) twin_set(v, 0, 0), twin_set(m, 0, 1); // a mean beside a square that has vanished
    twin_set(status, STATUS_CLIP_FACTOR, 0.75);
    twin_set(status, STATUS_SKIP, s->variant & SKIP ? 1 : 0);
    if (s->variant & SKIP) twin_set(grads, 1, NAN);
    BOTH(k, i)
        k->adamw_update(&(AdamwUpdate){.weights = aliased ? z.on[i] : weights.on[i], .z = z.on[i], .grads = grads.on[i],
                                       .m = m.on[i], .v = v.on[i], .segments = segments_on(segment, i),
                                       .scalars = scalars.on[i].data, .status = status.on[i]});
}

TEST(adamw_equals_the_reference) {
    for (int variant = 0; variant < 8; variant++) {
        const Sizes list[] = {{.in = 61, .variant = variant}, {.in = 1000, .variant = variant}};
        COMPARE_BACKENDS(adamw, list, 16);
    }
}

// Segments that end inside and at the ends of blocks of threads.
TEST(adamw_over_many_elements) { compare_backends(adamw, &(Sizes){.in = 200003}, 16); }

// What the formula says of one element, on either side of a comparison.
static void adamw_one(const Sizes *s) {
    Segment all = {0, 2, RECIPE_MATRIX, 1, 1};
    Twin segment = twin_of_bytes("segments", &all, sizeof all);
    Twin scalars = scalars_twin(&(StepScalars){.recipe = {{0.5, 0.5, 0.5, 0.75, 0, 0.5, 0.25}}});
    Twin z = twin("z", TEN, WIDE, 2, 0, 0), grads = twin("grads", TEN, WIDE, 2, 0, 0);
    Twin m = twin("m", TEN, WIDE, 2, 0, 0), v = twin("v", TEN, WIDE, 2, 0, 0);
    Twin weights = twin("weights", POISON, COMPUTE, 2, 0, 0), status = twin("status", TEN, STATUS, STATUS_COUNT, 0, 0);
    const struct { Twin twin; double values[2]; } set[] = {{z, {2, 4}}, {grads, {8, 0}}, {m, {0, 0}}, {v, {0, 0}}};
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 2; j++) twin_set(set[i].twin, j, set[i].values[j]);
    twin_set(status, STATUS_CLIP_FACTOR, 0.5);
    twin_set(status, STATUS_SKIP, 0);
    BOTH(k, i) {
        k->adamw_update(&(AdamwUpdate){weights.on[i], z.on[i], grads.on[i], m.on[i], v.on[i],
                                       {segment.on[i].data, 1}, scalars.on[i].data, status.on[i]});
        // g = 4, m = 2, v = 4, d = (2 / 0.5) / sqrt(4 / 0.25) = 1, z = 2 - (0.5 + 0.5 0.5 2); then d = 0 / 0 = 0
        const double expected[] = {2, 4, 1, 3};
        const double got[] = {twin_get(m, i, 0), twin_get(v, i, 0), twin_get(z, i, 0), twin_get(z, i, 1)};
        for (int j = 0; j < 4; j++) CHECK_CLOSE(got[j], expected[j], 1e-6 * (double)s->in);
    }
}

TEST(adamw_by_hand) { compare_backends(adamw_one, &(Sizes){.in = 1}, 4); }

// Without epsilon, in fp32: gradients whose squares vanish or have few digits move nothing far.
TEST(adamw_without_epsilon_takes_no_long_steps) {
    enum { COUNT = 64, STEPS = 20 };
    Errors errors = {0};
    assert_true(cpu_kernels.open(1, &errors));
    float z[COUNT] = {0}, grads[COUNT], m[COUNT] = {0}, v[COUNT] = {0};
    double status[STATUS_COUNT] = {[STATUS_CLIP_FACTOR] = 1};
    for (int i = 0; i < COUNT; i++) grads[i] = (float)pow(10, -30 + i / 4.0); // 1e-30, ..., 1e-23, ..., 6e-15
    for (int t = 1; t <= STEPS; t++) {
        Segment all = {0, COUNT, RECIPE_MATRIX, 1, 1};
        StepScalars scalars = {.recipe = {{1, 0, 0.9, 0.95, 0, 1 - pow(0.9, t), 1 - pow(0.95, t)}}};
        float before[COUNT];
        memcpy(before, z, sizeof z);
        Tensor weights = tensor_1d(z, DTYPE_F32, COUNT);
        cpu_kernels.adamw_update(&(AdamwUpdate){
            weights, weights, tensor_1d(grads, DTYPE_F32, COUNT), tensor_1d(m, DTYPE_F32, COUNT),
            tensor_1d(v, DTYPE_F32, COUNT), {&all, 1}, &scalars, tensor_1d(status, DTYPE_F64, STATUS_COUNT)});
        for (int i = 0; i < COUNT; i++) assert_true(fabsf(z[i] - before[i]) < 2);
    }
    assert_true(z[0] == 0);                        // g^2 is 0 in fp32
    CHECK_CLOSE(z[COUNT - 1], -STEPS, 1e-3);       // and here has all its digits
}

// ---- threads ----

TEST(steps_are_equal_on_one_and_two_threads) {
    for (int variant = 0; variant < 4; variant++)
        compare_threads(cross_entropy, &(Sizes){.b = 3, .t = 71, .in = 1237, .out = 1280, .variant = variant});
    compare_threads(loss_add, &(Sizes){.b = 4, .t = 1024});
    compare_threads(sum_squares, &(Sizes){.in = 1000003});
    compare_threads(adamw, &(Sizes){.in = 300007});
    compare_threads(adamw, &(Sizes){.in = 300007, .variant = ALIASED});
}
