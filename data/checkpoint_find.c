// Checkpoints, found by the names in a run's folder, and set aside there.
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/checkpoint_parts.h"
#include "runtime/memory.h"

// ---- names ----

void checkpoint_folder(char out[4096], const char *run_dir) { path_join(out, run_dir, CHECKPOINT_FOLDER); }

int64_t checkpoint_step_of(const char *name) {
    static const char prefix[] = "step_";
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) return -1;
    const char *digits = name + sizeof prefix - 1;
    size_t count = strspn(digits, "0123456789");
    bool ours = (count == 8 || (count > 8 && *digits != '0')) && count <= 18; // as checkpoint_step_path writes it
    return ours && !digits[count] ? strtoll(digits, NULL, 10) : -1;
}

int64_t checkpoint_directory_step(const char *checkpoint) {
    char real[PATH_MAX];
    const char *slash = realpath(checkpoint, real) ? strrchr(real, '/') : NULL;
    return slash ? checkpoint_step_of(slash + 1) : -1;
}

void checkpoint_step_path(char out[4096], const char *checkpoints, int64_t step, const char *ending) {
    char name[128];
    snprintf(name, sizeof name, "step_%08ld%.64s", step, ending);
    path_join(out, checkpoints, name);
}

bool checkpoint_has_manifest(const char *directory) {
    char path[4096];
    path_join(path, directory, CHECKPOINT_MANIFEST);
    return path_exists(path);
}

static int ascending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

bool checkpoint_list_steps(Steps *steps, const char *checkpoints, Errors *errors) {
    TextList names = {0};
    *steps = (Steps){0};
    bool good = !path_exists(checkpoints) || directory_list(&names, checkpoints, errors);
    steps->items = memory_take(names.count, sizeof *steps->items, "checkpoints");
    for (int64_t i = 0; i < names.count; i++)
        if (checkpoint_step_of(names.items[i]) >= 0) steps->items[steps->count++] = checkpoint_step_of(names.items[i]);
    qsort(steps->items, (size_t)steps->count, sizeof *steps->items, ascending);
    text_list_close(&names);
    return good;
}

bool checkpoint_names(const char *run_dir, TextList *checkpoints, TextList *others, Errors *errors) {
    char folder[4096];
    TextList names = {0};
    checkpoint_folder(folder, run_dir);
    bool good = !path_exists(folder) || directory_list(&names, folder, errors);
    for (int64_t i = 0; i < names.count; i++) {
        char path[4096];
        bool ours = checkpoint_step_of(names.items[i]) >= 0;
        path_join(path, folder, names.items[i]);
        if (ours || strncmp(names.items[i], "step_", 5) == 0) text_list_add(ours ? checkpoints : others, path);
    }
    text_list_close(&names);
    return good;
}

static bool ends_with(const char *name, const char *ending) {
    const char *mark = strrchr(name, '.');
    return mark && strcmp(mark, ending) == 0;
}

static void clear_one(const char *checkpoints, const char *name, Errors *errors) {
    char path[4096], whole[4096];
    path_join(path, checkpoints, name);
    snprintf(whole, sizeof whole, "%.*s", (int)(strrchr(path, '.') - path), path);
    bool exchanged = ends_with(name, ".exchange"); // by path_exchange, where it takes three renames
    if (exchanged && !path_exists(whole)) path_rename(path, whole, errors);
    else if (exchanged || ends_with(name, CHECKPOINT_UNFINISHED)) directory_remove(path, errors);
}

void checkpoint_clear(const char *checkpoints) {
    Errors ignored = {0};
    TextList names = {0};
    directory_list(&names, checkpoints, &ignored);
    for (int64_t i = 0; i < names.count; i++)
        if (strncmp(names.items[i], "step_", 5) == 0 && strchr(names.items[i], '.'))
            clear_one(checkpoints, names.items[i], &ignored);
    text_list_close(&names);
    errors_close(&ignored);
}

// ---- finding ----

bool checkpoint_is(const char *path) {
    char inner[4096];
    path_join(inner, path, CHECKPOINT_FOLDER);
    return checkpoint_has_manifest(path) ||
           (path_is_directory(path) && checkpoint_directory_step(path) >= 0 && !path_exists(inner));
}

bool checkpoint_find(const char *run_or_checkpoint, char path[4096], Errors *errors) {
    char checkpoints[4096];
    Steps steps;
    if (checkpoint_is(run_or_checkpoint)) {
        snprintf(path, 4096, "%s", run_or_checkpoint);
        return true;
    }
    checkpoint_folder(checkpoints, run_or_checkpoint);
    bool good = checkpoint_list_steps(&steps, checkpoints, errors);
    path[0] = 0;
    if (steps.count > 0) checkpoint_step_path(path, checkpoints, steps.items[steps.count - 1], "");
    free(steps.items);
    return good;
}

