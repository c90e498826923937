// The reference backend's table, and all of its operations but those on attention heads and those of the step.
#include "tests/reference/reference.h"

#include <stdlib.h>
#include <string.h>

#include "tests/reference/numbers.h"

const Kernels reference_kernels = {
    .name = "reference",
#define K(result, operation, parameters) .operation = reference_##operation,
    KERNELS(K)
#undef K
};

// ---- the device ----

bool reference_open(int64_t threads, int64_t device, Errors *errors) {
    (void)threads, (void)device, (void)errors;
    return true;
}

void reference_close(void) {}
int64_t reference_device_count(void) { return 1; }
void reference_device_address(int64_t device, char out[DEVICE_ADDRESS]) { (void)device, *out = 0; }
void reference_finish(void) {}
bool reference_is_host(void) { return true; }
int64_t reference_mark(void) { return 0; }
void reference_wait(int64_t mark) { (void)mark; }
bool reference_record(int64_t program) { return (void)program, false; }
void reference_record_end(void) {}
bool reference_replay(int64_t program) { return (void)program, false; }
void reference_range_begin(const char *name) { (void)name; }
void reference_range_end(void) {}
size_t reference_workspace_bytes(void) { return 0; }
size_t reference_used_bytes(void) { return 0; }
double reference_peak_flops(DType dtype) { return (void)dtype, 0; }
void reference_describe(Text *out) { text_add(out, "plain loops\n"); }
void reference_write_choices(Text *out) { (void)out; }
bool reference_read_choices(const char *text, Errors *errors) { return (void)text, (void)errors, true; }
size_t reference_memory_bytes(void) { return 0; }

void *reference_take_memory(size_t bytes) { return calloc(bytes ? bytes : 1, 1); }

void reference_return_memory(void *memory, size_t bytes) {
    (void)bytes;
    free(memory);
}

void *reference_take_host_memory(size_t bytes) { return reference_take_memory(bytes); }
void reference_return_host_memory(void *memory, size_t bytes) { reference_return_memory(memory, bytes); }
void reference_download_later(void *host, Tensor in) { reference_download(host, in); }

void reference_upload(Tensor out, const void *host) {
    REQUIRE(tensor_contiguous(out), "strided upload");
    if (tensor_present(out)) memcpy(out.data, host, tensor_size_bytes(out));
}

void reference_download(void *host, Tensor in) {
    REQUIRE(tensor_contiguous(in), "strided download");
    if (tensor_present(in)) memcpy(host, in.data, tensor_size_bytes(in));
}

// The `i`-th element of a tensor of any rank.
static void *element(Tensor t, int64_t i) {
    int64_t offset = 0;
    for (int dim = t.rank - 1; dim >= 0; dim--) {
        offset += i % t.shape[dim] * t.stride[dim];
        i /= t.shape[dim];
    }
    return (char *)t.data + offset * (int64_t)dtype_bytes(t.dtype);
}

void reference_copy(Tensor out, Tensor in) {
    REQUIRE(tensor_same_shape(out, in), "%ld and %ld elements", (long)tensor_count(out), (long)tensor_count(in));
    for (int64_t i = 0; i < tensor_count(in); i++) {
        void *to = element(out, i), *from = element(in, i);
        if (in.dtype == out.dtype)
            memmove(to, from, dtype_bytes(in.dtype));
        else
            set(tensor_1d(to, out.dtype, 1), AT(0), get(tensor_1d(from, in.dtype, 1), AT(0)));
    }
}

void reference_fill_zero(Tensor out) {
    for (int64_t i = 0; i < tensor_count(out); i++) memset(element(out, i), 0, dtype_bytes(out.dtype));
}

// ---- embeddings ----

void reference_embedding_forward(Tensor out, Tensor table, Tensor ids, Tensor position_table, Tensor positions) {
    for (int64_t n = 0; n < out.shape[0]; n++)
        for (int64_t c = 0; c < out.shape[1]; c++) {
            double value = get(table, AT(get_integer(ids, AT(n)), c));
            if (tensor_present(position_table)) value += get(position_table, AT(get_integer(positions, AT(n)), c));
            set(out, AT(n, c), value);
        }
}

