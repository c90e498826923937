// Corpus: text, JSONL and folders end to end into shards that read back, the two ways to hold text out, output
// directories that are not ours, and bad input.
#include <sys/stat.h>
#include <unistd.h>

#include "data/shards.h"
#include "runtime/fault.h"
#include "runtime/file.h"
#include "runtime/philox.h"
#include "tests/support_corpus.h"
#include "tests/test.h"

static const char *folder(void) { return corpus_folder("corpus"); }

static void write_file(char path[4096], const char *name, const char *bytes, size_t size) {
    folder();
    corpus_write(path, name, bytes, size);
}

static void write_string(char path[4096], const char *name, const char *text) {
    write_file(path, name, text, strlen(text));
}

static Outcome prepare_with(Tokenizer *tokenizer, const char *input, const char *out, double val_fraction,
                            int64_t shard_tokens) {
    return corpus_run(tokenizer, &(Preparation){input, out, val_fraction, shard_tokens, NULL, 0});
}

static Outcome prepare(const char *input, const char *out, double val_fraction, int64_t shard_tokens) {
    Errors none = {0};
    return prepare_with(tokenizer_open("byte", &none), input, out, val_fraction, shard_tokens);
}

static void check_good(Outcome *outcome) {
    if (!outcome->good) fail_msg("%s", text_string(&outcome->errors.text));
    DatasetFacts facts;
    assert_true(dataset_facts(outcome->out, &facts, &outcome->errors));
    assert_true(facts.present);
    assert_int_equal(facts.vocab, 257);
    assert_int_equal(facts.train_tokens, outcome->counts.train_tokens);
    assert_int_equal(facts.val_tokens, outcome->counts.val_tokens);
    assert_int_equal(facts.val_bytes, outcome->counts.val_bytes);
    assert_true(facts.bigram_bits == outcome->counts.bigram_bits);
    char path[4096];
    path_join(path, outcome->out, "tokenizer.json");
    Tokenizer *tokenizer = tokenizer_open(path, &outcome->errors);
    assert_string_equal(tokenizer_hash(tokenizer), facts.tokenizer_hash);
    tokenizer_close(tokenizer);
}

static void check_bad(Outcome outcome, int exit_code, const char *message) {
    assert_false(outcome.good);
    if (!strstr(text_string(&outcome.errors.text), message))
        fail_msg("\"%s\" is not in: %s", message, text_string(&outcome.errors.text));
    assert_int_equal(outcome.errors.exit_code, exit_code);
    errors_close(&outcome.errors);
    DatasetFacts facts;
    Errors errors = {0};
    assert_true(dataset_facts(outcome.out, &facts, &errors));
    assert_false(facts.present);
}

// All text of a split, each separator written as |.
static Text read_split(const char *out, const char *split) {
    char pattern[4096], name[32];
    snprintf(name, sizeof name, "%s_*.bin", split);
    path_join(pattern, out, name);
    TextList globs = {0}, paths = {0};
    Text text = {0};
    Errors errors = {0};
    path_glob(&paths, pattern);
    for (int64_t i = 0; i < paths.count; i++) {
        text_list_add(&globs, paths.items[i]);
        Shards *shards = shards_open(&globs, SHARD_HEADER, &errors);
        if (!shards) fail_msg("%s", text_string(&errors.text));
        int64_t count = shards_tokens(shards);
        int32_t *ids = malloc((size_t)count * sizeof *ids);
        if (count > 1) assert_true(shards_read(shards, 0, count - 1, 257, ids, &errors));
        for (int64_t t = 0; t < count && count > 1; t++) {
            char c = ids[t] == 256 ? '|' : (char)ids[t];
            text_append(&text, &c, 1);
        }
        free(ids);
        shards_close(shards);
        text_list_close(&globs);
    }
    text_list_close(&paths);
    return text;
}

static void check_split(const Outcome *outcome, const char *split, const char *expected) {
    Text text = read_split(outcome->out, split);
    assert_string_equal(text_string(&text), expected);
    text_close(&text);
}

TEST(one_text_is_cut_behind_a_line) {
    char path[4096];
    write_string(path, "one.txt", "first line\nsecond line\nthird line\nfourth line\nfifth line\n");
    Outcome outcome = prepare("one.txt", "one", 0.3, 1000);
    check_good(&outcome);
    check_split(&outcome, "train", "first line\nsecond line\nthird line\nfourth line\n|");
    check_split(&outcome, "val", "fifth line\n|");
    assert_int_equal(outcome.counts.documents, 1);
    assert_int_equal(outcome.counts.train_bytes, 46);
    assert_int_equal(outcome.counts.train_tokens, 47);
    assert_int_equal(outcome.counts.val_bytes, 11);
}

