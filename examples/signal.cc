// A server that ends in good order: SIGTERM and SIGINT stop it, SIGHUP has it read its configuration again.
//
//   signal --port N    an echo server until SIGTERM; in-flight clients are served to the end (nc 127.0.0.1 N)
//   signal             shows itself: sends itself the signals
#include <mio.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

static mio_listener_t *listener;
static mio_signal_t *watches[3]; // TERM, INT, HUP
static int connections, reloads;

static void on_closed(mio_handle_t *, void *) { connections--; }

static void on_written(mio_stream_t *conn, int status, int64_t, mio_buf_t *, unsigned, void *) {
    if (status < 0) mio_handle_close(conn, on_closed, nullptr);
}

static void on_read(mio_stream_t *conn, int64_t n, mio_buf_t *buf, void *) {
    if (n == MIO_EOF) mio_stream_finish(conn, 5 * MIO_SECOND, on_closed, nullptr);
    else if (n < 0 || mio_stream_write(conn, buf, 1, on_written, nullptr) < 0) mio_handle_close(conn, on_closed, nullptr);
}

static void on_accept(mio_listener_t *, int status, mio_stream_t *conn, void *) {
    if (status != 0) return;
    if (mio_stream_read_start(conn, 0, on_read, nullptr) > 0) connections++;
}

// The first one stops: nobody is accepted any more, and nothing but the connections keeps the loop going. The
// dispositions are the old ones at once: a second SIGTERM ends the program as it always did.
static void on_stop(mio_signal_t *signal, int64_t n, void *) {
    if (n < 0) return; // closed
    printf("signal %d: %d connections are served to their end\n", mio_signal_number(signal), connections);
    mio_handle_close(listener, nullptr, nullptr);
    for (mio_signal_t *watch : watches) mio_handle_close(watch, nullptr, nullptr);
}

static void on_reload(mio_signal_t *, int64_t n, void *) {
    if (n < 0) return;
    reloads++; // once for all that came since the last time
    printf("configuration read again, after %lld requests for it\n", static_cast<long long>(n));
}

static void on_demo(mio_timer_t *timer, void *) {
    for (int i = 0; i < 3; i++) raise(SIGHUP);
    raise(SIGTERM);
    mio_handle_close(timer, nullptr, nullptr);
}

// -1: no port, which is refused where it is used.
static int port_of(const char *text) {
    char *end;
    const long number = strtol(text, &end, 10);
    return *text != 0 && *end == 0 && number >= 0 && number <= 65535 ? static_cast<int>(number) : -1;
}

int main(int argc, char **argv) {
    const bool serves = argc == 3 && strcmp(argv[1], "--port") == 0;
    if (argc != 1 && !serves) {
        fprintf(stderr, "signal: usage: signal [--port N]\n");
        return 2;
    }
    mio_loop_t *loop;
    mio_timer_t *demo;
    mio_addr_t at;
    char text[MIO_ADDR_TEXT_MAX];
    if (mio_loop_create(&loop, nullptr) < 0) return 1;
    const int port = serves ? port_of(argv[2]) : 0;
    const int error = mio_tcp_listen(loop, "127.0.0.1", port, nullptr, on_accept, nullptr, &listener);
    if (error < 0) {
        fprintf(stderr, "signal: cannot listen: %s\n", mio_error_text(error));
        return 2;
    }
    const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    for (int i = 0; i < 3; i++) {
        if (mio_signal_create(loop, &watches[i]) < 0) return 1;
        if (mio_signal_start(watches[i], numbers[i], 0, i < 2 ? on_stop : on_reload, nullptr) < 0) return 1;
    }
    if (mio_listener_local(listener, &at) == 0 && mio_addr_format(&at, text, sizeof text) > 0)
        printf("listening on %s\n", text);
    fflush(stdout);
    if (!serves) {
        if (mio_timer_create(loop, &demo) < 0) return 1;
        if (mio_timer_start(demo, 20 * MIO_MILLISECOND, 0, on_demo, nullptr) < 0) return 1;
    }
    const int status = mio_loop_run(loop); // 0: the last connection is closed
    printf("all are served, the configuration was read %d times\n", reloads);
    return mio_loop_destroy(loop, MIO_FOREVER) == 0 && status == 0 ? 0 : 1;
}
