// Token shards. A file is believed only after its header, count and size agree; ids are checked as they are read.
// Offsets are 64-bit throughout, so files beyond 2 GiB are ordinary. Byte order is little-endian, as the machine's.
#include "data/shards.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "runtime/file.h"
#include "runtime/memory.h"

enum { HEADER_BYTES = 4 * SHARD_HEADER_WORDS, MIB = 1 << 20 };

typedef struct {
    char *path;
    File file;
    const char *ids; // into file.bytes
    int64_t count;
    int id_bytes; // 2 or 4
} Shard;

struct Shards {
    Shard *items;
    int64_t count;
};

const ShardKind shard_kinds[SHARD_KINDS] = {{20240520, 1, 2}, {20240801, 7, 4}};

static int32_t header_word(const File *file, int index) {
    int32_t word;
    memcpy(&word, file->bytes + 4 * index, sizeof word);
    return word;
}

static int header_kind(const File *file) { // -1: none of ours
    if (file->size < HEADER_BYTES) return -1;
    for (int i = 0; i < SHARD_KINDS; i++)
        if (header_word(file, 0) == shard_kinds[i].magic) return i;
    return -1;
}

static bool check_numpy(const Shard *shard, Errors *errors) {
    if (shard->file.size < 6 || memcmp(shard->file.bytes, "\x93NUMPY", 6) != 0) return true;
    return errors_add(errors, EXIT_DATA,
                      "%s: byte 0: a NumPy file, not a token shard; write its ids with array.tofile() and set "
                      "data.format=raw_u16 or raw_u32",
                      shard->path);
}

static bool believe_header(Shard *shard, Errors *errors) {
    const File *file = &shard->file;
    if (file->size < HEADER_BYTES)
        return errors_add(errors, EXIT_DATA,
                          "%s: %zu bytes, shorter than the header of %d; copy it again, or set data.format=raw_u16 or "
                          "raw_u32 if it holds ids without a header",
                          shard->path, file->size, HEADER_BYTES);
    int kind = header_kind(file);
    if (kind < 0)
        return errors_add(errors, EXIT_DATA,
                          "%s: byte 0: expected the shard mark %d or %d, found %d; set data.format=raw_u16 or raw_u32 "
                          "if the file holds ids without a header",
                          shard->path, shard_kinds[0].magic, shard_kinds[1].magic, header_word(file, 0));
    if (header_word(file, 1) != shard_kinds[kind].version)
        return errors_add(errors, EXIT_DATA,
                          "%s: byte 4: expected format version %d, found %d; prepare the text again with `train_gpt "
                          "prepare`",
                          shard->path, shard_kinds[kind].version, header_word(file, 1));
    shard->id_bytes = shard_kinds[kind].id_bytes;
    shard->count = header_word(file, 2);
    shard->ids = file->bytes + HEADER_BYTES;
    uint64_t expected = HEADER_BYTES + (uint64_t)shard->count * (uint64_t)shard->id_bytes;
    if (shard->count < 0 || expected != file->size)
        return errors_add(errors, EXIT_DATA,
                          "%s: byte 8: the header counts %ld tokens of %d bytes, but the file has %zu bytes after the "
                          "header; it was cut short or overwritten: copy it again",
                          shard->path, shard->count, shard->id_bytes, file->size - HEADER_BYTES);
    return true;
}

static bool believe_raw(Shard *shard, int id_bytes, Errors *errors) {
    const File *file = &shard->file;
    if (header_kind(file) >= 0)
        return errors_add(errors, EXIT_DATA, "%s: byte 0: the shard has a header; set data.format=header", shard->path);
    if (file->size % (size_t)id_bytes != 0)
        return errors_add(errors, EXIT_DATA,
                          "%s: %zu bytes are no whole number of %d-byte ids; it was cut short, or data.format is wrong",
                          shard->path, file->size, id_bytes);
    shard->id_bytes = id_bytes;
    shard->count = (int64_t)(file->size / (size_t)id_bytes);
    shard->ids = file->bytes;
    return true;
}

static bool shard_open(Shard *shard, ShardFormat format, Errors *errors) {
    if (!file_map(&shard->file, shard->path, EXIT_NO_INPUT, errors)) return false;
    if (shard->file.size > 0 && !check_numpy(shard, errors)) return false;
    bool good = format == SHARD_HEADER ? believe_header(shard, errors)
                                       : believe_raw(shard, format == SHARD_RAW_U16 ? 2 : 4, errors);
    if (!good) return false;
    if (shard->count == 0)
        return errors_add(errors, EXIT_DATA, "%s: holds no tokens; remove it or prepare it again", shard->path);
    return true;
}

typedef struct {
    const char *path;
    int64_t index; // in the list
} Place;

static int compare_places(const void *a, const void *b) {
    const Place *x = a, *y = b;
    int order = strcmp(x->path, y->path);
    return order ? order : (x->index > y->index) - (x->index < y->index);
}

