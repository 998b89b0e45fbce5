/* Datagrams: UDP sockets, and what unix datagram sockets (unix_datagram.h) share with them.
 * SPDX-License-Identifier: MIT
 *
 * Start functions return a request id (> 0) or an error (< 0) with nothing taken: MIO_EINVAL, MIO_EBADF, MIO_ENOMEM,
 * MIO_EBUSY, MIO_ENOBUFS, MIO_ESHUTDOWN, MIO_ENOTSUP. What the network does comes by callback. Datagrams of one socket
 * leave in the order of their starts, and their callbacks come in that order. All on the loop's thread. */
#ifndef MIO_UDP_H
#define MIO_UDP_H

#include <mio/addr.h>
#include <mio/base.h>
#include <mio/buf.h>
#include <mio/handle.h>

#define MIO_DATAGRAM_BUFS_MAX 56u    /* buffers that make one datagram */
#define MIO_DATAGRAM_BLOCK 2048      /* default of block_size */
#define MIO_DATAGRAM_MAX 65535       /* bytes; a socket takes a little less: 65,507 by IPv4, udp(7) */

typedef struct mio_udp_options {
    size_t size;
    int reuse_addr;       /* SO_REUSEADDR, socket(7): for multicast, several sockets on one port */
    int reuse_port;       /* SO_REUSEPORT, socket(7): a group that shares the load, fair by the kernel's hash */
    int v6only;           /* 1: IPv6 only; 0: an IPv6 socket also has IPv4, ipv6(7) */
    int broadcast;        /* SO_BROADCAST, socket(7) */
    int receive_buffer;   /* SO_RCVBUF, SO_SNDBUF: bytes, socket(7); 0: the system's */
    int send_buffer;
    size_t block_size;    /* the longest datagram that is received whole, 1 to MIO_DATAGRAM_MAX; default 2048, with gro
                           * MIO_DATAGRAM_MAX. What is longer comes cut off, and says so */
    int gro;              /* UDP_GRO, udp(7): datagrams of one sender may come joined, see segment_size. Without it in
                           * the kernel they come one by one */
    int want_local;       /* tell the address and the interface that a datagram came to: ip(7) IP_PKTINFO. MIO_ENOTSUP */
    int want_ecn;         /* tell its ECN bits: ip(7) IP_RECVTOS. MIO_ENOTSUP */
    int want_time;        /* tell when it arrived: socket(7) SO_TIMESTAMPNS. MIO_ENOTSUP */
    size_t queue_max;     /* bytes of datagrams that wait to be sent; default: the loop's write_queue_max */
} mio_udp_options_t;
MIO_DEFINE_INIT_(mio_udp_options_t);
#define MIO_UDP_OPTIONS_INIT MIO_OPTIONS_INIT_(mio_udp_options_t)

/* A datagram, received or to be sent. */
typedef struct mio_datagram {
    mio_buf_t buf;         /* its bytes; len may be 0 */
    mio_addr_t addr;       /* received: who sent it (len 0: nobody with a name); sent: to whom (len 0: the connected peer) */
    mio_addr_t local;      /* received: where it was sent to, without the port (len 0: not wanted, not known). sent: the
                            * address that it is to come from (len 0: the system's choice): what `local` of the datagram
                            * that is answered said */
    uint32_t ifindex;      /* the interface of local, if_nametoindex(3); 0: not known, or any */
    uint32_t segment_size; /* received: buf is datagrams of so many bytes, joined (gro), the last one may be shorter; 0: it
                            * is one. sent: buf is cut into datagrams of so many bytes; 0: it is one */
    int64_t time_ns;       /* received: when, nanoseconds since 1970; 0: not wanted. sent: not looked at */
    uint8_t ecn;           /* RFC 3168: 0 to 3 */
    uint8_t truncated;     /* received: 1: it was longer than block_size, its tail is lost */
} mio_datagram_t;

