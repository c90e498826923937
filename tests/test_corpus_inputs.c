// Inputs of a corpus: any number of threads gives the same bytes, compressed files and standard input those of plain
// ones; where large texts are cut; which of several mistakes is named; and tokenizers that are trained.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "data/bpe_train.h"
#include "data/corpus_units.h"
#include "data/shards.h"
#include "data/tokenizer_rows.h"
#include "runtime/file.h"
#include "runtime/philox.h"
#include "tests/support_corpus.h"
#include "tests/test.h"

enum { MIB = 1 << 20 };

static void write_text(const char *name, const Text *text) {
    char path[4096];
    corpus_folder("corpus_inputs");
    corpus_write(path, name, text_string(text), text->size);
}

// Words and lines, `size` bytes or a few more.
static Text make_text(uint64_t seed, size_t size) {
    Text text = {0};
    for (uint64_t i = 0; text.size < size; i++) {
        uint32_t number = philox_at(seed, STREAM_TEST, 0, i).word[0];
        text_printf(&text, "w%x%s", number % 5000, number >> 28 ? " " : "\n");
    }
    return text;
}

static void add_document(Text *lines, const char *text, size_t size) {
    text_add(lines, "{\"text\": \"");
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '\n') text_add(lines, "\\n");
        else text_append(lines, text + i, 1);
    }
    text_add(lines, "\"}\n");
}

// Documents of many sizes, one longer than two units, some blank lines.
static Text make_lines(uint64_t seed, int documents) {
    Text lines = {0};
    for (int i = 0; i < documents; i++) {
        uint32_t number = philox_at(seed, STREAM_TEST, 1, (uint64_t)i).word[0];
        Text text = make_text(seed + (uint64_t)i, i == documents / 2 ? 2 * MIB + MIB / 2 : number % 3000);
        add_document(&lines, text_string(&text), number % 17 ? text.size : 0);
        if (number % 5 == 0) text_add(&lines, number % 2 ? "\n" : " \t\r\n");
        text_close(&text);
    }
    return lines;
}

static Tokenizer *trained(void) {
    Errors errors = {0};
    File text;
    PieceCounts pieces = {0};
    assert_true(file_read(&text, "tests/fixtures/bpe/text.txt", MIB, EXIT_NO_INPUT, &errors));
    for (size_t at = 0; at + 8 <= text.size; at += 8) pieces_add(&pieces, text.bytes + at, 8, 1);
    file_close(&text);
    return bpe_train(&pieces, 700, true);
}

static Tokenizer *bytes(void) {
    Errors none = {0};
    return tokenizer_open("byte", &none);
}

static Outcome prepare(Tokenizer *tokenizer, const char *input, const char *out, double val_fraction, int threads) {
    Outcome outcome = corpus_run(tokenizer, &(Preparation){input, out, val_fraction, 1 << 20, NULL, threads});
    if (!outcome.good) fail_msg("%s", text_string(&outcome.errors.text));
    return outcome;
}

// Every file of one dataset, but `sources` in dataset.json where `shards_only`.
static void check_same(const char *a, const char *b, bool shards_only) {
    TextList names = {0}, others = {0};
    Errors errors = {0};
    assert_true(directory_list(&names, a, &errors) && directory_list(&others, b, &errors));
    assert_int_equal(names.count, others.count);
    for (int64_t i = 0; i < names.count; i++) {
        char path[4096], other[4096], hash[HASH_HEX], other_hash[HASH_HEX];
        uint64_t size;
        if (shards_only && strcmp(names.items[i], "dataset.json") == 0) continue;
        path_join(path, a, names.items[i]);
        path_join(other, b, names.items[i]);
        assert_true(file_hash(path, hash, &size, EXIT_DATA, &errors));
        assert_true(file_hash(other, other_hash, &size, EXIT_DATA, &errors));
        if (strcmp(hash, other_hash) != 0) fail_msg("%s and %s differ", path, other);
    }
    text_list_close(&names);
    text_list_close(&others);
}

