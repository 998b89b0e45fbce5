// The kinds of calls that a mio::sys table has, by name and number, for the tables that script, fail or count them.
#pragma once

#include "base/sys.h"

#include <stdint.h>

namespace test {

enum class call : uint8_t {
    alloc,
    resize,
    release,
    map,
    unmap,
    map_wipe_on_fork,
    map_shared,
    map_fd,
    monotonic_ns,
    thread_start,
    environment,
    getaddrinfo,
    freeaddrinfo,
    getnameinfo,
    socket,
    socketpair,
    bind,
    listen,
    connect,
    accept4,
    shutdown,
    close,
    getsockname,
    getpeername,
    getsockopt,
    setsockopt,
    dup_cloexec,
    set_cloexec,
    set_nonblocking,
    recv,
    recvmsg,
    send,
    sendmsg,
    recvmmsg,
    sendmmsg,
    sendfile,
    splice,
    read,
    write,
    open,
    unlink,
    chmod,
    lstat_mode,
    facts,
    reopen,
    set_status,
    read_nowait,
    write_quiet,
    tty_get,
    tty_set,
    tty_size,
    eventfd,
    pipe_cloexec,
    poll_one,
    epoll_create1,
    epoll_ctl,
    epoll_wait_ns,
    uring_setup,
    uring_enter,
    uring_register,
    notify_open,
    notify_add,
    notify_remove,
    notify_read,
    kqueue,
    kevent,
    sigaction,
    thread_sigmask,
    spawn,
    pidfd_open,
    child_wait,
    child_kill,
    file, // any of base/sys_files.h
};
constexpr unsigned CALLS = static_cast<unsigned>(call::file) + 1;

// A call that is added to the table has to be added here, to scripted_calls.cc and to failing.cc.
static_assert(sizeof(mio::sys) == CALLS * sizeof(void (*)()), "the table has calls that the tests do not know");

const char *call_name(call which);
bool call_allocates(call which); // alloc, resize, map and its like
bool call_can_fail(call which);  // all but release, unmap, the clock, the environment, what signals and children are asked with

// An error with which this call fails in real life, positive; ENOMEM where nullptr says it.
int call_usual_error(call which);

}
