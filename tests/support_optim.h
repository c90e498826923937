// Optimizers under test, without a network: the test gives options as text, parameters and gradients, and sees numbers
// as doubles. Flat numbers are those of all parameters one behind the other, without padding.
#pragma once

#include "optim/optim.h"

// Options of all sections, as they are without a configuration, for optim_settings_set.
typedef struct {
    OptimOptions options;
    HyperOptions hyper[1 + RECIPE_ROUTES];
    RouteOptions route[RECIPE_ROUTES];
    TextList strings;
    Comm *comm; // of one of several ranks; or NULL
    bool sharded;
} OptimSettings;

void optim_settings_open(OptimSettings *settings);
void optim_settings_close(OptimSettings *settings);
// "optim.lr", "optim.matrix.lr", "optim.other.name": false and what is wrong.
bool optim_settings_set(OptimSettings *settings, const char *key, const char *value, Text *problem);
// "optim.name=muon optim.lr=0.1", or fails the test; values without spaces.
void optim_settings_read(OptimSettings *settings, const char *assignments);

// Parameters by rows; `columns` of a vector is 1, its elements are rows. Items for free().
typedef struct {
    const char *name;
    ParamKind kind;
    int64_t columns;
    ParamPart parts[PARAM_PARTS];
} OptimParam;
ParamList optim_params(const OptimParam *rows, int64_t count);
// Seven of them with ten pieces: a square, a tall and a wide matrix, q, k, v and gate, up, a table, a vector.
ParamList optim_model(void);

typedef struct {
    const Kernels *kernels;
    DType compute; // of the weights that the network reads
    Optim optim;
    ParamList params; // with room between them
    int64_t elements; // without it
    Tensor weights, grads, status;
    StepScalars *scalars; // on the device
    void *memory;
    int64_t t;      // attempted steps
    bool bad_loss;  // of the next step
    bool ahead;     // the next step is queued before the result of the last was seen
} OptimRun;

// On a backend in its own precision: the CPU's fp32, the reference's fp64; calls are checked against kernels.h.
bool optim_run_plan(OptimRun *run, const Kernels *kernels, const ParamList *params, const OptimSettings *settings,
                    int64_t steps, Errors *errors);
void optim_run_open(OptimRun *run, const Kernels *kernels, const ParamList *params, const OptimSettings *settings,
                    int64_t steps); // plans and opens, or fails the test
void optim_run_open_in(OptimRun *run, const Kernels *kernels, DType compute, const ParamList *params,
                       const OptimSettings *settings, int64_t steps); // with weights of that dtype
void optim_run_begin(OptimRun *run, const double *start);
// On several ranks, gradients are this one's part of them; weights are gathered.
StepScalars optim_run_step(OptimRun *run, const double *gradients);
void optim_run_close(OptimRun *run);

// Flat numbers for free(): what the network sees now; or after a load of that iterate. A load of y puts things right.
double *optim_run_weights(const OptimRun *run);
double *optim_run_load(OptimRun *run, Iterate iterate);

// Weights to begin with, for free(); and gradients of a noisy quadratic at what the network sees, so that whatever is
// wrong with it goes on being wrong. `run->t` steps have been made.
double *optim_run_start(const OptimRun *run);
double *optim_run_gradients(const OptimRun *run);

// The range of a piece in flat numbers.
typedef struct {
    char name[TENSOR_NAME];
    int64_t begin, rows, columns;
    ParamKind kind;
} OptimRange;
int64_t optim_ranges(const ParamList *params, OptimRange *out, int64_t most); // how many

double range_norm(const double *values, const OptimRange *range);
double range_distance(const double *a, const double *b, const OptimRange *range);
