// Reading: who gets the bytes that the `in` carrier brought.
//
//   carrier ----bytes----> continuous read's callback          (the fast way: nothing else is waiting)
//                  \-----> the first live read of the lane ---> its callback, in the order of the starts
//                   \----> pushback (paused, stopping, behind a delimiter): read next by whoever comes
//
// The carrier is STARTED exactly while somebody wants bytes (stream_update_read). What needs the completions phase
// without the kernel's help - pushed back bytes, a recorded EOF or error, a cancelled head, the last call of a stopped
// read - pokes the carrier, so that every callback comes from stream_read_done.
//
// Invariants: pushback is read before the kernel is asked; no byte is dropped while anybody may still read it; at most
// one receive per stream is in the kernel.

#include "io/stream.h"

#include <mio/error.h>

#include <string.h>

namespace mio {

lane_request *lane_first_live(const lane *l) {
    lane_request *req = lane_head(l);
    while (req != nullptr && req->state == request_state::done) req = req == l->tail ? nullptr : lane_next(req);
    return req;
}

// The first that bytes may be copied to: an abandoned one may still be live, until its carrier's result is dealt.
lane_request *stream_first_wanting(const stream *s) {
    const lane *l = &s->reads;
    lane_request *req = lane_first_live(l);
    while (req != nullptr && (req->state == request_state::done || (req->flags & REQUEST_ABANDONED) != 0))
        req = req == l->tail ? nullptr : lane_next(req);
    return req;
}

// --- what the stream wishes -----------------------------------------------------------------------------------------

static bool stream_wants_bytes(const stream *s) {
    if ((s->bits & (STREAM_STARVED | STREAM_CONNECTING | STREAM_NO_READ)) != 0) return false;
    if ((s->bits & STREAM_DISCARDING) != 0) return (s->bits & STREAM_EOF) == 0;
    if ((s->bits & STREAM_READ_MASK) == STREAM_READING) return true;
    return stream_first_wanting(s) != nullptr;
}

static bool stream_has_without_kernel(const stream *s) {
    if (s->unread != nullptr || (s->bits & (STREAM_EOF | STREAM_LOST)) != 0 || s->fd < 0) return true;
    return s->state == handle_state::open && s->times.read_error != 0;
}

void stream_starved_leave(loop *l, stream *s) {
    s->bits &= ~STREAM_STARVED;
    queue<request> rest = queue_take(&l->starved);
    while (request *carrier = queue_pop(&rest))
        if (carrier != &s->in) queue_push(&l->starved, carrier);
}

void stream_update_read(stream *s) {
    loop *l = s->on;
    const lane_request *head = lane_head(&s->reads);
    const bool wants = stream_wants_bytes(s);
    const bool due = (s->bits & STREAM_STOPPING) != 0 || (head != nullptr && head->state == request_state::done) ||
                     (wants && stream_has_without_kernel(s));
    if (due) {
        if ((s->bits & STREAM_STARVED) != 0) stream_starved_leave(l, s);
        carrier_poke(l, &s->in, op_code::receive);
    } else if (!wants) {
        carrier_cancel(l, &s->in, MIO_ECANCELED);
    } else if (s->in.state == request_state::free) {
        carrier_start(l, &s->in, stream_receive_op(s));
    }
}

void stream_feed(loop *, request *carrier) {
    auto *s = static_cast<stream *>(channel_of(carrier));
    s->bits &= ~STREAM_STARVED;
    if ((s->bits & STREAM_TIMED) != 0) stream_touch_start(s->on, s, 0); // time without buffers does not count
    stream_update_read(s);
}

// --- pushback -------------------------------------------------------------------------------------------------------

pushback *pushback_create(loop *l, mio_buf_t *buf) {
    auto *p = static_cast<pushback *>(slab_take(&l->slabs[SLAB_PUSHBACK]));
    if (p == nullptr) return nullptr;
    p->next = nullptr;
    p->buf = *buf;
    *buf = mio_buf_t();
    bufs_hide(&p->buf, 1);
    return p;
}

mio_buf_t stream_unread_pop(loop *l, stream *s) {
    pushback *p = s->unread;
    const mio_buf_t buf = p->buf;
    bufs_show(&buf, 1);
    s->unread = p->next;
    slab_give(&l->slabs[SLAB_PUSHBACK], p);
    return buf;
}

bool stream_unread_append(loop *l, stream *s, mio_buf_t *buf) {
    pushback *p = pushback_create(l, buf);
    if (p == nullptr) return false;
    pushback **last = &s->unread;
    while (*last != nullptr) last = &(*last)->next;
    *last = p;
    return true;
}

void stream_drop_unread(loop *l, stream *s) {
    while (s->unread != nullptr) {
        mio_buf_t buf = stream_unread_pop(l, s);
        buf_release(&buf);
    }
}

// --- bytes to the lane ----------------------------------------------------------------------------------------------

static void read_complete(lane_request *req, int32_t result) {
    req->state = request_state::done;
    req->result = result;
}

// n bytes were appended to the buffer of a read or read_exact.
static void read_took(lane_request *req, size_t n) {
    req->bufs[0].len += n;
    req->moved += static_cast<int64_t>(n);
    if (req->op == op_code::read_some || req->moved == req->total) read_complete(req, 0);
}

// Offers bytes to a read_until; returns how many it took, its delimiter included.
static size_t read_until_take(lane_request *req, const char *from, size_t n) {
    mio_buf_t *buf = &req->bufs[0];
    const size_t room = static_cast<size_t>(req->total - req->moved);
    const size_t copied = n < room ? n : room;
    const size_t seen = static_cast<size_t>(req->moved);
    const size_t overlap = seen < req->delimiter_len - 1u ? seen : req->delimiter_len - 1u;
    char *end = buf->base + buf->len;
    memcpy(end, from, copied);
    void *found = memmem(end - overlap, overlap + copied, req->delimiter, req->delimiter_len);
    size_t taken = copied;
    if (found != nullptr) taken = static_cast<size_t>(static_cast<char *>(found) + req->delimiter_len - end);
    buf->len += taken;
    req->moved += static_cast<int64_t>(taken);
    if (found != nullptr) read_complete(req, 0);
    else if (req->moved == req->total) read_complete(req, MIO_EMSGSIZE);
    return taken;
}

// Offers bytes to the lane, read after read; returns how many found a taker.
static size_t lane_feed(stream *s, const char *from, size_t n) {
    size_t taken = 0;
    lane_show(&s->reads);
    while (taken < n) {
        lane_request *req = stream_first_wanting(s);
        if (req == nullptr) break;
        if (req->op == op_code::read_until) {
            taken += read_until_take(req, from + taken, n - taken);
        } else {
            const size_t room = static_cast<size_t>(req->total - req->moved);
            const size_t part = n - taken < room ? n - taken : room;
            memcpy(req->bufs[0].base + req->bufs[0].len, from + taken, part);
            read_took(req, part);
            taken += part;
        }
    }
    lane_hide(&s->reads);
    return taken;
}

static void lane_feed_unread(loop *l, stream *s) {
    while (s->unread != nullptr && stream_first_wanting(s) != nullptr) {
        mio_buf_t *buf = &s->unread->buf;
        bufs_show(buf, 1);
        const size_t taken = lane_feed(s, buf->base, buf->len);
        bufs_hide(buf, 1);
        buf->base += taken;
        buf->len -= taken;
        buf->cap -= taken;
        if (buf->len == 0) {
            mio_buf_t empty = stream_unread_pop(l, s);
            buf_release(&empty);
        }
    }
}

// --- callbacks ------------------------------------------------------------------------------------------------------

// The last call of the continuous read. false: the stream was abandoned in it.
static bool continuous_end(loop *l, stream *s, int status) {
    s->bits &= ~(STREAM_READ_MASK | STREAM_NO_AUTOPAUSE | STREAM_TIMED_OUT);
    const auto cb = reinterpret_cast<mio_read_cb>(s->in.cb);
    void *arg = s->in.arg;
    handle_request_end(s);
    mio_buf_t none = mio_buf_t();
    const int64_t begun_ns = callback_begin(l, s);
    cb(theirs<mio_stream_t>(s), status, &none, arg);
    return callback_end(l, s, begun_ns, "read");
}

static inline bool continuous_data(loop *l, stream *s, mio_buf_t *buf) {
    const auto cb = reinterpret_cast<mio_read_cb>(s->in.cb);
    const int64_t begun_ns = callback_begin(l, s);
    cb(theirs<mio_stream_t>(s), static_cast<int64_t>(buf->len), buf, s->in.arg);
    const bool survived = callback_end(l, s, begun_ns, "read");
    buf_release_running(l, buf);
    return survived;
}

bool stream_read_call(loop *l, stream *s, mio_buf_t *buf) { return continuous_data(l, s, buf); }

static bool read_deliver(loop *l, stream *s, lane_request *req) {
    bool survived = true;
    if ((req->flags & REQUEST_ABANDONED) == 0) {
        const int64_t n = req->result == 0 ? req->moved : req->result;
        const auto cb = reinterpret_cast<mio_read_cb>(req->cb);
        req->state = request_state::free;
        bufs_show(req->bufs, 1);
        const int64_t begun_ns = callback_begin(l, s);
        cb(theirs<mio_stream_t>(s), n, &req->bufs[0], req->arg);
        survived = callback_end(l, s, begun_ns, op_table[static_cast<unsigned>(req->op)].name);
    }
    buf_release(&req->bufs[0]);
    request_free(l, req);
    return survived;
}

// What nobody waits for any longer stays; all others hear of the end of the stream.
static bool reads_end(loop *l, stream *s, int status) {
    for (lane_request *req = lane_first_live(&s->reads); req != nullptr; req = lane_first_live(&s->reads))
        read_complete(req, status);
    if ((s->bits & STREAM_READ_MASK) == STREAM_READING) return continuous_end(l, s, status);
    return true;
}

// Everything that can be told now, each list as it stood. false: the stream was abandoned.
static bool reads_run(loop *l, stream *s) {
    const lane_request *last = s->reads.tail;
    unsigned pushed_back = 0;
    for (const pushback *p = s->unread; p != nullptr; p = p->next) pushed_back++;
    while (pushed_back-- > 0 && s->unread != nullptr && (s->bits & STREAM_READ_MASK) == STREAM_READING) {
        mio_buf_t buf = stream_unread_pop(l, s);
        if (!continuous_data(l, s, &buf)) return false;
    }
    if ((s->flags & CHANNEL_RECORDS) != 0) record_feed_unread(l, s);
    else lane_feed_unread(l, s);
    if (s->unread == nullptr && s->state == handle_state::open && (s->bits & STREAM_CONNECTING) == 0) {
        int status = (s->bits & STREAM_LOST) != 0 ? static_cast<int>(MIO_ENOMEM) : s->times.read_error;
        if (status == 0 && s->fd < 0) status = MIO_ENOTCONN;
        if (status == 0 && (s->bits & STREAM_EOF) != 0) status = MIO_EOF;
        if (status != 0 && stream_wants_bytes(s)) {
            s->times.read_error = 0;
            if (!reads_end(l, s, status)) return false;
        }
    }
    while (last != nullptr) {
        lane_request *head = lane_head(&s->reads);
        if (head == nullptr || head->state != request_state::done) break;
        lane_pop(&s->reads);
        const bool was_last = head == last;
        if (!read_deliver(l, s, head)) return false;
        if (was_last) break;
    }
    if ((s->bits & STREAM_STOPPING) != 0)
        return continuous_end(l, s, (s->bits & STREAM_TIMED_OUT) != 0 ? MIO_ETIMEDOUT : MIO_ECANCELED);
    return true;
}

// --- the second half ------------------------------------------------------------------------------------------------

static void reads_end_cancelled(stream *s) {
    s->bits &= ~STREAM_CANCEL_IN;
    lane_request *req = lane_head(&s->reads);
    while (req != nullptr) {
        if (req->state != request_state::done && (req->flags & REQUEST_CANCEL) != 0) req->state = request_state::done;
        if (req == s->reads.tail) break;
        req = lane_next(req);
    }
}

// Bytes of a pool block that the fast way did not take.
static void stream_store(loop *l, stream *s, mio_buf_t *buf) {
    if (s->unread == nullptr && (s->bits & (STREAM_READING | STREAM_LOST)) == 0) {
        const size_t taken = lane_feed(s, buf->base, buf->len);
        buf->base += taken;
        buf->len -= taken;
        buf->cap -= taken;
    }
    if (buf->len == 0 || (s->bits & (STREAM_DISCARDING | STREAM_LOST)) != 0 || s->state != handle_state::open) {
        buf_release(buf);
    } else if (!stream_unread_append(l, s, buf)) {
        // No memory for the record. Nothing may be read behind the gap: it is the end of the stream.
        buf_release(buf);
        s->bits |= STREAM_LOST;
    }
}

static void stream_carrier_ended(loop *l, stream *s, int64_t result) {
    if (result == 0) {
        s->bits |= STREAM_EOF;
    } else if (result == MIO_ENOBUFS) {
        if (stream_wants_bytes(s)) {
            if (queue_empty(l->starved))
                loop_log(l, MIO_LOG_WARNING, "the program holds all receive buffers: reading pauses");
            s->bits |= STREAM_STARVED;
            queue_push(&l->starved, static_cast<request *>(&s->in));
        }
    } else if (result < 0 && result != MIO_ECANCELED) {
        if (s->state == handle_state::open) s->times.read_error = static_cast<int32_t>(result);
        if ((s->bits & STREAM_DISCARDING) != 0) s->bits |= STREAM_EOF;
    }
}

// The bytes of a receive into the buffer of the first live read. None: it was abandoned.
static void read_dealt(loop *l, stream *s, const completion *done) {
    lane_request *req = lane_first_live(&s->reads);
    if ((done->flags & FINISH_RECORD) != 0) record_received(l, s, done);
    else if (req != nullptr && (s->bits & STREAM_LOST) == 0) read_took(req, static_cast<size_t>(done->result));
}

// The bytes of a record that the usual way does not take, and the end of the carrier.
__attribute__((noinline)) static void read_done_any(loop *l, stream *s, const completion *done) {
    if (done->result > 0 && (s->bits & STREAM_TIMED) != 0) stream_touch(l, s, 0);
    const bool record = (done->flags & FINISH_RECORD) != 0;
    // What lies in a read's own buffer is that read's before anybody is told of anything: who is told may cancel it. It is
    // called back later (reads_run), so that descriptors are told of before the bytes that they came with in any case.
    const bool dealt = done->from == nullptr && done->result > 0;
    if (dealt) read_dealt(l, s, done);
    if ((done->flags & FINISH_DESCRIPTORS) != 0) stream_descriptors_tell(l, s);
    if (record && !dealt) {
        record_received(l, s, done);
    } else if (done->from != nullptr) {
        mio_buf_t buf = pool_slice(done->from, done->offset, static_cast<size_t>(done->result));
        // What is likely to be kept is copied out of the receive block, so that it does not pin all of it.
        if (pool_should_copy(l)) pool_copy(l, &buf);
        if ((s->bits & (STREAM_READ_MASK | STREAM_LOST)) == STREAM_READING && s->unread == nullptr)
            continuous_data(l, s, &buf);
        else stream_store(l, s, &buf);
    }
    if ((done->flags & FINISH_MORE) == 0) {
        if ((s->bits & STREAM_CANCEL_IN) != 0) reads_end_cancelled(s); // first: nobody may want bytes any more
        if (done->from == nullptr && done->result <= 0 && !record) stream_carrier_ended(l, s, done->result);
    }
    if ((s->flags & HANDLE_ABANDONED) == 0 && reads_run(l, s)) stream_update_read(s);
    stream_end_step(l, s);
}

void stream_read_done(loop *l, channel *c, const completion *done) {
    auto *s = static_cast<stream *>(c);
    if (done->result > 0) l->counters.bytes_read += static_cast<uint64_t>(done->result);
    const bool usual = done->from != nullptr && (done->flags & FINISH_MORE) != 0 && s->unread == nullptr &&
                       (s->bits & (STREAM_READ_MASK | STREAM_TIMED | STREAM_LOST)) == STREAM_READING &&
                       !pool_should_copy(l);
    if (__builtin_expect(!usual, 0)) {
        read_done_any(l, s, done);
        return;
    }
    mio_buf_t buf = pool_slice(done->from, done->offset, static_cast<size_t>(done->result));
    continuous_data(l, s, &buf);
}

// --- early ends -----------------------------------------------------------------------------------------------------

void stream_read_request_cancel(loop *l, stream *s, lane_request *req, int32_t with) {
    req->result = with;
    if (s->in.state == request_state::started || s->in.state == request_state::done) {
        // Its buffer may be in the kernel's hands, or its bytes on the way: it ends when the carrier has.
        req->flags = static_cast<uint16_t>(req->flags | REQUEST_CANCEL);
        s->bits |= STREAM_CANCEL_IN;
        carrier_cancel(l, &s->in, MIO_ECANCELED);
    } else {
        req->state = request_state::done;
        stream_update_read(s);
    }
}

int stream_read_cancel(loop *, channel *c) {
    auto *s = static_cast<stream *>(c);
    if ((s->bits & STREAM_READING) == 0) return MIO_ENOENT;
    if ((s->bits & STREAM_STOPPING) != 0) return MIO_EALREADY;
    s->bits |= STREAM_STOPPING;
    stream_update_read(s);
    return 0;
}

void stream_read_abandon(loop *l, channel *c) {
    auto *s = static_cast<stream *>(c);
    if ((s->bits & STREAM_READING) == 0) return;
    if ((s->bits & STREAM_STARVED) != 0) stream_starved_leave(l, s);
    s->bits &= ~(STREAM_READ_MASK | STREAM_NO_AUTOPAUSE | STREAM_TIMED_OUT);
    handle_request_end(s);
    stream_update_read(s);
}

void stream_drop_reads(loop *l, stream *s) {
    if ((s->bits & STREAM_READING) != 0) handle_request_end(s);
    s->bits &= ~(STREAM_READ_MASK | STREAM_DISCARDING | STREAM_CANCEL_IN);
    while (!lane_empty(&s->reads)) {
        lane_request *req = lane_pop(&s->reads);
        buf_release(&req->bufs[0]);
        request_free(l, req);
    }
}

}

