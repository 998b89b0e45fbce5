// Mended: streams. Each test here is the shortest program that once showed a defect.
#include "harness.h"

#include <sys/socket.h>
#include <unistd.h>

using namespace api;

// --- connecting -----------------------------------------------------------------------------------------------------

struct marks {
    int above, below;
};

static void mark_told(mio_stream_t *, int above, void *arg) {
    if (is_over()) return;
    marks *told = static_cast<marks *>(arg);
    if (above != 0) told->above++;
    else told->below++;
}

static void accept_reads(mio_listener_t *, int status, mio_stream_t *stream, void *arg) {
    if (status == 0) ck_assert_int_gt(mio_stream_read_start(stream, 0, read_into, arg), 0);
}

TEST(a_write_above_the_high_mark_leaves_the_connect_alone) {
    mio_loop_t *loop = loop_open();
    static inbox in;
    mio_addr_t at;
    listen_on(loop, accept_reads, &in, &at);
    for (int round = 0; round < 2; round++) {
        in = {};
        in.stop_at = 1000;
        outcome connected = {};
        marks told = {};
        mio_stream_t *client;
        ck_assert_int_gt(mio_tcp_connect(loop, &at, nullptr, stream_told, &connected, &client), 0);
        mio_buf_t bytes = pattern_buf(loop, 1000, 0);
        if (round == 0) assert_is(mio_stream_set_watermarks(client, 10, 100, mark_told, &told), 0);
        ck_assert_int_gt(mio_stream_write(client, &bytes, 1, nullptr, nullptr), 0);
        if (round == 1) assert_is(mio_stream_set_watermarks(client, 10, 100, mark_told, &told), 0);
        run_to_stop(loop);
        assert_is(connected.calls, 1);
        assert_is(connected.status, 0);
        ck_assert(!in.wrong);
        assert_is(told.above, told.below); // told both, or neither: it never was above in a turn
        mio_handle_abandon(client);
        run_for(loop, MIO_MILLISECOND);
    }
}

// --- out of receive blocks ------------------------------------------------------------------------------------------

// A loop whose receive blocks the program holds, all of them, and a pair with 100 bytes on the way to its server.
struct dry {
    mio_loop_t *loop;
    mio_buf_t held[16384];
    unsigned count;
    bool over; // held no longer
    pair streams;
};
static dry world_dry;

static void dry_read(mio_stream_t *, int64_t n, mio_buf_t *buf, void *) {
    if (n < 0 || world_dry.over) return;
    ck_assert_uint_lt(world_dry.count, 16384);
    world_dry.held[world_dry.count++] = mio_buf_take(buf);
}

static void dry_release() {
    world_dry.over = true;
    while (world_dry.count > 0) mio_buf_release(&world_dry.held[--world_dry.count]);
}

static void dry_open() {
    mio_loop_options_t options = loop_options();
    options.buffer_block = 4096;
    options.buffer_max_bytes = 8192;
    world_dry.loop = loop_open_with(&options);
    world_dry.count = 0;
    world_dry.over = false;
    world_dry.streams = connect_pair(world_dry.loop);
    pair greedy = connect_pair(world_dry.loop);
    ck_assert_int_gt(mio_stream_read_start(greedy.server, 0, dry_read, nullptr), 0);
    mio_buf_t flood = pattern_buf(world_dry.loop, 100000, 0), bytes = pattern_buf(world_dry.loop, 100, 0);
    ck_assert_int_gt(mio_stream_write(greedy.client, &flood, 1, nullptr, nullptr), 0);
    for (int i = 0; i < 1000 && metrics(world_dry.loop).buffer_pauses == 0; i++)
        run_for(world_dry.loop, MIO_MILLISECOND);
    ck_assert_uint_ge(metrics(world_dry.loop).buffer_pauses, 1);
    ck_assert_int_gt(mio_stream_write(world_dry.streams.client, &bytes, 1, nullptr, nullptr), 0);
    run_for(world_dry.loop, MIO_MILLISECOND);
}

