// Writes that wish not to be copied: the same on every backend, whether the wish comes true or not. On loopback the
// kernel lends until it says, with the first acknowledgement, that it copied; so each test has connections of its own.
#include "lending.h"

#include <sys/socket.h>

using namespace api;

// --- calls ----------------------------------------------------------------------------------------------------------

TEST(write_flags_answers_each_mistake) {
    start_over();
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    mio_buf_t buf = watched_buf(LARGE, 0), none = {};
    assert_is(mio_stream_write_flags(nullptr, &buf, 1, ZEROCOPY, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_stream_write_flags(streams.client, nullptr, 1, ZEROCOPY, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_stream_write_flags(streams.client, &buf, 0, ZEROCOPY, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_stream_write_flags(streams.client, &none, 1, ZEROCOPY, nullptr, nullptr), MIO_EINVAL);
    const unsigned wrong[] = {2u, 3u, 0x80000000u, ~0u};
    for (unsigned unknown : wrong)
        assert_is(mio_stream_write_flags(streams.client, &buf, 1, unknown, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_stream_set_queue_max(streams.client, LARGE - 1), 0);
    assert_is(mio_stream_write_flags(streams.client, &buf, 1, ZEROCOPY, nullptr, nullptr), MIO_ENOBUFS);
    ck_assert_int_gt(mio_stream_shutdown(streams.client, nullptr, nullptr), 0);
    assert_is(mio_stream_write_flags(streams.client, &buf, 1, ZEROCOPY, nullptr, nullptr), MIO_EPIPE);
    assert_is(mio_handle_close(streams.client, nullptr, nullptr), 0);
    assert_is(mio_stream_write_flags(streams.client, &buf, 1, ZEROCOPY, nullptr, nullptr), MIO_EBADF);
    assert_is(watch.out, 1);
    mio_buf_release(&buf);
}

// --- bytes and order ------------------------------------------------------------------------------------------------

struct sequence {
    uint64_t next;
};
static sequence order;

static void told_in_order(mio_stream_t *, int status, int64_t sent, mio_buf_t *bufs, unsigned n, void *arg) {
    if (is_over()) return;
    assert_is(reinterpret_cast<uintptr_t>(arg), order.next);
    order.next++;
    assert_is(status, 0);
    int64_t total = 0;
    for (unsigned i = 0; i < n; i++) total += static_cast<int64_t>(bufs[i].len);
    assert_is(sent, total);
}

TEST(wishes_and_plain_writes_arrive_in_order) {
    start_over();
    order = {};
    mio_loop_t *loop = loop_open();
    static const size_t sizes[] = {1, 100, MIO_ZEROCOPY_MIN - 1, MIO_ZEROCOPY_MIN, MIO_ZEROCOPY_MIN + 1, LARGE, 3 << 20};
    constexpr unsigned COUNT = sizeof sizes / sizeof sizes[0];
    static char borrowed[LARGE];
    uint64_t total = 0;
    for (unsigned round = 0; round < 3; round++) {
        pair streams = connect_pair(loop);
        inbox in = {};
        uint64_t offset = 0;
        order.next = 0;
        assert_is(mio_stream_set_queue_max(streams.client, 64 << 20), 0);
        for (unsigned i = 0; i < 4 * COUNT; i++) {
            const size_t size = sizes[(i * 5 + round) % COUNT];
            mio_buf_t bufs[3] = {};
            unsigned n = 1;
            if (i % 4 == 3 && size == LARGE) { // borrowed: copied, which nobody can tell
                pattern_fill(borrowed, LARGE, offset);
                bufs[0] = mio_buf_borrow(borrowed, LARGE);
                if (i >= COUNT) bufs[0] = pattern_buf(loop, size, offset); // once only
            } else if (size > 1000 && i % 3 == 0) {
                n = 3;
                bufs[0] = watched_buf(10, offset);
                bufs[1] = watched_buf(size - 500, offset + 10);
                bufs[2] = watched_buf(490, offset + size - 490);
            } else {
                bufs[0] = watched_buf(size, offset);
            }
            offset += size;
            const unsigned flags = i % 5 == 4 ? 0 : ZEROCOPY;
            ck_assert_int_gt(mio_stream_write_flags(streams.client, bufs, n, flags, told_in_order,
                                                    reinterpret_cast<void *>(static_cast<uintptr_t>(i))), 0);
        }
        total += offset;
        in.stop_at = offset;
        ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
        run_to_stop(loop);
        (void)comes(loop, [&] { return order.next == 4 * COUNT; });
        assert_is(order.next, 4 * COUNT);
        ck_assert(!in.wrong);
        assert_is(watch.out, 0);
        mio_handle_abandon(streams.client);
        mio_handle_abandon(streams.server);
    }
    ck_assert_uint_eq(metrics(loop).bytes_written, total);
}

// The one thing that a wish must never do: send what the program wrote into its buffer after it was told.
struct refill {
    mio_stream_t *server;
    inbox *in;
    int told;
};

static void told_and_spoils(mio_stream_t *, int status, int64_t sent, mio_buf_t *bufs, unsigned, void *arg) {
    if (is_over()) return;
    refill *r = static_cast<refill *>(arg);
    assert_is(status, 0);
    assert_is(sent, LARGE);
    memset(bufs[0].base, 0xee, bufs[0].len);
    r->told++;
}

TEST(the_memory_is_the_programs_when_it_is_told_so) {
    start_over();
    mio_loop_t *loop = loop_open();
    for (int round = 0; round < 20; round++) {
        pair streams = connect_pair(loop); // most of it finds no room at the peer, which does not read yet
        inbox in = {};
        refill r = {streams.server, &in, 0};
        in.stop_at = 2 * LARGE;
        wish(streams.client, LARGE, 0, told_and_spoils, &r);
        wish(streams.client, LARGE, LARGE, told_and_spoils, &r);
        run_for(loop, 2 * MIO_MILLISECOND); // nobody reads yet
        ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
        run_to_stop(loop);
        ck_assert(!in.wrong);
        (void)comes(loop, [&] { return r.told == 2; });
        assert_is(r.told, 2);
        assert_is(watch.out, 0);
        mio_handle_abandon(streams.client);
        mio_handle_abandon(streams.server);
    }
}

TEST(on_loopback_the_second_wish_is_an_ordinary_write) {
    KERNEL_ONLY("about loopback");
    start_over();
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    static inbox in;
    in = {};
    static outcome told;
    told = {};
    told.stop = true;
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    wish(streams.client, MIO_ZEROCOPY_MIN, 0, write_told, &told);
    run_to_stop(loop);
    assert_is(told.status, 0);
    assert_is(mio_stream_read_stop(streams.server), 0);
    run_for(loop, MIO_MILLISECOND);
    // Nobody reads: what is told of is in the kernel, by a copy.
    for (int i = 1; i < 4; i++) {
        wish(streams.client, MIO_ZEROCOPY_MIN, 0, write_told, &told);
        run_to_stop(loop);
        assert_is(told.calls, 1 + i);
        assert_is(told.status, 0);
        assert_is(watch.out, 0);
    }
}

TEST(a_wish_on_a_unix_stream_is_an_ordinary_write) {
    KERNEL_ONLY("a socket pair of the kernel");
    start_over();
    mio_loop_t *loop = loop_open();
    int ends[2];
    assert_is(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    mio_stream_t *out = nullptr, *in = nullptr;
    assert_is(mio_stream_adopt(loop, ends[0], nullptr, 0, &out), 0);
    assert_is(mio_stream_adopt(loop, ends[1], nullptr, 0, &in), 0);
    static inbox got;
    got = {};
    outcome told = {};
    got.stop_at = LARGE;
    ck_assert_int_gt(mio_stream_read_start(in, 0, read_into, &got), 0);
    wish(out, LARGE, 0, write_told, &told);
    run_to_stop(loop);
    run_for(loop, MIO_MILLISECOND);
    ck_assert(!got.wrong);
    assert_is(told.status, 0);
}

TEST(a_wish_before_the_connection_stands) {
    start_over();
    mio_loop_t *loop = loop_open();
    static inbox in;
    in = {};
    in.stop_at = 2 * LARGE;
    mio_addr_t at;
    listen_on(loop, [](mio_listener_t *, int status, mio_stream_t *stream, void *) {
        if (status == 0) ck_assert_int_gt(mio_stream_read_start(stream, 0, read_into, &in), 0);
    }, nullptr, &at);
    mio_stream_t *client = nullptr;
    static outcome connected, told;
    connected = told = {};
    ck_assert_int_gt(mio_tcp_connect(loop, &at, nullptr, stream_told, &connected, &client), 0);
    wish(client, LARGE, 0, write_told, &told);
    wish(client, LARGE, LARGE, write_told, &told);
    run_to_stop(loop);
    (void)comes(loop, [&] { return told.calls == 2; });
    assert_is(told.calls, 2);
    assert_is(told.status, 0);
    ck_assert(!in.wrong);
    // Refused: nothing is lent, and the buffers come back with the error.
    const refusing nobody(loop);
    told = {};
    ck_assert_int_gt(mio_tcp_connect(loop, &nobody.at, nullptr, stream_told, &connected, &client), 0);
    wish(client, LARGE, 0, write_told, &told);
    ck_assert(comes(loop, [] { return told.calls != 0; }));
    assert_is(told.status, MIO_ECONNREFUSED);
    assert_is(told.sent, 0);
    assert_is(watch.out, 0);
}

TEST(an_echo_of_wishes) {
    start_over();
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    static inbox in;
    in = {};
    constexpr uint64_t TOTAL = 4 << 20;
    in.stop_at = TOTAL;
    auto echo_read = [](mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *) {
        if (n > 0) mio_stream_write_flags(stream, buf, 1, ZEROCOPY, nullptr, nullptr); // slices of receive blocks
    };
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, echo_read, nullptr), 0);
    ck_assert_int_gt(mio_stream_read_start(streams.client, MIO_READ_NO_AUTOPAUSE, read_into, &in), 0);
    uint64_t offset = 0;
    for (; offset < TOTAL; offset += 256 << 10) wish(streams.client, 256 << 10, offset, nullptr, nullptr);
    run_to_stop(loop);
    ck_assert(!in.wrong);
    (void)comes(loop, [&] { return watch.out == 0; });
    assert_is(watch.out, 0);
}
