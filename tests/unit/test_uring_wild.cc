// Completions that no kernel should send. What names nobody is dropped; what names somebody is that one's result,
// whatever it is; what cannot be (bytes in a buffer that there is not) ends the program before it touches memory.
#include "support/ring_model_loop.h"

#if MIO_HAVE_URING

#include "support/random.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace test;

static conn a, b;
static ear e;

static int open_loop(void **) {
    const ring_world w = {};
    ring_loop_open(&w);
    for (conn *c : {&a, &b}) {
        conn_open(c);
        conn_read(c);
        c->echo = true;
    }
    ear_open(&e);
    turns(2);
    return 0;
}

static int close_loop(void **) {
    ring_loop_close();
    return 0;
}

static uint64_t token(unsigned op, unsigned sequence, uint32_t fd) {
    return static_cast<uint64_t>(op) << 56 | static_cast<uint64_t>(sequence & 0xffff) << 32 | fd;
}

static unsigned op_of(mio::uring_op op) { return static_cast<unsigned>(op); }

// All goes on as if nothing had been.
static unsigned rounds;
static void expect_unharmed() {
    const std::string word = std::to_string(rounds++) + ",";
    const size_t before = a.got.size();
    for (const conn *c : {&a, &b}) ring_model_receive(c->fd, word.data(), word.size());
    turns(2);
    for (const conn *c : {&a, &b}) {
        assert_string_equal(c->got.c_str() + (c == &a ? before : c->got.size() - word.size()), word.c_str());
        expect_sent(c, c->got);
        assert_int_equal(c->ends, 0);
    }
    const size_t accepted = e.streams.size();
    ring_model_accept(e.fd);
    turn();
    assert_int_equal(e.streams.size(), accepted + 1);
    assert_int_equal(e.errors.size(), 0);
}

static void post(uint64_t user_data, int32_t res, uint32_t flags) {
    ring_model_post_raw(ring, user_data, res, flags);
    if (ring_model_ready(ring) > 32) turn();
}

// --- dropped --------------------------------------------------------------------------------------------------------

static void test_unknown_classes(void **) {
    for (unsigned op = 0; op < 256; op++) {
        const bool known = op >= op_of(mio::uring_op::receive) && op <= op_of(mio::uring_op::cancel);
        if (known) continue;
        for (int32_t res : {0, 5, -ECANCELED, INT32_MIN, INT32_MAX}) {
            post(token(op, 1, static_cast<uint32_t>(a.fd)), res, 0);
            post(token(op, 1, static_cast<uint32_t>(a.fd)), res, IORING_CQE_F_MORE);
        }
    }
    turn();
    expect_unharmed();
}

static void test_wild_descriptors(void **) {
    for (unsigned op = 0; op <= op_of(mio::uring_op::cancel); op++) {
        const bool wakes = op == op_of(mio::uring_op::wake);
        for (uint32_t fd : {1u, 999u, 5999u, 1u << 20, 1u << 30, 0x7fffffffu, 0x80000000u, 0xffffffffu}) {
            for (int32_t res : {0, -EBADF, -ECANCELED, INT32_MIN}) {
                post(token(op, 0, fd), res, wakes ? IORING_CQE_F_MORE : 0);
                post(token(op, 0xffff, fd), res, IORING_CQE_F_MORE);
            }
        }
    }
    turn();
    expect_unharmed();
}

static void test_wrong_sequences(void **) {
    for (int fd : {a.fd, b.fd, e.fd}) {
        for (unsigned op = op_of(mio::uring_op::receive); op <= op_of(mio::uring_op::connect); op++) {
            for (unsigned sequence : {0u, 100u, 0x7fffu, 0xffffu}) {
                for (int32_t res : {0, -ENOBUFS, -ECANCELED, -EMFILE}) {
                    post(token(op, sequence, static_cast<uint32_t>(fd)), res, 0);
                    post(token(op, sequence, static_cast<uint32_t>(fd)), res, IORING_CQE_F_MORE);
                }
            }
        }
    }
    turns(2);
    expect_unharmed();
}

// The sequence of another operation on the same descriptor, or of none.
static void test_the_right_sequence_of_another_operation(void **) {
    for (int fd : {a.fd, e.fd}) {
        const uint8_t opcode = fd == a.fd ? IORING_OP_RECV : IORING_OP_ACCEPT;
        const auto sequence = static_cast<unsigned>(last_taken(opcode, fd)->user_data >> 32 & 0xffff);
        const auto right = static_cast<unsigned>(last_taken(opcode, fd)->user_data >> 56);
        for (unsigned op = 0; op <= op_of(mio::uring_op::cancel); op++) {
            if (op == right || op == op_of(mio::uring_op::wake)) continue;
            for (int32_t res : {0, -ECANCELED, -EPIPE}) {
                post(token(op, sequence, static_cast<uint32_t>(fd)), res, 0);
                post(token(op, sequence, static_cast<uint32_t>(fd)), res, IORING_CQE_F_MORE);
            }
        }
    }
    turns(2);
    expect_unharmed();
}

