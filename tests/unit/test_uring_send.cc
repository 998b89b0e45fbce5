// io_uring's silent sends: nothing posted means all of it was sent; what a completion says instead; and what is sent by
// calls of our own. In all of it no byte is lost, doubled, or counted before it was sent.
#include "support/ring_model_loop.h"

#if MIO_HAVE_URING

#include "support/random.h"

#include <errno.h>
#include <poll.h>
#include <sys/mman.h>

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

// Two streams that read: what both write in one turn goes into one enter.
static conn a, b;

static int open_two(void **) {
    open_loop(nullptr);
    for (conn *c : {&a, &b}) {
        conn_open(c);
        conn_read(c);
    }
    turn();
    assert_true(is_armed(IORING_OP_RECV, &a) && is_armed(IORING_OP_RECV, &b));
    return 0;
}

static void expect_written(const conn *c, unsigned nth, int status, int64_t sent) {
    assert_true(nth < c->statuses.size());
    assert_int_equal(c->statuses[nth], status);
    assert_int_equal(c->sent[nth], sent);
}

// --- success --------------------------------------------------------------------------------------------------------

static void test_nothing_posted_means_all_was_sent(void **) {
    const unsigned before = enters();
    conn_write(&a, "hello");
    conn_write(&b, "world!");
    turn();
    assert_int_equal(enters(), before + 1);
    assert_int_equal(ring_model_enter_last(ring)->to_submit, 2);
    assert_int_equal(ring_model_ready(ring), 0);
    const struct io_uring_sqe *sqe = last_taken(IORING_OP_SEND, a.fd);
    assert_int_equal(sqe->msg_flags, MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL);
    assert_int_equal(sqe->flags, IOSQE_CQE_SKIP_SUCCESS);
    expect_written(&a, 0, 0, 5);
    expect_written(&b, 0, 0, 6);
    expect_sent(&a, "hello");
    expect_sent(&b, "world!");
    assert_int_equal(writes_out, 0);
    assert_int_equal(metrics().bytes_written, 11);
}

static void test_the_only_send_of_a_flush_is_a_call_of_its_own(void **) {
    const unsigned before = enters();
    conn_write(&a, "one");
    turn();
    assert_int_equal(enters(), before);
    expect_written(&a, 0, 0, 3);
    conn_write(&a, "two"); // without an enter, but not twice in a row: the rest must not be kept out
    turn();
    assert_int_equal(enters(), before + 1);
    conn_write(&a, "three");
    turn();
    assert_int_equal(enters(), before + 1);
    expect_sent(&a, "onetwothree");
    assert_int_equal(scripted_count_fd(call::send, a.fd), 3);
    assert_int_equal(taken_of(IORING_OP_SEND, ANY_FD), 0);
}

static void test_a_large_write_is_sent_at_once(void **) {
    const std::string large(20000, 'l');
    conn_write(&a, large);
    conn_write(&b, "small");
    turn();
    expect_written(&a, 0, 0, 20000);
    expect_written(&b, 0, 0, 5);
    assert_int_equal(scripted_count_fd(call::send, a.fd), 1);
    assert_int_equal(taken_of(IORING_OP_SEND, a.fd), 0);
    assert_true(sent_by(&a) == large);
}

static unsigned chained;
static void write_again(conn *c) {
    if (++chained < 500) conn_write(c, "again ");
}

// Each write is started in the callback of the one before, and nothing else happens: whoever slept would sleep for
// ever.
static void test_a_chain_of_writes_never_sleeps(void **) {
    chained = 0;
    a.on_written = write_again;
    conn_write(&a, "again ");
    for (int i = 0; i < 1000 && chained < 500; i++)
        assert_int_equal(mio_loop_run_once(the_loop, MIO_FOREVER), MIO_ALIVE);
    assert_int_equal(chained, 500);
    assert_int_equal(sent_by(&a).size(), 500 * 6);
    ring_model_receive(b.fd, "not kept out", 12);
    chained = 400;
    conn_write(&a, "again ");
    turns(3);
    assert_string_equal(b.got.c_str(), "not kept out");
    a.on_written = nullptr;
}