// --- the user's calls -----------------------------------------------------------------------------------------------

using namespace mio;

mio_req_t mio_stream_read_start(mio_stream_t *public_stream, unsigned flags, mio_read_cb cb, void *arg) {
    stream *s = ours<stream>(public_stream);
    const int error = stream_check_start(s);
    if (error < 0) return error;
    if (cb == nullptr || (flags & ~static_cast<unsigned>(MIO_READ_NO_AUTOPAUSE)) != 0) return MIO_EINVAL;
    if ((s->bits & STREAM_NO_READ) != 0) return MIO_ENOTSUP;
    if ((s->bits & (STREAM_READING | STREAM_DETACHING | STREAM_RELAYED)) != 0 || !lane_empty(&s->reads)) return MIO_EBUSY;
    s->in.cb = reinterpret_cast<void (*)()>(cb);
    s->in.arg = arg;
    s->bits |= STREAM_READING;
    if ((flags & MIO_READ_NO_AUTOPAUSE) != 0) s->bits |= STREAM_NO_AUTOPAUSE;
    const mio_req_t id = handle_request_begin(s);
    stream_marks(s->on, s);
    if ((s->bits & STREAM_TIMED) != 0) stream_touch_start(s->on, s, 0);
    stream_update_read(s);
    return id;
}

