// Datagrams by hand on epoll: level-triggered, a batch of recvmmsg for each event, a batch of sendmmsg back.
#include "bench/bench.h"
#include "bench/datagrams.h"

#include <cerrno>
#include <sys/epoll.h>
#include <unistd.h>

namespace bench {

int datagrams_socket(struct sockaddr_in *at) {
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof *at;
    if (fd < 0 || bind(fd, reinterpret_cast<struct sockaddr *>(at), len) < 0) fail_errno("bind");
    if (getsockname(fd, reinterpret_cast<struct sockaddr *>(at), &len) < 0) fail_errno("getsockname");
    return fd;
}

void datagrams_send(int fd, struct mmsghdr *messages, unsigned n) {
    while (n != 0) {
        const int sent = sendmmsg(fd, messages, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) fail_errno("sendmmsg");
        messages += sent;
        n -= static_cast<unsigned>(sent);
    }
}

unsigned datagrams_batch(int fd, bool echo) {
    static struct mmsghdr messages[HAND_BATCH];
    static struct iovec iov[HAND_BATCH];
    static struct sockaddr_storage names[HAND_BATCH];
    static char bytes[HAND_BATCH][HAND_ROOM];
    for (unsigned i = 0; i < HAND_BATCH; i++) {
        iov[i] = iovec{bytes[i], sizeof bytes[i]};
        messages[i] = {};
        messages[i].msg_hdr.msg_name = &names[i];
        messages[i].msg_hdr.msg_namelen = sizeof names[i];
        messages[i].msg_hdr.msg_iov = &iov[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    const int got = recvmmsg(fd, messages, HAND_BATCH, MSG_DONTWAIT, nullptr);
    if (got < 0 && errno == EAGAIN) return 0;
    if (got < 0) fail_errno("recvmmsg");
    if (!echo) return static_cast<unsigned>(got);
    for (int i = 0; i < got; i++) iov[i].iov_len = messages[i].msg_len;
    datagrams_send(fd, messages, static_cast<unsigned>(got));
    return static_cast<unsigned>(got);
}

static int hand_fd, hand_epoll;
static bool hand_echo;

static void hand_open(struct sockaddr_in *at, bool echo) {
    hand_echo = echo;
    hand_fd = datagrams_socket(at);
    hand_epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {};
    event.events = EPOLLIN;
    if (hand_epoll < 0 || epoll_ctl(hand_epoll, EPOLL_CTL_ADD, hand_fd, &event) < 0) fail_errno("epoll");
}

static void hand_serve(uint64_t datagrams) {
    while (datagrams != 0) {
        struct epoll_event event;
        if (epoll_wait(hand_epoll, &event, 1, 0) > 0) datagrams -= datagrams_batch(hand_fd, hand_echo);
    }
}

static void hand_close() {
    close(hand_epoll);
    close(hand_fd);
}

extern const datagram_side datagrams_hand = {"hand", hand_open, hand_serve, hand_close};

}
