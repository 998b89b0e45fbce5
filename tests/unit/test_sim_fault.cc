// Faults of the simulated world, seen through its table of system calls: what TCP does when its segments are lost.
#include "unit/sim_fixture.h"

using namespace mio;

static void schedule(int kind, int64_t after_ns, int64_t for_ns) {
    mio_sim_fault_t fault = MIO_SIM_FAULT_INIT;
    fault.kind = kind;
    fault.after_ns = after_ns;
    fault.for_ns = for_ns;
    assert_int_equal(mio_sim_schedule(world, &fault), 0);
    pass(1);
}

// A world in which everything takes 10 ms, one way.
static void steady_open(uint64_t seed) {
    mio_sim_options_t o = options_of(seed);
    o.latency_min_ns = o.latency_max_ns = 10 * MIO_MILLISECOND;
    o.socket_buffer = 1000;
    world_open(o);
}

static int64_t received(int fd) {
    char byte;
    return os.recv(fd, &byte, 1, 0);
}

static void pair_close(const pair &p) {
    assert_int_equal(os.close(p.client), 0);
    assert_int_equal(os.close(p.server), 0);
}

static pair steady_pair() {
    const int listener = listen_on("127.0.0.1", 0);
    pair p;
    p.client = tcp_socket();
    assert_int_equal(connect_to(p.client, ip4("127.0.0.1", port_of(listener))), -EINPROGRESS);
    pass(30 * MIO_MILLISECOND);
    p.server = os.accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    assert_true(p.server >= SIM_FD_BASE);
    assert_int_equal(os.close(listener), 0);
    return p;
}

static void test_a_segment_is_sent_again_after_ever_longer_times(void **) {
    steady_open(1);
    const pair p = steady_pair();
    schedule(MIO_SIM_PARTITION, 0, MIO_SECOND);
    assert_int_equal(os.send(p.client, "x", 1, 0), 1); // it is there after 10, 210, 610, 1,410 ms
    pass(1409 * MIO_MILLISECOND);
    assert_int_equal(received(p.server), -EAGAIN);
    pass(MIO_MILLISECOND);
    assert_int_equal(received(p.server), 1);
    assert_int_equal(os.send(p.client, "x", 1, 0), 1); // and the next one needs no longer than ever
    pass(10 * MIO_MILLISECOND);
    assert_int_equal(received(p.server), 1);
    pair_close(p);
    world_close();
}

static void test_an_end_and_what_is_behind_a_lost_segment_wait_for_it(void **) {
    steady_open(2);
    const pair p = steady_pair();
    schedule(MIO_SIM_PARTITION, 0, 100 * MIO_MILLISECOND);
    for (int i = 0; i < 40; i++) assert_int_equal(os.send(p.client, "x", 1, 0), 1);
    assert_int_equal(os.shutdown(p.client, SHUT_WR), 0);
    pass(209 * MIO_MILLISECOND);
    assert_int_equal(received(p.server), -EAGAIN);
    pass(2 * MIO_MILLISECOND);
    for (int i = 0; i < 40; i++) assert_int_equal(received(p.server), 1);
    assert_int_equal(received(p.server), 0);
    pair_close(p);
    world_close();
}

