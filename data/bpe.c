// Byte-level BPE: pre-split by regular expression, then in each piece the adjacent pair of lowest rank is merged,
// leftmost first, until none is left. Short pieces scan for the lowest rank; long ones keep a heap, so that a piece of
// n bytes costs n log n. Recent short pieces are remembered.
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "data/tokenizer_rows.h"
#include "runtime/memory.h"

enum { SHORT_PIECE = 48, CACHE_SLOTS = 1 << 15, CACHE_BYTES = 26, CACHE_IDS = 9 };
#define NO_RANK UINT32_MAX
#define NO_PAIR UINT64_MAX

typedef struct {
    uint64_t pair; // left << 32 | right
    uint32_t rank;
} PairSlot;

typedef struct {
    uint8_t size, count; // size 0: empty
    char bytes[CACHE_BYTES];
    int32_t ids[CACHE_IDS];
} CachedPiece; // 64 bytes, a cache line

struct Bpe {
    const Merge *merges;
    const int32_t *byte_ids;
    const TokenTable *whole; // tokens that a piece is as a whole; NULL: the merges decide
    PairSlot *pairs;
    uint64_t pair_mask;
    bool shared; // `pairs` belongs to another one
    Presplit *presplit;
    CachedPiece *cache;
};

// ---- pairs ----

static uint64_t pair_of(int32_t left, int32_t right) { return (uint64_t)left << 32 | (uint32_t)right; }

static PairSlot *pair_slot(const Bpe *bpe, uint64_t pair) {
    uint64_t at = (pair * UINT64_C(0x9E3779B97F4A7C15)) >> 32;
    while (bpe->pairs[at & bpe->pair_mask].pair != pair && bpe->pairs[at & bpe->pair_mask].pair != NO_PAIR) at++;
    return &bpe->pairs[at & bpe->pair_mask];
}

static uint32_t rank_of(const Bpe *bpe, int32_t left, int32_t right) {
    return pair_slot(bpe, pair_of(left, right))->rank;
}

static void place_pairs(Bpe *bpe, int64_t merge_count) {
    uint64_t slots = 64;
    while (slots < 2 * (uint64_t)merge_count) slots *= 2;
    bpe->pairs = memory_grow(NULL, (int64_t)slots, sizeof *bpe->pairs, "a table of merges");
    bpe->pair_mask = slots - 1;
    for (uint64_t i = 0; i < slots; i++) bpe->pairs[i] = (PairSlot){NO_PAIR, NO_RANK};
    for (int64_t rank = 0; rank < merge_count; rank++) {
        uint64_t pair = pair_of(bpe->merges[rank].left, bpe->merges[rank].right);
        PairSlot *slot = pair_slot(bpe, pair);
        *slot = (PairSlot){pair, (uint32_t)rank}; // of one pair twice the last, as `tokenizers` has it
    }
}

// What each thread has for itself.
static void open_scratch(Bpe *bpe, PresplitKind kind) {
    bpe->presplit = presplit_open(kind);
    bpe->cache = memory_take(CACHE_SLOTS, sizeof *bpe->cache, "the tokenizer");
}

Bpe *bpe_open(const Tokenizer *tokenizer) {
    Bpe *bpe = memory_take(1, sizeof *bpe, "the tokenizer");
    *bpe = (Bpe){.merges = tokenizer->merges, .byte_ids = tokenizer->byte_ids};
    if (tokenizer->ignore_merges) bpe->whole = &tokenizer->tokens;
    place_pairs(bpe, tokenizer->merge_count);
    open_scratch(bpe, tokenizer->presplit);
    return bpe;
}

Bpe *bpe_share(const Tokenizer *tokenizer) {
    Bpe *bpe = memory_take(1, sizeof *bpe, "the tokenizer");
    *bpe = *tokenizer->bpe;
    bpe->shared = true;
    open_scratch(bpe, tokenizer->presplit);
    return bpe;
}

void bpe_close(Bpe *bpe) {
    if (!bpe) return;
    presplit_close(bpe->presplit);
    if (!bpe->shared) free(bpe->pairs);
    free(bpe->cache);
    free(bpe);
}

// ---- short pieces ----

static int64_t merge_short(const Bpe *bpe, int32_t *ids, int64_t n) {
    uint32_t ranks[SHORT_PIECE]; // of (ids[i], ids[i + 1])
    for (int64_t i = 0; i + 1 < n; i++) ranks[i] = rank_of(bpe, ids[i], ids[i + 1]);
    while (n > 1) {
        int64_t best = 0;
        for (int64_t i = 1; i + 1 < n; i++)
            if (ranks[i] < ranks[best]) best = i;
        if (ranks[best] == NO_RANK) break;
        ids[best] = bpe->merges[ranks[best]].id;
        n--;
        for (int64_t i = best + 1; i < n; i++) ids[i] = ids[i + 1];
        for (int64_t i = best; i + 1 < n; i++) ranks[i] = ranks[i + 1];
        if (best > 0) ranks[best - 1] = rank_of(bpe, ids[best - 1], ids[best]);
        if (best + 1 < n) ranks[best] = rank_of(bpe, ids[best], ids[best + 1]);
    }
    return n;
}

