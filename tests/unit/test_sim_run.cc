// mio_sim_run: who runs next, when time goes on, how a run ends, and that a seed tells everything.
#include "unit/sim_fixture.h"

#include <mio.h>

#include <pthread.h>

using namespace mio;

static mio_loop_t *loop_in_world() {
    mio_loop_options_t o = MIO_LOOP_OPTIONS_INIT;
    o.sim = world;
    mio_loop_t *l;
    assert_int_equal(mio_loop_create(&l, &o), 0);
    return l;
}

static void test_worlds_refuse_nonsense(void **) {
    assert_int_equal(mio_sim_create(nullptr, nullptr), MIO_EINVAL);
    mio_sim_options_t o = options_of(1);
    o.reset_ppm = 1000001;
    assert_int_equal(mio_sim_create(&world, &o), MIO_EINVAL);
    o = options_of(1);
    o.latency_min_ns = 5;
    o.latency_max_ns = 4;
    assert_int_equal(mio_sim_create(&world, &o), MIO_EINVAL);
    o.size = 3;
    assert_int_equal(mio_sim_create(&world, &o), MIO_EINVAL);
    assert_int_equal(mio_sim_run(nullptr, 0), MIO_EINVAL);
    assert_int_equal(mio_sim_open_fds(nullptr), MIO_EINVAL);
    assert_int_equal(mio_sim_destroy(nullptr), 0);
    assert_int_equal(mio_sim_trace_hash(nullptr), 0);

    assert_int_equal(mio_sim_create(&world, nullptr), 0);
    mio_sim_t *second;
    assert_int_equal(mio_sim_create(&second, nullptr), MIO_EBUSY);
    assert_int_equal(mio_sim_run(world, -1), MIO_EINVAL);
    mio_loop_options_t lo = MIO_LOOP_OPTIONS_INIT;
    lo.backend = MIO_BACKEND_SIM; // by name: the thread's current world
    mio_loop_t *l;
    assert_int_equal(mio_loop_create(&l, &lo), 0);
    assert_int_equal(mio_sim_destroy(world), MIO_EBUSY);
    assert_int_equal(mio_loop_destroy(l, 0), 0);
    assert_int_equal(mio_sim_destroy(world), 0);
    assert_int_equal(mio_loop_create(&l, &lo), MIO_ENOTSUP);
}

// --- time -----------------------------------------------------------------------------------------------------------

static void count(mio_timer_t *, void *arg) { ++*static_cast<int *>(arg); }

static void test_time_passes_when_all_are_idle(void **) {
    assert_int_equal(mio_sim_create(&world, nullptr), 0);
    const int64_t begun_ns = mio_sim_now_ns(world);
    mio_loop_t *a = loop_in_world();
    mio_loop_t *b = loop_in_world();
    mio_timer_t *timers[2];
    int fired[2] = {0, 0};
    assert_int_equal(mio_timer_create(a, &timers[0]), 0);
    assert_int_equal(mio_timer_create(b, &timers[1]), 0);
    assert_int_equal(mio_timer_start(timers[0], MIO_SECOND, MIO_SECOND, count, &fired[0]), 0);
    assert_int_equal(mio_timer_start(timers[1], 3600 * MIO_SECOND, 0, count, &fired[1]), 0);
    assert_int_equal(mio_sim_run(world, 10 * MIO_SECOND + MIO_SECOND / 2), MIO_ETIMEDOUT);
    assert_int_equal(mio_sim_now_ns(world) - begun_ns, 10 * MIO_SECOND + MIO_SECOND / 2);
    assert_int_equal(fired[0], 10);
    assert_int_equal(fired[1], 0);
    mio_handle_close(timers[0], nullptr, nullptr);
    assert_int_equal(mio_sim_run(world, MIO_FOREVER), 0);
    assert_int_equal(fired[1], 1);
    assert_in_range(mio_sim_now_ns(world) - begun_ns, 3600 * MIO_SECOND, 3600 * MIO_SECOND + MIO_MILLISECOND);
    mio_handle_close(timers[1], nullptr, nullptr);
    // A loop that nothing can ever wake.
    assert_int_equal(mio_loop_hold(a, 1), 0);
    assert_int_equal(mio_sim_run(world, MIO_FOREVER), MIO_ETIMEDOUT);
    assert_int_equal(mio_loop_run(a), MIO_ETIMEDOUT);
    assert_int_equal(mio_loop_hold(a, -1), 0);
    assert_int_equal(mio_loop_destroy(a, 0), 0);
    assert_int_equal(mio_loop_destroy(b, 0), 0);
    assert_int_equal(mio_sim_destroy(world), 0);
}

