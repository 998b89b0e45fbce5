// The calls of the scripted table. A call looks for its result under the lock, then acts it out without it, so that
// effects may push more and call anything; then it is logged.
#include "support/scripted_inside.h"

#include <errno.h>
#include <signal.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace test {

[[noreturn]] static void script_broken(const char *what, call which, int fd) {
    fprintf(stderr, "scripted: %s: %s on descriptor %d; the calls so far:\n", what, call_name(which), fd);
    scripted_print_log();
    abort();
}

// --- being called ---------------------------------------------------------------------------------------------------

// Counts; the oldest result meant for this call, now the caller's to free, or nullptr.
static queued *begin(call which, int fd) {
    pthread_mutex_lock(&script_lock);
    the_script.counts[static_cast<unsigned>(which)]++;
    queued *before = nullptr;
    queued *q = the_script.head;
    while (q != nullptr && (q->which != which || (q->fd != ANY_FD && q->fd != fd))) {
        before = q;
        q = q->next;
    }
    if (q != nullptr) {
        if (before == nullptr) the_script.head = q->next;
        else before->next = q->next;
        if (the_script.tail == q) the_script.tail = before;
        the_script.now_ns += q->result.takes_ns;
    }
    pthread_mutex_unlock(&script_lock);
    return q;
}

static int64_t end(call which, int fd, int64_t a, int64_t b, int64_t c, queued *q, int64_t value) {
    if (q != nullptr) {
        if (q->result.effect != nullptr) q->result.effect(q->result.arg);
        free(q);
    }
    pthread_mutex_lock(&script_lock);
    if (the_script.log_size < LOG_MOST)
        the_script.log[the_script.log_size++] = scripted_call{which, fd, {a, b, c}, value};
    pthread_mutex_unlock(&script_lock);
    return value;
}

static int simple(call which, int fd, int64_t a = 0, int64_t b = 0, int64_t c = 0) {
    queued *q = begin(which, fd);
    return static_cast<int>(end(which, fd, a, b, c, q, q != nullptr ? q->result.value : 0));
}

static int fd_new() {
    pthread_mutex_lock(&script_lock);
    if (the_script.fds == FDS_MOST) abort();
    const int fd = SCRIPTED_FD_FIRST + the_script.fds;
    the_script.fd_open[the_script.fds++] = true;
    pthread_mutex_unlock(&script_lock);
    return fd;
}

// One that gives a descriptor: the script's number, an error, or a new one.
static int gives_fd(call which, int fd, int64_t otherwise, int64_t a = 0, int64_t b = 0, int64_t c = 0) {
    queued *q = begin(which, fd);
    const int64_t value = q != nullptr ? q->result.value : otherwise != 0 ? otherwise : fd_new();
    return static_cast<int>(end(which, fd, a, b, c, q, value));
}

static void *gives_memory(call which, void *(*make)(void *ptr, size_t size), void *ptr, size_t size) {
    queued *q = begin(which, -1);
    const bool fails = q != nullptr && q->result.value == 0;
    if (q != nullptr && q->result.effect != nullptr) q->result.effect(q->result.arg);
    free(q);
    if (fails) return nullptr;
    void *got = make(ptr, size);
    if (got != nullptr && ptr == nullptr) __atomic_fetch_add(&the_script.alive, 1, __ATOMIC_RELAXED);
    return got;
}

static void takes_memory(call which, void *ptr) {
    free(begin(which, -1));
    if (ptr != nullptr) __atomic_fetch_sub(&the_script.alive, 1, __ATOMIC_RELAXED);
    free(ptr);
}

static void *make_plain(void *ptr, size_t size) { return realloc(ptr, size); }
static void *make_pages(void *, size_t size) {
    void *at = aligned_alloc(4096, size);
    if (at != nullptr) memset(at, 0, size);
    return at;
}

static void *scripted_alloc(size_t size) { return gives_memory(call::alloc, make_plain, nullptr, size); }
static void *scripted_resize(void *ptr, size_t, size_t new_size) {
    return gives_memory(call::resize, make_plain, ptr, new_size);
}
static void scripted_release(void *ptr, size_t) { takes_memory(call::release, ptr); }
static void *scripted_map(size_t size) { return gives_memory(call::map, make_pages, nullptr, size); }
static void scripted_unmap(void *ptr, size_t) { takes_memory(call::unmap, ptr); }
static void *scripted_map_wipe_on_fork(size_t size) {
    return gives_memory(call::map_wipe_on_fork, make_pages, nullptr, size);
}

