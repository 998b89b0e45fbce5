// The model of io_uring against what it is a model of: the same steps on a ring of this kernel and on one of the model
// must leave the same trace. Then what only the model can do: faults, late results, and tests that end in a message.
#include "support/cmocka.h"

#include "support/ring_model.h"

#if MIO_HAVE_URING

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

using namespace test;

constexpr uint32_t DEFER = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL;
constexpr unsigned EVENTS = IORING_ENTER_GETEVENTS;
constexpr unsigned EACH = 8; // bytes of a buffer

// A ring of either kernel, a socket with a ring of two buffers, and what happened so far.
struct driver {
    const mio::sys *calls;
    bool real;
    int ring, socket, peer;
    struct io_uring_params params;
    char *sq, *cq;
    struct io_uring_sqe *sqes;
    size_t sq_size, cq_size;
    unsigned tail;
    char *memory; // a page of the ring of buffers, a page of buffers
    struct io_uring_buf *bufs;
    std::string trace;
};

static void note(driver *d, const char *what, long value) {
    char line[64];
    snprintf(line, sizeof line, "%s %ld\n", what, value);
    d->trace += line;
}

static uint32_t *sq_word(const driver *d, unsigned offset) { return reinterpret_cast<uint32_t *>(d->sq + offset); }
static uint32_t *cq_word(const driver *d, unsigned offset) { return reinterpret_cast<uint32_t *>(d->cq + offset); }

