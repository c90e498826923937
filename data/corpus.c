// Corpus: units are encoded by all threads and written in order. Everything is written into a folder of the output
// directory and takes its place there when it is complete: whatever stops a run, what the directory held before is
// still there.
#include "data/corpus.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/corpus_files.h"
#include "data/corpus_flow.h"
#include "data/progress.h"
#include "runtime/file.h"
#include "runtime/json.h"
#include "runtime/memory.h"

// What a part became: so many of the unit's ids.
typedef struct {
    Part part; // its bytes are gone
    int64_t ids, replaced_bytes;
} Encoded;

typedef struct {
    TokenList ids;
    Encoded *parts;
    int64_t count, capacity;
} Slot;

// What each thread has for itself.
typedef struct {
    Tokenizer *tokenizer;
    int64_t bigrams[256][256]; // [previous byte][byte]
} Encoder;

typedef struct {
    const Tokenizer *tokenizer;
    const CorpusSetup *setup;
    CorpusCounts *counts;
    Errors *errors;
    CorpusInputs inputs;
    char partial[4096]; // folder of the output directory that is written into
    ShardWriter shards[SPLITS];
    Encoder *encoders; // one per thread
    Slot *slots;
    Progress progress;
} Corpus;

// ---- encoding ----

typedef struct {
    Encoder *encoder;
    Slot *slot;
} Work;

static void count_bigrams(Encoder *encoder, const unsigned char *bytes, size_t size, int previous) {
    for (size_t i = 0; i < size; i++) {
        if (previous >= 0) encoder->bigrams[previous][bytes[i]]++;
        previous = bytes[i];
    }
}

static Encoded *add_encoded(Slot *slot) {
    slot->parts = memory_room(slot->parts, slot->count + 1, &slot->capacity, sizeof *slot->parts, "documents");
    return &slot->parts[slot->count++];
}

static void encode_part(void *context, const Part *part) {
    const Work *work = context;
    TokenList *ids = &work->slot->ids;
    Encoded *encoded = add_encoded(work->slot);
    *encoded = (Encoded){.part = *part, .ids = -ids->count};
    for (size_t at = 0, piece; at < part->size; at += piece) {
        piece = tokenizer_piece(work->encoder->tokenizer, part->bytes + at, part->size - at, UNIT_BYTES);
        encoded->replaced_bytes += tokenizer_encode(work->encoder->tokenizer, part->bytes + at, piece, ids);
    }
    encoded->ids += ids->count;
    count_bigrams(work->encoder, (const unsigned char *)part->bytes, part->size, part->previous);
}

static void encode_unit(void *context, int thread, int slot, Unit *unit) {
    Corpus *corpus = context;
    Work work = {&corpus->encoders[thread], &corpus->slots[slot]};
    if (work.slot->ids.capacity > 8 * UNIT_BYTES) token_list_close(&work.slot->ids); // of a vast document
    work.slot->ids.count = work.slot->count = 0;
    corpus_parts(unit, &corpus->inputs, work.encoder->tokenizer, encode_part, &work);
}

// ---- writing ----

static bool write_part(Corpus *corpus, const Encoded *encoded, const int32_t *ids, Errors *errors) {
    CorpusCounts *counts = corpus->counts;
    const Part *part = &encoded->part;
    ShardWriter *shards = &corpus->shards[part->split];
    *(part->split == SPLIT_TRAIN ? &counts->train_bytes : &counts->val_bytes) += (int64_t)part->size;
    counts->documents += part->previous < 0;
    counts->replaced_bytes += encoded->replaced_bytes;
    int32_t separator = tokenizer_separator(corpus->tokenizer);
    return shard_writer_add(shards, ids, encoded->ids, errors) &&
           (!part->ends || shard_writer_add(shards, &separator, 1, errors));
}

static bool write_unit(void *context, int slot_number, const Unit *unit, Errors *errors) {
    Corpus *corpus = context;
    const Slot *slot = &corpus->slots[slot_number];
    const int32_t *ids = slot->ids.items;
    for (int64_t i = 0; i < slot->count; ids += slot->parts[i++].ids)
        if (!write_part(corpus, &slot->parts[i], ids, errors)) return false;
    progress_show(&corpus->progress, unit->taken, corpus->counts->train_bytes + corpus->counts->val_bytes);
    return true;
}

static double bigram_bits(Corpus *corpus) {
    double bits = 0, total = 0;
    for (int a = 0; a < 256; a++) {
        double row = 0, pairs[256] = {0};
        for (int b = 0; b < 256; b++) {
            int64_t pair = 0;
            for (int i = 0; i < corpus->setup->threads; i++) pair += corpus->encoders[i].bigrams[a][b];
            row += pairs[b] = (double)pair;
        }
        for (int b = 0; b < 256; b++)
            if (pairs[b] > 0) bits += pairs[b] * log2(row / pairs[b]);
        total += row;
    }
    return total > 0 ? bits / total : 0;
}

