// The connections of the ring by which the row host sends tensors: each rank connects to the next one.
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/ranks_internal.h"
#include "runtime/memory.h"

// At the address by which rank 0 and this rank know each other, at any port.
static int listen_here(const Ranks *ranks, Errors *errors) {
    struct sockaddr_storage address;
    socket_local(ranks->peers[ranks->rank == 0 ? 1 : 0].control, &address);
    if (address.ss_family == AF_INET6) ((struct sockaddr_in6 *)&address)->sin6_port = 0;
    else ((struct sockaddr_in *)&address)->sin_port = 0;
    int listener = socket_listen_at(&address);
    if (listener < 0)
        errors_add(errors, EXIT_COMM, "no port to listen at can be had: %s", strerror(errno));
    return listener;
}

// Where each rank listens, one sockaddr_storage behind the other.
static void exchange_addresses(Ranks *ranks, int listener, Text *out) {
    struct sockaddr_storage address;
    Text own = {0}, *all = memory_take(ranks->size, sizeof *all, "addresses of ranks");
    socket_local(listener, &address);
    text_append(&own, &address, sizeof address);
    ranks_collect(ranks, &own, all);
    for (int rank = 0; rank < ranks->size; rank++) {
        text_append(out, all[rank].data, all[rank].size);
        text_close(&all[rank]);
    }
    ranks_share(ranks, out);
    text_close(&own);
    free(all);
}

// Strangers may come as well.
static int accept_from(const Ranks *ranks, int previous, int listener, double deadline) {
    Visitors visitors = {.silent_limit = VISITORS_SILENT};
    int found = -1;
    while (found < 0 && visitors_wait(&visitors, listener, deadline))
        for (int64_t i = 0; i < visitors.count; i++) {
            Visitor *visitor = &visitors.items[i];
            const Hello *hello = &visitor->hello;
            bool ours = visitor->state == VISITOR_IS_HERE && hello->channel == CHANNEL_RING && found < 0 &&
                        hello->rank == previous && memcmp(hello->secret, ranks->self.secret, sizeof hello->secret) == 0;
            if (ours) found = fcntl(visitor->socket, F_DUPFD_CLOEXEC, 0);
            if (visitor->state == VISITOR_IS_HERE) visitor->state = VISITOR_IS_KNOWN;
        }
    visitors_close(&visitors);
    return found;
}

static int connect_to(const Ranks *ranks, const struct sockaddr_storage *address, double deadline) {
    int descriptor = socket_connect_to(address, deadline);
    if (descriptor >= 0 && hello_send(&ranks->self, CHANNEL_RING, descriptor, deadline)) return descriptor;
    if (descriptor >= 0) close(descriptor);
    return -1;
}

bool ring_connect(Ranks *ranks, int *next, int *previous, Errors *errors) {
    int after = (ranks->rank + 1) % ranks->size, before = (ranks->rank + ranks->size - 1) % ranks->size;
    double deadline = clock_seconds() + ranks->timeout;
    struct sockaddr_storage address;
    Text addresses = {0};
    *next = *previous = -1;
    int listener = listen_here(ranks, errors);
    if (listener < 0) return false;
    exchange_addresses(ranks, listener, &addresses);
    REQUIRE(addresses.size == (size_t)ranks->size * sizeof address, "%zu bytes of addresses", addresses.size);
    memcpy(&address, addresses.data + (size_t)after * sizeof address, sizeof address);
    text_close(&addresses);
    *next = connect_to(ranks, &address, deadline);
    if (*next < 0)
        errors_add(errors, EXIT_COMM, "cannot connect to rank %d: %s; between ranks all ports must be open", after,
                   strerror(errno));
    else if ((*previous = accept_from(ranks, before, listener, deadline)) < 0)
        errors_add(errors, EXIT_COMM, "rank %d did not connect within %g s; between ranks all ports must be open",
                   before, ranks->timeout);
    if (*next >= 0 && *previous < 0) close(*next);
    close(listener);
    return *previous >= 0;
}
