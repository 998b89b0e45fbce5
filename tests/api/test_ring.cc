// The ring, seen from outside: many streams at once, streams that change the way in which they are received from,
// buffers that run short, threads and processes that change, and the number of calls. Every byte is compared.
// (Cancelled in the moment of completion: test_ring_cancel.cc. Ends: test_ring_end.cc.) What any backend of a kernel's
// must hold as well runs on each of them.
#include "ring.h"

#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>

using namespace api;

// --- clients that send all at once, between two turns ---------------------------------------------------------------

constexpr size_t TABLE = 1 << 20;
static char table[TABLE + (64 << 10)]; // the pattern: a stream that has sent n bytes goes on at n % TABLE

static const char *table_at(uint64_t offset) {
    if (table[1] == 0) pattern_fill(table, sizeof table, 0), memcpy(table + TABLE, table, sizeof table - TABLE);
    return table + offset % TABLE;
}

struct client {
    int fd;
    uint64_t sent, received;
};

static void client_receive(mio_loop_t *loop, client *c, int64_t end_ns) {
    static char back[64 << 10];
    while (c->received < c->sent) {
        const ssize_t n = recv(c->fd, back, sizeof back, MSG_DONTWAIT);
        must(n != 0, "the echo ended");
        if (n < 0) {
            must(errno == EAGAIN, "the echo failed");
            must(clock_ns() < end_ns, "an echo does not come");
            must(mio_loop_run_once(loop, MIO_MILLISECOND) >= 0, "run");
            continue;
        }
        must(memcmp(back, table_at(c->received), static_cast<size_t>(n)) == 0, "an echo with other bytes");
        c->received += static_cast<uint64_t>(n);
    }
}

// One message of each, and its echo.
static void clients_exchange(mio_loop_t *loop, client *clients, int n, size_t bytes) {
    for (int i = 0; i < n; i++) {
        client *c = &clients[i];
        must(send(c->fd, table_at(c->sent), bytes, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes), "send");
        c->sent += bytes;
    }
    const int64_t end_ns = clock_ns() + patience(EVER);
    for (int i = 0; i < n; i++) client_receive(loop, &clients[i], end_ns);
}

static void clients_open(mio_loop_t *loop, const mio_addr_t *at, client *clients, int n) {
    for (int i = 0; i < n; i++) {
        clients[i] = {raw_connect(at), static_cast<uint64_t>(i) * 77, static_cast<uint64_t>(i) * 77};
        patience_set(clients[i].fd);
        if (i % 32 == 0) turns(loop, 1);
    }
}

static void clients_close(client *clients, int n) {
    for (int i = 0; i < n; i++) close(clients[i].fd);
}

static bool descriptors_raised(rlim_t wanted) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return false;
    if (limit.rlim_cur >= wanted) return true;
    limit.rlim_cur = wanted;
    return wanted <= limit.rlim_max && setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

static void many_streams(int n, uint32_t completions) {
    static client clients[500];
    static const size_t phases[] = {16384, 64, 16384, 1, 9000, 7000};
    mio_loop_options_t options = loop_options();
    options.completions = completions;
    mio_loop_t *loop = loop_open_with(&options);
    echo server;
    echo_open(loop, &server);
    clients_open(loop, &server.at, clients, n);
    for (size_t bytes : phases)
        for (int i = 0; i < 6; i++) clients_exchange(loop, clients, n, bytes);
    clients_close(clients, n);
}

TEST(hundreds_of_streams_change_between_large_and_small_pieces) {
    KERNEL_ONLY("its peers are descriptors of the kernel");
    if (!descriptors_raised(1200)) SKIP("no limit of 1,200 descriptors here");
    many_streams(sanitized() ? 100 : 500, 0);
}

TEST(a_queue_far_smaller_than_what_comes_at_once_loses_nothing) {
    KERNEL_ONLY("its peers are descriptors of the kernel");
    many_streams(200, 64);
}

// --- buffers run short ----------------------------------------------------------------------------------------------

constexpr int KEEPERS = 64, BUSY = 16;

struct keeping {
    mio_buf_t kept[4 * KEEPERS];
    int count;
};
static keeping hoard;

static void hoard_read(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *) {
    if (n < 0) mio_handle_close(stream, nullptr, nullptr);
    else hoard.kept[hoard.count++] = mio_buf_take(buf); // one byte, and with it what it was received into
}

