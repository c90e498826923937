// The whole network against itself: on the reference in fp64 its gradients are central differences of its loss, and on
// the CPU they are the reference's to fp32 rounding. Recomputing, cutting the logits and splitting the batch change
// nothing.
#include <math.h>

#include "kernels/checked.h"
#include "tests/reference/reference.h"
#include "tests/support_model.h"
#include "tests/test.h"

enum { SEQUENCES = 2, LENGTH = 5 };

// Every kind of norm, position, activation and head sharing that the network knows.
static const GptShape tiny[] = {
    {.layers = 2, .width = 8, .heads = 2, .kv_heads = 2, .head_dim = 4, .ffn_width = 10, .vocab = 11, .rows = 16,
     .context = 6, .norm = NORM_LAYER, .position = POSITION_LEARNED, .activation = ACTIVATION_GELU, .bias = true,
     .tied = true, .norm_epsilon = 1e-5},
    {.layers = 1, .width = 8, .heads = 2, .kv_heads = 1, .head_dim = 4, .ffn_width = 6, .vocab = 11, .rows = 12,
     .context = 5, .norm = NORM_RMS, .position = POSITION_ROPE, .activation = ACTIVATION_SWIGLU, .norm_epsilon = 1e-6,
     .rope_theta = 100},
    {.layers = 1, .width = 8, .heads = 4, .kv_heads = 2, .head_dim = 6, .ffn_width = 6, .vocab = 11, .rows = 11,
     .context = 5, .norm = NORM_RMS, .position = POSITION_ROPE, .activation = ACTIVATION_SWIGLU, .qk_norm = true,
     .tied = true, .norm_epsilon = 1e-6, .rope_theta = 10000},
    {.layers = 1, .width = 8, .heads = 2, .kv_heads = 2, .head_dim = 4, .ffn_width = 12, .vocab = 11, .rows = 16,
     .context = 5, .norm = NORM_RMS, .position = POSITION_ROPE, .activation = ACTIVATION_RELU2, .bias = true,
     .tied = true, .norm_epsilon = 1e-5, .rope_theta = 10000},
    {.layers = 1, .width = 8, .heads = 2, .kv_heads = 2, .head_dim = 4, .ffn_width = 8, .vocab = 11, .rows = 16,
     .context = 5, .norm = NORM_LAYER, .position = POSITION_LEARNED, .activation = ACTIVATION_GELU, .qk_norm = true,
     .norm_epsilon = 1e-5},
};
enum { TINY = sizeof tiny / sizeof tiny[0] };

// Two documents in the second sequence; the first sees everything before it.
static void open_batch(Batch *batch, const GptShape *shape) {
    batch_open(batch, SEQUENCES, LENGTH);
    batch_fill(batch, shape->vocab, 3);
    batch_add_first_visible(batch);
    for (int i = 2; i < LENGTH; i++) batch_ids(batch->first_visible)[LENGTH + i] = 2;
    batch_sort_ids(batch, shape);
}

// The derivative of the loss by weight `index`, from the losses at both sides of it.
static double central_difference(Gpt *gpt, const Batch *batch, double *weights, int64_t index) {
    const double step = 1e-5;
    double middle = weights[index], loss[2];
    for (int side = 0; side < 2; side++) {
        weights[index] = middle + (side ? step : -step);
        tensor_upload(gpt->kernels, gpt->weights, weights);
        loss[side] = network_loss(gpt, batch);
    }
    weights[index] = middle;
    return (loss[1] - loss[0]) / (2 * step);
}

TEST(every_gradient_is_a_central_difference) {
    for (int i = 0; i < TINY; i++) {
        Gpt gpt;
        Batch batch;
        network_open(&gpt, &reference_kernels, &tiny[i], (NetworkSize){SEQUENCES, LENGTH, 0});
        network_fill(&gpt, 1);
        open_batch(&batch, &tiny[i]);
        network_gradients(&gpt, &batch);
        double *grads = tensor_download(gpt.kernels, gpt.grads), *weights = tensor_download(gpt.kernels, gpt.weights);
        double *differences = calloc((size_t)gpt.params.elements, sizeof *differences);
        assert_non_null(differences);
        for (int64_t p = 0; p < gpt.params.count; p++) {
            const Param *param = &gpt.params.items[p];
            for (int64_t j = param->offset; j < param->offset + param->real_rows * param->columns; j++)
                differences[j] = central_difference(&gpt, &batch, weights, j);
        }
        check_gradients(&gpt.params, grads, differences, 1e-6);
        free(grads);
        free(weights);
        free(differences);
        batch_close(&batch);
        gpt_close(&gpt);
    }
}

// ---- the CPU ----

// A network large enough for every path of the CPU's kernels that a model this small can reach.
static GptShape enlarge(const GptShape *small) {
    GptShape shape = *small;
    shape.layers = 2, shape.width = 40, shape.head_dim = 16, shape.ffn_width = 56;
    shape.vocab = 61, shape.rows = 64, shape.context = 40;
    return shape;
}

static double *gradients_on(const Kernels *kernels, const GptShape *shape, NetworkSize size, const Batch *batch,
                            double *loss) {
    Gpt gpt;
    network_open(&gpt, kernels, shape, size);
    network_fill(&gpt, 2);
    *loss = network_gradients(&gpt, batch);
    double *grads = tensor_download(gpt.kernels, gpt.grads);
    gpt_close(&gpt);
    return grads;
}

