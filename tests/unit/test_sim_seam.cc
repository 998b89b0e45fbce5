// The seam of the simulated world: when completions are decided, in which order they come, and what a cancel meets.
#include "unit/sim_fixture.h"

using namespace mio;

static void drop_block(const completion &done) {
    if (done.from != nullptr) block_release(done.from);
}

static void test_continuous_receive_fills_the_pool(void **) {
    world_open(options_of(1));
    const pair p = connected_pair();
    channel *c = channel_create(p.server);
    start(c, op_code::receive);
    nothing_comes(MIO_MILLISECOND);
    assert_int_equal(os.send(p.client, "hello", 5, 0), 5);
    completion done = next();
    assert_int_equal(done.result, 5);
    assert_int_equal(done.flags, FINISH_MORE);
    assert_memory_equal(done.from->owner.base + done.offset, "hello", 5);
    drop_block(done);
    assert_int_equal(os.close(p.client), 0);
    done = next();
    assert_int_equal(done.result, 0);
    assert_int_equal(done.flags, 0);
    assert_null(done.from);
    assert_int_equal(c->in.state, request_state::free);
    close_channel(c);
    world_close();
}

static void test_a_read_is_filled_in_place(void **) {
    world_open(options_of(2));
    const pair p = connected_pair();
    channel *c = channel_create(p.server);
    char room[8] = "xxxxxxx";
    auto *req = static_cast<lane_request *>(calloc(1, sizeof(lane_request)));
    req->op = op_code::read_some;
    req->state = request_state::waiting;
    req->total = 3;
    req->bufs_used = 1;
    req->bufs[0].base = room;
    req->bufs[0].len = 1;
    req->bufs[0].cap = 4;
    lane_push(&c->reads, req);
    start(c, op_code::receive);
    assert_int_equal(os.send(p.client, "hello", 5, 0), 5);
    completion done = next();
    assert_int_equal(done.result, 3);
    assert_int_equal(done.flags, 0);
    assert_string_equal(room, "xhelxxx");
    lane_pop(&c->reads);
    start(c, op_code::receive);
    done = next();
    assert_int_equal(done.result, 2);
    assert_int_equal(done.flags, FINISH_MORE);
    // Its record has not been seen: the read that stands in the lane now is not touched behind it.
    lane_push(&c->reads, req);
    drop_block(done);
    assert_int_equal(os.send(p.client, "a", 1, 0), 1);
    pass(MIO_MILLISECOND);
    lane_pop(&c->reads);
    while (take(&done)) drop_block(done);
    if (c->in.state == request_state::started) {
        on->with->cancel(on, &c->in);
        while (c->in.state != request_state::free) {
            done = next();
            drop_block(done);
        }
    }
    free(req);
    assert_int_equal(os.close(p.client), 0);
    close_channel(c);
    world_close();
}

static void test_memory_is_read_when_the_completion_is_decided(void **) {
    world_open(options_of(3));
    const pair p = connected_pair();
    channel *c = channel_create(p.client);
    char bytes[] = "before";
    lane_request *req = queue_write(c, bytes, 6);
    start(c, op_code::send);
    memcpy(bytes, "after!", 6);
    const completion done = next();
    assert_int_equal(done.result, 6);
    memcpy(bytes, "gone!!", 6);
    pass(MIO_MILLISECOND);
    char text[8];
    assert_int_equal(os.recv(p.server, text, 8, 0), 6);
    assert_memory_equal(text, "after!", 6);
    lane_pop(&c->writes);
    free(req);
    assert_int_equal(os.close(p.server), 0);
    close_channel(c);
    world_close();
}

static void test_a_send_waits_for_room(void **) {
    mio_sim_options_t o = options_of(4);
    o.socket_buffer = 1000;
    world_open(o);
    const pair p = connected_pair();
    channel *c = channel_create(p.client);
    static char bytes[1500];
    lane_request *req = queue_write(c, bytes, sizeof bytes);
    start(c, op_code::send);
    completion done = next();
    assert_int_equal(done.result, 1000); // short, not refused
    req->moved = 1000;
    start(c, op_code::send);
    nothing_comes(10 * MIO_MILLISECOND);
    assert_int_equal(os.recv(p.server, bytes, 200, 0), 200);
    done = next();
    assert_int_equal(done.result, 200);
    req->moved = 1200;
    start(c, op_code::send);
    nothing_comes(MIO_MILLISECOND);
    assert_int_equal(os.close(p.server), 0);
    done = next();
    assert_int_equal(done.result, -ECONNRESET);
    lane_pop(&c->writes);
    free(req);
    close_channel(c);
    world_close();
}