TEST(a_finish_without_receive_blocks_ends_in_its_time) {
    dry_open();
    outcome closed = {};
    assert_is(mio_stream_finish(world_dry.streams.server, 5 * MIO_MILLISECOND, close_told, &closed), 0);
    run_for(world_dry.loop, 20 * MIO_MILLISECOND);
    assert_is(closed.calls, 1);
    dry_release();
    run_for(world_dry.loop, 5 * MIO_MILLISECOND);
}

TEST(a_finish_without_receive_blocks_keeps_its_descriptor_until_they_are_back) {
    dry_open();
    outcome closed = {};
    inbox in = {};
    closed.stop = true;
    mio_buf_t tail = pattern_buf(world_dry.loop, 50000, 0);
    ck_assert_int_gt(mio_stream_write(world_dry.streams.server, &tail, 1, nullptr, nullptr), 0);
    assert_is(mio_stream_finish(world_dry.streams.server, MIO_FOREVER, close_told, &closed), 0);
    run_for(world_dry.loop, 20 * MIO_MILLISECOND);
    assert_is(closed.calls, 0); // closing with input unread would have been a reset, and the tail lost
    dry_release();
    ck_assert_int_gt(mio_stream_read_start(world_dry.streams.client, 0, read_into, &in), 0);
    ck_assert_int_gt(mio_stream_shutdown(world_dry.streams.client, nullptr, nullptr), 0);
    run_to_stop(world_dry.loop);
    assert_is(closed.calls, 1);
    for (int i = 0; in.end == 0 && i < 1000; i++) run_for(world_dry.loop, MIO_MILLISECOND);
    assert_is(in.end, MIO_EOF);
    assert_is(in.received, 50000);
    ck_assert(!in.wrong);
}

TEST(a_read_that_waits_for_receive_blocks_may_be_abandoned_and_its_stream_closed) {
    dry_open();
    inbox in = {};
    outcome closed = {};
    const mio_req_t id = mio_stream_read_start(world_dry.streams.server, 0, read_into, &in);
    ck_assert_int_gt(id, 0);
    run_for(world_dry.loop, 2 * MIO_MILLISECOND);
    assert_is(in.calls, 0);
    assert_is(mio_req_abandon(world_dry.loop, id), 0);
    assert_is(mio_handle_close(world_dry.streams.server, close_told, &closed), 0);
    run_for(world_dry.loop, 2 * MIO_MILLISECOND);
    dry_release();
    run_for(world_dry.loop, 2 * MIO_MILLISECOND);
    assert_is(closed.calls, 1);
    assert_is(in.calls, 0);
}

// A read_until, which reads by way of a receive block, ends early in the check phase: when its receive has found no
// block already, and the completions phase has not heard of it yet.
struct closer {
    mio_stream_t *stream;
    mio_req_t read;
    int turns; // before it acts
    bool cancels;
    outcome told, closed;
};

static void closer_checks(mio_hook_t *hook, void *arg) {
    closer *c = static_cast<closer *>(arg);
    if (c->turns-- != 0) return;
    if (c->cancels) assert_is(mio_req_cancel(mio_handle_loop(hook), c->read), 0);
    else assert_is(mio_handle_close(c->stream, close_told, &c->closed), 0);
    assert_is(mio_hook_stop(hook), 0);
}

