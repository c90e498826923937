// What the parts of data/checkpoint*.c share: names in a run's folder of checkpoints, and manifests.
#pragma once

#include <string.h>

#include "data/checkpoint.h"
#include "runtime/json.h"

// ---- names ----

#define CHECKPOINT_MANIFEST "manifest.json"
#define CHECKPOINT_FOLDER "checkpoints"
#define CHECKPOINT_UNFINISHED ".tmp"

// Files that only a resume reads.
static inline bool checkpoint_is_state(const char *file) { return strncmp(file, "state-", 6) == 0; }

void checkpoint_folder(char out[4096], const char *run_dir);
int64_t checkpoint_step_of(const char *name);             // of "step_00001000", or -1 for any other name
int64_t checkpoint_directory_step(const char *checkpoint); // of its last component, wherever it is named from
void checkpoint_step_path(char out[4096], const char *checkpoints, int64_t step, const char *ending);
bool checkpoint_has_manifest(const char *directory);

typedef struct {
    int64_t *items; // ascending
    int64_t count;
} Steps;

// Steps of a run's checkpoints, whole or not; items are freed by the caller, whatever the result. No folder: none.
bool checkpoint_list_steps(Steps *steps, const char *checkpoints, Errors *errors);

// The newest one before `checkpoint` in its folder; empty where there is none.
void checkpoint_find_older(const char *checkpoint, char path[4096]);

// What an interrupted save, removal or exchange of names left in the folder: an exchange is undone, the rest removed.
void checkpoint_clear(const char *checkpoints);

// ---- manifests ----

typedef struct {
    const char *name, *hash;
    const char *blocks; // hashes of its blocks; NULL where the manifest has none
    int64_t size;
} ManifestFile;

typedef struct {
    Json *json; // that the texts are in
    int64_t step;
    bool blocks;
    ManifestFile *files;
    int64_t count;
} Manifest;

// To be closed whatever the result.
bool manifest_open(Manifest *manifest, const char *checkpoint, Errors *errors);
void manifest_close(Manifest *manifest);
bool manifest_holds_state(const Manifest *manifest);
bool manifest_check_files(const Manifest *manifest, const char *checkpoint, Errors *errors); // every damage is named

typedef struct {
    Text text; // to be closed
    JsonWriter json;
} ManifestWriter;

void manifest_begin(ManifestWriter *writer, int64_t step, bool blocks);
void manifest_add(ManifestWriter *writer, const ManifestFile *file);
bool manifest_write(ManifestWriter *writer, const char *directory, Errors *errors); // the end of it, and the file
