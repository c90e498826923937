// The stand-in for cuBLASLt against plain loops in double: transposes, strides, batches, types, every epilogue, what it
// refuses, and that it is recorded.
#include <cublasLt.h>

#include "tests/cudasim/check.h"
#include "tests/cudasim/control.h"

namespace {

struct Case {
    uint64_t m, n, k;
    int32_t batch;
    bool a_transposed, b_transposed;
    cudaDataType in, out;
    uint32_t epilogue;
    float alpha, beta;
    cublasLtOrder_t order; // of D and C
};

// A matrix of every batch item with gaps between its columns and between items, in device memory of its type.
struct Matrix {
    cudaDataType type;
    size_t rows, cols, ld, step;
    cublasLtOrder_t order;
    std::vector<double> values; // as stored
    DeviceArray<uint8_t> *device;

    size_t bytes() const { return type == CUDA_R_16BF ? 2 : 4; }
    size_t at(size_t item, size_t row, size_t col) const {
        return item * step + (order == CUBLASLT_ORDER_COL ? row + col * ld : row * ld + col);
    }
    double operator()(size_t item, size_t row, size_t col) const { return values[at(item, row, col)]; }
};

uint32_t random_state = 1;
double random_value() {
    random_state = random_state * 1664525 + 1013904223;
    return static_cast<int>(random_state >> 8) / double(1 << 24) * 2 - 1;
}

void upload(Matrix &m) {
    std::vector<uint8_t> bytes(m.values.size() * m.bytes());
    for (size_t i = 0; i < m.values.size(); i++) {
        const float x = static_cast<float>(m.values[i]);
        const __nv_bfloat16 rounded = __float2bfloat16_rn(x);
        if (m.type == CUDA_R_16BF)
            memcpy(&bytes[i * 2], &rounded, 2);
        else
            memcpy(&bytes[i * 4], &x, 4);
        m.values[i] = m.type == CUDA_R_16BF ? __bfloat162float(rounded) : x;
    }
    m.device = new DeviceArray<uint8_t>(bytes);
}

void download(Matrix &m) {
    const std::vector<uint8_t> bytes = m.device->copy();
    for (size_t i = 0; i < m.values.size(); i++) {
        float x;
        __nv_bfloat16 rounded;
        if (m.type == CUDA_R_16BF)
            memcpy(&rounded, &bytes[i * 2], 2), x = __bfloat162float(rounded);
        else
            memcpy(&x, &bytes[i * 4], 4);
        m.values[i] = x;
    }
}

Matrix make_matrix(cudaDataType type, size_t rows, size_t cols, size_t gap, int32_t batch,
                   cublasLtOrder_t order = CUBLASLT_ORDER_COL) {
    const size_t lines = order == CUBLASLT_ORDER_COL ? rows : cols, count = order == CUBLASLT_ORDER_COL ? cols : rows;
    const size_t ld = (lines + gap + 7) / 8 * 8;
    Matrix m{type, rows, cols, ld, ld * count + 8, order, {}, nullptr};
    m.values.resize(m.step * batch);
    for (double &x : m.values) x = random_value();
    upload(m);
    return m;
}

cublasLtMatrixLayout_t layout_of(const Matrix &m, int32_t batch) {
    cublasLtMatrixLayout_t layout;
    const int64_t step = static_cast<int64_t>(m.step);
    assert_int_equal(cublasLtMatrixLayoutCreate(&layout, m.type, m.rows, m.cols, m.ld), CUBLAS_STATUS_SUCCESS);
    cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_ORDER, &m.order, sizeof m.order);
    cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch);
    cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step, sizeof step);
    return layout;
}

template <class T> void set(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t attribute, T value) {
    assert_int_equal(cublasLtMatmulDescSetAttribute(d, attribute, &value, sizeof value), CUBLAS_STATUS_SUCCESS);
}
template <class T> void prefer(cublasLtMatmulPreference_t p, cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    assert_int_equal(cublasLtMatmulPreferenceSetAttribute(p, attribute, &value, sizeof value), CUBLAS_STATUS_SUCCESS);
}

constexpr size_t WORKSPACE = 1 << 20;
constexpr int WANTED = 8;

struct Problem {
    Case c;
    Matrix a, b, add, out, bias, aux;
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t description;
    cublasLtMatrixLayout_t layout[4];
    cublasLtMatmulHeuristicResult_t found[WANTED];
    int count;
    DeviceArray<uint8_t> *workspace;

