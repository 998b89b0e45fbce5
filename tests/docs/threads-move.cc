// docs/threads.md: one loop accepts for others.
#include <mio.h>

struct team {
    mio_remote_t **remotes;
    unsigned members, next;
};
static void on_read(mio_stream_t *, int64_t, mio_buf_t *, void *) {}

FRAGMENT
