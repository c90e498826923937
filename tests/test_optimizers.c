// Every recipe against scripts/oracles/optimizers_engine.py, which took recorded gradients in float64: where x, z, y
// and the readout are after some updates, and the scalars of each update. Cases and their options are those of
// tests/fixtures/optimizers.json. The reference must agree to fp64 rounding, the CPU to fp32 rounding, of where a
// tensor is and of how far it has gone.
#include <math.h>

#include "data/safetensors.h"
#include "runtime/json.h"
#include "tests/reference/reference.h"
#include "tests/support_optim.h"
#include "tests/test.h"

enum { PARAMS = 16, RANGES = 32, PARTS_NAME = 16 };

typedef struct {
    Json *json;
    Safetensors *file;
    int64_t updates;
    OptimParam rows[PARAMS];
    int64_t row_count;
    ParamList params;
    OptimRange ranges[RANGES];
    int64_t range_count, elements;
    double *start, *gradients; // of the sequence of a case
} Fixture;

// Relative to a tensor's norm; and to the distance it has gone, up to `unit` of the norm. Soap amplifies rounding.
typedef struct {
    const Kernels *kernels;
    double tolerance, soap, distance, unit;
} Backend;
static const Backend reference = {&reference_kernels, 1e-12, 1e-9, 1e-9, 1e-12};
static const Backend cpu = {&cpu_kernels, 1e-5, 1e-5, 1e-3, 1e-6};

// ---- the fixture ----

static const char *text_of(const cJSON *node, const char *key) { return json_member(node, key)->valuestring; }

static void read_params(Fixture *f) {
    static const char *const kinds[] = {[PARAM_MATRIX] = "matrix", [PARAM_TABLE] = "table", [PARAM_VECTOR] = "vector"};
    const cJSON *node, *part;
    cJSON_ArrayForEach(node, json_member(json_root(f->json), "params")) {
        OptimParam *row = &f->rows[f->row_count++];
        *row = (OptimParam){.name = text_of(node, "name"), .columns = json_member(node, "columns")->valueint};
        for (int kind = 0; kind <= PARAM_VECTOR; kind++)
            if (strcmp(text_of(node, "kind"), kinds[kind]) == 0) row->kind = (ParamKind)kind;
        int64_t count = 0, begin = 0;
        cJSON_ArrayForEach(part, json_member(node, "parts")) {
            row->parts[count++] = (ParamPart){part->string, begin, part->valueint};
            begin += part->valueint;
        }
    }
    f->params = optim_params(f->rows, f->row_count);
    f->range_count = optim_ranges(&f->params, f->ranges, RANGES);
    const OptimRange *last = &f->ranges[f->range_count - 1];
    f->elements = last->begin + last->rows * last->columns;
}

static void fixture_open(Fixture *f) {
    enum { LARGEST = 1 << 20 };
    Errors errors = {0};
    *f = (Fixture){.json = json_open("tests/fixtures/optimizers.json", LARGEST, EXIT_DATA, &errors),
                   .file = safetensors_open("tests/fixtures/optimizers.safetensors", EXIT_DATA, &errors)};
    if (errors.count) fail_msg("%s", text_string(&errors.text));
    f->updates = json_member(json_root(f->json), "updates")->valueint;
    read_params(f);
}

static void fixture_close(Fixture *f) {
    json_close(f->json);
    safetensors_close(f->file);
    free((void *)f->params.items);
    free(f->start);
    free(f->gradients);
}

// A tensor as doubles, for free().
static double *numbers(const Fixture *f, const char *name, int64_t count) {
    Tensor tensor = safetensors_find(f->file, name);
    if (tensor_count(tensor) != count) fail_msg("%s has %ld elements", name, (long)tensor_count(tensor));
    double *values = test_take((size_t)count * sizeof *values);
    dtype_convert(values, DTYPE_F64, tensor.data, tensor.dtype, count);
    return values;
}

// Each parameter's numbers times the factor of its column.
static void multiply(const Fixture *f, double *flat, const double *factors) {
    for (int64_t i = 0, next = 0; i < f->params.count; i++)
        for (int64_t j = 0; j < f->params.items[i].rows * f->params.items[i].columns; j++) flat[next++] *= factors[i];
}

