// io_uring's completion queue, full: what did not fit is kept back by the kernel until somebody asks for it, and a
// failed send may be among it. And the loop's own ring of records, full: the rest waits in the queue.
#include "support/ring_model_loop.h"

#if MIO_HAVE_URING

#include <errno.h>
#include <poll.h>

using namespace test;

// As small a queue as no kernel gives: so that few completions fill it.
static void open_small(unsigned cq_entries, uint32_t without) {
    ring_world w = {};
    w.without = without;
    ring_world_open(&w);
    ring_model_kernel()->cq_entries = cq_entries;
    ring_loop_make(&w);
}

static void open_streams(conn *first, size_t n, bool read) {
    for (size_t i = 0; i < n; i++) {
        conn_open(&first[i]);
        if (read) conn_read(&first[i]);
    }
    turns(3);
}

static void expect_one_write(const conn *c, int status, int64_t sent) {
    assert_int_equal(c->statuses.size(), 1);
    assert_int_equal(c->statuses[0], status);
    assert_int_equal(c->sent[0], sent);
}

// --- failures that hide ---------------------------------------------------------------------------------------------

// Nine sends fail, of the queue's eight places: the ninth's failure is seen only when there is room and somebody asks.
static void test_a_failure_that_found_no_room_is_seen(void **) {
    open_small(8, 0);
    conn many[10];
    open_streams(many, 10, false);
    for (int i = 0; i < 9; i++) ring_model_answer_next(IORING_OP_SEND, many[i].fd, -EPIPE);
    const unsigned before = enters();
    for (conn &c : many) conn_write(&c, "bytes");
    turn();
    assert_int_equal(enters(), before + 2);
    const ring_enter *asked = ring_model_enter_last(ring);
    assert_int_equal(asked->to_submit, 0);
    assert_int_equal(asked->min_complete, 0);
    assert_true((asked->flags & IORING_ENTER_GETEVENTS) != 0);
    for (int i = 0; i < 9; i++) expect_one_write(&many[i], MIO_EPIPE, 0);
    expect_one_write(&many[9], 0, 5);
    assert_int_equal(metrics().bytes_written, 5);
    ring_loop_close();
}

static conn hiding[10];
static unsigned hidden_calls;

// While the kernel keeps anything back, nobody is told that it was sent.
static void nothing_is_decided_yet(conn *) {
    if (ring_model_backlog(ring) == 0) return;
    hidden_calls++;
    assert_int_equal(hiding[8].statuses.size() + hiding[9].statuses.size(), 0);
    assert_int_equal(metrics().bytes_written, 0);
}

static void test_nothing_counts_as_sent_while_something_is_kept_back(void **) {
    for (int refusal : {-EPERM, -EINTR, -EBUSY, -EAGAIN}) {
        open_small(8, 0);
        open_streams(hiding, 10, false);
        hidden_calls = 0;
        for (int i = 0; i < 9; i++) ring_model_answer_next(IORING_OP_SEND, hiding[i].fd, -EPIPE);
        for (conn &c : hiding) conn_write(&c, "bytes");
        for (int i = 0; i < 8; i++) hiding[i].on_written = nothing_is_decided_yet;
        ring_model_plan(ring, RING_TAKES_ALL, 0);
        ring_model_plan(ring, 0, refusal); // the one that asks for what was kept back
        turn();
        if (refusal == -EPERM) assert_int_equal(hidden_calls, 8);
        turn();
        expect_one_write(&hiding[8], MIO_EPIPE, 0);
        expect_one_write(&hiding[9], 0, 5);
        assert_int_equal(metrics().bytes_written, 5);
        ring_loop_close();
    }
}

