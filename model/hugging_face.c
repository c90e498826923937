// config.json of the Hugging Face classes that are settings of our network: written, and read back from anybody.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/gpt.h"
#include "runtime/json.h"

enum { GPT2 = 1, LLAMA = 2, QWEN3 = 4, OWN = 8, ROTARY = LLAMA | QWEN3 | OWN, ALL = GPT2 | ROTARY };

static void gpt2_config(JsonWriter *w, const GptShape *s);
static void llama_config(JsonWriter *w, const GptShape *s);
static void own_config(JsonWriter *w, const GptShape *s);

static const struct {
    const char *name, *class_name;
    unsigned bit;
    void (*write)(JsonWriter *, const GptShape *);
    GptShape base; // what the class itself says
} families[] = {
    {"gpt2", "GPT2LMHeadModel", GPT2, gpt2_config,
     {.norm = NORM_LAYER, .position = POSITION_LEARNED, .activation = ACTIVATION_GELU, .bias = true, .tied = true}},
    {"llama", "LlamaForCausalLM", LLAMA, llama_config,
     {.norm = NORM_RMS, .position = POSITION_ROPE, .activation = ACTIVATION_SWIGLU}},
    {"qwen3", "Qwen3ForCausalLM", QWEN3, llama_config,
     {.norm = NORM_RMS, .position = POSITION_ROPE, .activation = ACTIVATION_SWIGLU, .qk_norm = true}},
    {"thalweg", "Thalweg", OWN, own_config, {0}}, // no Hugging Face class
};
enum { FAMILIES = sizeof families / sizeof families[0] };

// ---- writing ----

static void gpt2_config(JsonWriter *w, const GptShape *s) {
    json_integer(w, "n_positions", s->context);
    json_integer(w, "n_ctx", s->context);
    json_integer(w, "n_embd", s->width);
    json_integer(w, "n_layer", s->layers);
    json_integer(w, "n_head", s->heads);
    json_integer(w, "n_inner", s->ffn_width);
    json_string(w, "activation_function", "gelu_new");
    json_number(w, "layer_norm_epsilon", s->norm_epsilon);
    for (int i = 0; i < 3; i++) // the class would drop out 0.1 when fine-tuned
        json_number(w, (const char *[]){"resid_pdrop", "embd_pdrop", "attn_pdrop"}[i], 0);
    json_bool(w, "scale_attn_weights", true);
    json_bool(w, "scale_attn_by_inverse_layer_idx", false);
    json_bool(w, "reorder_and_upcast_attn", false);
}

// JSON numbers that a strict reader takes for floats keep their point.
static void json_float(JsonWriter *w, const char *key, double value) {
    char number[TEXT_NUMBER], text[TEXT_NUMBER + 2];
    text_double(number, value);
    snprintf(text, sizeof text, "%s%s", number, strpbrk(number, ".e") ? "" : ".0");
    json_raw(w, key, text);
}

static void llama_config(JsonWriter *w, const GptShape *s) {
    json_integer(w, "hidden_size", s->width);
    json_integer(w, "num_hidden_layers", s->layers);
    json_integer(w, "num_attention_heads", s->heads);
    json_integer(w, "num_key_value_heads", s->kv_heads);
    json_integer(w, "head_dim", s->head_dim);
    json_integer(w, "intermediate_size", s->ffn_width);
    json_integer(w, "max_position_embeddings", s->context);
    json_string(w, "hidden_act", "silu");
    json_float(w, "rms_norm_eps", s->norm_epsilon);
    if (s->position == POSITION_ROPE) {
        json_float(w, "rope_theta", s->rope_theta); // read by transformers 4; the object by 5
        json_begin(w, "rope_parameters", '{');
        json_string(w, "rope_type", "default");
        json_float(w, "rope_theta", s->rope_theta);
        json_end(w, '}');
    }
    json_bool(w, "attention_bias", false);
    json_number(w, "attention_dropout", 0);
    json_bool(w, s->qk_norm ? "use_sliding_window" : "mlp_bias", false);
}

