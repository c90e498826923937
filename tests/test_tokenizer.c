// Tokenizers: BPE against a naive one and against published ids, pieces against the whole, tokenizer.json there and
// back, and what damaged files must say.
#include <unistd.h>
#include <xxhash.h>

#include "data/tokenizer_rows.h"
#include "runtime/file.h"
#include "runtime/json.h"
#include "runtime/philox.h"
#include "tests/support_tokenizer.h"
#include "tests/test.h"

static uint32_t draw(uint64_t index, uint32_t bound) { return philox_at(9, STREAM_TEST, 0, index).word[0] % bound; }

// ---- a small BPE, made here ----

// Lowest rank first. A space is written as U+0120, as in the byte-level alphabet.
static const char *const small_merges[][2] = {
    {"a", "a"},   {"aa", "a"}, {"aa", "aa"},      {"a", "b"},  {"b", "a"},           {"ab", "ab"}, {"aaaa", "aaaa"},
    {"c", "ab"},  {"b", "b"},  {"\u0120", "\u0120"}, {"\u0120", "a"}, {"\u0120\u0120", "\u0120"},
    {"'", "s"},   {"\u010A", "\u010A"}, {"abab", "c"}, {"bb", "bb"}, {"\u00C2", "\u0142"},
};
enum { SMALL_MERGES = sizeof small_merges / sizeof small_merges[0], SMALL_VOCAB = 256 + SMALL_MERGES + 1 };

