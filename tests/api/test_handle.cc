// Handles: what every noun can do, what a closing one answers, and every way to end one at a bad moment.
#include "harness.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace api;

static void timer_nothing(mio_timer_t *, void *) {}
static void hook_nothing(mio_hook_t *, void *) {}
static void wakeup_nothing(mio_wakeup_t *, void *) {}
static void accept_nothing(mio_listener_t *, int, mio_stream_t *, void *) {}

struct zoo {
    mio_timer_t *timer;
    mio_hook_t *hook;
    mio_wakeup_t *wakeup;
    mio_listener_t *listener;
    mio_stream_t *stream, *peer;
    mio_handle_t *all[6];
};

static void zoo_open(mio_loop_t *loop, zoo *animals) {
    assert_is(mio_timer_create(loop, &animals->timer), 0);
    assert_is(mio_hook_create(loop, MIO_HOOK_CHECK, &animals->hook), 0);
    assert_is(mio_wakeup_create(loop, wakeup_nothing, nullptr, &animals->wakeup), 0);
    animals->listener = listen_on(loop, accept_nothing, nullptr, nullptr);
    pair streams = connect_pair(loop);
    animals->stream = streams.client;
    animals->peer = streams.server;
    mio_handle_t *all[] = {animals->timer, animals->hook, animals->wakeup, animals->listener, animals->stream, animals->peer};
    memcpy(animals->all, all, sizeof all);
}

TEST(every_handle_call_survives_null) {
    assert_is(mio_handle_close(nullptr, nullptr, nullptr), MIO_EINVAL);
    mio_handle_abandon(nullptr);
    assert_is(mio_handle_ref(nullptr), MIO_EINVAL);
    assert_is(mio_handle_unref(nullptr), MIO_EINVAL);
    assert_is(mio_handle_is_referenced(nullptr), 0);
    assert_is(mio_handle_keep(nullptr), MIO_EINVAL);
    assert_is(mio_handle_set_data(nullptr, nullptr), MIO_EINVAL);
    ck_assert_ptr_null(mio_handle_data(nullptr));
    assert_is(mio_handle_set_name(nullptr, "x"), MIO_EINVAL);
    ck_assert_str_eq(mio_handle_name(nullptr), "");
    ck_assert_ptr_null(mio_handle_loop(nullptr));
    assert_is(mio_handle_kind(nullptr), MIO_KIND_NONE);
    assert_is(mio_handle_is_closing(nullptr), 0);
    ck_assert_ptr_null(mio_stream_from(nullptr));
    ck_assert_ptr_null(mio_listener_from(nullptr));
    ck_assert_ptr_null(mio_timer_from(nullptr));
    ck_assert_ptr_null(mio_hook_from(nullptr));
    ck_assert_ptr_null(mio_wakeup_from(nullptr));
    ck_assert_ptr_null(mio_signal_from(nullptr));
}

TEST(every_noun_is_a_handle_and_knows_its_kind) {
    mio_loop_t *loop = loop_open();
    zoo animals;
    zoo_open(loop, &animals);
    const mio_kind kinds[] = {MIO_KIND_TIMER, MIO_KIND_HOOK, MIO_KIND_WAKEUP, MIO_KIND_LISTENER, MIO_KIND_STREAM, MIO_KIND_STREAM};
    for (int i = 0; i < 6; i++) {
        mio_handle_t *handle = animals.all[i];
        assert_is(mio_handle_kind(handle), kinds[i]);
        ck_assert_ptr_eq(mio_handle_loop(handle), loop);
        assert_is(mio_timer_from(handle) != nullptr, kinds[i] == MIO_KIND_TIMER);
        assert_is(mio_hook_from(handle) != nullptr, kinds[i] == MIO_KIND_HOOK);
        assert_is(mio_wakeup_from(handle) != nullptr, kinds[i] == MIO_KIND_WAKEUP);
        assert_is(mio_listener_from(handle) != nullptr, kinds[i] == MIO_KIND_LISTENER);
        assert_is(mio_stream_from(handle) != nullptr, kinds[i] == MIO_KIND_STREAM);
        assert_is(mio_handle_keep(handle), 0);
        assert_is(mio_handle_is_closing(handle), 0);
        ck_assert_ptr_null(mio_handle_data(handle));
        assert_is(mio_handle_set_data(handle, &animals), 0);
        ck_assert_ptr_eq(mio_handle_data(handle), &animals);
    }
    ck_assert_ptr_eq(mio_timer_from(animals.all[0]), animals.timer);
    ck_assert_ptr_eq(mio_stream_from(animals.all[4]), animals.stream);
}

