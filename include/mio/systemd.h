/* systemd: sockets that it opened, and what it wants to be told. Without libsystemd, and harmless without systemd.
 * SPDX-License-Identifier: MIT
 *
 * The protocols are sd_listen_fds(3), sd_notify(3) and sd_watchdog_enabled(3): environment variables that a service
 * manager sets for the process it starts, descriptors from 3 on, datagrams to a socket. Other managers speak them, too.
 *
 * The environment belongs to the process and is not guarded: none of these calls while another thread changes it. They
 * may be called from any thread otherwise, but for those with a loop. */
#ifndef MIO_SYSTEMD_H
#define MIO_SYSTEMD_H

#include <mio/base.h>
#include <mio/listener.h>
#include <mio/timer.h>

/* One descriptor that was passed. */
typedef struct mio_systemd_fd {
    int fd;
    char name[256]; /* FileDescriptorName= of its unit, by default the unit's name; "unknown": no names were passed */
} mio_systemd_fd_t;

MIO_BEGIN

/* How many descriptors were passed to this process ($LISTEN_FDS, $LISTEN_PID), the first max of them in *out (NULL: just
 * counted). All of them are made close-on-exec. They stay the program's: to be adopted (mio_systemd_listen,
 * mio_udp_adopt, ...) or closed. 0: none, or another process was meant.
 * MIO_EINVAL: variables that are malformed, or as many names as descriptors there are not; out NULL and max not 0.
 * MIO_EBADF: one of them is not open. Source: sd_listen_fds_with_names(3). */
MIO_API int mio_systemd_fds(mio_systemd_fd_t *out, unsigned max);

/* Adopts one that was passed as mio_listener_adopt does: the nth (from 0) of those with this name (NULL: of all).
 * MIO_ENOENT: there are not so many. MIO_EINVAL: it does not listen, or as mio_systemd_fds. MIO_EBUSY: a listener of this
 * loop has it, it was asked for a second time. MIO_EBADF: it is not open (it was adopted and closed already).
 * MIO_ENOTSOCK, MIO_ENOMEM, MIO_ESHUTDOWN, MIO_EPERM. */
MIO_API MIO_CHECK_RESULT int mio_systemd_listen(mio_loop_t *loop, const char *name, unsigned nth, mio_listener_cb cb,
                                                void *arg, mio_listener_t **out);

/* Tells the manager ($NOTIFY_SOCKET): lines as sd_notify(3) has them, "READY=1", "STOPPING=1", "STATUS=...",
 * "WATCHDOG=1", "RELOADING=1\nMONOTONIC_USEC=...". One datagram, without waiting. 1: it was sent; 0: nobody wants to be told.
 * MIO_EINVAL: NULL or "". MIO_EAGAIN: the manager is behind, try later. MIO_ENOTSUP: an address that is neither a path
 * nor an abstract name. MIO_E2BIG: one that is too long. MIO_EMFILE, MIO_ENFILE; else what sendto(2) says. */
MIO_API int mio_systemd_notify(const char *state);

/* After how many nanoseconds without a "WATCHDOG=1" the manager takes this process for dead ($WATCHDOG_USEC,
 * $WATCHDOG_PID). 0: it does not. MIO_EINVAL: variables that are malformed. Source: sd_watchdog_enabled(3). */
MIO_API int64_t mio_systemd_watchdog_ns(void);

/* Sends "WATCHDOG=1" from the loop, now and whenever half of that time is over: a loop that hangs in a callback is
 * killed by its manager. 1: *out is the timer that does so (unreferenced; closing or stopping it ends it); 0: the manager
 * does not want to be told, *out is unchanged. A send that fails is logged (MIO_LOG_WARNING), the next one comes all the
 * same. MIO_EINVAL, MIO_ENOMEM, MIO_ESHUTDOWN, MIO_EPERM. MIO_ENOTSUP: a loop of a simulated world. */
MIO_API int mio_systemd_watchdog(mio_loop_t *loop, mio_timer_t **out);

/* Removes all of these variables from the environment, so that children do not take them for their own: for a program
 * that has adopted what it wants and will tell its manager nothing more (a later mio_systemd_notify is 0). */
MIO_API void mio_systemd_forget(void);

MIO_END

#endif
