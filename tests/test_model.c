// The network apart from its numbers: shapes, names, layout, initialisation, generation.
#include <math.h>

#include "model/gpt.h"
#include "runtime/json.h"
#include "tests/test.h"

static ModelOptions default_options(void) {
    ModelOptions options = {.preset = "", .rope_theta = 10000, .vocab_multiple = 128, .norm_epsilon = NAN};
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
    assert_true(cpu_kernels.open(1, &errors));
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
    gpt_config_json(&shape, DTYPE_F32, 12, &text);
    Json *json = json_parse("config.json", text_string(&text), text.size, EXIT_DATA, &errors);
    assert_non_null(json);
    assert_string_equal(json_member(json_root(json), "model_type")->valuestring, "llama");
    assert_non_null(strstr(text_string(&text), "\"rope_theta\": 10000.0"));
    json_close(json);
    text_close(&text);
}

static int64_t generate(Gpt *gpt, int32_t *ids, double temperature, int64_t top_k, uint64_t seed) {
    Sampling sampling = {temperature, top_k, seed};
    ids[0] = 3;
    return gpt_generate(gpt, ids, 1, 30, &sampling, NULL, NULL); // longer than the context of 12
}

TEST(generation_is_a_function_of_the_seed) {
    GptShape shape = tiny_shape();
    Gpt gpt;
    open_tiny(&gpt, &shape);
    int32_t a[31], b[31], c[31];
    assert_int_equal(generate(&gpt, a, 1, 0, 5), 31);
    generate(&gpt, b, 1, 0, 5);
    generate(&gpt, c, 1, 0, 6);
    assert_memory_equal(a, b, sizeof a);
    assert_memory_not_equal(a, c, sizeof a);
    for (int i = 0; i < 31; i++) assert_in_range(a[i], 0, shape.vocab - 1);
    generate(&gpt, a, 0, 0, 5); // greedy: neither seed nor top_k matter
    generate(&gpt, b, 1, 1, 6);
    assert_memory_equal(a, b, sizeof a);
    gpt_close(&gpt);
}