static bool check_splits(const Corpus *corpus) {
    const CorpusCounts *counts = corpus->counts;
    if (counts->documents == 0)
        return errors_add(corpus->errors, EXIT_NO_INPUT,
                          "the inputs hold no text: %ld of %ld files are binary or empty, the others without documents",
                          counts->skipped_files, corpus->inputs.files.count);
    if (counts->train_bytes > 0 && counts->val_bytes > 0) return true;
    return errors_add(corpus->errors, EXIT_DATA,
                      "all text fell to %s: %ld documents, %ld bytes, --val-fraction %g; give more text or another "
                      "fraction",
                      counts->val_bytes > 0 ? "validation" : "training", counts->documents,
                      counts->train_bytes + counts->val_bytes, corpus->setup->val_fraction);
}

// ---- dataset.json ----

static void dataset_json(const Corpus *corpus, Text *out) {
    const CorpusCounts *counts = corpus->counts;
    JsonWriter writer = {.out = out, .indent = 2, .fresh = true};
    json_begin(&writer, NULL, '{');
    json_string(&writer, "tokenizer", tokenizer_name(corpus->tokenizer));
    json_string(&writer, "tokenizer_hash", tokenizer_hash(corpus->tokenizer));
    json_integer(&writer, "vocab", tokenizer_vocab(corpus->tokenizer));
    json_integer(&writer, "separator", tokenizer_separator(corpus->tokenizer));
    json_string(&writer, "separator_place", "after");
    const struct {
        const char *key;
        int64_t value;
    } integers[] = {
        {"documents", counts->documents},
        {"skipped_files", counts->skipped_files},
        {"train_tokens", counts->train_tokens},
        {"val_tokens", counts->val_tokens},
        {"train_bytes", counts->train_bytes},
        {"val_bytes", counts->val_bytes},
        {"train_shards", corpus->shards[SPLIT_TRAIN].shards},
        {"val_shards", corpus->shards[SPLIT_VAL].shards},
        {"replaced_bytes", counts->replaced_bytes},
    };
    for (size_t i = 0; i < sizeof integers / sizeof integers[0]; i++)
        json_integer(&writer, integers[i].key, integers[i].value);
    json_number(&writer, "bigram_bits", counts->bigram_bits);
    json_number(&writer, "val_fraction", corpus->setup->val_fraction);
    json_string(&writer, "val_split", corpus->inputs.tails ? "tails" : "documents");
    json_begin(&writer, "sources", '[');
    for (int64_t i = 0; i < corpus->setup->inputs->count; i++) {
        const char *input = corpus->setup->inputs->items[i];
        json_string(&writer, NULL, strcmp(input, TEXT_STREAM_INPUT) == 0 ? "stdin" : input);
    }
    json_end(&writer, ']');
    json_end(&writer, '}');
    text_add(out, "\n");
}

static bool write_text(const Corpus *corpus, const char *name, const Text *text) {
    char path[4096];
    path_join(path, corpus->partial, name);
    return file_replace(path, text->data, text->size, corpus->errors);
}

static bool write_descriptions(const Corpus *corpus) {
    Text tokenizer = {0}, dataset = {0};
    tokenizer_json(corpus->tokenizer, &tokenizer);
    dataset_json(corpus, &dataset);
    bool good = write_text(corpus, "tokenizer.json", &tokenizer) && write_text(corpus, "dataset.json", &dataset);
    text_close(&tokenizer);
    text_close(&dataset);
    return good;
}

static bool read_facts(const Json *json, const char *path, DatasetFacts *facts, Errors *errors) {
    const cJSON *root = json_root(json), *hash = json_member(root, "tokenizer_hash");
    const cJSON *bits = json_member(root, "bigram_bits");
    const struct {
        const char *key;
        int64_t *value;
    } integers[] = {
        {"vocab", &facts->vocab},
        {"train_tokens", &facts->train_tokens},
        {"val_tokens", &facts->val_tokens},
        {"val_bytes", &facts->val_bytes},
    };
    bool good = cJSON_IsString(hash) && strlen(hash->valuestring) == 32 && cJSON_IsNumber(bits);
    for (size_t i = 0; i < sizeof integers / sizeof integers[0]; i++)
        good = good && json_is_integer(json_member(root, integers[i].key), integers[i].value) &&
               *integers[i].value >= 0;
    if (!good)
        return errors_add(errors, EXIT_DATA,
                          "%s: expected tokenizer_hash, vocab, train_tokens, val_tokens, val_bytes and bigram_bits; "
                          "run `train_gpt prepare` again",
                          path);
    memcpy(facts->tokenizer_hash, hash->valuestring, 33);
    facts->bigram_bits = bits->valuedouble;
    facts->present = true;
    return true;
}

