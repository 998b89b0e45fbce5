// Connecting to a host by name, RFC 8305: which addresses are tried, in which order and when, and who wins.
//
//   mio_tcp_connect_host -> resolve -> attempts: streams of their own, unseen by the program -> the first that connects
//                                                                       gives its descriptor to the program's stream
//
// To the stream all this is one carrier of its out direction, STARTED until it settles: with 0, with an
// error, or, cancelled, with MIO_ECANCELED. So what waits behind it, and what close, abandon and a deadline do to it, is as
// it is behind any connect. Must not know how one attempt is made (tcp.cc) nor how a name is resolved (resolve.cc).
//
// Invariants: when the carrier settles, nothing of it is under way any more: the question is abandoned, the timer
// disarmed, every attempt abandoned. The struct lies in the request, in the place of its buffers, until the callback has
// returned; so there is no memory to fail for once it has begun but an attempt's own.

#include "core/backend.h"
#include "core/options.h"
#include "io/resolve.h"
#include "io/tcp.h"

#include <mio/error.h>

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

namespace mio {

constexpr int64_t STAGGER_NS = 250 * MIO_MILLISECOND;
constexpr int64_t STAGGER_LEAST_NS = 10 * MIO_MILLISECOND;
constexpr uint32_t RESOLVE_FLAGS = MIO_RESOLVE_CONFIGURED | MIO_RESOLVE_NUMERIC;

struct host_race {
    timer_node timer; // the next attempt; first, so that a node is a race
    stream *winner;   // the program's
    loose_request *question;
    mio_addrs_t addrs;
    mio_connect_options_t options;
    mio_addr_t bind;
    int64_t stagger_ns;
    unsigned count, started, under_way;
    mio_connect_tried_t tried[MIO_CONNECT_HOST_TRIES];
    stream *attempts[MIO_CONNECT_HOST_TRIES]; // nullptr: not begun, or over
};

constexpr unsigned RACE_BUFS = 64;
static_assert(sizeof(host_race) <= RACE_BUFS * sizeof(mio_buf_t) && alignof(host_race) <= alignof(mio_buf_t),
              "a race in a request");

static host_race *race_of(lane_request *req) { return reinterpret_cast<host_race *>(&req->bufs[0]); }

static lane_request *race_request(channel *c) {
    lane_request *req = lane_head(&c->writes);
    mio_assert(req != nullptr && req->op == op_code::connected && req->size_class == REQUEST_64);
    return req;
}

// --- the order ------------------------------------------------------------------------------------------------------

static int family_of(const host_race *r, unsigned i) { return r->addrs.list[i].u.any.sa_family; }

static bool family_wanted(const host_race *r, unsigned i) {
    return r->options.bind == nullptr || family_of(r, i) == r->bind.u.any.sa_family;
}

// The next address from `from` on that is wanted, of the family or (same = false) of the other; count: none.
static unsigned address_next(const host_race *r, unsigned from, int family, bool same) {
    while (from < r->addrs.count && (!family_wanted(r, from) || (family_of(r, from) == family) != same)) from++;
    return from;
}

// The families take turns, each in the order of the answer; the first address's begins.
static void race_order(host_race *r) {
    const int family = family_of(r, 0);
    unsigned next[2] = {address_next(r, 0, family, true), address_next(r, 0, family, false)};
    for (unsigned turn = 0; r->count < MIO_CONNECT_HOST_TRIES; turn ^= 1) {
        if (next[turn] == r->addrs.count) turn ^= 1;
        const unsigned i = next[turn];
        if (i == r->addrs.count) return;
        r->tried[r->count++] = mio_connect_tried_t{&r->addrs.list[i], MIO_ECANCELED};
        next[turn] = address_next(r, i + 1, family, turn == 0);
    }
}

// --- the end --------------------------------------------------------------------------------------------------------

static void race_stop(loop *l, host_race *r) {
    if (r->timer.state != timer_state::idle) timer_disarm(l, &r->timer);
    if (r->question != nullptr) (void)loose_abandon(l, r->question);
    r->question = nullptr;
    for (unsigned i = 0; i < r->started; i++) {
        stream *conn = r->attempts[i];
        r->attempts[i] = nullptr;
        if (conn != nullptr) handle_abandon(conn);
    }
    r->under_way = 0;
}

static void race_end(loop *l, host_race *r, int status) {
    race_stop(l, r);
    request_settle(l, &r->winner->out, status);
}

// Did the attempt get as far as somebody else? These come from this machine: no way there, no such address or family here,
// or nothing left of what a socket takes, or not allowed.
static bool is_local(int status) {
    switch (status) {
    case MIO_ENETUNREACH:
    case MIO_EHOSTUNREACH:
    case MIO_EADDRNOTAVAIL:
    case MIO_EADDRINUSE:
    case MIO_EAFNOSUPPORT:
    case MIO_EPROTONOSUPPORT:
    case MIO_ENOMEM:
    case MIO_EMFILE:
    case MIO_ENFILE:
    case MIO_ENOBUFS:
    case MIO_EACCES:
    case MIO_EPERM: return true;
    default: return false;
    }
}

static int race_error(const host_race *r) {
    for (unsigned i = 0; i < r->started; i++)
        if (!is_local(r->tried[i].status)) return r->tried[i].status;
    return r->started != 0 ? r->tried[0].status : static_cast<int>(MIO_EAI_NODATA); // none of bind's family
}

void connect_host_cancel(loop *l, channel *c) { race_end(l, race_of(race_request(c)), MIO_ECANCELED); }

void connect_host_done(loop *l, channel *c, const completion *done) {
    auto *s = static_cast<stream *>(c);
    mio_assert((s->bits & STREAM_CONNECTING) != 0);
    lane_request *req = race_request(s);
    host_race *r = race_of(req);
    lane_pop(&s->writes);
    mio_assert(r->question == nullptr && r->under_way == 0 && r->timer.state == timer_state::idle);
    int status = static_cast<int>(done->result);
    if (status == MIO_ECANCELED && req->result < 0) status = req->result;
    if (req->deadline.state != timer_state::idle) timer_disarm(l, &req->deadline);
    req->state = request_state::free; // its id is stale from here on; its memory is the callback's to read
    if ((req->flags & REQUEST_ABANDONED) == 0) {
        const int64_t begun_ns = callback_begin(l, s);
        reinterpret_cast<mio_connect_host_cb>(req->cb)(theirs<mio_stream_t>(s), status, r->tried, r->started, req->arg);
        callback_end(l, s, begun_ns, "connect");
    }
    mio_addrs_release(&r->addrs);
    request_free(l, req);
    stream_connected(s, status);
}

// --- attempts -------------------------------------------------------------------------------------------------------

static void attempt_told(mio_stream_t *public_stream, int status, void *arg);

// Begins the next attempt that can be begun; when there is none and nothing is under way, all has failed.
static void race_next(loop *l, host_race *r) {
    while (r->started < r->count) {
        const unsigned i = r->started++;
        stream *conn;
        const mio_req_t id = connect_start(l, r->tried[i].addr, &r->options, attempt_told, r, &conn);
        if (id < 0) {
            r->tried[i].status = static_cast<int>(id);
            continue;
        }
        (void)mio_handle_unref(theirs<mio_handle_t>(conn)); // the program's stream says whether the loop lives for it
        r->attempts[i] = conn;
        r->under_way++;
        if (r->started < r->count) timer_arm_after(l, &r->timer, r->stagger_ns);
        return;
    }
    if (r->under_way == 0) race_end(l, r, race_error(r));
}

void connect_host_timer_due(loop *l, timer_node *node) { race_next(l, reinterpret_cast<host_race *>(node)); }

static void attempt_won(loop *l, host_race *r, stream *conn) {
    stream *s = r->winner;
    mio_assert(s->fd < 0 && conn->fd >= 0 && conn->in.state == request_state::free);
    l->with->forget(l, conn);
    s->fd = conn->fd;
    conn->fd = -1;
    handle_abandon(conn);
    race_end(l, r, 0);
}

static void attempt_told(mio_stream_t *public_stream, int status, void *arg) {
    auto *conn = ours<stream>(public_stream);
    auto *r = static_cast<host_race *>(arg);
    loop *l = conn->on;
    unsigned i = 0;
    while (r->attempts[i] != conn) i++;
    mio_assert(i < r->started);
    r->attempts[i] = nullptr;
    r->tried[i].status = status;
    r->under_way--;
    if (status == 0) {
        attempt_won(l, r, conn);
        return;
    }
    handle_abandon(conn);
    if (r->timer.state != timer_state::idle) timer_disarm(l, &r->timer);
    race_next(l, r);
}

static void race_resolved(loop *l, int status, mio_addrs_t *addrs, void *arg) {
    auto *r = static_cast<host_race *>(arg);
    r->question = nullptr;
    if (status < 0) {
        race_end(l, r, status);
        return;
    }
    r->addrs = mio_addrs_take(addrs);
    race_order(r);
    if (r->count > 1) r->options.fastopen = 0; // it would stand before a peer has answered, and win
    race_next(l, r);
}

// --- the start ------------------------------------------------------------------------------------------------------

struct host_target {
    const char *host;
    size_t host_len;
    int port;
};

static bool options_valid(const mio_connect_host_options_t *o) {
    if ((o->resolve & ~RESOLVE_FLAGS) != 0 || o->timeout_ns < 0) return false;
    return o->stagger_ns == 0 || o->stagger_ns >= STAGGER_LEAST_NS;
}

// Its question is asked, or why not.
static int race_begin(loop *l, stream *s, host_race *r, const host_target *to, const mio_connect_host_options_t *o,
                      const mio_connect_options_t *each) {
    memset(static_cast<void *>(r), 0, sizeof *r);
    timer_node_init(&r->timer, TIMER_OF_HOST);
    r->winner = s;
    r->options = *each;
    if (each->bind != nullptr) {
        r->bind = *each->bind;
        r->options.bind = &r->bind;
    }
    r->stagger_ns = o->stagger_ns != 0 ? o->stagger_ns : STAGGER_NS;
    mio_resolve_options_t resolve = MIO_RESOLVE_OPTIONS_INIT;
    resolve.family = o->family;
    resolve.flags = o->resolve;
    int error;
    r->question = resolve_ask(l, to->host, to->host_len, to->port, &resolve, race_resolved, r, &error);
    return error;
}

static mio_req_t host_start(loop *l, const host_target *to, const mio_connect_host_options_t *o,
                            const mio_connect_options_t *each, mio_connect_host_cb cb, void *arg, stream **out) {
    stream *s = stream_create(l, -1);
    if (s == nullptr) return MIO_ENOMEM;
    lane_request *req = request_create(l, s, op_code::connected, RACE_BUFS);
    const int error = req != nullptr ? race_begin(l, s, race_of(req), to, o, each) : static_cast<int>(MIO_ENOMEM);
    if (error < 0) {
        if (req != nullptr) request_free(l, req);
        handle_abandon(s);
        return error;
    }
    req->bufs_used = 0; // no buffers in there
    req->cb = reinterpret_cast<void (*)()>(cb);
    req->arg = arg;
    if (o->timeout_ns != 0 && o->timeout_ns != MIO_FOREVER) timer_arm_after(l, &req->deadline, o->timeout_ns);
    lane_push(&s->writes, req);
    s->flags = static_cast<uint16_t>(s->flags | CHANNEL_TCP);
    s->bits |= STREAM_CONNECTING;
    carrier_start_here(&s->out, op_code::connect_host);
    *out = s;
    return request_id(req);
}

}

