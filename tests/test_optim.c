// The optimizer apart from its numbers: recipes by name, which options they read and refuse, routes, segments, scalars.
#include <math.h>

#include "model/gpt.h"
#include "optim/routes.h"
#include "tests/support_optim.h"
#include "tests/test.h"

enum { STEPS = 100 };

// Options over a network with every kind of parameter.
typedef struct {
    OptimSettings settings;
    ParamList params;
    OptimRun run;
} Fixture;

static void fixture_open(Fixture *f, const char *assignments) {
    static const GptShape shape = {.layers = 2, .width = 8, .heads = 2, .kv_heads = 1, .head_dim = 6, .ffn_width = 10,
                                   .vocab = 11, .rows = 16, .context = 6, .norm = NORM_LAYER,
                                   .position = POSITION_LEARNED, .activation = ACTIVATION_SWIGLU, .bias = true,
                                   .qk_norm = true, .norm_epsilon = 1e-5};
    *f = (Fixture){.params = gpt_param_list(&shape)};
    optim_settings_open(&f->settings);
    optim_settings_read(&f->settings, assignments);
}

static bool fixture_plan(Fixture *f, Errors *errors) {
    return optim_run_plan(&f->run, &cpu_kernels, &f->params, &f->settings, STEPS, errors);
}

static void fixture_plan_well(Fixture *f) {
    Errors errors = {0};
    if (!fixture_plan(f, &errors)) fail_msg("%s", text_string(&errors.text));
}

static void fixture_close(Fixture *f) {
    optim_run_close(&f->run);
    optim_settings_close(&f->settings);
    free((void *)f->params.items);
}

// ---- names ----

TEST(recipes_are_found_by_name) {
    Errors errors = {0};
    for (int i = 0; recipe_at(i); i++)
        assert_ptr_equal(recipe_find("optim.name", recipe_at(i)->name, &errors), recipe_at(i));
    assert_int_equal(errors.count, 0);
    assert_null(recipe_find("optim.name", "muom", &errors));
    assert_int_equal(errors.exit_code, EXIT_USAGE);
    assert_non_null(strstr(text_string(&errors.text), "optim.name: there is no \"muom\"; did you mean \"muon\""));
    errors_close(&errors);
}

TEST(the_rest_of_a_recipe_is_a_recipe_of_elements) {
    Errors errors = {0};
    for (int i = 0; recipe_at(i); i++) {
        const Recipe *r = recipe_at(i), *rest = r->rest ? recipe_find("rest", r->rest, &errors) : r;
        assert_non_null(rest);
        assert_true(rest->direction->move == MOVE_ELEMENTS);
        assert_null(rest->rest);
    }
    assert_null(recipe_at(-1));
}

// ---- what is read ----

TEST(the_most_particular_section_wins) {
    Fixture f;
    StepScalars s;
    fixture_open(&f, "optim.warmup_steps=10 optim.lr=1 optim.beta2=0.5 optim.weight_decay=0.25 optim.matrix.lr=3 "
                     "optim.matrix.epsilon=0 optim.other.weight_decay=0.75 optim.other.beta1=0");
    fixture_plan_well(&f);
    optim_scalars(&f.run.optim, 10, &s); // the end of warmup: eta is lr
    const HyperOptions *h = &f.run.optim.routes[RECIPE_MATRIX].recipe->hyper;
    const struct {
        double eta, decay, beta1, beta2, epsilon;
    } expected[] = {[RECIPE_MATRIX] = {3, 0.25, h->beta1, 0.5, 0}, [RECIPE_OTHER] = {1, 0.75, 0, 0.5, h->epsilon}};
    for (int route = 0; route < RECIPE_ROUTES; route++) {
        CHECK_CLOSE(s.recipe[route].eta, expected[route].eta, 0);
        CHECK_CLOSE(s.recipe[route].decay, expected[route].decay, 0);
        CHECK_CLOSE(s.recipe[route].beta1, expected[route].beta1, 0);
        CHECK_CLOSE(s.recipe[route].beta2, expected[route].beta2, 0);
        CHECK_CLOSE(s.recipe[route].epsilon, expected[route].epsilon, 0);
    }
    fixture_close(&f);
}

