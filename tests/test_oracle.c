// The network and AdamW against an independent implementation: scripts/oracles/make_model_fixtures.py, which computed
// the losses, gradients and training steps in tests/fixtures/models. The reference must give those numbers to fp64
// rounding, the CPU to fp32 rounding.
#include <math.h>

#include "data/safetensors.h"
#include "runtime/json.h"
#include "tests/reference/reference.h"
#include "tests/support_model.h"
#include "tests/support_optim.h"
#include "tests/test.h"

enum { STEPS = 10 };

static const char *const models[] = {"gpt2", "llama", "llama_packed", "qwen3", "relu2"};
enum { MODELS = sizeof models / sizeof models[0] };

// Relative errors: of the mean loss, of each token's loss, of a gradient's norm, of the losses while training.
static const struct {
    const Kernels *kernels;
    double loss, token_loss, gradient, step;
} backends[] = {
    {&reference_kernels, 1e-12, 1e-12, 1e-11, 1e-11},
    {&cpu_kernels, 1e-6, 1e-5, 1e-5, 1e-5},
};
enum { BACKENDS = sizeof backends / sizeof backends[0] };

// ---- fixtures ----

typedef struct {
    Safetensors *file;
    GptShape shape;
    Batch batch;
} Fixture;

static const char *fixture_path(const char *model, const char *suffix) {
    static char path[256];
    snprintf(path, sizeof path, "tests/fixtures/models/%s.%s", model, suffix);
    return path;
}

static void require_no_errors(const Errors *errors) {
    if (errors->count) fail_msg("%s", text_string(&errors->text));
}

static Tensor find(const Fixture *fixture, const char *name, DType dtype) {
    Tensor tensor = safetensors_find(fixture->file, name);
    if (!tensor_present(tensor)) fail_msg("the fixture has no %s", name);
    assert_int_equal(tensor.dtype, dtype);
    return tensor;
}

static double number_at(Tensor tensor, int64_t index) {
    double value;
    memcpy(&value, (const char *)tensor.data + (size_t)index * sizeof value, sizeof value);
    return value;
}

// Rows of model_options.def, by name.
static GptShape read_shape(const char *model, int64_t length) {
    Errors errors = {0};
    Json *json = json_open(fixture_path(model, "json"), 1 << 16, EXIT_DATA, &errors);
    require_no_errors(&errors);
    ModelOptions options = {0};
    TextList strings = {0};
    Text problem = {0};
    int taken = 0;
    for (int i = 0; i < model_option_rows.count; i++) {
        const OptionRow *row = &model_option_rows.rows[i];
        const cJSON *node = json_member(json_root(json), row->name);
        char *value = node ? cJSON_PrintUnformatted(node) : NULL;
        if (cJSON_IsString(node)) snprintf(value, strlen(value), "%s", node->valuestring);
        if (!option_set(row, &options, node ? value : row->fallback, &strings, &problem))
            fail_msg("%s: %s: %s", model, row->name, text_string(&problem));
        taken += node != NULL;
        cJSON_free(value);
    }
    assert_int_equal(taken, cJSON_GetArraySize(json_root(json)));
    GptShape shape;
    gpt_shape(&shape, &options, 0, length, &errors);
    require_no_errors(&errors);
    text_list_close(&strings);
    text_close(&problem);
    json_close(json);
    return shape;
}

static void copy_field(const Fixture *fixture, Tensor field, const char *name) {
    Tensor stored = find(fixture, name, field.dtype);
    assert_true(tensor_same_shape(stored, field));
    memcpy(field.data, stored.data, tensor_size_bytes(field));
}

static void fixture_open(Fixture *fixture, const char *model) {
    Errors errors = {0};
    fixture->file = safetensors_open(fixture_path(model, "safetensors"), EXIT_DATA, &errors);
    require_no_errors(&errors);
    Tensor tokens = find(fixture, "tokens", DTYPE_I32);
    batch_open(&fixture->batch, tokens.shape[0], tokens.shape[1]);
    batch_add_first_visible(&fixture->batch);
    copy_field(fixture, fixture->batch.tokens, "tokens");
    copy_field(fixture, fixture->batch.targets, "targets");
    copy_field(fixture, fixture->batch.positions, "positions");
    copy_field(fixture, fixture->batch.first_visible, "first_visible");
    copy_field(fixture, fixture->batch.weights, "weights");
    fixture->shape = read_shape(model, tokens.shape[1]);
    batch_sort_ids(&fixture->batch, &fixture->shape);
}

static void fixture_close(Fixture *fixture) {
    safetensors_close(fixture->file);
    batch_close(&fixture->batch);
}

// Parameters, or with the prefix "grad." their gradients, laid out as the network's; padding rows are zero.
static double *read_flat(const Fixture *fixture, const ParamList *params, const char *prefix) {
    double *flat = calloc((size_t)params->elements, sizeof *flat);
    assert_non_null(flat);
    for (int64_t i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        char name[PARAM_NAME + 8];
        snprintf(name, sizeof name, "%s%s", prefix, p->name);
        Tensor tensor = find(fixture, name, DTYPE_F64);
        assert_int_equal(tensor.rank, p->kind == PARAM_VECTOR ? 1 : 2);
        assert_int_equal(tensor_rows(tensor), p->real_rows);
        assert_int_equal(tensor_columns(tensor), p->columns);
        memcpy(flat + p->offset, tensor.data, tensor_size_bytes(tensor));
    }
    return flat;
}

