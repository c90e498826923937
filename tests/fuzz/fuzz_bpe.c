// Any bytes, encoded and decoded by every kind of tokenizer, come back with U+FFFD for each byte that is in no valid
// sequence of UTF-8, normalised where the tokenizer does that; cut where tokenizer_piece says, they encode to the same.
// The pre-split by hand is that of PCRE2.
#include "data/tokenizer_rows.h"
#include "tests/fuzz/fuzz.h"

enum { PIECE = 16, KINDS = 4 };

static int64_t repair(Text *out, const char *bytes, size_t size) {
    int64_t replaced = 0;
    size_t at = 0, good = 0;
    for (; !text_is_utf8(bytes + at, size - at, &good); at += good + 1, replaced++) {
        text_append(out, bytes + at, good);
        text_add(out, REPLACEMENT);
    }
    text_append(out, bytes + at, size - at);
    return replaced;
}

static void normalise(Text *text) {
    Text out = {0};
    text_nfc(&out, text_string(text), text->size);
    text_close(text);
    *text = out;
}

static void check_presplit(Presplit *presplit, const Text *text) {
    for (size_t at = 0, end; at < text->size; at = end) {
        end = presplit_next(presplit, text->data, text->size, at);
        HOLDS(end == presplit_match(presplit, text->data, text->size, at));
    }
}

static void check(const Tokenizer *tokenizer, Presplit *presplit, const char *text, size_t size) {
    TokenList whole = {0}, pieces = {0};
    Text expected = {0}, decoded = {0};
    HOLDS(tokenizer_encode(tokenizer, text, size, &whole) == repair(&expected, text, size));
    check_presplit(presplit, &expected);
    tokenizer_decode(tokenizer, whole.items, whole.count, &decoded);
    if (tokenizer->nfc) {
        normalise(&expected);
        normalise(&decoded);
    }
    HOLDS(decoded.size == expected.size && memcmp(text_string(&decoded), text_string(&expected), expected.size) == 0);
    for (size_t at = 0; at < size;) {
        size_t piece = tokenizer_piece(tokenizer, text + at, size - at, PIECE);
        HOLDS(piece > 0 && piece <= size - at);
        tokenizer_encode(tokenizer, text + at, piece, &pieces);
        at += piece;
    }
    HOLDS(whole.count == pieces.count);
    for (int64_t i = 0; i < whole.count; i++) HOLDS(whole.items[i] == pieces.items[i]);
    token_list_close(&whole);
    token_list_close(&pieces);
    text_close(&expected);
    text_close(&decoded);
}

TARGET {
    static const char *const paths[KINDS] = {"tests/fuzz/tokenizer.json", "tests/fixtures/tokenizers/gpt2.json",
                                             "tests/fixtures/tokenizers/llama3.json",
                                             "tests/fixtures/tokenizers/qwen3.json"};
    static Tokenizer *tokenizers[KINDS];
    static Presplit *presplits[KINDS];
    Errors errors = {0};
    for (int k = 0; k < KINDS; k++) {
        if (!tokenizers[k]) {
            tokenizers[k] = tokenizer_open(paths[k], &errors);
            HOLDS(tokenizers[k]);
            presplits[k] = presplit_open(tokenizers[k]->presplit);
        }
        check(tokenizers[k], presplits[k], (const char *)bytes, size);
    }
    return 0;
}
