// c-ares on a loop: against a name server on the same loop that answers, keeps silent or lies as the name says.
#include <mio/adapters/cares.h>

#include "harness.h"

#include <netdb.h>
#include <netinet/in.h>
#include <string>
#include <unistd.h>
#include <vector>

using namespace api;

// --- the server -----------------------------------------------------------------------------------------------------

// RFC 1035: "silent..." is not answered, "missing..." is NXDOMAIN, "garbage..." gets three bytes, "large..." is cut off over
// UDP (the client comes again by TCP), all else is 192.0.2.<number of the queries so far>.
static int asked, asked_by_tcp;

static std::string answer_to(const std::string &query, bool tcp) {
    std::string name;
    size_t at = 12;
    while (at < query.size() && query[at] != 0) {
        const auto n = static_cast<unsigned char>(query[at]);
        name += query.substr(at + 1, n) + ".";
        at += n + 1u;
    }
    const std::string question = query.substr(12, at + 5 - 12);
    asked++;
    if (tcp) asked_by_tcp++;
    if (name.rfind("silent", 0) == 0) return "";
    if (name.rfind("garbage", 0) == 0 && asked == 1) return "???";
    const bool missing = name.rfind("missing", 0) == 0;
    const bool cut = !tcp && name.rfind("large", 0) == 0;
    std::string out = query.substr(0, 2);
    out += static_cast<char>(cut ? 0x86 : 0x84);        // a response, authoritative; truncated
    out += static_cast<char>(missing ? 0x03 : 0x00);    // no such name
    out += std::string("\0\1", 2);
    out += missing || cut ? std::string("\0\0", 2) : std::string("\0\1", 2);
    out += std::string("\0\0\0\0", 4);
    out += question;
    if (missing || cut) return out;
    out += std::string("\xc0\x0c\0\1\0\1\0\0\0\1\0\4", 12);
    out += std::string("\xc0\0\2", 3) + static_cast<char>(asked);
    return out;
}

static void query_came(mio_udp_t *udp, int status, mio_datagram_t *datagram, void *) {
    if (status < 0) return;
    const std::string answer = answer_to(std::string(datagram->buf.base, datagram->buf.len), false);
    if (!answer.empty()) (void)mio_udp_try_send(udp, answer.data(), answer.size(), &datagram->addr);
}

static void query_came_by_tcp(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *) {
    if (n < 0) {
        mio_handle_close(stream, nullptr, nullptr);
        return;
    }
    if (buf->len <= 2) return;
    const std::string answer = answer_to(std::string(buf->base + 2, buf->len - 2), true);
    const char head[2] = {0, static_cast<char>(answer.size())};
    ck_assert_int_eq(mio_stream_try_write(stream, head, 2), 2);
    ck_assert_int_eq(mio_stream_try_write(stream, answer.data(), answer.size()), static_cast<int64_t>(answer.size()));
}

// UDP and TCP on one port.
static int serve_on(mio_loop_t *loop) {
    mio_addr_t at;
    asked = asked_by_tcp = 0;
    mio_listener_t *listener = listen_on(loop, [](mio_listener_t *, int status, mio_stream_t *stream, void *) {
        if (status != 0) return;
        mio_handle_unref(stream);
        ck_assert_int_gt(mio_stream_read_start(stream, 0, query_came_by_tcp, nullptr), 0);
    }, nullptr, &at);
    mio_handle_unref(listener);
    mio_udp_t *udp;
    assert_is(mio_udp_open(loop, AF_INET, nullptr, &udp), 0);
    assert_is(mio_udp_bind(udp, &at), 0);
    ck_assert_int_gt(mio_udp_recv_start(udp, query_came, nullptr), 0);
    mio_handle_unref(udp);
    return mio_addr_port(&at);
}

// --- the client -----------------------------------------------------------------------------------------------------

struct client {
    mio_loop_t *loop;
    mio_cares_t *cares = nullptr;
    int told, found;
    int last;            // status
    int left;            // the loop is stopped at the so manieth answer
    bool close_in_answer;
};

static client *client_open(int port = 0, int timeout_ms = 10000, int tries = 2, int flags = 0) {
    auto *c = new client();
    c->loop = loop_open();
    if (port == 0) port = serve_on(c->loop);
    struct ares_options options = {};
    options.flags = flags;
    options.timeout = timeout_ms;
    options.tries = tries;
    options.lookups = const_cast<char *>("b"); // no files
    options.domains = nullptr;
    options.ndomains = 0;
    assert_is(mio_cares_open(c->loop, &options, ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS | ARES_OPT_DOMAINS,
                             &c->cares), 0);
    const std::string server = "127.0.0.1:" + std::to_string(port);
    assert_is(ares_set_servers_ports_csv(mio_cares_channel(c->cares), server.c_str()), ARES_SUCCESS);
    return c;
}

