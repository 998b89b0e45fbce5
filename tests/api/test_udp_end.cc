// How datagram sockets and their requests end: paused, stopped, cancelled, closed, abandoned, detached, destroyed, without
// memory; every buffer comes back exactly once.
#include "datagrams.h"

#include <initializer_list>
#include <sys/socket.h>
#include <unistd.h>

using namespace api;

// --- receiving ------------------------------------------------------------------------------------------------------

TEST(paused_receiving_is_silent_and_goes_on_with_what_came) {
    auto [loop, a, b, a_at, b_at] = two_sockets();
    told t = {};
    ck_assert_int_gt(mio_udp_recv_start(b, told_by, &t), 0);
    assert_is(mio_udp_recv_pause(b), 0);
    assert_is(mio_udp_recv_pause(b), 0);
    for (const char *text : {"1", "2", "3"}) send_text(a, text, &b_at);
    run_for(loop, 20 * MIO_MILLISECOND);
    assert_is(t.calls, 0);
    t.stop_after = 3;
    assert_is(mio_udp_recv_resume(b), 0);
    assert_is(mio_udp_recv_resume(b), 0);
    run_to_stop(loop);
    ck_assert_str_eq(t.text, "1|2|3|");
}

TEST(a_pause_in_the_middle_of_a_batch_keeps_the_rest_in_order) {
    auto [loop, a, b, a_at, b_at] = two_sockets();
    static told t;
    t = {};
    ck_assert_int_gt(mio_udp_recv_start(b, [](mio_udp_t *udp, int status, mio_datagram_t *d, void *arg) {
        if (is_over()) return;
        told_by(udp, status, d, arg);
        assert_is(mio_udp_recv_pause(udp), 0);
    }, &t), 0);
    for (int i = 0; i < 9; i++) send_text(a, i % 2 == 0 ? "even" : "odd", &b_at);
    for (int i = 1; i <= 9; i++) {
        while (t.calls < i) assert_ok(mio_loop_run_once(loop, 10 * MIO_MILLISECOND));
        for (int turn = 0; turn < 3; turn++) assert_ok(mio_loop_run_once(loop, 0));
        assert_is(t.calls, i); // one each time
        assert_is(mio_udp_recv_resume(b), 0);
    }
    ck_assert_str_eq(t.text, "even|odd|even|odd|even|odd|even|odd|even|");
}

TEST(stop_is_told_last_and_who_starts_next_gets_what_came) {
    auto [loop, a, b, a_at, b_at] = two_sockets();
    static told t;
    t = {};
    ck_assert_int_gt(mio_udp_recv_start(b, [](mio_udp_t *udp, int status, mio_datagram_t *d, void *arg) {
        if (is_over()) return;
        told_by(udp, status, d, arg);
        if (status < 0) {
            mio_loop_stop(mio_handle_loop(udp));
            return;
        }
        assert_is(mio_udp_recv_stop(udp), 0);
        assert_is(mio_udp_recv_stop(udp), MIO_EALREADY);
        assert_is(mio_udp_recv_start(udp, told_by, arg), MIO_EBUSY);
    }, &t), 0);
    for (const char *text : {"1", "2", "3"}) send_text(a, text, &b_at);
    run_to_stop(loop);
    assert_is(t.datagrams, 1);
    assert_is(t.ends, 1);
    assert_is(mio_udp_recv_stop(b), MIO_EINVAL);
    t.stop_after = 3;
    ck_assert_int_gt(mio_udp_recv_start(b, told_by, &t), 0);
    run_to_stop(loop);
    ck_assert_str_eq(t.text, "1|2|3|");
}

TEST(receiving_is_cancelled_by_its_id_and_has_no_deadline) {
    mio_loop_t *loop = loop_open();
    mio_addr_t at;
    mio_udp_t *udp = udp_at(loop, "127.0.0.1", &at);
    told t = {};
    const mio_req_t id = mio_udp_recv_start(udp, told_by, &t);
    ck_assert_int_gt(id, 0);
    assert_is(mio_req_timeout(loop, id, MIO_SECOND), MIO_EINVAL);
    assert_is(mio_req_cancel(loop, id), 0);
    assert_is(mio_req_cancel(loop, id), MIO_EALREADY);
    run_to_end(loop);
    assert_is(t.ends, 1);
    assert_is(t.end, MIO_ECANCELED);
    assert_is(mio_req_cancel(loop, id), MIO_ENOENT);
    const mio_req_t next = mio_udp_recv_start(udp, told_by, &t);
    ck_assert_int_gt(next, 0);
    assert_is(mio_req_abandon(loop, next), 0);
    run_to_end(loop);
    assert_is(t.ends, 1);
}

