// Relays that go on to their end: bytes both ways, half-close carried over, order, back pressure, every kind of stream.
#include "relay.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace api;

// Speaks through whatever relay is between them: bytes there, the end, the answer, its end.
static void converse(between *s, size_t there_bytes, size_t back_bytes) {
    inbox there = {}, back = {};
    hear(s->right.client, &there);
    hear(s->left.client, &back);
    if (there_bytes != 0) say(s->loop, s->left.client, there_bytes, 0);
    ck_assert_int_gt(mio_stream_shutdown(s->left.client, nullptr, nullptr), 0);
    until_ended(s->loop, &there);
    ck_assert_uint_eq(there.received, there_bytes);
    assert_is(s->told.calls, 0); // the other direction goes on
    if (back_bytes != 0) say(s->loop, s->right.client, back_bytes, 0);
    until_received(s->loop, &back, back_bytes);
    run_for(s->loop, MIO_MILLISECOND);
    assert_is(back.ends, 0);
    ck_assert_int_gt(mio_stream_shutdown(s->right.client, nullptr, nullptr), 0);
    until_told(s);
    assert_is(s->told.status, 0);
    assert_is(s->told.failed, MIO_RELAY_NEITHER);
    assert_is(s->told.a_to_b, static_cast<int64_t>(there_bytes));
    assert_is(s->told.b_to_a, static_cast<int64_t>(back_bytes));
    ck_assert_ptr_eq(s->told.a, s->a);
    ck_assert_ptr_eq(s->told.b, s->b);
    until_ended(s->loop, &back);
    ck_assert(!there.wrong && !back.wrong);
}

TEST(a_relay_carries_both_ways_and_each_end_by_itself) {
    for (int kind = 0; kind < 3; kind++) { // TCP, unix, and one of each
        between s;
        between_open(&s, kind == 1, false);
        if (kind == 2) {
            s.right = unix_pair(s.loop);
            s.b = s.right.server;
        }
        relay_start(&s);
        converse(&s, 1 << 20, 300000);
        char room[16];
        mio_buf_t space = mio_buf_space(room, sizeof room);
        outcome told = {};
        ck_assert_int_gt(mio_stream_read(s.a, &space, read_told, &told), 0); // open, and at its end
        ck_assert(comes(s.loop, [&] { return told.calls != 0; }));
        assert_is(told.status, MIO_EOF);
        loop_close(s.loop);
    }
}

TEST(a_relay_of_ends_alone_carries_no_byte) {
    between s;
    between_open(&s);
    converse(&s, 0, 0);
}

TEST(both_sides_may_end_at_once) {
    between s;
    between_open(&s);
    inbox there = {}, back = {};
    hear(s.right.client, &there);
    hear(s.left.client, &back);
    say(s.loop, s.left.client, 100000, 0);
    say(s.loop, s.right.client, 100000, 0);
    ck_assert_int_gt(mio_stream_shutdown(s.left.client, nullptr, nullptr), 0);
    ck_assert_int_gt(mio_stream_shutdown(s.right.client, nullptr, nullptr), 0);
    until_told(&s);
    assert_is(s.told.status, 0);
    until_received(s.loop, &there, 100000);
    until_received(s.loop, &back, 100000);
}

TEST(what_was_received_before_comes_first_and_behind_what_is_queued) {
    between s;
    between_open(&s, false, false);
    inbox first = {}, there = {};
    there.is_text = true;
    hear(s.a, &first); // two bytes are read and pushed back, two more are received and not read
    first.is_text = true;
    mio_buf_t text = text_buf(s.loop, "cd");
    ck_assert_int_gt(mio_stream_write(s.left.client, &text, 1, nullptr, nullptr), 0);
    ck_assert(comes(s.loop, [&] { return first.received == 2; }));
    assert_is(mio_stream_read_stop(s.a), 0);
    run_for(s.loop, MIO_MILLISECOND);
    text = text_buf(s.loop, "ef");
    ck_assert_int_gt(mio_stream_write(s.left.client, &text, 1, nullptr, nullptr), 0);
    run_for(s.loop, 2 * MIO_MILLISECOND);
    text = text_buf(s.loop, "cd");
    assert_is(mio_stream_unread(s.a, &text), 0);
    text = text_buf(s.loop, "ab");
    ck_assert_int_gt(mio_stream_write(s.b, &text, 1, nullptr, nullptr), 0);
    relay_start(&s);
    hear(s.right.client, &there);
    until_received(s.loop, &there, 6);
    ck_assert_str_eq(there.text, "abcdef");
    // While it runs: pushed back bytes come next, the program's writes keep their place.
    text = text_buf(s.loop, "gh");
    assert_is(mio_stream_unread(s.a, &text), 0);
    until_received(s.loop, &there, 8);
    text = text_buf(s.loop, "ij");
    ck_assert_int_gt(mio_stream_write(s.b, &text, 1, nullptr, nullptr), 0);
    until_received(s.loop, &there, 10);
    ck_assert_str_eq(there.text, "abcdefghij");
    assert_is(mio_req_cancel(s.loop, s.id), 0);
    until_told(&s);
    assert_is(s.told.a_to_b, 6); // its own
}

