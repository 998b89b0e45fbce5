// docs/tcp.md: a connection to a host.
#include <mio.h>

static void on_connect(mio_stream_t *, int, const mio_connect_tried_t *, unsigned, void *) {}

static void framed(mio_loop_t *loop, void *state) {
    mio_stream_t *stream;
    FRAGMENT
}
