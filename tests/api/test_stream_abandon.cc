// A stream that is abandoned, as a destructor does it: in every state of its life, at once or some turns later, and again
// with the loop destroyed in that state. No callback comes, every buffer comes home, nothing is left.
#include "harness.h"

using namespace api;

enum state {
    CONNECTING, REFUSED, IDLE, READING, PAUSED, STOPPING, READS_QUEUED, EXACT_HALFWAY, UNTIL_HALFWAY, PUSHED_BACK, WRITING, WRITE_STUCK,
    WRITES_STUCK_BEHIND, WRITE_CANCELLED, ZEROCOPY, MARKED, SHUTTING_DOWN, SHUT_DOWN, ENDED, HALF_CLOSED_BOTH, RESET, FINISHING_STUCK,
    FINISHING_SILENT, DETACHING_STUCK, DETACH_CANCELLED, CLOSING_STUCK, TIMED, DEADLINES, STATES
};
constexpr int TURNS_MOST = 3;

struct owned {
    mio_buf_owner_t owner;
    char memory[512];
};

static int lent, home, told;
static bool silent; // nothing may be told any more

static void owned_release(mio_buf_owner_t *owner, char *, size_t) {
    home++;
    free(owner);
}

static mio_buf_t owned_buf(size_t len) {
    owned *self = static_cast<owned *>(malloc(sizeof *self));
    self->owner = MIO_BUF_OWNER_INIT(owned_release);
    mio_buf_t buf = mio_buf_wrap(self->memory, sizeof self->memory, &self->owner);
    ck_assert_ptr_nonnull(buf.base);
    pattern_fill(buf.base, sizeof self->memory, 0);
    buf.len = len;
    lent++;
    return buf;
}

static void note() {
    ck_assert_msg(!silent, "an abandoned stream calls back");
    told++;
}
static void on_read(mio_stream_t *, int64_t, mio_buf_t *, void *) { note(); }
static void on_written(mio_stream_t *, int, int64_t, mio_buf_t *, unsigned, void *) { note(); }
static void on_stream(mio_stream_t *, int, void *) { note(); }
static void on_mark(mio_stream_t *, int, void *) { note(); }
static void on_closed(mio_handle_t *, void *) { note(); }
static void on_detached(mio_stream_t *, int, int fd, mio_buf_t *, unsigned, void *) {
    assert_is(fd, -1); // none of these has flushed
    note();
}

struct scene {
    mio_loop_t *loop;
    mio_addr_t here, nobody;
    mio_stream_t *stream, *peer;
};

static void write_some(const scene *s, int writes) {
    for (int i = 0; i < writes; i++) {
        mio_buf_t bufs[2] = {owned_buf(500), owned_buf(500)};
        ck_assert_int_gt(mio_stream_write(s->stream, bufs, 2, on_written, nullptr), 0);
    }
}

static mio_req_t write_stuck(const scene *s) {
    mio_buf_t big = pattern_buf(s->loop, NARROW_ROOM, 0);
    const mio_req_t id = mio_stream_write(s->stream, &big, 1, on_written, nullptr);
    ck_assert_int_gt(id, 0);
    return id;
}

static mio_req_t read_one(const scene *s) {
    mio_buf_t room = owned_buf(0);
    const mio_req_t id = mio_stream_read(s->stream, &room, on_read, nullptr);
    ck_assert_int_gt(id, 0);
    return id;
}

static void read_all(const scene *s) { ck_assert_int_gt(mio_stream_read_start(s->stream, 0, on_read, nullptr), 0); }

static void peer_says(const scene *s) {
    mio_buf_t bytes = owned_buf(100);
    ck_assert_int_gt(mio_stream_write(s->peer, &bytes, 1, nullptr, nullptr), 0);
}

