// An index of shards, beside two small ones, and an llm.c checkpoint file: refused, or every tensor lies inside its
// file.
#include "data/model_files.h"
#include "tests/fuzz/folder.h"

static void write_shard(const char *file, const char *name) {
    static float values[6] = {1, 2, 3, 4, 5, 6};
    char path[4096];
    FileWriter writer;
    Errors errors = {0};
    NamedTensors list = {0};
    named_tensors_add(&list, tensor_2d(values, DTYPE_F32, 2, 3), "%s", name);
    path_join(path, fuzz_folder(), file);
    HOLDS(file_create(&writer, path, &errors));
    safetensors_write(&writer, NULL, list.items, 1, DTYPE_F32);
    HOLDS(file_finish(&writer, NULL, &errors));
    named_tensors_close(&list);
}

static void look(const char *path) {
    static float value[1];
    Errors errors = {0};
    Text name = {0}, json = {0};
    NamedTensors wanted = {0};
    named_tensors_add(&wanted, tensor_2d(value, DTYPE_F32, 2, 3), "transformer.wte.weight");
    ModelFiles *files = model_files_open(path, &errors);
    fuzz_errors(&errors, !files);
    if (files && model_files_check(files, wanted.items, 1, &errors)) {
        NamedTensors list = {0};
        model_files_list(files, wanted.items, 1, &list);
        unsigned sum = 0;
        for (size_t i = 0; i < tensor_size_bytes(list.items[0].tensor); i++)
            sum += ((const unsigned char *)list.items[0].tensor.data)[i];
        HOLDS(sum <= 24 * 255);
        named_tensors_close(&list);
    }
    errors_close(&errors);
    model_files_close(files);
    if (!path_is_directory(path)) model_files_config(path, &name, &json, &errors);
    errors_close(&errors);
    named_tensors_close(&wanted);
    text_close(&name);
    text_close(&json);
}

TARGET {
    static bool there;
    const char *file = fuzz_file(0, bytes, size);
    if (!there) {
        write_shard("a.safetensors", "wte.weight");
        write_shard("b.safetensors", "h.0.w");
        fuzz_link("model.safetensors.index.json", file);
        there = true;
    }
    look(fuzz_folder());
    look(file);
    return 0;
}