static void never_idle(mio_hook_t *, void *arg) { ++*static_cast<int *>(arg); }

static void test_a_loop_that_is_never_idle_does_not_stop_the_time(void **) {
    assert_int_equal(mio_sim_create(&world, nullptr), 0);
    mio_loop_t *l = loop_in_world();
    mio_hook_t *hook;
    int turns = 0;
    int fired = 0;
    assert_int_equal(mio_hook_create(l, MIO_HOOK_IDLE, &hook), 0);
    assert_int_equal(mio_hook_start(hook, never_idle, &turns), 0);
    mio_timer_t *timer;
    assert_int_equal(mio_timer_create(l, &timer), 0);
    assert_int_equal(mio_timer_start(timer, MIO_MILLISECOND, 0, count, &fired), 0);
    assert_int_equal(mio_sim_run(world, 2 * MIO_MILLISECOND), MIO_ETIMEDOUT);
    assert_int_equal(fired, 1);
    assert_in_range(turns, 2000, 5000);
    assert_int_equal(mio_loop_destroy(l, 0), 0);
    assert_int_equal(mio_sim_destroy(world), 0);
}

// --- how a run ends -------------------------------------------------------------------------------------------------

static void stop_it(mio_loop_t *l, int, void *) { mio_loop_stop(l); }

static void run_inside(mio_loop_t *, int, void *arg) {
    *static_cast<int *>(arg) = mio_sim_run(world, 0);
    assert_int_equal(mio_sim_destroy(world), MIO_EBUSY);
}

static void *run_elsewhere(void *arg) {
    *static_cast<int *>(arg) = mio_sim_run(world, 0);
    if (mio_sim_destroy(world) != MIO_EPERM) *static_cast<int *>(arg) = 1;
    return nullptr;
}

static void test_stop_and_refusals(void **) {
    assert_int_equal(mio_sim_create(&world, nullptr), 0);
    mio_loop_t *a = loop_in_world();
    mio_loop_t *b = loop_in_world();
    assert_int_equal(mio_sim_run(world, MIO_SECOND), 0);
    assert_int_equal(mio_loop_hold(a, 1), 0);
    assert_int_equal(mio_loop_hold(b, 1), 0);
    assert_int_equal(mio_remote_post(mio_loop_remote(a), stop_it, nullptr), 0);
    assert_int_equal(mio_sim_run(world, MIO_SECOND), MIO_ETIMEDOUT); // b is alive and was not stopped
    mio_loop_stop(b);
    assert_int_equal(mio_remote_post(mio_loop_remote(a), stop_it, nullptr), 0);
    assert_int_equal(mio_sim_run(world, MIO_SECOND), MIO_STOPPED);
    int inside = 0;
    assert_int_equal(mio_remote_post(mio_loop_remote(a), run_inside, &inside), 0);
    assert_int_equal(mio_sim_run(world, MIO_SECOND), MIO_ETIMEDOUT);
    assert_int_equal(inside, MIO_EBUSY);
    inside = 0;
    assert_int_equal(mio_remote_post(mio_loop_remote(a), run_inside, &inside), 0);
    assert_int_equal(mio_loop_run_once(a, 0), MIO_ALIVE);
    assert_int_equal(inside, MIO_EBUSY);
    int elsewhere = 0;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, nullptr, run_elsewhere, &elsewhere), 0);
    assert_int_equal(pthread_join(thread, nullptr), 0);
    assert_int_equal(elsewhere, MIO_EPERM);
    assert_int_equal(mio_loop_destroy(a, 0), 0);
    assert_int_equal(mio_loop_destroy(b, 0), 0);
    assert_int_equal(mio_sim_destroy(world), 0);
}

static char order[64];
static size_t order_len;

static void write_name(mio_loop_t *l, int, void *) {
    order[order_len++] = *static_cast<char *>(mio_loop_data(l));
}

static void destroy_other(mio_loop_t *, int, void *arg) {
    assert_int_equal(mio_loop_destroy(static_cast<mio_loop_t *>(arg), 0), 0);
}

