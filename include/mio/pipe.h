/* Pipes, FIFOs, and descriptors that are whatever they are: stdin, stdout, stderr.
 * SPDX-License-Identifier: MIT
 *
 * They are streams (<mio/stream.h>). What an end cannot do is MIO_ENOTSUP: reading at the writing end of a pipe, writing
 * at the reading one. Writing where nobody reads any more is MIO_EPIPE, and SIGPIPE is not delivered for it.
 * mio_stream_shutdown at the writing end closes it behind what is queued, so that the reader sees the end; on a terminal
 * it is MIO_ENOTSUP. mio_stream_finish closes as soon as the queue is flushed. pipe(7). All on the loop's thread. */
#ifndef MIO_PIPE_H
#define MIO_PIPE_H

#include <mio/base.h>
#include <mio/stream.h>

/* How mio_pipe_open_path opens. */
enum mio_pipe_how MIO_ENUM_ {
    MIO_PIPE_READ = 1,
    MIO_PIPE_WRITE = 2 /* with READ: both, so that its reader never sees an end (Linux; fifo(7)) */
};

MIO_BEGIN

/* A pipe: what is written to *writer is read from *reader. Each is closed by itself. MIO_EINVAL, MIO_ENOMEM,
 * MIO_ESHUTDOWN, MIO_EMFILE, MIO_ENFILE. */
MIO_API MIO_CHECK_RESULT int mio_pipe_open(mio_loop_t *loop, mio_stream_t **reader, mio_stream_t **writer);

/* Opens the FIFO at path, how: MIO_PIPE_READ, MIO_PIPE_WRITE or both; never waits. A reader that is there first waits for
 * the first byte as any other stream does; MIO_EOF comes when the last writer has closed. A writer needs a reader: MIO_ENXIO.
 * MIO_EINVAL: arguments, or no FIFO. MIO_ENOMEM, MIO_ESHUTDOWN, and what open(2) says: MIO_ENOENT, MIO_EACCES, ...
 * MIO_ENOTSUP: in a simulated world. */
MIO_API MIO_CHECK_RESULT int mio_pipe_open_path(mio_loop_t *loop, const char *path, unsigned how, mio_stream_t **out);

/* A stream over fd: a pipe, a FIFO, a socket (stream or seqpacket, connected), a terminal, a device like /dev/null,
 * signalfd(2) and its like, a regular file, a disk.
 * fd is the library's from now on, but for 0, 1 and 2: these stay open, and the program's; the stream has a duplicate.
 * Whether fd waits (O_NONBLOCK) is shared with every process that has the same open file, and stays as it is: readers of
 * pipes are asked not to wait call by call, writers and terminals are opened once more, and fd is closed. Where neither can
 * be had (readers of a FIFO, of a pipe before Linux 6.4, writers without a reader, pipes on the BSDs, the master of a pseudo
 * terminal, devices) O_NONBLOCK is set, and put back at close, detach and exit(3).
 * MIO_EINVAL, MIO_EBADF, MIO_ENOMEM, MIO_ENOBUFS (32 such changes at once), MIO_EMFILE, MIO_ESHUTDOWN: fd stays yours.
 * A regular file or a disk is read and written by the pool (<mio/work.h>) at the position of its open file, which others may
 * share. While a worker is at it, cancels, deadlines, time-outs and a close wait for the call to return; buffers may be
 * borrowed; mio_stream_try_write is MIO_EAGAIN.
 * MIO_ENOTSUP: a folder. */
MIO_API MIO_CHECK_RESULT int mio_pipe_adopt(mio_loop_t *loop, int fd, mio_stream_t **out);

MIO_END

#endif
