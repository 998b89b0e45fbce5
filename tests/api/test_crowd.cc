// Crowds: ten thousand clients that dawdle, a thousand that are told the same, a hundred thousand sockets one by one.
#include "harness.h"

#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace api;

static bool descriptors_raised(rlim_t wanted) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return false;
    if (limit.rlim_cur >= wanted) return true;
    limit.rlim_cur = wanted;
    return wanted <= limit.rlim_max && setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

// --- clients that dawdle --------------------------------------------------------------------------------------------

constexpr int CROWD = 10000;
constexpr size_t MESSAGE = 100; // of which they send a byte now and then

struct crowd {
    mio_loop_t *loop;
    int accepted, began, timed_out, closed;
    mio_stream_t *streams[CROWD];
    mio_req_t reads[CROWD];
};
static crowd all;

static void crowd_read(mio_stream_t *self, int64_t n, mio_buf_t *buf, void *) {
    if (is_over()) return;
    if (n == 1) {
        all.began++;
        return;
    }
    if (n != MIO_ETIMEDOUT) ck_assert_int_eq(n, MIO_ETIMEDOUT);
    if (buf->len != 0) ck_assert_uint_lt(buf->len, MESSAGE); // what came of the message
    all.timed_out++;
    if (mio_handle_close(self, [](mio_handle_t *, void *) { all.closed++; }, nullptr) != 0) ck_abort_msg("close");
}

// Every other one is read by its owner into a buffer of its own, whole, and has a deadline for it; the rest is read
// as it comes and has a time-out for each wait.
static void crowd_accepted(mio_listener_t *, int status, mio_stream_t *stream, void *) {
    if (status < 0 || all.accepted == CROWD) return;
    const int i = all.accepted++;
    all.streams[i] = stream;
    if (i % 2 == 0) {
        mio_buf_t room = {};
        if (mio_buf_alloc(all.loop, MESSAGE, &room) != 0) ck_abort_msg("alloc");
        all.reads[i] = mio_stream_read_exact(stream, &room, MESSAGE, crowd_read, nullptr);
    } else {
        all.reads[i] = mio_stream_read_start(stream, 0, crowd_read, nullptr);
    }
    if (all.reads[i] < 0) ck_abort_msg("read");
}

static void crowd_limit_time(int count, int64_t limit_ns) {
    for (int i = 0; i < count; i++) {
        const int result = i % 2 == 0 ? mio_req_timeout(all.loop, all.reads[i], limit_ns)
                                      : mio_stream_set_timeout(all.streams[i], MIO_TIMEOUT_READ, limit_ns);
        if (result != 0) assert_is(result, 0);
    }
}

// In a process of its own: connects, sends a byte through each, and waits until all have been ended.
static void crowd_dawdle(const mio_addr_t *at, int count) {
    static int fds[CROWD];
    for (int i = 0; i < count; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        if (fds[i] < 0 || connect(fds[i], &at->u.any, at->len) != 0 || send(fds[i], "G", 1, MSG_NOSIGNAL) != 1) leave(2);
    }
    char byte;
    for (int i = 0; i < count; i++)
        if (recv(fds[i], &byte, 1, 0) > 0) leave(3); // the end, or a reset: nobody answers
    leave(0);
}

// On sim the clients are streams of the same loop.
static void crowd_dawdle_here(const mio_addr_t *at, int count) {
    for (int i = 0; i < count; i++) {
        mio_stream_t *client;
        auto connected = [](mio_stream_t *stream, int status, void *) {
            if (status != 0) assert_is(status, 0);
            mio_buf_t byte = mio_buf_borrow("G", 1);
            if (mio_stream_write(stream, &byte, 1, nullptr, nullptr) < 0) ck_abort_msg("write");
        };
        if (mio_tcp_connect(all.loop, at, nullptr, connected, nullptr, &client) < 0) ck_abort_msg("connect");
        if (i % 500 == 499) run_for(all.loop, MIO_MILLISECOND); // not more at once than a backlog holds
    }
}

static int64_t crowd_memory() { // all that the loop has
    return loop_counting(all.loop)->live_bytes + static_cast<int64_t>(metrics(all.loop).buffer_bytes);
}

