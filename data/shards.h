// Token shards: files of token ids, mapped read only and cut into windows.
// Formats (docs/formats.md): llm.c / modded-nanogpt version 1 (20240520, uint16), llm.c version 7 (20240801, uint32),
// raw uint16 and uint32 without a header.
#pragma once

#include "runtime/error.h"
#include "runtime/options.h"

typedef enum { SHARD_HEADER, SHARD_RAW_U16, SHARD_RAW_U32 } ShardFormat; // values of data.format

// A header is 256 int32, of which the first three are these two and the count of tokens; the others are zero.
typedef struct {
    int32_t magic, version;
    int id_bytes;
} ShardKind;
enum { SHARD_HEADER_WORDS = 256, SHARD_KINDS = 2 };
extern const ShardKind shard_kinds[SHARD_KINDS];

typedef struct Shards Shards;

// Opens and validates every file of the globs, in sorted order per glob; one that several globs match is there once.
// Messages name file and byte.
Shards *shards_open(const TextList *globs, ShardFormat format, Errors *errors);
void shards_close(Shards *shards);

int64_t shards_tokens(const Shards *shards);
int64_t shards_count(const Shards *shards); // files, at least one
const char *shards_path(const Shards *shards, int64_t index);

// Windows of `length` + 1 tokens, consecutive windows sharing one; never across two files.
int64_t shards_windows(const Shards *shards, int64_t length);

// Copies window `index` (0 <= index < shards_windows): length + 1 ids. False and a message that names file and
// position if an id is outside [0, vocab).
bool shards_read(const Shards *shards, int64_t index, int64_t length, int64_t vocab, int32_t *ids, Errors *errors);

// Reads every id: false and a message that names file and position of the first one of each file that is outside
// [0, vocab).
bool shards_check_ids(const Shards *shards, int64_t vocab, Errors *errors);

// Identity of the data: xxh3 over (name, size, header, first and last MiB) of every file, as 32 hex digits.
void shards_fingerprint(const Shards *shards, char hex[33]);
