// One attempt at a time: what each answer of a system call does to the carrier and to the ready bit.
#include "fake_loop.h"

#include "backend/perform.h"

using namespace mio;

struct scene {
    loop *l;
    channel *c;
    int peer;
    bool doubtful;
    size_t received;
};

static int scene_open(void **state) {
    auto *s = static_cast<scene *>(calloc(1, sizeof(scene)));
    s->l = fake_loop_prepare(64);
    *state = s;
    return 0;
}

static int scene_close(void **state) {
    auto *s = static_cast<scene *>(*state);
    if (s->c != nullptr) channel_drop(s->c);
    if (s->peer > 0) close(s->peer);
    fake_loop_release(s->l);
    free(s);
    return 0;
}

static scene *scene_tcp(void **state) {
    auto *s = static_cast<scene *>(*state);
    int ends[2];
    tcp_pair(ends);
    s->c = channel_make(ends[0], CHANNEL_TCP);
    s->peer = ends[1];
    return s;
}

static scene *scene_unix(void **state, uint16_t flags) {
    auto *s = static_cast<scene *>(*state);
    int ends[2];
    unix_pair(ends);
    s->c = channel_make(ends[0], flags);
    s->peer = ends[1];
    return s;
}

// Waits until the kernel has moved it: loopback is quick, but not instant.
static void wait_readable(int fd, int bytes) {
    char scratch[65536];
    for (int i = 0; i < 20000; i++) {
        const ssize_t n = recv(fd, scratch, sizeof scratch, MSG_PEEK | MSG_DONTWAIT);
        if (n >= bytes) return;
        usleep(1000);
    }
    fail_msg("nothing came");
}

static void expect(loop *l, int64_t result, uint32_t flags) {
    const completion done = fake_take(l);
    assert_int_equal(done.result, result);
    assert_int_equal(done.flags, flags);
}

// --- receive --------------------------------------------------------------------------------------------------------

static void test_receive_goes_on(void **state) {
    scene *s = scene_tcp(state);
    fake_start(&s->c->in, op_code::receive);
    assert_int_equal(write(s->peer, "hello", 5), 5);
    wait_readable(s->c->fd, 5);
    assert_false(perform(s->l, &s->c->in, s->doubtful, &s->received)); // short, on TCP: empty
    const completion done = fake_take(s->l);
    assert_int_equal(done.result, 5);
    assert_int_equal(done.flags, FINISH_MORE);
    assert_ptr_equal(done.from, &pool_block);
    assert_memory_equal(pool_memory, "hello", 5);
    assert_true(s->c->in.state == request_state::started);
    assert_int_equal(s->received, 5);

    assert_false(perform(s->l, &s->c->in, s->doubtful, &s->received)); // EAGAIN is no record
    assert_int_equal(fake_done(s->l), 0);
    assert_true(s->c->in.state == request_state::started);
}

static void test_a_full_read_leaves_it_ready(void **state) {
    scene *s = scene_tcp(state);
    fake_pool(s->l, 4, false);
    fake_start(&s->c->in, op_code::receive);
    assert_int_equal(write(s->peer, "12345678", 8), 8);
    wait_readable(s->c->fd, 8);
    assert_true(perform(s->l, &s->c->in, s->doubtful, &s->received));
    assert_true(perform(s->l, &s->c->in, s->doubtful, &s->received));
    assert_false(perform(s->l, &s->c->in, s->doubtful, &s->received));
    expect(s->l, 4, FINISH_MORE);
    expect(s->l, 4, FINISH_MORE);
    assert_int_equal(fake_done(s->l), 0);
}

static void test_doubtful_a_short_read_proves_nothing(void **state) {
    scene *s = scene_tcp(state);
    s->doubtful = true;
    fake_start(&s->c->in, op_code::receive);
    assert_int_equal(write(s->peer, "x", 1), 1);
    shutdown(s->peer, SHUT_WR);
    wait_readable(s->c->fd, 1);
    assert_true(perform(s->l, &s->c->in, s->doubtful, &s->received));
    wait_until(has_news, s->c->fd, POLLRDHUP);
    assert_true(perform(s->l, &s->c->in, s->doubtful, &s->received));
    expect(s->l, 1, FINISH_MORE);
    expect(s->l, 0, 0); // the end
    assert_true(s->c->in.state == request_state::free);
}

