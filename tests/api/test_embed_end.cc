// Embedding: what goes wrong, and ends that come from outside a dispatch. (What goes right: test_embed.cc.)
#include "hosting.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

using namespace api;

static void count_wake(mio_loop_t *, void *arg) { ++*static_cast<int *>(arg); }

TEST(embedding_answers_each_mistake) {
    mio_loop_t *loop = loop_open();
    int64_t timeout_ns = 17;
    int calls = 0;
    assert_is(mio_loop_fd(nullptr), MIO_EINVAL);
    assert_is(mio_loop_prepare(nullptr, &timeout_ns), MIO_EINVAL);
    assert_is(mio_loop_prepare(loop, nullptr), MIO_EINVAL);
    assert_is(mio_loop_dispatch(nullptr), MIO_EINVAL);
    assert_is(mio_loop_on_wake(nullptr, count_wake, &calls), MIO_EINVAL);
    assert_is(mio_loop_alive(nullptr), MIO_EINVAL);
    assert_is(mio_loop_alive(loop), 0);
    if (on_sim()) {
        assert_is(mio_loop_fd(loop), MIO_ENOTSUP);
        assert_is(mio_loop_prepare(loop, &timeout_ns), MIO_ENOTSUP);
        assert_is(mio_loop_dispatch(loop), MIO_ENOTSUP);
        assert_is(mio_loop_on_wake(loop, count_wake, &calls), MIO_ENOTSUP);
    }
    assert_is(timeout_ns, 17);
    assert_is(calls, 0);
}

TEST(a_prepare_within_a_callback_is_refused) {
    mio_loop_t *loop = loop_open();
    HOST(h, loop);
    mio_timer_t *timer;
    static bool fired;
    fired = false;
    assert_is(mio_timer_create(loop, &timer), 0);
    assert_is(mio_timer_start(timer, 0, 0, [](mio_timer_t *t, void *) {
        mio_loop_t *on = mio_handle_loop(t);
        int64_t timeout_ns = 17;
        assert_is(mio_loop_prepare(on, &timeout_ns), MIO_EBUSY);
        assert_is(timeout_ns, 17);
        assert_is(mio_loop_dispatch(on), MIO_EBUSY);
        ck_assert_int_ge(mio_loop_fd(on), 0); // may be asked
        fired = true;
    }, nullptr), 0);
    host_until(&h, [] { return fired; });
}

// In on_wake, too: the call it runs in is not over.
TEST(nothing_runs_the_loop_from_on_wake) {
    mio_loop_t *loop = loop_open();
    HOST(h, loop);
    static int calls;
    calls = 0;
    assert_is(mio_loop_on_wake(loop, [](mio_loop_t *on, void *) {
        int64_t timeout_ns;
        calls++;
        assert_is(mio_loop_prepare(on, &timeout_ns), MIO_EBUSY);
        assert_is(mio_loop_dispatch(on), MIO_EBUSY);
        assert_is(mio_loop_run_once(on, 0), MIO_EBUSY);
        assert_is(mio_loop_destroy(on, 0), MIO_EBUSY);
    }, nullptr), 0);
    assert_is(host_settle(&h), -1);
    mio_timer_t *timer;
    assert_is(mio_timer_create(loop, &timer), 0);
    assert_is(mio_timer_start(timer, MIO_MINUTE, 0, timer_stops, nullptr), 0);
    assert_is(calls, 1);
    ck_assert_int_gt(host_settle(&h), 0);
}

