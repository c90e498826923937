// What ranks agree on, and how they end when one of them cannot go on: ranks are processes, harmed in every way.
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include "comm/ranks_internal.h"
#include "tests/support_ranks.h"
#include "tests/test.h"

// Where nothing is to be waited for, and where somebody is silent (see test_ranks_try).
static const double timeout = 30, short_timeout = 3;
static const double longer = 1.6; // than a timeout, by far

// ---- agreement ----

static void agree(const Launch *launch, void *unused) {
    (void)unused;
    int rank = launch->rank, size = launch->size;
    Ranks *ranks = test_ranks_open(launch, timeout);
    REQUIRE(ranks_rank(ranks) == rank && ranks_size(ranks) == size, "rank %d of %d", ranks_rank(ranks),
            ranks_size(ranks));
    for (unsigned round = 0; round < 100; round++) {
        unsigned all = (1u << size) - 1, bits = ranks_any(ranks, 1u << rank);
        REQUIRE(bits == all, "bits %x, not %x", bits, all);
        REQUIRE(ranks_any(ranks, 0) == 0, "bits that nobody has");
    }
    Text text = {0}, *collected = test_take((size_t)size * sizeof *collected);
    text_printf(&text, "of rank %d", rank);
    ranks_share(ranks, &text);
    REQUIRE(strcmp(text_string(&text), "of rank 0") == 0, "shared: %s", text_string(&text));
    text_clear(&text);
    for (int i = 0; i < rank * 100000; i++) text_append(&text, "\0x", 2); // rank 0 has none, others bytes of any kind
    ranks_collect(ranks, &text, collected);
    for (int r = 0; r < size && rank == 0; r++) {
        REQUIRE(collected[r].size == (size_t)r * 200000, "%zu bytes of rank %d", collected[r].size, r);
        REQUIRE(r == 0 || memcmp(collected[r].data + collected[r].size - 2, "\0x", 2) == 0, "other bytes");
        text_close(&collected[r]);
    }
    ranks_share(ranks, &text); // nothing
    REQUIRE(text.size == 0, "%zu bytes of nothing", text.size);
    ranks_same(ranks, "configuration", "a\nb\n");
    text_close(&text);
    free(collected);
    ranks_close(ranks);
}

TEST(ranks_agree) {
    for (int size = 1; size <= 4; size++) test_ranks_run(size, agree, NULL);
}

// ---- ends ----

static bool says(const TestRanks *ranks, int slot, const char *words) {
    return strstr(ranks->said[slot], words) != NULL;
}

// All but one must have ended with 71 and these words, each rank in one line; what is wrong, or NULL.
static const char *check_end(const TestRanks *ranks, int culprit, const char *words) {
    for (int slot = 0; slot < ranks->count; slot++) {
        if (slot == culprit) continue;
        char name[32];
        snprintf(name, sizeof name, "rank %d: ", slot);
        bool one_line = strchr(ranks->said[slot], '\n') == strrchr(ranks->said[slot], '\n');
        if (ranks->codes[slot] != EXIT_COMM || !says(ranks, slot, words) || !says(ranks, slot, name) || !one_line)
            return test_ranks_wrong("rank %d, where rank %d is to blame, ended with %d; not \"%s\" but: %s", slot,
                                    culprit, ranks->codes[slot], words, ranks->said[slot]);
    }
    return NULL;
}

// A job that goes on for ever, until harm befalls the culprit.
typedef struct {
    int culprit;
    void (*befall)(Comm *comm);
    double timeout;
} Fate;

static void work_until_harmed(const Launch *launch, void *context) {
    enum { COUNT = 100000 };
    const Fate *fate = context;
    Comm comm;
    Errors errors = {0};
    Ranks *ranks = test_ranks_open(launch, fate->timeout);
    comm_host(&comm, &cpu_kernels, ranks, &errors);
    errors_exit_if_any(&errors);
    Tensor t = tensor_1d(test_take(COUNT * sizeof(float)), DTYPE_F32, COUNT);
    for (int step = 0;; step++) {
        ranks_at(ranks, "step %d", step);
        if (step == 3 && launch->rank == fate->culprit) fate->befall(&comm);
        comm_sum(&comm, t);
        ranks_any(ranks, 0);
    }
}

// What befalls each of three ranks in turn, from `first` on: it ends with `code`, the others say its name and `words`.
typedef struct {
    void (*befall)(Comm *comm);
    int code;
    const char *words;
    bool is_silent; // and is found by the timeout
    int stopped;    // 1: it does not end
    int first;
} Harm;

