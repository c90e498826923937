// The vectorised elementary functions against double libm, over the whole range in which they are used.
#include "tests/test.h"

#include <float.h>
#include <math.h>

#include "kernels/cpu/vector_math.h"

enum { N = 4099, ULPS = 4 }; // N leaves a tail at every vector width

// Distance of the least significant bits of a float of this size.
static double ulp(double value) {
    int exponent;
    frexp(value, &exponent);
    return ldexp(1, exponent - 24 < -149 ? -149 : exponent - 24);
}

static void spread(float *out, double low, double high) {
    for (int i = 0; i < N; i++) out[i] = (float)(low + (high - low) * i / (N - 1));
}

static void check_exp(double low, double high) {
    float in[N], out[N];
    double sum = 0;
    spread(in, low, high);
    float total = vector_exp_sum(out, in, 0, N);
    for (int i = 0; i < N; i++) {
        double exact = exp((double)in[i]);
        CHECK_CLOSE((double)out[i], exact, ULPS * ulp(exact));
        sum += exact;
    }
    CHECK_CLOSE((double)total, sum, 1e-5 * sum + 1e-43);
}

TEST(exp_is_within_4_ulp_also_where_results_are_denormal_or_zero) {
    check_exp(-20, 0);
    check_exp(-87.3, 80);
    check_exp(-104, -87);    // denormal
    check_exp(-1e-3, 1e-3);
    check_exp(-3e38, -103.98); // 0
    check_exp(0, 0);
}

TEST(exp_subtracts_the_shift_and_may_work_in_place_at_any_length) {
    for (int64_t n = 0; n < 40; n++) {
        float values[40];
        double sum = 0;
        for (int i = 0; i < 40; i++) values[i] = 90 + 0.25f * (float)(i % 7);
        float total = vector_exp_sum(values, values, 91.5f, n);
        for (int i = 0; i < n; i++) {
            double exact = exp(-1.5 + 0.25 * (i % 7));
            CHECK_CLOSE((double)values[i], exact, ULPS * ulp(exact));
            sum += exact;
        }
        for (int i = (int)n; i < 40; i++) assert_true(values[i] == 90 + 0.25f * (float)(i % 7));
        CHECK_CLOSE((double)total, sum, 1e-6 * sum);
    }
}

TEST(softmax_backward_recovers_p_and_forms_its_gradient) {
    float scores[N], dp[N];
    spread(scores, -150, 5);
    spread(dp, -2, 3);
    vector_softmax_backward(scores, dp, 5, 0.75f, N);
    float arguments[N], incoming[N];
    spread(arguments, -150, 5);
    spread(incoming, -2, 3);
    for (int i = 0; i < N; i++) {
        double p = exp((double)(arguments[i] - 5));
        CHECK_CLOSE((double)scores[i], p, ULPS * ulp(p));
        CHECK_CLOSE((double)dp[i], p * ((double)incoming[i] - 0.75), 1e-6 * p + ulp(0));
    }
}

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double gelu_argument(double x) { return 2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x); }

// Both gates are x sigmoid(u): an error of the rounded u is multiplied by |u| in e^-u.
static void check_gate(double got, double x, double u) {
    double exact = x * sigmoid(u);
    CHECK_CLOSE(got, exact, ULPS * ulp(exact) + 2 * FLT_EPSILON * fabs(u * exact) + 1e-30);
}

TEST(gelu_and_silu_keep_their_relative_accuracy_in_the_negative_tail) {
    static const double reach[] = {1, 6, 12, 100, 1e4};
    for (size_t r = 0; r < sizeof reach / sizeof *reach; r++) {
        float x[N], gelu[N], silu[N], one[N];
        spread(x, -reach[r], reach[r]);
        spread(one, 1, 1);
        vector_gelu(gelu, x, N);
        vector_swiglu(silu, x, one, N);
        for (int i = 0; i < N; i++) {
            check_gate((double)gelu[i], (double)x[i], gelu_argument((double)x[i]));
            check_gate((double)silu[i], (double)x[i], (double)x[i]);
        }
    }
}

TEST(gelu_is_the_tanh_form) {
    float in[3] = {-1, 0.5f, 2}, out[3];
    vector_gelu(out, in, 3);
    for (int i = 0; i < 3; i++) {
        double x = (double)in[i], u = sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
        CHECK_CLOSE((double)out[i], 0.5 * x * (1 + tanh(u)), ULPS * ulp(2));
    }
}

TEST(derivatives_of_the_gates_agree_with_double) {
    static const double reach[] = {1, 6, 12, 100, 1e4};
    for (size_t r = 0; r < sizeof reach / sizeof *reach; r++) {
        float x[N], up[N], dout[N], din[N], dgate[N], dup[N];
        spread(x, -reach[r], reach[r]);
        spread(up, -1, 2);
        spread(dout, 3, -2);
        vector_gelu_backward(din, dout, x, N);
        vector_swiglu_backward(dgate, dup, dout, x, up, N);
        for (int i = 0; i < N; i++) {
            double v = (double)x[i], d = (double)dout[i], u = (double)up[i];
            double s = sigmoid(gelu_argument(v)), slope = 2 * sqrt(2 / M_PI) * (1 + 3 * 0.044715 * v * v);
            CHECK_CLOSE((double)din[i], d * (s + v * s * (1 - s) * slope), 1e-5);
            s = sigmoid(v);
            CHECK_CLOSE((double)dgate[i], d * u * (s + v * s * (1 - s)), 1e-5);
            CHECK_CLOSE((double)dup[i], d * v * s, 1e-5 + 1e-6 * fabs(v * d));
        }
    }
}

TEST(sine_and_cosine_hold_for_angles_of_a_million_positions) {
    static const double reach[] = {1e-6, 1, 100, 1e6};
    for (size_t r = 0; r < sizeof reach / sizeof *reach; r++) {
        static double angle[N];
        float sine[N], cosine[N];
        for (int i = 0; i < N; i++) angle[i] = reach[r] * i / (N - 1);
        vector_sine_cosine(sine, cosine, angle, N);
        for (int i = 0; i < N; i++) {
            CHECK_CLOSE((double)sine[i], sin(angle[i]), ulp(sin(angle[i])));
            CHECK_CLOSE((double)cosine[i], cos(angle[i]), ulp(cos(angle[i])));
        }
    }
}
