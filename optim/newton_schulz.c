#include "optim/newton_schulz.h"

#include <math.h>
#include <string.h>

#include "runtime/options.h"

// ---- lists ----

typedef struct {
    const char *name;
    int steps, terms, length; // of the list; further steps repeat its last polynomial
    double safety;
    const double *e; // (length, terms)
    const char *origin;
} List;

static const double keller5[] = {3.4445, -4.7750, 2.0315};
static const double you5[] = {4.0848, -6.8946, 2.9270, 3.9505, -6.3029, 2.6377, 3.7418, -5.5913,
                              2.3037, 2.8769,  -3.1427, 1.2046, 2.8366, -3.0525, 1.2012};
static const double polar5[] = {
    8.156554524902461,  -22.48329292557795, 15.878769915207462,  4.042929935166739,  -2.808917465908714,
    0.5000178451051316, 3.8916678022926607, -2.772484153217685,  0.5060648178503393, 3.285753657755655,
    -2.3681294933425376, 0.46449024233003106, 2.3465413258596377, -1.7097828382687081, 0.42323551169305323};
static const double cubic5[] = {3.3656576, -3.3420992, 2.5744352, -1.4957376, 2.5368962,
                                -1.4312570, 2.4418906, -1.2764040, 2.2230472, -0.9630650};
static const double exact_tail[] = {1.875, -1.25, 0.375};

enum { EXACT_KELLER = 18, EXACT_TAIL = 5, TAYLOR_STEPS = 5, TAYLOR_MOST = POLYNOMIAL_TERMS - 1 };

static const List lists[] = {
    {"keller5", 5, 3, 1, 1, keller5, "Keller Jordan, Muon"},
    {"you5", 5, 3, 5, 1, you5, "YouJiacheng, modded-nanogpt"},
    {"polar5", 5, 3, 5, 1.02, polar5, "Amsel et al., Polar Express: l = 1e-3, 5 steps"},
    {"cubic5", 5, 2, 5, 1.01, cubic5, "2606.00371; no squares of the Gram matrix"},
};
enum { LISTS = sizeof lists / sizeof lists[0] };

// Coefficients of the Taylor series of s^(-1/2) at s = 1 up to (1 - s)^degree, in powers of s (Kim and Oh,
// 2601.19156).
static void taylor(double e[POLYNOMIAL_TERMS], int degree) {
    memset(e, 0, POLYNOMIAL_TERMS * sizeof *e);
    double central = 1; // binomial(2 n, n) / 4^n
    for (int n = 0; n <= degree; n++) {
        double binomial = 1; // (n, j), with the sign of (-1)^j
        for (int j = 0; j <= n; j++) {
            e[j] += central * binomial;
            binomial *= -(double)(n - j) / (j + 1);
        }
        central *= (2.0 * n + 1) / (2.0 * n + 2);
    }
}

static void set_step(Polynomial *p, int step, const double *e) {
    memcpy(p->e[step], e, (size_t)p->terms * sizeof *e);
}

static void use_list(Polynomial *p, const List *list) {
    p->terms = list->terms;
    p->safety = list->safety;
    p->steps = list->steps;
    for (int i = 0; i < p->steps; i++) {
        int row = i < list->length ? i : list->length - 1;
        set_step(p, i, list->e + row * list->terms);
    }
}

static void use_exact(Polynomial *p) {
    *p = (Polynomial){.steps = EXACT_KELLER + EXACT_TAIL, .terms = 3, .safety = 1};
    for (int i = 0; i < p->steps; i++) set_step(p, i, i < EXACT_KELLER ? keller5 : exact_tail);
}

static bool use_taylor(Polynomial *p, const char *degree) {
    if (degree[0] < '1' || degree[0] > '0' + TAYLOR_MOST || degree[1]) return false;
    *p = (Polynomial){.steps = TAYLOR_STEPS, .terms = degree[0] - '0' + 1, .safety = 1};
    for (int i = 0; i < p->steps; i++) taylor(p->e[i], p->terms - 1);
    return true;
}

