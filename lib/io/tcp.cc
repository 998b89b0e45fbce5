// TCP: sockets that listen, sockets that connect, and their options.
//
// Listening is done when mio_tcp_listen returns: socket, options, bind and listen never wait. Of a connect only what
// costs nothing is answered at once (arguments, memory); everything that the system or the network says comes by the
// callback, also when it is known before the call returns.
//
//   mio_tcp_connect           flush, backend                          tcp_connect_done
//   stream without a peer, --> out carrier: connect --> result --> pop the request, callback, then stream_connected
//   request `connected`        (or settled at once with            (io/stream.cc) starts what waits behind it,
//   at the head of writes       the error of socket or bind)        or ends it with the error
//
// The request carries the address in the room of its buffers. Must not know how a connection is made, nor what the
// stream does with it. A connection that came wins over a cancel or a deadline.
//
// Invariant: while the carrier is out the request is the head of the write lane, also of a stream that is closing or
// abandoned; so the address stays, and nothing behind it is sent before its callback.

#include "base/socket.h"
#include "core/options.h"
#include "io/listener.h"
#include "io/tcp.h"

#include <mio/error.h>
#include <mio/tcp.h>

#include <string.h>

namespace mio {

constexpr unsigned ADDRESS_BUFS = 4; // room of so many mio_buf_t holds any address
static_assert(sizeof(struct sockaddr_storage) <= ADDRESS_BUFS * sizeof(mio_buf_t), "an address in a request");

static int option_set(const loop *l, int fd, int level, int name, int value) {
    return l->calls->setsockopt(fd, level, name, &value, sizeof value);
}

// --- listening ------------------------------------------------------------------------------------------------------

static bool listen_options_valid(const mio_listen_options_t *o) {
    return o->backlog >= 0 && o->defer_accept_s >= 0 && o->fastopen >= 0;
}

// Everything between socket and listen. TCP_NODELAY is inherited by what is accepted: one call for all of them.
static int listen_prepare(const loop *l, int fd, int family, const mio_listen_options_t *o) {
    int error = option_set(l, fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (error == 0 && o->no_reuse_addr == 0) error = option_set(l, fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (error == 0 && o->reuse_port != 0) error = option_set(l, fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (error == 0 && family == AF_INET6) // said either way: the system's default can be changed
        error = option_set(l, fd, IPPROTO_IPV6, IPV6_V6ONLY, o->v6only != 0 ? 1 : 0);
    if (error == 0 && o->defer_accept_s != 0)
        error = option_set(l, fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, o->defer_accept_s);
    if (error == 0 && o->fastopen != 0) error = option_set(l, fd, IPPROTO_TCP, TCP_FASTOPEN, o->fastopen);
    return error;
}

// A listening descriptor, or an error and nothing is left behind.
static int listen_open(const loop *l, const mio_addr_t *at, const mio_listen_options_t *o) {
    const int family = at->u.any.sa_family;
    const int fd = l->calls->socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    if (fd < 0) return fd;
    int error = listen_prepare(l, fd, family, o);
    if (error == 0) error = l->calls->bind(fd, &at->u.any, at->len);
    if (error == 0) error = l->calls->listen(fd, o->backlog != 0 ? o->backlog : SOMAXCONN);
    if (error == 0) return fd;
    l->calls->close(fd);
    return error;
}

// --- connecting -----------------------------------------------------------------------------------------------------

static bool address_valid(const mio_addr_t *addr) {
    if (addr == nullptr || addr->len > sizeof addr->u || addr->len < sizeof addr->u.any.sa_family) return false;
    if (addr->u.any.sa_family == AF_INET) return addr->len >= sizeof(struct sockaddr_in);
    if (addr->u.any.sa_family == AF_INET6) return addr->len >= sizeof(struct sockaddr_in6);
    return true; // the system knows which others there are
}

int connect_options_complete(mio_connect_options_t *complete, const mio_connect_options_t *options) {
    const int error = options_copy(complete, sizeof *complete, options);
    if (error < 0) return error;
    return complete->bind != nullptr && !address_valid(complete->bind) ? static_cast<int>(MIO_EINVAL) : 0;
}

static lane_request *connect_request(const stream *s) {
    lane_request *req = lane_head(&s->writes);
    mio_assert(req != nullptr && req->op == op_code::connected);
    return req;
}

const struct sockaddr *channel_connect_target(const channel *c, socklen_t *len) {
    const lane_request *req = connect_request(static_cast<const stream *>(c));
    mio_assert(req->total > 0 && req->total <= static_cast<int64_t>(sizeof(struct sockaddr_storage)));
    *len = static_cast<socklen_t>(req->total);
    return reinterpret_cast<const struct sockaddr *>(&req->bufs[0]);
}

// Makes the stream's socket ready to connect. On an error the descriptor stays with the stream, which ends it.
static int connect_open(loop *l, stream *s, int family, const mio_connect_options_t *o) {
    const int fd = l->calls->socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    if (fd < 0) return fd;
    s->fd = fd;
    int error = option_set(l, fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (error == 0 && o->reuse_addr != 0) error = option_set(l, fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (error == 0 && o->mark != 0) error = l->calls->setsockopt(fd, SOL_SOCKET, SO_MARK, &o->mark, sizeof o->mark);
    if (error == 0 && o->fastopen != 0) error = option_set(l, fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1);
    if (error == 0 && o->bind != nullptr) error = l->calls->bind(fd, &o->bind->u.any, o->bind->len);
    return error;
}

stream *connect_create(loop *l, const void *addr, size_t addr_len, uint16_t what, mio_connect_cb cb, void *arg,
                       mio_req_t *id) {
    stream *s = stream_create(l, -1);
    if (s == nullptr) return nullptr;
    lane_request *req = request_create(l, s, op_code::connected, ADDRESS_BUFS);
    if (req == nullptr) {
        handle_abandon(s);
        return nullptr;
    }
    req->bufs_used = 0; // no buffers in there
    req->total = static_cast<int64_t>(addr_len);
    memcpy(static_cast<void *>(&req->bufs[0]), addr, addr_len);
    req->cb = reinterpret_cast<void (*)()>(cb);
    req->arg = arg;
    lane_push(&s->writes, req);
    stream_set_kind(s, what);
    s->bits |= STREAM_CONNECTING;
    s->out.op = op_code::connect;
    *id = request_id(req);
    return s;
}

void connect_begin(loop *l, stream *s, int error) {
    if (error < 0) request_settle(l, &s->out, error);
    else carrier_start(l, &s->out, op_code::connect);
}

mio_req_t connect_start(loop *l, const mio_addr_t *addr, const mio_connect_options_t *o, mio_connect_cb cb, void *arg,
                        stream **out) {
    mio_req_t id = 0;
    stream *s = connect_create(l, &addr->u, addr->len, CHANNEL_TCP, cb, arg, &id);
    if (s == nullptr) return MIO_ENOMEM;
    connect_begin(l, s, connect_open(l, s, addr->u.any.sa_family, o));
    *out = s;
    return id;
}

void tcp_connect_cancel(stream *s, lane_request *req, int32_t with) {
    mio_assert(req == connect_request(s));
    req->flags = static_cast<uint16_t>(req->flags | REQUEST_CANCEL);
    req->result = with;
    carrier_cancel(s->on, &s->out, with);
}

void tcp_connect_done(loop *l, channel *c, const completion *done) {
    auto *s = static_cast<stream *>(c);
    mio_assert((s->bits & STREAM_CONNECTING) != 0 && (done->flags & FINISH_MORE) == 0);
    lane_request *req = connect_request(s);
    lane_pop(&s->writes);
    int status = static_cast<int>(done->result);
    // Why it was cancelled is known here only; any other result, good or bad, was faster and stands.
    if (status == MIO_ECANCELED && (req->flags & REQUEST_CANCEL) != 0) status = req->result;
    const bool silent = (req->flags & REQUEST_ABANDONED) != 0;
    const auto cb = reinterpret_cast<mio_connect_cb>(req->cb);
    void *arg = req->arg;
    request_free(l, req);
    if (!silent) {
        const int64_t begun_ns = callback_begin(l, s);
        cb(theirs<mio_stream_t>(s), status, arg);
        callback_end(l, s, begun_ns, "connect"); // abandoned or not: what waited behind the connect has an end to come to
    }
    stream_connected(s, status);
}

}

// --- what the user asks ---------------------------------------------------------------------------------------------

using namespace mio;

int mio_tcp_listen(mio_loop_t *public_loop, const char *host, int port, const mio_listen_options_t *options,
                   mio_listener_cb cb, void *arg, mio_listener_t **out) {
    loop *l = loop_of(public_loop);
    int error = loop_check_start(l);
    if (error < 0) return error;
    if (cb == nullptr || out == nullptr) return MIO_EINVAL;
    mio_listen_options_t complete;
    error = options_copy(&complete, sizeof complete, options);
    if (error < 0) return error;
    if (!listen_options_valid(&complete)) return MIO_EINVAL;
    mio_addr_t at;
    error = mio_addr_parse(host, port, &at);
    if (error < 0) return error;
    const int fd = listen_open(l, &at, &complete);
    if (fd < 0) return fd;
    listener *li = listener_create(l, fd, CHANNEL_TCP, cb, arg);
    if (li == nullptr) {
        l->calls->close(fd);
        return MIO_ENOMEM;
    }
    *out = theirs<mio_listener_t>(li);
    return 0;
}

mio_req_t mio_tcp_connect(mio_loop_t *public_loop, const mio_addr_t *addr, const mio_connect_options_t *options,
                          mio_connect_cb cb, void *arg, mio_stream_t **out) {
    loop *l = loop_of(public_loop);
    int error = loop_check_start(l);
    if (error < 0) return error;
    if (cb == nullptr || out == nullptr || !address_valid(addr)) return MIO_EINVAL;
    mio_connect_options_t complete;
    error = connect_options_complete(&complete, options);
    if (error < 0) return error;
    stream *s;
    const mio_req_t id = connect_start(l, addr, &complete, cb, arg, &s);
    if (id > 0) *out = theirs<mio_stream_t>(s);
    return id;
}

// An open stream that has a socket.
static int socket_check(const stream *s) {
    const int error = handle_check(s, MIO_KIND_STREAM);
    if (error < 0) return error;
    return s->fd < 0 ? MIO_ENOTCONN : 0;
}

int mio_tcp_nodelay(mio_stream_t *public_stream, int on) {
    const stream *s = ours<stream>(public_stream);
    const int error = socket_check(s);
    return error < 0 ? error : option_set(s->on, s->fd, IPPROTO_TCP, TCP_NODELAY, on != 0 ? 1 : 0);
}

int mio_tcp_keepalive(mio_stream_t *public_stream, int idle_s, int interval_s, int count) {
    const stream *s = ours<stream>(public_stream);
    int error = socket_check(s);
    if (error < 0) return error;
    if (idle_s < 0 || interval_s < 0 || count < 0) return MIO_EINVAL;
    if (idle_s == 0) return option_set(s->on, s->fd, SOL_SOCKET, SO_KEEPALIVE, 0);
    // The times first: a probe must not go out by the old ones.
    error = option_set(s->on, s->fd, IPPROTO_TCP, TCP_KEEPIDLE, idle_s);
    if (error == 0 && interval_s != 0) error = option_set(s->on, s->fd, IPPROTO_TCP, TCP_KEEPINTVL, interval_s);
    if (error == 0 && count != 0) error = option_set(s->on, s->fd, IPPROTO_TCP, TCP_KEEPCNT, count);
    return error < 0 ? error : option_set(s->on, s->fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}

int mio_tcp_linger(mio_stream_t *public_stream, int linger_s) {
    const stream *s = ours<stream>(public_stream);
    const int error = socket_check(s);
    if (error < 0) return error;
    struct linger linger = {linger_s >= 0 ? 1 : 0, linger_s >= 0 ? linger_s : 0};
    return s->on->calls->setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

int mio_tcp_quickack(mio_stream_t *public_stream, int on) {
    const stream *s = ours<stream>(public_stream);
    const int error = socket_check(s);
    return error < 0 ? error : option_set(s->on, s->fd, IPPROTO_TCP, TCP_QUICKACK, on != 0 ? 1 : 0);
}