TEST(a_read_that_ends_just_before_it_is_told_of_no_block_leaves_its_stream_closable) {
    for (int turns = 0; turns < 4; turns++) {
        for (int cancels = 0; cancels < 2; cancels++) {
            dry_open();
            closer c = {world_dry.streams.server, 0, turns, cancels != 0, {}, {}};
            mio_hook_t *hook;
            assert_is(mio_hook_create(world_dry.loop, MIO_HOOK_CHECK, &hook), 0);
            assert_is(mio_hook_start(hook, closer_checks, &c), 0);
            mio_buf_t room = {};
            assert_is(mio_buf_alloc(world_dry.loop, 1000, &room), 0);
            c.read = mio_stream_read_until(c.stream, &room, "\r\n\r\n", 4, 0, read_told, &c.told);
            ck_assert_int_gt(c.read, 0);
            run_for(world_dry.loop, 2 * MIO_MILLISECOND);
            mio_handle_abandon(hook);
            if (c.cancels || c.turns >= 0) assert_is(mio_handle_close(c.stream, close_told, &c.closed), 0);
            run_for(world_dry.loop, 2 * MIO_MILLISECOND);
            assert_is(c.closed.calls, 1);
            assert_is(c.told.calls, 1);
            assert_is(c.told.status, MIO_ECANCELED);
            dry_release();
            run_for(world_dry.loop, 2 * MIO_MILLISECOND);
            loop_close(world_dry.loop);
        }
    }
}

// --- writing --------------------------------------------------------------------------------------------------------

// A shutdown behind a write of which the kernel holds a part ends early: no FIN is sent, so writing goes on.
TEST(a_shutdown_that_ended_early_leaves_the_stream_open_for_writes) {
    mio_loop_t *loop = loop_open();
    for (int way = 0; way < 3; way++) {
        pair streams = connect_narrow_pair(loop);
        outcome written = {}, down = {}, after = {}, again = {};
        inbox in = {};
        mio_buf_t big = pattern_buf(loop, NARROW_ROOM, 0);
        ck_assert_int_gt(mio_stream_write(streams.client, &big, 1, write_told, &written), 0);
        const mio_req_t id = mio_stream_shutdown(streams.client, stream_told, &down);
        ck_assert_int_gt(id, 0);
        run_for(loop, 2 * MIO_MILLISECOND);
        assert_is(written.calls, 0);
        if (way == 0) assert_is(mio_req_cancel(loop, id), 0);
        if (way == 1) assert_is(mio_req_timeout(loop, id, MIO_MILLISECOND), 0);
        if (way == 2) assert_is(mio_req_abandon(loop, id), 0);
        run_for(loop, 3 * MIO_MILLISECOND);
        in.stop_at = NARROW_ROOM;
        ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
        run_to_stop(loop);
        run_for(loop, MIO_MILLISECOND);
        assert_is(written.status, 0);
        assert_is(down.calls, way == 2 ? 0 : 1);
        assert_is(down.status, way == 0 ? MIO_ECANCELED : way == 1 ? MIO_ETIMEDOUT : 0);
        mio_buf_t more = pattern_buf(loop, 100, NARROW_ROOM);
        ck_assert_int_gt(mio_stream_write(streams.client, &more, 1, write_told, &after), 0);
        ck_assert_int_gt(mio_stream_shutdown(streams.client, stream_told, &again), 0);
        in.stop_at = 0;
        in.stop_at_end = true;
        run_to_stop(loop);
        assert_is(after.status, 0);
        assert_is(again.status, 0);
        assert_is(in.end, MIO_EOF);
        assert_is(in.received, NARROW_ROOM + 100);
        ck_assert(!in.wrong);
        mio_handle_abandon(streams.client);
        mio_handle_abandon(streams.server);
    }
}

// --- moving ---------------------------------------------------------------------------------------------------------

struct leaving {
    int calls, status, fd;
};

static void leaving_told(mio_stream_t *, int status, int fd, mio_buf_t *, unsigned, void *arg) {
    if (is_over()) return;
    leaving *told = static_cast<leaving *>(arg);
    told->calls++;
    told->status = status;
    told->fd = fd;
}

