/* Streams: bytes in order, both ways.
 * SPDX-License-Identifier: MIT
 *
 * Start functions return a request id (> 0) or an error (< 0) with nothing taken: MIO_EINVAL, MIO_EBADF, MIO_ENOMEM,
 * MIO_EBUSY, MIO_ENOBUFS, MIO_EPIPE, MIO_ESHUTDOWN; MIO_ENOTSUP: the other end of a pipe could. Callbacks of one
 * direction come in the order of the starts. All on the loop's thread. */
#ifndef MIO_STREAM_H
#define MIO_STREAM_H

#include <mio/addr.h>
#include <mio/base.h>
#include <mio/buf.h>
#include <mio/handle.h>

/* n > 0: n bytes. Continuous: they are all of buf. One-shot: they were appended to your buffer.
 * n < 0: the last call of this request: MIO_EOF, MIO_ECANCELED, MIO_ETIMEDOUT, MIO_ECONNRESET, ...; for a one-shot
 * read buf is your buffer with what it got so far, for a continuous one it is empty. n is never 0, but for an
 * empty record (<mio/unix.h>). */
typedef void (*mio_read_cb)(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg);

/* status 0: all bytes were accepted by the kernel. sent: bytes it accepted, on error too. bufs: your buffers with the
 * base and len they came with. */
typedef void (*mio_write_cb)(mio_stream_t *stream, int status, int64_t sent, mio_buf_t *bufs, unsigned nbufs,
                             void *arg);

typedef void (*mio_stream_cb)(mio_stream_t *stream, int status, void *arg);

/* above 1: the write queue has grown over the high mark; 0: it has fallen to the low mark or below. */
typedef void (*mio_watermark_cb)(mio_stream_t *stream, int above, void *arg);

/* status 0: fd and unread are yours, and the stream is gone when the callback returns. status < 0: fd is -1 and the
 * stream is as before. */
typedef void (*mio_detach_cb)(mio_stream_t *stream, int status, int fd, mio_buf_t *unread, unsigned n, void *arg);

/* On the thread of the new loop. status 0: stream lives there and is yours (as in mio_listener_cb). status < 0:
 * stream is NULL and the connection is closed. loop is where the callback runs: the new one; or, when the move failed
 * before it left (MIO_ESHUTDOWN: that loop is gone; MIO_ENOMEM, MIO_EPIPE, MIO_ECANCELED), the old one, and stream is
 * the stream, open as before (NULL if it is closing). */
typedef void (*mio_move_cb)(mio_loop_t *loop, int status, mio_stream_t *stream, void *arg);

/* Flags of mio_stream_read_start. */
enum mio_read_flags MIO_ENUM_ {
    MIO_READ_AUTOPAUSE = 0,    /* the default: reading pauses while this stream's own write queue is above its high mark */
    MIO_READ_NO_AUTOPAUSE = 1
};

/* Flags of mio_stream_write_flags. */
enum mio_write_flags MIO_ENUM_ {
    MIO_WRITE_ZEROCOPY = 1 /* a wish: the kernel sends from your buffers' memory instead of copying it first */
};

#define MIO_ZEROCOPY_MIN 65536 /* bytes; less is copied faster than it is lent */

enum mio_timeout MIO_ENUM_ {
    MIO_TIMEOUT_READ = 0,  /* no byte came while a read was started and not paused */
    MIO_TIMEOUT_WRITE = 1, /* no byte left while a write was queued */
    MIO_TIMEOUT_IDLE = 2   /* neither */
};

MIO_BEGIN

/* --- reading ------------------------------------------------------------------------------------------------- */

/* Reads until stopped, closed, EOF or error; buffers come from the loop's receive blocks.
 * MIO_EBUSY: a read is under way, or a detach. */
MIO_API mio_req_t mio_stream_read_start(mio_stream_t *stream, unsigned flags, mio_read_cb cb, void *arg);

/* Pause and resume the continuous read; idempotent, call nothing, keep the request. After pause no call has n > 0
 * until resume: bytes received meanwhile stay in the stream. MIO_EINVAL: no continuous read. */
MIO_API int mio_stream_read_pause(mio_stream_t *stream);
MIO_API int mio_stream_read_resume(mio_stream_t *stream);

/* Ends the continuous read: its last call has MIO_ECANCELED. Bytes already received stay for whatever reads next.
 * MIO_EINVAL: no continuous read. MIO_EALREADY: its last call is queued. */
