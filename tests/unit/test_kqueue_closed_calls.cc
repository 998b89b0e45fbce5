// A closing handle refuses every call without asking the kernel anything: on the model of kqueue.
#include "closed_calls.h"

static void on_kqueue(void **) { test::closed_handles_answer_without_a_call(MIO_BACKEND_KQUEUE, nullptr); }

int main() {
    const struct CMUnitTest tests[] = {cmocka_unit_test(on_kqueue)};
    return cmocka_run_group_tests_name("kqueue_closed_calls", tests, nullptr, nullptr);
}
