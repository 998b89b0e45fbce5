// The harness of the API suite: each test is written once and runs on the backend that the command line names.
//
// It decides how a loop of that backend is made and driven, and what must be true when a test is over: every loop
// destroyed clean, every allocation released, no descriptor and no buffer left. It must know nothing of the library but
// <mio.h>. A test is a function without arguments; it runs in a process of its own (unless --no-fork), in a simulated
// world of its own on "sim", and is not told which; KERNEL_ONLY and SIM_ONLY say that it cannot run on the other one,
// which the run reports as a counted skip.
//
// Callbacks are lambdas that capture nothing; what they share with their test lies in a struct behind arg.
#pragma once

#include <check.h>
#include <mio.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/leave.h"

namespace api {

// --- registration ---------------------------------------------------------------------------------------------------

struct test_case {
    const char *name;
    const char *file;
    int line;
    void (*body)();
    TTest entry; // libcheck's
    int number;
    test_case *next;
};
int test_register(test_case *test);
void test_run(int number);

int suite_run(int argc, char **argv); // the program
// For another runner of the same tests: those that match filter, in order; < 0: no such backend.
int suite_open(const char *backend, const char *filter, test_case *const **list);
bool suite_skipped(int number); // that test said so

// TEST(what_it_shows) { ... }
#define TEST(title)                                                                                          \
    static void title();                                                                                     \
    extern ::api::test_case title##_case;                                                                    \
    static void title##_entry(int) { ::api::test_run(title##_case.number); }                                 \
    ::api::test_case title##_case = {#title, __FILE__, __LINE__, title,                                      \
                                     {#title, title##_entry, __FILE__, __LINE__}, 0, nullptr};               \
    [[maybe_unused]] static const int title##_registered = ::api::test_register(&title##_case);              \
    static void title()

void skip(const char *reason);
#define SKIP(reason)           \
    do {                       \
        ::api::skip(reason);   \
        return;                \
    } while (0)
#define KERNEL_ONLY(reason) \
    if (::api::on_sim()) SKIP(reason)
#define SIM_ONLY(reason) \
    if (!::api::on_sim()) SKIP(reason)

// --- the backend under test -----------------------------------------------------------------------------------------

bool on_sim();
const char *backend_name(); // as MIO_BACKEND spells it
enum mio_backend kernel_backend(); // its number; of the ordinary one where that is sim
bool on_kqueue();      // the model of tests/support/kqueue
bool on_sqpoll();      // the ring with a kernel thread that submits
bool seeded_faults();  // this run of the world has short reads and writes
mio_sim_t *world();    // of this test, made at first use; nullptr unless on_sim()
uint64_t seed();
int scaled(int count); // of a test of many rounds: all of them with the first seed, a hundredth with later ones

// --- loops ----------------------------------------------------------------------------------------------------------

// An allocator that counts, checks sizes, and fails when told to.
struct counting {
    int64_t live, live_bytes, calls;
    int64_t fail_at;   // > 0: the fail_at-th call from now on fails; counts down
    bool fail_on;      // and all after it
    int64_t failed;
    int64_t wrong_sizes;
};
mio_allocator_t counting_allocator(counting *count);

mio_loop_options_t loop_options();                            // of the backend under test, not counted
mio_loop_t *loop_open();                                      // counted; destroyed and checked when the test ends
mio_loop_t *loop_open_with(const mio_loop_options_t *options); // its allocator is replaced by a counting one
void loop_close(mio_loop_t *loop);                            // now instead of then: destroy is 0, nothing is left
void loop_forget(mio_loop_t *loop);                           // the test destroyed it itself; its memory is checked
int64_t drain_ns();                                           // for a destroy that is to leave nothing: a worker may take its time
counting *loop_counting(mio_loop_t *loop);

int run(mio_loop_t *loop);        // until nothing is alive (0) or it was stopped (MIO_STOPPED)
void run_to_end(mio_loop_t *loop); // until nothing is alive
void run_to_stop(mio_loop_t *loop);
void run_for(mio_loop_t *loop, int64_t duration_ns); // at least, and until what is under way rests
mio_loop_metrics_t metrics(mio_loop_t *loop);

// --- peers ----------------------------------------------------------------------------------------------------------

struct pair {
    mio_stream_t *client, *server;
};
pair connect_pair(mio_loop_t *loop);
pair connect_narrow_pair(mio_loop_t *loop); // little room in the kernel: a peer that does not read is felt soon
constexpr size_t NARROW_ROOM = 3 << 20;     // more than a narrow pair swallows unread

// A listener on a free port of 127.0.0.1.
mio_listener_t *listen_on(mio_loop_t *loop, mio_listener_cb cb, void *arg, mio_addr_t *at);

// The echo server of the README; closes its listener with the test.
struct echo {
    mio_listener_t *listener;
    mio_addr_t at;
    int accepted, closed;
};
void echo_open(mio_loop_t *loop, echo *server);

int raw_connect(const mio_addr_t *at); // a blocking socket of the kernel
int raw_listen(int backlog, mio_addr_t *at);
int raw_reset(int fd);                 // closes with RST

// A port of 127.0.0.1 at which every connect is refused. It is held: somebody else's listener may get any port that is not.
struct refusing {
    mio_addr_t at;
    int fd;

    explicit refusing(mio_loop_t *loop); // which runs on sim only
    ~refusing();
    refusing(const refusing &) = delete;
    refusing &operator=(const refusing &) = delete;
};

int child_status(pid_t child); // how a fork's child ended: its exit status, or 1000 + the signal

// --- bytes ----------------------------------------------------------------------------------------------------------

void pattern_fill(void *to, size_t n, uint64_t offset);
bool pattern_is(const void *at, size_t n, uint64_t offset);
mio_buf_t pattern_buf(mio_loop_t *loop, size_t n, uint64_t offset); // from mio_buf_alloc
mio_buf_t text_buf(mio_loop_t *loop, const char *text);
const char *text_of(const mio_buf_t *buf);                          // a copy with a NUL, of the last few calls

// The test's function has returned and its loops are being destroyed: what lies behind arg may be gone. The callbacks
// below do nothing from then on.
bool is_over();

// What a continuous read got; read_into is its callback.
struct inbox {
    uint64_t received;
    char text[256];      // the first bytes of it
    bool wrong;          // not the pattern
    bool is_text;        // do not compare with the pattern
    int calls, ends;
    int64_t end;         // the last call's n
    bool stop_at_end;    // stops the loop then
    uint64_t stop_at;    // > 0: stops the loop when so much came
    bool close_at_end;
};
void read_into(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg); // arg: inbox *

// What a write, a one-shot read, a shutdown, a connect or a close told.
struct outcome {
    int calls;
    int64_t status;
    int64_t sent;
    size_t len;        // of the buffer that came back
    char text[256];
    bool stop;         // stops the loop when called
};
void write_told(mio_stream_t *stream, int status, int64_t sent, mio_buf_t *bufs, unsigned n, void *arg);
void read_told(mio_stream_t *stream, int64_t n, mio_buf_t *buf, void *arg);
void stream_told(mio_stream_t *stream, int status, void *arg);
void close_told(mio_handle_t *handle, void *arg);
void timer_stops(mio_timer_t *timer, void *arg); // stops the loop

// Order of events as text: "abc".
struct diary {
    char text[512];
};
void diary_add(diary *d, const char *what);

int64_t cpu_ns();
int64_t clock_ns();
void busy_ns(int64_t duration_ns);
void sleep_ns(int64_t duration_ns);
int64_t patience(int64_t duration_ns); // longer where CK_TIMEOUT_MULTIPLIER says that the machine is slow
size_t open_descriptors();
bool sanitized();   // the allocator keeps freed memory back: its size says nothing
bool debug_build(); // debug builds panic on some mistakes
bool guard_build(); // freed buffers are held for a while, up to HELD_MOST
constexpr uint64_t HELD_MOST = 4 << 20;

}

#define assert_ok(expression) ck_assert_int_ge((expression), 0)
#define assert_is(a, b) ck_assert_int_eq((a), (b))
