// The ring: requests that are cancelled in the moment in which they complete. One callback each, the real result wins,
// and no byte, no connection is lost: bytes are a pattern that goes on from round to round.
#include "ring.h"

#include <fcntl.h>

using namespace api;

// --- cancelled while it completes -----------------------------------------------------------------------------------

// When the bytes come, and when the cancel.
enum moment {
    BEFORE_THE_START_IS_FLUSHED, // both before the kernel knows of the request
    ARMED_THEN_BOTH,             // the kernel has it; bytes, cancel, poll
    ARMED_CANCEL_FIRST,
    BEHIND_THE_POLL,             // by a check hook: the completion is in the queue already
    SAME_BATCH,                  // by the callback of another stream, whose bytes came first
    BEFORE_THE_POLL,             // by a prepare hook
    MOMENTS
};

enum reading { READ, READ_EXACT, READ_UNTIL, READ_START, READINGS };

struct race {
    mio_loop_t *loop;
    half mine, other;
    mio_hook_t *hook;
    int when, how;
    mio_req_t id;
    uint64_t sent, received; // pattern bytes
    int calls, got, cancelled;
    bool struck;
    char room[64];
};

static void race_strike(race *r) {
    if (r->struck) return;
    r->struck = true;
    const int error = r->how == READ_START ? mio_stream_read_stop(r->mine.stream) : mio_req_cancel(r->loop, r->id);
    must(error == 0 || error == MIO_EALREADY || error == (r->how == READ_START ? MIO_EINVAL : MIO_ENOENT), "cancel");
}

static void race_told(mio_stream_t *, int64_t n, mio_buf_t *buf, void *arg) {
    race *r = static_cast<race *>(arg);
    must(n != 0 && pattern_is(buf->base, buf->len, r->received), "bytes of a cancelled read");
    r->received += buf->len;
    if (r->how == READ_START && n > 0) return;
    r->calls++;
    if (n > 0) r->got++;
    else {
        must(n == MIO_ECANCELED || (n == MIO_EMSGSIZE && r->how == READ_UNTIL), "a cancelled read ends otherwise");
        r->cancelled++;
    }
}

static void race_start(race *r) {
    mio_buf_t space = mio_buf_space(r->room, sizeof r->room);
    if (r->how == READ) r->id = mio_stream_read(r->mine.stream, &space, race_told, r);
    if (r->how == READ_EXACT) r->id = mio_stream_read_exact(r->mine.stream, &space, 7, race_told, r);
    if (r->how == READ_UNTIL) r->id = mio_stream_read_until(r->mine.stream, &space, "\x55", 1, 0, race_told, r);
    if (r->how == READ_START) r->id = mio_stream_read_start(r->mine.stream, 0, race_told, r);
    ck_assert_int_gt(r->id, 0);
}

static void race_send(race *r) {
    peer_send(r->mine.peer, 5, r->sent);
    r->sent += 5;
}

static void race_round(race *r) {
    r->struck = false;
    const int before = r->calls;
    race_start(r);
    if (r->when != BEFORE_THE_START_IS_FLUSHED) turns(r->loop, 1);
    if (r->when == ARMED_CANCEL_FIRST) race_strike(r);
    if (r->when == SAME_BATCH) assert_is(send(r->other.peer, "x", 1, MSG_NOSIGNAL), 1);
    if (r->when != BEFORE_THE_POLL) race_send(r);
    if (r->when == BEFORE_THE_START_IS_FLUSHED || r->when == ARMED_THEN_BOTH) race_strike(r);
    if (r->when == BEHIND_THE_POLL || r->when == BEFORE_THE_POLL)
        assert_is(mio_hook_start(r->hook, [](mio_hook_t *hook, void *arg) {
            race *self = static_cast<race *>(arg);
            if (self->when == BEFORE_THE_POLL) race_send(self);
            race_strike(self);
            assert_is(mio_hook_stop(hook), 0);
        }, r), 0);
    turns(r->loop, 2);
    race_strike(r); // where nothing has
    run_until(r->loop, &r->calls, before + 1, "a cancelled read is told of");
    turns(r->loop, 1);
    assert_is(r->calls, before + 1);
}

