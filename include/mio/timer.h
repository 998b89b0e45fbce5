/* Timers: once or repeating.
 * SPDX-License-Identifier: MIT
 *
 * A timer never fires early. Times are rounded up to ticks of 65,536 ns; timers of the same tick fire in the order in
 * which they were started. Starting, re-starting and stopping are O(1). */
#ifndef MIO_TIMER_H
#define MIO_TIMER_H

#include <mio/base.h>

typedef void (*mio_timer_cb)(mio_timer_t *timer, void *arg);

MIO_BEGIN

/* A stopped timer. MIO_EINVAL, MIO_ENOMEM, MIO_ESHUTDOWN, MIO_EPERM. */
MIO_API int mio_timer_create(mio_loop_t *loop, mio_timer_t **out);

/* (Re-)starts: cb after after_ns from now (0: next turn), then every repeat_ns (0: once). A repetition is counted from
 * when the previous one was due; those missed while the loop was busy are skipped, not made up for.
 * MIO_EINVAL: negative times, no cb. MIO_EBADF. */
MIO_API int mio_timer_start(mio_timer_t *timer, int64_t after_ns, int64_t repeat_ns, mio_timer_cb cb, void *arg);

/* The same at an absolute time of mio_loop_now_ns's clock; the past means the next turn. */
MIO_API int mio_timer_start_at(mio_timer_t *timer, int64_t at_ns, int64_t repeat_ns, mio_timer_cb cb, void *arg);

/* Starts again with the callback and the repeat_ns it had, first after repeat_ns. MIO_EINVAL: it has no repeat_ns. */
MIO_API int mio_timer_again(mio_timer_t *timer);

/* Idempotent; no callback comes after it, also when the timer is due in this very turn. */
MIO_API int mio_timer_stop(mio_timer_t *timer);

MIO_API int mio_timer_is_active(const mio_timer_t *timer);   /* 0 or 1 */
MIO_API int64_t mio_timer_due_ns(const mio_timer_t *timer);  /* when it fires; MIO_NEVER: stopped */
MIO_API int64_t mio_timer_repeat_ns(const mio_timer_t *timer); /* 0: once. MIO_EINVAL, MIO_EBADF */

MIO_END

#endif
