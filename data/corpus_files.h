// Files of a corpus, for data/corpus*.c alone: those it reads, and the output directory it owns.
#pragma once

#include "runtime/error.h"

// The files of `inputs` in order, folders walked; nothing below the directory `out` is taken.
bool corpus_find_files(const TextList *inputs, const char *out, TextList *files, Errors *errors);

// False and a message when a file that is read lies in `out`, itself or where a link leads.
bool corpus_spare_input(const char *path, const char *out, Errors *errors);

// An output directory keeps what it has until everything new is complete. `begin` refuses one that holds anything but
// what `prepare` writes and makes the folder `partial` in it; `finish` puts the files of `partial` in the place of the
// old ones, dataset.json removed first and moved last, while SIGINT, SIGTERM and SIGHUP wait; if it fails,
// what was not moved stays in `partial`. `drop` removes `partial`.
bool corpus_check_output(const char *out, Errors *errors); // only what `begin` would refuse
bool corpus_begin_output(const char *out, char partial[4096], Errors *errors);
bool corpus_finish_output(const char *out, const char *partial, Errors *errors);
void corpus_drop_output(const char *partial);

// One split being written as SPLIT_000000.bin, SPLIT_000001.bin, ...; a shard is gathered in memory, because its header
// counts its tokens.
typedef struct {
    const char *directory, *split;
    int id_bytes; // 2 or 4
    int64_t shard_tokens;
    char *ids;
    int64_t held, capacity; // tokens
    int64_t shards, tokens; // written and held so far
} ShardWriter;

ShardWriter shard_writer_open(const char *directory, const char *split, int64_t vocab, int64_t shard_tokens);
bool shard_writer_add(ShardWriter *writer, const int32_t *ids, int64_t count, Errors *errors);
bool shard_writer_finish(ShardWriter *writer, Errors *errors); // writes what is held
void shard_writer_close(ShardWriter *writer);
