#include "data/hellaswag.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "runtime/file.h"
#include "runtime/json.h"
#include "runtime/memory.h"

enum { FILE_LIMIT = 256 << 20, LINE_LIMIT = 1 << 20 };

typedef struct {
    Hellaswag *set;
    const HellaswagSetup *setup;
    int64_t capacity; // examples
    Text where;       // of the present example, for messages
    Text scratch[2];
    Errors *errors;
} Reader;

// ---- examples ----

static bool refuse(Reader *reader, const char *problem) {
    return errors_add(reader->errors, EXIT_DATA, "%s: %s", text_string(&reader->where), problem);
}

// The rows of one more example, in the styles that the file has.
static void begin_example(Reader *reader, HellaswagStyle styles) {
    Hellaswag *set = reader->set;
    if (set->examples == reader->capacity) {
        reader->capacity = 2 * reader->capacity + 64;
        set->labels = memory_grow(set->labels, reader->capacity, sizeof *set->labels, "examples");
        for (unsigned style = 0; style < styles; style++)
            set->rows[style] = memory_grow(set->rows[style], reader->capacity * HELLASWAG_ENDINGS,
                                           sizeof *set->rows[style], "endings of examples");
    }
    set->examples++;
}

static HellaswagRow *row_of(Reader *reader, HellaswagStyle style, int ending) {
    return &reader->set->rows[style][(reader->set->examples - 1) * HELLASWAG_ENDINGS + ending];
}

// A model sees `length` tokens, and predicts one more.
static bool set_row(Reader *reader, HellaswagStyle style, int ending, const HellaswagRow *row) {
    int64_t length = reader->setup->length, surplus = row->context.count + row->ending.count - length - 1;
    if (row->ending.count == 0)
        return errors_add(reader->errors, EXIT_DATA, "%s: ending %d has no tokens behind its context",
                          text_string(&reader->where), ending);
    if (row->ending.count > length)
        return errors_add(reader->errors, EXIT_DATA, "%s: ending %d has %ld tokens, and the model sees %ld; it takes "
                          "one with a longer train.sequence_length", text_string(&reader->where), ending,
                          row->ending.count, length);
    HellaswagRow *out = row_of(reader, style, ending);
    *out = *row;
    if (surplus <= 0) return true;
    out->context.first += surplus;
    out->context.count -= surplus;
    reader->set->cut[style]++;
    return true;
}

// ---- texts as lm-evaluation-harness has them ----

// Text of a JSON string: valid UTF-8.
static int32_t next_character(const char **at) {
    int32_t character;
    *at += utf8proc_iterate((const utf8proc_uint8_t *)*at, -1, &character);
    return character;
}

static void add_character(Text *out, int32_t character) {
    utf8proc_uint8_t bytes[4];
    text_append(out, bytes, (size_t)utf8proc_encode_char(character, bytes));
}

// As Python's str.isspace.
static bool is_space(int32_t c) {
    static const struct {
        int32_t first, last;
    } ranges[] = {{0x09, 0x0D},     {0x1C, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},     {0x1680, 0x1680},
                  {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}};
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        if (c >= ranges[i].first && c <= ranges[i].last) return true;
    return false;
}

// Without whitespace at its end: how many bytes remain.
static size_t stripped_size(const char *text) {
    const char *end = text, *at = text;
    while (*at)
        if (!is_space(next_character(&at))) end = at;
    return (size_t)(end - text);
}

static const char *skip_spaces(const char *text) {
    const char *next = text;
    while (*text && is_space(next_character(&next))) text = next;
    return text;
}

// As Python's str.capitalize: the first letter a capital, all others small. (Not where that turns on the letters around
// or makes several of one, but for ligatures and the German ss.)
static void add_capitalised(Text *out, const char *text) {
    if (!*text) return;
    int32_t first = next_character(&text), title = utf8proc_totitle(first), folded[4];
    int count = title == first ? (int)utf8proc_decompose_char(first, folded, 4, UTF8PROC_CASEFOLD, NULL) : 0;
    if (count > 1 && count <= 4) title = utf8proc_totitle(folded[0]);
    add_character(out, title);
    for (int i = 1; i < count && count <= 4; i++) add_character(out, folded[i]);
    while (*text) add_character(out, utf8proc_tolower(next_character(&text)));
}

