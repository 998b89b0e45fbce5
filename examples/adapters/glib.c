/* GLib on a loop: libmio's loop is the program's, and a library made for GLib runs in it. Here that is a time-out and a
 * watch of a descriptor, to whose other end a stream of the loop writes. In C.
 *
 *   glib */
#include <mio/adapters/glib.h>

#include <glib-unix.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static mio_glib_t *adapter;
static mio_stream_t *stream;
static int ticks;

/* GLib's side. */
static gboolean on_readable(gint fd, GIOCondition condition, gpointer arg) {
    char text[64];
    const ssize_t n = read(fd, text, sizeof text);
    (void)condition;
    (void)arg;
    if (n > 0) {
        printf("GLib heard: %.*s\n", (int)n, text);
        return G_SOURCE_CONTINUE;
    }
    close(fd);
    printf("after %d ticks\n", ticks);
    mio_glib_close(adapter); /* with it the loop's last reason to go on */
    return G_SOURCE_REMOVE;
}

static gboolean on_tick(gpointer arg) {
    (void)arg;
    return ++ticks < 3;
}

/* libmio's side. */
static void on_written(mio_stream_t *conn, int status, int64_t sent, mio_buf_t *bufs, unsigned n, void *arg) {
    (void)status;
    (void)sent;
    (void)bufs;
    (void)n;
    (void)arg;
    mio_handle_close(MIO_HANDLE(conn), NULL, NULL);
}

static void on_timer(mio_timer_t *timer, void *arg) {
    mio_buf_t buf = mio_buf_borrow("hello", 5);
    (void)arg;
    mio_handle_close(MIO_HANDLE(timer), NULL, NULL);
    if (mio_stream_write(stream, &buf, 1, on_written, NULL) < 0) mio_handle_close(MIO_HANDLE(stream), NULL, NULL);
}

int main(void) {
    mio_loop_t *loop;
    mio_timer_t *timer;
    int fds[2], status;
    if (mio_loop_create(&loop, NULL) < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0) return 1;
    if (mio_glib_open(loop, NULL, &adapter) < 0) return 1; /* the default context, which g_unix_fd_add and the like mean */
    g_unix_fd_add(fds[0], (GIOCondition)(G_IO_IN | G_IO_HUP), on_readable, NULL);
    g_timeout_add(10, on_tick, NULL);
    if (mio_stream_adopt(loop, fds[1], NULL, 0, &stream) < 0 || mio_timer_create(loop, &timer) < 0) return 1;
    if (mio_timer_start(timer, 100 * MIO_MILLISECOND, 0, on_timer, NULL) < 0) return 1;
    status = mio_loop_run(loop);
    return mio_loop_destroy(loop, MIO_SECOND) == 0 && status == 0 && ticks == 3 ? 0 : 1;
}
