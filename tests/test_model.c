// The network apart from its numbers: shapes, names, layout, initialisation.
#include <math.h>

#include "model/gpt.h"
#include "runtime/json.h"
#include "tests/test.h"

static ModelOptions default_options(void) {
    ModelOptions options = {
        .preset = "", .init = "auto", .rope_theta = NAN, .vocab_multiple = 128, .norm_epsilon = NAN};
    for (int i = 0; i < model_option_rows.count; i++) {
        const OptionRow *row = &model_option_rows.rows[i];
        bool integer = row->type == OPTION_INT || row->type == OPTION_BOOL || row->type == OPTION_CHOICE;
        if (integer && strcmp(row->fallback, "auto") == 0) *(int64_t *)((char *)&options + row->offset) = OPTION_AUTO;
    }
    return options;
}

static GptShape shape_of(ModelOptions options, int64_t vocab, int64_t length) {
    Errors errors = {0};
    GptShape shape;
    if (!gpt_shape(&shape, &options, vocab, length, &errors)) fail_msg("%s", text_string(&errors.text));
    return shape;
}

static GptShape tiny_shape(void) {
    ModelOptions options = default_options();
    options.depth = 2, options.width = 16, options.heads = 2, options.vocab_multiple = 8;
    return shape_of(options, 13, 12);
}

TEST(presets_have_their_published_sizes) {
    static const struct {
        const char *preset;
        int64_t parameters;
    } rows[] = {
        {"gpt2-124m", 124439808}, {"gpt2-350m", 354823168}, {"gpt2-774m", 774030080}, {"gpt2-1558m", 1557611200}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ModelOptions options = default_options();
        options.preset = rows[i].preset;
        GptShape shape = shape_of(options, 50257, 1024);
        assert_int_equal(gpt_parameter_count(&shape), rows[i].parameters);
        assert_int_equal(shape.rows, 50304);
        assert_string_equal(gpt_family(&shape), "gpt2");
    }
}

