// TCP in memory: bytes under way, back-pressure, FIN and RST, as a program sees them on Linux, and what becomes of a
// connection whose segments are lost. How connections begin: sim_connect.cc.
//
// Bytes travel in pipes (sim_pipe.cc). FIN and RST are segments like others, so what arrived before them can be read
// first. A segment that meets a cut is sent again, and with it all behind it; a RST is not, but for one that answers
// bytes. Where the way back is cut the sender does not learn that there is room again.
//
// Invariants: a socket is freed when it has no descriptor, no event is queued for it and its peer is as far. A socket
// that is gone still answers what arrives with RST. Nothing here knows carriers; it tells them by sim_wake_*.

#include "backend/sim.h"

#include <mio/error.h>

#include <string.h>

namespace mio {

static constexpr int64_t RESEND_FIRST_NS = 200 * MIO_MILLISECOND; // then twice as long each time
static constexpr int64_t RESEND_MOST_NS = 120 * MIO_SECOND;
static constexpr uint8_t RESENDS = 16; // and the sender gives up, after 924.6 s, as Linux does
static constexpr uint32_t PIECE = 1448; // what a segment carries at least where the bandwidth is limited

// --- resets ---------------------------------------------------------------------------------------------------------

void sim_reset_send(sim_socket *s, sim_mark mark) {
    sim_socket *peer = s->peer;
    if (!sim_takes_segments(peer) || peer->in.reset_coming) return;
    if (peer->in.count != 0 && sim_below(s->world, SIM_FOR_NETWORK, 2) == 0)
        sim_pipe_lose(&peer->in); // what is under way may be lost
    sim_pipe_put(peer, 0, mark);
}

static int fail_by_chance(sim_socket *s) {
    sim_trace(s->world, SIM_DID_RESET, s->number, 0);
    sim_reset_send(s, sim_mark::reset);
    s->state = sim_state::dead;
    sim_pipe_drop(&s->in);
    sim_wake_in(s);
    sim_wake_out(s);
    return -ECONNRESET;
}

static void die(sim_socket *s, int error) {
    if (s->state == sim_state::dead) return;
    sim_trace(s->world, SIM_DID_RESET, s->number, error);
    s->error = error;
    s->state = sim_state::dead;
    sim_wake_in(s);
    sim_wake_out(s);
}

static void reset_received(sim_socket *s) { die(s, s->fin_seen ? -EPIPE : -ECONNRESET); }

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
    s->node = SIM_NO_NODE;
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
    sim_datagrams_free(s);
    sim_memory_release(s, sizeof *s);
}

static void try_free(sim_socket *s) {
    if (!s->gone || s->events != 0 || (s->peer != nullptr && !s->peer->gone)) return;
    mio_assert(s->fds == nullptr && !s->queued && !s->bound);
    sim_socket *peer = s->peer;
    sim_socket_free(s);
    if (peer != nullptr) try_free(peer);
}

void sim_unlink(sim_socket *s) {
    sim_socket *peer = s->peer;
    if (peer == nullptr) return;
    s->peer = peer->peer = nullptr;
    sim_pipe_lose(&s->in);
    try_free(peer);
    try_free(s);
}

void sim_socket_gone(sim_socket *s) {
    mio_assert(!s->gone && s->fds == nullptr);
    s->gone = true;
    sim_unbind(s);
    sim_pipe_drop(&s->in);
    sim_datagrams_drop(s);
    try_free(s);
}

