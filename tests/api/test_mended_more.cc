// Mended: buffers, the end of a loop, forks, descriptors. Each test here is the shortest program that once showed a
// defect.
#include "harness.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace api;

// --- buffers --------------------------------------------------------------------------------------------------------

TEST(a_receive_block_released_between_runs_does_not_disturb_destroy) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    static mio_buf_t held;
    held = {};
    auto read = [](mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *) {
        if (n < 0) return;
        held = mio_buf_take(buf);
        assert_is(mio_handle_close(stream, nullptr, nullptr), 0);
    };
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read, nullptr), 0);
    mio_buf_t bytes = mio_buf_borrow("hello", 5);
    ck_assert_int_gt(mio_stream_write(streams.client, &bytes, 1, nullptr, nullptr), 0);
    assert_is(mio_stream_finish(streams.client, MIO_MINUTE, nullptr, nullptr), 0);
    run_to_end(loop);
    ck_assert_uint_ge(held.len, 1);
    mio_buf_release(&held); // nobody runs the loop: the block goes home by way of its inbox
    assert_is(mio_loop_destroy(loop, MIO_FOREVER), 0);
    loop_forget(loop);
}

// What lies in front of a rest was read by somebody else: it is hidden, and keep moves the rest to there.
TEST(the_rest_of_what_was_pushed_back_can_be_kept) {
    static mio_loop_t *loop;
    loop = loop_open();
    pair streams = connect_pair(loop);
    static int kept;
    kept = 0;
    mio_buf_t bytes = pattern_buf(loop, 128, 0), room = {};
    assert_is(mio_stream_unread(streams.client, &bytes), 0);
    assert_is(mio_buf_alloc(loop, 100, &room), 0);
    auto begun = [](mio_stream_t *stream, int64_t n, mio_buf_t *, void *) {
        if (n < 0) return;
        auto rest = [](mio_stream_t *self, int64_t left, mio_buf_t *buf, void *) {
            if (left < 0) return;
            assert_is(left, 28);
            assert_is(mio_buf_keep(loop, buf, 85), 0); // of the block's 128 bytes it needs 113
            ck_assert(pattern_is(buf->base, 28, 100));
            kept++;
            assert_is(mio_handle_close(self, nullptr, nullptr), 0);
        };
        ck_assert_int_gt(mio_stream_read_start(stream, 0, rest, nullptr), 0);
    };
    ck_assert_int_gt(mio_stream_read_exact(streams.client, &room, 100, begun, nullptr), 0);
    run_for(loop, 10 * MIO_MILLISECOND);
    assert_is(kept, 1);
    loop_close(loop);
}

TEST(keep_may_move_bytes_that_lie_behind_its_new_end) {
    mio_loop_t *loop = loop_open();
    for (size_t off = 1; off < 128; off++) {
        mio_buf_t buf = pattern_buf(loop, 128, 0);
        const size_t len = off < 120 ? 8 : 128 - off;
        assert_is(mio_buf_slice(&buf, off, len), 0);
        assert_is(mio_buf_keep(loop, &buf, 113 - len), 0); // of the block's 128 bytes it needs 113
        assert_is(buf.len, len);
        ck_assert_uint_ge(buf.cap, 113);
        ck_assert(pattern_is(buf.base, len, off));
        memset(buf.base + len, 1, buf.cap - len);
        ck_assert(pattern_is(buf.base, len, off));
        mio_buf_release(&buf);
    }
}

TEST(keep_between_runs_leaves_the_bytes_of_other_references_alone) {
    mio_loop_t *loop = loop_open();
    for (int round = 0; round < 2; round++) { // before the first run, and after one
        mio_buf_t buf = pattern_buf(loop, 128, 0), other = {};
        assert_is(mio_buf_share(&buf, &other), 0);
        assert_is(mio_buf_slice(&buf, 100, 20), 0);
        assert_is(mio_buf_keep(loop, &buf, 100), 0);
        ck_assert(pattern_is(buf.base, 20, 100));
        memset(buf.base, 0, buf.cap);
        ck_assert(pattern_is(other.base, 128, 0));
        mio_buf_release(&buf);
        mio_buf_release(&other);
        run_for(loop, MIO_MILLISECOND);
    }
}

