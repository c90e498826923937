// Checkpoints. A directory is complete or it is not there: its manifest is written last, and only then does it get its
// name. What an interrupted save leaves is called step_N.tmp-PID and removed by the next save.
#include "data/checkpoint.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/json.h"

enum { MANIFEST_LIMIT = 1 << 22 };
static const char MANIFEST[] = "manifest.json";

static void directory_of_run(char out[4096], const char *run_dir) { path_join(out, run_dir, "checkpoints"); }

// The step of "step_00001000", or -1 for any other name.
static int64_t step_of(const char *name) {
    static const char prefix[] = "step_";
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) return -1;
    const char *digits = name + sizeof prefix - 1;
    size_t count = strspn(digits, "0123456789");
    return count >= 8 && count <= 18 && !digits[count] ? strtoll(digits, NULL, 10) : -1;
}

// ---- saving ----

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
    path_join(path, saving->directory, MANIFEST);
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

// Directories that a process which is no more left behind.
static void remove_leftovers(const char *checkpoints) {
    Errors ignored = {0};
    TextList names = {0};
    directory_list(&names, checkpoints, &ignored);
    for (int64_t i = 0; i < names.count; i++) {
        const char *mark = strstr(names.items[i], ".tmp-");
        long pid = mark ? strtol(mark + 5, NULL, 10) : 0;
        if (pid <= 0 || (pid != getpid() && kill((pid_t)pid, 0) == 0)) continue;
        char path[4096];
        path_join(path, checkpoints, names.items[i]);
        directory_remove(path, &ignored);
    }
    text_list_close(&names);
    errors_close(&ignored);
}

static bool take_name(const char *beside, const char *final, Errors *errors) {
    if (!path_exists(final)) return path_rename(beside, final, errors);
    return path_exchange(beside, final, errors) && directory_remove(beside, errors);
}

bool checkpoint_save(const char *run_dir, const Kernels *kernels, const CheckpointContent *content, char path[4096],
                     Errors *errors) {
    char checkpoints[4096], final[4096], beside[4096], name[64];
    directory_of_run(checkpoints, run_dir);
    if (!directory_make(checkpoints, errors)) return false;
    remove_leftovers(checkpoints);
    snprintf(name, sizeof name, "step_%08ld", content->step);
    path_join(final, checkpoints, name);
    snprintf(name, sizeof name, "step_%08ld.tmp-%d", content->step, (int)getpid());
    path_join(beside, checkpoints, name);
    bool good = save_files(beside, kernels, content, errors) && take_name(beside, final, errors) &&
                directory_sync(checkpoints, errors);
    Errors ignored = {0};
    if (!good) directory_remove(beside, &ignored);
    errors_close(&ignored);
    if (good && path) strcpy(path, final);
    return good;
}

// ---- manifests ----

static Json *open_manifest(const char *checkpoint, Errors *errors) {
    char path[4096], hash[HASH_HEX];
    File file;
    path_join(path, checkpoint, MANIFEST);
    if (!file_read(&file, path, MANIFEST_LIMIT, EXIT_CHECKPOINT, errors)) return NULL;
    Json *json = json_parse(path, file.bytes, file.size, EXIT_CHECKPOINT, errors);
    const cJSON *own = json ? json_member(json_root(json), "xxh3") : NULL;
    const char *end = strstr(file.bytes, "],\n  \"xxh3\"");
    if (end) bytes_hash(file.bytes, (size_t)(end - file.bytes) + 1, hash);
    bool good = json && end && cJSON_IsString(own) && strcmp(own->valuestring, hash) == 0 &&
                cJSON_IsArray(json_member(json_root(json), "files"));
    file_close(&file);
    if (good) return json;
    if (json) errors_add(errors, EXIT_CHECKPOINT, "%s: its own checksum does not match; the file is damaged", path);
    json_close(json);
    return NULL;
}

// A file that the manifest lists: a plain name, a size, a hash.
typedef struct {
    const char *name, *hash;
    int64_t size;
} Listed;

static bool read_listed(const cJSON *node, Listed *listed) {
    const cJSON *name = json_member(node, "name"), *hash = json_member(node, "xxh3");
    if (!cJSON_IsString(name) || !cJSON_IsString(hash) || strchr(name->valuestring, '/')) return false;
    *listed = (Listed){name->valuestring, hash->valuestring, 0};
    return json_is_integer(json_member(node, "size"), &listed->size);
}

