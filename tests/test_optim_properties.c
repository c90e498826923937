// What must hold between optimizers whatever their numbers are: limits in which one is another, conserved quantities,
// published values. On the reference in fp64.
#include <math.h>

#include "tests/reference/reference.h"
#include "tests/support_optim.h"
#include "tests/test.h"

enum { STEPS = 24, RANGES = 16 };

// x, z and y after every step of one optimizer, and the scalars of each.
typedef struct {
    int64_t elements;
    double *x[STEPS + 1], *z[STEPS + 1], *y[STEPS + 1]; // [0]: where it begins
    double *gradients[STEPS + 1];
    StepScalars scalars[STEPS + 1];
    OptimRange ranges[RANGES];
    int64_t range_count;
} Path;

// What to do with the gradients of a step before it; NULL: nothing.
typedef void Change(Path *path, int64_t t, double *gradients);

static void keep(Path *path, OptimRun *run) {
    path->y[run->t] = optim_run_weights(run);
    path->x[run->t] = optim_run_load(run, ITERATE_X);
    path->z[run->t] = optim_run_load(run, ITERATE_Z);
    free(optim_run_load(run, ITERATE_Y));
}

// Without weight decay, warmup and clipping unless asked for, at a constant learning rate of 0.02.
static Path walk_on(ParamList params, const char *assignments, Change *change) {
    OptimSettings settings;
    OptimRun run;
    Path path = {0};
    optim_settings_open(&settings);
    optim_settings_read(&settings, "optim.schedule=constant optim.warmup_steps=0 optim.clip=0 optim.lr=0.02 "
                                   "optim.weight_decay=0");
    optim_settings_read(&settings, assignments);
    optim_run_open(&run, &reference_kernels, &params, &settings, STEPS);
    path.range_count = optim_ranges(&params, path.ranges, RANGES);
    path.elements = run.elements;
    double *start = optim_run_start(&run);
    optim_run_begin(&run, start);
    keep(&path, &run);
    for (int64_t t = 1; t <= STEPS; t++) {
        path.gradients[t] = optim_run_gradients(&run);
        if (change) change(&path, t, path.gradients[t]);
        path.scalars[t] = optim_run_step(&run, path.gradients[t]);
        keep(&path, &run);
    }
    free(start);
    optim_run_close(&run);
    optim_settings_close(&settings);
    free((void *)params.items);
    return path;
}

static Path walk_with(const char *assignments, Change *change) { return walk_on(optim_model(), assignments, change); }
static Path walk(const char *assignments) { return walk_with(assignments, NULL); }

static void path_close(Path *path) {
    for (int t = 0; t <= STEPS; t++) {
        free(path->x[t]);
        free(path->z[t]);
        free(path->y[t]);
        free(path->gradients[t]);
    }
}

static const RecipeScalars *scalars(const Path *path, int64_t t) { return &path->scalars[t].recipe[RECIPE_MATRIX]; }

// Behind the pieces that are matrices.
static const OptimRange *matrices_end(const Path *path) {
    const OptimRange *r = path->ranges;
    while (r->kind == PARAM_MATRIX) r++;
    return r;
}

// Largest difference of any element.
static double apart(const double *a, const double *b, int64_t count) {
    double most = 0;
    for (int64_t i = 0; i < count; i++) most = fmax(most, fabs(a[i] - b[i]));
    return most;
}

// Of all steps, for one of the three iterates: 'x', 'z' or 'y'.
static double *iterate(const Path *path, char which, int64_t t) {
    return which == 'x' ? path->x[t] : which == 'z' ? path->z[t] : path->y[t];
}

static void check_paths(const Path *a, char of_a, const Path *b, char of_b, double tolerance) {
    for (int64_t t = 0; t <= STEPS; t++)
        CHECK_CLOSE(apart(iterate(a, of_a, t), iterate(b, of_b, t), a->elements), 0, tolerance);
}

// ---- one optimizer is another ----

static void halve_norms(Path *path, int64_t t, double *gradients) { // to 0.5 in every piece
    (void)t;
    for (OptimRange *r = path->ranges; r < path->ranges + path->range_count; r++) {
        double norm = range_norm(gradients, r);
        for (int64_t i = r->begin; i < r->begin + r->rows * r->columns; i++) gradients[i] *= 0.5 / norm;
    }
}

