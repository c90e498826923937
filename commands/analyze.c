// analyze newton-schulz: what the iteration makes of a matrix, step by step, beside the exact polar factor; and beside
// the bounds of Kim and Oh (2601.19156) where the polynomial is theirs.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/analyze_report.h"
#include "commands/arguments.h"
#include "commands/command.h"
#include "commands/console.h"
#include "commands/run.h"
#include "runtime/memory.h"
#include "runtime/options.h"

// ---- options ----

typedef struct {
    const char *polynomial, *coefficients, *steps, *matrix, *tensor;
    double safety;
    int64_t dtype, rows, columns, seed;
} AnalyzeOptions;

enum { SIDE_LIMIT = 16384, SIDE_DEFAULT = 256 };

#define OPTION_STRUCT AnalyzeOptions
static const OptionRow option_rows[] = {
    OPTION_ROW(TEXT, polynomial, "keller5", 0, 0, "keller5, you5, polar5, cubic5, taylor:1 .. taylor:7, exact, custom")
    OPTION_ROW(TEXT, coefficients, "auto", 0, 0, "of custom: \"a b c; a b c; ...\", one polynomial for each step")
    OPTION_ROW(FLOAT, safety, "auto", 1, 2, "the matrix is divided by so many times its Frobenius norm")
    OPTION_ROW(TEXT, steps, "auto", 0, 0, "a number N for 0 .. N steps, or several as 1,3,5; at most 64")
    CHOICE_ROW(dtype, "fp64", "fp32|fp64|bf16", "of the iteration; bf16 is emulated")
    OPTION_ROW(TEXT, matrix, "gaussian", 0, 0, "gaussian, spectrum:0.5,0.1, spectrum:power:P, spectrum:geometric:LOW, "
               "or a run or checkpoint")
    OPTION_ROW(TEXT, tensor, "auto", 0, 0, "of a checkpoint: whose momentum it is, such as h.0.attn_out_w")
    OPTION_ROW(INT, rows, "auto", 1, SIDE_LIMIT, "of a gaussian or a spectrum")
    OPTION_ROW(INT, columns, "auto", 1, SIDE_LIMIT, "of a gaussian or a spectrum")
    OPTION_ROW(INT, seed, "1", 0, 1e15, "of the random numbers")
};
enum { OPTIONS = sizeof option_rows / sizeof option_rows[0] };
static const char *const option_names[OPTIONS] = {"--polynomial", "--coefficients", "--safety",  "--steps", "--dtype",
                                                  "--matrix",     "--tensor",       "--rows",    "--columns", "--seed"};
static const char usage[] =
    "analyze newton-schulz [--polynomial NAME] [--coefficients LIST] [--safety X] [--steps N] [--dtype fp32|fp64|bf16] "
    "[--matrix gaussian|spectrum:LIST|CHECKPOINT] [--tensor NAME] [--rows N] [--columns N] [--seed S] [--json]";

static bool was_given(const char *text) { return strcmp(text, "auto") != 0; }

static bool parse(AnalyzeOptions *options, const char *const values[OPTIONS], TextList *strings, Errors *errors) {
    for (int i = 0; i < OPTIONS; i++) {
        Text problem = {0};
        if (!option_set(&option_rows[i], options, values[i], strings, &problem))
            errors_add(errors, EXIT_USAGE, "%s: %s", option_names[i], text_string(&problem));
        text_close(&problem);
    }
    return errors->count == 0;
}

// One whole number of the list that begins at *text; what follows it to *text. -1: there is none in range.
static int take_step(const char **text) {
    char *end;
    long value = strtol(*text, &end, 10);
    bool good = **text >= '0' && **text <= '9' && value <= POLYNOMIAL_STEPS && (*end == ',' || !*end);
    *text = end;
    return good ? (int)value : -1;
}

static bool parse_steps(Analysis *a, const char *list, Errors *errors) {
    const char *text = list;
    for (;;) {
        int q = take_step(&text);
        if (q < 0 || a->step_count > POLYNOMIAL_STEPS)
            return errors_add(errors, EXIT_USAGE, "--steps: \"%s\" is no number of steps 0..%d, and no list of them as "
                              "1,3,5", list, POLYNOMIAL_STEPS);
        a->steps[a->step_count++] = q;
        if (!*text++) break;
    }
    if (strchr(list, ',')) return true;
    a->step_count = a->steps[0] + 1;
    for (int q = 0; q < a->step_count; q++) a->steps[q] = q;
    return true;
}