static void *scripted_map_shared(size_t size) { return gives_memory(call::map_shared, make_pages, nullptr, size); }
static void *scripted_map_fd(int, size_t size, int64_t) {
    return gives_memory(call::map_fd, make_pages, nullptr, (size + 4095) & ~static_cast<size_t>(4095));
}

static int64_t scripted_monotonic_ns() {
    queued *q = begin(call::monotonic_ns, -1);
    const int64_t now_ns = q != nullptr && q->result.value != 0 ? q->result.value : scripted_now_ns();
    if (q != nullptr && q->result.effect != nullptr) q->result.effect(q->result.arg);
    free(q);
    return now_ns;
}

static int scripted_socket(int domain, int type, int protocol) {
    return gives_fd(call::socket, -1, 0, domain, type, protocol);
}
static int scripted_socketpair(int domain, int type, int protocol, int fds[2]) {
    fds[0] = gives_fd(call::socketpair, -1, 0, domain, type, protocol);
    if (fds[0] < 0) return fds[0];
    fds[1] = gives_fd(call::socketpair, -1, 0, domain, type, protocol);
    return 0;
}
static int scripted_bind(int fd, const struct sockaddr *addr, socklen_t len) {
    return simple(call::bind, fd, addr->sa_family, len);
}
static int scripted_listen(int fd, int backlog) { return simple(call::listen, fd, backlog); }
static int scripted_connect(int fd, const struct sockaddr *addr, socklen_t len) {
    return simple(call::connect, fd, addr->sa_family, len);
}

static void fill_addr(const queued *q, int fd, struct sockaddr *addr, socklen_t *len) {
    if (addr == nullptr || len == nullptr) return;
    struct sockaddr_in loopback = {};
    loopback.sin_family = AF_INET;
    loopback.sin_port = htons(static_cast<uint16_t>(fd));
    loopback.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const void *from = &loopback;
    socklen_t n = sizeof(loopback);
    if (q != nullptr && q->result.addr != nullptr) {
        from = q->result.addr;
        n = q->result.addr_len;
    }
    memcpy(addr, from, n < *len ? n : *len);
    *len = n;
}

static int scripted_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags) {
    queued *q = begin(call::accept4, fd);
    const int64_t value = q != nullptr ? q->result.value : -EAGAIN;
    if (value >= 0) fill_addr(q, fd, addr, len);
    return static_cast<int>(end(call::accept4, fd, flags, 0, 0, q, value));
}
static int scripted_shutdown(int fd, int how) { return simple(call::shutdown, fd, how); }

static int scripted_close_fd(int fd) {
    queued *q = begin(call::close, fd);
    int64_t value = q != nullptr ? q->result.value : 0;
    pthread_mutex_lock(&script_lock);
    const int at = fd - SCRIPTED_FD_FIRST;
    if (at >= 0 && at < the_script.fds) {
        if (!the_script.fd_open[at]) value = -EBADF;
        the_script.fd_open[at] = false;
    }
    pthread_mutex_unlock(&script_lock);
    return static_cast<int>(end(call::close, fd, 0, 0, 0, q, value));
}

static int gives_addr(call which, int fd, struct sockaddr *addr, socklen_t *len) {
    queued *q = begin(which, fd);
    const int64_t value = q != nullptr ? q->result.value : 0;
    if (value >= 0) fill_addr(q, fd, addr, len);
    return static_cast<int>(end(which, fd, 0, 0, 0, q, value));
}
static int scripted_getsockname(int fd, struct sockaddr *addr, socklen_t *len) {
    return gives_addr(call::getsockname, fd, addr, len);
}
static int scripted_getpeername(int fd, struct sockaddr *addr, socklen_t *len) {
    return gives_addr(call::getpeername, fd, addr, len);
}

