// Reading, mapping and writing files. Every operation that changes one goes through the fault counter first.
#include "runtime/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "runtime/fault.h"
#include "runtime/memory.h"

static const char *advice(int error) {
    static const struct {
        int error;
        const char *text;
    } rows[] = {{ENOSPC, "free some space"},
                {EDQUOT, "free some space or raise the quota"},
                {EFBIG, "raise the limit of a file's size (ulimit -f)"},
                {EACCES, "check its permissions"},
                {EPERM, "check its permissions"},
                {EROFS, "choose a place that can be written"},
                {ENOTDIR, "a part of the path is not a directory"},
                {ENOENT, "check the path"},
                {EISDIR, "name a file in it"},
                {ELOOP, "a link stands there; remove it"},
                {EEXIST, "something else took the name; remove it"},
                {ENXIO, "no file stands there; remove what does"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].error == error) return rows[i].text;
    return "check the disk";
}

bool file_complain(const char *path, const char *operation, int error, int exit_code, Errors *errors) {
    return errors_add(errors, exit_code, "%s: %s failed: %s; %s", path, operation, strerror(error), advice(error));
}

static bool cannot_write(const char *path, const char *operation, Errors *errors) {
    return file_complain(path, operation, errno, EXIT_CANNOT_WRITE, errors);
}

// ---- reading ----

static int open_regular(const char *path, struct stat *info, int exit_code, Errors *errors) {
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0 || fstat(descriptor, info) != 0) {
        int missing = errno == ENOENT || errno == ENOTDIR;
        file_complain(path, "reading", errno, missing ? EXIT_NO_INPUT : exit_code, errors);
    } else if (!S_ISREG(info->st_mode)) {
        errors_add(errors, exit_code, "%s: not a regular file", path);
    } else {
        return descriptor;
    }
    if (descriptor >= 0) close(descriptor);
    return -1;
}

static ssize_t read_all(int descriptor, char *bytes, size_t size) {
    size_t have = 0;
    while (have < size) {
        ssize_t got = read(descriptor, bytes + have, size - have);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -1;
        if (got == 0) break;
        have += (size_t)got;
    }
    return (ssize_t)have;
}

bool file_read(File *file, const char *path, size_t size_limit, int exit_code, Errors *errors) {
    return file_read_from(file, path, 0, size_limit, exit_code, errors);
}

bool file_read_from(File *file, const char *path, size_t from, size_t size_limit, int exit_code, Errors *errors) {
    struct stat info;
    *file = (File){0};
    int descriptor = open_regular(path, &info, exit_code, errors);
    if (descriptor < 0) return false;
    bool shorter = (size_t)info.st_size < from;
    size_t size = shorter ? 0 : (size_t)info.st_size - from;
    char *bytes = !shorter && size <= size_limit ? malloc(size + 1) : NULL;
    bool there = bytes && lseek(descriptor, (off_t)from, SEEK_SET) >= 0;
    ssize_t got = there ? read_all(descriptor, bytes, size) : bytes ? -1 : 0;
    if (shorter)
        errors_add(errors, exit_code, "%s: became shorter than the %zu bytes that were read of it", path, from);
    else if (size > size_limit)
        errors_add(errors, exit_code, "%s: %zu bytes are more than the %zu that such a file may have", path, size,
                   size_limit);
    else if (!bytes)
        errors_add(errors, exit_code, "%s: not enough memory for its %zu bytes", path, size);
    else if (got < 0)
        file_complain(path, "reading", errno, exit_code, errors);
    close(descriptor);
    if (!bytes || got < 0) {
        free(bytes);
        return false;
    }
    bytes[got] = 0;
    *file = (File){.bytes = bytes, .size = (size_t)got};
    return true;
}

bool file_map(File *file, const char *path, int exit_code, Errors *errors) {
    struct stat info;
    *file = (File){0};
    int descriptor = open_regular(path, &info, exit_code, errors);
    if (descriptor < 0) return false;
    size_t size = (size_t)info.st_size;
    void *bytes = size ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, descriptor, 0) : NULL;
    close(descriptor);
    if (bytes == MAP_FAILED) return file_complain(path, "mapping", errno, exit_code, errors);
    *file = (File){.bytes = size ? bytes : "", .size = size, .mapped = true};
    return true;
}

void file_close(File *file) {
    if (file->mapped && file->size) munmap((void *)file->bytes, file->size);
    if (!file->mapped) free((void *)file->bytes);
    *file = (File){0};
}

// ---- hashes ----

static void hash_text(XXH128_hash_t hash, char hex[HASH_HEX]) {
    snprintf(hex, HASH_HEX, "%016lx%016lx", (unsigned long)hash.high64, (unsigned long)hash.low64);
}

