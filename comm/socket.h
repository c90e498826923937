// TCP sockets: whole messages, deadlines. Descriptors do not block and are closed on exec. A deadline is a time of
// clock_seconds, INFINITY for none. What fails sets errno: ETIMEDOUT behind the deadline, ECONNRESET where the other
// side closed.
#pragma once

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

enum { SOCKET_NAME = 64 };

// Listens at an address of `host` (port 0: any that is free) or at this very address; -1 and the reason.
int socket_listen(const char *host, int port, const char **reason);
int socket_listen_at(const struct sockaddr_storage *address);
int socket_accept(int listener); // -1: nobody waits

// Tries until the deadline, names that are not known and refused connections too; -1 and the last reason.
int socket_connect(const char *host, int port, double deadline, const char **reason);
int socket_connect_to(const struct sockaddr_storage *address, double deadline);

bool socket_send(int socket, const void *bytes, size_t size, double deadline);
bool socket_receive(int socket, void *bytes, size_t size, double deadline);
int socket_poll(struct pollfd *items, size_t count, double deadline); // poll(2), whatever signals come

void socket_local(int socket, struct sockaddr_storage *address);
int socket_port(int socket); // its own
bool socket_is_loopback(int socket); // whether only this machine reaches its own address
const char *socket_peer(int socket, char out[SOCKET_NAME]); // "10.0.0.1:43210"
