// The optimizer on several ranks: whatever lies with whom, it moves as in one process. Gradients come as parts whose
// sum is exact in any order, so that nothing else may make a difference.
#include <math.h>

#include "kernels/checked.h"
#include "model/gpt.h"
#include "runtime/philox.h"
#include "tests/support_model.h"
#include "tests/support_optim.h"
#include "tests/support_shared.h"
#include "tests/test.h"

enum { STEPS = 3, MOST_RANKS = 4, ELEMENTS = 2048, TENSORS = 512, NUMBERS = 1 << 15 };

// Every kind of parameter, and parts of odd sizes.
static ParamList small_model(void) {
    static const GptShape shape = {.layers = 2, .width = 8, .heads = 2, .kv_heads = 1, .head_dim = 6, .ffn_width = 10,
                                   .vocab = 11, .rows = 16, .context = 6, .norm = NORM_LAYER,
                                   .position = POSITION_LEARNED, .activation = ACTIVATION_SWIGLU, .bias = true,
                                   .qk_norm = true, .norm_epsilon = 1e-5};
    return gpt_param_list(&shape);
}

// ---- runs ----

enum { NOTHING, BAD_GRADIENT, BAD_LOSS, BAD_STATE }; // on one rank

typedef struct {
    const Kernels *kernels;
    DType compute;
    const char *recipe, *more;
    bool sharded;
    int trouble;
} Case;

// A tensor, or a range of one, that a rank says to own.
typedef struct {
    char name[TENSOR_NAME];
    int64_t begin, count, whole; // whole: elements of all of it
    int64_t first;               // in Outcome.numbers
} Owned;

// What a rank sees and has.
typedef struct {
    double weights[STEPS][ELEMENTS], status[STEPS][STATUS_COUNT];
    double x[ELEMENTS], z[ELEMENTS], shown[ELEMENTS], y[ELEMENTS];
    Owned owned[TENSORS];
    double numbers[NUMBERS];
    int64_t elements, owned_count, number_count, z_count, state_count, matrices, orthogonalised;
    bool finite;
} Outcome;

// A rank's part of multiples of 2^-10, which are the same whoever adds them up.
static void take_part(double *out, int64_t count, int64_t t, const Comm *comm) {
    float *normal = test_take((size_t)count * sizeof *normal);
    philox_normal(normal, count, 1, 9, STREAM_TEST, (uint32_t)t, 0);
    for (int64_t i = 0; i < count; i++) {
        double whole = nearbyint((double)normal[i] * 1024), rest = whole, own = 0;
        for (int rank = 0; rank <= comm->rank; rank++) {
            bool last = rank + 1 == comm->size;
            own = last ? rest : nearbyint(whole / comm->size) + (double)((i % 7 - 3) * (rank + 1));
            rest -= own;
        }
        out[i] = own / 1024;
    }
    free(normal);
}

static void keep(double *out, double *values, int64_t count) {
    memcpy(out, values, (size_t)count * sizeof *out);
    free(values);
}

static void list_owned(Outcome *o, const OptimRun *run, void (*list)(const Optim *, NamedTensors *)) {
    NamedTensors tensors = {0};
    list(&run->optim, &tensors);
    for (int64_t i = 0; i < tensors.count; i++) {
        const NamedTensor *t = &tensors.items[i];
        Tensor flat = tensor_reshape(t->tensor, tensor_count(t->tensor), 0, 0, 0);
        if (o->owned_count == TENSORS || o->number_count + flat.shape[0] > NUMBERS) fail_msg("too much state");
        Owned *own = &o->owned[o->owned_count++];
        *own = (Owned){.begin = t->begin, .count = flat.shape[0], .whole = t->whole ? t->whole : flat.shape[0],
                       .first = o->number_count};
        if (t->whole) assert_int_equal(t->tensor.rank, 1);
        snprintf(own->name, sizeof own->name, "%s", t->name);
        keep(o->numbers + own->first, tensor_download(run->kernels, flat), own->count);
        o->number_count += own->count;
    }
    named_tensors_close(&tensors);
}

static void damage_state(const OptimRun *run) {
    NamedTensors tensors = {0};
    const double bad = NAN;
    optim_state(&run->optim, &tensors);
    Tensor last = tensors.items[tensors.count - 1].tensor;
    Tensor flat = tensor_reshape(last, tensor_count(last), 0, 0, 0);
    tensor_upload(run->kernels, tensor_slice(flat, 0, flat.shape[0] - 1, 1), &bad);
    named_tensors_close(&tensors);
}

