// Inputs into units. A file is read into a window that is given out piece by piece; it grows only where a line, or a
// run of text without a place to be cut, is longer than a unit.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/corpus_files.h"
#include "data/corpus_units.h"
#include "runtime/file.h"
#include "runtime/memory.h"

enum { BINARY_PROBE = 64 << 10, LINE_LIMIT = 256 << 20, MANY_DOCUMENTS = 20 };
enum { PIECE_LOOK = UNIT_BYTES + TAIL_SEARCH + 4 }; // tokenizer_piece looks no further

struct CorpusReader {
    CorpusInputs *inputs;
    const Tokenizer *tokenizer;
    int64_t file;       // number of the next
    const char *path;   // of the current one
    TextStream *stream; // NULL: none is open
    Text window;        // read and, from `at` on, not given out yet
    size_t at;
    bool lines;
    int64_t line, document, skipped;
    int64_t closed_bytes; // of files behind
    int previous;         // byte given out last, of a document that is cut into pieces
    int64_t target;       // tails: of its bytes before the place where to look for the held-out end; -1: behind that
};

// ---- the window ----

static size_t held(const CorpusReader *reader) { return reader->window.size - reader->at; }
static const char *front(const CorpusReader *reader) { return text_string(&reader->window) + reader->at; }

// Reads until so much is held, or all there is.
static bool fill(CorpusReader *reader, size_t size, Errors *errors) {
    Text *window = &reader->window;
    if (held(reader) >= size || text_stream_ended(reader->stream)) return true;
    size_t kept = held(reader);
    if (reader->at > 0) memmove(window->data, window->data + reader->at, kept);
    window->size = kept;
    reader->at = 0;
    return text_stream_read(reader->stream, window, size - kept, errors);
}

static bool is_last(const CorpusReader *reader, size_t size) {
    return size == held(reader) && text_stream_ended(reader->stream);
}

static void give(CorpusReader *reader, Unit *unit, size_t size) {
    text_append(&unit->text, front(reader), size);
    reader->at += size;
}

// ---- files ----

static bool is_input(const char *path) { return strcmp(path, TEXT_STREAM_INPUT) == 0; }

static bool is_skipped(const char *bytes, size_t size) { // binary or empty
    size_t probe = size < BINARY_PROBE ? size : BINARY_PROBE;
    return probe == 0 || memchr(bytes, 0, probe);
}

static void close_file(CorpusReader *reader) {
    if (reader->stream) reader->closed_bytes += text_stream_taken(reader->stream);
    text_stream_close(reader->stream);
    reader->stream = NULL;
    text_clear(&reader->window);
    reader->at = 0;
}

// Bytes of a text that is known only when all was read.
static bool measure(const char *path, int64_t *size, Errors *errors) {
    TextStream *stream = text_stream_open(path, errors);
    Text block = {0};
    *size = 0;
    bool good = stream != NULL;
    while (good && !text_stream_ended(stream)) {
        text_clear(&block);
        good = text_stream_read(stream, &block, UNIT_BYTES, errors);
        *size += (int64_t)block.size;
    }
    text_close(&block);
    text_stream_close(stream);
    return good;
}

static bool begin_document(CorpusReader *reader, Errors *errors) {
    const CorpusInputs *inputs = reader->inputs;
    int64_t size = text_stream_size(reader->stream);
    reader->previous = -1;
    reader->target = -1;
    if (!inputs->tails) return true;
    if (size < 0 && !measure(reader->path, &size, errors)) return false;
    reader->target = (int64_t)corpus_tail_target(inputs->setup, size);
    return true;
}

static bool open_file(CorpusReader *reader, Errors *errors) {
    CorpusInputs *inputs = reader->inputs;
    reader->path = inputs->files.items[reader->file++];
    bool begun = inputs->stream && is_input(reader->path);
    reader->stream = begun ? inputs->stream : text_stream_open(reader->path, errors);
    if (begun) {
        text_close(&reader->window);
        reader->window = inputs->begun;
        inputs->begun = (Text){0};
        inputs->stream = NULL;
    }
    if (!reader->stream || !fill(reader, BINARY_PROBE, errors)) return false;
    if (is_skipped(front(reader), held(reader))) {
        reader->skipped++;
        close_file(reader);
        return true;
    }
    reader->lines = text_stream_is_lines(reader->path);
    reader->line = 1;
    return reader->lines || begin_document(reader, errors);
}

