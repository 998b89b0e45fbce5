// Connecting to a host by name: early ends in every state first, then order, stagger and who wins (in worlds, where
// hosts have many addresses and time is exact), and what is told of it.
#include "harness.h"

#include <netinet/in.h>
#include <sys/resource.h>

using namespace api;

struct race {
    int told, status;
    unsigned tried;
    int statuses[MIO_CONNECT_HOST_TRIES];
    char text[2048];
    int64_t at_ns;
    bool stop, close, abandon;
};

static void race_told(mio_stream_t *stream, int status, const mio_connect_tried_t *tried, unsigned n, void *arg) {
    if (is_over()) return;
    auto *r = static_cast<race *>(arg);
    r->told++;
    r->status = status;
    r->tried = n;
    r->at_ns = mio_loop_now_ns(mio_handle_loop(stream));
    for (unsigned i = 0; i < n; i++) r->statuses[i] = tried[i].status;
    assert_ok(mio_connect_tried_format(tried, n, r->text, sizeof r->text));
    if (mio_handle_is_closing(stream)) assert_is(mio_stream_fd(stream), MIO_EBADF);
    else if (status == 0) assert_ok(mio_stream_fd(stream));
    else assert_is(mio_stream_fd(stream), MIO_ENOTCONN);
    if (r->stop) mio_loop_stop(mio_handle_loop(stream));
    if (r->close) assert_is(mio_handle_close(stream, nullptr, nullptr), 0);
    if (r->abandon) mio_handle_abandon(stream);
}

static mio_addr_t addr_of(const char *host, int port) {
    mio_addr_t addr;
    assert_is(mio_addr_parse(host, port, &addr), 0);
    return addr;
}

static mio_req_t race_start(mio_loop_t *loop, const char *host, int port, race *r, mio_stream_t **stream,
                            const mio_connect_host_options_t *options = nullptr) {
    const mio_req_t id = mio_tcp_connect_host(loop, host, MIO_TEXT, port, options, race_told, r, stream);
    ck_assert_int_gt(id, 0);
    assert_is(r->told, 0);
    return id;
}

// Until it is told; a connection that stands is not waited for.
static void race_run(mio_loop_t *loop, race *r) {
    const int64_t until_ns = clock_ns() + patience(30 * MIO_SECOND);
    while (r->told == 0) {
        ck_assert_msg(clock_ns() < until_ns, "it is not told");
        assert_is(mio_loop_run_once(loop, on_sim() ? MIO_SECOND : MIO_MILLISECOND) >= 0, 1);
    }
    assert_is(r->told, 1);
}

// A port of 127.0.0.1 that nobody listens on.
static int free_port(mio_loop_t *loop) {
    mio_addr_t at;
    mio_listener_t *listener = listen_on(loop, [](mio_listener_t *, int, mio_stream_t *, void *) {}, nullptr, &at);
    assert_is(mio_handle_close(listener, nullptr, nullptr), 0);
    run_to_end(loop);
    return mio_addr_port(&at);
}

static void server_unref(echo *server) { assert_is(mio_handle_unref(server->listener), 0); }

// --- mistakes and exhaustion ----------------------------------------------------------------------------------------