static void test_a_send_whose_writes_were_taken_back(void **) {
    world_open(options_of(5));
    const pair p = connected_pair();
    channel *c = channel_create(p.client);
    char byte = 'x';
    lane_request *req = queue_write(c, &byte, 1);
    start(c, op_code::send);
    req->state = request_state::done;
    assert_int_equal(next().result, -ECANCELED);
    lane_pop(&c->writes);
    free(req);
    assert_int_equal(os.close(p.server), 0);
    close_channel(c);
    world_close();
}

static void test_accept_and_its_errors(void **) {
    mio_sim_options_t o = options_of(6);
    o.accept_error_ppm = 400000;
    world_open(o);
    const int listener = listen_on("127.0.0.1", 7, 200);
    channel *c = channel_create(listener);
    start(c, op_code::accept);
    int clients[60];
    for (int &fd : clients) {
        fd = tcp_socket();
        assert_int_equal(connect_to(fd, ip4("127.0.0.1", 7)), -EINPROGRESS);
    }
    int accepted = 0, aborted = 0, exhausted = 0;
    while (accepted + aborted < 60) {
        const completion done = next();
        const bool more = (done.flags & FINISH_MORE) != 0;
        if (done.result >= 0) {
            assert_true(more);
            assert_int_equal(os.close(static_cast<int>(done.result)), 0);
            accepted++;
        } else if (done.result == -ECONNABORTED) {
            assert_true(more);
            aborted++;
        } else {
            assert_true(done.result == -EMFILE || done.result == -ENFILE);
            assert_false(more); // the connection stays; the core tries again later
            start(c, op_code::accept);
            exhausted++;
        }
    }
    assert_true(accepted > 0 && aborted > 0 && exhausted > 0);
    on->with->cancel(on, &c->in);
    assert_int_equal(next().result, -ECANCELED);
    for (const int fd : clients) assert_int_equal(os.close(fd), 0);
    close_channel(c);
    world_close();
}

static void test_connect_says_how_it_went(void **) {
    world_open(options_of(7));
    const int listener = listen_on("127.0.0.1", 7);
    channel *c = channel_create(tcp_socket());
    lane_request *req = queue_connect(c, ip4("127.0.0.1", 7));
    const int64_t begun_ns = mio_sim_now_ns(world);
    start(c, op_code::connect);
    assert_int_equal(next().result, 0);
    assert_in_range(mio_sim_now_ns(world) - begun_ns, 100 * MIO_MICROSECOND, 300 * MIO_MICROSECOND);
    free(req);
    close_channel(c);

    c = channel_create(tcp_socket());
    req = queue_connect(c, ip4("127.0.0.1", 8));
    start(c, op_code::connect);
    assert_int_equal(next().result, -ECONNREFUSED);
    free(req);
    close_channel(c);

    c = channel_create(tcp_socket());
    req = queue_connect(c, ip6("::1", 8));
    start(c, op_code::connect);
    assert_int_equal(next().result, -EAFNOSUPPORT);
    free(req);
    close_channel(c);
    assert_int_equal(os.close(listener), 0);
    world_close();
}

static void test_carriers_nobody_can_serve(void **) {
    world_open(options_of(8));
    channel *c = channel_create(0);
    start(c, op_code::receive);
    assert_int_equal(next().result, -EBADF);
    c->fd = tcp_socket();
    start(c, op_code::receive);
    assert_int_equal(next().result, -ENOTCONN);
    start(c, op_code::accept);
    assert_int_equal(next().result, -EINVAL);
    assert_int_equal(os.close(c->fd), 0);
    const pair p = connected_pair();
    c->fd = p.client;
    start(c, op_code::receive);
    channel *same = channel_create(p.client);
    start(same, op_code::receive);
    assert_int_equal(next().result, -EBUSY);
    free(same);
    // A duplicate is another place to wait, for the same bytes.
    channel *twin = channel_create(os.dup_cloexec(p.client));
    start(twin, op_code::receive);
    assert_int_equal(os.close(p.server), 0);
    assert_int_equal(next().result, 0);
    assert_int_equal(next().result, 0);
    close_channel(twin);
    close_channel(c);
    world_close();
}

