// Readiness over the real epoll while all goes well: who is tried when and in which order, what the kernel's watch list
// is told, and how little it is asked. test_readiness_life.cc has what begins, ends and fails.
#include "readiness_fixture.h"

using namespace mio;

// --- the hot path, counted exactly ----------------------------------------------------------------------------------

static void echo(loop *l, channel *c, int peer, unsigned expected_recv) {
    char byte[1] = {'x'};
    submit(l, &c->in, op_code::receive);
    lane_add(&c->writes, op_code::write, byte, 1, 1);
    const unsigned registered = calls(CALL_CTL);
    assert_int_equal(registered, 2); // the wake descriptor, this one
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(write(peer, "x", 1), 1);
        poll_for(l, 1);
        expect(l, c, 1, FINISH_MORE);
        submit(l, &c->out, op_code::send); // tried at once
        expect(l, c, 1, 0);
        assert_int_equal(read(peer, byte, 1), 1);
    }
    assert_int_equal(calls(CALL_CTL), registered);
    assert_int_equal(calls(CALL_SEND), 1000);
    assert_int_equal(calls(CALL_RECV), expected_recv);
}

static void test_echo_tcp(void **state) {
    auto *l = static_cast<loop *>(*state);
    int peer;
    channel *c = open_tcp(&peer);
    echo(l, c, peer, 1000);
    assert_int_equal(l->counters.backend_calls, calls(CALL_CTL) + calls(CALL_WAIT) + 2000);
    assert_true(calls(CALL_WAIT) <= 1100); // one for each, but for those that came late
    drop(l, c);
    close(peer);
}

static void test_echo_unix(void **state) {
    auto *l = static_cast<loop *>(*state);
    int peer;
    channel *c = open_unix(&peer, CHANNEL_UNIX);
    echo(l, c, peer, 1000);
    assert_int_equal(calls(CALL_WAIT), 1000); // no wake-up because the peer has read
    drop(l, c);
    close(peer);
}

static void test_echo_unknown(void **state) {
    auto *l = static_cast<loop *>(*state);
    int peer;
    channel *c = open_unix(&peer, 0);
    echo(l, c, peer, 1000); // a look for more is made when the next byte is there already
    drop(l, c);
    close(peer);
}

// --- waiting to send ------------------------------------------------------------------------------------------------

static void fill_and_wait(loop *l, channel *c, int peer, unsigned expected_ctl) {
    static char big[1 << 20];
    const int size = 4096;
    setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    lane_add(&c->writes, op_code::write, big, sizeof big, sizeof big);
    int64_t sent = 0;
    int waited = 0;
    while (sent < static_cast<int64_t>(sizeof big)) {
        lane_head(&c->writes)->moved = sent;
        submit(l, &c->out, op_code::send);
        while (fake_done(l) == 0) { // EAGAIN: nothing until the peer reads
            waited++;
            char scratch[65536];
            poll(l, 0);
            if (fake_done(l) > 0) break;
            const ssize_t n = recv(peer, scratch, sizeof scratch, MSG_DONTWAIT);
            assert_true(n > 0 || errno == EAGAIN);
            poll(l, 10);
        }
        const completion done = fake_take(l);
        assert_int_equal(done.flags, 0);
        assert_true(done.result > 0);
        sent += done.result;
    }
    assert_true(waited > 2);
    assert_int_equal(calls(CALL_CTL), expected_ctl);
}

static void test_full_socket_tcp(void **state) {
    auto *l = static_cast<loop *>(*state);
    int peer;
    channel *c = open_tcp(&peer);
    fill_and_wait(l, c, peer, 2);
    drop(l, c);
    close(peer);
}