static int scripted_getsockopt(int fd, int level, int name, void *value, socklen_t *len) {
    queued *q = begin(call::getsockopt, fd);
    const int64_t result = q != nullptr ? q->result.value : 0;
    if (result >= 0) {
        memset(value, 0, *len);
        if (q != nullptr && q->result.data != nullptr)
            memcpy(value, q->result.data, q->result.size < *len ? q->result.size : *len);
    }
    return static_cast<int>(end(call::getsockopt, fd, level, name, 0, q, q != nullptr && result > 0 ? 0 : result));
}
static int scripted_setsockopt(int fd, int level, int name, const void *value, socklen_t len) {
    int number = 0;
    memcpy(&number, value, len < sizeof(number) ? len : sizeof(number));
    return simple(call::setsockopt, fd, level, name, number);
}
static int scripted_dup_cloexec(int fd) { return gives_fd(call::dup_cloexec, fd, 0); }
static int scripted_set_cloexec(int fd) { return simple(call::set_cloexec, fd); }
static int scripted_set_nonblocking(int fd) { return simple(call::set_nonblocking, fd); }

static size_t pieces_size(const struct iovec *pieces, size_t n) {
    size_t size = 0;
    for (size_t i = 0; i < n; i++) size += pieces[i].iov_len;
    return size;
}

static void pieces_fill(const struct iovec *pieces, size_t n, const char *from, size_t size) {
    for (size_t i = 0; i < n && size > 0; i++) {
        const size_t part = size < pieces[i].iov_len ? size : pieces[i].iov_len;
        memcpy(pieces[i].iov_base, from, part);
        from += part;
        size -= part;
    }
}

static ssize_t receives(call which, int fd, const struct iovec *pieces, size_t n, struct msghdr *message, int flags) {
    queued *q = begin(which, fd);
    int64_t value = q != nullptr ? q->result.value : -EAGAIN;
    const size_t room = pieces_size(pieces, n);
    if (value > 0 && static_cast<size_t>(value) > room) {
        // More than there is room for: the rest comes with the next call, as from a kernel.
        if (q->result.data != nullptr) {
            scripted_result rest = q->result;
            rest.value -= static_cast<int64_t>(room);
            rest.data = static_cast<const char *>(rest.data) + room;
            rest.size -= room;
            rest.effect = nullptr;
            result_push(which, fd, &rest, true);
        }
        value = static_cast<int64_t>(room);
    }
    if (value > 0 && q->result.data != nullptr)
        pieces_fill(pieces, n, static_cast<const char *>(q->result.data), static_cast<size_t>(value));
    if (message != nullptr && value >= 0) {
        message->msg_flags = q->result.message_flags;
        size_t control = q->result.control_size;
        if (control > message->msg_controllen) control = message->msg_controllen;
        if (control > 0) memcpy(message->msg_control, q->result.control, control);
        message->msg_controllen = control;
    }
    return static_cast<ssize_t>(end(which, fd, static_cast<int64_t>(room), flags, 0, q, value));
}

static ssize_t scripted_recv(int fd, void *to, size_t n, int flags) {
    const struct iovec piece = {to, n};
    return receives(call::recv, fd, &piece, 1, nullptr, flags);
}
static ssize_t scripted_recvmsg(int fd, struct msghdr *message, int flags) {
    return receives(call::recvmsg, fd, message->msg_iov, message->msg_iovlen, message, flags);
}
static ssize_t scripted_read(int fd, void *to, size_t n) {
    const struct iovec piece = {to, n};
    return receives(call::read, fd, &piece, 1, nullptr, 0);
}

static void sent_add(int fd, const struct iovec *pieces, size_t n, size_t size) {
    pthread_mutex_lock(&script_lock);
    sent_bytes *of = the_script.sent;
    while (of != nullptr && of->fd != fd) of = of->next;
    if (of == nullptr) {
        of = static_cast<sent_bytes *>(calloc(1, sizeof(sent_bytes)));
        if (of == nullptr) abort();
        of->fd = fd;
        of->next = the_script.sent;
        the_script.sent = of;
    }
    char *grown = static_cast<char *>(realloc(of->bytes, of->n + size + 1));
    if (grown == nullptr) abort();
    of->bytes = grown;
    for (size_t i = 0; i < n && size > 0; i++) {
        const size_t part = size < pieces[i].iov_len ? size : pieces[i].iov_len;
        memcpy(of->bytes + of->n, pieces[i].iov_base, part);
        of->n += part;
        size -= part;
    }
    pthread_mutex_unlock(&script_lock);
}

