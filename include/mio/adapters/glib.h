/* GLib on a loop: a GMainContext that a loop of libmio iterates, with all its sources.
 * SPDX-License-Identifier: MIT
 *
 * For programs whose main loop is libmio's, and that use libraries made for GLib. (The other way round, a loop inside of
 * GLib's, is mio/embed.h.) The program is linked with GLib itself; libmio is not.
 * In each turn, before the loop sleeps: g_main_context_prepare(3) and query, whose descriptors the loop watches by polls, and
 * whose time-out by a timer; after it has slept: poll(2) with no time-out, check and dispatch.
 *
 * Ownership: the context is the program's; the adapter holds a reference and has acquired it (g_main_context_acquire).
 * Threads: all on the loop's thread. Other threads may attach sources and wake the context, as ever.
 * Reentrancy: sources are prepared by the loop in its prepare phase, checked and dispatched in its check phase. They may do
 * everything, also close the adapter and give up the context, and iterate the context by themselves: the loop stands still
 * meanwhile.
 * Cost: a descriptor is watched anew in each turn (two system calls), since GLib does not tell when it is closed; and
 * there is one poll(2).
 * Memory: GLib's, which ends the program when there is none. */
#ifndef MIO_ADAPTERS_GLIB_H
#define MIO_ADAPTERS_GLIB_H

#include <glib.h>
#include <mio.h>

typedef struct mio_glib mio_glib_t;

/* Private from here on to the functions. */
struct mio_glib_watch_ {
    mio_poll_t *poll; /* NULL: not watched */
    mio_glib_t *glib;
    int fd;
    unsigned events;
    int fresh;  /* has not been through a turn: its failure is still to be told */
    int failed; /* cannot be watched */
};

struct mio_glib {
    mio_loop_t *loop;
    mio_remote_t *remote;
    GMainContext *context;
    mio_hook_t *before, *after; /* the loop sleeps */
    mio_timer_t *timer;
    GPollFD *fds; /* of the last query, room for `room` */
    struct mio_glib_watch_ **watches, **old; /* those of the last query; the array for the next ones */
    gint n, room;
    guint n_watches, watch_room;
    gint priority;
    int prepared;    /* what was queried is not checked yet */
    int look;        /* the loop must not sleep long: something may not be watched */
    unsigned inside; /* frames of ours on the stack */
    int closed;
};

#define MIO_GLIB_LOOK_MS_ 10 /* how often it is looked at what the loop cannot watch */

MIO_BEGIN

/* It is enough that the loop wakes up: what is ready is asked for after that. */
static inline void mio_glib_on_timer_(mio_timer_t *timer, void *arg) {
    (void)timer;
    (void)arg;
}

static inline void mio_glib_on_poll_(mio_poll_t *poll, int status, unsigned events, void *arg) {
    struct mio_glib_watch_ *w = (struct mio_glib_watch_ *)arg;
    (void)events;
    if (status >= 0) return;
    w->poll = NULL;
    if (status == MIO_ECANCELED) return; /* the loop is being destroyed */
    mio_handle_abandon(MIO_HANDLE(poll));
    w->failed = status != MIO_EBADF; /* which says that the number is another file's: watched anew */
}

static inline void mio_glib_forget_(struct mio_glib_watch_ *w) {
    if (w->poll) mio_handle_abandon(MIO_HANDLE(w->poll));
    g_free(w);
}

static inline unsigned mio_glib_events_(gushort events) {
    return ((events & G_IO_IN) ? (unsigned)MIO_POLL_IN : 0) | ((events & G_IO_PRI) ? (unsigned)MIO_POLL_PRI : 0) |
           ((events & G_IO_OUT) ? (unsigned)MIO_POLL_OUT : 0);
}

/* The watch of fd among those of the last time, which it is taken from; most likely at the same place. */
static inline struct mio_glib_watch_ *mio_glib_take_(mio_glib_t *glib, guint likely, int fd) {
    guint i;
    struct mio_glib_watch_ *w;
    for (i = 0; i < glib->n_watches; i++) {
        const guint at = (likely + i) % glib->n_watches;
        w = glib->watches[at];
        if (w && w->fd == fd) {
            glib->watches[at] = NULL;
            return w;
        }
    }
    w = g_new0(struct mio_glib_watch_, 1);
    w->fd = fd;
    w->glib = glib;
    return w;
}

