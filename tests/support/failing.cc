#include "support/failing.h"

#include "support/failing_files.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/epoll.h>

namespace test {

enum class plan : uint8_t { never, one, from, allocation, allocation_from, any };

struct failing_state {
    const mio::sys *base;
    mio::sys table;
    plan what;
    call which;
    uint64_t left; // calls of the plan's kind until the one that fails
    int error;
    bool happened;
    call failed;
    int64_t alive; // memory
    uint64_t counts[CALLS];
};

static failing_state state;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static bool plan_covers(call which) {
    switch (state.what) {
    case plan::never: return false;
    case plan::one:
    case plan::from: return which == state.which;
    case plan::allocation:
    case plan::allocation_from: return call_allocates(which);
    case plan::any: return call_can_fail(which);
    }
    return false;
}

// Counts; the error to fail with, or 0.
static int called(call which) {
    pthread_mutex_lock(&lock);
    state.counts[static_cast<unsigned>(which)]++;
    int error = 0;
    if (plan_covers(which)) {
        if (state.left > 0) state.left--;
        if (state.left == 0) {
            error = state.what == plan::any ? call_usual_error(which) : state.error;
            state.happened = true;
            state.failed = which;
            if (state.what != plan::from && state.what != plan::allocation_from) state.what = plan::never;
        }
    }
    pthread_mutex_unlock(&lock);
    return error;
}

static void *alive_add(void *ptr) {
    if (ptr != nullptr) __atomic_fetch_add(&state.alive, 1, __ATOMIC_RELAXED);
    return ptr;
}

static void alive_remove(const void *ptr) {
    if (ptr != nullptr) __atomic_fetch_sub(&state.alive, 1, __ATOMIC_RELEASE); // pairs with failing_alive
}

static void *failing_alloc(size_t size) {
    return called(call::alloc) != 0 ? nullptr : alive_add(state.base->alloc(size));
}
static void *failing_resize(void *ptr, size_t old_size, size_t new_size) {
    if (called(call::resize) != 0) return nullptr;
    void *grown = state.base->resize(ptr, old_size, new_size);
    return ptr == nullptr ? alive_add(grown) : grown;
}
static void failing_release(void *ptr, size_t size) {
    called(call::release);
    void (*release)(void *, size_t) = state.base->release; // a thread's last look at the state
    alive_remove(ptr);
    release(ptr, size);
}
static void *failing_map(size_t size) {
    return called(call::map) != 0 ? nullptr : alive_add(state.base->map(size));
}
static void failing_unmap(void *ptr, size_t size) {
    called(call::unmap);
    alive_remove(ptr);
    state.base->unmap(ptr, size);
}
static void *failing_map_wipe_on_fork(size_t size) {
    return called(call::map_wipe_on_fork) != 0 ? nullptr : alive_add(state.base->map_wipe_on_fork(size));
}
static void *failing_map_shared(size_t size) {
    return called(call::map_shared) != 0 ? nullptr : alive_add(state.base->map_shared(size));
}
static void *failing_map_fd(int fd, size_t size, int64_t offset) {
    return called(call::map_fd) != 0 ? nullptr : alive_add(state.base->map_fd(fd, size, offset));
}
static int64_t failing_monotonic_ns() {
    called(call::monotonic_ns);
    return state.base->monotonic_ns();
}
static int failing_close_fd(int fd) {
    const int error = called(call::close);
    const int result = state.base->close(fd);
    return error != 0 && result == 0 ? -error : result;
}

// One that returns -errno and has nothing of its own: FAILING(result, name, (parameters), (arguments)).
#define FAILING(result, name, parameters, arguments)                                                                  \
    static result failing_##name parameters {                                                                         \
        const int error = called(call::name);                                                                         \
        return error != 0 ? -error : state.base->name arguments;                                                      \
    }

FAILING(int, getaddrinfo,
        (const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **out),
        (host, service, hints, out))
