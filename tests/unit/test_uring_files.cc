// Early ends of files' operations in the ring: what is told when, what the kernel is asked, and that nothing of a file
// begins by its number once the callback has come.
#include "support/ring_model_loop.h"

#if MIO_HAVE_URING

#include <errno.h>
#include <pthread.h>

using namespace test;

struct outcome {
    int calls, status;
    unsigned cancels; // that the kernel had when it came
};

static outcome one, two;

static unsigned taken_of(uint8_t opcode) {
    unsigned n = 0;
    for (unsigned i = 0; i < ring_model_taken(ring); i++) n += ring_model_sqe(ring, static_cast<int>(i))->opcode == opcode;
    return n;
}

static void on_done(mio_loop_t *, int status, void *arg) {
    auto *o = static_cast<outcome *>(arg);
    *o = {o->calls + 1, status, taken_of(IORING_OP_ASYNC_CANCEL)};
}

static constexpr int FD = 1500;

static constexpr uint64_t bit(unsigned opcode) { return UINT64_C(1) << opcode; }

static int make_loop() {
    const ring_world w = {};
    ring_world_open(&w);
    mio::uring_features known = {};
    known.works = MIO_URING_ALL | mio::URING_RECEIVE_UNIX;
    known.setup = RING_DEFER;
    known.setup_plain = RING_PLAIN;
    known.opcodes = bit(IORING_OP_FSYNC) | bit(IORING_OP_FALLOCATE) | bit(IORING_OP_CLOSE) | bit(IORING_OP_RENAMEAT);
    mio::uring_features_preset(&known);
    ring_loop_make(&w);
    one = two = {};
    return 0;
}

static int open_loop(void **) {
    make_loop();
    turn();
    return 0;
}

static int close_loop(void **) {
    ring_loop_close();
    return 0;
}

static void finish(uint8_t opcode, int fd, int result) {
    ring_model_complete(ring, ring_model_find(ring, opcode, fd), result, 0);
    turns(2);
}

// --- in the kernel --------------------------------------------------------------------------------------------------

static mio_req_t sync_start() { return mio_fs_fsync(the_loop, FD, on_done, &one); }
static mio_req_t data_sync_start() { return mio_fs_fdatasync(the_loop, FD, on_done, &one); }
static mio_req_t allocate_start() { return mio_fs_allocate(the_loop, FD, 0, 0, 100, on_done, &one); }

static const struct {
    mio_req_t (*start)();
    uint8_t opcode;
} by_number[] = {
    {sync_start, IORING_OP_FSYNC},
    {data_sync_start, IORING_OP_FSYNC},
    {allocate_start, IORING_OP_FALLOCATE},
};

static void test_what_changes_by_number_is_told_of_when_the_kernel_has_the_cancel(void **) {
    for (const auto &op : by_number) {
        one = {};
        const unsigned cancels = taken_of(IORING_OP_ASYNC_CANCEL);
        const mio_req_t id = op.start();
        turn();
        assert_int_equal(mio_req_cancel(the_loop, id), 0);
        for (int i = 0; i < 3; i++) ring_model_plan(ring, 0, -EBUSY);
        turns(3);
        assert_int_equal(one.calls, 0);
        ring_model_cancel_late(RING_STAYS, 0, -EALREADY); // it has begun
        turns(2);
        assert_int_equal(one.calls, 1);
        assert_int_equal(one.status, MIO_ECANCELED);
        assert_int_equal(one.cancels, cancels + 1);
        finish(op.opcode, FD, 0); // unheard
        assert_int_equal(one.calls, 1);
    }
}

static void test_a_cancel_in_a_callback_is_told_of_no_sooner(void **) {
    static mio_req_t id;
    id = mio_fs_fsync(the_loop, FD, on_done, &one);
    const auto cancels = [](mio_loop_t *l, int, void *) { assert_int_equal(mio_req_cancel(l, id), 0); };
    assert_true(mio_fs_rename(the_loop, "a", "b", 0, cancels, nullptr) > 0);
    turn();
    ring_model_cancel_late(RING_STAYS, 0, -EALREADY);
    finish(IORING_OP_RENAMEAT, ANY_FD, 0);
    turns(2);
    assert_int_equal(one.status, MIO_ECANCELED);
    assert_int_equal(one.cancels, 1);
    finish(IORING_OP_FSYNC, FD, 0);
    assert_int_equal(one.calls, 1);
}

static void test_a_result_may_be_faster(void **) {
    const mio_req_t id = mio_fs_fsync(the_loop, FD, on_done, &one);
    turn();
    assert_int_equal(mio_req_cancel(the_loop, id), 0);
    finish(IORING_OP_FSYNC, FD, -EIO);
    assert_int_equal(one.calls, 1);
    assert_int_equal(one.status, MIO_EIO);
}

static void test_others_are_told_of_at_once(void **) {
    const mio_req_t id = mio_fs_rename(the_loop, "a", "b", 0, on_done, &one);
    turn();
    assert_int_equal(mio_req_cancel(the_loop, id), 0);
    ring_model_plan(ring, 0, -EBUSY);
    turn();
    assert_int_equal(one.calls, 1);
    assert_int_equal(one.status, MIO_ECANCELED);
    turns(2); // and the cancel follows
    assert_int_equal(taken_of(IORING_OP_ASYNC_CANCEL), 1);
    assert_int_equal(ring_model_find(ring, IORING_OP_RENAMEAT, ANY_FD), -1);
}

