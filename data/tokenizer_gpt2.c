// GPT-2's tokenizer from its published list of merges, one "left right" a line in the byte-level alphabet, lowest rank
// first. Token ids follow from it: 256 bytes in the alphabet's order, merge k is 256 + k, the separator is last.
#include <string.h>

#include "data/tokenizer_rows.h"
#include "runtime/file.h"
#include "runtime/memory.h"

enum { GPT2_MERGES = 50000, FILE_LIMIT = 16 << 20 };

// Fetches what the messages ask for.
static const char fetch[] = "fetch GPT-2's merges with `scripts/get_data.sh gpt2`";

static bool find_file(char path[4096], Errors *errors) {
    static const char *const names[] = {"vocab.bpe", "merges.txt"};
    char directory[4096];
    path_of_data(directory, "gpt2");
    for (int i = 0; i < 2; i++) {
        path_join(path, directory, names[i]);
        if (path_exists(path)) return true;
    }
    return errors_add(errors, EXIT_NO_INPUT, "%s: holds neither vocab.bpe nor merges.txt; %s", directory, fetch);
}

// The token that byte-level text stands for; -1 when there is none.
static int32_t find_token(const TokenTable *tokens, const char *text, size_t size) {
    Text bytes = {0};
    int32_t id = byte_level_read(&bytes, text, size) ? token_table_find(tokens, text_string(&bytes), bytes.size) : -1;
    text_close(&bytes);
    return id;
}

static bool read_merge(Tokenizer *tokenizer, const char *line, size_t size) {
    const char *space = memchr(line, ' ', size);
    if (!space) return false;
    size_t left_size = (size_t)(space - line);
    Merge merge = {find_token(&tokenizer->tokens, line, left_size),
                   find_token(&tokenizer->tokens, space + 1, size - left_size - 1), (int32_t)tokenizer->tokens.count};
    if (merge.left < 0 || merge.right < 0) return false;
    Text joined = {0};
    int32_t pair[2] = {merge.left, merge.right};
    tokenizer_decode(tokenizer, pair, 2, &joined);
    bool good = joined.size <= TOKEN_BYTES;
    if (good) token_table_add(&tokenizer->tokens, joined.data, joined.size);
    if (good) tokenizer_add_merge(tokenizer, merge);
    text_close(&joined);
    return good;
}

static bool read_merges(Tokenizer *tokenizer, const char *path, const File *file, Errors *errors) {
    int64_t line_number = 0;
    for (const char *line = file->bytes, *end = line + file->size, *next; line < end; line = next) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        if (!stop) stop = end;
        next = stop == end ? end : stop + 1;
        if (stop > line && stop[-1] == '\r') stop--;
        bool version = ++line_number == 1 && stop - line >= 8 && memcmp(line, "#version", 8) == 0;
        if (version || stop == line) continue;
        if (tokenizer->merge_count == GPT2_MERGES)
            return errors_add(errors, EXIT_DATA, "%s:%ld: expected %d merges and no more; %s again", path, line_number,
                              GPT2_MERGES, fetch);
        if (!read_merge(tokenizer, line, (size_t)(stop - line)))
            return errors_add(errors, EXIT_DATA, "%s:%ld: expected two tokens known by then and one space; %s again",
                              path, line_number, fetch);
    }
    if (tokenizer->merge_count == GPT2_MERGES) return true;
    return errors_add(errors, EXIT_DATA, "%s: expected %d merges, found %ld; %s again", path, GPT2_MERGES,
                      tokenizer->merge_count, fetch);
}

static bool build(Tokenizer *tokenizer, const char *path, const File *file, Errors *errors) {
    char bytes[256];
    for (int byte = 0; byte < 256; byte++) bytes[byte_level_place((unsigned char)byte)] = (char)byte;
    for (int place = 0; place < 256; place++) token_table_add(&tokenizer->tokens, &bytes[place], 1);
    if (!read_merges(tokenizer, path, file, errors)) return false;
    tokenizer->separator = tokenizer_add_named(tokenizer, SEPARATOR_TEXT, ADDED_SPECIAL);
    if (!tokenizer_complete(tokenizer, errors)) return false;
    if (strcmp(tokenizer->name, "gpt2") == 0) return true;
    return errors_add(errors, EXIT_DATA, "%s: these are not GPT-2's merges; %s again", path, fetch);
}

Tokenizer *tokenizer_open_gpt2(Errors *errors) {
    char path[4096];
    File file = {0};
    if (!find_file(path, errors) || !file_read(&file, path, FILE_LIMIT, EXIT_NO_INPUT, errors)) return NULL;
    Tokenizer *tokenizer = memory_take(1, sizeof *tokenizer, "the tokenizer");
    if (!build(tokenizer, path, &file, errors)) {
        tokenizer_close(tokenizer);
        tokenizer = NULL;
    }
    file_close(&file);
    return tokenizer;
}
