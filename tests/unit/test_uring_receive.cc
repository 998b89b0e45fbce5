// io_uring's receives into a ring of buffers: one for a stream's life, whatever ends it meanwhile; where the bytes are;
// and what becomes of buffers that the program keeps.
#include "support/ring_model_loop.h"

#if MIO_HAVE_URING

#include "support/random.h"

#include <errno.h>
#include <poll.h>

using namespace test;

static conn a, b;

static int open_one(void **) {
    const ring_world w = {};
    ring_loop_open(&w);
    conn_open(&a);
    conn_read(&a);
    turn();
    return 0;
}

static int close_loop(void **) {
    ring_loop_close();
    return 0;
}

static void arrives(const conn *c, const std::string &bytes) { ring_model_receive(c->fd, bytes.data(), bytes.size()); }

static std::string pattern(size_t n, unsigned seed) {
    std::string bytes(n, 0);
    for (size_t i = 0; i < n; i++) bytes[i] = static_cast<char>('a' + (i * 7 + i / 26 + seed) % 26);
    return bytes;
}

// --- as long as all goes well ---------------------------------------------------------------------------------------

static void test_one_receive_for_a_streams_life(void **) {
    const struct io_uring_sqe *sqe = last_taken(IORING_OP_RECV, a.fd);
    assert_int_equal(sqe->flags, IOSQE_BUFFER_SELECT);
    assert_int_equal(sqe->ioprio, IORING_RECV_MULTISHOT); // polling first would miss an end behind bytes
    assert_int_equal(sqe->len, 0);
    for (int i = 0; i < 100; i++) {
        arrives(&a, "message,");
        turn();
        assert_int_equal(a.reads, i + 1);
    }
    assert_int_equal(taken_of(IORING_OP_RECV, a.fd), 1);
    assert_int_equal(scripted_count(call::recv), 0);
    assert_int_equal(a.got.size(), 800);
}

static void test_the_end_and_errors_are_told_once(void **) {
    const int ends[] = {0, -ECONNRESET, -ETIMEDOUT, -EPIPE};
    for (int end : ends) {
        conn c;
        conn_open(&c);
        conn_read(&c);
        turn();
        arrives(&c, "last words");
        ring_model_receive_end(c.fd, end);
        turns(3);
        assert_string_equal(c.got.c_str(), "last words");
        assert_int_equal(c.ends, 1);
        assert_int_equal(c.end, end == 0 ? static_cast<int>(MIO_EOF) : end);
        assert_false(is_armed(IORING_OP_RECV, &c));
        conn_close(&c);
        turns(2);
        assert_int_equal(c.closes, 1);
    }
}

static void test_an_end_that_nobody_asked_for_is_none(void **) {
    for (int res : {-ECANCELED, -EINTR, -EAGAIN}) {
        complete(IORING_OP_RECV, a.fd, res, 0);
        turns(2);
        assert_true(is_armed(IORING_OP_RECV, &a));
        arrives(&a, "z");
        turn();
    }
    assert_string_equal(a.got.c_str(), "zzz");
    assert_int_equal(a.ends, 0);
    assert_int_equal(taken_of(IORING_OP_RECV, a.fd), 4);
}

// The queue has room for 8 of its completions: the kernel ends the receive with the ninth, and what did not fit into
// that one waits in the socket.
static void test_bytes_keep_their_order_when_a_receive_ends_among_them(void **) {
    ring_loop_close();
    ring_world w = {};
    w.without = MIO_URING_INCREMENTAL; // pieces of 4 KiB
    ring_world_open(&w);
    ring_model_kernel()->cq_entries = 8;
    ring_loop_make(&w);
    conn_open(&a);
    conn_read(&a);
    turn();
    const std::string bytes = pattern(200000, 0);
    for (size_t at = 0; at < bytes.size(); at += 50000) {
        arrives(&a, bytes.substr(at, 50000));
        turn();
    }
    turns(8);
    assert_true(a.got == bytes);
    assert_int_equal(ring_model_unread(a.fd), 0);
    arrives(&a, "more");
    turns(2);
    assert_true(a.got == bytes + "more");
    assert_true(is_armed(IORING_OP_RECV, &a));
    assert_true(taken_of(IORING_OP_RECV, a.fd) >= 2);
}

