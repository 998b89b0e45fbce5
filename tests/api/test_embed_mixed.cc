// Embedding: hosts that do things in an order of their own. (What wakes a host: test_embed.cc.)
#include "hosting.h"

#include <sys/socket.h>
#include <unistd.h>

using namespace api;

static void count_wake(mio_loop_t *, void *arg) { ++*static_cast<int *>(arg); }

// --- the descriptor, asked for late -----------------------------------------------------------------------------------

// poll(2)'s argument is filled in after the prepare, with what mio_loop_fd says: the first time as well.
TEST(a_descriptor_asked_for_after_the_prepare_wakes) {
    KERNEL_ONLY("a simulated world is driven by mio_sim_run");
    mio_loop_t *loop = loop_open();
    guest g;
    guest_open(loop, &g, TCP);
    while (prepared(loop) == 0) assert_ok(mio_loop_dispatch(loop));
    host h;
    if (!host_open(&h, loop)) {
        close(g.peer);
        SKIP("this ring would interrupt its host");
    }
    guest_say(&g, "hello");
    ck_assert(readable_within(h.fd, -1));
    host_until(&h, [&] { return g.got.received == 5; });
    assert_is(host_settle(&h), -1); // and it does not spin
    close(g.peer);
}

// What came before it was asked for is no less news.
TEST(a_descriptor_asked_for_late_tells_of_what_came_before) {
    KERNEL_ONLY("a simulated world is driven by mio_sim_run");
    mio_loop_t *loop = loop_open();
    int posted = 0;
    while (prepared(loop) == 0) assert_ok(mio_loop_dispatch(loop));
    assert_is(mio_remote_post(mio_loop_remote(loop), post_counts, &posted), 0);
    host h;
    if (!host_open(&h, loop)) SKIP("this ring would interrupt its host");
    ck_assert(readable_within(h.fd, -1));
    assert_ok(mio_loop_dispatch(loop));
    assert_is(posted, 1);
    assert_is(host_settle(&h), -1);
}

// --- run in between ---------------------------------------------------------------------------------------------------

// A host that prepares when it is told to hears of it when somebody else ran the loop: what it was told is stale.
TEST(a_run_in_between_tells_a_host_to_prepare_again) {
    mio_loop_t *loop = loop_open();
    HOST(h, loop);
    int wakes = 0;
    assert_is(mio_loop_on_wake(loop, count_wake, &wakes), 0);
    assert_is(host_settle(&h), -1);
    assert_is(mio_loop_run_once(loop, 0), 0);
    assert_is(wakes, 1);
    assert_is(mio_loop_run_once(loop, 0), 0);
    assert_is(wakes, 1); // once for a prepare
    assert_is(host_settle(&h), -1);
    assert_is(mio_loop_run(loop), 0);
    assert_is(wakes, 2);
    assert_is(host_settle(&h), -1);
    assert_ok(mio_loop_dispatch(loop));
    assert_is(mio_loop_run_once(loop, 0), 0);
    assert_is(wakes, 2); // who dispatches prepares anyway
    mio_timer_t *timer;
    int fired = 0;
    assert_is(mio_timer_create(loop, &timer), 0);
    assert_is(host_settle(&h), -1);
    assert_is(mio_timer_start(timer, MIO_SECOND, 0, timer_counts, &fired), 0);
    assert_is(wakes, 3);
    assert_is(mio_loop_run_once(loop, 0), MIO_ALIVE);
    assert_is(wakes, 3);
}

// Without a callback the descriptor says so, and what comes then wakes the host as well.
TEST(a_run_in_between_leaves_the_host_its_wakes) {
    mio_loop_t *loop = loop_open();
    HOST(h, loop);
    mio_timer_t *timer;
    int fired = 0, posted = 0;
    assert_is(mio_timer_create(loop, &timer), 0);
    // Run for nothing: a post must wake, or something before it.
    assert_is(host_settle(&h), -1);
    assert_is(mio_loop_run_once(loop, 0), 0);
    assert_is(mio_remote_post(mio_loop_remote(loop), post_counts, &posted), 0);
    ck_assert(readable_within(h.fd, -1));
    host_until(&h, [&] { return posted == 1; });
    // The timer is news before the run, and still after it.
    assert_is(host_settle(&h), -1);
    assert_is(mio_timer_start(timer, 20 * MIO_MILLISECOND, 0, timer_counts, &fired), 0);
    assert_is(mio_loop_run_once(loop, 0), MIO_ALIVE);
    ck_assert(readable_within(h.fd, -1));
    host_until(&h, [&] { return fired == 1; });
    // One that a callback started.
    struct again { mio_timer_t *timer; int *fired; } more = {timer, &fired};
    assert_is(host_settle(&h), -1);
    assert_is(mio_remote_post(mio_loop_remote(loop), [](mio_loop_t *, int, void *arg) {
        const again *a = static_cast<const again *>(arg);
        assert_is(mio_timer_start(a->timer, 20 * MIO_MILLISECOND, 0, timer_counts, a->fired), 0);
    }, &more), 0);
    assert_is(mio_loop_run_once(loop, 0), MIO_ALIVE);
    ck_assert(readable_within(h.fd, -1));
    host_until(&h, [&] { return fired == 2; });
    assert_is(host_settle(&h), -1);
}

// --- news that is none ------------------------------------------------------------------------------------------------

// Bytes that somebody else has read by the time the loop looks are work for the kernel, of which nothing comes. It does
// some twenty of these at once: what stands behind them is not forgotten.
TEST(news_behind_much_that_is_none_wakes_a_host) {
    constexpr int STOLEN = 70;
    mio_loop_t *loop = loop_open();
    HOST(h, loop);
    mio_stream_t *streams[STOLEN + 1];
    int ends[STOLEN + 1][2];
    int thieves[STOLEN + 1];
    inbox got[STOLEN + 1] = {};
    for (int i = 0; i <= STOLEN; i++) {
        assert_is(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends[i]), 0);
        thieves[i] = dup(ends[i][0]);
        assert_ok(thieves[i]);
        assert_is(mio_stream_adopt(loop, ends[i][0], nullptr, 0, &streams[i]), 0);
        got[i].is_text = true;
        ck_assert_int_gt(mio_stream_read_start(streams[i], 0, read_into, &got[i]), 0);
    }
    assert_is(host_settle(&h), -1);
    char byte;
    for (int i = 0; i <= STOLEN; i++) {
        assert_is(write(ends[i][1], "x", 1), 1);
        if (i < STOLEN) assert_is(recv(thieves[i], &byte, 1, MSG_DONTWAIT), 1);
    }
    host_until(&h, [&] { return got[STOLEN].received == 1; });
    for (int i = 0; i <= STOLEN; i++) {
        close(ends[i][1]);
        close(thieves[i]);
        mio_handle_abandon(streams[i]);
    }
    run_to_end(loop);
}
