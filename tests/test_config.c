// Every option row of the program, and configurations as users write them, mistakes included.
#include <math.h>

#include "commands/config.h"
#include "commands/run.h"
#include "tests/test.h"

static void *options_of(Config *config, const ConfigSection *section) { return (char *)config + section->offset; }

static void load(Config *config, const char *path, char *const *overrides, int count) {
    Errors errors = {0};
    if (!config_load(config, path, overrides, count, &errors)) fail_msg("%s", text_string(&errors.text));
}

static char *key_of(const ConfigSection *section, const OptionRow *row, char *out, size_t size) {
    snprintf(out, size, "%s%s%s", section->prefix, *section->prefix ? "." : "", row->name);
    return out;
}

#define FOR_EACH_ROW(section, row)                                                                                 \
    for (const ConfigSection *section = config_sections; section < config_sections + config_section_count; section++) \
        for (const OptionRow *row = section->rows->rows; row < section->rows->rows + section->rows->count; row++)

TEST(every_row_has_help_and_a_default_in_range) {
    Config config = {0};
    load(&config, NULL, NULL, 0);
    FOR_EACH_ROW(section, row) {
        assert_true(strlen(row->help) > 3);
        if (row->type == OPTION_CHOICE) assert_true(strlen(row->choices) > 1);
    }
    config_close(&config);
}

// What is printed is read back to the same value, for the default and for every choice.
TEST(every_row_prints_what_it_reads) {
    Config config = {0};
    load(&config, NULL, NULL, 0);
    FOR_EACH_ROW(section, row) {
        if (row->type == OPTION_LIST) continue;
        Text before = {0}, after = {0}, problem = {0};
        void *options = options_of(&config, section);
        option_print(row, options, &before);
        if (!option_set(row, options, text_string(&before), &config.strings, &problem))
            fail_msg("%s.%s: %s", section->prefix, row->name, text_string(&problem));
        option_print(row, options, &after);
        assert_string_equal(text_string(&before), text_string(&after));
        text_close(&before);
        text_close(&after);
    }
    config_close(&config);
}

TEST(every_row_refuses_what_is_outside_its_range_and_names_its_key) {
    FOR_EACH_ROW(section, row) {
        bool bounded = row->type != OPTION_TEXT && row->type != OPTION_LIST;
        char override[256], key[128];
        key_of(section, row, key, sizeof key);
        bool whole = row->type == OPTION_INT || row->type == OPTION_TOKENS;
        const char *wrong[] = {"nonsense!", NULL, "1e400", "nan"};
        char outside[64];
        snprintf(outside, sizeof outside, whole ? "%.0f" : "%.17g", row->minimum - 1);
        wrong[1] = row->type == OPTION_BOOL || row->type == OPTION_CHOICE ? "maybe" : outside;
        for (int i = 0; bounded && i < 4; i++) {
            Config config = {0};
            Errors errors = {0};
            snprintf(override, sizeof override, "%s=%s", key, wrong[i]);
            if (config_load(&config, NULL, (char *[]){override}, 1, &errors)) fail_msg("%s was taken", override);
            if (!strstr(text_string(&errors.text), key)) fail_msg("%s is not in: %s", key, text_string(&errors.text));
            assert_int_equal(errors.exit_code, EXIT_USAGE);
            errors_close(&errors);
            config_close(&config);
        }
    }
}

TEST(units_are_understood) {
    Config config = {0};
    char *overrides[] = {"train.tokens=4.5M", "train.max_seconds=1.5h", "eval.tokens=8K", "optim.lr=3e-4"};
    load(&config, NULL, overrides, 4);
    assert_int_equal(config.train.tokens, 4500000);
    CHECK_CLOSE(config.train.max_seconds, 5400, 0);
    assert_int_equal(config.eval.tokens, 8000);
    CHECK_CLOSE(config.hyper.lr, 3e-4, 0);
    assert_true(isnan(config.hyper_matrix.lr));
    config_close(&config);
}

// ---- files ----

TEST(files_extend_each_other_and_the_command_line_wins) {
    char base[4096], path[4096];
    const char *folder = test_folder("config");
    test_write(base, folder, "base.json", "{\"model\": {\"depth\": 3, \"width\": 64}, \"threads\": 1}");
    test_write(path, folder, "run.json", "{\"extends\": \"base.json\", \"model\": {\"depth\": 5}, \"optim.lr\": 0.01}");
    Config config = {0};
    load(&config, path, (char *[]){"model.width=128"}, 1);
    assert_int_equal(config.model.depth, 5);
    assert_int_equal(config.model.width, 128);
    assert_int_equal(config.machine.threads, 1);
    CHECK_CLOSE(config.hyper.lr, 0.01, 0);
    Text json = {0};
    config_json(&config, true, &json);
    assert_non_null(strstr(text_string(&json), "run.json:1:"));
    assert_non_null(strstr(text_string(&json), "base.json:1:"));
    Config again = {0}; // what is printed is a configuration
    Errors errors = {0};
    bool parsed = config_parse(&again, "printed", text_string(&json), NULL, 0, &errors);
    if (!parsed) fail_msg("%s", text_string(&errors.text));
    assert_true(config_hash(&again) == config_hash(&config));
    Text first = {0}, second = {0};
    config_json(&config, false, &first);
    config_json(&again, false, &second);
    assert_string_equal(text_string(&first), text_string(&second));
    text_close(&json);
    text_close(&first);
    text_close(&second);
    config_close(&config);
    config_close(&again);
}

