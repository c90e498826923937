// Checkpoints, kept and removed. One that is removed loses its name before anything in it is.
#include <stdlib.h>

#include "data/checkpoint_parts.h"

bool checkpoint_prune(const char *run_dir, int64_t newest, int64_t keep, Errors *errors) {
    char checkpoints[4096], path[4096], unnamed[4096];
    Steps steps;
    checkpoint_folder(checkpoints, run_dir);
    bool good = checkpoint_list_steps(&steps, checkpoints, errors);
    int64_t count = 0;
    while (count < steps.count && steps.items[count] <= newest) count++;
    for (int64_t i = 0; keep > 0 && good && i + keep < count; i++) {
        checkpoint_step_path(path, checkpoints, steps.items[i], "");
        checkpoint_step_path(unnamed, checkpoints, steps.items[i], CHECKPOINT_UNFINISHED);
        if (!checkpoint_has_manifest(path)) continue; // not ours
        good = path_rename(path, unnamed, errors) && directory_remove(unnamed, errors);
    }
    free(steps.items);
    return good;
}
