// The real table's part for what is no socket: names, pipes, terminals. Writes to a pipe that nobody reads must not raise
// SIGPIPE, by either of the two ways to see to that, whatever the thread's mask and whatever is pending.
#include "support/cmocka.h"

#include "base/sys_files.h"
#include "base/sys_platform.h"
#include "support/leaks.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

using namespace mio;

static test::open_fds fds_before;
static int note_fds(void **) {
    test::open_fds_note(&fds_before);
    return 0;
}
static int check_fds(void **) { return test::open_fds_new(&fds_before); }

static void test_errors_are_negated(void **) {
    char byte = 0;
    struct iovec piece = {&byte, 1};
    fd_facts facts;
    struct termios modes = {};
    struct winsize size;
    assert_int_equal(sys_real.open("/none/none", O_RDONLY, 0), -ENOENT);
    assert_int_equal(sys_real.unlink("/none/none"), -ENOENT);
    assert_int_equal(sys_real.chmod("/none/none", 0600), -ENOENT);
    assert_int_equal(sys_real.lstat_mode("/none/none"), -ENOENT);
    assert_int_equal(sys_real.facts(-1, &facts), -EBADF);
    assert_int_equal(sys_real.set_status(-1, 0), -EBADF);
    assert_true(sys_real.reopen(-1) < 0);
    assert_int_equal(sys_real.read_nowait(-1, &byte, 1), -EBADF);
    assert_int_equal(sys_real.write_quiet(-1, &piece, 1, false), -EBADF);
    assert_int_equal(sys_real.write_quiet(-1, &piece, 1, true), -EBADF);
    assert_int_equal(sys_real.tty_get(-1, &modes), -EBADF);
    assert_int_equal(sys_real.tty_set(-1, &modes), -EBADF);
    assert_int_equal(sys_real.tty_size(-1, &size), -EBADF);
}

static void test_names(void **) {
    char folder[] = "/tmp/libmio-unit-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/file", folder);
    const int fd = sys_real.open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(sys_real.chmod(path, 0640), 0);
    assert_int_equal(sys_real.lstat_mode(path), S_IFREG | 0640);
    assert_int_equal(sys_real.unlink(path), 0);
    assert_int_equal(sys_real.lstat_mode(path), -ENOENT);
    assert_int_equal(rmdir(folder), 0);
}

// --- SIGPIPE --------------------------------------------------------------------------------------------------------

static volatile sig_atomic_t signals;

static void count_signals() {
    struct sigaction action = {};
    action.sa_handler = [](int) { signals = signals + 1; };
    sigaction(SIGPIPE, &action, nullptr);
    signals = 0;
}

static bool is_pending() {
    sigset_t pending;
    sigpending(&pending);
    return sigismember(&pending, SIGPIPE) == 1;
}

static void signals_block(bool on) {
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, SIGPIPE);
    pthread_sigmask(on ? SIG_BLOCK : SIG_UNBLOCK, &only, nullptr);
}

using writer = ssize_t (*)(int fd, const struct iovec *pieces, unsigned n, bool nowait);

static void quiet_in_every_state(writer write_to) {
    int ends[2];
    assert_int_equal(sys_real.pipe_cloexec(ends), 0);
    char bytes[] = "ab";
    const struct iovec pieces[] = {{bytes, 1}, {bytes + 1, 1}};
    assert_int_equal(write_to(ends[1], pieces, 2, false), 2);
    assert_int_equal(read(ends[0], bytes, 2), 2);
    assert_int_equal(close(ends[0]), 0);
    count_signals();
    assert_int_equal(write_to(ends[1], pieces, 2, false), -EPIPE);
    assert_int_equal(signals, 0);
    assert_false(is_pending());
    signals_block(true);
    assert_int_equal(write_to(ends[1], pieces, 2, false), -EPIPE);
    assert_false(is_pending());
    raise(SIGPIPE); // the program's own
    assert_int_equal(write_to(ends[1], pieces, 2, false), -EPIPE);
    assert_true(is_pending());
    signals_block(false);
    assert_int_equal(signals, 1);
    sigset_t now;
    pthread_sigmask(SIG_BLOCK, nullptr, &now);
    assert_int_equal(sigismember(&now, SIGPIPE), 0); // the mask is as it was
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(write_to(ends[1], pieces, 2, false), -EPIPE);
    signal(SIGPIPE, SIG_DFL);
    assert_int_equal(write_to(ends[1], pieces, 2, false), -EPIPE);
    assert_int_equal(close(ends[1]), 0);
}

static void test_a_write_raises_no_signal(void **) { quiet_in_every_state(sys_real.write_quiet); }
static void test_nor_where_the_call_does(void **) { quiet_in_every_state(sys_write_masked); }

// --- not waiting ----------------------------------------------------------------------------------------------------