static int ring_make(driver *d, unsigned entries, uint32_t flags, unsigned cq_entries) {
    d->params = io_uring_params();
    d->params.flags = flags | (cq_entries != 0 ? IORING_SETUP_CQSIZE : 0);
    d->params.cq_entries = cq_entries;
    d->ring = d->calls->uring_setup(entries, &d->params);
    if (d->ring < 0) return d->ring;
    const struct io_uring_params *p = &d->params;
    d->sq_size = p->sq_off.array + p->sq_entries * sizeof(uint32_t);
    d->cq_size = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
    const bool single = (p->features & IORING_FEAT_SINGLE_MMAP) != 0;
    if (single && d->sq_size < d->cq_size) d->sq_size = d->cq_size;
    d->sq = static_cast<char *>(d->calls->map_fd(d->ring, d->sq_size, IORING_OFF_SQ_RING));
    d->cq = single ? d->sq : static_cast<char *>(d->calls->map_fd(d->ring, d->cq_size, IORING_OFF_CQ_RING));
    void *sqes = d->calls->map_fd(d->ring, p->sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
    assert_true(d->sq != nullptr && d->cq != nullptr && sqes != nullptr);
    d->sqes = static_cast<struct io_uring_sqe *>(sqes);
    d->tail = 0;
    for (unsigned i = 0; i < p->sq_entries; i++) sq_word(d, p->sq_off.array)[i] = i;
    return 0;
}

static void ring_end(driver *d) {
    if (d->cq != d->sq) d->calls->unmap(d->cq, d->cq_size);
    d->calls->unmap(d->sq, d->sq_size);
    d->calls->unmap(d->sqes, d->params.sq_entries * sizeof(struct io_uring_sqe));
    assert_int_equal(d->calls->close(d->ring), 0);
}

static struct io_uring_sqe *entry(driver *d, uint64_t user_data) {
    struct io_uring_sqe *sqe = &d->sqes[d->tail++ & (d->params.sq_entries - 1)];
    memset(sqe, 0, sizeof *sqe);
    sqe->user_data = user_data;
    return sqe;
}

static int enter(driver *d, unsigned submit, unsigned wait, unsigned flags) {
    __atomic_store_n(sq_word(d, d->params.sq_off.tail), d->tail, __ATOMIC_RELEASE);
    return d->calls->uring_enter(d->ring, submit, wait, flags, nullptr, 0);
}

static int enter_for(driver *d, unsigned submit, unsigned wait, int64_t timeout_ns) {
    struct __kernel_timespec time = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    struct io_uring_getevents_arg arg = {};
    arg.ts = reinterpret_cast<uintptr_t>(&time);
    __atomic_store_n(sq_word(d, d->params.sq_off.tail), d->tail, __ATOMIC_RELEASE);
    return d->calls->uring_enter(d->ring, submit, wait, EVENTS | IORING_ENTER_EXT_ARG, &arg, sizeof arg);
}

static bool reap(driver *d, struct io_uring_cqe *out) {
    uint32_t *head = cq_word(d, d->params.cq_off.head);
    if (*head == __atomic_load_n(cq_word(d, d->params.cq_off.tail), __ATOMIC_ACQUIRE)) return false;
    const auto *cqes = reinterpret_cast<const struct io_uring_cqe *>(d->cq + d->params.cq_off.cqes);
    memcpy(out, &cqes[*head & (d->params.cq_entries - 1)], sizeof *out);
    __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
    return true;
}

// All completions, and what the words of the queues say. That there is more to read only some kernels tell.
static void note_all(driver *d) {
    note(d, "head", *sq_word(d, d->params.sq_off.head));
    note(d, "flags", *sq_word(d, d->params.sq_off.flags));
    struct io_uring_cqe cqe;
    while (reap(d, &cqe)) {
        note(d, " user_data", static_cast<long>(cqe.user_data));
        note(d, " res", cqe.res);
        note(d, " flags", cqe.flags & ~IORING_CQE_F_SOCK_NONEMPTY);
    }
}

static void note_enter(driver *d, unsigned submit, unsigned wait, unsigned flags) {
    note(d, "enter", enter(d, submit, wait, flags));
    note_all(d);
}

static void expect(driver *d, uint64_t user_data, int32_t res, uint32_t flags) {
    struct io_uring_cqe cqe = {};
    assert_true(reap(d, &cqe));
    assert_int_equal(cqe.user_data, user_data);
    assert_int_equal(cqe.res, res);
    assert_int_equal(cqe.flags, flags);
}

static void expect_nothing(driver *d) {
    struct io_uring_cqe cqe;
    assert_false(reap(d, &cqe));
}

// --- entries --------------------------------------------------------------------------------------------------------

static void arm_receive(driver *d, uint64_t user_data, bool poll_first) {
    struct io_uring_sqe *sqe = entry(d, user_data);
    sqe->opcode = IORING_OP_RECV;
    sqe->fd = d->socket;
    sqe->flags = IOSQE_BUFFER_SELECT;
    sqe->ioprio = IORING_RECV_MULTISHOT | (poll_first ? IORING_RECVSEND_POLL_FIRST : 0);
}

static void arm_poll(driver *d, uint64_t user_data, bool multishot) {
    struct io_uring_sqe *sqe = entry(d, user_data);
    sqe->opcode = IORING_OP_POLL_ADD;
    sqe->fd = d->socket;
    sqe->poll32_events = POLLIN;
    sqe->len = multishot ? IORING_POLL_ADD_MULTI : 0;
}

static void arm_cancel(driver *d, uint64_t user_data, uint64_t target, uint8_t flags) {
    struct io_uring_sqe *sqe = entry(d, user_data);
    sqe->opcode = IORING_OP_ASYNC_CANCEL;
    sqe->fd = -1;
    sqe->addr = target;
    sqe->flags = flags;
}

static void arm_send(driver *d, uint64_t user_data, int fd, const char *bytes, uint8_t flags) {
    struct io_uring_sqe *sqe = entry(d, user_data);
    sqe->opcode = IORING_OP_SEND;
    sqe->fd = fd;
    sqe->addr = reinterpret_cast<uintptr_t>(bytes);
    sqe->len = static_cast<uint32_t>(strlen(bytes));
    sqe->msg_flags = MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL;
    sqe->flags = flags;
}

static void arm(driver *d, uint64_t user_data, uint8_t opcode, int fd) {
    struct io_uring_sqe *sqe = entry(d, user_data);
    sqe->opcode = opcode;
    sqe->fd = fd;
}

// Bytes for the socket; the buffers that the kernel gets for them.
static void arrives(driver *d, const char *bytes) {
    if (!d->real) return ring_model_receive(d->socket, bytes, strlen(bytes));
    assert_int_equal(write(d->peer, bytes, strlen(bytes)), strlen(bytes));
}

static void no_more_arrives(driver *d) {
    if (d->real) shutdown(d->peer, SHUT_WR);
    else ring_model_receive_end(d->socket, 0);
}

static void give_buffer(driver *d, unsigned at, unsigned id) {
    struct io_uring_buf *buf = &d->bufs[at];
    buf->addr = reinterpret_cast<uintptr_t>(d->memory + 4096 + id * EACH);
    buf->len = EACH;
    buf->bid = static_cast<uint16_t>(id);
    __atomic_store_n(&d->bufs[0].resv, static_cast<uint16_t>(d->bufs[0].resv + 1), __ATOMIC_RELEASE);
}

static int give_buffers(driver *d, unsigned n, unsigned flags) {
    struct io_uring_buf_reg registration = {};
    registration.ring_addr = reinterpret_cast<uintptr_t>(d->memory);
    registration.ring_entries = n;
    memset(d->memory, 0, 8192);
    const uint16_t given = static_cast<uint16_t>(flags);
    memcpy(reinterpret_cast<char *>(&registration) + 14, &given, sizeof given);
    const int error = d->calls->uring_register(d->ring, IORING_REGISTER_PBUF_RING, &registration, 1);
    for (unsigned i = 0; error == 0 && i < n; i++) give_buffer(d, i, i);
    return error;
}

// --- what the kernel does, too --------------------------------------------------------------------------------------

static int make_error(driver *d, unsigned entries, uint32_t flags, unsigned cq_entries) {
    const int error = ring_make(d, entries, flags, cq_entries);
    if (error == 0) ring_end(d);
    return error;
}

static void run_making(driver *d) {
    const unsigned sizes[][2] = {{1, 0}, {5, 0}, {8, 8}, {4, 9}, {100, 1000}};
    for (const unsigned *size : sizes) {
        assert_int_equal(ring_make(d, size[0], DEFER, size[1]), 0);
        note(d, "entries", d->params.sq_entries);
        note(d, "completions", d->params.cq_entries);
        note(d, "mask", *sq_word(d, d->params.sq_off.ring_mask));
        note(d, "entries", *sq_word(d, d->params.sq_off.ring_entries));
        note(d, "mask", *cq_word(d, d->params.cq_off.ring_mask));
        note(d, "entries", *cq_word(d, d->params.cq_off.ring_entries));
        ring_end(d);
    }
    note(d, "none", make_error(d, 0, DEFER, 0));
    note(d, "too many", make_error(d, 32769, DEFER, 0));
    note(d, "few completions", make_error(d, 64, DEFER, 8));
    note(d, "defer alone", make_error(d, 4, IORING_SETUP_DEFER_TASKRUN, 0));
    note(d, "flag alone", make_error(d, 4, IORING_SETUP_TASKRUN_FLAG, 0));
    note(d, "unknown flag", make_error(d, 4, 1U << 30, 0));
}

static void run_disabled(driver *d) {
    assert_int_equal(ring_make(d, 8, DEFER | IORING_SETUP_R_DISABLED, 0), 0);
    note(d, "enter", enter(d, 0, 0, EVENTS));
    note(d, "enable", d->calls->uring_register(d->ring, IORING_REGISTER_ENABLE_RINGS, nullptr, 0));
    note(d, "enable", d->calls->uring_register(d->ring, IORING_REGISTER_ENABLE_RINGS, nullptr, 0));
    note(d, "enter", enter(d, 0, 0, EVENTS));
    note(d, "unknown flag", enter(d, 0, 0, 1U << 30));
    ring_end(d);
}

static void run_cancel(driver *d) {
    assert_int_equal(ring_make(d, 8, DEFER, 0), 0);
    assert_int_equal(give_buffers(d, 2, 0), 0);
    arm_receive(d, 1, false);
    note_enter(d, 1, 0, EVENTS);
    arm_cancel(d, 2, 1, 0);
    note_enter(d, 1, 0, 0); // the cancel's own
    note_enter(d, 0, 0, EVENTS);
    arm_receive(d, 1, false);
    note_enter(d, 1, 0, EVENTS);
    arrives(d, "abc");
    arm_cancel(d, 2, 1, 0);
    arm_cancel(d, 3, 99, IOSQE_CQE_SKIP_SUCCESS);
    note_enter(d, 2, 0, EVENTS); // the bytes stay where they are
    arm_receive(d, 4, false);
    note_enter(d, 1, 0, 0); // and are found
    arm_cancel(d, 5, 4, IOSQE_CQE_SKIP_SUCCESS);
    arm_cancel(d, 5, 4, 0); // found again
    note_enter(d, 2, 0, EVENTS);
    arm_receive(d, 6, true);
    struct io_uring_sqe *sqe = entry(d, 7);
    sqe->opcode = IORING_OP_POLL_REMOVE;
    sqe->fd = -1;
    sqe->addr = 6; // no poll
    arm_poll(d, 8, false);
    note_enter(d, 3, 0, EVENTS);
    sqe = entry(d, 9);
    sqe->opcode = IORING_OP_POLL_REMOVE;
    sqe->fd = -1;
    sqe->addr = 8;
    arm_cancel(d, 10, 0, 0);
    d->sqes[(d->tail - 1) & 7].cancel_flags = IORING_ASYNC_CANCEL_ANY;
    note_enter(d, 2, 0, EVENTS);
    ring_end(d);
}

static void run_receive(driver *d) {
    assert_int_equal(ring_make(d, 8, DEFER, 0), 0);
    assert_int_equal(give_buffers(d, 2, 0), 0);
    arm_receive(d, 1, false);
    note_enter(d, 1, 0, EVENTS);
    arrives(d, "abc");
    note_all(d); // not before it is asked for
    note_enter(d, 0, 1, EVENTS);
    arrives(d, "0123456789");
    note_enter(d, 0, 1, EVENTS); // one buffer, and none for the rest
    d->trace.append(d->memory + 4096, 2 * EACH);
    arm_receive(d, 2, false);
    note_enter(d, 1, 0, 0); // at once
    arm_receive(d, 3, true);
    note_enter(d, 1, 0, 0);
    note_enter(d, 0, 0, EVENTS); // later
    give_buffer(d, 0, 0);
    give_buffer(d, 1, 1);
    arm_receive(d, 4, true);
    note_enter(d, 1, 0, 0);
    note_enter(d, 0, 0, EVENTS);
    no_more_arrives(d);
    note_enter(d, 0, 0, EVENTS); // the end takes no buffer
    arm_receive(d, 5, false);
    note_enter(d, 1, 0, 0);
    arm_receive(d, 6, false);
    d->sqes[(d->tail - 1) & 7].buf_group = 77;
    note_enter(d, 1, 0, 0);
    ring_end(d);
}

static void run_incremental(driver *d) {
    assert_int_equal(ring_make(d, 8, DEFER, 0), 0);
    if (give_buffers(d, 2, 2) != 0) { // a kernel before 6.12
        d->trace += "no incremental buffers";
        return ring_end(d);
    }
    arm_receive(d, 1, false);
    note_enter(d, 1, 0, EVENTS);
    for (const char *bytes : {"abc", "defghijk", "lmnop"}) {
        arrives(d, bytes);
        note_enter(d, 0, 1, EVENTS);
    }
    d->trace.append(d->memory + 4096, 2 * EACH);
    give_buffer(d, 0, 0);
    no_more_arrives(d);
    note_enter(d, 0, 1, EVENTS);
    ring_end(d);
}

static void run_overflow(driver *d) {
    assert_int_equal(ring_make(d, 2, DEFER, 2), 0);
    assert_int_equal(give_buffers(d, 8, 0), 0);
    arm_receive(d, 1, false);
    note_enter(d, 1, 0, EVENTS);
    for (int i = 0; i < 4; i++) {
        arrives(d, "xy");
        note(d, "enter", enter(d, 0, 0, EVENTS));
        note(d, "flags", *sq_word(d, d->params.sq_off.flags));
    }
    note_all(d);
    arm(d, 2, IORING_OP_NOP, -1);
    note_enter(d, 1, 0, 0); // there is room, but others are first
    note_enter(d, 0, 0, EVENTS);
    arm(d, 3, IORING_OP_NOP, -1);
    arm(d, 4, IORING_OP_NOP, -1);
    note(d, "enter", enter(d, 2, 0, 0));
    arm_cancel(d, 5, 99, IOSQE_CQE_SKIP_SUCCESS); // a failure that nobody sees
    note(d, "enter", enter(d, 1, 0, EVENTS));
    note_all(d);
    note_enter(d, 0, 0, EVENTS);
    ring_end(d);
}

static void run_entering(driver *d) {
    assert_int_equal(ring_make(d, 8, DEFER & ~IORING_SETUP_SUBMIT_ALL, 0), 0);
    arm(d, 1, 200, -1);
    arm(d, 2, IORING_OP_NOP, -1);
    note_enter(d, 2, 0, EVENTS); // stops at what it refuses
    note_enter(d, 1, 0, EVENTS);
    arm(d, 3, IORING_OP_NOP, -1);
    note_enter(d, 3, 1, EVENTS); // asks for more than there are: no wait
    note_enter(d, 1, 1, EVENTS);
    arm_poll(d, 4, false);
    note(d, "timed", enter_for(d, 1, 1, 1000000)); // the count hides that the time is up
    note(d, "timed", enter_for(d, 0, 1, 1000000));
    arm(d, 5, IORING_OP_NOP, -1);
    note(d, "enter", enter(d, 1, 0, EVENTS));
    note(d, "timed", enter_for(d, 0, 2, 1000000)); // fewer than wanted, not none
    char wrong[8] = {};
    note(d, "size", d->calls->uring_enter(d->ring, 0, 1, EVENTS | IORING_ENTER_EXT_ARG, wrong, sizeof wrong));
    note_all(d);
    struct io_uring_sqe *sqe = entry(d, 6);
    sqe->opcode = IORING_OP_CLOSE;
    sqe->fd = -1;
    sqe->len = 1; // means nothing
    note_enter(d, 1, 0, 0);
    ring_end(d);
}

static void run_eager(driver *d, uint32_t flags) { // a ring that does not wait to be asked
    assert_int_equal(ring_make(d, 8, flags, 0), 0);
    arm_poll(d, 1, true);
    note_enter(d, 1, 0, 0);
    arrives(d, "a");
    if (!d->real) ring_model_fire(d->socket, POLLIN);
    note_enter(d, 0, 0, 0);
    ring_end(d);
}
static void run_coop(driver *d) { run_eager(d, IORING_SETUP_COOP_TASKRUN); }
static void run_plain(driver *d) { run_eager(d, 0); }

static void run_flagged(driver *d) {
    assert_int_equal(ring_make(d, 8, DEFER | IORING_SETUP_TASKRUN_FLAG, 0), 0);
    arm_poll(d, 1, false);
    note_enter(d, 1, 0, EVENTS);
    arrives(d, "a");
    if (!d->real) ring_model_fire(d->socket, POLLIN);
    note_enter(d, 0, 0, 0);
    note_enter(d, 0, 0, EVENTS);
    ring_end(d);
}

static std::string traced(const mio::sys *calls, bool real, void (*run)(driver *d)) {
    int pair[2] = {1001, -1};
    if (real) assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    driver d = {};
    d.calls = calls;
    d.real = real;
    d.socket = pair[0];
    d.peer = pair[1];
    d.memory = static_cast<char *>(calls->map_shared(8192));
    d.bufs = reinterpret_cast<struct io_uring_buf *>(d.memory);
    run(&d);
    calls->unmap(d.memory, 8192);
    if (real) close(pair[0]);
    if (real) close(pair[1]);
    return d.trace;
}

static void as_the_kernel_does(void (*run)(driver *d)) {
    struct io_uring_params params = {};
    params.flags = DEFER;
    const int ring = mio::sys_real.uring_setup(4, &params);
    if (ring < 0) {
        print_message("skip: this kernel has no ring to compare with (%s)\n", strerror(-ring));
        skip();
    }
    close(ring);
    const std::string kernels = traced(&mio::sys_real, true, run);
    const std::string ours = traced(ring_model_open(1000), false, run);
    assert_int_equal(ring_model_close(), 0);
    if (kernels.find("no incremental buffers") != std::string::npos) {
        print_message("skip: this kernel has no incremental buffers\n");
        skip();
    }
    assert_string_equal(ours.c_str(), kernels.c_str());
}

static void test_making_as_the_kernel_does(void **) { as_the_kernel_does(run_making); }
static void test_disabled_as_the_kernel_does(void **) { as_the_kernel_does(run_disabled); }
static void test_cancel_as_the_kernel_does(void **) { as_the_kernel_does(run_cancel); }
static void test_receive_as_the_kernel_does(void **) { as_the_kernel_does(run_receive); }
static void test_incremental_as_the_kernel_does(void **) { as_the_kernel_does(run_incremental); }
static void test_overflow_as_the_kernel_does(void **) { as_the_kernel_does(run_overflow); }
static void test_entering_as_the_kernel_does(void **) { as_the_kernel_does(run_entering); }
static void test_coop_as_the_kernel_does(void **) { as_the_kernel_does(run_coop); }
static void test_plain_as_the_kernel_does(void **) { as_the_kernel_does(run_plain); }
static void test_flagged_as_the_kernel_does(void **) { as_the_kernel_does(run_flagged); }

// --- what only the model does ---------------------------------------------------------------------------------------

static driver ours;

static int open_ours(void **) {
    ours = driver();
    ours.calls = ring_model_open(1000);
    ours.socket = 1001;
    return ring_make(&ours, 8, DEFER, 0);
}

static int close_ours(void **) {
    ring_end(&ours);
    return ring_model_close();
}

static void test_two_rings_do_not_meet(void **) {
    driver other = {};
    other.calls = ours.calls;
    other.socket = 1001;
    ring_model_kernel()->features &= ~IORING_FEAT_SINGLE_MMAP;
    assert_int_equal(ring_make(&other, 4, DEFER, 0), 0);
    assert_ptr_not_equal(other.cq, other.sq);
    assert_int_equal(ring_model_ring(0), ours.ring);
    assert_int_equal(ring_model_newest(), other.ring);
    assert_int_equal(ring_model_ring(2), -1);
    arm(&ours, 1, IORING_OP_NOP, -1);
    arm(&other, 2, IORING_OP_NOP, -1);
    assert_int_equal(enter(&other, 1, 0, 0), 1);
    expect(&other, 2, 0, 0);
    expect_nothing(&ours);
    assert_int_equal(enter(&ours, 1, 0, 0), 1);
    expect(&ours, 1, 0, 0);
    ring_end(&other);
    assert_false(ring_model_is_enabled(other.ring));
    assert_int_equal(ours.calls->uring_enter(other.ring, 0, 0, 0, nullptr, 0), -EBADF);
    assert_int_equal(scripted_last(call::uring_enter)->result, -EBADF);
    assert_int_equal(scripted_count(call::uring_enter), 3);
}

static void test_registered_ring_and_probe(void **) {
    struct io_uring_rsrc_update update = {};
    update.offset = UINT32_MAX;
    update.data = static_cast<uint64_t>(ours.ring);
    assert_int_equal(ours.calls->uring_register(ours.ring, IORING_REGISTER_RING_FDS, &update, 1), 1);
    const int at = static_cast<int>(update.offset);
    assert_int_equal(ours.calls->uring_enter(at, 0, 0, IORING_ENTER_REGISTERED_RING, nullptr, 0), 0);
    assert_int_equal(ours.calls->uring_enter(at + 1, 0, 0, IORING_ENTER_REGISTERED_RING, nullptr, 0), -EBADF);
    alignas(
        struct io_uring_probe) char memory[sizeof(struct io_uring_probe) + 256 * sizeof(struct io_uring_probe_op)] = {};
    auto *probe = reinterpret_cast<struct io_uring_probe *>(memory);
    ring_model_kernel()->opcode_missing[IORING_OP_SEND_ZC] = true;
    assert_int_equal(ours.calls->uring_register(ours.ring, IORING_REGISTER_PROBE, probe, 256), 0);
    assert_int_equal(probe->ops[IORING_OP_SEND].flags, IO_URING_OP_SUPPORTED);
    assert_int_equal(probe->ops[IORING_OP_SEND_ZC].flags, 0);
    arm(&ours, 1, IORING_OP_SEND_ZC, 1001);
    assert_int_equal(enter(&ours, 1, 0, 0), 1);
    expect(&ours, 1, -EINVAL, 0);
    ring_model_kernel()->register_error[IORING_REGISTER_PROBE] = -EPERM;
    assert_int_equal(ours.calls->uring_register(ours.ring, IORING_REGISTER_PROBE, probe, 256), -EPERM);
    scripted_push(call::uring_setup, ANY_FD, -ENOMEM);
    struct io_uring_params params = {};
    assert_int_equal(ours.calls->uring_setup(4, &params), -ENOMEM);
    assert_int_equal(ring_model_ring(1), -1);
}

static void test_results_in_any_order(void **) {
    for (uint64_t i = 1; i <= 3; i++) arm(&ours, i, IORING_OP_CONNECT, 1000 + static_cast<int>(i));
    assert_int_equal(enter(&ours, 3, 0, EVENTS), 3);
    assert_int_equal(ring_model_taken(ours.ring), 3);
    assert_int_equal(ring_model_pending(ours.ring), 3);
    assert_int_equal(ring_model_sqe(ours.ring, 2)->fd, 1003);
    assert_int_equal(ring_model_find(ours.ring, IORING_OP_CONNECT, 1002), 1);
    assert_int_equal(ring_model_find(ours.ring, IORING_OP_CONNECT, ANY_FD), 0);
    assert_int_equal(ring_model_find(ours.ring, IORING_OP_ACCEPT, ANY_FD), -1);
    ring_model_complete(ours.ring, 2, -ECONNREFUSED, 0);
    ring_model_complete(ours.ring, ring_model_find_data(ours.ring, 1), 0, 0);
    assert_int_equal(ring_model_put_off(ours.ring), 2);
    assert_int_equal(enter(&ours, 0, 0, 0), 0);
    expect_nothing(&ours);
    assert_int_equal(enter(&ours, 0, 2, EVENTS), 0);
    expect(&ours, 3, -ECONNREFUSED, 0);
    expect(&ours, 1, 0, 0);
    ring_model_complete(ours.ring, 1, 0, 0);
    ring_model_flush(ours.ring); // without an enter
    expect(&ours, 2, 0, 0);
    assert_int_equal(ring_model_pending(ours.ring), 0);
    ring_model_post_raw(ours.ring, 2, 77, IORING_CQE_F_MORE); // stale
    expect(&ours, 2, 77, IORING_CQE_F_MORE);
}

static void expect_sent(int fd, const char *bytes) {
    size_t n;
    const char *sent = ring_model_sent(fd, &n);
    assert_int_equal(n, strlen(bytes));
    assert_memory_equal(sent, bytes, n);
}

static void test_sends(void **) {
    ring_model_answer(IORING_OP_SEND, RING_SUCCEEDS);
    ring_model_answer(IORING_OP_SENDMSG, RING_SUCCEEDS);
    arm_send(&ours, 1, 1001, "hello ", IOSQE_CQE_SKIP_SUCCESS);
    assert_int_equal(enter(&ours, 1, 0, EVENTS), 1);
    expect_nothing(&ours);
    assert_int_equal(ours.calls->send(1001, "dear ", 5, 0), 5);
    struct iovec pieces[2] = {{const_cast<char *>("wo"), 2}, {const_cast<char *>("rld"), 3}};
    struct msghdr message = {};
    message.msg_iov = pieces;
    message.msg_iovlen = 2;
    arm(&ours, 2, IORING_OP_SENDMSG, 1001);
    ours.sqes[1].addr = reinterpret_cast<uintptr_t>(&message);
    ours.sqes[1].len = 1;
    assert_int_equal(enter(&ours, 1, 0, EVENTS), 1);
    expect(&ours, 2, 5, 0);
    expect_sent(1001, "hello dear world");
    ring_model_answer_next(IORING_OP_SEND, ANY_FD, 2);
    ring_model_answer_next(IORING_OP_SEND, 1003, -EPIPE);
    ring_model_answer_next(IORING_OP_SEND, 1002, -EAGAIN);
    ring_model_answer_next(IORING_OP_SEND, 1002, 1);
    for (uint64_t i = 3; i < 6; i++) arm_send(&ours, i, i == 5 ? 1003 : 1002, "abc", IOSQE_CQE_SKIP_SUCCESS);
    arm_send(&ours, 6, 1002, "xyz", IOSQE_CQE_SKIP_SUCCESS);
    ours.sqes[5].msg_flags = MSG_DONTWAIT; // without WAITALL it keeps quiet about the rest
    assert_int_equal(enter(&ours, 4, 0, EVENTS), 4);
    expect(&ours, 3, 2, 0);
    expect(&ours, 4, -EAGAIN, 0);
    expect(&ours, 5, -EPIPE, 0);
    expect_nothing(&ours);
    expect_sent(1002, "abx");
    ring_model_answer(IORING_OP_SEND, RING_STAYS);
    char late[] = "late";
    arm_send(&ours, 7, 1004, late, 0);
    assert_int_equal(enter(&ours, 1, 0, EVENTS), 1);
    memcpy(late, "LATE", 4); // the kernel reads when it sends
    ring_model_complete(ours.ring, ring_model_find(ours.ring, IORING_OP_SEND, 1004), 4, 0);
    assert_int_equal(enter(&ours, 0, 1, EVENTS), 0);
    expect(&ours, 7, 4, 0);
    expect_sent(1004, "LATE");
    arm(&ours, 8, IORING_OP_CLOSE, 1004);
    assert_int_equal(enter(&ours, 1, 0, 0), 1);
    assert_int_equal(ours.calls->close(1005), 0);
    arm_send(&ours, 9, 1005, "x", IOSQE_CQE_SKIP_SUCCESS);
    assert_int_equal(enter(&ours, 1, 0, 0), 1);
    expect(&ours, 9, -EBADF, 0);
}

static void test_zero_copy(void **) {
    ring_model_answer(IORING_OP_SEND_ZC, RING_SUCCEEDS);
    arm_send(&ours, 1, 1001, "abc", 0);
    ours.sqes[0].opcode = IORING_OP_SEND_ZC;
    assert_int_equal(enter(&ours, 1, 0, EVENTS), 1);
    expect(&ours, 1, 3, IORING_CQE_F_MORE);
    assert_true(ring_model_is_pending(ours.ring, 0));
    ring_model_notify(ours.ring, 0);
    assert_int_equal(enter(&ours, 0, 1, EVENTS), 0);
    expect(&ours, 1, 0, IORING_CQE_F_NOTIF);
    assert_false(ring_model_is_pending(ours.ring, 0));
}

static void test_a_hidden_failure(void **) {
    ring_model_kernel()->cq_entries = 2;
    driver small = {};
    small.calls = ours.calls;
    assert_int_equal(ring_make(&small, 8, DEFER, 64), 0);
    assert_int_equal(small.params.cq_entries, 2);
    for (uint64_t i = 1; i <= 2; i++) arm(&small, i, IORING_OP_NOP, -1);
    arm_send(&small, 3, 1001, "abc", IOSQE_CQE_SKIP_SUCCESS);
    ring_model_answer_next(IORING_OP_SEND, 1001, -EPIPE);
    assert_int_equal(enter(&small, 3, 0, EVENTS), 3);
    assert_int_equal(ring_model_backlog(small.ring), 1);
    assert_int_equal(*sq_word(&small, small.params.sq_off.flags), IORING_SQ_CQ_OVERFLOW);
    expect(&small, 1, 0, 0);
    expect(&small, 2, 0, 0);
    assert_int_equal(enter(&small, 0, 0, 0), 0); // does not ask for events
    expect_nothing(&small);
    assert_int_equal(enter(&small, 0, 0, EVENTS), 0);
    expect(&small, 3, -EPIPE, 0);
    assert_int_equal(*sq_word(&small, small.params.sq_off.flags), 0);
    ring_end(&small);
}

static void test_late_cancels(void **) {
    arm(&ours, 1, IORING_OP_CONNECT, 1001);
    arm_cancel(&ours, 2, 1, IOSQE_CQE_SKIP_SUCCESS);
    ring_model_cancel_late(0, 0, -ENOENT);
    assert_int_equal(enter(&ours, 2, 0, EVENTS), 2);
    expect(&ours, 1, 0, 0); // it was faster
    expect(&ours, 2, -ENOENT, 0);
    arm(&ours, 3, IORING_OP_CONNECT, 1001);
    arm_cancel(&ours, 4, 3, 0);
    ring_model_cancel_late(RING_STAYS, 0, -EALREADY);
    assert_int_equal(enter(&ours, 2, 0, EVENTS), 2);
    expect(&ours, 4, -EALREADY, 0);
    ring_model_complete(ours.ring, ring_model_find_data(ours.ring, 3), -ETIMEDOUT, 0);
    arm_cancel(&ours, 5, 3, 0); // its result is on the way
    assert_int_equal(enter(&ours, 1, 0, EVENTS), 1);
    expect(&ours, 5, -ENOENT, 0);
    expect(&ours, 3, -ETIMEDOUT, 0);
}

static void test_planned_enters(void **) {
    for (uint64_t i = 1; i <= 4; i++) arm(&ours, i, IORING_OP_NOP, -1);
    ring_model_plan(ours.ring, 0, -EBUSY);
    ring_model_plan(ours.ring, 1, 0);
    ring_model_plan(ours.ring, 0, 0);
    ring_model_plan(ours.ring, RING_TAKES_ALL, 0);
    ring_model_plan(ours.ring, RING_TAKES_ALL, -EINTR);
    assert_int_equal(enter(&ours, 4, 0, EVENTS), -EBUSY);
    assert_int_equal(*sq_word(&ours, ours.params.sq_off.head), 0);
    assert_int_equal(enter(&ours, 4, 9, EVENTS), 1); // no wait
    assert_int_equal(enter(&ours, 3, 0, EVENTS), -EAGAIN);
    assert_int_equal(enter(&ours, 2, 0, EVENTS), 2);
    assert_int_equal(enter(&ours, 1, 0, EVENTS), -EINTR);
    assert_int_equal(*sq_word(&ours, ours.params.sq_off.head), 4);
    for (uint64_t i = 1; i <= 4; i++) expect(&ours, i, 0, 0);
    assert_int_equal(ring_model_enters(ours.ring), 5);
    const ring_enter *e = ring_model_enter_at(ours.ring, 1);
    assert_int_equal(e->to_submit, 4);
    assert_int_equal(e->min_complete, 9);
    assert_int_equal(e->flags, EVENTS);
    assert_int_equal(e->timeout_ns, -1);
    assert_int_equal(e->taken, 1);
    assert_int_equal(ring_model_enter_last(ours.ring)->result, -EINTR);
    assert_null(ring_model_enter_at(ours.ring, 5));
}

static void accept_one(void *fd) { *static_cast<int *>(fd) = ring_model_accept(1001); }

static void test_waiting(void **) {
    arm(&ours, 1, IORING_OP_ACCEPT, 1001);
    ours.sqes[0].ioprio = IORING_ACCEPT_MULTISHOT;
    assert_int_equal(enter_for(&ours, 1, 1, 5000), 1);
    assert_int_equal(scripted_now_ns(), 6000);
    assert_int_equal(ring_model_enter_last(ours.ring)->timeout_ns, 5000);
    assert_int_equal(enter_for(&ours, 0, 1, 500), -ETIME);
    assert_int_equal(scripted_now_ns(), 6500);
    int fd = -1;
    ring_model_on_wait(accept_one, &fd);
    assert_int_equal(enter(&ours, 0, 1, EVENTS), 0);
    assert_int_equal(scripted_now_ns(), 6500);
    expect(&ours, 1, fd, IORING_CQE_F_MORE);
    assert_int_equal(ours.calls->close(fd), 0);
    assert_int_equal(ours.calls->close(fd), -EBADF);
    arm_cancel(&ours, 2, 1, IOSQE_CQE_SKIP_SUCCESS);
    assert_int_equal(enter(&ours, 1, 1, EVENTS), 1);
    expect(&ours, 1, -ECANCELED, 0);
    ring_model_accept(1001); // waits for an entry; nobody's until then
}

static void test_bytes_go_to_who_asks_first(void **) {
    char got[8] = {};
    ring_model_receive(1001, "abcdef", 6);
    assert_int_equal(ours.calls->recv(1001, got, 2, MSG_DONTWAIT), 2);
    arm(&ours, 1, IORING_OP_RECV, 1001);
    ours.sqes[0].addr = reinterpret_cast<uintptr_t>(got + 2);
    ours.sqes[0].len = 3;
    assert_int_equal(enter(&ours, 1, 0, 0), 1);
    expect(&ours, 1, 3, IORING_CQE_F_SOCK_NONEMPTY);
    assert_int_equal(ring_model_unread(1001), 1);
    ring_model_receive_end(1001, -ECONNRESET);
    assert_int_equal(ours.calls->read(1001, got + 5, 3), 1);
    assert_string_equal(got, "abcdef");
    assert_int_equal(ours.calls->recv(1001, got, 1, MSG_DONTWAIT), -ECONNRESET);
    assert_int_equal(ours.calls->recv(1001, got, 1, MSG_DONTWAIT), 0);
    assert_int_equal(ours.calls->recv(1002, got, 1, MSG_DONTWAIT), -EAGAIN);
    assert_int_equal(scripted_count(call::recv), 4);
}

static void test_what_a_ring_holds(void **) {
    int ends[2];
    assert_int_equal(ours.calls->pipe_cloexec(ends), 0);
    driver other = {};
    other.calls = ours.calls;
    assert_int_equal(ring_make(&other, 4, DEFER, 0), 0);
    assert_int_equal(ours.calls->uring_register(other.ring, IORING_REGISTER_FILES, &ends[1], 1), 0);
    assert_int_equal(ours.calls->close(ends[1]), 0);
    assert_int_equal(ours.calls->poll_one(ends[0], 0, 0), 0);
    ring_end(&other);
    ring_model_kernel()->lingers = 1;
    assert_int_equal(ours.calls->poll_one(ends[0], 0, 0), 0);
    assert_int_equal(ours.calls->poll_one(ends[0], 0, 0), POLLHUP);
    assert_int_equal(ours.calls->close(ends[0]), 0);
}

static void test_leftovers_are_seen(void **) {
    driver d = {};
    d.calls = ring_model_open(0);
    assert_int_equal(ring_make(&d, 4, DEFER, 0), 0);
    ring_model_answer_next(IORING_OP_SEND, ANY_FD, 1);
    ring_model_plan(d.ring, 1, 0);
    ring_model_cancel_late(0, 0, 0);
    d.calls->unmap(d.sq, d.sq_size);
    assert_int_equal(ring_model_close(), 5); // those three, the ring, its entries
    free(d.sqes);                            // which are the script's
}

// --- what ends a test -----------------------------------------------------------------------------------------------

static void wait_for_ever() { enter(&ours, 0, 1, EVENTS); }
static void link_entries() {
    arm(&ours, 1, IORING_OP_NOP, -1);
    ours.sqes[0].flags = IOSQE_IO_LINK;
    enter(&ours, 1, 0, 0);
}
static void complete_twice() {
    arm(&ours, 1, IORING_OP_CONNECT, 1001);
    enter(&ours, 1, 0, 0);
    ring_model_complete(ours.ring, 0, 0, 0);
    ring_model_complete(ours.ring, 0, 0, 0);
}
static void overrun() {
    for (int i = 0; i < 9; i++) arm(&ours, 1, IORING_OP_NOP, -1);
    enter(&ours, 9, 0, 0);
}

static void test_what_ends_a_test(void **) {
    void (*const cases[])() = {wait_for_ever, link_entries, complete_twice, overrun};
    for (auto *one : cases) {
        fflush(nullptr);
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            signal(SIGABRT, SIG_DFL);
            const int nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);
            dup2(nothing, STDERR_FILENO);
            one();
            _exit(0);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    }
}

