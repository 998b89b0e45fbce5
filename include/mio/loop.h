/* The loop: one per thread; turns, time, backends, diagnosis.
 * SPDX-License-Identifier: MIT
 *
 * A loop and all on it belong to the thread that runs it; functions marked [any thread] or [signal-safe] may be
 * called from elsewhere. In a fork's child every call on the parent's loop is MIO_EPERM; mio_loop_destroy there frees
 * memory and nothing else. One exception: a loop that nobody has run yet may be run by a child, and is the child's
 * from then on (create, daemon(3), run); the parent must not touch it any more.
 *
 * The turn, promised: time -> due timers -> idle hooks, prepare hooks -> poll -> check hooks -> posts ->
 * completions -> close callbacks. Each phase takes its list as it stood; nothing starves the next one. */
#ifndef MIO_LOOP_H
#define MIO_LOOP_H

#include <mio/backend.h>
#include <mio/base.h>

enum mio_log_level MIO_ENUM_ { MIO_LOG_ERROR = 0, MIO_LOG_WARNING = 1, MIO_LOG_INFO = 2, MIO_LOG_DEBUG = 3 };

/* The library never prints; this is where it speaks. Runs inside mio calls; may call what is marked
 * [in diagnostics]. */
typedef void (*mio_log_cb)(mio_loop_t *loop, enum mio_log_level level, const char *text, void *arg);

/* A callback of yours ran for elapsed_ns. what: "read", "timer", ... handle is NULL for posts. */
typedef void (*mio_watchdog_cb)(mio_loop_t *loop, mio_handle_t *handle, const char *what, int64_t elapsed_ns, void *arg);

/* Memory for the loop's tables, handles and requests, on the loop's thread only (create and destroy included). All
 * three or none; alignment as malloc(3). Buffers do not come from here: they may outlive the loop and go home on
 * other threads, so the library maps them itself. */
typedef struct mio_allocator {
    void *(*alloc)(void *user, size_t size);                                          /* NULL: out of memory */
    void *(*resize)(void *user, void *ptr, size_t old_size, size_t new_size);         /* NULL: ptr is unchanged */
    void (*release)(void *user, void *ptr, size_t size);
    void *user;
} mio_allocator_t;

typedef struct mio_loop_options {
    size_t size;
    enum mio_backend backend;
    uint32_t completions;      /* records between poll and callbacks; default 4096, 64 to 32768 */
    mio_sim_t *sim;            /* the simulated world to live in: selects MIO_BACKEND_SIM for AUTO */
    mio_allocator_t allocator; /* all NULL: malloc(3) */
    mio_log_cb log;
    void *log_arg;
    mio_watchdog_cb watchdog;
    void *watchdog_arg;
    int64_t watchdog_ns;       /* the watchdog speaks of callbacks at least so long; default 100 ms */
    size_t buffer_block;       /* bytes of one receive block; default 65,536; 4096 to 1 MiB, a power of two */
    size_t buffer_max_bytes;   /* receive blocks held by the program before reading pauses; default 64 MiB */
    size_t write_low;          /* default low mark of a stream's write queue; 16 KiB, or write_high / 4 if less */
    size_t write_high;         /* default high mark; default 64 KiB */
    size_t write_queue_max;    /* default maximum of a stream's write queue; default 16 MiB */
    uint32_t uring_without;    /* MIO_URING_...: what the ring is to do without */
    uint32_t uring_sqpoll_ms;  /* > 0: a kernel thread submits, asleep after so long without work: see docs/backend.md */
    int64_t spin_ns;           /* looks so long before it sleeps; default 0, at most MIO_SECOND */
    mio_workers_t *workers;    /* NULL: those of the process, mio/work.h */
} mio_loop_options_t;
MIO_DEFINE_INIT_(mio_loop_options_t);
#define MIO_LOOP_OPTIONS_INIT MIO_OPTIONS_INIT_(mio_loop_options_t)

/* Results of mio_loop_run and run_once that are no error. */
#define MIO_STOPPED 1 /* mio_loop_stop was called */
#define MIO_ALIVE 2   /* run_once: there is more to wait for */

