// The real table against the kernel, then the tables that tests put in its place: they have to keep to what they say,
// or what is tested with them means nothing.
#include "support/cmocka.h"

#include "base/memory.h"
#include "base/sys.h"
#include "support/failing.h"
#include "support/leaks.h"
#include "support/scripted.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace mio;
using test::call;

static test::open_fds fds_before;

static int note_fds(void **) {
    test::open_fds_note(&fds_before);
    return 0;
}

static int check_fds(void **) { return test::open_fds_new(&fds_before); }

// --- the real one ---------------------------------------------------------------------------------------------------

static void test_errors_are_negated(void **) {
    char byte = 0;
    struct sockaddr_in addr = {};
    socklen_t len = sizeof(addr);
    auto *any = reinterpret_cast<struct sockaddr *>(&addr);
    struct msghdr message = {};
    struct epoll_event event = {};
    int value = 0;
    errno = 0;
    assert_int_equal(sys_real.socket(-1, 0, 0), -EAFNOSUPPORT);
    assert_int_equal(sys_real.bind(-1, any, len), -EBADF);
    assert_int_equal(sys_real.listen(-1, 1), -EBADF);
    assert_int_equal(sys_real.connect(-1, any, len), -EBADF);
    assert_int_equal(sys_real.accept4(-1, any, &len, 0), -EBADF);
    assert_int_equal(sys_real.shutdown(-1, SHUT_WR), -EBADF);
    assert_int_equal(sys_real.close(-1), -EBADF);
    assert_int_equal(sys_real.getsockname(-1, any, &len), -EBADF);
    assert_int_equal(sys_real.getpeername(-1, any, &len), -EBADF);
    len = sizeof(value);
    assert_int_equal(sys_real.getsockopt(-1, SOL_SOCKET, SO_ERROR, &value, &len), -EBADF);
    assert_int_equal(sys_real.setsockopt(-1, SOL_SOCKET, SO_REUSEADDR, &value, len), -EBADF);
    assert_int_equal(sys_real.dup_cloexec(-1), -EBADF);
    assert_int_equal(sys_real.set_cloexec(-1), -EBADF);
    assert_int_equal(sys_real.set_nonblocking(-1), -EBADF);
    assert_int_equal(sys_real.recv(-1, &byte, 1, 0), -EBADF);
    assert_int_equal(sys_real.recvmsg(-1, &message, 0), -EBADF);
    assert_int_equal(sys_real.send(-1, &byte, 1, MSG_NOSIGNAL), -EBADF);
    assert_int_equal(sys_real.sendmsg(-1, &message, MSG_NOSIGNAL), -EBADF);
    assert_int_equal(sys_real.read(-1, &byte, 1), -EBADF);
    assert_int_equal(sys_real.write(-1, &byte, 1), -EBADF);
    assert_int_equal(sys_real.eventfd(0, -1), -EINVAL);
    assert_int_equal(sys_real.epoll_create1(-1), -EINVAL);
    assert_int_equal(sys_real.epoll_ctl(-1, EPOLL_CTL_ADD, 0, &event), -EBADF);
    assert_int_equal(sys_real.epoll_wait_ns(-1, &event, 1, 0), -EBADF);
}

// Loopback is quick, but not instant.
static void wait_readable(int fd) {
    struct pollfd one = {fd, POLLIN, 0};
    assert_int_equal(poll(&one, 1, 20000), 1);
}

