// The other ends of tests/examples/http_server, on plain sockets.
//
//   http_peer storm PORT CONNECTIONS REQUESTS FOLDER   so many connections, open all at once, ask for REQUESTS things each:
//                                       files, relayed files, programs, what is not there; each answer must be right to
//                                       the byte. FOLDER has what the server has
//   http_peer echo                      prints "port N"; an upstream: answers each request with its head and its body
//   http_peer last PORT PATH FILE       asks, says "asked", and ends with 0 when the answer is FILE and the connection ended
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <strings.h>
#include <vector>

[[noreturn]] static void die(const std::string &what) {
    fprintf(stderr, "http_peer: %s (%s)\n", what.c_str(), strerror(errno));
    exit(1);
}

static sockaddr_in local(int port) {
    sockaddr_in addr = {};
    addr.sin_family = AF_INET;
    addr.sin_port = htons(static_cast<uint16_t>(port));
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return addr;
}

static std::string contents(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    if (!file.is_open()) die(path);
    return std::string(std::istreambuf_iterator<char>(file), {});
}

// What there is to ask for, and what must come.
struct thing {
    std::string path, body;
    int status;
    bool closes;
};

static std::vector<thing> things;
static int port;

struct client {
    int fd = -1, left = 0, waits = 0;                        // waits: for what of things
    std::string out, in;
};

static void connect_again(client *c) {
    const sockaddr_in addr = local(port);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) die("socket");
    if (connect(c->fd, reinterpret_cast<const sockaddr *>(&addr), sizeof addr) < 0 && errno != EINPROGRESS) die("connect");
}

// Programs are few: of a hundred connections two ask for them.
static void ask(client *c, size_t number) {
    const size_t plain = things.size() - 1;
    c->waits = static_cast<int>(number % 50 == 0 ? plain : (number * 7 + static_cast<size_t>(c->left)) % plain);
    c->out = "GET " + things[static_cast<size_t>(c->waits)].path + " HTTP/1.1\r\nHost: here\r\n\r\n";
    c->in.clear();
}

// True: the answer is whole, and right.
static bool whole(const client &c) {
    const thing &t = things[static_cast<size_t>(c.waits)];
    const size_t end = c.in.find("\r\n\r\n");
    if (end == std::string::npos) return false;
    const char *length = strcasestr(c.in.c_str(), "\r\nContent-Length:");
    if (atoi(c.in.c_str() + strlen("HTTP/1.1 ")) != t.status || length == nullptr || length > c.in.c_str() + end)
        die(t.path + ": " + c.in.substr(0, end));
    const size_t expected = strtoul(length + strlen("\r\nContent-Length:"), nullptr, 10), got = c.in.size() - end - 4;
    if (got > expected) die(t.path + ": more than it said");
    if (got < expected) return false;
    if (t.status == 200 && c.in.compare(end + 4, got, t.body) != 0) die(t.path + ": another body");
    return true;
}

static int storm(size_t connections, int requests, const std::string &folder) {
    things = {{"/small.txt", contents(folder + "/small.txt"), 200, false}, {"/none", "", 404, false},
              {"/middle.bin", contents(folder + "/middle.bin"), 200, false}, {"/%2e%2e/small.txt", "", 400, true},
              {"/proxy/middle.bin", contents(folder + "/middle.bin"), 200, true}, {"/", contents(folder + "/index.html"), 200, false},
              {"/exec/hello", "program /hello\n", 200, false}};
    std::vector<client> clients(connections);
    std::vector<pollfd> polled(connections);
    size_t connected = 0, done = 0, answers = 0;
    for (client &c : clients) {
        connect_again(&c);
        c.left = requests;
    }
    while (done < connections) {
        for (size_t i = 0; i < connections; i++) {
            const client &c = clients[i];
            const bool writes = (connected < connections && c.waits == 0) || !c.out.empty();
            polled[i] = {c.fd, static_cast<short>(writes ? POLLOUT : POLLIN), 0};
            if (connected < connections && c.waits < 0) polled[i].fd = -1;   // until all are
        }
        const int ready = poll(polled.data(), polled.size(), 30000);
        if (ready <= 0) die("nothing for 30 s, after " + std::to_string(answers) + " answers");
        for (size_t i = 0; i < connections; i++) {
            client &c = clients[i];
            if (polled[i].fd < 0 || polled[i].revents == 0) continue;
            if (connected < connections) {
                c.waits = -1;
                if (++connected == connections)
                    for (size_t k = 0; k < connections; k++) ask(&clients[k], k);
                continue;
            }
            if (!c.out.empty()) {
                const ssize_t n = send(c.fd, c.out.data(), c.out.size(), MSG_NOSIGNAL);
                if (n < 0 && errno != EAGAIN) die("send");
                c.out.erase(0, n > 0 ? static_cast<size_t>(n) : 0);
                continue;
            }
            char bytes[65536];
            const ssize_t n = recv(c.fd, bytes, sizeof bytes, 0);
            if (n < 0 && errno == EAGAIN) continue;
            if (n < 0) die("receive, of " + things[static_cast<size_t>(c.waits)].path);
            c.in.append(bytes, static_cast<size_t>(n));
            const bool complete = whole(c);
            if (!complete && n == 0) die(things[static_cast<size_t>(c.waits)].path + " ended early: " + c.in.substr(0, 200));
            if (!complete) continue;
            answers++;
            if (--c.left == 0 || things[static_cast<size_t>(c.waits)].closes) {
                close(c.fd);
                c.fd = -1;
            }
            if (c.left == 0) {
                done++;
                continue;
            }
            if (c.fd < 0) connect_again(&c);
            ask(&c, i);
        }
    }
    printf("%zu answers\n", answers);
    return 0;
}

