// One batch of events, and what its first callbacks do to the rest of it: close, abandon, delete their owner.
#include "harness.h"

using namespace api;

// --- whoever is first closes the others -----------------------------------------------------------------------------

constexpr int STREAMS = 4, ANIMALS = 3 + STREAMS;

struct batch {
    mio_loop_t *loop;
    mio_handle_t *all[ANIMALS]; // a timer, a wakeup, a listener, streams
    bool gone[ANIMALS];         // closed or abandoned by somebody
    bool abandons;
    int events, lasts, closes;
};
static batch now;

static void batch_closed(mio_handle_t *, void *) { now.closes++; }

static int batch_place(mio_handle_t *handle) {
    int at = 0;
    while (now.all[at] != handle) at++;
    return at;
}

static void batch_event(mio_handle_t *self) {
    ck_assert_msg(!now.gone[batch_place(self)], "an event of handle %d, which is closed", batch_place(self));
    now.events++;
    for (int i = 0; i < ANIMALS; i++) {
        if (now.gone[i]) continue;
        now.gone[i] = true;
        if (now.abandons) mio_handle_abandon(now.all[i]);
        else assert_is(mio_handle_close(now.all[i], batch_closed, nullptr), 0);
    }
}

// All of them have an event in one batch. Which of them is served first is varied: by the order in which bytes came, and by
// a timer that is due or not.
static void batch_run(bool abandons, int first) {
    now = {};
    now.loop = loop_open();
    now.abandons = abandons;
    mio_timer_t *timer;
    mio_wakeup_t *wakeup;
    mio_addr_t at;
    mio_stream_t *clients[STREAMS], *late;
    assert_is(mio_timer_create(now.loop, &timer), 0);
    assert_is(mio_wakeup_create(now.loop, [](mio_wakeup_t *self, void *) { batch_event(self); }, nullptr, &wakeup), 0);
    mio_listener_t *listener = listen_on(now.loop, [](mio_listener_t *self, int status, mio_stream_t *stream, void *) {
        if (status < 0) {
            assert_is(status, MIO_ECANCELED);
            if (!is_over()) now.lasts++;
            return;
        }
        mio_handle_abandon(stream);
        batch_event(self);
    }, nullptr, &at);
    now.all[0] = timer;
    now.all[1] = wakeup;
    now.all[2] = listener;
    for (int i = 0; i < STREAMS; i++) {
        pair one = connect_pair(now.loop);
        clients[i] = one.client;
        now.all[3 + i] = one.server;
        auto read = [](mio_stream_t *self, int64_t n, mio_buf_t *, void *) {
            if (n > 0) batch_event(self);
            else now.lasts++;
        };
        ck_assert_int_gt(mio_stream_read_start(one.server, 0, read, nullptr), 0);
        assert_is(mio_handle_unref(one.client), 0);
    }
    run_for(now.loop, MIO_MILLISECOND);
    for (int i = 0; i < STREAMS; i++) ck_assert_int_gt(mio_stream_try_write(clients[(first + i) % STREAMS], "event", 5), 0);
    ck_assert_int_gt(mio_tcp_connect(now.loop, &at, nullptr, [](mio_stream_t *, int, void *) {}, nullptr, &late), 0);
    assert_is(mio_handle_unref(late), 0);
    assert_is(mio_wakeup_send(wakeup), 0);
    if (first % 2 == 0)
        assert_is(mio_timer_start(timer, 0, 0, [](mio_timer_t *self, void *) { batch_event(self); }, nullptr), 0);
    run_to_end(now.loop);
    assert_is(now.events, 1);
    assert_is(now.lasts, abandons ? 0 : 1 + STREAMS);
    assert_is(now.closes, abandons ? 0 : ANIMALS);
    mio_handle_abandon(late);
    for (mio_stream_t *client : clients) mio_handle_abandon(client);
    loop_close(now.loop);
}

