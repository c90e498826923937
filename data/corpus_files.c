// Files of a corpus. Nothing is ever removed from an output directory but files named exactly as this program names
// them, and only when there is nothing else in it.
#include "data/corpus_files.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/shards.h"
#include "data/text_stream.h"
#include "runtime/file.h"
#include "runtime/memory.h"

// ---- inputs ----

typedef struct {
    TextList *files;
    struct stat out; // st_ino 0: does not exist yet
    Errors *errors;
} Walk;

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev;
}

static bool walk_folder(const Walk *walk, const char *folder, int depth) {
    enum { DEEPEST = 64 };
    if (depth > DEEPEST)
        return errors_add(walk->errors, EXIT_NO_INPUT, "%s: folders nest deeper than %d", folder, DEEPEST);
    TextList names = {0};
    bool good = directory_list(&names, folder, walk->errors);
    for (int64_t i = 0; i < names.count && good; i++) {
        char path[4096];
        struct stat info, link;
        path_join(path, folder, names.items[i]);
        if (names.items[i][0] == '.' || stat(path, &info) != 0 || lstat(path, &link) != 0) continue;
        bool is_out = same_file(&info, &walk->out);
        if (S_ISDIR(info.st_mode) && !S_ISLNK(link.st_mode) && !is_out) good = walk_folder(walk, path, depth + 1);
        if (S_ISREG(info.st_mode)) text_list_add(walk->files, path);
    }
    text_list_close(&names);
    return good;
}

static bool add_standard_input(TextList *files, Errors *errors) {
    if (isatty(STDIN_FILENO))
        return errors_add(errors, EXIT_USAGE,
                          "-: standard input is a terminal; pipe JSON lines into it, or name a file");
    for (int64_t i = 0; i < files->count; i++)
        if (strcmp(files->items[i], TEXT_STREAM_INPUT) == 0)
            return errors_add(errors, EXIT_USAGE, "-: standard input can be read once; name it once");
    text_list_add(files, TEXT_STREAM_INPUT);
    return true;
}

bool corpus_find_files(const TextList *inputs, const char *out, TextList *files, Errors *errors) {
    Walk walk = {.files = files, .errors = errors};
    if (stat(out, &walk.out) != 0) walk.out = (struct stat){0};
    bool good = true;
    for (int64_t i = 0; i < inputs->count; i++) {
        const char *input = inputs->items[i];
        struct stat info;
        if (strcmp(input, TEXT_STREAM_INPUT) == 0)
            good = add_standard_input(files, errors) && good;
        else if (stat(input, &info) != 0)
            good = errors_add(errors, EXIT_NO_INPUT, "%s: %s; expected a text file, a .jsonl file or a folder", input,
                              strerror(errno));
        else if (S_ISDIR(info.st_mode))
            good = walk_folder(&walk, input, 0) && good;
        else if (S_ISREG(info.st_mode))
            text_list_add(files, input);
        else
            good = errors_add(errors, EXIT_NO_INPUT,
                              "%s: neither a file nor a folder; JSON lines can be piped into `prepare -`", input);
    }
    if (good && files->count == 0) return errors_add(errors, EXIT_NO_INPUT, "the inputs hold no files");
    return good;
}

// ---- the output directory ----

static bool is_shard_name(const char *name) { // train_000000.bin
    int split_size = 0, size = 0;
    if (sscanf(name, "%*[a-z]%n_%*[0-9].bin%n", &split_size, &size) < 0 || size == 0) return false;
    bool split = (split_size == 5 && memcmp(name, "train", 5) == 0) || (split_size == 3 && memcmp(name, "val", 3) == 0);
    return split && name[size] == 0 && size - split_size >= 11; // _ and six digits or more and .bin
}

static const char DATASET[] = "dataset.json", PARTIAL[] = "prepare.partial";

static bool is_ours(const char *name) {
    return strcmp(name, DATASET) == 0 || strcmp(name, "tokenizer.json") == 0 || is_shard_name(name);
}

static bool stands_in(const char *path, const struct stat *directory) {
    char parent[4096];
    struct stat info;
    path_directory(parent, path);
    return stat(parent, &info) == 0 && same_file(&info, directory);
}

bool corpus_spare_input(const char *path, const char *out, Errors *errors) {
    struct stat directory;
    if (stat(out, &directory) != 0) return true; // there is nothing in it
    char *real = realpath(path, NULL);
    bool inside = stands_in(path, &directory) || (real && stands_in(real, &directory));
    free(real);
    if (!inside) return true;
    return errors_add(errors, EXIT_USAGE,
                      "%s: lies in the output directory %s, whose files are replaced; choose another --out",
                      path, out);
}

static bool remove_output(const char *directory, const char *name, Errors *errors) {
    char path[4096];
    path_join(path, directory, name);
    return file_remove(path, errors);
}

// Names in `out`, all of them ours.
static bool list_output(const char *out, TextList *names, Errors *errors) {
    bool good = directory_list(names, out, errors);
    for (int64_t i = 0; i < names->count && good; i++)
        if (!is_ours(names->items[i]) && strcmp(names->items[i], PARTIAL) != 0)
            good = errors_add(errors, EXIT_CANNOT_WRITE,
                              "%s: holds %s, which is no output of `prepare`; choose a new or empty directory", out,
                              names->items[i]);
    return good;
}

