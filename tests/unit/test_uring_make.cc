// How a loop's ring is made and enabled: what may fail on the way, what is told then, and that nothing is left behind.
#include "support/ring_model_loop.h"

#if MIO_HAVE_URING

#include <errno.h>

using namespace test;

static const ring_world usual = {};
static conn reading;

// --- made -----------------------------------------------------------------------------------------------------------

static int create(int backend) {
    mio_loop_options_t options = ring_loop_options(&usual);
    options.backend = static_cast<enum mio_backend>(backend);
    mio::loop *l = nullptr;
    const int error = mio::loop_create(&l, &options, calls);
    the_loop = mio::loop_public(l);
    return error;
}

struct failure {
    call which;
    int64_t result; // 0: no memory
    unsigned skip;  // so many of these calls work
    int64_t told;   // by mio_loop_create
};

// Nothing is left behind, and the error is the documented one; or, if nobody named the ring, epoll is taken, and said
// so.
static void test_making_fails_at_every_step(void **) {
    unsetenv("MIO_BACKEND");
    const failure failures[] = {
        {call::uring_setup, -ENOMEM, 0, MIO_ENOMEM},
        {call::uring_setup, -EPERM, 0, MIO_ENOTSUP},
        {call::uring_setup, -ENOSYS, 0, MIO_ENOTSUP},
        {call::uring_setup, -EACCES, 0, MIO_ENOTSUP},
        {call::uring_setup, -EMFILE, 0, MIO_EMFILE},
        {call::uring_setup, -ENFILE, 0, MIO_ENFILE},
        {call::uring_setup, -EINVAL, 0, MIO_ENOTSUP},
        {call::map_fd, 0, 0, MIO_ENOMEM},
        {call::map_fd, 0, 1, MIO_ENOMEM},
        {call::pipe_cloexec, -EMFILE, 0, MIO_EMFILE},
        {call::pipe_cloexec, -ENFILE, 0, MIO_ENFILE},
        {call::uring_register, -ENOMEM, 0, MIO_ENOMEM},
        {call::uring_register, -EINVAL, 0, MIO_ENOTSUP},
    };
    for (const failure &f : failures) {
        for (int backend : {MIO_BACKEND_IO_URING, MIO_BACKEND_AUTO}) {
            ring_world_open(&usual);
            if (f.skip != 0) {
                scripted_result works = {};
                works.value = 1;
                scripted_push_result(f.which, ANY_FD, &works);
            }
            scripted_push(f.which, ANY_FD, f.result);
            const int error = create(backend);
            if (backend == MIO_BACKEND_IO_URING) {
                assert_int_equal(error, f.told);
            } else {
                assert_int_equal(error, 0);
                assert_string_equal(mio_loop_backend(the_loop), "epoll");
                assert_true(logged.find("io_uring does not work here (") != std::string::npos);
                assert_true(logged.find("): epoll is tried") != std::string::npos);
                assert_int_equal(mio_loop_destroy(the_loop, 0), 0);
            }
            assert_int_equal(ring_model_close(), 0);
        }
    }
}

static void test_two_mappings_may_fail_too(void **) {
    for (unsigned nth = 0; nth < 3; nth++) {
        ring_world_open(&usual);
        ring_model_kernel()->features &= ~static_cast<uint32_t>(IORING_FEAT_SINGLE_MMAP);
        for (unsigned i = 0; i < nth; i++) scripted_push(call::map_fd, ANY_FD, 1);
        scripted_push(call::map_fd, ANY_FD, 0);
        assert_int_equal(create(MIO_BACKEND_IO_URING), MIO_ENOMEM);
        assert_int_equal(ring_model_close(), 0);
    }
    ring_world_open(&usual); // and a loop works on it
    ring_model_kernel()->features &= ~static_cast<uint32_t>(IORING_FEAT_SINGLE_MMAP);
    ring_loop_make(&usual);
    conn_open(&reading);
    conn_read(&reading);
    turn();
    ring_model_receive(reading.fd, "hello", 5);
    turn();
    assert_string_equal(reading.got.c_str(), "hello");
    ring_loop_close();
}