/* status 0: a datagram; its buf is yours as in mio_read_cb: take it, move it on, or leave it to go home.
 * status < 0: MIO_ECANCELED and MIO_EBADF are the last call; any other is a report, and receiving goes on:
 * MIO_ECONNREFUSED, MIO_EHOSTUNREACH, MIO_ENETUNREACH, ...: what ICMP said about a datagram that was sent, with the
 * address that it was for in datagram->addr where that is known (on Linux always: IP_RECVERR, ip(7); elsewhere on
 * connected sockets); MIO_ENOMEM, MIO_ENOBUFS: tried again after a pause of 10 ms to 1 s. datagram is never NULL; its
 * buf is empty then. */
typedef void (*mio_datagram_cb)(mio_udp_t *udp, int status, mio_datagram_t *datagram, void *arg);

/* status 0: the kernel has taken all of it; whether it arrives nobody knows. sent: bytes taken (less than all only with
 * a segment_size). MIO_EMSGSIZE: too long. MIO_EDESTADDRREQ: no address, and not connected. bufs: your buffers with
 * the base and len they came with. */
typedef void (*mio_datagram_sent_cb)(mio_udp_t *udp, int status, int64_t sent, mio_buf_t *bufs, unsigned nbufs, void *arg);

/* status 0: fd is yours, and the socket is gone when the callback returns. status < 0: fd is -1, all is as before. */
typedef void (*mio_udp_detach_cb)(mio_udp_t *udp, int status, int fd, void *arg);

MIO_BEGIN

/* --- opening -------------------------------------------------------------------------------------------------- */

/* A socket of family AF_INET or AF_INET6, with all options set, bound to nothing. MIO_EINVAL, MIO_E2BIG, MIO_ENOMEM,
 * MIO_ESHUTDOWN, MIO_ENOTSUP: a want_ that this system lacks, and what socket(2) and setsockopt(2) say. */
MIO_API MIO_CHECK_RESULT int mio_udp_open(mio_loop_t *loop, int family, const mio_udp_options_t *options,
                                          mio_udp_t **out);

/* Takes over a datagram socket of the program's, UDP or unix (fd is the library's from now on). Of the options only
 * those that are set are applied. MIO_EINVAL: no datagram socket. MIO_EBADF, MIO_ENOTSOCK, MIO_E2BIG, MIO_ENOTSUP,
 * MIO_ENOMEM, MIO_ESHUTDOWN: fd stays yours. */
MIO_API MIO_CHECK_RESULT int mio_udp_adopt(mio_loop_t *loop, int fd, const mio_udp_options_t *options, mio_udp_t **out);

/* bind(2): MIO_EADDRINUSE, MIO_EADDRNOTAVAIL, MIO_EACCES, ... A socket that sends first is bound by the system. */
MIO_API int mio_udp_bind(mio_udp_t *udp, const mio_addr_t *addr);

/* connect(2): from now on it sends there, and receives from there only. NULL: dissolves it. Datagrams that wait without
 * an address go to the new peer. MIO_ENETUNREACH, MIO_ECONNREFUSED (unix), ... */
MIO_API int mio_udp_connect(mio_udp_t *udp, const mio_addr_t *addr);

/* --- receiving ------------------------------------------------------------------------------------------------ */

/* Receives until stopped or closed. Each datagram is in memory of the loop's receive blocks; while the program holds
 * buffer_max_bytes of these, receiving pauses and the kernel drops what does not fit. MIO_EBUSY: is receiving, or a
 * detach is under way. */
MIO_API mio_req_t mio_udp_recv_start(mio_udp_t *udp, mio_datagram_cb cb, void *arg);

/* Idempotent, call nothing, keep the request. After pause there is no call until resume; what has been received by then
 * is told first afterwards. MIO_EINVAL: is not receiving. */
MIO_API int mio_udp_recv_pause(mio_udp_t *udp);
MIO_API int mio_udp_recv_resume(mio_udp_t *udp);

/* The last call is MIO_ECANCELED. What has been received by then is told first to who starts next. MIO_EINVAL: is not
 * receiving. MIO_EALREADY: its last call is queued. */
MIO_API int mio_udp_recv_stop(mio_udp_t *udp);

/* --- sending -------------------------------------------------------------------------------------------------- */

