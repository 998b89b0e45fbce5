// Step 1: a loop, a handle on it, and the end of both.
#include <mio.h>

#include <cstdio>

static int ticks;

static void on_tick(mio_timer_t *timer, void *) {
    printf("tick %d\n", ++ticks);
    if (ticks == 3) mio_handle_close(timer, nullptr, nullptr);   // nothing is alive any more: the run ends
}

int main() {
    mio_loop_t *loop;
    mio_timer_t *timer;
    const int error = mio_loop_create(&loop, nullptr);
    if (error < 0) {
        fprintf(stderr, "no loop: %s\n", mio_error_text(error));
        return 1;
    }
    if (mio_timer_create(loop, &timer) < 0) return 1;
    if (mio_timer_start(timer, 0, 10 * MIO_MILLISECOND, on_tick, nullptr) < 0) return 1;

    const int result = mio_loop_run(loop);                       // 0: there was nothing left to wait for
    printf("on %s\n", mio_loop_backend(loop));
    const int left = mio_loop_destroy(loop, MIO_FOREVER);
    return result == 0 && left == 0 && ticks == 3 ? 0 : 1;
}
