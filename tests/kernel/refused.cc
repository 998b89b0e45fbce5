// Refused while a loop runs: from some moment on io_uring_enter(2) answers with an error, and it will not get better.
// The run must say so, soon and without spinning; destroy must still give everything back: every callback comes, no
// byte is counted as sent that was not, no descriptor and no memory is left, and nothing is written into memory any
// more.
#include "kernel.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

namespace kernel {

constexpr int READERS = 8, BORROWERS = 4;
constexpr size_t ROOM = 512, UNSENT = 4 << 20;
constexpr int64_t REFUSED_AFTER_NS = 20 * MIO_MILLISECOND;

struct borrower {
    char before[64], room[ROOM], behind[64];
};

struct scene {
    mio_loop_t *loop;
    mio_addr_t at;                // the echo server's
    int peers[READERS + BORROWERS + 2];
    int peer_count;
    mio_stream_t *readers[READERS], *borrowers[BORROWERS], *writer, *idle;
    borrower guarded[BORROWERS];
    int backlog[3];               // a listener that accepts nothing, and what fills it
    int reads_ended, borrows_ended, writes_ended, connects_ended;
    int64_t sent;
    int error;                    // the refusal
    int64_t refused_ns, refused_cpu_ns;
    bool busy;                    // clients keep the echo server at work
    bool all_calls;               // setting up and registering are refused as well
};
static scene now;

// --- what is in flight ----------------------------------------------------------------------------------------------

static int raw_listen(int backlog, mio_addr_t *at) {
    REQUIRE_IS(mio_addr_parse("127.0.0.1", 0, at), 0);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(fd >= 0);
    REQUIRE_IS(bind(fd, &at->u.any, at->len), 0);
    REQUIRE_IS(listen(fd, backlog), 0);
    REQUIRE_IS(getsockname(fd, &at->u.any, &at->len), 0);
    return fd;
}

static mio_stream_t *stream_with_peer() {
    mio_addr_t at;
    const int listener = raw_listen(1, &at);
    now.peers[now.peer_count] = raw_connect(&at);
    const int fd = accept(listener, nullptr, nullptr);
    REQUIRE(fd >= 0);
    close(listener);
    mio_stream_t *stream;
    REQUIRE_IS(mio_stream_adopt(now.loop, fd, nullptr, 0, &stream), 0);
    now.peer_count++;
    return stream;
}

static void on_read(mio_stream_t *, int64_t n, mio_buf_t *, void *) {
    if (n < 0) now.reads_ended++;
}
static void on_borrowed(mio_stream_t *, int64_t n, mio_buf_t *buf, void *) {
    REQUIRE(buf->base != nullptr);
    REQUIRE(n < 0 || static_cast<size_t>(n) == buf->len);
    now.borrows_ended++;
}
static void on_written(mio_stream_t *, int status, int64_t sent, mio_buf_t *bufs, unsigned, void *) {
    REQUIRE(status < 0);
    REQUIRE_IS(bufs[0].len, UNSENT);
    now.writes_ended++;
    now.sent = sent;
}
static void on_connected(mio_stream_t *, int status, void *) {
    REQUIRE(status < 0);
    now.connects_ended++;
}

static void on_time(mio_timer_t *, void *) {
    if (now.all_calls) filter_ring(answer_error(now.error));
    else filter_refuse(CALL_ENTER, now.error);
    now.refused_ns = clock_ns();
    now.refused_cpu_ns = cpu_ns();
}

// The address that nobody accepts at has a full backlog: a connect there does not come back.
static void connect_nowhere() {
    mio_addr_t at;
    now.backlog[0] = raw_listen(0, &at);
    for (int i = 1; i < 3; i++) {
        now.backlog[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)connect(now.backlog[i], &at.u.any, at.len);
    }
    mio_stream_t *stream;
    REQUIRE(mio_tcp_connect(now.loop, &at, nullptr, on_connected, nullptr, &stream) > 0);
}

static void scene_open(const scene *wanted, mio_loop_options_t *options) {
    now = *wanted;
    REQUIRE_IS(loop_create_with(&now.loop, options), 0);
    REQUIRE(strcmp(mio_loop_backend(now.loop), "io_uring") == 0);
    echo_listen(now.loop, &now.at);
    for (mio_stream_t *&stream : now.readers) {
        stream = stream_with_peer();
        REQUIRE(mio_stream_read_start(stream, 0, on_read, nullptr) > 0);
    }
    for (int i = 0; i < BORROWERS; i++) {
        mio_buf_t space = mio_buf_space(now.guarded[i].room, ROOM);
        now.borrowers[i] = stream_with_peer();
        REQUIRE((i % 2 == 0 ? mio_stream_read(now.borrowers[i], &space, on_borrowed, nullptr)
                            : mio_stream_read_exact(now.borrowers[i], &space, ROOM, on_borrowed, nullptr)) > 0);
    }
    now.writer = stream_with_peer();
    mio_buf_t bytes = {};
    REQUIRE_IS(mio_buf_alloc(now.loop, UNSENT, &bytes), 0);
    pattern_fill(bytes.base, UNSENT, 0);
    bytes.len = UNSENT;
    int room = 8192;
    REQUIRE_IS(setsockopt(mio_stream_fd(now.writer), SOL_SOCKET, SO_SNDBUF, &room, sizeof room), 0);
    REQUIRE(mio_stream_write(now.writer, &bytes, 1, on_written, nullptr) > 0);
    now.idle = stream_with_peer();
    connect_nowhere();
    mio_timer_t *timer;
    REQUIRE_IS(mio_timer_create(now.loop, &timer), 0);
    REQUIRE_IS(mio_timer_start(timer, REFUSED_AFTER_NS, 0, on_time, nullptr), 0);
}

// --- clients that never rest ----------------------------------------------------------------------------------------

// What one got back is the beginning of what it sent, however it ended.
constexpr int BLASTERS = 20;

static bool blast_round(const int *fds, uint64_t *received, uint64_t round) {
    char bytes[700];
    for (int i = 0; i < BLASTERS; i++) {
        pattern_fill(bytes, sizeof bytes, round * sizeof bytes);
        if (send(fds[i], bytes, sizeof bytes, MSG_NOSIGNAL) != static_cast<ssize_t>(sizeof bytes)) return false;
    }
    for (int i = 0; i < BLASTERS; i++) {
        while (received[i] < (round + 1) * sizeof bytes) {
            const ssize_t n = recv(fds[i], bytes, sizeof bytes, 0);
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) {
                if (n < 0 && errno != ECONNRESET) failed(__FILE__, __LINE__, "recv: %s", strerror(errno));
                return false;
            }
            REQUIRE(pattern_is(bytes, static_cast<size_t>(n), received[i]));
            received[i] += static_cast<uint64_t>(n);
        }
    }
    return true;
}

