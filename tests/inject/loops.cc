// The loops and the world of a test: made with an allocator that counts, run so that a test which waits for what does
// not come is noticed, known until they are destroyed.
#include "inject.h"

#include "support/failing.h"

#include <stdlib.h>
#include <time.h>

namespace inject {

constexpr int LOOPS_MAX = 512;
constexpr int64_t STALL_NS = 150 * MIO_MILLISECOND; // without a callback, after something was injected that may be noticed
constexpr int64_t PATIENCE_NS = 3 * MIO_SECOND;     // with callbacks that come and change nothing
constexpr int64_t MUST_PASS_NS = 60 * MIO_SECOND;   // of a test that may notice nothing, however long the machine is elsewhere
constexpr uint64_t STALL_TURNS = 20000;             // more in that time is no waiting
constexpr int64_t END_NS = 20 * MIO_SECOND;         // for what certainly comes

struct known_loop {
    mio_loop_t *loop;
    bool failed; // its run gave an error: it cannot be asked for more than its end
};

static known_loop loops[LOOPS_MAX];
static mio_sim_t *world;

static known_loop *loop_find(const mio_loop_t *loop) {
    for (known_loop &one : loops)
        if (one.loop == loop) return &one;
    return nullptr;
}

void loops_stop() {
    for (const known_loop &one : loops)
        if (one.loop != nullptr) mio_loop_stop(one.loop);
}

int64_t clock_ns() {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * MIO_SECOND + at.tv_nsec;
}

// --- memory ---------------------------------------------------------------------------------------------------------

static void *counted_alloc(void *user, size_t size) {
    if (test::failing_allocation(test::call::alloc)) return nullptr;
    const auto *theirs = static_cast<const mio_allocator_t *>(user);
    void *ptr = theirs->alloc(theirs->user, size);
    if (ptr != nullptr) test::failing_allocated(1);
    return ptr;
}
static void *counted_resize(void *user, void *ptr, size_t old_size, size_t new_size) {
    if (test::failing_allocation(test::call::resize)) return nullptr;
    const auto *theirs = static_cast<const mio_allocator_t *>(user);
    void *grown = theirs->resize(theirs->user, ptr, old_size, new_size);
    if (ptr == nullptr && grown != nullptr) test::failing_allocated(1);
    return grown;
}
static void counted_release(void *user, void *ptr, size_t size) {
    const auto *theirs = static_cast<const mio_allocator_t *>(user);
    if (ptr != nullptr) test::failing_allocated(-1);
    theirs->release(theirs->user, ptr, size);
}

// --- the examination ------------------------------------------------------------------------------------------------

static void timer_fired(mio_timer_t *timer, void *arg) {
    *static_cast<bool *>(arg) = true;
    mio_handle_close(timer, nullptr, nullptr);
}
static void post_ran(mio_loop_t *loop, int status, void *arg) {
    if (status == 0) *static_cast<bool *>(arg) = true;
    (void)loop;
}

// One that the injected error did not end still fires a timer and runs a post.
static void loop_still_works(mio_loop_t *loop) {
    static bool fired, posted;
    fired = posted = false;
    mio_timer_t *timer = nullptr;
    const int made = mio_timer_create(loop, &timer);
    if (made == MIO_EPERM || made == MIO_ESHUTDOWN) return; // another thread's, or being destroyed
    if (made == MIO_ENOMEM) return;                         // by the test's own allocator or world, where memory is scarce
    if (made != 0) run_fail("a timer on the loop of the test gives %s", mio_error_name(made));
    if (mio_timer_start(timer, 0, 0, timer_fired, &fired) != 0) run_fail("a timer on the loop of the test does not start");
    const int accepted = mio_remote_post(mio_loop_remote(loop), post_ran, &posted);
    if (accepted == MIO_ENOMEM) return;
    if (accepted != 0) run_fail("a post to the loop of the test gives %s", mio_error_name(accepted));
    const int64_t until_ns = clock_ns() + END_NS;
    while (!(fired && posted) && clock_ns() < until_ns) {
        const int result = mio_loop_run_once(loop, 10 * MIO_MILLISECOND);
        if (result == MIO_EPERM) return;
        if (result < 0 && result != MIO_ETIMEDOUT) run_fail("the loop of the test does not run any more: %s", mio_error_name(result));
    }
    if (!fired || !posted) run_fail("the loop of the test works no more: %s", fired ? "no post" : "no timer");
}

// By turns: what one loop has lent may wait for the end of its peer on another.
static void loops_destroy() {
    const int64_t until_ns = clock_ns() + END_NS;
    for (;;) {
        int left = 0, result = 0;
        for (known_loop &one : loops) {
            if (one.loop == nullptr) continue;
            result = mio_loop_destroy(one.loop, 2 * MIO_MILLISECOND);
            if (result == 0) one.loop = nullptr;
            else left++;
        }
        if (left == 0) return;
        if (clock_ns() > until_ns) run_fail("%d loops are not destroyed clean: %d", left, result);
    }
}

void loops_examine() {
    inside_call here("mio_loop_run_once, after the test");
    for (const known_loop &one : loops)
        if (one.loop != nullptr && !one.failed && !has_forked) loop_still_works(one.loop);
    mine->inside = "mio_loop_destroy, after the test";
    loops_destroy();
    if (world == nullptr) return;
    const int fds = mio_sim_open_fds(world), theirs = owned_world_fds();
    if (fds > theirs) run_fail("%d descriptors are left in the world, %d of the test", fds, theirs);
    const int error = mio_sim_destroy(world);
    if (error != 0) run_fail("the world is not destroyed: %s", mio_error_name(error));
    world = nullptr;
}

// --- running --------------------------------------------------------------------------------------------------------

static int run_result(mio_loop_t *loop, int result) {
    known_loop *known = loop_find(loop);
    const bool ours = result == MIO_EBUSY || result == MIO_EPERM || result == MIO_EINVAL || result == MIO_ETIMEDOUT;
    if (known != nullptr && result < 0 && !ours) known->failed = true;
    return result;
}

static bool is_stalled(int64_t since_ns) {
    const int64_t last_ns = told_last_ns() > since_ns ? told_last_ns() : since_ns;
    if (!test::failing_happened()) return false;
    if (run_must_pass()) return clock_ns() - since_ns > MUST_PASS_NS;
    return clock_ns() - last_ns > STALL_NS || clock_ns() - since_ns > PATIENCE_NS;
}

// mio_loop_run, in pieces: it ends when nothing comes any more.
static int run_watched(mio_loop_t *loop) {
    const int64_t since_ns = clock_ns();
    int64_t seen_ns = told_last_ns();
    uint64_t turns = 0;
    for (;;) {
        const int result = run_result(loop, mio_loop_run_once(loop, STALL_NS / 3));
        if (result != MIO_ALIVE) return result;
        turns++;
        if (told_last_ns() != seen_ns) {
            seen_ns = told_last_ns();
            turns = 0;
        }
        if (!broken && is_test_thread && !in_child && is_stalled(since_ns)) {
            if (turns > STALL_TURNS) run_fail("%llu turns while nothing comes", static_cast<unsigned long long>(turns));
            test_break(outcome::stalled, "it waits for what does not come");
            return MIO_STOPPED;
        }
    }
}

}