TEST(nothing_set_is_the_recipe) {
    for (int i = 0; recipe_at(i); i++) {
        const Recipe *r = recipe_at(i);
        Fixture f;
        fixture_open(&f, "");
        f.settings.options.name = r->name;
        fixture_plan_well(&f);
        const Route *matrix = &f.run.optim.routes[RECIPE_MATRIX], *other = &f.run.optim.routes[RECIPE_OTHER];
        assert_ptr_equal(matrix->recipe, r);
        assert_string_equal(other->recipe->name, r->rest ? r->rest : r->name);
        HyperOptions expected = r->hyper;
        if (expected.ramp_steps == OPTION_AUTO) expected.ramp_steps = STEPS;
        assert_memory_equal(&matrix->hyper, &expected, sizeof expected);
        assert_memory_equal(&other->hyper, &other->recipe->hyper, r->rest ? sizeof expected : 0);
        assert_int_equal(matrix->schedule.kind, r->schedule);
        assert_int_equal(matrix->schedule.warmup, 2); // 2 % of the run
        fixture_close(&f);
    }
}

// Something that a row takes and that is not auto.
static const char *value_for(const OptionRow *row) {
    switch (row->type) {
    case OPTION_INT: return "3";
    case OPTION_BOOL: return "true";
    case OPTION_CHOICE: return strcmp(row->name, "compat") == 0 ? "exact" : strcmp(row->name, "ns_dtype") == 0 ? "fp32"
                                       : strrchr(row->choices, '|') + 1;
    case OPTION_TEXT: return "you5";
    default: return row->minimum >= 1 ? "1.5" : "0.5";
    }
}

// One option in one section beside a recipe's name: whether it is read.
static bool check_read(const char *recipe, int section, int hyper) {
    static const char *const sections[] = {"optim", "optim.matrix", "optim.other"};
    const OptionRow *row = &hyper_option_rows.rows[hyper];
    Fixture f;
    Errors errors = {0};
    Text key = {0}, problem = {0}, message = {0};
    fixture_open(&f, "");
    f.settings.options.name = recipe;
    text_printf(&key, "%s.%s", sections[section], row->name);
    text_printf(&message, "%s: not read by ", text_string(&key));
    if (!optim_settings_set(&f.settings, text_string(&key), value_for(row), &problem))
        fail_msg("%s: %s", text_string(&key), text_string(&problem));
    bool planned = fixture_plan(&f, &errors);
    bool refused = strstr(text_string(&errors.text), text_string(&message)) != NULL;
    HyperSet matrix = recipe_reads(f.run.optim.routes[RECIPE_MATRIX].recipe);
    HyperSet other = recipe_reads(f.run.optim.routes[RECIPE_OTHER].recipe);
    bool read = (section == 0 ? matrix | other : section == 1 ? matrix : other) >> hyper & 1;
    if (read == refused || (refused && (planned || errors.exit_code != EXIT_USAGE)))
        fail_msg("%s %s: %s", recipe, text_string(&key), text_string(&errors.text));
    errors_close(&errors);
    text_close(&key);
    text_close(&message);
    fixture_close(&f);
    return read;
}

TEST(options_that_nobody_reads_are_refused) {
    int reads[2] = {0};
    for (int i = 0; recipe_at(i); i++)
        for (int n = 0; n < HYPER_COUNT * 3; n++) reads[check_read(recipe_at(i)->name, n % 3, n / 3)]++;
    assert_true(reads[false] > 0 && reads[true] > 0);
}

// ---- what is refused ----