TEST(a_datagram_that_is_kept_survives_its_socket) {
    auto [loop, a, b, a_at, b_at] = two_sockets();
    static mio_buf_t kept;
    ck_assert_int_gt(mio_udp_recv_start(b, [](mio_udp_t *udp, int status, mio_datagram_t *d, void *) {
        if (status < 0) return;
        kept = mio_buf_take(&d->buf);
        mio_handle_abandon(udp);
    }, nullptr), 0);
    send_text(a, "keep me", &b_at);
    run_to_end(loop);
    ck_assert_str_eq(text_of(&kept), "keep me");
    mio_buf_release(&kept);
}

// One consumer that keeps everything makes receiving pause, not fail; the others lose no more than the network would.
TEST(want_of_blocks_pauses_receiving_until_they_come_home) {
    mio_loop_options_t options = loop_options();
    options.buffer_block = 16384;
    options.buffer_max_bytes = 4 * 16384;
    mio_loop_t *loop = loop_open_with(&options);
    mio_addr_t a_at, b_at;
    mio_udp_options_t room = MIO_UDP_OPTIONS_INIT;
    room.receive_buffer = 1 << 20;
    mio_udp_t *a = udp_at(loop, "127.0.0.1", &a_at), *b = udp_at(loop, "127.0.0.1", &b_at, &room);
    struct keeper {
        mio_buf_t kept[256];
        int n, reports;
    };
    static keeper k;
    k = {};
    ck_assert_int_gt(mio_udp_recv_start(b, [](mio_udp_t *, int status, mio_datagram_t *d, void *) {
        if (is_over()) return;
        if (status < 0) k.reports++;
        else if (k.n < 256) k.kept[k.n++] = mio_buf_take(&d->buf);
    }, nullptr), 0);
    constexpr int SENT = 120;
    for (int i = 0; i < SENT; i++) {
        mio_buf_t buf = pattern_buf(loop, 1000, static_cast<uint64_t>(i));
        ck_assert_int_gt(mio_udp_send(a, &buf, 1, &b_at, nullptr, nullptr), 0);
        if (i % 20 == 19) run_for(loop, 5 * MIO_MILLISECOND);
    }
    run_for(loop, 20 * MIO_MILLISECOND);
    ck_assert_int_gt(k.n, 0);
    ck_assert_int_lt(k.n, SENT);
    ck_assert_uint_gt(metrics(loop).buffer_pauses, 0);
    int seen = 0;
    for (int round = 0; round < 50 && seen < 64; round++) {
        for (int i = 0; i < k.n; i++) {
            ck_assert(pattern_is(k.kept[i].base, 1000, static_cast<uint64_t>(seen++)));
            mio_buf_release(&k.kept[i]);
        }
        k.n = 0;
        run_for(loop, 5 * MIO_MILLISECOND);
    }
    ck_assert_int_ge(seen, 64); // as many as a world's socket holds, and in order
    for (int i = 0; i < k.n; i++) mio_buf_release(&k.kept[i]);
    assert_is(k.reports, 0);
}

// --- sending --------------------------------------------------------------------------------------------------------

TEST(a_queued_send_is_cancelled_and_the_others_go) {
    auto [loop, a, b, a_at, b_at] = two_sockets();
    told t = {};
    t.stop_after = 2;
    ck_assert_int_gt(mio_udp_recv_start(b, told_by, &t), 0);
    sendings first = {}, second = {}, third = {};
    send_text(a, "1", &b_at, &first);
    mio_buf_t buf = text_buf(loop, "2");
    const mio_req_t id = mio_udp_send(a, &buf, 1, &b_at, sent_told, &second);
    ck_assert_int_gt(id, 0);
    send_text(a, "3", &b_at, &third);
    assert_is(mio_req_cancel(loop, id), 0);
    run_to_stop(loop);
    ck_assert_str_eq(t.text, "1|3|");
    assert_is(first.status, 0);
    assert_is(second.calls, 1);
    assert_is(second.status, MIO_ECANCELED);
    assert_is(second.sent, 0);
    assert_is(second.bufs_len, 1);
    assert_is(third.status, 0);
    assert_is(mio_req_cancel(loop, id), MIO_ENOENT);
    assert_is(mio_udp_queued_bytes(a), 0);
}

