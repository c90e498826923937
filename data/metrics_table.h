// metrics.jsonl, read back: a row for each line, a column for each number that any of them carries.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "runtime/error.h"

typedef struct {
    char *key;
    double *values; // by row; NaN where the line has none, or null
} MetricsColumn;

// A text that a line carries: "event", "gpu_throttle".
typedef struct {
    char *key, *value;
    int64_t row;
} MetricsNote;

typedef struct {
    MetricsColumn *columns;
    int64_t column_count;
    int64_t rows, capacity;
    MetricsNote *notes; // in the order of the lines
    int64_t note_count, note_capacity;
} MetricsTable;

enum {
    METRICS_KEYS = 256,        // different ones in a file, at most
    METRICS_VALUES = 1 << 28,  // rows times columns, at most
    METRICS_LINE = 1 << 20,    // bytes of a line, at most
};

// Reads RUN/metrics.jsonl line by line; a run at work may be read. A last line that is not whole is passed over; other
// lines that are no objects are damage (65, with the line's number), and what was read before it stays. A line of an
// event has only `step` and `tokens` here: the step has a line of its own besides. No such file is an empty table.
bool metrics_table_read(MetricsTable *table, const char *run_dir, Errors *errors);
void metrics_table_close(MetricsTable *table);
const double *metrics_table_column(const MetricsTable *table, const char *key); // NULL: no line has it
double metrics_table_last(const MetricsTable *table, const char *key); // that is finite; NaN: none is
