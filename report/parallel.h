// Parallel coordinates: one upright axis for each thing that was varied, one line for each run through its values,
// coloured by how good it was.
#pragma once

#include "report/page.h"

typedef struct {
    const char *name;
    double *values;       // by line; NaN: it has none. Of words: their index
    bool log;
    const TextList *words; // NULL: numbers
} ParallelAxis;

typedef struct {
    const ParallelAxis *axes; // the last one is the result
    int64_t axis_count, count;
    const char *const *notes; // what each line is
    bool maximise;
} Parallel;

void parallel_write(const Parallel *parallel, Page *page);
