// Attention of few queries to a cache of keys and values, forward: bound by reading once what is seen of it. A thread
// takes the keys of one key/value head past all queries of all heads that read it. Where there are few such heads the
// keys are split as well, evenly as far as they are seen, and the parts are merged in order.
#include <string.h>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/rows.h"
#include "runtime/integers.h"

enum {
    UNITS = 64,       // of work, at least, where splitting gives so many
    SPLIT_KEYS = 128, // at least
    KEYS = 64,        // of a step
    AHEAD = 16,       // keys whose lines are asked for early
};

// A unit's rows are the queries of its first head, then those of the next. What is made of a row: its output, not yet
// divided by the sum of weights, and its Online.
typedef struct {
    Tensor out;
    float *lse; // (B, H, Tq)
    const AttentionHeads *heads;
    const AttentionMask *mask;
    int64_t queries, group, kv_heads, width;
    int64_t pairs, splits; // pairs of a sequence and a key/value head
} Few;

static int64_t rows_of(const Few *f) { return f->queries * f->group; }
static int64_t row_floats(const Few *f) { return f->width + (int64_t)(sizeof(Online) / sizeof(float)); }
static Online *online_of(const Few *f, float *row) { return (Online *)(row + f->width); }

static QueryTile queries_of(const Few *f, int64_t pair) {
    return query_tile(f->heads, f->mask, pair / f->kv_heads, pair % f->kv_heads * f->group, 0);
}

// Of row `row` of the unit.
static float *head_of(const Few *f, Tensor t, const QueryTile *tile, int64_t row) {
    return cpu_head(t, tile->sequence, row % f->queries, tile->head + row / f->queries);
}

static KeyRange split_of(KeyRange keys, int64_t splits, int64_t split) {
    int64_t count = keys.end > keys.begin ? keys.end - keys.begin : 0;
    int64_t parts = least(splits, divide_up(count, SPLIT_KEYS));
    if (split >= parts) return (KeyRange){0, 0};
    return (KeyRange){keys.begin + count * split / parts, keys.begin + count * (split + 1) / parts};
}

// Scaled, so that scores need not be.
static void gather_queries(float *q, const Few *f, const QueryTile *tile) {
    for (int64_t r = 0; r < rows_of(f); r++) {
        const float *from = head_of(f, f->heads->q, tile, r);
        for (int64_t i = 0; i < f->width; i++) q[r * f->width + i] = from[i] * (float)tile->scale;
    }
}

static void add_keys(float *rows, const Few *f, const QueryTile *tile, KeyRange keys) {
    int64_t count = rows_of(f), step = row_floats(f);
    Tensor k = f->heads->k, v = f->heads->v;
    float *q = cpu_scratch(), *scores = q + count * f->width;
    gather_queries(q, f, tile);
    for (int64_t key = keys.begin, n; key < keys.end; key += n) {
        n = least(KEYS, keys.end - key);
        gemm_few_product(&(Gemm){
            .rows = count, .columns = n, .inner = f->width, .a = operand(q, f->width),
            .b = transposed(cpu_head(k, tile->sequence, key, tile->kv_head), k.stride[1]),
            .out = scores, .stride = n}, AHEAD);
        for (int64_t r = 0; r < count; r++)
            attention_softmax_row(scores + r * n, n, visible_part(tile->visible[r % f->queries], key, n),
                                  online_of(f, rows + r * step), rows + r * step, f->width);
        gemm_few_product(&(Gemm){
            .rows = count, .columns = f->width, .inner = n, .a = operand(scores, n),
            .b = operand(cpu_head(v, tile->sequence, key, tile->kv_head), v.stride[1]),
            .out = rows, .stride = step}, AHEAD);
    }
}

static void finish_rows(float *rows, const Few *f, const QueryTile *tile) {
    for (int64_t r = 0; r < rows_of(f); r++) {
        float *row = rows + r * row_floats(f);
        int64_t head = tile->sequence * f->out.shape[2] + tile->head + r / f->queries, query = r % f->queries;
        attention_finish_row(row, f->lse + head * f->queries + query, *online_of(f, row), tile->visible[query],
                             f->width);
        memcpy(head_of(f, f->out, tile, r), row, (size_t)f->width * sizeof *row);
    }
}