// Members under the names of our options.
static const struct {
    const char *key;
    size_t field; // of an enum in GptShape; unused for flags
    size_t flag;  // of a bool
    bool is_flag;
    int first;    // value of the first choice
} own_members[] = {
    {"norm", offsetof(GptShape, norm), 0, false, 0},
    {"position", offsetof(GptShape, position), 0, false, 0},
    {"mlp", offsetof(GptShape, activation), 0, false, ACTIVATION_GELU},
    {"bias", 0, offsetof(GptShape, bias), true, 0},
    {"qk_norm", 0, offsetof(GptShape, qk_norm), true, 0},
};
enum { OWN_MEMBERS = sizeof own_members / sizeof own_members[0] };

static void own_config(JsonWriter *w, const GptShape *s) {
    json_string(w, "note", "no Hugging Face class has this architecture: only train_gpt reads this directory");
    llama_config(w, s);
    for (int i = 0; i < OWN_MEMBERS; i++) {
        const char *place = (const char *)s, *key = own_members[i].key;
        Text word = {0};
        int value = 0;
        if (own_members[i].is_flag) {
            json_bool(w, key, *(const bool *)(place + own_members[i].flag));
            continue;
        }
        memcpy(&value, place + own_members[i].field, sizeof value);
        option_choice_name(model_option_row(key)->choices, value - own_members[i].first, &word);
        json_string(w, key, text_string(&word));
        text_close(&word);
    }
}

static const char *dtype_word(DType dtype) {
    static const char *const words[DTYPE_COUNT] = {
        [DTYPE_F32] = "float32", [DTYPE_BF16] = "bfloat16", [DTYPE_F64] = "float64", [DTYPE_F16] = "float16"};
    REQUIRE(words[dtype], "a model of %s", dtype_name(dtype));
    return words[dtype];
}

void gpt_config_json(const GptShape *shape, DType dtype, const GptTokens *tokens, Text *out) {
    const char *family = gpt_family(shape) ? gpt_family(shape) : "thalweg";
    int row = 0;
    while (strcmp(families[row].name, family) != 0) row++;
    JsonWriter w = {.out = out, .indent = 2};
    json_begin(&w, NULL, '{');
    json_begin(&w, "architectures", '[');
    json_string(&w, NULL, families[row].class_name);
    json_end(&w, ']');
    json_string(&w, "model_type", families[row].name);
    json_integer(&w, "vocab_size", shape->vocab);
    families[row].write(&w, shape);
    json_float(&w, "initializer_range", 0.02);
    json_raw(&w, "bos_token_id", tokens->bos);
    json_raw(&w, "eos_token_id", tokens->eos);
    json_bool(&w, "tie_word_embeddings", shape->tied);
    json_bool(&w, "use_cache", true);
    json_string(&w, "torch_dtype", dtype_word(dtype)); // transformers 4
    json_string(&w, "dtype", dtype_word(dtype));       // transformers 5
    json_end(&w, '}');
    text_add(out, "\n");
}

void gpt_generation_json(const GptTokens *tokens, Text *out) {
    JsonWriter w = {.out = out, .indent = 2};
    json_begin(&w, NULL, '{');
    json_raw(&w, "bos_token_id", tokens->bos);
    json_raw(&w, "eos_token_id", tokens->eos);
    json_end(&w, '}');
    text_add(out, "\n");
}

// ---- reading ----

typedef struct {
    const Json *json;
    const cJSON *root;
    unsigned family;
    GptShape *shape;
    Errors *errors;
} Reader;

__attribute__((format(printf, 3, 4))) static bool refuse(const Reader *r, const cJSON *node, const char *format, ...) {
    Text message = {0};
    va_list arguments;
    json_position(r->json, node ? node : r->root, &message);
    text_add(&message, ": ");
    va_start(arguments, format);
    text_vprintf(&message, format, arguments);
    va_end(arguments);
    errors_add(r->errors, EXIT_DATA, "%s", text_string(&message));
    text_close(&message);
    return false;
}

// A value as a word: a text as it is, others as JSON has them, objects and lists by their kind.
static void add_word(Text *out, const cJSON *node) {
    char number[TEXT_NUMBER];
    if (cJSON_IsString(node)) text_excerpt(out, node->valuestring);
    else if (cJSON_IsNumber(node)) text_add(out, text_double(number, node->valuedouble));
    else if (cJSON_IsBool(node)) text_add(out, cJSON_IsTrue(node) ? "true" : "false");
    else text_add(out, cJSON_IsNull(node) ? "null" : cJSON_IsObject(node) ? "{...}" : "[...]");
}

