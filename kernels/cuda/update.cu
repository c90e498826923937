// The update of the flat buffers in one pass over memory, and what is read out of them. Blocks stay and take one tile
// after another. Memory bounds all of it: enough loads are under way with one pack of each buffer a thread.
#include "kernels/cuda/directions.cuh"

enum { BLOCKS_PER_MULTIPROCESSOR = 4, PACK = 4 }; // at 64 registers a thread; elements

// An update as kernels see it.
struct FlatUpdate {
    float *z, *state;
    const float *grads;
    const void *directions;
    bool bf16_directions;
    const double *squares;
    Segments segments;
    const StepScalars *scalars;
    const double *status;
};

static FlatUpdate flat_update(const Update *u) {
    const Tensor given = u->directions;
    REQUIRE(!tensor_present(given) || tensor_contiguous(given), "strided directions of %ld matrices",
            static_cast<long>(given.shape[0]));
    bool narrow = tensor_present(given) && given.dtype == DTYPE_BF16;
    const void *directions = narrow ? static_cast<const void *>(elements<bf16>(given)) : elements<float>(given);
    return {elements<float>(u->z), elements<float>(u->state), elements<float>(u->grads), directions, narrow,
            elements<double>(u->squares), u->segments, u->scalars, elements<double>(u->status)};
}

static unsigned blocks_of(const Update *u, Tensor flat) {
    return tile_blocks(tensor_count(flat), u->segments, BLOCKS_PER_MULTIPROCESSOR * cuda_multiprocessors());
}

// ---- parts ----

// What belongs to a part: its elements of z, of the gradient and of its state.
struct PartData {
    float *z;
    float *gap; // NULL: its route does not average
    const float *gradient;
    float *slot[DIRECTION_SLOTS]; // as many as the direction has
    const void *given;
    bool bf16_given;
};

template <int SLOTS> __device__ __forceinline__ PartData part_data(const FlatUpdate &u, const Part &part) {
    PartData p = {};
    p.z = u.z + part.segment->z + part.from;
    if (part.segment->gap >= 0) p.gap = u.state + part.segment->gap + part.from;
    p.gradient = u.grads + part.begin;
    for (int i = 0; i < SLOTS; i++) p.slot[i] = u.state + part.segment->slot[i] + part.from;
    return p;
}

__device__ __forceinline__ void give(PartData &p, const FlatUpdate &u, const Part &part) {
    int64_t first = part.index * part.segment->count + part.from;
    p.bf16_given = u.bf16_directions;
    p.given = u.bf16_directions ? static_cast<const void *>(static_cast<const bf16 *>(u.directions) + first)
                                : static_cast<const float *>(u.directions) + first;
}

template <int N> __device__ __forceinline__ Pack<float, N> load_given(const PartData &p, int i) {
    if (!p.bf16_given) return load_pack<float, N>(static_cast<const float *>(p.given) + i);
    Pack<bf16, N> narrow = load_pack<bf16, N>(static_cast<const bf16 *>(p.given) + i);
    Pack<float, N> given;
    for (int j = 0; j < N; j++) given.value[j] = to_float(narrow.value[j]);
    return given;
}

__device__ __forceinline__ bool given_fits(const PartData &p) {
    return p.bf16_given ? begins_pack<PACK>(static_cast<const bf16 *>(p.given))
                        : begins_pack<PACK>(static_cast<const float *>(p.given));
}

template <int SLOTS> __device__ __forceinline__ bool slots_fit(const PartData &p) {
    bool fits = true;
    for (int i = 0; i < SLOTS; i++) fits = fits && begins_pack<PACK>(p.slot[i]);
    return fits;
}

template <class W, int N> __device__ __forceinline__ void store_as(W *out, const Pack<float, N> &values) {
    Pack<W, N> rounded;
    for (int j = 0; j < N; j++) rounded.value[j] = from_float<W>(values.value[j]);
    store_pack(out, rounded);
}