static ssize_t sends(call which, int fd, const struct iovec *pieces, size_t n, int flags) {
    queued *q = begin(which, fd);
    const size_t size = pieces_size(pieces, n);
    int64_t value = q != nullptr ? q->result.value : static_cast<int64_t>(size);
    if (value > static_cast<int64_t>(size)) value = static_cast<int64_t>(size);
    if (value > 0) sent_add(fd, pieces, n, static_cast<size_t>(value));
    return static_cast<ssize_t>(end(which, fd, static_cast<int64_t>(size), flags, static_cast<int64_t>(n), q, value));
}

static ssize_t scripted_send(int fd, const void *from, size_t n, int flags) {
    const struct iovec piece = {const_cast<void *>(from), n};
    return sends(call::send, fd, &piece, 1, flags);
}
static ssize_t scripted_sendmsg(int fd, const struct msghdr *message, int flags) {
    return sends(call::sendmsg, fd, message->msg_iov, message->msg_iovlen, flags);
}
// The first only: what is behind it comes with the next call.
static int scripted_recvmmsg(int fd, struct mio::sys_message *messages, unsigned, int flags) {
    struct msghdr *message = &messages->head;
    const ssize_t got = receives(call::recvmmsg, fd, message->msg_iov, message->msg_iovlen, message, flags);
    if (got < 0) return static_cast<int>(got);
    messages->len = static_cast<unsigned>(got);
    message->msg_namelen = 0;
    return 1;
}
static int scripted_sendmmsg(int fd, struct mio::sys_message *messages, unsigned n, int flags) {
    for (unsigned i = 0; i < n; i++) {
        const ssize_t sent = sends(call::sendmmsg, fd, messages[i].head.msg_iov, messages[i].head.msg_iovlen, flags);
        if (sent < 0) return i != 0 ? static_cast<int>(i) : static_cast<int>(sent);
        messages[i].len = static_cast<unsigned>(sent);
    }
    return static_cast<int>(n);
}
static ssize_t scripted_sendfile(int to, int, int64_t offset, size_t n) {
    return simple(call::sendfile, to, offset, static_cast<int64_t>(n));
}
static ssize_t scripted_splice(int from, int to, size_t n, bool) {
    return simple(call::splice, from, to, static_cast<int64_t>(n));
}
static ssize_t scripted_write(int fd, const void *from, size_t n) {
    const struct iovec piece = {const_cast<void *>(from), n};
    return sends(call::write, fd, &piece, 1, 0);
}


static int scripted_open(const char *, int flags, unsigned mode) { return gives_fd(call::open, -1, 0, flags, mode); }
static int scripted_unlink(const char *) { return simple(call::unlink, -1); }
static int scripted_chmod(const char *, unsigned mode) { return simple(call::chmod, -1, mode); }
static int scripted_lstat_mode(const char *) { return simple(call::lstat_mode, -1); }
static int scripted_facts(int fd, struct mio::fd_facts *out) {
    *out = {};
    return simple(call::facts, fd);
}
static int scripted_reopen(int fd) { return gives_fd(call::reopen, fd, 0); }
static int scripted_set_status(int fd, int flags) { return simple(call::set_status, fd, flags); }
static ssize_t scripted_read_nowait(int fd, void *to, size_t n) {
    const struct iovec piece = {to, n};
    return receives(call::read_nowait, fd, &piece, 1, nullptr, 0);
}
static ssize_t scripted_write_quiet(int fd, const struct iovec *pieces, unsigned n, bool nowait) {
    return sends(call::write_quiet, fd, pieces, n, nowait ? 1 : 0);
}
static int scripted_tty_get(int fd, struct termios *) { return simple(call::tty_get, fd); }
static int scripted_tty_set(int fd, const struct termios *) { return simple(call::tty_set, fd); }
static int scripted_tty_size(int fd, struct winsize *) { return simple(call::tty_size, fd); }

