// Listeners: options and addresses, who owns an accepted stream, pause, adopted sockets, and running out of descriptors.
#include "harness.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace api;

static void accept_never(mio_listener_t *, int, mio_stream_t *, void *) { ck_abort_msg("a listener that was refused called back"); }
static void accept_keep(mio_listener_t *, int status, mio_stream_t *stream, void *) {
    if (status == 0) mio_handle_keep(stream);
}
static void connect_nothing(mio_stream_t *, int, void *) {}

TEST(listen_answers_each_mistake) {
    mio_loop_t *loop = loop_open();
    mio_listener_t *out = nullptr;
    assert_is(mio_tcp_listen(nullptr, "127.0.0.1", 0, nullptr, accept_never, nullptr, &out), MIO_EINVAL);
    assert_is(mio_tcp_listen(loop, nullptr, 0, nullptr, accept_never, nullptr, &out), MIO_EINVAL);
    assert_is(mio_tcp_listen(loop, "127.0.0.1", 0, nullptr, nullptr, nullptr, &out), MIO_EINVAL);
    assert_is(mio_tcp_listen(loop, "127.0.0.1", 0, nullptr, accept_never, nullptr, nullptr), MIO_EINVAL);
    const int ports[] = {-1, 65536, 1000000, INT32_MIN, INT32_MAX};
    for (int port : ports) assert_is(mio_tcp_listen(loop, "127.0.0.1", port, nullptr, accept_never, nullptr, &out), MIO_EINVAL);
    const char *const hosts[] = {"", "localhost", "127.0.0", "127.0.0.1.1", "256.0.0.1", "127.0.0.01", " 127.0.0.1", "[::1", "::1]",
                                 "*", "1", "0x7f.0.0.1", "::g"};
    for (const char *host : hosts) {
        const int got = mio_tcp_listen(loop, host, 0, nullptr, accept_never, nullptr, &out);
        ck_assert_msg(got == MIO_EINVAL, "\"%s\" gave %d", host, got);
    }
    ck_assert_ptr_null(out);
    run_to_end(loop);
}

// Host strings are numeric: what would be a name is refused, however long it is, before anybody copies it.
TEST(a_host_of_any_length_is_refused_unless_it_is_a_number) {
    mio_loop_t *loop = loop_open();
    mio_listener_t *out = nullptr;
    static char host[70000];
    const size_t lengths[] = {0, 1, 63, 64, 107, 108, 253, 254, 255, 256, 257, 1023, 1024, 1025, 65535, 65536, sizeof host - 1};
    const char fillers[] = {'a', '1', '.', ':', '0', '%', '[', '-', '\x7f', '\xc3'};
    for (size_t length : lengths) {
        for (char filler : fillers) {
            memset(host, filler, length);
            host[length] = '\0';
            const int got = mio_tcp_listen(loop, host, 0, nullptr, accept_never, nullptr, &out);
            ck_assert_msg(got == MIO_EINVAL, "%zu times '%c' gave %d", length, filler, got);
        }
    }
    const char *const international[] = {"b\xc3\xbc" "cher.example", "xn--bcher-kva.example", "\xe4\xbe\x8b\xe3\x81\x88",
                                         "127\xe3\x80\x82" "0\xe3\x80\x82" "0\xe3\x80\x82" "1", "\xef\xbc\x91.2.3.4"};
    for (const char *name : international)
        assert_is(mio_tcp_listen(loop, name, 0, nullptr, accept_never, nullptr, &out), MIO_EINVAL);
    char embedded[] = "127.0.0.1\0.example"; // a string ends at its NUL: what is behind it is not looked at
    assert_is(mio_tcp_listen(loop, embedded, 0, nullptr, accept_keep, nullptr, &out), 0);
    mio_handle_abandon(out);
    embedded[0] = '\0';
    out = nullptr;
    assert_is(mio_tcp_listen(loop, embedded, 0, nullptr, accept_never, nullptr, &out), MIO_EINVAL);
    ck_assert_ptr_null(out);
    run_to_end(loop);
}

