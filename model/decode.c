#include "model/decode.h"

#include <stdlib.h>

#include "runtime/memory.h"

void decoder_open(Decoder *d, Gpt *gpt) {
    REQUIRE(gpt->setup.cache > 0, "a network without a cache");
    *d = (Decoder){.gpt = gpt};
    d->logits = memory_take(gpt->shape.vocab, sizeof *d->logits, "logits");
    d->raw = memory_take(gpt->shape.vocab, dtype_bytes(gpt->setup.compute), "logits");
}

void decoder_close(Decoder *d) {
    free(d->logits);
    free(d->raw);
    *d = (Decoder){0};
}

void decoder_restart(Decoder *d, bool wipe) {
    d->begin = d->held = 0;
    for (int64_t l = 0; wipe && l < d->gpt->shape.layers; l++) {
        d->gpt->kernels->fill_zero(d->gpt->caches[l].k);
        d->gpt->kernels->fill_zero(d->gpt->caches[l].v);
    }
}

static void queue_token(void *context) { gpt_forward_last(context); }

// The same calls for every single token: what differs is loaded before.
static void forward(Decoder *d, const int32_t *ids, int64_t count) {
    gpt_load_tokens(d->gpt, ids, d->held, count);
    if (count == 1) kernels_run(d->gpt->kernels, PROGRAM_TOKEN, queue_token, d->gpt);
    else gpt_forward_last(d->gpt);
    d->held += count;
}

static void download_logits(Decoder *d) {
    Tensor row = gpt_last_logits(d->gpt);
    d->gpt->kernels->download(d->raw, row);
    dtype_convert(d->logits, DTYPE_F32, d->raw, row.dtype, tensor_count(row));
}

// Where position 0 is to be, so that all that follows has room.
static void make_room(Decoder *d, int64_t length) {
    int64_t positions = d->gpt->setup.cache;
    if (length - d->begin <= positions) return;
    d->begin = length - (d->held == 0 ? positions : positions / 2 + 1);
    d->held = 0;
}

void decoder_follow(Decoder *d, const int32_t *ids, int64_t length) {
    make_room(d, length);
    int64_t seen = d->begin + d->held, pass = d->gpt->setup.length;
    REQUIRE(length > seen, "%ld tokens, of which %ld were seen", length, seen);
    for (; seen < length; seen = d->begin + d->held)
        forward(d, ids + seen, length - seen < pass ? length - seen : pass);
    download_logits(d);
}
