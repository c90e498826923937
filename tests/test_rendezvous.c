// How ranks meet, and what keeps those apart that do not belong together.
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "comm/ranks_internal.h"
#include "tests/support_ranks.h"
#include "tests/test.h"

enum { SIZE = 4 };
// Where nothing is to be waited for, and where somebody does not come (see test_ranks_try).
static const double timeout = 30, short_timeout = 2;

static Ranks *meet(const Launch *launch, const Hello *self, double seconds) {
    Errors errors = {0};
    Ranks *ranks = ranks_meet(launch, self, seconds, &errors);
    errors_exit_if_any(&errors);
    return ranks;
}

static void come_in_vain(const Launch *launch, void *unused) {
    (void)unused;
    ranks_close(test_ranks_open(launch, short_timeout));
}

static void open_and_close(const Launch *launch, void *unused) {
    (void)unused;
    ranks_close(test_ranks_open(launch, timeout));
}

// All must have ended with 71 and these words; what is wrong, or NULL.
static const char *find_other_end(const TestRanks *ranks, int except, const char *words) {
    for (int slot = 0; slot < ranks->count && slot < TEST_RANKS; slot++)
        if (slot != except && (ranks->codes[slot] != EXIT_COMM || !strstr(ranks->said[slot], words)))
            return test_ranks_wrong("process %d ended with %d; not \"%s\" but: %s", slot, ranks->codes[slot], words,
                                    ranks->said[slot]);
    return NULL;
}

static void check_refusal(const TestRanks *ranks, const char *words) {
    const char *wrong = find_other_end(ranks, -1, words);
    if (wrong) fail_msg("%s", wrong);
}

// ---- one that is different ----

typedef struct {
    int rank;
    void (*change)(Launch *launch, Hello *self);
    double timeout;
} Difference;

static void meet_with_difference(const Launch *launch, void *context) {
    const Difference *difference = context;
    Launch mine = *launch;
    Hello self;
    hello_fill(&self, &mine);
    if (mine.rank == difference->rank) difference->change(&mine, &self);
    ranks_close(meet(&mine, &self, difference->timeout));
}

static void other_secret(Launch *launch, Hello *self) {
    strcpy(launch->secret, "other");
    hello_fill(self, launch);
}

static void other_size(Launch *launch, Hello *self) { self->size = launch->size = SIZE + 1; }
static void other_rank(Launch *launch, Hello *self) { self->rank = launch->rank = 1; }
static void no_rank(Launch *launch, Hello *self) { self->rank = launch->rank = SIZE + 100; }
static void negative_rank(Launch *launch, Hello *self) { self->rank = -launch->rank; }
static void other_program(Launch *launch, Hello *self) { (void)launch, self->program[0] ^= 1; }
static void other_version(Launch *launch, Hello *self) { (void)launch, strcpy(self->version, "thalweg \033[2J"); }
static void dies(Launch *launch, Hello *self) { (void)launch, (void)self, raise(SIGKILL); }
static void stays_away(Launch *launch, Hello *self) { (void)launch, (void)self, exit(0); }

// All of these at the same time.
static const char *come_with_differences(double absence, void *unused) {
    (void)unused;
    static const struct {
        int rank;
        void (*change)(Launch *, Hello *);
        const char *words;
        bool is_gone; // the rank itself says nothing
    } cases[] = {
        {2, other_secret, "which calls itself rank 2, has another secret than rank 0", false},
        {2, other_size, "rank 2 (127.0.0.1:", false},
        {2, other_size, "is one of 5 ranks, rank 0 one of 4", false},
        {2, other_rank, "there are two ranks 1; the second came from 127.0.0.1:", false},
        {2, no_rank, "calls itself rank 104 of 4", false},
        {2, negative_rank, "calls itself rank -2 of 4", false},
        {2, other_program, "runs another program than rank 0: thalweg ", false},
        {2, other_version, "runs another program than rank 0: thalweg \\x1b[2J (", false},
        {0, other_secret, "has another secret than rank 0", false},
        {2, stays_away, "rank 2 did not come to 127.0.0.1:", true},
        {2, dies, "rank 2 did not come to 127.0.0.1:", true},
        {0, dies, " rank 0 at 127.0.0.1:", true}, // cannot reach it, or no answer of it
    };
    enum { CASES = sizeof cases / sizeof cases[0] };
    static TestRanks jobs[CASES];
    const char *wrong = NULL;
    for (int i = 0; i < CASES; i++) {
        Launch launch = test_launch(SIZE);
        Difference difference = {cases[i].rank, cases[i].change, cases[i].is_gone ? absence : timeout};
        jobs[i] = (TestRanks){0};
        test_ranks_add(&jobs[i], launch, SIZE, meet_with_difference, &difference);
        close(launch.listener);
    }
    for (int i = 0; i < CASES; i++) test_ranks_wait(&jobs[i], 0);
    for (int i = 0; i < CASES && !wrong; i++)
        wrong = find_other_end(&jobs[i], cases[i].is_gone ? cases[i].rank : -1, cases[i].words);
    return wrong;
}

TEST(a_rank_that_does_not_belong_ends_all) { test_ranks_try(come_with_differences, short_timeout, NULL); }