// Kernels whose receives miss the end of a unix stream: a poll tells of it, and calls of our own read what is there.
static void test_an_end_that_the_receive_misses_is_told_by_a_poll(void **) {
    ring_loop_close();
    ring_world w = {};
    w.without = mio::URING_RECEIVE_UNIX;
    ring_loop_open(&w);
    conn_open_on(&a, 0, AF_UNIX);
    conn_read(&a);
    turn();
    assert_true(is_armed(IORING_OP_RECV, &a));
    assert_int_equal(last_taken(IORING_OP_POLL_ADD, a.fd)->poll32_events, POLLRDHUP);
    arrives(&a, "bytes");
    turn();
    assert_string_equal(a.got.c_str(), "bytes");
    scripted_push_data(call::recv, a.fd, ", more", 6); // behind the receive's back
    scripted_push(call::recv, a.fd, 0);
    ring_model_fire(a.fd, POLLRDHUP);
    turns(4);
    assert_string_equal(a.got.c_str(), "bytes, more");
    assert_int_equal(a.ends, 1);
    assert_int_equal(a.end, MIO_EOF);
    conn_open(&b); // TCP is right
    conn_read(&b);
    turn();
    assert_false(is_armed(IORING_OP_POLL_ADD, &b));
    conn_close(&a);
    turns(2);
    assert_int_equal(a.closes, 1);
    assert_int_equal(ring_model_pending(ring), 2); // the wake-up's, b's
}

// A kernel that has no memory for that poll is not asked again and again: the stream is read by calls of our own.
static void test_a_poll_for_the_end_that_is_refused_is_not_asked_for_again(void **) {
    ring_loop_close();
    ring_world w = {};
    w.without = mio::URING_RECEIVE_UNIX;
    ring_loop_open(&w);
    conn_open_on(&a, 0, AF_UNIX);
    ring_model_answer_next(IORING_OP_POLL_ADD, a.fd, -ENOMEM);
    conn_read(&a);
    scripted_push(call::recv, a.fd, -EAGAIN);
    turns(8);
    assert_int_equal(taken_of(IORING_OP_POLL_ADD, a.fd), 2); // of the end, and then of bytes and the end
    assert_false(is_armed(IORING_OP_RECV, &a));
    assert_true(is_armed(IORING_OP_POLL_ADD, &a));
    scripted_push_data(call::recv, a.fd, "bytes", 5);
    scripted_push(call::recv, a.fd, 0);
    ring_model_fire(a.fd, POLLIN | POLLRDHUP);
    turns(4);
    assert_string_equal(a.got.c_str(), "bytes");
    assert_int_equal(a.end, MIO_EOF);
    conn_close(&a);
    turns(2);
    assert_int_equal(a.closes, 1);
}

// What came while a receive was armed is its one look: a reset that came along would never be heard of.
static void test_a_reset_that_came_with_the_first_bytes_is_looked_for(void **) {
    arrives(&a, "bytes");
    scripted_push(call::poll_one, a.fd, POLLRDHUP | POLLHUP | POLLERR);
    scripted_push(call::recv, a.fd, -ECONNRESET);
    turns(4);
    assert_string_equal(a.got.c_str(), "bytes");
    assert_int_equal(a.ends, 1);
    assert_int_equal(a.end, MIO_ECONNRESET);
    conn_open(&b);
    conn_read(&b);
    for (int i = 0; i < 5; i++) {
        arrives(&b, "more");
        turns(2);
    }
    assert_int_equal(scripted_count_fd(call::poll_one, b.fd), 1); // once in a receive's life
}

