// How a process learns which rank it is, and our own launcher.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support_ranks.h"
#include "tests/test.h"

// ---- environments ----

#define OURS "THALWEG_RANK=1\0THALWEG_RANKS=4\0"
#define TORCHRUN "RANK=3\0WORLD_SIZE=8\0LOCAL_RANK=1\0LOCAL_WORLD_SIZE=2\0GROUP_RANK=1\0TORCHELASTIC_RUN_ID=none\0"
#define MASTER "MASTER_ADDR=node1\0MASTER_PORT=29500\0"
#define MPIRUN "OMPI_COMM_WORLD_RANK=2\0OMPI_COMM_WORLD_SIZE=3\0OMPI_COMM_WORLD_LOCAL_RANK=2\0"
#define MPIRUN_HERE MPIRUN "OMPI_COMM_WORLD_LOCAL_SIZE=3\0PMIX_NAMESPACE=prterun-1@1\0"
#define MPIRUN_WIDE "OMPI_COMM_WORLD_LOCAL_SIZE=3\0OMPI_COMM_WORLD_RANK=2\0OMPI_COMM_WORLD_SIZE=6\0" \
    "OMPI_COMM_WORLD_LOCAL_RANK=2\0PMIX_NAMESPACE=prterun-1@1\0"
#define TASK "SLURM_PROCID=5\0SLURM_STEP_NUM_TASKS=7\0SLURM_LOCALID=1\0SLURM_NODEID=1\0"
#define STEP TASK "SLURM_JOB_ID=4711\0SLURM_STEP_ID=0\0"
#define SRUN STEP "SLURM_STEP_TASKS_PER_NODE=3(x2),1\0SLURM_STEP_NODELIST=gpu[08-10]\0"

enum { DERIVED = -1 }; // a port between 10000 and 29999

typedef struct {
    const char *environment; // NAME=VALUE, each with its zero
    int rank, size, local_rank, local_size;
    const char *host;
    int port;
    const char *by;
} Found;

static const Found found[] = {
    {"", 0, 1, 0, 1, "", 0, ""},
    {OURS "THALWEG_RENDEZVOUS=node1:29400\0", 1, 4, 0, 1, "node1", 29400, "THALWEG_RANK"},
    {OURS "THALWEG_RENDEZVOUS=[fe80::1]:1\0THALWEG_LOCAL_RANK=1\0THALWEG_LOCAL_RANKS=2\0", 1, 4, 1, 2, "fe80::1", 1,
     "THALWEG_RANK"},
    {OURS "THALWEG_RENDEZVOUS=a:1\0THALWEG_PORT=65535\0" TORCHRUN MASTER, 1, 4, 0, 1, "a", 65535, "THALWEG_RANK"},
    {"THALWEG_RANK=0\0THALWEG_RANKS=1\0", 0, 1, 0, 1, "", 0, "THALWEG_RANK"},
    {TORCHRUN MASTER, 3, 8, 1, 2, "node1", 29501, "torchrun"},
    {TORCHRUN MASTER "THALWEG_PORT=7\0", 3, 8, 1, 2, "node1", 7, "torchrun"},
    {TORCHRUN "MASTER_ADDR=node1\0THALWEG_PORT=7\0", 3, 8, 1, 2, "node1", 7, "torchrun"},
    {TORCHRUN MASTER "THALWEG_RENDEZVOUS=b:9\0", 3, 8, 1, 2, "b", 9, "torchrun"},
    {"RANK=1\0WORLD_SIZE=2\0" MASTER, 1, 2, 0, 1, "node1", 29501, "torchrun"},
    {TORCHRUN MASTER SRUN MPIRUN_HERE, 3, 8, 1, 2, "node1", 29501, "torchrun"},
    {MPIRUN_HERE, 2, 3, 2, 3, "127.0.0.1", DERIVED, "mpirun"},
    {MPIRUN_HERE SRUN, 2, 3, 2, 3, "127.0.0.1", DERIVED, "mpirun"},
    {MPIRUN_HERE "MASTER_PORT=100\0", 2, 3, 2, 3, "127.0.0.1", 101, "mpirun"},
    {MPIRUN_HERE "MASTER_ADDR=a\0", 2, 3, 2, 3, "a", DERIVED, "mpirun"},
    {MPIRUN_WIDE "MASTER_ADDR=a\0", 2, 6, 2, 3, "a", DERIVED, "mpirun"},
    {MPIRUN "OMPI_COMM_WORLD_LOCAL_SIZE=3\0THALWEG_PORT=12\0", 2, 3, 2, 3, "127.0.0.1", 12, "mpirun"},
    {SRUN, 5, 7, 1, 3, "gpu08", DERIVED, "srun"},
    {SRUN "THALWEG_PORT=12\0", 5, 7, 1, 3, "gpu08", 12, "srun"},
    {STEP "SLURM_STEP_TASKS_PER_NODE=2,5\0SLURM_STEP_NODELIST=a-1,b[2-3]\0", 5, 7, 1, 5, "a-1", DERIVED, "srun"},
    {STEP "SLURM_STEP_TASKS_PER_NODE=2(x3)\0SLURM_STEP_NODELIST=r[1-2]n[07,9]-ib,c\0", 5, 7, 1, 2, "r1n07-ib", DERIVED,
     "srun"},
    {"SLURM_PROCID=0\0SLURM_NTASKS=4\0SLURM_LOCALID=0\0SLURM_JOB_ID=1\0", 0, 1, 0, 1, "", 0, ""}, // a batch script
};

