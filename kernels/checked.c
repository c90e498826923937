// The contract of kernels.h as a list per operation: each tensor's role, shape in letters, dtype and use. A letter
// stands for one size throughout a call. What lists cannot say is required in a line beside them.
#include "kernels/checked.h"

#include "kernels/checked_calls.h"
#include "kernels/checked_segments.h"
#include "runtime/memory.h"

// ---- the device ----

static bool checked_open(int64_t threads, int64_t gpu, Errors *errors) {
    return checked_inner->open(threads, gpu, errors);
}
static int64_t checked_device_count(void) { return checked_inner->device_count(); }
static void checked_device_address(int64_t gpu, char out[DEVICE_ADDRESS]) { checked_inner->device_address(gpu, out); }
static void checked_close(void) { checked_inner->close(); }
static void *checked_take_memory(size_t bytes) { return checked_inner->take_memory(bytes); }
static void checked_return_memory(void *memory, size_t bytes) { checked_inner->return_memory(memory, bytes); }
static size_t checked_workspace_bytes(void) { return checked_inner->workspace_bytes(); }
static size_t checked_memory_bytes(void) { return checked_inner->memory_bytes(); }
static size_t checked_used_bytes(void) { return checked_inner->used_bytes(); }
static double checked_peak_flops(DType dtype) { return checked_inner->peak_flops(dtype); }
static void checked_describe(Text *out) { checked_inner->describe(out); }
static void checked_write_choices(Text *out) { checked_inner->write_choices(out); }
static bool checked_read_choices(const char *text, Errors *errors) { return checked_inner->read_choices(text, errors); }
static void checked_finish(void) { checked_inner->finish(); }
static bool checked_is_host(void) { return checked_inner->is_host(); }
static void *checked_take_host_memory(size_t bytes) { return checked_inner->take_host_memory(bytes); }
static void checked_return_host_memory(void *memory, size_t bytes) { checked_inner->return_host_memory(memory, bytes); }
static int64_t checked_mark(void) { return checked_inner->mark(); }
static void checked_wait(int64_t mark) { checked_inner->wait(mark); }
static void checked_range_begin(const char *name) { checked_inner->range_begin(name); }
static void checked_range_end(void) { checked_inner->range_end(); }
// Calls are checked as they are made: none may be kept for later.
static bool checked_record(int64_t program) { return (void)program, false; }
static void checked_record_end(void) {}
static bool checked_replay(int64_t program) { return (void)program, false; }

// Present, with memory; any dtype. Contiguous where the host is at the other end.
static void require_memory(const char *operation, const char *role, Tensor t, bool contiguous) {
    REQUIRE(tensor_present(t) && t.data, "%s: %s is missing", operation, role);
    REQUIRE(!contiguous || tensor_contiguous(t), "%s: %s is not contiguous", operation, role);
}

static void checked_upload(Tensor out, const void *host) {
    require_memory("upload", "out", out, true);
    REQUIRE(host, "upload: host is NULL");
    TIMED(upload, (out, host));
}

static void checked_download(void *host, Tensor in) {
    require_memory("download", "in", in, true);
    REQUIRE(host, "download: host is NULL");
    TIMED(download, (host, in));
}

static void checked_download_later(void *host, Tensor in) {
    require_memory("download_later", "in", in, true);
    REQUIRE(host, "download_later: host is NULL");
    TIMED(download_later, (host, in));
}

static void checked_fill_zero(Tensor out) {
    require_memory("fill_zero", "out", out, false);
    checked_cost.bytes = (double)tensor_size_bytes(out);
    TIMED(fill_zero, (out));
}

static void checked_copy(Tensor out, Tensor in) {
    REQUIRE(tensor_same_shape(out, in), "copy: (%ld elements) from (%ld elements)", (long)tensor_count(out),
            (long)tensor_count(in));
    require_memory("copy", "out", out, false);
    require_memory("copy", "in", in, false);
    REQUIRE(out.dtype == in.dtype || (is_float(out.dtype) && is_float(in.dtype)), "copy: %s from %s",
            dtype_name(out.dtype), dtype_name(in.dtype));
    checked_cost.bytes = (double)tensor_size_bytes(out) + (double)tensor_size_bytes(in);
    TIMED(copy, (out, in));
}