static void load_sequence(Fixture *f, const char *name) {
    const cJSON *sequence = json_member(json_member(json_root(f->json), "sequences"), name);
    const char *factors = text_of(sequence, "factors");
    free(f->start);
    free(f->gradients);
    f->start = numbers(f, "start", f->elements);
    f->gradients = numbers(f, text_of(sequence, "gradients"), f->updates * f->elements);
    if (!*factors) return;
    double *many = numbers(f, factors, (1 + f->updates) * f->row_count);
    multiply(f, f->start, many);
    for (int64_t t = 1; t <= f->updates; t++)
        multiply(f, f->gradients + (t - 1) * f->elements, many + t * f->row_count);
    free(many);
}

// ---- one case ----

typedef struct {
    Fixture *fixture;
    const cJSON *node;
    const char *name;
    const Backend *backend;
    double tolerance;
    double *expected; // (kept, iterates, elements)
    double *scalars;  // (updates, 4), or NULL
} Case;
enum { ETA, C, B_NEXT, STRETCH, CASE_SCALARS };

static void set_options(OptimSettings *settings, const cJSON *node) {
    Text problem = {0};
    const cJSON *option;
    optim_settings_open(settings);
    cJSON_ArrayForEach(option, json_member(node, "options"))
        if (!optim_settings_set(settings, option->string, option->valuestring, &problem))
            fail_msg("%s: %s", text_of(node, "name"), text_string(&problem));
}

static void check_close(const Case *c, const char *what, const double *got, const double *expected) {
    for (const OptimRange *r = c->fixture->ranges; r < c->fixture->ranges + c->fixture->range_count; r++) {
        double error = range_distance(got, expected, r), norm = range_norm(expected, r);
        double gone = range_distance(expected, c->fixture->start, r), first = range_norm(c->fixture->start, r);
        double most = c->tolerance * norm, further = c->backend->distance * gone + c->backend->unit * (first + norm);
        if (!(error <= most && error <= further))
            fail_msg("%s: %s of %s is %.3g away from the oracle's, which is %.3g long and has gone %.3g", c->name, what,
                     r->name, error, norm, gone);
    }
}

