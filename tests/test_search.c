// Sweep files: how many runs they ask for, which, in what order and under what names, and what is wrong with them.
#include "runtime/file.h"
#include "sweep/search.h"
#include "tests/test.h"

static const char base[] = "{\"model\": {\"depth\": 2, \"width\": 32, \"heads\": 2}, \"train\": {\"tokens\": \"1M\"}, "
                           "\"eval\": {\"every\": 10}, \"optim\": {\"lr\": 0.5}}";

// The file's text with ' for ".
static const char *write_sweep(const char *text) {
    static char path[4096], other[4096];
    char *quoted = strdup(text);
    const char *folder = test_folder("search");
    for (char *c = quoted; *c; c++)
        if (*c == '\'') *c = '"';
    test_write(other, folder, "base.json", base);
    test_write(path, folder, "sweep.json", quoted);
    free(quoted);
    return path;
}

enum { OVERRIDES = 4 };
static bool try(Search *search, const char *text, char *const overrides[OVERRIDES], Errors *errors) {
    SearchRequest request = {.path = write_sweep(text), .overrides = overrides};
    while (overrides && request.count < OVERRIDES && overrides[request.count]) request.count++;
    return search_open(search, &request, errors);
}

static Search open_with(const char *text, char *const overrides[OVERRIDES]) {
    Search search;
    Errors errors = {0};
    if (!try(&search, text, overrides, &errors)) fail_msg("%s", text_string(&errors.text));
    return search;
}
static Search open(const char *text) { return open_with(text, NULL); }

static void refused(const char *text, const char *told) {
    Search search;
    Errors errors = {0};
    assert_false(try(&search, text, NULL, &errors));
    assert_int_equal(errors.exit_code, EXIT_USAGE);
    if (!strstr(text_string(&errors.text), told)) fail_msg("%s is not in: %s", told, text_string(&errors.text));
    errors_close(&errors);
    search_close(&search);
}

static const char *settings(const SearchRun *run) {
    static Text all;
    text_clear(&all);
    for (int64_t i = 0; i < run->settings.count; i++)
        text_printf(&all, "%s%s", i ? " " : "", run->settings.items[i]);
    return text_string(&all);
}

static void has(const SearchRun *run, const char *text) {
    if (!strstr(text_string(&run->config), text)) fail_msg("%s is not in: %s", text, text_string(&run->config));
}

TEST(axes_are_crossed_in_their_order_and_the_last_one_is_the_fastest) {
    Search s = open("{'base': 'base.json', 'axes': {'optim.lr': {'log_grid': [1e-3, 1e-1, 3]}, 'run.seed': [1, 2], "
                    "'optim.name': {'value': 'lion'}}}");
    assert_int_equal(s.count, 6);
    assert_string_equal(settings(&s.runs[0]), "optim.lr=0.001 run.seed=1 optim.name=lion");
    assert_string_equal(settings(&s.runs[1]), "optim.lr=0.001 run.seed=2 optim.name=lion");
    assert_string_equal(settings(&s.runs[2]), "optim.lr=0.01 run.seed=1 optim.name=lion");
    assert_string_equal(settings(&s.runs[5]), "optim.lr=0.1 run.seed=2 optim.name=lion");
    assert_int_equal(s.runs[0].arm, -1);
    assert_string_equal(s.name, "sweep");
    assert_string_equal(s.dir, "sweeps/sweep");
    assert_string_equal(s.metric, "val_loss");
    assert_int_equal(s.retries, 1);
    assert_int_equal(s.gpus_per_run, 1);
    has(&s.runs[3], "\"lr\": 0.01,");
    has(&s.runs[3], "\"dir\": \"\"");
    search_close(&s);
}

