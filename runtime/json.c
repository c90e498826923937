// The scanner below walks the whole grammar itself, so what it accepts cJSON accepts too. Values are numbered in the
// order in which they begin; `offsets` holds where, and the tree walked in the same order gives the same numbers.
#include "runtime/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/memory.h"

enum {
    DEPTH_LIMIT = 64,
    NUMBER_LIMIT = 62,     // bytes; cJSON reads at most 63 of a number
    EXCERPT_COLUMNS = 72,  // of the offending line, around the caret
    VALUE_LIMIT = 1 << 22, // in a document; a tree of as many takes about 400 MB
};

struct Json {
    char *name;
    Text bytes; // terminated, as cJSON needs them
    cJSON *root;
    size_t *offsets;
    int64_t count, capacity;
};

// ---- positions ----

// Line and column (in characters, from 1) of a byte.
static void find_place(const Text *bytes, size_t offset, int64_t *line, int64_t *column) {
    *line = *column = 1;
    for (size_t i = 0; i < offset; i++) {
        unsigned char byte = (unsigned char)bytes->data[i];
        if (byte == '\n') {
            ++*line;
            *column = 1;
        } else if ((byte & 0xC0) != 0x80) {
            ++*column;
        }
    }
}

static void add_place(const Json *json, size_t offset, Text *out) {
    int64_t line, column;
    find_place(&json->bytes, offset, &line, &column);
    text_printf(out, "%s:%ld:%ld", json->name, line, column);
}

// A piece of the line as it can stand in a terminal; tabs become spaces, so that the caret stays under its byte.
static void add_excerpt(Text *out, const char *bytes, size_t size) {
    size_t begin = out->size;
    text_escape(out, bytes, size);
    for (size_t i = begin; i < out->size; i++)
        if (out->data[i] == '\t' || out->data[i] == '\r') out->data[i] = ' ';
}

static bool is_continuation(char byte) { return ((unsigned char)byte & 0xC0) == 0x80; }

static void add_caret(Text *out, const Text *bytes, size_t offset) {
    size_t begin = offset, end = offset;
    while (begin > 0 && bytes->data[begin - 1] != '\n' && offset - begin < EXCERPT_COLUMNS / 2) begin--;
    while (begin < offset && is_continuation(bytes->data[begin])) begin++;
    while (end < bytes->size && bytes->data[end] != '\n' && end - begin < EXCERPT_COLUMNS) end++;
    while (end > offset && end < bytes->size && is_continuation(bytes->data[end])) end--;
    text_add(out, "\n    ");
    size_t line = out->size;
    add_excerpt(out, bytes->data + begin, offset - begin);
    int64_t columns = text_width(text_string(out) + line);
    add_excerpt(out, bytes->data + offset, end - offset);
    text_printf(out, "\n    %*s^", (int)columns, "");
}

// ---- scanner ----

typedef struct {
    Json *json;
    const char *bytes;
    size_t size, at;
    int depth;
    const char *problem; // NULL while all is well
    size_t problem_at;
} Scanner;

static bool fail(Scanner *s, size_t at, const char *problem) {
    s->problem = problem;
    s->problem_at = at;
    return false;
}

static int peek(const Scanner *s) { return s->at < s->size ? (unsigned char)s->bytes[s->at] : -1; }

static void skip_space(Scanner *s) {
    while (s->at < s->size && strchr(" \t\n\r", s->bytes[s->at]) && s->bytes[s->at]) s->at++;
}

static size_t skip_digits(Scanner *s) {
    size_t begin = s->at;
    while (s->at < s->size && s->bytes[s->at] >= '0' && s->bytes[s->at] <= '9') s->at++;
    return s->at - begin;
}

