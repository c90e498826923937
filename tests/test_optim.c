// The optimizer apart from its numbers: recipes by name, which option a parameter's recipe reads, routes, scalars.
#include <math.h>

#include "model/gpt.h"
#include "optim/optim.h"
#include "tests/test.h"

enum { STEPS = 100 };

// Options of all three sections, unset, over a network with every kind of parameter.
typedef struct {
    OptimOptions options;
    HyperOptions all, matrix, other;
    ParamList params;
    Optim optim;
} Fixture;

static void fixture_open(Fixture *f) {
    const HyperOptions unset = {.lr = NAN, .weight_decay = NAN, .beta1 = NAN, .beta2 = NAN, .epsilon = NAN};
    static const GptShape shape = {.layers = 2, .width = 8, .heads = 2, .kv_heads = 1, .head_dim = 6, .ffn_width = 10,
                                   .vocab = 11, .rows = 16, .context = 6, .norm = NORM_LAYER,
                                   .position = POSITION_LEARNED, .activation = ACTIVATION_GELU, .bias = true,
                                   .qk_norm = true, .norm_epsilon = 1e-5};
    *f = (Fixture){.options = {.name = "adamw", .warmup_steps = 10, .schedule = SCHEDULE_LINEAR, .clip = 1},
                   .all = unset, .matrix = unset, .other = unset, .params = gpt_param_list(&shape)};
}

static void fixture_plan(Fixture *f) {
    Errors errors = {0};
    OptimSetup setup = {.options = &f->options, .hyper = {&f->all, &f->matrix, &f->other}, .steps = STEPS,
                        .wide = DTYPE_F32};
    assert_true(cpu_kernels.open(1, &errors));
    if (!optim_plan(&f->optim, &cpu_kernels, &f->params, DTYPE_F32, &setup, &errors))
        fail_msg("%s", text_string(&errors.text));
}

static void fixture_close(Fixture *f) {
    optim_close(&f->optim);
    free((void *)f->params.items);
}

TEST(recipes_are_found_by_name) {
    Errors errors = {0};
    assert_string_equal(recipe_find("adamw", &errors)->name, "adamw");
    assert_int_equal(errors.count, 0);
    assert_null(recipe_find("adamv", &errors));
    assert_int_equal(errors.exit_code, EXIT_USAGE);
    assert_non_null(strstr(text_string(&errors.text), "optim.name: there is no \"adamv\"; did you mean \"adamw\""));
    errors_close(&errors);
}

TEST(the_most_particular_section_wins) {
    Fixture f;
    StepScalars s;
    fixture_open(&f);
    f.all.lr = 1, f.all.beta2 = 0.5, f.all.weight_decay = 0.25;
    f.matrix.lr = 3, f.matrix.epsilon = 0;
    f.other.weight_decay = 0.75, f.other.beta1 = 0;
    fixture_plan(&f);
    optim_scalars(&f.optim, 10, &s); // the end of warmup: eta is lr
    const Recipe *r = f.optim.recipe;
    const struct {
        double eta, decay, beta1, beta2, epsilon;
    } expected[] = {[RECIPE_MATRIX] = {3, 0.25, r->beta1, 0.5, 0}, [RECIPE_OTHER] = {1, 0.75, 0, 0.5, r->epsilon}};
    for (int route = 0; route < RECIPE_ROUTES; route++) {
        CHECK_CLOSE(s.recipe[route].eta, expected[route].eta, 0);
        CHECK_CLOSE(s.recipe[route].decay, expected[route].decay, 0);
        CHECK_CLOSE(s.recipe[route].beta1, expected[route].beta1, 0);
        CHECK_CLOSE(s.recipe[route].beta2, expected[route].beta2, 0);
        CHECK_CLOSE(s.recipe[route].epsilon, expected[route].epsilon, 0);
    }
    fixture_close(&f);
}

TEST(nothing_set_is_the_recipe) {
    Fixture f;
    StepScalars s;
    fixture_open(&f);
    fixture_plan(&f);
    optim_scalars(&f.optim, 10, &s);
    const Recipe *r = f.optim.recipe;
    for (int route = 0; route < RECIPE_ROUTES; route++) {
        const RecipeScalars expected = {r->lr, r->weight_decay, r->beta1, r->beta2, r->epsilon,
                                        1 - pow(r->beta1, 10), 1 - pow(r->beta2, 10)};
        assert_memory_equal(&s.recipe[route], &expected, sizeof expected);
    }
    fixture_close(&f);
}

// Asked in any order, and after other steps, a step has the same scalars.
TEST(scalars_are_a_function_of_the_step) {
    Fixture f;
    StepScalars first[STEPS + 1], again;
    memset(first, 0, sizeof first);
    fixture_open(&f);
    fixture_plan(&f);
    for (int t = 1; t <= STEPS; t++) optim_scalars(&f.optim, t, &first[t]);
    for (int t = STEPS; t >= 1; t--) {
        memset(&again, 0, sizeof again);
        optim_scalars(&f.optim, t, &again);
        assert_memory_equal(&again, &first[t], sizeof again);
        assert_int_equal(again.t, t);
        CHECK_CLOSE(again.clip, 1, 0);
        const RecipeScalars *r = &again.recipe[RECIPE_OTHER];
        CHECK_CLOSE(r->eta, f.optim.recipe->lr * schedule_factor(&f.optim.schedule, t), 0);
        CHECK_CLOSE(r->correction1, 1 - pow(r->beta1, t), 0);
        CHECK_CLOSE(r->correction2, 1 - pow(r->beta2, t), 0);
    }
    fixture_close(&f);
}

// Segments as they lie on the device, which is the CPU here.
TEST(every_parameter_has_one_segment) {
    Fixture f;
    Errors errors = {0};
    fixture_open(&f);
    fixture_plan(&f);
    float *flat = calloc((size_t)f.params.elements, sizeof *flat);
    Tensor weights = tensor_1d(flat, DTYPE_F32, f.params.elements);
    const OptimTarget target = {.params = f.params, .weights = weights, .grads = weights};
    assert_true(optim_open(&f.optim, &target, &errors));
    Segments segments = f.optim.segments;
    assert_int_equal(segments.count, f.params.count);
    for (int64_t i = 0, end = 0; i < segments.count; i++) {
        const Param *p = &f.params.items[i];
        const Segment *s = &segments.items[i];
        assert_true(s->offset >= end); // sorted, none twice
        end = s->offset + s->count;
        assert_int_equal(s->offset, p->offset);
        assert_int_equal(s->count, p->rows * p->columns);
        assert_int_equal(s->route, p->kind == PARAM_MATRIX ? RECIPE_MATRIX : RECIPE_OTHER);
        CHECK_CLOSE(s->lr_scale, 1, 0);
        CHECK_CLOSE(s->decay_scale, p->kind == PARAM_VECTOR ? 0 : 1, 0);
    }
    free(flat);
    fixture_close(&f);
}