TEST(a_relay_of_half_closed_streams_ends_with_the_other_half) {
    between s;
    between_open(&s, false, false);
    inbox there = {};
    hear(s.right.client, &there);
    ck_assert_int_gt(mio_stream_shutdown(s.left.client, nullptr, nullptr), 0);
    ck_assert_int_gt(mio_stream_shutdown(s.b, nullptr, nullptr), 0); // carried over by the program
    run_for(s.loop, 2 * MIO_MILLISECOND);
    relay_start(&s);
    run_for(s.loop, 2 * MIO_MILLISECOND);
    assert_is(s.told.calls, 0);
    ck_assert_int_gt(mio_stream_shutdown(s.right.client, nullptr, nullptr), 0);
    until_told(&s);
    assert_is(s.told.status, 0);
    until_ended(s.loop, &there);
}

TEST(a_relay_waits_for_a_stream_that_connects) {
    mio_loop_t *loop = loop_open();
    between s = {};
    s.loop = loop;
    s.left = connect_pair(loop);
    s.a = s.left.server;
    echo server;
    echo_open(loop, &server);
    outcome connected = {};
    ck_assert_int_gt(mio_tcp_connect(loop, &server.at, nullptr, stream_told, &connected, &s.b), 0);
    say(loop, s.left.client, 100000, 0);
    ck_assert_int_gt(mio_stream_shutdown(s.left.client, nullptr, nullptr), 0);
    relay_start(&s);
    inbox back = {};
    hear(s.left.client, &back);
    until_received(loop, &back, 100000);
    until_told(&s);
    assert_is(connected.status, 0);
    assert_is(s.told.status, 0);
    assert_is(s.told.a_to_b, 100000);
    assert_is(s.told.b_to_a, 100000);
}

TEST(relays_may_be_chained) {
    constexpr int LINKS = 5;
    mio_loop_t *loop = loop_open();
    pair pairs[LINKS + 1];
    static relay_told told[LINKS];
    memset(static_cast<void *>(told), 0, sizeof told);
    for (pair &one : pairs) one = connect_pair(loop);
    for (int i = 0; i < LINKS; i++)
        ck_assert_int_gt(mio_stream_relay(pairs[i].server, pairs[i + 1].client, nullptr, relay_note, &told[i]), 0);
    inbox there = {}, back = {};
    hear(pairs[LINKS].server, &there);
    hear(pairs[0].client, &back);
    say(loop, pairs[0].client, 500000, 0);
    say(loop, pairs[LINKS].server, 500000, 0);
    ck_assert_int_gt(mio_stream_shutdown(pairs[0].client, nullptr, nullptr), 0);
    ck_assert_int_gt(mio_stream_shutdown(pairs[LINKS].server, nullptr, nullptr), 0);
    until_received(loop, &there, 500000);
    until_received(loop, &back, 500000);
    until_ended(loop, &there);
    until_ended(loop, &back);
    for (const relay_told &one : told) {
        ck_assert(comes(loop, [&] { return one.calls != 0; }));
        assert_is(one.calls, 1);
        assert_is(one.status, 0);
        assert_is(one.a_to_b, 500000);
        assert_is(one.b_to_a, 500000);
    }
}

// --- back pressure --------------------------------------------------------------------------------------------------

