// Heads before attention: RMS norm over the width of a head (where there is a gain), then rotate-half rotation (where
// there is a theta): the pair (x[i], x[i + D / 2]) turns by position theta^(-2 i / D). The sines of a token are found
// once for all of its heads.
#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/rows.cuh"

#include <math.h>

enum { HEAD_WIDTH = 256, THREADS = 256 };

template <class T> struct Heads {
    T *data;
    int64_t sequence, token, head; // strides
};
template <class T> static Heads<T> heads_of(Tensor t) {
    return {elements<T>(t), t.stride[0], t.stride[1], t.stride[2]};
}

template <class T> struct HeadMap {
    Heads<T> out, in;      // forward
    Heads<T> din, dout;    // backward
    const T *gain;         // or NULL
    float *rstd;           // (tokens, heads); NULL without gain
    float *dgain;          // (blocks, width) partial sums, backward
    const int32_t *positions;
    int64_t rows;          // tokens of all sequences
    int64_t tokens;        // of a sequence
    int heads, width, half; // half: where the second of a pair lies, width rounded up
    int lanes;             // threads of a token: a power of two, at most 32
    float epsilon;
    bool turns;
    double rounds[HEAD_WIDTH / 2]; // full turns per position
};

// What a thread has of a head: packs of both halves. Pack j begins at column (lane + j lanes) W of its half.
template <class T, int W, int P> struct Part {
    Pack<T, W> low[P], high[P];
};

struct Place {
    int64_t sequence, token;
    bool there;
};

template <class T, int W, int P> static __device__ __forceinline__ Part<T, W, P>
load_part(const T *from, const HeadMap<T> &map, int lane, bool there) {
    Part<T, W, P> part = {};
#pragma unroll
    for (int j = 0; j < P; j++) {
        const int i = (lane + j * map.lanes) * W;
        if (there && i < map.half) part.low[j] = load_pack<T, W>(from + i);
        if (there && i + map.half < map.width) part.high[j] = load_pack<T, W>(from + i + map.half);
    }
    return part;
}

template <class T, int W, int P> static __device__ __forceinline__ void
store_part(T *to, const Part<T, W, P> &part, const HeadMap<T> &map, int lane, bool there) {
#pragma unroll
    for (int j = 0; j < P; j++) {
        const int i = (lane + j * map.lanes) * W;
        if (there && i < map.half) store_pack(to + i, part.low[j]);
        if (there && i + map.half < map.width) store_pack(to + i + map.half, part.high[j]);
    }
}

template <class T> static __device__ __forceinline__ T *head_at(const Heads<T> &heads, const Place &at, int head) {
    return heads.data + at.sequence * heads.sequence + at.token * heads.token + head * heads.head;
}

template <int W, int P> struct Turn {
    float sine[P][W], cosine[P][W];
};

// Angles in double, down to half a turn; the rest in fp32.
template <class T, int W, int P>
static __device__ __forceinline__ Turn<W, P> turn_of(const HeadMap<T> &map, int64_t row, int lane) {
    Turn<W, P> turn = {};
    const double position = map.turns ? map.positions[row] : 0;
#pragma unroll
    for (int j = 0; j < P; j++)
#pragma unroll
        for (int i = 0; i < W; i++) {
            const int pair = (lane + j * map.lanes) * W + i;
            if (!map.turns || pair >= map.half) continue;
            const double rounds = position * map.rounds[pair];
            sincospif(2 * static_cast<float>(rounds - rint(rounds)), &turn.sine[j][i], &turn.cosine[j][i]);
        }
    return turn;
}

