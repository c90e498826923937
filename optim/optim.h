// Optim: how parameters move. Three iterates per parameter: z (fast), x (average; evaluated and saved) and
// y = (1 - b) z + b x, where the gradient is taken and which the network sees. Stored are z and, where a recipe
// averages, gap = x - z, both wide; y is written in the compute dtype. Every parameter is served by exactly one recipe,
// chosen by its kind. Scalars are pure functions of the attempted step and the options; a skipped step leaves all state
// untouched.
#pragma once

#include "kernels/kernels.h"
#include "optim/recipes.h"
#include "optim/soap.h"
#include "runtime/arena.h"
#include "runtime/named_tensor.h"
#include "runtime/param.h"

typedef struct {
    const OptimOptions *options;
    const RouteOptions *route[RECIPE_ROUTES];     // optim.matrix.*, optim.other.*
    const HyperOptions *hyper[1 + RECIPE_ROUTES]; // optim.*, optim.matrix.*, optim.other.*
    int64_t steps, step_tokens;                   // of the run, for schedules
    DType wide;                                   // of z and state
} OptimSetup;

// A part of a parameter that moves on its own: q, k, v; gate, up; a whole matrix, table or vector (one row).
typedef struct {
    const Param *param;
    const ParamPart *part;
    int64_t rows, columns;
    Segment segment;
} Piece;

// Pieces that are moved by the same calls: all that move by element; matrices of one shape that are orthogonalised.
typedef struct {
    const Route *route; // NULL: of every route that moves by element
    int64_t first, count; // in Optim.table
    int64_t rows, columns, chunk; // of matrices, and how many at a time
    NewtonSchulz room;
    SoapRoom soap;
} Group;
enum { OPTIM_GROUPS = 24 };

// A further average of x.
typedef struct {
    int64_t kind, start, every;
    double decay;
} Readout;

typedef struct {
    const Kernels *kernels;
    ParamList params; // borrowed from the network, as are weights and gradients
    Tensor weights, grads, status;
    const StepScalars *scalars; // on the device

    Route routes[RECIPE_ROUTES];
    double clip;
    Readout readout;

    Piece *pieces; // in memory order
    int64_t piece_count;
    Group groups[OPTIM_GROUPS];
    int group_count;
    int64_t matrices; // orthogonalised in each step

    Tensor z; // `weights` itself where the dtypes agree and nothing is averaged
    Tensor state;
    Tensor average;  // e, of the readout; or none
    Segment *table;  // on the device: every piece in memory order, again group by group, and one that is all of `state`
    Tensor squares;  // (pieces) f64
    Tensor window;   // (WINDOW_SIZE) f64: of accepted steps, what spikes are judged by
    Arena arena;
    void *memory;
    int64_t orthogonalised; // in the last step
} Optim;

// What the network lends.
typedef struct {
    ParamList params;
    Tensor weights, grads, status;
    const StepScalars *scalars;
} OptimTarget;

// Chooses recipes, routes parameters and measures memory. False and messages (exit 2) for unknown names, options that
// no chosen part reads, and combinations that cannot be.
bool optim_plan(Optim *optim, const Kernels *kernels, const ParamList *params, DType compute, const OptimSetup *setup,
                Errors *errors);
bool optim_open(Optim *optim, const OptimTarget *target, Errors *errors);
void optim_close(Optim *optim);
void optim_print(const Optim *optim, Text *out); // a few lines for people

// t, clip, readout and recipes; and `seen`, as if the host had looked at all steps before. Not the loss weight, and no
// spikes. In any order of t: bit for bit the same.
void optim_scalars(Optim *optim, int64_t t, StepScalars *scalars);
void optim_step(Optim *optim);    // norm, clip, skip decision, update; gradients stay
void optim_measure(Optim *optim); // the first part of it: squares of the gradient, to status

// Whether z, gap, slots and readout hold finite numbers alone: one pass on the device, then a wait for all queued work.
bool optim_is_finite(Optim *optim);

// What the network is to see after `steps` attempted steps: y to go on, the others to look at. SHOWN is what a
// checkpoint holds as its model: the readout where there is one, else x. All of them are rebuilt from what is stored,
// bit for bit.
typedef enum { ITERATE_Y, ITERATE_X, ITERATE_Z, ITERATE_READOUT, ITERATE_SHOWN } Iterate;
bool optim_has(const Optim *optim, Iterate iterate);
void optim_load_weights(Optim *optim, Iterate iterate, int64_t steps);
void optim_begin(Optim *optim); // z was filled: weights and readout follow, and nothing was accepted yet

// z, gap, slots and readout by parameter name, parts apart, without padding: "z.h.0.qkv_w.q".
void optim_state(const Optim *optim, NamedTensors *out);
void optim_gradients(const Optim *optim, NamedTensors *out); // the same of gradients: "h.0.qkv_w.q"
