// Simulated worlds: virtual time, the same seed the same run, misfortune, and their own mistakes.
#include "harness.h"

#include <pthread.h>

using namespace api;

// A world of this test alone, with a loop in it.
struct globe {
    mio_sim_t *world;
    mio_loop_t *loop;
};

static globe globe_open(mio_sim_options_t options) {
    globe one = {};
    assert_is(mio_sim_create(&one.world, &options), 0);
    mio_loop_options_t in = MIO_LOOP_OPTIONS_INIT;
    in.sim = one.world;
    assert_is(mio_loop_create(&one.loop, &in), 0);
    ck_assert_str_eq(mio_loop_backend(one.loop), "sim");
    return one;
}

static void globe_close(globe *one) {
    assert_is(mio_loop_destroy(one->loop, MIO_SECOND), 0);
    assert_is(mio_sim_open_fds(one->world), 0);
    assert_is(mio_sim_destroy(one->world), 0);
}

static mio_sim_options_t seeded(uint64_t seed) {
    mio_sim_options_t options = MIO_SIM_OPTIONS_INIT;
    options.seed = seed;
    return options;
}

TEST(a_world_answers_each_mistake) {
    SIM_ONLY("is about simulated worlds");
    mio_sim_t *one = nullptr, *two = nullptr;
    mio_sim_options_t options = MIO_SIM_OPTIONS_INIT;
    assert_is(mio_sim_create(nullptr, nullptr), MIO_EINVAL);
    options.size = 5;
    assert_is(mio_sim_create(&one, &options), MIO_EINVAL);
    options = seeded(1);
    options.latency_min_ns = -1;
    assert_is(mio_sim_create(&one, &options), MIO_EINVAL);
    options = seeded(1);
    options.latency_min_ns = 10;
    options.latency_max_ns = 5;
    assert_is(mio_sim_create(&one, &options), MIO_EINVAL);
    struct { mio_sim_options_t known; char tail[8]; } longer;
    memset(&longer, 0, sizeof longer);
    longer.known.size = sizeof longer;
    longer.tail[0] = 1;
    assert_is(mio_sim_create(&one, &longer.known), MIO_E2BIG);
    ck_assert_ptr_null(one);
    longer.tail[0] = 0;
    assert_is(mio_sim_create(&one, &longer.known), 0);
    assert_is(mio_sim_create(&two, nullptr), MIO_EBUSY); // the thread has a current world
    ck_assert_ptr_null(two);
    assert_is(mio_sim_run(nullptr, 1), MIO_EINVAL);
    assert_is(mio_sim_run(one, -1), MIO_EINVAL);
    assert_is(mio_sim_run(one, MIO_SECOND), 0); // no loop at all
    assert_is(mio_sim_trace_hash(nullptr), 0);
    assert_is(mio_sim_now_ns(nullptr), 0);
    assert_is(mio_sim_random(nullptr), 0);
    assert_is(mio_sim_open_fds(nullptr), MIO_EINVAL);
    mio_loop_options_t in = MIO_LOOP_OPTIONS_INIT;
    mio_loop_t *loop = nullptr;
    in.sim = one;
    in.backend = MIO_BACKEND_EPOLL;
    const int contradiction = mio_loop_create(&loop, &in);
    if (contradiction == 0) assert_is(mio_loop_destroy(loop, 0), 0);
    in.backend = MIO_BACKEND_SIM;
    assert_is(mio_loop_create(&loop, &in), 0);
    assert_is(mio_sim_destroy(one), MIO_EBUSY); // a loop lives in it
    assert_is(mio_loop_destroy(loop, 0), 0);
    assert_is(mio_sim_destroy(one), 0);
    assert_is(mio_sim_destroy(nullptr), 0);
}

TEST(virtual_time_passes_in_no_time) {
    SIM_ONLY("is about simulated worlds");
    globe one = globe_open(seeded(seed()));
    mio_timer_t *timer;
    assert_is(mio_timer_create(one.loop, &timer), 0);
    assert_is(mio_timer_start(timer, 3600 * 24 * 365 * MIO_SECOND, 0, [](mio_timer_t *, void *) {}, nullptr), 0);
    const int64_t begun = clock_ns(), virtual_begun = mio_sim_now_ns(one.world);
    assert_is(mio_sim_run(one.world, MIO_FOREVER), 0);
    ck_assert_int_lt(clock_ns() - begun, 5 * MIO_SECOND);
    ck_assert_int_ge(mio_sim_now_ns(one.world) - virtual_begun, 3600 * 24 * 365 * MIO_SECOND);
    assert_is(mio_loop_now_ns(one.loop) <= mio_sim_now_ns(one.world), 1);
    globe_close(&one);
}

