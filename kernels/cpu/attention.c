// Attention, forward: a thread takes a tile of queries of one head past the tiles of keys that it sees, with online
// softmax. Scores never leave the thread's scratch; tiles that no query of the tile sees are not visited.
#include "kernels/cpu/attention.h"

#include "kernels/cpu/rows.h"
#include "kernels/cpu/vector_math.h"
#include "runtime/integers.h"

void attention_require(const AttentionHeads *heads, Tensor out, Tensor lse) {
    Tensor q = heads->q, k = heads->k, v = heads->v;
    cpu_floats(q), cpu_floats(k), cpu_floats(v), cpu_floats(out), cpu_floats(lse);
    REQUIRE(q.rank == 4 && tensor_same_shape(k, v) && tensor_same_shape(q, out) && q.shape[0] == k.shape[0] &&
                q.shape[3] == k.shape[3] && q.shape[2] % k.shape[2] == 0,
            "q (%ld, %ld, %ld, %ld), k (%ld, %ld, %ld, %ld)", (long)q.shape[0], (long)q.shape[1], (long)q.shape[2],
            (long)q.shape[3], (long)k.shape[0], (long)k.shape[1], (long)k.shape[2], (long)k.shape[3]);
    REQUIRE(tensor_count(lse) == q.shape[0] * q.shape[1] * q.shape[2] && tensor_contiguous(lse), "lse of %ld",
            (long)tensor_count(lse));
}

QueryTile query_tile(const AttentionHeads *heads, const AttentionMask *mask, int64_t sequence, int64_t head,
                     int64_t query) {
    int64_t queries = heads->q.shape[1], keys = heads->k.shape[1];
    const int32_t *first = cpu_integers(mask->first_visible), *offset = cpu_integers(mask->offset);
    QueryTile tile = {.heads = heads, .scale = mask->scale, .sequence = sequence, .head = head,
                      .kv_head = head / (heads->q.shape[2] / heads->k.shape[2]), .query = query,
                      .rows = least(QUERY_TILE, queries - query), .keys = {keys, 0}};
    for (int64_t i = 0; i < tile.rows; i++) {
        KeyRange *visible = &tile.visible[i];
        visible->begin = first ? first[sequence * queries + query + i] : 0;
        REQUIRE(visible->begin >= 0, "first visible key %ld", (long)visible->begin);
        visible->end = least(keys, (offset ? offset[sequence] : 0) + query + i + 1);
        if (visible->begin >= visible->end) continue;
        tile.keys.begin = least(tile.keys.begin, visible->begin);
        if (visible->end > tile.keys.end) tile.keys.end = visible->end;
    }
    return tile;
}

void query_tile_scores(float *scores, const QueryTile *tile, int64_t key, int64_t keys) {
    Tensor q = tile->heads->q, k = tile->heads->k;
    gemm_product(&(Gemm){
        .rows = tile->rows, .columns = keys, .inner = q.shape[3], .scale = (float)tile->scale,
        .a = operand(cpu_head(q, tile->sequence, tile->query, tile->head), q.stride[1]),
        .b = transposed(cpu_head(k, tile->sequence, key, tile->kv_head), k.stride[1]),
        .out = scores, .stride = keys});
}

void attention_softmax_row(float *scores, int64_t keys, KeyRange part, Online *online, float *out, int64_t width) {
    row_fill(scores, 0, part.begin);
    row_fill(scores + part.end, 0, keys - part.end);
    if (part.begin == part.end) return;
    float before = online->largest;
    if (attention_grows(&online->largest, row_max(scores + part.begin, part.end - part.begin))) {
        float factor = online->sum > 0 ? expf(before - online->largest) : 0;
        if (online->sum > 0) row_scale(out, factor, width);
        online->sum *= factor;
    }
    online->sum += vector_exp_sum(scores + part.begin, scores + part.begin, online->largest, part.end - part.begin);
}

static void add_values(float *out, int64_t stride, const float *p, const QueryTile *tile, KeyRange keys) {
    Tensor v = tile->heads->v;
    gemm_product(&(Gemm){
        .rows = tile->rows, .columns = v.shape[3], .inner = keys.end - keys.begin, .scale = 1,
        .a = operand(p, keys.end - keys.begin),
        .b = operand(cpu_head(v, tile->sequence, keys.begin, tile->kv_head), v.stride[1]),
        .accumulate = keys.begin > tile->keys.begin, .out = out, .stride = stride});
}

void attention_finish_row(float *out, float *lse, Online online, KeyRange visible, int64_t width) {
    if (visible.begin >= visible.end) {
        row_fill(out, 0, width);
        *lse = -INFINITY;
        return;
    }
    bool finite = isfinite(online.largest);
    row_scale(out, finite ? 1 / online.sum : NAN, width);
    *lse = finite ? online.largest + logf(online.sum) : NAN;
}

static void forward_tile(Tensor out_tensor, float *lse, const QueryTile *tile) {
    float *scores = cpu_scratch(), *out = cpu_head(out_tensor, tile->sequence, tile->query, tile->head);
    int64_t stride = out_tensor.stride[1], width = out_tensor.shape[3];
    Online online[QUERY_TILE];
    for (int64_t i = 0; i < tile->rows; i++) online[i] = (Online){.largest = -INFINITY};
    for (int64_t key = tile->keys.begin; key < tile->keys.end; key += KEY_TILE) {
        int64_t keys = least(KEY_TILE, tile->keys.end - key);
        query_tile_scores(scores, tile, key, keys);
        for (int64_t i = 0; i < tile->rows; i++)
            attention_softmax_row(scores + i * keys, keys, visible_part(tile->visible[i], key, keys), &online[i],
                        out + i * stride, width);
        add_values(out, stride, scores, tile, (KeyRange){key, key + keys});
    }
    for (int64_t i = 0; i < tile->rows; i++)
        attention_finish_row(out + i * stride, lse + i, online[i], tile->visible[i], width);
}

void cpu_attention_forward(Tensor out, Tensor lse, const AttentionHeads *heads, const AttentionMask *mask) {
    attention_require(heads, out, lse);
    if (attention_few(out, lse, heads, mask)) return;
    int64_t sequences = out.shape[0], queries = out.shape[1], query_heads = out.shape[2];
    int64_t tiles = divide_up(queries, QUERY_TILE);
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(attention_work(heads)))
    for (int64_t i = 0; i < sequences * query_heads * tiles; i++) {
        int64_t head = i / tiles, query = i % tiles * QUERY_TILE;
        QueryTile tile = query_tile(heads, mask, head / query_heads, head % query_heads, query);
        forward_tile(out, (float *)lse.data + head * queries + query, &tile);
    }
}
