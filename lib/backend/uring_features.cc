// What the ring of this kernel can do: each feature is used as the backend uses it, on a scratch ring with the flags of
// a real one (but enabled: a disabled one cannot be tried), with sockets of its own, each wait with an end.
//
// Decides nothing about loops. What is not asked here is asked where it is used, and falls back there: whether memory
// may be locked for a ring of the real size, whether its buffers can be registered.
//
// Known of kernels:
//   1. 5.10 has the opcode of a multishot accept and answers EINVAL: an opcode's presence proves nothing.
//   2. From 6.17 on a unix socket says how much there is to read, 0 also when its end stands behind the last byte: a
//      multishot receive that runs when both are there takes the bytes and waits for news that has been. TCP is right.
//   3. A send that reports failures only (IOSQE_CQE_SKIP_SUCCESS) takes a short send for a success unless MSG_WAITALL
//      says that it is none: with it the count is posted (6.0).
//   4. Sends without a copy: 6.0 has them, 6.2 tells whether it copied all the same. Only of TCP and UDP.

#include "backend/uring_features.h"

#include "backend/uring_ring.h"
#include "base/sys_files.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/un.h>

#include <atomic>

namespace mio {

const uring_feature_name uring_feature_names[] = {
    {"defer", MIO_URING_DEFER, "this kernel works completions off whenever it likes"},
    {"cancel", MIO_URING_CANCEL, "what is in the ring cannot be cancelled: only polls go in"},
    {"accept", MIO_URING_ACCEPT, "no multishot accept"},
    {"receive", MIO_URING_RECEIVE, "no multishot receive into a ring of buffers"},
    {"incremental", MIO_URING_INCREMENTAL, "buffers are not cut by the kernel"},
    {"send", MIO_URING_SEND, "a send cannot be silent about its success, or is silent about its failure"},
    {"connect", MIO_URING_CONNECT, "no connect"},
    {"zerocopy", MIO_URING_ZEROCOPY, "no TCP send that lends its memory and tells when it is returned"},
    {"files", MIO_URING_FILES, "no facts about a file"},
};
const unsigned uring_feature_count = sizeof uring_feature_names / sizeof uring_feature_names[0];

// ------------------------------------------------------------------------------------------------ the scratch ring

constexpr int64_t WAIT_NS = 1000000000; // nothing here takes long; a kernel that loses something must not hang us
constexpr int WAIT_MS = 200; // for the other end of loopback; a packet filter may be in between
constexpr int64_t SHORT_WAIT_NS = 5000000; // for what some kernels are known to lose

static const sys *const calls = &sys_real;

// Want of something that may be given back, met by one of the tests: what they say proves nothing then. Only one thread
// tests at a time.
static int shortage;

static int noted(int result) {
    if (result == -EMFILE || result == -ENFILE || result == -ENOMEM || result == -ENOBUFS) shortage = result;
    return result;
}

static void *noted(void *memory) {
    if (memory == nullptr) shortage = -ENOMEM;
    return memory;
}

// A program under a storm of signals is interrupted in each wait, and on a slow machine for a long time.
constexpr int AWAIT_TRIES = 10000;

// Waits for the completion of that token; others are dropped. false: it did not come.
static bool scratch_await_for(uring_ring *r, uint64_t token, struct io_uring_cqe *out, int64_t wait_ns) {
    for (int tries = 0; tries < AWAIT_TRIES; tries++) {
        while (uring_ring_ready(r) != 0) {
            *out = *uring_ring_cqe_at(r, r->seen);
            uring_ring_seen(r, r->seen + 1);
            noted(out->res);
            if (out->user_data == token) return true;
        }
        const int result = uring_ring_enter(r, 1, wait_ns);
        if (result == -ETIME || (result < 0 && result != -EINTR)) break;
    }
    return false;
}

static bool scratch_await(uring_ring *r, uint64_t token, struct io_uring_cqe *out) {
    return scratch_await_for(r, token, out, WAIT_NS);
}

// All that was built is taken, and no completion of that token is there.
static bool scratch_silent(uring_ring *r, uint64_t token) {
    const int result = uring_ring_enter(r, 0, -1);
    if (result < 0 || uring_ring_unsubmitted(r) != 0) return false;
    while (uring_ring_ready(r) != 0) {
        const bool spoke = uring_ring_cqe_at(r, r->seen)->user_data == token;
        uring_ring_seen(r, r->seen + 1);
        if (spoke) return false;
    }
    return true;
}

static int scratch_open(uring_ring *r, uint32_t setup) {
    struct io_uring_params params = {};
    params.flags = setup | IORING_SETUP_CQSIZE;
    params.cq_entries = 64;
    return noted(uring_ring_open(r, calls, 16, &params));
}

static void pair_close(const int pair[2]) {
    calls->close(pair[0]);
    calls->close(pair[1]);
}

static bool pair_open(int pair[2]) {
    return noted(calls->socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair)) == 0;
}

