#include "comm/ranks.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "comm/ranks_internal.h"

// ---- open and close ----

Ranks *ranks_open(const Launch *launch, double timeout, Errors *errors) {
    Hello self;
    if (launch->size == 1) return NULL;
    hello_fill(&self, launch);
    return ranks_meet(launch, &self, timeout, errors);
}

void ranks_free(Ranks *ranks) {
    for (int i = 0; i < ranks->peer_count; i++) {
        if (ranks->peers[i].control >= 0) close(ranks->peers[i].control);
        if (ranks->peers[i].watch >= 0) close(ranks->peers[i].watch);
    }
    if (ranks->wake >= 0) close(ranks->wake);
    pthread_mutex_destroy(&ranks->lock);
    free(ranks->peers);
    free(ranks);
}

int ranks_rank(const Ranks *ranks) { return ranks ? ranks->rank : 0; }
int ranks_size(const Ranks *ranks) { return ranks ? ranks->size : 1; }

// ---- the end of all ----

static _Noreturn void fail_with(Ranks *ranks, const char *format, va_list arguments) {
    Text own = {0}, others = {0};
    text_vprintf(&own, format, arguments);
    if (!ranks) error_die(EXIT_COMM, "%s", text_string(&own));
    text_printf(&others, "rank %d: %s", ranks->rank, text_string(&own));
    watch_fail(ranks, text_string(&own), text_string(&others));
}

void ranks_fail(Ranks *ranks, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fail_with(ranks, format, arguments);
}

void ranks_lost(Ranks *ranks, const char *format, ...) {
    va_list arguments;
    struct timespec left = {.tv_sec = 1};
    if (ranks)
        while (nanosleep(&left, &left) != 0 && errno == EINTR) continue;
    va_start(arguments, format);
    fail_with(ranks, format, arguments);
}

// ---- where this rank is ----

static void set_place(Ranks *ranks, const char *format, va_list arguments) {
    char text[sizeof ranks->own.text];
    vsnprintf(text, sizeof text, format, arguments);
    pthread_mutex_lock(&ranks->lock);
    memcpy(ranks->own.text, text, sizeof text);
    ranks->own.calls++;
    pthread_mutex_unlock(&ranks->lock);
}

void ranks_at(Ranks *ranks, const char *format, ...) {
    if (!ranks) return;
    va_list arguments;
    va_start(arguments, format);
    set_place(ranks, format, arguments);
    va_end(arguments);
}

void ranks_patient(Ranks *ranks, bool patient) {
    if (!ranks) return;
    pthread_mutex_lock(&ranks->lock);
    ranks->own.patient = patient;
    pthread_mutex_unlock(&ranks->lock);
}

// ---- messages between rank 0 and the others ----

// What a message belongs to; both sides must be in the same call.
typedef enum { CALL_ANY = 1, CALL_SHARE, CALL_COLLECT, CALL_SAME, CALL_CLOSE } Call;
typedef struct {
    uint32_t call, unused;
    uint64_t size;
} Header;
static const uint64_t message_limit = 1ull << 30;

static _Noreturn void lose(Ranks *ranks, int other) {
    ranks_lost(ranks, "its connection to rank %d was cut: %s" RANKS_ADVICE, other, strerror(errno));
}

static void put(Ranks *ranks, int other, Call call, const void *bytes, size_t size) {
    int socket = ranks->peers[other].control;
    Header header = {.call = call, .size = size};
    if (!socket_send(socket, &header, sizeof header, INFINITY) || !socket_send(socket, bytes, size, INFINITY))
        lose(ranks, other);
}

static void get(Ranks *ranks, int other, Call call, Text *text) {
    int socket = ranks->peers[other].control;
    Header header;
    char part[1 << 14];
    text_clear(text);
    if (!socket_receive(socket, &header, sizeof header, INFINITY)) lose(ranks, other);
    if (header.call != call || header.size > message_limit)
        ranks_fail(ranks, "rank %d makes another call, %u not %u: a defect of the program, please report it", other,
                   header.call, (unsigned)call);
    for (uint64_t left = header.size; left > 0;) {
        size_t size = left < sizeof part ? left : sizeof part;
        if (!socket_receive(socket, part, size, INFINITY)) lose(ranks, other);
        text_append(text, part, size);
        left -= size;
    }
}

static void put_all(Ranks *ranks, Call call, const void *bytes, size_t size) {
    for (int rank = 1; rank < ranks->size; rank++) put(ranks, rank, call, bytes, size);
}

