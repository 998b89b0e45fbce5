// io_uring's enter: one a turn, whatever is to be done; what it does not take is asked for again; what it refuses ends
// nothing but the waiting. Counted exactly.
#include "support/ring_model_loop.h"

#if MIO_HAVE_URING

#include <errno.h>
#include <poll.h>

using namespace test;

static int open_loop(void **) {
    const ring_world w = {};
    ring_loop_open(&w);
    return 0;
}

static int close_loop(void **) {
    ring_loop_close();
    return 0;
}

constexpr unsigned MANY = 10;
static conn many[MANY];

static int open_many(void **) {
    open_loop(nullptr);
    for (conn &c : many) conn_open(&c);
    turn();
    return 0;
}

// --- what is not taken ----------------------------------------------------------------------------------------------

static void test_sends_that_were_not_taken_are_not_taken_for_sent(void **) {
    std::string all;
    for (unsigned taken = 0; taken <= MANY; taken++) {
        for (conn &c : many) conn_write(&c, "word,");
        ring_model_plan(ring, taken, 0);
        turn();
        for (unsigned i = 0; i < MANY; i++) {
            assert_int_equal(many[i].statuses.size(), taken + (i < taken ? 1 : 0));
            expect_sent(&many[i], i < taken ? all + "word," : all);
        }
        turn();
        all += "word,";
        for (conn &c : many) {
            expect_sent(&c, all);
            assert_int_equal(c.statuses.size(), taken + 1);
            assert_int_equal(c.statuses[taken], 0);
        }
    }
}

static void test_what_was_not_taken_keeps_its_order(void **) {
    for (conn &c : many) conn_write(&c, "x");
    for (unsigned taken : {1u, 0u, 2u, 3u}) {
        ring_model_plan(ring, taken, 0);
        turn();
    }
    turn();
    int last = 0;
    for (unsigned i = 0; i < ring_model_taken(ring); i++) {
        const struct io_uring_sqe *sqe = ring_model_sqe(ring, static_cast<int>(i));
        if (sqe->opcode != IORING_OP_SEND) continue;
        assert_true(sqe->fd > last);
        last = sqe->fd;
    }
    assert_int_equal(taken_of(IORING_OP_SEND, ANY_FD), MANY);
    for (conn &c : many) expect_sent(&c, "x");
}

// Gathered sends are built anew: their pieces lie where the first attempt's did, for other streams perhaps.
static void test_messages_that_were_not_taken_are_gathered_again(void **) {
    for (unsigned i = 0; i < MANY; i++) {
        conn_write(&many[i], std::to_string(i) + "-");
        conn_write(&many[i], std::to_string(i) + ".");
    }
    for (unsigned taken : {3u, 1u, 0u, 2u}) {
        ring_model_plan(ring, taken, 0);
        turn();
    }
    turn();
    for (unsigned i = 0; i < MANY; i++) expect_sent(&many[i], std::to_string(i) + "-" + std::to_string(i) + ".");
}

// --- what enter says ------------------------------------------------------------------------------------------------

static void test_an_error_before_anything_was_taken(void **) {
    std::string all;
    for (int error : {-EBUSY, -EAGAIN, -EINTR, -ETIME}) {
        for (conn &c : many) conn_write(&c, "x");
        ring_model_plan(ring, 0, error);
        turn();
        for (conn &c : many) expect_sent(&c, all);
        turn();
        all += "x";
        for (conn &c : many) {
            expect_sent(&c, all);
            assert_int_equal(c.statuses.size(), all.size());
        }
    }
}

static void test_an_error_after_something_was_taken(void **) {
    std::string all;
    for (int error : {-EBUSY, -EAGAIN, -EINTR, -ETIME}) {
        for (unsigned taken : {1u, 7u, MANY}) {
            for (conn &c : many) conn_write(&c, "x");
            ring_model_answer_next(IORING_OP_SEND, many[0].fd, -EAGAIN);
            ring_model_plan(ring, taken, error);
            turn();
            for (unsigned i = 0; i < MANY; i++) expect_sent(&many[i], i != 0 && i < taken ? all + "x" : all);
            turn(); // the poll
            ring_model_fire(many[0].fd, POLLOUT);
            turns(2);
            all += "x";
            for (conn &c : many) {
                expect_sent(&c, all);
                assert_int_equal(c.statuses.size(), all.size());
                assert_int_equal(c.statuses.back(), 0);
            }
        }
    }
}

