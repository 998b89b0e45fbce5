// docs/from-libevent.md: the idioms.
#include <mio.h>

static void handle_line(void *, const char *, size_t) {}
static void next_line(mio_stream_t *conn, void *arg);
static void on_tick(mio_timer_t *, void *) {}
static void on_idle(mio_timer_t *, void *) {}

FRAGMENT
