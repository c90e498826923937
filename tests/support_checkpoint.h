// Checkpoints for tests: small, of a model, a state and two texts, all of them functions of the step.
#pragma once

#include "data/checkpoint.h"

enum { CHECKPOINT_FILES = 4, CHECKPOINT_ELEMENTS = 35 };
extern const char *const test_checkpoint_files[CHECKPOINT_FILES]; // but the manifest

// Content of one step; `bulk` elements more in the state. `kernels` NULL: read where it is.
typedef struct {
    int64_t step, bulk;
    const Kernels *kernels;
} TestCheckpoint;

bool test_checkpoint_save_as(const char *run, TestCheckpoint what, char *path, Errors *errors);
bool test_checkpoint_save(const char *run, int64_t step, char *path, Errors *errors);
void test_checkpoint_must_save(const char *run, int64_t step);
bool test_checkpoint_room(const char *run, int64_t step, const Retention *retention, FreeBytes *free_bytes,
                          Errors *errors);

// The test fails unless model (and state, where `full`) are whole and those of the step.
void test_checkpoint_check(const char *path, int64_t step, bool full);

// Names in the run's folder of checkpoints, with a blank after each; a model alone has "(model)" behind it.
const char *test_checkpoint_names(const char *run);

// Flips one bit of a byte, or cuts the file there.
void test_damage(const char *file, uint64_t at, bool cut);