static void hoard_lay(size_t max_bytes) {
    static client busy[BUSY];
    mio_loop_options_t options = loop_options();
    options.buffer_max_bytes = max_bytes;
    mio_loop_t *loop = loop_open_with(&options);
    memset(static_cast<void *>(&hoard), 0, sizeof hoard);
    echo server;
    echo_open(loop, &server);
    half keepers[KEEPERS];
    for (half &one : keepers) {
        one = half_open(loop, TCP);
        ck_assert_int_gt(mio_stream_read_start(one.stream, 0, hoard_read, nullptr), 0);
    }
    clients_open(loop, &server.at, busy, BUSY);
    for (int round = 0; round < 3; round++)
        for (half &one : keepers) {
            const int before = hoard.count;
            assert_is(send(one.peer, "k", 1, MSG_NOSIGNAL), 1);
            clients_exchange(loop, busy, BUSY, 4096); // everybody else: the next byte falls into another block
            run_until(loop, &hoard.count, before + 1, "a byte arrives");
        }
    clients_exchange(loop, busy, BUSY, 16384);
    for (mio_buf_t &kept : hoard.kept) {
        if (kept.base == nullptr) continue;
        must(kept.len == 1 && kept.base[0] == 'k', "a kept byte has changed");
        mio_buf_release(&kept);
    }
    turns(loop, 3);
    clients_exchange(loop, busy, BUSY, 16384);
    for (half &one : keepers) half_close(&one);
    clients_close(busy, BUSY);
    run_for(loop, 5 * MIO_MILLISECOND);
}

TEST(streams_that_keep_a_byte_each_starve_nobody_of_buffers) {
    KERNEL_ONLY("its peers are descriptors of the kernel");
    hoard_lay(0);
    hoard_lay(4 << 20);
    hoard_lay(1 << 20);
}

// Everything that the ring of buffers has is taken at once, many times over.
TEST(a_burst_larger_than_all_buffers_is_received_whole) {
    KERNEL_ONLY("its peers are descriptors of the kernel");
    static client clients[100];
    mio_loop_t *loop = loop_open();
    echo server;
    echo_open(loop, &server);
    clients_open(loop, &server.at, clients, 100);
    turns(loop, 5);
    for (int round = 0; round < 8; round++) {
        clients_exchange(loop, clients, 100, 30000); // 3 MB between two turns
        clients_exchange(loop, clients, 100, 100);
        clients_exchange(loop, clients, 100, 6000);
        clients_exchange(loop, clients, 100, 100);
    }
    clients_close(clients, 100);
}

// --- one stream, read in every way ----------------------------------------------------------------------------------

struct reader {
    uint64_t received;
    int calls;
    int64_t last;
    bool stops; // a continuous read stops itself with its first bytes
};

static void reader_told(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg) {
    reader *r = static_cast<reader *>(arg);
    must(memcmp(buf->base != nullptr ? buf->base : "", table_at(r->received), buf->len) == 0, "bytes in another order");
    r->received += buf->len;
    if (n < 0 || !r->stops) {
        r->calls++;
        r->last = n;
    } else {
        mio_stream_read_stop(stream);
    }
}

static void read_some_way(mio_loop_t *loop, mio_stream_t *stream, reader *r, int way, size_t room) {
    static char memory[30000];
    mio_buf_t space = mio_buf_space(memory, room);
    const int before = r->calls;
    const char delimiter = *table_at(r->received + room / 2);
    r->stops = way == 3;
    mio_req_t id = 0;
    if (way == 0) id = mio_stream_read(stream, &space, reader_told, r);
    if (way == 1) id = mio_stream_read_until(stream, &space, &delimiter, 1, 0, reader_told, r);
    if (way == 2) id = mio_stream_read_exact(stream, &space, room, reader_told, r);
    if (way == 3) id = mio_stream_read_start(stream, 0, reader_told, r);
    ck_assert_int_gt(id, 0);
    run_until(loop, &r->calls, before + 1, "a read is told of");
    ck_assert(way == 3 ? r->last == MIO_ECANCELED : r->last > 0);
}

