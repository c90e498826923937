// Training of a byte-level BPE: the merges of `tokenizers` (scripts/oracles/make_bpe_fixture.py), those of a trainer
// that counts everything again for each merge, what is forgotten when there are too many pieces, and the file.
#include <unistd.h>

#include "data/bpe_train.h"
#include "data/presplit.h"
#include "data/tokenizer_rows.h"
#include "runtime/file.h"
#include "runtime/philox.h"
#include "tests/test.h"

static void count_text(PieceCounts *pieces, const char *text, size_t size) {
    Presplit *presplit = presplit_open(PRESPLIT_GPT2);
    for (size_t at = 0, end; at < size; at = end) {
        end = presplit_next(presplit, text, size, at);
        pieces_add(pieces, text + at, end - at, 1);
    }
    presplit_close(presplit);
}

TEST(the_merges_of_tokenizers) {
    enum { LIMIT = 1 << 20, VOCAB = 1000 };
    File text, merges;
    Errors errors = {0};
    assert_true(file_read(&text, "tests/fixtures/bpe/text.txt", LIMIT, EXIT_NO_INPUT, &errors));
    assert_true(file_read(&merges, "tests/fixtures/bpe/merges.txt", LIMIT, EXIT_NO_INPUT, &errors));
    PieceCounts pieces = {0};
    count_text(&pieces, text.bytes, text.size);
    Tokenizer *tokenizer = bpe_train(&pieces, VOCAB, true);
    assert_int_equal(tokenizer_vocab(tokenizer), VOCAB);
    assert_int_equal(tokenizer_separator(tokenizer), VOCAB - 1);
    assert_int_equal(tokenizer->merge_count, VOCAB - 257);
    const char *line = merges.bytes;
    for (int64_t i = 0; i < tokenizer->merge_count; i++) {
        int left, right, size;
        assert_int_equal(sscanf(line, "%d %d\n%n", &left, &right, &size), 2);
        line += size;
        const Merge *merge = &tokenizer->merges[i];
        if (merge->left != left || merge->right != right || merge->id != 256 + i)
            fail_msg("merge %ld is %d %d -> %d, expected %d %d", i, merge->left, merge->right, merge->id, left, right);
    }
    assert_true(*line == 0);
    tokenizer_close(tokenizer);
    file_close(&text);
    file_close(&merges);
}

// ---- a trainer that is slow and plain ----

enum { SLOW_WORDS = 60, SLOW_LENGTH = 12, SLOW_IDS = 64 };

typedef struct {
    int ids[SLOW_LENGTH], size;
    int64_t count;
} SlowWord;

static int slow_merge(SlowWord words[SLOW_WORDS], int new_id, int pair[2]) {
    int64_t counts[SLOW_IDS][SLOW_IDS] = {{0}}, most = 0;
    for (int w = 0; w < SLOW_WORDS; w++)
        for (int i = 0; i + 1 < words[w].size; i++) counts[words[w].ids[i]][words[w].ids[i + 1]] += words[w].count;
    for (int left = 0; left < SLOW_IDS; left++)
        for (int right = 0; right < SLOW_IDS; right++) {
            if (counts[left][right] <= most) continue;
            most = counts[left][right];
            pair[0] = left;
            pair[1] = right;
        }
    for (int w = 0; w < SLOW_WORDS && most > 0; w++) {
        int kept = 0;
        for (int i = 0; i < words[w].size; i++) {
            bool found = i + 1 < words[w].size && words[w].ids[i] == pair[0] && words[w].ids[i + 1] == pair[1];
            words[w].ids[kept++] = found ? new_id : words[w].ids[i];
            i += found;
        }
        words[w].size = kept;
    }
    return most > 0;
}

