// Weights of model directories: names with and without prefixes, buffers and tied heads, shards; and every file that
// lies is refused by name.
#include <sys/stat.h>
#include <unistd.h>

#include "data/model_files.h"
#include "runtime/json.h"
#include "tests/test.h"

static const char *folder;

static void require_no_errors(const Errors *errors) {
    if (errors->count) fail_msg("%s", text_string(&errors->text));
}

static void write_text(const char *name, const char *text) {
    char path[4096];
    path_join(path, folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

// A list of these names, each a matrix (2, 3) with numbers of its own.
typedef struct {
    const char *names[8];
} Names;

static float numbers[8][6];

static void add_names(NamedTensors *list, const Names *names) {
    for (int i = 0; i < 8 && names->names[i]; i++) {
        for (int j = 0; j < 6; j++) numbers[i][j] = (float)(10 * strlen(names->names[i]) + (size_t)j);
        named_tensors_add(list, tensor_2d(numbers[i], DTYPE_F32, 2, 3), "%s", names->names[i]);
    }
}

static void write_tensors(const char *file, Names names, DType dtype) {
    char path[4096];
    FileWriter writer;
    Errors errors = {0};
    NamedTensors list = {0};
    add_names(&list, &names);
    path_join(path, folder, file);
    file_create(&writer, path, &errors);
    safetensors_write(&writer, NULL, list.items, list.count, dtype);
    file_finish(&writer, NULL, &errors);
    require_no_errors(&errors);
    named_tensors_close(&list);
}

static void begin(void) { folder = test_folder("model_files"); }

// What opening the folder and looking for these tensors tells; "" where all is well.
static const char *problem_of(Names wanted) {
    static char text[4096];
    Errors errors = {0};
    NamedTensors list = {0};
    ModelFiles *files = model_files_open(folder, &errors);
    add_names(&list, &wanted);
    if (files) model_files_check(files, list.items, list.count, &errors);
    snprintf(text, sizeof text, "%s", text_string(&errors.text));
    assert_true(errors.count == 0 || errors.exit_code == EXIT_DATA || errors.exit_code == EXIT_NO_INPUT);
    model_files_close(files);
    named_tensors_close(&list);
    errors_close(&errors);
    return text;
}

static void check_problem(Names wanted, const char *expected) {
    const char *problem = problem_of(wanted);
    if (*expected ? !strstr(problem, expected) : *problem != 0) fail_msg("expected \"%s\", got: %s", expected, problem);
}

static const Names both = {{"transformer.wte.weight", "transformer.h.0.w"}};

TEST(names_may_lack_their_prefix) {
    begin();
    write_tensors("model.safetensors", (Names){{"wte.weight", "h.0.w"}}, DTYPE_BF16);
    check_problem(both, "");
    write_tensors("model.safetensors", (Names){{"embed_tokens.weight"}}, DTYPE_F16);
    check_problem((Names){{"model.embed_tokens.weight"}}, "");
    write_tensors("model.safetensors", (Names){{"wte.weight", "transformer.wte.weight", "h.0.w"}}, DTYPE_F32);
    check_problem(both, "has no tensor wte.weight");
    write_tensors("model.safetensors", (Names){{"transformer.lm_head.weight", "wte.weight", "h.0.w"}}, DTYPE_F32);
    check_problem(both, "has no tensor transformer.lm_head.weight");
}

TEST(buffers_are_passed_over_and_other_tensors_named) {
    begin();
    write_tensors("model.safetensors",
                  (Names){{"wte.weight", "h.0.w", "h.0.attn.bias", "h.0.attn.masked_bias", "l.rotary_emb.inv_freq"}},
                  DTYPE_F32);
    check_problem(both, "");
    write_tensors("model.safetensors", (Names){{"wte.weight", "h.0.w", "h.0.attn.c_attn.bias"}}, DTYPE_F32);
    check_problem(both, "has no tensor h.0.attn.c_attn.bias");
    write_tensors("model.safetensors", (Names){{"wte.weight"}}, DTYPE_F32);
    check_problem(both, "there is no tensor transformer.h.0.w");
    check_problem((Names){{"transformer.wte.weight", "lm_head.weight"}}, "this is a model without its head");
}

TEST(a_head_beside_a_tied_embedding_is_the_embedding) {
    char path[4096];
    FileWriter writer;
    Errors errors = {0};
    begin();
    for (int same = 0; same < 2; same++) {
        NamedTensors list = {0};
        static float table[6] = {1, 2, 3, 4, 5, 6}, head[6] = {1, 2, 3, 4, 5, 7};
        named_tensors_add(&list, tensor_2d(table, DTYPE_F32, 2, 3), "wte.weight");
        named_tensors_add(&list, tensor_2d(same ? table : head, DTYPE_F32, 2, 3), "lm_head.weight");
        path_join(path, folder, "model.safetensors");
        file_create(&writer, path, &errors);
        safetensors_write(&writer, NULL, list.items, 2, DTYPE_F32);
        file_finish(&writer, NULL, &errors);
        require_no_errors(&errors);
        check_problem((Names){{"transformer.wte.weight"}}, same ? "" : "lm_head.weight is not transformer.wte.weight");
        named_tensors_close(&list);
    }
}

TEST(shapes_and_dtypes_must_be_those_of_the_config) {
    begin();
    static const int64_t shapes[] = {3, 2};
    NamedTensors list = {0};
    Errors errors = {0};
    static float values[6];
    write_tensors("model.safetensors", (Names){{"w"}}, DTYPE_F64);
    ModelFiles *files = model_files_open(folder, &errors);
    require_no_errors(&errors);
    NamedTensor *wanted = named_tensors_add(&list, tensor_2d(values, DTYPE_F32, shapes[0], shapes[1]), "w");
    assert_false(model_files_check(files, list.items, 1, &errors));
    assert_non_null(strstr(text_string(&errors.text), "w has shape (2, 3), by the config (3, 2)"));
    errors_close(&errors);
    wanted->transposed = true;
    assert_true(model_files_check(files, list.items, 1, &errors));
    model_files_close(files);
    named_tensors_close(&list);
    write_text("model.safetensors", "x");
    check_problem(both, "shorter than the 8 bytes");
}

static void write_index(const char *json) { write_text("model.safetensors.index.json", json); }

TEST(shards_hold_every_tensor_of_their_index_once) {
    begin();
    write_tensors("a.safetensors", (Names){{"wte.weight"}}, DTYPE_BF16);
    write_tensors("b.safetensors", (Names){{"h.0.w"}}, DTYPE_BF16);
#define MAP "\"weight_map\": {\"wte.weight\": \"a.safetensors\", \"h.0.w\": \"b.safetensors\"}"
    static const struct {
        const char *json, *problem;
    } rows[] = {
        {"{" MAP "}", ""},
        {"{\"metadata\": {\"total_size\": 24}, " MAP "}", ""},
        {"{\"metadata\": {\"total_size\": 48}, " MAP "}", ""}, // as if fp32
        {"{\"metadata\": {\"total_size\": 25}, " MAP "}", "total_size is not that of the tensors, 24 bytes"},
        {"{\"metadata\": {\"total_size\": \"24\"}, " MAP "}", "total_size"},
        {"{}", "expected an object weight_map"},
        {"[]", "expected an object weight_map"},
        {"{\"weight_map\": {}}", "weight_map names no tensor"},
        {"{\"weight_map\": {\"w\": 3}}", "expected the name of a .safetensors file beside the index"},
        {"{\"weight_map\": {\"w\": \"../a.safetensors\"}}", "beside the index"},
        {"{\"weight_map\": {\"w\": \"/a.safetensors\"}}", "beside the index"},
        {"{\"weight_map\": {\"w\": \".safetensors\"}}", "beside the index"},
        {"{\"weight_map\": {\"w\": \"pytorch_model.bin\"}}", "beside the index"},
        {"{\"weight_map\": {\"w\": \"c.safetensors\"}}", "c.safetensors: is missing"},
        {"{\"weight_map\": {\"wte.weight\": \"b.safetensors\", \"h.0.w\": \"a.safetensors\"}}", "no tensor of this name"},
        {"{\"weight_map\": {\"wte.weight\": \"a.safetensors\", \"x\": \"b.safetensors\"}}", "no tensor of this name"},
        {"{\"weight_map\": {\"wte.weight\": \"a.safetensors\"}}", "there is no tensor transformer.h.0.w"},
        {"{\"weight_map\": {\"h.0.w\": \"a.safetensors\", \"h.0.w\": \"b.safetensors\"}}", "h.0.w"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        write_index(rows[i].json);
        check_problem(both, rows[i].problem);
    }
    write_tensors("b.safetensors", (Names){{"h.0.w", "wte.weight"}}, DTYPE_BF16);
    write_index("{" MAP "}");
    check_problem(both, "hold tensors that weight_map does not name, or one twice");
}

TEST(directories_without_safetensors_get_advice) {
    begin();
    check_problem(both, "there is no model.safetensors");
    assert_false(model_files_are(folder));
    write_text("pytorch_model.bin", "x");
    assert_true(model_files_are(folder));
    check_problem(both, "only pickled weights (pytorch_model.bin), which can run code and are not read");
    Text name = {0}, json = {0};
    Errors errors = {0};
    assert_false(model_files_config(folder, &name, &json, &errors));
    assert_non_null(strstr(text_string(&errors.text), "config.json: is missing"));
    errors_close(&errors);
    text_close(&name);
    text_close(&json);
}
