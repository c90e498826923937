// Tokenizers trained on any bytes: each merge is of the pair that occurs most then, counted again from nothing, and the
// file is read back as the same tokenizer. The first byte is how many merges are asked for.
#include "data/bpe_train.h"
#include "data/presplit.h"
#include "data/tokenizer_rows.h"
#include "tests/fuzz/fuzz.h"

enum { TEXT_BYTES = 512 };

// Pieces one after another, -1 between them.
typedef struct {
    int32_t ids[2 * TEXT_BYTES];
    int size;
} Row;

static int64_t count_of(const Row *row, int32_t left, int32_t right) {
    int64_t count = 0;
    for (int i = 0; i + 1 < row->size; i++) count += row->ids[i] == left && row->ids[i + 1] == right;
    return count;
}

static void check_most(const Row *row, const Merge *merge) {
    int64_t count = count_of(row, merge->left, merge->right);
    HOLDS(count > 0);
    for (int i = 0; i + 1 < row->size; i++) {
        int32_t left = row->ids[i], right = row->ids[i + 1];
        if (left < 0 || right < 0) continue;
        int64_t other = count_of(row, left, right);
        bool before = left != merge->left ? merge->left < left : merge->right <= right;
        HOLDS(other < count || (other == count && before));
    }
}

static void merge_all(Row *row, const Merge *merge) {
    int kept = 0;
    for (int i = 0; i < row->size; i++) {
        bool found = i + 1 < row->size && row->ids[i] == merge->left && row->ids[i + 1] == merge->right;
        row->ids[kept++] = found ? merge->id : row->ids[i];
        i += found;
    }
    row->size = kept;
}

static void check_file(const Tokenizer *tokenizer) {
    Text json = {0};
    Errors errors = {0};
    tokenizer_json(tokenizer, &json);
    Tokenizer *again = tokenizer_open(fuzz_file(0, json.data, json.size), &errors);
    HOLDS(again && strcmp(tokenizer_hash(again), tokenizer_hash(tokenizer)) == 0);
    tokenizer_close(again);
    text_close(&json);
}

TARGET {
    static Presplit *presplit;
    static Row row;
    if (!presplit) presplit = presplit_open(PRESPLIT_GPT2);
    if (size == 0 || size > TEXT_BYTES || !text_is_utf8(bytes + 1, size - 1, NULL)) return 0;
    const char *text = (const char *)bytes + 1;
    PieceCounts pieces = {0}, all = {0};
    row.size = 0;
    for (size_t at = 0, end; at < size - 1; at = end) {
        end = presplit_next(presplit, text, size - 1, at);
        pieces_add(&pieces, text + at, end - at, 1);
        if (end - at > PIECE_LIMIT) continue;
        for (size_t i = at; i < end; i++) row.ids[row.size++] = byte_level_place((unsigned char)text[i]);
        row.ids[row.size++] = -1;
    }
    pieces_merge(&all, &pieces, COUNT_PIECES, COUNT_BYTES);
    Tokenizer *tokenizer = bpe_train(&all, 257 + bytes[0] % 32, true);
    for (int64_t i = 0; i < tokenizer->merge_count; i++) {
        check_most(&row, &tokenizer->merges[i]);
        merge_all(&row, &tokenizer->merges[i]);
    }
    if (tokenizer->merge_count < bytes[0] % 32)
        for (int i = 0; i + 1 < row.size; i++) HOLDS(row.ids[i] < 0 || row.ids[i + 1] < 0);
    check_file(tokenizer);
    tokenizer_close(tokenizer);
    pieces_close(&pieces);
    return 0;
}
