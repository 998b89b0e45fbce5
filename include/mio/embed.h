/* Embedding: a loop inside another loop. The host waits, libmio works.
 * SPDX-License-Identifier: MIT
 *
 *     prepare -> the host waits for the descriptor and for so long -> dispatch -> prepare -> ...
 *
 * A program that has a loop already (poll(2), epoll, GLib, libuv, libevent, a game's frames) keeps it, and watches one
 * descriptor for reading. Before each wait mio_loop_prepare says how long it may be; when the descriptor is readable or
 * that time is up, mio_loop_dispatch runs what is due. Callbacks run inside dispatch only, in the promised order of a
 * turn (mio/loop.h). All of it on one thread at a time, as everything of a loop.
 *
 * Whether the loop is alive does not matter here: what is unreferenced comes, too, as long as the host goes on.
 * mio_loop_run and mio_loop_run_once may be called in between, for instance to wait for something by itself.
 *
 * On io_uring, epoll and kqueue; a loop of a simulated world is driven by mio_sim_run (MIO_ENOTSUP). */
#ifndef MIO_EMBED_H
#define MIO_EMBED_H

#include <mio/base.h>

/* What mio_loop_prepare told does not hold any more. Runs inside mio calls, on the loop's thread; may tell the host to
 * prepare again before it waits (or waits on), and call what is marked [in diagnostics]. */
typedef void (*mio_loop_wake_cb)(mio_loop_t *loop, void *arg);

MIO_BEGIN

/* The descriptor that the host waits for: readable (POLLIN) when there is something to dispatch. The loop's own, and the
 * same one from the first call until mio_loop_destroy, whichever thread runs the loop: never read from, written to or
 * closed by the program, and no longer watched when the loop is destroyed. It is close-on-exec. A thread that takes the loop
 * over may ask before its first prepare.
 * By level (poll, select, epoll, kqueue) it stays readable until dispatch has seen to what came. By edges
 * (EPOLLET, EV_CLEAR) each piece of news that comes after a prepare that said other than 0 is an edge.
 * MIO_EINVAL: NULL. MIO_EMFILE, MIO_ENFILE, MIO_ENOMEM: as eventfd(2). MIO_EPERM: in a fork's child (one that takes over
 * a loop that nobody has run prepares first). MIO_ENOTSUP: a loop of a simulated world; and a ring whose kernel has no
 * DEFER_TASKRUN (before Linux 6.1), which would interrupt the host's own system calls: where AUTO took it and nobody has
 * run the loop yet it is put on the next backend instead, else options.backend must name another one.
 * Source: eventfd(2), epoll(7), io_uring_register(2). */
MIO_API MIO_CHECK_RESULT int mio_loop_fd(mio_loop_t *loop);

/* Before the host waits: hands what was started to the kernel, and sets *timeout_ns to how long the host may wait, in
 * nanoseconds: 0: not at all, there is something to dispatch; -1: until the descriptor is readable. Hosts that count in
 * coarser units round up (mio_timeout_ms), or they would wake too early, again and again. Calls no callback. May be called
 * as often as one likes; what was started since the last time is with the kernel only after the next.
 * 0, MIO_EINVAL, MIO_EPERM: a fork's child, MIO_ENOMEM, or the backend's error, as mio_loop_run.
 * MIO_EBUSY: from a callback, *timeout_ns as it was: a host that runs nested inside a callback leaves the descriptor out
 * of what it waits for until that callback has returned. MIO_ENOTSUP: a loop of a simulated world. */
MIO_API MIO_CHECK_RESULT int mio_loop_prepare(mio_loop_t *loop, int64_t *timeout_ns);

/* One turn that does not wait. Cheap when there is nothing; does not depend on a prepare before.
 * MIO_ALIVE: there is more to come; 0: nothing is alive; MIO_STOPPED: mio_loop_stop was called (seen once, as by run; what
 * it means is the host's affair). MIO_EBUSY: from a callback. Else as mio_loop_prepare. */
MIO_API int mio_loop_dispatch(mio_loop_t *loop);

/* cb is called at most once after each prepare that said other than 0: when a call outside dispatch (a write, a timer, a
 * close, a run) makes it stale. For hosts that do not prepare before each of their waits, or whose wait such a call may
 * come to interrupt. Without one (NULL: no longer) the descriptor becomes readable instead, which costs a system call.
 * What other threads do (posts, wakeups, stop, finished work) makes the descriptor readable in any case.
 * 0, MIO_EINVAL, MIO_EPERM: a fork's child. MIO_ENOTSUP: a loop of a simulated world. */
MIO_API int mio_loop_on_wake(mio_loop_t *loop, mio_loop_wake_cb cb, void *arg);

/* 1: something keeps mio_loop_run from returning 0 (mio/loop.h says what); 0: nothing. For hosts that end when all has
 * ended. MIO_EINVAL, MIO_EPERM. */
MIO_API int mio_loop_alive(const mio_loop_t *loop);

/* A prepare's time for a host that counts milliseconds, as poll(2): rounded up, -1 for less than 0, at most INT_MAX.
 * [any thread] [signal-safe] */
MIO_API int mio_timeout_ms(int64_t timeout_ns);

MIO_END

#endif
