// JSON: refused, or what is written of it reads back to the same.
#include "runtime/json.h"
#include "tests/fuzz/fuzz.h"

static void write_tree(const Json *json, Text *out) {
    JsonWriter writer = {.out = out};
    json_node(&writer, NULL, json_root(json));
}

TARGET {
    Errors errors = {0};
    Json *json = json_parse("input.json", (const char *)bytes, size, EXIT_USAGE, &errors);
    fuzz_errors(&errors, !json);
    if (!json) return 0;
    Text place = {0}, first = {0}, second = {0};
    const cJSON *node = json_root(json);
    while (node->child) node = node->child;
    json_position(json, node, &place);
    write_tree(json, &first);
    Json *again = json_parse("written.json", first.data, first.size, EXIT_USAGE, &errors);
    HOLDS(again);
    write_tree(again, &second);
    HOLDS(strcmp(text_string(&first), text_string(&second)) == 0);
    json_close(again);
    json_close(json);
    text_close(&place);
    text_close(&first);
    text_close(&second);
    return 0;
}