static void add_replaced(Text *out, const char *text, const char *from, const char *to) {
    const char *found;
    for (; (found = strstr(text, from)); text = found + strlen(from)) {
        text_append(out, text, (size_t)(found - text));
        text_add(out, to);
    }
    text_add(out, text);
}

// From each [ to the next ] of its line.
static void add_unbracketed(Text *out, const char *text) {
    while (*text) {
        size_t inside = *text == '[' ? strcspn(text, "]\n") : 0;
        if (inside > 0 && text[inside] == ']') text += inside + 1;
        else text_append(out, text++, 1);
    }
}

// WikiHow's marks of titles and steps go, and doubled spaces become one.
static void clean(Reader *reader, const char *text, Text *out) {
    Text *a = &reader->scratch[0], *b = &reader->scratch[1];
    text_clear(a);
    text_clear(b);
    text = skip_spaces(text);
    text_append(a, text, stripped_size(text));
    add_replaced(b, text_string(a), " [title]", ". ");
    text_clear(a);
    add_unbracketed(a, text_string(b));
    text_clear(out);
    add_replaced(out, text_string(a), "  ", " ");
}

static int64_t characters(const char *text) {
    int64_t count = 0;
    for (; *text; count++) next_character(&text);
    return count;
}

// ---- tokens ----

static TokenSpan encode(Reader *reader, const char *text, size_t size) {
    TokenList *ids = &reader->set->ids;
    TokenSpan span = {.first = ids->count};
    tokenizer_encode(reader->setup->tokenizer, text, size, ids);
    span.count = ids->count - span.first;
    return span;
}

// " " + ending.
static TokenSpan encode_ending(Reader *reader, const char *ending) {
    Text *text = &reader->scratch[0];
    text_clear(text);
    text_printf(text, " %s", ending);
    return encode(reader, text->data, text->size);
}

static TokenSpan separator(Reader *reader) {
    TokenSpan span = encode(reader, " ", 1); // some id, to be replaced
    span.count = 1;
    reader->set->ids.items[span.first] = tokenizer_separator(reader->setup->tokenizer);
    reader->set->ids.count = span.first + 1;
    return span;
}

// The whole is encoded, and what goes beyond the context's own tokens is the ending; spaces at the end of the context
// belong to the ending. The separator stands for a context that is empty.
static void encode_pair(Reader *reader, const char *context, const char *ending, HellaswagRow *row) {
    size_t size = stripped_size(context);
    Text *text = &reader->scratch[0];
    row->context = size ? encode(reader, context, size) : separator(reader);
    text_clear(text);
    text_printf(text, "%s %s", context, ending);
    row->ending = encode(reader, text->data, text->size);
    if (size == 0) return;
    int64_t shared = row->context.count < row->ending.count ? row->context.count : row->ending.count;
    row->ending.first += shared;
    row->ending.count -= shared;
}

static bool check_ids(Reader *reader, int64_t first) {
    const TokenList *ids = &reader->set->ids;
    for (int64_t i = first; i < ids->count; i++)
        if (ids->items[i] >= reader->setup->vocab)
            return errors_add(reader->errors, EXIT_DATA, "%s: the tokenizer makes token %d of it, and the model has "
                              "%ld; use the model's own tokenizer", text_string(&reader->where), ids->items[i],
                              reader->setup->vocab);
    return true;
}

// ---- JSONL ----

typedef struct {
    const char *activity, *ctx, *ctx_a, *ctx_b, *endings[HELLASWAG_ENDINGS];
    uint8_t label;
} Example;

