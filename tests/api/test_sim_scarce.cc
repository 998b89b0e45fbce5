// Want in simulated worlds: calls that fail, limits that are reached, cancels that come late, and that the same seed
// gives the same run with all of it.
#include "harness.h"

#include <initializer_list>

using namespace api;

static mio_sim_fault_t failure(int call, int error, int64_t for_ns) {
    mio_sim_fault_t fault = MIO_SIM_FAULT_INIT;
    fault.kind = MIO_SIM_FAIL;
    fault.call = call;
    fault.error = error;
    fault.for_ns = for_ns;
    return fault;
}

static void schedule(const mio_sim_fault_t &fault) { assert_is(mio_sim_schedule(world(), &fault), 0); }
static void pass(int64_t duration_ns) { assert_is(mio_sim_run(world(), duration_ns), MIO_ETIMEDOUT); }

// --- calls that fail ------------------------------------------------------------------------------------------------

struct accepts {
    int accepted, failed, last;
};

static void count_accepts(mio_listener_t *, int status, mio_stream_t *conn, void *arg) {
    accepts *a = static_cast<accepts *>(arg);
    if (status == 0) {
        a->accepted++;
        assert_is(mio_handle_keep(conn), 0);
        return;
    }
    a->failed++;
    a->last = status;
}

TEST(accept_survives_each_error_for_as_long_as_it_lasts) {
    SIM_ONLY("is about simulated worlds");
    mio_loop_t *loop = loop_open();
    for (int error : {MIO_EMFILE, MIO_ENFILE, MIO_ENOBUFS, MIO_ENOMEM, MIO_ECONNABORTED}) {
        mio_addr_t at;
        accepts seen = {};
        mio_listener_t *listener = listen_on(loop, count_accepts, &seen, &at);
        schedule(failure(MIO_SIM_CALL_ACCEPT, error, 10 * MIO_SECOND));
        mio_stream_t *client[2];
        outcome told[2] = {};
        for (int i = 0; i < 2; i++) {
            ck_assert_int_gt(mio_tcp_connect(loop, &at, nullptr, stream_told, &told[i], &client[i]), 0);
            pass(5 * MIO_SECOND);
        }
        const uint64_t polls = metrics(loop).polls;
        assert_is(seen.last, error);
        assert_is(seen.accepted, 0);
        ck_assert_int_le(seen.failed, 20); // it rests in between
        pass(3 * MIO_SECOND);
        ck_assert_uint_lt(metrics(loop).polls - polls, 200);
        assert_is(seen.accepted, error == MIO_ECONNABORTED ? 0 : 2); // those that were aborted are lost
        mio_handle_abandon(client[0]);
        ck_assert_int_gt(mio_tcp_connect(loop, &at, nullptr, stream_told, &told[0], &client[0]), 0);
        pass(MIO_SECOND);
        assert_is(seen.accepted, error == MIO_ECONNABORTED ? 1 : 3);
        for (mio_stream_t *one : client) mio_handle_abandon(one);
        mio_handle_abandon(listener);
    }
}