TEST(grids_have_both_ends_and_whole_numbers_where_the_key_is_one) {
    Search s = open("{'base': 'base.json', 'axes': {'model.depth': {'log_grid': [2, 32, 5]}}}");
    static const char *const depths[] = {"2", "4", "8", "16", "32"};
    assert_int_equal(s.count, 5);
    for (int i = 0; i < 5; i++) assert_string_equal(s.runs[i].settings.items[0] + 12, depths[i]);
    search_close(&s);
    s = open("{'base': 'base.json', 'axes': {'optim.lr': {'grid': [0.3, 0.1, 3]}}}");
    assert_string_equal(settings(&s.runs[0]), "optim.lr=0.3");
    assert_string_equal(settings(&s.runs[1]), "optim.lr=0.2");
    assert_string_equal(settings(&s.runs[2]), "optim.lr=0.1");
    search_close(&s);
    s = open("{'base': 'base.json', 'axes': {'optim.lr': {'log_grid': [0.001, 0.03, 4]}}}");
    assert_string_equal(settings(&s.runs[1]), "optim.lr=0.00310723");
    search_close(&s);
    s = open("{'base': 'base.json', 'axes': {'train.tokens': {'grid': ['1M', '3M', 3]}}}");
    assert_string_equal(settings(&s.runs[1]), "train.tokens=2000000");
    search_close(&s);
}

TEST(pairs_go_in_step) {
    Search s = open("{'base': 'base.json', 'paired': [{'optim.name': ['adamw', 'muon'], 'optim.lr': [0.001, 0.01]}], "
                    "'axes': {'run.seed': [1, 2]}}");
    assert_int_equal(s.count, 4);
    assert_string_equal(settings(&s.runs[0]), "run.seed=1 optim.name=adamw optim.lr=0.001");
    assert_string_equal(settings(&s.runs[3]), "run.seed=2 optim.name=muon optim.lr=0.01");
    search_close(&s);
    refused("{'base': 'base.json', 'paired': [{'optim.name': ['adamw', 'muon'], 'optim.lr': [0.001]}]}",
            "has 1 values, and optim.name has 2");
    refused("{'base': 'base.json', 'paired': [{'optim.lr': [1]}], 'axes': {'optim.lr': [2]}}", "is an axis already");
    refused("{'base': 'base.json', 'paired': [{}]}", "needs keys");
}

TEST(what_is_excluded_is_compared_as_the_configuration_has_it) {
    Search s = open("{'base': 'base.json', "
                    "'axes': {'optim.name': ['adamw', 'muon', 'lion'], 'optim.lr': [0.001, 0.01, 0.1]}, "
                    "'exclude': [{'optim.name': 'adamw', 'optim.lr': {'gt': 0.001, 'lt': 0.1}},"
                    "{'optim.name': ['muon', 'lion'], 'optim.lr': 1e-1}, {'train.tokens': '2M'}]}");
    assert_int_equal(s.points, 9);
    assert_int_equal(s.excluded, 3);
    assert_int_equal(s.notes.count, 1);
    assert_string_equal(s.notes.items[0], "element 3 of \"exclude\" leaves out no run");
    assert_int_equal(s.count, 6);
    assert_string_equal(settings(&s.runs[0]), "optim.name=adamw optim.lr=0.001");
    assert_string_equal(settings(&s.runs[1]), "optim.name=adamw optim.lr=0.1");
    assert_string_equal(settings(&s.runs[2]), "optim.name=muon optim.lr=0.001");
    search_close(&s);
    s = open("{'base': 'base.json', 'axes': {'run.seed': [1, 2, 3, 4]}, "
             "'exclude': [{'run.seed': {'le': 1}}, {'run.seed': {'ge': 4}}]}");
    assert_int_equal(s.count, 2);
    search_close(&s);
    refused("{'base': 'base.json', 'axes': {'run.seed': [1]}, 'exclude': [{'run.seed': 1}]}", "leaves no run of 1");
    refused("{'base': 'base.json', 'exclude': [{'run.seed': {'above': 1}}]}", "one of lt, le, gt, ge");
    refused("{'base': 'base.json', 'exclude': [{'run.sed': 1}]}", "did you mean \"run.seed\"");
    refused("{'base': 'base.json', 'exclude': [{'arm': 'a'}]}", "name of an arm");
}

