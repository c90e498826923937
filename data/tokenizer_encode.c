// Text to ids and back. Strings of the world are never trusted to be UTF-8: bytes that are not become U+FFFD before
// anything else sees them. Then added tokens are taken out, what is between them is normalised, and so again for those
// that are looked for in normalised text; the rest is for BPE.
#include <string.h>

#include "data/tokenizer_rows.h"

// ---- decoding ----

// Of any id that a model may give.
static const char *bytes_of(const Tokenizer *tokenizer, int32_t id, size_t *size) {
    REQUIRE(id >= 0, "id %d", id);
    *size = 0;
    if (id >= tokenizer->tokens.count) return "";
    const char *bytes = token_table_bytes(&tokenizer->tokens, id, size);
    const AddedToken *added = *size == 0 ? tokenizer_added(tokenizer, id) : NULL;
    if (!added || added->flags & ADDED_SPECIAL) return bytes;
    *size = strlen(added->name);
    return added->name;
}

int64_t tokenizer_token_bytes(const Tokenizer *tokenizer, int32_t id) {
    size_t size;
    bytes_of(tokenizer, id, &size);
    return (int64_t)size;
}

void tokenizer_decode(const Tokenizer *tokenizer, const int32_t *ids, int64_t count, Text *out) {
    for (int64_t i = 0; i < count; i++) {
        size_t size;
        const char *bytes = bytes_of(tokenizer, ids[i], &size);
        text_append(out, bytes, size);
    }
}

// ---- encoding ----

static void encode_bytes(const char *bytes, size_t size, TokenList *out) {
    token_list_reserve(out, size);
    for (size_t i = 0; i < size; i++) out->items[out->count++] = (unsigned char)bytes[i];
}

static void encode_stage(const Tokenizer *tokenizer, int stage, const char *text, size_t size, TokenList *out);

// What lies between the added tokens of a stage.
static void encode_between(const Tokenizer *tokenizer, int stage, const char *text, size_t size, TokenList *out) {
    if (size == 0) return;
    if (stage == ADDED_RAW && tokenizer->nfc && !text_is_nfc_plainly(text, size)) {
        Text normalised = {0};
        text_nfc(&normalised, text, size);
        encode_stage(tokenizer, stage + 1, normalised.data, normalised.size, out);
        text_close(&normalised);
    } else {
        encode_stage(tokenizer, stage + 1, text, size, out);
    }
}

static void encode_stage(const Tokenizer *tokenizer, int stage, const char *text, size_t size, TokenList *out) {
    if (stage == ADDED_STAGES) {
        bpe_encode(tokenizer->bpe, text, size, out);
        return;
    }
    const AddedMatcher *matcher = &tokenizer->matchers[stage];
    size_t begin = 0, at = 0;
    for (const AddedToken *found; (found = added_matcher_find(matcher, text, size, &at));) {
        size_t end = at + strlen(found->name);
        if (!(found->flags & ADDED_SPECIAL)) {
            encode_between(tokenizer, stage, text + begin, at - begin, out);
            token_list_reserve(out, 1);
            out->items[out->count++] = found->id;
            begin = end;
        }
        at = end;
    }
    encode_between(tokenizer, stage, text + begin, size - begin, out);
}

int64_t tokenizer_encode(const Tokenizer *tokenizer, const char *bytes, size_t size, TokenList *out) {
    int64_t replaced = 0;
    if (!tokenizer->bpe) {
        encode_bytes(bytes, size, out);
    } else if (text_is_utf8(bytes, size, NULL)) {
        encode_stage(tokenizer, 0, bytes, size, out);
    } else {
        Text repaired = {0};
        replaced = text_repair(&repaired, bytes, size);
        encode_stage(tokenizer, 0, repaired.data, repaired.size, out);
        text_close(&repaired);
    }
    return replaced;
}

// ---- cutting ----

static bool is_ascii_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
static bool is_line_end(char c) { return c == '\n' || c == '\r'; }

// Whether bytes that end before `at` may end in whitespace, by the encodings of all whitespace that is not ASCII.
static bool may_end_in_space(const char *bytes, size_t at) {
    static const struct {
        unsigned char lead[2], first, last; // the last byte is between first and last
        int leads;
    } spaces[] = {
        {{0xC2}, 0x85, 0x85, 1},       {{0xC2}, 0xA0, 0xA0, 1},       {{0xE1, 0x9A}, 0x80, 0x80, 2},
        {{0xE2, 0x80}, 0x80, 0xAF, 2}, {{0xE2, 0x81}, 0x9F, 0x9F, 2}, {{0xE3, 0x80}, 0x80, 0x80, 2},
    };
    if (at == 0 || is_ascii_space(bytes[at - 1])) return true;
    unsigned char last = (unsigned char)bytes[at - 1];
    for (size_t i = 0; i < sizeof spaces / sizeof spaces[0]; i++) {
        size_t leads = (size_t)spaces[i].leads;
        bool fits = last >= spaces[i].first && last <= spaces[i].last && at > leads;
        if (fits && memcmp(bytes + at - 1 - leads, spaces[i].lead, leads) == 0) return true;
    }
    return false;
}

// By the lead bytes of all whitespace that is not ASCII, which others have too.
static bool may_begin_with_space(char c) { return is_ascii_space(c) || memchr("\xC2\xE1\xE2\xE3", c, 4); }

// Where the pre-split cuts whatever stands around, and nothing joins in normalisation.
static bool cuts(const Tokenizer *tokenizer, const char *bytes, size_t at) {
    bool space = is_ascii_space(bytes[at]) && !may_end_in_space(bytes, at);
    if (tokenizer->presplit == PRESPLIT_GPT2) return space;
    // The end of a line belongs to what is before it; nothing after it does.
    if (at > 0 && is_line_end(bytes[at - 1])) return !may_begin_with_space(bytes[at]);
    return space && !is_line_end(bytes[at]);
}

size_t tokenizer_piece(const Tokenizer *tokenizer, const char *bytes, size_t size, size_t target) {
    enum { FURTHEST = 64 << 20 };
    if (size <= target) return size;
    size_t limit = size - target < FURTHEST ? size : target + FURTHEST;
    for (size_t at = target; at < limit; at++) {
        if (!cuts(tokenizer, bytes, at)) continue;
        bool whole = true; // no added token lies across
        for (int stage = 0; stage < ADDED_STAGES; stage++)
            whole = whole && !added_matcher_spans(&tokenizer->matchers[stage], bytes, size, at);
        if (whole) return at;
    }
    if (limit == size) return size;
    for (int back = 0; back < 3 && ((unsigned char)bytes[limit] & 0xC0) == 0x80; back++) limit--;
    return limit;
}

// A token has a byte at least. Bytes of no ASCII may become three: those of no UTF-8, and what NFC takes apart.
int64_t tokenizer_most_tokens(const char *text) {
    int64_t count = 1;
    for (; *text; text++) count += *text & 0x80 ? 3 : 1;
    return count;
}
