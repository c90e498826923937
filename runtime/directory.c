// Directories and names: made, listed, renamed, removed, and synced so that they survive a crash.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "runtime/fault.h"
#include "runtime/file.h"

static bool complain(const char *path, const char *operation, Errors *errors) {
    return file_complain(path, operation, errno, EXIT_CANNOT_WRITE, errors);
}

bool path_exists(const char *path) {
    struct stat info;
    return lstat(path, &info) == 0;
}

bool path_is_directory(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool path_names(const char *path, int descriptor) {
    struct stat open_file, named;
    return fstat(descriptor, &open_file) == 0 && stat(path, &named) == 0 && open_file.st_ino == named.st_ino &&
           open_file.st_dev == named.st_dev;
}

bool path_size(const char *path, uint64_t *size) {
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISREG(info.st_mode)) return false;
    *size = (uint64_t)info.st_size;
    return true;
}

void path_join(char out[4096], const char *directory, const char *name) {
    size_t length = strlen(directory);
    const char *slash = length == 0 || directory[length - 1] == '/' ? "" : "/";
    int size = snprintf(out, 4096, "%s%s%s", directory, slash, name);
    if (size >= 4096) DIE(EXIT_USAGE, "the path %s/%s is too long; use a shorter run.dir", directory, name);
}

void path_of_data(char out[4096], const char *name) {
    const char *data = getenv("THALWEG_DATA"), *home = getenv("HOME");
    char cache[4096];
    path_join(cache, home && *home ? home : ".", ".cache/thalweg");
    path_join(out, data && *data ? data : cache, name);
}

void path_directory(char out[4096], const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash)
        snprintf(out, 4096, ".");
    else
        snprintf(out, 4096, "%.*s", slash == path ? 1 : (int)(slash - path), path);
}

static bool make_one(const char *path, Errors *errors) {
    if (path_is_directory(path)) return true;
    if (!fault_next() && (mkdir(path, 0777) == 0 || (errno == EEXIST && path_is_directory(path)))) return true;
    if (errno == EEXIST) errno = ENOTDIR; // something else has the name
    return complain(path, "making the directory", errors);
}

bool directory_make(const char *path, Errors *errors) {
    char part[4096];
    if (strlen(path) >= sizeof part) {
        errno = ENAMETOOLONG;
        return complain(path, "making the directory", errors);
    }
    strcpy(part, path);
    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (!make_one(part, errors)) return false;
        *slash = '/';
    }
    return make_one(part, errors);
}

bool directory_sync(const char *path, Errors *errors) {
    int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) return complain(path, "opening", errors);
    bool good = !fault_next() && fsync(descriptor) == 0;
    int error = errno;
    close(descriptor);
    errno = error;
    return good || complain(path, "syncing", errors);
}

static int not_dots(const struct dirent *entry) {
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

bool directory_list(TextList *out, const char *path, Errors *errors) {
    struct dirent **entries;
    int count = scandir(path, &entries, not_dots, alphasort);
    if (count < 0) return file_complain(path, "listing", errno, EXIT_NO_INPUT, errors);
    for (int i = 0; i < count; i++) {
        text_list_add(out, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    return true;
}

bool directory_remove(const char *path, Errors *errors) {
    struct stat info;
    if (lstat(path, &info) != 0) return errno == ENOENT || complain(path, "removing", errors);
    if (!S_ISDIR(info.st_mode)) return file_remove(path, errors);
    TextList names = {0};
    bool good = directory_list(&names, path, errors);
    for (int64_t i = 0; good && i < names.count; i++) {
        char inner[4096];
        path_join(inner, path, names.items[i]);
        good = directory_remove(inner, errors);
    }
    text_list_close(&names);
    if (good && (fault_next() || rmdir(path) != 0)) good = complain(path, "removing", errors);
    return good;
}

uint64_t directory_bytes(const char *path) {
    struct stat info;
    if (lstat(path, &info) != 0) return 0;
    if (!S_ISDIR(info.st_mode)) return S_ISREG(info.st_mode) ? (uint64_t)info.st_size : 0;
    Errors ignored = {0};
    TextList names = {0};
    uint64_t bytes = 0;
    directory_list(&names, path, &ignored);
    for (int64_t i = 0; i < names.count; i++) {
        char inner[4096];
        path_join(inner, path, names.items[i]);
        bytes += directory_bytes(inner);
    }
    text_list_close(&names);
    errors_close(&ignored);
    return bytes;
}

bool directory_free_bytes(const char *path, uint64_t *bytes) {
    struct statvfs info;
    if (statvfs(path, &info) != 0 || info.f_blocks == 0) return false; // some network file systems say 0 of all
    *bytes = (uint64_t)info.f_bavail * info.f_frsize;
    return true;
}

bool path_rename(const char *from, const char *to, Errors *errors) {
    if (!fault_next() && rename(from, to) == 0) return true;
    return complain(to, "renaming", errors);
}

bool path_exchange(const char *a, const char *b, Errors *errors) {
    if (!fault_next()) {
        if (renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0) return true;
        if (errno == EINVAL || errno == ENOSYS) {
            char aside[4096];
            snprintf(aside, sizeof aside, "%.4000s.exchange", b);
            if (!path_rename(b, aside, errors)) return false;
            if (path_rename(a, b, errors)) return path_rename(aside, a, errors);
            rename(aside, b); // as it was
            return false;
        }
    }
    return complain(b, "exchanging", errors);
}

void path_glob(TextList *out, const char *pattern) {
    glob_t found;
    if (path_exists(pattern)) {
        text_list_add(out, pattern);
        return;
    }
    if (glob(pattern, 0, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc; i++) text_list_add(out, found.gl_pathv[i]);
    globfree(&found);
}
