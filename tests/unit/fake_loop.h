// A loop with nothing but what a backend may touch: a ring of records, a list of settled carriers, a pool of one block
// and a table of system calls that counts, fails when told to, and otherwise asks the kernel. Included by one source
// file per program: it defines the pool and the connect target that the backend links to.
#pragma once

#include "support/cmocka.h"

#include "core/backend.h"
#include "core/datagram.h"
#include "core/dispatch.h"
#include "core/job.h"
#include "core/remote.h"

#include <mio/error.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace mio {

// --- the scripted table ---------------------------------------------------------------------------------------------

enum scripted_call {
    CALL_ALLOC, CALL_CONNECT, CALL_ACCEPT, CALL_RECV, CALL_RECVMSG, CALL_SEND, CALL_SENDMSG, CALL_GETSOCKOPT, CALL_WRITE,
    CALL_CTL, CALL_WAIT, CALLS
};

constexpr int SCRIPT_MAX = 64;

struct call_script {
    unsigned count;           // calls made
    int planned, done;        // entries of results, used so far
    int results[SCRIPT_MAX];  // 0: ask the kernel, else the result
};

inline call_script script[CALLS];
inline sys scripted;
inline uint32_t last_interest; // of the last epoll_ctl that was no DEL

inline void plan(scripted_call call, int result) {
    assert_true(script[call].planned < SCRIPT_MAX);
    script[call].results[script[call].planned++] = result;
}

// Counts the call; the planned result, or 0.
inline int scripted_result(scripted_call call) {
    call_script *s = &script[call];
    s->count++;
    return s->done < s->planned ? s->results[s->done++] : 0;
}

inline void *scripted_alloc(size_t size) {
    return scripted_result(CALL_ALLOC) != 0 ? nullptr : sys_real.alloc(size);
}

inline void *scripted_resize(void *ptr, size_t old_size, size_t new_size) {
    return scripted_result(CALL_ALLOC) != 0 ? nullptr : sys_real.resize(ptr, old_size, new_size);
}

inline int scripted_connect(int fd, const struct sockaddr *addr, socklen_t len) {
    const int result = scripted_result(CALL_CONNECT);
    const int real = result == 0 || result == -EINTR ? sys_real.connect(fd, addr, len) : 0;
    return result != 0 ? result : real;
}

inline int scripted_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags) {
    const int result = scripted_result(CALL_ACCEPT);
    return result != 0 ? result : sys_real.accept4(fd, addr, len, flags);
}

inline ssize_t scripted_recv(int fd, void *to, size_t n, int flags) {
    const int result = scripted_result(CALL_RECV);
    assert_true((flags & MSG_DONTWAIT) != 0);
    return result != 0 ? result : sys_real.recv(fd, to, n, flags);
}

inline ssize_t scripted_recvmsg(int fd, struct msghdr *message, int flags) {
    const int result = scripted_result(CALL_RECVMSG);
    assert_true((flags & MSG_DONTWAIT) != 0);
    return result != 0 ? result : sys_real.recvmsg(fd, message, flags);
}

inline ssize_t scripted_send(int fd, const void *from, size_t n, int flags) {
    const int result = scripted_result(CALL_SEND);
    assert_int_equal(flags, MSG_DONTWAIT | MSG_NOSIGNAL);
    return result != 0 ? result : sys_real.send(fd, from, n, flags);
}

inline ssize_t scripted_sendmsg(int fd, const struct msghdr *message, int flags) {
    const int result = scripted_result(CALL_SENDMSG);
    assert_int_equal(flags, MSG_DONTWAIT | MSG_NOSIGNAL);
    return result != 0 ? result : sys_real.sendmsg(fd, message, flags);
}

inline int scripted_getsockopt(int fd, int level, int name, void *value, socklen_t *len) {
    const int result = scripted_result(CALL_GETSOCKOPT);
    return result != 0 ? result : sys_real.getsockopt(fd, level, name, value, len);
}

inline ssize_t scripted_write(int fd, const void *from, size_t n) {
    const int result = scripted_result(CALL_WRITE);
    return result != 0 ? result : sys_real.write(fd, from, n);
}

inline int scripted_ctl(int epfd, int what, int fd, struct epoll_event *event) {
    const int result = scripted_result(CALL_CTL);
    if (what != EPOLL_CTL_DEL) last_interest = event->events;
    return result != 0 ? result : sys_real.epoll_ctl(epfd, what, fd, event);
}

