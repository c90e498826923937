// Checkpoints, kept, reduced to models, and removed; and room for the next one. One that is removed loses its name
// before anything in it is.
#include <stdlib.h>

#include "data/checkpoint_parts.h"
#include "runtime/memory.h"

typedef enum { KEEP, REDUCE, REMOVE } Fate;

typedef struct {
    int64_t step;
    bool state, model; // what it holds
    bool always;       // stays as it is
    Fate fate;
} Kept;

typedef struct {
    char checkpoints[4096];
    Kept *items; // by step; freed by the caller
    int64_t count;
} KeptList;

static bool is_always(const Retention *retention, int64_t step) {
    for (int64_t i = 0; i < retention->always_count; i++)
        if (retention->always[i] == step) return true;
    return retention->every > 0 && step >= retention->since && step % retention->every == 0;
}

// One without a readable manifest is not ours.
static bool look(Kept *kept, const char *checkpoints, int64_t step, const Retention *retention) {
    char path[4096];
    Manifest manifest;
    Errors ignored = {0};
    checkpoint_step_path(path, checkpoints, step, "");
    bool known = manifest_open(&manifest, path, &ignored);
    *kept = (Kept){.step = step, .always = is_always(retention, step)};
    for (int64_t i = 0; i < manifest.count; i++) {
        if (checkpoint_is_state(manifest.files[i].name)) kept->state = true;
        else kept->model = true;
    }
    manifest_close(&manifest);
    errors_close(&ignored);
    return known;
}

static bool list_kept(KeptList *list, const char *run_dir, int64_t newest, const Retention *retention, Errors *errors) {
    Steps steps;
    checkpoint_folder(list->checkpoints, run_dir);
    bool good = checkpoint_list_steps(&steps, list->checkpoints, errors);
    list->count = 0;
    list->items = memory_take(steps.count, sizeof *list->items, "checkpoints");
    for (int64_t i = 0; i < steps.count && steps.items[i] <= newest; i++)
        list->count += look(&list->items[list->count], list->checkpoints, steps.items[i], retention);
    free(steps.items);
    return good;
}

// `full`: newer full checkpoints than those of the list.
static void decide(KeptList *list, const Retention *retention, int64_t full) {
    int64_t models = 0;
    for (int64_t i = list->count - 1; i >= 0; i--) {
        Kept *kept = &list->items[i];
        bool recent = kept->state && (retention->keep == 0 || full++ < retention->keep);
        kept->fate = kept->state ? REDUCE : KEEP;
        if (recent || kept->always) kept->fate = KEEP;
        else if (!kept->model || (retention->keep_models >= 0 && models++ >= retention->keep_models))
            kept->fate = REMOVE;
    }
}

static bool remove_whole(const char *path, const char *beside, Errors *errors) {
    return directory_remove(beside, errors) && path_rename(path, beside, errors) &&
           directory_remove(beside, errors);
}

// All but the state, and files that somebody else put there.
static bool link_files(const char *path, const char *beside, Errors *errors) {
    TextList names = {0};
    bool good = directory_list(&names, path, errors);
    for (int64_t i = 0; good && i < names.count; i++) {
        char from[4096], to[4096];
        uint64_t size;
        path_join(from, path, names.items[i]);
        path_join(to, beside, names.items[i]);
        bool wanted = !checkpoint_is_state(names.items[i]) && strcmp(names.items[i], CHECKPOINT_MANIFEST) != 0;
        if (wanted && path_size(from, &size)) good = file_link(from, to, errors);
    }
    text_list_close(&names);
    return good;
}

static bool write_model(const char *path, const char *beside, Errors *errors) {
    Manifest manifest;
    ManifestWriter writer = {0};
    bool good = manifest_open(&manifest, path, errors) && directory_make(beside, errors) &&
                link_files(path, beside, errors);
    if (good) manifest_begin(&writer, manifest.step, manifest.blocks);
    for (int64_t i = 0; good && i < manifest.count; i++)
        if (!checkpoint_is_state(manifest.files[i].name)) manifest_add(&writer, &manifest.files[i]);
    good = good && manifest_write(&writer, beside, errors) && directory_sync(beside, errors);
    text_close(&writer.text);
    manifest_close(&manifest);
    return good;
}

static bool reduce(const char *checkpoints, const char *path, const char *beside, Errors *errors) {
    Errors ignored = {0};
    bool good = directory_remove(beside, errors) && write_model(path, beside, errors) &&
                path_exchange(beside, path, errors) && directory_sync(checkpoints, errors) &&
                directory_remove(beside, errors);
    if (!good) directory_remove(beside, &ignored);
    errors_close(&ignored);
    return good;
}

