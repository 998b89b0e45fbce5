/* Export: what a loop does, shown to other processes in a file of shared memory. mio-top(1) looks at it.
 * SPDX-License-Identifier: MIT */
#ifndef MIO_EXPORT_H
#define MIO_EXPORT_H

#include <mio/base.h>
#include <mio/loop.h>

/* Where mio_loop_export puts a file that nobody gave a path, and mio-top looks: in the first one, or in the second where
 * there is no such folder. Its name is the prefix, the process number, a dot, a count. */
#define MIO_EXPORT_DIRECTORY "/dev/shm"
#define MIO_EXPORT_DIRECTORY_2 "/tmp"
#define MIO_EXPORT_PREFIX "libmio."

/* One look at an exported loop. Times are on CLOCK_MONOTONIC of the machine. */
typedef struct mio_export {
    size_t size;
    int64_t pid;            /* of the program */
    char name[32];          /* as the program named the loop */
    char backend[16];       /* "io_uring", "epoll", ... */
    int64_t exported_ns;    /* when this began */
    int64_t written_ns;     /* when the loop last wrote: before a sleep, every 50 ms of turns, at a run's end */
    int64_t asleep_ns;      /* what it spent asleep, up to written_ns */
    int64_t asleep_since_ns; /* 0: it was awake; else it sleeps since then, or has not found the time to write again */
    int64_t slowest_ns;     /* the longest callback of the second before written_ns or the one before that */
    mio_loop_metrics_t metrics;
} mio_export_t;
MIO_DEFINE_INIT_(mio_export_t);
#define MIO_EXPORT_INIT MIO_OPTIONS_INIT_(mio_export_t)

MIO_BEGIN

/* Makes a file that shows this loop's metrics from now on, until the loop is destroyed: one page of memory, readable and
 * writable by its owner only (mode 0600). name (up to 31 bytes; NULL: "") is shown with it. path NULL: a new file in
 * MIO_EXPORT_DIRECTORY (see there). A program that is killed leaves its file behind; mio-top --clean removes such ones.
 * From now on the loop reads the clock before and after each sleep and each callback, and
 * mio_loop_metrics_t.slowest_callback_ns is measured.
 * MIO_EINVAL: no loop, or a name or path too long. MIO_EALREADY: it is exported. MIO_ENOTSUP: it lives in a simulated
 * world, where time is not the machine's. MIO_EEXIST: there is such a file. MIO_ENOENT, MIO_EACCES, MIO_ENOSPC,
 * MIO_EMFILE, ...: as open(2) and write(2) say. MIO_ENOMEM. MIO_EPERM: in a fork's child. MIO_ESHUTDOWN. */
MIO_API MIO_CHECK_RESULT int mio_loop_export(mio_loop_t *loop, const char *name, const char *path);

/* Looks at the file of a loop, of this process or of another one, as far as out->size goes. MIO_EINVAL: out, path; or it is
 * no such file, or that of another version of libmio. MIO_EAGAIN: the program was killed while it wrote. MIO_ENOENT,
 * MIO_EACCES, ...: as open(2) says. [any thread] */
MIO_API MIO_CHECK_RESULT int mio_export_read(const char *path, mio_export_t *out);

MIO_END

#endif
