// The model of io_uring against what it is a model of: the same steps on a ring of this kernel and on one of the model
// must leave the same trace.
#include "support/ring_model_driver.h"

#if MIO_HAVE_URING

#include <errno.h>
#include <fcntl.h>

using namespace test;

static int make_error(driver *d, unsigned entries, uint32_t flags, unsigned cq_entries) {
    const int error = ring_make(d, entries, flags, cq_entries);
    if (error == 0) ring_end(d);
    return error;
}

static void run_making(driver *d) {
    const unsigned sizes[][2] = {{1, 0}, {5, 0}, {8, 8}, {4, 9}, {100, 1000}};
    for (const unsigned *size : sizes) {
        assert_int_equal(ring_make(d, size[0], DEFER, size[1]), 0);
        note(d, "entries", d->params.sq_entries);
        note(d, "completions", d->params.cq_entries);
        note(d, "mask", *sq_word(d, d->params.sq_off.ring_mask));
        note(d, "entries", *sq_word(d, d->params.sq_off.ring_entries));
        note(d, "mask", *cq_word(d, d->params.cq_off.ring_mask));
        note(d, "entries", *cq_word(d, d->params.cq_off.ring_entries));
        ring_end(d);
    }
    note(d, "none", make_error(d, 0, DEFER, 0));
    note(d, "too many", make_error(d, 32769, DEFER, 0));
    note(d, "few completions", make_error(d, 64, DEFER, 8));
    note(d, "defer alone", make_error(d, 4, IORING_SETUP_DEFER_TASKRUN, 0));
    note(d, "flag alone", make_error(d, 4, IORING_SETUP_TASKRUN_FLAG, 0));
    note(d, "unknown flag", make_error(d, 4, 1U << 30, 0));
}

static void run_disabled(driver *d) {
    assert_int_equal(ring_make(d, 8, DEFER | IORING_SETUP_R_DISABLED, 0), 0);
    note(d, "enter", enter(d, 0, 0, EVENTS));
    note(d, "enable", d->calls->uring_register(d->ring, IORING_REGISTER_ENABLE_RINGS, nullptr, 0));
    note(d, "enable", d->calls->uring_register(d->ring, IORING_REGISTER_ENABLE_RINGS, nullptr, 0));
    note(d, "enter", enter(d, 0, 0, EVENTS));
    note(d, "unknown flag", enter(d, 0, 0, 1U << 30));
    ring_end(d);
}

static void run_cancel(driver *d) {
    assert_int_equal(ring_make(d, 8, DEFER, 0), 0);
    assert_int_equal(give_buffers(d, 2, 0), 0);
    arm_receive(d, 1, false);
    note_enter(d, 1, 0, EVENTS);
    arm_cancel(d, 2, 1, 0);
    note_enter(d, 1, 0, 0); // the cancel's own
    note_enter(d, 0, 0, EVENTS);
    arm_receive(d, 1, false);
    note_enter(d, 1, 0, EVENTS);
    arrives(d, "abc");
    arm_cancel(d, 2, 1, 0);
    arm_cancel(d, 3, 99, IOSQE_CQE_SKIP_SUCCESS);
    note_enter(d, 2, 0, EVENTS); // the bytes stay where they are
    arm_receive(d, 4, false);
    note_enter(d, 1, 0, 0); // and are found
    arm_cancel(d, 5, 4, IOSQE_CQE_SKIP_SUCCESS);
    arm_cancel(d, 5, 4, 0); // found again
    note_enter(d, 2, 0, EVENTS);
    arm_receive(d, 6, true);
    struct io_uring_sqe *sqe = entry(d, 7);
    sqe->opcode = IORING_OP_POLL_REMOVE;
    sqe->fd = -1;
    sqe->addr = 6; // no poll
    arm_poll(d, 8, false);
    note_enter(d, 3, 0, EVENTS);
    sqe = entry(d, 9);
    sqe->opcode = IORING_OP_POLL_REMOVE;
    sqe->fd = -1;
    sqe->addr = 8;
    arm_cancel(d, 10, 0, 0);
    d->sqes[(d->tail - 1) & 7].cancel_flags = IORING_ASYNC_CANCEL_ANY;
    note_enter(d, 2, 0, EVENTS);
    ring_end(d);
}

