/* Backends: how a loop asks the kernel. Chosen per loop, at run time; each can say why it works or does not.
 * SPDX-License-Identifier: MIT */
#ifndef MIO_BACKEND_H
#define MIO_BACKEND_H

#include <mio/base.h>

enum mio_backend MIO_ENUM_ {
    MIO_BACKEND_AUTO = 0, /* the best that works here, or what the environment variable MIO_BACKEND says */
    MIO_BACKEND_IO_URING = 1,
    MIO_BACKEND_EPOLL = 2,
    MIO_BACKEND_KQUEUE = 3,
    MIO_BACKEND_SIM = 4
};

/* What the io_uring backend uses where a self-test says that this kernel's works. Each is left out by itself when it
 * does not, and can be left out on purpose: by options.uring_without, or for every loop of a process that lets AUTO or
 * IO_URING choose, by its name in the environment variable MIO_URING_MASK (secure_getenv(3); names joined by commas, or
 * "all"). Nothing but speed changes. */
#define MIO_URING_DEFER 1u         /* "defer": completions are worked off in the loop's own calls, 6.1 */
#define MIO_URING_CANCEL 2u        /* "cancel": one way to cancel whatever is in the ring; without it all but polls is out */
#define MIO_URING_ACCEPT 4u        /* "accept": one accept for all connections, 5.19; else poll and accept4(2) */
#define MIO_URING_RECEIVE 8u       /* "receive": one receive for a stream's life, into a ring of buffers, 6.0; else poll, recv(2) */
#define MIO_URING_INCREMENTAL 16u  /* "incremental": the kernel cuts large buffers, 6.12; else many small ones */
#define MIO_URING_SEND 32u         /* "send": sends that report failures only, 6.0; else send(2) */
#define MIO_URING_CONNECT 64u      /* "connect": else connect(2) and poll */
#define MIO_URING_ZEROCOPY 128u    /* "zerocopy": MIO_WRITE_ZEROCOPY, 6.2; else it copies */
#define MIO_URING_FILES 256u       /* "files": operations of mio/fs.h, 5.6; else the pool */
#define MIO_URING_ALL 511u

/* verdict: 0, or an error that says why not; reason and remedy are sentences ("": nothing to be done). */
typedef void (*mio_backend_report_cb)(const char *backend, int verdict, const char *reason, const char *remedy,
                                      void *arg);
/* feature: a name of MIO_URING_MASK. verdict: 0, MIO_ENOTSUP (the self-test failed: reason), MIO_ECANCELED (left out by
 * MIO_URING_MASK). */
typedef void (*mio_backend_feature_cb)(const char *backend, const char *feature, int verdict, const char *reason,
                                       void *arg);

MIO_BEGIN

/* Tries every candidate in AUTO's order and calls cb for each, inside the call: does it work, why, and what to do about
 * it. MIO_EINVAL: no cb. [any thread] */
MIO_API int mio_backend_report(mio_backend_report_cb cb, void *arg);

/* Calls cb for each feature of the backends that have any, inside the call. Tested once per process. MIO_EINVAL: no cb.
 * [any thread] */
MIO_API int mio_backend_features(mio_backend_feature_cb cb, void *arg);

MIO_END

#endif
