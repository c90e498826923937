// Rank 0 listens, the others connect, twice each; every connection begins with a Hello. When all are there, or one does
// not belong to them, or the time is up, rank 0 answers all of them on their control connections.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "comm/ranks_internal.h"
#include "runtime/memory.h"
#include "runtime/version.h"

static const char magic[8] = "thalweg";
// The answer comes late where rank 0 began later; and who fails tells those that are about to come.
static const double late_seconds = 1;

typedef struct {
    char magic[8];
    int32_t accepted, unused;
    char words[496]; // why not
} Answer;

void hello_fill(Hello *hello, const Launch *launch) {
    char hash[HASH_HEX] = "";
    uint64_t size;
    Errors unread = {0};
    *hello = (Hello){.rank = launch->rank, .size = launch->size};
    memcpy(hello->magic, magic, sizeof magic);
    bytes_hash(launch->secret, strlen(launch->secret), hash);
    memcpy(hello->secret, hash, sizeof hash);
    if (!file_hash("/proc/self/exe", hash, &size, EXIT_COMM, &unread)) *hash = 0; // then versions are compared alone
    memcpy(hello->program, hash, sizeof hash);
    strncpy(hello->version, version_string(), sizeof hello->version - 1);
    errors_close(&unread);
}

bool hello_send(const Hello *self, Channel channel, int socket, double deadline) {
    Hello hello = *self;
    hello.channel = (int32_t)channel;
    return socket_send(socket, &hello, sizeof hello, deadline);
}

// ---- visitors ----

static void remove_visitor(Visitors *visitors, int64_t i) {
    close(visitors->items[i].socket);
    memmove(visitors->items + i, visitors->items + i + 1, (size_t)(--visitors->count - i) * sizeof *visitors->items);
}

static void add_visitor(Visitors *visitors, int socket) {
    int64_t silent = 0, oldest = -1;
    for (int64_t i = visitors->count - 1; i >= 0; i--)
        if (visitors->items[i].state == VISITOR_COMES) silent++, oldest = i;
    if (silent > 0 && silent >= visitors->silent_limit) remove_visitor(visitors, oldest);
    visitors->items = memory_room(visitors->items, visitors->count + 1, &visitors->capacity, sizeof *visitors->items,
                                  "connections");
    visitors->items[visitors->count++] = (Visitor){.socket = socket};
}