// ---- threads ----

TEST(threads_make_no_difference) {
    Text text = make_text(1, 5 * MIB / 2), lines = make_lines(2, 300), small = make_text(3, 100);
    static const char *const inputs[] = {"mixed", "mixed/a.txt"}; // whole documents are held out, and ends
    write_text("mixed/a.txt", &text);
    write_text("mixed/b.jsonl", &lines);
    write_text("mixed/c.txt", &small);
    for (int i = 0; i < 2; i++)
        for (int kind = 0; kind < 2 - i; kind++) {
            Outcome one = prepare(kind ? trained() : bytes(), inputs[i], "one", 0.1, 1);
            assert_int_equal(one.counts.replaced_bytes, 0);
            for (int threads = 2; threads <= 5; threads += 3) {
                Outcome several = prepare(kind ? trained() : bytes(), inputs[i], "several", 0.1, threads);
                assert_true(several.counts.bigram_bits == one.counts.bigram_bits);
                check_same(one.out, several.out, false);
            }
        }
    text_close(&text);
    text_close(&lines);
    text_close(&small);
}

// So much that each batch is used again.
TEST(batches_follow_each_other) {
    Text block = make_text(12, MIB / 3), text = {0};
    for (int i = 0; text.size < 20 * MIB; i++) {
        text_printf(&text, "block %d\n", i);
        text_append(&text, block.data, block.size);
    }
    write_text("batches.txt", &text);
    Outcome one = prepare(bytes(), "batches.txt", "one", 0.1, 1), two = prepare(bytes(), "batches.txt", "two", 0.1, 2);
    assert_int_equal(two.counts.train_bytes + two.counts.val_bytes, text.size);
    check_same(one.out, two.out, false);
    text_close(&block);
    text_close(&text);
}

TEST(the_first_mistake_is_named) {
    static const struct {
        int64_t wrong[2]; // documents
        bool damaged;     // the file, behind both
        const char *message;
    } cases[] = {
        {{3, 2000}, false, "line 4: expected"},
        {{2000, 1999}, false, "line 2000: expected"},
        {{1999, 1999}, true, "line 2000: expected"},
        {{-1, -1}, true, "something else follows"},
    };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++)
        for (int threads = 1; threads <= 3; threads += 2) {
            Text lines = {0};
            for (int64_t i = 0; i < 2500; i++) {
                bool wrong = i == cases[c].wrong[0] || i == cases[c].wrong[1];
                text_printf(&lines, "{\"%s\": \"%01000ld\"}\n", wrong ? "txet" : "text", i);
            }
            size_t bound = compressBound(lines.size) + 64;
            Text packed = {.data = malloc(bound), .capacity = bound};
            packed.size = ZSTD_compress(packed.data, bound, lines.data, lines.size, 1);
            if (cases[c].damaged) text_add(&packed, "more");
            write_text("wrong.jsonl.zst", &packed);
            Outcome outcome = corpus_run(bytes(), &(Preparation){"wrong.jsonl.zst", "wrong", 0.1, MIB, NULL, threads});
            assert_false(outcome.good);
            assert_int_equal(outcome.errors.count, 1);
            if (!strstr(text_string(&outcome.errors.text), cases[c].message))
                fail_msg("no \"%s\" in %s", cases[c].message, text_string(&outcome.errors.text));
            assert_false(path_exists(outcome.out));
            errors_close(&outcome.errors);
            text_close(&lines);
            text_close(&packed);
        }
}

// ---- where texts are cut ----

