// The update of the flat buffers, and what is read out of them, against the reference.
#include <math.h>

#include "tests/reference/reference.h"
#include "tests/support_kernels.h"
#include "tests/test.h"

enum { SEGMENTS = 4, PARTS = SEGMENT_SLOTS + 1, GIVEN_ROWS = 3, PACKED = 8 };

// Ways of calling: how the segments move, and what else is unusual.
enum { PLAIN, GAP_AT_Z, GAP_AT_Y, AFTER, GAP_AFTER, MODES };
enum { SKIP = 1, ALIASED = 2, NO_EPSILON = 4, SHORT = 8, WAYS = 16 }; // SHORT: a small gradient

static int variant_of(int direction, int mode, int way) { return (direction * MODES + mode) * WAYS + way; }
static Direction direction_in(int variant) { return (Direction)(variant / WAYS / MODES); }
static int mode_in(int variant) { return variant / WAYS % MODES; }

static const int slots[DIRECTION_COUNT] = {
#define D(name, count) [DIRECTION_##name] = count,
    DIRECTIONS(D)
#undef D
};

// ---- tensors ----

// Elements of each of equal segments that leave holes.
static int64_t given_count(int64_t count) { return GIVEN_ROWS * (count / SEGMENTS / GIVEN_ROWS - 1); }

// Of `count` elements: segments with holes between them and behind the last, equal ones where each has a matrix. z is
// as long and PACKED more, and in another order, but where it is the weights themselves. Their state is one flat buffer
// per slot, the gap behind them. One segment does not average.
static void set_segments(Segment segments[SEGMENTS], int64_t count, int variant) {
    int64_t quarter = count / SEGMENTS;
    int mode = mode_in(variant);
    bool gapped = mode == GAP_AT_Z || mode == GAP_AT_Y || mode == GAP_AFTER;
    static const int64_t trimmed[SEGMENTS] = {3, 0, 7, 1};
    static const float lr[SEGMENTS] = {1, 0.5f, 2, 1}, decay[SEGMENTS] = {1, 0, 0.25f, 2};
    for (int i = 0; i < SEGMENTS; i++) {
        Segment *s = &segments[i];
        bool given = direction_in(variant) == DIRECTION_GIVEN;
        *s = (Segment){.offset = i * quarter,
                       .count = given ? given_count(count) : quarter - trimmed[i],
                       .z = variant & ALIASED ? i * quarter : PACKED / 2 + (SEGMENTS - 1 - i) * quarter,
                       .gap = gapped && i != 1 ? SEGMENT_SLOTS * count + i * quarter : -1,
                       .route = i % 2 ? RECIPE_OTHER : RECIPE_MATRIX,
                       .direction = (int32_t)direction_in(variant),
                       .decay_at = mode == AFTER || mode == GAP_AFTER ? DECAY_AFTER
                                   : mode == GAP_AT_Y                 ? DECAY_AT_Y
                                                                      : DECAY_AT_Z,
                       .lr_scale = lr[i], .decay_scale = decay[i], .move_scale = 1.5f - (float)i / 4};
        for (int slot = 0; slot < SEGMENT_SLOTS; slot++)
            s->slot[slot] = slot < slots[s->direction] ? slot * count + i * quarter : -1;
    }
}

static StepScalars step_scalars(double epsilon) {
    RecipeScalars matrix = {.eta = 0.25, .decay = 0.1, .c = 0.3, .b = 0.6, .b_next = 0.7, .stretch = 0.9,
                            .momentum = 0.95, .feed = 0.05, .mix_momentum = 0.95, .mix_gradient = 0.05,
                            .beta1 = 0.9, .beta2 = 0.95, .beta3 = 0.99, .correction1 = 0.271, .correction2 = 0.142625,
                            .epsilon = epsilon, .alpha = 8, .gamma = 0.475, .rescale = 1.1};
    RecipeScalars other = {.eta = 0.5, .decay = 0.3, .c = 0.01, .b = 0.4, .b_next = 0.2, .stretch = 1,
                           .momentum = 0.8, .feed = 1, .mix_momentum = 1, .mix_gradient = 0,
                           .beta1 = 0.8, .beta2 = 0.99, .beta3 = 0.999, .correction1 = 0.488, .correction2 = 0.029701,
                           .epsilon = epsilon, .alpha = 2, .gamma = 0.1, .rescale = 0.5};
    return (StepScalars){.t = 3, .readout = 0.3, .recipe = {[RECIPE_MATRIX] = matrix, [RECIPE_OTHER] = other}};
}

