#include "comm/launch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "runtime/file.h"

// Ports that are derived lie below those that systems give to connections.
enum { FIRST_PORT = 10000, DERIVED_PORTS = 20000, LAST_PORT = 65535 };

// A launcher: what it calls the numbers of a rank, and how it says where rank 0 is.
typedef struct {
    const char *by;
    bool (*is_there)(void);
    const char *rank, *size, *local_rank, *local_size; // the last NULL: by `count_local`
    bool (*count_local)(Launch *, Errors *);
    bool (*meet)(Launch *, Errors *); // host, port and what keeps jobs apart
} Launcher;

// ---- variables ----

static bool has(const char *name) { return getenv(name) != NULL; }

static bool wrong(const char *name, const char *expected, Errors *errors) {
    Text word = {0};
    if (!has(name)) return errors_add(errors, EXIT_USAGE, "%s is not set: expected %s", name, expected);
    text_excerpt(&word, getenv(name));
    errors_add(errors, EXIT_USAGE, "%s is \"%s\": expected %s", name, text_string(&word), expected);
    text_close(&word);
    return false;
}

static bool digits_to_number(const char *digits, size_t count, int64_t least, int64_t most, int *out) {
    if (count == 0 || count > 10 || strspn(digits, "0123456789") < count) return false;
    int64_t number = strtoll(digits, NULL, 10);
    *out = (int)number;
    return number >= least && number <= most;
}

static bool read_number(const char *name, int64_t least, int64_t most, int *out, Errors *errors) {
    char expected[80];
    snprintf(expected, sizeof expected, "a whole number from %ld to %ld", least, most);
    const char *value = getenv(name);
    return (value && digits_to_number(value, strlen(value), least, most, out)) || wrong(name, expected, errors);
}

static bool read_text(const char *name, const char *expected, char *out, size_t size, Errors *errors) {
    const char *value = getenv(name);
    if (!value || !*value || strlen(value) >= size) return wrong(name, expected, errors);
    strcpy(out, value);
    return true;
}

static bool read_host(const char *name, Launch *launch, Errors *errors) {
    return read_text(name, "the host of rank 0", launch->host, sizeof launch->host, errors);
}

// ---- where ranks meet ----

// A port and a secret that follow from what a job is called.
static void derive(Launch *launch, const char *job) {
    bytes_hash(job, strlen(job), launch->secret);
    launch->port = FIRST_PORT + (int)(XXH3_64bits(job, strlen(job)) % DERIVED_PORTS);
}

// The port behind MASTER_PORT, which torchrun itself listens at.
static bool behind_master_port(Launch *launch, Errors *errors) {
    if (has("THALWEG_PORT")) return true;
    if (!read_number("MASTER_PORT", 1, LAST_PORT - 1, &launch->port, errors)) return false;
    launch->port++;
    return true;
}

// HOST:PORT, where HOST may be an IPv6 address in brackets.
static bool read_rendezvous(Launch *launch, Errors *errors) {
    static const char name[] = "THALWEG_RENDEZVOUS", expected[] = "HOST:PORT of rank 0, such as node1:29400";
    char text[sizeof launch->host];
    if (!read_text(name, expected, text, sizeof text, errors)) return false;
    char *port = strrchr(text, ':'), *host = text;
    if (!port) return wrong(name, expected, errors);
    *port++ = 0;
    size_t length = strlen(host);
    bool bracketed = length >= 2 && host[0] == '[' && host[length - 1] == ']';
    if (bracketed) host[length - 1] = 0, host++;
    if (!*host || (!bracketed && strchr(host, ':')) ||
        !digits_to_number(port, strlen(port), 1, LAST_PORT, &launch->port))
        return wrong(name, expected, errors);
    strcpy(launch->host, host);
    return true;
}

static bool meet_torchrun(Launch *launch, Errors *errors) {
    const char *job = getenv("TORCHELASTIC_RUN_ID");
    if (job) derive(launch, job);
    return read_host("MASTER_ADDR", launch, errors) && behind_master_port(launch, errors);
}

static bool meet_mpirun(Launch *launch, Errors *errors) {
    const char *job = getenv("PMIX_NAMESPACE");
    if (!job) job = getenv("OMPI_MCA_ess_base_jobid");
    if (!job) job = getenv("OMPI_MCA_orte_hnp_uri");
    if (job) derive(launch, job);
    if (has("MASTER_ADDR") || launch->local_size < launch->size) {
        if (!read_host("MASTER_ADDR", launch, errors)) return false;
    } else {
        strcpy(launch->host, "127.0.0.1");
    }
    return (job && !has("MASTER_PORT")) || behind_master_port(launch, errors);
}

// The first host of "gpu[01-04,07],x3": gpu01.
static bool first_host(Launch *launch, const char *name, Errors *errors) {
    static const char expected[] = "a list of hosts, such as gpu[01-04]";
    const char *list = getenv(name);
    size_t length = 0;
    while (list && *list && *list != ',' && length < sizeof launch->host - 1) {
        if (*list != '[') {
            launch->host[length++] = *list++;
            continue;
        }
        size_t digits = strspn(++list, "0123456789");
        const char *end = strchr(list, ']');
        if (digits == 0 || !end || digits >= sizeof launch->host - length) return wrong(name, expected, errors);
        memcpy(launch->host + length, list, digits);
        length += digits;
        list = end + 1;
    }
    launch->host[length] = 0;
    return (length > 0 && (!*list || *list == ',')) || wrong(name, expected, errors);
}