static void test_full_socket_unix_is_watched_from_then_on(void **state) {
    auto *l = static_cast<loop *>(*state);
    int peer;
    channel *c = open_unix(&peer, CHANNEL_UNIX);
    fill_and_wait(l, c, peer, 3);
    assert_true((last_interest & EPOLLOUT) != 0);
    // Nobody sends any more: the peer's reads wake in vain for a while, then not at all.
    submit(l, &c->in, op_code::receive);
    char byte = 'x';
    char scratch[65536];
    while (recv(peer, scratch, sizeof scratch, MSG_DONTWAIT) > 0) {}
    const unsigned before = events_seen;
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(send(c->fd, &byte, 1, MSG_DONTWAIT) == 1 || errno == EAGAIN, 1);
        assert_int_equal(read(peer, &byte, 1), 1);
        poll(l, 0);
    }
    assert_true(events_seen - before <= 20);
    assert_int_equal(calls(CALL_CTL), 4);
    drop(l, c);
    close(peer);
}

static void test_no_watch_no_wait(void **state) {
    auto *l = static_cast<loop *>(*state);
    int peer;
    channel *c = open_unix(&peer, CHANNEL_UNIX);
    char byte = 'x';
    lane_add(&c->writes, op_code::write, &byte, 1, 1);
    plan(CALL_SEND, -EAGAIN);
    plan(CALL_CTL, 0); // the registration
    plan(CALL_CTL, -ENOMEM);
    submit(l, &c->out, op_code::send);
    assert_int_equal(fake_settled(l, &c->out), MIO_ENOMEM);
    drop(l, c);
    close(peer);
}

// --- bytes that no edge tells of ------------------------------------------------------------------------------------

// A read stops at the out-of-band mark, with bytes left behind it.
static void test_out_of_band_mark(void **state) {
    auto *l = static_cast<loop *>(*state);
    int peer;
    channel *c = open_tcp(&peer);
    submit(l, &c->in, op_code::receive);
    assert_int_equal(send(peer, "ab", 2, 0), 2);
    assert_int_equal(send(peer, "!", 1, MSG_OOB), 1);
    assert_int_equal(send(peer, "cde", 3, 0), 3);
    usleep(20000);
    poll_for(l, 2);
    expect(l, c, 2, FINISH_MORE);
    expect(l, c, 3, FINISH_MORE);
    assert_memory_equal(pool_memory, "cde", 3);
    drop(l, c);
    close(peer);
}

static void test_reset_and_data_before_it(void **state) {
    auto *l = static_cast<loop *>(*state);
    int peer;
    channel *c = open_tcp(&peer);
    submit(l, &c->in, op_code::receive);
    assert_int_equal(write(peer, "bye", 3), 3);
    shutdown(peer, SHUT_WR);
    poll_for(l, 2);
    expect(l, c, 3, FINISH_MORE);
    expect(l, c, 0, 0);
    submit(l, &c->in, op_code::receive); // the end stays there
    poll_for(l, 1);
    expect(l, c, 0, 0);
    drop(l, c);
    close(peer);
}

// --- a stream nobody reads ------------------------------------------------------------------------------------------

static void unread_stream(loop *l, channel *c, int peer) {
    submit(l, &c->in, op_code::receive);
    cancel(l, &c->in);
    const unsigned before = events_seen;
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(send(peer, "x", 1, MSG_DONTWAIT), 1);
        wait_until(has_bytes, c->fd, i + 1);
        poll(l, 0);
    }
    assert_true(events_seen - before <= 20);
    assert_int_equal(fake_done(l), 0);
    assert_int_equal(calls(CALL_CTL), 3);
    assert_true((last_interest & EPOLLIN) == 0);

    submit(l, &c->in, op_code::receive);
    assert_int_equal(calls(CALL_CTL), 4);
    int64_t total = 0;
    for (int i = 0; i < 2000 && total < 1000; i++) {
        poll(l, 10);
        while (fake_done(l) > 0) total += fake_take(l).result;
    }
    assert_int_equal(total, 1000);
    assert_int_equal(send(peer, "x", 1, 0), 1); // and it is watched again
    poll_for(l, 1);
    expect(l, c, 1, FINISH_MORE);
    drop(l, c);
    close(peer);
}

static void test_unread_tcp(void **state) {
    auto *l = static_cast<loop *>(*state);
    int peer;
    channel *c = open_tcp(&peer);
    const int on = 1;
    setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    unread_stream(l, c, peer);
}

