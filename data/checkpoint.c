// Checkpoints. A directory is complete or it is not there: its manifest is written last, and only then does it get its
// name; it loses the name before anything in it is removed. What an interrupted save or removal leaves is called
// step_N.tmp and removed by the next save: a run directory has one writer.
#include "data/checkpoint.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/json.h"

enum { MANIFEST_LIMIT = 1 << 22 };
static const char MANIFEST[] = "manifest.json", FOLDER[] = "checkpoints", UNFINISHED[] = ".tmp";

static void directory_of_run(char out[4096], const char *run_dir) { path_join(out, run_dir, FOLDER); }

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

static void remove_leftovers(const char *checkpoints) {
    Errors ignored = {0};
    TextList names = {0};
    directory_list(&names, checkpoints, &ignored);
    for (int64_t i = 0; i < names.count; i++) {
        const char *mark = strrchr(names.items[i], '.');
        if (!mark || strcmp(mark, UNFINISHED) != 0) continue;
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

static void step_path(char out[4096], const char *checkpoints, int64_t step, const char *ending) {
    char name[64];
    snprintf(name, sizeof name, "step_%08ld%s", step, ending);
    path_join(out, checkpoints, name);
}

bool checkpoint_save(const char *run_dir, const Kernels *kernels, const CheckpointContent *content, char path[4096],
                     Errors *errors) {
    char checkpoints[4096], final[4096], beside[4096];
    directory_of_run(checkpoints, run_dir);
    bool first = !path_exists(checkpoints);
    if (!directory_make(checkpoints, errors) || (first && !directory_sync(run_dir, errors))) return false;
    remove_leftovers(checkpoints);
    step_path(final, checkpoints, content->step, "");
    step_path(beside, checkpoints, content->step, UNFINISHED);
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

static void check_file(const char *checkpoint, const Listed *listed, Errors *errors) {
    char path[4096], hash[HASH_HEX];
    uint64_t size = 0;
    path_join(path, checkpoint, listed->name);
    if (!path_size(path, &size)) {
        errors_add(errors, EXIT_CHECKPOINT, "%s: the file is missing from the checkpoint", path);
    } else if ((int64_t)size != listed->size) {
        errors_add(errors, EXIT_CHECKPOINT, "%s: %lu bytes, expected %ld; the file was cut short or added to", path,
                   size, listed->size);
    } else if (file_hash(path, hash, &size, EXIT_CHECKPOINT, errors) && strcmp(hash, listed->hash) != 0) {
        errors_add(errors, EXIT_CHECKPOINT, "%s: its checksum is %s, expected %s; the file is damaged", path, hash,
                   listed->hash);
    }
}

static bool check_files(const char *checkpoint, Errors *errors) {
    Json *json = open_manifest(checkpoint, errors);
    if (!json) return false;
    int before = errors->count;
    const cJSON *node;
    cJSON_ArrayForEach(node, json_member(json_root(json), "files")) {
        Listed listed;
        if (read_listed(node, &listed)) check_file(checkpoint, &listed, errors);
        else errors_add(errors, EXIT_CHECKPOINT, "%s/%s: an entry is not a file", checkpoint, MANIFEST);
    }
    json_close(json);
    return errors->count == before;
}

// ---- finding ----

typedef struct {
    int64_t *items; // ascending
    int64_t count;
} Steps;

static int ascending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

// Steps of a run's checkpoints; items are freed by the caller, whatever the result. No folder: none.
static bool list_steps(Steps *steps, const char *checkpoints, Errors *errors) {
    TextList names = {0};
    *steps = (Steps){0};
    bool good = !path_exists(checkpoints) || directory_list(&names, checkpoints, errors);
    steps->items = malloc((size_t)(names.count + 1) * sizeof *steps->items);
    if (!steps->items) DIE(EXIT_INTERNAL, "out of memory: %ld checkpoints", names.count);
    for (int64_t i = 0; i < names.count; i++)
        if (step_of(names.items[i]) >= 0) steps->items[steps->count++] = step_of(names.items[i]);
    qsort(steps->items, (size_t)steps->count, sizeof *steps->items, ascending);
    text_list_close(&names);
    return good;
}

static bool has_manifest(const char *directory) {
    char path[4096];
    path_join(path, directory, MANIFEST);
    return path_exists(path);
}

bool checkpoint_find(const char *run_or_checkpoint, char path[4096], Errors *errors) {
    char checkpoints[4096];
    Steps steps;
    if (has_manifest(run_or_checkpoint)) {
        snprintf(path, 4096, "%s", run_or_checkpoint);
        return true;
    }
    directory_of_run(checkpoints, run_or_checkpoint);
    bool good = list_steps(&steps, checkpoints, errors), found = false;
    for (int64_t i = steps.count - 1; i >= 0 && !found; i--) {
        step_path(path, checkpoints, steps.items[i], "");
        found = has_manifest(path);
    }
    if (!found) path[0] = 0;
    free(steps.items);
    return good;
}

// Cuts the last part off a path and returns where it begins; NULL when nothing would be left.
static const char *cut_last(char *path) {
    char *slash = strrchr(path, '/');
    if (!slash || slash == path) return NULL;
    *slash = 0;
    return slash + 1;
}

bool checkpoint_run(const char *run_or_checkpoint, char run_dir[4096], Errors *errors) {
    char real[PATH_MAX], given[4096];
    snprintf(run_dir, 4096, "%s", run_or_checkpoint);
    if (!has_manifest(run_or_checkpoint) || !realpath(run_or_checkpoint, real)) return true;
    snprintf(given, sizeof given, "%s", run_or_checkpoint);
    const char *name = cut_last(real), *folder = name ? cut_last(real) : NULL;
    if (!folder || step_of(name) < 0 || strcmp(folder, FOLDER) != 0)
        return errors_add(errors, EXIT_USAGE,
                          "%s: a checkpoint outside a run; name the run, or a checkpoint RUN/%s/step_N in it",
                          run_or_checkpoint, FOLDER);
    const char *given_name = cut_last(given), *given_folder = given_name ? cut_last(given) : NULL;
    bool same = given_folder && strcmp(given_folder, folder) == 0 && strcmp(given_name, name) == 0;
    snprintf(run_dir, 4096, "%s", same ? given : real);
    return true;
}

// The newest one before `checkpoint` in its folder; empty where there is none.
static void find_older(const char *checkpoint, char path[4096]) {
    char folder[4096];
    Steps steps = {0};
    Errors ignored = {0};
    snprintf(folder, sizeof folder, "%s", checkpoint);
    const char *name = cut_last(folder);
    path[0] = 0;
    if (name && step_of(name) >= 0) list_steps(&steps, folder, &ignored);
    for (int64_t i = 0; i < steps.count && steps.items[i] < step_of(name); i++) {
        char one[4096];
        step_path(one, folder, steps.items[i], "");
        if (has_manifest(one)) strcpy(path, one);
    }
    free(steps.items);
    errors_close(&ignored);
}

bool checkpoint_verify(const char *path, Errors *errors) {
    char older[4096];
    if (check_files(path, errors)) return true;
    find_older(path, older);
    return errors_add(errors, EXIT_CHECKPOINT, "%s: damaged; %s%s", path,
                      *older ? "the one before it is " : "there is no older checkpoint beside it", older);
}

// ---- setting aside and pruning ----

bool checkpoint_set_aside(const char *run_dir, int64_t step, int64_t *count, Errors *errors) {
    char checkpoints[4096], path[4096], aside[4096], ending[32];
    Steps steps;
    directory_of_run(checkpoints, run_dir);
    bool good = list_steps(&steps, checkpoints, errors);
    *count = 0;
    for (int64_t i = steps.count - 1; good && i >= 0 && steps.items[i] > step; i--) {
        step_path(path, checkpoints, steps.items[i], "");
        for (int k = 1, taken = true; taken; k++) {
            snprintf(ending, sizeof ending, ".orphan-%d", k);
            step_path(aside, checkpoints, steps.items[i], ending);
            taken = path_exists(aside);
        }
        good = path_rename(path, aside, errors);
        *count += good;
    }
    free(steps.items);
    return good && (*count == 0 || directory_sync(checkpoints, errors));
}

bool checkpoint_prune(const char *run_dir, int64_t newest, int64_t keep, Errors *errors) {
    char checkpoints[4096], path[4096], unnamed[4096];
    Steps steps;
    directory_of_run(checkpoints, run_dir);
    bool good = list_steps(&steps, checkpoints, errors);
    int64_t count = 0;
    while (count < steps.count && steps.items[count] <= newest) count++;
    for (int64_t i = 0; keep > 0 && good && i + keep < count; i++) {
        step_path(path, checkpoints, steps.items[i], "");
        step_path(unnamed, checkpoints, steps.items[i], UNFINISHED);
        if (!has_manifest(path)) continue; // not ours
        good = path_rename(path, unnamed, errors) && directory_remove(unnamed, errors);
    }
    free(steps.items);
    return good;
}