static const char armed[] = "{'base': 'base.json', 'set': {'optim.clip': 2, 'optim': {'weight_decay': 0.5}}, "
                            "'axes': {'optim.lr': [0.1, 0.2], 'run.seed': [1, 2]}, 'arms': ["
                            "{'name': 'a', 'set': {'optim.name': 'adamw'}},"
                            "{'name': 'b', 'set': {'optim.name': 'lion', 'optim.lr': 0.3}},"
                            "{'name': 'c', 'set': {'optim.weight_decay': 0}, 'axes': {'optim.lr': [0.4, 0.5, 0.6]}}],"
                            "'exclude': [{'arm': 'c', 'run.seed': 2}]}";

TEST(what_an_arm_says_takes_the_place_of_what_all_have) {
    Search s = open(armed);
    assert_int_equal(s.arms.count, 3);
    assert_int_equal(s.points, 4 + 2 + 6);
    assert_int_equal(s.count, 4 + 2 + 3);
    assert_string_equal(settings(&s.runs[0]), "optim.lr=0.1 run.seed=1");
    assert_string_equal(settings(&s.runs[4]), "run.seed=1");
    assert_string_equal(settings(&s.runs[6]), "run.seed=1 optim.lr=0.4");
    assert_int_equal(s.runs[4].arm, 1);
    has(&s.runs[4], "\"lr\": 0.3,");
    has(&s.runs[4], "\"weight_decay\": 0.5,");
    has(&s.runs[6], "\"weight_decay\": 0,");
    has(&s.runs[6], "\"clip\": 2,");
    search_close(&s);
    refused("{'base': 'base.json', 'arms': [{'name': 'a'}, {'name': 'a'}]}", "of this name already");
    refused("{'base': 'base.json', 'arms': [{'set': {}}]}", "needs a \"name\"");
    refused("{'base': 'base.json', 'paired': [{'optim.lr': [1], 'run.seed': [1]}], "
            "'arms': [{'name': 'a', 'set': {'optim.lr': 2}}]}", "in \"paired\" of all arms, too");
    refused("{'base': 'base.json', 'set': {'optim.lr': 1}, 'axes': {'optim.lr': [2]}}", "in \"set\", too");
    refused("{'arms': [{'name': 'a'}]}", "base: say which configuration");
}

TEST(the_command_line_wins_but_for_axes) {
    char *const overrides[OVERRIDES] = {"optim.clip=3", "train.steps=7", "log.every=5"};
    Search s = open_with(armed, overrides);
    has(&s.runs[0], "\"clip\": 3,");
    has(&s.runs[0], "\"steps\": 7,\n    \"tokens\": \"auto\"");
    assert_int_equal(strlen(s.dir), strlen("sweeps/sweep-123456"));
    Search again = open_with(armed, (char *const[OVERRIDES]){"train.steps=7", "optim.clip=3"});
    assert_string_equal(s.dir, again.dir);
    assert_string_equal(s.runs[0].id, again.runs[0].id);
    search_close(&s);
    search_close(&again);

    Search wrong;
    Errors errors = {0};
    assert_false(try(&wrong, armed, (char *const[OVERRIDES]){"optim.lr=1", "optim.cilp=3", "run.dir=x"}, &errors));
    assert_int_equal(errors.count, 3);
    errors_close(&errors);
    search_close(&wrong);
    assert_false(try(&wrong, "{'base': 'base.json', 'axes': {'train.steps': [1, 2]}}",
                     (char *const[OVERRIDES]){"train.tokens=4K"}, &errors));
    assert_non_null(strstr(text_string(&errors.text), "train.steps is an axis, and another key"));
    errors_close(&errors);
    search_close(&wrong);
}