static int continuous_check(const stream *s) {
    const int error = stream_check(s);
    if (error < 0) return error;
    return (s->bits & (STREAM_READING | STREAM_RELAYED)) == STREAM_READING ? 0 : MIO_EINVAL;
}

int mio_stream_read_pause(mio_stream_t *public_stream) {
    stream *s = ours<stream>(public_stream);
    const int error = continuous_check(s);
    if (error < 0) return error;
    if ((s->bits & STREAM_PAUSED) == 0) {
        s->bits |= STREAM_PAUSED;
        stream_update_read(s);
    }
    return 0;
}

int mio_stream_read_resume(mio_stream_t *public_stream) {
    stream *s = ours<stream>(public_stream);
    const int error = continuous_check(s);
    if (error < 0) return error;
    if ((s->bits & STREAM_PAUSED) != 0) {
        s->bits &= ~STREAM_PAUSED;
        if ((s->bits & STREAM_TIMED) != 0) stream_touch_start(s->on, s, 0);
        stream_update_read(s);
    }
    return 0;
}

int mio_stream_read_stop(mio_stream_t *public_stream) {
    stream *s = ours<stream>(public_stream);
    const int error = continuous_check(s);
    if (error < 0) return error;
    return stream_read_cancel(s->on, s);
}

// The common half of the one-shot reads: most bytes are wanted, at most `total`.
static mio_req_t read_one_shot(mio_stream_t *public_stream, op_code op, mio_buf_t *buf, size_t total, bool whole_room,
                               const void *delimiter, size_t delimiter_len, mio_read_cb cb, void *arg) {
    stream *s = ours<stream>(public_stream);
    const int error = stream_check_start(s);
    if (error < 0) return error;
    if (buf == nullptr || cb == nullptr || buf->base == nullptr || buf->len > buf->cap) return MIO_EINVAL;
    if (buf->cap > MIO_BUF_SIZE_MAX || buf_is_shared(buf)) return MIO_EINVAL;
    if (op == op_code::read_until && delimiter_len - 1 >= sizeof(lane_request::delimiter)) return MIO_EINVAL;
    if (op != op_code::read_some && (s->flags & CHANNEL_RECORDS) != 0) return MIO_EINVAL; // one record, as it is
    if ((s->bits & STREAM_NO_READ) != 0) return MIO_ENOTSUP;
    const size_t room = buf->cap - buf->len;
    if (room == 0) return MIO_ENOBUFS;
    if (whole_room) total = room;
    if (total == 0) return MIO_EINVAL;
    if (total > room) return MIO_ENOBUFS;
    if ((s->bits & (STREAM_READING | STREAM_DETACHING | STREAM_RELAYED)) != 0) return MIO_EBUSY;
    loop *l = s->on;
    lane_request *req = request_create(l, s, op, 1);
    if (req == nullptr) return MIO_ENOMEM;
    req->cb = reinterpret_cast<void (*)()>(cb);
    req->arg = arg;
    req->total = static_cast<int64_t>(total);
    req->bufs[0] = *buf;
    *buf = mio_buf_t();
    bufs_hide(req->bufs, 1);
    if (delimiter_len != 0) memcpy(req->delimiter, delimiter, delimiter_len);
    req->delimiter_len = static_cast<uint8_t>(delimiter_len);
    if ((s->bits & STREAM_TIMED) != 0 && lane_empty(&s->reads)) stream_touch_start(l, s, 0);
    lane_push(&s->reads, req);
    stream_update_read(s);
    return request_id(req);
}