TEST(a_stream_that_is_read_now_in_this_way_and_now_in_that_keeps_its_order) {
    KERNEL_ONLY("its peers are descriptors of the kernel");
    mio_loop_t *loop = loop_open();
    for (int of = 0; of < FAMILIES; of++) {
        half one = half_open(loop, of);
        reader r = {};
        uint64_t sent = 0;
        for (int round = 0; round < 600; round++) {
            const size_t room = 1 + static_cast<size_t>(round * 7919 % (round % 50 < 10 ? 25000 : 700));
            const size_t wanted = room + static_cast<size_t>(round % 5 == 0 ? 3000 : round % 7);
            turns(loop, round % 2);
            if (sent < r.received + wanted) {
                const size_t n = static_cast<size_t>(r.received + wanted - sent);
                assert_is(send(one.peer, table_at(sent), n, MSG_NOSIGNAL), n);
                sent += n;
            }
            read_some_way(loop, one.stream, &r, (round / 3 + round) % 4, room);
        }
        assert_is(shutdown(one.peer, SHUT_WR), 0);
        inbox in = {};
        in.is_text = true;
        in.stop_at_end = true;
        ck_assert_int_gt(mio_stream_read_start(one.stream, 0, read_into, &in), 0);
        run_to_stop(loop);
        assert_is(in.end, MIO_EOF);
        assert_is(in.received + r.received, sent);
        half_close(&one);
    }
}

// --- half-closes ----------------------------------------------------------------------------------------------------

struct tails {
    mio_addr_t at;
    mio_loop_t *loop;
    const char *failed;
};

// Sends all, closes its sending side, and only then reads.
static const char *tail_of(const mio_addr_t *at, size_t n) {
    static thread_local char back[64 << 10];
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    patience_set(fd);
    const char *failed = connect(fd, &at->u.any, at->len) != 0 ? "connect" : nullptr;
    for (size_t sent = 0; failed == nullptr && sent < n;) {
        const size_t piece = n - sent < 50000 ? n - sent : 50000;
        const ssize_t took = send(fd, table_at(sent), piece, MSG_NOSIGNAL);
        if (took <= 0) failed = "send";
        else sent += static_cast<size_t>(took);
    }
    shutdown(fd, SHUT_WR);
    size_t received = 0;
    ssize_t got = 1;
    while (failed == nullptr && got > 0) {
        got = peer_receive(fd, back, n - received < sizeof back ? n - received + 1 : sizeof back);
        if (got > 0 && memcmp(back, table_at(received), static_cast<size_t>(got)) != 0) failed = "other bytes";
        if (got > 0) received += static_cast<size_t>(got);
    }
    if (failed == nullptr && got < 0) failed = "no end";
    if (failed == nullptr && received != n) failed = "a tail is lost";
    close(fd);
    return failed;
}

static void *tails_send(void *arg) {
    tails *all = static_cast<tails *>(arg);
    for (size_t i = 0; i < 300 && all->failed == nullptr; i++) all->failed = tail_of(&all->at, 1 + i * i * 3 % 150000);
    mio_loop_stop(all->loop);
    return nullptr;
}

TEST(an_echo_to_clients_that_have_closed_their_sending_side_loses_no_tail) {
    KERNEL_ONLY("its peers are descriptors of the kernel");
    mio_loop_t *loop = loop_open();
    echo server;
    echo_open(loop, &server);
    table_at(0);
    tails all = {server.at, loop, nullptr};
    pthread_t thread;
    assert_is(pthread_create(&thread, nullptr, tails_send, &all), 0);
    run_to_stop(loop);
    pthread_join(thread, nullptr);
    ck_assert_msg(all.failed == nullptr, "%s", all.failed);
}

TEST(a_stream_that_has_shut_down_its_own_side_goes_on_receiving) {
    KERNEL_ONLY("its peers are descriptors of the kernel");
    mio_loop_t *loop = loop_open();
    for (int round = 0; round < 40; round++) {
        half one = half_open(loop, round % 2);
        inbox in = {};
        in.stop_at_end = true;
        ck_assert_int_gt(mio_stream_read_start(one.stream, 0, read_into, &in), 0);
        turns(loop, round % 3);
        ck_assert_int_gt(mio_stream_shutdown(one.stream, nullptr, nullptr), 0);
        turns(loop, 2);
        char byte;
        assert_is(peer_receive(one.peer, &byte, 1), 0);
        uint64_t sent = 0;
        for (size_t n = 1; n < 40000; n = n * 3 + 1, turns(loop, 1)) {
            peer_send(one.peer, n, sent);
            sent += n;
        }
        assert_is(shutdown(one.peer, SHUT_WR), 0);
        run_to_stop(loop);
        assert_is(in.end, MIO_EOF);
        assert_is(in.received, sent);
        ck_assert(!in.wrong);
        half_close(&one);
    }
}

