// What each system call may fail with, by its manual page: what a program can meet in its life, not what only a mistake
// of the library's own would bring (EFAULT, EBADF of a live descriptor).
#include "inject.h"

#include <errno.h>

namespace inject {

using test::call;

const int *errors_of(call which) {
    static const int none[] = {0};
    static const int memory[] = {ENOMEM, 0};
    static const int new_socket[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM, EACCES, EAFNOSUPPORT, 0};
    static const int two_sockets[] = {EMFILE, ENFILE, ENOMEM, 0};
    static const int binding[] = {EADDRINUSE, EACCES, EADDRNOTAVAIL, ENOMEM, 0};
    static const int listening[] = {EADDRINUSE, 0};
    static const int connecting[] = {ECONNREFUSED, ETIMEDOUT, ENETUNREACH, EHOSTUNREACH, EADDRNOTAVAIL, EADDRINUSE,
                                     EAGAIN, EPERM, EACCES, ENOBUFS, 0};
    static const int accepting[] = {EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED, EPROTO, EPERM, ENETDOWN,
                                    EHOSTUNREACH, 0};
    static const int not_connected[] = {ENOTCONN, 0};
    static const int closing[] = {EINTR, EIO, 0};
    static const int own_name[] = {ENOBUFS, 0};
    static const int peer_name[] = {ENOTCONN, ENOBUFS, 0};
    static const int asking[] = {ENOPROTOOPT, ENOBUFS, 0};
    static const int setting[] = {ENOPROTOOPT, ENOMEM, EPERM, EINVAL, 0};
    static const int another[] = {EMFILE, 0};
    static const int flags[] = {EPERM, 0};
    static const int receiving[] = {EINTR, ECONNRESET, ETIMEDOUT, ENOMEM, EHOSTUNREACH, EAGAIN, 0};
    static const int sending[] = {EINTR, EPIPE, ECONNRESET, ENOBUFS, ENOMEM, ETIMEDOUT, EHOSTUNREACH, EACCES, EAGAIN, 0};
    static const int datagrams[] = {EINTR, ENOBUFS, ENOMEM, ECONNREFUSED, EHOSTUNREACH, EACCES, EAGAIN, 0};
    static const int splicing[] = {EINTR, EAGAIN, EINVAL, ENOSYS, ENOMEM, ECONNRESET, EPIPE, 0};
    static const int reading[] = {EINTR, EAGAIN, EIO, 0};
    static const int opening[] = {EMFILE, ENFILE, ENOMEM, EACCES, ENOENT, ENXIO, EINTR, 0};
    static const int naming[] = {EACCES, ENOENT, EROFS, ENOMEM, 0};
    static const int looking[] = {EIO, EOVERFLOW, 0};
    static const int no_second[] = {ENOTSUP, EMFILE, 0};
    static const int reading_now[] = {EINTR, EAGAIN, EIO, EOPNOTSUPP, 0};
    static const int piping[] = {EINTR, EAGAIN, EPIPE, EIO, ENOSPC, 0};
    static const int terminal[] = {ENOTTY, EIO, EINTR, 0};
    static const int waking[] = {EINTR, EAGAIN, 0}; // of an eventfd; any other would be a lost wake-up, and is a panic
    static const int new_eventfd[] = {EMFILE, ENFILE, ENOMEM, ENODEV, 0};
    static const int new_pipe[] = {EMFILE, ENFILE, 0};
    static const int new_thread[] = {EAGAIN, ENOMEM, EPERM, 0};
    static const int new_process[] = {EAGAIN, ENOMEM, 0};
    static const int new_pidfd[] = {ENOSYS, EPERM, EMFILE, ENFILE, ENODEV, ENOMEM, 0};
    static const int polling[] = {EINTR, ENOMEM, 0};
    static const int new_epoll[] = {EMFILE, ENFILE, ENOMEM, 0};
    static const int registering[] = {ENOMEM, ENOSPC, 0};
    static const int waiting[] = {EINTR, 0};
    static const int watching[] = {ENOSPC, ENOMEM, EACCES, ENOENT, 0};
    static const int unwatching[] = {EINVAL, 0}; // it was ignored meanwhile
    static const int new_ring[] = {ENOMEM, EMFILE, ENFILE, EPERM, EACCES, ENOSYS, EINVAL, 0};
    static const int entering[] = {EINTR, EAGAIN, EBUSY, ENOMEM, EPERM, EACCES, ENOSYS, 0};
    static const int ring_register[] = {ENOMEM, EINVAL, EBUSY, EPERM, EACCES, 0};
    static const int file[] = {EIO, ENOSPC, 0};
    static const int resolving[] = {ENOMEM, EMFILE, 0};
    switch (which) {
    case call::thread_start: return new_thread;
    case call::getaddrinfo:
    case call::getnameinfo: return resolving;
    case call::environment:
    case call::freeaddrinfo: return none;
    case call::alloc:
    case call::resize:
    case call::map:
    case call::map_wipe_on_fork:
    case call::map_shared:
    case call::map_fd: return memory;
    case call::release:
    case call::unmap:
    case call::sigaction:
    case call::thread_sigmask:
    case call::child_wait:
    case call::child_kill:
    case call::monotonic_ns: return none;
    case call::spawn: return new_process;
    case call::pidfd_open: return new_pidfd;
    case call::socket: return new_socket;
    case call::socketpair: return two_sockets;
    case call::bind: return binding;
    case call::listen: return listening;
    case call::connect: return connecting;
    case call::accept4: return accepting;
    case call::shutdown: return not_connected;
    case call::close: return closing;
    case call::getsockname: return own_name;
    case call::getpeername: return peer_name;
    case call::getsockopt: return asking;
    case call::setsockopt: return setting;
    case call::dup_cloexec: return another;
    case call::set_cloexec:
    case call::set_nonblocking: return flags;
    case call::recv:
    case call::recvmsg: return receiving;
    case call::send:
    case call::sendfile:
    case call::sendmsg: return sending;
    case call::recvmmsg:
    case call::sendmmsg: return datagrams;
    case call::splice: return splicing;
    case call::read: return reading;
    case call::write: return waking;
    case call::open: return opening;
    case call::unlink:
    case call::chmod:
    case call::lstat_mode: return naming;
    case call::facts: return looking;
    case call::reopen: return no_second;
    case call::set_status: return flags;
    case call::read_nowait: return reading_now;
    case call::write_quiet: return piping;
    case call::tty_get:
    case call::tty_set:
    case call::tty_size: return terminal;
    case call::eventfd: return new_eventfd;
    case call::pipe_cloexec: return new_pipe;
    case call::poll_one: return polling;
    case call::epoll_create1:
    case call::kqueue: return new_epoll;
    case call::epoll_ctl: return registering;
    case call::epoll_wait_ns: return waiting;
    case call::kevent: return polling;
    case call::notify_open: return new_epoll;
    case call::notify_add: return watching;
    case call::notify_remove: return unwatching;
    case call::notify_read: return reading;
    case call::uring_setup: return new_ring;
    case call::uring_enter: return entering;
    case call::uring_register: return ring_register;
    case call::file: return file;
    }
    return none;
}

bool is_never_noticed(const plan *p) {
    if (p->allocation || p->from) return false;
    switch (p->which) {
    case call::epoll_wait_ns:
    case call::accept4:
    case call::recv:
    case call::recvmsg:
    case call::send:
    case call::sendmsg:
    case call::recvmmsg:
    case call::sendmmsg:
    case call::sendfile:
    case call::splice:
    case call::read:
    case call::notify_read:
    case call::read_nowait:
    case call::write_quiet:
    case call::poll_one:
    case call::kevent:
    case call::close:
    case call::uring_enter: return p->error == EINTR;
    case call::thread_start:
    case call::environment:
    case call::getaddrinfo:
    case call::freeaddrinfo:
    case call::getnameinfo:
    case call::alloc:
    case call::resize:
    case call::release:
    case call::map:
    case call::unmap:
    case call::map_wipe_on_fork:
    case call::map_shared:
    case call::map_fd:
    case call::monotonic_ns:
    case call::sigaction:
    case call::thread_sigmask:
    case call::spawn:
    case call::pidfd_open:
    case call::child_wait:
    case call::child_kill:
    case call::socket:
    case call::socketpair:
    case call::bind:
    case call::listen:
    case call::connect:
    case call::shutdown:
    case call::getsockname:
    case call::getpeername:
    case call::getsockopt:
    case call::setsockopt:
    case call::dup_cloexec:
    case call::set_cloexec:
    case call::set_nonblocking:
    case call::write:
    case call::open:
    case call::unlink:
    case call::chmod:
    case call::lstat_mode:
    case call::facts:
    case call::reopen:
    case call::set_status:
    case call::tty_get:
    case call::tty_set:
    case call::tty_size:
    case call::eventfd:
    case call::pipe_cloexec:
    case call::epoll_create1:
    case call::epoll_ctl:
    case call::kqueue:
    case call::notify_open:
    case call::notify_add:
    case call::notify_remove:
    case call::uring_setup:
    case call::uring_register:
    case call::file: break;
    }
    return false;
}

}
