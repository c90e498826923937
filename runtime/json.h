// Strict JSON over cJSON. cJSON keeps no positions and forgives much, so one scanner pass comes first: it records
// where each value begins and refuses invalid UTF-8, duplicate keys, \u0000, numbers that overflow a double, have
// leading zeros or more than 62 characters, nesting deeper than 64, more than 4194304 values, a byte-order mark, raw
// control characters and text after the value. No locale matters.
#pragma once

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/error.h"

typedef struct Json Json;

// Parses `size` bytes; `name` (a path) stands in messages as name:line:column. NULL and a message with a caret on
// failure, with `exit_code`.
Json *json_parse(const char *name, const char *bytes, size_t size, int exit_code, Errors *errors);
Json *json_open(const char *path, size_t size_limit, int exit_code, Errors *errors);
void json_close(Json *json);
const cJSON *json_root(const Json *json);

// "name:line:column" of a node of this document, written to `out`.
void json_position(const Json *json, const cJSON *node, Text *out);

// Members of an object, case-sensitive; NULL when absent.
const cJSON *json_member(const cJSON *object, const char *key);
// Integral and below 2^53 in size, so that it is what was written.
bool json_is_integer(const cJSON *node, int64_t *value);

// Writing. The writer puts commas, quotes and escapes, of all control characters, so that a terminal can show the text;
// nesting is by begin and end. `key` is NULL inside arrays.
// With `indent` > 0 objects are broken over lines, arrays are not.
typedef struct {
    Text *out;
    int indent;
    int depth;
    bool fresh;      // nothing written yet at this level
    uint64_t arrays; // bit d - 1: the level at depth d is an array
} JsonWriter;

void json_begin(JsonWriter *writer, const char *key, char bracket); // '{' or '['
void json_end(JsonWriter *writer, char bracket);                    // '}' or ']'
void json_string(JsonWriter *writer, const char *key, const char *value);
void json_number(JsonWriter *writer, const char *key, double value); // not finite: null
void json_integer(JsonWriter *writer, const char *key, int64_t value);
void json_bool(JsonWriter *writer, const char *key, bool value);
void json_raw(JsonWriter *writer, const char *key, const char *json);
void json_node(JsonWriter *writer, const char *key, const cJSON *node); // with all that is in it