TEST(sockets_connects_sends_and_receives_that_fail_are_told_once) {
    SIM_ONLY("is about simulated worlds");
    mio_loop_t *loop = loop_open();
    echo server;
    echo_open(loop, &server);
    mio_stream_t *client;
    outcome told = {};
    for (int error : {MIO_EMFILE, MIO_ENFILE, MIO_ENOBUFS, MIO_ENOMEM}) {
        schedule(failure(MIO_SIM_CALL_SOCKET, error, MIO_SECOND));
        pass(MIO_MILLISECOND);
        mio_listener_t *none = nullptr;
        assert_is(mio_tcp_listen(loop, "127.0.0.1", 0, nullptr, count_accepts, nullptr, &none), error);
        told = {};
        ck_assert_int_gt(mio_tcp_connect(loop, &server.at, nullptr, stream_told, &told, &client), 0);
        pass(2 * MIO_SECOND);
        assert_is(told.calls, 1);
        assert_is(told.status, error);
        mio_handle_abandon(client);
    }
    schedule(failure(MIO_SIM_CALL_CONNECT, MIO_ENETUNREACH, MIO_SECOND));
    pass(MIO_MILLISECOND);
    told = {};
    ck_assert_int_gt(mio_tcp_connect(loop, &server.at, nullptr, stream_told, &told, &client), 0);
    pass(2 * MIO_SECOND);
    assert_is(told.status, MIO_ENETUNREACH);
    mio_handle_abandon(client);

    pair two = connect_pair(loop);
    mio_sim_fault_t fault = failure(MIO_SIM_CALL_SEND, MIO_ENOBUFS, MIO_SECOND);
    mio_addr_t local;
    assert_is(mio_stream_local(two.client, &local), 0);
    fault.a.port = mio_addr_port(&local);
    schedule(fault);
    pass(MIO_MILLISECOND);
    assert_is(mio_stream_try_write(two.client, "x", 1), MIO_ENOBUFS);
    mio_buf_t bytes = text_buf(loop, "bytes");
    told = {};
    ck_assert_int_gt(mio_stream_write(two.client, &bytes, 1, write_told, &told), 0);
    assert_is(mio_stream_try_write(two.server, "y", 1), 1); // the other side is not meant
    pass(2 * MIO_SECOND);
    assert_is(told.status, MIO_ENOBUFS);
    assert_is(told.sent, 0);
    assert_is(told.len, 5); // the buffer came back as it was
    bytes = text_buf(loop, "again");
    assert_is(mio_stream_write(two.client, &bytes, 1, nullptr, nullptr), MIO_EPIPE); // broken
    mio_buf_release(&bytes);

    fault = failure(MIO_SIM_CALL_RECEIVE, MIO_ENOMEM, MIO_SECOND);
    schedule(fault);
    pass(MIO_MILLISECOND);
    inbox in = {};
    in.is_text = true;
    ck_assert_int_gt(mio_stream_read_start(two.client, 0, read_into, &in), 0);
    pass(2 * MIO_SECOND);
    assert_is(in.ends, 1);
    assert_is(in.end, MIO_ENOMEM);
    in = {};
    in.is_text = true;
    ck_assert_int_gt(mio_stream_read_start(two.client, 0, read_into, &in), 0); // and nothing was lost
    pass(MIO_SECOND);
    ck_assert_str_eq(in.text, "y");
    mio_handle_abandon(two.client);
    mio_handle_abandon(two.server);
}

// --- limits ---------------------------------------------------------------------------------------------------------

TEST(a_limit_of_descriptors_is_felt_and_goes) {
    SIM_ONLY("is about simulated worlds");
    mio_loop_t *loop = loop_open();
    mio_addr_t at;
    accepts seen = {};
    listen_on(loop, count_accepts, &seen, &at);
    mio_sim_fault_t limit = MIO_SIM_FAULT_INIT;
    limit.kind = MIO_SIM_FD_LIMIT;
    limit.room = 3;
    limit.for_ns = 10 * MIO_SECOND;
    schedule(limit);
    pass(MIO_MILLISECOND);
    mio_stream_t *client[3];
    outcome told[3] = {};
    for (int i = 0; i < 2; i++) ck_assert_int_gt(mio_tcp_connect(loop, &at, nullptr, stream_told, &told[i], &client[i]), 0);
    pass(5 * MIO_SECOND);
    assert_is(told[0].status + told[1].status, 0); // both are connected, but there is room for one more
    assert_is(seen.accepted, 1);
    assert_is(seen.last, MIO_EMFILE);
    ck_assert_int_gt(mio_tcp_connect(loop, &at, nullptr, stream_told, &told[2], &client[2]), 0);
    pass(MIO_SECOND);
    assert_is(told[2].status, MIO_EMFILE);
    pass(6 * MIO_SECOND);
    assert_is(seen.accepted, 2);
    for (mio_stream_t *one : client) mio_handle_abandon(one);
}

TEST(a_limit_of_memory_is_felt_and_goes) {
    SIM_ONLY("is about simulated worlds");
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.sim = world();
    mio_loop_t *loop; // without an allocator of its own: all of its memory is the world's
    assert_is(mio_loop_create(&loop, &options), 0);
    mio_buf_t bufs[8] = {};
    mio_sim_fault_t limit = MIO_SIM_FAULT_INIT;
    limit.kind = MIO_SIM_MEMORY_LIMIT;
    limit.room = 1 << 20;
    limit.for_ns = MIO_SECOND;
    schedule(limit);
    assert_is(mio_loop_hold(loop, 1), 0);
    pass(MIO_MILLISECOND);
    int got = 0;
    while (got < 8 && mio_buf_alloc(loop, 300000, &bufs[got]) == 0) got++;
    ck_assert_int_ge(got, 1);
    ck_assert_int_le(got, 3);
    assert_is(mio_buf_alloc(loop, 1 << 20, &bufs[7]), MIO_ENOMEM);
    pass(2 * MIO_SECOND);
    assert_is(mio_buf_alloc(loop, 1 << 20, &bufs[7]), 0);
    for (mio_buf_t &buf : bufs) mio_buf_release(&buf);
    assert_is(mio_loop_hold(loop, -1), 0);
    assert_is(mio_loop_destroy(loop, 0), 0);
}

