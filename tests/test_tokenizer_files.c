// tokenizer.json of the three kinds against the ids that the `tokenizers` library gave (tests/fixtures/tokenizers),
// what decides ids in such files, and what is refused.
#include <zlib.h>

#include "data/tokenizer_rows.h"
#include "runtime/file.h"
#include "runtime/json.h"
#include "runtime/philox.h"
#include "tests/support_tokenizer.h"
#include "tests/test.h"

enum { KINDS = 3 };
static const char *const names[KINDS] = {"gpt2", "llama3", "qwen3"};

static const char *fixture(const char *name) {
    static char path[4096];
    snprintf(path, sizeof path, "tests/fixtures/tokenizers/%s.json", name);
    return path;
}

static uint32_t draw(uint64_t index, uint32_t bound) { return philox_at(11, STREAM_TEST, 0, index).word[0] % bound; }

// The fixture with `from` replaced by `to`, opened or written.
static const char *changed(const char *name, const char *from, const char *to) {
    static char path[4096];
    File file = {0};
    Errors errors = {0};
    Text text = {0};
    assert_true(file_read(&file, fixture(name), 1 << 20, EXIT_NO_INPUT, &errors));
    const char *at = strstr(file.bytes, from);
    if (!at) fail_msg("no %s in %s", from, name);
    text_append(&text, file.bytes, (size_t)(at - file.bytes));
    text_add(&text, to);
    text_add(&text, at + strlen(from));
    test_write_file(path, "changed.json", text.data, text.size);
    text_close(&text);
    file_close(&file);
    return path;
}

static void check_ids(const Tokenizer *tokenizer, const char *text, const int32_t *expected, int64_t count) {
    TokenList ids = {0};
    assert_int_equal(tokenizer_encode(tokenizer, text, strlen(text), &ids), 0);
    bool same = ids.count == count && memcmp(ids.items, expected, (size_t)count * sizeof *expected) == 0;
    if (!same) fail_msg("%ld ids for: %s", ids.count, text);
    token_list_close(&ids);
}

static void check_decoded(const Tokenizer *tokenizer, int32_t id, const char *expected) {
    Text text = {0};
    tokenizer_decode(tokenizer, &id, 1, &text);
    assert_string_equal(text_string(&text), expected);
    assert_int_equal(tokenizer_token_bytes(tokenizer, id), strlen(expected));
    text_close(&text);
}

// ---- the cases ----

static size_t read_number(gzFile file) {
    unsigned char bytes[2];
    assert_int_equal(gzread(file, bytes, 2), 2);
    return (size_t)(bytes[0] | bytes[1] << 8);
}

static void check_case(const Tokenizer *tokenizer, const char *text, gzFile file) {
    int32_t ids[1024];
    int64_t count = (int64_t)read_number(file);
    assert_true(count < 1024);
    for (int64_t i = 0; i < count; i++) ids[i] = (int32_t)read_number(file);
    check_ids(tokenizer, text, ids, count);
    if (!tokenizer->nfc) test_tokenizer_text(tokenizer, text, strlen(text));
    for (size_t target = 1; target < strlen(text); target += 1 + target / 2)
        test_tokenizer_pieces(tokenizer, text, strlen(text), target);
}

TEST(ids_are_those_of_the_library) {
    Tokenizer *tokenizers[KINDS];
    for (int k = 0; k < KINDS; k++) tokenizers[k] = test_tokenizer_open(fixture(names[k]));
    gzFile file = gzopen("tests/fixtures/tokenizers/cases.gz", "rb");
    assert_non_null(file);
    int cases = 0;
    for (int first; (first = gzgetc(file)) >= 0;) {
        gzungetc(first, file);
        char text[1024];
        size_t size = read_number(file);
        assert_true(size < sizeof text);
        assert_int_equal(gzread(file, text, (unsigned)size), size);
        text[size] = 0;
        for (int k = 0; k < KINDS; k++, cases++) check_case(tokenizers[k], text, file);
    }
    assert_int_equal(cases, 5100);
    gzclose(file);
    for (int k = 0; k < KINDS; k++) tokenizer_close(tokenizers[k]);
}

