// Datagrams by hand on io_uring, in two ways: the ring says that there are some and they are fetched by recvmmsg(2), or
// it receives them itself, by a multishot recvmsg into a ring of buffers. Both send by sendmmsg(2).
#include "bench/bench.h"
#include "bench/datagrams.h"

#ifdef BENCH_LIBURING

#include <liburing.h>

#include <cerrno>
#include <cstring>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

namespace bench {

static void ring_open(struct io_uring *ring) {
    const int error = io_uring_queue_init(512, ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
    if (error < 0) fail("io_uring_queue_init: %s", strerror(-error));
}

static void ring_enter(struct io_uring *ring) {
    const int entered = io_uring_submit_and_wait(ring, 1);
    if (entered < 0) fail("io_uring_submit_and_wait: %s", strerror(-entered));
}

// --- a poll and recvmmsg --------------------------------------------------------------------------------------------

static struct {
    struct io_uring ring;
    int fd;
    bool echo, hot;
} polled;

static void poll_arm() {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&polled.ring);
    io_uring_prep_poll_multishot(sqe, polled.fd, POLLIN);
}

static void poll_open(struct sockaddr_in *at, bool echo) {
    polled.echo = echo;
    polled.hot = false;
    polled.fd = datagrams_socket(at);
    ring_open(&polled.ring);
    poll_arm();
    if (io_uring_submit(&polled.ring) < 0) fail("io_uring_submit");
}

static void poll_serve(uint64_t datagrams) {
    while (datagrams != 0) {
        if (!polled.hot) {
            ring_enter(&polled.ring);
            struct io_uring_cqe *cqe;
            unsigned head, seen = 0;
            io_uring_for_each_cqe(&polled.ring, head, cqe) {
                if (cqe->res < 0) fail("a poll of the ring: %s", strerror(-cqe->res));
                if ((cqe->flags & IORING_CQE_F_MORE) == 0) poll_arm();
                seen++;
            }
            io_uring_cq_advance(&polled.ring, seen);
        }
        const unsigned got = datagrams_batch(polled.fd, polled.echo);
        polled.hot = got == HAND_BATCH; // a batch that is not full: there is no more
        datagrams -= got;
    }
}

static void poll_close() {
    io_uring_queue_exit(&polled.ring);
    close(polled.fd);
}

extern const datagram_side datagrams_ring_poll = {"ring-poll", poll_open, poll_serve, poll_close};

// --- a multishot recvmsg --------------------------------------------------------------------------------------------

constexpr unsigned BUFFERS = 128;
constexpr size_t NAME_ROOM = 32;
constexpr size_t STRIDE = sizeof(struct io_uring_recvmsg_out) + NAME_ROOM + HAND_ROOM;
constexpr uint16_t GROUP = 1;

static struct {
    struct io_uring ring;
    struct io_uring_buf_ring *buffers;
    char *memory;
    struct msghdr shape; // how the kernel is to lay out each buffer
    int fd;
    bool echo;
    // What is to be sent back; its buffers return to the ring when it was.
    struct mmsghdr messages[HAND_BATCH];
    struct iovec iov[HAND_BATCH];
    unsigned short used[HAND_BATCH];
    unsigned count;
} received;

static void receive_arm() {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&received.ring);
    io_uring_prep_recvmsg_multishot(sqe, received.fd, &received.shape, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = GROUP;
}

static void receive_open(struct sockaddr_in *at, bool echo) {
    received.echo = echo;
    received.fd = datagrams_socket(at);
    ring_open(&received.ring);
    void *memory = mmap(nullptr, BUFFERS * (STRIDE + sizeof(struct io_uring_buf)), PROT_READ | PROT_WRITE,
                        MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    if (memory == MAP_FAILED) fail_errno("mmap");
    received.buffers = static_cast<struct io_uring_buf_ring *>(memory);
    received.memory = static_cast<char *>(memory) + BUFFERS * sizeof(struct io_uring_buf);
    struct io_uring_buf_reg about = {};
    about.ring_addr = reinterpret_cast<uintptr_t>(memory);
    about.ring_entries = BUFFERS;
    about.bgid = GROUP;
    const int error = io_uring_register_buf_ring(&received.ring, &about, 0);
    if (error < 0) fail("io_uring_register_buf_ring: %s", strerror(-error));
    io_uring_buf_ring_init(received.buffers);
    for (unsigned i = 0; i < BUFFERS; i++)
        io_uring_buf_ring_add(received.buffers, received.memory + i * STRIDE, STRIDE, static_cast<unsigned short>(i),
                              BUFFERS - 1, static_cast<int>(i));
    io_uring_buf_ring_advance(received.buffers, BUFFERS);
    received.shape = {};
    received.shape.msg_namelen = NAME_ROOM;
    receive_arm();
    if (io_uring_submit(&received.ring) < 0) fail("io_uring_submit");
}

static void receive_flush() {
    if (received.count == 0) return;
    if (received.echo) datagrams_send(received.fd, received.messages, received.count);
    for (unsigned i = 0; i < received.count; i++)
        io_uring_buf_ring_add(received.buffers, received.memory + received.used[i] * STRIDE, STRIDE, received.used[i],
                              BUFFERS - 1, static_cast<int>(i));
    io_uring_buf_ring_advance(received.buffers, static_cast<int>(received.count));
    received.count = 0;
}

static void receive_take(unsigned short number, int length) {
    auto *out = io_uring_recvmsg_validate(received.memory + number * STRIDE, length, &received.shape);
    if (out == nullptr) fail("a datagram of the ring: %d", length);
    struct msghdr *message = &received.messages[received.count].msg_hdr;
    *message = {};
    message->msg_name = io_uring_recvmsg_name(out);
    message->msg_namelen = out->namelen;
    received.iov[received.count] = iovec{io_uring_recvmsg_payload(out, &received.shape), out->payloadlen};
    message->msg_iov = &received.iov[received.count];
    message->msg_iovlen = 1;
    received.used[received.count++] = number;
    if (received.count == HAND_BATCH) receive_flush();
}

static void receive_serve(uint64_t datagrams) {
    while (datagrams != 0) {
        ring_enter(&received.ring);
        struct io_uring_cqe *cqe;
        unsigned head, seen = 0;
        bool ended = false;
        io_uring_for_each_cqe(&received.ring, head, cqe) {
            seen++;
            if ((cqe->flags & IORING_CQE_F_MORE) == 0) ended = true;
            if (cqe->res == -ENOBUFS) continue;
            if (cqe->res < 0) fail("a receive of the ring: %s", strerror(-cqe->res));
            receive_take(static_cast<unsigned short>(cqe->flags >> IORING_CQE_BUFFER_SHIFT), cqe->res);
            datagrams--;
        }
        receive_flush();
        io_uring_cq_advance(&received.ring, seen);
        if (ended) receive_arm();
    }
}

static void receive_close() {
    io_uring_queue_exit(&received.ring);
    munmap(received.buffers, BUFFERS * (STRIDE + sizeof(struct io_uring_buf)));
    close(received.fd);
}

extern const datagram_side datagrams_ring_receive = {"ring-receive", receive_open, receive_serve, receive_close};

}

#endif