mio_req_t mio_stream_read(mio_stream_t *s, mio_buf_t *buf, mio_read_cb cb, void *arg) {
    return read_one_shot(s, op_code::read_some, buf, 0, true, nullptr, 0, cb, arg);
}

mio_req_t mio_stream_read_exact(mio_stream_t *s, mio_buf_t *buf, size_t n, mio_read_cb cb, void *arg) {
    return read_one_shot(s, op_code::read_exact, buf, n, false, nullptr, 0, cb, arg);
}

mio_req_t mio_stream_read_until(mio_stream_t *s, mio_buf_t *buf, const void *delimiter, size_t delimiter_len,
                                size_t limit, mio_read_cb cb, void *arg) {
    if (delimiter == nullptr) delimiter_len = 0;
    return read_one_shot(s, op_code::read_until, buf, limit, limit == 0, delimiter, delimiter_len, cb, arg);
}

int mio_stream_unread(mio_stream_t *public_stream, mio_buf_t *buf) {
    stream *s = ours<stream>(public_stream);
    const int error = stream_check(s);
    if (error < 0) return error;
    if (buf == nullptr || buf->base == nullptr || buf->len == 0) return MIO_EINVAL;
    if ((s->bits & STREAM_DETACHING) != 0) return MIO_EBUSY;
    pushback *p = pushback_create(s->on, buf);
    if (p == nullptr) return MIO_ENOMEM;
    p->next = s->unread;
    s->unread = p;
    stream_update_read(s);
    return 0;
}
