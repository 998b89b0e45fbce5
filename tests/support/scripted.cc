// The script: one queue of results in the order of the pushes, one log of calls, one clock. A call looks for its result
// under the lock, then acts it out without it, so that effects may push more and call anything.
#include "support/scripted.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace test {

constexpr unsigned LOG_MOST = 16384;
constexpr int FDS_MOST = 4096;

struct queued {
    queued *next;
    call which;
    int fd;
    scripted_result result; // data, control and addr point behind the struct
};

struct sent_bytes {
    sent_bytes *next;
    int fd;
    size_t n;
    char *bytes;
};

struct script {
    mio::sys table;
    queued *head;
    queued *tail;
    int64_t now_ns;
    int64_t alive; // memory
    int fds;       // given out
    bool fd_open[FDS_MOST];
    uint64_t counts[CALLS];
    unsigned log_size;
    scripted_call log[LOG_MOST];
    sent_bytes *sent;
};

static script s;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

[[noreturn]] static void script_broken(const char *what, call which, int fd) {
    fprintf(stderr, "scripted: %s: %s on descriptor %d; the calls so far:\n", what, call_name(which), fd);
    scripted_print_log();
    abort();
}

// --- pushing --------------------------------------------------------------------------------------------------------

static void *copy_behind(char **at, const void *from, size_t n) {
    if (from == nullptr) return nullptr;
    char *here = *at;
    memcpy(here, from, n);
    *at += (n + 15) & ~size_t(15);
    return here;
}

static void result_push(call which, int fd, const scripted_result *result, bool in_front) {
    const size_t behind = result->size + result->control_size + result->addr_len + 3 * 16;
    const size_t head = (sizeof(queued) + 15) & ~size_t(15);
    char *memory = static_cast<char *>(calloc(1, head + behind));
    if (memory == nullptr) abort();
    queued *q = reinterpret_cast<queued *>(memory);
    char *at = memory + head;
    q->which = which;
    q->fd = fd;
    q->result = *result;
    q->result.data = copy_behind(&at, result->data, result->size);
    q->result.control = copy_behind(&at, result->control, result->control_size);
    q->result.addr = static_cast<struct sockaddr *>(copy_behind(&at, result->addr, result->addr_len));
    pthread_mutex_lock(&lock);
    if (s.head == nullptr) {
        s.head = s.tail = q;
    } else if (in_front) {
        q->next = s.head;
        s.head = q;
    } else {
        s.tail->next = q;
        s.tail = q;
    }
    pthread_mutex_unlock(&lock);
}

void scripted_push_result(call which, int fd, const scripted_result *result) { result_push(which, fd, result, false); }

void scripted_push(call which, int fd, int64_t value) {
    scripted_result result = scripted_result();
    result.value = value;
    scripted_push_result(which, fd, &result);
}

void scripted_push_data(call which, int fd, const void *data, size_t n) {
    scripted_result result = scripted_result();
    result.value = static_cast<int64_t>(n);
    result.data = data;
    result.size = n;
    scripted_push_result(which, fd, &result);
}

void scripted_push_events(const struct epoll_event *events, int n) {
    scripted_result result = scripted_result();
    result.value = n;
    result.data = events;
    result.size = static_cast<size_t>(n) * sizeof(*events);
    scripted_push_result(call::epoll_wait_ns, ANY_FD, &result);
}

unsigned scripted_pending(call which) {
    unsigned n = 0;
    pthread_mutex_lock(&lock);
    for (const queued *q = s.head; q != nullptr; q = q->next) n += q->which == which;
    pthread_mutex_unlock(&lock);
    return n;
}

// --- being called ---------------------------------------------------------------------------------------------------

// Counts; the oldest result meant for this call, now the caller's to free, or nullptr.
static queued *begin(call which, int fd) {
    pthread_mutex_lock(&lock);
    s.counts[static_cast<unsigned>(which)]++;
    queued *before = nullptr;
    queued *q = s.head;
    while (q != nullptr && (q->which != which || (q->fd != ANY_FD && q->fd != fd))) {
        before = q;
        q = q->next;
    }
    if (q != nullptr) {
        if (before == nullptr) s.head = q->next;
        else before->next = q->next;
        if (s.tail == q) s.tail = before;
        s.now_ns += q->result.takes_ns;
    }
    pthread_mutex_unlock(&lock);
    return q;
}

static int64_t end(call which, int fd, int64_t a, int64_t b, int64_t c, queued *q, int64_t value) {
    if (q != nullptr) {
        if (q->result.effect != nullptr) q->result.effect(q->result.arg);
        free(q);
    }
    pthread_mutex_lock(&lock);
    if (s.log_size < LOG_MOST) s.log[s.log_size++] = scripted_call{which, fd, {a, b, c}, value};
    pthread_mutex_unlock(&lock);
    return value;
}

static int simple(call which, int fd, int64_t a = 0, int64_t b = 0, int64_t c = 0) {
    queued *q = begin(which, fd);
    return static_cast<int>(end(which, fd, a, b, c, q, q != nullptr ? q->result.value : 0));
}

static int fd_new() {
    pthread_mutex_lock(&lock);
    if (s.fds == FDS_MOST) abort();
    const int fd = SCRIPTED_FD_FIRST + s.fds;
    s.fd_open[s.fds++] = true;
    pthread_mutex_unlock(&lock);
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
    if (got != nullptr && ptr == nullptr) __atomic_fetch_add(&s.alive, 1, __ATOMIC_RELAXED);
    return got;
}

