// The numbers of a product: operands widened to fp32, OpenBLAS on one thread, the epilogue in fp32, one rounding.
#include "tests/cudasim/blas.h"

#include <cblas.h>
#include <omp.h>

namespace cudasim {
namespace {

float get(const void *values, uint32_t type, size_t i) {
    return type == CUDA_R_16BF ? __bfloat162float(static_cast<const __nv_bfloat16 *>(values)[i])
                               : static_cast<const float *>(values)[i];
}
void set(void *values, uint32_t type, size_t i, float value) {
    if (type == CUDA_R_16BF)
        static_cast<__nv_bfloat16 *>(values)[i] = __float2bfloat16_rn(value);
    else
        static_cast<float *>(values)[i] = value;
}

const char *matrix_of(const void *values, const Layout &layout, size_t item) {
    return static_cast<const char *>(values) +
           item * static_cast<size_t>(layout.batch_offset) * type_bytes(layout.type);
}

// op(matrix) as fp32, column-major without gaps.
std::vector<float> widened(const void *values, const Layout &layout, bool transposed) {
    const size_t rows = transposed ? layout.cols : layout.rows, cols = transposed ? layout.rows : layout.cols;
    std::vector<float> wide(rows * cols);
    for (size_t j = 0; j < cols; j++)
        for (size_t i = 0; i < rows; i++)
            wide[i + j * rows] = get(values, layout.type, transposed ? layout.index(j, i) : layout.index(i, j));
    return wide;
}

// GELU by tanh, and its derivative.
constexpr float GELU_SCALE = 0.7978845608028654f, GELU_CUBE = 0.044715f;
float gelu(float x) { return 0.5f * x * (1 + std::tanh(GELU_SCALE * (x + GELU_CUBE * x * x * x))); }
float gelu_slope(float x) {
    const float t = std::tanh(GELU_SCALE * (x + GELU_CUBE * x * x * x));
    return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * GELU_SCALE * (1 + 3 * GELU_CUBE * x * x);
}

// One matrix of the batch; `sums` receives what the epilogue puts in place of a bias.
struct Item {
    const Product &p;
    size_t number;
    std::vector<float> result, sums;

    void multiply();
    void finish();
    float element(size_t row, size_t col);
};

void add_rows(std::vector<float> &sums, const std::vector<float> &matrix, size_t rows) {
    sums.assign(rows, 0);
    for (size_t i = 0; i < matrix.size(); i++) sums[i % rows] += matrix[i];
}
void add_columns(std::vector<float> &sums, const std::vector<float> &matrix, size_t rows) {
    sums.assign(matrix.size() / rows, 0);
    for (size_t i = 0; i < matrix.size(); i++) sums[i / rows] += matrix[i];
}

void Item::multiply() {
    const size_t m = p.rows(), n = p.cols(), k = p.inner();
    const std::vector<float> a =
        widened(matrix_of(p.a, p.layout_a, number), p.layout_a, p.description.op_a != CUBLAS_OP_N);
    const std::vector<float> b =
        widened(matrix_of(p.b, p.layout_b, number), p.layout_b, p.description.op_b != CUBLAS_OP_N);
    result.resize(m * n);
    cblas_sgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, static_cast<int>(m), static_cast<int>(n),
                static_cast<int>(k), 1, a.data(), static_cast<int>(m), b.data(), static_cast<int>(k), 0, result.data(),
                static_cast<int>(m));
    if (sums_a(p.description.epilogue)) add_rows(sums, a, m);
    if (sums_b(p.description.epilogue)) add_columns(sums, b, k);
}

float Item::element(size_t row, size_t col) {
    const Description &d = p.description;
    float x = p.alpha * result[row + col * p.rows()];
    if (p.beta != 0) x += p.beta * get(matrix_of(p.c, p.layout_c, number), p.layout_c.type, p.layout_c.index(row, col));
    if (d.epilogue & HAS_BIAS) x += get(d.bias, p.layout_d.type, row + number * static_cast<size_t>(d.bias_stride));
    Layout aux = p.layout_d;
    aux.ld = d.aux_ld;
    const size_t at = aux.index(row, col) + number * static_cast<size_t>(d.aux_stride);
    if (d.epilogue & HAS_DGELU) return x * gelu_slope(get(d.aux, aux.type, at));
    if (d.epilogue & HAS_AUX) set(d.aux, aux.type, at, x);
    return d.epilogue & HAS_GELU ? gelu(x) : x;
}

void Item::finish() {
    char *out = const_cast<char *>(matrix_of(p.d, p.layout_d, number));
    for (size_t j = 0; j < p.cols(); j++)
        for (size_t i = 0; i < p.rows(); i++) {
            float &x = result[i + j * p.rows()];
            x = element(i, j);
            set(out, p.layout_d.type, p.layout_d.index(i, j), x);
        }
    if (p.description.epilogue & HAS_BIAS_GRADIENT) add_rows(sums, result, p.rows());
    const size_t first = number * static_cast<size_t>(p.description.bias_stride);
    for (size_t i = 0; i < sums.size(); i++) set(p.description.bias, p.layout_d.type, first + i, sums[i]);
}

} // namespace

void compute(const Product &product) {
    const DeviceAccess access;
    const int threads = omp_get_max_threads(); // what OpenBLAS goes by
    omp_set_num_threads(1);
    // The workspace belongs to the library while it runs.
    if (product.workspace_bytes) fill_with_poison(product.workspace, product.workspace_bytes);
    for (int32_t i = 0; i < product.layout_d.batch; i++) {
        Item item{product, static_cast<size_t>(i), {}, {}};
        item.multiply();
        item.finish();
    }
    omp_set_num_threads(threads);
}

} // namespace cudasim
