// The table of system calls that loops of a simulated world see: sockets of the world, its clock, and memory that may
// run out by chance. No call blocks, whatever O_NONBLOCK says: where a kernel would wait, it is -EAGAIN.
//
// Decides what a descriptor is and which call it takes; what the call means for TCP is sim_net.cc's. A number below
// SIM_FD_BASE is a descriptor of the kernel's and none here: -EBADF. A thread without a world has no simulated
// descriptor at all. Memory itself, pages, and all that was handed out before the world ended are the real table's.

#include "backend/sim.h"
#include "backend/sim_files.h"

#include "base/poll.h"
#include "base/socket.h"

#include <mio/error.h>

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

namespace mio {

// --- memory and time ------------------------------------------------------------------------------------------------

static bool no_memory(size_t size) {
    sim_world *w = sim_world_here();
    if (w == nullptr) return false;
    if (!sim_memory_exhausted(w, size) && !sim_chance(w, SIM_FOR_MEMORY, w->options.no_memory_ppm)) return false;
    sim_trace(w, SIM_DID_ALLOC, 0, -ENOMEM);
    return true;
}

// What outlives its world is given back without being counted.
static void *counted(void *ptr, size_t size) {
    sim_world *w = sim_world_here();
    if (w != nullptr && ptr != nullptr) w->memory_live += static_cast<int64_t>(size);
    return ptr;
}

static void uncounted(const void *ptr, size_t size) {
    sim_world *w = sim_world_here();
    if (w != nullptr && ptr != nullptr) w->memory_live -= static_cast<int64_t>(size);
}

static void *sim_alloc(size_t size) { return no_memory(size) ? nullptr : counted(sys_real.alloc(size), size); }
static void *sim_resize(void *ptr, size_t old_size, size_t new_size) {
    if (no_memory(new_size > old_size ? new_size - old_size : 0)) return nullptr;
    void *resized = sys_real.resize(ptr, old_size, new_size);
    if (resized != nullptr) uncounted(resized, old_size);
    return counted(resized, new_size);
}
static void sim_release(void *ptr, size_t size) {
    uncounted(ptr, size);
    sys_real.release(ptr, size);
}
static void *sim_map(size_t size) { return no_memory(size) ? nullptr : counted(sys_real.map(size), size); }
static void sim_unmap(void *ptr, size_t size) {
    uncounted(ptr, size);
    sys_real.unmap(ptr, size);
}
static void *sim_map_wipe_on_fork(size_t size) { return counted(sys_real.map_wipe_on_fork(size), size); }
static void *sim_map_shared(size_t size) { return counted(sys_real.map_shared(size), size); }

static int64_t sim_monotonic_ns() {
    const sim_world *w = sim_world_here();
    return w == nullptr ? sys_real.monotonic_ns() : w->now_ns;
}

// --- names and ends -------------------------------------------------------------------------------------------------

static sim_socket *socket_of(int fd) {
    sim_fd *f = sim_fd_of(sim_world_here(), fd);
    return f == nullptr ? nullptr : f->socket;
}

static int sim_sys_socket(int domain, int type, int protocol) {
    sim_world *w = sim_world_here();
    if (w == nullptr) return -EPERM;
    if (domain != AF_INET && domain != AF_INET6 && domain != AF_UNIX) return -EAFNOSUPPORT;
    const int kind = type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (domain == AF_UNIX && kind == SOCK_DGRAM) return -EAFNOSUPPORT; // a world has none
    const bool known = kind == SOCK_STREAM || (domain == AF_UNIX ? kind == SOCK_SEQPACKET : kind == SOCK_DGRAM);
    if (!known) return -EPROTONOSUPPORT;
    const int usual = domain == AF_UNIX ? 0 : kind == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP;
    if (protocol != 0 && protocol != usual) return -EPROTONOSUPPORT;
    const int failed = sim_call_fails(w, MIO_SIM_CALL_SOCKET, nullptr, nullptr);
    if (failed < 0) return failed;
    sim_socket *s = sim_socket_create(w, domain);
    if (s == nullptr) return -ENOMEM;
    s->datagram = kind == SOCK_DGRAM;
    s->records = kind == SOCK_SEQPACKET;
    const int fd = sim_fd_create(w, s);
    if (fd < 0) {
        sim_socket_free(s);
        return fd;
    }
    sim_trace(w, SIM_DID_SOCKET, s->number, fd - SIM_FD_BASE);
    return fd;
}

static int sim_sys_bind(int fd, const struct sockaddr *addr, socklen_t len) {
    sim_socket *s = socket_of(fd);
    if (s == nullptr) return -EBADF;
    sim_addr local;
    int result;
    if (s->domain == AF_UNIX) {
        result = sim_name_bind(s, addr, len);
    } else {
        result = sim_addr_read(s->domain, addr, len, &local);
        if (result == 0) result = s->state == sim_state::fresh ? sim_bind(s, &local) : -EINVAL;
    }
    sim_trace(s->world, SIM_DID_BIND, s->number, result < 0 ? result : s->local.port);
    return result;
}

static int sim_sys_listen(int fd, int backlog) {
    sim_socket *s = socket_of(fd);
    if (s == nullptr) return -EBADF;
    const int result = s->datagram ? -EOPNOTSUPP : sim_socket_listen(s, backlog);
    sim_trace(s->world, SIM_DID_LISTEN, s->number, result < 0 ? result : s->local.port);
    return result;
}

static int sim_sys_connect(int fd, const struct sockaddr *addr, socklen_t len) {
    sim_socket *s = socket_of(fd);
    if (s == nullptr) return -EBADF;
    sim_addr to;
    if (s->datagram && addr != nullptr && len >= sizeof(sa_family_t) && addr->sa_family == AF_UNSPEC)
        return sim_datagram_connect(s, nullptr);
    const int error = sim_addr_read(s->domain, addr, len, &to);
    if (error < 0) return error;
    return s->datagram ? sim_datagram_connect(s, &to) : sim_socket_connect(s, &to);
}

static int name_out(const sim_socket *s, const sim_addr *name, struct sockaddr *addr, socklen_t *len) {
    if (addr == nullptr || len == nullptr) return -EFAULT;
    sim_addr_write(s->domain, name, addr, len);
    return 0;
}

static int sim_sys_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags) {
    sim_socket *s = socket_of(fd);
    if (s == nullptr) return -EBADF;
    if ((flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) != 0) return -EINVAL;
    if (s->datagram) return -EOPNOTSUPP;
    const int accepted = sim_socket_accept(s);
    if (accepted < 0 || addr == nullptr || len == nullptr) return accepted;
    const sim_socket *end = socket_of(accepted);
    sim_addr_write(end->domain, &end->remote, addr, len);
    return accepted;
}

