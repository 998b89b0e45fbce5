// Random programs on a loop whose kernel does anything that a kernel may do: takes part of what it is given, says
// EINTR, has a small queue, ends what nobody asked it to end, fills its sockets, resets them. Whatever happens: the
// bytes of a stream come and go in order, none lost and none twice, each request calls back once, and at the end
// nothing is left.
//
// MIO_TEST_SEED=n runs that seed alone.
#include "support/ring_model_loop.h"

#if MIO_HAVE_URING

#include "support/random.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include <deque>

using namespace test;

// Also on a thread that is not cmocka's.
static uint64_t seed;
#define must(what)                                                                                                     \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            fprintf(stderr, "uring_random: seed %llu: line %d: %s\n", static_cast<unsigned long long>(seed), __LINE__, \
                    #what);                                                                                            \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

static random_source source;
static unsigned any(unsigned below) { return static_cast<unsigned>(random_below(&source, below)); }
static bool one_in(unsigned n) { return any(n) == 0; }

// --- streams --------------------------------------------------------------------------------------------------------

struct written {
    struct walker *owner;
    std::string bytes;
    mio_req_t id;
    bool told;
};

struct walker {
    mio_stream_t *stream; // nullptr: closed
    int fd;
    bool reading, paused, stopping, closing, abandoned, ended; // ended: its receives have nothing more to come
    std::string arrived, got, told_sent;
    std::deque<written *> writes;
    unsigned closes;
};

static std::deque<walker> walkers; // of all times

static std::string word(bool large) {
    const size_t n = large ? MIO_ZEROCOPY_MIN + any(40000) : one_in(8) ? 1 + any(20000) : 1 + any(300);
    std::string bytes(n, 0);
    const unsigned first = any(256);
    for (size_t i = 0; i < n; i++) bytes[i] = static_cast<char>(first + i * 7 + i / 256);
    return bytes;
}

static void walker_written(mio_stream_t *, int status, int64_t sent, mio_buf_t *, unsigned, void *arg) {
    auto *w = static_cast<written *>(arg);
    must(!w->told && !w->owner->abandoned);
    must(sent >= 0 && static_cast<size_t>(sent) <= w->bytes.size());
    must(status <= 0 && (status == 0) == (static_cast<size_t>(sent) == w->bytes.size()));
    must(w->owner->writes.front() == w); // in their order
    w->owner->writes.pop_front();
    w->told = true;
    w->owner->told_sent += w->bytes.substr(0, static_cast<size_t>(sent));
    delete w;
}

static void walker_write(walker *w) {
    const unsigned flags = one_in(3) ? MIO_WRITE_ZEROCOPY : 0;
    auto *one = new written{w, word(flags != 0 && one_in(3)), 0, false};
    mio_buf_t pieces[3];
    unsigned n = 1;
    if (one->bytes.size() > 10 && one_in(3)) n = 3;
    const size_t part = one->bytes.size() / n;
    for (unsigned i = 0; i < n; i++)
        pieces[i] = bytes_of(one->bytes.substr(i * part, i + 1 == n ? std::string::npos : part));
    one->id = mio_stream_write_flags(w->stream, pieces, n, flags, walker_written, one);
    if (one->id > 0) {
        w->writes.push_back(one);
        return;
    }
    must(one->id == MIO_EPIPE); // broken before
    for (unsigned i = 0; i < n; i++) mio_buf_release(&pieces[i]);
    delete one;
}

static void walker_got(mio_stream_t *s, int64_t n, mio_buf_t *buf, void *arg) {
    auto *w = static_cast<walker *>(arg);
    must(!w->abandoned && w->reading);
    if (n > 0) {
        must(!w->paused && !w->stopping);
        w->got.append(buf->base, static_cast<size_t>(n));
        must(w->got.size() <= w->arrived.size() && w->arrived.compare(0, w->got.size(), w->got) == 0);
        if (one_in(20)) {
            w->paused = true;
            must(mio_stream_read_pause(s) == 0);
        }
        return;
    }
    must(n < 0);
    w->reading = w->paused = w->stopping = false;
}

static void walker_closed(mio_handle_t *, void *arg) {
    auto *w = static_cast<walker *>(arg);
    must(w->closing && !w->reading && w->writes.empty());
    w->closes++;
}

static void walker_read(walker *w) {
    if (mio_stream_read_start(w->stream, one_in(2) ? MIO_READ_NO_AUTOPAUSE : 0, walker_got, w) > 0) w->reading = true;
}