TEST(a_later_length_takes_the_place_of_an_earlier_one) {
    static const struct {
        const char *file;
        char *overrides[2];
        int count;
        int64_t steps, tokens;
    } rows[] = {
        {"{\"train\": {\"steps\": 5}}", {"train.tokens=1K"}, 1, OPTION_AUTO, 1000},
        {"{\"train\": {\"tokens\": \"2K\"}}", {"train.steps=7"}, 1, 7, OPTION_AUTO},
        {"{\"train\": {\"steps\": 5}}", {"train.tokens=auto"}, 1, 5, OPTION_AUTO},
        {"{\"train\": {\"steps\": 5}}", {"train.tokens=1K", "train.steps=7"}, 2, 7, 1000}, // told where it is used
        {"{\"train\": {\"steps\": 5, \"tokens\": \"2K\"}}", {NULL}, 0, 5, 2000},
    };
    const char *folder = test_folder("config_lengths");
    char path[4096];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Config config = {0};
        test_write(path, folder, "run.json", rows[i].file);
        load(&config, path, (char **)rows[i].overrides, rows[i].count);
        assert_int_equal(config.train.steps, rows[i].steps);
        assert_int_equal(config.train.tokens, rows[i].tokens);
        config_close(&config);
    }
}

TEST(a_later_warmup_takes_the_place_of_an_earlier_one) {
    char path[4096];
    Config config = {0};
    test_write(path, test_folder("config_warmup"), "run.json", "{\"optim\": {\"warmup_steps\": 5}}");
    load(&config, path, (char *[]){"optim.warmup_tokens=1K"}, 1);
    assert_int_equal(config.optim.warmup_steps, OPTION_AUTO);
    assert_int_equal(config.optim.warmup_tokens, 1000);
    config_close(&config);
}

TEST(circles_of_files_are_refused) {
    char a[4096], b[4096];
    const char *folder = test_folder("config_circle");
    test_write(a, folder, "a.json", "{\"extends\": \"b.json\"}");
    test_write(b, folder, "b.json", "{\"extends\": \"a.json\"}");
    Config config = {0};
    Errors errors = {0};
    assert_false(config_load(&config, a, NULL, 0, &errors));
    assert_int_equal(errors.exit_code, EXIT_USAGE);
    errors_close(&errors);
    config_close(&config);
}

TEST(all_mistakes_are_told_at_once_with_their_places) {
    static const char text[] = "{\n"
                               "  \"model\": {\"depht\": 3, \"norm\": \"layer\"},\n"
                               "  \"optim\": {\"lr\": \"fast\"},\n"
                               "  \"trian\": {\"steps\": 3},\n"
                               "  \"train\": {\"micro_batch\": 2.5}\n"
                               "}\n";
    static const char *const told[] = {":2:", "did you mean \"model.depth\"", "model.norm", ":3:", "optim.lr",
                                       ":4:", "trian", ":5:", "train.micro_batch", "eval.evry"};
    char path[4096];
    test_write(path, test_folder("config_wrong"), "wrong.json", text);
    Config config = {0};
    Errors errors = {0};
    assert_false(config_load(&config, path, (char *[]){"eval.evry=3"}, 1, &errors));
    assert_int_equal(errors.count, 6);
    for (size_t i = 0; i < sizeof told / sizeof told[0]; i++)
        if (!strstr(text_string(&errors.text), told[i]))
            fail_msg("%s is not in:\n%s", told[i], text_string(&errors.text));
    errors_close(&errors);
    config_close(&config);
}

TEST(the_hash_is_that_of_the_experiment) {
    static char *const same[] = {"run.dir=elsewhere", "threads=1", "log.every=7",
                                 "checkpoint.keep=9", "train.stop_at=5", "train.max_seconds=1h"};
    static char *const other[] = {"model.depth=3", "optim.lr=1e-2", "run.seed=2", "train.steps=5", "data.train=x",
                                  "precision=fp32"};
    Config base = {0};
    load(&base, NULL, NULL, 0);
    for (size_t i = 0; i < 12; i++) {
        Config config = {0};
        char *override = i < 6 ? same[i] : other[i - 6];
        load(&config, NULL, &override, 1);
        assert_true((config_hash(&config) == config_hash(&base)) == (i < 6));
        config_close(&config);
    }
    config_close(&base);
}

// Nothing but the data is missing: names, combinations and group rules are right. One block of small vocabulary has
// every kind of parameter, and fits anywhere.
static void plan(const char *path) {
    static char *const small[] = {"model.depth=1", "model.vocab=300", "train.micro_batch=1", "train.recompute=2",
                                  "device=cpu"};
    Run run = RUN_CLOSED;
    Errors errors = {0};
    if (!config_load(&run.config, path, small, sizeof small / sizeof small[0], &errors) ||
        !run_plan(&run, RUN_TRAINING, &errors))
        fail_msg("%s: %s", path, text_string(&errors.text));
    run_close(&run);
}

TEST(the_configurations_of_the_project_are_good) {
    static const char *const globs[] = {"configs/*.json", "configs/optimizers/*.json"};
    for (int i = 0; i < 2; i++) {
        TextList paths = {0};
        path_glob(&paths, globs[i]);
        assert_true(paths.count >= 11);
        for (int64_t file = 0; file < paths.count; file++) plan(paths.items[file]);
        text_list_close(&paths);
    }
}
