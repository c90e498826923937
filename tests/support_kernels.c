#include "tests/support_kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/checked.h"
#include "runtime/philox.h"
#include "tests/reference/reference.h"
#include "tests/support.h"

// ---- comparisons ----

typedef struct {
    const Kernels *kernels;
    int64_t threads;
    DType compute, wide;
    uint64_t seed; // of the simulator's schedule
} Side;

typedef struct {
    const char *name;
    Side side[2];
    double roundoff; // of the first side's activations; 0: equal bits
    bool judged;     // by the errors of the comparison before, of which twice as much is allowed
} Comparison;

#define TRUTH {&reference_kernels, 1, DTYPE_F64, DTYPE_F64, 0}
static const Comparison comparisons[] = {
#ifdef THALWEG_CUDA
#define CUDA(dtype, seed) {&cuda_kernels, 0, dtype, DTYPE_F32, seed}
#if defined CUDASIM_RACE || defined __SANITIZE_ADDRESS__ // builds that look at what kernels touch, not at numbers
    {"cuda in bf16 beside fp32", {CUDA(DTYPE_BF16, 3), CUDA(DTYPE_F32, 0)}, 1, false},
#else
    {"cuda in fp32 against the reference", {CUDA(DTYPE_F32, 0), TRUTH}, 0x1p-24, false},
    {"the reference in bf16 against f64", {{&reference_kernels, 1, DTYPE_BF16, DTYPE_F32, 0}, TRUTH}, 0x1p-9, false},
    {"cuda in bf16 against the reference", {CUDA(DTYPE_BF16, 0), TRUTH}, 0x1p-9, true},
    {"cuda in bf16, another schedule", {CUDA(DTYPE_BF16, 0), CUDA(DTYPE_BF16, 3)}, 0, false},
    {"cuda in bf16, a third schedule", {CUDA(DTYPE_BF16, 0), CUDA(DTYPE_BF16, 6)}, 0, false},
    {"cuda in fp32, another schedule", {CUDA(DTYPE_F32, 0), CUDA(DTYPE_F32, 5)}, 0, false},
#endif
#else
    {"the cpu against the reference", {{&cpu_kernels, 2, DTYPE_F32, DTYPE_F32, 0}, TRUTH}, 0x1p-24, false},
    {"the reference in f32 against f64", {{&reference_kernels, 1, DTYPE_F32, DTYPE_F32, 0}, TRUTH}, 0x1p-24, false},
    {"the reference in bf16 against f64", {{&reference_kernels, 1, DTYPE_BF16, DTYPE_F32, 0}, TRUTH}, 0x1p-9, false},
#endif
};
static const Comparison thread_comparison = {
    "one thread against two",
    {{&cpu_kernels, 1, DTYPE_F32, DTYPE_F32, 0}, {&cpu_kernels, 2, DTYPE_F32, DTYPE_F32, 0}},
    0, false};
static const Comparison truth_alone = {"the reference", {TRUTH, TRUTH}, 0, false};

static const Comparison *comparison;

// The simulator's, where that is linked: blocks, warps and lanes run in an order that the seed gives; 0: ascending.
__attribute__((weak)) void cudasim_seed(uint64_t seed);

const Kernels *side_kernels(int side) {
    const Side *wanted = &comparison->side[side];
    if (cudasim_seed) cudasim_seed(wanted->seed);
    static const Kernels *open_kernels;
    static int64_t open_threads;
    const Kernels *kernels = checked_kernels(wanted->kernels);
    if (wanted->kernels == open_kernels && wanted->threads == open_threads) return kernels;
    Errors errors = {0};
    if (!kernels->open(wanted->threads, 0, &errors)) fail_msg("%s: %s", kernels->name, text_string(&errors.text));
    open_kernels = wanted->kernels;
    open_threads = wanted->threads;
    return kernels;
}

// ---- tensors, each within its guard bands ----

enum { TWINS = 96, GUARD = 256, GUARD_BYTE = 0xA5 };

typedef struct {
    const char *name;
    Twin twin;
    void *block[2]; // guard, elements, guard
    size_t bytes[2];
    int roundings; // of the numbers that an element is made of; 0: not told
} Entry;


static Entry entries[TWINS];
static int entry_count;
static double errors_seen[TWINS]; // the largest of each tensor, in the last comparison
static uint32_t fills; // tensors filled so far: each has its own random numbers

