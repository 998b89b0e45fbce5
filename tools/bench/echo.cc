// The driver of the echo cells. It writes a message into every client end (or, in the cells with a depth, that many one
// after the other), lets the server under measurement run until all have been sent back, drains the client ends and
// compares what came with what went. Only the middle is timed. All of it happens on one thread: what is measured is the
// work of the server's side, not of a scheduler.
#include "bench/bench.h"

#include <arpa/inet.h>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

// In C, not inlined: a profiler is told to count inside it and nowhere else.
extern "C" void bench_serve(const bench::side *server, void *state, uint64_t bytes);
extern "C" __attribute__((noinline)) void bench_serve(const bench::side *server, void *state, uint64_t bytes) {
    server->serve(state, bytes);
}

namespace bench {

struct cell {
    char name[32];
    bool tcp;
    unsigned connections;
    size_t size;
    unsigned depth; // messages that a client has on the way at once
};

constexpr struct {
    size_t size;
    unsigned depth;
} MESSAGES[] = {{100, 1}, {1024, 1}, {16384, 1}, {100, 16}, {1024, 16}};
constexpr unsigned CONNECTIONS[] = {1, 32, 250};
constexpr unsigned CONNECTIONS_MAX = 250;
constexpr size_t PASS_MAX_BYTES = 16384; // of one connection
constexpr size_t APART_BYTES = 8;
constexpr unsigned WARM_UP_ROUNDS = 8;

static unsigned cell_echoes(const cell *of) { return of->connections * of->depth; } // in one pass

struct world {
    const side *server;
    void *state;
    const cell *of;
    int clients[CONNECTIONS_MAX];
};

// Random bytes. Each connection's begin somewhere else: what comes back on the wrong one, twice or out of order differs
// from what went.
static char pattern[PASS_MAX_BYTES + APART_BYTES * CONNECTIONS_MAX];
static char answer[PASS_MAX_BYTES + 1];

static const char *pattern_of(unsigned connection) { return pattern + APART_BYTES * connection; }

// --- sockets --------------------------------------------------------------------------------------------------------

static int listen_somewhere(struct sockaddr_in *at) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) fail_errno("socket");
    *at = {};
    at->sin_family = AF_INET;
    at->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t len = sizeof *at;
    if (bind(fd, reinterpret_cast<struct sockaddr *>(at), len) < 0) fail_errno("bind");
    if (listen(fd, 16) < 0) fail_errno("listen");
    if (getsockname(fd, reinterpret_cast<struct sockaddr *>(at), &len) < 0) fail_errno("getsockname");
    return fd;
}

static void pair_tcp(int listener, const struct sockaddr_in *at, int pair[2]) {
    pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (pair[0] < 0) fail_errno("socket");
    if (connect(pair[0], reinterpret_cast<const struct sockaddr *>(at), sizeof *at) < 0) fail_errno("connect");
    pair[1] = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (pair[1] < 0) fail_errno("accept4");
    const int on = 1;
    for (int i = 0; i < 2; i++)
        if (setsockopt(pair[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0) fail_errno("setsockopt");
}

// The worlds' sockets are made in turns, so that none has the better half of the kernel's memory.
static void worlds_open(world *worlds, unsigned n, const cell *of, const side *const *servers) {
    static int fds[2][CONNECTIONS_MAX];
    struct sockaddr_in at;
    const int listener = of->tcp ? listen_somewhere(&at) : -1;
    for (unsigned i = 0; i < of->connections; i++)
        for (unsigned w = 0; w < n; w++) {
            int pair[2];
            if (of->tcp) pair_tcp(listener, &at, pair);
            else if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) fail_errno("socketpair");
            worlds[w].clients[i] = pair[0];
            fds[w][i] = pair[1];
        }
    if (listener >= 0) close(listener);
    for (unsigned w = 0; w < n; w++) {
        worlds[w].server = servers[w];
        worlds[w].of = of;
        worlds[w].state = servers[w]->open(fds[w], of->connections);
    }
}

static void world_close(world *w) {
    for (unsigned i = 0; i < w->of->connections; i++) close(w->clients[i]);
    w->server->close(w->state);
}

// --- one pass -------------------------------------------------------------------------------------------------------

static void client_fill(int fd, const char *bytes, size_t size, unsigned depth) {
    for (unsigned i = 0; i < depth; i++) {
        const ssize_t n = send(fd, bytes + i * size, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n != static_cast<ssize_t>(size)) fail("a socket does not hold one pass: %zd", n);
    }
}

// Asks for a byte more than there should be.
static void client_drain(int fd, const char *bytes, size_t size) {
    size_t got = 0;
    while (got < size) {
        const ssize_t n = recv(fd, answer + got, size + 1 - got, MSG_DONTWAIT);
        if (n > 0) {
            got += static_cast<size_t>(n);
            continue;
        }
        if (n == 0) fail("the server has closed a connection");
        if (errno != EAGAIN && errno != EINTR) fail_errno("recv");
        struct pollfd wait = {fd, POLLIN, 0};
        if (poll(&wait, 1, 5000) == 0) fail("an answer is short: %zu of %zu bytes", got, size);
    }
    if (got > size) fail("an answer is too long");
    if (memcmp(answer, bytes, size) != 0) fail("an answer is wrong");
}

// What every client has to say, through the server; the server's time.
static int64_t world_pass(world *w) {
    const cell *of = w->of;
    const size_t pass_bytes = of->size * of->depth;
    for (unsigned i = 0; i < of->connections; i++) client_fill(w->clients[i], pattern_of(i), of->size, of->depth);
    const int64_t begun_ns = clock_ns();
    bench_serve(w->server, w->state, of->connections * pass_bytes);
    const int64_t took_ns = clock_ns() - begun_ns;
    for (unsigned i = 0; i < of->connections; i++) client_drain(w->clients[i], pattern_of(i), pass_bytes);
    return took_ns;
}

static void pattern_next(uint64_t *seed) {
    static_assert(sizeof pattern % 8 == 0, "written in words");
    for (size_t i = 0; i < sizeof pattern; i += 8) {
        const uint64_t bits = random_next(seed);
        memcpy(pattern + i, &bits, 8);
    }
}

// ns per echo of one round.
static double world_round(world *w, unsigned passes, double clock_cost) {
    int64_t total_ns = 0;
    for (unsigned i = 0; i < passes; i++) total_ns += world_pass(w);
    const double echoes = static_cast<double>(passes) * cell_echoes(w->of);
    return (static_cast<double>(total_ns) - passes * clock_cost) / echoes;
}

// --- cells ----------------------------------------------------------------------------------------------------------

static const side *const sides[] = {&side_mio,  &side_mio_epoll, &side_mio_ring,    &side_level,
                                    &side_edge, &side_ring,      &side_ring_classic};

static const side *side_find(const char *name) {
    for (const side *s : sides) {
        if (strcmp(s->name, name) != 0) continue;
        if (s->open == nullptr) fail("side %s is not in this build: configure found no liburing", name);
        return s;
    }
    fail("no such side: %s (--help names them)", name);
}

static void descriptors_raise() {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) fail_errno("getrlimit");
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0) fail_errno("setrlimit");
    if (limit.rlim_cur < 4 * CONNECTIONS_MAX + 50) fail("%u descriptors are needed", 4 * CONNECTIONS_MAX + 50);
}

