// Relays that end early: cancelled, timed out, reset, without memory, with their loop (closed, abandoned, finished:
// test_relay_close.cc). One callback or none, and no byte is lost that the other side's kernel did not accept.
#include "relay.h"

#include <sys/socket.h>
#include <unistd.h>

using namespace api;

// --- mistakes -------------------------------------------------------------------------------------------------------

TEST(relays_answer_each_mistake) {
    between s;
    between_open(&s, false, false);
    mio_loop_t *elsewhere = loop_open();
    pair far = connect_pair(elsewhere);
    mio_relay_options_t options = relay_options();
    assert_is(mio_stream_relay(nullptr, s.b, nullptr, relay_note, &s.told), MIO_EINVAL);
    assert_is(mio_stream_relay(s.a, nullptr, nullptr, relay_note, &s.told), MIO_EINVAL);
    assert_is(mio_stream_relay(s.a, s.b, nullptr, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_stream_relay(s.a, s.a, nullptr, relay_note, &s.told), MIO_EINVAL);
    assert_is(mio_stream_relay(s.a, far.server, nullptr, relay_note, &s.told), MIO_EINVAL);
    options.idle_ns = -1;
    assert_is(mio_stream_relay(s.a, s.b, &options, relay_note, &s.told), MIO_EINVAL);
    options.idle_ns = 0;
    options.half_ns = -1;
    assert_is(mio_stream_relay(s.a, s.b, &options, relay_note, &s.told), MIO_EINVAL);
    options.half_ns = 0;
    options.size = 4;
    assert_is(mio_stream_relay(s.a, s.b, &options, relay_note, &s.told), MIO_EINVAL);
    struct {
        mio_relay_options_t known;
        uint64_t more;
    } longer = {relay_options(), 1};
    longer.known.size = sizeof longer;
    assert_is(mio_stream_relay(s.a, s.b, &longer.known, relay_note, &s.told), MIO_E2BIG);

    mio_stream_t *reader, *writer, *records, *others;
    assert_is(mio_pipe_open(s.loop, &reader, &writer), 0);
    assert_is(mio_stream_relay(s.a, reader, nullptr, relay_note, &s.told), MIO_ENOTSUP);
    assert_is(mio_stream_relay(writer, s.a, nullptr, relay_note, &s.told), MIO_ENOTSUP);
    assert_is(mio_unix_pair(s.loop, nullptr, MIO_UNIX_SEQPACKET, &records, &others), 0);
    assert_is(mio_stream_relay(s.a, records, nullptr, relay_note, &s.told), MIO_ENOTSUP);

    inbox in = {};
    hear(s.b, &in);
    assert_is(mio_stream_relay(s.a, s.b, nullptr, relay_note, &s.told), MIO_EBUSY);
    assert_is(mio_stream_relay(s.b, s.a, nullptr, relay_note, &s.told), MIO_EBUSY);
    assert_is(mio_stream_read_stop(s.b), 0);
    assert_is(mio_stream_relay(s.a, s.b, nullptr, relay_note, &s.told), MIO_EBUSY); // its last call is due
    run_for(s.loop, MIO_MILLISECOND);
    static char room[8];
    outcome one = {};
    mio_buf_t space = mio_buf_space(room, sizeof room);
    const mio_req_t read = mio_stream_read(s.b, &space, read_told, &one);
    ck_assert_int_gt(read, 0);
    assert_is(mio_stream_relay(s.a, s.b, nullptr, relay_note, &s.told), MIO_EBUSY);
    assert_is(mio_req_abandon(s.loop, read), 0);
    run_for(s.loop, MIO_MILLISECOND);
    assert_is(mio_handle_close(s.b, nullptr, nullptr), 0);
    assert_is(mio_stream_relay(s.a, s.b, nullptr, relay_note, &s.told), MIO_EBADF);
    assert_is(mio_stream_relay(s.b, s.a, nullptr, relay_note, &s.told), MIO_EBADF);
    run_for(s.loop, MIO_MILLISECOND);
    assert_is(s.told.calls, 0);
}

static void never_read(mio_stream_t *, int64_t, mio_buf_t *, void *) { ck_abort_msg("read although relayed"); }
static void never_detached(mio_stream_t *, int, int, mio_buf_t *, unsigned, void *) { ck_abort_msg("detached"); }
static void never_moved(mio_loop_t *, int, mio_stream_t *, void *) { ck_abort_msg("moved"); }

TEST(a_relayed_stream_is_read_by_nobody_else) {
    between s;
    between_open(&s);
    mio_stream_t *both[] = {s.a, s.b};
    for (int half = 0; half < 2; half++) { // and so when one side has ended
        for (mio_stream_t *stream : both) {
            char room[8];
            mio_buf_t space = mio_buf_space(room, sizeof room);
            assert_is(mio_stream_read_start(stream, 0, never_read, nullptr), MIO_EBUSY);
            assert_is(mio_stream_read(stream, &space, never_read, nullptr), MIO_EBUSY);
            assert_is(mio_stream_detach(stream, never_detached, nullptr), MIO_EBUSY);
            assert_is(mio_stream_move(stream, mio_loop_remote(s.loop), never_moved, nullptr), MIO_EBUSY);
            assert_is(mio_stream_read_pause(stream), MIO_EINVAL);
            assert_is(mio_stream_read_resume(stream), MIO_EINVAL);
            assert_is(mio_stream_read_stop(stream), MIO_EINVAL);
            mio_stream_t *third = connect_pair(s.loop).server;
            assert_is(mio_stream_relay(stream, third, nullptr, relay_note, &s.told), MIO_EBUSY);
            assert_is(mio_stream_relay(third, stream, nullptr, relay_note, &s.told), MIO_EBUSY);
        }
        if (half == 0) ck_assert_int_gt(mio_stream_shutdown(s.left.client, nullptr, nullptr), 0);
        run_for(s.loop, 10 * MIO_MILLISECOND);
    }
    assert_is(s.told.calls, 0);
}

// --- what was not accepted goes back --------------------------------------------------------------------------------

TEST(a_cancelled_relay_gives_back_what_was_not_accepted) {
    between s;
    const uint64_t total = stuck_open(&s);
    assert_is(mio_req_cancel(s.loop, s.id), 0);
    assert_is(s.told.calls, 0); // not inside the call
    until_told(&s);
    assert_is(s.told.status, MIO_ECANCELED);
    assert_is(s.told.failed, MIO_RELAY_NEITHER);
    assert_is(mio_req_cancel(s.loop, s.id), MIO_ENOENT);
    nothing_is_lost(&s, total);
    assert_is(s.told.calls, 1);
}

TEST(a_relay_that_is_begun_again_goes_on_where_it_was) {
    between s;
    const uint64_t total = stuck_open(&s);
    uint64_t accepted = 0;
    for (int round = 0; round < 3; round++) {
        assert_is(mio_req_cancel(s.loop, s.id), 0);
        until_told(&s);
        accepted += static_cast<uint64_t>(s.told.a_to_b);
        relay_start(&s);
        run_for(s.loop, MIO_MILLISECOND);
    }
    inbox there = {};
    hear(s.right.client, &there);
    until_received(s.loop, &there, total);
    until_ended(s.loop, &there);
    ck_assert_int_gt(mio_stream_shutdown(s.right.client, nullptr, nullptr), 0);
    until_told(&s);
    assert_is(s.told.status, 0);
    ck_assert_uint_eq(accepted + static_cast<uint64_t>(s.told.a_to_b), total);
}

TEST(a_write_of_the_program_behind_a_cancelled_relay_is_sent) {
    between s;
    stuck_open(&s);
    outcome written = {};
    mio_buf_t text = text_buf(s.loop, "behind");
    ck_assert_int_gt(mio_stream_write(s.b, &text, 1, write_told, &written), 0);
    assert_is(mio_req_cancel(s.loop, s.id), 0);
    until_told(&s);
    inbox there = {};
    there.is_text = true;
    hear(s.right.client, &there);
    const uint64_t expected = static_cast<uint64_t>(s.told.a_to_b) + 6;
    until_received(s.loop, &there, expected);
    ck_assert(comes(s.loop, [&] { return written.calls != 0; }));
    assert_is(written.calls, 1);
    assert_is(written.status, 0);
    assert_is(written.sent, 6);
}

TEST(an_abandoned_relay_gives_its_streams_and_bytes_back) {
    between s;
    const uint64_t total = stuck_open(&s);
    assert_is(mio_req_abandon(s.loop, s.id), 0);
    assert_is(mio_req_abandon(s.loop, s.id), MIO_ENOENT);
    for (int i = 0; i < 2; i++) (void)mio_loop_run_once(s.loop, 0);
    static inbox there, here;
    there = here = {};
    hear(s.right.client, &there);
    here.is_text = true; // how many bytes b's kernel has accepted nobody was told
    ck_assert(comes(s.loop, [&] {
        const mio_req_t id = mio_stream_read_start(s.a, 0, read_into, &here);
        if (id < 0) assert_is(id, MIO_EBUSY);
        return id > 0;
    }));
    (void)comes(s.loop, [&] { return here.received + there.received >= total || here.ends + there.ends != 0; });
    ck_assert_uint_eq(here.received + there.received, total);
    ck_assert(!there.wrong);
    assert_is(s.told.calls, 0);
    assert_is(relay_failed, 77); // nor was anything written
}

// --- time -----------------------------------------------------------------------------------------------------------

TEST(a_relay_has_a_deadline_as_any_request) {
    between s;
    for (int round = 0; round < 3; round++) {
        if (round == 0) between_open(&s);
        else relay_start(&s);
        if (round == 0) assert_is(mio_req_deadline(s.loop, s.id, mio_loop_now_ns(s.loop) + 5 * MIO_MILLISECOND), 0);
        if (round == 1) assert_is(mio_req_timeout(s.loop, s.id, 5 * MIO_MILLISECOND), 0);
        if (round == 2) assert_is(mio_req_deadline(s.loop, s.id, 1), 0); // the past: the next turn
        until_told(&s);
        assert_is(s.told.status, MIO_ETIMEDOUT);
        assert_is(s.told.failed, MIO_RELAY_NEITHER);
        assert_is(mio_req_timeout(s.loop, s.id, 1), MIO_ENOENT);
    }
}

// These say false where the limit was shorter than the machine stood still.
static bool moves_bytes(int64_t limit_ns) {
    between s;
    between_open(&s, false, false);
    mio_relay_options_t options = relay_options();
    options.idle_ns = limit_ns;
    static inbox there;
    there = {};
    hear(s.left.client, &there);
    relay_start(&s, &options);
    const int64_t begun_ns = mio_loop_now_ns(s.loop);
    int64_t moved_ns = begun_ns; // not later than the last bytes moved
    for (uint64_t i = 0; i < 10 && s.told.calls == 0; i++) { // longer than the limit, all together
        const int64_t said_ns = mio_loop_now_ns(s.loop);
        say(s.loop, s.right.client, 10, i * 10);
        (void)comes(s.loop, [&] { return there.received == (i + 1) * 10 || s.told.calls != 0; });
        if (there.received == (i + 1) * 10) moved_ns = said_ns;
        run_for(s.loop, limit_ns / 6);
    }
    const bool moved = s.told.calls == 0;
    const int64_t last_ns = mio_loop_now_ns(s.loop) - limit_ns / 6;
    until_told(&s);
    assert_is(s.told.status, MIO_ETIMEDOUT);
    assert_is(s.told.failed, MIO_RELAY_NEITHER);
    if (moved) assert_is(s.told.b_to_a, 100);
    else ck_assert_int_ge(mio_loop_now_ns(s.loop) - moved_ns, limit_ns); // nothing moved for so long
    ck_assert_int_ge(mio_loop_now_ns(s.loop) - begun_ns, limit_ns);
    ck_assert_int_ge(mio_loop_now_ns(s.loop), last_ns);
    loop_close(s.loop);
    return moved;
}

TEST(an_idle_relay_times_out_and_one_that_moves_bytes_does_not) {
    if (!in_time(60 * MIO_MILLISECOND, 2 * MIO_SECOND, moves_bytes)) SKIP("the machine stood still all the time");
}

static bool stops_moving(int64_t limit_ns) {
    between s;
    between_open(&s, true, false);
    mio_relay_options_t options = relay_options();
    options.idle_ns = limit_ns;
    say(s.loop, s.left.client, LOCAL_ROOM, 0);
    relay_start(&s, &options);
    until_told(&s);
    assert_is(s.told.status, MIO_ETIMEDOUT);
    const bool moved = s.told.a_to_b > 0;
    loop_close(s.loop);
    return moved;
}

TEST(a_relay_whose_reader_has_stopped_is_idle) {
    ck_assert(in_time(30 * MIO_MILLISECOND, 4 * MIO_SECOND, stops_moving));
}

TEST(half_a_relay_has_a_limit_of_its_own) {
    int64_t idle_ns = 20 * MIO_MILLISECOND;
    for (int limited = 0; limited < 3; limited++) {
        between s;
        between_open(&s, false, false);
        mio_relay_options_t options = relay_options();
        options.idle_ns = limited == 1 ? idle_ns : 0;
        options.half_ns = limited == 0 ? 20 * MIO_MILLISECOND : MIO_FOREVER;
        relay_start(&s, &options);
        if (limited != 1) run_for(s.loop, 60 * MIO_MILLISECOND);
        assert_is(s.told.calls, 0);
        ck_assert_int_gt(mio_stream_shutdown(s.left.client, nullptr, nullptr), 0);
        if (limited == 0) { // half_ns alone
            until_told(&s);
            assert_is(s.told.status, MIO_ETIMEDOUT);
        } else {
            inbox there = {};
            hear(s.right.client, &there);
            (void)comes(s.loop, [&] { return there.ends != 0 || s.told.calls != 0; });
            if (s.told.calls != 0 && idle_ns < 5 * MIO_SECOND) { // the machine stood still: once more
                idle_ns *= 10;
                limited--;
                loop_close(s.loop);
                continue;
            }
            run_for(s.loop, limited == 1 ? 2 * idle_ns : 60 * MIO_MILLISECOND); // idle_ns counts no more
            assert_is(s.told.calls, 0);
        }
        loop_close(s.loop);
    }
}

TEST(a_time_out_of_a_stream_ends_its_relay_and_says_whose_it_was) {
    for (int which = 0; which < 4; which++) {
        const bool of_b = which % 2 != 0, writes = which >= 2;
        between s;
        between_open(&s, writes, false);
        if (writes) say(s.loop, of_b ? s.left.client : s.right.client, LOCAL_ROOM, 0); // the other client does not read
        relay_start(&s);
        mio_stream_t *slow = of_b ? s.b : s.a;
        assert_is(mio_stream_set_timeout(slow, writes ? MIO_TIMEOUT_WRITE : MIO_TIMEOUT_READ, 5 * MIO_MILLISECOND), 0);
        until_told(&s);
        assert_is(s.told.status, MIO_ETIMEDOUT);
        assert_is(s.told.failed, of_b ? MIO_RELAY_B : MIO_RELAY_A);
        loop_close(s.loop);
    }
}

// --- errors of the network ------------------------------------------------------------------------------------------

TEST(a_reset_of_one_side_ends_both_directions) {
    for (int which = 0; which < 2; which++) {
        between s;
        between_open(&s);
        mio_stream_t *client = which == 0 ? s.left.client : s.right.client;
        run_for(s.loop, MIO_MILLISECOND);
        assert_is(mio_tcp_linger(client, 0), 0);
        assert_is(mio_handle_close(client, nullptr, nullptr), 0);
        until_told(&s);
        assert_is(s.told.status, MIO_ECONNRESET);
        assert_is(s.told.failed, which == 0 ? MIO_RELAY_A : MIO_RELAY_B);
        inbox in = {}; // the other one is as it was
        mio_stream_t *other = which == 0 ? s.right.client : s.left.client;
        hear(other, &in);
        say(s.loop, which == 0 ? s.b : s.a, 1000, 0);
        until_received(s.loop, &in, 1000);
        loop_close(s.loop);
    }
}

TEST(a_target_that_goes_away_leaves_the_rest_with_its_source) {
    between s;
    stuck_open(&s);
    assert_is(mio_handle_close(s.right.client, nullptr, nullptr), 0);
    until_told(&s);
    ck_assert(s.told.status == MIO_ECONNRESET || s.told.status == MIO_EPIPE);
    assert_is(s.told.failed, MIO_RELAY_B);
    inbox here = {};
    here.received = static_cast<uint64_t>(s.told.a_to_b);
    hear(s.a, &here);
    until_received(s.loop, &here, LOCAL_ROOM);
    mio_buf_t more = pattern_buf(s.loop, 10, 0);
    outcome late = {};
    const mio_req_t id = mio_stream_write(s.b, &more, 1, write_told, &late);
    if (id > 0) { // it was its read that told of the reset
        ck_assert(comes(s.loop, [&] { return late.calls != 0; }));
        ck_assert(late.status == MIO_ECONNRESET || late.status == MIO_EPIPE);
    } else {
        assert_is(id, MIO_EPIPE);
        mio_buf_release(&more);
    }
    until_ended(s.loop, &here);
    assert_is(mio_stream_relay(s.a, s.b, nullptr, relay_note, &s.told), MIO_EPIPE);
    assert_is(mio_stream_relay(s.b, s.a, nullptr, relay_note, &s.told), MIO_EPIPE);
}

TEST(a_shutdown_of_the_programs_ends_a_relay_that_has_more_to_carry) {
    between s;
    between_open(&s);
    ck_assert_int_gt(mio_stream_shutdown(s.b, nullptr, nullptr), 0);
    run_for(s.loop, MIO_MILLISECOND);
    assert_is(s.told.calls, 0);
    say(s.loop, s.left.client, 100, 0);
    until_told(&s);
    assert_is(s.told.status, MIO_EPIPE);
    assert_is(s.told.failed, MIO_RELAY_B);
    inbox here = {};
    hear(s.a, &here);
    until_received(s.loop, &here, 100);
}

TEST(a_connect_that_fails_ends_its_relay) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    const refusing nobody(loop);
    outcome connected = {};
    between s = {};
    s.loop = loop;
    s.a = streams.server;
    ck_assert_int_gt(mio_tcp_connect(loop, &nobody.at, nullptr, stream_told, &connected, &s.b), 0);
    say(loop, streams.client, 1000, 0);
    relay_start(&s);
    until_told(&s);
    assert_is(connected.status, MIO_ECONNREFUSED);
    assert_is(s.told.status, MIO_ECONNREFUSED);
    assert_is(s.told.failed, MIO_RELAY_B);
    assert_is(s.told.a_to_b, 0);
    inbox here = {};
    hear(s.a, &here);
    until_received(loop, &here, 1000);
}