// ---- operations ----

static void checked_embedding_forward(Tensor out, Tensor table, Tensor ids, Tensor position_table, Tensor positions) {
    REQUIRE(!tensor_present(position_table) || tensor_present(positions), "embedding_forward: positions are missing");
    checked_cost.bytes = 2.0 * (double)tensor_size_bytes(out) * (tensor_present(position_table) ? 1.5 : 1);
    CALL(embedding_forward, (out, table, ids, position_table, positions),
         OUT(out, "NC", COMPUTE), IN(table, "VC", COMPUTE), IN(ids, "N", I32),
         IN_OR_NONE(position_table, "PC", COMPUTE), IN_OR_NONE(positions, "N", I32));
}

static void checked_embedding_backward(Tensor dtable, Tensor dout, Tensor ids, Tensor order) {
    double rows = (double)(dtable.shape[0] < dout.shape[0] ? dtable.shape[0] : dout.shape[0]); // at most
    double row_bytes = (double)dtable.shape[1] * (double)dtype_bytes(dtable.dtype);
    checked_cost.bytes = (double)tensor_size_bytes(dout) + 2 * rows * row_bytes;
    CALL(embedding_backward, (dtable, dout, ids, order),
         UPDATED(dtable, "VC", WIDE), IN(dout, "NC", COMPUTE), IN(ids, "N", I32), IN(order, "N", I32));
}

static void checked_norm_forward(Tensor out, Tensor sum, Tensor stats, Tensor residual, Tensor branch,
                                 const Norm *norm) {
    REQUIRE(!tensor_present(branch) || tensor_present(sum), "norm_forward: sum is missing");
    CALL(norm_forward, (out, sum, stats, residual, branch, norm),
         OUT(out, "NC", COMPUTE), OUT_OR_NONE(tensor_present(branch) ? sum : TENSOR_NONE, "NC", COMPUTE),
         OUT(stats, "N2", WIDE), IN(residual, "NC", COMPUTE), IN_OR_NONE(branch, "NC", COMPUTE),
         IN(norm->gain, "C", COMPUTE), IN_OR_NONE(norm->bias, "C", COMPUTE));
}

static void checked_norm_backward_add(Tensor dsum, const NormGrads *grads, Tensor dout, Tensor sum, Tensor stats,
                                      const Norm *norm) {
    int64_t sequences = tensor_present(grads->sequence_gain) ? grads->sequence_gain.shape[0] : 1;
    REQUIRE(dout.shape[0] % sequences == 0, "norm_backward_add: %ld rows of %ld sequences", (long)dout.shape[0],
            (long)sequences);
    CALL(norm_backward_add, (dsum, grads, dout, sum, stats, norm),
         UPDATED(dsum, "NC", COMPUTE), UPDATED(grads->gain, "C", WIDE), UPDATED_OR_NONE(grads->bias, "C", WIDE),
         OUT_OR_NONE(grads->sequence_gain, "BC", WIDE), UPDATED_OR_NONE(grads->sum, "C", WIDE),
         IN(dout, "NC", COMPUTE), IN(sum, "NC", COMPUTE), IN(stats, "N2", WIDE), IN(norm->gain, "C", COMPUTE));
}

static void require_groups(const char *operation, Tensor pre, Tensor out, Activation activation) {
    REQUIRE(pre.shape[1] == activation_inputs(activation) * out.shape[1], "%s: %ld columns to %ld by activation %d",
            operation, (long)pre.shape[1], (long)out.shape[1], activation);
}

// Of (N, I) and (O, I), and of the products that go back through it.
static double product_flops(Tensor rows, Tensor weight) {
    return 2.0 * (double)rows.shape[0] * (double)tensor_count(weight);
}