static void open_run(OptimRun *run, OptimSettings *settings, const Case *c, Comm *comm, const ParamList *params) {
    optim_settings_open(settings);
    settings->options.name = c->recipe;
    settings->comm = comm;
    settings->sharded = c->sharded;
    optim_settings_read(settings, "optim.warmup_steps=2 optim.lr=0.02 optim.weight_decay=0.1 optim.clip=8");
    optim_settings_read(settings, c->more);
    optim_run_open_in(run, c->kernels, c->compute, params, settings, STEPS);
    checked_want_finite(c->trouble == NOTHING);
}

static void as_rank(Comm *comm, const void *context, void *result) {
    const Case *c = context;
    Outcome *o = result;
    OptimSettings settings;
    OptimRun run;
    ParamList params = small_model();
    open_run(&run, &settings, c, comm, &params);
    double *start = optim_run_start(&run), *part = test_take((size_t)run.elements * sizeof *part);
    bool troubled = comm->rank + 1 == comm->size && c->trouble != NOTHING;
    if (run.elements > ELEMENTS) fail_msg("too many elements");
    optim_run_begin(&run, start);
    for (int t = 0; t < STEPS; t++) {
        take_part(part, run.elements, t + 1, comm);
        if (troubled && t == 1 && c->trouble == BAD_GRADIENT) part[5] = NAN;
        run.bad_loss = troubled && t == 1 && c->trouble == BAD_LOSS;
        optim_run_step(&run, part);
        keep(o->weights[t], optim_run_weights(&run), run.elements);
        keep(o->status[t], tensor_download(run.kernels, run.status), STATUS_COUNT);
    }
    if (troubled && c->trouble == BAD_STATE) damage_state(&run);
    list_owned(o, &run, optim_state);
    list_owned(o, &run, optim_gradients);
    o->finite = optim_is_finite(&run.optim);
    keep(o->z, optim_run_load(&run, ITERATE_Z), run.elements);
    keep(o->x, optim_run_load(&run, ITERATE_X), run.elements);
    keep(o->shown, optim_run_load(&run, ITERATE_SHOWN), run.elements);
    keep(o->y, optim_run_load(&run, ITERATE_Y), run.elements);
    o->elements = run.elements;
    o->z_count = tensor_count(run.optim.z);
    o->state_count = tensor_count(run.optim.state);
    o->matrices = run.optim.matrices, o->orthogonalised = run.optim.orthogonalised;
    free(start), free(part);
    optim_run_close(&run);
    optim_settings_close(&settings);
    free((void *)params.items);
}

static void run_case(Outcome *outcomes[], int ranks, const Case *c) {
    ranks_run(ranks, c->kernels, as_rank, c, sizeof *outcomes[0], (void *const *)outcomes);
}

static void open_outcomes(Outcome *outcomes[MOST_RANKS]) {
    for (int rank = 0; rank < MOST_RANKS; rank++) outcomes[rank] = test_take(sizeof *outcomes[rank]);
}

static void close_outcomes(Outcome *outcomes[MOST_RANKS]) {
    for (int rank = 0; rank < MOST_RANKS; rank++) free(outcomes[rank]);
}

// ---- comparisons ----

static void describe(char out[160], const Case *c, int ranks) {
    snprintf(out, 160, "%s %s in %s on %d ranks%s", c->recipe, c->more, dtype_name(c->compute), ranks,
             c->sharded ? ", sharded" : "");
}

// To `tolerance` of the largest.
static void check_near(const char *who, const char *what, const double *got, const double *expected, int64_t count,
                       double tolerance) {
    double largest = 0;
    for (int64_t i = 0; i < count; i++) largest = fmax(largest, fabs(expected[i]));
    for (int64_t i = 0; i < count; i++)
        if (!(fabs(got[i] - expected[i]) <= tolerance * largest))
            fail_msg("%s: %s, element %ld: %.9g, expected %.9g", who, what, (long)i, got[i], expected[i]);
}

// What all ranks see is the same to the last bit.
static void check_alike(const char *who, Outcome *const outcomes[], int ranks) {
    size_t seen = offsetof(Outcome, owned);
    for (int rank = 1; rank < ranks; rank++)
        if (memcmp(outcomes[rank], outcomes[0], seen) != 0 || outcomes[rank]->finite != outcomes[0]->finite)
            fail_msg("%s: rank %d does not see what rank 0 sees", who, rank);
}

