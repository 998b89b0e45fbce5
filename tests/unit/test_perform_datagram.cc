// One attempt at datagrams: what each answer of a system call does to the carrier, in batches and when errors mix in.
#include "fake_loop.h"

#include "backend/perform.h"

using namespace mio;

struct answer {
    int result;  // < 0: an error; else so many messages
    int len;     // of each
};

struct answers {
    answer list[8];
    int planned, used;
    unsigned calls, offered; // of the latest: how many messages were offered
};

static answers in, out;
static int queue_errors; // messages that the error queue has

static answer next_of(answers *a, unsigned n) {
    a->calls++;
    a->offered = n;
    return a->used < a->planned ? a->list[a->used++] : answer{-EAGAIN, 0};
}

static void plan_of(answers *a, int result, int len = 0) { a->list[a->planned++] = answer{result, len}; }

static int fake_recvmmsg(int, struct sys_message *messages, unsigned n, int flags) {
    assert_true((flags & MSG_DONTWAIT) != 0);
    const answer now = next_of(&in, n);
    for (int i = 0; i < now.result; i++) {
        messages[i].len = static_cast<unsigned>(now.len);
        memset(messages[i].head.msg_iov->iov_base, 'a' + i, static_cast<size_t>(now.len));
        messages[i].head.msg_namelen = 0;
        messages[i].head.msg_controllen = 0;
        messages[i].head.msg_flags = 0;
    }
    return now.result;
}

static int fake_sendmmsg(int, struct sys_message *, unsigned n, int flags) {
    assert_int_equal(flags, MSG_DONTWAIT | MSG_NOSIGNAL);
    return next_of(&out, n).result;
}

static ssize_t fake_errors(int, struct msghdr *message, int flags) {
    if ((flags & MSG_ERRQUEUE) == 0 || queue_errors == 0) return -EAGAIN;
    queue_errors--;
    message->msg_controllen = 0; // about something else than the network
    return 0;
}

struct scene {
    loop *l;
    channel *c;
    size_t received;
};

static int scene_open(void **state) {
    auto *s = static_cast<scene *>(calloc(1, sizeof(scene)));
    s->l = fake_loop_prepare(64);
    s->c = channel_make(-1, CHANNEL_DATAGRAM);
    scripted.recvmmsg = fake_recvmmsg;
    scripted.sendmmsg = fake_sendmmsg;
    scripted.recvmsg = fake_errors;
    in = out = answers();
    queue_errors = 0;
    fake_shape = datagram_shape();
    fake_shape.payload_room = 3000;
    fake_shape.name_room = DATAGRAM_NAME_IP;
    fake_shape.family = AF_INET;
    *state = s;
    return 0;
}

static int scene_close(void **state) {
    auto *s = static_cast<scene *>(*state);
    channel_drop(s->c);
    fake_loop_release(s->l);
    free(s);
    return 0;
}

static bool receive(scene *s, bool doubtful) { return perform(s->l, &s->c->in, doubtful, &s->received); }

static void expect(loop *l, int64_t result, uint32_t flags) {
    const completion done = fake_take(l);
    assert_int_equal(done.result, result);
    assert_int_equal(done.flags, flags);
}

// --- in -------------------------------------------------------------------------------------------------------------

static void a_batch_that_is_not_full_proves_that_there_is_no_more(void **state) {
    auto *s = static_cast<scene *>(*state);
    fake_start(&s->c->in, op_code::receive_datagrams);
    plan_of(&in, -EINTR);
    plan_of(&in, 3, 5);
    assert_false(receive(s, false));
    assert_int_equal(in.calls, 2);
    assert_int_equal(s->received, 15);
    for (uint32_t i = 0; i < 3; i++) {
        const completion done = fake_take(s->l);
        assert_int_equal(done.result, 5);
        assert_int_equal(done.flags, FINISH_MORE);
        assert_int_equal(done.offset, i * datagram_stride(&fake_shape));
        const char *run = pool_memory + done.offset;
        datagram_head head;
        memcpy(&head, run, sizeof head);
        assert_int_equal(head.payload_len, 5);
        assert_int_equal(run[datagram_offset(&fake_shape)], 'a' + static_cast<int>(i));
    }
    plan_of(&in, 2, 0); // of no bytes
    assert_true(receive(s, true)); // an error was told of: it may hide behind the batch
    expect(s->l, 0, FINISH_MORE);
    expect(s->l, 0, FINISH_MORE);
    const unsigned fit = static_cast<unsigned>(sizeof pool_memory / datagram_stride(&fake_shape));
    assert_true(fit < DATAGRAM_BATCH); // as many as there is memory for
    plan_of(&in, static_cast<int>(fit), 1);
    assert_true(receive(s, false));
    assert_int_equal(in.offered, fit);
}

static void errors_of_the_network_are_told_and_receiving_goes_on(void **state) {
    auto *s = static_cast<scene *>(*state);
    fake_start(&s->c->in, op_code::receive_datagrams);
    plan_of(&in, -ECONNREFUSED);
    assert_true(receive(s, false));
    expect(s->l, -ECONNREFUSED, FINISH_MORE);
    assert_true(s->c->in.state == request_state::started);
    assert_false(receive(s, true)); // EAGAIN, and there is no queue to ask
    assert_int_equal(fake_done(s->l), 0);
    plan_of(&in, -ENOBUFS); // the kernel's: that is not the pool's
    receive(s, false);
    expect(s->l, -ENOMEM, 0);
    fake_start(&s->c->in, op_code::receive_datagrams);
    plan_of(&in, -EBADF);
    receive(s, false);
    expect(s->l, -EBADF, 0);
}

