// TCP: connecting and its ends, the options of connects and sockets.
#include "hole.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

using namespace api;

static void connect_never(mio_stream_t *, int, void *) { ck_abort_msg("a connect that was refused called back"); }
static void accept_keep(mio_listener_t *, int status, mio_stream_t *stream, void *) {
    if (status == 0) mio_handle_keep(stream);
}

TEST(connect_answers_each_mistake) {
    mio_loop_t *loop = loop_open();
    mio_addr_t at, family;
    mio_stream_t *out = nullptr;
    assert_is(mio_addr_parse("127.0.0.1", 9, &at), 0);
    assert_is(mio_tcp_connect(nullptr, &at, nullptr, connect_never, nullptr, &out), MIO_EINVAL);
    assert_is(mio_tcp_connect(loop, nullptr, nullptr, connect_never, nullptr, &out), MIO_EINVAL);
    assert_is(mio_tcp_connect(loop, &at, nullptr, nullptr, nullptr, &out), MIO_EINVAL);
    assert_is(mio_tcp_connect(loop, &at, nullptr, connect_never, nullptr, nullptr), MIO_EINVAL);
    memset(&family, 0, sizeof family);
    assert_is(mio_tcp_connect(loop, &family, nullptr, connect_never, nullptr, &out), MIO_EINVAL);
    family = at;
    family.len = 1;
    assert_is(mio_tcp_connect(loop, &family, nullptr, connect_never, nullptr, &out), MIO_EINVAL);
    family.len = sizeof family.u + 1;
    assert_is(mio_tcp_connect(loop, &family, nullptr, connect_never, nullptr, &out), MIO_EINVAL);
    ck_assert_ptr_null(out);
    run_to_end(loop);
}

TEST(connect_reads_options_of_any_size) {
    mio_loop_t *loop = loop_open();
    mio_addr_t at;
    listen_on(loop, accept_keep, nullptr, &at);
    struct { mio_connect_options_t known; char tail[16]; } longer;
    memset(&longer, 0, sizeof longer);
    longer.known.size = sizeof longer;
    outcome told = {};
    told.stop = true;
    mio_stream_t *out = nullptr;
    ck_assert_int_gt(mio_tcp_connect(loop, &at, &longer.known, stream_told, &told, &out), 0);
    run_to_stop(loop);
    assert_is(told.status, 0);
    mio_handle_abandon(out);
    out = nullptr;
    longer.tail[15] = 1;
    assert_is(mio_tcp_connect(loop, &at, &longer.known, connect_never, nullptr, &out), MIO_E2BIG);
    longer.known.size = 3;
    assert_is(mio_tcp_connect(loop, &at, &longer.known, connect_never, nullptr, &out), MIO_EINVAL);
    ck_assert_ptr_null(out);
    longer.known.size = sizeof(size_t);
    longer.known.mark = 0xffffffff; // behind its size: not looked at
    ck_assert_int_gt(mio_tcp_connect(loop, &at, &longer.known, stream_told, &told, &out), 0);
    run_to_stop(loop);
    assert_is(told.status, 0);
}

TEST(a_refused_connect_says_so_and_the_stream_is_the_programs_to_close) {
    mio_loop_t *loop = loop_open();
    const refusing nobody(loop);
    const mio_addr_t at = nobody.at;
    outcome told = {}, written = {}, read = {}, shut = {}, closed = {};
    mio_stream_t *stream = nullptr;
    ck_assert_int_gt(mio_tcp_connect(loop, &at, nullptr, stream_told, &told, &stream), 0);
    mio_buf_t bytes = pattern_buf(loop, 100, 0), room = {};
    assert_is(mio_buf_alloc(loop, 10, &room), 0);
    ck_assert_int_gt(mio_stream_write(stream, &bytes, 1, write_told, &written), 0); // they wait, and end with its error
    ck_assert_int_gt(mio_stream_read(stream, &room, read_told, &read), 0);
    ck_assert_int_gt(mio_stream_shutdown(stream, stream_told, &shut), 0);
    run_to_end(loop);
    assert_is(told.calls, 1);
    assert_is(told.status, MIO_ECONNREFUSED);
    assert_is(written.status, MIO_ECONNREFUSED);
    assert_is(written.sent, 0);
    assert_is(written.len, 100);
    assert_is(read.status, MIO_ECONNREFUSED);
    assert_is(shut.status, MIO_ECONNREFUSED);
    assert_is(mio_handle_is_closing(stream), 0);
    assert_is(mio_handle_close(stream, close_told, &closed), 0);
    run_to_end(loop);
    assert_is(closed.calls, 1);
}

