// Embedding: a host sleeps in the loop's place and is woken by whatever the loop waits for, no sooner and no later.
// (Mistakes, ends, forks: test_embed_end.cc.)
#include "hosting.h"

#include <atomic>

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/sem.h>

using namespace api;

static void count_wake(mio_loop_t *, void *arg) { ++*static_cast<int *>(arg); }

// --- time -----------------------------------------------------------------------------------------------------------

TEST(milliseconds_are_rounded_up) {
    assert_is(mio_timeout_ms(-1), -1);
    assert_is(mio_timeout_ms(INT64_MIN), -1);
    assert_is(mio_timeout_ms(0), 0);
    assert_is(mio_timeout_ms(1), 1);
    assert_is(mio_timeout_ms(999999), 1);
    assert_is(mio_timeout_ms(1000000), 1);
    assert_is(mio_timeout_ms(1000001), 2);
    assert_is(mio_timeout_ms(MIO_FOREVER), INT32_MAX);
    assert_is(mio_timeout_ms(INT64_C(2147483646) * MIO_MILLISECOND + 1), INT32_MAX);
}

// A host that counts milliseconds wakes for a timer when it is due, not before: no turns that find nothing to do.
TEST(a_host_of_milliseconds_does_not_spin) {
    mio_loop_t *loop = loop_open();
    HOST(h, loop);
    mio_timer_t *timer;
    int fired = 0;
    assert_is(mio_timer_create(loop, &timer), 0);
    const int64_t begun_ns = clock_ns();
    assert_is(mio_timer_start(timer, 20300000, 0, timer_counts, &fired), 0);
    int turns = 0;
    while (fired == 0) {
        struct pollfd one = {h.fd, POLLIN, 0};
        ck_assert_int_ge(poll(&one, 1, mio_timeout_ms(prepared(loop))), 0);
        assert_ok(mio_loop_dispatch(loop));
        turns++;
        ck_assert_int_lt(turns, 20);
    }
    ck_assert_int_ge(clock_ns() - begun_ns, 20300000);
}

// What a prepare tells is the next timer's time, also of one that nobody counts as alive.
TEST(a_prepare_tells_when_the_next_timer_is_due) {
    mio_loop_t *loop = loop_open();
    HOST(h, loop);
    assert_is(prepared(loop), -1);
    mio_timer_t *timer;
    int fired = 0;
    assert_is(mio_timer_create(loop, &timer), 0);
    assert_is(mio_timer_start(timer, 100 * MIO_SECOND, 0, timer_counts, &fired), 0);
    assert_is(mio_handle_unref(timer), 0);
    assert_is(mio_loop_alive(loop), 0);
    const int64_t wait_ns = prepared(loop);
    ck_assert_int_gt(wait_ns, 0);
    ck_assert_int_le(wait_ns, 101 * MIO_SECOND);
    assert_is(mio_timer_start(timer, MIO_MILLISECOND, 0, timer_counts, &fired), 0);
    assert_is(mio_loop_alive(loop), 0);
    host_until(&h, [&fired] { return fired == 1; });
    assert_is(h.last, 0); // nothing is alive, and yet it came
    assert_is(prepared(loop), -1);
    assert_is(mio_loop_hold(loop, 1), 0);
    assert_is(mio_loop_alive(loop), 1);
    assert_is(mio_loop_dispatch(loop), MIO_ALIVE);
    assert_is(mio_loop_hold(loop, -1), 0);
}

// Outside a turn the clock is that of now, however long the host was busy.
TEST(the_clock_goes_on_while_the_host_works) {
    mio_loop_t *loop = loop_open();
    HOST(h, loop);
    assert_is(host_settle(&h), -1);
    assert_ok(mio_loop_dispatch(loop));
    const int64_t before_ns = mio_loop_now_ns(loop);
    (void)prepared(loop);
    sleep_ns(2 * MIO_MILLISECOND);
    assert_ok(mio_loop_dispatch(loop));
    ck_assert_int_ge(mio_loop_now_ns(loop) - before_ns, 2 * MIO_MILLISECOND);
}

// --- what wakes a host ----------------------------------------------------------------------------------------------

