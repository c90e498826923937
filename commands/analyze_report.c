#include "commands/analyze_report.h"

#include <math.h>
#include <stdio.h>

static const char *const arithmetic_names[] = {"fp32", "fp64", "bf16"};

// Emulation takes its time for rounding.
static double timed_seconds(const Analysis *a, const StepRow *row) {
    return a->arithmetic == ARITHMETIC_BF16 ? NAN : row->seconds;
}
static double rate(const Analysis *a, const StepRow *row) {
    return row->flops > 0 ? row->flops / timed_seconds(a, row) : NAN;
}
static double chi_bound(const StepRow *row) { return row->error.epsilon < 1 ? 1 / (1 - row->error.epsilon) : NAN; }
static double log_ratio(const StepRow *row) { return row->error.log_delta / row->bound.log_delta_0; }

// ---- JSON ----

static void begin_json(Analysis *a) {
    JsonWriter *w = &a->writer;
    *w = (JsonWriter){.out = &a->text, .indent = 2};
    json_begin(w, NULL, '{');
    json_string(w, "polynomial", a->name);
    json_integer(w, "degree", 2 * a->polynomial.terms - 1);
    if (a->kappa > 0) json_integer(w, "kappa", a->kappa);
    json_number(w, "safety", a->polynomial.safety);
    json_string(w, "dtype", arithmetic_names[a->arithmetic]);
    json_bool(w, "emulated", a->arithmetic == ARITHMETIC_BF16);
    json_begin(w, "matrices", '[');
}

static void json_row(const Analysis *a, JsonWriter *w, const StepRow *row) {
    static const char *const names[POLAR_QUANTILES] = {"min", "p1", "p10", "p50", "p90", "max"};
    const PolarError *e = &row->error;
    json_begin(w, NULL, '{');
    json_integer(w, "q", row->q);
    json_number(w, "epsilon", e->epsilon);
    json_number(w, "delta", e->delta);
    if (a->kappa > 0) {
        json_number(w, "epsilon_bound", row->bound.epsilon);
        json_number(w, "delta_bound", row->bound.delta);
        json_number(w, "exponent", log_ratio(row));
        json_number(w, "exponent_bound", row->bound.exponent);
    }
    json_number(w, "chi", e->chi);
    json_number(w, "chi_bound", chi_bound(row));
    json_number(w, "rms", e->rms);
    json_begin(w, "sigma", '{');
    for (int i = 0; i < POLAR_QUANTILES; i++) json_number(w, names[i], e->sigma[i]);
    json_end(w, '}');
    json_number(w, "orthogonality", e->orthogonality);
    json_number(w, "relative_error", e->relative);
    json_number(w, "flops", row->flops);
    json_number(w, "milliseconds", 1e3 * timed_seconds(a, row));
    json_number(w, "gflops_per_second", 1e-9 * rate(a, row));
    json_end(w, '}');
}

static void json_matrix(Analysis *a, const Examined *m) {
    JsonWriter *w = &a->writer;
    json_begin(w, NULL, '{');
    json_string(w, "matrix", m->name);
    json_integer(w, "rows", m->polar.rows);
    json_integer(w, "columns", m->polar.columns);
    json_integer(w, "rank", m->polar.rank);
    json_number(w, "frobenius", m->polar.frobenius);
    json_number(w, "nuclear", m->polar.nuclear * m->polar.frobenius);
    json_number(w, "sigma_min", m->polar.smallest * m->polar.frobenius);
    json_begin(w, "results", '[');
    for (int i = 0; i < m->row_count; i++) json_row(a, w, &m->rows[i]);
    json_end(w, ']');
    json_end(w, '}');
}

// ---- tables ----

static void print_number(int width, double value) {
    if (isfinite(value)) printf("%*.4g", width, value);
    else printf("%*s", width, "-");
}

static void print_numbers(const double *values, int count) {
    for (int i = 0; i < count; i++) print_number(11, values[i]);
    putchar('\n');
}

static void begin_tables(const Analysis *a) {
    static const char *const meanings[] = {
        [ARITHMETIC_FP32] = "fp32", [ARITHMETIC_FP64] = "fp64",
        [ARITHMETIC_BF16] = "bf16, emulated: what is stored is rounded to it, sums are taken in fp32; no times"};
    printf("polynomial   %s, degree %d; the matrix M is divided by %g |M|_F\n", a->name, 2 * a->polynomial.terms - 1,
           a->polynomial.safety);
    printf("arithmetic   %s\n", meanings[a->arithmetic]);
    printf("exact        the polar factor U V' by singular value decomposition, in fp64\n");
}