TEST(another_base_takes_the_place_of_the_files) {
    char path[4096], override[4200];
    const char *const text = "{'base': 'nowhere.json', 'axes': {'run.seed': [1]}}";
    refused(text, "nowhere.json: there is no such file");
    test_write(path, test_folder("search_base"), "other.json", "{\"model.depth\": 3, \"train.steps\": 5}");
    snprintf(override, sizeof override, "base=%s", path);
    Search s = open_with(text, (char *const[OVERRIDES]){override});
    has(&s.runs[0], "\"depth\": 3");
    search_close(&s);
    s = open_with("{'base': 'nowhere.json', 'arms': [{'name': 'a'}, {'name': 'b', 'base': 'base.json'}]}",
                  (char *const[OVERRIDES]){override});
    has(&s.runs[0], "\"depth\": 3");
    has(&s.runs[1], "\"depth\": 2");
    search_close(&s);
}

TEST(an_id_is_that_of_what_changes_results) {
    static const char *const same[] = {
        "{'base': 'base.json', 'axes': {'optim.lr': [0.1], 'run.seed': [3]}}",
        "{'axes': {'run.seed': [3], 'optim.lr': [1e-1]}, 'base': 'base.json'}",
        "{'base': 'base.json', 'set': {'run': {'seed': 3}, 'optim.lr': 0.1}}",
        "{'base': 'base.json', 'set': {'run.seed': 3, 'optim.lr': 0.1, 'log.every': 9, 'threads': 1, 'device': 'cpu', "
        "'checkpoint.keep': 3, 'sample.every': 5, 'dist.timeout': '5m', 'train.max_seconds': 60}}",
        "{'base': 'base.json', 'set': {'optim.lr': 0.1}, 'arms': [{'name': 'a', 'set': {'run.seed': 3}}]}"};
    static const char *const other[] = {"{'base': 'base.json', 'set': {'run.seed': 3, 'optim.lr': 0.2}}",
                                        "{'base': 'base.json', 'set': {'run.seed': 4, 'optim.lr': 0.1}}",
                                        "{'base': 'base.json', 'set': {'run.seed': 3, 'optim.lr': 0.1, 'eval.every': "
                                        "9}}",
                                        "{'base': 'base.json', 'set': {'run.seed': 3, 'optim.lr': 0.1, 'precision': "
                                        "'fp32'}}"};
    Search first = open(same[0]);
    assert_int_equal(strspn(first.runs[0].id, "0123456789abcdef"), 12);
    for (size_t i = 1; i < sizeof same / sizeof *same; i++) {
        Search s = open(same[i]);
        assert_string_equal(s.runs[0].id, first.runs[0].id);
        search_close(&s);
    }
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        Search s = open(other[i]);
        assert_string_not_equal(s.runs[0].id, first.runs[0].id);
        search_close(&s);
    }
    search_close(&first);
    Search twice = open("{'base': 'base.json', 'axes': {'optim.lr': [0.1, 1e-1, 0.2], 'run.seed': [1, 2]}}");
    assert_int_equal(twice.count, 4);
    assert_int_equal(twice.duplicates, 2);
    search_close(&twice);
}

// ---- random searches ----

#define DRAWN "'optim.lr': {'log_uniform': [1e-4, 1e-1]}, 'model.depth': {'int_uniform': [1, 6]}"
#define OTHERS "'optim.name': ['adamw', 'lion'], 'optim.clip': {'uniform': [0.5, 2]}"

static const char *drawn(const Search *s, int64_t run, const char *key) {
    const TextList *all = &s->runs[run].settings;
    for (int64_t i = 0; i < all->count; i++)
        if (strncmp(all->items[i], key, strlen(key)) == 0) return all->items[i] + strlen(key);
    fail_msg("run %ld has no %s", run, key);
    return "";
}

