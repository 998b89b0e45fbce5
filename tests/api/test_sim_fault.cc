// Faults of simulated worlds: what each does to connections, loops and calls, when it begins and when it is over.
#include "harness.h"

#include <initializer_list>

using namespace api;

static mio_sim_fault_t fault_of(int kind) {
    mio_sim_fault_t fault = MIO_SIM_FAULT_INIT;
    fault.kind = kind;
    return fault;
}

// Between the first two loops of a world.
static mio_sim_fault_t between_nodes(int kind, int64_t after_ns, int64_t for_ns) {
    mio_sim_fault_t fault = fault_of(kind);
    fault.a.nodes = 1;
    fault.b.nodes = 2;
    fault.after_ns = after_ns;
    fault.for_ns = for_ns;
    return fault;
}

static void schedule(const mio_sim_fault_t &fault) { assert_is(mio_sim_schedule(world(), &fault), 0); }

// An echo server on node 0 and a client on node 1, connected.
struct two_nodes {
    mio_loop_t *server_loop, *client_loop;
    echo server;
    mio_stream_t *client;
    inbox in;
    outcome connected;
};

static void two_open(two_nodes *two) {
    *two = {};
    two->server_loop = loop_open();
    two->client_loop = loop_open();
    assert_is(mio_sim_node(two->server_loop), 0);
    assert_is(mio_sim_node(two->client_loop), 1);
    echo_open(two->server_loop, &two->server);
    two->in.is_text = true;
}

static void two_connect(two_nodes *two) {
    ck_assert_int_gt(mio_tcp_connect(two->client_loop, &two->server.at, nullptr, stream_told, &two->connected, &two->client), 0);
    ck_assert_int_gt(mio_stream_read_start(two->client, MIO_READ_NO_AUTOPAUSE, read_into, &two->in), 0);
}

static void two_say(two_nodes *two, const char *text, outcome *told = nullptr) {
    mio_buf_t bytes = text_buf(two->client_loop, text);
    ck_assert_int_gt(mio_stream_write(two->client, &bytes, 1, told == nullptr ? nullptr : write_told, told), 0);
}

static void pass(int64_t duration_ns) { assert_is(mio_sim_run(world(), duration_ns), MIO_ETIMEDOUT); }

static void two_close(two_nodes *two) {
    mio_handle_abandon(two->client);
    loop_close(two->client_loop);
    loop_close(two->server_loop);
}

// --- mistakes -------------------------------------------------------------------------------------------------------

TEST(a_schedule_answers_each_mistake) {
    SIM_ONLY("is about simulated worlds");
    mio_sim_fault_t fault = fault_of(MIO_SIM_PARTITION);
    assert_is(mio_sim_schedule(nullptr, &fault), MIO_EINVAL);
    assert_is(mio_sim_schedule(world(), nullptr), MIO_EINVAL);
    for (int kind : {0, -1, MIO_SIM_SIGNAL + 1, 1000}) {
        fault = fault_of(kind);
        assert_is(mio_sim_schedule(world(), &fault), MIO_EINVAL);
    }
    const auto refused = [](mio_sim_fault_t wrong) { assert_is(mio_sim_schedule(world(), &wrong), MIO_EINVAL); };
    fault = fault_of(MIO_SIM_PARTITION);
    fault.after_ns = -1;
    refused(fault);
    fault = fault_of(MIO_SIM_PARTITION);
    fault.for_ns = -1;
    refused(fault);
    for (int kind : {MIO_SIM_HEAL, MIO_SIM_RESET, MIO_SIM_CLOCK_JUMP, MIO_SIM_WALL_JUMP}) { // they do not last
        fault = fault_of(kind);
        fault.for_ns = 1;
        refused(fault);
    }
    fault = fault_of(MIO_SIM_LATENCY);
    fault.latency_min_ns = 2;
    fault.latency_max_ns = 1;
    refused(fault);
    refused(fault_of(MIO_SIM_BANDWIDTH)); // of nothing
    fault = fault_of(MIO_SIM_LOSS);
    fault.ppm = 1000001;
    refused(fault);
    fault = fault_of(MIO_SIM_FD_LIMIT);
    fault.room = -1;
    refused(fault);
    fault = fault_of(MIO_SIM_CLOCK_JUMP);
    fault.jump_ns = -1; // a monotonic clock does not
    refused(fault);
    for (int error : {0, 5, +MIO_EAGAIN, +MIO_EINTR, +MIO_ECANCELED, +MIO_EINPROGRESS, +MIO_EOF}) {
        fault = fault_of(MIO_SIM_FAIL);
        fault.call = MIO_SIM_CALL_SEND;
        fault.error = error;
        refused(fault);
    }
    fault = fault_of(MIO_SIM_FAIL);
    fault.error = MIO_ENOMEM;
    refused(fault); // of no call
    fault.call = MIO_SIM_CALL_RECEIVE;
    fault.error = MIO_ENOBUFS;
    refused(fault);
    fault = fault_of(MIO_SIM_RESET);
    fault.a.port = 65536;
    refused(fault);
    mio_addr_t unknown = {};
    unknown.u.any.sa_family = AF_UNIX;
    unknown.len = sizeof unknown.u.any;
    fault = fault_of(MIO_SIM_RESET);
    fault.b.addr = &unknown;
    refused(fault);
    struct { mio_sim_fault_t known; char tail[8]; } longer;
    memset(&longer, 0, sizeof longer);
    longer.known = fault_of(MIO_SIM_RESET);
    longer.known.size = sizeof longer;
    longer.tail[3] = 1;
    assert_is(mio_sim_schedule(world(), &longer.known), MIO_E2BIG);
    longer.tail[3] = 0;
    assert_is(mio_sim_schedule(world(), &longer.known), 0);
    assert_is(mio_sim_run(world(), MIO_FOREVER), 0); // faults alone keep no run alive
    assert_is(mio_sim_wall_ns(nullptr), 0);
}