static void cut_norms(Path *path, int64_t t, double *gradients) { // of matrices, to 1 where they are longer
    (void)t;
    for (OptimRange *r = path->ranges; r < path->ranges + path->range_count; r++) {
        double norm = range_norm(gradients, r);
        if (r->kind != PARAM_MATRIX || norm <= 1) continue;
        for (int64_t i = r->begin; i < r->begin + r->rows * r->columns; i++) gradients[i] /= norm;
    }
}

// Each takes gradients where it is itself, changed or not.
static const struct {
    const char *one, *other;
    char of_one, of_other;
    double tolerance;
    Change *change_one, *change_other;
} same[] = {
    // averaging that does nothing
    {"optim.name=gpa optim.average_weight=1 optim.weight_decay=0.3",
     "optim.name=adamw optim.beta2=0.999 optim.weight_decay=0.3", 'z', 'z', 0, NULL, NULL},
    {"optim.name=gpa optim.average_weight=1", "optim.name=gpa optim.average_weight=1", 'x', 'y', 0, NULL, NULL},
    {"optim.name=gpa optim.average_weight=1", "optim.name=gpa optim.average_weight=1", 'x', 'z', 0, NULL, NULL},
    {"optim.name=sf_adamw_refined optim.average_boost=1e6", "optim.name=sf_adamw optim.interpolation=0", 'x', 'z', 0,
     NULL, NULL},
    // gradients at z: the plain optimizer; gradients at x: primal averaging
    {"optim.name=sf_adamw_mean optim.interpolation=0", "optim.name=adam", 'z', 'z', 0, NULL, NULL},
    {"optim.name=sf_muon optim.interpolation=0 optim.other.name=adam", "optim.name=muon optim.other.name=adam", 'z',
     'z', 0, NULL, NULL},
    {"optim.name=gpa optim.interpolation=0", "optim.name=adam", 'z', 'z', 0, NULL, NULL},
    {"optim.name=sf_sgd optim.interpolation=0", "optim.name=sgd optim.momentum=0", 'z', 'z', 0, NULL, NULL},
    {"optim.name=sf_adamw optim.interpolation=0", "optim.name=sf_adamw optim.interpolation=0", 'y', 'z', 0, NULL, NULL},
    {"optim.name=sf_adamw optim.interpolation=1", "optim.name=sf_adamw optim.interpolation=1", 'y', 'x', 0, NULL, NULL},
    // families
    {"optim.name=sf_adamw_refined optim.interpolation=0.9 optim.average_boost=10", "optim.name=sf_adamw", 'x', 'x',
     1e-13, NULL, NULL},
    {"optim.name=amuse optim.rho=0 optim.warmup_steps=7",
     "optim.name=amuse optim.beta_schedule=const optim.warmup_steps=7", 'y', 'y', 0, NULL, NULL},
    {"optim.name=amuse optim.beta_schedule=const optim.interpolation=0.9", "optim.name=sf_muon", 'y', 'y', 0, NULL,
     NULL},
    {"optim.name=amuse_rest optim.beta_schedule=const optim.interpolation=0.9 optim.epsilon=1e-8",
     "optim.name=sf_adamw", 'y', 'y', 0, NULL, NULL},
    {"optim.name=amuse optim.average_lr_power=0 optim.warmup_steps=5",
     "optim.name=amuse optim.average_lr_power=0 optim.warmup_steps=5 optim.beta_schedule=formula", 'y', 'y', 1e-12,
     NULL, NULL},
    {"optim.name=ademamix optim.alpha=0 optim.weight_decay=0.3 optim.beta2=0.95",
     "optim.name=adamw optim.weight_decay=0.3", 'z', 'z', 0, NULL, NULL},
    {"optim.name=lion optim.beta1=0.8 optim.beta2=0.8", "optim.name=signum optim.momentum=0.8", 'z', 'z', 0, NULL,
     NULL},
    {"optim.name=signum optim.momentum=0", "optim.name=lion optim.beta1=0 optim.beta2=0.3", 'z', 'z', 0, NULL, NULL},
    {"optim.name=mars optim.gamma=0 optim.beta1=0.9 optim.beta2=0.95", "optim.name=adamw", 'z', 'z', 0, halve_norms,
     halve_norms},
    {"optim.name=mars optim.gamma=0 optim.beta1=0.9 optim.beta2=0.95", "optim.name=adamw", 'z', 'z', 1e-13, NULL,
     cut_norms},
};