// Closed, stopped, and read again while that poll waits: it goes, and comes again.
static void test_the_poll_for_the_end_goes_with_its_stream(void **) {
    ring_loop_close();
    ring_world w = {};
    w.without = mio::URING_RECEIVE_UNIX;
    ring_loop_open(&w);
    for (int fault = 0; fault < 4; fault++) {
        conn_open_on(&a, 0, AF_UNIX);
        conn_read(&a);
        if (fault == 1) ring_model_plan(ring, 1, 0); // the receive is taken, the poll is not
        turns(2);
        const int nth = waiting(IORING_OP_POLL_ADD, a.fd);
        assert_true(nth >= 0);
        if (fault == 2) {
            complete(IORING_OP_POLL_ADD, a.fd, -ECANCELED, 0);
            turns(2);
            assert_true(is_armed(IORING_OP_POLL_ADD, &a));
        }
        if (fault == 3) {
            assert_int_equal(mio_stream_read_stop(a.stream), 0);
            turns(2);
            conn_read(&a);
            turns(2);
        }
        arrives(&a, "hello");
        turn();
        assert_string_equal(a.got.c_str(), "hello");
        conn_close(&a);
        turns(3);
        assert_int_equal(a.closes, 1);
        assert_int_equal(ring_model_pending(ring), 1);
    }
}

// --- where the bytes are --------------------------------------------------------------------------------------------

struct kept_bytes {
    mio_buf_t buf;
    std::string bytes; // as they were when they came
};

static std::vector<kept_bytes> kept;
static random_source source;

static void check_and_release(size_t nth) {
    assert_int_equal(kept[nth].buf.len, kept[nth].bytes.size());
    assert_memory_equal(kept[nth].buf.base, kept[nth].bytes.data(), kept[nth].buf.len);
    mio_buf_release(&kept[nth].buf);
    kept.erase(kept.begin() + static_cast<std::ptrdiff_t>(nth));
}

// Some are kept for a while, some for long.
static void keep_some(mio_stream_t *, int64_t n, mio_buf_t *buf, void *arg) {
    auto *c = static_cast<conn *>(arg);
    if (n < 0) {
        c->ends++;
        return;
    }
    const std::string bytes(buf->base, static_cast<size_t>(n));
    c->got += bytes;
    if (random_below(&source, 3) == 0) kept.push_back({mio_buf_take(buf), bytes});
    while (kept.size() > 40) check_and_release(random_below(&source, kept.size()));
}

static void receive_at_random(const ring_world *w) {
    ring_loop_close();
    ring_loop_open(w);
    source = {7};
    static conn many[3];
    std::string sent[3];
    for (conn &c : many) {
        conn_open(&c);
        assert_true(mio_stream_read_start(c.stream, 0, keep_some, &c) > 0);
    }
    for (unsigned round = 0; round < 4000; round++) {
        const size_t at = random_below(&source, 3);
        const std::string bytes = pattern(1 + random_below(&source, round % 50 == 0 ? 20000 : 600), round);
        arrives(&many[at], bytes);
        sent[at] += bytes;
        if (random_below(&source, 3) != 0) turn();
        if (random_below(&source, 100) == 0)
            while (!kept.empty()) check_and_release(0);
    }
    for (unsigned round = 0; round < 50; round++) {
        while (!kept.empty()) check_and_release(0);
        turn();
    }
    for (unsigned i = 0; i < 3; i++) {
        assert_true(many[i].got == sent[i]);
        assert_int_equal(many[i].ends, 0);
    }
    while (!kept.empty()) check_and_release(0);
    turn();
}

static void test_incremental_offsets_over_many_completions(void **) {
    const ring_world w = {};
    receive_at_random(&w);
    assert_true(taken_of(IORING_OP_RECV, ANY_FD) > 0);
}

static void test_incremental_offsets_in_small_blocks(void **) {
    ring_world w = {};
    w.buffer_block = 4096;
    receive_at_random(&w);
}

static void test_classic_buffers_over_many_completions(void **) {
    ring_world w = {};
    w.without = MIO_URING_INCREMENTAL;
    receive_at_random(&w);
}

