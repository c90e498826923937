// Attention, backward: a thread owns one key/value head of one sequence with all the query heads that read it, and so
// every gradient it adds to. Probabilities are computed again from lse.
#include "kernels/cpu/attention.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/vector_math.h"
#include "runtime/integers.h"

typedef struct {
    const AttentionHeads *dheads;
    Tensor dout, out;
    const float *lse; // of the tile's queries
    const QueryTile *tile;
    float *p, *ds; // (rows, keys) of the present tile of keys
    float delta[QUERY_TILE];
} Backward;

// delta = sum(dout out) of a query: what the softmax subtracts from each dp.
static void set_delta(Backward *b) {
    const QueryTile *t = b->tile;
    for (int64_t i = 0; i < t->rows; i++)
        b->delta[i] = row_dot(cpu_head(b->dout, t->sequence, t->query + i, t->head),
                              cpu_head(b->out, t->sequence, t->query + i, t->head), b->out.shape[3]);
}

// p = e^(scores - lse) and ds = p (dout v' - delta), 0 where masked.
static void set_scores(const Backward *b, int64_t key, int64_t keys) {
    const QueryTile *t = b->tile;
    Tensor v = t->heads->v;
    query_tile_scores(b->p, t, key, keys);
    gemm_product(&(Gemm){
        .rows = t->rows, .columns = keys, .inner = v.shape[3], .scale = 1,
        .a = operand(cpu_head(b->dout, t->sequence, t->query, t->head), b->dout.stride[1]),
        .b = transposed(cpu_head(v, t->sequence, key, t->kv_head), v.stride[1]),
        .out = b->ds, .stride = keys});
    for (int64_t i = 0; i < t->rows; i++) {
        float *p = b->p + i * keys, *ds = b->ds + i * keys;
        KeyRange part = visible_part(t->visible[i], key, keys);
        row_fill(p, 0, part.begin), row_fill(p + part.end, 0, keys - part.end);
        row_fill(ds, 0, part.begin), row_fill(ds + part.end, 0, keys - part.end);
        vector_softmax_backward(p + part.begin, ds + part.begin, b->lse[i], b->delta[i], part.end - part.begin);
    }
}

// dq (+)= scale ds k, and (for keys) dk += scale ds' q, dv += p' dout.
static void add_query_gradient(const Backward *b, int64_t key, int64_t keys) {
    const QueryTile *t = b->tile;
    Tensor k = t->heads->k, dq = b->dheads->q;
    gemm_product(&(Gemm){
        .rows = t->rows, .columns = k.shape[3], .inner = keys, .scale = (float)t->scale, .a = operand(b->ds, keys),
        .b = operand(cpu_head(k, t->sequence, key, t->kv_head), k.stride[1]), .accumulate = key > t->keys.begin,
        .out = cpu_head(dq, t->sequence, t->query, t->head), .stride = dq.stride[1]});
}

static void add_key_gradient(const Backward *b, int64_t key, int64_t keys) {
    const QueryTile *t = b->tile;
    Tensor q = t->heads->q, dk = b->dheads->k, dv = b->dheads->v;
    Gemm gemm = {
        .rows = keys, .columns = q.shape[3], .inner = t->rows, .scale = (float)t->scale, .a = transposed(b->ds, keys),
        .b = operand(cpu_head(q, t->sequence, t->query, t->head), q.stride[1]), .accumulate = true,
        .out = cpu_head(dk, t->sequence, key, t->kv_head), .stride = dk.stride[1]};
    gemm_product(&gemm);
    gemm.scale = 1;
    gemm.a = transposed(b->p, keys);
    gemm.b = operand(cpu_head(b->dout, t->sequence, t->query, t->head), b->dout.stride[1]);
    gemm.out = cpu_head(dv, t->sequence, key, t->kv_head);
    gemm.stride = dv.stride[1];
    gemm_product(&gemm);
}

static void fill_head(Tensor tensor, int64_t sequence, int64_t head, int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) row_fill(cpu_head(tensor, sequence, t, head), 0, tensor.shape[3]);
}

static void backward_tile(Backward *b) {
    const QueryTile *t = b->tile;
    set_delta(b);
    if (t->keys.begin >= t->keys.end) fill_head(b->dheads->q, t->sequence, t->head, t->query, t->query + t->rows);
    for (int64_t key = t->keys.begin; key < t->keys.end; key += KEY_TILE) {
        int64_t keys = least(KEY_TILE, t->keys.end - key);
        set_scores(b, key, keys);
        add_query_gradient(b, key, keys);
        add_key_gradient(b, key, keys);
    }
}

void cpu_attention_backward(const AttentionHeads *dheads, Tensor dout, Tensor out, Tensor lse,
                            const AttentionHeads *heads, const AttentionMask *mask) {
    attention_require(heads, out, lse);
    attention_require(dheads, dout, lse);
    int64_t queries = out.shape[1], query_heads = out.shape[2], kv_heads = heads->k.shape[2];
    int64_t per_kv_head = query_heads / kv_heads;
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(attention_work(heads)))
    for (int64_t unit = 0; unit < out.shape[0] * kv_heads; unit++) {
        int64_t sequence = unit / kv_heads, kv_head = unit % kv_heads;
        fill_head(dheads->k, sequence, kv_head, 0, dheads->k.shape[1]);
        fill_head(dheads->v, sequence, kv_head, 0, dheads->v.shape[1]);
        for (int64_t i = 0; i < per_kv_head * divide_up(queries, QUERY_TILE); i++) {
            int64_t head = kv_head * per_kv_head + i % per_kv_head, query = i / per_kv_head * QUERY_TILE;
            QueryTile tile = query_tile(heads, mask, sequence, head, query);
            Backward backward = {.dheads = dheads, .dout = dout, .out = out, .tile = &tile,
                                 .lse = (const float *)lse.data + (sequence * query_heads + head) * queries + query,
                                 .p = cpu_scratch(), .ds = cpu_scratch() + QUERY_TILE * KEY_TILE};
            backward_tile(&backward);
        }
    }
}