TEST(files_read_back_as_they_were) {
    static const char *const separators[KINDS] = {"<|endoftext|>", "<|end_of_text|>", "<|endoftext|>"};
    for (int k = 0; k < KINDS; k++) {
        Tokenizer *tokenizer = test_tokenizer_open(fixture(names[k]));
        assert_string_equal(tokenizer_added(tokenizer, tokenizer_separator(tokenizer))->name, separators[k]);
        test_tokenizer_json(tokenizer);
        Tokenizer *shared = tokenizer_share(tokenizer);
        test_tokenizer_pieces(shared, "It's <think>\n12345  cafe\u0301 !\n\nx", 30, 3);
        tokenizer_close(shared);
        tokenizer_close(tokenizer);
    }
}

// ---- cutting ----

// Texts full of places to cut and of what may not be cut.
TEST(pieces_of_all_kinds) {
    static const char *const parts[] = {
        " ", "  ", "\n", "\r\n", "\t", "\v", "a", "bc", "The", "'s", "'S", "'", ".", "!?", "7", "123", "\u00A0",
        "\u3000", "\xC2\x85", "\u2028", "\u00E9", "e\u0301", "\u0301", "\u4E2D", "\u3042", "\u1100", "\u1161",
        "<think>", "<thin", "think> e\u0301",
        "think> \u00E9", "|im_end|>!", "</tool_call>", "<|im_start|>", "a b", "b c", "\xFF",
        "\xE3\x80"};
    enum { PARTS = sizeof parts / sizeof parts[0] };
    static const char with_spaces[] = "{\"id\":651,\"content\":\"a b\",\"special\":false,\"normalized\":true},"
                                      "{\"id\":652,\"content\":\"b c\\nThe\",\"special\":false,\"normalized\":false}";
    char added[1024];
    snprintf(added, sizeof added, "\"added_tokens\":[%s,", with_spaces);
    Tokenizer *tokenizers[] = {
        test_tokenizer_open(fixture("gpt2")),
        test_tokenizer_open(fixture("llama3")),
        test_tokenizer_open(fixture("qwen3")),
        test_tokenizer_open(changed("llama3", "\"added_tokens\":[", added)),
        test_tokenizer_open(changed("gpt2", "\"added_tokens\":[", added)),
    };
    uint64_t at = 0;
    for (size_t k = 0; k < sizeof tokenizers / sizeof *tokenizers; k++) {
        int cuts = 0;
        for (int trial = 0; trial < 2000; trial++) {
            Text text = {0};
            for (uint32_t left = 2 + draw(at++, 30); left > 0; left--) text_add(&text, parts[draw(at++, PARTS)]);
            size_t target = 1 + draw(at++, 12);
            test_tokenizer_pieces(tokenizers[k], text.data, text.size, target);
            cuts += tokenizer_piece(tokenizers[k], text.data, text.size, target) < text.size;
            text_close(&text);
        }
        assert_true(cuts > 700);
        tokenizer_close(tokenizers[k]);
    }
}

TEST(where_lines_are_cut) {
    Tokenizer *gpt2 = test_tokenizer_open(fixture("gpt2")), *qwen3 = test_tokenizer_open(fixture("qwen3"));
    static const struct {
        const char *text;
        size_t gpt2, qwen3; // with target 1
    } cases[] = {
        {"x.\ny", 2, 3},   {"x.\n\n\u4E2D", 2, 4}, {"xx yy", 2, 2},
        {"xx\tyy", 2, 2}, {"x.\n\u3000y", 2, 7},  {"x\n y", 1, 4},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(tokenizer_piece(gpt2, cases[i].text, strlen(cases[i].text), 1), cases[i].gpt2);
        assert_int_equal(tokenizer_piece(qwen3, cases[i].text, strlen(cases[i].text), 1), cases[i].qwen3);
    }
    tokenizer_close(gpt2);
    tokenizer_close(qwen3);
}