// Of options that cannot be: `key` is set to `value`, which may have spaces, beside the assignments.
static const struct {
    const char *assignments, *key, *value, *message;
} impossible[] = {
    {"", "optim.name", "adan", "optim.name: there is no \"adan\"; did you mean \"adam\""},
    {"", "optim.matrix.name", "muom", "optim.matrix.name: there is no \"muom\"; did you mean \"muon\""},
    {"", "optim.other.name", "nothing", "optim.other.name: there is no \"nothing\""},
    {"", "optim.other.name", "muon", "optim.other.name: muon moves matrices only"},
    {"", "optim.other.name", "soap", "optim.other.name: soap moves matrices only"},
    {"optim.name=amuse", "optim.warmup_steps", "1", "optim.warmup_steps: 1 is too short for amuse"},
    {"optim.name=amuse", "optim.warmup_steps", "0", "optim.warmup_steps: 0 is too short for amuse"},
    {"optim.warmup_steps=1", "optim.other.name", "amuse_rest", "optim.warmup_steps: 1 is too short for amuse_rest"},
    {"optim.name=amuse optim.compat=official", "optim.interpolation", "0", ".interpolation: 0 cannot be with compat"},
    {"optim.warmup_steps=2", "optim.warmup_tokens", "5", "optim.warmup_tokens: optim.warmup_steps is set too"},
    {"optim.name=muon", "optim.ns", "kellar5", "there is no \"kellar5\"; did you mean \"keller5\""},
    {"optim.name=muon", "optim.ns", "taylor:8", "there is no \"taylor:8\""},
    {"optim.name=muon", "optim.ns", "taylor:0", "there is no \"taylor:0\""},
    {"optim.name=muon", "optim.ns", "custom", "custom needs ns_coefficients"},
    {"optim.name=muon", "optim.ns_coefficients", "2 -1.5 0.5", "only beside ns=custom"},
    {"optim.name=muon optim.ns=custom", "optim.ns_coefficients", "2 -1.5; 0.5", "all of one length"},
    {"optim.name=muon optim.ns=custom", "optim.ns_coefficients", "2 nan 1", "all of one length"},
    {"optim.name=muon optim.ns=custom", "optim.ns_coefficients", "2 x 1", "all of one length"},
    {"optim.name=muon optim.ns=custom", "optim.ns_coefficients", ";", "all of one length"},
    {"optim.name=muon optim.ns=custom", "optim.ns_coefficients", "1 1 1 1 1 1 1 1 1", "all of one length"},
    {"optim.name=muon optim.ns=custom", "optim.ns_coefficients", "4.0098 -7.0585 2.4635", "move against its gradient"},
    {"optim.name=muon optim.ns=custom", "optim.ns_coefficients", "3 0 0", "blow up"},
    {"", "optim.groups", "wte", "\"wte\" is no rule"},
    {"", "optim.groups", "wte lr", "\"wte lr\" is no rule"},
    {"", "optim.groups", "wte lr=", "\"wte lr=\" is no rule"},
    {"", "optim.groups", "wte lr=-1", "is no rule"},
    {"", "optim.groups", "wte lr=-1 weight_decay=1", "is no rule"},
    {"", "optim.groups", "wte lr=nan", "is no rule"},
    {"", "optim.groups", "wte lr=1001", "is no rule"},
    {"", "optim.groups", "wte lr=1x", "is no rule"},
    {"", "optim.groups", "wte speed=1", "is no rule"},
    {"", "optim.groups", "wte l=1", "is no rule"},
    {"", "optim.groups", "wte lr=1 lr", "is no rule"},
    {"", "optim.groups", "", NULL}, // an empty list
    {"", "optim.groups", "h.2.* lr=1", "\"h.2.* lr=1\" is for no parameter"},
    {"", "optim.groups", "matrices lr=1", "is for no parameter"},
    {"", "optim.groups", "[\"wte lr=1\", \"wtf lr=1\", \"wpe\"]", "\"wtf lr=1\" is for no parameter"},
    {"", "optim.groups", "[\"wte lr=1\", \"wtf lr=1\", \"wpe\"]", "\"wpe\" is no rule"},
};

