// Loops that count their memory, the README's echo server, and clients that compare every byte.
#include "kernel.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

namespace kernel {

// --- loops ----------------------------------------------------------------------------------------------------------

static int64_t allocations_live;
static char log_text[4096];

static void *counted_alloc(void *, size_t size) {
    void *at = malloc(size);
    if (at != nullptr) allocations_live++;
    return at;
}
static void *counted_resize(void *, void *ptr, size_t, size_t new_size) { return realloc(ptr, new_size); }
static void counted_release(void *, void *ptr, size_t) {
    if (ptr != nullptr) allocations_live--;
    free(ptr);
}

static void log_keep(mio_loop_t *, enum mio_log_level, const char *text, void *) {
    const size_t used = strlen(log_text);
    snprintf(log_text + used, sizeof log_text - used, "%s\n", text);
}
bool log_said(const char *part) { return strstr(log_text, part) != nullptr; }

int loop_create_with(mio_loop_t **out, mio_loop_options_t *options) {
    options->allocator = {counted_alloc, counted_resize, counted_release, nullptr};
    options->log = log_keep;
    const int64_t before = allocations_live;
    const int error = mio_loop_create(out, options);
    if (error < 0) REQUIRE_IS(allocations_live, before); // it leaves nothing behind
    return error;
}

int loop_create(mio_loop_t **out, enum mio_backend backend) {
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.backend = backend;
    return loop_create_with(out, &options);
}

void loop_destroy(mio_loop_t *loop) {
    REQUIRE_IS(mio_loop_destroy(loop, MIO_SECOND), 0);
    REQUIRE_IS(allocations_live, 0);
}

// --- the README's echo ----------------------------------------------------------------------------------------------

static void on_written(mio_stream_t *conn, int status, int64_t, mio_buf_t *, unsigned, void *) {
    if (status < 0) mio_handle_close(conn, nullptr, nullptr);
}

static void on_read(mio_stream_t *conn, int64_t n, mio_buf_t *buf, void *) {
    if (n == MIO_EOF) mio_stream_finish(conn, 5 * MIO_SECOND, nullptr, nullptr);
    else if (n < 0 || mio_stream_write(conn, buf, 1, on_written, nullptr) < 0) mio_handle_close(conn, nullptr, nullptr);
}

void on_echo_accept(mio_listener_t *, int status, mio_stream_t *conn, void *) {
    if (status == 0) mio_stream_read_start(conn, 0, on_read, nullptr);
}

mio_listener_t *echo_listen(mio_loop_t *loop, mio_addr_t *at) {
    mio_listener_t *listener = nullptr;
    REQUIRE_IS(mio_tcp_listen(loop, "127.0.0.1", 0, nullptr, on_echo_accept, nullptr, &listener), 0);
    REQUIRE_IS(mio_listener_local(listener, at), 0);
    return listener;
}

// --- its clients ----------------------------------------------------------------------------------------------------

struct client {
    mio_stream_t *stream;
    uint64_t sent, received;
    unsigned rounds_left;
    size_t bytes;
    unsigned *busy; // of all clients, how many still have something to do
};

static void client_send(client *c) {
    mio_buf_t buf = {};
    REQUIRE_IS(mio_buf_alloc(mio_handle_loop(c->stream), c->bytes, &buf), 0);
    pattern_fill(buf.base, c->bytes, c->sent);
    buf.len = c->bytes;
    c->sent += c->bytes;
    REQUIRE(mio_stream_write(c->stream, &buf, 1, nullptr, nullptr) > 0);
}

static void on_client_read(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg) {
    client *c = static_cast<client *>(arg);
    if (n < 0) {
        REQUIRE_IS(n, MIO_ECANCELED); // our own close
        return;
    }
    REQUIRE(pattern_is(buf->base, buf->len, c->received));
    c->received += buf->len;
    REQUIRE(c->received <= c->sent);
    if (c->received < c->sent) return;
    if (--c->rounds_left > 0) {
        client_send(c);
        return;
    }
    REQUIRE_IS(mio_handle_close(stream, nullptr, nullptr), 0);
    if (--*c->busy == 0) mio_loop_stop(mio_handle_loop(stream));
}

static void on_client_connect(mio_stream_t *stream, int status, void *arg) {
    client *c = static_cast<client *>(arg);
    REQUIRE_IS(status, 0);
    REQUIRE(mio_stream_read_start(stream, 0, on_client_read, c) > 0);
    client_send(c);
}

void echo_run_until(mio_loop_t *loop, echo_size size, int passing_error) {
    client *clients = static_cast<client *>(calloc(size.clients, sizeof(client)));
    unsigned busy = size.clients;
    mio_addr_t at;
    mio_listener_t *listener = echo_listen(loop, &at);
    for (unsigned i = 0; i < size.clients; i++) {
        client *c = &clients[i];
        c->rounds_left = size.rounds;
        c->bytes = size.bytes;
        c->sent = c->received = i * 1000;
        c->busy = &busy;
        REQUIRE(mio_tcp_connect(loop, &at, nullptr, on_client_connect, c, &c->stream) > 0);
    }
    int result;
    do result = mio_loop_run(loop);
    while (result == passing_error && result < 0);
    REQUIRE_IS(result, MIO_STOPPED);
    REQUIRE_IS(mio_handle_close(listener, nullptr, nullptr), 0);
    do result = mio_loop_run(loop);
    while (result == passing_error && result < 0);
    REQUIRE_IS(result, 0);
    free(clients);
}

void echo_run(mio_loop_t *loop, echo_size size) { echo_run_until(loop, size, 0); }

// --- clients of the kernel's ----------------------------------------------------------------------------------------

int raw_connect_if(const mio_addr_t *at) {
    const int fd = socket(at->u.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(fd >= 0);
    const struct timeval patience = {5, 0};
    REQUIRE_IS(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    REQUIRE_IS(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience), 0);
    // Rings whose completions the kernel works off when it likes interrupt their thread's own calls, and so does the
    // end of any ring; a connect that was interrupted goes on by itself.
    if (connect(fd, &at->u.any, at->len) != 0) {
        if (errno == ECONNREFUSED || errno == ECONNRESET) {
            close(fd);
            return -1;
        }
        if (errno != EINTR) failed(__FILE__, __LINE__, "connect: %s", strerror(errno));
        struct pollfd connected = {fd, POLLOUT, 0};
        int result, error = 0;
        socklen_t len = sizeof error;
        do result = poll(&connected, 1, 5000);
        while (result < 0 && errno == EINTR);
        REQUIRE_IS(result, 1);
        REQUIRE_IS(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len), 0);
        if (error == ECONNREFUSED || error == ECONNRESET) {
            close(fd);
            return -1;
        }
        REQUIRE_IS(error, 0);
    }
    return fd;
}

int raw_connect(const mio_addr_t *at) {
    const int fd = raw_connect_if(at);
    REQUIRE(fd >= 0);
    return fd;
}

void raw_echo(int fd, unsigned round, size_t n) {
    char *sent = static_cast<char *>(malloc(2 * n)), *back = sent + n;
    pattern_fill(sent, n, round * 7919);
    REQUIRE_IS(send(fd, sent, n, MSG_NOSIGNAL), n);
    REQUIRE_IS(recv(fd, back, n, MSG_WAITALL), n);
    REQUIRE(memcmp(sent, back, n) == 0);
    free(sent);
}

// --- bytes ----------------------------------------------------------------------------------------------------------

static char pattern_at(uint64_t offset) {
    return static_cast<char>(offset * 131 + (offset >> 8) * 7 + (offset >> 16) * 3);
}

void pattern_fill(char *to, size_t n, uint64_t offset) {
    for (size_t i = 0; i < n; i++) to[i] = pattern_at(offset + i);
}

bool pattern_is(const char *at, size_t n, uint64_t offset) {
    for (size_t i = 0; i < n; i++)
        if (at[i] != pattern_at(offset + i)) return false;
    return true;
}

}