// Keeps the first of equal paths, in order: globs may overlap.
static void drop_repeated(TextList *paths) {
    Place *places = memory_take(paths->count, sizeof *places, "shards");
    for (int64_t i = 0; i < paths->count; i++) places[i] = (Place){paths->items[i], i};
    qsort(places, (size_t)paths->count, sizeof *places, compare_places);
    const char *before = NULL;
    for (int64_t i = 0; i < paths->count; i++) {
        char **item = &paths->items[places[i].index];
        bool repeated = before && strcmp(*item, before) == 0;
        if (!repeated) before = *item;
        if (repeated) free(*item), *item = NULL;
    }
    int64_t kept = 0;
    for (int64_t i = 0; i < paths->count; i++)
        if (paths->items[i]) paths->items[kept++] = paths->items[i];
    paths->count = kept;
    free(places);
}

Shards *shards_open(const TextList *globs, ShardFormat format, Errors *errors) {
    TextList paths = {0};
    int before = errors->count;
    for (int64_t i = 0; i < globs->count; i++) {
        int64_t found = paths.count;
        path_glob(&paths, globs->items[i]);
        if (paths.count == found)
            errors_add(errors, EXIT_NO_INPUT,
                       "%s: no file matches; make shards with `train_gpt prepare TEXT --tokenizer gpt2 --out DIR`",
                       globs->items[i]);
    }
    drop_repeated(&paths);
    if (globs->count == 0) errors_add(errors, EXIT_NO_INPUT, "no token shards are named; set data.train and data.val");

    Shards *shards = memory_take(1, sizeof *shards, "shards");
    Shard *items = memory_take(paths.count, sizeof *items, "shards");
    *shards = (Shards){items, paths.count};
    for (int64_t i = 0; i < paths.count; i++) {
        items[i].path = memory_string(paths.items[i]);
        shard_open(&items[i], format, errors);
    }
    text_list_close(&paths);
    if (errors->count == before) return shards;
    shards_close(shards);
    return NULL;
}

void shards_close(Shards *shards) {
    if (!shards) return;
    for (int64_t i = 0; i < shards->count; i++) {
        file_close(&shards->items[i].file);
        free(shards->items[i].path);
    }
    free(shards->items);
    free(shards);
}

int64_t shards_tokens(const Shards *shards) {
    int64_t tokens = 0;
    for (int64_t i = 0; i < shards->count; i++) tokens += shards->items[i].count;
    return tokens;
}

int64_t shards_count(const Shards *shards) { return shards->count; }

const char *shards_path(const Shards *shards, int64_t index) { return shards->items[index].path; }

static int64_t windows_of(const Shard *shard, int64_t length) { return (shard->count - 1) / length; }

int64_t shards_windows(const Shards *shards, int64_t length) {
    int64_t windows = 0;
    for (int64_t i = 0; i < shards->count; i++) windows += windows_of(&shards->items[i], length);
    return windows;
}

static int64_t id_at(const Shard *shard, int64_t index) {
    if (shard->id_bytes == 2) {
        uint16_t id;
        memcpy(&id, shard->ids + 2 * index, sizeof id);
        return id;
    }
    uint32_t id;
    memcpy(&id, shard->ids + 4 * index, sizeof id);
    return id;
}

static bool refuse_id(const Shard *shard, int64_t at, int64_t vocab, Errors *errors) {
    return errors_add(errors, EXIT_DATA,
                      "%s: token %ld (byte %ld) is %ld, outside the vocabulary of %ld; the shard is damaged or was "
                      "made with another tokenizer",
                      shard->path, at, shard->ids - shard->file.bytes + at * shard->id_bytes, id_at(shard, at), vocab);
}

bool shards_read(const Shards *shards, int64_t index, int64_t length, int64_t vocab, int32_t *ids, Errors *errors) {
    const Shard *shard = shards->items, *end = shard + shards->count;
    REQUIRE(index >= 0 && length > 0, "window %ld of length %ld", index, length);
    while (shard < end && index >= windows_of(shard, length)) index -= windows_of(shard++, length);
    REQUIRE(shard < end, "%ld windows too far", index + 1);
    for (int64_t i = 0; i <= length; i++) {
        int64_t at = index * length + i, id = id_at(shard, at);
        if (id >= vocab) return refuse_id(shard, at, vocab, errors);
        ids[i] = (int32_t)id;
    }
    return true;
}

bool shards_check_ids(const Shards *shards, int64_t vocab, Errors *errors) {
    int before = errors->count;
    for (const Shard *shard = shards->items; shard < shards->items + shards->count; shard++) {
        int64_t at = 0;
        while (at < shard->count && id_at(shard, at) < vocab) at++;
        if (at < shard->count) refuse_id(shard, at, vocab, errors);
    }
    return errors->count == before;
}

void shards_fingerprint(const Shards *shards, char hex[33]) {
    XXH3_state_t *state = XXH3_createState();
    if (!state) DIE(EXIT_INTERNAL, "out of memory for a hash");
    XXH3_128bits_reset(state);
    for (int64_t i = 0; i < shards->count; i++) {
        const Shard *shard = &shards->items[i];
        const char *slash = strrchr(shard->path, '/'), *name = slash ? slash + 1 : shard->path;
        uint64_t size = shard->file.size;
        size_t part = size < MIB ? size : MIB; // the first holds the header too
        XXH3_128bits_update(state, name, strlen(name) + 1);
        XXH3_128bits_update(state, &size, sizeof size);
        XXH3_128bits_update(state, shard->file.bytes, part);
        XXH3_128bits_update(state, shard->file.bytes + size - part, part);
    }
    XXH128_hash_t hash = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    snprintf(hex, 33, "%016lx%016lx", hash.high64, hash.low64);
}