static void test_classic_buffers_with_hardly_any_memory(void **) {
    ring_world w = {};
    w.without = MIO_URING_INCREMENTAL;
    w.buffer_block = 8192;
    w.buffer_max_bytes = 65536;
    receive_at_random(&w);
}

// What is kept keeps its bytes, and its block is not the kernel's any more: that has as many buffers as before.
static void test_a_block_that_is_kept_is_replaced(void **) {
    const unsigned lent = ring_model_buffers(ring, mio::URING_BUFFER_GROUP);
    assert_true(lent >= 2);
    a.keep = true;
    arrives(&a, "keep this");
    turn();
    a.keep = false;
    const char *base = a.kept[0].base;
    const std::string block = pattern(65536, 1);
    for (unsigned round = 0; round < 3 * lent; round++) { // the whole ring of buffers, three times
        arrives(&a, block);
        turns(2);
        assert_true(a.got.size() == 9 + (round + 1) * block.size());
        turn();
        assert_int_equal(ring_model_buffers(ring, mio::URING_BUFFER_GROUP), lent);
    }
    assert_memory_equal(base, "keep this", 9);
    conn_drop_kept(&a);
}

// --- no buffers -----------------------------------------------------------------------------------------------------

static void open_scarce() {
    ring_loop_close();
    ring_world w = {};
    w.buffer_block = 4096;
    w.buffer_max_bytes = 32768; // eight blocks
    ring_loop_open(&w);
    conn_open(&a);
    conn_read(&a);
    turn();
    a.keep = true;
}

static void test_without_buffers_nothing_is_armed_and_nothing_spins(void **) {
    open_scarce();
    const std::string bytes = pattern(100000, 3);
    arrives(&a, bytes);
    turns(20);
    assert_true(a.got.size() < bytes.size());
    assert_int_equal(a.ends, 0);
    assert_string_not_equal(logged.c_str(), "");
    assert_true(logged.find("reading pauses") != std::string::npos);
    assert_false(is_armed(IORING_OP_RECV, &a));
    const unsigned before = enters(), armed = taken_of(IORING_OP_RECV, a.fd);
    const uint64_t tried = scripted_count(call::recv);
    assert_int_equal(mio_loop_run_once(the_loop, MIO_SECOND), MIO_ALIVE); // sleeps
    assert_int_equal(enters(), before + 1);
    assert_int_equal(ring_model_enter_last(ring)->result, -ETIME);
    assert_int_equal(taken_of(IORING_OP_RECV, a.fd), armed);
    assert_int_equal(scripted_count(call::recv), tried);
    // It resumes by itself as buffers come home, and loses nothing.
    for (unsigned i = 0; i < 200 && a.got.size() < bytes.size(); i++) {
        conn_drop_kept(&a);
        turns(3);
    }
    assert_true(a.got == bytes);
    conn_drop_kept(&a);
    a.keep = false;
    turns(2);
    arrives(&a, "more");
    turns(2);
    assert_true(a.got == bytes + "more");
    assert_true(is_armed(IORING_OP_RECV, &a)); // by the ring again
}

// -ENOBUFS says that the ring of buffers was empty: there is no use in another receive before there are some.
static void test_no_receive_is_armed_again_into_an_empty_ring_of_buffers(void **) {
    open_scarce();
    for (unsigned round = 0; round < 300; round++) {
        const unsigned buffers = ring_model_buffers(ring, mio::URING_BUFFER_GROUP),
                       armed = taken_of(IORING_OP_RECV, a.fd);
        arrives(&a, pattern(700, round));
        if (random_below(&source, 9) == 0) conn_drop_kept(&a);
        turn();
        if (taken_of(IORING_OP_RECV, a.fd) != armed)
            assert_true(buffers != 0 || ring_model_buffers(ring, mio::URING_BUFFER_GROUP) != 0);
    }
    a.keep = false;
    conn_drop_kept(&a);
    for (unsigned i = 0; i < 30; i++) turn();
    assert_int_equal(a.got.size(), 300 * 700);
    assert_int_equal(ring_model_unread(a.fd), 0);
}

