// Optim: how parameters move. Three iterates per parameter: z (fast), x (average; evaluated and saved) and
// y = (1 - b) z + b x, where the gradient is taken and which the network sees. Stored are z and, where a recipe
// averages, gap = x - z, both wide; y is written in the compute dtype. Every parameter is served by exactly one recipe,
// chosen by its kind. Scalars are pure functions of the attempted step and the options; a skipped step leaves all state
// untouched.
//
// On several ranks all make the same calls. Sharded, z and state lie with owners, by the map of owners.h: a rank moves
// what it owns, and the weights of others come by gathering. Else every rank keeps and moves everything.
#pragma once

#include "comm/comm.h"
#include "optim/owners.h"
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
    Comm *comm;                                   // NULL: one process
    bool sharded;
} OptimSetup;

// A part of a parameter that moves on its own: q, k, v; gate, up; a whole matrix, table or vector (one row). The
// segment is what of it is this rank's: all, or from its element `begin` on, or nothing.
typedef struct {
    const Param *param;
    const ParamPart *part;
    int64_t rows, columns;
    int64_t begin;
    Segment segment;
} Piece;

// Pieces that are moved by the same calls: all that move by element, those without an element here too; matrices of one
// shape that are orthogonalised here.
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

    Comm *comm;
    bool sharded;  // never on one rank
    Owners owners; // of what is sharded
    int units;     // of the parameters
    bool stale;    // weights that others own are those of before the step; of a step that is replayed the caller tells

    Piece *pieces; // in memory order
    int64_t piece_count;
    Group groups[OPTIM_GROUPS];
    int group_count;
    int64_t matrices; // orthogonalised in each step, here; over all owners every matrix is, once

    Tensor z; // `weights` itself where the dtypes agree and nothing is averaged; else, sharded, what is owned
    Tensor state;
    Tensor average;  // e, of the readout, laid out as z; or none
    // On the device: every piece in memory order, again group by group, one that is all of `state`, one all of z.
    Segment *table;
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
// Norm, clip, skip decision, update. The gradients of all units were reduced before, and stay; status is summed over
// the ranks here. Sharded, weights are stale afterwards.
void optim_step(Optim *optim);
void optim_measure(Optim *optim); // the first part of it: squares of the gradient, and the sums, to status

// Ranks, unit by unit (Param.unit); each returns a mark for comm_wait. Gradients of a unit that is done go to their
// owners, or are summed where nothing is sharded; weights of a unit come from their owners.
int64_t optim_reduce(Optim *optim, int unit);
int64_t optim_gather(Optim *optim, int unit);
void optim_gather_all(Optim *optim); // where weights are stale: all units, and waits
// Who would own what on so many ranks; to be closed.
Owners optim_owners(const Optim *optim, int ranks);

// Whether z, gap, slots and readout hold finite numbers alone, on all ranks: one pass on the device, then a wait for
// all queued work.
bool optim_is_finite(Optim *optim);

// What the network is to see after `steps` attempted steps: y to go on, the others to look at. SHOWN is what a
// checkpoint holds as its model: the readout where there is one, else x. All of them are rebuilt from what is stored,
// bit for bit.
typedef enum { ITERATE_Y, ITERATE_X, ITERATE_Z, ITERATE_READOUT, ITERATE_SHOWN } Iterate;
bool optim_has(const Optim *optim, Iterate iterate);
// Whether no learning rate depends on where the run is to end: then what it is at any step is what a run that ends
// there is.
bool optim_is_anytime(const Optim *optim);
void optim_load_weights(Optim *optim, Iterate iterate, int64_t steps);
// z becomes `values`, laid out as the weights: weights and readout follow, and nothing was accepted yet. Gradients may
// hold the values.
void optim_begin(Optim *optim, Tensor values);

// z, gap, slots and readout by parameter name, parts apart, without padding: "z.h.0.qkv_w.q". What this rank owns: a
// range of a tensor is flat and says which one it is.
void optim_state(const Optim *optim, NamedTensors *out);
void optim_gradients(const Optim *optim, NamedTensors *out); // the same of gradients: "h.0.qkv_w.q"
