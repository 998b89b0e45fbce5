// Connecting to a host by name, as RFC 8305 has it: the order of its addresses, when the next one is tried, who wins. In
// worlds, where hosts have as many addresses as one likes and time is exact.
#include "connecting.h"

using namespace api;

static void world_knows(const char *host, const char *addr) {
    const mio_addr_t at = addr_of(addr, 0);
    assert_is(mio_sim_add_name(world(), host, &at), 0);
}

static void world_fault(int kind, const char *addr, int64_t latency_ns) {
    mio_sim_fault_t f = MIO_SIM_FAULT_INIT;
    mio_addr_t at = addr_of(addr, 0);
    f.kind = kind;
    f.b.addr = &at;
    f.latency_min_ns = f.latency_max_ns = latency_ns;
    assert_is(mio_sim_schedule(world(), &f), 0);
}

TEST(families_take_turns_and_a_failure_begins_the_next_at_once) {
    SIM_ONLY("a host's addresses are the world's");
    mio_loop_t *loop = loop_open();
    static const char *const addrs[] = {"2001:db8::1", "2001:db8::2", "2001:db8::3", "10.0.0.1", "10.0.0.2"};
    for (const char *addr : addrs) world_knows("many.example", addr);
    race r = {};
    r.close = true;
    mio_stream_t *stream;
    race_start(loop, "many.example", 7, &r, &stream);
    run_to_end(loop);
    const int64_t begun_ns = mio_loop_now_ns(loop);
    assert_is(r.told, 1);
    assert_is(r.status, MIO_ECONNREFUSED);
    ck_assert_str_eq(r.text, "[2001:db8::1]:7 MIO_ECONNREFUSED, 10.0.0.1:7 MIO_ECONNREFUSED, [2001:db8::2]:7 MIO_ECONNREFUSED, "
                             "10.0.0.2:7 MIO_ECONNREFUSED, [2001:db8::3]:7 MIO_ECONNREFUSED");
    race again = {};
    again.close = true;
    race_start(loop, "many.example", 7, &again, &stream);
    run_to_end(loop);
    ck_assert_int_lt(again.at_ns - begun_ns, 200 * MIO_MILLISECOND); // no stagger in between
}

TEST(an_attempt_that_hangs_is_overtaken_after_the_stagger) {
    SIM_ONLY("a host's addresses are the world's");
    mio_loop_t *loop = loop_open();
    mio_listener_t *listener;
    assert_is(mio_tcp_listen(loop, "0.0.0.0", 80, nullptr, [](mio_listener_t *, int, mio_stream_t *, void *) {}, nullptr,
                             &listener), 0);
    assert_is(mio_handle_unref(listener), 0);
    static const char *const addrs[] = {"10.0.0.1", "10.0.0.2", "10.0.0.3"};
    for (const char *addr : addrs) world_knows("far.example", addr);
    world_fault(MIO_SIM_BLACK_HOLE, "10.0.0.1", 0);
    world_fault(MIO_SIM_BLACK_HOLE, "10.0.0.2", 0);
    static const int64_t staggers_ns[] = {0, 100 * MIO_MILLISECOND};
    for (int64_t stagger_ns : staggers_ns) {
        mio_connect_host_options_t o = MIO_CONNECT_HOST_OPTIONS_INIT;
        o.stagger_ns = stagger_ns;
        race r = {};
        r.close = true;
        mio_stream_t *stream;
        (void)mio_loop_run_once(loop, 0);
        const int64_t begun_ns = mio_sim_now_ns(world());
        race_start(loop, "far.example", 80, &r, &stream, &o);
        race_run(loop, &r);
        assert_is(r.status, 0);
        ck_assert_str_eq(r.text, "10.0.0.1:80 MIO_ECANCELED, 10.0.0.2:80 MIO_ECANCELED, 10.0.0.3:80 MIO_OK");
        const int64_t took_ns = r.at_ns - begun_ns, step_ns = stagger_ns != 0 ? stagger_ns : 250 * MIO_MILLISECOND;
        ck_assert_int_ge(took_ns, 2 * step_ns);
        ck_assert_int_lt(took_ns, 2 * step_ns + 60 * MIO_MILLISECOND); // two questions to a resolver, a handshake
    }
}