static void open_network(Gpt *gpt, const Fixture *fixture, const Kernels *kernels) {
    const int64_t *shape = fixture->batch.tokens.shape;
    network_open(gpt, kernels, &fixture->shape, (NetworkSize){shape[0], shape[1], 0});
    double *weights = read_flat(fixture, &gpt->params, "");
    tensor_upload(gpt->kernels, gpt->weights, weights);
    free(weights);
}

#define FOR_EACH_FIXTURE                             \
    for (int model = 0; model < MODELS; model++)     \
        for (int backend = 0; backend < BACKENDS; backend++)

// ---- tests ----

TEST(fixtures_name_every_parameter_of_the_network) {
    enum { OTHERS = 8 }; // tokens, targets, positions, first_visible, weights, losses, loss, adamw.losses
    for (int model = 0; model < MODELS; model++) {
        Fixture fixture;
        fixture_open(&fixture, models[model]);
        ParamList params = gpt_param_list(&fixture.shape);
        assert_int_equal(safetensors_count(fixture.file), 2 * params.count + OTHERS);
        free((void *)params.items);
        fixture_close(&fixture);
    }
}

TEST(losses_and_gradients_are_the_oracle_s) {
    FOR_EACH_FIXTURE {
        Fixture fixture;
        Gpt gpt;
        fixture_open(&fixture, models[model]);
        open_network(&gpt, &fixture, backends[backend].kernels);
        double expected = number_at(find(&fixture, "loss", DTYPE_F64), 0);
        double loss = network_gradients(&gpt, &fixture.batch);
        CHECK_CLOSE(loss, expected, backends[backend].loss * expected);

        Tensor losses = find(&fixture, "losses", DTYPE_F64);
        double *ours = tensor_download(gpt.kernels, gpt.losses);
        for (int64_t i = 0; i < tensor_count(losses); i++)
            CHECK_CLOSE(ours[i], number_at(losses, i), backends[backend].token_loss * number_at(losses, i));

        double *grads = tensor_download(gpt.kernels, gpt.grads), *oracle = read_flat(&fixture, &gpt.params, "grad.");
        check_gradients(&gpt.params, grads, oracle, backends[backend].gradient);
        free(ours);
        free(grads);
        free(oracle);
        gpt_close(&gpt);
        fixture_close(&fixture);
    }
}

// The settings of the fixtures: a constant learning rate, no clipping, decay for all but vectors.
static void open_adamw(Optim *optim, const Gpt *gpt) {
    OptimSettings s;
    optim_settings_open(&s);
    optim_settings_read(&s, "optim.name=adamw optim.schedule=constant optim.warmup_steps=0 optim.clip=0 optim.lr=0.01 "
                            "optim.weight_decay=0.1 optim.beta1=0.9 optim.beta2=0.95 optim.epsilon=1e-8");
    OptimSetup setup = {.options = &s.options, .hyper = {&s.hyper[0], &s.hyper[1], &s.hyper[2]},
                        .route = {&s.route[0], &s.route[1]}, .steps = STEPS, .step_tokens = 1, .wide = gpt->setup.wide};
    OptimTarget target = {gpt->params, gpt->weights, gpt->grads, gpt->status, gpt->scalars};
    Errors errors = {0};
    optim_plan(optim, gpt->kernels, &gpt->params, gpt->setup.compute, &setup, &errors);
    require_no_errors(&errors);
    optim_open(optim, &target, &errors);
    require_no_errors(&errors);
    optim_settings_close(&s);
}

TEST(ten_steps_of_adamw_follow_the_oracle_s) {
    FOR_EACH_FIXTURE {
        Fixture fixture;
        Gpt gpt;
        Optim optim;
        fixture_open(&fixture, models[model]);
        open_network(&gpt, &fixture, backends[backend].kernels);
        open_adamw(&optim, &gpt);
        Tensor losses = find(&fixture, "adamw.losses", DTYPE_F64);
        assert_int_equal(tensor_count(losses), STEPS);
        gpt_load_batch(&gpt, &fixture.batch);
        for (int t = 1; t <= STEPS; t++) {
            StepScalars scalars = {.inverse_weight = 1 / batch_total_weight(&fixture.batch)};
            optim_scalars(&optim, t, &scalars);
            gpt_begin_step(&gpt, &scalars);
            gpt_forward(&gpt, GPT_TRAIN);
            gpt_backward(&gpt);
            optim_step(&optim);
            double status[STATUS_COUNT], expected = number_at(losses, t - 1);
            gpt.kernels->download(status, gpt.status);
            assert_true(status[STATUS_SKIP] == 0);
            CHECK_CLOSE(status[STATUS_LOSS_SUM] * scalars.inverse_weight, expected, backends[backend].step * expected);
        }
        optim_close(&optim);
        gpt_close(&gpt);
        fixture_close(&fixture);
    }
}