// Whether a member that is there is one of "a|b|c".
static bool check_word(const Reader *r, const cJSON *node, const char *key, const char *words, const char *reason) {
    Text word = {0};
    if (node) add_word(&word, node);
    bool good = !node || option_choice_find(words, text_string(&word)) >= 0;
    if (!good) refuse(r, node, "%s is %s, expected %s; %s", key, text_string(&word), words, reason);
    text_close(&word);
    return good;
}

// What would change the numbers, and is not here.
static void check_words(const Reader *r) {
    static const struct {
        unsigned families;
        const char *key, *words, *reason;
    } rows[] = {
        {ALL, "quantization_config", "null", "quantized weights are not read; save the model in float32 or bfloat16"},
        {ALL, "auto_map", "null", "the directory brings code of its own, which is not run; what it computes is not known"},
        {ALL, "is_encoder_decoder", "false|null", "only decoders are read"},
        {ALL, "add_cross_attention", "false|null", "cross attention is not here"},
        {GPT2, "activation_function", "gelu_new|gelu_pytorch_tanh", "the MLP has GPT-2's GELU, by tanh"},
        {GPT2, "scale_attn_weights", "true", "attention without its scale is not here"},
        {GPT2, "scale_attn_by_inverse_layer_idx", "false|null", "attention scaled by layer is not here"},
        {ROTARY, "hidden_act", "silu|swish", "the gated MLP has SiLU"},
        {ROTARY, "attention_bias", "false|null", "biases in attention alone are not here"},
        {LLAMA | OWN, "mlp_bias", "false|null", "biases in the MLP alone are not here"},
        {ROTARY, "use_sliding_window", "false|null", "attention in sliding windows is not here"},
        {ROTARY, "partial_rotary_factor", "1|null", "rope turns whole heads"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].families & r->family)
            check_word(r, json_member(r->root, rows[i].key), rows[i].key, rows[i].words, rows[i].reason);
    const cJSON *types = r->family & ROTARY ? json_member(r->root, "layer_types") : NULL, *type;
    cJSON_ArrayForEach(type, types)
        if (!check_word(r, type, "layer_types", "full_attention", "attention in sliding windows is not here")) break;
}

static void read_flag(const Reader *r, const char *key, bool *value) {
    const cJSON *node = json_member(r->root, key);
    if (node && !cJSON_IsBool(node)) refuse(r, node, "%s: expected true or false", key);
    if (node) *value = cJSON_IsTrue(node);
}

// Within the limits of the option that it becomes. 0: a size that follows from the others.
static void read_size(const Reader *r, const cJSON *node, const char *key, const char *option, int64_t *value) {
    const OptionRow *row = model_option_row(option);
    if (!node || (cJSON_IsNull(node) && *value == 0)) return;
    if (json_is_integer(node, value) && (double)*value >= row->minimum && (double)*value <= row->maximum) return;
    Text word = {0};
    add_word(&word, node);
    refuse(r, node, "%s is %s, expected an integer from %.0f to %.0f", key, text_string(&word), row->minimum,
           row->maximum);
    text_close(&word);
}

static void read_number(const Reader *r, const cJSON *node, const char *key, const char *option, double *value) {
    const OptionRow *row = model_option_row(option);
    if (!node) return;
    *value = cJSON_IsNumber(node) ? node->valuedouble : NAN;
    if (!(*value >= row->minimum && *value <= row->maximum))
        refuse(r, node, "%s: expected a number from %g to %g", key, row->minimum, row->maximum);
}