static int sim_sys_shutdown(int fd, int how) {
    sim_socket *s = socket_of(fd);
    if (s == nullptr) return -EBADF;
    if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR) return -EINVAL;
    if (s->datagram) return -ENOTCONN;
    const int result = sim_socket_shutdown(s, how != SHUT_WR, how != SHUT_RD);
    sim_trace(s->world, SIM_DID_SHUTDOWN, s->number, result < 0 ? result : how);
    return result;
}

static int sim_sys_close(int fd) {
    sim_world *w = sim_world_here();
    if (w == nullptr) return -EBADF;
    return sim_is_file(fd) ? sim_file_close(w, fd) : sim_fd_close(w, fd);
}

static int sim_sys_getsockname(int fd, struct sockaddr *addr, socklen_t *len) {
    const sim_socket *s = socket_of(fd);
    return s == nullptr ? -EBADF : name_out(s, &s->local, addr, len);
}

static int sim_sys_getpeername(int fd, struct sockaddr *addr, socklen_t *len) {
    const sim_socket *s = socket_of(fd);
    if (s == nullptr) return -EBADF;
    if (s->datagram ? s->remote.port == 0 : s->state != sim_state::connected) return -ENOTCONN;
    return name_out(s, &s->remote, addr, len);
}

static int sim_sys_dup_cloexec(int fd) {
    sim_world *w = sim_world_here();
    sim_socket *s = socket_of(fd);
    return s == nullptr ? -EBADF : sim_fd_create(w, s);
}

static int sim_sys_set_cloexec(int fd) { return socket_of(fd) == nullptr ? -EBADF : 0; }
static int sim_sys_set_nonblocking(int fd) { return socket_of(fd) == nullptr ? -EBADF : 0; }

// --- options --------------------------------------------------------------------------------------------------------