TEST(presets_have_their_published_shapes) {
    static const struct {
        const char *preset;
        int64_t layers, width, heads, kv_heads, head_dim, ffn_width;
        NormKind norm;
        PositionKind position;
        Activation activation;
        bool bias, qk_norm;
    } rows[] = {
        {"gpt2-124m", 12, 768, 12, 12, 64, 3072, NORM_LAYER, POSITION_LEARNED, ACTIVATION_GELU, true, false},
        {"gpt2-350m", 24, 1024, 16, 16, 64, 4096, NORM_LAYER, POSITION_LEARNED, ACTIVATION_GELU, true, false},
        {"gpt2-774m", 36, 1280, 20, 20, 64, 5120, NORM_LAYER, POSITION_LEARNED, ACTIVATION_GELU, true, false},
        {"gpt2-1558m", 48, 1600, 25, 25, 64, 6400, NORM_LAYER, POSITION_LEARNED, ACTIVATION_GELU, true, false},
        {"llama-124m", 12, 768, 12, 12, 64, 2048, NORM_RMS, POSITION_ROPE, ACTIVATION_SWIGLU, false, false},
        {"llama-720m", 12, 2048, 16, 16, 128, 5632, NORM_RMS, POSITION_ROPE, ACTIVATION_SWIGLU, false, false},
        {"llama-1.3b", 24, 2048, 32, 32, 64, 5632, NORM_RMS, POSITION_ROPE, ACTIVATION_SWIGLU, false, false},
        {"qwen3-150m", 12, 768, 12, 4, 128, 2560, NORM_RMS, POSITION_ROPE, ACTIVATION_SWIGLU, false, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ModelOptions options = default_options();
        options.preset = rows[i].preset;
        GptShape shape = shape_of(options, 0, 1024);
        const int64_t got[] = {shape.layers,   shape.width, shape.heads,    shape.kv_heads,   shape.head_dim,
                               shape.ffn_width, shape.norm,  shape.position, shape.activation, shape.bias,
                               shape.qk_norm,  shape.tied,  shape.context,  shape.vocab};
        const int64_t expected[] = {rows[i].layers,    rows[i].width, rows[i].heads,    rows[i].kv_heads,
                                    rows[i].head_dim,  rows[i].ffn_width, rows[i].norm, rows[i].position,
                                    rows[i].activation, rows[i].bias, rows[i].qk_norm,  true, 1024, 50257};
        for (size_t j = 0; j < sizeof got / sizeof got[0]; j++)
            if (got[j] != expected[j])
                fail_msg("%s: column %zu is %ld, not %ld", rows[i].preset, j, (long)got[j], (long)expected[j]);
    }
}

TEST(heads_follow_the_preset_as_far_as_they_divide) {
    static const struct {
        const char *preset;
        int64_t width, heads, kv_heads, head_dim;             // given
        int64_t out_heads, out_kv_heads, out_head_dim;
    } rows[] = {
        {"qwen3-150m", OPTION_AUTO, 8, OPTION_AUTO, OPTION_AUTO, 8, 4, 128},
        {"qwen3-150m", 1152, OPTION_AUTO, OPTION_AUTO, OPTION_AUTO, 9, 3, 128}, // three to each, as in the preset
        {"qwen3-150m", 256, OPTION_AUTO, OPTION_AUTO, OPTION_AUTO, 2, 2, 128},
        {"qwen3-150m", OPTION_AUTO, 8, 2, OPTION_AUTO, 8, 2, 128},
        {"llama-124m", OPTION_AUTO, 6, OPTION_AUTO, OPTION_AUTO, 6, 6, 128},
        {"", 768, 10, OPTION_AUTO, 64, 10, 10, 64}, // heads wider or narrower than the stream are allowed by name
        {"", 768, 10, OPTION_AUTO, 76, 10, 10, 76},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ModelOptions options = default_options();
        options.preset = rows[i].preset, options.width = rows[i].width, options.heads = rows[i].heads;
        options.kv_heads = rows[i].kv_heads, options.head_dim = rows[i].head_dim;
        GptShape shape = shape_of(options, 300, 64);
        assert_int_equal(shape.heads, rows[i].out_heads);
        assert_int_equal(shape.kv_heads, rows[i].out_kv_heads);
        assert_int_equal(shape.head_dim, rows[i].out_head_dim);
    }
}

TEST(options_override_presets) {
    ModelOptions options = default_options();
    options.preset = "llama-124m";
    options.width = 512;
    GptShape shape = shape_of(options, 300, 64);
    assert_int_equal(shape.heads, 8); // what the preset says belongs to its own width
    assert_int_equal(shape.ffn_width, 1408);
    assert_int_equal(shape.vocab, 300);
    assert_int_equal(shape.rows, 384);
    assert_int_equal(shape.context, 64);
    assert_string_equal(gpt_family(&shape), "llama");
    options.qk_norm = 1;
    shape = shape_of(options, 300, 64);
    assert_string_equal(gpt_family(&shape), "qwen3");
    options.mlp = 2;
    shape = shape_of(options, 300, 64);
    assert_null(gpt_family(&shape));
}

TEST(impossible_shapes_are_named) {
    static const struct {
        int64_t heads, kv_heads, head_dim, context;
        const char *named;
    } rows[] = {{6, 4, 8, 64, "model.kv_heads"},
                {2, 2, 7, 64, "model.head_dim"},
                {5, 5, OPTION_AUTO, 64, "model.heads"},
                {2, 2, 8, 32, "train.sequence_length"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ModelOptions options = default_options();
        options.width = 32, options.heads = rows[i].heads, options.kv_heads = rows[i].kv_heads;
        options.head_dim = rows[i].head_dim, options.context = rows[i].context;
        GptShape shape;
        Errors errors = {0};
        assert_false(gpt_shape(&shape, &options, 0, 64, &errors));
        assert_int_equal(errors.exit_code, EXIT_USAGE);
        assert_non_null(strstr(text_string(&errors.text), rows[i].named));
        errors_close(&errors);
    }
}

TEST(unknown_presets_get_a_suggestion) {
    ModelOptions options = default_options();
    options.preset = "gpt2-124";
    GptShape shape;
    Errors errors = {0};
    assert_false(gpt_shape(&shape, &options, 0, 64, &errors));
    assert_non_null(strstr(text_string(&errors.text), "did you mean \"gpt2-124m\""));
    errors_close(&errors);
}

TEST(layout_is_aligned_and_block_after_block) {
    GptShape shape = tiny_shape();
    ParamList list = gpt_param_list(&shape);
    int64_t end = 0;
    int last_layer = -1;
    for (int64_t i = 0; i < list.count; i++) {
        const Param *p = &list.items[i];
        assert_int_equal(p->offset % PARAM_ALIGNMENT, 0);
        assert_true(p->offset >= end);
        end = p->offset + p->rows * p->columns;
        if (p->layer >= 0) {
            assert_true(p->layer >= last_layer);
            last_layer = p->layer;
        }
    }
    assert_true(list.elements >= end && list.elements - end < PARAM_ALIGNMENT);
    free((void *)list.items);
}

static void open_tiny(Gpt *gpt, const GptShape *shape) {
    Errors errors = {0};
    GptSetup setup = {.compute = DTYPE_F32, .wide = DTYPE_F32, .batch = 2, .length = 12, .training = true};
    assert_true(cpu_kernels.open(1, 0, &errors));
    gpt_plan(gpt, &cpu_kernels, shape, &setup);
    assert_true(gpt_open(gpt, &errors));
    gpt_fill(gpt, gpt->weights, 1);
}

TEST(padding_rows_are_zero_and_the_rest_is_not) {
    GptShape shape = tiny_shape();
    Gpt gpt;
    open_tiny(&gpt, &shape);
    Tensor wte = gpt_tensors(&gpt, gpt.weights, -1).wte;
    const float *values = wte.data;
    for (int64_t i = 0; i < shape.rows * shape.width; i++)
        assert_true((values[i] == 0) == (i >= shape.vocab * shape.width));
    gpt_close(&gpt);
}

// ---- initialisation ----

// Radford et al. 2019, and the initializer_range of Llama's released configurations.
typedef struct {
    const char *preset;
    double normal, position, residual; // deviations
} Published;

static double published_deviation(const Published *published, const char *name) {
    if (strcmp(name, "wpe") == 0) return published->position;
    return strstr(name, "attn_out_w") || strstr(name, "mlp_out_w") ? published->residual : published->normal;
}

static void check_normal(const char *name, const float *values, int64_t count, double deviation) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < count; i++) sum += values[i];
    for (int64_t i = 0; i < count; i++) squares += pow(values[i] - sum / (double)count, 2);
    double got = sqrt(squares / (double)count);
    if (fabs(got - deviation) > 0.03 * deviation) fail_msg("%s: deviation %g, not %g", name, got, deviation);
    double wrong = fabs(sum) / sqrt((double)count); // of size `deviation` by chance
    if (wrong > 5 * deviation) fail_msg("%s: mean %g of %ld values", name, sum / (double)count, (long)count);
}

