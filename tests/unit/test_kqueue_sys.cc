// The real table's half for systems with kqueue (base/sys_bsd.cc), as it is where there is neither accept4 nor pipe2 nor a
// page that a fork wipes: what it makes up for those, on Linux.
#include "support/cmocka.h"

#include "base/socket.h"
#include "support/leaks.h"

#include <sys/event.h>

#include <fcntl.h>
#include <initializer_list>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace mio;

static const sys *const calls = &sys_real;
static test::open_fds before;

static int scene_open(void **) {
    test::open_fds_note(&before);
    return 0;
}

static int scene_close(void **) { return test::open_fds_new(&before) == 0 ? 0 : -1; }

static bool is_cloexec(int fd) { return (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0; }
static bool is_nonblocking(int fd) { return (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0; }

static void descriptors_get_the_flags_that_were_asked_for(void **) {
    for (int wanted = 0; wanted < 4; wanted++) {
        const int flags = ((wanted & 1) != 0 ? SOCK_CLOEXEC : 0) | ((wanted & 2) != 0 ? SOCK_NONBLOCK : 0);
        int pair[2];
        const int one = calls->socket(AF_INET, SOCK_STREAM | flags, IPPROTO_TCP);
        assert_true(one >= 0);
        assert_int_equal(calls->socketpair(AF_UNIX, SOCK_STREAM | flags, 0, pair), 0);
        for (const int fd : {one, pair[0], pair[1]}) {
            assert_int_equal(is_cloexec(fd), (wanted & 1) != 0);
            assert_int_equal(is_nonblocking(fd), (wanted & 2) != 0);
            assert_int_equal(calls->close(fd), 0);
        }
    }
    assert_int_equal(calls->socket(AF_INET, 99, 0), -EINVAL);
    int none[2];
    assert_int_equal(calls->socketpair(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0, none), -EOPNOTSUPP);
}

static void accepted_descriptors_too(void **) {
    const int listener = calls->socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in at = {};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t len = sizeof at;
    auto *any = reinterpret_cast<struct sockaddr *>(&at);
    assert_int_equal(calls->bind(listener, any, len), 0);
    assert_int_equal(calls->listen(listener, 4), 0);
    assert_int_equal(calls->getsockname(listener, any, &len), 0);
    assert_int_equal(calls->accept4(listener, nullptr, nullptr, SOCK_CLOEXEC), -EAGAIN);
    for (int wanted = 0; wanted < 2; wanted++) {
        const int client = calls->socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(calls->connect(client, any, len), 0);
        struct pollfd one = {listener, POLLIN, 0};
        assert_int_equal(poll(&one, 1, 20000), 1);
        const int accepted = calls->accept4(listener, nullptr, nullptr, wanted != 0 ? SOCK_CLOEXEC | SOCK_NONBLOCK : 0);
        assert_true(accepted >= 0);
        assert_int_equal(is_cloexec(accepted), wanted);
        assert_int_equal(is_nonblocking(accepted), wanted);
        calls->close(accepted);
        calls->close(client);
    }
    calls->close(listener);
}

static void pipes_and_queues_are_closed_on_exec(void **) {
    int ends[2];
    assert_int_equal(calls->pipe_cloexec(ends), 0);
    const int kq = calls->kqueue();
    for (const int fd : {ends[0], ends[1], kq}) {
        assert_true(fd >= 0 && is_cloexec(fd));
        assert_int_equal(calls->close(fd), 0);
    }
}

static int option(int fd, int name) {
    int value = -1;
    socklen_t len = sizeof value;
    const int error = calls->getsockopt(fd, SOL_SOCKET, name, &value, &len);
    assert_int_equal(len, sizeof value);
    return error < 0 ? error : value;
}

static void what_a_socket_is_is_found_out_without_asking_for_it(void **) {
    const struct {
        int domain, type, protocol;
    } kinds[] = {{AF_INET, SOCK_STREAM, IPPROTO_TCP}, {AF_INET6, SOCK_STREAM, IPPROTO_TCP}, {AF_UNIX, SOCK_STREAM, 0}};
    for (const auto &kind : kinds) {
        const int fd = calls->socket(kind.domain, kind.type, 0);
        if (fd == -EAFNOSUPPORT) continue; // a machine without IPv6
        assert_int_equal(option(fd, SO_DOMAIN), kind.domain);
        assert_int_equal(option(fd, SO_PROTOCOL), kind.protocol);
        assert_int_equal(option(fd, SO_TYPE), kind.type);
        calls->close(fd);
    }
    int ends[2];
    assert_int_equal(calls->pipe_cloexec(ends), 0);
    assert_int_equal(option(ends[0], SO_DOMAIN), -ENOTSOCK);
    assert_int_equal(option(ends[0], SO_PROTOCOL), -ENOTSOCK);
    calls->close(ends[0]);
    calls->close(ends[1]);
    assert_int_equal(option(ends[0], SO_PROTOCOL), -EBADF);
}

static void *pages_come_and_go(void *) {
    for (int i = 0; i < 2000; i++) {
        void *page = calls->map_wipe_on_fork(4096);
        if (page == nullptr) return &before;
        calls->unmap(page, 4096);
    }
    return nullptr;
}

// Past what a sanitizer does at the end: it would miss the threads that are not forked.
[[noreturn]] static void child_ends(int status) {
    syscall(SYS_exit_group, status);
    __builtin_unreachable();
}

static void a_fork_wipes_the_pages_that_are_there(void **) {
    int *pages[3];
    for (int *&page : pages) {
        page = static_cast<int *>(calls->map_wipe_on_fork(4096));
        assert_non_null(page);
        for (int i = 0; i < 1024; i++) assert_int_equal(page[i], 0);
        for (int i = 0; i < 1024; i++) page[i] = 7;
    }
    auto *ordinary = static_cast<int *>(calls->map(4096)); // as large, and not looked for in vain
    ordinary[0] = 7;
    calls->unmap(pages[1], 4096);
    pthread_t other;
    assert_int_equal(pthread_create(&other, nullptr, pages_come_and_go, nullptr), 0);
    for (int i = 0; i < 20; i++) {
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            for (int k = 0; k < 1024; k++)
                if (pages[0][k] != 0 || pages[2][k] != 0) child_ends(1);
            if (ordinary[0] != 7) child_ends(2);
            void *mine = calls->map_wipe_on_fork(4096); // the list is usable in the child
            if (mine == nullptr) child_ends(3);
            calls->unmap(mine, 4096);
            calls->unmap(pages[0], 4096);
            child_ends(0);
        }
        int status = -1;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
    }
    void *failed_there;
    pthread_join(other, &failed_there);
    assert_null(failed_there);
    assert_int_equal(pages[0][0], 7);
    assert_int_equal(pages[2][1023], 7);
    calls->unmap(pages[0], 4096);
    calls->unmap(pages[2], 4096);
    calls->unmap(ordinary, 4096);
}

static void errors_and_waits_of_kevent(void **) {
    struct kevent events[2];
    assert_int_equal(calls->kevent(0, nullptr, 0, events, 2, 0), -EBADF);
    const int kq = calls->kqueue();
    const int64_t begun_ns = calls->monotonic_ns();
    assert_int_equal(calls->kevent(kq, nullptr, 0, events, 2, 0), 0);
    assert_int_equal(calls->kevent(kq, nullptr, 0, events, 2, 1500000), 0);
    assert_true(calls->monotonic_ns() - begun_ns >= 1500000);
    struct kevent one;
    EV_SET(&one, 1, EVFILT_USER, EV_ADD, NOTE_TRIGGER, 0, 3);
    assert_int_equal(calls->kevent(kq, &one, 1, nullptr, 0, 0), 0);
    for (const int64_t timeout_ns : {INT64_C(-1), INT64_MAX, INT64_C(1000000000)}) // none is too long
        assert_int_equal(calls->kevent(kq, nullptr, 0, events, 2, timeout_ns), 1);
    assert_int_equal(calls->close(kq), 0);
}

static void what_only_linux_has_is_not_there(void **) {
    assert_int_equal(calls->eventfd(0, 0), -ENOSYS);
    assert_int_equal(calls->epoll_create1(0), -ENOSYS);
    assert_int_equal(calls->epoll_ctl(0, 0, 0, nullptr), -ENOSYS);
    assert_int_equal(calls->epoll_wait_ns(0, nullptr, 1, 0), -ENOSYS);
    assert_int_equal(calls->uring_setup(8, nullptr), -ENOSYS);
    assert_int_equal(calls->uring_enter(0, 0, 0, 0, nullptr, 0), -ENOSYS);
    assert_int_equal(calls->uring_register(0, 0, nullptr, 0), -ENOSYS);
    assert_null(calls->map_fd(0, 4096, 0));
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(descriptors_get_the_flags_that_were_asked_for, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(accepted_descriptors_too, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(pipes_and_queues_are_closed_on_exec, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(what_a_socket_is_is_found_out_without_asking_for_it, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(a_fork_wipes_the_pages_that_are_there, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(errors_and_waits_of_kevent, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(what_only_linux_has_is_not_there, scene_open, scene_close),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