static void test_unread_unix(void **state) {
    auto *l = static_cast<loop *>(*state);
    int peer;
    channel *c = open_unix(&peer, CHANNEL_UNIX);
    const int size = 4 << 20; // each packet counts with its header
    setsockopt(peer, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
    unread_stream(l, c, peer);
}

static void test_end_of_an_unread_stream_is_kept(void **state) {
    auto *l = static_cast<loop *>(*state);
    for (int reset = 0; reset < 2; reset++) {
        int peer;
        channel *c = open_tcp(&peer);
        submit(l, &c->in, op_code::receive);
        cancel(l, &c->in);
        for (int i = 0; i < 40; i++) { // until it is not watched any more
            assert_int_equal(write(peer, "x", 1), 1);
            wait_until(has_bytes, c->fd, i + 1);
            poll(l, 0);
        }
        if (reset != 0) {
            const struct linger now = {1, 0};
            setsockopt(peer, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        }
        close(peer);
        for (int i = 0; i < 5; i++) poll(l, 1);
        assert_int_equal(fake_done(l), 0);
        submit(l, &c->in, op_code::receive);
        int64_t total = 0;
        while (c->in.state == request_state::started) {
            poll(l, 10);
            if (fake_done(l) > 1) total += fake_take(l).result;
        }
        while (fake_done(l) > 1) total += fake_take(l).result;
        assert_true(reset != 0 ? total <= 40 : total == 40); // a reset may overtake bytes
        expect(l, c, reset != 0 ? MIO_ECONNRESET : 0, 0);
        drop(l, c);
    }
}

static void test_masking_may_fail(void **state) {
    auto *l = static_cast<loop *>(*state);
    int peer;
    channel *c = open_unix(&peer, CHANNEL_UNIX);
    submit(l, &c->in, op_code::receive);
    cancel(l, &c->in);
    for (int i = 0; i < 2; i++) plan(CALL_CTL, -ENOMEM); // two refusals: 32 events more
    for (int i = 0; i < 100; i++) {
        assert_int_equal(write(peer, "x", 1), 1);
        poll(l, 0);
    }
    assert_int_equal(events_seen, 48);
    plan(CALL_CTL, -ENOMEM);
    submit(l, &c->in, op_code::receive); // cannot be watched: told, not lost
    assert_int_equal(fake_settled(l, &c->in), MIO_ENOMEM);
    submit(l, &c->in, op_code::receive);
    poll_for(l, 1);
    expect(l, c, 100, FINISH_MORE);
    drop(l, c);
    close(peer);
}

// --- order and fairness ---------------------------------------------------------------------------------------------

constexpr unsigned MANY = 100;

static void test_a_full_ring_loses_nothing(void **state) {
    auto *l = static_cast<loop *>(*state);
    channel *all[MANY];
    int peers[MANY];
    for (unsigned i = 0; i < MANY; i++) {
        all[i] = open_unix(&peers[i], CHANNEL_UNIX);
        submit(l, &all[i]->in, op_code::receive);
    }
    for (unsigned i = 0; i < MANY; i++) assert_int_equal(write(peers[i], "x", 1), 1);
    poll(l, 0);
    assert_int_equal(fake_done(l), 64);
    poll(l, 1000); // full: comes back at once
    assert_int_equal(fake_done(l), 64);
    for (unsigned i = 0; i < 64; i++) expect(l, all[i], 1, FINISH_MORE); // in the order of arrival
    assert_int_equal(calls(CALL_WAIT), 1);
    poll(l, 1000); // the rest, without asking the kernel
    assert_int_equal(fake_done(l), MANY - 64);
    assert_int_equal(calls(CALL_WAIT), 1);
    for (unsigned i = 64; i < MANY; i++) expect(l, all[i], 1, FINISH_MORE);

    // A send that finds no room for its record waits its turn.
    char byte = 'x';
    l->done_tail = l->done_head + 64;
    lane_add(&all[0]->writes, op_code::write, &byte, 1, 1);
    submit(l, &all[0]->out, op_code::send);
    assert_int_equal(calls(CALL_SEND), 0);
    l->done_head = l->done_tail;
    poll(l, 1000);
    expect(l, all[0], 1, 0);
    for (unsigned i = 0; i < MANY; i++) {
        drop(l, all[i]);
        close(peers[i]);
    }
}

// One that floods and others that whisper: each gets one attempt per round.
static void test_nobody_starves(void **state) {
    auto *l = static_cast<loop *>(*state);
    static char flood[100000];
    channel *all[4];
    int peers[4];
    fake_pool(l, 100, false);
    for (int i = 0; i < 4; i++) {
        all[i] = open_unix(&peers[i], CHANNEL_UNIX);
        submit(l, &all[i]->in, op_code::receive);
    }
    assert_int_equal(send(peers[0], flood, sizeof flood, 0), sizeof flood);
    for (int round = 0; round < 50; round++) {
        for (int i = 1; i < 4; i++) assert_int_equal(write(peers[i], "x", 1), 1);
        poll(l, 0);
        assert_int_equal(fake_done(l), 4);
        int got[4] = {0, 0, 0, 0};
        while (fake_done(l) > 0) {
            const completion done = fake_take(l);
            for (int i = 0; i < 4; i++) got[i] += done.req == &all[i]->in;
        }
        for (int n : got) assert_int_equal(n, 1);
    }
    for (int i = 0; i < 4; i++) {
        drop(l, all[i]);
        close(peers[i]);
    }
}

// About 16 KiB per poll, then callbacks; between the parts of a round the kernel is not asked, after it is.
static void test_a_poll_takes_what_the_cache_holds(void **state) {
    auto *l = static_cast<loop *>(*state);
    static char bytes[16384];
    channel *all[10];
    int peers[10];
    fake_pool(l, sizeof bytes, false);
    for (int i = 0; i < 10; i++) {
        all[i] = open_unix(&peers[i], CHANNEL_UNIX);
        submit(l, &all[i]->in, op_code::receive);
        assert_int_equal(write(peers[i], bytes, sizeof bytes), sizeof bytes);
    }
    int next = 0;
    for (int polls = 0; polls < 10; polls++) {
        poll(l, 0);
        assert_int_equal(fake_done(l), 1);
        while (fake_done(l) > 0) expect(l, all[next++], sizeof bytes, FINISH_MORE);
    }
    assert_int_equal(calls(CALL_WAIT), 1);
    poll(l, 0); // a full read may not have been the last: all are tried again
    assert_int_equal(calls(CALL_WAIT), 2);
    assert_int_equal(calls(CALL_RECV), 20);
    assert_int_equal(fake_done(l), 0);
    for (int i = 0; i < 10; i++) {
        drop(l, all[i]);
        close(peers[i]);
    }
}

static void test_a_dry_pool_is_tried_again(void **state) {
    auto *l = static_cast<loop *>(*state);
    int peer;
    channel *c = open_tcp(&peer);
    submit(l, &c->in, op_code::receive);
    fake_pool(l, sizeof pool_memory, true);
    assert_int_equal(write(peer, "x", 1), 1);
    poll_for(l, 1);
    expect(l, c, MIO_ENOBUFS, 0);
    poll(l, 1);
    assert_int_equal(fake_done(l), 0);
    fake_pool(l, sizeof pool_memory, false);
    submit(l, &c->in, op_code::receive);
    poll_for(l, 1);
    expect(l, c, 1, FINISH_MORE);
    drop(l, c);
    close(peer);
}

int main() {
#define TEST(name) cmocka_unit_test_setup_teardown(name, loop_open, loop_end)
    const struct CMUnitTest tests[] = {
        TEST(test_echo_tcp),
        TEST(test_echo_unix),
        TEST(test_echo_unknown),
        TEST(test_full_socket_tcp),
        TEST(test_full_socket_unix_is_watched_from_then_on),
        TEST(test_no_watch_no_wait),
        TEST(test_out_of_band_mark),
        TEST(test_reset_and_data_before_it),
        TEST(test_unread_tcp),
        TEST(test_unread_unix),
        TEST(test_end_of_an_unread_stream_is_kept),
        TEST(test_masking_may_fail),
        TEST(test_a_full_ring_loses_nothing),
        TEST(test_nobody_starves),
        TEST(test_a_poll_takes_what_the_cache_holds),
        TEST(test_a_dry_pool_is_tried_again),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
