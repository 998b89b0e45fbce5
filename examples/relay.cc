// A TCP forwarder: each connection is relayed to a host that is found by its name, both ways, until both sides have said
// their last byte. It is what proxy.cc does by hand.
//
//   relay --listen PORT --to HOST:PORT      serves until SIGINT or SIGTERM
//   relay                                   shows itself: 1 MiB through it to an echo server and back
#include <mio.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

static mio_loop_t *loop;
static std::string host;
static int port;
static bool verbose;

static void on_end(mio_stream_t *client, mio_stream_t *server, int status, int64_t out, int64_t back, void *) {
    if (verbose) {
        printf("%lld bytes out, %lld back: %s\n", static_cast<long long>(out), static_cast<long long>(back),
               status == 0 ? "both have ended" : mio_error_text(status));
        fflush(stdout);
    }
    for (mio_stream_t *stream : {client, server}) {
        if (status == 0) mio_stream_finish(stream, MIO_MINUTE, nullptr, nullptr);
        else mio_handle_close(stream, nullptr, nullptr);
    }
}

// A failure ends the relay, which waits for the connection.
static void on_connect(mio_stream_t *, int status, const mio_connect_tried_t *, unsigned, void *) {
    if (status < 0) fprintf(stderr, "relay: %s:%d: %s\n", host.c_str(), port, mio_error_text(status));
}

static void on_accept(mio_listener_t *, int status, mio_stream_t *client, void *) {
    if (status < 0) return;                              // a report; accepting goes on
    mio_stream_t *server;
    mio_connect_host_options_t connect = MIO_CONNECT_HOST_OPTIONS_INIT;
    connect.timeout_ns = 10 * MIO_SECOND;
    if (mio_tcp_connect_host(loop, host.c_str(), MIO_TEXT, port, &connect, on_connect, nullptr, &server) < 0)
        return;                                          // nothing was started on client: it is closed by itself
    mio_relay_options_t options = MIO_RELAY_OPTIONS_INIT;
    options.idle_ns = 10 * MIO_MINUTE;
    options.half_ns = MIO_MINUTE;                        // one side has said its last byte
    if (mio_stream_relay(client, server, &options, on_end, nullptr) < 0)
        mio_handle_close(server, nullptr, nullptr);
}

static void on_signal(int) { mio_loop_stop(loop); }

static int show_itself();

// -1: no port, which is refused where it is used.
static int port_of(const char *text) {
    char *end;
    const long number = strtol(text, &end, 10);
    return *text != 0 && *end == 0 && number >= 0 && number <= 65535 ? static_cast<int>(number) : -1;
}

int main(int argc, char **argv) {
    if (argc == 1) return show_itself();

    const bool named = argc == 5 && strcmp(argv[1], "--listen") == 0 && strcmp(argv[3], "--to") == 0;
    const std::string to = named ? argv[4] : "";
    const size_t colon = to.rfind(':');
    if (colon == std::string::npos || colon == 0 || port_of(&to[colon + 1]) <= 0) {
        fprintf(stderr, "relay: usage: relay --listen PORT --to HOST:PORT\n");
        return 2;
    }
    host = to.substr(0, colon);
    port = port_of(&to[colon + 1]);
    verbose = true;
    mio_listener_t *listener;
    mio_addr_t addr;
    char text[MIO_ADDR_TEXT_MAX] = "?";
    if (mio_loop_create(&loop, nullptr) < 0) return 1;
    int status = mio_tcp_listen(loop, "127.0.0.1", port_of(argv[2]), nullptr, on_accept, nullptr, &listener);
    if (status < 0) {
        fprintf(stderr, "relay: cannot listen on port %s: %s\n", argv[2], mio_error_text(status));
        mio_loop_destroy(loop, 0);
        return 2;
    }
    if (mio_listener_local(listener, &addr) == 0) mio_addr_format(&addr, text, sizeof text);
    printf("listening on %s\n", text);
    fflush(stdout);
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    status = mio_loop_run(loop);
    return mio_loop_destroy(loop, MIO_SECOND) == 0 && status >= 0 ? 0 : 1;
}

// ------------------------------------------------------------------------------------------ the demonstration

static mio_listener_t *listeners[2];
static std::string said, heard;

static void on_echo_read(mio_stream_t *conn, int64_t n, mio_buf_t *buf, void *) {
    if (n == MIO_EOF) mio_stream_finish(conn, MIO_SECOND, nullptr, nullptr);
    else if (n < 0 || mio_stream_write(conn, buf, 1, nullptr, nullptr) < 0) mio_handle_close(conn, nullptr, nullptr);
}

static void on_echo_accept(mio_listener_t *, int status, mio_stream_t *conn, void *) {
    if (status == 0) mio_stream_read_start(conn, 0, on_echo_read, nullptr);
}

static void on_heard(mio_stream_t *conn, int64_t n, mio_buf_t *buf, void *) {
    if (n > 0) {
        heard.append(buf->base, buf->len);
        return;
    }
    mio_handle_close(conn, nullptr, nullptr);
    for (mio_listener_t *listener : listeners) mio_handle_close(listener, nullptr, nullptr);
}

static void on_ready(mio_stream_t *, int, void *) {}         // a failure ends the read as well

static int show_itself() {
    while (said.size() < 1 << 20) said += std::to_string(said.size()) + " ";
    mio_addr_t addr;
    mio_stream_t *conn;
    mio_buf_t buf = mio_buf_borrow(said.data(), said.size());
    if (mio_loop_create(&loop, nullptr) < 0) return 1;
    if (mio_tcp_listen(loop, "127.0.0.1", 0, nullptr, on_echo_accept, nullptr, &listeners[0]) < 0) return 1;
    if (mio_tcp_listen(loop, "127.0.0.1", 0, nullptr, on_accept, nullptr, &listeners[1]) < 0) return 1;
    if (mio_listener_local(listeners[0], &addr) < 0) return 1;
    host = "127.0.0.1";
    port = mio_addr_port(&addr);
    if (mio_listener_local(listeners[1], &addr) < 0) return 1;
    if (mio_tcp_connect(loop, &addr, nullptr, on_ready, nullptr, &conn) < 0) return 1;
    if (mio_stream_write(conn, &buf, 1, nullptr, nullptr) < 0) return 1;
    if (mio_stream_shutdown(conn, nullptr, nullptr) < 0) return 1;
    if (mio_stream_read_start(conn, MIO_READ_NO_AUTOPAUSE, on_heard, nullptr) < 0) return 1;
    mio_loop_run(loop);
    printf("%zu bytes there, %zu bytes back\n", said.size(), heard.size());
    return mio_loop_destroy(loop, MIO_SECOND) == 0 && heard == said ? 0 : 1;
}
