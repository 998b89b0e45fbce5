// Streams that change hands: a descriptor and the bytes received but not read, given to the program (detach), taken
// from it (adopt), or carried to another loop (move).
//
//   detach  waits in the write lane until all before it is sent, and until the `in` carrier has let go; what it brought
//           meanwhile is pushback, and goes along
//   move    the same, into a parcel that is posted to the other loop, which adopts it there
//
// Until the last step nothing is taken: when memory or the other loop fails, the stream is as it was.

#include "base/socket.h"
#include "core/backend.h"
#include "core/remote.h"
#include "io/stream.h"

#include <mio/error.h>

#include <string.h>

namespace mio {

constexpr unsigned UNREAD_MAX = 16; // pieces that travel; more are joined into one

struct parcel { // malloc, crosses threads
    int fd;
    uint16_t what; // of STREAM_KINDS
    uint32_t sides; // STREAM_NO_READ, STREAM_NO_WRITE, STREAM_DISK
    unsigned unread_used;
    mio_move_cb cb;
    void *arg;
    const sys *calls;
    mio_buf_t unread[UNREAD_MAX];
};

bool stream_detach_ready(const stream *s) {
    return s->in.state == request_state::free && (s->bits & STREAM_READING) == 0;
}

static remote *move_target(const lane_request *req) {
    remote *to;
    memcpy(&to, req->delimiter, sizeof to);
    return to;
}

// --- the bytes that go along ----------------------------------------------------------------------------------------

static unsigned unread_count(const stream *s) {
    unsigned n = 0;
    for (const pushback *p = s->unread; p != nullptr; p = p->next) n++;
    return n;
}

// Joins pushback into one piece when there are more than travel. false: no memory, nothing changed.
static bool unread_join(loop *l, stream *s) {
    unsigned n = 0;
    size_t total = 0;
    for (const pushback *p = s->unread; p != nullptr; p = p->next) {
        n++;
        total += p->buf.len;
    }
    if (n <= UNREAD_MAX) return true;
    mio_buf_t joined;
    if (mio_buf_alloc(loop_public(l), total, &joined) < 0) return false;
    pushback *first = s->unread;
    for (const pushback *p = first; p != nullptr; p = p->next) {
        bufs_show(&p->buf, 1);
        memcpy(joined.base + joined.len, p->buf.base, p->buf.len);
        joined.len += p->buf.len;
    }
    buf_release(&first->buf);
    bufs_hide(&joined, 1);
    first->buf = joined;
    s->unread = first->next;
    stream_drop_unread(l, s);
    first->next = nullptr;
    s->unread = first;
    return true;
}

// The pieces, still owned by the stream: forget_unread hands them over.
static unsigned unread_list(const stream *s, mio_buf_t *out) {
    unsigned n = 0;
    for (const pushback *p = s->unread; p != nullptr; p = p->next) out[n++] = p->buf;
    mio_assert(n <= UNREAD_MAX);
    return n;
}

static void unread_forget(loop *l, stream *s) {
    while (s->unread != nullptr) {
        pushback *p = s->unread;
        s->unread = p->next;
        slab_give(&l->slabs[SLAB_PUSHBACK], p);
    }
}

// --- detach ---------------------------------------------------------------------------------------------------------

static void detach_end(loop *l, stream *s, lane_request *req, int status) {
    lane_pop(&s->writes);
    s->bits &= ~STREAM_DETACHING;
    mio_buf_t unread[UNREAD_MAX];
    unsigned n = 0;
    int fd = -1;
    if (status == 0) {
        n = unread_list(s, unread);
        unread_forget(l, s);
        l->with->forget(l, s);
        if ((s->flags & CHANNEL_RESTORED) != 0) channel_restore(l, s);
        fd = s->fd;
        s->fd = -1;
    }
    const auto cb = reinterpret_cast<mio_detach_cb>(req->cb);
    const bool silent = (req->flags & REQUEST_ABANDONED) != 0;
    void *arg = req->arg;
    request_free(l, req);
    bool survived = true;
    if (!silent) {
        bufs_show(unread, n);
        const int64_t begun_ns = callback_begin(l, s);
        cb(theirs<mio_stream_t>(s), status, fd, unread, n, arg);
        survived = callback_end(l, s, begun_ns, "detach");
    } else if (fd >= 0) {
        l->calls->close(fd);
    }
    for (unsigned i = 0; i < n; i++) buf_release(&unread[i]);
    if (status == 0 && survived && s->state == handle_state::open) handle_close(s, nullptr, nullptr);
}

// --- move -----------------------------------------------------------------------------------------------------------

static void parcel_drop(parcel *p) {
    p->calls->close(p->fd);
    for (unsigned i = 0; i < p->unread_used; i++) buf_release(&p->unread[i]);
}

// On the new loop's thread, inside the callback of a post.
static void parcel_arrives(mio_loop_t *public_loop, int status, void *arg) {
    loop *l = loop_of(public_loop);
    auto *p = static_cast<parcel *>(arg);
    stream *s = nullptr;
    if (status == 0) {
        s = stream_create(l, p->fd);
        if (s == nullptr) status = MIO_ENOMEM;
    }
    if (s == nullptr) {
        parcel_drop(p);
    } else {
        stream_set_kind(s, p->what);
        s->bits |= p->sides;
        for (unsigned i = 0; i < p->unread_used; i++)
            if (!stream_unread_append(l, s, &p->unread[i])) status = MIO_ENOMEM;
        if (status < 0) {
            for (unsigned i = 0; i < p->unread_used; i++) buf_release(&p->unread[i]);
            handle_abandon(s);
            s = nullptr;
        }
    }
    const mio_move_cb cb = p->cb;
    void *user = p->arg;
    p->calls->release(p, sizeof(parcel));
    cb(public_loop, status, theirs<mio_stream_t>(s), user);
    if (s != nullptr && s->state == handle_state::open && s->requests == 0 && s->data == nullptr &&
        (s->flags & HANDLE_KEPT) == 0)
        handle_abandon(s);
}

static int parcel_send(loop *l, stream *s, lane_request *req) {
    auto *p = static_cast<parcel *>(l->calls->alloc(sizeof(parcel)));
    if (p == nullptr) return MIO_ENOMEM;
    p->fd = s->fd;
    p->what = s->flags & STREAM_KINDS;
    p->sides = s->bits & (STREAM_NO_READ | STREAM_NO_WRITE | STREAM_DISK);
    p->cb = reinterpret_cast<mio_move_cb>(req->cb);
    p->arg = req->arg;
    p->calls = l->calls;
    p->unread_used = unread_list(s, p->unread);
    l->with->forget(l, s); // before the other loop can know the descriptor
    const int error = remote_post(move_target(req), parcel_arrives, p);
    if (error < 0) {
        l->calls->release(p, sizeof(parcel));
        return error;
    }
    unread_forget(l, s);
    s->fd = -1;
    return 0;
}

static void move_end(loop *l, stream *s, lane_request *req, int status) {
    if (status == 0) status = parcel_send(l, s, req);
    lane_pop(&s->writes);
    s->bits &= ~STREAM_DETACHING;
    remote_release(move_target(req));
    const auto cb = reinterpret_cast<mio_move_cb>(req->cb);
    const bool silent = (req->flags & REQUEST_ABANDONED) != 0;
    void *arg = req->arg;
    request_free(l, req);
    if (status == 0) {
        handle_close(s, nullptr, nullptr);
    } else if (!silent) {
        const int64_t begun_ns = callback_begin(l, s);
        cb(loop_public(l), status, s->state == handle_state::open ? theirs<mio_stream_t>(s) : nullptr, arg);
        callback_end(l, s, begun_ns, "move");
    }
}

// --- the second half of both ----------------------------------------------------------------------------------------

// The request is the head of the write lane. Ends it if it can end.
void stream_detach_deliver(loop *l, stream *s, lane_request *req) {
    int status = 0;
    if (req->state == request_state::done) status = req->result;
    else if (!stream_detach_ready(s)) return;
    else if ((s->bits & STREAM_BROKEN) != 0) status = MIO_EPIPE;
    else if (s->fd < 0) status = MIO_ENOTCONN;
    else if ((s->bits & STREAM_LOST) != 0) status = MIO_ENOMEM;
    else if ((s->flags & CHANNEL_RECORDS) != 0 && unread_count(s) > UNREAD_MAX) status = MIO_EMSGSIZE; // not to be joined
    else if (!unread_join(l, s)) status = MIO_ENOMEM;
    if (move_target(req) != nullptr) move_end(l, s, req, status);
    else detach_end(l, s, req, status);
}

// What a dropped request of this kind holds.
void stream_detach_dropped(lane_request *req) {
    remote *to = move_target(req);
    if (to != nullptr) remote_release(to);
}

static mio_req_t detach_start(stream *s, void (*cb)(), void *arg, remote *to) {
    const int error = stream_check_start(s);
    if (error < 0) return error;
    if (cb == nullptr) return MIO_EINVAL;
    if ((s->bits & (STREAM_DETACHING | STREAM_RELAYED)) != 0 || !lane_empty(&s->reads)) return MIO_EBUSY;
    if ((s->bits & STREAM_BROKEN) != 0) return MIO_EPIPE;
    loop *l = s->on;
    lane_request *req = request_create(l, s, op_code::detach, 0);
    if (req == nullptr) return MIO_ENOMEM;
    req->cb = cb;
    req->arg = arg;
    memcpy(req->delimiter, &to, sizeof to);
    if (to != nullptr) to->references.fetch_add(1, std::memory_order_relaxed);
    s->bits |= STREAM_DETACHING;
    lane_push(&s->writes, req);
    if ((s->bits & STREAM_READING) != 0) s->bits |= STREAM_STOPPING;
    stream_update_read(s);
    if (s->out.state == request_state::free) stream_update_write(s);
    return request_id(req);
}

// --- adopt ----------------------------------------------------------------------------------------------------------

static int socket_option(const loop *l, int fd, int name, int *value) {
    socklen_t len = sizeof *value;
    return l->calls->getsockopt(fd, SOL_SOCKET, name, value, &len);
}

static int adopt_check(const loop *l, int fd, uint16_t *what) {
    int type = 0;
    int domain = 0;
    int protocol = 0;
    int error = socket_option(l, fd, SO_TYPE, &type);
    if (error == 0) error = socket_option(l, fd, SO_DOMAIN, &domain);
    if (error == 0) error = socket_option(l, fd, SO_PROTOCOL, &protocol);
    if (error < 0) return error;
    const bool records = type == SOCK_SEQPACKET && domain == AF_UNIX;
    if (type != SOCK_STREAM && !records) return MIO_EINVAL;
    error = socket_adopt(l->calls, fd);
    if (error == 0 && records) error = socket_tells_records(l->calls, fd);
    if (error < 0) return error;
    if (records) *what = CHANNEL_UNIX | CHANNEL_RECORDS;
    else if (domain == AF_UNIX) *what = CHANNEL_UNIX;
    else *what = protocol == IPPROTO_TCP ? CHANNEL_TCP : static_cast<uint16_t>(0);
    return 0;
}

}

