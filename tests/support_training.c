#include "tests/support_training.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/checked.h"
#include "tests/support.h"
#include "tests/support_model.h"
#include "tests/support_optim.h"

enum { SEQUENCES = 2, LENGTH = 16, MICRO_STEPS = 2 };
enum { PROGRAM_MICRO, PROGRAM_END };

static const GptShape shapes[TRAINING_SHAPES] = {
    [TRAINING_GPT2] = {.layers = 2, .width = 64, .heads = 1, .kv_heads = 1, .head_dim = 64, .ffn_width = 128,
                       .vocab = 61, .rows = 64, .context = LENGTH, .norm = NORM_LAYER, .position = POSITION_LEARNED,
                       .activation = ACTIVATION_GELU, .bias = true, .tied = true, .norm_epsilon = 1e-5},
    [TRAINING_LLAMA] = {.layers = 2, .width = 40, .heads = 2, .kv_heads = 1, .head_dim = 16, .ffn_width = 56,
                        .vocab = 61, .rows = 64, .context = LENGTH, .norm = NORM_RMS, .position = POSITION_ROPE,
                        .activation = ACTIVATION_SWIGLU, .norm_epsilon = 1e-6, .rope_theta = 10000},
    [TRAINING_QWEN3] = {.layers = 1, .width = 48, .heads = 2, .kv_heads = 1, .head_dim = 64, .ffn_width = 40,
                        .vocab = 61, .rows = 64, .context = LENGTH, .norm = NORM_RMS, .position = POSITION_ROPE,
                        .activation = ACTIVATION_SWIGLU, .qk_norm = true, .tied = true, .norm_epsilon = 1e-6,
                        .rope_theta = 10000},
    [TRAINING_RELU2] = {.layers = 1, .width = 33, .heads = 1, .kv_heads = 1, .head_dim = 18, .ffn_width = 47,
                        .vocab = 61, .rows = 67, .context = LENGTH, .norm = NORM_RMS, .position = POSITION_ROPE,
                        .activation = ACTIVATION_RELU2, .bias = true, .tied = true, .norm_epsilon = 1e-5,
                        .rope_theta = 10000},
};

typedef struct {
    Gpt gpt;
    Optim optim;
    OptimSettings settings;
    Batch batches[MICRO_STEPS];
} Trainer;

static void require_no_errors(const Errors *errors) {
    if (errors->count) fail_msg("%s", text_string(&errors->text));
}

static void open_batches(Trainer *t) {
    for (int i = 0; i < MICRO_STEPS; i++) {
        Batch *batch = &t->batches[i];
        batch_open(batch, SEQUENCES, LENGTH);
        batch_fill(batch, t->gpt.shape.vocab, (uint64_t)i + 7);
        batch_add_first_visible(batch); // the same fields in every batch: a recorded program expects them
        for (int j = 5; j < LENGTH; j++) batch_ids(batch->first_visible)[LENGTH + j] = i == 0 ? 0 : j < 11 ? 5 : 11;
        batch_sort_ids(batch, &t->gpt.shape);
    }
}

static void open_trainer(Trainer *t, const Training *training) {
    const Kernels *k = training->checked ? checked_kernels(training->kernels) : training->kernels;
    DType wide = training->compute == DTYPE_F64 ? DTYPE_F64 : DTYPE_F32;
    GptSetup setup = {.compute = training->compute, .wide = wide, .batch = SEQUENCES, .length = LENGTH,
                      .recompute = training->recompute, .training = true};
    Errors errors = {0};
    checked_want_finite(true);
    k->open(2, 0, &errors);
    require_no_errors(&errors);
    if (training->choices && training->choices->size > 0) k->read_choices(text_string(training->choices), &errors);
    require_no_errors(&errors);
    gpt_plan(&t->gpt, k, &shapes[training->shape], &setup);
    gpt_open(&t->gpt, &errors);
    require_no_errors(&errors);
    optim_settings_open(&t->settings);
    optim_settings_read(&t->settings, training->recipe);
    OptimSettings *s = &t->settings;
    OptimSetup optim = {.options = &s->options, .hyper = {&s->hyper[0], &s->hyper[1], &s->hyper[2]},
                        .route = {&s->route[0], &s->route[1]}, .steps = training->steps, .step_tokens = 1,
                        .wide = wide};
    OptimTarget target = {t->gpt.params, t->gpt.weights, t->gpt.grads, t->gpt.status, t->gpt.scalars};
    optim_plan(&t->optim, k, &t->gpt.params, training->compute, &optim, &errors);
    require_no_errors(&errors);
    optim_open(&t->optim, &target, &errors);
    require_no_errors(&errors);
    open_batches(t);
}

static void close_trainer(Trainer *t) {
    const Kernels *k = t->gpt.kernels;
    for (int i = 0; i < MICRO_STEPS; i++) batch_close(&t->batches[i]);
    optim_close(&t->optim);
    gpt_close(&t->gpt);
    k->close();
    optim_settings_close(&t->settings);
}

static void queue_micro_step(void *context) {
    Trainer *t = context;
    gpt_forward(&t->gpt, GPT_TRAIN);
    gpt_backward(&t->gpt);
}

static void queue_end_step(void *context) { optim_step(&((Trainer *)context)->optim); }

static double step(Trainer *t, int64_t number) {
    const Kernels *k = t->gpt.kernels;
    StepScalars scalars = {0};
    double weight = 0, status[STATUS_COUNT];
    for (int i = 0; i < MICRO_STEPS; i++) weight += batch_total_weight(&t->batches[i]);
    scalars.inverse_weight = 1 / weight;
    optim_scalars(&t->optim, number, &scalars);
    gpt_begin_step(&t->gpt, &scalars);
    for (int i = 0; i < MICRO_STEPS; i++) {
        gpt_load_batch(&t->gpt, &t->batches[i]);
        kernels_run(k, PROGRAM_MICRO, queue_micro_step, t);
    }
    kernels_run(k, PROGRAM_END, queue_end_step, t);
    k->download(status, t->gpt.status);
    if (status[STATUS_SKIP] != 0) fail_msg("step %ld was skipped", (long)number);
    return status[STATUS_LOSS_SUM] / status[STATUS_WEIGHT_SUM];
}

// FNV-1a, of a tensor's bytes.
static uint64_t hash_tensor(const Kernels *k, Tensor tensor, uint64_t hash) {
    size_t bytes = tensor_size_bytes(tensor);
    unsigned char *host = test_take(bytes);
    if (tensor_present(tensor)) k->download(host, tensor);
    for (size_t i = 0; i < bytes; i++) hash = (hash ^ host[i]) * 0x100000001b3u;
    free(host);
    return hash;
}

void training_run(const Training *training, double *losses, uint64_t *hash) {
    Trainer t = {0};
    open_trainer(&t, training);
    const Kernels *k = t.gpt.kernels;
    network_fill(&t.gpt, 5);
    k->copy(t.gpt.grads, t.gpt.weights);
    optim_begin(&t.optim, t.gpt.grads);
    for (int64_t i = 0; i < training->steps; i++) {
        losses[i] = step(&t, i + 1);
        if (i + 1 == training->forget_after) k->return_memory(k->take_memory(1), 1); // it might have been used
    }
    *hash = hash_tensor(k, t.gpt.weights, 0xcbf29ce484222325u);
    *hash = hash_tensor(k, t.optim.z, *hash);
    *hash = hash_tensor(k, t.optim.state, *hash);
    if (training->choices && training->choices->size == 0) k->write_choices(training->choices);
    close_trainer(&t);
}