// What has come is nobody's.
static void drain(driver *d) {
    char bytes[64];
    while (d->calls->recv(d->socket, bytes, sizeof bytes, MSG_DONTWAIT) > 0) {}
}

static void arm_remove(driver *d, uint64_t user_data, uint64_t target) {
    struct io_uring_sqe *sqe = entry(d, user_data);
    sqe->opcode = IORING_OP_POLL_REMOVE;
    sqe->fd = -1;
    sqe->addr = target;
}

static void run_poll(driver *d) {
    assert_int_equal(ring_make(d, 8, DEFER, 0), 0);
    for (bool multishot : {true, false}) {
        arm_poll(d, 1, multishot);
        note_enter(d, 1, 0, EVENTS);
        arm_cancel(d, 2, 1, IOSQE_CQE_SKIP_SUCCESS);
        note_enter(d, 1, 0, EVENTS);
        arrives(d, "abc");
        arm_poll(d, 3, multishot); // of what is there already
        note_enter(d, 1, 0, 0);
        note_enter(d, 0, 0, EVENTS);
        arm_cancel(d, 4, 3, IOSQE_CQE_SKIP_SUCCESS);
        note_enter(d, 1, 0, EVENTS);
        drain(d);
        arm_poll(d, 5, multishot);
        note_enter(d, 1, 0, EVENTS);
        arrives(d, "def");
        arm_remove(d, 6, 5); // too late, and too early
        note_enter(d, 1, 0, 0);
        note_enter(d, 0, 0, EVENTS);
        arm_remove(d, 7, 5);
        note_enter(d, 1, 0, EVENTS);
        drain(d);
        arm_poll(d, 10, multishot);
        note_enter(d, 1, 0, EVENTS);
        arrives(d, "ghi");
        arm_cancel(d, 11, 10, 0); // this one takes it out
        note_enter(d, 1, 0, 0);
        note_enter(d, 0, 0, EVENTS);
        arm_poll(d, 8, multishot);
        note_enter(d, 1, 0, EVENTS);
        arm_remove(d, 9, 8);
        note_enter(d, 1, 0, EVENTS);
        drain(d);
    }
    no_more_arrives(d); // that is told to whoever polls, whatever for
    arm_poll(d, 5, true);
    arm_poll(d, 6, false);
    note_enter(d, 2, 0, EVENTS);
    ring_end(d);
}

static void run_receive(driver *d) {
    assert_int_equal(ring_make(d, 8, DEFER, 0), 0);
    assert_int_equal(give_buffers(d, 2, 0), 0);
    arm_receive(d, 1, false);
    note_enter(d, 1, 0, EVENTS);
    arrives(d, "abc");
    note_all(d); // not before it is asked for
    note_enter(d, 0, 1, EVENTS);
    arrives(d, "0123456789");
    note_enter(d, 0, 1, EVENTS); // one buffer, and none for the rest
    d->trace.append(d->memory + 4096, 2 * EACH);
    arm_receive(d, 2, false);
    note_enter(d, 1, 0, 0); // at once
    arm_receive(d, 3, true);
    note_enter(d, 1, 0, 0);
    note_enter(d, 0, 0, EVENTS); // later
    give_buffer(d, 0, 0);
    give_buffer(d, 1, 1);
    arm_receive(d, 4, true);
    note_enter(d, 1, 0, 0);
    note_enter(d, 0, 0, EVENTS);
    no_more_arrives(d);
    note_enter(d, 0, 0, EVENTS); // the end takes no buffer
    arm_receive(d, 5, false);
    note_enter(d, 1, 0, 0);
    arm_receive(d, 6, false);
    d->sqes[(d->tail - 1) & 7].buf_group = 77;
    note_enter(d, 1, 0, 0);
    ring_end(d);
}

