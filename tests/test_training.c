// Training on the device of this build, the CPU or CUDA, beside other backends: losses of every recipe and every
// architecture, and equal bits where nothing may change them.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "optim/recipes.h"
#include "tests/reference/reference.h"
#include "tests/support_training.h"
#include "tests/test.h"
#if defined THALWEG_CUDA && THALWEG_SIMULATED
#include "tests/cudasim/control.h"
#endif

#ifdef THALWEG_CUDA
static const Kernels *const device = &cuda_kernels;
static const Training truth = {.kernels = &cpu_kernels, .compute = DTYPE_F32};
#else
static const Kernels *const device = &cpu_kernels;
static const Training truth = {.kernels = &reference_kernels, .compute = DTYPE_F64};
#endif

enum { SHORT = 3, LONG = 20, NAME = 160 };

// Warmup is as short as the run, or nothing would move.
static void recipe_text(char text[NAME], const char *name) {
    snprintf(text, NAME, "optim.name=%s optim.warmup_steps=2 optim.clip=1", name);
}

static bool is_for_the_host(const char *name) { return strcmp(name, "soap") == 0; }

static bool is_long(const char *name) {
    static const char *const names[] = {"adamw", "muon", "normuon", "amuse"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i], name) == 0) return true;
    return false;
}

// The same training by somebody else.
static Training by(const Training *training, const Kernels *kernels, DType compute) {
    Training other = *training;
    other.kernels = kernels;
    other.compute = compute;
    return other;
}

static Training training_of(const Recipe *recipe, int row, char text[NAME]) {
    recipe_text(text, recipe->name);
    return (Training){.kernels = device, .compute = DTYPE_F32, .shape = row % TRAINING_SHAPES, .recipe = text,
                      .steps = is_long(recipe->name) ? LONG : SHORT, .recompute = row % 3, .checked = row % 2 == 0};
}

TEST(fp32_losses_are_those_of_another_backend) {
    for (int i = 0; recipe_at(i); i++) {
        const char *name = recipe_at(i)->name;
        char text[NAME];
        double losses[LONG], expected[LONG];
        uint64_t hash;
        if (is_for_the_host(name) || strstr(name, "_rest")) continue;
        Training training = training_of(recipe_at(i), i, text), other = by(&training, truth.kernels, truth.compute);
        double tolerance = strcmp(name, "signum") == 0 || strcmp(name, "lion") == 0 ? 1e-4 : 1e-5;
        training_run(&training, losses, &hash);
        training_run(&other, expected, &hash);
        for (int64_t step = 0; step < training.steps; step++)
            if (!(fabs(losses[step] - expected[step]) <= tolerance * expected[step]))
                fail_msg("%s, step %ld: %.9g, not %.9g", name, (long)step + 1, losses[step], expected[step]);
        assert_true(losses[training.steps - 1] != losses[0]);
    }
}

#ifdef THALWEG_CUDA
// The largest distance of any step.
static double distance(const double *a, const double *b, int64_t steps) {
    double largest = 0;
    for (int64_t i = 0; i < steps; i++) largest = fmax(largest, fabs(a[i] - b[i]));
    return largest;
}

// What rounding to bf16 wherever a number is stored does to the losses is the measure.
TEST(bf16_losses_are_as_near_as_rounding_allows) {
    for (int i = 0; recipe_at(i); i++) {
        const char *name = recipe_at(i)->name;
        char text[NAME];
        double losses[LONG], rounded[LONG], exact[LONG];
        uint64_t hash;
        if (is_for_the_host(name) || strstr(name, "_rest")) continue;
        Training training = training_of(recipe_at(i), i, text);
        training.compute = DTYPE_BF16;
        Training emulated = by(&training, &reference_kernels, DTYPE_BF16);
        Training plain = by(&training, &reference_kernels, DTYPE_F64);
        training_run(&training, losses, &hash);
        training_run(&emulated, rounded, &hash);
        training_run(&plain, exact, &hash);
        double allowed = 2 * distance(rounded, exact, training.steps);
        double found = distance(losses, rounded, training.steps);
        if (!(found <= allowed)) fail_msg("%s: %.3g from the emulation, %.3g allowed", name, found, allowed);
    }
}
#endif

