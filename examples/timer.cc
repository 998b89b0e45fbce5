// Timers: one that fires once, and one that repeats until it has done its work.
//
//   timer
#include <mio.h>

#include <cstdio>

static int ticks;
static bool rang;

static void on_tick(mio_timer_t *timer, void *arg) {
    const int64_t begun_ns = *static_cast<int64_t *>(arg);
    const int64_t elapsed_ms = (mio_loop_now_ns(mio_handle_loop(timer)) - begun_ns) / MIO_MILLISECOND;
    ticks++;
    printf("tick %d after %d ms or more\n", ticks, ticks * 20);
    if (elapsed_ms < ticks * 20) printf("but it is only %lld ms later!\n", static_cast<long long>(elapsed_ms));
    if (ticks == 5) mio_handle_close(timer, nullptr, nullptr);    // the last thing that kept the loop alive
}

static void on_alarm(mio_timer_t *timer, void *) {
    printf("alarm\n");
    rang = true;
    mio_handle_close(timer, nullptr, nullptr);
}

int main() {
    mio_loop_t *loop;
    mio_timer_t *ticker, *alarm;
    if (mio_loop_create(&loop, nullptr) < 0) return 1;
    if (mio_timer_create(loop, &ticker) < 0 || mio_timer_create(loop, &alarm) < 0) return 1;

    int64_t begun_ns = mio_loop_now_ns(loop);
    if (mio_timer_start(ticker, 20 * MIO_MILLISECOND, 20 * MIO_MILLISECOND, on_tick, &begun_ns) < 0) return 1;
    if (mio_timer_start(alarm, 50 * MIO_MILLISECOND, 0, on_alarm, nullptr) < 0) return 1;

    const int status = mio_loop_run(loop);                        // 0: nothing is alive any more
    printf("%d ticks\n", ticks);
    return mio_loop_destroy(loop, MIO_FOREVER) == 0 && status == 0 && ticks == 5 && rang ? 0 : 1;
}
