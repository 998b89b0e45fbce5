// The ends of handles: abandon in every state, references, and a hundred thousand of them without a trace.
#include "harness.h"

#include <pthread.h>
#include <stdio.h>

using namespace api;

static void never_closed(mio_handle_t *, void *) { ck_abort_msg("an abandoned handle called back"); }

TEST(an_unreferenced_handle_does_not_keep_the_loop_going) {
    mio_loop_t *loop = loop_open();
    mio_timer_t *timer;
    assert_is(mio_timer_create(loop, &timer), 0);
    assert_is(mio_handle_is_referenced(timer), 1);
    assert_is(mio_timer_start(timer, 3600 * MIO_SECOND, 0, [](mio_timer_t *, void *) {}, nullptr), 0);
    assert_is(mio_handle_unref(timer), 0);
    assert_is(mio_handle_unref(timer), 0);
    assert_is(mio_handle_is_referenced(timer), 0);
    run_to_end(loop);
    assert_is(mio_timer_is_active(timer), 1);
    assert_is(mio_handle_ref(timer), 0);
    assert_is(mio_handle_ref(timer), 0);
    assert_is(mio_handle_is_referenced(timer), 1);
    assert_is(mio_loop_run_once(loop, 0), MIO_ALIVE);

    pair streams = connect_pair(loop); // requests of an unreferenced handle count as little
    inbox in = {};
    assert_is(mio_timer_stop(timer), 0);
    ck_assert_int_gt(mio_stream_read_start(streams.client, 0, read_into, &in), 0);
    assert_is(mio_loop_run_once(loop, 0), MIO_ALIVE);
    assert_is(mio_handle_unref(streams.client), 0);
    run_to_end(loop);
    mio_listener_t *listener = listen_on(loop, [](mio_listener_t *, int, mio_stream_t *, void *) {}, nullptr, nullptr);
    assert_is(mio_loop_run_once(loop, 0), MIO_ALIVE); // a listener is active by itself
    assert_is(mio_handle_unref(listener), 0);
    run_to_end(loop);
}

TEST(an_idle_stream_and_a_stopped_timer_keep_nothing_alive) {
    mio_loop_t *loop = loop_open();
    connect_pair(loop);
    mio_timer_t *timer;
    mio_hook_t *hook;
    assert_is(mio_timer_create(loop, &timer), 0);
    assert_is(mio_hook_create(loop, MIO_HOOK_IDLE, &hook), 0);
    run_to_end(loop);
}

TEST(an_abandoned_handle_never_calls_back) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    static int calls;
    calls = 0;
    mio_buf_t room = {}, bytes = pattern_buf(loop, 500, 0);
    assert_is(mio_buf_alloc(loop, 100, &room), 0);
    auto read = [](mio_stream_t *, int64_t, mio_buf_t *, void *) { calls++; };
    auto written = [](mio_stream_t *, int, int64_t, mio_buf_t *, unsigned, void *) { calls++; };
    ck_assert_int_gt(mio_stream_read(streams.client, &room, read, nullptr), 0);
    ck_assert_int_gt(mio_stream_write(streams.client, &bytes, 1, written, nullptr), 0);
    mio_handle_abandon(streams.client); // waiting
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read, nullptr), 0);
    run_for(loop, MIO_MILLISECOND);
    const int before = calls; // the peer's EOF
    mio_handle_abandon(streams.server);
    run_to_end(loop);
    assert_is(calls, before);
    assert_is(metrics(loop).handles, 0);
    assert_is(metrics(loop).requests, 0);
}