TEST(after_the_first_of_a_batch_has_closed_all_others_no_event_follows) {
    for (int first = 0; first < STREAMS; first++) batch_run(false, first);
}

TEST(after_the_first_of_a_batch_has_abandoned_all_others_nothing_follows) {
    for (int first = 0; first < STREAMS; first++) batch_run(true, first);
}

// --- an owner deleted in whichever callback comes -------------------------------------------------------------------

enum place { CONNECTED, REFUSED, ACCEPTED, READ_ONCE, READ_UNTIL, READ_END, SHUT, DETACHED, MARKED, FINISHED, HOOKED, WOKEN,
             POSTED, PLACES };

struct owner {
    mio_listener_t *listener;
    mio_stream_t *stream;
    mio_timer_t *timer;
    mio_hook_t *hook;
    mio_wakeup_t *wakeup;
    int *deleted;
    char state[64];
};

static mio_loop_t *owners_loop;

static void owner_delete(void *arg) {
    owner *self = static_cast<owner *>(arg);
    ++*self->deleted;
    mio_handle_abandon(self->stream);
    mio_handle_abandon(self->listener);
    mio_handle_abandon(self->timer);
    mio_handle_abandon(self->hook);
    mio_handle_abandon(self->wakeup);
    memset(static_cast<void *>(self), 0xdd, sizeof *self);
    free(self);
}

static void never_read(mio_stream_t *, int64_t, mio_buf_t *, void *) { ck_abort_msg("a read of a deleted owner"); }
static void never_closed(mio_handle_t *, void *) { ck_abort_msg("a close of a deleted owner"); }
static void on_deleted_stream(mio_stream_t *, int, void *arg) { owner_delete(arg); }

static void owner_read(mio_stream_t *, int64_t n, mio_buf_t *buf, void *arg) {
    owner_delete(arg);
    if (n > 0) ck_assert(pattern_is(buf->base, buf->len, 0)); // stays valid until we return
}

// Starts what calls back in that place; `peer` is the other end of the owner's stream.
static void owner_start(owner *self, place where, mio_stream_t *peer, const mio_addr_t *nobody) {
    mio_loop_t *loop = owners_loop;
    mio_buf_t room = {}, bytes = {};
    mio_addr_t at;
    switch (where) {
    case CONNECTED:
    case ACCEPTED:
        assert_is(mio_listener_local(self->listener, &at), 0);
        mio_handle_abandon(self->stream);
        ck_assert_int_gt(mio_tcp_connect(loop, &at, nullptr, where == CONNECTED ? on_deleted_stream : [](mio_stream_t *, int, void *) {},
                                         self, &self->stream), 0);
        break;
    case REFUSED:
        mio_handle_abandon(self->stream);
        ck_assert_int_gt(mio_tcp_connect(loop, nobody, nullptr, on_deleted_stream, self, &self->stream), 0);
        assert_is(mio_buf_alloc(loop, 10, &room), 0);
        ck_assert_int_gt(mio_stream_read(self->stream, &room, never_read, self), 0); // would end with its error
        break;
    case READ_ONCE:
    case READ_UNTIL:
        bytes = pattern_buf(loop, 100, 0);
        assert_is(mio_buf_alloc(loop, 200, &room), 0);
        if (where == READ_ONCE) ck_assert_int_gt(mio_stream_read(self->stream, &room, owner_read, self), 0);
        else ck_assert_int_gt(mio_stream_read_until(self->stream, &room, bytes.base + 99, 1, 0, owner_read, self), 0);
        assert_is(mio_buf_alloc(loop, 200, &room), 0);
        ck_assert_int_gt(mio_stream_read(self->stream, &room, never_read, self), 0); // queued behind it
        ck_assert_int_gt(mio_stream_write(peer, &bytes, 1, nullptr, nullptr), 0);
        break;
    case READ_END:
        ck_assert_int_gt(mio_stream_read_start(self->stream, 0, owner_read, self), 0);
        ck_assert_int_gt(mio_stream_shutdown(peer, nullptr, nullptr), 0);
        break;
    case SHUT:
        ck_assert_int_gt(mio_stream_shutdown(self->stream, on_deleted_stream, self), 0);
        ck_assert_int_gt(mio_stream_read_start(self->stream, 0, never_read, self), 0);
        break;
    case DETACHED:
        ck_assert_int_gt(mio_stream_detach(self->stream, [](mio_stream_t *, int status, int fd, mio_buf_t *, unsigned, void *arg) {
            assert_is(status, 0);
            owner_delete(arg);
            mio_stream_t *again = nullptr; // the descriptor is ours now
            assert_is(mio_stream_adopt(owners_loop, fd, nullptr, 0, &again), 0);
            mio_handle_abandon(again);
        }, self), 0);
        break;
    case MARKED:
        assert_is(mio_stream_set_watermarks(self->stream, 10, 1000, [](mio_stream_t *, int, void *arg) { owner_delete(arg); },
                                            self), 0);
        bytes = pattern_buf(loop, NARROW_ROOM, 0);
        ck_assert_int_gt(mio_stream_write(self->stream, &bytes, 1, nullptr, nullptr), 0);
        break;
    case FINISHED:
        assert_is(mio_stream_finish(self->stream, MIO_SECOND, [](mio_handle_t *, void *arg) { owner_delete(arg); }, self), 0);
        assert_is(mio_handle_close(peer, nullptr, nullptr), 0);
        break;
    case HOOKED:
        assert_is(mio_hook_start(self->hook, [](mio_hook_t *, void *arg) { owner_delete(arg); }, self), 0);
        break;
    case WOKEN:
        assert_is(mio_wakeup_send(self->wakeup), 0);
        break;
    case POSTED:
        assert_is(mio_remote_post(mio_loop_remote(loop), [](mio_loop_t *, int, void *arg) { owner_delete(arg); }, self), 0);
        assert_is(mio_handle_close(self->stream, never_closed, self), 0);
        break;
    case PLACES: break;
    }
}

