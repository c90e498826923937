// The parts of `bench`: whole steps (bench.c), their operations one by one (bench_kernels.c), the optimizer's step
// apart from its micro-batches (bench_optimizer.c), what several ranks would send (bench_ranks.c), a step's line in the
// logs (bench_logging.c), and tokens of generation (bench_generate.c); beside what the same memory traffic and the same
// matrix products take when nothing else is done.
#pragma once

#include "commands/run.h"
#include "kernels/checked.h"
#include "runtime/json.h"

enum { BENCH_REPEATS = 31 }; // at most

double bench_median(const double *values, int count);

// What the device does at best, measured: products of the network's precision, and a copy (bytes read and written).
typedef struct {
    double flops, bytes; // a second
} BenchLimits;
double bench_copy_rate(const Kernels *kernels);
void bench_print_operations(const Tally *tallies, int count, const BenchLimits *limits);
void bench_operations_json(const Tally *tallies, int count, const BenchLimits *limits, JsonWriter *writer);

// What the command line asks for.
typedef struct {
    const char *file; // or NULL
    char *const *overrides;
    int count;
    bool json;
    const char *recipes; // "all", or names with commas between; NULL: the configured one
} BenchRequest;

// The configuration, with what `bench` adds where nothing is said; `recipe` NULL: the configured one.
bool bench_configure(Config *config, const BenchRequest *request, const char *recipe, Errors *errors);

// A pass over elements: so many tensors of them are read, read and written, written.
typedef struct {
    int64_t elements, read, updated, overwritten;
    double bytes; // of all of it, each byte counted once
} ElementPass;

// A matrix product of Newton-Schulz, as the library does it.
typedef struct {
    Product product;
    int64_t out[2], a[2], b[2]; // rows, columns
    double calls;               // in one step
} LibraryCall;

enum { BENCH_PASSES = 12, BENCH_CALLS = 3 * OPTIM_GROUPS };
typedef struct {
    Run *run;
    ElementPass passes[BENCH_PASSES];
    LibraryCall calls[BENCH_CALLS];
    int pass_count, call_count;
    double flops; // of Newton-Schulz
    char *memory; // of the passes and products to compare with
    DType product_dtype; // of Newton-Schulz
    size_t bytes;
    int repeats;
    double step[BENCH_REPEATS], elements[BENCH_REPEATS], stream[BENCH_REPEATS]; // seconds
    double newton_schulz[BENCH_REPEATS], library[BENCH_REPEATS];
} OptimizerBench;

// After the state was filled and a gradient is there; warms up.
bool optimizer_bench_open(OptimizerBench *bench, Run *run, Errors *errors);
void optimizer_bench_repeat(OptimizerBench *bench); // measures everything once more
void optimizer_bench_close(OptimizerBench *bench);
double optimizer_bench_seconds(const OptimizerBench *bench); // of its step
// Lines of a table, and one object of an array; `step_seconds` is that of a whole step, NaN: there was none.
void optimizer_bench_print_head(void);
void optimizer_bench_print(const OptimizerBench *bench);
void optimizer_bench_json(const OptimizerBench *bench, double step_seconds, JsonWriter *writer);

// Seconds, measured on one rank.
typedef struct {
    double micro_batch, optimizer;
} BenchTimes;

// What several ranks would send, counted, and how they would scale, modelled. Of a planned run.
void bench_print_ranks(const Run *run, const BenchTimes *times);
void bench_ranks_json(const Run *run, const BenchTimes *times, JsonWriter *writer);

// What logging costs, of a run that is open and whose numbers are no longer needed. Seconds, NaN where it cannot be
// measured (which is told) or where no GPU is looked at.
typedef struct {
    double line;        // that a step's line takes of training
    double look, every; // that a look at the GPUs takes a thread beside it; the time between two
    bool tensorboard;
} LoggingBench;
void bench_logging(Run *run, double step_seconds, double product_flops, LoggingBench *out);
void bench_print_logging(const LoggingBench *bench, double step_seconds);
void bench_logging_json(const LoggingBench *bench, double step_seconds, JsonWriter *writer);

// The optimizer alone: one line for each recipe that is asked for.
bool bench_recipes(const BenchRequest *request, Errors *errors);

bool bench_generate(const BenchRequest *request, Errors *errors); // of one sequence, token by token
