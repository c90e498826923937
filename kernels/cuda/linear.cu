// Linear layers and batches of products. What follows a product is fused into it where cuBLASLt can and that is faster.
#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/gemm.cuh"
#include "kernels/cuda/linear_few.cuh"
#include "kernels/cuda/tuner.cuh"

// ---- products ----

// From row to row; at least a row's width, also where there is no second row.
static int64_t row_stride(Tensor t, int dim) { return t.shape[dim] > 1 ? t.stride[dim] : t.shape[dim + 1]; }

// The three products of a linear layer; see Product. All tensors are matrices.
static Gemm linear_gemm(Tensor out, Tensor a, Tensor b, Product product) {
    bool a_turned = product == PRODUCT_BACKWARD_WEIGHT, b_turned = product == PRODUCT_FORWARD;
    int64_t inner = a.shape[a_turned ? 0 : 1];
    REQUIRE(out.shape[0] == a.shape[a_turned ? 1 : 0] && out.shape[1] == b.shape[b_turned ? 0 : 1] &&
                inner == b.shape[b_turned ? 1 : 0] && a.dtype == b.dtype,
            "product %d of (%ld, %ld) and (%ld, %ld) is not (%ld, %ld)", product, (long)a.shape[0], (long)a.shape[1],
            (long)b.shape[0], (long)b.shape[1], (long)out.shape[0], (long)out.shape[1]);
    Gemm gemm = {};
    gemm.shape.rows = out.shape[0], gemm.shape.columns = out.shape[1], gemm.shape.inner = inner;
    gemm.shape.batch = 1;
    gemm.shape.a_stride = row_stride(a, 0), gemm.shape.b_stride = row_stride(b, 0);
    gemm.shape.c_stride = gemm.shape.out_stride = row_stride(out, 0);
    gemm.shape.a_transposed = a_turned, gemm.shape.b_transposed = b_turned;
    gemm.shape.in_dtype = a.dtype, gemm.shape.out_dtype = out.dtype;
    gemm.a = a.data, gemm.b = b.data, gemm.c = gemm.out = out.data;
    gemm.alpha = 1, gemm.beta = product == PRODUCT_BACKWARD_WEIGHT ? 1 : 0;
    return gemm;
}

// The same product with another end.
static Gemm with_epilogue(Gemm gemm, Epilogue epilogue, Tensor out, Tensor aux) {
    gemm.shape.epilogue = epilogue;
    gemm.c = gemm.out = out.data;
    gemm.shape.c_stride = gemm.shape.out_stride = row_stride(out, 0);
    gemm.aux = aux.data;
    gemm.shape.aux_stride = row_stride(aux, 0);
    return gemm;
}

void cuda_linear_backward_input(Tensor din, Tensor dout, Tensor weight) {
    Gemm gemm = linear_gemm(tensor_merge_rows(din), tensor_merge_rows(dout), weight, PRODUCT_BACKWARD_INPUT);
    gemm_run(&gemm);
}

void cuda_library_product(Tensor out, Tensor a, Tensor b, Product product) {
    Gemm gemm = linear_gemm(tensor_merge_rows(out), tensor_merge_rows(a), tensor_merge_rows(b), product);
    gemm.shape.epilogue = EPILOGUE_LIBRARY;
    gemm_run(&gemm);
}

// ---- forward ----

typedef struct {
    Tensor out, pre;
    Activation activation;
    Gemm apart, fused;
} Forward;

static bool run_forward(const void *context, bool fused) {
    const Forward *f = static_cast<const Forward *>(context);
    if (!gemm_run(fused ? &f->fused : &f->apart)) return false;
    if (!fused && tensor_present(f->pre)) cuda_activation_forward(f->out, f->pre, f->activation);
    return true;
}

void cuda_linear_forward(Tensor out, Tensor pre, Tensor in, const Linear *layer) {
    bool kept = tensor_present(pre);
    REQUIRE(kept || layer->activation == ACTIVATION_NONE, "activation %d without pre", layer->activation);
    out = tensor_merge_rows(out), pre = kept ? tensor_merge_rows(pre) : pre, in = tensor_merge_rows(in);
    Gemm gemm = linear_gemm(kept ? pre : out, in, layer->weight, PRODUCT_FORWARD);
    if (in.shape[0] <= LINEAR_FEW_ROWS && !layer->repeated) {
        linear_few_forward(out, pre, in, layer);
        return;
    }
    if (tensor_present(layer->bias)) gemm.shape.epilogue = EPILOGUE_BIAS, gemm.bias = layer->bias.data;
    Forward forward = {out, pre, layer->activation, gemm, {}};
    Ways ways = {NULL, run_forward, &forward, {}};
    if (layer->activation == ACTIVATION_GELU && !layer->repeated) {
        forward.fused = with_epilogue(gemm, tensor_present(layer->bias) ? EPILOGUE_GELU_BIAS : EPILOGUE_GELU, out, pre);
        ways.fused = &forward.fused;
    }
    tuner_run(&ways);
}

// ---- backward ----

typedef struct {
    const ActivationBackward *p;
    Gemm apart, fused;
} Backward;

