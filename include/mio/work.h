/* Work: a function of the program's, done by a thread of a pool; and the pools.
 * SPDX-License-Identifier: MIT
 *
 * The workers also do what the library itself would have to wait for: files where the kernel has no better way, and the
 * resolver. What they do stands in lanes, so that slow things of one kind never starve the others: a lane that has
 * something running leaves a thread to each lane that has nothing, and the resolver never has more than half of them.
 *
 * Loops share the workers of the process, 8 threads or what MIO_POOL_THREADS says (1 to 1024; secure_getenv(3), read
 * when they are made), unless they were given some of their own (options.workers). Threads are started when there is
 * something to do and none is idle, block every signal, and end with the last loop that uses them. In a fork's child the
 * process has new ones. In a simulated world there are no threads: functions run on the loop's, in its posts phase, at a
 * virtual time. */
#ifndef MIO_WORK_H
#define MIO_WORK_H

#include <mio/base.h>

enum mio_lane MIO_ENUM_ {
    MIO_LANE_WORK = 0,    /* the program's */
    MIO_LANE_FILES = 1,   /* what waits for a disk */
    MIO_LANE_RESOLVE = 2, /* what may take minutes: half of the threads at most */
    MIO_LANES = 3
};

/* On a worker's thread. May block, may call what is marked [any thread], and nothing else of the library. */
typedef void (*mio_work_fn)(void *arg);

/* status 0: fn has returned, and all that it wrote can be read. MIO_ECANCELED, MIO_ETIMEDOUT: it was cancelled, or its
 * deadline came, before a worker began; fn was not called. MIO_EAGAIN, MIO_ENOMEM: not one thread could be started
 * (pthread_create(3)); fn was not called. MIO_EPERM: a fork's child may not use these workers. MIO_ESHUTDOWN: the loop
 * is being destroyed, its time is up, and fn still runs: what it uses is to be left alone. */
typedef void (*mio_work_cb)(mio_loop_t *loop, int status, void *arg);

typedef struct mio_work_options {
    size_t size;
    int lane; /* enum mio_lane */
} mio_work_options_t;
MIO_DEFINE_INIT_(mio_work_options_t);
#define MIO_WORK_OPTIONS_INIT MIO_OPTIONS_INIT_(mio_work_options_t)

typedef struct mio_workers_options {
    size_t size;
    uint32_t threads;     /* at most, 1 to 1024; default 8 */
    uint32_t work_max;    /* of these, so many at once for MIO_LANE_WORK; default all */
    uint32_t files_max;   /* for MIO_LANE_FILES; default all */
    uint32_t resolve_max; /* for MIO_LANE_RESOLVE; default half of them */
} mio_workers_options_t;
MIO_DEFINE_INIT_(mio_workers_options_t);
#define MIO_WORKERS_OPTIONS_INIT MIO_OPTIONS_INIT_(mio_workers_options_t)

MIO_BEGIN

/* Has fn(arg) called by a worker, and then cb on the loop's thread. It is handed over in the loop's next turn, keeps the
 * loop alive, and once warm allocates nothing. options may be NULL.
 * mio_req_cancel, mio_req_deadline and mio_req_abandon work until a worker has begun; from then on a cancel is
 * MIO_EALREADY, a deadline does nothing, and an abandon is MIO_EBUSY: fn has arg.
 * MIO_EINVAL: no loop, fn or cb, no such lane. MIO_E2BIG, MIO_ENOMEM, MIO_ESHUTDOWN, MIO_EPERM (a fork's child). */
MIO_API mio_req_t mio_work_start(mio_loop_t *loop, const mio_work_options_t *options, mio_work_fn fn, mio_work_cb cb,
                                 void *arg);

/* Workers for some loops alone: give them to loops as options.workers, which retains them. They end when the last loop
 * is gone and nobody retains them; a thread that is still at something that nobody waits for ends when that is over.
 * All [any thread], but not in a signal handler. retain returns its argument; release ignores NULL. In a fork's child
 * they are the parent's (MIO_EPERM in mio_loop_create), unless no thread was started yet.
 * MIO_EINVAL: NULL, more than 1024 threads. MIO_E2BIG, MIO_ENOMEM. */
MIO_API MIO_CHECK_RESULT int mio_workers_create(mio_workers_t **out, const mio_workers_options_t *options);
MIO_API mio_workers_t *mio_workers_retain(mio_workers_t *workers);
MIO_API void mio_workers_release(mio_workers_t *workers);

MIO_END

#endif