TEST(a_run_ends_at_its_limit_and_goes_on_later) {
    SIM_ONLY("is about simulated worlds");
    globe one = globe_open(seeded(seed()));
    mio_timer_t *timer;
    int fired = 0;
    assert_is(mio_timer_create(one.loop, &timer), 0);
    assert_is(mio_timer_start(timer, 10 * MIO_SECOND, 0, [](mio_timer_t *, void *arg) { ++*static_cast<int *>(arg); }, &fired), 0);
    assert_is(mio_sim_run(one.world, 4 * MIO_SECOND), MIO_ETIMEDOUT);
    assert_is(mio_sim_run(one.world, 4 * MIO_SECOND), MIO_ETIMEDOUT);
    assert_is(fired, 0);
    assert_is(mio_sim_run(one.world, 4 * MIO_SECOND), 0);
    assert_is(fired, 1);
    globe_close(&one);
}

static uint64_t echo_story(uint64_t with_seed, mio_sim_options_t options, uint64_t *received) {
    options.seed = with_seed;
    globe one = globe_open(options);
    echo server;
    echo_open(one.loop, &server);
    static inbox in[4];
    mio_stream_t *clients[4];
    for (int i = 0; i < 4; i++) {
        in[i] = {};
        in[i].close_at_end = true;
        ck_assert_int_gt(mio_tcp_connect(one.loop, &server.at, nullptr, [](mio_stream_t *, int, void *) {}, nullptr,
                                         &clients[i]), 0);
        ck_assert_int_gt(mio_stream_read_start(clients[i], MIO_READ_NO_AUTOPAUSE, read_into, &in[i]), 0);
        mio_buf_t bytes = pattern_buf(one.loop, 20000, 0);
        ck_assert_int_gt(mio_stream_write(clients[i], &bytes, 1, nullptr, nullptr), 0);
        ck_assert_int_gt(mio_stream_shutdown(clients[i], nullptr, nullptr), 0);
    }
    mio_handle_unref(server.listener);
    assert_is(mio_sim_run(one.world, 600 * MIO_SECOND), 0);
    *received = 0;
    for (const inbox &client : in) {
        ck_assert(!client.wrong);
        *received += client.received;
    }
    mio_handle_abandon(server.listener);
    const uint64_t hash = mio_sim_trace_hash(one.world) ^ mio_sim_random(one.world);
    globe_close(&one);
    return hash;
}

TEST(the_same_seed_gives_the_same_run_and_another_seed_another) {
    SIM_ONLY("is about simulated worlds");
    mio_sim_options_t options = MIO_SIM_OPTIONS_INIT;
    options.short_read_ppm = options.short_write_ppm = 300000;
    uint64_t received[3];
    const uint64_t first = echo_story(seed(), options, &received[0]);
    const uint64_t again = echo_story(seed(), options, &received[1]);
    const uint64_t other = echo_story(seed() + 1000000, options, &received[2]);
    ck_assert_uint_eq(first, again);
    ck_assert_uint_ne(first, other);
    for (uint64_t n : received) assert_is(n, 80000);
}

TEST(resets_and_refusals_lose_no_handle_and_no_buffer) {
    SIM_ONLY("is about simulated worlds");
    mio_sim_options_t options = MIO_SIM_OPTIONS_INIT;
    options.short_read_ppm = options.short_write_ppm = 200000;
    options.reset_ppm = 50000;
    options.refuse_ppm = 200000;
    options.accept_error_ppm = 100000;
    uint64_t received;
    for (uint64_t i = 0; i < 20; i++) {
        const uint64_t first = echo_story(seed() * 1000 + i, options, &received);
        const uint64_t again = echo_story(seed() * 1000 + i, options, &received);
        ck_assert_uint_eq(first, again);
    }
}

TEST(every_connect_can_be_refused_and_every_transfer_reset) {
    SIM_ONLY("is about simulated worlds");
    mio_sim_options_t options = seeded(seed());
    options.refuse_ppm = 1000000;
    globe one = globe_open(options);
    mio_addr_t at;
    mio_listener_t *listener = listen_on(one.loop, [](mio_listener_t *, int, mio_stream_t *, void *) {}, nullptr, &at);
    outcome told = {};
    mio_stream_t *client;
    ck_assert_int_gt(mio_tcp_connect(one.loop, &at, nullptr, stream_told, &told, &client), 0);
    mio_handle_unref(listener);
    assert_is(mio_sim_run(one.world, MIO_SECOND), 0);
    assert_is(told.status, MIO_ECONNREFUSED);
    mio_handle_abandon(client);
    mio_handle_abandon(listener);
    globe_close(&one);
}