static void check_seen(const char *who, const Outcome *got, const Outcome *expected, double tolerance) {
    int64_t n = expected->elements;
    for (int t = 0; t < STEPS; t++) {
        check_near(who, "weights", got->weights[t], expected->weights[t], n, tolerance);
        assert_true(got->status[t][STATUS_GRAD_NORM] == expected->status[t][STATUS_GRAD_NORM]);
        assert_true(got->status[t][STATUS_SKIP] == 0 && expected->status[t][STATUS_SKIP] == 0);
    }
    check_near(who, "z", got->z, expected->z, n, tolerance);
    check_near(who, "x", got->x, expected->x, n, tolerance);
    check_near(who, "what is shown", got->shown, expected->shown, n, tolerance);
    assert_memory_equal(got->y, got->weights[STEPS - 1], (size_t)n * sizeof got->y[0]);
}

static const Owned *find(const Outcome *o, const char *name) {
    for (int64_t i = 0; i < o->owned_count; i++)
        if (strcmp(o->owned[i].name, name) == 0) return &o->owned[i];
    return NULL;
}

// The ranks together own every element of every tensor of one process, `times` times, and hold there what it holds.
static void check_owned(const char *who, Outcome *const outcomes[], int ranks, const Outcome *one, int times,
                        double tolerance) {
    char *taken = test_take(NUMBERS);
    for (int rank = 0; rank < ranks; rank++) {
        const Outcome *o = outcomes[rank];
        for (int64_t i = 0; i < o->owned_count; i++) {
            const Owned *own = &o->owned[i], *all = find(one, own->name);
            if (!all || own->whole != all->count || own->begin < 0 || own->count < 1 ||
                own->begin + own->count > all->count)
                fail_msg("%s: rank %d has %s [%ld, + %ld) of %ld", who, rank, own->name, (long)own->begin,
                         (long)own->count, (long)own->whole);
            int64_t first = all->first + own->begin;
            for (int64_t j = 0; j < own->count; j++) taken[first + j]++;
            check_near(who, own->name, o->numbers + own->first, one->numbers + first, own->count, tolerance);
        }
    }
    for (int64_t i = 0; i < one->number_count; i++)
        if (taken[i] != times) fail_msg("%s: number %ld lies with %d ranks", who, (long)i, taken[i]);
    free(taken);
}

static void check_ranks(const Case *base, int ranks, const Outcome *one, double tolerance) {
    Outcome *outcomes[MOST_RANKS];
    char who[160];
    open_outcomes(outcomes);
    for (int sharded = 0; sharded < 2; sharded++) {
        Case c = *base;
        c.sharded = sharded;
        describe(who, &c, ranks);
        run_case(outcomes, ranks, &c);
        check_alike(who, outcomes, ranks);
        check_seen(who, outcomes[0], one, tolerance);
        check_owned(who, outcomes, ranks, one, sharded ? 1 : ranks, tolerance);
        int64_t matrices = 0;
        for (int rank = 0; rank < ranks; rank++) {
            assert_true(outcomes[rank]->finite);
            assert_int_equal(outcomes[rank]->matrices, outcomes[rank]->orthogonalised);
            matrices += outcomes[rank]->orthogonalised;
        }
        assert_int_equal(matrices, one->matrices * (sharded ? 1 : ranks));
    }
    close_outcomes(outcomes);
}

// ---- tests of runs ----

static const char *const readouts[] = {"optim.readout=none", "optim.readout=tail optim.readout_start=1",
                                       "optim.readout=ema optim.readout_every=1 optim.readout_decay=0.5"};

// Norms of all of a tensor are sums in fp64 over the ranks.
static double tolerance_of(const char *recipe) { return strcmp(recipe, "mars") == 0 ? 1e-5 : 0; }

static void check_recipe(const char *recipe, const char *more, const Kernels *kernels, DType compute, int most) {
    Outcome *outcomes[MOST_RANKS];
    Case c = {.kernels = kernels, .compute = compute, .recipe = recipe, .more = more};
    open_outcomes(outcomes);
    run_case(outcomes, 1, &c);
    for (int ranks = 1; ranks <= most; ranks++) check_ranks(&c, ranks, outcomes[0], tolerance_of(recipe));
    close_outcomes(outcomes);
}

