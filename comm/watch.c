// The thread of a rank that watches. Each rank tells rank 0 once in a while where it is, and rank 0 tells the others
// that it lives. Who finds that the job cannot go on tells the reason to those that it knows; rank 0 passes it on.
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "comm/ranks_internal.h"
#include "runtime/memory.h"
#include "runtime/thread.h"

// One write, so that the lines of ranks do not mix.
static void print(const Ranks *ranks, const char *message) {
    Text raw = {0}, line = {0};
    text_printf(&raw, "train_gpt: rank %d: %s\n", ranks->rank, message);
    text_escape(&line, raw.data, raw.size);
    fflush(stdout);
    ssize_t ignored = write(STDERR_FILENO, line.data, line.size);
    (void)ignored;
    text_close(&line);
    text_close(&raw);
}

// ---- telling ----

// A buffer that is full belongs to a rank that is silent; half a message must not be followed by another.
static void send_beat(const Beat *beat, const Peer *peer) {
    if (peer->watch < 0) return;
    ssize_t n = send(peer->watch, beat, sizeof *beat, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0 && n < (ssize_t)sizeof *beat) shutdown(peer->watch, SHUT_WR);
}

static void tell_all(const Ranks *ranks, const Beat *beat) {
    for (int i = 0; i < ranks->peer_count; i++) send_beat(beat, &ranks->peers[i]);
}

// What ends this process is told once, by who comes first.
static bool begin_ending(Ranks *ranks, int exit_code, const char *reason) {
    pthread_mutex_lock(&ranks->lock);
    bool first = !ranks->ending && !ranks->closing;
    ranks->ending = true;
    if (first) {
        Beat beat = {.kind = BEAT_ENDS, .exit_code = exit_code};
        strncpy(beat.text, reason, sizeof beat.text - 1);
        tell_all(ranks, &ranks->own);
        tell_all(ranks, &beat);
    }
    pthread_mutex_unlock(&ranks->lock);
    return first;
}

// Where all have come to the end, the main thread waits for this one, and what became of the others is all the same.
static bool is_closing(Ranks *ranks) {
    pthread_mutex_lock(&ranks->lock);
    bool closing = ranks->closing;
    pthread_mutex_unlock(&ranks->lock);
    return closing;
}

_Noreturn void watch_fail(Ranks *ranks, const char *own, const char *others) {
    if (!begin_ending(ranks, EXIT_COMM, others)) {
        if (is_closing(ranks)) pthread_exit(NULL);
        for (;;) pause(); // the other thread ends the process
    }
    print(ranks, own);
    pthread_mutex_lock(&ranks->lock);
    if (ranks->abort_work) ranks->abort_work(ranks->abort_context);
    _exit(EXIT_COMM);
}

static _Noreturn __attribute__((format(printf, 2, 3))) void end_all(Ranks *ranks, const char *format, ...) {
    Text text = {0};
    va_list arguments;
    va_start(arguments, format);
    text_vprintf(&text, format, arguments);
    va_end(arguments);
    watch_fail(ranks, text_string(&text), text_string(&text));
}

// The ranks of this process, which may call exit.
static Ranks *watched;

static void tell_exit(int exit_code, void *unused) {
    (void)unused;
    if (watched) begin_ending(watched, exit_code, "");
}

// ---- hearing ----

static const char *place(const Peer *peer) { return *peer->last.text ? peer->last.text : "its beginning"; }

static void note(Peer *peer, const Beat *beat, double now) {
    if (beat->calls != peer->last.calls) peer->moved = now;
    peer->last = *beat;
    peer->heard = now;
}

static void take(Ranks *ranks, int rank, double now) {
    Peer *peer = &ranks->peers[rank];
    Beat *beat = &peer->coming;
    beat->text[sizeof beat->text - 1] = 0;
    peer->received = 0;
    if (beat->kind == BEAT_LEAVES) peer->left = true;
    if (beat->kind == BEAT_LIVES) note(peer, beat, now);
    if (beat->kind != BEAT_ENDS) return;
    if (*beat->text) end_all(ranks, "%s", beat->text);
    end_all(ranks, "rank %d ended with exit code %d at %s: see its own message" RANKS_ADVICE, rank, beat->exit_code,
            place(peer));
}

static void hear(Ranks *ranks, int rank, double now) {
    Peer *peer = &ranks->peers[rank];
    while (peer->watch >= 0 && !peer->left) {
        ssize_t n = recv(peer->watch, (char *)&peer->coming + peer->received, sizeof peer->coming - peer->received,
                         MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n <= 0)
            end_all(ranks, "rank %d is gone without a word, last seen at %s: it was killed, or its machine or the "
                    "network failed" RANKS_ADVICE, rank, place(peer));
        peer->received += (size_t)n;
        if (peer->received == sizeof peer->coming) take(ranks, rank, now);
    }
}

// ---- judging ----

// As if all had been heard just now.
static void forgive(Ranks *ranks, double now) {
    for (int i = 0; i < ranks->peer_count; i++) ranks->peers[i].heard = ranks->peers[i].moved = now;
}