static bool send_bytes(int fd, const char *bytes, size_t n) {
    return calls->send(fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL) == static_cast<ssize_t>(n);
}

// ---------------------------------------------------------------------------------------------------- the features

// Without this there is no ring for us: the wake-up, and everything else that falls back, polls.
static bool try_poll(uring_ring *r) {
    const int fd = noted(calls->eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (fd < 0) return false;
    struct io_uring_cqe cqe;
    const uint64_t one = 1;
    struct io_uring_sqe *sqe = uring_ring_sqe(r);
    io_uring_prep_poll_multishot(sqe, fd, POLLIN);
    sqe->user_data = 1;
    bool works = scratch_silent(r, 1);
    for (int i = 0; works && i < 2; i++) { // the counter is never read: each write is news
        works = calls->write(fd, &one, sizeof one) == static_cast<ssize_t>(sizeof one) && scratch_await(r, 1, &cqe) &&
                cqe.res > 0 && (cqe.flags & IORING_CQE_F_MORE) != 0;
    }
    sqe = uring_ring_sqe(r);
    io_uring_prep_poll_remove(sqe, 1);
    sqe->user_data = 2;
    works = works && scratch_await(r, 1, &cqe) && cqe.res == -ECANCELED;
    calls->close(fd);
    return works;
}

static bool try_cancel(uring_ring *r) {
    int pair[2];
    if (!pair_open(pair)) return false;
    char byte;
    struct io_uring_cqe cqe;
    struct io_uring_sqe *sqe = uring_ring_sqe(r);
    io_uring_prep_recv(sqe, pair[0], &byte, 1, 0);
    sqe->user_data = 3;
    bool works = scratch_silent(r, 3);
    sqe = uring_ring_sqe(r);
    io_uring_prep_cancel64(sqe, 3, 0);
    sqe->user_data = 4;
    works = works && scratch_await(r, 3, &cqe) && cqe.res == -ECANCELED;
    pair_close(pair);
    return works;
}

// An accept that the test did not wait for to the end brings its descriptor all the same.
static void accepted_close(uring_ring *r, uint64_t token) {
    if (uring_ring_enter(r, 0, -1) < 0) (void)uring_ring_enter(r, 0, -1); // interrupted, or refused this once
    while (uring_ring_ready(r) != 0) {
        const struct io_uring_cqe *cqe = uring_ring_cqe_at(r, r->seen);
        if (cqe->user_data == token && cqe->res >= 0) calls->close(cqe->res);
        uring_ring_seen(r, r->seen + 1);
    }
}

static bool try_accept(uring_ring *r) {
    const int listener = noted(calls->socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    struct sockaddr_un at = {};
    at.sun_family = AF_UNIX;
    socklen_t len = sizeof(sa_family_t); // an abstract name of the kernel's choice
    auto *any = reinterpret_cast<struct sockaddr *>(&at);
    bool works = listener >= 0 && calls->bind(listener, any, len) == 0 && calls->listen(listener, 4) == 0;
    len = sizeof at;
    works = works && calls->getsockname(listener, any, &len) == 0;
    struct io_uring_sqe *sqe = uring_ring_sqe(r);
    io_uring_prep_multishot_accept(sqe, listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    sqe->user_data = 5;
    works = works && scratch_silent(r, 5);
    for (int i = 0; works && i < 2; i++) {
        const int client = noted(calls->socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
        struct io_uring_cqe cqe = {};
        works = client >= 0 && calls->connect(client, any, len) == 0 && scratch_await(r, 5, &cqe) && cqe.res >= 0 &&
                (cqe.flags & IORING_CQE_F_MORE) != 0;
        if (works) calls->close(cqe.res);
        if (client >= 0) calls->close(client);
    }
    if (listener >= 0) calls->close(listener);
    if (!works) accepted_close(r, 5);
    return works;
}

// Registers a ring of four buffers and receives into them twice by one request.
static bool try_receive_into(uring_ring *r, bool incremental, char *memory, struct io_uring_buf_ring *buffers) {
    uring_buffer_registration registration = {};
    registration.ring_addr = reinterpret_cast<uintptr_t>(buffers);
    registration.ring_entries = 4;
    registration.group = incremental ? 1 : 0;
    registration.flags = incremental ? URING_BUFFERS_INCREMENTAL : static_cast<uint16_t>(0);
    if (calls->uring_register(r->fd, IORING_REGISTER_PBUF_RING, &registration, 1) < 0) return false;
    io_uring_buf_ring_init(buffers);
    constexpr unsigned EACH = 512;
    for (unsigned short i = 0; i < 4; i++) io_uring_buf_ring_add(buffers, memory + i * EACH, EACH, i, 3, i);
    io_uring_buf_ring_advance(buffers, 4);

    int pair[2];
    if (!pair_open(pair)) return false;
    struct io_uring_sqe *sqe = uring_ring_sqe(r);
    io_uring_prep_recv_multishot(sqe, pair[0], nullptr, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = registration.group;
    sqe->user_data = 6;
    bool works = scratch_silent(r, 6);
    const char *const sent[2] = {"abc", "defgh"};
    for (unsigned i = 0; works && i < 2; i++) {
        struct io_uring_cqe cqe = {};
        const size_t n = strlen(sent[i]);
        works = send_bytes(pair[1], sent[i], n) && scratch_await(r, 6, &cqe) && cqe.res == static_cast<int>(n) &&
                (cqe.flags & (IORING_CQE_F_MORE | IORING_CQE_F_BUFFER)) == (IORING_CQE_F_MORE | IORING_CQE_F_BUFFER);
        const unsigned id = cqe.flags >> IORING_CQE_BUFFER_SHIFT;
        const bool more = (cqe.flags & IORING_CQE_F_BUF_MORE) != 0;
        if (incremental) works = works && id == 0 && more && memcmp(memory + i * 3, sent[i], n) == 0;
        else works = works && id == i && !more && memcmp(memory + i * EACH, sent[i], n) == 0;
    }
    pair_close(pair);
    struct io_uring_cqe last;
    return works && scratch_await(r, 6, &last) && last.res == 0 && (last.flags & IORING_CQE_F_MORE) == 0;
}

// Bytes and the end are there when the receive finds out that it may go on: both must come.
static bool try_receive_end(uring_ring *r, uint16_t group) {
    int pair[2];
    if (!pair_open(pair)) return false;
    bool works = send_bytes(pair[1], "x", 1) && calls->shutdown(pair[1], SHUT_WR) == 0;
    struct io_uring_sqe *sqe = uring_ring_sqe(r);
    io_uring_prep_recv_multishot(sqe, pair[0], nullptr, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->ioprio |= IORING_RECVSEND_POLL_FIRST; // the surest way into that state
    sqe->buf_group = group;
    sqe->user_data = 8;
    struct io_uring_cqe cqe;
    works = works && scratch_await(r, 8, &cqe) && cqe.res == 1 && scratch_await_for(r, 8, &cqe, SHORT_WAIT_NS) && cqe.res == 0;
    pair_close(pair);
    return works;
}

static bool try_receive(uring_ring *r, bool incremental, bool *unix_end) {
    auto *page = static_cast<char *>(noted(calls->map_shared(8192)));
    if (page == nullptr) return false;
    const bool works = try_receive_into(r, incremental, page + 4096, reinterpret_cast<struct io_uring_buf_ring *>(page));
    if (works && unix_end != nullptr) *unix_end = try_receive_end(r, incremental ? 1 : 0);
    uring_buffer_registration registration = {};
    registration.group = incremental ? 1 : 0;
    (void)calls->uring_register(r->fd, IORING_UNREGISTER_PBUF_RING, &registration, 1); // it may not have come so far
    calls->unmap(page, 8192);
    return works;
}

static struct io_uring_sqe *silent_send(uring_ring *r, int fd, const void *bytes, size_t n) {
    struct io_uring_sqe *sqe = uring_ring_sqe(r);
    io_uring_prep_send(sqe, fd, bytes, n, MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = 7;
    return sqe;
}

static bool try_send_on(uring_ring *r, const int pair[2], char *large, size_t n) {
    char got[8];
    silent_send(r, pair[0], "hello", 5);
    if (!scratch_silent(r, 7) || calls->recv(pair[1], got, sizeof got, MSG_DONTWAIT) != 5) return false;
    struct iovec pieces[2] = {{large, 2}, {large, 3}};
    struct msghdr message = {};
    message.msg_iov = pieces;
    message.msg_iovlen = 2;
    struct io_uring_sqe *sqe = silent_send(r, pair[0], nullptr, 0);
    io_uring_prep_sendmsg(sqe, pair[0], &message, MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = 7;
    if (!scratch_silent(r, 7) || calls->recv(pair[1], got, sizeof got, MSG_DONTWAIT) != 5) return false;
    struct io_uring_cqe cqe;
    silent_send(r, pair[0], large, n); // more than there is room for: how much went must be told
    if (!scratch_await(r, 7, &cqe) || cqe.res <= 0 || static_cast<size_t>(cqe.res) >= n) return false;
    silent_send(r, pair[0], large, n);
    if (!scratch_await(r, 7, &cqe) || cqe.res != -EAGAIN) return false;
    if (calls->shutdown(pair[1], SHUT_RD) < 0) return false;
    silent_send(r, pair[0], large, 1);
    return scratch_await(r, 7, &cqe) && cqe.res == -EPIPE;
}

static bool try_send(uring_ring *r) {
    if ((r->features & IORING_FEAT_CQE_SKIP) == 0) return false;
    int pair[2];
    if (!pair_open(pair)) return false;
    constexpr size_t LARGE = 1 << 20;
    auto *large = static_cast<char *>(noted(calls->map(LARGE)));
    const int small = 32768;
    const bool works = large != nullptr && calls->setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0 &&
                       try_send_on(r, pair, large, LARGE);
    if (large != nullptr) calls->unmap(large, LARGE);
    pair_close(pair);
    return works;
}

static int tcp_socket() {
    return noted(calls->socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
}

// Told to connect by the ring; how it goes on is seen at the listener.
static int ring_connect(uring_ring *r, int fd, struct sockaddr *at, socklen_t len) {
    struct io_uring_sqe *sqe = uring_ring_sqe(r);
    io_uring_prep_connect(sqe, fd, at, len);
    sqe->user_data = 9;
    struct io_uring_cqe cqe;
    return scratch_await_for(r, 9, &cqe, WAIT_MS * 1000000ll) ? cqe.res : -ETIMEDOUT;
}

// A connection over loopback, made by that ring, or by a call where it is nullptr. What is not made is -1.
static bool tcp_open(uring_ring *r, int pair[2]) {
    struct sockaddr_in at = {};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t len = sizeof at;
    auto *any = reinterpret_cast<struct sockaddr *>(&at);
    const int listener = tcp_socket();
    pair[0] = tcp_socket();
    pair[1] = -1;
    bool works = listener >= 0 && pair[0] >= 0 && calls->bind(listener, any, len) == 0 &&
                 calls->listen(listener, 1) == 0 && calls->getsockname(listener, any, &len) == 0;
    int error = -ENOTCONN;
    if (works) error = r != nullptr ? ring_connect(r, pair[0], any, len) : calls->connect(pair[0], any, len);
    works = (error == 0 || (error == -EINPROGRESS && r == nullptr)) && calls->poll_one(listener, POLLIN, WAIT_MS) > 0;
    if (works) pair[1] = noted(calls->accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (listener >= 0) calls->close(listener);
    return pair[1] >= 0;
}

// All of it arrives. Then the connection is reset: what is not acknowledged yet would keep us waiting.
static bool tcp_arrives(int *peer, const char *bytes, size_t n) {
    char got[64];
    const bool arrived = calls->poll_one(*peer, POLLIN, WAIT_MS) > 0 &&
                         calls->recv(*peer, got, sizeof got, MSG_DONTWAIT) == static_cast<ssize_t>(n) &&
                         memcmp(got, bytes, n) == 0;
    const struct linger none = {1, 0};
    (void)calls->setsockopt(*peer, SOL_SOCKET, SO_LINGER, &none, sizeof none); // else a little longer
    calls->close(*peer);
    *peer = -1;
    return arrived;
}

// One send: its result, then the word that its memory is returned.
static bool try_zerocopy_on(uring_ring *r, int fd, int *peer, bool many) {
    static char bytes[64] = "lent";
    struct iovec pieces[2] = {{bytes, 30}, {bytes + 30, sizeof bytes - 30}};
    struct msghdr message = {};
    message.msg_iov = pieces;
    message.msg_iovlen = 2;
    struct io_uring_sqe *sqe = uring_ring_sqe(r);
    if (many) io_uring_prep_sendmsg_zc(sqe, fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    else io_uring_prep_send_zc(sqe, fd, bytes, sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL, 0);
    sqe->ioprio |= IORING_SEND_ZC_REPORT_USAGE;
    sqe->user_data = 8;
    struct io_uring_cqe cqe;
    const int before = shortage;
    const bool sent = scratch_await(r, 8, &cqe) && cqe.res == static_cast<int>(sizeof bytes);
    shortage = before; // no memory may be locked: a limit, not want of the moment
    constexpr unsigned both = IORING_CQE_F_MORE | IORING_CQE_F_NOTIF;
    return sent && (cqe.flags & both) == IORING_CQE_F_MORE && tcp_arrives(peer, bytes, sizeof bytes) &&
           scratch_await(r, 8, &cqe) && (cqe.flags & both) == IORING_CQE_F_NOTIF;
}

static bool try_zerocopy(uring_ring *r, bool many) {
    int pair[2];
    const bool works = tcp_open(nullptr, pair) && try_zerocopy_on(r, pair[0], &pair[1], many);
    for (int fd : pair)
        if (fd >= 0) calls->close(fd);
    return works;
}

static bool try_connect(uring_ring *r) {
    int pair[2];
    const bool works = tcp_open(r, pair);
    const struct linger none = {1, 0};
    for (int fd : pair) {
        if (fd < 0) continue;
        (void)calls->setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none); // else its port is kept for a minute
        calls->close(fd);
    }
    return works;
}

// ------------------------------------------------------------------------------------------------------ the verdict

struct opcodes {
    uint8_t known[256];
};

static void opcodes_ask(const uring_ring *r, opcodes *out) {
    constexpr unsigned MOST = 256;
    alignas(struct io_uring_probe) char memory[sizeof(struct io_uring_probe) + MOST * sizeof(struct io_uring_probe_op)] = {};
    *out = opcodes();
    if (calls->uring_register(r->fd, IORING_REGISTER_PROBE, memory, MOST) < 0) return;
    const auto *probe = reinterpret_cast<const struct io_uring_probe *>(memory);
    for (unsigned i = 0; i < probe->ops_len && i < MOST; i++)
        out->known[i] = (probe->ops[i].flags & IO_URING_OP_SUPPORTED) != 0 ? 1 : 0;
}

static bool try_files(uring_ring *r) {
    constexpr uint64_t TOKEN = 91;
    alignas(8) static char facts[512];
    struct io_uring_cqe answer;
    struct io_uring_sqe *sqe = uring_ring_sqe(r);
    io_uring_prep_statx(sqe, AT_FDCWD, "/", 0, sys_statx_mask(), reinterpret_cast<struct statx *>(facts));
    sqe->user_data = TOKEN;
    return sys_statx_size() <= sizeof facts && scratch_await(r, TOKEN, &answer) && answer.res == 0;
}

static void try_all(uring_ring *r, uring_features *f) {
    constexpr uint32_t needed = IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_EXT_ARG;
    if ((r->features & needed) != needed || !try_poll(r)) {
        f->verdict = -ENOTSUP;
        f->works = 0; // of a ring that is not used
        return;
    }
    opcodes op;
    opcodes_ask(r, &op);
    if (op.known[IORING_OP_ASYNC_CANCEL] == 0 || !try_cancel(r)) return; // what cannot be cancelled is not begun
    f->works |= MIO_URING_CANCEL;
    for (unsigned i = 0; i < 64; i++) f->opcodes |= static_cast<uint64_t>(op.known[i] != 0) << i;
    if (op.known[IORING_OP_STATX] != 0 && try_files(r)) f->works |= MIO_URING_FILES;
    if (op.known[IORING_OP_ACCEPT] != 0 && try_accept(r)) f->works |= MIO_URING_ACCEPT;
    if (op.known[IORING_OP_CONNECT] != 0 && try_connect(r)) f->works |= MIO_URING_CONNECT;
    bool unix_end = false;
    if (op.known[IORING_OP_RECV] != 0 && try_receive(r, false, &unix_end)) f->works |= MIO_URING_RECEIVE;
    if (unix_end) f->works |= URING_RECEIVE_UNIX;
    if ((f->works & MIO_URING_RECEIVE) != 0 && try_receive(r, true, nullptr)) f->works |= MIO_URING_INCREMENTAL;
    if (op.known[IORING_OP_SEND] != 0 && op.known[IORING_OP_SENDMSG] != 0 && try_send(r)) f->works |= MIO_URING_SEND;
    if (op.known[IORING_OP_SEND_ZC] != 0 && op.known[IORING_OP_SENDMSG_ZC] != 0 && try_zerocopy(r, false) &&
        try_zerocopy(r, true))
        f->works |= MIO_URING_ZEROCOPY;
}

// Names joined by commas, or "all"; what is no name is passed over, as the environment is nobody's program.
static uint32_t mask_parse(const char *text) {
    uint32_t masked = 0;
    while (text != nullptr && *text != 0) {
        const size_t n = strcspn(text, ",");
        if (n == 3 && strncmp(text, "all", 3) == 0) masked = MIO_URING_ALL;
        for (const uring_feature_name &known : uring_feature_names)
            if (strlen(known.name) == n && strncmp(text, known.name, n) == 0) masked |= known.feature;
        text += n + (text[n] == ',');
    }
    return masked;
}

static void features_test(uring_features *f) {
    *f = uring_features();
    shortage = 0;
    static constexpr uint32_t plain[] = {IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN, IORING_SETUP_SUBMIT_ALL, 0};
    // TASKRUN_FLAG: work that an enter left undone shows (uring_ring_unfinished).
    constexpr uint32_t defer = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                               IORING_SETUP_TASKRUN_FLAG;
    uring_ring ring;
    f->verdict = scratch_open(&ring, defer);
    if (f->verdict >= 0) {
        f->works = MIO_URING_DEFER;
        f->setup = defer;
    }
    for (const uint32_t flags : plain) {
        uring_ring other;
        const int refused = scratch_open(&other, flags);
        if (refused == -EINVAL) continue;
        if (refused < 0) {
            if (f->verdict < 0) f->verdict = refused;
            break;
        }
        f->setup_plain = flags;
        if (f->verdict < 0) ring = other;
        else uring_ring_close(&other, false);
        f->verdict = 0;
        break;
    }
    if (f->verdict < 0) return;
    try_all(&ring, f);
    uring_ring_close(&ring, false);
}

// A ring that is closed is taken apart some ms later, with a signal of sorts to each thread that had a part in it: a call
// that this one waits in then (epoll_wait, recv) would return EINTR, for no reason it knows of. So the rings are another
// thread's, which is gone by then. (SIGSYS is how some sandboxes answer a system call: blocked, it kills.)
static void *features_thread(void *arg) {
    sigset_t sandbox;
    sigemptyset(&sandbox);
    sigaddset(&sandbox, SIGSYS);
    (void)calls->thread_sigmask(SIG_UNBLOCK, &sandbox, nullptr);
    features_test(static_cast<uring_features *>(arg));
    return nullptr;
}

static void features_test_aside(uring_features *f) {
    pthread_t thread;
    int cancellable;
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancellable); // the join is a place to be cancelled at
    if (calls->thread_start(&thread, features_thread, f) == 0) (void)pthread_join(thread, nullptr);
    else features_test(f);
    (void)pthread_setcancelstate(cancellable, nullptr);
}

static uring_features features;
static std::atomic<int> features_state{0}; // 0: nobody asked, 1: somebody tests, 2: known
constexpr int TESTED_WITHIN_MS = 5000;

// The tester's part. An error of the moment is its caller's alone.
static int features_find(uring_features *out) {
    features_test_aside(out);
    out->masked = mask_parse(secure_getenv("MIO_URING_MASK"));
    if (shortage < 0) out->verdict = shortage;
    else features = *out;
    features_state.store(shortage < 0 ? 0 : 2, std::memory_order_release);
    return out->verdict;
}

int uring_features_known(uring_features *out) {
    int tries = 0;
    while (features_state.load(std::memory_order_acquire) != 2) {
        int state = 0;
        if (features_state.compare_exchange_strong(state, 1, std::memory_order_acquire)) return features_find(out);
        if (tries++ < TESTED_WITHIN_MS) {
            (void)calls->poll_one(-1, 0, 1); // another thread tests
        } else {
            state = 1; // the tester was a thread of another process: this one was forked meanwhile
            features_state.compare_exchange_strong(state, 0);
        }
    }
    *out = features;
    return out->verdict;
}

void uring_features_preset(const uring_features *given) {
    features = *given;
    features_state.store(2, std::memory_order_release);
}

}
