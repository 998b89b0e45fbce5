// Remotes from the inside: what becomes of used posts, and of a descriptor in a fork's child.
#include "support/cmocka.h"
#include "support/failing.h"

#include "core/loop.h"
#include "core/remote.h"

#include <mio/error.h>

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace mio;

static loop *l;
static int called;

static int scene_open(void **) {
    called = 0;
    const sys *calls = test::failing_open(&sys_real);
    test::failing_never();
    return loop_create(&l, nullptr, calls);
}

static int scene_close(void **) {
    assert_int_equal(mio_loop_destroy(loop_public(l), 0), 0);
    return test::failing_close();
}

static void count(mio_loop_t *, int status, void *) {
    assert_int_equal(status, 0);
    called++;
}

static void post_and_run(int n) {
    for (int i = 0; i < n; i++) assert_int_equal(remote_post(l->box, count, nullptr), 0);
    assert_true(mio_loop_run_once(loop_public(l), 0) >= 0);
}

// A poster that is preempted with a chain in its hands, seen from the others.
static post *take_all_used() {
    post *all = nullptr;
    for (auto &chain : l->box->cache) {
        while (post *node = chain.load()) {
            chain.store(node->next);
            node->next = all;
            all = node;
        }
    }
    return all;
}

static void give_back(post *all) {
    while (all != nullptr) {
        post *next = all->next;
        all->next = l->box->cache[0].load();
        l->box->cache[0].store(all);
        all = next;
    }
}

static void once_warm_posts_allocate_nothing(void **) {
    for (int i = 0; i < 3; i++) post_and_run(100);
    test::failing_forget();
    for (int i = 0; i < 100; i++) post_and_run(100 - i);
    assert_int_equal(test::failing_count_allocations(), 0);
    assert_int_equal(called, 300 + 5050);
}

static void contention_does_not_add_up(void **) {
    for (int i = 0; i < 1000; i++) {
        post *held = take_all_used();
        post_and_run(10);
        give_back(held);
    }
    assert_int_equal(called, 10000);
    uint32_t used = 0;
    post *all = take_all_used();
    for (post *node = all; node != nullptr; node = node->next) used++;
    give_back(all);
    assert_true(used <= 200);
    assert_int_equal(l->box->nodes.load(), used);
}

// Like a daemon, the child has closed what it inherited and opened files of its own: one has the eventfd's number.
static int child_with_a_file_of_that_number() {
    remote *box = l->box;
    box->asleep.store(1); // as it is when another thread forks while the loop sleeps
    const int fd = box->wake_fd;
    int ends[2];
    if (pipe2(ends, O_NONBLOCK) != 0 || dup2(ends[1], fd) != fd) return 1;
    if (mio_remote_post(mio_loop_remote(loop_public(l)), count, nullptr) != MIO_EINVAL) return 2; // no remote there
    if (mio_remote_post(reinterpret_cast<mio_remote_t *>(box), count, nullptr) != MIO_EPERM) return 3;
    mio_loop_stop(loop_public(l));
    if (mio_loop_destroy(loop_public(l), 0) != 0) return 4;
    char byte;
    if (read(ends[0], &byte, 1) != -1) return 5;
    if (fcntl(fd, F_GETFD) == -1) return 6;
    return test::failing_close() == 0 ? 0 : 7;
}

static void a_child_neither_writes_nor_closes_a_descriptor(void **) {
    assert_int_equal(remote_post(l->box, count, nullptr), 0); // waits; the parent's to call
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(child_with_a_file_of_that_number());
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    post_and_run(1);
    assert_int_equal(called, 2);
}

// As many wakes as a counter holds are on their way, or somebody has put so much into it: there is no room, and no news.
static void a_wake_finds_room_in_a_counter_that_is_full(void **) {
    const uint64_t most = UINT64_MAX - 1;
    const int fd = l->box->wake_fd;
    assert_int_equal(write(fd, &most, sizeof most), sizeof most);
    assert_true(mio_loop_run_once(loop_public(l), 0) >= 0); // seen, and left as it is
    assert_int_equal(write(fd, "12345678", 8), -1);
    assert_int_equal(mio_loop_hold(loop_public(l), 1), 0);
    const int64_t begun_ns = l->calls->monotonic_ns();
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, nullptr, [](void *arg) -> void * {
        while (static_cast<remote *>(arg)->asleep.load() == 0) sched_yield();
        usleep(1000);
        (void)remote_post(static_cast<remote *>(arg), count, nullptr);
        return nullptr;
    }, l->box), 0);
    while (called == 0) assert_true(mio_loop_run_once(loop_public(l), 20 * MIO_SECOND) >= 0);
    assert_true(l->calls->monotonic_ns() - begun_ns < 20 * MIO_SECOND);
    assert_int_equal(pthread_join(thread, nullptr), 0);
    assert_int_equal(mio_loop_hold(loop_public(l), -1), 0);
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(once_warm_posts_allocate_nothing, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(contention_does_not_add_up, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(a_child_neither_writes_nor_closes_a_descriptor, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(a_wake_finds_room_in_a_counter_that_is_full, scene_open, scene_close),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