TEST(a_detach_behind_one_that_is_being_cancelled_is_refused_or_told) {
    mio_loop_t *loop = loop_open();
    for (int round = 0; round < 50; round++) {
        pair streams = connect_pair(loop);
        inbox in = {};
        leaving first = {}, second = {};
        ck_assert_int_gt(mio_stream_read_start(streams.client, 0, read_into, &in), 0);
        run_for(loop, MIO_MILLISECOND);
        const mio_req_t id = mio_stream_detach(streams.client, leaving_told, &first);
        ck_assert_int_gt(id, 0);
        assert_is(mio_req_cancel(loop, id), 0);
        const mio_req_t next = mio_stream_detach(streams.client, leaving_told, &second);
        if (next < 0) assert_is(next, MIO_EBUSY);
        run_for(loop, MIO_MILLISECOND);
        assert_is(first.calls, 1);
        assert_is(first.status, MIO_ECANCELED);
        assert_is(in.end, MIO_ECANCELED);
        if (next > 0) assert_is(second.calls, 1);
        if (next < 0) ck_assert_int_gt(mio_stream_detach(streams.client, leaving_told, &second), 0);
        run_for(loop, MIO_MILLISECOND);
        assert_is(second.status, 0);
        mio_stream_t *again = nullptr;
        assert_is(mio_stream_adopt(loop, second.fd, nullptr, 0, &again), 0);
        mio_handle_abandon(again);
        mio_handle_abandon(streams.server);
    }
}

// --- bytes lost for want of memory ----------------------------------------------------------------------------------

// The bytes behind the delimiter find no record to wait in, and more come later: the stream ends at the gap.
struct gap {
    mio_loop_t *loop;
    pair streams;
};

static gap gap_open() {
    for (int round = 0; round < 20; round++) { // a short read may end at the delimiter: then nothing is lost
        gap g = {loop_open(), {}};
        g.streams = connect_pair(g.loop);
        run_for(g.loop, MIO_MILLISECOND);
        outcome line = {};
        line.stop = true;
        mio_buf_t room = {};
        assert_is(mio_buf_alloc(g.loop, 100, &room), 0);
        ck_assert_int_gt(mio_stream_read_until(g.streams.server, &room, "\n", 1, 0, read_told, &line), 0);
        mio_buf_t text = text_buf(g.loop, "line\nthis will be lost"), later = text_buf(g.loop, "behind the gap");
        ck_assert_int_gt(mio_stream_write(g.streams.client, &text, 1, nullptr, nullptr), 0);
        counting *count = loop_counting(g.loop);
        count->failed = 0;
        count->fail_at = 1;
        count->fail_on = true;
        run_to_stop(g.loop);
        count->fail_at = 0;
        count->fail_on = false;
        ck_assert_str_eq(line.text, "line\n");
        ck_assert_int_gt(mio_stream_write(g.streams.client, &later, 1, nullptr, nullptr), 0);
        run_for(g.loop, MIO_MILLISECOND);
        if (count->failed > 0) return g;
        loop_close(g.loop);
    }
    ck_abort_msg("no byte was lost in twenty rounds");
}

TEST(nothing_is_read_behind_bytes_lost_for_want_of_memory) {
    gap g = gap_open();
    for (int round = 0; round < 3; round++) {
        outcome read = {};
        mio_buf_t room = {};
        assert_is(mio_buf_alloc(g.loop, 100, &room), 0);
        ck_assert_int_gt(mio_stream_read(g.streams.server, &room, read_told, &read), 0);
        run_for(g.loop, MIO_MILLISECOND);
        assert_is(read.calls, 1);
        assert_is(read.status, MIO_ENOMEM);
        assert_is(read.len, 0);
    }
    inbox in = {};
    ck_assert_int_gt(mio_stream_read_start(g.streams.server, 0, read_into, &in), 0);
    run_for(g.loop, MIO_MILLISECOND);
    assert_is(in.received, 0);
    assert_is(in.end, MIO_ENOMEM);
}

TEST(a_stream_that_lost_bytes_does_not_change_hands) {
    gap g = gap_open();
    leaving told = {};
    ck_assert_int_gt(mio_stream_detach(g.streams.server, leaving_told, &told), 0);
    run_for(g.loop, MIO_MILLISECOND);
    assert_is(told.calls, 1);
    assert_is(told.status, MIO_ENOMEM);
    assert_is(told.fd, -1);
}

