// Recipes: an optimizer is a row of parts (direction, averaging, interpolation, decay point, scale, slots), each of
// which knows the hyperparameters it reads and the scalars it makes of them. Notation as in kernels.h: z fast, x
// average, y where the gradient is taken, gap = x - z.
#pragma once

#include "kernels/kernels.h"
#include "optim/newton_schulz.h"
#include "optim/schedule.h"

// ---- parts ----

// A slot's elements for a matrix (rows, columns). Vectors have only SLOT_LIKE.
typedef enum { SLOT_LIKE, SLOT_ROWS, SLOT_LEFT, SLOT_RIGHT } SlotShape;
typedef struct {
    const char *name; // in files: "m.h.0.qkv_w.q"
    SlotShape shape;
} Slot;

// How a direction is carried out: with the update itself; with a norm of each tensor first; by whole matrices.
typedef enum { MOVE_ELEMENTS, MOVE_NORMED, MOVE_ORTHOGONAL, MOVE_SOAP } MoveKind;

// What becomes of the rows of an orthogonalised matrix.
typedef enum { NEURONS_AS_THEY_ARE, NEURONS_ALIKE, NEURONS_UNIT } Neurons;

typedef struct {
    const char *formula;
    Direction kernel;
    MoveKind move;
    Neurons neurons;
    Slot slots[SEGMENT_SLOTS];
    HyperSet reads;
    void (*set)(RecipeScalars *scalars, const HyperOptions *hyper, int64_t t); // what the direction reads
} DirectionPart;

// What the scalars of one route are computed from; a memo of the steps 1..t, so that asking in order costs nothing.
typedef struct {
    int64_t t;
    double total, largest; // sum of averaging weights, largest factor of the schedule
    double c;
    double b, b_next; // interpolation that built y for step t, and for step t + 1
    double ramp;      // W_{T0-1} / w_{T0}, once warmup is over
} Averages;

typedef struct Route Route;

typedef struct {
    const char *formula;
    bool averages; // there is a gap
    HyperSet reads;
    double (*weight)(const Route *route, const Averages *a, double factor); // c; a->total counts this step
} AveragePart;

typedef struct {
    const char *formula;
    bool rises; // from the end of warmup, which then is two steps or more
    HyperSet reads;
    double (*next)(const Route *route, const Averages *a); // b_{t+1}, where a is of step t
} BlendPart;

// ---- rows ----

typedef struct {
    const char *name;
    const char *what; // one line for people
    const DirectionPart *direction;
    const AveragePart *average;
    const BlendPart *blend;
    DecayPoint decay_at;
    const char *rest;      // recipe of what is not a matrix; NULL: this one
    ScheduleKind schedule; // of optim.schedule=auto
    HyperOptions hyper;    // defaults of what its parts read
    const char *origin;    // of the defaults
} Recipe;

const Recipe *recipe_find(const char *key, const char *name, Errors *errors); // NULL and the nearest name
const Recipe *recipe_at(int index);                                           // in the table's order; NULL behind it
HyperSet recipe_reads(const Recipe *recipe);
bool recipe_is_whole(const Recipe *recipe); // moves whole matrices, and nothing else
void recipes_print(Text *out);
// Elements of a slot for a matrix; 0 where a side is too long for soap to turn.
int64_t slot_elements(SlotShape shape, int64_t rows, int64_t columns, const HyperOptions *hyper);

// ---- a recipe at work ----

// One recipe with its resolved hyperparameters: what serves the matrices, or the rest.
struct Route {
    const Recipe *recipe;
    HyperOptions hyper;
    Schedule schedule;
    Polynomial polynomial; // of MOVE_ORTHOGONAL
    Averages averages;
};

// Averages as they stand at step t = 0, 1, ...: pure functions of t and the options.
void route_advance(Route *route, int64_t t);
void route_scalars(Route *route, int64_t t, RecipeScalars *scalars);
double route_move_scale(const Route *route, int64_t rows, int64_t columns); // of a matrix that was orthogonalised
