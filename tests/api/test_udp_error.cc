// What the network says about datagrams: ports where nobody is, and what becomes of the others meanwhile.
#include "datagrams.h"

#include <initializer_list>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace api;

// A port of 127.0.0.1 (or ::1) where nobody is.
static mio_addr_t dead_end(mio_loop_t *loop, const char *host) {
    mio_addr_t at;
    mio_udp_t *udp = udp_at(loop, host, &at);
    assert_is(mio_handle_close(udp, nullptr, nullptr), 0);
    run_to_end(loop);
    return at;
}

// false: this system says nothing of datagrams of sockets that are not connected.
static bool tells_unconnected() { return !on_sim(); }

TEST(a_port_where_nobody_is_is_reported_to_who_receives) {
    mio_loop_t *loop = loop_open();
    for (const char *host : {"127.0.0.1", "::1"}) {
        mio_addr_t nobody = dead_end(loop, host), at;
        mio_udp_t *udp = udp_at(loop, host, &at);
        assert_is(mio_udp_connect(udp, &nobody), 0);
        told t = {};
        t.stop_after = 1;
        ck_assert_int_gt(mio_udp_recv_start(udp, told_by, &t), 0);
        sendings s = {};
        send_text(udp, "anybody?", nullptr, &s);
        run_to_stop(loop);
        assert_is(t.reports, 1);
        assert_is(t.status, MIO_ECONNREFUSED);
        assert_is(t.ends, 0); // and it goes on
        assert_is(s.status, 0); // it has left
        if (tells_unconnected()) ck_assert(same_addr(&t.about, &nobody));
        mio_udp_t *late;
        assert_is(mio_udp_open(loop, nobody.u.any.sa_family, nullptr, &late), 0);
        assert_is(mio_udp_bind(late, &nobody), 0);
        assert_is(mio_udp_connect(late, &at), 0);
        t.stop_after = 2;
        send_text(late, "now I am", nullptr);
        run_to_stop(loop);
        ck_assert_str_eq(t.text, "now I am|");
        mio_handle_abandon(late);
        mio_handle_abandon(udp);
    }
}

TEST(a_report_names_who_could_not_be_reached_and_disturbs_nobody_else) {
    if (!tells_unconnected()) SKIP("sockets of a world that are not connected hear of no errors");
    mio_loop_t *loop = loop_open();
    mio_addr_t nobody = dead_end(loop, "127.0.0.1"), a_at, b_at;
    mio_udp_t *a = udp_at(loop, "127.0.0.1", &a_at), *b = udp_at(loop, "127.0.0.1", &b_at);
    told t = {}, heard = {};
    ck_assert_int_gt(mio_udp_recv_start(a, told_by, &t), 0);
    ck_assert_int_gt(mio_udp_recv_start(b, told_by, &heard), 0);
    sendings s = {};
    for (int i = 0; i < 20; i++) {
        send_text(a, "dead", &nobody, &s);
        send_text(a, "x", &b_at, &s);
    }
    (void)comes(loop, [&] { return heard.datagrams >= 20 && t.reports >= 20; });
    assert_is(heard.datagrams, 20);
    assert_is(t.reports, 20);
    assert_is(t.status, MIO_ECONNREFUSED);
    ck_assert(same_addr(&t.about, &nobody));
    assert_is(s.calls, 40);
    assert_is(s.failed, 0); // no error is told to another datagram's callback
}

TEST(an_error_of_an_earlier_datagram_is_not_the_next_ones) {
    mio_loop_t *loop = loop_open();
    mio_addr_t nobody = dead_end(loop, "127.0.0.1"), at;
    mio_udp_t *udp = udp_at(loop, "127.0.0.1", &at); // nobody receives here
    assert_is(mio_udp_connect(udp, &nobody), 0);
    sendings s = {};
    for (int i = 0; i < 10; i++) {
        s.stop_after = i + 1;
        send_text(udp, "knock", nullptr, &s);
        run_to_stop(loop);
        run_for(loop, MIO_MILLISECOND);
    }
    assert_is(s.calls, 10);
    assert_is(s.failed, 0);
    assert_is(mio_udp_try_send(udp, "knock", 5, nullptr), 5);
    run_for(loop, MIO_MILLISECOND);
    assert_is(mio_udp_try_send(udp, "knock", 5, nullptr), 5);
}

// Errors that nobody fetches must not keep the loop busy.
TEST(errors_that_nobody_receives_cost_no_turns) {
    KERNEL_ONLY("turns of a world are not the kernel's to cause");
    mio_loop_t *loop = loop_open();
    mio_addr_t nobody = dead_end(loop, "127.0.0.1"), at;
    mio_udp_t *udp = udp_at(loop, "127.0.0.1", &at);
    assert_is(mio_udp_connect(udp, &nobody), 0);
    for (int i = 0; i < 10; i++) send_text(udp, "knock", nullptr);
    run_for(loop, 20 * MIO_MILLISECOND);
    const uint64_t before = metrics(loop).turns;
    run_for(loop, 50 * MIO_MILLISECOND);
    ck_assert_uint_lt(metrics(loop).turns - before, 100);
    told t = {};
    t.stop_after = 1;
    ck_assert_int_gt(mio_udp_recv_start(udp, told_by, &t), 0); // and is told then
    run_to_stop(loop);
    assert_is(t.status, MIO_ECONNREFUSED);
}

TEST(many_reports_at_once_are_all_told) {
    if (!tells_unconnected()) SKIP("sockets of a world that are not connected hear of no errors");
    mio_loop_t *loop = loop_open();
    mio_addr_t nobody = dead_end(loop, "127.0.0.1"), at;
    mio_udp_t *udp = udp_at(loop, "127.0.0.1", &at);
    told t = {};
    ck_assert_int_gt(mio_udp_recv_start(udp, told_by, &t), 0);
    assert_is(mio_udp_recv_pause(udp), 0);
    for (int i = 0; i < 50; i++) send_text(udp, "knock", &nobody);
    run_for(loop, 20 * MIO_MILLISECOND);
    assert_is(t.calls, 0);
    assert_is(mio_udp_recv_resume(udp), 0);
    (void)comes(loop, [&] { return t.reports >= 50; });
    assert_is(t.reports, 50);
    assert_is(t.datagrams, 0);
}

// A socket whose peers never read: it fills, sends wait, and every buffer comes back when it closes.
TEST(a_full_socket_makes_sends_wait) {
    SIM_ONLY("the loopback of a kernel takes what nobody receives and drops it");
    mio_loop_t *loop = loop_open();
    mio_addr_t a_at, b_at;
    mio_udp_t *a = udp_at(loop, "127.0.0.1", &a_at);
    (void)udp_at(loop, "127.0.0.1", &b_at);
    sendings s = {};
    for (int i = 0; i < 200; i++) {
        mio_buf_t buf = pattern_buf(loop, 1000, 0);
        ck_assert_int_gt(mio_udp_send(a, &buf, 1, &b_at, sent_told, &s), 0);
    }
    assert_ok(mio_loop_run_once(loop, 0));
    assert_ok(mio_loop_run_once(loop, 0));
    ck_assert_int_lt(s.calls, 200); // 65,536 bytes are under way
    ck_assert_uint_gt(mio_udp_queued_bytes(a), 0);
    s.stop_after = 200;
    run_to_stop(loop);
    assert_is(s.failed, 0);
    assert_is(mio_udp_queued_bytes(a), 0);
}
