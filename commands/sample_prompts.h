// The prompts of `sample`: one from the command line, or those of a file.
#pragma once

#include "commands/sample_text.h"

typedef struct {
    TextList texts; // at least one after success
    TokenList *ids; // of each, where they are read as ids; else NULL
} Prompts;

// `text`; or where `file` is not NULL its lines, blank ones left out: as they are, or the "prompt" of JSON objects
// where its name ends in .jsonl. "-" is standard input. Messages are 2, and 66 for a file that cannot be read.
bool prompts_read(Prompts *prompts, const char *text, const char *file, Errors *errors);
void prompts_close(Prompts *prompts);

// Takes them as numbers with spaces or commas between; messages name the word.
bool prompts_read_ids(Prompts *prompts, Errors *errors);
bool prompts_check_ids(const Prompts *prompts, int64_t vocab, Errors *errors); // all below it

int64_t prompts_longest(const Prompts *prompts); // tokens that one has, at most
Prompt prompts_at(const Prompts *prompts, int64_t index); // to be used while the list is there