void bytes_hash(const void *bytes, size_t size, char hash_hex[HASH_HEX]) {
    hash_text(XXH3_128bits(bytes, size), hash_hex);
}

static void add_block(Text *blocks, const void *bytes, size_t size) {
    if (blocks && size > 0) text_printf(blocks, "%016lx", (unsigned long)XXH3_64bits(bytes, size));
}

static bool hash_all(int descriptor, XXH3_state_t *state, Text *blocks, uint64_t *size) {
    char *block = memory_grow(NULL, FILE_BLOCK, 1, "a block of a file");
    ssize_t got;
    *size = 0;
    do {
        got = read_all(descriptor, block, FILE_BLOCK);
        if (got <= 0) break;
        XXH3_128bits_update(state, block, (size_t)got);
        add_block(blocks, block, (size_t)got);
        *size += (uint64_t)got;
    } while (got == FILE_BLOCK);
    free(block);
    return got >= 0;
}

static bool hash_file(const char *path, char hash_hex[HASH_HEX], uint64_t *size, Text *blocks, int exit_code,
                      Errors *errors) {
    struct stat info;
    char operation[64];
    int descriptor = open_regular(path, &info, exit_code, errors);
    if (descriptor < 0) return false;
    XXH3_state_t *state = XXH3_createState();
    if (!state) DIE(EXIT_INTERNAL, "out of memory: hashing %s", path);
    XXH3_128bits_reset(state);
    bool good = hash_all(descriptor, state, blocks, size);
    int error = errno;
    hash_text(XXH3_128bits_digest(state), hash_hex);
    XXH3_freeState(state);
    close(descriptor);
    snprintf(operation, sizeof operation, "reading from byte %lu on", *size);
    return good || file_complain(path, operation, error, exit_code, errors);
}

bool file_hash(const char *path, char hash_hex[HASH_HEX], uint64_t *size, int exit_code, Errors *errors) {
    return hash_file(path, hash_hex, size, NULL, exit_code, errors);
}

bool file_hash_blocks(const char *path, char hash_hex[HASH_HEX], Text *blocks, int exit_code, Errors *errors) {
    uint64_t size;
    return hash_file(path, hash_hex, &size, blocks, exit_code, errors);
}

// ---- writing ----

static bool write_all(int descriptor, const char *bytes, size_t size) {
    while (size > 0) {
        ssize_t wrote = fault_write(descriptor, bytes, size);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) return false;
        bytes += wrote;
        size -= (size_t)wrote;
    }
    return true;
}

