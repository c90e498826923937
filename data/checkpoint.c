// Checkpoints, saved. A directory is complete or it is not there: its manifest is written last, and only then does it
// get its name. What an interrupted save or removal leaves is called step_N.tmp and removed by the next save: a run
// directory has one writer.
#include <stdlib.h>
#include <string.h>

#include "data/checkpoint_parts.h"
#include "runtime/memory.h"

// Files of one rank on their way.
typedef struct {
    const char *directory;
    Text *part; // a line for each file that is written: NAME SIZE HASH BLOCKS
    Errors *errors;
} Saving;

static bool begin_file(const Saving *saving, FileWriter *writer, const char *name, Text *blocks) {
    char path[4096];
    path_join(path, saving->directory, name);
    if (!file_create(writer, path, saving->errors)) return false;
    writer->blocks = blocks;
    return true;
}

static bool finish_file(const Saving *saving, FileWriter *writer, const char *name) {
    char hash[HASH_HEX];
    bool good = file_finish(writer, hash, saving->errors);
    if (good) text_printf(saving->part, "%s %lu %s %s\n", name, writer->size, hash, text_string(writer->blocks));
    text_close(writer->blocks);
    return good;
}

static bool save_tensors(const Saving *saving, const Kernels *kernels, const CheckpointTensors *tensors) {
    FileWriter writer;
    Text blocks = {0};
    if (!begin_file(saving, &writer, tensors->file, &blocks)) return false;
    safetensors_write(&writer, kernels, tensors->tensors, tensors->count, tensors->dtype);
    return finish_file(saving, &writer, tensors->file);
}

static bool save_text(const Saving *saving, const CheckpointText *text) {
    FileWriter writer;
    Text blocks = {0};
    if (!begin_file(saving, &writer, text->file, &blocks)) return false;
    file_write(&writer, text->text, strlen(text->text));
    return finish_file(saving, &writer, text->file);
}

// ---- in stages ----

static void place(char final[4096], char beside[4096], const char *run_dir, int64_t step) {
    char checkpoints[4096];
    checkpoint_folder(checkpoints, run_dir);
    checkpoint_step_path(final, checkpoints, step, "");
    checkpoint_step_path(beside, checkpoints, step, CHECKPOINT_UNFINISHED);
}

bool checkpoint_begin(const char *run_dir, int64_t step, Errors *errors) {
    char checkpoints[4096], final[4096], beside[4096];
    checkpoint_folder(checkpoints, run_dir);
    place(final, beside, run_dir, step);
    bool first = !path_exists(checkpoints);
    if (!directory_make(checkpoints, errors) || (first && !directory_sync(run_dir, errors))) return false;
    checkpoint_clear(checkpoints);
    return directory_make(beside, errors);
}

bool checkpoint_write(const char *run_dir, const Kernels *kernels, const CheckpointContent *content, Text *part,
                      Errors *errors) {
    char final[4096], beside[4096];
    place(final, beside, run_dir, content->step);
    Saving saving = {beside, part, errors};
    if (!path_is_directory(beside))
        return errors_add(errors, EXIT_CANNOT_WRITE, "%s: the directory is not here, though rank 0 made it; run.dir "
                          "must be on a file system that all ranks share", beside);
    bool good = true;
    for (int i = 0; good && i < content->tensor_files; i++) good = save_tensors(&saving, kernels, &content->tensors[i]);
    for (int i = 0; good && i < content->text_files; i++) good = save_text(&saving, &content->texts[i]);
    return good;
}

// The next word of a line, which is cut out of it; "" where there is none.
static char *take_word(char **line) {
    char *word = *line;
    size_t size = strcspn(word, " ");
    *line = word + size + (word[size] == ' ');
    word[size] = 0;
    return word;
}

// The files of a part, to the manifest. They must be here as they were written.
static bool add_part(ManifestWriter *manifest, const char *beside, const Text *part, Errors *errors) {
    bool good = true;
    char *copy = memory_string(text_string(part)), *rest = copy, *line;
    while (good && (line = strsep(&rest, "\n")) && *line) {
        char path[4096];
        uint64_t there = 0;
        ManifestFile file = {.name = take_word(&line)};
        file.size = strtoll(take_word(&line), NULL, 10);
        file.hash = take_word(&line);
        file.blocks = line;
        path_join(path, beside, file.name);
        if (!path_size(path, &there) || there != (uint64_t)file.size)
            good = errors_add(errors, EXIT_CANNOT_WRITE, "%s: %lu bytes, where %ld were written; run.dir must be on a "
                              "file system that all ranks share", path, there, file.size);
        else
            manifest_add(manifest, &file);
    }
    free(copy);
    return good;
}

// A checkpoint that had the name is removed; where that fails the new one is in place all the same.
static bool take_name(const char *beside, const char *final, Errors *errors) {
    if (!path_exists(final)) return path_rename(beside, final, errors);
    bool exchanged = path_exchange(beside, final, errors);
    if (exchanged) directory_remove(beside, errors);
    return exchanged;
}

bool checkpoint_commit(const char *run_dir, int64_t step, const Text *parts, int count, Errors *errors) {
    char checkpoints[4096], final[4096], beside[4096];
    ManifestWriter manifest;
    checkpoint_folder(checkpoints, run_dir);
    place(final, beside, run_dir, step);
    manifest_begin(&manifest, step, true);
    bool good = true;
    for (int i = 0; good && i < count; i++) good = add_part(&manifest, beside, &parts[i], errors);
    good = good && manifest_write(&manifest, beside, errors) && directory_sync(beside, errors);
    text_close(&manifest.text);
    return good && take_name(beside, final, errors) && directory_sync(checkpoints, errors);
}

void checkpoint_drop(const char *run_dir, int64_t step) {
    char final[4096], beside[4096];
    Errors ignored = {0};
    place(final, beside, run_dir, step);
    directory_remove(beside, &ignored);
    errors_close(&ignored);
}

bool checkpoint_save(const char *run_dir, const Kernels *kernels, const CheckpointContent *content, char path[4096],
                     Errors *errors) {
    char final[4096], beside[4096];
    Text part = {0};
    place(final, beside, run_dir, content->step);
    bool good = checkpoint_begin(run_dir, content->step, errors) &&
                checkpoint_write(run_dir, kernels, content, &part, errors) &&
                checkpoint_commit(run_dir, content->step, &part, 1, errors);
    if (!good) checkpoint_drop(run_dir, content->step);
    text_close(&part);
    if (good && path) strcpy(path, final);
    return good;
}