static bool scan_number(Scanner *s) {
    size_t begin = s->at;
    if (peek(s) == '-') s->at++;
    size_t first = s->at, digits = skip_digits(s);
    if (digits == 0) return fail(s, s->at, "expected a digit");
    if (digits > 1 && s->bytes[first] == '0') return fail(s, first, "a number must not begin with 0");
    if (peek(s) == '.') {
        s->at++;
        if (skip_digits(s) == 0) return fail(s, s->at, "expected a digit after the decimal point");
    }
    if (peek(s) == 'e' || peek(s) == 'E') {
        s->at++;
        if (peek(s) == '+' || peek(s) == '-') s->at++;
        if (skip_digits(s) == 0) return fail(s, s->at, "expected a digit in the exponent");
    }
    if (s->at - begin > NUMBER_LIMIT) return fail(s, begin, "a number must not be longer than 62 characters");
    if (!isfinite(strtod_l(s->bytes + begin, NULL, c_locale())))
        return fail(s, begin, "the number is too large; at most about 1.8e308");
    return true;
}

// The four hex digits at `at`, or -1.
static int hex_code(const Scanner *s, size_t at) {
    int code = 0;
    for (size_t i = at; i < at + 4; i++) {
        static const char digits[] = "0123456789abcdef0123456789ABCDEF";
        const char *digit = i < s->size && s->bytes[i] ? strchr(digits, s->bytes[i]) : NULL;
        if (!digit) return -1;
        code = code * 16 + (int)(digit - digits) % 16;
    }
    return code;
}

// \u and four hexadecimal digits, with `at` on the u.
static bool scan_unicode_escape(Scanner *s) {
    size_t begin = s->at - 1;
    int code = hex_code(s, s->at + 1);
    if (code < 0) return fail(s, begin, "expected four hexadecimal digits after \\u");
    if (code == 0) return fail(s, begin, "\\u0000 is not allowed in a string");
    s->at += 5;
    if (code < 0xD800 || code > 0xDFFF) return true;
    bool paired = code < 0xDC00 && s->at + 1 < s->size && s->bytes[s->at] == '\\' && s->bytes[s->at + 1] == 'u';
    int low = paired ? hex_code(s, s->at + 2) : -1;
    if (low < 0xDC00 || low > 0xDFFF) return fail(s, begin, "half of a surrogate pair; write both, or the character");
    s->at += 6;
    return true;
}

static bool scan_string(Scanner *s) {
    size_t begin = s->at++;
    for (;;) {
        int byte = peek(s);
        if (byte < 0) return fail(s, begin, "the string that begins here has no end");
        if (byte == '\n') return fail(s, begin, "the string that begins here must end on its line; a new line is \\n");
        if (byte < 0x20) return fail(s, s->at, "a control character must be escaped as \\u00XX in a string");
        s->at++;
        if (byte == '"') return true;
        if (byte != '\\') continue;
        int escape = peek(s);
        if (escape == 'u') {
            if (!scan_unicode_escape(s)) return false;
        } else if (escape <= 0 || !strchr("\"\\/bfnrt", escape)) {
            return fail(s, s->at - 1, "unknown escape; JSON knows \\\" \\\\ \\/ \\b \\f \\n \\r \\t and \\u0041");
        } else {
            s->at++;
        }
    }
}

static bool scan_value(Scanner *s);

static bool scan_key(Scanner *s) {
    if (peek(s) != '"') return fail(s, s->at, "expected a key in double quotes");
    if (!scan_string(s)) return false;
    skip_space(s);
    if (peek(s) != ':') return fail(s, s->at, "expected \":\" after the key");
    s->at++;
    skip_space(s);
    return true;
}

static bool scan_container(Scanner *s) {
    bool object = peek(s) == '{';
    char close = object ? '}' : ']';
    if (s->depth == DEPTH_LIMIT) return fail(s, s->at, "nested deeper than 64 levels");
    s->depth++;
    s->at++;
    skip_space(s);
    bool empty = peek(s) == close;
    while (!empty) {
        if (object && !scan_key(s)) return false;
        if (!scan_value(s)) return false;
        skip_space(s);
        if (peek(s) == close) break;
        if (peek(s) != ',') return fail(s, s->at, object ? "expected \",\" or \"}\"" : "expected \",\" or \"]\"");
        s->at++;
        skip_space(s);
        if (peek(s) == close) return fail(s, s->at, "a comma must not stand before the end");
    }
    s->at++;
    s->depth--;
    return true;
}