// The text of one split, of bytes, with a bar for each separator but the last.
static Text read_split(const char *out, const char *split) {
    char pattern[4096], name[32];
    snprintf(name, sizeof name, "%s_*.bin", split);
    path_join(pattern, out, name);
    TextList globs = {0};
    Text text = {0};
    Errors errors = {0};
    text_list_add(&globs, pattern);
    Shards *shards = shards_open(&globs, SHARD_HEADER, &errors);
    assert_non_null(shards);
    assert_int_equal(shards_count(shards), 1);
    int64_t count = shards_tokens(shards);
    int32_t *ids = malloc((size_t)count * sizeof *ids);
    assert_true(shards_read(shards, 0, count - 1, 257, ids, &errors));
    assert_int_equal(ids[count - 1], 256);
    for (int64_t i = 0; i + 1 < count; i++) text_append(&text, &(char){ids[i] == 256 ? '|' : (char)ids[i]}, 1);
    free(ids);
    shards_close(shards);
    text_list_close(&globs);
    return text;
}

// Ends are held out where the rule says for the whole text, however far beyond the window that is.
TEST(the_held_out_end_of_a_large_text) {
    static const struct {
        size_t size, plain_from, plain_to; // without whitespace between
        char other;                        // than newlines, at plain_to; 0: none
    } cases[] = {
        {300, 10, 200, '\n'},                      // no unit
        {3 * MIB, 3 * MIB, 3 * MIB, '\n'},         // lines everywhere
        {4 * MIB, MIB / 2, 7 * MIB / 2, '\n'},     // the line's end is far behind the place to look from
        {4 * MIB, 5 * MIB / 4, 15 * MIB / 4, ' '}, // before whitespace, and no line ends
        {4 * MIB, MIB + 5, 4 * MIB, 0},            // no place at all
        {2 * MIB, MIB - 5, MIB + 5, '\n'},         // one right at the end of a unit
    };
    Errors none = {0};
    Tokenizer *tokenizer = tokenizer_open("byte", &none);
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++)
        for (int packed = 0; packed < 2; packed++) {
            Text text = {0}, file = {0};
            for (size_t i = 0; i < cases[c].size; i++) {
                char byte = (char)('a' + i % 23);
                if (i % 7 == 6) byte = cases[c].other == ' ' && i > cases[c].plain_to ? ' ' : i % 3 ? ' ' : '\n';
                if (i >= cases[c].plain_from && i < cases[c].plain_to) byte = 'x';
                if (i == cases[c].plain_to) byte = cases[c].other;
                text_append(&text, &byte, 1);
            }
            text_append(&file, text.data, text.size);
            if (packed) {
                file.size = compressBound(text.size);
                free(file.data);
                file.data = malloc(file.size);
                file.size = ZSTD_compress(file.data, file.size, text.data, text.size, 1);
            }
            write_text("large.txt", &file);
            CorpusSetup setup = {.val_fraction = 0.5};
            size_t cut = corpus_tail(tokenizer, text.data, text.size, corpus_tail_target(&setup, (int64_t)text.size));
            if (cut < text.size) {
                Outcome outcome = corpus_run(bytes(), &(Preparation){"large.txt", "large", 0.5, 1 << 23, NULL, 2});
                if (!outcome.good) fail_msg("case %zu: %s", c, text_string(&outcome.errors.text));
                Text train = read_split(outcome.out, "train"), val = read_split(outcome.out, "val");
                if (train.size != cut) fail_msg("case %zu: cut at %zu, expected %zu", c, train.size, cut);
                assert_memory_equal(train.data, text.data, cut);
                assert_int_equal(val.size, text.size - cut);
                assert_memory_equal(val.data, text.data + cut, val.size);
                text_close(&train);
                text_close(&val);
            } else {
                assert_int_equal(c, 4);
                Outcome outcome = corpus_run(bytes(), &(Preparation){"large.txt", "large", 0.5, 1 << 23, NULL, 2});
                assert_false(outcome.good);
                errors_close(&outcome.errors);
            }
            text_close(&text);
            text_close(&file);
        }
    tokenizer_close(tokenizer);
}

