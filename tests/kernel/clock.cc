// The calendar of the machine is set while loops sleep and work: forwards, back, by somebody else. No timer moves. Only
// where the machine is the tests' own (tests/kernel/boot says so in the environment).
#include "kernel.h"
#include "support/leave.h"

#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

namespace kernel {

static void calendar_shift(int64_t by_s) {
    struct timespec now;
    REQUIRE_IS(clock_gettime(CLOCK_REALTIME, &now), 0);
    now.tv_sec += by_s;
    REQUIRE_IS(clock_settime(CLOCK_REALTIME, &now), 0);
}

struct shifts {
    int ticks;
    int64_t due_ns;
    bool early;
};

static void on_tick(mio_timer_t *timer, void *arg) {
    shifts *told = static_cast<shifts *>(arg);
    if (clock_ns() < told->due_ns) told->early = true;
    told->due_ns += 20 * MIO_MILLISECOND;
    if (told->ticks % 2 == 0) calendar_shift(told->ticks % 4 == 0 ? 7200 : -7200);
    if (++told->ticks == 8) mio_timer_stop(timer);
}

static void calendar_is_set(enum mio_backend backend) {
    mio_loop_t *loop;
    REQUIRE_IS(loop_create(&loop, backend), 0);
    mio_timer_t *timer;
    REQUIRE_IS(mio_timer_create(loop, &timer), 0);

    // By callbacks of the loop, between its waits.
    shifts told = {};
    int64_t begun = clock_ns();
    told.due_ns = mio_loop_now_ns(loop) + 20 * MIO_MILLISECOND;
    REQUIRE_IS(mio_timer_start(timer, 20 * MIO_MILLISECOND, 20 * MIO_MILLISECOND, on_tick, &told), 0);
    REQUIRE_IS(mio_loop_run(loop), 0);
    REQUIRE_IS(told.ticks, 8);
    REQUIRE(!told.early);
    REQUIRE(clock_ns() - begun < 10 * MIO_SECOND);

    // By another process, in the midst of one wait.
    const int64_t shifts_s[] = {7200, -7200};
    for (int64_t by_s : shifts_s) {
        const pid_t other = fork();
        REQUIRE(other >= 0);
        if (other == 0) {
            const struct timespec moment = {0, 100000000};
            nanosleep(&moment, nullptr);
            calendar_shift(by_s);
            leave(0);
        }
        begun = clock_ns();
        REQUIRE_IS(mio_timer_start(timer, 400 * MIO_MILLISECOND, 0, [](mio_timer_t *, void *) {}, nullptr), 0);
        REQUIRE_IS(mio_loop_run(loop), 0);
        REQUIRE(clock_ns() - begun >= 400 * MIO_MILLISECOND);
        REQUIRE(clock_ns() - begun < 10 * MIO_SECOND);
        int status = 0;
        REQUIRE_IS(waitpid(other, &status, 0), other);
        REQUIRE_IS(status, 0);
    }
    mio_handle_abandon(timer);
    loop_destroy(loop);
}

static void need_own_machine() {
    if (getenv("MIO_TEST_CLOCK") == nullptr) skip("sets the machine's clock: only in qemu");
}

CASE(a_calendar_that_is_set_moves_no_timer_of_the_ring) {
    need_own_machine();
    need_ring();
    calendar_is_set(MIO_BACKEND_IO_URING);
}

CASE(a_calendar_that_is_set_moves_no_timer_of_epoll) {
    need_own_machine();
    calendar_is_set(MIO_BACKEND_EPOLL);
}

}
