/* Hooks: called in every turn at a fixed place of it (see mio_loop_run).
 * SPDX-License-Identifier: MIT */
#ifndef MIO_HOOK_H
#define MIO_HOOK_H

#include <mio/base.h>

typedef void (*mio_hook_cb)(mio_hook_t *hook, void *arg);

enum mio_hook_phase MIO_ENUM_ {
    MIO_HOOK_IDLE = 0,    /* before prepare; while one is active the poll does not wait */
    MIO_HOOK_PREPARE = 1, /* just before the poll */
    MIO_HOOK_CHECK = 2    /* just after it, before the callbacks of what it found */
};

MIO_BEGIN

/* A stopped hook. MIO_EINVAL, MIO_ENOMEM, MIO_ESHUTDOWN, MIO_EPERM. */
MIO_API int mio_hook_create(mio_loop_t *loop, enum mio_hook_phase phase, mio_hook_t **out);
/* Starting a started hook replaces its callback. A hook started inside its own phase first runs in the next turn.
 * MIO_EINVAL: no cb. MIO_EBADF. */
MIO_API int mio_hook_start(mio_hook_t *hook, mio_hook_cb cb, void *arg);
MIO_API int mio_hook_stop(mio_hook_t *hook); /* idempotent */
MIO_API int mio_hook_is_active(const mio_hook_t *hook); /* 0 or 1 */

MIO_END

#endif
