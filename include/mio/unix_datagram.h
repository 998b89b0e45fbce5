/* Unix datagram sockets, unix(7): reliable and in order on one machine, with names in the file system or none.
 * SPDX-License-Identifier: MIT
 *
 * They are mio_udp_t: all of udp.h that has no IP in it works on them. Addresses are mio_addr_t with a sockaddr_un,
 * made by mio_unix_addr. A full receiver makes senders wait: nothing is dropped. */
#ifndef MIO_UNIX_DATAGRAM_H
#define MIO_UNIX_DATAGRAM_H

#include <mio/addr.h>
#include <mio/base.h>
#include <mio/udp.h>
#include <mio/unix.h>

MIO_BEGIN

/* A socket bound to a name, of name_len bytes as those of <mio/unix.h> (NULL: to nothing, nobody can answer it). The
 * file of a path stays when the socket closes: it is the program's to unlink, before the next bind. Of the options those
 * without IP count: buffers, block_size, queue_max, want_time. MIO_EINVAL (no such name, NULL, an option), MIO_E2BIG,
 * MIO_ENOMEM, MIO_ESHUTDOWN, MIO_ENOTSUP (no unix sockets: simulated worlds), and what socket(2) and bind(2) say:
 * MIO_EADDRINUSE, MIO_EACCES, MIO_ENOENT, ... */
MIO_API MIO_CHECK_RESULT int mio_unix_datagram_open(mio_loop_t *loop, const char *name, size_t name_len,
                                                    const mio_udp_options_t *options, mio_udp_t **out);

/* Two that are connected to each other, socketpair(2). The errors of open. */
MIO_API MIO_CHECK_RESULT int mio_unix_datagram_pair(mio_loop_t *loop, const mio_udp_options_t *options, mio_udp_t **a,
                                                    mio_udp_t **b);

MIO_END

#endif
