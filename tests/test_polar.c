// The measurements of analyze, where their values are known: the exact factor itself, diagonal iterates, matrices
// without full rank; and the bounds against the scalar recursion of Kim and Oh.
#include <math.h>

#include "commands/polar.h"
#include "optim/newton_schulz.h"
#include "runtime/options.h"
#include "tests/test.h"

static const double TOLERANCE = 1e-13;

static Polar polar_of(const double *matrix, int64_t rows, int64_t columns) {
    Polar p;
    if (!polar_open(&p, matrix, rows, columns)) fail_msg("no polar factor of (%ld, %ld)", (long)rows, (long)columns);
    return p;
}

TEST(the_factor_itself_has_no_error) {
    const int64_t shapes[][2] = {{1, 1}, {7, 7}, {5, 12}, {12, 5}, {1, 6}, {6, 1}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        int64_t rows = shapes[s][0], columns = shapes[s][1];
        double *matrix = polar_gaussian(rows, columns, 3);
        Polar p = polar_of(matrix, rows, columns);
        PolarError e;
        assert_int_equal(p.rank, rows < columns ? rows : columns);
        assert_true(polar_measure(&p, p.factor, &e));
        CHECK_CLOSE(e.epsilon, 0, TOLERANCE);
        CHECK_CLOSE(e.delta, 0, TOLERANCE);
        CHECK_CLOSE(e.chi, 1, TOLERANCE);
        CHECK_CLOSE(e.rms, 1, TOLERANCE);
        CHECK_CLOSE(e.orthogonality, 0, TOLERANCE);
        CHECK_CLOSE(e.relative, 0, TOLERANCE);
        for (int i = 0; i < POLAR_QUANTILES; i++) CHECK_CLOSE(e.sigma[i], 1, TOLERANCE);
        polar_close(&p);
        free(matrix);
    }
}

TEST(a_diagonal_iterate_is_measured_exactly) {
    const double matrix[6] = {0, -3, 0, 4, 0, 0}, x[6] = {0, -0.5, 0, 1.25, 0, 0};
    Polar p = polar_of(matrix, 2, 3);
    PolarError e;
    assert_true(polar_measure(&p, x, &e));
    CHECK_CLOSE(p.frobenius, 5, TOLERANCE);
    CHECK_CLOSE(p.nuclear, 1.4, TOLERANCE);
    CHECK_CLOSE(p.smallest, 0.6, TOLERANCE);
    CHECK_CLOSE(e.epsilon, 0.5, TOLERANCE);
    CHECK_CLOSE(e.delta, 0.75, TOLERANCE); // 1 - 1/4 and 25/16 - 1
    CHECK_CLOSE(e.log_delta, log(0.75), TOLERANCE);
    CHECK_CLOSE(e.chi, 7 / 6.5, TOLERANCE);
    CHECK_CLOSE(e.rms, sqrt((0.25 + 1.5625) / 2), TOLERANCE);
    CHECK_CLOSE(e.orthogonality, sqrt((0.5625 + 0.31640625) / 2), TOLERANCE);
    CHECK_CLOSE(e.relative, sqrt((0.25 + 0.0625) / 2), TOLERANCE);
    CHECK_CLOSE(e.sigma[0], 0.5, TOLERANCE);
    CHECK_CLOSE(e.sigma[3], 0.875, TOLERANCE);
    CHECK_CLOSE(e.sigma[5], 1.25, TOLERANCE);
    polar_close(&p);
}

TEST(a_matrix_without_full_rank_is_measured_on_its_range) {
    const double sigma[] = {2, 0.5, 0.5};
    double *matrix = polar_spectrum(sigma, 3, 8, 5, 1);
    Polar p = polar_of(matrix, 8, 5);
    PolarError e;
    assert_int_equal(p.rank, 3);
    CHECK_CLOSE(p.frobenius, sqrt(4.5), TOLERANCE);
    CHECK_CLOSE(p.nuclear, 3 / sqrt(4.5), TOLERANCE);
    CHECK_CLOSE(p.smallest, 0.5 / sqrt(4.5), TOLERANCE);
    assert_true(polar_measure(&p, p.factor, &e));
    CHECK_CLOSE(e.epsilon, 0, TOLERANCE);
    CHECK_CLOSE(e.delta, 0, TOLERANCE);
    CHECK_CLOSE(e.rms, sqrt(0.6), TOLERANCE);
    CHECK_CLOSE(e.orthogonality, sqrt(0.4), TOLERANCE);
    polar_close(&p);
    free(matrix);
}

TEST(what_has_no_factor_is_refused) {
    Polar p;
    assert_false(polar_open(&p, (double[]){0, 0}, 1, 2));
    assert_false(polar_open(&p, (double[]){1, NAN}, 1, 2));
    assert_false(polar_open(&p, (double[]){1, INFINITY}, 1, 2));
}

// One singular value sigma moves as the polynomial maps it; epsilon is never above the bound.
TEST(the_bounds_hold_and_begin_where_the_iterate_does) {
    const double sigmas[] = {0.9, 0.5, 0.1, 1e-2, 1e-5};
    for (int kappa = 1; kappa <= 7; kappa++)
        for (size_t s = 0; s < sizeof sigmas / sizeof sigmas[0]; s++) {
            Errors errors = {0};
            Polynomial polynomial;
            char name[] = {'t', 'a', 'y', 'l', 'o', 'r', ':', (char)('0' + kappa), 0};
            PolynomialSpec spec = {.name = name, .steps = 8, .coefficients = "auto", .safety = NAN};
            assert_true(polynomial_make(&polynomial, "ns", &spec, &errors));
            Polar p = {.smallest = sigmas[s]};
            for (int q = 0; q <= 8; q++) {
                polynomial.steps = q;
                double x = polynomial_map(&polynomial, sigmas[s]);
                PolarBound b = polar_bound(&p, 1, kappa, q);
                CHECK_CLOSE(b.exponent, pow(kappa + 1, q), 0);
                assert_true(1 - x <= b.epsilon + TOLERANCE);
                assert_true(1 - x * x <= b.delta + TOLERANCE);
                if (q == 0) CHECK_CLOSE(b.epsilon, 1 - sigmas[s], TOLERANCE);
            }
        }
}
