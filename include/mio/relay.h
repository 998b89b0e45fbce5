/* Relays: two streams, both ways, until both ends have been carried over.
 * SPDX-License-Identifier: MIT
 *
 * What a peer of one stream says is written to the other stream, and its end is carried over as a shutdown, while the other
 * direction goes on. Buffers move, no byte is copied (bulk between sockets may go by splice(2): docs/relay.md); a side that
 * does not take its bytes is the only one whose other side is not read. The streams stay the program's: open when the relay ends, whatever ended it. On the loop's thread. */
#ifndef MIO_RELAY_H
#define MIO_RELAY_H

#include <mio/base.h>
#include <mio/stream.h>

/* Which of the two, where it matters. */
enum mio_relay_side MIO_ENUM_ {
    MIO_RELAY_NEITHER = 0,
    MIO_RELAY_A = 1,
    MIO_RELAY_B = 2
};

/* The one and only call. status 0: both sides have said their last byte, all of it was accepted by the other's kernel, and
 * each end was carried over by mio_stream_shutdown. status < 0: what ended it in both directions: MIO_ETIMEDOUT (idle_ns,
 * half_ns, the request's deadline, or a time-out of a stream's own), MIO_ECANCELED (cancelled, or one of the streams is
 * closing), MIO_ENOMEM, or what reading, writing or shutting down one of them said: MIO_ECONNRESET, MIO_EPIPE,
 * MIO_ENOTCONN, ...; options.failed says which. a_to_b, b_to_a: bytes that the kernel accepted for b, for a, with any status.
 *
 * Bytes that were read and not accepted are not lost: they are back in the stream that they came from, before whatever it
 * receives later, and whatever reads it next gets them first (a second relay, too). Only if that stream is closing, or
 * the other one was abandoned, are they gone.
 * a, b: NULL if it was abandoned meanwhile; a closing one is told here before its close callback. Both are free for
 * other reads, another relay, a detach. */
typedef void (*mio_relay_cb)(mio_stream_t *a, mio_stream_t *b, int status, int64_t a_to_b, int64_t b_to_a, void *arg);

typedef struct mio_relay_options {
    size_t size;
    int64_t idle_ns; /* no byte came or left, either way: MIO_ETIMEDOUT; 0, MIO_FOREVER: no limit */
    int64_t half_ns; /* the same once one side has ended, instead of idle_ns, counted anew from then; 0: as idle_ns;
                        MIO_FOREVER: no limit */
    size_t window;   /* bytes of one direction, read and not yet accepted, above which its side is not read; reading goes on
                        at half of it. Default: the loop's write_high */
    enum mio_relay_side *failed; /* borrowed until the callback, and written just before it: which stream status is
                                    about: what reading, writing or shutting it down said, its own time-out
                                    (mio_stream_set_timeout), or that it is closing. MIO_RELAY_NEITHER with 0, idle_ns,
                                    half_ns, the request's deadline, a cancel, and want of memory (but MIO_ENOMEM that
                                    a stream's reading ended with is that stream's). NULL: nobody asks */
} mio_relay_options_t;
MIO_DEFINE_INIT_(mio_relay_options_t);
#define MIO_RELAY_OPTIONS_INIT MIO_OPTIONS_INIT_(mio_relay_options_t)

MIO_BEGIN

/* Begins with what each stream has received already or was given back (mio_stream_unread), and behind what is queued for
 * writing. A stream may still be connecting. As long as it lasts, reads on either, a second relay, detach and move are
 * MIO_EBUSY, and pause, resume and stop MIO_EINVAL; writes of the program's are in order with those of the relay, a
 * shutdown of the program's ends it with MIO_EPIPE when there is something to carry behind it; try_write, unread, marks
 * and time-outs of the streams work as ever (a stream's time-out ends the relay with MIO_ETIMEDOUT). Marks do not hold
 * the relay up, nor does the queue's maximum.
 * The id: mio_req_cancel, mio_req_deadline, mio_req_timeout, mio_req_abandon. After an abandon the streams stay busy until
 * what is in the kernel's hands is back, at the latest in the next turn but one.
 * The end of either stream ends it: mio_handle_close and mio_stream_finish with MIO_ECANCELED (finish: after what is
 * on its way to that stream was flushed), before the close callback. An abandoned stream takes along what is on its way to
 * it; the callback still comes, for the other one's sake, unless both are abandoned.
 * A terminal has no half to shut down: its side is told of no end.
 * MIO_EINVAL: no callback, a and b are the same, or on different loops, negative times. MIO_E2BIG. MIO_ENOTSUP: one of
 * them does not read and write (half of a pipe), or has records (seqpacket). MIO_EBUSY: one of them is read, relayed or
 * detached. MIO_EPIPE: the write side of one is broken. MIO_EBADF, MIO_ENOMEM, MIO_ESHUTDOWN. */
MIO_API mio_req_t mio_stream_relay(mio_stream_t *a, mio_stream_t *b, const mio_relay_options_t *options,
                                   mio_relay_cb cb, void *arg);

MIO_END

#endif