TEST(one_line_is_cut_before_whitespace) {
    char path[4096];
    write_string(path, "line.txt", "one two three four five");
    Outcome outcome = prepare("line.txt", "line", 0.4, 1000);
    check_good(&outcome);
    check_split(&outcome, "train", "one two three|");
    check_split(&outcome, "val", " four five|");
}

TEST(shards_are_cut_at_their_size) {
    char path[4096], expected[5000];
    for (int i = 0; i < 4999; i++) expected[i] = (char)(i % 50 == 49 ? '\n' : 'a' + i % 26);
    expected[4999] = 0;
    write_string(path, "long.txt", expected);
    Outcome outcome = prepare("long.txt", "long", 0.2, 999);
    check_good(&outcome);
    TextList names = {0};
    assert_true(directory_list(&names, outcome.out, &outcome.errors));
    assert_int_equal(names.count, 5 + 2 + 2); // 4001 tokens of training, 1000 of validation
    assert_string_equal(names.items[2], "train_000000.bin");
    text_list_close(&names);
    Text train = read_split(outcome.out, "train"), val = read_split(outcome.out, "val");
    assert_int_equal(train.size, 4001);
    assert_memory_equal(train.data, expected, 4000);
    assert_memory_equal(val.data, expected + 4000, 999);
    text_close(&train);
    text_close(&val);
}

TEST(documents_of_jsonl_are_held_out_whole) {
    enum { DOCUMENTS = 60 };
    Text lines = {0}, train = {0}, val = {0};
    for (int i = 0; i < DOCUMENTS; i++) {
        if (i % 10 == 0) text_add(&lines, i ? "  \r\n\n" : "\n"); // blank lines are nothing
        text_printf(&lines, "{\"id\": %d, \"text\": \"document\\n\\u00e9 %d\"}\n", i, i);
        bool held = philox_uniform(1, STREAM_SPLIT, 0, (uint64_t)i) < 0.2;
        text_printf(held ? &val : &train, "document\n\u00e9 %d|", i);
    }
    assert_true(val.size > 0);
    char path[4096];
    write_file(path, "many.jsonl", lines.data, lines.size);
    Outcome outcome = prepare("many.jsonl", "many", 0.2, 100);
    check_good(&outcome);
    assert_int_equal(outcome.counts.documents, DOCUMENTS);
    check_split(&outcome, "train", train.data);
    check_split(&outcome, "val", val.data);
    text_close(&lines);
    text_close(&train);
    text_close(&val);
}

TEST(few_documents_lose_their_tails) {
    char path[4096];
    write_string(path, "few.jsonl", "{\"text\": \"a\\nb\\nc\\nd\\n\"}\n{\"text\": \"\"}\n{\"text\": \"e f g h\"}");
    Outcome outcome = prepare("few.jsonl", "few", 0.4, 1000);
    check_good(&outcome);
    assert_int_equal(outcome.counts.documents, 2); // the empty one is none
    check_split(&outcome, "train", "a\nb\nc\n|e f g|");
    check_split(&outcome, "val", "d\n| h|");
}

TEST(folders_are_walked_in_order) {
    char path[4096], linked[4096];
    write_string(path, "tree/b.txt", "bb bb");
    write_string(path, "tree/a/z.txt", "zz zz");
    write_string(path, "tree/a/y.md", "yy yy");
    write_string(path, "tree/c.jsonl", "{\"text\": \"cc cc\"}");
    write_string(path, "tree/.hidden/x.txt", "xx xx");
    write_string(path, "tree/empty.txt", "");
    write_file(path, "tree/binary.dat", "a\0b", 3);
    write_string(path, "tree/out/dataset.json", "{}"); // where the output goes is not read
    write_string(path, "tree/out/train_000000.bin", "left over");
    path_join(linked, folder(), "tree/loop");
    assert_int_equal(symlink(".", linked), 0);
    Outcome outcome = prepare("tree", "tree/out", 0.5, 1000);
    check_good(&outcome);
    check_split(&outcome, "train", "yy|zz|bb|cc|");
    check_split(&outcome, "val", " yy| zz| bb| cc|");
    assert_int_equal(outcome.counts.documents, 4);
    assert_int_equal(outcome.counts.skipped_files, 2);
}

TEST(pieces_of_a_large_file_make_no_difference) {
    enum { SIZE = 5 << 19 }; // two and a half pieces
    char path[4096], *text = malloc(SIZE);
    for (uint64_t i = 0; i < SIZE; i++) text[i] = "ab c\n "[philox_at(3, STREAM_TEST, 0, i).word[0] % 6];
    write_file(path, "large.txt", text, SIZE);
    Outcome outcome = prepare("large.txt", "large", 0.1, 1 << 20);
    check_good(&outcome);
    Text train = read_split(outcome.out, "train"), val = read_split(outcome.out, "val");
    assert_int_equal(train.size + val.size, SIZE + 2);
    assert_memory_equal(train.data, text, train.size - 1);
    assert_memory_equal(val.data, text + train.size - 1, val.size - 1);
    CHECK_CLOSE((double)val.size / SIZE, 0.1, 0.001);
    text_close(&train);
    text_close(&val);
    free(text);
}