const Twin TWIN_NONE;

static DType dtype_on(int side, Kind kind) {
    const DType dtypes[] = {[COMPUTE] = comparison->side[side].compute, [WIDE] = comparison->side[side].wide,
                            [WEIGHTS] = DTYPE_F32, [STATUS] = DTYPE_F64, [INTEGERS] = DTYPE_I32};
    return dtypes[kind];
}

static double element_get(const void *data, DType dtype, int64_t i) {
    switch (dtype) {
    case DTYPE_F32: return ((const float *)data)[i];
    case DTYPE_BF16: return bf16_to_float(((const uint16_t *)data)[i]);
    case DTYPE_F16: return f16_to_float(((const uint16_t *)data)[i]);
    case DTYPE_F64: return ((const double *)data)[i];
    case DTYPE_I32: return ((const int32_t *)data)[i];
    case DTYPE_I64: return (double)((const int64_t *)data)[i];
    }
    return NAN;
}

static void element_set(void *data, DType dtype, int64_t i, double value) {
    switch (dtype) {
    case DTYPE_F32: ((float *)data)[i] = (float)value; break;
    case DTYPE_BF16: ((uint16_t *)data)[i] = bf16_from_float((float)value); break;
    case DTYPE_F16: ((uint16_t *)data)[i] = f16_from_float((float)value); break;
    case DTYPE_F64: ((double *)data)[i] = value; break;
    case DTYPE_I32: ((int32_t *)data)[i] = (int32_t)value; break;
    case DTYPE_I64: ((int64_t *)data)[i] = (int64_t)value; break;
    }
}

// Memory on one side with the guard bands written; `host` is its content.
static void place_side(Entry *entry, int side, const void *host, size_t bytes) {
    const Kernels *kernels = side_kernels(side);
    char *content = test_take(bytes + 2 * GUARD);
    memset(content, GUARD_BYTE, bytes + 2 * GUARD);
    memcpy(content + GUARD, host, bytes);
    entry->bytes[side] = bytes;
    entry->block[side] = kernels->take_memory(bytes + 2 * GUARD);
    if (!entry->block[side]) fail_msg("%s: no memory for %s", comparison->name, entry->name);
    kernels->upload(tensor_1d(entry->block[side], DTYPE_I32, (int64_t)((bytes + 2 * GUARD) / 4)), content);
    free(content);
}

static Entry *add_entry(const char *name) {
    if (entry_count == TWINS) fail_msg("more than %d tensors in a case", TWINS);
    entries[entry_count] = (Entry){.name = name};
    return &entries[entry_count++];
}

void twin_roundings(int count) { entries[entry_count - 1].roundings = count; }

// A twin from fp32 numbers. Both sides begin with what the first side can represent.
static Twin place_twin(const char *name, const float *values, Kind kind, Tensor shape) {
    Entry *entry = add_entry(name);
    int64_t count = tensor_count(shape), whole = (count + 1) / 2 * 2; // bf16 in whole words
    double *host = test_take((size_t)whole * sizeof *host), *first = test_take((size_t)whole * sizeof *first);
    for (int64_t i = 0; i < count; i++) first[i] = values[i];
    for (int side = 0; side < 2; side++) {
        DType dtype = dtype_on(side, kind);
        memset(host, GUARD_BYTE, (size_t)whole * sizeof *host);
        for (int64_t i = 0; i < count; i++) {
            element_set(host, dtype, i, first[i]);
            if (side == 0) first[i] = element_get(host, dtype, i);
        }
        place_side(entry, side, host, (size_t)whole * dtype_bytes(dtype));
        entry->twin.on[side] = shape;
        entry->twin.on[side].dtype = dtype;
        entry->twin.on[side].data = (char *)entry->block[side] + GUARD;
    }
    free(host);
    free(first);
    return entry->twin;
}

Twin twin(const char *name, Fill fill, Kind kind, int64_t a, int64_t b, int64_t c) {
    Tensor shape = tensor_3d(NULL, DTYPE_F32, a, b, c);
    int64_t count = tensor_count(shape);
    float *values = test_take((size_t)count * sizeof *values);
    philox_normal(values, count, 1, 1, STREAM_TEST, ++fills, 0);
    for (int64_t i = 0; i < count; i++) {
        if (fill == POSITIVE) values[i] = fabsf(values[i]) + 0.01f;
        if (fill == POISON) values[i] = NAN;
        if (fill == TEN) values[i] = 10;
    }
    Twin made = place_twin(name, values, kind, shape);
    free(values);
    return made;
}

