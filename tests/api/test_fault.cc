// The Nth allocation fails, for every N of a program that uses everything: an error comes out, nothing is lost, and the
// loop works on.
#include "harness.h"

using namespace api;

// The program. Each step may be refused with MIO_ENOMEM (or MIO_EMFILE's like never); whoever was taken is told once.
struct program {
    mio_loop_t *loop;
    int starts, ends; // requests taken and told
    int refused;
    mio_stream_t *streams[16];
    int stream_count;
    mio_addr_t at;
    bool wrong;
};
static program app;

static bool taken(int64_t result) {
    if (result >= 0) return true;
    if (result != MIO_ENOMEM) {
        app.wrong = true;
        fprintf(stderr, "a step gave %s\n", mio_error_name(result));
    }
    app.refused++;
    return false;
}

static void app_read(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *) {
    if (n < 0) {
        app.ends++;
        return;
    }
    auto written = [](mio_stream_t *, int, int64_t, mio_buf_t *, unsigned, void *) { app.ends++; };
    const mio_req_t id = mio_stream_write(stream, buf, 1, written, nullptr);
    if (id > 0) app.starts++;
    else if (id == MIO_ENOMEM) app.refused++;
    else if (id != MIO_ESHUTDOWN && id != MIO_EBADF && id != MIO_EPIPE) app.wrong = true;
}

static void app_accepted(mio_listener_t *, int status, mio_stream_t *stream, void *) {
    if (status == MIO_ENOMEM) app.refused++; // the connection was closed, and is told of
    if (status != 0) return;
    mio_handle_keep(stream);
    if (app.stream_count < 16) app.streams[app.stream_count++] = stream;
    const mio_req_t id = mio_stream_read_start(stream, 0, app_read, nullptr);
    if (taken(id)) app.starts++;
}

static void app_read_once(mio_stream_t *, int64_t, mio_buf_t *, void *) { app.ends++; }
static void app_told(mio_stream_t *, int, void *) { app.ends++; }
static void app_timer(mio_timer_t *, void *) {}

static void app_client(int which) {
    mio_stream_t *client = nullptr;
    const mio_req_t connect = mio_tcp_connect(app.loop, &app.at, nullptr, app_told, nullptr, &client);
    if (!taken(connect)) return;
    app.starts++;
    taken(mio_req_timeout(app.loop, connect, 500 * MIO_MILLISECOND));
    taken(mio_handle_set_name(client, "client"));
    taken(mio_stream_set_watermarks(client, 10, 100, nullptr, nullptr));
    taken(mio_stream_set_queue_max(client, 1 << 20));
    taken(mio_stream_set_timeout(client, MIO_TIMEOUT_IDLE, 300 * MIO_MILLISECOND));
    mio_buf_t bufs[20] = {};
    for (mio_buf_t &buf : bufs) buf = mio_buf_borrow("line of text\n", 13);
    const unsigned n = which == 0 ? 1 : which == 1 ? 4 : 20; // several sizes of request
    auto written = [](mio_stream_t *, int, int64_t, mio_buf_t *, unsigned, void *) { app.ends++; };
    if (taken(mio_stream_write(client, bufs, n, written, nullptr))) app.starts++;
    mio_buf_t back = mio_buf_borrow("pushed back\n", 12);
    taken(mio_stream_unread(client, &back));
    mio_buf_t room = {};
    if (taken(mio_buf_alloc(app.loop, 100, &room))) {
        const mio_req_t read = mio_stream_read_until(client, &room, "\n", 1, 0, app_read_once, nullptr);
        if (taken(read)) app.starts++;
        else mio_buf_release(&room);
    }
    if (taken(mio_buf_alloc(app.loop, 100, &room))) {
        const mio_req_t read = mio_stream_read_exact(client, &room, 5, app_read_once, nullptr);
        if (taken(read)) app.starts++;
        else mio_buf_release(&room);
    }
    app.streams[app.stream_count++] = client;
}

static void app_run(mio_loop_t *loop) {
    app = {};
    app.loop = loop;
    mio_timer_t *timer = nullptr, *limit = nullptr;
    mio_hook_t *hook = nullptr;
    mio_wakeup_t *wakeup = nullptr;
    mio_listener_t *listener = nullptr;
    if (taken(mio_timer_create(loop, &timer))) taken(mio_timer_start(timer, MIO_MILLISECOND, MIO_MILLISECOND, app_timer, nullptr));
    if (taken(mio_hook_create(loop, MIO_HOOK_CHECK, &hook))) taken(mio_hook_start(hook, [](mio_hook_t *, void *) {}, nullptr));
    if (taken(mio_wakeup_create(loop, [](mio_wakeup_t *, void *) {}, nullptr, &wakeup))) taken(mio_wakeup_send(wakeup));
    if (taken(mio_tcp_listen(loop, "127.0.0.1", 0, nullptr, app_accepted, nullptr, &listener))) {
        assert_is(mio_listener_local(listener, &app.at), 0);
        for (int i = 0; i < 3; i++) app_client(i);
    }
    if (taken(mio_timer_create(loop, &limit)) &&
        taken(mio_timer_start(limit, 8 * MIO_MILLISECOND, 0, timer_stops, nullptr))) {
        const int result = run(loop);
        ck_assert_int_eq(result, MIO_STOPPED);
    }
    mio_handle_t *all[] = {timer, limit, hook, wakeup, listener};
    for (mio_handle_t *handle : all)
        if (handle != nullptr) assert_is(mio_handle_close(handle, nullptr, nullptr), 0);
    for (int i = 0; i < app.stream_count; i++) assert_is(mio_handle_close(app.streams[i], nullptr, nullptr), 0);
    run_to_end(loop);
    assert_is(app.starts, app.ends); // exactly one last callback for each that was taken
    ck_assert(!app.wrong);
    assert_is(metrics(loop).handles, 0);
    assert_is(metrics(loop).requests, 0);
    assert_is(metrics(loop).timers, 0);
}