static void answered(void *arg, int status, int, struct ares_addrinfo *found) {
    auto *c = static_cast<client *>(arg);
    c->told++;
    c->last = status;
    if (status == ARES_SUCCESS) {
        ck_assert_ptr_nonnull(found);
        const auto *at = reinterpret_cast<const sockaddr_in *>(found->nodes->ai_addr);
        assert_is(at->sin_family, AF_INET);
        ck_assert_uint_eq(ntohl(at->sin_addr.s_addr) >> 8, 0xc00002);
        c->found++;
        ares_freeaddrinfo(found);
    }
    if (c->close_in_answer) {
        mio_cares_close(c->cares);
        c->cares = nullptr;
    }
    if (--c->left == 0) mio_loop_stop(c->loop);
}

static void ask(client *c, const char *name) {
    struct ares_addrinfo_hints hints = {};
    hints.ai_family = AF_INET;
    ares_getaddrinfo(mio_cares_channel(c->cares), name, nullptr, &hints, answered, c);
}

static void client_close(client *c) {
    mio_cares_close(c->cares);
    loop_close(c->loop);
    delete c;
}

// --- tests ----------------------------------------------------------------------------------------------------------

TEST(opening_answers_each_mistake) {
    KERNEL_ONLY("c-ares has sockets of its own");
    mio_loop_t *loop = loop_open();
    mio_cares_t *cares = nullptr;
    struct ares_options options = {};
    assert_is(mio_cares_open(nullptr, nullptr, 0, &cares), MIO_EINVAL);
    assert_is(mio_cares_open(loop, nullptr, 0, nullptr), MIO_EINVAL);
    assert_is(mio_cares_open(loop, &options, ARES_OPT_SOCK_STATE_CB, &cares), MIO_EINVAL);
    assert_is(mio_cares_open(loop, nullptr, 0, &cares), 0);
    ck_assert_ptr_nonnull(mio_cares_channel(cares));
    mio_cares_close(cares);
    mio_cares_close(nullptr);
    run_to_end(loop);
}

TEST(names_are_found_and_the_loop_ends_by_itself) {
    KERNEL_ONLY("c-ares has sockets of its own");
    client *c = client_open();
    ask(c, "a.example");
    run_to_end(c->loop);
    assert_is(c->told, 1);
    assert_is(c->last, ARES_SUCCESS);
    ask(c, "b.example"); // and again, with a new socket
    run_to_end(c->loop);
    assert_is(c->found, 2);
    client_close(c);
}

TEST(a_hundred_queries_at_once) {
    KERNEL_ONLY("c-ares has sockets of its own");
    client *c = client_open();
    for (int i = 0; i < 100; i++) ask(c, ("name" + std::to_string(i) + ".example").c_str());
    run_to_end(c->loop);
    assert_is(c->told, 100);
    assert_is(c->found, 100);
    client_close(c);
}

TEST(a_missing_name) {
    KERNEL_ONLY("c-ares has sockets of its own");
    client *c = client_open();
    ask(c, "missing.example");
    run_to_end(c->loop);
    assert_is(c->told, 1);
    assert_is(c->last, ARES_ENOTFOUND);
    client_close(c);
}

TEST(what_is_cut_off_comes_by_tcp) {
    KERNEL_ONLY("c-ares has sockets of its own");
    client *c = client_open();
    ask(c, "large.example");
    run_to_end(c->loop);
    assert_is(c->last, ARES_SUCCESS);
    assert_is(asked_by_tcp, 1);
    client_close(c);
}

TEST(garbage_is_passed_over) {
    KERNEL_ONLY("c-ares has sockets of its own");
    client *c = client_open(0, 100, 3);
    ask(c, "garbage.example");
    run_to_end(c->loop);
    assert_is(c->told, 1);
    assert_is(c->last, ARES_SUCCESS); // the second time
    ck_assert_int_ge(asked, 2);
    client_close(c);
}

TEST(a_silent_server_is_tried_again_and_given_up) {
    KERNEL_ONLY("c-ares has sockets of its own");
    client *c = client_open(0, 100, 2);
    const int64_t begun_ns = clock_ns();
    ask(c, "silent.example");
    run_to_end(c->loop);
    assert_is(c->last, ARES_ETIMEOUT);
    assert_is(asked, 2);
    ck_assert_int_ge(clock_ns() - begun_ns, 190 * MIO_MILLISECOND);
    ck_assert_uint_lt(metrics(c->loop).turns, 500); // it slept
    client_close(c);
}