TEST(limits_of_one_optimizer_are_another) {
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        Path one = walk_with(same[i].one, same[i].change_one), other = walk_with(same[i].other, same[i].change_other);
        for (int64_t t = 0; t <= STEPS; t++) {
            double error = apart(iterate(&one, same[i].of_one, t), iterate(&other, same[i].of_other, t), one.elements);
            if (!(error <= same[i].tolerance))
                fail_msg("%s and %s are %.3g apart after %ld steps", same[i].one, same[i].other, error, (long)t);
        }
        assert_true(apart(one.z[STEPS], one.z[0], one.elements) > 0.01);
        path_close(&one);
        path_close(&other);
    }
}

static const Path *soap_path;
static void of_the_next_step(Path *path, int64_t t, double *gradients) { // of soap
    if (t < STEPS) memcpy(gradients, soap_path->gradients[t + 1], (size_t)path->elements * sizeof *gradients);
}

// With sides too long to be turned, apart from where epsilon stands.
TEST(soap_without_bases_is_adam_one_step_later) {
    Path soap = walk("optim.name=soap optim.precondition_max=2 optim.matrix.epsilon=0");
    soap_path = &soap;
    Path adam = walk_with("optim.name=adam optim.beta1=0.95 optim.beta2=0.95 optim.epsilon=0", of_the_next_step);
    int64_t matrices = matrices_end(&adam)->begin;
    for (int64_t t = 0; t < STEPS; t++) CHECK_CLOSE(apart(soap.z[t + 1], adam.z[t], matrices), 0, 1e-13);
    path_close(&soap);
    path_close(&adam);
}

// ---- averages ----

static const struct {
    const char *assignments;
    double power, step_power; // p, r
    bool largest;
} means[] = {
    {"optim.name=sf_adamw optim.average_lr_power=0", 0, 0, false},
    {"optim.name=sf_adamw optim.schedule=cosine optim.warmup_steps=5", 2, 0, true},
    {"optim.name=sf_adamw optim.schedule=cosine optim.average_by=now", 2, 0, false},
    {"optim.name=sf_sgd optim.average_step_power=1 optim.average_lr_power=1 optim.warmup_steps=6", 1, 1, true},
    {"optim.name=sf_muon optim.average_step_power=1.5 optim.schedule=linear optim.warmup_steps=6", 2, 1.5, false},
    {"optim.name=sf_normuon optim.warmup_steps=6", 2, 0, false},
    {"optim.name=amuse optim.warmup_steps=6 optim.schedule=wsd", 2, 0, false},
};

TEST(x_is_the_weighted_mean_of_the_z) {
    for (size_t i = 0; i < sizeof means / sizeof means[0]; i++) {
        Path path = walk(means[i].assignments);
        double *sum = test_take((size_t)path.elements * sizeof *sum), total = 0, largest = 0;
        for (int64_t t = 1; t <= STEPS; t++) {
            double eta = scalars(&path, t)->eta;
            largest = fmax(largest, eta);
            double w = pow((double)t, means[i].step_power) * pow(means[i].largest ? largest : eta, means[i].power);
            total += w;
            for (int64_t j = 0; j < path.elements; j++) {
                sum[j] += w * path.z[t][j];
                CHECK_CLOSE(path.x[t][j], sum[j] / total, 1e-13);
            }
            CHECK_CLOSE(scalars(&path, t)->c, w / total, 1e-15);
        }
        CHECK_CLOSE(apart(path.x[1], path.z[1], path.elements), 0, 0); // c of the first step is 1
        free(sum);
        path_close(&path);
    }
}

// As released programs do, which keep y and z: x is found again from them, and moves towards the new y.
TEST(x_can_be_found_from_y_and_z) {
    Path path = walk("optim.name=sf_adamw optim.warmup_steps=5 optim.weight_decay=0.3");
    for (int64_t t = 2; t <= STEPS; t++) {
        double b = scalars(&path, t)->b_next, c = scalars(&path, t)->c, share = c / (1 - b + b * c);
        for (int64_t i = 0; i < path.elements; i++) {
            double x = path.x[t][i], y = path.y[t][i], z = path.z[t][i], before = path.x[t - 1][i];
            CHECK_CLOSE(z + (y - z) / b, x, 1e-14);
            CHECK_CLOSE(before + share * (y - before), x, 1e-14);
        }
    }
    path_close(&path);
}

TEST(a_steady_average_is_exponential) {
    Path path = walk("optim.name=gpa optim.average_weight=0.125");
    for (int64_t t = 1; t <= STEPS; t++)
        for (int64_t i = 0; i < path.elements; i++)
            CHECK_CLOSE(path.x[t][i], 0.875 * path.x[t - 1][i] + 0.125 * path.z[t][i], 1e-15);
    path_close(&path);
}