// --- threads and processes ------------------------------------------------------------------------------------------

struct traffic {
    mio_addr_t at;
    int over;
    const char *failed;
    uint64_t echoes;
};

constexpr int TRAVELLERS = 20;

// Echoes on many connections that never end, of small and large pieces, until it is told.
static void *traffic_drive(void *arg) {
    traffic *t = static_cast<traffic *>(arg);
    static char back[64 << 10];
    int fds[TRAVELLERS];
    uint64_t at = 0;
    for (int &fd : fds) {
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        patience_set(fd);
        if (connect(fd, &t->at.u.any, t->at.len) != 0) t->failed = "connect";
    }
    for (int round = 0; t->failed == nullptr && __atomic_load_n(&t->over, __ATOMIC_ACQUIRE) == 0; round++) {
        const size_t n = round / 20 % 2 == 0 ? 100 : 12000;
        for (int fd : fds)
            if (send(fd, table_at(at), n, MSG_NOSIGNAL) != static_cast<ssize_t>(n)) t->failed = "send";
        for (int fd : fds) {
            if (t->failed != nullptr) break;
            if (peer_receive(fd, back, n) != static_cast<ssize_t>(n)) t->failed = "an echo does not come";
            else if (memcmp(back, table_at(at), n) != 0) t->failed = "other bytes";
            t->echoes++;
        }
        at += n;
    }
    for (int fd : fds) close(fd);
    return nullptr;
}

static void *run_to_its_stop(void *arg) {
    run_to_stop(static_cast<mio_loop_t *>(arg));
    return nullptr;
}

// One thread after the other runs the loop; in each of them the traffic goes on.
static void move_between_threads(bool child_lives) {
    mio_loop_t *loop = loop_open();
    echo server;
    echo_open(loop, &server);
    table_at(0);
    static traffic t;
    t = {};
    t.at = server.at;
    int ends[2];
    assert_is(pipe(ends), 0);
    const pid_t child = child_lives ? fork() : -1; // has copies of all that the loop has, and does not let go of them
    if (child == 0) {
        char byte;
        close(ends[1]);
        leave(read(ends[0], &byte, 1) == 0 ? 0 : 1);
    }
    close(ends[0]);
    pthread_t driver, runner;
    assert_is(pthread_create(&driver, nullptr, traffic_drive, &t), 0);
    for (int leg = 0; leg < 8; leg++) {
        assert_is(pthread_create(&runner, nullptr, run_to_its_stop, loop), 0);
        sleep_ns(20 * MIO_MILLISECOND);
        mio_loop_stop(loop);
        pthread_join(runner, nullptr);
    }
    assert_is(pthread_create(&runner, nullptr, run_to_its_stop, loop), 0);
    __atomic_store_n(&t.over, 1, __ATOMIC_RELEASE);
    pthread_join(driver, nullptr);
    mio_loop_stop(loop);
    pthread_join(runner, nullptr);
    ck_assert_msg(t.failed == nullptr, "%s", t.failed);
    ck_assert_uint_ge(t.echoes, TRAVELLERS);
    assert_is(mio_loop_destroy(loop, EVER), 0); // by yet another
    loop_forget(loop);
    close(ends[1]);
    if (child_lives) assert_is(child_status(child), 0);
}

TEST(a_loop_goes_from_thread_to_thread_with_its_streams_and_their_bytes) {
    KERNEL_ONLY("a simulated world has one thread");
    move_between_threads(false);
}

TEST(a_loop_goes_from_thread_to_thread_while_a_forked_process_has_its_descriptors) {
    KERNEL_ONLY("a simulated world has one thread");
    move_between_threads(true);
}

