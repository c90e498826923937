#include "tests/support_tokenizer.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/file.h"
#include "tests/support.h"

const char *test_tokenizer_folder(void) {
    static char path[4096];
    if (!path[0]) snprintf(path, sizeof path, "%s", test_folder(program_invocation_short_name));
    return path;
}

void test_write_file(char path[4096], const char *name, const char *bytes, size_t size) {
    path_join(path, test_tokenizer_folder(), name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

Tokenizer *test_tokenizer_open(const char *which) {
    Errors errors = {0};
    Tokenizer *tokenizer = tokenizer_open(which, &errors);
    if (!tokenizer) fail_msg("%s", text_string(&errors.text));
    return tokenizer;
}

void test_tokenizer_error(const char *which, int exit_code, const char *message) {
    Errors errors = {0};
    assert_null(tokenizer_open(which, &errors));
    if (!strstr(text_string(&errors.text), message))
        fail_msg("\"%s\" is not in: %s", message, text_string(&errors.text));
    assert_int_equal(errors.exit_code, exit_code);
    errors_close(&errors);
}

void test_tokenizer_text(const Tokenizer *tokenizer, const char *bytes, size_t size) {
    TokenList ids = {0};
    Text text = {0};
    assert_int_equal(tokenizer_encode(tokenizer, bytes, size, &ids), 0);
    tokenizer_decode(tokenizer, ids.items, ids.count, &text);
    assert_int_equal(text.size, size);
    if (size) assert_memory_equal(text.data, bytes, size);
    int64_t sum = 0;
    for (int64_t i = 0; i < ids.count; i++) sum += tokenizer_token_bytes(tokenizer, ids.items[i]);
    assert_int_equal(sum, size);
    token_list_close(&ids);
    text_close(&text);
}

void test_tokenizer_pieces(const Tokenizer *tokenizer, const char *text, size_t size, size_t target) {
    TokenList whole = {0}, pieces = {0};
    int64_t whole_bad = tokenizer_encode(tokenizer, text, size, &whole), bad = 0;
    for (size_t begin = 0; begin < size;) {
        size_t piece = tokenizer_piece(tokenizer, text + begin, size - begin, target);
        assert_true(piece > 0 && piece <= size - begin);
        bad += tokenizer_encode(tokenizer, text + begin, piece, &pieces);
        begin += piece;
    }
    assert_int_equal(bad, whole_bad);
    assert_int_equal(pieces.count, whole.count);
    assert_memory_equal(pieces.items, whole.items, (size_t)whole.count * sizeof *whole.items);
    token_list_close(&whole);
    token_list_close(&pieces);
}

void test_tokenizer_json(const Tokenizer *tokenizer) {
    Text json = {0}, again = {0};
    char path[4096];
    tokenizer_json(tokenizer, &json);
    test_write_file(path, "tokenizer.json", json.data, json.size);
    const char *places[] = {path, test_tokenizer_folder()}; // the file, and its directory
    for (int i = 0; i < 2; i++) {
        Tokenizer *copy = test_tokenizer_open(places[i]);
        assert_string_equal(tokenizer_hash(copy), tokenizer_hash(tokenizer));
        assert_string_equal(tokenizer_name(copy), tokenizer_name(tokenizer));
        assert_int_equal(tokenizer_vocab(copy), tokenizer_vocab(tokenizer));
        assert_int_equal(tokenizer_separator(copy), tokenizer_separator(tokenizer));
        text_clear(&again);
        tokenizer_json(copy, &again);
        assert_string_equal(text_string(&again), text_string(&json));
        tokenizer_close(copy);
    }
    text_close(&json);
    text_close(&again);
}