#ifdef THALWEG_CUDA // other builds do the rest

TEST(a_device_moves_on_several_ranks_as_in_one_process) {
    static const char *const recipes[] = {"adamw", "mars", "muon", "normuon", "sf_adamw", "amuse"};
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i++)
        check_recipe(recipes[i], readouts[i % 3], &cuda_kernels, i % 2 ? DTYPE_BF16 : DTYPE_F32, i % 2 ? 3 : 2);
}

#else

static bool is_rest(const Recipe *recipe) { return strstr(recipe->name, "_rest") != NULL; }

TEST(every_recipe_moves_on_several_ranks_as_in_one_process) {
    for (int i = 0; recipe_at(i); i++)
        if (!is_rest(recipe_at(i)))
            check_recipe(recipe_at(i)->name, readouts[i % 3], &cpu_kernels, DTYPE_F32, MOST_RANKS);
}

// Where z is the weights, and where it is not.
TEST(readouts_are_shared_out) {
    for (int i = 0; i < 3; i++) {
        check_recipe("adamw", readouts[i], &cpu_kernels, DTYPE_F32, 3);
        check_recipe("muon", readouts[i], &cpu_kernels, DTYPE_F32, 3);
        check_recipe("sf_adamw", readouts[i], &cpu_kernels, DTYPE_F32, 3);
    }
}

TEST(each_rank_keeps_its_part_of_the_state) {
    static const char *const recipes[] = {"adamw", "sf_adamw", "muon"};
    Outcome *outcomes[MOST_RANKS];
    open_outcomes(outcomes);
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i++) {
        Case c = {.kernels = &cpu_kernels, .compute = DTYPE_F32, .recipe = recipes[i], .more = readouts[1]};
        run_case(outcomes, 1, &c);
        int64_t z = outcomes[0]->z_count, state = outcomes[0]->state_count;
        c.sharded = true;
        run_case(outcomes, 2, &c);
        for (int rank = 0; rank < 2; rank++) {
            assert_true(outcomes[rank]->z_count < z * 3 / 4); // alignment is much of so little
            assert_true(outcomes[rank]->state_count < state * 3 / 4);
        }
    }
    close_outcomes(outcomes);
}

TEST(a_bad_number_on_one_rank_skips_the_step_on_all) {
    static const char *const recipes[] = {"adamw", "muon", "sf_adamw", "mars"};
    Outcome *outcomes[MOST_RANKS];
    char who[160];
    open_outcomes(outcomes);
    for (int n = 0; n < 16; n++) {
        Case c = {.kernels = &cpu_kernels, .compute = DTYPE_F32, .recipe = recipes[n / 4], .more = readouts[0],
                  .sharded = n % 2, .trouble = n / 2 % 2 ? BAD_LOSS : BAD_GRADIENT};
        describe(who, &c, 3);
        run_case(outcomes, 3, &c);
        check_alike(who, outcomes, 3);
        for (int t = 0; t < STEPS; t++)
            assert_true(outcomes[0]->status[t][STATUS_SKIP] == (t == 1 ? SKIP_NOT_FINITE : SKIP_NONE));
        bool averages = n / 4 == 2; // y moves with its share
        if (!averages)
            assert_memory_equal(outcomes[0]->weights[1], outcomes[0]->weights[0], sizeof outcomes[0]->weights[0]);
        assert_memory_not_equal(outcomes[0]->weights[2], outcomes[0]->weights[0], sizeof outcomes[0]->weights[0]);
        assert_true(outcomes[0]->finite);
    }
    close_outcomes(outcomes);
}

TEST(a_damaged_state_of_one_rank_is_known_to_all) {
    static const char *const recipes[] = {"adamw", "muon", "sf_adamw"};
    Outcome *outcomes[MOST_RANKS];
    open_outcomes(outcomes);
    for (int n = 0; n < 6; n++) {
        Case c = {.kernels = &cpu_kernels, .compute = DTYPE_F32, .recipe = recipes[n / 2], .more = readouts[1],
                  .sharded = n % 2, .trouble = BAD_STATE};
        run_case(outcomes, 3, &c);
        for (int rank = 0; rank < 3; rank++) assert_false(outcomes[rank]->finite);
    }
    close_outcomes(outcomes);
}

// ---- the map of owners ----

