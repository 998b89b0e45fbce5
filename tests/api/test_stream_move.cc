// Moving: adopting descriptors, detaching them, and moving a stream to another loop, with bytes nobody has read yet.
#include "await.h"

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace api;

struct detached {
    int calls, status, fd;
    mio_buf_t unread[16];
    unsigned n;
    bool stop;
};

static void detach_told(mio_stream_t *stream, int status, int fd, mio_buf_t *unread, unsigned n, void *arg) {
    if (is_over()) return;
    detached *told = static_cast<detached *>(arg);
    told->calls++;
    told->status = status;
    told->fd = fd;
    ck_assert_uint_le(n, 16);
    told->n = n;
    for (unsigned i = 0; i < n; i++) told->unread[i] = mio_buf_take(&unread[i]);
    if (told->stop) mio_loop_stop(mio_handle_loop(stream));
}

static uint64_t unread_bytes(const detached *told) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < told->n; i++) sum += told->unread[i].len;
    return sum;
}

TEST(detach_and_adopt_answer_each_mistake) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    mio_stream_t *out = nullptr;
    assert_is(mio_stream_detach(nullptr, detach_told, nullptr), MIO_EINVAL);
    assert_is(mio_stream_detach(streams.client, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_stream_adopt(nullptr, 0, nullptr, 0, &out), MIO_EINVAL);
    assert_is(mio_stream_adopt(loop, -1, nullptr, 0, &out), MIO_EBADF);
    assert_is(mio_stream_adopt(loop, 0x3fffffff, nullptr, 0, &out), MIO_EBADF);
    assert_is(mio_stream_adopt(loop, mio_stream_fd(streams.client), nullptr, 0, nullptr), MIO_EINVAL);
    assert_is(mio_stream_adopt(loop, mio_stream_fd(streams.client), nullptr, 1, &out), MIO_EINVAL);
    auto moved = [](mio_loop_t *, int, mio_stream_t *, void *) {};
    assert_is(mio_stream_move(nullptr, mio_loop_remote(loop), moved, nullptr), MIO_EINVAL);
    assert_is(mio_stream_move(streams.client, nullptr, moved, nullptr), MIO_EINVAL);
    assert_is(mio_stream_move(streams.client, mio_loop_remote(loop), nullptr, nullptr), MIO_EINVAL);
    mio_buf_t room = {};
    assert_is(mio_buf_alloc(loop, 10, &room), 0);
    outcome told = {};
    const mio_req_t read = mio_stream_read(streams.client, &room, read_told, &told);
    assert_is(mio_stream_detach(streams.client, detach_told, nullptr), MIO_EBUSY);
    assert_is(mio_req_abandon(loop, read), 0);
    detached first = {};
    ck_assert_int_gt(mio_stream_detach(streams.server, detach_told, &first), 0);
    assert_is(mio_stream_detach(streams.server, detach_told, &first), MIO_EBUSY);
    first.stop = true;
    run_to_stop(loop);
    assert_is(first.status, 0);
    assert_is(mio_stream_adopt(loop, first.fd, nullptr, 0, &out), 0);
    assert_is(told.calls, 0);
}

TEST(adopt_refuses_what_is_no_stream_socket_and_leaves_it_alone) {
    KERNEL_ONLY("needs descriptors of other kinds");
    mio_loop_t *loop = loop_open();
    mio_stream_t *out = nullptr;
    int ends[2], datagram = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_is(pipe(ends), 0);
    assert_is(mio_stream_adopt(loop, ends[0], nullptr, 0, &out), MIO_ENOTSOCK);
    assert_is(mio_stream_adopt(loop, datagram, nullptr, 0, &out), MIO_EINVAL);
    ck_assert_ptr_null(out);
    assert_is(close(ends[0]), 0); // still open, still ours
    assert_is(close(ends[1]), 0);
    assert_is(close(datagram), 0);
}

