// The reference backend on attention heads: rotation and attention itself, one query after the other.
#include <stdlib.h>

#include "runtime/memory.h"
#include "tests/reference/numbers.h"

enum { HEAD_LIMIT = 1024 }; // widest head

// ---- normalisation and rotation ----

typedef struct {
    int64_t b, t, h; // one head of one token
} HeadIndex;

#define HEAD_AT(index, d) AT((index).b, (index).t, (index).h, d)

// Calls `head` for every head of (B, T, H, D).
static void for_heads(Tensor heads, void (*head)(void *context, HeadIndex at), void *context) {
    REQUIRE(heads.rank == 4 && heads.shape[3] <= HEAD_LIMIT, "rank %d, width %ld", heads.rank, (long)heads.shape[3]);
    for (int64_t b = 0; b < heads.shape[0]; b++)
        for (int64_t t = 0; t < heads.shape[1]; t++)
            for (int64_t h = 0; h < heads.shape[2]; h++) head(context, (HeadIndex){b, t, h});
}

// Turns the pairs (x[i], x[i + D/2]) by `direction` times position theta^(-2 i / D).
static void rotate(double *x, int64_t width, const Rotary *rotary, HeadIndex at, double direction) {
    if (rotary->theta == 0) return;
    double position = (double)get_integer(rotary->positions, AT(at.b, at.t));
    for (int64_t i = 0; i < width / 2; i++) {
        double angle = direction * position * pow(rotary->theta, -2.0 * (double)i / (double)width);
        double left = x[i], right = x[i + width / 2];
        x[i] = left * cos(angle) - right * sin(angle);
        x[i + width / 2] = right * cos(angle) + left * sin(angle);
    }
}

typedef struct {
    const Rotary *rotary;
    Tensor out, in, rstd;   // forward
    Tensor din, dout;       // backward
    double dgain[HEAD_LIMIT];
} RotaryCall;

static void rotary_head_forward(void *context, HeadIndex at) {
    const RotaryCall *call = context;
    const Rotary *rotary = call->rotary;
    int64_t width = call->in.shape[3];
    double x[HEAD_LIMIT], squares = 0;
    for (int64_t d = 0; d < width; d++) {
        x[d] = get(call->in, HEAD_AT(at, d));
        squares += x[d] * x[d];
    }
    if (tensor_present(rotary->gain)) {
        double rstd = 1 / sqrt(squares / (double)width + rotary->epsilon);
        set(call->rstd, AT(at.b, at.t, at.h), rstd);
        for (int64_t d = 0; d < width; d++) x[d] *= rstd * get(rotary->gain, AT(d));
    }
    rotate(x, width, rotary, at, 1);
    for (int64_t d = 0; d < width; d++) set(call->out, HEAD_AT(at, d), x[d]);
}

void reference_rotary_forward(Tensor out, Tensor rstd, Tensor in, const Rotary *rotary) {
    for_heads(in, rotary_head_forward, &(RotaryCall){.rotary = rotary, .out = out, .in = in, .rstd = rstd});
}

static void rotary_head_backward(void *context, HeadIndex at) {
    RotaryCall *call = context;
    int64_t width = call->dout.shape[3];
    Tensor gain = call->rotary->gain;
    double dx[HEAD_LIMIT], projection = 0;
    for (int64_t d = 0; d < width; d++) dx[d] = get(call->dout, HEAD_AT(at, d));
    rotate(dx, width, call->rotary, at, -1);
    if (tensor_present(gain)) {
        double rstd = get(call->rstd, AT(at.b, at.t, at.h));
        for (int64_t d = 0; d < width; d++) {
            double normalised = get(call->in, HEAD_AT(at, d)) * rstd;
            call->dgain[d] += dx[d] * normalised;
            projection += dx[d] * get(gain, AT(d)) * normalised / (double)width;
        }
        for (int64_t d = 0; d < width; d++)
            dx[d] = rstd * (dx[d] * get(gain, AT(d)) - projection * get(call->in, HEAD_AT(at, d)) * rstd);
    }
    for (int64_t d = 0; d < width; d++) set(call->din, HEAD_AT(at, d), dx[d]);
}

void reference_rotary_backward(Tensor din, Tensor dgain, Tensor dout, Tensor in, Tensor rstd, const Rotary *rotary) {
    RotaryCall call = {.rotary = rotary, .din = din, .dout = dout, .in = in, .rstd = rstd};
    for_heads(dout, rotary_head_backward, &call);
    for (int64_t d = 0; d < dout.shape[3] && tensor_present(rotary->gain); d++) add(dgain, AT(d), call.dgain[d]);
}

// ---- attention ----

// Query head h reads key/value head h / (H / K).
static int64_t kv_head(const AttentionHeads *heads, int64_t h) {
    REQUIRE(heads->q.shape[2] % heads->k.shape[2] == 0, "%ld heads on %ld", (long)heads->q.shape[2],
            (long)heads->k.shape[2]);
    return h / (heads->q.shape[2] / heads->k.shape[2]);
}

// Keys [begin, end) that query i of sequence b sees: none where begin >= end.
typedef struct {
    int64_t begin, end;
} Visible;

static Visible visible(const AttentionMask *mask, int64_t keys_there, int64_t b, int64_t i) {
    Visible keys = {0, i + 1};
    if (tensor_present(mask->first_visible)) keys.begin = get_integer(mask->first_visible, AT(b, i));
    if (tensor_present(mask->offset)) keys.end += get_integer(mask->offset, AT(b));
    REQUIRE(keys.begin >= 0, "query %ld of sequence %ld sees key %ld", (long)i, (long)b, (long)keys.begin);
    if (keys.end > keys_there) keys.end = keys_there;
    return keys;
}

