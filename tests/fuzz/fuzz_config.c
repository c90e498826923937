// A configuration: JSON, a zero byte, overrides with zero bytes between them. Refused, or its canonical JSON reads back
// to the same configuration.
#include "commands/config.h"
#include "tests/fuzz/fuzz.h"

enum { OVERRIDES = 64 };

static int split(char *text, size_t size, char *overrides[OVERRIDES]) {
    int count = 0;
    for (char *at = text + strlen(text) + 1; at < text + size && count < OVERRIDES; at += strlen(at) + 1)
        overrides[count++] = at;
    return count;
}

static void round_trip(const Config *config) {
    Config again = {0};
    Errors errors = {0};
    Text first = {0}, second = {0};
    config_json(config, true, &first);
    HOLDS(config_parse(&again, "written.json", text_string(&first), NULL, 0, &errors));
    text_clear(&first);
    config_json(config, false, &first);
    config_json(&again, false, &second);
    HOLDS(strcmp(text_string(&first), text_string(&second)) == 0);
    HOLDS(config_hash(config) == config_hash(&again));
    config_close(&again);
    text_close(&first);
    text_close(&second);
}

TARGET {
    char *text = calloc(size + 1, 1), *overrides[OVERRIDES];
    HOLDS(text);
    if (size) memcpy(text, bytes, size);
    int count = split(text, size, overrides);
    Config config = {0};
    Errors errors = {0};
    bool good = config_parse(&config, "input.json", text, overrides, count, &errors);
    fuzz_errors(&errors, !good);
    if (good) round_trip(&config);
    config_close(&config);
    free(text);
    return 0;
}
