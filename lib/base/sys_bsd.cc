// The other half of the real table for systems with kqueue: macOS and the BSDs. Decides how what they lack is made of
// what they have; MIO_HAVE_ACCEPT4 (configure) says whether they have the calls that make descriptors with flags.
//
// What they lack:
//   1. macOS: accept4, pipe2 and flags for socket and socketpair. The descriptor is made first and set up then, so a
//      fork and exec of another thread in between hands it on: there is no way to be safe from that there.
//   2. macOS: MSG_NOSIGNAL, before one of the last versions. Each socket gets SO_NOSIGPIPE.
//   3. macOS, and some BSDs: pages that a fork wipes. A handler of pthread_atfork does it; a fork by a bare system call
//      goes unnoticed.
//   4. macOS: SO_DOMAIN and SO_PROTOCOL. The first is the family of the socket's own address; the second is TCP where a
//      TCP option can be read.
//   5. All: eventfd, epoll, io_uring. A kqueue is its own way to wake.
//      And inotify: see notify_add below.
//   6. macOS refuses waits of more than 10^8 seconds (EINVAL), FreeBSD knew limits, too: no wait is longer than a day.
#include "base/notify.h"
#include "base/socket.h"
#include "base/spawn.h"
#include "base/sys_platform.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/event.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

namespace mio {

constexpr int64_t LONGEST_WAIT_S = 86400;

// --- descriptors ----------------------------------------------------------------------------------------------------

// Sets up a new descriptor of ours; when that fails it is closed, and the error is the result.
static int fd_prepare(int fd, bool cloexec, bool nonblocking) {
    int error = 0;
    if (cloexec) error = negated(::fcntl(fd, F_SETFD, FD_CLOEXEC));
    if (nonblocking && error >= 0) {
        const int flags = negated(::fcntl(fd, F_GETFL));
        error = flags < 0 ? flags : negated(::fcntl(fd, F_SETFL, flags | O_NONBLOCK));
    }
    if (error >= 0) return fd;
    (void)::close(fd);
    return error;
}

static int quiet(int fd) {
    const int error = socket_never_signals(&sys_real, fd);
    // A peer that reset its connection before we saw it is told by the first read, not here.
    if (error >= 0 || error == -EINVAL) return fd;
    (void)::close(fd);
    return error;
}

static int both(int fds[2], int (*prepare)(int fd, int how), int how) {
    const int error = prepare(fds[0], how);
    if (error < 0) {
        (void)::close(fds[1]);
        return error;
    }
    const int second = prepare(fds[1], how);
    if (second >= 0) return 0;
    (void)::close(fds[0]);
    return second;
}

#if MIO_HAVE_ACCEPT4

static int quiet_one(int fd, int) { return quiet(fd); }

int sys_socket(int domain, int type, int protocol) {
    const int fd = negated(::socket(domain, type, protocol));
    return fd < 0 ? fd : quiet(fd);
}

int sys_socketpair(int domain, int type, int protocol, int fds[2]) {
    const int error = negated(::socketpair(domain, type, protocol, fds));
    return error < 0 ? error : both(fds, quiet_one, 0);
}

int sys_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags) {
    const int accepted = negated(::accept4(fd, addr, len, flags));
    return accepted < 0 ? accepted : quiet(accepted);
}

int sys_pipe_cloexec(int fds[2]) { return negated(::pipe2(fds, O_CLOEXEC)); }

#else

static int socket_prepare(int fd, int flags) {
    const int error = fd_prepare(fd, (flags & SOCK_CLOEXEC) != 0, (flags & SOCK_NONBLOCK) != 0);
    return error < 0 ? error : quiet(fd);
}

static int pipe_prepare(int fd, int) { return fd_prepare(fd, true, false); }

int sys_socket(int domain, int type, int protocol) {
    const int fd = negated(::socket(domain, type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK), protocol));
    return fd < 0 ? fd : socket_prepare(fd, type);
}

int sys_socketpair(int domain, int type, int protocol, int fds[2]) {
    const int error = negated(::socketpair(domain, type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK), protocol, fds));
    return error < 0 ? error : both(fds, socket_prepare, type);
}

int sys_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags) {
    const int accepted = negated(::accept(fd, addr, len));
    return accepted < 0 ? accepted : socket_prepare(accepted, flags);
}

int sys_pipe_cloexec(int fds[2]) {
    const int error = negated(::pipe(fds));
    return error < 0 ? error : both(fds, pipe_prepare, 0);
}

#endif