// --- late cancels ---------------------------------------------------------------------------------------------------

struct cancels {
    mio_sim_t *world;
    mio_loop_t *loop;
    int cancelled, faster;
    int64_t asked_ns, latest_ns;
};

TEST(cancels_come_late_and_results_are_faster_at_times) {
    SIM_ONLY("is about simulated worlds");
    cancels seen = {};
    mio_sim_options_t chances = MIO_SIM_OPTIONS_INIT;
    chances.seed = seed();
    chances.late_cancel_ppm = 1000000;
    assert_is(mio_sim_create(&seen.world, &chances), 0);
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.sim = seen.world;
    assert_is(mio_loop_create(&seen.loop, &options), 0);
    mio_addr_t at;
    accepts accepted = {};
    mio_listener_t *listener = nullptr;
    assert_is(mio_tcp_listen(seen.loop, "127.0.0.1", 0, nullptr, count_accepts, &accepted, &listener), 0);
    assert_is(mio_listener_local(listener, &at), 0);
    const mio_connect_cb told = [](mio_stream_t *stream, int status, void *arg) {
        cancels *c = static_cast<cancels *>(arg);
        const int64_t took_ns = mio_sim_now_ns(c->world) - c->asked_ns;
        if (took_ns > c->latest_ns) c->latest_ns = took_ns;
        if (status == MIO_ECANCELED) c->cancelled++;
        else if (status == 0) c->faster++;
        mio_handle_abandon(stream);
    };
    for (int i = 0; i < 60; i++) {
        mio_stream_t *stream;
        const mio_req_t id = mio_tcp_connect(seen.loop, &at, nullptr, told, &seen, &stream);
        ck_assert_int_gt(id, 0);
        assert_is(mio_sim_run(seen.world, 10 * MIO_MICROSECOND), MIO_ETIMEDOUT); // it is on its way
        seen.asked_ns = mio_sim_now_ns(seen.world);
        assert_is(mio_req_cancel(seen.loop, id), 0);
        assert_is(mio_sim_run(seen.world, MIO_SECOND), MIO_ETIMEDOUT);
        assert_is(seen.cancelled + seen.faster, i + 1); // told, and once
    }
    ck_assert_int_gt(seen.faster, 0);
    ck_assert_int_le(seen.latest_ns, 20 * MIO_MILLISECOND);
    mio_stream_t *last; // destroy does not wait for one
    ck_assert_int_gt(mio_tcp_connect(seen.loop, &at, nullptr, [](mio_stream_t *, int, void *) {}, nullptr, &last), 0);
    assert_is(mio_loop_destroy(seen.loop, 0), 0);
    assert_is(mio_sim_open_fds(seen.world), 0);
    assert_is(mio_sim_destroy(seen.world), 0);
}

// --- the same seed, the same run ------------------------------------------------------------------------------------

// Two loops that hand a stream to and fro by remote posts and moves, under every fault there is. Returns the hash.
struct wanderer {
    mio_loop_t *loops[2];
    echo server;
    int moves, moved, posts;
    uint64_t received;
};

static void on_wander_read(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg);

static void on_wandered(mio_loop_t *loop, int status, mio_stream_t *stream, void *arg) {
    wanderer *w = static_cast<wanderer *>(arg);
    if (status < 0) {
        if (stream != nullptr) mio_handle_close(stream, nullptr, nullptr);
        return;
    }
    w->moved++;
    mio_remote_post(mio_loop_remote(loop), [](mio_loop_t *, int, void *p) { static_cast<wanderer *>(p)->posts++; }, w);
    static char ping[] = "ping";
    mio_buf_t bytes = mio_buf_borrow(ping, 4);
    if (mio_stream_read_start(stream, 0, on_wander_read, w) < 0 || mio_stream_write(stream, &bytes, 1, nullptr, nullptr) < 0)
        mio_handle_close(stream, nullptr, nullptr);
}

