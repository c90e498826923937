// What a corpus is read as, for data/corpus*.c alone: inputs in order, cut into units of about a megabyte that several
// threads can work on, and each unit into the parts of its documents. Which document is held out, and where one is
// cut, is decided here alone; none of it depends on how many threads there are.
#pragma once

#include "data/corpus.h"
#include "data/text_stream.h"

typedef enum { SPLIT_TRAIN, SPLIT_VAL, SPLITS } CorpusSplit;

// Found once for all that is done with the inputs.
typedef struct {
    const CorpusSetup *setup;
    TextList files;
    bool tails;          // the end of each document is held out, not whole documents
    int64_t total_bytes; // of all files; -1: one is standard input
    TextStream *stream;  // of standard input, begun here; else NULL
    Text begun;          // what was read of it
} CorpusInputs;

// False and a message where an input is missing or lies in the output directory. Reads no further than to the first
// document held out, which of standard input stays in memory.
bool corpus_open_inputs(CorpusInputs *inputs, const CorpusSetup *setup, Errors *errors);
void corpus_close_inputs(CorpusInputs *inputs);

// A piece of one document, or whole lines of JSON.
typedef struct {
    const char *path;
    Text text;
    bool lines;
    int64_t line, document; // lines: numbers of the first ones
    int previous;           // piece: the byte of the document before it; -1: it begins the document
    CorpusSplit split;      // piece
    bool ends;              // piece: a separator follows
    int64_t taken;          // bytes of all files that were read until here
    Errors errors;          // of the work on it
} Unit;
enum { UNIT_BYTES = 1 << 20 };

typedef struct CorpusReader CorpusReader;
// `tokenizer` says where a document may be cut.
CorpusReader *corpus_reader_open(CorpusInputs *inputs, const Tokenizer *tokenizer);
void corpus_reader_close(CorpusReader *reader);
// The next unit; `ended` where there is none. False and a message for a file that cannot be read.
bool corpus_reader_next(CorpusReader *reader, Unit *unit, bool *ended, Errors *errors);
int64_t corpus_reader_skipped(const CorpusReader *reader); // files: binary or empty

// What of a document goes into one split; never empty. Of a large one, a unit holds only a piece of that.
typedef struct {
    const char *bytes;
    size_t size;
    CorpusSplit split;
    int previous; // byte of the document before it; -1: it begins the document
    bool ends;    // a separator follows
} Part;

// Where the held-out end of a document begins: behind the end of a line, before whitespace where no line ends within
// TAIL_SEARCH; `size` where it has no place to be cut. `target`: 1 - val_fraction of it.
enum { TAIL_SEARCH = 64 << 20 };
size_t corpus_tail(const Tokenizer *tokenizer, const char *bytes, size_t size, size_t target);
size_t corpus_tail_target(const CorpusSetup *setup, int64_t size);
bool corpus_held_out(const CorpusSetup *setup, int64_t document);

// Gives `take` the parts of a unit in order. False, and messages in unit->errors, for a line that is no document.
typedef void PartTaker(void *context, const Part *part);
bool corpus_parts(Unit *unit, const CorpusInputs *inputs, const Tokenizer *tokenizer, PartTaker *take, void *context);

// The line that begins at `*at`, which moves behind it. False at the end.
bool corpus_next_line(const Text *text, size_t *at, const char **line, size_t *size);
bool corpus_is_blank(const char *line, size_t size);