static void check_vector(const char *name, const float *values, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (values[i] != (name[strlen(name) - 1] == 'w')) fail_msg("%s[%ld] is %g", name, (long)i, (double)values[i]);
}

TEST(parameters_begin_as_published) {
    static const Published list[] = {{"gpt2-124m", 0.02, 0.01, 0.02 / 2}, // 0.02 / sqrt(2 L) of two blocks
                                     {"qwen3-150m", 0.02, NAN, 0.02}};
    for (int i = 0; i < 2; i++) {
        ModelOptions options = default_options();
        options.preset = list[i].preset, options.depth = 2, options.width = 128, options.context = 64;
        options.head_dim = 32;
        GptShape shape = shape_of(options, 100, 12);
        Gpt gpt;
        open_tiny(&gpt, &shape);
        for (int64_t p = 0; p < gpt.params.count; p++) {
            const Param *param = &gpt.params.items[p];
            const float *values = (const float *)gpt.weights.data + param->offset;
            int64_t count = param->real_rows * param->columns;
            if (param->kind == PARAM_VECTOR) check_vector(param->name, values, count);
            else check_normal(param->name, values, count, published_deviation(&list[i], param->name));
        }
        gpt_close(&gpt);
    }
}

TEST(export_names_are_those_of_the_classes) {
    static const char *const gpt2[] = {"transformer.wte.weight", "transformer.h.1.attn.c_attn.weight",
                                       "transformer.h.0.mlp.c_proj.bias", "transformer.ln_f.bias"};
    static const char *const llama[] = {"model.embed_tokens.weight", "model.layers.1.self_attn.k_proj.weight",
                                        "model.layers.0.mlp.gate_proj.weight", "model.norm.weight"};
    for (int family = 0; family < 2; family++) {
        ModelOptions options = default_options();
        options.depth = 2, options.width = 16, options.heads = 2;
        if (family == 0) options.norm = NORM_LAYER, options.position = POSITION_LEARNED, options.mlp = 0;
        GptShape shape = shape_of(options, 13, 12);
        Gpt gpt;
        open_tiny(&gpt, &shape);
        NamedTensors list = {0};
        gpt_export_tensors(&gpt, gpt.weights, &list);
        for (int i = 0; i < 4; i++) {
            int64_t found = 0;
            for (int64_t j = 0; j < list.count; j++)
                found += strcmp(list.items[j].name, (family ? llama : gpt2)[i]) == 0;
            assert_int_equal(found, 1);
        }
        for (int64_t j = 0; j < list.count; j++) // vocabulary padding stays at home
            if (strstr(list.items[j].name, "wte") || strstr(list.items[j].name, "embed_tokens"))
                assert_int_equal(list.items[j].tensor.shape[0], 13);
        named_tensors_close(&list);
        gpt_close(&gpt);
    }
}

TEST(config_json_is_strict_json_and_names_the_class) {
    GptShape shape = tiny_shape();
    Text text = {0};
    Errors errors = {0};
    gpt_config_json(&shape, DTYPE_F32, &(GptTokens){"12", "[12, 3]"}, &text);
    Json *json = json_parse("config.json", text_string(&text), text.size, EXIT_DATA, &errors);
    assert_non_null(json);
    assert_string_equal(json_member(json_root(json), "model_type")->valuestring, "llama");
    assert_non_null(strstr(text_string(&text), "\"rope_theta\": 10000.0"));
    json_close(json);
    text_close(&text);
}