static int family_of(int fd, int *family) {
    struct sockaddr_storage local;
    socklen_t len = sizeof local;
    local.ss_family = AF_UNSPEC;
    const int error = negated(::getsockname(fd, reinterpret_cast<struct sockaddr *>(&local), &len));
    if (error < 0) return error;
    *family = local.ss_family;
    return 0;
}

static int protocol_of(int fd, int *protocol) {
    int nodelay;
    socklen_t len = sizeof nodelay;
    const int error = negated(::getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &nodelay, &len));
    if (error == -EBADF || error == -ENOTSOCK) return error;
    *protocol = error < 0 ? 0 : IPPROTO_TCP;
    return 0;
}

int sys_getsockopt(int fd, int level, int name, void *value, socklen_t *len) {
    if (level == SOL_SOCKET && (name == SO_DOMAIN || name == SO_PROTOCOL)) {
        int answer = 0;
        const int error = name == SO_DOMAIN ? family_of(fd, &answer) : protocol_of(fd, &answer);
        if (error < 0) return error;
        if (*len > sizeof answer) *len = sizeof answer;
        memcpy(value, &answer, *len);
        return 0;
    }
    return negated(::getsockopt(fd, level, name, value, len));
}

// --- many messages with one call, which not all of them have ---------------------------------------------------------

int sys_recvmmsg(int fd, struct sys_message *messages, unsigned n, int flags) {
    for (unsigned i = 0; i < n; i++) {
        const ssize_t got = ::recvmsg(fd, &messages[i].head, flags);
        if (got < 0) return i != 0 ? static_cast<int>(i) : -errno;
        messages[i].len = static_cast<unsigned>(got);
    }
    return static_cast<int>(n);
}

int sys_sendmmsg(int fd, struct sys_message *messages, unsigned n, int flags) {
    for (unsigned i = 0; i < n; i++) {
        const ssize_t sent = ::sendmsg(fd, &messages[i].head, flags);
        if (sent < 0) return i != 0 ? static_cast<int>(i) : -errno;
        messages[i].len = static_cast<unsigned>(sent);
    }
    return static_cast<int>(n);
}

// --- terminals and pipes --------------------------------------------------------------------------------------------

int sys_reopen(int fd) {
    char path[256];
    if (ttyname_r(fd, path, sizeof path) != 0) return -ENOTSUP;
    // The master of a pair (/dev/ptmx, /dev/ptyXX) would be another pair's.
    if (strncmp(path, "/dev/pt", 7) == 0 && strncmp(path, "/dev/pts/", 9) != 0) return -ENOTSUP;
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0) return -errno;
    const int again = ::open(path, (flags & O_ACCMODE) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return again >= 0 ? again : -ENOTSUP;
}

ssize_t sys_write_once(int fd, const struct iovec *pieces, unsigned n, bool nowait, bool quiet) {
    return nowait || quiet ? -EOPNOTSUPP : negated(::writev(fd, pieces, static_cast<int>(n)));
}

// --- pages that a fork wipes ----------------------------------------------------------------------------------------

#ifdef INHERIT_ZERO

void sys_unmap(void *ptr, size_t size) {
    if (munmap(ptr, size) != 0) abort(); // only a range that was never mapped: the caller's bookkeeping is lost
}

void *sys_map_wipe_on_fork(size_t size) {
    void *at = sys_map(size);
    if (at != nullptr && minherit(at, size, INHERIT_ZERO) != 0) {
        sys_unmap(at, size);
        return nullptr;
    }
    return at;
}

#else

// Behind each such page lies its place in a list of all, which the handler of fork walks in the child.
struct wiped {
    wiped *next;
    void *page;
    size_t size;
};

static pthread_mutex_t wiped_lock = PTHREAD_MUTEX_INITIALIZER;
static wiped *wiped_pages;
static size_t wiped_largest; // what is larger need not be looked for

static void fork_begins() { (void)pthread_mutex_lock(&wiped_lock); }
static void fork_ends_in_parent() { (void)pthread_mutex_unlock(&wiped_lock); }
static void fork_ends_in_child() {
    for (wiped *at = wiped_pages; at != nullptr; at = at->next) memset(at->page, 0, at->size);
    (void)pthread_mutex_unlock(&wiped_lock);
}

static pthread_once_t wiped_once = PTHREAD_ONCE_INIT;
static bool wiped_works;
static void wiped_prepare() { wiped_works = pthread_atfork(fork_begins, fork_ends_in_parent, fork_ends_in_child) == 0; }