// ---- units ----

// Whole lines: as many as end in the first megabyte, or one.
static bool take_lines(CorpusReader *reader, Unit *unit, Errors *errors) {
    size_t size = 0;
    for (size_t look = UNIT_BYTES; size == 0; look = 2 * look < LINE_LIMIT ? 2 * look : LINE_LIMIT + 1) {
        if (!fill(reader, look, errors)) return false;
        size_t seen = held(reader) < look ? held(reader) : look;
        const char *end = (look == UNIT_BYTES ? memrchr : memchr)(front(reader), '\n', seen);
        if (end) size = (size_t)(end + 1 - front(reader));
        if (is_last(reader, seen)) size = seen;
        if (is_last(reader, seen)) break;
        if (size == 0 && look > LINE_LIMIT)
            return errors_add(errors, EXIT_DATA, "%s, line %ld: longer than %d bytes; split the document",
                              text_stream_name(reader->path), reader->line, LINE_LIMIT);
    }
    unit->line = reader->line;
    unit->document = reader->document;
    give(reader, unit, size);
    const char *line;
    size_t length, at = 0;
    for (; corpus_next_line(&unit->text, &at, &line, &length); reader->line++)
        reader->document += !corpus_is_blank(line, length);
    return true;
}

// The end of what is trained on, and of the piece, where the place to look for it is in the window or soon behind it.
static bool find_tail(CorpusReader *reader, size_t *size, Errors *errors) {
    size_t target = (size_t)reader->target, furthest = target + TAIL_SEARCH + 4;
    for (size_t look = target + UNIT_BYTES;; look = 2 * look < furthest ? 2 * look : furthest) {
        if (!fill(reader, look, errors)) return false;
        if (target > held(reader)) target = held(reader); // of a file that became shorter
        const char *line_end = memchr(front(reader) + target, '\n', held(reader) - target);
        bool found = line_end && line_end + 1 < front(reader) + held(reader);
        if (found || look >= furthest || text_stream_ended(reader->stream)) break;
    }
    *size = corpus_tail(reader->tokenizer, front(reader), held(reader), target);
    reader->target = -1;
    return true;
}

static bool find_piece(CorpusReader *reader, size_t *size, Errors *errors) {
    for (size_t look = UNIT_BYTES + BINARY_PROBE;; look = 2 * look < PIECE_LOOK ? 2 * look : PIECE_LOOK) {
        if (!fill(reader, look, errors)) return false;
        *size = tokenizer_piece(reader->tokenizer, front(reader), held(reader), UNIT_BYTES);
        if (*size < held(reader) || look == PIECE_LOOK || text_stream_ended(reader->stream)) return true;
    }
}

// The next piece of what is trained on.
static bool find_before_tail(CorpusReader *reader, size_t *size, bool *ends, Errors *errors) {
    if (reader->target > UNIT_BYTES && !find_piece(reader, size, errors)) return false;
    *ends = reader->target <= UNIT_BYTES || (int64_t)*size >= reader->target;
    if (*ends) return find_tail(reader, size, errors);
    reader->target -= (int64_t)*size;
    return true;
}

static bool take_piece(CorpusReader *reader, Unit *unit, Errors *errors) {
    const CorpusInputs *inputs = reader->inputs;
    size_t size = 0;
    bool trained = inputs->tails ? reader->target >= 0 : !corpus_held_out(inputs->setup, reader->document);
    unit->split = trained ? SPLIT_TRAIN : SPLIT_VAL;
    unit->previous = reader->previous;
    bool good = inputs->tails && trained ? find_before_tail(reader, &size, &unit->ends, errors)
                                         : find_piece(reader, &size, errors);
    if (!good) return false;
    if (!inputs->tails || !trained) unit->ends = is_last(reader, size);
    give(reader, unit, size);
    if (size > 0) reader->previous = (unsigned char)unit->text.data[size - 1];
    return true;
}

