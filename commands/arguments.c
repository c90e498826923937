#include "commands/arguments.h"

#include <math.h>
#include <string.h>

#include "comm/launch.h"
#include "runtime/text.h"

// `word` is "--name" or "--name=value".
static const Argument *find(const Argument *table, const char *word) {
    size_t size = strcspn(word, "=");
    for (; table->name; table++)
        if (strlen(table->name) == size && strncmp(table->name, word, size) == 0) return table;
    return NULL;
}

static int refuse(const char *usage, const char *problem, const char *what) {
    text_print(stderr, "train_gpt: %s%s\nusage: train_gpt %s\n", what, problem, usage);
    return 0;
}

int arguments_take(int argc, char **argv, const Argument *table, int needed, const char *usage) {
    int kept = 1;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0) {
            argv[kept++] = argv[i];
            continue;
        }
        const Argument *row = find(table, argv[i]);
        const char *value = strchr(argv[i], '=');
        if (!row) return refuse(usage, " is not an option here", argv[i]);
        if (row->flag) {
            if (value) return refuse(usage, ": this option takes no value", argv[i]);
            *row->flag = true;
        } else if (value) {
            *row->text = value + 1;
        } else {
            if (i + 1 >= argc) return refuse(usage, " needs a value", argv[i]);
            *row->text = argv[++i];
        }
    }
    if (kept < 1 + needed) return refuse(usage, "", "an argument is missing");
    return kept;
}

int64_t arguments_ranks(const char *text) {
    double ranks = 0;
    const char *end = text ? text_read_number(text, &ranks) : NULL;
    if (!text) return 0;
    if (end && !*end && ranks >= 1 && ranks <= RANKS_LIMIT && ranks == floor(ranks)) return (int64_t)ranks;
    text_print(stderr, "train_gpt: --ranks %s: expected a number of processes, 1 to %d\n", text, RANKS_LIMIT);
    return -1;
}

bool arguments_weights(const char *text, Iterate *iterate) {
    static const struct {
        const char *name;
        Iterate iterate;
    } rows[] = {{"shown", ITERATE_SHOWN}, {"x", ITERATE_X}, {"y", ITERATE_Y}, {"z", ITERATE_Z},
                {"ema", ITERATE_READOUT}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        *iterate = rows[i].iterate;
        if (strcmp(text, rows[i].name) == 0) return true;
    }
    text_print(stderr, "train_gpt: --weights %s: expected x, y, z, ema, or shown, which is what the checkpoint's model "
               "holds\n", text);
    return false;
}

void arguments_override(TextList *overrides, const char *key, const char *value) {
    Text text = {0};
    if (!value) return;
    text_printf(&text, "%s=%s", key, value);
    text_list_add(overrides, text_string(&text));
    text_close(&text);
}
