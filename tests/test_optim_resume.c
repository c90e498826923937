// Every recipe goes on as if it had not been interrupted: from its saved state, after looks at other iterates, over
// skipped steps. All of it bit for bit, on the CPU in fp32 and on the reference in fp64.
#include <math.h>

#include "kernels/checked.h"
#include "tests/reference/reference.h"
#include "tests/support_model.h"
#include "tests/support_optim.h"
#include "tests/test.h"

enum { WARMUP = 6, LENGTH = 40 };
static const Kernels *const backends[] = {&cpu_kernels, &reference_kernels};
enum { BACKENDS = 2 };

static const char *const readouts[] = {
    "optim.readout=none",
    "optim.readout=ema optim.readout_every=3 optim.readout_start=2 optim.readout_decay=0.75",
    "optim.readout=tail optim.readout_start=5",
};
enum { READOUTS = sizeof readouts / sizeof readouts[0] };

// ---- runs ----

typedef struct {
    OptimRun run;
    OptimSettings settings;
    ParamList params;
} Subject;

static void subject_open(Subject *s, const Kernels *kernels, const char *recipe, const char *assignments) {
    s->params = optim_model();
    optim_settings_open(&s->settings);
    s->settings.options.name = recipe;
    optim_settings_read(&s->settings, "optim.warmup_steps=6 optim.lr=0.02 optim.weight_decay=0.1 optim.clip=2");
    optim_settings_read(&s->settings, assignments);
    optim_run_open(&s->run, kernels, &s->params, &s->settings, LENGTH);
    checked_want_finite(false); // gradients are not, at times
}

static void subject_close(Subject *s) {
    optim_run_close(&s->run);
    optim_settings_close(&s->settings);
    free((void *)s->params.items);
}

static void begin(Subject *s) {
    double *start = optim_run_start(&s->run);
    optim_run_begin(&s->run, start);
    free(start);
}

// Steps that are skipped: because of the loss, or of a gradient.
typedef enum { NONE, SOME } Skips;

static void go(Subject *s, int64_t to, Skips skips) {
    while (s->run.t < to) {
        int64_t t = s->run.t + 1;
        double *gradients = optim_run_gradients(&s->run);
        if (skips == SOME && (t == 1 || t == 8 || t == 17)) s->run.bad_loss = true;
        if (skips == SOME && t == 5) gradients[11] = INFINITY;
        if (skips == SOME && t == 9) gradients[7] = 1e25; // in fp64, where it is not clipped away
        optim_run_step(&s->run, gradients);
        free(gradients);
    }
}

// ---- state ----

typedef struct {
    NamedTensors list;
    char *bytes; // all tensors, one behind the other
    size_t size;
} Saved;

static Saved save(const Subject *s) {
    Saved saved = {0};
    optim_state(&s->run.optim, &saved.list);
    for (int64_t i = 0; i < saved.list.count; i++) saved.size += tensor_size_bytes(saved.list.items[i].tensor);
    saved.bytes = test_take(saved.size);
    char *next = saved.bytes;
    for (int64_t i = 0; i < saved.list.count; i++) {
        s->run.kernels->download(next, saved.list.items[i].tensor);
        next += tensor_size_bytes(saved.list.items[i].tensor);
    }
    return saved;
}

static void forget(Saved *saved) {
    named_tensors_close(&saved->list);
    free(saved->bytes);
}

// Into a fresh optimizer, by name.
static void load(Subject *s, const Saved *saved, int64_t steps) {
    NamedTensors own = {0};
    optim_state(&s->run.optim, &own);
    assert_int_equal(own.count, saved->list.count);
    const char *next = saved->bytes;
    for (int64_t i = 0; i < own.count; i++) {
        assert_string_equal(own.items[i].name, saved->list.items[i].name);
        assert_true(tensor_same_shape(own.items[i].tensor, saved->list.items[i].tensor));
        s->run.kernels->upload(own.items[i].tensor, next);
        next += tensor_size_bytes(own.items[i].tensor);
    }
    named_tensors_close(&own);
    s->run.t = steps;
    optim_load_weights(&s->run.optim, ITERATE_Y, steps);
}