static void test_an_enter_with_a_silent_send_never_waits(void **) {
    conn_write(&a, "hello");
    conn_write(&b, "hello");
    assert_int_equal(mio_loop_run_once(the_loop, MIO_SECOND), MIO_ALIVE);
    assert_int_equal(ring_model_enter_last(ring)->min_complete, 0);
    assert_int_equal(scripted_now_ns(), 1000000000);
    expect_written(&a, 0, 0, 5);
    // Nor does one that follows it while something is still to be done.
    ring_model_answer_next(IORING_OP_SEND, a.fd, -EAGAIN);
    conn_write(&a, "more");
    conn_write(&b, "more");
    assert_int_equal(mio_loop_run_once(the_loop, MIO_SECOND), MIO_ALIVE);
    assert_int_equal(ring_model_enter_last(ring)->min_complete, 0);
    assert_int_equal(scripted_now_ns(), 1000000000);
    turn(); // the poll
    ring_model_fire(a.fd, POLLOUT);
    turns(2);
    expect_written(&a, 1, 0, 4);
    expect_sent(&a, "hellomore");
}

// --- what else a completion says ------------------------------------------------------------------------------------

static void test_a_short_count_goes_on_when_the_socket_has_room(void **) {
    ring_model_answer_next(IORING_OP_SEND, a.fd, 3);
    conn_write(&a, "hello");
    conn_write(&b, "world");
    turn();
    assert_int_equal(a.statuses.size(), 0);
    expect_written(&b, 0, 0, 5);
    expect_sent(&a, "hel");
    turn();
    assert_true(is_armed(IORING_OP_POLL_ADD, &a)); // not tried again before there is room
    conn_write(&a, ", and more");
    turns(3);
    expect_sent(&a, "hel");
    assert_int_equal(taken_of(IORING_OP_SEND, a.fd), 1);
    ring_model_fire(a.fd, POLLOUT);
    turns(2);
    expect_written(&a, 0, 0, 5);
    expect_written(&a, 1, 0, 10);
    expect_sent(&a, "hello, and more");
}

static void test_a_full_socket_is_polled_and_tried_again(void **) {
    for (unsigned i = 0; i < 3; i++) {
        ring_model_answer_next(IORING_OP_SEND, a.fd, -EAGAIN);
        conn_write(&a, "z");
        conn_write(&b, "y");
        turns(2);
        assert_int_equal(a.statuses.size(), i);
        assert_true((last_taken(IORING_OP_POLL_ADD, a.fd)->poll32_events & POLLOUT) != 0);
        if (i == 1) { // a false alarm
            scripted_push(call::send, a.fd, -EAGAIN);
            ring_model_fire(a.fd, POLLOUT);
            turns(2);
            assert_int_equal(a.statuses.size(), i);
        }
        assert_true(is_armed(IORING_OP_POLL_ADD, &a));
        ring_model_fire(a.fd, POLLOUT);
        turns(2);
        expect_written(&a, i, 0, 1);
        assert_false(is_armed(IORING_OP_POLL_ADD, &a)); // on some sockets it would tell of room for ever
    }
    expect_sent(&a, "zzz");
    expect_sent(&b, "yyy");
}

// EINPROGRESS: a fast-open connect sends its SYN now. EINTR, ECANCELED: nobody here asked for it.
static void test_a_send_that_was_not_made_is_made_again(void **) {
    const int results[] = {-EINPROGRESS, -EINTR, -ECANCELED};
    for (int res : results) {
        ring_model_answer_next(IORING_OP_SEND, a.fd, res);
        conn_write(&a, "a");
        conn_write(&b, "b");
        turns(2);
        if (res == -EINPROGRESS) {
            assert_true(is_armed(IORING_OP_POLL_ADD, &a));
            ring_model_fire(a.fd, POLLOUT);
            turns(2);
        }
    }
    assert_int_equal(a.statuses.size(), 3);
    for (unsigned i = 0; i < 3; i++) expect_written(&a, i, 0, 1);
    expect_sent(&a, "aaa");
    expect_sent(&b, "bbb");
}

