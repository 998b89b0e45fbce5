// Datagrams over UDP, on loopback: a server of libmio's against a loop written by hand on epoll, and two ways by hand
// on io_uring against one another. Clients send one datagram each (or, with a depth, several), the server runs until
// all have been sent back, the clients read and compare. (`receive`: it only receives.) Only the server is timed, in
// interleaved rounds, all on one thread; CPU is the same by the process' own clock, which others' work does not move.
#include "bench/datagrams.h"
#include "bench/bench.h"

#include <mio.h>

#include <arpa/inet.h>
#include <cstdio>
#include <cstring>
#include <unistd.h>

namespace bench {

struct datagram_cell {
    unsigned clients;
    size_t size;
    unsigned depth;
    bool echo;
};
constexpr datagram_cell CELLS[] = {{1, 100, 1, true},  {16, 100, 1, true}, {64, 100, 1, true},  {16, 1024, 1, true},
                                   {16, 100, 8, true}, {1, 100, 1, false}, {16, 100, 8, false}, {16, 1024, 4, false}};
constexpr unsigned CLIENTS_MAX = 64;
constexpr size_t SIZE_MAX_BYTES = 1024;
constexpr unsigned WARM_UP = 8;

// --- libmio ---------------------------------------------------------------------------------------------------------

static mio_loop_t *mio_server;
static bool mio_echo;
static uint64_t mio_served;

static void on_sent(mio_udp_t *, int status, int64_t, mio_buf_t *, unsigned, void *) {
    if (status < 0) fail("mio_udp_send: %s", mio_error_text(status));
    mio_served++;
}

static void on_datagram(mio_udp_t *udp, int status, mio_datagram_t *datagram, void *) {
    if (status == MIO_ECANCELED) return;
    if (status < 0) fail("receiving: %s", mio_error_text(status));
    if (!mio_echo) {
        mio_served++;
        return;
    }
    if (mio_udp_send(udp, &datagram->buf, 1, &datagram->addr, on_sent, nullptr) < 0) fail("mio_udp_send");
}

static void mio_open(struct sockaddr_in *at, bool echo, enum mio_backend backend) {
    mio_echo = echo;
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.backend = backend;
    mio_udp_t *udp;
    mio_addr_t addr;
    if (mio_loop_create(&mio_server, &options) < 0 || mio_addr_parse("127.0.0.1", 0, &addr) < 0)
        fail("mio_loop_create");
    if (mio_udp_open(mio_server, AF_INET, nullptr, &udp) < 0 || mio_udp_bind(udp, &addr) < 0) fail("mio_udp_open");
    if (mio_udp_local(udp, &addr) < 0 || mio_udp_recv_start(udp, on_datagram, nullptr) < 0) fail("mio_udp_recv_start");
    memcpy(at, &addr.u, sizeof *at);
}

static void mio_epoll_open(struct sockaddr_in *at, bool echo) { mio_open(at, echo, MIO_BACKEND_EPOLL); }
static void mio_ring_open(struct sockaddr_in *at, bool echo) { mio_open(at, echo, MIO_BACKEND_IO_URING); }

static void mio_serve(uint64_t datagrams) {
    const uint64_t until = mio_served + datagrams;
    while (mio_served < until)
        if (mio_loop_run_once(mio_server, 0) < 0) fail("mio_loop_run_once");
}

static void mio_close() {
    if (mio_loop_destroy(mio_server, MIO_SECOND) != 0) fail("mio_loop_destroy");
}

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

struct cost {
    double wall, cpu; // ns
};

static cost pass(const datagram_side *server, const int *clients, const datagram_cell *of) {
    static char bytes[SIZE_MAX_BYTES], back[SIZE_MAX_BYTES + 1];
    for (unsigned i = 0; i < of->clients * of->depth; i++) {
        memset(bytes, static_cast<int>(i), of->size);
        if (send(clients[i % of->clients], bytes, of->size, 0) < 0) fail_errno("send");
    }
    const int64_t cpu_begun_ns = cpu_ns(), begun_ns = clock_ns();
    server->serve(of->clients * of->depth);
    const int64_t ended_ns = clock_ns(), cpu_ended_ns = cpu_ns();
    for (unsigned i = 0; of->echo && i < of->clients * of->depth; i++) {
        const ssize_t got = recv(clients[i % of->clients], back, sizeof back, MSG_DONTWAIT);
        memset(bytes, static_cast<int>(i), of->size);
        if (got != static_cast<ssize_t>(of->size) || memcmp(bytes, back, of->size) != 0)
            fail("another datagram came back");
    }
    return {static_cast<double>(ended_ns - begun_ns), static_cast<double>(cpu_ended_ns - cpu_begun_ns)};
}

struct compared { // two sides, in rounds
    figures ns[2], ratios;
};

static void compared_open(compared *c, unsigned rounds) {
    figures_open(&c->ns[0], rounds);
    figures_open(&c->ns[1], rounds);
    figures_open(&c->ratios, rounds);
}

static void compared_add(compared *c, double first, double second) {
    figures_add(&c->ns[0], first);
    figures_add(&c->ns[1], second);
    figures_add(&c->ratios, first / second);
}

static void compared_close(const settings *with, const char *name, const datagram_side *const servers[2], compared *c) {
    const char *const names[2] = {servers[0]->name, servers[1]->name};
    const double p10[2] = {figures_percentile(&c->ns[0], 10), figures_percentile(&c->ns[1], 10)};
    const double median[2] = {figures_percentile(&c->ns[0], 50), figures_percentile(&c->ns[1], 50)};
    report_pair(with, name, names, p10, median, figures_percentile(&c->ratios, 50));
    figures_close(&c->ns[0]);
    figures_close(&c->ns[1]);
    figures_close(&c->ratios);
}

static void cell_run(const settings *with, const char *name, const datagram_cell *of,
                     const datagram_side *const servers[2]) {
    int clients[2][CLIENTS_MAX];
    for (unsigned w = 0; w < 2; w++) {
        struct sockaddr_in at = {};
        at.sin_family = AF_INET;
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        servers[w]->open(&at, of->echo);
        clients_open(clients[w], of->clients, &at);
    }
    const unsigned datagrams = of->clients * of->depth, passes = (with->echoes + datagrams - 1) / datagrams;
    const double clock_ns = clock_cost_ns(), cpu_clock_ns = cpu_cost_ns() + clock_ns;
    compared wall, cpu;
    compared_open(&wall, with->rounds);
    compared_open(&cpu, with->rounds);
    for (unsigned round = 0; round < with->rounds + WARM_UP; round++) {
        cost took[2] = {};
        for (unsigned i = 0; i < 2; i++) {
            const unsigned which = (round + i) % 2;
            for (unsigned p = 0; p < passes; p++) {
                const cost one = pass(servers[which], clients[which], of);
                took[which].wall += one.wall - clock_ns;
                took[which].cpu += one.cpu - cpu_clock_ns;
            }
        }
        if (round < WARM_UP) continue;
        const double served = static_cast<double>(passes) * datagrams;
        compared_add(&wall, took[0].wall / served, took[1].wall / served);
        compared_add(&cpu, took[0].cpu / served, took[1].cpu / served);
    }
    char cpu_name[80];
    snprintf(cpu_name, sizeof cpu_name, "%s, CPU", name);
    compared_close(with, name, servers, &wall);
    compared_close(with, cpu_name, servers, &cpu);
    for (unsigned w = 0; w < 2; w++) {
        for (unsigned i = 0; i < of->clients; i++) close(clients[w][i]);
        servers[w]->close();
    }
}

void datagrams_run(const settings *with) {
    static const datagram_side *const measured[][2] = {
        {&with_epoll, &datagrams_hand},
        {&with_ring, &datagrams_hand},
#ifdef BENCH_LIBURING
        {&datagrams_ring_receive, &datagrams_ring_poll},
#endif
    };
    for (const datagram_side *const *servers : measured) {
        bool headed = false;
        for (const datagram_cell &of : CELLS) {
            char name[64];
            const int len = snprintf(name, sizeof name, "datagrams/%s/%s/%u/%zu", servers[0]->name,
                                     of.echo ? "echo" : "receive", of.clients, of.size);
            if (of.depth > 1) snprintf(name + len, sizeof name - static_cast<size_t>(len), "x%u", of.depth);
            if (!cell_wanted(with, name)) continue;
            if (with->list) {
                printf("%s\n", name);
                continue;
            }
            const char *const names[2] = {servers[0]->name, servers[1]->name};
            if (!headed) {
                report_heading(
                    with,
                    "Server-side ns per datagram over UDP; datagrams/SERVER/echo or receive/CLIENTS/BYTES[xDEPTH]");
                report_pair_heading(with, names);
            }
            headed = true;
            cell_run(with, name, &of, servers);
        }
    }
}

}