// One run of equal ids after the other, so that every element of dtable is rounded once.
void reference_embedding_backward(Tensor dtable, Tensor dout, Tensor ids, Tensor order) {
    int64_t rows = dout.shape[0], end;
    for (int64_t begin = 0; begin < rows; begin = end) {
        int64_t id = get_integer(ids, AT(get_integer(order, AT(begin))));
        for (end = begin + 1; end < rows; end++) {
            int64_t next = get_integer(ids, AT(get_integer(order, AT(end))));
            REQUIRE(next >= id, "order does not sort ids: %ld before %ld", (long)id, (long)next);
            if (next != id) break;
        }
        for (int64_t c = 0; c < dout.shape[1]; c++) {
            double sum = 0;
            for (int64_t i = begin; i < end; i++) sum += get(dout, AT(get_integer(order, AT(i)), c));
            add(dtable, AT(id, c), sum);
        }
    }
}

// ---- norms ----

static void add_columns(Tensor sums, Tensor rows) {
    for (int64_t c = 0; c < rows.shape[1]; c++) {
        double sum = 0;
        for (int64_t n = 0; n < rows.shape[0]; n++) sum += get(rows, AT(n, c));
        add(sums, AT(c), sum);
    }
}

typedef struct {
    double mean, rstd;
} Moments;

static Moments row_moments(Tensor in, int64_t n, const Norm *norm) {
    int64_t columns = in.shape[1];
    double mean = 0, variance = 0;
    for (int64_t c = 0; c < columns && norm->kind == NORM_LAYER; c++) mean += get(in, AT(n, c)) / (double)columns;
    for (int64_t c = 0; c < columns; c++) variance += pow(get(in, AT(n, c)) - mean, 2) / (double)columns;
    return (Moments){mean, 1 / sqrt(variance + norm->epsilon)};
}

void reference_norm_forward(Tensor out, Tensor sum, Tensor stats, Tensor residual, Tensor branch, const Norm *norm) {
    Tensor in = tensor_present(branch) ? sum : residual;
    for (int64_t n = 0; n < out.shape[0]; n++) {
        for (int64_t c = 0; c < out.shape[1] && tensor_present(branch); c++)
            set(sum, AT(n, c), get(residual, AT(n, c)) + get(branch, AT(n, c)));
        Moments moments = row_moments(in, n, norm);
        set(stats, AT(n, 0), moments.mean);
        set(stats, AT(n, 1), moments.rstd);
        for (int64_t c = 0; c < out.shape[1]; c++) {
            double bias = tensor_present(norm->bias) ? get(norm->bias, AT(c)) : 0;
            set(out, AT(n, c), (get(in, AT(n, c)) - moments.mean) * moments.rstd * get(norm->gain, AT(c)) + bias);
        }
    }
}

// The row before gain and bias.
static double normalised(Tensor sum, Tensor stats, int64_t n, int64_t c) {
    return (get(sum, AT(n, c)) - get(stats, AT(n, 0))) * get(stats, AT(n, 1));
}

// Sum over rows [begin, end) of dout times the normalised input.
static double gain_gradient(Tensor dout, Tensor sum, Tensor stats, const int64_t rows[2], int64_t c) {
    double total = 0;
    for (int64_t n = rows[0]; n < rows[1]; n++) total += get(dout, AT(n, c)) * normalised(sum, stats, n, c);
    return total;
}

static void norm_parameters_backward(const NormGrads *grads, Tensor dout, Tensor sum, Tensor stats) {
    int64_t rows = dout.shape[0];
    for (int64_t c = 0; c < dout.shape[1]; c++) {
        add(grads->gain, AT(c), gain_gradient(dout, sum, stats, (int64_t[]){0, rows}, c));
        if (tensor_present(grads->bias)) {
            double total = 0;
            for (int64_t n = 0; n < rows; n++) total += get(dout, AT(n, c));
            add(grads->bias, AT(c), total);
        }
        if (!tensor_present(grads->sequence_gain)) continue;
        int64_t sequences = grads->sequence_gain.shape[0], length = rows / sequences;
        for (int64_t b = 0; b < sequences; b++) {
            const int64_t own[] = {b * length, (b + 1) * length};
            set(grads->sequence_gain, AT(b, c), gain_gradient(dout, sum, stats, own, c));
        }
    }
}