TEST(latency_is_what_was_asked_for) {
    SIM_ONLY("is about simulated worlds");
    mio_sim_options_t options = seeded(seed());
    options.latency_min_ns = options.latency_max_ns = 10 * MIO_MILLISECOND;
    globe one = globe_open(options);
    echo server;
    echo_open(one.loop, &server);
    mio_stream_t *client;
    inbox in = {};
    in.stop_at = 10;
    outcome told = {};
    told.stop = true;
    int64_t begun = mio_sim_now_ns(one.world);
    ck_assert_int_gt(mio_tcp_connect(one.loop, &server.at, nullptr, stream_told, &told, &client), 0);
    assert_is(mio_sim_run(one.world, MIO_SECOND), MIO_STOPPED);
    ck_assert_int_ge(mio_sim_now_ns(one.world) - begun, 20 * MIO_MILLISECOND); // there and back
    ck_assert_int_gt(mio_stream_read_start(client, 0, read_into, &in), 0);
    begun = mio_sim_now_ns(one.world);
    mio_buf_t bytes = pattern_buf(one.loop, 10, 0);
    ck_assert_int_gt(mio_stream_write(client, &bytes, 1, nullptr, nullptr), 0);
    assert_is(mio_sim_run(one.world, MIO_SECOND), MIO_STOPPED);
    ck_assert_int_ge(mio_sim_now_ns(one.world) - begun, 20 * MIO_MILLISECOND);
    ck_assert_int_le(mio_sim_now_ns(one.world) - begun, 25 * MIO_MILLISECOND);
    mio_handle_abandon(client);
    mio_handle_abandon(server.listener);
    assert_is(mio_sim_run(one.world, MIO_SECOND), 0); // the server's end of it goes
    globe_close(&one);
}

TEST(several_loops_of_one_world_talk_to_each_other) {
    SIM_ONLY("is about simulated worlds");
    mio_loop_t *server_loop = loop_open(), *client_loop = loop_open();
    echo server;
    echo_open(server_loop, &server);
    static inbox in;
    in = {};
    mio_stream_t *client;
    ck_assert_int_gt(mio_tcp_connect(client_loop, &server.at, nullptr, [](mio_stream_t *, int, void *) {}, nullptr, &client), 0);
    ck_assert_int_gt(mio_stream_read_start(client, MIO_READ_NO_AUTOPAUSE, read_into, &in), 0);
    mio_buf_t bytes = pattern_buf(client_loop, 500000, 0);
    ck_assert_int_gt(mio_stream_write(client, &bytes, 1, nullptr, nullptr), 0);
    ck_assert_int_gt(mio_stream_shutdown(client, nullptr, nullptr), 0);
    in.close_at_end = true;
    assert_is(mio_sim_run(world(), 60 * MIO_SECOND), MIO_ETIMEDOUT); // the listener goes on listening
    assert_is(in.received, 500000);
    assert_is(in.end, MIO_EOF);
    ck_assert(!in.wrong);
}

TEST(a_world_belongs_to_its_thread) {
    SIM_ONLY("is about simulated worlds");
    static mio_loop_t *loop;
    static int results[3];
    loop = loop_open();
    assert_is(mio_loop_hold(loop, 1), 0);
    pthread_t other;
    assert_is(pthread_create(&other, nullptr, [](void *) -> void * {
        results[0] = mio_sim_run(world(), 1);
        results[1] = mio_loop_run(loop);
        results[2] = mio_sim_destroy(world());
        return nullptr;
    }, nullptr), 0);
    pthread_join(other, nullptr);
    for (int result : results) assert_is(result, MIO_EPERM);
    assert_is(mio_loop_hold(loop, -1), 0);
    run_to_end(loop);
}

TEST(random_numbers_come_from_the_seed) {
    SIM_ONLY("is about simulated worlds");
    uint64_t first[5];
    for (int round = 0; round < 2; round++) {
        mio_sim_t *one = nullptr;
        mio_sim_options_t options = seeded(seed());
        assert_is(mio_sim_create(&one, &options), 0);
        for (uint64_t &number : first) {
            const uint64_t drawn = mio_sim_random(one);
            if (round == 0) number = drawn;
            else ck_assert_uint_eq(drawn, number);
        }
        ck_assert_uint_ne(first[0], first[1]);
        assert_is(mio_sim_destroy(one), 0);
    }
}