TEST(a_reader_that_stops_stops_the_other_side_and_nobody_else) {
    constexpr int STUCK = 20;
    between s;
    between_open(&s, true, false);
    static relay_told told[STUCK];
    memset(static_cast<void *>(told), 0, sizeof told);
    static mio_stream_t *targets[STUCK];
    for (int i = 0; i < STUCK; i++) {
        pair left = unix_pair(s.loop), right = unix_pair(s.loop);
        targets[i] = right.server;
        ck_assert_int_gt(mio_stream_relay(left.server, right.server, nullptr, relay_note, &told[i]), 0);
        say(s.loop, left.client, LOCAL_ROOM, 0);
    }
    run_for(s.loop, 20 * MIO_MILLISECOND);
    size_t held = 0;
    for (mio_stream_t *target : targets) {
        ck_assert_uint_gt(mio_stream_queued_bytes(target), 0);
        ck_assert_uint_le(mio_stream_queued_bytes(target), 64 * 1024 + 64 * 1024); // the window, and one piece
        held += mio_stream_queued_bytes(target);
    }
    const mio_loop_metrics_t now = metrics(s.loop);
    ck_assert_uint_le(now.buffer_held_bytes, STUCK * (size_t{512} << 10)); // not LOCAL_ROOM for each
    assert_is(now.buffer_pauses, 0);
    relay_start(&s);
    converse(&s, 1 << 20, 1 << 20); // everybody else is served
    for (const relay_told &one : told) assert_is(one.calls, 0);
    const uint64_t turns = metrics(s.loop).turns; // and nobody spins
    run_for(s.loop, 20 * MIO_MILLISECOND);
    ck_assert_uint_le(metrics(s.loop).turns - turns, 20);
    ck_assert_uint_gt(held, 0);
}

TEST(a_window_bounds_what_is_on_its_way) {
    between s;
    between_open(&s, true, false);
    mio_relay_options_t options = relay_options();
    options.window = 1000;
    relay_start(&s, &options);
    say(s.loop, s.left.client, LOCAL_ROOM, 0);
    run_for(s.loop, 10 * MIO_MILLISECOND);
    ck_assert_uint_le(mio_stream_queued_bytes(s.b), 1000 + 64 * 1024);
    inbox there = {};
    hear(s.right.client, &there);
    until_received(s.loop, &there, LOCAL_ROOM); // and goes on
}

TEST(a_full_queue_of_the_programs_does_not_stop_a_relay) {
    between s;
    between_open(&s, true);
    assert_is(mio_stream_set_queue_max(s.b, 1 << 20), 0);
    say(s.loop, s.b, 1 << 20, 0);
    say(s.loop, s.left.client, 100000, 1 << 20);
    run_for(s.loop, 5 * MIO_MILLISECOND);
    assert_is(s.told.calls, 0);
    inbox there = {};
    hear(s.right.client, &there);
    until_received(s.loop, &there, (1 << 20) + 100000);
}

// false: the limit was shorter than what was done in it took.
static bool waits_for_buffers(int64_t limit_ns) {
    mio_loop_options_t options = loop_options();
    options.buffer_block = 4096;
    options.buffer_max_bytes = 8192;
    between s = {};
    s.loop = loop_open_with(&options);
    pair greedy = unix_pair(s.loop);
    static mio_buf_t held[64];
    static unsigned count;
    count = 0;
    auto take = [](mio_stream_t *, int64_t n, mio_buf_t *buf, void *) {
        if (n > 0 && !is_over() && count < 64) held[count++] = mio_buf_take(buf);
    };
    s.left = unix_pair(s.loop);
    s.right = unix_pair(s.loop);
    s.a = s.left.server;
    s.b = s.right.server;
    mio_relay_options_t timed = relay_options();
    timed.idle_ns = limit_ns;
    ck_assert_int_gt(mio_stream_read_start(greedy.server, 0, take, nullptr), 0);
    say(s.loop, greedy.client, 100000, 0);
    ck_assert(comes(s.loop, [&] { return metrics(s.loop).buffer_pauses != 0; }));
    say(s.loop, s.left.client, 1000, 0);
    relay_start(&s, &timed);
    run_for(s.loop, 2 * limit_ns);
    const bool waited = s.told.calls == 0; // time without buffers does not count
    assert_is(mio_handle_close(greedy.server, nullptr, nullptr), 0);
    while (count > 0) mio_buf_release(&held[--count]);
    static inbox there;
    there = {};
    hear(s.right.client, &there);
    (void)comes(s.loop, [&] { return there.received >= 1000 || s.told.calls != 0; });
    const bool all = waited && there.received == 1000;
    until_told(&s);
    assert_is(s.told.status, MIO_ETIMEDOUT);
    loop_close(s.loop);
    return all;
}

TEST(a_relay_without_receive_buffers_waits_for_them) {
    ck_assert(in_time(20 * MIO_MILLISECOND, 5 * MIO_SECOND, waits_for_buffers));
}

// --- memory ---------------------------------------------------------------------------------------------------------