// Ends after it has come, while another is missing. A moment later: those that are on their way come, too.
static void come_and_die(const Launch *launch, void *moment) {
    const char *reason = "";
    Hello self;
    if (launch->rank != 2) open_and_close(launch, NULL);
    hello_fill(&self, launch);
    for (int channel = CHANNEL_CONTROL; channel <= CHANNEL_WATCH; channel++) {
        int socket = socket_connect(launch->host, launch->port, clock_seconds() + timeout, &reason);
        REQUIRE(socket >= 0 && hello_send(&self, (Channel)channel, socket, clock_seconds() + timeout), "%s", reason);
    }
    usleep((useconds_t)(1e6 * *(double *)moment));
    raise(SIGKILL);
}

static const char *come_without_one(double moment, void *unused) {
    (void)unused;
    static TestRanks ranks;
    ranks = (TestRanks){0};
    Launch launch = test_launch(SIZE);
    test_ranks_add(&ranks, launch, SIZE - 1, come_and_die, &moment);
    close(launch.listener);
    test_ranks_wait(&ranks, 0);
    if (ranks.codes[2] != -SIGKILL) return test_ranks_wrong("rank 2 ended with %d", ranks.codes[2]);
    return find_other_end(&ranks, 2, "rank 2 ended while not all ranks had come");
}

TEST(a_rank_that_ends_while_others_are_missing_is_named) { test_ranks_try(come_without_one, 1, NULL); }

// ---- where they meet ----

TEST(a_port_in_use_is_named) {
    static TestRanks ranks;
    char words[128];
    Launch taken = test_launch(2), launch = taken;
    launch.listener = -1;
    test_ranks_add(&ranks, launch, 1, open_and_close, NULL);
    test_ranks_wait(&ranks, 0);
    close(taken.listener);
    snprintf(words, sizeof words, "cannot listen at 127.0.0.1:%d: Address already in use", launch.port);
    check_refusal(&ranks, words);
    check_refusal(&ranks, "THALWEG_PORT");
}

TEST(rank_0_that_cannot_be_reached_is_named) {
    static TestRanks ranks;
    char words[128];
    Launch launch = test_launch(2);
    close(launch.listener);
    launch.listener = -1;
    launch.rank = 1;
    test_ranks_add(&ranks, launch, 1, come_in_vain, NULL);
    snprintf(launch.host, sizeof launch.host, "no-such-host.invalid");
    test_ranks_add(&ranks, launch, 1, come_in_vain, NULL);
    test_ranks_wait(&ranks, 0);
    snprintf(words, sizeof words, "cannot reach rank 0 at 127.0.0.1:%d within 2 s: Connection refused", launch.port);
    assert_non_null(strstr(ranks.said[0], words));
    assert_non_null(strstr(ranks.said[1], "cannot reach rank 0 at no-such-host.invalid:"));
    check_refusal(&ranks, "cannot reach rank 0");
}

// A port that others find in the meantime makes this fail once in a while, so it is tried again.
TEST(rank_0_listens_where_it_is_told) {
    static TestRanks ranks;
    for (int attempt = 0; attempt < 5; attempt++) {
        Launch launch = test_launch(2);
        close(launch.listener);
        launch.listener = -1;
        ranks = (TestRanks){0};
        test_ranks_add(&ranks, launch, 2, open_and_close, NULL);
        test_ranks_wait(&ranks, 0);
        if (ranks.codes[0] == 0 && ranks.codes[1] == 0) return;
    }
    fail_msg("%s%s", ranks.said[0], ranks.said[1]);
}

// ---- strangers ----

static int visit(const Launch *launch, const void *words, size_t size) {
    const char *reason = "";
    int visitor = socket_connect(launch->host, launch->port, clock_seconds() + timeout, &reason);
    assert_true(visitor >= 0);
    if (size) assert_true(socket_send(visitor, words, size, clock_seconds() + timeout));
    return visitor;
}

enum { STRANGERS = 200 };

// Ranks that meet where others have come before them.
static void meet_among(const Launch *launch, const int *strangers, int count) {
    static TestRanks ranks;
    ranks = (TestRanks){0};
    test_ranks_add(&ranks, *launch, 3, open_and_close, NULL);
    close(launch->listener);
    test_ranks_wait(&ranks, 0);
    for (int i = 0; i < count; i++) close(strangers[i]);
    for (int slot = 0; slot < 3; slot++)
        if (ranks.codes[slot] != 0) fail_msg("rank %d: %d: %s", slot, ranks.codes[slot], ranks.said[slot]);
}

TEST(strangers_who_talk_do_not_matter) {
    int strangers[STRANGERS], count = 0;
    char garbage[4096];
    memset(garbage, 'x', sizeof garbage);
    Launch launch = test_launch(3);
    strangers[count++] = visit(&launch, "GET / HTTP/1.1\r\n\r\n", 18);
    strangers[count++] = visit(&launch, garbage, sizeof garbage);
    strangers[count++] = visit(&launch, "thal", 4);
    strangers[count++] = visit(&launch, "thalweg\0and no more", 19);
    close(visit(&launch, "", 0));
    meet_among(&launch, strangers, count);
}

TEST(strangers_who_are_silent_do_not_matter) {
    int strangers[STRANGERS];
    Launch launch = test_launch(3);
    for (int i = 0; i < STRANGERS; i++) strangers[i] = visit(&launch, "", 0);
    meet_among(&launch, strangers, STRANGERS);
}