bool corpus_check_output(const char *out, Errors *errors) {
    if (!path_exists(out)) return true;
    if (!path_is_directory(out))
        return errors_add(errors, EXIT_CANNOT_WRITE, "%s: is a file; --out takes a directory", out);
    TextList names = {0};
    bool good = list_output(out, &names, errors);
    text_list_close(&names);
    return good;
}

bool corpus_begin_output(const char *out, char partial[4096], Errors *errors) {
    path_join(partial, out, PARTIAL);
    return corpus_check_output(out, errors) && directory_make(out, errors) && directory_remove(partial, errors) &&
           directory_make(partial, errors);
}

static bool move_output(const char *partial, const char *out, const char *name, Errors *errors) {
    char from[4096], to[4096];
    path_join(from, partial, name);
    path_join(to, out, name);
    return path_rename(from, to, errors);
}

static bool replace_output(const char *out, const char *partial, Errors *errors) {
    TextList old = {0}, new = {0};
    bool good = directory_sync(partial, errors) && list_output(out, &old, errors) &&
                directory_list(&new, partial, errors) && remove_output(out, DATASET, errors) &&
                directory_sync(out, errors);
    for (int64_t i = 0; i < old.count && good; i++)
        if (strcmp(old.items[i], PARTIAL) != 0) good = remove_output(out, old.items[i], errors);
    for (int64_t i = 0; i < new.count && good; i++)
        if (strcmp(new.items[i], DATASET) != 0) good = move_output(partial, out, new.items[i], errors);
    good = good && directory_sync(out, errors) && move_output(partial, out, DATASET, errors) &&
           directory_remove(partial, errors) && directory_sync(out, errors);
    text_list_close(&old);
    text_list_close(&new);
    return good;
}

bool corpus_finish_output(const char *out, const char *partial, Errors *errors) {
    sigset_t waiting, before;
    sigemptyset(&waiting);
    sigaddset(&waiting, SIGINT);
    sigaddset(&waiting, SIGTERM);
    sigaddset(&waiting, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &waiting, &before);
    bool good = replace_output(out, partial, errors);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (good) return true;
    return errors_add(errors, EXIT_CANNOT_WRITE,
                      "%s: the new dataset is complete, but not all of its files are in place; run the same command "
                      "again, or move those in %s up, dataset.json last", out, partial);
}

void corpus_drop_output(const char *partial) {
    Errors ignored = {0};
    directory_remove(partial, &ignored);
    errors_close(&ignored);
}

// ---- shards ----

ShardWriter shard_writer_open(const char *directory, const char *split, int64_t vocab, int64_t shard_tokens) {
    return (ShardWriter){.directory = directory,
                         .split = split,
                         .id_bytes = vocab <= UINT16_MAX ? 2 : 4,
                         .shard_tokens = shard_tokens};
}

static bool write_shard(ShardWriter *writer, Errors *errors) {
    char name[64], path[4096];
    snprintf(name, sizeof name, "%s_%06ld.bin", writer->split, writer->shards);
    path_join(path, writer->directory, name);
    const ShardKind *kind = shard_kinds;
    while (kind->id_bytes != writer->id_bytes) kind++;
    int32_t header[SHARD_HEADER_WORDS] = {kind->magic, kind->version, (int32_t)writer->held};
    FileWriter file;
    if (!file_create(&file, path, errors)) return false;
    file_write(&file, header, sizeof header);
    file_write(&file, writer->ids, (size_t)(writer->held * writer->id_bytes));
    if (!file_finish(&file, NULL, errors)) return false;
    writer->shards++;
    writer->held = 0;
    return true;
}

static void reserve(ShardWriter *writer, int64_t count) {
    if (writer->held + count <= writer->capacity) return;
    int64_t capacity = writer->capacity ? 2 * writer->capacity : 1 << 16;
    if (capacity > writer->shard_tokens) capacity = writer->shard_tokens;
    if (capacity < writer->held + count) capacity = writer->held + count;
    writer->ids = memory_grow(writer->ids, capacity, (size_t)writer->id_bytes,
                              "the tokens of a shard; lower --shard-tokens");
    writer->capacity = capacity;
}

static void hold(ShardWriter *writer, const int32_t *ids, int64_t count) {
    reserve(writer, count);
    char *out = writer->ids + writer->held * writer->id_bytes;
    if (writer->id_bytes == sizeof *ids) memcpy(out, ids, (size_t)count * sizeof *ids);
    else for (int64_t i = 0; i < count; i++) ((uint16_t *)out)[i] = (uint16_t)ids[i];
    writer->held += count;
    writer->tokens += count;
}

bool shard_writer_add(ShardWriter *writer, const int32_t *ids, int64_t count, Errors *errors) {
    while (count > 0) {
        int64_t room = writer->shard_tokens - writer->held, part = count < room ? count : room;
        hold(writer, ids, part);
        ids += part;
        count -= part;
        if (writer->held == writer->shard_tokens && !write_shard(writer, errors)) return false;
    }
    return true;
}

bool shard_writer_finish(ShardWriter *writer, Errors *errors) {
    return writer->held == 0 || write_shard(writer, errors);
}

void shard_writer_close(ShardWriter *writer) {
    free(writer->ids);
    *writer = (ShardWriter){0};
}