// The kernel has no memory, or too much is kept back: it is given a while, but not so long that a wake would be missed.
static void test_a_busy_kernel_is_given_a_breather(void **) {
    for (int error : {-EBUSY, -EAGAIN}) {
        const int64_t begun_ns = scripted_now_ns();
        ring_model_plan(ring, 0, error);
        const unsigned before = enters();
        assert_int_equal(mio_loop_run_once(the_loop, MIO_SECOND), MIO_ALIVE);
        assert_int_equal(enters(), before + 2);
        assert_int_equal(ring_model_enter_last(ring)->min_complete, 1);
        assert_int_equal(ring_model_enter_last(ring)->timeout_ns, MIO_MILLISECOND);
        assert_int_equal(scripted_now_ns(), begun_ns + MIO_MILLISECOND);
    }
    ring_model_plan(ring, 0, -EBUSY); // not longer than was asked for
    assert_int_equal(mio_loop_run_once(the_loop, 1000), MIO_ALIVE);
    assert_int_equal(ring_model_enter_last(ring)->timeout_ns, 1000);
    ring_model_plan(ring, 0, -EBUSY); // and not when somebody is in a hurry
    const unsigned before = enters();
    turn();
    assert_int_equal(enters(), before + 1);
}

// A kernel that refuses to wait as well is not asked without pause: a millisecond passes by another call.
static void test_a_kernel_that_is_busy_for_ever_is_not_asked_without_pause(void **) {
    for (int error : {-EBUSY, -EAGAIN}) {
        const int pauses = scripted_count_fd(call::poll_one, -1);
        for (int i = 0; i < 3; i++) {
            ring_model_plan(ring, 0, error);
            ring_model_plan(ring, 0, error);
            assert_int_equal(mio_loop_run_once(the_loop, MIO_SECOND), MIO_ALIVE);
        }
        assert_int_equal(scripted_count_fd(call::poll_one, -1), pauses + 3);
    }
}

static void test_a_wait_ends_when_the_time_is_up(void **) {
    const int64_t begun_ns = scripted_now_ns();
    const unsigned before = enters();
    assert_int_equal(mio_loop_run_once(the_loop, 3 * MIO_SECOND + 7), MIO_ALIVE);
    assert_int_equal(enters(), before + 1);
    assert_int_equal(ring_model_enter_last(ring)->result, -ETIME);
    assert_int_equal(scripted_now_ns(), begun_ns + 3 * MIO_SECOND + 7);
    ring_model_plan(ring, 0, -EINTR); // interrupted: a turn, and nothing else
    assert_int_equal(mio_loop_run_once(the_loop, 3 * MIO_SECOND), MIO_ALIVE);
    assert_int_equal(enters(), before + 2);
}

static void arrives(void *arg) { ring_model_receive(static_cast<conn *>(arg)->fd, "late", 4); }

static void test_a_wait_ends_when_something_comes(void **) {
    conn_read(&many[0]);
    turn();
    ring_model_on_wait(arrives, &many[0]);
    const unsigned before = enters();
    assert_int_equal(mio_loop_run_once(the_loop, MIO_FOREVER), MIO_ALIVE);
    assert_int_equal(enters(), before + 1);
    assert_int_equal(ring_model_enter_last(ring)->min_complete, 1);
    assert_int_equal(ring_model_enter_last(ring)->timeout_ns, -1); // a time-out costs
    assert_string_equal(many[0].got.c_str(), "late");
}

// --- every kind of entry, taken or not ------------------------------------------------------------------------------

static unsigned connected;
static void on_connected(mio_stream_t *s, int status, void *) {
    assert_int_equal(status, 0);
    connected++;
    mio_handle_close(s, nullptr, nullptr);
}

