// HellaSwag against lm-evaluation-harness and llm.c: scripts/oracles/make_hellaswag_fixtures.py, which let both score
// the examples of tests/fixtures/hellaswag with the model there.
#include <math.h>

#include "data/hellaswag.h"
#include "data/safetensors.h"
#include "model/score.h"
#include "runtime/file.h"
#include "tests/reference/reference.h"
#include "tests/support_model.h"
#include "tests/test.h"

enum { EXAMPLES = 100, VOCAB = 400, LENGTH = 96, ENDINGS = HELLASWAG_ENDINGS };
#define FIXTURE "tests/fixtures/hellaswag/"

static const char *const styles[HELLASWAG_STYLES] = {"llmc", "lmeval"};

static void require_no_errors(const Errors *errors) {
    if (errors->count) fail_msg("%s", text_string(&errors->text));
}

static Tokenizer *open_tokenizer(const char *which) {
    Errors errors = {0};
    Tokenizer *tokenizer = tokenizer_open(which, &errors);
    require_no_errors(&errors);
    return tokenizer;
}

static void open_set(Hellaswag *set, const char *path, const Tokenizer *tokenizer, int64_t length) {
    Errors errors = {0};
    hellaswag_open(set, &(HellaswagSetup){path, tokenizer, VOCAB, length, 0}, &errors);
    require_no_errors(&errors);
}

// ---- the oracle ----

typedef struct {
    Safetensors *file;
    Tensor tokens, counts, losses, choices, accuracy;
} Expected;

static Tensor find(const Expected *expected, const char *style, const char *name, DType dtype) {
    char key[64];
    snprintf(key, sizeof key, "%s.%s", style, name);
    Tensor tensor = safetensors_find(expected->file, key);
    if (!tensor_present(tensor) || tensor.dtype != dtype) fail_msg("the fixture has no %s", key);
    return tensor;
}

static void expected_open(Expected *expected, const char *style) {
    Errors errors = {0};
    expected->file = safetensors_open(FIXTURE "expected.safetensors", EXIT_DATA, &errors);
    require_no_errors(&errors);
    expected->tokens = find(expected, style, "tokens", DTYPE_I32);
    expected->counts = find(expected, style, "counts", DTYPE_I32);
    expected->losses = find(expected, style, "losses", DTYPE_F64);
    expected->choices = find(expected, style, "choices", DTYPE_I32);
    expected->accuracy = find(expected, style, "accuracy", DTYPE_F64);
    assert_int_equal(tensor_count(expected->counts), EXAMPLES * ENDINGS * 2);
}

static int32_t int_at(Tensor tensor, int64_t index) {
    int32_t value;
    assert_in_range(index, 0, tensor_count(tensor) - 1);
    memcpy(&value, (const char *)tensor.data + (size_t)index * sizeof value, sizeof value);
    return value;
}

static double number_at(Tensor tensor, int64_t index) {
    double value;
    assert_in_range(index, 0, tensor_count(tensor) - 1);
    memcpy(&value, (const char *)tensor.data + (size_t)index * sizeof value, sizeof value);
    return value;
}

// ---- tokens ----

enum { LONG = 1000 }; // longer than any of the examples

static void check_ids(const Hellaswag *set, TokenSpan span, Tensor tokens, int64_t at, int64_t row) {
    for (int64_t i = 0; i < span.count; i++)
        if (set->ids.items[span.first + i] != int_at(tokens, at + i))
            fail_msg("example %ld, ending %ld: token %ld is %d, not %d", row / ENDINGS, row % ENDINGS, i,
                     set->ids.items[span.first + i], int_at(tokens, at + i));
}

static void check_tokens(const Hellaswag *set, HellaswagStyle style) {
    Expected expected;
    int64_t at = 0, context = 0;
    expected_open(&expected, styles[style]);
    assert_int_equal(set->examples, EXAMPLES);
    assert_non_null(set->rows[style]);
    assert_int_equal(set->cut[style], 0);
    for (int64_t row = 0; row < EXAMPLES * ENDINGS; row++) {
        const HellaswagRow *r = &set->rows[style][row];
        assert_int_equal(r->context.count, int_at(expected.counts, 2 * row));
        assert_int_equal(r->ending.count, int_at(expected.counts, 2 * row + 1));
        if (row % ENDINGS == 0) context = at, at += r->context.count;
        check_ids(set, r->context, expected.tokens, context, row);
        check_ids(set, r->ending, expected.tokens, at, row);
        at += r->ending.count;
    }
    assert_int_equal(at, tensor_count(expected.tokens));
    safetensors_close(expected.file);
}