static void the_queue_of_errors_is_asked_when_an_error_was_told_of(void **state) {
    auto *s = static_cast<scene *>(*state);
    fake_shape.errors = true;
    fake_start(&s->c->in, op_code::receive_datagrams);
    queue_errors = 20;
    plan_of(&in, -ECONNREFUSED);
    assert_true(receive(s, false));
    assert_int_equal(queue_errors, 4); // some at a time
    assert_true(receive(s, true)); // EAGAIN of the socket, not of the queue
    assert_int_equal(queue_errors, 0);
    assert_false(receive(s, true));
    assert_int_equal(fake_done(s->l), 0); // all of them were about something else
}

static void a_pool_that_is_dry_ends_the_carrier(void **state) {
    auto *s = static_cast<scene *>(*state);
    fake_pool(s->l, sizeof pool_memory, true);
    fake_start(&s->c->in, op_code::receive_datagrams);
    assert_true(receive(s, false));
    assert_int_equal(in.calls, 0);
    expect(s->l, MIO_ENOBUFS, 0);
}

// --- out ------------------------------------------------------------------------------------------------------------

static void add(scene *s, size_t total, uint32_t segment) {
    static char bytes[5000];
    lane_request *req = lane_add(&s->c->writes, op_code::datagram, bytes, total, sizeof bytes);
    req->total = static_cast<int64_t>(total);
    datagram_target *target = datagram_target_of(req);
    target->segment = segment;
}

static bool send_now(scene *s) { return perform(s->l, &s->c->out, false, &s->received); }

static void the_first_error_may_be_an_earlier_datagrams(void **state) {
    auto *s = static_cast<scene *>(*state);
    add(s, 100, 0);
    add(s, 0, 0);
    fake_start(&s->c->in, op_code::receive_datagrams);
    fake_start(&s->c->out, op_code::send_datagrams);
    plan_of(&out, -ECONNREFUSED);
    plan_of(&out, 2);
    assert_true(send_now(s));
    assert_int_equal(out.offered, 2);
    expect(s->l, -ECONNREFUSED, FINISH_MORE); // told to who receives
    expect(s->l, 2, 0);
    fake_start(&s->c->out, op_code::send_datagrams);
    plan_of(&out, -EHOSTUNREACH);
    plan_of(&out, -EHOSTUNREACH);
    assert_true(send_now(s));
    expect(s->l, -EHOSTUNREACH, 0); // said twice, it is this one's
    assert_int_equal(fake_done(s->l), 0);
}

static void want_of_room_waits_and_other_errors_end(void **state) {
    auto *s = static_cast<scene *>(*state);
    add(s, 100, 0);
    fake_start(&s->c->out, op_code::send_datagrams);
    plan_of(&out, -EINTR);
    plan_of(&out, -EAGAIN);
    assert_false(send_now(s));
    assert_int_equal(out.calls, 2);
    assert_true(s->c->out.state == request_state::started);
    plan_of(&out, -ENOBUFS);
    assert_true(send_now(s));
    expect(s->l, -ENOBUFS, 0);
}

static void what_is_cut_here_is_counted_in_pieces(void **state) {
    auto *s = static_cast<scene *>(*state);
    add(s, 2500, 1000);
    add(s, 7, 0);
    fake_start(&s->c->out, op_code::send_datagrams);
    plan_of(&out, 4);
    assert_true(send_now(s));
    assert_int_equal(out.offered, 4); // 1000, 1000, 500 and 7
    expect(s->l, 4, 0);
    fake_shape.segments = true;
    fake_start(&s->c->out, op_code::send_datagrams);
    plan_of(&out, 2);
    assert_true(send_now(s));
    assert_int_equal(out.offered, 2); // the kernel cuts
    expect(s->l, 2, 0);
}

static void an_empty_lane_sends_nothing(void **state) {
    auto *s = static_cast<scene *>(*state);
    fake_start(&s->c->out, op_code::send_datagrams);
    assert_true(send_now(s));
    assert_int_equal(out.calls, 0);
    expect(s->l, 0, 0);
}

#define IN_SCENE(test) cmocka_unit_test_setup_teardown(test, scene_open, scene_close)

int main() {
    const struct CMUnitTest tests[] = {
        IN_SCENE(a_batch_that_is_not_full_proves_that_there_is_no_more),
        IN_SCENE(errors_of_the_network_are_told_and_receiving_goes_on),
        IN_SCENE(the_queue_of_errors_is_asked_when_an_error_was_told_of),
        IN_SCENE(a_pool_that_is_dry_ends_the_carrier),
        IN_SCENE(the_first_error_may_be_an_earlier_datagrams),
        IN_SCENE(want_of_room_waits_and_other_errors_end),
        IN_SCENE(what_is_cut_here_is_counted_in_pieces),
        IN_SCENE(an_empty_lane_sends_nothing),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
