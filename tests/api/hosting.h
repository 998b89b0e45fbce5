// What the tests of embedding share: a host, which is a plain poll(2) loop that gives up after a while.
#pragma once

#include "ring.h"

#include <poll.h>
#include <pthread.h>
#include <time.h>

namespace api {

struct host {
    mio_loop_t *loop;
    int fd;
    int waits;      // times it slept, or was told that it need not
    int slept;      // of these, times it slept
    int last;       // what the last dispatch returned
    int64_t timeout_ns;
};

// Says no where a ring would interrupt its host.
inline bool host_open(host *h, mio_loop_t *loop) {
    *h = host();
    h->loop = loop;
    h->fd = mio_loop_fd(loop);
    if (h->fd == MIO_ENOTSUP && strcmp(backend_name(), "io_uring") == 0) return false;
    ck_assert_int_ge(h->fd, 0);
    return true;
}

#define HOST(h, loop)                                          \
    KERNEL_ONLY("a simulated world is driven by mio_sim_run"); \
    ::api::host h;                                             \
    if (!::api::host_open(&h, loop)) SKIP("this ring would interrupt its host")

// Whether it is readable within so long; < 0: for ever, which gives up after a while.
inline bool readable_within(int fd, int64_t wait_ns) {
    const int64_t give_up_ns = patience(15 * MIO_SECOND);
    const bool for_ever = wait_ns < 0 || wait_ns > give_up_ns;
    struct pollfd one = {fd, POLLIN, 0};
    const int64_t most_ns = for_ever ? give_up_ns : wait_ns;
    const struct timespec most = {static_cast<time_t>(most_ns / MIO_SECOND), static_cast<long>(most_ns % MIO_SECOND)};
    const int n = ppoll(&one, 1, &most, nullptr);
    ck_assert_msg(n >= 0, "poll: %s", strerror(errno));
    ck_assert_msg(n > 0 || !for_ever, "the host slept for ever");
    return n > 0;
}

inline int64_t prepared(mio_loop_t *loop) {
    int64_t timeout_ns = -2;
    assert_is(mio_loop_prepare(loop, &timeout_ns), 0);
    ck_assert_int_ge(timeout_ns, -1);
    return timeout_ns;
}

// One round: prepare, sleep, dispatch.
inline void host_turn(host *h) {
    h->timeout_ns = prepared(h->loop);
    h->waits++;
    if (h->timeout_ns != 0) {
        h->slept++;
        (void)readable_within(h->fd, h->timeout_ns);
    }
    h->last = mio_loop_dispatch(h->loop);
    assert_ok(h->last);
}

template <class T> inline void host_until(host *h, const T &over) {
    const int64_t end_ns = clock_ns() + patience(20 * MIO_SECOND);
    while (!over()) {
        ck_assert_msg(clock_ns() < end_ns, "it did not come");
        host_turn(h);
    }
}

// Until nothing is left that need not be waited for: the next prepare says that the host may sleep for as long as it said.
inline int64_t host_settle(host *h) {
    int64_t timeout_ns;
    for (int i = 0; (timeout_ns = prepared(h->loop)) == 0 || readable_within(h->fd, 0); i++) {
        assert_ok(mio_loop_dispatch(h->loop));
        ck_assert_msg(i < 1000, "the host spins");
    }
    return timeout_ns;
}

// A stream of the loop's that reads, and its other end, which is the test's; nothing was run for it.
struct guest {
    mio_stream_t *stream;
    int peer;
    inbox got;
};

inline void guest_open(mio_loop_t *loop, guest *g, int of) {
    const half one = half_open(loop, of);
    g->stream = one.stream;
    g->peer = one.peer;
    g->got = inbox();
    g->got.is_text = true;
    ck_assert_int_gt(mio_stream_read_start(g->stream, 0, read_into, &g->got), 0);
}

inline void guest_say(const guest *g, const char *text) {
    assert_is(send(g->peer, text, strlen(text), MSG_NOSIGNAL), static_cast<ssize_t>(strlen(text)));
}

inline void timer_counts(mio_timer_t *, void *arg) { ++*static_cast<int *>(arg); }
inline void post_counts(mio_loop_t *, int, void *arg) { ++*static_cast<int *>(arg); }

// Says something a while later, from another thread: by then the host sleeps.
struct later {
    pthread_t thread;
    int after_ms;
    int fd;               // is told "hello"; -1
    mio_remote_t *remote; // is posted to; nullptr
    mio_wakeup_t *wakeup; // is sent to; nullptr
    int *posted;
};

inline void *later_run(void *arg) {
    const later *l = static_cast<const later *>(arg);
    sleep_ns(l->after_ms * MIO_MILLISECOND);
    if (l->fd >= 0 && send(l->fd, "hello", 5, MSG_NOSIGNAL) != 5) abort();
    if (l->remote != nullptr && mio_remote_post(l->remote, post_counts, l->posted) != 0) abort();
    if (l->wakeup != nullptr && mio_wakeup_send(l->wakeup) != 0) abort();
    return nullptr;
}

inline void later_start(later *l) { assert_is(pthread_create(&l->thread, nullptr, later_run, l), 0); }
inline void later_end(later *l) { assert_is(pthread_join(l->thread, nullptr), 0); }

}