TEST(tokens_are_those_of_both_evaluations) {
    Tokenizer *tokenizer = open_tokenizer(FIXTURE "tokenizer.json");
    Hellaswag set;
    open_set(&set, FIXTURE "examples.jsonl", tokenizer, LONG);
    check_tokens(&set, HELLASWAG_LLMC);
    check_tokens(&set, HELLASWAG_LMEVAL);
    hellaswag_close(&set);
    tokenizer_close(tokenizer);
}

TEST(a_binary_holds_what_llmc_makes_of_the_text) {
    Tokenizer *tokenizer = open_tokenizer(FIXTURE "tokenizer.json");
    Hellaswag set, text;
    open_set(&set, FIXTURE "examples.bin", NULL, LONG);
    open_set(&text, FIXTURE "examples.jsonl", tokenizer, LONG);
    check_tokens(&set, HELLASWAG_LLMC);
    assert_null(set.rows[HELLASWAG_LMEVAL]);
    assert_memory_equal(set.labels, text.labels, EXAMPLES);
    for (int64_t row = 0; row < EXAMPLES * ENDINGS; row++)
        assert_true(set.rows[0][row].size == text.rows[0][row].size);
    hellaswag_close(&set);
    hellaswag_close(&text);
    tokenizer_close(tokenizer);
}

TEST(long_contexts_are_cut_from_the_left) {
    Tokenizer *tokenizer = open_tokenizer(FIXTURE "tokenizer.json");
    Hellaswag all, cut;
    open_set(&all, FIXTURE "examples.jsonl", tokenizer, LONG);
    open_set(&cut, FIXTURE "examples.jsonl", tokenizer, LENGTH);
    for (int style = 0; style < HELLASWAG_STYLES; style++) {
        int64_t shorter = 0;
        for (int64_t row = 0; row < EXAMPLES * ENDINGS; row++) {
            const HellaswagRow *a = &all.rows[style][row], *c = &cut.rows[style][row];
            int64_t lost = a->context.count + a->ending.count - LENGTH - 1;
            if (lost < 0) lost = 0;
            shorter += lost > 0;
            assert_int_equal(c->context.count, a->context.count - lost);
            assert_int_equal(c->context.first, a->context.first + lost);
            assert_int_equal(c->ending.first, a->ending.first);
            assert_int_equal(c->ending.count, a->ending.count);
            assert_true(c->size == a->size);
        }
        assert_true(shorter > 0);
        assert_int_equal(cut.cut[style], shorter);
    }
    hellaswag_close(&all);
    hellaswag_close(&cut);
    tokenizer_close(tokenizer);
}

// ---- choices ----

static void check_choices(const Hellaswag *set, HellaswagStyle style, const Expected *expected, const double *losses) {
    for (int by_size = 0; by_size < 2; by_size++) {
        int64_t right = 0;
        for (int64_t e = 0; e < EXAMPLES; e++) {
            int chosen = hellaswag_choose(&set->rows[style][e * ENDINGS], losses + e * ENDINGS, by_size);
            if (chosen != int_at(expected->choices, 2 * e + by_size))
                fail_msg("%s, example %ld, by_size %d: %d, not %d", styles[style], e, by_size, chosen,
                         int_at(expected->choices, 2 * e + by_size));
            right += chosen == set->labels[e];
        }
        CHECK_CLOSE((double)right / EXAMPLES, number_at(expected->accuracy, by_size), 1e-12);
    }
}

TEST(choices_follow_from_losses_as_in_both_evaluations) {
    Tokenizer *tokenizer = open_tokenizer(FIXTURE "tokenizer.json");
    Hellaswag set;
    open_set(&set, FIXTURE "examples.jsonl", tokenizer, LONG);
    for (int style = 0; style < HELLASWAG_STYLES; style++) {
        Expected expected;
        double losses[EXAMPLES * ENDINGS];
        expected_open(&expected, styles[style]);
        for (int i = 0; i < EXAMPLES * ENDINGS; i++) losses[i] = number_at(expected.losses, i);
        check_choices(&set, (HellaswagStyle)style, &expected, losses);
        safetensors_close(expected.file);
    }
    hellaswag_close(&set);
    tokenizer_close(tokenizer);
}

TEST(of_equal_losses_the_first_is_chosen) {
    HellaswagRow rows[ENDINGS] = {{.size = 2}, {.size = 4}, {.size = 0}, {.size = 4}};
    assert_int_equal(hellaswag_choose(rows, (double[]){3, 2, 2, 2}, false), 1);
    assert_int_equal(hellaswag_choose(rows, (double[]){4, 2, 1, 2}, true), 1); // nothing is unlikely by no characters
    assert_int_equal(hellaswag_choose(rows, (double[]){NAN, 9, 8, 8}, false), 2);
    assert_int_equal(hellaswag_choose(rows, (double[]){NAN, NAN, NAN, NAN}, true), 0);
}

