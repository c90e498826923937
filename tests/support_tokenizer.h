// Tokenizers in tests.
#pragma once

#include "data/tokenizer.h"

const char *test_tokenizer_folder(void); // for files of this test
void test_write_file(char path[4096], const char *name, const char *bytes, size_t size); // there; `path` is filled

Tokenizer *test_tokenizer_open(const char *which); // or the test fails
// It is not opened, and the message holds this.
void test_tokenizer_error(const char *which, int exit_code, const char *message);

// Text comes back from its ids, and tokenizer_token_bytes sums to its size.
void test_tokenizer_text(const Tokenizer *tokenizer, const char *bytes, size_t size);
// Cut by tokenizer_piece, it encodes to what the whole does.
void test_tokenizer_pieces(const Tokenizer *tokenizer, const char *text, size_t size, size_t target);
// tokenizer.json reads back as the same tokenizer, which writes the same file.
void test_tokenizer_json(const Tokenizer *tokenizer);
