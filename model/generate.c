// Generation: the prefix is run again for every token, so cost grows with its square; exact and simple.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/gpt.h"
#include "runtime/philox.h"

typedef struct {
    float logit;
    int32_t id;
} Candidate;

static int likelier_first(const void *a, const void *b) {
    const Candidate *x = a, *y = b;
    if (x->logit != y->logit) return x->logit < y->logit ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

// Draws from softmax(logit / temperature) over the first `count` candidates, which are sorted.
static int32_t draw(const Candidate *candidates, int64_t count, double temperature, double uniform) {
    double total = 0;
    for (int64_t i = 0; i < count; i++) total += exp((candidates[i].logit - candidates[0].logit) / temperature);
    double rest = uniform * total;
    for (int64_t i = 0; i < count; i++) {
        rest -= exp((candidates[i].logit - candidates[0].logit) / temperature);
        if (rest < 0) return candidates[i].id;
    }
    return candidates[count - 1].id;
}

static void host_floats(const Gpt *gpt, float *out, Tensor row) {
    int64_t count = tensor_count(row);
    void *raw = malloc(tensor_size_bytes(row));
    if (!raw) DIE(EXIT_INTERNAL, "out of memory: %ld logits", count);
    gpt->kernels->download(raw, row);
    dtype_convert(out, DTYPE_F32, raw, row.dtype, count);
    free(raw);
}

// A batch of the one sequence ids[0 .. length), in `memory` of 4 length int32.
static Batch prefix_batch(int32_t *memory, const int32_t *ids, int64_t length) {
    int32_t *tokens = memory, *targets = memory + length, *positions = memory + 2 * length;
    float *weights = (float *)(memory + 3 * length);
    memcpy(tokens, ids, (size_t)length * sizeof *ids);
    for (int64_t i = 0; i < length; i++) targets[i] = -1, positions[i] = (int32_t)i, weights[i] = 0;
    return (Batch){.tokens = tensor_2d(tokens, DTYPE_I32, 1, length),
                   .targets = tensor_2d(targets, DTYPE_I32, 1, length),
                   .positions = tensor_2d(positions, DTYPE_I32, 1, length),
                   .weights = tensor_2d(weights, DTYPE_F32, 1, length)};
}

int64_t gpt_generate(Gpt *gpt, int32_t *ids, int64_t length, int64_t count, const Sampling *sampling,
                     bool (*emit)(int32_t id, void *context), void *context) {
    int64_t vocab = gpt->shape.vocab;
    int64_t longest = gpt->setup.length;
    Candidate *candidates = malloc((size_t)vocab * sizeof *candidates);
    float *logits = malloc((size_t)gpt->shape.rows * sizeof *logits);
    int32_t *memory = malloc((size_t)longest * 4 * sizeof *memory);
    if (!candidates || !logits || !memory) DIE(EXIT_INTERNAL, "out of memory: generation");
    int64_t kept = sampling->top_k > 0 && sampling->top_k < vocab ? sampling->top_k : vocab;
    for (int64_t made = 0; made < count; made++) {
        int64_t seen = length < longest ? length : longest;
        Batch batch = prefix_batch(memory, ids + length - seen, seen);
        gpt_load_batch(gpt, &batch);
        host_floats(gpt, logits, gpt_forward_last(gpt));
        for (int64_t i = 0; i < vocab; i++) candidates[i] = (Candidate){logits[i], (int32_t)i};
        qsort(candidates, (size_t)vocab, sizeof *candidates, likelier_first);
        double uniform = philox_uniform(sampling->seed, STREAM_SAMPLE, 0, (uint64_t)made);
        int32_t id =
            sampling->temperature > 0 ? draw(candidates, kept, sampling->temperature, uniform) : candidates[0].id;
        ids[length++] = id;
        if (emit && !emit(id, context)) break;
    }
    free(candidates);
    free(logits);
    free(memory);
    return length;
}