TEST(what_is_started_before_the_connection_stands_waits_for_it) {
    mio_loop_t *loop = loop_open();
    echo server;
    echo_open(loop, &server);
    inbox in = {};
    outcome told = {}, written = {};
    mio_stream_t *stream;
    ck_assert_int_gt(mio_tcp_connect(loop, &server.at, nullptr, stream_told, &told, &stream), 0);
    ck_assert_int_gt(mio_stream_read_start(stream, 0, read_into, &in), 0);
    mio_buf_t bytes = pattern_buf(loop, 5000, 0);
    ck_assert_int_gt(mio_stream_write(stream, &bytes, 1, write_told, &written), 0);
    ck_assert_int_gt(mio_stream_shutdown(stream, nullptr, nullptr), 0);
    const int64_t tried = mio_stream_try_write(stream, "x", 1);
    ck_assert(tried == MIO_EAGAIN || tried == MIO_EPIPE);
    in.stop_at_end = true;
    run_to_stop(loop);
    assert_is(told.status, 0);
    assert_is(written.status, 0);
    assert_is(in.received, 5000);
    assert_is(in.end, MIO_EOF);
    ck_assert(!in.wrong);
}

TEST(a_connect_into_the_void_ends_at_its_deadline_by_cancel_by_close_and_by_abandon) {
    mio_loop_t *loop = loop_open();
    hole black;
    hole_open(loop, &black);
    mio_stream_t *stream;
    outcome told = {};
    told.stop = true;
    const int64_t begun = mio_loop_now_ns(loop);
    mio_req_t id = mio_tcp_connect(loop, &black.at, nullptr, stream_told, &told, &stream);
    ck_assert_int_gt(id, 0);
    assert_is(mio_req_timeout(loop, id, 50 * MIO_MILLISECOND), 0);
    run_to_stop(loop);
    assert_is(told.status, MIO_ETIMEDOUT);
    ck_assert_int_ge(mio_loop_now_ns(loop) - begun, 50 * MIO_MILLISECOND);
    assert_is(mio_handle_close(stream, nullptr, nullptr), 0);

    told = {};
    told.stop = true;
    id = mio_tcp_connect(loop, &black.at, nullptr, stream_told, &told, &stream);
    run_for(loop, MIO_MILLISECOND);
    assert_is(told.calls, 0);
    assert_is(mio_req_cancel(loop, id), 0);
    run_to_stop(loop);
    assert_is(told.status, MIO_ECANCELED);
    assert_is(mio_handle_close(stream, nullptr, nullptr), 0);

    outcome closed = {};
    told = {};
    ck_assert_int_gt(mio_tcp_connect(loop, &black.at, nullptr, stream_told, &told, &stream), 0);
    run_for(loop, MIO_MILLISECOND);
    assert_is(mio_handle_close(stream, close_told, &closed), 0);
    run_to_end(loop);
    assert_is(told.status, MIO_ECANCELED);
    assert_is(closed.calls, 1);

    told = {};
    ck_assert_int_gt(mio_tcp_connect(loop, &black.at, nullptr, stream_told, &told, &stream), 0);
    run_for(loop, MIO_MILLISECOND);
    mio_handle_abandon(stream);
    run_to_end(loop);
    assert_is(told.calls, 0);
    hole_close(&black);
}

TEST(a_connect_that_the_kernel_gives_up_is_told_etimedout_and_ends_what_waits) {
    KERNEL_ONLY("a simulated one gives up after 127 seconds, which test_sim_fault.cc shows");
    mio_loop_t *loop = loop_open();
    hole black;
    hole_open(loop, &black);
    mio_stream_t *stream;
    outcome told = {}, written = {}, read = {};
    ck_assert_int_gt(mio_tcp_connect(loop, &black.at, nullptr, stream_told, &told, &stream), 0);
    mio_buf_t bytes = pattern_buf(loop, 100, 0), room = {};
    assert_is(mio_buf_alloc(loop, 10, &room), 0);
    ck_assert_int_gt(mio_stream_write(stream, &bytes, 1, write_told, &written), 0);
    ck_assert_int_gt(mio_stream_read(stream, &room, read_told, &read), 0);
    run_for(loop, MIO_MILLISECOND);
    const unsigned patience_ms = 100; // instead of two minutes; it gives up when it would have tried again, after a second
    assert_is(setsockopt(mio_stream_fd(stream), IPPROTO_TCP, TCP_USER_TIMEOUT, &patience_ms, sizeof patience_ms), 0);
    run_to_end(loop);
    assert_is(told.calls, 1);
    assert_is(told.status, MIO_ETIMEDOUT);
    assert_is(written.status, MIO_ETIMEDOUT);
    assert_is(written.sent, 0);
    assert_is(written.len, 100);
    assert_is(read.status, MIO_ETIMEDOUT);
    mio_handle_abandon(stream);
    hole_close(&black);
}