TEST(most_tokens_of_a_text) {
    static const char *const texts[] = {"", "abc", "\U0001D160\u0958", "\x80\xFF"}; // NFC takes the third apart
    for (int k = 0; k < KINDS; k++) {
        Tokenizer *tokenizer = test_tokenizer_open(fixture(names[k]));
        for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
            TokenList list = {0};
            tokenizer_encode(tokenizer, texts[i], strlen(texts[i]), &list);
            assert_true(list.count < tokenizer_most_tokens(texts[i]));
            if (k == 2 && i == 2) assert_true(list.count > (int64_t)strlen(texts[i]));
            token_list_close(&list);
        }
        tokenizer_close(tokenizer);
    }
}

// ---- the pre-split ----

// What is found by hand is what PCRE2 finds, at every place of a text.
static void check_presplit(Presplit *presplit, const char *text, size_t size) {
    for (size_t at = 0; at < size; at++) {
        if (((unsigned char)text[at] & 0xC0) == 0x80) continue;
        size_t end = presplit_next(presplit, text, size, at), expected = presplit_match(presplit, text, size, at);
        if (end != expected) fail_msg("at %zu: %zu, not %zu: %s", at, end, expected, text);
    }
}

TEST(presplits_by_hand_are_those_of_pcre2) {
    static const char few[] = "  \t\n\r\v\f''sStTdDmMlLvVrReEaZ019!.<_\x01\x1C\x7F";
    static const char *const others[] = {"\u00E9", "\u017F", "\u0660", "\u00A0", "\u2028", "\u0301", "\U0001F600"};
    uint64_t at = 0;
    for (int kind = 0; kind < PRESPLIT_KINDS; kind++) {
        Presplit *presplit = presplit_open((PresplitKind)kind);
        for (int trial = 0; trial < 6000; trial++) {
            Text text = {0};
            for (uint32_t left = 1 + draw(at++, 24); left > 0; left--) {
                uint32_t what = draw(at++, trial % 2 ? 8 : 100);
                char byte = (char)draw(at++, 128);
                if (what == 0) text_add(&text, others[draw(at++, 7)]);
                else text_append(&text, what == 1 ? &byte : &few[draw(at++, sizeof few - 1)], 1);
            }
            check_presplit(presplit, text.data, text.size);
            text_close(&text);
        }
        for (int first = 0; first < 128; first++)
            for (int second = 0; second < 128; second++) {
                char text[] = {(char)first, (char)second, 'l', 0};
                for (size_t size = 1; size <= 3; size++) check_presplit(presplit, text, size);
            }
        presplit_close(presplit);
    }
}

TEST(a_megabyte_of_one_character) {
    enum { SIZE = 1 << 20 };
    static char text[SIZE];
    static const char characters[] = "a 7.\n\t'";
    for (int k = 0; k < KINDS; k++) {
        Tokenizer *tokenizer = test_tokenizer_open(fixture(names[k]));
        for (size_t i = 0; i < sizeof characters - 1; i++) {
            memset(text, characters[i], SIZE);
            test_tokenizer_text(tokenizer, text, SIZE);
        }
        tokenizer_close(tokenizer);
    }
}

// ---- what decides ids ----

#define GPT2_REGEX "'s|'t|'re|'ve|'m|'ll|'d| ?\\\\p{L}+| ?\\\\p{N}+| ?[^\\\\s\\\\p{L}\\\\p{N}]+|\\\\s+(?!\\\\S)|\\\\s+"
#define FAST_REGEX \
    "'(?:[sdmt]|ll|ve|re)| ?\\\\p{L}++| ?\\\\p{N}++| ?[^\\\\s\\\\p{L}\\\\p{N}]++|\\\\s++$|\\\\s+(?!\\\\S)|\\\\s"
#define SPLIT(regex, behavior, invert)                                                             \
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex "\"},\"behavior\":\"" behavior "\",\"invert\":" invert "}"
#define BYTES "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":false}"
#define THINK_FLAGS "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":"
#define BYTE_LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}"
#define SEQUENCE(parts) "{\"type\":\"Sequence\",\"pretokenizers\":[" parts "]}"
#define PRE "\"pre_tokenizer\":"