static void walker_open(mio_stream_t *accepted) {
    walkers.emplace_back();
    walker *w = &walkers.back();
    if (accepted != nullptr) {
        w->stream = accepted;
        w->fd = mio_stream_fd(accepted);
    } else {
        const int domain = one_in(3) ? AF_UNIX : AF_INET;
        w->fd = socket_make(0, domain, domain == AF_INET ? IPPROTO_TCP : 0);
        must(mio_stream_adopt(the_loop, w->fd, nullptr, 0, &w->stream) == 0);
    }
    must(mio_handle_set_data(w->stream, w) == 0);
    if (!one_in(4)) walker_read(w);
}

static void walker_close(walker *w, bool abandon) {
    w->closing = true;
    if (abandon) {
        w->abandoned = true;
        mio_handle_abandon(w->stream);
        for (written *one : w->writes) delete one;
        w->writes.clear();
        w->reading = false;
    } else {
        must(mio_handle_close(w->stream, walker_closed, w) == 0);
    }
    w->stream = nullptr;
}

// --- listeners, connects --------------------------------------------------------------------------------------------

static mio_listener_t *listener;
static int listener_fd;
static unsigned listener_ends;

static void on_accepted(mio_listener_t *, int status, mio_stream_t *s, void *) {
    if (status == 0) walker_open(s);
    if (status == MIO_ECANCELED) listener_ends++;
}

struct attempt {
    mio_stream_t *stream;
    int fd;
    mio_req_t id;
    bool told;
};
static std::deque<attempt> attempts;

static void on_connected(mio_stream_t *s, int status, void *arg) {
    auto *one = static_cast<attempt *>(arg);
    must(!one->told && status <= 0);
    one->told = true;
    mio_handle_close(s, nullptr, nullptr);
}

static void connect_start() {
    mio_addr_t addr;
    must(mio_addr_parse("127.0.0.1", 7, &addr) == 0);
    attempts.push_back({nullptr, -1, 0, false});
    attempt *one = &attempts.back();
    one->id = mio_tcp_connect(the_loop, &addr, nullptr, on_connected, one, &one->stream);
    must(one->id > 0);
    one->fd = mio_stream_fd(one->stream);
}

// --- what may happen ------------------------------------------------------------------------------------------------

static walker *any_open() {
    walker *found = nullptr;
    unsigned seen = 0;
    for (walker &w : walkers)
        if (w.stream != nullptr && one_in(++seen)) found = &w;
    return found;
}

static void program_does_something() {
    walker *w = any_open();
    const unsigned what = any(100);
    if (w == nullptr || (what < 8 && walkers.size() < 200)) {
        if (walkers.size() < 200) walker_open(nullptr);
    } else if (what < 50) {
        walker_write(w);
    } else if (what < 58) {
        if (!w->writes.empty())
            (void)mio_req_cancel(the_loop, w->writes[any(static_cast<unsigned>(w->writes.size()))]->id);
    } else if (what < 66) {
        if (!w->reading) walker_read(w);
        else if (!w->stopping && mio_stream_read_stop(w->stream) == 0) w->stopping = true;
    } else if (what < 76) {
        if (w->reading && !w->stopping) {
            w->paused = !w->paused;
            must((w->paused ? mio_stream_read_pause(w->stream) : mio_stream_read_resume(w->stream)) == 0);
        }
    } else if (what < 80) {
        walker_close(w, one_in(2));
    } else if (what < 84) {
        if (attempts.size() < 50) connect_start();
    } else if (what < 88) {
        if (!attempts.empty()) {
            const attempt *one = &attempts[any(static_cast<unsigned>(attempts.size()))];
            if (!one->told) (void)mio_req_cancel(the_loop, one->id);
        }
    } else if (what < 92) {
        (void)(one_in(2) ? mio_listener_pause(listener) : mio_listener_resume(listener));
    }
}

// An entry of the loop's that waits, on a socket that lives.
static bool end_something(uint8_t opcode, int fd, int32_t res) {
    const int nth = waiting(opcode, fd);
    if (nth >= 0) ring_model_complete(ring, nth, res, 0);
    return nth >= 0;
}

static int32_t weather() {
    const int32_t results[] = {-ECANCELED, -EINTR, -EAGAIN};
    return results[any(3)];
}

