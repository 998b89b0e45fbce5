// The end of a loop: everything is called back, nothing new is taken, and who may do it.
#include "harness.h"

#include <pthread.h>
#include <unistd.h>

using namespace api;

struct everything {
    mio_loop_t *loop;
    int reads, writes, connects, accepts, closes, shut, detached, timers, wakeups;
    int late; // starts that were not refused
};
static everything all;

static void start_late(mio_loop_t *loop) { // inside destroy: nothing is taken
    mio_timer_t *timer = nullptr;
    mio_listener_t *listener = nullptr;
    mio_stream_t *stream = nullptr;
    mio_hook_t *hook = nullptr;
    mio_wakeup_t *wakeup = nullptr;
    mio_addr_t at;
    mio_buf_t buf = {};
    mio_addr_parse("127.0.0.1", 1, &at);
    if (mio_timer_create(loop, &timer) != MIO_ESHUTDOWN) all.late++;
    if (mio_hook_create(loop, MIO_HOOK_IDLE, &hook) != MIO_ESHUTDOWN) all.late++;
    if (mio_wakeup_create(loop, [](mio_wakeup_t *, void *) {}, nullptr, &wakeup) != MIO_ESHUTDOWN) all.late++;
    if (mio_tcp_listen(loop, "127.0.0.1", 0, nullptr, [](mio_listener_t *, int, mio_stream_t *, void *) {}, nullptr,
                       &listener) != MIO_ESHUTDOWN) all.late++;
    if (mio_tcp_connect(loop, &at, nullptr, [](mio_stream_t *, int, void *) {}, nullptr, &stream) != MIO_ESHUTDOWN) all.late++;
    if (mio_buf_alloc(loop, 10, &buf) != MIO_ESHUTDOWN) all.late++;
    if (mio_remote_post(mio_loop_remote(loop), [](mio_loop_t *, int, void *) {}, nullptr) != MIO_ESHUTDOWN) all.late++;
    if (mio_loop_destroy(loop, 0) != MIO_EBUSY) all.late++;
    if (mio_loop_run(loop) != MIO_EBUSY) all.late++;
}

TEST(destroy_with_everything_in_flight_calls_everything_back_once) {
    mio_loop_t *loop = loop_open();
    all = {};
    all.loop = loop;
    pair streams = connect_narrow_pair(loop), other = connect_narrow_pair(loop);
    mio_addr_t at;
    listen_on(loop, [](mio_listener_t *, int status, mio_stream_t *, void *) {
        if (status == MIO_ECANCELED) all.accepts++;
    }, nullptr, &at);
    run_for(loop, MIO_MILLISECOND);
    mio_stream_t *connecting;
    ck_assert_int_gt(mio_tcp_connect(loop, &at, nullptr, [](mio_stream_t *, int status, void *) {
        assert_is(status, MIO_ECANCELED);
        all.connects++;
    }, nullptr, &connecting), 0);
    auto read = [](mio_stream_t *, int64_t n, mio_buf_t *, void *) {
        assert_is(n, MIO_ECANCELED);
        if (all.reads++ == 0) start_late(all.loop);
    };
    auto written = [](mio_stream_t *, int status, int64_t, mio_buf_t *, unsigned, void *) {
        assert_is(status, MIO_ECANCELED);
        all.writes++;
    };
    ck_assert_int_gt(mio_stream_read_start(streams.client, 0, read, nullptr), 0);
    for (int i = 0; i < 5; i++) {
        mio_buf_t room = {};
        assert_is(mio_buf_alloc(loop, 10, &room), 0);
        ck_assert_int_gt(mio_stream_read(streams.server, &room, read, nullptr), 0);
    }
    mio_buf_t big = pattern_buf(loop, NARROW_ROOM, 0);
    ck_assert_int_gt(mio_stream_write(other.client, &big, 1, written, nullptr), 0);
    ck_assert_int_gt(mio_stream_shutdown(other.client, [](mio_stream_t *, int status, void *) {
        assert_is(status, MIO_ECANCELED);
        all.shut++;
    }, nullptr), 0);
    mio_buf_t more = pattern_buf(loop, NARROW_ROOM, 0);
    ck_assert_int_gt(mio_stream_write(other.server, &more, 1, written, nullptr), 0);
    ck_assert_int_gt(mio_stream_detach(other.server, [](mio_stream_t *, int status, int fd, mio_buf_t *, unsigned, void *) {
        assert_is(status, MIO_ECANCELED);
        assert_is(fd, -1);
        all.detached++;
    }, nullptr), 0);
    mio_timer_t *timer, *closing;
    assert_is(mio_timer_create(loop, &timer), 0);
    assert_is(mio_timer_create(loop, &closing), 0);
    assert_is(mio_timer_start(timer, 0, 0, [](mio_timer_t *, void *) { all.timers++; }, nullptr), 0);
    assert_is(mio_handle_close(closing, [](mio_handle_t *, void *) { all.closes++; }, nullptr), 0);
    loop_close(loop);
    assert_is(all.reads, 6);
    assert_is(all.writes, 2);
    assert_is(all.shut, 1);
    assert_is(all.detached, 1);
    assert_is(all.connects, 1);
    assert_is(all.accepts, 1);
    assert_is(all.closes, 1);
    assert_is(all.timers, 0); // a timer is no request: its callback is an event that did not happen
    assert_is(all.late, 0);
}

