// The echo server: whatever a stream sends comes back to it. The callbacks are those of the README.
//
//   echo_server [--host ADDRESS] [--port N]      port 0: any free one; ends with SIGINT or SIGTERM
#include <mio.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

static void on_written(mio_stream_t *conn, int status, int64_t, mio_buf_t *, unsigned, void *) {
    if (status < 0) mio_handle_close(conn, nullptr, nullptr);
}                                                        // the buffer came back; left alone, it goes home

static void on_read(mio_stream_t *conn, int64_t n, mio_buf_t *buf, void *) {
    if (n == MIO_EOF) mio_stream_finish(conn, 5 * MIO_SECOND, nullptr, nullptr);
    else if (n < 0 || mio_stream_write(conn, buf, 1, on_written, nullptr) < 0)   // moves the buffer into the write
        mio_handle_close(conn, nullptr, nullptr);
}

static void on_accept(mio_listener_t *, int status, mio_stream_t *conn, void *) {
    if (status == 0) mio_stream_read_start(conn, 0, on_read, nullptr);
}

static mio_loop_t *server;

static void on_signal(int) {
    mio_loop_stop(server);                               // may be called anywhere, also here
}

int main(int argc, char **argv) {
    const char *host = "127.0.0.1";
    const char *port_text = "50002";
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 < argc && strcmp(argv[i], "--host") == 0) host = argv[i + 1];
        else if (i + 1 < argc && strcmp(argv[i], "--port") == 0) port_text = argv[i + 1];
        else {
            fprintf(stderr, "usage: echo_server [--host ADDRESS] [--port N]\n");
            return 2;
        }
    }
    char *end;
    const long number = strtol(port_text, &end, 10);
    const int port = *end == 0 && end != port_text && number <= 65535 ? static_cast<int>(number) : -1;
    mio_addr_t addr;
    if (port < 0 || mio_addr_parse(host, port, &addr) < 0) {
        fprintf(stderr, "echo_server: '%s' and '%s' are no address and port\n", host, port_text);
        return 2;
    }

    int status = mio_loop_create(&server, nullptr);
    if (status < 0) {
        fprintf(stderr, "echo_server: no loop: %s\n", mio_error_text(status));
        return 1;
    }
    mio_listener_t *listener;
    status = mio_tcp_listen(server, host, port, nullptr, on_accept, nullptr, &listener);
    if (status < 0) {
        fprintf(stderr, "echo_server: cannot listen on %s, port %d: %s\n", host, port, mio_error_text(status));
        mio_loop_destroy(server, 0);
        return 1;
    }
    char text[MIO_ADDR_TEXT_MAX] = "?";
    if (mio_listener_local(listener, &addr) == 0) mio_addr_format(&addr, text, sizeof text);
    printf("listening on %s (backend %s)\n", text, mio_loop_backend(server));
    fflush(stdout);

    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    status = mio_loop_run(server);
    if (status < 0) fprintf(stderr, "echo_server: %s\n", mio_error_text(status));
    return mio_loop_destroy(server, MIO_SECOND) == 0 && status >= 0 ? 0 : 1;
}