static void checked_linear_forward(Tensor out, Tensor pre, Tensor in, const Linear *layer) {
    REQUIRE(tensor_present(pre) || layer->activation == ACTIVATION_NONE, "linear_forward: pre is missing");
    require_groups("linear_forward", tensor_present(pre) ? pre : out, out, layer->activation);
    checked_cost.flops = product_flops(in, layer->weight);
    CALL(linear_forward, (out, pre, in, layer),
         OUT(out, tensor_present(pre) ? "NF" : "NO", COMPUTE), OUT_OR_NONE(pre, "NO", COMPUTE), IN(in, "NI", COMPUTE),
         IN(layer->weight, "OI", COMPUTE), IN_OR_NONE(layer->bias, "O", COMPUTE));
}

static void checked_linear_backward_input(Tensor din, Tensor dout, Tensor weight) {
    checked_cost.flops = product_flops(dout, weight);
    CALL(linear_backward_input, (din, dout, weight),
         OUT(din, "NI", COMPUTE), IN(dout, "NO", COMPUTE), IN(weight, "OI", COMPUTE));
}

static void checked_linear_backward_weight(Tensor dweight, Tensor dbias, Tensor dout, Tensor in) {
    checked_cost.flops = product_flops(dout, dweight);
    CALL(linear_backward_weight, (dweight, dbias, dout, in),
         UPDATED(dweight, "OI", WIDE), UPDATED_OR_NONE(dbias, "O", WIDE), IN(dout, "NO", COMPUTE),
         IN(in, "NI", COMPUTE));
}

static void checked_library_product(Tensor out, Tensor a, Tensor b, Product product) {
    static const struct {
        const char *out, *a, *b;
    } shapes[] = {[PRODUCT_FORWARD] = {"NO", "NI", "OI"},
                  [PRODUCT_BACKWARD_INPUT] = {"NI", "NO", "OI"},
                  [PRODUCT_BACKWARD_WEIGHT] = {"OI", "NO", "NI"}};
    CALL(library_product, (out, a, b, product), OUT(out, shapes[product].out, FLOATS),
         IN(a, shapes[product].a, COMPUTE), IN(b, shapes[product].b, COMPUTE));
}

static void checked_activation_forward(Tensor out, Tensor pre, Activation activation) {
    require_groups("activation_forward", pre, out, activation);
    CALL(activation_forward, (out, pre, activation), OUT(out, "NF", COMPUTE), IN(pre, "NO", COMPUTE));
}

static void checked_linear_backward_activation(const ActivationBackward *p) {
    require_groups("linear_backward_activation", p->pre, p->room, p->activation);
    checked_cost.flops = product_flops(p->dout, p->weight);
    CALL(linear_backward_activation, (p),
         OUT(p->dpre, "NO", COMPUTE), UPDATED_OR_NONE(p->dbias, "O", WIDE), OUT(p->room, "NF", COMPUTE),
         IN(p->dout, "NC", COMPUTE), IN(p->weight, "CF", COMPUTE), IN(p->pre, "NO", COMPUTE));
}

// `kept`: the statistics that only a gain asks for.
static void require_rotary(const char *operation, Tensor heads, Tensor kept, const Rotary *rotary) {
    REQUIRE(tensor_present(kept) == tensor_present(rotary->gain), "%s: rstd belongs to a gain", operation);
    REQUIRE(rotary->theta >= 0, "%s: theta is %g", operation, rotary->theta);
    REQUIRE(rotary->theta == 0 || heads.shape[3] % 2 == 0, "%s: width %ld is odd", operation, (long)heads.shape[3]);
    REQUIRE(rotary->theta == 0 || tensor_present(rotary->positions), "%s: positions are missing", operation);
}

