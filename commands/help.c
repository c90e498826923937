// help: the commands, the keys of a section, the documentation of all keys.
#include <stdio.h>
#include <string.h>

#include "commands/arguments.h"
#include "commands/command.h"
#include "commands/config.h"
#include "model/gpt.h"
#include "optim/optim.h"

// Tables of names that keys of a section may hold.
static const struct {
    const char *section;
    void (*print)(Text *out);
} name_tables[] = {{"model", gpt_presets_print}, {"optim", recipes_print}};

static void add_overview(Text *out) {
    text_add(out, "usage: train_gpt COMMAND ...\n\n");
    for (const Command *command = commands; command->name; command++)
        text_printf(out, "  %-8s %s\n           %s\n", command->name, command->usage, command->help);
    text_add(out, "\nSections of a configuration; `train_gpt help SECTION` lists the keys, `help all` every key:\n\n");
    config_help(NULL, out);
    text_add(out,
             "\nStart with: train_gpt doctor; train_gpt check configs/demo.json; train_gpt train configs/demo.json\n");
}

static bool add_command(const char *name, Text *out) {
    for (const Command *command = commands; command->name; command++) {
        if (strcmp(command->name, name) != 0) continue;
        text_printf(out, "usage: train_gpt %s %s\n  %s\n", command->name, command->usage, command->help);
        return true;
    }
    return false;
}

static bool add_topic(const char *topic, Text *out) {
    bool known = add_command(topic, out);
    known = config_help(topic, out) || known;
    for (size_t i = 0; i < sizeof name_tables / sizeof name_tables[0]; i++)
        if (strcmp(topic, name_tables[i].section) == 0) name_tables[i].print(out);
    return known;
}

int command_help(int argc, char **argv) {
    bool markdown = false;
    const Argument table[] = {{.name = "--markdown", .flag = &markdown}, {0}};
    argc = arguments_take(argc, argv, table, 0, "help [SECTION|KEY|COMMAND|all]");
    if (argc == 0) return EXIT_USAGE;
    Text text = {0};
    bool known = true;
    if (markdown)
        config_markdown(&text);
    else if (argc == 1)
        add_overview(&text);
    for (int i = 1; i < argc; i++) {
        if (add_topic(argv[i], &text)) continue;
        text_print(stderr, "train_gpt: \"%s\" is no command, section or key; `train_gpt help` lists them\n", argv[i]);
        known = false;
    }
    fputs(text_string(&text), stdout);
    text_close(&text);
    return known ? 0 : EXIT_USAGE;
}