typedef struct {
    Segment segments[SEGMENTS];
    Twin weights, z, state, grads, directions, squares, segment, scalars, status;
    bool aliased; // weights are z
} Flat;

static Update update_on(const Flat *f, int side) {
    return (Update){.weights = f->aliased ? f->z.on[side] : f->weights.on[side],
                    .z = f->z.on[side],
                    .state = f->state.on[side],
                    .grads = f->grads.on[side],
                    .directions = f->directions.on[side],
                    .squares = f->squares.on[side],
                    .segments = {f->segment.on[side].data, SEGMENTS},
                    .scalars = f->scalars.on[side].data,
                    .status = f->status.on[side]};
}

// Of every sign, and zero here and there: gradient alone, its state alone, both.
static void set_signs_and_zeros(const Flat *f, int64_t count, Direction direction) {
    bool mean_first = slots[direction] > 0 && direction != DIRECTION_ADAM_WITHOUT_MEAN;
    double *grads = test_take((size_t)(count + PARTS * count) * sizeof *grads), *state = grads + count;
    double *gap = state + SEGMENT_SLOTS * count;
    twin_get_all(f->grads, 0, 0, grads, count);
    twin_get_all(f->state, 0, 0, state, PARTS * count);
    for (int64_t i = 0; i < count; i++) {
        if (i % 3 == 1) gap[i] = -gap[i];
        if (i % 3 == 1 && mean_first) state[i] = -state[i];
        if (i % 5 == 2 || i % 5 == 3) grads[i] = 0;
        for (int slot = 0; slot < slots[direction] && i % 5 > 2; slot++) state[slot * count + i] = 0;
        if (i % 11 == 4 && slots[direction] > 1) state[i] = 1; // a mean beside a square that has vanished
    }
    twin_set_all(f->grads, 0, grads, count);
    twin_set_all(f->state, 0, state, PARTS * count);
    free(grads);
}

enum { SMALL = 2000 }; // elements beyond which all are random

static void make_flat(Flat *f, const Sizes *s) {
    Direction direction = direction_in(s->variant);
    StepScalars step = step_scalars(s->variant & NO_EPSILON ? 0 : 1e-3);
    *f = (Flat){0};
    set_segments(f->segments, s->in, s->variant);
    f->z = twin("z", NORMAL, WIDE, s->in + (s->variant & ALIASED ? 0 : PACKED), 0, 0);
    f->grads = twin("grads", NORMAL, WIDE, s->in, 0, 0);
    f->state = twin("state", POSITIVE, WIDE, PARTS * s->in, 0, 0);
    f->weights = twin("weights", POISON, COMPUTE, s->in, 0, 0);
    f->status = twin("status", TEN, STATUS, STATUS_COUNT, 0, 0);
    f->scalars = twin_of_bytes("scalars", &step, sizeof step);
    f->segment = twin_of_bytes("segments", f->segments, sizeof f->segments);
    if (direction == DIRECTION_GIVEN)
        f->directions = twin("directions", NORMAL, COMPUTE, SEGMENTS, GIVEN_ROWS, f->segments[0].count / GIVEN_ROWS);
    if (direction == DIRECTION_MARS) f->squares = twin("squares", POISON, STATUS, SEGMENTS, 0, 0);
    if (s->in <= SMALL) set_signs_and_zeros(f, s->in, direction);
    twin_set(f->status, STATUS_CLIP_FACTOR, s->variant & SHORT ? 1e-3 : 0.75);
    twin_set(f->status, STATUS_SKIP, s->variant & SKIP ? 1 : 0);
    if (s->variant & SKIP) twin_set(f->grads, 1, NAN);
    f->aliased = s->variant & ALIASED;
    for (int i = 0; i < 2; i++) f->aliased = f->aliased && f->weights.on[i].dtype == f->z.on[i].dtype;
}

// ---- update ----

static void update_case(const Sizes *s) {
    Flat f;
    make_flat(&f, s);
    BOTH(k, i) {
        Update update = update_on(&f, i);
        if (direction_in(s->variant) == DIRECTION_MARS && !(s->variant & SKIP))
            k->corrected_squares(update.squares, &update);
        k->update(&update);
    }
}

// Elements of which every segment, its state and its matrix begin at a multiple of four, and end anywhere.
enum { ALIGNED = 1744 };

// Weights are z only where nothing is averaged.
static bool possible(int mode, int way) { return !(way & ALIASED) || mode == PLAIN || mode == AFTER; }

static void compare_direction(int direction, int64_t elements) {
    for (int mode = 0; mode < MODES; mode++)
        for (int way = 0; way < WAYS; way++)
            if (possible(mode, way))
                compare_backends(update_case,
                                 &(Sizes){.in = elements, .variant = variant_of(direction, mode, way)}, 32);
}

