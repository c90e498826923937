// Gpt: one decoder-only transformer, described by options: GPT-2, Llama and Qwen3 are settings of it. Forward and
// backward are lists of kernel calls. It owns weights, gradients and activations, and nothing of optimizer or data.
//
// Dims: B sequences, T tokens, N = B T, C width, L blocks, H query heads, K key/value heads, D head width,
// F hidden width of the MLP, V vocabulary rows (padded).
#pragma once

#include "comm/comm.h"
#include "kernels/kernels.h"
#include "model/model_options.h"
#include "runtime/arena.h"
#include "runtime/batch.h"
#include "runtime/named_tensor.h"
#include "runtime/param.h"

// ---- shape ----

typedef enum { INIT_GPT2, INIT_LLAMA, INIT_KINDS } InitKind; // model.init by name
typedef enum { POSITION_LEARNED, POSITION_ROPE } PositionKind; // values of model.position

typedef struct {
    int64_t layers, width, heads, kv_heads, head_dim, ffn_width;
    int64_t vocab;   // ids are below
    int64_t rows;    // of the embedding: vocab rounded up; the rest is zero for ever
    int64_t context; // positions the model knows
    NormKind norm;
    PositionKind position;
    Activation activation;
    InitKind init;
    bool bias, qk_norm, tied;
    double norm_epsilon, rope_theta;
} GptShape;

// Options over preset over defaults. `tokenizer_vocab` 0: no tokenizer is known, the preset's or 50257 then.
// Every impossible combination is named (exit 2).
bool gpt_shape(GptShape *shape, const ModelOptions *options, int64_t tokenizer_vocab, int64_t sequence_length,
               Errors *errors);

// Every parameter in memory order; items are freed with free((void *)list.items).
ParamList gpt_param_list(const GptShape *shape);

void gpt_presets_print(Text *out); // a table for help
// "gpt2", "llama" or "qwen3": the Hugging Face class of this shape; NULL where there is none.
const char *gpt_family(const GptShape *shape);
// What of a shape that has no class stands in the way, as "model.mlp=relu2, model.bias=true"; nothing where it has one.
void gpt_misfits(const GptShape *shape, Text *out);
int64_t gpt_parameter_count(const GptShape *shape); // without padding
// Floating-point operations of one training token: 6 per matrix and head element, 12 L T H D of attention
// (PaLM's convention, which counts masked scores too).
double gpt_flops_per_token(const GptShape *shape, int64_t sequence_length);
void gpt_print(const GptShape *shape, Text *out); // one line for people

// Whether model.init names weights to begin with, and no initialisation.
bool gpt_init_is_path(const ModelOptions *options);

// Options from which gpt_shape makes this shape, whose weights model.init names. Those that were given must agree, each
// is named that does not (exit 2); with rope a longer context may be given.
bool gpt_shape_adopt(ModelOptions *options, const GptShape *shape, Errors *errors);

// ---- Hugging Face's config.json ----

// The tokens that begin and end a text: JSON, a number, a list of them or null.
typedef struct {
    const char *bos, *eos;
} GptTokens;

// config.json of the Hugging Face class, or our own with model_type "thalweg" where there is none; and
// generation_config.json.
void gpt_config_json(const GptShape *shape, DType dtype, const GptTokens *tokens, Text *out);
void gpt_generation_json(const GptTokens *tokens, Text *out);

// The shape (rows: vocab) that a config.json from anywhere tells of; what is not there is as in the class. All that
// would change the numbers and is not here is refused together, with its place and what is expected (65); every size is
// in the limits of its option. `name` stands in messages.
bool gpt_config_read(GptShape *shape, const char *name, const char *bytes, size_t size, Errors *errors);

// ---- network ----

typedef struct {
    DType compute;     // weights and activations
    DType wide;        // statistics, losses, gradients of parameters
    int64_t batch;     // largest B
    int64_t length;    // largest T
    int recompute;     // 0 nothing, 1 norms and activations, 2 blocks
    bool training;     // without it there are no gradients, and blocks share their activations
    int64_t cache;     // positions whose keys and values are kept for generation; 0: none
    Comm *comm;        // that weights and gradients pass through; NULL: this process is alone
} GptSetup;

