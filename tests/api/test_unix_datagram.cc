// Unix datagram sockets: names, pairs, full receivers, receivers that are gone.
#include "datagrams.h"

#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

using namespace api;

#define NEEDS_UNIX() KERNEL_ONLY("a simulated world has no unix sockets")

// A path of this test's own, not there.
static const char *path_of(const char *name) {
    static char path[100];
    const char *folder = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/mio-%d-%s", folder != nullptr && strlen(folder) < 60 ? folder : "/tmp",
             static_cast<int>(getpid()), name);
    unlink(path);
    return path;
}

TEST(a_name_of_a_datagram_socket_has_107_bytes_at_most) {
    NEEDS_UNIX();
    mio_loop_t *loop = loop_open();
    mio_udp_t *udp = nullptr;
    char name[200];
    memset(name, 'p', sizeof name);
    assert_is(mio_unix_datagram_open(loop, name, 108, nullptr, &udp), MIO_EINVAL);
    assert_is(mio_unix_datagram_open(loop, "", 0, nullptr, &udp), MIO_EINVAL);
    assert_is(mio_unix_datagram_open(loop, "a\0b", 3, nullptr, &udp), MIO_EINVAL);
    name[0] = 0; // an abstract one: 107 behind it
    snprintf(name + 1, 20, "%019d", static_cast<int>(getpid()));
    assert_is(mio_unix_datagram_open(loop, name, 109, nullptr, &udp), MIO_EINVAL);
    ck_assert_ptr_null(udp);
    assert_is(mio_unix_datagram_open(loop, name, 108, nullptr, &udp), 0);
    mio_addr_t at;
    assert_is(mio_udp_local(udp, &at), 0);
    assert_is(at.len, offsetof(struct sockaddr_un, sun_path) + 108);
}

TEST(a_world_without_unix_sockets_says_so) {
    SIM_ONLY("a kernel has them");
    mio_loop_t *loop = loop_open();
    mio_udp_t *a = nullptr, *b = nullptr;
    assert_is(mio_unix_datagram_open(loop, "\0x", 2, nullptr, &a), MIO_ENOTSUP);
    assert_is(mio_unix_datagram_pair(loop, nullptr, &a, &b), MIO_ENOTSUP);
    ck_assert_ptr_null(a);
}

