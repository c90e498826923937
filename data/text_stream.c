// A row per format: how its decoder is made, fed and freed. A decoder says how much it took and made; where both are
// nothing and there is no more to take, the text has ended, or was cut short.
#include "data/text_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "runtime/file.h"
#include "runtime/memory.h"

enum { BLOCK = 128 << 10, WINDOW_LOG = 27, ZSTD_STEP = 4096 };

typedef struct Format Format;

struct TextStream {
    const char *path;
    int descriptor;
    const Format *format;
    void *decoder;
    bool inside;       // of a member or frame
    int64_t begun;     // byte of the file where it begins
    int64_t members;   // that have ended
    int64_t size;      // of a regular file; -1: no such thing
    int64_t taken;     // bytes of the file before those of `in`
    bool exhausted;    // the file has no more
    bool ended;        // nor has the decoder
    const char *wrong; // what is wrong with the file, and from which byte on
    int64_t wrong_at;
    size_t at, have;   // of `in`
    char in[BLOCK], out[BLOCK];
};

struct Format {
    const char *name, *suffix, *magic;
    size_t magic_size;
    bool (*open)(TextStream *stream);
    bool (*decode)(TextStream *stream, size_t room, size_t *made); // from `in` into `out`; false where that is wrong
    void (*close)(TextStream *stream);
};

int64_t text_stream_taken(const TextStream *stream) { return stream->taken + (int64_t)stream->at; }

static bool refuse(TextStream *stream, const char *wrong, int64_t at) {
    stream->wrong = wrong;
    stream->wrong_at = at;
    return false;
}

// No member or frame begins where one should.
static bool refuse_begin(TextStream *stream, const char *wrong) {
    return refuse(stream, stream->members > 0 ? "something else follows the compressed data; remove it" : wrong,
                  stream->begun);
}

static void enter(TextStream *stream) {
    if (stream->inside || stream->at == stream->have) return;
    stream->inside = true;
    stream->begun = text_stream_taken(stream);
}

static void leave(TextStream *stream) {
    stream->inside = false;
    stream->members++;
}

// ---- formats ----

static bool plain_open(TextStream *stream) { return stream != NULL; }
static void plain_close(TextStream *stream) { (void)stream; }

static bool plain_decode(TextStream *stream, size_t room, size_t *made) {
    *made = stream->have - stream->at < room ? stream->have - stream->at : room;
    memcpy(stream->out, stream->in + stream->at, *made);
    stream->at += *made;
    return true;
}

static bool gzip_open(TextStream *stream) {
    z_stream *z = stream->decoder = calloc(1, sizeof *z);
    return z && inflateInit2(z, 16 + MAX_WBITS) == Z_OK; // gzip, and nothing else
}

static void gzip_close(TextStream *stream) {
    if (stream->decoder) inflateEnd(stream->decoder);
    free(stream->decoder);
}

static bool gzip_decode(TextStream *stream, size_t room, size_t *made) {
    z_stream *z = stream->decoder;
    z->next_in = (unsigned char *)stream->in + stream->at;
    z->avail_in = (unsigned)(stream->have - stream->at);
    z->next_out = (unsigned char *)stream->out;
    z->avail_out = (unsigned)room;
    int code = inflate(z, Z_NO_FLUSH);
    stream->at = stream->have - z->avail_in;
    *made = room - z->avail_out;
    if (code == Z_STREAM_END) leave(stream);
    if (code == Z_STREAM_END) return inflateReset(z) == Z_OK;
    if (code == Z_OK || code == Z_BUF_ERROR) return true;
    if (code == Z_MEM_ERROR) DIE(EXIT_INTERNAL, "out of memory to decompress %s", text_stream_name(stream->path));
    if (z->msg && strcmp(z->msg, "incorrect header check") == 0) return refuse_begin(stream, "no gzip data");
    return refuse(stream, z->msg ? z->msg : "damaged", text_stream_taken(stream));
}

static bool zstd_open(TextStream *stream) {
    stream->decoder = ZSTD_createDCtx();
    return stream->decoder &&
           !ZSTD_isError(ZSTD_DCtx_setParameter(stream->decoder, ZSTD_d_windowLogMax, WINDOW_LOG));
}

static void zstd_close(TextStream *stream) { ZSTD_freeDCtx(stream->decoder); }

static bool zstd_refuse(TextStream *stream, size_t code) {
    switch (ZSTD_getErrorCode(code)) {
    case ZSTD_error_prefix_unknown: return refuse_begin(stream, "no zstd data");
    case ZSTD_error_frameParameter_windowTooLarge:
        return refuse(stream, "a window above 128 MiB, as of zstd --long=28; compress it again without --long",
                      stream->begun);
    case ZSTD_error_memory_allocation:
        DIE(EXIT_INTERNAL, "out of memory to decompress %s", text_stream_name(stream->path));
    default: return refuse(stream, ZSTD_getErrorName(code), text_stream_taken(stream));
    }
}