static void test_an_unknown_socket_is_read_until_eagain(void **state) {
    scene *s = scene_unix(state, 0);
    s->doubtful = true;
    fake_start(&s->c->in, op_code::receive);
    assert_int_equal(write(s->peer, "x", 1), 1);
    assert_true(perform(s->l, &s->c->in, s->doubtful, &s->received));
    assert_false(perform(s->l, &s->c->in, s->doubtful, &s->received));
    expect(s->l, 1, FINISH_MORE);

}

static void send_with_descriptor(int fd, const char *text, size_t n) {
    struct iovec iov = {const_cast<char *>(text), n};
    alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    struct msghdr message = {};
    message.msg_iov = &iov;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(head), &fd, sizeof fd);
    assert_int_equal(sendmsg(fd, &message, 0), static_cast<ssize_t>(n));
}

// A message with descriptors ends a read although bytes are left, and no edge comes for them.
static void test_unix_control_data_is_no_end(void **state) {
    scene *s = scene_unix(state, CHANNEL_UNIX);
    s->doubtful = true;
    const int before = count_descriptors();
    fake_start(&s->c->in, op_code::receive);
    send_with_descriptor(s->peer, "ab", 2);
    assert_int_equal(write(s->peer, "cd", 2), 2);
    assert_true(perform(s->l, &s->c->in, s->doubtful, &s->received));
    expect(s->l, 2, FINISH_MORE);
    assert_true(perform(s->l, &s->c->in, s->doubtful, &s->received));
    expect(s->l, 2, FINISH_MORE);
    assert_false(perform(s->l, &s->c->in, s->doubtful, &s->received));
    assert_memory_equal(pool_memory, "cd", 2);
    assert_int_equal(count_descriptors(), before);
}

static void test_one_shot_read_has_its_own_memory(void **state) {
    scene *s = scene_tcp(state);
    char own[16] = "..";
    lane_request *cancelled = lane_add(&s->c->reads, op_code::read_some, pool_memory, 0, 16);
    cancelled->state = request_state::done;
    lane_add(&s->c->reads, op_code::read_exact, own, 2, 5);
    fake_start(&s->c->in, op_code::receive);
    assert_false(perform(s->l, &s->c->in, s->doubtful, &s->received));
    assert_int_equal(write(s->peer, "abcd", 4), 4);
    wait_readable(s->c->fd, 4);
    assert_true(perform(s->l, &s->c->in, s->doubtful, &s->received)); // its room was filled
    expect(s->l, 3, 0);
    assert_string_equal(own, "..abc");
    assert_int_equal(s->received, 0);

    lane_drop(&s->c->reads);
    lane_add(&s->c->reads, op_code::read_some, own, 0, 16);
    fake_start(&s->c->in, op_code::receive);
    assert_false(perform(s->l, &s->c->in, s->doubtful, &s->received));
    expect(s->l, 1, 0);
    assert_int_equal(own[0], 'd');
}

static void test_read_until_goes_through_the_pool(void **state) {
    scene *s = scene_tcp(state);
    char own[16];
    lane_add(&s->c->reads, op_code::read_until, own, 0, 16);
    fake_start(&s->c->in, op_code::receive);
    assert_int_equal(write(s->peer, "a\n", 2), 2);
    wait_readable(s->c->fd, 2);
    assert_false(perform(s->l, &s->c->in, s->doubtful, &s->received));
    expect(s->l, 2, FINISH_MORE);
}

