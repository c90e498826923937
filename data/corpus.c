// Corpus. Inputs are mapped and encoded in pieces of about a megabyte, so memory does not grow with them. Everything is
// written into a folder of the output directory and takes its place there when it is complete: whatever stops a run,
// what the directory held before is still there.
#include "data/corpus.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/corpus_files.h"
#include "runtime/file.h"
#include "runtime/json.h"
#include "runtime/philox.h"

enum { PIECE_BYTES = 1 << 20, BINARY_PROBE = 64 << 10, LINE_LIMIT = 256 << 20, MANY_DOCUMENTS = 20 };
enum { SPLIT_SEED = 1 };
enum { TRAIN, VAL, SPLITS };

typedef struct {
    const Tokenizer *tokenizer;
    const CorpusSetup *setup;
    CorpusCounts *counts;
    Errors *errors;
    TextList files;
    bool tails; // the end of each document is held out, not whole documents
    int64_t next_document;
    char partial[4096]; // folder of the output directory that is written into
    ShardWriter shards[SPLITS];
    TokenList ids;                   // of one piece
    int64_t bigrams[256][256];       // [previous byte][byte]
    int previous;                    // byte of this document; -1 at its beginning
    int64_t total_bytes, done_bytes; // of all files
    double begun, shown;             // seconds
    bool bar;
} Corpus;

// ---- progress ----

static void show_progress(Corpus *corpus) {
    enum { WIDTH = 30 };
    double now = clock_seconds();
    if (!corpus->bar || now - corpus->shown < 0.2) return;
    corpus->shown = now;
    double share = (double)corpus->done_bytes / fmax(1, (double)corpus->total_bytes);
    double rate = (double)corpus->done_bytes / fmax(1e-9, now - corpus->begun);
    int filled = (int)(share * WIDTH);
    char speed[TEXT_NUMBER], left[TEXT_NUMBER];
    fprintf(stderr, "\r[%.*s%*s] %3.0f%%  %s/s  %s left   ", filled, "##############################", WIDTH - filled,
            "", 100 * share, text_bytes(speed, rate),
            text_duration(left, (double)(corpus->total_bytes - corpus->done_bytes) / fmax(1, rate)));
    fflush(stderr);
}

static void clear_progress(const Corpus *corpus) {
    if (corpus->bar && corpus->shown > 0) fputs("\r\033[K", stderr);
}

// ---- documents ----

static void count_bigrams(Corpus *corpus, const unsigned char *bytes, size_t size) {
    int previous = corpus->previous;
    for (size_t i = 0; i < size; i++) {
        if (previous >= 0) corpus->bigrams[previous][bytes[i]]++;
        previous = bytes[i];
    }
    corpus->previous = previous;
}

static double bigram_bits(const Corpus *corpus) {
    double bits = 0, total = 0;
    for (int a = 0; a < 256; a++) {
        double row = 0;
        for (int b = 0; b < 256; b++) row += (double)corpus->bigrams[a][b];
        for (int b = 0; b < 256; b++) {
            double pair = (double)corpus->bigrams[a][b];
            if (pair > 0) bits += pair * log2(row / pair);
        }
        total += row;
    }
    return total > 0 ? bits / total : 0;
}

// A part of a document and the separator behind it. `advances`: the bytes are those of the file.
static bool add_part(Corpus *corpus, int split, const char *bytes, size_t size, bool advances) {
    if (size == 0) return true;
    CorpusCounts *counts = corpus->counts;
    *(split == TRAIN ? &counts->train_bytes : &counts->val_bytes) += (int64_t)size;
    for (size_t at = 0; at < size;) {
        size_t piece = tokenizer_piece(corpus->tokenizer, bytes + at, size - at, PIECE_BYTES);
        corpus->ids.count = 0;
        counts->replaced_bytes += tokenizer_encode(corpus->tokenizer, bytes + at, piece, &corpus->ids);
        count_bigrams(corpus, (const unsigned char *)bytes + at, piece);
        bool good = shard_writer_add(&corpus->shards[split], corpus->ids.items, corpus->ids.count, corpus->errors);
        if (!good) return false;
        at += piece;
        if (advances) corpus->done_bytes += (int64_t)piece;
        show_progress(corpus);
    }
    int32_t separator = tokenizer_separator(corpus->tokenizer);
    return shard_writer_add(&corpus->shards[split], &separator, 1, corpus->errors);
}

static bool held_out(const Corpus *corpus, int64_t document) {
    return philox_uniform(SPLIT_SEED, STREAM_SPLIT, 0, (uint64_t)document) < corpus->setup->val_fraction;
}