TEST(an_abandoned_send_is_silent_and_its_buffer_goes_home) {
    mio_loop_t *loop = loop_open();
    mio_addr_t a_at, b_at;
    mio_udp_t *a = udp_at(loop, "127.0.0.1", &a_at);
    sendings s = {}, after = {};
    mio_buf_t buf = text_buf(loop, "never");
    const mio_req_t id = mio_udp_send(a, &buf, 1, &a_at, sent_told, &s);
    assert_is(mio_req_abandon(loop, id), 0);
    mio_udp_t *b = udp_at(loop, "127.0.0.1", &b_at);
    after.stop_after = 1;
    send_text(b, "after", &a_at, &after);
    run_to_stop(loop);
    assert_is(s.calls, 0);
}

TEST(a_deadline_in_the_past_ends_a_send) {
    mio_loop_t *loop = loop_open();
    mio_addr_t at;
    mio_udp_t *udp = udp_at(loop, "127.0.0.1", &at);
    told t = {};
    assert_is(mio_udp_recv_start(udp, told_by, &t) > 0, 1);
    sendings s = {};
    s.stop_after = 1;
    mio_buf_t buf = text_buf(loop, "late");
    const mio_req_t id = mio_udp_send(udp, &buf, 1, &at, sent_told, &s);
    assert_is(mio_req_deadline(loop, id, 1), 0);
    assert_is(mio_req_deadline(loop, id, MIO_NEVER), 0);
    assert_is(mio_req_cancel(loop, id), 0);
    run_to_stop(loop);
    assert_is(s.status, MIO_ECANCELED);
    mio_handle_abandon(udp);
}

struct everything {
    told t;
    sendings s;
    outcome closed;
};

static mio_udp_t *busy(mio_loop_t *loop, everything *e) {
    mio_addr_t at;
    mio_udp_t *udp = udp_at(loop, "127.0.0.1", &at);
    ck_assert_int_gt(mio_udp_recv_start(udp, told_by, &e->t), 0);
    for (int i = 0; i < 40; i++) send_text(udp, "queued", &at, &e->s);
    return udp;
}

TEST(close_ends_every_request_first_and_brings_every_buffer_back) {
    mio_loop_t *loop = loop_open();
    everything e = {};
    mio_udp_t *udp = busy(loop, &e);
    assert_is(mio_handle_close(udp, close_told, &e.closed), 0);
    assert_is(mio_handle_close(udp, close_told, &e.closed), MIO_EALREADY);
    run_to_end(loop);
    assert_is(e.s.calls, 40);
    assert_is(e.s.status, MIO_ECANCELED);
    assert_is(e.s.bufs_len, 6);
    assert_is(e.t.ends, 1);
    assert_is(e.t.end, MIO_ECANCELED);
    assert_is(e.closed.calls, 1);
}

TEST(close_in_the_middle_of_it_all_is_as_clean) {
    mio_loop_t *loop = loop_open();
    for (int turns = 1; turns < 6; turns++) {
        everything e = {};
        mio_udp_t *udp = busy(loop, &e);
        for (int i = 0; i < turns; i++) assert_ok(mio_loop_run_once(loop, 0));
        assert_is(mio_handle_close(udp, close_told, &e.closed), 0);
        run_to_end(loop);
        assert_is(e.s.calls, 40);
        assert_is(e.t.ends, 1);
        assert_is(e.closed.calls, 1);
    }
}

TEST(close_and_abandon_inside_a_callback_end_the_batch) {
    mio_loop_t *loop = loop_open();
    mio_addr_t a_at, b_at;
    for (int abandoned = 0; abandoned < 2; abandoned++) {
        mio_udp_t *a = udp_at(loop, "127.0.0.1", &a_at), *b = udp_at(loop, "127.0.0.1", &b_at);
        struct state {
            bool abandoned;
            int datagrams, ends;
        } s = {abandoned == 1, 0, 0};
        ck_assert_int_gt(mio_udp_recv_start(b, [](mio_udp_t *udp, int status, mio_datagram_t *d, void *arg) {
            state *mine = static_cast<state *>(arg);
            if (status < 0) {
                mine->ends++;
                return;
            }
            mine->datagrams++;
            if (mine->abandoned) mio_handle_abandon(udp);
            else assert_is(mio_handle_close(udp, nullptr, nullptr), 0);
            assert_is(d->buf.len, 1); // valid until the callback returns
            assert_is(d->buf.base[0], '1');
        }, &s), 0);
        for (const char *text : {"1", "2", "3"}) send_text(a, text, &b_at);
        run_to_end(loop);
        assert_is(s.datagrams, 1);
        assert_is(s.ends, s.abandoned ? 0 : 1);
        mio_handle_abandon(a);
    }
    run_to_end(loop);
}

