// Tokenizers: what all kinds share, and the byte kind. Every kind is a table of byte strings, added tokens without
// bytes of which one is the separator, and a ranked list of merges (none for byte).
#include "data/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "data/tokenizer_rows.h"
#include "runtime/file.h"
#include "runtime/memory.h"

// The kinds. The hash is what tokenizer_hash answers for that kind and nothing else: a tokenizer.json is known by it.
static const struct {
    const char *name;
    Tokenizer *(*open)(Errors *errors);
    const char *hash;
} kinds[] = {
    {"byte", tokenizer_open_byte, "43c3b0d693c5f7264534d1ede71d9e44"},
    {"gpt2", tokenizer_open_gpt2, "eeaedd68d29b5ad984a2d122a5c7aaa8"},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

// ---- lists and tables ----

void token_list_reserve(TokenList *list, size_t more) {
    int64_t count = list->count + (int64_t)more;
    list->items = memory_room(list->items, count, &list->capacity, sizeof *list->items, "a list of tokens");
}

void token_list_close(TokenList *list) {
    free(list->items);
    *list = (TokenList){0};
}

static int64_t slot_of(const TokenTable *table, const char *bytes, size_t size) {
    int64_t at = (int64_t)(XXH3_64bits(bytes, size) % (uint64_t)table->slot_count);
    for (; table->slots[at] >= 0; at = (at + 1) % table->slot_count) {
        size_t other_size;
        const char *other = token_table_bytes(table, table->slots[at], &other_size);
        if (other_size == size && memcmp(other, bytes, size) == 0) break;
    }
    return at;
}

static void table_grow(TokenTable *table) {
    int64_t capacity = table->capacity ? 2 * table->capacity : 512;
    table->ends = memory_grow(table->ends, capacity, sizeof *table->ends, "tokens");
    free(table->slots);
    table->slot_count = 2 * capacity + 1;
    table->slots = memory_grow(NULL, table->slot_count, sizeof *table->slots, "a table of tokens");
    table->capacity = capacity;
    for (int64_t i = 0; i < table->slot_count; i++) table->slots[i] = -1;
    for (int64_t id = 0; id < table->count; id++) {
        size_t size;
        const char *bytes = token_table_bytes(table, (int32_t)id, &size);
        table->slots[slot_of(table, bytes, size)] = (int32_t)id;
    }
}

void token_table_add(TokenTable *table, const char *bytes, size_t size) {
    if (table->count == table->capacity) table_grow(table);
    text_append(&table->bytes, bytes, size);
    table->ends[table->count++] = (int64_t)table->bytes.size;
    table->slots[slot_of(table, bytes, size)] = (int32_t)(table->count - 1);
}

int32_t token_table_find(const TokenTable *table, const char *bytes, size_t size) {
    return table->count == 0 ? -1 : table->slots[slot_of(table, bytes, size)];
}

const char *token_table_bytes(const TokenTable *table, int32_t id, size_t *size) {
    int64_t begin = id > 0 ? table->ends[id - 1] : 0;
    *size = (size_t)(table->ends[id] - begin);
    return text_string(&table->bytes) + begin;
}

void token_table_close(TokenTable *table) {
    text_close(&table->bytes);
    free(table->ends);
    free(table->slots);
    *table = (TokenTable){0};
}

void tokenizer_add_merge(Tokenizer *tokenizer, Merge merge) {
    tokenizer->merges = memory_room(tokenizer->merges, tokenizer->merge_count + 1, &tokenizer->merge_capacity,
                                    sizeof merge, "merges");
    tokenizer->merges[tokenizer->merge_count++] = merge;
}

int32_t tokenizer_add_named(Tokenizer *tokenizer, const char *name, unsigned flags) {
    AddedToken token = {(int32_t)tokenizer->tokens.count, memory_string(name), flags};
    tokenizer->added = memory_room(tokenizer->added, tokenizer->added_count + 1, &tokenizer->added_capacity,
                                   sizeof token, "added tokens");
    tokenizer->added[tokenizer->added_count++] = token;
    token_table_add(&tokenizer->tokens, "", 0);
    return token.id;
}

static int compare_added(const void *a, const void *b) {
    const AddedToken *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

const AddedToken *tokenizer_added(const Tokenizer *tokenizer, int32_t id) {
    AddedToken wanted = {.id = id};
    if (tokenizer->added_count == 0) return NULL;
    return bsearch(&wanted, tokenizer->added, (size_t)tokenizer->added_count, sizeof wanted, compare_added);
}

// ---- the byte-level alphabet ----

// Printable Latin-1 bytes stand for themselves and come first; the others are the code points from 256.
static const struct {
    int first, last; // bytes
    int code, place; // of the first
} alphabet[] = {
    {'!', '~', '!', 0},       {0xA1, 0xAC, 0xA1, 94},  {0xAE, 0xFF, 0xAE, 106},
    {0x00, 0x20, 0x100, 188}, {0x7F, 0xA0, 0x121, 221}, {0xAD, 0xAD, 0x143, 255},
};
enum { ALPHABET_RANGES = sizeof alphabet / sizeof alphabet[0] };

static int range_of_byte(int byte) {
    int i = 0;
    while (byte < alphabet[i].first || byte > alphabet[i].last) i++;
    return i;
}

int byte_level_place(unsigned char byte) {
    int i = range_of_byte(byte);
    return alphabet[i].place + byte - alphabet[i].first;
}

void byte_level_write(Text *out, const char *bytes, size_t size) {
    for (size_t at = 0; at < size; at++) {
        int byte = (unsigned char)bytes[at], i = range_of_byte(byte);
        int code = alphabet[i].code + byte - alphabet[i].first;
        char utf8[2] = {(char)(0xC0 | code >> 6), (char)(0x80 | (code & 0x3F))};
        if (code < 0x80) utf8[0] = (char)code;
        text_append(out, utf8, code < 0x80 ? 1 : 2);
    }
}

static bool byte_of_code(int code, char *byte) {
    for (int i = 0; i < ALPHABET_RANGES; i++) {
        int offset = code - alphabet[i].code;
        if (offset < 0 || offset > alphabet[i].last - alphabet[i].first) continue;
        *byte = (char)(alphabet[i].first + offset);
        return true;
    }
    return false;
}

bool byte_level_read(Text *out, const char *text, size_t size) {
    for (size_t at = 0; at < size; at++) {
        int code = (unsigned char)text[at];
        if (code >= 0xE0 || (code >= 0x80 && at + 1 == size)) return false;
        if (code >= 0x80) code = (code & 0x1F) << 6 | ((unsigned char)text[++at] & 0x3F);
        char byte;
        if (!byte_of_code(code, &byte)) return false;
        text_append(out, &byte, 1);
    }
    return true;
}

// ---- opening ----

static void hash_text(XXH3_state_t *state, const char *text) { XXH3_128bits_update(state, text, strlen(text) + 1); }

// What GPT-2's kind has not.
static void hash_extras(XXH3_state_t *state, const Tokenizer *tokenizer) {
    if (tokenizer->nfc) hash_text(state, "NFC");
    if (tokenizer->ignore_merges) {
        hash_text(state, "ignore_merges");
        XXH3_128bits_update(state, tokenizer->tokens.bytes.data, tokenizer->tokens.bytes.size);
        XXH3_128bits_update(state, tokenizer->tokens.ends, (size_t)tokenizer->tokens.count * sizeof(int64_t));
    }
    for (int stage = 0; stage < ADDED_STAGES; stage++)
        for (int64_t i = 0; i < tokenizer->matchers[stage].count; i++) {
            const AddedToken *token = tokenizer->matchers[stage].tokens[i];
            int32_t facts[2] = {token->id, (int32_t)(token->flags & (ADDED_NORMALIZED | ADDED_SPECIAL))};
            XXH3_128bits_update(state, facts, sizeof facts);
            hash_text(state, token->name);
        }
}

// xxh3 over what decides the ids: the pre-split, the single bytes, the merges, the separator, the size, and extras.
static void find_hash(Tokenizer *tokenizer) {
    int64_t sizes[2] = {tokenizer->tokens.count, tokenizer->separator};
    XXH3_state_t *state = XXH3_createState();
    if (!state) DIE(EXIT_INTERNAL, "out of memory for a hash");
    XXH3_128bits_reset(state);
    const char *pattern = presplit_pattern(tokenizer->presplit);
    XXH3_128bits_update(state, pattern, strlen(pattern));
    XXH3_128bits_update(state, tokenizer->byte_ids, sizeof tokenizer->byte_ids);
    if (tokenizer->merge_count > 0)
        XXH3_128bits_update(state, tokenizer->merges, (size_t)tokenizer->merge_count * sizeof *tokenizer->merges);
    XXH3_128bits_update(state, sizes, sizeof sizes);
    hash_extras(state, tokenizer);
    XXH128_hash_t hash = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    snprintf(tokenizer->hash, sizeof tokenizer->hash, "%016lx%016lx", hash.high64, hash.low64);
}

bool tokenizer_complete(Tokenizer *tokenizer, Errors *errors) {
    for (int byte = 0; byte < 256; byte++) {
        char c = (char)byte;
        tokenizer->byte_ids[byte] = token_table_find(&tokenizer->tokens, &c, 1);
        if (tokenizer->byte_ids[byte] < 0)
            return errors_add(errors, EXIT_DATA, "%s: has no token for byte %d; a byte-level tokenizer has all 256",
                              tokenizer->path ? tokenizer->path : "the tokenizer", byte);
    }
    added_matcher_open(&tokenizer->matchers[ADDED_RAW], tokenizer, 0);
    added_matcher_open(&tokenizer->matchers[ADDED_NORMALISED], tokenizer, ADDED_NORMALIZED);
    find_hash(tokenizer);
    tokenizer->name = "bpe";
    for (int i = 0; i < KINDS; i++)
        if (strcmp(tokenizer->hash, kinds[i].hash) == 0) tokenizer->name = kinds[i].name;
    if (strcmp(tokenizer->name, "byte") != 0) tokenizer->bpe = bpe_open(tokenizer);
    return true;
}

Tokenizer *tokenizer_open_byte(Errors *errors) {
    Tokenizer *tokenizer = memory_take(1, sizeof *tokenizer, "the tokenizer");
    for (int byte = 0; byte < 256; byte++) {
        char c = (char)byte;
        token_table_add(&tokenizer->tokens, &c, 1);
    }
    tokenizer->separator = tokenizer_add_named(tokenizer, SEPARATOR_TEXT, ADDED_SPECIAL);
    tokenizer_complete(tokenizer, errors);
    return tokenizer;
}

Tokenizer *tokenizer_open(const char *which, Errors *errors) {
    for (int i = 0; i < KINDS; i++)
        if (strcmp(which, kinds[i].name) == 0) return kinds[i].open(errors);
    if (path_is_directory(which)) {
        char path[4096];
        path_join(path, which, "tokenizer.json");
        return tokenizer_open_json(path, errors);
    }
    if (path_exists(which)) return tokenizer_open_json(which, errors);
    errors_add(errors, EXIT_NO_INPUT, "no tokenizer %s: expected byte, gpt2, or the path of a tokenizer.json", which);
    return NULL;
}

Tokenizer *tokenizer_share(const Tokenizer *tokenizer) {
    Tokenizer *copy = memory_take(1, sizeof *copy, "the tokenizer");
    *copy = *tokenizer;
    copy->shared = true;
    if (copy->bpe) copy->bpe = bpe_share(tokenizer);
    return copy;
}

static void close_tables(Tokenizer *tokenizer) {
    for (int stage = 0; stage < ADDED_STAGES; stage++) free(tokenizer->matchers[stage].tokens);
    for (int64_t i = 0; i < tokenizer->added_count; i++) free(tokenizer->added[i].name);
    free(tokenizer->added);
    free(tokenizer->path);
    free(tokenizer->merges);
    token_table_close(&tokenizer->tokens);
}

void tokenizer_close(Tokenizer *tokenizer) {
    if (!tokenizer) return;
    bpe_close(tokenizer->bpe);
    if (!tokenizer->shared) close_tables(tokenizer);
    free(tokenizer);
}

// ---- facts ----

const char *tokenizer_name(const Tokenizer *tokenizer) { return tokenizer->name; }
int64_t tokenizer_vocab(const Tokenizer *tokenizer) { return tokenizer->tokens.count; }
int32_t tokenizer_separator(const Tokenizer *tokenizer) { return tokenizer->separator; }
const char *tokenizer_hash(const Tokenizer *tokenizer) { return tokenizer->hash; }
const char *tokenizer_path(const Tokenizer *tokenizer) { return tokenizer->path; }
