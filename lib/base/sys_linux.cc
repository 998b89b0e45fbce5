// Linux's half of the real table. Decides nothing but which of two calls waits for events.
//
// What it lacks:
//   1. epoll_pwait2 (waits of less than a millisecond) came with 5.11, and sandboxes refuse what they do not know with
//      EPERM as often as with ENOSYS: from then on epoll_wait, the time rounded up.
//   2. MADV_WIPEONFORK came with 4.14, and some sandboxes do not have it.
//   3. Writes that raise no SIGPIPE (RWF_NOSIGNAL) came with 6.18: elsewhere the signal is held back and taken
//      (sys_file.cc). RWF_NOWAIT works on pipes from 6.4 on.
#include "base/notify.h"
#include "base/spawn.h"
#include "base/sys_platform.h"

#include <atomic>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/wait.h>
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

void sys_unmap(void *ptr, size_t size) {
    if (munmap(ptr, size) != 0) abort(); // only a range that was never mapped: the caller's bookkeeping is lost
}

void *sys_map_wipe_on_fork(size_t size) {
    void *at = sys_map(size);
    if (at == nullptr) return nullptr;
    if (madvise(at, size, MADV_WIPEONFORK) != 0 && errno != EINVAL && errno != ENOSYS && errno != EPERM) {
        sys_unmap(at, size);
        return nullptr;
    }
    return at;
}

void *sys_map_fd(int fd, size_t size, int64_t offset) {
    void *at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, static_cast<off_t>(offset));
    return at == MAP_FAILED ? nullptr : at;
}

const char *sys_environment(const char *name) { return secure_getenv(name); }

int sys_socket(int domain, int type, int protocol) { return negated(::socket(domain, type, protocol)); }
int sys_socketpair(int domain, int type, int protocol, int fds[2]) {
    return negated(::socketpair(domain, type, protocol, fds));
}
int sys_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags) {
    return negated(::accept4(fd, addr, len, flags));
}
int sys_getsockopt(int fd, int level, int name, void *value, socklen_t *len) {
    return negated(::getsockopt(fd, level, name, value, len));
}
static_assert(sizeof(struct sys_message) == sizeof(struct mmsghdr), "the kernel's own");
int sys_recvmmsg(int fd, struct sys_message *messages, unsigned n, int flags) {
    return negated(::recvmmsg(fd, reinterpret_cast<struct mmsghdr *>(messages), n, flags, nullptr));
}
int sys_sendmmsg(int fd, struct sys_message *messages, unsigned n, int flags) {
    return negated(::sendmmsg(fd, reinterpret_cast<struct mmsghdr *>(messages), n, flags));
}
int sys_eventfd(unsigned value, int flags) { return negated(::eventfd(value, flags)); }
int sys_pipe_cloexec(int fds[2]) { return negated(::pipe2(fds, O_CLOEXEC)); }

int sys_reopen(int fd) {
    // The master of a pair would not be opened again: each open of its name makes a new pair.
    int number;
    if (ioctl(fd, TIOCGPTN, &number) == 0) return -ENOTSUP;
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0) return -errno;
    const int again = ::open(path, (flags & O_ACCMODE) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return again >= 0 ? again : -ENOTSUP;
}

ssize_t sys_read_nowait(int fd, void *to, size_t n) {
    struct iovec piece = {to, n};
    return negated(::preadv2(fd, &piece, 1, -1, RWF_NOWAIT));
}

#ifndef RWF_NOSIGNAL
#define RWF_NOSIGNAL 0x00000100
#endif

static std::atomic<bool> no_quiet_writes{false};

ssize_t sys_write_once(int fd, const struct iovec *pieces, unsigned n, bool nowait, bool quiet) {
    if (quiet && no_quiet_writes.load(std::memory_order_relaxed)) return -EOPNOTSUPP;
    const int flags = (nowait ? RWF_NOWAIT : 0) | (quiet ? RWF_NOSIGNAL : 0);
    if (flags == 0) return negated(::writev(fd, pieces, static_cast<int>(n)));
    const ssize_t written = negated(::pwritev2(fd, pieces, static_cast<int>(n), -1, flags));
    // Of RWF_NOWAIT a file may say that, too; then it is asked for once more, at the price of two calls.
    if (written == -EOPNOTSUPP && quiet && !nowait) no_quiet_writes.store(true, std::memory_order_relaxed);
    return written;
}

