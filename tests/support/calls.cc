#include "support/calls.h"

#include <errno.h>

namespace test {

const char *call_name(call which) {
    static const char *const names[CALLS] = {
        "alloc",         "resize",       "release",         "map",           "unmap",       "map_wipe_on_fork",
        "map_shared",    "map_fd",       "monotonic_ns",    "thread_start",  "environment", "getaddrinfo", "freeaddrinfo", "getnameinfo", "socket",        "socketpair", "bind",        "listen",
        "connect",       "accept4",      "shutdown",        "close",         "getsockname", "getpeername",
        "getsockopt",    "setsockopt",   "dup_cloexec",     "set_cloexec", "set_nonblocking", "recv",      "recvmsg",
        "send",          "sendmsg",      "recvmmsg",       "sendmmsg",      "sendfile",      "splice",  "read",            "write",
        "open",          "unlink",       "chmod",           "lstat_mode",    "facts",       "reopen",      "set_status",
        "read_nowait",   "write_quiet",  "tty_get",         "tty_set",       "tty_size",
        "eventfd",       "pipe_cloexec",
        "poll_one",      "epoll_create1", "epoll_ctl",      "epoll_wait_ns", "uring_setup", "uring_enter",
        "uring_register", "notify_open", "notify_add",      "notify_remove", "notify_read", "kqueue",
        "kevent",        "sigaction",    "thread_sigmask",  "spawn",         "pidfd_open",  "child_wait",
        "child_kill",    "file",
    };
    return names[static_cast<unsigned>(which)];
}

bool call_allocates(call which) {
    return which == call::alloc || which == call::resize || which == call::map || which == call::map_wipe_on_fork ||
           which == call::map_shared || which == call::map_fd;
}

bool call_can_fail(call which) {
    return which != call::release && which != call::unmap && which != call::monotonic_ns &&
           which != call::environment && which != call::freeaddrinfo && which != call::sigaction &&
           which != call::thread_sigmask && which != call::child_wait && which != call::child_kill;
}

int call_usual_error(call which) {
    switch (which) {
    case call::alloc:
    case call::resize:
    case call::map:
    case call::map_wipe_on_fork:
    case call::map_shared:
    case call::map_fd:
    case call::uring_setup:
    case call::uring_register:
    case call::epoll_ctl: return ENOMEM;
    case call::thread_start:
    case call::spawn: return EAGAIN;
    case call::pidfd_open: return ENOSYS;
    case call::socket:
    case call::socketpair:
    case call::accept4:
    case call::dup_cloexec:
    case call::open:
    case call::eventfd:
    case call::pipe_cloexec:
    case call::kqueue:
    case call::notify_open:
    case call::epoll_create1: return EMFILE;
    case call::notify_add: return ENOSPC;
    case call::bind:
    case call::listen: return EADDRINUSE;
    case call::connect: return ECONNREFUSED;
    case call::shutdown:
    case call::getpeername: return ENOTCONN;
    case call::getsockname: return ENOBUFS;
    case call::getsockopt:
    case call::setsockopt: return ENOPROTOOPT;
    case call::getaddrinfo:
    case call::getnameinfo: return ENOMEM;
    case call::recv:
    case call::recvmsg:
    case call::send:
    case call::sendfile:
    case call::sendmsg: return ECONNRESET;
    case call::recvmmsg:
    case call::sendmmsg: return ECONNREFUSED;
    case call::unlink:
    case call::chmod:
    case call::lstat_mode: return ENOENT;
    case call::reopen: return ENOTSUP;
    case call::read_nowait: return EOPNOTSUPP;
    case call::splice: return EINVAL;
    case call::tty_get:
    case call::tty_set:
    case call::tty_size: return ENOTTY;
    case call::facts:
    case call::set_status:
    case call::write_quiet:
    case call::close:
    case call::set_cloexec:
    case call::set_nonblocking:
    case call::notify_remove:
    case call::notify_read:
    case call::file:
    case call::read:
    case call::write: return EIO;
    case call::poll_one:
    case call::uring_enter:
    case call::kevent:
    case call::epoll_wait_ns: return EINTR;
    case call::release:
    case call::unmap:
    case call::sigaction:
    case call::thread_sigmask:
    case call::child_wait:
    case call::child_kill:
    case call::monotonic_ns:
    case call::freeaddrinfo:
    case call::environment: break;
    }
    return 0;
}

}