inline unsigned events_seen; // that epoll_wait has reported
inline struct epoll_event false_events[8];
inline int false_event_count; // reported once, before anything real

inline int scripted_wait(int epfd, struct epoll_event *events, int max, int64_t timeout_ns) {
    const int result = scripted_result(CALL_WAIT);
    if (result != 0) return result;
    if (false_event_count > 0) {
        const int n = false_event_count;
        false_event_count = 0;
        memcpy(events, false_events, static_cast<size_t>(n) * sizeof *events);
        return n;
    }
    const int n = sys_real.epoll_wait_ns(epfd, events, max, timeout_ns);
    if (n > 0) events_seen += static_cast<unsigned>(n);
    return n;
}

// --- the pool, and where a connect goes -----------------------------------------------------------------------------

inline char pool_memory[65536]; // of one block, which every receive fills from its beginning
inline block pool_block;

// The slow half of a reserve: the block is new again, or there is none.
bool pool_refill(loop *l) {
    if (l->pool.dry) return false;
    pool_block.offset = 0;
    return true;
}

// Of a block's size is what these tests receive at most.
block *pool_take_apart(loop *, size_t) { return nullptr; }
void pool_give_apart(block *) {}

inline void fake_pool(loop *l, size_t room, bool dry) {
    pool_block.owner.base = pool_memory;
    pool_block.offset = 0;
    l->pool.hot = &pool_block;
    l->pool.block_size = room;
    l->pool.last_offset = dry ? -1 : 0;
    l->pool.dry = dry;
}

// Datagrams: runs from the beginning of the same block.
inline datagram_shape fake_shape;

const datagram_shape *channel_datagrams(const channel *) { return &fake_shape; }

// Relays: no pipe is to be had.
int channel_splice_into(loop *, const channel *) { return MIO_EMFILE; }
void channel_spliced(loop *, const channel *, ssize_t) {}

bool pool_reserve_runs(loop *l, size_t size, unsigned most, char **at, unsigned *count, block **large) {
    if (l->pool.dry) return false;
    *at = pool_memory;
    *large = nullptr;
    *count = static_cast<unsigned>(sizeof pool_memory / size) < most ? static_cast<unsigned>(sizeof pool_memory / size) : most;
    return true;
}

void pool_commit_runs(loop *, size_t, unsigned, block *, block **from, uint32_t *offset) {
    *from = &pool_block;
    *offset = 0;
}

inline struct sockaddr_storage connect_target;
inline socklen_t connect_target_len;

const struct sockaddr *channel_connect_target(const channel *, socklen_t *len) {
    *len = connect_target_len;
    return reinterpret_cast<const struct sockaddr *>(&connect_target);
}

// What guard mode shows and hides around a call: nothing is hidden here.
void guard_lane(const lane *, bool) {}

// No host sleeps in its place.
void loop_stale_now(loop *) { fail_msg("there is no host here"); }

// Files are handed on to the workers, of whom there are none.
void job_submit(loop *, loose_request *) { fail_msg("there are no files here"); }
void job_part(loop *, job *) { fail_msg("there are no files here"); }

// --- the loop -------------------------------------------------------------------------------------------------------

inline loop *fake_loop_prepare(uint32_t completions) {
    memset(script, 0, sizeof script);
    events_seen = 0;
    false_event_count = 0;
    scripted = sys_real;
    scripted.alloc = scripted_alloc;
    scripted.resize = scripted_resize;
    scripted.connect = scripted_connect;
    scripted.accept4 = scripted_accept4;
    scripted.recv = scripted_recv;
    scripted.recvmsg = scripted_recvmsg;
    scripted.send = scripted_send;
    scripted.sendmsg = scripted_sendmsg;
    scripted.getsockopt = scripted_getsockopt;
    scripted.write = scripted_write;
    scripted.epoll_ctl = scripted_ctl;
    scripted.epoll_wait_ns = scripted_wait;
    auto *l = static_cast<loop *>(calloc(1, sizeof(loop)));
    l->calls = &scripted;
    l->mem.calls = &scripted;
    l->done_capacity = completions;
    l->done = static_cast<completion *>(calloc(completions, sizeof(completion)));
    fake_pool(l, sizeof pool_memory, false);
    l->box = static_cast<remote *>(calloc(1, sizeof(remote)));
    l->box->calls = &scripted;
    l->box->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    l->box->host_fd = -1;
    l->box->bell = -1;
    return l;
}