static void test_a_connection(void **) {
    const int listener = sys_real.socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(listener >= 0);
    struct sockaddr_in addr = {};
    addr.sin_family = AF_INET;
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t len = sizeof(addr);
    auto *any = reinterpret_cast<struct sockaddr *>(&addr);
    int one = 1;
    assert_int_equal(sys_real.setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
    assert_int_equal(sys_real.bind(listener, any, len), 0);
    assert_int_equal(sys_real.listen(listener, 5), 0);
    assert_int_equal(sys_real.getsockname(listener, any, &len), 0);
    assert_int_not_equal(addr.sin_port, 0);
    assert_int_equal(sys_real.set_cloexec(listener), 0);
    assert_int_equal(sys_real.set_nonblocking(listener), 0);
    assert_int_equal(sys_real.set_nonblocking(listener), 0);
    assert_int_equal(sys_real.accept4(listener, nullptr, nullptr, SOCK_CLOEXEC), -EAGAIN);

    const int client = sys_real.socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(sys_real.connect(client, any, len), 0);
    wait_readable(listener);
    const int server = sys_real.accept4(listener, any, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
    assert_true(server >= 0);
    char buf[16] = {};
    assert_int_equal(sys_real.recv(server, buf, sizeof(buf), MSG_DONTWAIT), -EAGAIN);
    assert_int_equal(sys_real.send(client, "abc", 3, MSG_NOSIGNAL), 3);
    wait_readable(server);
    assert_int_equal(sys_real.recv(server, buf, sizeof(buf), 0), 3);
    assert_memory_equal(buf, "abc", 3);

    struct iovec pieces[2] = {{const_cast<char *>("de"), 2}, {const_cast<char *>("fgh"), 3}};
    struct msghdr message = {};
    message.msg_iov = pieces;
    message.msg_iovlen = 2;
    assert_int_equal(sys_real.sendmsg(client, &message, MSG_NOSIGNAL), 5);
    struct iovec room = {buf, sizeof(buf)};
    message.msg_iov = &room;
    message.msg_iovlen = 1;
    wait_readable(server);
    assert_int_equal(sys_real.recvmsg(server, &message, 0), 5);
    assert_memory_equal(buf, "defgh", 5);

    len = sizeof(addr);
    assert_int_equal(sys_real.getpeername(client, any, &len), 0);
    int error = -1;
    len = sizeof(error);
    assert_int_equal(sys_real.getsockopt(client, SOL_SOCKET, SO_ERROR, &error, &len), 0);
    assert_int_equal(error, 0);
    const int copy = sys_real.dup_cloexec(client);
    assert_true(copy >= 0 && (fcntl(copy, F_GETFD) & FD_CLOEXEC) != 0);
    assert_int_equal(sys_real.close(copy), 0);
    assert_int_equal(sys_real.shutdown(client, SHUT_WR), 0);
    wait_readable(server);
    assert_int_equal(sys_real.recv(server, buf, sizeof(buf), 0), 0);
    assert_int_equal(sys_real.close(server), 0);
    assert_int_equal(sys_real.close(client), 0);
    assert_int_equal(sys_real.close(listener), 0);
}

static void test_waiting_for_events(void **) {
    const int epfd = sys_real.epoll_create1(EPOLL_CLOEXEC);
    const int fd = sys_real.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_true(epfd >= 0 && fd >= 0);
    struct epoll_event event = {};
    event.events = EPOLLIN;
    event.data.u64 = 0x123456789abcdef0u;
    assert_int_equal(sys_real.epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event), 0);
    struct epoll_event got = {};
    assert_int_equal(sys_real.epoll_wait_ns(epfd, &got, 1, 0), 0);

    static const int64_t waits_ns[] = {1, 300000, 1000000, 2500001};
    for (int64_t wait_ns : waits_ns) { // never shorter than asked
        const int64_t before_ns = sys_real.monotonic_ns();
        assert_int_equal(sys_real.epoll_wait_ns(epfd, &got, 1, wait_ns), 0);
        assert_true(sys_real.monotonic_ns() - before_ns >= wait_ns);
    }
    const uint64_t one = 1;
    uint64_t count = 0;
    assert_int_equal(sys_real.write(fd, &one, sizeof(one)), sizeof(one));
    static const int64_t forever_ns[] = {-1, INT64_MAX, INT64_MIN, INT64_C(1) << 40};
    for (int64_t wait_ns : forever_ns) {
        memset(&got, 0, sizeof(got));
        assert_int_equal(sys_real.epoll_wait_ns(epfd, &got, 1, wait_ns), 1);
        assert_true(got.data.u64 == 0x123456789abcdef0u && got.events == EPOLLIN);
    }
    assert_int_equal(sys_real.read(fd, &count, sizeof(count)), sizeof(count));
    assert_int_equal(sys_real.read(fd, &count, sizeof(count)), -EAGAIN);
    assert_int_equal(sys_real.close(fd), 0);
    assert_int_equal(sys_real.close(epfd), 0);
}

// In a child, whose kernel answers epoll_pwait2 with `error`: 0 all is well, 1 it is not, 2 no such filter here.
static int wait_without_pwait2(int error) {
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), // the number of the call
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_epoll_pwait2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof(program) / sizeof(program[0]), program};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return 2;
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) return 2;
    const int epfd = sys_real.epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {};
    static const int64_t waits_ns[] = {0, 1, 300000, 1000000, 1000001};
    for (int64_t wait_ns : waits_ns) {
        const int64_t before_ns = sys_real.monotonic_ns();
        if (sys_real.epoll_wait_ns(epfd, &event, 1, wait_ns) != 0) return 1;
        if (sys_real.monotonic_ns() - before_ns < wait_ns) return 1;
    }
    event.events = EPOLLOUT;
    const int fd = sys_real.eventfd(0, 0);
    if (sys_real.epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) != 0) return 1;
    static const int64_t forever_ns[] = {-1, INT64_MAX, INT64_C(1) << 60};
    for (int64_t wait_ns : forever_ns) {
        if (sys_real.epoll_wait_ns(epfd, &event, 1, wait_ns) != 1) return 1;
    }
    return 0;
}