TEST(an_adopted_descriptor_becomes_a_stream) {
    KERNEL_ONLY("makes a socket pair of the kernel");
    mio_loop_t *loop = loop_open();
    int ends[2];
    assert_is(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    mio_stream_t *a = nullptr, *b = nullptr;
    assert_is(mio_stream_adopt(loop, ends[0], nullptr, 0, &a), 0);
    assert_is(mio_stream_adopt(loop, ends[1], nullptr, 0, &b), 0);
    assert_is(mio_stream_fd(a), ends[0]);
    inbox in = {};
    ck_assert_int_gt(mio_stream_read_start(b, 0, read_into, &in), 0);
    mio_buf_t bytes = pattern_buf(loop, 2000000, 0);
    ck_assert_int_gt(mio_stream_write(a, &bytes, 1, nullptr, nullptr), 0);
    ck_assert_int_gt(mio_stream_shutdown(a, nullptr, nullptr), 0);
    run_to_end(loop);
    assert_is(in.received, 2000000);
    ck_assert(!in.wrong);
    assert_is(in.end, MIO_EOF);
}

TEST(detach_flushes_reaps_and_gives_descriptor_and_unread_bytes) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    detached told = {};
    told.stop = true;
    inbox reading = {}, in = {}, rest = {};
    outcome written = {};
    rest.is_text = true;
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &reading), 0);
    assert_is(mio_stream_read_pause(streams.server), 0);
    mio_buf_t late = text_buf(loop, "world"), back = text_buf(loop, "hello "), bytes = pattern_buf(loop, 200000, 0);
    ck_assert_int_gt(mio_stream_write(streams.client, &late, 1, nullptr, nullptr), 0);
    ck_assert_int_gt(mio_stream_read_start(streams.client, 0, read_into, &in), 0);
    run_for(loop, MIO_MILLISECOND);
    assert_is(mio_stream_unread(streams.server, &back), 0);
    ck_assert_int_gt(mio_stream_write(streams.server, &bytes, 1, write_told, &written), 0);
    ck_assert_int_gt(mio_stream_detach(streams.server, detach_told, &told), 0);
    run_to_stop(loop);
    assert_is(told.calls, 1);
    assert_is(told.status, 0);
    assert_is(written.status, 0); // flushed before
    assert_is(written.calls, 1);
    assert_is(reading.end, MIO_ECANCELED);
    assert_is(reading.received, 0);
    ck_assert_int_ge(told.fd, 0);
    ck_assert_uint_ge(told.n, 1);
    ck_assert_uint_ge(unread_bytes(&told), 6);
    mio_stream_t *again = nullptr;
    assert_is(mio_stream_adopt(loop, told.fd, told.unread, told.n, &again), 0);
    ck_assert_ptr_null(told.unread[0].base); // moved in
    rest.stop_at = 11;
    ck_assert_int_gt(mio_stream_read_start(again, 0, read_into, &rest), 0);
    run_to_stop(loop);
    ck_assert_str_eq(rest.text, "hello world");
    if (in.received < 200000) {
        in.stop_at = 200000;
        run_to_stop(loop);
    }
    ck_assert(!in.wrong);
}

TEST(a_detach_that_is_cancelled_leaves_the_stream_as_it_was) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_narrow_pair(loop);
    detached told = {};
    told.stop = true;
    outcome written = {};
    mio_buf_t big = pattern_buf(loop, NARROW_ROOM, 0);
    ck_assert_int_gt(mio_stream_write(streams.client, &big, 1, write_told, &written), 0);
    const mio_req_t id = mio_stream_detach(streams.client, detach_told, &told);
    ck_assert_int_gt(id, 0);
    run_for(loop, 2 * MIO_MILLISECOND);
    assert_is(told.calls, 0);
    assert_is(mio_req_cancel(loop, id), 0);
    inbox in = {};
    in.stop_at = NARROW_ROOM;
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    run_to_stop(loop); // the detach is told behind the write
    if (in.received < NARROW_ROOM) run_to_stop(loop);
    run_for(loop, MIO_MILLISECOND);
    assert_is(told.calls, 1);
    assert_is(told.status, MIO_ECANCELED);
    assert_is(told.fd, -1);
    assert_is(told.n, 0);
    assert_is(written.status, 0);
    in.stop_at = NARROW_ROOM + 100;
    mio_buf_t more = pattern_buf(loop, 100, NARROW_ROOM);
    ck_assert_int_gt(mio_stream_write(streams.client, &more, 1, nullptr, nullptr), 0);
    run_to_stop(loop);
    ck_assert(!in.wrong);
}

TEST(a_close_ends_a_detach_and_keeps_the_descriptor) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_narrow_pair(loop);
    detached told = {};
    mio_buf_t big = pattern_buf(loop, NARROW_ROOM, 0);
    ck_assert_int_gt(mio_stream_write(streams.client, &big, 1, nullptr, nullptr), 0);
    ck_assert_int_gt(mio_stream_detach(streams.client, detach_told, &told), 0);
    run_for(loop, MIO_MILLISECOND);
    assert_is(mio_handle_close(streams.client, nullptr, nullptr), 0);
    assert_is(mio_handle_close(streams.server, nullptr, nullptr), 0);
    run_to_end(loop);
    assert_is(told.calls, 1);
    assert_is(told.status, MIO_ECANCELED);
    assert_is(told.fd, -1);
}

struct mover {
    int calls, status;
    mio_loop_t *where;
    mio_stream_t *stream;
    inbox in;
};

