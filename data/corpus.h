// Corpus: text files, folders and JSONL, also compressed (data/text_stream.h), into token shards, a tokenizer.json and
// a dataset.json.
//
// Documents: a file named .jsonl (.jsonl.gz, .jsonl.zst), and standard input, "-", has one per line that is not blank,
// of at most 256 MiB; any other file is one. Folders are walked in sorted order, without names that begin with a dot.
// The separator follows each document.
// Validation: document i is held out whole where philox_uniform(SPLIT_SEED, STREAM_SPLIT, 0, i) < val_fraction. With
// fewer than 20 documents, or when this picks none, the last val_fraction of each document is held out instead, cut
// behind the end of a line (before whitespace where none ends within 64 MiB). A compressed text is then decompressed
// once more, for its size. Of standard input, what is read before the first document held out stays in memory.
//
// All threads encode; the result is that of one. Memory does not grow with the inputs: about 50 MB a thread beside the
// shards (100 MB for byte), and ten times the longest line, or thirty times the longest word.
#pragma once

#include "data/tokenizer.h"

typedef struct {
    const TextList *inputs; // files, folders, "-"
    const char *out;        // directory; a non-empty one is refused unless it holds only what we wrote and no input
    double val_fraction;    // share of the text that is held out, in (0, 1)
    int64_t shard_tokens;   // per file; as many ids are held in memory
    const char *field;      // of a JSON line: the member that holds the text
    int threads;            // at least 1
    bool quiet;             // no progress bar
} CorpusSetup;

typedef struct {
    int64_t documents, skipped_files; // skipped: binary or empty
    int64_t train_tokens, val_tokens; // with separators
    int64_t train_bytes, val_bytes;   // of text
    int64_t replaced_bytes;           // that were not UTF-8 and became U+FFFD
    double bigram_bits;               // byte-bigram entropy of the whole corpus: H(byte | previous byte), bits
} CorpusCounts;

bool corpus_prepare(const Tokenizer *tokenizer, const CorpusSetup *setup, CorpusCounts *counts, Errors *errors);

// A byte-level BPE of `vocab` ids (data/bpe_train.h), fewer when no pair is left to merge, trained on what
// corpus_prepare gives to training; standard input, which cannot be read twice, is refused. Memory: at most 3 GiB for
// words, beside what is said above. Words that are too rare for it, or too long, are left out (data/piece_counts.h).
enum { TRAINED_VOCAB_LEAST = 257, TRAINED_VOCAB_MOST = 1 << 20 };
typedef struct {
    int64_t bytes, words;          // of text; distinct ones
    int64_t forgotten, long_words; // occurrences of words left out: too rare, too long
} CorpusTraining;
Tokenizer *corpus_train(const CorpusSetup *setup, int64_t vocab, CorpusTraining *facts, Errors *errors);

// dataset.json beside the shards: what `train` checks before it believes them. Missing file: `present` is false.
typedef struct {
    bool present;
    char tokenizer_hash[33];
    int64_t vocab;
    int64_t train_tokens, val_tokens, val_bytes;
    double bigram_bits;
} DatasetFacts;
bool dataset_facts(const char *directory, DatasetFacts *facts, Errors *errors);
