// tokenizer.json of Hugging Face, as far as it is byte-level BPE with GPT-2's pre-split: written, and read back. Ids
// must be 0 .. n - 1, each of one token; whatever would change ids and is not understood is refused, by name and place.
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer_rows.h"
#include "runtime/json.h"

enum { FILE_LIMIT = 64 << 20, VOCAB_LIMIT = 1 << 20 };

// ---- writing ----

static void write_byte_level(JsonWriter *writer, const char *key, bool trim_offsets) {
    json_begin(writer, key, '{');
    json_string(writer, "type", "ByteLevel");
    json_bool(writer, "add_prefix_space", false);
    json_bool(writer, "trim_offsets", trim_offsets);
    json_bool(writer, "use_regex", true);
    json_end(writer, '}');
}

static const char *token_text(const Tokenizer *tokenizer, int32_t id, Text *text) {
    size_t size;
    const char *bytes = token_table_bytes(&tokenizer->tokens, id, &size);
    text_clear(text);
    if (id == tokenizer->separator)
        text_add(text, SEPARATOR_TEXT);
    else
        byte_level_write(text, bytes, size);
    return text_string(text);
}

static void write_model(JsonWriter *writer, const Tokenizer *tokenizer) {
    Text text = {0};
    json_begin(writer, "model", '{');
    json_string(writer, "type", "BPE");
    json_raw(writer, "dropout", "null");
    json_raw(writer, "unk_token", "null");
    json_string(writer, "continuing_subword_prefix", "");
    json_string(writer, "end_of_word_suffix", "");
    json_bool(writer, "fuse_unk", false);
    json_bool(writer, "byte_fallback", false);
    json_bool(writer, "ignore_merges", false);
    json_begin(writer, "vocab", '{');
    for (int64_t id = 0; id < tokenizer->tokens.count; id++)
        json_integer(writer, token_text(tokenizer, (int32_t)id, &text), id);
    json_end(writer, '}');
    json_begin(writer, "merges", '[');
    for (int64_t rank = 0; rank < tokenizer->merge_count; rank++) {
        json_begin(writer, NULL, '[');
        json_string(writer, NULL, token_text(tokenizer, tokenizer->merges[rank].left, &text));
        json_string(writer, NULL, token_text(tokenizer, tokenizer->merges[rank].right, &text));
        json_end(writer, ']');
    }
    json_end(writer, ']');
    json_end(writer, '}');
    text_close(&text);
}

void tokenizer_json(const Tokenizer *tokenizer, Text *out) {
    JsonWriter writer = {.out = out, .fresh = true};
    json_begin(&writer, NULL, '{');
    json_string(&writer, "version", "1.0");
    json_raw(&writer, "truncation", "null");
    json_raw(&writer, "padding", "null");
    json_begin(&writer, "added_tokens", '[');
    json_begin(&writer, NULL, '{');
    json_integer(&writer, "id", tokenizer->separator);
    json_string(&writer, "content", SEPARATOR_TEXT);
    static const char *const flags[] = {"single_word", "lstrip", "rstrip", "normalized"};
    for (int i = 0; i < 4; i++) json_bool(&writer, flags[i], false);
    json_bool(&writer, "special", true);
    json_end(&writer, '}');
    json_end(&writer, ']');
    json_raw(&writer, "normalizer", "null");
    write_byte_level(&writer, "pre_tokenizer", true);
    write_byte_level(&writer, "post_processor", false);
    write_byte_level(&writer, "decoder", true);
    write_model(&writer, tokenizer);
    json_end(&writer, '}');
    text_add(out, "\n");
}

void tokenizer_config_json(const Tokenizer *tokenizer, int64_t context, Text *out) {
    bool gpt2 = strcmp(tokenizer->name, "gpt2") == 0;
    JsonWriter writer = {.out = out, .indent = 2, .fresh = true};
    json_begin(&writer, NULL, '{');
    json_string(&writer, "tokenizer_class", gpt2 ? "GPT2Tokenizer" : "PreTrainedTokenizerFast");
    static const char *const roles[] = {"bos_token", "eos_token", "unk_token"};
    for (int i = 0; i < 3; i++) json_string(&writer, roles[i], SEPARATOR_TEXT);
    json_integer(&writer, "model_max_length", context);
    json_bool(&writer, "add_prefix_space", false);
    json_bool(&writer, "clean_up_tokenization_spaces", false);
    json_end(&writer, '}');
    text_add(out, "\n");
}

