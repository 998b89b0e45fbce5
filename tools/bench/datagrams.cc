// Echo over UDP, on loopback: a server of libmio's against a loop written by hand, epoll_wait, recvmmsg and sendmmsg of up
// to 32. Clients send one datagram each (or, with a depth, several), the server runs until all have been sent back, the
// clients read and count. Only the middle is timed, in interleaved rounds, all on one thread.
#include "bench/bench.h"

#include <mio.h>

#include <arpa/inet.h>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace bench {

struct datagram_cell {
    unsigned clients;
    size_t size;
    unsigned depth;
};
constexpr datagram_cell CELLS[] = {{1, 100, 1}, {32, 100, 1}, {32, 1024, 1}, {32, 100, 8}};
constexpr unsigned CLIENTS_MAX = 32;
constexpr size_t SIZE_MAX_BYTES = 1024;
constexpr unsigned WARM_UP = 8;
constexpr unsigned HAND_BATCH = 32;

struct datagram_side {
    const char *name;
    void (*open)(struct sockaddr_in *at);
    void (*serve)(uint64_t datagrams);
    void (*close)();
};

// --- by hand --------------------------------------------------------------------------------------------------------

static int hand_fd, hand_epoll;
static struct mmsghdr hand_messages[HAND_BATCH];
static struct iovec hand_iov[HAND_BATCH];
static struct sockaddr_storage hand_names[HAND_BATCH];
static char hand_bytes[HAND_BATCH][2048];

static void hand_open(struct sockaddr_in *at) {
    hand_fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof *at;
    if (hand_fd < 0 || bind(hand_fd, reinterpret_cast<struct sockaddr *>(at), len) < 0) fail_errno("bind");
    if (getsockname(hand_fd, reinterpret_cast<struct sockaddr *>(at), &len) < 0) fail_errno("getsockname");
    hand_epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {};
    event.events = EPOLLIN;
    if (hand_epoll < 0 || epoll_ctl(hand_epoll, EPOLL_CTL_ADD, hand_fd, &event) < 0) fail_errno("epoll");
}

static void hand_serve(uint64_t datagrams) {
    while (datagrams != 0) {
        struct epoll_event event;
        if (epoll_wait(hand_epoll, &event, 1, 0) <= 0) continue;
        for (unsigned i = 0; i < HAND_BATCH; i++) {
            hand_iov[i] = iovec{hand_bytes[i], sizeof hand_bytes[i]};
            hand_messages[i] = {};
            hand_messages[i].msg_hdr.msg_name = &hand_names[i];
            hand_messages[i].msg_hdr.msg_namelen = sizeof hand_names[i];
            hand_messages[i].msg_hdr.msg_iov = &hand_iov[i];
            hand_messages[i].msg_hdr.msg_iovlen = 1;
        }
        const int got = recvmmsg(hand_fd, hand_messages, HAND_BATCH, MSG_DONTWAIT, nullptr);
        if (got < 0 && errno == EAGAIN) continue;
        if (got < 0) fail_errno("recvmmsg");
        for (int i = 0; i < got; i++) hand_iov[i].iov_len = hand_messages[i].msg_len;
        for (int done = 0; done < got;) {
            const int sent = sendmmsg(hand_fd, hand_messages + done, static_cast<unsigned>(got - done), MSG_DONTWAIT);
            if (sent < 0) fail_errno("sendmmsg");
            done += sent;
        }
        datagrams -= static_cast<uint64_t>(got);
    }
}

static void hand_close() {
    close(hand_epoll);
    close(hand_fd);
}

// --- libmio ---------------------------------------------------------------------------------------------------------

static mio_loop_t *mio_server;
static uint64_t mio_sent;

static void on_sent(mio_udp_t *, int status, int64_t, mio_buf_t *, unsigned, void *) {
    if (status < 0) fail("mio_udp_send: %s", mio_error_text(status));
    mio_sent++;
}

static void on_datagram(mio_udp_t *udp, int status, mio_datagram_t *datagram, void *) {
    if (status == MIO_ECANCELED) return;
    if (status < 0) fail("receiving: %s", mio_error_text(status));
    if (mio_udp_send(udp, &datagram->buf, 1, &datagram->addr, on_sent, nullptr) < 0) fail("mio_udp_send");
}

static void mio_open(struct sockaddr_in *at, enum mio_backend backend) {
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.backend = backend;
    mio_udp_t *udp;
    mio_addr_t addr;
    if (mio_loop_create(&mio_server, &options) < 0 || mio_addr_parse("127.0.0.1", 0, &addr) < 0) fail("mio_loop_create");
    if (mio_udp_open(mio_server, AF_INET, nullptr, &udp) < 0 || mio_udp_bind(udp, &addr) < 0) fail("mio_udp_open");
    if (mio_udp_local(udp, &addr) < 0 || mio_udp_recv_start(udp, on_datagram, nullptr) < 0) fail("mio_udp_recv_start");
    memcpy(at, &addr.u, sizeof *at);
}

