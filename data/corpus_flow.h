// A corpus going by, for data/corpus*.c alone: units are read, worked on by several threads and taken in the order of
// the input. While threads work on one batch of units, another writes what became of the batch before and then reads
// the next in its place; with one thread all is done in turn. A batch has FLOW_UNITS units a thread.
#pragma once

#include "data/corpus_units.h"

enum { FLOW_UNITS = 4, FLOW_BATCHES = 2 };

typedef struct {
    int threads;
    void *context;
    // On the unit of a slot below corpus_flow_slots; several at once. Leaves what it made with the slot.
    void (*work)(void *context, int thread, int slot, Unit *unit);
    // What it made, in order, one at a time.
    bool (*take)(void *context, int slot, const Unit *unit, Errors *errors);
} Flow;

int corpus_flow_slots(int threads);
// Stops at the first failure in the order of the input, whatever the number of threads.
bool corpus_flow(const Flow *flow, CorpusReader *reader, Errors *errors);