static void connect_to(scene *s, const mio_addr_t *at) {
    mio_handle_abandon(s->stream);
    ck_assert_int_gt(mio_tcp_connect(s->loop, at, nullptr, on_stream, nullptr, &s->stream), 0);
    write_some(s, 2);
    read_one(s);
    ck_assert_int_gt(mio_stream_shutdown(s->stream, on_stream, nullptr), 0);
}

// Leads the stream into that state, as far as one can get without a turn.
static void lead(scene *s, int into) {
    mio_buf_t room = {};
    mio_req_t id;
    switch (static_cast<state>(into)) {
    case CONNECTING: connect_to(s, &s->here); break;
    case REFUSED: connect_to(s, &s->nobody); break;
    case IDLE: break;
    case READING:
        read_all(s);
        peer_says(s);
        break;
    case PAUSED:
        read_all(s);
        peer_says(s);
        assert_is(mio_stream_read_pause(s->stream), 0);
        break;
    case STOPPING:
        read_all(s);
        peer_says(s);
        assert_is(mio_stream_read_stop(s->stream), 0);
        break;
    case READS_QUEUED:
        for (int i = 0; i < 5; i++) read_one(s);
        peer_says(s);
        break;
    case EXACT_HALFWAY:
        room = owned_buf(0);
        ck_assert_int_gt(mio_stream_read_exact(s->stream, &room, 512, on_read, nullptr), 0);
        read_one(s);
        peer_says(s);
        break;
    case UNTIL_HALFWAY:
        room = owned_buf(0);
        ck_assert_int_gt(mio_stream_read_until(s->stream, &room, "\r\n\r\n", 4, 0, on_read, nullptr), 0);
        peer_says(s);
        break;
    case PUSHED_BACK:
        room = owned_buf(100);
        assert_is(mio_stream_unread(s->stream, &room), 0);
        room = owned_buf(100);
        assert_is(mio_stream_unread(s->stream, &room), 0);
        read_one(s);
        break;
    case WRITING: write_some(s, 5); break;
    case WRITE_STUCK: write_stuck(s); break;
    case WRITES_STUCK_BEHIND:
        write_stuck(s);
        write_some(s, 5);
        break;
    case WRITE_CANCELLED:
        id = write_stuck(s);
        write_some(s, 2);
        assert_is(mio_req_cancel(s->loop, id), 0);
        break;
    case ZEROCOPY:
        room = pattern_buf(s->loop, NARROW_ROOM, 0);
        ck_assert_int_gt(mio_stream_write_flags(s->stream, &room, 1, MIO_WRITE_ZEROCOPY, on_written, nullptr), 0);
        write_some(s, 2);
        break;
    case MARKED:
        assert_is(mio_stream_set_watermarks(s->stream, 100, 1000, on_mark, nullptr), 0);
        write_some(s, 5);
        break;
    case SHUTTING_DOWN:
        write_stuck(s);
        ck_assert_int_gt(mio_stream_shutdown(s->stream, on_stream, nullptr), 0);
        break;
    case SHUT_DOWN:
        ck_assert_int_gt(mio_stream_shutdown(s->stream, on_stream, nullptr), 0);
        read_one(s);
        break;
    case ENDED:
        read_all(s);
        ck_assert_int_gt(mio_stream_shutdown(s->peer, nullptr, nullptr), 0);
        break;
    case HALF_CLOSED_BOTH:
        ck_assert_int_gt(mio_stream_shutdown(s->stream, on_stream, nullptr), 0);
        ck_assert_int_gt(mio_stream_shutdown(s->peer, nullptr, nullptr), 0);
        break;
    case RESET:
        write_stuck(s);
        read_one(s);
        assert_is(mio_tcp_linger(s->peer, 0), 0);
        mio_handle_abandon(s->peer);
        s->peer = nullptr;
        break;
    case FINISHING_STUCK:
        write_stuck(s);
        assert_is(mio_stream_finish(s->stream, MIO_SECOND, on_closed, nullptr), 0);
        break;
    case FINISHING_SILENT:
        write_some(s, 1);
        assert_is(mio_stream_finish(s->stream, MIO_SECOND, on_closed, nullptr), 0);
        break;
    case DETACHING_STUCK:
        write_stuck(s);
        ck_assert_int_gt(mio_stream_detach(s->stream, on_detached, nullptr), 0);
        break;
    case DETACH_CANCELLED:
        write_stuck(s);
        id = mio_stream_detach(s->stream, on_detached, nullptr);
        ck_assert_int_gt(id, 0);
        assert_is(mio_req_cancel(s->loop, id), 0);
        break;
    case CLOSING_STUCK:
        write_stuck(s);
        read_one(s);
        assert_is(mio_handle_close(s->stream, on_closed, nullptr), 0);
        break;
    case TIMED:
        assert_is(mio_stream_set_timeout(s->stream, MIO_TIMEOUT_READ, 1), 0);
        assert_is(mio_stream_set_timeout(s->stream, MIO_TIMEOUT_WRITE, 1), 0);
        assert_is(mio_stream_set_timeout(s->stream, MIO_TIMEOUT_IDLE, 1), 0);
        read_one(s);
        write_stuck(s);
        break;
    case DEADLINES:
        assert_is(mio_req_timeout(s->loop, read_one(s), 1), 0);
        assert_is(mio_req_timeout(s->loop, write_stuck(s), 1), 0);
        break;
    case STATES: break;
    }
}

