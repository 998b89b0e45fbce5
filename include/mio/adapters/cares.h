/* c-ares on a loop: DNS without threads.
 * SPDX-License-Identifier: MIT
 *
 * For programs that are linked with c-ares (1.16 or later) themselves; libmio is not. Made as c-ares wants it: a callback
 * for the state of its sockets (ARES_OPT_SOCK_STATE_CB), ares_timeout(3), ares_process_fd(3).
 *
 * Ownership: the channel is the adapter's, made and destroyed by it; c-ares owns its sockets. ares_library_init(3) and
 * ares_library_cleanup(3) are the program's. The loop may be destroyed before the adapter is closed.
 * Threads: the channel belongs to the loop's thread.
 * Reentrancy: queries are started by calls of the program's on the channel, and c-ares may answer inside them (from
 * /etc/hosts, or when it cannot send): that is its way, not the loop's. All else is answered from the loop. c-ares forbids
 * ares_destroy(3) in its callbacks; mio_cares_close is legal in those that come from the loop.
 * Memory: malloc(3), one piece for each socket. In each turn with a query under way ares_timeout(3) is asked once: it looks
 * at every query. */
#ifndef MIO_ADAPTERS_CARES_H
#define MIO_ADAPTERS_CARES_H

#include <sys/select.h> /* which ares.h takes for granted */
#include <sys/time.h>

#include <ares.h>
#include <mio.h>

#include <stdlib.h>
#include <string.h>

typedef struct mio_cares mio_cares_t;

/* Private from here on to the functions. */
struct mio_cares_socket_ {
    struct mio_cares_socket_ *next, **link;
    mio_cares_t *cares;
    mio_poll_t *poll; /* NULL: the loop has ended it, or it could not be watched */
    ares_socket_t fd;
    unsigned events;
};

struct mio_cares {
    mio_loop_t *loop;
    mio_remote_t *remote;
    ares_channel channel;
    mio_timer_t *timer;
    mio_hook_t *hook; /* runs while there is a socket */
    struct mio_cares_socket_ *sockets;
    unsigned inside; /* frames of ours on the stack, under which c-ares is */
    int closed;
};

MIO_BEGIN

static inline void mio_cares_forget_(struct mio_cares_socket_ *s) {
    if (s->poll) mio_handle_abandon(MIO_HANDLE(s->poll)); /* the kernel has let go of it: c-ares closes it next */
    *s->link = s->next;
    if (s->next) s->next->link = s->link;
    free(s);
}

static inline void mio_cares_end_(mio_cares_t *cares) {
    ares_destroy(cares->channel); /* tells the queries ARES_EDESTRUCTION, and us the end of the sockets */
    while (cares->sockets) mio_cares_forget_(cares->sockets);
    if (mio_remote_is_open(cares->remote)) {
        mio_handle_abandon(MIO_HANDLE(cares->timer));
        mio_handle_abandon(MIO_HANDLE(cares->hook));
    }
    mio_remote_release(cares->remote);
    free(cares);
}

static inline void mio_cares_enter_(mio_cares_t *cares, ares_socket_t readable, ares_socket_t writable) {
    cares->inside++;
    ares_process_fd(cares->channel, readable, writable);
    if (--cares->inside == 0 && cares->closed) mio_cares_end_(cares);
}

