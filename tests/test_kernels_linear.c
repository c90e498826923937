// Linear layers and activations against the reference. Variants are activations, + 4 with bias, + 8 with pre kept,
// + 16 where the activation is computed again.
#include "tests/support_kernels.h"
#include "tests/test.h"

enum { BIAS = 4, PRE = 8, REPEATED = 16 };

static Activation activation_of(const Sizes *s) { return (Activation)(s->variant & 3); }

static void assert_equal_bits(Twin a, Twin b, int side) {
    for (int64_t i = 0; i < tensor_count(a.on[side]); i++)
        assert_true(twin_get(a, side, i) == twin_get(b, side, i));
}

static void linear_forward(const Sizes *s) {
    int64_t rows = s->b * s->t, inner = s->out * activation_inputs(activation_of(s));
    Twin out = twin("out", POISON, COMPUTE, rows, s->out, 0);
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
        {.b = 1, .t = 9, .in = 3100, .out = 21, .variant = ACTIVATION_GELU | PRE | BIAS}, // long sums, in parts
        {.b = 1, .t = 40, .in = 33, .out = 600, .variant = ACTIVATION_GELU | PRE | BIAS}, // tiles side by side
        {.b = 1, .t = 40, .in = 33, .out = 600, .variant = ACTIVATION_SWIGLU | PRE | BIAS},
    };
    COMPARE_BACKENDS(linear_forward, list, 8);
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
    COMPARE_BACKENDS(linear_backward, list, 8);
    COMPARE_BACKENDS(library_products, list, 16); // in an order of its own
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
    };
    COMPARE_THREADS(linear_forward, list);
    COMPARE_THREADS(linear_backward, list);
    COMPARE_THREADS(activation, list);
}