#define GPT2(depth, channels, head_count)                                                                              \
    {.layers = depth, .width = channels, .heads = head_count, .kv_heads = head_count, .head_dim = 64,                  \
     .ffn_width = 4 * channels, .vocab = 50257, .rows = 50304, .context = 1024, .norm = NORM_LAYER,                    \
     .position = POSITION_LEARNED, .activation = ACTIVATION_GELU, .bias = true, .tied = true, .norm_epsilon = 1e-5}
static const GptShape gpt2[] = {GPT2(12, 768, 12), GPT2(24, 1024, 16), GPT2(36, 1280, 20), GPT2(48, 1600, 25)};
static const GptShape tiny = {.layers = 1, .width = 6, .heads = 1, .kv_heads = 1, .head_dim = 6, .ffn_width = 7,
                              .vocab = 5, .rows = 16, .context = 3, .norm = NORM_RMS, .position = POSITION_ROPE,
                              .activation = ACTIVATION_SWIGLU, .tied = true, .norm_epsilon = 1e-5};
static const char *const kinds[] = {"adamw", "muon", "soap", "sf_normuon"};
enum { SHAPES = sizeof gpt2 / sizeof gpt2[0], KINDS = sizeof kinds / sizeof kinds[0] };

typedef struct {
    ParamList params;
    OptimSettings settings;
    OptimRun run;
} Plan;

// As `rank` of `ranks` would plan it, without memory; nothing is said to others.
static void plan_open(Plan *p, const GptShape *shape, const char *recipe, Comm *comm) {
    Errors errors = {0};
    p->params = gpt_param_list(shape);
    optim_settings_open(&p->settings);
    p->settings.options.name = recipe;
    p->settings.comm = comm;
    p->settings.sharded = comm != NULL;
    if (!optim_run_plan(&p->run, &cpu_kernels, &p->params, &p->settings, STEPS, &errors))
        fail_msg("%s", text_string(&errors.text));
}

static void plan_close(Plan *p) {
    optim_run_close(&p->run);
    optim_settings_close(&p->settings);
    free((void *)p->params.items);
}

static int64_t end_of(Share share) { return share.offset + share.count; }

// Elements of a piece in shares; those of a matrix are one share.
static void check_piece(const Owners *owners, const Piece *piece, bool whole) {
    Shares shares = owners_unit(owners, piece->param->unit);
    int64_t begin = piece->segment.offset, count = piece->segment.count, covered = 0;
    for (int64_t i = 0; i < shares.count; i++) {
        Share s = shares.items[i];
        int64_t from = s.offset > begin ? s.offset : begin;
        int64_t to = end_of(s) < begin + count ? end_of(s) : begin + count;
        if (to <= from) continue;
        covered += to - from;
        if (whole && (s.offset != begin || s.count != count)) fail_msg("%s is not one share", piece->param->name);
    }
    if (covered != count)
        fail_msg("%s: %ld of %ld elements have an owner", piece->param->name, (long)covered, (long)count);
}

// Every element once, ascending; a rank's loads are what its shares are.
static void check_map(const Optim *optim, const Owners *owners) {
    bool whole = recipe_is_whole(optim->routes[RECIPE_MATRIX].recipe);
    int64_t end = 0, *elements = test_take((size_t)owners->ranks * sizeof *elements), all = 0, loads = 0;
    assert_int_equal(owners->units, optim->units);
    for (int unit = 0; unit < owners->units; unit++) {
        Shares shares = owners_unit(owners, unit);
        for (int64_t i = 0; i < shares.count; i++) {
            Share s = shares.items[i];
            assert_true(s.offset >= end && s.count > 0 && s.owner >= 0 && s.owner < owners->ranks);
            end = end_of(s);
            elements[s.owner] += s.count;
        }
    }
    assert_true(end <= optim->params.elements);
    for (int64_t i = 0; i < optim->piece_count; i++) {
        const Piece *piece = &optim->pieces[i];
        check_piece(owners, piece, whole && piece->param->kind == PARAM_MATRIX);
        all += piece->segment.count;
    }
    for (int rank = 0; rank < owners->ranks; rank++) {
        OwnerLoad load = owners_load(owners, rank);
        assert_true(load.cut + load.whole <= elements[rank]); // alignment is nobody's load
        loads += load.cut + load.whole;
    }
    assert_int_equal(loads, all);
    free(elements);
}

typedef struct {
    int64_t cut, whole, parts, largest; // largest whole piece
} Totals;