static void test_a_lost_reset_is_not_sent_again_but_asked_for(void **) {
    steady_open(3);
    const pair p = steady_pair();
    const struct linger abrupt = {1, 0};
    assert_int_equal(os.setsockopt(p.client, SOL_SOCKET, SO_LINGER, &abrupt, sizeof abrupt), 0);
    schedule(MIO_SIM_PARTITION, 0, MIO_SECOND);
    assert_int_equal(os.close(p.client), 0);
    pass(1000 * MIO_SECOND);
    assert_int_equal(received(p.server), -EAGAIN); // nobody told it
    assert_int_equal(os.send(p.server, "x", 1, MSG_NOSIGNAL), 1);
    pass(15 * MIO_MILLISECOND);
    assert_int_equal(received(p.server), -EAGAIN);
    pass(10 * MIO_MILLISECOND);
    assert_int_equal(received(p.server), -ECONNRESET);
    assert_int_equal(os.close(p.server), 0);
    // The answer to bytes is lost: they are sent again, and answered again.
    const pair q = steady_pair();
    assert_int_equal(os.setsockopt(q.client, SOL_SOCKET, SO_LINGER, &abrupt, sizeof abrupt), 0);
    schedule(MIO_SIM_PARTITION, 0, 50 * MIO_MILLISECOND);
    assert_int_equal(os.close(q.client), 0);
    pass(60 * MIO_MILLISECOND);
    assert_int_equal(os.send(q.server, "x", 1, MSG_NOSIGNAL), 1);
    pass(9 * MIO_MILLISECOND);
    schedule(MIO_SIM_PARTITION, 2 * MIO_MILLISECOND, 50 * MIO_MILLISECOND);
    pass(100 * MIO_MILLISECOND);
    assert_int_equal(received(q.server), -EAGAIN);
    pass(300 * MIO_MILLISECOND);
    assert_int_equal(received(q.server), -ECONNRESET);
    assert_int_equal(os.close(q.server), 0);
    world_close();
}

static void test_room_is_not_told_of_across_a_partition(void **) {
    steady_open(4);
    const pair p = steady_pair();
    char bytes[1000] = {};
    assert_int_equal(os.send(p.client, bytes, sizeof bytes, 0), 1000);
    pass(20 * MIO_MILLISECOND);
    schedule(MIO_SIM_PARTITION, 0, MIO_SECOND);
    assert_int_equal(os.recv(p.server, bytes, sizeof bytes, 0), 1000);
    assert_int_equal(os.send(p.client, bytes, 1, 0), -EAGAIN);
    pass(MIO_SECOND);
    assert_int_equal(os.send(p.client, bytes, sizeof bytes, 0), 1000);
    pair_close(p);
    world_close();
}

static void test_bytes_for_one_who_left_are_bounded_too(void **) {
    steady_open(5);
    const pair p = steady_pair();
    schedule(MIO_SIM_PARTITION, 0, 0);
    assert_int_equal(os.close(p.server), 0);
    char bytes[700] = {};
    assert_int_equal(os.send(p.client, bytes, sizeof bytes, 0), 700);
    assert_int_equal(os.send(p.client, bytes, sizeof bytes, 0), 300);
    assert_int_equal(os.send(p.client, bytes, sizeof bytes, 0), -EAGAIN);
    pass(924 * MIO_SECOND);
    assert_int_equal(received(p.client), -EAGAIN);
    pass(MIO_SECOND);
    assert_int_equal(received(p.client), -ETIMEDOUT);
    assert_int_equal(os.close(p.client), 0);
    world_close();
}

// The answer to a client's first asking is lost for so long. Returns connections that came of it.
static int accepted_after(int64_t cut_ns) {
    const int listener = listen_on("127.0.0.1", 0);
    const int client = tcp_socket();
    assert_int_equal(connect_to(client, ip4("127.0.0.1", port_of(listener))), -EINPROGRESS);
    schedule(MIO_SIM_PARTITION, 15 * MIO_MILLISECOND, cut_ns);
    pass(200 * MIO_SECOND);
    int accepted = 0;
    for (int fd; (fd = os.accept4(listener, nullptr, nullptr, 0)) >= 0; accepted++) assert_int_equal(os.close(fd), 0);
    const int error = get_option(client, SOL_SOCKET, SO_ERROR);
    assert_int_equal(error, cut_ns == 0 ? ETIMEDOUT : 0);
    assert_int_equal(os.close(client), 0);
    assert_int_equal(os.close(listener), 0);
    return accepted;
}

