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

// On failure the run keeps its old checkpoints and the directory beside is removed. `kernels` NULL: all tensors are
// host memory. `path` (may be NULL) gets the checkpoint's directory. Any thread may save, one at a time into a run.
bool checkpoint_save(const char *run_dir, const Kernels *kernels, const CheckpointContent *content, char path[4096],
                     Errors *errors);

// The same in stages, for several ranks with one file system: rank 0 makes the directory beside; each rank writes the
// files of its own content and describes them in `part`; rank 0 gives all of them their name, or drops them once nobody
// writes any more.
bool checkpoint_begin(const char *run_dir, int64_t step, Errors *errors);
bool checkpoint_write(const char *run_dir, const Kernels *kernels, const CheckpointContent *content, Text *part,
                      Errors *errors);
bool checkpoint_commit(const char *run_dir, int64_t step, const Text *parts, int count, Errors *errors);
void checkpoint_drop(const char *run_dir, int64_t step);

// What becomes of older checkpoints. Full ones hold a state to resume from (files "state-..."); the last `keep` of
// them stay whole (0: all), and so do those of the steps in `always` and of the multiples of `every` (0: none) from
// `since` on. The others become models, without their state, of which the last `keep_models` stay (negative: all).
typedef struct {
    int64_t keep, keep_models;
    const int64_t *always;
    int64_t always_count, every, since;
} Retention;

// Up to step `newest`. A model is made beside, with a manifest of its own, and exchanged by name: whatever happens, the
// old or the new one is there. Directories without a readable manifest stay.
bool checkpoint_retain(const char *run_dir, int64_t newest, const Retention *retention, Errors *errors);

// Before a save: whether its files, about `bytes` of all ranks, fit on the disk, with some reserve. Where they do not,
// `retention` (NULL: none) is applied as if they were written, but the newest valid full checkpoint stays; if that is
// not enough, a message (73) tells what could be removed. Unknown free space is enough. `free_bytes` is
// directory_free_bytes, but in tests.
typedef bool FreeBytes(const char *directory, uint64_t *bytes);
uint64_t checkpoint_bytes(const CheckpointContent *content);
bool checkpoint_room(const char *run_dir, int64_t step, uint64_t bytes, const Retention *retention,
                     FreeBytes *free_bytes, Errors *errors);

// A run that goes on from `step`: its later checkpoints, `count` of them, get names step_N.orphan-K that nothing looks
// for, so that neither a resume nor retention takes them for its own.
bool checkpoint_set_aside(const char *run_dir, int64_t step, int64_t *count, Errors *errors);

// Whether a path is a checkpoint's directory, if perhaps a damaged one.
bool checkpoint_is(const char *path);

// The newest checkpoint of a run directory, whole or not, or the checkpoint directory itself: its path to `path`, which
// becomes empty where there is none. False and a message when the run's folder cannot be read.
bool checkpoint_find(const char *run_or_checkpoint, char path[4096], Errors *errors);

// The newest checkpoint of a run that holds a state and is whole in every byte; it need not be verified again. Newer
// ones that are damaged are told in `damage`, which is no failure. `own`: the caller holds the run's lock; damaged ones
// get names step_N.damaged-K, and what interrupted saves left is cleared. `path` becomes empty where there is no
// checkpoint. False and a message: all that have a state are damaged (74; their names stay), none has one (66), or
// another version of this program wrote a newer one (2).
bool checkpoint_find_valid(const char *run_dir, bool own, char path[4096], Errors *damage, Errors *errors);

// Whether a run has a checkpoint of this very step, complete or damaged; its path.
bool checkpoint_at(const char *run_dir, int64_t step, char path[4096]);

// The run directory of a path: RUN for the checkpoint RUN/checkpoints/step_N, the path itself for anything that is
// not a checkpoint. False and a message (2) for a checkpoint that stands elsewhere.
bool checkpoint_run(const char *run_or_checkpoint, char run_dir[4096], Errors *errors);

// Checks manifest, sizes and hashes: every damaged file is named, with the bytes that are damaged (74). The second one
// also names the checkpoint before a damaged one.
bool checkpoint_check(const char *path, Errors *errors);
bool checkpoint_verify(const char *path, Errors *errors);

// Whether the manifest lists a file: no other was verified, and none is to be read.
bool checkpoint_lists(const char *path, const char *file);

// Whether it holds what a resume needs; the second one says where there is one that does (66).
bool checkpoint_holds_state(const char *path);
bool checkpoint_check_state(const char *path, Errors *errors);

// Paths in a run's folder: checkpoints, oldest first, and what else is called step_*: unfinished, orphaned, damaged.
bool checkpoint_names(const char *run_dir, TextList *checkpoints, TextList *others, Errors *errors);

// Whether bytes are a manifest; `name` stands in messages. No file is looked at.
bool checkpoint_manifest_check(const char *name, const char *bytes, size_t size, Errors *errors);
