// Hugging Face directories and llm.c's files, read and written: models that transformers made and computed
// (scripts/oracles/make_hugging_face_fixtures.py) give the same numbers here and come out as they went in; what is not
// here, or damaged, is refused by name.
#include <math.h>
#include <sys/stat.h>

#include "commands/command.h"
#include "commands/run.h"
#include "model/generate.h"
#include "tests/support_model.h"
#include "tests/test.h"

enum { TOKENS = 32, SEQUENCES = 4, PROMPT = 8 };

static const char *const models[] = {"gpt2", "llama", "qwen3"};
enum { MODELS = sizeof models / sizeof models[0] };

static const char *fixture(char path[4096], const char *model) {
    snprintf(path, 4096, "tests/fixtures/hugging_face/%s", model);
    return path;
}

static void require_no_errors(const Errors *errors) {
    if (errors->count) fail_msg("%s", text_string(&errors->text));
}

static void open_model(Run *run, const char *path, int64_t cache) {
    Errors errors = {0};
    TextList overrides = {0};
    *run = RUN_CLOSED;
    text_list_add(&overrides, "device=cpu");
    text_list_add(&overrides, "train.micro_batch=4");
    text_list_add(&overrides, "train.sequence_length=32");
    ModelRequest request = {
        .path = path, .overrides = &overrides, .iterate = ITERATE_SHOWN, .cache = cache, .ids = true};
    run_open_model(run, &request, &errors);
    require_no_errors(&errors);
    text_list_close(&overrides);
}

// (tokens, vocab), of every position.
static float *logits_of(Run *run, const int32_t *ids) {
    Gpt *gpt = &run->gpt;
    Batch batch;
    batch_open(&batch, SEQUENCES, TOKENS);
    memcpy(batch.tokens.data, ids, SEQUENCES * TOKENS * sizeof *ids);
    for (int i = 0; i < SEQUENCES * TOKENS; i++) batch_ids(batch.targets)[i] = ids[i];
    batch_sort_ids(&batch, &run->shape);
    gpt_load_batch(gpt, &batch);
    gpt_begin_evaluation(gpt);
    gpt_forward(gpt, GPT_EVALUATE);
    GptTensors w = gpt_tensors(gpt, gpt->weights, -1);
    float *all = test_take((size_t)(SEQUENCES * TOKENS * run->shape.rows) * sizeof *all);
    Tensor head = tensor_present(w.head_w) ? w.head_w : w.wte;
    Tensor out = tensor_2d(all, DTYPE_F32, SEQUENCES * TOKENS, run->shape.rows);
    run->kernels->linear_forward(out, TENSOR_NONE, tensor_slice(gpt->final_norm, 0, 0, SEQUENCES * TOKENS),
                                 &(Linear){.weight = head});
    run->kernels->finish();
    batch_close(&batch);
    return all;
}

static Safetensors *expected_of(const char *model, const int32_t **ids, const float **logits, const int32_t **made,
                                int64_t *count) {
    char path[4096];
    Errors errors = {0};
    snprintf(path, sizeof path, "tests/fixtures/hugging_face/%s/expected.safetensors", model);
    Safetensors *st = safetensors_open(path, EXIT_DATA, &errors);
    require_no_errors(&errors);
    *ids = safetensors_find(st, "tokens").data;
    *logits = safetensors_find(st, "logits").data;
    *made = safetensors_find(st, "made").data;
    *count = tensor_count(safetensors_find(st, "made"));
    return st;
}

TEST(logits_are_those_of_transformers) {
    for (int m = 0; m < MODELS; m++) {
        char path[4096];
        const int32_t *ids, *made;
        const float *expected;
        int64_t count;
        Run run;
        Safetensors *st = expected_of(models[m], &ids, &expected, &made, &count);
        open_model(&run, fixture(path, models[m]), 0);
        assert_string_equal(gpt_family(&run.shape), models[m]);
        float *logits = logits_of(&run, ids);
        for (int64_t t = 0; t < SEQUENCES * TOKENS; t++)
            for (int64_t v = 0; v < run.shape.vocab; v++)
                CHECK_CLOSE(logits[t * run.shape.rows + v], expected[t * run.shape.vocab + v], 1e-4);
        free(logits);
        run_close(&run);
        safetensors_close(st);
    }
}

