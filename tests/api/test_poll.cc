// Polls: descriptors of others, told by level, let go of at once.
#include "harness.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace api;

// A descriptor of the program's, and a stream at its other end: on every backend.
struct outsider {
    int fd;
    mio_stream_t *peer;
};

static outsider outsider_open(mio_loop_t *loop) {
    static int fd;
    pair streams = connect_pair(loop);
    fd = -1;
    ck_assert_int_gt(mio_stream_detach(streams.client, [](mio_stream_t *stream, int status, int detached, mio_buf_t *, unsigned, void *) {
        assert_is(status, 0);
        fd = detached;
        mio_loop_stop(mio_handle_loop(stream));
    }, nullptr), 0);
    run_to_stop(loop);
    ck_assert_int_ge(fd, 0);
    assert_is(mio_handle_unref(streams.server), 0);
    return {fd, streams.server};
}

// A simulated descriptor is closed by a stream that adopts it.
static void outsider_close(mio_loop_t *loop, int fd) {
    if (!on_sim()) {
        assert_is(close(fd), 0);
        return;
    }
    mio_stream_t *stream;
    assert_is(mio_stream_adopt(loop, fd, nullptr, 0, &stream), 0);
    mio_handle_abandon(stream);
}

struct seen {
    int calls, ends;
    unsigned events, last; // all of them, of the last call
    int status;
    int stop_at;           // > 0: stops the loop at the so manieth call
    int set_to;            // > 0: asks for events - 1 then
};

static void poll_told(mio_poll_t *poll, int status, unsigned events, void *arg) {
    if (is_over()) return;
    seen *told = static_cast<seen *>(arg);
    told->calls++;
    told->status = status;
    told->last = events;
    told->events |= events;
    assert_is(status == 0, events != 0);
    if (status == MIO_ECANCELED || status == MIO_EBADF) told->ends++;
    if (told->set_to > 0) {
        const unsigned to = static_cast<unsigned>(told->set_to - 1);
        told->set_to = 0;
        assert_is(mio_poll_set(poll, to, poll_told, arg), 0);
    }
    if (told->calls == told->stop_at) mio_loop_stop(mio_handle_loop(poll));
}

static mio_poll_t *poll_open(mio_loop_t *loop, int fd, unsigned events, seen *told) {
    mio_poll_t *poll;
    *told = seen();
    assert_is(mio_poll_open(loop, fd, &poll), 0);
    if (events != 0) assert_is(mio_poll_set(poll, events, poll_told, told), 0);
    return poll;
}

struct scene {
    mio_loop_t *loop;
    outsider out;
    mio_poll_t *poll;
};

static scene scene_open(unsigned events, seen *told) {
    scene s = {};
    s.loop = loop_open();
    s.out = outsider_open(s.loop);
    s.poll = poll_open(s.loop, s.out.fd, events, told);
    return s;
}

// Some turns of a loop that has nothing to wait for but what the test is about: none comes that should not.
static void some_turns(mio_loop_t *loop) {
    for (int i = 0; i < 10; i++) assert_ok(mio_loop_run_once(loop, 0));
}

// A loop that is asleep all the time needs a few turns; one that spins needs thousands.
static void assert_sleeps(mio_loop_t *loop) {
    assert_is(mio_loop_hold(loop, 1), 0);
    const uint64_t before = metrics(loop).turns;
    run_for(loop, 50 * MIO_MILLISECOND);
    ck_assert_uint_le(metrics(loop).turns - before, 30);
    assert_is(mio_loop_hold(loop, -1), 0);
}

static void say(mio_stream_t *stream, const char *what) {
    mio_buf_t text = text_buf(mio_handle_loop(stream), what);
    ck_assert_int_gt(mio_stream_write(stream, &text, 1, nullptr, nullptr), 0);
}

static void pair_of(int fds[2]) { assert_is(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0); }

// --- mistakes and ends ----------------------------------------------------------------------------------------------