TEST(loops_have_nodes_in_order_of_creation) {
    SIM_ONLY("is about simulated worlds");
    mio_loop_t *loop = nullptr;
    for (int i = 0; i < 3; i++) {
        loop = loop_open();
        assert_is(mio_sim_node(loop), i);
    }
    assert_is(mio_sim_node(nullptr), MIO_EINVAL);
    assert_is(mio_sim_set_node(nullptr, 0), MIO_EINVAL);
    assert_is(mio_sim_set_node(loop, 64), MIO_EINVAL);
    assert_is(mio_sim_set_node(loop, -1), MIO_EINVAL);
    assert_is(mio_sim_set_node(loop, 63), 0);
    assert_is(mio_sim_node(loop), 63);
    for (int i = 3; i < 60; i++) loop_open();
    for (int i = 0; i < 3; i++) assert_is(mio_sim_node(loop_open()), 60 + i);
}

// --- partitions -----------------------------------------------------------------------------------------------------

TEST(a_partition_holds_everything_back_until_it_heals_and_loses_nothing) {
    SIM_ONLY("is about simulated worlds");
    two_nodes two;
    two_open(&two);
    two_connect(&two);
    two_say(&two, "before ");
    pass(MIO_SECOND);
    assert_is(two.in.received, 7);
    schedule(between_nodes(MIO_SIM_PARTITION, MIO_SECOND, 10 * MIO_SECOND));
    pass(2 * MIO_SECOND);
    outcome told = {};
    two_say(&two, "during ", &told);
    pass(8 * MIO_SECOND);
    assert_is(told.status, 0);        // the kernel has taken it
    assert_is(two.in.received, 7);
    two_say(&two, "and after");
    pass(30 * MIO_SECOND);            // TCP has not tried all the time
    ck_assert_str_eq(two.in.text, "before during and after");
    assert_is(two.in.ends, 0);
    two_close(&two);
}

TEST(heal_ends_what_it_names_or_everything) {
    SIM_ONLY("is about simulated worlds");
    two_nodes two;
    two_open(&two);
    two_connect(&two);
    pass(MIO_SECOND);
    schedule(between_nodes(MIO_SIM_PARTITION, 0, 0)); // for ever
    mio_sim_fault_t other = fault_of(MIO_SIM_HEAL);
    other.a.nodes = 4;
    schedule(other);
    two_say(&two, "one");
    pass(5 * MIO_SECOND);
    assert_is(two.in.received, 0);
    mio_sim_fault_t heal = between_nodes(MIO_SIM_HEAL, 0, 0);
    heal.a.nodes = 2; // the other way round
    heal.b.nodes = 1;
    schedule(heal);
    pass(20 * MIO_SECOND);
    assert_is(two.in.received, 3);
    schedule(between_nodes(MIO_SIM_PARTITION, 0, 0));
    two_say(&two, "two");
    pass(5 * MIO_SECOND);
    assert_is(two.in.received, 3);
    schedule(fault_of(MIO_SIM_HEAL)); // everything
    pass(20 * MIO_SECOND);
    ck_assert_str_eq(two.in.text, "onetwo");
    two_close(&two);
}

