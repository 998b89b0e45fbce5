// UDP: datagrams there and back, what comes along with them, and how they are kept apart.
#include "datagrams.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace api;

TEST(a_udp_socket_answers_each_mistake) {
    mio_loop_t *loop = loop_open();
    mio_udp_t *udp = nullptr;
    told t = {};
    assert_is(mio_udp_open(nullptr, AF_INET, nullptr, &udp), MIO_EINVAL);
    assert_is(mio_udp_open(loop, AF_INET, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_udp_open(loop, AF_UNIX, nullptr, &udp), MIO_EINVAL);
    mio_udp_options_t options = MIO_UDP_OPTIONS_INIT;
    options.block_size = MIO_DATAGRAM_MAX + 1;
    assert_is(mio_udp_open(loop, AF_INET, &options, &udp), MIO_EINVAL);
    struct {
        mio_udp_options_t options;
        int more;
    } longer = {MIO_UDP_OPTIONS_INIT, 1};
    longer.options.size = sizeof longer;
    assert_is(mio_udp_open(loop, AF_INET, &longer.options, &udp), MIO_E2BIG);
    ck_assert_ptr_null(udp);
    mio_addr_t at, six;
    udp = udp_at(loop, "127.0.0.1", &at);
    assert_is(mio_addr_parse("::1", 1, &six), 0);
    assert_is(mio_udp_bind(udp, nullptr), MIO_EINVAL);
    assert_is(mio_udp_bind(udp, &six), MIO_EINVAL);
    assert_is(mio_udp_bind(udp, &at), MIO_EINVAL); // is bound
    assert_is(mio_udp_connect(udp, &six), MIO_EINVAL);
    assert_is(mio_udp_recv_start(udp, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_udp_recv_pause(udp), MIO_EINVAL);
    assert_is(mio_udp_recv_resume(udp), MIO_EINVAL);
    assert_is(mio_udp_recv_stop(udp), MIO_EINVAL);
    mio_buf_t buf = text_buf(loop, "x");
    assert_is(mio_udp_send(udp, nullptr, 1, &at, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_udp_send(udp, &buf, 0, &at, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_udp_send(udp, &buf, MIO_DATAGRAM_BUFS_MAX + 1, &at, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_udp_send(udp, &buf, 1, &six, nullptr, nullptr), MIO_EINVAL);
    ck_assert_ptr_nonnull(buf.base);
    mio_buf_release(&buf);
    assert_is(mio_udp_send_many(udp, nullptr, 1, nullptr, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_udp_try_send(udp, nullptr, 1, &at), MIO_EINVAL);
    assert_is(mio_udp_try_send(udp, "x", 1, &six), MIO_EINVAL);
    assert_is(mio_udp_detach(udp, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_udp_local(udp, nullptr), MIO_EINVAL);
    assert_is(mio_udp_peer(udp, &six), MIO_ENOTCONN);
    assert_is(mio_udp_ttl(udp, 0), MIO_EINVAL);
    assert_is(mio_udp_multicast_ttl(udp, 256), MIO_EINVAL);
    assert_is(mio_udp_join(udp, &at, nullptr, 0), MIO_EINVAL); // no group
    ck_assert_int_gt(mio_udp_recv_start(udp, told_by, &t), 0);
    assert_is(mio_udp_recv_start(udp, told_by, &t), MIO_EBUSY);
    assert_ok(mio_udp_fd(udp));
    assert_is(mio_handle_kind(udp), MIO_KIND_UDP);
    ck_assert_ptr_eq(mio_udp_from(udp), udp);
    ck_assert_ptr_null(mio_stream_from(udp));
    assert_is(mio_handle_close(udp, nullptr, nullptr), 0);
    buf = text_buf(loop, "x");
    assert_is(mio_udp_send(udp, &buf, 1, &at, nullptr, nullptr), MIO_EBADF);
    mio_buf_release(&buf);
    assert_is(mio_udp_fd(udp), MIO_EBADF);
    assert_is(mio_udp_queued_bytes(udp), 0);
    run_to_end(loop);
    assert_is(t.ends, 1);
    assert_is(t.end, MIO_ECANCELED);
}

TEST(a_datagram_comes_as_it_was_sent_with_its_sender) {
    auto [loop, a, b, a_at, b_at] = two_sockets();
    told t = {};
    t.stop_after = 3;
    ck_assert_int_gt(mio_udp_recv_start(b, told_by, &t), 0);
    sendings s = {};
    send_text(a, "one", &b_at, &s);
    send_text(a, "two and a half", &b_at, &s);
    mio_buf_t pieces[3] = {text_buf(loop, "ga"), text_buf(loop, "the"), text_buf(loop, "red")};
    ck_assert_int_gt(mio_udp_send(a, pieces, 3, &b_at, sent_told, &s), 0);
    assert_is(mio_udp_queued_bytes(a), 25);
    run_to_stop(loop);
    ck_assert_str_eq(t.text, "one|two and a half|gathered|");
    ck_assert(same_addr(&t.from, &a_at));
    assert_is(t.latest.truncated, 0);
    assert_is(s.calls, 3);
    assert_is(s.failed, 0);
    assert_is(s.sent, 8);
    assert_is(s.bufs_len, 8);
    assert_is(mio_udp_queued_bytes(a), 0);
}

TEST(a_datagram_of_no_bytes_is_data) {
    auto [loop, a, b, a_at, b_at] = two_sockets();
    told t = {};
    t.stop_after = 3;
    ck_assert_int_gt(mio_udp_recv_start(b, told_by, &t), 0);
    sendings s = {};
    mio_buf_t empty = {};
    ck_assert_int_gt(mio_udp_send(a, &empty, 1, &b_at, sent_told, &s), 0);
    send_text(a, "between", &b_at, &s);
    mio_datagram_t none = {};
    none.addr = b_at;
    assert_is(mio_udp_send_many(a, &none, 1, sent_told, &s, nullptr), 0);
    run_to_stop(loop);
    ck_assert_str_eq(t.text, "|between||");
    assert_is(t.datagrams, 3);
    assert_is(t.ends, 0); // it is not an end
    assert_is(s.calls, 3);
    assert_is(s.failed, 0);
    t.stop_after = 4;
    assert_is(mio_udp_try_send(a, nullptr, 0, &b_at), 0);
    run_to_stop(loop);
    ck_assert_str_eq(t.text, "|between|||");
}

TEST(what_is_longer_than_a_block_comes_cut_and_says_so) {
    mio_loop_t *loop = loop_open();
    mio_addr_t a_at, b_at;
    mio_udp_options_t options = MIO_UDP_OPTIONS_INIT;
    options.block_size = 10;
    mio_udp_t *a = udp_at(loop, "127.0.0.1", &a_at), *b = udp_at(loop, "127.0.0.1", &b_at, &options);
    told t = {};
    t.stop_after = 1;
    ck_assert_int_gt(mio_udp_recv_start(b, told_by, &t), 0);
    send_text(a, "0123456789abc", &b_at);
    run_to_stop(loop);
    ck_assert_str_eq(t.text, "0123456789|");
    assert_is(t.latest.truncated, 1);
    t.stop_after = 2;
    send_text(a, "0123456789", &b_at);
    run_to_stop(loop);
    ck_assert_str_eq(t.text, "0123456789|0123456789|");
    assert_is(t.latest.truncated, 0);
}

// Larger than a receive block of the loop: each one has memory of its own.
TEST(the_longest_datagram_comes_whole) {
    mio_loop_options_t small = loop_options();
    small.buffer_block = 16384;
    mio_loop_t *loop = loop_open_with(&small);
    mio_addr_t a_at, b_at;
    mio_udp_options_t options = MIO_UDP_OPTIONS_INIT;
    options.block_size = MIO_DATAGRAM_MAX;
    mio_udp_t *a = udp_at(loop, "127.0.0.1", &a_at), *b = udp_at(loop, "127.0.0.1", &b_at, &options);
    struct big {
        int datagrams, wrong;
    } seen = {};
    ck_assert_int_gt(mio_udp_recv_start(b, [](mio_udp_t *udp, int status, mio_datagram_t *d, void *arg) {
        if (is_over()) return;
        big *s = static_cast<big *>(arg);
        assert_is(status, 0);
        if (d->buf.len != 65507 || !pattern_is(d->buf.base, d->buf.len, 7)) s->wrong++;
        if (++s->datagrams == 3) mio_loop_stop(mio_handle_loop(udp));
    }, &seen), 0);
    sendings s = {};
    for (int i = 0; i < 3; i++) {
        mio_buf_t buf = pattern_buf(loop, 65507, 7);
        ck_assert_int_gt(mio_udp_send(a, &buf, 1, &b_at, sent_told, &s), 0);
    }
    run_to_stop(loop);
    assert_is(seen.datagrams, 3);
    assert_is(seen.wrong, 0);
    assert_is(s.failed, 0);
}

TEST(too_long_a_datagram_fails_by_its_callback_and_the_others_go_on) {
    auto [loop, a, b, a_at, b_at] = two_sockets();
    told t = {};
    t.stop_after = 2;
    ck_assert_int_gt(mio_udp_recv_start(b, told_by, &t), 0);
    sendings before = {}, tall = {}, after = {};
    send_text(a, "before", &b_at, &before);
    mio_buf_t buf = pattern_buf(loop, 70000, 0);
    ck_assert_int_gt(mio_udp_send(a, &buf, 1, &b_at, sent_told, &tall), 0);
    send_text(a, "after", &b_at, &after);
    run_to_stop(loop);
    ck_assert_str_eq(t.text, "before|after|");
    assert_is(tall.calls, 1);
    assert_is(tall.status, MIO_EMSGSIZE);
    assert_is(tall.sent, 0);
    assert_is(tall.bufs_len, 70000);
    assert_is(before.status, 0);
    assert_is(after.status, 0);
    static const char long_one[70000] = {};
    assert_is(mio_udp_try_send(a, long_one, sizeof long_one, &b_at), MIO_EMSGSIZE);
}

TEST(nobody_to_send_to_is_an_error_of_the_callback) {
    mio_loop_t *loop = loop_open();
    mio_addr_t a_at;
    mio_udp_t *a = udp_at(loop, "127.0.0.1", &a_at);
    sendings s = {};
    s.stop_after = 1;
    send_text(a, "whom", nullptr, &s);
    run_to_stop(loop);
    assert_is(s.status, MIO_EDESTADDRREQ);
    assert_is(mio_udp_try_send(a, "x", 1, nullptr), MIO_EDESTADDRREQ);
}

TEST(a_connected_socket_hears_its_peer_only) {
    mio_loop_t *loop = loop_open();
    mio_addr_t a_at, b_at, c_at, peer;
    mio_udp_t *a = udp_at(loop, "127.0.0.1", &a_at), *b = udp_at(loop, "127.0.0.1", &b_at),
              *c = udp_at(loop, "127.0.0.1", &c_at);
    told t = {};
    t.stop_after = 1;
    ck_assert_int_gt(mio_udp_recv_start(b, told_by, &t), 0);
    assert_is(mio_udp_connect(b, &a_at), 0);
    assert_is(mio_udp_peer(b, &peer), 0);
    ck_assert(same_addr(&peer, &a_at));
    send_text(c, "stranger", &b_at);
    run_for(loop, 20 * MIO_MILLISECOND);
    send_text(a, "peer", &b_at);
    run_to_stop(loop);
    ck_assert_str_eq(t.text, "peer|");
    told back = {};
    back.stop_after = 1;
    ck_assert_int_gt(mio_udp_recv_start(a, told_by, &back), 0);
    send_text(b, "to my peer", nullptr);
    run_to_stop(loop);
    ck_assert_str_eq(back.text, "to my peer|");
    assert_is(mio_udp_connect(b, nullptr), 0);
    assert_is(mio_udp_peer(b, &peer), MIO_ENOTCONN);
}

TEST(ipv6_works_as_well_and_with_ipv4_on_one_socket) {
    mio_loop_t *loop = loop_open();
    mio_addr_t six_at, four_at, both_at;
    mio_udp_t *six = udp_at(loop, "::1", &six_at), *four = udp_at(loop, "127.0.0.1", &four_at);
    mio_udp_t *both = udp_at(loop, "::", &both_at);
    told t = {};
    t.stop_after = 1;
    ck_assert_int_gt(mio_udp_recv_start(both, told_by, &t), 0);
    mio_addr_t to;
    assert_is(mio_addr_parse("::1", mio_addr_port(&both_at), &to), 0);
    send_text(six, "six", &to);
    run_to_stop(loop);
    ck_assert(same_addr(&t.from, &six_at));
    t.stop_after = 2;
    assert_is(mio_addr_parse("127.0.0.1", mio_addr_port(&both_at), &to), 0);
    send_text(four, "four", &to);
    run_to_stop(loop);
    ck_assert_str_eq(t.text, "six|four|");
    assert_is(mio_addr_port(&t.from), mio_addr_port(&four_at));
}

TEST(address_interface_ecn_and_time_come_along_when_wanted) {
    mio_loop_t *loop = loop_open();
    const char *hosts[] = {"127.0.0.1", "::1"};
    for (const char *host : hosts) {
        mio_addr_t a_at, b_at, to;
        mio_udp_options_t options = MIO_UDP_OPTIONS_INIT;
        options.want_local = options.want_ecn = options.want_time = 1;
        mio_udp_t *a = udp_at(loop, host, &a_at);
        mio_udp_t *b = udp_at(loop, strchr(host, ':') != nullptr ? "::" : "0.0.0.0", &b_at, &options);
        assert_is(mio_addr_parse(host, mio_addr_port(&b_at), &to), 0);
        told t = {};
        t.stop_after = 1;
        ck_assert_int_gt(mio_udp_recv_start(b, told_by, &t), 0);
        mio_datagram_t d = {};
        d.buf = text_buf(loop, "marked");
        d.addr = to;
        d.ecn = 2;
        assert_is(mio_udp_send_many(a, &d, 1, nullptr, nullptr, nullptr), 0);
        run_to_stop(loop);
        ck_assert_str_eq(t.text, "marked|");
        assert_is(t.latest.ecn, 2);
        mio_addr_t local = t.latest.local, wanted;
        assert_is(mio_addr_parse(host, 0, &wanted), 0);
        ck_assert(same_addr(&local, &wanted));
        ck_assert_uint_ne(t.latest.ifindex, 0);
        if (!on_sim()) ck_assert_uint_eq(t.latest.ifindex, if_nametoindex("lo"));
        ck_assert_int_gt(t.latest.time_ns, 1500000000 * MIO_SECOND);
        mio_handle_abandon(a);
        mio_handle_abandon(b);
    }
    mio_addr_t at;
    mio_udp_t *plain = udp_at(loop, "127.0.0.1", &at);
    told t = {};
    t.stop_after = 1;
    ck_assert_int_gt(mio_udp_recv_start(plain, told_by, &t), 0);
    send_text(plain, "to myself", &at);
    run_to_stop(loop);
    assert_is(t.latest.local.len, 0); // nobody asked
    assert_is(t.latest.time_ns, 0);
}

TEST(ecn_reaches_an_ipv4_receiver_from_a_socket_of_both_families) {
    mio_loop_t *loop = loop_open();
    mio_addr_t both_at, four_at, to;
    mio_udp_options_t options = MIO_UDP_OPTIONS_INIT;
    mio_udp_t *both = udp_at(loop, "::", &both_at);
    options.want_ecn = 1;
    mio_udp_t *four = udp_at(loop, "127.0.0.1", &four_at, &options);
    assert_is(mio_addr_parse("::ffff:127.0.0.1", mio_addr_port(&four_at), &to), 0);
    told t = {};
    t.stop_after = 1;
    ck_assert_int_gt(mio_udp_recv_start(four, told_by, &t), 0);
    mio_datagram_t d = {};
    d.buf = text_buf(loop, "marked");
    d.addr = to;
    d.ecn = 1;
    assert_is(mio_udp_send_many(both, &d, 1, nullptr, nullptr, nullptr), 0);
    run_to_stop(loop);
    ck_assert_str_eq(t.text, "marked|");
    assert_is(t.latest.ecn, 1);
}

TEST(an_answer_comes_from_the_address_that_was_asked) {
    mio_loop_t *loop = loop_open();
    mio_addr_t a_at, b_at, to;
    mio_udp_options_t options = MIO_UDP_OPTIONS_INIT;
    options.want_local = 1;
    mio_udp_t *a = udp_at(loop, "127.0.0.1", &a_at), *b = udp_at(loop, "0.0.0.0", &b_at, &options);
    ck_assert_int_gt(mio_udp_recv_start(b, [](mio_udp_t *udp, int status, mio_datagram_t *d, void *) {
        if (status == 0) assert_is(mio_udp_send_many(udp, d, 1, nullptr, nullptr, nullptr), 0); // an echo, of one line
    }, nullptr), 0);
    told t = {};
    t.stop_after = 1;
    ck_assert_int_gt(mio_udp_recv_start(a, told_by, &t), 0);
    assert_is(mio_addr_parse("127.0.0.77", mio_addr_port(&b_at), &to), 0);
    send_text(a, "who are you", &to);
    run_to_stop(loop);
    ck_assert_str_eq(t.text, "who are you|");
    ck_assert(same_addr(&t.from, &to));
}

TEST(a_batch_is_all_or_nothing_and_keeps_its_order) {
    mio_loop_t *loop = loop_open();
    mio_addr_t a_at, b_at;
    mio_udp_options_t options = MIO_UDP_OPTIONS_INIT;
    options.queue_max = 1000;
    mio_udp_t *a = udp_at(loop, "127.0.0.1", &a_at, &options), *b = udp_at(loop, "127.0.0.1", &b_at);
    constexpr unsigned COUNT = 100;
    mio_datagram_t list[COUNT] = {};
    mio_req_t ids[COUNT];
    told t = {};
    t.stop_after = COUNT;
    ck_assert_int_gt(mio_udp_recv_start(b, told_by, &t), 0);
    for (unsigned i = 0; i < COUNT; i++) {
        char text[8];
        snprintf(text, sizeof text, "%02u", i);
        list[i].buf = text_buf(loop, text);
        list[i].addr = b_at;
    }
    list[50].ecn = 4; // no such
    assert_is(mio_udp_send_many(a, list, COUNT, nullptr, nullptr, ids), MIO_EINVAL);
    for (unsigned i = 0; i < COUNT; i++) ck_assert_ptr_nonnull(list[i].buf.base);
    assert_is(mio_udp_queued_bytes(a), 0);
    list[50].ecn = 0;
    sendings s = {};
    assert_is(mio_udp_send_many(a, list, COUNT, sent_told, &s, ids), 0);
    for (unsigned i = 0; i < COUNT; i++) {
        ck_assert_ptr_null(list[i].buf.base);
        ck_assert_int_gt(ids[i], 0);
        ck_assert(i == 0 || ids[i] != ids[i - 1]);
    }
    assert_is(mio_udp_queued_bytes(a), 200);
    assert_is(mio_udp_try_send(a, "overtaken", 9, &b_at), MIO_EAGAIN);
    mio_buf_t more = pattern_buf(loop, 801, 0);
    assert_is(mio_udp_send(a, &more, 1, &b_at, nullptr, nullptr), MIO_ENOBUFS);
    mio_buf_release(&more);
    run_to_stop(loop);
    assert_is(t.datagrams, COUNT);
    char expected[8];
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(expected, sizeof expected, "%02u|", i);
        ck_assert_int_eq(strncmp(t.text + 3 * i, expected, 3), 0);
    }
    assert_is(s.calls, COUNT);
    assert_is(s.failed, 0);
}

TEST(a_buffer_that_is_cut_into_datagrams_arrives_in_pieces) {
    mio_loop_t *loop = loop_open();
    mio_addr_t a_at, b_at;
    mio_udp_options_t options = MIO_UDP_OPTIONS_INIT;
    options.receive_buffer = 1 << 20;
    mio_udp_t *a = udp_at(loop, "127.0.0.1", &a_at), *b = udp_at(loop, "127.0.0.1", &b_at, &options);
    struct pieces {
        int datagrams, wrong;
        size_t bytes;
    } seen = {};
    constexpr size_t BYTES = 100 * 1000 + 333; // more than one message of the kernel's can have
    ck_assert_int_gt(mio_udp_recv_start(b, [](mio_udp_t *udp, int status, mio_datagram_t *d, void *arg) {
        if (is_over()) return;
        pieces *s = static_cast<pieces *>(arg);
        assert_is(status, 0);
        assert_is(d->segment_size, 0);
        const size_t left = BYTES - s->bytes;
        if (d->buf.len != (left < 1000 ? left : 1000) || !pattern_is(d->buf.base, d->buf.len, s->bytes)) s->wrong++;
        s->bytes += d->buf.len;
        s->datagrams++;
        if (s->bytes == BYTES) mio_loop_stop(mio_handle_loop(udp));
    }, &seen), 0);
    mio_datagram_t d = {};
    d.buf = pattern_buf(loop, BYTES, 0);
    d.addr = b_at;
    d.segment_size = 1000;
    sendings s = {};
    assert_is(mio_udp_send_many(a, &d, 1, sent_told, &s, nullptr), 0);
    run_to_stop(loop);
    assert_is(seen.datagrams, 101);
    assert_is(seen.wrong, 0);
    assert_is(s.calls, 1);
    assert_is(s.status, 0);
    assert_is(s.sent, BYTES);
    assert_is(s.bufs_len, BYTES);
}

TEST(joined_datagrams_say_how_long_each_one_is) {
    mio_loop_t *loop = loop_open();
    mio_addr_t a_at, b_at;
    mio_udp_options_t options = MIO_UDP_OPTIONS_INIT;
    options.gro = 1;
    mio_udp_t *a = udp_at(loop, "127.0.0.1", &a_at), *b = udp_at(loop, "127.0.0.1", &b_at, &options);
    struct joined {
        size_t bytes;
        int calls, wrong;
    } seen = {};
    constexpr size_t BYTES = 20 * 500 + 7;
    ck_assert_int_gt(mio_udp_recv_start(b, [](mio_udp_t *udp, int status, mio_datagram_t *d, void *arg) {
        if (is_over()) return;
        joined *s = static_cast<joined *>(arg);
        assert_is(status, 0);
        const bool is_one = d->segment_size == 0 && d->buf.len <= 500;
        if ((!is_one && d->segment_size != 500) || d->truncated || !pattern_is(d->buf.base, d->buf.len, s->bytes)) s->wrong++;
        s->bytes += d->buf.len;
        s->calls++;
        if (s->bytes == BYTES) mio_loop_stop(mio_handle_loop(udp));
    }, &seen), 0);
    mio_datagram_t d = {};
    d.buf = pattern_buf(loop, BYTES, 0);
    d.addr = b_at;
    d.segment_size = 500;
    assert_is(mio_udp_send_many(a, &d, 1, nullptr, nullptr, nullptr), 0);
    run_to_stop(loop);
    assert_is(seen.wrong, 0);
    ck_assert_int_le(seen.calls, 21);
}

// Nothing leaves the machine: the sender allows no hop. false: not over that interface.
static bool multicast(const char *any, const char *group_host, const char *source_host, unsigned lo) {
    mio_loop_t *loop = loop_open();
    mio_addr_t at, group, source, from_at;
    mio_udp_t *member = udp_at(loop, any, &at), *sender = udp_at(loop, source_host, &from_at);
    assert_is(mio_addr_parse(group_host, mio_addr_port(&at), &group), 0);
    told t = {};
    ck_assert_int_gt(mio_udp_recv_start(member, told_by, &t), 0);
    assert_is(mio_udp_join(member, &group, nullptr, lo), 0);
    assert_is(mio_udp_join(member, &group, nullptr, lo), MIO_EADDRINUSE);
    assert_is(mio_udp_multicast_interface(sender, lo), 0);
    assert_is(mio_udp_multicast_ttl(sender, 0), 0);
    assert_is(mio_udp_multicast_loop(sender, 1), 0);
    assert_is(mio_udp_ttl(sender, 5), 0);
    sendings s = {};
    s.stop_after = 1;
    send_text(sender, "to all", &group, &s);
    run_to_stop(loop);
    if (s.status == MIO_ENETUNREACH || s.status == MIO_EADDRNOTAVAIL) return false; // no route, no address
    assert_is(s.status, 0);
    t.stop_after = 1;
    if (t.calls == 0) run_to_stop(loop);
    ck_assert_str_eq(t.text, "to all|");
    assert_is(mio_udp_leave(member, &group, nullptr, lo), 0);
    assert_is(mio_udp_leave(member, &group, nullptr, lo), MIO_EADDRNOTAVAIL);
    // From one source only.
    source = t.from;
    assert_is(mio_udp_join(member, &group, &source, lo), 0);
    t.stop_after = 2;
    send_text(sender, "from me", &group);
    run_to_stop(loop);
    ck_assert_str_eq(t.text, "to all|from me|");
    assert_is(mio_udp_leave(member, &group, &source, lo), 0);
    assert_is(mio_udp_multicast_loop(sender, 0), 0);
    return true;
}

TEST(a_multicast_reaches_who_has_joined) {
    KERNEL_ONLY("the simulated network has no groups");
    if (!multicast("0.0.0.0", "239.255.77.77", "127.0.0.1", if_nametoindex("lo")))
        SKIP("no route for multicasts on this machine");
}

TEST(an_ipv6_multicast_reaches_who_has_joined) {
    KERNEL_ONLY("the simulated network has no groups");
    // The group's scope is the interface. Linux has no such route over lo unless somebody made one.
    if (multicast("::", "ff11::7777", "::1", if_nametoindex("lo"))) return;
    struct ifaddrs *all;
    assert_is(getifaddrs(&all), 0);
    bool reached = false;
    for (const struct ifaddrs *one = all; one != nullptr && !reached; one = one->ifa_next) {
        const bool six = one->ifa_addr != nullptr && one->ifa_addr->sa_family == AF_INET6;
        if (!six || (one->ifa_flags & (IFF_UP | IFF_MULTICAST)) != (IFF_UP | IFF_MULTICAST)) continue;
        reached = multicast("::", "ff11::7777", "::", if_nametoindex(one->ifa_name));
    }
    freeifaddrs(all);
    if (!reached) SKIP("no route for IPv6 multicasts over any interface");
}

// One wait, one receive that says by itself that there is no more.
TEST(a_datagram_that_comes_alone_costs_two_calls) {
    KERNEL_ONLY("a simulated world is not called");
    if (on_kqueue()) SKIP("kqueue has no call for a batch");
    mio_loop_t *loop = loop_open();
    mio_addr_t at;
    mio_udp_t *udp = udp_at(loop, "127.0.0.1", &at);
    told t = {};
    ck_assert_int_gt(mio_udp_recv_start(udp, told_by, &t), 0);
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_ok(fd);
    uint64_t before = 0;
    for (int i = 0; i < 110; i++) {
        if (i == 10) before = metrics(loop).backend_calls;
        assert_is(sendto(fd, "x", 1, 0, &at.u.any, at.len), 1);
        while (t.datagrams == i) assert_ok(mio_loop_run_once(loop, MIO_SECOND));
        assert_ok(mio_loop_run_once(loop, 0)); // what is left to do is done before the next one is there
    }
    ck_assert_uint_le(metrics(loop).backend_calls - before, 100 * 3 + 20); // with the look at an empty socket
    close(fd);
}

TEST(a_broadcast_needs_leave) {
    mio_loop_t *loop = loop_open();
    mio_addr_t at, all;
    mio_udp_t *udp = udp_at(loop, "127.0.0.1", &at);
    assert_is(mio_addr_parse(on_sim() ? "255.255.255.255" : "127.255.255.255", mio_addr_port(&at), &all), 0);
    sendings s = {};
    s.stop_after = 1;
    send_text(udp, "everybody", &all, &s);
    run_to_stop(loop);
    assert_is(s.status, MIO_EACCES);
    assert_is(mio_udp_broadcast(udp, 1), 0);
    s = {};
    s.stop_after = 1;
    send_text(udp, "everybody", &all, &s);
    run_to_stop(loop);
    assert_is(s.status, on_sim() ? MIO_ENETUNREACH : MIO_OK);
    assert_is(mio_udp_broadcast(udp, 0), 0);
}

TEST(a_group_of_sockets_shares_a_port_and_closing_one_leaves_the_others) {
    mio_loop_t *loop = loop_open();
    mio_udp_options_t options = MIO_UDP_OPTIONS_INIT;
    options.reuse_port = 1;
    mio_addr_t at, again, from_at;
    constexpr int MEMBERS = 4;
    mio_udp_t *group[MEMBERS];
    told t[MEMBERS] = {};
    group[0] = udp_at(loop, "127.0.0.1", &at, &options);
    for (int i = 1; i < MEMBERS; i++) {
        assert_is(mio_udp_open(loop, AF_INET, &options, &group[i]), 0);
        again = at;
        assert_is(mio_udp_bind(group[i], &again), 0);
    }
    mio_udp_t *alone;
    assert_is(mio_udp_open(loop, AF_INET, nullptr, &alone), 0);
    assert_is(mio_udp_bind(alone, &at), MIO_EADDRINUSE); // not one of them
    for (int i = 0; i < MEMBERS; i++) ck_assert_int_gt(mio_udp_recv_start(group[i], told_by, &t[i]), 0);
    constexpr int SENDERS = 64; // the kernel chooses by their ports
    mio_udp_t *senders[SENDERS];
    for (mio_udp_t *&sender : senders) sender = udp_at(loop, "127.0.0.1", &from_at);
    sendings s = {};
    for (mio_udp_t *sender : senders) send_text(sender, "x", &at, &s);
    const auto heard = [&] { return t[0].datagrams + t[1].datagrams + t[2].datagrams + t[3].datagrams; };
    (void)comes(loop, [&] { return heard() >= SENDERS; });
    assert_is(heard(), SENDERS);
    int served = 0;
    for (const told &one : t) served += one.datagrams != 0;
    ck_assert_int_ge(served, 2); // 64 senders on one of four: once in 4^63
    outcome closed = {};
    assert_is(mio_handle_close(group[0], close_told, &closed), 0);
    ck_assert(comes(loop, [&] { return closed.calls != 0; }));
    const int first = t[0].datagrams;
    for (mio_udp_t *sender : senders) send_text(sender, "y", &at, &s);
    (void)comes(loop, [&] { return heard() >= 2 * SENDERS; });
    assert_is(t[0].datagrams, first);
    assert_is(heard(), 2 * SENDERS);
}