// The sum over the lanes of a token.
static __device__ __forceinline__ float lanes_sum(float x, int lanes) {
    for (int offset = lanes / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(ALL_LANES, x, offset);
    return x;
}

template <class T> static __device__ __forceinline__ Place place_of(const HeadMap<T> &map, int64_t row) {
    const bool there = row < map.rows;
    return {there ? row / map.tokens : 0, there ? row % map.tokens : 0, there};
}

// Heads go in batches of B, loads before stores: out may be in.
template <class T, int W, int P, bool GAIN, int B>
static __global__ void __launch_bounds__(THREADS, 2) turn_heads(HeadMap<T> map) {
    const int64_t row = (blockIdx.x * static_cast<int64_t>(THREADS) + threadIdx.x) / map.lanes;
    const int lane = threadIdx.x % map.lanes;
    const Place at = place_of(map, row);
    const Turn<W, P> turn = turn_of<T, W, P>(map, at.there ? row : 0, lane);
    const Part<T, W, P> gain = load_part<T, W, P>(map.gain, map, lane, GAIN);
    for (int first = 0; first < map.heads; first += B) {
        Part<T, W, P> x[B];
#pragma unroll
        for (int b = 0; b < B; b++) {
            const int head = first + b;
            x[b] = load_part<T, W, P>(head_at(map.in, at, head), map, lane, at.there && head < map.heads);
        }
#pragma unroll
        for (int b = 0; b < B; b++) {
            const bool there = at.there && first + b < map.heads;
            float rstd = 1;
            if (GAIN) {
                float squares = 0;
#pragma unroll
                for (int j = 0; j < P; j++)
#pragma unroll
                    for (int i = 0; i < W; i++) {
                        const float low = to_float(x[b].low[j].value[i]), high = to_float(x[b].high[j].value[i]);
                        squares += low * low + high * high;
                    }
                rstd = 1.0f / sqrtf(lanes_sum(squares, map.lanes) / static_cast<float>(map.width) + map.epsilon);
                if (there && lane == 0) map.rstd[row * map.heads + first + b] = rstd;
            }
#pragma unroll
            for (int j = 0; j < P; j++)
#pragma unroll
                for (int i = 0; i < W; i++) {
                    float low = to_float(x[b].low[j].value[i]), high = to_float(x[b].high[j].value[i]);
                    if (GAIN) {
                        low *= rstd * to_float(gain.low[j].value[i]);
                        high *= rstd * to_float(gain.high[j].value[i]);
                    }
                    const float s = turn.sine[j][i], c = turn.cosine[j][i];
                    x[b].low[j].value[i] = from_float<T>(map.turns ? low * c - high * s : low);
                    x[b].high[j].value[i] = from_float<T>(map.turns ? high * c + low * s : high);
                }
            store_part(head_at(map.out, at, first + b), x[b], map, lane, there);
        }
    }
}

// A block's sum of every column of dgain: `sums` of its threads, token after token.
template <class T, int W, int P>
static __device__ __forceinline__ void store_gain_sums(const HeadMap<T> &map, const float (&low)[P][W],
                                                       const float (&high)[P][W], float *room) {
    const int lane = threadIdx.x % map.lanes, token = threadIdx.x / map.lanes;
#pragma unroll
    for (int j = 0; j < P; j++)
#pragma unroll
        for (int i = 0; i < W; i++) {
            const int pair = (lane + j * map.lanes) * W + i;
            if (pair < map.half) room[token * map.width + pair] = low[j][i];
            if (pair + map.half < map.width) room[token * map.width + pair + map.half] = high[j][i];
        }
    __syncthreads();
    const int column = threadIdx.x;
    if (column >= map.width) return;
    float sum = 0;
    for (int other = 0; other < THREADS / map.lanes; other++) sum += room[other * map.width + column];
    map.dgain[blockIdx.x * static_cast<int64_t>(map.width) + column] = sum;
}

// With u = x rstd and e = gain dout (turned back): dgain += dout u, dx = rstd (e - u mean(e u)).
template <class T, int W, int P, bool GAIN, int B>
static __global__ void __launch_bounds__(THREADS, 2) turn_heads_back(HeadMap<T> map) {
    SHARED(float, room, [GAIN ? THREADS * 2 * W * P : 1]);
    const int64_t row = (blockIdx.x * static_cast<int64_t>(THREADS) + threadIdx.x) / map.lanes;
    const int lane = threadIdx.x % map.lanes;
    const Place at = place_of(map, row);
    const Turn<W, P> turn = turn_of<T, W, P>(map, at.there ? row : 0, lane);
    const Part<T, W, P> gain = load_part<T, W, P>(map.gain, map, lane, GAIN);
    float low_sum[P][W] = {}, high_sum[P][W] = {};
    for (int first = 0; first < map.heads; first += B) {
        Part<T, W, P> g[B], x[B];
#pragma unroll
        for (int b = 0; b < B; b++) {
            const bool there = at.there && first + b < map.heads;
            g[b] = load_part<T, W, P>(head_at(map.dout, at, first + b), map, lane, there);
            x[b] = load_part<T, W, P>(head_at(map.in, at, first + b), map, lane, there && GAIN);
        }
#pragma unroll
        for (int b = 0; b < B; b++) {
            const bool there = at.there && first + b < map.heads;
            const float rstd = GAIN && there ? map.rstd[row * map.heads + first + b] : 0.0f;
            float low[P][W], high[P][W], projection = 0;
#pragma unroll
            for (int j = 0; j < P; j++)
#pragma unroll
                for (int i = 0; i < W; i++) {
                    const float a = to_float(g[b].low[j].value[i]), c = to_float(g[b].high[j].value[i]);
                    low[j][i] = map.turns ? a * turn.cosine[j][i] + c * turn.sine[j][i] : a;
                    high[j][i] = map.turns ? c * turn.cosine[j][i] - a * turn.sine[j][i] : c;
                    if (!GAIN) continue;
                    const float u = to_float(x[b].low[j].value[i]) * rstd, v = to_float(x[b].high[j].value[i]) * rstd;
                    low_sum[j][i] += low[j][i] * u;
                    high_sum[j][i] += high[j][i] * v;
                    low[j][i] *= to_float(gain.low[j].value[i]);
                    high[j][i] *= to_float(gain.high[j].value[i]);
                    projection += low[j][i] * u + high[j][i] * v;
                }
            if (GAIN) {
                const float mean = lanes_sum(projection, map.lanes) / static_cast<float>(map.width);
#pragma unroll
                for (int j = 0; j < P; j++)
#pragma unroll
                    for (int i = 0; i < W; i++) {
                        low[j][i] = rstd * (low[j][i] - to_float(x[b].low[j].value[i]) * rstd * mean);
                        high[j][i] = rstd * (high[j][i] - to_float(x[b].high[j].value[i]) * rstd * mean);
                    }
            }
#pragma unroll
            for (int j = 0; j < P; j++)
#pragma unroll
                for (int i = 0; i < W; i++) {
                    g[b].low[j].value[i] = from_float<T>(low[j][i]);
                    g[b].high[j].value[i] = from_float<T>(high[j][i]);
                }
            store_part(head_at(map.din, at, first + b), g[b], map, lane, there);
        }
    }
    if (GAIN) store_gain_sums<T, W, P>(map, low_sum, high_sum, room);
}

// ---- the calls ----

template <class T> static HeadMap<T> head_map(Tensor heads, Tensor rstd, const Rotary *rotary) {
    HeadMap<T> map = {};
    map.gain = elements<T>(rotary->gain);
    map.rstd = elements<float>(rstd);
    map.turns = rotary->theta > 0;
    map.positions = elements<int32_t>(rotary->positions);
    map.tokens = heads.shape[1];
    map.rows = heads.shape[0] * map.tokens;
    map.heads = static_cast<int>(heads.shape[2]);
    map.width = static_cast<int>(heads.shape[3]);
    map.half = (map.width + 1) / 2;
    map.epsilon = static_cast<float>(rotary->epsilon);
    REQUIRE(map.width <= HEAD_WIDTH, "heads %d wide, at most %d", map.width, HEAD_WIDTH);
    for (int i = 0; map.turns && i < map.half; i++)
        map.rounds[i] = pow(rotary->theta, -2.0 * i / map.width) / (2 * M_PI);
    return map;
}

static bool heads_fit_packs(const Tensor *heads, int count, Tensor gain, int64_t width) {
    bool fits = fits_packs(gain, width);
    for (int i = 0; i < count; i++)
        if (tensor_present(heads[i]))
            fits = fits && fits_packs(heads[i], width) && heads[i].shape[3] % (2 * width) == 0;
    return fits;
}

// Sets the lanes of a token for packs of W elements; the blocks it takes.
template <class T> static int64_t set_lanes(HeadMap<T> *map, int64_t width) {
    map->lanes = 1;
    while (map->lanes < WARP && map->lanes * width < map->half) map->lanes *= 2;
    return ceil_div(map->rows * map->lanes, THREADS);
}

enum { SCALARS = HEAD_WIDTH / 2 / WARP }; // of each half, in a lane that takes them one by one

template <class T, bool GAIN> static void queue_turn(const HeadMap<T> &map, int64_t blocks, bool packs) {
    if (packs) QUEUE((turn_heads<T, PACK<T>, 1, GAIN, 4>), blocks, THREADS, 0, map);
    else QUEUE((turn_heads<T, 1, SCALARS, GAIN, 2>), blocks, THREADS, 0, map);
}

template <class T, bool GAIN> static void queue_turn_back(const HeadMap<T> &map, int64_t blocks, bool packs) {
    constexpr int B = !GAIN ? 4 : sizeof(T) == 4 ? 2 : 1; // as many heads at a time as there are registers for
    if (packs) QUEUE((turn_heads_back<T, PACK<T>, 1, GAIN, B>), blocks, THREADS, 0, map);
    else QUEUE((turn_heads_back<T, 1, SCALARS, GAIN, 1>), blocks, THREADS, 0, map);
}

void cuda_rotary_forward(Tensor out, Tensor rstd, Tensor in, const Rotary *rotary) {
    by_dtype(out.dtype, [&](auto zero) {
        using T = decltype(zero);
        HeadMap<T> map = head_map<T>(in, rstd, rotary);
        map.out = heads_of<T>(out), map.in = heads_of<T>(in);
        const Tensor heads[] = {out, in};
        const bool packs = heads_fit_packs(heads, 2, rotary->gain, PACK<T>);
        const int64_t blocks = set_lanes(&map, packs ? PACK<T> : 1);
        if (map.gain) queue_turn<T, true>(map, blocks, packs);
        else queue_turn<T, false>(map, blocks, packs);
    });
}

void cuda_rotary_backward(Tensor din, Tensor dgain, Tensor dout, Tensor in, Tensor rstd, const Rotary *rotary) {
    by_dtype(din.dtype, [&](auto zero) {
        using T = decltype(zero);
        const bool gained = tensor_present(rotary->gain);
        const Tensor heads[] = {din, dout, gained ? in : Tensor{}};
        HeadMap<T> map = head_map<T>(dout, gained ? rstd : Tensor{}, rotary);
        map.din = heads_of<T>(din), map.dout = heads_of<T>(dout), map.in = heads_of<T>(heads[2]);
        const bool packs = heads_fit_packs(heads, 3, rotary->gain, PACK<T>);
        const int64_t blocks = set_lanes(&map, packs ? PACK<T> : 1);
        if (gained) map.dgain = static_cast<float *>(cuda_scratch(blocks * map.width * sizeof(float)));
        if (gained) queue_turn_back<T, true>(map, blocks, packs);
        else queue_turn_back<T, false>(map, blocks, packs);
        if (!gained) return;
        const ColumnSums sums = {elements<float>(dgain), 0, map.dgain, map.width, blocks, 1, true};
        cuda_column_sums(&sums, 1, map.width);
    });
}