static void check_same(const Subject *a, const Subject *b, const char *what) {
    Saved one = save(a), two = save(b);
    double *weights[] = {optim_run_weights(&a->run), optim_run_weights(&b->run)};
    bool same = one.size == two.size && memcmp(one.bytes, two.bytes, one.size) == 0;
    if (!same || memcmp(weights[0], weights[1], (size_t)a->run.elements * sizeof(double)) != 0)
        fail_msg("%s on %s: %s: not the same %s", a->settings.options.name, a->run.kernels->name, what,
                 same ? "weights" : "state");
    for (int64_t i = 0; i < a->run.elements; i++) assert_true(isfinite(weights[0][i]));
    free(weights[0]);
    free(weights[1]);
    forget(&one);
    forget(&two);
}

// ---- tests ----

// Saved before warmup ends or after it, once and twice as far.
TEST(every_recipe_continues_from_its_state) {
    static const int64_t ns[] = {WARMUP - 2, WARMUP, 2 * WARMUP};
    for (int n = 0; n < BACKENDS * READOUTS * 3; n++) {
        const char *readout = readouts[n / BACKENDS % READOUTS];
        int64_t steps = ns[n / BACKENDS / READOUTS];
        for (int i = 0; recipe_at(i); i++) {
            Subject one, two;
            subject_open(&one, backends[n % BACKENDS], recipe_at(i)->name, readout);
            subject_open(&two, backends[n % BACKENDS], recipe_at(i)->name, readout);
            begin(&one);
            go(&one, steps, n % 2 ? SOME : NONE);
            Saved saved = save(&one);
            load(&two, &saved, steps);
            check_same(&one, &two, "at once");
            go(&one, 2 * steps, n % 2 ? SOME : NONE);
            go(&two, 2 * steps, n % 2 ? SOME : NONE);
            check_same(&one, &two, readout);
            forget(&saved);
            subject_close(&one);
            subject_close(&two);
        }
    }
}

TEST(looking_at_other_iterates_changes_nothing) {
    static const Iterate looks[] = {ITERATE_X, ITERATE_Z, ITERATE_READOUT, ITERATE_SHOWN, ITERATE_Z, ITERATE_X};
    enum { LOOKS = sizeof looks / sizeof looks[0] };
    for (int n = 0; n < BACKENDS * READOUTS; n++) {
        for (int i = 0; recipe_at(i); i++) {
            Subject one, two;
            subject_open(&one, backends[n % BACKENDS], recipe_at(i)->name, readouts[n / BACKENDS]);
            subject_open(&two, backends[n % BACKENDS], recipe_at(i)->name, readouts[n / BACKENDS]);
            begin(&one);
            begin(&two);
            for (int64_t t = 1; t <= 2 * WARMUP; t++) {
                go(&one, t, SOME);
                go(&two, t, SOME);
                for (int look = (int)(t % LOOKS); look < LOOKS; look++)
                    if (optim_has(&two.run.optim, looks[look])) free(optim_run_load(&two.run, looks[look]));
                free(optim_run_load(&two.run, ITERATE_Y));
            }
            check_same(&one, &two, readouts[n / BACKENDS]);
            subject_close(&one);
            subject_close(&two);
        }
    }
}

// The state stays; y is that of the next step, whose interpolation may be another one.
TEST(a_skipped_step_leaves_the_state_alone) {
    for (int n = 0; n < BACKENDS * READOUTS; n++) {
        for (int i = 0; recipe_at(i); i++) {
            Subject s;
            subject_open(&s, backends[n % BACKENDS], recipe_at(i)->name, readouts[n / BACKENDS]);
            begin(&s);
            for (int64_t t = 0; t < 2 * WARMUP; t += 2) {
                go(&s, t, NONE);
                Saved before = save(&s);
                double *gradients = optim_run_gradients(&s.run);
                if (t % 4 == 0) s.run.bad_loss = true;
                else gradients[t] = NAN;
                optim_run_step(&s.run, gradients);
                Saved after = save(&s);
                assert_memory_equal(before.bytes, after.bytes, before.size);
                double *left = optim_run_weights(&s.run), *y = optim_run_load(&s.run, ITERATE_Y);
                assert_memory_equal(left, y, (size_t)s.run.elements * sizeof *y);
                free(left);
                free(y);
                free(gradients);
                forget(&before);
                forget(&after);
            }
            subject_close(&s);
        }
    }
}

static void check_weights(Subject *s, int64_t steps, const double *expected) {
    s->run.t = steps;
    double *seen = optim_run_load(&s->run, ITERATE_Y);
    assert_memory_equal(seen, expected, (size_t)s->run.elements * sizeof *seen);
    free(seen);
}

