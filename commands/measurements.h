// Measurements: what `bench` found steps of training to take, kept for later estimates in bench.json of the data
// directory ($THALWEG_DATA, default ~/.cache/thalweg). It is a convenience: what is wrong with it is told, and nothing
// fails for it.
#pragma once

#include "runtime/error.h"
#include "runtime/machine.h"

// One training step, on one rank.
typedef struct {
    char device[MACHINE_NAME], precision[16], optimizer[64];
    int64_t threads; // of the processor that computes; 0: a GPU does
    int64_t parameters, sequence_length, micro_batch, micro_steps, recompute;
    double flops_per_token;
    double step_seconds, micro_batch_seconds, optimizer_seconds;
    double product_flops, copy_bytes; // a second: of a large product and of a copy, in the same run
    int64_t time;                     // when: seconds since 1970
} Measurement;

// Whether all but what was measured, and when, is the same; the number of micro-batches apart.
bool measurement_same_kind(const Measurement *a, const Measurement *b);

enum { MEASUREMENTS = 100 };
typedef struct {
    Measurement items[MEASUREMENTS]; // the newest first
    int count;
} Measurements;

// False and messages where there is a file and something of it had to be passed over; the rest is there all the same.
bool measurements_read(Measurements *out, Errors *errors);

// The newest from now on; the last one of its kind is forgotten, and the oldest where there are too many. Several
// processes may do so at once. A file that is damaged or none of ours is replaced.
bool measurements_add(const Measurement *measurement, Errors *errors);
void measurements_path(char out[4096]);
