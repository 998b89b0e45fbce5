// The model of io_uring: what only it can do. Faults, late results, results in any order, and tests that end in a
// message.
#include "support/ring_model_driver.h"

#if MIO_HAVE_URING

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

using namespace test;

static driver ours;

static int open_ours(void **) {
    ours = driver();
    ours.calls = ring_model_open(1000);
    ours.socket = 1001;
    return ring_make(&ours, 8, DEFER, 0);
}

static int close_ours(void **) {
    ring_end(&ours);
    return ring_model_close();
}

static void test_two_rings_do_not_meet(void **) {
    driver other = {};
    other.calls = ours.calls;
    other.socket = 1001;
    ring_model_kernel()->features &= ~IORING_FEAT_SINGLE_MMAP;
    assert_int_equal(ring_make(&other, 4, DEFER, 0), 0);
    assert_ptr_not_equal(other.cq, other.sq);
    assert_int_equal(ring_model_ring(0), ours.ring);
    assert_int_equal(ring_model_newest(), other.ring);
    assert_int_equal(ring_model_ring(2), -1);
    arm(&ours, 1, IORING_OP_NOP, -1);
    arm(&other, 2, IORING_OP_NOP, -1);
    assert_int_equal(enter(&other, 1, 0, 0), 1);
    expect(&other, 2, 0, 0);
    expect_nothing(&ours);
    assert_int_equal(enter(&ours, 1, 0, 0), 1);
    expect(&ours, 1, 0, 0);
    ring_end(&other);
    assert_false(ring_model_is_enabled(other.ring));
    assert_int_equal(ours.calls->uring_enter(other.ring, 0, 0, 0, nullptr, 0), -EBADF);
    assert_int_equal(scripted_last(call::uring_enter)->result, -EBADF);
    assert_int_equal(scripted_count(call::uring_enter), 3);
}

static void test_registered_ring_and_probe(void **) {
    struct io_uring_rsrc_update update = {};
    update.offset = UINT32_MAX;
    update.data = static_cast<uint64_t>(ours.ring);
    assert_int_equal(ours.calls->uring_register(ours.ring, IORING_REGISTER_RING_FDS, &update, 1), 1);
    const int at = static_cast<int>(update.offset);
    assert_int_equal(ours.calls->uring_enter(at, 0, 0, IORING_ENTER_REGISTERED_RING, nullptr, 0), 0);
    assert_int_equal(ours.calls->uring_enter(at + 1, 0, 0, IORING_ENTER_REGISTERED_RING, nullptr, 0), -EBADF);
    alignas(
        struct io_uring_probe) char memory[sizeof(struct io_uring_probe) + 256 * sizeof(struct io_uring_probe_op)] = {};
    auto *probe = reinterpret_cast<struct io_uring_probe *>(memory);
    ring_model_kernel()->opcode_missing[IORING_OP_SEND_ZC] = true;
    assert_int_equal(ours.calls->uring_register(ours.ring, IORING_REGISTER_PROBE, probe, 256), 0);
    assert_int_equal(probe->ops[IORING_OP_SEND].flags, IO_URING_OP_SUPPORTED);
    assert_int_equal(probe->ops[IORING_OP_SEND_ZC].flags, 0);
    arm(&ours, 1, IORING_OP_SEND_ZC, 1001);
    assert_int_equal(enter(&ours, 1, 0, 0), 1);
    expect(&ours, 1, -EINVAL, 0);
    ring_model_kernel()->register_error[IORING_REGISTER_PROBE] = -EPERM;
    assert_int_equal(ours.calls->uring_register(ours.ring, IORING_REGISTER_PROBE, probe, 256), -EPERM);
    scripted_push(call::uring_setup, ANY_FD, -ENOMEM);
    struct io_uring_params params = {};
    assert_int_equal(ours.calls->uring_setup(4, &params), -ENOMEM);
    assert_int_equal(ring_model_ring(1), -1);
}