static bool read_texts(Reader *reader, const cJSON *root, Example *example) {
    const struct {
        const char *key, **text;
    } texts[] = {{"activity_label", &example->activity}, {"ctx", &example->ctx}, {"ctx_a", &example->ctx_a},
                 {"ctx_b", &example->ctx_b}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const cJSON *node = json_member(root, texts[i].key);
        if (!cJSON_IsString(node))
            return errors_add(reader->errors, EXIT_DATA, "%s: expected an example of HellaSwag, with a string \"%s\"",
                              text_string(&reader->where), texts[i].key);
        *texts[i].text = node->valuestring;
    }
    return true;
}

static bool read_endings(Reader *reader, const cJSON *root, Example *example) {
    const cJSON *list = json_member(root, "endings"), *node;
    bool good = cJSON_IsArray(list) && cJSON_GetArraySize(list) == HELLASWAG_ENDINGS;
    int count = 0;
    for (node = good ? list->child : NULL; node; node = node->next) {
        good = good && cJSON_IsString(node);
        example->endings[count++] = good ? node->valuestring : "";
    }
    return good || refuse(reader, "expected \"endings\", four strings");
}

// A number, or its digit as text; the test set has none.
static bool read_label(Reader *reader, const cJSON *root, Example *example) {
    const cJSON *node = json_member(root, "label");
    int64_t label = -1;
    if (cJSON_IsString(node) && strlen(node->valuestring) == 1) label = *node->valuestring - '0';
    else if (node) json_is_integer(node, &label);
    example->label = (uint8_t)label;
    if (label >= 0 && label < HELLASWAG_ENDINGS) return true;
    return refuse(reader, "expected \"label\", the number of the right ending, 0 to 3 (the test set has none: take "
                          "hellaswag_val.jsonl)");
}

static bool add_llmc(Reader *reader, const Example *example) {
    HellaswagRow row = {.context = encode(reader, example->ctx, strlen(example->ctx))};
    if (row.context.count == 0) return refuse(reader, "\"ctx\" is empty");
    for (int i = 0; i < HELLASWAG_ENDINGS; i++) {
        row.ending = encode_ending(reader, example->endings[i]);
        row.size = (double)row.ending.count;
        if (!set_row(reader, HELLASWAG_LLMC, i, &row)) return false;
    }
    return true;
}

static bool add_lmeval(Reader *reader, const Example *example) {
    Text text = {0}, context = {0}, ending = {0};
    bool good = true;
    text_printf(&text, "%s: %s ", example->activity, example->ctx_a);
    add_capitalised(&text, example->ctx_b);
    clean(reader, text_string(&text), &context);
    for (int i = 0; i < HELLASWAG_ENDINGS && good; i++) {
        HellaswagRow row;
        clean(reader, example->endings[i], &ending);
        encode_pair(reader, text_string(&context), text_string(&ending), &row);
        row.size = (double)characters(text_string(&ending));
        good = set_row(reader, HELLASWAG_LMEVAL, i, &row);
    }
    text_close(&text);
    text_close(&context);
    text_close(&ending);
    return good;
}

static bool add_line(Reader *reader, const char *line, size_t size) {
    if (size > LINE_LIMIT) return refuse(reader, "longer than a mebibyte, which is no example of HellaSwag");
    Json *json = json_parse(text_string(&reader->where), line, size, EXIT_DATA, reader->errors);
    if (!json) return false;
    const cJSON *root = json_root(json);
    Example example = {0};
    int64_t first = reader->set->ids.count;
    bool good = read_texts(reader, root, &example) && read_endings(reader, root, &example) &&
                read_label(reader, root, &example);
    if (good) {
        begin_example(reader, HELLASWAG_STYLES);
        reader->set->labels[reader->set->examples - 1] = example.label;
    }
    good = good && add_llmc(reader, &example) && add_lmeval(reader, &example) && check_ids(reader, first);
    json_close(json);
    return good;
}

static bool is_full(const Reader *reader) {
    return reader->setup->limit > 0 && reader->set->examples == reader->setup->limit;
}

