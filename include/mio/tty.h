/* Terminals: modes and size of a stream that mio_pipe_adopt made of one.
 * SPDX-License-Identifier: MIT
 *
 * On the loop's thread, but for mio_tty_reset. MIO_ENOTTY: the stream is no terminal. MIO_EBADF, MIO_EINVAL. */
#ifndef MIO_TTY_H
#define MIO_TTY_H

#include <mio/base.h>

enum mio_tty_mode MIO_ENUM_ {
    MIO_TTY_NORMAL = 0, /* as it was when this stream first changed it */
    MIO_TTY_RAW = 1     /* cfmakeraw(3): each key at once, no echo, no signals, nothing translated */
};

MIO_BEGIN

/* Takes effect at once, for everybody who uses this terminal. What was before comes back by MIO_TTY_NORMAL, when the stream
 * is closed or detached, at exit(3), and by mio_tty_reset. A process in the background is stopped by SIGTTOU, tcsetattr(3),
 * unless it ignores that. MIO_EBUSY: the stream is being detached or moved. MIO_ENOBUFS: 32 changes of terminals and pipes
 * at once. MIO_ENOMEM, MIO_EIO. */
MIO_API int mio_tty_set_mode(mio_stream_t *stream, enum mio_tty_mode mode);

/* Columns and rows as the terminal knows them, ioctl_tty(2) TIOCGWINSZ; 0 where it does not. It tells of no change: ask
 * again (SIGWINCH is sent to the program in the foreground). */
MIO_API int mio_tty_size(const mio_stream_t *stream, unsigned *columns, unsigned *rows);

/* Puts back all that streams of this process have changed and not put back: for handlers of signals that end the program or
 * stop it. What runs at exit(3) by itself. Streams know nothing of it: set their mode again if the program goes on. Does
 * nothing in a fork's child. [any thread] [signal-safe] */
MIO_API void mio_tty_reset(void);

MIO_END

#endif