// ---- a network ----

static void open_network(Gpt *gpt, const Kernels *kernels, int64_t batch) {
    GptShape shape = {.layers = 2, .width = 24, .heads = 3, .kv_heads = 3, .head_dim = 8, .ffn_width = 64,
                      .vocab = VOCAB, .rows = 512, .context = LENGTH, .norm = NORM_LAYER, .position = POSITION_LEARNED,
                      .activation = ACTIVATION_GELU, .init = INIT_GPT2, .bias = true, .tied = true,
                      .norm_epsilon = 1e-5};
    Errors errors = {0};
    NamedTensors model = {0};
    network_open(gpt, kernels, &shape, (NetworkSize){batch, LENGTH, 0});
    gpt_export_tensors(gpt, gpt->weights, &model);
    Safetensors *st = safetensors_open(FIXTURE "model.safetensors", EXIT_DATA, &errors);
    require_no_errors(&errors);
    safetensors_read(st, gpt->kernels, model.items, model.count, &errors);
    require_no_errors(&errors);
    safetensors_close(st);
    named_tensors_close(&model);
}

static int64_t list_rows(const Hellaswag *set, HellaswagStyle style, ScoreRow *rows) {
    int64_t count = set->examples * ENDINGS;
    for (int64_t i = 0; i < count; i++) {
        const HellaswagRow *row = &set->rows[style][i];
        rows[i] = (ScoreRow){set->ids.items + row->context.first, set->ids.items + row->ending.first,
                             row->context.count, row->ending.count, i, NAN};
    }
    return count;
}

// Losses by row; returns the number of passes.
static int64_t score(Gpt *gpt, ScoreRow *rows, int64_t count, double *losses) {
    Scorer scorer;
    int64_t passes = 0;
    score_open(&scorer, gpt);
    for (int64_t done = 0; done < count; passes++) done += score_run(&scorer, rows + done, count - done);
    score_close(&scorer);
    for (int64_t i = 0; i < count; i++) losses[rows[i].number] = rows[i].loss;
    return passes;
}

TEST(a_network_scores_as_the_oracle_s) {
    static ScoreRow rows[EXAMPLES * ENDINGS];
    static double losses[EXAMPLES * ENDINGS];
    Tokenizer *tokenizer = open_tokenizer(FIXTURE "tokenizer.json");
    Hellaswag set;
    open_set(&set, FIXTURE "examples.jsonl", tokenizer, LENGTH);
    for (int i = 0; i < HELLASWAG_STYLES; i++) {
        HellaswagStyle style = (HellaswagStyle)i;
        Expected expected;
        Gpt gpt;
        expected_open(&expected, styles[style]);
        open_network(&gpt, &cpu_kernels, 5);
        int64_t count = list_rows(&set, style, rows);
        score_sort(rows, count);
        score(&gpt, rows, count, losses);
        for (int64_t row = 0; row < count; row++)
            CHECK_CLOSE(losses[row], number_at(expected.losses, row), 1e-5 * number_at(expected.losses, row));
        check_choices(&set, style, &expected, losses);
        gpt_close(&gpt);
        safetensors_close(expected.file);
    }
    hellaswag_close(&set);
    tokenizer_close(tokenizer);
}

// In the reference backend every number depends on its own row alone.
TEST(neither_padding_nor_neighbours_change_a_score) {
    enum { ROWS = 5 };
    ScoreRow rows[EXAMPLES * ENDINGS];
    double alone[ROWS], together[ROWS], sorted[ROWS];
    Tokenizer *tokenizer = open_tokenizer(FIXTURE "tokenizer.json");
    Hellaswag set;
    Gpt gpt;
    open_set(&set, FIXTURE "examples.jsonl", tokenizer, LENGTH);
    open_network(&gpt, &reference_kernels, 2);
    list_rows(&set, HELLASWAG_LMEVAL, rows);
    assert_true(score(&gpt, rows, ROWS, together) < ROWS);
    for (int i = 0; i < ROWS; i++) {
        rows[i].number = 0;
        assert_int_equal(score(&gpt, &rows[i], 1, &alone[i]), 1);
        rows[i].number = i;
    }
    score_sort(rows, ROWS);
    score(&gpt, rows, ROWS, sorted);
    for (int i = 0; i < ROWS; i++) {
        assert_true(isfinite(alone[i]) && alone[i] > 0);
        CHECK_CLOSE(together[i], alone[i], 0);
        CHECK_CLOSE(sorted[i], alone[i], 0);
    }
    gpt_close(&gpt);
    hellaswag_close(&set);
    tokenizer_close(tokenizer);
}