static void small_json(Text *out) {
    text_add(out, "{\"added_tokens\":[{\"id\":273,\"content\":\"<|endoftext|>\"}],\"normalizer\":null,"
                  "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true},"
                  "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":{");
    for (int byte = 0; byte < 256; byte++) {
        char c = (char)byte;
        text_add(out, "\"");
        if (c == '"' || c == '\\') text_add(out, "\\");
        byte_level_write(out, &c, 1);
        text_printf(out, "\":%d,", byte);
    }
    for (int rank = 0; rank < SMALL_MERGES; rank++)
        text_printf(out, "%s\"%s%s\":%d", rank ? "," : "", small_merges[rank][0], small_merges[rank][1], 256 + rank);
    text_add(out, "},\"merges\":[");
    for (int rank = 0; rank < SMALL_MERGES; rank++)
        text_printf(out, "%s\"%s %s\"", rank ? "," : "", small_merges[rank][0], small_merges[rank][1]);
    text_add(out, "]}}");
}

static Tokenizer *open_small(void) {
    Text json = {0};
    char path[4096];
    small_json(&json);
    test_write_file(path, "small.json", json.data, json.size);
    text_close(&json);
    return test_tokenizer_open(path);
}

// Merges by looking at all pairs each time. Works for one piece of the pre-split.
static int64_t merge_naively(const Tokenizer *tokenizer, int32_t *ids, int64_t n) {
    for (;;) {
        int64_t best = -1, best_rank = tokenizer->merge_count;
        for (int64_t i = 0; i + 1 < n; i++)
            for (int64_t rank = 0; rank < best_rank; rank++)
                if (tokenizer->merges[rank].left == ids[i] && tokenizer->merges[rank].right == ids[i + 1])
                    best = i, best_rank = rank;
        if (best < 0) return n;
        ids[best] = tokenizer->merges[best_rank].id;
        n--;
        memmove(ids + best + 1, ids + best + 2, (size_t)(n - best - 1) * sizeof *ids);
    }
}

TEST(merging_equals_the_naive_way) {
    Tokenizer *tokenizer = open_small();
    assert_int_equal(tokenizer_vocab(tokenizer), SMALL_VOCAB);
    assert_int_equal(tokenizer_separator(tokenizer), SMALL_VOCAB - 1);
    assert_string_equal(tokenizer_name(tokenizer), "bpe");
    uint64_t at = 0;
    for (int trial = 0; trial < 600; trial++) {
        char word[300];
        int32_t expected[300];
        int64_t size = 1 + draw(at++, trial % 3 ? 20 : 299);
        for (int64_t i = 0; i < size; i++) word[i] = "aaabbc"[draw(at++, 6)], expected[i] = word[i];
        int64_t count = merge_naively(tokenizer, expected, size);
        TokenList ids = {0};
        for (int twice = 0; twice < 2; twice++) { // the second time from the cache
            ids.count = 0;
            tokenizer_encode(tokenizer, word, (size_t)size, &ids);
            assert_int_equal(ids.count, count);
            assert_memory_equal(ids.items, expected, (size_t)count * sizeof *expected);
        }
        token_list_close(&ids);
    }
    tokenizer_close(tokenizer);
}

TEST(a_megabyte_of_one_letter) {
    enum { SIZE = 1 << 20 };
    static char text[SIZE];
    static const char letters[] = "a 7.\n";
    Tokenizer *tokenizer = open_small();
    for (int i = 0; i < 5; i++) {
        memset(text, letters[i], SIZE);
        test_tokenizer_text(tokenizer, text, SIZE);
    }
    memset(text, 'a', SIZE);
    TokenList ids = {0};
    tokenizer_encode(tokenizer, text, SIZE, &ids);
    assert_int_equal(ids.count, SIZE / 8); // pairs, fours, eights
    token_list_close(&ids);
    tokenizer_close(tokenizer);
}

// Text full of whitespace of all kinds, marks, and bytes that are not UTF-8.
static size_t make_text(char *out, size_t size, uint64_t *at, bool valid) {
    static const char *const parts[] = {
        " ", "  ", "\n", "\n\n", "\t", "\r\n", "a", "aa", "ab", "b", "c", "'s", "'", ".", "7", "\u00A0", "\u3000",
        "\u2003", "\xC2\x85", "\u1680", "\u180E", "\u200B", "\u2014", "\u00E9", "\u4E2D", "\U0001F600",
        "\xFF", "\xC2", "\xE3\x80", "\x80"};
    enum { PARTS = sizeof parts / sizeof parts[0], BAD = 4 };
    size_t used = 0;
    while (used + 4 < size) {
        const char *part = parts[draw((*at)++, valid ? PARTS - BAD : PARTS)];
        memcpy(out + used, part, strlen(part));
        used += strlen(part);
    }
    return used;
}

TEST(pieces_encode_to_what_the_whole_does) {
    Tokenizer *tokenizer = open_small();
    uint64_t at = 0, cuts = 0;
    for (int trial = 0; trial < 1500; trial++) {
        char text[200];
        size_t size = make_text(text, 20 + draw(at++, 180), &at, trial % 2 == 0), target = 1 + draw(at++, 12);
        test_tokenizer_pieces(tokenizer, text, size, target);
        cuts += tokenizer_piece(tokenizer, text, size, target) < size;
    }
    tokenizer_close(tokenizer);
    assert_true(cuts > 1000);
}

TEST(whitespace_that_is_not_ascii_is_not_cut_from_what_follows) {
    static const char *const spaces[] = {"\xC2\x85", "\u00A0", "\u1680", "\u2000", "\u200A", "\u2028", "\u2029",
                                         "\u202F", "\u205F", "\u3000", " ", "\n"};
    Tokenizer *tokenizer = open_small();
    for (size_t i = 0; i < sizeof spaces / sizeof spaces[0]; i++) {
        char text[32];
        snprintf(text, sizeof text, "x%s  y", spaces[i]);
        assert_int_equal(tokenizer_piece(tokenizer, text, strlen(text), 2), strlen(text));
    }
    assert_int_equal(tokenizer_piece(tokenizer, "xy  y", 5, 1), 2);
    tokenizer_close(tokenizer);
}

TEST(text_comes_back) {
    Tokenizer *kinds[] = {open_small(), test_tokenizer_open("byte")};
    uint64_t at = 0;
    for (int trial = 0; trial < 300; trial++) {
        char text[300];
        size_t size = make_text(text, 5 + draw(at++, 290), &at, true);
        for (int k = 0; k < 2; k++) test_tokenizer_text(kinds[k], text, size);
    }
    for (int k = 0; k < 2; k++) {
        test_tokenizer_text(kinds[k], "", 0);
        test_tokenizer_text(kinds[k], "a\0b", 3);
        test_tokenizer_text(kinds[k], SEPARATOR_TEXT, strlen(SEPARATOR_TEXT));
        tokenizer_close(kinds[k]);
    }
}

TEST(bytes_that_are_not_utf8_become_the_replacement) {
    static const struct {
        const char *bytes, *text;
        int64_t replaced;
    } cases[] = {
        {"a\xFF" "b", "a\uFFFDb", 1},
        {"\xE3\x80", "\uFFFD\uFFFD", 2},
        {"\xC0\xAF", "\uFFFD\uFFFD", 2},             // overlong
        {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD", 3},   // a surrogate
        {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD", 4}, // beyond U+10FFFF
        {"\u4E2D\x80", "\u4E2D\uFFFD", 1},
    };
    Tokenizer *tokenizer = open_small();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        TokenList ids = {0};
        Text text = {0};
        assert_int_equal(tokenizer_encode(tokenizer, cases[i].bytes, strlen(cases[i].bytes), &ids), cases[i].replaced);
        tokenizer_decode(tokenizer, ids.items, ids.count, &text);
        assert_string_equal(text_string(&text), cases[i].text);
        token_list_close(&ids);
        text_close(&text);
    }
    tokenizer_close(tokenizer);
}

TEST(byte_is_the_identity) {
    Tokenizer *tokenizer = test_tokenizer_open("byte");
    assert_int_equal(tokenizer_vocab(tokenizer), 257);
    assert_int_equal(tokenizer_separator(tokenizer), 256);
    assert_string_equal(tokenizer_name(tokenizer), "byte");
    assert_int_equal(tokenizer_token_bytes(tokenizer, 256), 0);
    char bytes[256];
    for (int i = 0; i < 256; i++) bytes[i] = (char)i;
    TokenList ids = {0};
    assert_int_equal(tokenizer_encode(tokenizer, bytes, 256, &ids), 0);
    for (int i = 0; i < 256; i++) assert_int_equal(ids.items[i], i);
    token_list_close(&ids);
    tokenizer_close(tokenizer);
}

TEST(ids_beyond_the_vocabulary_are_nothing) {
    static const int32_t ids[] = {'a', 256, 257, 'b', 300, INT32_MAX};
    Tokenizer *tokenizer = test_tokenizer_open("byte");
    Text text = {0};
    tokenizer_decode(tokenizer, ids, sizeof ids / sizeof ids[0], &text);
    assert_string_equal(text_string(&text), "ab");
    assert_int_equal(tokenizer_token_bytes(tokenizer, 257), 0);
    assert_int_equal(tokenizer_token_bytes(tokenizer, INT32_MAX), 0);
    text_close(&text);
    tokenizer_close(tokenizer);
}

// ---- tokenizer.json ----

TEST(json_there_and_back) {
    Tokenizer *kinds[] = {open_small(), test_tokenizer_open("byte")};
    for (int k = 0; k < 2; k++) {
        test_tokenizer_json(kinds[k]);
        tokenizer_close(kinds[k]);
    }
}

// small.json with `from` replaced by `to`.
static void changed_json(Text *out, const char *from, const char *to) {
    Text good = {0};
    small_json(&good);
    const char *at = strstr(good.data, from);
    if (!at) fail_msg("no %s", from);
    text_clear(out);
    text_append(out, good.data, (size_t)(at - good.data));
    text_add(out, to);
    text_add(out, at + strlen(from));
    text_close(&good);
}

static void check_config_json(const Tokenizer *tokenizer, const char *separator) {
    Text text = {0};
    Errors errors = {0};
    tokenizer_config_json(tokenizer, 1024, &text);
    Json *json = json_parse("tokenizer_config.json", text.data, text.size, EXIT_DATA, &errors);
    assert_non_null(json);
    assert_string_equal(json_member(json_root(json), "eos_token")->valuestring, separator);
    assert_true(json_member(json_root(json), "model_max_length")->valuedouble == 1024);
    json_close(json);
    text_close(&text);
}

TEST(config_json_names_the_separator) {
    Tokenizer *tokenizer = test_tokenizer_open("byte");
    check_config_json(tokenizer, SEPARATOR_TEXT);
    tokenizer_close(tokenizer);
}

TEST(added_tokens_keep_their_names) {
    static const struct {
        const char *added; // in place of the separator alone
        int32_t separator;
        const char *written[3];
    } cases[] = {
        {"{\"id\":273,\"content\":\"</s>\"}", 273,
         {"\"content\":\"</s>\"", "\"</s>\":273}", "\"normalized\":false,\"special\":true}]"}},
        {"{\"id\":275,\"content\":\"<\u00e9>\",\"lstrip\":true,\"special\":true},{\"id\":274,\"content\":\"<pad>\"},"
         "{\"id\":273,\"content\":\"<|endoftext|>\"}", 273,
         {"\"<|endoftext|>\":273,\"<pad>\":274,\"<\u00e9>\":275}",
          "{\"id\":274,\"content\":\"<pad>\",\"single_word\":false,\"lstrip\":false,",
          "{\"id\":275,\"content\":\"<\u00e9>\",\"single_word\":false,\"lstrip\":true,\"rstrip\":false,"}},
        {"{\"id\":274,\"content\":\"<s>\",\"normalized\":true},{\"id\":273,\"content\":\"<pad>\"}", 274,
         {"\"<pad>\":273,\"<s>\":274}", "\"rstrip\":false,\"normalized\":true,\"special\":true},",
          "\"added_tokens\":[{\"id\":274,\"content\":\"<s>\","}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Text json = {0};
        char path[4096];
        changed_json(&json, "{\"id\":273,\"content\":\"<|endoftext|>\"}", cases[i].added);
        test_write_file(path, "added.json", json.data, json.size);
        Tokenizer *tokenizer = test_tokenizer_open(path);
        assert_int_equal(tokenizer_separator(tokenizer), cases[i].separator);
        text_clear(&json);
        tokenizer_json(tokenizer, &json);
        for (int w = 0; w < 3; w++)
            if (!strstr(json.data, cases[i].written[w])) fail_msg("%s is not in: %s", cases[i].written[w], json.data);
        test_tokenizer_json(tokenizer);
        test_tokenizer_text(tokenizer, "<pad> a <s>", 11); // in a text they are text
        if (i == 2) check_config_json(tokenizer, "<s>");
        for (int32_t id = 273; id < tokenizer_vocab(tokenizer); id++)
            assert_int_equal(tokenizer_token_bytes(tokenizer, id), 0);
        tokenizer_close(tokenizer);
        text_close(&json);
    }
}

// Every byte, then every pair and as many triples of bytes as it takes.
TEST(a_large_json) {
    enum { MERGES = 300000, PAIRS = 256 * 256 };
    Text vocab = {0}, merges = {0};
    JsonWriter v = {.out = &vocab, .fresh = true}, m = {.out = &merges, .fresh = true};
    json_begin(&v, NULL, '{');
    json_begin(&m, NULL, '[');
    for (int id = 0; id < 256 + MERGES; id++) {
        int rank = id - 256, pair = rank < PAIRS ? rank : (rank - PAIRS) / 256;
        char bytes[3] = {(char)(id < 256 ? id : pair / 256), (char)(pair % 256), (char)rank};
        size_t size = id < 256 ? 1 : rank < PAIRS ? 2 : 3;
        Text whole = {0}, left = {0}, right = {0};
        byte_level_write(&whole, bytes, size);
        byte_level_write(&left, bytes, size - 1);
        byte_level_write(&right, bytes + size - 1, 1);
        json_integer(&v, text_string(&whole), id);
        if (id >= 256) {
            json_begin(&m, NULL, '[');
            json_string(&m, NULL, text_string(&left));
            json_string(&m, NULL, text_string(&right));
            json_end(&m, ']');
        }
        text_close(&whole);
        text_close(&left);
        text_close(&right);
    }
    json_end(&v, '}');
    json_end(&m, ']');
    Text json = {0};
    char path[4096];
    text_printf(&json,
                "{\"added_tokens\":[{\"id\":%d,\"content\":\"<|endoftext|>\"}],"
                "\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"decoder\":{\"type\":\"ByteLevel\"},"
                "\"model\":{\"type\":\"BPE\",\"vocab\":%s,\"merges\":%s}}",
                256 + MERGES, text_string(&vocab), text_string(&merges));
    test_write_file(path, "large.json", json.data, json.size);
    Tokenizer *tokenizer = test_tokenizer_open(path);
    assert_int_equal(tokenizer_vocab(tokenizer), 256 + MERGES + 1);
    test_tokenizer_text(tokenizer, "abcabc", 6);
    tokenizer_close(tokenizer);
    text_close(&vocab);
    text_close(&merges);
    text_close(&json);
}

TEST(damaged_json) {
    static const struct {
        const char *from, *to, *message;
    } cases[] = {
        {"\"BPE\"", "\"Unigram\"", "this tokenizer is Unigram; byte-level BPE with the pre-split of GPT-2, Llama 3"},
        {"\"BPE\"", "7", "a model whose type is \"BPE\""},
        {"\"normalizer\":null", "\"normalizer\":{\"type\":\"NFKC\"}", "its normalizer is NFKC"},
        {"\"add_prefix_space\":false", "\"add_prefix_space\":true", "add_prefix_space to be \"false\""},
        {"\"use_regex\":true", "\"use_regex\":false", "use_regex to be \"true\""},
        {"\"pre_tokenizer\":{\"type\":\"Byte", "\"pre_tokenizer\":{\"type\":\"Bit", "its pre_tokenizer is BitLevel"},
        {"\"pre_tokenizer\":{\"type\":\"ByteLevel\",", "\"pre_tokenizer\":{", "its pre_tokenizer is of no known type"},
        {"\"decoder\":", "\"decode\":", "a pre_tokenizer, a decoder and a model"},
        {"\"model\":{", "\"model\":{\"byte_fallback\":true,", "this tokenizer is SentencePiece's BPE"},
        {"\"vocab\":{", "\"vocab\":3,\"v\":{", "a model with vocab and merges"},
        {"\"merges\":[", "\"merges\":3,\"m\":[", "a model with vocab and merges"},
        {"\"A\":65", "\"A\":66", "each id once"},
        {"\"A\":65", "\"A\":-1", "an id from 0 to"},
        {"\"A\":65", "\"A\":65.5", "an id from 0 to"},
        {"\"A\":65", "\"A\":\"65\"", "an id from 0 to"},
        {"\"A\":65", "\"A\":1e18", "an id from 0 to"},
        {"\"A\":65", "\"AB\":65", "no token for byte 65"},
        {"\"A\":65", "\"\u4E2D\":65", "a token in the byte-level alphabet"},
        {"\"A\":65", "\"\":65", "a token in the byte-level alphabet"},
        {"\"id\":273", "\"id\":\"x\"", "an id from 0 to"},
        {"\"content\"", "\"contents\"", "an added token with content and id"},
        {"[{\"id\":273,\"content\":\"<|endoftext|>\"}]", "[]", "an added token that ends documents"},
        {"\"added_tokens\"", "\"other_tokens\"", "an added token that ends documents"},
        {"[\"a a\"", "[\"aa\"", "a merge of two tokens"},
        {"[\"a a\"", "[5", "a merge of two tokens"},
        {"[\"a a\"", "[[\"a\"]", "a merge of two tokens"},
        {"[\"a a\"", "[\"a \"", "a merge of two tokens of the vocabulary"},
        {"[\"a a\"", "[\"a xyz\"", "a merge of two tokens of the vocabulary"},
        {"[\"a a\"", "[\"a Q\"", "a merge whose result is in the vocabulary"},
        {"[{\"id\":273", "[{\"id\":273,\"content\":\"x\"},{\"id\":273", "each id once"},
        {"[{\"id\":273", "[{\"id\":274,\"content\":\"\"},{\"id\":273", "an added token with content and id"},
        {"[{\"id\":273", "[{\"id\":274,\"content\":\"A\"},{\"id\":273", "the token \"A\" to have one id"},
        {"[{\"id\":273", "[{\"id\":274,\"content\":\"<|endoftext|>\"},{\"id\":273", "\"<|endoftext|>\" to have one id"},
        {"[{\"id\":273", "[{\"id\":274,\"content\":\"foo\",\"special\":false,\"lstrip\":true},{\"id\":273",
         "the token \"foo\" to have single_word, lstrip and rstrip false"},
        {"\"A\":65", "\"A\":65,\"xx\":273", "each id once"},
        {"{\"added_tokens\"", "[\"added_tokens\"", "broken.json"},
    };
    Text bad = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        changed_json(&bad, cases[i].from, cases[i].to);
        char path[4096];
        test_write_file(path, "broken.json", bad.data, bad.size);
        test_tokenizer_error(path, EXIT_DATA, cases[i].message);
    }
    char path[4096];
    test_write_file(path, "broken.json", "[]", 2);
    test_tokenizer_error(path, EXIT_DATA, "an object");
    test_tokenizer_error("no/such/tokenizer.json", EXIT_NO_INPUT, "expected byte, gpt2, or the path of");
    text_close(&bad);
}

// ---- GPT-2 ----

TEST(gpt2_without_its_merges) {
    char path[4096], directory[4096];
    path_join(directory, test_tokenizer_folder(), "gpt2");
    setenv("THALWEG_DATA", test_tokenizer_folder(), 1);
    test_tokenizer_error("gpt2", EXIT_NO_INPUT, "scripts/get_data.sh gpt2");
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "expected 50000 merges, found 0"},
        {"#version: 0.2\na b\nab c\n", "expected 50000 merges, found 2"},
        {"#version: 0.2\na b\nax c\n", "merges.txt:3: expected two tokens known by then"},
        {"a\n", "merges.txt:1: expected two tokens"},
        {"a \n", "merges.txt:1: expected two tokens"},
        {"a \xC4", "merges.txt:1: expected two tokens"},
        {"a b c\n", "merges.txt:1: expected two tokens"},
    };
    Errors errors = {0};
    assert_true(directory_make(directory, &errors));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        test_write_file(path, "gpt2/merges.txt", cases[i].text, strlen(cases[i].text));
        test_tokenizer_error("gpt2", EXIT_DATA, cases[i].message);
    }
    Text many = {0}; // 50000 merges, but others
    for (int a = 0; a < 250; a++)
        for (int b = 0; b < 200; b++) {
            char pair[2] = {(char)a, (char)b};
            byte_level_write(&many, pair, 1);
            text_add(&many, " ");
            byte_level_write(&many, pair + 1, 1);
            text_add(&many, "\n");
        }
    test_write_file(path, "gpt2/merges.txt", many.data, many.size);
    test_tokenizer_error("gpt2", EXIT_DATA, "not GPT-2's merges");
    text_close(&many);
    unlink(path);
    unsetenv("THALWEG_DATA");
}