TEST(a_sample_is_the_same_whatever_else_is_drawn) {
    Search some = open("{'base': 'base.json', 'random': {'samples': 5, 'seed': 7}, 'axes': {" DRAWN "}}");
    Search more = open("{'base': 'base.json', 'random': {'samples': 40, 'seed': 7}, 'axes': {" OTHERS ", " DRAWN "}}");
    Search seed = open("{'base': 'base.json', 'random': {'samples': 40, 'seed': 8}, 'axes': {" OTHERS ", " DRAWN "}}");
    static const char *const keys[] = {"optim.lr=", "model.depth=", "optim.clip=", "optim.name="};
    int differing = 0;
    assert_int_equal(some.count, 5);
    assert_int_equal(more.count, 40);
    for (int64_t i = 0; i < 40; i++) {
        for (int k = 0; k < 2 && i < 5; k++)
            assert_string_equal(drawn(&some, i, keys[k]), drawn(&more, i, keys[k]));
        for (int k = 0; k < 4; k++) differing += strcmp(drawn(&seed, i, keys[k]), drawn(&more, i, keys[k])) != 0;
    }
    assert_true(differing > 100);
    search_close(&some);
    search_close(&more);
    search_close(&seed);
}

TEST(draws_are_spread_over_their_ranges) {
    enum { SAMPLES = 400 };
    Search s = open("{'base': 'base.json', 'random': {'samples': 400}, 'axes': {" OTHERS ", " DRAWN "}}");
    int depths[7] = {0}, lions = 0, alike = 0;
    double below = 0, middle = 0;
    for (int64_t i = 0; i < SAMPLES; i++) {
        const char *value = drawn(&s, i, "model.depth=");
        assert_true(atoi(value) >= 1 && atoi(value) <= 6);
        depths[atoi(value)]++;
        value = drawn(&s, i, "optim.lr=");
        assert_true(atof(value) >= 1e-4 && atof(value) <= 1e-1);
        below += atof(value) < 3.1623e-3; // the geometric mean
        bool low = atof(value) < 3.1623e-3;
        value = drawn(&s, i, "optim.clip=");
        alike += low == (atof(value) < 1.25);
        assert_true(atof(value) >= 0.5 && atof(value) <= 2);
        middle += atof(value) / SAMPLES;
        lions += strcmp(drawn(&s, i, "optim.name="), "lion") == 0;
    }
    for (int i = 1; i <= 6; i++) assert_true(depths[i] > SAMPLES / 12);
    CHECK_CLOSE(below / SAMPLES, 0.5, 0.1);
    CHECK_CLOSE(middle, 1.25, 0.1);
    CHECK_CLOSE((double)alike / SAMPLES, 0.5, 0.1); // axes know nothing of each other
    CHECK_CLOSE((double)lions / SAMPLES, 0.5, 0.1);
    search_close(&s);
}

TEST(arms_and_crossed_axes_have_every_sample) {
    Search s = open("{'base': 'base.json', 'random': {'samples': 3}, 'axes': {'optim.lr': {'uniform': [1, 2]}, "
                    "'run.seed': {'values': [1, 2], 'cross': true}}, 'arms': [{'name': 'a'}, "
                    "{'name': 'b', 'set': {'optim.name': 'lion'}}]}");
    assert_int_equal(s.count, 12);
    for (int i = 0; i < 12; i += 2) {
        assert_string_equal(s.runs[i].settings.items[0], s.runs[i + 1].settings.items[0]);
        assert_string_equal(s.runs[i].settings.items[0], s.runs[(i + 6) % 12].settings.items[0]);
        assert_string_equal(s.runs[i].settings.items[1], "run.seed=1");
        assert_string_equal(s.runs[i + 1].settings.items[1], "run.seed=2");
    }
    assert_string_not_equal(s.runs[0].settings.items[0], s.runs[2].settings.items[0]);
    search_close(&s);
    refused("{'base': 'base.json', 'axes': {'optim.lr': {'uniform': [1, 2]}}}", "add \"random\"");
    refused("{'base': 'base.json', 'random': {}, 'axes': {'optim.lr': {'uniform': [1, 2]}}}", "say how many");
    refused("{'base': 'base.json', 'random': {'samples': 2}, 'axes': {'optim.lr': {'uniform': [1, 2], 'cross': true}}}",
            "needs points to cross with");
}