// The library's own sums of columns would be in bf16, and dbias is added to in fp32.
static bool run_backward(const void *context, bool fused) {
    const Backward *b = static_cast<const Backward *>(context);
    const ActivationBackward *p = b->p;
    if (!gemm_run(fused ? &b->fused : &b->apart)) return false;
    if (!fused) activation_backward(p->dpre, p->dbias, p->room, p->pre, p->activation);
    else if (tensor_present(p->dbias)) add_column_sums(p->dbias, p->dpre);
    return true;
}

void cuda_linear_backward_activation(const ActivationBackward *p) {
    bool sums = tensor_present(p->dbias);
    Tensor dpre = tensor_merge_rows(p->dpre), pre = tensor_merge_rows(p->pre), room = tensor_merge_rows(p->room);
    Backward backward = {p, linear_gemm(room, tensor_merge_rows(p->dout), p->weight, PRODUCT_BACKWARD_INPUT), {}};
    Ways ways = {NULL, run_backward, &backward, {p->dbias}};
    if (p->activation == ACTIVATION_GELU) {
        backward.fused = with_epilogue(backward.apart, sums ? EPILOGUE_DGELU_THEN_SUMS : EPILOGUE_DGELU, dpre, pre);
        ways.fused = &backward.fused;
    }
    tuner_run(&ways);
}

typedef struct {
    Tensor dbias, dout;
    Gemm apart, with_sums;
} WeightBackward;

static bool run_weight_backward(const void *context, bool fused) {
    const WeightBackward *w = static_cast<const WeightBackward *>(context);
    if (!gemm_run(fused ? &w->with_sums : &w->apart)) return false;
    if (fused) add_to_sums(w->dbias, static_cast<const float *>(w->with_sums.sums));
    else if (tensor_present(w->dbias)) add_column_sums(w->dbias, w->dout);
    return true;
}

void cuda_linear_backward_weight(Tensor dweight, Tensor dbias, Tensor dout, Tensor in) {
    dout = tensor_merge_rows(dout);
    Gemm gemm = linear_gemm(dweight, dout, tensor_merge_rows(in), PRODUCT_BACKWARD_WEIGHT);
    WeightBackward backward = {dbias, dout, gemm, gemm};
    backward.with_sums.shape.epilogue = EPILOGUE_ROW_SUMS;
    backward.with_sums.sums = gemm_sums_room();
    Ways ways = {NULL, run_weight_backward, &backward, {dweight, dbias}};
    if (tensor_present(dbias) && dweight.dtype == DTYPE_F32 && dweight.shape[0] <= GEMM_SUMS_BYTES / 4)
        ways.fused = &backward.with_sums;
    tuner_run(&ways);
}

// ---- batches ----

static int64_t step_of(Tensor t) { return t.shape[0] > 1 ? t.stride[0] : 0; }

void cuda_matrix_product(const MatrixProduct *p) {
    Tensor c = p->beta != 0 ? p->c : p->out;
    int64_t inner = p->a.shape[p->a_transposed ? 1 : 2];
    int a_rows = p->a_transposed ? 2 : 1, b_rows = p->b_transposed ? 2 : 1;
    REQUIRE(p->out.rank == 3 && p->a.rank == 3 && p->b.rank == 3 && p->a.shape[a_rows] == p->out.shape[1] &&
                p->b.shape[3 - b_rows] == p->out.shape[2] && p->b.shape[b_rows] == inner &&
                p->a.shape[0] == p->out.shape[0] && p->b.shape[0] == p->out.shape[0],
            "(%ld, %ld) from an inner side of %ld", (long)p->out.shape[1], (long)p->out.shape[2], (long)inner);
    REQUIRE(p->a.dtype == p->out.dtype && p->b.dtype == p->out.dtype && c.dtype == p->out.dtype &&
                tensor_same_shape(c, p->out),
            "%s from %s and %s", dtype_name(p->out.dtype), dtype_name(p->a.dtype), dtype_name(p->b.dtype));
    Gemm gemm = {};
    gemm.shape.rows = p->out.shape[1], gemm.shape.columns = p->out.shape[2], gemm.shape.inner = inner;
    gemm.shape.batch = p->out.shape[0];
    gemm.shape.a_stride = row_stride(p->a, 1), gemm.shape.b_stride = row_stride(p->b, 1);
    gemm.shape.c_stride = row_stride(c, 1), gemm.shape.out_stride = row_stride(p->out, 1);
    gemm.shape.a_step = step_of(p->a), gemm.shape.b_step = step_of(p->b);
    gemm.shape.c_step = step_of(c), gemm.shape.out_step = step_of(p->out);
    gemm.shape.a_transposed = p->a_transposed, gemm.shape.b_transposed = p->b_transposed;
    gemm.shape.in_dtype = gemm.shape.out_dtype = p->out.dtype;
    gemm.a = p->a.data, gemm.b = p->b.data, gemm.c = c.data, gemm.out = p->out.data;
    gemm.alpha = static_cast<float>(p->alpha), gemm.beta = static_cast<float>(p->beta);
    gemm_run(&gemm);
}
