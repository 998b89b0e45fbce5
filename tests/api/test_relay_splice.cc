// Relays of bulk: where the system has splice(2) its bytes go through a pipe, and nobody can tell by what becomes of them.
// Where it has none, and in a simulated world, all but the count of pipes is the same.
#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace api;

constexpr size_t MEGABYTE = 1 << 20;

// Pipes of this process by their ends, and the bytes in all of them; without those that it was born with: a make(1) that
// runs it keeps bytes in one.
struct pipe_count {
    int ends;
    int bytes;
};
static bool is_pipe(int fd) {
    struct stat about;
    return fstat(fd, &about) == 0 && S_ISFIFO(about.st_mode);
}
struct inherited_pipes {
    bool has[1024];
    inherited_pipes() {
        for (int fd = 0; fd < 1024; fd++) has[fd] = is_pipe(fd);
    }
};
static const inherited_pipes inherited;

static pipe_count pipes_now() {
    pipe_count count = {};
    for (int fd = 0; fd < 1024; fd++) {
        if (inherited.has[fd] || !is_pipe(fd)) continue;
        count.ends++;
        const int status = fcntl(fd, F_GETFL);
        int bytes = 0;
        if ((status & O_ACCMODE) == O_RDONLY && ioctl(fd, FIONREAD, &bytes) == 0) count.bytes += bytes;
    }
    return count;
}

// Linux has splice(2); the model of kqueue is linked with calls that have none, as its systems.
static bool can_splice() { return !on_sim() && !on_kqueue(); }

// As stuck_open, and some of what was said is in a pipe where there are any.
static uint64_t spliced_open(between *s, bool local = true) {
    const pipe_count before = pipes_now();
    uint64_t total = LOCAL_ROOM;
    if (local) {
        total = stuck_open(s);
    } else { // more than TCP takes
        total = 24 * MEGABYTE;
        between_open(s);
        assert_is(mio_stream_set_queue_max(s->left.client, 2 * total), 0);
        for (uint64_t offset = 0; offset < total; offset += MEGABYTE) say(s->loop, s->left.client, MEGABYTE, offset);
        size_t last = 0;
        for (int i = 0, same = 0; i < 5000 && same < 10; i++) {
            run_for(s->loop, 2 * MIO_MILLISECOND);
            const size_t now = mio_stream_queued_bytes(s->left.client);
            same = now == last ? same + 1 : 0;
            last = now;
        }
    }
    if (can_splice()) {
        const pipe_count now = pipes_now();
        ck_assert_int_ge(now.ends, before.ends + 2);
        ck_assert_int_gt(now.bytes, 0);
    }
    ck_assert_uint_gt(mio_stream_queued_bytes(s->b), 0);
    assert_is(s->told.calls, 0);
    return total;
}

// --- early ends, with bytes in the pipe -----------------------------------------------------------------------------

TEST(a_cancelled_relay_gives_back_what_is_in_its_pipe) {
    between s;
    const uint64_t total = spliced_open(&s);
    assert_is(mio_req_cancel(s.loop, s.id), 0);
    until_told(&s);
    assert_is(s.told.status, MIO_ECANCELED);
    assert_is(pipes_now().bytes, 0);
    nothing_is_lost(&s, total);
}

