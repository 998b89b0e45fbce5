// Unix datagram sockets: how they are opened and what their names are. From then on they are datagram sockets like others
// (udp.h); what differs, the size of names and that a full receiver is waited for, lies there.

#include "base/socket.h"
#include "io/udp.h"

#include <mio/error.h>
#include <mio/unix.h>
#include <mio/unix_datagram.h>

#include <stddef.h>

using namespace mio;

// at: nullptr, or the name it is to have. An error, and it is closed and the name is free again.
static int unix_open(loop *l, int fd, const mio_addr_t *at, const mio_udp_options_t *o, udp **out) {
    int error = udp_prepare(l, fd, AF_UNIX, o);
    if (error >= 0 && at != nullptr) error = l->calls->bind(fd, &at->u.any, at->len);
    *out = error < 0 ? nullptr : udp_create(l, fd, AF_UNIX, o);
    if (*out != nullptr) return 0;
    const char *path = nullptr;
    if (at != nullptr) (void)mio_unix_name(at, &path);
    if (error >= 0 && path != nullptr && path[0] != 0) (void)l->calls->unlink(path); // an abstract name begins with a NUL
    l->calls->close(fd);
    return error < 0 ? error : static_cast<int>(MIO_ENOMEM);
}

// A world has no unix sockets.
static int made(int result) { return result == -EAFNOSUPPORT || result == -ENOSYS ? static_cast<int>(MIO_ENOTSUP) : result; }

static int start_check(loop *l, const mio_udp_options_t *options, mio_udp_options_t *o) {
    const int error = loop_check_start(l);
    return error < 0 ? error : udp_options_read(o, options);
}

int mio_unix_datagram_open(mio_loop_t *public_loop, const char *name, size_t name_len, const mio_udp_options_t *options,
                           mio_udp_t **out) {
    loop *l = loop_of(public_loop);
    mio_udp_options_t o;
    int error = start_check(l, options, &o);
    if (error < 0) return error;
    if (out == nullptr) return MIO_EINVAL;
    mio_addr_t at = mio_addr_t();
    if (name != nullptr) error = mio_unix_addr(name, name_len, &at);
    if (error < 0) return error;
    const int fd = made(l->calls->socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (fd < 0) return fd;
    udp *u;
    error = unix_open(l, fd, name != nullptr ? &at : nullptr, &o, &u);
    if (error == 0) *out = theirs<mio_udp_t>(u);
    return error;
}

int mio_unix_datagram_pair(mio_loop_t *public_loop, const mio_udp_options_t *options, mio_udp_t **a, mio_udp_t **b) {
    loop *l = loop_of(public_loop);
    mio_udp_options_t o;
    int error = start_check(l, options, &o);
    if (error < 0) return error;
    if (a == nullptr || b == nullptr) return MIO_EINVAL;
    int fds[2];
    error = made(l->calls->socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds));
    if (error < 0) return error;
    udp *first, *second;
    error = unix_open(l, fds[0], nullptr, &o, &first);
    if (error < 0) {
        l->calls->close(fds[1]);
        return error;
    }
    error = unix_open(l, fds[1], nullptr, &o, &second);
    if (error < 0) {
        handle_abandon(first);
        return error;
    }
    *a = theirs<mio_udp_t>(first);
    *b = theirs<mio_udp_t>(second);
    return 0;
}