// ---- equal bits ----

// The second run multiplies as the first one chose to. `direct`: and records nothing.
static void check_equal(const char *what, const Training *first, const Training *second, bool direct) {
    Training runs[] = {*first, *second};
    Text choices = {0};
    double losses[2][LONG];
    uint64_t hash[2];
    const char *wanted = getenv("THALWEG_GRAPHS");
    char before[] = {wanted ? *wanted : '1', 0};
    for (int i = 0; i < 2; i++) {
        runs[i].choices = &choices;
        if (i == 1 && direct) setenv("THALWEG_GRAPHS", "0", 1);
        training_run(&runs[i], losses[i], &hash[i]);
    }
    setenv("THALWEG_GRAPHS", before, 1);
    text_close(&choices);
    for (int64_t i = 0; i < first->steps; i++)
        if (losses[0][i] != losses[1][i])
            fail_msg("%s: shape %d, %s, step %ld: %.17g and %.17g", what, first->shape, first->recipe, (long)i + 1,
                     losses[0][i], losses[1][i]);
    if (hash[0] != hash[1]) fail_msg("%s: shape %d, %s: the states differ", what, first->shape, first->recipe);
}

// Four steps: the first runs directly, the second is recorded, the others are replayed.
static Training equal_training(int shape, DType compute, char text[NAME]) {
    static const char *const recipes[TRAINING_SHAPES] = {"adamw", "amuse", "normuon", "mars"};
    recipe_text(text, recipes[shape]);
    return (Training){.kernels = device, .compute = compute, .shape = shape, .recipe = text, .steps = 4};
}

static DType narrow(void) { return device->is_host() ? DTYPE_F32 : DTYPE_BF16; }

TEST(recorded_and_direct_steps_are_equal) {
    for (int shape = 0; shape < TRAINING_SHAPES; shape++)
        for (int i = 0; i < (device->is_host() ? 1 : 2); i++) {
            char text[NAME];
            Training training = equal_training(shape, i == 0 ? DTYPE_F32 : DTYPE_BF16, text);
            check_equal("recorded and direct", &training, &training, true);
        }
}

TEST(recomputing_changes_no_bit_of_a_step) {
    setenv("THALWEG_FUSE", "0", 1); // a fused activation may round otherwise
    for (int shape = 0; shape < TRAINING_SHAPES; shape++)
        for (int level = 1; level <= 2; level++) {
            char text[NAME];
            Training kept = equal_training(shape, narrow(), text), again = kept;
            again.recompute = level;
            check_equal("recomputed", &kept, &again, false);
        }
    unsetenv("THALWEG_FUSE");
}

// As often as there is time for.
TEST(repeated_runs_are_equal) {
#if defined THALWEG_CUDA && !THALWEG_SIMULATED
    enum { REPEATS = 25 }; // of four steps each
#else
    enum { REPEATS = 1 };
#endif
    for (int shape = 0; shape < TRAINING_SHAPES; shape++)
        for (int i = 0; i < REPEATS; i++) {
            char text[NAME];
            Training training = equal_training(shape, narrow(), text);
            check_equal("repeated", &training, &training, false);
        }
}

#if defined THALWEG_CUDA && THALWEG_SIMULATED
// Each program is recorded in two different steps: every launch must have the same arguments in both.
TEST(nothing_of_a_step_is_baked_into_a_program) {
    for (int i = 0; recipe_at(i); i++) {
        char text[NAME];
        double losses[LONG];
        uint64_t hash;
        if (is_for_the_host(recipe_at(i)->name) || strstr(recipe_at(i)->name, "_rest")) continue;
        Training training = training_of(recipe_at(i), i, text);
        training.compute = i % 2 ? DTYPE_F32 : DTYPE_BF16;
        training.checked = false;
        training.steps = 4;
        training.forget_after = 2;
        int before = cudasim_graph_count();
        training_run(&training, losses, &hash);
        assert_int_equal(cudasim_graph_count(), before + 4); // a micro-batch and an end, twice
        for (int program = 0; program < 2; program++) cudasim_compare_graphs(before + program, before + 2 + program);
    }
}
#endif
