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

// The `kept` likeliest of them to the front, in order; what becomes of the others is not said.
static void sort_likeliest(Candidate *candidates, int64_t count, int64_t kept) {
    enum { FEW = 256 }; // a search of the whole vocabulary for so many is faster than its sorting
    if (kept > FEW) {
        qsort(candidates, (size_t)count, sizeof *candidates, likelier_first);
        return;
    }
    for (int64_t i = 1; i < count; i++) {
        Candidate next = candidates[i];
        int64_t place = i < kept ? i : kept;
        for (; place > 0 && likelier_first(&next, &candidates[place - 1]) < 0; place--)
            if (place < kept) candidates[place] = candidates[place - 1];
        if (place < kept) candidates[place] = next;
    }
}

// False where a logit is not finite.
static bool set_candidates(Candidate *candidates, const float *logits, int64_t vocab) {
    for (int64_t i = 0; i < vocab; i++) {
        if (!isfinite(logits[i])) return false;
        candidates[i] = (Candidate){logits[i], (int32_t)i};
    }
    return true;
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
    if (sampling->temperature == 0) kept = 1;
    for (int64_t made = 0; made < count; made++) {
        int64_t seen = length < longest ? length : longest;
        Batch batch = prefix_batch(memory, ids + length - seen, seen);
        gpt_load_batch(gpt, &batch);
        host_floats(gpt, logits, gpt_forward_last(gpt));
        if (!set_candidates(candidates, logits, vocab)) break;
        sort_likeliest(candidates, vocab, kept);
        double uniform = philox_uniform(sampling->seed, STREAM_SAMPLE, 0, (uint64_t)made);
        int32_t id = kept > 1 ? draw(candidates, kept, sampling->temperature, uniform) : candidates[0].id;
        ids[length++] = id;
        if (emit && !emit(id, context)) break;
    }
    free(candidates);
    free(logits);
    free(memory);
    return length;
}
