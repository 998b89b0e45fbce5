// Loops: creation and its mistakes, running, stopping, holding, destroying, and the questions one may ask.
#include "harness.h"

#include <pthread.h>
#include <stddef.h>

using namespace api;

TEST(create_refuses_a_missing_out_pointer) {
    mio_loop_options_t options = loop_options();
    assert_is(mio_loop_create(nullptr, &options), MIO_EINVAL);
}

TEST(create_reads_options_of_any_size) {
    struct { mio_loop_options_t known; char tail[24]; } longer;
    memset(&longer, 0, sizeof longer);
    longer.known = loop_options();
    longer.known.size = sizeof longer;
    mio_loop_t *loop = nullptr;
    assert_is(mio_loop_create(&loop, &longer.known), 0);
    assert_is(mio_loop_destroy(loop, 0), 0);

    loop = nullptr;
    longer.tail[23] = 1;
    assert_is(mio_loop_create(&loop, &longer.known), MIO_E2BIG);
    ck_assert_ptr_null(loop);
    longer.tail[23] = 0;
    longer.tail[0] = 1;
    assert_is(mio_loop_create(&loop, &longer.known), MIO_E2BIG);

    mio_loop_options_t options = loop_options();
    for (size_t size = 0; size < sizeof(size_t); size++) {
        options.size = size;
        assert_is(mio_loop_create(&loop, &options), MIO_EINVAL);
    }
    ck_assert_ptr_null(loop);

    options.size = offsetof(mio_loop_options_t, allocator);   // what an older program knows
    options.allocator.user = &options;                        // lies behind it: not looked at
    options.completions = 0;
    options.buffer_block = 7;
    assert_is(mio_loop_create(&loop, &options), 0);
    ck_assert_str_eq(mio_loop_backend(loop), backend_name());
    assert_is(mio_loop_destroy(loop, 0), 0);
}

TEST(create_refuses_numbers_out_of_range) {
    struct { uint32_t completions; size_t block; size_t low, high; int expected; } cases[] = {
        {63, 0, 0, 0, MIO_EINVAL},       {32769, 0, 0, 0, MIO_EINVAL},         {64, 0, 0, 0, 0},
        {32768, 0, 0, 0, 0},             {0, 2048, 0, 0, MIO_EINVAL},          {0, 4096, 0, 0, 0},
        {0, 12288, 0, 0, MIO_EINVAL},    {0, 1 << 20, 0, 0, 0},                {0, 2 << 20, 0, 0, MIO_EINVAL},
        {0, 0, 4096, 1024, MIO_EINVAL},  {0, 0, 1024, 4096, 0},
    };
    for (const auto &one : cases) {
        mio_loop_options_t options = loop_options();
        options.completions = one.completions;
        options.buffer_block = one.block;
        options.write_low = one.low;
        options.write_high = one.high;
        mio_loop_t *loop = nullptr;
        const int got = mio_loop_create(&loop, &options);
        ck_assert_msg(got == one.expected, "completions %u block %zu marks %zu %zu: %d", one.completions, one.block,
                      one.low, one.high, got);
        if (got == 0) assert_is(mio_loop_destroy(loop, 0), 0);
        else ck_assert_ptr_null(loop);
    }
}

TEST(create_wants_all_of_an_allocator_or_none) {
    counting count = {};
    for (int missing = 0; missing < 3; missing++) {
        mio_loop_options_t options = loop_options();
        options.allocator = counting_allocator(&count);
        if (missing == 0) options.allocator.alloc = nullptr;
        if (missing == 1) options.allocator.resize = nullptr;
        if (missing == 2) options.allocator.release = nullptr;
        mio_loop_t *loop = nullptr;
        assert_is(mio_loop_create(&loop, &options), MIO_EINVAL);
        ck_assert_ptr_null(loop);
    }
    assert_is(count.calls, 0);
}

TEST(create_without_options_takes_a_backend_that_works) {
    if (on_sim()) world(); // the thread's current world is what AUTO takes
    mio_loop_t *loop = nullptr;
    assert_is(mio_loop_create(&loop, nullptr), 0);
    if (on_sim()) ck_assert_str_eq(mio_loop_backend(loop), "sim");
    else ck_assert_uint_gt(strlen(mio_loop_backend(loop)), 0);
    assert_is(run(loop), 0);
    assert_is(mio_loop_destroy(loop, 0), 0);
}

TEST(a_loop_with_nothing_alive_ends_at_once) {
    mio_loop_t *loop = loop_open();
    run_to_end(loop);
    run_to_end(loop);
    assert_is(mio_loop_run_once(loop, 0), 0);
    assert_is(mio_loop_run_once(loop, MIO_FOREVER), 0);
}