TEST(forks_before_and_during_a_run_disturb_no_byte) {
    KERNEL_ONLY("a simulated world has one process");
    static client clients[30];
    mio_loop_t *loop = loop_open();
    echo server;
    echo_open(loop, &server);
    for (int i = 0; i < 30; i++) clients[i] = {raw_connect(&server.at), 0, 0};
    for (client &c : clients) { // sent before the loop has ever run
        assert_is(send(c.fd, table_at(0), 5000, MSG_NOSIGNAL), 5000);
        c.sent = 5000;
    }
    pid_t children[6];
    for (int i = 0; i < 6; i++) {
        children[i] = fork();
        ck_assert_int_ge(children[i], 0);
        if (children[i] == 0) {
            if (i % 2 == 0) sleep_ns(20 * MIO_MILLISECOND); // or at once
            leave(mio_loop_destroy(loop, 0) == 0 ? 0 : 1);
        }
        if (i == 0) clients_exchange(loop, clients, 30, 100);
        clients_exchange(loop, clients, 30, 12000);
        for (client &c : clients) { // in flight at the next fork
            assert_is(send(c.fd, table_at(c.sent), 900, MSG_NOSIGNAL), 900);
            c.sent += 900;
        }
        turns(loop, 1);
    }
    clients_exchange(loop, clients, 30, 100);
    for (pid_t child : children) assert_is(child_status(child), 0);
    clients_close(clients, 30);
}

// --- sends that fail silently ---------------------------------------------------------------------------------------

struct verdicts {
    int calls, ok, failed;
};

static void verdict_told(mio_stream_t *, int status, int64_t sent, mio_buf_t *bufs, unsigned, void *arg) {
    verdicts *to = static_cast<verdicts *>(arg);
    to->calls++;
    if (status == 0 && sent == static_cast<int64_t>(bufs[0].len)) to->ok++;
    if (status < 0 && sent == 0) to->failed++;
}

// The queue of completions is full of other things while they fail.
TEST(a_send_to_a_dead_peer_is_no_success_however_much_else_comes) {
    KERNEL_ONLY("its peers are descriptors of the kernel");
    constexpr int DEAD = 50, ALIVE = 150;
    mio_loop_options_t options = loop_options();
    options.completions = 64;
    mio_loop_t *loop = loop_open_with(&options);
    static half dead[DEAD], alive[ALIVE];
    static inbox in[ALIVE];
    for (int round = 0; round < 5; round++) {
        verdicts to_dead = {}, to_alive = {};
        memset(in, 0, sizeof in);
        for (half &one : dead) {
            one = half_open(loop, TCP);
            ck_assert_int_gt(mio_stream_read_start(one.stream, 0, [](mio_stream_t *, int64_t, mio_buf_t *, void *) {},
                                                   nullptr), 0);
        }
        for (int i = 0; i < ALIVE; i++) {
            alive[i] = half_open(loop, TCP);
            ck_assert_int_gt(mio_stream_read_start(alive[i].stream, 0, read_into, &in[i]), 0);
        }
        turns(loop, 8);
        for (half &one : alive) peer_send(one.peer, 3000, 0);
        for (half &one : dead) { // dead when the reset is there, which a busy kernel may bring later
            raw_reset(one.peer);
            struct pollfd end = {mio_stream_fd(one.stream), 0, 0};
            assert_is(poll(&end, 1, static_cast<int>(patience(EVER) / MIO_MILLISECOND)), 1);
        }
        for (int i = 0; i < ALIVE; i++) { // dead and alive in turn
            half *one = i % 3 == 0 ? &dead[i / 3] : &alive[i];
            mio_buf_t bytes = mio_buf_borrow(table_at(0), 1000);
            verdicts *to = i % 3 == 0 ? &to_dead : &to_alive;
            ck_assert_int_gt(mio_stream_write(one->stream, &bytes, 1, verdict_told, to), 0);
        }
        run_until(loop, &to_dead.calls, DEAD, "writes to the dead are told of");
        run_until(loop, &to_alive.calls, ALIVE - DEAD, "writes to the living are told of");
        assert_is(to_dead.failed, DEAD);
        assert_is(to_alive.ok, ALIVE - DEAD);
        for (int i = 0; i < ALIVE; i++) {
            char back[1000];
            if (i % 3 != 0) {
                assert_is(peer_receive(alive[i].peer, back, 1000), 1000);
                must(memcmp(back, table_at(0), 1000) == 0, "bytes sent");
            }
            (void)comes(loop, [&] { return in[i].received >= 3000; });
            assert_is(in[i].received, 3000);
            must(!in[i].wrong, "bytes received");
            half_close(&alive[i]);
        }
        for (half &one : dead) mio_handle_abandon(one.stream);
    }
}