static void test_a_full_ring_loses_nothing(void **) {
    world_open(options_of(9)); // 64 records
    const int listener = listen_on("127.0.0.1", 7, 300);
    int clients[200];
    for (int &fd : clients) {
        fd = tcp_socket();
        assert_int_equal(connect_to(fd, ip4("127.0.0.1", 7)), -EINPROGRESS);
    }
    channel *c = channel_create(listener);
    pass(MIO_MILLISECOND);
    start(c, op_code::accept);
    for (int i = 0; i < 200; i++) assert_int_equal(on->with->poll(on, 0), 0);
    assert_int_equal(on->done_tail - on->done_head, 64);
    assert_int_equal(on->with->poll(on, MIO_SECOND), 0); // does not wait either
    assert_int_equal(mio_sim_now_ns(world), MIO_SECOND + MIO_MILLISECOND);
    for (int i = 0; i < 200; i++) assert_int_equal(os.close(static_cast<int>(next().result)), 0);
    on->with->cancel(on, &c->in);
    assert_int_equal(next().result, -ECANCELED);
    for (const int fd : clients) assert_int_equal(os.close(fd), 0);
    close_channel(c);
    world_close();
}

static void test_a_dry_pool_ends_the_receive(void **) {
    world_open(options_of(10));
    const pair p = connected_pair();
    channel *c = channel_create(p.server);
    on->pool.hot->offset = static_cast<uint32_t>(on->pool.block_size); // full, and
    on->pool.last_offset = -1;                                         // no other is allowed
    start(c, op_code::receive);
    assert_int_equal(os.send(p.client, "hello", 5, 0), 5);
    completion done = next();
    assert_int_equal(done.result, -ENOBUFS);
    assert_int_equal(done.flags, 0);
    on->pool.dry = false;
    on->pool.hot->offset = 0;
    on->pool.last_offset = static_cast<int64_t>(on->pool.block_size) - 4096;
    start(c, op_code::receive);
    done = next();
    assert_int_equal(done.result, 5); // nothing was lost
    drop_block(done);
    assert_int_equal(os.close(p.client), 0);
    assert_int_equal(next().result, 0);
    close_channel(c);
    world_close();
}

// --- cancels --------------------------------------------------------------------------------------------------------

struct tally {
    int cancelled, own;
};

static void cancel_receive(uint64_t seed, tally *seen) {
    world_open(options_of(seed));
    const pair p = connected_pair();
    channel *c = channel_create(p.server);
    start(c, op_code::receive);
    static char bytes[5000];
    assert_int_equal(os.send(p.client, bytes, sizeof bytes, 0), sizeof bytes);
    if (seed % 3 == 0) assert_int_equal(os.shutdown(p.client, SHUT_WR), 0);
    pass(static_cast<int64_t>(mio_sim_random(world) % 200) * MIO_MICROSECOND);
    for (int i = 0; i < 2; i++) // twice is as good as once
        if (c->in.state == request_state::started) on->with->cancel(on, &c->in);
    int64_t received = 0;
    for (;;) {
        const completion done = next();
        if ((done.flags & FINISH_MORE) == 0) {
            assert_true(done.result == -ECANCELED || done.result == 0);
            *(done.result == 0 ? &seen->own : &seen->cancelled) += 1;
            break;
        }
        received += done.result;
        drop_block(done);
    }
    nothing_comes(MIO_MILLISECOND);
    ssize_t n;
    while ((n = os.recv(p.server, bytes, sizeof bytes, 0)) > 0) received += n;
    assert_int_equal(received, sizeof bytes); // in a record or still in the socket: nothing is lost
    assert_int_equal(os.close(p.client), 0);
    close_channel(c);
    world_close();
}

static void cancel_send(uint64_t seed, tally *seen) {
    world_open(options_of(seed));
    const pair p = connected_pair();
    channel *c = channel_create(p.client);
    static char bytes[5000];
    lane_request *req = queue_write(c, bytes, sizeof bytes);
    start(c, op_code::send);
    on->with->cancel(on, &c->out);
    const completion done = next();
    *(done.result > 0 ? &seen->own : &seen->cancelled) += 1;
    nothing_comes(MIO_MILLISECOND);
    const ssize_t n = os.recv(p.server, bytes, sizeof bytes, 0);
    assert_int_equal(n, done.result > 0 ? done.result : -EAGAIN);
    lane_pop(&c->writes);
    free(req);
    assert_int_equal(os.close(p.server), 0);
    close_channel(c);
    world_close();
}