// Calls run<N>(begin, end) for a part: as packs where all of it begins at one, and the rest one by one.
template <class F> __device__ __forceinline__ void as_packs(bool fits, int count, F run) {
    int whole = fits ? count / PACK * PACK : 0;
    if (whole > 0) run(Pack<float, PACK>{}, 0, whole);
    if (whole < count) run(Pack<float, 1>{}, whole, count);
}

// ---- the iterates ----

__device__ __forceinline__ float between(float z, float gap, float share) { return fmaf(share, gap, z); }

// out = z + share gap
template <class T>
__device__ __forceinline__ void interpolate_part(T *out, const PartData &p, float share, int count) {
    bool fits = begins_pack<PACK>(out) && begins_pack<PACK>(p.z) && begins_pack<PACK>(p.gap);
    as_packs(fits, count, [&](auto like, int begin, int end) {
        constexpr int N = sizeof like / sizeof(float);
        for (int i = begin + static_cast<int>(threadIdx.x) * N; i < end; i += TILE_THREADS * N) {
            Pack<float, N> value = load_pack<float, N>(p.z + i), gap = {};
            if (p.gap) gap = load_pack<float, N>(p.gap + i);
            for (int j = 0; j < N && p.gap; j++) value.value[j] = between(value.value[j], gap.value[j], share);
            store_as(out + i, value);
        }
    });
}

struct Shares {
    float of[RECIPE_ROUTES];
};

template <class T>
__global__ void __launch_bounds__(TILE_THREADS, BLOCKS_PER_MULTIPROCESSOR)
interpolate_segments(T *out, FlatUpdate u, Shares shares) {
    SHARED(TileTable, table, );
    int tiles = count_tiles(table, u.segments);
    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        Part part = part_of(table, u.segments, tile);
        float share = part.segment->route == RECIPE_MATRIX ? shares.of[RECIPE_MATRIX] : shares.of[RECIPE_OTHER];
        interpolate_part(out + part.begin, part_data<0>(u, part), share, part.count);
    }
}

void cuda_interpolate(Tensor out, const Update *update, const double share[RECIPE_ROUTES]) {
    FlatUpdate u = flat_update(update);
    Shares shares;
    for (int i = 0; i < RECIPE_ROUTES; i++) shares.of[i] = static_cast<float>(share[i]);
    by_dtype(out.dtype, [&](auto zero) {
        using T = decltype(zero);
        QUEUE((interpolate_segments<T>), blocks_of(update, out), TILE_THREADS, 0, elements<T>(out), u, shares);
    });
}

// e += share (x - e)
__global__ void __launch_bounds__(TILE_THREADS, BLOCKS_PER_MULTIPROCESSOR)
readout_segments(float *readout, FlatUpdate u) {
    SHARED(TileTable, table, );
    if (u.status[STATUS_SKIP] != 0) return;
    float share = static_cast<float>(u.scalars->readout);
    int tiles = count_tiles(table, u.segments);
    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        Part part = part_of(table, u.segments, tile);
        PartData p = part_data<0>(u, part);
        float *e = readout + part.segment->z + part.from;
        bool fits = begins_pack<PACK>(e) && begins_pack<PACK>(p.z) && begins_pack<PACK>(p.gap);
        as_packs(fits, part.count, [&](auto like, int begin, int end) {
            constexpr int N = sizeof like / sizeof(float);
            for (int i = begin + static_cast<int>(threadIdx.x) * N; i < end; i += TILE_THREADS * N) {
                Pack<float, N> old = load_pack<float, N>(e + i), z = load_pack<float, N>(p.z + i), gap = {};
                if (p.gap) gap = load_pack<float, N>(p.gap + i);
                for (int j = 0; j < N; j++)
                    old.value[j] = fmaf(share, z.value[j] + gap.value[j] - old.value[j], old.value[j]);
                store_pack(e + i, old);
            }
        });
    }
}

