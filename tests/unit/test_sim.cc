// The simulated world's network, seen through its table of system calls: what Linux' TCP would do, on virtual time.
#include "unit/sim_fixture.h"

using namespace mio;

// --- addresses ------------------------------------------------------------------------------------------------------

static void test_only_simulated_descriptors_are_known(void **) {
    world_open(options_of(1));
    char byte;
    assert_int_equal(os.close(0), -EBADF);
    assert_int_equal(os.recv(0, &byte, 1, 0), -EBADF);
    assert_int_equal(os.close(SIM_FD_BASE), -EBADF);
    assert_int_equal(os.listen(SIM_FD_BASE + 1000000, 1), -EBADF);
    assert_int_equal(os.eventfd(0, 0), -ENOSYS);
    assert_int_equal(os.socket(AF_UNIX, SOCK_DGRAM, 0), -EAFNOSUPPORT);
    assert_int_equal(os.socket(AF_NETLINK, SOCK_STREAM, 0), -EAFNOSUPPORT);
    assert_int_equal(os.socket(AF_INET, SOCK_RAW, 0), -EPROTONOSUPPORT);
    assert_int_equal(os.socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP), -EPROTONOSUPPORT);
    const int fd = tcp_socket();
    assert_int_equal(fd, SIM_FD_BASE);
    assert_int_equal(mio_sim_open_fds(world), 1);
    const int other = os.dup_cloexec(fd);
    assert_int_equal(other, SIM_FD_BASE + 1);
    assert_int_equal(os.close(fd), 0);
    assert_int_equal(os.close(fd), -EBADF);
    assert_int_equal(tcp_socket(), SIM_FD_BASE); // the lowest free one, as in a kernel
    assert_int_equal(os.close(fd), 0);
    assert_int_equal(get_option(other, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
    assert_int_equal(os.close(other), 0);
    world_close();
}

static void test_addresses_in_use(void **) {
    world_open(options_of(2));
    const int a = listen_on("127.0.0.1", 80);
    int b = tcp_socket();
    assert_int_equal(bind_to(b, ip4("127.0.0.1", 80)), -EADDRINUSE);
    assert_int_equal(bind_to(b, ip4("0.0.0.0", 80)), -EADDRINUSE);
    assert_int_equal(bind_to(b, ip4("10.1.2.3", 80)), 0);
    assert_int_equal(bind_to(b, ip4("10.1.2.3", 81)), -EINVAL);
    assert_int_equal(os.close(b), 0);
    b = tcp_socket(AF_INET6);
    assert_int_equal(bind_to(b, ip6("::", 80)), -EADDRINUSE);
    assert_int_equal(set_option(b, IPPROTO_IPV6, IPV6_V6ONLY, 1), 0);
    assert_int_equal(bind_to(b, ip6("::", 80)), 0);
    assert_int_equal(os.close(b), 0);
    assert_int_equal(os.close(a), 0);
    assert_int_equal(os.close(listen_on("0.0.0.0", 80)), 0);
    // SO_REUSEADDR shares the port while nobody listens on it.
    const int c = tcp_socket();
    const int d = tcp_socket();
    assert_int_equal(set_option(c, SOL_SOCKET, SO_REUSEADDR, 1), 0);
    assert_int_equal(set_option(d, SOL_SOCKET, SO_REUSEADDR, 1), 0);
    assert_int_equal(bind_to(c, ip4("127.0.0.1", 81)), 0);
    assert_int_equal(bind_to(d, ip4("127.0.0.1", 81)), 0);
    assert_int_equal(os.listen(c, 1), 0);
    assert_int_equal(os.listen(d, 1), -EADDRINUSE);
    assert_int_equal(os.close(c), 0);
    assert_int_equal(os.listen(d, 1), 0);
    assert_int_equal(os.close(d), 0);
    const int e = tcp_socket();
    struct sockaddr_in6 six = ip6("::1", 80);
    assert_int_equal(bind_to(e, six), -EAFNOSUPPORT);
    assert_int_equal(os.bind(e, any(&six), 3), -EINVAL);
    assert_int_equal(os.close(e), 0);
    world_close();
}

static void test_names_of_both_ends(void **) {
    world_open(options_of(3));
    const int listener = tcp_socket(AF_INET6);
    assert_int_equal(bind_to(listener, ip6("::", 0)), 0);
    assert_int_equal(os.listen(listener, 5), 0);
    const int port = port_of(listener);
    assert_true(port >= 32768);
    const int client = tcp_socket();
    assert_int_equal(connect_to(client, ip4("127.0.0.9", port)), -EINPROGRESS);
    assert_int_equal(connect_to(client, ip4("127.0.0.9", port)), -EALREADY);
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    assert_int_equal(os.getpeername(client, any(&a), &len), -ENOTCONN);
    assert_int_equal(os.accept4(listener, nullptr, nullptr, 0), -EAGAIN);
    pass(MIO_MILLISECOND);
    assert_int_equal(connect_to(client, ip4("127.0.0.9", port)), -EISCONN);
    struct sockaddr_in6 from;
    len = sizeof from;
    const int server = os.accept4(listener, any(&from), &len, 0);
    assert_true(server >= 0);
    assert_int_equal(len, sizeof from);
    assert_true(IN6_IS_ADDR_V4MAPPED(&from.sin6_addr));
    assert_int_equal(ntohs(from.sin6_port), port_of(client));
    assert_int_equal(port_of(server), port);
    struct sockaddr_in peer;
    len = sizeof peer;
    assert_int_equal(os.getpeername(client, any(&peer), &len), 0);
    assert_int_equal(ntohl(peer.sin_addr.s_addr), 0x7f000009);
    assert_int_equal(ntohs(peer.sin_port), port);
    assert_int_equal(os.close(client), 0);
    assert_int_equal(os.close(server), 0);
    assert_int_equal(os.close(listener), 0);
    world_close();
}

static void test_reuse_port_shares_connections(void **) {
    world_open(options_of(4));
    int listeners[4];
    for (int &fd : listeners) {
        fd = tcp_socket();
        assert_int_equal(set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1), 0);
        assert_int_equal(bind_to(fd, ip4("127.0.0.1", 90)), 0);
        assert_int_equal(os.listen(fd, 100), 0);
    }
    int clients[40];
    for (int &fd : clients) {
        fd = tcp_socket();
        assert_int_equal(connect_to(fd, ip4("127.0.0.1", 90)), -EINPROGRESS);
    }
    pass(MIO_MILLISECOND);
    int total = 0;
    for (const int listener : listeners) {
        int mine = 0;
        for (int fd; (fd = os.accept4(listener, nullptr, nullptr, 0)) >= 0; mine++) assert_int_equal(os.close(fd), 0);
        assert_true(mine > 0);
        total += mine;
        assert_int_equal(os.close(listener), 0);
    }
    assert_int_equal(total, 40);
    for (const int fd : clients) assert_int_equal(os.close(fd), 0);
    world_close();
}