TEST(every_direction_equals_the_reference) {
    for (int direction = 0; direction < DIRECTION_COUNT; direction++) compare_direction(direction, 61);
    for (int direction = 0; direction < DIRECTION_COUNT; direction++)
        for (int mode = 0; mode < MODES; mode++)
            for (int way = 0; way <= SKIP; way++) {
                const Sizes list[] = {{.in = 1703, .variant = variant_of(direction, mode, way)},
                                      {.in = ALIGNED, .variant = variant_of(direction, mode, way)}};
                COMPARE_BACKENDS(update_case, list, 32);
            }
    for (int direction = 0; direction < DIRECTION_COUNT; direction++)
        compare_backends(update_case, &(Sizes){.in = ALIGNED, .variant = variant_of(direction, AFTER, ALIASED)}, 32);
}

// Segments that end inside and at the ends of what one thread moves at a time.
TEST(updates_over_many_elements_equal_the_reference) {
    compare_backends(update_case, &(Sizes){.in = 300007, .variant = variant_of(DIRECTION_ADAM, PLAIN, 0)}, 32);
    compare_backends(update_case, &(Sizes){.in = 262144, .variant = variant_of(DIRECTION_MOMENTUM, GAP_AT_Y, 0)}, 32);
    compare_backends(update_case, &(Sizes){.in = 150001, .variant = variant_of(DIRECTION_GIVEN, GAP_AT_Z, 0)}, 32);
}

// A long list of short segments with a long one and empty ones among them, of every kind that needs nothing given.
static void many_segments(const Sizes *s) {
    enum { MANY = 1100, LONG = 9000, MOST = 5 * MANY + LONG };
    Segment segments[MANY] = {0};
    StepScalars step = step_scalars(1e-3);
    int64_t end = 0;
    for (int i = 0; i < MANY; i++) {
        int direction = DIRECTION_GIVEN + 1 + i % (DIRECTION_COUNT - 1);
        segments[i] = (Segment){.offset = end + i % 2, .count = i == 700 ? LONG : i % 5, .gap = -1,
                                .route = i / 3 % 2, .direction = direction, .decay_at = i % 3,
                                .lr_scale = 1, .decay_scale = 1, .move_scale = 1};
        for (int slot = 0; slot < SEGMENT_SLOTS; slot++)
            segments[i].slot[slot] = slot < slots[direction] ? slot * MOST + end : -1;
        if (i % 5 < 2) segments[i].gap = 3 * MOST + end;
        end = segments[i].offset + segments[i].count;
        segments[i].z = MOST - end; // the other way round
    }
    Twin segment = twin_of_bytes("segments", segments, sizeof segments), z = twin("z", NORMAL, WIDE, MOST, 0, 0);
    Twin scalars = twin_of_bytes("scalars", &step, sizeof step), weights = twin("weights", POISON, COMPUTE, MOST, 0, 0);
    Twin state = twin("state", POSITIVE, WIDE, 4 * MOST, 0, 0), grads = twin("grads", NORMAL, WIDE, MOST, 0, 0);
    Twin status = twin("status", TEN, STATUS, STATUS_COUNT, 0, 0), sum = twin("sum", POISON, STATUS, 1, 0, 0);
    Twin squares = twin("squares", POISON, STATUS, MANY, 0, 0), x = twin("x", POISON, WIDE, MOST, 0, 0);
    twin_set(status, STATUS_CLIP_FACTOR, 0.75);
    twin_set(status, STATUS_SKIP, s->variant & SKIP ? 1 : 0);
    BOTH(k, i) {
        Update update = {.weights = weights.on[i], .z = z.on[i], .state = state.on[i], .grads = grads.on[i],
                         .squares = squares.on[i], .segments = {segment.on[i].data, MANY},
                         .scalars = scalars.on[i].data, .status = status.on[i]};
        k->sum_squares(sum.on[i], grads.on[i], update.segments);
        k->corrected_squares(squares.on[i], &update);
        k->update(&update);
        k->interpolate(x.on[i], &update, (const double[]){1, 1});
    }
}

TEST(long_lists_of_segments_equal_the_reference) {
    for (int way = 0; way <= SKIP; way++) compare_backends(many_segments, &(Sizes){.variant = way}, 32);
}

