// Writing: a lane of requests in order, and one `out` carrier that takes as much of it as one call may.
//
//   write --> lane [ w1 | w2 | shutdown | ... ]          the carrier's byte count is dealt out from the head;
//                    ^ send covers w1, w2                whole ones are DONE and called back in order
//
// What is not bytes (shutdown, detach) waits in the lane for its turn and is done from the completions phase. A write
// that ends with some but not all of its bytes sent leaves a gap nobody could see: the write side is broken, what is
// queued behind it ends with MIO_ECANCELED, what comes later is MIO_EPIPE. So does any error of the kernel's.
//
// A write whose memory the kernel still has (stream_zerocopy.cc) is DONE, but its callback waits for its release, and so
// do those behind it; their bytes do not, nor does a FIN.
//
// Invariants: at most one send per stream is in the kernel; queued_bytes is the unsent bytes of live writes.

#include "base/socket.h"
#include "io/relay.h"
#include "io/tcp.h"

#include <mio/error.h>

#include <string.h>

namespace mio {

static size_t write_left(const lane_request *req) { return static_cast<size_t>(req->total - req->moved); }
// Of memory: a file's are in nobody's.
static size_t write_queued(const lane_request *req) { return (req->flags & REQUEST_FILE) != 0 ? 0 : write_left(req); }

static op_code send_op(const stream *s, const lane_request *head) {
    if (__builtin_expect((head->flags & (REQUEST_FILE | REQUEST_PIPE)) == 0, 1)) return stream_send_op(s);
    return (head->flags & REQUEST_FILE) != 0 ? op_code::sendfile : op_code::splice_out;
}

void stream_update_write(stream *s) {
    loop *l = s->on;
    if ((s->bits & STREAM_CONNECTING) != 0) return;
    const lane_request *head = lane_head(&s->writes);
    if (head == nullptr) return;
    if (__builtin_expect(write_is_held(head), 0)) {
        head = lane_first_live(&s->writes);
        if (head == nullptr || head->op == op_code::detach) {
            carrier_cancel(l, &s->out, MIO_ECANCELED); // there is nothing to send any more
            return;
        }
    }
    if (head->op == op_code::write && head->state != request_state::done) {
        if (s->out.state == request_state::free) carrier_start(l, &s->out, send_op(s, head));
    } else if (head->op != op_code::detach || head->state == request_state::done || stream_detach_ready(s)) {
        carrier_poke(l, &s->out, op_code::send);
    }
}

// --- watermarks -----------------------------------------------------------------------------------------------------

static size_t mark_high(const stream *s) {
    return s->extra != nullptr && s->extra->write_high != 0 ? s->extra->write_high : s->on->options.write_high;
}

static size_t mark_low(const stream *s) {
    return s->extra != nullptr && s->extra->write_high != 0 ? s->extra->write_low : s->on->options.write_low;
}

void stream_marks(loop *l, stream *s) {
    if (s->queued_bytes > mark_high(s)) {
        if ((s->bits & (STREAM_READING | STREAM_AUTOPAUSED | STREAM_NO_AUTOPAUSE)) == STREAM_READING) {
            s->bits |= STREAM_AUTOPAUSED;
            stream_update_read(s);
        }
        // The crossing is told by the carrier's done function: fetch it when the kernel keeps it.
        if ((s->bits & (STREAM_MARKED | STREAM_ABOVE | STREAM_CONNECTING)) == STREAM_MARKED)
            carrier_poke(l, &s->out, op_code::send);
    } else if ((s->bits & STREAM_AUTOPAUSED) != 0 && s->queued_bytes <= mark_low(s)) {
        s->bits &= ~STREAM_AUTOPAUSED;
        if ((s->bits & STREAM_TIMED) != 0) stream_touch_start(l, s, 0);
        stream_update_read(s);
    }
}

// false: the stream was abandoned in the callback.
static bool marks_tell(loop *l, stream *s) {
    int above;
    if ((s->bits & STREAM_ABOVE) == 0 && s->queued_bytes > mark_high(s)) above = 1;
    else if ((s->bits & STREAM_ABOVE) != 0 && s->queued_bytes <= mark_low(s)) above = 0;
    else return true;
    s->bits ^= STREAM_ABOVE;
    if (s->state != handle_state::open) return true;
    const auto cb = reinterpret_cast<mio_watermark_cb>(s->extra->watermark_cb);
    const int64_t begun_ns = callback_begin(l, s);
    cb(theirs<mio_stream_t>(s), above, s->extra->watermark_arg);
    return callback_end(l, s, begun_ns, "watermark");
}

// --- dealing the carrier's result out -------------------------------------------------------------------------------

static void write_end(stream *s, lane_request *req, int32_t status) {
    s->queued_bytes -= write_queued(req);
    req->state = request_state::done;
    req->result = status;
    if (req->op == op_code::shutdown) s->bits &= ~STREAM_SHUT; // no FIN was sent, none will be
    if (req->op == op_code::write && status < 0 && req->moved > 0 && write_left(req) != 0) {
        if ((req->flags & REQUEST_RELAY) == 0) s->bits |= STREAM_BROKEN;
        else req->total = req->moved; // what is left of it goes back to where it was read
    }
    // A failure nobody is told of surfaces as the next read error.
    if (req->op == op_code::write && req->cb == nullptr && status < 0 && status != MIO_ECANCELED &&
        s->state == handle_state::open && s->times.read_error == 0) {
        s->times.read_error = status;
        stream_update_read(s);
    }
}

static void writes_deal(stream *s, int64_t sent) {
    while (sent > 0) {
        lane_request *req = lane_first_live(&s->writes);
        mio_assert(req != nullptr && req->op == op_code::write);
        const int64_t left = req->total - req->moved;
        const int64_t part = sent < left ? sent : left;
        if ((req->flags & REQUEST_FILE) == 0) s->queued_bytes -= static_cast<size_t>(part);
        req->moved += part;
        sent -= part;
        if (part != left) continue;
        req->state = request_state::done;
        req->result = 0; // whatever it was asked to end with: it was faster
    }
}

// What is to end early does so now that the carrier has let go; a broken side ends everything that is queued.
static void writes_end_early(stream *s) {
    s->bits &= ~STREAM_CANCEL_OUT;
    lane_request *req = lane_head(&s->writes);
    while (req != nullptr) {
        lane_request *next = req == s->writes.tail ? nullptr : lane_next(req);
        if (req->state != request_state::done) {
            if ((req->flags & REQUEST_CANCEL) != 0) write_end(s, req, req->result);
            else if ((s->bits & STREAM_BROKEN) != 0 && req->op == op_code::write) write_end(s, req, MIO_ECANCELED);
        }
        req = next;
    }
}

// What sendfile(2) says of the file, not of the socket.
static bool is_of_file(int32_t status) {
    switch (status) {
    case MIO_EOF: // it is shorter
    case MIO_EBADF:
    case MIO_EINVAL:
    case MIO_EIO:
    case MIO_ENOMEM:
    case MIO_EPERM:
    case MIO_EACCES:
    case -EISDIR:
    case -ESPIPE:
    case -EOVERFLOW: return true;
    }
    return false;
}

static void writes_failed(stream *s, int32_t status) {
    lane_request *req = lane_first_live(&s->writes);
    const bool is_file = req != nullptr && (req->flags & REQUEST_FILE) != 0;
    if (req != nullptr && req->op == op_code::write && (req->flags & REQUEST_CANCEL) == 0) write_end(s, req, status);
    if (!is_file || !is_of_file(status)) s->bits |= STREAM_BROKEN; // else if there is a gap (write_end)
}

// A record left whole, or not at all: only that one failed when it was too long.
static void write_record_done(stream *s, int64_t result) {
    lane_request *req = lane_first_live(&s->writes);
    if (result < 0 && result != MIO_EMSGSIZE) {
        writes_failed(s, static_cast<int32_t>(result));
    } else if (req != nullptr && req->op == op_code::write && result < 0) {
        write_end(s, req, static_cast<int32_t>(result));
    } else if (req != nullptr && req->op == op_code::write) {
        s->queued_bytes -= write_left(req);
        req->moved = req->total;
        req->state = request_state::done;
        req->result = 0;
    }
}

// The writing end of a pipe has no half to shut: it is closed.
static int32_t write_side_shut(loop *l, stream *s) {
    if ((s->flags & CHANNEL_FILE) == 0) return l->calls->shutdown(s->fd, SHUT_WR);
    channel_close_descriptor(l, s);
    return 0;
}

// A shutdown whose turn has come.
static void writes_control(loop *l, stream *s) {
    lane_request *req = lane_first_live(&s->writes);
    if (req == nullptr || req->op != op_code::shutdown) return;
    int32_t status = MIO_EPIPE;
    if (s->fd >= 0 && (s->bits & STREAM_BROKEN) == 0) status = write_side_shut(l, s);
    if (status == 0) s->bits |= STREAM_SHUT_DONE;
    req->state = request_state::done;
    req->result = status;
}

// --- callbacks ------------------------------------------------------------------------------------------------------

static inline bool write_call(loop *l, stream *s, lane_request *req) {
    if (req->cb == nullptr || (req->flags & REQUEST_ABANDONED) != 0) return true;
    req->state = request_state::free;
    bufs_show(req->bufs, req->bufs_used);
    const int64_t begun_ns = callback_begin(l, s);
    mio_buf_t *bufs = req->bufs_used != 0 ? req->bufs : nullptr;
    reinterpret_cast<mio_write_cb>(req->cb)(theirs<mio_stream_t>(s), req->result, req->moved, bufs, req->bufs_used, req->arg);
    return callback_end(l, s, begun_ns, "write");
}

static bool shutdown_call(loop *l, stream *s, lane_request *req) {
    if (req->cb == nullptr || (req->flags & REQUEST_ABANDONED) != 0) return true;
    req->state = request_state::free;
    const int64_t begun_ns = callback_begin(l, s);
    reinterpret_cast<mio_stream_cb>(req->cb)(theirs<mio_stream_t>(s), req->result, req->arg);
    return callback_end(l, s, begun_ns, "shutdown");
}

static bool write_deliver(loop *l, stream *s, lane_request *req) {
    if ((req->flags & REQUEST_DESCRIPTORS) != 0) write_drop_pack(l, req);
    const bool survived = req->op == op_code::write ? write_call(l, s, req) : shutdown_call(l, s, req);
    for (unsigned i = 0; i < req->bufs_used; i++) buf_release(&req->bufs[i]);
    request_free(l, req);
    return survived;
}

// The usual end: one write of one buffer was in the lane, and all of it left.
static inline bool write_whole(const stream *s, const completion *done) {
    const lane_request *req = s->writes.tail;
    return done->result > 0 && (s->bits & STREAM_WRITE_SPECIAL) == 0 && s->state == handle_state::open &&
           req != nullptr && req->next == req && req->total == done->result && req->bufs_used == 1;
}

static inline void write_whole_done(loop *l, stream *s) {
    lane_request *req = s->writes.tail;
    mio_assert_slow(req->op == op_code::write && req->moved == 0 && req->state == request_state::waiting);
    s->writes.tail = nullptr;
    s->queued_bytes = 0;
    req->moved = req->total;
    write_call(l, s, req);
    buf_release_running(l, &req->bufs[0]);
    request_free(l, req);
    if (__builtin_expect(s->state != handle_state::open, 0)) stream_end_step(l, s);
}

// The DONE head of the lane as it stands. false: the stream was abandoned.
static bool writes_deliver(loop *l, stream *s) {
    const lane_request *last = s->writes.tail;
    while (last != nullptr) {
        lane_request *head = lane_head(&s->writes);
        if (head == nullptr) return true;
        if (head->op == op_code::detach) {
            stream_detach_deliver(l, s, head);
            return true;
        }
        if (head->state != request_state::done || head->held != 0) return true;
        lane_pop(&s->writes);
        const bool was_last = head == last;
        if (!write_deliver(l, s, head)) return false;
        if (was_last) return true;
    }
    return true;
}

// --- the second half ------------------------------------------------------------------------------------------------

__attribute__((noinline)) static void write_done_any(loop *l, stream *s, const completion *done) {
    const int64_t result = done->result;
    if ((s->flags & HANDLE_ABANDONED) != 0) {
        stream_end_step(l, s);
        return;
    }
    if (result > 0 && (s->bits & STREAM_TIMED) != 0) stream_touch(l, s, 1);
    if (result > 0 && (s->bits & STREAM_RELAYED) != 0) relay_stream_sent(l, s);
    if ((done->flags & FINISH_RECORD) != 0) {
        write_record_done(s, result);
    } else if (result > 0) {
        writes_deal(s, result);
    } else if (result < 0 && result != MIO_ECANCELED) { // 0: nothing was there; what came since is no part of it
        writes_failed(s, static_cast<int32_t>(result));
    }
    if ((s->bits & (STREAM_CANCEL_OUT | STREAM_BROKEN)) != 0) writes_end_early(s);
    stream_writes_run(l, s);
}

void stream_writes_run(loop *l, stream *s) {
    writes_control(l, s);
    bool survived = writes_deliver(l, s);
    if (survived && lane_empty(&s->writes)) s->bits &= ~STREAM_ZEROCOPY;
    if (survived && (s->bits & (STREAM_MARKED | STREAM_AUTOPAUSED)) != 0) {
        stream_marks(l, s);
        if ((s->bits & STREAM_MARKED) != 0) survived = marks_tell(l, s);
    }
    if (survived && !lane_empty(&s->writes) && s->out.state == request_state::free) stream_update_write(s);
    if ((s->bits & STREAM_FINISHING) != 0 || s->state != handle_state::open) stream_end_step(l, s);
}

void stream_write_done(loop *l, channel *c, const completion *done) {
    auto *s = static_cast<stream *>(c);
    if (done->result > 0) l->counters.bytes_written += static_cast<uint64_t>(done->result);
    if (__builtin_expect(write_whole(s, done), 1)) write_whole_done(l, s);
    else write_done_any(l, s, done);
}

// --- early ends -----------------------------------------------------------------------------------------------------

void stream_write_request_cancel(loop *l, stream *s, lane_request *req, int32_t with) {
    if (req->op == op_code::connected) {
        tcp_connect_cancel(s, req, with);
        return;
    }
    const bool connecting = (s->bits & STREAM_CONNECTING) != 0; // then the carrier's end would be the connection's
    if (!connecting && (s->out.state == request_state::started || s->out.state == request_state::done)) {
        // Its bytes may be in the kernel's hands: it ends when the carrier has.
        req->result = with;
        req->flags = static_cast<uint16_t>(req->flags | REQUEST_CANCEL);
        s->bits |= STREAM_CANCEL_OUT;
        carrier_cancel(l, &s->out, MIO_ECANCELED);
    } else {
        write_end(s, req, with);
        if ((s->bits & STREAM_BROKEN) != 0) writes_end_early(s);
        stream_update_write(s);
        stream_marks(l, s);
    }
}

void lane_cancel_all(loop *l, stream *s, lane *which, int32_t with) {
    lane_request *req = lane_head(which);
    while (req != nullptr) {
        lane_request *next = req == which->tail ? nullptr : lane_next(req);
        if (req->state != request_state::done) {
            if (which == &s->reads) stream_read_request_cancel(l, s, req, with);
            else stream_write_request_cancel(l, s, req, with);
        }
        req = next;
    }
}

void stream_request_cancel(loop *l, lane_request *req, int32_t with) {
    if (req->op == op_code::relay) {
        relay_cancel(l, req, with);
        return;
    }
    auto *s = static_cast<stream *>(req->owner);
    if (op_table[static_cast<unsigned>(req->op)].out) stream_write_request_cancel(l, s, req, with);
    else stream_read_request_cancel(l, s, req, with);
}

void stream_request_abandon(loop *l, lane_request *req) {
    if (req->op == op_code::relay) {
        relay_abandon(l, req);
        return;
    }
    auto *s = static_cast<stream *>(req->owner);
    const bool out = op_table[static_cast<unsigned>(req->op)].out;
    request *carrier = out ? &s->out : static_cast<request *>(&s->in);
    req->flags = static_cast<uint16_t>(req->flags | REQUEST_ABANDONED);
    if (req->state != request_state::done) {
        // A carrier whose result is queued may have moved bytes of this request: it is counted until they are dealt. So
        // is one of a write that the backend could not end at once: its result is still to come.
        const bool carried = carrier->state == request_state::done;
        stream_request_cancel(l, req, MIO_ECANCELED);
        if (req->op == op_code::connected) return;
        const bool coming = out && carrier->state == request_state::started;
        // One that has been asked to end reads its arguments from the lane: this request is no part of them now.
        if (!carried && !coming && req->state != request_state::done) {
            if (out) write_end(s, req, MIO_ECANCELED);
            else req->state = request_state::done;
        }
    }
    // In no case is its memory touched again, unless it was lent: then it goes home with the request.
    if (req->held != 0) return;
    if ((req->flags & REQUEST_DESCRIPTORS) != 0) write_drop_pack(l, req);
    for (unsigned i = 0; i < req->bufs_used; i++) buf_release(&req->bufs[i]);
}

void stream_drop_writes(loop *l, stream *s) {
    lane kept = {nullptr};
    while (!lane_empty(&s->writes)) {
        lane_request *req = lane_pop(&s->writes);
        if (req->op == op_code::connected) {
            // Its address is the carrier's argument: it goes when the carrier ends (tcp_connect_done).
            req->flags = static_cast<uint16_t>(req->flags | REQUEST_ABANDONED);
            lane_push(&kept, req);
            continue;
        }
        if (req->held != 0) {
            write_leave_held(l, req);
            continue;
        }
        if ((req->flags & REQUEST_DESCRIPTORS) != 0) write_drop_pack(l, req);
        for (unsigned i = 0; i < req->bufs_used; i++) buf_release(&req->bufs[i]);
        if (req->op == op_code::detach) stream_detach_dropped(req);
        request_free(l, req);
    }
    s->writes = kept;
    s->queued_bytes = 0;
    s->bits &= ~(STREAM_CANCEL_OUT | STREAM_MARKED | STREAM_ZEROCOPY);
}

}