TEST(impossible_options_are_refused_with_their_reason) {
    for (size_t i = 0; i < sizeof impossible / sizeof impossible[0]; i++) {
        Fixture f;
        Errors errors = {0};
        Text problem = {0};
        fixture_open(&f, impossible[i].assignments);
        if (!optim_settings_set(&f.settings, impossible[i].key, impossible[i].value, &problem))
            fail_msg("%s: %s", impossible[i].key, text_string(&problem));
        const char *message = impossible[i].message;
        bool good = fixture_plan(&f, &errors);
        if (good != !message || (message && !strstr(text_string(&errors.text), message)))
            fail_msg("%s=%s: %s", impossible[i].key, impossible[i].value, text_string(&errors.text));
        if (message) assert_int_equal(errors.exit_code, EXIT_USAGE);
        errors_close(&errors);
        fixture_close(&f);
    }
}

TEST(numbers_out_of_range_are_refused_where_they_are_read) {
    static const char *const values[] = {"-1", "-0.1", "nan", "inf", "-inf", "1e30", "one", ""};
    OptimSettings settings;
    optim_settings_open(&settings);
    for (int i = 0; i < hyper_option_rows.count; i++) {
        const OptionRow *row = &hyper_option_rows.rows[i];
        if (row->type == OPTION_TEXT) continue;
        for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
            Text key = {0}, problem = {0};
            text_printf(&key, "optim.matrix.%s", row->name);
            if (optim_settings_set(&settings, text_string(&key), values[v], &problem))
                fail_msg("%s takes %s", text_string(&key), values[v]);
            assert_true(option_is_auto(row, &settings.hyper[1 + RECIPE_MATRIX]));
            text_close(&key);
            text_close(&problem);
        }
    }
    optim_settings_close(&settings);
}

// ---- segments ----

// Elements of the state, and which of them belong to something.
typedef struct {
    char *taken;
    int64_t size;
} Ground;

static void take(Ground *ground, int64_t begin, int64_t count, const char *what) {
    if (begin < 0 || begin + count > ground->size) fail_msg("%s lies outside", what);
    for (int64_t i = begin; i < begin + count; i++)
        if (ground->taken[i]++) fail_msg("%s lies where something else does", what);
}

// The segment of a part, which begins at `end` or later.
static void check_segment(const Optim *o, const Segment *s, const Param *p, const ParamPart *part, int64_t end) {
    bool vector = p->kind == PARAM_VECTOR;
    assert_true(s->offset >= end); // sorted, none twice
    assert_int_equal(s->offset, p->offset + part->row * (vector ? 1 : p->columns));
    assert_int_equal(s->count, part->rows * (vector ? 1 : p->columns));
    assert_int_equal(s->route, p->kind == PARAM_MATRIX ? RECIPE_MATRIX : RECIPE_OTHER);
    assert_int_equal(s->direction, o->routes[s->route].recipe->direction->kernel);
    assert_int_equal(s->decay_at, o->routes[s->route].recipe->decay_at);
    CHECK_CLOSE(s->lr_scale, 1, 0);
    CHECK_CLOSE(s->decay_scale, vector ? 0 : 1, 0);
}

static void take_state(Ground *ground, const Segment *s, const Route *route, int64_t rows) {
    assert_int_equal(s->gap >= 0, route->recipe->average->averages);
    if (s->gap >= 0) take(ground, s->gap, s->count, "gap");
    for (int i = 0; i < SEGMENT_SLOTS; i++) {
        const Slot *slot = &route->recipe->direction->slots[i];
        assert_int_equal(s->slot[i] >= 0, slot->name != NULL);
        if (slot->name)
            take(ground, s->slot[i], slot_elements(slot->shape, rows, s->count / rows, &route->hyper), slot->name);
    }
}

