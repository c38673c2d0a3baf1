/* A server that works on each request for a given time, looking at the clock, and answers the same bytes: what the machine,
 * the network and the load generator do to latencies when nothing else is to blame.
 *
 * constant PORT MICROSECONDS. One thread, which sleeps only where nothing has come for a millisecond. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common.h"

#define EVENTS 64
#define ROOM (1 << 22) /* of a request */

static const char ANSWER[] =
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 58\r\n\r\n"
    "{\"predictions\":[0.041234567890123456],\"model_version\":\"c\"}";

typedef struct {
    int socket;
    size_t used;
    char received[ROOM];
} Connection;

/* Whether what came is a request, whole. */
static int is_whole(const Connection *c) {
    const char *end = memmem(c->received, c->used, "\r\n\r\n", 4), *length = strcasestr(c->received, "\r\ncontent-length:");
    if (end == NULL) return 0;
    size_t body = length == NULL || length > end ? 0 : strtoul(length + 17, NULL, 10);
    return c->used >= (size_t)(end - c->received) + 4 + body;
}

int main(int argc, char **argv) {
    if (argc != 3) return fprintf(stderr, "see the source\n"), 2;
    double work = 1e-6 * atof(argv[2]);
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons((uint16_t)atoi(argv[1]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 256) < 0) fail("listen");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[EVENTS];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    double came = 0;
    for (;;) {
        int n = epoll_wait(epoll, events, EVENTS, now() < came + 1e-3 ? 0 : -1);
        if (n > 0) came = now();
        for (int i = 0; i < n; i++) {
            Connection *c = events[i].data.ptr;
            if (c == NULL) {
                if ((c = malloc(sizeof *c)) == NULL) fail("malloc");
                c->socket = accept(listener, NULL, NULL), c->used = 0;
                setsockopt(c->socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
                event = (struct epoll_event){.events = EPOLLIN, .data.ptr = c};
                epoll_ctl(epoll, EPOLL_CTL_ADD, c->socket, &event);
                continue;
            }
            double until = now() + work;
            ssize_t got = recv(c->socket, c->received + c->used, ROOM - 1 - c->used, 0);
            if (got <= 0) {
                close(c->socket), free(c);
                continue;
            }
            c->received[c->used += (size_t)got] = 0;
            if (!is_whole(c)) continue;
            c->used = 0;
            send(c->socket, ANSWER, sizeof ANSWER - 1, MSG_NOSIGNAL);
            while (now() < until) continue;
        }
    }
}