// What is given is wrong: a message with these words, and exit code 2.
static const struct {
    const char *environment, *words;
} refused[] = {
    {"THALWEG_RANK=1\0", "THALWEG_RANKS is not set: expected a whole number from 1 to 4096"},
    {"THALWEG_RANKS=2\0", "THALWEG_RANK is not set: expected a whole number from 0 to 1"},
    {OURS, "THALWEG_RENDEZVOUS is not set: expected HOST:PORT"},
    {OURS "THALWEG_RENDEZVOUS=\0", "THALWEG_RENDEZVOUS is \"\": expected HOST:PORT"},
    {OURS "THALWEG_RENDEZVOUS=a\0", "THALWEG_RENDEZVOUS is \"a\": expected HOST:PORT"},
    {OURS "THALWEG_RENDEZVOUS=:1\0", "THALWEG_RENDEZVOUS is \":1\""},
    {OURS "THALWEG_RENDEZVOUS=a:\0", "THALWEG_RENDEZVOUS is \"a:\""},
    {OURS "THALWEG_RENDEZVOUS=a:0\0", "THALWEG_RENDEZVOUS is \"a:0\""},
    {OURS "THALWEG_RENDEZVOUS=a:65536\0", "THALWEG_RENDEZVOUS is \"a:65536\""},
    {OURS "THALWEG_RENDEZVOUS=a:4294967297\0", "THALWEG_RENDEZVOUS is \"a:4294967297\""},
    {OURS "THALWEG_RENDEZVOUS=::1:5\0", "THALWEG_RENDEZVOUS is \"::1:5\""},
    {OURS "THALWEG_RENDEZVOUS=[]:5\0", "THALWEG_RENDEZVOUS is \"[]:5\""},
    {OURS "THALWEG_RENDEZVOUS=a:1\0THALWEG_LOCAL_RANK=0\0", "THALWEG_LOCAL_RANKS is not set"},
    {OURS "THALWEG_RENDEZVOUS=a:1\0THALWEG_LOCAL_RANKS=2\0", "THALWEG_LOCAL_RANK is not set"},
    {OURS "THALWEG_RENDEZVOUS=a:1\0THALWEG_LOCAL_RANKS=5\0THALWEG_LOCAL_RANK=0\0", "THALWEG_LOCAL_RANKS is \"5\""},
    {OURS "THALWEG_RENDEZVOUS=a:1\0THALWEG_PORT=0\0", "THALWEG_PORT is \"0\": expected a whole number from 1 to 65535"},
    {OURS "THALWEG_RENDEZVOUS=a:1\0THALWEG_SECRET=\0", "THALWEG_SECRET is \"\": expected 1 to 63 bytes"},
    {OURS "THALWEG_RENDEZVOUS=a:1\0THALWEG_SECRET=0123456789012345678901234567890123456789012345678901234567890123\0",
     "expected 1 to 63 bytes"},
    {"THALWEG_RANK=4\0THALWEG_RANKS=4\0", "THALWEG_RANK is \"4\": expected a whole number from 0 to 3"},
    {"THALWEG_RANK=-1\0THALWEG_RANKS=4\0", "THALWEG_RANK is \"-1\""},
    {"THALWEG_RANK=1x\0THALWEG_RANKS=4\0", "THALWEG_RANK is \"1x\""},
    {"THALWEG_RANK= 1\0THALWEG_RANKS=4\0", "THALWEG_RANK is \" 1\""},
    {"THALWEG_RANK=0x1\0THALWEG_RANKS=4\0", "THALWEG_RANK is \"0x1\""},
    {"THALWEG_RANK=\0THALWEG_RANKS=4\0", "THALWEG_RANK is \"\""},
    {"THALWEG_RANK=0\0THALWEG_RANKS=0\0", "THALWEG_RANKS is \"0\""},
    {"THALWEG_RANK=0\0THALWEG_RANKS=4097\0", "THALWEG_RANKS is \"4097\""},
    {"THALWEG_RANK=0\0THALWEG_RANKS=4294967298\0", "THALWEG_RANKS is \"4294967298\""},
    {"THALWEG_RANK=0\0THALWEG_RANKS=99999999999999999999\0", "THALWEG_RANKS is \"99999999999999999999\""},
    {"THALWEG_RANK=0\0THALWEG_RANKS=\033[2J\0", "THALWEG_RANKS is \"\\x1b[2J\""},
    {"TORCHELASTIC_RUN_ID=none\0", "WORLD_SIZE is not set"},
    {TORCHRUN, "MASTER_ADDR is not set: expected the host of rank 0"},
    {TORCHRUN "MASTER_ADDR=\0MASTER_PORT=1\0", "MASTER_ADDR is \"\""},
    {TORCHRUN "MASTER_ADDR=a\0", "MASTER_PORT is not set: expected a whole number from 1 to 65534"},
    {TORCHRUN "MASTER_ADDR=a\0MASTER_PORT=65535\0", "MASTER_PORT is \"65535\""},
    {MPIRUN_WIDE, "MASTER_ADDR is not set: expected the host of rank 0"},
    {MPIRUN "OMPI_COMM_WORLD_LOCAL_SIZE=3\0", "MASTER_PORT is not set"},
    {"OMPI_COMM_WORLD_SIZE=3\0", "OMPI_COMM_WORLD_RANK is not set"},
    {STEP "SLURM_STEP_NODELIST=a\0", "SLURM_STEP_TASKS_PER_NODE is not set: expected tasks of each node"},
    {STEP "SLURM_STEP_TASKS_PER_NODE=7\0SLURM_STEP_NODELIST=a\0", "SLURM_STEP_TASKS_PER_NODE is \"7\""},
    {STEP "SLURM_STEP_TASKS_PER_NODE=4(x\0SLURM_STEP_NODELIST=a\0", "SLURM_STEP_TASKS_PER_NODE is \"4(x\""},
    {STEP "SLURM_STEP_TASKS_PER_NODE=4(x2\0SLURM_STEP_NODELIST=a\0", "SLURM_STEP_TASKS_PER_NODE is \"4(x2\""},
    {STEP "SLURM_STEP_TASKS_PER_NODE=4(x99999999999)\0SLURM_STEP_NODELIST=a\0", "SLURM_STEP_TASKS_PER_NODE is "},
    {STEP "SLURM_STEP_TASKS_PER_NODE=1(x2)\0SLURM_STEP_NODELIST=a\0", "SLURM_LOCALID is \"1\": expected a whole number"},
    {STEP "SLURM_STEP_TASKS_PER_NODE=4(x2)\0SLURM_STEP_NODELIST=\0", "SLURM_STEP_NODELIST is \"\": expected a list"},
    {STEP "SLURM_STEP_TASKS_PER_NODE=4(x2)\0SLURM_STEP_NODELIST=a[1-\0", "SLURM_STEP_NODELIST is \"a[1-\""},
    {STEP "SLURM_STEP_TASKS_PER_NODE=4(x2)\0SLURM_STEP_NODELIST=a[]\0", "SLURM_STEP_NODELIST is \"a[]\""},
    {TASK "SLURM_STEP_TASKS_PER_NODE=4(x2)\0SLURM_STEP_NODELIST=a\0", "SLURM_JOB_ID is not set"},
};