static void test_noise(void **) {
    random_source r = {11};
    for (int i = 0; i < 20000; i++) {
        uint64_t user_data = random_next(&r);
        if (i % 2 == 0) user_data &= 0xff00ffff00000fff; // descriptors that there may be
        if (i % 4 == 0) user_data = (user_data & 0x00ffffffffffffff) | (random_below(&r, 12) << 56);
        const auto op = static_cast<unsigned>(user_data >> 56);
        auto res = static_cast<int32_t>(random_next(&r));
        auto flags = static_cast<uint32_t>(random_next(&r));
        if (op == op_of(mio::uring_op::receive) && res > 0) res = -res;
        if (op == op_of(mio::uring_op::wake)) flags |= IORING_CQE_F_MORE;
        if (op == op_of(mio::uring_op::accept) && res >= 0) res = -1 - res;
        const auto fd = static_cast<int>(user_data);
        if (fd == a.fd || fd == b.fd || fd == e.fd) continue; // by chance it might be right
        post(user_data, res, flags);
    }
    turns(2);
    expect_unharmed();
}

// What a cancel says of itself is nobody's news.
static void test_answers_to_cancels_that_nobody_asked_for(void **) {
    for (int32_t res : {0, -ENOENT, -EALREADY, -EINVAL, 1})
        for (int fd : {a.fd, e.fd, 7, -1})
            post(token(op_of(mio::uring_op::cancel), 1, static_cast<uint32_t>(fd)), res, 0);
    turn();
    expect_unharmed();
}

// Accepted for a listener that is gone, or never was: nobody hears of it, and the descriptor does not stay open (what is
// left over is found when the model closes).
static void test_connections_for_nobody_are_closed(void **) {
    for (const int listener : {e.fd, a.fd, 999}) {
        const int fd = calls->socket(AF_INET, SOCK_STREAM, IPPROTO_TCP);
        post(token(op_of(mio::uring_op::accept), 0x7777, static_cast<uint32_t>(listener)), fd, 0);
    }
    turns(2);
    expect_unharmed();
}

static void test_false_wakes(void **) {
    for (int i = 0; i < 100; i++) post(token(op_of(mio::uring_op::wake), 0, 0), i, IORING_CQE_F_MORE);
    turn();
    expect_unharmed();
    post(token(op_of(mio::uring_op::wake), 3, 77), -EBADF, 0);
    turns(2);
    expect_unharmed();
}

// --- somebody's -----------------------------------------------------------------------------------------------------

static void test_results_that_are_no_errors_of_the_system(void **) {
    for (int32_t res : {-4095, -4097, -100000, INT32_MIN}) {
        conn c;
        conn_open(&c);
        conn_read(&c);
        turn();
        complete(IORING_OP_RECV, c.fd, res, 0);
        turns(2);
        assert_int_equal(c.ends, 1);
        assert_true(c.end < 0);
        conn_close(&c);
        turns(3);
        assert_int_equal(c.closes, 1);
    }
    expect_unharmed();
}

// --- impossible -----------------------------------------------------------------------------------------------------

static void bytes_in_no_buffer() { post(last_taken(IORING_OP_RECV, a.fd)->user_data, 5, 60000u << 16 | 1); }
static void more_bytes_than_a_buffer() { post(last_taken(IORING_OP_RECV, a.fd)->user_data, 65537, 1); }
static void stale_bytes_in_no_buffer() { post(token(op_of(mio::uring_op::receive), 9, 7), 5, 60000u << 16 | 1); }
static void a_buffer_used_twice() {
    for (int i = 0; i < 3; i++) post(last_taken(IORING_OP_RECV, a.fd)->user_data, 40000, IORING_CQE_F_BUF_MORE | 3);
}

static void test_what_cannot_be_ends_the_program(void **) {
    void (*const cases[])() = {bytes_in_no_buffer, more_bytes_than_a_buffer, stale_bytes_in_no_buffer,
                               a_buffer_used_twice};
    for (auto *one : cases) {
        fflush(nullptr);
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            signal(SIGABRT, SIG_DFL);
            const int nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);
            dup2(nothing, STDERR_FILENO);
            one();
            mio_loop_run_once(the_loop, 0);
            _exit(0);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    }
}

#define loop_test(name) cmocka_unit_test_setup_teardown(name, open_loop, close_loop)

int main() {
    const struct CMUnitTest tests[] = {
        loop_test(test_unknown_classes),
        loop_test(test_wild_descriptors),
        loop_test(test_wrong_sequences),
        loop_test(test_the_right_sequence_of_another_operation),
        loop_test(test_noise),
        loop_test(test_answers_to_cancels_that_nobody_asked_for),
        loop_test(test_connections_for_nobody_are_closed),
        loop_test(test_false_wakes),
        loop_test(test_results_that_are_no_errors_of_the_system),
        loop_test(test_what_cannot_be_ends_the_program),
    };
    return cmocka_run_group_tests_name("uring_wild", tests, nullptr, nullptr);
}

#else

int main() { return test::ring_tests_skipped("uring_wild"); }

#endif