// For the largest number of steps; with fewer it is the head of the same list.
static bool make_polynomial(Analysis *a, const AnalyzeOptions *options, Errors *errors) {
    bool custom = strcmp(options->polynomial, "custom") == 0;
    if (custom && !was_given(options->coefficients))
        return errors_add(errors, EXIT_USAGE, "--polynomial: custom needs --coefficients \"3.4445 -4.775 2.0315; "
                          "...\", one polynomial for each step");
    if (!custom && was_given(options->coefficients))
        return errors_add(errors, EXIT_USAGE, "--coefficients: only with --polynomial custom");
    if (was_given(options->steps) && !parse_steps(a, options->steps, errors)) return false;
    int most = -1;
    for (int i = 0; i < a->step_count; i++)
        if (a->steps[i] > most) most = a->steps[i];
    PolynomialSpec spec = {.name = options->polynomial, .steps = most < 0 ? OPTION_AUTO : most,
                           .coefficients = options->coefficients, .safety = options->safety};
    if (!polynomial_make(&a->polynomial, "--polynomial", &spec, errors)) return false;
    for (int q = 0; most < 0 && q <= a->polynomial.steps; q++) a->steps[a->step_count++] = q;
    a->name = options->polynomial;
    a->kappa = strncmp(options->polynomial, "taylor:", 7) == 0 ? a->polynomial.terms - 1 : 0;
    a->arithmetic = (Arithmetic)options->dtype;
    return true;
}

// ---- the iteration ----

// Room of the kernels for one matrix.
typedef struct {
    NewtonSchulz room;
    Arena arena;
    void *memory;
} Iteration;

