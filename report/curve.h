// Curves: what is measured along a run, thinned to what a figure can show.
#pragma once

#include <stdint.h>

// What a run can be laid along.
typedef enum { ALONG_STEPS, ALONG_TOKENS, ALONG_TIME, ALONG_FLOPS, ALONGS } Along;

typedef struct {
    double x[ALONGS]; // those not known: NaN
    double y, low, high;
} CurvePoint;

typedef struct {
    CurvePoint *points;
    int64_t count, capacity;
} Curve;

void curve_add(Curve *curve, CurvePoint point);
void curve_close(Curve *curve);

// The rows where y is finite, in at most `most` buckets of as many rows each: the mean of x and `smooth`, and the
// least and the greatest y. `smooth` may be y itself. x may hold NULL, for what is not known.
void curve_thin(Curve *out, const double *const x[ALONGS], const double *y, const double *smooth, int64_t rows,
                int64_t most);

// The mean over up to `reach` finite values to both sides, NaN where y is none. At the beginning, where curves are
// steep, as many to the right as there are to the left; at the end those to the left alone.
void curve_smooth(double *out, const double *y, int64_t rows, int64_t reach);
