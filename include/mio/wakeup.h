/* Wakeups: one bit from anywhere, also from a signal handler.
 * SPDX-License-Identifier: MIT */
#ifndef MIO_WAKEUP_H
#define MIO_WAKEUP_H

#include <mio/base.h>

typedef void (*mio_wakeup_cb)(mio_wakeup_t *wakeup, void *arg);

MIO_BEGIN

/* cb runs on the loop's thread once for any number of sends since it last ran. MIO_EINVAL, MIO_ENOMEM, MIO_ESHUTDOWN,
 * MIO_EPERM. */
MIO_API int mio_wakeup_create(mio_loop_t *loop, mio_wakeup_cb cb, void *arg, mio_wakeup_t **out);

/* Never allocates, never blocks, never lost. The wakeup must not be closed while another thread may still send.
 * MIO_EINVAL: NULL. MIO_EBADF: it is closing. MIO_EPERM: in a fork's child. [any thread] [signal-safe] */
MIO_API int mio_wakeup_send(mio_wakeup_t *wakeup);

MIO_END

#endif
