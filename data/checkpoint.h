// Checkpoints: directories RUN/checkpoints/step_00001000 of named files, complete or absent. Knows neither network nor
// optimizer. Protocol: everything into a directory beside, each file fsynced, manifest.json (sizes, xxh3) last,
// directory fsynced, renamed (exchanged with an existing one of the same step), parent fsynced.
#pragma once

#include "data/safetensors.h"

typedef struct {
    const char *file; // "model.safetensors"
    const NamedTensor *tensors;
    int64_t count;
    DType dtype;
} CheckpointTensors;

typedef struct {
    const char *file; // "run.json"
    const char *text;
} CheckpointText;

typedef struct {
    int64_t step;
    const CheckpointTensors *tensors;
    int tensor_files;
    const CheckpointText *texts;
    int text_files;
} CheckpointContent;

// On failure the run keeps its old checkpoints and the directory beside is removed. `path` (may be NULL) gets the
// checkpoint's directory. One process at a time may save into a run.
bool checkpoint_save(const char *run_dir, const Kernels *kernels, const CheckpointContent *content, char path[4096],
                     Errors *errors);

// Keeps the last `keep` checkpoints up to step `newest` (0: all) and removes those before them.
bool checkpoint_prune(const char *run_dir, int64_t newest, int64_t keep, Errors *errors);

// A run that goes on from `step`: its later checkpoints, `count` of them, get names step_N.orphan-K that nothing looks
// for, so that neither a resume nor pruning takes them for its own.
bool checkpoint_set_aside(const char *run_dir, int64_t step, int64_t *count, Errors *errors);

// The newest checkpoint of a run directory, or the checkpoint directory itself: its path to `path`, which becomes empty
// where there is none. False and a message when the run's folder cannot be read.
bool checkpoint_find(const char *run_or_checkpoint, char path[4096], Errors *errors);

// The run directory of a path: RUN for the checkpoint RUN/checkpoints/step_N, the path itself for anything that is
// not a checkpoint. False and a message (2) for a checkpoint that stands elsewhere.
bool checkpoint_run(const char *run_or_checkpoint, char run_dir[4096], Errors *errors);

// Checks manifest, sizes and hashes; every damaged file is named (74).
bool checkpoint_verify(const char *path, Errors *errors);