TEST(bigram_entropy) {
    static const struct {
        const char *text;
        double pairs, bits; // bits in all
    } cases[] = {
        {"aab aab", 6, 4},                                 // after a: twice a, twice b
        {"abababab abababab", 16, 7 * 0.5916727785823275}, // after b: six times a, once a space
    };
    char path[4096];
    for (int i = 0; i < 2; i++) {
        write_string(path, "entropy.txt", cases[i].text);
        Outcome outcome = prepare("entropy.txt", "entropy", 0.5, 1000);
        check_good(&outcome);
        CHECK_CLOSE(outcome.counts.bigram_bits, cases[i].bits / cases[i].pairs, 1e-12);
    }
}

// ---- output directories ----

TEST(an_earlier_output_is_replaced_and_nothing_else) {
    char path[4096];
    write_string(path, "text.txt", "some words\nmore words\n");
    Outcome first = prepare("text.txt", "out", 0.5, 3);
    check_good(&first);
    Outcome second = prepare("text.txt", "out", 0.5, 1000);
    check_good(&second);
    check_split(&second, "train", "some words\nmore|");
    static const char *const foreign[] = {"notes.txt", "train_00000.bin", "train_000000.bin.bak", "trail_000000.bin",
                                          "train_000000xbin", "Train_000000.bin", "train_.bin", "val000000.bin"};
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        char name[64];
        snprintf(name, sizeof name, "out/%s", foreign[i]);
        write_string(path, name, "precious");
        Outcome third = prepare("text.txt", "out", 0.5, 1000);
        assert_false(third.good);
        assert_int_equal(third.errors.exit_code, EXIT_CANNOT_WRITE);
        assert_non_null(strstr(text_string(&third.errors.text), foreign[i]));
        errors_close(&third.errors);
        check_good(&second); // all still there
        unlink(path);
    }
    write_string(path, "file", "x");
    Outcome onto_file = prepare("text.txt", "file", 0.5, 1000);
    assert_int_equal(onto_file.errors.exit_code, EXIT_CANNOT_WRITE);
    errors_close(&onto_file.errors);
}

static void check_spared(Outcome outcome, const char *path) {
    assert_true(path_exists(path));
    assert_int_equal(outcome.errors.exit_code, EXIT_USAGE);
    assert_non_null(strstr(text_string(&outcome.errors.text), "lies in the output directory"));
    assert_false(outcome.good);
    errors_close(&outcome.errors);
}

TEST(an_output_directory_with_an_input_in_it_is_refused) {
    char text[4096], shard[4096], link[4096], tokenizer[4096];
    write_string(text, "words.txt", "some words\nmore words\n");
    Outcome first = prepare("words.txt", "mine", 0.5, 1000);
    check_good(&first);
    path_join(tokenizer, first.out, "tokenizer.json");
    path_join(shard, first.out, "train_000000.bin");
    const char *const given[] = {tokenizer, first.out}; // the file, and its directory
    for (int i = 0; i < 2; i++) {
        Errors none = {0};
        check_spared(prepare_with(tokenizer_open(given[i], &none), "words.txt", "mine", 0.5, 1000), tokenizer);
    }
    check_spared(prepare("mine", "mine", 0.5, 1000), shard); // only names of ours, all of them inputs
    check_spared(prepare("mine/train_000000.bin", "mine", 0.5, 1000), shard);
    check_spared(prepare("mine/train_000000.bin", "mine/../mine/", 0.5, 1000), shard);
    path_join(link, folder(), "link.txt");
    assert_int_equal(symlink("mine/train_000000.bin", link), 0);
    check_spared(prepare("link.txt", "mine", 0.5, 1000), shard);
    unlink(link);
    path_join(link, folder(), "mine/val_000000.bin"); // the text stands elsewhere, but its name here
    unlink(link);
    assert_int_equal(symlink("../words.txt", link), 0);
    check_spared(prepare("mine/val_000000.bin", "mine", 0.5, 1000), link);
}

// Names in a directory, with a blank after each.
static void list_folder(const char *path, char all[1024]) {
    Errors errors = {0};
    TextList names = {0};
    all[0] = 0;
    directory_list(&names, path, &errors);
    for (int64_t i = 0; i < names.count; i++) {
        strcat(all, names.items[i]);
        strcat(all, " ");
    }
    text_list_close(&names);
    errors_close(&errors);
}

