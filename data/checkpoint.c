// Checkpoints, saved. A directory is complete or it is not there: its manifest is written last, and only then does it
// get its name. What an interrupted save or removal leaves is called step_N.tmp and removed by the next save: a run
// directory has one writer.
#include "data/checkpoint_parts.h"

typedef struct {
    const char *directory;
    ManifestWriter manifest;
    Errors *errors;
} Saving;

static bool begin_file(const Saving *saving, FileWriter *writer, const char *name, Text *blocks) {
    char path[4096];
    path_join(path, saving->directory, name);
    if (!file_create(writer, path, saving->errors)) return false;
    writer->blocks = blocks;
    return true;
}

static bool finish_file(Saving *saving, FileWriter *writer, const char *name) {
    char hash[HASH_HEX];
    bool good = file_finish(writer, hash, saving->errors);
    ManifestFile file = {name, hash, text_string(writer->blocks), (int64_t)writer->size};
    if (good) manifest_add(&saving->manifest, &file);
    text_close(writer->blocks);
    return good;
}

static bool save_tensors(Saving *saving, const Kernels *kernels, const CheckpointTensors *tensors) {
    FileWriter writer;
    Text blocks = {0};
    if (!begin_file(saving, &writer, tensors->file, &blocks)) return false;
    safetensors_write(&writer, kernels, tensors->tensors, tensors->count, tensors->dtype);
    return finish_file(saving, &writer, tensors->file);
}

static bool save_text(Saving *saving, const CheckpointText *text) {
    FileWriter writer;
    Text blocks = {0};
    if (!begin_file(saving, &writer, text->file, &blocks)) return false;
    file_write(&writer, text->text, strlen(text->text));
    return finish_file(saving, &writer, text->file);
}

static bool save_files(const char *directory, const Kernels *kernels, const CheckpointContent *content,
                       Errors *errors) {
    Saving saving = {.directory = directory, .errors = errors};
    manifest_begin(&saving.manifest, content->step, true);
    bool good = directory_make(directory, errors);
    for (int i = 0; good && i < content->tensor_files; i++) good = save_tensors(&saving, kernels, &content->tensors[i]);
    for (int i = 0; good && i < content->text_files; i++) good = save_text(&saving, &content->texts[i]);
    good = good && manifest_write(&saving.manifest, directory, errors) && directory_sync(directory, errors);
    text_close(&saving.manifest.text);
    return good;
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
    checkpoint_clear(checkpoints);
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
