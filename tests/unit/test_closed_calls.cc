// A closing handle refuses every call without asking the kernel anything: its descriptor may be another's already.
#include "closed_calls.h"

static void on_the_ring(void **) { test::closed_handles_answer_without_a_call(MIO_BACKEND_IO_URING, nullptr); }

static void on_epoll(void **) { test::closed_handles_answer_without_a_call(MIO_BACKEND_EPOLL, nullptr); }

static void in_a_world(void **) {
    mio_sim_t *world = nullptr;
    assert_int_equal(mio_sim_create(&world, nullptr), 0);
    test::closed_handles_answer_without_a_call(MIO_BACKEND_SIM, world);
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(on_the_ring),
        cmocka_unit_test(on_epoll),
        cmocka_unit_test(in_a_world),
    };
    return cmocka_run_group_tests_name("closed_calls", tests, nullptr, nullptr);
}
