/* Names: hosts to addresses and back, by the system's resolver, off the loop.
 * SPDX-License-Identifier: MIT
 *
 * getaddrinfo(3) and getnameinfo(3) on a worker's thread, in a lane of their own (mio/work.h), because they may take
 * minutes. A cancel or a deadline ends the request at once; the worker is left behind with its question. A numeric host
 * needs no worker.
 *
 * What is no host name is refused before the resolver sees it: nothing, more than MIO_HOST_MAX bytes, a NUL or another
 * byte that is no printable ASCII, a label (between dots) of none or more than 63 bytes. One dot at the end is allowed.
 * Names in other scripts (IDNA, RFC 5891) are refused, too: what their spelling in ASCII is ("xn--...") depends on rules
 * and tables that change; convert them first, with libidn2 for instance. */
#ifndef MIO_RESOLVE_H
#define MIO_RESOLVE_H

#include <mio/addr.h>
#include <mio/base.h>

#define MIO_HOST_MAX 255        /* bytes of a host name */
#define MIO_TEXT ((size_t)-1)   /* as a length: up to the NUL */

/* mio_resolve_options_t.flags, and those of mio_resolve_addr */
#define MIO_RESOLVE_CANONICAL 1u    /* AI_CANONNAME: addrs->canonical is set */
#define MIO_RESOLVE_CONFIGURED 2u   /* AI_ADDRCONFIG: only families of which this machine has an address */
#define MIO_RESOLVE_V4MAPPED 4u     /* AI_V4MAPPED, with family AF_INET6 */
#define MIO_RESOLVE_NUMERIC 8u      /* AI_NUMERICHOST, NI_NUMERICHOST: asks nobody */
#define MIO_RESOLVE_NAME_NEEDED 16u /* NI_NAMEREQD: a number instead of a name is MIO_EAI_NONAME */
#define MIO_RESOLVE_DATAGRAM 32u    /* SOCK_DGRAM, NI_DGRAM: of a service that differs */

/* The answer. It is the library's, and goes when the callback returns, unless it is taken: list and canonical stay where
 * they are then, until the release. */
typedef struct mio_addrs {
    const mio_addr_t *list; /* in the order of RFC 6724, none twice */
    unsigned count;
    const char *canonical;  /* NULL: not asked for, or not known */
    void *owner;            /* the library's */
} mio_addrs_t;

/* status 0: addrs has at least one address. MIO_EAI_...; MIO_ECANCELED, MIO_ETIMEDOUT; MIO_ENODEV: no interface of the
 * zone; MIO_ENOMEM, MIO_EAGAIN: no memory, no thread; other errors of getaddrinfo(3). addrs is NULL then. */
typedef void (*mio_resolve_cb)(mio_loop_t *loop, int status, mio_addrs_t *addrs, void *arg);

/* host and service are valid until the callback returns; NULL unless status is 0. */
typedef void (*mio_resolve_addr_cb)(mio_loop_t *loop, int status, const char *host, const char *service, void *arg);

typedef struct mio_resolve_options {
    size_t size;
    int family;          /* AF_INET, AF_INET6; 0: both */
    uint32_t flags;      /* MIO_RESOLVE_... */
    const char *service; /* a name of services(5) or a number, at most 63 bytes; replaces port. Copied */
} mio_resolve_options_t;
MIO_DEFINE_INIT_(mio_resolve_options_t);
#define MIO_RESOLVE_OPTIONS_INIT MIO_OPTIONS_INIT_(mio_resolve_options_t)

MIO_BEGIN

/* The addresses of a host, each with the port. host: a name or a numeric address, host_len bytes (MIO_TEXT: up to its
 * NUL); it is copied. options may be NULL. MIO_EINVAL: no loop, host or callback, no host name (above), a port, family,
 * flag or service out of range. MIO_E2BIG, MIO_ENOMEM, MIO_ESHUTDOWN, MIO_EPERM. */
MIO_API mio_req_t mio_resolve_host(mio_loop_t *loop, const char *host, size_t host_len, int port,
                                   const mio_resolve_options_t *options, mio_resolve_cb cb, void *arg);

/* The names of an address and its port; numbers where there are none, unless MIO_RESOLVE_NAME_NEEDED. addr is copied.
 * flags: NUMERIC (no name is looked up, of the service neither), NAME_NEEDED, DATAGRAM. MIO_EINVAL: NULL, no IPv4 nor
 * IPv6 address, other flags. MIO_ENOMEM, MIO_ESHUTDOWN, MIO_EPERM. */
MIO_API mio_req_t mio_resolve_addr(mio_loop_t *loop, const mio_addr_t *addr, uint32_t flags, mio_resolve_addr_cb cb,
                                   void *arg);

/* Takes the answer out of *addrs, which is empty then. */
MIO_API mio_addrs_t mio_addrs_take(mio_addrs_t *addrs);
/* Frees it; *addrs is empty afterwards, and may be released again. NULL is ignored. [any thread] */
MIO_API void mio_addrs_release(mio_addrs_t *addrs);

MIO_END

#endif