// A host that sleeps without an end is woken by bytes that come while it sleeps. (The ring's own descriptor would not.)
TEST(bytes_wake_a_host_that_sleeps_for_ever) {
    for (int of = 0; of < FAMILIES; of++) {
        mio_loop_t *loop = loop_open();
        HOST(h, loop);
        guest g;
        guest_open(loop, &g, of);
        for (unsigned round = 1; round <= 5; round++) {
            assert_is(host_settle(&h), -1);
            later say = {};
            say.after_ms = 5;
            say.fd = g.peer;
            later_start(&say);
            assert_is(readable_within(h.fd, -1), true);
            later_end(&say);
            host_until(&h, [&] { return g.got.received == 5 * round; });
        }
        ck_assert_str_eq(g.got.text, "hellohellohellohellohello");
        close(g.peer);
        loop_close(loop);
    }
}

TEST(other_threads_wake_a_host_that_sleeps_for_ever) {
    mio_loop_t *loop = loop_open();
    HOST(h, loop);
    static int sent;
    sent = 0;
    int posted = 0;
    mio_wakeup_t *wakeup;
    assert_is(mio_wakeup_create(loop, [](mio_wakeup_t *, void *) { sent++; }, nullptr, &wakeup), 0);
    assert_is(mio_handle_unref(wakeup), 0);
    for (int round = 1; round <= 5; round++) {
        for (int what = 0; what < 2; what++) {
            assert_is(host_settle(&h), -1);
            later say = {};
            say.after_ms = 5;
            say.fd = -1;
            say.posted = &posted;
            if (what == 0) say.remote = mio_loop_remote(loop);
            else say.wakeup = wakeup;
            later_start(&say);
            assert_is(readable_within(h.fd, -1), true);
            later_end(&say);
            assert_ok(mio_loop_dispatch(loop));
            assert_is(posted, round);
            assert_is(sent, round - 1 + what);
        }
    }
    ck_assert_uint_ge(metrics(loop).wakes, 10);
}

// Between a prepare and the sleep something comes: the sleep does not begin.
TEST(what_comes_before_the_host_sleeps_is_not_lost) {
    mio_loop_t *loop = loop_open();
    HOST(h, loop);
    guest g;
    guest_open(loop, &g, TCP);
    int posted = 0;
    assert_is(host_settle(&h), -1);
    guest_say(&g, "a");
    assert_is(mio_remote_post(mio_loop_remote(loop), post_counts, &posted), 0);
    assert_is(readable_within(h.fd, -1), true);
    host_until(&h, [&] { return posted == 1 && g.got.received == 1; });
    assert_is(mio_remote_post(mio_loop_remote(loop), post_counts, &posted), 0); // before a prepare
    assert_is(prepared(loop), 0);
    assert_ok(mio_loop_dispatch(loop));
    assert_is(posted, 2);
    close(g.peer);
}

