// Checkpoints, verified: the manifest says what the files must be.
#include <string.h>

#include "data/checkpoint_parts.h"
#include "runtime/json.h"

enum { MANIFEST_LIMIT = 1 << 22 };

static Json *open_manifest(const char *checkpoint, Errors *errors) {
    char path[4096], hash[HASH_HEX];
    File file;
    path_join(path, checkpoint, CHECKPOINT_MANIFEST);
    if (!file_read(&file, path, MANIFEST_LIMIT, EXIT_CHECKPOINT, errors)) return NULL;
    Json *json = json_parse(path, file.bytes, file.size, EXIT_CHECKPOINT, errors);
    const cJSON *own = json ? json_member(json_root(json), "xxh3") : NULL;
    const char *end = strstr(file.bytes, "],\n  \"xxh3\"");
    if (end) bytes_hash(file.bytes, (size_t)(end - file.bytes) + 1, hash);
    bool good = json && end && cJSON_IsString(own) && strcmp(own->valuestring, hash) == 0 &&
                cJSON_IsArray(json_member(json_root(json), "files"));
    file_close(&file);
    if (good) return json;
    if (json) errors_add(errors, EXIT_CHECKPOINT, "%s: its own checksum does not match; the file is damaged", path);
    json_close(json);
    return NULL;
}

// A file that the manifest lists: a plain name, a size, a hash.
typedef struct {
    const char *name, *hash;
    int64_t size;
} Listed;

static bool read_listed(const cJSON *node, Listed *listed) {
    const cJSON *name = json_member(node, "name"), *hash = json_member(node, "xxh3");
    if (!cJSON_IsString(name) || !cJSON_IsString(hash) || strchr(name->valuestring, '/')) return false;
    *listed = (Listed){name->valuestring, hash->valuestring, 0};
    return json_is_integer(json_member(node, "size"), &listed->size);
}

static void check_file(const char *checkpoint, const Listed *listed, Errors *errors) {
    char path[4096], hash[HASH_HEX];
    uint64_t size = 0;
    path_join(path, checkpoint, listed->name);
    if (!path_size(path, &size)) {
        errors_add(errors, EXIT_CHECKPOINT, "%s: the file is missing from the checkpoint", path);
    } else if ((int64_t)size != listed->size) {
        errors_add(errors, EXIT_CHECKPOINT, "%s: %lu bytes, expected %ld; the file was cut short or added to", path,
                   size, listed->size);
    } else if (file_hash(path, hash, &size, EXIT_CHECKPOINT, errors) && strcmp(hash, listed->hash) != 0) {
        errors_add(errors, EXIT_CHECKPOINT, "%s: its checksum is %s, expected %s; the file is damaged", path, hash,
                   listed->hash);
    }
}

static bool checkpoint_check_files(const char *checkpoint, Errors *errors) {
    Json *json = open_manifest(checkpoint, errors);
    if (!json) return false;
    int before = errors->count;
    const cJSON *node;
    cJSON_ArrayForEach(node, json_member(json_root(json), "files")) {
        Listed listed;
        if (read_listed(node, &listed)) check_file(checkpoint, &listed, errors);
        else errors_add(errors, EXIT_CHECKPOINT, "%s/%s: an entry is not a file", checkpoint, CHECKPOINT_MANIFEST);
    }
    json_close(json);
    return errors->count == before;
}

bool checkpoint_verify(const char *path, Errors *errors) {
    char older[4096];
    if (checkpoint_check_files(path, errors)) return true;
    checkpoint_find_older(path, older);
    return errors_add(errors, EXIT_CHECKPOINT, "%s: damaged; %s%s", path,
                      *older ? "the one before it is " : "there is no older checkpoint beside it", older);
}