TEST(connect_host_answers_each_mistake) {
    mio_loop_t *loop = loop_open();
    mio_stream_t *stream = nullptr;
    race r = {};
    mio_connect_host_options_t o = MIO_CONNECT_HOST_OPTIONS_INIT;
    mio_connect_options_t each = MIO_CONNECT_OPTIONS_INIT;
    const auto fails = [&](const mio_connect_host_options_t *options) {
        return mio_tcp_connect_host(loop, "localhost", MIO_TEXT, 80, options, race_told, &r, &stream);
    };
    assert_is(mio_tcp_connect_host(nullptr, "localhost", MIO_TEXT, 80, nullptr, race_told, &r, &stream), MIO_EINVAL);
    assert_is(mio_tcp_connect_host(loop, nullptr, MIO_TEXT, 80, nullptr, race_told, &r, &stream), MIO_EINVAL);
    assert_is(mio_tcp_connect_host(loop, "localhost", MIO_TEXT, 80, nullptr, nullptr, &r, &stream), MIO_EINVAL);
    assert_is(mio_tcp_connect_host(loop, "localhost", MIO_TEXT, 80, nullptr, race_told, &r, nullptr), MIO_EINVAL);
    assert_is(mio_tcp_connect_host(loop, "", MIO_TEXT, 80, nullptr, race_told, &r, &stream), MIO_EINVAL);
    assert_is(mio_tcp_connect_host(loop, "a\0b", 3, 80, nullptr, race_told, &r, &stream), MIO_EINVAL);
    assert_is(mio_tcp_connect_host(loop, "localhost", MIO_TEXT, 65536, nullptr, race_told, &r, &stream), MIO_EINVAL);
    o.family = AF_UNIX;
    assert_is(fails(&o), MIO_EINVAL);
    o.family = 0;
    o.resolve = MIO_RESOLVE_CANONICAL;
    assert_is(fails(&o), MIO_EINVAL);
    o.resolve = 0;
    o.stagger_ns = MIO_MILLISECOND;
    assert_is(fails(&o), MIO_EINVAL);
    o.stagger_ns = 0;
    o.timeout_ns = -1;
    assert_is(fails(&o), MIO_EINVAL);
    o.timeout_ns = 0;
    mio_addr_t bind = addr_of("127.0.0.1", 0);
    bind.len = 1;
    each.bind = &bind;
    o.connect = &each;
    assert_is(fails(&o), MIO_EINVAL);
    each.size = 1;
    assert_is(fails(&o), MIO_EINVAL);
    o.size = 2;
    assert_is(fails(&o), MIO_EINVAL);
    ck_assert_ptr_null(stream);
    assert_is(mio_loop_run(loop), 0);
    assert_is(r.told, 0);
}

TEST(what_was_tried_can_be_told) {
    const mio_addr_t one = addr_of("192.0.2.1", 80), two = addr_of("2001:db8::1", 443);
    const mio_connect_tried_t tried[] = {{&one, MIO_ECONNREFUSED}, {&two, 0}};
    char text[128];
    const char *const whole = "192.0.2.1:80 MIO_ECONNREFUSED, [2001:db8::1]:443 MIO_OK";
    assert_is(mio_connect_tried_format(tried, 2, text, sizeof text), static_cast<int>(strlen(whole)));
    ck_assert_str_eq(text, whole);
    assert_is(mio_connect_tried_format(tried, 2, text, strlen(whole) + 1), static_cast<int>(strlen(whole)));
    for (size_t size = 0; size <= strlen(whole); size++)
        assert_is(mio_connect_tried_format(tried, 2, text, size), MIO_ENOBUFS);
    assert_ok(mio_connect_tried_format(nullptr, 0, text, sizeof text));
    ck_assert_str_eq(text, "nothing was tried");
    assert_is(mio_connect_tried_format(nullptr, 1, text, sizeof text), MIO_EINVAL);
    assert_is(mio_connect_tried_format(tried, 2, nullptr, 10), MIO_EINVAL);
}

TEST(connect_host_without_memory_takes_nothing) {
    mio_loop_t *loop = loop_open();
    counting *count = loop_counting(loop);
    const int port = free_port(loop);
    int refused = 0;
    for (int n = 1; n < 20; n++) {
        race r = {};
        r.close = true;
        mio_stream_t *stream = nullptr;
        count->fail_at = n;
        const mio_req_t id = mio_tcp_connect_host(loop, "localhost", MIO_TEXT, port, nullptr, race_told, &r, &stream);
        const bool taken = id > 0;
        if (!taken) {
            assert_is(id, MIO_ENOMEM);
            ck_assert_ptr_null(stream);
            refused++;
        }
        run_to_end(loop);
        assert_is(r.told, taken ? 1 : 0);
        const bool all = count->fail_at > 0;
        count->fail_at = 0;
        assert_is(metrics(loop).handles, 0);
        assert_is(metrics(loop).requests, 0);
        if (taken && all) break;
    }
    ck_assert_int_gt(refused, 0);
}