// A read that is cancelled and abandoned in the check phase, when a receive of it is about to be told: its memory is
// the program's again at once.
struct taker {
    mio_req_t read;
    int turns; // before it acts
    char *room;
};

static void taker_checks(mio_hook_t *hook, void *arg) {
    taker *t = static_cast<taker *>(arg);
    if (t->turns-- != 0) return;
    mio_req_cancel(mio_handle_loop(hook), t->read); // either answer
    if (mio_req_abandon(mio_handle_loop(hook), t->read) == 0) memset(t->room, 'm', 100);
    assert_is(mio_hook_stop(hook), 0);
}

TEST(the_memory_of_an_abandoned_read_is_written_to_no_more) {
    mio_loop_t *loop = loop_open();
    for (int turns = 0; turns < 6; turns++) {
        pair streams = connect_pair(loop);
        char room[100] = {}, mine[100];
        outcome never = {};
        taker t = {0, turns, room};
        mio_hook_t *hook;
        assert_is(mio_hook_create(loop, MIO_HOOK_CHECK, &hook), 0);
        mio_buf_t space = mio_buf_space(room, sizeof room), text = mio_buf_borrow("hello", 5);
        t.read = mio_stream_read_until(streams.server, &space, "\n", 1, 0, read_told, &never);
        ck_assert_int_gt(t.read, 0);
        ck_assert_int_gt(mio_stream_write(streams.client, &text, 1, nullptr, nullptr), 0);
        assert_is(mio_hook_start(hook, taker_checks, &t), 0);
        for (int i = 0; i < 20 && t.turns >= 0; i++) run_for(loop, MIO_MILLISECOND);
        run_for(loop, MIO_MILLISECOND);
        memset(mine, 'm', sizeof mine);
        assert_is(memcmp(room, mine, sizeof room), 0);
        assert_is(never.calls, 0);
        mio_handle_abandon(hook);
        mio_handle_abandon(streams.client);
        mio_handle_abandon(streams.server);
    }
}

// --- the end of a loop ----------------------------------------------------------------------------------------------

TEST(destroy_in_no_time_closes_every_kind_of_handle) {
    mio_loop_t *loop = loop_open();
    static int closed;
    closed = 0;
    mio_timer_t *timer;
    mio_hook_t *hook;
    mio_wakeup_t *wakeup;
    assert_is(mio_timer_create(loop, &timer), 0);
    assert_is(mio_timer_start(timer, MIO_SECOND, 0, timer_stops, nullptr), 0);
    assert_is(mio_hook_create(loop, MIO_HOOK_IDLE, &hook), 0);
    assert_is(mio_wakeup_create(loop, [](mio_wakeup_t *, void *) {}, nullptr, &wakeup), 0);
    mio_listener_t *listener = listen_on(loop, [](mio_listener_t *, int, mio_stream_t *, void *) {}, nullptr, nullptr);
    mio_handle_t *all[] = {timer, hook, wakeup, listener};
    for (mio_handle_t *handle : all)
        assert_is(mio_handle_close(handle, [](mio_handle_t *, void *) { closed++; }, nullptr), 0);
    assert_is(mio_loop_destroy(loop, 0), 0);
    assert_is(closed, 4);
    loop_forget(loop);
}

