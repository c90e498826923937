// The classifier: softmax and cross-entropy, each logit read and written once from memory (a row stays in cache).
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/vector_math.h"

enum { PIECE = 1 << 10 }; // columns whose sum is taken in fp32

typedef struct {
    double sum, squares; // of e^(logit - largest) over the row
    float largest;
} Softmax;

// With `in_place` the exponentials replace the logits.
static Softmax row_softmax(float *logits, int64_t vocab, bool in_place, bool squares) {
    Softmax softmax = {.largest = row_max(logits, vocab)};
    float piece[PIECE];
    for (int64_t i = 0; i < vocab; i += PIECE) {
        int64_t n = least(PIECE, vocab - i);
        float *out = in_place ? logits + i : piece;
        softmax.sum += vector_exp_sum(out, logits + i, softmax.largest, n);
        if (squares) softmax.squares += row_dot(out, out, n);
    }
    if (!isfinite(softmax.largest)) softmax.sum = NAN;
    return softmax;
}

typedef struct {
    Matrix logits;
    int64_t vocab;
    bool gradient;
    double inverse_weight;
    float *losses, *squares; // squares or NULL
} Classifier;

static void skip_row(const Classifier *c, int64_t r) {
    c->losses[r] = 0;
    if (c->squares) c->squares[r] = 0;
    if (c->gradient) row_fill(matrix_row(c->logits, r), 0, c->logits.columns);
}

static void classify_row(const Classifier *c, int64_t r, int64_t target, float weight) {
    REQUIRE(target < c->vocab, "target %ld of %ld", (long)target, (long)c->vocab);
    float *logits = matrix_row(c->logits, r), of_target = logits[target];
    Softmax softmax = row_softmax(logits, c->vocab, c->gradient, c->squares != NULL);
    c->losses[r] = (float)(log(softmax.sum) + softmax.largest - of_target);
    if (c->squares) c->squares[r] = (float)(softmax.squares / (softmax.sum * softmax.sum));
    if (!c->gradient) return;
    double scale = weight * c->inverse_weight;
    row_scale(logits, (float)(scale / softmax.sum), c->vocab);
    logits[target] -= (float)scale;
    row_fill(logits + c->vocab, 0, c->logits.columns - c->vocab);
}

void cpu_cross_entropy(Tensor losses, Tensor probability_squares, Tensor logits, Tensor targets, Tensor weights,
                       const CrossEntropy *options) {
    Classifier c = {.logits = cpu_matrix(logits), .vocab = options->vocab, .gradient = options->gradient,
                    .inverse_weight = options->gradient ? options->scalars->inverse_weight : 0,
                    .losses = cpu_floats(losses), .squares = cpu_floats(probability_squares)};
    const int32_t *target = cpu_integers(targets);
    const float *weight = cpu_floats(weights);
    REQUIRE(
        c.vocab <= c.logits.columns && tensor_count(targets) == c.logits.rows && tensor_count(losses) == c.logits.rows,
        "%ld targets for (%ld, %ld) logits", (long)tensor_count(targets), (long)c.logits.rows, (long)c.logits.columns);
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(c.logits.rows * c.vocab))
    for (int64_t r = 0; r < c.logits.rows; r++) {
        if (target[r] < 0) skip_row(&c, r);
        else classify_row(&c, r, target[r], weight[r]);
    }
}

void cpu_loss_add(Tensor status, Tensor losses, Tensor targets, Tensor weights) {
    double *sums = cpu_doubles(status);
    const float *loss = cpu_floats(losses), *weight = cpu_floats(weights);
    const int32_t *target = cpu_integers(targets);
    for (int64_t i = 0; i < tensor_count(losses); i++) {
        if (target[i] < 0) continue;
        sums[STATUS_LOSS_SUM] += (double)weight[i] * loss[i];
        sums[STATUS_WEIGHT_SUM] += weight[i];
    }
}
