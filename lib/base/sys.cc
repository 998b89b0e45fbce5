// The real table: each system call as it is, with errno negated on the spot. Decides nothing but which of two calls
// waits for events. EINTR, short counts and all other weather go up as they come.
//
// Linux, and what it lacks:
//   1. epoll_pwait2 (waits of less than a millisecond) came with 5.11, and sandboxes refuse what they do not know with
//      EPERM as often as with ENOSYS: from then on epoll_wait, the time rounded up.
//   2. MADV_WIPEONFORK came with 4.14, and some sandboxes do not have it.
#include "base/sys.h"

#include <atomic>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// ThreadSanitizer runs signal handlers, and learns what happened before what, in calls that it knows. It knows
// epoll_wait; a system call by number would sleep on a signal whose handler has not run.
#if defined(__SANITIZE_THREAD__)
#define MIO_EPOLL_BY_NAME 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MIO_EPOLL_BY_NAME 1
#endif
#endif

#if !defined(SYS_epoll_pwait2)
#define MIO_EPOLL_BY_NAME 1
#endif

namespace mio {

static inline int negated(int result) { return result >= 0 ? result : -errno; }
static inline ssize_t negated(ssize_t result) { return result >= 0 ? result : -errno; }

static void *sys_alloc(size_t size) { return malloc(size); }
static void *sys_resize(void *ptr, size_t, size_t new_size) { return realloc(ptr, new_size); }
static void sys_release(void *ptr, size_t) { free(ptr); }

static void *sys_map(size_t size) {
    void *at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? nullptr : at;
}

static void sys_unmap(void *ptr, size_t size) {
    if (munmap(ptr, size) != 0) abort(); // only a range that was never mapped: the caller's bookkeeping is lost
}

static void *sys_map_wipe_on_fork(size_t size) {
    void *at = sys_map(size);
    if (at == nullptr) return nullptr;
    if (madvise(at, size, MADV_WIPEONFORK) != 0 && errno != EINVAL && errno != ENOSYS && errno != EPERM) {
        sys_unmap(at, size);
        return nullptr;
    }
    return at;
}

static void *sys_map_shared(size_t size) {
    void *at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? nullptr : at;
}

static void *sys_map_fd(int fd, size_t size, int64_t offset) {
    void *at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, static_cast<off_t>(offset));
    return at == MAP_FAILED ? nullptr : at;
}

static int64_t sys_monotonic_ns() {
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0) abort(); // there is no Linux without it
    return static_cast<int64_t>(now.tv_sec) * 1000000000 + now.tv_nsec;
}

static int sys_socket(int domain, int type, int protocol) { return negated(::socket(domain, type, protocol)); }
static int sys_socketpair(int domain, int type, int protocol, int fds[2]) {
    return negated(::socketpair(domain, type, protocol, fds));
}
static int sys_bind(int fd, const struct sockaddr *addr, socklen_t len) { return negated(::bind(fd, addr, len)); }
static int sys_listen(int fd, int backlog) { return negated(::listen(fd, backlog)); }
static int sys_connect(int fd, const struct sockaddr *addr, socklen_t len) {
    return negated(::connect(fd, addr, len));
}
static int sys_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags) {
    return negated(::accept4(fd, addr, len, flags));
}
static int sys_shutdown(int fd, int how) { return negated(::shutdown(fd, how)); }
static int sys_close(int fd) { return negated(::close(fd)); }
static int sys_getsockname(int fd, struct sockaddr *addr, socklen_t *len) {
    return negated(::getsockname(fd, addr, len));
}
static int sys_getpeername(int fd, struct sockaddr *addr, socklen_t *len) {
    return negated(::getpeername(fd, addr, len));
}
static int sys_getsockopt(int fd, int level, int name, void *value, socklen_t *len) {
    return negated(::getsockopt(fd, level, name, value, len));
}
static int sys_setsockopt(int fd, int level, int name, const void *value, socklen_t len) {
    return negated(::setsockopt(fd, level, name, value, len));
}
static int sys_dup_cloexec(int fd) { return negated(::fcntl(fd, F_DUPFD_CLOEXEC, 0)); }
static int sys_set_nonblocking(int fd) {
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0) return -errno;
    return (flags & O_NONBLOCK) != 0 ? 0 : negated(::fcntl(fd, F_SETFL, flags | O_NONBLOCK));
}

static ssize_t sys_recv(int fd, void *to, size_t n, int flags) { return negated(::recv(fd, to, n, flags)); }
static ssize_t sys_recvmsg(int fd, struct msghdr *message, int flags) {
    return negated(::recvmsg(fd, message, flags));
}
static ssize_t sys_send(int fd, const void *from, size_t n, int flags) { return negated(::send(fd, from, n, flags)); }
static ssize_t sys_sendmsg(int fd, const struct msghdr *message, int flags) {
    return negated(::sendmsg(fd, message, flags));
}
static ssize_t sys_read(int fd, void *to, size_t n) { return negated(::read(fd, to, n)); }
static ssize_t sys_write(int fd, const void *from, size_t n) { return negated(::write(fd, from, n)); }