static bool meet_srun(Launch *launch, Errors *errors) {
    char job[64], step[64], both[130];
    if (!read_text("SLURM_JOB_ID", "the number of the job", job, sizeof job, errors) ||
        !read_text("SLURM_STEP_ID", "the number of the step", step, sizeof step, errors))
        return false;
    snprintf(both, sizeof both, "%s.%s", job, step);
    derive(launch, both);
    return first_host(launch, "SLURM_STEP_NODELIST", errors);
}

// Tasks of this node, of "4(x2),3".
static bool count_srun(Launch *launch, Errors *errors) {
    static const char name[] = "SLURM_STEP_TASKS_PER_NODE", expected[] = "tasks of each node, such as 4(x2),3";
    int node, repeat;
    if (!read_number("SLURM_NODEID", 0, RANKS_LIMIT - 1, &node, errors)) return false;
    for (const char *list = getenv(name); list; list++) {
        size_t digits = strspn(list, "0123456789");
        if (!digits_to_number(list, digits, 1, RANKS_LIMIT, &launch->local_size)) break;
        list += digits;
        repeat = 1;
        if (strncmp(list, "(x", 2) == 0) {
            digits = strspn(list += 2, "0123456789");
            if (!digits_to_number(list, digits, 1, RANKS_LIMIT, &repeat) || list[digits] != ')') break;
            list += digits + 1;
        }
        if (node < repeat) return true;
        node -= repeat;
        if (*list != ',') break;
    }
    return wrong(name, expected, errors);
}

// ---- launchers ----

static bool is_ours(void) { return has("THALWEG_RANK") || has("THALWEG_RANKS"); }

static bool is_torchrun(void) {
    return has("TORCHELASTIC_RUN_ID") || has("GROUP_RANK") || (has("RANK") && has("WORLD_SIZE") && has("MASTER_ADDR"));
}

static bool is_mpirun(void) { return has("OMPI_COMM_WORLD_RANK") || has("OMPI_COMM_WORLD_SIZE"); }

// Only a step has the second; a batch script outside srun is a process alone.
static bool is_srun(void) { return has("SLURM_PROCID") && has("SLURM_STEP_NUM_TASKS"); }

// The first that is there. torchrun and mpirun may themselves have been started by srun, so they come before it.
static const Launcher launchers[] = {
    {"THALWEG_RANK", is_ours, "THALWEG_RANK", "THALWEG_RANKS", "THALWEG_LOCAL_RANK", "THALWEG_LOCAL_RANKS", NULL,
     read_rendezvous},
    {"torchrun", is_torchrun, "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", NULL, meet_torchrun},
    {"mpirun", is_mpirun, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE", NULL, meet_mpirun},
    {"srun", is_srun, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", NULL, count_srun, meet_srun},
};

// Where both local numbers are missing, each rank has a machine of its own.
static bool read_local(const Launcher *row, Launch *launch, Errors *errors) {
    if (row->count_local) {
        if (!row->count_local(launch, errors)) return false;
    } else {
        if (!has(row->local_rank) && !has(row->local_size)) return true;
        if (!read_number(row->local_size, 1, launch->size, &launch->local_size, errors)) return false;
    }
    return read_number(row->local_rank, 0, launch->local_size - 1, &launch->local_rank, errors);
}

static bool read_rank(const Launcher *row, Launch *launch, Errors *errors) {
    return read_number(row->size, 1, RANKS_LIMIT, &launch->size, errors) &&
           read_number(row->rank, 0, launch->size - 1, &launch->rank, errors) && read_local(row, launch, errors);
}

// Our own variables hold whoever launched.
static bool read_meeting(const Launcher *row, Launch *launch, Errors *errors) {
    if (!row->meet(launch, errors)) return false;
    if (row->meet != read_rendezvous && has("THALWEG_RENDEZVOUS") && !read_rendezvous(launch, errors)) return false;
    if (has("THALWEG_PORT") && !read_number("THALWEG_PORT", 1, LAST_PORT, &launch->port, errors)) return false;
    return !has("THALWEG_SECRET") ||
           read_text("THALWEG_SECRET", "1 to 63 bytes", launch->secret, sizeof launch->secret, errors);
}

bool launch_find(Launch *launch, Errors *errors) {
    *launch = (Launch){.size = 1, .local_size = 1, .listener = -1};
    for (size_t i = 0; i < sizeof launchers / sizeof launchers[0]; i++) {
        const Launcher *row = &launchers[i];
        if (!row->is_there()) continue;
        strcpy(launch->by, row->by);
        return read_rank(row, launch, errors) && (launch->size == 1 || read_meeting(row, launch, errors));
    }
    return true;
}

void launch_forget(void) {
    static const char *const others[] = {"THALWEG_RENDEZVOUS", "THALWEG_PORT", "THALWEG_SECRET", "TORCHELASTIC_RUN_ID",
                                         "GROUP_RANK",         "MASTER_ADDR",  "MASTER_PORT"};
    for (size_t i = 0; i < sizeof launchers / sizeof launchers[0]; i++) {
        const Launcher *row = &launchers[i];
        const char *names[] = {row->rank, row->size, row->local_rank, row->local_size};
        for (size_t n = 0; n < sizeof names / sizeof names[0]; n++)
            if (names[n]) unsetenv(names[n]);
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) unsetenv(others[i]);
}