inline void fake_loop_release(loop *l) {
    close(l->box->wake_fd);
    free(l->box);
    free(l->done);
    free(l->backend_state);
    free(l);
}

inline uint32_t fake_done(const loop *l) { return l->done_tail - l->done_head; }

// The oldest record; the carrier of a last one is FREE then.
inline completion fake_take(loop *l) {
    assert_true(fake_done(l) > 0);
    const completion done = l->done[l->done_head++ & (l->done_capacity - 1)];
    if ((done.flags & FINISH_MORE) == 0) {
        assert_true(done.req->state == request_state::done);
        done.req->state = request_state::free;
    }
    return done;
}

// What settled first; nothing else was.
inline int32_t fake_settled(loop *l, request *carrier) {
    request *first = queue_pop(&l->settled);
    assert_ptr_equal(first, carrier);
    first->state = request_state::free;
    first->flags = 0;
    return first->result;
}

inline void fake_start(request *carrier, op_code op) {
    assert_true(carrier->state == request_state::free);
    carrier->op = op;
    carrier->state = request_state::started;
    carrier->flags = 0;
}

// --- channels and lanes ---------------------------------------------------------------------------------------------

inline channel *channel_make(int fd, uint16_t flags) {
    auto *c = static_cast<channel *>(calloc(1, sizeof(channel)));
    c->fd = fd;
    c->flags = flags;
    return c;
}

inline lane_request *lane_add(lane *where, op_code op, void *base, size_t len, size_t cap) {
    auto *req = static_cast<lane_request *>(calloc(1, sizeof(lane_request) + 63 * sizeof(mio_buf_t)));
    req->op = op;
    req->state = request_state::waiting;
    req->bufs_used = 1;
    req->bufs[0] = mio_buf_t{static_cast<char *>(base), len, cap, nullptr};
    req->total = static_cast<int64_t>(op == op_code::write ? len : cap - len);
    lane_push(where, req);
    return req;
}

inline void lane_drop(lane *where) {
    while (!lane_empty(where)) free(lane_pop(where));
}

inline void channel_drop(channel *c) {
    lane_drop(&c->reads);
    lane_drop(&c->writes);
    if (c->fd >= 0) close(c->fd);
    free(c);
}

// --- sockets --------------------------------------------------------------------------------------------------------

// A port where nobody listens, nor anybody else begins to.
inline int bind_loopback(int type_flags) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | type_flags, 0);
    struct sockaddr_in any = {};
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, reinterpret_cast<struct sockaddr *>(&any), sizeof any), 0);
    connect_target_len = sizeof connect_target;
    assert_int_equal(getsockname(fd, reinterpret_cast<struct sockaddr *>(&connect_target), &connect_target_len), 0);
    return fd;
}

inline int listen_loopback(int type_flags) {
    const int fd = bind_loopback(type_flags);
    assert_int_equal(listen(fd, 256), 0);
    return fd;
}

inline int connect_loopback() {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    assert_int_equal(connect(fd, reinterpret_cast<struct sockaddr *>(&connect_target), connect_target_len), 0);
    return fd;
}

// Loopback is quick, but not instant: a thread of the kernel's carries what comes while it is busy.
inline void wait_until(bool (*is_so)(int fd, int n), int fd, int n) {
    for (int i = 0; i < 20000 && !is_so(fd, n); i++) usleep(1000);
    assert_true(is_so(fd, n));
}

inline bool has_bytes(int fd, int n) {
    int there = 0;
    return ioctl(fd, FIONREAD, &there) == 0 && there >= n;
}

inline bool has_connections(int listener, int n) { // to be accepted
    struct tcp_info info;
    socklen_t len = sizeof info;
    return getsockopt(listener, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_unacked >= static_cast<uint32_t>(n);
}

inline bool has_news(int fd, int events) { // of poll(2)
    struct pollfd one = {fd, static_cast<short>(events), 0};
    return ::poll(&one, 1, 0) > 0;
}

inline void tcp_pair(int ends[2]) {
    const int listener = listen_loopback(0);
    ends[1] = connect_loopback();
    ends[0] = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(ends[0] >= 0);
    close(listener);
}

inline void unix_pair(int ends[2]) {
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
}

inline int count_descriptors() {
    DIR *all = opendir("/proc/self/fd");
    int n = 0;
    while (readdir(all) != nullptr) n++;
    closedir(all);
    return n;
}

}
