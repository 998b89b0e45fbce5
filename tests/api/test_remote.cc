// Remotes: posts in order and none lost, to awake, sleeping and dead loops.
#include "harness.h"

#include <pthread.h>

using namespace api;

TEST(a_remote_answers_each_mistake) {
    mio_loop_t *loop = loop_open();
    auto nothing = [](mio_loop_t *, int, void *) {};
    mio_remote_t *remote = mio_loop_remote(loop);
    ck_assert_ptr_nonnull(remote);
    ck_assert_ptr_eq(mio_loop_remote(loop), remote);
    assert_is(mio_remote_post(nullptr, nothing, nullptr), MIO_EINVAL);
    assert_is(mio_remote_post(remote, nullptr, nullptr), MIO_EINVAL);
    ck_assert_ptr_null(mio_remote_retain(nullptr));
    mio_remote_release(nullptr);
    ck_assert_ptr_eq(mio_remote_retain(remote), remote);
    mio_remote_release(remote);
    run_to_end(loop);
}

static diary book;

TEST(posts_run_in_order_on_the_loop_and_keep_it_alive) {
    mio_loop_t *loop = loop_open();
    book = {};
    static const char *const names[] = {"a", "b", "c", "d"};
    static mio_loop_t *on;
    on = loop;
    for (const char *name : names) {
        assert_is(mio_remote_post(mio_loop_remote(loop), [](mio_loop_t *here, int status, void *arg) {
            ck_assert_ptr_eq(here, on);
            assert_is(status, 0);
            diary_add(&book, static_cast<const char *>(arg));
        }, const_cast<char *>(name)), 0);
    }
    assert_is(book.text[0], 0);
    run_to_end(loop);
    ck_assert_str_eq(book.text, "abcd");
    assert_is(metrics(loop).posts, 4);
}

TEST(a_post_of_a_post_runs_in_a_later_turn) {
    mio_loop_t *loop = loop_open();
    static uint64_t first, second;
    auto outer = [](mio_loop_t *on, int, void *) {
        first = metrics(on).turns;
        assert_is(mio_remote_post(mio_loop_remote(on), [](mio_loop_t *here, int, void *) { second = metrics(here).turns; },
                                  nullptr), 0);
    };
    assert_is(mio_remote_post(mio_loop_remote(loop), outer, nullptr), 0);
    run_to_end(loop);
    ck_assert_uint_gt(second, first);
}

TEST(posts_not_yet_run_are_told_ecanceled_when_the_loop_goes) {
    mio_loop_t *loop = loop_open();
    static int cancelled, wrong;
    cancelled = wrong = 0;
    for (int i = 0; i < 10; i++) {
        assert_is(mio_remote_post(mio_loop_remote(loop), [](mio_loop_t *, int status, void *arg) {
            if (status != MIO_ECANCELED || reinterpret_cast<intptr_t>(arg) != cancelled) wrong++;
            cancelled++;
        }, reinterpret_cast<void *>(static_cast<intptr_t>(i))), 0);
    }
    loop_close(loop);
    assert_is(cancelled, 10);
    assert_is(wrong, 0);
}

TEST(a_remote_outlives_its_loop_and_refuses) {
    mio_loop_t *loop = loop_open();
    mio_remote_t *remote = mio_remote_retain(mio_loop_remote(loop));
    int mine = 0;
    loop_close(loop);
    auto never = [](mio_loop_t *, int, void *) { ck_abort_msg("a post to a loop that is gone was run"); };
    for (int i = 0; i < 10; i++) assert_is(mio_remote_post(remote, never, &mine), MIO_ESHUTDOWN);
    mio_remote_release(remote);
}

TEST(a_remote_knows_whether_its_loop_still_takes_posts) {
    mio_loop_t *loop = loop_open();
    static mio_remote_t *remote;
    static int seen_within;
    remote = mio_remote_retain(mio_loop_remote(loop));
    seen_within = -1;
    assert_is(mio_remote_is_open(nullptr), 0);
    assert_is(mio_remote_is_open(remote), 1);
    run_to_end(loop);
    assert_is(mio_remote_is_open(remote), 1); // it may run again
    mio_timer_t *timer;
    assert_is(mio_timer_create(loop, &timer), 0);
    assert_is(mio_timer_start(timer, MIO_SECOND, 0, [](mio_timer_t *, void *) {}, nullptr), 0);
    assert_is(mio_handle_close(timer, [](mio_handle_t *, void *) { seen_within = mio_remote_is_open(remote); }, nullptr), 0);
    loop_close(loop);
    assert_is(seen_within, 0); // in destroy, and ever after
    assert_is(mio_remote_is_open(remote), 0);
    mio_remote_release(remote);
}

TEST(in_a_forks_child_a_remote_is_not_open) {
    KERNEL_ONLY("a simulated world has one process");
    mio_loop_t *loop = loop_open();
    mio_remote_t *remote = mio_loop_remote(loop);
    const pid_t child = fork();
    if (child == 0) _exit(mio_remote_is_open(remote));
    assert_is(child_status(child), 0);
    assert_is(mio_remote_is_open(remote), 1);
}

