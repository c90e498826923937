// Linear layers: products in tiles, or of few rows, with bias and activation applied to each tile while it is hot.
#include "kernels/cpu/activation.h"
#include "kernels/cpu/gemm.h"

typedef struct {
    Matrix out, pre;
    const float *bias; // or NULL
    int64_t group;     // columns from one group of `pre` to the next
    Activation activation;
} Finish;

static void finish_row(const Finish *f, int64_t row, int64_t column, int64_t n) {
    float *pre = matrix_row(f->pre, row) + column;
    for (int64_t g = column; f->bias && g < f->pre.columns; g += f->group)
#pragma omp simd
        for (int64_t i = 0; i < n; i++) pre[g - column + i] += f->bias[g + i];
    if (f->out.data != f->pre.data) activation_row(matrix_row(f->out, row) + column, pre, f->group, n, f->activation);
}

static void finish_tile(const void *context, Tile tile) {
    for (int64_t row = tile.row; row < tile.row + tile.rows; row++)
        finish_row(context, row, tile.column, tile.columns);
}

// The three products of a linear layer; see Product.
static Gemm linear_gemm(Matrix out, Matrix a, Matrix b, Product product) {
    bool a_turned = product == PRODUCT_BACKWARD_WEIGHT, b_turned = product == PRODUCT_FORWARD;
    int64_t inner = a_turned ? a.rows : a.columns;
    REQUIRE(out.rows == (a_turned ? a.columns : a.rows) && out.columns == (b_turned ? b.rows : b.columns) &&
                inner == (b_turned ? b.columns : b.rows),
            "product %d of (%ld, %ld) and (%ld, %ld) is not (%ld, %ld)", product, (long)a.rows, (long)a.columns,
            (long)b.rows, (long)b.columns, (long)out.rows, (long)out.columns);
    return (Gemm){.rows = out.rows, .columns = out.columns, .inner = inner,
                  .a = {a.data, a.stride, a_turned}, .b = {b.data, b.stride, b_turned}, .scale = 1,
                  .accumulate = product == PRODUCT_BACKWARD_WEIGHT, .out = out.data, .stride = out.stride};
}

void cpu_linear_forward(Tensor out_tensor, Tensor pre_tensor, Tensor in, const Linear *layer) {
    Activation activation = layer->activation;
    REQUIRE(tensor_present(pre_tensor) || activation == ACTIVATION_NONE, "activation %d without pre", activation);
    Matrix out = cpu_matrix(out_tensor), pre = tensor_present(pre_tensor) ? cpu_matrix(pre_tensor) : out;
    int64_t groups = activation_inputs(activation);
    REQUIRE(pre.rows == out.rows && pre.columns == groups * out.columns, "(%ld, %ld) to (%ld, %ld)", (long)pre.rows,
            (long)pre.columns, (long)out.rows, (long)out.columns);
    Gemm gemm = linear_gemm(pre, cpu_matrix(in), cpu_matrix(layer->weight), PRODUCT_FORWARD);
    Finish finish = {out, pre, cpu_floats(layer->bias), out.columns, activation};
    bool finished = !finish.bias && pre.data == out.data;
    if (gemm.rows <= GEMM_FEW_ROWS) gemm_few_rows(&gemm, groups, finished ? NULL : finish_tile, &finish);
    else gemm_tiled(&gemm, groups, finished ? NULL : finish_tile, &finish);
}

void cpu_linear_backward_input(Tensor din, Tensor dout, Tensor weight) {
    Gemm gemm = linear_gemm(cpu_matrix(din), cpu_matrix(dout), cpu_matrix(weight), PRODUCT_BACKWARD_INPUT);
    gemm_tiled(&gemm, 1, NULL, NULL);
}

void cpu_linear_backward_weight(Tensor dweight, Tensor dbias, Tensor dout, Tensor in) {
    Gemm gemm = linear_gemm(cpu_matrix(dweight), cpu_matrix(dout), cpu_matrix(in), PRODUCT_BACKWARD_WEIGHT);
    gemm_tiled(&gemm, 1, NULL, NULL);
    if (tensor_present(dbias)) cpu_add_column_sums(cpu_floats(dbias), cpu_matrix(dout));
}

void cpu_linear_backward_activation(const ActivationBackward *p) {
    Matrix dpre = cpu_matrix(p->dpre);
    cpu_linear_backward_input(p->room, p->dout, p->weight);
    activation_backward(dpre, cpu_matrix(p->room), cpu_matrix(p->pre), p->activation);
    if (tensor_present(p->dbias)) cpu_add_column_sums(cpu_floats(p->dbias), dpre);
}

void cpu_library_product(Tensor out, Tensor a, Tensor b, Product product) {
    Gemm gemm = linear_gemm(cpu_matrix(out), cpu_matrix(a), cpu_matrix(b), product);
    gemm_library(&gemm);
}
