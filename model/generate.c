#include "model/generate.h"

static Finish generate(Decoder *decoder, TokenSampler *sampler, const Generation *g, int64_t *length) {
    for (int64_t made = 0; made < g->count; made++) {
        decoder_follow(decoder, g->ids, *length);
        int32_t id = token_sampler_draw(sampler, decoder->logits, made);
        if (id < 0) return FINISH_NOT_FINITE;
        g->ids[(*length)++] = id;
        token_sampler_see(sampler, &id, 1);
        if (id == g->end) return FINISH_END;
        if (g->emit && !g->emit(id, g->context)) return FINISH_EMIT;
    }
    return FINISH_LENGTH;
}

Finish gpt_generate(Decoder *decoder, const Generation *g, int64_t *length) {
    TokenSampler sampler;
    *length = g->length;
    token_sampler_open(&sampler, &g->sampling, decoder->gpt->shape.vocab);
    token_sampler_see(&sampler, g->ids, g->length);
    decoder_restart(decoder, false);
    Finish finish = generate(decoder, &sampler, g, length);
    if (finish == FINISH_NOT_FINITE) decoder_restart(decoder, true); // later ones must not meet it
    token_sampler_close(&sampler);
    return finish;
}