using namespace inject;

extern "C" {

int WRAPPED(mio_loop_create)(mio_loop_t **out, const mio_loop_options_t *options) {
    inside_call here("mio_loop_create");
    mio_loop_options_t copy;
    if (options != nullptr && options->size == sizeof copy && options->allocator.alloc != nullptr &&
        options->allocator.resize != nullptr && options->allocator.release != nullptr) {
        copy = *options;
        auto *theirs = new mio_allocator_t(options->allocator);
        copy.allocator = {counted_alloc, counted_resize, counted_release, theirs};
        options = &copy;
    }
    const int error = mio_loop_create(out, options);
    if (error != 0) return error;
    known_loop *free_one = loop_find(nullptr);
    if (free_one == nullptr) run_fail("more loops than anybody expects");
    *free_one = {*out, false};
    return 0;
}

int WRAPPED(mio_loop_destroy)(mio_loop_t *loop, int64_t drain_ns) {
    int result;
    {
        inside_call here("mio_loop_destroy");
        result = mio_loop_destroy(loop, drain_ns);
        known_loop *known = loop == nullptr ? nullptr : loop_find(loop);
        if (result == 0 && known != nullptr) known->loop = nullptr;
    }
    test_leave();
    return result;
}

int WRAPPED(mio_loop_run)(mio_loop_t *loop) {
    int result;
    {
        inside_call here("mio_loop_run");
        result = run_watched(loop);
    }
    test_leave();
    return result;
}

int WRAPPED(mio_loop_run_once)(mio_loop_t *loop, int64_t timeout_ns) {
    static int64_t since_ns;
    if (since_ns == 0) since_ns = clock_ns();
    int result;
    {
        inside_call here("mio_loop_run_once");
        const bool long_one = is_test_thread && !run_must_pass() && test::failing_happened() && timeout_ns > STALL_NS;
        result = run_result(loop, mio_loop_run_once(loop, long_one ? STALL_NS : timeout_ns));
        if (!broken && is_test_thread && !in_child && result == MIO_ALIVE && is_stalled(since_ns))
            test_break(outcome::stalled, "it waits for what does not come");
    }
    test_leave();
    return result;
}

int WRAPPED(mio_sim_create)(mio_sim_t **out, const mio_sim_options_t *options) {
    const int error = mio_sim_create(out, options);
    if (error == 0) world = *out;
    return error;
}

int WRAPPED(mio_sim_run)(mio_sim_t *one, int64_t limit_ns) {
    int result;
    {
        inside_call here("mio_sim_run");
        result = mio_sim_run(one, limit_ns);
    }
    test_leave();
    return result;
}

int WRAPPED(mio_sim_destroy)(mio_sim_t *one) {
    const int error = mio_sim_destroy(one);
    if (error == 0 && one == world) world = nullptr;
    return error;
}

}