// Takes a page out of the list; the bytes that lie behind it.
static size_t wiped_forget(const void *page, size_t size) {
    size_t behind = 0;
    (void)pthread_mutex_lock(&wiped_lock);
    if (size <= wiped_largest)
        for (wiped **at = &wiped_pages; *at != nullptr; at = &(*at)->next)
            if ((*at)->page == page) {
                *at = (*at)->next;
                behind = sizeof(wiped);
                break;
            }
    (void)pthread_mutex_unlock(&wiped_lock);
    return behind;
}

void sys_unmap(void *ptr, size_t size) {
    if (munmap(ptr, size + wiped_forget(ptr, size)) != 0) abort(); // only a range that was never mapped
}

void *sys_map_wipe_on_fork(size_t size) {
    (void)pthread_once(&wiped_once, wiped_prepare);
    char *at = wiped_works ? static_cast<char *>(sys_map(size + sizeof(wiped))) : nullptr;
    if (at == nullptr) return nullptr;
    wiped *place = reinterpret_cast<wiped *>(at + size);
    (void)pthread_mutex_lock(&wiped_lock);
    *place = wiped{wiped_pages, at, size};
    wiped_pages = place;
    if (size > wiped_largest) wiped_largest = size;
    (void)pthread_mutex_unlock(&wiped_lock);
    return at;
}

#endif

const char *sys_environment(const char *name) {
#ifdef __linux__
    return secure_getenv(name); // the model of a kqueue
#else
    return issetugid() != 0 ? nullptr : getenv(name);
#endif
}

// --- kqueue ---------------------------------------------------------------------------------------------------------

int sys_kqueue() {
    const int fd = negated(::kqueue());
    return fd < 0 ? fd : fd_prepare(fd, true, false);
}

int sys_kevent(int kq, const struct kevent *changes, int n, struct kevent *events, int max, int64_t timeout_ns) {
    struct timespec timeout = {};
    if (timeout_ns >= LONGEST_WAIT_S * 1000000000) timeout.tv_sec = LONGEST_WAIT_S;
    else if (timeout_ns > 0) timeout = {static_cast<time_t>(timeout_ns / 1000000000), static_cast<long>(timeout_ns % 1000000000)};
    return negated(::kevent(kq, changes, n, events, max, timeout_ns < 0 ? nullptr : &timeout));
}

// --- files to sockets -----------------------------------------------------------------------------------------------
// Sockets are quiet here (socket_never_signals), or say so with each send.

ssize_t sys_sendfile(int to, int from, int64_t offset, size_t n) {
#if defined(__APPLE__)
    off_t sent = static_cast<off_t>(n); // 0 would be all of it
    const int error = negated(::sendfile(from, to, static_cast<off_t>(offset), &sent, nullptr, 0));
#elif defined(__FreeBSD__) || defined(__DragonFly__)
    off_t sent = 0;
    const int error = negated(::sendfile(from, to, static_cast<off_t>(offset), n, nullptr, &sent, 0));
#else
    const off_t sent = 0;
    const int error = -ENOSYS;
#endif
    if (sent > 0 && (error >= 0 || error == -EAGAIN || error == -EINTR)) return static_cast<ssize_t>(sent);
    return error == -ENOSYS || error == -EINVAL || error == -EOPNOTSUPP ? sys_sendfile_copy(to, from, offset, n) : error;
}

// --- files that change: EVFILT_VNODE --------------------------------------------------------------------------------
// Of a folder it is told that its names changed (NOTE_WRITE), not which: as if the notices had been lost. An id is the
// descriptor that keeps the file open; a knote's udata says whether it is a folder.

#ifdef O_EVTONLY
constexpr int OPEN_TO_WATCH = O_EVTONLY | O_CLOEXEC; // does not keep a volume from being unmounted
#else
constexpr int OPEN_TO_WATCH = O_RDONLY | O_NONBLOCK | O_CLOEXEC;
#endif

int sys_notify_open() { return sys_kqueue(); }

static unsigned vnode_flags(uint32_t mask) {
    constexpr uint32_t contents = NOTIFY_MODIFY | NOTIFY_CLOSE_WRITE | NOTIFY_CREATE | NOTIFY_DELETE | NOTIFY_MOVED_FROM |
                                  NOTIFY_MOVED_TO;
    unsigned flags = NOTE_DELETE | NOTE_RENAME | NOTE_REVOKE;
    if ((mask & contents) != 0) flags |= NOTE_WRITE | NOTE_EXTEND;
    if ((mask & NOTIFY_ATTRIB) != 0) flags |= NOTE_ATTRIB | NOTE_LINK;
    return flags;
}

