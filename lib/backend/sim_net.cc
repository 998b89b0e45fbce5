// TCP in memory: handshakes, bytes under way, back-pressure, FIN and RST, as a program sees them on Linux.
//
//   client                                server's end                    what the world knows
//   connect: syn --- latency ---> finds a listener, makes the other end   connecting | half open
//   connected <---- latency ----- answer                                  connected
//            ------ latency ----> ready: may be accepted                  waiting
//
// Bytes travel in pipes (sim_pipe.cc). FIN and RST are segments like others, so what arrived before them can be read
// first.
//
// Invariants: a socket is freed when it has no descriptor, no event is queued for it and its peer is as far. A socket
// that is gone still answers what arrives with RST. Nothing here knows carriers; it tells them by sim_wake_*.

#include "backend/sim.h"

#include <mio/error.h>

#include <string.h>

namespace mio {

static constexpr uint8_t SYN_RETRIES = 6; // after 1, 2, 4, ... seconds; the answer to the last is waited for 64 s
static constexpr uint8_t READY_RETRIES = 5; // the server's end of it is given up after 1 + 2 + 4 + 8 + 16 s
static constexpr int BACKLOG_MAX = 4096;

// --- resets ---------------------------------------------------------------------------------------------------------

static bool takes_segments(const sim_socket *s) { return s != nullptr && !s->gone && s->state != sim_state::dead; }

static void send_reset(sim_socket *s) {
    sim_socket *peer = s->peer;
    if (!takes_segments(peer)) return;
    sim_pipe *p = &peer->in;
    if (p->count != 0 && sim_below(s->world, SIM_FOR_NETWORK, 2) == 0) { // what is under way may be lost
        for (; p->count != 0; p->count--) {
            const uint32_t bytes = p->segments[(p->first + p->count - 1) % SIM_SEGMENTS].bytes;
            mio_assert(bytes <= p->filled - p->arrived);
            p->filled -= bytes;
        }
    }
    sim_pipe_put(peer, 0, sim_mark::reset);
}

static int fail_by_chance(sim_socket *s) {
    sim_trace(s->world, SIM_DID_RESET, s->number, 0);
    send_reset(s);
    s->state = sim_state::dead;
    sim_pipe_drop(&s->in);
    sim_wake_in(s);
    sim_wake_out(s);
    return -ECONNRESET;
}

static void reset_received(sim_socket *s) {
    if (s->state == sim_state::dead) return;
    sim_trace(s->world, SIM_DID_RESET, s->number, 1);
    s->error = s->fin_seen ? -EPIPE : -ECONNRESET;
    s->state = sim_state::dead;
    sim_wake_in(s);
    sim_wake_out(s);
}

// --- life -----------------------------------------------------------------------------------------------------------

sim_socket *sim_socket_create(sim_world *w, int domain) {
    if (!sim_events_reserve(w)) return nullptr;
    auto *s = static_cast<sim_socket *>(sim_memory_alloc(sizeof(sim_socket)));
    if (s == nullptr) return nullptr;
    memset(static_cast<void *>(s), 0, sizeof *s);
    link_init(&s->all);
    link_init(&s->place);
    link_init(&s->half_open);
    link_init(&s->waiting);
    link_before(&w->sockets, &s->all);
    s->world = w;
    s->number = w->socket_sequence++;
    s->domain = domain;
    sim_addr_any(&s->local, domain);
    sim_addr_any(&s->remote, domain);
    w->socket_count++;
    return s;
}

void sim_socket_free(sim_socket *s) {
    mio_assert(s->world->socket_count != 0);
    s->world->socket_count--;
    link_remove(&s->all);
    if (s->peer != nullptr) s->peer->peer = nullptr;
    sim_pipe_drop(&s->in);
    sim_memory_release(s, sizeof *s);
}

static void try_free(sim_socket *s) {
    if (!s->gone || s->events != 0 || (s->peer != nullptr && !s->peer->gone)) return;
    mio_assert(s->fds == nullptr && !s->queued && !s->bound);
    sim_socket *peer = s->peer;
    sim_socket_free(s);
    if (peer != nullptr) try_free(peer);
}

static void socket_gone(sim_socket *s) {
    mio_assert(!s->gone && s->fds == nullptr);
    s->gone = true;
    sim_unbind(s);
    sim_pipe_drop(&s->in);
    try_free(s);
}

static void unqueue(sim_socket *s) {
    mio_assert(s->queued && (!s->counted || s->listener->waiting_count != 0));
    link_remove(&s->place);
    if (s->counted) s->listener->waiting_count--;
    s->listener = nullptr;
    s->queued = s->counted = false;
}

static void abort_queued(sim_socket *s) {
    unqueue(s);
    send_reset(s);
    s->state = sim_state::dead;
    socket_gone(s);
}

static void stop_listening(sim_socket *s) {
    mio_assert(s->state == sim_state::listening);
    while (!link_alone(&s->half_open)) abort_queued(sim_socket_of_place(s->half_open.next));
    while (!link_alone(&s->waiting)) abort_queued(sim_socket_of_place(s->waiting.next));
    link_remove(&s->place);
    s->state = sim_state::fresh;
    sim_wake_in(s);
}

void sim_socket_leave(sim_socket *s) {
    const bool abrupt = s->in.arrived != 0 || (s->linger[0] != 0 && s->linger[1] == 0);
    switch (s->state) {
    case sim_state::fresh:
    case sim_state::dead: break;
    case sim_state::listening: stop_listening(s); break;
    case sim_state::connecting:
        send_reset(s);
        s->state = sim_state::dead;
        break;
    case sim_state::connected:
        if (abrupt) {
            send_reset(s);
            s->state = sim_state::dead;
        } else if (!s->shut_write && takes_segments(s->peer)) {
            sim_pipe_put(s->peer, 0, sim_mark::fin);
        }
        s->shut_write = true;
        break;
    }
    socket_gone(s);
}

// --- listening and connecting ---------------------------------------------------------------------------------------

int sim_socket_listen(sim_socket *s, int backlog) {
    if (s->state != sim_state::fresh && s->state != sim_state::listening) return -EINVAL;
    if (!s->bound) {
        sim_addr any;
        sim_addr_any(&any, s->domain);
        const int error = sim_bind(s, &any);
        if (error < 0) return error;
    }
    s->backlog = static_cast<uint32_t>(backlog < 0 || backlog > BACKLOG_MAX ? BACKLOG_MAX : backlog);
    if (s->state == sim_state::listening) return 0;
    if (!sim_may_listen(s)) return -EADDRINUSE;
    s->state = sim_state::listening;
    link_before(&s->world->listeners, &s->place);
    return 0;
}

// 0.0.0.0 and :: as a target.
static void to_this_host(sim_addr *a) {
    if (!sim_addr_is_any(a)) return;
    if (IN6_IS_ADDR_V4MAPPED(&a->ip)) a->ip.s6_addr[12] = 127;
    a->ip.s6_addr[15] = 1;
}

int sim_socket_connect(sim_socket *s, const sim_addr *to) {
    sim_world *w = s->world;
    if (s->error != 0) {
        const int error = s->error;
        s->error = 0;
        return error;
    }
    if (s->state == sim_state::connecting) return -EALREADY;
    if (s->state != sim_state::fresh) return -EISCONN;
    if (s->domain == AF_INET6 && s->options[SIM_V6ONLY] != 0 && IN6_IS_ADDR_V4MAPPED(&to->ip)) return -ENETUNREACH;
    sim_addr target = *to;
    to_this_host(&target);
    const int error = sim_bind_for_connect(s, &target);
    if (error < 0) return error;
    s->remote = target;
    s->state = sim_state::connecting;
    s->retries = 0;
    s->answer = 0;
    sim_trace(w, SIM_DID_CONNECT, s->number, target.port);
    sim_event_push(w, s, sim_event_kind::syn, sim_add_ns(w->now_ns, sim_latency(w)));
    return -EINPROGRESS;
}

static void syn_again(sim_socket *s) {
    sim_world *w = s->world;
    const int64_t wait_ns = MIO_SECOND << s->retries;
    if (s->retries == SYN_RETRIES) {
        s->answer = -ETIMEDOUT;
        sim_event_push(w, s, sim_event_kind::answer, w->now_ns + wait_ns);
    } else {
        s->retries++;
        sim_event_push(w, s, sim_event_kind::syn, w->now_ns + wait_ns);
    }
}

static bool backlog_full(const sim_socket *l) { return l->waiting_count > l->backlog; }

static void syn_arrived(sim_socket *s) {
    sim_world *w = s->world;
    if (s->state != sim_state::connecting) return; // closed meanwhile
    sim_socket *l = nullptr;
    if (!sim_chance(w, SIM_FOR_NETWORK, w->options.refuse_ppm)) l = sim_find_listener(w, &s->remote);
    const int64_t answer_ns = sim_add_ns(w->now_ns, sim_latency(w));
    if (l == nullptr) {
        s->answer = -ECONNREFUSED;
        sim_event_push(w, s, sim_event_kind::answer, answer_ns);
        return;
    }
    sim_socket *end = backlog_full(l) ? nullptr : sim_socket_create(w, l->domain);
    if (end == nullptr) { // as if it had been lost on the way
        syn_again(s);
        return;
    }
    memcpy(end->options, l->options, sizeof end->options);
    memcpy(end->linger, l->linger, sizeof end->linger);
    sim_bind_accepted(end, &s->remote);
    end->remote = s->local;
    end->state = sim_state::connected;
    end->peer = s;
    s->peer = end;
    end->queued = true;
    end->listener = l;
    link_before(&l->half_open, &end->place);
    const int64_t ready_ns = sim_add_ns(answer_ns, sim_latency(w));
    s->in.last_ns = answer_ns + 1;
    end->in.last_ns = ready_ns + 1;
    sim_event_push(w, s, sim_event_kind::answer, answer_ns);
    sim_event_push(w, end, sim_event_kind::ready, ready_ns);
}

static void answer_arrived(sim_socket *s) {
    if (s->state != sim_state::connecting) return;
    sim_trace(s->world, SIM_DID_ANSWER, s->number, s->answer);
    s->state = s->answer == 0 ? sim_state::connected : sim_state::fresh;
    s->error = s->answer;
    sim_wake_in(s);
    sim_wake_out(s);
}

static void became_ready(sim_socket *s) {
    if (!s->queued) return; // the listener was closed
    sim_socket *l = s->listener;
    if (backlog_full(l)) { // many came at once; the client believes itself connected
        const int64_t wait_ns = MIO_SECOND << s->retries;
        if (s->retries++ == READY_RETRIES) abort_queued(s);
        else sim_event_push(s->world, s, sim_event_kind::ready, sim_add_ns(s->world->now_ns, wait_ns));
        return;
    }
    link_remove(&s->place);
    link_before(&l->waiting, &s->place);
    l->waiting_count++;
    s->counted = true;
    sim_wake_in(l);
}

int sim_socket_accept(sim_socket *s) {
    sim_world *w = s->world;
    if (s->state != sim_state::listening) return -EINVAL;
    if (link_alone(&s->waiting)) return -EAGAIN;
    sim_socket *end = sim_socket_of_place(s->waiting.next);
    if (sim_chance(w, SIM_FOR_NETWORK, w->options.accept_error_ppm)) {
        static constexpr int errors[] = {-ECONNABORTED, -EMFILE, -ENFILE};
        const int error = errors[sim_below(w, SIM_FOR_NETWORK, 3)];
        if (error == -ECONNABORTED) abort_queued(end);
        sim_trace(w, SIM_DID_ACCEPT, s->number, error);
        return error;
    }
    const int fd = sim_fd_create(w, end);
    if (fd >= 0) unqueue(end);
    sim_trace(w, SIM_DID_ACCEPT, s->number, fd >= 0 ? fd - SIM_FD_BASE : fd);
    return fd;
}

// --- bytes ----------------------------------------------------------------------------------------------------------

static int take_error(sim_socket *s) {
    const int error = s->error;
    s->error = 0;
    return error;
}

int64_t sim_socket_readable(sim_socket *s) {
    if (s->in.arrived != 0) return s->in.arrived;
    if (s->error != 0) return take_error(s);
    switch (s->state) {
    case sim_state::fresh:
    case sim_state::listening: return -ENOTCONN;
    case sim_state::connecting: return -EAGAIN;
    case sim_state::connected: return s->fin_seen || s->shut_read ? 0 : -EAGAIN;
    case sim_state::dead: return 0;
    }
    return -ENOTCONN;
}

int64_t sim_socket_receive(sim_socket *s, const struct iovec *iov, unsigned n, bool peek) {
    sim_world *w = s->world;
    size_t room = 0;
    for (unsigned i = 0; i < n; i++) room += iov[i].iov_len;
    if (room == 0) return 0;
    const int64_t there = sim_socket_readable(s);
    if (there <= 0) return there;
    if (!peek && sim_chance(w, SIM_FOR_NETWORK, w->options.reset_ppm)) return fail_by_chance(s);
    uint32_t bytes = room < static_cast<size_t>(there) ? static_cast<uint32_t>(room) : static_cast<uint32_t>(there);
    if (sim_chance(w, SIM_FOR_NETWORK, w->options.short_read_ppm)) bytes = 1 + sim_below(w, SIM_FOR_NETWORK, bytes);
    uint32_t done = 0;
    for (unsigned i = 0; i < n && done < bytes; i++) {
        const uint32_t left = bytes - done;
        const uint32_t part = iov[i].iov_len < left ? static_cast<uint32_t>(iov[i].iov_len) : left;
        sim_pipe_copy(&s->in, done, nullptr, static_cast<char *>(iov[i].iov_base), part);
        done += part;
    }
    mio_assert(done == bytes);
    if (peek) return bytes;
    s->in.head = (s->in.head + bytes) % s->in.size;
    s->in.filled -= bytes;
    s->in.arrived -= bytes;
    sim_trace(w, SIM_DID_RECEIVE, s->number, bytes);
    if (s->peer != nullptr) sim_wake_out(s->peer);
    return bytes;
}

static int64_t send_state(sim_socket *s) {
    if (s->error != 0) return take_error(s);
    switch (s->state) {
    case sim_state::fresh:
    case sim_state::listening:
    case sim_state::dead: return -EPIPE;
    case sim_state::connecting: return -EAGAIN;
    case sim_state::connected: return s->shut_write ? -EPIPE : 0;
    }
    return -EPIPE;
}

int64_t sim_socket_send(sim_socket *s, const struct iovec *iov, unsigned n) {
    sim_world *w = s->world;
    size_t total = 0;
    for (unsigned i = 0; i < n; i++) total += iov[i].iov_len;
    const int64_t state = send_state(s);
    if (state < 0 || total == 0) return state;
    sim_socket *peer = s->peer;
    mio_assert(peer != nullptr);
    // Nobody is there to keep bytes for: they travel, and are answered with RST.
    const bool lost = !takes_segments(peer);
    const uint32_t room = lost ? w->options.socket_buffer : w->options.socket_buffer - peer->in.filled;
    if (room == 0) return -EAGAIN;
    if (sim_chance(w, SIM_FOR_NETWORK, w->options.reset_ppm)) return fail_by_chance(s);
    uint32_t bytes = total < room ? static_cast<uint32_t>(total) : room;
    if (sim_chance(w, SIM_FOR_NETWORK, w->options.short_write_ppm)) bytes = 1 + sim_below(w, SIM_FOR_NETWORK, bytes);
    if (!lost && !sim_pipe_grow(w, &peer->in, peer->in.filled + bytes)) {
        bytes = peer->in.size - peer->in.filled;
        if (bytes == 0) return -ENOBUFS;
    }
    uint32_t done = 0;
    for (unsigned i = 0; i < n && done < bytes && !lost; i++) {
        const uint32_t left = bytes - done;
        const uint32_t part = iov[i].iov_len < left ? static_cast<uint32_t>(iov[i].iov_len) : left;
        sim_pipe_copy(&peer->in, peer->in.filled + done, static_cast<const char *>(iov[i].iov_base), nullptr, part);
        done += part;
    }
    if (!lost) peer->in.filled += bytes;
    sim_pipe_put(peer, bytes, sim_mark::data);
    sim_trace(w, SIM_DID_SEND, s->number, bytes);
    return bytes;
}

int sim_socket_shutdown(sim_socket *s, bool read, bool write) {
    if (s->state == sim_state::listening && read) {
        stop_listening(s);
        return 0;
    }
    if (s->state != sim_state::connected) return -ENOTCONN;
    if (write && !s->shut_write) {
        s->shut_write = true;
        if (takes_segments(s->peer)) sim_pipe_put(s->peer, 0, sim_mark::fin);
        sim_wake_out(s);
    }
    if (read) {
        s->shut_read = true;
        sim_wake_in(s);
    }
    return 0;
}

// --- events ---------------------------------------------------------------------------------------------------------

static void data_arrived(sim_socket *s, uint32_t bytes) {
    sim_trace(s->world, SIM_DID_ARRIVE, s->number, bytes);
    if (s->gone && s->state != sim_state::dead) { // nobody reads here any more
        send_reset(s);
        s->state = sim_state::dead;
    }
    if (s->state == sim_state::dead) return;
    mio_assert(bytes <= s->in.filled - s->in.arrived);
    s->in.arrived += bytes;
    sim_wake_in(s);
}

static void segments_arrived(sim_socket *s) {
    sim_pipe *p = &s->in;
    p->armed = false;
    while (p->count != 0 && p->segments[p->first].at_ns <= s->world->now_ns) {
        const sim_segment segment = p->segments[p->first];
        p->first = (p->first + 1) % SIM_SEGMENTS;
        p->count--;
        switch (segment.mark) {
        case sim_mark::data: data_arrived(s, segment.bytes); break;
        case sim_mark::fin:
            s->fin_seen = true;
            sim_trace(s->world, SIM_DID_ARRIVE, s->number, 0);
            sim_wake_in(s);
            break;
        case sim_mark::reset: reset_received(s); break;
        }
    }
    sim_pipe_arm(s);
}

void sim_socket_event(sim_socket *s, sim_event_kind kind) {
    switch (kind) {
    case sim_event_kind::arrive: segments_arrived(s); break;
    case sim_event_kind::syn: syn_arrived(s); break;
    case sim_event_kind::answer: answer_arrived(s); break;
    case sim_event_kind::ready: became_ready(s); break;
    }
    mio_assert(s->events != 0);
    s->events--; // it kept the socket alive until here
    try_free(s);
}

}
