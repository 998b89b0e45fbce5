// Listeners: one continuous accept, handed on as ready streams.
//
//   accepting --pause--> paused --resume--> accepting         accepting: the carrier is WAITING or STARTED
//   accepting --EMFILE and the like--> resting --timer--> accepting        otherwise it is FREE, or on its way there
//   any --close, abandon--> ENDING --carrier FREE--> last callback (MIO_ECANCELED), request over
//
// Decides what an error of accept(2) means. Errors of the connection that was to be accepted (Linux hands them out
// here) cost nothing but that connection: go on at once. Want of descriptors or memory would be met again at once, and
// so may be anything unknown: rest for 10 ms, doubling up to 1 s, so that no error can spin; connections wait in the
// backlog meanwhile. Every error is told.
//
// Must not know how a kernel is asked, nor what happens on a stream once its callback has returned.
//
// Invariant: listener_continue is the only place that starts the carrier, and is called whenever something that held
// it back may have gone: a record, a timer, a resume.

#include "base/socket.h"
#include "io/listener.h"

#include "io/stream.h"

#include <mio/error.h>

namespace mio {

constexpr uint32_t RETRY_FIRST_MS = 10;
constexpr uint32_t RETRY_MOST_MS = 1000;

static listener *listener_of_node(timer_node *node) {
    return reinterpret_cast<listener *>(reinterpret_cast<char *>(node) - sizeof(channel));
}

// --- accepting ------------------------------------------------------------------------------------------------------

// false: the listener was abandoned in its callback.
static bool listener_call(loop *l, listener *li, int status, stream *s) {
    auto cb = reinterpret_cast<mio_listener_cb>(li->in.cb);
    const int64_t begun_ns = callback_begin(l, li);
    cb(theirs<mio_listener_t>(li), status, theirs<mio_stream_t>(s), li->in.arg);
    return callback_end(l, li, begun_ns, "accept");
}

static void listener_last_call(loop *l, listener *li) {
    mio_assert(li->requests == 1 && li->in.state == request_state::free);
    handle_request_end(li);
    const bool silent = (li->flags & HANDLE_ABANDONED) != 0;
    if (silent || listener_call(l, li, MIO_ECANCELED, nullptr)) handle_try_end(li);
}

static void listener_continue(loop *l, listener *li) {
    if (li->in.state != request_state::free) return; // it comes back by listener_accept_done
    if ((li->bits & LISTENER_ENDING) != 0) listener_last_call(l, li);
    else if ((li->bits & LISTENER_PAUSED) == 0 && li->retry.state == timer_state::idle)
        carrier_start(l, &li->in, op_code::accept);
}

listener *listener_create(loop *l, int fd, uint16_t what, mio_listener_cb cb, void *arg) {
    auto *li = static_cast<listener *>(handle_create(l, MIO_KIND_LISTENER));
    if (li == nullptr) return nullptr;
    mio_assert(listener_of_node(&li->retry) == li);
    li->fd = fd;
    li->flags = static_cast<uint16_t>(li->flags | what);
    li->in.op = op_code::accept; // also while it is FREE: an end without a start is settled as an accept
    li->in.cb = reinterpret_cast<void (*)()>(cb);
    li->in.arg = arg;
    li->out.op = op_code::none;
    timer_node_init(&li->retry, TIMER_OF_LISTENER);
    handle_request_begin(li); // of its id nobody learns: the request lives as long as the listener
    listener_continue(l, li);
    return li;
}

// --- what accept says -----------------------------------------------------------------------------------------------

// Errors that were waiting on the new connection, accept(2).
static bool error_of_connection(int64_t error) {
    switch (error) {
    case MIO_ECONNABORTED:
    case MIO_ECONNRESET:
    case MIO_EHOSTDOWN:
    case MIO_EHOSTUNREACH:
    case MIO_EINTR:
    case MIO_ENETDOWN:
    case MIO_ENETUNREACH:
    case -ENONET:
    case MIO_ENOPROTOOPT:
    case MIO_EPROTO:
    case MIO_ETIMEDOUT: return true;
    }
    return false;
}

static void listener_rest(loop *l, listener *li, int status) {
    if (li->retry.state != timer_state::idle) return; // one pause for all errors of a batch
    li->retry_ms = li->retry_ms == 0 ? RETRY_FIRST_MS : li->retry_ms * 2;
    if (li->retry_ms > RETRY_MOST_MS) li->retry_ms = RETRY_MOST_MS;
    timer_arm_after(l, &li->retry, li->retry_ms * MIO_MILLISECOND);
    loop_log(l, MIO_LOG_WARNING, "accepting rests for %u ms: %s", li->retry_ms, mio_error_name(status));
    carrier_cancel(l, &li->in, MIO_ECANCELED);
}

// What these two return is listener_call's.
static bool listener_report(loop *l, listener *li, int error) {
    l->counters.accept_errors++;
    if (!error_of_connection(error)) listener_rest(l, li, error); // before the callback: a close in it ends the rest
    return listener_call(l, li, error, nullptr);
}

// Nobody wanted it: nothing was started on it, and nothing says that somebody knows it. It may be gone already, and
// its slot may be somebody else's: the generation tells (a read that was started changes it, too).
static void stream_leave_unwanted(stream *s, uint32_t generation) {
    if (!slab_is_live(s) || slab_generation(s) != generation || s->state != handle_state::open) return;
    if (s->requests == 0 && s->data == nullptr && (s->flags & HANDLE_KEPT) == 0) handle_abandon(s);
}

static bool listener_deliver(loop *l, listener *li, int fd) {
    const int error = (li->flags & CHANNEL_RECORDS) != 0 ? socket_tells_records(l->calls, fd) : 0;
    stream *s = error < 0 ? nullptr : stream_create(l, fd);
    if (s == nullptr) {
        l->calls->close(fd);
        return listener_report(l, li, error < 0 ? error : static_cast<int>(MIO_ENOMEM));
    }
    stream_set_kind(s, li->flags & STREAM_KINDS);
    li->retry_ms = 0;
    l->counters.accepts++;
    const uint32_t generation = slab_generation(s);
    const bool survived = listener_call(l, li, 0, s);
    stream_leave_unwanted(s, generation);
    return survived;
}

void listener_accept_done(loop *l, channel *c, const completion *done) {
    auto *li = static_cast<listener *>(c);
    mio_assert(li->kind == MIO_KIND_LISTENER && li->requests == 1);
    const bool wanted = (li->bits & LISTENER_ENDING) == 0;
    bool survived = true;
    if (done->result >= 0) {
        const int fd = static_cast<int>(done->result);
        if (wanted) survived = listener_deliver(l, li, fd);
        else l->calls->close(fd);
    } else if (wanted && done->result != MIO_ECANCELED) { // that one is our own: a pause, a rest
        survived = listener_report(l, li, static_cast<int>(done->result));
    }
    if (survived) listener_continue(l, li);
}

void listener_timer_due(loop *l, timer_node *node) {
    listener *li = listener_of_node(node);
    mio_assert(li->kind == MIO_KIND_LISTENER && node->state == timer_state::idle);
    listener_continue(l, li);
}

// --- the end --------------------------------------------------------------------------------------------------------

int listener_accept_cancel(loop *l, channel *c) {
    auto *li = static_cast<listener *>(c);
    mio_assert(li->kind == MIO_KIND_LISTENER);
    if ((li->bits & LISTENER_ENDING) != 0) return MIO_EALREADY;
    li->bits |= LISTENER_ENDING;
    timer_disarm(l, &li->retry);
    if (li->in.state == request_state::free) request_settle(l, &li->in, MIO_ECANCELED);
    else carrier_cancel(l, &li->in, MIO_ECANCELED);
    return 0;
}

// A listener that accepts for nobody is no listener.
void listener_accept_abandon(loop *l, channel *c) {
    mio_assert(c->on == l);
    handle_abandon(c);
}

void listener_begin_close(loop *l, listener *li) {
    if ((li->bits & LISTENER_ENDING) == 0) listener_accept_cancel(l, li);
}

}

