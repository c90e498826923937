#include "tests/support_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/checked.h"
#include "runtime/philox.h"
#include "tests/reference/reference.h"
#include "tests/support.h"

enum { THREADS = 2 };

// ---- networks ----

void network_open(Gpt *gpt, const Kernels *kernels, const GptShape *shape, NetworkSize size) {
    DType dtype = kernels == &reference_kernels ? DTYPE_F64 : DTYPE_F32;
    GptSetup setup = {.compute = dtype, .wide = dtype, .batch = size.batch, .length = size.length,
                      .recompute = size.recompute, .training = true};
    Errors errors = {0};
    const Kernels *checked = checked_kernels(kernels);
    checked_want_finite(true);
    if (!checked->open(THREADS, 0, &errors)) fail_msg("%s", text_string(&errors.text));
    gpt_plan(gpt, checked, shape, &setup);
    if (!gpt_open(gpt, &errors)) fail_msg("%s", text_string(&errors.text));
}

void network_fill(Gpt *gpt, uint64_t seed) {
    float *normal = test_take((size_t)gpt->params.elements * sizeof *normal);
    double *values = test_take((size_t)gpt->params.elements * sizeof *values);
    philox_normal(normal, gpt->params.elements, 1, seed, STREAM_TEST, 0, 0);
    for (int64_t i = 0; i < gpt->params.count; i++) {
        const Param *p = &gpt->params.items[i];
        bool vector = p->kind == PARAM_VECTOR, gain = vector && p->name[strlen(p->name) - 1] == 'w';
        double deviation = vector ? 0.25 : p->kind == PARAM_TABLE ? 0.5 : 1 / sqrt((double)p->columns);
        for (int64_t j = p->offset; j < p->offset + p->real_rows * p->columns; j++)
            values[j] = (float)(gain + deviation * normal[j]);
    }
    tensor_upload(gpt->kernels, gpt->weights, values);
    free(normal);
    free(values);
}

static void load(Gpt *gpt, const Batch *batch) {
    gpt_begin_step(gpt, &(StepScalars){.t = 1, .inverse_weight = 1 / batch_total_weight(batch)});
    gpt_load_batch(gpt, batch);
}

static double mean_loss(const Gpt *gpt) {
    double status[STATUS_COUNT];
    gpt->kernels->download(status, gpt->status);
    return status[STATUS_LOSS_SUM] / status[STATUS_WEIGHT_SUM];
}

double network_loss(Gpt *gpt, const Batch *batch) {
    load(gpt, batch);
    gpt_forward(gpt, GPT_EVALUATE);
    return mean_loss(gpt);
}

double network_gradients(Gpt *gpt, const Batch *batch) {
    load(gpt, batch);
    gpt_forward(gpt, GPT_TRAIN);
    gpt_backward(gpt);
    return mean_loss(gpt);
}

// ---- batches ----

void batch_open(Batch *batch, int64_t sequences, int64_t length) {
    int64_t count = sequences * length;
    *batch = (Batch){
        .tokens = tensor_2d(test_take((size_t)count * sizeof(int32_t)), DTYPE_I32, sequences, length),
        .targets = tensor_2d(test_take((size_t)count * sizeof(int32_t)), DTYPE_I32, sequences, length),
        .positions = tensor_2d(test_take((size_t)count * sizeof(int32_t)), DTYPE_I32, sequences, length),
        .weights = tensor_2d(test_take((size_t)count * sizeof(float)), DTYPE_F32, sequences, length),
        .sequence = tensor_1d(test_take((size_t)sequences * sizeof(int64_t)), DTYPE_I64, sequences),
        .source = tensor_1d(test_take((size_t)sequences * sizeof(int32_t)), DTYPE_I32, sequences),
        .token_order = tensor_1d(test_take((size_t)count * sizeof(int32_t)), DTYPE_I32, count),
        .position_order = tensor_1d(test_take((size_t)count * sizeof(int32_t)), DTYPE_I32, count),
    };
    for (int64_t i = 0; i < count; i++) {
        batch_ids(batch->positions)[i] = (int32_t)(i % length);
        ((float *)batch->weights.data)[i] = 1;
    }
    for (int64_t i = 0; i < sequences; i++) ((int64_t *)batch->sequence.data)[i] = i;
}

void batch_add_first_visible(Batch *batch) {
    batch->first_visible = batch->tokens;
    batch->first_visible.data = test_take((size_t)tensor_count(batch->tokens) * sizeof(int32_t));
}

