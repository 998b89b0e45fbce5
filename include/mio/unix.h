/* Unix sockets: listening, connecting, pairs, peers, and descriptors that travel.
 * SPDX-License-Identifier: MIT
 *
 * Streams (SOCK_STREAM) are like any other: <mio/stream.h>. Of SOCK_SEQPACKET each write is one record and each read
 * brings one: see below. unix(7). All on the loop's thread.
 *
 * A name is `name_len` bytes; 0 means the bytes up to a NUL. With a NUL as its first byte (and name_len) it is an abstract
 * one (Linux), else a path. A path has up to 107 bytes and no NUL among them, an abstract name up to 107 behind its NUL:
 * what is longer, or empty, is MIO_EINVAL. (Linux would take a path of 108 bytes without its NUL; getsockname(2) could not
 * tell it to anybody.) Systems with a smaller sockaddr_un take less. */
#ifndef MIO_UNIX_H
#define MIO_UNIX_H

#include <mio/addr.h>
#include <mio/base.h>
#include <mio/listener.h>
#include <mio/stream.h>
#include <mio/tcp.h>

enum mio_unix_type MIO_ENUM_ {
    MIO_UNIX_STREAM = 0,
    /* Records. A write (1 to MIO_BUFS_MAX buffers) is one record and may be empty; one that is too long for the socket
     * ends with MIO_EMSGSIZE, and only that one. A call of the continuous read is one record, with n 0 for an empty one:
     * there, and nowhere else, n is 0. So is the end of a mio_stream_read: what did not fit into its buffer is lost, and it
     * ends with MIO_EMSGSIZE and the bytes that did. mio_stream_read_exact and mio_stream_read_until are MIO_EINVAL.
     * Not on macOS. */
    MIO_UNIX_SEQPACKET = 1
};

#define MIO_UNIX_FDS_MAX 253u /* descriptors in one write: SCM_MAX_FD of Linux */

typedef struct mio_unix_listen_options {
    size_t size;
    enum mio_unix_type type;
    int backlog;       /* listen(2); default SOMAXCONN */
    int unlink_stale;  /* a socket in the file system at which nobody listens any more is removed first */
    unsigned mode;     /* permissions of the socket in the file system, chmod(2); 0: what umask(2) leaves */
} mio_unix_listen_options_t;
MIO_DEFINE_INIT_(mio_unix_listen_options_t);
#define MIO_UNIX_LISTEN_OPTIONS_INIT MIO_OPTIONS_INIT_(mio_unix_listen_options_t)

typedef struct mio_unix_connect_options {
    size_t size;
    enum mio_unix_type type; /* as the listener's, or MIO_EPROTOTYPE */
} mio_unix_connect_options_t;
MIO_DEFINE_INIT_(mio_unix_connect_options_t);
#define MIO_UNIX_CONNECT_OPTIONS_INIT MIO_OPTIONS_INIT_(mio_unix_connect_options_t)

typedef struct mio_unix_credentials {
    int64_t pid; /* 0: this system does not tell */
    uint32_t uid, gid;
} mio_unix_credentials_t;

/* Descriptors that came with the next byte to be read (of SOCK_SEQPACKET: with the next record), closed on exec. Keep one
 * by setting its place in fds to -1: what is still there when the callback returns is closed. Called before the read
 * callback that has that byte, once for each message that had any, also while reading is paused.
 * status 0: these are all. MIO_EMSGSIZE: more were sent than `most`. MIO_EMFILE: some were lost, because the process has no
 * more descriptors (or a security module kept them). Lost ones are closed by the system. n may be 0 then. */
typedef void (*mio_unix_fds_cb)(mio_stream_t *stream, int status, int *fds, unsigned n, void *arg);

MIO_BEGIN

/* The address of a name: for mio_stream_peer and the like to be compared with. MIO_EINVAL: no such name. [any thread] */
MIO_API int mio_unix_addr(const char *name, size_t name_len, mio_addr_t *out);
/* The name in an address, as above: its length (0: it has none), *name points into addr. MIO_EAFNOSUPPORT: of another
 * family. MIO_EINVAL: NULL. [any thread] [in diagnostics] */
