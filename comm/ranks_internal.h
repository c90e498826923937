// What the files of ranks share: how they meet (rendezvous.c), the thread that watches (watch.c), what they agree on
// (ranks.c) and the ring of the row host (ring.c).
#pragma once

#include <pthread.h>

#include "comm/ranks.h"
#include "comm/socket.h"
#include "runtime/file.h"

// ---- meeting ----

typedef enum { CHANNEL_CONTROL, CHANNEL_WATCH, CHANNEL_RING } Channel;

// The first words on a connection, and what must be the same on all ranks: secret (hashed), size and program. This
// layout stays as it is, so that different versions of the program can tell each other so.
typedef struct {
    char magic[8];
    int32_t channel, rank, size;
    char secret[40], program[40]; // hexadecimal
    char version[188];
} Hello;

// A connection to a listener, from whom its first words are or were awaited.
typedef enum { VISITOR_COMES, VISITOR_IS_HERE, VISITOR_IS_KNOWN, VISITOR_IS_GONE } VisitorState;
typedef struct {
    int socket;
    VisitorState state;
    size_t received;
    Hello hello;
} Visitor;
typedef struct {
    Visitor *items;
    int64_t count, capacity;
    int64_t silent_limit; // strangers that may say nothing
} Visitors;
enum { VISITORS_SILENT = 64 };

// Waits until something happens, or the deadline: then it is false. Who is new becomes VISITOR_IS_HERE, who left, and
// was known, VISITOR_IS_GONE. Those that send something else are closed, as are the oldest of too many silent ones.
bool visitors_wait(Visitors *visitors, int listener, double deadline);
void visitors_close(Visitors *visitors);

void hello_fill(Hello *hello, const Launch *launch); // with this program
// Connects all to rank 0, which checks that they belong together. NULL and a message that says what does not.
Ranks *ranks_meet(const Launch *launch, const Hello *self, double timeout, Errors *errors);
void ranks_free(Ranks *ranks); // closes what is open

// ---- watching ----

typedef enum { BEAT_LIVES, BEAT_LEAVES, BEAT_ENDS } BeatKind;

// What is sent once in a while, and at the end.
typedef struct {
    int32_t kind, exit_code, patient, unused;
    uint64_t calls; // of ranks_at
    char text[488]; // where it is; of BEAT_ENDS why all ranks end, or nothing
} Beat;

// Another rank, as this one knows it.
typedef struct {
    int control, watch; // sockets; -1: none
    bool left;          // as all do when the job is over
    Beat coming, last;  // `coming` as far as it was received
    size_t received;
    double heard, moved; // clock_seconds: of the last beat, of the last one with other `calls`
} Peer;

struct Ranks {
    int rank, size;
    double timeout;
    Hello self;
    Peer *peers; // by rank; rank 0 has all, with itself; others have rank 0
    int peer_count;
    pthread_t thread;
    int wake;             // eventfd of the thread
    pthread_mutex_t lock; // of what follows and of sending on `watch`
    Beat own;
    bool closing, ending;
    bool (*healthy)(void *context, Text *why); // or NULL, as is `abort_work`
    void (*abort_work)(void *context);
    void *healthy_context, *abort_context;
};

// The message of all that end because of another one goes on with this.
#define RANKS_ADVICE "; all ranks end; continue with --resume"

bool watch_open(Ranks *ranks, Errors *errors);
void watch_close(Ranks *ranks);
// Ends this process with 71: `own` is printed, the others print `others`.
_Noreturn void watch_fail(Ranks *ranks, const char *own, const char *others);

// ---- for rows ----

// A connection to the next rank and one from the previous. False and a message.
bool ring_connect(Ranks *ranks, int *next, int *previous, Errors *errors);
bool hello_send(const Hello *self, Channel channel, int socket, double deadline);