static void mio_epoll_open(struct sockaddr_in *at) { mio_open(at, MIO_BACKEND_EPOLL); }
static void mio_ring_open(struct sockaddr_in *at) { mio_open(at, MIO_BACKEND_IO_URING); }

static void mio_serve(uint64_t datagrams) {
    const uint64_t until = mio_sent + datagrams;
    while (mio_sent < until)
        if (mio_loop_run_once(mio_server, 0) < 0) fail("mio_loop_run_once");
}

static void mio_close() {
    if (mio_loop_destroy(mio_server, MIO_SECOND) != 0) fail("mio_loop_destroy");
}

static const datagram_side hand = {"hand", hand_open, hand_serve, hand_close};
static const datagram_side with_epoll = {"mio-epoll", mio_epoll_open, mio_serve, mio_close};
static const datagram_side with_ring = {"mio-ring", mio_ring_open, mio_serve, mio_close};

// --- cells ----------------------------------------------------------------------------------------------------------

static void clients_open(int *clients, unsigned n, const struct sockaddr_in *at) {
    for (unsigned i = 0; i < n; i++) {
        clients[i] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (clients[i] < 0 || connect(clients[i], reinterpret_cast<const struct sockaddr *>(at), sizeof *at) < 0)
            fail_errno("connect");
    }
}

static int64_t pass(const datagram_side *server, const int *clients, const datagram_cell *of) {
    static char bytes[SIZE_MAX_BYTES], back[SIZE_MAX_BYTES + 1];
    for (unsigned i = 0; i < of->clients * of->depth; i++) {
        memset(bytes, static_cast<int>(i), of->size);
        if (send(clients[i % of->clients], bytes, of->size, 0) < 0) fail_errno("send");
    }
    const int64_t begun_ns = clock_ns();
    server->serve(of->clients * of->depth);
    const int64_t took_ns = clock_ns() - begun_ns;
    for (unsigned i = 0; i < of->clients * of->depth; i++) {
        const ssize_t got = recv(clients[i % of->clients], back, sizeof back, MSG_DONTWAIT);
        memset(bytes, static_cast<int>(i), of->size);
        if (got != static_cast<ssize_t>(of->size) || memcmp(bytes, back, of->size) != 0) fail("another datagram came back");
    }
    return took_ns;
}

static void cell_run(const settings *with, const char *name, const datagram_cell *of, const datagram_side *const servers[2]) {
    int clients[2][CLIENTS_MAX];
    for (unsigned w = 0; w < 2; w++) {
        struct sockaddr_in at = {};
        at.sin_family = AF_INET;
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        servers[w]->open(&at);
        clients_open(clients[w], of->clients, &at);
    }
    const unsigned datagrams = of->clients * of->depth, passes = (with->echoes + datagrams - 1) / datagrams;
    figures ns[2], ratios;
    figures_open(&ns[0], with->rounds);
    figures_open(&ns[1], with->rounds);
    figures_open(&ratios, with->rounds);
    for (unsigned round = 0; round < with->rounds + WARM_UP; round++) {
        double took[2] = {};
        for (unsigned i = 0; i < 2; i++) {
            const unsigned which = (round + i) % 2;
            for (unsigned p = 0; p < passes; p++) took[which] += static_cast<double>(pass(servers[which], clients[which], of));
            took[which] /= static_cast<double>(passes) * datagrams;
        }
        if (round < WARM_UP) continue;
        figures_add(&ns[0], took[0]);
        figures_add(&ns[1], took[1]);
        figures_add(&ratios, took[0] / took[1]);
    }
    const char *const names[2] = {servers[0]->name, servers[1]->name};
    const double p10[2] = {figures_percentile(&ns[0], 10), figures_percentile(&ns[1], 10)};
    const double median[2] = {figures_percentile(&ns[0], 50), figures_percentile(&ns[1], 50)};
    report_pair(with, name, names, p10, median, figures_percentile(&ratios, 50));
    figures_close(&ns[0]);
    figures_close(&ns[1]);
    figures_close(&ratios);
    for (unsigned w = 0; w < 2; w++) {
        for (unsigned i = 0; i < of->clients; i++) close(clients[w][i]);
        servers[w]->close();
    }
}

void datagrams_run(const settings *with) {
    static const datagram_side *const measured[] = {&with_epoll, &with_ring};
    for (const datagram_side *one : measured) {
        bool headed = false;
        for (const datagram_cell &of : CELLS) {
            char name[64];
            const int len = snprintf(name, sizeof name, "datagrams/%s/%u/%zu", one->name, of.clients, of.size);
            if (of.depth > 1) snprintf(name + len, sizeof name - static_cast<size_t>(len), "x%u", of.depth);
            if (!cell_wanted(with, name)) continue;
            if (with->list) {
                printf("%s\n", name);
                continue;
            }
            const datagram_side *const servers[2] = {one, &hand};
            const char *const names[2] = {one->name, hand.name};
            if (!headed) {
                report_heading(with, "Server-side ns per echo over UDP; datagrams/BACKEND/CLIENTS/BYTES[xDEPTH]");
                report_pair_heading(with, names);
            }
            headed = true;
            cell_run(with, name, &of, servers);
        }
    }
}

}