// The time to drain is for what the kernel holds: a callback that uses it up takes nothing from those behind it.
TEST(a_slow_callback_inside_destroy_leaves_nothing_behind) {
    mio_loop_options_t options = loop_options();
    options.completions = 64;
    mio_loop_t *loop = loop_open_with(&options);
    constexpr int PAIRS = 100; // more reads end than one batch of records holds
    static int told;
    told = 0;
    for (int i = 0; i < PAIRS; i++) {
        pair streams = connect_pair(loop);
        auto read = [](mio_stream_t *, int64_t n, mio_buf_t *, void *) {
            assert_is(n, MIO_ECANCELED);
            if (told++ == 0) busy_ns(3 * MIO_MILLISECOND);
        };
        ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read, nullptr), 0);
        ck_assert_int_gt(mio_stream_read_start(streams.client, 0, read, nullptr), 0);
    }
    run_for(loop, MIO_MILLISECOND);
    assert_is(mio_loop_destroy(loop, MIO_MILLISECOND), 0);
    assert_is(told, 2 * PAIRS);
    loop_forget(loop);
}

// --- forks ----------------------------------------------------------------------------------------------------------

TEST(a_post_in_a_forks_child_is_refused) {
    mio_loop_t *loop = loop_open();
    static int ran;
    ran = 0;
    mio_remote_t *remote = mio_remote_retain(mio_loop_remote(loop));
    auto post = [](mio_loop_t *, int, void *) { ran++; };
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        if (mio_remote_post(remote, post, nullptr) != MIO_EPERM) leave(1);
        if (mio_loop_remote(loop) != nullptr) leave(2);
        mio_remote_release(remote);
        leave(mio_loop_destroy(loop, 0) == 0 ? 0 : 3);
    }
    assert_is(child_status(child), 0);
    assert_is(mio_remote_post(remote, post, nullptr), 0);
    run_to_end(loop);
    assert_is(ran, 1);
    mio_remote_release(remote);
}

// As a daemon does: every descriptor is closed, and what is opened next gets the numbers of the parent's loop.
TEST(a_forks_child_touches_no_descriptor_of_the_parents_loop) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    inbox in = {};
    in.stop_at = 100;
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    run_for(loop, MIO_MILLISECOND);
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        constexpr int FDS = 64;
        int ends[2];
        for (int fd = 3; fd < FDS; fd++) close(fd);
        while (pipe2(ends, O_NONBLOCK) == 0 && ends[1] < FDS) {
        }
        mio_loop_stop(loop);
        mio_handle_abandon(streams.server);
        if (mio_loop_destroy(loop, 0) != 0) leave(1);
        for (int fd = 3; fd < FDS; fd++) {
            char byte;
            if (fcntl(fd, F_GETFD) < 0) leave(2);     // closed
            if (read(fd, &byte, 1) == 1) leave(3);    // or written to
        }
        leave(0);
    }
    assert_is(child_status(child), 0);
    mio_buf_t bytes = pattern_buf(loop, 100, 0);
    ck_assert_int_gt(mio_stream_write(streams.client, &bytes, 1, nullptr, nullptr), 0);
    run_to_stop(loop);
    ck_assert(!in.wrong);
}

TEST(destroy_in_a_forks_child_gives_every_allocation_back) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    mio_buf_t room = {}, bytes = pattern_buf(loop, 100, 0);
    outcome read = {};
    assert_is(mio_handle_set_name(streams.client, "client"), 0);
    assert_is(mio_stream_set_watermarks(streams.server, 1, 2, nullptr, nullptr), 0);
    assert_is(mio_buf_alloc(loop, 10, &room), 0);
    ck_assert_int_gt(mio_stream_read(streams.client, &room, read_told, &read), 0);
    ck_assert_int_gt(mio_stream_write(streams.client, &bytes, 1, nullptr, nullptr), 0);
    assert_is(mio_remote_post(mio_loop_remote(loop), [](mio_loop_t *, int, void *) {}, nullptr), 0);
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        const counting *count = loop_counting(loop);
        if (mio_loop_destroy(loop, 0) != 0) leave(1);
        leave(count->live == 0 && count->wrong_sizes == 0 ? 0 : 2);
    }
    assert_is(child_status(child), 0);
    assert_is(mio_loop_destroy(loop, drain_ns()), 0);
    assert_is(read.status, MIO_ECANCELED);
    loop_forget(loop);
}