// ---- what is refused ----

static const char *write_file(const char *name, const void *bytes, size_t size) {
    static char path[4096];
    static const char *folder;
    Errors errors = {0};
    if (!folder) folder = test_folder("hellaswag");
    path_join(path, folder, name);
    file_replace(path, bytes, size, &errors);
    require_no_errors(&errors);
    return path;
}

static void check_refused(const char *path, const Tokenizer *tokenizer, int64_t length, int exit_code,
                          const char *expected) {
    Errors errors = {0};
    Hellaswag set;
    HellaswagSetup setup = {.path = path, .tokenizer = tokenizer, .vocab = 257, .length = length};
    bool good = hellaswag_open(&set, &setup, &errors);
    hellaswag_close(&set);
    if (good) fail_msg("accepted, expected: %s", expected);
    if (!strstr(text_string(&errors.text), expected))
        fail_msg("no \"%s\" in: %s", expected, text_string(&errors.text));
    assert_int_equal(errors.exit_code, exit_code);
    errors_close(&errors);
}

#define TEXTS "\"activity_label\": \"A\", \"ctx\": \"b c\", \"ctx_a\": \"b\", \"ctx_b\": \"c\""
#define GOOD "{" TEXTS ", \"endings\": [\"d\", \"e\", \"f\", \"g\"], \"label\": 1}\n"

TEST(wrong_lines_are_refused_by_number) {
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"", "no examples"},
        {"\n \n", "no examples"},
        {GOOD "[1]\n", "line 2: expected an example of HellaSwag, with a string \"activity_label\""},
        {GOOD "\n{" TEXTS ", \"endings\": [\"d\", \"e\", \"f\", \"g\"]}\n", "line 3: expected \"label\""},
        {"{" TEXTS ", \"endings\": [\"d\", \"e\", \"f\", \"g\"], \"label\": 4}\n", "line 1: expected \"label\""},
        {"{" TEXTS ", \"endings\": [\"d\", \"e\", \"f\", \"g\"], \"label\": -1}\n", "line 1: expected \"label\""},
        {"{" TEXTS ", \"endings\": [\"d\", \"e\", \"f\", \"g\"], \"label\": \"\"}\n", "line 1: expected \"label\""},
        {"{" TEXTS ", \"endings\": [\"d\", \"e\", \"f\", \"g\"], \"label\": 1.5}\n", "line 1: expected \"label\""},
        {"{" TEXTS ", \"endings\": [\"d\", \"e\", \"f\", \"g\"], \"label\": \"12\"}\n", "line 1: expected \"label\""},
        {"{" TEXTS ", \"endings\": [\"d\", \"e\", \"f\"], \"label\": 1}\n", "line 1: expected \"endings\", four"},
        {"{" TEXTS ", \"endings\": [\"d\", \"e\", \"f\", 7], \"label\": 1}\n", "line 1: expected \"endings\""},
        {"{" TEXTS ", \"endings\": \"defg\", \"label\": 1}\n", "line 1: expected \"endings\""},
        {"{" TEXTS ", \"label\": 1}\n", "line 1: expected \"endings\""},
        {"{\"activity_label\": \"A\", \"ctx\": \"\", \"ctx_a\": \"b\", \"ctx_b\": \"c\", \"endings\": [\"d\", "
         "\"e\", \"f\", \"g\"], \"label\": 1}\n", "line 1: \"ctx\" is empty"},
        {"{\"activity_label\": \"A\", \"ctx\": \"b\", \"ctx_a\": \"b\", \"endings\": [\"d\", \"e\", \"f\", \"g\"], "
         "\"label\": 1}\n", "with a string \"ctx_b\""},
        {GOOD "{" TEXTS ", \"endings\": [\"d\xFF\", \"e\", \"f\", \"g\"], \"label\": 1}\n", "line 2:1:"},
        {GOOD "{" TEXTS ", \"endings\": [\"d\", \"e", "line 2:1:"},
        {"{" TEXTS ", \"endings\": [\"d\", \"e\", \"f\", \"too long for it\"], \"label\": 1}\n",
         "ending 3 has 16 tokens, and the model sees 12"},
    };
    Tokenizer *tokenizer = open_tokenizer("byte");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_refused(write_file("bad.jsonl", cases[i].text, strlen(cases[i].text)), tokenizer, 12, EXIT_DATA,
                      cases[i].expected);
    Text endless = {0};
    text_printf(&endless, GOOD "{\"ctx\": \"%*s\"}\n", 1 << 20, "");
    check_refused(write_file("endless.jsonl", endless.data, endless.size), tokenizer, 12, EXIT_DATA,
                  "line 2: longer than a mebibyte");
    text_close(&endless);
    check_refused("no/such.jsonl", tokenizer, 12, EXIT_NO_INPUT, "scripts/get_data.sh hellaswag");
    check_refused(write_file("good.jsonl", GOOD, strlen(GOOD)), NULL, 12, EXIT_USAGE, "no tokenizer");
    tokenizer_close(tokenizer);
}

