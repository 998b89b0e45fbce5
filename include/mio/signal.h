/* Signals of the process, told to any number of loops.
 * SPDX-License-Identifier: MIT
 *
 * Any number of handles, on any loops and threads, may watch the same number: each is told of every delivery. While at
 * least one does, the number's disposition is a handler of libmio's (sigaction(2) with SA_RESTART and SA_ONSTACK; it
 * only sets atomics and wakes loops); the last one that goes puts back the disposition that the first one found, unless
 * the program has set another one meanwhile. No other handler of the program is touched, no signal mask is changed: a
 * number that every thread has blocked is not delivered, here as elsewhere.
 *
 * Counted, on every backend alike: a callback is told how often the signal was delivered to the process since the last
 * one. None is lost between mio_signal_start and the last callback. What the kernel merges before it delivers (a
 * standard signal that is pending already) is one; real-time signals are one each.
 *
 * In a fork's child handles of a loop that the parent has run count nothing, and the disposition is the one before
 * them, or the program's own where it has set one since. Those of a loop that nobody has run yet go on counting in the
 * child, whose handler stays installed until the child has taken the loop over (run it) and stops them, or destroys the
 * loop. In a simulated world no signal is real: MIO_SIM_SIGNAL (<mio/sim.h>) raises one for its loops. */
#ifndef MIO_SIGNAL_H
#define MIO_SIGNAL_H

#include <mio/base.h>

/* n > 0: so many deliveries since the last call. n < 0: the last call, MIO_ECANCELED. 0 never occurs. Of a
 * MIO_SIGNAL_ONCE each call is the last one. On the loop's thread, in the posts phase of the turn. */
typedef void (*mio_signal_cb)(mio_signal_t *signal, int64_t n, void *arg);

/* Flags of mio_signal_start. */
#define MIO_SIGNAL_ONCE 1u /* one call, then it is stopped */

MIO_BEGIN

/* A stopped handle. MIO_EINVAL, MIO_ENOMEM, MIO_ESHUTDOWN, MIO_EPERM. */
MIO_API int mio_signal_create(mio_loop_t *loop, mio_signal_t **out);

/* Watches signal `number` (SIGTERM, ...; signal(7)) from now on: a continuous request, or with MIO_SIGNAL_ONCE one that
 * ends with its first call. MIO_EINVAL: no cb, an unknown flag, no such signal, SIGKILL or SIGSTOP, one that the C
 * library keeps for itself, or a fault (SIGSEGV, SIGBUS, SIGFPE, SIGILL), which cannot be answered later.
 * MIO_EBUSY: started, or its last call is still to come. MIO_ENOMEM. MIO_EBADF. MIO_EPERM. MIO_ESHUTDOWN: the loop is
 * being destroyed. */
MIO_API mio_req_t mio_signal_start(mio_signal_t *signal, int number, unsigned flags, mio_signal_cb cb, void *arg);

/* Counts no more; the disposition of before is back if it was the last. Deliveries that were not told come first (of a
 * MIO_SIGNAL_ONCE they are its last call), then MIO_ECANCELED as its last call. mio_req_cancel is the same by id. To
 * close drops them. Idempotent. MIO_EINVAL: NULL. MIO_EBADF. MIO_EPERM. */
MIO_API int mio_signal_stop(mio_signal_t *signal);

/* What it watches; 0: it is stopped, or NULL. */
MIO_API int mio_signal_number(const mio_signal_t *signal);

MIO_END

#endif