static void test_waiting_where_a_sandbox_refuses(void **) {
    static const int errors[] = {ENOSYS, EPERM};
    for (int error : errors) {
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) _exit(wait_without_pwait2(error));
        int status = -1;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 2) {
            print_message("skip: no system call filters here\n");
            skip();
        }
        assert_int_equal(WEXITSTATUS(status), 0);
    }
}

static void test_memory(void **) {
    char *at = static_cast<char *>(sys_real.alloc(10));
    memcpy(at, "0123456789", 10);
    at = static_cast<char *>(sys_real.resize(at, 10, 100000));
    assert_memory_equal(at, "0123456789", 10);
    sys_real.release(at, 100000);
    sys_real.release(nullptr, 0);

    char *pages = static_cast<char *>(sys_real.map(8192));
    assert_non_null(pages);
    for (int i = 0; i < 8192; i++) assert_int_equal(pages[i], 0);
    memset(pages, 1, 8192);
    sys_real.unmap(pages, 8192);
    assert_null(sys_real.map(SIZE_MAX & ~size_t(4095)));

    memory mem = {};
    mem.calls = &sys_real;
    void *ptr = memory_resize(&mem, nullptr, 0, 10);
    ptr = memory_resize(&mem, ptr, 10, 20);
    memory_release(&mem, ptr, 20);
    memory_release(&mem, nullptr, 20);
    assert_int_equal(mem.count, 2);
}

static void test_a_child_reads_zeroes(void **) {
    auto *page = static_cast<volatile uint32_t *>(sys_real.map_wipe_on_fork(4096));
    assert_non_null(page);
    assert_int_equal(*page, 0);
    *page = 77;
    void *probe = sys_real.map(4096);
    if (madvise(probe, 4096, MADV_WIPEONFORK) != 0) {
        sys_real.unmap(probe, 4096);
        sys_real.unmap(const_cast<uint32_t *>(page), 4096);
        print_message("skip: this kernel has no MADV_WIPEONFORK\n");
        skip();
    }
    sys_real.unmap(probe, 4096);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(*page == 0 ? 0 : 1);
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(*page, 77);
    sys_real.unmap(const_cast<uint32_t *>(page), 4096);
}

static void test_the_clock_is_monotonic(void **) {
    int64_t before_ns = sys_real.monotonic_ns();
    assert_true(before_ns > 0);
    for (int i = 0; i < 1000; i++) {
        const int64_t now_ns = sys_real.monotonic_ns();
        assert_true(now_ns >= before_ns);
        before_ns = now_ns;
    }
}

// --- the failing one ------------------------------------------------------------------------------------------------