TEST(run_once_says_whether_there_is_more) {
    mio_loop_t *loop = loop_open();
    mio_timer_t *timer;
    outcome told = {};
    assert_is(mio_timer_create(loop, &timer), 0);
    assert_is(mio_loop_run_once(loop, 0), 0); // a stopped timer is not active
    assert_is(mio_timer_start(timer, MIO_SECOND, 0, [](mio_timer_t *, void *) {}, nullptr), 0);
    assert_is(mio_loop_run_once(loop, 0), MIO_ALIVE);
    assert_is(mio_timer_stop(timer), 0);
    assert_is(mio_loop_run_once(loop, 0), 0);
    assert_is(mio_handle_close(timer, close_told, &told), 0);
    run_to_end(loop);
    assert_is(told.calls, 1);
}

TEST(run_once_waits_no_longer_than_asked) {
    KERNEL_ONLY("measures real time");
    mio_loop_t *loop = loop_open();
    assert_is(mio_loop_hold(loop, 1), 0);
    int64_t least = INT64_MAX;
    for (int tries = 0; tries < 5 && least >= 2 * MIO_SECOND; tries++) { // another process may have had the processor
        const int64_t begun = clock_ns();
        assert_is(mio_loop_run_once(loop, 20 * MIO_MILLISECOND), MIO_ALIVE);
        const int64_t took = clock_ns() - begun;
        ck_assert_int_ge(took, 19 * MIO_MILLISECOND);
        if (took < least) least = took;
    }
    ck_assert_int_lt(least, 2 * MIO_SECOND);
    assert_is(mio_loop_hold(loop, -1), 0);
}

TEST(a_stop_before_the_run_is_kept_until_a_run_sees_it) {
    mio_loop_t *loop = loop_open();
    assert_is(mio_loop_hold(loop, 1), 0);
    mio_loop_stop(loop);
    mio_loop_stop(loop);
    assert_is(run(loop), MIO_STOPPED);
    mio_loop_stop(loop);
    assert_is(mio_loop_run_once(loop, 0), MIO_STOPPED);
    assert_is(mio_loop_run_once(loop, 0), MIO_ALIVE); // seen, and gone
    assert_is(mio_loop_hold(loop, -1), 0);
    run_to_end(loop);
}

TEST(a_stop_inside_a_callback_ends_the_run_and_the_rest_goes_on_later) {
    mio_loop_t *loop = loop_open();
    mio_timer_t *first;
    static mio_timer_t *second;
    static int fired;
    fired = 0;
    assert_is(mio_timer_create(loop, &first), 0);
    assert_is(mio_timer_create(loop, &second), 0);
    assert_is(mio_timer_start(first, MIO_MILLISECOND, 0, [](mio_timer_t *timer, void *) {
        mio_loop_stop(mio_handle_loop(timer));
        assert_is(mio_timer_start(second, 0, 0, [](mio_timer_t *, void *) { fired++; }, nullptr), 0); // in the next turn
    }, nullptr), 0);
    run_to_stop(loop);
    assert_is(fired, 0);
    run_to_end(loop);
    assert_is(fired, 1);
}

TEST(a_stop_from_another_thread_ends_a_sleeping_run) {
    KERNEL_ONLY("a simulated world has one thread");
    mio_loop_t *loop = loop_open();
    assert_is(mio_loop_hold(loop, 1), 0);
    pthread_t other;
    auto stopper = [](void *arg) -> void * {
        sleep_ns(20 * MIO_MILLISECOND);
        mio_loop_stop(static_cast<mio_loop_t *>(arg));
        return nullptr;
    };
    assert_is(pthread_create(&other, nullptr, stopper, loop), 0);
    run_to_stop(loop);
    pthread_join(other, nullptr);
    assert_is(mio_loop_hold(loop, -1), 0);
}