// The head of a request or an answer, and the length of its body.
static size_t length_of(const std::string &head) {
    const char *found = strcasestr(head.c_str(), "\r\nContent-Length:");
    return found == nullptr ? 0 : strtoul(found + strlen("\r\nContent-Length:"), nullptr, 10);
}

static int echo() {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in addr = local(0);
    socklen_t len = sizeof addr;
    if (bind(fd, reinterpret_cast<sockaddr *>(&addr), len) < 0 || listen(fd, 128) < 0) die("listen");
    if (getsockname(fd, reinterpret_cast<sockaddr *>(&addr), &len) < 0) die("getsockname");
    printf("port %d\n", ntohs(addr.sin_port));
    fflush(stdout);
    for (;;) {
        const int client = accept(fd, nullptr, nullptr);
        if (client < 0) die("accept");
        std::string in;
        char bytes[65536];
        ssize_t n = 1;
        size_t end = std::string::npos;
        while (n > 0 && (end == std::string::npos || in.size() < end + 4 + length_of(in.substr(0, end)))) {
            n = recv(client, bytes, sizeof bytes, 0);
            if (n > 0) in.append(bytes, static_cast<size_t>(n));
            end = in.find("\r\n\r\n");
        }
        const std::string out = "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(in.size()) + "\r\nConnection: close\r\n\r\n" + in;
        for (size_t at = 0; at < out.size();) {
            n = send(client, out.data() + at, out.size() - at, MSG_NOSIGNAL);
            if (n <= 0) break;
            at += static_cast<size_t>(n);
        }
        close(client);
    }
}

static int last(const std::string &path, const std::string &file) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    const sockaddr_in addr = local(port);
    if (connect(fd, reinterpret_cast<const sockaddr *>(&addr), sizeof addr) < 0) die("connect");
    const std::string out = "GET " + path + " HTTP/1.1\r\nHost: here\r\n\r\n";
    if (send(fd, out.data(), out.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(out.size())) die("send");
    printf("asked\n");
    fflush(stdout);
    std::string in;
    char bytes[16384];
    for (ssize_t n; (n = recv(fd, bytes, sizeof bytes, 0)) != 0; in.append(bytes, static_cast<size_t>(n))) {
        if (n < 0) die("receive, after " + std::to_string(in.size()) + " bytes");
        if (in.size() < 4000000) usleep(2000);               // slowly: the server is to be told to stop meanwhile
    }
    const size_t end = in.find("\r\n\r\n");
    if (end == std::string::npos || in.compare(end + 4, std::string::npos, contents(file)) != 0) die("another answer, " + std::to_string(in.size()) + " bytes: " + in.substr(0, end));
    printf("%zu bytes, all of them right\n", in.size());
    return 0;
}

int main(int argc, char **argv) {
    const std::string mode = argc > 1 ? argv[1] : "";
    if (mode == "echo") return echo();
    port = argc > 2 ? atoi(argv[2]) : 0;
    if (mode == "storm" && argc == 6) return storm(strtoul(argv[3], nullptr, 10), atoi(argv[4]), argv[5]);
    if (mode == "last" && argc == 5) return last(argv[3], argv[4]);
    fprintf(stderr, "http_peer: no such mode\n");
    return 2;
}