static void run_incremental(driver *d) {
    assert_int_equal(ring_make(d, 8, DEFER, 0), 0);
    if (give_buffers(d, 2, 2) != 0) { // a kernel before 6.12
        d->trace += "no incremental buffers";
        return ring_end(d);
    }
    arm_receive(d, 1, false);
    note_enter(d, 1, 0, EVENTS);
    for (const char *bytes : {"abc", "defghijk", "lmnop"}) {
        arrives(d, bytes);
        note_enter(d, 0, 1, EVENTS);
    }
    d->trace.append(d->memory + 4096, 2 * EACH);
    give_buffer(d, 0, 0);
    no_more_arrives(d);
    note_enter(d, 0, 1, EVENTS);
    ring_end(d);
}

static void run_overflow(driver *d) {
    assert_int_equal(ring_make(d, 2, DEFER, 2), 0);
    assert_int_equal(give_buffers(d, 8, 0), 0);
    arm_receive(d, 1, false);
    note_enter(d, 1, 0, EVENTS);
    for (int i = 0; i < 4; i++) {
        arrives(d, "xy");
        note(d, "enter", enter(d, 0, 0, EVENTS));
        note(d, "flags", *sq_word(d, d->params.sq_off.flags));
    }
    note_all(d);
    arm(d, 2, IORING_OP_NOP, -1);
    note_enter(d, 1, 0, 0); // there is room, but others are first
    note_enter(d, 0, 0, EVENTS);
    arm(d, 3, IORING_OP_NOP, -1);
    arm(d, 4, IORING_OP_NOP, -1);
    note(d, "enter", enter(d, 2, 0, 0));
    arm_cancel(d, 5, 99, IOSQE_CQE_SKIP_SUCCESS); // a failure that nobody sees
    note(d, "enter", enter(d, 1, 0, EVENTS));
    note_all(d);
    note_enter(d, 0, 0, EVENTS);
    ring_end(d);
}

static void run_entering(driver *d) {
    assert_int_equal(ring_make(d, 8, DEFER & ~IORING_SETUP_SUBMIT_ALL, 0), 0);
    arm(d, 1, 200, -1);
    arm(d, 2, IORING_OP_NOP, -1);
    note_enter(d, 2, 0, EVENTS); // stops at what it refuses
    note_enter(d, 1, 0, EVENTS);
    arm(d, 3, IORING_OP_NOP, -1);
    note_enter(d, 3, 1, EVENTS); // asks for more than there are: no wait
    note_enter(d, 1, 1, EVENTS);
    arm_poll(d, 4, false);
    note(d, "timed", enter_for(d, 1, 1, 1000000)); // the count hides that the time is up
    note(d, "timed", enter_for(d, 0, 1, 1000000));
    arm(d, 5, IORING_OP_NOP, -1);
    note(d, "enter", enter(d, 1, 0, EVENTS));
    note(d, "timed", enter_for(d, 0, 2, 1000000)); // fewer than wanted, not none
    char wrong[8] = {};
    note(d, "size", d->calls->uring_enter(d->ring, 0, 1, EVENTS | IORING_ENTER_EXT_ARG, wrong, sizeof wrong));
    note_all(d);
    struct io_uring_sqe *sqe = entry(d, 6);
    sqe->opcode = IORING_OP_CLOSE;
    sqe->fd = -1;
    sqe->len = 1; // means nothing
    note_enter(d, 1, 0, 0);
    ring_end(d);
}

static void run_eager(driver *d, uint32_t flags) { // a ring that does not wait to be asked
    assert_int_equal(ring_make(d, 8, flags, 0), 0);
    arm_poll(d, 1, true);
    note_enter(d, 1, 0, 0);
    arrives(d, "a");
    note_enter(d, 0, 0, 0);
    ring_end(d);
}
static void run_coop(driver *d) { run_eager(d, IORING_SETUP_COOP_TASKRUN); }
static void run_plain(driver *d) { run_eager(d, 0); }