struct known_option {
    int level;
    int name;
};

// In the order of sim_option; what follows its names is accepted, remembered, and changes nothing.
static constexpr known_option known_options[] = {
    {SOL_SOCKET, SO_REUSEADDR},
    {SOL_SOCKET, SO_REUSEPORT},
    {IPPROTO_IPV6, IPV6_V6ONLY},
    {SOL_SOCKET, SO_BROADCAST},
    {IPPROTO_IP, IP_PKTINFO},
    {IPPROTO_IPV6, IPV6_RECVPKTINFO},
    {IPPROTO_IP, IP_RECVTOS},
    {IPPROTO_IPV6, IPV6_RECVTCLASS},
    {SOL_SOCKET, SO_TIMESTAMPNS},
    {SOL_SOCKET, SO_KEEPALIVE},
    {SOL_SOCKET, SO_SNDBUF},
    {SOL_SOCKET, SO_RCVBUF},
    {SOL_SOCKET, SO_OOBINLINE},
    {SOL_SOCKET, SO_PRIORITY},
    {SOL_SOCKET, SO_MARK},
    {SOL_SOCKET, SO_BUSY_POLL},
    {SOL_SOCKET, SO_INCOMING_CPU},
    {SOL_SOCKET, SO_ZEROCOPY},
    {IPPROTO_IP, IP_TOS},
    {IPPROTO_IP, IP_TTL},
    {IPPROTO_IP, IP_FREEBIND},
    {IPPROTO_IP, IP_TRANSPARENT},
    {IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT},
    {IPPROTO_IPV6, IPV6_TCLASS},
    {IPPROTO_IPV6, IPV6_UNICAST_HOPS},
    {IPPROTO_TCP, TCP_NODELAY},
    {IPPROTO_TCP, TCP_CORK},
    {IPPROTO_TCP, TCP_QUICKACK},
    {IPPROTO_TCP, TCP_KEEPIDLE},
    {IPPROTO_TCP, TCP_KEEPINTVL},
    {IPPROTO_TCP, TCP_KEEPCNT},
    {IPPROTO_TCP, TCP_SYNCNT},
    {IPPROTO_TCP, TCP_MAXSEG},
    {IPPROTO_TCP, TCP_USER_TIMEOUT},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT},
    {IPPROTO_TCP, TCP_DEFER_ACCEPT},
    {IPPROTO_TCP, TCP_FASTOPEN},
    {IPPROTO_TCP, TCP_FASTOPEN_CONNECT},
    {SOL_SOCKET, SO_TIMESTAMP},
};
static_assert(sizeof known_options / sizeof known_options[0] == SIM_OPTIONS, "a place for each option");

static int option_find(const sim_socket *s, int level, int name) {
    if (level == IPPROTO_IPV6 && s->domain != AF_INET6) return -ENOPROTOOPT;
    if (level != SOL_SOCKET && s->domain == AF_UNIX) return -EOPNOTSUPP;
    for (unsigned i = 0; i < SIM_OPTIONS; i++)
        if (known_options[i].level == level && known_options[i].name == name) return static_cast<int>(i);
    return -ENOPROTOOPT;
}

static int option_out(const void *from, size_t size, void *value, socklen_t *len) {
    if (value == nullptr || len == nullptr) return -EFAULT;
    if (*len > size) *len = static_cast<socklen_t>(size);
    memcpy(value, from, *len);
    return 0;
}

static int option_of_socket(sim_socket *s, int name) {
    switch (name) {
    case SO_ERROR: {
        const int error = -s->error;
        s->error = 0;
        return error;
    }
    case SO_TYPE: return s->datagram ? SOCK_DGRAM : s->records ? SOCK_SEQPACKET : SOCK_STREAM;
    case SO_ACCEPTCONN: return s->state == sim_state::listening;
    case SO_DOMAIN: return s->domain;
    case SO_PROTOCOL: return s->domain == AF_UNIX ? 0 : s->datagram ? IPPROTO_UDP : IPPROTO_TCP;
    default: return -1;
    }
}

// Who is at the other end: a node, as a process and a user of its own.
constexpr int NODE_USERS = 1000;

