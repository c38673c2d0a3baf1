/* Sends requests when they are due, whatever the server does. Started by `benchmarks/open_loop.py`.
 *
 * open_loop PORT CONNECTIONS REQUESTS DUE FOUND DRAIN_S
 * REQUESTS: the length, uint32, and the bytes of each request; they are sent in turn.
 * DUE: float64 seconds, ascending.
 * FOUND is written: for each due time, when the request was sent and when its answer was complete, float64 seconds, negative
 * if not before the end, and the status of the answer, float64, 0 if the server closed the connection. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#define EVENTS 64
#define MAX_HEAD 4096 /* of an answer */

typedef struct {
    const char *bytes;
    uint32_t length;
} Request;

typedef struct {
    double sent, done, status;
} Found;

typedef struct {
    int socket;
    ssize_t request; /* -1: at rest */
    size_t used, room;
    char *received;
} Connection;

static char *read_file(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) < 0) fail(path);
    *length = (size_t)ftell(file);
    rewind(file);
    char *bytes = malloc(*length + 1);
    if (bytes == NULL || fread(bytes, 1, *length, file) != *length) fail(path);
    fclose(file);
    return bytes;
}

static void connect_to(Connection *c, int port, int epoll) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    int yes = 1;
    c->socket = socket(AF_INET, SOCK_STREAM, 0);
    if (c->socket < 0 || connect(c->socket, (struct sockaddr *)&address, sizeof address) < 0) fail("connect");
    setsockopt(c->socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->socket, &event) < 0) fail("epoll_ctl");
    c->used = 0, c->request = -1;
}

static void send_all(Connection *c, const Request *request) {
    for (size_t at = 0; at < request->length;) {
        ssize_t sent = send(c->socket, request->bytes + at, request->length - at, MSG_NOSIGNAL);
        if (sent <= 0) return; /* the end of the connection is about to be read */
        at += (size_t)sent;
    }
}

/* The status of an answer that is whole, or -1 while more is to come. */
static int status_of(const char *received, size_t used) {
    const char *end = memmem(received, used, "\r\n\r\n", 4);
    if (end == NULL || end - received >= MAX_HEAD) return -1;
    char head[MAX_HEAD];
    size_t n = (size_t)(end - received), body = used - n - 4;
    for (size_t i = 0; i < n; i++) head[i] = (char)tolower((unsigned char)received[i]);
    head[n] = 0;
    const char *length = strstr(head, "content-length:");
    int is_whole = length != NULL ? body >= strtoul(length + 15, NULL, 10) : used >= 5 && memcmp(received + used - 5, "0\r\n\r\n", 5) == 0;
    return is_whole ? atoi(head + 9) : -1;
}

/* Read what has come; the status of a whole answer, 0 when the server hung up, -1 when more is to come. */
static int receive(Connection *c) {
    if (c->room - c->used < 1 << 16) {
        c->room = 2 * c->room + (1 << 17);
        if ((c->received = realloc(c->received, c->room)) == NULL) fail("realloc");
    }
    ssize_t got = recv(c->socket, c->received + c->used, c->room - c->used, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return -1;
    if (got <= 0) return 0;
    c->used += (size_t)got;
    return status_of(c->received, c->used);
}

int main(int argc, char **argv) {
    if (argc != 7) return fprintf(stderr, "see the source\n"), 2;
    int port = atoi(argv[1]), num_connections = atoi(argv[2]), epoll = epoll_create1(0);
    size_t size, num_requests = 0, n;
    char *bytes = read_file(argv[3], &size);
    Request *requests = malloc((size / 4 + 1) * sizeof *requests);
    Connection *connections = calloc((size_t)num_connections, sizeof *connections);
    /* Those at rest, in a ring: the one that rested longest goes first, so that none rests until the server closes it. */
    Connection **resting = calloc((size_t)num_connections, sizeof *resting);
    double *due = (double *)read_file(argv[4], &n);
    n /= sizeof *due;
    Found *found = malloc((n + 1) * sizeof *found);
    if (epoll < 0 || requests == NULL || connections == NULL || resting == NULL || found == NULL) fail("start");
    for (size_t at = 0; at + 4 <= size; at += 4 + requests[num_requests++].length) {
        memcpy(&requests[num_requests].length, bytes + at, 4);
        requests[num_requests].bytes = bytes + at + 4;
    }
    for (size_t i = 0; i < n; i++) found[i] = (Found){-1, -1, 0};
    for (int i = 0; i < num_connections; i++) connect_to(resting[i] = &connections[i], port, epoll);
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0); /* wake within microseconds, not the usual fifty */

    size_t next = 0, first = 0, num_resting = (size_t)num_connections, all = num_resting;
    double start = now() + 0.05, end = n ? due[n - 1] + atof(argv[6]) : 0, at;
    while ((next < n || num_resting < all) && (at = now() - start) < end) {
        for (; next < n && due[next] <= at && num_resting > 0; next++, num_resting--, first = (first + 1) % all) {
            Connection *c = resting[first];
            c->request = (ssize_t)next;
            found[next].sent = now() - start;
            send_all(c, &requests[next % num_requests]);
        }
        double wait = next == n || num_resting == 0 ? 0.1 : due[next] - (now() - start);
        if (wait < 0) wait = 0;
        struct timespec timeout = {(time_t)wait, (long)(1e9 * (wait - floor(wait)))};
        struct epoll_event events[EVENTS];
        int num_events = epoll_pwait2(epoll, events, EVENTS, &timeout, NULL);
        if (num_events < 0 && errno != EINTR) fail("epoll_pwait2");
        for (int i = 0; i < num_events; i++) {
            Connection *c = events[i].data.ptr;
            int status = receive(c);
            if (status < 0) continue;
            if (c->request >= 0) {
                found[c->request].done = now() - start, found[c->request].status = status;
                resting[(first + num_resting++) % all] = c;
            }
            c->request = -1, c->used = 0;
            if (status == 0) close(c->socket), connect_to(c, port, epoll);
        }
    }
    FILE *file = fopen(argv[5], "wb");
    if (file == NULL || fwrite(found, sizeof *found, n, file) != n || fclose(file) != 0) fail(argv[5]);
    return 0;
}
