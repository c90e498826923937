// The parameter table put to use: layout, views, initialisation, counting, names in files.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/gpt.h"
#include "runtime/integers.h"
#include "runtime/memory.h"
#include "runtime/philox.h"

enum { STD_PER_MILLE = 20, POSITION_STD_PER_MILLE = 10 }; // GPT-2's 0.02 and 0.01

typedef enum { SCOPE_FIRST, SCOPE_BLOCK, SCOPE_LAST } Scope;
typedef enum { FILL_NORMAL, FILL_POSITION, FILL_RESIDUAL, FILL_ONES, FILL_ZEROS } Fill;
typedef enum { DIM_ONE, DIM_VOCAB, DIM_WIDTH, DIM_CONTEXT, DIM_QKV, DIM_HEADS, DIM_HEAD, DIM_MLP_IN, DIM_FFN } Dim;
typedef enum { IF_ALWAYS, IF_LEARNED, IF_BIAS, IF_NORM_BIAS, IF_QK_NORM, IF_UNTIED } Condition;
typedef enum { PARTS_WHOLE, PARTS_HEADS, PARTS_GATED } Parts;

typedef struct {
    const char *name;
    ParamKind kind;
    Scope scope;
    Fill fill;
    Dim rows, columns;
    Condition condition;
    Parts parts;
    const char *gpt2_name, *llama_name;
    size_t field; // in GptTensors
} Row;

static const Row rows[] = {
#define PARAM(name, kind, scope, fill, rows, columns, condition, parts, gpt2, llama)                             \
    {#name, PARAM_##kind, SCOPE_##scope, FILL_##fill, DIM_##rows, DIM_##columns, IF_##condition, PARTS_##parts, \
     gpt2, llama, offsetof(GptTensors, name)},
#include "model/gpt_params.def"
};
enum { ROW_COUNT = sizeof rows / sizeof rows[0] };

static int64_t dim(const GptShape *s, Dim which) {
    switch (which) {
        case DIM_ONE: return 1;
        case DIM_VOCAB: return s->rows;
        case DIM_WIDTH: return s->width;
        case DIM_CONTEXT: return s->context;
        case DIM_QKV: return (s->heads + 2 * s->kv_heads) * s->head_dim;
        case DIM_HEADS: return s->heads * s->head_dim;
        case DIM_HEAD: return s->head_dim;
        case DIM_MLP_IN: return activation_inputs(s->activation) * s->ffn_width;
        case DIM_FFN: return s->ffn_width;
    }
    REQUIRE(false, "dimension %d", (int)which);
    return 0;
}

static bool present(const GptShape *s, Condition condition) {
    switch (condition) {
        case IF_ALWAYS: return true;
        case IF_LEARNED: return s->position == POSITION_LEARNED;
        case IF_BIAS: return s->bias;
        case IF_NORM_BIAS: return s->bias && s->norm == NORM_LAYER;
        case IF_QK_NORM: return s->qk_norm;
        case IF_UNTIED: return !s->tied;
    }
    return false;
}

// The ranges of rows (of a matrix) or of elements (of a bias) that are tensors of their own.
static void set_parts(Param *param, const GptShape *s, Parts parts, int64_t whole) {
    int64_t q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim, f = s->ffn_width;
    bool gated = activation_inputs(s->activation) == 2;
    if (parts == PARTS_HEADS) {
        param->part_count = 3;
        param->part[0] = (ParamPart){"q", 0, q};
        param->part[1] = (ParamPart){"k", q, kv};
        param->part[2] = (ParamPart){"v", q + kv, kv};
    } else if (parts == PARTS_GATED && gated) {
        param->part_count = 2;
        param->part[0] = (ParamPart){"gate", 0, f};
        param->part[1] = (ParamPart){"up", f, f};
    } else {
        param->part_count = 1;
        param->part[0] = (ParamPart){parts == PARTS_GATED ? "up" : "", 0, whole};
    }
}