static void check_file(const char *checkpoint, const Listed *listed, bool contents, Errors *errors) {
    char path[4096], hash[HASH_HEX];
    uint64_t size = 0;
    path_join(path, checkpoint, listed->name);
    if (!path_size(path, &size)) {
        errors_add(errors, EXIT_CHECKPOINT, "%s: the file is missing from the checkpoint", path);
    } else if ((int64_t)size != listed->size) {
        errors_add(errors, EXIT_CHECKPOINT, "%s: %lu bytes, expected %ld; the file was cut short or added to", path,
                   size, listed->size);
    } else if (contents && file_hash(path, hash, &size, EXIT_CHECKPOINT, errors) && strcmp(hash, listed->hash) != 0) {
        errors_add(errors, EXIT_CHECKPOINT, "%s: its checksum is %s, expected %s; the file is damaged", path, hash,
                   listed->hash);
    }
}

static bool check_files(const char *checkpoint, bool contents, Errors *errors) {
    Json *json = open_manifest(checkpoint, errors);
    if (!json) return false;
    int before = errors->count;
    const cJSON *node;
    cJSON_ArrayForEach(node, json_member(json_root(json), "files")) {
        Listed listed;
        if (read_listed(node, &listed)) check_file(checkpoint, &listed, contents, errors);
        else errors_add(errors, EXIT_CHECKPOINT, "%s/%s: an entry is not a file", checkpoint, MANIFEST);
    }
    json_close(json);
    if (errors->count == before) return true;
    return errors_add(errors, EXIT_CHECKPOINT, "%s: damaged; use an older checkpoint of the run, by its path",
                      checkpoint);
}

bool checkpoint_verify(const char *path, Errors *errors) { return check_files(path, true, errors); }

// ---- finding and pruning ----

static int ascending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

// Steps of a run's checkpoints, ascending; freed by the caller.
static int64_t *list_steps(const char *checkpoints, int64_t *count) {
    Errors ignored = {0};
    TextList names = {0};
    directory_list(&names, checkpoints, &ignored);
    int64_t *steps = malloc((size_t)(names.count + 1) * sizeof *steps);
    if (!steps) DIE(EXIT_INTERNAL, "out of memory: %ld checkpoints", names.count);
    *count = 0;
    for (int64_t i = 0; i < names.count; i++)
        if (step_of(names.items[i]) >= 0) steps[(*count)++] = step_of(names.items[i]);
    qsort(steps, (size_t)*count, sizeof *steps, ascending);
    text_list_close(&names);
    errors_close(&ignored);
    return steps;
}

static void step_path(char out[4096], const char *checkpoints, int64_t step) {
    char name[64];
    snprintf(name, sizeof name, "step_%08ld", step);
    path_join(out, checkpoints, name);
}

static bool has_manifest(const char *directory) {
    char path[4096];
    path_join(path, directory, MANIFEST);
    return path_exists(path);
}

bool checkpoint_find(const char *run_or_checkpoint, char path[4096], Errors *errors) {
    char checkpoints[4096];
    if (has_manifest(run_or_checkpoint)) {
        snprintf(path, 4096, "%s", run_or_checkpoint);
        return true;
    }
    directory_of_run(checkpoints, run_or_checkpoint);
    int64_t count, *steps = list_steps(checkpoints, &count);
    bool found = false;
    for (int64_t i = count - 1; i >= 0 && !found; i--) {
        step_path(path, checkpoints, steps[i]);
        found = has_manifest(path);
    }
    free(steps);
    return found ||
           errors_add(errors, EXIT_NO_INPUT,
                      "%s: neither a checkpoint nor a run with one; looked for %s/step_*/%s; name a run directory "
                      "that `train_gpt train` made",
                      run_or_checkpoint, checkpoints, MANIFEST);
}

bool checkpoint_prune(const char *run_dir, int64_t keep, Errors *errors) {
    char checkpoints[4096], path[4096], manifest[4096];
    directory_of_run(checkpoints, run_dir);
    int64_t count, *steps = list_steps(checkpoints, &count);
    bool good = true;
    for (int64_t i = 0; keep > 0 && good && i + keep < count; i++) {
        step_path(path, checkpoints, steps[i]);
        path_join(manifest, path, MANIFEST);
        if (!has_manifest(path)) continue; // not complete: not ours to judge
        good = file_remove(manifest, errors) && directory_remove(path, errors);
    }
    free(steps);
    return good;
}
