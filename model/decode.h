// Decoder: one sequence on its way through a network, token by token, over the keys and values that are kept of it.
#pragma once

#include "model/gpt.h"

typedef struct {
    Gpt *gpt;
    int64_t begin; // place in the sequence of what has position 0
    int64_t held;  // positions in the cache: 0 .. held - 1
    float *logits; // (vocab) on the host: what follows the last token
    void *raw;     // the same as the device has them
} Decoder;

// Of an opened network with setup.cache > 0.
void decoder_open(Decoder *decoder, Gpt *gpt);
void decoder_close(Decoder *decoder);

// Sets `logits` for a sequence ids[0 .. length), length > 0, that begins with what the decoder has seen; only the rest
// is computed, setup.length tokens a pass. S = setup.cache positions hold the last S of a new sequence. When they are
// full the older half is dropped and the rest computed again at positions from 0: all but every (S / 2)th token cost
// the same, and each sees at least the last S / 2.
void decoder_follow(Decoder *decoder, const int32_t *ids, int64_t length);

// The next sequence is a new one. With `wipe` nothing stays in the cache: numbers that are not finite must not.
void decoder_restart(Decoder *decoder, bool wipe);
