/* Socket addresses: parsing and printing, numeric only; nothing here resolves a name.
 * SPDX-License-Identifier: MIT */
#ifndef MIO_ADDR_H
#define MIO_ADDR_H

#include <mio/base.h>
#include <sys/socket.h>

#define MIO_ADDR_TEXT_MAX 128 /* bytes that mio_addr_format writes at most, with its NUL */

typedef struct mio_addr {
    union {
        struct sockaddr any;
        struct sockaddr_storage storage;
    } u;
    socklen_t len;
} mio_addr_t;

MIO_BEGIN

/* host: IPv4 ("127.0.0.1", RFC 6943 3.1.1 strict form), IPv6 ("::1", with zone "fe80::1%eth0" or "%2", RFC 4007),
 * brackets allowed; port 0 to 65535. MIO_EINVAL: no such address, or port out of range (*out unchanged).
 * MIO_ENODEV: no interface of that zone. [any thread] */
MIO_API int mio_addr_parse(const char *host, int port, mio_addr_t *out);

/* "127.0.0.1:80", "[fe80::1%eth0]:80". Returns the length; MIO_ENOBUFS: size is too small; MIO_EAFNOSUPPORT.
 * [any thread] [in diagnostics] */
MIO_API int mio_addr_format(const mio_addr_t *addr, char *text, size_t size);

/* The port of an IPv4 or IPv6 address in host order; MIO_EAFNOSUPPORT for others. [any thread] */
MIO_API int mio_addr_port(const mio_addr_t *addr);

MIO_END

#endif