// ---- amuse ----

// b of step t, for steps far away.
static double interpolation_at(const char *assignments, int64_t t) {
    enum { FAR = 30000 };
    ParamList params = optim_model();
    OptimSettings settings;
    OptimRun run;
    Errors errors = {0};
    StepScalars s;
    optim_settings_open(&settings);
    optim_settings_read(&settings, assignments);
    if (!optim_run_plan(&run, &reference_kernels, &params, &settings, FAR, &errors))
        fail_msg("%s", text_string(&errors.text));
    optim_scalars(&run.optim, t, &s);
    optim_run_close(&run);
    optim_settings_close(&settings);
    free((void *)params.items);
    return s.recipe[RECIPE_MATRIX].b;
}

TEST(interpolation_of_amuse_rises_as_published) {
    static const char first[] = "optim.name=amuse optim.warmup_steps=2000";
    static const char formula[] = "optim.name=amuse optim.warmup_steps=2000 optim.beta_schedule=formula";
    static const char second[] = "optim.name=amuse optim.warmup_steps=6000 optim.interpolation=0.6";
    static const char second_formula[] =
        "optim.name=amuse optim.warmup_steps=6000 optim.interpolation=0.6 optim.beta_schedule=formula";
    static const struct {
        const char *assignments;
        int64_t t;
        double b;
    } rows[] = {{first, 2, 0.4}, {first, 2000, 0.4}, {first, 4000, 0.8022}, {first, 16000, 0.9494},
                {first, 24800, 0.9653}, {formula, 2000, 0.4}, {formula, 4000, 0.6555}, {formula, 16000, 0.8864},
                {formula, 24800, 0.9200}, {second, 12000, 0.8681}, {second, 16000, 0.9046},
                {second_formula, 12000, 0.7703}, {second_formula, 16000, 0.8175}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        CHECK_CLOSE(interpolation_at(rows[i].assignments, rows[i].t), rows[i].b, 6e-5);
}

TEST(interpolation_of_amuse_never_falls_and_begins_after_warmup) {
    Path path = walk("optim.name=amuse optim.warmup_steps=8");
    for (int64_t t = 2; t <= STEPS; t++) {
        double before = scalars(&path, t)->b, b = scalars(&path, t)->b_next;
        assert_true(t < 8 ? b == 0.4 && before == 0.4 : b > before);
        assert_true(b < 1);
    }
    path_close(&path);
}

TEST(without_powers_amuse_s_distance_from_1_falls_as_1_over_t) {
    Path path = walk("optim.name=amuse optim.warmup_steps=5 optim.average_lr_power=0 optim.rho=1");
    for (int64_t t = 6; t <= STEPS; t++)
        CHECK_CLOSE((1 - scalars(&path, t)->b) * (double)(t - 1), 0.6 * (5 - 1), 1e-13);
    path_close(&path);
}

// ---- sizes of steps ----

TEST(exact_muon_moves_every_shape_by_the_same_root_mean_square) {
    Path path = walk("optim.name=muon optim.ns=exact"), rough = walk("optim.name=muon");
    for (int64_t t = 1; t <= STEPS; t++) {
        for (const OptimRange *r = path.ranges; r < matrices_end(&path); r++) {
            double size = sqrt((double)(r->rows * r->columns));
            CHECK_CLOSE(range_distance(path.z[t], path.z[t - 1], r) / size, 0.2 * 0.02, 1e-8); // fp32 scales
            CHECK_CLOSE(range_distance(rough.z[t], rough.z[t - 1], r) / size, 0.2 * 0.02, 0.3 * 0.2 * 0.02);
        }
    }
    path_close(&path);
    path_close(&rough);
}

TEST(sf_normuon_moves_by_the_same_root_mean_square_whatever_newton_schulz_does) {
    Path path = walk("optim.name=sf_normuon optim.matrix.beta2=0");
    for (int64_t t = 1; t <= STEPS; t++) {
        for (const OptimRange *r = path.ranges; r < matrices_end(&path); r++) {
            double size = sqrt((double)(r->rows * r->columns));
            CHECK_CLOSE(range_distance(path.z[t], path.z[t - 1], r) / size, 0.2 * 0.02, 1e-9);
            for (int64_t row = 0; row < r->rows; row++) { // and with a one-step v every row
                OptimRange one = {.begin = r->begin + row * r->columns, .rows = 1, .columns = r->columns};
                double moved = range_distance(path.z[t], path.z[t - 1], &one);
                CHECK_CLOSE(moved / sqrt((double)r->columns), 0.2 * 0.02, 1e-9);
            }
        }
    }
    path_close(&path);
}

TEST(normuon_keeps_the_size_of_muon_s_step) {
    Path muon = walk("optim.name=muon"), normuon = walk("optim.name=normuon");
    bool differs = false;
    for (const OptimRange *r = muon.ranges; r < matrices_end(&muon); r++) { // later they are elsewhere
        double size = range_distance(muon.z[1], muon.z[0], r);
        CHECK_CLOSE(range_distance(normuon.z[1], normuon.z[0], r), size, 1e-8 * size);
        differs = differs || range_distance(normuon.z[1], muon.z[1], r) > 0.01 * size;
    }
    assert_true(differs);
    path_close(&muon);
    path_close(&normuon);
}

// In every step, or where there is no mean yet only in the first.
TEST(signs_move_every_element_by_the_learning_rate) {
    static const struct {
        const char *assignments;
        int64_t steps;
    } rows[] = {{"optim.name=lion", STEPS}, {"optim.name=signum", STEPS},
                {"optim.name=signum optim.nesterov=true", STEPS}, {"optim.name=adam optim.epsilon=0", 1},
                {"optim.name=sf_adamw optim.epsilon=0", 1}, {"optim.name=ademamix optim.alpha=0 optim.epsilon=0", 1},
                {"optim.name=gpa optim.epsilon=0", 1},
                {"optim.name=adamx optim.bias_correction=true optim.epsilon=0", 1}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Path path = walk(rows[i].assignments);
        for (int64_t t = 1; t <= rows[i].steps; t++)
            for (int64_t j = 0; j < path.elements; j++) {
                double move = path.z[t][j] - path.z[t - 1][j];
                CHECK_CLOSE(fabs(move), 0.02, 1e-14);
                if (t == 1) assert_true(move * path.gradients[t][j] < 0);
            }
        path_close(&path);
    }
}

static void enlarge(Path *path, int64_t t, double *gradients) {
    (void)t;
    for (int64_t i = 0; i < path->elements; i++) gradients[i] *= 1e7;
}

TEST(the_size_of_gradients_does_not_matter_to_what_normalises_them) {
    static const char *const rows[] = {
        "optim.name=muon optim.other.name=lion", "optim.name=normuon optim.other.name=signum",
        "optim.name=sf_normuon optim.epsilon=0", "optim.name=amuse optim.warmup_steps=4 optim.epsilon=0",
        "optim.name=adamw optim.epsilon=0", "optim.name=soap optim.epsilon=0", "optim.name=ademamix optim.epsilon=0"};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Path path = walk(rows[i]), large = walk_with(rows[i], enlarge);
        CHECK_CLOSE(apart(path.z[STEPS], large.z[STEPS], path.elements), 0, i == 5 ? 1e-7 : 1e-10);
        path_close(&path);
        path_close(&large);
    }
}

