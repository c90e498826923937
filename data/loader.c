// Loader. Batches live in a ring of slots; one thread fills ahead of the one that takes. A batch is a pure function of
// (step, micro-step), so a seek is a stop of the thread, and prefetching cannot change what is read. Damage found by
// the thread waits in its slot for the thread that takes it.
#include "data/loader.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/arena.h"
#include "runtime/integers.h"
#include "runtime/memory.h"
#include "runtime/thread.h"

typedef struct {
    Batch batch;
    Errors errors; // why it could not be filled
} Slot;

struct Loader {
    LoaderSetup setup;
    int64_t micro_steps;
    Arena arena;
    Slot *slots;
    int slot_count;
    int32_t *ids;    // one window, of whoever fills
    int32_t *counts; // for sorting, of whoever fills

    int64_t first; // micro-step that the ring began with, counted from step 0
    pthread_t thread;
    bool running;
    pthread_mutex_t lock; // guards what follows
    pthread_cond_t changed;
    int64_t filled, taken, released; // batches since `first`
    bool stopping;
};

int64_t loader_micro_steps(const LoaderSetup *setup) {
    return divide_up(divide_up(setup->sequences_per_step, setup->ranks), setup->micro_batch);
}

// ---- filling ----

static void fill_row(const Batch *batch, int64_t row, const int32_t *ids, int64_t sequence) {
    int64_t length = batch->tokens.shape[1];
    int32_t *tokens = (int32_t *)batch->tokens.data + row * length;
    int32_t *targets = (int32_t *)batch->targets.data + row * length;
    float *weights = (float *)batch->weights.data + row * length;
    for (int64_t t = 0; t < length; t++) {
        tokens[t] = ids ? ids[t] : 0;
        targets[t] = ids ? ids[t + 1] : -1;
        weights[t] = ids ? 1 : 0;
    }
    ((int64_t *)batch->sequence.data)[row] = ids ? sequence : -1;
    ((int32_t *)batch->source.data)[row] = 0;
}

// The global sequence of row `row` of a micro-step, or -1 where there is none.
static int64_t sequence_at(const Loader *loader, int64_t micro_step, int64_t row) {
    const LoaderSetup *setup = &loader->setup;
    int64_t step = micro_step / loader->micro_steps, within = micro_step % loader->micro_steps;
    int64_t offset = setup->rank + setup->ranks * (within * setup->micro_batch + row);
    if (offset >= setup->sequences_per_step) return -1;
    int64_t sequence = step * setup->sequences_per_step + offset;
    return setup->sequence_limit > 0 && sequence >= setup->sequence_limit ? -1 : sequence;
}

static void fill(Loader *loader, Slot *slot, int64_t micro_step) {
    const LoaderSetup *setup = &loader->setup;
    for (int64_t row = 0; row < setup->micro_batch; row++) {
        int64_t sequence = sequence_at(loader, micro_step, row);
        if (sequence < 0) {
            fill_row(&slot->batch, row, NULL, -1);
            continue;
        }
        int64_t window = sampler_window(&setup->sampler, sequence);
        bool good =
            shards_read(setup->shards, window, setup->sequence_length, setup->vocab, loader->ids, &slot->errors);
        if (!good) return;
        fill_row(&slot->batch, row, loader->ids, sequence);
    }
    batch_sort(slot->batch.token_order.data, slot->batch.tokens.data, tensor_count(slot->batch.tokens), setup->vocab,
               loader->counts);
}

static void *fill_ahead(void *argument) {
    Loader *loader = argument;
    pthread_mutex_lock(&loader->lock);
    while (!loader->stopping) {
        if (loader->filled - loader->released == loader->slot_count) {
            pthread_cond_wait(&loader->changed, &loader->lock);
            continue;
        }
        int64_t ahead = loader->filled;
        Slot *slot = &loader->slots[ahead % loader->slot_count];
        pthread_mutex_unlock(&loader->lock);
        fill(loader, slot, loader->first + ahead);
        pthread_mutex_lock(&loader->lock);
        loader->filled++;
        pthread_cond_broadcast(&loader->changed);
        if (slot->errors.count > 0) break;
    }
    pthread_mutex_unlock(&loader->lock);
    return NULL;
}

static bool start(Loader *loader) {
    loader->running = thread_start(&loader->thread, fill_ahead, loader);
    return loader->running;
}

static void stop(Loader *loader) {
    if (!loader->running) return;
    pthread_mutex_lock(&loader->lock);
    loader->stopping = true;
    pthread_cond_broadcast(&loader->changed);
    pthread_mutex_unlock(&loader->lock);
    pthread_join(loader->thread, NULL);
    loader->running = loader->stopping = false;
}

// ---- memory ----

static Tensor take(Arena *arena, DType dtype, int64_t a, int64_t b) {
    return arena_tensor(arena, "batches", tensor_2d(NULL, dtype, a, b));
}

