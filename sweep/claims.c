#include "sweep/claims.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "runtime/file.h"

enum { LINE_LIMIT = 512 };

const char *claim_host(void) {
    static char host[256];
    if (!*host && (gethostname(host, sizeof host - 1) != 0 || !*host)) strcpy(host, "localhost");
    for (char *c = host; *c; c++)
        if (*c <= ' ' || *c > '~') *c = '-'; // a word, whatever it is called
    return host;
}

// Over what was there, in one write, padded so that a longer line leaves nothing behind.
static void stamp(Claim *claim, double now) {
    char line[LINE_LIMIT];
    int size = snprintf(line, sizeof line, "%s %d %.0f", claim_host(), (int)getpid(), now);
    snprintf(line + size, sizeof line - (size_t)size, "%*s\n", LINE_LIMIT - 2 - size, "");
    claim->renewed = now;
    ssize_t ignored = pwrite(claim->descriptor, line, strlen(line), 0); // a full disk: the lock itself holds
    (void)ignored;
}

// Whether the file says that somebody else, whose lock may not be seen from here, is at work. What is not ours to read
// is nobody's.
static bool held_elsewhere(int descriptor, double now) {
    char line[LINE_LIMIT + 1], host[256];
    int pid;
    double time;
    ssize_t size = pread(descriptor, line, LINE_LIMIT, 0);
    line[size > 0 ? size : 0] = 0;
    if (sscanf(line, "%255s %d %lf", host, &pid, &time) != 3) return false;
    return strcmp(host, claim_host()) != 0 && now - time < CLAIM_STALE;
}

ClaimResult claim_take(Claim *claim, const char *sweep_dir, const char *id, double now, Errors *errors) {
    char name[64];
    snprintf(name, sizeof name, "locks/%s.lock", id);
    *claim = (Claim){.descriptor = -1};
    path_join(claim->path, sweep_dir, name);
    int descriptor = open(claim->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (descriptor < 0) {
        file_complain(claim->path, "opening", errno, EXIT_CANNOT_WRITE, errors);
        return CLAIM_IMPOSSIBLE;
    }
    int error = flock(descriptor, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
    if (error || held_elsewhere(descriptor, now) || !path_names(claim->path, descriptor)) {
        close(descriptor);
        if (error == 0 || error == EWOULDBLOCK || error == EINTR) return CLAIM_BUSY;
        errors_add(errors, EXIT_CANNOT_WRITE, "%s: locking failed: %s; choose a --dir on a file system that has locks",
                   claim->path, strerror(error));
        return CLAIM_IMPOSSIBLE;
    }
    claim->descriptor = descriptor;
    stamp(claim, now);
    return CLAIM_TAKEN;
}

void claim_renew(Claim *claim, double now) {
    if (claim->descriptor >= 0 && now - claim->renewed >= CLAIM_RENEWED) stamp(claim, now);
}

void claim_release(Claim *claim) {
    if (claim->descriptor < 0) return;
    int ignored = ftruncate(claim->descriptor, 0);
    (void)ignored;
    flock(claim->descriptor, LOCK_UN); // a child that was just forked may still have the descriptor
    close(claim->descriptor);
    claim->descriptor = -1;
}
