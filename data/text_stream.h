// Text from a file or from standard input, gzip or zstd taken away on the way: what the bytes begin with decides, and
// the name where it ends in .gz or .zst. Concatenated members and frames are one text. Memory is bounded whatever the
// text's size: a few hundred KiB, and for zstd its window of at most 128 MiB.
//
// What is cut short, damaged (checksums are verified) or followed by anything else is refused with the byte of the
// file where that shows.
#pragma once

#include "runtime/error.h"

typedef struct TextStream TextStream;

#define TEXT_STREAM_INPUT "-" // path of standard input

TextStream *text_stream_open(const char *path, Errors *errors); // which the caller keeps
void text_stream_close(TextStream *stream);

// Appends the next `size` bytes to `out`, fewer only at the end.
bool text_stream_read(TextStream *stream, Text *out, size_t size, Errors *errors);
bool text_stream_ended(const TextStream *stream); // all was read

int64_t text_stream_taken(const TextStream *stream); // bytes of the file itself that were read so far
int64_t text_stream_size(const TextStream *stream);  // of the text; -1: not known before it is read
const char *text_stream_name(const char *path);      // for messages

// Whether a name is that of JSON lines, also compressed: standard input is.
bool text_stream_is_lines(const char *path);