// Finished work, a name that is resolved, a child that ends, another's descriptor: all of it wakes.
TEST(everything_else_wakes_a_host_as_well) {
    mio_loop_t *loop = loop_open();
    HOST(h, loop);
    static int worked, polled, signalled;
    worked = polled = signalled = 0;
    assert_is(host_settle(&h), -1);
    static std::atomic<bool> asleep;
    asleep = false;
    ck_assert_int_gt(mio_work_start(loop, nullptr, [](void *) {
        while (!asleep.load()) sleep_ns(100 * MIO_MICROSECOND);
        sleep_ns(2 * MIO_MILLISECOND);
    }, [](mio_loop_t *, int status, void *) {
        assert_is(status, 0);
        worked++;
    }, nullptr), 0);
    assert_is(prepared(loop), -1);
    asleep = true;
    assert_is(readable_within(h.fd, -1), true);
    host_until(&h, [] { return worked == 1; });

    int ends[2];
    assert_is(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    mio_poll_t *poll;
    assert_is(mio_poll_open(loop, ends[0], &poll), 0);
    assert_is(mio_poll_set(poll, MIO_POLL_IN, [](mio_poll_t *p, int status, unsigned, void *) {
        if (status < 0) return;
        char byte;
        polled++;
        assert_is(recv(mio_poll_fd(p), &byte, 1, MSG_DONTWAIT), 1); // one of three: by level it is told again
    }, nullptr), 0);
    assert_is(host_settle(&h), -1);
    assert_is(send(ends[1], "abc", 3, MSG_NOSIGNAL), 3);
    assert_is(readable_within(h.fd, -1), true);
    host_until(&h, [] { return polled == 3; });
    assert_is(host_settle(&h), -1);
    assert_is(polled, 3);
    mio_handle_abandon(poll);
    close(ends[0]);
    char byte;
    assert_is(recv(ends[1], &byte, 1, 0), 0); // nothing of the loop's holds it open
    close(ends[1]);

    mio_signal_t *handle;
    assert_is(mio_signal_create(loop, &handle), 0);
    ck_assert_int_gt(mio_signal_start(handle, SIGUSR2, 0, [](mio_signal_t *, int64_t n, void *) {
        if (n > 0) signalled++;
    }, nullptr), 0);
    assert_is(host_settle(&h), -1);
    raise(SIGUSR2);
    assert_is(readable_within(h.fd, -1), true);
    host_until(&h, [] { return signalled == 1; });
    mio_handle_abandon(handle);
}

// --- a prepare that is stale ----------------------------------------------------------------------------------------

TEST(a_call_outside_a_dispatch_is_told_once) {
    mio_loop_t *loop = loop_open();
    HOST(h, loop);
    int wakes = 0, fired = 0;
    guest g;
    guest_open(loop, &g, TCP);
    mio_timer_t *timer;
    mio_hook_t *idle;
    assert_is(mio_timer_create(loop, &timer), 0);
    assert_is(mio_hook_create(loop, MIO_HOOK_IDLE, &idle), 0);
    assert_is(mio_loop_on_wake(loop, count_wake, &wakes), 0);
    assert_is(wakes, 0); // nobody has prepared yet
    assert_is(host_settle(&h), -1);

    (void)mio_loop_now_ns(loop);
    (void)metrics(loop);
    (void)mio_loop_alive(loop);
    assert_is(mio_loop_hold(loop, 1), 0);
    assert_is(mio_loop_hold(loop, -1), 0);
    assert_is(mio_handle_set_name(timer, "timer"), 0);
    assert_is(mio_timer_stop(timer), 0);
    assert_is(wakes, 0); // nothing of that asks for anything

    mio_buf_t text = text_buf(loop, "out");
    ck_assert_int_gt(mio_stream_write(g.stream, &text, 1, nullptr, nullptr), 0);
    assert_is(wakes, 1);
    assert_is(mio_timer_start(timer, MIO_MILLISECOND, 0, timer_counts, &fired), 0);
    assert_is(wakes, 1); // once after each prepare
    ck_assert_int_ge(prepared(loop), 0);
    char out[4] = {};
    assert_is(recv(g.peer, out, 3, MSG_WAITALL), 3); // it went with the prepare
    ck_assert_str_eq(out, "out");
    host_until(&h, [&fired] { return fired == 1; });
    assert_is(host_settle(&h), -1);

    assert_is(mio_timer_start_at(timer, mio_loop_now_ns(loop) + MIO_MINUTE, 0, timer_counts, &fired), 0);
    assert_is(wakes, 2);
    ck_assert_int_gt(host_settle(&h), 0);
    assert_is(mio_hook_start(idle, [](mio_hook_t *, void *) {}, nullptr), 0);
    assert_is(wakes, 3);
    assert_is(prepared(loop), 0); // as long as it is active
    assert_is(mio_hook_stop(idle), 0);
    ck_assert_int_gt(host_settle(&h), 0);
    assert_is(mio_handle_close(timer, nullptr, nullptr), 0);
    assert_is(wakes, 4);
    assert_is(host_settle(&h), -1);

    assert_is(mio_loop_on_wake(loop, nullptr, nullptr), 0);
    assert_is(mio_handle_close(idle, nullptr, nullptr), 0);
    assert_is(wakes, 4);
    close(g.peer);
}

// Without on_wake the descriptor says so: a host that prepares only after a dispatch misses nothing.
TEST(a_stale_prepare_makes_the_descriptor_readable) {
    mio_loop_t *loop = loop_open();
    HOST(h, loop);
    guest g;
    guest_open(loop, &g, UNIX);
    assert_is(host_settle(&h), -1);
    assert_is(readable_within(h.fd, 0), false);
    mio_buf_t text = text_buf(loop, "out");
    outcome written = {};
    ck_assert_int_gt(mio_stream_write(g.stream, &text, 1, write_told, &written), 0);
    assert_is(readable_within(h.fd, -1), true);
    assert_ok(mio_loop_dispatch(loop));
    assert_is(written.calls, 1);
    char out[4] = {};
    assert_is(recv(g.peer, out, 3, MSG_WAITALL), 3);
    close(g.peer);
}

TEST(what_callbacks_start_is_no_news_for_the_host) {
    mio_loop_t *loop = loop_open();
    HOST(h, loop);
    int wakes = 0;
    static int fired;
    fired = 0;
    mio_timer_t *timer;
    assert_is(mio_timer_create(loop, &timer), 0);
    assert_is(mio_loop_on_wake(loop, count_wake, &wakes), 0);
    assert_is(mio_timer_start(timer, 0, 0, [](mio_timer_t *t, void *) {
        if (++fired < 3) assert_is(mio_timer_start(t, MIO_MILLISECOND, 0, timer_counts, &fired), 0);
    }, nullptr), 0);
    host_until(&h, [] { return fired == 2; });
    assert_is(wakes, 0);
}

// --- manners --------------------------------------------------------------------------------------------------------

// While the loop has news, the thread waits in calls of the host's that know nothing of it: none is interrupted.
TEST(calls_of_the_hosts_are_not_interrupted) {
    mio_loop_t *loop = loop_open();
    HOST(h, loop);
    guest g;
    guest_open(loop, &g, TCP);
    guest other;
    guest_open(loop, &other, UNIX);
    int posted = 0;
    int ends[2];
    assert_is(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    const struct timeval most = {0, 30000};
    assert_is(setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most), 0);
    const int set = epoll_create1(EPOLL_CLOEXEC);
    const int semaphore = semget(IPC_PRIVATE, 1, 0600);
    for (int what = 0; what < 4; what++) {
        (void)host_settle(&h);
        later say[2] = {};
        for (later &one : say) {
            one.after_ms = 8;
            one.fd = &one == say ? g.peer : other.peer;
            one.remote = mio_loop_remote(loop);
            one.posted = &posted;
            later_start(&one);
        }
        const struct timespec wait = {0, 30000000};
        struct timespec left = {};
        char byte;
        struct sembuf down = {0, -1, 0};
        struct epoll_event event;
        int result = 0;
        errno = 0;
        switch (what) {
        case 0: result = epoll_wait(set, &event, 1, 30); break;
        case 1: result = static_cast<int>(recv(ends[0], &byte, 1, 0)); break;
        case 2: result = semaphore < 0 ? 0 : semtimedop(semaphore, &down, 1, &wait); break;
        case 3: result = nanosleep(&wait, &left); break;
        }
        const int error = errno;
        for (later &one : say) later_end(&one);
        ck_assert_msg(error != EINTR, "call %d was interrupted: %d", what, result);
        host_until(&h, [&] { return g.got.received == 5u * (static_cast<unsigned>(what) + 1); });
    }
    host_until(&h, [&] { return posted == 8 && other.got.received == 20; });
    if (semaphore >= 0) semctl(semaphore, 0, IPC_RMID);
    close(set);
    close(ends[0]);
    close(ends[1]);
    close(g.peer);
    close(other.peer);
}

// since_ns: when the loop was made or destroyed. It waits 250 ms at most for its ring: a kernel that takes longer, on a
// machine that stands still, interrupts.
static void not_interrupted_for(int64_t duration_ns, int64_t since_ns) {
    const bool gone = clock_ns() - since_ns < 250 * MIO_MILLISECOND;
    const int set = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event;
    const int told = epoll_wait(set, &event, 1, mio_timeout_ms(duration_ns));
    ck_assert_msg(told == 0 || (!gone && errno == EINTR), "epoll_wait: %d, %s", told, strerror(errno));
    close(set);
}

// A ring that is closed is taken apart later, and who used it is interrupted: neither the one that a first loop tries
// things with nor the loop's own may do so to a host.
TEST(what_a_loop_leaves_behind_interrupts_nobody) {
    int64_t since_ns = clock_ns();
    mio_loop_t *loop = loop_open();
    HOST(h, loop);
    not_interrupted_for(60 * MIO_MILLISECOND, since_ns);
    guest g;
    guest_open(loop, &g, TCP);
    guest_say(&g, "hello");
    host_until(&h, [&g] { return g.got.received == 5; });
    close(g.peer);
    since_ns = clock_ns();
    loop_close(loop);
    not_interrupted_for(60 * MIO_MILLISECOND, since_ns);
}

// A loop that has nothing to do lets its host sleep, whichever way the host waits.
TEST(a_host_is_not_woken_for_nothing) {
    mio_loop_t *loop = loop_open();
    HOST(h, loop);
    guest g[2];
    for (int of = 0; of < FAMILIES; of++) guest_open(loop, &g[of], of);
    for (int of = 0; of < FAMILIES; of++) {
        guest_say(&g[of], "news");
        host_until(&h, [&] { return g[of].got.received == 4; });
    }
    assert_is(host_settle(&h), -1);
    for (unsigned i = 0; i < 2; i++) {
        const uint32_t edges = i == 0 ? 0 : static_cast<uint32_t>(EPOLLET);
        const int set = epoll_create1(EPOLL_CLOEXEC);
        const int outer = epoll_create1(EPOLL_CLOEXEC);
        struct epoll_event event = {};
        event.events = EPOLLIN | edges;
        assert_is(epoll_ctl(set, EPOLL_CTL_ADD, h.fd, &event), 0);
        assert_is(epoll_ctl(outer, EPOLL_CTL_ADD, set, &event), 0);
        for (int turn = 0; turn < 3; turn++) { // an edge may be left of what was there when it was added
            assert_ok(mio_loop_dispatch(loop));
            assert_is(host_settle(&h), -1);
            const int told = epoll_wait(set, &event, 1, 0);
            if (turn > 0 || edges == 0) assert_is(told, 0);
        }
        assert_is(epoll_wait(set, &event, 1, 20), 0);
        assert_is(epoll_wait(outer, &event, 1, 0), 0);
        guest_say(&g[UNIX], "more");
        assert_is(epoll_wait(outer, &event, 1, 10000), 1);
        assert_is(epoll_wait(set, &event, 1, 10000), 1);
        host_until(&h, [&] { return g[UNIX].got.received == (edges == 0 ? 8u : 12u); });
        close(outer);
        close(set);
    }
    for (const guest &one : g) close(one.peer);
}

// A host that waits by edges: each prepare that lets it sleep has seen to all there was, also when there was a lot.
TEST(a_host_may_wait_by_edges) {
    constexpr int MANY = 300;
    mio_loop_t *loop = loop_open();
    HOST(h, loop);
    static guest all[MANY];
    for (guest &one : all) guest_open(loop, &one, UNIX);
    const int set = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {};
    event.events = EPOLLIN | static_cast<uint32_t>(EPOLLET);
    assert_is(epoll_ctl(set, EPOLL_CTL_ADD, h.fd, &event), 0);
    for (unsigned round = 1; round <= 3; round++) {
        while (prepared(loop) == 0) assert_ok(mio_loop_dispatch(loop));
        (void)epoll_wait(set, &event, 1, 0);
        for (const guest &one : all) guest_say(&one, "x");
        const int64_t end_ns = clock_ns() + patience(20 * MIO_SECOND);
        unsigned received = 0;
        while (received != MANY * round) {
            if (prepared(loop) != 0) ck_assert_msg(epoll_wait(set, &event, 1, 15000) == 1, "%u of %d", received, MANY);
            assert_ok(mio_loop_dispatch(loop));
            received = 0;
            for (const guest &one : all) received += static_cast<unsigned>(one.got.received);
            ck_assert_int_lt(clock_ns(), end_ns);
        }
    }
    for (const guest &one : all) close(one.peer);
    close(set);
}

// A callback of ours runs the host's loop, as a dialog does: it leaves the descriptor out, and does not spin.
TEST(a_host_that_runs_nested_in_a_callback_does_not_spin) {
    mio_loop_t *loop = loop_open();
    HOST(h, loop);
    static guest g;
    static host *outer;
    static int rounds, fired;
    guest_open(loop, &g, UNIX);
    outer = &h;
    rounds = fired = 0;
    mio_timer_t *timer;
    assert_is(mio_timer_create(loop, &timer), 0);
    assert_is(mio_timer_start(timer, 0, 0, [](mio_timer_t *t, void *) {
        guest_say(&g, "unseen");
        const int64_t end_ns = clock_ns() + 20 * MIO_MILLISECOND;
        while (clock_ns() < end_ns) {
            int64_t timeout_ns;
            const int error = mio_loop_prepare(mio_handle_loop(t), &timeout_ns);
            assert_is(error, MIO_EBUSY);
            struct pollfd one = {error == 0 ? outer->fd : -1, POLLIN, 0};
            ck_assert_int_ge(poll(&one, 1, 10), 0);
            rounds++;
        }
        fired = 1;
    }, nullptr), 0);
    host_until(&h, [] { return fired == 1; });
    ck_assert_int_le(rounds, 4);
    host_until(&h, [] { return g.got.received == 6; });
    close(g.peer);
}