static void test_failing_fails_the_nth(void **) {
    const sys *calls = test::failing_open(&sys_real);
    test::failing_at(call::eventfd, 2, ENFILE);
    const int a = calls->eventfd(0, 0);
    assert_true(a >= 0);
    assert_false(test::failing_happened());
    assert_int_equal(calls->eventfd(0, 0), -ENFILE);
    assert_true(test::failing_happened());
    const int b = calls->eventfd(0, 0);
    assert_true(b >= 0);
    assert_int_equal(test::failing_count(call::eventfd), 3);

    test::failing_from(call::socket, 1, EMFILE);
    for (int i = 0; i < 5; i++) assert_int_equal(calls->socket(AF_INET, SOCK_STREAM, 0), -EMFILE);
    assert_int_equal(test::failing_count(call::socket), 5);

    test::failing_at(call::close, 1, EIO);
    assert_int_equal(calls->close(a), -EIO); // closed all the same
    assert_int_equal(calls->close(a), -EBADF);
    assert_int_equal(calls->close(b), 0);
    assert_int_equal(test::failing_close(), 0);
}

static void test_failing_fails_allocations_together(void **) {
    const sys *calls = test::failing_open(&sys_real);
    test::failing_allocation_at(3);
    void *a = calls->alloc(10);
    void *b = calls->map(4096);
    assert_non_null(a);
    assert_non_null(b);
    assert_null(calls->resize(a, 10, 20));
    assert_true(test::failing_what() == call::resize);
    assert_int_equal(test::failing_count_allocations(), 3);
    void *c = calls->map_wipe_on_fork(4096);
    assert_int_equal(test::failing_close(), 3);
    calls->release(a, 10);
    calls->unmap(b, 4096);
    calls->unmap(c, 4096);
    assert_int_equal(test::failing_close(), 0);
    test::failing_forget();
    assert_int_equal(test::failing_count_allocations(), 0);
}

static void test_failing_any(void **) {
    const sys *calls = test::failing_open(&sys_real);
    for (uint64_t n = 1;; n++) {
        test::failing_any_at(n);
        calls->monotonic_ns(); // not one that can fail
        int fd = calls->eventfd(0, EFD_NONBLOCK);
        if (fd < 0) assert_int_equal(fd, -EMFILE);
        else {
            uint64_t value = 1;
            const ssize_t written = calls->write(fd, &value, sizeof(value));
            assert_true(written == sizeof(value) || written == -EIO);
            const int closed = calls->close(fd);
            assert_true(closed == 0 || closed == -EIO);
        }
        if (!test::failing_happened()) {
            assert_int_equal(n, 4);
            break;
        }
    }
    assert_int_equal(test::failing_close(), 0);
}

// --- the scripted one -----------------------------------------------------------------------------------------------

static void test_scripted_defaults(void **) {
    const sys *calls = test::scripted_open(5000);
    assert_int_equal(calls->monotonic_ns(), 5000);
    const int fd = calls->socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(fd, test::SCRIPTED_FD_FIRST);
    assert_int_equal(calls->dup_cloexec(fd), fd + 1);
    char buf[8];
    assert_int_equal(calls->recv(fd, buf, sizeof(buf), 0), -EAGAIN);
    assert_int_equal(calls->accept4(fd, nullptr, nullptr, 0), -EAGAIN);
    assert_int_equal(calls->send(fd, "xyz", 3, MSG_NOSIGNAL), 3);
    size_t n = 0;
    assert_memory_equal(test::scripted_sent(fd, &n), "xyz", 3);
    assert_int_equal(n, 3);
    struct epoll_event event;
    assert_int_equal(calls->epoll_wait_ns(3, &event, 1, 700), 0);
    assert_int_equal(calls->monotonic_ns(), 5700);
    assert_int_equal(test::scripted_open_fds(), 2);
    assert_int_equal(calls->close(fd + 1), 0);
    assert_int_equal(calls->close(fd + 1), -EBADF);
    void *memory = calls->alloc(10);
    test::scripted_push(call::recv, fd, 0);
    assert_int_equal(test::scripted_close(), 3); // a descriptor, an allocation, a result
    calls->release(memory, 10);
    calls->close(fd);
    assert_int_equal(test::scripted_close(), 0);
}

static void move_clock(void *arg) { test::scripted_set_now_ns(*static_cast<int64_t *>(arg)); }