static void test_a_failure_breaks_its_own_stream_only(void **) {
    conn more[6];
    for (conn &c : more) {
        conn_open(&c);
        conn_read(&c);
    }
    turn();
    ring_model_answer_next(IORING_OP_SEND, more[2].fd, -EPIPE);
    ring_model_answer_next(IORING_OP_SEND, more[4].fd, 2);
    for (conn &c : more) conn_write(&c, "bytes");
    turn();
    for (unsigned i = 0; i < 6; i++) {
        if (i == 2) expect_written(&more[i], 0, MIO_EPIPE, 0);
        else if (i == 4) assert_int_equal(more[i].statuses.size(), 0);
        else expect_written(&more[i], 0, 0, 5);
    }
    expect_sent(&more[2], "");
    expect_sent(&more[4], "by");
    mio_buf_t late = bytes_of("late");
    assert_int_equal(mio_stream_write(more[2].stream, &late, 1, conn_written, &more[2]), MIO_EPIPE);
    mio_buf_release(&late);
    ring_model_receive(more[2].fd, "still", 5); // its read side goes on
    ring_model_fire(more[4].fd, POLLOUT);       // not armed yet: nobody hears of it
    turns(2);
    assert_string_equal(more[2].got.c_str(), "still");
    ring_model_fire(more[4].fd, POLLOUT);
    turns(2);
    expect_written(&more[4], 0, 0, 5);
    assert_int_equal(metrics().bytes_written, 25);
    for (conn &c : more) conn_close(&c);
    turns(2);
    for (conn &c : more) assert_int_equal(c.closes, 1);
}

static void test_an_error_behind_a_short_count_says_how_much_went(void **) {
    ring_model_answer_next(IORING_OP_SENDMSG, a.fd, 3);
    conn_write(&a, "hello");
    conn_write(&a, "never");
    conn_write(&b, "b");
    turns(2);
    scripted_push(call::sendmsg, a.fd, -ECONNRESET);
    ring_model_fire(a.fd, POLLOUT);
    turn();
    expect_written(&a, 0, MIO_ECONNRESET, 3);
    expect_written(&a, 1, MIO_ECANCELED, 0);
    expect_sent(&a, "hel");
}

static void test_an_error_of_the_poll_for_room_ends_the_write(void **) {
    ring_model_answer_next(IORING_OP_SEND, a.fd, 2);
    conn_write(&a, "hello");
    conn_write(&b, "b");
    turns(2);
    complete(IORING_OP_POLL_ADD, a.fd, -ECANCELED, 0); // weather: it is armed again
    turns(2);
    assert_int_equal(a.statuses.size(), 0);
    complete(IORING_OP_POLL_ADD, a.fd, -ENOMEM, 0);
    turns(2);
    expect_written(&a, 0, MIO_ENOMEM, 2);
    expect_sent(&a, "he");
}

// --- more than one piece --------------------------------------------------------------------------------------------

static void test_what_waits_is_gathered_in_order(void **) {
    conn_write(&a, "one,");
    conn_write(&a, "two,");
    mio_buf_t pieces[3] = {bytes_of("three,"), bytes_of("four,"), bytes_of("five")};
    assert_true(mio_stream_write(a.stream, pieces, 3, conn_written, &a) > 0);
    conn_write(&b, "b");
    turn();
    assert_int_equal(taken_of(IORING_OP_SENDMSG, a.fd), 1);
    const struct io_uring_sqe *sqe = last_taken(IORING_OP_SENDMSG, a.fd);
    assert_int_equal(sqe->msg_flags, MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL);
    assert_int_equal(sqe->flags, IOSQE_CQE_SKIP_SUCCESS);
    expect_sent(&a, "one,two,three,four,five");
    expect_written(&a, 0, 0, 4);
    expect_written(&a, 1, 0, 4);
    expect_written(&a, 2, 0, 15);
}