typedef struct mio_metrics {
    size_t size;
    uint64_t turns;
    uint64_t polls;               /* times the backend was asked, with or without waiting */
    uint64_t polls_waited;        /* of these, times it was allowed to sleep */
    uint64_t callbacks;
    uint64_t completions;         /* records taken from the backend */
    uint64_t posts;
    uint64_t timers_fired;
    uint64_t bytes_read;
    uint64_t bytes_written;
    uint64_t accepts;
    uint64_t accept_errors;
    uint64_t wakes;               /* system calls made to wake this loop */
    uint64_t allocations;         /* calls of the allocator */
    int64_t slowest_callback_ns;  /* measured only while a watchdog is set, or the loop exported (mio/export.h) */
    uint64_t handles;             /* open now */
    uint64_t requests;            /* in flight now */
    uint64_t timers;              /* armed now, time-outs of streams and deadlines included */
    uint64_t buffer_bytes;        /* mapped for buffers now */
    uint64_t buffer_held_bytes;   /* receive blocks with live slices now */
    uint64_t buffer_pauses;       /* times reading paused for want of buffers */
    uint64_t backend_calls;       /* system calls made by the backend: waits, registrations, reads, writes */
    uint64_t jobs;                /* handed to workers so far */
    uint64_t jobs_now;            /* of these, at workers now or waiting for one */
} mio_loop_metrics_t;
MIO_DEFINE_INIT_(mio_loop_metrics_t);
#define MIO_LOOP_METRICS_INIT MIO_OPTIONS_INIT_(mio_loop_metrics_t)

typedef void (*mio_dump_cb)(const char *line, void *arg);

MIO_BEGIN

/* options may be NULL. MIO_EINVAL, MIO_E2BIG, MIO_ENOMEM, MIO_EMFILE, MIO_ENFILE; MIO_ENOTSUP: the backend asked for
 * (by options or by MIO_BACKEND, secure_getenv(3)) is unknown or does not work here; never silently another one.
 * MIO_EPERM: options.workers are a parent's, and this is a fork's child. */
MIO_API MIO_CHECK_RESULT int mio_loop_create(mio_loop_t **out, const mio_loop_options_t *options);

/* Turns until nothing is alive (0), mio_loop_stop was called (MIO_STOPPED) or the backend failed (< 0). Alive is: an
 * active referenced handle, a request of one, a request of no handle, a closing handle, an accepted post, or a hold.
 * MIO_EBUSY: from a callback. MIO_EPERM: in a fork's child; on a loop of a simulated world, from a second thread. A loop
 * of a simulated world is better driven by mio_sim_run. */
MIO_API int mio_loop_run(mio_loop_t *loop);

/* One turn that waits at most timeout_ns (0: not at all, MIO_FOREVER). MIO_ALIVE, 0, MIO_STOPPED, or as run. */
MIO_API int mio_loop_run_once(mio_loop_t *loop, int64_t timeout_ns);

/* Sticky until a run has seen it. [any thread] [signal-safe] */
MIO_API void mio_loop_stop(mio_loop_t *loop);

/* Cancels everything, calls back everything, frees the loop. Starts inside it are MIO_ESHUTDOWN. What the kernel still
 * holds after drain_ns is leaked on purpose, never freed under it; what a worker still runs then is told of by
 * MIO_ESHUTDOWN. 0: clean; > 0: the number left. Posts that have not
 * run are called with MIO_ECANCELED. Legal on the thread that last ran the loop, or elsewhere once that thread has
 * ended (else MIO_EPERM). MIO_EBUSY: from a callback. NULL: 0. */
MIO_API int mio_loop_destroy(mio_loop_t *loop, int64_t drain_ns);

/* The loop's monotonic clock, fixed within a turn. 0: no loop. [in diagnostics] */
MIO_API int64_t mio_loop_now_ns(const mio_loop_t *loop);

/* Keeps the loop alive (+1) or no longer (-1), whatever else is on it. MIO_EINVAL: below zero. */
MIO_API int mio_loop_hold(mio_loop_t *loop, int delta);

/* A pointer of the program's; the library never looks at it. NULL: none was set, or no loop. [in diagnostics] */
MIO_API void *mio_loop_data(const mio_loop_t *loop);
MIO_API int mio_loop_set_data(mio_loop_t *loop, void *data);

/* "epoll", "sim", ...; "" for NULL. [in diagnostics] */
MIO_API const char *mio_loop_backend(const mio_loop_t *loop);

/* Fills *metrics, as far as its size goes. MIO_EINVAL. [in diagnostics] */
MIO_API int mio_loop_metrics(const mio_loop_t *loop, mio_loop_metrics_t *metrics);

/* One line per open handle and per request in flight; requests with their ages, but for continuous ones, which are as
 * old as their handles or younger. [in diagnostics] */
MIO_API int mio_loop_dump(const mio_loop_t *loop, mio_dump_cb cb, void *arg);

MIO_END

#endif