    cublasStatus_t ask() {
        cublasLtMatmulPreference_t p;
        cublasLtMatmulPreferenceCreate(&p);
        prefer<uint64_t>(p, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, WORKSPACE);
        const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle, description, layout[0], layout[1],
                                                                     layout[2], layout[3], p, WANTED, found, &count);
        cublasLtMatmulPreferenceDestroy(p);
        return status;
    }
    cublasStatus_t run(const cublasLtMatmulAlgo_t *algorithm, cudaStream_t stream = nullptr) {
        return cublasLtMatmul(handle, description, &c.alpha, a.device->get(), layout[0], b.device->get(), layout[1],
                              &c.beta, add.device->get(), layout[2], out.device->get(), layout[3], algorithm,
                              workspace->get(), WORKSPACE, stream);
    }
};

Problem make_problem(const Case &c) {
    Problem p{};
    p.c = c;
    const bool sums_columns = c.epilogue == CUBLASLT_EPILOGUE_BGRADB;
    p.a = c.a_transposed ? make_matrix(c.in, c.k, c.m, 3, c.batch) : make_matrix(c.in, c.m, c.k, 3, c.batch);
    p.b = c.b_transposed ? make_matrix(c.in, c.n, c.k, 9, c.batch) : make_matrix(c.in, c.k, c.n, 9, c.batch);
    p.add = make_matrix(c.out, c.m, c.n, 1, c.batch, c.order);
    p.out = make_matrix(c.out, c.m, c.n, 17, c.batch, c.order);
    p.aux = make_matrix(c.out, c.m, c.n, 33, c.batch, c.order);
    p.bias = make_matrix(c.out, sums_columns ? c.n : c.m, 1, 0, c.batch);
    cublasLtCreate(&p.handle);
    cublasLtMatmulDescCreate(&p.description, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    set(p.description, CUBLASLT_MATMUL_DESC_TRANSA, c.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(p.description, CUBLASLT_MATMUL_DESC_TRANSB, c.b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(p.description, CUBLASLT_MATMUL_DESC_EPILOGUE, c.epilogue);
    set<void *>(p.description, CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias.device->get());
    set<int64_t>(p.description, CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, p.bias.step);
    set<void *>(p.description, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, p.aux.device->get());
    set<int64_t>(p.description, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.aux.ld);
    set<int64_t>(p.description, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, p.aux.step);
    const Matrix *matrices[] = {&p.a, &p.b, &p.add, &p.out};
    for (int i = 0; i < 4; i++) p.layout[i] = layout_of(*matrices[i], c.batch);
    p.workspace = new DeviceArray<uint8_t>(WORKSPACE);
    return p;
}

void drop(Problem &p) {
    for (cublasLtMatrixLayout_t layout : p.layout) cublasLtMatrixLayoutDestroy(layout);
    cublasLtMatmulDescDestroy(p.description);
    cublasLtDestroy(p.handle);
    for (Matrix *m : {&p.a, &p.b, &p.add, &p.out, &p.bias, &p.aux}) delete m->device;
    delete p.workspace;
}

// ---- what is right ----

double gelu(double x) { return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
double gelu_slope(double x) { return (gelu(x + 1e-5) - gelu(x - 1e-5)) / 2e-5; }

// Sets what the epilogue writes in the expected out, aux and bias.
void expect_item(const Problem &p, size_t item, Matrix &out, Matrix &aux, Matrix &bias) {
    const Case &c = p.c;
    const auto a = [&](size_t i, size_t l) { return c.a_transposed ? p.a(item, l, i) : p.a(item, i, l); };
    const auto b = [&](size_t l, size_t j) { return c.b_transposed ? p.b(item, j, l) : p.b(item, l, j); };
    std::vector<double> rows(c.m);
    for (size_t i = 0; i < c.m; i++)
        for (size_t j = 0; j < c.n; j++) {
            double x = 0;
            for (size_t l = 0; l < c.k; l++) x += a(i, l) * b(l, j);
            x = c.alpha * x + (c.beta != 0 ? c.beta * p.add(item, i, j) : 0);
            if (c.epilogue & 4) x += p.bias(item, i, 0);
            if ((c.epilogue & 192) == 192)
                x *= gelu_slope(p.aux(item, i, j));
            else if (c.epilogue & 128)
                aux.values[aux.at(item, i, j)] = x;
            if (c.epilogue & 32) x = gelu(x);
            out.values[out.at(item, i, j)] = x;
            rows[i] += x;
        }
    if (c.epilogue == CUBLASLT_EPILOGUE_DGELU_BGRAD)
        for (size_t i = 0; i < c.m; i++) bias.values[bias.at(item, i, 0)] = rows[i];
    for (size_t i = 0; i < c.m && c.epilogue == CUBLASLT_EPILOGUE_BGRADA; i++) {
        double &sum = bias.values[bias.at(item, i, 0)] = 0;
        for (size_t l = 0; l < c.k; l++) sum += a(i, l);
    }
    for (size_t j = 0; j < c.n && c.epilogue == CUBLASLT_EPILOGUE_BGRADB; j++) {
        double &sum = bias.values[bias.at(item, j, 0)] = 0;
        for (size_t l = 0; l < c.k; l++) sum += b(l, j);
    }
}

// Everything, gaps included: they stay as they were.
void check_matrix(const char *name, Matrix &got, const Matrix &expected, double roundoff) {
    download(got);
    for (size_t i = 0; i < got.values.size(); i++) {
        const double tolerance = roundoff * fmax(1, fabs(expected.values[i]));
        if (!(fabs(got.values[i] - expected.values[i]) <= tolerance))
            fail_msg("%s[%zu] is %.9g, not %.9g", name, i, got.values[i], expected.values[i]);
    }
}

void check_case(const Case &c) {
    Problem p = make_problem(c);
    Matrix out = p.out, aux = p.aux, bias = p.bias;
    for (size_t item = 0; item < static_cast<size_t>(c.batch); item++) expect_item(p, item, out, aux, bias);
    assert_int_equal(p.ask(), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(p.count, 3);
    std::vector<uint8_t> first;
    for (int i = 0; i < p.count; i++) {
        assert_int_equal(p.run(&p.found[i].algo), CUBLAS_STATUS_SUCCESS);
        if (i == 0) first = p.out.device->copy();
        assert_true(first == p.out.device->copy());
    }
    const double roundoff = c.out == CUDA_R_16BF ? 0x1p-8 : 0x1p-18;
    check_matrix("out", p.out, out, roundoff);
    check_matrix("aux", p.aux, aux, roundoff);
    check_matrix("bias", p.bias, bias, roundoff * 4);
    drop(p);
}

constexpr cudaDataType BF16 = CUDA_R_16BF, F32 = CUDA_R_32F;
constexpr cublasLtOrder_t COL = CUBLASLT_ORDER_COL, ROW = CUBLASLT_ORDER_ROW;
const uint32_t epilogues[] = {CUBLASLT_EPILOGUE_DEFAULT,     CUBLASLT_EPILOGUE_BIAS,          CUBLASLT_EPILOGUE_GELU,
                              CUBLASLT_EPILOGUE_GELU_AUX,    CUBLASLT_EPILOGUE_GELU_AUX_BIAS, CUBLASLT_EPILOGUE_DGELU,
                              CUBLASLT_EPILOGUE_DGELU_BGRAD, CUBLASLT_EPILOGUE_BGRADA,        CUBLASLT_EPILOGUE_BGRADB,
                              CUBLASLT_EPILOGUE_GELU_BIAS};

} // namespace

TEST(products_of_all_transposes_and_types) {
    for (int bits = 0; bits < 4; bits++) {
        const bool at = bits & 1, bt = bits & 2;
        check_case({17, 9, 33, 1, at, bt, BF16, BF16, CUBLASLT_EPILOGUE_DEFAULT, 1, 0, COL});
        check_case({17, 9, 33, 1, at, bt, BF16, F32, CUBLASLT_EPILOGUE_DEFAULT, 1, 1, COL});
        check_case({17, 9, 33, 3, at, bt, F32, F32, CUBLASLT_EPILOGUE_DEFAULT, 0.5f, -2, COL});
        check_case({8, 24, 5, 2, at, bt, BF16, BF16, CUBLASLT_EPILOGUE_DEFAULT, -1, 3, ROW});
    }
}

TEST(epilogues_in_bf16) {
    for (uint32_t epilogue : epilogues) check_case({16, 11, 24, 1, true, false, BF16, BF16, epilogue, 1, 0, COL});
}
TEST(epilogues_in_fp32) {
    for (uint32_t epilogue : epilogues) check_case({16, 11, 24, 1, true, false, F32, F32, epilogue, 1.5f, 1, COL});
}
TEST(epilogues_of_batches) {
    for (uint32_t epilogue : epilogues) check_case({8, 5, 7, 3, false, true, BF16, F32, epilogue, 1, 0, COL});
}
TEST(epilogues_of_rows) {
    for (uint32_t epilogue : epilogues) check_case({8, 16, 7, 2, false, false, BF16, BF16, epilogue, 1, 0, ROW});
}

TEST(poison_is_not_read_where_beta_is_0) {
    Problem p = make_problem({8, 8, 8, 1, false, false, F32, F32, CUBLASLT_EPILOGUE_DEFAULT, 1, 0, COL});
    for (double &x : p.add.values) x = NAN;
    delete p.add.device;
    upload(p.add);
    assert_int_equal(p.run(nullptr), CUBLAS_STATUS_SUCCESS);
    download(p.out);
    for (double x : p.out.values) assert_true(x == x);
    drop(p);
}

// ---- what is refused ----

TEST(what_the_library_refuses) {
    const Case plain = {16, 16, 16, 1, false, false, BF16, BF16, CUBLASLT_EPILOGUE_GELU_AUX, 1, 0, COL};
    Problem p = make_problem(plain);
    set<int64_t>(p.description, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, 20);
    assert_int_equal(p.ask(), CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(p.run(nullptr), CUBLAS_STATUS_INVALID_VALUE);
    set<int64_t>(p.description, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.aux.ld);
    assert_int_equal(p.run(nullptr), CUBLAS_STATUS_SUCCESS);

    set<int32_t>(p.description, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, CUDA_R_32F);
    assert_int_equal(p.ask(), CUBLAS_STATUS_NOT_SUPPORTED);
    set<uint32_t>(p.description, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BGRADB);
    set<int32_t>(p.description, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CUDA_R_32F);
    assert_int_equal(p.ask(), CUBLAS_STATUS_NOT_SUPPORTED);

    set<uint32_t>(p.description, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DEFAULT);
    set<int32_t>(p.description, CUBLASLT_MATMUL_DESC_POINTER_MODE, CUBLASLT_POINTER_MODE_DEVICE);
    assert_int_equal(p.run(nullptr), CUBLAS_STATUS_NOT_SUPPORTED);
    set<int32_t>(p.description, CUBLASLT_MATMUL_DESC_POINTER_MODE, CUBLASLT_POINTER_MODE_HOST);
    const int64_t narrow = 15;
    cublasLtMatrixLayoutSetAttribute(p.layout[0], CUBLASLT_MATRIX_LAYOUT_LD, &narrow, sizeof narrow);
    assert_int_equal(p.ask(), CUBLAS_STATUS_INVALID_VALUE);
    drop(p);
}

TEST(algorithms_belong_to_their_problem) {
    Problem p = make_problem({16, 16, 16, 1, false, false, F32, F32, CUBLASLT_EPILOGUE_DEFAULT, 1, 0, COL});
    Problem other = make_problem({16, 16, 8, 1, false, false, F32, F32, CUBLASLT_EPILOGUE_DEFAULT, 1, 0, COL});
    cublasLtMatmulHeuristicResult_t result;
    assert_int_equal(p.ask(), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(p.run(&p.found[1].algo), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(other.run(&p.found[1].algo), CUBLAS_STATUS_NOT_SUPPORTED);
    assert_int_equal(cublasLtMatmulAlgoCheck(p.handle, p.description, p.layout[0], p.layout[1], p.layout[2],
                                             p.layout[3], &p.found[2].algo, &result),
                     CUBLAS_STATUS_SUCCESS);
    assert_int_equal(result.workspaceSize, p.found[2].workspaceSize);
    int32_t id = -1;
    size_t written = 0;
    assert_int_equal(
        cublasLtMatmulAlgoConfigGetAttribute(&p.found[2].algo, CUBLASLT_ALGO_CONFIG_ID, &id, sizeof id, &written),
        CUBLAS_STATUS_SUCCESS);
    assert_int_equal(id, 2);
    cudasim_plain_products(1);
    assert_int_equal(p.ask(), CUBLAS_STATUS_SUCCESS);
    set<uint32_t>(p.description, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    assert_int_equal(p.ask(), CUBLAS_STATUS_NOT_SUPPORTED);
    cudasim_plain_products(0);
    drop(p);
    drop(other);
}

// ---- recorded ----

TEST(a_recorded_product_runs_when_its_graph_does) {
    Problem p = make_problem({8, 8, 8, 1, false, false, F32, F32, CUBLASLT_EPILOGUE_DEFAULT, 1, 0, COL});
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    const std::vector<uint8_t> before = p.out.device->copy();
    assert_int_equal(cudaStreamCreate(&stream), cudaSuccess);
    assert_int_equal(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    assert_int_equal(p.run(nullptr, stream), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    p.c.alpha = 100; // the value of the call counts
    assert_true(before == p.out.device->copy());
    assert_int_equal(cudaGraphInstantiate(&executable, graph), cudaSuccess);
    assert_int_equal(cudaGraphLaunch(executable, stream), cudaSuccess);
    const std::vector<uint8_t> replayed = p.out.device->copy();
    assert_true(before != replayed);
    p.c.alpha = 1;
    assert_int_equal(p.run(nullptr, stream), CUBLAS_STATUS_SUCCESS);
    assert_true(replayed == p.out.device->copy());
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
    cudaStreamDestroy(stream);
    drop(p);
}