bool checkpoint_at(const char *run_dir, int64_t step, char path[4096]) {
    char checkpoints[4096];
    checkpoint_folder(checkpoints, run_dir);
    checkpoint_step_path(path, checkpoints, step, "");
    return path_exists(path);
}

// Cuts the last part off a path and returns where it begins; NULL when nothing would be left.
static const char *cut_last(char *path) {
    char *slash = strrchr(path, '/');
    if (!slash || slash == path) return NULL;
    *slash = 0;
    return slash + 1;
}

// Cuts RUN/checkpoints/step_N down to RUN; false for any other path.
static bool cut_to_run(char *path) {
    const char *name = cut_last(path), *folder = name ? cut_last(path) : NULL;
    return folder && checkpoint_step_of(name) >= 0 && strcmp(folder, CHECKPOINT_FOLDER) == 0;
}

// As it is named, where that tells; a folder of checkpoints that is a link elsewhere belongs to the run all the same.
bool checkpoint_run(const char *run_or_checkpoint, char run_dir[4096], Errors *errors) {
    char real[PATH_MAX];
    snprintf(run_dir, 4096, "%s", run_or_checkpoint);
    if (!checkpoint_is(run_or_checkpoint) || cut_to_run(run_dir)) return true;
    if (!realpath(run_or_checkpoint, real) || !cut_to_run(real))
        return errors_add(errors, EXIT_USAGE,
                          "%s: a checkpoint outside a run; name the run, or a checkpoint RUN/%s/step_N in it",
                          run_or_checkpoint, CHECKPOINT_FOLDER);
    snprintf(run_dir, 4096, "%s", real);
    return true;
}

void checkpoint_find_older(const char *checkpoint, char path[4096]) {
    char folder[4096];
    Steps steps = {0};
    Errors ignored = {0};
    snprintf(folder, sizeof folder, "%s", checkpoint);
    const char *name = cut_last(folder);
    path[0] = 0;
    if (name && checkpoint_step_of(name) >= 0) checkpoint_list_steps(&steps, folder, &ignored);
    for (int64_t i = 0; i < steps.count && steps.items[i] < checkpoint_step_of(name); i++) {
        char one[4096];
        checkpoint_step_path(one, folder, steps.items[i], "");
        if (checkpoint_has_manifest(one)) strcpy(path, one);
    }
    free(steps.items);
    errors_close(&ignored);
}

bool checkpoint_check_state(const char *path, Errors *errors) {
    char folder[4096], full[4096] = "";
    Steps steps = {0};
    Errors ignored = {0};
    if (checkpoint_holds_state(path)) return true;
    snprintf(folder, sizeof folder, "%s", path);
    if (cut_last(folder)) checkpoint_list_steps(&steps, folder, &ignored);
    bool found = false;
    for (int64_t i = steps.count - 1; i >= 0 && !found; i--) {
        checkpoint_step_path(full, folder, steps.items[i], "");
        found = checkpoint_holds_state(full);
    }
    free(steps.items);
    errors_close(&ignored);
    return errors_add(errors, EXIT_NO_INPUT, "%s: a model alone; what a resume needs was given up "
                      "(checkpoint.keep). %s%s", path,
                      found ? "The newest checkpoint that still has it is " : "No checkpoint beside it has it",
                      found ? full : "");
}

// ---- setting aside ----

// A name of step N that is free: step_N.KIND-1, -2, ...
static void free_name(char out[4096], const char *checkpoints, int64_t step, const char *kind) {
    char ending[64];
    for (int k = 1; k == 1 || path_exists(out); k++) {
        snprintf(ending, sizeof ending, ".%s-%d", kind, k);
        checkpoint_step_path(out, checkpoints, step, ending);
    }
}

bool checkpoint_set_aside(const char *run_dir, int64_t step, int64_t *count, Errors *errors) {
    char checkpoints[4096], path[4096], aside[4096];
    Steps steps;
    checkpoint_folder(checkpoints, run_dir);
    bool good = checkpoint_list_steps(&steps, checkpoints, errors);
    *count = 0;
    for (int64_t i = steps.count - 1; good && i >= 0 && steps.items[i] > step; i--) {
        checkpoint_step_path(path, checkpoints, steps.items[i], "");
        free_name(aside, checkpoints, steps.items[i], "orphan");
        good = path_rename(path, aside, errors);
        *count += good;
    }
    free(steps.items);
    return good && (*count == 0 || directory_sync(checkpoints, errors));
}

