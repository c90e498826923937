// Words are rows of ids that shrink in place. Each pair knows its count and the words that had it when it came to be:
// only the merge that makes a token brings pairs with it, so that a pair's count and words never grow later, and a heap
// of counts that may be too high is enough: the top one is put back where it is.
#include "data/bpe_train.h"

#include <stdlib.h>
#include <string.h>

#include "data/progress.h"
#include "data/tokenizer_rows.h"
#include "runtime/memory.h"

enum { BYTES = 256, FEW = 2, SWEEP_LEAST = 1024 };

typedef struct {
    uint64_t key;  // left << 32 | right
    int64_t count; // in all words; 0 or less: gone
    union {
        uint32_t few[FEW];
        uint32_t *many;
    } words;
    uint32_t word_count, word_capacity; // capacity FEW: in place
} Pair;

typedef struct {
    int64_t count;
    uint64_t key;
} HeapItem;

typedef struct {
    PieceCount *words; // ids of a word stand at `at`, now `size` of them
    int32_t *ids;
    Pair *pairs;
    int64_t pair_count, pair_capacity, sweep_at;
    uint32_t *slots; // hash table: number + 1 of a pair; 0: empty
    uint64_t slot_count;
    HeapItem *heap;
    int64_t heap_count, heap_capacity;
    int32_t (*merges)[2];
} Trainer;

// ---- pairs ----

static uint64_t key_of(int32_t left, int32_t right) { return (uint64_t)left << 32 | (uint32_t)right; }

static uint32_t *slot_of(const Trainer *t, uint64_t key) {
    uint64_t mask = t->slot_count - 1, at = (key * UINT64_C(0x9E3779B97F4A7C15)) >> 32 & mask;
    while (t->slots[at] && t->pairs[t->slots[at] - 1].key != key) at = (at + 1) & mask;
    return &t->slots[at];
}

static Pair *find_pair(const Trainer *t, uint64_t key) {
    uint32_t number = *slot_of(t, key);
    return number ? &t->pairs[number - 1] : NULL;
}

static void place_pairs(Trainer *t) {
    memset(t->slots, 0, t->slot_count * sizeof *t->slots);
    for (int64_t i = 0; i < t->pair_count; i++) *slot_of(t, t->pairs[i].key) = (uint32_t)(i + 1);
}

static Pair *add_pair(Trainer *t, uint64_t key) {
    if (t->pair_count == t->pair_capacity) {
        t->pair_capacity = t->pair_capacity ? 2 * t->pair_capacity : BYTES * BYTES;
        t->slot_count = 2 * (uint64_t)t->pair_capacity;
        REQUIRE(t->slot_count <= UINT32_MAX, "%ld pairs", t->pair_capacity);
        t->pairs = memory_grow(t->pairs, t->pair_capacity, sizeof *t->pairs, "pairs of tokens");
        t->slots = memory_grow(t->slots, (int64_t)t->slot_count, sizeof *t->slots, "a table of pairs");
        place_pairs(t);
    }
    Pair *pair = &t->pairs[t->pair_count++];
    *pair = (Pair){.key = key, .word_capacity = FEW};
    *slot_of(t, key) = (uint32_t)t->pair_count;
    return pair;
}

static uint32_t *words_of(Pair *pair) { return pair->word_capacity == FEW ? pair->words.few : pair->words.many; }

static void free_words(Pair *pair) {
    if (pair->word_capacity > FEW) free(pair->words.many);
}

// A word once, where it is added several times in a row.
static void add_word(Pair *pair, uint32_t word) {
    uint32_t *words = words_of(pair), count = pair->word_count;
    if (count > 0 && words[count - 1] == word) return;
    if (count == pair->word_capacity) {
        uint32_t capacity = 2 * count;
        uint32_t *many = memory_grow(count == FEW ? NULL : words, capacity, sizeof *many, "words of a pair");
        if (count == FEW) memcpy(many, words, sizeof pair->words.few);
        pair->words.many = words = many;
        pair->word_capacity = capacity;
    }
    words[pair->word_count++] = word;
}

// ---- the heap ----

static bool is_above(HeapItem a, HeapItem b) { return a.count != b.count ? a.count > b.count : a.key < b.key; }

