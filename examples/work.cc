// Work: a function on another thread. Four sums are computed while the loop keeps ticking; one is cancelled in time.
//
//   work
#include <mio.h>

#include <cstdio>

struct sum {
    int number;
    long limit, result;
};
static sum sums[5];
static int done, cancelled, ticks;

// On a worker's thread: may take as long as it likes.
static void add_up(void *arg) {
    auto *s = static_cast<sum *>(arg);
    for (long i = 1; i <= s->limit; i++) s->result += i % 7;
}

// On the loop's thread again.
static void on_sum(mio_loop_t *loop, int status, void *arg) {
    const auto *s = static_cast<const sum *>(arg);
    if (status == MIO_ECANCELED) cancelled++;
    else if (status == 0 && s->result > 0) done++;
    printf("sum %d: %s\n", s->number, status == 0 ? "done" : mio_error_name(status));
    if (done + cancelled == 5) mio_loop_stop(loop);
}

static void on_tick(mio_timer_t *, void *) { ticks++; }

int main() {
    mio_loop_t *loop;
    mio_timer_t *timer;
    if (mio_loop_create(&loop, nullptr) < 0) return 1;
    if (mio_timer_create(loop, &timer) < 0 || mio_timer_start(timer, 0, MIO_MILLISECOND, on_tick, nullptr) < 0) return 1;
    mio_req_t last = 0;
    for (int i = 0; i < 5; i++) {
        sums[i] = sum{i, 2000000, 0};
        last = mio_work_start(loop, nullptr, add_up, on_sum, &sums[i]);
        if (last < 0) return 1;
    }
    if (mio_req_cancel(loop, last) != 0) return 1;     // it is still queued: its function is never called
    mio_loop_run(loop);
    printf("the loop ticked meanwhile: %s\n", ticks > 0 ? "yes" : "no");
    mio_handle_close(timer, nullptr, nullptr);
    return mio_loop_destroy(loop, MIO_FOREVER) == 0 && done == 4 && cancelled == 1 ? 0 : 1;
}