TEST(a_partition_that_lasts_ends_a_sender_and_never_a_silent_reader) {
    SIM_ONLY("is about simulated worlds");
    two_nodes two;
    two_open(&two);
    two_connect(&two);
    pass(MIO_SECOND);
    schedule(between_nodes(MIO_SIM_PARTITION, 0, 0));
    pass(3600 * MIO_SECOND);
    assert_is(two.in.ends, 0); // nobody sent anything, nobody knows
    two_say(&two, "hello?");
    pass(900 * MIO_SECOND);
    assert_is(two.in.ends, 0);
    pass(60 * MIO_SECOND);
    assert_is(two.in.end, MIO_ETIMEDOUT);
    schedule(fault_of(MIO_SIM_HEAL));
    pass(MIO_SECOND);
    assert_is(two.server.closed, 0);
    two_close(&two);
}

TEST(one_way_partitions_let_the_other_way_through) {
    SIM_ONLY("is about simulated worlds");
    two_nodes two;
    two_open(&two);
    two_connect(&two);
    pass(MIO_SECOND);
    mio_sim_fault_t fault = between_nodes(MIO_SIM_PARTITION, 0, 60 * MIO_SECOND);
    fault.one_way = 1; // from the server to the client
    schedule(fault);
    two_say(&two, "echo");
    pass(10 * MIO_SECOND);
    assert_is(two.in.received, 0);
    assert_is(metrics(two.server_loop).bytes_read, 4);
    pass(200 * MIO_SECOND);
    ck_assert_str_eq(two.in.text, "echo");
    two_close(&two);
}

TEST(a_connect_across_a_partition_waits_and_gives_up_after_127_seconds) {
    SIM_ONLY("is about simulated worlds");
    two_nodes two;
    two_open(&two);
    schedule(between_nodes(MIO_SIM_PARTITION, 0, 20 * MIO_SECOND));
    pass(MIO_MILLISECOND);
    two_connect(&two);
    two_say(&two, "late");
    pass(19 * MIO_SECOND);
    assert_is(two.connected.calls, 0);
    pass(20 * MIO_SECOND);
    assert_is(two.connected.calls, 1);
    assert_is(two.connected.status, 0);
    ck_assert_str_eq(two.in.text, "late");
    mio_handle_abandon(two.client);

    schedule(between_nodes(MIO_SIM_PARTITION, 0, 0));
    pass(MIO_SECOND);
    two.connected = {};
    two_connect(&two);
    pass(126 * MIO_SECOND);
    assert_is(two.connected.calls, 0);
    pass(3 * MIO_SECOND);
    assert_is(two.connected.status, MIO_ETIMEDOUT);
    mio_handle_abandon(two.client);

    two.connected = {}; // nobody listens there: but who would say so?
    mio_addr_t nobody;
    assert_is(mio_addr_parse("127.0.0.1", mio_addr_port(&two.server.at), &nobody), 0);
    mio_handle_close(two.server.listener, nullptr, nullptr);
    pass(MIO_SECOND);
    ck_assert_int_gt(mio_tcp_connect(two.client_loop, &nobody, nullptr, stream_told, &two.connected, &two.client), 0);
    pass(10 * MIO_SECOND);
    assert_is(two.connected.calls, 0);
    schedule(fault_of(MIO_SIM_HEAL));
    pass(10 * MIO_SECOND);
    assert_is(two.connected.status, MIO_ECONNREFUSED);
    two_close(&two);
}