static void sift_down(Trainer *t, int64_t at) {
    HeapItem item = t->heap[at];
    for (int64_t child; (child = 2 * at + 1) < t->heap_count; at = child) {
        if (child + 1 < t->heap_count && is_above(t->heap[child + 1], t->heap[child])) child++;
        if (is_above(item, t->heap[child])) break;
        t->heap[at] = t->heap[child];
    }
    t->heap[at] = item;
}

static void heap_add(Trainer *t, HeapItem item) {
    t->heap = memory_room(t->heap, t->heap_count + 1, &t->heap_capacity, sizeof *t->heap, "pairs by count");
    int64_t at = t->heap_count++;
    for (; at > 0 && is_above(item, t->heap[(at - 1) / 2]); at = (at - 1) / 2) t->heap[at] = t->heap[(at - 1) / 2];
    t->heap[at] = item;
}

static HeapItem heap_take(Trainer *t) {
    HeapItem top = t->heap[0];
    t->heap[0] = t->heap[--t->heap_count];
    if (t->heap_count > 0) sift_down(t, 0);
    return top;
}

// Drops the pairs that are gone.
static void sweep(Trainer *t) {
    int64_t kept = 0;
    for (int64_t i = 0; i < t->pair_count; i++) {
        if (t->pairs[i].count > 0) t->pairs[kept++] = t->pairs[i];
        else free_words(&t->pairs[i]);
    }
    t->pair_count = kept;
    t->sweep_at = 2 * kept + SWEEP_LEAST;
    place_pairs(t);
    kept = 0;
    for (int64_t i = 0; i < t->heap_count; i++)
        if (find_pair(t, t->heap[i].key)) t->heap[kept++] = t->heap[i];
    t->heap_count = kept;
    for (int64_t i = kept / 2 - 1; i >= 0; i--) sift_down(t, i);
}

// ---- merging ----

static void lose(Trainer *t, int32_t left, int32_t right, int64_t count) {
    Pair *pair = find_pair(t, key_of(left, right));
    REQUIRE(pair, "pair %d %d is not known", left, right);
    pair->count -= count;
}

static void gain(Trainer *t, int32_t left, int32_t right, uint32_t word) {
    uint64_t key = key_of(left, right);
    Pair *pair = find_pair(t, key);
    if (!pair) pair = add_pair(t, key);
    pair->count += t->words[word].count;
    add_word(pair, word);
}

static void merge_in_word(Trainer *t, uint32_t word, const int32_t pair[2], int32_t id) {
    PieceCount *item = &t->words[word];
    int32_t *ids = t->ids + item->at;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < item->size; i++) {
        bool found = ids[i] == pair[0] && i + 1 < item->size && ids[i + 1] == pair[1];
        if (found && kept > 0) {
            lose(t, ids[kept - 1], pair[0], item->count);
            gain(t, ids[kept - 1], id, word);
        }
        if (found && ++i + 1 < item->size) {
            lose(t, pair[1], ids[i + 1], item->count);
            gain(t, id, ids[i + 1], word);
        }
        ids[kept++] = found ? id : ids[i];
    }
    item->size = kept;
}

// Merges the pair that occurs most. False when there is none.
static bool merge_next(Trainer *t, int64_t number) {
    Pair *pair = NULL;
    if (t->pair_count >= t->sweep_at) sweep(t); // not later: the merged pair is still looked for where it overlaps
    for (HeapItem top; !pair;) {
        if (t->heap_count == 0) return false;
        top = heap_take(t);
        pair = find_pair(t, top.key);
        if (!pair || pair->count == top.count) continue;
        if (pair->count > 0) heap_add(t, (HeapItem){pair->count, top.key});
        pair = NULL;
    }
    Pair merged = *pair;
    *pair = (Pair){.key = merged.key, .word_capacity = FEW}; // swept later
    int32_t *sides = t->merges[number], id = (int32_t)(BYTES + number);
    sides[0] = (int32_t)(merged.key >> 32);
    sides[1] = (int32_t)merged.key;
    int64_t first = t->pair_count;
    const uint32_t *words = words_of(&merged);
    for (uint32_t i = 0; i < merged.word_count; i++) merge_in_word(t, words[i], sides, id);
    free_words(&merged);
    for (int64_t i = first; i < t->pair_count; i++)
        if (t->pairs[i].count > 0) heap_add(t, (HeapItem){t->pairs[i].count, t->pairs[i].key});
    return true;
}

// ---- beginning ----