static void checked_rotary_forward(Tensor out, Tensor rstd, Tensor in, const Rotary *rotary) {
    require_rotary("rotary_forward", in, rstd, rotary);
    REQUIRE(!tensor_present(rotary->gain) || out.data != in.data, "rotary_forward: out is in, with a gain");
    CALL(rotary_forward, (out, rstd, in, rotary),
         OUT(out, "BTHD", COMPUTE), OUT_OR_NONE(rstd, "BTH", WIDE), IN(in, "BTHD", COMPUTE),
         IN_OR_NONE(rotary->gain, "D", COMPUTE), IN_OR_NONE(rotary->positions, "BT", I32));
}

static void checked_rotary_backward(Tensor din, Tensor dgain, Tensor dout, Tensor in, Tensor rstd,
                                    const Rotary *rotary) {
    require_rotary("rotary_backward", dout, rstd, rotary);
    bool gained = tensor_present(rotary->gain);
    REQUIRE(!gained || (tensor_present(in) && tensor_present(dgain)), "rotary_backward: in or dgain is missing");
    CALL(rotary_backward, (din, dgain, dout, in, rstd, rotary),
         OUT(din, "BTHD", COMPUTE), OUT_OR_NONE(dgain, "D", WIDE), IN(dout, "BTHD", COMPUTE),
         IN_OR_NONE(in, "BTHD", COMPUTE), IN_OR_NONE(rstd, "BTH", WIDE), IN_OR_NONE(rotary->gain, "D", COMPUTE),
         IN_OR_NONE(rotary->positions, "BT", I32));
}

static void require_head_groups(const char *operation, const AttentionHeads *heads) {
    int64_t queries = heads->q.shape[2], keys = heads->k.shape[2];
    REQUIRE(keys > 0 && queries % keys == 0, "%s: %ld query heads on %ld key heads", operation, (long)queries,
            (long)keys);
}

// One multiplication for every element of q and k that meet in the visible half of the scores.
static double score_flops(const AttentionHeads *heads) {
    double queries = (double)heads->q.shape[1], keys = (double)heads->k.shape[1];
    double seen = queries == keys ? (keys + 1) / 2 : keys;
    return (double)heads->q.shape[0] * (double)heads->q.shape[2] * queries * seen * (double)heads->q.shape[3];
}

#define HEAD_ROLES(heads) \
    IN((heads)->q, "BQHD", COMPUTE), IN((heads)->k, "BTKD", COMPUTE), IN((heads)->v, "BTKD", COMPUTE)
#define MASK_ROLES(mask) IN_OR_NONE((mask)->first_visible, "BQ", I32), IN_OR_NONE((mask)->offset, "B", I32)

static void checked_attention_forward(Tensor out, Tensor lse, const AttentionHeads *heads, const AttentionMask *mask) {
    require_head_groups("attention_forward", heads);
    checked_cost.flops = 4 * score_flops(heads);
    CALL(attention_forward, (out, lse, heads, mask),
         OUT(out, "BQHD", COMPUTE), OUT(lse, "BHQ", WIDE), HEAD_ROLES(heads), MASK_ROLES(mask));
}

static void checked_attention_backward(const AttentionHeads *dheads, Tensor dout, Tensor out, Tensor lse,
                                       const AttentionHeads *heads, const AttentionMask *mask) {
    require_head_groups("attention_backward", heads);
    checked_cost.flops = 10 * score_flops(heads);
    CALL(attention_backward, (dheads, dout, out, lse, heads, mask),
         OUT(dheads->q, "BQHD", COMPUTE), OUT(dheads->k, "BTKD", COMPUTE), OUT(dheads->v, "BTKD", COMPUTE),
         IN(dout, "BQHD", COMPUTE), IN(out, "BQHD", COMPUTE), IN(lse, "BHQ", WIDE), HEAD_ROLES(heads),
         MASK_ROLES(mask));
}

static void checked_cache_store(Tensor out, Tensor in, Tensor positions) {
    checked_cost.bytes = 2.0 * (double)tensor_size_bytes(in);
    CALL(cache_store, (out, in, positions),
         UPDATED(out, "BPKD", COMPUTE), IN(in, "BTKD", COMPUTE), IN(positions, "BT", I32));
}