static Tokenizer *open_gpt2(void) { // NULL where its merges are not at hand
    const char *merges = test_shared_data("gpt2_tokenizer/vocab.bpe");
    if (!merges) return NULL;
    char directory[4096], path[4096], real[4096];
    assert_non_null(realpath(merges, real));
    path_join(directory, test_tokenizer_folder(), "real/gpt2");
    Errors errors = {0};
    assert_true(directory_make(directory, &errors));
    path_join(path, directory, "vocab.bpe");
    unlink(path);
    assert_int_equal(symlink(real, path), 0);
    path_join(path, test_tokenizer_folder(), "real");
    setenv("THALWEG_DATA", path, 1);
    Tokenizer *tokenizer = test_tokenizer_open("gpt2");
    unsetenv("THALWEG_DATA");
    return tokenizer;
}

TEST(gpt2_on_whole_texts) {
    static const struct {
        const char *name;
        int64_t tokens;
        int32_t first[6];
        uint64_t hash; // xxh3 of the ids as little-endian uint16
    } corpora[] = {
        {"tinyshakespeare.txt", 338025, {5962, 22307, 25, 198, 8421, 356}, UINT64_C(0x182ca92e5023d0fa)},
        {"wikitext2_valid.txt", 258659, {220, 198, 796, 8074, 20272, 9106}, UINT64_C(0x35c1f07862252aa0)},
        {"wikitext2_test.txt", 295877, {220, 198, 796, 5199, 1279, 2954}, UINT64_C(0x93c20e1807930c21)},
    };
    Tokenizer *tokenizer = open_gpt2();
    if (!tokenizer) skip();
    assert_int_equal(tokenizer_vocab(tokenizer), 50257);
    assert_int_equal(tokenizer_separator(tokenizer), 50256);
    for (int c = 0; c < 3; c++) {
        const char *path = test_shared_data(corpora[c].name);
        if (!path) continue;
        File file = {0};
        Errors errors = {0};
        TokenList ids = {0};
        assert_true(file_map(&file, path, EXIT_NO_INPUT, &errors));
        assert_int_equal(tokenizer_encode(tokenizer, file.bytes, file.size, &ids), 0);
        assert_int_equal(ids.count, corpora[c].tokens);
        assert_memory_equal(ids.items, corpora[c].first, sizeof corpora[c].first);
        uint16_t *narrow = malloc((size_t)ids.count * sizeof *narrow);
        for (int64_t i = 0; i < ids.count; i++) narrow[i] = (uint16_t)ids.items[i];
        uint64_t hash = XXH3_64bits(narrow, (size_t)ids.count * sizeof *narrow);
        if (hash != corpora[c].hash) fail_msg("%s: hash %016lx", corpora[c].name, hash);
        free(narrow);
        test_tokenizer_pieces(tokenizer, file.bytes, file.size, 1000);
        test_tokenizer_text(tokenizer, file.bytes, file.size);
        token_list_close(&ids);
        file_close(&file);
    }
    tokenizer_close(tokenizer);
}

TEST(gpt2_on_hard_strings) {
    Tokenizer *tokenizer = open_gpt2();
    const char *path = test_shared_data("gpt2_tokenizer/expected_cases.json");
    if (!tokenizer || !path) skip();
    Errors errors = {0};
    Json *json = json_open(path, 64 << 20, EXIT_DATA, &errors);
    if (!json) fail_msg("%s", text_string(&errors.text));
    int cases = 0;
    for (const cJSON *node = json_root(json)->child; node; node = node->next, cases++) {
        const char *text = json_member(node, "text")->valuestring;
        const cJSON *expected = json_member(node, "ids");
        TokenList ids = {0};
        tokenizer_encode(tokenizer, text, strlen(text), &ids);
        const cJSON *id = expected->child;
        for (int64_t i = 0; i < ids.count; i++, id = id->next)
            if (!id || ids.items[i] != (int32_t)id->valuedouble) fail_msg("case %d, token %ld: %s", cases, i, text);
        assert_null(id);
        test_tokenizer_text(tokenizer, text, strlen(text));
        token_list_close(&ids);
    }
    assert_int_equal(cases, 1500);
    test_tokenizer_json(tokenizer);
    json_close(json);
    tokenizer_close(tokenizer);
}