static void cancel_accept_and_connect(uint64_t seed, tally *seen) {
    world_open(options_of(seed));
    channel *listener = channel_create(listen_on("127.0.0.1", 7));
    channel *client = channel_create(tcp_socket());
    lane_request *req = queue_connect(client, ip4("127.0.0.1", 7));
    start(listener, op_code::accept);
    start(client, op_code::connect);
    pass(static_cast<int64_t>(mio_sim_random(world) % 500) * MIO_MICROSECOND);
    if (client->out.state == request_state::started) on->with->cancel(on, &client->out);
    if (listener->in.state == request_state::started) on->with->cancel(on, &listener->in);
    bool listening = true;
    bool connecting = true;
    while (listening || connecting) {
        const completion done = next();
        if (done.req == &client->out) {
            assert_true(done.result == 0 || done.result == -ECANCELED);
            assert_true(connecting);
            connecting = false;
            *(done.result == 0 ? &seen->own : &seen->cancelled) += 1;
        } else if ((done.flags & FINISH_MORE) != 0) {
            assert_int_equal(os.close(static_cast<int>(done.result)), 0);
        } else {
            assert_int_equal(done.result, -ECANCELED);
            listening = false;
        }
    }
    nothing_comes(MIO_MILLISECOND);
    free(req);
    close_channel(client);
    close_channel(listener);
    world_close();
}

static void test_cancels_race_with_results(void **) {
    tally receives = {0, 0}, sends = {0, 0}, connects = {0, 0};
    for (uint64_t seed = 1; seed <= 300; seed++) {
        cancel_receive(seed, &receives);
        cancel_send(seed, &sends);
        cancel_accept_and_connect(seed, &connects);
    }
    for (const tally &seen : {receives, sends, connects}) {
        assert_int_equal(seen.cancelled + seen.own, 300);
        assert_true(seen.cancelled > 10 && seen.own > 10);
    }
}

// --- order ----------------------------------------------------------------------------------------------------------

static void test_completions_come_in_seeded_order(void **) {
    int different = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        world_open(options_of(seed));
        channel *channels[8];
        int peers[8];
        for (int i = 0; i < 8; i++) {
            const pair p = connected_pair();
            channels[i] = channel_create(p.server);
            peers[i] = p.client;
            assert_int_equal(os.send(p.client, "x", 1, 0), 1);
        }
        pass(MIO_MILLISECOND);
        for (channel *c : channels) start(c, op_code::receive);
        bool in_order = true;
        for (const channel *c : channels) {
            const completion done = next();
            in_order = in_order && done.req == &c->in;
            drop_block(done);
        }
        different += !in_order;
        for (const int fd : peers) assert_int_equal(os.close(fd), 0);
        for (int i = 0; i < 8; i++) assert_int_equal(next().result, 0);
        for (channel *c : channels) close_channel(c);
        world_close();
    }
    assert_true(different >= 19);
}

static void test_nothing_can_ever_happen(void **) {
    world_open(options_of(11));
    const int64_t begun_ns = mio_sim_now_ns(world);
    assert_int_equal(on->with->poll(on, -1), MIO_ETIMEDOUT);
    assert_int_equal(mio_sim_now_ns(world), begun_ns);
    assert_int_equal(on->with->poll(on, MIO_SECOND), 0);
    assert_int_equal(mio_sim_now_ns(world), begun_ns + MIO_SECOND);
    // Polls that never wait do not stop the time for good.
    for (int i = 0; i < 5000; i++) assert_int_equal(on->with->poll(on, 0), 0);
    assert_in_range(mio_sim_now_ns(world) - begun_ns - MIO_SECOND, MIO_MILLISECOND, 5 * MIO_MILLISECOND);
    world_close();
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_continuous_receive_fills_the_pool),
        cmocka_unit_test(test_a_read_is_filled_in_place),
        cmocka_unit_test(test_memory_is_read_when_the_completion_is_decided),
        cmocka_unit_test(test_a_send_waits_for_room),
        cmocka_unit_test(test_a_send_whose_writes_were_taken_back),
        cmocka_unit_test(test_accept_and_its_errors),
        cmocka_unit_test(test_connect_says_how_it_went),
        cmocka_unit_test(test_carriers_nobody_can_serve),
        cmocka_unit_test(test_a_full_ring_loses_nothing),
        cmocka_unit_test(test_a_dry_pool_ends_the_receive),
        cmocka_unit_test(test_cancels_race_with_results),
        cmocka_unit_test(test_completions_come_in_seeded_order),
        cmocka_unit_test(test_nothing_can_ever_happen),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