TEST(updates_are_equal_on_one_and_two_threads) {
    for (int direction = 0; direction < DIRECTION_COUNT; direction++)
        for (int mode = 0; mode < MODES; mode++)
            compare_threads(update_case, &(Sizes){.in = 150007, .variant = variant_of(direction, mode, 0)});
    compare_threads(update_case, &(Sizes){.in = 150007, .variant = variant_of(DIRECTION_ADAM, PLAIN, ALIASED)});
    compare_threads(update_case, &(Sizes){.in = 150007, .variant = variant_of(DIRECTION_ADAM, GAP_AT_Z, SKIP)});
}

static bool is_reference(const Kernels *k) { return strcmp(k->name, reference_kernels.name) == 0; }

// ---- by hand ----

// Two elements of one segment, on either side of a comparison.
typedef struct {
    Direction direction;
    DecayPoint decay_at;
    bool gapped;
    double z[2], grads[2], slot[3][2], gap[2], norm;                                     // before
    double moved[2], slot_after[3][2], gap_after[2], weights[2];                         // after
} Hand;

// eta 0.5, decay 0.5, momentum and feed 0.5, all mixed in with gradient 1, betas 0.5, 0.75, 0.5, corrections 0.5, 0.25,
// epsilon 0, alpha 2, gamma 0.5, rescale 4; b 0.5, c 0.25, b_next 0.5, stretch 1; the clip halves the gradient.
static const Hand hands[] = {
    // g = 4, m = 2, v = 4, d = (2 / 0.5) / sqrt(4 / 0.25) = 1, z = 2 - (0.5 + 0.5 0.5 2); then d = 0 / 0 = 0
    {.direction = DIRECTION_ADAM, .z = {2, 4}, .grads = {8, 0}, .moved = {1, 3}, .slot_after = {{2, 0}, {4, 0}},
     .weights = {1, 3}},
    // after: (2 - 0.5) (1 - 0.25), and 4 (1 - 0.25)
    {.direction = DIRECTION_ADAM, .decay_at = DECAY_AFTER, .z = {2, 4}, .grads = {8, 0}, .moved = {1.125, 3},
     .slot_after = {{2, 0}, {4, 0}}, .weights = {1.125, 3}},
    // y = 2 + 0.5 2 = 3: z = 2 - (0.5 4 + 0.25 3) = -0.75; t = 2 + 2.75, gap = 0.75 t = 3.5625, weights = z + gap / 2
    {.direction = DIRECTION_GRADIENT, .decay_at = DECAY_AT_Y, .gapped = true, .z = {2, 0}, .grads = {8, 0},
     .gap = {2, 0}, .moved = {-0.75, 0}, .gap_after = {3.5625, 0}, .weights = {1.03125, 0}},
    // the sign is taken of 0.5 (m + g) with the m before: 0.5 (-6 + 4) < 0; then m = 0.75 m + 0.25 g
    {.direction = DIRECTION_LION, .z = {2, 4}, .grads = {8, 0}, .slot = {{-6, 0}}, .moved = {2, 3},
     .slot_after = {{-3.5, 0}}, .weights = {2, 3}},
    // m = 0.5 (2 + 4) = 3, d = 0.5 m + g = 5.5; z = 2 - (2.75 + 0.5)
    {.direction = DIRECTION_MOMENTUM, .z = {2, 0}, .grads = {8, 0}, .slot = {{2, 0}}, .moved = {-1.25, 0},
     .slot_after = {{3, 0}}, .weights = {-1.25, 0}},
    // m = 0.5 (-12 + 4) = -4, 0.5 m + g = 2: its sign is that of g
    {.direction = DIRECTION_SIGNUM, .z = {0, 0}, .grads = {8, 0}, .slot = {{-12, 0}}, .moved = {-0.5, 0},
     .slot_after = {{-4, 0}}, .weights = {-0.5, 0}},
    // v = 0.25 16 = 4, root 4: d = 4 / 4
    {.direction = DIRECTION_ADAM_WITHOUT_MEAN, .z = {2, 4}, .grads = {8, 0}, .moved = {1, 3},
     .slot_after = {{4, 0}}, .weights = {1, 3}},
    // m = 2, slow = 0.5 (8 + 4) = 6, v = 4: d = (4 + 2 6) / 4 = 4, z = 2 - (2 + 0.5)
    {.direction = DIRECTION_ADEMAMIX, .z = {2, 4}, .grads = {8, 0}, .slot = {{0, 0}, {8, 0}, {0, 0}},
     .moved = {-0.5, 3}, .slot_after = {{2, 0}, {6, 0}, {4, 0}}, .weights = {-0.5, 3}},
    // m = 2, v = 4, v_max = 4 4 = 16: d = 4 / sqrt(16 / 0.25) = 0.5
    {.direction = DIRECTION_ADAMX, .z = {2, 4}, .grads = {8, 0}, .slot = {{0, 0}, {0, 0}, {4, 0}},
     .moved = {1.25, 3}, .slot_after = {{2, 0}, {4, 0}, {16, 0}}, .weights = {1.25, 3}},
    // u = 4 + 0.5 (4 - 2) = 5, of norm 5: 1, and m = 0.5, v = 0.25, d = 1 / 1
    {.direction = DIRECTION_MARS, .z = {2, 4}, .grads = {8, 0}, .slot = {{0, 0}, {0, 0}, {2, 0}}, .norm = 5,
     .moved = {1, 3}, .slot_after = {{0.5, 0}, {0.25, 0}, {4, 0}}, .weights = {1, 3}},
    // u = 0.5 + 0.5 (0.5 - 0.5) of norm 0.5 is not made longer: m = 0.25, v = 0.0625
    {.direction = DIRECTION_MARS, .z = {2, 4}, .grads = {1, 0}, .slot = {{0, 0}, {0, 0}, {0.5, 0}}, .norm = 0.5,
     .moved = {1, 3}, .slot_after = {{0.25, 0}, {0.0625, 0}, {0.5, 0}}, .weights = {1, 3}},
};
enum { HANDS = sizeof hands / sizeof hands[0] };

