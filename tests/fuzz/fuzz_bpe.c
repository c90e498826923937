// Any bytes, encoded and decoded, come back with U+FFFD for each byte that is in no valid sequence of UTF-8; cut where
// tokenizer_piece says, they encode to the same.
#include "data/tokenizer.h"
#include "tests/fuzz/fuzz.h"

enum { PIECE = 16 };

static int64_t repair(Text *out, const char *bytes, size_t size) {
    int64_t replaced = 0;
    size_t at = 0, good = 0;
    for (; !text_is_utf8(bytes + at, size - at, &good); at += good + 1, replaced++) {
        text_append(out, bytes + at, good);
        text_add(out, "\xEF\xBF\xBD");
    }
    text_append(out, bytes + at, size - at);
    return replaced;
}

TARGET {
    static Tokenizer *tokenizer;
    Errors errors = {0};
    if (!tokenizer) tokenizer = tokenizer_open("tests/fuzz/tokenizer.json", &errors);
    HOLDS(tokenizer);
    const char *text = (const char *)bytes;
    TokenList whole = {0}, pieces = {0};
    Text expected = {0}, decoded = {0};
    HOLDS(tokenizer_encode(tokenizer, text, size, &whole) == repair(&expected, text, size));
    tokenizer_decode(tokenizer, whole.items, whole.count, &decoded);
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
    return 0;
}
