// Embedding: libmio inside GLib's main loop, as a GSource. An echo over a socket pair, driven by a timer of GLib's: calls
// go both ways, all on one thread.
//
//   embed_glib
#include <mio.h>

#include <glib.h>

#include <cstdio>
#include <sys/socket.h>

// --- the source: all that a program has to take over ----------------------------------------------------------------

struct mio_source {
    GSource base;
    mio_loop_t *loop;
    gpointer tag;     // of the descriptor
    bool due;         // a prepare said: at once
};

static gboolean source_prepare(GSource *source, gint *timeout_ms) {
    mio_source *s = reinterpret_cast<mio_source *>(source);
    int64_t timeout_ns = -1;
    // MIO_EBUSY does not come: GLib leaves a source out while its own dispatch runs a nested loop.
    s->due = mio_loop_prepare(s->loop, &timeout_ns) < 0 || timeout_ns == 0;
    // The exact time, in microseconds and rounded up; *timeout_ms alone would do with milliseconds.
    const gint64 us = timeout_ns / 1000 + (timeout_ns % 1000 != 0);
    g_source_set_ready_time(source, timeout_ns <= 0 ? -1 : g_source_get_time(source) + us);
    *timeout_ms = mio_timeout_ms(timeout_ns);
    return s->due;
}

static gboolean source_check(GSource *source) {
    const mio_source *s = reinterpret_cast<mio_source *>(source);
    const gint64 at = g_source_get_ready_time(source);
    return s->due || g_source_query_unix_fd(source, s->tag) != 0 || (at >= 0 && g_source_get_time(source) >= at);
}

static gboolean source_dispatch(GSource *source, GSourceFunc, gpointer) {
    return mio_loop_dispatch(reinterpret_cast<mio_source *>(source)->loop) < 0 ? G_SOURCE_REMOVE : G_SOURCE_CONTINUE;
}

static GSourceFuncs source_functions = {source_prepare, source_check, source_dispatch, nullptr, nullptr, nullptr};

// GLib prepares before each of its waits, so no mio_loop_on_wake is needed. The source must go before the loop does:
// g_source_destroy, g_source_unref, then mio_loop_destroy.
static GSource *source_new(mio_loop_t *loop) {
    const int fd = mio_loop_fd(loop);
    if (fd < 0) return nullptr;
    GSource *source = g_source_new(&source_functions, sizeof(mio_source));
    mio_source *s = reinterpret_cast<mio_source *>(source);
    s->loop = loop;
    s->tag = g_source_add_unix_fd(source, fd, G_IO_IN);
    return source;
}

// --- the program ----------------------------------------------------------------------------------------------------

struct program {
    GMainLoop *host;
    mio_stream_t *ours;
    mio_timer_t *limit;
    int ticks, answers;
};

static void on_echo(mio_stream_t *conn, int64_t n, mio_buf_t *buf, void *) {
    if (n > 0) mio_stream_write(conn, buf, 1, nullptr, nullptr);
}

static void on_answer(mio_stream_t *, int64_t n, mio_buf_t *, void *arg) {
    program *p = static_cast<program *>(arg);
    if (n <= 0) return;
    if (++p->answers == 3) g_main_loop_quit(p->host);
}

static void on_limit(mio_timer_t *, void *arg) { g_main_loop_quit(static_cast<program *>(arg)->host); }

// GLib's callback calls libmio, outside a dispatch.
static gboolean on_tick(gpointer arg) {
    program *p = static_cast<program *>(arg);
    mio_buf_t text = mio_buf_borrow("tick", 4);
    mio_stream_write(p->ours, &text, 1, nullptr, nullptr);
    return ++p->ticks < 3 ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

int main() {
    mio_loop_t *loop;
    mio_stream_t *theirs;
    int fds[2];
    program p = {};
    if (mio_loop_create(&loop, nullptr) < 0) return 1;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0) return 1;
    if (mio_stream_adopt(loop, fds[0], nullptr, 0, &p.ours) < 0) return 1;
    if (mio_stream_adopt(loop, fds[1], nullptr, 0, &theirs) < 0) return 1;
    if (mio_stream_read_start(p.ours, 0, on_answer, &p) < 0) return 1;
    if (mio_stream_read_start(theirs, 0, on_echo, nullptr) < 0) return 1;
    if (mio_timer_create(loop, &p.limit) < 0) return 1;
    if (mio_timer_start(p.limit, 10 * MIO_SECOND, 0, on_limit, &p) < 0) return 1;

    GSource *source = source_new(loop);
    if (source == nullptr) return 1;
    p.host = g_main_loop_new(nullptr, FALSE);
    g_source_attach(source, nullptr);
    g_timeout_add(5, on_tick, &p);
    g_main_loop_run(p.host);

    g_source_destroy(source);
    g_source_unref(source);
    g_main_loop_unref(p.host);
    printf("%d answers, %d ticks of GLib's\n", p.answers, p.ticks);
    return mio_loop_destroy(loop, MIO_FOREVER) == 0 && p.answers == 3 ? 0 : 1;
}
