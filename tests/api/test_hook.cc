// Hooks and the order of the turn; long chains of completions.
#include "harness.h"

using namespace api;

static diary book;

TEST(a_hook_answers_each_mistake) {
    mio_loop_t *loop = loop_open();
    mio_hook_t *hook = nullptr;
    auto nothing = [](mio_hook_t *, void *) {};
    assert_is(mio_hook_create(nullptr, MIO_HOOK_IDLE, &hook), MIO_EINVAL);
    assert_is(mio_hook_create(loop, MIO_HOOK_IDLE, nullptr), MIO_EINVAL);
    assert_is(mio_hook_create(loop, static_cast<mio_hook_phase>(3), &hook), MIO_EINVAL);
    assert_is(mio_hook_create(loop, static_cast<mio_hook_phase>(-1), &hook), MIO_EINVAL);
    ck_assert_ptr_null(hook);
    assert_is(mio_hook_create(loop, MIO_HOOK_IDLE, &hook), 0);
    assert_is(mio_hook_start(nullptr, nothing, nullptr), MIO_EINVAL);
    assert_is(mio_hook_start(hook, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_hook_stop(nullptr), MIO_EINVAL);
    assert_is(mio_hook_is_active(nullptr), 0);
    assert_is(mio_hook_is_active(hook), 0);
    assert_is(mio_hook_start(hook, nothing, nullptr), 0);
    assert_is(mio_hook_is_active(hook), 1);
    assert_is(mio_hook_stop(hook), 0);
    assert_is(mio_hook_is_active(hook), 0);
    assert_is(mio_hook_stop(hook), 0);
    run_to_end(loop); // a stopped hook keeps nothing alive
    assert_is(mio_hook_start(hook, nothing, nullptr), 0);
    assert_is(mio_handle_close(hook, nullptr, nullptr), 0);
    assert_is(mio_hook_is_active(hook), 0);
}

static void hook_writes(mio_hook_t *hook, void *arg) {
    diary_add(&book, static_cast<const char *>(arg));
    assert_is(mio_hook_stop(hook), 0);
}

TEST(a_turn_keeps_its_promised_order) {
    mio_loop_t *loop = loop_open();
    book = {};
    static mio_hook_t *hooks[3];
    static mio_timer_t *timer, *victim;
    static mio_stream_t *stream;
    static mio_loop_t *on;
    on = loop;
    stream = connect_pair(loop).client;
    run_for(loop, MIO_MILLISECOND);
    for (int i = 0; i < 3; i++) assert_is(mio_hook_create(loop, static_cast<mio_hook_phase>(i), &hooks[i]), 0);
    assert_is(mio_timer_create(loop, &timer), 0);
    assert_is(mio_timer_create(loop, &victim), 0);
    auto everything = [](mio_timer_t *, void *) { // all the rest of this turn, prepared in the order opposite to it
        diary_add(&book, "t");
        assert_is(mio_handle_close(victim, [](mio_handle_t *, void *) { diary_add(&book, "x"); }, nullptr), 0);
        mio_buf_t room = {};
        assert_is(mio_buf_alloc(on, 10, &room), 0);
        const mio_req_t id = mio_stream_read(stream, &room, [](mio_stream_t *, int64_t n, mio_buf_t *, void *) {
            assert_is(n, MIO_ECANCELED);
            diary_add(&book, "r");
        }, nullptr);
        assert_is(mio_req_cancel(on, id), 0);
        assert_is(mio_remote_post(mio_loop_remote(on), [](mio_loop_t *, int, void *) { diary_add(&book, "P"); }, nullptr), 0);
        static char names[3][2] = {"i", "p", "c"};
        for (int i = 2; i >= 0; i--) assert_is(mio_hook_start(hooks[i], hook_writes, names[i]), 0);
    };
    assert_is(mio_timer_start(timer, MIO_MILLISECOND, 0, everything, nullptr), 0);
    run_to_end(loop);
    ck_assert_str_eq(book.text, "tipcPrx");
}

static int idles, prepares, checks;

TEST(hooks_run_once_in_every_turn) {
    mio_loop_t *loop = loop_open();
    idles = prepares = checks = 0;
    mio_hook_t *hooks[3];
    for (int i = 0; i < 3; i++) assert_is(mio_hook_create(loop, static_cast<mio_hook_phase>(i), &hooks[i]), 0);
    assert_is(mio_hook_start(hooks[0], [](mio_hook_t *hook, void *) {
        if (++idles == 10) mio_hook_stop(hook);
    }, nullptr), 0);
    assert_is(mio_hook_start(hooks[1], [](mio_hook_t *, void *) {
        assert_is(prepares, checks);
        prepares++;
    }, nullptr), 0);
    assert_is(mio_hook_start(hooks[2], [](mio_hook_t *, void *) {
        checks++;
        assert_is(prepares, checks);
    }, nullptr), 0);
    assert_is(mio_handle_unref(hooks[1]), 0);
    assert_is(mio_handle_unref(hooks[2]), 0);
    const uint64_t begun = metrics(loop).turns;
    run_to_end(loop); // the idle hook keeps it alive, and never lets it sleep
    assert_is(idles, 10);
    assert_is(prepares, static_cast<int>(metrics(loop).turns - begun));
    assert_is(mio_hook_start(hooks[0], [](mio_hook_t *hook, void *) { mio_hook_stop(hook); }, nullptr), 0);
    assert_is(mio_hook_start(hooks[0], [](mio_hook_t *hook, void *) { // replaces the callback
        idles = 100;
        mio_hook_stop(hook);
    }, nullptr), 0);
    run_to_end(loop);
    assert_is(idles, 100);
}

TEST(a_hook_started_in_its_own_phase_runs_in_the_next_turn) {
    mio_loop_t *loop = loop_open();
    static mio_hook_t *second;
    static uint64_t first_turn, second_turn;
    mio_hook_t *first;
    first_turn = second_turn = 0;
    assert_is(mio_hook_create(loop, MIO_HOOK_PREPARE, &first), 0);
    assert_is(mio_hook_create(loop, MIO_HOOK_PREPARE, &second), 0);
    assert_is(mio_loop_hold(loop, 1), 0);
    assert_is(mio_hook_start(first, [](mio_hook_t *self, void *) {
        first_turn = metrics(mio_handle_loop(self)).turns;
        assert_is(mio_hook_stop(self), 0);
        assert_is(mio_hook_start(second, [](mio_hook_t *other, void *) {
            second_turn = metrics(mio_handle_loop(other)).turns;
            assert_is(mio_hook_stop(other), 0);
        }, nullptr), 0);
    }, nullptr), 0);
    for (int i = 0; i < 3; i++) assert_is(mio_loop_run_once(loop, 0), MIO_ALIVE);
    ck_assert_uint_eq(second_turn, first_turn + 1);
    assert_is(mio_loop_hold(loop, -1), 0);
}

TEST(hooks_may_stop_and_close_each_other) {
    mio_loop_t *loop = loop_open();
    static mio_hook_t *hooks[3];
    static int calls;
    calls = 0;
    for (mio_hook_t *&hook : hooks) {
        assert_is(mio_hook_create(loop, MIO_HOOK_PREPARE, &hook), 0);
        assert_is(mio_hook_start(hook, [](mio_hook_t *self, void *) {
            calls++;
            for (mio_hook_t *other : hooks) {
                if (other == self) assert_is(mio_hook_stop(self), 0);
                else mio_handle_abandon(other);
            }
        }, nullptr), 0);
    }
    run_to_end(loop);
    assert_is(calls, 1);
}

// --- chains ---------------------------------------------------------------------------------------------------------

struct links {
    mio_loop_t *loop;
    mio_stream_t *stream;
    int64_t left;
    uintptr_t lowest, highest; // addresses on the stack
    int ticks;
};

static void link_depth(links *chain) {
    char here;
    const uintptr_t at = reinterpret_cast<uintptr_t>(&here);
    if (chain->lowest == 0 || at < chain->lowest) chain->lowest = at;
    if (at > chain->highest) chain->highest = at;
}

// A million times: an assertion that holds costs libcheck a write to a file.
static void link_cancelled(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg) {
    links *chain = static_cast<links *>(arg);
    if (n != MIO_ECANCELED) assert_is(n, MIO_ECANCELED);
    link_depth(chain);
    if (--chain->left == 0) return mio_loop_stop(chain->loop);
    mio_buf_t again = mio_buf_take(buf);
    const mio_req_t id = mio_stream_read(stream, &again, link_cancelled, arg);
    const int cancelled = id > 0 ? mio_req_cancel(chain->loop, id) : MIO_EINVAL;
    if (cancelled != 0) ck_abort_msg("a link was not made: %d", cancelled);
}

TEST(a_million_chained_completions_use_constant_stack_and_timers_still_fire) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    static links chain;
    chain = {loop, streams.client, scaled(on_sim() ? 100000 : 1000000), 0, 0, 0};
    mio_timer_t *timer;
    assert_is(mio_timer_create(loop, &timer), 0);
    assert_is(mio_timer_start(timer, 0, 0, [](mio_timer_t *self, void *) {
        chain.ticks++;
        assert_is(mio_timer_start(self, 0, 0, [](mio_timer_t *, void *) { chain.ticks++; }, nullptr), 0);
    }, nullptr), 0);
    mio_buf_t room = {};
    assert_is(mio_buf_alloc(loop, 10, &room), 0);
    const mio_req_t id = mio_stream_read(streams.client, &room, link_cancelled, &chain);
    assert_is(mio_req_cancel(loop, id), 0);
    const int64_t calls = loop_counting(loop)->calls;
    run_to_stop(loop);
    assert_is(chain.left, 0);
    assert_is(chain.ticks, 2); // while it ran
    ck_assert_uint_lt(chain.highest - chain.lowest, 4096);
    ck_assert_int_le(loop_counting(loop)->calls - calls, 4);
}

TEST(posts_that_post_again_starve_no_io) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    inbox in = {};
    in.stop_at = 100;
    static mio_post_cb again;
    again = [](mio_loop_t *on, int status, void *) {
        if (status == 0) assert_is(mio_remote_post(mio_loop_remote(on), again, nullptr), 0);
    };
    assert_is(mio_remote_post(mio_loop_remote(loop), again, nullptr), 0);
    mio_buf_t bytes = pattern_buf(loop, 100, 0);
    ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in), 0);
    ck_assert_int_gt(mio_stream_write(streams.client, &bytes, 1, nullptr, nullptr), 0);
    run_to_stop(loop);
    assert_is(in.received, 100);
}
