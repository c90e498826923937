// Corpus: text files, folders and JSONL into token shards, a tokenizer.json and a dataset.json, in bounded memory.
#pragma once

#include "data/tokenizer.h"

typedef struct {
    const TextList *inputs;   // files (.jsonl: one document per line, member "text") and folders, which are walked
    const char *out;          // directory; a non-empty one is refused unless it holds only what we wrote
    double val_fraction;      // share of the text that is held out
    int64_t shard_tokens;     // per file
    bool quiet;               // no progress bar
} CorpusSetup;

typedef struct {
    int64_t documents, skipped_files; // skipped: binary or empty
    int64_t train_tokens, val_tokens;
    int64_t train_bytes, val_bytes;   // of text
    double bigram_bits;               // byte-bigram entropy of the whole corpus: H(byte | previous byte), bits
} CorpusCounts;

bool corpus_prepare(const Tokenizer *tokenizer, const CorpusSetup *setup, CorpusCounts *counts, Errors *errors);

// dataset.json beside the shards: what `train` checks before it believes them. Missing file: `present` is false.
typedef struct {
    bool present;
    char tokenizer_hash[33];
    int64_t vocab;
    int64_t train_tokens, val_tokens, val_bytes;
    double bigram_bits;
} DatasetFacts;
bool dataset_facts(const char *directory, DatasetFacts *facts, Errors *errors);
