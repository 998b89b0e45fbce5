// Embedding: the turn of a dispatch and its cost, loops that go from thread to thread, that are run as well, that host.
#include "hosting.h"

#include <pthread.h>
#include <sys/epoll.h>

using namespace api;

// --- whose thread ---------------------------------------------------------------------------------------------------

struct worker {
    mio_loop_t *loop;
    guest *g;
    int fd;
    uint64_t wanted;
};

static void *worker_hosts(void *arg) {
    worker *w = static_cast<worker *>(arg);
    host h;
    if (!host_open(&h, w->loop)) abort();
    w->fd = h.fd;
    host_until(&h, [w] { return w->g->got.received == w->wanted; });
    return nullptr;
}

// Made here, embedded by one thread after the other: the same descriptor, and nothing is lost in between.
TEST(the_descriptor_stays_when_the_thread_changes) {
    mio_loop_t *loop = loop_open();
    HOST(h, loop);
    guest g;
    guest_open(loop, &g, TCP);
    for (int round = 0; round < 2; round++) {
        worker w = {loop, &g, -1, 5};
        w.wanted = static_cast<uint64_t>(round) * 10 + 5;
        pthread_t thread;
        guest_say(&g, "there ");
        w.wanted += 1;
        assert_is(pthread_create(&thread, nullptr, worker_hosts, &w), 0);
        assert_is(pthread_join(thread, nullptr), 0);
        assert_is(w.fd, h.fd);
        guest_say(&g, "here");
        host_until(&h, [&] { return g.got.received == w.wanted + 4; });
        assert_is(mio_loop_fd(loop), h.fd);
    }
    ck_assert_str_eq(g.got.text, "there herethere here");
    close(g.peer);
}

// --- the turn, and what it costs ------------------------------------------------------------------------------------

static diary book;

TEST(a_dispatch_is_a_turn_in_its_promised_order) {
    mio_loop_t *loop = loop_open();
    HOST(h, loop);
    book = {};
    static mio_hook_t *hooks[3];
    static guest g;
    guest_open(loop, &g, UNIX);
    static const char *const names[] = {"i", "p", "c"};
    for (int i = 0; i < 3; i++) {
        assert_is(mio_hook_create(loop, static_cast<mio_hook_phase>(i), &hooks[i]), 0);
        assert_is(mio_hook_start(hooks[i], [](mio_hook_t *hook, void *arg) {
            diary_add(&book, static_cast<const char *>(arg));
            assert_is(mio_hook_stop(hook), 0);
        }, const_cast<char *>(names[i])), 0);
    }
    mio_timer_t *timer;
    assert_is(mio_timer_create(loop, &timer), 0);
    assert_is(mio_timer_start(timer, 0, 0, [](mio_timer_t *t, void *) {
        diary_add(&book, "t");
        assert_is(mio_handle_close(t, [](mio_handle_t *, void *) { diary_add(&book, "x"); }, nullptr), 0);
    }, nullptr), 0);
    assert_is(mio_remote_post(mio_loop_remote(loop), [](mio_loop_t *, int, void *) { diary_add(&book, "m"); }, nullptr), 0);
    mio_buf_t text = text_buf(loop, "w");
    ck_assert_int_gt(mio_stream_write(g.stream, &text, 1, [](mio_stream_t *, int, int64_t, mio_buf_t *, unsigned, void *) {
        diary_add(&book, "w");
    }, nullptr), 0);
    assert_is(prepared(loop), 0);
    ck_assert_str_eq(book.text, ""); // a prepare calls nobody
    assert_is(mio_loop_dispatch(loop), MIO_ALIVE);
    ck_assert_str_eq(book.text, "tipcmwx");
    assert_is(host_settle(&h), -1);
    ck_assert_str_eq(book.text, "tipcmwx");
    close(g.peer);
}

// Warm, a host's rounds allocate nothing, and what they did is in the metrics.
TEST(an_embedded_loop_allocates_nothing_once_warm) {
    mio_loop_t *loop = loop_open();
    HOST(h, loop);
    guest g;
    guest_open(loop, &g, TCP);
    mio_timer_t *timer;
    int fired = 0;
    assert_is(mio_timer_create(loop, &timer), 0);
    assert_is(mio_timer_start(timer, MIO_MILLISECOND, MIO_MILLISECOND, timer_counts, &fired), 0);
    auto round = [&](uint64_t received) {
        guest_say(&g, "x");
        host_until(&h, [&] { return g.got.received == received; });
    };
    for (uint64_t i = 1; i <= 20; i++) round(i);
    const int64_t calls = loop_counting(loop)->calls;
    const mio_loop_metrics_t before = metrics(loop);
    const int waits = h.waits, slept = h.slept;
    for (uint64_t i = 21; i <= 120; i++) round(i);
    const mio_loop_metrics_t now = metrics(loop);
    assert_is(loop_counting(loop)->calls, calls);
    assert_is(now.turns - before.turns, static_cast<uint64_t>(h.waits - waits));
    assert_is(now.polls_waited - before.polls_waited, static_cast<uint64_t>(h.slept - slept));
    close(g.peer);
}