static void test_loops_run_in_seeded_order(void **) {
    char names[] = "abcd";
    char first[sizeof order] = "";
    int different = 0;
    for (uint64_t seed = 0; seed < 10; seed++) {
        const mio_sim_options_t o = options_of(seed / 2); // each seed twice
        assert_int_equal(mio_sim_create(&world, &o), 0);
        mio_loop_t *loops[4];
        order_len = 0;
        for (int i = 0; i < 4; i++) {
            loops[i] = loop_in_world();
            assert_int_equal(mio_loop_set_data(loops[i], &names[i]), 0);
            assert_int_equal(mio_remote_post(mio_loop_remote(loops[i]), write_name, nullptr), 0);
        }
        assert_int_equal(mio_sim_run(world, 0), 0);
        assert_int_equal(order_len, 4);
        order[4] = '\0';
        if (seed % 2 == 1) assert_string_equal(order, first);
        else different += strcmp(order, first) != 0;
        memcpy(first, order, sizeof first);
        // One loop may end another in the middle of a run.
        assert_int_equal(mio_remote_post(mio_loop_remote(loops[0]), destroy_other, loops[1]), 0);
        assert_int_equal(mio_remote_post(mio_loop_remote(loops[2]), destroy_other, loops[3]), 0);
        assert_int_equal(mio_sim_run(world, 0), 0);
        assert_int_equal(mio_loop_destroy(loops[0], 0), 0);
        assert_int_equal(mio_loop_destroy(loops[2], 0), 0);
        assert_int_equal(mio_sim_destroy(world), 0);
    }
    assert_true(different >= 3);
}

// --- a whole program ------------------------------------------------------------------------------------------------

static void on_written(mio_stream_t *conn, int status, int64_t, mio_buf_t *, unsigned, void *) {
    if (status < 0) mio_handle_close(conn, nullptr, nullptr);
}

static void on_echo_read(mio_stream_t *conn, int64_t n, mio_buf_t *buf, void *) {
    if (n == MIO_EOF) mio_stream_finish(conn, 5 * MIO_SECOND, nullptr, nullptr);
    else if (n < 0 || mio_stream_write(conn, buf, 1, on_written, nullptr) < 0)
        mio_handle_close(conn, nullptr, nullptr);
}

static void on_accept(mio_listener_t *, int status, mio_stream_t *conn, void *) {
    if (status == 0) mio_stream_read_start(conn, 0, on_echo_read, nullptr);
}

constexpr int64_t CLIENT_BYTES = 20000;

struct client {
    int64_t received;
    bool ended;
    int result;
};

static void on_client_read(mio_stream_t *conn, int64_t n, mio_buf_t *buf, void *arg) {
    auto *c = static_cast<client *>(arg);
    if (n > 0) {
        for (int64_t i = 0; i < n; i++) assert_int_equal(buf->base[i], static_cast<char>((c->received + i) * 7));
        c->received += n;
        return;
    }
    c->ended = true;
    c->result = static_cast<int>(n);
    mio_handle_close(conn, nullptr, nullptr);
}

static void on_connected(mio_stream_t *conn, int status, void *arg) {
    auto *c = static_cast<client *>(arg);
    if (status == 0) return;
    c->result = status;
    mio_handle_close(conn, nullptr, nullptr);
}

static void client_start(mio_loop_t *l, client *c, int port) {
    mio_addr_t to;
    assert_int_equal(mio_addr_parse("127.0.0.1", port, &to), 0);
    mio_stream_t *s;
    assert_true(mio_tcp_connect(l, &to, nullptr, on_connected, c, &s) > 0);
    mio_buf_t buf;
    assert_int_equal(mio_buf_alloc(l, CLIENT_BYTES, &buf), 0);
    for (int64_t i = 0; i < CLIENT_BYTES; i++) buf.base[i] = static_cast<char>(i * 7);
    buf.len = CLIENT_BYTES;
    assert_true(mio_stream_write(s, &buf, 1, nullptr, nullptr) > 0);
    assert_true(mio_stream_shutdown(s, nullptr, nullptr) > 0);
    assert_true(mio_stream_read_start(s, 0, on_client_read, c) > 0);
}

struct outcome {
    uint64_t hash;
    int64_t took_ns;
    int clean;
};