static void race_drain(race *r) {
    const int64_t end_ns = clock_ns() + patience(EVER);
    r->how = READ_START;
    race_start(r);
    while (r->received < r->sent) {
        ck_assert_msg(clock_ns() < end_ns, "%llu of %llu bytes came", static_cast<unsigned long long>(r->received),
                      static_cast<unsigned long long>(r->sent));
        assert_ok(mio_loop_run_once(r->loop, MIO_MILLISECOND));
    }
    assert_is(r->received, r->sent);
}

static void races_of(int of, int how, int when, int rounds) {
    race r = {};
    r.loop = loop_open();
    r.how = how;
    r.when = when;
    r.mine = half_open(r.loop, of);
    r.other = half_open(r.loop, of);
    assert_is(mio_hook_create(r.loop, when == BEFORE_THE_POLL ? MIO_HOOK_PREPARE : MIO_HOOK_CHECK, &r.hook), 0);
    ck_assert_int_gt(mio_stream_read_start(r.other.stream, 0, [](mio_stream_t *, int64_t n, mio_buf_t *, void *arg) {
        race *self = static_cast<race *>(arg);
        if (n > 0 && self->when == SAME_BATCH) race_strike(self);
    }, &r), 0);
    turns(r.loop, 2);
    for (int i = 0; i < rounds; i++) race_round(&r);
    assert_is(r.got + r.cancelled, rounds);
    r.how = READ_START;
    race_drain(&r);
    mio_handle_abandon(r.hook);
    half_close(&r.mine);
    half_close(&r.other);
    loop_close(r.loop);
}

TEST(a_thousand_reads_cancelled_while_they_complete_lose_no_byte) {
    KERNEL_ONLY("its peers are descriptors of the kernel");
    for (int of = 0; of < FAMILIES; of++)
        for (int how = 0; how < READINGS; how++)
            for (int when = 0; when < MOMENTS; when++) races_of(of, how, when, 25);
}

// --- accepts --------------------------------------------------------------------------------------------------------

struct arrivals {
    int fds[64];
    int seen[1000]; // how often each number arrived
    int arrived;
    mio_listener_t *listener;
};

static void arrival_read(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg) {
    arrivals *to = static_cast<arrivals *>(arg);
    assert_is(n, 4);
    int32_t number;
    memcpy(&number, buf->base, 4);
    to->seen[number]++;
    to->arrived++;
    assert_is(mio_handle_close(stream, nullptr, nullptr), 0);
}

static void arrival_accepted(mio_listener_t *listener, int status, mio_stream_t *stream, void *arg) {
    if (status == MIO_ECANCELED) return;
    assert_is(status, 0);
    mio_buf_t room = {};
    assert_is(mio_buf_alloc(mio_handle_loop(listener), 4, &room), 0);
    ck_assert_int_gt(mio_stream_read_exact(stream, &room, 4, arrival_read, arg), 0);
}