TEST(connects_into_a_black_hole_end_by_cancel_deadline_and_close) {
    SIM_ONLY("is about simulated worlds");
    two_nodes two;
    two_open(&two);
    mio_sim_fault_t hole = fault_of(MIO_SIM_BLACK_HOLE);
    hole.b.port = mio_addr_port(&two.server.at);
    schedule(hole);
    pass(MIO_MILLISECOND);
    outcome told[3] = {}, closed = {};
    mio_stream_t *streams[3];
    mio_req_t ids[3];
    for (int i = 0; i < 3; i++)
        ck_assert_int_gt(ids[i] = mio_tcp_connect(two.client_loop, &two.server.at, nullptr, stream_told, &told[i], &streams[i]), 0);
    assert_is(mio_req_timeout(two.client_loop, ids[1], 5 * MIO_SECOND), 0);
    pass(MIO_SECOND);
    assert_is(mio_req_cancel(two.client_loop, ids[0]), 0);
    assert_is(mio_handle_close(streams[2], close_told, &closed), 0);
    pass(10 * MIO_SECOND);
    assert_is(told[0].status, MIO_ECANCELED);
    assert_is(told[1].status, MIO_ETIMEDOUT);
    assert_is(told[2].status, MIO_ECANCELED);
    assert_is(closed.calls, 1);
    for (int i = 0; i < 2; i++) mio_handle_abandon(streams[i]);
}

TEST(a_black_hole_swallows_old_connections_for_ever_and_lets_new_ones_be) {
    SIM_ONLY("is about simulated worlds");
    two_nodes two;
    two_open(&two);
    two_connect(&two);
    two_say(&two, "seen");
    pass(MIO_SECOND);
    schedule(between_nodes(MIO_SIM_BLACK_HOLE, 0, MIO_SECOND));
    pass(2 * MIO_SECOND); // and it is over
    outcome told = {};
    two_say(&two, "never seen", &told);
    pass(300 * MIO_SECOND);
    assert_is(told.status, 0);
    ck_assert_str_eq(two.in.text, "seen");
    two_nodes later = two;
    later.in = {};
    later.in.is_text = true;
    later.connected = {};
    two_connect(&later);
    two_say(&later, "a new one");
    pass(MIO_SECOND);
    ck_assert_str_eq(later.in.text, "a new one");
    pass(700 * MIO_SECOND);
    assert_is(two.in.end, MIO_ETIMEDOUT);
    mio_handle_abandon(later.client);
    two_close(&two);
}

TEST(a_swallowed_writer_is_held_by_the_sockets_buffer) {
    SIM_ONLY("is about simulated worlds");
    two_nodes two;
    two_open(&two);
    two_connect(&two);
    pass(MIO_SECOND);
    schedule(between_nodes(MIO_SIM_BLACK_HOLE, 0, 0));
    pass(MIO_SECOND);
    mio_buf_t bytes = pattern_buf(two.client_loop, 1 << 20, 0);
    outcome told = {};
    ck_assert_int_gt(mio_stream_write(two.client, &bytes, 1, write_told, &told), 0);
    pass(10 * MIO_SECOND);
    assert_is(told.calls, 0);
    pass(1000 * MIO_SECOND);
    if (told.status != MIO_ETIMEDOUT) assert_is(told.status, MIO_EPIPE); // then the reader was told first, and once
    else assert_is(two.in.ends, 1);
    assert_is(told.status == MIO_ETIMEDOUT || two.in.end == MIO_ETIMEDOUT, 1);
    ck_assert_int_le(told.sent, 65536);
    two_close(&two);
}

// --- the network's other faults -------------------------------------------------------------------------------------

TEST(a_reset_ends_both_ends_of_the_connections_it_names) {
    SIM_ONLY("is about simulated worlds");
    two_nodes two;
    two_open(&two);
    two_connect(&two);
    two_say(&two, "x");
    pass(MIO_SECOND);
    mio_sim_fault_t reset = fault_of(MIO_SIM_RESET);
    reset.a.port = mio_addr_port(&two.server.at) == 1 ? 2 : 1;
    schedule(reset); // of somebody else
    pass(MIO_SECOND);
    assert_is(two.in.ends, 0);
    mio_addr_t at = two.server.at;
    reset.a.port = mio_addr_port(&at);
    reset.a.addr = &at;
    schedule(reset);
    memset(static_cast<void *>(&at), 0xff, sizeof at); // it was copied
    pass(MIO_SECOND);
    assert_is(two.in.end, MIO_ECONNRESET);
    assert_is(metrics(two.server_loop).handles, 1); // the listener
    two_close(&two);
}

