// Inside of the tokenizers, for data/tokenizer*.c, added_tokens.c, nfc.c and bpe*.c alone: the strings of all tokens,
// merges, and the byte-level alphabet that GPT-2 writes token strings in.
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

// A token with a name of its own and no bytes in the table: special, such as the separator, and then no text is encoded
// to it; or not, and then its name in a text is that token.
typedef struct {
    int32_t id;
    char *name;
    unsigned flags;
} AddedToken;
// Those of tokenizer.json, in the order of tokenizer_flags.
enum { ADDED_WORD = 1, ADDED_LSTRIP = 2, ADDED_RSTRIP = 4, ADDED_NORMALIZED = 8, ADDED_SPECIAL = 16 };

// Added tokens are looked for twice: in the text as it is, and where nothing was found, normalised.
enum { ADDED_RAW, ADDED_NORMALISED, ADDED_STAGES };
typedef struct {
    const AddedToken **tokens; // by name; the special ones among them, too, if one is not
    int64_t count;
    size_t longest;   // name, in bytes
    bool begins[256]; // whether a name begins with the byte
} AddedMatcher;

typedef struct Bpe Bpe;

struct Tokenizer {
    const char *name;
    char *path; // of a tokenizer.json; NULL: none
    TokenTable tokens; // added ones have no bytes
    AddedToken *added; // by id; ids with neither bytes nor a name are no token
    int64_t added_count, added_capacity;
    int32_t separator;
    int32_t byte_ids[256]; // the token of each single byte
    Merge *merges;
    int64_t merge_count, merge_capacity;
    char hash[33];
    PresplitKind presplit;
    bool nfc;           // text is normalised
    bool ignore_merges; // a piece that is a token is that token, whatever the merges make of it
    AddedMatcher matchers[ADDED_STAGES];
    Bpe *bpe;    // NULL for byte
    bool shared; // everything but `bpe` belongs to another one
};

void tokenizer_add_merge(Tokenizer *tokenizer, Merge merge);
// The next id gets a name and no bytes. Returns that id.
int32_t tokenizer_add_named(Tokenizer *tokenizer, const char *name, unsigned flags);

enum { TOKENIZER_FLAGS = 5 };
extern const char *const tokenizer_flags[TOKENIZER_FLAGS]; // names of an added token's flags in tokenizer.json

const AddedToken *tokenizer_added(const Tokenizer *tokenizer, int32_t id); // NULL: none

// The last step of opening: takes tokens, separator and merges, derives the rest. False when a byte has no token.
bool tokenizer_complete(Tokenizer *tokenizer, Errors *errors);

Tokenizer *tokenizer_open_byte(Errors *errors);
Tokenizer *tokenizer_open_gpt2(Errors *errors);
Tokenizer *tokenizer_open_json(const char *path, Errors *errors);

// Room for `more` ids behind the list.
void token_list_reserve(TokenList *list, size_t more);

// `normalized` is ADDED_NORMALIZED or 0. A matcher of special tokens alone stays empty.
void added_matcher_open(AddedMatcher *matcher, const Tokenizer *tokenizer, unsigned normalized);
// The first token from `*at` on, and where it begins; NULL: none.
const AddedToken *added_matcher_find(const AddedMatcher *matcher, const char *text, size_t size, size_t *at);
// Whether a token begins before `at` and ends behind it.
bool added_matcher_spans(const AddedMatcher *matcher, const char *text, size_t size, size_t at);

// Unicode's normalisation form C of valid UTF-8, appended; and whether text is in it by a glance at its bytes.
void text_nfc(Text *out, const char *text, size_t size);
bool text_is_nfc_plainly(const char *text, size_t size);

// Byte-level BPE over valid UTF-8. Keeps scratch and a cache: one thread at a time.
Bpe *bpe_open(const Tokenizer *tokenizer);  // borrows merges and byte_ids
Bpe *bpe_share(const Tokenizer *tokenizer); // borrows all of its tables; scratch of its own
void bpe_close(Bpe *bpe);
void bpe_encode(Bpe *bpe, const char *text, size_t size, TokenList *out);

// The byte-level alphabet: each byte is one printable code point, and has one place in GPT-2's order of ids.
int byte_level_place(unsigned char byte); // 0..255
void byte_level_write(Text *out, const char *bytes, size_t size);
bool byte_level_read(Text *out, const char *text, size_t size); // false at a code point outside the alphabet