// Removals first: they need no space.
static bool apply(const KeptList *list, Errors *errors) {
    bool good = true;
    for (Fate fate = REMOVE; fate > KEEP; fate--) {
        for (int64_t i = 0; good && i < list->count; i++) {
            char path[4096], beside[4096];
            if (list->items[i].fate != fate) continue;
            checkpoint_step_path(path, list->checkpoints, list->items[i].step, "");
            checkpoint_step_path(beside, list->checkpoints, list->items[i].step, CHECKPOINT_UNFINISHED);
            good = fate == REMOVE ? remove_whole(path, beside, errors)
                                  : reduce(list->checkpoints, path, beside, errors);
        }
    }
    return good;
}

bool checkpoint_retain(const char *run_dir, int64_t newest, const Retention *retention, Errors *errors) {
    KeptList list;
    bool good = list_kept(&list, run_dir, newest, retention, errors);
    decide(&list, retention, 0);
    good = good && apply(&list, errors);
    free(list.items);
    return good;
}

// ---- room ----

enum { RESERVE = 8 << 20, HEADER_BYTES = 4096, ENTRY_BYTES = 256 };

// About what a checkpoint takes: data, headers, hashes of blocks, directory.
uint64_t checkpoint_bytes(const CheckpointContent *content) {
    uint64_t bytes = HEADER_BYTES;
    for (int i = 0; i < content->text_files; i++) bytes += strlen(content->texts[i].text);
    for (int i = 0; i < content->tensor_files; i++) {
        const CheckpointTensors *file = &content->tensors[i];
        bytes += HEADER_BYTES;
        for (int64_t k = 0; k < file->count; k++)
            bytes += ENTRY_BYTES + (uint64_t)tensor_count(file->tensors[k].tensor) * dtype_bytes(file->dtype);
    }
    return bytes + bytes / FILE_BLOCK * BLOCK_HEX;
}

// The newest full checkpoint that is whole stays; where none is, nothing is touched.
static bool protect_newest(KeptList *list) {
    bool found = false;
    for (int64_t i = list->count - 1; i >= 0 && !found; i--) {
        char path[4096];
        Errors ignored = {0};
        checkpoint_step_path(path, list->checkpoints, list->items[i].step, "");
        found = list->items[i].state && checkpoint_check(path, &ignored);
        list->items[i].always = list->items[i].always || found;
        errors_close(&ignored);
    }
    return found;
}

static void make_room(const char *run_dir, int64_t step, const Retention *retention) {
    KeptList list;
    Errors ignored = {0};
    bool good = list_kept(&list, run_dir, step - 1, retention, &ignored);
    if (good && protect_newest(&list)) {
        decide(&list, retention, 1);
        apply(&list, &ignored);
    }
    free(list.items);
    errors_close(&ignored);
}

// The folder of checkpoints may be a link to another disk.
static bool has_room(const char *run_dir, uint64_t needed, FreeBytes *free_bytes, uint64_t *left) {
    char checkpoints[4096];
    checkpoint_folder(checkpoints, run_dir);
    return !free_bytes(path_exists(checkpoints) ? checkpoints : run_dir, left) || *left >= needed;
}

static bool tell_no_room(const char *run_dir, uint64_t needed, uint64_t left, Errors *errors) {
    enum { TOLD = 4 };
    char a[TEXT_NUMBER], b[TEXT_NUMBER];
    TextList checkpoints = {0}, others = {0};
    Text list = {0};
    Errors ignored = {0};
    checkpoint_names(run_dir, &checkpoints, &others, &ignored);
    for (int64_t i = 0; i < others.count && i < TOLD; i++)
        text_printf(&list, "%s%s (%s)", i ? ", " : ", or remove what no run reads: ", others.items[i],
                    text_bytes(a, (double)directory_bytes(others.items[i])));
    if (others.count > TOLD) text_printf(&list, " and %ld more", others.count - TOLD);
    errors_add(errors, EXIT_CANNOT_WRITE, "%s: a checkpoint needs %s of disk, %s are free; free some space, lower "
               "checkpoint.keep or checkpoint.keep_models%s", run_dir, text_bytes(a, (double)needed),
               text_bytes(b, (double)left), text_string(&list));
    text_list_close(&checkpoints);
    text_list_close(&others);
    text_close(&list);
    errors_close(&ignored);
    return false;
}

bool checkpoint_room(const char *run_dir, int64_t step, uint64_t bytes, const Retention *retention,
                     FreeBytes *free_bytes, Errors *errors) {
    char checkpoints[4096];
    uint64_t needed = bytes + bytes / 10 + RESERVE, left = 0;
    if (has_room(run_dir, needed, free_bytes, &left)) return true;
    checkpoint_folder(checkpoints, run_dir);
    checkpoint_clear(checkpoints);
    if (retention) make_room(run_dir, step, retention);
    return has_room(run_dir, needed, free_bytes, &left) || tell_no_room(run_dir, needed, left, errors);
}
