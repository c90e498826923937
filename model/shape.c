// What a model is made of: presets, defaults, and everything that can be said about a shape without any memory.
#include <math.h>
#include <string.h>

#include "model/gpt.h"
#include "runtime/integers.h"

enum { DEFAULT_VOCAB = 50257, DEFAULT_HEAD = 64, DEFAULT_THETA = 10000 };

// Published shapes. A 0 is filled in by the defaults of gpt_shape.
static const struct {
    const char *name;
    int64_t layers, width, heads, kv_heads, head_dim, ffn_width, context;
    NormKind norm;
    PositionKind position;
    Activation activation;
    bool bias, qk_norm;
    const char *help;
} presets[] = {
    {"gpt2-124m", 12, 768, 12, 0, 0, 0, 1024, NORM_LAYER, POSITION_LEARNED, ACTIVATION_GELU, true, false, "GPT-2"},
    {"gpt2-350m", 24, 1024, 16, 0, 0, 0, 1024, NORM_LAYER, POSITION_LEARNED, ACTIVATION_GELU, true, false, "GPT-2 medium"},
    {"gpt2-774m", 36, 1280, 20, 0, 0, 0, 1024, NORM_LAYER, POSITION_LEARNED, ACTIVATION_GELU, true, false, "GPT-2 large"},
    {"gpt2-1558m", 48, 1600, 25, 0, 0, 0, 1024, NORM_LAYER, POSITION_LEARNED, ACTIVATION_GELU, true, false, "GPT-2 XL"},
    {"llama-124m", 12, 768, 12, 0, 0, 2048, 0, NORM_RMS, POSITION_ROPE, ACTIVATION_SWIGLU, false, false, "Llama style"},
    {"llama-720m", 12, 2048, 16, 0, 0, 5632, 0, NORM_RMS, POSITION_ROPE, ACTIVATION_SWIGLU, false, false, "Llama style"},
    {"llama-1.3b", 24, 2048, 32, 0, 0, 5632, 0, NORM_RMS, POSITION_ROPE, ACTIVATION_SWIGLU, false, false, "Llama style"},
    {"qwen3-150m", 12, 768, 12, 4, 128, 2560, 0, NORM_RMS, POSITION_ROPE, ACTIVATION_SWIGLU, false, true,
     "Qwen3 style: QK-norm, grouped heads"},
};
enum { PRESET_COUNT = sizeof presets / sizeof presets[0] };

enum { MLP_FIRST = ACTIVATION_GELU }; // model.mlp names the activations in their order, but for none

static const char *const init_names[INIT_KINDS] = {[INIT_GPT2] = "gpt2", [INIT_LLAMA] = "llama"};

bool gpt_init_is_path(const ModelOptions *options) {
    bool known = strcmp(options->init, "auto") == 0;
    for (int i = 0; i < INIT_KINDS; i++) known = known || strcmp(options->init, init_names[i]) == 0;
    return !known;
}

static int64_t given(int64_t option, int64_t fallback) { return option == OPTION_AUTO ? fallback : option; }
static int64_t positive(int64_t value, int64_t fallback) { return value > 0 ? value : fallback; }

static int preset_find(const char *name, Errors *errors) {
    const char *names[PRESET_COUNT];
    for (int i = 0; i < PRESET_COUNT; i++) {
        names[i] = presets[i].name;
        if (strcmp(name, names[i]) == 0) return i;
    }
    const char *nearest = text_nearest(name, names, PRESET_COUNT);
    errors_add(errors, EXIT_USAGE, "model.preset: there is no \"%s\"%s%s%s; `train_gpt help model` lists them", name,
               nearest ? "; did you mean \"" : "", nearest ? nearest : "", nearest ? "\"?" : "");
    return -1;
}

static void preset_copy(GptShape *shape, int preset) {
    *shape = (GptShape){
        .layers = presets[preset].layers,
        .width = presets[preset].width,
        .heads = presets[preset].heads,
        .kv_heads = presets[preset].kv_heads,
        .head_dim = presets[preset].head_dim,
        .ffn_width = presets[preset].ffn_width,
        .context = presets[preset].context,
        .norm = presets[preset].norm,
        .position = presets[preset].position,
        .activation = presets[preset].activation,
        .bias = presets[preset].bias,
        .qk_norm = presets[preset].qk_norm,
    };
}

// The preset's number where it divides the heads, else as many heads to each as there, else one to each.
static int64_t default_kv_heads(const GptShape *base, int64_t heads) {
    if (base->kv_heads == 0) return heads;
    if (heads % base->kv_heads == 0) return base->kv_heads;
    int64_t group = base->heads / base->kv_heads;
    return heads % group == 0 ? heads / group : heads;
}