static void set_two(Twin twin, int64_t first, const double values[2]) {
    for (int j = 0; j < 2; j++) twin_set(twin, first + j, values[j]);
}

static void check_two(Twin twin, int side, int64_t first, const double values[2]) {
    for (int j = 0; j < 2; j++) CHECK_CLOSE(twin_get(twin, side, first + j), values[j], 1e-6);
}

static void by_hand(const Sizes *s) {
    const Hand *h = &hands[s->variant];
    Segment segment = {.offset = 0, .count = 2, .gap = h->gapped ? 6 : -1, .slot = {0, 2, 4, -1, -1, -1},
                       .direction = (int32_t)h->direction, .decay_at = (int32_t)h->decay_at,
                       .lr_scale = 1, .decay_scale = 1, .move_scale = 1};
    RecipeScalars r = {.eta = 0.5, .decay = 0.5, .c = 0.25, .b = 0.5, .b_next = 0.5, .stretch = 1, .momentum = 0.5,
                       .feed = 0.5, .mix_momentum = 0.5, .mix_gradient = 1, .beta1 = 0.5, .beta2 = 0.75, .beta3 = 0.5,
                       .correction1 = 0.5, .correction2 = 0.25, .alpha = 2, .gamma = 0.5, .rescale = 4};
    StepScalars step = {.recipe = {[RECIPE_MATRIX] = r}};
    Twin segments = twin_of_bytes("segments", &segment, sizeof segment);
    Twin scalars = twin_of_bytes("scalars", &step, sizeof step), weights = twin("weights", POISON, COMPUTE, 2, 0, 0);
    Twin z = twin("z", TEN, WIDE, 2, 0, 0), grads = twin("grads", TEN, WIDE, 2, 0, 0);
    Twin state = twin("state", TEN, WIDE, 8, 0, 0), status = twin("status", TEN, STATUS, STATUS_COUNT, 0, 0);
    Twin squares = twin("squares", POISON, STATUS, 1, 0, 0);
    set_two(z, 0, h->z), set_two(grads, 0, h->grads), set_two(state, 6, h->gap);
    for (int i = 0; i < 3; i++) set_two(state, 2 * i, h->slot[i]);
    twin_set(status, STATUS_CLIP_FACTOR, 0.5);
    twin_set(status, STATUS_SKIP, 0);
    BOTH(k, i) {
        Update update = {.weights = weights.on[i], .z = z.on[i], .state = state.on[i], .grads = grads.on[i],
                         .squares = squares.on[i], .segments = {segments.on[i].data, 1}, .scalars = scalars.on[i].data,
                         .status = status.on[i]};
        k->corrected_squares(squares.on[i], &update);
        CHECK_CLOSE(twin_get(squares, i, 0), h->norm * h->norm, 1e-12);
        k->update(&update);
        check_two(z, i, 0, h->moved), check_two(state, i, 6, h->gap_after);
        check_two(weights, i, 0, h->weights);
        for (int j = 0; j < slots[h->direction]; j++) check_two(state, i, 2 * j, h->slot_after[j]);
    }
}

TEST(directions_by_hand) {
    for (int i = 0; i < HANDS; i++) compare_backends(by_hand, &(Sizes){.variant = i}, 4);
}