TEST(the_first_to_connect_wins_and_the_others_are_given_up) {
    SIM_ONLY("a host's addresses are the world's");
    mio_loop_t *loop = loop_open();
    mio_listener_t *listener;
    static int accepted, ended;
    accepted = ended = 0;
    assert_is(mio_tcp_listen(loop, "0.0.0.0", 80, nullptr, [](mio_listener_t *, int status, mio_stream_t *conn, void *) {
        if (status != 0) return;
        accepted++;
        ck_assert_int_gt(mio_stream_read_start(conn, 0, [](mio_stream_t *from, int64_t n, mio_buf_t *, void *) {
            if (n >= 0) return;
            ended++;
            mio_handle_close(from, nullptr, nullptr);
        }, nullptr), 0);
    }, nullptr, &listener), 0);
    assert_is(mio_handle_unref(listener), 0);
    world_knows("near.example", "10.0.0.1");
    world_knows("near.example", "10.0.0.2");
    world_fault(MIO_SIM_LATENCY, "10.0.0.1", 200 * MIO_MILLISECOND); // its answer comes when the other one stands
    race r = {};
    mio_stream_t *stream;
    race_start(loop, "near.example", 80, &r, &stream);
    run_for(loop, 2 * MIO_SECOND);
    assert_is(r.told, 1);
    assert_is(r.status, 0);
    ck_assert_str_eq(r.text, "10.0.0.1:80 MIO_ECANCELED, 10.0.0.2:80 MIO_OK");
    assert_is(ended, accepted - 1); // whatever the other one came to, it is over
    assert_is(mio_handle_close(stream, nullptr, nullptr), 0);
    run_for(loop, 2 * MIO_SECOND);
    assert_is(ended, accepted);
}

TEST(a_deadline_over_all_ends_connect_host) {
    SIM_ONLY("a host's addresses are the world's");
    mio_loop_t *loop = loop_open();
    static const char *const addrs[] = {"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"};
    for (const char *addr : addrs) {
        world_knows("hole.example", addr);
        world_fault(MIO_SIM_BLACK_HOLE, addr, 0);
    }
    mio_connect_host_options_t o = MIO_CONNECT_HOST_OPTIONS_INIT;
    o.timeout_ns = 600 * MIO_MILLISECOND;
    race r = {};
    r.close = true;
    mio_stream_t *stream;
    const int64_t begun_ns = mio_sim_now_ns(world());
    race_start(loop, "hole.example", 80, &r, &stream, &o);
    race_run(loop, &r);
    assert_is(r.status, MIO_ETIMEDOUT);
    ck_assert_str_eq(r.text, "10.0.0.1:80 MIO_ECANCELED, 10.0.0.2:80 MIO_ECANCELED, 10.0.0.3:80 MIO_ECANCELED");
    ck_assert_int_ge(r.at_ns - begun_ns, 600 * MIO_MILLISECOND);
    ck_assert_int_lt(r.at_ns - begun_ns, 700 * MIO_MILLISECOND);
    // And one that comes while the name is being resolved, or is set later.
    for (int i = 0; i < 2; i++) {
        race early = {};
        early.close = true;
        const mio_req_t id = race_start(loop, "hole.example", 80, &early, &stream);
        assert_is(mio_req_timeout(loop, id, i == 0 ? 0 : 400 * MIO_MILLISECOND), 0);
        race_run(loop, &early);
        assert_is(early.status, MIO_ETIMEDOUT);
        assert_is(early.tried, i == 0 ? 0 : 2);
    }
}

TEST(only_so_many_addresses_are_tried) {
    SIM_ONLY("a host's addresses are the world's");
    mio_loop_t *loop = loop_open();
    char text[32];
    for (int i = 0; i < 60; i++) {
        snprintf(text, sizeof text, i < 50 ? "10.0.1.%d" : "2001:db8::%d", i + 1);
        world_knows("crowd.example", text);
    }
    race r = {};
    r.close = true;
    mio_stream_t *stream;
    race_start(loop, "crowd.example", 80, &r, &stream);
    race_run(loop, &r);
    assert_is(r.tried, MIO_CONNECT_HOST_TRIES);
    assert_is(r.status, MIO_ECONNREFUSED);
    world_knows("bad.example", "10.0.0.1");
    assert_is(mio_sim_name_fails(world(), "bad.example", MIO_EAI_FAIL), 0);
    race bad = {};
    bad.close = true;
    race_start(loop, "bad.example", 80, &bad, &stream);
    race_run(loop, &bad);
    assert_is(bad.status, MIO_EAI_FAIL);
    assert_is(bad.tried, 0);
}

TEST(connect_host_survives_whatever_a_world_does) {
    SIM_ONLY("a host's addresses are the world's");
    mio_loop_t *loop = loop_open();
    echo server;
    memset(&server, 0, sizeof server);
    static const char *const addrs[] = {"10.0.0.1", "2001:db8::1", "10.0.0.2", "127.0.0.1"};
    echo_open(loop, &server); // on the last of them
    server_unref(&server);
    for (const char *addr : addrs) world_knows("some.example", addr);
    for (int i = 0; i < scaled(200); i++) {
        race r = {};
        r.close = true;
        mio_stream_t *stream;
        const mio_req_t id = race_start(loop, "some.example", mio_addr_port(&server.at), &r, &stream);
        const uint64_t what = mio_sim_random(world());
        if (what % 4 == 0) assert_is(mio_req_timeout(loop, id, static_cast<int64_t>(what >> 8) % (20 * MIO_MILLISECOND)), 0);
        if (what % 8 == 1) {
            turn_some(loop, static_cast<int>(what >> 16) % 20, &r);
            if (r.told == 0) mio_handle_abandon(stream);
        }
        run_to_end(loop);
        if (what % 8 != 1) assert_is(r.told, 1);
    }
    run_to_end(loop);
    assert_is(metrics(loop).handles, 1); // the listener
}