TEST(text_that_is_good_is_read) {
    static const char lines[] = "\n" GOOD "{" TEXTS ", \"endings\": [\"d\", \"\", \"f\", \"g\"], \"label\": \"3\", "
                                "\"more\": {}}\r\n" GOOD;
    Tokenizer *tokenizer = open_tokenizer("byte");
    Errors errors = {0};
    Hellaswag set;
    HellaswagSetup setup = {write_file("some.jsonl", lines, strlen(lines)), tokenizer, 257, 12, 2};
    hellaswag_open(&set, &setup, &errors);
    require_no_errors(&errors);
    assert_int_equal(set.examples, 2);
    assert_int_equal(set.labels[0], 1);
    assert_int_equal(set.labels[1], 3);
    const HellaswagRow *row = &set.rows[HELLASWAG_LMEVAL][ENDINGS + 1];
    assert_int_equal(row->context.count, strlen("A: b C"));
    assert_int_equal(row->ending.count, 1);
    assert_true(row->size == 0);
    hellaswag_close(&set);
    tokenizer_close(tokenizer);
}

enum { WORDS = 512 + 2 * (5 + 2 + 4 * 2) }; // a header and two examples of one-token texts

static void fill_words(uint16_t words[WORDS]) {
    int32_t header[256] = {20240522, 1, 2, 30};
    memcpy(words, header, sizeof header);
    for (int example = 0; example < 2; example++) {
        uint16_t *at = words + 512 + 15 * example;
        uint16_t begin[] = {65535, 30, (uint16_t)example, 3, 4, 1, 65};
        memcpy(at, begin, sizeof begin);
        for (int i = 7; i < 15; i++) at[i] = i % 2 ? 1 : 66;
    }
}

TEST(wrong_words_are_refused_by_byte) {
    static const struct {
        int word;
        uint16_t value;
        const char *expected;
    } cases[] = {
        {0, 1, "byte 0: expected 20240522"},
        {2, 2, "byte 4: expected version 1"},
        {4, 0, "byte 8: expected 1 to 65535 examples"},
        {4, 3, "byte 1084: the example goes on beyond its end"},
        {4, 1, "byte 1054: more bytes behind the last example"},
        {6, 32, "byte 12: the longest example"},
        {512, 7, "byte 1024: expected the mark 65535"},
        {513, 2, "byte 1028: the example goes on beyond its end"},
        {513, 28, "byte 1052: the example goes on beyond its end"},
        {513, 31, "byte 1026: the example is shorter than it says"},
        {513, 62, "byte 1026: an example beyond the end of the file"},
        {527 + 2, 5, "byte 1058: examples are not numbered from 0"},
        {527 + 3, 4, "byte 1060: expected a label from 0 to 3"},
        {527 + 4, 3, "byte 1062: expected four endings"},
        {527 + 5, 0, "byte 1064: expected at least one token"},
        {527 + 5, 60000, "the example goes on beyond its end"},
        {527 + 6, 257, "byte 1066: the token is not in the model's vocabulary"},
        {527 + 13, 0, "byte 1080: expected at least one token"},
    };
    uint16_t words[WORDS];
    fill_words(words);
    Errors errors = {0};
    Hellaswag set;
    HellaswagSetup setup = {.path = write_file("good.bin", words, sizeof words), .vocab = 257, .length = 12};
    hellaswag_open(&set, &setup, &errors);
    require_no_errors(&errors);
    assert_int_equal(set.examples, 2);
    hellaswag_close(&set);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fill_words(words);
        words[cases[i].word] = cases[i].value;
        check_refused(write_file("bad.bin", words, sizeof words), NULL, 12, EXIT_DATA, cases[i].expected);
    }
    check_refused(write_file("short.bin", words, 1000), NULL, 12, EXIT_DATA, "byte 0: too short for a header");
    fill_words(words);
    check_refused(write_file("cut.bin", words, sizeof words - 1), NULL, 12, EXIT_DATA,
                  "an example beyond the end of the file");
}
