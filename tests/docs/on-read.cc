// docs/listener.md: a callback that reads.
#include <mio.h>

static void on_read(mio_stream_t *, int64_t, mio_buf_t *, void *) {}

FRAGMENT