void reference_norm_backward_add(Tensor dsum, const NormGrads *grads, Tensor dout, Tensor sum, Tensor stats,
                                 const Norm *norm) {
    double columns = (double)dout.shape[1];
    norm_parameters_backward(grads, dout, sum, stats);
    for (int64_t n = 0; n < dout.shape[0]; n++) {
        double mean = 0, projection = 0; // of the gradient: on the ones, on the normalised row
        for (int64_t c = 0; c < dout.shape[1]; c++) {
            double g = get(dout, AT(n, c)) * get(norm->gain, AT(c));
            if (norm->kind == NORM_LAYER) mean += g / columns;
            projection += g * normalised(sum, stats, n, c) / columns;
        }
        for (int64_t c = 0; c < dout.shape[1]; c++) {
            double g = get(dout, AT(n, c)) * get(norm->gain, AT(c));
            add(dsum, AT(n, c), get(stats, AT(n, 1)) * (g - mean - projection * normalised(sum, stats, n, c)));
        }
    }
    if (tensor_present(grads->sum)) add_columns(grads->sum, dsum);
}

// ---- linear layers ----

void reference_linear_forward(Tensor out, Tensor pre, Tensor in, const Linear *layer) {
    Tensor weight = layer->weight, bias = layer->bias;
    Tensor product = tensor_present(pre) ? pre : out;
    for (int64_t n = 0; n < in.shape[0]; n++)
        for (int64_t o = 0; o < weight.shape[0]; o++) {
            double sum = tensor_present(bias) ? get(bias, AT(o)) : 0;
            for (int64_t i = 0; i < weight.shape[1]; i++) sum += get(in, AT(n, i)) * get(weight, AT(o, i));
            set(product, AT(n, o), sum);
        }
    if (tensor_present(pre)) reference_activation_forward(out, pre, layer->activation);
}

void reference_linear_backward_input(Tensor din, Tensor dout, Tensor weight) {
    for (int64_t n = 0; n < dout.shape[0]; n++)
        for (int64_t i = 0; i < weight.shape[1]; i++) {
            double sum = 0;
            for (int64_t o = 0; o < weight.shape[0]; o++) sum += get(dout, AT(n, o)) * get(weight, AT(o, i));
            set(din, AT(n, i), sum);
        }
}

void reference_linear_backward_weight(Tensor dweight, Tensor dbias, Tensor dout, Tensor in) {
    for (int64_t o = 0; o < dout.shape[1]; o++) {
        for (int64_t i = 0; i < in.shape[1]; i++) {
            double sum = 0;
            for (int64_t n = 0; n < dout.shape[0]; n++) sum += get(dout, AT(n, o)) * get(in, AT(n, i));
            add(dweight, AT(o, i), sum);
        }
    }
    if (tensor_present(dbias)) add_columns(dbias, dout);
}

void reference_library_product(Tensor out, Tensor a, Tensor b, Product product) {
    switch (product) {
    case PRODUCT_FORWARD: reference_linear_forward(out, TENSOR_NONE, a, &(Linear){.weight = b}); break;
    case PRODUCT_BACKWARD_INPUT: reference_linear_backward_input(out, a, b); break;
    case PRODUCT_BACKWARD_WEIGHT: reference_linear_backward_weight(out, TENSOR_NONE, a, b); break;
    }
}

// ---- activations ----

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

// GELU in its tanh form: x/2 (1 + tanh u).
static double gelu_argument(double x) { return sqrt(2 / M_PI) * (x + 0.044715 * x * x * x); }

// Of the gate, where there is one.
static double curve(Activation activation, double x) {
    switch (activation) {
    case ACTIVATION_GELU: return x / 2 * (1 + tanh(gelu_argument(x)));
    case ACTIVATION_SWIGLU: return x * sigmoid(x);
    case ACTIVATION_RELU2: return x > 0 ? x * x : 0;
    default: return x;
    }
}