// Options win over what stands in `shape`; what both leave open follows from the rest.
static void apply_options(GptShape *shape, const ModelOptions *o, int64_t sequence_length) {
    GptShape base = *shape;
    shape->layers = given(o->depth, positive(base.layers, 12));
    shape->width = given(o->width, positive(base.width, 768));
    int64_t head_dim = given(o->head_dim, base.head_dim);
    int64_t default_heads = shape->width / positive(head_dim, DEFAULT_HEAD);
    shape->heads = given(o->heads, o->width == OPTION_AUTO ? positive(base.heads, default_heads) : default_heads);
    shape->heads = positive(shape->heads, 1);
    shape->kv_heads = given(o->kv_heads, default_kv_heads(&base, shape->heads));
    shape->head_dim = positive(head_dim, shape->width / shape->heads);
    shape->activation = o->mlp == OPTION_AUTO ? base.activation : (Activation)(MLP_FIRST + o->mlp);
    bool gated = activation_inputs(shape->activation) == 2;
    int64_t ffn = gated ? round_up((8 * shape->width + 2) / 3, 64) : 4 * shape->width;
    shape->ffn_width = given(o->ffn_width, o->width == OPTION_AUTO ? positive(base.ffn_width, ffn) : ffn);
    shape->norm = (NormKind)given(o->norm, base.norm);
    shape->norm_epsilon = isnan(o->norm_epsilon) ? (shape->norm == NORM_RMS ? 1e-6 : 1e-5) : o->norm_epsilon;
    shape->position = (PositionKind)given(o->position, base.position);
    shape->rope_theta = shape->position != POSITION_ROPE ? 0 : isnan(o->rope_theta) ? DEFAULT_THETA : o->rope_theta;
    shape->context = given(o->context, positive(base.context, sequence_length));
    shape->bias = given(o->bias, base.bias);
    shape->qk_norm = given(o->qk_norm, base.qk_norm);
    shape->tied = given(o->tied, true);
    shape->init = shape->position == POSITION_LEARNED ? INIT_GPT2 : INIT_LLAMA;
    for (int i = 0; i < INIT_KINDS; i++)
        if (strcmp(o->init, init_names[i]) == 0) shape->init = (InitKind)i;
}

// `derived_head_dim`: nobody named it, so that the heads share the width.
static bool check(const GptShape *s, bool derived_head_dim, int64_t sequence_length, Errors *errors) {
    int before = errors->count;
    if (s->heads % s->kv_heads != 0)
        errors_add(errors, EXIT_USAGE, "model.kv_heads: %ld query heads cannot share %ld key/value heads evenly",
                   s->heads, s->kv_heads);
    if (s->head_dim % 2 != 0 && s->position == POSITION_ROPE)
        errors_add(errors, EXIT_USAGE, "model.head_dim: rope turns pairs of channels, so %ld must be even",
                   s->head_dim);
    if (derived_head_dim && s->width % s->heads != 0)
        errors_add(errors, EXIT_USAGE,
                   "model.heads: a width of %ld does not split into %ld heads; choose a divisor or set model.head_dim",
                   s->width, s->heads);
    if (s->head_dim > 512)
        errors_add(errors, EXIT_USAGE, "model.head_dim: %ld is more than 512; use more heads", s->head_dim);
    if (s->context < sequence_length)
        errors_add(errors, EXIT_USAGE,
                   "train.sequence_length: %ld tokens do not fit model.context %ld; shorten the one or raise the other",
                   sequence_length, s->context);
    return errors->count == before;
}

bool gpt_shape(GptShape *shape, const ModelOptions *options, int64_t tokenizer_vocab, int64_t sequence_length,
               Errors *errors) {
    *shape = (GptShape){.norm = NORM_RMS, .position = POSITION_ROPE, .activation = ACTIVATION_SWIGLU};
    if (*options->preset) {
        int preset = preset_find(options->preset, errors);
        if (preset < 0) return false;
        preset_copy(shape, preset);
    }
    bool derived_head_dim = options->head_dim == OPTION_AUTO && shape->head_dim == 0;
    apply_options(shape, options, sequence_length);
    shape->vocab = given(options->vocab, positive(tokenizer_vocab, DEFAULT_VOCAB));
    shape->rows = round_up(shape->vocab, options->vocab_multiple);
    if (tokenizer_vocab > shape->vocab)
        errors_add(errors, EXIT_USAGE, "model.vocab: %ld is less than the tokenizer's %ld; leave it out, or, where "
                   "weights say it, prepare the data with their tokenizer", shape->vocab, tokenizer_vocab);
    return check(shape, derived_head_dim, sequence_length, errors) && shape->vocab >= tokenizer_vocab;
}

// ---- a shape as options ----

static void adopt(ModelOptions *o, const char *name, double there, Errors *errors) {
    const OptionRow *row = model_option_row(name);
    void *place = (char *)o + row->offset;
    bool open = option_is_auto(row, o);
    Text was = {0}, is = {0};
    option_print(row, o, &was);
    if (row->type == OPTION_FLOAT) *(double *)place = there;
    else *(int64_t *)place = (int64_t)there;
    option_print(row, o, &is);
    if (!open && strcmp(text_string(&was), text_string(&is)) != 0)
        errors_add(errors, EXIT_USAGE, "model.%s is %s, the weights of model.init %s have %s; leave it out", name,
                   text_string(&was), o->init, text_string(&is));
    text_close(&was);
    text_close(&is);
}