Twin twin_of_integers(const char *name, const int32_t *values, int64_t a, int64_t b) {
    Tensor shape = tensor_2d(NULL, DTYPE_I32, a, b);
    int64_t count = tensor_count(shape);
    float *floats = test_take((size_t)count * sizeof *floats);
    for (int64_t i = 0; i < count; i++) floats[i] = (float)values[i];
    Twin made = place_twin(name, floats, INTEGERS, shape);
    free(floats);
    return made;
}

Twin twin_of_order(const char *name, const int32_t *ids, int64_t count) {
    int32_t *order = test_take((size_t)count * sizeof *order), largest = 0;
    int64_t placed = 0;
    for (int64_t i = 0; i < count; i++) largest = ids[i] > largest ? ids[i] : largest;
    for (int32_t id = 0; id <= largest; id++)
        for (int64_t i = 0; i < count; i++)
            if (ids[i] == id) order[placed++] = (int32_t)i;
    Twin made = twin_of_integers(name, order, count, 0);
    free(order);
    return made;
}

Twin twin_of_bytes(const char *name, const void *bytes, size_t size) {
    Entry *entry = add_entry(name);
    for (int side = 0; side < 2; side++) {
        place_side(entry, side, bytes, size);
        entry->twin.on[side] = tensor_1d((char *)entry->block[side] + GUARD, DTYPE_I64, (int64_t)(size / 8));
    }
    return entry->twin;
}

static Tensor elements_of(Tensor t, int64_t index, int64_t count) {
    Tensor view = tensor_1d(NULL, t.dtype, count);
    view.data = (char *)t.data + index * (int64_t)dtype_bytes(t.dtype);
    return view;
}

void twin_set_all(Twin twin, int64_t index, const double *values, int64_t count) {
    double *host = test_take((size_t)count * sizeof *host);
    for (int side = 0; side < 2; side++) {
        Tensor part = elements_of(twin.on[side], index, count);
        for (int64_t i = 0; i < count; i++) element_set(host, part.dtype, i, values[i]);
        side_kernels(side)->upload(part, host);
    }
    free(host);
}

void twin_get_all(Twin twin, int side, int64_t index, double *values, int64_t count) {
    Tensor part = elements_of(twin.on[side], index, count);
    double *host = test_take((size_t)count * sizeof *host);
    side_kernels(side)->download(host, part);
    for (int64_t i = 0; i < count; i++) values[i] = element_get(host, part.dtype, i);
    free(host);
}

void twin_set(Twin twin, int64_t index, double value) { twin_set_all(twin, index, &value, 1); }

double twin_get(Twin twin, int side, int64_t index) {
    double value;
    twin_get_all(twin, side, index, &value, 1);
    return value;
}

Twin twin_slice(Twin twin, int dim, int64_t begin, int64_t count) {
    for (int side = 0; side < 2; side++) twin.on[side] = tensor_slice(twin.on[side], dim, begin, count);
    return twin;
}

Twin twin_heads(Twin twin, int64_t begin, int64_t heads, int64_t width) {
    twin = twin_slice(twin, 2, begin, heads * width);
    for (int side = 0; side < 2; side++) twin.on[side] = tensor_split_last(twin.on[side], heads, width);
    return twin;
}

Twin twin_reshape(Twin twin, int64_t a, int64_t b, int64_t c) {
    for (int side = 0; side < 2; side++) twin.on[side] = tensor_reshape(twin.on[side], a, b, c, 0);
    return twin;
}

// ---- checks ----

static char sizes_text[160]; // of the running case

static void check_guards(const Entry *entry, int side, const unsigned char *content) {
    const unsigned char *after = content + GUARD + entry->bytes[side];
    for (int i = 0; i < GUARD; i++)
        if (content[i] != GUARD_BYTE || after[i] != GUARD_BYTE)
            fail_msg("%s, %s: side %d wrote outside %s", comparison->name, sizes_text, side, entry->name);
}

static bool same(double a, double b) { return a == b || (isnan(a) && isnan(b)); }

