// A mio::sys table that does what a test says: results are queued per call, everything else gets a default, all calls
// are noted. No system call is made; memory is malloc's; the clock stands still until the script or a wait moves it.
//
//     const mio::sys *calls = test::scripted_open(1000);            // the clock says 1000 ns
//     test::scripted_push(test::call::recv, 7, -EINTR);             // the first recv on descriptor 7
//     test::scripted_push_data(test::call::recv, 7, "hello", 5);    // the second one
//     ... what is tested gets `calls` ...
//     assert_int_equal(test::scripted_count(test::call::epoll_ctl), 1);
//     assert_int_equal(test::scripted_close(), 0);                  // nothing left: no result unused, no leak
//
// A call takes the oldest queued result of its kind that names its descriptor or ANY_FD. Without one:
//     socket, eventfd, epoll_create1, dup_cloexec   a new descriptor (1000 and up; they exist in the script only)
//     accept4, recv, recvmsg, read                  -EAGAIN
//     send, sendmsg, write                          all of it
//     close                                         0; -EBADF for one that the script gave and that is closed already
//     getsockname, getpeername                      127.0.0.1, the descriptor for a port
//     getsockopt                                    zeroes
//     epoll_wait_ns                                 0, and the clock moves on by the time-out; to wait for ever ends
//                                                   the test with a message
//     the rest                                      0
// One script at a time; calls may come from several threads.
#pragma once

#include "support/calls.h"

#include <sys/epoll.h>

namespace test {

constexpr int ANY_FD = -1;
constexpr int SCRIPTED_FD_FIRST = 1000;

struct scripted_result {
    int64_t value;                    // returned: a result or -errno; memory: 0 means nullptr, else malloc's
    const void *data;                 // received bytes (value of them), or the epoll events; copied when pushed
    size_t size;                      // bytes of data
    const void *control;              // recvmsg: control data
    size_t control_size;
    int message_flags;                // recvmsg: msg_flags
    const struct sockaddr *addr;      // accept4, getsockname, getpeername
    socklen_t addr_len;
    int64_t takes_ns;                 // how far the clock moves during the call
    void (*effect)(void *arg);        // called before the call returns
    void *arg;
};

struct scripted_call {
    call which;
    int fd;           // -1: none
    int64_t args[3];  // the rest, as far as they are numbers: (what, fd, events) of epoll_ctl, (n, flags) of recv
    int64_t result;
};

const mio::sys *scripted_open(int64_t now_ns);
// What is left over: unused results + descriptors not closed + memory not released. Prints each.
int scripted_close();

void scripted_push(call which, int fd, int64_t value);
void scripted_push_data(call which, int fd, const void *data, size_t n);
void scripted_push_events(const struct epoll_event *events, int n);
void scripted_push_result(call which, int fd, const scripted_result *result);
unsigned scripted_pending(call which); // results queued and not used yet

int64_t scripted_now_ns();
void scripted_set_now_ns(int64_t now_ns);

uint64_t scripted_count(call which);
uint64_t scripted_count_fd(call which, int fd);
unsigned scripted_log_size();                    // memory and clock are counted, not logged
const scripted_call *scripted_log_at(unsigned i);
const scripted_call *scripted_last(call which);  // nullptr: none
void scripted_forget();                          // log and counts begin anew
void scripted_print_log();

// All bytes that were sent or written on a descriptor, in order; *n: how many. Valid until the next call.
const char *scripted_sent(int fd, size_t *n);

unsigned scripted_open_fds();

}