TEST(a_warm_relay_allocates_nothing) {
    mio_loop_t *loop = loop_open();
    uint64_t warm = 0;
    between s = {};
    s.loop = loop;
    s.left = connect_pair(loop);
    s.right = connect_pair(loop);
    s.a = s.left.server;
    s.b = s.right.server;
    inbox there = {}, back = {};
    hear(s.right.client, &there);
    hear(s.left.client, &back);
    for (uint64_t round = 0; round < 40; round++) {
        if (round == 20) warm = metrics(loop).allocations;
        relay_start(&s);
        for (uint64_t i = 0; i < 5; i++) {
            say(loop, s.left.client, 1000, (round * 5 + i) * 1000);
            say(loop, s.right.client, 1000, (round * 5 + i) * 1000);
            until_received(loop, &there, (round * 5 + i + 1) * 1000);
            until_received(loop, &back, (round * 5 + i + 1) * 1000);
        }
        assert_is(mio_req_cancel(loop, s.id), 0);
        until_told(&s);
    }
    assert_is(metrics(loop).allocations, warm);
}

// --- what is no socket ----------------------------------------------------------------------------------------------

TEST(a_terminal_is_relayed_though_it_has_no_half_to_shut) {
    KERNEL_ONLY("a simulated world has no terminals");
    between s = {};
    s.loop = loop_open();
    s.right = unix_pair(s.loop);
    s.b = s.right.server;
    const int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC); // posix_openpt(3)
    ck_assert_int_ge(master, 0);
    assert_is(grantpt(master), 0);
    assert_is(unlockpt(master), 0);
    const int slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    ck_assert_int_ge(slave, 0);
    assert_is(mio_pipe_adopt(s.loop, slave, &s.a), 0);
    assert_is(mio_tty_set_mode(s.a, MIO_TTY_RAW), 0);
    relay_start(&s);
    inbox there = {};
    there.is_text = true;
    hear(s.right.client, &there);
    assert_is(write(master, "typed", 5), 5);
    until_received(s.loop, &there, 5);
    ck_assert_str_eq(there.text, "typed");
    mio_buf_t text = text_buf(s.loop, "shown");
    ck_assert_int_gt(mio_stream_write(s.right.client, &text, 1, nullptr, nullptr), 0);
    ck_assert_int_gt(mio_stream_shutdown(s.right.client, nullptr, nullptr), 0);
    run_for(s.loop, 5 * MIO_MILLISECOND);
    char shown[8] = "";
    assert_is(read(master, shown, sizeof shown), 5);
    ck_assert_str_eq(shown, "shown");
    assert_is(s.told.calls, 0); // it may still be typed
    assert_is(write(master, "more", 4), 4);
    until_received(s.loop, &there, 9);
    assert_is(mio_req_cancel(s.loop, s.id), 0);
    until_told(&s);
    assert_is(s.told.a_to_b, 9);
    assert_is(s.told.b_to_a, 5);
    close(master);
}

TEST(a_fifo_for_both_is_relayed) {
    KERNEL_ONLY("a simulated world has no FIFOs");
    between s = {};
    s.loop = loop_open();
    s.right = unix_pair(s.loop);
    s.b = s.right.server;
    char folder[] = "/tmp/libmio-test-XXXXXX", path[64];
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/fifo", folder);
    assert_is(mkfifo(path, 0600), 0);
    const int opened = mio_pipe_open_path(s.loop, path, MIO_PIPE_READ | MIO_PIPE_WRITE, &s.a);
    mio_stream_t *writer = nullptr;
    if (opened == 0) assert_is(mio_pipe_open_path(s.loop, path, MIO_PIPE_WRITE, &writer), 0);
    unlink(path);
    rmdir(folder);
    if (opened == MIO_ENOTSUP) SKIP("this system has no FIFOs for both");
    assert_is(opened, 0);
    relay_start(&s);
    inbox there = {};
    hear(s.right.client, &there);
    say(s.loop, writer, 200000, 0);
    until_received(s.loop, &there, 200000);
    assert_is(mio_req_cancel(s.loop, s.id), 0);
    until_told(&s);
    assert_is(s.told.a_to_b, 200000);
}

TEST(a_relay_keeps_its_loop_alive_and_is_dumped) {
    between s;
    between_open(&s);
    static bool seen;
    seen = false;
    auto line = [](const char *text, void *) {
        if (strstr(text, ": relay on stream") != nullptr) seen = true;
    };
    assert_is(mio_loop_dump(s.loop, line, nullptr), 0);
    ck_assert(seen);
    mio_handle_abandon(s.left.client);
    mio_handle_abandon(s.right.client);
    run_to_end(s.loop); // both have ended, and so has the relay
    assert_is(s.told.calls, 1);
    assert_is(s.told.status, 0);
}