// "a b c; a b c": steps of one length.
static bool use_custom(Polynomial *p, const char *text) {
    *p = (Polynomial){.safety = 1};
    int term = 0;
    for (;;) {
        text += strspn(text, " ,\t");
        if (*text == ';' || !*text) {
            bool last = !*text;
            if (term < 2 || (p->steps > 0 && term != p->terms)) return last && term == 0 && p->steps > 0;
            p->terms = term;
            p->steps++;
            term = 0;
            if (last) return true;
            text++;
            continue;
        }
        if (p->steps == POLYNOMIAL_STEPS || term == POLYNOMIAL_TERMS) return false;
        text = text_read_number(text, &p->e[p->steps][term]);
        if (!text) return false;
        term++;
    }
}

static bool find(Polynomial *p, const PolynomialSpec *spec) {
    for (int i = 0; i < LISTS; i++)
        if (strcmp(spec->name, lists[i].name) == 0) return use_list(p, &lists[i]), true;
    if (strcmp(spec->name, "exact") == 0) return use_exact(p), true;
    if (strncmp(spec->name, "taylor:", 7) == 0) return use_taylor(p, spec->name + 7);
    return false;
}

static bool refuse_name(const char *key, const char *name, Errors *errors) {
    const char *names[LISTS + 3] = {"exact", "custom", "taylor:2"};
    for (int i = 0; i < LISTS; i++) names[3 + i] = lists[i].name;
    const char *nearest = text_nearest(name, names, LISTS + 3);
    return errors_add(errors, EXIT_USAGE, "%s: there is no \"%s\"; %s \"%s\" (keller5, you5, polar5, cubic5, taylor:1 "
                      ".. taylor:7, exact, custom)", key, name, nearest ? "did you mean" : "try",
                      nearest ? nearest : "keller5");
}

static void use_steps(Polynomial *p, int64_t steps) {
    for (int i = p->steps; i < steps; i++) set_step(p, i, p->e[p->steps - 1]);
    p->steps = (int)steps;
}

// ---- safety ----

double polynomial_map(const Polynomial *p, double sigma) {
    double x = sigma / p->safety;
    for (int i = 0; i < p->steps; i++) {
        double s = x * x, sum = 0;
        for (int j = p->terms - 1; j >= 0; j--) sum = sum * s + p->e[i][j];
        x *= sum;
    }
    return x;
}

// On [1e-3, 1] and a little above: the norm of a matrix of rank 1 in bf16 may be as much too small.
static bool check(const Polynomial *p, const char *key, Errors *errors) {
    enum { POINTS = 1 << 15 };
    const double least = 1e-3, most = 1 + 0x1p-7, highest = 2;
    for (int i = 0; i <= POINTS; i++) {
        double sigma = most * i / POINTS, image = polynomial_map(p, sigma);
        if (image <= highest && (image >= 0 || sigma < least)) continue;
        return errors_add(errors, EXIT_USAGE, "%s: not safe: the singular value %.4f becomes %.3g; a matrix would %s. "
                          "Choose a preset, or raise the safety divisor (now %g)", key, sigma, image,
                          image < 0 ? "move against its gradient" : "blow up", p->safety);
    }
    return true;
}

bool polynomial_make(Polynomial *p, const char *key, const PolynomialSpec *spec, Errors *errors) {
    bool custom = strcmp(spec->name, "custom") == 0;
    bool given = strcmp(spec->coefficients, "auto") != 0;
    if (custom != given)
        return errors_add(errors, EXIT_USAGE,
                          custom ? "%s: custom needs ns_coefficients, as \"3.4445 -4.775 2.0315; ...\", one a step"
                                 : "%s: ns_coefficients stand only beside ns=custom", key);
    if (custom && !use_custom(p, spec->coefficients))
        return errors_add(errors, EXIT_USAGE, "%s: ns_coefficients \"%s\" are not %d at most polynomials of 2 to %d "
                          "numbers each, all of one length, with ; between them", key, spec->coefficients,
                          POLYNOMIAL_STEPS, POLYNOMIAL_TERMS);
    if (!custom && !find(p, spec)) return refuse_name(key, spec->name, errors);
    if (spec->steps != OPTION_AUTO) use_steps(p, spec->steps);
    if (!isnan(spec->safety)) p->safety = spec->safety;
    return check(p, key, errors);
}

void polynomials_print(Text *out) {
    text_add(out, "\nNewton-Schulz polynomials (ns):\n\n");
    for (int i = 0; i < LISTS; i++)
        text_printf(out, "  %-10s %d steps of degree %d, divisor %g: %s\n", lists[i].name, lists[i].steps,
                    2 * lists[i].terms - 1, lists[i].safety, lists[i].origin);
    text_add(out, "  taylor:K   5 steps of degree 2 K + 1, K = 1..7: Taylor series of s^(-1/2); Kim and Oh 2026\n"
                  "  exact      18 steps of keller5, then 5 of taylor:2: the polar factor to rounding\n"
                  "  custom     ns_coefficients\n");
}

