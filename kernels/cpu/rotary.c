// Heads before attention: RMS norm over the width of a head (where there is a gain), then rotate-half rotation (where
// there is a theta): the pair (x[i], x[i + D / 2]) turns by position theta^(-2 i / D).
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/vector_math.h"

enum { WIDTH_LIMIT = 512, PAIR_LIMIT = WIDTH_LIMIT / 2 };

typedef struct {
    const Rotary *rotary;
    const float *gain; // or NULL
    int64_t tokens, heads, width;
    double frequency[PAIR_LIMIT]; // angle per position
} HeadMap;

typedef struct {
    float sine[PAIR_LIMIT], cosine[PAIR_LIMIT];
} Turn;

static HeadMap head_map(const Rotary *rotary, Tensor heads) {
    HeadMap map = {.rotary = rotary, .gain = cpu_floats(rotary->gain), .tokens = heads.shape[1],
                   .heads = heads.shape[2], .width = heads.shape[3]};
    REQUIRE(heads.rank == 4 && map.width <= WIDTH_LIMIT, "heads %ld wide, %d at most", (long)map.width, WIDTH_LIMIT);
    REQUIRE(rotary->theta == 0 || map.width % 2 == 0, "rotated heads of odd width %ld", (long)map.width);
    for (int64_t i = 0; rotary->theta > 0 && i < map.width / 2; i++)
        map.frequency[i] = pow(rotary->theta, -2.0 * (double)i / (double)map.width);
    return map;
}

static void set_turn(Turn *turn, const HeadMap *map, int64_t token) {
    if (map->rotary->theta == 0) return;
    double angle[PAIR_LIMIT], position = cpu_integers(map->rotary->positions)[token];
    for (int64_t i = 0; i < map->width / 2; i++) angle[i] = position * map->frequency[i];
    vector_sine_cosine(turn->sine, turn->cosine, angle, map->width / 2);
}

// direction 1 turns, -1 turns back. out may be in.
static void rotate(float *out, const float *in, const Turn *turn, float direction, int64_t width) {
    int64_t half = width / 2;
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
        float a = in[i], b = in[i + half], s = direction * turn->sine[i], c = turn->cosine[i];
        out[i] = a * c - b * s;
        out[i + half] = b * c + a * s;
    }
}

static void forward_head(float *out, float *rstd, const float *in, const HeadMap *map, const Turn *turn) {
    int64_t n = map->width;
    if (map->gain) {
        *rstd = (float)(1 / sqrt((double)row_dot(in, in, n) / (double)n + map->rotary->epsilon));
#pragma omp simd
        for (int64_t i = 0; i < n; i++) out[i] = in[i] * *rstd * map->gain[i];
        in = out;
    }
    if (map->rotary->theta > 0) rotate(out, in, turn, 1, n);
    else if (out != in) memmove(out, in, (size_t)n * sizeof *out);
}

void cpu_rotary_forward(Tensor out, Tensor rstd, Tensor in, const Rotary *rotary) {
    HeadMap map = head_map(rotary, in);
    float *rstds = cpu_floats(rstd);
    cpu_floats(out), cpu_floats(in);
    REQUIRE(tensor_same_shape(out, in) && (rstds || !map.gain), "gain without rstd, or shapes that differ");
#pragma omp parallel for num_threads(cpu_team(tensor_count(in)))
    for (int64_t token = 0; token < in.shape[0] * map.tokens; token++) {
        int64_t s = token / map.tokens, t = token % map.tokens;
        Turn turn;
        set_turn(&turn, &map, token);
        for (int64_t h = 0; h < map.heads; h++)
            forward_head(cpu_head(out, s, t, h), rstds ? rstds + token * map.heads + h : NULL, cpu_head(in, s, t, h),
                         &map, &turn);
    }
}

// With u = x rstd and e = gain dout (turned back): dgain += dout u, dx = rstd (e - u mean(e u)). din may be dout.
static void norm_backward_head(float *din, double *dgain, const float *in, float rstd, const HeadMap *map) {
    int64_t n = map->width;
    float sum = 0;
    for (int64_t i = 0; i < n; i++) dgain[i] += din[i] * (in[i] * rstd);
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += map->gain[i] * din[i] * (in[i] * rstd);
    float mean = sum / (float)n;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) din[i] = rstd * (map->gain[i] * din[i] - in[i] * rstd * mean);
}

typedef struct {
    Tensor din, dout, in;
    const float *rstd;
} HeadGrads;

static void backward_token(const HeadGrads *grads, double *dgain, int64_t token, const HeadMap *map) {
    int64_t s = token / map->tokens, t = token % map->tokens;
    Turn turn;
    set_turn(&turn, map, token);
    for (int64_t h = 0; h < map->heads; h++) {
        float *din = cpu_head(grads->din, s, t, h);
        const float *dout = cpu_head(grads->dout, s, t, h);
        if (map->rotary->theta > 0) rotate(din, dout, &turn, -1, map->width);
        else if (din != dout) memmove(din, dout, (size_t)map->width * sizeof *din);
        if (!map->gain) continue;
        norm_backward_head(din, dgain, cpu_head(grads->in, s, t, h), grads->rstd[token * map->heads + h], map);
    }
}

// The gain's gradient is summed per chunk of tokens, then over the chunks; their number is fixed.
void cpu_rotary_backward(Tensor din, Tensor dgain, Tensor dout, Tensor in, Tensor rstd, const Rotary *rotary) {
    enum { CHUNKS = 32 };
    static double partial[CHUNKS][WIDTH_LIMIT];
    HeadMap map = head_map(rotary, dout);
    cpu_floats(din), cpu_floats(dout), cpu_floats(in);
    HeadGrads grads = {din, dout, in, cpu_floats(rstd)};
    REQUIRE(tensor_same_shape(din, dout) && (!map.gain || (tensor_same_shape(in, dout) && grads.rstd)),
            "gain without in or rstd, or shapes that differ");
    int64_t tokens = dout.shape[0] * map.tokens;
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(tensor_count(dout)))
    for (int64_t chunk = 0; chunk < CHUNKS; chunk++) {
        memset(partial[chunk], 0, sizeof partial[chunk]);
        for (int64_t token = chunk * tokens / CHUNKS; token < (chunk + 1) * tokens / CHUNKS; token++)
            backward_token(&grads, partial[chunk], token, &map);
    }
    float *sums = cpu_floats(dgain);
    for (int64_t i = 0; map.gain && i < map.width; i++) {
        double sum = 0;
        for (int64_t chunk = 0; chunk < CHUNKS; chunk++) sum += partial[chunk][i];
        sums[i] += (float)sum;
    }
}