static bool read_lines(Reader *reader, const File *file) {
    const char *at = file->bytes, *end = at + file->size;
    for (int64_t number = 1; at < end && !is_full(reader); number++) {
        const char *line = at, *line_end = memchr(at, '\n', (size_t)(end - at));
        if (!line_end) line_end = end;
        at = line_end + 1;
        while (line_end > line && (line_end[-1] == '\r' || line_end[-1] == ' ')) line_end--;
        text_clear(&reader->where);
        text_printf(&reader->where, "%s, line %ld", reader->setup->path, number);
        if (line_end > line && !add_line(reader, line, (size_t)(line_end - line))) return false;
    }
    return true;
}

// ---- llm.c's binary ----

// A header of 256 int32, then examples of uint16: mark, bytes, number, label, count of endings, and a count in front of
// the tokens of the context and of each ending.
enum { HEADER_BYTES = 1024, MAGIC = 20240522, VERSION = 1, MARK = 65535 };

typedef struct {
    const unsigned char *bytes;
    size_t at, end; // of what may be read
} Words;

static bool refuse_word(Reader *reader, size_t at, const char *problem, int64_t value) {
    return errors_add(reader->errors, EXIT_DATA, "%s: byte %zu: %s (%ld)", reader->setup->path, at, problem, value);
}

static bool next_word(Reader *reader, Words *words, uint16_t *word) {
    if (words->at + 2 > words->end)
        return refuse_word(reader, words->at, "the example goes on beyond its end", (int64_t)words->end);
    memcpy(word, words->bytes + words->at, 2);
    words->at += 2;
    return true;
}

static bool expect_word(Reader *reader, Words *words, uint16_t expected, const char *problem) {
    uint16_t word = 0;
    if (!next_word(reader, words, &word)) return false;
    return word == expected || refuse_word(reader, words->at - 2, problem, word);
}

static bool read_span(Reader *reader, Words *words, TokenSpan *span) {
    TokenList *ids = &reader->set->ids; // with room for the whole file
    uint16_t count = 0, id = 0;
    if (!next_word(reader, words, &count)) return false;
    if (count == 0) return refuse_word(reader, words->at - 2, "expected at least one token", count);
    *span = (TokenSpan){ids->count, count};
    for (int i = 0; i < count; i++) {
        if (!next_word(reader, words, &id)) return false;
        if (id >= reader->setup->vocab)
            return refuse_word(reader, words->at - 2, "the token is not in the model's vocabulary; the file is of "
                               "another tokenizer", id);
        ids->items[ids->count++] = id;
    }
    return true;
}

static bool read_example(Reader *reader, Words *words) {
    uint16_t size = 0, label = 0;
    size_t begin = words->at, file_end = words->end;
    int64_t number = reader->set->examples;
    if (!expect_word(reader, words, MARK, "expected the mark 65535 of an example") || !next_word(reader, words, &size))
        return false;
    if (size > file_end - begin) return refuse_word(reader, begin + 2, "an example beyond the end of the file", size);
    words->end = begin + size;
    if (!expect_word(reader, words, (uint16_t)number, "examples are not numbered from 0") ||
        !next_word(reader, words, &label))
        return false;
    if (label >= HELLASWAG_ENDINGS) return refuse_word(reader, words->at - 2, "expected a label from 0 to 3", label);
    if (!expect_word(reader, words, HELLASWAG_ENDINGS, "expected four endings")) return false;
    begin_example(reader, HELLASWAG_LMEVAL); // which it does not hold
    reader->set->labels[number] = (uint8_t)label;
    HellaswagRow row;
    if (!read_span(reader, words, &row.context)) return false;
    for (int i = 0; i < HELLASWAG_ENDINGS; i++) {
        if (!read_span(reader, words, &row.ending)) return false;
        row.size = (double)row.ending.count;
        if (!set_row(reader, HELLASWAG_LLMC, i, &row)) return false;
    }
    if (words->at != words->end) return refuse_word(reader, begin + 2, "the example is shorter than it says", size);
    words->end = file_end;
    return true;
}