TEST(destroy_with_a_thousand_requests_in_flight_is_clean) {
    mio_loop_t *loop = loop_open();
    static int told;
    told = 0;
    for (int i = 0; i < 100; i++) {
        pair streams = connect_pair(loop);
        for (int k = 0; k < 10; k++) {
            mio_buf_t room = {};
            assert_is(mio_buf_alloc(loop, 1000, &room), 0);
            ck_assert_int_gt(mio_stream_read(k % 2 ? streams.client : streams.server, &room,
                                             [](mio_stream_t *, int64_t, mio_buf_t *, void *) { told++; }, nullptr), 0);
        }
        if (i % 10 == 0) assert_ok(mio_loop_run_once(loop, 0));
    }
    loop_close(loop);
    assert_is(told, 1000);
}

TEST(a_handle_may_be_closed_and_abandoned_inside_destroy) {
    mio_loop_t *loop = loop_open();
    static pair streams;
    static int told, closed;
    told = closed = 0;
    streams = connect_pair(loop);
    auto read = [](mio_stream_t *stream, int64_t, mio_buf_t *, void *) {
        told++;
        mio_handle_abandon(stream == streams.client ? streams.server : streams.client);
        const int error = mio_handle_close(stream, [](mio_handle_t *, void *) { closed++; }, nullptr);
        ck_assert(error == 0 || error == MIO_EALREADY || error == MIO_EBADF);
    };
    ck_assert_int_gt(mio_stream_read_start(streams.client, 0, read, nullptr), 0);
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read, nullptr), 0);
    loop_close(loop);
    assert_is(told, 1); // the other one was abandoned first
}

TEST(a_loop_that_never_ran_can_be_destroyed) {
    mio_loop_t *loop = loop_open();
    mio_timer_t *timer;
    mio_addr_t at;
    assert_is(mio_timer_create(loop, &timer), 0);
    assert_is(mio_timer_start(timer, 5, 5, [](mio_timer_t *, void *) {}, nullptr), 0);
    listen_on(loop, [](mio_listener_t *, int, mio_stream_t *, void *) {}, nullptr, &at);
    mio_stream_t *stream;
    outcome told = {};
    ck_assert_int_gt(mio_tcp_connect(loop, &at, nullptr, stream_told, &told, &stream), 0);
    mio_buf_t buf = pattern_buf(loop, 10, 0);
    ck_assert_int_gt(mio_stream_write(stream, &buf, 1, nullptr, nullptr), 0);
    loop_close(loop);
    assert_is(told.calls, 1);
    assert_is(told.status, MIO_ECANCELED);
}

// --- threads --------------------------------------------------------------------------------------------------------

static mio_loop_t *shared;
static int volatile phase;

static void *run_shared(void *) {
    mio_loop_run(shared);
    __atomic_store_n(&phase, 1, __ATOMIC_RELEASE);
    while (__atomic_load_n(&phase, __ATOMIC_ACQUIRE) == 1) sleep_ns(MIO_MILLISECOND);
    return nullptr;
}

