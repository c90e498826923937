// The ranks of a run: how its processes meet, and what passes between them.
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands/console.h"
#include "commands/run.h"

// ---- meeting ----

bool run_meet(Run *run, int64_t ranks, double timeout, Errors *errors) {
    Launch *launch = &run->launch;
    if (!launch_find(launch, errors)) return false;
    if (ranks > 0 && launch->size > 1)
        return errors_add(errors, EXIT_USAGE, "--ranks %ld: %s has started this process as one of %d; leave one of them"
                          " out", ranks, launch->by, launch->size);
    if (ranks > 1) launch_ranks(launch, (int)ranks);
    if (launch->size == 1) return true;
    if (launch->rank > 0) error_name_rank(launch->rank);
    if (launch->rank > 0) console_be_quiet();
    run->ranks = ranks_open(launch, timeout, errors);
    return run->ranks != NULL;
}

void run_part(Run *run) {
    if (run->ranks) ranks_close(run->ranks);
    run->ranks = NULL;
}

bool run_leads(const Run *run) { return run->launch.rank == 0; }

void run_same_configuration(Run *run) {
    Text text = {0};
    if (run->ranks) config_json(&run->config, false, &text);
    ranks_same(run->ranks, "configuration", text_string(&text));
    text_close(&text);
}

void run_share(Run *run, char text[4096]) {
    Text shared = {0};
    if (run_leads(run)) text_add(&shared, text);
    ranks_share(run->ranks, &shared);
    if (shared.size < 4096) strcpy(text, text_string(&shared));
    text_close(&shared);
}

bool run_agree(Run *run, Errors *errors) {
    enum { FIRST_FAILED = 1, ANOTHER_FAILED = 2 };
    unsigned failed = ranks_any(run->ranks, errors->count == 0 ? 0 : run_leads(run) ? FIRST_FAILED : ANOTHER_FAILED);
    if (!failed) return true;
    if (!run_leads(run) && failed & FIRST_FAILED) text_clear(&errors->text); // rank 0 says it
    if (errors->count == 0) errors->count = 1, errors->exit_code = EXIT_COMM;
    return false;
}

void run_collect(Run *run, Text *text) {
    int others = run->ranks && run_leads(run) ? run->launch.size : 0;
    Text *all = calloc((size_t)others + 1, sizeof *all);
    if (!all) DIE(EXIT_INTERNAL, "out of memory: texts of %d ranks", others);
    if (run->ranks) ranks_collect(run->ranks, text, all);
    for (int rank = 1; rank < others; rank++) text_append(text, all[rank].data, all[rank].size);
    for (int rank = 0; rank < others; rank++) text_close(&all[rank]);
    free(all);
}

int64_t run_sum(Run *run, int64_t value) {
    int64_t sum = 0;
    char *rest;
    Text text = {0};
    text_printf(&text, "%ld\n", value);
    run_collect(run, &text);
    for (const char *at = text_string(&text); *at; at = rest + 1) sum += strtol(at, &rest, 10);
    text_clear(&text);
    text_printf(&text, "%ld", sum);
    ranks_share(run->ranks, &text);
    sum = strtol(text_string(&text), NULL, 10);
    text_close(&text);
    return sum;
}

// ---- what a rank computes with ----

// Of the machine's threads, unless this process was given some of them already.
int64_t run_threads(const Run *run) {
    int64_t threads = run->config.machine.threads, ours = run->launch.local_size;
    cpu_set_t allowed;
    if (threads > 0 || ours <= 1 || sched_getaffinity(0, sizeof allowed, &allowed) != 0) return threads;
    int64_t count = CPU_COUNT(&allowed), there = sysconf(_SC_NPROCESSORS_ONLN);
    if (count < there) return count;
    return count > ours ? count / ours : 1;
}

int64_t run_device(const Run *run) {
    int64_t devices = run->kernels->device_count();
    return devices > 1 ? run->launch.local_rank % devices : 0;
}

#ifdef THALWEG_NCCL
static bool open_nccl(Run *run, Errors *errors) { return comm_nccl(&run->comm, run->kernels, run->ranks, errors); }
#else
static bool open_nccl(Run *run, Errors *errors) {
    (void)run;
    return errors_add(errors, EXIT_USAGE, "dist.comm: this build has no NCCL; build it where nccl.h and libnccl are, or"
                      " use dist.comm=host, which is slow");
}
#endif

bool run_open_comm(Run *run, Errors *errors) {
    int64_t which = run->config.dist.comm;
    bool host = run->kernels->is_host();
    run->comm = comm_none(run->kernels);
    if (run->planned_ranks > 1) run->comm.size = run->planned_ranks;
    if (host && which == DIST_NCCL)
        return errors_add(errors, EXIT_USAGE, "dist.comm: nccl needs device=cuda; leave it out");
    if (!run->ranks) return true;
    if (which == DIST_NCCL || (which == OPTION_AUTO && !host)) return open_nccl(run, errors);
    return comm_host(&run->comm, run->kernels, run->ranks, errors);
}

bool run_is_sharded(const Run *run) { return run->comm.size > 1 && run->config.dist.shard != SHARD_NONE; }

void run_report_ranks(const Run *run, Text *out) {
    const Launch *launch = &run->launch;
    if (run->comm.size <= 1) return;
    text_printf(out, "ranks   %d", run->comm.size);
    if (run->ranks) text_printf(out, " by %s, %s", launch->by, run->comm.row->name);
    text_printf(out, ", %s\n", run_is_sharded(run) ? "each with a part of the optimizer's state"
                                                    : "each with the whole optimizer's state");
}

// ---- a step ----

// Gradients are on their way to their owners while backward goes on.
static void unit_done(void *context, int unit) {
    Run *run = context;
    run->unit_marks[unit] = optim_reduce(&run->optim, unit);
}

static void unit_needed(void *context, int unit) {
    Run *run = context;
    comm_wait(&run->comm, run->unit_marks[unit]);
}

void run_queue_passes(Run *run, unsigned place) {
    GptHooks *hooks = &run->gpt.hooks;
    int units = run->gpt.params.items[run->gpt.params.count - 1].unit + 1;
    *hooks = (GptHooks){.context = run};
    if (place & MICRO_FIRST && run_is_sharded(run)) {
        for (int unit = 0; unit < units; unit++) run->unit_marks[unit] = optim_gather(&run->optim, unit);
        hooks->needed = unit_needed;
    }
    if (place & MICRO_LAST) hooks->done = unit_done;
    gpt_forward(&run->gpt, GPT_TRAIN);
    gpt_backward(&run->gpt);
    for (int unit = 0; unit < units && place & MICRO_LAST; unit++) comm_wait(&run->comm, run->unit_marks[unit]);
    *hooks = (GptHooks){0};
}
