// config: the resolved configuration, and where each value came from. What can be judged without data is.
#include <stdio.h>

#include "commands/arguments.h"
#include "commands/command.h"
#include "commands/config.h"
#include "model/gpt.h"
#include "optim/optim.h"

int command_config(int argc, char **argv) {
    const Argument none[] = {{0}};
    argc = arguments_take(argc, argv, none, 1, "config CONFIG.json [key=value ...]");
    if (argc == 0) return EXIT_USAGE;
    Config config;
    Errors errors = {0};
    Text text = {0};
    GptShape shape;
    if (config_load(&config, argv[1], argv + 2, argc - 2, &errors) &&
        recipe_find("optim.name", config.optim.name, &errors) &&
        gpt_shape(&shape, &config.model, 0, config.train.sequence_length, &errors)) {
        config_json(&config, true, &text);
        fputs(text_string(&text), stdout);
    }
    text_close(&text);
    config_close(&config);
    errors_exit_if_any(&errors);
    return 0;
}
