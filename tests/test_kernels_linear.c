// Linear layers and activations against the reference. Variants are activations, + 4 with bias, + 8 with pre kept,
// + 16 where the activation is computed again.
#include <stdlib.h>

#include "tests/support_kernels.h"
#include "tests/test.h"

enum { BIAS = 4, PRE = 8, REPEATED = 16 };

// What sums may be off by. cuBLASLt takes each in one chain in fp32, which on tensor cores is cut instead of rounded.
#ifdef THALWEG_CUDA
enum { SUMS = 32 };
#else
enum { SUMS = 8 };
#endif

static Activation activation_of(const Sizes *s) { return (Activation)(s->variant & 3); }

static void assert_equal_bits(Twin a, Twin b, int side) {
    for (int64_t i = 0; i < tensor_count(a.on[side]); i++)
        assert_true(twin_get(a, side, i) == twin_get(b, side, i));
}

static void linear_forward(const Sizes *s) {
    int64_t rows = s->b * s->t, inner = s->out * activation_inputs(activation_of(s));
    Twin out = twin("out", POISON, COMPUTE, rows, s->out, 0);
    if (activation_of(s) == ACTIVATION_SWIGLU) twin_roundings(3); // gate, up, their product
    Twin pre = s->variant & PRE ? twin("pre", POISON, COMPUTE, rows, inner, 0) : TWIN_NONE;
    Twin in = twin("in", NORMAL, COMPUTE, rows, s->in, 0);
    Twin weight = twin("weight", NORMAL, COMPUTE, inner, s->in, 0);
    Twin bias = s->variant & BIAS ? twin("bias", NORMAL, COMPUTE, inner, 0, 0) : TWIN_NONE;
    Twin again = s->variant & REPEATED ? twin("again", POISON, COMPUTE, rows, s->out, 0) : TWIN_NONE;
    BOTH(k, i) {
        Linear layer = {weight.on[i], bias.on[i], activation_of(s), .repeated = s->variant & REPEATED};
        k->linear_forward(out.on[i], pre.on[i], in.on[i], &layer);
        if (!layer.repeated) continue;
        k->copy(again.on[i], out.on[i]);
        k->activation_forward(out.on[i], pre.on[i], activation_of(s));
        assert_equal_bits(again, out, i);
    }
}

static void linear_backward(const Sizes *s) {
    int64_t rows = s->b * s->t;
    Twin din = twin("din", POISON, COMPUTE, rows, s->in, 0);
    Twin dweight = twin("dweight", TEN, WIDE, s->out, s->in, 0);
    Twin dbias = s->variant & BIAS ? twin("dbias", TEN, WIDE, s->out, 0, 0) : TWIN_NONE;
    Twin dout = twin("dout", NORMAL, COMPUTE, rows, s->out, 0);
    Twin in = twin("in", NORMAL, COMPUTE, rows, s->in, 0);
    Twin weight = twin("weight", NORMAL, COMPUTE, s->out, s->in, 0);
    BOTH(k, i) {
        k->linear_backward_input(din.on[i], dout.on[i], weight.on[i]);
        k->linear_backward_weight(dweight.on[i], dbias.on[i], dout.on[i], in.on[i]);
    }
}

static void library_products(const Sizes *s) {
    int64_t rows = s->b * s->t;
    Twin out = twin("out", POISON, COMPUTE, rows, s->out, 0);
    Twin din = twin("din", POISON, COMPUTE, rows, s->in, 0);
    Twin dweight = twin("dweight", TEN, COMPUTE, s->out, s->in, 0);
    Twin dout = twin("dout", NORMAL, COMPUTE, rows, s->out, 0);
    Twin in = twin("in", NORMAL, COMPUTE, rows, s->in, 0);
    Twin weight = twin("weight", NORMAL, COMPUTE, s->out, s->in, 0);
    BOTH(k, i) {
        k->library_product(out.on[i], in.on[i], weight.on[i], PRODUCT_FORWARD);
        k->library_product(din.on[i], dout.on[i], weight.on[i], PRODUCT_BACKWARD_INPUT);
        k->library_product(dweight.on[i], dout.on[i], in.on[i], PRODUCT_BACKWARD_WEIGHT);
    }
}