// --- the number of calls --------------------------------------------------------------------------------------------

static int features_missing() {
    static int missing;
    missing = 0;
    mio_backend_features([](const char *, const char *, int verdict, const char *, void *) {
        if (verdict != 0) missing++;
    }, nullptr);
    return missing;
}

// The best of some stretches: in the others the kernel may have brought the bytes one by one.
static double calls_per_echo(mio_loop_t *loop, client *clients, int n, int rounds) {
    constexpr int STRETCHES = 10;
    double best = 100;
    for (int stretch = 0; stretch < STRETCHES; stretch++) {
        const uint64_t before = metrics(loop).backend_calls;
        for (int i = 0; i < rounds / STRETCHES; i++) clients_exchange(loop, clients, n, 100);
        const double calls = static_cast<double>(metrics(loop).backend_calls - before) / (n * (rounds / STRETCHES));
        if (calls < best) best = calls;
    }
    return best;
}

TEST(eighty_echoes_at_a_time_cost_few_calls) {
    RING_ONLY();
    if (features_missing() != 0) SKIP("the ring lacks a feature here, or is told to do without");
    if (on_sqpoll()) SKIP("a kernel thread that submits is about other costs");
    static client clients[80];
    mio_loop_t *loop = loop_open();
    echo server;
    echo_open(loop, &server);
    clients_open(loop, &server.at, clients, 80);
    calls_per_echo(loop, clients, 80, 20); // warm
    const double calls = calls_per_echo(loop, clients, 80, 300);
    ck_assert_msg(calls <= 0.15, "%.3f calls per echo", calls);
    clients_close(clients, 80);
}

// Clients of another process, each of which waits for its echo. How many have spoken when the loop looks is the machine's
// affair, so it looks when all have; what the kernel then brings late costs calls, and the best of some stretches counts.
TEST(eighty_clients_of_another_process_are_served_with_few_calls) {
    RING_ONLY();
    if (features_missing() != 0) SKIP("the ring lacks a feature here, or is told to do without");
    if (on_sqpoll()) SKIP("a kernel thread that submits is about other costs");
    constexpr uint64_t CLIENTS = 80, ROUNDS = 400, STRETCH = 3200;
    mio_loop_t *loop = loop_open();
    echo server;
    echo_open(loop, &server);
    int said[2];
    assert_is(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, said), 0);
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        static int fds[CLIENTS];
        static char back[100];
        for (int &fd : fds) fd = raw_connect(&server.at);
        for (uint64_t round = 0; round < ROUNDS; round++) {
            for (int fd : fds)
                if (send(fd, table_at(0), 100, MSG_NOSIGNAL) != 100) leave(1);
            if (write(said[1], "x", 1) != 1) leave(3);
            for (int fd : fds)
                if (peer_receive(fd, back, 100) != 100) leave(2);
        }
        leave(0);
    }
    close(said[1]);
    const int64_t end_ns = clock_ns() + patience(20 * MIO_SECOND);
    double best = 100;
    uint64_t calls = 0, echoes = 0; // when this stretch began
    mio_loop_metrics_t now = metrics(loop);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        char one;
        assert_is(peer_receive(said[0], &one, 1), 1);
        for (; now.bytes_written < CLIENTS * (round + 1) * 100 && clock_ns() < end_ns; now = metrics(loop))
            must(mio_loop_run_once(loop, 10 * MIO_MILLISECOND) >= 0, "run");
        if (now.bytes_written / 100 < echoes + STRETCH) continue;
        const double stretch = static_cast<double>(now.backend_calls - calls) / (now.bytes_written / 100 - echoes);
        if (stretch < best) best = stretch;
        calls = now.backend_calls;
        echoes = now.bytes_written / 100;
    }
    close(said[0]);
    assert_is(child_status(child), 0);
    ck_assert_msg(best <= 0.15, "%.3f calls per echo in the best stretch", best);
    ck_assert_uint_le(now.backend_calls, CLIENTS * ROUNDS);
}
