// Configuration: every option of the program in one struct, and where each value came from. Knows all modules' rows and
// is known by none of them. Order of precedence: default, `extends` files, the file, key=value overrides.
#pragma once

#include "commands/run_options.h"
#include "data/data_options.h"
#include "model/model_options.h"
#include "optim/optim_options.h"
#include "runtime/error.h"

typedef struct {
    MachineOptions machine; // top-level keys
    RunOptions run;
    ModelOptions model;
    DataOptions data;
    TrainOptions train;
    OptimOptions optim;
    RouteOptions route_matrix, route_other;        // optim.matrix.*, optim.other.*
    HyperOptions hyper, hyper_matrix, hyper_other; // optim.*, optim.matrix.*, optim.other.*
    EvalOptions eval;
    CheckpointOptions checkpoint;
    SampleOptions sample;
    LogOptions log;
    DistOptions dist;
    TextList strings;   // keeps text values alive
    struct ConfigSources *sources;
} Config;

// A section: the prefix of its keys ("" for top-level ones), its rows and where its struct is in Config.
typedef struct {
    const char *prefix;
    const OptionRows *rows;
    size_t offset;
    const char *help;
} ConfigSection;
extern const ConfigSection config_sections[];
extern const int config_section_count;

// Fills `config` (whatever it holds) from a file (NULL: defaults only) and overrides "key=value". All errors are
// collected, each with file:line:column, key, what was expected and the nearest key. An override's value is text as in
// JSON without its quotes; a list is one glob or a JSON array. To be closed even after a failure.
bool config_load(Config *config, const char *path, char *const *overrides, int override_count, Errors *errors);

// The same with layers of overrides, of which later ones win.
typedef struct {
    char *const *items; // key=value
    int64_t count;
} ConfigLayer;
bool config_load_layers(Config *config, const char *path, const ConfigLayer *layers, int count, Errors *errors);

// The same from JSON text already in memory, as config_json wrote it; `name` stands in messages.
bool config_parse(Config *config, const char *name, const char *json, char *const *overrides, int override_count,
                  Errors *errors);
void config_close(Config *config);

// Canonical JSON of all values, nested by section; reads back to the same configuration. With `sources`, a second
// object "_source" names where each value that is not a default came from (ignored when read back).
void config_json(const Config *config, bool sources, Text *out);

// Calls `each` for every key whose values differ, with both as text.
typedef void ConfigDifference(const char *key, const char *a, const char *b, void *context);
void config_differences(const Config *a, const Config *b, ConfigDifference *each, void *context);

// A key that is auto takes the value that it has in `from`.
void config_adopt(Config *config, const Config *from, const char *key);

// Whether a key has another value than its default.
bool config_given(const Config *config, const char *key);
bool config_named(const Config *config, const char *key); // whether a file or an override sets it

// Canonical JSON without all that changes no result (config_key_idle): two runs with the same one are the same
// experiment. And 64-bit xxh3 over it.
void config_identity(const Config *config, Text *out);
uint64_t config_hash(const Config *config);

// The keys of a section ("machine" for top-level ones), of "all", or one key, for `train_gpt help`; NULL: the list of
// sections. False when there is none of that name. And docs/configuration.md.
bool config_help(const char *section, Text *out);
void config_markdown(Text *out);
