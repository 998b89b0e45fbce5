// The hand-written epoll loop that libmio is compared with: what a good engineer writes for one program. It calls back
// through pointers, reports each write when it is complete, queues what the kernel does not take, stops reading from
// a client whose queue is long, and lets a half-closed client have its last bytes. There is one receive buffer for
// all, always hot. It has no timers, no posts, no cancel, no ids, no owned buffers.
//
// Level-triggered: one recv per event, interest in EPOLLOUT only while something is queued. Edge-triggered: both from
// the beginning, recv again only when the buffer was filled; what was not read because the queue was long is
// remembered.
#include "bench/bench.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace bench {

constexpr size_t HOT_SIZE = 65536;
constexpr int BATCH = 256;
constexpr size_t QUEUE_HIGH = 65536, QUEUE_LOW = 16384;

struct connection;
// n 0: the end; n < 0: an error.
using read_cb = void (*)(connection *, ssize_t n, char *bytes, void *arg);
using written_cb = void (*)(connection *, int status, size_t sent, char *bytes, void *arg);

struct pending {
    pending *next;
    written_cb cb;
    void *arg;
    size_t total, sent; // sent before it was queued included
    size_t kept;        // bytes at bytes: the last of total
    char bytes[1];
};

struct hand_loop {
    int epoll;
    bool edge;
    unsigned open;
    struct epoll_event events[BATCH];
    char hot[HOT_SIZE];
};

struct connection {
    hand_loop *loop;
    int fd;
    uint32_t interest;
    bool paused;    // not read, the queue is long
    bool unread;    // edge: there was an event while paused
    bool finishing; // ended by the peer: goes when the queue is empty
    bool dead;
    read_cb on_read;
    void *arg;
    pending *first, **last;
    size_t queued;
};

static void connection_interest(connection *conn) {
    if (conn->loop->edge) return;
    const uint32_t interest = (conn->paused || conn->finishing ? 0u : static_cast<uint32_t>(EPOLLIN)) |
                              (conn->first != nullptr ? static_cast<uint32_t>(EPOLLOUT) : 0u);
    if (interest == conn->interest) return;
    struct epoll_event event = {};
    event.events = interest;
    event.data.ptr = conn;
    if (epoll_ctl(conn->loop->epoll, EPOLL_CTL_MOD, conn->fd, &event) < 0) fail_errno("epoll_ctl");
    conn->interest = interest;
}

static void connection_close(connection *conn) {
    if (conn->dead) return;
    conn->dead = true;
    conn->loop->open--;
    close(conn->fd);
}

static void connection_finish(connection *conn) {
    conn->finishing = true;
    if (conn->first == nullptr) connection_close(conn);
    else connection_interest(conn);
}

static int connection_queue(connection *conn, const char *bytes, size_t len, size_t sent, written_cb cb, void *arg) {
    auto *p = static_cast<pending *>(malloc(sizeof(pending) + len - sent));
    if (p == nullptr) return -ENOMEM;
    p->next = nullptr;
    p->cb = cb;
    p->arg = arg;
    p->total = len;
    p->sent = sent;
    p->kept = len - sent;
    memcpy(p->bytes, bytes + sent, p->kept);
    *conn->last = p;
    conn->last = &p->next;
    conn->queued += p->kept;
    if (conn->queued > QUEUE_HIGH) conn->paused = true;
    connection_interest(conn);
    return 0;
}

static int connection_write(connection *conn, char *bytes, size_t len, written_cb cb, void *arg) {
    size_t sent = 0;
    if (conn->first == nullptr) {
        const ssize_t n = send(conn->fd, bytes, len, MSG_NOSIGNAL);
        if (__builtin_expect(n == static_cast<ssize_t>(len), 1)) {
            cb(conn, 0, len, bytes, arg);
            return 0;
        }
        if (n < 0 && errno != EAGAIN && errno != EINTR) return -errno;
        if (n > 0) sent = static_cast<size_t>(n);
    }
    return connection_queue(conn, bytes, len, sent, cb, arg);
}

static void connection_readable(connection *conn) {
    hand_loop *l = conn->loop;
    for (;;) {
        if (__builtin_expect(conn->paused || conn->finishing, 0)) {
            conn->unread = true;
            return;
        }
        const ssize_t n = recv(conn->fd, l->hot, HOT_SIZE, 0);
        if (__builtin_expect(n < 0, 0)) {
            if (errno == EINTR) continue;
            if (errno == EAGAIN) return;
            conn->on_read(conn, -errno, nullptr, conn->arg);
            return;
        }
        conn->on_read(conn, n, l->hot, conn->arg);
        if (!l->edge || n < static_cast<ssize_t>(HOT_SIZE) || conn->dead) return;
    }
}