// Twice the error of the judge, which rounds where numbers are stored and nowhere else; but a unit in the last place is
// allowed, and what is stored in fp32 may have been summed in it.
static double tolerance_of(const Entry *entry, double largest, double multiple) {
    double floor = comparison->roundoff > 0 ? 1e-12 : 0; // inputs are of size 1: this is nothing
    if (!comparison->judged) return multiple * comparison->roundoff * largest + floor;
    double unit = entry->twin.on[0].dtype == DTYPE_BF16 ? fmax(0x1p-9, entry->roundings * 0x1p-8) * largest : 0;
    return fmax(2 * errors_seen[entry - entries], unit) + multiple * 0x1p-24 * largest + floor;
}

// Contents with their guard bands.
static void check_values(const Entry *entry, void *const content[2], double multiple) {
    const Tensor *t = entry->twin.on;
    int64_t count = tensor_count(t[0]);
    double largest = 0;
    for (int64_t i = 0; i < count; i++) {
        double size = fabs(element_get((char *)content[1] + GUARD, t[1].dtype, i));
        if (isfinite(size)) largest = fmax(largest, size);
    }
    double *error = &errors_seen[entry - entries], tolerance = tolerance_of(entry, largest, multiple);
    *error = 0;
    for (int64_t i = 0; i < count; i++) {
        double a = element_get((char *)content[0] + GUARD, t[0].dtype, i);
        double b = element_get((char *)content[1] + GUARD, t[1].dtype, i);
        if (!same(a, b)) *error = fmax(*error, fabs(a - b));
        if (!same(a, b) && !(fabs(a - b) <= tolerance))
            fail_msg("%s, %s: %s[%ld] is %.9g, not %.9g; allowed are %.3g", comparison->name, sizes_text, entry->name,
                     (long)i, a, b, tolerance);
    }
}

static void check_entry(const Entry *entry, double multiple) {
    void *content[2];
    for (int side = 0; side < 2; side++) {
        size_t bytes = entry->bytes[side] + 2 * GUARD;
        content[side] = test_take(bytes);
        side_kernels(side)->download(content[side], tensor_1d(entry->block[side], DTYPE_I32, (int64_t)(bytes / 4)));
        check_guards(entry, side, content[side]);
    }
    if (comparison->roundoff == 0 && memcmp(content[0], content[1], entry->bytes[0] + 2 * GUARD) != 0) {
        check_values(entry, content, 0);
        fail_msg("%s, %s: %s differs in the sign of a zero", comparison->name, sizes_text, entry->name);
    }
    check_values(entry, content, multiple);
    for (int side = 0; side < 2; side++) free(content[side]);
}

static void forget_entries(void) {
    for (int i = 0; i < entry_count; i++)
        for (int side = 0; side < 2; side++)
            if (entries[i].block[side])
                side_kernels(side)->return_memory(entries[i].block[side], entries[i].bytes[side] + 2 * GUARD);
    entry_count = 0;
    fills = 0;
}

static void compare(const Comparison *with, Case *run, const Sizes *s, double multiple) {
    forget_entries(); // of a test that failed
    comparison = with;
    snprintf(sizes_text, sizeof sizes_text, "b %ld t %ld in %ld out %ld heads %ld/%ld width %ld keys %ld variant %d",
             (long)s->b, (long)s->t, (long)s->in, (long)s->out, (long)s->heads, (long)s->kv_heads, (long)s->width,
             (long)s->keys, s->variant);
    run(s);
    for (int i = 0; i < entry_count; i++) check_entry(&entries[i], multiple);
    forget_entries();
}

void compare_backends_by_dtype(Case *run, const Sizes *sizes, double fp32, double bf16) {
    for (size_t i = 0; i < sizeof comparisons / sizeof comparisons[0]; i++)
        compare(&comparisons[i], run, sizes, comparisons[i].side[0].compute == DTYPE_BF16 ? bf16 : fp32);
}

void compare_backends(Case *run, const Sizes *sizes, double multiple) {
    compare_backends_by_dtype(run, sizes, multiple, multiple);
}

void compare_threads(Case *run, const Sizes *sizes) {
#ifdef THALWEG_CUDA // other builds do this
    (void)run, (void)sizes, (void)thread_comparison;
#else
    compare(&thread_comparison, run, sizes, 0);
#endif
}

void reference_begin(void) {
    forget_entries();
    comparison = &truth_alone;
}

void reference_end(void) { forget_entries(); }