static void place(Iteration *it, const Analysis *a, int64_t rows, int64_t columns) {
    const int64_t shape[3] = {1, rows, columns};
    DType dtype = a->arithmetic == ARITHMETIC_FP64 ? DTYPE_F64 : DTYPE_F32;
    newton_schulz_place(&it->room, &it->arena, dtype, &a->polynomial, shape);
    if (a->arithmetic == ARITHMETIC_BF16)
        it->room.half = arena_tensor(&it->arena, "bf16", tensor_3d(NULL, DTYPE_BF16, 1, rows, columns));
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// x = q steps on the matrix; the median of the seconds of several runs.
static double iterate(const Analysis *a, Iteration *it, Tensor x, Tensor matrix, int q) {
    enum { REPEATS = 5 };
    const double patience = 1;
    double seconds[REPEATS], all = 0;
    int repeats = 0;
    Polynomial polynomial = a->polynomial;
    polynomial.steps = q;
    while (repeats < REPEATS && all < patience) {
        a->kernels->copy(it->room.x[0], matrix);
        double begin = clock_seconds();
        Tensor result = newton_schulz(a->kernels, &polynomial, &it->room, 1, (NewtonSchulzWay){0});
        a->kernels->finish();
        seconds[repeats] = clock_seconds() - begin;
        all += seconds[repeats++];
        if (repeats == 1) a->kernels->copy(x, result);
    }
    qsort(seconds, (size_t)repeats, sizeof *seconds, ascending);
    return seconds[repeats / 2];
}

static bool measure(const Analysis *a, Examined *m, const double *matrix, Errors *errors) {
    int64_t rows = m->polar.rows, columns = m->polar.columns;
    Iteration it = {.arena = {.name = "Newton-Schulz"}};
    place(&it, a, rows, columns);
    it.memory = a->kernels->take_memory(it.arena.used);
    double *x = memory_grow(NULL, rows * columns, sizeof *x, "a matrix");
    if (!it.memory) DIE(EXIT_INTERNAL, "out of memory: a matrix (%ld, %ld)", rows, columns);
    arena_begin_placing(&it.arena, it.memory);
    place(&it, a, rows, columns);
    bool good = true;
    for (int i = a->one_row ? a->step_count - 1 : 0; good && i < a->step_count; i++) {
        StepRow *row = &m->rows[m->row_count++];
        if (!a->one_row) console_progress("measuring", i, a->step_count);
        *row = (StepRow){.q = a->steps[i]};
        row->bound = polar_bound(&m->polar, a->polynomial.safety, a->kappa, row->q);
        row->seconds = iterate(a, &it, tensor_3d(x, DTYPE_F64, 1, rows, columns),
                               tensor_3d((void *)matrix, DTYPE_F64, 1, rows, columns), row->q);
        Polynomial steps = a->polynomial;
        steps.steps = row->q;
        row->flops = newton_schulz_flops(&steps, rows, columns);
        good = polar_measure(&m->polar, x, &row->error);
    }
    if (!good) errors_add(errors, EXIT_INTERNAL, "%s: after %d steps LAPACK finds no singular values; is the iterate "
                          "finite?", m->name, m->rows[m->row_count - 1].q);
    a->kernels->return_memory(it.memory, it.arena.capacity);
    arena_close(&it.arena);
    free(x);
    return good;
}

// One matrix, which is freed: decomposed, measured, reported.
static bool examine(Analysis *a, const char *name, double *matrix, int64_t rows, int64_t columns, Errors *errors) {
    Examined *m = memory_take(1, sizeof *m, name);
    m->name = name;
    bool good = polar_open(&m->polar, matrix, rows, columns);
    if (!good)
        errors_add(errors, EXIT_DATA, "%s: it has no polar factor: all of it is 0, or not all of it is finite", name);
    good = good && measure(a, m, matrix, errors);
    console_wipe();
    if (good && a->matrices == 0) report_begin(a);
    if (good) report_matrix(a, m);
    polar_close(&m->polar);
    free(matrix);
    free(m);
    return good;
}

// ---- matrices that are made ----

// Numbers with commas between them, to `out`: how many, or 0 where the text is not that.
static int64_t parse_list(double *out, const char *text) {
    for (int64_t count = 0;; text++) {
        char *end;
        out[count] = strtod_l(text, &end, c_locale());
        if (end == text || !isfinite(out[count]) || out[count] < 0 || (*end && *end != ',')) return 0;
        count++;
        text = end;
        if (!*end) return count;
    }
}

static int64_t numbers_in(const char *list) {
    int64_t numbers = 1;
    for (; *list; list++) numbers += *list == ',';
    return numbers;
}

// "power:1", "geometric:1e-3" or "0.5,0.1,...": `count` singular values in a list that the caller frees. What a list
// leaves of the short side is 0.
static double *parse_spectrum(const char *text, int64_t *count, int64_t side, Errors *errors) {
    bool power = strncmp(text, "power:", 6) == 0, geometric = strncmp(text, "geometric:", 10) == 0;
    const char *list = power || geometric ? strchr(text, ':') + 1 : text;
    int64_t numbers = numbers_in(list), room = numbers > side ? numbers : side;
    double *sigma = memory_take(room, sizeof *sigma, "singular values"), sum = 0;
    *count = parse_list(sigma, list);
    double first = sigma[0];
    for (int64_t i = 0; i < *count; i++) sum += sigma[i];
    bool form = power ? *count == 1 : geometric ? *count == 1 && first > 0 && first <= 1 : sum > 0;
    if (form && *count <= side) {
        if (power || geometric) *count = side;
        for (int64_t i = 0; i < side && power; i++) sigma[i] = pow((double)(i + 1), -first);
        for (int64_t i = 0; i < side && geometric; i++)
            sigma[i] = side > 1 ? pow(first, (double)i / (double)(side - 1)) : 1;
        return sigma;
    }
    if (form)
        errors_add(errors, EXIT_USAGE, "--matrix: %ld singular values do not go into a matrix whose short side is %ld; "
                   "raise --rows and --columns", *count, side);
    else
        errors_add(errors, EXIT_USAGE, "--matrix: \"%s\" is no spectrum; it is spectrum:0.5,0.1,... (numbers >= 0, not "
                   "all 0), spectrum:power:P for 1/i^P, or spectrum:geometric:LOW for 1 .. LOW, 0 < LOW <= 1", text);
    free(sigma);
    return NULL;
}

static int64_t default_side(const char *spectrum) {
    return !spectrum || strchr(spectrum, ':') ? SIDE_DEFAULT : numbers_in(spectrum);
}

static bool examine_made(Analysis *a, const AnalyzeOptions *options, Errors *errors) {
    const char *spectrum = strncmp(options->matrix, "spectrum:", 9) == 0 ? options->matrix + 9 : NULL;
    int64_t rows = options->rows, columns = options->columns, count;
    if (rows == OPTION_AUTO) rows = columns == OPTION_AUTO ? default_side(spectrum) : columns;
    if (columns == OPTION_AUTO) columns = rows;
    double *matrix;
    if (spectrum) {
        double *sigma = parse_spectrum(spectrum, &count, rows < columns ? rows : columns, errors);
        if (!sigma) return false;
        matrix = polar_spectrum(sigma, count, rows, columns, (uint64_t)options->seed);
        free(sigma);
    } else {
        matrix = polar_gaussian(rows, columns, (uint64_t)options->seed);
    }
    Text name = {0};
    text_printf(&name, "%s, seed %ld", options->matrix, options->seed);
    bool good = examine(a, text_string(&name), matrix, rows, columns, errors);
    text_close(&name);
    return good;
}

// ---- matrices of a checkpoint ----

typedef struct {
    const char *checkpoint;
    StateFiles *files;
    ParamList params; // of the network: the shapes of tensors that are cut over several files
} State;

// Where NAME is a part of a parameter, as state calls it: "h.3.qkv_w.q".
static bool names_part(const char *name, const Param *param, const ParamPart *part) {
    size_t size = strlen(param->name);
    if (strncmp(name, param->name, size) != 0) return false;
    return *part->suffix ? name[size] == '.' && strcmp(name + size + 1, part->suffix) == 0 : !name[size];
}

// (rows, columns) of a tensor that is cut: such are of their parameter's shape. Absent where that is no matrix.
static Tensor shape_of_cut(const State *state, const char *name) {
    const char *point = strchr(name, '.');
    for (int64_t i = 0; point && i < state->params.count; i++) {
        const Param *param = &state->params.items[i];
        for (int p = 0; p < param->part_count; p++) {
            const ParamPart *part = &param->part[p];
            if (param->kind == PARAM_VECTOR || param->columns == 1 || !names_part(point + 1, param, part)) continue;
            int64_t rows = param->real_rows - part->row < part->rows ? param->real_rows - part->row : part->rows;
            return tensor_2d(NULL, DTYPE_F64, rows, param->columns);
        }
    }
    return TENSOR_NONE;
}

// The shape of a matrix, without numbers; absent for all else.
static Tensor matrix_at(const State *state, int64_t index) {
    Tensor whole = state_whole(state->files, index);
    if (!tensor_present(whole)) return shape_of_cut(state, state_name(state->files, index));
    return whole.rank == 2 ? tensor_2d(NULL, DTYPE_F64, whole.shape[0], whole.shape[1]) : TENSOR_NONE;
}

static int64_t find_matrix(const State *state, const char *name) { // -1: there is none
    for (int64_t i = 0; i < state_count(state->files); i++)
        if (strcmp(state_name(state->files, i), name) == 0 && tensor_present(matrix_at(state, i))) return i;
    return -1;
}

static bool is_momentum(const State *state, int64_t index) { // of a matrix in a block
    return strncmp(state_name(state->files, index), "m.h.", 4) == 0 && tensor_present(matrix_at(state, index));
}

static bool examine_tensor(Analysis *a, const State *state, int64_t index, Errors *errors) {
    const char *name = state_name(state->files, index);
    NamedTensor wanted = {.tensor = matrix_at(state, index)};
    int64_t count = tensor_count(wanted.tensor);
    strcpy(wanted.name, name);
    wanted.tensor.data = memory_grow(NULL, count, sizeof(double), "a matrix");
    bool good = state_check(state->files, &wanted, 1, errors);
    if (good) state_fill(state->files, a->kernels, &wanted, 1);
    else free(wanted.tensor.data);
    return good && examine(a, name, wanted.tensor.data, wanted.tensor.shape[0], wanted.tensor.shape[1], errors);
}

static bool refuse_tensor(const State *state, const char *wanted, Errors *errors) {
    enum { SHOWN = 12 };
    Text names = {0};
    int64_t matrices = 0;
    for (int pass = 0; pass < 2 && matrices == 0; pass++) // momenta; where there are none, whatever is a matrix
        for (int64_t i = 0; i < state_count(state->files); i++) {
            if (pass == 0 ? !is_momentum(state, i) : !tensor_present(matrix_at(state, i))) continue;
            if (++matrices <= SHOWN)
                text_printf(&names, "%s%s", matrices == 1 ? "" : ", ", state_name(state->files, i));
        }
    if (matrices > SHOWN) text_printf(&names, " and %ld more", matrices - SHOWN);
    if (was_given(wanted))
        errors_add(errors, EXIT_USAGE, "--tensor: the state of %s has no matrix m.%s; its matrices are %s",
                   state->checkpoint, wanted, text_string(&names));
    else
        errors_add(errors, EXIT_USAGE, "--matrix: the optimizer of %s keeps no momentum of matrices; name another "
                   "tensor with --tensor: %s", state->checkpoint, text_string(&names));
    text_close(&names);
    return false;
}

static bool examine_one(Analysis *a, const State *state, const char *wanted, Errors *errors) {
    Text name = {0};
    text_printf(&name, "m.%s", wanted);
    int64_t index = find_matrix(state, text_string(&name));
    if (index < 0) index = find_matrix(state, wanted);
    text_close(&name);
    return index >= 0 ? examine_tensor(a, state, index, errors) : refuse_tensor(state, wanted, errors);
}

static bool examine_all(Analysis *a, const State *state, Errors *errors) {
    int64_t all = 0, done = 0, tensors = state_count(state->files);
    for (int64_t i = 0; i < tensors; i++) all += is_momentum(state, i);
    if (all == 0) return refuse_tensor(state, "auto", errors);
    for (int64_t i = 0; i < tensors; i++) {
        if (!is_momentum(state, i)) continue;
        console_progress("measuring", done++, all);
        if (!examine_tensor(a, state, i, errors)) return false;
    }
    return true;
}

static bool examine_checkpoint(Analysis *a, const AnalyzeOptions *options, Errors *errors) {
    char checkpoint[4096];
    if (!path_is_directory(options->matrix))
        return errors_add(errors, EXIT_USAGE, "--matrix: \"%s\" is neither gaussian, nor spectrum:..., nor the "
                          "directory of a run or checkpoint", options->matrix);
    if (options->rows != OPTION_AUTO || options->columns != OPTION_AUTO)
        return errors_add(errors, EXIT_USAGE, "--rows, --columns: the tensors of a checkpoint have their own");
    if (!run_find(options->matrix, checkpoint, errors)) return false;
    State state = {.checkpoint = checkpoint, .files = state_open(checkpoint, errors)};
    bool good = state.files && run_params(checkpoint, &state.params, errors);
    if (good) good = a->one_row ? examine_all(a, &state, errors) : examine_one(a, &state, options->tensor, errors);
    state_close(state.files);
    free((void *)state.params.items);
    return good;
}

// ---- the command ----

static bool analyze(Analysis *a, const AnalyzeOptions *options, Errors *errors) {
    bool made = strcmp(options->matrix, "gaussian") == 0 || strncmp(options->matrix, "spectrum:", 9) == 0;
    if (made && was_given(options->tensor))
        return errors_add(errors, EXIT_USAGE, "--tensor: only with --matrix RUN or CHECKPOINT");
    if (!make_polynomial(a, options, errors)) return false;
    a->one_row = !made && !was_given(options->tensor);
    a->kernels = kernels_find("cpu", errors);
    if (!a->kernels || !a->kernels->open(0, 0, errors)) return false;
    bool good = made ? examine_made(a, options, errors) : examine_checkpoint(a, options, errors);
    a->kernels->close();
    if (good) report_end(a);
    return good;
}

int command_analyze(int argc, char **argv) {
    static Analysis analysis;
    const char *values[OPTIONS];
    Argument table[OPTIONS + 2] = {{"--json", .flag = &analysis.json}};
    for (int i = 0; i < OPTIONS; i++) {
        values[i] = option_rows[i].fallback;
        table[1 + i] = (Argument){option_names[i], .text = &values[i]};
    }
    argc = arguments_take(argc, argv, table, 1, usage);
    if (argc == 0) return EXIT_USAGE;
    if (argc > 2 || strcmp(argv[1], "newton-schulz") != 0) {
        text_print(stderr, "train_gpt: %s: analyze knows newton-schulz, and options behind it\nusage: train_gpt %s\n",
                   argv[argc > 2 ? 2 : 1], usage);
        return EXIT_USAGE;
    }
    Errors errors = {0};
    AnalyzeOptions options = {0};
    TextList strings = {0};
    bool good = parse(&options, values, &strings, &errors) && analyze(&analysis, &options, &errors);
    text_close(&analysis.text);
    text_list_close(&strings);
    errors_exit_if_any(&errors);
    return good ? 0 : EXIT_INTERNAL;
}
