#include "comm/socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/text.h"

static const double attempt_seconds = 5, pause_seconds = 0.05;

static socklen_t address_size(const struct sockaddr_storage *address) {
    return address->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

static int open_socket(int family) { return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

static int close_failed(int descriptor) {
    int error = errno;
    if (descriptor >= 0) close(descriptor);
    errno = error;
    return -1;
}

static void send_at_once(int descriptor) {
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

// ---- waiting ----

int socket_poll(struct pollfd *items, size_t count, double deadline) {
    for (;;) {
        double seconds = fmax(deadline - clock_seconds(), 0);
        int n = poll(items, (nfds_t)count, isinf(seconds) ? -1 : (int)fmin(ceil(1000 * seconds), INT_MAX));
        if (n > 0 || (n < 0 && errno != EINTR) || (n == 0 && clock_seconds() >= deadline)) return n;
    }
}

static bool wait_for(int descriptor, short events, double deadline) {
    int n = socket_poll(&(struct pollfd){.fd = descriptor, .events = events}, 1, deadline);
    if (n == 0) errno = ETIMEDOUT;
    return n > 0;
}

bool socket_send(int descriptor, const void *bytes, size_t size, double deadline) {
    for (size_t sent = 0; sent < size;) {
        ssize_t n = send(descriptor, (const char *)bytes + sent, size - sent, MSG_NOSIGNAL);
        if (n >= 0) sent += (size_t)n;
        else if (errno == EAGAIN && !wait_for(descriptor, POLLOUT, deadline)) return false;
        else if (errno != EAGAIN && errno != EINTR) return false;
    }
    return true;
}

bool socket_receive(int descriptor, void *bytes, size_t size, double deadline) {
    for (size_t received = 0; received < size;) {
        ssize_t n = recv(descriptor, (char *)bytes + received, size - received, 0);
        if (n > 0) received += (size_t)n;
        else if (n == 0) return errno = ECONNRESET, false;
        else if (errno == EAGAIN && !wait_for(descriptor, POLLIN, deadline)) return false;
        else if (errno != EAGAIN && errno != EINTR) return false;
    }
    return true;
}

// ---- names ----

void socket_local(int descriptor, struct sockaddr_storage *address) {
    *address = (struct sockaddr_storage){0};
    getsockname(descriptor, (struct sockaddr *)address, &(socklen_t){sizeof *address});
}

static int port_of(const struct sockaddr_storage *address) {
    return ntohs(address->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)address)->sin6_port
                                                : ((const struct sockaddr_in *)address)->sin_port);
}

int socket_port(int descriptor) {
    struct sockaddr_storage address;
    socket_local(descriptor, &address);
    return port_of(&address);
}

bool socket_is_loopback(int descriptor) {
    struct sockaddr_storage address;
    socket_local(descriptor, &address);
    if (address.ss_family == AF_INET6) return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)&address)->sin6_addr);
    return ntohl(((const struct sockaddr_in *)&address)->sin_addr.s_addr) >> IN_CLASSA_NSHIFT == IN_LOOPBACKNET;
}

const char *socket_peer(int descriptor, char out[SOCKET_NAME]) {
    struct sockaddr_storage address = {0};
    char host[INET6_ADDRSTRLEN] = "?";
    getpeername(descriptor, (struct sockaddr *)&address, &(socklen_t){sizeof address});
    bool wide = address.ss_family == AF_INET6;
    inet_ntop(wide ? AF_INET6 : AF_INET, wide ? (void *)&((struct sockaddr_in6 *)&address)->sin6_addr
                                              : (void *)&((struct sockaddr_in *)&address)->sin_addr, host, sizeof host);
    snprintf(out, SOCKET_NAME, wide ? "[%s]:%d" : "%s:%d", host, port_of(&address));
    return out;
}

// ---- listening ----

int socket_listen_at(const struct sockaddr_storage *address) {
    int descriptor = open_socket(address->ss_family);
    if (descriptor < 0) return -1;
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    bool listens = bind(descriptor, (const struct sockaddr *)address, address_size(address)) == 0 &&
                   listen(descriptor, SOMAXCONN) == 0;
    return listens ? descriptor : close_failed(descriptor);
}

// The addresses of a host; NULL and the reason.
static struct addrinfo *find_addresses(const char *host, int port, const char **reason) {
    char service[16];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *found = NULL;
    snprintf(service, sizeof service, "%d", port);
    int error = getaddrinfo(host, service, &hints, &found);
    if (error) *reason = error == EAI_SYSTEM ? strerror(errno) : gai_strerror(error);
    return error ? NULL : found;
}

static void store_address(struct sockaddr_storage *out, const struct addrinfo *item) {
    *out = (struct sockaddr_storage){0};
    memcpy(out, item->ai_addr, item->ai_addrlen);
}

int socket_listen(const char *host, int port, const char **reason) {
    int descriptor = -1;
    struct addrinfo *found = find_addresses(host, port, reason);
    for (const struct addrinfo *item = found; item && descriptor < 0; item = item->ai_next) {
        struct sockaddr_storage address;
        store_address(&address, item);
        descriptor = socket_listen_at(&address);
        if (descriptor < 0) *reason = strerror(errno);
    }
    if (found) freeaddrinfo(found);
    return descriptor;
}

int socket_accept(int listener) {
    int descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (descriptor >= 0) send_at_once(descriptor);
    return descriptor;
}

// ---- connecting ----

// A port of this machine that nobody listens at may be given to the very socket that connects to it.
static bool met_itself(int descriptor) {
    struct sockaddr_storage local, other = {0};
    socket_local(descriptor, &local);
    getpeername(descriptor, (struct sockaddr *)&other, &(socklen_t){sizeof other});
    return memcmp(&local, &other, sizeof local) == 0;
}

int socket_connect_to(const struct sockaddr_storage *address, double deadline) {
    int error = 0, descriptor = open_socket(address->ss_family);
    if (descriptor < 0) return -1;
    if (connect(descriptor, (const struct sockaddr *)address, address_size(address)) != 0) {
        if (errno != EINPROGRESS || !wait_for(descriptor, POLLOUT, deadline)) return close_failed(descriptor);
        getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){sizeof error});
    }
    if (!error && met_itself(descriptor)) error = ECONNREFUSED;
    if (error) return errno = error, close_failed(descriptor);
    send_at_once(descriptor);
    return descriptor;
}

int socket_connect(const char *host, int port, double deadline, const char **reason) {
    for (;;) {
        int descriptor = -1;
        struct addrinfo *found = find_addresses(host, port, reason);
        for (const struct addrinfo *item = found; item && descriptor < 0; item = item->ai_next) {
            struct sockaddr_storage address;
            store_address(&address, item);
            descriptor = socket_connect_to(&address, fmin(deadline, clock_seconds() + attempt_seconds));
            if (descriptor < 0) *reason = strerror(errno);
        }
        if (found) freeaddrinfo(found);
        if (descriptor >= 0 || clock_seconds() >= deadline) return descriptor;
        nanosleep(&(struct timespec){.tv_nsec = (long)(1e9 * pause_seconds)}, NULL);
    }
}
