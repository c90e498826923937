// Inside of the tokenizers, for data/tokenizer*.c and data/bpe.c alone: the strings of all tokens, merges, and the
// byte-level alphabet that GPT-2 writes token strings in.
#pragma once

#include "data/presplit.h"
#include "data/tokenizer.h"

#define SEPARATOR_TEXT "<|endoftext|>"
enum { TOKEN_BYTES = 1024, VOCAB_LIMIT = 1 << 20 }; // of a token as it is written; of a vocabulary and of its merges

// Token strings by id, and ids by string. Ids are given out in order of adding.
typedef struct {
    Text bytes;    // of all tokens, one after another
    int64_t *ends; // (count) where each ends in `bytes`
    int64_t count, capacity;
    int32_t *slots; // hash table of ids, -1: empty
    int64_t slot_count;
} TokenTable;

void token_table_add(TokenTable *table, const char *bytes, size_t size);
int32_t token_table_find(const TokenTable *table, const char *bytes, size_t size); // -1: none; the latest of equals
const char *token_table_bytes(const TokenTable *table, int32_t id, size_t *size);
void token_table_close(TokenTable *table);

// The pair (left, right) becomes `id`; a merge's rank is its place in the list.
typedef struct {
    int32_t left, right, id;
} Merge;

// A token that no text is encoded to, such as the separator: it has a name and no bytes.
typedef struct {
    int32_t id;
    char *name;
    unsigned flags; // those of tokenizer.json, in the order of tokenizer_json.c
} AddedToken;
enum { ADDED_SPECIAL = 1 << 4 };

typedef struct Bpe Bpe;

struct Tokenizer {
    const char *name;
    char *path; // of a tokenizer.json; NULL: none
    TokenTable tokens; // added ones have no bytes
    AddedToken *added; // by id
    int64_t added_count, added_capacity;
    int32_t separator;
    int32_t byte_ids[256]; // the token of each single byte
    Merge *merges;
    int64_t merge_count, merge_capacity;
    char hash[33];
    PresplitKind presplit;
    Bpe *bpe;    // NULL for byte
    bool shared; // everything but `bpe` belongs to another one
};

void tokenizer_add_merge(Tokenizer *tokenizer, Merge merge);
// The next id gets a name and no bytes. Returns that id.
int32_t tokenizer_add_named(Tokenizer *tokenizer, const char *name, unsigned flags);

// The last step of opening: takes tokens, separator and merges, derives the rest. False when a byte has no token.
bool tokenizer_complete(Tokenizer *tokenizer, Errors *errors);

Tokenizer *tokenizer_open_byte(Errors *errors);
Tokenizer *tokenizer_open_gpt2(Errors *errors);
Tokenizer *tokenizer_open_json(const char *path, Errors *errors);

// Room for `more` ids behind the list.
void token_list_reserve(TokenList *list, size_t more);

// Byte-level BPE over valid UTF-8. Keeps scratch and a cache: one thread at a time.
Bpe *bpe_open(const Tokenizer *tokenizer);  // borrows merges and byte_ids
Bpe *bpe_share(const Tokenizer *tokenizer); // borrows all of its tables; scratch of its own
void bpe_close(Bpe *bpe);
void bpe_encode(Bpe *bpe, const char *text, size_t size, TokenList *out);

// The byte-level alphabet: each byte is one printable code point, and has one place in GPT-2's order of ids.
int byte_level_place(unsigned char byte); // 0..255
void byte_level_write(Text *out, const char *bytes, size_t size);
bool byte_level_read(Text *out, const char *text, size_t size); // false at a code point outside the alphabet