TEST(latency_and_bandwidth_change_for_a_while) {
    SIM_ONLY("is about simulated worlds");
    two_nodes two;
    two_open(&two);
    two_connect(&two);
    pass(MIO_SECOND);
    mio_sim_fault_t slow = between_nodes(MIO_SIM_LATENCY, 0, 5 * MIO_SECOND);
    slow.latency_min_ns = slow.latency_max_ns = 400 * MIO_MILLISECOND;
    schedule(slow);
    two_say(&two, "x");
    pass(790 * MIO_MILLISECOND);
    assert_is(two.in.received, 0);
    pass(20 * MIO_MILLISECOND);
    assert_is(two.in.received, 1);
    pass(5 * MIO_SECOND);
    mio_sim_fault_t narrow = between_nodes(MIO_SIM_BANDWIDTH, 0, 100 * MIO_SECOND);
    narrow.bandwidth = 10000;
    schedule(narrow);
    mio_buf_t bytes = pattern_buf(two.client_loop, 50000, 0);
    ck_assert_int_gt(mio_stream_write(two.client, &bytes, 1, nullptr, nullptr), 0);
    pass(2 * MIO_SECOND);
    ck_assert_uint_lt(two.in.received, 20000); // not all at once, nor nothing: it comes in pieces
    ck_assert_uint_gt(two.in.received, 1);
    pass(2 * MIO_SECOND);
    ck_assert_uint_lt(two.in.received, 40001);
    pass(20 * MIO_SECOND);
    assert_is(two.in.received, 50001);
    two_close(&two);
}

TEST(lost_segments_come_late_and_in_order) {
    SIM_ONLY("is about simulated worlds");
    two_nodes two;
    two_open(&two);
    two_connect(&two);
    two.in.is_text = false;
    pass(MIO_SECOND);
    mio_sim_fault_t loss = between_nodes(MIO_SIM_LOSS, 0, 0);
    loss.ppm = 300000;
    schedule(loss);
    mio_buf_t bytes = pattern_buf(two.client_loop, 1 << 20, 0);
    ck_assert_int_gt(mio_stream_write(two.client, &bytes, 1, nullptr, nullptr), 0);
    pass(MIO_SECOND);
    ck_assert_uint_lt(two.in.received, 1 << 20);
    pass(1800 * MIO_SECOND);
    assert_is(two.in.received, 1 << 20);
    ck_assert(!two.in.wrong);
    two_close(&two);
}

// --- loops and clocks -----------------------------------------------------------------------------------------------

struct ticks {
    int fired;
    int64_t last_ns, due_ns;
    bool early;
};

static void tick(mio_timer_t *timer, void *arg) {
    ticks *t = static_cast<ticks *>(arg);
    t->fired++;
    t->last_ns = mio_loop_now_ns(mio_handle_loop(timer));
    if (t->due_ns != 0 && t->last_ns < t->due_ns) t->early = true;
}

static mio_timer_t *ticking(mio_loop_t *loop, int64_t after_ns, int64_t repeat_ns, ticks *t) {
    mio_timer_t *timer;
    assert_is(mio_timer_create(loop, &timer), 0);
    t->due_ns = mio_sim_now_ns(world()) + after_ns;
    assert_is(mio_timer_start(timer, after_ns, repeat_ns, tick, t), 0);
    return timer;
}

TEST(a_paused_node_takes_no_turn_and_the_world_goes_on) {
    SIM_ONLY("is about simulated worlds");
    mio_loop_t *loops[2] = {loop_open(), loop_open()};
    ticks t[2] = {};
    for (int i = 0; i < 2; i++) ticking(loops[i], MIO_SECOND, MIO_SECOND, &t[i]);
    mio_sim_fault_t pause = fault_of(MIO_SIM_PAUSE);
    pause.a.nodes = 2;
    pause.after_ns = 2500 * MIO_MILLISECOND;
    pause.for_ns = 10 * MIO_SECOND;
    schedule(pause);
    const int64_t begun_ns = mio_sim_now_ns(world());
    pass(12400 * MIO_MILLISECOND);
    assert_is(t[0].fired, 12);
    assert_is(t[1].fired, 2);
    pass(200 * MIO_MILLISECOND); // what was missed is told once, and late
    assert_is(t[1].fired, 3);
    ck_assert_int_ge(t[1].last_ns - begun_ns, 12500 * MIO_MILLISECOND);
    pass(10 * MIO_SECOND);
    ck_assert_int_ge(t[1].fired, 12);
    ck_assert_int_le(t[1].fired, 14);
    ck_assert(!t[0].early && !t[1].early);
}