static void move_told(mio_loop_t *loop, int status, mio_stream_t *stream, void *arg) {
    if (is_over()) return;
    mover *told = static_cast<mover *>(arg);
    told->calls++;
    told->status = status;
    told->where = loop;
    told->stream = stream;
    if (status == 0) {
        ck_assert_ptr_eq(mio_handle_loop(stream), loop);
        ck_assert_int_gt(mio_stream_read_start(stream, 0, read_into, &told->in), 0);
    }
}

TEST(a_stream_moves_to_another_loop_of_this_thread_with_its_unread_bytes) {
    mio_loop_t *here = loop_open(), *there = loop_open();
    pair streams = connect_pair(here);
    static mover told;
    memset(&told, 0, sizeof told);
    told.in.is_text = true;
    mio_buf_t back = text_buf(here, "first "), late = text_buf(here, "second");
    assert_is(mio_stream_unread(streams.server, &back), 0);
    ck_assert_int_gt(mio_stream_write(streams.client, &late, 1, nullptr, nullptr), 0);
    ck_assert_int_gt(mio_stream_move(streams.server, mio_loop_remote(there), move_told, &told), 0);
    const int64_t end_ns = clock_ns() + patience(EVER);
    while (told.in.received < 12 && clock_ns() < end_ns) {
        if (on_sim()) { // drives both
            mio_sim_run(world(), 10 * MIO_MICROSECOND);
            continue;
        }
        assert_ok(mio_loop_run_once(here, 0));
        assert_ok(mio_loop_run_once(there, 0));
        sleep_ns(100 * MIO_MICROSECOND);
    }
    assert_is(told.calls, 1);
    assert_is(told.status, 0);
    ck_assert_ptr_eq(told.where, there);
    ck_assert_str_eq(told.in.text, "first second");
    ck_assert_ptr_eq(mio_handle_loop(told.stream), there);
    mio_handle_abandon(told.stream);
    mio_handle_abandon(streams.client);
}

TEST(a_stream_moves_to_a_loop_on_another_thread) {
    KERNEL_ONLY("a simulated world has one thread");
    mio_loop_t *here = loop_open();
    static mio_loop_t *there;
    static mover told;
    memset(&told, 0, sizeof told);
    there = loop_open();
    told.in.stop_at_end = true;
    told.in.close_at_end = true;
    assert_is(mio_loop_hold(there, 1), 0);
    pair streams = connect_pair(here);
    mio_buf_t bytes = pattern_buf(here, 300000, 0);
    ck_assert_int_gt(mio_stream_write(streams.client, &bytes, 1, nullptr, nullptr), 0);
    ck_assert_int_gt(mio_stream_shutdown(streams.client, nullptr, nullptr), 0);
    pthread_t runner;
    auto body = [](void *) -> void * {
        mio_loop_run(there);
        mio_loop_hold(there, -1);
        mio_loop_run(there);
        return nullptr;
    };
    ck_assert_int_gt(mio_stream_move(streams.server, mio_loop_remote(there), move_told, &told), 0);
    assert_is(pthread_create(&runner, nullptr, body, nullptr), 0);
    run_to_end(here);
    pthread_join(runner, nullptr);
    assert_is(told.calls, 1);
    assert_is(told.status, 0);
    ck_assert_ptr_eq(told.where, there);
    assert_is(told.in.received, 300000);
    assert_is(told.in.end, MIO_EOF);
    ck_assert(!told.in.wrong);
    assert_is(mio_handle_close(streams.client, nullptr, nullptr), 0);
    run_to_end(here);
}

TEST(a_move_to_a_loop_that_is_gone_says_so_and_leaks_nothing) {
    mio_loop_t *here = loop_open(), *there = loop_open();
    pair streams = connect_pair(here);
    static mover told;
    memset(&told, 0, sizeof told);
    mio_remote_t *remote = mio_remote_retain(mio_loop_remote(there));
    loop_close(there);
    const mio_req_t id = mio_stream_move(streams.server, remote, move_told, &told);
    if (id > 0) {
        ck_assert(comes(here, [] { return told.calls != 0; }));
        assert_is(told.calls, 1);
        ck_assert_int_lt(told.status, 0);
        ck_assert_ptr_eq(told.where, here); // it failed before it left: the stream is still open here
        assert_is(mio_handle_is_closing(streams.server), 0);
        inbox in = {};
        in.stop_at = 100;
        mio_buf_t bytes = pattern_buf(here, 100, 0);
        ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
        ck_assert_int_gt(mio_stream_write(streams.client, &bytes, 1, nullptr, nullptr), 0);
        run_to_stop(here);
        ck_assert(!in.wrong);
    } else {
        assert_is(id, MIO_ESHUTDOWN);
    }
    mio_remote_release(remote);
}
