// What a model says behind a prompt, with the options of the section `sample`.
#pragma once

#include "commands/run.h"
#include "model/generate.h"

// How a sample begins: with ids, where there are some, else with text; where that is empty, too, with the separator.
typedef struct {
    const char *text;
    TokenList ids;
    int64_t number; // among the prompts: its draws are its own
} Prompt;

typedef struct {
    Text prompt; // what the model saw of it, as bytes; of ids, and where no tokenizer is known: "1 2 3"
    Text text;   // behind it, the same way, without the text that ended it
    TokenList ids; // behind it: every token, those that ended it included
    Finish finish; // FINISH_EMIT: the stop text came, or the run was stopped
    bool as_ids;
    double seconds;
} Sample;

typedef struct {
    const SampleOptions *options;
    uint64_t seed;
    FILE *stream; // gets it all as it comes, characters whole and safe for a terminal; or NULL
} SampleRequest;

// Of a run with a cache. To be closed.
void sample_take(Run *run, const SampleRequest *request, const Prompt *prompt, Sample *sample);
void sample_close(Sample *sample);
