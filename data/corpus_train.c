// A tokenizer for a corpus: the pieces of the text that is trained on are counted unit by unit, and added up in the
// order of the input.
#include <stdlib.h>
#include <string.h>

#include "data/bpe_train.h"
#include "data/corpus_files.h"
#include "data/corpus_flow.h"
#include "data/presplit.h"
#include "data/progress.h"
#include "runtime/memory.h"

typedef struct {
    CorpusInputs inputs;
    const Tokenizer *bytes; // where text may be cut
    Presplit **presplits;   // one per thread
    PieceCounts *slots, all;
    int64_t *slot_bytes;
    CorpusTraining *facts;
    Progress progress;
} Training;

typedef struct {
    Presplit *presplit;
    PieceCounts *counts;
    int64_t *bytes;
} Work;

static void count_text(const Work *work, const char *text, size_t size) {
    for (size_t at = 0, end; at < size; at = end) {
        end = presplit_next(work->presplit, text, size, at);
        pieces_add(work->counts, text + at, end - at, 1);
    }
}

// As it is when it is encoded.
static void count_repaired(const Work *work, const char *bytes, size_t size) {
    Text text = {0};
    text_repair(&text, bytes, size);
    count_text(work, text.data, text.size);
    text_close(&text);
}

static void count_part(void *context, const Part *part) {
    const Work *work = context;
    if (part->split != SPLIT_TRAIN) return;
    *work->bytes += (int64_t)part->size;
    (text_is_utf8(part->bytes, part->size, NULL) ? count_text : count_repaired)(work, part->bytes, part->size);
}

static void count_unit(void *context, int thread, int slot, Unit *unit) {
    Training *training = context;
    Work work = {training->presplits[thread], &training->slots[slot], &training->slot_bytes[slot]};
    if (work.counts->bytes.capacity > 8 * UNIT_BYTES) pieces_close(work.counts); // of a vast document
    pieces_clear(work.counts);
    *work.bytes = 0;
    corpus_parts(unit, &training->inputs, training->bytes, count_part, &work);
}

static bool add_unit(void *context, int slot, const Unit *unit, Errors *errors) {
    (void)errors;
    Training *training = context;
    pieces_merge(&training->all, &training->slots[slot], COUNT_PIECES, COUNT_BYTES);
    training->facts->bytes += training->slot_bytes[slot];
    progress_show(&training->progress, unit->taken, training->facts->bytes);
    return true;
}

static bool count_all(Training *training, Errors *errors) {
    const CorpusSetup *setup = training->inputs.setup;
    int slots = corpus_flow_slots(setup->threads);
    training->presplits = memory_take(setup->threads, sizeof *training->presplits, "threads");
    training->slots = memory_take(slots, sizeof *training->slots, "slots of threads");
    training->slot_bytes = memory_take(slots, sizeof *training->slot_bytes, "slots of threads");
    for (int i = 0; i < setup->threads; i++) training->presplits[i] = presplit_open(PRESPLIT_GPT2);
    training->progress = progress_begin("counting ", training->inputs.total_bytes, setup->quiet);
    CorpusReader *reader = corpus_reader_open(&training->inputs, training->bytes);
    bool good = corpus_flow(&(Flow){setup->threads, training, count_unit, add_unit}, reader, errors);
    progress_end(&training->progress);
    corpus_reader_close(reader);
    for (int i = 0; i < setup->threads; i++) presplit_close(training->presplits[i]);
    for (int i = 0; i < slots; i++) pieces_close(&training->slots[i]);
    free(training->presplits);
    free(training->slots);
    free(training->slot_bytes);
    return good;
}

static bool check_inputs(const CorpusSetup *setup, Errors *errors) {
    for (int64_t i = 0; i < setup->inputs->count; i++)
        if (strcmp(setup->inputs->items[i], TEXT_STREAM_INPUT) == 0)
            return errors_add(errors, EXIT_USAGE,
                              "-: standard input cannot be read twice, and a tokenizer is trained before the text is "
                              "encoded; write it to a file first, or use a tokenizer that is there");
    return corpus_check_output(setup->out, errors);
}

Tokenizer *corpus_train(const CorpusSetup *setup, int64_t vocab, CorpusTraining *facts, Errors *errors) {
    *facts = (CorpusTraining){0};
    if (!check_inputs(setup, errors)) return NULL;
    Tokenizer *bytes = tokenizer_from_merges(NULL, 0), *tokenizer = NULL;
    Training training = {.bytes = bytes, .facts = facts};
    if (corpus_open_inputs(&training.inputs, setup, errors) && count_all(&training, errors)) {
        facts->words = training.all.count;
        facts->forgotten = training.all.forgotten;
        facts->long_words = training.all.long_ones;
        tokenizer = bpe_train(&training.all, vocab, setup->quiet);
    }
    pieces_close(&training.all);
    corpus_close_inputs(&training.inputs);
    tokenizer_close(bytes);
    return tokenizer;
}