static void judge_silence(Ranks *ranks, double now) {
    for (int i = 0; i < ranks->peer_count; i++) {
        const Peer *peer = &ranks->peers[i];
        if (peer->watch >= 0 && !peer->left && now - peer->heard > ranks->timeout)
            end_all(ranks, "rank %d has been silent for %.0f s, last seen at %s: it was stopped, or its machine or the "
                    "network hangs" RANKS_ADVICE, i, now - peer->heard, place(peer));
    }
}

// Rank 0 knows where all are. Nobody is late while one is patient, or when some have left already.
static void judge_progress(Ranks *ranks, double now) {
    int last = 0, first = 0;
    bool excused = false;
    for (int i = 0; i < ranks->size; i++) {
        const Peer *peer = &ranks->peers[i];
        excused = excused || peer->left || peer->last.patient;
        if (peer->last.calls < ranks->peers[last].last.calls) last = i;
        if (peer->last.calls > ranks->peers[first].last.calls) first = i;
    }
    for (int i = 0; i < ranks->size && excused; i++) ranks->peers[i].moved = now;
    const Peer *late = &ranks->peers[last];
    double waited = now - late->moved;
    if (waited <= ranks->timeout) return;
    if (first == last)
        end_all(ranks, "no rank gets on: all have been at %s for %.0f s" RANKS_ADVICE, place(late), waited);
    end_all(ranks, "rank %d keeps the others waiting: it has been at %s for %.0f s, rank %d is at %s" RANKS_ADVICE,
            last, place(late), waited, first, place(&ranks->peers[first]));
}

void ranks_on_watch(Ranks *ranks, bool (*healthy)(void *context, Text *why), void *context) {
    if (!ranks) return;
    pthread_mutex_lock(&ranks->lock);
    ranks->healthy = healthy;
    ranks->healthy_context = context;
    pthread_mutex_unlock(&ranks->lock);
}

void ranks_on_fail(Ranks *ranks, void (*abort_work)(void *context), void *context) {
    if (!ranks) return;
    pthread_mutex_lock(&ranks->lock);
    ranks->abort_work = abort_work;
    ranks->abort_context = context;
    pthread_mutex_unlock(&ranks->lock);
}

static void judge_health(Ranks *ranks) {
    Text why = {0};
    pthread_mutex_lock(&ranks->lock);
    bool healthy = !ranks->healthy || ranks->healthy(ranks->healthy_context, &why);
    pthread_mutex_unlock(&ranks->lock);
    if (!healthy) end_all(ranks, "rank %d: %s" RANKS_ADVICE, ranks->rank, text_string(&why));
    text_close(&why);
}

// ---- the thread ----

static void wait_for_news(const Ranks *ranks, struct pollfd *items, double until) {
    for (int i = 0; i < ranks->peer_count; i++) {
        bool awaited = !ranks->peers[i].left;
        items[i] = (struct pollfd){.fd = awaited ? ranks->peers[i].watch : -1, .events = POLLIN};
    }
    items[ranks->peer_count] = (struct pollfd){.fd = ranks->wake, .events = POLLIN};
    socket_poll(items, (size_t)ranks->peer_count + 1, until);
}

// Tells where this rank is, where that is due; whether the job goes on.
static bool tell_place(Ranks *ranks, bool due, double now) {
    pthread_mutex_lock(&ranks->lock);
    bool goes_on = !ranks->closing;
    if (due && goes_on) tell_all(ranks, &ranks->own);
    if (ranks->rank == 0) note(&ranks->peers[0], &ranks->own, now);
    pthread_mutex_unlock(&ranks->lock);
    return goes_on;
}

static void *watch(void *argument) {
    Ranks *ranks = argument;
    double interval = fmax(0.2, fmin(1, ranks->timeout / 10)), next = 0, before = clock_seconds();
    struct pollfd *items = memory_take(ranks->peer_count + 1, sizeof *items, "connections of ranks");
    forgive(ranks, before);
    for (;;) {
        wait_for_news(ranks, items, next);
        double now = clock_seconds();
        // This process was stopped itself, perhaps with the others, and hears of them in a moment.
        if (now - before > ranks->timeout / 2) forgive(ranks, now);
        before = now;
        if (!tell_place(ranks, now >= next, now)) break;
        if (now >= next) judge_health(ranks);
        if (now >= next) next = now + interval;
        for (int i = 0; i < ranks->peer_count; i++) hear(ranks, i, now);
        judge_silence(ranks, now);
        if (ranks->rank == 0) judge_progress(ranks, now);
    }
    free(items);
    return NULL;
}

bool watch_open(Ranks *ranks, Errors *errors) {
    static bool registered;
    ranks->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (ranks->wake < 0 || !thread_start(&ranks->thread, watch, ranks))
        return errors_add(errors, EXIT_COMM, "no thread can be had to watch the other ranks");
    if (!registered) on_exit(tell_exit, NULL);
    registered = true;
    watched = ranks;
    return true;
}

void watch_close(Ranks *ranks) {
    pthread_mutex_lock(&ranks->lock);
    ranks->closing = true;
    tell_all(ranks, &(Beat){.kind = BEAT_LEAVES});
    pthread_mutex_unlock(&ranks->lock);
    ssize_t ignored = write(ranks->wake, &(uint64_t){1}, sizeof(uint64_t));
    (void)ignored;
    pthread_join(ranks->thread, NULL);
    watched = NULL;
}