// Something of everything in one enter of which `taken` entries are taken, then what `error` says: in the end all is
// well, whatever was said. Returns how many entries there were.
static unsigned everything(uint32_t without, unsigned taken, int error) {
    ring_world w = {};
    w.without = without;
    ring_loop_open(&w);
    if ((without & MIO_URING_CANCEL) != 0) without |= MIO_URING_ACCEPT | MIO_URING_RECEIVE | MIO_URING_CONNECT;
    connected = 0;
    ear listening;
    conn reads, local, stops, writes, gathers, full;
    conn *all[] = {&reads, &local, &stops, &writes, &gathers, &full};
    for (conn *c : all) conn_open_on(c, 0, c == &local ? AF_UNIX : AF_INET);
    conn_read(&stops);
    conn_write(&full, "f");
    conn_write(&writes, "w");
    if ((without & MIO_URING_SEND) != 0) scripted_push(call::send, full.fd, -EAGAIN);
    else ring_model_answer_next(IORING_OP_SEND, full.fd, -EAGAIN);
    turn();

    ear_open(&listening);
    mio_addr_t addr;
    assert_int_equal(mio_addr_parse("127.0.0.1", 7, &addr), 0);
    mio_stream_t *connecting;
    assert_true(mio_tcp_connect(the_loop, &addr, nullptr, on_connected, nullptr, &connecting) > 0);
    const int connecting_fd = mio_stream_fd(connecting);
    if ((without & MIO_URING_CONNECT) != 0) scripted_push(call::connect, connecting_fd, -EINPROGRESS);
    for (conn *c : {&reads, &local}) conn_read(c);
    assert_int_equal(mio_stream_read_stop(stops.stream), 0);
    conn_write(&writes, "hello");
    conn_write(&gathers, "one");
    conn_write(&gathers, "two");
    ring_model_plan(ring, taken, error);
    turn();
    const unsigned built = ring_model_enter_last(ring)->to_submit;
    turns(2);
    ring_model_fire(full.fd, POLLOUT);
    if (waiting(IORING_OP_CONNECT, connecting_fd) >= 0) complete(IORING_OP_CONNECT, connecting_fd, 0, 0);
    ring_model_fire(connecting_fd, POLLOUT);
    if ((without & MIO_URING_ACCEPT) != 0) scripted_push(call::accept4, listening.fd, calls->socket(AF_INET, 0, 0));
    else ring_model_accept(listening.fd);
    ring_model_fire(listening.fd, POLLIN);
    for (const conn *c : {&reads, &local}) ring_model_receive(c->fd, "bytes", 5);
    turns(4);

    assert_int_equal(connected, 1);
    assert_int_equal(listening.streams.size(), 1);
    for (const conn *c : {&reads, &local}) {
        assert_string_equal(c->got.c_str(), "bytes");
        assert_int_equal(c->ends, 0);
    }
    assert_int_equal(stops.ends, 1);
    assert_int_equal(stops.end, MIO_ECANCELED);
    expect_sent(&writes, "whello");
    expect_sent(&gathers, "onetwo");
    expect_sent(&full, "f");
    assert_int_equal(writes.statuses.size() + gathers.statuses.size() + full.statuses.size(), 5);
    for (conn *c : all) conn_close(c);
    ear_close(&listening);
    turns(3);
    for (conn *c : all) assert_int_equal(c->closes, 1);
    ring_loop_close();
    return built;
}

static void test_any_entry_may_be_left_untaken(void **) {
    const uint32_t kernels[] = {0,
                                mio::URING_RECEIVE_UNIX,
                                MIO_URING_RECEIVE,
                                MIO_URING_SEND | MIO_URING_CONNECT,
                                MIO_URING_CANCEL,
                                MIO_URING_ALL & ~MIO_URING_CANCEL};
    for (uint32_t without : kernels) {
        const unsigned built = everything(without, RING_TAKES_ALL, 0);
        assert_true(built >= 3);
        for (unsigned taken = 0; taken <= built; taken++)
            for (int error : {0, -EINTR, -EBUSY, -EAGAIN}) everything(without, taken, error);
    }
}

// --- more than there is room for ------------------------------------------------------------------------------------

static void test_hundreds_of_streams_are_queued_never_dropped(void **) {
    ring_loop_close();
    ring_world w = {};
    w.completions = 4096; // 256 entries
    ring_loop_open(&w);
    static conn hundreds[700];
    for (conn &c : hundreds) {
        conn_open(&c);
        conn_read(&c);
    }
    const int64_t begun_ns = scripted_now_ns();
    for (int i = 0; i < 2; i++) assert_int_equal(mio_loop_run_once(the_loop, MIO_SECOND), MIO_ALIVE);
    assert_int_equal(scripted_now_ns(), begun_ns); // nobody sleeps while some are still queued
    assert_true(taken_of(IORING_OP_RECV, ANY_FD) < 700);
    turns(2);
    for (conn &c : hundreds) conn_write(&c, "first");
    turns(5);
    for (conn &c : hundreds) {
        assert_true(is_armed(IORING_OP_RECV, &c));
        expect_sent(&c, "first");
        assert_int_equal(c.statuses.size(), 1);
        conn_write(&c, "second");
        ring_model_receive(c.fd, "third", 5);
    }
    const unsigned before = enters();
    turns(3);
    for (unsigned i = before; i < enters(); i++) assert_true(ring_model_enter_at(ring, i)->to_submit <= 256);
    for (conn &c : hundreds) {
        expect_sent(&c, "firstsecond");
        assert_string_equal(c.got.c_str(), "third");
        assert_int_equal(c.statuses.size(), 2);
        conn_close(&c);
    }
    turns(7);
    for (const conn &c : hundreds) {
        assert_int_equal(c.ends, 1);
        assert_int_equal(c.closes, 1);
    }
}

// --- counted exactly ------------------------------------------------------------------------------------------------

