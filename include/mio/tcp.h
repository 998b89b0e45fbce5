/* TCP: listening, connecting, and the socket options of its streams.
 * SPDX-License-Identifier: MIT */
#ifndef MIO_TCP_H
#define MIO_TCP_H

#include <mio/addr.h>
#include <mio/base.h>
#include <mio/listener.h>
#include <mio/resolve.h>
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

/* One address that mio_tcp_connect_host tried. status 0: this one is the connection. MIO_ECANCELED: it was under way
 * when another one was faster, or when all of it ended. Otherwise why it failed. */
typedef struct mio_connect_tried {
    const mio_addr_t *addr;
    int status;
} mio_connect_tried_t;

/* status 0: connected. MIO_EAI_...: the host has no address, nothing was tried. Otherwise the first of the statuses in
 * tried that a peer had a part in, or the first. tried is valid until the callback returns. */
typedef void (*mio_connect_host_cb)(mio_stream_t *stream, int status, const mio_connect_tried_t *tried, unsigned n,
                                    void *arg);

#define MIO_CONNECT_HOST_TRIES 32 /* addresses of a host that are tried at most */

typedef struct mio_connect_host_options {
    size_t size;
    const mio_connect_options_t *connect; /* for each attempt; only addresses of bind's family are tried. NULL: defaults */
    int family;           /* AF_INET, AF_INET6; 0: both */
    uint32_t resolve;     /* MIO_RESOLVE_CONFIGURED, MIO_RESOLVE_NUMERIC, mio/resolve.h */
    int64_t stagger_ns;   /* from one attempt to the next; default 250 ms, at least 10 ms (RFC 8305, section 5) */
    int64_t timeout_ns;   /* over all, resolving too: MIO_ETIMEDOUT; 0: none. As mio_req_timeout */
} mio_connect_host_options_t;
MIO_DEFINE_INIT_(mio_connect_host_options_t);
#define MIO_CONNECT_HOST_OPTIONS_INIT MIO_OPTIONS_INIT_(mio_connect_host_options_t)

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

/* Resolves host (mio_resolve_host says what is one; MIO_TEXT: up to its NUL) and connects to the first of its addresses
 * that answers, as RFC 8305 has it ("happy eyeballs"): the families take turns, beginning with that of the first address;
 * an attempt begins stagger_ns after the one before it, or when that has failed; the first to connect is the stream, the
 * others are given up. *out is a stream at once, as that of mio_tcp_connect; it has no descriptor before it is connected.
 * Cancel, deadline, close and abandon cover all of it and are at once. Both families are asked for together, so that a
 * name server which is slow for one delays the other. MIO_EINVAL: NULL, no host name, a port or an option out of range.
 * MIO_E2BIG, MIO_ENOMEM, MIO_ESHUTDOWN, MIO_EPERM. */
MIO_API mio_req_t mio_tcp_connect_host(mio_loop_t *loop, const char *host, size_t host_len, int port,
                                       const mio_connect_host_options_t *options, mio_connect_host_cb cb, void *arg,
                                       mio_stream_t **out);

/* "[2001:db8::1]:80 MIO_ENETUNREACH, 192.0.2.1:80 MIO_ECONNREFUSED"; "nothing was tried" for n 0. Returns the length;
 * MIO_ENOBUFS: size is too small; MIO_EINVAL: NULL. [any thread] [in diagnostics] */
MIO_API int mio_connect_tried_format(const mio_connect_tried_t *tried, unsigned n, char *text, size_t size);

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
