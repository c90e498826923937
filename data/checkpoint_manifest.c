// Manifests: what the files of a checkpoint must be, as JSON that ends with its own checksum. One is believed only if
// it has the members that manifest_write writes, and no others.
#include <stdlib.h>
#include <string.h>

#include "data/checkpoint_parts.h"
#include "data/state_files.h"
#include "runtime/memory.h"

enum { VERSION = 1, MANIFEST_LIMIT = 1 << 26, FILES_LIMIT = 8192, NAME_LIMIT = 255 }; // 64 MiB: blocks of 4 TiB

// ---- reading ----

static bool refuse(const char *path, const char *where, const char *problem, Errors *errors) {
    return errors_add(errors, EXIT_CHECKPOINT, "%s: %s%s%s; this is not a manifest of this program", path, where,
                      *where ? ": " : "", problem);
}

// Whether an object has no other members than these.
static bool only_members(const cJSON *object, const char *const *keys, int count) {
    const cJSON *node;
    bool good = cJSON_IsObject(object);
    if (good) cJSON_ArrayForEach(node, object) {
        bool known = false;
        for (int i = 0; i < count; i++) known = known || strcmp(node->string, keys[i]) == 0;
        good = good && known;
    }
    return good;
}

static bool is_hex(const cJSON *node, size_t digits) {
    return cJSON_IsString(node) && strlen(node->valuestring) == digits &&
           strspn(node->valuestring, "0123456789abcdef") == digits;
}

// The name of a file in the checkpoint's own directory that a terminal shows as it is.
static bool is_plain(const cJSON *node) {
    if (!cJSON_IsString(node)) return false;
    const char *name = node->valuestring;
    size_t size = strlen(name);
    for (const char *c = name; *c; c++)
        if (*c <= ' ' || *c > '~' || *c == '/') return false;
    return size > 0 && size <= NAME_LIMIT && *name != '.' && strcmp(name, CHECKPOINT_MANIFEST) != 0;
}

static bool is_listed(const Manifest *manifest, const char *name) {
    for (int64_t i = 0; i < manifest->count; i++)
        if (strcmp(manifest->files[i].name, name) == 0) return true;
    return false;
}

// NULL, or what is wrong with an entry of "files".
static const char *read_file(Manifest *manifest, const cJSON *node) {
    static const char *const keys[] = {"name", "size", "xxh3", "blocks"};
    const cJSON *name = json_member(node, "name"), *hash = json_member(node, "xxh3");
    const cJSON *blocks = json_member(node, "blocks");
    ManifestFile file = {0};
    if (!only_members(node, keys, 4)) return "expected name, size, xxh3 and blocks";
    if (!is_plain(name)) return "\"name\" must be the name of another file in this directory";
    if (is_listed(manifest, name->valuestring)) return "is listed twice";
    if (!json_is_integer(json_member(node, "size"), &file.size) || file.size < 0) return "\"size\" must be a count";
    if (!is_hex(hash, HASH_HEX - 1)) return "\"xxh3\" must be 32 hex digits";
    size_t digits = ((size_t)file.size + FILE_BLOCK - 1) / FILE_BLOCK * BLOCK_HEX;
    if (manifest->blocks ? !is_hex(blocks, digits) : blocks != NULL)
        return "\"blocks\" must be 16 hex digits for each \"block_bytes\" of the file";
    file.name = name->valuestring;
    file.hash = hash->valuestring;
    file.blocks = blocks ? blocks->valuestring : NULL;
    manifest->files[manifest->count++] = file;
    return NULL;
}

// Those of the state, where there are any, are the files of all ranks that wrote it: 1..N of N.
static bool check_state(const Manifest *manifest, const char *path, Errors *errors) {
    char name[STATE_FILE_NAME];
    int64_t states = 0, index, ranks = 0, all = 0;
    for (int64_t i = 0; i < manifest->count; i++) {
        const char *file = manifest->files[i].name;
        if (!checkpoint_is_state(file)) continue;
        if (!state_file_place(file, &index, &ranks))
            return refuse(path, file, "the state is in files state-00001-of-0000N.safetensors to 0000N-of-0000N",
                          errors);
        if (states++ == 0) all = ranks;
        if (ranks != all) return refuse(path, file, "it is of another number of files than the first one", errors);
    }
    for (int64_t i = 1; states < all && i <= all; i++) { // one is missing: no name is there twice
        state_file_name(name, i, all);
        if (!is_listed(manifest, name)) return refuse(path, name, "this part of the state is not listed", errors);
    }
    return true;
}

static bool read_files(Manifest *manifest, const char *path, const cJSON *files, Errors *errors) {
    int count = cJSON_IsArray(files) ? cJSON_GetArraySize(files) : 0;
    if (count < 1 || count > FILES_LIMIT) return refuse(path, "", "\"files\" must list 1 to 8192 files", errors);
    manifest->files = memory_take(count, sizeof *manifest->files, "files of a checkpoint");
    const cJSON *node;
    cJSON_ArrayForEach(node, files) {
        const char *problem = read_file(manifest, node);
        if (!problem) continue;
        const cJSON *name = json_member(node, "name");
        return refuse(path, cJSON_IsString(name) ? name->valuestring : "an entry of \"files\"", problem, errors);
    }
    return check_state(manifest, path, errors);
}

