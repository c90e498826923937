// A file that grows under a run, by appends that are in it as a whole or not at all.
#pragma once

#include "runtime/error.h"

typedef struct {
    int descriptor; // -1: closed
    char path[4096];
    int64_t size; // bytes in the file so far, and
    bool torn;    // a part of what could not be written behind them
} GrowingFile;

// One write. Where that fails nothing of it stays, and the next call cuts off what could not be cut at once.
bool growing_append(GrowingFile *file, const void *bytes, size_t size, Errors *errors);
bool growing_cut(GrowingFile *file, int64_t size, Errors *errors);
// A file that was removed or replaced under the run is written again, from what is still open.
bool growing_restore(GrowingFile *file, Errors *errors);
bool growing_sync(const GrowingFile *file, Errors *errors); // fsync
void growing_close(GrowingFile *file);
