// A connection to a host by name: resolved, its addresses tried as RFC 8305 has it, all of it within two seconds. The
// server is a listener of this program's own; HOST and PORT name another one.
//
//   connect_host [HOST PORT]
#include <mio.h>

#include <cstdio>
#include <cstdlib>

static int connected;

static void on_accept(mio_listener_t *, int, mio_stream_t *, void *) {} // whatever is accepted is closed

static void on_connect(mio_stream_t *conn, int status, const mio_connect_tried_t *tried, unsigned n, void *) {
    char text[2048];
    if (mio_connect_tried_format(tried, n, text, sizeof text) < 0) return;
    if (status == 0) printf("connected after %u of its addresses: %s\n", n, text);
    else printf("not connected (%s): %s\n", mio_error_name(status), text);
    connected = status == 0;
    mio_handle_close(conn, nullptr, nullptr);
}

int main(int argc, char **argv) {
    if (argc != 1 && (argc != 3 || atoi(argv[2]) <= 0)) {
        fprintf(stderr, "connect_host: usage: connect_host [HOST PORT]\n");
        return 2;
    }
    const char *host = argc == 3 ? argv[1] : "localhost";
    int port = argc == 3 ? atoi(argv[2]) : 0;
    mio_loop_t *loop;
    mio_listener_t *listener;
    mio_stream_t *conn;
    mio_addr_t at;
    if (mio_loop_create(&loop, nullptr) < 0) return 1;
    if (port == 0) {
        if (mio_tcp_listen(loop, "127.0.0.1", 0, nullptr, on_accept, nullptr, &listener) < 0) return 1;
        if (mio_listener_local(listener, &at) < 0) return 1;
        mio_handle_unref(listener);                                // it does not keep the loop alive
        port = mio_addr_port(&at);
    }
    mio_connect_host_options_t options = MIO_CONNECT_HOST_OPTIONS_INIT;
    options.timeout_ns = 2 * MIO_SECOND;                           // over all: the resolver, and every attempt
    if (mio_tcp_connect_host(loop, host, MIO_TEXT, port, &options, on_connect, nullptr, &conn) < 0) return 1;
    mio_loop_run(loop);
    return mio_loop_destroy(loop, MIO_FOREVER) == 0 && connected ? 0 : 1;
}
