#include "optim/routes.h"

#include <math.h>
#include <string.h>

static const char *const sections[] = {"optim", "optim.matrix", "optim.other"};

// ---- recipes ----

static bool is_auto(const char *text) { return strcmp(text, "auto") == 0; }

// Matrices: optim.matrix.name, or optim.name. The rest: optim.other.name, or what the rest of optim.name is.
static bool choose_recipes(Route routes[RECIPE_ROUTES], const OptimSetup *setup, Errors *errors) {
    const Recipe *both = recipe_find("optim.name", setup->options->name, errors);
    if (!both) return false;
    const char *names[RECIPE_ROUTES] = {both->name, both->rest ? both->rest : both->name};
    for (int route = 0; route < RECIPE_ROUTES; route++) {
        const char *own = setup->route[route]->name;
        Text key = {0};
        text_printf(&key, "%s.name", sections[1 + route]);
        routes[route].recipe = recipe_find(text_string(&key), is_auto(own) ? names[route] : own, errors);
        text_close(&key);
    }
    if (!routes[RECIPE_MATRIX].recipe || !routes[RECIPE_OTHER].recipe) return false;
    const Recipe *other = routes[RECIPE_OTHER].recipe;
    if (!recipe_is_whole(other)) return true;
    return errors_add(errors, EXIT_USAGE, "optim.other.name: %s moves matrices only, embeddings and vectors are none; "
                      "choose another, such as %s", other->name, other->rest);
}

// ---- hyperparameters ----

static const void *field_of(const OptionRow *row, const HyperOptions *options) {
    return (const char *)options + row->offset;
}

// The most particular section that sets a value wins; the recipe's default comes last. Every field has 8 bytes.
static void resolve_hyper(Route *route, const OptimSetup *setup, int which) {
    for (int i = 0; i < HYPER_COUNT; i++) {
        const OptionRow *row = &hyper_option_rows.rows[i];
        const HyperOptions *from = &route->recipe->hyper;
        if (!option_is_auto(row, setup->hyper[0])) from = setup->hyper[0];
        if (!option_is_auto(row, setup->hyper[1 + which])) from = setup->hyper[1 + which];
        memcpy((char *)&route->hyper + row->offset, field_of(row, from), sizeof(int64_t));
    }
    if (route->hyper.ramp_steps == OPTION_AUTO) route->hyper.ramp_steps = setup->steps;
}

static void list_reads(Text *out, HyperSet reads) {
    const char *separator = "";
    for (int i = 0; i < HYPER_COUNT; i++) {
        if (!(reads >> i & 1)) continue;
        text_printf(out, "%s%s", separator, hyper_option_rows.rows[i].name);
        separator = ", ";
    }
}

// An option that nobody reads is a mistake of its user, who thinks that it does something. `who` reads `set`.
static void refuse_unread(const OptimSetup *setup, int section, HyperSet set, const char *who, Errors *errors) {
    for (int i = 0; i < HYPER_COUNT; i++) {
        const OptionRow *row = &hyper_option_rows.rows[i];
        if (set >> i & 1 || option_is_auto(row, setup->hyper[section])) continue;
        Text list = {0};
        list_reads(&list, set);
        errors_add(errors, EXIT_USAGE, "%s.%s: not read by %s (%s); leave it out", sections[section], row->name, who,
                   text_string(&list));
        text_close(&list);
    }
}

// What a recipe reads as its choices stand.
static HyperSet route_reads(const Route *route) {
    HyperSet set = recipe_reads(route->recipe);
    if (route->recipe->blend->rises && route->hyper.beta_schedule == BETA_CONST) set &= ~((HyperSet)1 << HYPER_rho);
    return set;
}

static bool check_reads(const Route routes[RECIPE_ROUTES], const OptimSetup *setup, Errors *errors) {
    const Recipe *matrix = routes[RECIPE_MATRIX].recipe, *other = routes[RECIPE_OTHER].recipe;
    int before = errors->count;
    Text both = {0};
    text_printf(&both, matrix == other ? "%s" : "%s or %s", matrix->name, other->name);
    HyperSet reads[] = {route_reads(&routes[RECIPE_MATRIX]), route_reads(&routes[RECIPE_OTHER])};
    refuse_unread(setup, 0, reads[0] | reads[1], text_string(&both), errors);
    refuse_unread(setup, 1 + RECIPE_MATRIX, reads[RECIPE_MATRIX], matrix->name, errors);
    refuse_unread(setup, 1 + RECIPE_OTHER, reads[RECIPE_OTHER], other->name, errors);
    text_close(&both);
    return errors->count == before;
}

// ---- schedules ----

// At least two steps: where the interpolation rises, it does so from the end of warmup.
static int64_t warmup_steps(const OptimSetup *setup) {
    const OptimOptions *o = setup->options;
    int64_t share = setup->steps / 50 < 2000 ? setup->steps / 50 : 2000;
    if (o->warmup_tokens != OPTION_AUTO) return (o->warmup_tokens + setup->step_tokens - 1) / setup->step_tokens;
    return o->warmup_steps != OPTION_AUTO ? o->warmup_steps : share > 2 ? share : 2;
}