MIO_API int mio_stream_read_stop(mio_stream_t *stream);

/* One-shot reads into your buffer; they queue. read: what comes, at least one byte. read_exact: n more bytes (1 to
 * cap - len). read_until: up to and including the delimiter (1 to 8 bytes), at most limit bytes (0: the room in buf);
 * what came after it stays in the stream. Without delimiter in limit bytes: MIO_EMSGSIZE; EOF midway: MIO_EOF; both
 * with the bytes in buf. MIO_ENOBUFS: no room in buf. MIO_EBUSY: a continuous read is under way. */
MIO_API mio_req_t mio_stream_read(mio_stream_t *stream, mio_buf_t *buf, mio_read_cb cb, void *arg);
MIO_API mio_req_t mio_stream_read_exact(mio_stream_t *stream, mio_buf_t *buf, size_t n, mio_read_cb cb, void *arg);
MIO_API mio_req_t mio_stream_read_until(mio_stream_t *stream, mio_buf_t *buf, const void *delimiter,
                                        size_t delimiter_len, size_t limit, mio_read_cb cb, void *arg);

/* Pushes bytes back: they are read next, before what was pushed back earlier. Moves buf in. MIO_EINVAL: empty. */
MIO_API int mio_stream_unread(mio_stream_t *stream, mio_buf_t *buf);

/* --- writing ------------------------------------------------------------------------------------------------- */

/* Sends n buffers (1 to MIO_BUFS_MAX; all moved in; the array is free at once) in order, never short on success. cb
 * may be NULL: a failure then surfaces as the next read error. When a write fails or is cancelled with some but not all
 * of its bytes sent, the write side is broken: queued writes end with MIO_ECANCELED and sent 0, later ones are
 * MIO_EPIPE, reading goes on. MIO_ENOBUFS: the queue would exceed its maximum. MIO_EPIPE: shut down or broken. */
MIO_API mio_req_t mio_stream_write(mio_stream_t *stream, mio_buf_t *bufs, unsigned n, mio_write_cb cb, void *arg);

/* The same with flags (0: the same). MIO_EINVAL: unknown flags.
 * MIO_WRITE_ZEROCOPY: cb and the buffers come only when the kernel needs their memory no more: when the peer has
 * acknowledged all of it, or, if it died without a word, when the system gives it up, minutes later. Later writes are
 * sent meanwhile, but called back behind it, and so are a shutdown and a detach. mio_handle_close closes the connection
 * at once, but its callback waits for the buffers, too; after mio_handle_abandon they go home by themselves.
 * It is an ordinary write where that does not pay or cannot be: with less than MIO_ZEROCOPY_MIN bytes, on other sockets
 * than TCP, with borrowed memory (mio_buf_borrow, mio_buf_space), on other backends than io_uring; and as soon as the
 * kernel says of a stream that it copied anyway, as on loopback and for network cards that cannot gather. */
MIO_API mio_req_t mio_stream_write_flags(mio_stream_t *stream, mio_buf_t *bufs, unsigned n, unsigned flags,
                                         mio_write_cb cb, void *arg);

/* Sends len bytes of a file (or of whatever pread(2) reads), from offset on, in the order of the writes; the stream's
 * descriptor becomes nonblocking. fd is borrowed until cb, or until an abandon returns; its own position is neither used nor
 * moved. cb gets no buffers (NULL, 0), sent counts; its status and a broken write side are as of a write, but for an error of
 * the file before its first byte was sent: MIO_EBADF, MIO_EIO, MIO_EINVAL and the like, MIO_EOF (the file ends before offset
 * + len; what there is was sent): later writes go on then. The bytes are not in mio_stream_queued_bytes, and no maximum
 * applies. It never waits for the socket; it waits for the disk, where the bytes are not in memory: sendfile(2). On io_uring
 * too it is that call. MIO_ENOTSUP: in a simulated world, to a pipe or a terminal, to a socket of records.
 * MIO_EINVAL: offset < 0, len <= 0, or their sum too large. MIO_EBADF: fd < 0. MIO_EPIPE, MIO_EBUSY as of a write. */
MIO_API mio_req_t mio_stream_sendfile(mio_stream_t *stream, int fd, int64_t offset, int64_t len, mio_write_cb cb, void *arg);