TEST(spellings_of_one_function) {
    static const struct {
        const char *name, *from, *to;
    } cases[] = {
        {"gpt2", PRE BYTE_LEVEL, PRE "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"},
        {"gpt2", PRE BYTE_LEVEL, PRE SEQUENCE(BYTE_LEVEL)},
        {"gpt2", PRE BYTE_LEVEL, PRE SEQUENCE(SPLIT(GPT2_REGEX, "Isolated", "false") "," BYTES)},
        {"gpt2", PRE BYTE_LEVEL, PRE SEQUENCE(SPLIT(FAST_REGEX, "Removed", "true") "," BYTES)},
        {"gpt2", "\"normalizer\":null", "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[]}"},
        {"gpt2", "\"type\":\"BPE\",", ""},
        {"gpt2", "\"truncation\":null", "\"truncation\":{\"max_length\":3}"},
        {"gpt2", "\"decoder\":{",
         "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteLevel\"}]},\"d\":{"},
        {"llama3", "\"Isolated\",\"invert\":false", "\"Removed\",\"invert\":true"},
        {"llama3", "\"post_processor\"", "\"no_processor\""},
        {"llama3", "\"special\":true", "\"special\":true,\"lstrip_\":true"},
        {"qwen3", "{\"type\":\"NFC\"}", "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"}]}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Tokenizer *plain = test_tokenizer_open(fixture(cases[i].name));
        Tokenizer *other = test_tokenizer_open(changed(cases[i].name, cases[i].from, cases[i].to));
        assert_string_equal(tokenizer_hash(other), tokenizer_hash(plain));
        tokenizer_close(plain);
        tokenizer_close(other);
    }
}

TEST(the_hash_tells_functions_apart) {
    static const struct {
        const char *name, *from, *to;
    } cases[] = {
        {"gpt2", "", ""},
        {"llama3", "", ""},
        {"qwen3", "", ""},
        {"gpt2", "\"normalizer\":null", "\"normalizer\":{\"type\":\"NFC\"}"},
        {"gpt2", "\"ignore_merges\":false", "\"ignore_merges\":true"},
        {"llama3", "\"ignore_merges\":true", "\"ignore_merges\":false"},
        {"llama3", "\\\\p{N}{1,3}", "\\\\p{N}"},
        {"qwen3", "{\"type\":\"NFC\"}", "null"},
        {"qwen3", "\"<think>\"", "\"<thunk>\""},
        {"qwen3", "\"content\":\"<think>\"," THINK_FLAGS "false", "\"content\":\"<think>\"," THINK_FLAGS "true"},
    };
    enum { CASES = sizeof cases / sizeof cases[0] };
    Tokenizer *tokenizers[CASES];
    for (int i = 0; i < CASES; i++) {
        tokenizers[i] = test_tokenizer_open(changed(cases[i].name, cases[i].from, cases[i].to));
        for (int j = 0; j < i; j++)
            assert_string_not_equal(tokenizer_hash(tokenizers[i]), tokenizer_hash(tokenizers[j]));
    }
    for (int i = 0; i < CASES; i++) tokenizer_close(tokenizers[i]);
}

static int32_t added_id(const Tokenizer *tokenizer, const char *name) {
    for (int64_t i = 0; i < tokenizer->added_count; i++)
        if (strcmp(tokenizer->added[i].name, name) == 0) return tokenizer->added[i].id;
    fail_msg("no added token %s", name);
    return -1;
}

static bool makes(const Tokenizer *tokenizer, const char *text, int32_t id) {
    TokenList ids = {0};
    bool found = false;
    tokenizer_encode(tokenizer, text, strlen(text), &ids);
    for (int64_t i = 0; i < ids.count; i++) found = found || ids.items[i] == id;
    token_list_close(&ids);
    return found;
}