// Without epsilon, in fp32: gradients whose squares vanish or have few digits move nothing far.
static void no_long_steps(const Sizes *s) {
    (void)s;
    enum { COUNT = 64, STEPS = 20 };
    Segment all = {.count = COUNT, .gap = -1, .slot = {0, COUNT, -1, -1, -1, -1}, .direction = DIRECTION_ADAM,
                   .lr_scale = 1, .decay_scale = 1, .move_scale = 1};
    double zeros[2 * COUNT] = {0}, values[COUNT], before[COUNT];
    bool exact = is_reference(side_kernels(0)); // it squares in fp64 and goes elsewhere: nothing is compared
    Twin z = twin("z", TEN, WIDE, COUNT, 0, 0), grads = twin("grads", TEN, WIDE, COUNT, 0, 0);
    Twin weights = twin("weights", POISON, COMPUTE, COUNT, 0, 0), state = twin("state", TEN, WIDE, 2 * COUNT, 0, 0);
    Twin status = twin("status", TEN, STATUS, STATUS_COUNT, 0, 0);
    Twin segment = twin_of_bytes("segment", &all, sizeof all);
    for (int i = 0; i < COUNT; i++) values[i] = pow(10, -30 + i / 4.0); // 1e-30, ..., 1e-23, ..., 6e-15
    twin_set_all(z, 0, zeros, COUNT), twin_set_all(state, 0, zeros, 2 * COUNT), twin_set_all(grads, 0, values, COUNT);
    twin_set(status, STATUS_CLIP_FACTOR, 1), twin_set(status, STATUS_SKIP, 0);
    for (int t = 1; t <= STEPS; t++) {
        StepScalars step = {.recipe = {{.eta = 1, .beta1 = 0.9, .beta2 = 0.95, .correction1 = 1 - pow(0.9, t),
                                        .correction2 = 1 - pow(0.95, t)}}};
        Twin scalars = twin_of_bytes("scalars", &step, sizeof step);
        twin_get_all(z, 0, 0, before, COUNT);
        BOTH(k, i)
            k->update(&(Update){.weights = weights.on[i], .z = z.on[i], .state = state.on[i], .grads = grads.on[i],
                                .segments = {segment.on[i].data, 1}, .scalars = scalars.on[i].data,
                                .status = status.on[i]});
        twin_get_all(z, 0, 0, values, COUNT);
        for (int i = 0; i < COUNT && !exact; i++) assert_true(fabs(values[i] - before[i]) < 2);
    }
    assert_true(values[0] == 0 || exact);         // g^2 is 0 in fp32
    CHECK_CLOSE(values[COUNT - 1], -STEPS, 1e-3); // and here has all its digits
    for (int i = 0; i < 3; i++)
        twin_set_all((Twin[]){z, weights, state}[i], 0, zeros, i < 2 ? COUNT : 2 * COUNT);
}

TEST(adam_without_epsilon_takes_no_long_steps) { compare_backends(no_long_steps, &(Sizes){0}, 0); }

// ---- one pass and its parts ----

static void assert_equal_twins(Twin a, Twin b, int side) {
    int64_t count = tensor_count(a.on[side]);
    double *x = test_take((size_t)count * 2 * sizeof *x), *y = x + count;
    twin_get_all(a, side, 0, x, count);
    twin_get_all(b, side, 0, y, count);
    for (int64_t i = 0; i < count; i++)
        if (x[i] != y[i] && !(isnan(x[i]) && isnan(y[i])))
            fail_msg("element %ld: %.9g and %.9g", (long)i, x[i], y[i]);
    free(x);
}

// The same numbers: copies of what the flat buffers hold.
static Twin copy_of(const char *name, Twin original) {
    Twin copy = twin(name, POISON, WIDE, tensor_count(original.on[0]), 0, 0);
    BOTH(k, i) k->copy(copy.on[i], original.on[i]);
    return copy;
}

// -z of the segments as their matrices.
static void give_directions(const Flat *f, Twin directions, Twin z) {
    int64_t own = f->segments[0].count;
    double *d = test_take((size_t)own * sizeof *d);
    for (int segment = 0; segment < SEGMENTS; segment++) {
        twin_get_all(z, 0, f->segments[segment].z, d, own);
        for (int64_t i = 0; i < own; i++) d[i] = -d[i];
        twin_set_all(directions, segment * own, d, own);
    }
    free(d);
}