// On the device, which is the CPU here: every part of every parameter once in memory order, gap and slots apart.
TEST(every_part_has_one_segment_and_its_own_state) {
    for (int n = 0; recipe_at(n); n++) {
        Fixture f;
        fixture_open(&f, "");
        f.settings.options.name = recipe_at(n)->name;
        optim_run_open(&f.run, &cpu_kernels, &f.params, &f.settings, STEPS);
        const Optim *o = &f.run.optim;
        Ground ground = {.size = tensor_count(o->state)};
        ground.taken = test_take((size_t)ground.size);
        const Segment *next = o->table;
        int64_t end = 0;
        for (const Param *p = f.params.items; p < f.params.items + f.params.count; p++) {
            for (int part = 0; part < p->part_count; part++, next++) {
                check_segment(o, next, p, &p->part[part], end);
                take_state(&ground, next, &o->routes[next->route], p->part[part].rows);
                end = next->offset + next->count;
            }
        }
        assert_int_equal(next - o->table, o->piece_count);
        free(ground.taken);
        fixture_close(&f);
    }
}

static const Segment *segment_named(const Optim *o, const char *name) {
    for (int64_t i = 0; i < o->piece_count; i++) {
        Text own = {0};
        piece_name(&o->pieces[i], &own);
        bool found = strcmp(text_string(&own), name) == 0;
        text_close(&own);
        if (found) return &o->pieces[i].segment;
    }
    fail_msg("there is no %s", name);
    return NULL;
}

TEST(groups_multiply_what_they_name_and_later_rules_win) {
    static const char rules[] = "[\"vector weight_decay=0\", \"h.*.qkv_w lr=2\", \"h.1.qkv_w.v lr=3 weight_decay=4\", "
                                "\"matrix weight_decay=0.5\", \"wte lr=0.25\", \"h.0.norm?_w weight_decay=1\"]";
    static const struct {
        const char *name;
        double lr, decay;
    } expected[] = {{"wte", 0.25, 1}, {"wpe", 1, 1}, {"h.0.qkv_w.q", 2, 0.5}, {"h.1.qkv_w.k", 2, 0.5},
                    {"h.1.qkv_w.v", 3, 0.5}, {"h.0.qkv_b.k", 1, 0}, {"h.0.norm1_w", 1, 1}, {"h.1.norm1_w", 1, 0},
                    {"h.0.mlp_in_w.gate", 1, 0.5}};
    Fixture f;
    Text problem = {0};
    fixture_open(&f, "");
    assert_true(optim_settings_set(&f.settings, "optim.groups", rules, &problem));
    fixture_plan_well(&f);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        const Segment *s = segment_named(&f.run.optim, expected[i].name);
        CHECK_CLOSE(s->lr_scale, expected[i].lr, 0);
        CHECK_CLOSE(s->decay_scale, expected[i].decay, 0);
    }
    fixture_close(&f);
}

// ---- scalars ----

// Asked in any order, and after other steps, a step has the same scalars.
TEST(scalars_are_a_function_of_the_step) {
    for (int i = 0; recipe_at(i); i++) {
        Fixture f;
        StepScalars first[STEPS + 1], again;
        memset(first, 0, sizeof first);
        fixture_open(&f, "optim.warmup_steps=10 optim.schedule=linear");
        f.settings.options.name = recipe_at(i)->name;
        fixture_plan_well(&f);
        const Route *route = &f.run.optim.routes[RECIPE_OTHER];
        for (int t = 1; t <= STEPS; t++) optim_scalars(&f.run.optim, t, &first[t]);
        for (int n = 1; n < STEPS; n++) {
            int t = 1 + n * 37 % STEPS; // forwards and backwards
            memset(&again, 0, sizeof again);
            optim_scalars(&f.run.optim, t, &again);
            assert_memory_equal(&again, &first[t], sizeof again);
            assert_int_equal(again.t, t);
            CHECK_CLOSE(again.clip, 1, 0);
            CHECK_CLOSE(again.recipe[RECIPE_OTHER].eta, route->hyper.lr * schedule_factor(&route->schedule, t), 0);
            if (t < STEPS) CHECK_CLOSE(again.recipe[RECIPE_OTHER].b_next, first[t + 1].recipe[RECIPE_OTHER].b, 0);
        }
        fixture_close(&f);
    }
}
