// Checkpoints, saved. A directory is complete or it is not there: its manifest is written last, and only then does it
// get its name. What an interrupted save or removal leaves is called step_N.tmp and removed by the next save: a run
// directory has one writer.
#include <string.h>

#include "data/checkpoint_parts.h"
#include "runtime/json.h"

typedef struct {
    const char *directory;
    JsonWriter manifest;
    Errors *errors;
} Saving;

static bool finish_file(Saving *saving, FileWriter *writer, const char *name) {
    char hash[HASH_HEX];
    if (!file_finish(writer, hash, saving->errors)) return false;
    json_begin(&saving->manifest, NULL, '{');
    json_string(&saving->manifest, "name", name);
    json_integer(&saving->manifest, "size", (int64_t)writer->size);
    json_string(&saving->manifest, "xxh3", hash);
    json_end(&saving->manifest, '}');
    return true;
}

static bool save_tensors(Saving *saving, const Kernels *kernels, const CheckpointTensors *tensors) {
    char path[4096];
    FileWriter writer;
    path_join(path, saving->directory, tensors->file);
    if (!file_create(&writer, path, saving->errors)) return false;
    safetensors_write(&writer, kernels, tensors->tensors, tensors->count, tensors->dtype);
    return finish_file(saving, &writer, tensors->file);
}

static bool save_text(Saving *saving, const CheckpointText *text) {
    char path[4096];
    FileWriter writer;
    path_join(path, saving->directory, text->file);
    if (!file_create(&writer, path, saving->errors)) return false;
    file_write(&writer, text->text, strlen(text->text));
    return finish_file(saving, &writer, text->file);
}

// {"version", "step", "files": [...], "xxh3": of the text up to and with "files"}
static bool save_manifest(Saving *saving) {
    char path[4096], hash[HASH_HEX];
    FileWriter writer;
    Text *text = saving->manifest.out;
    json_end(&saving->manifest, ']');
    bytes_hash(text->data, text->size, hash);
    json_string(&saving->manifest, "xxh3", hash);
    json_end(&saving->manifest, '}');
    text_add(text, "\n");
    path_join(path, saving->directory, CHECKPOINT_MANIFEST);
    if (!file_create(&writer, path, saving->errors)) return false;
    file_write(&writer, text->data, text->size);
    return file_finish(&writer, NULL, saving->errors);
}

static bool save_files(const char *directory, const Kernels *kernels, const CheckpointContent *content,
                       Errors *errors) {
    Text manifest = {0};
    Saving saving = {directory, {.out = &manifest, .indent = 2}, errors};
    json_begin(&saving.manifest, NULL, '{');
    json_integer(&saving.manifest, "version", 1);
    json_integer(&saving.manifest, "step", content->step);
    json_begin(&saving.manifest, "files", '[');
    bool good = directory_make(directory, errors);
    for (int i = 0; good && i < content->tensor_files; i++) good = save_tensors(&saving, kernels, &content->tensors[i]);
    for (int i = 0; good && i < content->text_files; i++) good = save_text(&saving, &content->texts[i]);
    good = good && save_manifest(&saving) && directory_sync(directory, errors);
    text_close(&manifest);
    return good;
}

static void remove_leftovers(const char *checkpoints) {
    Errors ignored = {0};
    TextList names = {0};
    directory_list(&names, checkpoints, &ignored);
    for (int64_t i = 0; i < names.count; i++) {
        const char *mark = strrchr(names.items[i], '.');
        if (!mark || strcmp(mark, CHECKPOINT_UNFINISHED) != 0) continue;
        char path[4096];
        path_join(path, checkpoints, names.items[i]);
        directory_remove(path, &ignored);
    }
    text_list_close(&names);
    errors_close(&ignored);
}

// A checkpoint that had the name is removed; where that fails the new one is in place all the same.
static bool take_name(const char *beside, const char *final, Errors *errors) {
    if (!path_exists(final)) return path_rename(beside, final, errors);
    bool exchanged = path_exchange(beside, final, errors);
    if (exchanged) directory_remove(beside, errors);
    return exchanged;
}

bool checkpoint_save(const char *run_dir, const Kernels *kernels, const CheckpointContent *content, char path[4096],
                     Errors *errors) {
    char checkpoints[4096], final[4096], beside[4096];
    checkpoint_folder(checkpoints, run_dir);
    bool first = !path_exists(checkpoints);
    if (!directory_make(checkpoints, errors) || (first && !directory_sync(run_dir, errors))) return false;
    remove_leftovers(checkpoints);
    checkpoint_step_path(final, checkpoints, content->step, "");
    checkpoint_step_path(beside, checkpoints, content->step, CHECKPOINT_UNFINISHED);
    bool good = save_files(beside, kernels, content, errors) && take_name(beside, final, errors) &&
                directory_sync(checkpoints, errors);
    Errors ignored = {0};
    if (!good) directory_remove(beside, &ignored);
    errors_close(&ignored);
    if (good && path) strcpy(path, final);
    return good;
}