static int sys_eventfd(unsigned value, int flags) { return negated(::eventfd(value, flags)); }
static int sys_pipe_cloexec(int fds[2]) { return negated(::pipe2(fds, O_CLOEXEC)); }
static int sys_poll_one(int fd, short events, int timeout_ms) {
    struct pollfd one = {fd, events, 0};
    const int n = ::poll(&one, 1, timeout_ms);
    return n > 0 ? one.revents : negated(n);
}
static int sys_epoll_create1(int flags) { return negated(::epoll_create1(flags)); }
static int sys_epoll_ctl(int epfd, int what, int fd, struct epoll_event *event) {
    return negated(::epoll_ctl(epfd, what, fd, event));
}

static int epoll_wait_by_ms(int epfd, struct epoll_event *events, int max, int64_t timeout_ns) {
    int timeout_ms = -1;
    if (timeout_ns >= 0) {
        const int64_t rounded_up = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
        timeout_ms = rounded_up < INT_MAX ? static_cast<int>(rounded_up) : INT_MAX;
    }
    return negated(::epoll_wait(epfd, events, max, timeout_ms));
}

#ifdef MIO_EPOLL_BY_NAME

static int sys_epoll_wait_ns(int epfd, struct epoll_event *events, int max, int64_t timeout_ns) {
    return epoll_wait_by_ms(epfd, events, max, timeout_ns);
}

#else

static std::atomic<bool> no_epoll_pwait2{false};

static int sys_epoll_wait_ns(int epfd, struct epoll_event *events, int max, int64_t timeout_ns) {
    // Not at all and for ever need no nanoseconds: the older call is the cheaper one.
    if (timeout_ns > 0 && !no_epoll_pwait2.load(std::memory_order_relaxed)) {
        // The kernel's own shape, 64 bits on every machine.
        struct {
            int64_t seconds;
            int64_t nanoseconds;
        } timeout;
        timeout.seconds = timeout_ns / 1000000000;
        timeout.nanoseconds = timeout_ns % 1000000000;
        const long n = syscall(SYS_epoll_pwait2, epfd, events, max, &timeout, nullptr, static_cast<size_t>(0));
        if (n >= 0) return static_cast<int>(n);
        if (errno != ENOSYS && errno != EPERM) return -errno;
        no_epoll_pwait2.store(true, std::memory_order_relaxed);
    }
    return epoll_wait_by_ms(epfd, events, max, timeout_ns);
}

#endif

// By number: glibc has no names for these. 425 to 427 on every machine; a kernel without them says ENOSYS.
static int sys_uring_setup(unsigned entries, struct io_uring_params *params) {
    return negated(static_cast<int>(syscall(425, entries, params)));
}
static int sys_uring_enter(int fd, unsigned submit, unsigned wait, unsigned flags, const void *arg, size_t arg_size) {
    return negated(static_cast<int>(syscall(426, fd, submit, wait, flags, arg, arg_size)));
}
// Older kernels (5.10, 5.15) wait for a grace period before some registrations, and a signal ends that wait: one that
// comes every few milliseconds would end it each time. (SIGSYS is a sandbox's answer to the call itself.)
static int sys_uring_register(int fd, unsigned what, void *arg, unsigned n) {
    sigset_t others, before;
    sigfillset(&others);
    sigdelset(&others, SIGSYS);
    pthread_sigmask(SIG_BLOCK, &others, &before);
    const int result = negated(static_cast<int>(syscall(427, fd, what, arg, n)));
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return result;
}

const sys sys_real = {
    sys_alloc,
    sys_resize,
    sys_release,
    sys_map,
    sys_unmap,
    sys_map_wipe_on_fork,
    sys_map_shared,
    sys_map_fd,
    sys_monotonic_ns,
    sys_socket,
    sys_socketpair,
    sys_bind,
    sys_listen,
    sys_connect,
    sys_accept4,
    sys_shutdown,
    sys_close,
    sys_getsockname,
    sys_getpeername,
    sys_getsockopt,
    sys_setsockopt,
    sys_dup_cloexec,
    sys_set_nonblocking,
    sys_recv,
    sys_recvmsg,
    sys_send,
    sys_sendmsg,
    sys_read,
    sys_write,
    sys_eventfd,
    sys_pipe_cloexec,
    sys_poll_one,
    sys_epoll_create1,
    sys_epoll_ctl,
    sys_epoll_wait_ns,
    sys_uring_setup,
    sys_uring_enter,
    sys_uring_register,
};

}