MIO_API int mio_unix_name(const mio_addr_t *addr, const char **name);

/* Listens at a name. A path is made by this call and stays when the listener is closed: unlink(2) it, or let the next
 * listener do it (unlink_stale: asks by connecting, so that a living server sees a connection that ends at once; what
 * is no socket is never removed). Nobody can connect before its mode is set. MIO_EINVAL, MIO_E2BIG, MIO_ENOMEM,
 * MIO_ESHUTDOWN, and what socket(2), bind(2), chmod(2) and listen(2) say: MIO_EADDRINUSE, MIO_EACCES, MIO_ENOENT (the
 * folder), MIO_EMFILE, MIO_EPROTONOSUPPORT, ... */
MIO_API MIO_CHECK_RESULT int mio_unix_listen(mio_loop_t *loop, const char *name, size_t name_len,
                                             const mio_unix_listen_options_t *options, mio_listener_cb cb, void *arg,
                                             mio_listener_t **out);

/* Connects, as mio_tcp_connect does: *out is a stream at once, what is started on it waits. MIO_EINVAL, MIO_E2BIG,
 * MIO_ENOMEM, MIO_ESHUTDOWN; everything else comes by cb: MIO_ENOENT, MIO_ECONNREFUSED (nobody listens there),
 * MIO_EACCES, MIO_EPROTOTYPE (of the other type), MIO_EAGAIN (its backlog is full: try again later), ... */
MIO_API mio_req_t mio_unix_connect(mio_loop_t *loop, const char *name, size_t name_len,
                                   const mio_unix_connect_options_t *options, mio_connect_cb cb, void *arg,
                                   mio_stream_t **out);

/* Two streams that are connected, socketpair(2): *first on loop, *second on other (NULL: on loop, too). Both loops are this
 * thread's: for one of another thread's, mio_stream_move. MIO_EINVAL (also: loops of different worlds), MIO_ENOMEM,
 * MIO_ESHUTDOWN, MIO_EMFILE, MIO_ENFILE, MIO_EPROTONOSUPPORT. */
MIO_API MIO_CHECK_RESULT int mio_unix_pair(mio_loop_t *loop, mio_loop_t *other, enum mio_unix_type type,
                                           mio_stream_t **first, mio_stream_t **second);

/* Who made the other end: SO_PEERCRED, LOCAL_PEERCRED. As of when it connected, listened or made the pair.
 * MIO_EINVAL (not a unix stream), MIO_EBADF, MIO_ENOTCONN, MIO_ENOTSUP: this system does not tell. */
MIO_API int mio_unix_peer(const mio_stream_t *stream, mio_unix_credentials_t *out);

/* mio_stream_write, with 1 to MIO_UNIX_FDS_MAX descriptors that leave with its first byte, to be told of to whoever takes
 * them there. On success they are the library's, as the buffers are, and fds is -1 throughout; each is closed when the
 * write ends, sent or not, before its callback: pass on what dup(2) gave you if you want to keep yours. On an error they
 * stay yours. MIO_ENOTSUP: in a simulated world, or not a unix stream. MIO_EINVAL: also a negative descriptor. One that is
 * not open, and too many under way (MIO_ETOOMANYREFS), are told by cb, and the write side is broken then. */
MIO_API mio_req_t mio_unix_write_fds(mio_stream_t *stream, mio_buf_t *bufs, unsigned n, int *fds, unsigned nfds,
                                     mio_write_cb cb, void *arg);

/* From now on descriptors are received, up to `most` (1 to MIO_UNIX_FDS_MAX) with one message, and cb is told of them;
 * before, and with cb NULL, those that come are closed. May be called again. Best before anything is read: what a read
 * that is under way meets until it was asked anew is closed. It does not go along in mio_stream_move. MIO_EINVAL,
 * MIO_EBADF, MIO_ENOMEM, MIO_ESHUTDOWN. MIO_ENOTSUP: in a simulated world, or not a unix stream. */
MIO_API int mio_unix_take_fds(mio_stream_t *stream, unsigned most, mio_unix_fds_cb cb, void *arg);

MIO_END

#endif
