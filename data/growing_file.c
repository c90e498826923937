#include "data/growing_file.h"

#include <stdio.h>
#include <unistd.h>

#include "runtime/file.h"

bool growing_cut(GrowingFile *file, int64_t size, Errors *errors) {
    file->torn = !file_cut(file->descriptor, file->path, (uint64_t)size, errors);
    if (!file->torn) file->size = size;
    return !file->torn;
}

bool growing_append(GrowingFile *file, const void *bytes, size_t size, Errors *errors) {
    Errors again = {0}; // of the same
    if (file->torn && !growing_cut(file, file->size, errors)) return false;
    if (file_append(file->descriptor, file->path, bytes, size, errors)) {
        file->size += (int64_t)size;
        return true;
    }
    growing_cut(file, file->size, &again);
    errors_close(&again);
    return false;
}

bool growing_restore(GrowingFile *file, Errors *errors) {
    char opened[64];
    File content;
    if (path_names(file->path, file->descriptor)) return true;
    snprintf(opened, sizeof opened, "/proc/self/fd/%d", file->descriptor);
    if (!file_map(&content, opened, EXIT_CANNOT_WRITE, errors)) return false;
    bool good = file_replace(file->path, content.bytes, content.size, errors);
    int descriptor = good ? file_open_append(file->path, errors) : -1;
    file_close(&content);
    if (descriptor < 0) return false;
    close(file->descriptor);
    file->descriptor = descriptor;
    return true;
}

bool growing_sync(const GrowingFile *file, Errors *errors) { return file_sync(file->descriptor, file->path, errors); }

void growing_close(GrowingFile *file) {
    Errors ignored = {0}; // all of it was checked as it was written
    if (file->descriptor >= 0) file_close_append(file->descriptor, file->path, &ignored);
    errors_close(&ignored);
    file->descriptor = -1;
}