TEST(an_owner_may_be_deleted_in_whichever_callback_comes) {
    mio_loop_t *loop = owners_loop = loop_open();
    const refusing nobody(loop);
    for (int where = 0; where < PLACES; where++) {
        int deleted = 0;
        pair streams = where == MARKED ? connect_narrow_pair(loop) : connect_pair(loop);
        owner *self = static_cast<owner *>(calloc(1, sizeof(owner)));
        self->deleted = &deleted;
        self->stream = streams.client;
        auto accepted = [](mio_listener_t *, int status, mio_stream_t *, void *arg) {
            if (status == 0) owner_delete(arg); // the new stream is nobody's: it is closed
        };
        auto ignored = [](mio_listener_t *, int, mio_stream_t *, void *) {};
        mio_listener_cb wanted = where == ACCEPTED ? static_cast<mio_listener_cb>(accepted) : ignored;
        assert_is(mio_tcp_listen(loop, "127.0.0.1", 0, nullptr, wanted, self, &self->listener), 0);
        assert_is(mio_timer_create(loop, &self->timer), 0);
        assert_is(mio_timer_start(self->timer, 60 * MIO_SECOND, 0, [](mio_timer_t *, void *) {}, self), 0);
        assert_is(mio_hook_create(loop, MIO_HOOK_CHECK, &self->hook), 0);
        assert_is(mio_wakeup_create(loop, [](mio_wakeup_t *, void *arg) { owner_delete(arg); }, self, &self->wakeup), 0);
        owner_start(self, static_cast<place>(where), streams.server, &nobody.at);
        run_to_end(loop); // it is alive as long as the owner is
        ck_assert_msg(deleted == 1, "place %d: deleted %d times", where, deleted);
        if (where != FINISHED) mio_handle_abandon(streams.server);
        run_to_end(loop);
        assert_is(metrics(loop).handles, 0);
        assert_is(metrics(loop).requests, 0);
    }
}