static bool all_given(const CorpusReader *reader) { return held(reader) == 0 && text_stream_ended(reader->stream); }

bool corpus_reader_next(CorpusReader *reader, Unit *unit, bool *ended, Errors *errors) {
    text_clear(&unit->text);
    *ended = false;
    while (unit->text.size == 0) {
        while (!reader->stream) {
            *ended = reader->file == reader->inputs->files.count;
            if (*ended) return true;
            if (!open_file(reader, errors)) return false;
        }
        unit->path = reader->path;
        unit->lines = reader->lines;
        if (!(reader->lines ? take_lines : take_piece)(reader, unit, errors)) return false;
        unit->taken = reader->closed_bytes + text_stream_taken(reader->stream);
        if (!all_given(reader)) continue;
        if (!reader->lines) reader->document++;
        close_file(reader);
    }
    return true;
}

// ---- all of it ----

CorpusReader *corpus_reader_open(CorpusInputs *inputs, const Tokenizer *tokenizer) {
    CorpusReader *reader = memory_take(1, sizeof *reader, "the corpus");
    reader->inputs = inputs;
    reader->tokenizer = tokenizer;
    return reader;
}

void corpus_reader_close(CorpusReader *reader) {
    if (!reader) return;
    close_file(reader);
    text_close(&reader->window);
    free(reader);
}

int64_t corpus_reader_skipped(const CorpusReader *reader) { return reader->skipped; }

// ---- inputs ----

// Documents of the file that is open, until there are `enough` in all.
static bool count_documents(CorpusReader *reader, int64_t enough, Errors *errors) {
    Unit unit = {0};
    bool good = true, input = is_input(reader->path);
    if (!reader->lines) reader->document++;
    while (good && reader->lines && reader->document < enough && !all_given(reader)) {
        text_clear(&unit.text);
        good = take_lines(reader, &unit, errors);
        if (input) text_append(&reader->inputs->begun, text_string(&unit.text), unit.text.size);
    }
    if (input) {
        text_append(&reader->inputs->begun, front(reader), held(reader));
        reader->inputs->stream = reader->stream;
        reader->stream = NULL;
    }
    text_close(&unit.text);
    return good;
}

// Whether whole documents are held out, or their ends: reads no further than to the first one that would be.
static bool survey(CorpusInputs *inputs, Errors *errors) {
    int64_t enough = 1;
    while (!corpus_held_out(inputs->setup, enough - 1)) enough++;
    if (enough < MANY_DOCUMENTS) enough = MANY_DOCUMENTS;
    CorpusReader *reader = corpus_reader_open(inputs, NULL);
    bool good = true;
    while (good && reader->document < enough && reader->file < inputs->files.count) {
        good = open_file(reader, errors) && (!reader->stream || count_documents(reader, enough, errors));
        close_file(reader);
    }
    inputs->tails = reader->document < enough;
    corpus_reader_close(reader);
    return good;
}

static bool check_file(CorpusInputs *inputs, const char *path, Errors *errors) {
    uint64_t size = 0;
    bool input = is_input(path);
    if (!input && access(path, R_OK) != 0) return file_complain(path, "reading", errno, EXIT_NO_INPUT, errors);
    bool known = !input && path_size(path, &size);
    inputs->total_bytes = known && inputs->total_bytes >= 0 ? inputs->total_bytes + (int64_t)size : -1;
    return input || corpus_spare_input(path, inputs->setup->out, errors);
}

bool corpus_open_inputs(CorpusInputs *inputs, const CorpusSetup *setup, Errors *errors) {
    *inputs = (CorpusInputs){.setup = setup};
    bool good = corpus_find_files(setup->inputs, setup->out, &inputs->files, errors);
    for (int64_t i = 0; i < inputs->files.count && good; i++)
        good = check_file(inputs, inputs->files.items[i], errors);
    return good && survey(inputs, errors);
}

void corpus_close_inputs(CorpusInputs *inputs) {
    text_stream_close(inputs->stream);
    text_close(&inputs->begun);
    text_list_close(&inputs->files);
}
