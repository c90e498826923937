// How checked.c makes a call: its tensors by their roles, which are held against the contract before it, and what it
// took afterwards.
#pragma once

#include "kernels/kernels.h"

enum {
#define K(result, operation, parameters) OPERATION_##operation,
    KERNELS(K)
#undef K
    OPERATIONS
};

extern const Kernels *checked_inner; // the backend itself

// Of the next call; bytes 0: those of the call's tensors.
typedef struct {
    double flops, bytes;
} Cost;
extern Cost checked_cost;

typedef enum { COMPUTE, WIDE, FLOATS, F32, F64, I32 } Kind; // FLOATS: any float dtype

typedef struct {
    const char *name;
    Tensor tensor;
    const char *shape; // one letter or digit per dimension; NULL: any
    Kind kind;
    bool optional, written, read;
} Role;

#define IN(tensor, shape, kind) {#tensor, tensor, shape, kind, false, false, true}
#define IN_OR_NONE(tensor, shape, kind) {#tensor, tensor, shape, kind, true, false, true}
#define OUT(tensor, shape, kind) {#tensor, tensor, shape, kind, false, true, false}
#define OUT_OR_NONE(tensor, shape, kind) {#tensor, tensor, shape, kind, true, true, false}
#define UPDATED(tensor, shape, kind) {#tensor, tensor, shape, kind, false, true, true}
#define UPDATED_OR_NONE(tensor, shape, kind) {#tensor, tensor, shape, kind, true, true, true}

typedef struct {
    int operation;
    const Role *roles;
    int count;
    double start;
} Call;

void begin_call(Call *call);
void end_call(const Call *call);

// Checks the roles given after `arguments`, then does and times the call.
#define CALL(name, arguments, ...)                                                                 \
    do {                                                                                           \
        const Role roles[] = {__VA_ARGS__};                                                        \
        Call call = {OPERATION_##name, roles, (int)(sizeof roles / sizeof roles[0]), 0};           \
        begin_call(&call);                                                                         \
        checked_inner->name arguments;                                                             \
        end_call(&call);                                                                           \
    } while (0)

// A call without roles.
#define TIMED(name, arguments)                         \
    do {                                               \
        Call call = {OPERATION_##name, NULL, 0, 0};    \
        begin_call(&call);                             \
        checked_inner->name arguments;                 \
        end_call(&call);                               \
    } while (0)

bool is_float(DType dtype);
