// Loader: micro-batches of one rank, a pure function of (step, micro-step). Step s (from 0) is the global sequences
// s S .. (s + 1) S - 1 with S = sequences per step; rank r of N takes r, r + N, ...; the last micro-batch of a step is
// filled up with sequences of weight 0 (tokens 0, targets -1), so that shapes never change.
#pragma once

#include "data/sampler.h"
#include "data/shards.h"
#include "runtime/batch.h"

typedef struct {
    const Shards *shards; // borrowed
    Sampler sampler;
    int64_t sequence_length;    // T
    int64_t micro_batch;        // B
    int64_t sequences_per_step; // over all ranks
    int64_t sequence_limit;     // global sequences >= this are fill; 0: none (training)
    int64_t vocab;              // ids must be below
    int rank, ranks;
    int prefetch; // micro-batches ahead, 0: none
} LoaderSetup;

typedef struct Loader Loader;

Loader *loader_open(const LoaderSetup *setup, Errors *errors);
void loader_close(Loader *loader);

int64_t loader_micro_steps(const LoaderSetup *setup); // ceil(ceil(S / ranks) / B), the same on every rank

void loader_seek(Loader *loader, int64_t step); // the next batch is micro-step 0 of `step`

// The next micro-batch, on the host, valid until the next call. NULL and a message (65) where a token id is damaged:
// the loader gives nothing more until it is sought again.
const Batch *loader_next(Loader *loader, Errors *errors);