// --- memory, the loop's end -----------------------------------------------------------------------------------------

TEST(a_relay_that_finds_no_memory_takes_nothing) {
    between s;
    between_open(&s, false, false);
    counting *count = loop_counting(s.loop);
    count->fail_at = 1;
    count->fail_on = true;
    mio_req_t id = mio_stream_relay(s.a, s.b, nullptr, relay_note, &s.told);
    count->fail_at = 0;
    count->fail_on = false;
    if (id > 0) { // there was a slot
        assert_is(mio_req_cancel(s.loop, id), 0);
        until_told(&s);
        SKIP("requests of this size were there already");
    }
    assert_is(id, MIO_ENOMEM);
    inbox in = {};
    hear(s.a, &in);
    assert_is(mio_stream_read_stop(s.a), 0);
    run_for(s.loop, MIO_MILLISECOND);
    relay_start(&s);
    say(s.loop, s.left.client, 100, 0);
    inbox there = {};
    hear(s.right.client, &there);
    until_received(s.loop, &there, 100);
}

TEST(memory_that_fails_under_way_loses_no_byte_unsaid) {
    for (int64_t nth = 1; nth < 12; nth++) {
        between s;
        between_open(&s, true);
        counting *count = loop_counting(s.loop);
        inbox there = {};
        outcome said = {};
        mio_buf_t bytes = pattern_buf(s.loop, 200000, 0);
        ck_assert_int_gt(mio_stream_write(s.left.client, &bytes, 1, write_told, &said), 0);
        count->fail_at = nth;
        count->fail_on = true;
        for (int i = 0; i < 20 && s.told.calls == 0; i++) (void)mio_loop_run_once(s.loop, on_sim() ? 0 : MIO_MILLISECOND);
        if (s.told.calls == 0) (void)mio_req_cancel(s.loop, s.id);
        for (int i = 0; i < 20 && s.told.calls == 0; i++) (void)mio_loop_run_once(s.loop, 0);
        count->fail_at = 0;
        count->fail_on = false;
        until_told(&s);
        ck_assert(s.told.status == MIO_ENOMEM || s.told.status == MIO_ECANCELED);
        const uint64_t accepted = static_cast<uint64_t>(s.told.a_to_b);
        inbox here = {};
        here.received = accepted;
        hear(s.right.client, &there);
        hear(s.a, &here);
        until_received(s.loop, &there, accepted);
        auto waits = [&] { return said.calls == 0 || here.received < static_cast<uint64_t>(said.sent); };
        (void)comes(s.loop, [&] { return here.ends != 0 || !waits(); });
        ck_assert(!here.wrong); // all of it, or the gap is told
        ck_assert(!waits() || here.end == MIO_ENOMEM);
        loop_close(s.loop);
    }
}