static void set_environment(const char *environment) {
    static const char form[] = "CMOCKA_MESSAGE_OUTPUT"; // how this program reports
    const char *before = getenv(form);
    char kept[16] = "";
    if (before) snprintf(kept, sizeof kept, "%s", before);
    clearenv();
    if (before) assert_int_equal(setenv(form, kept, 1), 0);
    for (const char *item = environment; *item; item += strlen(item) + 1) {
        char name[64] = "";
        const char *value = strchr(item, '=') + 1;
        memcpy(name, item, (size_t)(value - 1 - item));
        assert_int_equal(setenv(name, value, 1), 0);
    }
}

TEST(a_rank_is_found_in_the_environment) {
    for (size_t i = 0; i < sizeof found / sizeof found[0]; i++) {
        const Found *f = &found[i];
        Launch launch;
        Errors errors = {0};
        set_environment(f->environment);
        if (!launch_find(&launch, &errors)) fail_msg("case %zu: %s", i, text_string(&errors.text));
        bool port = f->port == DERIVED ? launch.port >= 10000 && launch.port < 30000 : launch.port == f->port;
        if (!port || launch.rank != f->rank || launch.size != f->size || launch.local_rank != f->local_rank ||
            launch.local_size != f->local_size || strcmp(launch.host, f->host) != 0 || strcmp(launch.by, f->by) != 0 ||
            launch.listener != -1)
            fail_msg("case %zu: rank %d of %d, local %d of %d, %s:%d, by %s", i, launch.rank, launch.size,
                     launch.local_rank, launch.local_size, launch.host, launch.port, launch.by);
    }
}

