#include "data/corpus_flow.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "runtime/memory.h"
#include "runtime/thread.h"

typedef struct {
    Unit *units;
    int capacity, count, first_slot;
    bool last;
    Errors errors; // of reading what would come next
} Batch;

// ---- batches ----

// A vast unit fills a batch alone, and gives its memory back.
static void read_batch(Batch *batch, CorpusReader *reader) {
    int64_t bytes = 0, limit = (int64_t)batch->capacity * UNIT_BYTES;
    batch->count = 0;
    while (!batch->last && batch->count < batch->capacity && bytes < limit) {
        Unit *unit = &batch->units[batch->count];
        if (unit->text.capacity > 8 * UNIT_BYTES) text_close(&unit->text);
        bool ended, good = corpus_reader_next(reader, unit, &ended, &batch->errors);
        batch->last = !good || ended;
        if (batch->last) break;
        bytes += (int64_t)unit->text.size;
        batch->count++;
    }
}

static bool take_batch(const Flow *flow, Batch *batch, Errors *errors) {
    for (int i = 0; i < batch->count; i++) {
        Unit *unit = &batch->units[i];
        if (unit->errors.count > 0) return errors_move(errors, &unit->errors);
        if (!flow->take(flow->context, batch->first_slot + i, unit, errors)) return false;
    }
    return batch->errors.count == 0 || errors_move(errors, &batch->errors);
}

static void open_batches(Batch batches[FLOW_BATCHES], int capacity) {
    for (int i = 0; i < FLOW_BATCHES; i++) {
        batches[i] = (Batch){.capacity = capacity, .first_slot = i * capacity};
        batches[i].units = memory_take(capacity, sizeof *batches[i].units, "the corpus");
    }
}

static void close_batches(Batch batches[FLOW_BATCHES]) {
    for (int i = 0; i < FLOW_BATCHES; i++) {
        for (int u = 0; u < batches[i].capacity; u++) {
            text_close(&batches[i].units[u].text);
            errors_close(&batches[i].units[u].errors);
        }
        errors_close(&batches[i].errors);
        free(batches[i].units);
    }
}

// ---- threads ----

typedef struct {
    const Flow *flow;
    Batch *batch;
    atomic_int next;
} Crew;

typedef struct {
    Crew *crew;
    int number;
    pthread_t thread;
    bool started;
} Worker;

static void *work_on(void *argument) {
    const Worker *worker = argument;
    Crew *crew = worker->crew;
    for (int i; (i = atomic_fetch_add(&crew->next, 1)) < crew->batch->count;)
        crew->flow->work(crew->flow->context, worker->number, crew->batch->first_slot + i, &crew->batch->units[i]);
    return NULL;
}

static void work_together(const Flow *flow, Batch *batch, Worker *workers) {
    Crew crew = {flow, batch, 0};
    int count = batch->count < flow->threads ? batch->count : flow->threads;
    for (int i = 1; i < count; i++) {
        workers[i] = (Worker){.crew = &crew, .number = i};
        workers[i].started = thread_start(&workers[i].thread, work_on, &workers[i]);
    }
    work_on(&(Worker){.crew = &crew});
    for (int i = 1; i < count; i++)
        if (workers[i].started) pthread_join(workers[i].thread, NULL);
}

// What goes on beside the work on a batch.
typedef struct {
    const Flow *flow;
    CorpusReader *reader;
    Batch *before, *next; // NULL: there is none
    Errors *errors;
    bool good;
} Side;

static void *write_and_read(void *argument) {
    Side *side = argument;
    side->good = !side->before || take_batch(side->flow, side->before, side->errors);
    if (side->good && side->next) read_batch(side->next, side->reader);
    return NULL;
}

int corpus_flow_slots(int threads) { return FLOW_BATCHES * FLOW_UNITS * threads; }

bool corpus_flow(const Flow *flow, CorpusReader *reader, Errors *errors) {
    Batch batches[FLOW_BATCHES];
    Worker *workers = memory_take(flow->threads, sizeof *workers, "threads");
    open_batches(batches, FLOW_UNITS * flow->threads);
    read_batch(&batches[0], reader);
    Batch *before = NULL, *current = &batches[0];
    bool good = true;
    for (int i = 1; good && current; i++) {
        Batch *next = current->last ? NULL : &batches[i % FLOW_BATCHES];
        Side side = {flow, reader, before, next, errors, true};
        pthread_t thread;
        bool beside = flow->threads > 1 && thread_start(&thread, write_and_read, &side);
        if (!beside) write_and_read(&side);
        if (beside || side.good) work_together(flow, current, workers);
        if (beside) pthread_join(thread, NULL);
        good = side.good;
        before = current;
        current = next;
    }
    good = good && take_batch(flow, before, errors);
    close_batches(batches);
    free(workers);
    return good;
}