// Ids of the bytes a, b, c, ... in the slow trainer are 0, 1, 2, ..., those of merges follow.
static void check_slow(uint64_t seed, int letters, int merges) {
    SlowWord words[SLOW_WORDS] = {0};
    PieceCounts pieces = {0};
    for (int w = 0; w < SLOW_WORDS; w++) {
        char bytes[SLOW_LENGTH];
        Philox random = philox_at(seed, STREAM_TEST, 1, (uint64_t)w);
        words[w].size = 1 + (int)(random.word[0] % SLOW_LENGTH);
        words[w].count = 1 + random.word[1] % 5;
        for (int i = 0; i < words[w].size; i++) {
            uint32_t draw = philox_at(seed, STREAM_TEST, 2 + (uint32_t)w, (uint64_t)i).word[0];
            words[w].ids[i] = (int)(draw % (uint32_t)letters);
            bytes[i] = (char)('a' + words[w].ids[i]);
        }
        pieces_add(&pieces, bytes, (size_t)words[w].size, words[w].count);
    }
    int base = byte_level_place('a');
    Tokenizer *tokenizer = bpe_train(&pieces, 257 + merges, true);
    for (int i = 0; i < merges; i++) {
        int pair[2];
        if (!slow_merge(words, letters + i, pair)) {
            assert_int_equal(tokenizer->merge_count, i);
            break;
        }
        assert_true(i < tokenizer->merge_count);
        for (int side = 0; side < 2; side++) {
            int id = side ? tokenizer->merges[i].right : tokenizer->merges[i].left;
            int slow = id < 256 ? id - base : id - 256 + letters;
            if (slow != pair[side]) fail_msg("seed %lu, merge %d: id %d, expected %d", seed, i, slow, pair[side]);
        }
    }
    tokenizer_close(tokenizer);
}

TEST(random_words_as_a_slow_trainer_has_them) {
    for (uint64_t seed = 0; seed < 30; seed++)
        for (int letters = 1; letters <= 5; letters += 2) check_slow(seed, letters, SLOW_IDS - 6);
}

TEST(overlaps_count_as_they_do_in_tokenizers) {
    PieceCounts pieces = {0};
    pieces_add(&pieces, "aaaaa", 5, 3); // a a: 4 * 3; then aa aa a
    pieces_add(&pieces, "bc", 2, 11);
    Tokenizer *tokenizer = bpe_train(&pieces, 257 + 9, true);
    static const char *const texts[] = {"aa", "bc", "aaa", "aaaaa"}; // of (aa, aa) and (aa, a) the smaller right id
    assert_int_equal(tokenizer->merge_count, 4);
    for (int i = 0; i < 4; i++) {
        size_t size;
        const char *bytes = token_table_bytes(&tokenizer->tokens, 256 + i, &size);
        assert_int_equal(size, strlen(texts[i]));
        assert_memory_equal(bytes, texts[i], size);
    }
    tokenizer_close(tokenizer);
}

// As many pairs as are swept before the first merge, which is of one that overlaps itself.
TEST(a_merged_pair_is_met_again_where_it_overlaps) {
    enum { LETTERS = 40 };
    PieceCounts pieces = {0};
    for (int i = 0; i < LETTERS * LETTERS; i++)
        pieces_add(&pieces, (char[]){(char)('0' + i / LETTERS), (char)('0' + i % LETTERS)}, 2, 1);
    pieces_add(&pieces, "aaa", 3, 100);
    Tokenizer *tokenizer = bpe_train(&pieces, 257 + 3, true);
    static const char *const texts[] = {"aa", "aaa", "00"};
    for (int i = 0; i < 3; i++) {
        size_t size;
        const char *bytes = token_table_bytes(&tokenizer->tokens, 256 + i, &size);
        assert_int_equal(size, strlen(texts[i]));
        assert_memory_equal(bytes, texts[i], size);
    }
    tokenizer_close(tokenizer);
}

// ---- what is kept ----

static int64_t count_of(const PieceCounts *pieces, const char *text) {
    for (int64_t i = 0; i < pieces->count; i++)
        if (pieces->items[i].size == strlen(text) &&
            memcmp(pieces->bytes.data + pieces->items[i].at, text, strlen(text)) == 0)
            return pieces->items[i].count;
    return 0;
}