static void test_results_in_any_order(void **) {
    for (uint64_t i = 1; i <= 3; i++) arm(&ours, i, IORING_OP_CONNECT, 1000 + static_cast<int>(i));
    assert_int_equal(enter(&ours, 3, 0, EVENTS), 3);
    assert_int_equal(ring_model_taken(ours.ring), 3);
    assert_int_equal(ring_model_pending(ours.ring), 3);
    assert_int_equal(ring_model_sqe(ours.ring, 2)->fd, 1003);
    assert_int_equal(ring_model_find(ours.ring, IORING_OP_CONNECT, 1002), 1);
    assert_int_equal(ring_model_find(ours.ring, IORING_OP_CONNECT, ANY_FD), 0);
    assert_int_equal(ring_model_find(ours.ring, IORING_OP_ACCEPT, ANY_FD), -1);
    ring_model_complete(ours.ring, 2, -ECONNREFUSED, 0);
    ring_model_complete(ours.ring, ring_model_find_data(ours.ring, 1), 0, 0);
    assert_int_equal(ring_model_put_off(ours.ring), 2);
    assert_int_equal(enter(&ours, 0, 0, 0), 0);
    expect_nothing(&ours);
    assert_int_equal(enter(&ours, 0, 2, EVENTS), 0);
    expect(&ours, 3, -ECONNREFUSED, 0);
    expect(&ours, 1, 0, 0);
    ring_model_complete(ours.ring, 1, 0, 0);
    ring_model_flush(ours.ring); // without an enter
    expect(&ours, 2, 0, 0);
    assert_int_equal(ring_model_pending(ours.ring), 0);
    ring_model_post_raw(ours.ring, 2, 77, IORING_CQE_F_MORE); // stale
    expect(&ours, 2, 77, IORING_CQE_F_MORE);
}

static void expect_sent(int fd, const char *bytes) {
    size_t n;
    const char *sent = ring_model_sent(fd, &n);
    assert_int_equal(n, strlen(bytes));
    assert_memory_equal(sent, bytes, n);
}

static void test_sends(void **) {
    ring_model_answer(IORING_OP_SEND, RING_SUCCEEDS);
    ring_model_answer(IORING_OP_SENDMSG, RING_SUCCEEDS);
    arm_send(&ours, 1, 1001, "hello ", IOSQE_CQE_SKIP_SUCCESS);
    assert_int_equal(enter(&ours, 1, 0, EVENTS), 1);
    expect_nothing(&ours);
    assert_int_equal(ours.calls->send(1001, "dear ", 5, 0), 5);
    struct iovec pieces[2] = {{const_cast<char *>("wo"), 2}, {const_cast<char *>("rld"), 3}};
    struct msghdr message = {};
    message.msg_iov = pieces;
    message.msg_iovlen = 2;
    arm(&ours, 2, IORING_OP_SENDMSG, 1001);
    ours.sqes[1].addr = reinterpret_cast<uintptr_t>(&message);
    ours.sqes[1].len = 1;
    assert_int_equal(enter(&ours, 1, 0, EVENTS), 1);
    expect(&ours, 2, 5, 0);
    expect_sent(1001, "hello dear world");
    ring_model_answer_next(IORING_OP_SEND, ANY_FD, 2);
    ring_model_answer_next(IORING_OP_SEND, 1003, -EPIPE);
    ring_model_answer_next(IORING_OP_SEND, 1002, -EAGAIN);
    ring_model_answer_next(IORING_OP_SEND, 1002, 1);
    for (uint64_t i = 3; i < 6; i++) arm_send(&ours, i, i == 5 ? 1003 : 1002, "abc", IOSQE_CQE_SKIP_SUCCESS);
    arm_send(&ours, 6, 1002, "xyz", IOSQE_CQE_SKIP_SUCCESS);
    ours.sqes[5].msg_flags = MSG_DONTWAIT; // without WAITALL it keeps quiet about the rest
    assert_int_equal(enter(&ours, 4, 0, EVENTS), 4);
    expect(&ours, 3, 2, 0);
    expect(&ours, 4, -EAGAIN, 0);
    expect(&ours, 5, -EPIPE, 0);
    expect_nothing(&ours);
    expect_sent(1002, "abx");
    ring_model_answer(IORING_OP_SEND, RING_STAYS);
    char late[] = "late";
    arm_send(&ours, 7, 1004, late, 0);
    assert_int_equal(enter(&ours, 1, 0, EVENTS), 1);
    memcpy(late, "LATE", 4); // the kernel reads when it sends
    ring_model_complete(ours.ring, ring_model_find(ours.ring, IORING_OP_SEND, 1004), 4, 0);
    assert_int_equal(enter(&ours, 0, 1, EVENTS), 0);
    expect(&ours, 7, 4, 0);
    expect_sent(1004, "LATE");
    arm(&ours, 8, IORING_OP_CLOSE, 1004);
    assert_int_equal(enter(&ours, 1, 0, 0), 1);
    assert_int_equal(ours.calls->close(1005), 0);
    arm_send(&ours, 9, 1005, "x", IOSQE_CQE_SKIP_SUCCESS);
    assert_int_equal(enter(&ours, 1, 0, 0), 1);
    expect(&ours, 9, -EBADF, 0);
}