TEST(abandon_in_every_state_calls_nobody) {
    mio_loop_t *loop = loop_open();
    for (int turns = 0; turns < 5; turns++) {
        everything e = {};
        mio_udp_t *udp = busy(loop, &e);
        for (int i = 0; i < turns; i++) assert_ok(mio_loop_run_once(loop, 0));
        const int sent = e.s.calls, got = e.t.calls;
        if (turns == 3) assert_is(mio_handle_close(udp, close_told, &e.closed), 0);
        mio_handle_abandon(udp);
        run_to_end(loop);
        assert_is(e.s.calls, sent);
        assert_is(e.t.calls, got);
        assert_is(e.t.ends, 0);
        assert_is(e.closed.calls, 0);
    }
}

TEST(destroy_ends_receiving_sends_and_detaches) {
    mio_loop_t *loop = loop_open();
    static everything e;
    e = {};
    mio_udp_t *udp = nullptr;
    for (int i = 0; i < 20; i++) udp = busy(loop, &e);
    ck_assert_int_gt(mio_udp_detach(udp, [](mio_udp_t *, int status, int fd, void *) {
        assert_is(status, MIO_ECANCELED);
        assert_is(fd, -1);
    }, nullptr), 0);
    assert_is(mio_loop_destroy(loop, MIO_SECOND), 0);
    loop_forget(loop);
    assert_is(e.s.calls, 20 * 40);
    assert_is(e.t.ends, 20);
}

// --- changing hands -------------------------------------------------------------------------------------------------

TEST(a_detached_socket_has_sent_its_queue_and_can_be_adopted) {
    mio_loop_t *loop = loop_open();
    mio_addr_t a_at, b_at, again_at;
    mio_udp_t *a = udp_at(loop, "127.0.0.1", &a_at), *b = udp_at(loop, "127.0.0.1", &b_at);
    told t = {}, own = {};
    ck_assert_int_gt(mio_udp_recv_start(b, told_by, &t), 0);
    ck_assert_int_gt(mio_udp_recv_start(a, told_by, &own), 0);
    sendings s = {};
    send_text(a, "first", &b_at, &s);
    static int given;
    given = -1;
    ck_assert_int_gt(mio_udp_detach(a, [](mio_udp_t *udp, int status, int fd, void *) {
        assert_is(status, 0);
        given = fd;
        mio_loop_stop(mio_handle_loop(udp));
    }, nullptr), 0);
    mio_buf_t late = text_buf(loop, "late");
    assert_is(mio_udp_send(a, &late, 1, &b_at, nullptr, nullptr), MIO_EBUSY);
    mio_buf_release(&late);
    assert_is(mio_udp_detach(a, [](mio_udp_t *, int, int, void *) {}, nullptr), MIO_EBUSY);
    run_to_stop(loop);
    ck_assert_int_ge(given, 0);
    assert_is(s.status, 0);
    assert_is(own.ends, 1);
    mio_udp_t *again = nullptr;
    assert_is(mio_udp_adopt(loop, given, nullptr, &again), 0);
    assert_is(mio_udp_local(again, &again_at), 0);
    ck_assert(same_addr(&again_at, &a_at));
    t.stop_after = 2;
    send_text(again, "second", &b_at);
    if (t.calls < 2) run_to_stop(loop);
    ck_assert_str_eq(t.text, "first|second|");
    assert_is(mio_udp_adopt(loop, -1, nullptr, &again), MIO_EBADF);
    assert_is(mio_udp_adopt(loop, given, nullptr, nullptr), MIO_EINVAL);
}

