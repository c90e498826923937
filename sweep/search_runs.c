// From a sweep file to its runs: the points of each arm, each as a resolved configuration, what is left out, and what
// is there already.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/memory.h"
#include "sweep/search_parts.h"

// The axes of an arm, in the order in which a point says them.
typedef struct {
    const Scope *scope; // NULL: the file has no arms
    const char *name, *base;
    const Axis **axes;
    int64_t count;
    int64_t points; // crossed ones, of each sample
} Arm;

typedef struct {
    Search *search;
    const SearchFile *file;
    const TextList *overrides;
    Errors *errors;
    uint64_t *seen; // ids, by their place; 0: free
    uint64_t mask;
    int64_t capacity; // of search->runs
    int64_t *hits;    // of each element of `exclude`
    int64_t every;    // least common multiple of eval.every
} Maker;

// A mistake of the file as a whole; always false.
__attribute__((format(printf, 2, 3))) static bool refuse(const Maker *maker, const char *format, ...) {
    Text problem = {0};
    va_list arguments;
    va_start(arguments, format);
    text_vprintf(&problem, format, arguments);
    va_end(arguments);
    errors_add(maker->errors, EXIT_USAGE, "%s: %s", maker->file->path, text_string(&problem));
    text_close(&problem);
    return false;
}

static bool is_random(const SearchFile *file) { return file->given & GIVEN_RANDOM; }
static bool is_crossed(const SearchFile *file, const Axis *axis) { return !is_random(file) || axis->cross; }

// ---- arms ----

static const Axis *find_axis(const AxisList *list, const char *key) {
    for (int64_t i = 0; i < list->count; i++)
        if (axis_has(&list->items[i], key)) return &list->items[i];
    return NULL;
}

// What an arm says of a key of an axis of all arms takes its place; of a pair there is no part to take away.
static bool gives_way(const Maker *maker, const Axis *axis, const Arm *arm) {
    for (int64_t i = 0; arm->scope && i < axis->keys.count; i++) {
        const char *key = axis->keys.items[i];
        if (!list_value(&arm->scope->set, key) && !find_axis(&arm->scope->axes, key)) continue;
        if (axis->keys.count > 1)
            refuse(maker, "arm \"%s\": %s is in \"paired\" of all arms, too; leave it out of one of them", arm->name,
                   key);
        return true;
    }
    return false;
}

// With more points than are allowed it does not matter how many more there are.
static int64_t times(int64_t a, int64_t b) { return a > 2 * SEARCH_POINTS / b ? 2 * SEARCH_POINTS : a * b; }

static Arm make_arm(const Maker *maker, int64_t number, const char *base) {
    const SearchFile *file = maker->file;
    Arm arm = {.name = "", .base = base ? base : file->common.base, .points = 1};
    if (number < file->arms.count) {
        arm.scope = &file->scopes[number];
        arm.name = file->arms.items[number];
        if (*arm.scope->base) arm.base = arm.scope->base;
    }
    const AxisList none = {0}, *common = &file->common.axes, *own = arm.scope ? &arm.scope->axes : &none;
    arm.axes = memory_take(common->count + own->count, sizeof *arm.axes, "axes of an arm");
    for (int64_t i = 0; i < common->count; i++)
        if (!gives_way(maker, &common->items[i], &arm)) arm.axes[arm.count++] = &common->items[i];
    for (int64_t i = 0; i < own->count; i++) arm.axes[arm.count++] = &own->items[i];
    for (int64_t i = 0; i < arm.count; i++)
        if (is_crossed(file, arm.axes[i])) arm.points = times(arm.points, arm.axes[i]->count);
    return arm;
}

// ---- runs ----

// Whether an id was seen before; it is from now on.
static bool see(Maker *maker, const char *id) {
    uint64_t key = strtoull(id, NULL, 16) | UINT64_C(1) << 63, place = key & maker->mask;
    for (; maker->seen[place]; place = (place + 1) & maker->mask)
        if (maker->seen[place] == key) return true;
    maker->seen[place] = key;
    return false;
}

// The settings of a point of an arm: number `point` of the crossed ones, of this sample; the last axis is the fastest.
static void make_settings(const Maker *maker, const Arm *arm, int64_t sample, int64_t point, TextList *out) {
    int64_t left = arm->points;
    for (int64_t i = 0; i < arm->count; i++) {
        const Axis *axis = arm->axes[i];
        int64_t choice = 0;
        if (is_crossed(maker->file, axis)) {
            left /= axis->count;
            choice = point / left % axis->count;
        }
        for (int64_t key = 0; key < axis->keys.count; key++) {
            Text text = {0};
            text_printf(&text, "%s=", axis->keys.items[key]);
            if (is_crossed(maker->file, axis)) text_add(&text, axis->values.items[choice * axis->keys.count + key]);
            else axis_draw(axis, maker->file->random.seed, sample, key, &text);
            text_list_add(out, text_string(&text));
            text_close(&text);
        }
    }
}