TEST(the_rarest_are_forgotten) {
    PieceCounts all = {0}, more = {0};
    static const char *const words[] = {"w", "x", "y", "z"}; // 1, 2, 3, 4 times
    for (int i = 0; i < 4; i++) pieces_add(&more, words[i], 1, i + 1);
    pieces_merge(&all, &more, 4, 100);
    assert_int_equal(all.count, 4);
    pieces_clear(&more);
    pieces_add(&more, "x", 1, 2);
    pieces_add(&more, "new", 3, 1);
    pieces_merge(&all, &more, 4, 100); // five are too many; above 1 are three, above 2 are x, y and z, above 4 none
    assert_int_equal(all.count, 0);
    assert_int_equal(all.forgotten, 1 + 4 + 3 + 4 + 1);
    pieces_clear(&more);
    pieces_add(&more, "long word", 9, 1);
    pieces_add(&more, "often", 5, 3);
    pieces_merge(&all, &more, 4, 13); // too many bytes
    assert_int_equal(all.count, 1);
    assert_int_equal(count_of(&all, "often"), 3);
    assert_int_equal(all.bytes.size, 5);
    pieces_merge(&all, &more, 4, 100); // and what is left goes on
    assert_int_equal(count_of(&all, "often"), 6);
    assert_int_equal(count_of(&all, "long word"), 1);
    assert_int_equal(all.forgotten, 14);
    pieces_close(&all);
    pieces_close(&more);
}

TEST(long_pieces_are_left_out) {
    char bytes[PIECE_LIMIT + 1];
    memset(bytes, 'x', sizeof bytes);
    PieceCounts pieces = {0}, all = {0};
    pieces_add(&pieces, bytes, sizeof bytes, 2);
    pieces_add(&pieces, bytes, sizeof bytes - 1, 1);
    pieces_merge(&all, &pieces, 10, 1000);
    assert_int_equal(all.count, 1);
    assert_int_equal(all.long_ones, 2);
    pieces_close(&pieces);
    Tokenizer *tokenizer = bpe_train(&all, 1 << 20, true);
    assert_int_equal(tokenizer_token_bytes(tokenizer, (int32_t)tokenizer_vocab(tokenizer) - 2), PIECE_LIMIT);
    tokenizer_close(tokenizer);
}

TEST(many_pieces_in_a_table) {
    enum { WORDS = 50000 };
    PieceCounts pieces = {0};
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < WORDS; i++) pieces_add(&pieces, (char *)&i, sizeof i, 1 + i % 3);
    assert_int_equal(pieces.count, WORDS);
    for (int i = 0; i < WORDS; i++) {
        assert_int_equal(pieces.items[i].count, 2 * (1 + i % 3));
        assert_memory_equal(pieces.bytes.data + pieces.items[i].at, &i, sizeof i);
    }
    pieces_close(&pieces);
}

// ---- the file ----

TEST(a_trained_tokenizer_is_read_back) {
    static const char text[] =
        "the river runs, the river ran; the rivers run 12 123 1234 \xC3\xA9t\xC3\xA9 \xF0\x9F\x8C\x8A";
    for (int64_t vocab = 257; vocab <= 320; vocab += 21) {
        PieceCounts pieces = {0};
        Errors errors = {0};
        Text json = {0};
        char path[4096];
        count_text(&pieces, text, sizeof text - 1);
        Tokenizer *tokenizer = bpe_train(&pieces, vocab, true);
        assert_int_equal(tokenizer_vocab(tokenizer), vocab < 290 ? vocab : tokenizer->merge_count + 257);
        assert_string_equal(tokenizer_name(tokenizer), "bpe");
        tokenizer_json(tokenizer, &json);
        path_join(path, test_folder("bpe_train"), "tokenizer.json");
        assert_true(file_replace(path, json.data, json.size, &errors));
        Tokenizer *again = tokenizer_open(path, &errors);
        assert_non_null(again);
        assert_string_equal(tokenizer_hash(again), tokenizer_hash(tokenizer));
        TokenList ids = {0};
        Text decoded = {0};
        tokenizer_encode(again, text, sizeof text - 1, &ids);
        tokenizer_decode(tokenizer, ids.items, ids.count, &decoded);
        assert_string_equal(text_string(&decoded), text);
        token_list_close(&ids);
        text_close(&decoded);
        text_close(&json);
        tokenizer_close(again);
        tokenizer_close(tokenizer);
    }
}
