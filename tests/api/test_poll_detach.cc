// Polls: what the owner of a descriptor does to it, with and without a word.
#include "harness.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace api;

struct seen {
    int calls, ends;
    unsigned events;
    int status;
    int stop_at;
};

static void poll_told(mio_poll_t *poll, int status, unsigned events, void *arg) {
    if (is_over()) return;
    seen *told = static_cast<seen *>(arg);
    told->calls++;
    told->status = status;
    told->events |= events;
    if (status == MIO_ECANCELED || status == MIO_EBADF) told->ends++;
    if (told->calls == told->stop_at) mio_loop_stop(mio_handle_loop(poll));
}

static mio_poll_t *poll_open(mio_loop_t *loop, int fd, unsigned events, seen *told) {
    mio_poll_t *poll;
    *told = seen();
    assert_is(mio_poll_open(loop, fd, &poll), 0);
    assert_is(mio_poll_set(poll, events, poll_told, told), 0);
    return poll;
}

static void pair_of(int fds[2]) { assert_is(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0); }

// A loop that waits for one end of a pair.
struct scene {
    mio_loop_t *loop;
    int fds[2];
    mio_poll_t *poll;
};

static scene scene_open(seen *told) {
    scene s = {};
    s.loop = loop_open();
    pair_of(s.fds);
    s.poll = poll_open(s.loop, s.fds[0], MIO_POLL_IN, told);
    return s;
}

static void some_turns(mio_loop_t *loop) {
    for (int i = 0; i < 10; i++) assert_ok(mio_loop_run_once(loop, 0));
}

static void assert_sleeps(mio_loop_t *loop) {
    assert_is(mio_loop_hold(loop, 1), 0);
    const uint64_t before = metrics(loop).turns;
    run_for(loop, 50 * MIO_MILLISECOND);
    ck_assert_uint_le(metrics(loop).turns - before, 30);
    assert_is(mio_loop_hold(loop, -1), 0);
}

