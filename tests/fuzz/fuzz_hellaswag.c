// HellaSwag, as text or as llm.c's binary. The first byte says which, and how long a row may be; the rest is the file.
// Refused, or every row is inside the list of ids, fits the model and has something to score.
#include "data/hellaswag.h"
#include "tests/fuzz/folder.h"

enum { VOCAB = 257 };

static void check_set(const Hellaswag *set, int64_t length, bool binary) {
    HOLDS(set->examples > 0 && (binary || set->rows[HELLASWAG_LMEVAL]) && set->rows[HELLASWAG_LLMC]);
    for (int style = 0; style < HELLASWAG_STYLES; style++)
        for (int64_t i = 0; set->rows[style] && i < set->examples * HELLASWAG_ENDINGS; i++) {
            const HellaswagRow *row = &set->rows[style][i];
            HOLDS(row->context.count > 0 && row->ending.count > 0 && row->size >= 0);
            HOLDS(row->context.count + row->ending.count <= length + 1);
            HOLDS(row->context.first >= 0 && row->context.first + row->context.count <= set->ids.count);
            HOLDS(row->ending.first >= 0 && row->ending.first + row->ending.count <= set->ids.count);
        }
    for (int64_t i = 0; i < set->examples; i++) HOLDS(set->labels[i] < HELLASWAG_ENDINGS);
    for (int64_t i = 0; i < set->ids.count; i++) HOLDS(set->ids.items[i] >= 0 && set->ids.items[i] < VOCAB);
}

TARGET {
    if (size == 0) return 0;
    Errors errors = {0};
    char path[4096];
    bool binary = bytes[0] & 1;
    int64_t length = 8 + bytes[0];
    const char *file = fuzz_file(0, bytes + 1, size - 1), *name = binary ? "swag.bin" : "swag.jsonl";
    fuzz_link(name, file);
    path_join(path, fuzz_folder(), name);
    Tokenizer *tokenizer = tokenizer_open("byte", &errors);
    Hellaswag set;
    bool good = hellaswag_open(&set, &(HellaswagSetup){path, tokenizer, VOCAB, length, 0}, &errors);
    fuzz_errors(&errors, !good);
    if (good) check_set(&set, length, binary);
    hellaswag_close(&set);
    tokenizer_close(tokenizer);
    return 0;
}
