/* Polls: whether a descriptor of the program's own can be read or written, told on the loop.
 * SPDX-License-Identifier: MIT
 *
 * For descriptors that somebody else reads and writes: another library's sockets, a pidfd, a timerfd, a device. The
 * library neither owns the descriptor nor changes it (it is not made non-blocking), and never closes it. */
#ifndef MIO_POLL_H
#define MIO_POLL_H

#include <mio/base.h>

enum mio_poll_event MIO_ENUM_ {
    MIO_POLL_IN = 1,    /* there is something to read, or the end, or a connection to accept */
    MIO_POLL_PRI = 2,   /* something exceptional: urgent data of TCP, a change in sysfs. kqueue: told beside others only */
    MIO_POLL_OUT = 4,   /* a write would not wait; a connect has ended */
    MIO_POLL_ERR = 8,   /* always told, need not be asked for */
    MIO_POLL_HUP = 16,  /* always told, need not be asked for */
    MIO_POLL_RDHUP = 32 /* the peer sends no more. macOS: never told, IN is */
};

/* status 0: events, of those that are asked for and ERR and HUP, as poll(2) has them. Told again in every turn as long as
 * that is so and it is asked for (by level): read until there is nothing left, or ask for less.
 * status < 0, events 0: MIO_ECANCELED (the poll is being closed) and MIO_EBADF (the descriptor was closed) are the last
 * call; any other is a report, nothing is asked for any more, and mio_poll_set may be tried again: MIO_EEXIST: the loop
 * watches this descriptor already, for another poll or a stream; MIO_ENOMEM; MIO_ENOSPC: the user's watches are
 * exhausted, epoll(7); MIO_EMFILE, MIO_ENFILE (io_uring, with the first poll of a loop). */
typedef void (*mio_poll_cb)(mio_poll_t *poll, int status, unsigned events, void *arg);

MIO_BEGIN

/* A poll that asks for nothing yet. fd stays the program's: it must stay open until mio_poll_set(poll, 0, ...),
 * mio_handle_close or mio_handle_abandon has returned, and may be closed by the next statement: nothing of it is left in
 * the kernel (a peer sees the end at once), and no event of it is told, nor one of whatever gets its number, also when it
 * was found already. In a simulated world fd is one of the world's.
 * MIO_EINVAL. MIO_EBADF: no descriptor. MIO_ENOMEM, MIO_ESHUTDOWN, MIO_EPERM. */
MIO_API MIO_CHECK_RESULT int mio_poll_open(mio_loop_t *loop, int fd, mio_poll_t **out);

/* Asks for events (MIO_POLL_IN, OUT, PRI, RDHUP, or'ed), instead of what was asked for before, and calls cb from the next
 * turn on, also of what was found before and is asked for still. 0: for nothing, cb may be NULL; the kernel has let go of
 * the descriptor when this returns. Idempotent. A poll that asks for something keeps the loop going (mio_handle_unref).
 * What poll(2) calls ready always (files, folders) is told in every turn.
 * MIO_EINVAL: other events, no cb. MIO_EBADF: closing, or its descriptor was closed. */
MIO_API int mio_poll_set(mio_poll_t *poll, unsigned events, mio_poll_cb cb, void *arg);

MIO_API int mio_poll_events(const mio_poll_t *poll); /* what is asked for. MIO_EINVAL, MIO_EBADF */
MIO_API int mio_poll_fd(const mio_poll_t *poll);     /* the descriptor. MIO_EINVAL, MIO_EBADF */

MIO_END

#endif