static void add(ParamList *list, Param *items, const GptShape *s, int index, int layer) {
    const Row *row = &rows[index];
    Param *p = &items[list->count++];
    *p = (Param){.kind = row->kind, .row = index, .layer = layer, .offset = list->elements};
    p->unit = layer >= 0 ? layer + 1 : row->scope == SCOPE_FIRST ? 0 : (int)s->layers + 1;
    p->rows = dim(s, row->rows);
    p->columns = dim(s, row->columns);
    p->real_rows = row->rows == DIM_VOCAB ? s->vocab : p->rows;
    set_parts(p, s, row->parts, row->kind == PARAM_VECTOR ? p->columns : p->real_rows);
    if (layer < 0)
        snprintf(p->name, sizeof p->name, "%s", row->name);
    else
        snprintf(p->name, sizeof p->name, "h.%d.%s", layer, row->name);
    int64_t count = p->rows * p->columns;
    list->elements += round_up(count, PARAM_ALIGNMENT);
}

static void add_scope(ParamList *list, Param *items, const GptShape *s, Scope scope, int layer) {
    for (int i = 0; i < ROW_COUNT; i++)
        if (rows[i].scope == scope && present(s, rows[i].condition)) add(list, items, s, i, layer);
}

// Block after block, so that a block's parameters are one range.
ParamList gpt_param_list(const GptShape *s) {
    Param *items = memory_take(ROW_COUNT * (s->layers + 2), sizeof *items, "a list of parameters");
    ParamList list = {.items = items};
    add_scope(&list, items, s, SCOPE_FIRST, -1);
    for (int l = 0; l < s->layers; l++) add_scope(&list, items, s, SCOPE_BLOCK, l);
    add_scope(&list, items, s, SCOPE_LAST, -1);
    return list;
}

int64_t gpt_parameter_count(const GptShape *s) {
    ParamList list = gpt_param_list(s);
    int64_t count = 0;
    for (int64_t i = 0; i < list.count; i++) count += list.items[i].real_rows * list.items[i].columns;
    free((void *)list.items);
    return count;
}

Tensor gpt_param_tensor(const Param *p, Tensor flat) {
    Tensor range = tensor_slice(flat, 0, p->offset, p->rows * p->columns);
    return p->kind == PARAM_VECTOR ? range : tensor_reshape(range, p->rows, p->columns, 0, 0);
}

static const Row *row_of(const Param *p) { return &rows[p->row]; }

GptTensors gpt_tensors(const Gpt *gpt, Tensor flat, int layer) {
    GptTensors tensors = {0};
    for (int64_t i = 0; i < gpt->params.count; i++) {
        const Param *p = &gpt->params.items[i];
        if (p->layer != layer) continue;
        Tensor *field = (Tensor *)((char *)&tensors + row_of(p)->field);
        *field = gpt_param_tensor(p, flat);
    }
    return tensors;
}

// ---- initialisation ----

// GPT-2: Radford et al. 2019, residual projections scaled by 1 / sqrt(2 L), positions with half the deviation.
// Llama: the released configuration's initializer_range for every matrix.
static double deviation(const GptShape *s, Fill fill) {
    double normal = STD_PER_MILLE / 1000.0;
    if (s->init == INIT_GPT2 && fill == FILL_RESIDUAL) return normal / sqrt(2.0 * (double)s->layers);
    if (s->init == INIT_GPT2 && fill == FILL_POSITION) return POSITION_STD_PER_MILLE / 1000.0;
    return normal;
}

static void upload_floats(const Gpt *gpt, Tensor out, const float *values, void *converted) {
    dtype_convert(converted, out.dtype, values, DTYPE_F32, tensor_count(out));
    gpt->kernels->upload(out, converted);
}

