// The real table: each system call as it is, with errno negated on the spot. What every system has is here; what they
// have in ways of their own is beside it, in sys_linux.cc or sys_bsd.cc, of which a build takes one. Decides nothing:
// EINTR, short counts and all other weather go up as they come.
#include "base/spawn.h"
#include "base/sys_files.h"
#include "base/sys_platform.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

namespace mio {

static void *sys_alloc(size_t size) { return malloc(size); }
static void *sys_resize(void *ptr, size_t, size_t new_size) { return realloc(ptr, new_size); }
static void sys_release(void *ptr, size_t) { free(ptr); }

void *sys_map(size_t size) {
    void *at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? nullptr : at;
}

static void *sys_map_shared(size_t size) {
    void *at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? nullptr : at;
}

static int64_t sys_monotonic_ns() {
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0) abort(); // there is no system of ours without it
    return static_cast<int64_t>(now.tv_sec) * 1000000000 + now.tv_nsec;
}

static int sys_thread_start(pthread_t *thread, void *(*run)(void *), void *arg) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(thread, nullptr, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return -error;
}

// EAI_NODATA and EAI_ADDRFAMILY are not everywhere, or are other names for EAI_NONAME.
static int resolver_result(int result) {
    switch (result) {
    case 0: return 0;
    case EAI_AGAIN: return SYS_RESOLVER - RESOLVER_AGAIN;
    case EAI_FAIL: return SYS_RESOLVER - RESOLVER_FAIL;
    case EAI_NONAME: return SYS_RESOLVER - RESOLVER_NONAME;
    case EAI_FAMILY: return SYS_RESOLVER - RESOLVER_FAMILY;
    case EAI_SERVICE: return SYS_RESOLVER - RESOLVER_SERVICE;
    case EAI_BADFLAGS: return SYS_RESOLVER - RESOLVER_BADFLAGS;
    case EAI_SOCKTYPE: return SYS_RESOLVER - RESOLVER_SOCKTYPE;
    case EAI_OVERFLOW: return SYS_RESOLVER - RESOLVER_OVERFLOW;
    case EAI_MEMORY: return -ENOMEM;
    case EAI_SYSTEM: return errno != 0 ? -errno : -EIO;
    }
#if defined(EAI_NODATA) && EAI_NODATA != EAI_NONAME
    if (result == EAI_NODATA) return SYS_RESOLVER - RESOLVER_NODATA;
#endif
#if defined(EAI_ADDRFAMILY) && EAI_ADDRFAMILY != EAI_NONAME
    if (result == EAI_ADDRFAMILY) return SYS_RESOLVER - RESOLVER_NODATA;
#endif
    return SYS_RESOLVER - RESOLVER_FAIL;
}

static int sys_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **out) {
    return resolver_result(::getaddrinfo(host, service, hints, out));
}
static void sys_freeaddrinfo(struct addrinfo *list) { ::freeaddrinfo(list); }
static int sys_getnameinfo(const struct sockaddr *addr, socklen_t len, char *host, size_t host_size, char *service,
                           size_t service_size, int flags) {
    return resolver_result(::getnameinfo(addr, len, host, static_cast<socklen_t>(host_size), service,
                                         static_cast<socklen_t>(service_size), flags));
}

static int sys_bind(int fd, const struct sockaddr *addr, socklen_t len) { return negated(::bind(fd, addr, len)); }
static int sys_listen(int fd, int backlog) { return negated(::listen(fd, backlog)); }
static int sys_connect(int fd, const struct sockaddr *addr, socklen_t len) {
    return negated(::connect(fd, addr, len));
}
static int sys_shutdown(int fd, int how) { return negated(::shutdown(fd, how)); }
static int sys_close(int fd) { return negated(::close(fd)); }
static int sys_getsockname(int fd, struct sockaddr *addr, socklen_t *len) {
    return negated(::getsockname(fd, addr, len));
}
static int sys_getpeername(int fd, struct sockaddr *addr, socklen_t *len) {
    return negated(::getpeername(fd, addr, len));
}
static int sys_setsockopt(int fd, int level, int name, const void *value, socklen_t len) {
    return negated(::setsockopt(fd, level, name, value, len));
}
static int sys_dup_cloexec(int fd) { return negated(::fcntl(fd, F_DUPFD_CLOEXEC, 0)); }
static int sys_set_cloexec(int fd) { return negated(::fcntl(fd, F_SETFD, FD_CLOEXEC)); }
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
ssize_t sys_sendfile_copy(int to, int from, int64_t offset, size_t n) {
    char piece[16384];
    const ssize_t got = negated(::pread(from, piece, n < sizeof piece ? n : sizeof piece, static_cast<off_t>(offset)));
    return got <= 0 ? got : sys_send(to, piece, static_cast<size_t>(got), MSG_DONTWAIT | MSG_NOSIGNAL);
}
static ssize_t sys_read(int fd, void *to, size_t n) { return negated(::read(fd, to, n)); }
static ssize_t sys_write(int fd, const void *from, size_t n) { return negated(::write(fd, from, n)); }

static int sys_poll_one(int fd, short events, int timeout_ms) {
    struct pollfd one = {fd, events, 0};
    const int n = ::poll(&one, 1, timeout_ms);
    return n > 0 ? one.revents : negated(n);
}

static int sys_sigaction(int number, const struct sigaction *action, struct sigaction *before) {
    return negated(::sigaction(number, action, before));
}
static int sys_thread_sigmask(int how, const sigset_t *set, sigset_t *before) { return -::pthread_sigmask(how, set, before); }

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
    sys_thread_start,
    sys_environment,
    sys_getaddrinfo,
    sys_freeaddrinfo,
    sys_getnameinfo,
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
    sys_set_cloexec,
    sys_set_nonblocking,
    sys_recv,
    sys_recvmsg,
    sys_send,
    sys_sendmsg,
    sys_recvmmsg,
    sys_sendmmsg,
    sys_sendfile,
    sys_splice,
    sys_read,
    sys_write,
    sys_open,
    sys_unlink,
    sys_chmod,
    sys_lstat_mode,
    sys_facts,
    sys_reopen,
    sys_set_status,
    sys_read_nowait,
    sys_write_quiet,
    sys_tty_get,
    sys_tty_set,
    sys_tty_size,
    sys_eventfd,
    sys_pipe_cloexec,
    sys_poll_one,
    sys_epoll_create1,
    sys_epoll_ctl,
    sys_epoll_wait_ns,
    sys_uring_setup,
    sys_uring_enter,
    sys_uring_register,
    sys_notify_open,
    sys_notify_add,
    sys_notify_remove,
    sys_notify_read,
    sys_kqueue,
    sys_kevent,
    sys_sigaction,
    sys_thread_sigmask,
    spawn_process,
    sys_pidfd_open,
    sys_child_wait,
    sys_child_kill,
    &sys_files_real,
};

}
