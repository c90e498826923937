// Products by cuBLASLt: descriptors and algorithms, made once for each shape.
//
// The library is column-major: our out = a b is its out' = b' a', so its first operand is our second one.
#include "kernels/cuda/gemm.cuh"

#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/recording.cuh"
#include "kernels/cuda/tuner.cuh"

static struct {
    cublasLtHandle_t handle;
    GemmPlan **plans; // sorted by shape
    int64_t count, capacity;
} gemms;
static bool library_wanted = true;

void cublas_require(cublasStatus_t status, const char *call, const char *file, int line) {
    if (status != CUBLAS_STATUS_SUCCESS)
        DIE(EXIT_INTERNAL, "%s:%d: %s: %s", file, line, call, cublasLtGetStatusName(status));
}

void *gemm_sums_room(void) { return static_cast<char *>(cuda_scratch(CUDA_SCRATCH)) + GEMM_WORKSPACE_BYTES; }

// ---- descriptors ----

typedef struct {
    cublasLtEpilogue_t value;
    bool bias, aux, sums;
} LibraryEpilogue;

static LibraryEpilogue library_epilogue(int64_t epilogue) {
    static const LibraryEpilogue list[EPILOGUES] = {
        /* NONE */ {CUBLASLT_EPILOGUE_DEFAULT, false, false, false},
        /* LIBRARY */ {CUBLASLT_EPILOGUE_DEFAULT, false, false, false},
        /* BIAS */ {CUBLASLT_EPILOGUE_BIAS, true, false, false},
        /* GELU */ {CUBLASLT_EPILOGUE_GELU_AUX, false, true, false},
        /* GELU_BIAS */ {CUBLASLT_EPILOGUE_GELU_AUX_BIAS, true, true, false},
        /* DGELU */ {CUBLASLT_EPILOGUE_DGELU, false, true, false},
        /* DGELU_THEN_SUMS */ {CUBLASLT_EPILOGUE_DGELU, false, true, false},
        /* ROW_SUMS */ {CUBLASLT_EPILOGUE_BGRADB, false, false, true},
    };
    return list[epilogue];
}

