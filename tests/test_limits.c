// Limits of what is read, and how much is told of what is wrong: hostile files end quickly, in one screen of messages
// that a terminal can show.
#include <unistd.h>

#include "commands/config.h"
#include "data/shards.h"
#include "data/tokenizer_rows.h"
#include "runtime/file.h"
#include "runtime/json.h"
#include "tests/test.h"

static void write_text(const char *path, const Text *text) {
    Errors errors = {0};
    if (!file_replace(path, text->data, text->size, &errors)) fail_msg("%s", text_string(&errors.text));
}

// Checks that the messages hold `says` and nothing that commands a terminal; closes them.
static void check_told(Errors *errors, const char *says) {
    const char *text = text_string(&errors->text);
    if (!strstr(text, says)) fail_msg("%s is not in: %s", says, text);
    for (const char *c = text; *c; c++) assert_true((unsigned char)*c >= ' ' || *c == '\n');
    assert_true(errors->text.size < (1 << 17));
    errors_close(errors);
}

// ---- tokenizers ----

typedef struct {
    const char *name; // of token 256
    const char *merge;
    int64_t merges;
    const char *says; // NULL: it is good
} TokenizerCase;

static void write_tokenizer(const char *path, const TokenizerCase *c) {
    Text text = {0};
    JsonWriter w = {.out = &text};
    json_begin(&w, NULL, '{');
    json_raw(&w, "added_tokens", "[{\"id\":257,\"content\":\"<|endoftext|>\"}]");
    json_raw(&w, "pre_tokenizer", "{\"type\":\"ByteLevel\"}");
    json_raw(&w, "decoder", "{\"type\":\"ByteLevel\"}");
    json_begin(&w, "model", '{');
    json_string(&w, "type", "BPE");
    json_begin(&w, "vocab", '{');
    for (int byte = 0; byte < 256; byte++) {
        Text name = {0};
        byte_level_write(&name, &(char){(char)byte}, 1);
        json_integer(&w, text_string(&name), byte);
        text_close(&name);
    }
    json_integer(&w, c->name, 256);
    json_end(&w, '}');
    json_begin(&w, "merges", '[');
    for (int64_t i = 0; i < c->merges; i++) json_raw(&w, NULL, c->merge);
    json_end(&w, ']');
    json_end(&w, '}');
    json_end(&w, '}');
    write_text(path, &text);
    text_close(&text);
}

TEST(tokens_and_merges_have_limits) {
    enum { MOST = 1024 };
    static char longest[MOST + 1], longer[MOST + 2];
    memset(longest, 'a', MOST);
    memset(longer, 'a', MOST + 1);
    const TokenizerCase cases[] = {
        {longest, "", 0, NULL},
        {longer, "", 0, "aaa...\" to have at most 1024 bytes"},
        {"ab", "\"a b\"", 1 << 20, NULL},
        {"ab", "\"a b\"", (1 << 20) + 1, "at most 1048576 merges"},
        {"ab", "\"\\u001b \\u001b\"", 1, "a merge of two tokens of the vocabulary"},
        {"\x1b[2J\n\xc2\x9b", "", 0, "a token in the byte-level alphabet"},
    };
    char path[4096];
    path_join(path, test_folder("limits_tokenizer"), "tokenizer.json");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Errors errors = {0};
        write_tokenizer(path, &cases[i]);
        Tokenizer *tokenizer = tokenizer_open(path, &errors);
        assert_true((tokenizer != NULL) == (cases[i].says == NULL));
        if (cases[i].says) check_told(&errors, cases[i].says);
        tokenizer_close(tokenizer);
    }
}

TEST(the_name_of_a_token_cannot_command_a_terminal) {
    static const char json[] =
        "{\"added_tokens\":[{\"id\":0,\"content\":\"<|endoftext|>\"},"
        "{\"id\":1,\"content\":\"\\u001b]0;x\\u0007\\n\\u009b\\u202e\"},"
        "{\"id\":2,\"content\":\"\\u001b]0;x\\u0007\\n\\u009b\\u202e\"}],"
        "\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"decoder\":{\"type\":\"ByteLevel\"},"
        "\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}";
    char path[4096];
    Errors errors = {0};
    Text text = {0};
    text_add(&text, json);
    path_join(path, test_folder("limits_name"), "tokenizer.json");
    write_text(path, &text);
    assert_null(tokenizer_open(path, &errors));
    check_told(&errors, "the token \"\\x1b]0;x\\x07\\x0a\\xc2\\x9b\\xe2\\x80\\xae\" to have one id");
    text_close(&text);
}