// ---- decay ----

static void forget(Path *path, int64_t t, double *gradients) {
    (void)t;
    memset(gradients, 0, (size_t)path->elements * sizeof *gradients);
}

// z' = z - eta decay P in every element but those of vectors, which the default of optim.groups exempts.
TEST(without_gradients_there_is_only_decay_at_its_point) {
    for (int n = 0; recipe_at(n); n++) {
        Text all = {0};
        text_printf(&all, "optim.name=%s optim.weight_decay=0.5 optim.warmup_steps=6", recipe_at(n)->name);
        Path path = walk_with(text_string(&all), forget);
        for (int64_t t = 1; t <= STEPS; t++) {
            double decay = 0.5 * scalars(&path, t)->eta;
            for (const OptimRange *r = path.ranges; r < path.ranges + path.range_count; r++) {
                bool none = r->kind == PARAM_VECTOR ||
                            (recipe_at(n)->direction->move == MOVE_SOAP && r->kind == PARAM_MATRIX && t == 1);
                const double *at = recipe_at(n)->decay_at == DECAY_AT_Y ? path.y[t - 1] : path.z[t - 1];
                for (int64_t i = r->begin; i < r->begin + r->rows * r->columns; i++)
                    CHECK_CLOSE(path.z[t][i], path.z[t - 1][i] - (none ? 0 : decay) * at[i], 1e-15);
            }
        }
        path_close(&path);
        text_close(&all);
    }
}

// ---- parts ----

