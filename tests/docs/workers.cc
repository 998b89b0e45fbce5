// docs/work.md: a loop with workers of its own.
#include <mio.h>

static void framed(mio_loop_t *loop) {
    FRAGMENT
}
