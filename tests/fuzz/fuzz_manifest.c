// A checkpoint's manifest: the bytes as they are, and as a body that ends with the checksum that belongs to it.
#include "data/checkpoint.h"
#include "tests/fuzz/fuzz.h"

static void check(const char *bytes, size_t size) {
    Errors errors = {0};
    bool good = checkpoint_manifest_check("manifest.json", bytes, size, &errors);
    fuzz_errors(&errors, !good);
}

TARGET {
    char hash[HASH_HEX];
    Text text = {0};
    check((const char *)bytes, size);
    bytes_hash(bytes, size, hash);
    text_append(&text, bytes, size);
    text_printf(&text, ",\n  \"xxh3\": \"%s\"\n}\n", hash);
    check(text.data, text.size);
    text_close(&text);
    return 0;
}