static void read_sizes(const Reader *r) {
    static const struct {
        unsigned families;
        const char *key, *alias, *option;
        size_t field;
        int64_t fallback; // of the class; 0: it follows from the others
    } rows[] = {
        {GPT2, "vocab_size", NULL, "vocab", offsetof(GptShape, vocab), 50257},
        {GPT2, "n_positions", "max_position_embeddings", "context", offsetof(GptShape, context), 1024},
        {GPT2, "n_embd", "hidden_size", "width", offsetof(GptShape, width), 768},
        {GPT2, "n_layer", "num_hidden_layers", "depth", offsetof(GptShape, layers), 12},
        {GPT2, "n_head", "num_attention_heads", "heads", offsetof(GptShape, heads), 12},
        {GPT2, "n_inner", NULL, "ffn_width", offsetof(GptShape, ffn_width), 0},
        {LLAMA | OWN, "vocab_size", NULL, "vocab", offsetof(GptShape, vocab), 32000},
        {QWEN3, "vocab_size", NULL, "vocab", offsetof(GptShape, vocab), 151936},
        {LLAMA | OWN, "max_position_embeddings", NULL, "context", offsetof(GptShape, context), 2048},
        {QWEN3, "max_position_embeddings", NULL, "context", offsetof(GptShape, context), 32768},
        {ROTARY, "hidden_size", NULL, "width", offsetof(GptShape, width), 4096},
        {ROTARY, "num_hidden_layers", NULL, "depth", offsetof(GptShape, layers), 32},
        {ROTARY, "num_attention_heads", NULL, "heads", offsetof(GptShape, heads), 32},
        {LLAMA | OWN, "num_key_value_heads", NULL, "kv_heads", offsetof(GptShape, kv_heads), 0},
        {QWEN3, "num_key_value_heads", NULL, "kv_heads", offsetof(GptShape, kv_heads), 32},
        {LLAMA | OWN, "head_dim", NULL, "head_dim", offsetof(GptShape, head_dim), 0},
        {QWEN3, "head_dim", NULL, "head_dim", offsetof(GptShape, head_dim), 128},
        {LLAMA | OWN, "intermediate_size", NULL, "ffn_width", offsetof(GptShape, ffn_width), 11008},
        {QWEN3, "intermediate_size", NULL, "ffn_width", offsetof(GptShape, ffn_width), 22016},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (!(rows[i].families & r->family)) continue;
        const cJSON *node = json_member(r->root, rows[i].key);
        if (!node && rows[i].alias) node = json_member(r->root, rows[i].alias);
        int64_t *value = (int64_t *)((char *)r->shape + rows[i].field);
        bool whole_group = cJSON_IsNull(node) && strcmp(rows[i].key, "num_key_value_heads") == 0;
        *value = whole_group ? 0 : rows[i].fallback;
        read_size(r, node, rows[i].key, rows[i].option, value);
    }
    bool gpt2 = r->family == GPT2;
    const char *epsilon = gpt2 ? "layer_norm_epsilon" : "rms_norm_eps";
    r->shape->norm_epsilon = gpt2 ? 1e-5 : 1e-6;
    read_number(r, json_member(r->root, epsilon), epsilon, "norm_epsilon", &r->shape->norm_epsilon);
}

// A theta that was found in one form must be that of the others.
static void read_theta(const Reader *r, const cJSON *node, bool *found) {
    double theta = r->shape->rope_theta;
    if (!node || cJSON_IsNull(node)) return;
    read_number(r, node, "rope_theta", "rope_theta", &theta);
    if (*found && theta != r->shape->rope_theta)
        refuse(r, node, "rope_theta is %g here and %g elsewhere in this file; leave the right one", theta,
               r->shape->rope_theta);
    r->shape->rope_theta = theta;
    *found = true;
}

static void read_rope_object(const Reader *r, const char *key, bool *found) {
    static const char scaled[] = "positions that are scaled are not here";
    const cJSON *object = json_member(r->root, key), *member;
    if (!object || cJSON_IsNull(object)) return;
    if (!cJSON_IsObject(object)) {
        refuse(r, object, "%s: expected an object", key);
        return;
    }
    cJSON_ArrayForEach(member, object) {
        if (!cJSON_IsObject(member)) continue;
        refuse(r, member, "%s: one for each kind of layer is not here", key);
        return;
    }
    const cJSON *type = json_member(object, "rope_type");
    check_word(r, type ? type : json_member(object, "type"), key, "default", scaled);
    const cJSON *partial = json_member(object, "partial_rotary_factor");
    check_word(r, partial, "partial_rotary_factor", "1|null", "rope turns whole heads");
    read_theta(r, json_member(object, "rope_theta"), found);
}

static void read_rope(const Reader *r) {
    bool found = false;
    r->shape->rope_theta = 10000;
    read_theta(r, json_member(r->root, "rope_theta"), &found);
    read_rope_object(r, "rope_parameters", &found);
    read_rope_object(r, "rope_scaling", &found);
}