TEST(listen_reads_options_of_any_size) {
    mio_loop_t *loop = loop_open();
    mio_listener_t *out = nullptr;
    struct { mio_listen_options_t known; char tail[8]; } longer;
    memset(&longer, 0, sizeof longer);
    longer.known.size = sizeof longer;
    assert_is(mio_tcp_listen(loop, "127.0.0.1", 0, &longer.known, accept_keep, nullptr, &out), 0);
    mio_handle_abandon(out);
    out = nullptr;
    longer.tail[7] = 1;
    assert_is(mio_tcp_listen(loop, "127.0.0.1", 0, &longer.known, accept_never, nullptr, &out), MIO_E2BIG);
    longer.known.size = sizeof(size_t) - 1;
    assert_is(mio_tcp_listen(loop, "127.0.0.1", 0, &longer.known, accept_never, nullptr, &out), MIO_EINVAL);
    longer.known.size = sizeof(size_t);
    longer.known.backlog = -5; // behind its size
    assert_is(mio_tcp_listen(loop, "127.0.0.1", 0, &longer.known, accept_keep, nullptr, &out), 0);
    mio_handle_abandon(out);
    out = nullptr;
    longer.known = MIO_LISTEN_OPTIONS_INIT;
    longer.known.backlog = -1;
    assert_is(mio_tcp_listen(loop, "127.0.0.1", 0, &longer.known, accept_never, nullptr, &out), MIO_EINVAL);
    ck_assert_ptr_null(out);
}

TEST(a_port_is_taken_once_unless_shared) {
    mio_loop_t *loop = loop_open();
    mio_listener_t *first = nullptr, *second = nullptr;
    mio_listen_options_t shared = MIO_LISTEN_OPTIONS_INIT;
    shared.reuse_port = 1;
    int port = 0, again = MIO_EADDRINUSE;
    for (int tries = 0; tries < 10 && again == MIO_EADDRINUSE; tries++) { // another program may be given the port that was left
        mio_addr_t at;
        first = listen_on(loop, accept_keep, nullptr, &at);
        port = mio_addr_port(&at);
        ck_assert_int_gt(port, 0);
        if (!on_sim()) ck_assert_int_ge(mio_listener_fd(first), 0);
        assert_is(mio_tcp_listen(loop, "127.0.0.1", port, nullptr, accept_never, nullptr, &second), MIO_EADDRINUSE);
        ck_assert_ptr_null(second);
        mio_handle_abandon(first);
        assert_ok(mio_loop_run_once(loop, 0));
        again = mio_tcp_listen(loop, "127.0.0.1", port, &shared, accept_keep, nullptr, &first);
    }
    assert_is(again, 0);
    assert_is(mio_tcp_listen(loop, "127.0.0.1", port, &shared, accept_keep, nullptr, &second), 0);
    if (!on_sim()) assert_is(mio_tcp_listen(loop, "203.0.113.77", 0, nullptr, accept_never, nullptr, &second), MIO_EADDRNOTAVAIL);
    run_for(loop, MIO_MILLISECOND);
}

TEST(listen_options_reach_the_socket) {
    KERNEL_ONLY("asks the kernel");
    mio_loop_t *loop = loop_open();
    mio_listen_options_t options = MIO_LISTEN_OPTIONS_INIT;
    options.defer_accept_s = 3;
    options.fastopen = 5;
    options.reuse_port = 1;
    mio_listener_t *listener = nullptr;
    assert_is(mio_tcp_listen(loop, "127.0.0.1", 0, &options, accept_keep, nullptr, &listener), 0);
    int value = 0;
    socklen_t size = sizeof value;
    const int fd = mio_listener_fd(listener);
    assert_is(getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, &size), 0);
    assert_is(value, 1);
    assert_is(getsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &value, &size), 0);
    assert_is(value, 1);
    assert_is(getsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &value, &size), 0);
    ck_assert_int_ge(value, 3);
    assert_is(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &size), 0);
    assert_is(value, 1);
    options = MIO_LISTEN_OPTIONS_INIT;
    options.no_reuse_addr = 1;
    mio_listener_t *strict = nullptr;
    assert_is(mio_tcp_listen(loop, "127.0.0.1", 0, &options, accept_keep, nullptr, &strict), 0);
    assert_is(getsockopt(mio_listener_fd(strict), SOL_SOCKET, SO_REUSEADDR, &value, &size), 0);
    assert_is(value, 0);
}

