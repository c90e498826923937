// What forward and backward of attention share: a tile of queries of one head, and the keys that it sees.
#pragma once

#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/gemm.h"

// A tile's scores fit the second-level cache with the operands; backward holds two of them.
enum { QUERY_TILE = 64, KEY_TILE = 256 };
_Static_assert(2 * QUERY_TILE * KEY_TILE <= CPU_SCRATCH, "scores and their gradient fit a thread's scratch");

typedef struct {
    int64_t begin, end; // end excluded
} KeyRange;

typedef struct {
    const AttentionHeads *heads;
    double scale;
    int64_t sequence, head, kv_head;
    int64_t query, rows;          // queries of the tile
    KeyRange visible[QUERY_TILE]; // of each query
    KeyRange keys;                // of all of them
} QueryTile;

QueryTile query_tile(const AttentionHeads *heads, const AttentionMask *mask, int64_t sequence, int64_t head,
                     int64_t query);

// scale q k' of the tile and `keys` keys from `key` on: (tile->rows, keys), rows `keys` apart.
void query_tile_scores(float *scores, const QueryTile *tile, int64_t key, int64_t keys);

// The part of a query's visible keys that lies in a tile of keys, relative to it.
static inline KeyRange visible_part(KeyRange visible, int64_t key, int64_t keys) {
    KeyRange part = {visible.begin > key ? visible.begin - key : 0, least(visible.end - key, keys)};
    return part.begin < part.end ? part : (KeyRange){0, 0};
}

// Of the keys that a query has met so far.
typedef struct {
    float largest, sum; // largest score; sum of e^(score - largest)
} Online;

// NaN enters, and stays.
static inline bool attention_grows(float *largest, float score) {
    bool grows = !(score <= *largest) && !isnan(*largest);
    if (grows) *largest = score;
    return grows;
}

// Scores become e^(score - largest), 0 where masked; what has been summed before shrinks when the largest grows.
void attention_softmax_row(float *scores, int64_t keys, KeyRange part, Online *online, float *out, int64_t width);

// The output is divided by the sum. NaN and infinity among the scores show in the largest one; their sum is not to be
// relied on (see vector_math.c).
void attention_finish_row(float *out, float *lse, Online online, KeyRange visible, int64_t width);

// Forward of few queries; false, and nothing is done: there are too many.
enum { FEW_QUERIES = 8 };
bool attention_few(Tensor out, Tensor lse, const AttentionHeads *heads, const AttentionMask *mask);

void attention_require(const AttentionHeads *heads, Tensor out, Tensor lse);

// Multiply-adds of all scores, for the choice of a team.
static inline int64_t attention_work(const AttentionHeads *heads) {
    return tensor_count(heads->q) * heads->k.shape[1];
}
