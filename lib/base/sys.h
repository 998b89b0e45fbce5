// The table of system calls, the clock and memory: every one of them that libmio makes goes through it, reached by
// loop->sys, so that tests can script them, fail the Nth, or put a simulated world in their place.
// Each returns what the system call does, or -errno: errno is read here and nowhere else. EINTR is not hidden here: it
// is handled where it may arise. Members follow their manual pages (section 2) unless noted; what a system does not
// have answers -ENOSYS, or nullptr.
#pragma once

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/select.h> // sigset_t
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

struct addrinfo;
struct epoll_event;
struct io_uring_params;
struct kevent;
struct sigaction;
struct termios;
struct winsize;

namespace mio {

struct spawn_plan;
struct spawn_end;
struct sys_files;

// As Linux' struct mmsghdr; other systems have none, or one that looks the same.
struct sys_message {
    struct msghdr head;
    unsigned len; // bytes received or sent
};

struct fd_facts {
    unsigned mode;   // st_mode of fstat(2)
    int status;      // F_GETFL of fcntl(2)
    bool tty;        // isatty(3)
    uint64_t device; // st_rdev
};

// What a resolver says: its numbers differ between systems, and are told from errno by lying below it.
constexpr int SYS_RESOLVER = -4200;
enum resolver_error {
    RESOLVER_AGAIN = 1, RESOLVER_FAIL, RESOLVER_NONAME, RESOLVER_NODATA, RESOLVER_FAMILY, RESOLVER_SERVICE,
    RESOLVER_BADFLAGS, RESOLVER_SOCKTYPE, RESOLVER_OVERFLOW
};

struct sys {
    // Memory: malloc, realloc, free; sizes are given back for the tables that count. nullptr: none left.
    void *(*alloc)(size_t size);
    void *(*resize)(void *ptr, size_t old_size, size_t new_size);
    void (*release)(void *ptr, size_t size);
    // Zeroed pages, private and anonymous; nullptr: none left. size is a multiple of 4096.
    void *(*map)(size_t size);
    void (*unmap)(void *ptr, size_t size);
    // A page that reads as zeroes in a fork's child (madvise MADV_WIPEONFORK, minherit INHERIT_ZERO, pthread_atfork);
    // nullptr: none left. On a Linux without (before 4.14, some sandboxes) an ordinary one: there a fork goes unnoticed.
    void *(*map_wipe_on_fork)(size_t size);
    // Zeroed pages that a fork's child shares instead of copying them when written; nullptr: none left.
    void *(*map_shared)(size_t size);
    // What a descriptor shows at offset, shared and populated; nullptr: refused. Given back by unmap.
    void *(*map_fd)(int fd, size_t size, int64_t offset);

    int64_t (*monotonic_ns)(); // CLOCK_MONOTONIC

    // pthread_create(3), every signal blocked in the new thread.
    int (*thread_start)(pthread_t *thread, void *(*run)(void *), void *arg);
    const char *(*environment)(const char *name); // secure_getenv(3): nullptr also where it is not to be trusted

    // getaddrinfo(3), getnameinfo(3): 0, -errno, or SYS_RESOLVER minus a resolver_error. Both may block for minutes.
    int (*getaddrinfo)(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **out);
    void (*freeaddrinfo)(struct addrinfo *list);
    int (*getnameinfo)(const struct sockaddr *addr, socklen_t len, char *host, size_t host_size, char *service,
                       size_t service_size, int flags);

    int (*socket)(int domain, int type, int protocol);
    int (*socketpair)(int domain, int type, int protocol, int fds[2]);
    int (*bind)(int fd, const struct sockaddr *addr, socklen_t len);
    int (*listen)(int fd, int backlog);
    int (*connect)(int fd, const struct sockaddr *addr, socklen_t len);
    int (*accept4)(int fd, struct sockaddr *addr, socklen_t *len, int flags);
    int (*shutdown)(int fd, int how);
    int (*close)(int fd);
    int (*getsockname)(int fd, struct sockaddr *addr, socklen_t *len);
    int (*getpeername)(int fd, struct sockaddr *addr, socklen_t *len);
    int (*getsockopt)(int fd, int level, int name, void *value, socklen_t *len);
    int (*setsockopt)(int fd, int level, int name, const void *value, socklen_t len);
    int (*dup_cloexec)(int fd); // fcntl F_DUPFD_CLOEXEC
    int (*set_cloexec)(int fd); // fcntl FD_CLOEXEC
    int (*set_nonblocking)(int fd); // fcntl O_NONBLOCK: an adopted listener, for accept4 has no MSG_DONTWAIT