struct keeping {
    int accepted, ends;
    int how;
    mio_stream_t *kept[8];
};

TEST(an_accepted_stream_that_nobody_wants_is_closed) {
    mio_loop_t *loop = loop_open();
    static keeping state;
    state = {};
    mio_addr_t at;
    listen_on(loop, [](mio_listener_t *, int status, mio_stream_t *stream, void *) {
        if (status < 0) return;
        state.kept[state.accepted++] = stream;
        switch (state.how) {
        case 1: assert_is(mio_handle_keep(stream), 0); break;
        case 2: assert_is(mio_handle_set_data(stream, &state), 0); break;
        case 3: ck_assert_int_gt(mio_stream_read_start(stream, 0, [](mio_stream_t *, int64_t, mio_buf_t *, void *) {}, nullptr), 0); break;
        case 4: {
            mio_buf_t hello = text_buf(mio_handle_loop(stream), "hello");
            ck_assert_int_gt(mio_stream_write(stream, &hello, 1, nullptr, nullptr), 0);
            break;
        }
        }
    }, nullptr, &at);
    for (state.how = 0; state.how < 5; state.how++) {
        const int before = state.accepted;
        mio_stream_t *client;
        inbox in = {};
        in.is_text = true;
        ck_assert_int_gt(mio_tcp_connect(loop, &at, nullptr, connect_nothing, nullptr, &client), 0);
        ck_assert_int_gt(mio_stream_read_start(client, 0, read_into, &in), 0);
        run_for(loop, 5 * MIO_MILLISECOND);
        for (int i = 0; i < 2000 && (state.accepted == before || (state.how == 0 && in.ends == 0)); i++)
            run_for(loop, 5 * MIO_MILLISECOND);
        assert_is(state.accepted, before + 1);
        assert_is(in.ends, state.how == 0 ? 1 : 0);
        if (state.how > 0) mio_handle_abandon(state.kept[before]);
        mio_handle_abandon(client);
    }
    run_for(loop, MIO_MILLISECOND);
    assert_ok(mio_loop_run_once(loop, 0));
    assert_is(metrics(loop).handles, 1);
}

TEST(a_closing_listener_is_told_ecanceled_last) {
    mio_loop_t *loop = loop_open();
    static diary book;
    book = {};
    mio_listener_t *listener = listen_on(loop, [](mio_listener_t *, int status, mio_stream_t *stream, void *) {
        assert_is(status, MIO_ECANCELED);
        ck_assert_ptr_null(stream);
        diary_add(&book, "a");
    }, nullptr, nullptr);
    assert_is(mio_handle_close(listener, [](mio_handle_t *, void *) { diary_add(&book, "c"); }, nullptr), 0);
    run_to_end(loop);
    ck_assert_str_eq(book.text, "ac");
}

TEST(a_paused_listener_leaves_connections_in_the_backlog) {
    mio_loop_t *loop = loop_open();
    static int accepted;
    accepted = 0;
    mio_addr_t at;
    mio_listener_t *listener = listen_on(loop, [](mio_listener_t *, int status, mio_stream_t *stream, void *) {
        if (status < 0) return;
        accepted++;
        mio_handle_keep(stream);
    }, nullptr, &at);
    assert_is(mio_listener_pause(nullptr), MIO_EINVAL);
    assert_is(mio_listener_resume(nullptr), MIO_EINVAL);
    assert_is(mio_listener_pause(listener), 0);
    assert_is(mio_listener_pause(listener), 0);
    run_for(loop, MIO_MILLISECOND);
    mio_stream_t *clients[5];
    for (mio_stream_t *&client : clients)
        ck_assert_int_gt(mio_tcp_connect(loop, &at, nullptr, connect_nothing, nullptr, &client), 0);
    run_for(loop, 5 * MIO_MILLISECOND);
    assert_is(accepted, 0);
    assert_is(mio_listener_resume(listener), 0);
    assert_is(mio_listener_resume(listener), 0);
    for (int i = 0; i < 2000 && accepted != 5; i++) run_for(loop, 5 * MIO_MILLISECOND);
    assert_is(accepted, 5);
}