static bool scan_word(Scanner *s) {
    static const char *const words[] = {"true", "false", "null"};
    for (int i = 0; i < 3; i++) {
        size_t size = strlen(words[i]);
        if (s->size - s->at < size || memcmp(s->bytes + s->at, words[i], size) != 0) continue;
        s->at += size;
        return true;
    }
    if (peek(s) == '/' || peek(s) == '#') return fail(s, s->at, "JSON has no comments");
    return fail(s, s->at, s->at == s->size ? "the text ends where a value is expected" : "expected a value");
}

static bool scan_value(Scanner *s) {
    Json *json = s->json;
    if (json->count == VALUE_LIMIT) return fail(s, s->at, "more than 4194304 values; split the text");
    json->offsets = memory_room(json->offsets, json->count + 1, &json->capacity, sizeof *json->offsets, "values");
    json->offsets[json->count++] = s->at;
    int byte = peek(s);
    if (byte == '{' || byte == '[') return scan_container(s);
    if (byte == '"') return scan_string(s);
    if (byte == '-' || (byte >= '0' && byte <= '9')) return scan_number(s);
    return scan_word(s);
}

static bool scan(Scanner *s) {
    size_t bad;
    if (s->size >= 3 && memcmp(s->bytes, "\xEF\xBB\xBF", 3) == 0)
        return fail(s, 0, "the text begins with a byte-order mark; save it as UTF-8 without one");
    if (!text_is_utf8(s->bytes, s->size, &bad)) return fail(s, bad, "this byte is not valid UTF-8");
    skip_space(s);
    if (s->at == s->size) return fail(s, 0, "there is nothing here; expected a JSON value");
    if (!scan_value(s)) return false;
    skip_space(s);
    return s->at == s->size || fail(s, s->at, "expected nothing more after the value");
}

// ---- duplicate keys ----

typedef struct {
    const char *key;
    size_t offset;
} Member;

static int compare_members(const void *a, const void *b) {
    const Member *x = a, *y = b;
    int order = strcmp(x->key, y->key);
    return order ? order : (x->offset > y->offset) - (x->offset < y->offset);
}

// The duplicate whose second place is the first in the document.
typedef struct {
    const Json *json;
    int64_t next;    // number of the next node of the walk
    const char *key; // NULL: none so far
    size_t first, second;
} Duplicate;

static void note_equal(Duplicate *found, Member *members, int64_t count) {
    if (count > 1) qsort(members, (size_t)count, sizeof *members, compare_members);
    for (int64_t i = 1; i < count; i++) {
        if (strcmp(members[i - 1].key, members[i].key) != 0) continue;
        if (found->key && found->second < members[i].offset) continue;
        found->key = members[i].key;
        found->first = members[i - 1].offset;
        found->second = members[i].offset;
    }
}

// Visits the tree in the order of `offsets`.
static void find_duplicate(Duplicate *found, const cJSON *node) {
    found->next++;
    int64_t members = cJSON_IsObject(node) ? cJSON_GetArraySize(node) : 0, filled = 0;
    Member *list = members ? memory_grow(NULL, members, sizeof *list, "members of JSON") : NULL;
    for (const cJSON *child = node->child; child; child = child->next) {
        if (list) list[filled++] = (Member){child->string, found->json->offsets[found->next]};
        find_duplicate(found, child);
    }
    note_equal(found, list, members);
    free(list);
}

static bool refuse_duplicate(const Duplicate *found, int exit_code, Errors *errors) {
    Text message = {0}, first = {0};
    add_place(found->json, found->second, &message);
    add_place(found->json, found->first, &first);
    text_add(&message, ": the key \"");
    text_excerpt(&message, found->key);
    text_printf(&message, "\" stands here a second time; first at %s", text_string(&first));
    add_caret(&message, &found->json->bytes, found->second);
    errors_add(errors, exit_code, "%s", text_string(&message));
    text_close(&message);
    text_close(&first);
    return false;
}