static void test_a_close_is_not_cancelled(void **) {
    const mio_req_t id = mio_fs_close(the_loop, FD, on_done, &one);
    assert_true(mio_fs_close(the_loop, FD + 1, on_done, &two) > 0);
    turn();
    assert_int_equal(mio_req_cancel(the_loop, id), 0);
    turns(3);
    assert_int_equal(one.calls, 1);
    assert_int_equal(one.status, MIO_ECANCELED);
    assert_int_equal(taken_of(IORING_OP_ASYNC_CANCEL), 0);
    assert_true(ring_model_find(ring, IORING_OP_CLOSE, FD) >= 0);
    finish(IORING_OP_CLOSE, FD, -EIO);
    finish(IORING_OP_CLOSE, FD + 1, -EIO);
    assert_int_equal(one.calls, 1);
    assert_int_equal(two.status, MIO_EIO);
    assert_int_equal(scripted_count(call::close), 1); // of the pipe that tells of the ring's end
}

// --- not yet there --------------------------------------------------------------------------------------------------

static void test_what_waits_ends_without_the_kernel(void **) {
    static outcome all[300]; // more than one enter takes
    static mio_req_t ids[300];
    memset(static_cast<void *>(all), 0, sizeof all);
    for (int i = 0; i < 300; i++) ids[i] = mio_fs_fsync(the_loop, FD, on_done, &all[i]);
    ring_model_plan(ring, 0, -EBUSY);
    turn();
    assert_int_equal(taken_of(IORING_OP_FSYNC), 0);
    for (int i = 299; i >= 0; i -= 2) assert_int_equal(mio_req_cancel(the_loop, ids[i]), 0);
    turns(8);
    for (int i = 0; i < 300; i++) assert_int_equal(all[i].calls, i % 2);
    for (int i = 1; i < 300; i += 2) assert_int_equal(all[i].status, MIO_ECANCELED);
    assert_int_equal(taken_of(IORING_OP_FSYNC), 150);
    assert_int_equal(taken_of(IORING_OP_ASYNC_CANCEL), 0);
    for (int i = 0; i < 150; i++) finish(IORING_OP_FSYNC, FD, 0);
    for (int i = 0; i < 300; i++) assert_int_equal(all[i].calls, 1);
}

// --- elsewhere ------------------------------------------------------------------------------------------------------

static void *begins_and_leaves(void *) { // what it has begun goes on, unheard
    (void)mio_loop_run_once(the_loop, 0); // it is this thread's from now on
    one = {};
    const mio_req_t id = mio_fs_rename(the_loop, "a", "b", 0, on_done, &one);
    (void)mio_loop_run_once(the_loop, 0);
    (void)mio_req_cancel(the_loop, id);
    ring_model_cancel_late(RING_STAYS, 0, -EALREADY);
    (void)mio_loop_run_once(the_loop, 0);
    return nullptr;
}

static void begin_elsewhere() {
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, nullptr, begins_and_leaves, nullptr), 0);
    assert_int_equal(pthread_join(thread, nullptr), 0);
    ring = ring_model_newest();
    assert_int_equal(one.calls, 1);
    assert_int_equal(one.status, MIO_ECANCELED);
    assert_true(ring_model_find(ring, IORING_OP_RENAMEAT, ANY_FD) >= 0);
}

static void test_what_hangs_unheard_holds_no_other_thread_up(void **) {
    make_loop();
    begin_elsewhere();
    ring_model_kernel()->lingers = 1000000;
    turns(3);
    ring = ring_model_newest();
    assert_true(mio_fs_fsync(the_loop, FD, on_done, &two) > 0);
    turn();
    finish(IORING_OP_FSYNC, FD, 0);
    assert_int_equal(two.calls, 1);
    assert_int_equal(two.status, 0);
    ring_model_kernel()->lingers = 0; // and its memory comes home
    ring_loop_close();
}

static void test_one_ring_that_hangs_is_enough(void **) {
    make_loop();
    begin_elsewhere();
    ring_model_kernel()->lingers = 1000000;
    begin_elsewhere();
    assert_int_equal(mio_loop_run_once(the_loop, 0), MIO_EBUSY);
    ring_model_kernel()->lingers = 0;
    turns(2);
    ring_loop_close();
}

#define loop_test(name) cmocka_unit_test_setup_teardown(name, open_loop, close_loop)

int main() {
    const struct CMUnitTest tests[] = {
        loop_test(test_what_changes_by_number_is_told_of_when_the_kernel_has_the_cancel),
        loop_test(test_a_cancel_in_a_callback_is_told_of_no_sooner),
        loop_test(test_a_result_may_be_faster),
        loop_test(test_others_are_told_of_at_once),
        loop_test(test_a_close_is_not_cancelled),
        loop_test(test_what_waits_ends_without_the_kernel),
        cmocka_unit_test(test_what_hangs_unheard_holds_no_other_thread_up),
        cmocka_unit_test(test_one_ring_that_hangs_is_enough),
    };
    return cmocka_run_group_tests_name("uring_files", tests, nullptr, nullptr);
}

#else

int main() { return test::ring_tests_skipped("uring_files"); }

#endif
