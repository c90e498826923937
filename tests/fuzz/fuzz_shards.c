// A token shard. The first byte says in which format it is read, in which windows, and for which vocabulary; the rest
// is the file. Refused, or every id that is handed out is in the vocabulary.
#include "data/shards.h"
#include "tests/fuzz/fuzz.h"

enum { FORMATS = 3, LENGTHS = 9 };
static const int64_t vocabularies[] = {256, 50257, INT32_MAX};

static void read_all(const Shards *shards, int64_t length, int64_t vocab, bool all_good) {
    int32_t ids[LENGTHS + 1];
    for (int64_t window = 0; window < shards_windows(shards, length); window++) {
        Errors errors = {0};
        bool good = shards_read(shards, window, length, vocab, ids, &errors);
        fuzz_errors(&errors, !good);
        HOLDS(good || !all_good);
        for (int64_t i = 0; good && i <= length; i++) HOLDS(ids[i] >= 0 && ids[i] < vocab);
    }
}

TARGET {
    if (size == 0) return 0;
    ShardFormat format = (ShardFormat)(bytes[0] % FORMATS);
    int64_t length = 1 + bytes[0] / FORMATS % LENGTHS, vocab = vocabularies[bytes[0] / FORMATS / LENGTHS % 3];
    char *path = (char *)fuzz_file(0, bytes + 1, size - 1), hex[33];
    Errors errors = {0};
    Shards *shards = shards_open(&(TextList){&path, 1, 1}, format, &errors);
    fuzz_errors(&errors, !shards);
    if (!shards) return 0;
    HOLDS(shards_count(shards) == 1 && shards_tokens(shards) > 0 && shards_tokens(shards) <= (int64_t)size / 2);
    bool good = shards_check_ids(shards, vocab, &errors);
    fuzz_errors(&errors, !good);
    read_all(shards, length, vocab, good);
    shards_fingerprint(shards, hex);
    shards_close(shards);
    return 0;
}
