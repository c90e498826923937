// metrics.jsonl, read back: a row for each line, a column for each number that any of them carries.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "runtime/error.h"

typedef struct {
    char *key;
    double *values; // by row; NaN where the line has none, or null
} MetricsColumn;

typedef struct {
    MetricsColumn *columns;
    int64_t column_count;
    int64_t rows, capacity;
} MetricsTable;

// Reads RUN/metrics.jsonl; a run at work may be read. A last line that is not whole is passed over; other lines that
// are no objects are damage (65, with the line's number). No such file is an empty table.
bool metrics_table_read(MetricsTable *table, const char *run_dir, Errors *errors);
void metrics_table_close(MetricsTable *table);
const double *metrics_table_column(const MetricsTable *table, const char *key); // NULL: no line has it