// ---- the newest valid one ----

typedef struct {
    int64_t step;
    Errors why; // empty: not damaged, but without state
} Unfit;

// From the newest step down to the first that is whole; the others, which come before it, are `unfit`. -1: none is.
static int64_t find_whole(const char *checkpoints, const Steps *steps, Unfit *unfit, int64_t *count) {
    *count = 0;
    for (int64_t i = steps->count - 1; i >= 0; i--) {
        char path[4096];
        Manifest manifest;
        Errors why = {0};
        checkpoint_step_path(path, checkpoints, steps->items[i], "");
        bool known = manifest_open(&manifest, path, &why), full = known && manifest_holds_state(&manifest);
        bool whole = full && manifest_check_files(&manifest, path, &why);
        manifest_close(&manifest);
        if (whole) return steps->items[i];
        unfit[(*count)++] = (Unfit){steps->items[i], why};
    }
    return -1;
}

static bool put_away(const char *checkpoints, Unfit *unfit, bool own, Errors *damage, Errors *errors) {
    char path[4096], aside[4096];
    checkpoint_step_path(path, checkpoints, unfit->step, "");
    free_name(aside, checkpoints, unfit->step, "damaged");
    bool moved = own && path_rename(path, aside, errors);
    errors_add(damage, EXIT_CHECKPOINT, "%s: damaged; %s%s:", path, own ? "kept as " : "left as it is",
               own ? strrchr(aside, '/') + 1 : "");
    errors_move(damage, &unfit->why);
    return moved || !own;
}

// One that another program wrote is not damaged: nothing is put away, and the run does not go on without it.
static bool none_foreign(Unfit *unfit, int64_t count, Errors *errors) {
    for (int64_t i = 0; i < count; i++)
        if (unfit[i].why.count > 0 && unfit[i].why.exit_code == EXIT_USAGE) return errors_move(errors, &unfit[i].why);
    return true;
}

static bool none_whole(const char *run_dir, const char *checkpoints, Unfit *unfit, int64_t count, Errors *errors) {
    char model[4096] = "";
    int64_t damaged = 0;
    for (int64_t i = 0; i < count; i++) {
        if (unfit[i].why.count == 0 && !*model) checkpoint_step_path(model, checkpoints, unfit[i].step, "");
        damaged += unfit[i].why.count > 0;
        if (unfit[i].why.count) errors_move(errors, &unfit[i].why);
    }
    if (count == 0) return true;
    if (damaged == 0) return checkpoint_check_state(model, errors);
    return errors_add(errors, EXIT_CHECKPOINT,
                      "%s: %ld damaged checkpoints, and none to go on from; they stay as they are. Bring a copy of one "
                      "back, or start another run%s%s", run_dir, damaged,
                      *model ? "; `eval` and `sample` still read the model in " : "", model);
}

bool checkpoint_find_valid(const char *run_dir, bool own, char path[4096], Errors *damage, Errors *errors) {
    char checkpoints[4096];
    Steps steps;
    int64_t count = 0, damaged = 0, last = 0; // of the damaged ones, the newest step
    path[0] = 0;
    checkpoint_folder(checkpoints, run_dir);
    if (own) checkpoint_clear(checkpoints);
    bool good = checkpoint_list_steps(&steps, checkpoints, errors);
    Unfit *unfit = memory_take(steps.count, sizeof *unfit, "checkpoints");
    int64_t found = good ? find_whole(checkpoints, &steps, unfit, &count) : -1;
    good = good && none_foreign(unfit, count, errors);
    if (good && found < 0) good = none_whole(run_dir, checkpoints, unfit, count, errors);
    for (int64_t i = 0; good && i < count; i++) {
        if (unfit[i].why.count == 0) continue;
        if (damaged++ == 0) last = unfit[i].step;
        good = put_away(checkpoints, &unfit[i], own, damage, errors);
    }
    if (good && damaged > 0 && own) good = directory_sync(checkpoints, errors);
    if (good && found >= 0) checkpoint_step_path(path, checkpoints, found, "");
    if (good && damaged > 0)
        errors_add(damage, EXIT_CHECKPOINT, "%s: the newest checkpoint that is whole; the run goes on from it and does "
                   "the %ld steps up to %ld again", path, last - found, last);
    for (int64_t i = 0; i < count; i++) errors_close(&unfit[i].why);
    free(unfit);
    free(steps.items);
    return good;
}