// ---- reading ----

typedef struct {
    const Json *json;
    Tokenizer *tokenizer;
    Errors *errors;
} Reader;

static bool refuse(const Reader *reader, const cJSON *node, const char *expected) {
    Text position = {0};
    json_position(reader->json, node, &position);
    errors_add(reader->errors, EXIT_DATA, "%s: expected %s; only byte-level BPE with GPT-2's pre-split is read here",
               text_string(&position), expected);
    text_close(&position);
    return false;
}

static bool is_string(const cJSON *node, const char *value) {
    return cJSON_IsString(node) && strcmp(node->valuestring, value) == 0;
}

// Members that must have one value, where they are present at all.
static bool check_members(const Reader *reader, const cJSON *root) {
    static const struct {
        const char *object, *key;
        const char *value; // of a string; "null", "true", "false" of others
    } fixed[] = {
        {NULL, "normalizer", "null"},
        {"pre_tokenizer", "type", "ByteLevel"},
        {"pre_tokenizer", "add_prefix_space", "false"},
        {"pre_tokenizer", "use_regex", "true"},
        {"decoder", "type", "ByteLevel"},
        {"model", "type", "BPE"},
        {"model", "dropout", "null"},
        {"model", "byte_fallback", "false"},
        {"model", "ignore_merges", "false"},
        {"model", "continuing_subword_prefix", ""},
        {"model", "end_of_word_suffix", ""},
    };
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        const cJSON *object = fixed[i].object ? json_member(root, fixed[i].object) : root;
        const cJSON *node = object ? json_member(object, fixed[i].key) : NULL;
        if (!object) return refuse(reader, root, "a pre_tokenizer, a decoder and a model");
        const char *value = cJSON_IsString(node) ? node->valuestring
                            : cJSON_IsTrue(node) ? "true"
                            : cJSON_IsFalse(node) ? "false"
                            : cJSON_IsNull(node) ? "null"
                                                  : "another value";
        bool optional = strcmp(fixed[i].key, "type") != 0;
        bool no_affix = *fixed[i].value == 0 && cJSON_IsNull(node);
        if ((!node && optional) || no_affix || (node && strcmp(value, fixed[i].value) == 0)) continue;
        Text expected = {0};
        text_printf(&expected, "%s to be \"%s\"", fixed[i].key, fixed[i].value);
        refuse(reader, node ? node : object, text_string(&expected));
        text_close(&expected);
        return false;
    }
    return true;
}

typedef struct {
    const cJSON *node; // NULL: no token has this id
    bool added;        // matched by name before BPE: has no bytes
} Entry;

static bool note(const Reader *reader, Entry *entries, const cJSON *id_node, Entry entry) {
    int64_t id;
    if (!json_is_integer(id_node, &id) || id < 0 || id >= VOCAB_LIMIT)
        return refuse(reader, id_node ? id_node : entry.node, "an id from 0 to 1048575");
    if (entries[id].node && !entries[id].added) return refuse(reader, id_node, "each id once");
    if (!entries[id].node) entries[id] = entry;
    return true;
}

// The added tokens, then the vocabulary; a token may stand in both.
static bool note_all(const Reader *reader, const cJSON *root, const cJSON *vocab, Entry *entries) {
    const cJSON *added = json_member(root, "added_tokens");
    bool found = false;
    for (const cJSON *token = added ? added->child : NULL; token; token = token->next) {
        const cJSON *content = json_member(token, "content"), *id = json_member(token, "id");
        if (!cJSON_IsString(content)) return refuse(reader, token, "an added token with content and id");
        if (!note(reader, entries, id, (Entry){token, true})) return false;
        if (found && !is_string(content, SEPARATOR_TEXT)) continue;
        found = true;
        reader->tokenizer->separator = (int32_t)id->valuedouble;
    }
    if (!found) return refuse(reader, added ? added : root, "an added token that ends documents: " SEPARATOR_TEXT);
    for (const cJSON *token = vocab->child; token; token = token->next)
        if (!note(reader, entries, token, (Entry){token, false})) return false;
    return true;
}