// A trained tokenizer gives the ids of the whole text, wherever units end.
TEST(units_make_no_difference) {
    Text text = make_text(5, 7 * MIB / 2);
    write_text("units.txt", &text);
    Outcome outcome = corpus_run(trained(), &(Preparation){"units.txt", "units", 0.3, 1 << 23, NULL, 2});
    assert_true(outcome.good);
    Tokenizer *tokenizer = trained();
    CorpusSetup setup = {.val_fraction = 0.3};
    size_t cut = corpus_tail(tokenizer, text.data, text.size, corpus_tail_target(&setup, (int64_t)text.size));
    TokenList whole[2] = {{0}, {0}};
    tokenizer_encode(tokenizer, text.data, cut, &whole[0]);
    tokenizer_encode(tokenizer, text.data + cut, text.size - cut, &whole[1]);
    for (int split = 0; split < 2; split++) {
        char pattern[4096], *patterns[] = {pattern};
        path_join(pattern, outcome.out, split ? "val_000000.bin" : "train_000000.bin");
        Shards *shards = shards_open(&(TextList){patterns, 1, 1}, SHARD_HEADER, &outcome.errors);
        int64_t count = shards_tokens(shards);
        assert_int_equal(count, whole[split].count + 1);
        int32_t *ids = malloc((size_t)count * sizeof *ids);
        assert_true(shards_read(shards, 0, count - 1, 700, ids, &outcome.errors));
        assert_memory_equal(ids, whole[split].items, (size_t)(count - 1) * sizeof *ids);
        free(ids);
        shards_close(shards);
        token_list_close(&whole[split]);
    }
    tokenizer_close(tokenizer);
    text_close(&text);
}

// The number of a document counts those of the units before, and no blank lines.
TEST(numbers_of_documents_go_on_over_units) {
    enum { DOCUMENTS = 3000 };
    Text lines = {0}, parts[SPLITS] = {{0}, {0}};
    for (int i = 0; i < DOCUMENTS; i++) {
        Text *part = &parts[philox_uniform(1, STREAM_SPLIT, 0, (uint64_t)i) < 0.1 ? SPLIT_VAL : SPLIT_TRAIN];
        text_printf(&lines, "%s{\"text\": \"%01000d\"}\n", i % 7 ? "" : "\n", i);
        text_printf(part, "%01000d|", i);
    }
    write_text("numbers.jsonl", &lines);
    Outcome outcome = corpus_run(bytes(), &(Preparation){"numbers.jsonl", "numbers", 0.1, 1 << 23, NULL, 2});
    assert_true(outcome.good);
    for (int split = 0; split < SPLITS; split++) {
        Text text = read_split(outcome.out, split == SPLIT_VAL ? "val" : "train");
        text_add(&text, "|");
        assert_int_equal(text.size, parts[split].size);
        assert_memory_equal(text.data, parts[split].data, text.size);
        text_close(&text);
        text_close(&parts[split]);
    }
    text_close(&lines);
}

// ---- compressed files and standard input ----

