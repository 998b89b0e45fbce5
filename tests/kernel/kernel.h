// Cases about kernels that refuse: what a sandbox, a limit or a bad day makes of io_uring, and what a program sees.
//
// Each case runs in a process of its own, because what it does to itself (a filter of system calls, a limit, another
// user) cannot be undone, and because the library asks a kernel once per process what it can do. What must be true when
// a case is over: every loop destroyed clean, every allocation released, no descriptor left.
//
//   kernel.h   what all share            sandbox.cc     refused from the start: another backend, and a reason
//   main.cc    the run, the command line refused.cc     refused while a loop runs: an error, and everything comes back
//   filter.cc  filters of system calls   limits.cc      few descriptors, no locked memory, an ordinary user
//   opcode.cc  one operation refused     untouched.cc   the ring is not touched when it was not asked for
//   echo.cc    an echo and its clients   trouble.cc     enters that fail now and then
//   expect.cc  what AUTO is to take      masked.cc      each operation refused in turn: done without it
//   clock.cc   the calendar is set
//
// Nothing here knows more of the library than <mio.h>.
#pragma once

#include <mio.h>

#include <linux/seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

namespace kernel {

// --- cases ----------------------------------------------------------------------------------------------------------

struct test_case {
    const char *name;
    void (*body)();
    test_case *next;
};
int case_register(test_case *one);

// CASE(what_it_shows) { ... }
#define CASE(title)                                                                                                 \
    static void title();                                                                                            \
    static ::kernel::test_case title##_case = {#title, title, nullptr};                                             \
    [[maybe_unused]] static const int title##_registered = ::kernel::case_register(&title##_case);                  \
    static void title()

// Both end the case's process.
[[noreturn]] void failed(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));
[[noreturn]] void skip(const char *reason);

#define REQUIRE(condition)                                                                                          \
    do {                                                                                                            \
        if (!(condition)) ::kernel::failed(__FILE__, __LINE__, "%s", #condition);                                   \
    } while (0)
#define REQUIRE_IS(a, b)                                                                                            \
    do {                                                                                                            \
        const long long is_ = static_cast<long long>(a), wanted_ = static_cast<long long>(b);                       \
        if (is_ != wanted_) ::kernel::failed(__FILE__, __LINE__, "%s is %lld, not %s (%lld)", #a, is_, #b, wanted_); \
    } while (0)

void need_ring(); // skips where io_uring does not work even without our doing

// What happens in a child of the case; false: its REQUIRE failed. For what must be asked of a fresh process.
bool in_child(void (*body)(void *arg), void *arg);

int64_t clock_ns();
int64_t cpu_ns();
size_t open_descriptors();
bool sanitized();

// --- filters --------------------------------------------------------------------------------------------------------

constexpr long CALL_SETUP = 425, CALL_ENTER = 426, CALL_REGISTER = 427; // the same on every architecture

constexpr uint32_t answer_error(int error) { return SECCOMP_RET_ERRNO | static_cast<uint32_t>(error); }
constexpr uint32_t ANSWER_SIGSYS = SECCOMP_RET_TRAP;

struct rule {
    long call;
    int argument;    // which one must have that value; -1: whatever they are
    uint32_t value;
    uint32_t answer;
};

// This thread from now on, and what it starts, for good. Skips where there are no filters.
void filter_install(const rule *rules, unsigned n);
void filter_refuse(long call, int error);
void filter_ring(uint32_t answer); // all three calls

// A call that no filter of ours keeps back; false: not on this architecture.
bool gate_exists();
long gate(long call, long a, long b, long c, long d, long e, long f);

// Each of these calls is answered by that function, in a signal's handler: the result, or a negated errno. Not for what
// is executed.
using trap_answer = long (*)(long call, const long *arguments);
void trap_install(const long *calls, unsigned n, trap_answer answer);

// --- operations -----------------------------------------------------------------------------------------------------

// Every ring that is made from now on answers that operation with EACCES. hidden: it is not among those that the ring
// says it knows, either.
void opcode_refuse(int opcode, bool hidden);
constexpr int OPCODES_MAX = 256;
int opcodes_known(uint8_t known[OPCODES_MAX]); // by this kernel: how many numbers it has; 0: it does not tell

// --- loops and echoes -----------------------------------------------------------------------------------------------

// With an allocator that counts.
int loop_create(mio_loop_t **out, enum mio_backend backend);
int loop_create_with(mio_loop_t **out, mio_loop_options_t *options);
void loop_destroy(mio_loop_t *loop); // 0, and its memory is back
bool log_said(const char *part);     // something of the kind, to loops made here

void on_echo_accept(mio_listener_t *listener, int status, mio_stream_t *conn, void *arg); // the README's
mio_listener_t *echo_listen(mio_loop_t *loop, mio_addr_t *at);

// So many clients on the same loop send a pattern and compare what comes back; everything is closed in the end.
struct echo_size {
    unsigned clients, rounds;
    size_t bytes;
};
constexpr echo_size ECHO_SMALL = {8, 20, 100};
void echo_run(mio_loop_t *loop, echo_size size);

// The same, but the loop's run may fail now and then: told by an answer, it is run again.
void echo_run_until(mio_loop_t *loop, echo_size size, int passing_error);

void expect_auto(const char *wanted, const char *reason_part); // see expect.cc

int raw_connect(const mio_addr_t *at); // blocking, gives up after some seconds
int raw_connect_if(const mio_addr_t *at); // -1: nobody listens there, or not any more
void raw_echo(int fd, unsigned round, size_t n); // one exchange, compared

void pattern_fill(char *to, size_t n, uint64_t offset);
bool pattern_is(const char *at, size_t n, uint64_t offset);

}