TEST(a_thousand_accepts_paused_while_they_complete_lose_no_connection) {
    KERNEL_ONLY("its peers are descriptors of the kernel");
    mio_loop_t *loop = loop_open();
    static arrivals to;
    to = {};
    mio_addr_t at;
    to.listener = listen_on(loop, arrival_accepted, &to, &at);
    mio_hook_t *hook;
    assert_is(mio_hook_create(loop, MIO_HOOK_CHECK, &hook), 0);
    int number = 0;
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < 5; i++) { // of five, some are accepted before the pause and some after it
            if (i == round % 5) turns(loop, 1);
            to.fds[i] = raw_connect(&at);
            const int32_t sent = number++;
            assert_is(send(to.fds[i], &sent, 4, MSG_NOSIGNAL), 4);
        }
        if (round % 3 == 0) assert_is(mio_listener_pause(to.listener), 0);
        if (round % 3 == 1)
            assert_is(mio_hook_start(hook, [](mio_hook_t *self, void *arg) {
                assert_is(mio_listener_pause(static_cast<arrivals *>(arg)->listener), 0);
                assert_is(mio_hook_stop(self), 0);
            }, &to), 0);
        turns(loop, round % 4);
        if (round % 2 == 0) assert_is(mio_listener_pause(to.listener), 0);
        assert_is(mio_listener_resume(to.listener), 0);
        if (round % 3 == 1) {
            turns(loop, 1);
            mio_hook_stop(hook);
            assert_is(mio_listener_resume(to.listener), 0);
        }
        run_until(loop, &to.arrived, number, "connections arrive");
        for (int i = 0; i < 5; i++) close(to.fds[i]);
    }
    assert_is(number, 1000);
    for (int seen : to.seen) assert_is(seen, 1);
    mio_handle_abandon(hook);
}

TEST(a_listener_closed_while_it_accepts_leaves_no_connection_without_an_end) {
    KERNEL_ONLY("its peers are descriptors of the kernel");
    mio_loop_t *loop = loop_open();
    for (int round = 0; round < 100; round++) {
        static int accepted;
        accepted = 0;
        mio_addr_t at;
        mio_listener_t *listener = listen_on(loop, [](mio_listener_t *, int status, mio_stream_t *stream, void *) {
            if (status != 0) return;
            accepted++;
            assert_is(mio_handle_close(stream, nullptr, nullptr), 0);
        }, nullptr, &at);
        if (round % 4 != 0) turns(loop, 1);
        int fds[4];
        for (int &fd : fds) {
            fd = raw_connect(&at);
            patience_set(fd);
        }
        if (round % 4 == 2) turns(loop, 1);
        if (round % 4 == 3) mio_handle_abandon(listener);
        else assert_is(mio_handle_close(listener, nullptr, nullptr), 0);
        run_to_end(loop);
        for (int fd : fds) {
            char byte;
            const ssize_t n = peer_receive(fd, &byte, 1);
            ck_assert_msg(n == 0 || errno == ECONNRESET, "round %d: no end, errno %d", round, errno);
            close(fd);
        }
    }
}

// --- connects -------------------------------------------------------------------------------------------------------

struct calling {
    int calls, connected, cancelled;
    mio_req_t id;
    mio_loop_t *loop;
};

