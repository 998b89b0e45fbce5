// A simulated world with one loop in it, driven from below: the table of system calls and the seam, with channels that
// no handle stands behind. The loop is a real one, so that records, pool and time are; its turn is not run.
#pragma once

#include "support/cmocka.h"

#include "backend/sim.h"
#include "base/sys.h"
#include "core/dispatch.h"

#include <mio/error.h>
#include <mio/sim.h>

#include <arpa/inet.h>
#include <initializer_list>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

namespace mio {

inline const sys &os = sys_sim;
inline mio_sim_t *world;
inline loop *on;

inline mio_sim_options_t options_of(uint64_t seed) {
    mio_sim_options_t o = MIO_SIM_OPTIONS_INIT;
    o.seed = seed;
    return o;
}

inline void world_open(const mio_sim_options_t &o) {
    assert_int_equal(mio_sim_create(&world, &o), 0);
    mio_loop_options_t lo = MIO_LOOP_OPTIONS_INIT;
    lo.sim = world;
    lo.completions = 64;
    mio_loop_t *l;
    assert_int_equal(mio_loop_create(&l, &lo), 0);
    on = loop_of(l);
    arena_set_thread(on->buffers, thread_number()); // as in a run
    assert_string_equal(mio_loop_backend(l), "sim");
}

inline void world_close() {
    assert_int_equal(mio_sim_open_fds(world), 0);
    assert_int_equal(mio_loop_destroy(loop_public(on), 0), 0);
    assert_int_equal(mio_sim_destroy(world), 0);
}

// Lets virtual time pass.
inline void pass(int64_t ns) {
    const int64_t until_ns = mio_sim_now_ns(world) + ns;
    while (mio_sim_now_ns(world) < until_ns)
        assert_int_equal(on->with->poll(on, until_ns - mio_sim_now_ns(world)), 0);
}

// --- sockets --------------------------------------------------------------------------------------------------------

inline struct sockaddr_in ip4(const char *text, int port) {
    struct sockaddr_in a;
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_port = htons(static_cast<uint16_t>(port));
    assert_int_equal(inet_pton(AF_INET, text, &a.sin_addr), 1);
    return a;
}

inline struct sockaddr_in6 ip6(const char *text, int port) {
    struct sockaddr_in6 a;
    memset(&a, 0, sizeof a);
    a.sin6_family = AF_INET6;
    a.sin6_port = htons(static_cast<uint16_t>(port));
    assert_int_equal(inet_pton(AF_INET6, text, &a.sin6_addr), 1);
    return a;
}

template <class A> inline const struct sockaddr *any(const A *a) {
    return reinterpret_cast<const struct sockaddr *>(a);
}
template <class A> inline struct sockaddr *any(A *a) { return reinterpret_cast<struct sockaddr *>(a); }

inline int tcp_socket(int domain = AF_INET) { return os.socket(domain, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP); }

inline int set_option(int fd, int level, int name, int value) {
    return os.setsockopt(fd, level, name, &value, sizeof value);
}

inline int get_option(int fd, int level, int name) {
    int value = -1;
    socklen_t len = sizeof value;
    const int error = os.getsockopt(fd, level, name, &value, &len);
    return error < 0 ? error : value;
}

template <class A> inline int bind_to(int fd, const A &a) { return os.bind(fd, any(&a), sizeof a); }
template <class A> inline int connect_to(int fd, const A &a) { return os.connect(fd, any(&a), sizeof a); }

inline int port_of(int fd) {
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    assert_int_equal(os.getsockname(fd, any(&a), &len), 0);
    if (a.ss_family == AF_INET) return ntohs(reinterpret_cast<struct sockaddr_in *>(&a)->sin_port);
    return ntohs(reinterpret_cast<struct sockaddr_in6 *>(&a)->sin6_port);
}

inline int listen_on(const char *text, int port, int backlog = 16) {
    const int fd = tcp_socket();
    assert_int_equal(bind_to(fd, ip4(text, port)), 0);
    assert_int_equal(os.listen(fd, backlog), 0);
    return fd;
}

struct pair {
    int client, server;
};

inline pair connected_pair() {
    const int listener = listen_on("127.0.0.1", 0);
    pair p;
    p.client = tcp_socket();
    assert_int_equal(connect_to(p.client, ip4("127.0.0.1", port_of(listener))), -EINPROGRESS);
    do {
        pass(MIO_MILLISECOND);
        p.server = os.accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    } while (p.server == -EMFILE || p.server == -ENFILE);
    assert_true(p.server >= SIM_FD_BASE);
    assert_int_equal(os.close(listener), 0);
    return p;
}

// --- carriers -------------------------------------------------------------------------------------------------------

inline channel *channel_create(int fd) {
    auto *c = static_cast<channel *>(calloc(1, sizeof(channel)));
    c->on = on;
    c->fd = fd;
    return c;
}

inline void start(channel *c, op_code op) {
    request *carrier = op_table[static_cast<unsigned>(op)].out ? &c->out : &c->in;
    assert_true(carrier->state == request_state::free);
    carrier->op = op;
    carrier->state = request_state::started;
    carrier->flags = 0;
    on->with->submit(on, carrier);
}

// The next record, as the turn takes it. false: there is none.
inline bool take(completion *out) {
    if (on->done_head != on->done_tail) {
        *out = on->done[on->done_head++ & (on->done_capacity - 1)];
        if ((out->flags & FINISH_MORE) == 0) out->req->state = request_state::free;
        return true;
    }
    request *settled = queue_pop(&on->settled);
    if (settled == nullptr) return false;
    settled->state = request_state::free;
    *out = completion{settled, nullptr, settled->result, 0, 0};
    return true;
}

// The next record, waiting at most a virtual second for it.
inline completion next() {
    completion done;
    const int64_t until_ns = mio_sim_now_ns(world) + MIO_SECOND;
    while (!take(&done)) {
        assert_true(mio_sim_now_ns(world) < until_ns);
        assert_int_equal(on->with->poll(on, until_ns - mio_sim_now_ns(world)), 0);
    }
    return done;
}

inline void nothing_comes(int64_t within_ns) {
    completion done;
    pass(within_ns);
    assert_false(take(&done));
}

inline void close_channel(channel *c) {
    on->with->forget(on, c);
    assert_int_equal(os.close(c->fd), 0);
    free(c);
}

// A write of one buffer in the lane, as io would have put it there. The caller frees it.
inline lane_request *queue_write(channel *c, char *base, size_t len) {
    auto *req = static_cast<lane_request *>(calloc(1, sizeof(lane_request)));
    req->op = op_code::write;
    req->state = request_state::waiting;
    req->bufs_used = 1;
    req->bufs[0].base = base;
    req->bufs[0].len = req->bufs[0].cap = len;
    req->total = static_cast<int64_t>(len);
    lane_push(&c->writes, req);
    return req;
}

// Where a connect goes, as tcp puts it into the lane. The caller frees it.
template <class A> inline lane_request *queue_connect(channel *c, const A &to) {
    auto *req = static_cast<lane_request *>(calloc(1, sizeof(lane_request) + 3 * sizeof(mio_buf_t)));
    req->op = op_code::connected;
    req->state = request_state::waiting;
    req->total = sizeof to;
    memcpy(static_cast<void *>(req->bufs), &to, sizeof to);
    lane_push(&c->writes, req);
    return req;
}

}