static void get_bits(Ranks *ranks, int other, Call call, Text *room, unsigned *bits) {
    unsigned got;
    get(ranks, other, call, room);
    if (room->size != sizeof got) ranks_fail(ranks, "rank %d sent %zu bytes, not %zu", other, room->size, sizeof got);
    memcpy(&got, room->data, sizeof got);
    *bits |= got;
}

static unsigned any(Ranks *ranks, Call call, unsigned bits) {
    Text room = {0};
    for (int rank = 1; rank < ranks->size && ranks->rank == 0; rank++) get_bits(ranks, rank, call, &room, &bits);
    if (ranks->rank == 0) {
        put_all(ranks, call, &bits, sizeof bits);
    } else {
        put(ranks, 0, call, &bits, sizeof bits);
        get_bits(ranks, 0, call, &room, &bits);
    }
    text_close(&room);
    return bits;
}

// ---- calls ----

unsigned ranks_any(Ranks *ranks, unsigned bits) {
    if (!ranks) return bits;
    ranks_at(ranks, "agreement of all ranks");
    return any(ranks, CALL_ANY, bits);
}

void ranks_share(Ranks *ranks, Text *text) {
    if (!ranks) return;
    ranks_at(ranks, "news from rank 0");
    if (ranks->rank == 0) put_all(ranks, CALL_SHARE, text->data, text->size);
    else get(ranks, 0, CALL_SHARE, text);
}

void ranks_collect(Ranks *ranks, const Text *text, Text *out) {
    ranks_at(ranks, "news for rank 0");
    if (ranks_rank(ranks) > 0) {
        put(ranks, 0, CALL_COLLECT, text->data, text->size);
        return;
    }
    out[0] = (Text){0};
    text_append(&out[0], text->data, text->size);
    for (int rank = 1; rank < ranks_size(ranks); rank++) {
        out[rank] = (Text){0};
        get(ranks, rank, CALL_COLLECT, &out[rank]);
    }
}

// ---- the same text ----

// The line at `text`, which is NULL behind the last one, with quotes.
static void add_line(Text *out, const char *text) {
    Text line = {0};
    if (text) text_append(&line, text, strcspn(text, "\n"));
    text_add(out, text ? "\"" : "missing");
    if (text) text_excerpt(out, text_string(&line));
    if (text) text_add(out, "\"");
    text_close(&line);
}

static const char *next_line(const char *text) {
    const char *end = strchr(text, '\n');
    return end ? end + 1 : NULL;
}

static bool same_line(const char *a, const char *b) {
    size_t size = strcspn(a, "\n");
    return size == strcspn(b, "\n") && memcmp(a, b, size) == 0;
}

// The first line in which two texts differ, as they do.
static void tell_difference(Text *out, const char *what, int rank, const char *theirs, const char *ours) {
    int64_t line = 1;
    for (; theirs && ours && same_line(theirs, ours); line++) theirs = next_line(theirs), ours = next_line(ours);
    text_printf(out, "%s: line %ld of rank %d is ", what, line, rank);
    add_line(out, theirs);
    text_add(out, ", of rank 0 ");
    add_line(out, ours);
    text_add(out, "; it must be the same on all ranks");
}

void ranks_same(Ranks *ranks, const char *what, const char *text) {
    if (!ranks) return;
    Text verdict = {0}, theirs = {0};
    ranks_at(ranks, "comparison of the %s", what);
    for (int rank = 1; rank < ranks->size && ranks->rank == 0; rank++) {
        get(ranks, rank, CALL_SAME, &theirs);
        if (verdict.size == 0 && strcmp(text_string(&theirs), text) != 0)
            tell_difference(&verdict, what, rank, text_string(&theirs), text);
    }
    if (ranks->rank == 0) {
        put_all(ranks, CALL_SAME, verdict.data, verdict.size);
    } else {
        put(ranks, 0, CALL_SAME, text, strlen(text));
        get(ranks, 0, CALL_SAME, &verdict);
    }
    if (verdict.size) watch_fail(ranks, text_string(&verdict), text_string(&verdict));
    text_close(&verdict);
    text_close(&theirs);
}

void ranks_close(Ranks *ranks) {
    if (!ranks) return;
    REQUIRE(!ranks->healthy && !ranks->abort_work, "collectives of these ranks are still open");
    ranks_at(ranks, "the end");
    any(ranks, CALL_CLOSE, 0);
    watch_close(ranks);
    ranks_free(ranks);
}
