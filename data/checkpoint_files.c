// Checkpoints, verified: every file against the manifest, and where one is damaged.
#include <stdlib.h>
#include <string.h>

#include "data/checkpoint_parts.h"
#include "runtime/memory.h"

enum { TOLD = 4 }; // of a list that may be long; the others are counted

typedef struct {
    uint64_t begin, end; // bytes
} Range;

// Blocks whose hashes differ, adjacent ones joined; freed by the caller.
static Range *find_ranges(const ManifestFile *file, const Text *found, int64_t *count) {
    size_t blocks = found->size / BLOCK_HEX, size = (size_t)file->size;
    Range *ranges = memory_take((int64_t)blocks, sizeof *ranges, file->name);
    *count = 0;
    for (size_t i = 0; i < blocks; i++) {
        if (memcmp(found->data + i * BLOCK_HEX, file->blocks + i * BLOCK_HEX, BLOCK_HEX) == 0) continue;
        size_t begin = i * FILE_BLOCK, end = begin + FILE_BLOCK < size ? begin + FILE_BLOCK : size;
        if (*count > 0 && ranges[*count - 1].end == begin) ranges[*count - 1].end = end;
        else ranges[(*count)++] = (Range){begin, end};
    }
    return ranges;
}

static bool overlaps(const Range *ranges, int64_t count, uint64_t begin, uint64_t end) {
    for (int64_t i = 0; i < count; i++)
        if (ranges[i].begin < end && begin < ranges[i].end) return true;
    return false;
}

// The tensors of a safetensors file in damaged ranges; none where the header, which tells where they are, is damaged.
static void name_tensors(Text *out, const char *path, const Range *ranges, int64_t count) {
    Errors ignored = {0};
    const char *ending = strrchr(path, '.');
    Safetensors *st =
        strcmp(ending ? ending : "", ".safetensors") == 0 ? safetensors_open(path, EXIT_CHECKPOINT, &ignored) : NULL;
    int64_t hit = 0, tensors = st ? safetensors_count(st) : 0;
    uint64_t begin = 0, end;
    if (tensors > 0) safetensors_span(st, 0, &begin, &end);
    for (int64_t i = 0; i < tensors && ranges[0].begin >= begin; i++) {
        uint64_t from, to;
        safetensors_span(st, i, &from, &to);
        if (overlaps(ranges, count, from, to) && hit++ < TOLD)
            text_printf(out, "%s%s", hit == 1 ? "; they belong to " : ", ", safetensors_name(st, i));
    }
    if (hit > TOLD) text_printf(out, " and %ld more tensors", hit - TOLD);
    safetensors_close(st);
    errors_close(&ignored);
}

static void describe_ranges(Text *out, const char *path, const ManifestFile *file, const Text *found) {
    int64_t count;
    Range *ranges = find_ranges(file, found, &count);
    for (int64_t i = 0; i < count && i < TOLD; i++)
        text_printf(out, "%s%lu..%lu", i ? ", " : "bytes ", ranges[i].begin, ranges[i].end - 1);
    if (count > TOLD) text_printf(out, " and %ld more ranges", count - TOLD);
    if (count > 0) {
        text_printf(out, " of %ld are damaged", file->size);
        name_tensors(out, path, ranges, count);
    }
    free(ranges);
}

static void check_bytes(const char *path, const ManifestFile *file, Errors *errors) {
    char hash[HASH_HEX];
    Text blocks = {0}, ranges = {0};
    if (file_hash_blocks(path, hash, &blocks, EXIT_CHECKPOINT, errors) && strcmp(hash, file->hash) != 0) {
        size_t digits = ((size_t)file->size + FILE_BLOCK - 1) / FILE_BLOCK * BLOCK_HEX;
        if (file->blocks && blocks.size == digits) describe_ranges(&ranges, path, file, &blocks);
        if (ranges.size == 0)
            text_printf(&ranges, "the file is damaged: its checksum is %s, expected %s", hash, file->hash);
        errors_add(errors, EXIT_CHECKPOINT, "%s: %s", path, text_string(&ranges));
    }
    text_close(&blocks);
    text_close(&ranges);
}

static void check_file(const char *checkpoint, const ManifestFile *file, Errors *errors) {
    char path[4096];
    uint64_t size = 0, expected = (uint64_t)file->size;
    path_join(path, checkpoint, file->name);
    if (!path_size(path, &size))
        errors_add(errors, EXIT_CHECKPOINT, "%s: the file is missing from the checkpoint", path);
    else if (size < expected)
        errors_add(errors, EXIT_CHECKPOINT, "%s: %lu bytes, expected %lu; the last %lu, from byte %lu on, are missing",
                   path, size, expected, expected - size, size);
    else if (size > expected)
        errors_add(errors, EXIT_CHECKPOINT, "%s: %lu bytes, expected %lu; the last %lu, from byte %lu on, are too many",
                   path, size, expected, size - expected, expected);
    else
        check_bytes(path, file, errors);
}

bool manifest_check_files(const Manifest *manifest, const char *checkpoint, Errors *errors) {
    int before = errors->count;
    for (int64_t i = 0; i < manifest->count; i++) check_file(checkpoint, &manifest->files[i], errors);
    return errors->count == before;
}

bool checkpoint_check(const char *path, Errors *errors) {
    Manifest manifest;
    bool good = manifest_open(&manifest, path, errors) && manifest_check_files(&manifest, path, errors);
    manifest_close(&manifest);
    return good;
}

bool checkpoint_verify(const char *path, Errors *errors) {
    char older[4096];
    if (checkpoint_check(path, errors)) return true;
    checkpoint_find_older(path, older);
    return errors_add(errors, EXIT_CHECKPOINT, "%s: damaged; %s%s", path,
                      *older ? "the one before it is " : "there is no older checkpoint beside it", older);
}

bool checkpoint_holds_state(const char *path) {
    Manifest manifest;
    Errors ignored = {0};
    bool holds = manifest_open(&manifest, path, &ignored) && manifest_holds_state(&manifest);
    manifest_close(&manifest);
    errors_close(&ignored);
    return holds;
}

bool checkpoint_lists(const char *path, const char *file) {
    Manifest manifest;
    Errors ignored = {0};
    bool found = false;
    manifest_open(&manifest, path, &ignored);
    for (int64_t i = 0; i < manifest.count; i++) found = found || strcmp(manifest.files[i].name, file) == 0;
    manifest_close(&manifest);
    errors_close(&ignored);
    return found;
}