static bool read_root(Manifest *manifest, const char *path, Errors *errors) {
    static const char *const keys[] = {"version", "step", "block_bytes", "files", "xxh3"};
    const cJSON *root = json_root(manifest->json), *block = json_member(root, "block_bytes");
    int64_t version, bytes;
    if (!json_is_integer(json_member(root, "version"), &version))
        return refuse(path, "", "\"version\" must be a number", errors);
    if (version != VERSION)
        return errors_add(errors, EXIT_USAGE, "%s: version %ld, this program reads version %d; use the program that "
                          "wrote it", path, version, VERSION);
    if (!only_members(root, keys, 5))
        return refuse(path, "", "expected version, step, block_bytes, files and xxh3", errors);
    if (!json_is_integer(json_member(root, "step"), &manifest->step) || manifest->step < 0)
        return refuse(path, "", "\"step\" must be a count", errors);
    manifest->blocks = block != NULL; // the first manifests had none
    if (block && (!json_is_integer(block, &bytes) || bytes != FILE_BLOCK))
        return refuse(path, "", "\"block_bytes\" must be 1048576", errors);
    return read_files(manifest, path, json_member(root, "files"), errors);
}

// The end of a manifest: the hash of all that is before it. Nothing but these bytes may follow the files.
static void write_end(Text *out, const char *bytes, size_t size) {
    char hash[HASH_HEX];
    bytes_hash(bytes, size, hash);
    text_printf(out, ",\n  \"xxh3\": \"%s\"\n}\n", hash);
}

static bool ends_well(const char *bytes, size_t size) {
    Text end = {0};
    write_end(&end, "", 0); // for its size
    size_t body = size > end.size ? size - end.size : 0;
    text_clear(&end);
    write_end(&end, bytes, body);
    bool same = body > 0 && memcmp(bytes + body, end.data, end.size) == 0;
    text_close(&end);
    return same;
}

// Everything is looked at before the checksum, which explains every other mistake where it does not agree.
static bool parse(Manifest *manifest, const char *path, const char *bytes, size_t size, Errors *errors) {
    Errors mistakes = {0};
    *manifest = (Manifest){.json = json_parse(path, bytes, size, EXIT_CHECKPOINT, errors)};
    if (!manifest->json) return false;
    bool good = read_root(manifest, path, &mistakes);
    if (!ends_well(bytes, size)) {
        good = errors_add(errors, EXIT_CHECKPOINT, "%s: its own checksum does not match; the file is damaged", path);
    } else if (!good) {
        errors_move(errors, &mistakes);
    }
    errors_close(&mistakes);
    if (!good) manifest_close(manifest);
    return good;
}

bool checkpoint_manifest_check(const char *name, const char *bytes, size_t size, Errors *errors) {
    Manifest manifest;
    if (size > MANIFEST_LIMIT) return refuse(name, "", "more than 64 MiB", errors);
    bool good = parse(&manifest, name, bytes, size, errors);
    if (good) manifest_close(&manifest);
    return good;
}

bool manifest_open(Manifest *manifest, const char *checkpoint, Errors *errors) {
    char path[4096];
    File file;
    *manifest = (Manifest){0};
    path_join(path, checkpoint, CHECKPOINT_MANIFEST);
    if (!path_exists(path))
        return errors_add(errors, EXIT_CHECKPOINT, "%s: the manifest is missing; the checkpoint is not whole", path);
    if (!file_read(&file, path, MANIFEST_LIMIT, EXIT_CHECKPOINT, errors)) return false;
    bool good = parse(manifest, path, file.bytes, file.size, errors);
    file_close(&file);
    int64_t named = good ? checkpoint_directory_step(checkpoint) : -1;
    if (named < 0 || named == manifest->step) return good;
    errors_add(errors, EXIT_CHECKPOINT, "%s: it is of step %ld, the directory of step %ld; give it its own name back",
               path, manifest->step, named);
    manifest_close(manifest);
    return false;
}

void manifest_close(Manifest *manifest) {
    json_close(manifest->json);
    free(manifest->files);
    *manifest = (Manifest){0};
}

bool manifest_holds_state(const Manifest *manifest) {
    for (int64_t i = 0; i < manifest->count; i++)
        if (checkpoint_is_state(manifest->files[i].name)) return true;
    return false;
}

// ---- writing ----

void manifest_begin(ManifestWriter *writer, int64_t step, bool blocks) {
    writer->text = (Text){0};
    writer->json = (JsonWriter){.out = &writer->text, .indent = 2};
    json_begin(&writer->json, NULL, '{');
    json_integer(&writer->json, "version", VERSION);
    json_integer(&writer->json, "step", step);
    if (blocks) json_integer(&writer->json, "block_bytes", FILE_BLOCK);
    json_begin(&writer->json, "files", '[');
}

void manifest_add(ManifestWriter *writer, const ManifestFile *file) {
    json_begin(&writer->json, NULL, '{');
    json_string(&writer->json, "name", file->name);
    json_integer(&writer->json, "size", file->size);
    json_string(&writer->json, "xxh3", file->hash);
    if (file->blocks) json_string(&writer->json, "blocks", file->blocks);
    json_end(&writer->json, '}');
}

bool manifest_write(ManifestWriter *writer, const char *directory, Errors *errors) {
    char path[4096];
    FileWriter file;
    json_end(&writer->json, ']');
    write_end(&writer->text, writer->text.data, writer->text.size);
    path_join(path, directory, CHECKPOINT_MANIFEST);
    if (!file_create(&file, path, errors)) return false;
    file_write(&file, writer->text.data, writer->text.size);
    return file_finish(&file, NULL, errors);
}