static void test_scripted_results(void **) {
    const sys *calls = test::scripted_open(0);
    test::scripted_push(call::recv, 7, -EINTR);
    test::scripted_push_data(call::recv, 8, "other", 5);
    test::scripted_push_data(call::recv, 7, "hello world", 11);
    test::scripted_push(call::recv, test::ANY_FD, 0);
    char buf[8] = {};
    assert_int_equal(calls->recv(7, buf, sizeof(buf), 0), -EINTR);
    assert_int_equal(calls->recv(7, buf, sizeof(buf), 0), 8);
    assert_memory_equal(buf, "hello wo", 8);
    assert_int_equal(calls->recv(7, buf, sizeof(buf), 0), 3);
    assert_memory_equal(buf, "rld", 3);
    assert_int_equal(calls->recv(7, buf, sizeof(buf), 0), 0);
    assert_int_equal(calls->recv(7, buf, sizeof(buf), 0), -EAGAIN);
    assert_int_equal(test::scripted_pending(call::recv), 1);
    assert_int_equal(calls->recv(8, buf, sizeof(buf), 0), 5);

    struct epoll_event events[2] = {};
    events[0].data.u64 = 1;
    events[1].data.u64 = 2;
    test::scripted_push_events(events, 2);
    struct epoll_event got[4];
    assert_int_equal(calls->epoll_wait_ns(3, got, 4, -1), 2);
    assert_true(got[1].data.u64 == 2);

    test::scripted_push(call::send, 7, 2);
    assert_int_equal(calls->send(7, "abc", 3, 0), 2);
    struct iovec pieces[2] = {{const_cast<char *>("c"), 1}, {const_cast<char *>("def"), 3}};
    struct msghdr message = {};
    message.msg_iov = pieces;
    message.msg_iovlen = 2;
    test::scripted_push(call::sendmsg, 7, 3);
    assert_int_equal(calls->sendmsg(7, &message, 0), 3);
    size_t n = 0;
    assert_memory_equal(test::scripted_sent(7, &n), "abcde", 5);
    assert_int_equal(n, 5);

    int64_t then_ns = 99;
    test::scripted_result result = {};
    result.value = -ECONNABORTED;
    result.effect = move_clock;
    result.arg = &then_ns;
    test::scripted_push_result(call::accept4, 9, &result);
    assert_int_equal(calls->accept4(9, nullptr, nullptr, 0), -ECONNABORTED);
    assert_int_equal(calls->monotonic_ns(), 99);

    test::scripted_push(call::alloc, -1, 0);
    assert_null(calls->alloc(5));
    assert_int_equal(test::scripted_count_fd(call::recv, 7), 5);
    assert_int_equal(test::scripted_count(call::recv), 6);
    assert_int_equal(test::scripted_last(call::sendmsg)->result, 3);
    assert_int_equal(test::scripted_last(call::sendmsg)->args[0], 4);
    assert_int_equal(test::scripted_log_at(0)->result, -EINTR);
    assert_null(test::scripted_last(call::bind));
    test::scripted_forget();
    assert_int_equal(test::scripted_log_size(), 0);
    assert_int_equal(test::scripted_close(), 0);
}

static void test_leaks_are_seen(void **) {
    test::open_fds before;
    test::open_fds_note(&before);
    assert_int_equal(test::open_fds_new(&before), 0);
    const int count = test::open_fds_count();
    const int fd = eventfd(0, 0);
    assert_int_equal(test::open_fds_count(), count + 1);
    assert_int_equal(test::open_fds_new(&before), 1);
    close(fd);
    assert_int_equal(test::open_fds_new(&before), 0);
}

#define sys_test(name) cmocka_unit_test_setup_teardown(name, note_fds, check_fds)

int main() {
    const struct CMUnitTest tests[] = {
        sys_test(test_errors_are_negated),
        sys_test(test_a_connection),
        sys_test(test_waiting_for_events),
        sys_test(test_waiting_where_a_sandbox_refuses),
        sys_test(test_memory),
        sys_test(test_a_child_reads_zeroes),
        sys_test(test_the_clock_is_monotonic),
        sys_test(test_failing_fails_the_nth),
        sys_test(test_failing_fails_allocations_together),
        sys_test(test_failing_any),
        sys_test(test_scripted_defaults),
        sys_test(test_scripted_results),
        sys_test(test_leaks_are_seen),
    };
    return cmocka_run_group_tests_name("sys", tests, nullptr, nullptr);
}