// Moves by the whole direction from zero, without decay or average: z becomes -d, to the last bit.
static void take_direction(const Flat *f, Flat *bare, StepScalars step) {
    *bare = *f;
    bare->z = twin("z of the direction", NORMAL, WIDE, tensor_count(f->z.on[0]), 0, 0);
    bare->weights = twin("weights of the direction", POISON, WIDE, tensor_count(f->grads.on[0]), 0, 0);
    bare->state = copy_of("state of the direction", f->state);
    for (int r = 0; r < RECIPE_ROUTES; r++) step.recipe[r].eta = 1, step.recipe[r].decay = 0;
    for (int i = 0; i < SEGMENTS; i++) {
        bare->segments[i].gap = -1;
        bare->segments[i].lr_scale = bare->segments[i].move_scale = 1;
    }
    bare->scalars = twin_of_bytes("scalars of the direction", &step, sizeof step);
    bare->segment = twin_of_bytes("segments of the direction", bare->segments, sizeof bare->segments);
    BOTH(k, i) {
        Update update = update_on(bare, i);
        k->fill_zero(bare->z.on[i]);
        k->update(&update);
    }
}

static void apply_given(const Flat *f, Flat *given, const Flat *bare, Twin z, Twin state) {
    *given = *f;
    given->z = z, given->state = state;
    given->weights = twin("weights of what was given", POISON, COMPUTE, tensor_count(f->grads.on[0]), 0, 0);
    given->directions = twin("directions", POISON, WIDE, SEGMENTS, GIVEN_ROWS, f->segments[0].count / GIVEN_ROWS);
    give_directions(f, given->directions, bare->z);
    for (int i = 0; i < SEGMENTS; i++) given->segments[i].direction = DIRECTION_GIVEN;
    given->segment = twin_of_bytes("segments of what was given", given->segments, sizeof given->segments);
    BOTH(k, i) {
        Update update = update_on(given, i);
        k->update(&update);
    }
}

// Direction first and move after it, as matrices go, against one pass: z, gap, slots and weights, bit for bit.
static void composed(const Sizes *s) {
    Flat f, bare, given;
    make_flat(&f, s);
    for (int i = 0; i < SEGMENTS; i++) f.segments[i].count = given_count(s->in);
    f.segment = twin_of_bytes("equal segments", f.segments, sizeof f.segments);
    Twin z = copy_of("z of what was given", f.z), state = copy_of("state of what was given", f.state);
    BOTH(k, i) {
        Update update = update_on(&f, i);
        if (tensor_present(update.squares)) k->corrected_squares(update.squares, &update);
    }
    take_direction(&f, &bare, step_scalars(s->variant & NO_EPSILON ? 0 : 1e-3));
    apply_given(&f, &given, &bare, z, state);
    BOTH(k, i) {
        Update update = update_on(&f, i);
        k->update(&update);
        if (is_reference(k)) continue; // it rounds d where that is stored, and only there
        assert_equal_twins(f.z, given.z, i);
        assert_equal_twins(f.weights, given.weights, i);
        int64_t gaps = SEGMENT_SLOTS * s->in;
        assert_equal_twins(twin_slice(f.state, 0, 0, gaps), twin_slice(bare.state, 0, 0, gaps), i);
        assert_equal_twins(twin_slice(f.state, 0, gaps, s->in), twin_slice(given.state, 0, gaps, s->in), i);
    }
}

TEST(one_pass_equals_its_parts) {
    for (int direction = DIRECTION_GIVEN + 1; direction < DIRECTION_COUNT; direction++)
        for (int mode = 0; mode < MODES; mode++)
            for (int way = 0; way <= NO_EPSILON; way += NO_EPSILON) {
                compare_threads(composed, &(Sizes){.in = 1703, .variant = variant_of(direction, mode, way)});
                compare_backends(composed, &(Sizes){.in = ALIGNED, .variant = variant_of(direction, mode, way)}, 64);
            }
}

// The iterates read out: y as the update wrote it.
static void interpolated(const Sizes *s) {
    Flat f;
    StepScalars step = step_scalars(1e-3);
    make_flat(&f, s);
    Twin weights = twin("weights again", POISON, COMPUTE, s->in, 0, 0);
    BOTH(k, i) {
        Update update = update_on(&f, i);
        const double share[] = {step.recipe[RECIPE_MATRIX].b_next, step.recipe[RECIPE_OTHER].b_next};
        k->update(&update);
        k->interpolate(weights.on[i], &update, share);
        assert_equal_twins(weights, f.aliased ? f.z : f.weights, i);
    }
}

TEST(weights_are_between_the_iterates) {
    for (int mode = 0; mode < MODES; mode++)
        for (int way = 0; way <= SKIP; way++) {
            compare_threads(interpolated, &(Sizes){.in = 1703, .variant = variant_of(DIRECTION_ADAM, mode, way)});
            compare_backends(interpolated, &(Sizes){.in = ALIGNED, .variant = variant_of(DIRECTION_ADAM, mode, way)},
                             32);
        }
}