// --- the user's calls -----------------------------------------------------------------------------------------------

using namespace mio;

int mio_stream_adopt(mio_loop_t *public_loop, int fd, mio_buf_t *unread, unsigned n, mio_stream_t **out) {
    loop *l = loop_of(public_loop);
    int error = loop_check_start(l);
    if (error < 0) return error;
    if (out == nullptr || (unread == nullptr && n != 0)) return MIO_EINVAL;
    if (fd < 0) return MIO_EBADF;
    uint16_t what = 0;
    error = adopt_check(l, fd, &what);
    if (error < 0) return error;
    stream *s = stream_create(l, fd);
    if (s == nullptr) return MIO_ENOMEM;
    stream_set_kind(s, what);
    for (unsigned i = 0; i < n; i++) {
        if (unread[i].len == 0 && (what & CHANNEL_RECORDS) == 0) continue;
        mio_buf_t piece = unread[i]; // the caller's stay as they are until all have a place
        if (!stream_unread_append(l, s, &piece)) {
            bufs_show(unread, i);
            unread_forget(l, s);
            s->fd = -1;
            handle_abandon(s);
            return MIO_ENOMEM;
        }
    }
    for (unsigned i = 0; i < n; i++) {
        if (unread[i].len == 0 && (what & CHANNEL_RECORDS) == 0) buf_release(&unread[i]);
        unread[i] = mio_buf_t();
    }
    *out = theirs<mio_stream_t>(s);
    return 0;
}

mio_req_t mio_stream_detach(mio_stream_t *s, mio_detach_cb cb, void *arg) {
    return detach_start(ours<stream>(s), reinterpret_cast<void (*)()>(cb), arg, nullptr);
}

mio_req_t mio_stream_move(mio_stream_t *public_stream, mio_remote_t *to, mio_move_cb cb, void *arg) {
    stream *s = ours<stream>(public_stream);
    const int error = stream_check(s);
    if (error < 0) return error;
    auto *target = reinterpret_cast<remote *>(to);
    if (target == nullptr || target->world != s->on->box->world) return MIO_EINVAL;
    if ((s->flags & CHANNEL_RESTORED) != 0) return MIO_ENOTSUP; // what was changed is put back here
    return detach_start(s, reinterpret_cast<void (*)()>(cb), arg, target);
}