TEST(a_name_keeps_31_bytes) {
    mio_loop_t *loop = loop_open();
    zoo animals;
    zoo_open(loop, &animals);
    for (mio_handle_t *handle : animals.all) {
        ck_assert_str_eq(mio_handle_name(handle), "");
        char name[] = "short";
        assert_is(mio_handle_set_name(handle, name), 0);
        name[0] = 'X'; // copied
        ck_assert_str_eq(mio_handle_name(handle), "short");
        assert_is(mio_handle_set_name(handle, "0123456789012345678901234567890123456789"), 0);
        ck_assert_str_eq(mio_handle_name(handle), "0123456789012345678901234567890");
        assert_is(mio_handle_set_name(handle, nullptr), 0);
        ck_assert_str_eq(mio_handle_name(handle), "");
    }
}

TEST(a_closing_handle_answers_ebadf_and_a_second_close_ealready) {
    mio_loop_t *loop = loop_open();
    zoo animals;
    zoo_open(loop, &animals);
    outcome told[6] = {}, second = {};
    for (int i = 0; i < 6; i++) {
        mio_handle_t *handle = animals.all[i];
        assert_is(mio_handle_close(handle, close_told, &told[i]), 0);
        assert_is(mio_handle_close(handle, close_told, &second), MIO_EALREADY);
        assert_is(mio_handle_is_closing(handle), 1);
        assert_is(mio_handle_ref(handle), MIO_EBADF);
        assert_is(mio_handle_unref(handle), MIO_EBADF);
        assert_is(mio_handle_keep(handle), MIO_EBADF);
        assert_is(mio_handle_set_name(handle, "late"), MIO_EBADF);
        assert_is(mio_handle_set_data(handle, &told[i]), 0); // legal until the end
        ck_assert_ptr_eq(mio_handle_data(handle), &told[i]);
        ck_assert_ptr_eq(mio_handle_loop(handle), loop);
        ck_assert_int_ne(mio_handle_kind(handle), MIO_KIND_NONE);
        assert_is(told[i].calls, 0); // never inside the call
    }
    run_to_end(loop);
    for (const outcome &one : told) assert_is(one.calls, 1);
    assert_is(second.calls, 0);
}