// Reads as much of a hello as there is. False: this is nobody of ours.
static bool listen_to(Visitor *visitor) {
    char *bytes = (char *)&visitor->hello, unexpected;
    if (visitor->state != VISITOR_COMES) {
        bool there = recv(visitor->socket, &unexpected, 1, MSG_PEEK) < 0 && (errno == EAGAIN || errno == EINTR);
        if (!there) visitor->state = VISITOR_IS_GONE;
        return true;
    }
    ssize_t n = recv(visitor->socket, bytes + visitor->received, sizeof visitor->hello - visitor->received, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return true;
    if (n <= 0) return false;
    visitor->received += (size_t)n;
    size_t known = visitor->received < sizeof magic ? visitor->received : sizeof magic;
    if (memcmp(bytes, magic, known) != 0) return false;
    if (visitor->received == sizeof visitor->hello) visitor->state = VISITOR_IS_HERE;
    return true;
}

bool visitors_wait(Visitors *visitors, int listener, double deadline) {
    int64_t count = visitors->count;
    struct pollfd *items = memory_take(count + 1, sizeof *items, "connections");
    for (int64_t i = 0; i < count; i++) {
        bool awaited = visitors->items[i].state != VISITOR_IS_GONE;
        items[i] = (struct pollfd){.fd = awaited ? visitors->items[i].socket : -1, .events = POLLIN};
    }
    items[count] = (struct pollfd){.fd = listener, .events = POLLIN};
    int ready = socket_poll(items, (size_t)count + 1, deadline);
    for (int64_t i = count - 1; i >= 0 && ready > 0; i--)
        if (items[i].revents && !listen_to(&visitors->items[i])) remove_visitor(visitors, i);
    if (ready > 0 && items[count].revents)
        for (int socket; (socket = socket_accept(listener)) >= 0;) add_visitor(visitors, socket);
    free(items);
    return ready > 0;
}

void visitors_close(Visitors *visitors) {
    while (visitors->count > 0) remove_visitor(visitors, visitors->count - 1);
    free(visitors->items);
    *visitors = (Visitors){0};
}

// ---- rank 0 ----

typedef struct {
    const Launch *launch;
    const Hello *self;
    Ranks *ranks;
    Visitors visitors;
    int missing;  // connections
    Text trouble; // why these ranks cannot go on
} Meeting;

// Other bytes than these may follow a string from a stranger.
static void end_strings(Hello *hello) {
    hello->secret[sizeof hello->secret - 1] = hello->program[sizeof hello->program - 1] = 0;
    hello->version[sizeof hello->version - 1] = 0;
}

static void check_visitor(Text *trouble, Visitor *visitor, const Hello *self) {
    char address[SOCKET_NAME];
    Hello *hello = &visitor->hello;
    Text version = {0};
    end_strings(hello);
    text_excerpt(&version, hello->version);
    socket_peer(visitor->socket, address);
    if (strcmp(hello->secret, self->secret) != 0)
        text_printf(trouble, "%s, which calls itself rank %d, has another secret than rank 0: it is of another job, or "
                    "THALWEG_SECRET is not the same on all ranks", address, hello->rank);
    else if (hello->size != self->size)
        text_printf(trouble, "rank %d (%s) is one of %d ranks, rank 0 one of %d: start all of them alike", hello->rank,
                    address, hello->size, self->size);
    else if (hello->rank < 1 || hello->rank >= self->size ||
             (hello->channel != CHANNEL_CONTROL && hello->channel != CHANNEL_WATCH))
        text_printf(trouble, "%s calls itself rank %d of %d", address, hello->rank, self->size);
    else if (strcmp(hello->program, self->program) != 0 || strcmp(hello->version, self->version) != 0)
        text_printf(trouble, "rank %d (%s) runs another program than rank 0: %s (%.8s), not %s (%.8s)", hello->rank,
                    address, text_string(&version), hello->program, self->version, self->program);
    text_close(&version);
}

static int *place_of(Meeting *meeting, const Hello *hello) {
    Peer *peer = &meeting->ranks->peers[hello->rank];
    return hello->channel == CHANNEL_CONTROL ? &peer->control : &peer->watch;
}

// The first trouble is kept.
static void look_at(Meeting *meeting, Visitor *visitor) {
    char address[SOCKET_NAME];
    const Hello *hello = &visitor->hello;
    Text trouble = {0};
    if (visitor->state == VISITOR_IS_GONE) {
        text_printf(&trouble, "rank %d ended while not all ranks had come; see its own message", hello->rank);
    } else if (visitor->state == VISITOR_IS_HERE) {
        visitor->state = VISITOR_IS_KNOWN;
        check_visitor(&trouble, visitor, meeting->self);
        int *place = trouble.size ? NULL : place_of(meeting, hello);
        if (place && *place >= 0)
            text_printf(&trouble, "there are two ranks %d; the second came from %s", hello->rank,
                        socket_peer(visitor->socket, address));
        else if (place)
            *place = visitor->socket, meeting->missing--;
    }
    if (meeting->trouble.size == 0) text_append(&meeting->trouble, trouble.data, trouble.size);
    text_close(&trouble);
}

static void tell_missing(Meeting *meeting, double timeout) {
    int missing = 0, told = 0;
    for (int rank = 1; rank < meeting->ranks->size; rank++)
        if (meeting->ranks->peers[rank].watch < 0) missing++;
    text_add(&meeting->trouble, missing == 1 ? "rank" : "ranks");
    for (int rank = 1; rank < meeting->ranks->size && told < 16; rank++)
        if (meeting->ranks->peers[rank].watch < 0)
            text_printf(&meeting->trouble, "%s %d", told++ ? "," : "", rank);
    if (missing > told) text_printf(&meeting->trouble, " and %d more", missing - told);
    text_printf(&meeting->trouble, " did not come to %s:%d within %g s", meeting->launch->host, meeting->launch->port,
                timeout);
}

static void answer_all(Meeting *meeting) {
    Answer answer = {.accepted = meeting->trouble.size == 0};
    memcpy(answer.magic, magic, sizeof magic);
    strncpy(answer.words, text_string(&meeting->trouble), sizeof answer.words - 1);
    for (int64_t i = 0; i < meeting->visitors.count; i++) {
        const Visitor *visitor = &meeting->visitors.items[i];
        if (visitor->state == VISITOR_IS_KNOWN && visitor->hello.channel == CHANNEL_CONTROL)
            socket_send(visitor->socket, &answer, sizeof answer, clock_seconds() + late_seconds);
    }
}

// Sockets of ranks leave the list of visitors; the rest is closed.
static void keep_sockets(Meeting *meeting, bool all_are_here) {
    for (int rank = 0; rank < meeting->ranks->size && !all_are_here; rank++)
        meeting->ranks->peers[rank] = (Peer){.control = -1, .watch = -1};
    for (int64_t i = meeting->visitors.count - 1; i >= 0; i--) {
        Visitor *visitor = &meeting->visitors.items[i];
        if (!all_are_here || visitor->state != VISITOR_IS_KNOWN) remove_visitor(&meeting->visitors, i);
    }
    if (all_are_here) meeting->visitors.count = 0;
    visitors_close(&meeting->visitors);
}

// Each rank is two sockets here.
static void allow_sockets(int size) {
    struct rlimit limit;
    rlim_t wanted = (rlim_t)(4 * size + 1024);
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) return;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static bool means_loopback(const char *host) {
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0 || strcmp(host, "localhost") == 0;
}

static int listen_for_all(const Launch *launch, Errors *errors) {
    const char *reason = "";
    if (launch->listener >= 0) return launch->listener;
    int listener = socket_listen(launch->host, launch->port, &reason);
    if (listener < 0) {
        errors_add(errors, EXIT_COMM, "rank 0: cannot listen at %s:%d: %s; rank 0 must be where that host is, and the "
                   "port must be free: set THALWEG_PORT or MASTER_PORT to another one on all ranks", launch->host,
                   launch->port, reason);
    } else if (socket_is_loopback(listener) && launch->size > launch->local_size && !means_loopback(launch->host)) {
        errors_add(errors, EXIT_COMM, "rank 0: %s is an address of this machine alone, as /etc/hosts has it; set "
                   "THALWEG_RENDEZVOUS=ADDRESS:PORT on all ranks to one that other machines reach", launch->host);
        close(listener);
        return -1;
    }
    return listener;
}

static bool gather_ranks(Meeting *meeting, double timeout, Errors *errors) {
    double deadline = clock_seconds() + timeout;
    allow_sockets(meeting->ranks->size);
    int listener = listen_for_all(meeting->launch, errors);
    if (listener < 0) return false;
    meeting->missing = 2 * (meeting->ranks->size - 1);
    meeting->visitors.silent_limit = VISITORS_SILENT + meeting->missing;
    while (meeting->missing > 0 && visitors_wait(&meeting->visitors, listener, deadline)) {
        bool trouble_before = meeting->trouble.size > 0;
        for (int64_t i = 0; i < meeting->visitors.count; i++) look_at(meeting, &meeting->visitors.items[i]);
        if (meeting->trouble.size && !trouble_before && deadline > clock_seconds() + late_seconds)
            deadline = clock_seconds() + late_seconds;
    }
    if (meeting->trouble.size == 0 && meeting->missing > 0) tell_missing(meeting, timeout);
    close(listener);
    answer_all(meeting);
    keep_sockets(meeting, meeting->trouble.size == 0);
    if (meeting->trouble.size) errors_add(errors, EXIT_COMM, "rank 0: %s", text_string(&meeting->trouble));
    return meeting->trouble.size == 0;
}

// ---- the others ----

static bool join_rank_0(const Launch *launch, const Hello *self, Peer *peer, double timeout, Errors *errors) {
    Answer answer;
    const char *reason = "";
    double deadline = clock_seconds() + timeout;
    peer->control = socket_connect(launch->host, launch->port, deadline, &reason);
    if (peer->control >= 0) peer->watch = socket_connect(launch->host, launch->port, deadline, &reason);
    if (peer->watch < 0)
        return errors_add(errors, EXIT_COMM, "cannot reach rank 0 at %s:%d within %g s: %s", launch->host,
                          launch->port, timeout, reason);
    bool answered = hello_send(self, CHANNEL_CONTROL, peer->control, deadline) &&
                    hello_send(self, CHANNEL_WATCH, peer->watch, deadline) &&
                    socket_receive(peer->control, &answer, sizeof answer, deadline + 2 * late_seconds);
    if (!answered && errno == ETIMEDOUT)
        return errors_add(errors, EXIT_COMM, "rank 0 at %s:%d did not answer within %g s", launch->host, launch->port,
                          timeout);
    if (!answered || memcmp(answer.magic, magic, sizeof magic) != 0)
        return errors_add(errors, EXIT_COMM, "no answer of rank 0 at %s:%d: it ended (see its own message) or another "
                          "program listens there", launch->host, launch->port);
    answer.words[sizeof answer.words - 1] = 0;
    return answer.accepted || errors_add(errors, EXIT_COMM, "%s", answer.words);
}

// ---- both ----

static Ranks *make_ranks(const Launch *launch, const Hello *self, double timeout) {
    Ranks *ranks = memory_take(1, sizeof *ranks, "ranks");
    *ranks = (Ranks){.rank = launch->rank, .size = launch->size, .timeout = timeout, .self = *self, .wake = -1};
    ranks->peer_count = launch->rank == 0 ? launch->size : 1;
    ranks->peers = memory_take(ranks->peer_count, sizeof *ranks->peers, "ranks");
    for (int i = 0; i < ranks->peer_count; i++) ranks->peers[i].control = ranks->peers[i].watch = -1;
    pthread_mutex_init(&ranks->lock, NULL);
    return ranks;
}

Ranks *ranks_meet(const Launch *launch, const Hello *self, double timeout, Errors *errors) {
    Ranks *ranks = make_ranks(launch, self, timeout);
    Meeting meeting = {.launch = launch, .self = self, .ranks = ranks};
    bool met = launch->rank == 0 ? gather_ranks(&meeting, timeout, errors)
                                 : join_rank_0(launch, self, &ranks->peers[0], timeout, errors);
    text_close(&meeting.trouble);
    if (met && watch_open(ranks, errors)) return ranks;
    ranks_free(ranks);
    return NULL;
}