bool dataset_facts(const char *directory, DatasetFacts *facts, Errors *errors) {
    enum { SIZE_LIMIT = 16 << 20 };
    char path[4096];
    path_join(path, directory, "dataset.json");
    *facts = (DatasetFacts){0};
    if (!path_exists(path)) return true;
    Json *json = json_open(path, SIZE_LIMIT, EXIT_DATA, errors);
    if (!json) return false;
    bool good = read_facts(json, path, facts, errors);
    json_close(json);
    return good;
}

// ---- all of it ----

static bool write_tokens(Corpus *corpus) {
    CorpusReader *reader = corpus_reader_open(&corpus->inputs, corpus->tokenizer);
    Flow flow = {corpus->setup->threads, corpus, encode_unit, write_unit};
    corpus->progress = progress_begin("", corpus->inputs.total_bytes, corpus->setup->quiet);
    bool good = corpus_flow(&flow, reader, corpus->errors);
    progress_end(&corpus->progress);
    corpus->counts->skipped_files = corpus_reader_skipped(reader);
    corpus_reader_close(reader);
    return good;
}

static bool write_all(Corpus *corpus) {
    if (!write_tokens(corpus) || !check_splits(corpus)) return false;
    for (int split = 0; split < SPLITS; split++)
        if (!shard_writer_finish(&corpus->shards[split], corpus->errors)) return false;
    corpus->counts->train_tokens = corpus->shards[SPLIT_TRAIN].tokens;
    corpus->counts->val_tokens = corpus->shards[SPLIT_VAL].tokens;
    corpus->counts->bigram_bits = bigram_bits(corpus);
    return write_descriptions(corpus);
}

static bool write_output(Corpus *corpus) {
    const char *out = corpus->setup->out;
    bool made = !path_exists(out);
    if (!corpus_begin_output(out, corpus->partial, corpus->errors)) return false;
    bool written = write_all(corpus);
    if (!written) corpus_drop_output(corpus->partial);
    if (!written && made) rmdir(out);
    return written && corpus_finish_output(out, corpus->partial, corpus->errors);
}

static void open_corpus(Corpus *corpus) {
    static const char *const names[SPLITS] = {"train", "val"};
    int threads = corpus->setup->threads;
    corpus->encoders = memory_take(threads, sizeof *corpus->encoders, "threads");
    corpus->slots = memory_take(corpus_flow_slots(threads), sizeof *corpus->slots, "slots of threads");
    for (int i = 0; i < threads; i++) corpus->encoders[i].tokenizer = tokenizer_share(corpus->tokenizer);
    for (int split = 0; split < SPLITS; split++)
        corpus->shards[split] = shard_writer_open(corpus->partial, names[split], tokenizer_vocab(corpus->tokenizer),
                                                  corpus->setup->shard_tokens);
}

static void close_corpus(Corpus *corpus) {
    for (int i = 0; i < corpus->setup->threads; i++) tokenizer_close(corpus->encoders[i].tokenizer);
    for (int i = 0; i < corpus_flow_slots(corpus->setup->threads); i++) {
        token_list_close(&corpus->slots[i].ids);
        free(corpus->slots[i].parts);
    }
    for (int split = 0; split < SPLITS; split++) shard_writer_close(&corpus->shards[split]);
    corpus_close_inputs(&corpus->inputs);
    free(corpus->encoders);
    free(corpus->slots);
    free(corpus);
}

bool corpus_prepare(const Tokenizer *tokenizer, const CorpusSetup *setup, CorpusCounts *counts, Errors *errors) {
    REQUIRE(setup->val_fraction > 0 && setup->val_fraction < 1 && setup->shard_tokens > 0 &&
                setup->shard_tokens < INT32_MAX && setup->threads > 0,
            "validation %g, %ld tokens in a shard, %d threads", setup->val_fraction, setup->shard_tokens,
            setup->threads);
    Corpus *corpus = memory_take(1, sizeof *corpus, "the corpus");
    *counts = (CorpusCounts){0};
    *corpus = (Corpus){.tokenizer = tokenizer, .setup = setup, .counts = counts, .errors = errors};
    open_corpus(corpus);
    const char *given = tokenizer_path(tokenizer);
    bool good = (!given || corpus_spare_input(given, setup->out, errors)) &&
                corpus_open_inputs(&corpus->inputs, setup, errors) && write_output(corpus);
    close_corpus(corpus);
    return good;
}
