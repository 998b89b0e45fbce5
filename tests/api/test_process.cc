// Processes: what a child is given, and what is told of its end.
#include "children.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace api;

#define PROCESSES_ONLY()                                 \
    KERNEL_ONLY("a simulated world has no processes");   \
    if (fork_may_hang()) SKIP("ThreadSanitizer's fork beside the threads that wait for children may hang")

TEST(a_process_answers_each_mistake) {
    mio_loop_t *loop = loop_open();
    mio_process_t *process = nullptr;
    mio_process_options_t good = child_options("exit", "0"), bad = good;
    mio_stdio_t stdio[3] = {};
    auto never = [](mio_process_t *, const mio_process_exit_t *, void *) { ck_abort_msg("nobody was started"); };
    assert_is(mio_process_spawn(nullptr, &good, never, nullptr, &process), MIO_EINVAL);
    assert_is(mio_process_spawn(loop, nullptr, never, nullptr, &process), MIO_EINVAL);
    assert_is(mio_process_spawn(loop, &good, nullptr, nullptr, &process), MIO_EINVAL);
    assert_is(mio_process_spawn(loop, &good, never, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_process_pid(nullptr), 0);
    assert_is(mio_process_kill(nullptr, SIGTERM), MIO_EINVAL);
    ck_assert_ptr_null(mio_process_from(nullptr));
    if (on_sim()) {
        assert_is(mio_process_spawn(loop, &good, never, nullptr, &process), MIO_ENOTSUP);
        ck_assert_ptr_null(process);
        return;
    }
    loop_counting(loop)->fail_at = 1;
    assert_is(mio_process_spawn(loop, &good, never, nullptr, &process), MIO_ENOMEM);
    loop_counting(loop)->fail_at = 0;
    ck_assert_ptr_null(process);
    const auto refused = [&](int error) {
        assert_is(mio_process_spawn(loop, &bad, never, nullptr, &process), error);
        ck_assert_ptr_null(process);
        bad = good;
        memset(stdio, 0, sizeof stdio);
    };
    bad.file = nullptr;
    refused(MIO_EINVAL);
    bad.file = "";
    refused(MIO_EINVAL);
    bad.flags = 32;
    refused(MIO_EINVAL);
    bad.size = 0;
    refused(MIO_EINVAL);
    bad.stdio_count = 1;
    refused(MIO_EINVAL);
    bad.stdio = stdio;
    bad.stdio_count = MIO_STDIO_MAX + 1;
    refused(MIO_EINVAL);
    bad.stdio = stdio;
    bad.stdio_count = 2;
    stdio[0].kind = MIO_STDIO_STREAM; // made, and given back
    stdio[1].kind = static_cast<mio_stdio_kind>(5);
    refused(MIO_EINVAL);
    bad.stdio = stdio;
    bad.stdio_count = 3;
    stdio[1].kind = MIO_STDIO_STREAM;
    stdio[2].kind = MIO_STDIO_FILE;
    refused(MIO_EINVAL);
    const int wrong[] = {-1, 1000};
    for (int fd : wrong) {
        bad.stdio = stdio;
        bad.stdio_count = 1;
        stdio[0].kind = MIO_STDIO_FD;
        stdio[0].fd = fd;
        refused(MIO_EBADF);
    }
    bad.flags = MIO_PROCESS_GROUPS;
    bad.group_count = 1;
    refused(MIO_EINVAL);
    run_to_end(loop);
    assert_is(no_child_is_left(), 1);
}

TEST(how_a_child_ended_is_told) {
    PROCESSES_ONLY();
    mio_loop_t *loop = loop_open();
    offspring one;
    const char *statuses[] = {"0", "1", "127", "255"};
    for (const char *status : statuses) {
        mio_process_options_t options = child_options("exit", status);
        child_run(loop, &options, &one);
        assert_is(one.how.error, 0);
        assert_is(one.how.step, MIO_PROCESS_STEP_NONE);
        assert_is(one.how.status, atoi(status));
        assert_is(one.how.signal, 0);
        ck_assert_int_gt(one.how.max_rss, 4096);
    }
    char number[16];
    const int signals[] = {SIGKILL, SIGTERM, SIGSEGV, SIGUSR1};
    for (int with : signals) {
        snprintf(number, sizeof number, "%d", with);
        mio_process_options_t options = child_options("raise", number);
        child_run(loop, &options, &one);
        assert_is(one.how.error, 0);
        if (with == SIGSEGV && sanitized()) continue; // answered there
        assert_is(one.how.status, -1);
        assert_is(one.how.signal, with);
        assert_is(one.how.core_dumped, 0);
    }
    mio_process_options_t options = child_options("spin");
    child_run(loop, &options, &one);
    ck_assert_int_ge(one.how.user_ns, 5 * MIO_MILLISECOND);
    ck_assert_int_ge(one.how.minor_faults, 1);
    assert_is(no_child_is_left(), 1);
}

TEST(what_the_file_system_refuses_comes_by_the_callback) {
    PROCESSES_ONLY();
    mio_loop_t *loop = loop_open();
    offspring one;
    char folder[] = "/tmp/mio-process-XXXXXX", plain[64], program[64];
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(plain, sizeof plain, "%s/plain", folder);
    snprintf(program, sizeof program, "%s/program", folder);
    int fd = open(plain, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    close(fd);
    fd = open(program, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    assert_is(write(fd, "no program", 10), 10);
    close(fd);
    const auto fails = [&](const mio_process_options_t &options, int error, int step) {
        child_run(loop, &options, &one);
        ck_assert_msg(one.how.error == error && one.how.step == step, "%s %s: %s, step %d", options.file,
                      options.cwd != nullptr ? options.cwd : "", mio_error_name(one.how.error), one.how.step);
        assert_is(one.length, 0);
    };
    mio_process_options_t options = child_options("exit", "0");
    const char *files[] = {"/nonexistent/program", plain, program, folder, "nowhere-to-be-found"};
    const int errors[] = {MIO_ENOENT, MIO_EACCES, MIO_ENOEXEC, MIO_EACCES, MIO_ENOENT};
    for (int i = 0; i < 5; i++) {
        options.file = files[i];
        fails(options, errors[i], MIO_PROCESS_STEP_EXEC);
        options.flags = MIO_PROCESS_UID; // the same by a fork that does not wait
        options.uid = static_cast<uint32_t>(getuid());
        fails(options, errors[i], MIO_PROCESS_STEP_EXEC);
        options.flags = 0;
    }
    options = child_options("exit", "0");
    options.cwd = "/nonexistent";
    fails(options, MIO_ENOENT, MIO_PROCESS_STEP_DIRECTORY);
    options.cwd = plain;
    fails(options, -ENOTDIR, MIO_PROCESS_STEP_DIRECTORY);
    options.cwd = nullptr;
    mio_stdio_t stdio[3] = {};
    stdio[0].kind = MIO_STDIO_FILE;
    stdio[0].path = "/nonexistent";
    options.stdio = stdio;
    options.stdio_count = 3;
    fails(options, MIO_ENOENT, MIO_PROCESS_STEP_STDIO);
    if (getuid() != 0) {
        options = child_options("exit", "0");
        options.flags = MIO_PROCESS_UID;
        options.uid = 0;
        fails(options, MIO_EPERM, MIO_PROCESS_STEP_IDS);
    }
    unlink(plain);
    unlink(program);
    rmdir(folder);
    assert_is(no_child_is_left(), 1);
}

// --- descriptors ----------------------------------------------------------------------------------------------------

TEST(a_stream_goes_both_ways_and_ends) {
    PROCESSES_ONLY();
    mio_loop_t *loop = loop_open();
    static inbox back;
    memset(static_cast<void *>(&back), 0, sizeof back);
    back.stop_at_end = back.close_at_end = true;
    constexpr size_t ALL = 1 << 20;
    mio_stdio_t stdio[3] = {};
    stdio[0].kind = stdio[1].kind = MIO_STDIO_STREAM;
    mio_process_options_t options = child_options("cat");
    options.stdio = stdio;
    options.stdio_count = 3;
    offspring one;
    child_start(loop, &options, &one);
    ck_assert_ptr_nonnull(stdio[0].stream);
    ck_assert_ptr_null(stdio[2].stream);
    outcome shut = {}, written = {};
    mio_buf_t bytes = pattern_buf(loop, ALL, 0);
    ck_assert_int_gt(mio_stream_write(stdio[0].stream, &bytes, 1, write_told, &written), 0);
    ck_assert_int_gt(mio_stream_shutdown(stdio[0].stream, stream_told, &shut), 0);
    ck_assert_int_gt(mio_stream_read_start(stdio[1].stream, 0, read_into, &back), 0);
    run_to_stop(loop);
    ck_assert_uint_eq(back.received, ALL);
    assert_is(back.wrong, 0);
    assert_is(back.end, MIO_EOF);
    assert_is(written.status, 0);
    mio_handle_abandon(stdio[0].stream);
    run_to_end(loop);
    assert_is(one.calls, 1);
    assert_is(one.how.status, 0);
}

TEST(a_child_has_the_descriptors_that_it_was_given_and_no_other) {
    PROCESSES_ONLY();
    mio_loop_t *loop = loop_open();
    offspring one;
    mio_signal_t *noise;
    assert_is(mio_signal_create(loop, &noise), 0);
    int others[20];
    for (int &fd : others) {
        fd = open("/dev/null", O_RDONLY); // not closed on exec
        ck_assert_int_ge(fd, 0);
    }
    const int flags[] = {0, MIO_PROCESS_UID}; // by vfork and by fork
    for (int with : flags) {
        mio_process_options_t options = child_options("fds");
        options.flags = static_cast<unsigned>(with);
        options.uid = static_cast<uint32_t>(getuid());
        child_run(loop, &options, &one);
        ck_assert_str_eq(one.text, "0 1 2 ");
        mio_stdio_t stdio[8] = {};
        stdio[1].kind = MIO_STDIO_STREAM;
        stdio[5].kind = MIO_STDIO_FD;
        stdio[5].fd = others[3];
        stdio[7].kind = MIO_STDIO_FILE;
        stdio[7].path = "/dev/null";
        options = child_options("fds");
        options.flags = static_cast<unsigned>(with);
        options.uid = static_cast<uint32_t>(getuid());
        options.stdio = stdio;
        options.stdio_count = 8;
        child_run(loop, &options, &one);
        ck_assert_str_eq(one.text, "0 1 2 5 7 ");
    }
    for (int fd : others) assert_is(close(fd), 0);
}

TEST(descriptors_come_to_their_places_in_whatever_order) {
    PROCESSES_ONLY();
    mio_loop_t *loop = loop_open();
    // Pipes, each with a letter in it; the child has the same ones at the same numbers, in another order.
    constexpr int COUNT = 7;
    int at[COUNT];
    mio_stdio_t stdio[MIO_STDIO_MAX] = {};
    unsigned most = 0;
    for (int i = 0; i < COUNT; i++) {
        int ends[2];
        const char letter = static_cast<char>('a' + i);
        assert_is(pipe2(ends, O_CLOEXEC), 0);
        assert_is(write(ends[1], &letter, 1), 1);
        close(ends[1]);
        at[i] = ends[0];
        ck_assert_int_lt(at[i], MIO_STDIO_MAX);
        if (static_cast<unsigned>(at[i]) > most) most = static_cast<unsigned>(at[i]);
    }
    stdio[1].kind = MIO_STDIO_STREAM;
    for (int i = 0; i < COUNT; i++) {
        stdio[at[i]].kind = MIO_STDIO_FD;
        stdio[at[i]].fd = at[(i * 3 + 1) % COUNT]; // one of them in its place
    }
    for (int i = 0; i < COUNT; i++) { // one child for each: a letter is read once
        char number[8];
        offspring one;
        snprintf(number, sizeof number, "%d", at[i]);
        mio_process_options_t options = child_options("cat-from", number);
        options.stdio = stdio;
        options.stdio_count = most + 1;
        child_run(loop, &options, &one);
        assert_is(one.how.status, 0);
        const char letter[] = {static_cast<char>('a' + (i * 3 + 1) % COUNT), 0};
        ck_assert_str_eq(one.text, letter);
    }
    for (int fd : at) assert_is(close(fd), 0);
}

TEST(files_inheritance_and_nothing_become_descriptors) {
    PROCESSES_ONLY();
    mio_loop_t *loop = loop_open();
    offspring one;
    char path[] = "/tmp/mio-process-XXXXXX";
    const int fd = mkostemp(path, O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    mio_stdio_t stdio[3] = {};
    stdio[1].kind = MIO_STDIO_FILE;
    stdio[1].path = path;
    stdio[1].flags = O_WRONLY | O_APPEND;
    stdio[2].kind = MIO_STDIO_INHERIT;
    mio_process_options_t options = child_options("args", "to the file");
    options.stdio = stdio;
    options.stdio_count = 3;
    child_run(loop, &options, &one);
    child_run(loop, &options, &one);
    char text[64] = "";
    assert_is(pread(fd, text, sizeof text, 0), 24);
    ck_assert_str_eq(text, "to the file|to the file|");
    memset(stdio, 0, sizeof stdio);
    stdio[0].kind = MIO_STDIO_FILE;
    stdio[0].path = path;
    stdio[1].kind = MIO_STDIO_STREAM;
    options = child_options("cat");
    options.stdio = stdio;
    options.stdio_count = 2;
    child_run(loop, &options, &one);
    ck_assert_str_eq(one.text, text);
    options = child_options("cat"); // descriptor 0 is /dev/null
    child_run(loop, &options, &one);
    assert_is(one.length, 0);
    assert_is(one.how.status, 0);
    close(fd);
    unlink(path);
}

// --- the rest of it -------------------------------------------------------------------------------------------------

TEST(signals_are_at_their_defaults_in_a_child) {
    PROCESSES_ONLY();
    mio_loop_t *loop = loop_open();
    offspring one;
    mio_signal_t *watched;
    assert_is(mio_signal_create(loop, &watched), 0);
    ck_assert_int_gt(mio_signal_start(watched, SIGUSR2, 0, [](mio_signal_t *, int64_t, void *) {}, nullptr), 0);
    sigset_t some;
    sigemptyset(&some);
    sigaddset(&some, SIGUSR1);
    sigaddset(&some, SIGTERM);
    assert_is(sigprocmask(SIG_BLOCK, &some, nullptr), 0);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    const int flags[] = {0, MIO_PROCESS_UID};
    for (int with : flags) {
        mio_process_options_t options = child_options("signals");
        options.flags = static_cast<unsigned>(with);
        options.uid = static_cast<uint32_t>(getuid());
        child_run(loop, &options, &one);
        ck_assert_str_eq(one.text, sanitized() ? one.text : "0 blocked, 0 not default");
        assert_is(strncmp(one.text, "0 blocked", 9), 0);
    }
    sigset_t now;
    assert_is(sigprocmask(SIG_SETMASK, nullptr, &now), 0);
    assert_is(sigismember(&now, SIGUSR1) == 1 && sigismember(&now, SIGHUP) == 0, 1); // of this process as before
    assert_is(signal(SIGHUP, SIG_DFL) == SIG_IGN, 1);
}

TEST(arguments_environment_directory_and_session_are_as_asked) {
    PROCESSES_ONLY();
    mio_loop_t *loop = loop_open();
    offspring one;
    const char *arguments[] = {"mio-child", "args", "one", "", "two words", nullptr};
    mio_process_options_t options = child_options("args");
    options.argv = arguments;
    child_run(loop, &options, &one);
    ck_assert_str_eq(one.text, "one||two words|");
    setenv("MIO_TEST_INHERITED", "from the parent", 1);
    options = child_options("env", "MIO_TEST_INHERITED");
    child_run(loop, &options, &one);
    ck_assert_str_eq(one.text, "from the parent");
    const char *own[] = {"MIO_TEST_OWN=of its own", nullptr};
    options.envp = own;
    child_run(loop, &options, &one);
    ck_assert_str_eq(one.text, "(none)");
    options = child_options("env", "MIO_TEST_OWN");
    options.envp = own;
    child_run(loop, &options, &one);
    ck_assert_str_eq(one.text, "of its own");
    options = child_options("pwd");
    options.cwd = "/";
    child_run(loop, &options, &one);
    ck_assert_str_eq(one.text, "/");
    options = child_options("session");
    child_run(loop, &options, &one);
    ck_assert_str_eq(one.text, "its parent's");
    options.flags = MIO_PROCESS_DETACHED;
    child_run(loop, &options, &one);
    ck_assert_str_eq(one.text, "its own");
}

TEST(ids_are_as_asked) {
    PROCESSES_ONLY();
    mio_loop_t *loop = loop_open();
    if (getuid() != 0) SKIP("needs to be root");
    offspring one;
    mio_process_options_t options = child_options("ids");
    options.file = "/proc/self/fd/9"; // root's folders are nobody else's to look into
    mio_stdio_t stdio[10] = {};
    stdio[9].kind = MIO_STDIO_FD;
    stdio[9].fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    options.stdio = stdio;
    options.stdio_count = 10;
    options.flags = MIO_PROCESS_UID | MIO_PROCESS_GID;
    options.uid = 12345;
    options.gid = 54321;
    child_run(loop, &options, &one);
    assert_is(one.how.error, 0);
    ck_assert_str_eq(one.text, "12345 12345 54321 54321, 0 groups");
    const uint32_t groups[] = {11, 12, 13};
    options.flags |= MIO_PROCESS_GROUPS;
    options.groups = groups;
    options.group_count = 3;
    stdio[1].kind = MIO_STDIO_IGNORE;
    child_run(loop, &options, &one);
    ck_assert_str_eq(one.text, "12345 12345 54321 54321, 3 groups");
    close(stdio[9].fd);
}

TEST(a_plain_name_is_looked_for_in_the_path) {
    PROCESSES_ONLY();
    mio_loop_t *loop = loop_open();
    offspring one;
    char folder[] = "/tmp/mio-process-XXXXXX", exe[4096], place[4200], path[200];
    ck_assert_ptr_nonnull(mkdtemp(folder));
    const ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    ck_assert_int_gt(n, 0);
    exe[n] = 0;
    snprintf(place, sizeof place, "%s/a", folder);
    assert_is(mkdir(place, 0755), 0);
    snprintf(place, sizeof place, "%s/b", folder);
    assert_is(mkdir(place, 0755), 0);
    snprintf(place, sizeof place, "%s/b/mio-searched", folder);
    assert_is(symlink(exe, place), 0);
    snprintf(path, sizeof path, "PATH=%s/none:%s/a:%s/b", folder, folder, folder);
    const char *own[] = {path, nullptr};
    mio_process_options_t options = child_options("exit", "7");
    options.file = "mio-searched";
    options.envp = own;
    child_run(loop, &options, &one);
    assert_is(one.how.error, MIO_ENOENT); // it is not asked for
    options.flags = MIO_PROCESS_PATH;
    child_run(loop, &options, &one);
    assert_is(one.how.error, 0);
    assert_is(one.how.status, 7);
    char found[4200]; // one that is there but no program, and no other: that is told
    snprintf(found, sizeof found, "%s/a/mio-plain", folder);
    close(open(found, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    options.file = "mio-plain";
    child_run(loop, &options, &one);
    assert_is(one.how.error, MIO_EACCES);
    options.file = "mio-nowhere";
    child_run(loop, &options, &one);
    assert_is(one.how.error, MIO_ENOENT);
    setenv("PATH", path + 5, 1); // this process'
    options.envp = nullptr;
    options.file = "mio-searched";
    child_run(loop, &options, &one);
    assert_is(one.how.status, 7);
    const char *rest[] = {"/a/mio-plain", "/b/mio-searched", "/a", "/b", ""};
    for (const char *name : rest) {
        snprintf(place, sizeof place, "%s%s", folder, name);
        assert_is(remove(place), 0);
    }
}