static void fill_param(const Gpt *gpt, Tensor flat, int64_t index, uint64_t seed) {
    enum { PIECE = 1 << 20 };
    const Param *p = &gpt->params.items[index];
    Fill fill = row_of(p)->fill;
    Tensor all = tensor_slice(flat, 0, p->offset, p->rows * p->columns);
    gpt->kernels->fill_zero(all);
    if (fill == FILL_ZEROS) return;
    int64_t count = p->real_rows * p->columns, piece = count < PIECE ? count : PIECE;
    float *values = memory_grow(NULL, piece, sizeof *values, p->name);
    void *converted = memory_grow(NULL, piece, dtype_bytes(flat.dtype), p->name);
    for (int64_t begin = 0; begin < count; begin += piece) {
        int64_t size = count - begin < piece ? count - begin : piece;
        if (fill == FILL_ONES)
            for (int64_t i = 0; i < size; i++) values[i] = 1;
        else
            philox_normal(values, size, deviation(&gpt->shape, fill), seed, STREAM_INIT, (uint32_t)index,
                          (uint64_t)begin);
        upload_floats(gpt, tensor_slice(all, 0, begin, size), values, converted);
    }
    free(values);
    free(converted);
}

void gpt_fill(const Gpt *gpt, Tensor values, uint64_t seed) {
    for (int64_t i = 0; i < gpt->params.count; i++) fill_param(gpt, values, i, seed);
}

// ---- names in files ----

static bool is_gpt2(const GptShape *shape) {
    const char *family = gpt_family(shape);
    return family && strcmp(family, "gpt2") == 0;
}

static void export_name(Text *out, bool gpt2, const Param *p, const char *suffix) {
    const Row *row = row_of(p);
    const char *name = gpt2 ? row->gpt2_name : row->llama_name;
    bool bare = strncmp(name, "lm_head", 7) == 0; // beside the transformer, not in it
    text_clear(out);
    if (!bare) text_add(out, gpt2 ? "transformer." : "model.");
    if (p->layer >= 0) text_printf(out, "%s.%d.", gpt2 ? "h" : "layers", p->layer);
    const char *hole = strstr(name, "%s");
    if (hole)
        text_printf(out, "%.*s%s%s", (int)(hole - name), name, suffix, hole + 2);
    else
        text_add(out, name);
}

// GPT-2's class wants every bias, so a model without biases ships zeros.
static void export_missing_biases(const GptShape *shape, DType dtype, NamedTensors *out) {
    for (int i = 0; i < ROW_COUNT; i++) {
        const Row *row = &rows[i];
        bool bias = row->condition == IF_BIAS || row->condition == IF_NORM_BIAS;
        if (!bias || present(shape, row->condition)) continue;
        Tensor zeros = tensor_1d(NULL, dtype, dim(shape, row->columns));
        if (row->scope != SCOPE_BLOCK) named_tensors_add(out, zeros, "transformer.%s", row->gpt2_name)->zero = true;
        for (int64_t l = 0; row->scope == SCOPE_BLOCK && l < shape->layers; l++)
            named_tensors_add(out, zeros, "transformer.h.%ld.%s", l, row->gpt2_name)->zero = true;
    }
}

static void export_all(const GptShape *shape, const ParamList *params, Tensor flat, NamedTensors *out) {
    bool gpt2 = is_gpt2(shape);
    Text name = {0};
    for (int64_t i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        Tensor whole = gpt_param_tensor(p, flat);
        bool split = !gpt2; // GPT-2's class keeps q, k and v in one tensor
        for (int part = 0; part < (split ? p->part_count : 1); part++) {
            int64_t begin = split ? p->part[part].row : 0;
            int64_t all = p->kind == PARAM_VECTOR ? p->columns : p->real_rows;
            export_name(&name, gpt2, p, p->part[part].suffix);
            Tensor tensor = tensor_slice(whole, 0, begin, split ? p->part[part].rows : all);
            named_tensors_add(out, tensor, "%s", text_string(&name))->transposed = gpt2 && p->kind == PARAM_MATRIX;
        }
    }
    if (gpt2) export_missing_biases(shape, flat.dtype, out);
    text_close(&name);
}

void gpt_export_tensors(const Gpt *gpt, Tensor flat, NamedTensors *out) {
    export_all(&gpt->shape, &gpt->params, flat, out);
}

void gpt_file_tensors(const GptShape *shape, NamedTensors *out) {
    ParamList params = gpt_param_list(shape);
    export_all(shape, &params, tensor_1d(NULL, DTYPE_F32, params.elements), out);
    free((void *)params.items);
}
