// Tokenizers: bytes to ids and back. Kinds are rows in tokenizer.c: byte (256 bytes and a separator), gpt2.
#pragma once

#include "runtime/error.h"

typedef struct Tokenizer Tokenizer;
enum { GPT2_VOCAB = 50257 }; // tokens of "gpt2"

typedef struct {
    int32_t *items;
    int64_t count, capacity;
} TokenList;
void token_list_close(TokenList *list);

// `which`: "byte", "gpt2" (merges from $THALWEG_DATA/gpt2, default ~/.cache/thalweg/gpt2), or the path of a
// tokenizer.json, or of the directory that it stands in: byte-level BPE with the pre-split of GPT-2, Llama 3 or Qwen
// (docs/formats.md says what is read). Messages name the file and, for gpt2, the command that fetches it.
Tokenizer *tokenizer_open(const char *which, Errors *errors);
void tokenizer_close(Tokenizer *tokenizer);
// The same tokenizer for one more thread; to be closed before the one it comes from.
Tokenizer *tokenizer_share(const Tokenizer *tokenizer);

const char *tokenizer_name(const Tokenizer *tokenizer);  // "byte", "gpt2"; "bpe": a tokenizer.json of neither
int64_t tokenizer_vocab(const Tokenizer *tokenizer);     // ids are below
int32_t tokenizer_separator(const Tokenizer *tokenizer); // the id that ends a document
const char *tokenizer_hash(const Tokenizer *tokenizer);  // 32 hex digits over what decides the ids
const char *tokenizer_path(const Tokenizer *tokenizer);  // of the tokenizer.json that it was read from; NULL: none

// Appends the ids of UTF-8 text. Special tokens in it are ordinary text, and none is put around it; added tokens that
// are not special are themselves. Bytes that are not UTF-8 become U+FFFD and are counted in the result; for byte every
// byte is a token. A tokenizer has scratch: one thread at a time.
int64_t tokenizer_encode(const Tokenizer *tokenizer, const char *bytes, size_t size, TokenList *out);
// More ids than any tokenizer makes of a text, 1 at least.
int64_t tokenizer_most_tokens(const char *text);
// How many leading bytes can be encoded on their own, about `target` of them, so that pieces encode to what the whole
// does: the text is cut only where the pre-split cuts too, whatever stands around, and in no added token. That is right
// before whitespace that follows something else; for Llama 3 and Qwen before a space or tab that does, and after the
// end of a line, before something else. (A run of 64 MiB without such a place is cut between characters.)
size_t tokenizer_piece(const Tokenizer *tokenizer, const char *bytes, size_t size, size_t target);

// The separator, other special tokens, ids that no token has and those from the vocabulary's size on (a model may have
// more) decode to nothing and have 0 bytes.
void tokenizer_decode(const Tokenizer *tokenizer, const int32_t *ids, int64_t count, Text *out);
int64_t tokenizer_token_bytes(const Tokenizer *tokenizer, int32_t id);

// A Hugging Face tokenizer.json (byte-level BPE) that tokenizer_open reads back to the same tokenizer.
void tokenizer_json(const Tokenizer *tokenizer, Text *out);
// tokenizer_config.json to go beside it.
void tokenizer_config_json(const Tokenizer *tokenizer, int64_t context, Text *out);
// vocab.json and merges.txt, from which older readers make GPT-2's class: whether they say all there is, and the two.
bool tokenizer_has_merges_txt(const Tokenizer *tokenizer);
void tokenizer_vocab_json(const Tokenizer *tokenizer, Text *out);
void tokenizer_merges_txt(const Tokenizer *tokenizer, Text *out);