// --- the user's calls -----------------------------------------------------------------------------------------------

using namespace mio;

// Why these buffers cannot be written (< 0), or how many bytes they are.
static int64_t write_check(const mio_buf_t *bufs, unsigned n) {
    if (bufs == nullptr || n == 0 || n > MIO_BUFS_MAX) return MIO_EINVAL;
    size_t total = 0;
    for (unsigned i = 0; i < n; i++) {
        if ((bufs[i].base == nullptr && bufs[i].len != 0) || bufs[i].len > MIO_BUF_SIZE_MAX) return MIO_EINVAL;
        total += bufs[i].len;
    }
    return static_cast<int64_t>(total);
}

static inline size_t write_queue_max(const loop *l, const stream *s) {
    return s->extra != nullptr && s->extra->queue_max != 0 ? s->extra->queue_max : l->options.write_queue_max;
}

__attribute__((noinline)) static mio_req_t write_any(stream *s, mio_buf_t *bufs, unsigned n, mio_write_cb cb, void *arg) {
    const int error = stream_check_start(s);
    if (error < 0) return error;
    const int64_t total = write_check(bufs, n);
    if (total < 0) return total;
    if (total == 0 && (s->flags & CHANNEL_RECORDS) == 0) return MIO_EINVAL; // there are empty records, no empty bytes
    if ((s->bits & STREAM_NO_WRITE) != 0) return MIO_ENOTSUP;
    loop *l = s->on;
    if ((s->bits & (STREAM_BROKEN | STREAM_SHUT | STREAM_DETACHING)) != 0)
        return (s->bits & STREAM_DETACHING) != 0 ? MIO_EBUSY : MIO_EPIPE;
    if (s->queued_bytes + static_cast<size_t>(total) > write_queue_max(l, s)) return MIO_ENOBUFS;
    lane_request *req = request_create(l, s, op_code::write, n);
    if (req == nullptr) return MIO_ENOMEM;
    req->cb = reinterpret_cast<void (*)()>(cb);
    req->arg = arg;
    req->total = total;
    for (unsigned i = 0; i < n; i++) {
        req->bufs[i] = bufs[i];
        bufs[i] = mio_buf_t();
    }
    bufs_hide(req->bufs, n);
    if ((s->bits & STREAM_TIMED) != 0 && lane_empty(&s->writes)) stream_touch_start(l, s, 1);
    lane_push(&s->writes, req);
    s->queued_bytes += static_cast<size_t>(total);
    if (s->out.state == request_state::free) stream_update_write(s);
    stream_marks(l, s);
    return request_id(req);
}