static void open_large_batch(Batch *batch, const GptShape *shape, NetworkSize size) {
    batch_open(batch, size.batch, size.length);
    batch_fill(batch, shape->vocab, 4);
    batch_sort_ids(batch, shape);
}

TEST(the_cpu_agrees_with_the_reference) {
    for (int i = 0; i < TINY; i++) {
        GptShape shape = enlarge(&tiny[i]);
        NetworkSize size = {2, 19, 0};
        Batch batch;
        double loss, truth;
        open_large_batch(&batch, &shape, size);
        double *grads = gradients_on(&cpu_kernels, &shape, size, &batch, &loss);
        double *exact = gradients_on(&reference_kernels, &shape, size, &batch, &truth);
        ParamList params = gpt_param_list(&shape);
        CHECK_CLOSE(loss, truth, 1e-6 * truth);
        check_gradients(&params, grads, exact, 1e-5);
        free(grads);
        free(exact);
        free((void *)params.items);
        batch_close(&batch);
    }
}

TEST(recomputing_changes_no_bit) {
    for (int i = 0; i < TINY; i++) {
        GptShape shape = enlarge(&tiny[i]);
        NetworkSize size = {2, 21, 0};
        Batch batch;
        double loss, again;
        open_large_batch(&batch, &shape, size);
        shape.layers = 3; // so that blocks overwrite each other's activations
        double *grads = gradients_on(&cpu_kernels, &shape, size, &batch, &loss);
        ParamList params = gpt_param_list(&shape);
        for (size.recompute = 1; size.recompute <= 2; size.recompute++) {
            double *recomputed = gradients_on(&cpu_kernels, &shape, size, &batch, &again);
            assert_memory_equal(&loss, &again, sizeof loss);
            assert_memory_equal(grads, recomputed, (size_t)params.elements * sizeof *grads);
            free(recomputed);
        }
        free(grads);
        free((void *)params.items);
        batch_close(&batch);
    }
}

// One weight of each parameter, and of each part of it, in turn.
TEST(the_loss_hides_no_weight_that_is_nan) {
    for (int i = 0; i < TINY; i++) {
        GptShape shape = enlarge(&tiny[i]);
        Gpt gpt;
        Batch batch;
        open_large_batch(&batch, &shape, (NetworkSize){2, 19, 0});
        batch_ids(batch.tokens)[0] = 0; // the first weight of every table is read
        network_open(&gpt, &cpu_kernels, &shape, (NetworkSize){2, 19, 0});
        checked_want_finite(false);
        network_fill(&gpt, 2);
        double *weights = tensor_download(gpt.kernels, gpt.weights);
        for (int64_t p = 0; p < gpt.params.count; p++) {
            const Param *param = &gpt.params.items[p];
            for (int part = 0; part < param->part_count; part++) {
                int64_t row = param->part[part].row;
                int64_t index = param->offset + (param->kind == PARAM_VECTOR ? row : row * param->columns);
                double kept = weights[index];
                weights[index] = NAN;
                tensor_upload(gpt.kernels, gpt.weights, weights);
                double loss = network_loss(&gpt, &batch);
                if (!isnan(loss)) fail_msg("%s, part %d: the loss is %g", param->name, part, loss);
                weights[index] = kept;
            }
        }
        free(weights);
        batch_close(&batch);
        gpt_close(&gpt);
    }
}

// ---- pieces ----

TEST(logits_in_pieces_give_the_same_gradients) {
    Gpt gpt;
    Batch batch;
    network_open(&gpt, &reference_kernels, &tiny[1], (NetworkSize){SEQUENCES, LENGTH, 0});
    network_fill(&gpt, 1);
    open_batch(&batch, &tiny[1]);
    double loss = network_gradients(&gpt, &batch);
    double *whole = tensor_download(gpt.kernels, gpt.grads);
    gpt.logits = tensor_slice(gpt.logits, 0, 0, 3); // ten rows: 3, 3, 3 and 1
    CHECK_CLOSE(network_gradients(&gpt, &batch), loss, 1e-14);
    double *pieces = tensor_download(gpt.kernels, gpt.grads);
    check_gradients(&gpt.params, pieces, whole, 1e-13);
    free(whole);
    free(pieces);
    batch_close(&batch);
    gpt_close(&gpt);
}

// Also a batch smaller than the network was opened for.
TEST(gradients_of_micro_batches_add_up) {
    Gpt gpt;
    Batch batch;
    network_open(&gpt, &reference_kernels, &tiny[0], (NetworkSize){SEQUENCES, LENGTH + 1, 0});
    network_fill(&gpt, 1);
    open_batch(&batch, &tiny[0]);
    network_gradients(&gpt, &batch);
    double *whole = tensor_download(gpt.kernels, gpt.grads);

    gpt_begin_step(&gpt, &(StepScalars){.t = 1, .inverse_weight = 1 / batch_total_weight(&batch)});
    for (int sequence = 0; sequence < SEQUENCES; sequence++) {
        Batch one = batch_sequence(&batch, sequence);
        batch_sort_ids(&one, &tiny[0]);
        gpt_load_batch(&gpt, &one);
        gpt_forward(&gpt, GPT_TRAIN);
        gpt_backward(&gpt);
    }
    double *sum = tensor_download(gpt.kernels, gpt.grads);
    check_gradients(&gpt.params, sum, whole, 1e-13);
    free(whole);
    free(sum);
    batch_close(&batch);
    gpt_close(&gpt);
}
