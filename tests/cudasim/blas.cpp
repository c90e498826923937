// A stand-in for cuBLASLt: its objects, and what it accepts. Everything is column-major, as there. The heuristics give
// three algorithms whose results are the same bits; they differ in the workspace they want. What the library would
// refuse is refused; what it would leave undefined, an operand that is not device memory, is a fault.
#include "tests/cudasim/blas.h"
#include "tests/cudasim/control.h"

#include <iterator>

struct cublasLtContext {
    int unused;
};

namespace cudasim {
namespace {

constexpr int ALGORITHMS = 3;
constexpr size_t WORKSPACE_STEP = 32 << 10, WORKSPACE_ALIGNMENT = 256;
constexpr uint64_t ALGORITHM_MARK = 0x61736c6775640000; // the number of the algorithm is in the low bits
constexpr uint32_t DEFAULT_ALIGNMENT = 256;

bool only_plain_products;
uint32_t refused_plain, refused_fused; // algorithms, by bits
cublasStatus_t create_status, heuristic_status;

struct Preference {
    uint64_t max_workspace, implementations;
    uint32_t search_mode, reduction_schemes, alignment[4];
    float max_waves;
};

struct Algorithm { // what is in a cublasLtMatmulAlgo_t
    uint64_t mark;
    uint64_t problem; // a hash of all that it was chosen for
    uint32_t alignment[4];
    uint64_t unused[4];
};

static_assert(sizeof(Layout) <= sizeof(cublasLtMatrixLayoutOpaque_t), "a layout fits");
static_assert(sizeof(Description) <= sizeof(cublasLtMatmulDescOpaque_t), "a description fits");
static_assert(sizeof(Preference) <= sizeof(cublasLtMatmulPreferenceOpaque_t), "a preference fits");
static_assert(sizeof(Algorithm) == sizeof(cublasLtMatmulAlgo_t), "an algorithm fits");

template <class T, class Opaque> T &content(Opaque *opaque) { return *reinterpret_cast<T *>(opaque->data); }

// ---- attributes ----

struct Field {
    int attribute;
    size_t offset, size;
};
#define FIELD(attribute, structure, name) \
    { attribute, offsetof(structure, name), sizeof(structure::name) }

const Field layout_fields[] = {
    FIELD(CUBLASLT_MATRIX_LAYOUT_TYPE, Layout, type),
    FIELD(CUBLASLT_MATRIX_LAYOUT_ORDER, Layout, order),
    FIELD(CUBLASLT_MATRIX_LAYOUT_ROWS, Layout, rows),
    FIELD(CUBLASLT_MATRIX_LAYOUT_COLS, Layout, cols),
    FIELD(CUBLASLT_MATRIX_LAYOUT_LD, Layout, ld),
    FIELD(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, Layout, batch),
    FIELD(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, Layout, batch_offset),
};
const Field description_fields[] = {
    FIELD(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, Description, compute),
    FIELD(CUBLASLT_MATMUL_DESC_SCALE_TYPE, Description, scale),
    FIELD(CUBLASLT_MATMUL_DESC_POINTER_MODE, Description, pointer_mode),
    FIELD(CUBLASLT_MATMUL_DESC_TRANSA, Description, op_a),
    FIELD(CUBLASLT_MATMUL_DESC_TRANSB, Description, op_b),
    FIELD(CUBLASLT_MATMUL_DESC_TRANSC, Description, op_c),
    FIELD(CUBLASLT_MATMUL_DESC_EPILOGUE, Description, epilogue),
    FIELD(CUBLASLT_MATMUL_DESC_BIAS_POINTER, Description, bias),
    FIELD(CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, Description, bias_stride),
    FIELD(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, Description, aux),
    FIELD(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, Description, aux_ld),
    FIELD(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, Description, aux_stride),
    FIELD(CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET, Description, multiprocessors),
    FIELD(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, Description, aux_type),
    FIELD(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, Description, bias_type),
};
const Field preference_fields[] = {
    FIELD(CUBLASLT_MATMUL_PREF_SEARCH_MODE, Preference, search_mode),
    FIELD(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, Preference, max_workspace),
    FIELD(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, Preference, reduction_schemes),
    FIELD(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, Preference, alignment[0]),
    FIELD(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, Preference, alignment[1]),
    FIELD(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, Preference, alignment[2]),
    FIELD(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, Preference, alignment[3]),
    FIELD(CUBLASLT_MATMUL_PREF_MAX_WAVES_COUNT, Preference, max_waves),
    FIELD(CUBLASLT_MATMUL_PREF_IMPL_MASK, Preference, implementations),
};
#undef FIELD

template <size_t N>
cublasStatus_t set_field(void *object, const Field (&fields)[N], int attribute, const void *value, size_t size) {
    if (!object || !value) return CUBLAS_STATUS_INVALID_VALUE;
    for (const Field &f : fields) {
        if (f.attribute != attribute) continue;
        if (f.size != size) return CUBLAS_STATUS_INVALID_VALUE;
        memcpy(static_cast<char *>(object) + f.offset, value, size);
        return CUBLAS_STATUS_SUCCESS;
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

// ---- what is accepted ----

cublasStatus_t check_types(const Product &p) {
    const Description &d = p.description;
    const uint32_t in = p.layout_a.type, out = p.layout_d.type;
    const bool known =
        (in == CUDA_R_16BF && (out == CUDA_R_16BF || out == CUDA_R_32F)) || (in == CUDA_R_32F && out == CUDA_R_32F);
    if (d.compute != CUBLAS_COMPUTE_32F && d.compute != CUBLAS_COMPUTE_32F_PEDANTIC) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (d.scale != CUDA_R_32F || d.pointer_mode != CUBLASLT_POINTER_MODE_HOST) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!known || p.layout_b.type != in || p.layout_c.type != out) return CUBLAS_STATUS_NOT_SUPPORTED;
    return d.op_c == CUBLAS_OP_N ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t check_layout(const Layout &layout) {
    const uint64_t least = layout.order == CUBLASLT_ORDER_COL ? layout.rows : layout.cols;
    if (layout.order != CUBLASLT_ORDER_COL && layout.order != CUBLASLT_ORDER_ROW) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!layout.rows || !layout.cols || layout.ld < static_cast<int64_t>(least)) return CUBLAS_STATUS_INVALID_VALUE;
    return layout.batch >= 1 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t check_shapes(const Product &p) {
    const bool a_turned = p.description.op_a != CUBLAS_OP_N, b_turned = p.description.op_b != CUBLAS_OP_N;
    for (const Layout *layout : {&p.layout_a, &p.layout_b, &p.layout_c, &p.layout_d}) {
        const cublasStatus_t status = check_layout(*layout);
        if (status) return status;
        if (layout->batch != p.layout_d.batch) return CUBLAS_STATUS_INVALID_VALUE;
    }
    const bool fits = (a_turned ? p.layout_a.cols : p.layout_a.rows) == p.rows() &&
                      (b_turned ? p.layout_b.rows : p.layout_b.cols) == p.cols() &&
                      (b_turned ? p.layout_b.cols : p.layout_b.rows) == p.inner() && p.layout_c.rows == p.rows() &&
                      p.layout_c.cols == p.cols() && p.layout_c.order == p.layout_d.order;
    return fits ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t check_epilogue(const Product &p) {
    static const uint32_t known[] = {
        CUBLASLT_EPILOGUE_DEFAULT,   CUBLASLT_EPILOGUE_BIAS,        CUBLASLT_EPILOGUE_GELU,
        CUBLASLT_EPILOGUE_GELU_BIAS, CUBLASLT_EPILOGUE_GELU_AUX,    CUBLASLT_EPILOGUE_GELU_AUX_BIAS,
        CUBLASLT_EPILOGUE_DGELU,     CUBLASLT_EPILOGUE_DGELU_BGRAD, CUBLASLT_EPILOGUE_BGRADA,
        CUBLASLT_EPILOGUE_BGRADB,
    };
    const Description &d = p.description;
    const int32_t out = static_cast<int32_t>(p.layout_d.type);
    if (std::find(std::begin(known), std::end(known), d.epilogue) == std::end(known))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (only_plain_products && d.epilogue != CUBLASLT_EPILOGUE_DEFAULT) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (uses_bias(d.epilogue) && d.bias_type != TYPE_OF_D && d.bias_type != out) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!(d.epilogue & HAS_AUX)) return CUBLAS_STATUS_SUCCESS;
    if (d.aux_type != TYPE_OF_D && d.aux_type != out) return CUBLAS_STATUS_NOT_SUPPORTED;
    const uint64_t least = p.layout_d.order == CUBLASLT_ORDER_COL ? p.rows() : p.cols();
    if (d.aux_ld % 8 || d.aux_ld < static_cast<int64_t>(least) || d.aux_stride % 8) return CUBLAS_STATUS_INVALID_VALUE;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t check_product(const Product &p) {
    cublasStatus_t status = check_types(p);
    if (!status) status = check_shapes(p);
    if (!status) status = check_epilogue(p);
    return status;
}

bool aligned(const void *address, size_t bytes) { return reinterpret_cast<uintptr_t>(address) % bytes == 0; }

cublasStatus_t check_addresses(const Product &p) {
    const Description &d = p.description;
    if (!p.a || !p.b || !p.d || (p.beta != 0 && !p.c)) return CUBLAS_STATUS_INVALID_VALUE;
    if (!aligned(p.a, type_bytes(p.layout_a.type)) || !aligned(p.b, type_bytes(p.layout_b.type)) ||
        !aligned(p.d, type_bytes(p.layout_d.type)) || !aligned(p.c, type_bytes(p.layout_c.type)))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (p.c == p.d && (p.layout_c.ld != p.layout_d.ld || p.layout_c.batch_offset != p.layout_d.batch_offset))
        return CUBLAS_STATUS_INVALID_VALUE; // in place, with one layout
    if (uses_bias(d.epilogue) && (!d.bias || !aligned(d.bias, type_bytes(p.layout_d.type))))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (d.epilogue & HAS_AUX && (!d.aux || !aligned(d.aux, 16))) return CUBLAS_STATUS_INVALID_VALUE;
    return CUBLAS_STATUS_SUCCESS;
}

void require_device_memory(const char *what, const void *address, size_t bytes) {
    if (!is_device_memory(address, bytes))
        fault("cublasLtMatmul: %s, %zu bytes at %p, is not all in one allocation of device memory", what, bytes,
              address);
}

void require_operands(const Product &p) {
    const Description &d = p.description;
    const size_t out_bytes = type_bytes(p.layout_d.type), last = static_cast<size_t>(p.layout_d.batch - 1);
    require_device_memory("A", p.a, p.layout_a.elements() * type_bytes(p.layout_a.type));
    require_device_memory("B", p.b, p.layout_b.elements() * type_bytes(p.layout_b.type));
    if (p.beta != 0) require_device_memory("C", p.c, p.layout_c.elements() * out_bytes);
    require_device_memory("D", p.d, p.layout_d.elements() * out_bytes);
    const size_t bias = sums_b(d.epilogue) ? p.cols() : p.rows();
    if (uses_bias(d.epilogue))
        require_device_memory("the bias", d.bias, (bias + last * static_cast<size_t>(d.bias_stride)) * out_bytes);
    Layout aux = p.layout_d;
    aux.ld = d.aux_ld;
    aux.batch_offset = d.aux_stride;
    if (d.epilogue & HAS_AUX) require_device_memory("the auxiliary matrix", d.aux, aux.elements() * out_bytes);
    if (p.workspace_bytes) require_device_memory("the workspace", p.workspace, p.workspace_bytes);
}

// ---- algorithms ----

uint64_t problem_of(const Product &p) {
    uint64_t hash = 0xcbf29ce484222325u;
    const auto add = [&hash](uint64_t value) { hash = (hash ^ value) * 0x100000001b3u; };
    for (const Layout *l : {&p.layout_a, &p.layout_b, &p.layout_c, &p.layout_d})
        for (uint64_t value : {uint64_t{l->type}, uint64_t(l->order), l->rows, l->cols, uint64_t(l->ld),
                               uint64_t(l->batch), uint64_t(l->batch_offset)})
            add(value);
    for (uint64_t value :
         {uint64_t(p.description.op_a), uint64_t(p.description.op_b), uint64_t{p.description.epilogue}})
        add(value);
    return hash;
}

int number_of(const Algorithm &algorithm) { return static_cast<int>(algorithm.mark - ALGORITHM_MARK); }
size_t workspace_of(const Algorithm &algorithm) { return static_cast<size_t>(number_of(algorithm)) * WORKSPACE_STEP; }

bool belongs(const Algorithm &algorithm, const Product &p) {
    return algorithm.mark >= ALGORITHM_MARK && number_of(algorithm) < ALGORITHMS && algorithm.problem == problem_of(p);
}

Product product_of(cublasLtMatmulDesc_t description, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                   cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d) {
    Product p{};
    p.description = content<Description>(description);
    p.layout_a = content<Layout>(a);
    p.layout_b = content<Layout>(b);
    p.layout_c = content<Layout>(c);
    p.layout_d = content<Layout>(d);
    return p;
}

// Operands as aligned as the algorithm was told, and its workspace.
cublasStatus_t use_algorithm(Product &p, const cublasLtMatmulAlgo_t *given, void *workspace, size_t bytes) {
    if (!given) return CUBLAS_STATUS_SUCCESS; // the library's own choice, without a workspace
    const Algorithm &algorithm = content<const Algorithm>(given);
    if (!belongs(algorithm, p)) return CUBLAS_STATUS_NOT_SUPPORTED;
    const void *operands[] = {p.a, p.b, p.beta != 0 ? p.c : p.d, p.d};
    for (int i = 0; i < 4; i++)
        if (!aligned(operands[i], algorithm.alignment[i])) return CUBLAS_STATUS_INVALID_VALUE;
    p.workspace = workspace;
    p.workspace_bytes = workspace_of(algorithm);
    if (!p.workspace_bytes) return CUBLAS_STATUS_SUCCESS;
    const bool suits = workspace && bytes >= p.workspace_bytes && aligned(workspace, WORKSPACE_ALIGNMENT);
    return suits ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

bool refused(const Product &p, const cublasLtMatmulAlgo_t *algorithm) {
    const uint32_t bits = p.description.epilogue == CUBLASLT_EPILOGUE_DEFAULT ? refused_plain : refused_fused;
    return algorithm && bits >> number_of(content<const Algorithm>(algorithm)) & 1;
}

// In the order of cublasLtMatmul's parameters.
std::vector<std::string> values_of(const Product &p, const cublasLtMatmulAlgo_t *algorithm) {
    return {"",
            value_bytes(p.description),
            value_bytes(p.alpha),
            value_bytes(p.a),
            value_bytes(p.layout_a),
            value_bytes(p.b),
            value_bytes(p.layout_b),
            value_bytes(p.beta),
            value_bytes(p.c),
            value_bytes(p.layout_c),
            value_bytes(p.d),
            value_bytes(p.layout_d),
            algorithm ? value_bytes(*algorithm) : "",
            value_bytes(p.workspace)};
}

} // namespace
} // namespace cudasim

using namespace cudasim;

extern "C" {

void cudasim_plain_products(int only) { only_plain_products = only; }
void cudasim_refuse_algorithms(uint32_t plain, uint32_t fused) { refused_plain = plain, refused_fused = fused; }
void cudasim_fail_library(int create, int heuristic) {
    create_status = static_cast<cublasStatus_t>(create);
    heuristic_status = static_cast<cublasStatus_t>(heuristic);
}

size_t cublasLtGetVersion(void) { return 130000; }

const char *cublasLtGetStatusName(cublasStatus_t status) {
    switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_ARCH_MISMATCH: return "CUBLAS_STATUS_ARCH_MISMATCH";
    case CUBLAS_STATUS_MAPPING_ERROR: return "CUBLAS_STATUS_MAPPING_ERROR";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_INTERNAL_ERROR: return "CUBLAS_STATUS_INTERNAL_ERROR";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    case CUBLAS_STATUS_LICENSE_ERROR: return "CUBLAS_STATUS_LICENSE_ERROR";
    }
    return "unknown cuBLAS status";
}
const char *cublasLtGetStatusString(cublasStatus_t status) { return cublasLtGetStatusName(status); }

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
    if (create_status) return create_status;
    *handle = new cublasLtContext{};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType type, uint64_t rows,
                                          uint64_t cols, int64_t ld) {
    *layout = new cublasLtMatrixLayoutOpaque_t{};
    content<Layout>(*layout) = {static_cast<uint32_t>(type), CUBLASLT_ORDER_COL, rows, cols, ld, 1, 0};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void *value,
                                                size_t size) {
    return set_field(layout, layout_fields, attribute, value, size);
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *description, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
    *description = new cublasLtMatmulDescOpaque_t{};
    Description &d = content<Description>(*description);
    d.compute = compute;
    d.scale = scale;
    d.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    d.bias_type = d.aux_type = TYPE_OF_D;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t description) {
    delete description;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description,
                                              cublasLtMatmulDescAttributes_t attribute, const void *value,
                                              size_t size) {
    return set_field(description, description_fields, attribute, value, size);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference) {
    *preference = new cublasLtMatmulPreferenceOpaque_t{};
    for (uint32_t &alignment : content<Preference>(*preference).alignment) alignment = DEFAULT_ALIGNMENT;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
    delete preference;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void *value,
                                                    size_t size) {
    return set_field(preference, preference_fields, attribute, value, size);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t description,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[], int *returned) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!description || !a || !b || !c || !d || !preference || requested < 1 || !results || !returned)
        return CUBLAS_STATUS_INVALID_VALUE;
    *returned = 0;
    if (heuristic_status) return heuristic_status;
    const Product p = product_of(description, a, b, c, d);
    const cublasStatus_t status = check_product(p);
    if (status) return status;
    const Preference &wanted = content<Preference>(preference);
    for (int i = 0; i < ALGORITHMS && *returned < requested; i++) {
        Algorithm algorithm{ALGORITHM_MARK + static_cast<uint64_t>(i), problem_of(p), {}, {}};
        memcpy(algorithm.alignment, wanted.alignment, sizeof algorithm.alignment);
        if (workspace_of(algorithm) > wanted.max_workspace) continue;
        cublasLtMatmulHeuristicResult_t &result = results[(*returned)++];
        result = {};
        content<Algorithm>(&result.algo) = algorithm;
        result.workspaceSize = workspace_of(algorithm);
        result.wavesCount = 1;
    }
    return *returned ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t description,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                       cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t *algorithm,
                                       cublasLtMatmulHeuristicResult_t *result) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!description || !a || !b || !c || !d || !algorithm || !result) return CUBLAS_STATUS_INVALID_VALUE;
    const Product p = product_of(description, a, b, c, d);
    const cublasStatus_t status = check_product(p);
    if (status) return status;
    const Algorithm &given = content<const Algorithm>(algorithm);
    if (!belongs(given, p)) return CUBLAS_STATUS_NOT_SUPPORTED;
    *result = {};
    result->algo = *algorithm;
    result->workspaceSize = workspace_of(given);
    result->wavesCount = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algorithm,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute, void *value,
                                                    size_t size, size_t *written) {
    const bool narrow = attribute >= CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID;
    const size_t needed = narrow ? sizeof(uint16_t) : sizeof(uint32_t);
    if (!algorithm || attribute > CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID) return CUBLAS_STATUS_INVALID_VALUE;
    if (written) *written = needed;
    if (!size && written) return CUBLAS_STATUS_SUCCESS;
    if (!value || size != needed) return CUBLAS_STATUS_INVALID_VALUE;
    uint32_t number = 0;
    if (attribute == CUBLASLT_ALGO_CONFIG_ID) number = number_of(content<const Algorithm>(algorithm));
    if (attribute == CUBLASLT_ALGO_CONFIG_SPLITK_NUM) number = 1;
    memcpy(value, &number, size); // little-endian
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t description, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t *algorithm, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!description || !a_layout || !b_layout || !c_layout || !d_layout || !alpha || !beta)
        return CUBLAS_STATUS_INVALID_VALUE;
    std::lock_guard<std::recursive_mutex> lock(api_mutex);
    Product p = product_of(description, a_layout, b_layout, c_layout, d_layout);
    p.alpha = *static_cast<const float *>(alpha);
    p.beta = *static_cast<const float *>(beta);
    p.a = a, p.b = b, p.c = c, p.d = d;
    cublasStatus_t status = check_product(p);
    if (!status) status = check_addresses(p);
    if (!status) status = use_algorithm(p, algorithm, workspace, workspace_bytes);
    if (status) return status;
    if (refused(p, algorithm)) return CUBLAS_STATUS_EXECUTION_FAILED;
    require_operands(p);
    const cudaError_t error =
        submit(stream, "cublasLtMatmul", __builtin_return_address(0), values_of(p, algorithm), [p] { compute(p); });
    return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

} // extern "C"