TEST(a_wrong_environment_is_told_by_its_variable) {
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        Launch launch;
        Errors errors = {0};
        set_environment(refused[i].environment);
        if (launch_find(&launch, &errors)) fail_msg("case %zu was believed", i);
        assert_int_equal(errors.exit_code, EXIT_USAGE);
        assert_int_equal(errors.count, 1);
        if (!strstr(text_string(&errors.text), refused[i].words))
            fail_msg("case %zu: not \"%s\" but: %s", i, refused[i].words, text_string(&errors.text));
        errors_close(&errors);
    }
}

TEST(jobs_are_kept_apart) {
    static const char *const environments[] = {
        TORCHRUN MASTER, TORCHRUN MASTER "TORCHELASTIC_RUN_ID=2\0", MPIRUN_HERE, MPIRUN_HERE "PMIX_NAMESPACE=3\0", SRUN,
        SRUN "SLURM_JOB_ID=2\0", SRUN "SLURM_STEP_ID=2\0", SRUN "THALWEG_SECRET=2\0"};
    enum { COUNT = sizeof environments / sizeof environments[0] };
    static Launch launches[COUNT];
    Errors errors = {0};
    for (int i = 0; i < COUNT; i++) {
        set_environment(environments[i]);
        assert_true(launch_find(&launches[i], &errors));
        assert_true(*launches[i].secret);
        for (int j = 0; j < i; j++) assert_string_not_equal(launches[i].secret, launches[j].secret);
    }
    assert_string_equal(launches[COUNT - 1].secret, "2");
}

// ---- our own launcher ----

// The launcher is slot 0 of `job`; its ranks inherit its standard error and `news`, where each writes its lines.
typedef struct {
    TestRanks job;
    int news; // the reading end
} Family;

typedef struct {
    int ranks;
    void (*work)(const Launch *launch, int news, const void *context);
    const void *context;
    int news[2];
} Plan;

static void launch_plan(const Launch *unused, void *context) {
    const Plan *plan = context;
    Launch launch;
    (void)unused;
    close(plan->news[0]);
    setpgid(0, 0);
    launch_ranks(&launch, plan->ranks);
    plan->work(&launch, plan->news[1], plan->context);
}

static void begin_family(Family *family, Plan plan) {
    *family = (Family){{0}, -1};
    assert_int_equal(pipe2(plan.news, O_CLOEXEC), 0);
    test_ranks_add(&family->job, (Launch){.listener = -1}, 1, launch_plan, &plan);
    close(plan.news[1]);
    family->news = plan.news[0];
}

// Waits for `count` lines from ranks.
static void read_lines(Family *family, int count, Text *out) {
    char byte;
    text_clear(out);
    while (count > 0) {
        assert_int_equal(poll(&(struct pollfd){.fd = family->news, .events = POLLIN}, 1, 30000), 1);
        assert_int_equal(read(family->news, &byte, 1), 1);
        text_append(out, &byte, 1);
        count -= byte == '\n';
    }
}

