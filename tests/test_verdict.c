// What becomes of a run of a sweep, by how its process ended.
#include <math.h>
#include <signal.h>

#include "sweep/verdict.h"
#include "tests/test.h"

enum { EXIT = 1 << 8 }; // of a status as waitpid(2) tells it

static Follow at(int64_t step, double value) {
    return (Follow){.metric = "val_loss", .step = step, .loss = value, .value = value, .valued = true,
                    .finite = isfinite(value)};
}

TEST(the_status_is_that_of_the_end) {
    static const struct {
        int status;
        bool asked;
        int64_t until; // of a run at step 10
        double value;
        SweepStatus expected;
        const char *reason;
    } cases[] = {
        {0, false, 0, 1, SWEEP_FINISHED, ""},
        {0, true, 0, 1, SWEEP_FINISHED, ""},
        {0, false, 0, NAN, SWEEP_DIVERGED, "its loss is not a number"},
        {75 * EXIT, false, 10, 1, SWEEP_PAUSED, ""},
        {75 * EXIT, true, 20, 1, SWEEP_INTERRUPTED, ""},
        {76 * EXIT, false, 0, 1, SWEEP_DIVERGED, "the last words"},
        {2 * EXIT, false, 0, 1, SWEEP_REFUSED, "the last words"},
        {66 * EXIT, false, 0, 1, SWEEP_NO_DATA, "the last words"},
        {73 * EXIT, true, 0, 1, SWEEP_CANNOT_WRITE, "the last words"},
        {71 * EXIT, false, 0, 1, SWEEP_FAILED, "the last words"},
        {SIGKILL, false, 0, 1, SWEEP_OUT_OF_MEMORY, "ended by signal 9"},
        {SIGKILL, true, 0, 1, SWEEP_INTERRUPTED, ""},
        {SIGSEGV, false, 0, 1, SWEEP_FAILED, "ended by signal 11"},
        // Those that came before it heeded them, to it as to the sweep: it was stopped, not lost.
        {SIGTERM, false, 0, 1, SWEEP_INTERRUPTED, ""},
        {SIGINT, false, 0, 1, SWEEP_INTERRUPTED, ""},
        {SIGHUP, false, 0, 1, SWEEP_INTERRUPTED, ""},
        {SIGUSR1, false, 0, 1, SWEEP_INTERRUPTED, ""},
        {SIGTERM, true, 0, 1, SWEEP_INTERRUPTED, ""},
    };
    static const Forecast forecast = {.good = true, .fits = true};
    char log[4096];
    test_write(log, test_folder("verdict"), "log",
               "train_gpt: the first words\ntrain_gpt: the last words\nstep 10/20\n");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Verdict verdict;
        Follow follow = at(10, cases[i].value);
        verdict_find(&(Ending){cases[i].status, cases[i].asked, cases[i].until, &forecast, &follow, log, 0}, &verdict);
        bool words = *cases[i].reason ? strstr(text_string(&verdict.reason), cases[i].reason) != NULL
                                      : verdict.reason.size == 0;
        if (verdict.status != cases[i].expected || !words)
            fail_msg("case %zu: %s, \"%s\"", i, sweep_status_name(verdict.status), text_string(&verdict.reason));
        text_close(&verdict.reason);
    }
}
