// config: the resolved configuration, and where each value came from. What can be judged without data is.
#include <stdio.h>
#include <string.h>

#include "commands/arguments.h"
#include "commands/command.h"
#include "commands/config.h"
#include "model/gpt.h"
#include "optim/optim.h"

static bool names_are_known(const Config *c, Errors *errors) {
    const char *const names[][2] = {{"optim.name", c->optim.name},
                                    {"optim.matrix.name", c->route_matrix.name},
                                    {"optim.other.name", c->route_other.name}};
    for (int i = 0; i < 3; i++)
        if (strcmp(names[i][1], "auto") != 0) recipe_find(names[i][0], names[i][1], errors);
    return errors->count == 0;
}

int command_config(int argc, char **argv) {
    const Argument none[] = {{0}};
    argc = arguments_take(argc, argv, none, 1, "config CONFIG.json [key=value ...]");
    if (argc == 0) return EXIT_USAGE;
    Config config;
    Errors errors = {0};
    Text text = {0};
    GptShape shape;
    if (config_load(&config, argv[1], argv + 2, argc - 2, &errors) &&
        names_are_known(&config, &errors) &&
        gpt_shape(&shape, &config.model, 0, config.train.sequence_length, &errors)) {
        config_json(&config, true, &text);
        fputs(text_string(&text), stdout);
    }
    text_close(&text);
    config_close(&config);
    errors_exit_if_any(&errors);
    return 0;
}