static void checked_cross_entropy(Tensor losses, Tensor probability_squares, Tensor logits, Tensor targets,
                                  Tensor weights, const CrossEntropy *options) {
    REQUIRE(options->vocab > 0 && options->vocab <= logits.shape[1], "cross_entropy: vocabulary %ld, %ld columns",
            (long)options->vocab, (long)logits.shape[1]);
    REQUIRE(!options->gradient || options->scalars, "cross_entropy: scalars are missing");
    CALL(cross_entropy, (losses, probability_squares, logits, targets, weights, options),
         OUT(losses, "N", WIDE), OUT_OR_NONE(probability_squares, "N", WIDE), UPDATED(logits, "NV", COMPUTE),
         IN(targets, "N", I32), IN(weights, "N", F32));
}

static void checked_loss_add(Tensor status, Tensor losses, Tensor targets, Tensor weights) {
    CALL(loss_add, (status, losses, targets, weights),
         OUT(status, "S", F64), IN(losses, "N", WIDE), IN(targets, "N", I32), IN(weights, "N", F32));
}

static void checked_sum_squares(Tensor out, Tensor values, Segments segments) {
    REQUIRE(segments.items || segments.count == 0, "sum_squares: segments are missing");
    CALL(sum_squares, (out, values, segments), OUT(out, "1", F64), IN(values, "E", WIDE));
}

static void checked_step_decide(Tensor status, Tensor window, const StepScalars *scalars) {
    REQUIRE(scalars, "step_decide: scalars are missing");
    CALL(step_decide, (status, window, scalars), OUT(status, "S", F64), UPDATED(window, "W", F64));
}

// ---- the optimizer ----

// The segments as the host can read them, until the next call.
static Update readable(const Update *update) {
    static Segment *items;
    Update copy = *update;
    size_t bytes = (size_t)update->segments.count * sizeof *items;
    if (!update->segments.items || bytes == 0) return copy;
    items = memory_grow(items, update->segments.count, sizeof *items, "segments");
    Tensor on_device = tensor_1d((void *)update->segments.items, DTYPE_I64, (int64_t)(bytes / sizeof(int64_t)));
    checked_inner->download(items, on_device);
    copy.segments.items = items;
    return copy;
}

static void checked_update(const Update *u) {
    Update host = readable(u);
    require_segments("update", &host, u->weights);
    require_directions("update", &host);
    checked_cost.bytes = update_bytes(&host);
    CALL(update, (u),
         OUT(u->weights, "E", COMPUTE), OUT(u->z, "Z", WIDE), OUT_OR_NONE(u->state, "X", WIDE),
         IN(u->grads, "E", WIDE), IN_OR_NONE(u->directions, "KRC", FLOATS), IN_OR_NONE(u->squares, "K", F64),
         IN(u->status, "S", F64));
}

static void checked_corrected_squares(Tensor squares, const Update *u) {
    Update host = readable(u);
    require_segments("corrected_squares", &host, u->grads);
    require_count("corrected_squares", u, squares, "squares");
    CALL(corrected_squares, (squares, u),
         OUT(squares, "K", F64), IN(u->grads, "E", WIDE), IN_OR_NONE(u->state, "X", WIDE), IN(u->status, "S", F64));
}

static void checked_interpolate(Tensor out, const Update *u, const double share[RECIPE_ROUTES]) {
    Update host = readable(u);
    require_segments("interpolate", &host, out);
    REQUIRE(share, "interpolate: shares are missing");
    CALL(interpolate, (out, u, share),
         OUT(out, "E", FLOATS), IN(u->z, "Z", WIDE), IN_OR_NONE(u->state, "X", WIDE));
}

static void checked_readout_add(Tensor readout, const Update *u) {
    Update host = readable(u);
    require_segments("readout_add", &host, u->weights);
    CALL(readout_add, (readout, u),
         UPDATED(readout, "Z", WIDE), IN(u->z, "Z", WIDE), IN_OR_NONE(u->state, "X", WIDE), IN(u->status, "S", F64));
}