TEST(a_loop_without_descriptors_to_spare_takes_no_host) {
    mio_loop_t *loop = loop_open();
    KERNEL_ONLY("a simulated world is driven by mio_sim_run");
    struct rlimit before, none;
    assert_is(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    assert_is(setrlimit(RLIMIT_NOFILE, &none), 0);
    const int refused = mio_loop_fd(loop);
    const int again = mio_loop_fd(loop);
    assert_is(setrlimit(RLIMIT_NOFILE, &before), 0);
    // Where the loop's own descriptor is the host's as well there is nothing to refuse.
    if (refused < 0 && refused != MIO_ENOTSUP) assert_is(refused, MIO_EMFILE);
    assert_is(again, refused);
    HOST(h, loop);
    if (refused >= 0) assert_is(h.fd, refused);
    guest g;
    guest_open(loop, &g, TCP);
    assert_is(host_settle(&h), -1);
    guest_say(&g, "hello");
    host_until(&h, [&g] { return g.got.received == 5; });
    close(g.peer);
}

// --- ends from outside a dispatch -----------------------------------------------------------------------------------

TEST(a_read_that_is_cancelled_while_its_host_sleeps_ends) {
    for (int of = 0; of < FAMILIES; of++) {
        mio_loop_t *loop = loop_open();
        HOST(h, loop);
        int wakes = 0;
        const half one = half_open(loop, of);
        inbox got = {};
        const mio_req_t id = mio_stream_read_start(one.stream, 0, read_into, &got);
        ck_assert_int_gt(id, 0);
        assert_is(mio_loop_on_wake(loop, count_wake, &wakes), 0);
        assert_is(host_settle(&h), -1);
        assert_is(wakes, 0);
        assert_is(mio_req_cancel(loop, id), 0);
        assert_is(wakes, 1);
        assert_is(got.ends, 0); // no callback inside a call
        host_until(&h, [&got] { return got.ends == 1; });
        assert_is(got.end, MIO_ECANCELED);
        assert_is(host_settle(&h), -1);
        close(one.peer);
        loop_close(loop);
    }
}

// FIN goes out when the host has prepared: what the ring has of the stream was asked to end with it.
TEST(a_stream_that_is_closed_while_its_host_sleeps_sends_its_end) {
    for (int of = 0; of < FAMILIES; of++) {
        for (int abandoned = 0; abandoned < 2; abandoned++) {
            mio_loop_t *loop = loop_open();
            HOST(h, loop);
            guest g;
            guest_open(loop, &g, of);
            outcome closed = {};
            assert_is(host_settle(&h), -1);
            if (abandoned) mio_handle_abandon(g.stream);
            else assert_is(mio_handle_close(g.stream, close_told, &closed), 0);
            host_until(&h, [&] { return metrics(loop).handles == 0; });
            assert_is(closed.calls, 1 - abandoned);
            assert_is(g.got.ends, 1 - abandoned);
            char byte;
            assert_is(recv(g.peer, &byte, 1, 0), 0);
            close(g.peer);
            loop_close(loop);
        }
    }
}

TEST(a_host_hears_of_a_peer_that_is_gone) {
    for (int reset = 0; reset < 2; reset++) {
        mio_loop_t *loop = loop_open();
        HOST(h, loop);
        guest g;
        guest_open(loop, &g, TCP);
        assert_is(host_settle(&h), -1);
        if (reset) raw_reset(g.peer);
        else close(g.peer);
        assert_is(readable_within(h.fd, -1), true);
        host_until(&h, [&g] { return g.got.ends == 1; });
        assert_is(g.got.end, reset ? static_cast<int64_t>(MIO_ECONNRESET) : static_cast<int64_t>(MIO_EOF));
        mio_handle_abandon(g.stream);
        loop_close(loop);
    }
}

// A loop is destroyed while its host sleeps, with everything on it; who stops watching first is not interrupted.
TEST(a_loop_is_destroyed_while_its_host_sleeps) {
    mio_loop_t *loop = loop_open();
    HOST(h, loop);
    int wakes = 0;
    guest g;
    guest_open(loop, &g, TCP);
    mio_timer_t *timer;
    assert_is(mio_timer_create(loop, &timer), 0);
    assert_is(mio_timer_start(timer, MIO_MINUTE, 0, timer_stops, nullptr), 0);
    assert_is(mio_loop_on_wake(loop, count_wake, &wakes), 0);
    ck_assert_int_gt(host_settle(&h), 0);
    guest_say(&g, "late");
    loop_close(loop);
    assert_is(wakes, 0);
    close(g.peer);
}

// --- a fork ---------------------------------------------------------------------------------------------------------

TEST(a_child_has_no_part_in_an_embedded_loop) {
    mio_loop_t *loop = loop_open();
    HOST(h, loop);
    guest g;
    guest_open(loop, &g, TCP);
    assert_is(host_settle(&h), -1);
    const pid_t child = fork();
    if (child == 0) {
        int64_t timeout_ns = 17;
        bool right = mio_loop_fd(loop) == MIO_EPERM && mio_loop_prepare(loop, &timeout_ns) == MIO_EPERM;
        right = right && timeout_ns == 17 && mio_loop_dispatch(loop) == MIO_EPERM && mio_loop_alive(loop) == MIO_EPERM;
        right = right && mio_loop_on_wake(loop, count_wake, nullptr) == MIO_EPERM && mio_loop_destroy(loop, 0) == 0;
        leave(right ? 0 : 1);
    }
    assert_is(child_status(child), 0);
    guest_say(&g, "parent");
    host_until(&h, [&g] { return g.got.received == 6; });
    assert_is(h.fd, mio_loop_fd(loop));
    close(g.peer);
}

// Create, daemon(3), embed: the loop is the child's from its first prepare on.
TEST(a_child_embeds_a_loop_that_nobody_has_run) {
    mio_loop_t *loop = loop_open();
    KERNEL_ONLY("a simulated world is driven by mio_sim_run");
    const int before = mio_loop_fd(loop);
    if (before < 0) SKIP("this ring would interrupt its host");
    const pid_t child = fork();
    if (child == 0) {
        int64_t timeout_ns = 17;
        if (mio_loop_fd(loop) != MIO_EPERM || mio_loop_prepare(loop, &timeout_ns) != 0 || timeout_ns != -1) leave(1);
        const int fd = mio_loop_fd(loop);
        mio_timer_t *timer;
        bool fired = false;
        if (fd < 0 || mio_timer_create(loop, &timer) < 0) leave(2);
        auto fires = [](mio_timer_t *, void *arg) { *static_cast<bool *>(arg) = true; };
        if (mio_timer_start(timer, MIO_MILLISECOND, 0, fires, &fired) < 0) leave(3);
        while (!fired) {
            if (mio_loop_prepare(loop, &timeout_ns) != 0 || timeout_ns < 0) leave(4);
            (void)readable_within(fd, timeout_ns);
            if (mio_loop_dispatch(loop) < 0) leave(5);
        }
        leave(mio_loop_destroy(loop, 0) == 0 ? 0 : 6);
    }
    assert_is(child_status(child), 0);
}

// --- a host that is interrupted -------------------------------------------------------------------------------------

static mio_loop_t *handler_loop;
static void handler_stops(int) { mio_loop_stop(handler_loop); }

// The handler's stop makes the descriptor readable, and is seen by one dispatch.
TEST(a_host_is_stopped_by_a_signal_handler) {
    mio_loop_t *loop = loop_open();
    HOST(h, loop);
    handler_loop = loop;
    signal(SIGUSR1, handler_stops);
    assert_is(host_settle(&h), -1);
    raise(SIGUSR1);
    assert_is(readable_within(h.fd, -1), true);
    assert_is(prepared(loop), 0);
    assert_is(mio_loop_dispatch(loop), MIO_STOPPED);
    assert_is(mio_loop_dispatch(loop), 0);
    signal(SIGUSR1, SIG_DFL);
    assert_is(host_settle(&h), -1);
}
