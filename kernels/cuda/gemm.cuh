// Matrix products by cuBLASLt, in row-major terms. What the library does not take goes to a kernel of our own. Which of
// the library's algorithms runs is kept for each shape, and may be chosen by measuring; see tuner.cu.
#pragma once

#include <cublasLt.h>

#include "kernels/cuda/cuda.cuh"

// What is done with a product before it is stored. Those behind EPILOGUE_BIAS are there in bf16, where the library has
// them for the shape; the others always.
typedef enum {
    EPILOGUE_NONE,
    EPILOGUE_LIBRARY,         // nothing, and by the library's own first choice
    EPILOGUE_BIAS,            // + bias
    EPILOGUE_GELU,            // aux = product, out = gelu(aux)
    EPILOGUE_GELU_BIAS,       // aux = product + bias, out = gelu(aux)
    EPILOGUE_DGELU,           // out = product gelu'(aux)
    EPILOGUE_DGELU_THEN_SUMS, // the same; the caller takes the sums of its columns from it
    EPILOGUE_ROW_SUMS,        // sums = rows of a, in the dtype of out
} Epilogue;
enum { EPILOGUES = EPILOGUE_ROW_SUMS + 1 };

// Everything that the choice of an algorithm depends on. In elements, strides are from row to row as the matrix lies in
// memory, and steps from matrix to matrix of a batch (0 where there is one matrix).
#define GEMM_SHAPE(F)                                                                         \
    F(rows) F(columns) F(inner) F(batch)                                                      \
    F(a_stride) F(b_stride) F(c_stride) F(out_stride) F(aux_stride)                           \
    F(a_step) F(b_step) F(c_step) F(out_step)                                                 \
    F(a_transposed) F(b_transposed)                                                           \
    F(in_dtype) F(out_dtype)                                                                  \
    F(epilogue)                                                                               \
    F(adds)      /* whether beta is not 0 */                                                  \
    F(alignment) /* bytes that all addresses are a multiple of: a power of two, at most 16 */
typedef struct {
#define F(name) int64_t name;
    GEMM_SHAPE(F)
#undef F
} GemmShape;

// out (rows, columns) = alpha a b + beta c; c and out may be one.
typedef struct {
    GemmShape shape; // `adds` and `alignment` are filled in by the calls below
    const void *a, *b, *c;
    void *out;
    float alpha, beta;
    const void *bias; // (columns), dtype of a
    void *aux;        // (rows, columns), dtype of out
    void *sums;
} Gemm;

// False, and nothing is done: only where the library refuses an epilogue that is fused.
bool gemm_run(const Gemm *gemm);

// Room for `sums`, which no product's workspace touches.
enum { GEMM_SUMS_BYTES = 1 << 20, GEMM_WORKSPACE_BYTES = CUDA_SCRATCH - GEMM_SUMS_BYTES };
void *gemm_sums_room(void);

// ---- between gemm.cu, tuner.cu and choices.cu ----

typedef enum { FUSED_UNDECIDED, FUSED_LEFT, FUSED_TAKEN } Fused;

// How a shape is computed.
typedef struct {
    GemmShape shape;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, c, out; // the library's: column-major, its a is our b
    cublasLtMatmulAlgo_t algorithm;
    bool in_library;    // false: the library has nothing for it, or refused all that it had
    bool settled;       // results depend on it: kept with checkpoints, and not chosen again
    Fused fused;        // whether this was faster than what it fuses, apart
    float milliseconds; // of the algorithm; 0: it was chosen without measuring
} GemmPlan;

// THALWEG_CUBLASLT: 0 computes all products with the kernel of our own.
bool gemm_configure(Errors *errors);
bool gemm_open(Errors *errors);
void gemm_close(void);
GemmPlan *gemm_plan(const Gemm *gemm);             // made where there is none
GemmPlan *gemm_plan_of(const GemmShape *shape);    // the same, before there are operands
const GemmPlan *gemm_plan_at(int64_t index);       // in the order of shapes; NULL behind the last
// Settles the plan: on an algorithm, which is ignored where it does not suit, or on doing without the library.
void gemm_set_algorithm(GemmPlan *plan, const cublasLtMatmulAlgo_t *algorithm);
void gemm_leave_library(GemmPlan *plan);
bool gemm_by_library(const GemmPlan *plan);
enum { GEMM_CANDIDATES = 16 };
int gemm_candidates(const GemmPlan *plan, cublasLtMatmulAlgo_t algorithms[GEMM_CANDIDATES]);
// False where the library refuses, which it may not while a program is recorded: that one ran before.
bool gemm_try(const Gemm *gemm, const GemmPlan *plan, const cublasLtMatmulAlgo_t *algorithm);

// Of our own, for any shape, stride and alignment; EPILOGUE_BIAS and those before it.
void gemm_plain(const Gemm *gemm);

void cublas_require(cublasStatus_t status, const char *call, const char *file, int line);
#define CUBLAS(call) cublas_require((call), #call, __FILE__, __LINE__)
