// Sums over the flat buffers, and the decision to move. Squares are taken and added in fp64: those of fp32 are not in
// fp32. Who adds what depends on the segments alone.
#include "kernels/cuda/directions.cuh"

enum { SUM_BLOCKS = 1024, SUM_PACK = 4 };

// This thread's share of the squares of `count` numbers.
__device__ __forceinline__ double squares_of(const float *x, int count) {
    double sum = 0;
    int whole = begins_pack<SUM_PACK>(x) ? count / SUM_PACK * SUM_PACK : 0, thread = threadIdx.x;
#pragma unroll 4
    for (int i = thread * SUM_PACK; i < whole; i += TILE_THREADS * SUM_PACK) {
        Pack<float, SUM_PACK> pack = load_pack<float, SUM_PACK>(x + i);
        for (int j = 0; j < SUM_PACK; j++) sum = fma(double(pack.value[j]), double(pack.value[j]), sum);
    }
    for (int i = whole + thread; i < count; i += TILE_THREADS) sum = fma(double(x[i]), double(x[i]), sum);
    return sum;
}

__global__ void __launch_bounds__(TILE_THREADS) add_squares(double *partial, const float *values, Segments segments) {
    SHARED(TileTable, table, );
    SHARED(double, room, [TILE_THREADS / WARP]);
    int tiles = count_tiles(table, segments);
    double sum = 0;
    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        Part part = part_of(table, segments, tile);
        sum += squares_of(values + part.begin, part.count);
    }
    sum = block_sum<TILE_THREADS>(sum, room);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// The sum of `count` numbers, in all threads of the block.
__device__ __forceinline__ double sum_partials(const double *partial, int64_t count, double *room) {
    double sum = 0;
    for (int64_t i = threadIdx.x; i < count; i += TILE_THREADS) sum += partial[i];
    return block_sum<TILE_THREADS>(sum, room);
}

__global__ void __launch_bounds__(TILE_THREADS) add_partials(double *out, const double *partial, int64_t count) {
    SHARED(double, room, [TILE_THREADS / WARP]);
    double sum = sum_partials(partial, count, room);
    if (threadIdx.x == 0) *out = sum;
}

void cuda_sum_squares(Tensor out, Tensor values, Segments segments) {
    REQUIRE(tensor_contiguous(values), "squares of %ld strided numbers", static_cast<long>(tensor_count(values)));
    unsigned blocks = tile_blocks(tensor_count(values), segments, SUM_BLOCKS);
    double *partial = static_cast<double *>(cuda_scratch(blocks * sizeof *partial));
    QUEUE(add_squares, blocks, TILE_THREADS, 0, partial, elements<float>(values), segments);
    QUEUE(add_partials, 1, TILE_THREADS, 0, elements<double>(out), partial, static_cast<int64_t>(blocks));
}

// ---- the decision ----

__device__ __forceinline__ bool is_finite(double x) { return x - x == 0; }

// Whether `value` lies far above those of a ring. In two passes: a variance is never negative.
__device__ bool is_spike(double value, const double *ring, double accepted, double sigma) {
    int count = accepted < SPIKE_WINDOW ? int(accepted) : SPIKE_WINDOW;
    double sum = 0, squares = 0;
#pragma unroll 16
    for (int i = 0; i < count; i++) sum += ring[i];
    double mean = sum / count;
#pragma unroll 16
    for (int i = 0; i < count; i++) squares = fma(ring[i] - mean, ring[i] - mean, squares);
    return value > mean + sigma * fmax(sqrt(squares / count), SPIKE_FLOOR * fabs(mean));
}

__device__ __forceinline__ Skip judge(const double *status, const double *window, double loss,
                                      const StepScalars *scalars) {
    double norm = status[STATUS_GRAD_NORM], count = window[WINDOW_COUNT], sigma = scalars->spike_sigma;
    if (window[WINDOW_BAD] > double(scalars->seen)) return SKIP_HELD;
    bool usable = is_finite(norm) && norm * status[STATUS_CLIP_FACTOR] <= GRAD_NORM_LIMIT && is_finite(loss);
    if (!usable) return SKIP_NOT_FINITE;
    bool spike = sigma > 0 && count >= SPIKE_WINDOW / 2 && (is_spike(loss, window + WINDOW_LOSSES, count, sigma) ||
                                                            is_spike(norm, window + WINDOW_NORMS, count, sigma));
    return spike ? SKIP_SPIKE : SKIP_NONE;
}

