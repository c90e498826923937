// Sampling: from logits to a token, by the rules of Hugging Face transformers and in their order: repetition penalty,
// temperature, top-k, top-p, min-p, then a draw.
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    double temperature;        // 0: the likeliest token, whatever the next three say
    int64_t top_k;             // only so many of the likeliest; 0: all
    double top_p;              // of them the fewest likeliest that have this probability together; 1: all
    double min_p;              // of them those with this share of the largest probability; 0: all
    double repetition_penalty; // of every id so far: divides its logit, multiplies a negative one; 1: none
    uint64_t seed;
    uint32_t prompt;           // a draw is a function of (seed, prompt, place among the tokens drawn)
} Sampling;

// Takes the likeliest of all: what `{0}` leaves out is neutral.
#define SAMPLING_GREEDY ((Sampling){.top_p = 1, .repetition_penalty = 1})

typedef struct {
    Sampling options;
    int64_t vocab;
    bool *seen;     // (vocab) ids so far
    float *scores;  // (vocab) logits after penalty
    float *weights; // (vocab) what the last draw was made by: proportional to probability, 0 for those left out
    int32_t *order; // (vocab) ids; after a selection the chosen ones first
} TokenSampler;

void token_sampler_open(TokenSampler *sampler, const Sampling *options, int64_t vocab);
void token_sampler_close(TokenSampler *sampler);

void token_sampler_see(TokenSampler *sampler, const int32_t *ids, int64_t count); // what comes before the next token
// The token that comes next, by logits (vocab); `place` counts from 0. Equally likely ids go in their order. -1 where a
// logit is not finite.
int32_t token_sampler_draw(TokenSampler *sampler, const float *logits, int64_t place);