static ParamList with_qkv_apart(void) {
    static const OptimParam rows[] = {
        {"square", PARAM_MATRIX, 6, {{"", 0, 6}}}, {"tall", PARAM_MATRIX, 5, {{"", 0, 12}}},
        {"wide", PARAM_MATRIX, 12, {{"", 0, 4}}},  {"q", PARAM_MATRIX, 6, {{"", 0, 6}}},
        {"k", PARAM_MATRIX, 6, {{"", 0, 3}}},      {"v", PARAM_MATRIX, 6, {{"", 0, 3}}},
        {"gate", PARAM_MATRIX, 6, {{"", 0, 4}}},   {"up", PARAM_MATRIX, 6, {{"", 0, 4}}},
        {"table", PARAM_TABLE, 6, {{"", 0, 7}}},   {"vector", PARAM_VECTOR, 1, {{"", 0, 9}}},
    };
    return optim_params(rows, sizeof rows / sizeof rows[0]);
}

static ParamList with_qkv_whole(void) {
    static const OptimParam rows[] = {
        {"square", PARAM_MATRIX, 6, {{"", 0, 6}}}, {"tall", PARAM_MATRIX, 5, {{"", 0, 12}}},
        {"wide", PARAM_MATRIX, 12, {{"", 0, 4}}},  {"qkv", PARAM_MATRIX, 6, {{"", 0, 12}}},
        {"mlp_in", PARAM_MATRIX, 6, {{"", 0, 8}}}, {"table", PARAM_TABLE, 6, {{"", 0, 7}}},
        {"vector", PARAM_VECTOR, 1, {{"", 0, 9}}},
    };
    return optim_params(rows, sizeof rows / sizeof rows[0]);
}

TEST(parts_of_a_parameter_move_as_if_they_were_parameters) {
    for (int n = 0; recipe_at(n); n++) {
        Text all = {0};
        text_printf(&all, "optim.name=%s optim.warmup_steps=4 optim.weight_decay=0.1", recipe_at(n)->name);
        Path parts = walk(text_string(&all)), separate = walk_on(with_qkv_apart(), text_string(&all), NULL);
        Path whole = walk_on(with_qkv_whole(), text_string(&all), NULL);
        check_paths(&parts, 'x', &separate, 'x', 0);
        check_paths(&parts, 'y', &separate, 'y', 0);
        double difference = apart(parts.z[STEPS], whole.z[STEPS], parts.elements);
        bool by_element = recipe_at(n)->direction->move == MOVE_ELEMENTS;
        if (by_element != (difference == 0)) fail_msg("%s: the whole is %g away", recipe_at(n)->name, difference);
        path_close(&parts);
        path_close(&separate);
        path_close(&whole);
        text_close(&all);
    }
}

// A rate of 0 keeps parameters where they are, for all steps or at the end of a schedule, whatever averages.
TEST(parameters_without_a_learning_rate_stay) {
    static const char *const rows[] = {"optim.lr=0", "optim.matrix.lr=0", "optim.other.lr=0",
                                       "optim.lr=0 optim.schedule=cosine optim.final_lr=0"};
    for (int n = 0; recipe_at(n); n++) {
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            Text all = {0};
            text_printf(&all, "optim.name=%s optim.warmup_steps=4 %s", recipe_at(n)->name, rows[i]);
            Path path = walk(text_string(&all));
            for (const OptimRange *r = path.ranges; r < path.ranges + path.range_count; r++) {
                bool still = i % 3 == 0 || (i == 1) == (r->kind == PARAM_MATRIX);
                double moved = range_distance(path.y[STEPS], path.y[0], r);
                if (!(still ? moved == 0 : moved > 0.01))
                    fail_msg("%s: %s has moved by %g", text_string(&all), r->name, moved);
            }
            path_close(&path);
            text_close(&all);
        }
    }
}

TEST(a_rate_that_ends_at_0_leaves_numbers_behind) {
    for (int n = 0; recipe_at(n); n++) {
        Text all = {0};
        text_printf(&all, "optim.name=%s optim.warmup_steps=4 optim.schedule=linear optim.final_lr=0 "
                          "optim.weight_decay=0.1", recipe_at(n)->name);
        Path path = walk(text_string(&all));
        for (int64_t i = 0; i < path.elements; i++)
            assert_true(isfinite(path.x[STEPS][i]) && isfinite(path.y[STEPS][i]) && isfinite(path.z[STEPS][i]));
        path_close(&path);
        text_close(&all);
    }
}