// Where the held-out tail of a document begins; its size when it has no place to be cut.
static size_t tail_begin(const Corpus *corpus, const char *bytes, size_t size) {
    size_t target = (size_t)((double)size * (1 - corpus->setup->val_fraction));
    const char *line_end = memchr(bytes + target, '\n', size - target);
    if (line_end && line_end + 1 < bytes + size) return (size_t)(line_end + 1 - bytes);
    return tokenizer_piece(corpus->tokenizer, bytes, size, target > 0 ? target : 1);
}

static bool add_document(Corpus *corpus, const char *bytes, size_t size, bool advances) {
    int64_t document = corpus->next_document++;
    if (size == 0) return true;
    corpus->counts->documents++;
    corpus->previous = -1;
    if (!corpus->tails) return add_part(corpus, held_out(corpus, document) ? VAL : TRAIN, bytes, size, advances);
    size_t cut = tail_begin(corpus, bytes, size);
    return add_part(corpus, TRAIN, bytes, cut, advances) && add_part(corpus, VAL, bytes + cut, size - cut, advances);
}

// ---- files ----

static bool is_jsonl(const char *path) {
    size_t size = strlen(path);
    return size > 6 && strcmp(path + size - 6, ".jsonl") == 0;
}

static bool is_skipped(const File *file) { // binary or empty
    size_t probe = file->size < BINARY_PROBE ? file->size : BINARY_PROBE;
    return probe == 0 || memchr(file->bytes, 0, probe);
}

// The line that begins at `*at`, which moves behind it. False at the end.
static bool next_line(const File *file, size_t *at, const char **line, size_t *size) {
    if (*at >= file->size) return false;
    *line = file->bytes + *at;
    const char *end = memchr(*line, '\n', file->size - *at);
    *size = end ? (size_t)(end - *line) : file->size - *at;
    *at += *size + (end ? 1 : 0);
    return true;
}

static bool is_blank(const char *line, size_t size) {
    while (size > 0 && strchr(" \t\r", line[size - 1]) && line[size - 1] != 0) size--;
    return size == 0;
}

static bool add_json_line(Corpus *corpus, const char *path, int64_t number, const char *line, size_t size) {
    if (size > LINE_LIMIT)
        return errors_add(corpus->errors, EXIT_DATA, "%s, line %ld: %zu bytes, longer than %d; split the document",
                          path, number, size, LINE_LIMIT);
    Text name = {0};
    text_printf(&name, "%s, line %ld", path, number);
    Json *json = json_parse(text_string(&name), line, size, EXIT_DATA, corpus->errors);
    const cJSON *text = json ? json_member(json_root(json), "text") : NULL;
    bool good = text && cJSON_IsString(text);
    if (json && !good)
        errors_add(corpus->errors, EXIT_DATA, "%s: expected an object with a string \"text\"; mend or remove the line",
                   text_string(&name));
    good = good && add_document(corpus, text->valuestring, strlen(text->valuestring), false);
    json_close(json);
    text_close(&name);
    return good;
}

static bool add_json_lines(Corpus *corpus, const char *path, const File *file) {
    const char *line;
    size_t size, at = 0;
    int64_t before = corpus->done_bytes;
    for (int64_t number = 1; next_line(file, &at, &line, &size); number++) {
        if (is_blank(line, size)) continue;
        if (!add_json_line(corpus, path, number, line, size)) return false;
        corpus->done_bytes = before + (int64_t)at;
        show_progress(corpus);
    }
    return true;
}

static bool add_file(Corpus *corpus, const char *path) {
    File file = {0};
    if (!file_map(&file, path, EXIT_NO_INPUT, corpus->errors)) return false;
    bool good = true;
    if (is_skipped(&file))
        corpus->counts->skipped_files++;
    else if (is_jsonl(path))
        good = add_json_lines(corpus, path, &file);
    else
        good = add_document(corpus, file.bytes, file.size, true);
    file_close(&file);
    return good;
}

static bool spare_inputs(const Corpus *corpus) {
    const char *tokenizer = tokenizer_path(corpus->tokenizer), *out = corpus->setup->out;
    if (tokenizer && !corpus_spare_input(tokenizer, out, corpus->errors)) return false;
    for (int64_t i = 0; i < corpus->files.count; i++)
        if (!corpus_spare_input(corpus->files.items[i], out, corpus->errors)) return false;
    return true;
}

// ---- the split ----