TEST(ten_thousand_dawdling_clients_cost_little_memory_and_are_ended_in_time) {
    const int count = scaled(CROWD);
    if (!on_sim() && !descriptors_raised(CROWD + 100)) SKIP("not enough descriptors for ten thousand connections");
    memset(static_cast<void *>(&all), 0, sizeof all);
    all.loop = loop_open();
    mio_listen_options_t options = MIO_LISTEN_OPTIONS_INIT;
    mio_listener_t *listener;
    mio_addr_t at;
    options.backlog = 1000;
    assert_is(mio_tcp_listen(all.loop, "127.0.0.1", 0, &options, crowd_accepted, nullptr, &listener), 0);
    assert_is(mio_listener_local(listener, &at), 0);
    run_for(all.loop, MIO_MILLISECOND);
    const int64_t before = crowd_memory();
    pid_t clients = -1;
    if (on_sim()) crowd_dawdle_here(&at, count);
    else {
        clients = fork();
        ck_assert_int_ge(clients, 0);
        if (clients == 0) crowd_dawdle(&at, count);
    }
    int64_t end_ns = clock_ns() + patience(18 * MIO_SECOND);
    while ((all.accepted < count || all.began < count / 2) && clock_ns() < end_ns) run_for(all.loop, 5 * MIO_MILLISECOND);
    assert_is(all.accepted, count);
    assert_is(all.began, count / 2);
    const int64_t each = (crowd_memory() - before) / (on_sim() ? 2 * count : count); // there, both ends are the loop's
    if (count == CROWD) // or what is in reserve counts for more
        ck_assert_msg(each <= (guard_build() ? 1024 : 512), "%lld bytes of memory for each connection",
                      static_cast<long long>(each));

    // Nobody's time is over before it is; on a kernel nobody knows how long these 100 ms are.
    crowd_limit_time(count, on_sim() ? 300 * MIO_MILLISECOND : 60 * MIO_MINUTE);
    int64_t least = INT64_MAX;
    for (int tries = 0; tries < (on_sim() ? 1 : 5) && least >= 50 * MIO_MILLISECOND; tries++) {
        const int64_t cpu = cpu_ns();
        run_for(all.loop, 100 * MIO_MILLISECOND);
        if (cpu_ns() - cpu < least) least = cpu_ns() - cpu;
    }
    if (!on_sim() && !on_sqpoll() && !sanitized()) ck_assert_int_lt(least, 50 * MIO_MILLISECOND); // they cost no time, either
    assert_is(all.timed_out, 0);
    if (!on_sim()) crowd_limit_time(count, 100 * MIO_MILLISECOND);
    end_ns = clock_ns() + patience(10 * MIO_SECOND);
    while (all.closed < count && clock_ns() < end_ns) run_for(all.loop, 20 * MIO_MILLISECOND);
    assert_is(all.timed_out, count);
    assert_is(all.closed, count);
    assert_is(metrics(all.loop).timers, 0);
    if (clients >= 0) assert_is(child_status(clients), 0);
}

// --- one buffer for a thousand --------------------------------------------------------------------------------------

struct broadcast {
    mio_buf_owner_t owner;
    int released;
    char memory[2000];
};

TEST(one_shared_buffer_to_a_thousand_streams_is_freed_once) {
    constexpr int STREAMS = 1000;
    if (!on_sim() && !descriptors_raised(2 * STREAMS + 100)) SKIP("not enough descriptors for a thousand pairs");
    mio_loop_t *loop = loop_open();
    const int count = scaled(STREAMS);
    static inbox in[STREAMS];
    static broadcast words;
    memset(static_cast<void *>(in), 0, sizeof in);
    memset(static_cast<void *>(&words), 0, sizeof words);
    words.owner = MIO_BUF_OWNER_INIT([](mio_buf_owner_t *, char *, size_t) { words.released++; });
    pattern_fill(words.memory, sizeof words.memory, 0);
    mio_buf_t original = mio_buf_wrap(words.memory, sizeof words.memory, &words.owner);
    original.len = sizeof words.memory;
    for (int i = 0; i < count; i++) {
        pair streams = connect_pair(loop);
        ck_assert_int_gt(mio_stream_read_start(streams.server, 0, read_into, &in[i]), 0);
        mio_buf_t copy = {};
        assert_is(mio_buf_share(&original, &copy), 0);
        ck_assert_int_gt(mio_stream_write(streams.client, &copy, 1, nullptr, nullptr), 0);
    }
    mio_buf_release(&original);
    assert_is(words.released, 0);
    const int64_t end_ns = clock_ns() + patience(10 * MIO_SECOND);
    int whole = 0;
    while (whole < count && clock_ns() < end_ns) {
        run_for(loop, 5 * MIO_MILLISECOND);
        whole = 0;
        for (int i = 0; i < count; i++) whole += in[i].received == sizeof words.memory && !in[i].wrong;
    }
    assert_is(whole, count);
    assert_is(words.released, 1);
    run_for(loop, MIO_MILLISECOND);
    assert_is(words.released, 1);
}

// --- a hundred thousand sockets -------------------------------------------------------------------------------------

TEST(a_hundred_thousand_sockets_opened_and_closed_leave_nothing) {
    mio_loop_t *loop = loop_open();
    static int closed;
    closed = 0;
    const int rounds = scaled(sanitized() ? 200 : 1000);
    run_for(loop, MIO_MILLISECOND);
    const size_t descriptors = open_descriptors();
    int64_t warm = 0;
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < 100; i++) {
            mio_listener_t *listener;
            const int result = mio_tcp_listen(loop, "127.0.0.1", 0, nullptr, [](mio_listener_t *, int status, mio_stream_t *, void *) {
                if (status != MIO_ECANCELED && status != 0) ck_abort_msg("accept: %d", status); // a stranger's is closed
            }, nullptr, &listener);
            if (result != 0) assert_is(result, 0);
            if (i % 10 == 0 && mio_loop_run_once(loop, 0) < 0) ck_abort_msg("run"); // some have got as far as the kernel
            if (mio_handle_close(listener, [](mio_handle_t *, void *) { closed++; }, nullptr) != 0) ck_abort_msg("close");
        }
        run_to_end(loop);
        if (round == rounds / 20) warm = loop_counting(loop)->live_bytes;
    }
    assert_is(closed, rounds * 100);
    assert_is(loop_counting(loop)->live_bytes, warm);
    assert_is(open_descriptors(), descriptors);
    assert_is(metrics(loop).handles, 0);
}