void batch_sort_ids(Batch *batch, const GptShape *shape) {
    int64_t bound = shape->vocab > shape->context ? shape->vocab : shape->context;
    int64_t count = tensor_count(batch->tokens);
    int32_t *counts = test_take((size_t)(bound + 1) * sizeof *counts);
    batch_sort(batch_ids(batch->token_order), batch_ids(batch->tokens), count, bound, counts);
    batch_sort(batch_ids(batch->position_order), batch_ids(batch->positions), count, bound, counts);
    free(counts);
}

void batch_fill(Batch *batch, int64_t vocab, uint64_t seed) {
    enum { NO_TARGET_EVERY = 7, HALF_WEIGHT_EVERY = 5 };
    for (int64_t i = 0; i < tensor_count(batch->tokens); i++) {
        batch_ids(batch->tokens)[i] = (int32_t)(philox_u64(seed, STREAM_TEST, 1, (uint64_t)i) % (uint64_t)vocab);
        batch_ids(batch->targets)[i] = (int32_t)(philox_u64(seed, STREAM_TEST, 2, (uint64_t)i) % (uint64_t)vocab);
        if (i % NO_TARGET_EVERY == 1) batch_ids(batch->targets)[i] = -1;
        if (i % HALF_WEIGHT_EVERY == 3) ((float *)batch->weights.data)[i] = 0.5f;
    }
}

void batch_close(Batch *batch) {
#define CLOSE(field) free(batch->field.data);
    BATCH_FIELDS(CLOSE)
#undef CLOSE
    *batch = (Batch){0};
}

double batch_total_weight(const Batch *batch) {
    double total = 0;
    for (int64_t i = 0; i < tensor_count(batch->targets); i++)
        if (batch_ids(batch->targets)[i] >= 0) total += (double)((const float *)batch->weights.data)[i];
    return total;
}

Batch batch_sequence(const Batch *batch, int64_t sequence) {
    int64_t length = batch->tokens.shape[1];
    Batch one = *batch;
#define SLICE(field)                                                                                     \
    if (tensor_present(one.field)) {                                                                     \
        int64_t count = one.field.rank == 1 && one.field.shape[0] > batch->tokens.shape[0] ? length : 1; \
        one.field = tensor_slice(one.field, 0, sequence * count, count);                                 \
    }
    BATCH_FIELDS(SLICE)
#undef SLICE
    return one;
}

// ---- numbers ----

double *tensor_download(const Kernels *kernels, Tensor tensor) {
    int64_t count = tensor_count(tensor);
    void *stored = test_take((size_t)count * dtype_bytes(tensor.dtype));
    double *values = test_take((size_t)count * sizeof *values);
    kernels->download(stored, tensor);
    dtype_convert(values, DTYPE_F64, stored, tensor.dtype, count);
    free(stored);
    return values;
}

void tensor_upload(const Kernels *kernels, Tensor tensor, const double *values) {
    int64_t count = tensor_count(tensor);
    void *stored = test_take((size_t)count * dtype_bytes(tensor.dtype));
    dtype_convert(stored, tensor.dtype, values, DTYPE_F64, count);
    kernels->upload(tensor, stored);
    free(stored);
}

// The range [begin, begin + count) of both.
static void check_range(const char *name, const double *got, const double *expected, int64_t count, double tolerance) {
    double distance = 0, norm = 0;
    for (int64_t i = 0; i < count; i++) {
        distance += (got[i] - expected[i]) * (got[i] - expected[i]);
        norm += expected[i] * expected[i];
    }
    if (!(sqrt(distance) <= tolerance * sqrt(norm)))
        fail_msg("%s: %.3g away from a gradient of norm %.3g, more than %g of it", name, sqrt(distance), sqrt(norm),
                 tolerance);
}

void check_gradients(const ParamList *params, const double *got, const double *expected, double tolerance) {
    for (int64_t i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        const double *a = got + p->offset, *b = expected + p->offset;
        for (int64_t j = p->real_rows * p->columns; j < p->rows * p->columns; j++)
            if (a[j] != 0) fail_msg("%s: the gradient of a padding row is %g", p->name, a[j]);
        if (p->kind == PARAM_VECTOR) { // whole: nothing depends on the keys' bias, so its gradient is rounding alone
            check_range(p->name, a, b, p->columns, tolerance);
            continue;
        }
        for (int part = 0; part < p->part_count; part++) {
            int64_t begin = p->part[part].row * p->columns;
            check_range(p->name, a + begin, b + begin, p->part[part].rows * p->columns, tolerance);
        }
    }
}