TEST(a_loop_that_runs_by_itself_sleeps_a_pause_out) {
    SIM_ONLY("is about simulated worlds");
    mio_loop_t *loop = loop_open();
    ticks t = {};
    ticking(loop, MIO_SECOND, 0, &t);
    mio_sim_fault_t pause = fault_of(MIO_SIM_PAUSE);
    pause.for_ns = 10 * MIO_SECOND;
    schedule(pause);
    const int64_t begun_ns = mio_sim_now_ns(world());
    assert_is(mio_loop_run(loop), 0);
    assert_is(t.fired, 1);
    ck_assert_int_ge(mio_sim_now_ns(world()) - begun_ns, 10 * MIO_SECOND);
    pause.for_ns = 0; // for ever: nothing can happen any more
    schedule(pause);
    mio_timer_t *timer = ticking(loop, MIO_SECOND, 0, &t);
    assert_is(mio_loop_run(loop), MIO_ETIMEDOUT);
    assert_is(mio_sim_run(world(), MIO_FOREVER), MIO_ETIMEDOUT);
    assert_is(t.fired, 1);
    mio_handle_abandon(timer);
}

TEST(a_clock_that_jumps_makes_timers_late_once_and_never_early) {
    SIM_ONLY("is about simulated worlds");
    mio_loop_t *loop = loop_open();
    ticks once = {}, repeating = {}, far = {};
    ticking(loop, 10 * MIO_SECOND, 0, &once);
    ticking(loop, MIO_SECOND, MIO_SECOND, &repeating);
    ticking(loop, 7200 * MIO_SECOND, 0, &far);
    mio_sim_fault_t jump = fault_of(MIO_SIM_CLOCK_JUMP);
    jump.after_ns = 5500 * MIO_MILLISECOND;
    jump.jump_ns = 3600 * MIO_SECOND;
    schedule(jump);
    const int64_t begun_ns = mio_sim_now_ns(world());
    pass(5400 * MIO_MILLISECOND);
    assert_is(repeating.fired, 5);
    assert_is(mio_sim_run(world(), 200 * MIO_MILLISECOND), MIO_ETIMEDOUT);
    ck_assert_int_ge(mio_sim_now_ns(world()) - begun_ns, 3605 * MIO_SECOND);
    pass(MIO_MILLISECOND);
    assert_is(once.fired, 1);
    assert_is(repeating.fired, 6); // one, not 3,600
    assert_is(far.fired, 0);
    pass(3700 * MIO_SECOND);
    assert_is(far.fired, 1);
    ck_assert(!once.early && !repeating.early && !far.early);
}

TEST(a_wall_clock_that_jumps_moves_no_timer_of_a_world) {
    SIM_ONLY("is about simulated worlds");
    mio_loop_t *loop = loop_open();
    ticks t = {};
    ticking(loop, 10 * MIO_SECOND, 0, &t);
    const int64_t wall_ns = mio_sim_wall_ns(world());
    ck_assert_int_ge(wall_ns, 1577836800 * MIO_SECOND);
    mio_sim_fault_t jump = fault_of(MIO_SIM_WALL_JUMP);
    jump.after_ns = MIO_SECOND;
    jump.jump_ns = -3600 * MIO_SECOND;
    schedule(jump);
    pass(2 * MIO_SECOND);
    assert_is(mio_sim_wall_ns(world()), wall_ns + 2 * MIO_SECOND - 3600 * MIO_SECOND);
    assert_is(t.fired, 0);
    pass(7 * MIO_SECOND);
    assert_is(t.fired, 0);
    assert_is(mio_sim_run(world(), 2 * MIO_SECOND), 0);
    assert_is(t.fired, 1);
}

TEST(timers_of_no_time_and_of_all_time_starve_nobody_in_a_world) {
    SIM_ONLY("is about simulated worlds");
    two_nodes two;
    two_open(&two);
    two_connect(&two);
    mio_timer_t *restless, *never;
    assert_is(mio_timer_create(two.client_loop, &restless), 0);
    assert_is(mio_timer_create(two.client_loop, &never), 0);
    int fired = 0;
    assert_is(mio_timer_start(restless, 0, 1, [](mio_timer_t *, void *arg) { ++*static_cast<int *>(arg); }, &fired), 0); // due in every turn
    assert_is(mio_timer_start(never, INT64_MAX, 0, tick, nullptr), 0);
    two_say(&two, "served");
    pass(100 * MIO_MILLISECOND);
    ck_assert_str_eq(two.in.text, "served");
    ck_assert_int_gt(fired, 100);
    mio_handle_abandon(restless);
    mio_handle_abandon(never);
    two_close(&two);
}