static Text gzip(const Text *text) {
    Text packed = {0};
    z_stream z = {0};
    size_t bound = compressBound(text->size) + 64;
    packed.data = malloc(bound);
    packed.capacity = bound;
    assert_int_equal(deflateInit2(&z, 1, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (unsigned char *)text->data;
    z.avail_in = (unsigned)text->size;
    z.next_out = (unsigned char *)packed.data;
    z.avail_out = (unsigned)bound;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    packed.size = bound - z.avail_out;
    deflateEnd(&z);
    return packed;
}

TEST(compressed_files_are_the_texts_in_them) {
    Text text = make_text(6, 3 * MIB / 2), lines = make_lines(7, 100);
    const struct {
        const Text *text;
        const char *plain, *packed;
    } cases[] = {{&text, "plain.txt", "packed.txt.gz"}, {&lines, "plain.jsonl", "packed.jsonl.gz"},
                 {&lines, "plain.jsonl", "packed.jsonl"}, {&text, "plain.txt", "packed.text"}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        Text packed = gzip(cases[c].text);
        write_text(cases[c].plain, cases[c].text);
        write_text(cases[c].packed, &packed);
        Outcome plain = prepare(bytes(), cases[c].plain, "plain", 0.1, 2);
        Outcome other = prepare(bytes(), cases[c].packed, "packed", 0.1, 2);
        assert_int_equal(plain.counts.documents, other.counts.documents);
        check_same(plain.out, other.out, true);
        text_close(&packed);
    }
    Text zeros = {0}, packed;
    text_append(&zeros, "a\0b", 3);
    packed = gzip(&zeros);
    write_text("odd/binary.tar.gz", &packed); // binary inside: skipped as other binary files are
    write_text("odd/text.txt", &text);
    Outcome odd = prepare(bytes(), "odd", "odd_out", 0.1, 2);
    assert_int_equal(odd.counts.skipped_files, 1);
    assert_int_equal(odd.counts.documents, 1);
    text_close(&zeros);
    text_close(&packed);
    text_close(&text);
    text_close(&lines);
}

static Outcome prepare_input(const char *name, Tokenizer *tokenizer, double val_fraction) {
    char path[4096];
    path_join(path, corpus_folder("corpus_inputs"), name);
    int before = dup(STDIN_FILENO), file = open(path, O_RDONLY);
    assert_true(file >= 0);
    dup2(file, STDIN_FILENO);
    Outcome outcome = corpus_run(tokenizer, &(Preparation){"-", "input", val_fraction, 1 << 20, NULL, 2});
    dup2(before, STDIN_FILENO);
    close(file);
    close(before);
    return outcome;
}

TEST(standard_input_is_a_file_of_lines) {
    Text lines = make_lines(8, 400), few = make_lines(9, 5);
    write_text("many.jsonl", &lines);
    write_text("few.jsonl", &few);
    static const char *const names[] = {"many.jsonl", "few.jsonl"};
    for (int i = 0; i < 2; i++) {
        Outcome file = prepare(bytes(), names[i], "file", 0.1, 2);
        Outcome input = prepare_input(names[i], bytes(), 0.1);
        if (!input.good) fail_msg("%s", text_string(&input.errors.text));
        assert_int_equal(input.counts.documents, file.counts.documents);
        check_same(file.out, input.out, true);
    }
    lines.size -= 5; // the writer died
    write_text("died.jsonl", &lines);
    Outcome died = prepare_input("died.jsonl", bytes(), 0.1);
    assert_int_equal(died.errors.exit_code, EXIT_DATA);
    assert_non_null(strstr(text_string(&died.errors.text), "standard input, line "));
    errors_close(&died.errors);
    Text none = {0};
    write_text("none.jsonl", &none);
    Outcome empty = prepare_input("none.jsonl", bytes(), 0.1);
    assert_int_equal(empty.errors.exit_code, EXIT_NO_INPUT);
    errors_close(&empty.errors);
    text_close(&lines);
    text_close(&few);
}

TEST(the_member_that_holds_the_text) {
    Text lines = {0};
    for (int i = 0; i < 50; i++) text_printf(&lines, "{\"text\": 1, \"body\": \"b%d c\"}\n", i);
    write_text("field.jsonl", &lines);
    Outcome good = corpus_run(bytes(), &(Preparation){"field.jsonl", "field", 0.2, 1 << 20, "body", 2});
    assert_true(good.good);
    assert_int_equal(good.counts.documents, 50);
    Outcome bad = corpus_run(bytes(), &(Preparation){"field.jsonl", "field", 0.2, 1 << 20, "content", 2});
    assert_int_equal(bad.errors.exit_code, EXIT_DATA);
    assert_non_null(strstr(text_string(&bad.errors.text), "line 1: expected an object with a string \"content\""));
    errors_close(&bad.errors);
    text_close(&lines);
}

// ---- tokenizers that are trained ----

static Tokenizer *train_on(const char *name, double val_fraction, int threads, CorpusTraining *facts, Errors *errors) {
    TextList inputs = {0};
    char path[4096], out[4096];
    path_join(path, corpus_folder("corpus_inputs"), name);
    path_join(out, corpus_folder("corpus_inputs"), "trained");
    text_list_add(&inputs, strcmp(name, "-") == 0 ? name : path);
    CorpusSetup setup = {&inputs, out, val_fraction, 1 << 20, "text", threads, true};
    Tokenizer *tokenizer = corpus_train(&setup, 600, facts, errors);
    text_list_close(&inputs);
    return tokenizer;
}

// What is held out is another language.
TEST(tokenizers_are_trained_on_the_training_split) {
    Text lines = {0}, tail = {0};
    PieceCounts pieces = {0};
    CorpusTraining facts;
    Errors errors = {0};
    for (int i = 0; i < 300; i++) {
        bool held = philox_uniform(1, STREAM_SPLIT, 0, (uint64_t)i) < 0.3;
        text_printf(&lines, "{\"text\": \"%s\"}\n", held ? "zzzzzzzz" : "river");
        if (!held) pieces_add(&pieces, "river", 5, 1);
    }
    for (int i = 0; i < 1000; i++) text_add(&tail, i < 600 ? "river\n" : "zzzzz\n");
    write_text("split.jsonl", &lines);
    write_text("split.txt", &tail);
    Tokenizer *expected = bpe_train(&pieces, 600, true);
    Tokenizer *documents = train_on("split.jsonl", 0.3, 2, &facts, &errors);
    assert_string_equal(tokenizer_hash(documents), tokenizer_hash(expected));
    assert_int_equal(facts.words, 1);
    Tokenizer *ends = train_on("split.txt", 0.41, 2, &facts, &errors); // with newlines, which are words of their own
    assert_string_equal(tokenizer_hash(ends), tokenizer_hash(expected));
    assert_int_equal(facts.words, 2);
    tokenizer_close(expected);
    tokenizer_close(documents);
    tokenizer_close(ends);
    assert_null(train_on("-", 0.3, 2, &facts, &errors));
    assert_int_equal(errors.exit_code, EXIT_USAGE);
    errors_close(&errors);
    text_close(&lines);
    text_close(&tail);
}

TEST(training_and_threads) {
    Text lines = make_lines(10, 300), text = {0}, damaged = make_text(11, 100);
    CorpusTraining facts[2];
    Errors errors = {0};
    for (int i = 0; i < 2000; i++) text_printf(&text, "caf\xC3\xA9 %d \xFF\xC3 end\n", i % 50); // not UTF-8 everywhere
    write_text("train/a.jsonl", &lines);
    write_text("train/b.txt", &text);
    Tokenizer *one = train_on("train", 0.1, 1, &facts[0], &errors);
    Tokenizer *three = train_on("train", 0.1, 3, &facts[1], &errors);
    assert_non_null(one);
    assert_int_equal(tokenizer_vocab(one), 600);
    assert_string_equal(tokenizer_hash(one), tokenizer_hash(three));
    assert_int_equal(facts[0].words, facts[1].words);
    assert_int_equal(facts[0].bytes, facts[1].bytes);
    assert_true(token_table_find(&one->tokens, "\xEF\xBF\xBD", 3) >= 0);
    tokenizer_close(one);
    tokenizer_close(three);
    write_text("train/c.txt.gz", &damaged);
    assert_null(train_on("train", 0.1, 3, &facts[1], &errors));
    assert_int_equal(errors.exit_code, EXIT_DATA);
    assert_non_null(strstr(text_string(&errors.text), "c.txt.gz"));
    errors_close(&errors);
    text_close(&lines);
    text_close(&text);
    text_close(&damaged);
}
