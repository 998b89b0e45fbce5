// Peers and bytes: connected pairs, the README's echo server, sockets of the kernel, the pattern, and the callbacks
// that only write down what they were told.
#include "harness.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

namespace api {

// --- pairs ----------------------------------------------------------------------------------------------------------

struct pairing {
    pair *streams;
};

static void pair_accepted(mio_listener_t *listener, int status, mio_stream_t *stream, void *arg) {
    if (status == MIO_ECANCELED) return; // the listener's end, after the pair was returned
    assert_is(status, 0);
    pair *streams = static_cast<pairing *>(arg)->streams;
    assert_is(mio_handle_keep(stream), 0);
    streams->server = stream;
    if (streams->client != nullptr) mio_loop_stop(mio_handle_loop(listener));
}

static void pair_connected(mio_stream_t *stream, int status, void *arg) {
    assert_is(status, 0);
    pair *streams = static_cast<pairing *>(arg)->streams;
    streams->client = stream;
    if (streams->server != nullptr) mio_loop_stop(mio_handle_loop(stream));
}

mio_listener_t *listen_on(mio_loop_t *loop, mio_listener_cb cb, void *arg, mio_addr_t *at) {
    mio_listener_t *listener = nullptr;
    assert_is(mio_tcp_listen(loop, "127.0.0.1", 0, nullptr, cb, arg, &listener), 0);
    ck_assert_ptr_nonnull(listener);
    if (at != nullptr) assert_is(mio_listener_local(listener, at), 0);
    return listener;
}

static pair pair_make(mio_loop_t *loop, bool narrow) {
    pair streams = {nullptr, nullptr};
    pairing both = {&streams};
    mio_addr_t at;
    mio_listener_t *listener = listen_on(loop, pair_accepted, &both, &at);
    int room = 8192;
    if (narrow && !on_sim())
        assert_is(setsockopt(mio_listener_fd(listener), SOL_SOCKET, SO_RCVBUF, &room, sizeof room), 0);
    mio_stream_t *client;
    ck_assert_int_gt(mio_tcp_connect(loop, &at, nullptr, pair_connected, &both, &client), 0);
    run_to_stop(loop);
    if (narrow && !on_sim()) {
        mio_stream_t *ends[] = {streams.client, streams.server};
        for (mio_stream_t *end : ends) {
            assert_is(setsockopt(mio_stream_fd(end), SOL_SOCKET, SO_SNDBUF, &room, sizeof room), 0);
            assert_is(setsockopt(mio_stream_fd(end), SOL_SOCKET, SO_RCVBUF, &room, sizeof room), 0);
        }
    }
    assert_is(mio_handle_close(listener, nullptr, nullptr), 0);
    return streams;
}

pair connect_pair(mio_loop_t *loop) { return pair_make(loop, false); }
pair connect_narrow_pair(mio_loop_t *loop) { return pair_make(loop, true); }

// --- the README's echo ----------------------------------------------------------------------------------------------

static void echo_closed(mio_handle_t *, void *arg) {
    if (!is_over()) static_cast<echo *>(arg)->closed++;
}

static void echo_written(mio_stream_t *conn, int status, int64_t, mio_buf_t *, unsigned, void *arg) {
    if (status < 0) mio_handle_close(conn, echo_closed, arg);
}

static void echo_read(mio_stream_t *conn, int64_t n, mio_buf_t *buf, void *arg) {
    if (n == MIO_EOF) mio_stream_finish(conn, 5 * MIO_SECOND, echo_closed, arg);
    else if (n < 0 || mio_stream_write(conn, buf, 1, echo_written, arg) < 0) mio_handle_close(conn, echo_closed, arg);
}

static void echo_accepted(mio_listener_t *, int status, mio_stream_t *conn, void *arg) {
    if (status != 0) return;
    static_cast<echo *>(arg)->accepted++;
    ck_assert_int_gt(mio_stream_read_start(conn, 0, echo_read, arg), 0);
}

void echo_open(mio_loop_t *loop, echo *server) {
    memset(server, 0, sizeof *server);
    server->listener = listen_on(loop, echo_accepted, server, &server->at);
}

// --- sockets of the kernel ------------------------------------------------------------------------------------------

int raw_connect(const mio_addr_t *at) {
    int fd = socket(at->u.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    assert_is(connect(fd, &at->u.any, at->len), 0);
    return fd;
}

int raw_listen(int backlog, mio_addr_t *at) {
    assert_is(mio_addr_parse("127.0.0.1", 0, at), 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    assert_is(bind(fd, &at->u.any, at->len), 0);
    assert_is(listen(fd, backlog), 0);
    assert_is(getsockname(fd, &at->u.any, &at->len), 0);
    return fd;
}

int raw_reset(int fd) {
    struct linger none = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    return close(fd);
}

refusing::refusing(mio_loop_t *loop) : fd(-1) {
    if (on_sim()) {
        mio_listener_t *listener = listen_on(loop, [](mio_listener_t *, int, mio_stream_t *, void *) {}, nullptr, &at);
        assert_is(mio_handle_close(listener, nullptr, nullptr), 0);
        run_for(loop, MIO_MILLISECOND);
        return;
    }
    assert_is(mio_addr_parse("127.0.0.1", 0, &at), 0);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    assert_is(bind(fd, &at.u.any, at.len), 0);
    assert_is(getsockname(fd, &at.u.any, &at.len), 0);
}

refusing::~refusing() {
    if (fd >= 0) close(fd);
}

// --- bytes ----------------------------------------------------------------------------------------------------------

// The byte at offset is offset * 131 + (offset >> 8) * 7 + (offset >> 16) * 3. Of 256 that begin at a multiple of 256 it
// is the multiples of 131 in their order, from another one each time: copied and compared in runs, which sanitizers
// look at as a whole.
struct multiples {
    unsigned char of_131[512];
    constexpr multiples() : of_131() {
        for (unsigned i = 0; i < 512; i++) of_131[i] = static_cast<unsigned char>(i * 131);
    }
};
static constexpr multiples multiples_of;

static const unsigned char *pattern_at(uint64_t offset, size_t *run) {
    constexpr uint64_t INVERSE = 43; // 43 * 131 is 1 modulo 256
    *run = 256 - (offset & 255);
    return multiples_of.of_131 + ((offset + ((offset >> 8) * 7 + (offset >> 16) * 3) * INVERSE) & 255);
}

void pattern_fill(void *to, size_t n, uint64_t offset) {
    unsigned char *bytes = static_cast<unsigned char *>(to);
    for (size_t i = 0, run; i < n; i += run) {
        const unsigned char *from = pattern_at(offset + i, &run);
        if (run > n - i) run = n - i;
        memcpy(bytes + i, from, run);
    }
}

bool pattern_is(const void *at, size_t n, uint64_t offset) {
    const unsigned char *bytes = static_cast<const unsigned char *>(at);
    for (size_t i = 0, run; i < n; i += run) {
        const unsigned char *expected = pattern_at(offset + i, &run);
        if (run > n - i) run = n - i;
        if (memcmp(bytes + i, expected, run) != 0) return false;
    }
    return true;
}

mio_buf_t pattern_buf(mio_loop_t *loop, size_t n, uint64_t offset) {
    mio_buf_t buf = {};
    assert_is(mio_buf_alloc(loop, n, &buf), 0);
    ck_assert_uint_ge(buf.cap, n);
    pattern_fill(buf.base, n, offset);
    buf.len = n;
    return buf;
}

mio_buf_t text_buf(mio_loop_t *loop, const char *text) {
    mio_buf_t buf = {};
    assert_is(mio_buf_alloc(loop, strlen(text) + 1, &buf), 0);
    memcpy(buf.base, text, strlen(text));
    buf.len = strlen(text);
    return buf;
}

const char *text_of(const mio_buf_t *buf) {
    static char copies[4][256];
    static unsigned turn;
    char *copy = copies[turn++ % 4];
    const size_t n = buf->len < 255 ? buf->len : 255;
    if (n > 0) memcpy(copy, buf->base, n);
    copy[n] = 0;
    return copy;
}

// --- callbacks ------------------------------------------------------------------------------------------------------

void read_into(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg) {
    if (is_over()) return;
    inbox *in = static_cast<inbox *>(arg);
    in->calls++;
    ck_assert_int_ne(n, 0);
    ck_assert_int_eq(in->ends, 0); // nothing comes after the last call
    if (n < 0) {
        assert_is(buf->len, 0);
        in->ends++;
        in->end = n;
        if (in->close_at_end) mio_handle_close(stream, nullptr, nullptr);
        if (in->stop_at_end) mio_loop_stop(mio_handle_loop(stream));
        return;
    }
    ck_assert_int_eq(n, static_cast<int64_t>(buf->len));
    if (!in->is_text && !pattern_is(buf->base, buf->len, in->received)) in->wrong = true;
    for (size_t i = 0; i < buf->len && in->received + i < sizeof in->text - 1; i++) in->text[in->received + i] = buf->base[i];
    in->received += static_cast<uint64_t>(n);
    if (in->stop_at > 0 && in->received >= in->stop_at) mio_loop_stop(mio_handle_loop(stream));
}

static void outcome_text(outcome *told, const mio_buf_t *buf) {
    told->len = buf->len;
    snprintf(told->text, sizeof told->text, "%s", text_of(buf));
}

void write_told(mio_stream_t *stream, int status, int64_t sent, mio_buf_t *bufs, unsigned n, void *arg) {
    if (is_over()) return;
    outcome *told = static_cast<outcome *>(arg);
    told->calls++;
    told->status = status;
    told->sent = sent;
    ck_assert_uint_ge(n, 1);
    outcome_text(told, &bufs[0]);
    if (told->stop) mio_loop_stop(mio_handle_loop(stream));
}

void read_told(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg) {
    if (is_over()) return;
    outcome *told = static_cast<outcome *>(arg);
    told->calls++;
    told->status = n;
    ck_assert_int_ne(n, 0);
    outcome_text(told, buf);
    if (told->stop) mio_loop_stop(mio_handle_loop(stream));
}

void stream_told(mio_stream_t *stream, int status, void *arg) {
    if (is_over()) return;
    outcome *told = static_cast<outcome *>(arg);
    told->calls++;
    told->status = status;
    if (told->stop) mio_loop_stop(mio_handle_loop(stream));
}

void close_told(mio_handle_t *handle, void *arg) {
    if (is_over()) return;
    outcome *told = static_cast<outcome *>(arg);
    told->calls++;
    if (told->stop) mio_loop_stop(mio_handle_loop(handle));
}

void diary_add(diary *d, const char *what) {
    const size_t used = strlen(d->text);
    snprintf(d->text + used, sizeof d->text - used, "%s", what);
}

// --- time -----------------------------------------------------------------------------------------------------------

static int64_t read_clock(clockid_t which) {
    struct timespec now;
    clock_gettime(which, &now);
    return now.tv_sec * MIO_SECOND + now.tv_nsec;
}

int64_t cpu_ns() { return read_clock(CLOCK_PROCESS_CPUTIME_ID); }
int64_t clock_ns() { return read_clock(CLOCK_MONOTONIC); }

void busy_ns(int64_t duration_ns) {
    const int64_t until = clock_ns() + duration_ns;
    while (clock_ns() < until) {
    }
}

void sleep_ns(int64_t duration_ns) {
    struct timespec nap = {static_cast<time_t>(duration_ns / MIO_SECOND), static_cast<long>(duration_ns % MIO_SECOND)};
    while (nanosleep(&nap, &nap) != 0) {
    }
}

int64_t patience(int64_t duration_ns) {
    const char *factor = getenv("CK_TIMEOUT_MULTIPLIER");
    const double by = factor == nullptr ? 1 : strtod(factor, nullptr);
    return by > 1 ? static_cast<int64_t>(static_cast<double>(duration_ns) * by) : duration_ns;
}

bool sanitized() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    return true;
#else
    return false;
#endif
#else
    return false;
#endif
}

// The library says so nowhere; the build does (tests and library get the same definitions).
bool debug_build() {
#ifdef MIO_DEBUG
    return true;
#else
    return false;
#endif
}

bool guard_build() {
#ifdef MIO_GUARD
    return true;
#else
    return false;
#endif
}

int child_status(pid_t child) {
    int status = 0;
    assert_is(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

}
