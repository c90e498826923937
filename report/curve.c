#include "report/curve.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/memory.h"

void curve_add(Curve *curve, CurvePoint point) {
    curve->points = memory_room(curve->points, curve->count + 1, &curve->capacity, sizeof point, "points of a curve");
    curve->points[curve->count++] = point;
}

void curve_close(Curve *curve) {
    free(curve->points);
    *curve = (Curve){0};
}

static int64_t count_finite(const double *y, int64_t rows) {
    int64_t count = 0;
    for (int64_t i = 0; i < rows; i++) count += isfinite(y[i]);
    return count;
}

void curve_thin(Curve *out, const double *const x[ALONGS], const double *y, const double *smooth, int64_t rows,
                int64_t most) {
    int64_t finite = count_finite(y, rows), buckets = finite < most ? finite : most, seen = 0, row = 0;
    for (int64_t b = 0; b < buckets; b++) {
        CurvePoint point = {.low = INFINITY, .high = -INFINITY};
        int64_t begin = seen, end = finite * (b + 1) / buckets;
        for (; seen < end; row++) {
            if (!isfinite(y[row])) continue;
            for (int a = 0; a < ALONGS; a++) point.x[a] += x[a] ? x[a][row] : NAN;
            point.y += smooth[row];
            point.low = fmin(point.low, y[row]);
            point.high = fmax(point.high, y[row]);
            seen++;
        }
        for (int a = 0; a < ALONGS; a++) point.x[a] /= (double)(end - begin);
        point.y /= (double)(end - begin);
        curve_add(out, point);
    }
}

void curve_smooth(double *out, const double *y, int64_t rows, int64_t reach) {
    int64_t count = count_finite(y, rows), place = 0;
    double *sums = memory_take(count + 1, sizeof *sums, "rows of a curve"); // of the finite ones before
    for (int64_t i = 0; i < rows; i++)
        if (isfinite(y[i])) place++, sums[place] = sums[place - 1] + y[i];
    place = 0;
    for (int64_t i = 0; i < rows; i++) {
        out[i] = NAN;
        if (!isfinite(y[i])) continue;
        int64_t left = place < reach ? place : reach, right = count - 1 - place;
        if (right > left) right = left;
        out[i] = (sums[place + right + 1] - sums[place - left]) / (double)(left + right + 1);
        place++;
    }
    free(sums);
}