TEST(a_cancelled_detach_leaves_the_socket) {
    mio_loop_t *loop = loop_open();
    mio_addr_t at;
    mio_udp_t *udp = udp_at(loop, "127.0.0.1", &at);
    struct state {
        int calls, status, fd;
    } s = {};
    const mio_req_t id = mio_udp_detach(udp, [](mio_udp_t *, int status, int fd, void *arg) {
        *static_cast<state *>(arg) = {static_cast<state *>(arg)->calls + 1, status, fd};
    }, &s);
    ck_assert_int_gt(id, 0);
    assert_is(mio_req_cancel(loop, id), 0);
    run_to_end(loop);
    assert_is(s.calls, 1);
    assert_is(s.status, MIO_ECANCELED);
    assert_is(s.fd, -1);
    told t = {};
    t.stop_after = 1;
    ck_assert_int_gt(mio_udp_recv_start(udp, told_by, &t), 0);
    send_text(udp, "still here", &at);
    run_to_stop(loop);
    ck_assert_str_eq(t.text, "still here|");
}

TEST(what_is_no_datagram_socket_is_not_adopted) {
    KERNEL_ONLY("descriptors of the kernel");
    mio_loop_t *loop = loop_open();
    mio_udp_t *udp = nullptr;
    const int stream = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(stream, 0);
    assert_is(mio_udp_adopt(loop, stream, nullptr, &udp), MIO_EINVAL);
    close(stream);
    int ends[2];
    assert_is(pipe(ends), 0);
    assert_is(mio_udp_adopt(loop, ends[0], nullptr, &udp), MIO_ENOTSOCK);
    close(ends[0]);
    close(ends[1]);
    assert_is(mio_udp_adopt(loop, stream, nullptr, &udp), MIO_EBADF);
    ck_assert_ptr_null(udp);
}

// --- want of everything ---------------------------------------------------------------------------------------------

TEST(without_memory_no_datagram_is_taken) {
    mio_loop_t *loop = loop_open();
    mio_addr_t at;
    mio_udp_t *udp = nullptr;
    counting *count = loop_counting(loop);
    count->fail_at = 1;
    count->fail_on = true;
    const int opened = mio_udp_open(loop, AF_INET, nullptr, &udp);
    ck_assert(opened == 0 || opened == MIO_ENOMEM);
    count->fail_at = 0;
    count->fail_on = false;
    if (opened == 0) mio_handle_abandon(udp);
    udp = udp_at(loop, "127.0.0.1", &at);
    constexpr unsigned COUNT = 3000; // more than any slab has spare
    static mio_datagram_t list[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        list[i] = mio_datagram_t();
        list[i].buf = text_buf(loop, "x");
        list[i].addr = at;
    }
    count->fail_at = 1;
    count->fail_on = true;
    assert_is(mio_udp_send_many(udp, list, COUNT, nullptr, nullptr, nullptr), MIO_ENOMEM);
    assert_is(mio_udp_queued_bytes(udp), 0);
    assert_is(metrics(loop).requests, 0);
    count->fail_at = 0;
    count->fail_on = false;
    for (unsigned i = 0; i < COUNT; i++) {
        ck_assert_ptr_nonnull(list[i].buf.base);
        mio_buf_release(&list[i].buf);
    }
}

TEST(a_warm_echo_of_datagrams_allocates_nothing) {
    auto [loop, a, b, a_at, b_at] = two_sockets();
    ck_assert_int_gt(mio_udp_recv_start(b, [](mio_udp_t *udp, int status, mio_datagram_t *d, void *) {
        if (status == 0) ck_assert_int_gt(mio_udp_send(udp, &d->buf, 1, &d->addr, nullptr, nullptr), 0);
    }, nullptr), 0);
    struct state {
        int rounds;
        uint64_t warm, end;
    } s = {};
    ck_assert_int_gt(mio_udp_recv_start(a, [](mio_udp_t *udp, int status, mio_datagram_t *d, void *arg) {
        if (is_over() || status < 0) return;
        state *mine = static_cast<state *>(arg);
        mine->rounds++;
        mio_loop_t *here = mio_handle_loop(udp);
        if (mine->rounds == 50) mine->warm = metrics(here).allocations;
        if (mine->rounds == 300) {
            mine->end = metrics(here).allocations;
            mio_loop_stop(here);
        } else {
            ck_assert_int_gt(mio_udp_send(udp, &d->buf, 1, &d->addr, nullptr, nullptr), 0);
        }
    }, &s), 0);
    send_text(a, "ping", &b_at);
    run_to_stop(loop);
    assert_is(s.rounds, 300);
    ck_assert_uint_eq(s.end, s.warm);
}