static outcome echo_world(const mio_sim_options_t &o) {
    assert_int_equal(mio_sim_create(&world, &o), 0);
    mio_loop_t *server = loop_in_world();
    mio_loop_t *clients = loop_in_world();
    mio_listener_t *listener;
    assert_int_equal(mio_tcp_listen(server, "127.0.0.1", 0, nullptr, on_accept, nullptr, &listener), 0);
    mio_addr_t local;
    assert_int_equal(mio_listener_local(listener, &local), 0);
    client all[8];
    memset(all, 0, sizeof all);
    const int64_t begun_ns = mio_sim_now_ns(world);
    for (client &c : all) client_start(clients, &c, mio_addr_port(&local));
    const int result = mio_sim_run(world, 60 * MIO_SECOND);
    assert_true(result == MIO_ETIMEDOUT); // the listener is alive
    outcome out = {mio_sim_trace_hash(world), mio_sim_now_ns(world) - begun_ns, 0};
    for (const client &c : all) {
        if (c.received == CLIENT_BYTES && c.result == MIO_EOF) out.clean++;
        else assert_true(c.result < 0);
    }
    assert_int_equal(mio_loop_destroy(clients, MIO_SECOND), 0);
    assert_int_equal(mio_loop_destroy(server, MIO_SECOND), 0);
    assert_int_equal(mio_sim_open_fds(world), 0);
    assert_int_equal(mio_sim_destroy(world), 0);
    return out;
}

static void test_a_seed_tells_everything(void **) {
    uint64_t last = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        mio_sim_options_t o = options_of(seed);
        if (seed % 2 == 0) o.short_read_ppm = o.short_write_ppm = 200000;
        if (seed % 3 == 0) o.socket_buffer = 3000;
        const outcome first = echo_world(o);
        const outcome second = echo_world(o);
        assert_true(first.hash == second.hash);
        assert_true(first.hash != last);
        assert_int_equal(first.clean, 8);
        last = first.hash;
    }
}

static void test_misfortune_is_survived(void **) {
    int clean = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        mio_sim_options_t o = options_of(seed);
        o.short_read_ppm = o.short_write_ppm = 100000;
        o.refuse_ppm = 50000;
        o.reset_ppm = 5000;
        o.accept_error_ppm = 200000;
        const outcome first = echo_world(o);
        assert_true(first.hash == echo_world(o).hash);
        clean += first.clean;
    }
    assert_in_range(clean, 100, 479);
}

// More handles than records in all the turns that destroy has for nothing.
static void on_idle_read(mio_stream_t *, int64_t, mio_buf_t *, void *) {}
static void on_idle_accept(mio_listener_t *, int status, mio_stream_t *conn, void *) {
    if (status == 0) assert_true(mio_stream_read_start(conn, 0, on_idle_read, nullptr) > 0);
}
static void on_idle_connected(mio_stream_t *conn, int status, void *) {
    assert_int_equal(status, 0);
    assert_true(mio_stream_read_start(conn, 0, on_idle_read, nullptr) > 0);
}

static void test_destroy_in_no_time_leaves_nothing(void **) {
    for (uint64_t seed = 1; seed <= 10; seed++) {
        const mio_sim_options_t o = options_of(seed);
        assert_int_equal(mio_sim_create(&world, &o), 0);
        mio_loop_options_t lo = MIO_LOOP_OPTIONS_INIT;
        lo.completions = 64;
        mio_loop_t *l;
        mio_listener_t *listener;
        mio_addr_t at;
        assert_int_equal(mio_loop_create(&l, &lo), 0);
        assert_int_equal(mio_tcp_listen(l, "127.0.0.1", 0, nullptr, on_idle_accept, nullptr, &listener), 0);
        assert_int_equal(mio_listener_local(listener, &at), 0);
        mio_stream_t *conns[1000];
        for (auto &conn : conns) assert_true(mio_tcp_connect(l, &at, nullptr, on_idle_connected, nullptr, &conn) > 0);
        assert_int_equal(mio_sim_run(world, MIO_SECOND), MIO_ETIMEDOUT);
        for (int i = 0; i < 1000; i += 2) assert_int_equal(mio_handle_close(conns[i], nullptr, nullptr), 0);
        assert_int_equal(mio_loop_destroy(l, 0), 0);
        assert_int_equal(mio_sim_open_fds(world), 0);
        assert_int_equal(mio_sim_destroy(world), 0);
    }
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_worlds_refuse_nonsense),
        cmocka_unit_test(test_time_passes_when_all_are_idle),
        cmocka_unit_test(test_a_loop_that_is_never_idle_does_not_stop_the_time),
        cmocka_unit_test(test_stop_and_refusals),
        cmocka_unit_test(test_loops_run_in_seeded_order),
        cmocka_unit_test(test_a_seed_tells_everything),
        cmocka_unit_test(test_misfortune_is_survived),
        cmocka_unit_test(test_destroy_in_no_time_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