static void check_scalars(const Case *c, int64_t t, const StepScalars *s) {
    if (!c->scalars) return;
    const RecipeScalars *r = &s->recipe[RECIPE_MATRIX];
    const double *expected = c->scalars + (t - 1) * CASE_SCALARS;
    const struct {
        const char *name;
        double got, expected;
    } rows[] = {{"eta", r->eta, expected[ETA]}, {"c", r->c, expected[C]}, {"b", r->b_next, expected[B_NEXT]},
                {"stretch", r->stretch, expected[STRETCH]},
                {"b before", r->b, t > 1 ? expected[B_NEXT - CASE_SCALARS] : r->b}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (!(fabs(rows[i].got - rows[i].expected) <= 1e-13 * (1e-3 + fabs(rows[i].expected))))
            fail_msg("%s: %s of step %ld is %.17g, expected %.17g", c->name, rows[i].name, (long)t, rows[i].got,
                     rows[i].expected);
}

// What the fixture has of that letter at the update kept as number `kept`, or NULL.
static const double *kept_iterate(const Case *c, int64_t kept, char letter) {
    const cJSON *letters = json_member(c->node, "iterates");
    int64_t count = cJSON_GetArraySize(letters);
    for (int64_t i = 0; i < count; i++)
        if (*cJSON_GetArrayItem(letters, (int)i)->valuestring == letter)
            return c->expected + (kept * count + i) * c->fixture->elements;
    return NULL;
}

// x, z, y or the readout e, for free(); NULL where the fixture does not tell. Where it has z alone nothing is averaged.
static double *expected_iterate(const Case *c, int64_t kept, char letter, double b) {
    int64_t elements = c->fixture->elements;
    const double *z = kept_iterate(c, kept, 'z'), *x = kept_iterate(c, kept, 'x'), *e = kept_iterate(c, kept, 'e');
    if (letter == 'e' ? !e : !z) return NULL;
    double *out = test_take((size_t)elements * sizeof *out);
    double share = letter == 'y' ? b : letter == 'x';
    for (int64_t i = 0; i < elements; i++) out[i] = letter == 'e' ? e[i] : x ? z[i] + share * (x[i] - z[i]) : z[i];
    return out;
}

static void check_iterate(const Case *c, OptimRun *run, int64_t kept, Iterate iterate, double b) {
    static const struct {
        char letter;
        const char *name;
    } names[] = {[ITERATE_Y] = {'y', "y"}, [ITERATE_X] = {'x', "x"}, [ITERATE_Z] = {'z', "z"},
                 [ITERATE_READOUT] = {'e', "the readout"}};
    if (!optim_has(&run->optim, iterate)) return;
    double *expected = expected_iterate(c, kept, names[iterate].letter, b), *got = optim_run_load(run, iterate);
    if (expected) check_close(c, names[iterate].name, got, expected);
    free(expected);
    free(got);
}

// After a step: y as the step left it, then each iterate as it is loaded, then y as before, bit for bit.
static void check_kept(const Case *c, OptimRun *run, int64_t kept, const StepScalars *s) {
    size_t bytes = (size_t)run->elements * sizeof(double);
    double b = s->recipe[RECIPE_MATRIX].b_next, *left = optim_run_weights(run);
    double *expected = expected_iterate(c, kept, 'y', b);
    if (expected) check_close(c, "y", left, expected);
    for (Iterate i = ITERATE_Y; i <= ITERATE_READOUT; i++) check_iterate(c, run, kept, i, b);
    double *again = optim_run_load(run, ITERATE_Y);
    assert_memory_equal(again, left, bytes);
    free(left);
    free(again);
    free(expected);
}

static void run_case(Case *c) {
    Fixture *f = c->fixture;
    OptimSettings settings;
    OptimRun run;
    int64_t kept = 0, count = cJSON_GetArraySize(json_member(c->node, "updates"));
    int64_t iterates = cJSON_GetArraySize(json_member(c->node, "iterates"));
    Text name = {0};
    text_printf(&name, "%s.scalars", c->name);
    if (tensor_present(safetensors_find(f->file, text_string(&name))))
        c->scalars = numbers(f, text_string(&name), f->updates * CASE_SCALARS);
    if (count > 0) c->expected = numbers(f, c->name, count * iterates * f->elements);
    load_sequence(f, text_of(c->node, "sequence"));
    set_options(&settings, c->node);
    optim_run_open(&run, c->backend->kernels, &f->params, &settings, f->updates);
    optim_run_begin(&run, f->start);
    for (int64_t t = 1; t <= f->updates; t++) {
        StepScalars s = optim_run_step(&run, f->gradients + (t - 1) * f->elements);
        check_scalars(c, t, &s);
        if (kept < count && cJSON_GetArrayItem(json_member(c->node, "updates"), (int)kept)->valueint == t)
            check_kept(c, &run, kept++, &s);
    }
    assert_int_equal(kept, count);
    optim_run_close(&run);
    optim_settings_close(&settings);
    text_close(&name);
    free(c->expected);
    free(c->scalars);
}

static void run_cases(const Backend *backend) {
    Fixture f;
    const cJSON *node;
    fixture_open(&f);
    cJSON_ArrayForEach(node, json_member(json_root(f.json), "cases")) {
        Case c = {.fixture = &f, .node = node, .name = text_of(node, "name"), .backend = backend};
        c.tolerance = strncmp(c.name, "soap", 4) == 0 ? backend->soap : backend->tolerance;
        run_case(&c);
    }
    fixture_close(&f);
}

// ---- tests ----

TEST(every_recipe_is_in_the_fixture) {
    Fixture f;
    fixture_open(&f);
    for (int i = 0; recipe_at(i); i++) {
        bool found = false;
        const cJSON *node;
        cJSON_ArrayForEach(node, json_member(json_root(f.json), "cases"))
            found = found || strcmp(text_of(json_member(node, "options"), "optim.name"), recipe_at(i)->name) == 0;
        if (!found && !strstr(recipe_at(i)->name, "_rest")) fail_msg("no case of %s", recipe_at(i)->name);
    }
    fixture_close(&f);
}

TEST(the_reference_follows_the_oracle_in_fp64) { run_cases(&reference); }
TEST(the_cpu_follows_the_oracle_in_fp32) { run_cases(&cpu); }
