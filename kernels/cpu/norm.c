// LayerNorm and RMSNorm, one pass over the rows; gradients of gain and bias in a second one, by columns.
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

// Mean (0 for RMS) and reciprocal deviation of a row, from centred squares.
static void row_stats(float stats[2], const float *x, int64_t n, const Norm *norm) {
    float mean = norm->kind == NORM_LAYER ? row_sum(x, n) / (float)n : 0, squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
    stats[0] = mean;
    stats[1] = (float)(1 / sqrt((double)squares / (double)n + norm->epsilon));
}

static void normalise_row(float *out, const float *x, const float stats[2], const Norm *norm, int64_t n) {
    const float *gain = norm->gain.data, *bias = norm->bias.data;
    float mean = stats[0], rstd = stats[1];
#pragma omp simd
    for (int64_t i = 0; i < n; i++) out[i] = (x[i] - mean) * rstd * gain[i];
    if (!bias) return;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) out[i] += bias[i];
}

static void add_rows(float *out, const float *a, const float *b, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) out[i] = a[i] + b[i];
}

static void require_norm(const Norm *norm, int64_t columns) {
    cpu_floats(norm->gain), cpu_floats(norm->bias);
    REQUIRE(tensor_count(norm->gain) == columns, "gain of %ld for %ld columns", (long)tensor_count(norm->gain),
            (long)columns);
}

void cpu_norm_forward(Tensor out_tensor, Tensor sum_tensor, Tensor stats_tensor, Tensor residual_tensor,
                      Tensor branch_tensor, const Norm *norm) {
    Matrix out = cpu_matrix(out_tensor), residual = cpu_matrix(residual_tensor), branch = cpu_matrix(branch_tensor);
    Matrix sum = branch.data ? cpu_matrix(sum_tensor) : residual;
    Matrix stats = cpu_matrix(stats_tensor);
    int64_t n = out.columns;
    require_norm(norm, n);
    REQUIRE(residual.rows == out.rows && sum.rows == out.rows && stats.rows * stats.columns == 2 * out.rows,
            "%ld rows to %ld", (long)residual.rows, (long)out.rows);
#pragma omp parallel for num_threads(cpu_team(out.rows * n))
    for (int64_t r = 0; r < out.rows; r++) {
        float *x = matrix_row(sum, r), *row = stats.data + 2 * r;
        if (branch.data) add_rows(x, matrix_row(residual, r), matrix_row(branch, r), n);
        row_stats(row, x, n, norm);
        normalise_row(matrix_row(out, r), x, row, norm, n);
    }
}

// With h = (x - mean) rstd and e = gain dout: dx += rstd (e - mean(e) - h mean(e h)); RMS has no mean(e).
static void backward_row(float *dx, const float *dout, const float *x, const float stats[2], const Norm *norm,
                         int64_t n) {
    const float *gain = norm->gain.data;
    float mean = stats[0], rstd = stats[1], sum_e = 0, sum_eh = 0;
#pragma omp simd reduction(+ : sum_e, sum_eh)
    for (int64_t i = 0; i < n; i++) {
        float e = gain[i] * dout[i];
        sum_e += e;
        sum_eh += e * ((x[i] - mean) * rstd);
    }
    float mean_e = norm->kind == NORM_LAYER ? sum_e / (float)n : 0, mean_eh = sum_eh / (float)n;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float h = (x[i] - mean) * rstd;
        dx[i] += rstd * (gain[i] * dout[i] - mean_e - h * mean_eh);
    }
}

typedef struct {
    Matrix dout, sum;
    const float *stats;
    int64_t column, columns; // a block of at most COLUMN_BLOCK
} GainBlock;

// Adds the block's gradients of gain and bias over some rows.
static void add_gains(double *dgain, double *dbias, const GainBlock *block, int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
        const float *dout = matrix_row(block->dout, r) + block->column, *x = matrix_row(block->sum, r) + block->column;
        float mean = block->stats[2 * r], rstd = block->stats[2 * r + 1];
        for (int64_t i = 0; i < block->columns; i++) {
            dgain[i] += dout[i] * ((x[i] - mean) * rstd);
            dbias[i] += dout[i];
        }
    }
}

static void gain_block_backward(const GainBlock *block, const NormGrads *grads) {
    Matrix each = cpu_matrix(grads->sequence_gain);
    float *gain = cpu_floats(grads->gain), *bias = cpu_floats(grads->bias);
    double dgain[COLUMN_BLOCK] = {0}, dbias[COLUMN_BLOCK] = {0};
    int64_t sequences = each.data ? each.rows : 1, tokens = block->dout.rows / sequences;
    for (int64_t s = 0; s < sequences; s++) {
        double sequence_gain[COLUMN_BLOCK] = {0};
        add_gains(sequence_gain, dbias, block, s * tokens, (s + 1) * tokens);
        for (int64_t i = 0; i < block->columns; i++) {
            dgain[i] += sequence_gain[i];
            if (each.data) matrix_row(each, s)[block->column + i] = (float)sequence_gain[i];
        }
    }
    for (int64_t i = 0; i < block->columns; i++) {
        gain[block->column + i] += (float)dgain[i];
        if (bias) bias[block->column + i] += (float)dbias[i];
    }
}

void cpu_norm_backward_add(Tensor dsum_tensor, const NormGrads *grads, Tensor dout_tensor, Tensor sum_tensor,
                           Tensor stats_tensor, const Norm *norm) {
    Matrix dsum = cpu_matrix(dsum_tensor), dout = cpu_matrix(dout_tensor), sum = cpu_matrix(sum_tensor);
    const float *stats = cpu_floats(stats_tensor);
    int64_t n = dout.columns;
    require_norm(norm, n);
    REQUIRE(dsum.rows == dout.rows && sum.rows == dout.rows && dsum.columns == n && sum.columns == n,
            "%ld x %ld from %ld x %ld", (long)dsum.rows, (long)dsum.columns, (long)dout.rows, (long)n);
#pragma omp parallel for num_threads(cpu_team(dout.rows * n))
    for (int64_t r = 0; r < dout.rows; r++)
        backward_row(matrix_row(dsum, r), matrix_row(dout, r), matrix_row(sum, r), stats + 2 * r, norm, n);
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(dout.rows * n))
    for (int64_t column = 0; column < n; column += COLUMN_BLOCK) {
        GainBlock block = {dout, sum, stats, column, least(COLUMN_BLOCK, n - column)};
        gain_block_backward(&block, grads);
    }
    if (tensor_present(grads->sum)) cpu_add_column_sums(cpu_floats(grads->sum), dsum);
}