static void activation(const Sizes *s) {
    int64_t rows = s->b * s->t, inner = s->out * activation_inputs(activation_of(s));
    Twin out = twin("out", POISON, COMPUTE, rows, s->out, 0);
    Twin dpre = twin("dpre", POISON, COMPUTE, rows, inner, 0);
    Twin pre = twin("pre", NORMAL, COMPUTE, rows, inner, 0);
    Twin dbias = s->variant & BIAS ? twin("dbias", TEN, WIDE, inner, 0, 0) : TWIN_NONE;
    Twin room = twin("room", POISON, COMPUTE, rows, s->out, 0);
    Twin dout = twin("dout", NORMAL, COMPUTE, rows, s->in, 0);
    Twin weight = twin("weight", NORMAL, COMPUTE, s->in, s->out, 0);
    BOTH(k, i) {
        k->activation_forward(out.on[i], pre.on[i], activation_of(s));
        k->linear_backward_activation(&(ActivationBackward){dpre.on[i], dbias.on[i], room.on[i], dout.on[i],
                                                            weight.on[i], pre.on[i], activation_of(s)});
        k->fill_zero(room.on[i]);
    }
}

// Arguments far from 0, where exponentials overflow or vanish. 88.7 is where e^x leaves fp32.
static void activation_extremes(const Sizes *s) {
    static const double arguments[] = {0,  -0.0, 1e-30, -1e-30, 5,   -5,   30,   -30,
                                       88, -88,  90,    -90,    200, -200, 1024, -1024};
    enum { COUNT = sizeof arguments / sizeof arguments[0] };
    int64_t groups = activation_inputs(activation_of(s));
    for (int i = 0; i < COUNT; i++) {
        Twin out = twin("out", POISON, COMPUTE, 1, 1, 0), dpre = twin("dpre", POISON, COMPUTE, 1, groups, 0);
        Twin pre = twin("pre", TEN, COMPUTE, 1, groups, 0), dout = twin("dout", TEN, COMPUTE, 1, 1, 0);
        Twin weight = twin("weight", TEN, COMPUTE, 1, 1, 0), room = twin("room", POISON, COMPUTE, 1, 1, 0);
        twin_set(pre, 0, arguments[i]);
        if (i < s->b * 8 - 8 || i >= s->b * 8) continue; // so many twins fit a case
        BOTH(k, j) {
            k->activation_forward(out.on[j], pre.on[j], activation_of(s));
            k->linear_backward_activation(&(ActivationBackward){dpre.on[j], TENSOR_NONE, room.on[j], dout.on[j],
                                                                weight.on[j], pre.on[j], activation_of(s)});
            k->fill_zero(room.on[j]);
        }
    }
}

TEST(linear_forward_equals_the_reference) {
    static const Sizes list[] = {
        {.b = 1, .t = 1, .in = 1, .out = 1},
        {.b = 1, .t = 7, .in = 3, .out = 5, .variant = BIAS},
        {.b = 3, .t = 43, .in = 17, .out = 129, .variant = PRE | BIAS},
        {.b = 1, .t = 515, .in = 33, .out = 130, .variant = BIAS},
        {.b = 1, .t = 130, .in = 515, .out = 33},
        {.b = 2, .t = 9, .in = 65, .out = 31, .variant = ACTIVATION_GELU | PRE | BIAS},
        {.b = 1, .t = 129, .in = 31, .out = 140, .variant = ACTIVATION_GELU | PRE},
        {.b = 1, .t = 24, .in = 32, .out = 48, .variant = ACTIVATION_GELU | PRE | BIAS},
        {.b = 1, .t = 24, .in = 32, .out = 48, .variant = ACTIVATION_GELU | PRE | BIAS | REPEATED},
        {.b = 1, .t = 9, .in = 31, .out = 14, .variant = ACTIVATION_SWIGLU | PRE | REPEATED},
        {.b = 2, .t = 9, .in = 65, .out = 31, .variant = ACTIVATION_SWIGLU | PRE | BIAS},
        {.b = 1, .t = 129, .in = 31, .out = 140, .variant = ACTIVATION_SWIGLU | PRE},
        {.b = 1, .t = 7, .in = 33, .out = 1, .variant = ACTIVATION_SWIGLU | PRE},
        {.b = 2, .t = 9, .in = 65, .out = 31, .variant = ACTIVATION_RELU2 | PRE | BIAS},
        {.b = 1, .t = 19, .in = 3100, .out = 21, .variant = ACTIVATION_GELU | PRE | BIAS}, // long sums, in parts
        {.b = 1, .t = 40, .in = 33, .out = 600, .variant = ACTIVATION_GELU | PRE | BIAS}, // tiles side by side
        {.b = 1, .t = 40, .in = 33, .out = 600, .variant = ACTIVATION_SWIGLU | PRE | BIAS},
    };
    COMPARE_BACKENDS(linear_forward, list, SUMS);
}

