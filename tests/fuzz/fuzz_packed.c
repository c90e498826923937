// Files that say they are compressed, with a document a line inside: refused, or read, the same in whatever steps. The
// first byte chooses the name, and how the rest stands there: as it is, or compressed, so that the lines are reached.
#include <zlib.h>
#include <zstd.h>

#include "data/corpus.h"
#include "data/text_stream.h"
#include "tests/fuzz/folder.h"

enum { AS_IS, GZIP, ZSTD, MODES, MOST = 1 << 20 };

static void pack(Text *out, int mode, const void *bytes, size_t size) {
    static char block[1 << 16];
    if (mode == AS_IS) {
        text_append(out, bytes, size);
    } else if (mode == ZSTD) {
        text_append(out, block, ZSTD_compress(block, sizeof block, bytes, size, 1));
    } else {
        z_stream z = {.next_in = (unsigned char *)bytes, .avail_in = (unsigned)size};
        HOLDS(deflateInit2(&z, 1, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK);
        z.next_out = (unsigned char *)block;
        z.avail_out = sizeof block;
        HOLDS(deflate(&z, Z_FINISH) == Z_STREAM_END);
        text_append(out, block, sizeof block - z.avail_out);
        deflateEnd(&z);
    }
}

// In steps of any size the text is the same, or refused.
static bool read_text(const char *path, size_t step, Text *text, Errors *errors) {
    TextStream *stream = text_stream_open(path, errors);
    bool good = stream != NULL;
    while (good && !text_stream_ended(stream) && text->size < MOST) good = text_stream_read(stream, text, step, errors);
    text_stream_close(stream);
    return good;
}

static void check_steps(const char *path) {
    Text whole = {0}, parts = {0};
    Errors errors = {0}, again = {0};
    bool good = read_text(path, MOST, &whole, &errors);
    HOLDS(read_text(path, 1000, &parts, &again) == good || whole.size >= MOST);
    HOLDS(!good || parts.size >= MOST || parts.size == whole.size);
    HOLDS(memcmp(text_string(&parts), text_string(&whole), parts.size < whole.size ? parts.size : whole.size) == 0);
    fuzz_errors(&errors, !good);
    errors_close(&again);
    text_close(&whole);
    text_close(&parts);
}

TARGET {
    if (size == 0) return 0;
    Text packed = {0};
    Errors errors = {0};
    char input[4096], out[4096], *inputs[] = {input};
    pack(&packed, bytes[0] % MODES, bytes + 1, size - 1);
    const char *path = fuzz_file(0, text_string(&packed), packed.size);
    const char *name = bytes[0] / MODES % 2 ? "text.jsonl.gz" : "text.jsonl.zst";
    path_join(input, fuzz_folder(), name);
    path_join(out, fuzz_folder(), "out");
    fuzz_link(name, path);
    check_steps(input);
    Tokenizer *tokenizer = tokenizer_open("byte", &errors);
    CorpusSetup setup = {&(TextList){inputs, 1, 1}, out, 0.25, 1 << 20, "text", 1, true};
    CorpusCounts counts;
    bool good = corpus_prepare(tokenizer, &setup, &counts, &errors);
    fuzz_errors(&errors, !good);
    tokenizer_close(tokenizer);
    text_close(&packed);
    return 0;
}