static void test_ten_thousand_echoes_are_counted(void **) {
    constexpr unsigned STREAMS = 80, PASSES = 125;
    ring_loop_close();
    ring_world w = {};
    w.completions = 4096;
    ring_loop_open(&w);
    static conn echoes[STREAMS];
    for (conn &c : echoes) {
        conn_open(&c);
        conn_read(&c);
        c.echo = true;
    }
    turns(2);
    const std::string message(128, 'm'); // as many as fit into a block exactly
    for (unsigned pass = 0; pass < 2 * PASSES; pass++) {
        if (pass == PASSES) scripted_forget(); // warm
        const unsigned before = enters();
        for (const conn &c : echoes) ring_model_receive(c.fd, message.data(), message.size());
        turn(); // receives these, sends the echoes of those before
        assert_int_equal(enters(), before + 1);
        assert_int_equal(ring_model_enter_last(ring)->to_submit, pass == 0 ? 0 : STREAMS);
    }
    const uint64_t counted = scripted_count(call::uring_enter);
    assert_int_equal(counted, PASSES);
    for (unsigned i = 0; i < test::CALLS && !mio::GUARD; i++) { // it fills a quarantine, and asks for the time
        if (i == static_cast<unsigned>(call::uring_enter)) continue;
        assert_int_equal(scripted_count(static_cast<call>(i)), 0); // no memory, no other call, not even the clock
    }
    turn();
    for (const conn &c : echoes) {
        assert_int_equal(c.got.size(), 2 * PASSES * message.size());
        assert_true(sent_by(&c) == c.got);
        assert_int_equal(c.statuses.size(), 2 * PASSES);
    }
    assert_int_equal(taken_of(IORING_OP_SEND, ANY_FD), 2 * PASSES * STREAMS);
    assert_int_equal(taken_of(IORING_OP_RECV, ANY_FD), STREAMS);
}

// One connection: each echo is one send and one enter that waits, in one turn.
static void test_a_lonely_echo_costs_one_send_and_one_enter(void **) {
    conn *c = &many[0];
    conn_read(c);
    c->echo = true;
    turn();
    const unsigned before = enters();
    for (unsigned i = 0; i < 1000; i++) {
        ring_model_on_wait(arrives, c);
        const size_t sent = sent_by(c).size();
        for (unsigned turns_made = 0; sent_by(c).size() == sent; turns_made++) {
            assert_true(turns_made < 2);
            assert_int_equal(mio_loop_run_once(the_loop, MIO_FOREVER), MIO_ALIVE);
        }
    }
    assert_int_equal(enters() - before, 1000);
    assert_int_equal(scripted_count(call::send), 1000);
    assert_int_equal(taken_of(IORING_OP_SEND, ANY_FD), 0);
    assert_int_equal(scripted_count(call::recv), 0);
}

static void test_a_turn_that_has_something_to_do_makes_one_enter(void **) {
    for (conn &c : many) {
        conn_read(&c);
        c.echo = true;
    }
    turn();
    for (unsigned round = 0; round < 50; round++) {
        const unsigned before = enters();
        for (unsigned i = 0; i < MANY; i++)
            if ((round + i) % 3 != 0) ring_model_receive(many[i].fd, "x", 1);
        ring_model_answer(IORING_OP_SEND, round % 7 == 0 ? -EAGAIN : RING_SUCCEEDS);
        ring_model_answer(IORING_OP_SENDMSG, round % 7 == 3 ? 1 : RING_SUCCEEDS);
        for (const conn &c : many) ring_model_fire(c.fd, POLLOUT);
        turn();
        assert_int_equal(enters(), before + 1);
    }
}

#define loop_test(name) cmocka_unit_test_setup_teardown(name, open_many, close_loop)

int main() {
    const struct CMUnitTest tests[] = {
        loop_test(test_sends_that_were_not_taken_are_not_taken_for_sent),
        loop_test(test_what_was_not_taken_keeps_its_order),
        loop_test(test_messages_that_were_not_taken_are_gathered_again),
        loop_test(test_an_error_before_anything_was_taken),
        loop_test(test_an_error_after_something_was_taken),
        loop_test(test_a_busy_kernel_is_given_a_breather),
        loop_test(test_a_kernel_that_is_busy_for_ever_is_not_asked_without_pause),
        loop_test(test_a_wait_ends_when_the_time_is_up),
        loop_test(test_a_wait_ends_when_something_comes),
        cmocka_unit_test(test_any_entry_may_be_left_untaken),
        loop_test(test_hundreds_of_streams_are_queued_never_dropped),
        loop_test(test_ten_thousand_echoes_are_counted),
        loop_test(test_a_lonely_echo_costs_one_send_and_one_enter),
        loop_test(test_a_turn_that_has_something_to_do_makes_one_enter),
    };
    return cmocka_run_group_tests_name("uring_enter", tests, nullptr, nullptr);
}

#else

int main() { return test::ring_tests_skipped("uring_enter"); }

#endif