static int peer_out(const sim_socket *s, void *value, socklen_t *len) {
    if (s->domain != AF_UNIX) return -ENOPROTOOPT;
    if (s->peer == nullptr) return -ENOTCONN;
    const int node = s->peer->node < 0 ? 0 : s->peer->node;
    const int32_t peer[3] = {node + 1, NODE_USERS + node, NODE_USERS + node}; // pid, uid, gid: struct ucred
    return option_out(peer, sizeof peer, value, len);
}

static int sim_sys_getsockopt(int fd, int level, int name, void *value, socklen_t *len) {
    sim_socket *s = socket_of(fd);
    if (s == nullptr) return -EBADF;
    if (level == SOL_SOCKET && name == SO_LINGER) return option_out(s->linger, sizeof s->linger, value, len);
#ifdef SO_PEERCRED
    if (level == SOL_SOCKET && name == SO_PEERCRED) return peer_out(s, value, len);
#else
    (void)peer_out;
#endif
    const int answer = level == SOL_SOCKET ? option_of_socket(s, name) : -1;
    if (answer >= 0) return option_out(&answer, sizeof answer, value, len);
    const int i = option_find(s, level, name);
    return i < 0 ? i : option_out(&s->options[i], sizeof s->options[i], value, len);
}

static int sim_sys_setsockopt(int fd, int level, int name, const void *value, socklen_t len) {
    sim_socket *s = socket_of(fd);
    if (s == nullptr) return -EBADF;
    if (level == SOL_SOCKET && name == SO_LINGER) {
        if (len < sizeof s->linger || value == nullptr) return -EINVAL;
        memcpy(s->linger, value, sizeof s->linger);
        return 0;
    }
    const int i = option_find(s, level, name);
    if (i < 0) return i;
    if (len < sizeof s->options[i] || value == nullptr) return -EINVAL;
    if (i == SIM_V6ONLY && s->bound) return -EINVAL;
    memcpy(&s->options[i], value, sizeof s->options[i]);
    return 0;
}
static_assert(sizeof(struct linger) == 2 * sizeof(int32_t), "linger is two numbers");

// --- bytes ----------------------------------------------------------------------------------------------------------

static ssize_t sim_sys_recvmsg(int fd, struct msghdr *message, int flags) {
    sim_socket *s = socket_of(fd);
    if (s == nullptr) return -EBADF;
    if ((flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL | MSG_PEEK | MSG_CMSG_CLOEXEC)) != 0) return -EOPNOTSUPP;
    if (s->datagram) return (flags & MSG_PEEK) != 0 ? -EOPNOTSUPP : static_cast<ssize_t>(sim_datagram_receive(s, message));
    const auto n = static_cast<unsigned>(message->msg_iovlen);
    const int64_t result = sim_socket_receive(s, message->msg_iov, n, (flags & MSG_PEEK) != 0);
    if (result >= 0) {
        message->msg_flags = 0;
        message->msg_namelen = 0;
        message->msg_controllen = 0;
    }
    return static_cast<ssize_t>(result);
}

static ssize_t sim_sys_recv(int fd, void *to, size_t n, int flags) {
    struct iovec iov = {to, n};
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = &iov;
    message.msg_iovlen = 1;
    return sim_sys_recvmsg(fd, &message, flags);
}

static ssize_t sim_sys_sendmsg(int fd, const struct msghdr *message, int flags) {
    sim_socket *s = socket_of(fd);
    if (s == nullptr) return -EBADF;
    if ((flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE | MSG_WAITALL)) != 0) return -EOPNOTSUPP;
    if (s->datagram) return static_cast<ssize_t>(sim_datagram_send(s, message));
    return static_cast<ssize_t>(sim_socket_send(s, message->msg_iov, static_cast<unsigned>(message->msg_iovlen)));
}

static ssize_t sim_sys_send(int fd, const void *from, size_t n, int flags) {
    struct iovec iov = {const_cast<void *>(from), n};
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = &iov;
    message.msg_iovlen = 1;
    return sim_sys_sendmsg(fd, &message, flags);
}

static ssize_t sim_sys_sendfile(int, int, int64_t, size_t) { return -ENOSYS; }
static ssize_t sim_sys_splice(int, int, size_t, bool) { return -ENOSYS; }
static int sim_sys_recvmmsg(int fd, struct sys_message *messages, unsigned n, int) {
    sim_socket *s = socket_of(fd);
    if (s == nullptr) return -EBADF;
    return s->datagram ? sim_datagrams_receive(s, messages, n) : -EOPNOTSUPP;
}