static void failing_freeaddrinfo(struct addrinfo *list) {
    called(call::freeaddrinfo);
    state.base->freeaddrinfo(list);
}
FAILING(int, getnameinfo,
        (const struct sockaddr *addr, socklen_t len, char *host, size_t host_size, char *service, size_t service_size,
         int flags),
        (addr, len, host, host_size, service, service_size, flags))
static const char *failing_environment(const char *name) {
    called(call::environment);
    return state.base->environment(name);
}
FAILING(int, socket, (int domain, int type, int protocol), (domain, type, protocol))
FAILING(int, socketpair, (int domain, int type, int protocol, int fds[2]), (domain, type, protocol, fds))
FAILING(int, bind, (int fd, const struct sockaddr *addr, socklen_t len), (fd, addr, len))
FAILING(int, listen, (int fd, int backlog), (fd, backlog))
FAILING(int, connect, (int fd, const struct sockaddr *addr, socklen_t len), (fd, addr, len))
FAILING(int, accept4, (int fd, struct sockaddr *addr, socklen_t *len, int flags), (fd, addr, len, flags))
FAILING(int, shutdown, (int fd, int how), (fd, how))
FAILING(int, getsockname, (int fd, struct sockaddr *addr, socklen_t *len), (fd, addr, len))
FAILING(int, getpeername, (int fd, struct sockaddr *addr, socklen_t *len), (fd, addr, len))
FAILING(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *len), (fd, level, name, value, len))
FAILING(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t len),
        (fd, level, name, value, len))
