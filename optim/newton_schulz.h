// Newton-Schulz: the polar factor of a matrix by polynomials alone. x <- (e0 + e1 s + e2 s^2 + ...) x with s = x x',
// repeated, moves every singular value of x, which must not be above 1, towards 1. Coefficients are data.
#pragma once

#include "kernels/kernels.h"
#include "runtime/arena.h"

enum { POLYNOMIAL_TERMS = 8, POLYNOMIAL_STEPS = 64 };

typedef struct {
    int steps, terms;                                // terms: coefficients of each step, 2 or more
    double e[POLYNOMIAL_STEPS][POLYNOMIAL_TERMS];
    double safety; // matrices are divided by this times their Frobenius norm: some lists diverge just above 1
} Polynomial;

typedef struct {
    const char *name;         // a row of the table, "taylor:1" .. "taylor:7" or "custom"
    int64_t steps;            // OPTION_AUTO: the list's own; more repeat its last polynomial
    const char *coefficients; // of "custom"
    double safety;            // NaN: the list's own
} PolynomialSpec;

// False and a message (2) that begins with `key`, for names that are unknown and lists that are not safe: a composed
// map that is negative on [1e-3, 1] or exceeds 2 below the largest singular value that rounding leaves.
bool polynomial_make(Polynomial *polynomial, const char *key, const PolynomialSpec *spec, Errors *errors);
double polynomial_map(const Polynomial *polynomial, double sigma); // what becomes of a singular value
void polynomials_print(Text *out);

// Room for `count` matrices (rows, columns) at a time.
typedef struct {
    Tensor x[2];    // (count, rows, columns)
    Tensor gram[3]; // (count, short side, short side); as many as the polynomial needs
    Tensor half;    // bf16, of x's shape, or none: whatever is written is rounded to it (a study of bf16 on the CPU)
} NewtonSchulz;

void newton_schulz_place(NewtonSchulz *room, Arena *arena, DType dtype, const Polynomial *polynomial,
                         const int64_t shape[3]);

// The matrices in room->x[0], the first `count` of them, are made orthogonal; the result lies in one of room->x.
// `official`: the norm counts 1e-7 more, as in the first published code; else it is at least 1e-20. `match`: the
// result gets the norm of an orthogonal matrix.
typedef struct {
    bool official, match;
} NewtonSchulzWay;
Tensor newton_schulz(const Kernels *kernels, const Polynomial *polynomial, const NewtonSchulz *room, int64_t count,
                     NewtonSchulzWay way);
double newton_schulz_flops(const Polynomial *polynomial, int64_t rows, int64_t columns); // of one matrix