// Behind a bad step that was not seen yet: then both are gone back over, whose weights come back.
TEST(a_step_that_is_held_changes_nothing) {
    for (int n = 0; n < BACKENDS * READOUTS; n++) {
        for (int i = 0; recipe_at(i); i++) {
            Subject one, two;
            subject_open(&one, backends[n % BACKENDS], recipe_at(i)->name, readouts[n / BACKENDS]);
            subject_open(&two, backends[n % BACKENDS], recipe_at(i)->name, readouts[n / BACKENDS]);
            begin(&one);
            begin(&two);
            for (int64_t t = 0; t < 2 * WARMUP; t += 3) {
                go(&one, t, NONE);
                go(&two, t, NONE);
                double *before = optim_run_weights(&two.run), *gradients = optim_run_gradients(&two.run);
                one.run.bad_loss = two.run.bad_loss = true;
                optim_run_step(&one.run, gradients);
                optim_run_step(&two.run, gradients);
                double *behind = optim_run_weights(&one.run);
                two.run.ahead = true;
                optim_run_step(&two.run, gradients);
                check_weights(&two, t, before);
                check_weights(&two, t + 1, behind);
                check_same(&one, &two, "held");
                free(before);
                free(behind);
                free(gradients);
            }
            go(&one, 3 * WARMUP, NONE);
            go(&two, 3 * WARMUP, NONE);
            check_same(&one, &two, "behind it");
            subject_close(&one);
            subject_close(&two);
        }
    }
}

// A number that is not finite is seen wherever it is.
TEST(a_state_is_finite_or_not) {
    for (int n = 0; n < BACKENDS * READOUTS; n++) {
        for (int i = 0; recipe_at(i); i++) {
            Subject s;
            NamedTensors list = {0};
            subject_open(&s, backends[n % BACKENDS], recipe_at(i)->name, readouts[n / BACKENDS]);
            begin(&s);
            go(&s, WARMUP, SOME);
            optim_state(&s.run.optim, &list);
            for (int64_t j = 0; j < list.count; j++) {
                Tensor tensor = list.items[j].tensor, flat = tensor_reshape(tensor, tensor_count(tensor), 0, 0, 0);
                Tensor last = tensor_slice(flat, 0, tensor_count(tensor) - 1, 1);
                double *was = tensor_download(s.run.kernels, last), bad = j % 2 ? NAN : -INFINITY;
                tensor_upload(s.run.kernels, last, &bad);
                if (optim_is_finite(&s.run.optim)) fail_msg("%s: %s", recipe_at(i)->name, list.items[j].name);
                tensor_upload(s.run.kernels, last, was);
                assert_true(optim_is_finite(&s.run.optim));
                free(was);
            }
            named_tensors_close(&list);
            subject_close(&s);
        }
    }
}

// Before the first step that counts there is nothing else, skipped steps or not.
TEST(every_iterate_begins_at_the_weights) {
    static const Iterate all[] = {ITERATE_Y, ITERATE_X, ITERATE_Z, ITERATE_READOUT, ITERATE_SHOWN};
    for (int n = 0; n < READOUTS; n++) {
        for (int i = 0; recipe_at(i); i++) {
            Subject s;
            subject_open(&s, &cpu_kernels, recipe_at(i)->name, readouts[n]);
            begin(&s);
            double *start = optim_run_start(&s.run);
            for (int step = 0; step < 2; step++) {
                for (size_t which = 0; which < sizeof all / sizeof all[0]; which++) {
                    if (!optim_has(&s.run.optim, all[which])) continue;
                    double *seen = optim_run_load(&s.run, all[which]);
                    assert_memory_equal(seen, start, (size_t)s.run.elements * sizeof *start);
                    free(seen);
                }
                go(&s, 1, SOME); // skipped
            }
            free(start);
            subject_close(&s);
        }
    }
}