// Completions that make room for those kept back need memory; without any it takes more turns, and is right all the
// same.
static void test_without_memory_for_what_was_kept_back(void **) {
    open_small(8, 0);
    open_streams(hiding, 10, true); // each has its entry then
    hidden_calls = 0;
    for (int i = 0; i < 9; i++) ring_model_answer_next(IORING_OP_SEND, hiding[i].fd, -EPIPE);
    for (conn &c : hiding) conn_write(&c, "bytes");
    for (int i = 0; i < 8; i++) hiding[i].on_written = nothing_is_decided_yet;
    scripted_push(call::alloc, -1, 0);
    turn();
    assert_int_equal(hidden_calls, 8);
    turns(2);
    for (int i = 0; i < 9; i++) expect_one_write(&hiding[i], MIO_EPIPE, 0);
    expect_one_write(&hiding[9], 0, 5);
    ring_loop_close();
}

static conn readers[40];

static void all_readers_get_a_byte(void *) {
    for (int i = 0; i < 8; i++) ring_model_receive(readers[i].fd, "x", 1);
}

// Where completions come at any time the queue may be full before the enter: here they come while a call is made for
// another stream, after the loop has looked.
static void test_a_dead_peer_with_the_queue_full(void **) {
    open_small(8, MIO_URING_DEFER);
    open_streams(readers, 8, true);
    conn hot, dead, fine;
    open_streams(&hot, 1, true);
    open_streams(&dead, 1, false);
    open_streams(&fine, 1, false);
    complete(IORING_OP_RECV, hot.fd, -ENOBUFS, 0); // it is tried by a call
    turn();
    scripted_result busy = {};
    busy.value = -EAGAIN;
    busy.effect = all_readers_get_a_byte;
    scripted_push_result(call::recv, hot.fd, &busy);
    ring_model_answer_next(IORING_OP_SEND, dead.fd, -EPIPE);
    conn_write(&dead, "never");
    conn_write(&fine, "always");
    turn();
    expect_one_write(&dead, MIO_EPIPE, 0);
    expect_one_write(&fine, 0, 6);
    assert_int_equal(metrics().bytes_written, 6);
    turns(3);
    for (int i = 0; i < 8; i++) assert_string_equal(readers[i].got.c_str(), "x");
    ring_loop_close();
}

// --- no room for records --------------------------------------------------------------------------------------------

static void test_sends_are_decided_when_there_is_room_for_records(void **) {
    open_small(16, 0);
    static conn writers[33];
    open_streams(readers, 40, true);
    open_streams(writers, 33, false);
    for (conn &c : readers) ring_model_receive(c.fd, "hello", 5);
    for (conn &c : writers) conn_write(&c, "bytes");
    const unsigned before = enters();
    turn(); // 33 sends and 40 receives are 73 records, 64 find room; 24 completions were kept back
    assert_true(enters() > before + 1);
    unsigned told = 0;
    for (const conn &c : writers) told += static_cast<unsigned>(c.statuses.size());
    for (const conn &c : readers) told += c.reads;
    assert_int_equal(told, 64);
    turns(2);
    for (const conn &c : writers) expect_one_write(&c, 0, 5);
    for (conn &c : readers) {
        assert_int_equal(c.reads, 1);
        assert_string_equal(c.got.c_str(), "hello");
        c.got.clear();
    }
    turns(2);
    for (conn &c : readers) { // also those whose receive had ended for want of room
        assert_true(is_armed(IORING_OP_RECV, &c));
        ring_model_receive(c.fd, "again", 5);
    }
    turns(4);
    for (const conn &c : readers) assert_string_equal(c.got.c_str(), "again");
    ring_loop_close();
}

// A hundred streams that are tried by calls: no more of them in a turn than there are records for.
static void test_no_more_is_tried_than_there_is_room_for_records(void **) {
    open_small(0, 0);
    static conn tried[100];
    open_streams(tried, 100, true);
    for (conn &c : tried) complete(IORING_OP_RECV, c.fd, -ENOBUFS, 0);
    turn();
    for (conn &c : tried) ring_model_receive(c.fd, "hello", 5);
    turns(2);
    unsigned told = 0;
    for (const conn &c : tried) told += c.reads;
    assert_true(told <= 2 * 64);
    turns(8);
    for (const conn &c : tried) {
        assert_string_equal(c.got.c_str(), "hello");
        assert_true(is_armed(IORING_OP_RECV, &c));
    }
    ring_loop_close();
}