TEST(the_likeliest_continuation_is_that_of_transformers) {
    for (int m = 0; m < MODELS; m++) {
        char path[4096];
        const int32_t *ids, *made;
        const float *logits;
        int64_t count, length;
        Run run;
        Decoder decoder;
        int32_t sequence[512] = {0};
        Safetensors *st = expected_of(models[m], &ids, &logits, &made, &count);
        open_model(&run, fixture(path, models[m]), PROMPT + count);
        memcpy(sequence, ids, PROMPT * sizeof *ids);
        decoder_open(&decoder, &run.gpt);
        Generation generation = {.ids = sequence, .length = PROMPT, .count = count, .end = -1,
                                 .sampling = SAMPLING_GREEDY};
        assert_int_equal(gpt_generate(&decoder, &generation, &length), FINISH_LENGTH);
        for (int64_t i = 0; i < count; i++) assert_int_equal(sequence[PROMPT + i], made[i]);
        decoder_close(&decoder);
        run_close(&run);
        safetensors_close(st);
    }
}

// ---- there and back ----

// Every tensor of one directory in the other, bit for bit; how many there are.
static int64_t compare(const char *a, const char *b) {
    Errors errors = {0};
    ModelSource x, y;
    NamedTensors of_x = {0}, of_y = {0};
    source_open(&x, a, &errors);
    require_no_errors(&errors);
    source_open(&y, b, &errors);
    require_no_errors(&errors);
    int64_t count = x.tensors.count;
    assert_int_equal(count, y.tensors.count);
    model_files_list(x.files, x.tensors.items, count, &of_x);
    model_files_list(y.files, y.tensors.items, count, &of_y);
    for (int64_t i = 0; i < count; i++) {
        Tensor s = of_x.items[i].tensor, t = of_y.items[i].tensor;
        assert_int_equal(s.dtype, t.dtype);
        assert_true(tensor_same_shape(s, t));
        assert_memory_equal(s.data, t.data, tensor_size_bytes(s));
    }
    named_tensors_close(&of_x);
    named_tensors_close(&of_y);
    source_close(&x);
    source_close(&y);
    return count;
}

static int export(const char *model, const char *out, const char *option, const char *value) {
    char *argv[] = {"export", (char *)model, "--to", "hf", (char *)out, (char *)option, (char *)value, NULL};
    return command_export(option ? 7 : 5, argv);
}

TEST(what_is_read_is_written_as_it_was) {
    char path[4096], out[4096];
    const char *folder = test_folder("hugging_face");
    for (int m = 0; m < MODELS; m++)
        for (int sharded = 0; sharded < 2; sharded++) {
            snprintf(out, sizeof out, "%s/%s-%d", folder, models[m], sharded);
            assert_int_equal(export(fixture(path, models[m]), out, sharded ? "--shard-size" : NULL, "10KB"), 0);
            assert_true(compare(path, out) > 20);
            char file[4096];
            path_join(file, out, sharded ? "model.safetensors.index.json" : "model.safetensors");
            assert_true(path_exists(file));
        }
    snprintf(out, sizeof out, "%s/half", folder);
    assert_int_equal(export(fixture(path, "gpt2"), out, "--dtype", "fp16"), 0);
    char wide[4096];
    snprintf(wide, sizeof wide, "%s/wide", folder);
    assert_int_equal(export(out, wide, "--dtype", "fp32"), 0);
    Errors errors = {0};
    ModelSource source;
    NamedTensors list = {0};
    source_open(&source, wide, &errors);
    require_no_errors(&errors);
    model_files_list(source.files, source.tensors.items, source.tensors.count, &list);
    float value;
    memcpy(&value, list.items[0].tensor.data, sizeof value);
    assert_true(value == f16_to_float(f16_from_float(value)));
    named_tensors_close(&list);
    source_close(&source);
}

// ---- llm.c ----