TEST(a_checkpoint_shows_the_readout_or_x) {
    for (int n = 0; n < READOUTS; n++) {
        for (int i = 0; recipe_at(i); i++) {
            Subject s;
            subject_open(&s, &cpu_kernels, recipe_at(i)->name, readouts[n]);
            begin(&s);
            go(&s, 3 * WARMUP, NONE);
            assert_int_equal(optim_has(&s.run.optim, ITERATE_READOUT), n > 0);
            double *x = optim_run_load(&s.run, ITERATE_X), *shown = optim_run_load(&s.run, ITERATE_SHOWN);
            double *other = n ? optim_run_load(&s.run, ITERATE_READOUT) : x;
            size_t bytes = (size_t)s.run.elements * sizeof *x;
            assert_memory_equal(shown, other, bytes);
            assert_true(n == 0 || memcmp(shown, x, bytes) != 0);
            free(x);
            free(shown);
            if (n) free(other);
            subject_close(&s);
        }
    }
}

// With gradients that are the same whatever the network reads.
TEST(what_the_network_reads_may_be_rounded_and_the_state_is_not) {
    static const DType dtypes[] = {DTYPE_F32, DTYPE_BF16};
    for (int i = 0; recipe_at(i); i++) {
        Subject subjects[2];
        Saved saved[2];
        double *weights[2];
        for (int which = 0; which < 2; which++) {
            Subject *s = &subjects[which];
            subject_open(s, &reference_kernels, recipe_at(i)->name, readouts[1]);
            optim_run_close(&s->run);
            s->settings.hyper[0].ns_dtype = recipe_reads(recipe_at(i)) >> HYPER_ns_dtype & 1 ? NS_FP32 : OPTION_AUTO;
            optim_run_open_in(&s->run, &reference_kernels, dtypes[which], &s->params, &s->settings, LENGTH);
            begin(s);
        }
        for (int64_t t = 1; t <= 2 * WARMUP; t++) {
            double *gradients = optim_run_gradients(&subjects[0].run);
            for (int which = 0; which < 2; which++) optim_run_step(&subjects[which].run, gradients);
            free(gradients);
        }
        for (int which = 0; which < 2; which++) {
            saved[which] = save(&subjects[which]);
            weights[which] = optim_run_weights(&subjects[which].run);
        }
        assert_int_equal(saved[0].size, saved[1].size);
        assert_memory_equal(saved[0].bytes, saved[1].bytes, saved[0].size);
        for (int64_t j = 0; j < subjects[0].run.elements; j++)
            CHECK_CLOSE(weights[1][j], weights[0][j], fabs(weights[0][j]) / 256);
        assert_memory_not_equal(weights[0], weights[1], (size_t)subjects[0].run.elements * sizeof(double));
        for (int which = 0; which < 2; which++) {
            free(weights[which]);
            forget(&saved[which]);
            subject_close(&subjects[which]);
        }
    }
}

// Names are those of files: each once, with the parts of a parameter apart, and all of the state is there.
TEST(state_has_names_and_shapes_of_its_own) {
    for (int i = 0; recipe_at(i); i++) {
        Subject s;
        subject_open(&s, &cpu_kernels, recipe_at(i)->name, readouts[1]);
        NamedTensors list = {0};
        optim_state(&s.run.optim, &list);
        int64_t elements = 0, slots = 0;
        for (int64_t a = 0; a < list.count; a++) {
            for (int64_t b = 0; b < a; b++) assert_string_not_equal(list.items[a].name, list.items[b].name);
            bool z = strncmp(list.items[a].name, "z.", 2) == 0;
            elements += z ? tensor_count(list.items[a].tensor) : 0;
            slots += strcmp(list.items[a].name, "z.qkv.k") == 0 || strcmp(list.items[a].name, "readout.mlp_in.up") == 0;
        }
        assert_int_equal(elements, s.run.elements);
        assert_int_equal(slots, 2);
        named_tensors_close(&list);
        subject_close(&s);
    }
}

// Numbers between parameters belong to nobody.
TEST(what_lies_between_parameters_stays) {
    for (int i = 0; recipe_at(i); i++) {
        Subject s;
        subject_open(&s, &cpu_kernels, recipe_at(i)->name, readouts[0]);
        begin(&s);
        go(&s, WARMUP, NONE);
        const float *weights = s.run.weights.data;
        const Param *p = s.params.items;
        for (int64_t at = 0; at < s.params.elements; at++) {
            while (p < s.params.items + s.params.count && at >= p->offset + p->rows * p->columns) p++;
            bool inside = p < s.params.items + s.params.count && at >= p->offset;
            if (!inside && weights[at] != 0) fail_msg("%s: element %ld is not 0", recipe_at(i)->name, (long)at);
        }
        subject_close(&s);
    }
}
