#include "model/score.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/integers.h"
#include "runtime/memory.h"

// Lengths of passes are its multiples, as far as the network has room: a device chooses its algorithms by shapes, and
// is to see few.
enum { LENGTH_STEP = 32 };

static int64_t room(const Gpt *gpt) { return gpt->setup.batch * gpt->setup.length; }

void score_open(Scorer *scorer, Gpt *gpt) {
    const char *rows = "rows of tokens";
    int64_t tokens = room(gpt);
    *scorer = (Scorer){.gpt = gpt,
                       .tokens = memory_take(tokens, sizeof *scorer->tokens, rows),
                       .targets = memory_take(tokens, sizeof *scorer->targets, rows),
                       .positions = memory_take(tokens, sizeof *scorer->positions, rows),
                       .weights = memory_take(tokens, sizeof *scorer->weights, rows),
                       .losses = memory_take(tokens, sizeof *scorer->losses, rows),
                       .wide = memory_take(tokens, dtype_bytes(gpt->setup.wide), rows)};
}

void score_close(Scorer *scorer) {
    void *memory[] = {scorer->tokens,  scorer->targets, scorer->positions,
                      scorer->weights, scorer->losses,  scorer->wide};
    for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++) free(memory[i]);
    *scorer = (Scorer){0};
}

// Tokens that the model sees: the last one is only predicted.
static int64_t seen(const ScoreRow *row) { return row->context_count + row->ending_count - 1; }

static int longest_first(const void *a, const void *b) {
    const ScoreRow *x = a, *y = b;
    if (seen(x) != seen(y)) return seen(x) < seen(y) ? 1 : -1;
    return (x->number > y->number) - (x->number < y->number);
}

void score_sort(ScoreRow *rows, int64_t count) { qsort(rows, (size_t)count, sizeof *rows, longest_first); }

static int32_t id_at(const ScoreRow *row, int64_t place) {
    return place < row->context_count ? row->context[place] : row->ending[place - row->context_count];
}

// `row` NULL: one that only fills up.
static void fill_row(Scorer *scorer, int64_t begin, int64_t length, const ScoreRow *row) {
    int64_t filled = row ? seen(row) : 0;
    for (int64_t t = 0; t < length; t++) {
        bool scored = t < filled && t + 1 >= row->context_count;
        scorer->tokens[begin + t] = t < filled ? id_at(row, t) : 0;
        scorer->targets[begin + t] = scored ? id_at(row, t + 1) : -1;
        scorer->positions[begin + t] = (int32_t)t;
        scorer->weights[begin + t] = scored ? 1 : 0;
    }
}

static double loss_of(const Scorer *scorer, int64_t begin, const ScoreRow *row) {
    double sum = 0;
    for (int64_t t = row->context_count - 1; t < seen(row); t++) sum += (double)scorer->losses[begin + t];
    return sum;
}

static void run(Scorer *scorer, int64_t rows, int64_t length) {
    Gpt *gpt = scorer->gpt;
    Batch batch = {.tokens = tensor_2d(scorer->tokens, DTYPE_I32, rows, length),
                   .targets = tensor_2d(scorer->targets, DTYPE_I32, rows, length),
                   .positions = tensor_2d(scorer->positions, DTYPE_I32, rows, length),
                   .weights = tensor_2d(scorer->weights, DTYPE_F32, rows, length)};
    gpt_load_batch(gpt, &batch);
    gpt_forward(gpt, GPT_EVALUATE);
    gpt->kernels->download(scorer->wide, tensor_slice(gpt->losses, 0, 0, rows * length));
    dtype_convert(scorer->losses, DTYPE_F32, scorer->wide, gpt->losses.dtype, rows * length);
}

int64_t score_run(Scorer *scorer, ScoreRow *rows, int64_t count) {
    int64_t longest = 0, limit = scorer->gpt->setup.length;
    for (int64_t i = 0; i < count; i++)
        if (seen(&rows[i]) > longest) longest = seen(&rows[i]);
    REQUIRE(count > 0 && longest <= limit, "%ld rows of up to %ld tokens, and the network has %ld", count, longest,
            limit);
    int64_t length = round_up(longest, LENGTH_STEP) < limit ? round_up(longest, LENGTH_STEP) : limit;
    int64_t places = room(scorer->gpt) / length, done = count < places ? count : places;
    for (int64_t i = 0; i < places; i++) fill_row(scorer, i * length, length, i < done ? &rows[i] : NULL);
    run(scorer, places, length);
    for (int64_t i = 0; i < done; i++) rows[i].loss = loss_of(scorer, i * length, &rows[i]);
    return done;
}