TEST(no_start_is_taken_by_a_closing_handle) {
    mio_loop_t *loop = loop_open();
    zoo animals;
    zoo_open(loop, &animals);
    for (mio_handle_t *handle : animals.all) assert_is(mio_handle_close(handle, nullptr, nullptr), 0);
    assert_is(mio_timer_start(animals.timer, 0, 0, timer_nothing, nullptr), MIO_EBADF);
    assert_is(mio_hook_start(animals.hook, hook_nothing, nullptr), MIO_EBADF);
    assert_is(mio_hook_stop(animals.hook), MIO_EBADF);
    assert_is(mio_listener_pause(animals.listener), MIO_EBADF);
    assert_is(mio_listener_resume(animals.listener), MIO_EBADF);
    assert_is(mio_listener_fd(animals.listener), MIO_EBADF);
    mio_addr_t at;
    assert_is(mio_listener_local(animals.listener, &at), MIO_EBADF);

    mio_stream_t *stream = animals.stream;
    mio_buf_t buf = pattern_buf(loop, 100, 0);
    char *base = buf.base;
    assert_is(mio_stream_read_start(stream, 0, read_into, nullptr), MIO_EBADF);
    assert_is(mio_stream_read_pause(stream), MIO_EBADF);
    assert_is(mio_stream_read_resume(stream), MIO_EBADF);
    assert_is(mio_stream_read_stop(stream), MIO_EBADF);
    assert_is(mio_stream_write(stream, &buf, 1, nullptr, nullptr), MIO_EBADF);
    assert_is(mio_stream_try_write(stream, "x", 1), MIO_EBADF);
    assert_is(mio_stream_shutdown(stream, nullptr, nullptr), MIO_EBADF);
    assert_is(mio_stream_unread(stream, &buf), MIO_EBADF);
    assert_is(mio_stream_set_watermarks(stream, 0, 0, nullptr, nullptr), MIO_EBADF);
    assert_is(mio_stream_set_queue_max(stream, 1), MIO_EBADF);
    assert_is(mio_stream_set_timeout(stream, MIO_TIMEOUT_READ, 1), MIO_EBADF);
    assert_is(mio_stream_finish(stream, 0, nullptr, nullptr), MIO_EALREADY);
    auto detached = [](mio_stream_t *, int, int, mio_buf_t *, unsigned, void *) {};
    assert_is(mio_stream_detach(stream, detached, nullptr), MIO_EBADF);
    auto moved = [](mio_loop_t *, int, mio_stream_t *, void *) {};
    assert_is(mio_stream_move(stream, mio_loop_remote(loop), moved, nullptr), MIO_EBADF);
    assert_is(mio_stream_local(stream, &at), MIO_EBADF);
    assert_is(mio_stream_peer(stream, &at), MIO_EBADF);
    assert_is(mio_stream_fd(stream), MIO_EBADF);
    assert_is(mio_tcp_nodelay(stream, 1), MIO_EBADF);
    assert_is(mio_tcp_keepalive(stream, 1, 1, 1), MIO_EBADF);
    assert_is(mio_tcp_linger(stream, 0), MIO_EBADF);
    assert_is(mio_tcp_quickack(stream, 1), MIO_EBADF);
    ck_assert_ptr_eq(buf.base, base); // nothing was taken
    assert_is(buf.len, 100);
    mio_buf_t room = {};
    assert_is(mio_buf_alloc(loop, 100, &room), 0);
    assert_is(mio_stream_read(stream, &room, read_told, nullptr), MIO_EBADF);
    assert_is(mio_stream_read_exact(stream, &room, 5, read_told, nullptr), MIO_EBADF);
    assert_is(mio_stream_read_until(stream, &room, "\n", 1, 0, read_told, nullptr), MIO_EBADF);
    ck_assert_ptr_nonnull(room.base);
    mio_buf_release(&room);
    mio_buf_release(&buf);
    run_to_end(loop);
}

TEST(the_close_callback_is_the_last_one) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    static diary book;
    book = {};
    mio_buf_t room = {}, bytes = pattern_buf(loop, 1000, 0);
    assert_is(mio_buf_alloc(loop, 100, &room), 0);
    auto read = [](mio_stream_t *, int64_t n, mio_buf_t *buf, void *) {
        assert_is(n, MIO_ECANCELED);
        ck_assert_ptr_nonnull(buf->base); // it came back
        diary_add(&book, "r");
    };
    auto written = [](mio_stream_t *, int status, int64_t sent, mio_buf_t *bufs, unsigned, void *) {
        ck_assert(status == 0 ? sent == 1000 : sent >= 0);
        assert_is(bufs[0].len, 1000);
        diary_add(&book, "w");
    };
    auto closed = [](mio_handle_t *, void *) { diary_add(&book, "c"); };
    ck_assert_int_gt(mio_stream_read(streams.client, &room, read, nullptr), 0);
    ck_assert_int_gt(mio_stream_write(streams.client, &bytes, 1, written, nullptr), 0);
    assert_is(mio_handle_close(streams.client, closed, nullptr), 0);
    assert_is(mio_handle_close(streams.server, nullptr, nullptr), 0);
    run_to_end(loop);
    assert_is(strlen(book.text), 3);
    assert_is(book.text[2], 'c');
}

