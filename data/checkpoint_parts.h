// What the parts of data/checkpoint*.c share: the names in a run's folder of checkpoints.
#pragma once

#include "data/checkpoint.h"

#define CHECKPOINT_MANIFEST "manifest.json"
#define CHECKPOINT_FOLDER "checkpoints"
#define CHECKPOINT_UNFINISHED ".tmp"

void checkpoint_folder(char out[4096], const char *run_dir);
int64_t checkpoint_step_of(const char *name); // of "step_00001000", or -1 for any other name
void checkpoint_step_path(char out[4096], const char *checkpoints, int64_t step, const char *ending);
bool checkpoint_has_manifest(const char *directory);

typedef struct {
    int64_t *items; // ascending
    int64_t count;
} Steps;

// Steps of a run's checkpoints; items are freed by the caller, whatever the result. No folder: none.
bool checkpoint_list_steps(Steps *steps, const char *checkpoints, Errors *errors);

// The newest one before `checkpoint` in its folder; empty where there is none.
void checkpoint_find_older(const char *checkpoint, char path[4096]);
