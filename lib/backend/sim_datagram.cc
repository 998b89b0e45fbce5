// UDP in memory: datagrams under way, lost, doubled, overtaken; receive queues; and the ICMP message that says that nobody
// is there.
//
//   sent --latency--> nobody there --latency--> the sender's socket has MIO_ECONNREFUSED, if it is connected to there
//     \--lost              \--> a queue of the receiver's, socket_buffer bytes at most; what does not fit is lost
//
// A datagram lies at its sender until it arrives, with one event of its own; who receives it is decided then. By itself it
// arrives in order: each one not before the last; `reorder` lets it be late, and others overtake it. Its bytes count as the
// sender's until it arrives: with socket_buffer of them under way sending has to wait.
//
// Every address is this one host's, as for TCP; there are no groups and no broadcasts.
//
// Invariants: a socket's list of what is under way is in order of arrival; each entry has an event queued for the socket.

#include "backend/sim.h"

#include "base/datagram.h"

#include <mio/error.h>

#include <arpa/inet.h>
#include <string.h>

namespace mio {

static constexpr uint32_t HELD_BACK_NS = 10000000; // at most

struct sim_datagram {
    sim_datagram *next;
    int64_t at_ns;
    sim_addr from, to;
    uint8_t ecn;
    bool bounced; // on its way back: nobody was there
    uint32_t len;
};

static char *bytes_of(sim_datagram *d) { return reinterpret_cast<char *>(d + 1); }

static void datagram_free(sim_world *w, sim_datagram *d) {
    mio_assert(w->datagrams != 0);
    w->datagrams--;
    sim_memory_release(d, sizeof *d + d->len);
}

static void list_free(sim_world *w, sim_datagram **list) {
    while (sim_datagram *d = *list) {
        *list = d->next;
        datagram_free(w, d);
    }
}

void sim_datagrams_drop(sim_socket *s) {
    list_free(s->world, &s->arrived);
    s->arrived_bytes = 0;
}

void sim_datagrams_free(sim_socket *s) {
    sim_datagrams_drop(s);
    list_free(s->world, &s->under_way);
}

static int take_error(sim_socket *s) {
    const int error = s->error;
    s->error = 0;
    return error;
}

static bool is_connected(const sim_socket *s) { return s->remote.port != 0; }

static bool same(const sim_addr *a, const sim_addr *b) {
    return a->port == b->port && memcmp(&a->ip, &b->ip, sizeof a->ip) == 0;
}

int sim_datagram_connect(sim_socket *s, const sim_addr *to) {
    if (to == nullptr) {
        sim_addr_any(&s->remote, s->domain);
        return 0;
    }
    if (to->port == 0) return -EINVAL;
    sim_addr at = *to;
    if (sim_addr_is_any(&at)) at.ip = in6addr_loopback; // Linux: this host
    if (!s->bound) {
        sim_addr any;
        sim_addr_any(&any, s->domain);
        const int error = sim_bind(s, &any);
        if (error < 0) return -EAGAIN;
    }
    s->remote = at;
    if (sim_addr_is_any(&s->local)) s->local.ip = at.ip;
    return 0;
}

// --- sending --------------------------------------------------------------------------------------------------------

static void insert(sim_socket *s, sim_datagram *d) {
    sim_datagram **at = &s->under_way;
    while (*at != nullptr && (*at)->at_ns <= d->at_ns) at = &(*at)->next;
    d->next = *at;
    *at = d;
    sim_event_push(s->world, s, sim_event_kind::datagram, d->at_ns);
}

static sim_datagram *datagram_make(sim_world *w, const sim_addr *from, const sim_addr *to, size_t len) {
    if (!sim_events_reserve(w)) return nullptr;
    auto *d = static_cast<sim_datagram *>(sim_memory_alloc(sizeof(sim_datagram) + len));
    if (d == nullptr) return nullptr;
    memset(static_cast<void *>(d), 0, sizeof *d);
    d->from = *from;
    d->to = *to;
    d->len = static_cast<uint32_t>(len);
    w->datagrams++;
    return d;
}

static void far_place(const sim_world *w, const sim_addr *to, sim_place *out) {
    const sim_socket *s = sim_find_datagram(const_cast<sim_world *>(w), to, nullptr, false);
    *out = sim_place{s != nullptr ? s->node : SIM_NO_NODE, *to};
}

static void set_out(sim_socket *s, sim_datagram *d, const sim_place *here, const sim_place *far) {
    sim_world *w = s->world;
    int64_t left_ns = w->now_ns;
    const int64_t bandwidth = sim_bandwidth(w, here, far);
    if (bandwidth != 0) {
        if (s->line_ns < w->now_ns) s->line_ns = w->now_ns;
        s->line_ns = sim_add_ns(s->line_ns, static_cast<int64_t>(d->len) * MIO_SECOND / bandwidth);
        left_ns = s->line_ns;
    }
    d->at_ns = sim_add_ns(left_ns, sim_latency(w, here, far));
    if (sim_by_chance(w, MIO_SIM_REORDER, w->options.reorder_ppm, here, far)) {
        d->at_ns = sim_add_ns(d->at_ns, sim_below(w, SIM_FOR_FAULTS, HELD_BACK_NS));
    } else {
        if (d->at_ns < s->in_order_ns) d->at_ns = s->in_order_ns;
        s->in_order_ns = d->at_ns;
    }
    s->sent_bytes += d->len;
    insert(s, d);
}

static int target_of(const sim_socket *s, const struct msghdr *message, sim_addr *to) {
    if (message->msg_name == nullptr || message->msg_namelen == 0) {
        if (!is_connected(s)) return -EDESTADDRREQ;
        *to = s->remote;
        return 0;
    }
    const auto *name = static_cast<const struct sockaddr *>(message->msg_name);
    const int error = sim_addr_read(s->domain, name, message->msg_namelen, to);
    if (error < 0) return error;
    if (to->port == 0) return -EINVAL;
    if (sim_addr_is_any(to)) to->ip = in6addr_loopback;
    return 0;
}

// Where it comes from: what it says, else the socket's own, else whom it goes to.
static void source_of(const sim_socket *s, const datagram_notes *notes, const sim_addr *to, sim_addr *from) {
    *from = s->local;
    if (notes->local_len != 0) {
        const uint16_t port = from->port;
        if (sim_addr_read(s->domain, &notes->local.any, notes->local_len, from) < 0) *from = s->local;
        from->port = port;
    }
    if (sim_addr_is_any(from)) {
        from->ip = to->ip;
        from->scope = to->scope;
    }
}

static void fill(sim_datagram *d, const struct msghdr *message) {
    char *to = bytes_of(d);
    for (size_t i = 0; i < static_cast<size_t>(message->msg_iovlen); i++) {
        if (message->msg_iov[i].iov_len == 0) continue;
        memcpy(to, message->msg_iov[i].iov_base, message->msg_iov[i].iov_len);
        to += message->msg_iov[i].iov_len;
    }
}

static bool is_broadcast(const sim_addr *a) {
    static const uint8_t all[4] = {255, 255, 255, 255};
    return IN6_IS_ADDR_V4MAPPED(&a->ip) && memcmp(a->ip.s6_addr + 12, all, 4) == 0;
}

int64_t sim_datagram_send(sim_socket *s, const struct msghdr *message) {
    sim_world *w = s->world;
    if (s->error != 0) return take_error(s);
    sim_addr to;
    const int error = target_of(s, message, &to);
    if (error < 0) return error;
    size_t len = 0;
    for (size_t i = 0; i < static_cast<size_t>(message->msg_iovlen); i++) len += message->msg_iov[i].iov_len;
    if (len > w->options.datagram_max) return -EMSGSIZE;
    if (is_broadcast(&to)) return s->options[SIM_BROADCAST] == 0 ? -EACCES : -ENETUNREACH;
    if (s->sent_bytes != 0 && s->sent_bytes + len > w->options.socket_buffer) return -EAGAIN;
    datagram_notes notes;
    datagram_read_sent(static_cast<const char *>(message->msg_control), static_cast<size_t>(message->msg_controllen), &notes);
    sim_place here, far;
    sim_socket_place(s, &here);
    far_place(w, &to, &far);
    const int failed = sim_call_fails(w, MIO_SIM_CALL_SEND, &here, &far);
    if (failed < 0) return failed;
    if (!s->bound) {
        sim_addr any;
        sim_addr_any(&any, s->domain);
        if (sim_bind(s, &any) < 0) return -EAGAIN;
    }
    sim_addr from;
    source_of(s, &notes, &to, &from);
    sim_datagram *d = datagram_make(w, &from, &to, len);
    if (d == nullptr) return -ENOBUFS;
    d->ecn = notes.ecn;
    fill(d, message);
    set_out(s, d, &here, &far);
    if (sim_by_chance(w, MIO_SIM_DUPLICATE, w->options.duplicate_ppm, &here, &far)) {
        sim_datagram *twin = datagram_make(w, &from, &to, len); // nullptr: it stays alone
        if (twin != nullptr) {
            twin->ecn = notes.ecn;
            fill(twin, message);
            set_out(s, twin, &here, &far);
        }
    }
    sim_trace(w, SIM_DID_SEND, s->number, static_cast<int64_t>(len));
    return static_cast<int64_t>(len);
}

// --- receiving ------------------------------------------------------------------------------------------------------

static void copy_out(sim_datagram *d, struct msghdr *message) {
    size_t done = 0;
    for (size_t i = 0; i < static_cast<size_t>(message->msg_iovlen) && done != d->len; i++) {
        const size_t left = d->len - done;
        const size_t part = message->msg_iov[i].iov_len < left ? message->msg_iov[i].iov_len : left;
        memcpy(message->msg_iov[i].iov_base, bytes_of(d) + done, part);
        done += part;
    }
    message->msg_flags = done != d->len ? MSG_TRUNC : 0;
}

static void notes_of(const sim_socket *s, const sim_datagram *d, datagram_notes *notes) {
    memset(static_cast<void *>(notes), 0, sizeof *notes);
    sim_addr local = d->to;
    local.port = 0;
    socklen_t len = sizeof notes->local;
    sim_addr_write(s->domain, &local, &notes->local.any, &len);
    notes->local_len = len;
    notes->ifindex = 1; // lo
    notes->time_ns = sim_world_wall_ns(s->world);
    notes->ecn = d->ecn;
}

int64_t sim_datagram_receive(sim_socket *s, struct msghdr *message) {
    sim_world *w = s->world;
    if (s->error != 0) return take_error(s);
    sim_datagram *d = s->arrived;
    if (d == nullptr) return -EAGAIN;
    sim_place here, far;
    sim_socket_place(s, &here);
    far_place(w, &d->from, &far);
    const int failed = sim_call_fails(w, MIO_SIM_CALL_RECEIVE, &here, &far);
    if (failed < 0) return failed;
    copy_out(d, message);
    if (message->msg_name != nullptr) {
        socklen_t len = message->msg_namelen;
        sim_addr_write(s->domain, &d->from, static_cast<struct sockaddr *>(message->msg_name), &len);
        message->msg_namelen = len;
    }
    const int32_t *o = s->options;
    const datagram_wants wants = {o[SIM_WANT_LOCAL] != 0 || o[SIM_WANT_LOCAL6] != 0,
                                  o[SIM_WANT_ECN] != 0 || o[SIM_WANT_ECN6] != 0, o[SIM_WANT_TIME] != 0, false};
    size_t along = 0;
    if (message->msg_control != nullptr && message->msg_controllen >= DATAGRAM_CONTROL) {
        datagram_notes notes;
        notes_of(s, d, &notes);
        along = datagram_write_received(static_cast<char *>(message->msg_control), &notes, &wants);
    }
    message->msg_controllen = static_cast<decltype(message->msg_controllen)>(along);
    const int64_t len = (message->msg_flags & MSG_TRUNC) == 0 ? d->len : -1;
    int64_t room = 0;
    for (size_t i = 0; i < static_cast<size_t>(message->msg_iovlen); i++)
        room += static_cast<int64_t>(message->msg_iov[i].iov_len);
    s->arrived = d->next;
    s->arrived_bytes -= d->len;
    datagram_free(w, d);
    sim_trace(w, SIM_DID_RECEIVE, s->number, len < 0 ? room : len);
    return len < 0 ? room : len;
}

// --- events ---------------------------------------------------------------------------------------------------------

static void refused(sim_socket *s, const sim_datagram *d) {
    if (s->gone || !is_connected(s) || !same(&s->remote, &d->to)) return;
    s->error = -ECONNREFUSED;
    sim_trace(s->world, SIM_DID_REFUSE, s->number, d->len);
    sim_wake_in(s);
    sim_wake_out(s);
}

static void arrived(sim_socket *to, sim_datagram *d) {
    sim_world *w = to->world;
    if (to->arrived_bytes != 0 && to->arrived_bytes + d->len > w->options.socket_buffer) {
        sim_trace(w, SIM_DID_LOSE, to->number, d->len);
        datagram_free(w, d);
        return;
    }
    d->next = nullptr;
    sim_datagram **last = &to->arrived;
    while (*last != nullptr) last = &(*last)->next;
    *last = d;
    to->arrived_bytes += d->len;
    sim_trace(w, SIM_DID_ARRIVE, to->number, d->len);
    sim_wake_in(to);
}

// The first that is under way from s is there, wherever that is.
void sim_datagram_event(sim_socket *s) {
    sim_world *w = s->world;
    sim_datagram *d = s->under_way;
    mio_assert(d != nullptr && d->at_ns <= w->now_ns);
    s->under_way = d->next;
    sim_place here = {s->node, d->from}, far;
    sim_socket *to = d->bounced ? nullptr : sim_find_datagram(w, &d->to, &d->from, true);
    far = sim_place{to != nullptr ? to->node : SIM_NO_NODE, d->to};
    const bool lost = d->bounced ? sim_loses(w, &far, &here) : sim_loses(w, &here, &far);
    if (!d->bounced) {
        s->sent_bytes -= d->len;
        sim_wake_out(s);
    }
    if (lost) {
        sim_trace(w, SIM_DID_LOSE, s->number, d->len);
        datagram_free(w, d);
    } else if (d->bounced) {
        refused(s, d);
        datagram_free(w, d);
    } else if (to == nullptr) {
        d->bounced = true;
        d->at_ns = sim_add_ns(w->now_ns, sim_latency(w, &far, &here));
        insert(s, d);
    } else {
        arrived(to, d);
    }
}

// --- carriers -------------------------------------------------------------------------------------------------------

int sim_datagrams_receive(sim_socket *s, struct sys_message *messages, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        if (i != 0 && s->error != 0) return static_cast<int>(i); // told by the next call
        const int64_t got = sim_datagram_receive(s, &messages[i].head);
        if (got < 0) return i != 0 ? static_cast<int>(i) : static_cast<int>(got);
        messages[i].len = static_cast<unsigned>(got);
    }
    return static_cast<int>(n);
}

int sim_datagrams_send(sim_socket *s, struct sys_message *messages, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        if (i != 0 && s->error != 0) return static_cast<int>(i);
        const int64_t sent = sim_datagram_send(s, &messages[i].head);
        if (sent < 0) return i != 0 ? static_cast<int>(i) : static_cast<int>(sent);
        messages[i].len = static_cast<unsigned>(sent);
    }
    return static_cast<int>(n);
}

}