// ---- documents ----

static bool parse(Json *json, int exit_code, Errors *errors) {
    Scanner scanner = {.json = json, .bytes = json->bytes.data, .size = json->bytes.size};
    if (!scan(&scanner)) {
        Text message = {0};
        add_place(json, scanner.problem_at, &message);
        text_printf(&message, ": %s", scanner.problem);
        if (json->bytes.size) add_caret(&message, &json->bytes, scanner.problem_at);
        errors_add(errors, exit_code, "%s", text_string(&message));
        text_close(&message);
        return false;
    }
    locale_t before = uselocale(c_locale());
    json->root = cJSON_ParseWithLengthOpts(json->bytes.data, json->bytes.size + 1, NULL, true);
    uselocale(before);
    if (!json->root) DIE(EXIT_INTERNAL, "%s: out of memory: a JSON text of %zu bytes", json->name, json->bytes.size);
    Duplicate found = {.json = json};
    find_duplicate(&found, json->root);
    REQUIRE(found.next == json->count, "%s: %ld values scanned, %ld parsed", json->name, json->count, found.next);
    return !found.key || refuse_duplicate(&found, exit_code, errors);
}

Json *json_parse(const char *name, const char *bytes, size_t size, int exit_code, Errors *errors) {
    Json *json = memory_take(1, sizeof *json, name);
    json->name = memory_string(name);
    text_append(&json->bytes, bytes, size);
    if (parse(json, exit_code, errors)) return json;
    json_close(json);
    return NULL;
}

Json *json_open(const char *path, size_t size_limit, int exit_code, Errors *errors) {
    File file;
    if (!file_read(&file, path, size_limit, exit_code, errors)) return NULL;
    Json *json = json_parse(path, file.bytes, file.size, exit_code, errors);
    file_close(&file);
    return json;
}

void json_close(Json *json) {
    if (!json) return;
    cJSON_Delete(json->root);
    text_close(&json->bytes);
    free(json->offsets);
    free(json->name);
    free(json);
}

const cJSON *json_root(const Json *json) { return json->root; }

static bool count_until(const cJSON *tree, const cJSON *node, int64_t *number) {
    if (tree == node) return true;
    ++*number;
    for (const cJSON *child = tree->child; child; child = child->next)
        if (count_until(child, node, number)) return true;
    return false;
}

void json_position(const Json *json, const cJSON *node, Text *out) {
    int64_t number = 0;
    REQUIRE(count_until(json->root, node, &number), "a value that is not part of %s", json->name);
    add_place(json, json->offsets[number], out);
}

const cJSON *json_member(const cJSON *object, const char *key) {
    return cJSON_IsObject(object) ? cJSON_GetObjectItemCaseSensitive(object, key) : NULL;
}

bool json_is_integer(const cJSON *node, int64_t *value) {
    if (!cJSON_IsNumber(node)) return false;
    double number = node->valuedouble;
    if (number != floor(number) || fabs(number) >= 0x1p53) return false; // from there on another may have been written
    *value = (int64_t)number;
    return true;
}

// ---- writer ----

static void break_line(JsonWriter *writer) {
    if (writer->indent > 0) text_printf(writer->out, "\n%*s", writer->indent * writer->depth, "");
}

// The level that is written to, from 1 on; level 0 is the document.
static uint64_t level_bit(const JsonWriter *writer) { return (uint64_t)1 << (writer->depth - 1); }

static bool in_array(const JsonWriter *writer) { return writer->arrays & level_bit(writer); }

