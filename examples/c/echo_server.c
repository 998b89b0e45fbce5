/* The echo server in C11: whatever a stream sends comes back to it. Linked with the C compiler: nothing of the C++ library is
 * needed. What differs from C++ is MIO_HANDLE, by which a stream is passed as the handle that it is.
 *
 *   echo_server [--host ADDRESS] [--port N]      port 0: any free one; ends with SIGINT or SIGTERM */
#include <mio.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void on_written(mio_stream_t *conn, int status, int64_t sent, mio_buf_t *bufs, unsigned n, void *arg) {
    (void)sent, (void)bufs, (void)n, (void)arg;
    if (status < 0) mio_handle_close(MIO_HANDLE(conn), NULL, NULL);
}                                                        /* the buffer came back; left alone, it goes home */

static void on_read(mio_stream_t *conn, int64_t n, mio_buf_t *buf, void *arg) {
    (void)arg;
    if (n == MIO_EOF) mio_stream_finish(conn, 5 * MIO_SECOND, NULL, NULL);
    else if (n < 0 || mio_stream_write(conn, buf, 1, on_written, NULL) < 0)   /* moves the buffer into the write */
        mio_handle_close(MIO_HANDLE(conn), NULL, NULL);
}

static void on_accept(mio_listener_t *listener, int status, mio_stream_t *conn, void *arg) {
    (void)listener, (void)arg;
    if (status == 0) mio_stream_read_start(conn, 0, on_read, NULL);
}

static mio_loop_t *server;

static void on_signal(int number) {
    (void)number;
    mio_loop_stop(server);                               /* may be called anywhere, also here */
}

int main(int argc, char **argv) {
    const char *host = "127.0.0.1", *port_text = "50002";
    char text[MIO_ADDR_TEXT_MAX] = "?", *end;
    mio_listener_t *listener;
    mio_addr_t addr;
    long number;
    int port, status;
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 < argc && strcmp(argv[i], "--host") == 0) host = argv[i + 1];
        else if (i + 1 < argc && strcmp(argv[i], "--port") == 0) port_text = argv[i + 1];
        else {
            fprintf(stderr, "usage: echo_server [--host ADDRESS] [--port N]\n");
            return 2;
        }
    }
    number = strtol(port_text, &end, 10);
    port = *end == 0 && end != port_text && number >= 0 && number <= 65535 ? (int)number : -1;
    if (port < 0 || mio_addr_parse(host, port, &addr) < 0) {
        fprintf(stderr, "echo_server: '%s' and '%s' are no address and port\n", host, port_text);
        return 2;
    }

    status = mio_loop_create(&server, NULL);
    if (status < 0) {
        fprintf(stderr, "echo_server: no loop: %s\n", mio_error_text(status));
        return 1;
    }
    status = mio_tcp_listen(server, host, port, NULL, on_accept, NULL, &listener);
    if (status < 0) {
        fprintf(stderr, "echo_server: cannot listen on %s, port %d: %s\n", host, port, mio_error_text(status));
        mio_loop_destroy(server, 0);
        return 1;
    }
    if (mio_listener_local(listener, &addr) == 0) mio_addr_format(&addr, text, sizeof text);
    printf("listening on %s (backend %s)\n", text, mio_loop_backend(server));
    fflush(stdout);

    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    status = mio_loop_run(server);
    if (status < 0) fprintf(stderr, "echo_server: %s\n", mio_error_text(status));
    return mio_loop_destroy(server, MIO_SECOND) == 0 && status >= 0 ? 0 : 1;
}