static void test_a_lost_answer_makes_one_connection_or_none(void **) {
    for (uint64_t seed = 1; seed < 20; seed++) {
        steady_open(seed);
        assert_int_equal(accepted_after(5 * MIO_SECOND), 1);  // the end that was made is found again
        assert_int_equal(accepted_after(40 * MIO_SECOND), 1); // it was given up, another one is made
        assert_int_equal(accepted_after(0), 0);
        pass(MIO_SECOND);
        world_close();
    }
}

static void test_closing_while_the_handshake_is_lost_leaves_nothing(void **) {
    for (int what = 0; what < 3; what++) {
        steady_open(6);
        const int listener = listen_on("127.0.0.1", 0);
        const int client = tcp_socket();
        assert_int_equal(connect_to(client, ip4("127.0.0.1", port_of(listener))), -EINPROGRESS);
        schedule(MIO_SIM_PARTITION, 15 * MIO_MILLISECOND, 5 * MIO_SECOND);
        pass(2 * MIO_SECOND);
        if (what == 0) assert_int_equal(os.close(client), 0);
        if (what == 1) assert_int_equal(os.close(listener), 0);
        pass(200 * MIO_SECOND);
        if (what == 0) assert_int_equal(os.accept4(listener, nullptr, nullptr, 0), -EAGAIN);
        if (what == 1) assert_int_equal(get_option(client, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
        if (what != 0) assert_int_equal(os.close(client), 0);
        if (what != 1) assert_int_equal(os.close(listener), 0);
        pass(MIO_SECOND);
        assert_int_equal(sim_world_of(world)->socket_count, 0);
        world_close();
    }
}

static void test_who_left_before_the_answer_was_never_connected(void **) {
    steady_open(13);
    const int listener = listen_on("127.0.0.1", 0);
    const int client = tcp_socket();
    assert_int_equal(connect_to(client, ip4("127.0.0.1", port_of(listener))), -EINPROGRESS);
    pass(15 * MIO_MILLISECOND); // the other end was made, its answer is on the way
    mio_sim_fault_t loss = MIO_SIM_FAULT_INIT;
    loss.kind = MIO_SIM_LOSS;
    loss.ppm = 1000000;
    loss.for_ns = 100 * MIO_MILLISECOND;
    assert_int_equal(mio_sim_schedule(world, &loss), 0);
    pass(1);
    assert_int_equal(os.close(client), 0); // what says so is lost
    pass(40 * MIO_SECOND);
    assert_int_equal(os.accept4(listener, nullptr, nullptr, 0), -EAGAIN);
    assert_int_equal(sim_world_of(world)->socket_count, 1);
    assert_int_equal(os.close(listener), 0);
    world_close();
}

static void test_memory_is_counted_and_limited(void **) {
    world_open(options_of(7));
    mio_sim_fault_t limit = MIO_SIM_FAULT_INIT;
    limit.kind = MIO_SIM_MEMORY_LIMIT;
    limit.room = 10000;
    assert_int_equal(mio_sim_schedule(world, &limit), 0);
    pass(1);
    void *one = os.alloc(6000);
    assert_non_null(one);
    assert_null(os.alloc(6000));
    assert_null(os.map(8192));
    assert_null(os.resize(one, 6000, 12000));
    void *more = os.resize(one, 6000, 9000);
    assert_non_null(more);
    os.release(more, 9000);
    void *pages = os.map(8192);
    assert_non_null(pages);
    os.unmap(pages, 8192);
    world_close();
}

static void test_memory_of_a_loop_that_is_gone_is_counted_as_given_back(void **) {
    world_open(options_of(8));
    const int64_t before = sim_world_of(world)->memory_live;
    for (int i = 0; i < 3; i++) {
        mio_loop_t *other;
        assert_int_equal(mio_loop_create(&other, nullptr), 0);
        assert_true(sim_world_of(world)->memory_live > before);
        assert_int_equal(mio_loop_destroy(other, 0), 0);
        assert_int_equal(sim_world_of(world)->memory_live, before);
    }
    world_close();
}

static void wall_jumps(int times, int64_t by_ns) {
    mio_sim_fault_t jump = MIO_SIM_FAULT_INIT;
    jump.kind = MIO_SIM_WALL_JUMP;
    jump.jump_ns = by_ns;
    for (int i = 0; i < times; i++) assert_int_equal(mio_sim_schedule(world, &jump), 0);
    pass(1);
}

static void test_the_wall_clock_stops_at_the_ends_of_its_numbers(void **) {
    const int64_t year_ns = 366 * 24 * 60 * MIO_MINUTE; // no jump is longer
    world_open(options_of(9));
    wall_jumps(400, year_ns);
    assert_int_equal(mio_sim_wall_ns(world), INT64_MAX);
    world_close();
    world_open(options_of(10));
    wall_jumps(400, -year_ns);
    assert_true(mio_sim_wall_ns(world) < -7 * (INT64_MAX / 10)); // INT64_MIN, and 50 years more
    world_close();
}

static void test_a_black_hole_has_no_direction(void **) {
    steady_open(11);
    const int listener = listen_on("127.0.0.1", 0);
    mio_sim_fault_t hole = MIO_SIM_FAULT_INIT;
    hole.kind = MIO_SIM_BLACK_HOLE;
    hole.one_way = 1;
    hole.a.port = port_of(listener);
    assert_int_equal(mio_sim_schedule(world, &hole), 0);
    pass(1);
    const int client = tcp_socket();
    assert_int_equal(connect_to(client, ip4("127.0.0.1", port_of(listener))), -EINPROGRESS);
    pass(MIO_SECOND);
    assert_int_equal(sim_world_of(world)->socket_count, 2); // nobody was asked, so no other end was made
    assert_int_equal(os.close(client), 0);
    assert_int_equal(os.close(listener), 0);
    pass(200 * MIO_SECOND);
    world_close();
}

static void test_a_read_over_an_open_way_tells_of_all_the_room(void **) {
    steady_open(12);
    const pair p = steady_pair();
    char bytes[1000] = {};
    assert_int_equal(os.send(p.client, bytes, sizeof bytes, 0), 1000);
    pass(20 * MIO_MILLISECOND);
    mio_sim_fault_t cut = MIO_SIM_FAULT_INIT;
    cut.kind = MIO_SIM_PARTITION;
    cut.a.nodes = 1u << 5;
    assert_int_equal(mio_sim_schedule(world, &cut), 0);
    pass(1);
    sim_socket *server = sim_fd_of(sim_world_of(world), p.server)->socket;
    server->node = 5;
    assert_int_equal(os.recv(p.server, bytes, 900, 0), 900);
    assert_int_equal(os.send(p.client, bytes, 1, 0), -EAGAIN);
    server->node = 6; // its loop moved: the partition is not its any more
    assert_int_equal(os.recv(p.server, bytes, 100, 0), 100);
    assert_int_equal(os.send(p.client, bytes, sizeof bytes, 0), 1000);
    pair_close(p);
    world_close();
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_segment_is_sent_again_after_ever_longer_times),
        cmocka_unit_test(test_an_end_and_what_is_behind_a_lost_segment_wait_for_it),
        cmocka_unit_test(test_a_lost_reset_is_not_sent_again_but_asked_for),
        cmocka_unit_test(test_room_is_not_told_of_across_a_partition),
        cmocka_unit_test(test_bytes_for_one_who_left_are_bounded_too),
        cmocka_unit_test(test_a_lost_answer_makes_one_connection_or_none),
        cmocka_unit_test(test_closing_while_the_handshake_is_lost_leaves_nothing),
        cmocka_unit_test(test_who_left_before_the_answer_was_never_connected),
        cmocka_unit_test(test_memory_is_counted_and_limited),
        cmocka_unit_test(test_memory_of_a_loop_that_is_gone_is_counted_as_given_back),
        cmocka_unit_test(test_the_wall_clock_stops_at_the_ends_of_its_numbers),
        cmocka_unit_test(test_a_black_hole_has_no_direction),
        cmocka_unit_test(test_a_read_over_an_open_way_tells_of_all_the_room),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
