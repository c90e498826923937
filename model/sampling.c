#include "model/sampling.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/memory.h"
#include "runtime/philox.h"

void token_sampler_open(TokenSampler *s, const Sampling *options, int64_t vocab) {
    *s = (TokenSampler){.options = *options, .vocab = vocab};
    s->seen = memory_take(vocab, sizeof *s->seen, "tokens seen");
    s->scores = memory_take(vocab, sizeof *s->scores, "scores of tokens");
    s->weights = memory_take(vocab, sizeof *s->weights, "weights of tokens");
    s->order = memory_take(vocab, sizeof *s->order, "tokens by score");
}

void token_sampler_close(TokenSampler *s) {
    free(s->seen);
    free(s->scores);
    free(s->weights);
    free(s->order);
    *s = (TokenSampler){0};
}

void token_sampler_see(TokenSampler *s, const int32_t *ids, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (ids[i] >= 0 && ids[i] < s->vocab) s->seen[ids[i]] = true;
}

// False where a logit is not finite.
static bool set_scores(TokenSampler *s, const float *logits) {
    float penalty = (float)s->options.repetition_penalty;
    int finite = 1;
    for (int64_t i = 0; i < s->vocab; i++) finite &= isfinite(logits[i]) != 0;
    if (!finite) return false;
    memcpy(s->scores, logits, (size_t)s->vocab * sizeof *logits);
    for (int64_t i = 0; penalty != 1 && i < s->vocab; i++)
        if (s->seen[i]) s->scores[i] = logits[i] < 0 ? logits[i] * penalty : logits[i] / penalty;
    return true;
}

static int32_t likeliest(const TokenSampler *s) {
    int64_t best = 0;
    for (int64_t i = 1; i < s->vocab; i++)
        if (s->scores[i] > s->scores[best]) best = i;
    return (int32_t)best;
}

static void set_weights(TokenSampler *s) {
    const double most = 1e30; // a larger factor makes NaN of 0
    float largest = s->scores[likeliest(s)];
    float inverse = (float)fmin(1 / s->options.temperature, most);
    for (int64_t i = 0; i < s->vocab; i++) s->weights[i] = expf((s->scores[i] - largest) * inverse);
}

// ---- the likeliest ----

static bool likelier(const TokenSampler *s, int32_t a, int32_t b) {
    return s->scores[a] > s->scores[b] || (s->scores[a] == s->scores[b] && a < b);
}

static double weight_of(const TokenSampler *s, int32_t id, bool counts) { return counts ? 1 : (double)s->weights[id]; }

// Those of order[low .. high) that are likelier than one of them go before it, the others behind. Its new place; they
// weigh `before`.
static int64_t split(TokenSampler *s, int64_t low, int64_t high, bool counts, double *before) {
    int32_t *order = s->order, pivot = order[low + (high - low) / 2];
    int64_t place = low;
    order[low + (high - low) / 2] = order[high - 1];
    *before = 0;
    for (int64_t i = low; i < high - 1; i++) {
        int32_t id = order[i];
        if (!likelier(s, id, pivot)) continue;
        *before += weight_of(s, id, counts);
        order[i] = order[place];
        order[place++] = id;
    }
    order[high - 1] = order[place];
    order[place] = pivot;
    return place;
}

// Of order[0 .. count) those to the front before which less than `enough` stands: of weight, or of ids where it
// `counts` them. How many those are.
static int64_t select_likeliest(TokenSampler *s, int64_t count, bool counts, double enough) {
    int64_t low = 0, high = count;
    double before = 0, between; // order[0 .. low) is chosen and weighs `before`, order[high ..) is not
    while (low < high) {
        int64_t place = split(s, low, high, counts, &between);
        if (before + between >= enough) {
            high = place;
        } else {
            before += between + weight_of(s, s->order[place], counts);
            low = place + 1;
        }
    }
    return low;
}

// Ids that weigh at least `least` into `order`; the others weigh nothing from here on.
static int64_t list_ids(TokenSampler *s, double least) {
    int64_t count = 0;
    for (int32_t id = 0; id < s->vocab; id++) {
        if ((double)s->weights[id] >= least) s->order[count++] = id;
        else s->weights[id] = 0;
    }
    return count;
}

static void leave_out(TokenSampler *s, int64_t kept, int64_t count) {
    for (int64_t i = kept; i < count; i++) s->weights[s->order[i]] = 0;
}

static double whole_weight(const TokenSampler *s) {
    double total = 0;
    for (int64_t id = 0; id < s->vocab; id++) total += (double)s->weights[id];
    return total;
}

static void apply_top_k(TokenSampler *s) {
    int64_t kept = s->options.top_k;
    if (kept == 0 || kept >= s->vocab) return;
    int64_t count = list_ids(s, 0);
    leave_out(s, select_likeliest(s, count, true, (double)kept), count);
}

// Ids so light that all of their kind together are no more than what is left out are not among the chosen: most need
// not be put in order.
static void apply_top_p(TokenSampler *s) {
    double p = s->options.top_p, total = whole_weight(s);
    if (p >= 1) return;
    int64_t count = list_ids(s, (1 - p) * total / (double)s->vocab);
    leave_out(s, select_likeliest(s, count, false, p * total), count);
}

static void apply_min_p(TokenSampler *s) {
    for (int64_t id = 0; id < s->vocab; id++) // the likeliest weighs 1
        if ((double)s->weights[id] < s->options.min_p) s->weights[id] = 0;
}

// ---- a draw ----

static int32_t draw(const TokenSampler *s, double uniform) {
    double rest = uniform * whole_weight(s);
    int32_t last = 0;
    for (int32_t id = 0; id < s->vocab; id++) {
        if (s->weights[id] == 0) continue;
        rest -= (double)s->weights[last = id];
        if (rest < 0) break;
    }
    return last;
}

int32_t token_sampler_draw(TokenSampler *s, const float *logits, int64_t place) {
    if (!set_scores(s, logits)) return -1;
    if (s->options.temperature == 0) return likeliest(s);
    set_weights(s);
    apply_top_k(s);
    apply_top_p(s);
    apply_min_p(s);
    return draw(s, philox_uniform(s->options.seed, STREAM_SAMPLE, s->options.prompt, (uint64_t)place));
}