static const char *harm_each(double silence, void *context) {
    enum { SIZE = 3 };
    static TestRanks jobs[SIZE];
    const Harm *harm = context;
    const char *wrong = NULL;
    for (int culprit = harm->first; culprit < SIZE; culprit++) {
        Launch launch = test_launch(SIZE);
        jobs[culprit] = (TestRanks){0};
        Fate fate = {culprit, harm->befall, harm->is_silent ? silence : timeout};
        test_ranks_add(&jobs[culprit], launch, SIZE, work_until_harmed, &fate);
        close(launch.listener);
    }
    for (int culprit = harm->first; culprit < SIZE; culprit++) test_ranks_wait(&jobs[culprit], harm->stopped);
    for (int culprit = harm->first; culprit < SIZE && !wrong; culprit++) {
        const TestRanks *job = &jobs[culprit];
        char expected[128];
        snprintf(expected, sizeof expected, "rank %d%s", culprit, harm->words);
        wrong = check_end(job, culprit, expected);
        if (!wrong && job->codes[culprit] != harm->code)
            wrong = test_ranks_wrong("rank %d ended with %d, not %d: %s", culprit, job->codes[culprit], harm->code,
                                     job->said[culprit]);
    }
    return wrong;
}

static void check_harm(Harm harm) { test_ranks_try(harm_each, short_timeout, &harm); }

static void be_killed(Comm *comm) { (void)comm, raise(SIGKILL); }
static void be_stopped(Comm *comm) { (void)comm, raise(SIGSTOP); }
static void leave(Comm *comm) { (void)comm, exit(EXIT_DATA); }
static void leave_well(Comm *comm) { (void)comm, exit(0); }
static void give_up(Comm *comm) { ranks_fail(comm->ranks, "the reason"); }
static void hang(Comm *comm) { for (;;) (void)comm, pause(); }

// In the middle of what it does with the others.
static void be_killed_later(Comm *comm) {
    (void)comm;
    setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {.tv_usec = 200000}}, NULL);
}

TEST(a_rank_that_is_killed_is_named) {
    check_harm((Harm){.befall = be_killed, .code = -SIGKILL, .words = " is gone without a word"});
}

TEST(a_rank_that_is_killed_in_a_collective_is_named) {
    check_harm((Harm){.befall = be_killed_later, .code = -SIGALRM, .words = " is gone without a word"});
}

TEST(a_rank_that_is_stopped_is_named) {
    check_harm((Harm){
        .befall = be_stopped, .code = -SIGKILL, .words = " has been silent for ", .is_silent = true, .stopped = 1});
}

TEST(a_rank_that_exits_is_named) {
    check_harm((Harm){.befall = leave, .code = EXIT_DATA, .words = " ended with exit code 65 at step 3"});
}

TEST(a_rank_that_exits_well_but_alone_is_named) {
    check_harm((Harm){.befall = leave_well, .code = 0, .words = " ended with exit code 0"});
}

TEST(a_rank_that_gives_up_is_named) {
    check_harm((Harm){.befall = give_up, .code = EXIT_COMM, .words = ": the reason"});
}

TEST(a_rank_that_hangs_is_named) {
    check_harm((Harm){.befall = hang,
                      .code = EXIT_COMM,
                      .words = " keeps the others waiting: it has been at step 3 for ",
                      .is_silent = true});
}

// ---- cut connections ----

static void cut_control(Comm *comm) {
    for (int i = 0; i < comm->ranks->peer_count; i++) shutdown(comm->ranks->peers[i].control, SHUT_RDWR);
}

static void cut_watch(Comm *comm) {
    for (int i = 0; i < comm->ranks->peer_count; i++) shutdown(comm->ranks->peers[i].watch, SHUT_RDWR);
}

static bool is_of_star(const Ranks *ranks, int descriptor) {
    for (int i = 0; i < ranks->peer_count; i++)
        if (descriptor == ranks->peers[i].control || descriptor == ranks->peers[i].watch) return true;
    return false;
}

static void cut_ring(Comm *comm) {
    enum { DESCRIPTORS = 256 };
    int cut = 0;
    for (int descriptor = 3; descriptor < DESCRIPTORS; descriptor++)
        if (!is_of_star(comm->ranks, descriptor) && shutdown(descriptor, SHUT_RDWR) == 0) cut++;
    REQUIRE(cut == 2, "%d sockets of the ring", cut);
}

TEST(a_cut_connection_is_named) {
    check_harm((Harm){.befall = cut_control, .code = EXIT_COMM, .words = ""});
    // Where rank 0 cuts all of them, each of the others is gone to it.
    check_harm((Harm){.befall = cut_watch, .code = EXIT_COMM, .words = " is gone", .first = 1});
    check_harm((Harm){.befall = cut_ring, .code = EXIT_COMM, .words = ""});
}

// ---- no false accusations ----

static void pause_for(double seconds) { usleep((useconds_t)(1e6 * seconds)); }

