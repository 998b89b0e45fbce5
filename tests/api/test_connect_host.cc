// Connecting to a host by name: mistakes and want first, then early ends in every state, then what it connects to. Order,
// stagger and who wins are in test_connect_host_order.cc.
#include "connecting.h"

#include <sys/resource.h>

using namespace api;

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
    const refusing nobody(loop);
    const int port = mio_addr_port(&nobody.at);
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
        const refusing nobody(loop);
        warm.close = true;
        race_start(loop, "127.0.0.1", mio_addr_port(&nobody.at), &warm, &stream); // what the backend itself needs is open then
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
    const refusing nobody(loop);
    const int closed_port = mio_addr_port(&nobody.at);
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
    const refusing nobody(loop);
    const int port = mio_addr_port(&nobody.at);
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
