// The part of the real table for what is no socket: names in the file system, pipes, terminals.
//
// write(2) on a pipe that nobody reads raises SIGPIPE, and no flag of an open file says otherwise. Where the call itself
// cannot be told (RWF_NOSIGNAL), the signal is blocked around it; one that it raised is pending for this thread then, and
// is taken back. One that was pending before is the program's and stays.
#include "base/sys_platform.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

namespace mio {

int sys_open(const char *path, int flags, unsigned mode) { return negated(::open(path, flags, mode)); }
int sys_unlink(const char *path) { return negated(::unlink(path)); }
int sys_chmod(const char *path, unsigned mode) { return negated(::chmod(path, static_cast<mode_t>(mode))); }

int sys_lstat_mode(const char *path) {
    struct stat about;
    return ::lstat(path, &about) < 0 ? -errno : static_cast<int>(about.st_mode);
}

int sys_facts(int fd, struct fd_facts *out) {
    struct stat about;
    if (::fstat(fd, &about) < 0) return -errno;
    const int status = ::fcntl(fd, F_GETFL);
    if (status < 0) return -errno;
    *out = fd_facts{static_cast<unsigned>(about.st_mode), status, S_ISCHR(about.st_mode) && ::isatty(fd) == 1,
                    static_cast<uint64_t>(about.st_rdev)};
    return 0;
}

int sys_set_status(int fd, int flags) { return negated(::fcntl(fd, F_SETFL, flags)); }

// --- writes without SIGPIPE -----------------------------------------------------------------------------------------

static bool pipe_signal_is_pending() {
    sigset_t pending;
    return sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1;
}

ssize_t sys_write_masked(int fd, const struct iovec *pieces, unsigned n, bool nowait) {
    sigset_t only, before;
    sigemptyset(&only);
    sigaddset(&only, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &only, &before);
    const bool was_blocked = sigismember(&before, SIGPIPE) == 1;
    const bool was_pending = was_blocked && pipe_signal_is_pending(); // unblocked it would have been delivered
    const ssize_t written = sys_write_once(fd, pieces, n, nowait, false);
    if (written == -EPIPE && !was_pending && pipe_signal_is_pending()) {
        int taken;
        (void)sigwait(&only, &taken);
    }
    if (!was_blocked) pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return written;
}

ssize_t sys_write_quiet(int fd, const struct iovec *pieces, unsigned n, bool nowait) {
    const ssize_t written = sys_write_once(fd, pieces, n, nowait, true);
    return written == -EOPNOTSUPP ? sys_write_masked(fd, pieces, n, nowait) : written;
}

// --- terminals ------------------------------------------------------------------------------------------------------

int sys_tty_get(int fd, struct termios *out) { return negated(::tcgetattr(fd, out)); }
int sys_tty_set(int fd, const struct termios *modes) { return negated(::tcsetattr(fd, TCSANOW, modes)); }
int sys_tty_size(int fd, struct winsize *out) { return negated(::ioctl(fd, TIOCGWINSZ, out)); }

}