static void set_schedule(Route *route, const OptimSetup *setup) {
    const OptimOptions *o = setup->options;
    route->schedule = (Schedule){
        .kind = o->schedule == OPTION_AUTO ? route->recipe->schedule : (ScheduleKind)o->schedule,
        .warmup = warmup_steps(setup),
        .steps = setup->steps,
        .final = !isnan(o->final_lr) ? o->final_lr : 0.1,
        .decay_fraction = !isnan(o->decay_fraction) ? o->decay_fraction : 0.2,
        .shape = o->decay_shape != OPTION_AUTO ? (DecayShape)o->decay_shape : SHAPE_LINEAR,
    };
}

// Options that only some schedules, or some readouts, read: bits of their choices.
static bool check_curves(const Route routes[RECIPE_ROUTES], const OptimSetup *setup, Errors *errors) {
    enum { DECAYING = 1 << SCHEDULE_LINEAR | 1 << SCHEDULE_COSINE | 1 << SCHEDULE_WSD | 1 << SCHEDULE_TRAPEZOID };
    static const struct {
        const char *name;
        int64_t schedules, readouts;
    } rows[] = {{"final_lr", DECAYING, 0},
                {"decay_fraction", 1 << SCHEDULE_WSD | 1 << SCHEDULE_TRAPEZOID, 0},
                {"decay_shape", 1 << SCHEDULE_WSD, 0},
                {"readout_start", 0, 1 << READOUT_EMA | 1 << READOUT_TAIL},
                {"readout_every", 0, 1 << READOUT_EMA},
                {"readout_decay", 0, 1 << READOUT_EMA}};
    const OptimOptions *o = setup->options;
    int64_t schedules = 1 << routes[RECIPE_MATRIX].schedule.kind | 1 << routes[RECIPE_OTHER].schedule.kind;
    int before = errors->count;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *choice = rows[i].schedules ? "schedule" : "readout";
        bool read = rows[i].schedules & schedules || rows[i].readouts >> o->readout & 1;
        if (read || option_is_auto(optim_option_find(rows[i].name), o)) continue;
        errors_add(errors, EXIT_USAGE, "optim.%s: not read by the %s that is chosen; leave it out, or set optim.%s",
                   rows[i].name, choice, choice);
    }
    if (o->warmup_steps != OPTION_AUTO && o->warmup_tokens != OPTION_AUTO)
        errors_add(errors, EXIT_USAGE, "optim.warmup_tokens: optim.warmup_steps is set too; leave one of them out");
    return errors->count == before;
}

// ---- combinations ----

static bool rises(const Route *route) {
    return route->recipe->blend->rises && route->hyper.beta_schedule != BETA_CONST;
}

static bool check_combinations(const Route routes[RECIPE_ROUTES], Errors *errors) {
    int before = errors->count;
    const Route *rising = rises(&routes[RECIPE_MATRIX]) ? &routes[RECIPE_MATRIX]
                          : rises(&routes[RECIPE_OTHER]) ? &routes[RECIPE_OTHER] : NULL;
    if (rising && rising->schedule.warmup < 2)
        errors_add(errors, EXIT_USAGE, "optim.warmup_steps: %ld is too short for %s, whose interpolation rises from "
                   "the end of warmup; set 2 or more, or optim.beta_schedule=const", rising->schedule.warmup,
                   rising->recipe->name);
    for (int i = 0; i < RECIPE_ROUTES && errors->count == before; i++) { // one message is enough
        const Recipe *r = routes[i].recipe;
        const HyperOptions *h = &routes[i].hyper;
        if (r->blend->rises && h->compat == COMPAT_OFFICIAL && h->interpolation == 0)
            errors_add(errors, EXIT_USAGE, "%s.interpolation: 0 cannot be with compat=official, which divides by it; "
                       "use compat=exact", sections[1 + i]);
        if (recipe_reads(r) >> HYPER_average_boost & 1 && h->interpolation == 1)
            errors_add(errors, EXIT_USAGE, "%s.interpolation: with 1 the average of %s would stay what it is at first; "
                       "choose less", sections[1 + i], r->name);
    }
    return errors->count == before;
}

static void set_polynomial(Route *route, const OptimSetup *setup, int which, Errors *errors) {
    const HyperOptions *h = &route->hyper;
    if (route->recipe->direction->move != MOVE_ORTHOGONAL) return;
    const char *key = is_auto(setup->hyper[1 + which]->ns) ? "optim.ns" : "optim.matrix.ns";
    if (strcmp(h->ns, "exact") == 0 && h->ns_steps != OPTION_AUTO)
        errors_add(errors, EXIT_USAGE, "%s: exact has its own number of steps; leave ns_steps out", key);
    polynomial_make(&route->polynomial, key, &(PolynomialSpec){h->ns, h->ns_steps, h->ns_coefficients, h->ns_safety},
                    errors);
}

bool routes_choose(Route routes[RECIPE_ROUTES], const OptimSetup *setup, Errors *errors) {
    int before = errors->count;
    if (!choose_recipes(routes, setup, errors)) return false;
    for (int i = 0; i < RECIPE_ROUTES; i++) {
        resolve_hyper(&routes[i], setup, i);
        set_schedule(&routes[i], setup);
    }
    if (!check_reads(routes, setup, errors)) return false;
    for (int i = 0; i < RECIPE_ROUTES; i++) set_polynomial(&routes[i], setup, i, errors);
    check_curves(routes, setup, errors);
    check_combinations(routes, errors);
    return errors->count == before;
}