TEST(a_connect_cancelled_in_any_turn_is_told_once) {
    mio_loop_t *loop = loop_open();
    echo server;
    echo_open(loop, &server);
    for (int turns = 0; turns < 6; turns++) {
        mio_stream_t *stream;
        outcome told = {};
        const mio_req_t id = mio_tcp_connect(loop, &server.at, nullptr, stream_told, &told, &stream);
        for (int i = 0; i < turns; i++) assert_ok(mio_loop_run_once(loop, 0));
        const int answer = mio_req_cancel(loop, id);
        if (told.calls) assert_is(answer, MIO_ENOENT);
        else ck_assert(answer == 0 || answer == MIO_EALREADY);
        run_for(loop, 2 * MIO_MILLISECOND);
        assert_is(told.calls, 1);
        ck_assert(told.status == 0 || told.status == MIO_ECANCELED);
        mio_handle_abandon(stream);
    }
}

TEST(a_connect_binds_where_it_is_told) {
    mio_loop_t *loop = loop_open();
    mio_addr_t at, from, seen;
    listen_on(loop, accept_keep, nullptr, &at);
    assert_is(mio_addr_parse("127.0.0.1", 0, &from), 0);
    mio_connect_options_t options = MIO_CONNECT_OPTIONS_INIT;
    options.bind = &from;
    options.reuse_addr = 1;
    outcome told = {};
    told.stop = true;
    mio_stream_t *stream;
    ck_assert_int_gt(mio_tcp_connect(loop, &at, &options, stream_told, &told, &stream), 0);
    run_to_stop(loop);
    assert_is(told.status, 0);
    assert_is(mio_stream_local(stream, &seen), 0);
    ck_assert_int_gt(mio_addr_port(&seen), 0);
    assert_is(mio_stream_peer(stream, &seen), 0);
    assert_is(mio_addr_port(&seen), mio_addr_port(&at));

    mio_connect_options_t taken = MIO_CONNECT_OPTIONS_INIT; // the listener's own port: told by callback
    taken.bind = &at;
    told = {};
    told.stop = true;
    mio_stream_t *second;
    ck_assert_int_gt(mio_tcp_connect(loop, &at, &taken, stream_told, &told, &second), 0);
    run_to_stop(loop);
    assert_is(told.status, MIO_EADDRINUSE);
}

TEST(socket_options_reach_the_socket) {
    KERNEL_ONLY("asks the kernel");
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    int value = 0;
    socklen_t size = sizeof value;
    mio_stream_t *const ends[] = {streams.client, streams.server};
    for (mio_stream_t *end : ends) {
        const int fd = mio_stream_fd(end);
        assert_is(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &size), 0);
        ck_assert_int_ne(value, 0); // on from the start
        assert_is(mio_tcp_nodelay(end, 0), 0);
        assert_is(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &size), 0);
        assert_is(value, 0);
        assert_is(mio_tcp_nodelay(end, 1), 0);
        assert_is(mio_tcp_keepalive(end, 33, 7, 4), 0);
        assert_is(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, &size), 0);
        assert_is(value, 1);
        assert_is(getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &value, &size), 0);
        assert_is(value, 33);
        assert_is(getsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &value, &size), 0);
        assert_is(value, 7);
        assert_is(getsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &value, &size), 0);
        assert_is(value, 4);
        assert_is(mio_tcp_keepalive(end, 0, 0, 0), 0);
        assert_is(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, &size), 0);
        assert_is(value, 0);
        struct linger how = {};
        socklen_t how_size = sizeof how;
        assert_is(mio_tcp_linger(end, 5), 0);
        assert_is(getsockopt(fd, SOL_SOCKET, SO_LINGER, &how, &how_size), 0);
        ck_assert(how.l_onoff != 0 && how.l_linger == 5);
        assert_is(mio_tcp_linger(end, -1), 0);
        assert_is(getsockopt(fd, SOL_SOCKET, SO_LINGER, &how, &how_size), 0);
        assert_is(how.l_onoff, 0);
        assert_is(mio_tcp_quickack(end, 1), 0);
        ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    }
}

TEST(socket_options_survive_null_and_every_backend) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    mio_addr_t at;
    assert_is(mio_tcp_nodelay(nullptr, 1), MIO_EINVAL);
    assert_is(mio_tcp_keepalive(nullptr, 1, 1, 1), MIO_EINVAL);
    assert_is(mio_tcp_linger(nullptr, 0), MIO_EINVAL);
    assert_is(mio_tcp_quickack(nullptr, 0), MIO_EINVAL);
    assert_is(mio_stream_local(nullptr, &at), MIO_EINVAL);
    assert_is(mio_stream_peer(nullptr, &at), MIO_EINVAL);
    assert_is(mio_stream_local(streams.client, nullptr), MIO_EINVAL);
    assert_is(mio_stream_peer(streams.client, nullptr), MIO_EINVAL);
    assert_is(mio_stream_fd(nullptr), MIO_EINVAL);
    assert_is(mio_tcp_nodelay(streams.client, 1), 0);
    assert_is(mio_tcp_keepalive(streams.client, 10, 10, 3), 0);
    assert_is(mio_tcp_linger(streams.client, -1), 0);
    assert_is(mio_tcp_quickack(streams.client, 1), 0);
    mio_addr_t peer;
    assert_is(mio_stream_local(streams.client, &at), 0);
    assert_is(mio_stream_peer(streams.server, &peer), 0);
    assert_is(mio_addr_port(&at), mio_addr_port(&peer));
    if (on_sim()) ck_assert_int_ge(mio_stream_fd(streams.client), 1 << 30);
}