static int scripted_eventfd(unsigned value, int flags) { return gives_fd(call::eventfd, -1, 0, value, flags); }
static int scripted_pipe_cloexec(int fds[2]) {
    fds[0] = gives_fd(call::pipe_cloexec, -1, 0);
    if (fds[0] < 0) return fds[0];
    fds[1] = gives_fd(call::pipe_cloexec, -1, 0);
    return 0;
}
static int scripted_poll_one(int fd, short events, int timeout_ms) {
    return simple(call::poll_one, fd, events, timeout_ms);
}
static int scripted_uring_setup(unsigned entries, struct io_uring_params *) {
    queued *q = begin(call::uring_setup, -1);
    const int64_t value = q != nullptr ? q->result.value : -ENOSYS;
    return static_cast<int>(end(call::uring_setup, -1, entries, 0, 0, q, value));
}
static int scripted_uring_enter(int fd, unsigned submit, unsigned wait, unsigned flags, const void *, size_t) {
    return simple(call::uring_enter, fd, submit, wait, flags);
}
static int scripted_uring_register(int fd, unsigned what, void *, unsigned n) {
    return simple(call::uring_register, fd, what, n);
}
static const char *scripted_environment(const char *name) {
    (void)simple(call::environment, -1);
    return mio::sys_real.environment(name);
}
static int scripted_notify_open() { return gives_fd(call::notify_open, -1, 0); }
static int scripted_notify_add(int fd, const char *, uint32_t mask) { return simple(call::notify_add, fd, mask); }
static int scripted_notify_remove(int fd, int id) { return simple(call::notify_remove, fd, id); }
static ssize_t scripted_notify_read(int fd, void *, size_t n) {
    return simple(call::notify_read, fd, static_cast<int64_t>(n));
}
static int scripted_kqueue() { return gives_fd(call::kqueue, -1, 0); }
static int scripted_kevent(int kq, const struct kevent *, int n, struct kevent *, int max, int64_t timeout_ns) {
    return simple(call::kevent, kq, n, max, timeout_ns);
}
// The script's error, or the real thing: what runs in it calls this table from another thread.
static int scripted_thread_start(pthread_t *thread, void *(*run)(void *), void *arg) {
    const int result = simple(call::thread_start, -1);
    return result < 0 ? result : mio::sys_real.thread_start(thread, run, arg);
}
static int scripted_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                                struct addrinfo **out) {
    const int result = simple(call::getaddrinfo, -1);
    return result < 0 ? result : mio::sys_real.getaddrinfo(host, service, hints, out);
}
static void scripted_freeaddrinfo(struct addrinfo *list) {
    (void)simple(call::freeaddrinfo, -1);
    mio::sys_real.freeaddrinfo(list);
}
static int scripted_getnameinfo(const struct sockaddr *addr, socklen_t len, char *host, size_t host_size, char *service,
                                size_t service_size, int flags) {
    const int result = simple(call::getnameinfo, -1);
    return result < 0 ? result : mio::sys_real.getnameinfo(addr, len, host, host_size, service, service_size, flags);
}
static int scripted_spawn(const struct mio::spawn_plan *) {
    queued *q = begin(call::spawn, -1);
    return static_cast<int>(end(call::spawn, -1, 0, 0, 0, q, q != nullptr ? q->result.value : -EAGAIN));
}
static int scripted_pidfd_open(int pid) { return gives_fd(call::pidfd_open, -1, -ENOSYS, pid); }
static int scripted_child_wait(int pid, int pidfd, struct mio::spawn_end *) {
    return simple(call::child_wait, pidfd, pid);
}
static int scripted_child_kill(int pid, int pidfd, int number) {
    return simple(call::child_kill, pidfd, pid, number);
}
static int scripted_sigaction(int number, const struct sigaction *action, struct sigaction *before) {
    if (before != nullptr) *before = {};
    return simple(call::sigaction, -1, number, action != nullptr);
}
static int scripted_thread_sigmask(int how, const sigset_t *, sigset_t *before) {
    if (before != nullptr) sigemptyset(before);
    return simple(call::thread_sigmask, -1, how);
}
static int scripted_epoll_create1(int flags) { return gives_fd(call::epoll_create1, -1, 0, flags); }
static int scripted_epoll_ctl(int epfd, int what, int fd, struct epoll_event *event) {
    return simple(call::epoll_ctl, epfd, what, fd, event != nullptr ? event->events : 0);
}