static void run_flagged(driver *d) {
    assert_int_equal(ring_make(d, 8, DEFER | IORING_SETUP_TASKRUN_FLAG, 0), 0);
    arm_poll(d, 1, false);
    note_enter(d, 1, 0, EVENTS);
    arrives(d, "a");
    note_enter(d, 0, 0, 0);
    note_enter(d, 0, 0, EVENTS);
    ring_end(d);
}

static std::string traced(const mio::sys *calls, bool real, void (*run)(driver *d)) {
    int pair[2] = {1001, -1};
    if (real) assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    driver d = {};
    d.calls = calls;
    d.real = real;
    d.socket = pair[0];
    d.peer = pair[1];
    d.memory = static_cast<char *>(calls->map_shared(8192));
    d.bufs = reinterpret_cast<struct io_uring_buf *>(d.memory);
    run(&d);
    calls->unmap(d.memory, 8192);
    if (real) close(pair[0]);
    if (real) close(pair[1]);
    return d.trace;
}

static void as_the_kernel_does(void (*run)(driver *d)) {
    struct io_uring_params params = {};
    params.flags = DEFER;
    const int ring = mio::sys_real.uring_setup(4, &params);
    if (ring < 0) {
        print_message("skip: this kernel has no ring to compare with (%s)\n", strerror(-ring));
        skip();
    }
    close(ring);
    const std::string kernels = traced(&mio::sys_real, true, run);
    const std::string ours = traced(ring_model_open(1000), false, run);
    assert_int_equal(ring_model_close(), 0);
    if (kernels.find("no incremental buffers") != std::string::npos) {
        print_message("skip: this kernel has no incremental buffers\n");
        skip();
    }
    assert_string_equal(ours.c_str(), kernels.c_str());
}

static void test_making_as_the_kernel_does(void **) { as_the_kernel_does(run_making); }
static void test_disabled_as_the_kernel_does(void **) { as_the_kernel_does(run_disabled); }
static void test_cancel_as_the_kernel_does(void **) { as_the_kernel_does(run_cancel); }
static void test_poll_as_the_kernel_does(void **) { as_the_kernel_does(run_poll); }
static void test_receive_as_the_kernel_does(void **) { as_the_kernel_does(run_receive); }
static void test_incremental_as_the_kernel_does(void **) { as_the_kernel_does(run_incremental); }
static void test_overflow_as_the_kernel_does(void **) { as_the_kernel_does(run_overflow); }
static void test_entering_as_the_kernel_does(void **) { as_the_kernel_does(run_entering); }
static void test_coop_as_the_kernel_does(void **) { as_the_kernel_does(run_coop); }
static void test_plain_as_the_kernel_does(void **) { as_the_kernel_does(run_plain); }
static void test_flagged_as_the_kernel_does(void **) { as_the_kernel_does(run_flagged); }

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_making_as_the_kernel_does),
        cmocka_unit_test(test_disabled_as_the_kernel_does),
        cmocka_unit_test(test_cancel_as_the_kernel_does),
        cmocka_unit_test(test_poll_as_the_kernel_does),
        cmocka_unit_test(test_receive_as_the_kernel_does),
        cmocka_unit_test(test_incremental_as_the_kernel_does),
        cmocka_unit_test(test_overflow_as_the_kernel_does),
        cmocka_unit_test(test_entering_as_the_kernel_does),
        cmocka_unit_test(test_coop_as_the_kernel_does),
        cmocka_unit_test(test_plain_as_the_kernel_does),
        cmocka_unit_test(test_flagged_as_the_kernel_does),
    };
    return cmocka_run_group_tests_name("ring_model_kernel", tests, nullptr, nullptr);
}

#else

static void test_ring_model(void **) {
    print_message("skip: built without io_uring\n");
    skip();
}

int main() {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ring_model)};
    return cmocka_run_group_tests_name("ring_model_kernel", tests, nullptr, nullptr);
}

#endif