static void takes_memory(call which, void *ptr) {
    free(begin(which, -1));
    if (ptr != nullptr) __atomic_fetch_sub(&s.alive, 1, __ATOMIC_RELAXED);
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
    pthread_mutex_lock(&lock);
    const int at = fd - SCRIPTED_FD_FIRST;
    if (at >= 0 && at < s.fds) {
        if (!s.fd_open[at]) value = -EBADF;
        s.fd_open[at] = false;
    }
    pthread_mutex_unlock(&lock);
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
    pthread_mutex_lock(&lock);
    sent_bytes *of = s.sent;
    while (of != nullptr && of->fd != fd) of = of->next;
    if (of == nullptr) {
        of = static_cast<sent_bytes *>(calloc(1, sizeof(sent_bytes)));
        if (of == nullptr) abort();
        of->fd = fd;
        of->next = s.sent;
        s.sent = of;
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
    pthread_mutex_unlock(&lock);
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
static ssize_t scripted_write(int fd, const void *from, size_t n) {
    const struct iovec piece = {const_cast<void *>(from), n};
    return sends(call::write, fd, &piece, 1, 0);
}

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
static int scripted_kqueue() { return gives_fd(call::kqueue, -1, 0); }
static int scripted_kevent(int kq, const struct kevent *, int n, struct kevent *, int max, int64_t timeout_ns) {
    return simple(call::kevent, kq, n, max, timeout_ns);
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
        pthread_mutex_lock(&lock);
        s.now_ns += timeout_ns;
        pthread_mutex_unlock(&lock);
    }
    return static_cast<int>(end(call::epoll_wait_ns, epfd, max, timeout_ns, 0, q, value));
}

// --- opening, closing, asking ---------------------------------------------------------------------------------------

const mio::sys *scripted_open(int64_t now_ns) {
    memset(static_cast<void *>(&s), 0, sizeof(s));
    s.now_ns = now_ns;
    mio::sys *table = &s.table;
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
    table->set_nonblocking = scripted_set_nonblocking;
    table->recv = scripted_recv;
    table->recvmsg = scripted_recvmsg;
    table->send = scripted_send;
    table->sendmsg = scripted_sendmsg;
    table->read = scripted_read;
    table->write = scripted_write;
    table->eventfd = scripted_eventfd;
    table->pipe_cloexec = scripted_pipe_cloexec;
    table->poll_one = scripted_poll_one;
    table->epoll_create1 = scripted_epoll_create1;
    table->epoll_ctl = scripted_epoll_ctl;
    table->epoll_wait_ns = scripted_epoll_wait_ns;
    table->uring_setup = scripted_uring_setup;
    table->uring_enter = scripted_uring_enter;
    table->uring_register = scripted_uring_register;
    table->kqueue = scripted_kqueue;
    table->kevent = scripted_kevent;
    return table;
}

int scripted_close() {
    int left = 0;
    while (s.head != nullptr) {
        queued *q = s.head;
        s.head = q->next;
        fprintf(stderr, "scripted: a result was not used: %s on descriptor %d\n", call_name(q->which), q->fd);
        free(q);
        left++;
    }
    s.tail = nullptr;
    for (int i = 0; i < s.fds; i++) {
        if (!s.fd_open[i]) continue;
        fprintf(stderr, "scripted: descriptor %d was not closed\n", SCRIPTED_FD_FIRST + i);
        left++;
    }
    while (s.sent != nullptr) {
        sent_bytes *of = s.sent;
        s.sent = of->next;
        free(of->bytes);
        free(of);
    }
    if (s.alive != 0) {
        fprintf(stderr, "scripted: %lld allocations were not given back\n", static_cast<long long>(s.alive));
        left += static_cast<int>(s.alive);
    }
    return left;
}

int64_t scripted_now_ns() {
    pthread_mutex_lock(&lock);
    const int64_t now_ns = s.now_ns;
    pthread_mutex_unlock(&lock);
    return now_ns;
}

void scripted_set_now_ns(int64_t now_ns) {
    pthread_mutex_lock(&lock);
    s.now_ns = now_ns;
    pthread_mutex_unlock(&lock);
}

uint64_t scripted_count(call which) {
    pthread_mutex_lock(&lock);
    const uint64_t n = s.counts[static_cast<unsigned>(which)];
    pthread_mutex_unlock(&lock);
    return n;
}

uint64_t scripted_count_fd(call which, int fd) {
    uint64_t n = 0;
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < s.log_size; i++) n += s.log[i].which == which && s.log[i].fd == fd;
    pthread_mutex_unlock(&lock);
    return n;
}

unsigned scripted_log_size() { return s.log_size; }
const scripted_call *scripted_log_at(unsigned i) { return i < s.log_size ? &s.log[i] : nullptr; }

const scripted_call *scripted_last(call which) {
    for (unsigned i = s.log_size; i > 0; i--) {
        if (s.log[i - 1].which == which) return &s.log[i - 1];
    }
    return nullptr;
}

void scripted_forget() {
    pthread_mutex_lock(&lock);
    s.log_size = 0;
    for (uint64_t &n : s.counts) n = 0;
    pthread_mutex_unlock(&lock);
}

void scripted_print_log() {
    for (unsigned i = 0; i < s.log_size; i++) {
        const scripted_call *c = &s.log[i];
        fprintf(stderr, "  %s(%d, %lld, %lld, %lld) = %lld\n", call_name(c->which), c->fd,
                static_cast<long long>(c->args[0]), static_cast<long long>(c->args[1]),
                static_cast<long long>(c->args[2]), static_cast<long long>(c->result));
    }
}

const char *scripted_sent(int fd, size_t *n) {
    for (const sent_bytes *of = s.sent; of != nullptr; of = of->next) {
        if (of->fd != fd) continue;
        *n = of->n;
        return of->bytes;
    }
    *n = 0;
    return "";
}

unsigned scripted_open_fds() {
    unsigned n = 0;
    for (int i = 0; i < s.fds; i++) n += s.fd_open[i];
    return n;
}

}