TEST(adopt_takes_a_listening_socket_and_leaves_others_alone) {
    KERNEL_ONLY("makes sockets of the kernel");
    mio_loop_t *loop = loop_open();
    mio_listener_t *listener = nullptr;
    mio_addr_t at;
    int ends[2], plain = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_is(pipe(ends), 0);
    assert_is(mio_listener_adopt(nullptr, 0, accept_never, nullptr, &listener), MIO_EINVAL);
    assert_is(mio_listener_adopt(loop, plain, accept_never, nullptr, &listener), MIO_EINVAL);
    assert_is(mio_listener_adopt(loop, ends[0], accept_never, nullptr, &listener), MIO_ENOTSOCK);
    assert_is(mio_listener_adopt(loop, -1, accept_never, nullptr, &listener), MIO_EBADF);
    assert_is(mio_listener_adopt(loop, 0x3fffffff, accept_never, nullptr, &listener), MIO_EBADF);
    ck_assert_ptr_null(listener);
    close(plain);
    close(ends[0]);
    close(ends[1]);
    const int fd = raw_listen(16, &at);
    static int accepted;
    accepted = 0;
    assert_is(mio_listener_adopt(loop, fd, nullptr, nullptr, &listener), MIO_EINVAL);
    assert_is(mio_listener_adopt(loop, fd, accept_never, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_listener_adopt(loop, fd, [](mio_listener_t *, int status, mio_stream_t *, void *) {
        if (status == 0) accepted++;
    }, nullptr, &listener), 0);
    assert_is(mio_listener_fd(listener), fd);
    const int client = raw_connect(&at);
    for (int i = 0; i < 2000 && accepted == 0; i++) run_for(loop, 5 * MIO_MILLISECOND);
    assert_is(accepted, 1);
    close(client);
}

TEST(a_listener_that_is_adopted_twice_is_refused_at_once) {
    KERNEL_ONLY("the program opens no simulated descriptor");
    mio_loop_t *loop = loop_open();
    mio_addr_t at;
    const int fd = raw_listen(16, &at), copy = dup(fd);
    mio_listener_t *first, *none = nullptr;
    static int accepted;
    accepted = 0;
    auto count = [](mio_listener_t *, int status, mio_stream_t *, void *) { accepted += status == 0; };
    auto never = [](mio_listener_t *, int status, mio_stream_t *, void *) { assert_is(status, MIO_ECANCELED); };
    assert_is(mio_listener_adopt(loop, fd, count, nullptr, &first), 0);
    assert_is(mio_listener_adopt(loop, fd, never, nullptr, &none), MIO_EBUSY);
    run_for(loop, MIO_MILLISECOND);
    assert_is(mio_listener_adopt(loop, fd, never, nullptr, &none), MIO_EBUSY);
    const int client = raw_connect(&at);
    for (int i = 0; i < 10000 && accepted == 0; i++) run_for(loop, MIO_MILLISECOND);
    assert_is(accepted, 1); // the first one goes on
    assert_is(mio_handle_close(first, nullptr, nullptr), 0);
    run_for(loop, MIO_MILLISECOND);
    assert_is(mio_listener_adopt(loop, fd, never, nullptr, &none), MIO_EBADF); // it went with its listener
    ck_assert_ptr_null(none);
    mio_listener_t *anew;
    assert_is(mio_listener_adopt(loop, copy, never, nullptr, &anew), 0); // the socket itself is free
    assert_is(mio_handle_close(anew, nullptr, nullptr), 0);
    close(client);
}

struct shortage {
    int accepted, reports, last;
    mio_stream_t *kept[64];
};

TEST(without_descriptors_accept_backs_off_and_recovers) {
    KERNEL_ONLY("limits the descriptors of this process");
    mio_loop_t *loop = loop_open();
    static shortage state;
    state = {};
    mio_addr_t at;
    listen_on(loop, [](mio_listener_t *, int status, mio_stream_t *stream, void *) {
        if (status == 0) {
            mio_handle_keep(stream);
            state.kept[state.accepted++] = stream;
        } else if (status != MIO_ECANCELED) {
            ck_assert_ptr_null(stream);
            state.reports++;
            state.last = status;
        }
    }, nullptr, &at);
    int clients[8];
    for (int &client : clients) client = raw_connect(&at);
    struct rlimit limit;
    assert_is(getrlimit(RLIMIT_NOFILE, &limit), 0);
    const rlim_t before = limit.rlim_cur;
    limit.rlim_cur = open_descriptors() + 1 < 3 ? 3 : static_cast<rlim_t>(clients[7]) + 2; // room for one
    assert_is(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int i = 0; i < 500 && (i == 0 || state.reports == 0); i++) run_for(loop, 20 * MIO_MILLISECOND);
    ck_assert_int_lt(state.accepted, 8);
    ck_assert_int_ge(state.reports, 1);
    assert_is(state.last, MIO_EMFILE);
    const int accepted = state.accepted;
    int64_t spent = INT64_MAX;
    for (int tries = 0; tries < 3 && spent >= MIO_SECOND / 20; tries++) { // others' time may be counted as ours
        const int64_t cpu = cpu_ns();
        run_for(loop, MIO_SECOND);
        spent = cpu_ns() - cpu;
    }
    if (!on_sqpoll()) ck_assert_int_lt(spent, MIO_SECOND / 20); // below 5 %; its thread looks before it sleeps
    assert_is(state.accepted, accepted);
    ck_assert_int_le(state.reports, 20);
    ck_assert_uint_ge(metrics(loop).accept_errors, 1);
    limit.rlim_cur = before;
    assert_is(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int i = 0; i < 100 && state.accepted != 8; i++) run_for(loop, 100 * MIO_MILLISECOND); // the back-off is a second at most
    assert_is(state.accepted, 8);
    for (int client : clients) close(client);
}

TEST(connect_and_listen_without_descriptors_say_emfile) {
    KERNEL_ONLY("limits the descriptors of this process");
    mio_loop_t *loop = loop_open();
    mio_addr_t at;
    listen_on(loop, accept_keep, nullptr, &at);
    run_for(loop, MIO_MILLISECOND); // a ring may be made by the first run
    struct rlimit limit;
    assert_is(getrlimit(RLIMIT_NOFILE, &limit), 0);
    const rlim_t before = limit.rlim_cur;
    int highest = dup(0);
    close(highest);
    limit.rlim_cur = static_cast<rlim_t>(highest);
    assert_is(setrlimit(RLIMIT_NOFILE, &limit), 0);
    mio_listener_t *second = nullptr;
    assert_is(mio_tcp_listen(loop, "127.0.0.1", 0, nullptr, accept_never, nullptr, &second), MIO_EMFILE);
    ck_assert_ptr_null(second);
    outcome told = {};
    told.stop = true;
    mio_stream_t *stream;
    ck_assert_int_gt(mio_tcp_connect(loop, &at, nullptr, stream_told, &told, &stream), 0);
    run_to_stop(loop);
    assert_is(told.status, MIO_EMFILE);
    mio_loop_options_t options = loop_options();
    mio_loop_t *another = nullptr;
    const int created = mio_loop_create(&another, &options);
    ck_assert_msg(created == MIO_EMFILE, "create gave %d", created);
    ck_assert_ptr_null(another);
    limit.rlim_cur = before;
    assert_is(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

TEST(errors_of_accept_are_reports_and_accepting_goes_on) {
    SIM_ONLY("seeded errors of accept");
    mio_sim_options_t trouble = MIO_SIM_OPTIONS_INIT;
    trouble.seed = seed();
    trouble.accept_error_ppm = 300000;
    mio_sim_t *rough = nullptr;
    assert_is(mio_sim_create(&rough, &trouble), 0);
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.sim = rough;
    mio_loop_t *loop = nullptr;
    assert_is(mio_loop_create(&loop, &options), 0);
    static shortage state;
    state = {};
    mio_addr_t at;
    mio_listener_t *listener = listen_on(loop, [](mio_listener_t *, int status, mio_stream_t *stream, void *) {
        if (status == 0) {
            state.accepted++;
            mio_handle_close(stream, nullptr, nullptr);
        } else if (status != MIO_ECANCELED) {
            ck_assert(status == MIO_ECONNABORTED || status == MIO_EMFILE || status == MIO_ENFILE);
            state.reports++;
        }
    }, nullptr, &at);
    mio_stream_t *clients[60];
    for (mio_stream_t *&client : clients)
        ck_assert_int_gt(mio_tcp_connect(loop, &at, nullptr, connect_nothing, nullptr, &client), 0);
    assert_is(mio_sim_run(rough, 120 * MIO_SECOND), MIO_ETIMEDOUT);
    ck_assert_int_ge(state.reports, 1);
    ck_assert_int_ge(state.accepted, 20);
    for (mio_stream_t *client : clients) mio_handle_close(client, nullptr, nullptr);
    mio_handle_close(listener, nullptr, nullptr);
    assert_is(mio_sim_run(rough, MIO_SECOND), 0);
    assert_is(mio_loop_destroy(loop, 0), 0);
    assert_is(mio_sim_open_fds(rough), 0);
    assert_is(mio_sim_destroy(rough), 0);
}

TEST(a_connection_reset_before_it_was_accepted_harms_nobody) {
    KERNEL_ONLY("raw sockets of the kernel");
    mio_loop_t *loop = loop_open();
    static shortage state;
    state = {};
    mio_addr_t at;
    listen_on(loop, [](mio_listener_t *, int status, mio_stream_t *stream, void *) {
        if (status < 0) return;
        state.accepted++;
        ck_assert_int_gt(mio_stream_read_start(stream, 0, [](mio_stream_t *self, int64_t n, mio_buf_t *, void *) {
            if (n < 0 && n != MIO_ECANCELED) mio_handle_close(self, nullptr, nullptr);
        }, nullptr), 0);
    }, nullptr, &at);
    for (int i = 0; i < 200; i++) assert_is(raw_reset(raw_connect(&at)), 0);
    const int good = raw_connect(&at);
    const int64_t end_ns = clock_ns() + patience(15 * MIO_SECOND);
    do run_for(loop, 20 * MIO_MILLISECOND);
    while (state.accepted == 0 && clock_ns() < end_ns);
    ck_assert_int_ge(state.accepted, 1);
    close(good);
    while (metrics(loop).handles != 1 && clock_ns() < end_ns) run_for(loop, 5 * MIO_MILLISECOND);
    assert_ok(mio_loop_run_once(loop, 0));
    assert_is(metrics(loop).handles, 1);
}

TEST(v6only_decides_whether_ipv4_comes_in) {
    KERNEL_ONLY("asks the kernel");
    mio_loop_t *loop = loop_open();
    for (int only = 0; only < 2; only++) {
        mio_listen_options_t options = MIO_LISTEN_OPTIONS_INIT;
        options.v6only = only;
        mio_listener_t *listener = nullptr;
        const int listening = mio_tcp_listen(loop, "::", 0, &options, accept_keep, nullptr, &listener);
        if (listening == MIO_EADDRNOTAVAIL || listening == MIO_EAFNOSUPPORT) SKIP("no IPv6 on this machine");
        assert_is(listening, 0);
        mio_addr_t at, four;
        assert_is(mio_listener_local(listener, &at), 0);
        assert_is(mio_addr_parse("127.0.0.1", mio_addr_port(&at), &four), 0);
        // The port of IPv4 is held, so that nobody else's listener gets it.
        const int held = only ? socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;
        if (only && bind(held, &four.u.any, four.len) != 0) { // somebody has it: another one
            close(held);
            mio_handle_abandon(listener);
            only--;
            continue;
        }
        outcome told = {};
        told.stop = true;
        mio_stream_t *stream;
        ck_assert_int_gt(mio_tcp_connect(loop, &four, nullptr, stream_told, &told, &stream), 0);
        run_to_stop(loop);
        assert_is(told.status, only ? MIO_ECONNREFUSED : 0);
        if (only) close(held);
        mio_handle_abandon(stream);
        mio_handle_abandon(listener);
    }
}