static void kernel_does_something() {
    walker *w = any_open();
    const unsigned what = any(100);
    if (what < 45 && w != nullptr) {
        if (w->ended) return;
        const std::string bytes = word(false);
        w->arrived += bytes;
        ring_model_receive(w->fd, bytes.data(), bytes.size());
    } else if (what < 55 && w != nullptr) {
        ring_model_fire(w->fd, POLLOUT);
    } else if (what < 58 && w != nullptr) {
        ring_model_fire(w->fd, one_in(2) ? POLLIN : POLLRDHUP); // true or not
    } else if (what < 60 && w != nullptr) {
        if (w->ended) return;
        w->ended = true;
        ring_model_receive_end(w->fd, one_in(2) ? 0 : -ECONNRESET);
    } else if (what < 64 && w != nullptr) {
        end_something(one_in(2) ? IORING_OP_RECV : IORING_OP_POLL_ADD, w->fd, weather());
    } else if (what < 66 && w != nullptr) {
        end_something(IORING_OP_RECV, w->fd, -ENOBUFS);
    } else if (what < 70) {
        if (waiting(IORING_OP_ACCEPT, listener_fd) >= 0) ring_model_accept(listener_fd);
        else ring_model_fire(listener_fd, POLLIN);
    } else if (what < 72) {
        end_something(IORING_OP_ACCEPT, listener_fd, one_in(2) ? weather() : one_in(2) ? -EMFILE : -ECONNABORTED);
    } else if (what < 76 && !attempts.empty()) {
        const attempt *one = &attempts[any(static_cast<unsigned>(attempts.size()))];
        if (one->told) return;
        const int32_t results[] = {0, -ECONNREFUSED, -EINPROGRESS, weather()};
        if (!end_something(IORING_OP_CONNECT, one->fd, results[any(4)])) ring_model_fire(one->fd, POLLOUT);
    } else if (what < 82) {
        const int errors[] = {0, -EINTR, -EBUSY, -EAGAIN};
        ring_model_plan(ring, one_in(2) ? any(6) : RING_TAKES_ALL, errors[any(4)]);
    } else {
        const int32_t results[] = {RING_SUCCEEDS,
                                   RING_SUCCEEDS,
                                   RING_SUCCEEDS,
                                   -EAGAIN,
                                   static_cast<int32_t>(1 + any(500)),
                                   weather(),
                                   -EINPROGRESS,
                                   one_in(10) ? -EPIPE : RING_SUCCEEDS};
        const int32_t lent[] = {RING_SUCCEEDS, RING_SUCCEEDS, 70000, -EAGAIN, -ENOMEM, results[any(8)]};
        ring_model_answer(IORING_OP_SEND, results[any(8)]);
        ring_model_answer(IORING_OP_SENDMSG, results[any(8)]);
        ring_model_answer(IORING_OP_SEND_ZC, lent[any(6)]);
        ring_model_answer(IORING_OP_SENDMSG_ZC, lent[any(6)]);
    }
}

// Of any ring, also of one that was buried; the one after it hears of it by its poll.
static bool kernel_lets_go(bool of_all) {
    bool any_owed = false;
    for (unsigned i = 0; ring_model_ring(i) >= 0; i++) {
        for (int nth = ring_model_owing(ring_model_ring(i)); nth >= 0; nth = ring_model_owing(ring_model_ring(i))) {
            if (!of_all && one_in(3)) break;
            any_owed = true;
            if (one_in(6)) ring_model_notify_copied(ring_model_ring(i), nth);
            else ring_model_notify(ring_model_ring(i), nth);
        }
    }
    const auto *u = static_cast<const mio::uring_state *>(inside()->backend_state);
    if (u->grave >= 0) ring_model_fire(u->grave, POLLHUP);
    return any_owed;
}

static std::string sent_on(int fd) {
    size_t n;
    const char *bytes = ring_model_sent(fd, &n);
    return std::string(bytes, n);
}

static void run_turn() {
    const int64_t timeout_ns = one_in(4) ? 1000 * any(20000) : 0;
    int result = mio_loop_run_once(the_loop, timeout_ns);
    if (result == MIO_EBUSY && kernel_lets_go(true)) result = mio_loop_run_once(the_loop, timeout_ns); // two graves
    must(result == MIO_ALIVE);
    ring = ring_model_newest();
}

static unsigned steps;