// One buffer on an idle, plain write side, below every mark: what an echo or a reply is. All of it inline, so that the
// usual write is a few dozen instructions.
static inline bool write_is_usual(const stream *s, const mio_buf_t *bufs, unsigned n) {
    return stream_is_startable(s) && n == 1 && bufs != nullptr && bufs->base != nullptr && bufs->len != 0 &&
           bufs->len <= s->on->usual_write && s->extra == nullptr && lane_empty(&s->writes) &&
           (s->bits & (STREAM_WRITE_SPECIAL | STREAM_SHUT)) == 0 && s->out.state == request_state::free &&
           request_is_ready(s->on, s);
}

mio_req_t mio_stream_write(mio_stream_t *public_stream, mio_buf_t *bufs, unsigned n, mio_write_cb cb, void *arg) {
    stream *s = ours<stream>(public_stream);
    if (__builtin_expect(!write_is_usual(s, bufs, n), 0)) return write_any(s, bufs, n, cb, arg);
    loop *l = s->on;
    lane_request *req = request_create_ready(l, s, op_code::write);
    req->cb = reinterpret_cast<void (*)()>(cb);
    req->arg = arg;
    req->total = static_cast<int64_t>(bufs->len);
    s->queued_bytes = bufs->len;
    req->bufs[0] = *bufs;
    *bufs = mio_buf_t();
    bufs_hide(req->bufs, 1);
    req->next = req;
    s->writes.tail = req;
    carrier_start(l, &s->out, op_code::send);
    return id_make(ID_CLASS_REQUEST + REQUEST_1, slab_index(req), slab_generation(req));
}