static cudaDataType_t library_dtype(int64_t dtype) {
    REQUIRE(dtype == DTYPE_BF16 || dtype == DTYPE_F32, "a product of %s", dtype_name(static_cast<DType>(dtype)));
    return dtype == DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

template <class T> static void set_attribute(cublasLtMatmulDesc_t to, cublasLtMatmulDescAttributes_t name, T value) {
    CUBLAS(cublasLtMatmulDescSetAttribute(to, name, &value, sizeof value));
}
template <class T> static void set_layout(cublasLtMatrixLayout_t to, cublasLtMatrixLayoutAttribute_t name, T value) {
    CUBLAS(cublasLtMatrixLayoutSetAttribute(to, name, &value, sizeof value));
}
template <class T>
static void set_preference(cublasLtMatmulPreference_t to, cublasLtMatmulPreferenceAttributes_t name, T value) {
    CUBLAS(cublasLtMatmulPreferenceSetAttribute(to, name, &value, sizeof value));
}

// A matrix of `rows` as it lies in memory.
static cublasLtMatrixLayout_t make_layout(int64_t dtype, int64_t rows, int64_t columns, int64_t stride) {
    cublasLtMatrixLayout_t layout;
    CUBLAS(cublasLtMatrixLayoutCreate(&layout, library_dtype(dtype), static_cast<uint64_t>(columns),
                                      static_cast<uint64_t>(rows), stride));
    return layout;
}

static void set_batch(cublasLtMatrixLayout_t layout, int64_t batch, int64_t step) {
    set_layout(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<int32_t>(batch));
    set_layout(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, step);
}

static void make_layouts(GemmPlan *plan) {
    const GemmShape *s = &plan->shape;
    plan->a = s->b_transposed ? make_layout(s->in_dtype, s->columns, s->inner, s->b_stride)
                              : make_layout(s->in_dtype, s->inner, s->columns, s->b_stride);
    plan->b = s->a_transposed ? make_layout(s->in_dtype, s->inner, s->rows, s->a_stride)
                              : make_layout(s->in_dtype, s->rows, s->inner, s->a_stride);
    plan->c = make_layout(s->out_dtype, s->rows, s->columns, s->c_stride);
    plan->out = make_layout(s->out_dtype, s->rows, s->columns, s->out_stride);
    if (s->batch == 1) return;
    set_batch(plan->a, s->batch, s->b_step);
    set_batch(plan->b, s->batch, s->a_step);
    set_batch(plan->c, s->batch, s->c_step);
    set_batch(plan->out, s->batch, s->out_step);
}

static void set_pointers(const GemmPlan *plan, const void *bias, const void *aux, const void *sums) {
    LibraryEpilogue epilogue = library_epilogue(plan->shape.epilogue);
    if (epilogue.bias) set_attribute(plan->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    if (epilogue.sums) set_attribute(plan->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, sums);
    if (epilogue.aux) set_attribute(plan->operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux);
}

// Sums are in fp32 whatever the operands are, and operands in fp32 are not cut to TF32.
static void make_operation(GemmPlan *plan) {
    const GemmShape *s = &plan->shape;
    LibraryEpilogue epilogue = library_epilogue(s->epilogue);
    CUBLAS(cublasLtMatmulDescCreate(&plan->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    set_attribute(plan->operation, CUBLASLT_MATMUL_DESC_TRANSA, s->b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    set_attribute(plan->operation, CUBLASLT_MATMUL_DESC_TRANSB, s->a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    set_attribute(plan->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue.value);
    if (epilogue.aux) set_attribute(plan->operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, s->aux_stride);
    const void *aligned = cuda_scratch(CUDA_SCRATCH); // stands for operands, of which only the alignment is looked at
    set_pointers(plan, aligned, aligned, aligned);
}

// ---- algorithms ----

// Whether the library may be asked: vectors beside the product must be aligned, and rows of `aux`, which is there in
// bf16 only.
static bool may_ask(const GemmShape *s) {
    if (s->epilogue == EPILOGUE_BIAS) return s->alignment == 16;
    if (s->epilogue < EPILOGUE_BIAS) return true;
    return s->in_dtype == DTYPE_BF16 && s->alignment == 16 && s->aux_stride % 8 == 0;
}

// Only algorithms whose sums have one order: where a sum is cut, its parts are added in a step of their own, in fp32.
static cublasLtMatmulPreference_t make_preference(const GemmShape *s) {
    cublasLtMatmulPreference_t preference;
    CUBLAS(cublasLtMatmulPreferenceCreate(&preference));
    set_preference(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(GEMM_WORKSPACE_BYTES));
    set_preference(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                   static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    static const cublasLtMatmulPreferenceAttributes_t alignments[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    for (cublasLtMatmulPreferenceAttributes_t name : alignments)
        set_preference(preference, name, static_cast<uint32_t>(s->alignment));
    return preference;
}

int gemm_candidates(const GemmPlan *plan, cublasLtMatmulAlgo_t algorithms[GEMM_CANDIDATES]) {
    cublasLtMatmulHeuristicResult_t found[GEMM_CANDIDATES];
    int answers = 0, count = 0;
    if (!may_ask(&plan->shape)) return 0;
    cublasLtMatmulPreference_t preference = make_preference(&plan->shape);
    cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(gemms.handle, plan->operation, plan->a, plan->b, plan->c, plan->out, preference,
                                       GEMM_CANDIDATES, found, &answers);
    CUBLAS(cublasLtMatmulPreferenceDestroy(preference));
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) return 0; // it has nothing
    cublas_require(status, "cublasLtMatmulAlgoGetHeuristic", __FILE__, __LINE__);
    for (int i = 0; i < answers; i++)
        if (found[i].state == CUBLAS_STATUS_SUCCESS && found[i].workspaceSize <= GEMM_WORKSPACE_BYTES)
            algorithms[count++] = found[i].algo;
    return count;
}

void gemm_set_algorithm(GemmPlan *plan, const cublasLtMatmulAlgo_t *algorithm) {
    cublasLtMatmulHeuristicResult_t result;
    if (!may_ask(&plan->shape) ||
        cublasLtMatmulAlgoCheck(gemms.handle, plan->operation, plan->a, plan->b, plan->c, plan->out, algorithm,
                                &result) != CUBLAS_STATUS_SUCCESS ||
        result.workspaceSize > GEMM_WORKSPACE_BYTES)
        return;
    plan->algorithm = *algorithm;
    plan->in_library = plan->settled = true;
}

void gemm_leave_library(GemmPlan *plan) {
    plan->in_library = false;
    plan->settled = true;
    if (plan->shape.epilogue > EPILOGUE_BIAS) plan->fused = FUSED_LEFT;
}

// ---- plans ----

static int compare_shapes(const GemmShape *x, const GemmShape *y) {
#define F(name) \
    if (x->name != y->name) return x->name < y->name ? -1 : 1;
    GEMM_SHAPE(F)
#undef F
    return 0;
}

// Where the shape is, or belongs.
static int64_t place_of(const GemmShape *shape) {
    int64_t low = 0, high = gemms.count;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (compare_shapes(&gemms.plans[middle]->shape, shape) < 0) low = middle + 1;
        else high = middle;
    }
    return low;
}

static void insert_plan(int64_t place, GemmPlan *plan) {
    gemms.plans = static_cast<GemmPlan **>(
        memory_room(gemms.plans, gemms.count + 1, &gemms.capacity, sizeof *gemms.plans, "plans of products"));
    memmove(gemms.plans + place + 1, gemms.plans + place,
            static_cast<size_t>(gemms.count - place) * sizeof *gemms.plans);
    gemms.plans[place] = plan;
    gemms.count++;
}

GemmPlan *gemm_plan_of(const GemmShape *shape) {
    int64_t place = place_of(shape);
    if (place < gemms.count && compare_shapes(&gemms.plans[place]->shape, shape) == 0) return gemms.plans[place];
    REQUIRE(!cuda_recording(), "%ld x %ld x %ld, epilogue %ld: a recorded program has a product that it had not when "
            "it ran", (long)shape->rows, (long)shape->columns, (long)shape->inner, (long)shape->epilogue);
    GemmPlan *plan = static_cast<GemmPlan *>(memory_take(1, sizeof *plan, "the plan of a product"));
    plan->shape = *shape;
    make_layouts(plan);
    make_operation(plan);
    cublasLtMatmulAlgo_t algorithms[GEMM_CANDIDATES];
    plan->in_library = gemm_candidates(plan, algorithms) > 0;
    if (plan->in_library) plan->algorithm = algorithms[0];
    insert_plan(place, plan);
    return plan;
}

const GemmPlan *gemm_plan_at(int64_t index) { return index < gemms.count ? gemms.plans[index] : NULL; }

static int64_t common_alignment(const Gemm *g) {
    const GemmShape *s = &g->shape;
    int64_t in = static_cast<int64_t>(dtype_bytes(static_cast<DType>(s->in_dtype)));
    int64_t out = static_cast<int64_t>(dtype_bytes(static_cast<DType>(s->out_dtype)));
    uintptr_t bits = 16;
    for (const void *address : {g->a, g->b, g->c, static_cast<const void *>(g->out), g->bias,
                                static_cast<const void *>(g->aux), static_cast<const void *>(g->sums)})
        bits |= reinterpret_cast<uintptr_t>(address);
    bits |= static_cast<uintptr_t>((s->a_step | s->b_step) * in | (s->c_step | s->out_step) * out);
    return static_cast<int64_t>(bits & -bits);
}

GemmPlan *gemm_plan(const Gemm *gemm) {
    GemmShape shape = gemm->shape;
    shape.adds = gemm->beta != 0;
    shape.alignment = common_alignment(gemm);
    return gemm_plan_of(&shape);
}

// ---- running ----

static cublasStatus_t gemm_launch(const Gemm *g, const GemmPlan *plan, const cublasLtMatmulAlgo_t *algorithm) {
    const void *c = g->beta != 0 ? g->c : g->out;
    set_pointers(plan, g->bias, g->aux, g->sums);
    return cublasLtMatmul(gemms.handle, plan->operation, &g->alpha, g->b, plan->a, g->a, plan->b, &g->beta, c, plan->c,
                          g->out, plan->out, algorithm, cuda_scratch(CUDA_SCRATCH), GEMM_WORKSPACE_BYTES,
                          cuda_stream());
}

bool gemm_try(const Gemm *gemm, const GemmPlan *plan, const cublasLtMatmulAlgo_t *algorithm) {
    const GemmShape *s = &plan->shape;
    cublasStatus_t status = gemm_launch(gemm, plan, algorithm);
    if (status == CUBLAS_STATUS_SUCCESS) return true;
    if (cuda_recording())
        DIE(EXIT_INTERNAL, "cuBLASLt refuses to record a product that it computed: %s: %ld x %ld x %ld, %ld times, "
            "epilogue %ld", cublasLtGetStatusName(status), (long)s->rows, (long)s->columns, (long)s->inner,
            (long)s->batch, (long)s->epilogue);
    CUDA(cudaStreamSynchronize(cuda_stream())); // where an earlier kernel is at fault, that is told
    cudaGetLastError();                         // the refusal is answered by the caller
    return false;
}

// The plan's algorithm is refused: the first of the others that is not takes its place. False where there is none.
static bool try_others(const Gemm *gemm, GemmPlan *plan) {
    cublasLtMatmulAlgo_t algorithms[GEMM_CANDIDATES];
    int count = gemm_candidates(plan, algorithms);
    plan->milliseconds = 0;
    for (int i = 0; i < count; i++)
        if (gemm_try(gemm, plan, &algorithms[i])) {
            plan->algorithm = algorithms[i];
            return true;
        }
    gemm_leave_library(plan);
    return false;
}

bool gemm_by_library(const GemmPlan *plan) { return library_wanted && plan->in_library; }

bool gemm_run(const Gemm *gemm) {
    GemmPlan *plan = gemm_plan(gemm);
    if (gemm_by_library(plan)) {
        tuner_settle(gemm, plan);
        if (gemm_try(gemm, plan, &plan->algorithm) || try_others(gemm, plan)) return true;
    }
    if (plan->shape.epilogue > EPILOGUE_BIAS) return false;
    gemm_plain(gemm);
    return true;
}

bool gemm_configure(Errors *errors) {
    library_wanted = true;
    return cuda_read_switch("THALWEG_CUBLASLT", &library_wanted, errors);
}

bool gemm_open(Errors *errors) {
    cublasStatus_t status = cublasLtCreate(&gemms.handle);
    if (status == CUBLAS_STATUS_SUCCESS) return true;
    gemms.handle = NULL;
    cudaGetLastError(); // told here
    return errors_add(errors, EXIT_USAGE, "device: cuBLASLt cannot be used: %s; look at nvidia-smi for what uses the "
                      "GPU's memory, or use device=cpu", cublasLtGetStatusName(status));
}

void gemm_close(void) {
    for (int64_t i = 0; i < gemms.count; i++) {
        GemmPlan *plan = gemms.plans[i];
        for (cublasLtMatrixLayout_t layout : {plan->a, plan->b, plan->c, plan->out})
            CUBLAS(cublasLtMatrixLayoutDestroy(layout));
        CUBLAS(cublasLtMatmulDescDestroy(plan->operation));
        free(plan);
    }
    free(gemms.plans);
    if (gemms.handle) CUBLAS(cublasLtDestroy(gemms.handle));
    memset(&gemms, 0, sizeof gemms);
}