static void connection_writable(connection *conn) {
    while (pending *p = conn->first) {
        const size_t left = p->total - p->sent;
        const ssize_t n = send(conn->fd, p->bytes + p->kept - left, left, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EINTR) continue;
            if (errno == EAGAIN) break;
            p->cb(conn, -errno, p->sent, p->bytes, p->arg);
            return;
        }
        p->sent += static_cast<size_t>(n);
        conn->queued -= static_cast<size_t>(n);
        if (p->sent < p->total) continue;
        conn->first = p->next;
        if (conn->first == nullptr) conn->last = &conn->first;
        p->cb(conn, 0, p->total, p->bytes, p->arg);
        free(p);
        if (conn->dead) return;
    }
    if (conn->finishing && conn->first == nullptr) {
        connection_close(conn);
        return;
    }
    if (conn->paused && conn->queued <= QUEUE_LOW) {
        conn->paused = false;
        if (conn->unread) {
            conn->unread = false;
            connection_readable(conn);
        }
    }
    if (!conn->dead) connection_interest(conn);
}

static void hand_turn(hand_loop *l, int timeout_ms) {
    const int n = epoll_wait(l->epoll, l->events, BATCH, timeout_ms);
    if (__builtin_expect(n < 0, 0)) {
        if (errno == EINTR) return;
        fail_errno("epoll_wait");
    }
    for (int i = 0; i < n; i++) {
        auto *conn = static_cast<connection *>(l->events[i].data.ptr);
        const uint32_t events = l->events[i].events;
        if (conn->first != nullptr && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) connection_writable(conn);
        if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && !conn->dead) connection_readable(conn);
    }
}

// --- the program on it ----------------------------------------------------------------------------------------------

static uint64_t written;

static void on_written(connection *conn, int status, size_t sent, char *, void *) {
    written += sent;
    if (status < 0) connection_close(conn);
}

static void on_read(connection *conn, ssize_t n, char *bytes, void *) {
    if (n == 0) connection_finish(conn);
    else if (n < 0 || connection_write(conn, bytes, static_cast<size_t>(n), on_written, nullptr) < 0)
        connection_close(conn);
}

// --- a side ---------------------------------------------------------------------------------------------------------

struct hand {
    hand_loop loop;
    connection *connections;
    unsigned count;
};

static void *hand_open(const int *fds, unsigned n, bool edge) {
    auto *h = static_cast<hand *>(calloc(1, sizeof(hand)));
    if (h == nullptr) fail("no memory");
    h->connections = static_cast<connection *>(calloc(n, sizeof(connection)));
    if (h->connections == nullptr) fail("no memory");
    h->count = h->loop.open = n;
    h->loop.edge = edge;
    h->loop.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (h->loop.epoll < 0) fail_errno("epoll_create1");
    for (unsigned i = 0; i < n; i++) {
        connection *conn = &h->connections[i];
        conn->loop = &h->loop;
        conn->fd = fds[i];
        conn->on_read = on_read;
        conn->last = &conn->first;
        conn->interest = edge ? static_cast<uint32_t>(EPOLLIN | EPOLLOUT) | static_cast<uint32_t>(EPOLLET)
                              : static_cast<uint32_t>(EPOLLIN);
        if (fcntl(conn->fd, F_SETFL, O_NONBLOCK) < 0) fail_errno("fcntl");
        struct epoll_event event = {};
        event.events = conn->interest;
        event.data.ptr = conn;
        if (epoll_ctl(h->loop.epoll, EPOLL_CTL_ADD, conn->fd, &event) < 0) fail_errno("epoll_ctl");
    }
    return h;
}

static void *level_open(const int *fds, unsigned n) { return hand_open(fds, n, false); }
static void *edge_open(const int *fds, unsigned n) { return hand_open(fds, n, true); }

static void hand_serve(void *state, uint64_t bytes) {
    hand_loop *l = &static_cast<hand *>(state)->loop;
    const uint64_t until = written + bytes;
    for (uint64_t turns = 0; written < until; turns++) {
        hand_turn(l, 0);
        if (turns == TURNS_WITHOUT_END) fail("the hand-written loop stands still");
    }
}

static void hand_close(void *state) {
    auto *h = static_cast<hand *>(state);
    while (h->loop.open != 0) hand_turn(&h->loop, -1);
    close(h->loop.epoll);
    for (unsigned i = 0; i < h->count; i++)
        while (pending *p = h->connections[i].first) {
            h->connections[i].first = p->next;
            free(p);
        }
    free(h->connections);
    free(h);
}

const side side_level = {"level", "a hand-written loop, level-triggered", level_open, hand_serve, hand_close};
const side side_edge = {"edge", "a hand-written loop, edge-triggered", edge_open, hand_serve, hand_close};

}
