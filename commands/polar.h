// Polar: how near an iterate comes to the orthogonal factor of a matrix, in the quantities of Kim and Oh, "Convergence
// of Muon with Newton-Schulz" (2601.19156). All on the host, in double, by singular value decomposition.
#pragma once

#include <stdbool.h>
#include <stdint.h>

// M (rows, columns), divided by its Frobenius norm, and its polar factor: the partial isometry U V' of the singular
// values that are not rounding.
typedef struct {
    int64_t rows, columns, rank;
    double *matrix, *factor;
    double frobenius; // |M|_F
    double nuclear;   // |M|_* / |M|_F
    double smallest;  // singular value that counts, over |M|_F
} Polar;

// `matrix` is copied. False where it is zero or not finite, or LAPACK fails; nothing is open then.
bool polar_open(Polar *polar, const double *matrix, int64_t rows, int64_t columns);
void polar_close(Polar *polar);

enum { POLAR_QUANTILES = 6 };
extern const double polar_quantiles[POLAR_QUANTILES]; // 0, 0.01, 0.1, 0.5, 0.9, 1

// Of an iterate X. m is the short side, Pi the projector on the range of M.
typedef struct {
    double epsilon;                // |X - U V'|_op
    double delta;                  // |Pi - X X'|_op
    double log_delta;              // its logarithm, exact also where delta is 1 to rounding
    double chi;                    // |M|_* / <M, X>
    double rms;                    // of X, times sqrt(max(rows, columns)): 1 for an orthogonal matrix
    double sigma[POLAR_QUANTILES]; // of the singular values of X
    double orthogonality;          // |I - X X'|_F / sqrt(m), on the short side
    double relative;               // |X - U V'|_F / |U V'|_F
} PolarError;
bool polar_measure(const Polar *polar, const double *x, PolarError *error); // false where LAPACK fails

// Theorem 2 for the Taylor polynomial of degree kappa, from delta_0 of X_0 = M / (safety |M|_F).
typedef struct {
    double log_delta_0;
    double exponent; // (kappa + 1)^q
    double delta;    // delta_q <= delta_0^((kappa + 1)^q)
    double epsilon;  // epsilon_q <= 1 - sqrt(1 - delta_0^((kappa + 1)^q))
} PolarBound;
PolarBound polar_bound(const Polar *polar, double safety, int kappa, int q);

// Matrices to look at, freed by the caller: normal numbers, and U diag(sigma) V' with random U, V.
double *polar_gaussian(int64_t rows, int64_t columns, uint64_t seed);
double *polar_spectrum(const double *sigma, int64_t count, int64_t rows, int64_t columns, uint64_t seed);