static void test_a_dry_pool_ends_the_receive(void **state) {
    scene *s = scene_tcp(state);
    fake_pool(s->l, sizeof pool_memory, true);
    fake_start(&s->c->in, op_code::receive);
    assert_true(perform(s->l, &s->c->in, s->doubtful, &s->received));
    expect(s->l, MIO_ENOBUFS, 0);
    assert_int_equal(script[CALL_RECV].count, 0);
}

static void test_receive_errors_are_last(void **state) {
    static const int errors[] = {-ECONNRESET, -ETIMEDOUT, -ENOTCONN, -ENOMEM, -EBADF};
    scene *s = scene_tcp(state);
    for (int error : errors) {
        plan(CALL_RECV, -EINTR);
        plan(CALL_RECV, error);
        fake_start(&s->c->in, op_code::receive);
        assert_true(perform(s->l, &s->c->in, s->doubtful, &s->received));
        expect(s->l, error, 0);
    }
    assert_int_equal(script[CALL_RECV].count, 10);
    assert_int_equal(s->l->counters.backend_calls, 10);
}

// --- send -----------------------------------------------------------------------------------------------------------

static void test_send_one_buffer(void **state) {
    scene *s = scene_tcp(state);
    char text[] = "hello";
    lane_add(&s->c->writes, op_code::write, text, 5, 5)->moved = 1;
    plan(CALL_SEND, -EINTR);
    fake_start(&s->c->out, op_code::send);
    assert_true(perform(s->l, &s->c->out, s->doubtful, &s->received));
    expect(s->l, 4, 0);
    assert_int_equal(script[CALL_SEND].count, 2);
    assert_int_equal(script[CALL_SENDMSG].count, 0);
    char got[8];
    wait_readable(s->peer, 4);
    assert_int_equal(read(s->peer, got, sizeof got), 4);
    assert_memory_equal(got, "ello", 4);
}

static void test_send_gathers_up_to_a_shutdown(void **state) {
    scene *s = scene_tcp(state);
    char text[] = "abcdef";
    lane_add(&s->c->writes, op_code::write, text, 2, 2);
    lane_add(&s->c->writes, op_code::write, text, 6, 6)->state = request_state::done; // cancelled
    lane_add(&s->c->writes, op_code::write, text + 2, 2, 2);
    lane_add(&s->c->writes, op_code::shutdown, nullptr, 0, 0);
    lane_add(&s->c->writes, op_code::write, text + 4, 2, 2);
    plan(CALL_SENDMSG, -EINTR);
    fake_start(&s->c->out, op_code::send);
    assert_true(perform(s->l, &s->c->out, s->doubtful, &s->received));
    expect(s->l, 4, 0);
    assert_int_equal(script[CALL_SENDMSG].count, 2);
    char got[8];
    wait_readable(s->peer, 4);
    assert_int_equal(read(s->peer, got, sizeof got), 4);
    assert_memory_equal(got, "abcd", 4);
}

static void test_send_takes_64_buffers_at_most(void **state) {
    scene *s = scene_tcp(state);
    char text[] = "x";
    for (int i = 0; i < 100; i++) lane_add(&s->c->writes, op_code::write, text, 1, 1);
    fake_start(&s->c->out, op_code::send);
    assert_true(perform(s->l, &s->c->out, s->doubtful, &s->received));
    expect(s->l, PERFORM_VECTORS, 0);
}

static void test_send_of_nothing(void **state) {
    scene *s = scene_tcp(state);
    lane_add(&s->c->writes, op_code::write, nullptr, 0, 0);
    fake_start(&s->c->out, op_code::send);
    assert_true(perform(s->l, &s->c->out, s->doubtful, &s->received));
    expect(s->l, 0, 0);
    assert_int_equal(script[CALL_SEND].count + script[CALL_SENDMSG].count, 0);
}