static int64_t count_documents(const char *path, const File *file, int64_t enough) {
    if (is_skipped(file)) return 0;
    if (!is_jsonl(path)) return 1;
    const char *line;
    size_t size, at = 0;
    int64_t documents = 0;
    while (documents < enough && next_line(file, &at, &line, &size)) documents += !is_blank(line, size);
    return documents;
}

// Sizes all files, and finds out how the text is divided: reads no further than to the first document held out.
static bool survey(Corpus *corpus) {
    int64_t documents = 0, enough = 1;
    while (!held_out(corpus, enough - 1)) enough++;
    if (enough < MANY_DOCUMENTS) enough = MANY_DOCUMENTS;
    for (int64_t i = 0; i < corpus->files.count; i++) {
        File file = {0};
        if (!file_map(&file, corpus->files.items[i], EXIT_NO_INPUT, corpus->errors)) return false;
        corpus->total_bytes += (int64_t)file.size;
        if (documents < enough) documents += count_documents(corpus->files.items[i], &file, enough - documents);
        file_close(&file);
    }
    corpus->tails = documents < enough;
    return true;
}

static bool check_splits(const Corpus *corpus) {
    const CorpusCounts *counts = corpus->counts;
    if (counts->documents == 0)
        return errors_add(corpus->errors, EXIT_NO_INPUT,
                          "the inputs hold no text: %ld of %ld files are binary or empty, the others without documents",
                          counts->skipped_files, corpus->files.count);
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
        {"train_shards", corpus->shards[TRAIN].shards},
        {"val_shards", corpus->shards[VAL].shards},
        {"replaced_bytes", counts->replaced_bytes},
    };
    for (size_t i = 0; i < sizeof integers / sizeof integers[0]; i++)
        json_integer(&writer, integers[i].key, integers[i].value);
    json_number(&writer, "bigram_bits", counts->bigram_bits);
    json_number(&writer, "val_fraction", corpus->setup->val_fraction);
    json_string(&writer, "val_split", corpus->tails ? "tails" : "documents");
    json_begin(&writer, "sources", '[');
    for (int64_t i = 0; i < corpus->setup->inputs->count; i++)
        json_string(&writer, NULL, corpus->setup->inputs->items[i]);
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

static bool write_all(Corpus *corpus) {
    for (int64_t i = 0; i < corpus->files.count; i++)
        if (!add_file(corpus, corpus->files.items[i])) return false;
    if (!check_splits(corpus)) return false;
    for (int split = 0; split < SPLITS; split++)
        if (!shard_writer_finish(&corpus->shards[split], corpus->errors)) return false;
    corpus->counts->train_tokens = corpus->shards[TRAIN].tokens;
    corpus->counts->val_tokens = corpus->shards[VAL].tokens;
    corpus->counts->bigram_bits = bigram_bits(corpus);
    return write_descriptions(corpus);
}

bool corpus_prepare(const Tokenizer *tokenizer, const CorpusSetup *setup, CorpusCounts *counts, Errors *errors) {
    static const char *const names[SPLITS] = {"train", "val"};
    REQUIRE(setup->val_fraction > 0 && setup->val_fraction < 1 && setup->shard_tokens > 0 &&
                setup->shard_tokens < INT32_MAX,
            "validation %g, %ld tokens in a shard", setup->val_fraction, setup->shard_tokens);
    Corpus *corpus = calloc(1, sizeof *corpus);
    if (!corpus) DIE(EXIT_INTERNAL, "out of memory for the corpus");
    *counts = (CorpusCounts){0};
    corpus->tokenizer = tokenizer;
    corpus->setup = setup;
    corpus->counts = counts;
    corpus->errors = errors;
    corpus->begun = clock_seconds();
    corpus->bar = !setup->quiet && isatty(STDERR_FILENO);
    for (int split = 0; split < SPLITS; split++)
        corpus->shards[split] =
            shard_writer_open(corpus->partial, names[split], tokenizer_vocab(tokenizer), setup->shard_tokens);

    bool good = corpus_find_files(setup->inputs, setup->out, &corpus->files, errors) && spare_inputs(corpus) &&
                survey(corpus);
    bool made = !path_exists(setup->out);
    good = good && corpus_begin_output(setup->out, corpus->partial, errors);
    if (good) {
        bool written = write_all(corpus);
        clear_progress(corpus);
        if (!written) corpus_drop_output(corpus->partial);
        if (!written && made) rmdir(setup->out);
        good = written && corpus_finish_output(setup->out, corpus->partial, errors);
    }
    for (int split = 0; split < SPLITS; split++) shard_writer_close(&corpus->shards[split]);
    token_list_close(&corpus->ids);
    text_list_close(&corpus->files);
    free(corpus);
    return good;
}