TEST(a_loop_that_spins_looks_before_it_sleeps_and_is_woken_all_the_same) {
    KERNEL_ONLY("a simulated world has no time to spend");
    mio_loop_options_t options = loop_options();
    options.spin_ns = MIO_SECOND + 1;
    mio_loop_t *refused = nullptr;
    assert_is(mio_loop_create(&refused, &options), MIO_EINVAL);
    options.spin_ns = patience(100 * MIO_MILLISECOND);
    mio_loop_t *loop = loop_open_with(&options);
    // While it spins: it never slept, however often it looked.
    for (int tries = 0; tries < 20; tries++) { // until nobody else has the processor for so long that it may sleep
        const int64_t begun = mio_loop_now_ns(loop);
        const mio_loop_metrics_t before = metrics(loop);
        run_for(loop, patience(5 * MIO_MILLISECOND));
        const int64_t took = mio_loop_now_ns(loop) - begun;
        ck_assert_int_ge(took, 5 * MIO_MILLISECOND);
        ck_assert_uint_gt(metrics(loop).polls - before.polls, 2);
        if (took >= options.spin_ns) continue;
        assert_is(metrics(loop).polls_waited, before.polls_waited);
        break;
    }
    // After it: it sleeps, and a timer, a stop, a post end the sleep.
    for (int i = 0; metrics(loop).polls_waited == 0 && i != 20; i++) run_for(loop, patience(150 * MIO_MILLISECOND));
    ck_assert_uint_ge(metrics(loop).polls_waited, 1);
    assert_is(mio_loop_hold(loop, 1), 0);
    const int64_t delays_ns[] = {MIO_MILLISECOND, patience(150 * MIO_MILLISECOND)};
    for (const int64_t after_ns : delays_ns) {
        struct { mio_loop_t *loop; int64_t after_ns; } plan = {loop, after_ns};
        pthread_t other;
        assert_is(pthread_create(&other, nullptr, [](void *arg) -> void * {
            auto *of = static_cast<decltype(&plan)>(arg);
            sleep_ns(of->after_ns);
            mio_loop_stop(of->loop);
            return nullptr;
        }, &plan), 0);
        run_to_stop(loop);
        pthread_join(other, nullptr);
    }
    assert_is(mio_loop_hold(loop, -1), 0);
}

TEST(run_and_destroy_inside_a_callback_are_refused) {
    mio_loop_t *loop = loop_open();
    mio_timer_t *timer;
    int calls = 0;
    assert_is(mio_timer_create(loop, &timer), 0);
    auto fired = [](mio_timer_t *self, void *arg) {
        mio_loop_t *on = mio_handle_loop(self);
        assert_is(mio_loop_run(on), MIO_EBUSY);
        assert_is(mio_loop_run_once(on, 0), MIO_EBUSY);
        assert_is(mio_loop_destroy(on, 0), MIO_EBUSY);
        if (on_sim()) assert_is(mio_sim_run(world(), MIO_SECOND), MIO_EBUSY);
        ++*static_cast<int *>(arg);
    };
    assert_is(mio_timer_start(timer, 0, 0, fired, &calls), 0);
    run_to_end(loop);
    assert_is(calls, 1);
    assert_is(mio_timer_start(timer, 0, 0, fired, &calls), 0); // the loop is as usable as before
    run_to_end(loop);
    assert_is(calls, 2);
}

TEST(a_hold_keeps_the_loop_alive) {
    mio_loop_t *loop = loop_open();
    assert_is(mio_loop_hold(loop, -1), MIO_EINVAL);
    assert_is(mio_loop_hold(loop, 2), 0);
    assert_is(mio_loop_hold(loop, -3), MIO_EINVAL); // and nothing was taken away
    assert_is(mio_loop_hold(loop, -1), 0);
    mio_timer_t *timer;
    assert_is(mio_timer_create(loop, &timer), 0);
    assert_is(mio_handle_unref(timer), 0);
    auto release = [](mio_timer_t *self, void *) { assert_is(mio_loop_hold(mio_handle_loop(self), -1), 0); };
    assert_is(mio_timer_start(timer, MIO_MILLISECOND, 0, release, nullptr), 0);
    run_to_end(loop); // ends because the timer let go
    assert_is(mio_timer_is_active(timer), 0);
    assert_is(mio_loop_hold(loop, 0), 0);
}