static Totals totals_of(const Optim *optim, const Owners *owners) {
    Totals t = {0};
    for (int rank = 0; rank < owners->ranks; rank++) {
        OwnerLoad load = owners_load(owners, rank);
        t.cut += load.cut, t.whole += load.whole, t.parts += load.parts;
    }
    for (int64_t i = 0; i < optim->piece_count && t.whole > 0; i++) {
        const Piece *p = &optim->pieces[i];
        if (p->param->kind == PARAM_MATRIX && p->segment.count > t.largest) t.largest = p->segment.count;
    }
    return t;
}

// `slack`: elements by which a rank may miss its part of what is cut, beside 1 %.
static void check_even(const Optim *optim, const Owners *owners, double slack) {
    Totals t = totals_of(optim, owners);
    double ranks = owners->ranks, cut = (double)t.cut / ranks, whole = (double)t.whole / ranks;
    for (int rank = 0; rank < owners->ranks; rank++) {
        OwnerLoad load = owners_load(owners, rank);
        CHECK_CLOSE((double)load.cut, cut, 0.01 * cut + slack);
        assert_true((double)load.whole <= whole + (double)t.largest);
    }
    const Recipe *recipe = optim->routes[RECIPE_MATRIX].recipe;
    int64_t matrices = 0;
    for (int64_t i = 0; i < optim->piece_count; i++) matrices += optim->pieces[i].param->kind == PARAM_MATRIX;
    assert_int_equal(t.parts, recipe_is_whole(recipe) ? matrices : 0);
}

TEST(owners_have_every_element_once_and_alike) {
    static const int counts[] = {1, 2, 3, 4, 5, 6, 7, 8, 16, 100};
    for (int n = 0; n < (SHAPES + 1) * KINDS; n++) {
        bool small = n / KINDS == SHAPES;
        Plan plan;
        plan_open(&plan, small ? &tiny : &gpt2[n / KINDS], kinds[n % KINDS], NULL);
        const Optim *optim = &plan.run.optim;
        for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
            Owners owners = optim_owners(optim, counts[i]);
            check_map(optim, &owners);
            if (small) check_even(optim, &owners, 4.0 * counts[i] * 3 * (double)optim->units + 64 * 8);
            else if (counts[i] <= 16) check_even(optim, &owners, 0);
            owners_close(&owners);
        }
        plan_close(&plan);
    }
}

static void check_equal_owners(const Owners *a, const Owners *b) {
    assert_int_equal(a->ranks, b->ranks);
    assert_int_equal(a->units, b->units);
    for (int unit = 0; unit < a->units; unit++) {
        Shares x = owners_unit(a, unit), y = owners_unit(b, unit);
        assert_int_equal(x.count, y.count);
        for (int64_t i = 0; i < x.count; i++)
            assert_true(x.items[i].offset == y.items[i].offset && x.items[i].count == y.items[i].count &&
                        x.items[i].owner == y.items[i].owner);
    }
}

static void check_shares(const Owners *owners, int unit, const Share *expected, int64_t count) {
    Shares shares = owners_unit(owners, unit);
    assert_int_equal(shares.count, count);
    for (int64_t i = 0; i < count; i++)
        if (shares.items[i].offset != expected[i].offset || shares.items[i].count != expected[i].count ||
            shares.items[i].owner != expected[i].owner)
            fail_msg("share %ld of unit %d: %ld + %ld of rank %d", (long)i, unit, (long)shares.items[i].offset,
                     (long)shares.items[i].count, shares.items[i].owner);
}

// Runs end with a unit, at what is whole, and at more than alignment; ranges are of fours, the last rank has the rest.
TEST(runs_are_cut_by_hand) {
    static const OwnedPart parts[] = {{"a", 0, 0, 21, 0},    {"b", 0, 64, 10, 0}, {"c", 0, 192, 3, 0},
                                      {"d", 2, 256, 30, 0},  {"e", 2, 286, 8, 5}, {"f", 2, 294, 8, 5},
                                      {"g", 2, 320, 64, 0}};
    static const Share first[] = {{0, 36, 0}, {36, 38, 1}, {192, 3, 1}}; // too short for two
    static const Share last[] = {{256, 12, 0}, {268, 18, 1}, {286, 8, 0}, {294, 8, 1}, {320, 32, 0}, {352, 32, 1}};
    Owners owners = owners_plan(parts, sizeof parts / sizeof parts[0], 2);
    assert_int_equal(owners.units, 3);
    check_shares(&owners, 0, first, 3);
    check_shares(&owners, 1, NULL, 0);
    check_shares(&owners, 2, last, 6);
    assert_true(owners_load(&owners, 0).cut == 21 + 12 + 32 && owners_load(&owners, 1).cut == 10 + 3 + 18 + 32);
    owners_close(&owners);
}

