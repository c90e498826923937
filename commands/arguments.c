#include "commands/arguments.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const Argument *find(const Argument *table, const char *name) {
    for (; table->name; table++)
        if (strcmp(table->name, name) == 0) return table;
    return NULL;
}

static bool set(const Argument *row, const char *value) {
    char *end = "";
    if (row->text) *row->text = value;
    if (row->integer) *row->integer = strtoll(value, &end, 10);
    if (row->number) *row->number = strtod(value, &end);
    return *value && !*end;
}

static int refuse(const char *usage, const char *problem, const char *what) {
    fprintf(stderr, "train_gpt: %s%s\nusage: train_gpt %s\n", what, problem, usage);
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
        if (!row) return refuse(usage, " is not an option here", argv[i]);
        if (row->flag) {
            *row->flag = true;
        } else {
            if (i + 1 >= argc) return refuse(usage, " needs a value", argv[i]);
            if (!set(row, argv[i + 1])) return refuse(usage, " needs another kind of value", argv[i]);
            i++;
        }
    }
    if (kept < 1 + needed) return refuse(usage, "", "an argument is missing");
    return kept;
}