static void test_zero_copy(void **) {
    ring_model_answer(IORING_OP_SEND_ZC, RING_SUCCEEDS);
    arm_send(&ours, 1, 1001, "abc", 0);
    ours.sqes[0].opcode = IORING_OP_SEND_ZC;
    assert_int_equal(enter(&ours, 1, 0, EVENTS), 1);
    expect(&ours, 1, 3, IORING_CQE_F_MORE);
    assert_true(ring_model_is_pending(ours.ring, 0));
    ring_model_notify(ours.ring, 0);
    assert_int_equal(enter(&ours, 0, 1, EVENTS), 0);
    expect(&ours, 1, 0, IORING_CQE_F_NOTIF);
    assert_false(ring_model_is_pending(ours.ring, 0));
    assert_int_equal(ring_model_owing(ours.ring), -1);
    arm_send(&ours, 2, 1001, "abc", 0);
    ours.sqes[1].opcode = IORING_OP_SEND_ZC;
    assert_int_equal(enter(&ours, 1, 0, EVENTS), 1);
    expect(&ours, 2, 3, IORING_CQE_F_MORE);
    assert_int_equal(ring_model_owing(ours.ring), 1);
    ring_model_notify_copied(ours.ring, 1);
    assert_int_equal(ring_model_owing(ours.ring), -1);
    assert_int_equal(enter(&ours, 0, 1, EVENTS), 0);
    expect(&ours, 2, INT32_MIN, IORING_CQE_F_NOTIF);
}

static void test_a_hidden_failure(void **) {
    ring_model_kernel()->cq_entries = 2;
    driver small = {};
    small.calls = ours.calls;
    assert_int_equal(ring_make(&small, 8, DEFER, 64), 0);
    assert_int_equal(small.params.cq_entries, 2);
    for (uint64_t i = 1; i <= 2; i++) arm(&small, i, IORING_OP_NOP, -1);
    arm_send(&small, 3, 1001, "abc", IOSQE_CQE_SKIP_SUCCESS);
    ring_model_answer_next(IORING_OP_SEND, 1001, -EPIPE);
    assert_int_equal(enter(&small, 3, 0, EVENTS), 3);
    assert_int_equal(ring_model_backlog(small.ring), 1);
    assert_int_equal(*sq_word(&small, small.params.sq_off.flags), IORING_SQ_CQ_OVERFLOW);
    expect(&small, 1, 0, 0);
    expect(&small, 2, 0, 0);
    assert_int_equal(enter(&small, 0, 0, 0), 0); // does not ask for events
    expect_nothing(&small);
    assert_int_equal(enter(&small, 0, 0, EVENTS), 0);
    expect(&small, 3, -EPIPE, 0);
    assert_int_equal(*sq_word(&small, small.params.sq_off.flags), 0);
    ring_end(&small);
}

static void test_late_cancels(void **) {
    arm(&ours, 1, IORING_OP_CONNECT, 1001);
    arm_cancel(&ours, 2, 1, IOSQE_CQE_SKIP_SUCCESS);
    ring_model_cancel_late(0, 0, -ENOENT);
    assert_int_equal(enter(&ours, 2, 0, EVENTS), 2);
    expect(&ours, 1, 0, 0); // it was faster
    expect(&ours, 2, -ENOENT, 0);
    arm(&ours, 3, IORING_OP_CONNECT, 1001);
    arm_cancel(&ours, 4, 3, 0);
    ring_model_cancel_late(RING_STAYS, 0, -EALREADY);
    assert_int_equal(enter(&ours, 2, 0, EVENTS), 2);
    expect(&ours, 4, -EALREADY, 0);
    ring_model_complete(ours.ring, ring_model_find_data(ours.ring, 3), -ETIMEDOUT, 0);
    arm_cancel(&ours, 5, 3, 0); // its result is on the way
    assert_int_equal(enter(&ours, 1, 0, EVENTS), 1);
    expect(&ours, 5, -ENOENT, 0);
    expect(&ours, 3, -ETIMEDOUT, 0);
}

