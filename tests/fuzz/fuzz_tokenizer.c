// A tokenizer.json: refused, or a tokenizer that encodes pieces like the whole and is the same when it is written and
// read again.
#include "data/tokenizer.h"
#include "tests/fuzz/fuzz.h"

static void round_trip(const Tokenizer *tokenizer, const char *text, size_t size) {
    TokenList ids = {0};
    Text decoded = {0};
    int64_t length = 0;
    HOLDS(tokenizer_encode(tokenizer, text, size, &ids) == 0);
    tokenizer_decode(tokenizer, ids.items, ids.count, &decoded);
    for (int64_t i = 0; i < ids.count; i++) length += tokenizer_token_bytes(tokenizer, ids.items[i]);
    TokenList pieces = {0};
    for (size_t at = 0, piece; at < size; at += piece) {
        piece = tokenizer_piece(tokenizer, text + at, size - at, 4);
        tokenizer_encode(tokenizer, text + at, piece, &pieces);
    }
    HOLDS(pieces.count == ids.count && memcmp(pieces.items, ids.items, (size_t)ids.count * sizeof *ids.items) == 0);
    token_list_close(&pieces);
    HOLDS(decoded.size == size && length == (int64_t)size && memcmp(decoded.data, text, size) == 0);
    token_list_close(&ids);
    text_close(&decoded);
}

TARGET {
    static const char text[] = "Aa bb  the\tthere's 100\n<t> x !\n\n<t>\u00E9y "
                               "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa "
                               "\xC3\xA9\n";
    Errors errors = {0};
    Tokenizer *tokenizer = tokenizer_open(fuzz_file(0, bytes, size), &errors);
    fuzz_errors(&errors, !tokenizer);
    if (!tokenizer) return 0;
    round_trip(tokenizer, text, sizeof text - 1);
    Text written = {0};
    tokenizer_json(tokenizer, &written);
    Tokenizer *again = tokenizer_open(fuzz_file(1, written.data, written.size), &errors);
    HOLDS(again && strcmp(tokenizer_hash(tokenizer), tokenizer_hash(again)) == 0);
    text_clear(&written);
    tokenizer_config_json(tokenizer, 1024, &written);
    tokenizer_vocab_json(tokenizer, &written);
    tokenizer_merges_txt(tokenizer, &written);
    text_close(&written);
    tokenizer_close(again);
    tokenizer_close(tokenizer);
    return 0;
}
