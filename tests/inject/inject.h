// The API suite under injected errors: each test once more for every allocation and every system call that may fail.
//
// One run is a process of its own: a test, and a plan that fails one call (or that one and all after it) of the table of
// system calls. A test asserts success, so it will often end by an assertion; that is no failure here. What counts:
//   - no panic, no crash, no report of a sanitizer, no call of the library that does not come back
//   - a request that was taken calls back exactly once for the last time, a close once, nothing after an abandon
//   - the loops of the test still fire a timer and run a post, and are destroyed clean; a fresh loop still echoes
//   - no memory, no descriptor and no buffer of the library's is left
//   - an error that a program must never notice (EINTR, mostly) lets the test pass
//
// How a run ends early and is examined all the same. The tests are linked so that what they call of <mio.h>, of the
// system and of libcheck comes here first (the list is in tests/inject/wrapped). Callbacks run behind a landing place:
// an assertion inside one leaves that callback only, and the library goes on as if it had returned. From then on the
// test is broken: its callbacks are not run any more, its loops are stopped, and when the call that the test itself made
// returns, the test is not returned to. What the test owned at that point - buffers, descriptors, remotes - is known,
// for it came and went through here; it is given back, and what remains is the library's.
//
//   main.cc    the command line, plans, processes, the sum     run.cc     one run and its examination
//   told.cc    callbacks and the calls that take them          owned.cc   what the test owns: buffers, descriptors
#pragma once

#include "support/calls.h"

#include <mio.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

namespace inject {

// --- a plan ---------------------------------------------------------------------------------------------------------

struct plan {
    bool allocation;  // else the call below
    test::call which;
    uint64_t nth;     // 0: nothing fails
    int error;
    bool from;        // all after it, too
};
constexpr unsigned KINDS = test::CALLS + 1; // the last one: allocations of all kinds together

const int *errors_of(test::call which);            // what it may fail with, ends with 0
bool is_never_noticed(const plan *p); // the test must pass

// --- a run ----------------------------------------------------------------------------------------------------------

enum class outcome : uint8_t {
    running,   // or ended by something else
    passed,    // the test noticed nothing
    asserted,  // by an assertion
    stalled,   // it waited for something that did not come
    unchecked, // by an assertion while its other threads ran, or in one of them
    failed,    // the library did something wrong: message
};

struct slot { // shared with the run's process
    outcome result;
    bool happened, skipped;
    uint64_t counts[KINDS];
    const char *volatile inside; // the call of the library that the test is in; nullptr: in none
    bool memory_left, fds_left;  // by a test that nothing was injected into
    char message[400];
    char asserted[300];
};
extern slot *mine;
extern bool on_sim;

[[noreturn]] void run_test(int number, const plan *p); // in its process
bool run_must_pass();                                  // its plan is never noticed
[[noreturn]] __attribute__((format(printf, 1, 2))) void run_fail(const char *format, ...);

// --- the test's state -----------------------------------------------------------------------------------------------

extern volatile bool broken;      // no callback of the test is run any more
extern bool in_child;             // of the test's fork(2): its parent is who is examined
extern bool has_forked;           // a loop of the test may be the child's now
extern int threads_alive;         // those the test made
extern thread_local jmp_buf *landing; // of the callback that runs; nullptr: none does

void test_break(outcome how, const char *format, ...) __attribute__((format(printf, 2, 3)));
void test_leave(); // if it is broken: to the landing place, or to the examination; does not return then

// Every call of the library that may take time.
extern thread_local bool is_test_thread; // the one that is examined
struct inside_call {
    const char *before;
    explicit inside_call(const char *name) : before(mine->inside) {
        if (is_test_thread && !in_child) mine->inside = name;
    }
    ~inside_call() {
        if (is_test_thread && !in_child) mine->inside = before;
    }
};

// --- told.cc --------------------------------------------------------------------------------------------------------

void told_note_callback(); // something came: the test does not stall
int64_t told_last_ns();    // when
void told_abandon_handle(const mio_handle_t *handle);
void told_abandon_request(const mio_loop_t *loop, mio_req_t id);
void told_examine(); // after all loops are gone
// For starts of one-shot requests that have a file of their own (told_fs.cc): the record that goes behind arg; what the
// start said; and, in the callback, the test's own behind a landing place.
void *told_once(const char *what, void (*cb)(), void *arg, const mio_loop_t *loop);
mio_req_t told_taken(void *record, mio_req_t result);
void told_call(void *record, void (*body)(void (*cb)(), void *arg, const void *with), const void *with);

// --- owned.cc -------------------------------------------------------------------------------------------------------

void owned_buf(const mio_buf_t *buf, int delta); // references that the test holds
void owned_bufs(const mio_buf_t *list, unsigned n, int delta);
void owned_buf_wrapped(const mio_buf_t *buf);    // its own memory: not ours to give back
void owned_fd(int fd, bool owned);
int owned_world_fds();                           // descriptors of a simulated world that the test was given
void owned_give_back();

// --- run.cc ---------------------------------------------------------------------------------------------------------

void loops_stop();
void loop_failed(mio_loop_t *loop); // its run gave an error
int64_t clock_ns();

}

// What the test calls by that name.
#define WRAPPED(name) __wrap_##name