FAILING(int, dup_cloexec, (int fd), (fd))
FAILING(int, set_cloexec, (int fd), (fd))
FAILING(int, set_nonblocking, (int fd), (fd))
FAILING(ssize_t, recv, (int fd, void *to, size_t n, int flags), (fd, to, n, flags))
FAILING(ssize_t, recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags))
FAILING(ssize_t, send, (int fd, const void *from, size_t n, int flags), (fd, from, n, flags))
FAILING(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
FAILING(int, recvmmsg, (int fd, struct mio::sys_message *messages, unsigned n, int flags), (fd, messages, n, flags))
FAILING(int, sendmmsg, (int fd, struct mio::sys_message *messages, unsigned n, int flags), (fd, messages, n, flags))
FAILING(ssize_t, sendfile, (int to, int from, int64_t offset, size_t n), (to, from, offset, n))
FAILING(ssize_t, splice, (int from, int to, size_t n, bool quiet), (from, to, n, quiet))
FAILING(ssize_t, read, (int fd, void *to, size_t n), (fd, to, n))
FAILING(ssize_t, write, (int fd, const void *from, size_t n), (fd, from, n))
FAILING(int, open, (const char *path, int flags, unsigned mode), (path, flags, mode))
FAILING(int, unlink, (const char *path), (path))
FAILING(int, chmod, (const char *path, unsigned mode), (path, mode))
FAILING(int, lstat_mode, (const char *path), (path))
FAILING(int, facts, (int fd, struct mio::fd_facts *out), (fd, out))
FAILING(int, reopen, (int fd), (fd))
FAILING(int, set_status, (int fd, int flags), (fd, flags))
FAILING(ssize_t, read_nowait, (int fd, void *to, size_t n), (fd, to, n))
FAILING(ssize_t, write_quiet, (int fd, const struct iovec *pieces, unsigned n, bool nowait), (fd, pieces, n, nowait))
FAILING(int, tty_get, (int fd, struct termios *out), (fd, out))
FAILING(int, tty_set, (int fd, const struct termios *modes), (fd, modes))
FAILING(int, tty_size, (int fd, struct winsize *out), (fd, out))
FAILING(int, eventfd, (unsigned value, int flags), (value, flags))
FAILING(int, pipe_cloexec, (int fds[2]), (fds))
FAILING(int, poll_one, (int fd, short events, int timeout_ms), (fd, events, timeout_ms))
FAILING(int, epoll_create1, (int flags), (flags))
FAILING(int, epoll_ctl, (int epfd, int what, int fd, struct epoll_event *event), (epfd, what, fd, event))
FAILING(int, epoll_wait_ns, (int epfd, struct epoll_event *events, int max, int64_t timeout_ns),
        (epfd, events, max, timeout_ns))
FAILING(int, uring_setup, (unsigned entries, struct io_uring_params *params), (entries, params))
FAILING(int, uring_enter, (int fd, unsigned submit, unsigned wait, unsigned flags, const void *arg, size_t arg_size),
        (fd, submit, wait, flags, arg, arg_size))
FAILING(int, uring_register, (int fd, unsigned what, void *arg, unsigned n), (fd, what, arg, n))
FAILING(int, notify_open, (), ())
FAILING(int, notify_add, (int fd, const char *path, uint32_t mask), (fd, path, mask))
FAILING(int, notify_remove, (int fd, int id), (fd, id))
FAILING(ssize_t, notify_read, (int fd, void *to, size_t n), (fd, to, n))
FAILING(int, kqueue, (), ())
FAILING(int, kevent, (int kq, const struct kevent *changes, int n, struct kevent *events, int max, int64_t timeout_ns),
        (kq, changes, n, events, max, timeout_ns))
FAILING(int, thread_start, (pthread_t *thread, void *(*run)(void *), void *arg), (thread, run, arg))
FAILING(int, spawn, (const struct mio::spawn_plan *plan), (plan))
FAILING(int, pidfd_open, (int pid), (pid))
FAILING(int, child_wait, (int pid, int pidfd, struct mio::spawn_end *end), (pid, pidfd, end))
FAILING(int, child_kill, (int pid, int pidfd, int number), (pid, pidfd, number))
FAILING(int, sigaction, (int number, const struct sigaction *action, struct sigaction *before), (number, action, before))
FAILING(int, thread_sigmask, (int how, const sigset_t *set, sigset_t *before), (how, set, before))

#undef FAILING

const mio::sys *failing_open(const mio::sys *base) {
    state = failing_state();
    state.base = base;
    mio::sys *table = &state.table;
    table->alloc = failing_alloc;
    table->resize = failing_resize;
    table->release = failing_release;
    table->map = failing_map;
    table->unmap = failing_unmap;
    table->map_wipe_on_fork = failing_map_wipe_on_fork;
    table->map_shared = failing_map_shared;
    table->map_fd = failing_map_fd;
    table->monotonic_ns = failing_monotonic_ns;
    table->environment = failing_environment;
    table->getaddrinfo = failing_getaddrinfo;
    table->freeaddrinfo = failing_freeaddrinfo;
    table->getnameinfo = failing_getnameinfo;
    table->socket = failing_socket;
    table->socketpair = failing_socketpair;
    table->bind = failing_bind;
    table->listen = failing_listen;
    table->connect = failing_connect;
    table->accept4 = failing_accept4;
    table->shutdown = failing_shutdown;
    table->close = failing_close_fd;
    table->getsockname = failing_getsockname;
    table->getpeername = failing_getpeername;
    table->getsockopt = failing_getsockopt;
    table->setsockopt = failing_setsockopt;
    table->dup_cloexec = failing_dup_cloexec;
    table->set_cloexec = failing_set_cloexec;
    table->set_nonblocking = failing_set_nonblocking;
    table->recv = failing_recv;
    table->recvmsg = failing_recvmsg;
    table->send = failing_send;
    table->sendmsg = failing_sendmsg;
    table->recvmmsg = failing_recvmmsg;
    table->sendmmsg = failing_sendmmsg;
    table->sendfile = failing_sendfile;
    table->splice = failing_splice;
    table->read = failing_read;
    table->write = failing_write;
    table->open = failing_open;
    table->unlink = failing_unlink;
    table->chmod = failing_chmod;
    table->lstat_mode = failing_lstat_mode;
    table->facts = failing_facts;
    table->reopen = failing_reopen;
    table->set_status = failing_set_status;
    table->read_nowait = failing_read_nowait;
    table->write_quiet = failing_write_quiet;
    table->tty_get = failing_tty_get;
    table->tty_set = failing_tty_set;
    table->tty_size = failing_tty_size;
    table->eventfd = failing_eventfd;
    table->pipe_cloexec = failing_pipe_cloexec;
    table->poll_one = failing_poll_one;
    table->epoll_create1 = failing_epoll_create1;
    table->epoll_ctl = failing_epoll_ctl;
    table->epoll_wait_ns = failing_epoll_wait_ns;
    table->uring_setup = failing_uring_setup;
    table->uring_enter = failing_uring_enter;
    table->uring_register = failing_uring_register;
    table->notify_open = failing_notify_open;
    table->notify_add = failing_notify_add;
    table->notify_remove = failing_notify_remove;
    table->notify_read = failing_notify_read;
    table->kqueue = failing_kqueue;
    table->kevent = failing_kevent;
    table->sigaction = failing_sigaction;
    table->thread_sigmask = failing_thread_sigmask;
    table->thread_start = failing_thread_start;
    table->spawn = failing_spawn;
    table->pidfd_open = failing_pidfd_open;
    table->child_wait = failing_child_wait;
    table->child_kill = failing_child_kill;
    if (base->files != nullptr) table->files = failing_files_open(base->files);
    return table;
}

int64_t failing_alive() { return __atomic_load_n(&state.alive, __ATOMIC_ACQUIRE); }

int failing_called(call which) { return called(which); }
bool failing_allocation(call which) { return called(which) != 0; }
void failing_allocated(int64_t delta) { __atomic_fetch_add(&state.alive, delta, __ATOMIC_RELAXED); }

int failing_close() {
    failing_never();
    const int alive = static_cast<int>(failing_alive());
    if (alive != 0) fprintf(stderr, "failing: %d allocations were not given back\n", alive);
    return alive;
}

static void plan_set(plan what, call which, uint64_t nth, int error) {
    pthread_mutex_lock(&lock);
    state.what = what;
    state.which = which;
    state.left = nth;
    state.error = error;
    state.happened = false;
    pthread_mutex_unlock(&lock);
}

void failing_at(call which, uint64_t nth, int error) { plan_set(plan::one, which, nth, error); }
void failing_from(call which, uint64_t nth, int error) { plan_set(plan::from, which, nth, error); }
void failing_allocation_at(uint64_t nth) { plan_set(plan::allocation, call::alloc, nth, ENOMEM); }
void failing_allocation_from(uint64_t nth) { plan_set(plan::allocation_from, call::alloc, nth, ENOMEM); }
void failing_any_at(uint64_t nth) { plan_set(plan::any, call::alloc, nth, 0); }
void failing_never() {
    pthread_mutex_lock(&lock);
    state.what = plan::never;
    pthread_mutex_unlock(&lock);
}

bool failing_happened() {
    pthread_mutex_lock(&lock);
    const bool happened = state.happened;
    pthread_mutex_unlock(&lock);
    return happened;
}

call failing_what() { return state.failed; }

uint64_t failing_count(call which) {
    pthread_mutex_lock(&lock);
    const uint64_t n = state.counts[static_cast<unsigned>(which)];
    pthread_mutex_unlock(&lock);
    return n;
}

static uint64_t counts_sum(bool (*wanted)(call)) {
    uint64_t n = 0;
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < CALLS; i++) {
        if (wanted(static_cast<call>(i))) n += state.counts[i];
    }
    pthread_mutex_unlock(&lock);
    return n;
}

uint64_t failing_count_allocations() { return counts_sum(call_allocates); }
uint64_t failing_count_all() { return counts_sum(call_can_fail); }

void failing_forget() {
    pthread_mutex_lock(&lock);
    for (uint64_t &n : state.counts) n = 0;
    pthread_mutex_unlock(&lock);
}

}