static int open_for_writing(const char *path, int flags) {
    if (fault_next()) return -1;
    return open(path, flags | O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
}

// A new file takes the name. One that stands there loses it and is not written over, as it may have another name too.
// Links are refused, pipes are not waited for; devices such as /dev/full are opened as they are.
static int open_new(const char *path) {
    struct stat info;
    bool there = lstat(path, &info) == 0;
    if (there && S_ISREG(info.st_mode)) {
        if (fault_next() || unlink(path) != 0) return -1;
        there = false;
    }
    return open_for_writing(path, O_NOFOLLOW | O_NONBLOCK | (there ? 0 : O_EXCL));
}

static bool synced(int descriptor) { return !fault_next() && fsync(descriptor) == 0; }

// EINTR leaves the descriptor closed, so it is never tried twice.
static bool closed(int descriptor) {
    bool fault = fault_next();
    int error = errno;
    bool good = close(descriptor) == 0;
    if (fault) errno = error;
    return good && !fault;
}

static void note_failure(FileWriter *writer, const char *operation) {
    if (writer->error) return;
    writer->error = errno ? errno : EIO;
    writer->operation = operation;
}

bool file_create(FileWriter *writer, const char *path, Errors *errors) {
    *writer = (FileWriter){.descriptor = -1};
    if (strlen(path) >= sizeof writer->path) {
        errno = ENAMETOOLONG;
        return cannot_write(path, "opening", errors);
    }
    strcpy(writer->path, path);
    writer->descriptor = open_new(path);
    if (writer->descriptor < 0) return cannot_write(path, "opening", errors);
    writer->buffer = memory_grow(NULL, FILE_BLOCK, 1, path);
    writer->hash = XXH3_createState();
    if (!writer->hash) DIE(EXIT_INTERNAL, "out of memory: hashing %s", path);
    XXH3_128bits_reset(writer->hash);
    return true;
}

void file_reserve(FileWriter *writer, uint64_t size) {
    if (writer->error) return;
    if (fault_next()) {
        note_failure(writer, "reserving space");
        return;
    }
    int error = posix_fallocate(writer->descriptor, 0, (off_t)size);
    errno = error;
    if (error == ENOSPC || error == EFBIG || error == EDQUOT) note_failure(writer, "reserving space");
}

static void flush(FileWriter *writer) {
    if (writer->error) return;
    add_block(writer->blocks, writer->buffer, writer->buffered); // the buffer is as large as a block
    if (!write_all(writer->descriptor, writer->buffer, writer->buffered)) note_failure(writer, "writing");
    writer->buffered = 0;
}

void file_write(FileWriter *writer, const void *bytes, size_t size) {
    const char *from = bytes;
    if (writer->error) return;
    XXH3_128bits_update(writer->hash, bytes, size);
    writer->size += size;
    while (size > 0 && !writer->error) {
        size_t room = FILE_BLOCK - writer->buffered, part = size < room ? size : room;
        memcpy(writer->buffer + writer->buffered, from, part);
        writer->buffered += part;
        from += part;
        size -= part;
        if (writer->buffered == FILE_BLOCK) flush(writer);
    }
}

bool file_finish(FileWriter *writer, char hash_hex[HASH_HEX], Errors *errors) {
    flush(writer);
    if (!writer->error && !synced(writer->descriptor)) note_failure(writer, "syncing");
    if (!closed(writer->descriptor)) note_failure(writer, "closing");
    if (hash_hex) hash_text(XXH3_128bits_digest(writer->hash), hash_hex);
    XXH3_freeState(writer->hash);
    free(writer->buffer);
    writer->descriptor = -1;
    writer->buffer = NULL;
    writer->hash = NULL;
    if (!writer->error) return true;
    struct stat info; // devices such as /dev/full stay
    if (lstat(writer->path, &info) == 0 && S_ISREG(info.st_mode)) unlink(writer->path);
    return file_complain(writer->path, writer->operation, writer->error, EXIT_CANNOT_WRITE, errors);
}

// ---- small files, replaced as a whole ----

bool file_replace(const char *path, const void *bytes, size_t size, Errors *errors) {
    char beside[4096], directory[4096];
    if (snprintf(beside, sizeof beside, "%s.partial", path) >= (int)sizeof beside) {
        errno = ENAMETOOLONG;
        return cannot_write(path, "opening", errors);
    }
    FileWriter writer;
    if (!file_create(&writer, beside, errors)) return false;
    file_write(&writer, bytes, size);
    if (!file_finish(&writer, NULL, errors)) return false;
    if (!path_rename(beside, path, errors)) {
        unlink(beside);
        return false;
    }
    path_directory(directory, path);
    return directory_sync(directory, errors);
}

// ---- files that grow ----

int file_open_append(const char *path, Errors *errors) {
    int descriptor = open_for_writing(path, O_APPEND);
    if (descriptor < 0) cannot_write(path, "opening", errors);
    return descriptor;
}

bool file_append(int descriptor, const char *path, const void *bytes, size_t size, Errors *errors) {
    return write_all(descriptor, bytes, size) || cannot_write(path, "writing", errors);
}

bool file_cut(int descriptor, const char *path, uint64_t size, Errors *errors) {
    if (!fault_next() && ftruncate(descriptor, (off_t)size) == 0) return true;
    return cannot_write(path, "cutting", errors);
}

bool file_sync(int descriptor, const char *path, Errors *errors) {
    return synced(descriptor) || cannot_write(path, "syncing", errors);
}

bool file_close_append(int descriptor, const char *path, Errors *errors) {
    bool good = file_sync(descriptor, path, errors);
    bool shut = closed(descriptor) || cannot_write(path, "closing", errors);
    return good && shut;
}

bool file_remove(const char *path, Errors *errors) {
    if (!fault_next() && (unlink(path) == 0 || errno == ENOENT)) return true;
    return cannot_write(path, "removing", errors);
}

static bool copy_file(const char *from, const char *to, Errors *errors) {
    File file;
    FileWriter writer;
    if (!file_map(&file, from, EXIT_CANNOT_WRITE, errors)) return false;
    bool good = file_create(&writer, to, errors);
    if (good) {
        file_reserve(&writer, file.size);
        file_write(&writer, file.bytes, file.size);
        good = file_finish(&writer, NULL, errors);
    }
    file_close(&file);
    return good;
}

bool file_link(const char *from, const char *to, Errors *errors) {
    static const int refusals[] = {EPERM, EOPNOTSUPP, ENOSYS, EMLINK, EXDEV};
    if (fault_next()) return cannot_write(to, "linking", errors);
    if (link(from, to) == 0) return true;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++)
        if (errno == refusals[i]) return copy_file(from, to, errors);
    return cannot_write(to, "linking", errors);
}