TEST(tokens_that_stand_in_text) {
    Tokenizer *tokenizer = test_tokenizer_open(fixture("qwen3"));
    int32_t id = added_id(tokenizer, "<think>"), other = added_id(tokenizer, "|im_end|>!");
    assert_true(makes(tokenizer, "<|im_|im_end|>!", other));
    assert_false(makes(tokenizer, "<|im_end|>!", other)); // what a special one covers is no other
    check_ids(tokenizer, "<think><think>", (int32_t[]){id, id}, 2);
    check_decoded(tokenizer, id, "<think>");
    check_decoded(tokenizer, tokenizer_separator(tokenizer), "");
    test_tokenizer_text(tokenizer, "<think>\0\0", 9);
    test_tokenizer_text(tokenizer, "a<think>b</tool_call> <|im_start|><|endoftext|>", 47);
    tokenizer_close(tokenizer);
}

TEST(tokens_that_stand_in_normalised_text) {
    static const char from[] = "\"content\":\"<think>\"," THINK_FLAGS "false";
    static const char to[] = "\"content\":\"<\u00E9>\"," THINK_FLAGS "true";
    Tokenizer *tokenizer = test_tokenizer_open(changed("qwen3", from, to));
    int32_t id = added_id(tokenizer, "<\u00E9>");
    check_ids(tokenizer, "<e\u0301><\u00E9>", (int32_t[]){id, id}, 2);
    tokenizer_close(tokenizer);
}

TEST(the_separator_is_special) {
    Tokenizer *tokenizer = test_tokenizer_open(changed("gpt2", "\"special\":true", "\"special\":false"));
    assert_false(makes(tokenizer, SEPARATOR_TEXT, tokenizer_separator(tokenizer)));
    check_decoded(tokenizer, tokenizer_separator(tokenizer), "");
    test_tokenizer_json(tokenizer);
    tokenizer_close(tokenizer);
}

TEST(of_one_pair_twice_the_last_rank_counts) {
    const char *merges = "\"merges\":[\"a b\",\"b c\",[\"a\",\"b\"],", *vocab = "\"vocab\":{\"ab\":700,\"bc\":701,";
    char path[4096];
    snprintf(path, sizeof path, "%s", changed("gpt2", "\"merges\":[", merges));
    File file = {0};
    Errors errors = {0};
    Text text = {0};
    assert_true(file_read(&file, path, 1 << 20, EXIT_NO_INPUT, &errors));
    const char *at = strstr(file.bytes, "\"vocab\":{");
    text_append(&text, file.bytes, (size_t)(at - file.bytes));
    text_add(&text, vocab);
    text_add(&text, at + strlen("\"vocab\":{"));
    test_write_file(path, "twice.json", text.data, text.size);
    Tokenizer *tokenizer = test_tokenizer_open(path);
    check_ids(tokenizer, "abc", (int32_t[]){tokenizer->byte_ids['a'], 701}, 2);
    check_decoded(tokenizer, 699, ""); // in the gap
    check_decoded(tokenizer, 701, "bc");
    assert_int_equal(tokenizer_vocab(tokenizer), 702);
    test_tokenizer_json(tokenizer);
    tokenizer_close(tokenizer);
    text_close(&text);
    file_close(&file);
}

