/* Remotes: the address of a loop for other threads.
 * SPDX-License-Identifier: MIT
 *
 * A remote outlives its loop: what is posted then is refused, never lost in silence. */
#ifndef MIO_REMOTE_H
#define MIO_REMOTE_H

#include <mio/base.h>

/* status: 0, or MIO_ECANCELED when the loop is destroyed before the post could run: arg is the callee's either way. */
typedef void (*mio_post_cb)(mio_loop_t *loop, int status, void *arg);

MIO_BEGIN

/* The loop's own remote; the pointer is valid as long as the loop. Retain it to keep it longer. NULL: no loop,
 * or a fork's child. On the loop's thread. */
MIO_API mio_remote_t *mio_loop_remote(mio_loop_t *loop);
MIO_API mio_remote_t *mio_remote_retain(mio_remote_t *remote); /* [any thread] */
MIO_API void mio_remote_release(mio_remote_t *remote);         /* [any thread] */

/* Runs cb on the loop's thread, in its next posts phase. First in, first out per sender; never coalesced, never lost.
 * MIO_EINVAL: no remote or no cb. MIO_ENOMEM. MIO_ESHUTDOWN: the loop is going or gone; arg stays yours.
 * MIO_EPERM: in a fork's child.
 * [any thread], not from a signal handler: use mio_wakeup_send there. */
MIO_API int mio_remote_post(mio_remote_t *remote, mio_post_cb cb, void *arg);

/* 1: a post would be taken. 0: the loop is going or gone: its handles must not be touched any more, but those that are told
 * of their end; also for NULL and in a fork's child. On another thread than the loop's, 1 may be old news. [any thread] */
MIO_API int mio_remote_is_open(const mio_remote_t *remote);

MIO_END

#endif