static inline void mio_glib_ask_(struct mio_glib_watch_ *w) {
    if (w->poll && mio_poll_set(w->poll, w->events, mio_glib_on_poll_, w) < 0) { /* it was closed meanwhile */
        mio_handle_abandon(MIO_HANDLE(w->poll));
        w->poll = NULL;
    }
    if (w->poll || w->failed || !w->events) return;
    w->fresh = 1;
    if (mio_poll_open(w->glib->loop, w->fd, &w->poll) < 0) {
        w->poll = NULL;
    } else if (mio_poll_set(w->poll, w->events, mio_glib_on_poll_, w) < 0) {
        mio_handle_abandon(MIO_HANDLE(w->poll));
        w->poll = NULL;
    }
}

/* Watches what was queried. */
static inline void mio_glib_watch_all_(mio_glib_t *glib) {
    guint n = 0, i;
    gint k;
    struct mio_glib_watch_ **swap;
    if ((guint)glib->n > glib->watch_room) {
        glib->watch_room = (guint)glib->n * 2;
        glib->watches = g_renew(struct mio_glib_watch_ *, glib->watches, glib->watch_room);
        glib->old = g_renew(struct mio_glib_watch_ *, glib->old, glib->watch_room);
    }
    for (k = 0; k < glib->n; k++) {
        const int fd = (int)glib->fds[k].fd;
        const unsigned events = mio_glib_events_(glib->fds[k].events);
        for (i = 0; i < n && glib->old[i]->fd != fd; i++) {}
        if (i == n) { /* GLib may name a descriptor twice */
            glib->old[n] = mio_glib_take_(glib, n, fd);
            glib->old[n++]->events = 0;
        }
        glib->old[i]->events |= events;
    }
    for (i = 0; i < glib->n_watches; i++)
        if (glib->watches[i]) mio_glib_forget_(glib->watches[i]);
    swap = glib->watches;
    glib->watches = glib->old;
    glib->old = swap;
    glib->n_watches = n;
    for (i = 0; i < n; i++) {
        mio_glib_ask_(glib->watches[i]);
        if (!glib->watches[i]->poll && glib->watches[i]->events) glib->look = 1;
    }
}

static inline void mio_glib_free_(mio_glib_t *glib) {
    g_free(glib->fds);
    g_free(glib->watches);
    g_free(glib->old);
    g_free(glib);
}

/* Around what may run code of a source's, which may close the adapter and then give up the context. 1: it is closed, and glib
 * may be gone. */
static inline GMainContext *mio_glib_enter_(mio_glib_t *glib) {
    glib->inside++;
    return g_main_context_ref(glib->context);
}

static inline int mio_glib_leave_(mio_glib_t *glib, GMainContext *context) {
    const int closed = glib->closed;
    g_main_context_unref(context);
    if (--glib->inside == 0 && closed) mio_glib_free_(glib);
    return closed;
}

static inline void mio_glib_before_(mio_hook_t *hook, void *arg) {
    mio_glib_t *glib = (mio_glib_t *)arg;
    gint timeout_ms = -1, n;
    GMainContext *context = mio_glib_enter_(glib);
    const int ready = g_main_context_prepare(context, &glib->priority);
    (void)hook;
    if (mio_glib_leave_(glib, context)) return;
    while ((n = g_main_context_query(glib->context, glib->priority, &timeout_ms, glib->fds, glib->room)) > glib->room) {
        glib->room = n * 2;
        glib->fds = g_renew(GPollFD, glib->fds, (gsize)glib->room);
    }
    glib->n = n;
    glib->prepared = 1;
    mio_glib_watch_all_(glib);
    if (ready) timeout_ms = 0;
    if (glib->look && (timeout_ms < 0 || timeout_ms > MIO_GLIB_LOOK_MS_)) timeout_ms = MIO_GLIB_LOOK_MS_;
    glib->look = 0;
    if (timeout_ms < 0) (void)mio_timer_stop(glib->timer);
    else (void)mio_timer_start(glib->timer, timeout_ms * MIO_MILLISECOND, 0, mio_glib_on_timer_, glib);
}

