// Enters that fail now and then, or take less than they were given: what a kernel may answer on any day. Each call of
// io_uring_enter(2) traps; the handler makes it, changes it or answers in the kernel's place. Nothing may be lost, sent
// twice or counted wrongly, and every run must end.
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <initializer_list>

namespace kernel {

enum class mischief {
    none,
    error_before, // nothing was done
    error_after,  // all was done
    partial,      // half of the entries were taken, and nothing was waited for
};

struct plan {
    mischief what;
    int error;
    unsigned every; // one in so many
};
static plan current;
static volatile sig_atomic_t enters, played, others;

static long enter(const long *a) {
    enters = enters + 1;
    const bool now = current.what != mischief::none && static_cast<unsigned>(enters) % current.every == 0;
    const long without_waiting = a[3] & ~static_cast<long>(IORING_ENTER_EXT_ARG);
    if (!now) return gate(CALL_ENTER, a[0], a[1], a[2], a[3], a[4], a[5]);
    switch (current.what) {
    case mischief::none: break;
    case mischief::error_before:
        played = played + 1;
        return -current.error;
    case mischief::error_after:
        played = played + 1;
        gate(CALL_ENTER, a[0], a[1], 0, without_waiting, 0, 0);
        return -current.error;
    case mischief::partial:
        if (a[1] < 2) break;
        played = played + 1;
        return gate(CALL_ENTER, a[0], a[1] / 2, 0, without_waiting & ~static_cast<long>(IORING_ENTER_GETEVENTS), 0, 0);
    }
    return gate(CALL_ENTER, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static long answer(long call, const long *a) {
    if (call == CALL_ENTER) return enter(a);
    others = others + 1;
    return gate(call, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static void trap(const long *calls, unsigned n) {
    need_ring();
    if (!gate_exists()) skip("calls are trapped on other architectures");
    trap_install(calls, n, answer);
}

static mio_loop_t *ring_loop(uint32_t completions) {
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.backend = MIO_BACKEND_IO_URING;
    options.completions = completions;
    mio_loop_t *loop = nullptr;
    REQUIRE_IS(loop_create_with(&loop, &options), 0);
    return loop;
}

// --- errors that pass -----------------------------------------------------------------------------------------------

static void echo_under(plan wanted) {
    static const long calls[] = {CALL_ENTER};
    trap(calls, 1);
    for (uint32_t completions : {0u, 64u}) {
        mio_loop_t *loop = ring_loop(completions); // tested before the trouble begins
        current = wanted;
        played = 0;
        echo_run(loop, {24, 60, 100});
        echo_run(loop, {24, 12, 30000});
        REQUIRE(played != 0);
        current.what = mischief::none;
        loop_destroy(loop);
    }
}

CASE(an_interrupted_enter_loses_nothing) { echo_under({mischief::error_before, EINTR, 2}); }
CASE(a_busy_enter_loses_nothing) { echo_under({mischief::error_before, EBUSY, 3}); }
CASE(an_enter_without_memory_for_requests_loses_nothing) { echo_under({mischief::error_before, EAGAIN, 3}); }
CASE(an_enter_that_works_and_says_eintr_counts_nothing_twice) { echo_under({mischief::error_after, EINTR, 2}); }
CASE(an_enter_that_works_and_says_ebusy_counts_nothing_twice) { echo_under({mischief::error_after, EBUSY, 3}); }
CASE(an_enter_that_takes_half_of_its_entries_is_given_the_rest) { echo_under({mischief::partial, 0, 2}); }
CASE(an_enter_that_always_takes_half_is_given_the_rest) { echo_under({mischief::partial, 0, 1}); }

// An error that was told once is not told again, and what was in flight goes on.
static void echo_after_errors(int error, mischief what) {
    static const long calls[] = {CALL_ENTER};
    trap(calls, 1);
    mio_loop_t *loop = ring_loop(0);
    current = {what, error, 7};
    echo_run_until(loop, {24, 60, 100}, -error);
    echo_run_until(loop, {24, 12, 30000}, -error);
    REQUIRE(played != 0);
    current.what = mischief::none;
    loop_destroy(loop);
}

CASE(a_run_goes_on_after_an_enter_that_was_refused_once) { echo_after_errors(EPERM, mischief::error_before); }
CASE(a_run_goes_on_after_an_enter_that_was_short_of_memory) { echo_after_errors(ENOMEM, mischief::error_before); }
CASE(a_run_goes_on_after_an_enter_that_worked_and_said_it_did_not) { echo_after_errors(EIO, mischief::error_after); }

// 5.10 and 5.15 wait for a grace period before a ring is enabled, and a signal ends that wait.
static long answer_enabling(long call, const long *a) {
    constexpr int INTERRUPTED = 5;
    if (a[1] == IORING_REGISTER_ENABLE_RINGS && played < INTERRUPTED) {
        played = played + 1;
        return -EINTR;
    }
    return gate(call, a[0], a[1], a[2], a[3], a[4], a[5]);
}

CASE(a_ring_whose_enabling_is_interrupted_is_enabled_all_the_same) {
    need_ring();
    if (!gate_exists()) skip("calls are trapped on other architectures");
    static const long calls[] = {CALL_REGISTER};
    mio_loop_t *loop = ring_loop(0);
    trap_install(calls, 1, answer_enabling);
    echo_run(loop, ECHO_SMALL);
    REQUIRE_IS(played, 5);
    loop_destroy(loop);
}

// A loop whose time has come takes errors as they are, too.
CASE(destroy_gets_through_errors_that_pass) {
    static const long calls[] = {CALL_ENTER};
    trap(calls, 1);
    for (mischief what : {mischief::error_before, mischief::error_after, mischief::partial}) {
        mio_loop_t *loop = ring_loop(0);
        mio_addr_t at;
        echo_listen(loop, &at);
        int fds[40];
        for (int &fd : fds) {
            fd = raw_connect(&at);
            REQUIRE_IS(send(fd, "hello", 5, MSG_NOSIGNAL), 5);
            REQUIRE(mio_loop_run_once(loop, 0) >= 0);
        }
        current = {what, EINTR, 2};
        loop_destroy(loop);
        current.what = mischief::none;
        for (int fd : fds) close(fd);
    }
}

// --- how many calls -------------------------------------------------------------------------------------------------

static int features_missing() {
    static int missing;
    missing = 0;
    mio_backend_features([](const char *, const char *, int value, const char *, void *) { missing += value != 0; }, nullptr);
    return missing;
}

// Clients that write and read (which is not counted), all of them between two turns: the server is never short of work.
CASE(eighty_echoes_at_once_cost_few_calls_and_the_metrics_know_it) {
    static const long calls[] = {CALL_ENTER, SYS_sendto, SYS_sendmsg, SYS_recvfrom, SYS_recvmsg, SYS_accept4,
                                 SYS_epoll_ctl, SYS_epoll_pwait, SYS_ppoll,
#ifdef SYS_poll
                                 SYS_poll,
#endif
    };
    constexpr unsigned CLIENTS = 80, ROUNDS = 200;
    trap(calls, sizeof calls / sizeof calls[0]);
    mio_loop_t *loop = ring_loop(0);
    mio_addr_t at;
    echo_listen(loop, &at);
    int fds[CLIENTS];
    for (int &fd : fds) fd = raw_connect(&at);
    mio_loop_metrics_t metrics = MIO_LOOP_METRICS_INIT;
    int64_t counted = 0, told = 0;
    for (unsigned round = 0; round < ROUNDS + 20; round++) {
        if (round == 20) { // warm
            REQUIRE_IS(mio_loop_metrics(loop, &metrics), 0);
            told = static_cast<int64_t>(metrics.backend_calls);
            counted = enters + others;
        }
        char bytes[100], back[100];
        pattern_fill(bytes, sizeof bytes, round);
        for (int fd : fds) REQUIRE_IS(write(fd, bytes, sizeof bytes), sizeof bytes);
        for (int fd : fds) {
            ssize_t n = -1;
            while (n < 0) {
                REQUIRE_IS(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
                n = read(fd, back, sizeof back);
                if (n < 0) REQUIRE(mio_loop_run_once(loop, 10 * MIO_MILLISECOND) >= 0);
            }
            REQUIRE_IS(n, sizeof back);
            REQUIRE(memcmp(bytes, back, sizeof back) == 0);
        }
    }
    REQUIRE_IS(mio_loop_metrics(loop, &metrics), 0);
    told = static_cast<int64_t>(metrics.backend_calls) - told;
    counted = enters + others - counted;
    printf("note: %.3f calls for an echo, the metrics say %.3f\n", static_cast<double>(counted) / (CLIENTS * ROUNDS),
           static_cast<double>(told) / (CLIENTS * ROUNDS));
    REQUIRE(counted <= told + 2 && told <= counted + 2);
    if (features_missing() == 0) REQUIRE(counted * 100 <= 15 * static_cast<int64_t>(CLIENTS * ROUNDS));
    for (int fd : fds) close(fd);
    loop_destroy(loop);
}

}