static int sim_sys_sendmmsg(int fd, struct sys_message *messages, unsigned n, int) {
    sim_socket *s = socket_of(fd);
    if (s == nullptr) return -EBADF;
    return s->datagram ? sim_datagrams_send(s, messages, n) : -EOPNOTSUPP;
}

static ssize_t sim_sys_read(int fd, void *to, size_t n) { return sim_sys_recv(fd, to, n, 0); }
static ssize_t sim_sys_write(int fd, const void *from, size_t n) { return sim_sys_send(fd, from, n, 0); }

// --- names, and files that there are none of ------------------------------------------------------------------------

static int sim_sys_open(const char *, int, unsigned) { return -ENOTSUP; }
static int sim_sys_unlink(const char *path) { return sim_name_unlink(path); }
static int sim_sys_chmod(const char *path, unsigned) { return sim_name_exists(path) ? 0 : -ENOENT; }
static int sim_sys_lstat_mode(const char *path) { return sim_name_exists(path) ? static_cast<int>(S_IFSOCK | 0777u) : -ENOENT; }

static int sim_sys_facts(int fd, struct fd_facts *out) {
    sim_world *w = sim_world_here();
    if (w != nullptr && sim_is_file(fd)) return sim_file_facts(w, fd, out);
    const sim_socket *s = socket_of(fd);
    if (s == nullptr) return -EBADF;
    const int access = !s->pipe ? O_RDWR : s->shut_read ? O_WRONLY : O_RDONLY;
    *out = fd_facts{s->pipe ? S_IFIFO | 0600u : S_IFSOCK | 0777u, access | O_NONBLOCK, false, 0};
    return 0;
}

static int sim_sys_reopen(int) { return -ENOTSUP; }
static int sim_sys_set_status(int fd, int) { return socket_of(fd) == nullptr ? -EBADF : 0; }
static ssize_t sim_sys_read_nowait(int fd, void *to, size_t n) { return sim_sys_recv(fd, to, n, 0); }
static ssize_t sim_sys_write_quiet(int fd, const struct iovec *pieces, unsigned n, bool) {
    sim_socket *s = socket_of(fd);
    return s == nullptr ? -EBADF : static_cast<ssize_t>(sim_socket_send(s, pieces, n));
}
static int sim_sys_tty_get(int, struct termios *) { return -ENOTTY; }
static int sim_sys_tty_set(int, const struct termios *) { return -ENOTTY; }
static int sim_sys_tty_size(int, struct winsize *) { return -ENOTTY; }

static int sim_sys_socketpair(int domain, int type, int protocol, int fds[2]) {
    sim_world *w = sim_world_here();
    if (w == nullptr) return -EPERM;
    const int kind = type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (domain != AF_UNIX) return -EOPNOTSUPP;
    if (kind == SOCK_DGRAM) return -EAFNOSUPPORT; // a world has none
    if ((kind != SOCK_STREAM && kind != SOCK_SEQPACKET) || protocol != 0) return -EPROTONOSUPPORT;
    const int failed = sim_call_fails(w, MIO_SIM_CALL_SOCKET, nullptr, nullptr);
    return failed < 0 ? failed : sim_pair(w, kind == SOCK_SEQPACKET, false, fds);
}

static int sim_sys_pipe_cloexec(int fds[2]) {
    sim_world *w = sim_world_here();
    return w == nullptr ? -EPERM : sim_pair(w, false, true, fds);
}

// --- what a world does not have -------------------------------------------------------------------------------------

static const char *sim_sys_environment(const char *) { return nullptr; }
static int sim_sys_eventfd(unsigned, int) { return -ENOSYS; }
// Nothing waits here, whatever the time-out: what is so now.
static int sim_sys_poll_one(int fd, short events, int) {
    const sim_socket *s = socket_of(fd);
    if (s == nullptr) return POLLNVAL;
    const uint32_t seen = sim_socket_poll(s);
    const uint32_t always = seen & (MIO_POLL_ERR | MIO_POLL_HUP);
    return (poll_to_system(seen) & events) | ((always & MIO_POLL_ERR) != 0 ? POLLERR : 0) |
           ((always & MIO_POLL_HUP) != 0 ? POLLHUP : 0);
}
static int sim_sys_epoll_create1(int) { return -ENOSYS; }
static int sim_sys_epoll_ctl(int, int, int, struct epoll_event *) { return -ENOSYS; }
static int sim_sys_epoll_wait_ns(int, struct epoll_event *, int, int64_t) { return -ENOSYS; }