// Generation has a row for each sequence. Rows up to where all backends go other ways; each sees several activations.
TEST(products_of_few_rows_equal_the_reference) {
    static const int64_t shapes[][2] = {{1, 1}, {7, 3}, {33, 19}, {100, 67}, {64, 40}, {520, 24}, {1100, 9}};
    static const int variants[] = {
        0, BIAS, PRE | BIAS, ACTIVATION_GELU | PRE | BIAS, ACTIVATION_SWIGLU | PRE, ACTIVATION_RELU2 | PRE | BIAS,
        ACTIVATION_GELU | PRE | REPEATED, ACTIVATION_SWIGLU | PRE | BIAS | REPEATED,
    };
    enum { ROWS = 14, SHAPES = sizeof shapes / sizeof shapes[0], VARIANTS = sizeof variants / sizeof variants[0] };
    for (int rows = 1; rows <= ROWS; rows++)
        for (int i = 0; i < SHAPES; i++) {
            Sizes s = {.b = 1, .t = rows, .in = shapes[i][0], .out = shapes[i][1],
                       .variant = variants[(rows + 3 * i) % VARIANTS]};
            compare_backends(linear_forward, &s, 2 * SUMS);
        }
}

// What a row becomes does not depend on the rows beside it.
static void rows_together_and_apart(const Sizes *s) {
    Twin out = twin("out", POISON, COMPUTE, s->t, s->out, 0), alone = twin("alone", POISON, COMPUTE, s->t, s->out, 0);
    Twin in = twin("in", NORMAL, COMPUTE, s->t, s->in, 0), weight = twin("weight", NORMAL, COMPUTE, s->out, s->in, 0);
    BOTH(k, i) {
        const Linear layer = {.weight = weight.on[i]};
        k->linear_forward(out.on[i], TENSOR_NONE, in.on[i], &layer);
        for (int64_t row = 0; row < s->t; row++)
            k->linear_forward(twin_slice(alone, 0, row, 1).on[i], TENSOR_NONE, twin_slice(in, 0, row, 1).on[i], &layer);
        assert_equal_bits(alone, out, i);
    }
}

TEST(products_of_few_rows_are_equal_together_and_apart) {
    static const Sizes list[] = {{.t = 3, .in = 100, .out = 67}, {.t = 8, .in = 328, .out = 24}};
    COMPARE_BACKENDS(rows_together_and_apart, list, SUMS);
}

TEST(linear_backward_equals_the_reference) {
    static const Sizes list[] = {
        {.b = 1, .t = 1, .in = 1, .out = 1, .variant = BIAS},
        {.b = 1, .t = 7, .in = 3, .out = 5},
        {.b = 3, .t = 43, .in = 17, .out = 129, .variant = BIAS},
        {.b = 1, .t = 515, .in = 130, .out = 33, .variant = BIAS},
        {.b = 1, .t = 33, .in = 130, .out = 515},
        {.b = 1, .t = 3100, .in = 21, .out = 25, .variant = BIAS}, // long sums, in parts
        {.b = 1, .t = 9, .in = 21, .out = 4700},
        {.b = 1, .t = 33, .in = 600, .out = 530, .variant = BIAS},
    };
    COMPARE_BACKENDS(linear_backward, list, SUMS);
    COMPARE_BACKENDS(library_products, list, 2 * SUMS); // in an order of its own
}

TEST(activations_equal_the_reference) {
    for (int activated = ACTIVATION_NONE; activated <= ACTIVATION_RELU2; activated++) {
        const Sizes list[] = {{.b = 1, .t = 1, .in = 1, .out = 1, .variant = activated},
                              {.b = 1, .t = 7, .in = 3, .out = 5, .variant = activated | BIAS},
                              {.b = 2, .t = 64, .in = 8, .out = 64, .variant = activated | BIAS},
                              {.b = 2, .t = 65, .in = 17, .out = 515, .variant = activated | BIAS}};
        COMPARE_BACKENDS(activation, list, 16);
    }
}

TEST(activations_far_from_zero) {
    for (int activated = ACTIVATION_NONE; activated <= ACTIVATION_RELU2; activated++) {
        const Sizes list[] = {{.b = 1, .variant = activated}, {.b = 2, .variant = activated}};
        COMPARE_BACKENDS(activation_extremes, list, 16);
    }
}

TEST(linear_is_equal_on_one_and_two_threads) {
    static const Sizes list[] = {
        {.b = 3, .t = 171, .in = 257, .out = 515, .variant = BIAS},
        {.b = 2, .t = 130, .in = 129, .out = 300, .variant = ACTIVATION_GELU | PRE | BIAS},
        {.b = 2, .t = 130, .in = 129, .out = 300, .variant = ACTIVATION_SWIGLU | PRE | BIAS},
        {.b = 1, .t = 2048, .in = 16, .out = 24},
        {.b = 1, .t = 8, .in = 1100, .out = 1300},
        {.b = 1, .t = 1, .in = 515, .out = 1300, .variant = ACTIVATION_GELU | PRE | BIAS},
        {.b = 1, .t = 5, .in = 515, .out = 300, .variant = ACTIVATION_SWIGLU | PRE | BIAS},
    };
    COMPARE_THREADS(linear_forward, list);
    COMPARE_THREADS(linear_backward, list);
    COMPARE_THREADS(activation, list);
}