TEST(every_kind_can_be_abandoned_in_every_state) {
    mio_loop_t *loop = loop_open();
    static int calls;
    calls = 0;
    for (int state = 0; state < 4; state++) { // fresh, started, started and polled, closing
        pair streams = connect_pair(loop);
        mio_timer_t *timer;
        mio_hook_t *hook;
        mio_wakeup_t *wakeup;
        mio_addr_t at;
        mio_stream_t *connecting;
        assert_is(mio_timer_create(loop, &timer), 0);
        assert_is(mio_hook_create(loop, MIO_HOOK_PREPARE, &hook), 0);
        auto woken = [](mio_wakeup_t *, void *) { calls++; };
        assert_is(mio_wakeup_create(loop, woken, nullptr, &wakeup), 0);
        mio_listener_t *listener = listen_on(loop, [](mio_listener_t *, int, mio_stream_t *, void *) {}, nullptr, &at);
        ck_assert_int_gt(mio_tcp_connect(loop, &at, nullptr, [](mio_stream_t *, int, void *) { calls++; }, nullptr,
                                         &connecting), 0);
        mio_handle_t *all[] = {timer, hook, wakeup, listener, connecting, streams.client, streams.server};
        if (state >= 1) {
            assert_is(mio_timer_start(timer, MIO_SECOND * 60, 0, [](mio_timer_t *, void *) {}, nullptr), 0);
            assert_is(mio_hook_start(hook, [](mio_hook_t *, void *) {}, nullptr), 0);
            assert_is(mio_wakeup_send(wakeup), 0);
            ck_assert_int_gt(mio_stream_read_start(streams.client, 0, [](mio_stream_t *, int64_t, mio_buf_t *, void *) {},
                                                   nullptr), 0);
            mio_buf_t bytes = pattern_buf(loop, 100000, 0);
            ck_assert_int_gt(mio_stream_write(streams.server, &bytes, 1, nullptr, nullptr), 0);
        }
        if (state == 2)
            for (int i = 0; i < 3; i++) assert_ok(mio_loop_run_once(loop, 0));
        if (state == 3)
            for (mio_handle_t *handle : all) assert_is(mio_handle_close(handle, never_closed, nullptr), 0);
        const int before = calls;
        for (mio_handle_t *handle : all) mio_handle_abandon(handle);
        run_to_end(loop);
        assert_is(calls, before);
        assert_is(metrics(loop).handles, 0);
    }
}

// A class in the program whose destructor may run at any moment.
struct owner {
    mio_stream_t *stream;
    mio_timer_t *timer;
    char state[64];
};

static void owner_delete(owner *self) {
    mio_handle_abandon(self->stream);
    mio_handle_abandon(self->timer);
    memset(self, 0xdd, sizeof *self);
    free(self);
}

TEST(the_owner_can_be_deleted_inside_its_own_callbacks) {
    mio_loop_t *loop = loop_open();
    static int deleted;
    deleted = 0;
    for (int where = 0; where < 4; where++) {
        pair streams = connect_pair(loop);
        owner *self = static_cast<owner *>(calloc(1, sizeof(owner)));
        self->stream = streams.server;
        assert_is(mio_timer_create(loop, &self->timer), 0);
        assert_is(mio_timer_start(self->timer, where == 0 ? 0 : 60 * MIO_SECOND, 0, [](mio_timer_t *, void *arg) {
            owner_delete(static_cast<owner *>(arg));
            deleted++;
        }, self), 0);
        auto read = [](mio_stream_t *, int64_t n, mio_buf_t *buf, void *arg) {
            owner_delete(static_cast<owner *>(arg));
            if (n > 0) ck_assert(pattern_is(buf->base, buf->len, 0)); // stays valid until we return
            deleted++;
        };
        auto written = [](mio_stream_t *, int, int64_t, mio_buf_t *bufs, unsigned, void *arg) {
            owner_delete(static_cast<owner *>(arg));
            ck_assert(pattern_is(bufs[0].base, bufs[0].len, 0));
            deleted++;
        };
        auto closed = [](mio_handle_t *, void *arg) {
            owner *own = static_cast<owner *>(arg);
            mio_handle_abandon(own->timer);
            free(own);
            deleted++;
        };
        mio_buf_t bytes = pattern_buf(loop, 100, 0);
        if (where == 1) {
            ck_assert_int_gt(mio_stream_read_start(self->stream, 0, read, self), 0);
            ck_assert_int_gt(mio_stream_write(streams.client, &bytes, 1, nullptr, nullptr), 0);
        } else if (where == 2) {
            ck_assert_int_gt(mio_stream_write(self->stream, &bytes, 1, written, self), 0);
            mio_buf_t more = pattern_buf(loop, 100, 0); // queued behind: never told
            ck_assert_int_gt(mio_stream_write(self->stream, &more, 1, written, self), 0);
        } else if (where == 3) {
            assert_is(mio_handle_close(self->stream, closed, self), 0);
        }
        mio_buf_release(&bytes);
        run_to_end(loop);
        assert_is(deleted, where + 1);
        mio_handle_abandon(streams.client);
    }
    run_to_end(loop);
    assert_is(metrics(loop).handles, 0);
}