static void test_planned_enters(void **) {
    for (uint64_t i = 1; i <= 4; i++) arm(&ours, i, IORING_OP_NOP, -1);
    ring_model_plan(ours.ring, 0, -EBUSY);
    ring_model_plan(ours.ring, 1, 0);
    ring_model_plan(ours.ring, 0, 0);
    ring_model_plan(ours.ring, RING_TAKES_ALL, 0);
    ring_model_plan(ours.ring, RING_TAKES_ALL, -EINTR);
    assert_int_equal(enter(&ours, 4, 0, EVENTS), -EBUSY);
    assert_int_equal(*sq_word(&ours, ours.params.sq_off.head), 0);
    assert_int_equal(enter(&ours, 4, 9, EVENTS), 1); // no wait
    assert_int_equal(enter(&ours, 3, 0, EVENTS), -EAGAIN);
    assert_int_equal(enter(&ours, 2, 0, EVENTS), 2);
    assert_int_equal(enter(&ours, 1, 0, EVENTS), -EINTR);
    assert_int_equal(*sq_word(&ours, ours.params.sq_off.head), 4);
    for (uint64_t i = 1; i <= 4; i++) expect(&ours, i, 0, 0);
    assert_int_equal(ring_model_enters(ours.ring), 5);
    const ring_enter *e = ring_model_enter_at(ours.ring, 1);
    assert_int_equal(e->to_submit, 4);
    assert_int_equal(e->min_complete, 9);
    assert_int_equal(e->flags, EVENTS);
    assert_int_equal(e->timeout_ns, -1);
    assert_int_equal(e->taken, 1);
    assert_int_equal(ring_model_enter_last(ours.ring)->result, -EINTR);
    assert_null(ring_model_enter_at(ours.ring, 5));
}

static void accept_one(void *fd) { *static_cast<int *>(fd) = ring_model_accept(1001); }

static void test_waiting(void **) {
    arm(&ours, 1, IORING_OP_ACCEPT, 1001);
    ours.sqes[0].ioprio = IORING_ACCEPT_MULTISHOT;
    assert_int_equal(enter_for(&ours, 1, 1, 5000), 1);
    assert_int_equal(scripted_now_ns(), 6000);
    assert_int_equal(ring_model_enter_last(ours.ring)->timeout_ns, 5000);
    assert_int_equal(enter_for(&ours, 0, 1, 500), -ETIME);
    assert_int_equal(scripted_now_ns(), 6500);
    int fd = -1;
    ring_model_on_wait(accept_one, &fd);
    assert_int_equal(enter(&ours, 0, 1, EVENTS), 0);
    assert_int_equal(scripted_now_ns(), 6500);
    expect(&ours, 1, fd, IORING_CQE_F_MORE);
    assert_int_equal(ours.calls->close(fd), 0);
    assert_int_equal(ours.calls->close(fd), -EBADF);
    arm_cancel(&ours, 2, 1, IOSQE_CQE_SKIP_SUCCESS);
    assert_int_equal(enter(&ours, 1, 1, EVENTS), 1);
    expect(&ours, 1, -ECANCELED, 0);
    ring_model_accept(1001); // waits for an entry; nobody's until then
}

static void test_bytes_go_to_who_asks_first(void **) {
    char got[8] = {};
    ring_model_receive(1001, "abcdef", 6);
    assert_int_equal(ours.calls->recv(1001, got, 2, MSG_DONTWAIT), 2);
    arm(&ours, 1, IORING_OP_RECV, 1001);
    ours.sqes[0].addr = reinterpret_cast<uintptr_t>(got + 2);
    ours.sqes[0].len = 3;
    assert_int_equal(enter(&ours, 1, 0, 0), 1);
    expect(&ours, 1, 3, IORING_CQE_F_SOCK_NONEMPTY);
    assert_int_equal(ring_model_unread(1001), 1);
    ring_model_receive_end(1001, -ECONNRESET);
    assert_int_equal(ours.calls->read(1001, got + 5, 3), 1);
    assert_string_equal(got, "abcdef");
    assert_int_equal(ours.calls->recv(1001, got, 1, MSG_DONTWAIT), -ECONNRESET);
    assert_int_equal(ours.calls->recv(1001, got, 1, MSG_DONTWAIT), 0);
    assert_int_equal(ours.calls->recv(1002, got, 1, MSG_DONTWAIT), -EAGAIN);
    assert_int_equal(scripted_count(call::recv), 4);
}

