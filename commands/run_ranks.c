// The ranks of a run: how its processes meet, and what passes between them.
#include <sched.h>
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