// Whichever operation fails: before the files are exchanged the old ones stay, and after it the new ones are whole.
TEST(every_failure_leaves_a_whole_dataset_or_none) {
    static const char whole[] = "dataset.json tokenizer.json train_000000.bin val_000000.bin ";
    char path[4096], names[1024], rule[32];
    write_string(path, "faults.txt", "some words\nmore words\n");
    int operations = 0, kept = 0;
    for (bool failed = true; failed;) {
        Outcome first = prepare("faults.txt", "faults", 0.5, 1000);
        check_good(&first);
        list_folder(first.out, names);
        assert_string_equal(names, whole);
        snprintf(rule, sizeof rule, "%d:EIO", ++operations);
        fault_set(rule);
        Outcome second = prepare("faults.txt", "faults", 0.5, 1000);
        failed = fault_operations() >= operations;
        fault_set(NULL);
        list_folder(first.out, names);
        char *partial = strstr(names, "prepare.partial "); // may be left, beside whole files or with those to be moved
        if (partial) memmove(partial, partial + 16, strlen(partial + 16) + 1);
        bool is_whole = strcmp(names, whole) == 0;
        if (strstr(names, "dataset.json") && !is_whole) fail_msg("operation %d leaves %s", operations, names);
        kept += is_whole && !second.good;
        errors_close(&second.errors);
    }
    assert_in_range(operations, 20, 100);
    assert_true(kept > operations / 2);
}

TEST(bad_input_leaves_the_dataset_as_it_was) {
    char path[4096], names[1024];
    write_string(path, "fine.txt", "some words\nmore words\n");
    write_string(path, "bad.jsonl", "{\"text\": 5}\n");
    Outcome first = prepare("fine.txt", "kept", 0.5, 1000);
    check_good(&first);
    Outcome second = prepare("bad.jsonl", "kept", 0.5, 1000);
    assert_false(second.good);
    errors_close(&second.errors);
    list_folder(first.out, names);
    assert_string_equal(names, "dataset.json tokenizer.json train_000000.bin val_000000.bin ");
    Outcome third = prepare("bad.jsonl", "absent", 0.5, 1000);
    assert_false(third.good);
    errors_close(&third.errors);
    assert_false(path_exists(third.out)); // nothing was there before
}

// ---- bad input ----

TEST(bad_lines_are_named) {
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{\"text\": \"a b\"}\n{\"text\": 5}\n", "line 2: expected an object with a string \"text\""},
        {"{\"text\": \"a b\"}\n\n[\"text\"]\n", "line 3: expected an object with a string \"text\""},
        {"\"text\"\n", "line 1: expected an object with a string \"text\""},
        {"{\"Text\": \"a b\"}\n", "line 1: expected an object with a string \"text\""},
        {"{\"text\": \"a b\"}\n{\"text\": \"a b\"\n", "line 2"},
        {"{\"text\": \"a b\"} {}\n", "line 1"},
        {"{\"text\": \"a \xFF\"}\n", "line 1"},
    };
    char path[4096];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_string(path, "bad.jsonl", cases[i].text);
        Outcome outcome = prepare("bad.jsonl", "bad", 0.5, 1000);
        assert_non_null(strstr(text_string(&outcome.errors.text), "bad.jsonl"));
        check_bad(outcome, EXIT_DATA, cases[i].message);
    }
}

TEST(inputs_without_text) {
    char path[4096];
    check_bad(prepare("absent.txt", "none", 0.5, 1000), EXIT_NO_INPUT, "absent.txt: No such file");
    write_string(path, "hollow/.keep", "x");
    check_bad(prepare("hollow", "none", 0.5, 1000), EXIT_NO_INPUT, "the inputs hold no files");
    write_string(path, "nothing/empty.txt", "");
    write_file(path, "nothing/zero.dat", "\0", 1);
    write_string(path, "nothing/blank.jsonl", "\n \n");
    check_bad(prepare("nothing", "none", 0.5, 1000), EXIT_NO_INPUT, "2 of 3 files are binary or empty");
    write_string(path, "word.txt", "word");
    check_bad(prepare("word.txt", "none", 0.5, 1000), EXIT_DATA, "all text fell to training: 1 documents, 4 bytes");
}

TEST(damaged_dataset_json) {
    static const char *const texts[] = {"", "[]", "{}", "{\"tokenizer_hash\": \"short\"}",
                                        "{\"tokenizer_hash\": \"00000000000000000000000000000000\", \"vocab\": 1.5}"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char path[4096], directory[4096];
        write_string(path, "damaged/dataset.json", texts[i]);
        path_join(directory, folder(), "damaged");
        DatasetFacts facts;
        Errors errors = {0};
        assert_false(dataset_facts(directory, &facts, &errors));
        assert_int_equal(errors.exit_code, EXIT_DATA);
        assert_non_null(strstr(text_string(&errors.text), path));
        errors_close(&errors);
    }
}
