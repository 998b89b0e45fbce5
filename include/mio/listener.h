/* Listeners: they accept, and hand over ready streams.
 * SPDX-License-Identifier: MIT */
#ifndef MIO_LISTENER_H
#define MIO_LISTENER_H

#include <mio/addr.h>
#include <mio/base.h>

/* status 0: stream is connected and yours. If the callback returns having neither started anything on it, nor set its
 * data, nor called mio_handle_keep, the stream is closed.
 * status < 0: stream is NULL. MIO_ECANCELED (closing) is the last call; any other is a report and accepting goes on:
 * MIO_EMFILE, MIO_ENFILE, MIO_ENOBUFS, MIO_ENOMEM: tried again after a pause of 10 ms to 1 s, doubling, while waiting
 * connections stay in the kernel's backlog; MIO_ECONNABORTED and other network errors of accept(2): tried again at
 * once. */
typedef void (*mio_listener_cb)(mio_listener_t *listener, int status, mio_stream_t *stream, void *arg);

MIO_BEGIN

/* Takes over a listening stream or seqpacket socket of the program's (fd is the library's from now on, also its closing).
 * MIO_EINVAL: not listening. MIO_EBADF, MIO_ENOTSOCK, MIO_ENOMEM, MIO_ESHUTDOWN: fd stays yours.
 * MIO_EBUSY: a listener of this loop has it already, and keeps it. That another loop has it is not seen: to accept on
 * several loops give each a dup(2) of its own. */
MIO_API MIO_CHECK_RESULT int mio_listener_adopt(mio_loop_t *loop, int fd, mio_listener_cb cb, void *arg,
                                                mio_listener_t **out);

/* While paused nothing is accepted; connections wait in the backlog. Idempotent. Those that were accepted before are
 * still delivered: on epoll up to 16, on io_uring as many as the kernel has accepted by then. MIO_EBADF. */
MIO_API int mio_listener_pause(mio_listener_t *listener);
MIO_API int mio_listener_resume(mio_listener_t *listener);

/* What getsockname(2) says; the port that "port 0" became. */
MIO_API int mio_listener_local(const mio_listener_t *listener, mio_addr_t *out);
MIO_API int mio_listener_fd(const mio_listener_t *listener); /* the descriptor; stays the library's. MIO_EBADF */

MIO_END

#endif