static bool add_tokens(const Reader *reader, const cJSON *vocab, const Entry *entries) {
    TokenTable *tokens = &reader->tokenizer->tokens;
    int64_t count = 0, last = -1;
    for (int64_t id = 0; id < VOCAB_LIMIT; id++)
        if (entries[id].node) count++, last = id;
    if (count != last + 1) return refuse(reader, vocab, "ids without gaps from 0");
    Text bytes = {0};
    bool good = true;
    for (int64_t id = 0; id < count && good; id++) {
        const Entry *entry = &entries[id];
        text_clear(&bytes);
        if (!entry->added) good = byte_level_read(&bytes, entry->node->string, strlen(entry->node->string));
        if (!good || (!entry->added && bytes.size == 0))
            good = refuse(reader, entry->node, "a token in the byte-level alphabet");
        token_table_add(tokens, text_string(&bytes), bytes.size);
    }
    text_close(&bytes);
    return good;
}

// One side of a merge, its bytes put behind `joined`; -1 when it is no token.
static int32_t find_side(const Reader *reader, const char *text, size_t size, Text *joined) {
    size_t begin = joined->size;
    if (size == 0 || !byte_level_read(joined, text, size)) return -1;
    return token_table_find(&reader->tokenizer->tokens, joined->data + begin, joined->size - begin);
}

static bool add_merge(const Reader *reader, const cJSON *node, Text *joined) {
    const char *left = NULL, *right = NULL; // "left right" or ["left", "right"]
    size_t left_size = 0;
    text_clear(joined);
    if (cJSON_IsString(node) && strchr(node->valuestring, ' ')) {
        left = node->valuestring;
        right = strchr(left, ' ') + 1;
        left_size = (size_t)(right - left - 1);
    } else if (cJSON_IsArray(node) && cJSON_GetArraySize(node) == 2 && cJSON_IsString(node->child) &&
               cJSON_IsString(node->child->next)) {
        left = node->child->valuestring;
        right = node->child->next->valuestring;
        left_size = strlen(left);
    }
    if (!left) return refuse(reader, node, "a merge of two tokens");
    Merge merge = {.left = find_side(reader, left, left_size, joined)};
    merge.right = find_side(reader, right, strlen(right), joined);
    if (merge.left < 0 || merge.right < 0) return refuse(reader, node, "a merge of two tokens of the vocabulary");
    merge.id = token_table_find(&reader->tokenizer->tokens, joined->data, joined->size);
    if (merge.id < 0) return refuse(reader, node, "a merge whose result is in the vocabulary");
    tokenizer_add_merge(reader->tokenizer, merge);
    return true;
}

static bool add_merges(const Reader *reader, const cJSON *merges) {
    Text joined = {0};
    bool good = true;
    for (const cJSON *node = merges->child; node && good; node = node->next) good = add_merge(reader, node, &joined);
    text_close(&joined);
    return good;
}

static bool read_root(const Reader *reader, const cJSON *root) {
    if (!cJSON_IsObject(root)) return refuse(reader, root, "an object");
    if (!check_members(reader, root)) return false;
    const cJSON *model = json_member(root, "model");
    const cJSON *vocab = json_member(model, "vocab"), *merges = json_member(model, "merges");
    if (!cJSON_IsObject(vocab) || !cJSON_IsArray(merges)) return refuse(reader, model, "a model with vocab and merges");
    Entry *entries = calloc(VOCAB_LIMIT, sizeof *entries);
    if (!entries) DIE(EXIT_INTERNAL, "out of memory for a vocabulary");
    bool good = note_all(reader, root, vocab, entries) && add_tokens(reader, vocab, entries);
    free(entries);
    return good && add_merges(reader, merges) && tokenizer_complete(reader->tokenizer, reader->errors);
}

Tokenizer *tokenizer_open_json(const char *path, Errors *errors) {
    Json *json = json_open(path, FILE_LIMIT, EXIT_DATA, errors);
    if (!json) return NULL;
    Tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (!tokenizer) DIE(EXIT_INTERNAL, "out of memory for the tokenizer");
    Reader reader = {json, tokenizer, errors};
    if (!read_root(&reader, json_root(json))) {
        tokenizer_close(tokenizer);
        tokenizer = NULL;
    }
    json_close(json);
    return tokenizer;
}
