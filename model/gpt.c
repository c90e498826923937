// The network. Memory first, then forward and backward, block by block, as lists of kernel calls.
#include "model/gpt.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/integers.h"
#include "runtime/memory.h"

// ---- memory ----

// Elements of the logits held at once, at least these rows: on the host they should stay near the caches, a device
// needs about 8192 rows of a vocabulary of 50,000 to be busy.
enum { HOST_LOGITS = 1 << 25, DEVICE_LOGITS = 13 << 25, LOGITS_ROWS = 64 };

typedef enum { ACT_WIDTH, ACT_STATS, ACT_QKV, ACT_QK, ACT_Q_RSTD, ACT_K_RSTD, ACT_HEADS, ACT_HEAD_COUNT, ACT_MLP_IN,
               ACT_FFN } ActWidth;

static int64_t act_columns(const GptShape *s, ActWidth which) {
    switch (which) {
        case ACT_WIDTH: return s->width;
        case ACT_STATS: return 2;
        case ACT_QKV: return (s->heads + 2 * s->kv_heads) * s->head_dim;
        case ACT_QK: return s->qk_norm ? (s->heads + s->kv_heads) * s->head_dim : 0;
        case ACT_Q_RSTD: return s->qk_norm ? s->heads : 0;
        case ACT_K_RSTD: return s->qk_norm ? s->kv_heads : 0;
        case ACT_HEADS: return s->heads * s->head_dim;
        case ACT_HEAD_COUNT: return s->heads;
        case ACT_MLP_IN: return activation_inputs(s->activation) * s->ffn_width;
        case ACT_FFN: return s->ffn_width;
    }
    return 0;
}

static int64_t logits_rows(const Gpt *gpt) {
    int64_t limit = (gpt->kernels->is_host() ? HOST_LOGITS : DEVICE_LOGITS) / gpt->shape.rows;
    int64_t all = gpt->setup.batch * gpt->setup.length;
    int64_t chunks = divide_up(all, limit > LOGITS_ROWS ? limit : LOGITS_ROWS); // of one size, but for the last
    int64_t rows = round_up(divide_up(all, chunks), LOGITS_ROWS);
    return rows < all ? rows : all;
}

// One row of gpt_acts.def for all blocks; shared by them from its recompute level on.
static void place_act(Gpt *gpt, Arena *arena, const char *name, size_t field, DType dtype, int kept_below,
                      int64_t columns) {
    if (columns == 0) return;
    int64_t rows = gpt->setup.batch * gpt->setup.length;
    bool shared = !gpt->setup.training || gpt->setup.recompute >= kept_below;
    Tensor tensor = TENSOR_NONE;
    for (int64_t l = 0; l < gpt->shape.layers; l++) {
        if (l == 0 || !shared) tensor = arena_tensor(arena, name, tensor_2d(NULL, dtype, rows, columns));
        *(Tensor *)((char *)&gpt->acts[l] + field) = tensor;
    }
}