static void test_one_that_keeps_everything_starves_nobody_for_ever(void **) {
    open_scarce();
    conn_open(&b);
    conn_read(&b);
    turn();
    arrives(&a, pattern(60000, 5));
    arrives(&b, "hello");
    turns(10);
    conn_drop_kept(&a);
    turns(3);
    assert_string_equal(b.got.c_str(), "hello");
    a.keep = false;
    for (int i = 0; i < 40; i++) {
        conn_drop_kept(&a);
        turn();
    }
    assert_int_equal(a.got.size(), 60000);
}

// --- no ring of buffers ---------------------------------------------------------------------------------------------

static void expect_reading_by_polls() {
    conn_open(&a);
    conn_read(&a);
    turns(2);
    assert_true(is_armed(IORING_OP_POLL_ADD, &a));
    arrives(&a, "hello");
    ring_model_fire(a.fd, POLLIN);
    turn();
    assert_string_equal(a.got.c_str(), "hello");
    assert_int_equal(taken_of(IORING_OP_RECV, a.fd), 0);
    assert_int_equal(a.ends, 0);
}

static void test_a_kernel_that_does_not_cut_gets_small_buffers(void **) {
    ring_loop_close();
    ring_world w = {};
    ring_world_open(&w);
    ring_model_kernel()->buffer_flags = 0;
    ring_loop_make(&w);
    conn_open(&a);
    conn_read(&a);
    turn();
    assert_true(ring_model_buffers(ring, mio::URING_BUFFER_GROUP) == 64);
    arrives(&a, "hello");
    turn();
    assert_string_equal(a.got.c_str(), "hello");
}

static void test_buffers_refused_at_the_first_run_mean_polls(void **) {
    ring_loop_close();
    ring_world w = {};
    ring_world_open(&w);
    ring_model_kernel()->register_error[IORING_REGISTER_PBUF_RING] = -ENOMEM;
    ring_loop_make(&w);
    expect_reading_by_polls();
    assert_true(logged.find("no ring of buffers: MIO_ENOMEM") != std::string::npos);
}

static void test_no_memory_for_the_ring_of_buffers_means_polls(void **) {
    ring_loop_close();
    const ring_world w = {};
    ring_loop_open(&w);
    for (int i = 0; i < 2; i++) scripted_push(call::map_shared, -1, 0);
    expect_reading_by_polls();
}

#define one_test(name) cmocka_unit_test_setup_teardown(name, open_one, close_loop)

int main() {
    const struct CMUnitTest tests[] = {
        one_test(test_one_receive_for_a_streams_life),
        one_test(test_the_end_and_errors_are_told_once),
        one_test(test_an_end_that_nobody_asked_for_is_none),
        one_test(test_bytes_keep_their_order_when_a_receive_ends_among_them),
        one_test(test_an_end_that_the_receive_misses_is_told_by_a_poll),
        one_test(test_a_poll_for_the_end_that_is_refused_is_not_asked_for_again),
        one_test(test_a_reset_that_came_with_the_first_bytes_is_looked_for),
        one_test(test_the_poll_for_the_end_goes_with_its_stream),
        one_test(test_incremental_offsets_over_many_completions),
        one_test(test_incremental_offsets_in_small_blocks),
        one_test(test_classic_buffers_over_many_completions),
        one_test(test_classic_buffers_with_hardly_any_memory),
        one_test(test_a_block_that_is_kept_is_replaced),
        one_test(test_without_buffers_nothing_is_armed_and_nothing_spins),
        one_test(test_no_receive_is_armed_again_into_an_empty_ring_of_buffers),
        one_test(test_one_that_keeps_everything_starves_nobody_for_ever),
        one_test(test_a_kernel_that_does_not_cut_gets_small_buffers),
        one_test(test_buffers_refused_at_the_first_run_mean_polls),
        one_test(test_no_memory_for_the_ring_of_buffers_means_polls),
    };
    return cmocka_run_group_tests_name("uring_receive", tests, nullptr, nullptr);
}

#else

int main() { return test::ring_tests_skipped("uring_receive"); }

#endif