// Every parameter of one block and of the model, as views of a flat buffer; absent ones are TENSOR_NONE.
typedef struct {
#define PARAM(name, ...) Tensor name;
#include "model/gpt_params.def"
} GptTensors;

typedef struct {
#define ACT(name, ...) Tensor name;
#include "model/gpt_acts.def"
} GptActs;

// Keys and values of one block, as attention reads them: (1, S, K, D) compute, S = setup.cache.
typedef struct {
    Tensor k, v;
} GptCache;

// Called as work is queued, unit by unit (Param.unit): before the first kernel of a pass that reads a unit's weights,
// and behind the last one of backward that adds to its gradient. Either may be NULL.
typedef struct {
    void (*needed)(void *context, int unit);
    void (*done)(void *context, int unit);
    void *context;
} GptHooks;

typedef struct {
    const Kernels *kernels;
    GptShape shape;
    GptSetup setup;
    GptHooks hooks; // of the next passes

    ParamList params;
    Tensor weights; // (params.elements) compute
    Tensor grads;   // (params.elements) wide; absent without training
    Tensor status;  // (STATUS_COUNT) f64
    StepScalars *scalars; // on the device

    GptActs *acts;        // L of them; memory of a row may be shared
    GptCache *caches;     // L of them; tensors are absent where setup.cache is 0
    Tensor final_sum, final_norm, final_stats;
    Tensor branch;        // (N, C): what a half block adds to the stream
    Tensor losses;        // (N) wide: of the last forward
    Tensor logits;        // (chunk, V)
    Tensor dresidual, dnorm, dqkv, dattn, dmlp_pre, dmlp_act;
    Batch room;           // on the device, of the largest shape
    Batch batch;          // the loaded one, in that memory
    Tensor offset_room;   // (1) i32; absent where setup.cache is 0
    Tensor offset;        // that, where the loaded tokens go into the cache and see all before them; else absent

    Arena weight_arena, grad_arena, act_arena;
    void *memory[3];
} Gpt;

// Lays everything out without taking memory: arenas say how much. Then gpt_open takes it.
void gpt_plan(Gpt *gpt, const Kernels *kernels, const GptShape *shape, const GptSetup *setup);
bool gpt_open(Gpt *gpt, Errors *errors); // false, and the table of takers, when there is not enough
void gpt_close(Gpt *gpt);

// Fills a flat buffer of `values.dtype` with the published initialisation: a pure function of the seed.
void gpt_fill(const Gpt *gpt, Tensor values, uint64_t seed);

// The parameters of block `layer` (-1: only those of the model) as views of `flat`.
GptTensors gpt_tensors(const Gpt *gpt, Tensor flat, int layer);
Tensor gpt_param_tensor(const Param *param, Tensor flat); // (rows, columns), or (columns) for vectors

// Host batch to device. Shapes may be smaller than the setup's.
void gpt_load_batch(Gpt *gpt, const Batch *host);

typedef enum { GPT_EVALUATE, GPT_TRAIN } GptMode;

// Losses of the loaded batch, added to status. GPT_TRAIN also begins backward: the head's gradient is formed while
// its logits are there. Afterwards gpt_backward does the rest; gradients accumulate.
void gpt_forward(Gpt *gpt, GptMode mode);
void gpt_backward(Gpt *gpt);

// B = 1: tokens at positions `begin` and on, in the place of a batch. Their forward puts keys and values into the cache
// there, and they see what it holds before them.
void gpt_load_tokens(Gpt *gpt, const int32_t *ids, int64_t begin, int64_t count);
void gpt_forward_last(Gpt *gpt);           // of what is loaded, with the logits of the last token alone
Tensor gpt_last_logits(const Gpt *gpt);    // those: (1, vocab) compute
void gpt_begin_step(Gpt *gpt, const StepScalars *scalars); // uploads them; zeroes gradients and status
void gpt_begin_evaluation(Gpt *gpt);                       // zeroes status

// ---- files ----

// The weights with the names and shapes of the Hugging Face class (padding left out), as views of `flat`.
void gpt_export_tensors(const Gpt *gpt, Tensor flat, NamedTensors *out);
void gpt_file_tensors(const GptShape *shape, NamedTensors *out); // the same list, of absent fp32 data