static void *walk(void *) {
    run_turn(); // from now on the loop is this thread's
    for (unsigned i = 0; i < steps; i++) {
        for (unsigned n = any(4); n > 0; n--) program_does_something();
        for (unsigned n = any(5); n > 0; n--) kernel_does_something();
        if (one_in(4)) kernel_lets_go(false);
        if (!one_in(5)) run_turn();
        for (const walker &w : walkers) must(w.closes <= 1);
    }
    for (int i = 0; i < 100 && ring_model_planned(ring) != 0; i++) run_turn();
    return nullptr;
}

// The kernel is a good one again, and everybody reads: what has come, comes.
static void *settle(void *) {
    run_turn();
    for (uint8_t opcode : {IORING_OP_SEND, IORING_OP_SENDMSG, IORING_OP_SEND_ZC, IORING_OP_SENDMSG_ZC})
        ring_model_answer(opcode, RING_SUCCEEDS);
    for (int i = 0; i < 60; i++) {
        for (walker &w : walkers) {
            if (w.stream == nullptr) continue;
            ring_model_fire(w.fd, POLLOUT);
            if (w.paused && !w.stopping && mio_stream_read_resume(w.stream) == 0) w.paused = false;
            if (!w.reading) walker_read(&w);
        }
        kernel_lets_go(true);
        run_turn();
    }
    for (walker &w : walkers) {
        if (w.stream == nullptr) continue;
        must(w.writes.empty());
        must(w.got == w.arrived);
        must(sent_on(w.fd) == w.told_sent);
    }
    return nullptr;
}

// --- a life ---------------------------------------------------------------------------------------------------------

static void on_thread(void *(*run)(void *)) {
    pthread_t thread;
    must(pthread_create(&thread, nullptr, run, nullptr) == 0);
    must(pthread_join(thread, nullptr) == 0);
}

static void world_open() {
    ring_world w = {};
    const uint32_t features[] = {0,
                                 0,
                                 MIO_URING_RECEIVE,
                                 MIO_URING_INCREMENTAL,
                                 MIO_URING_SEND,
                                 MIO_URING_ACCEPT,
                                 MIO_URING_CONNECT,
                                 MIO_URING_CANCEL,
                                 MIO_URING_ZEROCOPY,
                                 mio::URING_RECEIVE_UNIX};
    w.without = features[any(10)] | features[any(10)];
    w.eager = one_in(3);
    w.completions = one_in(3) ? 256 : 64;
    w.buffer_block = one_in(2) ? 4096 : 0;
    ring_world_open(&w);
    const unsigned queues[] = {0, 0, 8, 16};
    ring_model_kernel()->cq_entries = queues[any(4)];
    if (one_in(4)) ring_model_kernel()->features &= ~static_cast<uint32_t>(IORING_FEAT_SINGLE_MMAP);
    if (one_in(6)) ring_model_kernel()->register_error[IORING_REGISTER_PBUF_RING] = -ENOMEM;
    ring_loop_make(&w);
    walkers.clear();
    attempts.clear();
    listener_ends = 0;
    must(mio_tcp_listen(the_loop, "127.0.0.1", 0, nullptr, on_accepted, nullptr, &listener) == 0);
    listener_fd = mio_listener_fd(listener);
}

static void live() {
    source = {seed};
    world_open();
    for (unsigned threads = 1 + any(3); threads > 0; threads--) {
        steps = 1 + any(200);
        on_thread(walk);
    }
    if (!one_in(4)) on_thread(settle);
    kernel_lets_go(true);
    must(mio_loop_destroy(the_loop, MIO_FOREVER) == 0);
    must(listener_ends == 1 && writes_out == 0);
    for (const attempt &one : attempts) must(one.told);
    for (const walker &w : walkers) {
        must(!w.reading && w.writes.empty() && w.closes == (w.closing && !w.abandoned ? 1 : 0));
        if (!w.abandoned) must(sent_on(w.fd) == w.told_sent);
        must(w.arrived.compare(0, w.got.size(), w.got) == 0);
    }
    must(ring_model_close() == 0);
}

static void test_random_programs_on_a_kernel_that_does_anything(void **) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    const seed_range range = seeds(1, 60);
#else
    const seed_range range = seeds(1, 200);
#endif
    for (uint64_t i = 0; i < range.count; i++) {
        seed = range.first + i;
        live();
    }
}

int main() {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_programs_on_a_kernel_that_does_anything)};
    alarm(250); // what would go on for ever ends
    return cmocka_run_group_tests_name("uring_random", tests, nullptr, nullptr);
}

#else

int main() { return test::ring_tests_skipped("uring_random"); }

#endif
