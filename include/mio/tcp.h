/* TCP: listening, connecting, and the socket options of its streams.
 * SPDX-License-Identifier: MIT */
#ifndef MIO_TCP_H
#define MIO_TCP_H

#include <mio/addr.h>
#include <mio/base.h>
#include <mio/listener.h>
#include <mio/stream.h>

typedef struct mio_listen_options {
    size_t size;
    int backlog;           /* listen(2); default SOMAXCONN */
    int no_reuse_addr;     /* SO_REUSEADDR is on unless this is set, socket(7) */
    int reuse_port;        /* SO_REUSEPORT, socket(7) */
    int v6only;            /* 1: IPv6 only; 0: "::" also takes IPv4, ipv6(7) */
    int defer_accept_s;    /* TCP_DEFER_ACCEPT in seconds, tcp(7); 0: off */
    int fastopen;          /* length of the TCP_FASTOPEN queue, tcp(7); 0: off */
} mio_listen_options_t;
MIO_DEFINE_INIT_(mio_listen_options_t);
#define MIO_LISTEN_OPTIONS_INIT MIO_OPTIONS_INIT_(mio_listen_options_t)

typedef struct mio_connect_options {
    size_t size;
    const mio_addr_t *bind; /* local address; its port may be 0. NULL: the system's choice */
    int reuse_addr;         /* for bind */
    int fastopen;           /* TCP_FASTOPEN_CONNECT, tcp(7) */
    uint32_t mark;          /* SO_MARK, socket(7); 0: none */
} mio_connect_options_t;
MIO_DEFINE_INIT_(mio_connect_options_t);
#define MIO_CONNECT_OPTIONS_INIT MIO_OPTIONS_INIT_(mio_connect_options_t)

/* status 0: connected. Otherwise what connect(2), the binding or the socket said; the stream must be closed by the
 * program either way. */
typedef void (*mio_connect_cb)(mio_stream_t *stream, int status, void *arg);

MIO_BEGIN

/* Listens on a numeric host (see mio_addr_parse) and port (0: any free one). The socket is made, bound and listening
 * when this returns. MIO_EINVAL, MIO_E2BIG, MIO_ENOMEM, MIO_ESHUTDOWN, and what socket(2), bind(2), listen(2) and
 * setsockopt(2) say: MIO_EADDRINUSE, MIO_EADDRNOTAVAIL, MIO_EACCES, MIO_EMFILE, ... */
MIO_API MIO_CHECK_RESULT int mio_tcp_listen(mio_loop_t *loop, const char *host, int port,
                                            const mio_listen_options_t *options, mio_listener_cb cb, void *arg,
                                            mio_listener_t **out);

/* Connects. *out is a stream at once; writes, reads and shutdown may be started on it and wait for the connection
 * (when it fails they end with its error). Cancel, deadline, close and abandon work as on any request.
 * MIO_EINVAL, MIO_E2BIG, MIO_ENOMEM, MIO_ESHUTDOWN; everything else comes by cb: MIO_ECONNREFUSED, MIO_ETIMEDOUT,
 * MIO_ENETUNREACH, MIO_EADDRINUSE (bind), MIO_EMFILE (socket), ... */
MIO_API mio_req_t mio_tcp_connect(mio_loop_t *loop, const mio_addr_t *addr, const mio_connect_options_t *options,
                                  mio_connect_cb cb, void *arg, mio_stream_t **out);

/* Socket options, tcp(7) and socket(7). 0 or the error of setsockopt(2); MIO_ENOTCONN while a connect has no socket.
 * Accepted and connected TCP streams start with TCP_NODELAY on. linger_s < 0 turns SO_LINGER off; 0 makes close send
 * RST; > 0 makes close(2) itself wait, and the loop with it. keepalive: idle_s 0 turns it off; interval_s and count 0
 * leave what the socket has. MIO_EINVAL: negative ones. */
MIO_API int mio_tcp_nodelay(mio_stream_t *stream, int on);
MIO_API int mio_tcp_keepalive(mio_stream_t *stream, int idle_s, int interval_s, int count);
MIO_API int mio_tcp_linger(mio_stream_t *stream, int linger_s);
MIO_API int mio_tcp_quickack(mio_stream_t *stream, int on);

MIO_END

#endif