static bool app_tortured(int64_t n, bool for_good) {
    counting count = {};
    mio_loop_options_t options = loop_options();
    options.allocator = counting_allocator(&count);
    count.fail_at = n;
    count.fail_on = for_good;
    mio_loop_t *loop = nullptr;
    const int created = mio_loop_create(&loop, &options);
    if (created != 0) {
        assert_is(created, MIO_ENOMEM);
        ck_assert_ptr_null(loop);
    } else {
        app_run(loop);
        count.fail_at = 0;
        count.fail_on = false;
        if (count.failed > 0) { // memory is back, and so is everything else
            const int refused = app.refused;
            app_run(loop);
            assert_is(app.refused, 0);
            app.refused = refused;
        }
        assert_is(mio_loop_destroy(loop, drain_ns()), 0);
    }
    ck_assert_msg(count.live == 0, "allocation %lld: %lld left", static_cast<long long>(n), static_cast<long long>(count.live));
    assert_is(count.wrong_sizes, 0);
    return count.failed > 0;
}

TEST(any_single_allocation_may_fail) {
    int64_t n = 1;
    while (app_tortured(n, false)) ck_assert_int_lt(++n, 2000);
    ck_assert_int_gt(n, 10); // it did allocate
}

TEST(memory_may_run_out_at_any_allocation) {
    int64_t n = 1;
    while (app_tortured(n, true)) ck_assert_int_lt(++n, 2000);
    ck_assert_int_gt(n, 10);
}

TEST(a_loop_without_memory_still_closes_cancels_and_stops) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    inbox in = {};
    outcome read = {}, written = {}, closed = {};
    mio_timer_t *timer;
    mio_wakeup_t *wakeup;
    assert_is(mio_timer_create(loop, &timer), 0);
    assert_is(mio_wakeup_create(loop, [](mio_wakeup_t *, void *) {}, nullptr, &wakeup), 0);
    mio_buf_t room = {}, bytes = pattern_buf(loop, 100, 0), shared = {};
    assert_is(mio_buf_alloc(loop, 10, &room), 0);
    const mio_req_t id = mio_stream_read(streams.client, &room, read_told, &read);
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    assert_is(mio_buf_share(&bytes, &shared), 0);
    ck_assert_int_gt(mio_stream_write(streams.server, &bytes, 1, write_told, &written), 0);
    mio_buf_release(&shared);

    counting *count = loop_counting(loop);
    count->fail_at = 1;
    count->fail_on = true;
    const int64_t calls = count->calls;
    assert_is(mio_timer_start(timer, MIO_MILLISECOND, 0, timer_stops, nullptr), 0); // starting a timer needs none
    assert_is(mio_req_timeout(loop, id, MIO_SECOND), 0);
    assert_is(mio_req_cancel(loop, id), 0);
    assert_is(mio_stream_read_stop(streams.server), 0);
    assert_is(mio_wakeup_send(wakeup), 0);
    run_to_stop(loop);
    ck_assert_int_eq(read.calls, 1);
    assert_is(in.ends, 1);
    assert_is(mio_handle_close(streams.client, close_told, &closed), 0);
    mio_handle_abandon(streams.server);
    mio_handle_abandon(timer);
    mio_handle_abandon(wakeup);
    run_to_end(loop);
    assert_is(closed.calls, 1);
    assert_is(written.status, 0);
    assert_is(count->calls, calls); // close, abandon, cancel, deadline, stop, wakeup, release, share never ask
    count->fail_at = 0;
    count->fail_on = false;
}

TEST(a_loop_survives_a_world_in_which_memory_is_scarce) {
    SIM_ONLY("seeded failures of allocations");
    for (uint64_t i = 0; i < 20; i++) {
        mio_sim_options_t options = MIO_SIM_OPTIONS_INIT;
        options.seed = seed() * 100 + i;
        options.no_memory_ppm = 100000;
        mio_sim_t *scarce = nullptr;
        assert_is(mio_sim_create(&scarce, &options), 0);
        mio_loop_options_t in = MIO_LOOP_OPTIONS_INIT;
        in.sim = scarce;
        mio_loop_t *loop = nullptr;
        const int created = mio_loop_create(&loop, &in);
        if (created == 0) {
            app = {};
            app.loop = loop;
            mio_listener_t *listener = nullptr;
            if (taken(mio_tcp_listen(loop, "127.0.0.1", 0, nullptr, app_accepted, nullptr, &listener))) {
                assert_is(mio_listener_local(listener, &app.at), 0);
                for (int k = 0; k < 3; k++) app_client(k);
            }
            mio_sim_run(scarce, MIO_SECOND);
            assert_is(mio_loop_destroy(loop, MIO_SECOND), 0);
            assert_is(app.starts, app.ends);
        } else {
            assert_is(created, MIO_ENOMEM);
        }
        assert_is(mio_sim_open_fds(scarce), 0);
        assert_is(mio_sim_destroy(scarce), 0);
    }
}