/* Sends n buffers (1 to MIO_DATAGRAM_BUFS_MAX; all moved in) as one datagram; all of them may be empty: a datagram of 0
 * bytes. to: NULL: to the connected peer. While the socket is full it waits, and those behind it. cb may be NULL.
 * A failure is this datagram's alone. MIO_ENOBUFS: the queue would exceed queue_max. */
MIO_API mio_req_t mio_udp_send(mio_udp_t *udp, mio_buf_t *bufs, unsigned n, const mio_addr_t *to,
                               mio_datagram_sent_cb cb, void *arg);

/* Sends n datagrams (any number), each a request of its own with cb and arg; where the kernel can, many with one call.
 * Of each: buf (moved in), addr, local, ifindex, ecn, segment_size (what is cut goes as one where the kernel has
 * UDP_SEGMENT, udp(7); it is cut here elsewhere). ids: room for n ids, or NULL. 0: all were taken. An error: none was. */
MIO_API int mio_udp_send_many(mio_udp_t *udp, mio_datagram_t *datagrams, unsigned n, mio_datagram_sent_cb cb, void *arg,
                              mio_req_t *ids);

/* Sends now if the kernel takes it now: len, or an error; takes nothing over. ptr may be NULL with len 0. MIO_EAGAIN:
 * would wait, or something is queued. */
MIO_API int64_t mio_udp_try_send(mio_udp_t *udp, const void *ptr, size_t len, const mio_addr_t *to);

MIO_API size_t mio_udp_queued_bytes(const mio_udp_t *udp); /* that wait to be sent */

/* Gives the descriptor away: sends what is queued, ends receiving (MIO_ECANCELED), then calls cb. What was received and
 * not told (the socket was paused or stopped in the middle of a batch) is lost, as datagrams may be. MIO_EBUSY. */
MIO_API mio_req_t mio_udp_detach(mio_udp_t *udp, mio_udp_detach_cb cb, void *arg);

/* --- options -------------------------------------------------------------------------------------------------- */

/* Joins and leaves a multicast group (IPv4 or IPv6, as the socket) on an interface (0: the system's choice). source:
 * only what comes from there (RFC 3678); NULL: from anybody. 0, or what setsockopt(2) says: MIO_EADDRINUSE (is joined),
 * MIO_EADDRNOTAVAIL (is not), MIO_ENODEV, MIO_ENOBUFS (too many); MIO_EINVAL: no multicast address. */
MIO_API int mio_udp_join(mio_udp_t *udp, const mio_addr_t *group, const mio_addr_t *source, uint32_t ifindex);
MIO_API int mio_udp_leave(mio_udp_t *udp, const mio_addr_t *group, const mio_addr_t *source, uint32_t ifindex);

/* How multicasts are sent: hops (0 to 255; the system's default is 1), whether they are heard on this host (default: yes),
 * from which interface (0: the system's choice). IP_MULTICAST_TTL, _LOOP, _IF, ip(7); IPV6_MULTICAST_HOPS, ..., ipv6(7). */
MIO_API int mio_udp_multicast_ttl(mio_udp_t *udp, int hops);
MIO_API int mio_udp_multicast_loop(mio_udp_t *udp, int on);
MIO_API int mio_udp_multicast_interface(mio_udp_t *udp, uint32_t ifindex);

MIO_API int mio_udp_ttl(mio_udp_t *udp, int hops);    /* 1 to 255: IP_TTL, IPV6_UNICAST_HOPS */
MIO_API int mio_udp_broadcast(mio_udp_t *udp, int on); /* SO_BROADCAST; without it sending there is MIO_EACCES */

/* --- questions ------------------------------------------------------------------------------------------------ */

MIO_API int mio_udp_local(const mio_udp_t *udp, mio_addr_t *out); /* getsockname(2) */
MIO_API int mio_udp_peer(const mio_udp_t *udp, mio_addr_t *out);  /* getpeername(2): MIO_ENOTCONN */
MIO_API int mio_udp_fd(const mio_udp_t *udp);                     /* stays the library's. MIO_EBADF */

MIO_END

#endif
