/* Handles: what every noun can do.
 * SPDX-License-Identifier: MIT
 *
 * On the loop's thread. Every function takes NULL and answers MIO_EINVAL (or NULL, "", 0). From close until the close
 * callback every other call on the handle is MIO_EBADF, but abandon, data, name, loop, kind and the questions that
 * answer 0 or 1; after it the pointer is invalid. */
#ifndef MIO_HANDLE_H
#define MIO_HANDLE_H

#include <mio/base.h>

typedef void (*mio_close_cb)(mio_handle_t *handle, void *arg);

enum mio_kind MIO_ENUM_ {
    MIO_KIND_NONE = 0,
    MIO_KIND_STREAM = 1,
    MIO_KIND_LISTENER = 2,
    MIO_KIND_TIMER = 3,
    MIO_KIND_HOOK = 4,
    MIO_KIND_WAKEUP = 5,
    MIO_KIND_POLL = 6,
    MIO_KIND_WATCH = 7,
    MIO_KIND_SIGNAL = 8,
    MIO_KIND_PROCESS = 9,
    MIO_KIND_UDP = 10
};

/* Any noun as a handle; in C++ it is one already. */
#ifdef __cplusplus
#define MIO_HANDLE(x) (static_cast<mio_handle_t *>(x))
#else
#define MIO_HANDLE(x)                              \
    _Generic((x),                                  \
        mio_handle_t *: (mio_handle_t *)(x),       \
        mio_stream_t *: (mio_handle_t *)(x),       \
        mio_listener_t *: (mio_handle_t *)(x),     \
        mio_timer_t *: (mio_handle_t *)(x),        \
        mio_hook_t *: (mio_handle_t *)(x),         \
        mio_wakeup_t *: (mio_handle_t *)(x),       \
        mio_poll_t *: (mio_handle_t *)(x),         \
        mio_watch_t *: (mio_handle_t *)(x),        \
        mio_signal_t *: (mio_handle_t *)(x),       \
        mio_process_t *: (mio_handle_t *)(x),      \
        mio_udp_t *: (mio_handle_t *)(x))
#endif

MIO_BEGIN

/* Ends the handle: every request of it ends first (MIO_ECANCELED, or its own result), with its buffers, then cb, last.
 * cb may be NULL. Abrupt for streams: mio_stream_finish is the graceful end. Never allocates.
 * MIO_EALREADY: is closing; this cb is not recorded and will not come. */
MIO_API int mio_handle_close(mio_handle_t *handle, mio_close_cb cb, void *arg);

/* Ends the handle without any further callback, not even those queued in this batch; what nobody will receive is
 * disposed of. For destructors: legal in any callback of the handle, which may then free its own state (the
 * callback's buf stays valid until it returns). The pointer is dead at once. Never fails, never allocates; NULL is
 * ignored. Before it returns the kernel has let go of borrowed memory of this handle. Legal on a closing handle: its
 * close callback will not come. */
MIO_API void mio_handle_abandon(mio_handle_t *handle);

/* An unreferenced handle does not keep mio_loop_run going. Both are idempotent. Handles start referenced. */
MIO_API int mio_handle_ref(mio_handle_t *handle);
MIO_API int mio_handle_unref(mio_handle_t *handle);
MIO_API int mio_handle_is_referenced(const mio_handle_t *handle); /* 0 or 1 */

/* Takes an accepted stream: see mio_listener_cb. On any other handle it does nothing. */
MIO_API int mio_handle_keep(mio_handle_t *handle);

/* A pointer of the program's; the library never looks at it. data is legal on a closing handle, in its close callback
 * too. [in diagnostics] */
MIO_API int mio_handle_set_data(mio_handle_t *handle, void *data);
MIO_API void *mio_handle_data(const mio_handle_t *handle);

/* A name for mio_loop_dump and the watchdog; copied, at most 31 bytes are kept. NULL clears. MIO_ENOMEM. */
MIO_API int mio_handle_set_name(mio_handle_t *handle, const char *name);
MIO_API const char *mio_handle_name(const mio_handle_t *handle); /* "" if none. [in diagnostics] */

MIO_API mio_loop_t *mio_handle_loop(const mio_handle_t *handle);  /* legal on a closing handle. [in diagnostics] */
MIO_API enum mio_kind mio_handle_kind(const mio_handle_t *handle); /* legal on a closing handle. [in diagnostics] */
MIO_API int mio_handle_is_closing(const mio_handle_t *handle);     /* 0 or 1 */

/* The checked way down: NULL on another kind. */
MIO_API mio_stream_t *mio_stream_from(mio_handle_t *handle);
MIO_API mio_listener_t *mio_listener_from(mio_handle_t *handle);
MIO_API mio_timer_t *mio_timer_from(mio_handle_t *handle);
MIO_API mio_hook_t *mio_hook_from(mio_handle_t *handle);
MIO_API mio_wakeup_t *mio_wakeup_from(mio_handle_t *handle);
MIO_API mio_poll_t *mio_poll_from(mio_handle_t *handle);
MIO_API mio_watch_t *mio_watch_from(mio_handle_t *handle);
MIO_API mio_signal_t *mio_signal_from(mio_handle_t *handle);
MIO_API mio_process_t *mio_process_from(mio_handle_t *handle);
MIO_API mio_udp_t *mio_udp_from(mio_handle_t *handle);

MIO_END

#endif