static void test_send_waits_and_fails(void **state) {
    static const int errors[] = {-EPIPE, -ECONNRESET, -ENOBUFS, -ENOMEM};
    scene *s = scene_tcp(state);
    char text[] = "x";
    lane_add(&s->c->writes, op_code::write, text, 1, 1);
    plan(CALL_SEND, -EAGAIN);
    plan(CALL_SEND, -EINPROGRESS); // fast open without a cookie
    fake_start(&s->c->out, op_code::send);
    assert_false(perform(s->l, &s->c->out, s->doubtful, &s->received));
    assert_false(perform(s->l, &s->c->out, s->doubtful, &s->received));
    assert_int_equal(fake_done(s->l), 0);
    s->c->out.state = request_state::free;
    for (int error : errors) {
        plan(CALL_SEND, error);
        fake_start(&s->c->out, op_code::send);
        assert_true(perform(s->l, &s->c->out, s->doubtful, &s->received));
        expect(s->l, error, 0);
    }
}

static void test_a_dead_peer_raises_no_signal(void **state) {
    scene *s = scene_tcp(state);
    close(s->peer);
    s->peer = -1;
    char text[] = "x";
    lane_add(&s->c->writes, op_code::write, text, 1, 1);
    int64_t result = 0;
    for (int i = 0; i < 20000 && result >= 0; i++) {
        fake_start(&s->c->out, op_code::send);
        assert_true(perform(s->l, &s->c->out, s->doubtful, &s->received));
        result = fake_take(s->l).result;
        usleep(1000);
    }
    assert_true(result == MIO_EPIPE || result == MIO_ECONNRESET);
}

// --- accept ---------------------------------------------------------------------------------------------------------

static scene *scene_listen(void **state) {
    auto *s = static_cast<scene *>(*state);
    s->c = channel_make(listen_loopback(SOCK_NONBLOCK), CHANNEL_TCP);
    fake_start(&s->c->in, op_code::accept);
    return s;
}