// Bytes to ids; the bytes and the table of the pieces are given back.
static void take_words(Trainer *t, PieceCounts *pieces) {
    size_t size = pieces->bytes.size;
    t->ids = memory_grow(NULL, (int64_t)size, sizeof *t->ids, "bytes of words");
    for (size_t i = 0; i < size; i++) t->ids[i] = byte_level_place((unsigned char)pieces->bytes.data[i]);
    t->words = pieces->items;
    pieces->items = NULL;
}

// Twice over all words: how many each pair of bytes is in, so that each list is made once; then the lists.
static void count_pairs(Trainer *t, int64_t word_count) {
    // Of each pair: how many, and the last one + 1.
    uint32_t(*words)[2] = memory_take(BYTES * BYTES, sizeof *words, "pairs of bytes");
    for (int64_t w = 0; w < word_count; w++)
        for (uint32_t i = 1; i < t->words[w].size; i++) {
            const int32_t *ids = t->ids + t->words[w].at + i - 1;
            uint32_t *known = words[ids[0] * BYTES + ids[1]];
            known[0] += known[1] != w + 1;
            known[1] = (uint32_t)(w + 1);
        }
    for (int32_t p = 0; p < BYTES * BYTES; p++) {
        if (words[p][0] == 0) continue;
        Pair *pair = add_pair(t, key_of(p / BYTES, p % BYTES));
        if (words[p][0] <= FEW) continue;
        pair->word_capacity = words[p][0];
        pair->words.many = memory_grow(NULL, words[p][0], sizeof *pair->words.many, "words of a pair");
    }
    free(words);
    for (int64_t w = 0; w < word_count; w++)
        for (uint32_t i = 1; i < t->words[w].size; i++) {
            const int32_t *ids = t->ids + t->words[w].at + i - 1;
            gain(t, ids[0], ids[1], (uint32_t)w);
        }
    for (int64_t i = 0; i < t->pair_count; i++) heap_add(t, (HeapItem){t->pairs[i].count, t->pairs[i].key});
}

static void close_trainer(Trainer *t) {
    for (int64_t i = 0; i < t->pair_count; i++) free_words(&t->pairs[i]);
    free(t->pairs);
    free(t->slots);
    free(t->heap);
    free(t->words);
    free(t->ids);
    free(t->merges);
}

Tokenizer *bpe_train(PieceCounts *pieces, int64_t vocab, bool quiet) {
    int64_t wanted = vocab - BYTES - 1, count = 0, word_count = pieces->count;
    REQUIRE(wanted >= 0 && vocab <= VOCAB_LIMIT, "a vocabulary of %ld", vocab);
    Trainer trainer = {.sweep_at = SWEEP_LEAST};
    trainer.merges = memory_grow(NULL, wanted, sizeof *trainer.merges, "merges");
    Progress progress = progress_begin("merging ", wanted, quiet);
    take_words(&trainer, pieces);
    pieces_close(pieces);
    count_pairs(&trainer, word_count);
    while (count < wanted && merge_next(&trainer, count)) progress_show(&progress, ++count, -1);
    progress_end(&progress);
    Tokenizer *tokenizer = tokenizer_from_merges(trainer.merges, count);
    close_trainer(&trainer);
    return tokenizer;
}

Tokenizer *tokenizer_from_merges(const int32_t (*pairs)[2], int64_t count) {
    Tokenizer *tokenizer = memory_take(1, sizeof *tokenizer, "the tokenizer");
    char bytes[BYTES];
    for (int byte = 0; byte < BYTES; byte++) bytes[byte_level_place((unsigned char)byte)] = (char)byte;
    for (int place = 0; place < BYTES; place++) token_table_add(&tokenizer->tokens, &bytes[place], 1);
    Text joined = {0};
    for (int64_t i = 0; i < count; i++) {
        text_clear(&joined);
        tokenizer_decode(tokenizer, pairs[i], 2, &joined);
        token_table_add(&tokenizer->tokens, joined.data, joined.size);
        tokenizer_add_merge(tokenizer, (Merge){pairs[i][0], pairs[i][1], (int32_t)(BYTES + i)});
    }
    text_close(&joined);
    tokenizer->separator = tokenizer_add_named(tokenizer, SEPARATOR_TEXT, ADDED_SPECIAL);
    Errors errors = {0};
    REQUIRE(tokenizer_complete(tokenizer, &errors), "%s", text_string(&errors.text));
    return tokenizer;
}