static void test_a_gathered_send_cut_anywhere_goes_on_there(void **) {
    const std::string words[] = {"a", "quick ", "brown fox ", "jumps"};
    std::string all;
    for (const std::string &word : words) all += word;
    std::string expected;
    for (int32_t cut = 1; cut < static_cast<int32_t>(all.size()); cut++) {
        ring_model_answer_next(IORING_OP_SENDMSG, a.fd, cut);
        for (const std::string &word : words) conn_write(&a, word);
        conn_write(&b, "b");
        turns(2);
        expect_sent(&a, expected + all.substr(0, static_cast<size_t>(cut)));
        ring_model_fire(a.fd, POLLOUT);
        turn();
        conn_write(&b, "b");
        turn();
        expected += all;
        expect_sent(&a, expected);
        assert_int_equal(a.statuses.size(), 4 * static_cast<size_t>(cut));
    }
    for (int status : a.statuses) assert_int_equal(status, 0);
}

static void test_more_pieces_than_one_message_takes(void **) {
    std::string all;
    for (int i = 0; i < 150; i++) {
        const std::string word = std::to_string(i) + ",";
        conn_write(&a, word);
        all += word;
    }
    conn_write(&b, "b");
    for (int i = 0; i < 4; i++) turn();
    assert_int_equal(a.statuses.size(), 150);
    expect_sent(&a, all);
}

static void test_more_messages_than_there_is_room_for(void **) {
    ring_loop_close();
    ring_world w = {};
    w.completions = 512;
    ring_loop_open(&w);
    constexpr unsigned MANY = 100; // 64 messages
    static conn many[MANY];
    for (conn &c : many) conn_open(&c);
    turn();
    for (conn &c : many) {
        conn_write(&c, "first ");
        conn_write(&c, "second");
    }
    turn();
    assert_int_equal(taken_of(IORING_OP_SENDMSG, ANY_FD), 64);
    assert_int_equal(scripted_count(call::sendmsg), MANY - 64);
    for (const conn &c : many) {
        expect_sent(&c, "first second");
        assert_int_equal(c.statuses.size(), 2);
    }
    // Of messages with many pieces there is room for fewer; the next enter finds all of it free again.
    for (conn &c : many)
        for (int i = 0; i < 64; i++) conn_write(&c, "x");
    turn();
    assert_int_equal(taken_of(IORING_OP_SENDMSG, ANY_FD), 64 + 1024 / 64);
    for (const conn &c : many) {
        expect_sent(&c, "first second" + std::string(64, 'x'));
        assert_int_equal(c.statuses.size(), 66);
    }
}

// Counts of 2 GiB do not fit into a result.
static void test_no_more_is_asked_for_than_a_result_can_say(void **) {
    constexpr size_t LARGE = 3u << 28; // three quarters of a GiB
    void *memory = mmap(nullptr, LARGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    assert_int_equal(mio_stream_set_queue_max(a.stream, 4 * LARGE), 0);
    static conn others[32]; // whose large writes are made at once and fill half of the records: the next is the ring's
    for (conn &c : others) {
        conn_open(&c);
        conn_write(&c, std::string(10000, 'o'));
    }
    mio_buf_t pieces[3];
    for (mio_buf_t &piece : pieces) piece = mio_buf_borrow(memory, LARGE);
    ring_model_answer_next(IORING_OP_SENDMSG, a.fd, -EPIPE);
    assert_true(mio_stream_write(a.stream, pieces, 3, conn_written, &a) > 0);
    turns(2);
    const struct io_uring_sqe *sqe = last_taken(IORING_OP_SENDMSG, a.fd);
    const auto *message = reinterpret_cast<const struct msghdr *>(sqe->addr); // the loop's, until its next send
    assert_int_equal(message->msg_iovlen, 2);
    assert_int_equal(message->msg_iov[0].iov_len + message->msg_iov[1].iov_len, 1 << 30);
    expect_written(&a, 0, MIO_EPIPE, 0);
    munmap(memory, LARGE);
}

// --- any of it, in any order ----------------------------------------------------------------------------------------

static int32_t random_answer(random_source *r) {
    switch (random_below(r, 6)) {
    case 0: return -EAGAIN;
    case 1: return -EINTR;
    case 2: return -ECANCELED;
    case 3: return static_cast<int32_t>(1 + random_below(r, 40));
    default: return RING_SUCCEEDS;
    }
}

static void test_no_byte_is_lost_or_doubled(void **) {
    random_source r = {1};
    conn many[5];
    std::string all[5];
    unsigned written[5] = {};
    for (conn &c : many) conn_open(&c);
    for (int round = 0; round < 3000; round++) {
        const auto at = static_cast<unsigned>(random_below(&r, 5));
        if (many[at].statuses.size() + 20 > written[at]) {
            const std::string word(1 + random_below(&r, 30), static_cast<char>('a' + written[at] % 26));
            conn_write(&many[at], word);
            all[at] += word;
            written[at]++;
        }
        if (random_below(&r, 2) == 0) ring_model_fire(many[random_below(&r, 5)].fd, POLLOUT);
        const int32_t answer = random_answer(&r);
        ring_model_answer(IORING_OP_SEND, answer);
        ring_model_answer(IORING_OP_SENDMSG, answer);
        turn();
        for (unsigned i = 0; i < 5; i++)
            assert_true(all[i].compare(0, sent_by(&many[i]).size(), sent_by(&many[i])) == 0);
    }
    ring_model_answer(IORING_OP_SEND, RING_SUCCEEDS);
    ring_model_answer(IORING_OP_SENDMSG, RING_SUCCEEDS);
    for (int i = 0; i < 40; i++) {
        for (const conn &c : many) ring_model_fire(c.fd, POLLOUT);
        turn();
    }
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(many[i].statuses.size(), written[i]);
        for (int status : many[i].statuses) assert_int_equal(status, 0);
        assert_true(sent_by(&many[i]) == all[i]);
        conn_close(&many[i]);
    }
    turn();
}