static void place(Loader *loader) {
    int64_t rows = loader->setup.micro_batch, length = loader->setup.sequence_length, vocab = loader->setup.vocab;
    Arena *arena = &loader->arena;
    for (int i = 0; i < loader->slot_count; i++) {
        loader->slots[i].batch = (Batch){
            .tokens = take(arena, DTYPE_I32, rows, length),
            .targets = take(arena, DTYPE_I32, rows, length),
            .positions = take(arena, DTYPE_I32, rows, length),
            .weights = take(arena, DTYPE_F32, rows, length),
            .sequence = take(arena, DTYPE_I64, rows, 0),
            .source = take(arena, DTYPE_I32, rows, 0),
            .token_order = take(arena, DTYPE_I32, rows * length, 0),
            .position_order = take(arena, DTYPE_I32, rows * length, 0),
        };
    }
    int64_t most = vocab > length ? vocab : length;
    loader->ids = arena_take(arena, "window", (size_t)(length + 1) * sizeof *loader->ids);
    loader->counts = arena_take(arena, "counts", (size_t)(most + 1) * sizeof *loader->counts);
}

static void fill_positions(Loader *loader, const Batch *batch) { // the same in every batch
    int64_t length = loader->setup.sequence_length, count = tensor_count(batch->positions);
    int32_t *positions = batch->positions.data;
    for (int64_t i = 0; i < count; i++) positions[i] = (int32_t)(i % length);
    batch_sort(batch->position_order.data, positions, count, length, loader->counts);
}

Loader *loader_open(const LoaderSetup *setup, Errors *errors) {
    REQUIRE(setup->sequence_length > 0 && setup->micro_batch > 0 && setup->sequences_per_step > 0 && setup->vocab > 0 &&
                setup->rank >= 0 && setup->rank < setup->ranks && setup->prefetch >= 0,
            "rank %d of %d, %ld x %ld", setup->rank, setup->ranks, setup->micro_batch, setup->sequence_length);
    int64_t windows = shards_windows(setup->shards, setup->sequence_length);
    if (windows == 0) {
        errors_add(errors, EXIT_DATA,
                   "%s: the shards hold %ld tokens, in no file the %ld of one sequence; lower train.sequence_length or "
                   "prepare more text",
                   shards_path(setup->shards, 0), shards_tokens(setup->shards), setup->sequence_length + 1);
        return NULL;
    }
    REQUIRE(setup->sampler.windows > 0 && setup->sampler.windows <= windows, "%ld of %ld windows",
            setup->sampler.windows, windows);

    Loader *loader = memory_take(1, sizeof *loader, "the loader");
    loader->setup = *setup;
    loader->micro_steps = loader_micro_steps(setup);
    loader->slot_count = setup->prefetch + 1;
    loader->slots = memory_take(loader->slot_count, sizeof *loader->slots, "slots of the loader");
    loader->arena.name = "batches";
    place(loader);
    void *memory = aligned_alloc(ARENA_ALIGNMENT, loader->arena.used);
    if (!memory) DIE(EXIT_INTERNAL, "out of memory for %zu bytes of batches", loader->arena.used);
    arena_begin_placing(&loader->arena, memory);
    place(loader);
    for (int i = 0; i < loader->slot_count; i++) fill_positions(loader, &loader->slots[i].batch);
    pthread_mutex_init(&loader->lock, NULL);
    pthread_cond_init(&loader->changed, NULL);
    return loader;
}

void loader_close(Loader *loader) {
    if (!loader) return;
    stop(loader);
    pthread_cond_destroy(&loader->changed);
    pthread_mutex_destroy(&loader->lock);
    for (int i = 0; i < loader->slot_count; i++) errors_close(&loader->slots[i].errors);
    free(loader->arena.base);
    arena_close(&loader->arena);
    free(loader->slots);
    free(loader);
}

// ---- taking ----

void loader_seek(Loader *loader, int64_t step) {
    stop(loader);
    for (int i = 0; i < loader->slot_count; i++) errors_close(&loader->slots[i].errors);
    loader->first = step * loader->micro_steps;
    loader->filled = loader->taken = loader->released = 0;
}

const Batch *loader_next(Loader *loader, Errors *errors) {
    Slot *slot = &loader->slots[loader->taken % loader->slot_count];
    if (loader->setup.prefetch > 0 && !loader->running && !start(loader))
        loader->setup.prefetch = 0; // slower, and the same batches
    if (loader->setup.prefetch == 0) {
        fill(loader, slot, loader->first + loader->taken++);
    } else {
        pthread_mutex_lock(&loader->lock);
        loader->released = loader->taken;
        pthread_cond_broadcast(&loader->changed);
        while (loader->filled == loader->taken) pthread_cond_wait(&loader->changed, &loader->lock);
        loader->taken++;
        pthread_mutex_unlock(&loader->lock);
    }
    if (slot->errors.count == 0) return &slot->batch;
    stop(loader);
    errors_move(errors, &slot->errors);
    return NULL;
}