TEST(ipv6_works_where_the_machine_has_it) {
    mio_loop_t *loop = loop_open();
    mio_listener_t *listener = nullptr;
    const int listening = mio_tcp_listen(loop, "[::1]", 0, nullptr, accept_keep, nullptr, &listener);
    if (listening == MIO_EADDRNOTAVAIL || listening == MIO_EAFNOSUPPORT) SKIP("no IPv6 on this machine");
    assert_is(listening, 0);
    mio_addr_t at;
    assert_is(mio_listener_local(listener, &at), 0);
    outcome told = {};
    told.stop = true;
    mio_stream_t *stream;
    ck_assert_int_gt(mio_tcp_connect(loop, &at, nullptr, stream_told, &told, &stream), 0);
    run_to_stop(loop);
    assert_is(told.status, 0);
    char text[MIO_ADDR_TEXT_MAX];
    assert_is(mio_stream_peer(stream, &at), 0);
    assert_ok(mio_addr_format(&at, text, sizeof text));
    ck_assert_int_eq(strncmp(text, "[::1]:", 6), 0);
}

static volatile sig_atomic_t alarms;

static void storm_set(long period_us) {
    struct itimerval every = {{0, period_us}, {0, period_us}};
    setitimer(ITIMER_REAL, &every, nullptr);
}

static void storm_begin() {
    struct sigaction action = {};
    action.sa_handler = [](int) { alarms = alarms + 1; };
    sigaction(SIGALRM, &action, nullptr);
    alarms = 0;
    storm_set(200);
}

static void storm_end() {
    storm_set(0);
    signal(SIGALRM, SIG_DFL);
    ck_assert_int_gt(alarms, 10);
}

TEST(interrupted_system_calls_disturb_nothing) {
    KERNEL_ONLY("signals interrupt the kernel's waits");
    storm_begin(); // a signal every 200 microseconds, without SA_RESTART
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    inbox in = {};
    constexpr uint64_t TOTAL = 20 << 20;
    assert_is(mio_stream_set_queue_max(streams.client, 64 << 20), 0);
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    for (uint64_t offset = 0; offset < TOTAL; offset += 1 << 20) {
        mio_buf_t buf = pattern_buf(loop, 1 << 20, offset);
        ck_assert_int_gt(mio_stream_write(streams.client, &buf, 1, nullptr, nullptr), 0);
    }
    in.stop_at = TOTAL;
    run_to_stop(loop);
    run_for(loop, 50 * MIO_MILLISECOND); // asleep under fire
    (void)comes(loop, [] { return alarms > 10; }); // of those that find the machine standing still one is left
    storm_end();
    ck_assert(!in.wrong);
    ck_assert_uint_eq(in.received, TOTAL);
}

TEST(a_stream_without_a_socket_yet_says_enotconn) {
    mio_loop_t *loop = loop_open();
    mio_addr_t at, seen;
    listen_on(loop, accept_keep, nullptr, &at);
    mio_stream_t *stream;
    outcome told = {};
    told.stop = true;
    ck_assert_int_gt(mio_tcp_connect(loop, &at, nullptr, stream_told, &told, &stream), 0);
    const int fd = mio_stream_fd(stream); // the socket may be made now or at the flush
    ck_assert(fd >= 0 || fd == MIO_ENOTCONN);
    assert_is(mio_stream_peer(stream, &seen), MIO_ENOTCONN);
    if (fd == MIO_ENOTCONN) {
        assert_is(mio_stream_local(stream, &seen), MIO_ENOTCONN);
        assert_is(mio_tcp_nodelay(stream, 1), MIO_ENOTCONN);
        assert_is(mio_tcp_keepalive(stream, 1, 1, 1), MIO_ENOTCONN);
        assert_is(mio_tcp_linger(stream, 1), MIO_ENOTCONN);
        assert_is(mio_tcp_quickack(stream, 1), MIO_ENOTCONN);
    }
    run_to_stop(loop);
    assert_is(told.status, 0);
    assert_ok(mio_stream_fd(stream));
    assert_is(mio_stream_peer(stream, &seen), 0);
}