#ifdef THALWEG_CUDA

// The ways of the CUDA backend, each forced. Sizes are ragged, or such that cuBLASLt fuses.
TEST(products_are_the_same_fused_and_apart) {
    static const Sizes forward[] = {
        {.b = 1, .t = 24, .in = 32, .out = 48, .variant = ACTIVATION_GELU | PRE | BIAS},
        {.b = 1, .t = 9, .in = 43, .out = 136, .variant = ACTIVATION_GELU | PRE},
        {.b = 1, .t = 9, .in = 31, .out = 27, .variant = ACTIVATION_GELU | PRE | BIAS},
        {.b = 1, .t = 24, .in = 32, .out = 48, .variant = ACTIVATION_GELU | PRE | BIAS | REPEATED},
    };
    static const Sizes backward[] = {
        {.b = 1, .t = 24, .in = 32, .out = 48, .variant = ACTIVATION_GELU | BIAS},
        {.b = 1, .t = 200, .in = 24, .out = 72, .variant = ACTIVATION_GELU | BIAS},
        {.b = 1, .t = 24, .in = 32, .out = 48, .variant = ACTIVATION_GELU},
        {.b = 1, .t = 9, .in = 31, .out = 27, .variant = ACTIVATION_GELU | BIAS},
    };
    static const char *const ways[] = {"0", "1"};
    for (int i = 0; i < 2; i++) {
        setenv("THALWEG_FUSE", ways[i], 1);
        COMPARE_BACKENDS(linear_forward, forward, SUMS);
        COMPARE_BACKENDS(activation, backward, 2 * SUMS);
        COMPARE_BACKENDS(linear_backward, backward, SUMS);
    }
    unsetenv("THALWEG_FUSE");
}

enum { A_TRANSPOSED = 1, B_TRANSPOSED = 2, ADDED = 4, STRIDED = 8, PRODUCTS = 16 };

static Twin matrices(const char *name, Fill fill, const Sizes *s, int64_t rows, int64_t columns) {
    bool strided = s->variant & STRIDED;
    Twin wide = twin(name, fill, COMPUTE, s->b, rows, columns + (strided ? 3 : 0));
    return strided ? twin_slice(wide, 2, 1, columns) : wide;
}

static void batched(const Sizes *s) {
    bool turn_a = s->variant & A_TRANSPOSED, turn_b = s->variant & B_TRANSPOSED, added = s->variant & ADDED;
    Twin out = matrices("out", POISON, s, s->t, s->out);
    Twin a = matrices("a", NORMAL, s, turn_a ? s->in : s->t, turn_a ? s->t : s->in);
    Twin b = matrices("b", NORMAL, s, turn_b ? s->out : s->in, turn_b ? s->in : s->out);
    Twin c = added ? matrices("c", NORMAL, s, s->t, s->out) : TWIN_NONE;
    BOTH(k, i)
        k->matrix_product(&(MatrixProduct){.out = out.on[i], .a = a.on[i], .b = b.on[i], .c = c.on[i],
                                           .a_transposed = turn_a, .b_transposed = turn_b, .alpha = -0.75,
                                           .beta = added ? 2.5 : 0});
}

TEST(products_without_cublaslt_equal_the_reference) {
    static const Sizes forward[] = {
        {.b = 1, .t = 1, .in = 1, .out = 1},
        {.b = 3, .t = 43, .in = 17, .out = 129, .variant = PRE | BIAS},
        {.b = 1, .t = 65, .in = 64, .out = 64, .variant = ACTIVATION_GELU | PRE | BIAS},
        {.b = 1, .t = 9, .in = 3100, .out = 21},
    };
    setenv("THALWEG_CUBLASLT", "0", 1);
    COMPARE_BACKENDS(linear_forward, forward, 8);
    COMPARE_BACKENDS(linear_backward, forward, 8);
    COMPARE_BACKENDS(library_products, forward, 16);
    for (int variant = 0; variant < PRODUCTS; variant++) {
        const Sizes list[] = {{.b = 1, .t = 1, .in = 1, .out = 7, .variant = variant},
                              {.b = 3, .t = 67, .in = 33, .out = 70, .variant = variant}};
        COMPARE_BACKENDS(batched, list, 16);
    }
    unsetenv("THALWEG_CUBLASLT");
    for (int variant = 0; variant < PRODUCTS; variant++)
        compare_backends(batched, &(Sizes){.b = 2, .t = 19, .in = 16, .out = 24, .variant = variant}, 16);
}

#endif
