// Files, with every operation checked. All writes of the program go through here, so that tests can make the n-th
// operation fail: THALWEG_FAULT=n:errno (or n:kill) in the environment of a test build counts open, write, fsync,
// rename, mkdir and close.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/error.h"

// A whole file, read (files beyond `size_limit` are refused) or mapped (read only, any size). `bytes` is followed by
// a zero byte when read, not when mapped.
typedef struct {
    const char *bytes;
    size_t size;
    bool mapped;
} File;

bool file_read(File *file, const char *path, size_t size_limit, int exit_code, Errors *errors);
bool file_map(File *file, const char *path, int exit_code, Errors *errors);
void file_close(File *file);

// A file being written, buffered; xxh3 (128 bits) of what was written is kept. The first failure is remembered:
// later calls do nothing and `file_finish` reports it, naming the file, the operation and what to do.
typedef struct {
    char path[4096];
    int descriptor;
    uint64_t size;
    int error;             // errno of the first failure, 0 while all is well
    const char *operation; // that failed
    char *buffer;
    size_t buffered;
    void *hash;
} FileWriter;

bool file_create(FileWriter *writer, const char *path, Errors *errors); // truncates; exit code 73
void file_write(FileWriter *writer, const void *bytes, size_t size);
bool file_finish(FileWriter *writer, char hash_hex[33], Errors *errors); // flush, fsync, close; hash_hex may be NULL

// A small file replaced as a whole: written beside, fsynced, renamed.
bool file_replace(const char *path, const void *bytes, size_t size, Errors *errors);

bool file_hash(const char *path, char hash_hex[33], uint64_t *size, Errors *errors);

// Directories.
bool directory_make(const char *path, Errors *errors); // with parents
bool directory_sync(const char *path, Errors *errors); // fsync, so that names in it survive a crash
bool directory_remove(const char *path, Errors *errors); // with all that is in it
bool path_rename(const char *from, const char *to, Errors *errors);
bool path_exchange(const char *a, const char *b, Errors *errors); // atomically (renameat2 RENAME_EXCHANGE)
bool path_exists(const char *path);
bool path_is_directory(const char *path);
void path_join(char out[4096], const char *directory, const char *name);

// Files that match a glob, sorted by name; none is not an error here.
void path_glob(TextList *out, const char *pattern);
// Names in a directory, sorted, without . and ..
bool directory_list(TextList *out, const char *path, Errors *errors);
