// What `analyze newton-schulz` found, for people and as JSON.
#pragma once

#include "commands/polar.h"
#include "kernels/kernels.h"
#include "optim/newton_schulz.h"
#include "runtime/json.h"

typedef enum { ARITHMETIC_FP32, ARITHMETIC_FP64, ARITHMETIC_BF16 } Arithmetic;

// What is asked for, and the report as it grows.
typedef struct {
    const Kernels *kernels;
    const char *name;      // of the polynomial
    Polynomial polynomial; // of the most steps
    int kappa;             // of taylor:KAPPA; 0: another
    Arithmetic arithmetic;
    int steps[POLYNOMIAL_STEPS + 1], step_count;
    bool one_row; // for each matrix: the last of `steps`
    bool json;
    Text text;
    JsonWriter writer;
    int64_t matrices;
} Analysis;

// After q steps.
typedef struct {
    int q;
    PolarError error;
    PolarBound bound; // of taylor
    double seconds, flops;
} StepRow;

typedef struct {
    const char *name;
    Polar polar;
    StepRow rows[POLYNOMIAL_STEPS + 1];
    int row_count;
} Examined;

// In this order; a failure in between leaves standard output without JSON.
void report_begin(Analysis *analysis);
void report_matrix(Analysis *analysis, const Examined *matrix);
void report_end(Analysis *analysis);