// The peer sees the end although no loop runs any more.
static void assert_ended(int fd) {
    struct pollfd one = {fd, POLLIN, 0};
    assert_is(poll(&one, 1, static_cast<int>(patience(5000))), 1);
    char byte;
    assert_is(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
}

static void tcp_pair(int fds[2]) {
    mio_addr_t at;
    const int listening = raw_listen(1, &at);
    fds[0] = raw_connect(&at);
    fds[1] = accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
    ck_assert_int_ge(fds[1], 0);
    close(listening);
}

TEST(the_end_of_a_polled_descriptor_is_not_delayed) {
    KERNEL_ONLY("the program closes no simulated descriptor");
    mio_loop_t *loop = loop_open();
    for (int how = 0; how < 4; how++) {
        int fds[2];
        tcp_pair(fds);
        static seen told;
        mio_poll_t *poll = poll_open(loop, fds[0], MIO_POLL_IN, &told);
        some_turns(loop);
        if (how == 0) assert_is(mio_handle_close(poll, nullptr, nullptr), 0);
        if (how == 1) mio_handle_abandon(poll);
        if (how == 2) assert_is(mio_poll_set(poll, 0, nullptr, nullptr), 0);
        assert_is(close(fds[0]), 0); // how 3: without a word
        assert_ended(fds[1]);
        close(fds[1]);
        if (how >= 2) mio_handle_abandon(poll);
    }
    run_to_end(loop);
}

// The loop's own descriptors are closed by nobody else: whoever polls such a number polls what is no more.
TEST(a_descriptor_of_the_library_takes_the_number_of_one_that_was_closed_without_a_word) {
    KERNEL_ONLY("the program closes no simulated descriptor");
    if (on_kqueue()) SKIP("the model watches no files");
    mio_loop_t *loop = loop_open();
    char folder[] = "/tmp/mio-poll-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(folder));
    int fds[2];
    pair_of(fds);
    static seen told;
    mio_poll_t *poll = poll_open(loop, fds[0], MIO_POLL_IN, &told);
    some_turns(loop);
    assert_is(close(fds[0]), 0);
    struct watched {
        int calls, status;
    };
    static watched heard;
    heard = watched();
    mio_watch_t *watch = nullptr;
    assert_is(mio_watch_open(loop, folder, MIO_WATCH_CREATED, [](mio_watch_t *, int status, const mio_watch_event_t *, void *) {
        if (is_over()) return;
        heard.calls++;
        heard.status = status;
    }, nullptr, &watch), 0);
    some_turns(loop);
    char name[40];
    snprintf(name, sizeof name, "%s/new", folder);
    close(open(name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    const int64_t until_ns = clock_ns() + patience(10 * MIO_SECOND);
    while (heard.calls == 0 && clock_ns() < until_ns) assert_ok(mio_loop_run_once(loop, MIO_MILLISECOND));
    unlink(name);
    ck_assert_int_gt(heard.calls, 0);
    assert_is(heard.status, 0);
    mio_handle_abandon(watch);
    mio_handle_abandon(poll);
    run_to_end(loop);
    close(fds[1]);
    rmdir(folder);
}

// Both have an event in the batch. Whoever is told first takes the other's descriptor away, and another one gets its number.
struct swap {
    int fds[2][2], fresh[2];
    mio_poll_t *polls[2], *third;
    seen told[2], third_told;
    int how;
    bool done;
};

static void swap_told(mio_poll_t *poll, int status, unsigned events, void *arg) {
    if (is_over()) return;
    swap *s = static_cast<swap *>(arg);
    const int me = poll == s->polls[0] ? 0 : 1;
    poll_told(poll, status, events, &s->told[me]);
    if (s->done || status != 0) return;
    s->done = true;
    const int other = 1 - me;
    const int number = s->fds[other][0];
    if (s->how == 0) assert_is(mio_handle_close(s->polls[other], nullptr, nullptr), 0);
    if (s->how == 1) mio_handle_abandon(s->polls[other]);
    if (s->how == 2) assert_is(mio_poll_set(s->polls[other], 0, nullptr, nullptr), 0);
    assert_is(close(number), 0);
    pair_of(s->fresh);
    if (s->fresh[0] != number) {
        assert_is(dup2(s->fresh[0], number), number);
        close(s->fresh[0]);
        s->fresh[0] = number;
    }
    if (s->how == 2) assert_is(mio_poll_set(s->polls[other], MIO_POLL_IN, swap_told, s), 0); // the same poll, a new file
    else s->third = poll_open(mio_handle_loop(poll), number, MIO_POLL_IN, &s->third_told);
    assert_is(mio_poll_set(poll, 0, nullptr, nullptr), 0);
}

TEST(a_number_that_is_reused_in_the_batch_brings_no_stale_event) {
    KERNEL_ONLY("the program closes no simulated descriptor");
    mio_loop_t *loop = loop_open();
    for (int how = 0; how < 3; how++) {
        static swap s;
        s = swap();
        s.how = how;
        for (int i = 0; i < 2; i++) {
            pair_of(s.fds[i]);
            s.polls[i] = poll_open(loop, s.fds[i][0], MIO_POLL_IN, &s.told[i]);
            assert_is(mio_poll_set(s.polls[i], 0, nullptr, nullptr), 0);
            assert_is(mio_poll_set(s.polls[i], MIO_POLL_IN, swap_told, &s), 0);
        }
        some_turns(loop);
        for (auto &pair : s.fds) assert_is(write(pair[1], "x", 1), 1);
        while (!s.done) assert_ok(mio_loop_run_once(loop, MIO_SECOND));
        some_turns(loop);
        const int first = s.told[0].calls > s.told[1].calls || (s.told[0].events != 0 && s.told[1].events == 0) ? 0 : 1;
        assert_is(s.told[first].calls, 1);
        assert_is(s.told[1 - first].events, 0);
        assert_is(s.third_told.calls, 0);
        assert_is(write(s.fresh[1], "y", 1), 1); // and what is asked for now is told
        seen *now = how == 2 ? &s.told[1 - first] : &s.third_told;
        now->stop_at = now->calls + 1;
        run_to_stop(loop);
        assert_is(now->events, MIO_POLL_IN);
        if (how != 0) mio_handle_abandon(s.polls[1 - first]);
        mio_handle_abandon(s.polls[first]);
        if (how != 2) mio_handle_abandon(s.third);
        close(s.fds[first][0]);
        for (auto &pair : s.fds) close(pair[1]);
        for (const int fd : s.fresh) close(fd);
        run_to_end(loop);
    }
}

TEST(a_dup_of_a_polled_descriptor_tells_nobody) {
    KERNEL_ONLY("the program closes no simulated descriptor");
    static seen told;
    auto [loop, fds, poll] = scene_open(&told);
    some_turns(loop);
    const int copy = dup(fds[0]);
    assert_is(mio_poll_set(poll, 0, nullptr, nullptr), 0);
    assert_is(close(fds[0]), 0);
    assert_is(write(fds[1], "x", 1), 1);
    assert_sleeps(loop);
    assert_is(told.calls, 0);
    mio_handle_abandon(poll);
    close(copy);
    close(fds[1]);
}

// A mistake of the program's, which must not make the loop spin, nor others suffer.
TEST(a_descriptor_closed_without_a_word_is_told_with_the_next_set) {
    KERNEL_ONLY("the program closes no simulated descriptor");
    mio_loop_t *loop = loop_open();
    for (int dups = 0; dups < 2; dups++) {
        int fds[2];
        pair_of(fds);
        static seen told;
        mio_poll_t *poll = poll_open(loop, fds[0], MIO_POLL_IN, &told);
        some_turns(loop);
        const int copy = dups != 0 ? dup(fds[0]) : -1;
        assert_is(close(fds[0]), 0);
        if (copy >= 0) assert_is(write(fds[1], "x", 1), 1);
        assert_sleeps(loop);
        ck_assert_int_le(told.calls, 2); // epoll: one event, of the dup, and the end
        if (told.ends == 0) {
            told.stop_at = told.calls + 1;
            assert_is(mio_poll_set(poll, MIO_POLL_IN | MIO_POLL_OUT, poll_told, &told), 0);
            run_to_stop(loop);
        }
        assert_is(told.status, MIO_EBADF);
        assert_is(told.ends, 1);
        assert_is(mio_poll_set(poll, MIO_POLL_IN, poll_told, &told), MIO_EBADF);
        outcome closed = {};
        assert_is(mio_handle_close(poll, close_told, &closed), 0);
        run_to_end(loop);
        assert_is(closed.calls, 1);
        assert_is(told.ends, 1); // it was the last call
        if (copy >= 0) close(copy);
        close(fds[1]);
    }
}

TEST(a_stream_gets_the_number_of_a_forgotten_poll) {
    KERNEL_ONLY("the program closes no simulated descriptor");
    mio_loop_t *loop = loop_open();
    int fds[2], fresh[2];
    pair_of(fds);
    static seen told;
    mio_poll_t *poll = poll_open(loop, fds[0], MIO_POLL_IN, &told);
    some_turns(loop);
    pair_of(fresh);
    assert_is(dup2(fresh[0], fds[0]), fds[0]); // the poll's file is closed
    close(fresh[0]);
    mio_stream_t *stream;
    assert_is(mio_stream_adopt(loop, fds[0], nullptr, 0, &stream), 0);
    inbox in = {};
    in.is_text = true;
    in.stop_at = 5;
    ck_assert_int_gt(mio_stream_read_start(stream, 0, read_into, &in), 0);
    some_turns(loop);
    assert_is(told.calls, 1);
    assert_is(told.status, MIO_EBADF);
    assert_is(write(fresh[1], "hello", 5), 5);
    run_to_stop(loop);
    ck_assert_str_eq(in.text, "hello");
    mio_handle_abandon(poll);
    assert_is(write(fresh[1], "again", 5), 5);
    in.stop_at = 10;
    run_to_stop(loop);
    mio_handle_abandon(stream);
    close(fds[1]);
    close(fresh[1]);
}

// What the library opens takes the number before the poll is asked again, or for the first time.
struct taken {
    mio_loop_t *loop;
    int fds[2];
    mio_addr_t at;
    bool watches; // the number becomes inotify's, or a connection's
    bool in_callback, done;
    mio_req_t opened; // what the library said to that
    bool there;
    seen told;
    outcome connected;
    mio_stream_t *stream;
    mio_watch_t *watch;
};

static void number_take(taken *t) {
    t->done = true;
    int lower[64], n = 0; // so that it is the lowest that is free
    while (n < 64 && (lower[n] = dup(t->fds[1])) >= 0 && lower[n] < t->fds[0]) n++;
    if (n < 64) close(lower[n]);
    close(t->fds[0]);
    auto nobody = [](mio_watch_t *, int, const mio_watch_event_t *, void *) {};
    if (t->watches) t->opened = mio_watch_open(t->loop, "/tmp", MIO_WATCH_CREATED, nobody, nullptr, &t->watch);
    else t->opened = mio_tcp_connect(t->loop, &t->at, nullptr, stream_told, &t->connected, &t->stream);
    t->there = fcntl(t->fds[0], F_GETFD) >= 0;
    while (n > 0) close(lower[--n]);
}

static void taken_told(mio_poll_t *poll, int status, unsigned events, void *arg) {
    if (is_over()) return;
    taken *t = static_cast<taken *>(arg);
    poll_told(poll, status, events, &t->told);
    if (status == 0 && t->in_callback && !t->done) number_take(t);
}

TEST(a_poll_whose_number_the_library_took_is_told_that_its_descriptor_is_closed) {
    KERNEL_ONLY("the program closes no simulated descriptor");
    for (int how = 0; how < 6; how++) {
        static taken t;
        t = taken();
        t.loop = loop_open();
        t.watches = how % 2 != 0;
        if (t.watches && on_kqueue()) continue; // the model watches no files
        t.in_callback = how < 2;
        listen_on(t.loop, [](mio_listener_t *, int, mio_stream_t *, void *) {}, nullptr, &t.at);
        pair_of(t.fds);
        mio_poll_t *poll;
        assert_is(mio_poll_open(t.loop, t.fds[0], &poll), 0);
        assert_is(mio_poll_set(poll, MIO_POLL_IN, taken_told, &t), 0);
        if (how < 4) some_turns(t.loop);
        if (how < 2) { // it is asked again when its callback has returned
            assert_is(write(t.fds[1], "x", 1), 1);
            while (!t.done && t.told.status == 0) assert_ok(mio_loop_run_once(t.loop, MIO_SECOND));
        } else if (how < 4) { // it has been, and is asked for something else
            assert_is(mio_poll_set(poll, MIO_POLL_IN | MIO_POLL_RDHUP, taken_told, &t), 0);
            number_take(&t);
        } else { // it has not been yet
            number_take(&t);
        }
        assert_ok(t.opened);
        ck_assert(t.there);
        for (int i = 0; i < 1000 && t.told.status == 0; i++) assert_ok(mio_loop_run_once(t.loop, MIO_MILLISECOND));
        ck_assert_msg(t.told.status == MIO_EBADF, "%d: %s", how, mio_error_name(t.told.status));
        assert_is(t.told.calls, how < 2 ? 2 : 1); // no event of what the library has there
        assert_is(mio_poll_set(poll, MIO_POLL_IN, taken_told, &t), MIO_EBADF);
        if (!t.watches) {
            for (int i = 0; i < 1000 && t.connected.calls == 0; i++) assert_ok(mio_loop_run_once(t.loop, MIO_MILLISECOND));
            assert_is(t.connected.status, 0);
        }
        assert_is(t.told.ends, 1);
        loop_close(t.loop);
        close(t.fds[1]);
    }
}

TEST(one_descriptor_has_one_poll) {
    KERNEL_ONLY("a simulated world has sockets only");
    mio_loop_t *loop = loop_open();
    int fds[2];
    pair_of(fds);
    static seen first, second;
    mio_poll_t *one = poll_open(loop, fds[0], MIO_POLL_IN, &first);
    some_turns(loop);
    mio_poll_t *other = poll_open(loop, fds[0], MIO_POLL_OUT, &second);
    second.stop_at = 1;
    run_to_stop(loop);
    assert_is(second.status, MIO_EEXIST);
    assert_is(mio_poll_events(other), 0);
    assert_is(mio_handle_close(one, nullptr, nullptr), 0); // from here on it is free
    assert_is(mio_poll_set(other, MIO_POLL_OUT, poll_told, &second), 0);
    second.stop_at = 3;
    run_to_stop(loop);
    assert_is(second.events, MIO_POLL_OUT);
    mio_handle_abandon(other);
    mio_poll_t *third = poll_open(loop, fds[0], MIO_POLL_OUT, &second);
    second.stop_at = 1;
    run_to_stop(loop);
    assert_is(second.status, 0);
    mio_handle_abandon(third);
    close(fds[0]);
    close(fds[1]);
    run_to_end(loop);
}

TEST(a_streams_descriptor_is_not_polled) {
    mio_loop_t *loop = loop_open();
    pair streams = connect_pair(loop);
    inbox in = {};
    in.is_text = true;
    in.stop_at = 2;
    ck_assert_int_gt(mio_stream_read_start(streams.client, 0, read_into, &in), 0);
    some_turns(loop);
    static seen told;
    mio_poll_t *poll = poll_open(loop, mio_stream_fd(streams.client), MIO_POLL_IN, &told);
    told.stop_at = 1;
    run_to_stop(loop);
    assert_is(told.status, MIO_EEXIST);
    mio_handle_abandon(poll);
    mio_buf_t text = text_buf(loop, "hi");
    ck_assert_int_gt(mio_stream_write(streams.server, &text, 1, nullptr, nullptr), 0);
    run_to_stop(loop);
    ck_assert_str_eq(in.text, "hi");
}

// The ring needs a descriptor of its own for the first poll.
TEST(a_poll_without_descriptors_is_told_so) {
    KERNEL_ONLY("a simulated world's descriptors have no limit of the kernel's");
    mio_loop_t *loop = loop_open();
    int fds[2];
    pair_of(fds);
    assert_is(mio_loop_hold(loop, 1), 0);
    some_turns(loop); // a ring has all the rest that it needs by then
    assert_is(mio_loop_hold(loop, -1), 0);
    struct rlimit before, none;
    assert_is(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    const int lowest = dup(fds[0]);
    close(lowest);
    none.rlim_cur = static_cast<rlim_t>(lowest);
    assert_is(setrlimit(RLIMIT_NOFILE, &none), 0);
    static seen told;
    mio_poll_t *poll = poll_open(loop, fds[0], MIO_POLL_OUT, &told);
    told.stop_at = 1;
    run_to_stop(loop);
    const bool ring = strcmp(backend_name(), "io_uring") == 0;
    assert_is(told.status, ring ? MIO_EMFILE : 0);
    assert_is(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_is(mio_poll_set(poll, MIO_POLL_OUT, poll_told, &told), 0);
    told.stop_at = 3;
    run_to_stop(loop);
    assert_is(told.events, MIO_POLL_OUT);
    mio_handle_abandon(poll);
    close(fds[0]);
    close(fds[1]);
}

TEST(a_poll_goes_on_when_another_thread_runs_the_loop) {
    KERNEL_ONLY("a simulated world has one thread");
    static seen told;
    auto [loop, fds, poll] = scene_open(&told);
    for (int i = 1; i <= 3; i++) {
        assert_is(write(fds[1], "x", 1), 1);
        told.stop_at = told.calls + 2;
        pthread_t thread;
        assert_is(pthread_create(&thread, nullptr, [](void *arg) -> void * {
            run_to_stop(static_cast<mio_loop_t *>(arg));
            return nullptr;
        }, loop), 0);
        pthread_join(thread, nullptr);
        ck_assert_int_ge(told.calls, 2 * i);
    }
    loop_close(loop);
    close(fds[0]);
    close(fds[1]);
}

TEST(a_poll_set_before_a_fork_is_told_in_the_child_that_runs_the_loop) {
    KERNEL_ONLY("a simulated world has one process");
    static seen told;
    auto [loop, fds, poll] = scene_open(&told);
    assert_is(write(fds[1], "x", 1), 1);
    fflush(nullptr);
    const pid_t child = fork();
    if (child == 0) {
        told.stop_at = 2;
        _exit(mio_loop_run(loop) == MIO_STOPPED && told.events == MIO_POLL_IN ? 0 : 1);
    }
    assert_is(child_status(child), 0);
    mio_handle_abandon(poll);
    close(fds[0]);
    close(fds[1]);
}
