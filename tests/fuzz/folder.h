// A folder for targets that read or write one; removed at the end. In memory where the system has a place for that.
#pragma once

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/file.h"
#include "tests/fuzz/fuzz.h"

static char fuzz_directory[64];

__attribute__((destructor)) static void remove_folder(void) {
    Errors ignored = {0};
    if (*fuzz_directory) directory_remove(fuzz_directory, &ignored);
    errors_close(&ignored);
}

static inline const char *fuzz_folder(void) {
    if (*fuzz_directory) return fuzz_directory;
    const char *place = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(fuzz_directory, sizeof fuzz_directory, "%s/thalweg-fuzz-%d", place, (int)getpid());
    HOLDS(mkdir(fuzz_directory, 0700) == 0 || errno == EEXIST); // one that was killed may have had this number
    return fuzz_directory;
}

// Another name in the folder for the file of fuzz_file.
static inline void fuzz_link(const char *name, const char *file) {
    char path[4096];
    path_join(path, fuzz_folder(), name);
    if (!path_exists(path)) HOLDS(symlink(file, path) == 0);
}