static double curve_slope(Activation activation, double x) {
    switch (activation) {
    case ACTIVATION_GELU: {
        double t = tanh(gelu_argument(x));
        return (1 + t) / 2 + x / 2 * (1 - t * t) * sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
    }
    case ACTIVATION_SWIGLU: return sigmoid(x) * (1 + x * (1 - sigmoid(x)));
    case ACTIVATION_RELU2: return x > 0 ? 2 * x : 0;
    default: return 1;
    }
}

void reference_activation_forward(Tensor out, Tensor pre, Activation activation) {
    int64_t columns = out.shape[1];
    for (int64_t n = 0; n < out.shape[0]; n++)
        for (int64_t c = 0; c < columns; c++) {
            double up = activation == ACTIVATION_SWIGLU ? get(pre, AT(n, columns + c)) : 1;
            set(out, AT(n, c), curve(activation, get(pre, AT(n, c))) * up);
        }
}

static void activation_backward(Tensor dpre, Tensor dout, Tensor pre, Activation activation) {
    int64_t columns = dout.shape[1];
    bool gated = activation == ACTIVATION_SWIGLU;
    for (int64_t n = 0; n < dout.shape[0]; n++)
        for (int64_t c = 0; c < columns; c++) {
            double x = get(pre, AT(n, c)), d = get(dout, AT(n, c));
            double up = gated ? get(pre, AT(n, columns + c)) : 1;
            set(dpre, AT(n, c), d * curve_slope(activation, x) * up);
            if (gated) set(dpre, AT(n, columns + c), d * curve(activation, x));
        }
}

void reference_linear_backward_activation(const ActivationBackward *p) {
    reference_linear_backward_input(p->room, p->dout, p->weight);
    activation_backward(p->dpre, p->room, p->pre, p->activation);
    if (tensor_present(p->dbias)) add_columns(p->dbias, p->dpre);
}

// ---- loss ----

typedef struct {
    double max, sum, squares; // of e^(logit - max), and of its square
} Softmax;

static Softmax row_softmax(Tensor logits, int64_t n, int64_t vocab) {
    Softmax s = {.max = -INFINITY};
    for (int64_t v = 0; v < vocab; v++) s.max = fmax(s.max, get(logits, AT(n, v)));
    for (int64_t v = 0; v < vocab; v++) {
        double e = exp(get(logits, AT(n, v)) - s.max);
        s.sum += e;
        s.squares += e * e;
    }
    return s;
}

void reference_cross_entropy(Tensor losses, Tensor probability_squares, Tensor logits, Tensor targets, Tensor weights,
                             const CrossEntropy *options) {
    for (int64_t n = 0; n < logits.shape[0]; n++) {
        int64_t target = get_integer(targets, AT(n));
        Softmax s = row_softmax(logits, n, options->vocab);
        REQUIRE(target < options->vocab, "target %ld of %ld", (long)target, (long)options->vocab);
        set(losses, AT(n), target < 0 ? 0 : s.max + log(s.sum) - get(logits, AT(n, target)));
        if (tensor_present(probability_squares))
            set(probability_squares, AT(n), target < 0 ? 0 : s.squares / (s.sum * s.sum));
        if (!options->gradient) continue;
        double factor = get(weights, AT(n)) * options->scalars->inverse_weight;
        for (int64_t v = 0; v < logits.shape[1]; v++) {
            double p = v < options->vocab ? exp(get(logits, AT(n, v)) - s.max) / s.sum : 0;
            set(logits, AT(n, v), target < 0 ? 0 : factor * (p - (v == target)));
        }
    }
}

void reference_loss_add(Tensor status, Tensor losses, Tensor targets, Tensor weights) {
    for (int64_t n = 0; n < losses.shape[0]; n++) {
        if (get_integer(targets, AT(n)) < 0) continue;
        add(status, AT(STATUS_LOSS_SUM), get(weights, AT(n)) * get(losses, AT(n)));
        add(status, AT(STATUS_WEIGHT_SUM), get(weights, AT(n)));
    }
}
