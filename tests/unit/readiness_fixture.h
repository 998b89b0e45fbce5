// A fake loop on the real epoll, and what the tests of readiness do with it all the time: submit, poll until something
// is there, take what came, drop a channel. Included by one source file per program, as fake_loop.h is.
#pragma once

#include "fake_loop.h"

#include "backend/epoll.h"

namespace mio {

inline int loop_open(void **state) {
    loop *l = fake_loop_prepare(64);
    l->with = &backend_epoll;
    l->backend_state = calloc(1, backend_epoll.size);
    assert_int_equal(backend_epoll.open(l), 0);
    *state = l;
    return 0;
}

inline int loop_end(void **state) {
    auto *l = static_cast<loop *>(*state);
    backend_epoll.close(l, false);
    fake_loop_release(l);
    return 0;
}

inline void submit(loop *l, request *carrier, op_code op) {
    fake_start(carrier, op);
    backend_epoll.submit(l, carrier);
}

inline void cancel(loop *l, request *carrier) {
    backend_epoll.cancel(l, carrier);
    assert_int_equal(fake_settled(l, carrier), MIO_ECANCELED);
}

inline void poll(loop *l, int timeout_ms) { assert_int_equal(backend_epoll.poll(l, timeout_ms * INT64_C(1000000)), 0); }

// Polls until there are n records, for 20 s at most.
inline void poll_for(loop *l, uint32_t n) {
    for (int i = 0; i < 20 && fake_done(l) < n; i++) poll(l, 1000);
    assert_int_equal(fake_done(l), n);
}

inline void expect(loop *l, channel *c, int64_t result, uint32_t flags) {
    const completion done = fake_take(l);
    assert_true(done.req == &c->in || done.req == &c->out);
    assert_int_equal(done.result, result);
    assert_int_equal(done.flags, flags);
}

inline void drop(loop *l, channel *c) {
    if (c->in.state == request_state::started) cancel(l, &c->in);
    if (c->out.state == request_state::started) cancel(l, &c->out);
    backend_epoll.forget(l, c);
    channel_drop(c);
}

inline channel *open_tcp(int *peer) {
    int ends[2];
    tcp_pair(ends);
    *peer = ends[1];
    return channel_make(ends[0], CHANNEL_TCP);
}

inline channel *open_unix(int *peer, uint16_t flags) {
    int ends[2];
    unix_pair(ends);
    *peer = ends[1];
    return channel_make(ends[0], flags);
}

inline unsigned calls(scripted_call call) { return script[call].count; }

}