TEST(every_call_survives_null) {
    mio_loop_metrics_t into = MIO_LOOP_METRICS_INIT;
    assert_is(mio_loop_run(nullptr), MIO_EINVAL);
    assert_is(mio_loop_run_once(nullptr, 0), MIO_EINVAL);
    mio_loop_stop(nullptr);
    assert_is(mio_loop_destroy(nullptr, 0), 0);
    assert_is(mio_loop_now_ns(nullptr), 0);
    assert_is(mio_loop_hold(nullptr, 1), MIO_EINVAL);
    ck_assert_ptr_null(mio_loop_data(nullptr));
    assert_is(mio_loop_set_data(nullptr, nullptr), MIO_EINVAL);
    ck_assert_str_eq(mio_loop_backend(nullptr), "");
    assert_is(mio_backend_report(nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_loop_metrics(nullptr, &into), MIO_EINVAL);
    assert_is(mio_loop_dump(nullptr, [](const char *, void *) {}, nullptr), MIO_EINVAL);
    ck_assert_ptr_null(mio_loop_remote(nullptr));
    mio_loop_t *loop = loop_open();
    assert_is(mio_loop_metrics(loop, nullptr), MIO_EINVAL);
    assert_is(mio_loop_dump(loop, nullptr, nullptr), MIO_EINVAL);
    into.size = 4;
    assert_is(mio_loop_metrics(loop, &into), MIO_EINVAL);
}

TEST(a_loop_carries_a_pointer_of_the_program) {
    mio_loop_t *loop = loop_open();
    int mine;
    ck_assert_ptr_null(mio_loop_data(loop));
    assert_is(mio_loop_set_data(loop, &mine), 0);
    ck_assert_ptr_eq(mio_loop_data(loop), &mine);
    ck_assert_ptr_nonnull(mio_version());
    ck_assert_str_eq(mio_version(), "0.1.0");
}

TEST(the_clock_stands_still_within_a_turn_and_never_goes_back) {
    mio_loop_t *loop = loop_open();
    mio_timer_t *timer;
    int64_t last = mio_loop_now_ns(loop);
    assert_is(mio_timer_create(loop, &timer), 0);
    auto fired = [](mio_timer_t *self, void *arg) {
        mio_loop_t *on = mio_handle_loop(self);
        const int64_t now = mio_loop_now_ns(on);
        busy_ns(2 * MIO_MILLISECOND);
        assert_is(mio_loop_now_ns(on), now);
        ck_assert_int_ge(now, *static_cast<int64_t *>(arg));
        *static_cast<int64_t *>(arg) = now;
        static int times;
        if (++times % 5 == 0) mio_timer_stop(self);
    };
    assert_is(mio_timer_start(timer, 0, MIO_MILLISECOND, fired, &last), 0);
    run_to_end(loop);
    ck_assert_int_ge(mio_loop_now_ns(loop), last);
}

TEST(metrics_are_filled_as_far_as_their_size_goes) {
    mio_loop_t *loop = loop_open();
    mio_timer_t *timer;
    assert_is(mio_timer_create(loop, &timer), 0);
    assert_is(mio_timer_start(timer, MIO_MILLISECOND, 0, [](mio_timer_t *, void *) {}, nullptr), 0);
    assert_is(metrics(loop).handles, 1);
    assert_is(metrics(loop).timers, 1);
    run_to_end(loop);
    mio_loop_metrics_t all = metrics(loop);
    assert_is(all.timers_fired, 1);
    assert_is(all.timers, 0);
    ck_assert_uint_ge(all.turns, 1);
    ck_assert_uint_ge(all.polls, 1);
    ck_assert_uint_ge(all.callbacks, 1);
    ck_assert_uint_ge(all.allocations, 1);

    mio_loop_metrics_t part;
    memset(&part, 0xee, sizeof part);
    part.size = offsetof(mio_loop_metrics_t, polls);
    assert_is(mio_loop_metrics(loop, &part), 0);
    assert_is(part.size, offsetof(mio_loop_metrics_t, polls));
    assert_is(part.turns, all.turns);
    ck_assert_uint_eq(part.polls, 0xeeeeeeeeeeeeeeeeu); // untouched
}

TEST(metrics_count_bytes_both_ways) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    inbox in = {};
    in.stop_at = 10000;
    mio_buf_t buf = pattern_buf(loop, 10000, 0);
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    ck_assert_int_gt(mio_stream_write(streams.client, &buf, 1, nullptr, nullptr), 0);
    run_to_stop(loop);
    mio_loop_metrics_t now = metrics(loop);
    assert_is(now.bytes_read, 10000);
    assert_is(now.bytes_written, 10000);
    assert_is(now.accepts, 1);
    assert_is(now.accept_errors, 0);
    assert_is(now.requests, 1);
    ck_assert_uint_gt(now.buffer_bytes, 0);
    if (!on_sim()) ck_assert_uint_gt(now.backend_calls, 0);
}

struct dump_lines {
    int lines, named, streams;
};

TEST(a_dump_lists_open_handles_and_requests) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    inbox in = {};
    for (int i = 0; metrics(loop).handles != 2 && i != 100; i++) run_for(loop, MIO_MILLISECOND); // the pair's listener ends
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    assert_is(metrics(loop).requests, 1);
    assert_is(mio_handle_set_name(streams.server, "the-named-one"), 0);
    dump_lines seen = {};
    auto line = [](const char *text, void *arg) {
        dump_lines *to = static_cast<dump_lines *>(arg);
        if (strstr(text, "timer") == nullptr) to->lines++; // run_for's own may not have ended yet
        if (strstr(text, "the-named-one") != nullptr) to->named++;
        if (strstr(text, "stream") != nullptr) to->streams++;
    };
    assert_is(mio_loop_dump(loop, line, &seen), 0);
    assert_is(seen.named, 1);
    assert_is(seen.streams, 3);
    assert_is(seen.lines, 3); // two handles and the continuous read

    assert_is(mio_handle_close(streams.server, nullptr, nullptr), 0);
    assert_is(mio_handle_close(streams.client, nullptr, nullptr), 0);
    run_to_end(loop);
    seen = {};
    assert_is(mio_loop_dump(loop, line, &seen), 0);
    assert_is(seen.named, 0);
    assert_is(seen.streams, 0);
}