TEST(abandon_in_the_accept_callback_ends_the_listener_and_the_new_stream) {
    mio_loop_t *loop = loop_open();
    static int calls;
    calls = 0;
    mio_addr_t at;
    listen_on(loop, [](mio_listener_t *self, int status, mio_stream_t *stream, void *) {
        assert_is(status, 0);
        calls++;
        mio_handle_abandon(stream);
        mio_handle_abandon(self);
    }, nullptr, &at);
    mio_stream_t *client;
    inbox in = {};
    in.close_at_end = true;
    ck_assert_int_gt(mio_tcp_connect(loop, &at, nullptr, [](mio_stream_t *, int, void *) {}, nullptr, &client), 0);
    ck_assert_int_gt(mio_stream_read_start(client, 0, read_into, &in), 0);
    run_to_end(loop);
    assert_is(calls, 1);
    assert_is(in.ends, 1);
}

TEST(a_hundred_thousand_handles_leave_nothing) {
    mio_loop_t *loop = loop_open();
    static int closed;
    closed = 0;
    auto on_close = [](mio_handle_t *, void *) { closed++; };
    int64_t bytes_warm = 0;
    const int rounds = scaled(1000);
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < 100; i++) {
            mio_timer_t *timer;
            assert_is(mio_timer_create(loop, &timer), 0);
            assert_is(mio_timer_start(timer, i * MIO_SECOND, 0, [](mio_timer_t *, void *) {}, nullptr), 0);
            assert_is(mio_handle_close(timer, on_close, nullptr), 0);
        }
        run_to_end(loop);
        if (round == rounds / 20) bytes_warm = loop_counting(loop)->live_bytes;
    }
    assert_is(closed, rounds * 100);
    assert_is(loop_counting(loop)->live_bytes, bytes_warm);
    assert_is(metrics(loop).handles, 0);
}

static size_t resident_pages() {
    long size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == nullptr || fscanf(file, "%ld %ld", &size, &resident) != 2) resident = 0;
    if (file != nullptr) fclose(file);
    return static_cast<size_t>(resident);
}

TEST(thousands_of_connections_leave_nothing) {
    mio_loop_t *loop = loop_open();
    echo server;
    echo_open(loop, &server);
    const int rounds = scaled(3000);
    run_for(loop, MIO_MILLISECOND); // its timer is part of what is warm
    const size_t descriptors = open_descriptors();
    int64_t bytes_warm = 0;
    size_t pages_warm = 0;
    for (int round = 0; round < rounds; round++) {
        mio_stream_t *client;
        inbox in = {};
        in.stop_at = 64;
        ck_assert_int_gt(mio_tcp_connect(loop, &server.at, nullptr, [](mio_stream_t *, int, void *) {}, nullptr, &client), 0);
        ck_assert_int_gt(mio_stream_read_start(client, 0, read_into, &in), 0);
        mio_buf_t buf = pattern_buf(loop, 64, 0);
        ck_assert_int_gt(mio_stream_write(client, &buf, 1, nullptr, nullptr), 0);
        run_to_stop(loop);
        ck_assert(!in.wrong);
        mio_tcp_linger(client, 0);
        mio_handle_abandon(client);
        if (round == rounds / 6) {
            bytes_warm = loop_counting(loop)->live_bytes;
            pages_warm = resident_pages();
        }
    }
    for (int i = 0; i < 200 && server.closed != rounds; i++) run_for(loop, MIO_SECOND / 10);
    assert_is(server.accepted, rounds);
    assert_is(server.closed, rounds);
    ck_assert_int_le(loop_counting(loop)->live_bytes, bytes_warm);
    if (pages_warm > 0 && !sanitized()) ck_assert_uint_le(resident_pages(), pages_warm + 512);
    assert_is(open_descriptors(), descriptors);
}

TEST(thread_exit_with_a_live_loop_leaves_it_to_whoever_destroys_it) {
    KERNEL_ONLY("a simulated world has one thread");
    static mio_loop_t *loop;
    loop = loop_open();
    assert_is(mio_loop_hold(loop, 1), 0);
    pthread_t runner;
    auto body = [](void *) -> void * {
        mio_loop_run_once(loop, MIO_MILLISECOND);
        return nullptr;
    };
    assert_is(pthread_create(&runner, nullptr, body, nullptr), 0);
    pthread_join(runner, nullptr);
    // The harness destroys it here, on another thread than the one that ran it.
}
