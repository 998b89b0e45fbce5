// The other end of the examples' tests, on plain blocking sockets: what libmio does is told by one who does not use it.
//
//   peer half-close PORT BYTES CLIENTS   each client sends BYTES, ends its side, must get them all back, then EOF
//   peer source BYTES                    prints "port N", sends BYTES to the first who connects, waits until it is done
//   peer slow-reader PORT BYTES PID      reads BYTES, slowly at first, and checks them; prints the largest memory (KiB)
//                                        that process PID had meanwhile
//   peer silent                          prints "port N", accepts nobody, waits to be killed
//   peer unread                          prints "port N", accepts everybody and reads nothing; closes all but the last 100
//   peer resets PORT SECONDS             sixteen at once connect, send until nobody takes it, and reset; again and again
//   peer free-port                       prints a port that nobody listens on, of those that the system gives to nobody
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>
#include <string>
#include <thread>
#include <vector>

// Byte number i of a stream: 251 is prime, and a piece that is lost or moved shows.
static char byte_at(uint64_t i) { return static_cast<char>(i % 251 ^ (i >> 16)); }

[[noreturn]] static void die(const char *what) {
    perror(what);
    exit(1);
}

static struct sockaddr_in local(int port) {
    struct sockaddr_in addr = {};
    addr.sin_family = AF_INET;
    addr.sin_port = htons(static_cast<uint16_t>(port));
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return addr;
}

static int connect_to(int port, int receive_buffer) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    const struct sockaddr_in addr = local(port);
    if (receive_buffer > 0) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    if (connect(fd, reinterpret_cast<const struct sockaddr *>(&addr), sizeof addr) < 0) die("connect");
    return fd;
}

static int listen_on(int port, int *bound) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in addr = local(port);
    socklen_t len = sizeof addr;
    if (bind(fd, reinterpret_cast<struct sockaddr *>(&addr), len) < 0 || listen(fd, 16) < 0) die("listen");
    if (getsockname(fd, reinterpret_cast<struct sockaddr *>(&addr), &len) < 0) die("getsockname");
    *bound = ntohs(addr.sin_port);
    return fd;
}

static bool send_all(int fd, uint64_t bytes) {
    std::vector<char> piece(256 << 10);
    for (uint64_t sent = 0; sent < bytes;) {
        const size_t n = bytes - sent < piece.size() ? static_cast<size_t>(bytes - sent) : piece.size();
        for (size_t i = 0; i < n; i++) piece[i] = byte_at(sent + i);
        for (size_t done = 0; done < n;) {
            const ssize_t k = send(fd, piece.data() + done, n - done, MSG_NOSIGNAL);
            if (k < 0) return false;
            done += static_cast<size_t>(k);
        }
        sent += n;
    }
    return true;
}

// Reads one piece and checks it; > 0: its length, 0: EOF, < 0: an error or a wrong byte.
static ssize_t receive(int fd, char *room, size_t size, uint64_t position) {
    const ssize_t n = recv(fd, room, size, 0);
    for (ssize_t i = 0; i < n; i++) {
        if (room[i] == byte_at(position + static_cast<uint64_t>(i))) continue;
        fprintf(stderr, "byte %llu is wrong\n", static_cast<unsigned long long>(position + static_cast<uint64_t>(i)));
        return -1;
    }
    if (n < 0) perror("recv");
    return n;
}

static bool half_close(int port, uint64_t bytes) {
    const int fd = connect_to(port, 0);
    bool sent = false;
    std::thread sender([&] { sent = send_all(fd, bytes) && shutdown(fd, SHUT_WR) == 0; });
    std::vector<char> room(64 << 10);
    uint64_t received = 0;
    ssize_t n;
    while ((n = receive(fd, room.data(), room.size(), received)) > 0) received += static_cast<uint64_t>(n);
    if (n < 0) shutdown(fd, SHUT_RDWR); // lets the sender go
    sender.join();
    close(fd);
    if (n == 0 && received != bytes)
        fprintf(stderr, "EOF after %llu bytes\n", static_cast<unsigned long long>(received));
    return sent && n == 0 && received == bytes;
}

static int half_close_all(int port, uint64_t bytes, int clients) {
    std::vector<std::thread> threads;
    std::vector<int> good(static_cast<size_t>(clients));
    for (size_t i = 0; i < good.size(); i++) threads.emplace_back([&, i] { good[i] = half_close(port, bytes); });
    for (std::thread &thread : threads) thread.join();
    for (int g : good) {
        if (!g) return 1;
    }
    printf("%d times %llu bytes there and back\n", clients, static_cast<unsigned long long>(bytes));
    return 0;
}