static void test_accept_until_eagain(void **state) {
    scene *s = scene_listen(state);
    int clients[3];
    for (int &client : clients) client = connect_loopback();
    wait_until(has_connections, s->c->fd, 3);
    plan(CALL_ACCEPT, -EINTR);
    assert_false(perform(s->l, &s->c->in, s->doubtful, &s->received));
    assert_int_equal(fake_done(s->l), 3);
    for (int client : clients) {
        const completion done = fake_take(s->l);
        assert_int_equal(done.flags, FINISH_MORE);
        const int fd = static_cast<int>(done.result);
        assert_true((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
        close(fd);
        close(client);
    }
}

static void test_accept_takes_16_at_most(void **state) {
    scene *s = scene_listen(state);
    int clients[20];
    for (int &client : clients) client = connect_loopback();
    wait_until(has_connections, s->c->fd, 20);
    assert_true(perform(s->l, &s->c->in, s->doubtful, &s->received));
    assert_int_equal(fake_done(s->l), PERFORM_ACCEPTS);
    assert_false(perform(s->l, &s->c->in, s->doubtful, &s->received));
    assert_int_equal(fake_done(s->l), 20);
    while (fake_done(s->l) > 0) close(static_cast<int>(fake_take(s->l).result));
    for (int client : clients) close(client);
}

static void test_accept_stops_when_the_ring_is_full(void **state) {
    scene *s = scene_listen(state);
    int clients[4];
    for (int &client : clients) client = connect_loopback();
    wait_until(has_connections, s->c->fd, 4);
    s->l->done_tail = s->l->done_head + 62;
    assert_true(perform(s->l, &s->c->in, s->doubtful, &s->received));
    assert_int_equal(done_room(s->l), 0);
    assert_int_equal(script[CALL_ACCEPT].count, 2);
    s->l->done_head += 62;
    while (fake_done(s->l) > 0) close(static_cast<int>(fake_take(s->l).result));
    for (int client : clients) close(client);
}

static void test_accept_errors(void **state) {
    static const int passing[] = {-ECONNABORTED, -EPROTO, -ENETDOWN, -EHOSTUNREACH, -ENONET, -ETIMEDOUT};
    static const int last[] = {-EMFILE, -ENFILE, -ENOBUFS, -ENOMEM, -EBADF, -EINVAL, -EPERM};
    scene *s = scene_listen(state);
    for (int error : passing) plan(CALL_ACCEPT, error);
    assert_false(perform(s->l, &s->c->in, s->doubtful, &s->received));
    for (int error : passing) expect(s->l, error, FINISH_MORE);
    s->c->in.state = request_state::free;
    for (int error : last) {
        plan(CALL_ACCEPT, error);
        fake_start(&s->c->in, op_code::accept);
        assert_true(perform(s->l, &s->c->in, s->doubtful, &s->received)); // the connection is still there
        expect(s->l, error, 0);
    }
}

// --- connect --------------------------------------------------------------------------------------------------------

static scene *scene_connect(void **state) {
    auto *s = static_cast<scene *>(*state);
    s->c = channel_make(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), CHANNEL_TCP);
    fake_start(&s->c->out, op_code::connect);
    return s;
}

static void test_connect_later(void **state) {
    scene *s = scene_connect(state);
    s->peer = listen_loopback(0);
    assert_false(perform_connect(s->l, s->c)); // EINPROGRESS
    assert_true(queue_empty(s->l->settled));
    assert_true(perform(s->l, &s->c->out, s->doubtful, &s->received));
    expect(s->l, 0, 0);
}

static void test_connect_refused(void **state) {
    scene *s = scene_connect(state);
    s->peer = bind_loopback(0);
    const bool over = perform_connect(s->l, s->c);
    if (over) {
        assert_int_equal(fake_settled(s->l, &s->c->out), MIO_ECONNREFUSED);
    } else {
        wait_until(has_news, s->c->fd, POLLOUT);
        assert_true(perform(s->l, &s->c->out, s->doubtful, &s->received));
        expect(s->l, MIO_ECONNREFUSED, 0);
    }
}

static void test_connect_interrupted_goes_on(void **state) {
    scene *s = scene_connect(state);
    s->peer = listen_loopback(0);
    plan(CALL_CONNECT, -EINTR);
    assert_false(perform_connect(s->l, s->c));
    assert_int_equal(script[CALL_CONNECT].count, 1);
    plan(CALL_GETSOCKOPT, -ENOMEM);
    assert_true(perform(s->l, &s->c->out, s->doubtful, &s->received));
    expect(s->l, MIO_ENOMEM, 0);
}

static void test_connect_at_once(void **state) {
    scene *s = scene_connect(state);
    s->l->done_tail = s->l->done_head + 64; // no room is needed
    plan(CALL_CONNECT, -ENETUNREACH);
    assert_true(perform_connect(s->l, s->c));
    assert_int_equal(fake_settled(s->l, &s->c->out), MIO_ENETUNREACH);
}

int main() {
#define TEST(name) cmocka_unit_test_setup_teardown(name, scene_open, scene_close)
    const struct CMUnitTest tests[] = {
        TEST(test_receive_goes_on),
        TEST(test_a_full_read_leaves_it_ready),
        TEST(test_doubtful_a_short_read_proves_nothing),
        TEST(test_an_unknown_socket_is_read_until_eagain),
        TEST(test_unix_control_data_is_no_end),
        TEST(test_one_shot_read_has_its_own_memory),
        TEST(test_read_until_goes_through_the_pool),
        TEST(test_a_dry_pool_ends_the_receive),
        TEST(test_receive_errors_are_last),
        TEST(test_send_one_buffer),
        TEST(test_send_gathers_up_to_a_shutdown),
        TEST(test_send_takes_64_buffers_at_most),
        TEST(test_send_of_nothing),
        TEST(test_send_waits_and_fails),
        TEST(test_a_dead_peer_raises_no_signal),
        TEST(test_accept_until_eagain),
        TEST(test_accept_takes_16_at_most),
        TEST(test_accept_stops_when_the_ring_is_full),
        TEST(test_accept_errors),
        TEST(test_connect_later),
        TEST(test_connect_refused),
        TEST(test_connect_interrupted_goes_on),
        TEST(test_connect_at_once),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