// What the loop has no memory for is no stream's fault.
TEST(an_end_that_finds_no_memory_is_neither_streams) {
    KERNEL_ONLY("the end has to come without a request of the library's");
    between s;
    between_open(&s, true, false);
    int ends[2];
    assert_is(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_is(mio_stream_adopt(s.loop, ends[0], nullptr, 0, &s.a), 0);
    relay_start(&s);
    pair stuck = unix_pair(s.loop);
    say(s.loop, stuck.client, LOCAL_ROOM, 0);
    run_for(s.loop, 5 * MIO_MILLISECOND);
    counting *count = loop_counting(s.loop);
    count->fail_at = 1;
    count->fail_on = true;
    mio_req_t id;
    do { // all the requests there are
        mio_buf_t bytes = mio_buf_borrow("x", 1);
        id = mio_stream_write(stuck.client, &bytes, 1, nullptr, nullptr);
    } while (id > 0);
    assert_is(id, MIO_ENOMEM);
    assert_is(shutdown(ends[1], SHUT_WR), 0);
    for (int i = 0; i < 1000 && s.told.calls == 0; i++) (void)mio_loop_run_once(s.loop, MIO_MILLISECOND);
    count->fail_at = 0;
    count->fail_on = false;
    until_told(&s);
    assert_is(s.told.status, MIO_ENOMEM);
    assert_is(s.told.failed, MIO_RELAY_NEITHER);
    close(ends[1]);
}

TEST(a_destroyed_loop_tells_its_relays) {
    for (int turns = 0; turns < 4; turns++) {
        static int calls;
        calls = 0;
        mio_loop_t *loop = loop_open();
        pair left = connect_pair(loop), right = connect_pair(loop);
        auto told = [](mio_stream_t *a, mio_stream_t *b, int status, int64_t, int64_t, void *) {
            calls++;
            assert_is(status, MIO_ECANCELED);
            ck_assert_ptr_nonnull(a);
            ck_assert_ptr_nonnull(b);
            assert_is(mio_stream_relay(a, b, nullptr, relay_note, nullptr), MIO_EBADF);
        };
        ck_assert_int_gt(mio_stream_relay(left.server, right.server, nullptr, told, nullptr), 0);
        say(loop, left.client, 100000, 0);
        for (int i = 0; i < turns; i++) (void)mio_loop_run_once(loop, 0);
        loop_close(loop);
        assert_is(calls, 1);
    }
}

TEST(many_relays_end_in_one_batch) {
    constexpr int MANY = 50;
    static relay_told told[MANY];
    static between s[MANY];
    mio_loop_t *loop = loop_open();
    memset(static_cast<void *>(told), 0, sizeof told);
    for (int i = 0; i < MANY; i++) {
        s[i].left = connect_pair(loop);
        s[i].right = connect_pair(loop);
        ck_assert_int_gt(mio_stream_relay(s[i].left.server, s[i].right.server, nullptr, relay_note, &told[i]), 0);
        say(loop, s[i].left.client, 1000, 0);
    }
    run_for(loop, MIO_MILLISECOND);
    for (int i = 0; i < MANY; i++) {
        if (i % 5 == 0) assert_is(mio_handle_close(s[i].left.client, nullptr, nullptr), 0);
        if (i % 5 == 1) assert_is(mio_handle_close(s[i].left.server, nullptr, nullptr), 0);
        if (i % 5 == 2) mio_handle_abandon(s[i].right.server);
        if (i % 5 == 3) assert_is(mio_stream_finish(s[i].left.client, MIO_SECOND, nullptr, nullptr), 0);
        if (i % 5 == 4) assert_is(mio_stream_finish(s[i].right.server, 5 * MIO_MILLISECOND, nullptr, nullptr), 0);
        if (i % 5 == 0 || i % 5 == 3) assert_is(mio_handle_close(s[i].right.client, nullptr, nullptr), 0);
    }
    int calls = 0;
    (void)comes(loop, [&] {
        calls = 0;
        for (const relay_told &one : told) calls += one.calls;
        return calls >= MANY;
    });
    for (const relay_told &one : told) assert_is(one.calls, 1);
}
