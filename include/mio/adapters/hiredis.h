/* hiredis on a loop: the asynchronous interface to Redis.
 * SPDX-License-Identifier: MIT
 *
 * For programs that are linked with hiredis themselves; libmio is not. It takes the hooks in ac->ev. With hiredis 1.0 and
 * later also its time-outs (redisAsyncSetTimeout, redisOptions.connect_timeout); older ones have none.
 *
 * Ownership: the adapter belongs to its context, and goes with it (redisAsyncFree, the end of redisAsyncDisconnect, an
 * error): there is nothing to close. Context and loop are the program's; the loop may be destroyed before the context.
 * Threads: the context belongs to the loop's thread from now on.
 * Reentrancy: hiredis is entered from the loop only. Its callbacks may start commands, disconnect and free.
 * Memory: malloc(3), one piece for a context. */
#ifndef MIO_ADAPTERS_HIREDIS_H
#define MIO_ADAPTERS_HIREDIS_H

#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <mio.h>

#include <stdlib.h>

#if HIREDIS_MAJOR >= 1
#include <sys/time.h>
#endif

/* Private. */
struct mio_hiredis_ {
    redisAsyncContext *context; /* NULL: is gone, while a frame of ours is on the stack */
    mio_remote_t *remote;
    mio_poll_t *poll; /* NULL: the loop has ended it */
    mio_timer_t *timer;
    unsigned events;
    unsigned inside;
};

MIO_BEGIN

static inline void mio_hiredis_leave_(struct mio_hiredis_ *r) {
    if (--r->inside == 0 && !r->context) free(r);
}

static inline void mio_hiredis_on_poll_(mio_poll_t *poll, int status, unsigned events, void *arg) {
    struct mio_hiredis_ *r = (struct mio_hiredis_ *)arg;
    const unsigned broken = events & (MIO_POLL_ERR | MIO_POLL_HUP); /* what is tried next will say why */
    if (status == MIO_ECANCELED) { /* the loop is being destroyed: the context stands still */
        r->poll = NULL;
        return;
    }
    r->inside++;
    if (status < 0) { /* cannot be watched: nothing would ever come */
        mio_handle_abandon(MIO_HANDLE(poll));
        r->poll = NULL;
        redisAsyncFree(r->context);
        mio_hiredis_leave_(r);
        return;
    }
    /* Each of the two may free the context. */
    if (r->context && (r->events & MIO_POLL_IN) && ((events & MIO_POLL_IN) || broken)) redisAsyncHandleRead(r->context);
    if (r->context && (r->events & MIO_POLL_OUT) && ((events & MIO_POLL_OUT) || broken)) redisAsyncHandleWrite(r->context);
    mio_hiredis_leave_(r);
}

static inline void mio_hiredis_ask_(void *arg, unsigned more, unsigned less) {
    struct mio_hiredis_ *r = (struct mio_hiredis_ *)arg;
    if (!r) return; /* after the cleanup */
    r->events = (r->events | more) & ~less;
    if (r->poll) (void)mio_poll_set(r->poll, r->events, mio_hiredis_on_poll_, r); /* what fails is told by the callback */
}

static inline void mio_hiredis_add_read_(void *arg) { mio_hiredis_ask_(arg, MIO_POLL_IN, 0); }
static inline void mio_hiredis_del_read_(void *arg) { mio_hiredis_ask_(arg, 0, MIO_POLL_IN); }
static inline void mio_hiredis_add_write_(void *arg) { mio_hiredis_ask_(arg, MIO_POLL_OUT, 0); }
static inline void mio_hiredis_del_write_(void *arg) { mio_hiredis_ask_(arg, 0, MIO_POLL_OUT); }

/* Before hiredis closes the socket; also in a callback of hiredis, and more than once. */
static inline void mio_hiredis_cleanup_(void *arg) {
    struct mio_hiredis_ *r = (struct mio_hiredis_ *)arg;
    if (!r || !r->context) return;
    r->context->ev.data = NULL;
    r->context = NULL;
    if (r->poll) mio_handle_abandon(MIO_HANDLE(r->poll));
    r->poll = NULL;
    if (mio_remote_is_open(r->remote)) mio_handle_abandon(MIO_HANDLE(r->timer));
    mio_remote_release(r->remote);
    if (r->inside == 0) free(r);
}

#if HIREDIS_MAJOR >= 1
static inline void mio_hiredis_on_timer_(mio_timer_t *timer, void *arg) {
    struct mio_hiredis_ *r = (struct mio_hiredis_ *)arg;
    (void)timer;
    r->inside++;
    redisAsyncHandleTimeout(r->context);
    mio_hiredis_leave_(r);
}

static inline void mio_hiredis_schedule_(void *arg, struct timeval after) {
    struct mio_hiredis_ *r = (struct mio_hiredis_ *)arg;
    const int64_t after_ns = (int64_t)after.tv_sec * MIO_SECOND + (int64_t)after.tv_usec * MIO_MICROSECOND;
    if (r && mio_remote_is_open(r->remote)) (void)mio_timer_start(r->timer, after_ns, 0, mio_hiredis_on_timer_, r);
}
#endif

/* Drives context on loop from now on, to be called right after redisAsyncConnect and its like, before its first command. The
 * loop is kept going as long as the connection is open; MIO_POLL_IN is asked for all the time.
 * MIO_EINVAL: no loop or context. MIO_EBUSY: the context has an adapter. MIO_EBADF: it has no socket (context->err says why).
 * MIO_ENOMEM, MIO_ESHUTDOWN, MIO_EPERM. The context is the program's to free either way. */
MIO_CHECK_RESULT static inline int mio_hiredis_attach(mio_loop_t *loop, redisAsyncContext *context) {
    struct mio_hiredis_ *r;
    int status;
    if (!loop || !context) return MIO_EINVAL;
    if (context->ev.data) return MIO_EBUSY;
    r = (struct mio_hiredis_ *)calloc(1, sizeof *r);
    if (!r) return MIO_ENOMEM;
    status = mio_poll_open(loop, context->c.fd, &r->poll);
    if (status < 0) {
        free(r);
        return status;
    }
    status = mio_timer_create(loop, &r->timer);
    if (status < 0) {
        mio_handle_abandon(MIO_HANDLE(r->poll));
        free(r);
        return status;
    }
    r->context = context;
    r->remote = mio_remote_retain(mio_loop_remote(loop));
    /* So that its end is told to us whenever the loop ends it. */
    (void)mio_poll_set(r->poll, 0, mio_hiredis_on_poll_, r);
    context->ev.data = r;
    context->ev.addRead = mio_hiredis_add_read_;
    context->ev.delRead = mio_hiredis_del_read_;
    context->ev.addWrite = mio_hiredis_add_write_;
    context->ev.delWrite = mio_hiredis_del_write_;
    context->ev.cleanup = mio_hiredis_cleanup_;
#if HIREDIS_MAJOR >= 1
    context->ev.scheduleTimer = mio_hiredis_schedule_;
#endif
    return 0;
}

MIO_END

#endif
