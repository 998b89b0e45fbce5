// fork, everything in between, exec: the same on each system. Decides how the child comes to be what the plan says; what
// a plan may say is io/process.cc's.
//
// The child may make only such calls as are safe in a signal handler: it has one thread of a process that may have had
// many, and locks that nobody will give back. After vfork it even runs in the memory of its parent, which waits: it
// changes nothing there but its own stack, errno, and what says how it fared.
//
//   - All signals are masked from before the fork on, so that no handler of the program runs in the child; then every
//     disposition is the default one, and the mask is emptied last.
//   - vfork where it will do: its cost does not grow with the memory of the parent. Who changes ids gets a fork: a child
//     with other rights must not share memory. So does who opens files: that may take its time, and the parent waits.
//   - Descriptors first move out of the way, then to their places; whatever else is open gets FD_CLOEXEC.
//   - What fails is written to plan->report, a pipe that exec closes; or, after a vfork, into the parent's memory, once
//     it was seen that it is the parent's (a debugger, an emulator may make a fork of it).
#include "base/spawn.h"

#include "base/sys_platform.h"

#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>

#ifdef __linux__
#include <sys/syscall.h>
using groups_length = size_t;
#else
using groups_length = int;
#endif

// Sanitizers keep books on a stack; a child on the same one spoils them.
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define MIO_NO_VFORK 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define MIO_NO_VFORK 1
#endif
#endif
#if !defined(__linux__)
#define MIO_NO_VFORK 1
#endif

extern char **environ;

namespace mio {

constexpr int NOT_FOUND_STATUS = 127; // as a shell's

[[noreturn]] static void child_fails(const spawn_plan *p, int report, spawn_step step, int error) {
    const spawn_failure failure = {step, error};
    if (p->report < 0) {
        *p->seen = failure;
        _exit(NOT_FOUND_STATUS);
    }
    ssize_t written;
    do written = ::write(report, &failure, sizeof failure);
    while (written < 0 && errno == EINTR);
    _exit(NOT_FOUND_STATUS);
}

// --- signals and ids ------------------------------------------------------------------------------------------------

static void child_default_signals() {
    struct sigaction fresh;
    memset(static_cast<void *>(&fresh), 0, sizeof fresh);
    fresh.sa_handler = SIG_DFL;
    for (int number = 1; number < NSIG; number++) (void)::sigaction(number, &fresh, nullptr); // some are refused
}

static int child_set_ids(const spawn_plan *p) {
    if (p->set_groups && ::setgroups(static_cast<groups_length>(p->group_count), p->groups) != 0) return errno;
    if (p->drop_groups && ::setgroups(0, nullptr) != 0 && ::geteuid() == 0) return errno;
    if (p->set_gid && ::setgid(p->gid) != 0) return errno;
    if (p->set_uid && ::setuid(p->uid) != 0) return errno;
    return 0;
}

// --- descriptors ----------------------------------------------------------------------------------------------------

// At or above first, closed on exec; the old one stays. A negative number is -errno.
static int child_move(int fd, unsigned first) { return negated(::fcntl(fd, F_DUPFD_CLOEXEC, static_cast<int>(first))); }

// exec closes it. (close(2) itself may be somebody's own, who keeps books in the memory that is the parent's, too.)
static void child_drop(int fd) { (void)::fcntl(fd, F_SETFD, FD_CLOEXEC); }

static int child_keep(int fd) { // across exec
    const int flags = ::fcntl(fd, F_GETFD);
    if (flags < 0) return -errno;
    return (flags & FD_CLOEXEC) == 0 ? 0 : negated(::fcntl(fd, F_SETFD, flags & ~FD_CLOEXEC));
}

// fd becomes descriptor at, across exec.
static int child_place(int fd, int at) {
    if (fd == at) return child_keep(fd);
    int placed;
    do placed = ::dup2(fd, at);
    while (placed < 0 && (errno == EINTR || errno == EBUSY));
    return placed < 0 ? -errno : 0;
}

static int child_open(const char *path, int flags, unsigned mode, int at) {
    int fd;
    do fd = ::open(path, flags | O_CLOEXEC, static_cast<mode_t>(mode));
    while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : child_place(fd, at);
}

static int child_place_all(const spawn_plan *p, const int *sources) {
    for (unsigned i = 0; i < p->fd_count; i++) {
        const spawn_fd *what = &p->fds[i];
        const int at = static_cast<int>(i);
        int error = 0;
        switch (what->kind) {
        case spawn_fd_kind::closed: child_drop(at); break;
        case spawn_fd_kind::null: error = child_open("/dev/null", O_RDWR, 0, at); break;
        case spawn_fd_kind::copy: error = child_place(sources[i], at); break;
        case spawn_fd_kind::file: error = child_open(what->path, what->flags, what->mode, at); break;
        }
        if (error < 0) return error;
    }
    return 0;
}

#ifdef __linux__

// What open(2) and getdents64(2) tell, for there is no reading of directories here that is safe.
static bool child_close_listed(int first) {
    const int listing = ::open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (listing < 0) return false;
    alignas(8) char entries[2048];
    for (;;) {
        const long n = syscall(SYS_getdents64, listing, entries, sizeof entries);
        if (n <= 0) return n == 0;
        for (long at = 0; at < n;) {
            uint16_t size;
            memcpy(&size, entries + at + 16, sizeof size);
            const char *name = entries + at + 19;
            int fd = 0;
            while (*name >= '0' && *name <= '9') fd = fd * 10 + (*name++ - '0');
            if (fd >= first) child_drop(fd);
            at += size;
        }
    }
}

static bool child_close_range(int first) {
    constexpr unsigned ON_EXEC = 4; // CLOSE_RANGE_CLOEXEC, 5.11
    if (syscall(436, static_cast<unsigned>(first), ~0u, ON_EXEC) == 0) return true; // close_range(2)
    return child_close_listed(first);
}

#else

static bool child_close_range(int) { return false; }

#endif

// All others are closed by exec.
static void child_close_rest(int first) {
    if (child_close_range(first)) return;
    struct rlimit limit;
    int end = 65536;
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < 65536) end = static_cast<int>(limit.rlim_cur);
    for (int fd = first; fd < end; fd++) child_drop(fd);
}