// ---- the iteration ----

void newton_schulz_place(NewtonSchulz *room, Arena *arena, DType dtype, const Polynomial *p, const int64_t shape[3]) {
    int64_t side = shape[1] < shape[2] ? shape[1] : shape[2];
    int grams = p->terms < 4 ? p->terms - 1 : 3;
    for (int i = 0; i < 2; i++)
        room->x[i] = arena_tensor(arena, "Newton-Schulz", tensor_3d(NULL, dtype, shape[0], shape[1], shape[2]));
    for (int i = 0; i < grams; i++)
        room->gram[i] = arena_tensor(arena, "Newton-Schulz", tensor_3d(NULL, dtype, shape[0], side, side));
}

static void round_through(const Kernels *k, Tensor half, Tensor x) {
    if (!tensor_present(half)) return;
    Tensor room = tensor_reshape(tensor_slice(tensor_reshape(half, tensor_count(half), 0, 0, 0), 0, 0, tensor_count(x)),
                                 x.shape[0], x.shape[1], x.shape[2], 0);
    k->copy(room, x);
    k->copy(x, room);
}

static void multiply(const Kernels *k, const NewtonSchulz *room, const MatrixProduct *product) {
    k->matrix_product(product);
    round_through(k, room->half, product->out);
}

// e1 s + e2 s^2 + ... by Horner's rule, in products of `gram`s that all commute; and the factor that is still to come.
static Tensor gram_polynomial(const Kernels *k, const NewtonSchulz *room, const Tensor gram[3], const double *e,
                              int terms, double *factor) {
    Tensor s = gram[0], sum = s;
    *factor = terms == 2 ? e[1] : 1;
    for (int j = terms - 2; j >= 1; j--) {
        bool first = j == terms - 2;
        Tensor out = gram[1 + (terms - 2 - j) % 2];
        multiply(k, room, &(MatrixProduct){.out = out, .a = first ? s : sum, .b = s, .c = s, .a_transposed = first,
                                           .alpha = first ? e[j + 1] : 1, .beta = e[j]}); // s' s is half the work
        sum = out;
    }
    return sum;
}

Tensor newton_schulz(const Kernels *k, const Polynomial *p, const NewtonSchulz *room, int64_t count,
                     NewtonSchulzWay way) {
    const double clamp = 1e-20, official = 1e-7;
    Tensor x = tensor_slice(room->x[0], 0, 0, count), next = tensor_slice(room->x[1], 0, 0, count), gram[3] = {0};
    for (int i = 0; i < 3; i++)
        if (tensor_present(room->gram[i])) gram[i] = tensor_slice(room->gram[i], 0, 0, count);
    bool tall = x.shape[1] > x.shape[2]; // then s = x' x, on the short side, and stands behind x
    round_through(k, room->half, x);
    k->matrix_normalise(x, &(MatrixNorm){1, p->safety, way.official ? official : clamp, way.official});
    round_through(k, room->half, x);
    for (int i = 0; i < p->steps; i++) {
        double factor;
        multiply(k, room, &(MatrixProduct){.out = gram[0], .a = x, .b = x, .a_transposed = tall, .b_transposed = !tall,
                                           .alpha = 1});
        Tensor sum = gram_polynomial(k, room, gram, p->e[i], p->terms, &factor);
        multiply(k, room, &(MatrixProduct){.out = next, .a = tall ? x : sum, .b = tall ? sum : x, .c = x,
                                           .alpha = factor, .beta = p->e[i][0]});
        Tensor swap = x;
        x = next;
        next = swap;
    }
    int64_t side = x.shape[1] < x.shape[2] ? x.shape[1] : x.shape[2];
    if (way.match) k->matrix_normalise(x, &(MatrixNorm){sqrt((double)side), 1, clamp, false});
    return x;
}

double newton_schulz_flops(const Polynomial *p, int64_t rows, int64_t columns) {
    double side = (double)(rows < columns ? rows : columns), longer = (double)(rows < columns ? columns : rows);
    return p->steps * (4 * side * side * longer + 2 * (p->terms - 2) * side * side * side);
}