TEST(gpt2_has_no_more_merges_than_it_has) {
    char path[4096], directory[4096];
    Errors errors = {0};
    Text text = {0};
    const char *folder = test_folder("limits_gpt2");
    path_join(directory, folder, "gpt2");
    assert_true(directory_make(directory, &errors));
    path_join(path, directory, "merges.txt");
    for (int i = 0; i < 50001; i++) text_add(&text, "a b\n");
    write_text(path, &text);
    setenv("THALWEG_DATA", folder, 1);
    assert_null(tokenizer_open("gpt2", &errors));
    check_told(&errors, "merges.txt:50001: expected 50000 merges and no more");
    text_clear(&text);
    for (int size = 1; size <= 1024; size *= 2) // the last is of 2048 bytes
        for (int part = 0; part < 2; part++) {
            for (int i = 0; i < size; i++) text_add(&text, "a");
            text_add(&text, part ? "\n" : " ");
        }
    write_text(path, &text);
    assert_null(tokenizer_open("gpt2", &errors));
    check_told(&errors, "merges.txt:11: expected two tokens");
    unsetenv("THALWEG_DATA");
    text_close(&text);
}

// ---- configurations ----

static void check_config(const char *path, int mistakes, const char *says) {
    Config config = {0};
    Errors errors = {0};
    assert_false(config_load(&config, path, NULL, 0, &errors));
    assert_int_equal(errors.count, mistakes);
    check_told(&errors, says);
    config_close(&config);
}

TEST(many_mistakes_are_told_up_to_a_hundred) {
    char path[4096];
    Text text = {0};
    path_join(path, test_folder("limits_config"), "many.json");
    text_add(&text, "{");
    for (int i = 0; i < 200000; i++) text_printf(&text, "\"\\u001b[%d\":0,", i);
    text_add(&text, "\"model.depth\":4}");
    write_text(path, &text);
    check_config(path, ERRORS_TOLD + 1, "\\x1b[99: there is no such key");
    text_clear(&text);
    text_add(&text, "{\"");
    for (int i = 0; i < 1000000; i++) text_add(&text, "k");
    text_add(&text, "\": 0}");
    write_text(path, &text);
    check_config(path, 1, "kkk...: there is no such key");
    while (text.size <= 4 << 20) text_add(&text, "                                                                ");
    write_text(path, &text);
    check_config(path, 1, "are more than the 4194304 that such a file may have");
    text_close(&text);
}

TEST(files_extend_each_other_a_limited_number_of_times) {
    static const struct {
        int depth, width, mistakes; // files in a row; how often each names the next
        const char *says;           // NULL: they are good
    } cases[] = {
        {8, 1, 0, NULL},
        {9, 1, 1, "more than 8 files extend each other in a row"},
        {2, 63, 0, NULL},
        {2, 70, 6, "more than 64 files in all"},
        {8, 100, ERRORS_TOLD + 1, "more than 64 files in all"}, // 10^14 files, were they all read
    };
    const char *folder = test_folder("limits_extends");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[4096], name[32];
        for (int file = cases[i].depth; file > 0; file--) {
            Text text = {0};
            JsonWriter w = {.out = &text};
            json_begin(&w, NULL, '{');
            snprintf(name, sizeof name, "%d.json", file + 1);
            json_begin(&w, "extends", '[');
            for (int n = 0; n < cases[i].width && file < cases[i].depth; n++) json_string(&w, NULL, name);
            json_end(&w, ']');
            json_integer(&w, "model.depth", file);
            json_end(&w, '}');
            snprintf(name, sizeof name, "%d.json", file);
            path_join(path, folder, name);
            write_text(path, &text);
            text_close(&text);
        }
        Config config = {0};
        Errors errors = {0};
        bool good = config_load(&config, path, NULL, 0, &errors);
        assert_true(good == (cases[i].says == NULL));
        assert_int_equal(errors.count, cases[i].mistakes);
        if (good) assert_int_equal(config.model.depth, 1);
        if (!good) check_told(&errors, cases[i].says);
        config_close(&config);
    }
}

// ---- names of files ----

TEST(the_name_of_a_file_cannot_command_a_terminal) {
    static const char *const names[] = {"\x1b[2J.bin", "a\r\x7f.bin", "\xff.bin", "\xc2\x9b.bin", "\xe2\x80\xae.bin"};
    static const char *const told[] = {"\\x1b[2J.bin", "a\\x0d\\x7f.bin", "\\xff.bin", "\\xc2\\x9b.bin",
                                       "\\xe2\\x80\\xae.bin"};
    const char *folder = test_folder("limits_names");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[4096], *globs[] = {path};
        Errors errors = {0};
        Text text = {0};
        path_join(path, folder, names[i]);
        assert_null(shards_open(&(TextList){globs, 1, 1}, SHARD_HEADER, &errors));
        check_told(&errors, told[i]);
        text_add(&text, "{");
        write_text(path, &text);
        assert_null(shards_open(&(TextList){globs, 1, 1}, SHARD_HEADER, &errors));
        check_told(&errors, told[i]);
        Config config = {0};
        assert_false(config_load(&config, path, NULL, 0, &errors));
        check_told(&errors, told[i]);
        config_close(&config);
        text_close(&text);
    }
}