    ssize_t (*recv)(int fd, void *to, size_t n, int flags);
    ssize_t (*recvmsg)(int fd, struct msghdr *message, int flags);
    ssize_t (*send)(int fd, const void *from, size_t n, int flags);
    ssize_t (*sendmsg)(int fd, const struct msghdr *message, int flags);
    // recvmmsg(2), sendmmsg(2), or calls of the above until one fails: how many messages, or why not the first.
    int (*recvmmsg)(int fd, struct sys_message *messages, unsigned n, int flags);
    int (*sendmmsg)(int fd, struct sys_message *messages, unsigned n, int flags);
    // sendfile(2) to a nonblocking socket; raises no SIGPIPE. Where there is none, or not for that file, a copy of a piece.
    ssize_t (*sendfile)(int to, int from, int64_t offset, size_t n);
    // splice(2) without a wait between a nonblocking socket and a pipe; quiet: raises no SIGPIPE. -ENOSYS: there is none.
    ssize_t (*splice)(int from, int to, size_t n, bool quiet);
    ssize_t (*read)(int fd, void *to, size_t n);
    ssize_t (*write)(int fd, const void *from, size_t n);

    int (*open)(const char *path, int flags, unsigned mode);
    int (*unlink)(const char *path);
    int (*chmod)(const char *path, unsigned mode);
    int (*lstat_mode)(const char *path); // lstat(2): its st_mode
    int (*facts)(int fd, struct fd_facts *out);
    int (*reopen)(int fd); // an open file of its own for the same terminal or pipe, nonblocking; -ENOTSUP: there is none to be had
    int (*set_status)(int fd, int flags); // fcntl F_SETFL
    // preadv2 with RWF_NOWAIT: -EAGAIN instead of waiting, whatever O_NONBLOCK says. -EOPNOTSUPP: not with this file.
    ssize_t (*read_nowait)(int fd, void *to, size_t n);
    // writev; nowait: pwritev2 with RWF_NOWAIT, as above. SIGPIPE is not delivered for it.
    ssize_t (*write_quiet)(int fd, const struct iovec *pieces, unsigned n, bool nowait);
    int (*tty_get)(int fd, struct termios *out); // tcgetattr(3)
    int (*tty_set)(int fd, const struct termios *modes); // tcsetattr(3) TCSANOW
    int (*tty_size)(int fd, struct winsize *out); // ioctl TIOCGWINSZ

    int (*eventfd)(unsigned value, int flags);
    int (*pipe_cloexec)(int fds[2]); // pipe2 O_CLOEXEC
    int (*poll_one)(int fd, short events, int timeout_ms); // poll of one descriptor: its revents; 0: the time is up
    int (*epoll_create1)(int flags);
    int (*epoll_ctl)(int epfd, int what, int fd, struct epoll_event *event);
    // timeout_ns < 0: forever. epoll_pwait2 where the kernel has it, else epoll_wait with the time rounded up to ms.
    int (*epoll_wait_ns)(int epfd, struct epoll_event *events, int max, int64_t timeout_ns);

    // io_uring_setup(2), io_uring_enter(2), io_uring_register(2).
    int (*uring_setup)(unsigned entries, struct io_uring_params *params);
    int (*uring_enter)(int fd, unsigned submit, unsigned wait, unsigned flags, const void *arg, size_t arg_size);
    int (*uring_register)(int fd, unsigned what, void *arg, unsigned n);

    // inotify(7), with the masks and records of base/notify.h; with kqueue(2) as much of it as there is. open: closed on
    // exec, nobody waits; add: an id, the same one for the same file (kqueue: another one). An id that is ignored is
    // removed as well. read: records, or EAGAIN.
    int (*notify_open)();
    int (*notify_add)(int fd, const char *path, uint32_t mask);
    int (*notify_remove)(int fd, int id);
    ssize_t (*notify_read)(int fd, void *to, size_t n);

    int (*kqueue)(); // closed on exec
    // kevent(2): the number of events, errors of changes among them. timeout_ns < 0: forever.
    int (*kevent)(int kq, const struct kevent *changes, int n, struct kevent *events, int max, int64_t timeout_ns);

    int (*sigaction)(int number, const struct sigaction *action, struct sigaction *before);
    int (*thread_sigmask)(int how, const sigset_t *set, sigset_t *before); // pthread_sigmask

    int (*spawn)(const struct spawn_plan *plan); // base/spawn.h: the child's process number
    int (*pidfd_open)(int pid);                  // closed on exec; -ENOSYS: there are none here
    // Waits for the end of a child of ours, named by its pidfd or, where that is -1, by its number. end: reaps it and does
    // not wait: 1, or 0 while it runs. nullptr: waits, and leaves it to be reaped: 1.
    int (*child_wait)(int pid, int pidfd, struct spawn_end *end);
    int (*child_kill)(int pid, int pidfd, int number); // kill, pidfd_send_signal
    const sys_files *files; // base/sys_files.h
};

extern const sys sys_real;

}
