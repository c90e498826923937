// Keys: the rows of all sections, numbered in the order of the tables. Shared by the config_*.c files only.
#pragma once

#include "commands/config.h"

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

// Where a value came from: "configs/demo.json:4:12" or "override 2: optim.lr=1e-3"; NULL: a default. `file` numbers
// the files in the order of reading, 0 for defaults and overrides.
typedef struct {
    char *place;
    int file;
} ConfigSource;

struct ConfigSources {
    ConfigSource *items; // one per key
    int files;           // read so far
};

// The key nearest to a name that is none: among its siblings, then all keys, then the last parts of all keys. False
// when none is near.
bool config_key_nearest(const char *name, Text *out);