static void test_a_kernel_without_rings(void **) {
    unsetenv("MIO_BACKEND");
    for (int verdict : {-ENOSYS, -EPERM, -EACCES, -EINVAL}) {
        ring_world_open(&usual);
        mio::uring_features none = {};
        none.verdict = verdict;
        mio::uring_features_preset(&none);
        assert_int_equal(create(MIO_BACKEND_IO_URING), MIO_ENOTSUP);
        assert_int_equal(create(MIO_BACKEND_AUTO), 0);
        assert_string_equal(mio_loop_backend(the_loop), "epoll");
        assert_int_equal(mio_loop_destroy(the_loop, 0), 0);
        assert_int_equal(scripted_count(call::uring_setup), 0);
        assert_int_equal(ring_model_close(), 0);
    }
}

// --- enabled --------------------------------------------------------------------------------------------------------

static void test_enabling_refused_is_the_error_of_the_run(void **) {
    for (int error : {-EPERM, -EINVAL, -ENOMEM}) {
        ring_loop_open(&usual);
        conn_open(&reading);
        conn_read(&reading);
        ring_model_kernel()->register_error[IORING_REGISTER_ENABLE_RINGS] = error;
        assert_int_equal(mio_loop_run_once(the_loop, 0), error);
        assert_int_equal(mio_loop_run(the_loop), error);
        assert_int_equal(reading.ends, 0);
        if (error == -ENOMEM) { // it may be better next time
            ring_model_kernel()->register_error[IORING_REGISTER_ENABLE_RINGS] = 0;
            turn();
            ring_model_receive(reading.fd, "hello", 5);
            turn();
            assert_string_equal(reading.got.c_str(), "hello");
        }
        ring_loop_close();
        assert_int_equal(reading.ends, 1);
    }
}

// The table of descriptors cannot grow: what was started ends with that, and the next may work.
static void test_no_memory_for_a_descriptor(void **) {
    ring_loop_open(&usual);
    turn();
    conn_open(&reading);
    conn_read(&reading);
    scripted_push(call::alloc, -1, 0);
    turn();
    assert_int_equal(reading.ends, 1);
    assert_int_equal(reading.end, MIO_ENOMEM);
    conn_read(&reading);
    turn();
    ring_model_receive(reading.fd, "hello", 5);
    turn();
    assert_string_equal(reading.got.c_str(), "hello");
    ring_loop_close();
}

static void test_a_descriptor_adopted_twice(void **) {
    ring_loop_open(&usual);
    conn_open_on(&reading, 7, AF_INET);
    conn_read(&reading);
    turn();
    static conn again;
    conn_open_on(&again, 7, AF_INET);
    conn_read(&again);
    const mio_req_t id = conn_write(&again, "never");
    assert_true(id > 0);
    turns(2);
    assert_int_equal(again.end, MIO_EBUSY);
    assert_int_equal(again.statuses[0], MIO_EBUSY);
    ring_model_receive(7, "hello", 5);
    turn();
    assert_string_equal(reading.got.c_str(), "hello");
    conn_close(&again);
    turn();
    assert_true(is_armed(IORING_OP_RECV, &reading));
    ring_loop_close();
    assert_int_equal(reading.ends, 1);
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_making_fails_at_every_step),
        cmocka_unit_test(test_two_mappings_may_fail_too),
        cmocka_unit_test(test_a_kernel_without_rings),
        cmocka_unit_test(test_enabling_refused_is_the_error_of_the_run),
        cmocka_unit_test(test_no_memory_for_a_descriptor),
        cmocka_unit_test(test_a_descriptor_adopted_twice),
    };
    return cmocka_run_group_tests_name("uring_make", tests, nullptr, nullptr);
}

#else

int main() { return test::ring_tests_skipped("uring_make"); }

#endif