static void cell_run(const settings *with, const cell *of, const side *const servers[2]) {
    static world worlds[2];
    worlds_open(worlds, 2, of, servers);
    const unsigned passes = (with->echoes + cell_echoes(of) - 1) / cell_echoes(of);
    const double clock_cost = clock_cost_ns();
    uint64_t seed = of->size;
    figures ns[2], ratios;
    figures_open(&ns[0], with->rounds);
    figures_open(&ns[1], with->rounds);
    figures_open(&ratios, with->rounds);
    for (unsigned round = 0; round < with->rounds + WARM_UP_ROUNDS; round++) {
        pattern_next(&seed);
        double took[2];
        for (unsigned i = 0; i < 2; i++) {
            const unsigned which = (round + i) % 2;
            took[which] = world_round(&worlds[which], passes, clock_cost);
        }
        if (round < WARM_UP_ROUNDS) continue;
        figures_add(&ns[0], took[0]);
        figures_add(&ns[1], took[1]);
        figures_add(&ratios, took[0] / took[1]);
    }
    const char *const names[2] = {servers[0]->name, servers[1]->name};
    const double p10[2] = {figures_percentile(&ns[0], 10), figures_percentile(&ns[1], 10)};
    const double median[2] = {figures_percentile(&ns[0], 50), figures_percentile(&ns[1], 50)};
    report_pair(with, of->name, names, p10, median, figures_percentile(&ratios, 50));
    figures_close(&ns[0]);
    figures_close(&ns[1]);
    figures_close(&ratios);
    world_close(&worlds[0]);
    world_close(&worlds[1]);
}

// The cells in their order: transports, then numbers of connections, then messages.
static bool cell_make(cell *of, unsigned number) {
    constexpr unsigned messages = sizeof MESSAGES / sizeof MESSAGES[0];
    constexpr unsigned connections = sizeof CONNECTIONS / sizeof CONNECTIONS[0];
    if (number >= 2 * connections * messages) return false;
    const auto &message = MESSAGES[number % messages];
    *of = {};
    of->tcp = number / messages >= connections;
    of->connections = CONNECTIONS[number / messages % connections];
    of->size = message.size;
    of->depth = message.depth;
    const char *const transport = of->tcp ? "tcp" : "unix";
    const int len = snprintf(of->name, sizeof of->name, "echo/%s/%u/%zu", transport, of->connections, of->size);
    if (of->depth > 1) snprintf(of->name + len, sizeof of->name - static_cast<size_t>(len), "x%u", of->depth);
    return true;
}

// Cells with a depth are run only when somebody asks for cells.
static bool cell_asked(const settings *with, const cell *of) {
    return cell_wanted(with, of->name) && (of->depth == 1 || with->cell != nullptr || with->list);
}

void echo_run(const settings *with) {
    const side *const servers[2] = {side_find(with->sides[0]), side_find(with->sides[1])};
    bool headed = false;
    cell of;
    for (unsigned number = 0; cell_make(&of, number); number++) {
        if (!cell_asked(with, &of)) continue;
        if (with->list) {
            printf("%s\n", of.name);
            continue;
        }
        if (!headed) {
            descriptors_raise();
            report_heading(with, "Server-side ns per echo; echo/TRANSPORT/CONNECTIONS/BYTES[xDEPTH]");
            report_pair_heading(with, with->sides);
            headed = true;
        }
        cell_run(with, &of, servers);
    }
}

void echo_single(const char *name, const char *side_name, uint64_t echoes) {
    const side *const server = side_find(side_name);
    cell of;
    unsigned number = 0;
    do
        if (!cell_make(&of, number++)) fail("no such echo cell: %s", name);
    while (strcmp(of.name, name) != 0);
    static world w;
    uint64_t seed = 1;
    descriptors_raise();
    pattern_next(&seed);
    worlds_open(&w, 1, &of, &server);
    for (uint64_t done = 0; done < echoes; done += cell_echoes(&of)) world_pass(&w);
    world_close(&w);
}

}