// A thread, not a process: a process that has copies of the ring's descriptor keeps the ring. Where it comes to run late
// the server may be gone.
static void *blast(void *) {
    int fds[BLASTERS], n = 0;
    uint64_t received[BLASTERS] = {}, round = 0;
    while (n != BLASTERS && (fds[n] = raw_connect_if(&now.at)) >= 0) n++;
    if (n == BLASTERS)
        while (blast_round(fds, received, round)) round++;
    while (n != 0) close(fds[--n]);
    return nullptr;
}

// --- what must hold -------------------------------------------------------------------------------------------------

static void require_error_of_run() {
    REQUIRE_IS(mio_loop_run(now.loop), -now.error);
    REQUIRE(now.refused_ns != 0);
    REQUIRE(clock_ns() - now.refused_ns < MIO_SECOND);
    REQUIRE(cpu_ns() - now.refused_cpu_ns < MIO_SECOND / 4);
    REQUIRE_IS(mio_loop_run(now.loop), -now.error); // and so it stays
    int result = MIO_ALIVE; // a turn that has something else to do may do without the kernel, but not for ever
    for (int i = 0; i < 5 && result == MIO_ALIVE; i++) result = mio_loop_run_once(now.loop, 0);
    REQUIRE_IS(result, -now.error);
}

static void guards_fill(char with) { memset(now.guarded, with, sizeof now.guarded); }
static void require_guards(char with) {
    const char *bytes = reinterpret_cast<const char *>(now.guarded);
    for (size_t i = 0; i < sizeof now.guarded; i++) REQUIRE(bytes[i] == with);
}

// Everything that the peer still gets, and then the end.
static uint64_t received_by_peer(int fd) {
    static char bytes[65536];
    uint64_t received = 0;
    for (;;) {
        const ssize_t n = recv(fd, bytes, sizeof bytes, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            if (n < 0 && errno != ECONNRESET) failed(__FILE__, __LINE__, "recv: %s", strerror(errno));
            return received;
        }
        REQUIRE(pattern_is(bytes, static_cast<size_t>(n), received));
        received += static_cast<uint64_t>(n);
    }
}

static void peers_send(const char *text) {
    for (int i = 0; i < now.peer_count; i++) (void)!send(now.peers[i], text, strlen(text), MSG_NOSIGNAL);
}

static void require_all_back(int abandoned_readers) {
    REQUIRE_IS(now.reads_ended, READERS - abandoned_readers);
    REQUIRE_IS(now.borrows_ended, BORROWERS);
    REQUIRE_IS(now.writes_ended, 1);
    REQUIRE_IS(now.connects_ended, 1);
    REQUIRE_IS(received_by_peer(now.peers[READERS + BORROWERS]), now.sent);
    guards_fill('g');
    peers_send("to nobody");
    require_guards('g');
}

enum class ending { destroy, close_then_destroy, abandon_then_destroy };

static void peers_close() {
    for (int i = 0; i < now.peer_count; i++) close(now.peers[i]);
    for (int fd : now.backlog) close(fd);
}