TEST(create_in_one_thread_run_in_another_destroy_in_a_third) {
    KERNEL_ONLY("a simulated world has one thread");
    shared = loop_open();
    phase = 0;
    static inbox in;
    static echo server;
    in = {};
    in.stop_at = 10000;
    echo_open(shared, &server);
    mio_stream_t *client;
    ck_assert_int_gt(mio_tcp_connect(shared, &server.at, nullptr, [](mio_stream_t *, int, void *) {}, nullptr, &client), 0);
    ck_assert_int_gt(mio_stream_read_start(client, 0, read_into, &in), 0);
    mio_buf_t bytes = pattern_buf(shared, 10000, 0);
    ck_assert_int_gt(mio_stream_write(client, &bytes, 1, nullptr, nullptr), 0);
    pthread_t runner;
    assert_is(pthread_create(&runner, nullptr, run_shared, nullptr), 0);
    while (__atomic_load_n(&phase, __ATOMIC_ACQUIRE) == 0) sleep_ns(MIO_MILLISECOND);
    assert_is(mio_loop_destroy(shared, 0), MIO_EPERM); // its thread is still there
    __atomic_store_n(&phase, 2, __ATOMIC_RELEASE);
    pthread_join(runner, nullptr);
    ck_assert(!in.wrong);
    pthread_t third;
    assert_is(pthread_create(&third, nullptr, [](void *) -> void * {
        return reinterpret_cast<void *>(static_cast<intptr_t>(mio_loop_destroy(shared, drain_ns())));
    }, nullptr), 0);
    void *result;
    pthread_join(third, &result);
    assert_is(reinterpret_cast<intptr_t>(result), 0);
    loop_forget(shared);
}

// --- fork -----------------------------------------------------------------------------------------------------------

TEST(in_a_forks_child_the_parents_loop_is_eperm_and_the_parents_goes_on) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    inbox in = {};
    in.stop_at = 100;
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    run_for(loop, MIO_MILLISECOND);
    mio_timer_t *timer;
    assert_is(mio_timer_create(loop, &timer), 0);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        mio_timer_t *another = nullptr;
        mio_stream_t *stream = nullptr;
        mio_buf_t buf = mio_buf_borrow("x", 1);
        mio_addr_t at;
        mio_addr_parse("127.0.0.1", 9, &at);
        if (mio_loop_run(loop) != MIO_EPERM) leave(1);
        if (mio_loop_run_once(loop, 0) != MIO_EPERM) leave(2);
        if (mio_timer_create(loop, &another) != MIO_EPERM) leave(3);
        if (mio_timer_start(timer, 0, 0, [](mio_timer_t *, void *) {}, nullptr) != MIO_EPERM) leave(4);
        if (mio_stream_write(streams.client, &buf, 1, nullptr, nullptr) != MIO_EPERM) leave(5);
        if (mio_handle_close(timer, nullptr, nullptr) != MIO_EPERM) leave(6);
        if (mio_loop_hold(loop, 1) != MIO_EPERM) leave(7);
        if (mio_tcp_connect(loop, &at, nullptr, [](mio_stream_t *, int, void *) {}, nullptr, &stream) != MIO_EPERM) leave(8);
        if (mio_loop_destroy(loop, 0) < 0) leave(9); // frees memory and nothing else
        leave(0);
    }
    assert_is(child_status(child), 0);
    mio_buf_t bytes = pattern_buf(loop, 100, 0); // here, nothing has changed
    ck_assert_int_gt(mio_stream_write(streams.client, &bytes, 1, nullptr, nullptr), 0);
    run_to_stop(loop);
    ck_assert(!in.wrong);
}

TEST(a_fork_between_create_and_run_disturbs_nothing) {
    mio_loop_t *loop = loop_open();
    echo server;
    echo_open(loop, &server);
    inbox in = {};
    in.stop_at_end = true;
    mio_stream_t *client;
    ck_assert_int_gt(mio_tcp_connect(loop, &server.at, nullptr, [](mio_stream_t *, int, void *) {}, nullptr, &client), 0);
    ck_assert_int_gt(mio_stream_read_start(client, MIO_READ_NO_AUTOPAUSE, read_into, &in), 0);
    mio_buf_t bytes = pattern_buf(loop, 1 << 20, 0);
    ck_assert_int_gt(mio_stream_write(client, &bytes, 1, nullptr, nullptr), 0);
    ck_assert_int_gt(mio_stream_shutdown(client, nullptr, nullptr), 0);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        sleep_ns(50 * MIO_MILLISECOND); // alive, with copies of every descriptor, while the parent runs
        leave(mio_loop_destroy(loop, 0) < 0);
    }
    run_to_stop(loop);
    assert_is(in.end, MIO_EOF);
    assert_is(in.received, 1 << 20);
    ck_assert(!in.wrong);
    assert_is(child_status(child), 0);
}

TEST(a_child_can_make_loops_of_its_own) {
    mio_loop_t *loop = loop_open();
    run_to_end(loop);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
        options.backend = kernel_backend();
        mio_loop_t *mine = nullptr;
        mio_timer_t *timer = nullptr;
        int fired = 0;
        if (mio_loop_create(&mine, &options) != 0) leave(1);
        if (mio_timer_create(mine, &timer) != 0) leave(2);
        mio_timer_start(timer, 1000, 0, [](mio_timer_t *, void *arg) { ++*static_cast<int *>(arg); }, &fired);
        if (mio_loop_run(mine) != 0 || fired != 1) leave(3);
        if (mio_loop_destroy(mine, 0) != 0) leave(4);
        leave(0);
    }
    assert_is(child_status(child), 0);
}

