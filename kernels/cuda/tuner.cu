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

bool tuner_configure(Errors *errors) {
    const char *text = getenv("THALWEG_FUSE");
    fuse = FUSE_AUTO;
    if (!text || strcmp(text, "auto") == 0) return true;
    if (strlen(text) != 1 || *text < '0' || *text > '0' + TUNER_WAYS)
        return errors_add(errors, EXIT_USAGE, "THALWEG_FUSE: \"%s\" is not one of auto, 0 .. %d", text, TUNER_WAYS);
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
    return gemm_launch(c->gemm, c->plan, &c->algorithms[which]);
}

void tuner_measure(const Gemm *gemm, GemmPlan *plan) {
    if (!cuda_measuring() || plan->shape.epilogue == EPILOGUE_LIBRARY) return;
    Candidates candidates = {gemm, plan, {}};
    Saved saved = {};
    if (gemm->beta != 0 && gemm->c == gemm->out && !save_out(&saved, gemm)) return;
    int count = gemm_candidates(plan, candidates.algorithms);
    int winner = fastest(count, try_algorithm, &candidates, &plan->milliseconds);
    put_back(&saved);
    if (winner < 0) return;
    plan->algorithm = candidates.algorithms[winner];
    plan->measured = true;
}

// ---- ways ----

typedef struct {
    const Ways *ways;
    int there[TUNER_WAYS + 1]; // ways that the library can go, 0 first
} Choice;

static bool try_way(const void *context, int which) {
    const Choice *choice = static_cast<const Choice *>(context);
    choice->ways->run(choice->ways->context, choice->there[which]);
    return true;
}

// The fastest way; 0 where there is no memory to find out.
static int measure_ways(const Choice *choice, int count) {
    const Ways *ways = choice->ways;
    Saved saved[TUNER_SAVED] = {};
    bool all_saved = true;
    for (int i = 0; i < TUNER_SAVED; i++)
        if (tensor_present(ways->accumulated[i]))
            all_saved = all_saved && save(&saved[i], ways->accumulated[i].data, span_bytes(ways->accumulated[i]));
    float milliseconds;
    int winner = all_saved ? fastest(count, try_way, choice, &milliseconds) : 0;
    for (int i = 0; i < TUNER_SAVED; i++) put_back(&saved[i]);
    for (int i = 1; i < count && all_saved; i++)
        gemm_plan(ways->fused[choice->there[i] - 1])->fused = i == winner ? FUSED_TAKEN : FUSED_LEFT;
    return choice->there[winner];
}

static int choose_way(const Ways *ways) {
    Choice choice = {ways, {}};
    int count = 1; // way 0 is always there
    for (int i = 0; i < ways->count && fuse != 0; i++)
        if (gemm_by_library(gemm_plan(ways->fused[i]))) choice.there[count++] = i + 1;
    if (fuse != FUSE_AUTO) return choice.there[fuse < count ? fuse : count - 1];
    bool decided = true;
    for (int i = 1; i < count; i++) {
        const GemmPlan *plan = gemm_plan(ways->fused[choice.there[i] - 1]);
        if (plan->fused == FUSED_TAKEN) return choice.there[i];
        decided = decided && plan->fused == FUSED_LEFT;
    }
    return decided || !cuda_measuring() ? 0 : measure_ways(&choice, count);
}

void tuner_run(const Ways *ways) { ways->run(ways->context, choose_way(ways)); }