void sim_socket_leave(sim_socket *s) {
    const bool abrupt = s->in.arrived != 0 || (s->linger[0] != 0 && s->linger[1] == 0);
    switch (s->state) {
    case sim_state::fresh:
    case sim_state::dead: break;
    case sim_state::listening: sim_listener_stop(s); break;
    case sim_state::connecting:
        sim_reset_send(s, sim_mark::reset);
        s->state = sim_state::dead;
        s->asking = true; // never answered: the other end is never ready
        break;
    case sim_state::connected:
        if (abrupt) {
            sim_reset_send(s, sim_mark::reset);
            s->state = sim_state::dead;
        } else if (!s->shut_write && sim_takes_segments(s->peer)) {
            sim_pipe_put(s->peer, 0, sim_mark::fin);
        }
        s->shut_write = true;
        break;
    }
    sim_socket_gone(s);
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

// Room as a send of now would find it.
static bool has_room(const sim_socket *s) {
    const sim_socket *peer = s->peer;
    mio_assert(peer != nullptr);
    const uint32_t taken = sim_takes_segments(peer) ? peer->in.filled + peer->in.untold : sim_pipe_under_way(&peer->in);
    return taken < s->world->options.socket_buffer;
}

uint32_t sim_socket_poll(const sim_socket *s) {
    uint32_t seen = s->error != 0 ? MIO_POLL_ERR | MIO_POLL_IN | MIO_POLL_OUT : 0u;
    switch (s->state) {
    case sim_state::fresh: return seen | MIO_POLL_OUT | MIO_POLL_HUP;
    case sim_state::listening: return link_alone(&s->waiting) ? seen : seen | MIO_POLL_IN;
    case sim_state::connecting: return seen;
    case sim_state::dead: return seen | MIO_POLL_IN | MIO_POLL_OUT | MIO_POLL_HUP | MIO_POLL_RDHUP;
    case sim_state::connected: break;
    }
    const bool ended = s->fin_seen || s->shut_read;
    if (s->in.arrived != 0 || ended) seen |= MIO_POLL_IN;
    if (ended) seen |= MIO_POLL_RDHUP;
    if (ended && s->shut_write) seen |= MIO_POLL_HUP;
    if (s->shut_write || has_room(s)) seen |= MIO_POLL_OUT;
    return seen;
}

int sim_receive_fails(sim_socket *s, bool peek) {
    sim_world *w = s->world;
    if (!peek && sim_chance(w, SIM_FOR_NETWORK, w->options.reset_ppm)) return fail_by_chance(s);
    sim_place here, far;
    sim_socket_place(s, &here);
    sim_far_place(s, &far);
    return sim_call_fails(w, MIO_SIM_CALL_RECEIVE, &here, &far);
}

void sim_received(sim_socket *s, uint32_t bytes) {
    sim_world *w = s->world;
    s->in.head = (s->in.head + bytes) % s->in.size;
    s->in.filled -= bytes;
    s->in.arrived -= bytes;
    sim_trace(w, SIM_DID_RECEIVE, s->number, bytes);
    sim_place here, far;
    sim_socket_place(s, &here);
    sim_far_place(s, &far);
    if (s->swallowed || sim_cut(w, &here, &far)) {
        s->in.untold += bytes;
        return;
    }
    s->in.untold = 0; // one word tells of all that was read
    if (s->peer != nullptr) sim_wake_out(s->peer);
}

int64_t sim_socket_receive(sim_socket *s, const struct iovec *iov, unsigned n, bool peek) {
    sim_world *w = s->world;
    size_t room = 0;
    for (unsigned i = 0; i < n; i++) room += iov[i].iov_len;
    if (room == 0) return 0;
    const int64_t there = sim_socket_readable(s);
    if (there <= 0) return there;
    const int failed = sim_receive_fails(s, peek);
    if (failed < 0) return failed;
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
    if (!peek) sim_received(s, bytes);
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

// whole: all of it, or none.
static int64_t send_bytes(sim_socket *s, const struct iovec *iov, unsigned n, bool whole) {
    sim_world *w = s->world;
    size_t total = 0;
    for (unsigned i = 0; i < n; i++) total += iov[i].iov_len;
    const int64_t state = send_state(s);
    if (state < 0 || total == 0) return state;
    sim_socket *peer = s->peer;
    mio_assert(peer != nullptr);
    // Nobody is there to keep bytes for: they travel, and are answered with RST.
    const bool lost = !sim_takes_segments(peer);
    const uint32_t taken = lost ? sim_pipe_under_way(&peer->in) : peer->in.filled + peer->in.untold;
    const uint32_t room = taken < w->options.socket_buffer ? w->options.socket_buffer - taken : 0;
    if (room == 0) return -EAGAIN;
    if (whole && total > w->options.socket_buffer) return -EMSGSIZE;
    if (whole && total > room) return -EAGAIN;
    if (sim_chance(w, SIM_FOR_NETWORK, w->options.reset_ppm)) return fail_by_chance(s);
    sim_place here, far;
    sim_socket_place(s, &here);
    sim_socket_place(peer, &far);
    const int failed = sim_call_fails(w, MIO_SIM_CALL_SEND, &here, &far);
    if (failed < 0) return failed;
    uint32_t bytes = total < room ? static_cast<uint32_t>(total) : room;
    if (!whole && sim_chance(w, SIM_FOR_NETWORK, w->options.short_write_ppm)) bytes = 1 + sim_below(w, SIM_FOR_NETWORK, bytes);
    if (!lost && !sim_pipe_grow(w, &peer->in, peer->in.filled + bytes)) {
        bytes = whole ? 0 : peer->in.size - peer->in.filled;
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
    const bool in_pieces = sim_bandwidth(w, &here, &far) != 0;
    const uint32_t piece = !in_pieces ? bytes : bytes / 8 < PIECE ? PIECE : bytes / 8;
    for (uint32_t left = bytes; left != 0;) {
        const uint32_t part = left < piece ? left : piece;
        sim_pipe_put(peer, part, sim_mark::data);
        left -= part;
    }
    sim_trace(w, SIM_DID_SEND, s->number, bytes);
    return bytes;
}

int64_t sim_socket_send(sim_socket *s, const struct iovec *iov, unsigned n) {
    if (!s->records) return send_bytes(s, iov, n, false);
    struct iovec framed[SIM_PIECES + 1];
    mio_assert(n <= SIM_PIECES);
    size_t total = 0;
    for (unsigned i = 0; i < n; i++) {
        framed[i + 1] = iov[i];
        total += iov[i].iov_len;
    }
    uint32_t length = total < UINT32_MAX ? static_cast<uint32_t>(total) : UINT32_MAX;
    framed[0] = {&length, sizeof length};
    const int64_t sent = send_bytes(s, framed, n + 1, true);
    return sent < 0 ? sent : sent - static_cast<int64_t>(sizeof length);
}

int sim_socket_shutdown(sim_socket *s, bool read, bool write) {
    if (s->state == sim_state::listening && read) {
        sim_listener_stop(s);
        return 0;
    }
    if (s->state != sim_state::connected) return -ENOTCONN;
    if (write && !s->shut_write) {
        s->shut_write = true;
        if (sim_takes_segments(s->peer)) sim_pipe_put(s->peer, 0, sim_mark::fin);
        sim_wake_out(s);
    }
    if (read) {
        s->shut_read = true;
        sim_wake_in(s);
    }
    return 0;
}

// --- what faults do -------------------------------------------------------------------------------------------------

void sim_far_place(const sim_socket *s, sim_place *out) {
    if (s->peer != nullptr) {
        sim_socket_place(s->peer, out);
        return;
    }
    out->node = static_cast<int8_t>(s->world->port_nodes[s->remote.port] - 1);
    out->at = s->remote;
}

// Both ends know of the connection; the one in a listener's queue does not tell anybody yet.
static bool is_between(const sim_socket *s, const sim_fault *f) {
    if (s->state != sim_state::connected || s->peer == nullptr || s->peer->state == sim_state::connecting) return false;
    sim_place here, far;
    sim_socket_place(s, &here);
    sim_socket_place(s->peer, &far);
    return sim_between(f, &here, &far) || sim_between(f, &far, &here);
}

void sim_connections_reset(sim_world *w, const sim_fault *between) {
    for (link *at = w->sockets.next; at != &w->sockets; at = at->next) {
        sim_socket *s = sim_socket_of_all(at);
        if (!is_between(s, between)) continue;
        sim_socket *peer = s->peer; // before s is dead, and is between nobody
        reset_received(s);
        if (peer->state == sim_state::connected) reset_received(peer);
    }
}

void sim_connections_swallow(sim_world *w, const sim_fault *between) {
    for (link *at = w->sockets.next; at != &w->sockets; at = at->next) {
        sim_socket *s = sim_socket_of_all(at);
        if (is_between(s, between)) s->swallowed = s->peer->swallowed = true;
    }
}

void sim_ways_opened(sim_world *w) {
    for (link *at = w->sockets.next; at != &w->sockets; at = at->next) {
        sim_socket *s = sim_socket_of_all(at);
        if (s->in.untold == 0 || s->swallowed) continue;
        sim_place here, far;
        sim_socket_place(s, &here);
        sim_far_place(s, &far);
        if (sim_cut(w, &here, &far)) continue;
        s->in.untold = 0;
        if (s->peer != nullptr) sim_wake_out(s->peer);
    }
}

// --- events ---------------------------------------------------------------------------------------------------------

static void data_arrived(sim_socket *s, uint32_t bytes) {
    sim_trace(s->world, SIM_DID_ARRIVE, s->number, bytes);
    if (s->gone || s->state == sim_state::dead) { // nobody reads here any more
        sim_reset_send(s, sim_mark::refusal);
        s->state = sim_state::dead;
        return;
    }
    mio_assert(bytes <= s->in.filled - s->in.arrived);
    s->in.arrived += bytes;
    sim_wake_in(s);
}

// The sender has sent the first segment again and again: it gives up, and the receiver never learns.
static void sender_gives_up(sim_socket *s) {
    sim_pipe_lose(&s->in);
    if (sim_takes_segments(s->peer)) die(s->peer, -ETIMEDOUT);
}

// The first segment is lost on its way.
static void segment_lost(sim_socket *s) {
    sim_pipe *p = &s->in;
    sim_trace(s->world, SIM_DID_LOSE, s->number, p->retries);
    if (p->segments[p->first].mark == sim_mark::reset) { // the last there is: who sent it is gone
        p->count--;
        mio_assert(p->count == 0);
        p->reset_coming = false;
    } else if (p->retries == RESENDS) {
        sender_gives_up(s);
    } else {
        const int64_t wait_ns = RESEND_FIRST_NS << p->retries++;
        sim_pipe_delay(p, sim_add_ns(s->world->now_ns, wait_ns < RESEND_MOST_NS ? wait_ns : RESEND_MOST_NS));
    }
}

static bool way_is_lost(sim_socket *s) {
    if (s->swallowed) return true;
    sim_place here, far;
    sim_socket_place(s, &here);
    sim_far_place(s, &far);
    return sim_loses(s->world, &far, &here);
}

static void segments_arrived(sim_socket *s) {
    sim_pipe *p = &s->in;
    p->armed = false;
    while (p->count != 0 && p->segments[p->first].at_ns <= s->world->now_ns) {
        if (way_is_lost(s)) {
            segment_lost(s);
            continue;
        }
        p->retries = 0;
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
        case sim_mark::reset:
        case sim_mark::refusal:
            p->reset_coming = false;
            reset_received(s);
            break;
        }
    }
    sim_pipe_arm(s);
}

void sim_socket_event(sim_socket *s, sim_event_kind kind) {
    switch (kind) {
    case sim_event_kind::arrive: segments_arrived(s); break;
    case sim_event_kind::syn: sim_syn_arrived(s); break;
    case sim_event_kind::answer: sim_answer_arrived(s); break;
    case sim_event_kind::ready: sim_became_ready(s); break;
    case sim_event_kind::datagram: sim_datagram_event(s); break;
    case sim_event_kind::cancel:
        s->cancel_armed = false;
        sim_wake_in(s);
        sim_wake_out(s);
        break;
    }
    mio_assert(s->events != 0);
    s->events--; // it kept the socket alive until here
    try_free(s);
}

}