static void *sim_map_fd(int, size_t, int64_t) { return nullptr; }
static int sim_sys_uring_setup(unsigned, struct io_uring_params *) { return -ENOSYS; }
static int sim_sys_uring_enter(int, unsigned, unsigned, unsigned, const void *, size_t) { return -ENOSYS; }
static int sim_sys_uring_register(int, unsigned, void *, unsigned) { return -ENOSYS; }
static int sim_sys_notify_open() { return -ENOSYS; }
static int sim_sys_notify_add(int, const char *, uint32_t) { return -ENOSYS; }
static int sim_sys_notify_remove(int, int) { return -ENOSYS; }
static ssize_t sim_sys_notify_read(int, void *, size_t) { return -ENOSYS; }
static int sim_sys_kqueue() { return -ENOSYS; }
static int sim_sys_kevent(int, const struct kevent *, int, struct kevent *, int, int64_t) { return -ENOSYS; }

static int sim_sys_thread_start(pthread_t *, void *(*)(void *), void *) { return -ENOSYS; }
static int sim_sys_spawn(const struct spawn_plan *) { return -ENOSYS; }
static int sim_sys_pidfd_open(int) { return -ENOSYS; }
static int sim_sys_child_wait(int, int, struct spawn_end *) { return -ENOSYS; }
static int sim_sys_child_kill(int, int, int) { return -ENOSYS; }
static int sim_sys_sigaction(int, const struct sigaction *, struct sigaction *) { return -ENOSYS; }
static int sim_sys_thread_sigmask(int, const sigset_t *, sigset_t *) { return -ENOSYS; }

const sys sys_sim = {
    sim_alloc,
    sim_resize,
    sim_release,
    sim_map,
    sim_unmap,
    sim_map_wipe_on_fork,
    sim_map_shared,
    sim_map_fd,
    sim_monotonic_ns,
    sim_sys_thread_start,
    sim_sys_environment,
    sim_getaddrinfo,
    sim_freeaddrinfo,
    sim_getnameinfo,
    sim_sys_socket,
    sim_sys_socketpair,
    sim_sys_bind,
    sim_sys_listen,
    sim_sys_connect,
    sim_sys_accept4,
    sim_sys_shutdown,
    sim_sys_close,
    sim_sys_getsockname,
    sim_sys_getpeername,
    sim_sys_getsockopt,
    sim_sys_setsockopt,
    sim_sys_dup_cloexec,
    sim_sys_set_cloexec,
    sim_sys_set_nonblocking,
    sim_sys_recv,
    sim_sys_recvmsg,
    sim_sys_send,
    sim_sys_sendmsg,
    sim_sys_recvmmsg,
    sim_sys_sendmmsg,
    sim_sys_sendfile,
    sim_sys_splice,
    sim_sys_read,
    sim_sys_write,
    sim_sys_open,
    sim_sys_unlink,
    sim_sys_chmod,
    sim_sys_lstat_mode,
    sim_sys_facts,
    sim_sys_reopen,
    sim_sys_set_status,
    sim_sys_read_nowait,
    sim_sys_write_quiet,
    sim_sys_tty_get,
    sim_sys_tty_set,
    sim_sys_tty_size,
    sim_sys_eventfd,
    sim_sys_pipe_cloexec,
    sim_sys_poll_one,
    sim_sys_epoll_create1,
    sim_sys_epoll_ctl,
    sim_sys_epoll_wait_ns,
    sim_sys_uring_setup,
    sim_sys_uring_enter,
    sim_sys_uring_register,
    sim_sys_notify_open,
    sim_sys_notify_add,
    sim_sys_notify_remove,
    sim_sys_notify_read,
    sim_sys_kqueue,
    sim_sys_kevent,
    sim_sys_sigaction,
    sim_sys_thread_sigmask,
    sim_sys_spawn,
    sim_sys_pidfd_open,
    sim_sys_child_wait,
    sim_sys_child_kill,
    &sys_files_sim,
};

}