// An axis whose values do not arrive is none: another key that means the same takes its place.
static bool check_settings(const Maker *maker, const Config *config, const TextList *settings) {
    bool good = true;
    for (int64_t i = 0; good && i < settings->count; i++) {
        Text key = {0}, value = {0};
        const char *wanted = strchr(settings->items[i], '=') + 1;
        text_append(&key, settings->items[i], (size_t)(wanted - settings->items[i]) - 1);
        config_key_value(config, text_string(&key), &value);
        good = strcmp(text_string(&value), wanted) == 0;
        if (!good)
            refuse(maker, "%s is an axis, and another key on the command line takes its place; change one of them",
                   text_string(&key));
        text_close(&key);
        text_close(&value);
    }
    return good;
}

static int64_t greatest_divisor(int64_t a, int64_t b) { return b == 0 ? a : greatest_divisor(b, a % b); }

static bool has_task(const Config *config, const char *task) {
    bool found = false;
    for (int64_t i = 0; i < config->eval.tasks.count; i++) found = found || strstr(config->eval.tasks.items[i], task);
    return found;
}

// Runs are compared by their metric, where early_stop asks for it at steps where all of them are evaluated.
static bool check_evaluations(Maker *maker, const Config *config) {
    const char *metric = maker->file->metric.name, *task = metric_find(metric)->task;
    int64_t every = config->eval.every;
    bool halving = maker->file->given & GIVEN_EARLY_STOP;
    if (every == 0 && (halving || task))
        return refuse(maker, "the runs are compared by their evaluations, and eval.every is 0: there are none");
    if (task && !has_task(config, task))
        return refuse(maker, "the runs are compared by %s, and eval.tasks is without %s", metric, task);
    if (!halving) return true;
    int64_t factor = every / greatest_divisor(maker->every, every);
    if ((double)maker->every * (double)factor > 1e12)
        return refuse(maker, "early_stop: the runs' eval.every have no step in common; give them the same one");
    maker->every *= factor;
    return true;
}

static void add_run(Maker *maker, int64_t arm, const Config *config, TextList *settings) {
    Search *s = maker->search;
    Text identity = {0};
    char hash[HASH_HEX];
    config_identity(config, &identity);
    bytes_hash(identity.data, identity.size, hash);
    hash[SWEEP_ID - 1] = 0;
    text_close(&identity);
    if (see(maker, hash)) {
        s->duplicates++;
        return;
    }
    s->runs = memory_room(s->runs, s->count + 1, &maker->capacity, sizeof *s->runs, "runs of a search");
    SearchRun *run = &s->runs[s->count++];
    *run = (SearchRun){.arm = maker->file->arms.count ? arm : -1, .settings = *settings};
    *settings = (TextList){0};
    memcpy(run->id, hash, SWEEP_ID);
    config_json(config, false, &run->config);
}

static bool make_run(Maker *maker, const Arm *arm, int64_t number, TextList *settings) {
    static char *const nowhere[] = {"run.dir="}; // each has a place of its own in the sweep's directory
    const TextList none = {0}, *set = &maker->file->common.set, *own = arm->scope ? &arm->scope->set : &none;
    const ConfigLayer layers[] = {{set->items, set->count},
                                  {own->items, own->count},
                                  {settings->items, settings->count},
                                  {maker->overrides->items, maker->overrides->count},
                                  {nowhere, 1}};
    Config config = {0};
    bool good = config_load_layers(&config, arm->base, layers, 5, maker->errors) &&
                check_settings(maker, &config, settings);
    if (good && search_excludes(maker->file, &config, arm->name, maker->hits)) {
        maker->search->excluded++;
    } else if (good) {
        good = check_evaluations(maker, &config);
        if (good) add_run(maker, number, &config, settings);
    }
    config_close(&config);
    return good;
}

// False where one run is refused: the others of this arm would be, too.
static bool make_runs(Maker *maker, const Arm *arm, int64_t number) {
    bool good = true;
    int64_t samples = is_random(maker->file) ? maker->file->random.samples : 1;
    for (int64_t sample = 0; sample < samples && good; sample++)
        for (int64_t point = 0; point < arm->points && good; point++) {
            TextList settings = {0};
            make_settings(maker, arm, sample, point, &settings);
            good = make_run(maker, arm, number, &settings);
            text_list_close(&settings);
        }
    return good;
}

// ---- the whole ----

