// A direction of a relay that has shown to be bulk: splice(2) moves its bytes in the kernel's memory, through a pipe.
//
//   PLAIN --large pieces in a row, of a socket to a socket--> SPLICED   splice_in -> pipe -> splice_out, in the lane of to
//     ^------ small ones in a row, no pipe to be had, --------'         from is not read while the pipe has bytes
//             refused, an urgent byte
//
// A direction has a pipe only while there are bytes in it. So it is empty whenever it is filled, a peer that sends nothing
// costs no descriptors, and what a direction gives back nobody else's bytes are in.
//
// What is in the pipe is a write in the lane of to as any other is, but that at an early end the bytes are read out of it
// first. Bytes that came in and cannot go on (pushed back ones are before them, reading has stopped) are read out, too, and
// stored as any that were received.

#include "io/relay_way.h"

#include <mio/error.h>

namespace mio {

constexpr size_t SPLICE_LARGE = 8 << 10;
constexpr uint8_t SPLICE_AFTER = 4;
constexpr size_t SPLICE_SMALL = 4 << 10;
constexpr uint8_t SPLICE_UNTIL = 8;

// --- there and back -------------------------------------------------------------------------------------------------

// Asked once: splice(2) has no MSG_DONTWAIT. What connects is ours, and made so.
static bool is_spliceable(loop *l, const stream *s) {
    constexpr uint16_t kinds = CHANNEL_TCP | CHANNEL_UNIX | CHANNEL_RECORDS | CHANNEL_FILE;
    if ((s->flags & kinds) != CHANNEL_TCP && (s->flags & kinds) != CHANNEL_UNIX) return false;
    return s->fd >= 0 && l->calls->set_nonblocking(s->fd) == 0;
}

static bool way_may_splice(loop *l, const relay_way *w) {
    if (l->world != nullptr || l->pipes.useless || stream_receive_op(w->from) != op_code::receive) return false;
    return is_spliceable(l, w->from) && is_spliceable(l, w->to);
}

void way_weigh(loop *l, relay_way *w, size_t n) {
    if (w->never || w->whole->ending || (w->from->bits & STREAM_SPLICED) != 0) return;
    if ((w->to->bits & STREAM_CONNECTING) != 0) return; // its lane may be emptied (way_pull_back): of buffers only
    if (n < SPLICE_LARGE) {
        w->large = 0;
    } else if (++w->large >= SPLICE_AFTER) {
        w->large = 0;
        w->never = !way_may_splice(l, w);
        if (w->never) return;
        w->from->bits |= STREAM_SPLICED;
        carrier_cancel(l, &w->from->in, MIO_ECANCELED); // what it is asked next is a splice
    }
}

static void way_plain(relay_way *w, uint8_t large) {
    w->from->bits &= ~STREAM_SPLICED;
    w->large = large;
}

// --- the pipe -------------------------------------------------------------------------------------------------------

int channel_splice_into(loop *l, const channel *c) {
    const auto *s = static_cast<const stream *>(c);
    if ((s->bits & (STREAM_RELAYED | STREAM_SPLICED)) != (STREAM_RELAYED | STREAM_SPLICED)) return MIO_ECANCELED;
    relay_way *w = way_from(s);
    mio_assert(!w->has_pipe && w->piped == 0);
    const int error = pipes_take(l, &w->pipe);
    if (error < 0) return error;
    w->has_pipe = true;
    return w->pipe.in;
}

void channel_spliced(loop *l, const channel *c, ssize_t n) {
    relay_way *w = way_from(static_cast<const stream *>(c));
    if (n > 0) w->piped = static_cast<size_t>(n);
    else way_pipe_release(l, w);
}

void way_pipe_release(loop *l, relay_way *w) {
    if (!w->has_pipe) return;
    pipes_give(l, &w->pipe, w->piped == 0);
    w->has_pipe = false;
    w->piped = 0;
}

// All that is in the pipe; false: no memory.
static bool way_drain(loop *l, relay_way *w, mio_buf_t *out) {
    if (mio_buf_alloc(loop_public(l), w->piped, out) < 0) return false;
    while (w->piped != 0) {
        const ssize_t n = l->calls->read(w->pipe.out, out->base + out->len, w->piped);
        if (n == -EINTR) continue;
        if (n <= 0) break; // not so: they are there
        out->len += static_cast<size_t>(n);
        w->piped -= static_cast<size_t>(n);
    }
    if (w->piped == 0) return true;
    buf_release(out);
    return false;
}

void way_unpipe(loop *l, relay_way *w) {
    mio_buf_t rest = mio_buf_t();
    if (w->piped != 0 && w->from->state == handle_state::open && !w->lost) {
        if (way_drain(l, w, &rest)) way_give_back(l, w, &rest);
        else w->lost = true;
    }
    way_pipe_release(l, w);
}

// --- bytes ----------------------------------------------------------------------------------------------------------

// Received, but nobody's turn to have it: as stream_store does.
static void way_store(loop *l, relay_way *w) {
    stream *from = w->from;
    mio_buf_t buf = mio_buf_t();
    if (from->state == handle_state::open && (from->bits & (STREAM_DISCARDING | STREAM_LOST)) == 0 &&
        !(way_drain(l, w, &buf) && stream_unread_append(l, from, &buf))) {
        buf_release(&buf);
        from->bits |= STREAM_LOST;
    }
    way_pipe_release(l, w);
}

static void way_spliced(loop *l, relay_way *w) {
    relay *r = w->whole;
    const stream *from = w->from;
    const size_t n = w->piped;
    relay_touch(l, r);
    if (r->ending || (from->bits & STREAM_READ_MASK) != STREAM_READING || from->unread != nullptr) {
        way_store(l, w);
        way_pause(l, w); // what was on its way may have arrived while the pipe was full: nobody else would end the pause
        return;
    }
    const int32_t error = way_write(l, w, nullptr, n);
    if (error < 0) {
        way_unpipe(l, w);
        relay_end(l, r, error, error == MIO_ENOMEM ? MIO_RELAY_NEITHER : side_of(r, w->to));
        return;
    }
    way_pause(l, w);
    if (n >= SPLICE_SMALL) w->large = 0;
    else if (++w->large >= SPLICE_UNTIL) way_plain(w, 0);
}

enum class splice_error { of_socket, never, now, urgent };

static splice_error splice_error_of(int64_t error) {
    switch (error) {
    case MIO_EAGAIN: return splice_error::urgent;
    case MIO_EMFILE: // no pipe
    case MIO_ENFILE:
    case MIO_ENOMEM: return splice_error::now;
    case MIO_ENOSYS: // not here, or not of this socket
    case MIO_EINVAL:
    case MIO_EPERM:
    case MIO_EACCES:
    case MIO_ENOTSUP: return splice_error::never;
    }
    return splice_error::of_socket;
}

void relay_splice_done(loop *l, channel *c, const completion *done) {
    auto *s = static_cast<stream *>(c);
    completion told = *done;
    if ((s->bits & STREAM_RELAYED) != 0 && (s->flags & HANDLE_ABANDONED) == 0) {
        relay_way *w = way_from(s);
        if (done->result > 0) way_spliced(l, w);
        const splice_error error = splice_error_of(done->result);
        if (error == splice_error::urgent) way_plain(w, SPLICE_AFTER - 1); // the next large piece is enough
        if (error == splice_error::now || error == splice_error::never) way_plain(w, 0);
        if (error == splice_error::never) w->never = true;
        if (done->result == MIO_ENOSYS) pipes_refuse(l);
        if (error != splice_error::of_socket) told.result = MIO_ECANCELED; // receive is asked instead, and has its say
    }
    stream_read_done(l, c, &told);
}

}