// In the closing states the pointer is dead as soon as the close has been told.
static bool is_gone(int into, int told_before) {
    return (into == FINISHING_STUCK || into == FINISHING_SILENT || into == CLOSING_STUCK) && told > told_before;
}

static void scene_lead(scene *s, int into, int turns) {
    pair streams = connect_narrow_pair(s->loop);
    s->stream = streams.client;
    s->peer = streams.server;
    lead(s, into);
    for (int i = 0; i < turns; i++) assert_ok(mio_loop_run_once(s->loop, 0));
}

static void scene_open(scene *s) {
    s->loop = loop_open();
    lent = home = told = 0;
    silent = false;
}

TEST(a_stream_is_abandoned_in_silence_in_every_state) {
    scene s = {};
    scene_open(&s);
    const refusing nobody(s.loop);
    s.nobody = nobody.at;
    mio_listener_t *listener = listen_on(s.loop, [](mio_listener_t *, int, mio_stream_t *, void *) {}, nullptr, &s.here);
    assert_is(mio_handle_unref(listener), 0);
    for (int into = 0; into < STATES; into++) {
        for (int turns = 0; turns <= TURNS_MOST; turns++) {
            silent = false;
            const int before = told;
            scene_lead(&s, into, turns);
            silent = true;
            if (!is_gone(into, before + (into == CLOSING_STUCK ? 2 : 1))) mio_handle_abandon(s.stream);
            mio_handle_abandon(s.peer);
            run_to_end(s.loop);
            ck_assert_msg(lent == home, "state %d, %d turns: %d buffers of %d came home", into, turns, home, lent);
            assert_is(metrics(s.loop).handles, 1);
            ck_assert_msg(metrics(s.loop).requests == 1, "state %d: %llu requests", into,
                          static_cast<unsigned long long>(metrics(s.loop).requests)); // the listener's
        }
    }
    mio_handle_abandon(listener);
}

TEST(a_loop_is_destroyed_with_a_stream_in_every_state) {
    for (int into = 0; into < STATES; into++) {
        for (int turns = 0; turns <= TURNS_MOST; turns += TURNS_MOST) {
            scene s = {};
            scene_open(&s);
            const refusing nobody(s.loop);
            s.nobody = nobody.at;
            listen_on(s.loop, [](mio_listener_t *, int, mio_stream_t *, void *) {}, nullptr, &s.here);
            scene_lead(&s, into, turns);
            loop_close(s.loop); // is 0: nothing is the kernel's any more
            ck_assert_msg(lent == home, "state %d, %d turns: %d buffers of %d came home", into, turns, home, lent);
        }
    }
}
