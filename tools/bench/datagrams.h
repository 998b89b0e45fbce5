// The servers of the cells of datagrams: libmio's (datagrams.cc) and those that are written by hand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <netinet/in.h>
#include <sys/socket.h>

namespace bench {

// One socket in this process, served on this thread.
struct datagram_side {
    const char *name;
    // Binds to *at and writes where that is. echo: what comes is sent back, else it is received only.
    void (*open)(struct sockaddr_in *at, bool echo);
    // Turns until so many datagrams more, which are there already, were received (and sent back).
    void (*serve)(uint64_t datagrams);
    void (*close)();
};

constexpr unsigned HAND_BATCH = 32; // of recvmmsg and sendmmsg, as libmio's
constexpr size_t HAND_ROOM = 2048;  // for a datagram, as libmio's

// datagrams_hand.cc: epoll_wait, recvmmsg, sendmmsg.
extern const datagram_side datagrams_hand;
// datagrams_ring.cc: rings. A multishot poll, recvmmsg, sendmmsg; a multishot recvmsg into a ring of buffers, sendmmsg.
extern const datagram_side datagrams_ring_poll, datagrams_ring_receive;

int datagrams_socket(struct sockaddr_in *at);
// Receives a batch into memory of its own and, with echo, sends it back. How many; 0: there is none.
unsigned datagrams_batch(int fd, bool echo);
void datagrams_send(int fd, struct mmsghdr *messages, unsigned n);

}