static void read_own_members(const Reader *r) {
    for (int i = 0; i < OWN_MEMBERS; i++) {
        const char *key = own_members[i].key;
        const cJSON *node = json_member(r->root, key);
        char *place = (char *)r->shape;
        if (!node) {
            refuse(r, NULL, "%s is missing", key);
        } else if (own_members[i].is_flag) {
            read_flag(r, key, (bool *)(place + own_members[i].flag));
        } else if (check_word(r, node, key, model_option_row(key)->choices, "another program wrote this")) {
            const char *choices = model_option_row(key)->choices;
            int value = own_members[i].first + (int)option_choice_find(choices, node->valuestring);
            memcpy(place + own_members[i].field, &value, sizeof value);
        }
    }
}

// What the sizes leave open, and whether they fit each other.
static void complete(const Reader *r) {
    GptShape *s = r->shape;
    const char *heads = r->family == GPT2 ? "n_head" : "num_attention_heads";
    if (s->kv_heads == 0) s->kv_heads = s->heads;
    if (s->ffn_width == 0) s->ffn_width = 4 * s->width;
    if (s->head_dim == 0 && s->width % s->heads != 0)
        refuse(r, NULL, "%s: a width of %ld does not split into %ld heads", heads, s->width, s->heads);
    if (s->head_dim == 0) s->head_dim = s->width / s->heads;
    if (s->head_dim < 1 || s->head_dim > (int64_t)model_option_row("head_dim")->maximum)
        refuse(r, NULL, "%s: heads of %ld channels are not here, only 1 to %.0f", heads, s->head_dim,
               model_option_row("head_dim")->maximum);
    if (s->heads % s->kv_heads != 0)
        refuse(r, NULL, "num_key_value_heads: %ld heads cannot share %ld evenly", s->heads, s->kv_heads);
    if (s->position == POSITION_ROPE && s->head_dim % 2 != 0)
        refuse(r, NULL, "%s: rope turns pairs of channels, a head has %ld", heads, s->head_dim);
    s->rows = s->vocab;
    s->init = s->position == POSITION_LEARNED ? INIT_GPT2 : INIT_LLAMA;
    if (s->position == POSITION_LEARNED) s->rope_theta = 0;
}

// Architectures that are asked for, and what they have.
static const char *missing_part(const char *type) {
    static const struct {
        const char *type, *has;
    } rows[] = {{"qwen2", "biases in q, k and v alone"},      {"mistral", "attention in sliding windows"},
                {"mixtral", "a mixture of experts"},          {"qwen3_moe", "a mixture of experts"},
                {"gemma", "scaled embeddings"},               {"gemma2", "capped logits"},
                {"phi3", "fused projections of another kind"}, {"gpt_neox", "attention beside the MLP"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(type, rows[i].type) == 0) return rows[i].has;
    return NULL;
}

static bool find_family(Reader *r) {
    const cJSON *type = json_member(r->root, "model_type");
    if (!cJSON_IsString(type))
        return refuse(r, type, "there is no model_type; this is no config.json of a Hugging Face model");
    for (int i = 0; i < FAMILIES; i++) {
        if (strcmp(type->valuestring, families[i].name) != 0) continue;
        r->family = families[i].bit;
        *r->shape = families[i].base;
        return true;
    }
    Text name = {0};
    const char *has = missing_part(type->valuestring);
    text_excerpt(&name, type->valuestring);
    refuse(r, type, "model_type is %s%s%s; gpt2, llama and qwen3 are read here", text_string(&name),
           has ? ", which has " : "", has ? has : "");
    text_close(&name);
    return false;
}

bool gpt_config_read(GptShape *shape, const char *name, const char *bytes, size_t size, Errors *errors) {
    int before = errors->count;
    Json *json = json_parse(name, bytes, size, EXIT_DATA, errors);
    if (!json) return false;
    Reader reader = {.json = json, .root = json_root(json), .shape = shape, .errors = errors};
    if (find_family(&reader)) {
        if (reader.family == OWN) read_own_members(&reader);
        check_words(&reader);
        read_sizes(&reader);
        if (reader.family != GPT2) read_rope(&reader);
        read_flag(&reader, "tie_word_embeddings", &shape->tied);
        if (errors->count == before) complete(&reader);
    }
    json_close(json);
    return errors->count == before;
}