// --- exec -----------------------------------------------------------------------------------------------------------

// The error that is worth telling: of a program that was found but cannot be run rather than of one that was not found.
static int child_search(const spawn_plan *p) {
    char whole[PATH_MAX];
    const size_t name = strlen(p->file);
    int told = ENOENT;
    for (const char *at = p->path;; at++) {
        const char *end = at;
        while (*end != '\0' && *end != ':') end++;
        const size_t n = static_cast<size_t>(end - at);
        if (n + name + 2 <= sizeof whole) {
            memcpy(whole, at, n);
            whole[n] = '/';
            memcpy(n == 0 ? whole : whole + n + 1, p->file, name + 1); // an empty one is the directory where we are
            ::execve(whole, p->argv, p->envp);
            if (errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG && told == ENOENT) told = errno;
            if (errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG && errno != EACCES && errno != ELOOP &&
                errno != ENODEV && errno != ESTALE && errno != ETIMEDOUT) return errno;
        } else if (told == ENOENT) {
            told = ENAMETOOLONG;
        }
        if (*end == '\0') return told;
        at = end;
    }
}

[[noreturn, gnu::noinline]] static void child_run(const spawn_plan *p) {
    int sources[SPAWN_FDS_MOST];
    int report = p->report;
    child_default_signals();
    if (static_cast<unsigned>(report) < p->fd_count) {
        const int moved = child_move(report, p->fd_count);
        if (moved < 0) child_fails(p, report, SPAWN_STDIO, -moved);
        report = moved;
    }
    if (p->detached && ::setsid() < 0) child_fails(p, report, SPAWN_SESSION, errno);
    int error = child_set_ids(p);
    if (error != 0) child_fails(p, report, SPAWN_IDS, error);
    if (p->cwd != nullptr && ::chdir(p->cwd) != 0) child_fails(p, report, SPAWN_DIRECTORY, errno);
    for (unsigned i = 0; i < p->fd_count; i++) {
        if (p->fds[i].kind != spawn_fd_kind::copy) continue;
        sources[i] = p->fds[i].fd;
        if (static_cast<unsigned>(sources[i]) >= p->fd_count || sources[i] == static_cast<int>(i)) continue;
        sources[i] = child_move(sources[i], p->fd_count);
        if (sources[i] < 0) child_fails(p, report, SPAWN_STDIO, -sources[i]);
    }
    error = child_place_all(p, sources);
    if (error < 0) child_fails(p, report, SPAWN_STDIO, -error);
    child_close_rest(static_cast<int>(p->fd_count));
    sigset_t none;
    sigemptyset(&none);
    (void)::sigprocmask(SIG_SETMASK, &none, nullptr);
    if (p->path != nullptr) error = child_search(p);
    else error = ::execve(p->file, p->argv, p->envp) < 0 ? errno : 0;
    child_fails(p, report, SPAWN_EXEC, error);
}

static bool parent_may_wait(const spawn_plan *p) {
#ifdef MIO_NO_VFORK
    (void)p;
    return false;
#else
    if (p->set_uid || p->set_gid || p->set_groups) return false;
    for (unsigned i = 0; i < p->fd_count; i++)
        if (p->fds[i].kind == spawn_fd_kind::file) return false;
    return true;
#endif
}

// 1 once a child of vfork's has been in this memory.
static std::atomic<int> memory_is_shared{0};

bool spawn_is_seen(const spawn_plan *plan) {
    return parent_may_wait(plan) && memory_is_shared.load(std::memory_order_relaxed) != 0;
}

int64_t spawn_max_rss(const struct rusage *usage) {
#ifdef __APPLE__
    return static_cast<int64_t>(usage->ru_maxrss);
#else
    return static_cast<int64_t>(usage->ru_maxrss) * 1024;
#endif
}

int spawn_process(const spawn_plan *plan) {
    sigset_t all, before;
    sigfillset(&all);
    const int refused = ::pthread_sigmask(SIG_SETMASK, &all, &before);
    if (refused != 0) return -refused;
    // A child that is cancelled would unwind the stack of its parent. It never goes back; the parent alone restores.
    int cancellable;
    (void)::pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancellable);
    const bool waits = parent_may_wait(plan);
    const pid_t child = waits ? ::vfork() : ::fork();
    if (child == 0) {
        if (waits) memory_is_shared.store(1, std::memory_order_relaxed);
        child_run(plan);
    }
    const int result = negated(child);
    (void)::pthread_setcancelstate(cancellable, nullptr);
    (void)::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return result;
}

}
