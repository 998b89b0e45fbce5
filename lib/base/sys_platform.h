// For the files of the real table (sys.cc, sys_linux.cc, sys_bsd.cc) and nobody else: how errno is negated, and the
// members that each platform writes its own way. A member that a platform lacks answers -ENOSYS (or nullptr).
#pragma once

#include "base/sys.h"

#include <errno.h>

namespace mio {

inline int negated(int result) { return result >= 0 ? result : -errno; }
inline ssize_t negated(ssize_t result) { return result >= 0 ? result : -errno; }

void *sys_map(size_t size); // sys.cc

// sys_file.cc
int sys_open(const char *path, int flags, unsigned mode);
int sys_unlink(const char *path);
int sys_chmod(const char *path, unsigned mode);
int sys_lstat_mode(const char *path);
int sys_facts(int fd, struct fd_facts *out);
int sys_set_status(int fd, int flags);
ssize_t sys_write_quiet(int fd, const struct iovec *pieces, unsigned n, bool nowait);
ssize_t sys_write_masked(int fd, const struct iovec *pieces, unsigned n, bool nowait); // where the call raises SIGPIPE
int sys_tty_get(int fd, struct termios *out);
int sys_tty_set(int fd, const struct termios *modes);
int sys_tty_size(int fd, struct winsize *out);

void sys_unmap(void *ptr, size_t size);
void *sys_map_wipe_on_fork(size_t size);
void *sys_map_fd(int fd, size_t size, int64_t offset);
const char *sys_environment(const char *name);
int sys_socket(int domain, int type, int protocol);
int sys_socketpair(int domain, int type, int protocol, int fds[2]);
int sys_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags);
int sys_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
int sys_recvmmsg(int fd, struct sys_message *messages, unsigned n, int flags);
int sys_sendmmsg(int fd, struct sys_message *messages, unsigned n, int flags);
int sys_pipe_cloexec(int fds[2]);
int sys_reopen(int fd);
ssize_t sys_read_nowait(int fd, void *to, size_t n);
// One call; nowait as in the table. quiet: it must not raise SIGPIPE; -EOPNOTSUPP: that cannot be had, either.
ssize_t sys_write_once(int fd, const struct iovec *pieces, unsigned n, bool nowait, bool quiet);
int sys_eventfd(unsigned value, int flags);
int sys_epoll_create1(int flags);
int sys_epoll_ctl(int epfd, int what, int fd, struct epoll_event *event);
int sys_epoll_wait_ns(int epfd, struct epoll_event *events, int max, int64_t timeout_ns);
int sys_uring_setup(unsigned entries, struct io_uring_params *params);
int sys_uring_enter(int fd, unsigned submit, unsigned wait, unsigned flags, const void *arg, size_t arg_size);
int sys_uring_register(int fd, unsigned what, void *arg, unsigned n);
ssize_t sys_sendfile(int to, int from, int64_t offset, size_t n);
ssize_t sys_splice(int from, int to, size_t n, bool quiet);
ssize_t sys_sendfile_copy(int to, int from, int64_t offset, size_t n); // sys.cc: read and sent, a piece
int sys_notify_open();
int sys_notify_add(int fd, const char *path, uint32_t mask);
int sys_notify_remove(int fd, int id);
ssize_t sys_notify_read(int fd, void *to, size_t n);
int sys_pidfd_open(int pid);
int sys_child_wait(int pid, int pidfd, struct spawn_end *end);
int sys_child_kill(int pid, int pidfd, int number);
int sys_kqueue();
int sys_kevent(int kq, const struct kevent *changes, int n, struct kevent *events, int max, int64_t timeout_ns);

}