static bool read_binary(Reader *reader, const File *file) {
    int32_t header[4]; // magic, version, examples, bytes of the longest one
    if (file->size < HEADER_BYTES) return refuse_word(reader, 0, "too short for a header", (int64_t)file->size);
    memcpy(header, file->bytes, sizeof header);
    if (header[0] != MAGIC) return refuse_word(reader, 0, "expected 20240522, as llm.c's evaluations begin", header[0]);
    if (header[1] != VERSION) return refuse_word(reader, 4, "expected version 1", header[1]);
    if (header[2] < 1 || header[2] > MARK) return refuse_word(reader, 8, "expected 1 to 65535 examples", header[2]);
    TokenList *ids = &reader->set->ids;
    ids->capacity = (int64_t)(file->size / 2);
    ids->items = memory_grow(NULL, ids->capacity, sizeof *ids->items, "tokens of examples");
    Words words = {(const unsigned char *)file->bytes, HEADER_BYTES, file->size};
    int32_t longest = 0;
    while (reader->set->examples < header[2] && !is_full(reader)) {
        size_t begin = words.at;
        text_clear(&reader->where);
        text_printf(&reader->where, "%s, example %ld", reader->setup->path, reader->set->examples);
        if (!read_example(reader, &words)) return false;
        if ((int32_t)(words.at - begin) > longest) longest = (int32_t)(words.at - begin);
    }
    if (reader->set->examples < header[2]) return true; // no more were asked for
    if (words.at != words.end) return refuse_word(reader, words.at, "more bytes behind the last example", header[2]);
    return longest == header[3] || refuse_word(reader, 12, "the longest example has not so many bytes", header[3]);
}

// ---- files ----

static bool is_binary(const char *path) {
    size_t size = strlen(path);
    return size >= 4 && strcmp(path + size - 4, ".bin") == 0;
}

bool hellaswag_open(Hellaswag *set, const HellaswagSetup *setup, Errors *errors) {
    Reader reader = {.set = set, .setup = setup, .errors = errors};
    File file;
    *set = (Hellaswag){0};
    if (!path_exists(setup->path))
        return errors_add(errors, EXIT_NO_INPUT, "%s: there is no such file; scripts/get_data.sh hellaswag fetches "
                          "HellaSwag's validation set, and eval.hellaswag=FILE names another", setup->path);
    if (!is_binary(setup->path) && !setup->tokenizer)
        return errors_add(errors, EXIT_USAGE, "%s: the model has no tokenizer to read text with; name it by "
                          "data.tokenizer=..., or give llm.c's binary (.bin)", setup->path);
    if (!file_read(&file, setup->path, FILE_LIMIT, EXIT_DATA, errors)) return false;
    bool good = is_binary(setup->path) ? read_binary(&reader, &file) : read_lines(&reader, &file);
    if (good && set->examples == 0)
        good = errors_add(errors, EXIT_DATA, "%s: it holds no examples", setup->path);
    file_close(&file);
    text_close(&reader.where);
    for (int i = 0; i < 2; i++) text_close(&reader.scratch[i]);
    return good;
}

void hellaswag_close(Hellaswag *set) {
    for (int style = 0; style < HELLASWAG_STYLES; style++) free(set->rows[style]);
    free(set->labels);
    token_list_close(&set->ids);
    *set = (Hellaswag){0};
}

int hellaswag_choose(const HellaswagRow rows[HELLASWAG_ENDINGS], const double losses[HELLASWAG_ENDINGS], bool by_size) {
    int best = 0;
    double lowest = INFINITY;
    for (int ending = 0; ending < HELLASWAG_ENDINGS; ending++) {
        double loss = by_size ? losses[ending] / rows[ending].size : losses[ending];
        if (loss < lowest) lowest = loss, best = ending;
    }
    return best;
}