static float *unit_rows(const Few *f, int64_t unit) {
    return cpu_shared_scratch() + unit * rows_of(f) * row_floats(f);
}

static void unit_forward(const Few *f, int64_t unit) {
    QueryTile tile = queries_of(f, unit / f->splits);
    int64_t count = rows_of(f), step = row_floats(f);
    float *rows = f->splits > 1 ? unit_rows(f, unit) : cpu_scratch() + count * (f->width + KEYS);
    for (int64_t r = 0; r < count; r++) {
        row_fill(rows + r * step, 0, f->width);
        *online_of(f, rows + r * step) = (Online){.largest = -INFINITY};
    }
    add_keys(rows, f, &tile, split_of(tile.keys, f->splits, unit % f->splits));
    if (f->splits == 1) finish_rows(rows, f, &tile);
}

// The row of the first split becomes that of all, which lie `step` floats apart.
static void merge_row(float *row, const Few *f, int64_t step) {
    Online all = {.largest = -INFINITY};
    for (int64_t s = 0; s < f->splits; s++) attention_grows(&all.largest, online_of(f, row + s * step)->largest);
    for (int64_t s = 0; s < f->splits; s++) {
        const float *part = row + s * step;
        Online online = *online_of(f, row + s * step);
        float factor = online.sum > 0 ? expf(online.largest - all.largest) : 0;
        all.sum += factor * online.sum;
        for (int64_t i = 0; i < f->width; i++) row[i] = (s > 0 ? row[i] : 0) + factor * part[i];
    }
    *online_of(f, row) = all;
}

static void merge_pair(const Few *f, int64_t pair) {
    QueryTile tile = queries_of(f, pair);
    float *rows = unit_rows(f, pair * f->splits);
    for (int64_t r = 0; r < rows_of(f); r++) merge_row(rows + r * row_floats(f), f, rows_of(f) * row_floats(f));
    finish_rows(rows, f, &tile);
}

// By the shapes alone.
static int64_t splits_of(const Few *f) {
    int64_t wanted = least(divide_up(UNITS, f->pairs), divide_up(f->heads->k.shape[1], SPLIT_KEYS));
    int64_t room = CPU_SHARED_SCRATCH / (f->pairs * rows_of(f) * row_floats(f));
    return room < 1 ? 1 : least(wanted, room);
}

// Numbers of keys that are seen at all.
static int64_t seen(const Few *f) {
    const int32_t *offset = cpu_integers(f->mask->offset);
    int64_t keys = 0;
    for (int64_t b = 0; b < f->out.shape[0]; b++)
        keys += least(f->heads->k.shape[1], (offset ? offset[b] : 0) + f->queries);
    return keys * f->kv_heads * f->width;
}

bool attention_few(Tensor out, Tensor lse, const AttentionHeads *heads, const AttentionMask *mask) {
    Few f = {.out = out, .lse = cpu_floats(lse), .heads = heads, .mask = mask, .queries = out.shape[1],
             .group = out.shape[2] / heads->k.shape[2], .kv_heads = heads->k.shape[2], .width = out.shape[3],
             .pairs = out.shape[0] * heads->k.shape[2]};
    if (f.queries > FEW_QUERIES || rows_of(&f) * (f.width + KEYS + row_floats(&f)) > CPU_SCRATCH) return false;
    f.splits = splits_of(&f);
    int team = cpu_team(seen(&f) * f.group);
#pragma omp parallel for schedule(dynamic) num_threads(team)
    for (int64_t unit = 0; unit < f.pairs * f.splits; unit++) unit_forward(&f, unit);
#pragma omp parallel for num_threads(team)
    for (int64_t pair = 0; pair < (f.splits > 1 ? f.pairs : 0); pair++) merge_pair(&f, pair);
    return true;
}