#define our_test(name) cmocka_unit_test_setup_teardown(name, open_ours, close_ours)

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_making_as_the_kernel_does),
        cmocka_unit_test(test_disabled_as_the_kernel_does),
        cmocka_unit_test(test_cancel_as_the_kernel_does),
        cmocka_unit_test(test_receive_as_the_kernel_does),
        cmocka_unit_test(test_incremental_as_the_kernel_does),
        cmocka_unit_test(test_overflow_as_the_kernel_does),
        cmocka_unit_test(test_entering_as_the_kernel_does),
        cmocka_unit_test(test_coop_as_the_kernel_does),
        cmocka_unit_test(test_plain_as_the_kernel_does),
        cmocka_unit_test(test_flagged_as_the_kernel_does),
        our_test(test_two_rings_do_not_meet),
        our_test(test_registered_ring_and_probe),
        our_test(test_results_in_any_order),
        our_test(test_sends),
        our_test(test_zero_copy),
        our_test(test_a_hidden_failure),
        our_test(test_late_cancels),
        our_test(test_planned_enters),
        our_test(test_waiting),
        our_test(test_bytes_go_to_who_asks_first),
        our_test(test_what_a_ring_holds),
        cmocka_unit_test(test_leftovers_are_seen),
        our_test(test_what_ends_a_test),
    };
    return cmocka_run_group_tests_name("ring_model", tests, nullptr, nullptr);
}

#else

static void test_ring_model(void **) {
    print_message("skip: built without io_uring\n");
    skip();
}

int main() {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ring_model)};
    return cmocka_run_group_tests_name("ring_model", tests, nullptr, nullptr);
}

#endif
