// The ring: streams and loops that end while the kernel still works for them, and the end of a stream that came before
// anybody looked. After a close callback, and after destroy, the memory is the program's again.
#include "ring.h"

#include <poll.h>
#include <pthread.h>

#include <initializer_list>

using namespace api;

// --- closed while the kernel receives -------------------------------------------------------------------------------

constexpr int GUARDS = 64, SENDERS = 3, CLOSINGS = 1000;
constexpr size_t GUARD_ROOM = 2000;
static char siege_bytes[1 << 20];

struct guarded {
    char before[64], room[GUARD_ROOM], behind[64];
};

struct guard {
    guarded memory;
    bool busy, closed;
    int calls_left;
    mio_buf_t kept; // of a receive block
    uint64_t kept_at, received;
};

struct besieged {
    mio_addr_t at;
    guard guards[GUARDS];
    int opened, closed;
    mio_stream_t *doomed; // closed by the next callback of another stream: it has been in the kernel for a while then
    int over;             // senders look at it
    size_t piece;
};
static besieged siege;

static void guard_check(guard *g) {
    const char *bytes = reinterpret_cast<const char *>(&g->memory);
    for (size_t i = 0; g->closed && i < sizeof g->memory; i++)
        must(bytes[i] == 'g', "memory was written to after the close callback");
    if (g->kept.base != nullptr) must(pattern_is(g->kept.base, g->kept.len, g->kept_at), "kept bytes have changed");
    mio_buf_release(&g->kept);
    g->closed = false;
    g->received = 0;
}

static void siege_closed(mio_handle_t *handle, void *arg) {
    guard *g = static_cast<guard *>(arg);
    memset(&g->memory, 'g', sizeof g->memory);
    g->closed = true;
    g->busy = false;
    siege.closed++;
    if (siege.doomed == handle) siege.doomed = nullptr;
}

static void siege_close(mio_stream_t *stream) {
    if (siege.doomed == stream) siege.doomed = nullptr;
    if (mio_handle_is_closing(stream)) return;
    must(mio_handle_close(stream, siege_closed, mio_handle_data(stream)) == 0, "close");
}

// true: the stream goes on.
static bool siege_go_on(mio_stream_t *stream, guard *g, int64_t n) {
    if (mio_handle_is_closing(stream)) return false;
    if (siege.doomed != nullptr && siege.doomed != stream) siege_close(siege.doomed);
    if (n > 0) g->received += static_cast<uint64_t>(n);
    if (n > 0 && g->calls_left-- > 0) {
        if (g->calls_left % 3 == 0) siege.doomed = stream;
        return true;
    }
    siege_close(stream);
    return false;
}

static void siege_read(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg) {
    guard *g = static_cast<guard *>(arg);
    must(n <= 0 || pattern_is(buf->base, buf->len, g->received), "bytes of a read");
    if (!siege_go_on(stream, g, n)) return;
    mio_buf_t space = mio_buf_space(g->memory.room, GUARD_ROOM);
    must(mio_stream_read(stream, &space, siege_read, g) > 0, "read");
}

static void siege_received(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg) {
    guard *g = static_cast<guard *>(arg);
    must(n <= 0 || pattern_is(buf->base, buf->len, g->received), "bytes received");
    if (n > 0 && g->kept.base == nullptr) {
        g->kept_at = g->received;
        g->kept = mio_buf_take(buf);
    }
    siege_go_on(stream, g, n);
}

static void siege_accepted(mio_listener_t *, int status, mio_stream_t *stream, void *) {
    if (status != 0) return;
    guard *g = &siege.guards[siege.opened % GUARDS];
    for (int i = 0; g->busy && i < GUARDS; i++) g = &siege.guards[i];
    if (g->busy) return; // it is closed then
    guard_check(g);
    g->busy = true;
    g->calls_left = siege.opened % 11;
    mio_handle_set_data(stream, g);
    mio_buf_t space = mio_buf_space(g->memory.room, GUARD_ROOM);
    ck_assert_int_gt(siege.opened++ % 2 == 0 ? mio_stream_read(stream, &space, siege_read, g)
                                             : mio_stream_read_start(stream, 0, siege_received, g), 0);
}

