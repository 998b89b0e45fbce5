// What the test owns, so that it can be given back when the test is left in its middle: references of buffers, its own
// descriptors, retained remotes. Each came to it or went from it through a call below or a callback (told.cc).
//
// Buffers are counted by their owner, which is all that a release looks at. Memory that the test wrapped itself is left
// alone: its owner may lie in a place that the test's end would take along.
#include "inject.h"

#include <errno.h>
#include <fcntl.h>
#include <map>
#include <pthread.h>
#include <set>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

namespace inject {

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

struct locked {
    locked() { pthread_mutex_lock(&lock); }
    ~locked() { pthread_mutex_unlock(&lock); }
};

// Never destroyed: a run ends by _exit.
static std::map<mio_buf_owner_t *, int64_t> &bufs = *new std::map<mio_buf_owner_t *, int64_t>;
static std::set<mio_buf_owner_t *> &wrapped_owners = *new std::set<mio_buf_owner_t *>;
static std::set<int> &fds = *new std::set<int>;
static std::map<mio_remote_t *, int64_t> &remotes = *new std::map<mio_remote_t *, int64_t>;
static std::map<mio_workers_t *, int64_t> &workers = *new std::map<mio_workers_t *, int64_t>;

void owned_buf(const mio_buf_t *buf, int delta) {
    if (buf == nullptr || buf->owner == nullptr) return;
    locked here;
    if (wrapped_owners.count(buf->owner) == 0) bufs[buf->owner] += delta;
}

void owned_bufs(const mio_buf_t *list, unsigned n, int delta) {
    for (unsigned i = 0; list != nullptr && i < n; i++) owned_buf(&list[i], delta);
}

void owned_buf_wrapped(const mio_buf_t *buf) {
    locked here;
    if (buf->owner != nullptr) wrapped_owners.insert(buf->owner);
}

void owned_fd(int fd, bool owned) {
    if (fd < 0) return;
    locked here;
    if (owned) fds.insert(fd);
    else fds.erase(fd);
}

constexpr int WORLD_FDS = 1 << 30;

int owned_world_fds() {
    int n = 0;
    for (const int fd : fds)
        if (fd >= WORLD_FDS) n++;
    return n;
}

void owned_give_back() {
    for (const int fd : fds)
        if (fd < WORLD_FDS) close(fd);
    for (auto &one : remotes)
        for (; one.second > 0; one.second--) mio_remote_release(one.first);
    for (auto &one : workers)
        for (; one.second > 0; one.second--) mio_workers_release(one.first);
    for (auto &one : bufs)
        for (; one.second > 0; one.second--) {
            mio_buf_t buf = {};
            buf.owner = one.first;
            mio_buf_release(&buf);
        }
}

static int fd_new(int fd) {
    owned_fd(fd, true);
    return fd;
}

}

using namespace inject;