bool gpt_shape_adopt(ModelOptions *o, const GptShape *s, Errors *errors) {
    const struct {
        const char *name;
        double there;
    } rows[] = {{"depth", (double)s->layers},      {"width", (double)s->width},
                {"heads", (double)s->heads},       {"kv_heads", (double)s->kv_heads},
                {"head_dim", (double)s->head_dim}, {"ffn_width", (double)s->ffn_width},
                {"norm", s->norm},                 {"norm_epsilon", s->norm_epsilon},
                {"position", s->position},         {"mlp", (double)s->activation - MLP_FIRST},
                {"bias", s->bias},                 {"qk_norm", s->qk_norm},
                {"tied", s->tied},                 {"vocab", (double)s->vocab}};
    int before = errors->count;
    bool rope = s->position == POSITION_ROPE;
    if (*o->preset)
        errors_add(errors, EXIT_USAGE, "model.preset: the shape comes from model.init %s; leave it out", o->init);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) adopt(o, rows[i].name, rows[i].there, errors);
    if (rope) adopt(o, "rope_theta", s->rope_theta, errors);
    bool longer = rope && o->context >= s->context; // no weight depends on it
    if (!longer) adopt(o, "context", (double)s->context, errors);
    return errors->count == before;
}

void gpt_presets_print(Text *out) {
    text_add(out, "  model.preset   blocks  width  heads  kv  head   ffn  context\n");
    for (int i = 0; i < PRESET_COUNT; i++)
        text_printf(out, "  %-13s %7ld %6ld %6ld %3ld %5ld %5ld %8ld  %s\n", presets[i].name, presets[i].layers,
                    presets[i].width, presets[i].heads, positive(presets[i].kv_heads, presets[i].heads),
                    positive(presets[i].head_dim, presets[i].width / presets[i].heads),
                    positive(presets[i].ffn_width, 4 * presets[i].width), presets[i].context, presets[i].help);
    text_add(out, "  (context 0: train.sequence_length. All tied.)\n");
}

// Learned positions make it GPT-2, rope makes it Llama or Qwen3; the rest must be as there.
void gpt_misfits(const GptShape *s, Text *out) {
    bool rope = s->position == POSITION_ROPE;
    const struct {
        bool misfit;
        const char *name;
    } rows[] = {
        {!rope && s->norm != NORM_LAYER, "model.norm=rmsnorm"},
        {rope && s->norm != NORM_RMS, "model.norm=layernorm"},
        {s->activation == ACTIVATION_RELU2, "model.mlp=relu2"},
        {!rope && s->activation == ACTIVATION_SWIGLU, "model.mlp=swiglu"},
        {rope && s->activation == ACTIVATION_GELU, "model.mlp=gelu"},
        {rope && s->bias, "model.bias=true"},
        {!rope && s->qk_norm, "model.qk_norm=true"},
        {!rope && s->kv_heads != s->heads, "model.kv_heads"},
        {!rope && s->head_dim * s->heads != s->width, "model.head_dim"},
    };
    size_t before = out->size;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].misfit) text_printf(out, "%s%s", out->size > before ? ", " : "", rows[i].name);
    if (out->size > before) text_printf(out, " with model.position=%s", rope ? "rope" : "learned");
}

const char *gpt_family(const GptShape *s) {
    Text misfits = {0};
    gpt_misfits(s, &misfits);
    bool fits = misfits.size == 0;
    text_close(&misfits);
    return !fits ? NULL : s->position == POSITION_LEARNED ? "gpt2" : s->qk_norm ? "qwen3" : "llama";
}

static int64_t matrix_elements(const GptShape *s) { // of one block
    int64_t attention = s->width * s->head_dim * (2 * s->heads + 2 * s->kv_heads);
    return attention + s->width * s->ffn_width * (activation_inputs(s->activation) + 1);
}

double gpt_flops_per_token(const GptShape *s, int64_t sequence_length) {
    double matrices = (double)(s->layers * matrix_elements(s) + s->vocab * s->width);
    return 6 * matrices + 12 * (double)(s->layers * sequence_length * s->heads * s->head_dim);
}

void gpt_print(const GptShape *s, Text *out) {
    static const char *const norms[] = {"layernorm", "rmsnorm"};
    static const char *const positions[] = {"learned", "rope"};
    static const char *const activations[] = {"none", "gelu", "swiglu", "relu2"};
    char number[TEXT_NUMBER];
    text_printf(out, "%s parameters: %ld blocks x %ld, %ld heads of %ld",
                text_count(number, (double)gpt_parameter_count(s)), s->layers, s->width, s->heads, s->head_dim);
    if (s->kv_heads != s->heads) text_printf(out, " (%ld kv)", s->kv_heads);
    text_printf(out, ", ffn %ld, %s, %s, %s%s%s%s, vocabulary %ld", s->ffn_width, norms[s->norm],
                positions[s->position], activations[s->activation], s->bias ? ", bias" : "",
                s->qk_norm ? ", qk-norm" : "", s->tied ? ", tied" : "", s->vocab);
}