static void checked_momentum_mix(Tensor out, const Update *u) {
    Update host = readable(u);
    require_segments("momentum_mix", &host, u->grads);
    require_matrices("momentum_mix", &host, out, (MatrixSlot){.slot = 0});
    double wide = (double)tensor_count(out) * (double)dtype_bytes(u->grads.dtype);
    checked_cost.bytes = (double)tensor_size_bytes(out) + 3 * wide;
    CALL(momentum_mix, (out, u),
         OUT(out, "KRC", FLOATS), IN(u->grads, "E", WIDE), OUT(u->state, "X", WIDE), IN(u->status, "S", F64));
}

static void checked_matrix_normalise(Tensor matrices, const MatrixNorm *norm) {
    REQUIRE(norm->epsilon >= 0 && norm->factor >= 0, "matrix_normalise: factor %g, epsilon %g", norm->factor,
            norm->epsilon);
    CALL(matrix_normalise, (matrices, norm), UPDATED(matrices, "KRC", FLOATS));
}

static void checked_matrix_product(const MatrixProduct *p) {
    REQUIRE(tensor_present(p->c) == (p->beta != 0), "matrix_product: c and beta %g", p->beta);
    REQUIRE(p->out.data != p->a.data && p->out.data != p->b.data && p->out.data != p->c.data,
            "matrix_product: out is one of the others");
    const Tensor all[] = {p->a, p->b, tensor_present(p->c) ? p->c : p->out};
    for (int i = 0; i < 3; i++)
        REQUIRE(all[i].dtype == p->out.dtype, "matrix_product: %s from %s", dtype_name(p->out.dtype),
                dtype_name(all[i].dtype));
    checked_cost.flops = 2.0 * (double)tensor_count(p->out) * (double)p->a.shape[p->a_transposed ? 1 : 2];
    CALL(matrix_product, (p),
         OUT(p->out, "KMN", FLOATS), IN(p->a, p->a_transposed ? "KIM" : "KMI", FLOATS),
         IN(p->b, p->b_transposed ? "KNI" : "KIN", FLOATS), IN_OR_NONE(p->c, "KMN", FLOATS));
}

static void checked_neuron_normalise(Tensor matrices, bool unit, const Update *u) {
    Update host = readable(u);
    require_matrices("neuron_normalise", &host, matrices, (MatrixSlot){.slot = 1, .by_row = true});
    checked_cost.bytes = 2.0 * (double)tensor_size_bytes(matrices);
    CALL(neuron_normalise, (matrices, unit, u),
         OUT(matrices, "KRC", FLOATS), OUT(u->state, "X", WIDE), IN(u->status, "S", F64));
}

static void checked_stream(const Tensor *tensors, int64_t count, int64_t first_updated, int64_t first_overwritten) {
    REQUIRE(count > 0 && 0 <= first_updated && first_updated <= first_overwritten && first_overwritten <= count,
            "stream: %ld tensors, updated from %ld, overwritten from %ld", (long)count, (long)first_updated,
            (long)first_overwritten);
    for (int64_t i = 0; i < count; i++) {
        require_memory("stream", "a tensor", tensors[i], true);
        REQUIRE(tensor_same_shape(tensors[i], tensors[0]) && tensors[i].dtype == tensors[0].dtype,
                "stream: tensor %ld is not of the first one's size", (long)i);
    }
    CALL(stream, (tensors, count, first_updated, first_overwritten), IN(tensors[0], "E", WIDE));
}

// ---- the table ----

const Kernels *checked_kernels(const Kernels *wrapped) {
    static Kernels table = {
#define K(result, operation, parameters) .operation = checked_##operation,
        KERNELS(K)
#undef K
    };
    REQUIRE(wrapped != &table, "a wrapper around itself");
    checked_inner = wrapped;
    table.name = wrapped->name;
    return &table;
}