// No process has the writing end any more.
static void check_all_are_gone(Family *family) {
    char bytes[256];
    ssize_t n;
    do {
        assert_int_equal(poll(&(struct pollfd){.fd = family->news, .events = POLLIN}, 1, 30000), 1);
        n = read(family->news, bytes, sizeof bytes);
    } while (n > 0);
    assert_int_equal(n, 0);
    close(family->news);
}

static void meet(const Launch *launch, int news, const void *unused) {
    (void)news, (void)unused;
    Ranks *ranks = test_ranks_open(launch, 30);
    REQUIRE(ranks_any(ranks, 1u << launch->rank) == (1u << launch->size) - 1, "other bits");
    REQUIRE(launch->local_rank == launch->rank && launch->local_size == launch->size, "local %d", launch->local_rank);
    ranks_close(ranks);
}

TEST(launched_ranks_meet) {
    for (int size = 1; size <= 4; size++) {
        Family family;
        begin_family(&family, (Plan){.ranks = size, .work = meet});
        test_ranks_wait(&family.job, 0);
        check_all_are_gone(&family);
        if (family.job.codes[0] != 0 || *family.job.said[0])
            fail_msg("%d ranks: %d: %s", size, family.job.codes[0], family.job.said[0]);
    }
}

// How three ranks end, one behind the other; a negative number is a signal.
typedef struct {
    int ends[3], code;
    const char *words; // NULL: nothing is said
} Ends;

typedef struct {
    const Ends *ends;
    volatile pid_t *pids; // by rank, told to each other; 0: not yet
} Turns;

// Until the launcher has taken note of the end of the rank before: nobody has its number any more.
static void wait_for_turn(const Turns *turns, int rank) {
    turns->pids[rank] = getpid();
    while (rank > 0 && (turns->pids[rank - 1] == 0 || kill(turns->pids[rank - 1], 0) == 0)) usleep(1000);
}

static void end_as_told(const Launch *launch, int news, const void *context) {
    const Turns *turns = context;
    int code = turns->ends->ends[launch->rank];
    (void)news;
    alarm(60);
    wait_for_turn(turns, launch->rank);
    if (code < 0) raise(-code);
    _exit(code);
}