int sys_epoll_create1(int flags) { return negated(::epoll_create1(flags)); }
int sys_epoll_ctl(int epfd, int what, int fd, struct epoll_event *event) {
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

int sys_epoll_wait_ns(int epfd, struct epoll_event *events, int max, int64_t timeout_ns) {
    return epoll_wait_by_ms(epfd, events, max, timeout_ns);
}

#else

static std::atomic<bool> no_epoll_pwait2{false};

int sys_epoll_wait_ns(int epfd, struct epoll_event *events, int max, int64_t timeout_ns) {
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
int sys_uring_setup(unsigned entries, struct io_uring_params *params) {
    return negated(static_cast<int>(syscall(425, entries, params)));
}
int sys_uring_enter(int fd, unsigned submit, unsigned wait, unsigned flags, const void *arg, size_t arg_size) {
    return negated(static_cast<int>(syscall(426, fd, submit, wait, flags, arg, arg_size)));
}
// Older kernels (5.10, 5.15) wait for a grace period before some registrations, and a signal ends that wait: one that
// comes every few milliseconds would end it each time. (SIGSYS is a sandbox's answer to the call itself.)
int sys_uring_register(int fd, unsigned what, void *arg, unsigned n) {
    sigset_t others, before;
    sigfillset(&others);
    sigdelset(&others, SIGSYS);
    pthread_sigmask(SIG_BLOCK, &others, &before);
    const int result = negated(static_cast<int>(syscall(427, fd, what, arg, n)));
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return result;
}

// sendfile(2) and splice(2) know no MSG_NOSIGNAL: a SIGPIPE is kept from this thread, and taken back if it is this call's. It
// may be so where some bytes went, too: they go in rounds, and the error of a later one is kept back, but not its signal.
struct pipe_signal {
    sigset_t only, before, pending;
};

static void pipe_signal_hold(pipe_signal *held) {
    sigemptyset(&held->only);
    sigaddset(&held->only, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &held->only, &held->before);
    sigpending(&held->pending);
}

static void pipe_signal_let_go(const pipe_signal *held, ssize_t sent, size_t n) {
    const bool fell_short = sent != -EAGAIN && sent != static_cast<ssize_t>(n);
    if (fell_short && sigismember(&held->pending, SIGPIPE) == 0) {
        const struct timespec at_once = {0, 0};
        while (sigtimedwait(&held->only, nullptr, &at_once) < 0 && errno == EINTR) continue;
    }
    pthread_sigmask(SIG_SETMASK, &held->before, nullptr);
}

ssize_t sys_splice(int from, int to, size_t n, bool quiet) {
    if (!quiet) return negated(::splice(from, nullptr, to, nullptr, n, SPLICE_F_NONBLOCK));
    pipe_signal held;
    pipe_signal_hold(&held);
    const ssize_t moved = negated(::splice(from, nullptr, to, nullptr, n, SPLICE_F_NONBLOCK));
    pipe_signal_let_go(&held, moved, n);
    return moved;
}

ssize_t sys_sendfile(int to, int from, int64_t offset, size_t n) {
    pipe_signal held;
    pipe_signal_hold(&held);
    off_t at = static_cast<off_t>(offset);
    ssize_t sent = negated(::sendfile(to, from, &at, n));
    pipe_signal_let_go(&held, sent, n);
    // Files without pages (of /proc, of some FUSE systems), filters that know no sendfile.
    if (sent == -EINVAL || sent == -ENOSYS) sent = sys_sendfile_copy(to, from, offset, n);
    return sent;
}

static_assert(NOTIFY_MODIFY == IN_MODIFY && NOTIFY_ATTRIB == IN_ATTRIB && NOTIFY_CLOSE_WRITE == IN_CLOSE_WRITE &&
                  NOTIFY_MOVED_FROM == IN_MOVED_FROM && NOTIFY_MOVED_TO == IN_MOVED_TO && NOTIFY_CREATE == IN_CREATE &&
                  NOTIFY_DELETE == IN_DELETE && NOTIFY_DELETE_SELF == IN_DELETE_SELF && NOTIFY_MOVE_SELF == IN_MOVE_SELF &&
                  NOTIFY_UNMOUNT == IN_UNMOUNT && NOTIFY_OVERFLOW == IN_Q_OVERFLOW && NOTIFY_IGNORED == IN_IGNORED &&
                  NOTIFY_FOLDER == IN_ISDIR && NOTIFY_NOT_UNLINKED == IN_EXCL_UNLINK && NOTIFY_ADD == IN_MASK_ADD &&
                  sizeof(notify_record) == sizeof(struct inotify_event), "the kernel's own");

int sys_notify_open() { return negated(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC)); }
int sys_notify_add(int fd, const char *path, uint32_t mask) { return negated(::inotify_add_watch(fd, path, mask)); }
int sys_notify_remove(int fd, int id) { return negated(::inotify_rm_watch(fd, id)); }
ssize_t sys_notify_read(int fd, void *to, size_t n) { return negated(::read(fd, to, n)); }
// By number: 434 (5.3), 424 (5.1), on every machine.
int sys_pidfd_open(int pid) { return negated(static_cast<int>(syscall(434, pid, 0))); }
int sys_child_kill(int pid, int pidfd, int number) {
    if (pidfd < 0) return negated(::kill(pid, number));
    return negated(static_cast<int>(syscall(424, pidfd, number, nullptr, 0)));
}

// The system call, for the library's waitid has no place for what the child used. P_PIDFD is 3 (5.4); a kernel that has
// pidfds but not this says EINVAL, and is asked by number: nobody else reaps the child, so the number is still its own.
int sys_child_wait(int pid, int pidfd, struct spawn_end *end) {
    siginfo_t info;
    struct rusage usage;
    const int how = end != nullptr ? WEXITED | WNOHANG : WEXITED | WNOWAIT;
    info.si_pid = 0;
    long result = pidfd >= 0 ? syscall(SYS_waitid, 3, pidfd, &info, how, &usage) : -1;
    if (pidfd < 0 || (result < 0 && errno == EINVAL)) result = syscall(SYS_waitid, P_PID, pid, &info, how, &usage);
    if (result < 0) return -errno;
    if (info.si_pid == 0) return 0;
    if (end == nullptr) return 1;
    end->status = info.si_code == CLD_EXITED ? info.si_status & 255 : -1;
    end->signal = info.si_code == CLD_EXITED ? 0 : info.si_status;
    end->core_dumped = info.si_code == CLD_DUMPED;
    end->usage = usage;
    return 1;
}

int sys_kqueue() { return -ENOSYS; }
int sys_kevent(int, const struct kevent *, int, struct kevent *, int, int64_t) { return -ENOSYS; }

}
