// Pre-split: where byte-level BPE cuts a text before anything is merged. One row per published pattern.
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef enum { PRESPLIT_GPT2, PRESPLIT_LLAMA3, PRESPLIT_QWEN2, PRESPLIT_KINDS } PresplitKind;

typedef struct Presplit Presplit;
Presplit *presplit_open(PresplitKind kind); // has scratch: one thread at a time
void presplit_close(Presplit *presplit);

// The end of the piece that begins at byte `at`, which is below `size`, of valid UTF-8.
size_t presplit_next(Presplit *presplit, const char *text, size_t size, size_t at);
size_t presplit_match(Presplit *presplit, const char *text, size_t size, size_t at); // the same by PCRE2 alone, slower

const char *presplit_pattern(PresplitKind kind); // as PCRE2 reads it; it stands for the kind in hashes

// As tokenizer.json spells it. Several spellings are one function; the first is written.
const char *presplit_published(PresplitKind kind);
int presplit_find(const char *published); // a PresplitKind; -1: none of ours