// A query that is started while another one waits for its second time-out has its own, earlier one.
TEST(a_later_query_may_time_out_earlier) {
    KERNEL_ONLY("c-ares has sockets of its own");
    client *c = client_open(0, 200, 1);
    static client *shared;
    shared = c;
    ask(c, "silent1.example");
    mio_timer_t *timer;
    assert_is(mio_timer_create(c->loop, &timer), 0);
    assert_is(mio_timer_start(timer, 100 * MIO_MILLISECOND, 0, [](mio_timer_t *t, void *) {
        ask(shared, "silent2.example");
        mio_handle_abandon(t);
    }, nullptr), 0);
    const int64_t begun_ns = clock_ns();
    run_to_end(c->loop);
    assert_is(c->told, 2);
    ck_assert_int_ge(clock_ns() - begun_ns, 290 * MIO_MILLISECOND);
    client_close(c);
}

TEST(nobody_listens) {
    KERNEL_ONLY("c-ares has sockets of its own");
    mio_addr_t nowhere;
    const int fd = raw_listen(1, &nowhere); // of UDP nobody has it either, most likely
    close(fd);
    client *c = client_open(mio_addr_port(&nowhere));
    ask(c, "a.example");
    run_to_end(c->loop);
    assert_is(c->told, 1);
    ck_assert_int_ne(c->last, ARES_SUCCESS);
    ck_assert_int_ne(c->last, ARES_EDESTRUCTION);
    client_close(c);
}

TEST(closing_tells_each_query) {
    KERNEL_ONLY("c-ares has sockets of its own");
    client *c = client_open();
    for (int i = 0; i < 5; i++) ask(c, "silent.example");
    for (int i = 0; i < 3; i++) assert_ok(mio_loop_run_once(c->loop, 10 * MIO_MILLISECOND));
    mio_cares_close(c->cares);
    c->cares = nullptr;
    assert_is(c->told, 5);
    assert_is(c->last, ARES_EDESTRUCTION);
    run_to_end(c->loop);
    client_close(c);
}

TEST(the_adapter_is_closed_in_an_answer) {
    KERNEL_ONLY("c-ares has sockets of its own");
    client *c = client_open();
    c->close_in_answer = true;
    for (int i = 0; i < 5; i++) ask(c, "a.example");
    run_to_end(c->loop);
    assert_is(c->told, 5);
    ck_assert_ptr_null(c->cares);
    client_close(c);
}

TEST(a_cancel_in_the_midst) {
    KERNEL_ONLY("c-ares has sockets of its own");
    client *c = client_open();
    for (int i = 0; i < 5; i++) ask(c, "silent.example");
    for (int i = 0; i < 3; i++) assert_ok(mio_loop_run_once(c->loop, 10 * MIO_MILLISECOND));
    ares_cancel(mio_cares_channel(c->cares));
    assert_is(c->told, 5);
    assert_is(c->last, ARES_ECANCELLED);
    run_to_end(c->loop);
    ask(c, "a.example");
    run_to_end(c->loop);
    assert_is(c->last, ARES_SUCCESS);
    client_close(c);
}

TEST(the_loop_goes_first) {
    KERNEL_ONLY("c-ares has sockets of its own");
    client *c = client_open();
    for (int i = 0; i < 3; i++) ask(c, "silent.example");
    for (int i = 0; i < 3; i++) assert_ok(mio_loop_run_once(c->loop, 10 * MIO_MILLISECOND));
    loop_close(c->loop);
    c->loop = nullptr;
    assert_is(c->told, 0);
    ask(c, "silent.example"); // nobody waits for it, nothing breaks
    mio_cares_close(c->cares);
    assert_is(c->told, 4);
    assert_is(c->last, ARES_EDESTRUCTION);
    delete c;
}

TEST(sockets_that_stay_open_are_used_again) {
    KERNEL_ONLY("c-ares has sockets of its own");
    client *c = client_open(0, 10000, 2, ARES_FLAG_STAYOPEN);
    for (int i = 0; i < 3; i++) {
        c->left = 1;
        ask(c, "a.example");
        run_to_stop(c->loop);
        assert_is(c->last, ARES_SUCCESS);
    }
    client_close(c);
}

// The queries end by c-ares' time-outs, which need no poll.
TEST(without_memory_for_a_poll_queries_time_out) {
    KERNEL_ONLY("c-ares has sockets of its own");
    client *c = client_open(0, 50, 2);
    loop_counting(c->loop)->fail_on = true;
    loop_counting(c->loop)->fail_at = 1;
    ask(c, "silent.example");
    while (c->told == 0) (void)mio_loop_run_once(c->loop, 10 * MIO_MILLISECOND);
    loop_counting(c->loop)->fail_on = false;
    loop_counting(c->loop)->fail_at = 0;
    assert_is(c->last, ARES_ETIMEOUT);
    client_close(c);
}