static void place_block_acts(Gpt *gpt, Arena *arena) {
    DType dtype[] = {gpt->setup.compute, gpt->setup.wide};
    enum { COMPUTE, WIDE };
#define ACT(name, kind, kept_below, columns)                                                  \
    place_act(gpt, arena, #name, offsetof(GptActs, name), dtype[kind], kept_below,            \
              act_columns(&gpt->shape, ACT_##columns));
#include "model/gpt_acts.def"
}

static void place_batch(Gpt *gpt, Arena *arena) {
    int64_t b = gpt->setup.batch, t = gpt->setup.length;
    Batch shape = {.tokens = tensor_2d(NULL, DTYPE_I32, b, t),        .targets = tensor_2d(NULL, DTYPE_I32, b, t),
                   .positions = tensor_2d(NULL, DTYPE_I32, b, t),     .first_visible = tensor_2d(NULL, DTYPE_I32, b, t),
                   .weights = tensor_2d(NULL, DTYPE_F32, b, t),       .sequence = tensor_1d(NULL, DTYPE_I64, b),
                   .source = tensor_1d(NULL, DTYPE_I32, b),           .token_order = tensor_1d(NULL, DTYPE_I32, b * t),
                   .position_order = tensor_1d(NULL, DTYPE_I32, b * t)};
#define PLACE(field) gpt->room.field = arena_tensor(arena, "batch", shape.field);
    BATCH_FIELDS(PLACE)
#undef PLACE
}

static void place_caches(Gpt *gpt, Arena *arena) {
    const GptShape *s = &gpt->shape;
    const char *name = "key-value cache";
    if (gpt->setup.cache == 0) return;
    Tensor heads = tensor_4d(NULL, gpt->setup.compute, 1, gpt->setup.cache, s->kv_heads, s->head_dim);
    for (int64_t l = 0; l < s->layers; l++)
        gpt->caches[l] = (GptCache){arena_tensor(arena, name, heads), arena_tensor(arena, name, heads)};
    gpt->offset_room = arena_tensor(arena, name, tensor_1d(NULL, DTYPE_I32, 1));
}

static void place_acts(Gpt *gpt, Arena *arena) {
    const GptShape *s = &gpt->shape;
    DType compute = gpt->setup.compute, wide = gpt->setup.wide;
    int64_t n = gpt->setup.batch * gpt->setup.length;
    place_block_acts(gpt, arena);
    gpt->final_sum = arena_tensor(arena, "final", tensor_2d(NULL, compute, n, s->width));
    gpt->final_norm = arena_tensor(arena, "final", tensor_2d(NULL, compute, n, s->width));
    gpt->final_stats = arena_tensor(arena, "final", tensor_2d(NULL, wide, n, 2));
    gpt->branch = arena_tensor(arena, "branch", tensor_2d(NULL, compute, n, s->width));
    gpt->losses = arena_tensor(arena, "losses", tensor_1d(NULL, wide, n));
    gpt->logits = arena_tensor(arena, "logits", tensor_2d(NULL, compute, logits_rows(gpt), s->rows));
    gpt->status = arena_tensor(arena, "status", tensor_1d(NULL, DTYPE_F64, STATUS_COUNT));
    gpt->scalars = arena_take(arena, "status", sizeof *gpt->scalars);
    place_batch(gpt, arena);
    place_caches(gpt, arena);
    if (!gpt->setup.training) return;
    const char *name = "backward";
    gpt->dresidual = arena_tensor(arena, name, tensor_2d(NULL, compute, n, s->width));
    gpt->dnorm = arena_tensor(arena, name, tensor_2d(NULL, compute, n, s->width));
    gpt->dqkv = arena_tensor(arena, name, tensor_2d(NULL, compute, n, act_columns(s, ACT_QKV)));
    gpt->dattn = arena_tensor(arena, name, tensor_2d(NULL, compute, n, act_columns(s, ACT_HEADS)));
    gpt->dmlp_pre = arena_tensor(arena, name, tensor_2d(NULL, compute, n, act_columns(s, ACT_MLP_IN)));
    gpt->dmlp_act = arena_tensor(arena, name, tensor_2d(NULL, compute, n, s->ffn_width));
}

static void place_weights(Gpt *gpt, Arena *arena) {
    gpt->weights = arena_tensor(arena, "weights", tensor_1d(NULL, gpt->setup.compute, gpt->params.elements));
}

static void place_grads(Gpt *gpt, Arena *arena) {
    if (gpt->setup.training)
        gpt->grads = arena_tensor(arena, "gradients", tensor_1d(NULL, gpt->setup.wide, gpt->params.elements));
}

// Measured and placed by the same functions, arena by arena.
static const struct {
    const char *name;
    size_t arena;
    void (*place)(Gpt *, Arena *);
    bool sent; // other ranks get it
} places[] = {
    {"weights", offsetof(Gpt, weight_arena), place_weights, true},
    {"gradients", offsetof(Gpt, grad_arena), place_grads, true},
    {"activations", offsetof(Gpt, act_arena), place_acts, false},
};
enum { PLACES = sizeof places / sizeof places[0] };

static Arena *arena_of(Gpt *gpt, int i) { return (Arena *)((char *)gpt + places[i].arena); }

void gpt_plan(Gpt *gpt, const Kernels *kernels, const GptShape *shape, const GptSetup *setup) {
    *gpt = (Gpt){.kernels = kernels, .shape = *shape, .setup = *setup, .params = gpt_param_list(shape)};
    gpt->acts = memory_take(shape->layers, sizeof *gpt->acts, "blocks");
    gpt->caches = memory_take(shape->layers, sizeof *gpt->caches, "blocks");
    for (int i = 0; i < PLACES; i++) {
        arena_of(gpt, i)->name = places[i].name;
        places[i].place(gpt, arena_of(gpt, i));
    }
}

static void *take_memory(Gpt *gpt, int i) {
    Comm *comm = places[i].sent ? gpt->setup.comm : NULL;
    size_t bytes = arena_of(gpt, i)->used;
    return comm ? comm->row->take_memory(comm, bytes) : gpt->kernels->take_memory(bytes);
}

static void return_memory(Gpt *gpt, int i) {
    Comm *comm = places[i].sent ? gpt->setup.comm : NULL;
    size_t bytes = arena_of(gpt, i)->capacity;
    if (comm) comm->row->return_memory(comm, gpt->memory[i], bytes);
    else gpt->kernels->return_memory(gpt->memory[i], bytes);
}

bool gpt_open(Gpt *gpt, Errors *errors) {
    for (int i = 0; i < PLACES; i++) {
        Arena *arena = arena_of(gpt, i);
        if (arena->used == 0) continue;
        gpt->memory[i] = take_memory(gpt, i);
        if (!gpt->memory[i]) {
            Text table = {0};
            arena_report(&table, (const Arena *[]){&gpt->weight_arena, &gpt->grad_arena, &gpt->act_arena}, PLACES);
            errors_add(errors, EXIT_USAGE,
                       "not enough memory on %s for this model:\n%slower train.micro_batch, or raise train.recompute",
                       gpt->kernels->name, text_string(&table));
            text_close(&table);
            return false;
        }
        arena_begin_placing(arena, gpt->memory[i]);
        places[i].place(gpt, arena);
    }
    return true;
}

void gpt_close(Gpt *gpt) {
    for (int i = 0; i < PLACES; i++) {
        if (gpt->memory[i]) return_memory(gpt, i);
        arena_close(arena_of(gpt, i));
    }
    free((void *)gpt->params.items);
    free(gpt->acts);
    free(gpt->caches);
    *gpt = (Gpt){0};
}

// ---- the batch ----

// The shape of the host's tensor in the device's memory.
static Tensor in_room(Tensor room, Tensor host) {
    REQUIRE(tensor_size_bytes(host) <= tensor_size_bytes(room), "a batch larger than the setup's");
    host.data = tensor_present(host) ? room.data : NULL;
    return host;
}

void gpt_load_batch(Gpt *gpt, const Batch *host) {
#define LOAD(field)                                            \
    gpt->batch.field = in_room(gpt->room.field, host->field);  \
    if (tensor_present(host->field)) gpt->kernels->upload(gpt->batch.field, host->field.data);
    BATCH_FIELDS(LOAD)
#undef LOAD
    gpt->offset = TENSOR_NONE;
}

void gpt_load_tokens(Gpt *gpt, const int32_t *ids, int64_t begin, int64_t count) {
    int32_t offset = (int32_t)begin, *positions = memory_grow(NULL, count, sizeof *positions, "positions");
    REQUIRE(begin >= 0 && begin + count <= gpt->setup.cache, "positions %ld to %ld in a cache of %ld", begin,
            begin + count, gpt->setup.cache);
    for (int64_t i = 0; i < count; i++) positions[i] = offset + (int32_t)i;
    gpt_load_batch(gpt, &(Batch){.tokens = tensor_2d((void *)ids, DTYPE_I32, 1, count),
                                 .positions = tensor_2d(positions, DTYPE_I32, 1, count)});
    gpt->offset = gpt->offset_room;
    gpt->kernels->upload(gpt->offset, &offset);
    free(positions);
}

// What one forward or backward pass needs to know about the present batch.
typedef struct {
    int64_t sequences, length, rows; // B, T, N
} Extent;

static Extent extent(const Gpt *gpt) {
    int64_t b = gpt->batch.tokens.shape[0], t = gpt->batch.tokens.shape[1];
    return (Extent){b, t, b * t};
}

static Tensor first_rows(Tensor t, Extent e) { return tensor_present(t) ? tensor_slice(t, 0, 0, e.rows) : t; }

static GptActs block_acts(const Gpt *gpt, int64_t layer, Extent e) {
    GptActs a = gpt->acts[layer];
#define ACT(name, ...) a.name = first_rows(a.name, e);
#include "model/gpt_acts.def"
    return a;
}

// ---- pieces shared by forward and backward ----

static Norm norm_of(const GptShape *s, Tensor gain, Tensor bias) {
    return (Norm){.kind = s->norm, .epsilon = s->norm_epsilon, .gain = gain, .bias = bias};
}

// Columns [begin, begin + heads D) of (N, columns) as (B, T, heads, D).
static Tensor heads_of(const Gpt *gpt, Tensor rows, int64_t begin, int64_t heads, Extent e) {
    int64_t columns = heads * gpt->shape.head_dim;
    Tensor all = tensor_reshape(rows, e.sequences, e.length, rows.shape[1], 0);
    return tensor_split_last(tensor_slice(all, 2, begin, columns), heads, gpt->shape.head_dim);
}

static Tensor q_of(const Gpt *gpt, Tensor rows, Extent e) { return heads_of(gpt, rows, 0, gpt->shape.heads, e); }

static Tensor k_of(const Gpt *gpt, Tensor rows, Extent e) {
    return heads_of(gpt, rows, gpt->shape.heads * gpt->shape.head_dim, gpt->shape.kv_heads, e);
}

static Tensor v_of(const Gpt *gpt, Tensor rows, Extent e) {
    const GptShape *s = &gpt->shape;
    return heads_of(gpt, rows, (s->heads + s->kv_heads) * s->head_dim, s->kv_heads, e);
}

// What attention reads: q and k from `qk` where heads are normalised, else from qkv.
static AttentionHeads attention_heads(const Gpt *gpt, const GptActs *a, Extent e) {
    Tensor qk = gpt->shape.qk_norm ? a->qk : a->qkv;
    return (AttentionHeads){q_of(gpt, qk, e), k_of(gpt, qk, e), v_of(gpt, a->qkv, e)};
}

static AttentionMask attention_mask(const Gpt *gpt) {
    return (AttentionMask){.scale = 1 / sqrt((double)gpt->shape.head_dim), .first_visible = gpt->batch.first_visible,
                           .offset = gpt->offset};
}

static Rotary rotary_of(const Gpt *gpt, Tensor gain) {
    return (Rotary){.gain = gain, .epsilon = gpt->shape.norm_epsilon, .theta = gpt->shape.rope_theta,
                    .positions = gpt->batch.positions};
}

static bool turns_heads(const GptShape *s) { return s->qk_norm || s->position == POSITION_ROPE; }

// (N, heads) statistics as (B, T, heads); absent ones stay absent.
static Tensor per_head(Tensor t, Extent e) {
    return tensor_present(t) ? tensor_reshape(t, e.sequences, e.length, t.shape[1], 0) : t;
}

static Tensor lse_of(const GptActs *a, Extent e) {
    return tensor_reshape(a->lse, e.sequences, a->lse.shape[1], e.length, 0);
}

// ---- units ----

static int unit_of_block(int64_t layer) { return (int)layer + 1; }
static int last_unit(const Gpt *gpt) { return unit_of_block(gpt->shape.layers); }

static void unit_needed(const Gpt *gpt, int unit) {
    if (gpt->hooks.needed) gpt->hooks.needed(gpt->hooks.context, unit);
}

static void unit_done(const Gpt *gpt, int unit) {
    if (gpt->hooks.done) gpt->hooks.done(gpt->hooks.context, unit);
}

// ---- forward ----

static void heads_forward(Gpt *gpt, const GptTensors *w, const GptActs *a, Extent e) {
    if (!turns_heads(&gpt->shape)) return;
    Tensor out = gpt->shape.qk_norm ? a->qk : a->qkv;
    Rotary q = rotary_of(gpt, w->q_norm_w), k = rotary_of(gpt, w->k_norm_w);
    gpt->kernels->rotary_forward(q_of(gpt, out, e), per_head(a->q_rstd, e), q_of(gpt, a->qkv, e), &q);
    gpt->kernels->rotary_forward(k_of(gpt, out, e), per_head(a->k_rstd, e), k_of(gpt, a->qkv, e), &k);
}

// Keys and values of the loaded tokens go into the block's cache, and attention reads all of that.
static void heads_to_cache(Gpt *gpt, int64_t layer, AttentionHeads *heads) {
    const GptCache *cache = &gpt->caches[layer];
    gpt->kernels->cache_store(cache->k, heads->k, gpt->batch.positions);
    gpt->kernels->cache_store(cache->v, heads->v, gpt->batch.positions);
    heads->k = cache->k;
    heads->v = cache->v;
}

// One block but for its end: from residual (+ branch, which is what the block before added) to mlp_act. Without a
// branch `residual` is the block's own input, which is how it is computed again.
static void block_forward(Gpt *gpt, int64_t layer, Tensor residual, Tensor branch) {
    const Kernels *k = gpt->kernels;
    Extent e = extent(gpt);
    GptTensors w = gpt_tensors(gpt, gpt->weights, (int)layer);
    GptActs a = block_acts(gpt, layer, e);
    Norm norm1 = norm_of(&gpt->shape, w.norm1_w, w.norm1_b), norm2 = norm_of(&gpt->shape, w.norm2_w, w.norm2_b);
    Linear mlp_in = {w.mlp_in_w, w.mlp_in_b, gpt->shape.activation, .repeated = gpt->setup.recompute == 1};
    Tensor out = first_rows(gpt->branch, e);

    k->norm_forward(a.norm1, tensor_present(branch) ? a.residual : TENSOR_NONE, a.stats1, residual, branch, &norm1);
    k->linear_forward(a.qkv, TENSOR_NONE, a.norm1, &(Linear){.weight = w.qkv_w, .bias = w.qkv_b}); // (N, QKV)
    heads_forward(gpt, &w, &a, e);
    AttentionHeads heads = attention_heads(gpt, &a, e);
    AttentionMask mask = attention_mask(gpt);
    if (tensor_present(gpt->offset)) heads_to_cache(gpt, layer, &heads);
    k->attention_forward(q_of(gpt, a.attn, e), lse_of(&a, e), &heads, &mask);    // (B, T, H, D)
    k->linear_forward(out, TENSOR_NONE, a.attn, &(Linear){.weight = w.attn_out_w, .bias = w.attn_out_b}); // (N, C)

    k->norm_forward(a.norm2, a.middle, a.stats2, a.residual, out, &norm2);
    k->linear_forward(a.mlp_act, a.mlp_pre, a.norm2, &mlp_in);                 // (N, F)
}

// What the block adds to `middle` at its end; nothing in backward needs it.
static void block_output(Gpt *gpt, int64_t layer, Tensor out) {
    GptTensors w = gpt_tensors(gpt, gpt->weights, (int)layer);
    GptActs a = block_acts(gpt, layer, extent(gpt));
    gpt->kernels->linear_forward(out, TENSOR_NONE, a.mlp_act, &(Linear){.weight = w.mlp_out_w, .bias = w.mlp_out_b});
}

static void embed_forward(Gpt *gpt, Extent e) {
    GptTensors w = gpt_tensors(gpt, gpt->weights, -1);
    Tensor out = block_acts(gpt, 0, e).residual;
    Tensor ids = tensor_reshape(gpt->batch.tokens, e.rows, 0, 0, 0);
    Tensor positions = tensor_reshape(gpt->batch.positions, e.rows, 0, 0, 0);
    gpt->kernels->embedding_forward(out, w.wte, ids, w.wpe, tensor_present(w.wpe) ? positions : TENSOR_NONE);
}

static void final_norm_forward(Gpt *gpt, Extent e) {
    GptTensors w = gpt_tensors(gpt, gpt->weights, -1);
    Norm norm = norm_of(&gpt->shape, w.norm_w, w.norm_b);
    GptActs last = block_acts(gpt, gpt->shape.layers - 1, e);
    gpt->kernels->norm_forward(first_rows(gpt->final_norm, e), first_rows(gpt->final_sum, e),
                               first_rows(gpt->final_stats, e), last.middle, first_rows(gpt->branch, e), &norm);
}

static void trunk_forward(Gpt *gpt) {
    Extent e = extent(gpt);
    unit_needed(gpt, 0);
    embed_forward(gpt, e);
    for (int64_t l = 0; l < gpt->shape.layers; l++) {
        unit_needed(gpt, unit_of_block(l));
        Tensor before = l == 0 ? block_acts(gpt, 0, e).residual : block_acts(gpt, l - 1, e).middle;
        block_forward(gpt, l, before, l == 0 ? TENSOR_NONE : first_rows(gpt->branch, e));
        block_output(gpt, l, first_rows(gpt->branch, e)); // (N, C)
    }
    unit_needed(gpt, last_unit(gpt));
    final_norm_forward(gpt, e);
}

static Tensor head_weight(const GptTensors *t) { return tensor_present(t->head_w) ? t->head_w : t->wte; }

// The loss, some rows of logits at a time; while they are there, their gradient goes to the head and to dnorm.
static void head_forward(Gpt *gpt, GptMode mode, Extent e) {
    const Kernels *k = gpt->kernels;
    GptTensors w = gpt_tensors(gpt, gpt->weights, -1);
    CrossEntropy options = {.vocab = gpt->shape.vocab, .gradient = mode == GPT_TRAIN, .scalars = gpt->scalars};
    Tensor targets = tensor_reshape(gpt->batch.targets, e.rows, 0, 0, 0);
    Tensor weights = tensor_reshape(gpt->batch.weights, e.rows, 0, 0, 0);
    int64_t chunk = gpt->logits.shape[0];
    for (int64_t row = 0; row < e.rows; row += chunk) {
        int64_t count = e.rows - row < chunk ? e.rows - row : chunk;
        Tensor logits = tensor_slice(gpt->logits, 0, 0, count); // (chunk, V)
        Tensor in = tensor_slice(gpt->final_norm, 0, row, count);
        k->linear_forward(logits, TENSOR_NONE, in, &(Linear){.weight = head_weight(&w)});
        k->cross_entropy(tensor_slice(gpt->losses, 0, row, count), TENSOR_NONE, logits,
                         tensor_slice(targets, 0, row, count), tensor_slice(weights, 0, row, count), &options);
        if (mode != GPT_TRAIN) continue;
        GptTensors d = gpt_tensors(gpt, gpt->grads, -1);
        k->linear_backward_input(tensor_slice(gpt->dnorm, 0, row, count), logits, head_weight(&w));
        k->linear_backward_weight(head_weight(&d), TENSOR_NONE, logits, in);
    }
    k->loss_add(gpt->status, first_rows(gpt->losses, e), targets, weights);
}

void gpt_forward(Gpt *gpt, GptMode mode) {
    REQUIRE(mode == GPT_EVALUATE || gpt->setup.training, "the network was opened without training");
    trunk_forward(gpt);
    head_forward(gpt, mode, extent(gpt));
}

void gpt_forward_last(Gpt *gpt) {
    trunk_forward(gpt);
    GptTensors w = gpt_tensors(gpt, gpt->weights, -1);
    Tensor in = tensor_slice(gpt->final_norm, 0, extent(gpt).rows - 1, 1);
    gpt->kernels->linear_forward(tensor_slice(gpt->logits, 0, 0, 1), TENSOR_NONE, in,
                                 &(Linear){.weight = head_weight(&w)});
}

Tensor gpt_last_logits(const Gpt *gpt) {
    return tensor_slice(tensor_slice(gpt->logits, 0, 0, 1), 1, 0, gpt->shape.vocab);
}

// ---- backward ----

static void heads_backward(Gpt *gpt, const GptTensors *w, const GptTensors *d, const GptActs *a) {
    if (!turns_heads(&gpt->shape)) return;
    Extent e = extent(gpt);
    Tensor dqkv = first_rows(gpt->dqkv, e);
    Rotary q = rotary_of(gpt, w->q_norm_w), k = rotary_of(gpt, w->k_norm_w);
    Tensor dq = q_of(gpt, dqkv, e), dk = k_of(gpt, dqkv, e); // in place
    gpt->kernels->rotary_backward(dq, d->q_norm_w, dq, q_of(gpt, a->qkv, e), per_head(a->q_rstd, e), &q);
    gpt->kernels->rotary_backward(dk, d->k_norm_w, dk, k_of(gpt, a->qkv, e), per_head(a->k_rstd, e), &k);
}

// The products of a block that no other kernel of backward waits for.
static void late_weights_backward(Gpt *gpt, const GptTensors *d, const GptActs *a) {
    const Kernels *k = gpt->kernels;
    Extent e = extent(gpt);
    k->linear_backward_weight(d->mlp_in_w, TENSOR_NONE, first_rows(gpt->dmlp_pre, e), a->norm2);
    k->linear_backward_weight(d->qkv_w, d->qkv_b, first_rows(gpt->dqkv, e), a->norm1);
}

static void mlp_backward(Gpt *gpt, const GptTensors *w, const GptTensors *d, const GptActs *a) {
    const Kernels *k = gpt->kernels;
    Extent e = extent(gpt);
    Tensor dout = first_rows(gpt->dresidual, e), dnorm = first_rows(gpt->dnorm, e);
    Tensor dact = first_rows(gpt->dmlp_act, e), dpre = first_rows(gpt->dmlp_pre, e);
    Norm norm = norm_of(&gpt->shape, w->norm2_w, w->norm2_b);
    k->linear_backward_weight(d->mlp_out_w, TENSOR_NONE, dout, a->mlp_act);
    k->linear_backward_activation(&(ActivationBackward){.dpre = dpre, .dbias = d->mlp_in_b, .room = dact, .dout = dout,
                                                        .weight = w->mlp_out_w, .pre = a->mlp_pre,
                                                        .activation = gpt->shape.activation}); // (N, F) or (N, 2 F)
    k->linear_backward_input(dnorm, dpre, w->mlp_in_w);                                        // (N, C)
    NormGrads grads = {.gain = d->norm2_w, .bias = d->norm2_b, .sum = d->attn_out_b};
    k->norm_backward_add(dout, &grads, dnorm, a->middle, a->stats2, &norm);
}

// `below`: the bias of the layer whose output this block's input is, none for the first block.
static void attention_backward(Gpt *gpt, const GptTensors *w, const GptTensors *d, const GptActs *a, Tensor below) {
    const Kernels *k = gpt->kernels;
    Extent e = extent(gpt);
    Tensor dout = first_rows(gpt->dresidual, e), dnorm = first_rows(gpt->dnorm, e);
    Tensor dattn = first_rows(gpt->dattn, e), dqkv = first_rows(gpt->dqkv, e);
    Norm norm = norm_of(&gpt->shape, w->norm1_w, w->norm1_b);
    AttentionHeads heads = attention_heads(gpt, a, e);
    AttentionHeads dheads = {q_of(gpt, dqkv, e), k_of(gpt, dqkv, e), v_of(gpt, dqkv, e)};
    AttentionMask mask = attention_mask(gpt);
    k->linear_backward_weight(d->attn_out_w, TENSOR_NONE, dout, a->attn);
    k->linear_backward_input(dattn, dout, w->attn_out_w);                          // (N, H D)
    k->attention_backward(&dheads, q_of(gpt, dattn, e), q_of(gpt, a->attn, e), lse_of(a, e), &heads, &mask);
    heads_backward(gpt, w, d, a);
    k->linear_backward_input(dnorm, dqkv, w->qkv_w);                               // (N, C)
    NormGrads grads = {.gain = d->norm1_w, .bias = d->norm1_b, .sum = below};
    k->norm_backward_add(dout, &grads, dnorm, a->residual, a->stats1, &norm);
}

// What forward did not keep of this block, from what it kept.
static void block_recompute(Gpt *gpt, int64_t layer) {
    const Kernels *k = gpt->kernels;
    GptActs a = block_acts(gpt, layer, extent(gpt));
    if (gpt->setup.recompute >= 2) block_forward(gpt, layer, a.residual, TENSOR_NONE);
    if (gpt->setup.recompute != 1) return;
    GptTensors w = gpt_tensors(gpt, gpt->weights, (int)layer);
    Norm norm1 = norm_of(&gpt->shape, w.norm1_w, w.norm1_b), norm2 = norm_of(&gpt->shape, w.norm2_w, w.norm2_b);
    k->norm_forward(a.norm1, TENSOR_NONE, a.stats1, a.residual, TENSOR_NONE, &norm1);
    k->norm_forward(a.norm2, TENSOR_NONE, a.stats2, a.middle, TENSOR_NONE, &norm2);
    k->activation_forward(a.mlp_act, a.mlp_pre, gpt->shape.activation);
}

static void embed_backward(Gpt *gpt, Extent e) {
    GptTensors d = gpt_tensors(gpt, gpt->grads, -1);
    Tensor dout = first_rows(gpt->dresidual, e);
    Tensor ids = tensor_reshape(gpt->batch.tokens, e.rows, 0, 0, 0);
    Tensor positions = tensor_reshape(gpt->batch.positions, e.rows, 0, 0, 0);
    gpt->kernels->embedding_backward(d.wte, dout, ids, gpt->batch.token_order);
    if (tensor_present(d.wpe)) gpt->kernels->embedding_backward(d.wpe, dout, positions, gpt->batch.position_order);
    unit_done(gpt, 0);
}

// The gradient of the bias that a block adds to the stream last: columns of the stream's own gradient behind it.
static Tensor output_bias(const Gpt *gpt, int64_t layer) {
    return layer < 0 ? TENSOR_NONE : gpt_tensors(gpt, gpt->grads, (int)layer).mlp_out_b;
}

void gpt_backward(Gpt *gpt) {
    Extent e = extent(gpt);
    GptTensors w = gpt_tensors(gpt, gpt->weights, -1), d = gpt_tensors(gpt, gpt->grads, -1);
    Norm norm = norm_of(&gpt->shape, w.norm_w, w.norm_b);
    Tensor dresidual = first_rows(gpt->dresidual, e);
    gpt->kernels->fill_zero(dresidual);
    int64_t layers = gpt->shape.layers;
    NormGrads grads = {.gain = d.norm_w, .bias = d.norm_b, .sum = output_bias(gpt, layers - 1)};
    gpt->kernels->norm_backward_add(dresidual, &grads, first_rows(gpt->dnorm, e), first_rows(gpt->final_sum, e),
                                    first_rows(gpt->final_stats, e), &norm);
    unit_done(gpt, last_unit(gpt));
    for (int64_t l = layers - 1; l >= 0; l--) {
        GptTensors block = gpt_tensors(gpt, gpt->weights, (int)l), dblock = gpt_tensors(gpt, gpt->grads, (int)l);
        GptActs a = block_acts(gpt, l, e);
        block_recompute(gpt, l);
        mlp_backward(gpt, &block, &dblock, &a);
        attention_backward(gpt, &block, &dblock, &a, output_bias(gpt, l - 1));
        if (l == 0) embed_backward(gpt, e); // the largest gradient travels while the last products are under way
        late_weights_backward(gpt, &dblock, &a);
        unit_done(gpt, unit_of_block(l));
    }
}

void gpt_begin_step(Gpt *gpt, const StepScalars *scalars) {
    Tensor record = tensor_1d(gpt->scalars, DTYPE_I64, (int64_t)(sizeof *scalars / sizeof(int64_t)));
    gpt->kernels->upload(record, scalars);
    gpt->kernels->fill_zero(gpt->status);
    if (gpt->setup.training) gpt->kernels->fill_zero(gpt->grads);
}

void gpt_begin_evaluation(Gpt *gpt) { gpt->kernels->fill_zero(gpt->status); }