static void rest(const Launch *launch, void *silence) {
    Ranks *ranks = test_ranks_open(launch, *(double *)silence);
    ranks_any(ranks, 0);
    if (launch->rank == launch->size - 1) {
        ranks_patient(ranks, true);
        ranks_any(ranks, 0);
        pause_for(longer * *(double *)silence);
        ranks_patient(ranks, false);
    } else {
        ranks_any(ranks, 0);
    }
    ranks_any(ranks, 0);
    ranks_close(ranks);
}

// Starts three ranks.
static void begin(TestRanks *ranks, void (*work)(const Launch *, void *), void *context) {
    *ranks = (TestRanks){0};
    Launch launch = test_launch(3);
    test_ranks_add(ranks, launch, 3, work, context);
    close(launch.listener);
}

static const char *be_patient(double silence, void *unused) {
    (void)unused;
    static TestRanks ranks;
    begin(&ranks, rest, &silence);
    test_ranks_wait(&ranks, 0);
    return test_ranks_unwell(&ranks);
}

TEST(nobody_is_accused_while_a_rank_is_patient) { test_ranks_try(be_patient, short_timeout, NULL); }

typedef struct {
    double silence;
    int news; // a pipe
} Work;

static void work_a_while(const Launch *launch, void *context) {
    const Work *work = context;
    Ranks *ranks = test_ranks_open(launch, work->silence);
    ranks_any(ranks, 0);
    REQUIRE(write(work->news, "x", 1) == 1, "news");
    for (int i = 0; i < 100; i++) {
        ranks_any(ranks, 0);
        usleep(10000);
    }
    ranks_close(ranks);
}

static const char *stop_all(double silence, void *unused) {
    (void)unused;
    static TestRanks ranks;
    int news[2], met = 0;
    char byte;
    assert_int_equal(pipe2(news, O_CLOEXEC), 0);
    begin(&ranks, work_a_while, &(Work){silence, news[1]});
    close(news[1]);
    while (met < 3 && read(news[0], &byte, 1) == 1) met++;
    close(news[0]);
    for (int slot = 0; slot < 3; slot++) kill(ranks.pids[slot], SIGSTOP);
    if (met == 3) pause_for(longer * silence);
    for (int slot = 0; slot < 3; slot++) kill(ranks.pids[slot], SIGCONT);
    test_ranks_wait(&ranks, 0);
    return test_ranks_unwell(&ranks);
}

TEST(a_job_that_was_stopped_as_a_whole_goes_on) { test_ranks_try(stop_all, short_timeout, NULL); }

// All wait for each other, such as when a library hangs.
static void stand_still(const Launch *launch, void *silence) {
    Ranks *ranks = test_ranks_open(launch, *(double *)silence);
    ranks_at(ranks, "a call of the library");
    for (;;) pause();
}

static const char *hang_all(double silence, void *unused) {
    (void)unused;
    static TestRanks ranks;
    begin(&ranks, stand_still, &silence);
    test_ranks_wait(&ranks, 0);
    return check_end(&ranks, -1, "no rank gets on: all have been at a call of the library for ");
}

TEST(a_job_that_hangs_as_a_whole_ends) { test_ranks_try(hang_all, short_timeout, NULL); }

// ---- other texts ----

typedef struct {
    const char *most, *one;
} Texts;

static void compare(const Launch *launch, void *context) {
    const Texts *two = context;
    Ranks *ranks = test_ranks_open(launch, timeout);
    ranks_same(ranks, "configuration", launch->rank == 2 ? two->one : two->most);
    ranks_close(ranks);
}

TEST(a_text_that_differs_ends_all) {
    static const struct {
        Texts texts;
        const char *words;
    } cases[] = {
        {{"a\nb\nc", "a\nx\nc"}, "configuration: line 2 of rank 2 is \"x\", of rank 0 \"b\";"},
        {{"a\nb\nc", "a\nb"}, "configuration: line 3 of rank 2 is missing, of rank 0 \"c\";"},
        {{"a\nb\n", "a\nb\nc\n"}, "configuration: line 3 of rank 2 is \"c\", of rank 0 \"\";"},
        {{"a\nb", "a\nb\n"}, "configuration: line 3 of rank 2 is \"\", of rank 0 missing;"},
        {{"a\n\033[2J", "a\nb"}, "configuration: line 2 of rank 2 is \"b\", of rank 0 \"\\x1b[2J\""},
        {{"", "b"}, "configuration: line 1 of rank 2 is \"b\", of rank 0 \"\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static TestRanks ranks;
        begin(&ranks, compare, (void *)&cases[i].texts);
        test_ranks_wait(&ranks, 0);
        const char *wrong = check_end(&ranks, -1, cases[i].words);
        if (wrong) fail_msg("%s", wrong);
    }
}