// Sends to whoever accepts, until that one has gone; again and again. Not nullptr: an end did not come.
static void *siege_send(void *) {
    while (__atomic_load_n(&siege.over, __ATOMIC_ACQUIRE) == 0) {
        const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        patience_set(fd);
        ssize_t n = 0;
        if (connect(fd, &siege.at.u.any, siege.at.len) == 0)
            for (size_t at = 0; n >= 0 && at + siege.piece <= sizeof siege_bytes; at += static_cast<size_t>(n))
                n = send(fd, siege_bytes + at, siege.piece, MSG_NOSIGNAL);
        const bool stuck = n < 0 && errno == EAGAIN; // nobody reads, and nobody says that it is over
        close(fd);
        if (stuck) return siege_bytes;
    }
    return nullptr;
}

static void siege_lay(size_t piece) {
    mio_loop_t *loop = loop_open();
    memset(static_cast<void *>(&siege), 0, sizeof siege);
    siege.piece = piece;
    listen_on(loop, siege_accepted, nullptr, &siege.at);
    pthread_t senders[SENDERS];
    for (pthread_t &sender : senders) assert_is(pthread_create(&sender, nullptr, siege_send, nullptr), 0);
    run_until(loop, &siege.closed, CLOSINGS / (sanitized() ? 8 : 2), "streams closed");
    __atomic_store_n(&siege.over, 1, __ATOMIC_RELEASE);
    assert_is(mio_loop_destroy(loop, EVER), 0);
    loop_forget(loop);
    for (pthread_t sender : senders) {
        void *stuck;
        pthread_join(sender, &stuck);
        ck_assert_ptr_null(stuck);
    }
    for (guard &g : siege.guards) guard_check(&g);
}

TEST(a_thousand_closes_while_the_peer_sends_leave_memory_alone) {
    KERNEL_ONLY("its peers are descriptors of the kernel");
    pattern_fill(siege_bytes, sizeof siege_bytes, 0);
    siege_lay(500);
    siege_lay(30000);
}

// --- destroyed with everything in the kernel ------------------------------------------------------------------------

constexpr int HALVES = 200;
constexpr size_t BORROWED = 300, UNSENT = 1 << 20;

struct lent {
    char room[HALVES][3][BORROWED];
    char unsent[UNSENT];
    int told, written;
    int64_t sent[HALVES];
    int over;
    half halves[HALVES];
};
static lent all;