TEST(finishing_a_stream_that_lost_bytes_waits_for_its_peer_without_spinning) {
    gap g = gap_open();
    outcome closed = {};
    closed.stop = true;
    assert_is(mio_stream_finish(g.streams.server, MIO_FOREVER, close_told, &closed), 0);
    run_for(g.loop, 5 * MIO_MILLISECOND);
    const uint64_t turns = metrics(g.loop).turns;
    run_for(g.loop, 20 * MIO_MILLISECOND);
    ck_assert_uint_le(metrics(g.loop).turns - turns, 50);
    assert_is(closed.calls, 0);
    ck_assert_int_gt(mio_stream_shutdown(g.streams.client, nullptr, nullptr), 0);
    run_to_stop(g.loop);
    assert_is(closed.calls, 1);
}

// Two ends finish with more queued than the kernel holds between them: each must read while it flushes.
TEST(two_ends_that_finish_against_each_other_both_close) {
    mio_loop_t *loop = loop_open();
    static char big[15 << 20];
    pair streams = connect_pair(loop);
    outcome closed = {};
    mio_stream_t *ends[] = {streams.client, streams.server};
    for (mio_stream_t *end : ends) {
        mio_buf_t buf = mio_buf_borrow(big, sizeof big);
        ck_assert_int_gt(mio_stream_write(end, &buf, 1, nullptr, nullptr), 0);
        assert_is(mio_stream_finish(end, MIO_FOREVER, close_told, &closed), 0);
    }
    for (int i = 0; i < 2000 && closed.calls < 2; i++) run_for(loop, 10 * MIO_MILLISECOND);
    assert_is(closed.calls, 2);
}

// --- writing --------------------------------------------------------------------------------------------------------

struct crowd {
    mio_loop_t *loop;
    mio_req_t first;    // abandoned when the first bytes arrive: then there is room for it
    unsigned of_first;
    char rest[128];
};

static void crowd_read(mio_stream_t *, int64_t n, mio_buf_t *buf, void *arg) {
    crowd *c = static_cast<crowd *>(arg);
    if (n < 0) return;
    if (c->first != 0) ck_assert_int_ne(mio_req_abandon(c->loop, c->first), MIO_EINVAL);
    c->first = 0;
    size_t len = strlen(c->rest);
    for (int64_t i = 0; i < n; i++) {
        if (buf->base[i] == 'X') c->of_first++;
        else if (buf->base[i] != '.' && len < sizeof c->rest - 1) c->rest[len++] = buf->base[i];
    }
}

TEST(an_abandoned_write_is_not_credited_with_the_bytes_behind_it) {
    static const char behind[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    static char dots[65536];
    memset(dots, '.', sizeof dots);
    for (int round = 0; round < 20; round++) {
        mio_loop_t *loop = loop_open();
        pair streams = connect_narrow_pair(loop);
        while (mio_stream_try_write(streams.client, dots, sizeof dots) > 0) {
        }
        mio_buf_t first = text_buf(loop, "XXXXXXXXXXXX"), second = text_buf(loop, behind);
        static crowd c;
        c = {};
        c.loop = loop;
        c.first = mio_stream_write(streams.client, &first, 1, nullptr, nullptr);
        static outcome told;
        told = {};
        ck_assert_int_gt(mio_stream_write(streams.client, &second, 1, write_told, &told), 0);
        run_for(loop, MIO_MILLISECOND);
        ck_assert_int_gt(mio_stream_read_start(streams.server, 0, crowd_read, &c), 0);
        // Told of, and read to its end, unless it was cut off: the kernel may have to send some of it again.
        for (int i = 0; i < 2000 && (told.calls == 0 || (told.status == 0 && strlen(c.rest) < strlen(behind))); i++)
            run_for(loop, 10 * MIO_MILLISECOND);
        assert_is(told.calls, 1);
        if (c.of_first == 0 || c.of_first == 12) ck_assert_str_eq(c.rest, behind);
        else assert_is(told.status, MIO_ECANCELED); // cut off in its middle
        loop_close(loop);
    }
}