static void add_quoted_utf8(Text *out, const char *bytes, size_t size) {
    static const char escapes[32] = {['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'};
    size_t plain = 0; // bytes before it are written
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)bytes[i], next = i + 1 < size ? (unsigned char)bytes[i + 1] : 0xFF;
        bool c1 = byte == 0xC2 && next < 0xA0, quoted = byte == '"' || byte == '\\';
        if (byte >= 0x20 && byte != 0x7F && !quoted && !c1) continue;
        text_append(out, bytes + plain, i - plain);
        if (quoted)
            text_printf(out, "\\%c", byte);
        else if (byte < 0x20 && escapes[byte])
            text_printf(out, "\\%c", escapes[byte]);
        else
            text_printf(out, "\\u%04x", c1 ? next : byte);
        i += c1;
        plain = i + 1;
    }
    text_append(out, bytes + plain, size - plain);
}

// A quoted string; bytes that are not UTF-8 become U+FFFD, so that the text stays JSON.
static void add_quoted(Text *out, const char *value) {
    size_t size = strlen(value), bad;
    text_add(out, "\"");
    while (!text_is_utf8(value, size, &bad)) {
        add_quoted_utf8(out, value, bad);
        text_add(out, "\\ufffd");
        value += bad + 1;
        size -= bad + 1;
    }
    add_quoted_utf8(out, value, size);
    text_add(out, "\"");
}

// Comma, line and key before a value.
static void place(JsonWriter *writer, const char *key) {
    if (writer->depth > 0) {
        REQUIRE(in_array(writer) == !key, "a key belongs in an object and only there: %s", key ? key : "(none)");
        if (!writer->fresh) text_add(writer->out, ",");
        if (!in_array(writer))
            break_line(writer);
        else if (!writer->fresh && writer->indent > 0)
            text_add(writer->out, " ");
    }
    writer->fresh = false;
    if (!key) return;
    add_quoted(writer->out, key);
    text_add(writer->out, writer->indent > 0 ? ": " : ":");
}

void json_begin(JsonWriter *writer, const char *key, char bracket) {
    place(writer, key);
    text_append(writer->out, &bracket, 1);
    REQUIRE(writer->depth < DEPTH_LIMIT, "JSON nested deeper than %d", DEPTH_LIMIT);
    writer->depth++;
    uint64_t bit = level_bit(writer);
    writer->arrays = bracket == '[' ? writer->arrays | bit : writer->arrays & ~bit;
    writer->fresh = true;
}

void json_end(JsonWriter *writer, char bracket) {
    REQUIRE(writer->depth > 0 && in_array(writer) == (bracket == ']'), "\"%c\" closes nothing", bracket);
    writer->depth--;
    if (bracket == '}' && !writer->fresh) break_line(writer);
    text_append(writer->out, &bracket, 1);
    writer->fresh = false;
}

void json_raw(JsonWriter *writer, const char *key, const char *json) {
    place(writer, key);
    text_add(writer->out, json);
}

void json_string(JsonWriter *writer, const char *key, const char *value) {
    place(writer, key);
    add_quoted(writer->out, value);
}

void json_number(JsonWriter *writer, const char *key, double value) {
    char number[TEXT_NUMBER];
    json_raw(writer, key, isfinite(value) ? text_double(number, value) : "null");
}

void json_integer(JsonWriter *writer, const char *key, int64_t value) {
    place(writer, key);
    text_printf(writer->out, "%ld", value);
}

void json_bool(JsonWriter *writer, const char *key, bool value) { json_raw(writer, key, value ? "true" : "false"); }

void json_node(JsonWriter *w, const char *key, const cJSON *node) {
    if (cJSON_IsString(node)) {
        json_string(w, key, node->valuestring);
    } else if (cJSON_IsNumber(node)) {
        json_number(w, key, node->valuedouble);
    } else if (cJSON_IsBool(node)) {
        json_bool(w, key, cJSON_IsTrue(node));
    } else if (cJSON_IsNull(node)) {
        json_raw(w, key, "null");
    } else {
        bool object = cJSON_IsObject(node);
        json_begin(w, key, object ? '{' : '[');
        for (const cJSON *child = node->child; child; child = child->next)
            json_node(w, object ? child->string : NULL, child);
        json_end(w, object ? '}' : ']');
    }
}