extern "C" {

// --- descriptors ----------------------------------------------------------------------------------------------------

int WRAPPED(socket)(int domain, int type, int protocol) { return fd_new(socket(domain, type, protocol)); }
int WRAPPED(accept)(int fd, struct sockaddr *addr, socklen_t *len) { return fd_new(accept(fd, addr, len)); }
int WRAPPED(accept4)(int fd, struct sockaddr *addr, socklen_t *len, int flags) {
    return fd_new(accept4(fd, addr, len, flags));
}
int WRAPPED(dup)(int fd) { return fd_new(dup(fd)); }
int WRAPPED(eventfd)(unsigned value, int flags) { return fd_new(eventfd(value, flags)); }
int WRAPPED(epoll_create1)(int flags) { return fd_new(epoll_create1(flags)); }

int WRAPPED(open)(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    const int mode = (flags & O_CREAT) != 0 ? va_arg(arguments, int) : 0;
    va_end(arguments);
    return fd_new(open(path, flags, mode));
}

int WRAPPED(mkostemp)(char *name, int flags) { return fd_new(mkostemp(name, flags)); }
int WRAPPED(posix_openpt)(int flags) { return fd_new(posix_openpt(flags)); }

int WRAPPED(socketpair)(int domain, int type, int protocol, int both[2]) {
    const int result = socketpair(domain, type, protocol, both);
    if (result == 0) fd_new(both[0]), fd_new(both[1]);
    return result;
}
int WRAPPED(pipe)(int both[2]) {
    const int result = pipe(both);
    if (result == 0) fd_new(both[0]), fd_new(both[1]);
    return result;
}
int WRAPPED(pipe2)(int both[2], int flags) {
    const int result = pipe2(both, flags);
    if (result == 0) fd_new(both[0]), fd_new(both[1]);
    return result;
}
int WRAPPED(close)(int fd) {
    owned_fd(fd, false);
    return close(fd);
}

// --- buffers --------------------------------------------------------------------------------------------------------

int WRAPPED(mio_buf_alloc)(mio_loop_t *loop, size_t cap, mio_buf_t *out) {
    const int error = mio_buf_alloc(loop, cap, out);
    if (error == 0) owned_buf(out, 1);
    return error;
}
mio_buf_t WRAPPED(mio_buf_wrap)(void *ptr, size_t cap, mio_buf_owner_t *owner) {
    const mio_buf_t buf = mio_buf_wrap(ptr, cap, owner);
    owned_buf_wrapped(&buf);
    return buf;
}
int WRAPPED(mio_buf_share)(mio_buf_t *buf, mio_buf_t *out) {
    const int error = mio_buf_share(buf, out);
    if (error == 0) owned_buf(out, 1);
    return error;
}
int WRAPPED(mio_buf_keep)(mio_loop_t *loop, mio_buf_t *buf, size_t reserve) {
    const mio_buf_t before = buf == nullptr ? mio_buf_t() : *buf;
    const int error = mio_buf_keep(loop, buf, reserve);
    if (error != 0) return error;
    owned_buf(&before, -1);
    owned_buf(buf, 1);
    return 0;
}
void WRAPPED(mio_buf_release)(mio_buf_t *buf) {
    owned_buf(buf, -1);
    mio_buf_release(buf);
}

// --- remotes --------------------------------------------------------------------------------------------------------

int WRAPPED(mio_workers_create)(mio_workers_t **out, const mio_workers_options_t *options) {
    const int error = mio_workers_create(out, options);
    locked here;
    if (error == 0) workers[*out]++;
    return error;
}
mio_workers_t *WRAPPED(mio_workers_retain)(mio_workers_t *kept) {
    locked here;
    if (kept != nullptr) workers[kept]++;
    return mio_workers_retain(kept);
}
void WRAPPED(mio_workers_release)(mio_workers_t *released) {
    {
        locked here;
        if (released != nullptr) workers[released]--;
    }
    mio_workers_release(released);
}
mio_remote_t *WRAPPED(mio_remote_retain)(mio_remote_t *remote) {
    mio_remote_t *kept = mio_remote_retain(remote);
    locked here;
    if (kept != nullptr) remotes[kept]++;
    return kept;
}
void WRAPPED(mio_remote_release)(mio_remote_t *remote) {
    {
        locked here;
        if (remote != nullptr) remotes[remote]--;
    }
    mio_remote_release(remote);
}

int WRAPPED(mio_pipe_adopt)(mio_loop_t *loop, int fd, mio_stream_t **out) {
    inside_call here("mio_pipe_adopt");
    const int error = mio_pipe_adopt(loop, fd, out);
    if (error == 0) owned_fd(fd, false);
    return error;
}
int WRAPPED(mio_stream_adopt)(mio_loop_t *loop, int fd, mio_buf_t *unread, unsigned n, mio_stream_t **out) {
    inside_call here("mio_stream_adopt");
    mio_buf_t given[MIO_BUFS_MAX] = {};
    const unsigned kept = n < MIO_BUFS_MAX ? n : MIO_BUFS_MAX;
    for (unsigned i = 0; unread != nullptr && i < kept; i++) given[i] = unread[i];
    const int error = mio_stream_adopt(loop, fd, unread, n, out);
    if (error < 0) return error;
    owned_fd(fd, false);
    owned_bufs(given, kept, -1);
    return 0;
}
int WRAPPED(mio_udp_adopt)(mio_loop_t *loop, int fd, const mio_udp_options_t *options, mio_udp_t **out) {
    inside_call here("mio_udp_adopt");
    const int error = mio_udp_adopt(loop, fd, options, out);
    if (error == 0) owned_fd(fd, false);
    return error;
}

}