struct poster {
    mio_remote_t *remote;
    int64_t next; // expected by the loop
    int failed;
};
struct letter {
    poster *from;
    int64_t number;
};
static poster posters[8];
static int complete;
constexpr int64_t LETTERS = 20000;

static void letter_arrived(mio_loop_t *loop, int status, void *arg) {
    letter *mail = static_cast<letter *>(arg);
    poster *from = mail->from;
    if (status != 0 || mail->number != from->next) from->failed++;
    from->next++;
    free(mail);
    if (from->next == LETTERS && ++complete == 8) mio_loop_stop(loop);
}

static void *post_letters(void *arg) {
    poster *self = static_cast<poster *>(arg);
    for (int64_t i = 0; i < LETTERS; i++) {
        letter *mail = static_cast<letter *>(malloc(sizeof *mail));
        *mail = {self, i};
        if (mio_remote_post(self->remote, letter_arrived, mail) != 0) {
            free(mail);
            return self;
        }
        if (i % 1000 == 0) sleep_ns(100 * MIO_MICROSECOND);
    }
    return nullptr;
}

TEST(posts_of_eight_threads_keep_each_senders_order_and_none_is_lost) {
    KERNEL_ONLY("a simulated world has one thread");
    mio_loop_t *loop = loop_open();
    assert_is(mio_loop_hold(loop, 1), 0);
    pthread_t threads[8];
    complete = 0;
    for (int i = 0; i < 8; i++) {
        posters[i] = {mio_remote_retain(mio_loop_remote(loop)), 0, 0};
        assert_is(pthread_create(&threads[i], nullptr, post_letters, &posters[i]), 0);
    }
    run_to_stop(loop);
    for (int i = 0; i < 8; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        ck_assert_ptr_null(failed);
        ck_assert_int_eq(posters[i].next, LETTERS);
        assert_is(posters[i].failed, 0);
        mio_remote_release(posters[i].remote);
    }
    ck_assert_uint_eq(metrics(loop).posts, 8 * LETTERS);
    assert_is(mio_loop_hold(loop, -1), 0);
}

TEST(a_post_is_run_or_cancelled_or_refused_while_the_loop_dies) {
    KERNEL_ONLY("a simulated world has one thread");
    static int64_t volatile told, refused;
    for (int round = 0; round < 20; round++) {
        mio_loop_t *loop = loop_open();
        told = refused = 0;
        static mio_remote_t *remote;
        remote = mio_remote_retain(mio_loop_remote(loop));
        pthread_t thread;
        auto body = [](void *) -> void * {
            auto tell = [](mio_loop_t *, int, void *) { __atomic_add_fetch(&told, 1, __ATOMIC_RELAXED); };
            for (int i = 0; i < 2000; i++)
                if (mio_remote_post(remote, tell, nullptr) == MIO_ESHUTDOWN) __atomic_add_fetch(&refused, 1, __ATOMIC_RELAXED);
            return nullptr;
        };
        assert_is(pthread_create(&thread, nullptr, body, nullptr), 0);
        for (int i = 0; i < round; i++) mio_loop_run_once(loop, 0);
        loop_close(loop);
        pthread_join(thread, nullptr);
        mio_remote_release(remote);
        ck_assert_int_eq(told + refused, 2000);
    }
}

// It is cancelled when its post is done, not in the midst of the wake.
TEST(a_post_of_a_thread_that_is_being_cancelled_wakes_the_loop) {
    KERNEL_ONLY("a simulated world has one thread");
    mio_loop_t *loop = loop_open();
    assert_is(mio_loop_hold(loop, 1), 0);
    for (int i = 0; i < 5; i++) {
        pthread_t thread;
        const auto body = [](void *remote) -> void * {
            sleep_ns(20 * MIO_MILLISECOND); // the loop sleeps by then, most likely
            (void)pthread_cancel(pthread_self());
            (void)mio_remote_post(static_cast<mio_remote_t *>(remote), [](mio_loop_t *on, int, void *) { mio_loop_stop(on); },
                                  nullptr);
            pthread_testcancel();
            return nullptr;
        };
        assert_is(pthread_create(&thread, nullptr, body, mio_loop_remote(loop)), 0);
        run_to_stop(loop);
        void *how = nullptr;
        assert_is(pthread_join(thread, &how), 0);
        ck_assert_ptr_eq(how, PTHREAD_CANCELED);
    }
    assert_is(mio_loop_hold(loop, -1), 0);
}

TEST(an_awake_loop_costs_its_posters_no_system_call) {
    mio_loop_t *loop = loop_open();
    const uint64_t before = metrics(loop).wakes;
    static int left;
    left = 1000;
    static mio_post_cb again;
    again = [](mio_loop_t *on, int status, void *) {
        if (status == 0 && --left > 0) assert_is(mio_remote_post(mio_loop_remote(on), again, nullptr), 0);
    };
    assert_is(mio_remote_post(mio_loop_remote(loop), again, nullptr), 0);
    run_to_end(loop);
    assert_is(left, 0);
    ck_assert_uint_le(metrics(loop).wakes - before, 1);
}