static int scripted_epoll_wait_ns(int epfd, struct epoll_event *events, int max, int64_t timeout_ns) {
    queued *q = begin(call::epoll_wait_ns, epfd);
    int64_t value = 0;
    if (q != nullptr) {
        value = q->result.value;
        if (value > max) script_broken("more events than were asked for", call::epoll_wait_ns, epfd);
        if (value > 0) memcpy(events, q->result.data, static_cast<size_t>(value) * sizeof(*events));
    } else if (timeout_ns < 0) {
        script_broken("would wait for ever", call::epoll_wait_ns, epfd);
    } else {
        pthread_mutex_lock(&script_lock);
        the_script.now_ns += timeout_ns;
        pthread_mutex_unlock(&script_lock);
    }
    return static_cast<int>(end(call::epoll_wait_ns, epfd, max, timeout_ns, 0, q, value));
}

// --- the table ------------------------------------------------------------------------------------------------------

void scripted_fill(mio::sys *table) {
    table->alloc = scripted_alloc;
    table->resize = scripted_resize;
    table->release = scripted_release;
    table->map = scripted_map;
    table->unmap = scripted_unmap;
    table->map_wipe_on_fork = scripted_map_wipe_on_fork;
    table->map_shared = scripted_map_shared;
    table->map_fd = scripted_map_fd;
    table->monotonic_ns = scripted_monotonic_ns;
    table->socket = scripted_socket;
    table->socketpair = scripted_socketpair;
    table->bind = scripted_bind;
    table->listen = scripted_listen;
    table->connect = scripted_connect;
    table->accept4 = scripted_accept4;
    table->shutdown = scripted_shutdown;
    table->close = scripted_close_fd;
    table->getsockname = scripted_getsockname;
    table->getpeername = scripted_getpeername;
    table->getsockopt = scripted_getsockopt;
    table->setsockopt = scripted_setsockopt;
    table->dup_cloexec = scripted_dup_cloexec;
    table->set_cloexec = scripted_set_cloexec;
    table->set_nonblocking = scripted_set_nonblocking;
    table->recv = scripted_recv;
    table->recvmsg = scripted_recvmsg;
    table->send = scripted_send;
    table->sendmsg = scripted_sendmsg;
    table->recvmmsg = scripted_recvmmsg;
    table->sendmmsg = scripted_sendmmsg;
    table->sendfile = scripted_sendfile;
    table->splice = scripted_splice;
    table->read = scripted_read;
    table->write = scripted_write;
    table->open = scripted_open;
    table->unlink = scripted_unlink;
    table->chmod = scripted_chmod;
    table->lstat_mode = scripted_lstat_mode;
    table->facts = scripted_facts;
    table->reopen = scripted_reopen;
    table->set_status = scripted_set_status;
    table->read_nowait = scripted_read_nowait;
    table->write_quiet = scripted_write_quiet;
    table->tty_get = scripted_tty_get;
    table->tty_set = scripted_tty_set;
    table->tty_size = scripted_tty_size;
    table->eventfd = scripted_eventfd;
    table->pipe_cloexec = scripted_pipe_cloexec;
    table->poll_one = scripted_poll_one;
    table->epoll_create1 = scripted_epoll_create1;
    table->epoll_ctl = scripted_epoll_ctl;
    table->epoll_wait_ns = scripted_epoll_wait_ns;
    table->environment = scripted_environment;
    table->getaddrinfo = scripted_getaddrinfo;
    table->freeaddrinfo = scripted_freeaddrinfo;
    table->getnameinfo = scripted_getnameinfo;
    table->uring_setup = scripted_uring_setup;
    table->uring_enter = scripted_uring_enter;
    table->uring_register = scripted_uring_register;
    table->notify_open = scripted_notify_open;
    table->notify_add = scripted_notify_add;
    table->notify_remove = scripted_notify_remove;
    table->notify_read = scripted_notify_read;
    table->kqueue = scripted_kqueue;
    table->kevent = scripted_kevent;
    table->sigaction = scripted_sigaction;
    table->thread_sigmask = scripted_thread_sigmask;
    table->thread_start = scripted_thread_start;
    table->spawn = scripted_spawn;
    table->pidfd_open = scripted_pidfd_open;
    table->child_wait = scripted_child_wait;
    table->child_kill = scripted_child_kill;
}

}