// --- a kernel whose sends are not silent ----------------------------------------------------------------------------

static void test_without_silent_sends_each_is_a_call(void **) {
    ring_loop_close();
    ring_world w = {};
    w.without = MIO_URING_SEND;
    ring_loop_open(&w);
    for (conn *c : {&a, &b}) conn_open(c);
    scripted_push(call::send, a.fd, 2);
    scripted_push(call::sendmsg, b.fd, -EAGAIN);
    conn_write(&a, "hello");
    conn_write(&b, "one");
    conn_write(&b, "two");
    turns(3);
    assert_int_equal(taken_of(IORING_OP_SEND, ANY_FD) + taken_of(IORING_OP_SENDMSG, ANY_FD), 0);
    expect_sent(&a, "hello");
    assert_true(is_armed(IORING_OP_POLL_ADD, &b));
    ring_model_fire(b.fd, POLLOUT);
    turns(2);
    expect_sent(&b, "onetwo");
    assert_int_equal(a.statuses.size() + b.statuses.size(), 3);
}

#define two_test(name) cmocka_unit_test_setup_teardown(name, open_two, close_loop)

int main() {
    const struct CMUnitTest tests[] = {
        two_test(test_nothing_posted_means_all_was_sent),
        two_test(test_the_only_send_of_a_flush_is_a_call_of_its_own),
        two_test(test_a_large_write_is_sent_at_once),
        two_test(test_a_chain_of_writes_never_sleeps),
        two_test(test_an_enter_with_a_silent_send_never_waits),
        two_test(test_a_short_count_goes_on_when_the_socket_has_room),
        two_test(test_a_full_socket_is_polled_and_tried_again),
        two_test(test_a_send_that_was_not_made_is_made_again),
        two_test(test_a_failure_breaks_its_own_stream_only),
        two_test(test_an_error_behind_a_short_count_says_how_much_went),
        two_test(test_an_error_of_the_poll_for_room_ends_the_write),
        two_test(test_what_waits_is_gathered_in_order),
        two_test(test_a_gathered_send_cut_anywhere_goes_on_there),
        two_test(test_more_pieces_than_one_message_takes),
        two_test(test_more_messages_than_there_is_room_for),
        two_test(test_no_more_is_asked_for_than_a_result_can_say),
        two_test(test_no_byte_is_lost_or_doubled),
        two_test(test_without_silent_sends_each_is_a_call),
    };
    return cmocka_run_group_tests_name("uring_send", tests, nullptr, nullptr);
}

#else

int main() { return test::ring_tests_skipped("uring_send"); }

#endif