/* Sends now what the kernel takes now: bytes sent, or an error; takes nothing over. MIO_EAGAIN: would wait, or
 * something is queued. */
MIO_API int64_t mio_stream_try_write(mio_stream_t *stream, const void *ptr, size_t len);

/* Sends FIN behind the queued writes; closes the writing end of a pipe (MIO_ENOTSUP: what is no half of anything). cb may
 * be NULL. Writes after it are MIO_EPIPE; a second one is MIO_EPIPE. */
MIO_API mio_req_t mio_stream_shutdown(mio_stream_t *stream, mio_stream_cb cb, void *arg);

/* Bytes of the write queue that are not sent yet; 0 for NULL and for a stream that is closing. */
MIO_API size_t mio_stream_queued_bytes(const mio_stream_t *stream);

/* Marks of the write queue in bytes, low <= high; cb (may be NULL) once per crossing, from the turn. 0, 0: the loop's
 * defaults. MIO_ENOMEM. */
MIO_API int mio_stream_set_watermarks(mio_stream_t *stream, size_t low, size_t high, mio_watermark_cb cb, void *arg);
MIO_API int mio_stream_set_queue_max(mio_stream_t *stream, size_t bytes); /* MIO_ENOMEM */

/* --- ending, timeouts ---------------------------------------------------------------------------------------- */

/* The graceful end: flush the write queue, shut down, close at the peer's EOF; input is discarded from now on (two ends
 * that both finish would else wait for each other). After within_ns close abruptly (a peer that never reads holds
 * nothing for ever). Ends a continuous read (MIO_ECANCELED). From now on the handle
 * is closing: a second finish and mio_handle_close give MIO_EALREADY, mio_handle_abandon is legal. cb as in
 * mio_handle_close. MIO_EINVAL: within_ns < 0. MIO_EBUSY: a detach is under way. */
MIO_API int mio_stream_finish(mio_stream_t *stream, int64_t within_ns, mio_close_cb cb, void *arg);

/* The read (READ, IDLE with a read under way) or the head write (WRITE, IDLE otherwise) ends with MIO_ETIMEDOUT; the
 * stream stays open. Precision about 1 ms, never early. Time paused, by the program, for a full write queue or for
 * want of buffers, does not count. after_ns 0 or MIO_FOREVER clears. MIO_EINVAL. */
MIO_API int mio_stream_set_timeout(mio_stream_t *stream, enum mio_timeout which, int64_t after_ns);

/* --- moving -------------------------------------------------------------------------------------------------- */

/* Takes over a connected stream socket, or a seqpacket one of unix(7): fd is the library's from now on. unread (n of
 * them, moved in, may be NULL) is read first. MIO_EINVAL: no such socket. MIO_EBADF, MIO_ENOTSOCK, MIO_ENOMEM,
 * MIO_ESHUTDOWN: all stays yours. Whatever it is, also no socket: mio_pipe_adopt. */
MIO_API MIO_CHECK_RESULT int mio_stream_adopt(mio_loop_t *loop, int fd, mio_buf_t *unread, unsigned n,
                                              mio_stream_t **out);

/* Gives the descriptor away: flushes the write queue, ends a continuous read (MIO_ECANCELED), then calls cb with fd
 * and the bytes received but not read. MIO_EBUSY: one-shot reads are queued, or a detach is under way. */
MIO_API mio_req_t mio_stream_detach(mio_stream_t *stream, mio_detach_cb cb, void *arg);

/* detach here, adopt there. Once it has left, the old pointer is dead and nobody is told of it on the old loop: after
 * this call use only the returned id, unless cb comes here with a status < 0. Data, name, marks and time-outs stay
 * behind. The target loop must be of the same world (a simulated stream stays in its own: MIO_EINVAL). */
MIO_API mio_req_t mio_stream_move(mio_stream_t *stream, mio_remote_t *to, mio_move_cb cb, void *arg);

/* --- questions ----------------------------------------------------------------------------------------------- */

MIO_API int mio_stream_local(const mio_stream_t *stream, mio_addr_t *out); /* getsockname(2) */
MIO_API int mio_stream_peer(const mio_stream_t *stream, mio_addr_t *out);  /* getpeername(2) */
MIO_API int mio_stream_fd(const mio_stream_t *stream); /* stays the library's; MIO_ENOTCONN while there is none */

MIO_END

#endif