static void on_wander_read(mio_stream_t *stream, int64_t n, mio_buf_t *, void *arg) {
    wanderer *w = static_cast<wanderer *>(arg);
    if (n == MIO_ECANCELED) return; // it moves
    if (n < 0 || w->moves >= 50) {
        mio_handle_close(stream, nullptr, nullptr);
        return;
    }
    w->received += static_cast<uint64_t>(n);
    w->moves++;
    mio_loop_t *to = w->loops[mio_handle_loop(stream) == w->loops[0] ? 1 : 0];
    if (mio_stream_move(stream, mio_loop_remote(to), on_wandered, w) < 0) mio_handle_close(stream, nullptr, nullptr);
}

static uint64_t wander(uint64_t with_seed, int *moved) {
    mio_sim_options_t chances = MIO_SIM_OPTIONS_INIT;
    chances.seed = with_seed;
    chances.short_read_ppm = chances.short_write_ppm = chances.late_cancel_ppm = 200000;
    chances.reset_ppm = chances.loss_ppm = chances.call_error_ppm = chances.accept_error_ppm = 3000;
    chances.bandwidth = 1000000;
    mio_sim_t *one = nullptr;
    assert_is(mio_sim_create(&one, &chances), 0);
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.sim = one;
    wanderer w = {};
    for (mio_loop_t *&loop : w.loops) assert_is(mio_loop_create(&loop, &options), 0);
    mio_sim_draw_options_t draw = MIO_SIM_DRAW_OPTIONS_INIT;
    draw.within_ns = 100 * MIO_MILLISECOND;
    for (int kind = MIO_SIM_PARTITION; kind <= MIO_SIM_REORDER; kind++)
        if (kind != MIO_SIM_HEAL) draw.kinds |= 1u << kind;
    for (unsigned i = 0; i < 12; i++) {
        mio_sim_fault_t fault = MIO_SIM_FAULT_INIT;
        assert_is(mio_sim_draw(&fault, with_seed, i, &draw), 0);
        assert_is(mio_sim_schedule(one, &fault), 0);
    }
    mio_sim_fault_t later = MIO_SIM_FAULT_INIT;
    later.kind = MIO_SIM_HEAL;
    later.after_ns = MIO_SECOND;
    assert_is(mio_sim_schedule(one, &later), 0);
    int created = mio_tcp_listen(w.loops[0], "127.0.0.1", 0, nullptr, [](mio_listener_t *, int status, mio_stream_t *conn, void *) {
        if (status == 0) mio_stream_read_start(conn, 0, [](mio_stream_t *s, int64_t n, mio_buf_t *buf, void *) {
            if (n < 0 || mio_stream_write(s, buf, 1, nullptr, nullptr) < 0) mio_handle_close(s, nullptr, nullptr);
        }, nullptr);
    }, nullptr, &w.server.listener);
    if (created == 0) {
        assert_is(mio_listener_local(w.server.listener, &w.server.at), 0);
        for (int i = 0; i < 4; i++) {
            mio_stream_t *stream;
            ck_assert_int_gt(mio_tcp_connect(w.loops[i % 2], &w.server.at, nullptr, [](mio_stream_t *s, int status, void *arg) {
                on_wandered(mio_handle_loop(s), status, s, arg);
            }, &w, &stream), 0);
        }
    }
    const int result = mio_sim_run(one, 3600 * MIO_SECOND);
    ck_assert_int_le(result, 0);
    *moved += w.moved;
    const uint64_t hash = mio_sim_trace_hash(one);
    for (mio_loop_t *loop : w.loops) assert_is(mio_loop_destroy(loop, 0), 0);
    assert_is(mio_sim_open_fds(one), 0);
    assert_is(mio_sim_destroy(one), 0);
    return hash;
}

TEST(with_every_fault_the_same_seed_gives_the_same_run) {
    SIM_ONLY("is about simulated worlds");
    int moved = 0, again = 0;
    uint64_t last = 0;
    for (uint64_t i = 0; i < 10; i++) {
        const uint64_t hash = wander(seed() * 100 + i, &moved);
        ck_assert_uint_eq(hash, wander(seed() * 100 + i, &again));
        assert_is(moved, again);
        ck_assert_uint_ne(hash, last);
        last = hash;
    }
    ck_assert_int_gt(moved, 60); // 40 is none but the connects
}