static inline void mio_glib_after_(mio_hook_t *hook, void *arg) {
    mio_glib_t *glib = (mio_glib_t *)arg;
    GMainContext *context;
    guint i;
    (void)hook;
    if (!glib->prepared) return;
    glib->prepared = 0;
    /* Whatever runs until the next turn may close descriptors: the kernel lets go of all of them. A new one waits for its
     * failure to be told first; should it be closed before that, the next turn is a short one. */
    for (i = 0; i < glib->n_watches; i++) {
        struct mio_glib_watch_ *w = glib->watches[i];
        if (w->fresh) glib->look = 1;
        else if (w->poll) (void)mio_poll_set(w->poll, 0, mio_glib_on_poll_, w);
        w->fresh = 0;
    }
    context = mio_glib_enter_(glib);
    (void)g_main_context_get_poll_func(context)(glib->fds, (guint)glib->n, 0);
    if (g_main_context_check(context, glib->priority, glib->fds, glib->n) && !glib->closed) g_main_context_dispatch(context);
    (void)mio_glib_leave_(glib, context);
}

/* Iterates context (NULL: the default one) in each turn of loop from now on, and keeps the loop going until it is closed
 * (GLib cannot say that nothing is left to do): it ends by mio_loop_stop or mio_glib_close. Sources that another prepare
 * hook attaches are seen in the next turn.
 * A descriptor that the loop cannot watch (it is a stream's or a poll's of the same loop) is looked at each 10 ms.
 * MIO_EINVAL: no loop or out. MIO_EBUSY: another thread has acquired the context. MIO_ENOMEM, MIO_ESHUTDOWN, MIO_EPERM. */
MIO_CHECK_RESULT static inline int mio_glib_open(mio_loop_t *loop, GMainContext *context, mio_glib_t **out) {
    mio_glib_t *glib;
    int status;
    if (!loop || !out) return MIO_EINVAL;
    if (!context) context = g_main_context_default();
    if (!g_main_context_acquire(context)) return MIO_EBUSY;
    glib = g_new0(mio_glib_t, 1);
    status = mio_timer_create(loop, &glib->timer);
    if (status < 0) goto release;
    status = mio_hook_create(loop, MIO_HOOK_PREPARE, &glib->before);
    if (status < 0) goto end_timer;
    status = mio_hook_create(loop, MIO_HOOK_CHECK, &glib->after);
    if (status < 0) goto end_before;
    (void)mio_hook_start(glib->before, mio_glib_before_, glib);
    (void)mio_hook_start(glib->after, mio_glib_after_, glib);
    glib->loop = loop;
    glib->remote = mio_remote_retain(mio_loop_remote(loop));
    glib->context = g_main_context_ref(context);
    *out = glib;
    return 0;
end_before:
    mio_handle_abandon(MIO_HANDLE(glib->before));
end_timer:
    mio_handle_abandon(MIO_HANDLE(glib->timer));
release:
    g_free(glib);
    g_main_context_release(context);
    return status;
}

/* Iterates no more, watches nothing, and gives the context back; its sources stay in it. Also in a source's functions. On the
 * loop's thread, before or after the loop is destroyed. The pointer is dead at once. NULL is ignored. */
static inline void mio_glib_close(mio_glib_t *glib) {
    guint i;
    if (!glib || glib->closed) return;
    glib->closed = 1;
    for (i = 0; i < glib->n_watches; i++) mio_glib_forget_(glib->watches[i]);
    glib->n_watches = 0;
    if (mio_remote_is_open(glib->remote)) {
        mio_handle_abandon(MIO_HANDLE(glib->before));
        mio_handle_abandon(MIO_HANDLE(glib->after));
        mio_handle_abandon(MIO_HANDLE(glib->timer));
    }
    mio_remote_release(glib->remote);
    g_main_context_release(glib->context);
    g_main_context_unref(glib->context);
    if (glib->inside == 0) mio_glib_free_(glib);
}

MIO_END

#endif