// --- descriptors, fairness ------------------------------------------------------------------------------------------

TEST(a_descriptor_adopted_twice_is_busy_for_the_second) {
    KERNEL_ONLY("descriptors of the simulated network belong to one stream each");
    mio_loop_t *loop = loop_open();
    int ends[2];
    assert_is(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    mio_stream_t *first = nullptr, *second = nullptr;
    inbox in = {}, never = {};
    static int given_back;
    given_back = -1;
    in.is_text = true;
    assert_is(mio_stream_adopt(loop, ends[0], nullptr, 0, &first), 0);
    ck_assert_int_gt(mio_stream_read_start(first, 0, read_into, &in), 0);
    run_for(loop, MIO_MILLISECOND);
    assert_is(mio_stream_adopt(loop, ends[0], nullptr, 0, &second), 0);
    ck_assert_int_gt(mio_stream_read_start(second, 0, read_into, &never), 0);
    run_for(loop, MIO_MILLISECOND);
    assert_is(never.end, MIO_EBUSY);
    assert_is(write(ends[1], "still", 5), 5); // the first has noticed nothing
    run_for(loop, MIO_MILLISECOND);
    ck_assert_str_eq(in.text, "still");
    auto detached = [](mio_stream_t *, int status, int fd, mio_buf_t *, unsigned, void *) {
        assert_is(status, 0);
        given_back = fd;
    };
    ck_assert_int_gt(mio_stream_detach(second, detached, nullptr), 0);
    run_for(loop, MIO_MILLISECOND);
    assert_is(given_back, ends[0]); // not closed under the first
    close(ends[1]);
    run_for(loop, MIO_MILLISECOND);
    assert_is(in.end, MIO_EOF);
}

// 200 streams that write again in each write callback, and records for 64 of them.
struct chains {
    int peers[200];
    uint64_t writes;
};

static void chain_written(mio_stream_t *stream, int status, int64_t, mio_buf_t *, unsigned, void *arg) {
    if (status < 0 || is_over()) return;
    chains *all = static_cast<chains *>(arg);
    char drained[64];
    const int peer = all->peers[all->writes++ % 200];
    while (recv(peer, drained, sizeof drained, MSG_DONTWAIT) > 0) {
    }
    mio_buf_t bytes = mio_buf_borrow("x", 1);
    mio_stream_write(stream, &bytes, 1, chain_written, arg);
}

TEST(writers_that_never_rest_leave_room_for_readers) {
    KERNEL_ONLY("the writers' peers are sockets of the kernel");
    mio_loop_options_t options = loop_options();
    options.completions = 64;
    mio_loop_t *loop = loop_open_with(&options);
    static chains all;
    all.writes = 0;
    for (int &peer : all.peers) {
        int ends[2];
        assert_is(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        mio_stream_t *stream = nullptr;
        assert_is(mio_stream_adopt(loop, ends[0], nullptr, 0, &stream), 0);
        peer = ends[1];
        mio_buf_t bytes = mio_buf_borrow("x", 1);
        ck_assert_int_gt(mio_stream_write(stream, &bytes, 1, chain_written, &all), 0);
    }
    int ends[2];
    assert_is(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    mio_stream_t *reader = nullptr;
    static inbox in;
    in = {};
    in.is_text = true;
    assert_is(mio_stream_adopt(loop, ends[0], nullptr, 0, &reader), 0);
    ck_assert_int_gt(mio_stream_read_start(reader, 0, read_into, &in), 0);
    assert_is(write(ends[1], "x", 1), 1);
    for (int turn = 0; turn < 1000 && in.received == 0; turn++) assert_is(mio_loop_run_once(loop, 0), MIO_ALIVE);
    assert_is(in.received, 1);
    loop_close(loop);
    for (int peer : all.peers) close(peer);
    close(ends[1]);
}