TEST(a_relay_with_bytes_in_its_pipe_is_begun_again) {
    between s;
    const uint64_t total = spliced_open(&s);
    uint64_t accepted = 0;
    for (int round = 0; round < 5; round++) {
        if (round % 2 == 0) assert_is(mio_req_cancel(s.loop, s.id), 0);
        else assert_is(mio_req_deadline(s.loop, s.id, 1), 0);
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

TEST(a_peer_that_goes_while_the_pipe_is_full_leaves_the_rest_with_its_source) {
    (void)signal(SIGPIPE, SIG_DFL); // would end this test
    for (int kind = 0; kind < 2; kind++) { // unix, TCP: there it is a reset
        between s;
        const uint64_t total = spliced_open(&s, kind == 0);
        assert_is(mio_handle_close(s.right.client, nullptr, nullptr), 0);
        until_told(&s);
        ck_assert(s.told.status == MIO_EPIPE || s.told.status == MIO_ECONNRESET);
        assert_is(s.told.failed, MIO_RELAY_B);
        static inbox here;
        here = {};
        here.received = static_cast<uint64_t>(s.told.a_to_b);
        hear(s.a, &here);
        until_received(s.loop, &here, total);
        loop_close(s.loop);
    }
}

TEST(pipes_with_bytes_in_them_are_closed_with_their_streams) {
    for (int how = 0; how < 7; how++) {
        const pipe_count before = pipes_now();
        between s;
        spliced_open(&s);
        if (how == 0) assert_is(mio_handle_close(s.a, nullptr, nullptr), 0);
        if (how == 1) assert_is(mio_handle_close(s.b, nullptr, nullptr), 0);
        if (how == 2) mio_handle_abandon(s.a);
        if (how == 3) mio_handle_abandon(s.b);
        if (how == 4) assert_is(mio_req_abandon(s.loop, s.id), 0);
        if (how == 5) assert_is(mio_stream_finish(s.a, MIO_MILLISECOND, nullptr, nullptr), 0);
        if (how == 6) assert_is(mio_stream_finish(s.b, MIO_MILLISECOND, nullptr, nullptr), 0);
        (void)comes(s.loop, [&] { return pipes_now().bytes == before.bytes && s.told.calls == (how == 4 ? 0 : 1); });
        assert_is(pipes_now().bytes, before.bytes);
        assert_is(s.told.calls, how == 4 ? 0 : 1);
        loop_close(s.loop);
        assert_is(pipes_now().ends, before.ends);
    }
}

TEST(a_finish_flushes_what_is_in_the_pipe) {
    between s;
    spliced_open(&s);
    assert_is(mio_stream_finish(s.b, MIO_FOREVER, nullptr, nullptr), 0);
    inbox there = {};
    hear(s.right.client, &there);
    until_told(&s);
    assert_is(s.told.status, MIO_ECANCELED);
    until_received(s.loop, &there, static_cast<uint64_t>(s.told.a_to_b));
    inbox here = {};
    here.received = there.received;
    hear(s.a, &here);
    until_received(s.loop, &here, LOCAL_ROOM);
}

// From a thread: it does not wait for turns, as no peer does.
struct speaker {
    int fd;
    uint64_t total;
};
static void *speak(void *arg) {
    const auto *who = static_cast<const speaker *>(arg);
    static char piece[65536];
    for (uint64_t at = 0; at < who->total;) {
        pattern_fill(piece, sizeof piece, at);
        size_t said = 0;
        while (said < sizeof piece) {
            const ssize_t n = send(who->fd, piece + said, sizeof piece - said, MSG_NOSIGNAL | MSG_DONTWAIT);
            struct pollfd room = {who->fd, POLLOUT, 0};
            if (n > 0) said += static_cast<size_t>(n);
            else if (errno != EAGAIN || poll(&room, 1, 20000) != 1) return nullptr;
        }
        at += sizeof piece;
    }
    return nullptr;
}

// What comes while from is paused is kept, and the pause ends by what was on its way before: nothing else may come.
TEST(a_window_that_fills_as_splicing_begins_opens_again) {
    KERNEL_ONLY("a world has no threads");
    for (int round = 0; round < 20; round++) {
        between s;
        between_open(&s, false, false);
        mio_relay_options_t options = relay_options();
        options.window = 65536;
        relay_start(&s, &options);
        speaker who = {mio_stream_fd(s.left.client), 4 * MEGABYTE};
        pthread_t thread;
        assert_is(pthread_create(&thread, nullptr, speak, &who), 0);
        inbox there = {};
        hear(s.right.client, &there);
        until_received(s.loop, &there, who.total);
        assert_is(pthread_join(thread, nullptr), 0);
        assert_is(mio_req_cancel(s.loop, s.id), 0);
        until_told(&s);
    }
}

// --- no pipe to be had ----------------------------------------------------------------------------------------------

TEST(a_relay_that_gets_no_pipe_does_without) {
    KERNEL_ONLY("a simulated world has descriptors of its own");
    between s;
    between_open(&s);
    struct rlimit before, less;
    assert_is(getrlimit(RLIMIT_NOFILE, &before), 0);
    less = before;
    less.rlim_cur = 0; // no new descriptor
    inbox there = {};
    hear(s.right.client, &there);
    run_for(s.loop, MIO_MILLISECOND);
    const int ends = pipes_now().ends;
    assert_is(setrlimit(RLIMIT_NOFILE, &less), 0);
    for (uint64_t offset = 0; offset < 4 * MEGABYTE; offset += MEGABYTE) say(s.loop, s.left.client, MEGABYTE, offset);
    (void)comes(s.loop, [&] { return there.received >= 4 * MEGABYTE; });
    assert_is(setrlimit(RLIMIT_NOFILE, &before), 0);
    until_received(s.loop, &there, 4 * MEGABYTE);
    assert_is(pipes_now().ends, ends);
    assert_is(s.told.calls, 0);
}

TEST(a_loop_has_its_share_of_pipes_and_no_more) {
    constexpr int MANY = 80;
    static between s[MANY];
    static inbox in[MANY];
    mio_loop_t *loop = loop_open();
    const int before = pipes_now().ends;
    for (between &one : s) {
        one = {};
        one.loop = loop;
        one.left = unix_pair(loop);
        one.right = unix_pair(loop);
        one.a = one.left.server;
        one.b = one.right.server;
        relay_start(&one);
        say(loop, one.left.client, MEGABYTE, 0);
    }
    for (int i = 0; i < 100; i++) run_for(loop, MIO_MILLISECOND);
    ck_assert_int_le(pipes_now().ends, before + 2 * 64);
    if (can_splice()) ck_assert_int_gt(pipes_now().ends, before + 2 * 8);
    for (int i = 0; i < MANY; i++) {
        in[i] = {};
        hear(s[i].right.client, &in[i]);
    }
    for (const inbox &one : in) until_received(loop, &one, MEGABYTE);
    ck_assert_int_le(pipes_now().ends, before + 2 * 8); // what is kept
    for (between &one : s) assert_is(one.told.calls, 0);
}

// --- bytes ----------------------------------------------------------------------------------------------------------

struct talker {
    mio_stream_t *stream;
    uint64_t said;
    inbox heard;
    bool paused;
};

TEST(bulk_both_ways_with_pauses_is_carried_to_the_byte) {
    const uint64_t total = on_sim() ? 2 * MEGABYTE : 32 * MEGABYTE;
    between s;
    between_open(&s);
    static talker talkers[2];
    memset(static_cast<void *>(talkers), 0, sizeof talkers);
    talkers[0].stream = s.left.client;
    talkers[1].stream = s.right.client;
    for (talker &t : talkers) hear(t.stream, &t.heard);
    unsigned draw = static_cast<unsigned>(seed()) * 2654435761u + 1;
    const int ends = pipes_now().ends;
    for (int i = 0; i < 400000 && (talkers[0].heard.ends == 0 || talkers[1].heard.ends == 0); i++) {
        for (talker &t : talkers) {
            draw = draw * 1664525u + 1013904223u;
            const unsigned dice = draw >> 20;
            while (t.said < total && mio_stream_queued_bytes(t.stream) < MEGABYTE) {
                size_t n = dice % 7 == 0 ? 100 : 500000;
                if (n > total - t.said) n = static_cast<size_t>(total - t.said);
                say(s.loop, t.stream, n, t.said);
                t.said += n;
                if (t.said == total) ck_assert_int_gt(mio_stream_shutdown(t.stream, nullptr, nullptr), 0);
            }
            if (t.heard.ends == 0 && t.paused) assert_is(mio_stream_read_resume(t.stream), 0);
            t.paused = false;
            if (t.heard.ends == 0 && dice % 16 == 3) {
                assert_is(mio_stream_read_pause(t.stream), 0);
                t.paused = true;
            }
        }
        (void)mio_loop_run_once(s.loop, on_sim() ? 0 : MIO_MILLISECOND);
    }
    until_told(&s);
    assert_is(s.told.status, 0);
    assert_is(s.told.a_to_b, static_cast<int64_t>(total));
    assert_is(s.told.b_to_a, static_cast<int64_t>(total));
    for (const talker &t : talkers) {
        ck_assert_uint_eq(t.heard.received, total);
        assert_is(t.heard.end, MIO_EOF);
        ck_assert(!t.heard.wrong);
    }
    if (can_splice()) ck_assert_int_gt(pipes_now().ends, ends); // kept
}

TEST(bulk_and_small_messages_take_turns) {
    for (int kind = 0; kind < 2; kind++) {
        between s;
        between_open(&s, kind == 1);
        inbox there = {};
        hear(s.right.client, &there);
        uint64_t said = 0;
        for (int round = 0; round < 3; round++) {
            say(s.loop, s.left.client, 2 * MEGABYTE, said);
            said += 2 * MEGABYTE;
            until_received(s.loop, &there, said);
            for (int i = 0; i < 30; i++) {
                say(s.loop, s.left.client, 100, said);
                said += 100;
                until_received(s.loop, &there, said);
            }
        }
        ck_assert_int_gt(mio_stream_shutdown(s.left.client, nullptr, nullptr), 0);
        until_ended(s.loop, &there);
        ck_assert_int_gt(mio_stream_shutdown(s.right.client, nullptr, nullptr), 0);
        until_told(&s);
        assert_is(s.told.status, 0);
        assert_is(s.told.a_to_b, static_cast<int64_t>(said));
        loop_close(s.loop);
    }
}

TEST(an_urgent_byte_does_not_hold_bulk_up) {
    KERNEL_ONLY("a simulated world has no urgent bytes");
    between s;
    between_open(&s);
    inbox there = {};
    there.is_text = true; // the urgent byte is none of it
    hear(s.right.client, &there);
    say(s.loop, s.left.client, 4 * MEGABYTE, 0);
    until_received(s.loop, &there, 4 * MEGABYTE);
    uint64_t said = 4 * MEGABYTE;
    for (int round = 0; round < 5; round++) {
        assert_is(send(mio_stream_fd(s.left.client), "!", 1, MSG_OOB), 1);
        if (round % 2 == 1) run_for(s.loop, MIO_MILLISECOND);
        say(s.loop, s.left.client, round == 4 ? 10 : MEGABYTE, said);
        said += round == 4 ? 10 : MEGABYTE;
        until_received(s.loop, &there, said);
    }
    assert_is(s.told.calls, 0);
}

TEST(what_is_pushed_back_while_bytes_are_in_the_pipe_comes_before_the_rest) {
    between s;
    const uint64_t total = spliced_open(&s);
    mio_buf_t text = text_buf(s.loop, "pushed");
    assert_is(mio_stream_unread(s.a, &text), 0);
    run_for(s.loop, MIO_MILLISECOND);
    assert_is(mio_req_cancel(s.loop, s.id), 0);
    until_told(&s);
    const uint64_t accepted = static_cast<uint64_t>(s.told.a_to_b);
    relay_start(&s);
    inbox there = {};
    there.is_text = true;
    hear(s.right.client, &there);
    until_received(s.loop, &there, total + 6);
    ck_assert_uint_lt(accepted, total);
}

TEST(writes_of_the_program_are_in_order_with_what_is_in_the_pipe) {
    between s;
    spliced_open(&s);
    outcome written = {};
    mio_buf_t text = text_buf(s.loop, "behind");
    ck_assert_int_gt(mio_stream_write(s.b, &text, 1, write_told, &written), 0);
    const size_t queued = mio_stream_queued_bytes(s.b);
    ck_assert_uint_gt(queued, 6);
    assert_is(mio_req_cancel(s.loop, s.id), 0);
    until_told(&s);
    assert_is(written.calls, 0);
    assert_is(mio_stream_queued_bytes(s.b), 6); // nothing of the relay's
    inbox there = {};
    there.is_text = true;
    hear(s.right.client, &there);
    until_received(s.loop, &there, static_cast<uint64_t>(s.told.a_to_b) + 6);
    assert_is(written.status, 0);
}

TEST(a_warm_relay_of_bulk_allocates_nothing) {
    between s;
    between_open(&s);
    inbox there = {};
    there.is_text = true;
    hear(s.right.client, &there);
    static char bytes[MEGABYTE];
    uint64_t warm = 0;
    int without = 0; // rounds since the last allocation: how many blocks are under way at once is the machine's affair
    for (uint64_t round = 0; round < 100 && without < 8; round++) {
        mio_buf_t part = mio_buf_borrow(bytes, sizeof bytes);
        ck_assert_int_gt(mio_stream_write(s.left.client, &part, 1, nullptr, nullptr), 0);
        until_received(s.loop, &there, (round + 1) * MEGABYTE);
        const uint64_t now = metrics(s.loop).allocations;
        without = now == warm ? without + 1 : 0;
        warm = now;
    }
    assert_is(without, 8);
}