// --- at bad moments -------------------------------------------------------------------------------------------------

static int closes;
static void count_close(mio_handle_t *, void *) { closes++; }

TEST(every_kind_can_be_closed_in_its_own_callback) {
    mio_loop_t *loop = loop_open();
    closes = 0;
    static pair streams;
    streams = connect_pair(loop);
    zoo animals;
    mio_addr_t at;
    assert_is(mio_timer_create(loop, &animals.timer), 0);
    assert_is(mio_timer_start(animals.timer, 0, 1000, [](mio_timer_t *self, void *) {
        assert_is(mio_handle_close(self, count_close, nullptr), 0);
    }, nullptr), 0);
    for (int phase = 0; phase < 3; phase++) {
        mio_hook_t *hook;
        assert_is(mio_hook_create(loop, static_cast<mio_hook_phase>(phase), &hook), 0);
        assert_is(mio_hook_start(hook, [](mio_hook_t *self, void *) {
            assert_is(mio_handle_close(self, count_close, nullptr), 0);
        }, nullptr), 0);
    }
    auto woken = [](mio_wakeup_t *self, void *) { assert_is(mio_handle_close(self, count_close, nullptr), 0); };
    assert_is(mio_wakeup_create(loop, woken, nullptr, &animals.wakeup), 0);
    assert_is(mio_wakeup_send(animals.wakeup), 0);
    animals.listener = listen_on(loop, [](mio_listener_t *self, int status, mio_stream_t *stream, void *) {
        if (status == MIO_ECANCELED) return;
        assert_is(mio_handle_close(stream, count_close, nullptr), 0);
        assert_is(mio_handle_close(self, count_close, nullptr), 0);
    }, nullptr, &at);
    mio_stream_t *connecting;
    ck_assert_int_gt(mio_tcp_connect(loop, &at, nullptr, [](mio_stream_t *self, int, void *) {
        assert_is(mio_handle_close(self, count_close, nullptr), 0);
    }, nullptr, &connecting), 0);
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, [](mio_stream_t *self, int64_t n, mio_buf_t *, void *) {
        if (n > 0) assert_is(mio_handle_close(self, count_close, nullptr), 0);
        else assert_is(n, MIO_ECANCELED);
    }, nullptr), 0);
    mio_buf_t buf = pattern_buf(loop, 10, 0);
    auto written = [](mio_stream_t *self, int, int64_t, mio_buf_t *, unsigned, void *) {
        assert_is(mio_handle_close(self, count_close, nullptr), 0);
    };
    ck_assert_int_gt(mio_stream_write(streams.client, &buf, 1, written, nullptr), 0);
    run_to_end(loop);
    assert_is(closes, 1 + 3 + 1 + 2 + 1 + 2);
}

TEST(a_handle_closed_by_a_neighbour_of_the_same_batch_gets_no_more_data) {
    mio_loop_t *loop = loop_open();
    static pair two[2];
    static int data_calls, last_calls;
    data_calls = last_calls = 0;
    for (pair &one : two) one = connect_pair(loop);
    auto read = [](mio_stream_t *self, int64_t n, mio_buf_t *, void *) {
        if (n < 0) {
            assert_is(n, MIO_ECANCELED);
            last_calls++;
            return;
        }
        data_calls++;
        mio_stream_t *other = self == two[0].server ? two[1].server : two[0].server;
        assert_is(mio_handle_close(other, nullptr, nullptr), 0);
        assert_is(mio_handle_close(self, nullptr, nullptr), 0);
    };
    for (pair &one : two) {
        ck_assert_int_gt(mio_stream_read_start(one.server, 0, read, nullptr), 0);
        mio_buf_t buf = pattern_buf(loop, 10, 0);
        ck_assert_int_gt(mio_stream_write(one.client, &buf, 1, nullptr, nullptr), 0);
    }
    sleep_ns(on_sim() ? 0 : MIO_MILLISECOND);
    for (pair &one : two) assert_is(mio_handle_unref(one.client), 0);
    run_to_end(loop);
    assert_is(data_calls, 1);
    assert_is(last_calls, 2);
}