int sys_notify_add(int kq, const char *path, uint32_t mask) {
    const int fd = negated(::open(path, OPEN_TO_WATCH));
    if (fd < 0) return fd;
    struct stat what;
    static char folder;
    void *is_folder = ::fstat(fd, &what) == 0 && S_ISDIR(what.st_mode) ? &folder : nullptr;
    struct kevent change;
    EV_SET(&change, fd, EVFILT_VNODE, EV_ADD | EV_CLEAR, vnode_flags(mask), 0, is_folder);
    const int error = negated(::kevent(kq, &change, 1, nullptr, 0, nullptr));
    if (error >= 0) return fd;
    (void)::close(fd);
    return error;
}

int sys_notify_remove(int, int id) { return negated(::close(id)); } // its knote goes with it

static constexpr unsigned VNODE_EVENTS = 16;
static constexpr unsigned VNODE_RECORDS = 5; // of one event, at most

static unsigned vnode_records(const struct kevent *event, notify_record *out) {
    unsigned n = 0;
    const int32_t id = static_cast<int32_t>(event->ident);
    const unsigned flags = event->fflags;
    const bool gone = (flags & (NOTE_DELETE | NOTE_REVOKE)) != 0;
    const uint32_t written = event->udata != nullptr ? NOTIFY_OVERFLOW : NOTIFY_MODIFY;
    if ((flags & (NOTE_WRITE | NOTE_EXTEND)) != 0) out[n++] = notify_record{id, written, 0, 0};
    if ((flags & (NOTE_ATTRIB | NOTE_LINK)) != 0) out[n++] = notify_record{id, NOTIFY_ATTRIB, 0, 0};
    if ((flags & NOTE_RENAME) != 0) out[n++] = notify_record{id, NOTIFY_MOVE_SELF, 0, 0};
    if (gone) out[n++] = notify_record{id, (flags & NOTE_DELETE) != 0 ? NOTIFY_DELETE_SELF : NOTIFY_UNMOUNT, 0, 0};
    if (gone) out[n++] = notify_record{id, NOTIFY_IGNORED, 0, 0};
    return n;
}

ssize_t sys_notify_read(int kq, void *to, size_t n) {
    struct kevent events[VNODE_EVENTS];
    const size_t room = n / (VNODE_RECORDS * sizeof(notify_record));
    const int most = static_cast<int>(room < VNODE_EVENTS ? room : VNODE_EVENTS);
    if (most == 0) return -EINVAL;
    const int got = sys_kevent(kq, nullptr, 0, events, most, 0);
    if (got < 0) return got;
    auto *out = static_cast<notify_record *>(to);
    unsigned records = 0;
    for (int i = 0; i < got; i++) records += vnode_records(&events[i], out + records);
    return records == 0 ? -EAGAIN : static_cast<ssize_t>(records * sizeof(notify_record));
}

// --- what only Linux has --------------------------------------------------------------------------------------------

void *sys_map_fd(int fd, size_t size, int64_t offset) {
    void *at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, static_cast<off_t>(offset));
    return at == MAP_FAILED ? nullptr : at;
}
ssize_t sys_read_nowait(int, void *, size_t) { return -EOPNOTSUPP; }
int sys_pidfd_open(int) { return -ENOSYS; }
ssize_t sys_splice(int, int, size_t, bool) { return -ENOSYS; }
int sys_child_kill(int pid, int, int number) { return negated(::kill(pid, number)); }
int sys_child_wait(int pid, int, struct spawn_end *end) {
    if (end == nullptr) {
        siginfo_t info;
        return ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT) == 0 ? 1 : -errno;
    }
    int status = 0;
    const pid_t ended = ::wait4(pid, &status, WNOHANG, &end->usage);
    if (ended <= 0) return negated(ended);
    end->status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    end->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    end->core_dumped = WIFSIGNALED(status) && WCOREDUMP(status);
    return 1;
}
int sys_eventfd(unsigned, int) { return -ENOSYS; }
int sys_epoll_create1(int) { return -ENOSYS; }
int sys_epoll_ctl(int, int, int, struct epoll_event *) { return -ENOSYS; }
int sys_epoll_wait_ns(int, struct epoll_event *, int, int64_t) { return -ENOSYS; }
int sys_uring_setup(unsigned, struct io_uring_params *) { return -ENOSYS; }
int sys_uring_enter(int, unsigned, unsigned, unsigned, const void *, size_t) { return -ENOSYS; }
int sys_uring_register(int, unsigned, void *, unsigned) { return -ENOSYS; }

}