static int64_t send_now(const loop *l, const stream *s, const void *ptr, size_t len) {
    if (__builtin_expect((s->flags & CHANNEL_FILE) == 0, 1))
        return l->calls->send(s->fd, ptr, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    const struct iovec piece = {const_cast<void *>(ptr), len};
    return l->calls->write_quiet(s->fd, &piece, 1, (s->flags & CHANNEL_NOWAIT) != 0);
}

int64_t mio_stream_try_write(mio_stream_t *public_stream, const void *ptr, size_t len) {
    stream *s = ours<stream>(public_stream);
    const int error = stream_check_start(s);
    if (error < 0) return error;
    if (ptr == nullptr || len == 0) return MIO_EINVAL;
    if ((s->bits & STREAM_NO_WRITE) != 0) return MIO_ENOTSUP;
    if ((s->bits & (STREAM_BROKEN | STREAM_SHUT)) != 0) return MIO_EPIPE;
    if (!lane_empty(&s->writes) || s->out.state != request_state::free || (s->bits & STREAM_CONNECTING) != 0)
        return MIO_EAGAIN;
    if (s->fd < 0) return MIO_ENOTCONN;
    if ((s->bits & STREAM_DISK) != 0) return MIO_EAGAIN; // nobody can say that it would not wait
    loop *l = s->on;
    if (len > MIO_BUF_SIZE_MAX) len = MIO_BUF_SIZE_MAX;
    int64_t sent;
    do sent = send_now(l, s, ptr, len);
    while (sent == MIO_EINTR);
    if (sent > 0) {
        l->counters.bytes_written += static_cast<uint64_t>(sent);
        if ((s->bits & STREAM_TIMED) != 0) stream_touch_start(l, s, 1);
    }
    return sent;
}

mio_req_t mio_stream_shutdown(mio_stream_t *public_stream, mio_stream_cb cb, void *arg) {
    stream *s = ours<stream>(public_stream);
    const int error = stream_check_start(s);
    if (error < 0) return error;
    if ((s->bits & STREAM_DETACHING) != 0) return MIO_EBUSY;
    const bool half = (s->flags & CHANNEL_FILE) == 0 || (s->bits & STREAM_NO_READ) != 0;
    if (!half || (s->bits & STREAM_NO_WRITE) != 0) return MIO_ENOTSUP;
    if ((s->bits & (STREAM_BROKEN | STREAM_SHUT)) != 0) return MIO_EPIPE;
    lane_request *req = request_create(s->on, s, op_code::shutdown, 0);
    if (req == nullptr) return MIO_ENOMEM;
    req->cb = reinterpret_cast<void (*)()>(cb);
    req->arg = arg;
    s->bits |= STREAM_SHUT;
    lane_push(&s->writes, req);
    if (s->out.state == request_state::free) stream_update_write(s);
    return request_id(req);
}

size_t mio_stream_queued_bytes(const mio_stream_t *public_stream) {
    const stream *s = ours<stream>(public_stream);
    return stream_check(s) < 0 ? 0 : s->queued_bytes;
}

int mio_stream_set_watermarks(mio_stream_t *public_stream, size_t low, size_t high, mio_watermark_cb cb, void *arg) {
    stream *s = ours<stream>(public_stream);
    const int error = stream_check(s);
    if (error < 0) return error;
    if (low > high) return MIO_EINVAL;
    extension *extra = handle_extend(s);
    if (extra == nullptr) return MIO_ENOMEM;
    extra->write_low = low;
    extra->write_high = high;
    extra->watermark_cb = reinterpret_cast<void (*)()>(cb);
    extra->watermark_arg = arg;
    s->bits = cb != nullptr ? s->bits | STREAM_MARKED : s->bits & ~STREAM_MARKED;
    stream_marks(s->on, s);
    return 0;
}

int mio_stream_set_queue_max(mio_stream_t *public_stream, size_t bytes) {
    stream *s = ours<stream>(public_stream);
    const int error = stream_check(s);
    if (error < 0) return error;
    extension *extra = handle_extend(s);
    if (extra == nullptr) return MIO_ENOMEM;
    extra->queue_max = bytes;
    return 0;
}