TEST(unix_datagrams_answer_each_mistake) {
    NEEDS_UNIX();
    mio_loop_t *loop = loop_open();
    mio_udp_t *udp = nullptr;
    assert_is(mio_unix_datagram_open(nullptr, nullptr, 0, nullptr, &udp), MIO_EINVAL);
    assert_is(mio_unix_datagram_open(loop, nullptr, 0, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_unix_datagram_open(loop, "/no/such/folder/socket", 0, nullptr, &udp), MIO_ENOENT);
    assert_is(mio_unix_datagram_pair(loop, nullptr, &udp, nullptr), MIO_EINVAL);
    mio_udp_options_t options = MIO_UDP_OPTIONS_INIT;
    options.want_local = 1;
    assert_is(mio_unix_datagram_open(loop, nullptr, 0, &options, &udp), MIO_ENOTSUP);
    assert_is(mio_unix_datagram_open(loop, nullptr, 0, nullptr, &udp), 0);
    mio_addr_t ip;
    assert_is(mio_addr_parse("127.0.0.1", 1, &ip), 0);
    mio_buf_t buf = text_buf(loop, "x");
    assert_is(mio_udp_send(udp, &buf, 1, &ip, nullptr, nullptr), MIO_EINVAL);
    mio_buf_release(&buf);
    assert_is(mio_udp_ttl(udp, 1), MIO_ENOTSUP);
    assert_is(mio_udp_broadcast(udp, 1), MIO_ENOTSUP);
    assert_is(mio_udp_join(udp, &ip, nullptr, 0), MIO_ENOTSUP);
    mio_datagram_t d = {};
    d.buf = text_buf(loop, "x");
    d.segment_size = 1;
    assert_is(mio_udp_send_many(udp, &d, 1, nullptr, nullptr, nullptr), MIO_ENOTSUP);
    mio_buf_release(&d.buf);
}

TEST(names_and_abstract_names_carry_datagrams_with_their_senders) {
    NEEDS_UNIX();
    mio_loop_t *loop = loop_open();
    const char *path = path_of("named");
    char abstract[64] = "";
    const size_t abstract_len = 1 + static_cast<size_t>(snprintf(abstract + 1, sizeof abstract - 1, "mio-test-%d",
                                                                 static_cast<int>(getpid())));
    mio_udp_t *a, *b, *nameless;
    assert_is(mio_unix_datagram_open(loop, path, 0, nullptr, &a), 0);
    assert_is(mio_unix_datagram_open(loop, abstract, abstract_len, nullptr, &b), 0);
    assert_is(mio_unix_datagram_open(loop, nullptr, 0, nullptr, &nameless), 0);
    mio_udp_t *second = nullptr;
    assert_is(mio_unix_datagram_open(loop, path, 0, nullptr, &second), MIO_EADDRINUSE);
    assert_is(mio_unix_datagram_open(loop, abstract, abstract_len, nullptr, &second), MIO_EADDRINUSE);
    told t = {}, back = {};
    t.stop_after = 1;
    back.stop_after = 1;
    ck_assert_int_gt(mio_udp_recv_start(a, told_by, &t), 0);
    ck_assert_int_gt(mio_udp_recv_start(b, told_by, &back), 0);
    mio_addr_t a_at, b_at;
    assert_is(mio_unix_addr(path, 0, &a_at), 0);
    assert_is(mio_udp_local(b, &b_at), 0);
    send_text(b, "from the abstract", &a_at);
    run_to_stop(loop);
    ck_assert_str_eq(t.text, "from the abstract|");
    assert_is(t.from.len, b_at.len);
    assert_is(memcmp(&t.from.u, &b_at.u, b_at.len), 0);
    send_text(a, "answer", &t.from);
    run_to_stop(loop);
    ck_assert_str_eq(back.text, "answer|");
    t.stop_after = 2;
    send_text(nameless, "from nobody", &a_at);
    run_to_stop(loop);
    assert_is(t.from.len, 0);
    unlink(path);
}

TEST(a_pair_talks_and_keeps_empty_datagrams) {
    NEEDS_UNIX();
    mio_loop_t *loop = loop_open();
    mio_udp_t *a, *b;
    assert_is(mio_unix_datagram_pair(loop, nullptr, &a, &b), 0);
    told t = {};
    t.stop_after = 3;
    ck_assert_int_gt(mio_udp_recv_start(b, told_by, &t), 0);
    mio_buf_t empty = {};
    send_text(a, "one", nullptr);
    ck_assert_int_gt(mio_udp_send(a, &empty, 1, nullptr, nullptr, nullptr), 0);
    send_text(a, "two", nullptr);
    run_to_stop(loop);
    ck_assert_str_eq(t.text, "one||two|");
    mio_addr_t peer;
    assert_is(mio_udp_peer(a, &peer), 0);
}

// Nothing is dropped: a receiver that is slow makes its senders wait, connected or not.
TEST(a_full_receiver_is_waited_for_and_nothing_is_lost) {
    NEEDS_UNIX();
    mio_loop_t *loop = loop_open();
    const char *path = path_of("full");
    mio_addr_t at;
    assert_is(mio_unix_addr(path, 0, &at), 0);
    for (int connected = 0; connected < 2; connected++) {
        unlink(path);
        mio_udp_t *receiver, *sender;
        assert_is(mio_unix_datagram_open(loop, path, 0, nullptr, &receiver), 0);
        assert_is(mio_unix_datagram_open(loop, nullptr, 0, nullptr, &sender), 0);
        if (connected == 1) assert_is(mio_udp_connect(sender, &at), 0);
        sendings s = {};
        constexpr int COUNT = 600; // more than any net.unix.max_dgram_qlen that is usual
        for (int i = 0; i < COUNT; i++) send_text(sender, "x", connected == 1 ? nullptr : &at, &s);
        run_for(loop, 10 * MIO_MILLISECOND);
        ck_assert_int_lt(s.calls, COUNT);
        ck_assert_uint_gt(mio_udp_queued_bytes(sender), 0);
        assert_is(mio_udp_try_send(sender, "y", 1, connected == 1 ? nullptr : &at), MIO_EAGAIN);
        told t = {};
        t.stop_after = COUNT;
        ck_assert_int_gt(mio_udp_recv_start(receiver, told_by, &t), 0);
        run_to_stop(loop);
        assert_is(t.bytes, COUNT);
        (void)comes(loop, [&] { return s.calls >= COUNT; });
        assert_is(s.calls, COUNT);
        assert_is(s.failed, 0);
        mio_handle_abandon(receiver);
        mio_handle_abandon(sender);
    }
    unlink(path);
}

TEST(closing_while_a_receiver_is_full_brings_every_buffer_back) {
    NEEDS_UNIX();
    mio_loop_t *loop = loop_open();
    mio_udp_t *a, *b;
    assert_is(mio_unix_datagram_pair(loop, nullptr, &a, &b), 0);
    sendings s = {};
    constexpr int COUNT = 600;
    for (int i = 0; i < COUNT; i++) send_text(a, "x", nullptr, &s);
    run_for(loop, 10 * MIO_MILLISECOND);
    const int sent = s.calls;
    ck_assert_int_lt(sent, COUNT);
    assert_is(s.failed, 0);
    outcome closed = {};
    assert_is(mio_handle_close(a, close_told, &closed), 0);
    run_to_end(loop);
    assert_is(s.calls, COUNT);
    assert_is(s.failed, COUNT - sent);
    assert_is(s.status, MIO_ECANCELED);
    assert_is(closed.calls, 1);
}

TEST(a_receiver_that_is_gone_is_an_error_of_the_send) {
    NEEDS_UNIX();
    mio_loop_t *loop = loop_open();
    const char *path = path_of("gone");
    mio_addr_t at;
    assert_is(mio_unix_addr(path, 0, &at), 0);
    mio_udp_t *receiver, *sender;
    assert_is(mio_unix_datagram_open(loop, path, 0, nullptr, &receiver), 0);
    assert_is(mio_unix_datagram_open(loop, nullptr, 0, nullptr, &sender), 0);
    assert_is(mio_handle_close(receiver, nullptr, nullptr), 0);
    run_to_end(loop);
    sendings s = {};
    s.stop_after = 1;
    send_text(sender, "x", &at, &s);
    run_to_stop(loop);
    assert_is(s.status, MIO_ECONNREFUSED); // the file is there, nobody behind it
    unlink(path);
    s = {};
    s.stop_after = 1;
    send_text(sender, "x", &at, &s);
    run_to_stop(loop);
    assert_is(s.status, MIO_ENOENT);
    mio_udp_t *a, *b;
    assert_is(mio_unix_datagram_pair(loop, nullptr, &a, &b), 0);
    mio_handle_abandon(b);
    s = {};
    s.stop_after = 1;
    run_for(loop, MIO_MILLISECOND);
    send_text(a, "x", nullptr, &s);
    run_to_stop(loop);
    ck_assert(s.status == MIO_ECONNREFUSED || s.status == MIO_ENOTCONN || s.status == MIO_EPIPE || s.status == MIO_ECONNRESET);
}

// The sender is closed while the kernel's "not now" is on its way to it: that starts no rest, whose timer would outlive it.
TEST(a_close_while_a_refusal_is_on_its_way_leaves_no_timer) {
    NEEDS_UNIX();
    mio_loop_t *loop = loop_open();
    const char *path = path_of("refused");
    mio_addr_t at;
    assert_is(mio_unix_addr(path, 0, &at), 0);
    mio_udp_t *receiver, *filler;
    assert_is(mio_unix_datagram_open(loop, path, 0, nullptr, &receiver), 0);
    assert_is(mio_unix_datagram_open(loop, nullptr, 0, nullptr, &filler), 0);
    int filled = 0;
    while (filled < 100000 && mio_udp_try_send(filler, "x", 1, &at) == 1) filled++;
    assert_is(mio_udp_try_send(filler, "x", 1, &at), MIO_EAGAIN);
    struct shared {
        mio_udp_t *sender;
        outcome closed;
        bool now;
    };
    static shared sh;
    mio_hook_t *hook = nullptr;
    assert_is(mio_hook_create(loop, MIO_HOOK_CHECK, &hook), 0);
    assert_is(mio_hook_start(hook, [](mio_hook_t *, void *) {
        if (is_over() || !sh.now || sh.sender == nullptr) return;
        assert_is(mio_handle_close(sh.sender, close_told, &sh.closed), 0);
        sh.sender = nullptr;
    }, nullptr), 0);
    for (int i = 0; i < 20; i++) {
        sh = shared();
        assert_is(mio_unix_datagram_open(loop, nullptr, 0, nullptr, &sh.sender), 0);
        sendings s = {};
        send_text(sh.sender, "y", &at, &s);
        sh.now = true;
        for (int rounds = 0; rounds < 1000 && sh.closed.calls == 0; rounds++)
            assert_ok(mio_loop_run_once(loop, MIO_MILLISECOND));
        assert_is(sh.closed.calls, 1);
        assert_is(s.calls, 1);
        assert_is(s.status, MIO_ECANCELED);
        mio_udp_t *next; // in its place
        assert_is(mio_unix_datagram_open(loop, nullptr, 0, nullptr, &next), 0);
        run_for(loop, 3 * MIO_MILLISECOND);
        mio_handle_abandon(next);
    }
    unlink(path);
}

TEST(an_open_that_fails_leaves_no_name) {
    NEEDS_UNIX();
    mio_loop_t *loop = loop_open();
    const char *path = path_of("failed");
    mio_udp_t *udp = nullptr;
    mio_udp_options_t options = MIO_UDP_OPTIONS_INIT;
    options.want_local = 1;
    assert_is(mio_unix_datagram_open(loop, path, 0, &options, &udp), MIO_ENOTSUP);
    assert_is(access(path, F_OK), -1);
    counting *memory = loop_counting(loop);
    memory->fail_on = true;
    memory->fail_at = 1;
    mio_udp_t *taken[256];
    unsigned n = 0;
    int error = 0; // the slots that are there come first
    while (n < 256 && (error = mio_unix_datagram_open(loop, nullptr, 0, nullptr, &taken[n])) == 0) n++;
    assert_is(error, MIO_ENOMEM);
    assert_is(mio_unix_datagram_open(loop, path, 0, nullptr, &udp), MIO_ENOMEM);
    memory->fail_on = false;
    memory->fail_at = 0;
    assert_is(access(path, F_OK), -1);
    while (n != 0) mio_handle_abandon(taken[--n]);
}