TEST(a_thousand_connects_cancelled_while_they_complete_are_told_once) {
    KERNEL_ONLY("its peers are descriptors of the kernel");
    mio_loop_t *loop = loop_open();
    mio_addr_t at;
    const int listener = raw_listen(128, &at);
    assert_is(fcntl(listener, F_SETFL, O_NONBLOCK), 0);
    static calling c;
    c = {};
    c.loop = loop;
    mio_hook_t *hook;
    assert_is(mio_hook_create(loop, MIO_HOOK_CHECK, &hook), 0);
    for (int round = 0; round < 1000; round++) {
        mio_stream_t *stream;
        c.id = mio_tcp_connect(loop, &at, nullptr, [](mio_stream_t *, int status, void *) {
            c.calls++;
            if (status == 0) c.connected++;
            else {
                assert_is(status, MIO_ECANCELED);
                c.cancelled++;
            }
        }, nullptr, &stream);
        ck_assert_int_gt(c.id, 0);
        if (round % 4 == 0) mio_req_cancel(loop, c.id);
        if (round % 4 == 1)
            assert_is(mio_hook_start(hook, [](mio_hook_t *self, void *) {
                mio_req_cancel(c.loop, c.id);
                assert_is(mio_hook_stop(self), 0);
            }, nullptr), 0);
        if (round % 4 == 2) {
            turns(loop, 1);
            mio_req_cancel(loop, c.id);
        }
        run_until(loop, &c.calls, round + 1, "a cancelled connect is told of");
        turns(loop, 1);
        assert_is(c.calls, round + 1);
        mio_handle_abandon(stream);
        for (int fd; (fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) raw_reset(fd);
    }
    assert_is(c.connected + c.cancelled, 1000);
    ck_assert_int_ge(c.connected, 250); // those that nobody cancelled
    mio_handle_abandon(hook);
    close(listener);
}

// --- writes ---------------------------------------------------------------------------------------------------------

struct posting {
    mio_loop_t *loop;
    mio_req_t id;
    int calls, status;
    int64_t sent;
    bool late; // the cancel comes in the check phase
};
static posting post;

static void post_told(mio_stream_t *, int status, int64_t sent, mio_buf_t *, unsigned, void *) {
    post.calls++;
    post.status = status;
    post.sent = sent;
}

TEST(a_thousand_writes_cancelled_while_they_complete_count_every_byte) {
    KERNEL_ONLY("its peers are descriptors of the kernel");
    for (int of = 0; of < FAMILIES; of++) {
        mio_loop_t *loop = loop_open();
        half mine = half_open(loop, of);
        post = {};
        post.loop = loop;
        mio_hook_t *hook;
        assert_is(mio_hook_create(loop, MIO_HOOK_CHECK, &hook), 0);
        uint64_t accepted = 0;
        for (int round = 0; round < 500; round++) {
            const size_t n = 1 + static_cast<size_t>(round * 37 % 3000);
            mio_buf_t bytes = pattern_buf(loop, n, accepted);
            post.id = mio_stream_write(mine.stream, &bytes, 1, post_told, nullptr);
            ck_assert_int_gt(post.id, 0);
            if (round % 3 == 0) mio_req_cancel(loop, post.id);
            if (round % 3 == 1)
                assert_is(mio_hook_start(hook, [](mio_hook_t *self, void *) {
                    mio_req_cancel(post.loop, post.id);
                    assert_is(mio_hook_stop(self), 0);
                }, nullptr), 0);
            run_until(loop, &post.calls, round + 1, "a cancelled write is told of");
            if (post.status == 0) assert_is(post.sent, n);
            else assert_is(post.sent, 0); // there was room for all of it
            char back[3000];
            for (size_t at = 0; at < static_cast<size_t>(post.sent);) {
                const ssize_t got = peer_receive(mine.peer, back, static_cast<size_t>(post.sent) - at);
                ck_assert_int_gt(got, 0);
                ck_assert(pattern_is(back, static_cast<size_t>(got), accepted + at));
                at += static_cast<size_t>(got);
            }
            ck_assert_int_lt(recv(mine.peer, back, 1, MSG_DONTWAIT), 0); // and not one more
            accepted += static_cast<uint64_t>(post.sent);
        }
        assert_is(post.calls, 500);
        mio_handle_abandon(hook);
        half_close(&mine);
        loop_close(loop);
    }
}

TEST(a_write_that_is_cancelled_half_sent_says_how_much_arrives) {
    KERNEL_ONLY("its peers are descriptors of the kernel");
    mio_loop_t *loop = loop_open();
    for (int round = 0; round < 60; round++) {
        half mine = half_open(loop, round % 2);
        post = {};
        mio_buf_t bytes = pattern_buf(loop, NARROW_ROOM, 0);
        const mio_req_t id = mio_stream_write(mine.stream, &bytes, 1, post_told, nullptr);
        ck_assert_int_gt(id, 0);
        turns(loop, round % 5);
        mio_req_cancel(loop, id);
        run_until(loop, &post.calls, 1, "a cancelled write is told of");
        assert_is(mio_handle_close(mine.stream, nullptr, nullptr), 0);
        run_to_end(loop);
        assert_is(received_until_end(mine.peer), post.sent);
        close(mine.peer);
    }
}
