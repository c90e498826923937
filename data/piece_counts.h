// Distinct pieces of text, such as the pre-split makes them, and how often each occurs.
//
// Memory is bounded: when there are more than COUNT_PIECES of them, or more than COUNT_BYTES in them, those seen at
// most c times are forgotten, c the smallest power of two that leaves half the room; `forgotten` counts their
// occurrences. What is kept depends on the order in which pieces_merge is called, and on nothing else.
#pragma once

#include "runtime/text.h"

enum { COUNT_PIECES = 8 << 20, COUNT_BYTES = 128 << 20, PIECE_LIMIT = 256 };

typedef struct {
    uint32_t at, size; // in `bytes`
    int64_t count;
} PieceCount;

// Zero-initialised is empty.
typedef struct {
    Text bytes;
    PieceCount *items;
    int64_t count, capacity;
    uint64_t *slots; // hash table: upper half of the hash, and number + 1 of an item; 0: empty
    uint64_t slot_count;
    int64_t forgotten; // occurrences of pieces that were too rare
    int64_t long_ones; // of pieces longer than PIECE_LIMIT bytes, which are not counted
} PieceCounts;

void pieces_clear(PieceCounts *pieces); // keeps the memory
void pieces_close(PieceCounts *pieces);

void pieces_add(PieceCounts *pieces, const char *bytes, size_t size, int64_t count);
// Adds all that `from` holds, and forgets where there is too much; the limits are COUNT_PIECES and COUNT_BYTES but in
// tests.
void pieces_merge(PieceCounts *into, const PieceCounts *from, int64_t piece_limit, int64_t byte_limit);
