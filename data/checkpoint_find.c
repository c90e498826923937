// Checkpoints, found by the names in a run's folder, and set aside there.
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/checkpoint_parts.h"

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

void checkpoint_step_path(char out[4096], const char *checkpoints, int64_t step, const char *ending) {
    char name[64];
    snprintf(name, sizeof name, "step_%08ld%s", step, ending);
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
    steps->items = malloc((size_t)(names.count + 1) * sizeof *steps->items);
    if (!steps->items) DIE(EXIT_INTERNAL, "out of memory: %ld checkpoints", names.count);
    for (int64_t i = 0; i < names.count; i++)
        if (checkpoint_step_of(names.items[i]) >= 0) steps->items[steps->count++] = checkpoint_step_of(names.items[i]);
    qsort(steps->items, (size_t)steps->count, sizeof *steps->items, ascending);
    text_list_close(&names);
    return good;
}

// ---- finding ----

bool checkpoint_find(const char *run_or_checkpoint, char path[4096], Errors *errors) {
    char checkpoints[4096];
    Steps steps;
    if (checkpoint_has_manifest(run_or_checkpoint)) {
        snprintf(path, 4096, "%s", run_or_checkpoint);
        return true;
    }
    checkpoint_folder(checkpoints, run_or_checkpoint);
    bool good = checkpoint_list_steps(&steps, checkpoints, errors), found = false;
    for (int64_t i = steps.count - 1; i >= 0 && !found; i--) {
        checkpoint_step_path(path, checkpoints, steps.items[i], "");
        found = checkpoint_has_manifest(path);
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
    if (!checkpoint_has_manifest(run_or_checkpoint) || !realpath(run_or_checkpoint, real)) return true;
    snprintf(given, sizeof given, "%s", run_or_checkpoint);
    const char *name = cut_last(real), *folder = name ? cut_last(real) : NULL;
    if (!folder || checkpoint_step_of(name) < 0 || strcmp(folder, CHECKPOINT_FOLDER) != 0)
        return errors_add(errors, EXIT_USAGE,
                          "%s: a checkpoint outside a run; name the run, or a checkpoint RUN/%s/step_N in it",
                          run_or_checkpoint, CHECKPOINT_FOLDER);
    const char *given_name = cut_last(given), *given_folder = given_name ? cut_last(given) : NULL;
    bool same = given_folder && strcmp(given_folder, folder) == 0 && strcmp(given_name, name) == 0;
    snprintf(run_dir, 4096, "%s", same ? given : real);
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

// ---- setting aside ----

bool checkpoint_set_aside(const char *run_dir, int64_t step, int64_t *count, Errors *errors) {
    char checkpoints[4096], path[4096], aside[4096], ending[32];
    Steps steps;
    checkpoint_folder(checkpoints, run_dir);
    bool good = checkpoint_list_steps(&steps, checkpoints, errors);
    *count = 0;
    for (int64_t i = steps.count - 1; good && i >= 0 && steps.items[i] > step; i--) {
        checkpoint_step_path(path, checkpoints, steps.items[i], "");
        for (int k = 1, taken = true; taken; k++) {
            snprintf(ending, sizeof ending, ".orphan-%d", k);
            checkpoint_step_path(aside, checkpoints, steps.items[i], ending);
            taken = path_exists(aside);
        }
        good = path_rename(path, aside, errors);
        *count += good;
    }
    free(steps.items);
    return good && (*count == 0 || directory_sync(checkpoints, errors));
}
