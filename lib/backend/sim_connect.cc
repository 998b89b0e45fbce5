// TCP in memory, the beginning of connections: listening, the handshake, the backlog, accepting.
//
//   client                                server's end                    what the world knows
//   connect: syn --- latency ---> finds a listener, makes the other end   connecting | half open
//   connected <---- latency ----- answer                                  connected
//            ------ latency ----> ready: may be accepted                  waiting
//
// A step that is lost is taken again: the client asks again after 1, 2, 4, ... seconds, and finds the end that its
// first asking made; an end that never becomes ready is given up after 31.
//
// Decides who is connected with whom. Bytes, FIN and RST are sim_net.cc's.
//
// Invariants: a connecting socket has one event queued, its syn or its answer; an end on its listener's lists has one
// `ready` queued until it waits to be accepted. An end that its client does not know any more has no peer.

#include "backend/sim.h"

#include <mio/error.h>

#include <string.h>

namespace mio {

static constexpr uint8_t SYN_RETRIES = 6; // after 1, 2, 4, ... seconds; the answer to the last is waited for 64 s
static constexpr uint8_t READY_RETRIES = 5; // the server's end of it is given up after 1 + 2 + 4 + 8 + 16 s
static constexpr int BACKLOG_MAX = 4096;

// --- a listener and who waits in it ---------------------------------------------------------------------------------

static void unqueue(sim_socket *s) {
    mio_assert(s->queued && (!s->counted || s->listener->waiting_count != 0));
    link_remove(&s->place);
    if (s->counted) s->listener->waiting_count--;
    s->node = s->listener->node;
    s->listener = nullptr;
    s->queued = s->counted = false;
}

static void abort_queued(sim_socket *s) {
    unqueue(s);
    if (s->peer != nullptr && s->peer->asking) sim_unlink(s->peer); // it will ask somebody else
    else sim_reset_send(s, sim_mark::reset);
    s->state = sim_state::dead;
    sim_socket_gone(s);
}

void sim_listener_stop(sim_socket *s) {
    mio_assert(s->state == sim_state::listening);
    while (!link_alone(&s->half_open)) abort_queued(sim_socket_of_place(s->half_open.next));
    while (!link_alone(&s->waiting)) abort_queued(sim_socket_of_place(s->waiting.next));
    link_remove(&s->place);
    s->state = sim_state::fresh;
    sim_wake_in(s);
}

int sim_socket_listen(sim_socket *s, int backlog) {
    if (s->state != sim_state::fresh && s->state != sim_state::listening) return -EINVAL;
    if (!s->bound && s->domain == AF_UNIX) return -EINVAL;
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

// --- connecting -----------------------------------------------------------------------------------------------------

// 0.0.0.0 and :: as a target.
static void to_this_host(sim_addr *a) {
    if (!sim_addr_is_any(a)) return;
    if (IN6_IS_ADDR_V4MAPPED(&a->ip)) a->ip.s6_addr[12] = 127;
    a->ip.s6_addr[15] = 1;
}

static bool backlog_full(const sim_socket *l) { return l->waiting_count > l->backlog; }

// Of what is on the same machine the answer is known at once. 0: it takes its way.
static int connect_unix(sim_world *w, const sim_socket *s, const sim_addr *to) {
    const sim_socket *l = sim_find_listener(w, to);
    if (l == nullptr) return -ECONNREFUSED;
    if (l->records != s->records) return -EPROTOTYPE;
    return backlog_full(l) ? -EAGAIN : 0;
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
    if (s->domain == AF_UNIX) {
        const int answer = connect_unix(w, s, to);
        if (answer < 0) return answer;
    }
    if (s->domain == AF_INET6 && s->options[SIM_V6ONLY] != 0 && IN6_IS_ADDR_V4MAPPED(&to->ip)) return -ENETUNREACH;
    sim_addr target = *to;
    to_this_host(&target);
    const sim_addr before = s->remote;
    s->remote = target;
    sim_place here, far;
    sim_socket_place(s, &here);
    sim_far_place(s, &far);
    int error = sim_call_fails(w, MIO_SIM_CALL_CONNECT, &here, &far);
    if (error == 0) error = sim_bind_for_connect(s, &target);
    if (error < 0) {
        s->remote = before;
        return error;
    }
    sim_socket_place(s, &here);
    s->state = sim_state::connecting;
    s->asking = true;
    s->retries = 0;
    s->answer = 0;
    sim_trace(w, SIM_DID_CONNECT, s->number, target.port);
    sim_event_push(w, s, sim_event_kind::syn, sim_add_ns(w->now_ns, sim_latency(w, &here, &far)));
    return -EINPROGRESS;
}

static void syn_again(sim_socket *s) {
    sim_world *w = s->world;
    const int64_t wait_ns = MIO_SECOND << s->retries;
    s->asking = true;
    if (s->retries == SYN_RETRIES) {
        s->answer = -ETIMEDOUT;
        sim_event_push(w, s, sim_event_kind::answer, sim_add_ns(w->now_ns, wait_ns));
    } else {
        s->retries++;
        sim_event_push(w, s, sim_event_kind::syn, sim_add_ns(w->now_ns, wait_ns));
    }
}

static void answer_sets_out(sim_socket *s, int answer, const sim_place *here, const sim_place *far) {
    const int64_t at_ns = sim_add_ns(s->world->now_ns, sim_latency(s->world, far, here));
    s->answer = answer;
    s->asking = false;
    if (s->in.last_ns <= at_ns) s->in.last_ns = sim_add_ns(at_ns, 1); // nothing overtakes it
    sim_event_push(s->world, s, sim_event_kind::answer, at_ns);
}

static sim_socket *end_create(sim_socket *s, sim_socket *l) {
    sim_socket *end = sim_socket_create(s->world, l->domain);
    if (end == nullptr) return nullptr;
    memcpy(end->options, l->options, sizeof end->options);
    memcpy(end->linger, l->linger, sizeof end->linger);
    sim_bind_accepted(end, &s->remote);
    end->remote = s->local;
    end->state = sim_state::connected;
    end->node = l->node;
    end->records = l->records;
    end->peer = s;
    s->peer = end;
    end->queued = true;
    end->listener = l;
    link_before(&l->half_open, &end->place);
    return end;
}

void sim_syn_arrived(sim_socket *s) {
    sim_world *w = s->world;
    if (s->state != sim_state::connecting) return; // closed meanwhile
    sim_socket *l = nullptr;
    const bool refused = s->peer == nullptr && sim_chance(w, SIM_FOR_NETWORK, w->options.refuse_ppm);
    if (s->peer == nullptr && !refused) l = sim_find_listener(w, &s->remote);
    sim_place here, far;
    sim_socket_place(s, &here);
    sim_far_place(s, &far);
    if (l != nullptr) far.node = l->node;
    if (sim_loses(w, &here, &far)) {
        syn_again(s);
        return;
    }
    if (s->peer != nullptr) { // the answer was lost
        answer_sets_out(s, 0, &here, &far);
        return;
    }
    if (l == nullptr) {
        answer_sets_out(s, -ECONNREFUSED, &here, &far);
        return;
    }
    sim_socket *end = backlog_full(l) ? nullptr : end_create(s, l);
    if (end == nullptr) { // as if it had been lost on the way
        syn_again(s);
        return;
    }
    const int64_t answer_ns = sim_add_ns(w->now_ns, sim_latency(w, &far, &here));
    const int64_t there_ns = sim_latency(w, &here, &far);
    const int64_t ready_ns = sim_add_ns(answer_ns, there_ns != 0 ? there_ns : 1);
    s->in.last_ns = sim_add_ns(answer_ns, 1);
    end->in.last_ns = sim_add_ns(ready_ns, 1);
    s->asking = false;
    s->answer = 0;
    sim_event_push(w, s, sim_event_kind::answer, answer_ns);
    sim_event_push(w, end, sim_event_kind::ready, ready_ns);
}

void sim_answer_arrived(sim_socket *s) {
    if (s->state != sim_state::connecting) return;
    if (s->answer != -ETIMEDOUT) { // that one comes from nobody
        sim_place here, far;
        sim_socket_place(s, &here);
        sim_far_place(s, &far);
        if (sim_loses(s->world, &far, &here)) {
            if (!sim_takes_segments(s->peer)) sim_unlink(s);
            syn_again(s);
            return;
        }
    } else {
        sim_unlink(s);
    }
    sim_trace(s->world, SIM_DID_ANSWER, s->number, s->answer);
    s->state = s->answer == 0 ? sim_state::connected : sim_state::fresh;
    s->asking = false;
    s->error = s->answer;
    sim_wake_in(s);
    sim_wake_out(s);
}

// The client does not know yet that it is connected, its word was lost, or there is no room.
static bool not_ready(const sim_socket *s) {
    sim_place here, far;
    sim_socket_place(s, &here);
    sim_far_place(s, &far);
    return s->peer->state == sim_state::connecting || s->swallowed || sim_cut(s->world, &far, &here) ||
           backlog_full(s->listener);
}

void sim_became_ready(sim_socket *s) {
    if (!s->queued) return; // the listener was closed
    sim_socket *l = s->listener;
    // The client gave up, or left before it was connected.
    if (s->peer == nullptr || (s->peer->state == sim_state::dead && (s->retries != 0 || s->peer->asking))) {
        abort_queued(s);
        return;
    }
    if (not_ready(s)) {
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

// --- accepting ------------------------------------------------------------------------------------------------------

static int accept_error(sim_socket *s, sim_socket *end) {
    sim_world *w = s->world;
    static constexpr int errors[] = {-ECONNABORTED, -EMFILE, -ENFILE};
    if (sim_chance(w, SIM_FOR_NETWORK, w->options.accept_error_ppm)) return errors[sim_below(w, SIM_FOR_NETWORK, 3)];
    sim_place here, far;
    sim_socket_place(end, &here);
    sim_far_place(end, &far);
    return sim_call_fails(w, MIO_SIM_CALL_ACCEPT, &here, &far);
}

int sim_socket_accept(sim_socket *s) {
    sim_world *w = s->world;
    if (s->state != sim_state::listening) return -EINVAL;
    if (link_alone(&s->waiting)) return -EAGAIN;
    sim_socket *end = sim_socket_of_place(s->waiting.next);
    const int error = accept_error(s, end);
    if (error < 0) {
        if (error == -ECONNABORTED) abort_queued(end);
        sim_trace(w, SIM_DID_ACCEPT, s->number, error);
        return error;
    }
    const int fd = sim_fd_create(w, end);
    if (fd >= 0) unqueue(end);
    sim_trace(w, SIM_DID_ACCEPT, s->number, fd >= 0 ? fd - SIM_FD_BASE : fd);
    return fd;
}

}