static bool check_bases(const Maker *maker, const Arm *arms, int64_t count) {
    Errors *errors = maker->errors;
    Config config = {0};
    int before = errors->count;
    config_load(&config, NULL, maker->overrides->items, (int)maker->overrides->count, errors);
    config_close(&config);
    for (int64_t i = 0; i < count; i++) {
        bool known = false;
        for (int64_t k = 0; k < i; k++) known = known || strcmp(arms[k].base, arms[i].base) == 0;
        if (!*arms[i].base && !known)
            refuse(maker, "base: say which configuration the runs begin with, as \"base\": \"../llama-124m.json\" "
                   "in the file or base=FILE behind it");
        if (!*arms[i].base || known) continue;
        config_load(&config, arms[i].base, NULL, 0, errors);
        config_close(&config);
    }
    return errors->count == before;
}

static bool is_axis(const SearchFile *file, const char *key) {
    bool found = find_axis(&file->common.axes, key) != NULL;
    for (int64_t i = 0; i < file->arms.count; i++) found = found || find_axis(&file->scopes[i].axes, key);
    return found;
}

static bool check_overrides(const Maker *maker) {
    int before = maker->errors->count;
    for (int64_t i = 0; i < maker->overrides->count; i++) {
        const char *item = maker->overrides->items[i];
        Text key = {0};
        text_append(&key, item, strcspn(item, "="));
        if (is_axis(maker->file, text_string(&key)))
            errors_add(maker->errors, EXIT_USAGE, "override %s: it is an axis of %s; change its values there",
                       text_string(&key), maker->file->path);
        if (strcmp(text_string(&key), "run.dir") == 0)
            errors_add(maker->errors, EXIT_USAGE, "override run.dir: each run has its own directory in that of the "
                       "sweep, which --dir sets");
        text_close(&key);
    }
    return maker->errors->count == before;
}

static bool check_points(const Maker *maker, const Arm *arms, int64_t count) {
    Search *search = maker->search;
    int64_t samples = is_random(maker->file) ? maker->file->random.samples : 1;
    for (int64_t i = 0; i < count; i++) search->points += times(arms[i].points, samples);
    if (search->points <= maker->file->points) return true;
    return refuse(maker, "the axes make more than %ld points; take shorter axes, or draw from them: \"random\": "
                  "{\"samples\": 100}", maker->file->points);
}

static bool check_count(const Maker *maker) {
    int64_t count = maker->search->count, most = maker->file->budget.max_runs;
    if (count == 0)
        return refuse(maker, "\"exclude\" leaves no run of %ld points", maker->search->points);
    if (most == OPTION_AUTO || count <= most) return true;
    return refuse(maker, "budget.max_runs is %ld, and these are %ld runs; raise it, or leave some out", most, count);
}

// An element that leaves out nothing is a mistake, more often than not.
static void note_idle_exclusions(const Maker *maker) {
    for (int64_t i = 0; i < maker->file->exclusions; i++) {
        Text note = {0};
        text_printf(&note, "element %ld of \"exclude\" leaves out no run", i + 1);
        if (maker->hits[i] == 0) text_list_add(&maker->search->notes, text_string(&note));
        text_close(&note);
    }
}

static void settle_rungs(const Maker *maker) {
    const EarlyStopOptions *stop = &maker->file->early_stop;
    Search *s = maker->search;
    if (!(maker->file->given & GIVEN_EARLY_STOP)) return;
    s->eta = stop->eta;
    s->min_steps = (stop->min_steps + maker->every - 1) / maker->every * maker->every;
    if (s->min_steps == stop->min_steps) return;
    Text note = {0};
    text_printf(&note, "early_stop.min_steps %ld became %ld, where the runs are evaluated", stop->min_steps,
                s->min_steps);
    text_list_add(&s->notes, text_string(&note));
    text_close(&note);
}

bool search_make_runs(Search *search, const SearchFile *file, const char *base, const TextList *overrides,
                      Errors *errors) {
    int64_t count = file->arms.count ? file->arms.count : 1;
    int before = errors->count;
    Maker maker = {.search = search, .file = file, .overrides = overrides, .errors = errors, .every = 1};
    Arm *arms = memory_take(count, sizeof *arms, "arms");
    maker.hits = memory_take(file->exclusions, sizeof *maker.hits, "exclusions");
    for (int64_t i = 0; i < count; i++) arms[i] = make_arm(&maker, i, base);
    bool good = check_overrides(&maker);
    good = check_bases(&maker, arms, count) && good;
    good = check_points(&maker, arms, count) && good && errors->count == before;
    if (good) {
        for (maker.mask = 1023; maker.mask < 2 * (uint64_t)search->points; maker.mask = 2 * maker.mask + 1) continue;
        maker.seen = memory_take((int64_t)maker.mask + 1, sizeof *maker.seen, "runs that are known");
        for (int64_t i = 0; i < count; i++) good = make_runs(&maker, &arms[i], i) && good;
        good = good && check_count(&maker);
        if (good) settle_rungs(&maker);
        if (good) note_idle_exclusions(&maker);
        free(maker.seen);
    }
    for (int64_t i = 0; i < count; i++) free(arms[i].axes);
    free(arms);
    free(maker.hits);
    return errors->count == before;
}
