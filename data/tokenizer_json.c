// tokenizer.json of Hugging Face, as far as it is byte-level BPE with GPT-2's pre-split: written, and read back. Ids
// must be 0 .. n - 1, each of one token; whatever would change ids and is not understood is refused, by name and place.
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer_rows.h"
#include "runtime/json.h"

enum { FILE_LIMIT = 64 << 20 };

// Of an added token, bit by bit; what is not there is false, but for special.
static const char *const flag_names[] = {"single_word", "lstrip", "rstrip", "normalized", "special"};
enum { FLAGS = sizeof flag_names / sizeof flag_names[0] };

// ---- writing ----

static void write_byte_level(JsonWriter *writer, const char *key, bool trim_offsets) {
    json_begin(writer, key, '{');
    json_string(writer, "type", "ByteLevel");
    json_bool(writer, "add_prefix_space", false);
    json_bool(writer, "trim_offsets", trim_offsets);
    json_bool(writer, "use_regex", true);
    json_end(writer, '}');
}

static int compare_added(const void *a, const void *b) {
    const AddedToken *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static const AddedToken *added_token(const Tokenizer *tokenizer, int32_t id) {
    AddedToken wanted = {.id = id};
    const AddedToken *found =
        bsearch(&wanted, tokenizer->added, (size_t)tokenizer->added_count, sizeof wanted, compare_added);
    REQUIRE(found, "token %d has neither bytes nor a name", id);
    return found;
}

static const char *token_text(const Tokenizer *tokenizer, int32_t id, Text *text) {
    size_t size;
    const char *bytes = token_table_bytes(&tokenizer->tokens, id, &size);
    if (size == 0) return added_token(tokenizer, id)->name;
    text_clear(text);
    byte_level_write(text, bytes, size);
    return text_string(text);
}

static void write_added(JsonWriter *writer, const AddedToken *token) {
    json_begin(writer, NULL, '{');
    json_integer(writer, "id", token->id);
    json_string(writer, "content", token->name);
    for (int i = 0; i < FLAGS; i++) json_bool(writer, flag_names[i], token->flags >> i & 1);
    json_end(writer, '}');
}

// The separator first: that is how it is known when it has a name of its own.
static void write_all_added(JsonWriter *writer, const Tokenizer *tokenizer) {
    json_begin(writer, "added_tokens", '[');
    write_added(writer, added_token(tokenizer, tokenizer->separator));
    for (int64_t i = 0; i < tokenizer->added_count; i++)
        if (tokenizer->added[i].id != tokenizer->separator) write_added(writer, &tokenizer->added[i]);
    json_end(writer, ']');
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
    write_all_added(&writer, tokenizer);
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
    const char *separator = added_token(tokenizer, tokenizer->separator)->name;
    for (int i = 0; i < 3; i++) json_string(&writer, roles[i], separator);
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
    const char *text;  // its name, or its bytes in the byte-level alphabet
    bool added;
} Entry;

// By id. No file fills more of them than it has names for tokens.
typedef struct {
    Entry *items;
    int64_t count;
} Entries;

static bool refuse_name(const Reader *reader, const cJSON *node, const char *name, const char *expected) {
    Text text = {0};
    text_add(&text, "the token \"");
    text_excerpt(&text, name);
    text_printf(&text, "\" %s", expected);
    refuse(reader, node, text_string(&text));
    text_close(&text);
    return false;
}

static bool note(const Reader *reader, const Entries *entries, const cJSON *id_node, Entry entry) {
    int64_t id;
    if (!json_is_integer(id_node, &id) || id < 0 || id >= VOCAB_LIMIT)
        return refuse(reader, id_node ? id_node : entry.node, "an id from 0 to 1048575");
    if (strlen(entry.text) > TOKEN_BYTES)
        return refuse_name(reader, entry.node, entry.text, "to have at most 1024 bytes");
    if (id >= entries->count) return refuse(reader, id_node, "ids without gaps from 0");
    Entry *known = &entries->items[id];
    bool again = known->added && !entry.added && strcmp(known->text, entry.text) == 0;
    if (known->node && !again) return refuse(reader, id_node, "each id once");
    if (!known->node) *known = entry;
    return true;
}

static bool note_added(const Reader *reader, const cJSON *token, const Entries *entries) {
    const cJSON *content = json_member(token, "content");
    if (!cJSON_IsString(content) || !*content->valuestring)
        return refuse(reader, token, "an added token with content and id");
    const char *name = content->valuestring;
    if (cJSON_IsFalse(json_member(token, "special")) && strcmp(name, SEPARATOR_TEXT) != 0)
        return refuse_name(reader, token, name, "to be special, as no text is encoded to it (or remove it)");
    return note(reader, entries, json_member(token, "id"), (Entry){token, name, true});
}

// The added tokens, then the vocabulary; a token may stand in both.
static bool note_all(const Reader *reader, const cJSON *root, const cJSON *vocab, const Entries *entries) {
    const cJSON *added = json_member(root, "added_tokens");
    bool found = false;
    for (const cJSON *token = added ? added->child : NULL; token; token = token->next) {
        if (!note_added(reader, token, entries)) return false;
        if (found && !is_string(json_member(token, "content"), SEPARATOR_TEXT)) continue;
        found = true;
        reader->tokenizer->separator = (int32_t)json_member(token, "id")->valuedouble;
    }
    if (!found) return refuse(reader, added ? added : root, "an added token that ends documents: " SEPARATOR_TEXT);
    for (const cJSON *token = vocab->child; token; token = token->next)
        if (!note(reader, entries, token, (Entry){token, token->string, false})) return false;
    return true;
}

static unsigned read_flags(const cJSON *token) {
    unsigned flags = 0;
    for (int i = 0; i < FLAGS; i++) {
        const cJSON *flag = json_member(token, flag_names[i]);
        if (flag ? cJSON_IsTrue(flag) : 1 << i == ADDED_SPECIAL) flags |= 1u << i;
    }
    return flags;
}

static bool add_token(const Reader *reader, const Entry *entry, Text *bytes) {
    if (entry->added) {
        tokenizer_add_named(reader->tokenizer, entry->text, read_flags(entry->node));
        return true;
    }
    text_clear(bytes);
    if (!byte_level_read(bytes, entry->text, strlen(entry->text)) || bytes->size == 0)
        return refuse(reader, entry->node, "a token in the byte-level alphabet");
    token_table_add(&reader->tokenizer->tokens, bytes->data, bytes->size);
    return true;
}

static bool add_tokens(const Reader *reader, const cJSON *vocab, const Entries *entries) {
    TokenTable texts = {0};
    Text bytes = {0};
    int64_t count = 0, last = -1;
    for (int64_t id = 0; id < entries->count; id++)
        if (entries->items[id].node) count++, last = id;
    if (count != last + 1) return refuse(reader, vocab, "ids without gaps from 0");
    bool good = true;
    for (int64_t id = 0; id < count && good; id++) {
        const Entry *entry = &entries->items[id];
        size_t size = strlen(entry->text);
        good = token_table_find(&texts, entry->text, size) < 0 ? add_token(reader, entry, &bytes)
                                                               : refuse_name(reader, entry->node, entry->text,
                                                                             "to have one id");
        token_table_add(&texts, entry->text, size);
    }
    text_close(&bytes);
    token_table_close(&texts);
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
    for (const cJSON *node = merges->child; node && good; node = node->next)
        good = reader->tokenizer->merge_count < VOCAB_LIMIT ? add_merge(reader, node, &joined)
                                                            : refuse(reader, node, "at most 1048576 merges");
    text_close(&joined);
    return good;
}

static bool read_root(const Reader *reader, const cJSON *root) {
    if (!cJSON_IsObject(root)) return refuse(reader, root, "an object");
    if (!check_members(reader, root)) return false;
    const cJSON *model = json_member(root, "model");
    const cJSON *vocab = json_member(model, "vocab"), *merges = json_member(model, "merges");
    if (!cJSON_IsObject(vocab) || !cJSON_IsArray(merges)) return refuse(reader, model, "a model with vocab and merges");
    Entries entries = {.count = cJSON_GetArraySize(vocab)};
    entries.count += cJSON_GetArraySize(json_member(root, "added_tokens"));
    entries.items = calloc((size_t)entries.count + 1, sizeof *entries.items);
    if (!entries.items) DIE(EXIT_INTERNAL, "out of memory for a vocabulary");
    bool good = note_all(reader, root, vocab, &entries) && add_tokens(reader, vocab, &entries);
    free(entries.items);
    return good && add_merges(reader, merges) && tokenizer_complete(reader->tokenizer, reader->errors);
}

Tokenizer *tokenizer_open_json(const char *path, Errors *errors) {
    Json *json = json_open(path, FILE_LIMIT, EXIT_DATA, errors);
    if (!json) return NULL;
    Tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (!tokenizer || !(tokenizer->path = strdup(path))) DIE(EXIT_INTERNAL, "out of memory for the tokenizer");
    Reader reader = {json, tokenizer, errors};
    if (!read_root(&reader, json_root(json))) {
        tokenizer_close(tokenizer);
        tokenizer = NULL;
    }
    json_close(json);
    return tokenizer;
}