static void play(const scene *wanted, mio_loop_options_t *options, ending how) {
    const size_t before = open_descriptors();
    scene_open(wanted, options);
    pthread_t blaster;
    if (now.busy) REQUIRE_IS(pthread_create(&blaster, nullptr, blast, nullptr), 0);
    require_error_of_run();
    peers_send("late");
    int abandoned = 0;
    if (how == ending::close_then_destroy) {
        REQUIRE_IS(mio_handle_close(now.writer, nullptr, nullptr), 0);
        REQUIRE_IS(mio_handle_close(now.borrowers[0], nullptr, nullptr), 0);
        for (int i = 0; i < READERS / 2; i++) REQUIRE_IS(mio_handle_close(now.readers[i], nullptr, nullptr), 0);
        REQUIRE_IS(mio_loop_run(now.loop), -now.error);
    } else if (how == ending::abandon_then_destroy) {
        for (; abandoned < READERS / 2; abandoned++) mio_handle_abandon(now.readers[abandoned]);
        mio_handle_abandon(now.idle);
    }
    const int64_t begun_ns = clock_ns();
    loop_destroy(now.loop);
    REQUIRE(clock_ns() - begun_ns < 3 * MIO_SECOND);
    require_all_back(abandoned);
    peers_close();
    if (now.busy) REQUIRE_IS(pthread_join(blaster, nullptr), 0);
    REQUIRE_IS(open_descriptors(), before);
}

// --- the cases ------------------------------------------------------------------------------------------------------

static mio_loop_options_t ring_options() {
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.backend = MIO_BACKEND_IO_URING;
    return options;
}

struct variant {
    scene with;
    ending how;
    uint32_t sqpoll_ms, without;
};

static void play_variant(void *arg) {
    const variant *of = static_cast<const variant *>(arg);
    mio_loop_options_t options = ring_options();
    options.uring_sqpoll_ms = of->sqpoll_ms;
    options.uring_without = of->without;
    play(&of->with, &options, of->how);
}

static void play_each(variant of) {
    need_ring();
    static const int refusals[] = {EPERM, ENOSYS, EACCES, ENOMEM};
    for (int error : refusals) {
        of.with.error = error;
        if (!in_child(play_variant, &of)) failed(__FILE__, __LINE__, "refused with %s", strerror(error));
    }
}

CASE(a_refused_enter_ends_an_idle_loop_with_an_error_and_all_comes_back) { play_each({}); }

CASE(a_refused_enter_ends_a_busy_loop_with_an_error_and_all_comes_back) {
    variant of = {};
    of.with.busy = true;
    play_each(of);
}

CASE(all_calls_refused_end_a_busy_loop_with_an_error_and_all_comes_back) {
    variant of = {};
    of.with.busy = of.with.all_calls = true;
    play_each(of);
}

CASE(what_is_closed_after_a_refusal_comes_back) {
    variant of = {};
    of.how = ending::close_then_destroy;
    play_each(of);
}

CASE(what_is_abandoned_after_a_refusal_is_gone) {
    variant of = {};
    of.how = ending::abandon_then_destroy;
    play_each(of);
}

static void *run_refused(void *arg) {
    mio_loop_options_t options = ring_options();
    scene_open(static_cast<const scene *>(arg), &options);
    require_error_of_run();
    return nullptr;
}

CASE(a_refused_loop_is_destroyed_by_another_thread_when_its_own_has_ended) {
    need_ring();
    scene wanted = {};
    wanted.error = EPERM;
    pthread_t thread;
    REQUIRE_IS(pthread_create(&thread, nullptr, run_refused, &wanted), 0);
    REQUIRE_IS(pthread_join(thread, nullptr), 0);
    peers_send("late");
    loop_destroy(now.loop); // this thread may enter, but the ring is not its own
    require_all_back(0);
    peers_close();
}

CASE(a_refused_enter_of_a_submitting_thread_is_an_error_too) {
    variant of = {};
    of.with.busy = true;
    of.sqpoll_ms = 10;
    play_each(of);
}

CASE(a_refused_enter_is_the_same_without_any_feature) {
    variant of = {};
    of.with.busy = true;
    of.without = MIO_URING_ALL;
    play_each(of);
}

// Between create and the first run: nothing is in the kernel yet.
static void refused_before_the_run(void *arg) {
    const size_t before = open_descriptors();
    mio_loop_options_t options = ring_options();
    scene wanted = {};
    wanted.error = *static_cast<const int *>(arg);
    scene_open(&wanted, &options);
    on_time(nullptr, nullptr);
    require_error_of_run();
    loop_destroy(now.loop);
    require_all_back(0);
    peers_close();
    REQUIRE_IS(open_descriptors(), before);
}

CASE(a_refusal_between_create_and_run_is_an_error_of_the_run) {
    need_ring();
    static const int refusals[] = {EPERM, ENOSYS, EACCES, ENOMEM};
    for (int error : refusals) REQUIRE(in_child(refused_before_the_run, const_cast<int *>(&error)));
}

}
