/* Simulated worlds: virtual time, an in-memory network and seeded misfortune, for testing programs.
 * SPDX-License-Identifier: MIT
 *
 * Loops created with options.sim = world (or with backend AUTO or SIM while the world is the thread's current one)
 * live in it. mio_sim_run drives them all on one thread; time advances only when every one of them is idle. The same
 * seed and the same program give the same run, told by the trace hash. A world is used by the thread that created
 * it only. Where a loop is never idle (an idle hook, posts that post) time would stand still: after 1,000 polls at one
 * instant each further one takes a microsecond. A run that nothing can ever wake ends with MIO_ETIMEDOUT, also
 * mio_loop_run's. Descriptors are numbers from 1 << 30 on, known to this world only. See docs/simulation.md. */
#ifndef MIO_SIM_H
#define MIO_SIM_H

#include <mio/base.h>

/* Chances are in parts per million of each occasion. Zero is the default: no misfortune, but completions and loops in
 * seeded order and latency of 50 to 150 microseconds. */
typedef struct mio_sim_options {
    size_t size;
    uint64_t seed;
    uint32_t short_read_ppm;    /* a read delivers fewer bytes than are there */
    uint32_t short_write_ppm;   /* the kernel accepts fewer bytes than it could */
    uint32_t refuse_ppm;        /* a connect is refused */
    uint32_t reset_ppm;         /* per transfer: the connection is reset */
    uint32_t accept_error_ppm;  /* accept fails: MIO_ECONNABORTED, MIO_EMFILE or MIO_ENFILE */
    uint32_t no_memory_ppm;     /* an allocation of a loop in this world fails */
    int64_t latency_min_ns;     /* one way; both 0: 50 us to 150 us */
    int64_t latency_max_ns;
    uint32_t socket_buffer;     /* bytes in flight per direction; default 65,536 */
} mio_sim_options_t;
MIO_DEFINE_INIT_(mio_sim_options_t);
#define MIO_SIM_OPTIONS_INIT MIO_OPTIONS_INIT_(mio_sim_options_t)

MIO_BEGIN

/* A world; it becomes the thread's current one. options may be NULL. MIO_EINVAL, MIO_E2BIG, MIO_ENOMEM; MIO_EBUSY: the
 * thread has a current world. */
MIO_API MIO_CHECK_RESULT int mio_sim_create(mio_sim_t **out, const mio_sim_options_t *options);

/* Runs turns of its loops in seeded order until none is alive (0), every loop that is alive was stopped (MIO_STOPPED),
 * virtual time has advanced by limit_ns (MIO_ETIMEDOUT; also, with MIO_FOREVER, when nothing can ever happen any more),
 * or a loop failed. MIO_EINVAL: NULL, a negative limit. MIO_EBUSY: from a callback. MIO_EPERM: another thread. */
MIO_API int mio_sim_run(mio_sim_t *world, int64_t limit_ns);

/* A number that depends on everything that happened in this world so far. */
MIO_API uint64_t mio_sim_trace_hash(const mio_sim_t *world);
MIO_API int64_t mio_sim_now_ns(const mio_sim_t *world);
MIO_API uint64_t mio_sim_random(mio_sim_t *world); /* from the seed: for the program's own choices */

/* Descriptors that exist in this world now; 0 after a clean end. MIO_EINVAL: NULL. */
MIO_API int mio_sim_open_fds(const mio_sim_t *world);

/* Frees the world with all that is left in it. MIO_EBUSY: a loop lives in it, or it is run. MIO_EPERM: another thread.
 * NULL: 0. */
MIO_API int mio_sim_destroy(mio_sim_t *world);

MIO_END

#endif
