// docs/timer.md: statements of a function that starts a timer.
#include <mio.h>

static void on_tick(mio_timer_t *, void *) {}

static void framed(mio_loop_t *loop, void *state) {
    FRAGMENT
}