void cuda_readout_add(Tensor readout, const Update *update) {
    QUEUE(readout_segments, blocks_of(update, readout), TILE_THREADS, 0, elements<float>(readout), flat_update(update));
}

// ---- the update ----

// Of a segment; what all of its route shares stays in shared memory, for registers are few here.
struct MoveScalars {
    float step, decay; // of d and of P; both include eta
    float b;           // P = z + b gap
    bool after;
};

__device__ __forceinline__ MoveScalars move_scalars(const Segment &segment, const RouteScalars &r) {
    double eta = r.eta * segment.lr_scale;
    return {static_cast<float>(eta * segment.move_scale), static_cast<float>(eta * r.decay * segment.decay_scale),
            segment.decay_at == DECAY_AT_Y ? r.b : 0, segment.decay_at == DECAY_AFTER};
}

// Moves z and the gap, which is 0 and stays behind where there is none; returns what forward reads.
__device__ __forceinline__ float move(float &z, float &gap, float d, const MoveScalars &s, const RouteScalars &r,
                                      bool gapped) {
    float stepped = fmaf(-s.step, d, z), whole = fmaf(s.step, d, s.decay * between(z, gap, s.b));
    float moved = s.after ? fmaf(-s.decay, stepped, stepped) : z - whole;
    float stretched = fmaf(r.stretch, gap, z - moved);
    z = moved;
    gap = fmaf(-r.c, stretched, stretched);
    return gapped ? between(moved, gap, r.b_next) : moved;
}

// Elements [begin, end) of a part, N neighbours a thread at a time.
template <int DIRECTION, int SLOTS, int N, class W>
__device__ __forceinline__ void move_elements(W *weights, const PartData &p, const RouteScalars &scalars, float cut,
                                              const MoveScalars &moves, int begin, int end) {
    bool own_weights = sizeof(W) < sizeof(float) || static_cast<void *>(weights) != static_cast<void *>(p.z);
#pragma unroll 1
    for (int i = begin + static_cast<int>(threadIdx.x) * N; i < end; i += TILE_THREADS * N) {
        Pack<float, N> z = load_pack<float, N>(p.z + i), gap = {}, d, slots[DIRECTION_SLOTS] = {}, read;
        if (p.gap) gap = load_pack<float, N>(p.gap + i);
        if constexpr (DIRECTION == DIRECTION_GIVEN) d = load_given<N>(p, i);
        else d = load_pack<float, N>(p.gradient + i);
        for (int k = 0; k < SLOTS; k++) slots[k] = load_pack<float, N>(p.slot[k] + i);
#pragma unroll
        for (int j = 0; j < N; j++) {
            if constexpr (DIRECTION != DIRECTION_GIVEN) {
                float slot[DIRECTION_SLOTS];
                for (int k = 0; k < DIRECTION_SLOTS; k++) slot[k] = slots[k].value[j];
                d.value[j] = direction_of<DIRECTION>(scalars.clip * d.value[j], slot, scalars, cut);
                for (int k = 0; k < DIRECTION_SLOTS; k++) slots[k].value[j] = slot[k];
            }
            read.value[j] = move(z.value[j], gap.value[j], d.value[j], moves, scalars, p.gap);
        }
        for (int k = 0; k < SLOTS; k++) store_pack(p.slot[k] + i, slots[k]);
        store_pack(p.z + i, z);
        if (p.gap) store_pack(p.gap + i, gap);
        if (own_weights) store_as(weights + i, read);
    }
}