// ---- what is read out ----

static void readouts(const Sizes *s) {
    Flat f;
    make_flat(&f, s);
    Twin z = twin("z read", POISON, WIDE, s->in, 0, 0), x = twin("x", POISON, WIDE, s->in, 0, 0);
    Twin y = twin("y", POISON, COMPUTE, s->in, 0, 0);
    Twin readout = twin("readout", NORMAL, WIDE, tensor_count(f.z.on[0]), 0, 0);
    BOTH(k, i) {
        Update update = update_on(&f, i);
        k->interpolate(z.on[i], &update, (const double[]){0, 0});
        k->interpolate(x.on[i], &update, (const double[]){1, 1});
        k->interpolate(y.on[i], &update, (const double[]){0.25, 0.875});
        k->readout_add(readout.on[i], &update);
        k->readout_add(readout.on[i], &update);
    }
}

TEST(readouts_equal_the_reference) {
    for (int mode = 0; mode < MODES; mode++)
        for (int way = 0; way <= SKIP; way++) {
            const Sizes list[] = {{.in = 61, .variant = variant_of(DIRECTION_ADAM, mode, way)},
                                  {.in = 1703, .variant = variant_of(DIRECTION_GRADIENT, mode, way)},
                                  {.in = ALIGNED, .variant = variant_of(DIRECTION_GRADIENT, mode, way)}};
            COMPARE_BACKENDS(readouts, list, 8);
        }
    compare_threads(readouts, &(Sizes){.in = 150007, .variant = variant_of(DIRECTION_ADAM, GAP_AT_Y, 0)});
}

static void corrected_squares(const Sizes *s) {
    Flat f;
    make_flat(&f, s);
    for (int i = 1; i < SEGMENTS; i += 2) f.segments[i].direction = DIRECTION_ADAM; // of square 0
    f.segment = twin_of_bytes("segments of two directions", f.segments, sizeof f.segments);
    BOTH(k, i) {
        Update update = update_on(&f, i);
        k->corrected_squares(update.squares, &update);
        assert_true(twin_get(f.squares, i, 0) > 0 && twin_get(f.squares, i, 1) == 0);
    }
}

TEST(corrected_squares_equal_the_reference) {
    static const Sizes list[] = {{.in = 61, .variant = (DIRECTION_MARS * MODES + PLAIN) * WAYS},
                                 {.in = 1703, .variant = (DIRECTION_MARS * MODES + PLAIN) * WAYS + SHORT},
                                 {.in = 300007, .variant = (DIRECTION_MARS * MODES + PLAIN) * WAYS}};
    COMPARE_BACKENDS(corrected_squares, list, 2);
    compare_threads(corrected_squares, &list[2]);
}

// ---- a pass to compare with ----

// `heads` tensors are only read, `kv_heads` updated, `width` overwritten; all begin at element `variant`.
static void stream(const Sizes *s) {
    enum { TENSORS = 16 };
    int64_t reads = s->heads, updates = s->kv_heads, count = reads + updates + s->width;
    Twin tensors[TENSORS];
    for (int t = 0; t < count; t++)
        tensors[t] = twin("a tensor", t < reads + updates ? NORMAL : POISON, WIDE, s->in + s->variant, 0, 0);
    BOTH(k, i) {
        Tensor list[TENSORS];
        for (int t = 0; t < count; t++) list[t] = tensor_slice(tensors[t].on[i], 0, s->variant, s->in);
        k->stream(list, count, reads, reads + updates);
        for (int64_t t = reads; t < count; t++)
            assert_true(twin_get(tensors[t], i, s->in - 1) == twin_get(tensors[count - 1], i, s->in - 1));
    }
}

TEST(a_stream_reads_and_writes_everything) {
    static const Sizes list[] = {{.in = 1, .heads = 2, .kv_heads = 2, .width = 1},
                                 {.in = 31, .heads = 2, .kv_heads = 2, .width = 1},
                                 {.in = 1000, .heads = 2, .kv_heads = 2, .width = 1, .variant = 1},
                                 {.in = 131099, .heads = 2, .kv_heads = 2, .width = 1},
                                 {.in = 999, .heads = 1, .kv_heads = 8, .width = 2},
                                 {.in = 999, .heads = 3, .kv_heads = 0, .width = 0},
                                 {.in = 999, .heads = 0, .kv_heads = 0, .width = 2}};
    COMPARE_BACKENDS(stream, list, 8);
    compare_threads(stream, &list[3]);
}
