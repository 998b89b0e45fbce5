// A million echoes, counted exactly. Once warm, a loop that echoes calls no allocator, maps and unmaps nothing, and
// changes nothing in the kernel's watch list: not rarely, never. The callbacks are the README's. The clients are plain
// descriptors, whose calls do not go through the table that counts.
#include "support/cmocka.h"

#include "core/loop.h"
#include "support/failing.h"

#include <mio.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace mio;
using test::call;

// Sanitizers make each echo many times dearer and find nothing more in the millionth.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifdef SANITIZED
static constexpr unsigned MILLION = 50000;
#else
static constexpr unsigned MILLION = 1000000;
#endif
static constexpr unsigned WARM_UP = mio::GUARD ? 6000 : 2000; // a quarantine is to be filled
static constexpr unsigned CLIENTS = 32;
static constexpr size_t SIZE = 100;

// --- the server -----------------------------------------------------------------------------------------------------

static uint64_t written_bytes;
static unsigned written_calls;

static void on_written(mio_stream_t *conn, int status, int64_t sent, mio_buf_t *, unsigned, void *) {
    written_bytes += static_cast<uint64_t>(sent);
    written_calls++;
    if (status < 0) mio_handle_close(conn, nullptr, nullptr);
}

static void on_read(mio_stream_t *conn, int64_t n, mio_buf_t *buf, void *) {
    if (n == MIO_EOF) mio_stream_finish(conn, 5 * MIO_SECOND, nullptr, nullptr);
    else if (n < 0 || mio_stream_write(conn, buf, 1, on_written, nullptr) < 0)
        mio_handle_close(conn, nullptr, nullptr);
}

struct counted {
    uint64_t calls;
    int64_t blocks;
};

static void *counted_alloc(void *user, size_t size) {
    auto *c = static_cast<counted *>(user);
    c->calls++;
    c->blocks++;
    return malloc(size);
}

static void *counted_resize(void *user, void *ptr, size_t, size_t new_size) {
    auto *c = static_cast<counted *>(user);
    c->calls++;
    if (ptr == nullptr) c->blocks++;
    return realloc(ptr, new_size);
}

static void counted_release(void *user, void *ptr, size_t) {
    auto *c = static_cast<counted *>(user);
    c->calls++;
    if (ptr != nullptr) c->blocks--;
    free(ptr);
}

// --- the clients ----------------------------------------------------------------------------------------------------

static void pair_unix(int pair[2]) {
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
}

static void pair_tcp(int pair[2]) {
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(listener >= 0);
    struct sockaddr_in at = {};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t len = sizeof at;
    auto *addr = reinterpret_cast<struct sockaddr *>(&at);
    assert_int_equal(bind(listener, addr, len), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, addr, &len), 0);
    pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(pair[0] >= 0);
    assert_int_equal(connect(pair[0], addr, len), 0);
    pair[1] = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    assert_true(pair[1] >= 0);
    const int on = 1;
    for (int i = 0; i < 2; i++) assert_int_equal(setsockopt(pair[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), 0);
    close(listener);
}

static void drain(int fd) {
    char answer[SIZE];
    size_t got = 0;
    while (got < SIZE) {
        const ssize_t n = recv(fd, answer + got, SIZE - got, 0);
        assert_true(n > 0);
        got += static_cast<size_t>(n);
    }
}

// One message through each connection.
static void echo_pass(mio_loop_t *loop, const int *clients, const char *message) {
    const uint64_t until = written_bytes + CLIENTS * SIZE;
    for (unsigned i = 0; i < CLIENTS; i++)
        assert_int_equal(send(clients[i], message, SIZE, MSG_NOSIGNAL), static_cast<int>(SIZE));
    while (written_bytes < until) assert_int_equal(mio_loop_run_once(loop, MIO_FOREVER), MIO_ALIVE);
    for (unsigned i = 0; i < CLIENTS; i++) drain(clients[i]);
}

// --- the count ------------------------------------------------------------------------------------------------------

static uint64_t metric_allocations(mio_loop_t *loop) {
    mio_loop_metrics_t metrics = MIO_LOOP_METRICS_INIT;
    assert_int_equal(mio_loop_metrics(loop, &metrics), 0);
    return metrics.allocations;
}

static void echoes_are_counted(void (*pair_make)(int *), bool own_allocator) {
    const sys *calls = test::failing_open(&sys_real);
    counted memory = {0, 0};
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.backend = MIO_BACKEND_EPOLL;
    if (own_allocator) options.allocator = {counted_alloc, counted_resize, counted_release, &memory};
    loop *l;
    assert_int_equal(loop_create(&l, &options, calls), 0);
    mio_loop_t *public_loop = loop_public(l);
    int clients[CLIENTS];
    for (unsigned i = 0; i < CLIENTS; i++) {
        int pair[2];
        pair_make(pair);
        clients[i] = pair[0];
        mio_stream_t *conn;
        assert_int_equal(mio_stream_adopt(public_loop, pair[1], nullptr, 0, &conn), 0);
        assert_true(mio_stream_read_start(conn, 0, on_read, nullptr) > 0);
    }
    char message[SIZE];
    memset(message, 'm', sizeof message);
    for (unsigned done = 0; done < WARM_UP; done += CLIENTS) echo_pass(public_loop, clients, message);

    test::failing_forget();
    const uint64_t allocator_calls = memory.calls;
    const uint64_t allocations = metric_allocations(public_loop);
    written_calls = 0;
    for (unsigned done = 0; done < MILLION; done += CLIENTS) echo_pass(public_loop, clients, message);
    assert_true(written_calls >= MILLION);

    // Of the program's allocator, of the table's, and as the loop itself counts.
    assert_int_equal(memory.calls, allocator_calls);
    assert_int_equal(test::failing_count_allocations(), 0);
    assert_int_equal(test::failing_count(call::release), 0);
    assert_int_equal(metric_allocations(public_loop), allocations);
    assert_int_equal(test::failing_count(call::map), 0);
    assert_int_equal(test::failing_count(call::unmap), 0);
    assert_int_equal(test::failing_count(call::epoll_ctl), 0);
    // What is left is one send for each message, about one receive (a late report of what was read already costs one
    // more), and waits.
    const uint64_t received = test::failing_count(call::recv) + test::failing_count(call::recvmsg);
    const uint64_t sent = test::failing_count(call::send) + test::failing_count(call::sendmsg);
    assert_true(received >= written_calls && received <= written_calls + written_calls / 100);
    assert_int_equal(sent, written_calls);
    assert_int_equal(test::failing_count_all(), received + sent + test::failing_count(call::epoll_wait_ns));

    for (unsigned i = 0; i < CLIENTS; i++) close(clients[i]);
    assert_int_equal(mio_loop_run(public_loop), 0);
    assert_int_equal(mio_loop_destroy(public_loop, MIO_FOREVER), 0);
    assert_int_equal(memory.blocks, 0);
    assert_int_equal(test::failing_close(), 0);
}

static void test_a_million_echoes_over_tcp(void **) { echoes_are_counted(pair_tcp, true); }

static void test_a_million_echoes_over_unix_sockets(void **) { echoes_are_counted(pair_unix, false); }

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_million_echoes_over_tcp),
        cmocka_unit_test(test_a_million_echoes_over_unix_sockets),
    };
    return cmocka_run_group_tests_name("echo_calls", tests, nullptr, nullptr);
}
