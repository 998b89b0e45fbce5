// docs/tcp.md: statements of a function that listens or connects.
#include <mio.h>

static void on_accept(mio_listener_t *, int, mio_stream_t *, void *) {}
static void on_connect(mio_stream_t *, int, void *) {}

static void framed(mio_loop_t *loop, void *state) {
    FRAGMENT
    (void)on_accept;
    (void)on_connect;
}
