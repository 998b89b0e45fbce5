// A service for systemd: an echo server whose socket the manager opened, which says when it is ready and when it stops, and
// is killed when its loop hangs. Without a manager it opens a port itself. The units are in examples/systemd/.
//
//   systemd [PORT]     default 0: any free port; of no meaning with a socket that was passed
#include <mio.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

static mio_listener_t *listener;
static mio_signal_t *stopping;
static mio_timer_t *watchdog;

static void on_read(mio_stream_t *conn, int64_t n, mio_buf_t *buf, void *) {
    if (n < 0 || mio_stream_write(conn, buf, 1, nullptr, nullptr) < 0) mio_handle_close(conn, nullptr, nullptr);
}

static void on_accept(mio_listener_t *, int status, mio_stream_t *conn, void *) {
    if (status == 0) mio_stream_read_start(conn, 0, on_read, nullptr);
}

// SIGTERM: no new connections; whoever is connected is cut off by the end of the loop.
static void on_stop(mio_signal_t *signal, int64_t n, void *) {
    if (n < 0) return;
    mio_systemd_notify("STOPPING=1\nSTATUS=saying goodbye");
    mio_handle_close(listener, nullptr, nullptr);
    mio_handle_close(signal, nullptr, nullptr);
    mio_loop_stop(mio_handle_loop(signal));
}

// -1: no port, which is refused where it is used.
static int port_of(const char *text) {
    char *end;
    const long number = strtol(text, &end, 10);
    return *text != 0 && *end == 0 && number >= 0 && number <= 65535 ? static_cast<int>(number) : -1;
}

int main(int argc, char **argv) {
    mio_loop_t *loop;
    mio_addr_t at;
    char name[128] = "a socket of the manager's";
    if (mio_loop_create(&loop, nullptr) < 0) return 1;
    int error = mio_systemd_listen(loop, "echo", 0, on_accept, nullptr, &listener);
    if (error == MIO_ENOENT)                                 // started by hand
        error = mio_tcp_listen(loop, "127.0.0.1", argc > 1 ? port_of(argv[1]) : 0, nullptr, on_accept, nullptr, &listener);
    if (error < 0) {
        fprintf(stderr, "systemd: %s\n", mio_error_text(error));
        return 1;
    }
    if (mio_signal_create(loop, &stopping) < 0 || mio_signal_start(stopping, SIGTERM, 0, on_stop, nullptr) < 0) return 1;
    if (mio_systemd_watchdog(loop, &watchdog) < 0) return 1; // 0: nobody watches
    if (mio_listener_local(listener, &at) == 0) mio_addr_format(&at, name, sizeof name);
    printf("listening on %s\n", name);
    fflush(stdout);
    mio_systemd_notify("READY=1\nSTATUS=listening");         // the last thing before the loop runs
    const int result = mio_loop_run(loop);
    return mio_loop_destroy(loop, MIO_SECOND) == 0 && result == MIO_STOPPED ? 0 : 1;
}