static void write_file(const char *path, const void *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

static void add_values(Text *out, Tensor t, bool turned, DType dtype) {
    int64_t count = tensor_count(t);
    char *values = test_take((size_t)count * 4), *converted = test_take((size_t)count * 4);
    if (turned) elements_transpose(values, t.data, t.shape[0], t.shape[1], t.shape[1], 4);
    else memcpy(values, t.data, (size_t)count * 4);
    dtype_convert(converted, dtype, values, DTYPE_F32, count);
    text_append(out, converted, (size_t)count * dtype_bytes(dtype));
    free(values);
    free(converted);
}

// A GPT-2 with an MLP of four widths, as a Hugging Face directory, and as llm.c writes it.
static void make_llmc(const char *directory, Text *out, DType dtype) {
    static const char *const names[] = {"ln_1.weight", "ln_1.bias", "attn.c_attn.weight", "attn.c_attn.bias",
                                        "attn.c_proj.weight", "attn.c_proj.bias", "ln_2.weight", "ln_2.bias",
                                        "mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"};
    char path[4096], name[256];
    Errors errors = {0};
    path_join(path, directory, "model.safetensors");
    Safetensors *st = safetensors_open(path, EXIT_DATA, &errors);
    require_no_errors(&errors);
    int32_t header[256] = {20240326, dtype == DTYPE_F32 ? 3 : 5, 40, 61, 2, 2, 16, 64};
    text_append(out, header, sizeof header);
    add_values(out, safetensors_find(st, "transformer.wte.weight"), false, dtype);
    char padding[3 * 16 * 4] = {0};
    text_append(out, padding, 3 * 16 * dtype_bytes(dtype));
    add_values(out, safetensors_find(st, "transformer.wpe.weight"), false, dtype);
    for (int i = 0; i < 12; i++)
        for (int l = 0; l < 2; l++) {
            snprintf(name, sizeof name, "transformer.h.%d.%s", l, names[i]);
            Tensor t = safetensors_find(st, name);
            add_values(out, t, t.rank == 2, dtype);
        }
    add_values(out, safetensors_find(st, "transformer.ln_f.weight"), false, dtype);
    add_values(out, safetensors_find(st, "transformer.ln_f.bias"), false, dtype);
    safetensors_close(st);
}

static const GptShape llmc_shape = {.layers = 2, .width = 16, .heads = 2, .kv_heads = 2, .head_dim = 8, .ffn_width = 64,
                                    .vocab = 61, .rows = 61, .context = 40, .norm = NORM_LAYER,
                                    .position = POSITION_LEARNED, .activation = ACTIVATION_GELU, .bias = true,
                                    .tied = true, .norm_epsilon = 1e-5};

// Random numbers in a shape's tensors, as files; the directory is made.
static void write_model(const char *directory, const GptShape *shape, Text *config) {
    char path[4096];
    FileWriter writer;
    Errors errors = {0};
    NamedTensors list = {0};
    ParamList params = gpt_param_list(shape);
    float *values = test_take((size_t)params.elements * sizeof *values);
    for (int64_t i = 0; i < params.elements; i++) values[i] = (float)sin((double)i);
    Gpt gpt = {.shape = *shape, .params = params};
    gpt_export_tensors(&gpt, tensor_1d(values, DTYPE_F32, params.elements), &list);
    mkdir(directory, 0777);
    path_join(path, directory, "model.safetensors");
    file_create(&writer, path, &errors);
    safetensors_write(&writer, NULL, list.items, list.count, DTYPE_F32);
    file_finish(&writer, NULL, &errors);
    require_no_errors(&errors);
    gpt_config_json(shape, DTYPE_F32, &(GptTokens){"60", "60"}, config);
    path_join(path, directory, "config.json");
    write_file(path, config->data, config->size);
    named_tensors_close(&list);
    free((void *)params.items);
    free(values);
}

TEST(files_of_llmc_are_the_same_models) {
    char directory[4096], path[4096], out[4096];
    const char *folder = test_folder("llmc");
    Text config = {0}, bytes = {0};
    snprintf(directory, sizeof directory, "%s/hf", folder);
    write_model(directory, &llmc_shape, &config);
    make_llmc(directory, &bytes, DTYPE_F32);
    snprintf(path, sizeof path, "%s/v3.bin", folder);
    write_file(path, bytes.data, bytes.size);
    snprintf(out, sizeof out, "%s/out", folder);
    assert_int_equal(export(path, out, NULL, NULL), 0);
    compare(directory, out);
    text_clear(&bytes);
    make_llmc(directory, &bytes, DTYPE_BF16);
    snprintf(path, sizeof path, "%s/v5.bin", folder);
    write_file(path, bytes.data, bytes.size);
    char half[4096];
    snprintf(half, sizeof half, "%s/bf16", folder);
    assert_int_equal(export(directory, half, "--dtype", "bf16"), 0);
    snprintf(out, sizeof out, "%s/out5", folder);
    assert_int_equal(export(path, out, NULL, NULL), 0);
    compare(half, out);
    Run run;
    open_model(&run, path, 0); // and they compute
    run_close(&run);
    static const struct {
        int at; // of the header
        int32_t value;
        const char *message;
    } rows[] = {{0, 20240520, "begins with the number 20240326"}, {1, 1, "of version 1; 3 (fp32) and 5 (bf16)"},
                {3, 0, "not positive"},  {7, 60, "fewer rows than tokens"}, {4, 3, "its header tells of"},
                {6, 2000000000, "its header tells of"}, {2, 41, "its header tells of"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Errors errors = {0};
        Text damaged = {0};
        text_append(&damaged, bytes.data, bytes.size);
        memcpy(damaged.data + 4 * rows[i].at, &rows[i].value, 4);
        write_file(path, damaged.data, damaged.size);
        assert_null(model_files_open(path, &errors));
        assert_int_equal(errors.exit_code, EXIT_DATA);
        if (!strstr(text_string(&errors.text), rows[i].message))
            fail_msg("\"%s\" is not in: %s", rows[i].message, text_string(&errors.text));
        errors_close(&errors);
        text_close(&damaged);
    }
    text_close(&config);
    text_close(&bytes);
}

// ---- config.json ----

#define LLAMA "{\"model_type\": \"llama\""
#define GPT2 "{\"model_type\": \"gpt2\""
#define QWEN3 "{\"model_type\": \"qwen3\""

TEST(what_a_config_leaves_out_is_as_in_its_class) {
    GptShape s;
    Errors errors = {0};
    assert_true(gpt_config_read(&s, "c", GPT2 "}", strlen(GPT2 "}"), &errors));
    assert_int_equal(gpt_parameter_count(&s), 124439808);
    assert_true(s.tied && s.bias && s.norm_epsilon == 1e-5 && s.context == 1024);
    assert_true(gpt_config_read(&s, "c", LLAMA "}", strlen(LLAMA "}"), &errors));
    assert_true(s.width == 4096 && s.layers == 32 && s.heads == 32 && s.kv_heads == 32 && s.head_dim == 128);
    assert_true(s.ffn_width == 11008 && s.vocab == 32000 && s.context == 2048 && !s.tied && s.norm_epsilon == 1e-6);
    assert_true(s.rope_theta == 10000 && !s.qk_norm);
    assert_true(gpt_config_read(&s, "c", QWEN3 "}", strlen(QWEN3 "}"), &errors));
    assert_true(s.width == 4096 && s.kv_heads == 32 && s.head_dim == 128 && s.ffn_width == 22016 && s.vocab == 151936);
    assert_true(s.context == 32768 && s.qk_norm && !s.tied);
    static const struct {
        const char *json;
        size_t field;
        double value; // of a double, or an integer
        bool real;
    } rows[] = {
        {LLAMA ", \"rope_theta\": 5e5}", offsetof(GptShape, rope_theta), 5e5, true},
        {LLAMA ", \"rope_parameters\": {\"rope_theta\": 5e5, \"rope_type\": \"default\"}}",
         offsetof(GptShape, rope_theta), 5e5, true},
        {LLAMA ", \"rope_theta\": 5e5, \"rope_scaling\": null, \"rope_parameters\": {\"rope_theta\": 500000}}",
         offsetof(GptShape, rope_theta), 5e5, true},
        {LLAMA ", \"num_attention_heads\": 16}", offsetof(GptShape, kv_heads), 16, false},
        {LLAMA ", \"num_attention_heads\": 16}", offsetof(GptShape, head_dim), 256, false},
        {LLAMA ", \"head_dim\": null}", offsetof(GptShape, head_dim), 128, false},
        {QWEN3 ", \"num_attention_heads\": 8, \"num_key_value_heads\": null}", offsetof(GptShape, kv_heads), 8, false},
        {GPT2 ", \"n_inner\": null, \"n_embd\": 96}", offsetof(GptShape, ffn_width), 384, false},
        {GPT2 ", \"hidden_size\": 96}", offsetof(GptShape, width), 96, false},
        {GPT2 ", \"activation_function\": \"gelu_pytorch_tanh\", \"reorder_and_upcast_attn\": true}",
         offsetof(GptShape, layers), 12, false},
        {QWEN3 ", \"layer_types\": [\"full_attention\"], \"sliding_window\": 4096}", offsetof(GptShape, layers), 32, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        gpt_config_read(&s, "c", rows[i].json, strlen(rows[i].json), &errors);
        require_no_errors(&errors);
        const char *place = (const char *)&s + rows[i].field;
        double value = rows[i].real ? *(const double *)place : (double)*(const int64_t *)place;
        if (value != rows[i].value) fail_msg("%s: %g, expected %g", rows[i].json, value, rows[i].value);
    }
}

TEST(what_is_not_here_is_refused_by_name) {
    static const struct {
        const char *json, *message;
    } rows[] = {
        {"{}", "c:1:1: there is no model_type"},
        {"[1]", "there is no model_type"},
        {"{\"model_type\": \"mistral\"}", "model_type is mistral, which has attention in sliding windows"},
        {"{\"model_type\": \"qwen2\"}", "which has biases in q, k and v alone; gpt2, llama and qwen3 are read here"},
        {"{\"model_type\": \"rwkv\"}", "c:1:16: model_type is rwkv; gpt2"},
        {LLAMA ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0}}", "rope_scaling is llama3"},
        {LLAMA ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.0}}", "rope_scaling is linear"},
        {LLAMA ", \"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\": 1e4}}", "rope_parameters is yarn"},
        {LLAMA ", \"rope_parameters\": {\"rope_type\": \"dynamic\"}}", "rope_parameters is dynamic"},
        {LLAMA ", \"rope_parameters\": {\"full_attention\": {\"rope_type\": \"default\"}}}", "one for each kind of layer"},
        {LLAMA ", \"rope_parameters\": 3}", "rope_parameters: expected an object"},
        {LLAMA ", \"rope_theta\": 1e4, \"rope_parameters\": {\"rope_theta\": 5e5}}", "rope_theta is 500000 here and 10000"},
        {LLAMA ", \"rope_theta\": \"1e4\"}", "rope_theta: expected a number"},
        {LLAMA ", \"partial_rotary_factor\": 0.5}", "partial_rotary_factor is 0.5"},
        {LLAMA ", \"rope_parameters\": {\"partial_rotary_factor\": 0.25}}", "partial_rotary_factor is 0.25"},
        {LLAMA ", \"attention_bias\": true}", "attention_bias is true"},
        {LLAMA ", \"mlp_bias\": true}", "mlp_bias is true"},
        {LLAMA ", \"hidden_act\": \"gelu\"}", "hidden_act is gelu"},
        {LLAMA ", \"quantization_config\": {\"bits\": 4}}", "quantization_config is {...}, expected null; quantized"},
        {LLAMA ", \"auto_map\": {\"AutoModel\": \"x.Y\"}}", "auto_map"},
        {LLAMA ", \"tie_word_embeddings\": 1}", "tie_word_embeddings: expected true or false"},
        {LLAMA ", \"num_hidden_layers\": 0}", "num_hidden_layers is 0, expected an integer from 1 to 1000"},
        {LLAMA ", \"num_hidden_layers\": 1e15}", "num_hidden_layers is"},
        {LLAMA ", \"hidden_size\": 4096.5}", "hidden_size is 4096.5"},
        {LLAMA ", \"vocab_size\": null}", "vocab_size is null"},
        {LLAMA ", \"num_attention_heads\": 30}", "a width of 4096 does not split into 30 heads"},
        {LLAMA ", \"num_key_value_heads\": 5}", "32 heads cannot share 5 evenly"},
        {LLAMA ", \"head_dim\": 1024}", "head_dim is 1024, expected an integer from 2 to 512"},
        {LLAMA ", \"num_attention_heads\": 4}", "heads of 1024 channels are not here"},
        {LLAMA ", \"head_dim\": 65}", "rope turns pairs of channels"},
        {LLAMA ", \"rms_norm_eps\": 0}", "rms_norm_eps: expected a number"},
        {QWEN3 ", \"use_sliding_window\": true}", "use_sliding_window is true"},
        {QWEN3 ", \"layer_types\": [\"full_attention\", \"sliding_attention\"]}", "layer_types is sliding_attention"},
        {GPT2 ", \"activation_function\": \"gelu\"}", "activation_function is gelu, expected gelu_new|gelu_pytorch_tanh"},
        {GPT2 ", \"scale_attn_weights\": false}", "scale_attn_weights is false"},
        {GPT2 ", \"scale_attn_by_inverse_layer_idx\": true}", "scale_attn_by_inverse_layer_idx is true"},
        {GPT2 ", \"add_cross_attention\": true}", "add_cross_attention"},
        {"{\"model_type\": \"thalweg\"}", "norm is missing"},
        {"{\"model_type\": \"llama\", \"model_type\": \"gpt2\"}", "model_type"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        GptShape s;
        Errors errors = {0};
        assert_false(gpt_config_read(&s, "c", rows[i].json, strlen(rows[i].json), &errors));
        assert_int_equal(errors.exit_code, EXIT_DATA);
        if (!strstr(text_string(&errors.text), rows[i].message))
            fail_msg("%s: \"%s\" is not in: %s", rows[i].json, rows[i].message, text_string(&errors.text));
        errors_close(&errors);
    }
    GptShape s;
    Errors errors = {0};
    const char *many = LLAMA ", \"attention_bias\": true, \"rope_scaling\": {\"type\": \"yarn\"}, \"hidden_size\": -1}";
    assert_false(gpt_config_read(&s, "c", many, strlen(many), &errors));
    assert_int_equal(errors.count, 3); // all at once
    errors_close(&errors);
}

TEST(every_shape_comes_back_from_its_config) {
    GptShape shapes[] = {
        llmc_shape,
        {.layers = 3, .width = 48, .heads = 4, .kv_heads = 2, .head_dim = 20, .ffn_width = 100, .vocab = 301,
         .context = 77, .norm = NORM_RMS, .position = POSITION_ROPE, .activation = ACTIVATION_SWIGLU,
         .init = INIT_LLAMA, .norm_epsilon = 3e-6, .rope_theta = 12345.5, .tied = true},
        {.layers = 1, .width = 64, .heads = 2, .kv_heads = 1, .head_dim = 64, .ffn_width = 64, .vocab = 7, .context = 9,
         .norm = NORM_RMS, .position = POSITION_ROPE, .activation = ACTIVATION_SWIGLU, .init = INIT_LLAMA,
         .norm_epsilon = 1e-6, .rope_theta = 1e6, .qk_norm = true},
        {.layers = 1, .width = 40, .heads = 2, .kv_heads = 2, .head_dim = 20, .ffn_width = 64, .vocab = 7, .context = 9,
         .norm = NORM_LAYER, .position = POSITION_ROPE, .activation = ACTIVATION_RELU2, .init = INIT_LLAMA,
         .norm_epsilon = 1e-6, .rope_theta = 1e4, .bias = true},
        {.layers = 1, .width = 40, .heads = 2, .kv_heads = 1, .head_dim = 20, .ffn_width = 64, .vocab = 7, .context = 9,
         .norm = NORM_RMS, .position = POSITION_LEARNED, .activation = ACTIVATION_GELU, .init = INIT_GPT2,
         .norm_epsilon = 1e-5, .tied = true, .qk_norm = true},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        Text text = {0};
        Errors errors = {0};
        GptShape back;
        memset(&back, 0, sizeof back);
        shapes[i].rows = shapes[i].vocab;
        gpt_config_json(&shapes[i], DTYPE_F32, &(GptTokens){"null", "[1, 2]"}, &text);
        gpt_config_read(&back, "config.json", text.data, text.size, &errors);
        require_no_errors(&errors);
        const GptShape *a = &shapes[i], *b = &back;
        assert_memory_equal(a, b, offsetof(GptShape, bias)); // integers and enums
        assert_true(a->bias == b->bias && a->qk_norm == b->qk_norm && a->tied == b->tied);
        assert_true(a->norm_epsilon == b->norm_epsilon && a->rope_theta == b->rope_theta);
        assert_true(i < 3 || strstr(text_string(&text), "only train_gpt reads this directory"));
        text_close(&text);
    }
}
