// Generation: tokens behind a prompt, one by one.
#pragma once

#include "model/decode.h"
#include "model/sampling.h"

typedef struct {
    int32_t *ids;   // the prompt; room for `count` more
    int64_t length; // of the prompt, at least 1
    int64_t count;  // tokens at most
    int32_t end;    // the id that ends a text; -1: none
    Sampling sampling;
    bool (*emit)(int32_t id, void *context); // sees each token as it comes; false ends. NULL: nobody looks
    void *context;
} Generation;

typedef enum {
    FINISH_LENGTH,     // all of them
    FINISH_END,        // the last one is `end`, which `emit` has not seen
    FINISH_EMIT,       // emit said so
    FINISH_NOT_FINITE, // a logit was not: the model diverged
} Finish;

// Puts the tokens behind the prompt; *length becomes that of all. The decoder may have been used before.
Finish gpt_generate(Decoder *decoder, const Generation *generation, int64_t *length);