// In small steps, because what is wrong is known only to a step.
static bool zstd_decode(TextStream *stream, size_t room, size_t *made) {
    size_t end = stream->have - stream->at < ZSTD_STEP ? stream->have : stream->at + ZSTD_STEP;
    ZSTD_inBuffer in = {stream->in, end, stream->at};
    ZSTD_outBuffer out = {stream->out, room, 0};
    size_t left = ZSTD_decompressStream(stream->decoder, &out, &in);
    stream->at = in.pos;
    *made = out.pos;
    if (ZSTD_isError(left)) return zstd_refuse(stream, left);
    if (left == 0) leave(stream);
    return true;
}

// The last one takes anything.
static const Format formats[] = {
    {"gzip", ".gz", "\x1F\x8B\x08", 3, gzip_open, gzip_decode, gzip_close},
    {"zstd", ".zst", "\x28\xB5\x2F\xFD", 4, zstd_open, zstd_decode, zstd_close},
    {"plain", "", "", 0, plain_open, plain_decode, plain_close},
};
enum { FORMATS = sizeof formats / sizeof formats[0], PLAIN = FORMATS - 1 };

// ---- names ----

static bool is_input(const char *path) { return strcmp(path, TEXT_STREAM_INPUT) == 0; }

const char *text_stream_name(const char *path) { return is_input(path) ? "standard input" : path; }

static bool ends_in(const char *path, size_t size, const char *suffix) {
    size_t length = strlen(suffix);
    return size > length && memcmp(path + size - length, suffix, length) == 0;
}

static const Format *format_of_name(const char *path) {
    const Format *format = formats;
    while (format < &formats[PLAIN] && !ends_in(path, strlen(path), format->suffix)) format++;
    return format;
}

bool text_stream_is_lines(const char *path) {
    return is_input(path) || ends_in(path, strlen(path) - strlen(format_of_name(path)->suffix), ".jsonl");
}

// An empty file is an empty text, whatever its name.
static const Format *format_of(const TextStream *stream) {
    for (int i = 0; i < PLAIN; i++)
        if (stream->have >= formats[i].magic_size && memcmp(stream->in, formats[i].magic, formats[i].magic_size) == 0)
            return &formats[i];
    return stream->have == 0 || is_input(stream->path) ? &formats[PLAIN] : format_of_name(stream->path);
}

// ---- reading ----

// More of the file, where all of `in` was taken.
static bool refill(TextStream *stream, Errors *errors) {
    stream->taken += (int64_t)stream->have;
    stream->at = stream->have = 0;
    while (stream->have < BLOCK && !stream->exhausted) {
        ssize_t got = read(stream->descriptor, stream->in + stream->have, BLOCK - stream->have);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return file_complain(text_stream_name(stream->path), "reading", errno, EXIT_DATA, errors);
        stream->exhausted = got == 0;
        stream->have += (size_t)got;
    }
    return true;
}

static bool open_file(TextStream *stream, Errors *errors) {
    struct stat info;
    const char *name = text_stream_name(stream->path);
    stream->descriptor = is_input(stream->path) ? STDIN_FILENO : open(stream->path, O_RDONLY | O_CLOEXEC);
    if (stream->descriptor < 0 || fstat(stream->descriptor, &info) != 0)
        return file_complain(name, "reading", errno, EXIT_NO_INPUT, errors);
    stream->size = S_ISREG(info.st_mode) ? info.st_size : -1;
    if (!refill(stream, errors)) return false;
    stream->format = format_of(stream);
    if (!stream->format->open(stream)) DIE(EXIT_INTERNAL, "out of memory to decompress %s", name);
    return true;
}

TextStream *text_stream_open(const char *path, Errors *errors) {
    TextStream *stream = memory_grow(NULL, 1, sizeof *stream, text_stream_name(path));
    memset(stream, 0, offsetof(TextStream, in));
    stream->path = path;
    if (open_file(stream, errors)) return stream;
    text_stream_close(stream);
    return NULL;
}

void text_stream_close(TextStream *stream) {
    if (!stream) return;
    if (stream->format) stream->format->close(stream);
    if (stream->descriptor > STDIN_FILENO) close(stream->descriptor);
    free(stream);
}

static bool complain(const TextStream *stream, Errors *errors) {
    return errors_add(errors, EXIT_DATA, "%s: byte %ld of the %s file: %s", text_stream_name(stream->path),
                      stream->wrong_at, stream->format->name, stream->wrong);
}

bool text_stream_read(TextStream *stream, Text *out, size_t size, Errors *errors) {
    bool packed = stream->format != &formats[PLAIN];
    for (size_t made; size > 0 && !stream->ended; size -= made) {
        if (stream->at == stream->have && !stream->exhausted && !refill(stream, errors)) return false;
        size_t before = stream->at;
        made = 0;
        if (packed) enter(stream);
        bool idle = packed && !stream->inside; // behind the last member
        bool good = idle || stream->format->decode(stream, size < BLOCK ? size : BLOCK, &made);
        if (!good) return complain(stream, errors);
        text_append(out, stream->out, made);
        stream->ended = made == 0 && stream->at == before && stream->exhausted;
    }
    if (!stream->ended || !stream->inside) return true;
    refuse(stream, "the file ends in the middle of its data; copy or fetch it again", text_stream_taken(stream));
    return complain(stream, errors);
}

bool text_stream_ended(const TextStream *stream) { return stream->ended; }
int64_t text_stream_size(const TextStream *stream) {
    return stream->format == &formats[PLAIN] ? stream->size : -1;
}