// --- what the user asks ---------------------------------------------------------------------------------------------

using namespace mio;

static int option_get(const loop *l, int fd, int name, int *out) {
    socklen_t len = sizeof *out;
    *out = 0;
    return l->calls->getsockopt(fd, SOL_SOCKET, name, out, &len);
}

// What kind of stream a listening socket accepts, or an error. TCP gets its TCP_NODELAY here: accepted sockets inherit it.
static int adopted_kind(const loop *l, int fd) {
    int listening, type;
    int error = option_get(l, fd, SO_ACCEPTCONN, &listening);
    if (error < 0) return error;
    if (listening == 0) return MIO_EINVAL;
    error = option_get(l, fd, SO_TYPE, &type);
    if (error < 0) return error;
    if (type != SOCK_STREAM && type != SOCK_SEQPACKET) return MIO_EINVAL;
    struct sockaddr_storage local;
    socklen_t len = sizeof local;
    error = l->calls->getsockname(fd, reinterpret_cast<struct sockaddr *>(&local), &len);
    if (error < 0) return error;
    error = l->calls->set_nonblocking(fd);
    if (error < 0) return error;
    if (local.ss_family == AF_UNIX) return type == SOCK_STREAM ? CHANNEL_UNIX : CHANNEL_UNIX | CHANNEL_RECORDS;
    if (type != SOCK_STREAM) return MIO_EINVAL;
    if (local.ss_family != AF_INET && local.ss_family != AF_INET6) return 0;
    const int on = 1; // refused by other protocols of these families: then nothing is known of the streams
    return l->calls->setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0 ? 0 : CHANNEL_TCP;
}