TEST(destroy_with_no_time_to_drain_still_ends_what_only_waits_for_a_turn) {
    for (int round = 0; round < 50; round++) {
        mio_loop_t *loop = loop_open();
        static int told;
        told = 0;
        pair streams = connect_pair(loop);
        run_for(loop, MIO_MILLISECOND); // the pair's listener ends
        mio_timer_t *timer;
        assert_is(mio_timer_create(loop, &timer), 0);
        mio_buf_t room = {}, bytes = pattern_buf(loop, 100, 0);
        assert_is(mio_buf_alloc(loop, 10, &room), 0);
        auto read = [](mio_stream_t *, int64_t, mio_buf_t *, void *) { told++; };
        auto written = [](mio_stream_t *, int, int64_t, mio_buf_t *, unsigned, void *) { told++; };
        ck_assert_int_gt(mio_stream_read(streams.client, &room, read, nullptr), 0);
        ck_assert_int_gt(mio_stream_write(streams.client, &bytes, 1, written, nullptr), 0);
        assert_is(mio_loop_destroy(loop, 0), 0);
        assert_is(told, 2);
        loop_forget(loop);
    }
}

TEST(exit_with_a_live_loop_harms_nobody) {
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        static mio_loop_t *live; // still there, with everything on it, when the process ends
        mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
        options.backend = kernel_backend();
        mio_addr_t at;
        mio_listener_t *listener = nullptr;
        mio_stream_t *stream = nullptr;
        if (mio_loop_create(&live, &options) != 0) leave(1);
        if (mio_tcp_listen(live, "127.0.0.1", 0, nullptr, [](mio_listener_t *, int, mio_stream_t *, void *) {}, nullptr,
                           &listener) != 0) leave(2);
        if (mio_listener_local(listener, &at) != 0) leave(3);
        if (mio_tcp_connect(live, &at, nullptr, [](mio_stream_t *, int, void *) {}, nullptr, &stream) < 0) leave(4);
        mio_loop_run_once(live, 0);
        exit(0);
    }
    assert_is(child_status(child), 0);
}

TEST(exit_while_another_thread_runs_its_loop_harms_nobody) {
    KERNEL_ONLY("a simulated world has one thread");
    for (int round = 0; round < 10; round++) {
        const pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
            static mio_loop_t *live;
            static int volatile turning;
            mio_loop_options_t options = loop_options();
            mio_timer_t *timer = nullptr;
            if (mio_loop_create(&live, &options) != 0) leave(1);
            if (mio_timer_create(live, &timer) != 0) leave(2);
            auto tick = [](mio_timer_t *, void *) { __atomic_store_n(&turning, 1, __ATOMIC_RELEASE); };
            if (mio_timer_start(timer, 0, 100 * MIO_MICROSECOND, tick, nullptr) != 0) leave(3);
            pthread_t runner;
            auto body = [](void *) -> void * {
                mio_loop_run(live);
                return nullptr;
            };
            if (pthread_create(&runner, nullptr, body, nullptr) != 0 || pthread_detach(runner) != 0) leave(4);
            while (__atomic_load_n(&turning, __ATOMIC_ACQUIRE) == 0) sleep_ns(100 * MIO_MICROSECOND);
            sleep_ns(round * 37 * MIO_MICROSECOND);
            exit(0); // at any point of a turn
        }
        assert_is(child_status(child), 0);
    }
}

// create, daemon(3), run: the child of a loop that nobody ran yet takes it over.
TEST(a_loop_made_before_daemon_runs_in_the_child) {
    KERNEL_ONLY("a simulated world has one process");
    mio_loop_t *loop = loop_open();
    echo server;
    echo_open(loop, &server);
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        if (mio_loop_run_once(loop, MIO_SECOND) != MIO_ALIVE) leave(1);
        while (server.closed == 0) // its parent hangs up
            if (mio_loop_run_once(loop, MIO_SECOND) < 0) leave(2);
        leave(0);
    }
    const int fd = raw_connect(&server.at);
    assert_is(write(fd, "daemon", 6), 6);
    char back[6];
    assert_is(recv(fd, back, 6, MSG_WAITALL), 6);
    ck_assert_mem_eq(back, "daemon", 6);
    close(fd);
    assert_is(child_status(child), 0);
}