static void test_options_are_remembered(void **) {
    world_open(options_of(5));
    const int fd = tcp_socket();
    assert_int_equal(get_option(fd, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
    assert_int_equal(get_option(fd, SOL_SOCKET, SO_DOMAIN), AF_INET);
    assert_int_equal(get_option(fd, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
    assert_int_equal(get_option(fd, SOL_SOCKET, SO_ACCEPTCONN), 0);
    assert_int_equal(get_option(fd, SOL_SOCKET, SO_ERROR), 0);
    assert_int_equal(get_option(fd, IPPROTO_TCP, TCP_NODELAY), 0);
    assert_int_equal(set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1), 0);
    assert_int_equal(get_option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    assert_int_equal(set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1), -ENOPROTOOPT);
    assert_int_equal(set_option(fd, 12345, 1, 1), -ENOPROTOOPT);
    const char small = 1;
    assert_int_equal(os.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &small, 1), -EINVAL);
    struct linger linger = {1, 7};
    assert_int_equal(os.setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    memset(&linger, 0, sizeof linger);
    socklen_t len = sizeof linger;
    assert_int_equal(os.getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &len), 0);
    assert_int_equal(linger.l_onoff, 1);
    assert_int_equal(linger.l_linger, 7);
    assert_int_equal(os.listen(fd, 1), 0);
    assert_int_equal(get_option(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
    assert_int_equal(os.close(fd), 0);
    world_close();
}

// --- connecting -----------------------------------------------------------------------------------------------------

static void test_nobody_listens(void **) {
    world_open(options_of(6));
    const int fd = tcp_socket();
    assert_int_equal(connect_to(fd, ip4("127.0.0.1", 4)), -EINPROGRESS);
    assert_int_equal(os.send(fd, "x", 1, MSG_NOSIGNAL), -EAGAIN);
    pass(MIO_MILLISECOND);
    assert_int_equal(get_option(fd, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
    assert_int_equal(get_option(fd, SOL_SOCKET, SO_ERROR), 0);
    assert_int_equal(os.send(fd, "x", 1, MSG_NOSIGNAL), -EPIPE);
    assert_int_equal(os.close(fd), 0);
    world_close();
    mio_sim_options_t o = options_of(6);
    o.refuse_ppm = 1000000;
    world_open(o);
    const int listener = listen_on("127.0.0.1", 4);
    const int refused = tcp_socket();
    assert_int_equal(connect_to(refused, ip4("127.0.0.1", 4)), -EINPROGRESS);
    pass(MIO_MILLISECOND);
    assert_int_equal(get_option(refused, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
    assert_int_equal(os.close(refused), 0);
    assert_int_equal(os.close(listener), 0);
    world_close();
}

static void test_a_full_backlog_makes_clients_wait(void **) {
    world_open(options_of(7));
    const int listener = listen_on("127.0.0.1", 5, 0); // room for one, as in Linux
    int clients[3];
    for (int &fd : clients) {
        fd = tcp_socket();
        assert_int_equal(connect_to(fd, ip4("127.0.0.1", 5)), -EINPROGRESS);
        pass(MIO_MILLISECOND);
    }
    const int first = os.accept4(listener, nullptr, nullptr, 0);
    assert_true(first >= 0);
    assert_int_equal(os.accept4(listener, nullptr, nullptr, 0), -EAGAIN);
    pass(3 * MIO_SECOND + MIO_MILLISECOND);
    const int second = os.accept4(listener, nullptr, nullptr, 0);
    assert_true(second >= 0);
    pass(130 * MIO_SECOND);
    const int third = os.accept4(listener, nullptr, nullptr, 0); // it came later, or gave up
    assert_true(third >= 0);
    const int late = tcp_socket();
    const int later = tcp_socket();
    assert_int_equal(connect_to(late, ip4("127.0.0.1", 5)), -EINPROGRESS);
    pass(MIO_MILLISECOND);
    assert_int_equal(connect_to(later, ip4("127.0.0.1", 5)), -EINPROGRESS);
    pass(130 * MIO_SECOND);
    assert_int_equal(get_option(late, SOL_SOCKET, SO_ERROR), 0);
    assert_int_equal(get_option(later, SOL_SOCKET, SO_ERROR), ETIMEDOUT);
    for (const int fd : clients) assert_int_equal(os.close(fd), 0);
    for (const int fd : {first, second, third, late, later, listener}) assert_int_equal(os.close(fd), 0);
    world_close();
}

static void test_who_comes_at_once_with_others_is_connected_before_it_is_accepted(void **) {
    world_open(options_of(17));
    const int listener = listen_on("127.0.0.1", 5, 0);
    int clients[2];
    for (int &fd : clients) {
        fd = tcp_socket();
        assert_int_equal(connect_to(fd, ip4("127.0.0.1", 5)), -EINPROGRESS);
    }
    pass(MIO_MILLISECOND);
    for (const int fd : clients) assert_int_equal(os.send(fd, "x", 1, 0), 1);
    int accepted[2];
    accepted[0] = os.accept4(listener, nullptr, nullptr, 0);
    assert_true(accepted[0] >= 0);
    assert_int_equal(os.accept4(listener, nullptr, nullptr, 0), -EAGAIN);
    pass(MIO_SECOND);
    accepted[1] = os.accept4(listener, nullptr, nullptr, 0);
    char byte;
    for (const int fd : accepted) assert_int_equal(os.recv(fd, &byte, 1, 0), 1);
    for (const int fd : {accepted[0], accepted[1], clients[0], clients[1]}) assert_int_equal(os.close(fd), 0);
    // Nobody accepts at all: the second one is given up.
    for (int &fd : clients) {
        fd = tcp_socket();
        assert_int_equal(connect_to(fd, ip4("127.0.0.1", 5)), -EINPROGRESS);
    }
    pass(60 * MIO_SECOND);
    int reset = 0;
    for (const int fd : clients) {
        reset += get_option(fd, SOL_SOCKET, SO_ERROR) == ECONNRESET;
        assert_int_equal(os.close(fd), 0);
    }
    assert_int_equal(reset, 1);
    assert_int_equal(os.close(listener), 0);
    world_close();
}

static void test_closing_a_listener_resets_who_waits(void **) {
    world_open(options_of(8));
    const int listener = listen_on("127.0.0.1", 5);
    const int client = tcp_socket();
    assert_int_equal(connect_to(client, ip4("127.0.0.1", 5)), -EINPROGRESS);
    pass(MIO_MILLISECOND);
    assert_int_equal(os.close(listener), 0);
    char byte;
    assert_int_equal(os.recv(client, &byte, 1, 0), -EAGAIN); // it takes its time
    pass(MIO_MILLISECOND);
    assert_int_equal(os.recv(client, &byte, 1, 0), -ECONNRESET);
    assert_int_equal(os.recv(client, &byte, 1, 0), 0);
    assert_int_equal(os.send(client, "x", 1, 0), -EPIPE);
    assert_int_equal(os.close(client), 0);
    world_close();
}

// --- bytes ----------------------------------------------------------------------------------------------------------

static void test_bytes_take_their_time(void **) {
    mio_sim_options_t o = options_of(9);
    o.latency_min_ns = o.latency_max_ns = MIO_MILLISECOND;
    world_open(o);
    const int listener = listen_on("127.0.0.1", 5);
    const int client = tcp_socket();
    assert_int_equal(connect_to(client, ip4("127.0.0.1", 5)), -EINPROGRESS);
    pass(2 * MIO_MILLISECOND - 1);
    assert_int_equal(os.send(client, "early", 5, 0), -EAGAIN);
    pass(1);
    assert_int_equal(os.send(client, "hello", 5, 0), 5);
    assert_int_equal(os.accept4(listener, nullptr, nullptr, 0), -EAGAIN);
    pass(MIO_MILLISECOND);
    const int server = os.accept4(listener, nullptr, nullptr, 0);
    assert_true(server >= 0);
    char text[8] = "";
    assert_int_equal(os.recv(server, text, 8, MSG_PEEK), -EAGAIN);
    pass(1);
    assert_int_equal(os.recv(server, text, 8, MSG_PEEK), 5);
    assert_int_equal(os.recv(server, text, 2, 0), 2);
    assert_int_equal(os.recv(server, text + 2, 8, 0), 3);
    assert_string_equal(text, "hello");
    assert_int_equal(os.send(server, text, 5, 0), 5);
    pass(MIO_MILLISECOND - 1);
    assert_int_equal(os.recv(client, text, 8, 0), -EAGAIN);
    pass(1);
    assert_int_equal(os.recv(client, text, 8, 0), 5);
    for (const int fd : {client, server, listener}) assert_int_equal(os.close(fd), 0);
    world_close();
}

static char pattern(size_t i) { return static_cast<char>(i * 31 + (i >> 8)); }

static void stream_bytes(uint64_t seed) {
    mio_sim_options_t o = options_of(seed);
    o.short_read_ppm = o.short_write_ppm = 300000;
    o.socket_buffer = 1 + static_cast<uint32_t>(seed * 977 % 9000);
    world_open(o);
    const pair p = connected_pair();
    static char chunk[3000];
    size_t sent = 0;
    size_t received = 0;
    const size_t total = 60000;
    while (received < total) {
        size_t n = static_cast<size_t>(mio_sim_random(world) % sizeof chunk);
        if (n > total - sent) n = total - sent;
        for (size_t i = 0; i < n; i++) chunk[i] = pattern(sent + i);
        ssize_t result = n == 0 ? 0 : os.send(p.client, chunk, n, 0);
        if (result > 0) sent += static_cast<size_t>(result);
        else assert_true(result == 0 || result == -EAGAIN);
        if (result <= 0 || mio_sim_random(world) % 8 == 0) pass(100 * MIO_MICROSECOND);
        result = os.recv(p.server, chunk, 1 + static_cast<size_t>(mio_sim_random(world) % sizeof chunk), 0);
        for (ssize_t i = 0; i < result; i++) assert_int_equal(chunk[i], pattern(received++));
        assert_true(result > 0 || result == -EAGAIN);
        assert_true(sent - received <= o.socket_buffer);
    }
    assert_int_equal(sent, total);
    assert_int_equal(os.close(p.client), 0);
    assert_int_equal(os.close(p.server), 0);
    world_close();
}

static void test_bytes_keep_their_order(void **) {
    for (uint64_t seed = 1; seed <= 40; seed++) stream_bytes(seed);
}

static void test_a_full_pipe_takes_no_more(void **) {
    mio_sim_options_t o = options_of(10);
    o.socket_buffer = 10000;
    world_open(o);
    const pair p = connected_pair();
    static char bytes[20000];
    assert_int_equal(os.send(p.client, bytes, 6000, 0), 6000);
    assert_int_equal(os.send(p.client, bytes, 6000, 0), 4000);
    assert_int_equal(os.send(p.client, bytes, 1, 0), -EAGAIN);
    pass(MIO_MILLISECOND);
    assert_int_equal(os.send(p.client, bytes, 1, 0), -EAGAIN);
    assert_int_equal(os.recv(p.server, bytes, 300, 0), 300);
    assert_int_equal(os.send(p.client, bytes, 6000, 0), 300);
    assert_int_equal(os.recv(p.server, bytes, sizeof bytes, 0), 9700);
    assert_int_equal(os.close(p.client), 0);
    pass(MIO_MILLISECOND);
    assert_int_equal(os.recv(p.server, bytes, sizeof bytes, 0), 300); // the tail is there although the client is not
    assert_int_equal(os.recv(p.server, bytes, sizeof bytes, 0), 0);
    assert_int_equal(os.close(p.server), 0);
    world_close();
}

static void test_half_close(void **) {
    world_open(options_of(11));
    const pair p = connected_pair();
    char text[8];
    assert_int_equal(os.send(p.client, "bye", 3, 0), 3);
    assert_int_equal(os.shutdown(p.client, SHUT_WR), 0);
    assert_int_equal(os.send(p.client, "x", 1, 0), -EPIPE);
    pass(MIO_MILLISECOND);
    assert_int_equal(os.recv(p.server, text, 8, 0), 3);
    assert_int_equal(os.recv(p.server, text, 8, 0), 0);
    assert_int_equal(os.recv(p.server, text, 8, 0), 0);
    assert_int_equal(os.send(p.server, "still", 5, 0), 5);
    pass(MIO_MILLISECOND);
    assert_int_equal(os.recv(p.client, text, 8, 0), 5);
    assert_int_equal(os.recv(p.client, text, 8, 0), -EAGAIN);
    assert_int_equal(os.close(p.server), 0);
    pass(MIO_MILLISECOND);
    assert_int_equal(os.recv(p.client, text, 8, 0), 0);
    assert_int_equal(os.close(p.client), 0);
    const int fresh = tcp_socket();
    assert_int_equal(os.shutdown(fresh, SHUT_WR), -ENOTCONN);
    assert_int_equal(os.recv(fresh, text, 8, 0), -ENOTCONN);
    assert_int_equal(os.close(fresh), 0);
    world_close();
}

// --- resets ---------------------------------------------------------------------------------------------------------

static void test_close_with_unread_bytes_resets(void **) {
    world_open(options_of(12));
    const pair p = connected_pair();
    char byte;
    assert_int_equal(os.send(p.client, "unread", 6, 0), 6);
    pass(MIO_MILLISECOND);
    assert_int_equal(os.close(p.server), 0);
    assert_int_equal(os.send(p.client, "more", 4, 0), 4); // it does not know yet
    pass(MIO_MILLISECOND);
    assert_int_equal(get_option(p.client, SOL_SOCKET, SO_ERROR), ECONNRESET);
    assert_int_equal(os.send(p.client, "more", 4, 0), -EPIPE);
    assert_int_equal(os.recv(p.client, &byte, 1, 0), 0);
    assert_int_equal(os.shutdown(p.client, SHUT_WR), -ENOTCONN);
    assert_int_equal(os.close(p.client), 0);
    world_close();
}

static void test_sending_to_one_who_left_is_answered_with_reset(void **) {
    world_open(options_of(13));
    const pair p = connected_pair();
    char byte;
    assert_int_equal(os.close(p.server), 0);
    pass(MIO_MILLISECOND);
    assert_int_equal(os.send(p.client, "anybody?", 8, 0), 8);
    pass(MIO_MILLISECOND);
    assert_int_equal(os.send(p.client, "anybody?", 8, 0), -EPIPE); // the FIN came first
    assert_int_equal(os.recv(p.client, &byte, 1, 0), 0);
    assert_int_equal(os.close(p.client), 0);
    world_close();
}

static void test_linger_of_zero_resets(void **) {
    int lost = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        world_open(options_of(seed));
        const pair p = connected_pair();
        char text[8];
        struct linger linger = {1, 0};
        assert_int_equal(os.setsockopt(p.client, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
        assert_int_equal(os.send(p.client, "perhaps", 7, 0), 7);
        assert_int_equal(os.close(p.client), 0);
        pass(MIO_MILLISECOND);
        const ssize_t n = os.recv(p.server, text, 8, 0); // what was under way may be lost
        if (n == 7) assert_int_equal(os.recv(p.server, text, 8, 0), -ECONNRESET);
        else assert_int_equal(n, -ECONNRESET);
        lost += n != 7;
        assert_int_equal(os.recv(p.server, text, 8, 0), 0);
        assert_int_equal(os.close(p.server), 0);
        world_close();
    }
    assert_true(lost > 0 && lost < 20);
}

static void test_resets_by_chance_reach_both_ends(void **) {
    mio_sim_options_t o = options_of(14);
    world_open(o);
    const pair p = connected_pair();
    reinterpret_cast<sim_world *>(world)->options.reset_ppm = 1000000;
    char byte;
    assert_int_equal(os.send(p.client, "x", 1, 0), -ECONNRESET);
    assert_int_equal(os.send(p.client, "x", 1, 0), -EPIPE);
    assert_int_equal(os.recv(p.client, &byte, 1, 0), 0);
    pass(MIO_MILLISECOND);
    assert_int_equal(os.recv(p.server, &byte, 1, 0), -ECONNRESET);
    assert_int_equal(os.close(p.client), 0);
    assert_int_equal(os.close(p.server), 0);
    world_close();
}

static void test_memory_fails_by_chance_for_loops_only(void **) {
    world_open(options_of(15));
    reinterpret_cast<sim_world *>(world)->options.no_memory_ppm = 1000000;
    assert_null(os.alloc(16));
    assert_null(os.map(4096));
    const int fd = tcp_socket();
    assert_int_equal(fd, SIM_FD_BASE);
    assert_int_equal(os.close(fd), 0);
    reinterpret_cast<sim_world *>(world)->options.no_memory_ppm = 500000;
    int failed = 0;
    for (int i = 0; i < 100; i++) {
        void *ptr = os.alloc(16);
        if (ptr == nullptr) failed++;
        else os.release(ptr, 16);
    }
    assert_in_range(failed, 25, 75);
    world_close();
}

static void test_a_world_takes_its_leftovers_along(void **) {
    assert_int_equal(mio_sim_create(&world, nullptr), 0);
    for (int i = 0; i < 100; i++) assert_true(tcp_socket() >= 0);
    const int listener = listen_on("127.0.0.1", 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(connect_to(SIM_FD_BASE + i, ip4("127.0.0.1", port_of(listener))), -EINPROGRESS);
    assert_int_equal(mio_sim_run(world, MIO_SECOND), 0); // no loop is alive: no time passes
    assert_int_equal(mio_sim_open_fds(world), 101);
    assert_int_equal(mio_sim_destroy(world), 0);
    assert_int_equal(tcp_socket(), -EPERM);
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_simulated_descriptors_are_known),
        cmocka_unit_test(test_addresses_in_use),
        cmocka_unit_test(test_names_of_both_ends),
        cmocka_unit_test(test_reuse_port_shares_connections),
        cmocka_unit_test(test_options_are_remembered),
        cmocka_unit_test(test_nobody_listens),
        cmocka_unit_test(test_a_full_backlog_makes_clients_wait),
        cmocka_unit_test(test_who_comes_at_once_with_others_is_connected_before_it_is_accepted),
        cmocka_unit_test(test_closing_a_listener_resets_who_waits),
        cmocka_unit_test(test_bytes_take_their_time),
        cmocka_unit_test(test_bytes_keep_their_order),
        cmocka_unit_test(test_a_full_pipe_takes_no_more),
        cmocka_unit_test(test_half_close),
        cmocka_unit_test(test_close_with_unread_bytes_resets),
        cmocka_unit_test(test_sending_to_one_who_left_is_answered_with_reset),
        cmocka_unit_test(test_linger_of_zero_resets),
        cmocka_unit_test(test_resets_by_chance_reach_both_ends),
        cmocka_unit_test(test_memory_fails_by_chance_for_loops_only),
        cmocka_unit_test(test_a_world_takes_its_leftovers_along),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
