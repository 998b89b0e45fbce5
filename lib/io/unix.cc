// Unix sockets: names, listening, connecting, pairs, peers. Streams and records are stream.cc's and its parts';
// descriptors that travel are in unix_fds.cc.
//
// A connect never waits: where a listener's backlog is full it fails at once. It is a carrier all the same, so that it ends
// by a callback and may be cancelled like any other (tcp.cc has the drawing).
//
// Nobody can connect to a name that is bound and not listened at: so its mode is set in between.

#include "base/socket.h"
#include "core/options.h"
#include "io/listener.h"
#include "io/tcp.h"

#include <mio/error.h>
#include <mio/unix.h>

#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

namespace mio {

constexpr size_t PATH_AT = offsetof(struct sockaddr_un, sun_path);
constexpr size_t PATH_SIZE = sizeof(sockaddr_un::sun_path);

// The length of the address, or MIO_EINVAL. A path's NUL is part of it.
static int name_read(const char *name, size_t name_len, struct sockaddr_un *out) {
    if (name == nullptr) return MIO_EINVAL;
    if (name_len == 0) name_len = strnlen(name, PATH_SIZE);
    const bool abstract = name_len != 0 && name[0] == 0;
    if (name_len == 0 || (abstract && name_len == 1)) return MIO_EINVAL;
    if (name_len > (abstract ? PATH_SIZE : PATH_SIZE - 1)) return MIO_EINVAL;
    if (!abstract && memchr(name, 0, name_len) != nullptr) return MIO_EINVAL;
    memset(out, 0, sizeof *out);
    out->sun_family = AF_UNIX;
    memcpy(out->sun_path, name, name_len);
    return static_cast<int>(PATH_AT + name_len + (abstract ? 0 : 1));
}

static int socket_type(enum mio_unix_type type) { return type == MIO_UNIX_SEQPACKET ? SOCK_SEQPACKET : SOCK_STREAM; }
static bool type_valid(enum mio_unix_type type) { return type == MIO_UNIX_STREAM || type == MIO_UNIX_SEQPACKET; }
static uint16_t kind_of(enum mio_unix_type type) {
    return type == MIO_UNIX_SEQPACKET ? CHANNEL_UNIX | CHANNEL_RECORDS : CHANNEL_UNIX;
}

static int unix_socket(const loop *l, enum mio_unix_type type) {
    return l->calls->socket(AF_UNIX, socket_type(type) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

// --- listening ------------------------------------------------------------------------------------------------------

struct place {
    struct sockaddr_un at;
    socklen_t len;
};

static const struct sockaddr *any(const place *where) { return reinterpret_cast<const struct sockaddr *>(&where->at); }
static bool is_path(const place *where) { return where->at.sun_path[0] != 0; }

// A socket that nobody listens at any more is removed. 0: it was; MIO_EADDRINUSE: it stays.
static int stale_remove(const loop *l, const place *where, enum mio_unix_type type) {
    const int mode = l->calls->lstat_mode(where->at.sun_path);
    if (mode == MIO_ENOENT) return 0; // somebody was faster
    if (mode < 0 || !S_ISSOCK(static_cast<unsigned>(mode))) return MIO_EADDRINUSE;
    const int fd = unix_socket(l, type);
    if (fd < 0) return fd;
    const int answer = l->calls->connect(fd, any(where), where->len);
    l->calls->close(fd);
    if (answer != MIO_ECONNREFUSED) return MIO_EADDRINUSE;
    const int error = l->calls->unlink(where->at.sun_path);
    return error == MIO_ENOENT ? 0 : error;
}

static int listen_bind(const loop *l, int fd, const place *where, const mio_unix_listen_options_t *o) {
    int error = l->calls->bind(fd, any(where), where->len);
    if (error == MIO_EADDRINUSE && o->unlink_stale != 0 && is_path(where)) {
        error = stale_remove(l, where, o->type);
        if (error == 0) error = l->calls->bind(fd, any(where), where->len);
    }
    if (error < 0) return error;
    if (o->mode != 0 && is_path(where)) error = l->calls->chmod(where->at.sun_path, o->mode);
    if (error == 0) error = l->calls->listen(fd, o->backlog != 0 ? o->backlog : SOMAXCONN);
    if (error < 0 && is_path(where)) (void)l->calls->unlink(where->at.sun_path); // it was made just now
    return error;
}

// --- pairs ----------------------------------------------------------------------------------------------------------

static stream *pair_end(loop *l, int fd, enum mio_unix_type type) {
    stream *s = stream_create(l, fd);
    if (s != nullptr) stream_set_kind(s, kind_of(type));
    return s;
}

static int pair_open(const loop *l, enum mio_unix_type type, int fds[2]) {
    int error = l->calls->socketpair(AF_UNIX, socket_type(type) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds);
    if (error < 0) return error;
    for (int i = 0; i < 2 && error == 0 && type == MIO_UNIX_SEQPACKET; i++) error = socket_tells_records(l->calls, fds[i]);
    if (error == 0) return 0;
    l->calls->close(fds[0]);
    l->calls->close(fds[1]);
    return error;
}

}

// --- what the user asks ---------------------------------------------------------------------------------------------

using namespace mio;

int mio_unix_addr(const char *name, size_t name_len, mio_addr_t *out) {
    if (out == nullptr) return MIO_EINVAL;
    struct sockaddr_un at;
    const int len = name_read(name, name_len, &at);
    if (len < 0) return len;
    mio_addr_t addr = mio_addr_t();
    memcpy(&addr.u, &at, sizeof at);
    addr.len = static_cast<socklen_t>(len);
    *out = addr;
    return 0;
}

int mio_unix_name(const mio_addr_t *addr, const char **name) {
    if (addr == nullptr || name == nullptr) return MIO_EINVAL;
    if (addr->len < PATH_AT || addr->len > sizeof addr->u || addr->u.any.sa_family != AF_UNIX) return MIO_EAFNOSUPPORT;
    const char *path = reinterpret_cast<const char *>(&addr->u) + PATH_AT;
    const size_t len = addr->len - PATH_AT;
    *name = path;
    return static_cast<int>(len == 0 || path[0] == 0 ? len : strnlen(path, len));
}

int mio_unix_listen(mio_loop_t *public_loop, const char *name, size_t name_len, const mio_unix_listen_options_t *options,
                    mio_listener_cb cb, void *arg, mio_listener_t **out) {
    loop *l = loop_of(public_loop);
    int error = loop_check_start(l);
    if (error < 0) return error;
    if (cb == nullptr || out == nullptr) return MIO_EINVAL;
    mio_unix_listen_options_t complete;
    error = options_copy(&complete, sizeof complete, options);
    if (error < 0) return error;
    if (!type_valid(complete.type) || complete.backlog < 0 || (complete.mode & ~07777u) != 0) return MIO_EINVAL;
    place where;
    const int len = name_read(name, name_len, &where.at);
    if (len < 0) return len;
    where.len = static_cast<socklen_t>(len);
    const int fd = unix_socket(l, complete.type);
    if (fd < 0) return fd;
    error = listen_bind(l, fd, &where, &complete);
    listener *li = error < 0 ? nullptr : listener_create(l, fd, kind_of(complete.type), cb, arg);
    if (li == nullptr) {
        l->calls->close(fd);
        if (error == 0 && is_path(&where)) (void)l->calls->unlink(where.at.sun_path);
        return error < 0 ? error : static_cast<int>(MIO_ENOMEM);
    }
    *out = theirs<mio_listener_t>(li);
    return 0;
}

mio_req_t mio_unix_connect(mio_loop_t *public_loop, const char *name, size_t name_len,
                           const mio_unix_connect_options_t *options, mio_connect_cb cb, void *arg, mio_stream_t **out) {
    loop *l = loop_of(public_loop);
    int error = loop_check_start(l);
    if (error < 0) return error;
    if (cb == nullptr || out == nullptr) return MIO_EINVAL;
    mio_unix_connect_options_t complete;
    error = options_copy(&complete, sizeof complete, options);
    if (error < 0) return error;
    if (!type_valid(complete.type)) return MIO_EINVAL;
    struct sockaddr_un at;
    const int len = name_read(name, name_len, &at);
    if (len < 0) return len;
    mio_req_t id = 0;
    stream *s = connect_create(l, &at, static_cast<size_t>(len), kind_of(complete.type), cb, arg, &id);
    if (s == nullptr) return MIO_ENOMEM;
    const int fd = unix_socket(l, complete.type);
    if (fd >= 0) {
        s->fd = fd;
        if (complete.type == MIO_UNIX_SEQPACKET) error = socket_tells_records(l->calls, fd);
    }
    connect_begin(l, s, fd < 0 ? fd : error);
    *out = theirs<mio_stream_t>(s);
    return id;
}

int mio_unix_pair(mio_loop_t *public_loop, mio_loop_t *public_other, enum mio_unix_type type, mio_stream_t **first,
                  mio_stream_t **second) {
    loop *l = loop_of(public_loop);
    loop *other = public_other == nullptr ? l : loop_of(public_other);
    int error = loop_check_start(l);
    if (error == 0) error = loop_check_start(other);
    if (error < 0) return error;
    if (first == nullptr || second == nullptr || !type_valid(type) || l->world != other->world) return MIO_EINVAL;
    int fds[2];
    error = pair_open(l, type, fds);
    if (error < 0) return error;
    stream *one = pair_end(l, fds[0], type);
    stream *two = one == nullptr ? nullptr : pair_end(other, fds[1], type);
    if (two == nullptr) {
        if (one != nullptr) handle_abandon(one); // and its descriptor with it
        else l->calls->close(fds[0]);
        l->calls->close(fds[1]);
        return MIO_ENOMEM;
    }
    *first = theirs<mio_stream_t>(one);
    *second = theirs<mio_stream_t>(two);
    return 0;
}

int mio_unix_peer(const mio_stream_t *public_stream, mio_unix_credentials_t *out) {
    const stream *s = ours<stream>(public_stream);
    int error = stream_check(s);
    if (error < 0) return error;
    if (out == nullptr || (s->flags & CHANNEL_UNIX) == 0) return MIO_EINVAL;
    if (s->fd < 0) return MIO_ENOTCONN;
    mio_unix_credentials_t peer = mio_unix_credentials_t();
    error = socket_peer(s->on->calls, s->fd, &peer.pid, &peer.uid, &peer.gid);
    if (error < 0) return error;
    *out = peer;
    return 0;
}