static void test_a_waiting_pipe_is_asked_not_to(void **) {
    int ends[2];
    assert_int_equal(sys_real.pipe_cloexec(ends), 0);
    char byte;
    const ssize_t answer = sys_real.read_nowait(ends[0], &byte, 1);
    if (answer == -EAGAIN) { // else this kernel cannot, and says so
        static char much[1 << 20];
        const struct iovec piece = {much, sizeof much};
        const ssize_t written = sys_real.write_quiet(ends[1], &piece, 1, true);
        assert_true(written > 0 && written < static_cast<ssize_t>(sizeof much));
        assert_int_equal(sys_real.write_quiet(ends[1], &piece, 1, true), -EAGAIN);
        assert_int_equal(sys_real.read_nowait(ends[0], &byte, 1), 1);
    } else {
        assert_int_equal(answer, -EOPNOTSUPP);
    }
    fd_facts facts;
    assert_int_equal(sys_real.facts(ends[0], &facts), 0);
    assert_true(S_ISFIFO(facts.mode));
    assert_false(facts.tty);
    assert_int_equal(facts.status & (O_NONBLOCK | O_ACCMODE), O_RDONLY);
    assert_int_equal(sys_real.set_status(ends[0], facts.status | O_NONBLOCK), 0);
    assert_int_equal(sys_real.facts(ends[0], &facts), 0);
    assert_int_equal(facts.status & O_NONBLOCK, O_NONBLOCK);
    assert_int_equal(close(ends[0]), 0);
    assert_int_equal(close(ends[1]), 0);
}

static void test_a_disk_that_is_asked_itself_is_waited_for_by_others(void **) {
#ifdef O_DIRECT
    char path[] = "/tmp/libmio-unit-XXXXXX";
    const int made = mkstemp(path);
    assert_true(made >= 0);
    static char bytes[8192];
    assert_int_equal(write(made, bytes, sizeof bytes), static_cast<ssize_t>(sizeof bytes));
    const int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    assert_int_equal(unlink(path), 0);
    alignas(4096) static char room[4096];
    const struct iovec piece = {room, sizeof room};
    const ssize_t answer = sys_real.files->read_now(made, &piece, 1, 0);
    assert_true(answer == static_cast<ssize_t>(sizeof room) || answer == -EAGAIN || answer == -EOPNOTSUPP || answer == -ENOSYS);
    assert_int_equal(close(made), 0);
    if (fd < 0) skip(); // this file system has no such files
    const ssize_t direct = sys_real.files->read_now(fd, &piece, 1, 0);
    assert_int_equal(close(fd), 0);
    assert_true(direct == -EOPNOTSUPP || direct == -ENOSYS);
    assert_int_equal(sys_real.files->read_now(-1, &piece, 1, 0), answer == -ENOSYS ? -ENOSYS : -EBADF);
#else
    skip();
#endif
}

static void test_a_terminal_is_opened_anew_but_not_its_master(void **) {
    const int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(master >= 0);
    assert_int_equal(grantpt(master), 0);
    assert_int_equal(unlockpt(master), 0);
    const int slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(slave >= 0);
    assert_int_equal(sys_real.reopen(master), -ENOTSUP);
    const int again = sys_real.reopen(slave);
    assert_true(again >= 0 && again != slave);
    fd_facts facts;
    assert_int_equal(sys_real.facts(again, &facts), 0);
    assert_true(facts.tty);
    assert_int_equal(facts.status & O_NONBLOCK, O_NONBLOCK);
    assert_int_equal(fcntl(again, F_GETFD), FD_CLOEXEC);
    assert_int_equal(sys_real.facts(slave, &facts), 0);
    assert_int_equal(facts.status & O_NONBLOCK, 0); // that one is as it was
    struct stat one, other;
    assert_int_equal(fstat(slave, &one), 0);
    assert_int_equal(fstat(again, &other), 0);
    assert_int_equal(one.st_rdev, other.st_rdev);
    struct termios modes;
    struct winsize size;
    assert_int_equal(sys_real.tty_get(again, &modes), 0);
    assert_int_equal(sys_real.tty_set(again, &modes), 0);
    assert_int_equal(sys_real.tty_size(again, &size), 0);
    assert_int_equal(close(again), 0);
    assert_int_equal(close(slave), 0);
    assert_int_equal(close(master), 0);
}

#define file_test(name) cmocka_unit_test_setup_teardown(name, note_fds, check_fds)

int main() {
    const struct CMUnitTest tests[] = {
        file_test(test_errors_are_negated),
        file_test(test_names),
        file_test(test_a_write_raises_no_signal),
        file_test(test_nor_where_the_call_does),
        file_test(test_a_waiting_pipe_is_asked_not_to),
        file_test(test_a_disk_that_is_asked_itself_is_waited_for_by_others),
        file_test(test_a_terminal_is_opened_anew_but_not_its_master),
    };
    return cmocka_run_group_tests_name("sys_file", tests, nullptr, nullptr);
}