static double head_dot(Tensor x, HeadIndex i, Tensor y, HeadIndex j) {
    double sum = 0;
    for (int64_t d = 0; d < x.shape[3]; d++) sum += get(x, HEAD_AT(i, d)) * get(y, HEAD_AT(j, d));
    return sum;
}

static double *take_doubles(int64_t count) { return memory_take(count, sizeof(double), "numbers"); }

// `scores` has room for all keys.
static void query_forward(Tensor out, Tensor lse, const AttentionHeads *heads, const AttentionMask *mask, HeadIndex at,
                          double *scores) {
    Visible keys = visible(mask, heads->k.shape[1], at.b, at.t);
    int64_t h = kv_head(heads, at.h);
    double max = -INFINITY, sum = 0;
    for (int64_t j = keys.begin; j < keys.end; j++) {
        scores[j] = mask->scale * head_dot(heads->q, at, heads->k, (HeadIndex){at.b, j, h});
        max = fmax(max, scores[j]);
    }
    for (int64_t j = keys.begin; j < keys.end; j++) sum += exp(scores[j] - max);
    set(lse, AT(at.b, at.h, at.t), max + log(sum));
    for (int64_t d = 0; d < out.shape[3]; d++) {
        double total = 0;
        for (int64_t j = keys.begin; j < keys.end; j++)
            total += exp(scores[j] - max) / sum * get(heads->v, AT(at.b, j, h, d));
        set(out, HEAD_AT(at, d), total);
    }
}

void reference_attention_forward(Tensor out, Tensor lse, const AttentionHeads *heads, const AttentionMask *mask) {
    const int64_t *size = heads->q.shape;
    double *scores = take_doubles(heads->k.shape[1]);
    for (int64_t b = 0; b < size[0]; b++)
        for (int64_t h = 0; h < size[2]; h++)
            for (int64_t i = 0; i < size[1]; i++) query_forward(out, lse, heads, mask, (HeadIndex){b, i, h}, scores);
    free(scores);
}

typedef struct {
    const AttentionHeads *heads, *dheads;
    const AttentionMask *mask;
    Tensor dout, out, lse;
    double *dk, *dv; // (Tk, D) of one key/value head
} BackwardCall;

// With p = e^(s - lse) and dp = dout v', ds = p (dp - dout out').
static void query_backward(const BackwardCall *call, HeadIndex at) {
    const AttentionHeads *heads = call->heads;
    Visible keys = visible(call->mask, heads->k.shape[1], at.b, at.t);
    int64_t width = heads->q.shape[3];
    double scale = call->mask->scale, delta = head_dot(call->dout, at, call->out, at), dq[HEAD_LIMIT] = {0};
    for (int64_t j = keys.begin; j < keys.end; j++) {
        HeadIndex key = {at.b, j, kv_head(heads, at.h)};
        double p = exp(scale * head_dot(heads->q, at, heads->k, key) - get(call->lse, AT(at.b, at.h, at.t)));
        double ds = p * (head_dot(call->dout, at, heads->v, key) - delta);
        for (int64_t d = 0; d < width; d++) {
            dq[d] += scale * ds * get(heads->k, HEAD_AT(key, d));
            call->dk[j * width + d] += scale * ds * get(heads->q, HEAD_AT(at, d));
            call->dv[j * width + d] += p * get(call->dout, HEAD_AT(at, d));
        }
    }
    for (int64_t d = 0; d < width; d++) set(call->dheads->q, HEAD_AT(at, d), dq[d]);
}

// All query heads that read one key/value head.
static void kv_head_backward(const BackwardCall *call, int64_t b, int64_t h) {
    const AttentionHeads *heads = call->heads;
    int64_t keys = heads->k.shape[1], width = heads->k.shape[3];
    for (int64_t i = 0; i < keys * width; i++) call->dk[i] = call->dv[i] = 0;
    for (int64_t query_head = 0; query_head < heads->q.shape[2]; query_head++)
        for (int64_t i = 0; i < heads->q.shape[1] && kv_head(heads, query_head) == h; i++)
            query_backward(call, (HeadIndex){b, i, query_head});
    for (int64_t j = 0; j < keys; j++)
        for (int64_t d = 0; d < width; d++) {
            set(call->dheads->k, AT(b, j, h, d), call->dk[j * width + d]);
            set(call->dheads->v, AT(b, j, h, d), call->dv[j * width + d]);
        }
}

void reference_attention_backward(const AttentionHeads *dheads, Tensor dout, Tensor out, Tensor lse,
                                  const AttentionHeads *heads, const AttentionMask *mask) {
    const int64_t *size = heads->k.shape;
    REQUIRE(size[3] <= HEAD_LIMIT, "head width %ld", (long)size[3]);
    BackwardCall call = {heads, dheads, mask, dout, out, lse, take_doubles(size[1] * size[3]),
                         take_doubles(size[1] * size[3])};
    for (int64_t b = 0; b < size[0]; b++)
        for (int64_t h = 0; h < size[2]; h++) kv_head_backward(&call, b, h);
    free(call.dk);
    free(call.dv);
}

// ---- the cache ----

void reference_cache_store(Tensor out, Tensor in, Tensor positions) {
    for (int64_t b = 0; b < in.shape[0]; b++)
        for (int64_t t = 0; t < in.shape[1]; t++) {
            int64_t position = get_integer(positions, AT(b, t));
            if (position < 0 || position >= out.shape[1]) continue;
            for (int64_t h = 0; h < in.shape[2]; h++)
                for (int64_t d = 0; d < in.shape[3]; d++)
                    set(out, AT(b, position, h, d), get(in, AT(b, t, h, d)));
        }
}
