// Units of the network, as several ranks send them: a forward pass reads no weight of a unit before it said that it
// needs it, and no gradient of a unit changes once it is done.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support_model.h"
#include "tests/test.h"

enum { LAYERS = 3, UNITS = LAYERS + 2, B = 2, T = 8 };

typedef struct {
    Gpt *gpt;
    float *weights; // the right ones; those of the network are NaN until they are needed
    float *grads;   // as they were when their unit was done
    int needed[UNITS], done[UNITS], needed_count, done_count;
} Passes;

// Copies what belongs to a unit, padding included.
static void copy_unit(const ParamList *params, int unit, float *to, const float *from) {
    for (int64_t i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        if (p->unit == unit) memcpy(to + p->offset, from + p->offset, (size_t)(p->rows * p->columns) * sizeof *to);
    }
}

static void needed(void *context, int unit) {
    Passes *p = context;
    assert_in_range(unit, 0, UNITS - 1);
    p->needed[p->needed_count++] = unit;
    copy_unit(&p->gpt->params, unit, p->gpt->weights.data, p->weights);
}

static void done(void *context, int unit) {
    Passes *p = context;
    assert_in_range(unit, 0, UNITS - 1);
    p->done[p->done_count++] = unit;
    copy_unit(&p->gpt->params, unit, p->grads, p->gpt->grads.data);
}

static GptShape shape_with(bool tied, bool gated) {
    return (GptShape){.layers = LAYERS, .width = 16, .heads = 2, .kv_heads = gated ? 1 : 2, .head_dim = 8,
                      .ffn_width = 24, .vocab = 13, .rows = 16, .context = T, .norm = gated ? NORM_RMS : NORM_LAYER,
                      .position = gated ? POSITION_ROPE : POSITION_LEARNED,
                      .activation = gated ? ACTIVATION_SWIGLU : ACTIVATION_GELU, .init = INIT_GPT2, .bias = !gated,
                      .qk_norm = gated, .tied = tied, .norm_epsilon = 1e-5, .rope_theta = 10000};
}

static void check_passes(bool tied, bool gated, int recompute) {
    GptShape shape = shape_with(tied, gated);
    Gpt gpt;
    Batch batch;
    network_open(&gpt, &cpu_kernels, &shape, (NetworkSize){B, T, recompute});
    network_fill(&gpt, 3);
    batch_open(&batch, B, T);
    batch_fill(&batch, shape.vocab, 5);
    batch_sort_ids(&batch, &shape);
    double loss = network_gradients(&gpt, &batch);

    size_t bytes = tensor_size_bytes(gpt.weights);
    Passes passes = {.gpt = &gpt, .weights = malloc(bytes), .grads = calloc(1, bytes)};
    float *expected = malloc(bytes), *weights = gpt.weights.data;
    memcpy(passes.weights, weights, bytes);
    memcpy(expected, gpt.grads.data, bytes);
    for (int64_t i = 0; i < gpt.params.elements; i++) weights[i] = NAN;
    gpt.hooks = (GptHooks){needed, done, &passes};
    assert_true(network_gradients(&gpt, &batch) == loss);

    assert_int_equal(passes.needed_count, UNITS);
    assert_int_equal(passes.done_count, UNITS);
    for (int unit = 0; unit < UNITS; unit++) assert_int_equal(passes.needed[unit], unit);
    const int order[UNITS] = {LAYERS + 1, 3, 2, 0, 1}; // the embedding before what remains of the first block
    assert_memory_equal(passes.done, order, sizeof order);
    assert_memory_equal(passes.grads, gpt.grads.data, bytes);
    assert_memory_equal(expected, gpt.grads.data, bytes);
    free(passes.weights);
    free(passes.grads);
    free(expected);
    batch_close(&batch);
    gpt_close(&gpt);
}

TEST(units_are_needed_in_order_and_done_once_for_all) {
    for (int recompute = 0; recompute <= 2; recompute++)
        for (int kind = 0; kind < 4; kind++) check_passes(kind & 1, kind & 2, recompute);
}