using namespace mio;

mio_req_t mio_tcp_connect_host(mio_loop_t *public_loop, const char *host, size_t host_len, int port,
                               const mio_connect_host_options_t *options, mio_connect_host_cb cb, void *arg,
                               mio_stream_t **out) {
    loop *l = loop_of(public_loop);
    int error = loop_check_start(l);
    if (error < 0) return error;
    if (cb == nullptr || out == nullptr) return MIO_EINVAL;
    mio_connect_host_options_t complete;
    mio_connect_options_t each;
    error = options_copy(&complete, sizeof complete, options);
    if (error == 0) error = connect_options_complete(&each, complete.connect);
    if (error == 0 && !options_valid(&complete)) error = MIO_EINVAL;
    if (error < 0) return error;
    const host_target to = {host, host_len, port};
    stream *s;
    const mio_req_t id = host_start(l, &to, &complete, &each, cb, arg, &s);
    if (id > 0) *out = theirs<mio_stream_t>(s);
    return id;
}

int mio_connect_tried_format(const mio_connect_tried_t *tried, unsigned n, char *text, size_t size) {
    if (text == nullptr || (tried == nullptr && n != 0)) return MIO_EINVAL;
    size_t used = 0;
    for (unsigned i = 0; i < n || (i == 0 && n == 0); i++) {
        char addr[MIO_ADDR_TEXT_MAX] = "?";
        if (n != 0) (void)mio_addr_format(tried[i].addr, addr, sizeof addr);
        const char *status = n == 0 || tried[i].status == 0 ? "MIO_OK" : mio_error_name(tried[i].status);
        const int length = n == 0 ? snprintf(text, size, "nothing was tried")
                                  : snprintf(text + used, size - used, "%s%s %s", i == 0 ? "" : ", ", addr, status);
        if (length < 0 || static_cast<size_t>(length) >= size - used) return MIO_ENOBUFS;
        used += static_cast<size_t>(length);
    }
    return static_cast<int>(used);
}