static void *all_send(void *) {
    while (__atomic_load_n(&all.over, __ATOMIC_ACQUIRE) == 0)
        for (const half &one : all.halves) (void)!send(one.peer, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    return nullptr;
}

TEST(a_loop_destroyed_with_a_thousand_requests_in_the_kernel_writes_nowhere_afterwards) {
    KERNEL_ONLY("its peers are descriptors of the kernel");
    mio_loop_t *loop = loop_open();
    memset(&all, 0, sizeof all);
    auto read = [](mio_stream_t *, int64_t, mio_buf_t *buf, void *) {
        ck_assert_ptr_nonnull(buf->base);
        all.told++;
    };
    auto continuous = [](mio_stream_t *, int64_t n, mio_buf_t *, void *) {
        if (n < 0) all.told++;
    };
    auto written = [](mio_stream_t *, int, int64_t sent, mio_buf_t *bufs, unsigned, void *arg) {
        assert_is(bufs[0].len, UNSENT);
        *static_cast<int64_t *>(arg) += sent;
        all.told++;
    };
    pattern_fill(all.unsent, UNSENT, 0);
    int started = 0;
    for (int i = 0; i < HALVES; i++) {
        half *one = &all.halves[i];
        *one = half_open(loop, i % 2);
        if (i % 4 < 2) {
            ck_assert_int_gt(mio_stream_read_start(one->stream, 0, continuous, nullptr), 0);
            started++;
        }
        for (int k = 0; i % 4 >= 2 && k < 3; k++, started++) {
            mio_buf_t space = mio_buf_space(all.room[i][k], BORROWED);
            ck_assert_int_gt(mio_stream_read_exact(one->stream, &space, BORROWED, read, nullptr), 0);
        }
        for (int k = 0; k < 3; k++, started++) {
            mio_buf_t bytes = mio_buf_borrow(all.unsent, UNSENT);
            ck_assert_int_gt(mio_stream_write(one->stream, &bytes, 1, written, &all.sent[i]), 0);
        }
        if (i % 20 == 0) turns(loop, 1);
    }
    ck_assert_int_ge(started, 1000);
    run_for(loop, 2 * MIO_MILLISECOND);
    pthread_t sender;
    assert_is(pthread_create(&sender, nullptr, all_send, nullptr), 0);
    turns(loop, 3);
    assert_is(mio_loop_destroy(loop, EVER), 0);
    loop_forget(loop);
    assert_is(all.told, started);
    memset(all.room, 'g', sizeof all.room);
    memset(all.unsent, 'g', UNSENT); // nothing of it may leave any more either
    sleep_ns(5 * MIO_MILLISECOND);
    __atomic_store_n(&all.over, 1, __ATOMIC_RELEASE);
    pthread_join(sender, nullptr);
    const char *rooms = reinterpret_cast<const char *>(all.room);
    for (size_t i = 0; i < sizeof all.room; i++) must(rooms[i] == 'g', "memory was written to after destroy");
    for (int i = 0; i < HALVES; i++) {
        char bytes[65536];
        uint64_t at = 0;
        ssize_t n;
        for (; (n = peer_receive(all.halves[i].peer, bytes, sizeof bytes)) > 0; at += static_cast<uint64_t>(n))
            for (ssize_t k = 0; k < n; k++)
                must(pattern_is(bytes + k, 1, (at + static_cast<uint64_t>(k)) % UNSENT), "bytes sent");
        ck_assert(n == 0 || errno == ECONNRESET);
        ck_assert_int_le(static_cast<int64_t>(at), all.sent[i]); // less where a reset overtook them
        close(all.halves[i].peer);
    }
}

// --- the end goes out at once ---------------------------------------------------------------------------------------

enum engagement { IDLE, RECEIVING, RECEIVING_LARGE, BORROWING, SENDING, ALL_OF_IT, ENGAGEMENTS };

static int64_t engaged_bytes;
static void engaged_read(mio_stream_t *, int64_t n, mio_buf_t *, void *) {
    if (n > 0) engaged_bytes += n;
}

static void engage(mio_loop_t *loop, half *one, int in) {
    static char room[GUARD_ROOM], large[30000];
    if (in == RECEIVING || in == RECEIVING_LARGE || in == ALL_OF_IT)
        ck_assert_int_gt(mio_stream_read_start(one->stream, 0, engaged_read, nullptr), 0);
    engaged_bytes = 0;
    for (int64_t i = 1; in == RECEIVING_LARGE && i <= 8; i++) { // such a stream is received from in another way
        assert_is(send(one->peer, large, sizeof large, MSG_NOSIGNAL), sizeof large);
        while (engaged_bytes < i * static_cast<int64_t>(sizeof large)) assert_ok(mio_loop_run_once(loop, MIO_SECOND));
    }
    mio_buf_t space = mio_buf_space(room, sizeof room);
    if (in == BORROWING) ck_assert_int_gt(mio_stream_read(one->stream, &space, engaged_read, nullptr), 0);
    if (in == SENDING || in == ALL_OF_IT) {
        mio_buf_t bytes = pattern_buf(loop, 8 << 20, 0);
        ck_assert_int_gt(mio_stream_write(one->stream, &bytes, 1, nullptr, nullptr), 0);
    }
    turns(loop, 3);
}

// At once: the loop's thread has not waited for so long. That it stood still does not count.
constexpr int TURNS_AT_ONCE = 2000; // of a millisecond each

TEST(a_closed_stream_says_so_to_its_peer_at_once_whatever_it_was_doing) {
    KERNEL_ONLY("its peers are descriptors of the kernel");
    mio_loop_t *loop = loop_open();
    for (int of = 0; of < FAMILIES; of++)
        for (int in = 0; in < ENGAGEMENTS; in++)
            for (int how = 0; how < 3; how++) {
                half one = half_open(loop, of);
                engage(loop, &one, in);
                if (how == 1) assert_is(send(one.peer, "news", 4, MSG_NOSIGNAL), 4); // with an event under way
                int tries = 0;
                if (how == 2) {
                    mio_handle_abandon(one.stream);
                } else {
                    outcome closed = {};
                    assert_is(mio_handle_close(one.stream, close_told, &closed), 0);
                    run_until(loop, &closed.calls, 1, "closed");
                }
                char bytes[65536];
                ssize_t n;
                do {
                    turns(loop, 1);
                    struct pollfd heard = {one.peer, POLLIN, 0};
                    (void)poll(&heard, 1, 1);
                    n = recv(one.peer, bytes, sizeof bytes, MSG_DONTWAIT);
                } while (n > 0 || (n < 0 && errno == EAGAIN && tries++ < TURNS_AT_ONCE));
                ck_assert_msg(n == 0 || errno == ECONNRESET, "family %d, engagement %d, way %d: no end", of, in, how);
                close(one.peer);
            }
}

TEST(a_stream_with_bytes_unsent_to_a_peer_that_is_gone_closes_at_once) {
    KERNEL_ONLY("its peers are descriptors of the kernel");
    mio_loop_t *loop = loop_open();
    for (int round = 0; round < 40; round++) {
        half one = half_open(loop, round % 2);
        outcome written = {}, closed = {};
        mio_buf_t bytes = pattern_buf(loop, 8 << 20, 0);
        ck_assert_int_gt(mio_stream_write(one.stream, &bytes, 1, write_told, &written), 0);
        turns(loop, round % 3);
        if (round % 4 < 2) raw_reset(one.peer);
        else close(one.peer);
        if (round % 5 == 0) turns(loop, 1);
        assert_is(mio_handle_close(one.stream, close_told, &closed), 0);
        for (int i = 0; i < TURNS_AT_ONCE && closed.calls == 0; i++) assert_ok(mio_loop_run_once(loop, MIO_MILLISECOND));
        assert_is(closed.calls, 1);
        assert_is(written.calls, 1);
        ck_assert_int_lt(written.status, 0);
        ck_assert_int_lt(written.sent, 8 << 20);
    }
}

// --- the end of a stream that stands right behind its bytes ---------------------------------------------------------

struct ended {
    int of, how, when;
    bool shut;
    size_t n;
};

static void end_read(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg) {
    inbox *in = static_cast<inbox *>(arg);
    read_into(stream, n, buf, in);
    if (n < 0 || in->stop_at != 1) return; // a one-shot: again
    mio_buf_t room = mio_buf_take(buf);
    room.len = 0;
    ck_assert_int_gt(mio_stream_read(stream, &room, end_read, in), 0);
}

static void end_bytes(const ended *e, int peer) {
    char *bytes = static_cast<char *>(malloc(e->n));
    pattern_fill(bytes, e->n, 0);
    assert_is(send(peer, bytes, e->n, MSG_NOSIGNAL), static_cast<ssize_t>(e->n));
    free(bytes);
    if (e->shut) shutdown(peer, SHUT_WR);
    else close(peer);
}

static void end_round(mio_loop_t *loop, const ended *e) {
    half one = half_open(loop, e->of);
    inbox in = {};
    if (e->when == 0) end_bytes(e, one.peer);
    if (e->how == 0) {
        ck_assert_int_gt(mio_stream_read_start(one.stream, 0, read_into, &in), 0);
    } else {
        mio_buf_t room = {};
        assert_is(mio_buf_alloc(loop, 1000, &room), 0);
        in.stop_at = 1;
        ck_assert_int_gt(mio_stream_read(one.stream, &room, end_read, &in), 0);
    }
    if (e->when != 0) {
        turns(loop, e->when - 1);
        end_bytes(e, one.peer);
    }
    const int64_t end_ns = clock_ns() + patience(EVER);
    while (in.ends == 0 && clock_ns() < end_ns) assert_ok(mio_loop_run_once(loop, 5 * MIO_MILLISECOND));
    ck_assert_msg(in.ends == 1, "family %d, reading %d, moment %d, %s, %zu bytes: %llu came, and no end", e->of, e->how,
                  e->when, e->shut ? "shut down" : "closed", e->n, static_cast<unsigned long long>(in.received));
    assert_is(in.end, MIO_EOF);
    assert_is(in.received, e->n);
    ck_assert(!in.wrong);
    mio_handle_abandon(one.stream);
    if (e->shut) close(one.peer);
}

TEST(an_end_right_behind_the_bytes_is_seen) {
    KERNEL_ONLY("its peers are descriptors of the kernel");
    mio_loop_t *loop = loop_open();
    for (int of = 0; of < FAMILIES; of++)
        for (int how = 0; how < 2; how++)
            for (int when = 0; when < 4; when++)
                for (size_t n : {static_cast<size_t>(5), static_cast<size_t>(20000), static_cast<size_t>(150000)})
                    for (int shut = 0; shut < 2; shut++) {
                        const ended one = {of, how, when, shut == 1, n};
                        end_round(loop, &one);
                    }
}
