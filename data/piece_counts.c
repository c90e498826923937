#include "data/piece_counts.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "runtime/memory.h"

#define HASH_BITS 0xFFFFFFFF00000000u

static uint64_t hash_of(const char *bytes, size_t size) { return XXH3_64bits(bytes, size); }

// The slot of a piece, or the empty one where it belongs.
static uint64_t *slot_of(const PieceCounts *pieces, uint64_t hash, const char *bytes, size_t size) {
    uint64_t mask = pieces->slot_count - 1, at = hash & mask;
    for (; pieces->slots[at]; at = (at + 1) & mask) {
        if ((pieces->slots[at] ^ hash) & HASH_BITS) continue;
        const PieceCount *item = &pieces->items[(uint32_t)pieces->slots[at] - 1];
        if (item->size == size && memcmp(pieces->bytes.data + item->at, bytes, size) == 0) break;
    }
    return &pieces->slots[at];
}

static void place_all(PieceCounts *pieces) {
    memset(pieces->slots, 0, pieces->slot_count * sizeof *pieces->slots);
    for (int64_t i = 0; i < pieces->count; i++) {
        const char *bytes = pieces->bytes.data + pieces->items[i].at;
        uint64_t hash = hash_of(bytes, pieces->items[i].size);
        *slot_of(pieces, hash, bytes, pieces->items[i].size) = (hash & HASH_BITS) | (uint64_t)(i + 1);
    }
}

static void grow(PieceCounts *pieces) {
    pieces->capacity = pieces->capacity ? 2 * pieces->capacity : 1024;
    pieces->slot_count = 2 * (uint64_t)pieces->capacity;
    pieces->items = memory_grow(pieces->items, pieces->capacity, sizeof *pieces->items, "words");
    free(pieces->slots);
    pieces->slots = memory_grow(NULL, (int64_t)pieces->slot_count, sizeof *pieces->slots, "a table of words");
    place_all(pieces);
}

void pieces_add(PieceCounts *pieces, const char *bytes, size_t size, int64_t count) {
    if (size > PIECE_LIMIT) {
        pieces->long_ones += count;
        return;
    }
    if (pieces->count == pieces->capacity) grow(pieces);
    uint64_t hash = hash_of(bytes, size), *slot = slot_of(pieces, hash, bytes, size);
    if (*slot == 0) {
        pieces->items[pieces->count++] = (PieceCount){(uint32_t)pieces->bytes.size, (uint32_t)size, 0};
        text_append(&pieces->bytes, bytes, size);
        *slot = (hash & HASH_BITS) | (uint64_t)pieces->count;
    }
    pieces->items[(uint32_t)*slot - 1].count += count;
}

// Forgets all pieces seen at most `most` times.
static void forget(PieceCounts *pieces, int64_t most) {
    int64_t kept = 0;
    size_t end = 0;
    for (int64_t i = 0; i < pieces->count; i++) {
        PieceCount item = pieces->items[i];
        if (item.count <= most) pieces->forgotten += item.count;
        if (item.count <= most) continue;
        memmove(pieces->bytes.data + end, pieces->bytes.data + item.at, item.size);
        item.at = (uint32_t)end;
        end += item.size;
        pieces->items[kept++] = item;
    }
    pieces->count = kept;
    pieces->bytes.size = end;
    place_all(pieces);
}

static void forget_rarest(PieceCounts *pieces, int64_t piece_limit, int64_t byte_limit) {
    for (int64_t most = 1;; most *= 2) {
        int64_t count = 0, bytes = 0;
        for (int64_t i = 0; i < pieces->count; i++) {
            if (pieces->items[i].count <= most) continue;
            count++;
            bytes += pieces->items[i].size;
        }
        if (2 * count > piece_limit || 2 * bytes > byte_limit) continue;
        forget(pieces, most);
        return;
    }
}

void pieces_merge(PieceCounts *into, const PieceCounts *from, int64_t piece_limit, int64_t byte_limit) {
    for (int64_t i = 0; i < from->count; i++)
        pieces_add(into, from->bytes.data + from->items[i].at, from->items[i].size, from->items[i].count);
    into->forgotten += from->forgotten;
    into->long_ones += from->long_ones;
    if (into->count > piece_limit || (int64_t)into->bytes.size > byte_limit)
        forget_rarest(into, piece_limit, byte_limit);
}

void pieces_clear(PieceCounts *pieces) {
    pieces->count = pieces->forgotten = pieces->long_ones = 0;
    text_clear(&pieces->bytes);
    if (pieces->slots) memset(pieces->slots, 0, pieces->slot_count * sizeof *pieces->slots);
}

void pieces_close(PieceCounts *pieces) {
    text_close(&pieces->bytes);
    free(pieces->items);
    free(pieces->slots);
    *pieces = (PieceCounts){0};
}