static void test_what_a_ring_holds(void **) {
    int ends[2];
    assert_int_equal(ours.calls->pipe_cloexec(ends), 0);
    driver other = {};
    other.calls = ours.calls;
    assert_int_equal(ring_make(&other, 4, DEFER, 0), 0);
    assert_int_equal(ours.calls->uring_register(other.ring, IORING_REGISTER_FILES, &ends[1], 1), 0);
    assert_int_equal(ours.calls->close(ends[1]), 0);
    assert_int_equal(ours.calls->poll_one(ends[0], 0, 0), 0);
    ring_model_answer(IORING_OP_SEND_ZC, RING_SUCCEEDS);
    arm_send(&other, 1, 900, "abc", 0);
    other.sqes[0].opcode = IORING_OP_SEND_ZC;
    assert_int_equal(enter(&other, 1, 0, EVENTS), 1);
    ring_end(&other);
    assert_int_equal(ours.calls->poll_one(ends[0], 0, 0), 0); // the kernel still has "abc"
    ring_model_notify(other.ring, 0);
    ring_model_kernel()->lingers = 1;
    assert_int_equal(ours.calls->poll_one(ends[0], 0, 0), 0);
    assert_int_equal(ours.calls->poll_one(ends[0], 0, 0), POLLHUP);
    assert_int_equal(ours.calls->close(ends[0]), 0);
}

static void test_leftovers_are_seen(void **) {
    driver d = {};
    d.calls = ring_model_open(0);
    assert_int_equal(ring_make(&d, 4, DEFER, 0), 0);
    ring_model_answer_next(IORING_OP_SEND, ANY_FD, 1);
    ring_model_plan(d.ring, 1, 0);
    ring_model_cancel_late(0, 0, 0);
    d.calls->unmap(d.sq, d.sq_size);
    assert_int_equal(ring_model_close(), 5); // those three, the ring, its entries
    free(d.sqes);                            // which are the script's
}

// --- what ends a test -----------------------------------------------------------------------------------------------

static void wait_for_ever() { enter(&ours, 0, 1, EVENTS); }
static void link_entries() {
    arm(&ours, 1, IORING_OP_NOP, -1);
    ours.sqes[0].flags = IOSQE_IO_LINK;
    enter(&ours, 1, 0, 0);
}
static void complete_twice() {
    arm(&ours, 1, IORING_OP_CONNECT, 1001);
    enter(&ours, 1, 0, 0);
    ring_model_complete(ours.ring, 0, 0, 0);
    ring_model_complete(ours.ring, 0, 0, 0);
}
static void overrun() {
    for (int i = 0; i < 9; i++) arm(&ours, 1, IORING_OP_NOP, -1);
    enter(&ours, 9, 0, 0);
}
static void take_memory_away() {
    ours.memory = static_cast<char *>(ours.calls->map_shared(8192));
    ours.bufs = reinterpret_cast<struct io_uring_buf *>(ours.memory);
    give_buffers(&ours, 2, 0);
    arm_receive(&ours, 1, true);
    enter(&ours, 1, 0, 0);
    ours.calls->unmap(ours.memory, 8192);
}

static void test_what_ends_a_test(void **) {
    void (*const cases[])() = {wait_for_ever, link_entries, complete_twice, overrun, take_memory_away};
    for (auto *one : cases) {
        fflush(nullptr);
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            signal(SIGABRT, SIG_DFL);
            const int nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);
            dup2(nothing, STDERR_FILENO);
            one();
            _exit(0);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    }
}

#define our_test(name) cmocka_unit_test_setup_teardown(name, open_ours, close_ours)

int main() {
    const struct CMUnitTest tests[] = {
        our_test(test_two_rings_do_not_meet),
        our_test(test_registered_ring_and_probe),
        our_test(test_results_in_any_order),
        our_test(test_sends),
        our_test(test_zero_copy),
        our_test(test_a_hidden_failure),
        our_test(test_late_cancels),
        our_test(test_planned_enters),
        our_test(test_waiting),
        our_test(test_bytes_go_to_who_asks_first),
        our_test(test_what_a_ring_holds),
        cmocka_unit_test(test_leftovers_are_seen),
        our_test(test_what_ends_a_test),
    };
    return cmocka_run_group_tests_name("ring_model", tests, nullptr, nullptr);
}

#else

static void test_ring_model(void **) {
    print_message("skip: built without io_uring\n");
    skip();
}

int main() {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ring_model)};
    return cmocka_run_group_tests_name("ring_model", tests, nullptr, nullptr);
}

#endif