// Hosts mix: the loop may also be run by itself in between.
TEST(a_loop_is_embedded_and_run_in_turns) {
    mio_loop_t *loop = loop_open();
    HOST(h, loop);
    pair streams = connect_pair(loop);
    inbox got = {};
    got.is_text = true;
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &got), 0);
    for (uint64_t i = 1; i <= 10; i++) {
        mio_buf_t text = text_buf(loop, "abc");
        ck_assert_int_gt(mio_stream_write(streams.client, &text, 1, nullptr, nullptr), 0);
        if (i % 2 == 0) host_until(&h, [&] { return got.received == 3 * i; });
        got.stop_at = 3 * i;
        if (i % 2 != 0) run_to_stop(loop);
    }
    while (host_settle(&h) != -1) {}
    assert_is(got.received, 30);
}

// A host that is libmio itself: a loop within a loop.
TEST(a_loop_hosts_another_one) {
    mio_loop_t *outer = loop_open();
    mio_loop_t *inner = loop_open();
    HOST(h, inner);
    static guest g;
    static mio_loop_t *of;
    static mio_timer_t *timer;
    of = inner;
    guest_open(inner, &g, TCP);
    g.got.stop_at = 10;
    mio_poll_t *poll;
    assert_is(mio_poll_open(outer, h.fd, &poll), 0);
    static mio_hook_t *hook;
    assert_is(mio_hook_create(outer, MIO_HOOK_PREPARE, &hook), 0);
    assert_is(mio_timer_create(outer, &timer), 0);
    auto dispatch = [](mio_loop_t *on) {
        if (mio_loop_dispatch(of) == MIO_STOPPED) mio_loop_stop(on);
    };
    static auto dispatches = dispatch;
    assert_is(mio_poll_set(poll, MIO_POLL_IN, [](mio_poll_t *p, int status, unsigned, void *) {
        if (status == 0) dispatches(mio_handle_loop(p));
    }, nullptr), 0);
    assert_is(mio_hook_start(hook, [](mio_hook_t *, void *) {
        const int64_t timeout_ns = prepared(of);
        if (timeout_ns < 0) assert_is(mio_timer_stop(timer), 0);
        else assert_is(mio_timer_start(timer, timeout_ns, 0, [](mio_timer_t *t, void *) { dispatches(mio_handle_loop(t)); }, nullptr), 0);
    }, nullptr), 0);
    later say[2] = {};
    for (later &one : say) {
        one.fd = g.peer;
        one.after_ms = &one == say ? 5 : 15;
        later_start(&one);
    }
    run_to_stop(outer);
    for (later &one : say) later_end(&one);
    assert_is(g.got.received, 10);
    ck_assert_uint_lt(metrics(inner).turns, 100); // it slept
    mio_handle_abandon(poll);
    mio_handle_abandon(hook);
    mio_handle_abandon(timer);
    run_to_end(outer);
    close(g.peer);
}

// --- backends -------------------------------------------------------------------------------------------------------

// A ring that would interrupt its host takes none: whoever left the choice to the library is put on the next backend.
TEST(a_ring_that_would_interrupt_takes_no_host) {
    RING_ONLY();
    if (on_sqpoll()) SKIP("a thread of the kernel's submits, and is interrupted in our place");
    for (int chosen = 0; chosen < 2; chosen++) {
        for (int ran = 0; ran < 2; ran++) {
            mio_loop_options_t options = loop_options();
            options.uring_without = MIO_URING_DEFER;
            if (!chosen) options.backend = MIO_BACKEND_AUTO;
            mio_loop_t *loop = loop_open_with(&options);
            if (strcmp(mio_loop_backend(loop), "io_uring") != 0) SKIP("AUTO takes no ring here");
            if (ran) run_to_end(loop);
            guest g;
            guest_open(loop, &g, TCP);
            mio_remote_t *remote = mio_loop_remote(loop);
            const int fd = mio_loop_fd(loop);
            if (chosen || ran) {
                assert_is(fd, MIO_ENOTSUP);
                ck_assert_str_eq(mio_loop_backend(loop), "io_uring");
            } else {
                ck_assert_int_ge(fd, 0);
                ck_assert_str_eq(mio_loop_backend(loop), "epoll");
                host h = {};
                h.loop = loop;
                h.fd = fd;
                int posted = 0;
                guest_say(&g, "hello");
                assert_is(mio_remote_post(remote, post_counts, &posted), 0);
                host_until(&h, [&] { return g.got.received == 5 && posted == 1; });
                assert_is(mio_loop_fd(loop), fd);
            }
            close(g.peer);
            loop_close(loop);
        }
    }
}