static void print_errors(const Analysis *a, const Examined *m) {
    printf("\n%4s%11s%11s%11s%11s%11s%11s%11s\n", "q", "epsilon", "bound", "chi", "bound", "RMS", "|I-XX'|",
           "|X-UV'|");
    for (int i = 0; i < m->row_count; i++) {
        const StepRow *row = &m->rows[i];
        const PolarError *e = &row->error;
        const double values[] = {e->epsilon, a->kappa > 0 ? row->bound.epsilon : NAN, e->chi, chi_bound(row), e->rms,
                                 e->orthogonality, e->relative};
        printf("%4d", row->q);
        print_numbers(values, sizeof values / sizeof values[0]);
    }
    printf("\nepsilon |X - U V'|_op; chi |M|_* / <M, X>, bound 1 / (1 - epsilon); RMS of X times\n"
           "sqrt(max(rows, columns)); |I-XX'| in Frobenius norm over sqrt(short side); |X-UV'| over |U V'|\n");
    if (a->kappa > 0) printf("bound of epsilon: 1 - sqrt(1 - delta_0^((kappa + 1)^q))\n");
}

static void print_residuals(const Analysis *a, const Examined *m) {
    printf("\n%4s%14s%14s%22s%14s\n", "q", "delta", "bound", "log delta/log delta_0", "(kappa+1)^q");
    for (int i = 0; i < m->row_count; i++) {
        const StepRow *row = &m->rows[i];
        printf("%4d%14.6g%14.6g", row->q, row->error.delta, row->bound.delta);
        print_number(22, log_ratio(row));
        printf("%14.0f\n", row->bound.exponent);
    }
    printf("\ndelta |Pi - X X'|_op, Pi the projector on the range of M; bound delta_0^((kappa + 1)^q), kappa %d\n",
           a->kappa);
}

static void print_costs(const Analysis *a, const Examined *m) {
    printf("\n%4s%11s%11s%11s%11s%11s%11s%11s%11s%11s\n", "q", "sigma min", "1%", "10%", "median", "90%", "max",
           "GFLOP", "ms", "GFLOP/s");
    for (int i = 0; i < m->row_count; i++) {
        const StepRow *row = &m->rows[i];
        double values[POLAR_QUANTILES + 3];
        for (int j = 0; j < POLAR_QUANTILES; j++) values[j] = row->error.sigma[j];
        values[POLAR_QUANTILES] = 1e-9 * row->flops;
        values[POLAR_QUANTILES + 1] = 1e3 * timed_seconds(a, row);
        values[POLAR_QUANTILES + 2] = 1e-9 * rate(a, row);
        printf("%4d", row->q);
        print_numbers(values, POLAR_QUANTILES + 3);
    }
}

static void print_tables(const Analysis *a, const Examined *m) {
    const Polar *p = &m->polar;
    printf("matrix       %s: %ld x %ld, rank %ld\n", m->name, p->rows, p->columns, p->rank);
    printf("             |M|_F %.4g; over that, |M|_* is %.4g, the smallest singular value %.4g\n", p->frobenius,
           p->nuclear, p->smallest);
    print_errors(a, m);
    if (a->kappa > 0) print_residuals(a, m);
    print_costs(a, m);
}

static void print_line(const Analysis *a, const Examined *m) {
    const StepRow *row = &m->rows[0];
    const PolarError *e = &row->error;
    if (a->matrices == 0)
        printf("after        %d steps\n\n%-28s%12s%6s%11s%11s%11s%11s%11s%11s%11s%11s\n", row->q, "tensor", "shape",
               "rank", "sigma_0", "epsilon", "chi", "RMS", "sigma min", "median", "max", "ms");
    char shape[48];
    snprintf(shape, sizeof shape, "%ld x %ld", m->polar.rows, m->polar.columns);
    printf("%-28s%12s%6ld", m->name, shape, m->polar.rank);
    const double values[] = {m->polar.smallest, e->epsilon, e->chi, e->rms, e->sigma[0], e->sigma[3],
                             e->sigma[POLAR_QUANTILES - 1], 1e3 * timed_seconds(a, row)};
    print_numbers(values, sizeof values / sizeof values[0]);
}

// ---- both ----

void report_begin(Analysis *a) {
    if (a->json) begin_json(a);
    else begin_tables(a);
}

void report_matrix(Analysis *a, const Examined *m) {
    if (a->json) json_matrix(a, m);
    else if (a->one_row) print_line(a, m);
    else print_tables(a, m);
    a->matrices++;
    fflush(stdout);
}

void report_end(Analysis *a) {
    if (!a->json) {
        if (a->one_row)
            printf("\nsigma_0: smallest singular value over |M|_F; epsilon |X - U V'|_op; chi |M|_* / <M, X>; RMS of\n"
                   "X times sqrt(max(rows, columns)); sigma min, median, max: of X\n");
        return;
    }
    json_end(&a->writer, ']');
    json_end(&a->writer, '}');
    puts(text_string(&a->text));
}