TEST(the_token_that_ends_documents) {
    static const struct {
        const char *first, *second; // instead of Llama 3's two
        const char *separator;
    } cases[] = {
        {"</s>", "<|im_end|>", "<|im_end|>"}, {"<s>", "</s>", "</s>"},
        {"<|im_end|>", "<|endoftext|>", "<|endoftext|>"}, {"<a>", "<b>", "<a>"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Text added = {0};
        text_printf(&added, "\"added_tokens\":[{\"id\":900,\"content\":\"<t>\",\"special\":false},{\"id\":901,"
                            "\"content\":\"%s\"},{\"id\":902,\"content\":\"%s\",\"special\":true}],\"x\":[",
                    cases[i].first, cases[i].second);
        Tokenizer *tokenizer = test_tokenizer_open(changed("llama3", "\"added_tokens\":[", added.data));
        assert_string_equal(tokenizer_added(tokenizer, tokenizer_separator(tokenizer))->name, cases[i].separator);
        test_tokenizer_json(tokenizer);
        tokenizer_close(tokenizer);
        text_close(&added);
    }
}

// ---- files for others ----

static void check_roles(const char *name, const char *beginning, const char *end) {
    Tokenizer *tokenizer = test_tokenizer_open(fixture(name));
    Text text = {0};
    Errors errors = {0};
    tokenizer_config_json(tokenizer, 64, &text);
    Json *json = json_parse("tokenizer_config.json", text.data, text.size, EXIT_DATA, &errors);
    assert_string_equal(json_member(json_root(json), "bos_token")->valuestring, beginning);
    assert_string_equal(json_member(json_root(json), "eos_token")->valuestring, end);
    json_close(json);
    text_close(&text);
    tokenizer_close(tokenizer);
}

TEST(names_in_tokenizer_config) {
    check_roles("gpt2", "<|endoftext|>", "<|endoftext|>");
    check_roles("llama3", "<|begin_of_text|>", "<|end_of_text|>");
    check_roles("qwen3", "<|endoftext|>", "<|endoftext|>");
}

TEST(vocabulary_and_merges_apart) {
    Tokenizer *tokenizer = test_tokenizer_open(fixture("gpt2"));
    Text vocab = {0}, merges = {0};
    Errors errors = {0};
    assert_true(tokenizer_has_merges_txt(tokenizer));
    tokenizer_vocab_json(tokenizer, &vocab);
    tokenizer_merges_txt(tokenizer, &merges);
    Json *json = json_parse("vocab.json", vocab.data, vocab.size, EXIT_DATA, &errors);
    assert_int_equal(cJSON_GetArraySize(json_root(json)), tokenizer_vocab(tokenizer));
    assert_true(json_member(json_root(json), "\u0120")->valuedouble == tokenizer->byte_ids[' ']);
    assert_true(json_member(json_root(json), "<|endoftext|>")->valuedouble == tokenizer_separator(tokenizer));
    assert_int_equal(strncmp(merges.data, "#version: 0.2\n", 14), 0);
    int64_t lines = 0;
    for (const char *at = merges.data; (at = strchr(at, '\n')); at++) lines++;
    assert_int_equal(lines, 1 + tokenizer->merge_count);
    assert_int_equal(merges.data[merges.size - 1], '\n');
    json_close(json);
    text_close(&vocab);
    text_close(&merges);
    tokenizer_close(tokenizer);
    for (int k = 1; k < KINDS; k++) {
        tokenizer = test_tokenizer_open(fixture(names[k]));
        assert_false(tokenizer_has_merges_txt(tokenizer));
        tokenizer_close(tokenizer);
    }
}

// ---- normalisation ----

TEST(long_runs_of_marks) {
    enum { MARKS = 1 << 18 };
    Text text = {0}, normalised = {0}, again = {0};
    text_add(&text, "e");
    for (int i = 0; i < MARKS; i++) text_add(&text, i % 2 ? "\u0323" : "\u0301"); // above, below, ...
    text_add(&text, "\u1ABF"); // later than Unicode 9
    text_nfc(&normalised, text.data, text.size);
    assert_int_equal(strncmp(normalised.data, "\u1EB9\u0323\u0323", 7), 0);
    assert_int_equal(strcmp(normalised.data + normalised.size - 5, "\u0301\u1ABF"), 0);
    text_nfc(&again, normalised.data, normalised.size);
    assert_string_equal(again.data, normalised.data);
    text_close(&text);
    text_close(&normalised);
    text_close(&again);
}

// ---- refusals ----

TEST(other_tokenizers_are_refused_by_name) {
    static const struct {
        const char *name, *from, *to, *message;
    } cases[] = {
        {"gpt2", "\"type\":\"BPE\"", "\"type\":\"WordPiece\"", "this tokenizer is WordPiece; byte-level BPE"},
        {"gpt2", "\"type\":\"BPE\"", "\"type\":\"Unigram\"", "`train_gpt sample MODEL --ids`"},
        {"gpt2", "\"byte_fallback\":false", "\"byte_fallback\":true", "SentencePiece's BPE, as Llama 2 has it"},
        {"gpt2", PRE BYTE_LEVEL, PRE "{\"type\":\"Metaspace\"}", "SentencePiece's BPE, as Llama 2 has it"},
        {"gpt2", PRE BYTE_LEVEL, PRE "{\"type\":\"Whitespace\"}", "its pre_tokenizer is Whitespace"},
        {"gpt2", PRE BYTE_LEVEL, PRE SEQUENCE(""), "a pre_tokenizer that ends in ByteLevel"},
        {"gpt2", PRE BYTE_LEVEL, PRE SEQUENCE(SPLIT(GPT2_REGEX, "Isolated", "false")), "ends in ByteLevel"},
        {"gpt2", PRE BYTE_LEVEL, PRE SEQUENCE(BYTE_LEVEL "," BYTE_LEVEL), "a Sequence that goes on after ByteLevel"},
        {"gpt2", PRE BYTE_LEVEL, PRE SEQUENCE("{\"type\":\"Digits\"}," BYTE_LEVEL), "its pre_tokenizer is Digits"},
        {"gpt2", PRE BYTE_LEVEL, PRE SEQUENCE(SPLIT("\\\\w+", "Isolated", "false") "," BYTES), "another pattern, \\w+"},
        {"gpt2", PRE BYTE_LEVEL, PRE SEQUENCE(SPLIT(GPT2_REGEX, "Removed", "false") "," BYTES), "is \"Isolated\""},
        {"gpt2", PRE BYTE_LEVEL, PRE SEQUENCE(SPLIT(GPT2_REGEX, "Isolated", "true") "," BYTES), "is \"Isolated\""},
        {"gpt2", PRE BYTE_LEVEL, PRE SEQUENCE(SPLIT(GPT2_REGEX, "Isolated", "false") "," BYTE_LEVEL),
         "use_regex to be \"false\""},
        {"llama3", ",\"use_regex\":false", "", "use_regex to be \"false\""},
        {"llama3", "{\"Regex\"", "{\"String\"", "a Split by a Regex"},
        {"qwen3", "{\"type\":\"NFC\"}", "{\"type\":\"Lowercase\"}", "its normalizer is Lowercase"},
        {"qwen3", "{\"type\":\"NFC\"}",
         "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"NFC\"}]}",
         "its normalizer is a Sequence of several"},
        {"qwen3", "{\"type\":\"NFC\"}", "7", "its normalizer is of no known type"},
        {"qwen3", "{\"type\":\"NFC\"}", "{\"type\":\"Sequence\",\"normalizers\":\"x\"}", "or a list"},
        {"gpt2", "\"decoder\":{\"type\":\"Byte", "\"decoder\":{\"type\":\"Word", "a decoder whose type is"},
        {"gpt2", "\"dropout\":null", "\"dropout\":0.1", "dropout to be \"null\""},
        {"gpt2", "\"special\":true", "\"special\":false,\"x\":1},{\"id\":641,\"content\":\"<x>\",\"special\":false,"
         "\"rstrip\":true", "the token \"<x>\" to have single_word, lstrip and rstrip false"},
        {"qwen3", "\"content\":\"<think>\"", "\"content\":\"<\uFFFD>\"", "not to hold U+FFFD"},
        {"qwen3", "\"content\":\"<think>\"," THINK_FLAGS "false", "\"content\":\"<a b>\"," THINK_FLAGS "true",
         "the token \"<a b>\" to have normalized false"},
        {"llama3", "\"added_tokens\":[", "\"added_tokens\":[{\"id\":700,\"content\":\"x\",\"special\":false}],\"y\":[",
         "an added token that ends documents"},
        {"llama3", "\"id\":641", "\"id\":1048576", "an id from 0 to 1048575"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        test_tokenizer_error(changed(cases[i].name, cases[i].from, cases[i].to), EXIT_DATA, cases[i].message);
}