// Ten sends of which the first eight fail, so that what the ninth did is not known when its request is cancelled.
static conn undecided[10];
static mio_req_t undecided_id;

static void cancel_the_ninth(conn *) { assert_int_equal(mio_req_cancel(the_loop, undecided_id), 0); }

static void open_undecided(int32_t ninth) {
    open_small(8, 0);
    open_streams(undecided, 10, false);
    for (int i = 0; i < 8; i++) ring_model_answer_next(IORING_OP_SEND, undecided[i].fd, -EPIPE);
    ring_model_answer_next(IORING_OP_SEND, undecided[8].fd, ninth);
    ring_model_answer_next(IORING_OP_SEND, undecided[9].fd, -EPIPE);
    for (conn &c : undecided) {
        const mio_req_t id = conn_write(&c, "bytes");
        if (&c == &undecided[8]) undecided_id = id;
    }
    undecided[0].on_written = cancel_the_ninth;
    ring_model_plan(ring, RING_TAKES_ALL, 0);
    ring_model_plan(ring, 0, -EPERM);
    turn();
    assert_int_equal(undecided[8].statuses.size(), 0);
    turn();
    expect_one_write(&undecided[9], MIO_EPIPE, 0);
}

static void test_a_send_that_failed_is_cancelled_before_that_is_known(void **) {
    for (int32_t result : {-EPIPE, -EAGAIN, 2}) {
        open_undecided(result);
        expect_one_write(&undecided[8], MIO_ECANCELED, result > 0 ? result : 0);
        ring_loop_close();
    }
}

static void test_a_send_that_was_made_is_cancelled_before_that_is_known(void **) {
    open_undecided(RING_SUCCEEDS);
    expect_one_write(&undecided[8], 0, 5);
    ring_loop_close();
}

// --- other completions ----------------------------------------------------------------------------------------------

// None is lost, and each stream's come in order: 400 messages through a queue of 8.
static void test_none_is_lost_and_all_stay_in_order(void **) {
    open_small(8, 0);
    open_streams(readers, 40, true);
    std::string all;
    for (int round = 0; round < 10; round++) {
        const std::string word = std::to_string(round) + ",";
        all += word;
        for (conn &c : readers) {
            c.echo = true;
            ring_model_receive(c.fd, word.data(), word.size());
        }
        turns(round % 3 == 0 ? 1 : 2);
    }
    turns(10);
    for (conn &c : readers) {
        assert_string_equal(c.got.c_str(), all.c_str());
        assert_string_equal(sent_by(&c).c_str(), all.c_str());
        assert_int_equal(c.ends, 0);
    }
    const uint64_t allocations = metrics().allocations;
    for (int round = 0; round < 50; round++) {
        for (conn &c : readers) ring_model_receive(c.fd, "x", 1);
        turns(2);
    }
    assert_int_equal(metrics().allocations, allocations); // once warm it needs no more
    ring_loop_close();
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_failure_that_found_no_room_is_seen),
        cmocka_unit_test(test_nothing_counts_as_sent_while_something_is_kept_back),
        cmocka_unit_test(test_without_memory_for_what_was_kept_back),
        cmocka_unit_test(test_a_dead_peer_with_the_queue_full),
        cmocka_unit_test(test_sends_are_decided_when_there_is_room_for_records),
        cmocka_unit_test(test_no_more_is_tried_than_there_is_room_for_records),
        cmocka_unit_test(test_a_send_that_failed_is_cancelled_before_that_is_known),
        cmocka_unit_test(test_a_send_that_was_made_is_cancelled_before_that_is_known),
        cmocka_unit_test(test_none_is_lost_and_all_stay_in_order),
    };
    return cmocka_run_group_tests_name("uring_overflow", tests, nullptr, nullptr);
}

#else

int main() { return test::ring_tests_skipped("uring_overflow"); }

#endif
