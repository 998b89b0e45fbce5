// Terminals, on pseudo terminals: read and written without waiting, raw and back, and as they were whatever happens.
#include "await.h"

#include <errno.h>
#include <fcntl.h>
#include <initializer_list>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

using namespace api;

namespace {

struct terminal {
    int master, slave;
};

#define TERMINALS_ONLY KERNEL_ONLY("a simulated world has no terminals")

terminal terminal_open() {
    terminal t;
    t.master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC); // posix_openpt(3)
    ck_assert_int_ge(t.master, 0);
    assert_is(grantpt(t.master), 0);
    assert_is(unlockpt(t.master), 0);
    t.slave = open(ptsname(t.master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    ck_assert_int_ge(t.slave, 0);
    return t;
}

bool is_raw(int fd) {
    struct termios now;
    assert_is(tcgetattr(fd, &now), 0);
    return (now.c_lflag & (ICANON | ECHO)) == 0;
}

}

TEST(terminals_answer_each_mistake) {
    mio_loop_t *loop = loop_open();
    unsigned columns = 7, rows = 7;
    assert_is(mio_tty_set_mode(nullptr, MIO_TTY_RAW), MIO_EINVAL);
    assert_is(mio_tty_size(nullptr, &columns, &rows), MIO_EINVAL);
    pair tcp = connect_pair(loop);
    assert_is(mio_tty_set_mode(tcp.client, MIO_TTY_RAW), MIO_ENOTTY);
    assert_is(mio_tty_size(tcp.client, &columns, &rows), MIO_ENOTTY);
    mio_stream_t *reader, *writer;
    assert_is(mio_pipe_open(loop, &reader, &writer), 0);
    assert_is(mio_tty_set_mode(reader, MIO_TTY_RAW), MIO_ENOTTY);
    assert_is(mio_tty_set_mode(reader, MIO_TTY_NORMAL), MIO_ENOTTY);
    assert_is(mio_tty_size(reader, &columns, &rows), MIO_ENOTTY);
    assert_is(columns, 7);
    assert_is(mio_handle_close(reader, nullptr, nullptr), 0);
    assert_is(mio_tty_set_mode(reader, MIO_TTY_RAW), MIO_EBADF);
    mio_tty_reset(); // nothing to do
}

TEST(a_terminal_is_read_by_lines_and_raw_by_keys) {
    TERMINALS_ONLY;
    mio_loop_t *loop = loop_open();
    terminal t = terminal_open();
    mio_stream_t *tty = nullptr;
    assert_is(mio_pipe_adopt(loop, t.slave, &tty), 0);
    assert_is(mio_tty_set_mode(tty, static_cast<enum mio_tty_mode>(5)), MIO_EINVAL);
    inbox in = {};
    in.is_text = true;
    ck_assert_int_gt(mio_stream_read_start(tty, 0, read_into, &in), 0);
    assert_is(write(t.master, "half", 4), 4);
    run_for(loop, 5 * MIO_MILLISECOND);
    assert_is(in.received, 0); // a line is not complete
    in.stop_at = 9;
    assert_is(write(t.master, " and\n", 5), 5);
    run_to_stop(loop);
    ck_assert_str_eq(in.text, "half and\n");
    assert_is(mio_tty_set_mode(tty, MIO_TTY_RAW), 0);
    assert_is(mio_tty_set_mode(tty, MIO_TTY_RAW), 0);
    ck_assert(is_raw(t.master));
    in.stop_at = 10;
    assert_is(write(t.master, "\003", 1), 1); // no signal, either
    run_to_stop(loop);
    assert_is(in.text[9], 3);
    assert_is(mio_tty_set_mode(tty, MIO_TTY_NORMAL), 0);
    ck_assert(!is_raw(t.master));
    assert_is(mio_tty_set_mode(tty, MIO_TTY_NORMAL), 0);
    assert_is(mio_stream_shutdown(tty, nullptr, nullptr), MIO_ENOTSUP);
    assert_is(close(t.master), 0);
}

TEST(a_terminal_that_nobody_reads_does_not_make_the_loop_wait) {
    TERMINALS_ONLY;
    mio_loop_t *loop = loop_open();
    terminal t = terminal_open();
    const int shared = dup(t.slave);
    mio_stream_t *tty = nullptr;
    assert_is(mio_pipe_adopt(loop, t.slave, &tty), 0);
    outcome told = {};
    mio_buf_t bytes = pattern_buf(loop, 1 << 20, 0);
    for (size_t i = 0; i < bytes.len; i++) bytes.base[i] = 'a';
    ck_assert_int_gt(mio_stream_write(tty, &bytes, 1, write_told, &told), 0);
    run_for(loop, 5 * MIO_MILLISECOND);
    assert_is(told.calls, 0);
    assert_is(fcntl(shared, F_GETFL) & O_NONBLOCK, 0); // its open file is another one
    size_t got = 0;
    char piece[65536];
    for (int i = 0; i < 100000 && got < (1u << 20); i++) {
        assert_is(fcntl(t.master, F_SETFL, O_NONBLOCK), 0);
        for (ssize_t n; (n = read(t.master, piece, sizeof piece)) > 0;) got += static_cast<size_t>(n);
        assert_ok(mio_loop_run_once(loop, MIO_MILLISECOND));
    }
    assert_is(got, 1 << 20);
    ck_assert(comes(loop, [&] { return told.calls != 0; }));
    assert_is(told.status, 0);
    assert_is(close(shared), 0);
    assert_is(close(t.master), 0);
}

TEST(the_master_of_a_terminal_is_a_stream_and_its_open_file_is_put_back) {
    TERMINALS_ONLY;
    mio_loop_t *loop = loop_open();
    terminal t = terminal_open();
    const int shared = dup(t.master);
    mio_stream_t *master = nullptr;
    assert_is(mio_pipe_adopt(loop, t.master, &master), 0);
    assert_is(mio_stream_fd(master), t.master); // not opened anew: that would be another pair
    inbox in = {};
    in.is_text = true;
    in.stop_at = 7;
    ck_assert_int_gt(mio_stream_read_start(master, 0, read_into, &in), 0);
    assert_is(write(t.slave, "prompt>", 7), 7);
    run_to_stop(loop);
    ck_assert_str_eq(in.text, "prompt>");
    mio_buf_t line = text_buf(loop, "typed\n");
    ck_assert_int_gt(mio_stream_write(master, &line, 1, nullptr, nullptr), 0);
    run_for(loop, MIO_MILLISECOND);
    char got[20] = {};
    assert_is(read(t.slave, got, sizeof got), 6);
    ck_assert_str_eq(got, "typed\n");
    ck_assert_int_ne(fcntl(shared, F_GETFL) & O_NONBLOCK, 0);
    mio_tty_reset(); // as a handler of SIGTERM would
    assert_is(fcntl(shared, F_GETFL) & O_NONBLOCK, 0);
    assert_is(fcntl(shared, F_SETFL, O_RDWR | O_NONBLOCK), 0);
    assert_is(mio_stream_move(master, mio_loop_remote(loop), [](mio_loop_t *, int, mio_stream_t *, void *) {}, nullptr), MIO_ENOTSUP);
    assert_is(mio_handle_close(master, nullptr, nullptr), 0);
    run_for(loop, MIO_MILLISECOND);
    assert_is(fcntl(shared, F_GETFL) & O_NONBLOCK, 0);
    assert_is(close(shared), 0);
    assert_is(close(t.slave), 0);
}

// Of what is put back only O_NONBLOCK was changed here: the rest is as the program has it by now.
TEST(flags_of_an_open_file_that_the_program_sets_meanwhile_stay) {
    TERMINALS_ONLY;
    mio_loop_t *loop = loop_open();
    for (int how = 0; how < 2; how++) { // put back by a close, by mio_tty_reset
        terminal t = terminal_open();
        const int shared = dup(t.master);
        mio_stream_t *master = nullptr;
        assert_is(mio_pipe_adopt(loop, t.master, &master), 0);
        const int status = fcntl(shared, F_GETFL);
        ck_assert_int_ne(status & O_NONBLOCK, 0);
        assert_is(status & O_APPEND, 0);
        assert_is(fcntl(shared, F_SETFL, status | O_APPEND), 0);
        if (how == 1) mio_tty_reset();
        if (how == 1) assert_is(fcntl(shared, F_GETFL), (status | O_APPEND) & ~O_NONBLOCK);
        assert_is(mio_handle_close(master, nullptr, nullptr), 0);
        run_for(loop, MIO_MILLISECOND);
        assert_is(fcntl(shared, F_GETFL), (status | O_APPEND) & ~O_NONBLOCK);
        assert_is(close(shared), 0);
        assert_is(close(t.slave), 0);
    }
}

TEST(a_terminal_tells_its_size) {
    TERMINALS_ONLY;
    mio_loop_t *loop = loop_open();
    terminal t = terminal_open();
    mio_stream_t *tty = nullptr;
    assert_is(mio_pipe_adopt(loop, t.slave, &tty), 0);
    struct winsize size = {};
    size.ws_col = 132;
    size.ws_row = 43;
    assert_is(ioctl(t.master, TIOCSWINSZ, &size), 0);
    unsigned columns = 0, rows = 0;
    assert_is(mio_tty_size(tty, nullptr, &rows), MIO_EINVAL);
    assert_is(mio_tty_size(tty, &columns, &rows), 0);
    assert_is(columns, 132);
    assert_is(rows, 43);
    size.ws_col = 80;
    assert_is(ioctl(t.master, TIOCSWINSZ, &size), 0);
    assert_is(mio_tty_size(tty, &columns, &rows), 0);
    assert_is(columns, 80);
    assert_is(close(t.master), 0);
}

TEST(a_raw_terminal_is_put_back_by_close_abandon_detach_and_reset) {
    TERMINALS_ONLY;
    mio_loop_t *loop = loop_open();
    terminal t = terminal_open();
    for (int how = 0; how < 4; how++) {
        mio_stream_t *tty = nullptr;
        assert_is(mio_pipe_adopt(loop, dup(t.slave), &tty), 0);
        assert_is(mio_tty_set_mode(tty, MIO_TTY_RAW), 0);
        ck_assert(is_raw(t.slave));
        if (how == 0) assert_is(mio_handle_close(tty, nullptr, nullptr), 0);
        if (how == 1) mio_handle_abandon(tty);
        if (how == 2)
            ck_assert_int_gt(mio_stream_detach(tty, [](mio_stream_t *, int status, int fd, mio_buf_t *, unsigned, void *) {
                if (is_over()) return;
                assert_is(status, 0);
                assert_is(close(fd), 0);
            }, nullptr), 0);
        if (how == 3) mio_tty_reset();
        run_for(loop, MIO_MILLISECOND);
        ck_assert(!is_raw(t.slave));
        if (how == 3) mio_handle_abandon(tty);
    }
    assert_is(close(t.master), 0);
    assert_is(close(t.slave), 0);
}

TEST(two_streams_over_one_terminal_put_back_how_it_was_before_both) {
    TERMINALS_ONLY;
    mio_loop_t *loop = loop_open();
    terminal t = terminal_open(), other = terminal_open();
    mio_stream_t *a = nullptr, *b = nullptr, *apart = nullptr;
    assert_is(mio_pipe_adopt(loop, dup(t.slave), &a), 0);
    assert_is(mio_pipe_adopt(loop, dup(t.slave), &b), 0);
    assert_is(mio_pipe_adopt(loop, dup(other.slave), &apart), 0);
    assert_is(mio_tty_set_mode(a, MIO_TTY_RAW), 0);
    assert_is(mio_tty_set_mode(apart, MIO_TTY_RAW), 0);
    assert_is(mio_tty_set_mode(b, MIO_TTY_RAW), 0);
    assert_is(mio_handle_close(a, nullptr, nullptr), 0);
    run_for(loop, MIO_MILLISECOND);
    assert_is(mio_handle_close(b, nullptr, nullptr), 0);
    run_for(loop, MIO_MILLISECOND);
    ck_assert(!is_raw(t.slave));
    ck_assert(is_raw(other.slave));
    ck_assert_int_gt(mio_stream_detach(apart, [](mio_stream_t *, int, int fd, mio_buf_t *, unsigned, void *) {
        if (fd >= 0) close(fd);
    }, nullptr), 0);
    assert_is(mio_tty_set_mode(apart, MIO_TTY_NORMAL), MIO_EBUSY);
    run_for(loop, MIO_MILLISECOND);
    ck_assert(!is_raw(other.slave));
    for (int fd : {t.master, t.slave, other.master, other.slave}) assert_is(close(fd), 0);
}

TEST(a_raw_terminal_is_put_back_at_exit_but_not_by_a_child) {
    TERMINALS_ONLY;
    terminal t = terminal_open();
    fflush(nullptr);
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        mio_loop_options_t options = loop_options();
        mio_loop_t *loop = nullptr;
        mio_stream_t *tty = nullptr;
        if (mio_loop_create(&loop, &options) < 0 || mio_pipe_adopt(loop, t.slave, &tty) < 0) _exit(2);
        if (mio_tty_set_mode(tty, MIO_TTY_RAW) < 0) _exit(3);
        const pid_t grandchild = fork();
        if (grandchild == 0) {
            mio_tty_reset();
            _exit(is_raw(t.master) ? 0 : 1); // the parent's affair
        }
        int status = 0;
        if (waitpid(grandchild, &status, 0) != grandchild || status != 0) _exit(4);
        exit(7); // by a signal handler it would be mio_tty_reset
    }
    assert_is(child_status(child), 7);
    ck_assert(!is_raw(t.master));
    assert_is(close(t.master), 0);
    assert_is(close(t.slave), 0);
}

TEST(a_terminal_that_hangs_up_ends_its_reader) {
    TERMINALS_ONLY;
    mio_loop_t *loop = loop_open();
    terminal t = terminal_open();
    mio_stream_t *tty = nullptr;
    assert_is(mio_pipe_adopt(loop, t.slave, &tty), 0);
    assert_is(mio_tty_set_mode(tty, MIO_TTY_RAW), 0);
    inbox in = {};
    in.stop_at_end = true;
    ck_assert_int_gt(mio_stream_read_start(tty, 0, read_into, &in), 0);
    run_for(loop, MIO_MILLISECOND);
    assert_is(close(t.master), 0);
    run_to_stop(loop);
    ck_assert(in.end == MIO_EOF || in.end == MIO_EIO);
}