template <int DIRECTION, int SLOTS, class W>
__device__ __forceinline__ void update_part(W *weights, const FlatUpdate &u, const Part &part,
                                            const RouteScalars &scalars) {
    PartData p = part_data<SLOTS>(u, part);
    MoveScalars moves = move_scalars(*part.segment, scalars);
    double squares = DIRECTION == DIRECTION_MARS ? u.squares[part.index] : 0;
    float cut = static_cast<float>(squares > 1 ? rsqrt(squares) : 1); // to 1
    weights += part.begin;
    bool fits = begins_pack<PACK>(weights) && begins_pack<PACK>(p.z) && begins_pack<PACK>(p.gap) && slots_fit<SLOTS>(p);
    if constexpr (DIRECTION == DIRECTION_GIVEN) {
        give(p, u, part);
        fits = fits && given_fits(p);
    } else {
        fits = fits && begins_pack<PACK>(p.gradient);
    }
    as_packs(fits, part.count, [&](auto like, int begin, int end) {
        constexpr int N = sizeof like / sizeof(float);
        move_elements<DIRECTION, SLOTS, N>(weights, p, scalars, cut, moves, begin, end);
    });
}

template <class W>
__global__ void __launch_bounds__(TILE_THREADS, BLOCKS_PER_MULTIPROCESSOR) update_segments(W *weights, FlatUpdate u) {
    SHARED(TileTable, table, );
    SHARED(RouteScalars, routes, [RECIPE_ROUTES]);
    share_scalars(routes, u.scalars, u.status);
    bool skip = u.status[STATUS_SKIP] != 0;
    int tiles = count_tiles(table, u.segments);
    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        Part part = part_of(table, u.segments, tile);
        const RouteScalars &route = routes[part.segment->route];
        if (skip) {
            interpolate_part(weights + part.begin, part_data<0>(u, part), route.b_next, part.count);
            continue;
        }
        switch (part.segment->direction) {
#define D(name, slots)                                                          \
    case DIRECTION_##name:                                                      \
        update_part<DIRECTION_##name, slots>(weights, u, part, route);          \
        break;
            DIRECTIONS(D)
#undef D
        }
    }
}

void cuda_update(const Update *update) {
    FlatUpdate u = flat_update(update);
    by_dtype(update->weights.dtype, [&](auto zero) {
        using W = decltype(zero);
        QUEUE((update_segments<W>), blocks_of(update, update->z), TILE_THREADS, 0, elements<W>(update->weights), u);
    });
}

// ---- momentum of matrices ----

template <class T>
__global__ void __launch_bounds__(TILE_THREADS, BLOCKS_PER_MULTIPROCESSOR) mix_segments(T *mix, FlatUpdate u) {
    SHARED(TileTable, table, );
    SHARED(RouteScalars, routes, [RECIPE_ROUTES]);
    share_scalars(routes, u.scalars, u.status);
    bool skip = u.status[STATUS_SKIP] != 0;
    int tiles = count_tiles(table, u.segments);
    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        Part part = part_of(table, u.segments, tile);
        PartData p = part_data<1>(u, part);
        RouteScalars scalars = routes[part.segment->route];
        T *out = mix + part.index * part.segment->count + part.from;
        bool fits = begins_pack<PACK>(out) && begins_pack<PACK>(p.gradient) && slots_fit<1>(p);
        as_packs(fits, part.count, [&](auto like, int begin, int end) {
            constexpr int N = sizeof like / sizeof(float);
            for (int i = begin + static_cast<int>(threadIdx.x) * N; i < end; i += TILE_THREADS * N) {
                Pack<float, N> d = {};
                if (!skip) {
                    Pack<float, N> m = load_pack<float, N>(p.slot[0] + i);
                    d = load_pack<float, N>(p.gradient + i);
                    for (int j = 0; j < N; j++)
                        d.value[j] = momentum_of(scalars.clip * d.value[j], m.value[j], scalars);
                    store_pack(p.slot[0] + i, m);
                }
                store_as(out + i, d);
            }
        });
    }
}

void cuda_momentum_mix(Tensor out, const Update *update) {
    REQUIRE(tensor_contiguous(out), "strided mix of %ld matrices", static_cast<long>(out.shape[0]));
    FlatUpdate u = flat_update(update);
    by_dtype(out.dtype, [&](auto zero) {
        using T = decltype(zero);
        QUEUE((mix_segments<T>), blocks_of(update, update->grads), TILE_THREADS, 0, elements<T>(out), u);
    });
}