TEST(connect_host_without_descriptors_is_told_by_the_callback) {
    mio_loop_t *loop = loop_open();
    race r = {};
    r.close = true;
    mio_stream_t *stream;
    struct rlimit before = {};
    if (on_sim()) {
        mio_sim_fault_t limit = MIO_SIM_FAULT_INIT;
        limit.kind = MIO_SIM_FD_LIMIT;
        limit.for_ns = MIO_MINUTE;
        assert_is(mio_sim_schedule(world(), &limit), 0);
    } else {
        race warm = {};
        warm.close = true;
        race_start(loop, "127.0.0.1", free_port(loop), &warm, &stream); // what the backend itself needs is open then
        race_run(loop, &warm);
        assert_is(getrlimit(RLIMIT_NOFILE, &before), 0);
        const struct rlimit none = {3, before.rlim_max};
        assert_is(setrlimit(RLIMIT_NOFILE, &none), 0);
    }
    race_start(loop, "127.0.0.1", 1, &r, &stream);
    race_run(loop, &r);
    if (!on_sim()) assert_is(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_is(r.status, MIO_EMFILE);
    ck_assert_str_eq(r.text, "127.0.0.1:1 MIO_EMFILE");
}

// --- early ends -----------------------------------------------------------------------------------------------------

// Turns so many times, so that each state is met: not begun, resolving, connecting, connected.
static void turn_some(mio_loop_t *loop, int turns, const race *r) {
    for (int i = 0; i < turns && r->told == 0; i++)
        assert_ok(mio_loop_run_once(loop, on_sim() ? 60 * MIO_MICROSECOND : 0));
}

TEST(a_cancel_of_connect_host_is_told_once_in_every_state) {
    mio_loop_t *loop = loop_open();
    echo server;
    echo_open(loop, &server);
    server_unref(&server);
    int cancelled = 0;
    for (int i = 0; i < 80; i++) {
        race r = {};
        mio_stream_t *stream;
        const mio_req_t id = race_start(loop, i % 2 == 0 ? "localhost" : "127.0.0.1", mio_addr_port(&server.at), &r, &stream);
        turn_some(loop, i % 8, &r);
        const int result = mio_req_cancel(loop, id);
        assert_is(result, r.told != 0 ? MIO_ENOENT : 0);
        race_run(loop, &r);
        if (result != 0) assert_is(r.status, 0);
        else ck_assert(r.status == MIO_ECANCELED || r.status == 0); // a connection that came wins
        if (r.status == MIO_ECANCELED) cancelled++;
        assert_is(mio_req_cancel(loop, id), MIO_ENOENT);
        assert_is(mio_handle_close(stream, nullptr, nullptr), 0);
        run_to_end(loop);
    }
    ck_assert_int_gt(cancelled, 0);
}

TEST(a_close_of_connect_host_is_told_in_every_state_and_the_close_last) {
    mio_loop_t *loop = loop_open();
    echo server;
    echo_open(loop, &server);
    server_unref(&server);
    for (int i = 0; i < 80; i++) {
        race r = {};
        mio_stream_t *stream;
        outcome closed = {};
        const mio_req_t id = race_start(loop, i % 2 == 0 ? "localhost" : "127.0.0.1", mio_addr_port(&server.at), &r, &stream);
        turn_some(loop, i % 8, &r);
        const int told = r.told;
        assert_is(mio_handle_close(stream, close_told, &closed), 0);
        assert_is(mio_handle_close(stream, close_told, &closed), MIO_EALREADY);
        if (i % 3 == 0 && told == 0) (void)mio_req_cancel(loop, id);
        run_to_end(loop);
        assert_is(r.told, 1);
        assert_is(closed.calls, 1);
        if (told == 0) ck_assert(r.status == MIO_ECANCELED || r.status == 0);
    }
}

TEST(an_abandon_of_connect_host_is_silent_in_every_state) {
    mio_loop_t *loop = loop_open();
    echo server;
    echo_open(loop, &server);
    server_unref(&server);
    for (int i = 0; i < 80; i++) {
        race r = {};
        mio_stream_t *stream;
        const mio_req_t id = race_start(loop, i % 2 == 0 ? "localhost" : "127.0.0.1", mio_addr_port(&server.at), &r, &stream);
        turn_some(loop, i % 8, &r);
        const int told = r.told;
        if (i % 4 == 3 && told == 0) { // the request alone: the stream is there to be closed
            assert_is(mio_req_abandon(loop, id), 0);
            run_to_end(loop);
            assert_is(mio_handle_close(stream, nullptr, nullptr), 0);
        } else {
            mio_handle_abandon(stream);
        }
        run_to_end(loop);
        assert_is(r.told, told);
    }
    assert_is(metrics(loop).requests, 1); // the listener's
}

TEST(connect_host_is_closed_or_abandoned_in_its_callback) {
    mio_loop_t *loop = loop_open();
    echo server;
    echo_open(loop, &server);
    server_unref(&server);
    const int closed_port = free_port(loop);
    for (int i = 0; i < 8; i++) {
        race r = {};
        mio_stream_t *stream;
        (i % 2 == 0 ? r.close : r.abandon) = true;
        race_start(loop, "localhost", i < 4 ? mio_addr_port(&server.at) : closed_port, &r, &stream);
        race_run(loop, &r);
        assert_is(r.status == 0, i < 4);
    }
}

TEST(a_loop_ends_its_connect_hosts_with_itself) {
    mio_loop_t *loop = loop_open();
    echo server;
    echo_open(loop, &server);
    static int told;
    told = 0;
    const mio_connect_host_cb counts = [](mio_stream_t *, int status, const mio_connect_tried_t *, unsigned, void *) {
        told++;
        ck_assert(status == MIO_ECANCELED || status == 0);
    };
    mio_stream_t *stream;
    for (int i = 0; i < 30; i++) {
        const char *host = i % 2 == 0 ? "localhost" : "127.0.0.1";
        ck_assert_int_gt(mio_tcp_connect_host(loop, host, MIO_TEXT, mio_addr_port(&server.at), nullptr, counts, nullptr, &stream), 0);
        if (i % 5 == 0) assert_ok(mio_loop_run_once(loop, 0));
    }
    assert_is(mio_loop_destroy(loop, MIO_FOREVER), 0);
    loop_forget(loop);
    assert_is(told, 30);
}

TEST(an_unreferenced_connect_host_keeps_no_loop_alive) {
    mio_loop_t *loop = loop_open();
    echo server;
    echo_open(loop, &server);
    server_unref(&server);
    race r = {};
    mio_stream_t *stream;
    race_start(loop, "localhost", mio_addr_port(&server.at), &r, &stream);
    assert_is(mio_handle_unref(stream), 0);
    assert_is(mio_loop_run(loop), 0);
    assert_is(r.told, 0);
    assert_is(mio_handle_ref(stream), 0); // and goes on
    race_run(loop, &r);
    assert_is(r.status, 0);
    assert_is(mio_handle_close(stream, nullptr, nullptr), 0);
    run_to_end(loop);
}

// --- connecting -----------------------------------------------------------------------------------------------------

TEST(what_waits_for_connect_host_goes_to_the_connection) {
    mio_loop_t *loop = loop_open();
    echo server;
    echo_open(loop, &server);
    race r = {};
    inbox got = {};
    outcome written = {};
    got.is_text = true;
    got.stop_at = 5;
    mio_stream_t *stream;
    mio_addr_t peer;
    race_start(loop, "localhost", mio_addr_port(&server.at), &r, &stream);
    assert_is(mio_stream_fd(stream), MIO_ENOTCONN);
    mio_buf_t buf = text_buf(loop, "hello");
    ck_assert_int_gt(mio_stream_write(stream, &buf, 1, write_told, &written), 0);
    ck_assert_int_gt(mio_stream_read_start(stream, 0, read_into, &got), 0);
    run_to_stop(loop);
    assert_is(r.status, 0);
    assert_is(r.statuses[r.tried - 1], 0);
    assert_is(written.sent, 5);
    ck_assert_str_eq(got.text, "hello");
    assert_is(mio_stream_peer(stream, &peer), 0);
    assert_is(mio_addr_port(&peer), mio_addr_port(&server.at));
    assert_is(mio_tcp_nodelay(stream, 1), 0);
    assert_is(mio_handle_close(stream, nullptr, nullptr), 0);
}

TEST(what_waits_for_a_failed_connect_host_ends_with_its_error) {
    mio_loop_t *loop = loop_open();
    const int port = free_port(loop);
    race r = {};
    outcome written = {}, read = {};
    mio_stream_t *stream;
    char text[MIO_ADDR_TEXT_MAX];
    race_start(loop, "127.0.0.1", port, &r, &stream);
    mio_buf_t buf = text_buf(loop, "hello"), room;
    assert_is(mio_buf_alloc(loop, 10, &room), 0);
    ck_assert_int_gt(mio_stream_write(stream, &buf, 1, write_told, &written), 0);
    ck_assert_int_gt(mio_stream_read(stream, &room, read_told, &read), 0);
    race_run(loop, &r);
    run_to_end(loop);
    assert_is(r.status, MIO_ECONNREFUSED);
    assert_is(written.status, MIO_ECONNREFUSED);
    assert_is(written.sent, 0);
    assert_is(read.status, MIO_ECONNREFUSED);
    snprintf(text, sizeof text, "127.0.0.1:%d MIO_ECONNREFUSED", port);
    ck_assert_str_eq(r.text, text);
    assert_is(mio_handle_close(stream, nullptr, nullptr), 0);
    run_to_end(loop);
}

TEST(numeric_hosts_of_both_families_are_connected) {
    mio_loop_t *loop = loop_open();
    static const char *const hosts[] = {"127.0.0.2", "::1", "[::1]"};
    for (const char *host : hosts) {
        mio_listener_t *listener;
        mio_addr_t at;
        const int listening = mio_tcp_listen(loop, host, 0, nullptr, [](mio_listener_t *, int, mio_stream_t *, void *) {},
                                             nullptr, &listener);
        if (listening == MIO_EADDRNOTAVAIL || listening == MIO_EAFNOSUPPORT) SKIP("this machine has no IPv6");
        assert_is(listening, 0);
        assert_is(mio_listener_local(listener, &at), 0);
        race r = {};
        r.close = true;
        mio_stream_t *stream;
        race_start(loop, host, mio_addr_port(&at), &r, &stream);
        race_run(loop, &r);
        assert_is(r.status, 0);
        assert_is(r.tried, 1);
        assert_is(mio_handle_close(listener, nullptr, nullptr), 0);
        run_to_end(loop);
    }
}

TEST(a_host_without_an_address_of_the_family_is_told_so) {
    mio_loop_t *loop = loop_open();
    mio_connect_host_options_t o = MIO_CONNECT_HOST_OPTIONS_INIT;
    race r = {};
    r.close = true;
    mio_stream_t *stream;
    o.family = AF_INET6;
    race_start(loop, "127.0.0.1", 80, &r, &stream, &o);
    race_run(loop, &r);
    ck_assert_int_lt(r.status, -4096);
    ck_assert_int_eq(strncmp(mio_error_name(r.status), "MIO_EAI_", 8), 0);
    ck_assert_str_eq(r.text, "nothing was tried");
    // And one that has none of the family of bind.
    mio_connect_options_t each = MIO_CONNECT_OPTIONS_INIT;
    const mio_addr_t bind = addr_of("::1", 0);
    race other = {};
    other.close = true;
    each.bind = &bind;
    o.family = 0;
    o.connect = &each;
    race_start(loop, "127.0.0.1", 80, &other, &stream, &o);
    race_run(loop, &other);
    assert_is(other.status, MIO_EAI_NODATA);
}

TEST(each_attempt_is_bound_as_it_was_asked_for) {
    mio_loop_t *loop = loop_open();
    echo server;
    echo_open(loop, &server);
    server_unref(&server);
    mio_connect_host_options_t o = MIO_CONNECT_HOST_OPTIONS_INIT;
    mio_connect_options_t each = MIO_CONNECT_OPTIONS_INIT;
    mio_addr_t bind = addr_of("127.0.0.3", 0), local;
    race r = {};
    mio_stream_t *stream;
    char text[MIO_ADDR_TEXT_MAX];
    each.bind = &bind;
    o.connect = &each;
    race_start(loop, "localhost", mio_addr_port(&server.at), &r, &stream, &o);
    bind = addr_of("127.0.0.4", 0); // it was copied
    race_run(loop, &r);
    assert_is(r.status, 0);
    assert_is(mio_stream_local(stream, &local), 0);
    assert_ok(mio_addr_format(&local, text, sizeof text));
    ck_assert_int_eq(strncmp(text, "127.0.0.3:", 10), 0);
    assert_is(mio_handle_close(stream, nullptr, nullptr), 0);
    run_to_end(loop);
}

TEST(many_connect_hosts_run_at_once) {
    mio_loop_t *loop = loop_open();
    echo server;
    echo_open(loop, &server);
    server_unref(&server);
    static race all[60];
    memset(all, 0, sizeof all);
    mio_stream_t *stream;
    for (race &r : all) {
        r.close = true;
        race_start(loop, "localhost", mio_addr_port(&server.at), &r, &stream);
    }
    run_to_end(loop);
    for (const race &r : all) assert_is(r.status, seeded_faults() && r.status < 0 ? r.status : 0);
}

// --- order, stagger, time (worlds) ----------------------------------------------------------------------------------

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
