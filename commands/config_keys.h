// Keys: the rows of all sections, numbered in the order of the tables. Shared by the config_*.c files and the sweep,
// whose axes are keys.
#pragma once

#include "commands/config.h"
#include "runtime/json.h"

typedef struct {
    const ConfigSection *section;
    const OptionRow *row;
} ConfigKey;

int64_t config_key_count(void);
ConfigKey config_key(int64_t number);
int64_t config_key_find(const char *name);              // -1 when there is none
void config_key_name(const ConfigKey *key, Text *out);  // "optim.lr"
bool config_is_section(const char *name);
const char *config_section_name(const ConfigSection *section); // "machine" for the top-level keys

// The section's struct inside `config`.
void *config_options(Config *config, const ConfigSection *section);
const void *config_options_read(const Config *config, const ConfigSection *section);

// Where a value came from: "configs/demo.json:4:12" or "override optim.lr=1e-3"; NULL: a default. `file` numbers
// files and layers of overrides in the order of reading, 0 for defaults.
typedef struct {
    char *place;
    int file;
} ConfigSource;

struct ConfigSources {
    ConfigSource *items; // one per key
    int files;           // files and layers read so far
};

// The key nearest to a name that is none: among its siblings, then all keys, then the last parts of all keys. False
// when none is near.
bool config_key_nearest(const char *name, Text *out);

// The value of the key of this name, as option_print shows it.
void config_key_value(const Config *config, const char *name, Text *out);

// Why no run has that key: "there is no such key; did you mean ...".
void config_key_unknown(const char *name, Text *problem);

// A JSON value as text that option_set reads, for this row. False and what is wrong with it.
bool config_row_text(const OptionRow *row, const cJSON *node, Text *out, Text *problem);

// What a key is that changes nothing in the results of a run: "only says where to compute"; NULL: it may change them.
const char *config_key_idle(const char *name);