// ---- long pieces ----

// A linked list of symbols by position, and a heap of rank << 32 | position of their left one. An entry counts only
// while the list still has that rank at that position.
typedef struct {
    int32_t id;
    uint32_t rank; // of the pair with the next
    uint32_t previous, next;
} Symbol;

typedef struct {
    uint64_t *items;
    size_t count;
} Heap;

static void sift_down(Heap *heap, size_t at) {
    uint64_t item = heap->items[at];
    for (size_t child; (child = 2 * at + 1) < heap->count; at = child) {
        if (child + 1 < heap->count && heap->items[child + 1] < heap->items[child]) child++;
        if (item <= heap->items[child]) break;
        heap->items[at] = heap->items[child];
    }
    heap->items[at] = item;
}

static void heap_add(Heap *heap, uint64_t item) {
    size_t at = heap->count++;
    for (; at > 0 && heap->items[(at - 1) / 2] > item; at = (at - 1) / 2) heap->items[at] = heap->items[(at - 1) / 2];
    heap->items[at] = item;
}

static uint64_t heap_take(Heap *heap) {
    uint64_t least = heap->items[0];
    heap->items[0] = heap->items[--heap->count];
    if (heap->count > 0) sift_down(heap, 0);
    return least;
}

// Ranks the pair that begins at `at`.
static void rank_pair(const Bpe *bpe, Symbol *symbols, uint32_t at, uint32_t end, Heap *heap) {
    uint32_t next = symbols[at].next;
    symbols[at].rank = next == end ? NO_RANK : rank_of(bpe, symbols[at].id, symbols[next].id);
    if (symbols[at].rank != NO_RANK) heap_add(heap, (uint64_t)symbols[at].rank << 32 | at);
}

static int64_t merge_long(const Bpe *bpe, int32_t *ids, int64_t n) {
    REQUIRE(n < UINT32_MAX, "a piece of %ld bytes", n);
    uint32_t end = (uint32_t)n;
    Symbol *symbols = memory_grow(NULL, n, sizeof *symbols, "bytes of a word");
    Heap heap = {memory_grow(NULL, 3 * n, sizeof *heap.items, "pairs of a word"), 0}; // n - 1, and two for each merge
    for (uint32_t i = 0; i < end; i++) symbols[i] = (Symbol){ids[i], NO_RANK, i - 1, i + 1};
    for (uint32_t i = 0; i < end; i++) rank_pair(bpe, symbols, i, end, &heap);
    while (heap.count > 0) {
        uint64_t item = heap_take(&heap);
        uint32_t at = (uint32_t)item, rank = (uint32_t)(item >> 32);
        if (symbols[at].rank != rank) continue;
        uint32_t gone = symbols[at].next, next = symbols[gone].next;
        symbols[at].id = bpe->merges[rank].id;
        symbols[at].next = next;
        symbols[gone].rank = NO_RANK;
        if (next != end) symbols[next].previous = at;
        rank_pair(bpe, symbols, at, end, &heap);
        if (at > 0) rank_pair(bpe, symbols, symbols[at].previous, end, &heap);
    }
    int64_t count = 0;
    for (uint32_t i = 0; i != end; i = symbols[i].next) ids[count++] = symbols[i].id;
    free(symbols);
    free(heap.items);
    return count;
}

// ---- texts ----

static CachedPiece *cached_piece(const Bpe *bpe, const char *bytes, size_t size) {
    return &bpe->cache[XXH3_64bits(bytes, size) % CACHE_SLOTS];
}

static int64_t make_ids(const Bpe *bpe, const char *bytes, size_t size, int32_t *ids) {
    int32_t whole = bpe->whole ? token_table_find(bpe->whole, bytes, size) : -1;
    if (whole >= 0) {
        *ids = whole;
        return 1;
    }
    for (size_t i = 0; i < size; i++) ids[i] = bpe->byte_ids[(unsigned char)bytes[i]];
    return (size <= SHORT_PIECE ? merge_short : merge_long)(bpe, ids, (int64_t)size);
}

static void encode_piece(const Bpe *bpe, const char *bytes, size_t size, TokenList *out) {
    token_list_reserve(out, size);
    int32_t *ids = out->items + out->count;
    CachedPiece *cached = size <= CACHE_BYTES ? cached_piece(bpe, bytes, size) : NULL;
    if (cached && cached->size == size && memcmp(cached->bytes, bytes, size) == 0) {
        memcpy(ids, cached->ids, cached->count * sizeof *ids);
        out->count += cached->count;
        return;
    }
    int64_t count = make_ids(bpe, bytes, size, ids);
    out->count += count;
    if (!cached || count > CACHE_IDS) return;
    cached->size = (uint8_t)size;
    cached->count = (uint8_t)count;
    memcpy(cached->bytes, bytes, size);
    memcpy(cached->ids, ids, (size_t)count * sizeof *ids);
}

void bpe_encode(Bpe *bpe, const char *text, size_t size, TokenList *out) {
    for (size_t at = 0, end; at < size; at = end) {
        end = presplit_next(bpe->presplit, text, size, at);
        encode_piece(bpe, text + at, end - at, out);
    }
}