// ---- mistakes ----

TEST(mistakes_are_told_with_their_place_and_the_nearest_name) {
    static const struct {
        const char *text, *told;
    } rows[] = {
        {"{'bsae': 'base.json'}", "sweep.json:1:10: bsae: there is no such key here; did you mean \"base\"?"},
        {"{'base': 'base.json', 'optim.lr': 3}", "it goes into \"set\""},
        {"{'base': 'base.json',\n'axes': {'optim.rl': [3]}}", "sweep.json:2:22: optim.rl: there is no such key; did"},
        {"{'base': 'base.json', 'axes': {'optim.lr': [0.1, 'fast']}}", ":1:50: optim.lr: \"fast\" is a string"},
        {"{'base': 'base.json', 'axes': {'optim.lr': {'log_gird': [1, 2, 3]}}}", "did you mean \"log_grid\"?"},
        {"{'base': 'base.json', 'axes': {'optim.lr': {'log_grid': [0, 2, 3]}}}", "both ends must be above 0"},
        {"{'base': 'base.json', 'axes': {'optim.lr': {'grid': [1, 2]}}}", "expected [from, to, number of points]"},
        {"{'base': 'base.json', 'axes': {'optim.lr': {'grid': [1, 2, 1]}}}", "a number of points, 2 to"},
        {"{'base': 'base.json', 'axes': {'optim.lr': {'grid': [1, 2, 3], 'values': [1]}}}", "an axis is one of them"},
        {"{'base': 'base.json', 'axes': {'optim.name': {'grid': [1, 2, 3]}}}", "it is no number"},
        {"{'base': 'base.json', 'axes': {'optim.lr': 0.1}}", "expected a list of values"},
        {"{'base': 'base.json', 'axes': {'optim.lr': []}}", "needs a value"},
        {"{'base': 'base.json', 'axes': {'run.dir': ['a', 'b']}}", "only says where to write, so that it is no axis"},
        {"{'base': 'base.json', 'axes': {'log.every': [1, 2]}}", "only says what to show"},
        {"{'base': 'base.json', 'axes': {'dist.comm': ['host']}}", "only says how to share"},
        {"{'base': 'base.json', 'set': {'optim': {'rl': 1}}}", "did you mean \"optim.lr\""},
        {"{'base': 'base.json', 'set': {'run.dir': 'x'}}", "which \"dir\" sets"},
        {"{'base': 'base.json', 'metric': {'name': 'val/loss'}}", "did you mean \"val_loss\""},
        {"{'base': 'base.json', 'metric': {'name': 'quality'}}", "expected a number of metrics.jsonl"},
        {"{'base': 'base.json', 'metric': {'name': 'hellaswag_llmc_acc'}}", "eval.tasks is without hellaswag"},
        {"{'base': 'base.json', 'metric': {'name': 'hellaswag_llmc'}}", "did you mean \"hellaswag_llmc_acc\""},
        {"{'base': 'base.json', 'metric': {'name': 'step'}}", "expected a number of metrics.jsonl"},
        {"{'base': 'base.json', 'metric': {'goal': 'mni'}}", "did you mean \"min\""},
        {"{'base': 'base.json', 'budget': {'max_runs': 2}, 'axes': {'run.seed': [1, 2, 3]}}", "and these are 3 runs"},
        {"{'base': 'base.json', 'early_stop': {'kind': 'asha'}}", "say how many steps"},
        {"{'base': 'base.json', 'set': {'eval.every': 0}}", "eval.every is 0"},
        {"{'base': 'base.json', 'name': 'a/b'}", "it names a directory"},
        {"{'base': 'base.json', 'axes': {'optim.lr': {'grid': [1, 2, 400]}, 'run.seed': {'grid': [1, 400, 400]}}}",
         "more than 100000 points"},
        {"[1]", "expected an object"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) refused(rows[i].text, rows[i].told);
    Search s;
    Errors errors = {0};
    assert_false(try(&s, "{'base': 'base.json', 'axes': {'optim.lr': ['a', 'b'], 'x': [1]}, 'y': 1}", NULL, &errors));
    assert_int_equal(errors.count, 4);
    errors_close(&errors);
    search_close(&s);
}

TEST(rungs_are_where_the_runs_are_evaluated) {
    Search s = open("{'base': 'base.json', 'axes': {'eval.every': [10, 15]}, "
                    "'early_stop': {'kind': 'asha', 'min_steps': 31}}");
    assert_int_equal(s.min_steps, 60);
    assert_int_equal(s.eta, 3);
    assert_int_equal(s.notes.count, 1);
    search_close(&s);
    s = open("{'base': 'base.json', 'budget': {'max_runs': 4, 'gpus_per_run': 2, 'max_parallel': 3, 'max_hours': 0.5}, "
             "'on_failure': {'retries': 0}, 'metric': {'name': 'hellaswag_llmc_acc', 'goal': 'max', 'at': 'best'}, "
             "'dir': 'out/of/the/way/', 'set': {'eval.tasks': ['val', 'hellaswag']}}");
    assert_int_equal(s.min_steps, 0);
    assert_int_equal(s.gpus_per_run, 2);
    assert_int_equal(s.max_parallel, 3);
    assert_int_equal(s.retries, 0);
    CHECK_CLOSE(s.max_seconds, 1800, 0);
    assert_true(s.maximise && s.at_best);
    assert_string_equal(s.dir, "out/of/the/way");
    search_close(&s);
}

TEST(which_way_is_better_is_as_the_metric_has_it) {
    static const struct {
        const char *text;
        bool maximise;
    } rows[] = {
        {"{'base': 'base.json'}", false},
        {"{'base': 'base.json', 'metric': {'goal': 'max'}}", true},
        {"{'base': 'base.json', 'metric': {'name': 'tokens_per_second'}}", true},
        {"{'base': 'base.json', 'metric': {'name': 'tokens_per_second', 'goal': 'min'}}", false},
        {"{'base': 'base.json', 'metric': {'name': 'gpu_energy', 'goal': 'auto'}}", false},
        {"{'base': 'base.json', 'metric': {'name': 'hellaswag_lmeval_acc_norm'}, 'set': {'eval.tasks': "
         "['hellaswag']}}", true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Search s = open(rows[i].text);
        assert_int_equal(s.maximise, rows[i].maximise);
        search_close(&s);
    }
}

TEST(settings_are_json_of_their_own_types) {
    Search s = open("{'base': 'base.json', 'axes': {'optim.lr': [0.1], 'optim.name': ['lion'], 'model.bias': [true], "
                    "'train.tokens': ['2M'], 'data.train': ['a*.bin', ['b', 'c']], 'optim.beta1': ['auto']}}");
    Text text = {0};
    JsonWriter writer = {.out = &text};
    json_begin(&writer, NULL, '{');
    search_settings_json(&s.runs[1], &writer);
    json_end(&writer, '}');
    assert_string_equal(text_string(&text), "{\"optim.lr\":0.1,\"optim.name\":\"lion\",\"model.bias\":true,"
                        "\"train.tokens\":2000000,\"data.train\":\"[\\\"b\\\",\\\"c\\\"]\",\"optim.beta1\":\"auto\"}");
    text_close(&text);
    search_close(&s);
}
