// Whose a run is: between processes of this host, and hosts that do not see each other's locks.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/file.h"
#include "sweep/claims.h"
#include "tests/test.h"

static const double now = 1e9;

static const char *sweep_dir(void) {
    static char locks[4096];
    Errors errors = {0};
    const char *dir = test_folder("claims");
    path_join(locks, dir, "locks");
    assert_true(directory_make(locks, &errors));
    return dir;
}

static void leave(const char *dir, const char *text) {
    char path[4096];
    test_write(path, dir, "locks/a.lock", text);
}

static ClaimResult try(const char *dir, Claim *claim, double when) {
    Errors errors = {0};
    ClaimResult result = claim_take(claim, dir, "a", when, &errors);
    assert_true((errors.count > 0) == (result == CLAIM_IMPOSSIBLE));
    errors_close(&errors);
    return result;
}

TEST(a_run_has_one_owner_until_it_is_released) {
    const char *dir = sweep_dir();
    Claim one, two;
    assert_int_equal(try(dir, &one, now), CLAIM_TAKEN);
    assert_int_equal(try(dir, &two, now + 2 * CLAIM_STALE), CLAIM_BUSY); // the lock holds, whatever the time says
    assert_int_equal(two.descriptor, -1);
    claim_release(&one);
    claim_release(&one);
    assert_int_equal(try(dir, &two, now), CLAIM_TAKEN);
    claim_release(&two);
}

TEST(a_process_that_is_killed_loses_its_run_at_once) {
    const char *dir = sweep_dir();
    int told[2];
    char byte;
    Claim claim;
    assert_int_equal(pipe(told), 0);
    pid_t pid = fork();
    if (pid == 0) {
        bool taken = try(dir, &claim, now) == CLAIM_TAKEN;
        if (!taken || write(told[1], "x", 1) != 1) _exit(1);
        pause();
        _exit(0);
    }
    assert_int_equal(read(told[0], &byte, 1), 1);
    assert_int_equal(try(dir, &claim, now), CLAIM_BUSY);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_int_equal(try(dir, &claim, now), CLAIM_TAKEN);
    claim_release(&claim);
    close(told[0]), close(told[1]);
}

TEST(another_host_is_believed_for_ten_minutes) {
    const char *dir = sweep_dir();
    Claim claim;
    leave(dir, "elsewhere.example 12 1000000000\n");
    assert_int_equal(try(dir, &claim, now + CLAIM_STALE - 1), CLAIM_BUSY);
    assert_int_equal(try(dir, &claim, now + CLAIM_STALE + 1), CLAIM_TAKEN);
    claim_release(&claim);
    char own[300];
    snprintf(own, sizeof own, "%s 12 1000000000\n", claim_host());
    leave(dir, own);
    assert_int_equal(try(dir, &claim, now + 1), CLAIM_TAKEN); // of this host: the lock would tell
    claim_release(&claim);
    leave(dir, "nonsense");
    assert_int_equal(try(dir, &claim, now), CLAIM_TAKEN);
    claim_release(&claim);
}

static double stamped(const char *dir) {
    char path[4096], host[256];
    int pid;
    double time = 0;
    File file;
    Errors errors = {0};
    path_join(path, dir, "locks/a.lock");
    assert_true(file_read(&file, path, 4096, EXIT_DATA, &errors));
    if (file.size > 0) assert_int_equal(sscanf(file.bytes, "%255s %d %lf", host, &pid, &time), 3);
    file_close(&file);
    return time;
}

TEST(what_is_held_is_renewed_and_what_is_released_is_empty) {
    const char *dir = sweep_dir();
    Claim claim;
    assert_int_equal(try(dir, &claim, now), CLAIM_TAKEN);
    claim_renew(&claim, now + CLAIM_RENEWED - 1);
    CHECK_CLOSE(stamped(dir), now, 0);
    claim_renew(&claim, now + CLAIM_RENEWED);
    CHECK_CLOSE(stamped(dir), now + CLAIM_RENEWED, 0);
    claim_release(&claim);
    CHECK_CLOSE(stamped(dir), 0, 0);
    claim_renew(&claim, now + 10 * CLAIM_RENEWED); // nothing
    CHECK_CLOSE(stamped(dir), 0, 0);
}

TEST(where_no_lock_can_be_made_it_is_said) {
    Claim claim;
    assert_int_equal(try("build/tmp/nowhere", &claim, now), CLAIM_IMPOSSIBLE);
}