TEST(a_poll_answers_each_mistake) {
    mio_loop_t *loop = loop_open();
    outsider out = outsider_open(loop);
    static seen told;
    mio_poll_t *poll = nullptr;
    assert_is(mio_poll_open(nullptr, out.fd, &poll), MIO_EINVAL);
    assert_is(mio_poll_open(loop, out.fd, nullptr), MIO_EINVAL);
    assert_is(mio_poll_open(loop, -1, &poll), MIO_EBADF);
    assert_is(mio_poll_open(loop, on_sim() ? 0 : 0x3fffffff, &poll), MIO_EBADF);
    ck_assert_ptr_null(poll);
    poll = poll_open(loop, out.fd, 0, &told);
    assert_is(mio_poll_set(nullptr, MIO_POLL_IN, poll_told, &told), MIO_EINVAL);
    assert_is(mio_poll_set(poll, MIO_POLL_HUP, poll_told, &told), MIO_EINVAL);
    assert_is(mio_poll_set(poll, 1u << 20, poll_told, &told), MIO_EINVAL);
    assert_is(mio_poll_set(poll, MIO_POLL_IN, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_poll_events(nullptr), MIO_EINVAL);
    assert_is(mio_poll_fd(nullptr), MIO_EINVAL);
    assert_is(mio_poll_events(poll), 0);
    assert_is(mio_poll_fd(poll), out.fd);
    assert_is(mio_handle_kind(poll), MIO_KIND_POLL);
    ck_assert_ptr_eq(mio_poll_from(poll), poll);
    ck_assert_ptr_null(mio_poll_from(out.peer));
    ck_assert_ptr_null(mio_stream_from(poll));
    assert_is(mio_poll_set(poll, 0, nullptr, nullptr), 0);
    outcome closed = {};
    assert_is(mio_handle_close(poll, close_told, &closed), 0);
    assert_is(mio_poll_set(poll, MIO_POLL_IN, poll_told, &told), MIO_EBADF);
    assert_is(mio_poll_events(poll), MIO_EBADF);
    assert_is(mio_poll_fd(poll), MIO_EBADF);
    run_to_end(loop);
    assert_is(closed.calls, 1);
    assert_is(told.calls, 0); // nobody was ever named
    outsider_close(loop, out.fd);
}

TEST(a_poll_that_is_closed_is_told_so_last) {
    static seen told;
    auto [loop, out, poll] = scene_open(MIO_POLL_IN, &told);
    some_turns(loop);
    assert_is(told.calls, 0);
    say(out.peer, "x");
    outcome closed = {};
    assert_is(mio_handle_close(poll, close_told, &closed), 0);
    outsider_close(loop, out.fd);
    run_to_end(loop);
    assert_is(told.calls, 1);
    assert_is(told.status, MIO_ECANCELED);
    assert_is(closed.calls, 1);
}

// Before the flush, while it waits, with its event in the queue, in its callback.
TEST(a_poll_is_closed_and_abandoned_in_every_state) {
    mio_loop_t *loop = loop_open();
    for (int state = 0; state < 3; state++)
        for (int how = 0; how < 3; how++) {
            outsider out = outsider_open(loop);
            static seen told;
            mio_poll_t *poll = poll_open(loop, out.fd, MIO_POLL_IN, &told);
            if (state == 1) some_turns(loop);
            if (state == 2) {
                told.stop_at = 1;
                say(out.peer, "x");
                run_to_stop(loop);
            }
            const int before = told.calls;
            outcome closed = {};
            if (how != 0) assert_is(mio_handle_close(poll, close_told, &closed), 0);
            if (how != 1) mio_handle_abandon(poll);
            outsider_close(loop, out.fd);
            assert_is(mio_handle_ref(out.peer), 0);
            mio_handle_abandon(out.peer);
            run_to_end(loop);
            assert_is(told.calls - before, how == 1 ? 1 : 0);
            assert_is(closed.calls, how == 1 ? 1 : 0);
        }
}

static void close_self(mio_poll_t *poll, int status, unsigned, void *arg) {
    if (is_over()) return;
    seen *told = static_cast<seen *>(arg);
    told->calls++;
    if (status == MIO_ECANCELED) {
        told->ends++;
        return;
    }
    assert_is(told->ends, 0);
    assert_is(mio_handle_close(poll, nullptr, nullptr), 0);
}

TEST(a_poll_is_closed_in_its_own_callback) {
    static seen told;
    auto [loop, out, poll] = scene_open(0, &told);
    assert_is(mio_poll_set(poll, MIO_POLL_OUT, close_self, &told), 0);
    run_to_end(loop);
    assert_is(told.calls, 2);
    assert_is(told.ends, 1);
    poll = poll_open(loop, out.fd, 0, &told);
    assert_is(mio_poll_set(poll, MIO_POLL_OUT, [](mio_poll_t *self, int, unsigned, void *arg) {
        static_cast<seen *>(arg)->calls++;
        mio_handle_abandon(self);
    }, &told), 0);
    run_to_end(loop);
    assert_is(told.calls, 1);
    outsider_close(loop, out.fd);
}

TEST(a_poll_abandoned_in_its_last_callback_ends) {
    static seen told;
    auto [loop, out, poll] = scene_open(0, &told);
    assert_is(mio_poll_set(poll, MIO_POLL_IN, [](mio_poll_t *self, int status, unsigned, void *arg) {
        assert_is(status, MIO_ECANCELED);
        static_cast<seen *>(arg)->calls++;
        mio_handle_abandon(self);
    }, &told), 0);
    outcome closed = {};
    assert_is(mio_handle_close(poll, close_told, &closed), 0);
    run_to_end(loop);
    assert_is(told.calls, 1);
    assert_is(closed.calls, 0);
    outsider_close(loop, out.fd);
}

TEST(a_loop_is_destroyed_with_polls_on_it) {
    mio_loop_options_t options = loop_options();
    mio_loop_t *loop = loop_open_with(&options);
    outsider out = outsider_open(loop);
    outsider ready = outsider_open(loop);
    static int cancelled;
    cancelled = 0;
    auto told = [](mio_poll_t *, int status, unsigned, void *) {
        if (status == MIO_ECANCELED) cancelled++;
    };
    mio_poll_t *poll;
    assert_is(mio_poll_open(loop, out.fd, &poll), 0);
    assert_is(mio_poll_set(poll, MIO_POLL_IN, told, nullptr), 0);
    assert_is(mio_poll_open(loop, ready.fd, &poll), 0);
    assert_is(mio_poll_set(poll, MIO_POLL_OUT, told, nullptr), 0);
    some_turns(loop);
    assert_is(mio_loop_destroy(loop, MIO_FOREVER), 0);
    loop_forget(loop);
    assert_is(cancelled, 2);
    mio_loop_t *other = loop_open();
    outsider_close(other, out.fd);
    outsider_close(other, ready.fd);
}

TEST(a_poll_without_memory_is_refused) {
    mio_loop_t *loop = loop_open();
    outsider out = outsider_open(loop);
    static seen told;
    counting *count = loop_counting(loop);
    mio_poll_t *poll = nullptr;
    count->fail_at = 1;
    count->fail_on = true;
    assert_is(mio_poll_open(loop, out.fd, &poll), MIO_ENOMEM);
    count->fail_at = 0;
    count->fail_on = false;
    poll = poll_open(loop, out.fd, MIO_POLL_OUT, &told);
    told.stop_at = 1;
    run_to_stop(loop);
    mio_handle_abandon(poll);
    outsider_close(loop, out.fd);
}

// --- by level -------------------------------------------------------------------------------------------------------

TEST(a_poll_tells_by_level) {
    static seen told;
    auto [loop, out, poll] = scene_open(MIO_POLL_IN, &told);
    some_turns(loop);
    assert_is(told.calls, 0);
    say(out.peer, "bytes");
    told.stop_at = 5;
    run_to_stop(loop);
    assert_is(told.events, MIO_POLL_IN);
    assert_is(mio_poll_set(poll, 0, nullptr, nullptr), 0);
    const int before = told.calls;
    some_turns(loop);
    assert_is(told.calls, before);
    assert_is(mio_poll_set(poll, MIO_POLL_IN | MIO_POLL_OUT, poll_told, &told), 0);
    told.stop_at = before + 3;
    run_to_stop(loop);
    assert_is(told.last, MIO_POLL_IN | MIO_POLL_OUT);
    mio_handle_abandon(poll);
    outsider_close(loop, out.fd);
}

TEST(a_poll_asks_for_what_it_was_set_to_last) {
    mio_loop_t *loop = loop_open();
    outsider out = outsider_open(loop);
    static seen told, other;
    mio_poll_t *poll = poll_open(loop, out.fd, MIO_POLL_OUT, &told);
    say(out.peer, "bytes");
    assert_is(mio_poll_set(poll, MIO_POLL_IN, poll_told, &told), 0); // in the same turn
    told.stop_at = 2;
    run_to_stop(loop);
    assert_is(told.events, MIO_POLL_IN);
    other = seen();
    other.stop_at = 3;
    assert_is(mio_poll_set(poll, MIO_POLL_OUT, poll_told, &other), 0); // between turns, to somebody else
    run_to_stop(loop);
    assert_is(told.calls, 2);
    assert_is(other.events, MIO_POLL_OUT);
    other = seen();
    other.set_to = 1 + MIO_POLL_IN; // in the callback
    other.stop_at = 4;
    run_to_stop(loop);
    assert_is(other.last, MIO_POLL_IN);
    assert_is(mio_poll_events(poll), MIO_POLL_IN);
    other = seen();
    other.set_to = 1; // and to nothing
    run_to_end(loop); // so that it does not keep the loop
    assert_is(other.calls, 1);
    assert_is(mio_poll_events(poll), 0);
    for (unsigned i = 0; i < 20; i++) assert_is(mio_poll_set(poll, (i % 2) * MIO_POLL_IN, poll_told, &other), 0);
    assert_is(mio_poll_set(poll, 0, nullptr, nullptr), 0);
    some_turns(loop);
    assert_is(other.calls, 1);
    for (unsigned i = 0; i < 20; i++) assert_is(mio_poll_set(poll, (i % 2) * MIO_POLL_IN, poll_told, &other), 0);
    other.stop_at = 2;
    run_to_stop(loop);
    mio_handle_abandon(poll);
    outsider_close(loop, out.fd);
}

TEST(a_poll_keeps_the_loop_going_while_it_asks) {
    static seen told;
    auto [loop, out, poll] = scene_open(0, &told);
    assert_is(mio_loop_run(loop), 0);
    assert_is(mio_poll_set(poll, MIO_POLL_IN, poll_told, &told), 0);
    assert_is(mio_loop_run_once(loop, 0), MIO_ALIVE);
    assert_is(mio_handle_unref(poll), 0);
    assert_is(mio_loop_run(loop), 0);
    assert_is(mio_handle_ref(poll), 0);
    assert_is(mio_loop_run_once(loop, 0), MIO_ALIVE);
    assert_is(mio_poll_set(poll, 0, nullptr, nullptr), 0);
    assert_is(mio_loop_run(loop), 0);
    assert_is(told.calls, 0);
    mio_handle_abandon(poll);
    outsider_close(loop, out.fd);
}

TEST(the_peers_end_is_told) {
    static seen told;
    auto [loop, out, poll] = scene_open(MIO_POLL_RDHUP, &told);
    say(out.peer, "bytes that nobody has asked for");
    some_turns(loop);
    assert_is(told.calls, 0);
    assert_sleeps(loop);
    assert_is(told.calls, 0);
    outcome shut = {};
    ck_assert_int_gt(mio_stream_shutdown(out.peer, stream_told, &shut), 0);
    told.stop_at = 2;
    run_to_stop(loop);
    assert_is(told.events, MIO_POLL_RDHUP);
    assert_is(mio_poll_set(poll, MIO_POLL_IN, poll_told, &told), 0);
    told.stop_at = told.calls + 1;
    run_to_stop(loop);
    assert_is(told.last, MIO_POLL_IN);
    mio_handle_abandon(poll);
    outsider_close(loop, out.fd);
}

TEST(a_reset_is_told_unasked) {
    static seen told;
    auto [loop, out, poll] = scene_open(MIO_POLL_IN, &told);
    assert_is(mio_tcp_linger(out.peer, 0), 0);
    assert_is(mio_handle_close(out.peer, nullptr, nullptr), 0);
    told.stop_at = 1;
    run_to_stop(loop);
    ck_assert((told.events & MIO_POLL_HUP) != 0);
    mio_handle_abandon(poll);
    outsider_close(loop, out.fd);
}

static void drain(int fd) {
    char bytes[4096];
    while (recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0) continue;
}

TEST(what_was_read_is_not_told_again) {
    KERNEL_ONLY("nobody but a stream reads a simulated descriptor");
    mio_loop_t *loop = loop_open();
    int fds[2];
    pair_of(fds);
    static seen told;
    mio_poll_t *poll = poll_open(loop, fds[0], 0, &told);
    assert_is(mio_poll_set(poll, MIO_POLL_IN, [](mio_poll_t *self, int status, unsigned events, void *arg) {
        if (status != 0 || is_over()) return;
        drain(mio_poll_fd(self));
        poll_told(self, status, events, arg);
    }, &told), 0);
    for (int i = 1; i <= 200; i++) {
        told.stop_at = i;
        assert_is(write(fds[1], "x", 1), 1);
        run_to_stop(loop);
        assert_is(told.calls, i);
        if (i % 50 == 0) some_turns(loop);
        assert_is(told.calls, i);
    }
    assert_sleeps(loop);
    assert_is(told.calls, 200);
    mio_handle_abandon(poll);
    close(fds[0]);
    close(fds[1]);
}

TEST(room_is_told_when_there_is_some) {
    KERNEL_ONLY("nobody but a stream fills a simulated descriptor");
    mio_loop_t *loop = loop_open();
    int fds[2];
    pair_of(fds);
    static char bytes[65536];
    while (send(fds[0], bytes, sizeof bytes, MSG_DONTWAIT) > 0) continue;
    static seen told;
    mio_poll_t *poll = poll_open(loop, fds[0], MIO_POLL_IN | MIO_POLL_OUT, &told);
    assert_sleeps(loop);
    assert_is(told.calls, 0);
    drain(fds[1]);
    told.stop_at = 1;
    run_to_stop(loop);
    assert_is(told.events, MIO_POLL_OUT);
    mio_handle_abandon(poll);
    close(fds[0]);
    close(fds[1]);
}

// --- other descriptors ----------------------------------------------------------------------------------------------

TEST(pipes_and_counters_are_polled) {
    KERNEL_ONLY("a simulated world has sockets only");
    mio_loop_t *loop = loop_open();
    int fds[2];
    assert_is(pipe2(fds, O_CLOEXEC), 0);
    const int flags = fcntl(fds[0], F_GETFL);
    static seen told;
    mio_poll_t *poll = poll_open(loop, fds[0], MIO_POLL_IN, &told);
    some_turns(loop);
    assert_is(write(fds[1], "x", 1), 1);
    told.stop_at = 2;
    run_to_stop(loop);
    assert_is(told.events, MIO_POLL_IN);
    assert_is(close(fds[1]), 0);
    told.stop_at = 4;
    run_to_stop(loop);
    assert_is(told.last, MIO_POLL_IN | MIO_POLL_HUP);
    assert_is(fcntl(fds[0], F_GETFL), flags); // it is not made non-blocking
    mio_handle_abandon(poll);
    assert_is(close(fds[0]), 0);

    const int counter = eventfd(0, EFD_CLOEXEC);
    poll = poll_open(loop, counter, MIO_POLL_IN, &told);
    assert_sleeps(loop);
    const uint64_t one = 1;
    assert_is(write(counter, &one, sizeof one), 8);
    told.stop_at = 3;
    run_to_stop(loop);
    assert_is(told.events, MIO_POLL_IN);
    mio_handle_abandon(poll);
    assert_is(close(counter), 0);
}

TEST(a_file_is_always_ready) {
    KERNEL_ONLY("a simulated world has sockets only");
    mio_loop_t *loop = loop_open();
    char name[] = "/tmp/mio-poll-XXXXXX";
    const int fd = mkostemp(name, O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    assert_is(unlink(name), 0);
    static seen told;
    mio_poll_t *poll = poll_open(loop, fd, MIO_POLL_IN | MIO_POLL_OUT, &told);
    told.stop_at = 3;
    run_to_stop(loop);
    assert_is(told.last, MIO_POLL_IN | MIO_POLL_OUT);
    assert_is(mio_poll_set(poll, MIO_POLL_OUT, poll_told, &told), 0);
    told.stop_at = 6;
    run_to_stop(loop);
    assert_is(told.last, MIO_POLL_OUT);
    const int before = told.calls;
    if (!on_kqueue()) assert_is(mio_poll_set(poll, MIO_POLL_RDHUP, poll_told, &told), 0); // the model has no files
    else assert_is(mio_poll_set(poll, 0, nullptr, nullptr), 0);
    assert_sleeps(loop);
    assert_is(told.calls, before);
    mio_handle_abandon(poll);
    assert_is(close(fd), 0);
}

TEST(urgent_data_is_told) {
    KERNEL_ONLY("a simulated world has no urgent data");
    static seen told;
    auto [loop, out, poll] = scene_open(MIO_POLL_IN | MIO_POLL_PRI, &told);
    some_turns(loop);
    say(out.peer, "in front");
    assert_is(send(mio_stream_fd(out.peer), "!", 1, MSG_OOB), 1);
    while ((told.events & MIO_POLL_PRI) == 0) {
        told.stop_at = told.calls + 1;
        run_to_stop(loop);
    }
    mio_handle_abandon(poll);
    outsider_close(loop, out.fd);
}

TEST(a_listening_descriptor_is_readable_when_somebody_waits) {
    KERNEL_ONLY("nobody but a listener accepts on a simulated descriptor");
    mio_loop_t *loop = loop_open();
    mio_addr_t at;
    const int fd = raw_listen(4, &at);
    static seen told;
    mio_poll_t *poll = poll_open(loop, fd, MIO_POLL_IN, &told);
    assert_sleeps(loop);
    const int client = raw_connect(&at);
    told.stop_at = 2;
    run_to_stop(loop);
    assert_is(told.events, MIO_POLL_IN);
    mio_handle_abandon(poll);
    close(client);
    close(fd);
}

constexpr int CROWD = 300;

TEST(many_polls_are_all_told) {
    KERNEL_ONLY("a simulated world has sockets only");
    mio_loop_t *loop = loop_open();
    static seen told[CROWD];
    static int fds[CROWD][2];
    static mio_poll_t *polls[CROWD];
    for (int i = 0; i < CROWD; i++) {
        pair_of(fds[i]);
        polls[i] = poll_open(loop, fds[i][0], MIO_POLL_IN, &told[i]);
        assert_is(write(fds[i][1], "x", 1), 1);
    }
    for (bool all = false; !all;) {
        assert_ok(mio_loop_run_once(loop, MIO_SECOND));
        all = true;
        for (const seen &one : told) all &= one.calls >= 10;
    }
    for (const seen &one : told) ck_assert_int_le(one.calls, 100); // and none starves the others
    for (int i = 0; i < CROWD; i++) {
        mio_handle_abandon(polls[i]);
        close(fds[i][0]);
        close(fds[i][1]);
    }
}