// Cheap ones that are large: no rank takes more than the mean and the largest, though it has less to do. Equal ones go
// by name, to the first rank that has least.
TEST(no_rank_holds_much_more_than_others) {
    enum { PARTS = 7 };
    static const OwnedPart parts[PARTS] = {{"g", 0, 0, 100, 1},   {"f", 0, 100, 100, 1}, {"e", 0, 200, 100, 1},
                                           {"d", 0, 300, 100, 1}, {"c", 0, 400, 100, 1}, {"b", 0, 500, 100, 1},
                                           {"a", 0, 600, 1, 100}};
    Owners owners = owners_plan(parts, PARTS, 2);
    static const int expected[PARTS] = {0, 0, 1, 1, 1, 1, 0};
    for (int i = 0; i < PARTS; i++) assert_int_equal(owners_unit(&owners, 0).items[i].owner, expected[i]);
    CHECK_CLOSE(owners_imbalance(&owners), 102 / 53.0, 1e-12);
    owners_close(&owners);
}

// The same map on all ranks, and as one process sees it; memory is what is owned.
TEST(owners_are_the_same_on_all_ranks) {
    for (int n = 0; n < KINDS * 2; n++) {
        const GptShape *shape = n / KINDS ? &tiny : &gpt2[0];
        int ranks = n / KINDS ? 4 : 3;
        Plan alone;
        plan_open(&alone, shape, kinds[n % KINDS], NULL);
        Owners expected = optim_owners(&alone.run.optim, ranks);
        int64_t z = 0;
        for (int rank = 0; rank < ranks; rank++) {
            Comm comm = {.kernels = &cpu_kernels, .rank = rank, .size = ranks};
            Plan plan;
            plan_open(&plan, shape, kinds[n % KINDS], &comm);
            const Optim *optim = &plan.run.optim;
            Owners again = optim_owners(optim, ranks);
            check_equal_owners(&optim->owners, &expected);
            check_equal_owners(&again, &expected);
            OwnerLoad load = owners_load(&expected, rank);
            assert_int_equal(optim->matrices, strstr(kinds[n % KINDS], "muon") ? load.parts : 0);
            int64_t own = 0;
            for (int64_t i = 0; i < optim->piece_count; i++) own += optim->pieces[i].segment.count;
            assert_int_equal(own, load.cut + load.whole);
            z += own;
            owners_close(&again);
            plan_close(&plan);
        }
        int64_t elements = 0;
        for (int64_t i = 0; i < alone.run.optim.piece_count; i++) elements += alone.run.optim.pieces[i].segment.count;
        assert_int_equal(z, elements);
        owners_close(&expected);
        plan_close(&alone);
    }
}

// The largest work of a rank over the mean, of the longest first, each to whom has least: 124M, 350M, 774M, 1558M.
TEST(work_on_matrices_is_even) {
    static const struct {
        int ranks;
        double most[SHAPES];
    } rows[] = {{1, {1, 1, 1, 1}}, {2, {1, 1, 1, 1}}, {3, {1, 1, 1, 1}}, {4, {1, 1, 1, 1}}, {5, {1, 1, 1, 1}},
                {6, {1, 1, 1, 1}}, {7, {1.05, 1.02, 1.01, 1.01}}, {8, {1, 1, 1, 1}}, {16, {1.07, 1, 1.02, 1}},
                {32, {1.07, 1.07, 1.07, 1}}, {64, {1.6, 1.07, 1.07, 1.07}}, {128, {3.2, 1.6, 1.07, 1.07}}};
    for (int shape = 0; shape < SHAPES; shape++) {
        Plan plan;
        plan_open(&plan, &gpt2[shape], "muon", NULL);
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            Owners owners = optim_owners(&plan.run.optim, rows[i].ranks);
            double most = owners_imbalance(&owners);
            if (most > rows[i].most[shape] + 0.004)
                fail_msg("shape %d on %d ranks: %.3f times the mean", shape, rows[i].ranks, most);
            owners_close(&owners);
        }
        plan_close(&plan);
    }
}

#endif