static inline void mio_cares_on_timer_(mio_timer_t *timer, void *arg) {
    (void)timer;
    mio_cares_enter_((mio_cares_t *)arg, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
}

/* Just before the loop may sleep: how long may it? Queries have been started and answered since. */
static inline void mio_cares_on_turn_(mio_hook_t *hook, void *arg) {
    mio_cares_t *cares = (mio_cares_t *)arg;
    struct timeval room;
    const struct timeval *left = ares_timeout(cares->channel, NULL, &room);
    (void)hook;
    if (!left) {
        (void)mio_timer_stop(cares->timer);
        return;
    }
    /* Whole milliseconds, the rest cut off: one more, or it would be called in vain until that has passed. */
    (void)mio_timer_start(cares->timer,
                          (int64_t)left->tv_sec * MIO_SECOND + (int64_t)left->tv_usec * MIO_MICROSECOND + MIO_MILLISECOND, 0,
                          mio_cares_on_timer_, cares);
}

static inline void mio_cares_on_poll_(mio_poll_t *poll, int status, unsigned events, void *arg) {
    struct mio_cares_socket_ *s = (struct mio_cares_socket_ *)arg;
    const unsigned broken = events & (MIO_POLL_ERR | MIO_POLL_HUP); /* what is tried next will say why */
    if (status < 0) {
        /* MIO_ECANCELED: the loop is being destroyed. Else it cannot be watched: its queries end by their time-outs. */
        if (status != MIO_ECANCELED) mio_handle_abandon(MIO_HANDLE(poll));
        s->poll = NULL;
        return;
    }
    mio_cares_enter_(s->cares,
                     (s->events & MIO_POLL_IN) && ((events & MIO_POLL_IN) || broken) ? s->fd : ARES_SOCKET_BAD,
                     (s->events & MIO_POLL_OUT) && ((events & MIO_POLL_OUT) || broken) ? s->fd : ARES_SOCKET_BAD);
}

static inline void mio_cares_on_socket_(void *arg, ares_socket_t fd, int readable, int writable) {
    mio_cares_t *cares = (mio_cares_t *)arg;
    struct mio_cares_socket_ *s = cares->sockets;
    const int open = mio_remote_is_open(cares->remote);
    while (s && s->fd != fd) s = s->next;
    if (!readable && !writable) { /* closed by the next statement */
        if (s) mio_cares_forget_(s);
        if (!cares->sockets && open) {
            (void)mio_hook_stop(cares->hook);
            (void)mio_timer_stop(cares->timer);
        }
        return;
    }
    if (!open) return;
    /* Whatever else fails: the queries end by their time-outs. The hook puts the timer right before the loop sleeps. */
    (void)mio_hook_start(cares->hook, mio_cares_on_turn_, cares);
    if (!mio_timer_is_active(cares->timer)) (void)mio_timer_start(cares->timer, MIO_SECOND, 0, mio_cares_on_timer_, cares);
    if (!s) {
        s = (struct mio_cares_socket_ *)calloc(1, sizeof *s);
        if (!s) return;
        s->cares = cares;
        s->fd = fd;
        s->link = &cares->sockets;
        s->next = cares->sockets;
        if (s->next) s->next->link = &s->next;
        cares->sockets = s;
        if (mio_poll_open(cares->loop, fd, &s->poll) < 0) s->poll = NULL;
    }
    s->events = (readable ? (unsigned)MIO_POLL_IN : 0) | (writable ? (unsigned)MIO_POLL_OUT : 0);
    if (s->poll && mio_poll_set(s->poll, s->events, mio_cares_on_poll_, s) < 0) {
        mio_handle_abandon(MIO_HANDLE(s->poll));
        s->poll = NULL;
    }
}

/* A channel on loop, made by ares_init_options(3) with options (may be NULL) and mask. The loop is kept going by queries
 * under way; with ARES_FLAG_STAYOPEN, by open sockets.
 * MIO_EINVAL: no loop or out, a mask with ARES_OPT_SOCK_STATE_CB or ARES_OPT_EVENT_THREAD, or c-ares does not take the
 * options or the system's configuration. MIO_ENOMEM (also of c-ares), MIO_ESHUTDOWN, MIO_EPERM. */
MIO_CHECK_RESULT static inline int mio_cares_open(mio_loop_t *loop, const struct ares_options *options, int mask,
                                                  mio_cares_t **out) {
    struct ares_options mine;
    mio_cares_t *cares;
    int status;
    if (!loop || !out || (mask & ARES_OPT_SOCK_STATE_CB)) return MIO_EINVAL;
#ifdef ARES_OPT_EVENT_THREAD
    if (mask & ARES_OPT_EVENT_THREAD) return MIO_EINVAL;
#endif
    cares = (mio_cares_t *)calloc(1, sizeof *cares);
    if (!cares) return MIO_ENOMEM;
    status = mio_timer_create(loop, &cares->timer);
    if (status < 0) goto free_memory;
    status = mio_hook_create(loop, MIO_HOOK_PREPARE, &cares->hook);
    if (status < 0) goto end_timer;
    (void)mio_handle_unref(MIO_HANDLE(cares->hook)); /* sockets and the timer keep the loop going */
    if (options) mine = *options;
    else memset(&mine, 0, sizeof mine);
    mine.sock_state_cb = mio_cares_on_socket_;
    mine.sock_state_cb_data = cares;
    status = ares_init_options(&cares->channel, &mine, mask | ARES_OPT_SOCK_STATE_CB);
    if (status != ARES_SUCCESS) {
        status = status == ARES_ENOMEM ? MIO_ENOMEM : MIO_EINVAL;
        goto end_hook;
    }
    cares->loop = loop;
    cares->remote = mio_remote_retain(mio_loop_remote(loop));
    *out = cares;
    return 0;
end_hook:
    mio_handle_abandon(MIO_HANDLE(cares->hook));
end_timer:
    mio_handle_abandon(MIO_HANDLE(cares->timer));
free_memory:
    free(cares);
    return status;
}

/* The channel, for ares_getaddrinfo(3) and all else but ares_destroy(3). */
static inline ares_channel mio_cares_channel(const mio_cares_t *cares) { return cares->channel; }

/* Destroys the channel: queries under way are called back with ARES_EDESTRUCTION before it returns; or, in a callback of
 * c-ares' that came from the loop, when that has returned. The pointer is dead at once. NULL is ignored. */
static inline void mio_cares_close(mio_cares_t *cares) {
    if (!cares || cares->closed) return;
    cares->closed = 1;
    if (cares->inside == 0) mio_cares_end_(cares);
}

MIO_END

#endif