__global__ void decide(double *status, double *window, const StepScalars *scalars) {
    double norm = sqrt(status[STATUS_GRAD_SQUARES]), clip = scalars->clip, weight = status[STATUS_WEIGHT_SUM];
    double loss = weight > 0 ? status[STATUS_LOSS_SUM] / weight : status[STATUS_LOSS_SUM];
    status[STATUS_GRAD_NORM] = norm;
    status[STATUS_CLIP_FACTOR] = clip > 0 && norm > clip ? clip / norm : 1;
    Skip skip = judge(status, window, loss, scalars);
    status[STATUS_SKIP] = skip;
    if (skip == SKIP_NOT_FINITE || skip == SKIP_SPIKE) window[WINDOW_BAD] = double(scalars->t);
    if (skip != SKIP_NONE) return;
    int place = static_cast<int64_t>(window[WINDOW_COUNT]) % SPIKE_WINDOW;
    window[WINDOW_LOSSES + place] = loss;
    window[WINDOW_NORMS + place] = norm;
    window[WINDOW_COUNT]++;
}

void cuda_step_decide(Tensor status, Tensor window, const StepScalars *scalars) {
    QUEUE(decide, 1, 1, 0, elements<double>(status), elements<double>(window), scalars);
}

// ---- corrected squares ----

// Where the tiles of a segment leave their sums: nobody else's come there.
__device__ __forceinline__ int64_t first_partial(const Segment &segment, int64_t index) {
    return segment.offset / TILE + index;
}

__global__ void __launch_bounds__(TILE_THREADS) add_corrected_squares(double *partial, const float *grads,
                                                                      const float *state, Segments segments,
                                                                      const StepScalars *scalars,
                                                                      const double *status) {
    SHARED(TileTable, table, );
    SHARED(RouteScalars, routes, [RECIPE_ROUTES]);
    SHARED(double, room, [TILE_THREADS / WARP]);
    share_scalars(routes, scalars, status);
    int tiles = count_tiles(table, segments);
    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        Part part = part_of(table, segments, tile);
        if (part.segment->direction != DIRECTION_MARS) continue;
        const RouteScalars &s = routes[part.segment->route];
        const float *g = grads + part.begin, *previous = state + part.segment->slot[2] + part.from;
        double sum = 0;
#pragma unroll 4
        for (int i = threadIdx.x; i < part.count; i += TILE_THREADS) {
            double corrected = corrected_gradient(s.clip * g[i], previous[i], s);
            sum = fma(corrected, corrected, sum);
        }
        sum = block_sum<TILE_THREADS>(sum, room);
        if (threadIdx.x == 0) partial[first_partial(*part.segment, part.index) + part.from / TILE] = sum;
    }
}

// A block for each segment.
__global__ void __launch_bounds__(TILE_THREADS) take_squares(double *squares, const double *partial,
                                                             Segments segments) {
    SHARED(double, room, [TILE_THREADS / WARP]);
    const Segment &segment = segments.items[blockIdx.x];
    bool corrected = segment.direction == DIRECTION_MARS;
    double sum = sum_partials(partial + first_partial(segment, blockIdx.x), corrected ? tiles_of(segment) : 0, room);
    if (threadIdx.x == 0) squares[blockIdx.x] = sum;
}

void cuda_corrected_squares(Tensor squares, const Update *update) {
    int64_t elements_all = tensor_count(update->grads), most_blocks = 8 * cuda_multiprocessors();
    const Segments segments = update->segments;
    if (segments.count == 0) return;
    double *partial = static_cast<double *>(cuda_scratch(most_tiles(elements_all, segments) * sizeof *partial));
    QUEUE(add_corrected_squares, tile_blocks(elements_all, segments, most_blocks), TILE_THREADS, 0, partial,
          elements<float>(update->grads), elements<float>(update->state), segments, update->scalars,
          elements<double>(update->status));
    QUEUE(take_squares, static_cast<unsigned>(segments.count), TILE_THREADS, 0, elements<double>(squares), partial,
          segments);
}
