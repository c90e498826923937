// Measuring on the device: candidates take turns, so that none of them finds its operands in the cache that it left.
#include "kernels/cuda/tuner.cuh"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/recording.cuh"

enum {
    ROUNDS = 6,     // the first warms up
    MOST = GEMM_CANDIDATES,
    FUSE_AUTO = -1,
};
constexpr float HOPELESS = 1.5f; // times the fastest: not measured again

static int fuse = FUSE_AUTO;
static bool measure = true;

bool tuner_configure(Errors *errors) {
    const char *text = getenv("THALWEG_FUSE");
    fuse = FUSE_AUTO;
    measure = true;
    if (!cuda_read_switch("THALWEG_MEASURE", &measure, errors)) return false;
    if (!text || strcmp(text, "auto") == 0) return true;
    if (strcmp(text, "0") != 0 && strcmp(text, "1") != 0)
        return errors_add(errors, EXIT_USAGE, "THALWEG_FUSE: \"%s\" is not one of auto, 0, 1", text);
    fuse = *text - '0';
    return true;
}

// ---- time ----

// One of `count` things that do the same; false: it cannot.
typedef bool Try(const void *context, int which);

static float median(float *times, int count) {
    for (int i = 1; i < count; i++)
        for (int j = i; j > 0 && times[j] < times[j - 1]; j--) {
            float time = times[j];
            times[j] = times[j - 1], times[j - 1] = time;
        }
    return times[count / 2];
}

// The fastest, and its milliseconds; -1 where none works.
static int fastest(int count, Try *attempt, const void *context, float *milliseconds) {
    cudaEvent_t begin[MOST], end[MOST];
    float times[MOST][ROUNDS], least[MOST], best = INFINITY;
    int rounds[MOST] = {}, winner = -1;
    bool alive[MOST];
    for (int i = 0; i < count; i++) {
        CUDA(cudaEventCreate(&begin[i]));
        CUDA(cudaEventCreate(&end[i]));
        alive[i] = true;
        least[i] = INFINITY;
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < count; i++) {
            if (!alive[i]) continue;
            CUDA(cudaEventRecord(begin[i], cuda_stream()));
            alive[i] = attempt(context, i);
            CUDA(cudaEventRecord(end[i], cuda_stream()));
        }
        CUDA(cudaStreamSynchronize(cuda_stream()));
        for (int i = 0; i < count && round > 0; i++) {
            if (!alive[i]) continue;
            float *time = &times[i][rounds[i]++];
            CUDA(cudaEventElapsedTime(time, begin[i], end[i]));
            least[i] = fminf(least[i], *time);
            best = fminf(best, *time);
        }
        for (int i = 0; i < count && round > 0; i++) alive[i] = alive[i] && least[i] <= HOPELESS * best;
    }
    for (int i = 0; i < count; i++) {
        if (alive[i] && rounds[i] > 0) {
            float time = median(times[i], rounds[i]);
            if (winner < 0 || time < *milliseconds) winner = i, *milliseconds = time;
        }
        CUDA(cudaEventDestroy(begin[i]));
        CUDA(cudaEventDestroy(end[i]));
    }
    return winner;
}

// ---- what is added to is put back ----

typedef struct {
    void *memory, *copy; // copy NULL: nothing to put back
    size_t bytes;
} Saved;

// False where there is no memory for it.
static bool save(Saved *saved, void *memory, size_t bytes) {
    *saved = {memory, NULL, bytes};
    if (cudaMalloc(&saved->copy, bytes) != cudaSuccess) {
        cudaGetLastError(); // it is not an error
        saved->copy = NULL;
        return false;
    }
    CUDA(cudaMemcpyAsync(saved->copy, memory, bytes, cudaMemcpyDeviceToDevice, cuda_stream()));
    return true;
}

static void put_back(Saved *saved) {
    if (!saved->copy) return;
    CUDA(cudaMemcpyAsync(saved->memory, saved->copy, saved->bytes, cudaMemcpyDeviceToDevice, cuda_stream()));
    CUDA(cudaStreamSynchronize(cuda_stream()));
    CUDA(cudaFree(saved->copy));
    saved->copy = NULL;
}

// From the first element to the last.
static size_t span_bytes(Tensor t) {
    int64_t last = 0;
    for (int i = 0; i < t.rank; i++) last += (t.shape[i] - 1) * t.stride[i];
    return static_cast<size_t>(last + 1) * dtype_bytes(t.dtype);
}

static bool save_out(Saved *saved, const Gemm *g) {
    const GemmShape *s = &g->shape;
    int64_t last = (s->batch - 1) * s->out_step + (s->rows - 1) * s->out_stride + s->columns - 1;
    return save(saved, g->out, static_cast<size_t>(last + 1) * dtype_bytes(static_cast<DType>(s->out_dtype)));
}

// ---- algorithms ----

typedef struct {
    const Gemm *gemm;
    const GemmPlan *plan;
    cublasLtMatmulAlgo_t algorithms[GEMM_CANDIDATES];
} Candidates;

static bool try_algorithm(const void *context, int which) {
    const Candidates *c = static_cast<const Candidates *>(context);
    return gemm_try(c->gemm, c->plan, &c->algorithms[which]);
}

// The plan has the library's first choice, which stays where nothing can be measured.
void tuner_settle(const Gemm *gemm, GemmPlan *plan) {
    if (plan->settled || !cuda_measuring() || plan->shape.epilogue == EPILOGUE_LIBRARY) return;
    plan->settled = true;
    Candidates candidates = {gemm, plan, {}};
    Saved saved = {};
    if (!measure || (gemm->beta != 0 && gemm->c == gemm->out && !save_out(&saved, gemm))) return;
    int count = gemm_candidates(plan, candidates.algorithms);
    int winner = fastest(count, try_algorithm, &candidates, &plan->milliseconds);
    put_back(&saved);
    if (winner >= 0) plan->algorithm = candidates.algorithms[winner];
}

// ---- fused or apart ----

static bool try_way(const void *context, int which) {
    const Ways *ways = static_cast<const Ways *>(context);
    return ways->run(ways->context, which == 1);
}

// Fused where that is faster; not where there is no memory to find out.
static void decide(const Ways *ways, GemmPlan *plan) {
    Saved saved[TUNER_SAVED] = {};
    bool all_saved = measure;
    for (int i = 0; i < TUNER_SAVED; i++)
        if (tensor_present(ways->accumulated[i]))
            all_saved = all_saved && save(&saved[i], ways->accumulated[i].data, span_bytes(ways->accumulated[i]));
    float milliseconds;
    int winner = all_saved ? fastest(2, try_way, ways, &milliseconds) : 0;
    for (int i = 0; i < TUNER_SAVED; i++) put_back(&saved[i]);
    plan->fused = winner == 1 ? FUSED_TAKEN : FUSED_LEFT;
    plan->settled = true; // also where it did not run
}

static bool choose_fused(const Ways *ways) {
    GemmPlan *plan = ways->fused && fuse != 0 ? gemm_plan(ways->fused) : NULL;
    if (!plan || !gemm_by_library(plan)) return false;
    if (fuse == 1) return true;
    if (plan->fused == FUSED_UNDECIDED && cuda_measuring()) decide(ways, plan);
    return plan->fused == FUSED_TAKEN;
}

void tuner_run(const Ways *ways) {
    if (choose_fused(ways) && ways->run(ways->context, true)) return;
    REQUIRE(ways->run(ways->context, false), "a product with nothing fused was refused");
}