TEST(exit_codes_are_combined) {
    static const Ends cases[] = {
        {{0, 0, 0}, 0, NULL},
        {{2, 2, 2}, 2, NULL},
        {{71, 71, 71}, 71, NULL},
        {{75, 75, 75}, 75, NULL},
        {{130, 130, 130}, 130, NULL},
        {{71, 65, 71}, 65, "rank 1 failed first, with exit code 65"},
        {{71, 71, 66}, 66, "rank 2 failed first, with exit code 66"},
        {{73, 65, 71}, 73, "rank 0 failed first, with exit code 73"},
        {{0, 71, 0}, 71, "rank 1 failed first, with exit code 71"},
        {{0, 0, 76}, 76, "rank 2 failed first, with exit code 76"},
        {{71, -SIGKILL, 71}, 71, "rank 1 was ended by signal 9 (Killed)"},
        {{-SIGTERM, 65, 71}, 71, "rank 0 was ended by signal 15 (Terminated)"},
        {{65, 0, -SIGSTOP}, 65, "rank 0 failed first, with exit code 65"},
    };
    enum { COUNT = sizeof cases / sizeof cases[0] };
    static Family families[COUNT];
    static Turns turns[COUNT];
    pid_t (*pids)[3] = mmap(NULL, COUNT * sizeof *pids, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(pids != MAP_FAILED);
    for (int i = 0; i < COUNT; i++) {
        turns[i] = (Turns){&cases[i], pids[i]};
        begin_family(&families[i], (Plan){.ranks = 3, .work = end_as_told, .context = &turns[i]});
    }
    for (int i = 0; i < COUNT; i++) {
        TestRanks *job = &families[i].job;
        test_ranks_wait(job, 0);
        check_all_are_gone(&families[i]);
        if (job->codes[0] != cases[i].code || (cases[i].words ? !strstr(job->said[0], cases[i].words) : *job->said[0]))
            fail_msg("case %d: not %d and \"%s\" but %d and: %s", i, cases[i].code,
                     cases[i].words ? cases[i].words : "", job->codes[0], job->said[0]);
    }
    munmap(pids, COUNT * sizeof *pids);
}

static int news_of_signals;

static void tell_signal(int number) {
    char line[] = {(char)('A' + number), '\n'};
    ssize_t ignored = write(news_of_signals, line, 2);
    (void)ignored;
}

static const int passed[] = {SIGUSR1, SIGUSR2, SIGHUP, SIGINT, SIGTERM};

// Tells its process number and every signal.
static void tell_signals(const Launch *launch, int news, const void *unused) {
    char line[32];
    (void)unused, (void)launch;
    news_of_signals = news;
    alarm(60); // should it outlive the test
    for (size_t i = 0; i < sizeof passed / sizeof passed[0]; i++) signal(passed[i], tell_signal);
    int size = snprintf(line, sizeof line, "%d\n", getpid());
    REQUIRE(write(news, line, (size_t)size) == size, "news");
    for (;;) pause();
}

static void begin_telling(Family *family, int pids[3]) {
    Text lines = {0};
    begin_family(family, (Plan){.ranks = 3, .work = tell_signals});
    read_lines(family, 3, &lines);
    assert_int_equal(sscanf(lines.data, "%d %d %d", &pids[0], &pids[1], &pids[2]), 3);
    text_close(&lines);
}

// Waits until the process is stopped, or is not.
static void wait_for_state(int pid, bool stopped) {
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    for (int i = 0; i < 3000; i++) {
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        assert_int_equal(fscanf(file, "%*d (%*[^)]) %c", &state), 1);
        fclose(file);
        if ((state == 'T') == stopped) return;
        usleep(10000);
    }
    fail_msg("process %d is %c", pid, state);
}

TEST(signals_reach_every_rank_once) {
    Family family;
    Text lines = {0};
    int pids[3];
    begin_telling(&family, pids);
    pid_t launcher = family.job.pids[0];
    for (size_t i = 0; i < 2 * sizeof passed / sizeof passed[0]; i++) {
        int number = passed[i / 2];
        kill(i % 2 ? launcher : -launcher, number); // to its group too, as `timeout` and terminals do
        read_lines(&family, 3, &lines);
        for (int k = 0; k < 3; k++) assert_int_equal(lines.data[2 * k], 'A' + number);
    }
    kill(launcher, SIGTSTP);
    wait_for_state(launcher, true);
    for (int i = 0; i < 3; i++) wait_for_state(pids[i], true);
    kill(launcher, SIGCONT);
    for (int i = 0; i < 3; i++) wait_for_state(pids[i], false);
    assert_int_equal(poll(&(struct pollfd){.fd = family.news, .events = POLLIN}, 1, 100), 0); // nothing came twice
    for (int i = 0; i < 3; i++) kill(pids[i], SIGKILL);
    test_ranks_wait(&family.job, 0);
    assert_int_equal(family.job.codes[0], EXIT_COMM);
    check_all_are_gone(&family);
    text_close(&lines);
}

// Rank 0 heeds the signal already and loses the others by it.
static void begin_to_heed(const Launch *launch, int news, const void *unused) {
    sigset_t term, before;
    (void)unused;
    news_of_signals = news;
    alarm(60);
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, &before);
    if (launch->rank == 0) signal(SIGTERM, tell_signal);
    REQUIRE(write(news, "\n", 1) == 1, "news");
    sigsuspend(&before);
    _exit(EXIT_COMM); // as those do that lost another one
}

TEST(a_signal_before_ranks_heed_it_ends_the_launcher_too) {
    Family family;
    Text lines = {0};
    begin_family(&family, (Plan){.ranks = 3, .work = begin_to_heed});
    read_lines(&family, 3, &lines);
    kill(family.job.pids[0], SIGTERM);
    test_ranks_wait(&family.job, 0);
    assert_int_equal(family.job.codes[0], -SIGTERM);
    assert_string_equal(family.job.said[0], "");
    check_all_are_gone(&family);
    text_close(&lines);
}

TEST(ranks_end_with_their_launcher) {
    Family family;
    int pids[3];
    begin_telling(&family, pids);
    kill(family.job.pids[0], SIGKILL);
    test_ranks_wait(&family.job, 0);
    assert_int_equal(family.job.codes[0], -SIGKILL);
    check_all_are_gone(&family);
}