// Also one that is closing: the descriptor will be closed with it.
static bool is_listened_on(loop *l, int fd) {
    const slab *all = &l->slabs[MIO_KIND_LISTENER];
    for (uint32_t i = 0; i < slab_slots(all); i++) {
        const auto *li = static_cast<const listener *>(slab_at(all, i));
        if (slab_is_live(li) && li->fd == fd) return true;
    }
    return false;
}

int mio_listener_adopt(mio_loop_t *public_loop, int fd, mio_listener_cb cb, void *arg, mio_listener_t **out) {
    loop *l = loop_of(public_loop);
    const int error = loop_check_start(l);
    if (error < 0) return error;
    if (cb == nullptr || out == nullptr) return MIO_EINVAL;
    if (fd < 0) return MIO_EBADF;
    if (is_listened_on(l, fd)) return MIO_EBUSY;
    const int what = adopted_kind(l, fd);
    if (what < 0) return what;
    listener *li = listener_create(l, fd, static_cast<uint16_t>(what | CHANNEL_SHARED), cb, arg);
    if (li == nullptr) return MIO_ENOMEM;
    *out = theirs<mio_listener_t>(li);
    return 0;
}

int mio_listener_pause(mio_listener_t *public_listener) {
    listener *li = ours<listener>(public_listener);
    const int error = handle_check(li, MIO_KIND_LISTENER);
    if (error < 0) return error;
    if ((li->bits & LISTENER_PAUSED) != 0) return 0;
    li->bits |= LISTENER_PAUSED;
    carrier_cancel(li->on, &li->in, MIO_ECANCELED);
    return 0;
}

int mio_listener_resume(mio_listener_t *public_listener) {
    listener *li = ours<listener>(public_listener);
    const int error = handle_check(li, MIO_KIND_LISTENER);
    if (error < 0) return error;
    if ((li->bits & LISTENER_PAUSED) == 0) return 0;
    li->bits &= ~LISTENER_PAUSED;
    if ((li->bits & LISTENER_ENDING) == 0) listener_continue(li->on, li); // the last call is the turn's to make
    return 0;
}

int mio_listener_local(const mio_listener_t *public_listener, mio_addr_t *out) {
    const listener *li = ours<listener>(public_listener);
    const int error = handle_check(li, MIO_KIND_LISTENER);
    if (error < 0) return error;
    if (out == nullptr) return MIO_EINVAL;
    mio_addr_t local = mio_addr_t();
    local.len = sizeof local.u;
    const int failed = li->on->calls->getsockname(li->fd, &local.u.any, &local.len);
    if (failed < 0) return failed;
    *out = local;
    return 0;
}

int mio_listener_fd(const mio_listener_t *public_listener) {
    const listener *li = ours<listener>(public_listener);
    const int error = handle_check(li, MIO_KIND_LISTENER);
    return error < 0 ? error : li->fd;
}