static int source(uint64_t bytes) {
    int port;
    const int listener = listen_on(0, &port);
    printf("port %d\n", port);
    fflush(stdout);
    const int fd = accept(listener, nullptr, nullptr);
    if (fd < 0) die("accept");
    const bool sent = send_all(fd, bytes) && shutdown(fd, SHUT_WR) == 0;
    char byte;
    while (recv(fd, &byte, 1, 0) > 0) {} // until the other side has ended too
    close(fd);
    return sent ? 0 : 1;
}

static long memory_kib(const char *pid) {
    const std::string path = std::string("/proc/") + pid + "/status";
    FILE *file = fopen(path.c_str(), "r");
    char line[256];
    long kib = -1;
    while (file && fgets(line, sizeof line, file)) sscanf(line, "VmRSS: %ld", &kib);
    if (file) fclose(file);
    return kib;
}

static int slow_reader(int port, uint64_t bytes, const char *pid) {
    const int fd = connect_to(port, 64 << 10);
    std::vector<char> room(1 << 20);
    const struct timespec nap = {0, 5000000};
    uint64_t received = 0;
    long largest = 0;
    ssize_t n = 1;
    for (int turn = 0; n > 0; turn++) {
        // The first 200 reads are small, with a pause before each: time enough for a proxy that reads on to fill up.
        if (turn < 200) nanosleep(&nap, nullptr);
        n = receive(fd, room.data(), turn < 200 ? 16 << 10 : room.size(), received);
        if (n > 0) received += static_cast<uint64_t>(n);
        const long kib = turn % 16 == 0 ? memory_kib(pid) : 0;
        if (kib > largest) largest = kib;
    }
    close(fd);
    printf("%llu bytes, at most %ld KiB\n", static_cast<unsigned long long>(received), largest);
    return n == 0 && received == bytes && largest > 0 ? 0 : 1;
}

static int unread() {
    std::deque<int> held;
    int port;
    const int listener = listen_on(0, &port);
    const int size = 4096;
    setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &size, sizeof size); // those that are accepted have it, too
    printf("port %d\n", port);
    fflush(stdout);
    for (;;) {
        held.push_back(accept(listener, nullptr, nullptr));
        if (held.back() < 0) die("accept");
        if (held.size() <= 100) continue;
        close(held.front());
        held.pop_front();
    }
}

static int resets(int port, int seconds) {
    const time_t until = time(nullptr) + seconds;
    std::vector<std::thread> threads;
    for (int i = 0; i < 16; i++)
        threads.emplace_back([=] {
            const std::vector<char> piece(64 << 10);
            const struct linger now = {1, 0};
            while (time(nullptr) < until) {
                const int fd = connect_to(port, 0);
                while (send(fd, piece.data(), piece.size(), MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {}
                usleep(5000);
                setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
                close(fd);
            }
        });
    for (std::thread &thread : threads) thread.join();
    return 0;
}

int main(int argc, char **argv) {
    const std::string what = argc > 1 ? argv[1] : "";
    if (what == "half-close" && argc == 5)
        return half_close_all(atoi(argv[2]), strtoull(argv[3], nullptr, 10), atoi(argv[4]));
    if (what == "source" && argc == 3) return source(strtoull(argv[2], nullptr, 10));
    if (what == "slow-reader" && argc == 5) return slow_reader(atoi(argv[2]), strtoull(argv[3], nullptr, 10), argv[4]);
    if (what == "silent" && argc == 2) {
        int port;
        listen_on(0, &port);
        printf("port %d\n", port);
        fflush(stdout);
        pause();
        return 0;
    }
    if (what == "unread" && argc == 2) return unread();
    if (what == "resets" && argc == 4) return resets(atoi(argv[2]), atoi(argv[3]));
    if (what == "free-port" && argc == 2) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        for (unsigned i = 0; i < 1000; i++) {
            const int fd = socket(AF_INET, SOCK_STREAM, 0);
            const int port = 20000 + static_cast<int>((static_cast<unsigned>(now.tv_nsec / 1000 + getpid()) + i) % 12000);
            struct sockaddr_in addr = local(port);
            const bool bound = bind(fd, reinterpret_cast<struct sockaddr *>(&addr), sizeof addr) == 0;
            close(fd);
            if (!bound) continue;
            printf("%d\n", port);
            return 0;
        }
        die("bind");
    }
    fprintf(stderr, "peer: wrong arguments; see the head of its source\n");
    return 2;
}
