// Files, with every operation checked. All writes of the program go through here, so that tests can make the n-th
// operation fail (runtime/fault.h). A message names the path, the operation, the system's reason and what to do.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/error.h"

enum { HASH_HEX = 33 }; // xxh3-128 as 32 hex digits, and the terminator

// Files are hashed by blocks, too, so that damage has a place: xxh3 (64 bits) as 16 hex digits for each FILE_BLOCK
// bytes, one behind the other; the last block may be shorter.
enum { FILE_BLOCK = 1 << 20, BLOCK_HEX = 16 };

// A whole regular file, read (files beyond `size_limit` are refused) or mapped (read only, any size). `bytes` is
// followed by a zero byte when read, not when mapped; never NULL after success.
typedef struct {
    const char *bytes;
    size_t size;
    bool mapped;
} File;

bool file_read(File *file, const char *path, size_t size_limit, int exit_code, Errors *errors);
// What stands behind the first `from` bytes; a shorter file is an error.
bool file_read_from(File *file, const char *path, size_t from, size_t size_limit, int exit_code, Errors *errors);
bool file_map(File *file, const char *path, int exit_code, Errors *errors);
void file_close(File *file);

// "PATH: OPERATION failed: REASON; ADVICE"; always false.
bool file_complain(const char *path, const char *operation, int error, int exit_code, Errors *errors);

// A file being written, buffered; xxh3 (128 bits) of what was written is kept. The first failure is remembered:
// later calls do nothing, and `file_finish` reports it and removes what was written.
typedef struct {
    char path[4096];
    int descriptor; // -1: not open
    uint64_t size;
    int error;             // errno of the first failure, 0 while all is well
    const char *operation; // that failed
    char *buffer;
    size_t buffered;
    void *hash;
    Text *blocks; // NULL after file_create; set before the first byte, it gets the hashes of the blocks
} FileWriter;

bool file_create(FileWriter *writer, const char *path, Errors *errors); // a new file in any case; exit code 73
void file_reserve(FileWriter *writer, uint64_t size); // of the whole file: a full disk is found before the data
void file_write(FileWriter *writer, const void *bytes, size_t size);
bool file_finish(FileWriter *writer, char hash_hex[HASH_HEX], Errors *errors); // flush, fsync, close; hash or NULL

// A small file replaced as a whole: written beside as PATH.partial, fsynced, renamed; the directory is fsynced.
bool file_replace(const char *path, const void *bytes, size_t size, Errors *errors);

// What a file holds now, read once, not mapped: a page that cannot be read is an error like any other. `blocks` gets
// the hashes of the blocks.
bool file_hash(const char *path, char hash_hex[HASH_HEX], uint64_t *size, int exit_code, Errors *errors);
bool file_hash_blocks(const char *path, char hash_hex[HASH_HEX], Text *blocks, int exit_code, Errors *errors);
void bytes_hash(const void *bytes, size_t size, char hash_hex[HASH_HEX]);

// A file that grows: each append is one write, or several if the system cuts it short; not buffered, not fsynced.
int file_open_append(const char *path, Errors *errors); // a descriptor, -1 on failure
bool file_append(int descriptor, const char *path, const void *bytes, size_t size, Errors *errors);
bool file_cut(int descriptor, const char *path, uint64_t size, Errors *errors);
bool file_sync(int descriptor, const char *path, Errors *errors); // fsync
bool file_close_append(int descriptor, const char *path, Errors *errors); // fsync and close

bool file_remove(const char *path, Errors *errors); // true if there is none
// A second name of a file's bytes; a synced copy where the file system has no such links.
bool file_link(const char *from, const char *to, Errors *errors);

// Directories.
bool directory_make(const char *path, Errors *errors); // with parents
bool directory_sync(const char *path, Errors *errors); // fsync, so that names in it survive a crash
bool directory_remove(const char *path, Errors *errors); // with all that is in it, links not followed; true if none
uint64_t directory_bytes(const char *path); // of all regular files in it; of what cannot be read, none
bool directory_free_bytes(const char *path, uint64_t *bytes); // that may still be written; false where that is unknown
bool path_rename(const char *from, const char *to, Errors *errors);
// Swaps two names, atomically where the file system can (RENAME_EXCHANGE), else by three renames over B.exchange.
bool path_exchange(const char *a, const char *b, Errors *errors);
bool path_exists(const char *path);
bool path_is_directory(const char *path);
bool path_names(const char *path, int descriptor); // whether the open file still has this name
bool path_size(const char *path, uint64_t *size); // of a regular file; false if it is none
void path_join(char out[4096], const char *directory, const char *name);
void path_of_data(char out[4096], const char *name); // in $THALWEG_DATA, default ~/.cache/thalweg: what is fetched
void path_directory(char out[4096], const char *path); // that a name stands in: "." of "a", "/" of "/a", "a" of "a/b"

// Files that match a glob, sorted by name; none is not an error here. The name of a file is that file alone.
void path_glob(TextList *out, const char *pattern);
// Names in a directory, sorted, without . and ..
bool directory_list(TextList *out, const char *path, Errors *errors);