TEST(a_descriptor_number_used_again_in_one_batch_gets_nothing_of_its_predecessor) {
    mio_loop_t *loop = loop_open();
    struct scene {
        mio_loop_t *loop;
        pair two[2];
        mio_stream_t *fresh;
        echo server;
        inbox in;
        int turns;
    };
    static scene all;
    memset(&all, 0, sizeof all);
    all.loop = loop;
    all.in.is_text = true;
    for (pair &one : all.two) one = connect_pair(loop);
    echo_open(loop, &all.server);
    auto read = [](mio_stream_t *self, int64_t n, mio_buf_t *, void *) {
        if (n < 0) return;
        if (all.turns++ > 0) return;
        // Both have data in this batch. The other one ends, and a new connection takes its number.
        mio_stream_t *other = self == all.two[0].server ? all.two[1].server : all.two[0].server;
        mio_handle_abandon(other);
        auto connected = [](mio_stream_t *stream, int status, void *) {
            assert_is(status, 0);
            mio_buf_t hello = text_buf(all.loop, "hello");
            ck_assert_int_gt(mio_stream_write(stream, &hello, 1, nullptr, nullptr), 0);
        };
        ck_assert_int_gt(mio_tcp_connect(all.loop, &all.server.at, nullptr, connected, nullptr, &all.fresh), 0);
        ck_assert_int_gt(mio_stream_read_start(all.fresh, 0, read_into, &all.in), 0);
    };
    for (pair &one : all.two) {
        ck_assert_int_gt(mio_stream_read_start(one.server, 0, read, nullptr), 0);
        mio_buf_t poison = text_buf(loop, "stale");
        ck_assert_int_gt(mio_stream_write(one.client, &poison, 1, nullptr, nullptr), 0);
    }
    all.in.stop_at = 5;
    run_to_stop(loop);
    ck_assert_str_eq(all.in.text, "hello");
    run_for(loop, 5 * MIO_MILLISECOND);
    ck_assert_str_eq(all.in.text, "hello");
}

TEST(a_duplicate_that_keeps_the_file_alive_sends_no_event_to_a_dead_handle) {
    KERNEL_ONLY("descriptors of the simulated world are not duplicated");
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    inbox in = {};
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    run_for(loop, MIO_MILLISECOND);
    int copy = dup(mio_stream_fd(streams.server));
    outcome closed = {};
    closed.stop = true;
    assert_is(mio_handle_close(streams.server, close_told, &closed), 0);
    run_to_stop(loop);
    mio_buf_t buf = pattern_buf(loop, 100, 0);
    ck_assert_int_gt(mio_stream_write(streams.client, &buf, 1, nullptr, nullptr), 0);
    run_for(loop, 5 * MIO_MILLISECOND);
    const uint64_t turns = metrics(loop).turns;
    run_for(loop, 50 * MIO_MILLISECOND);
    ck_assert_uint_le(metrics(loop).turns - turns, 10); // the file is readable, and nobody spins
    ck_assert_uint_eq(in.received, 0);
    char bytes[200];
    struct pollfd one = {copy, POLLIN, 0};
    assert_is(poll(&one, 1, 10000), 1);
    assert_is(recv(copy, bytes, sizeof bytes, MSG_DONTWAIT), 100);
    close(copy);
}
