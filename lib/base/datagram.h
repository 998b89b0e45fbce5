// What a datagram brings along beside its bytes and its sender, and how each system says it: control data, cmsg(3), and
// the socket options that ask for it. Also how a received datagram lies in memory.
//
// Knows addresses and numbers, not who wants them. What a system does not have is -ENOTSUP when it is asked for.
#pragma once

#include "base/sys.h"

#include <netinet/in.h>
#include <stdint.h>

namespace mio {

// --- a received datagram in memory ------------------------------------------------------------------------------------
//
//   datagram_head | name_room bytes | control_room bytes | the datagram
//
// As io_uring lays out what a multishot recvmsg receives; every room is a multiple of 16 bytes. A report has a head and
// a name, and nothing else.
struct datagram_head {
    uint32_t name_len, control_len, payload_len;
    uint32_t flags; // recvmsg's msg_flags
};

struct datagram_shape {
    uint32_t payload_room;
    uint16_t name_room, control_room;
    sa_family_t family;
    bool errors;   // the socket has a queue of them: MSG_ERRQUEUE, ip(7)
    bool segments; // UDP_SEGMENT works, as far as known
};

inline size_t datagram_offset(const datagram_shape *shape) {
    return sizeof(datagram_head) + shape->name_room + shape->control_room;
}
inline size_t datagram_stride(const datagram_shape *shape) {
    return (datagram_offset(shape) + shape->payload_room + 15) & ~static_cast<size_t>(15);
}

constexpr size_t DATAGRAM_NAME_IP = 32;
constexpr size_t DATAGRAM_NAME_UNIX = 112;
constexpr size_t DATAGRAM_CONTROL = 144; // of everything that can be wanted
constexpr size_t DATAGRAM_CONTROL_SENT = 112;

// --- what comes along -------------------------------------------------------------------------------------------------

struct datagram_notes {
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } local; // where it was sent to, or is to come from; port 0
    socklen_t local_len; // 0: unknown
    uint32_t ifindex;
    uint32_t segment; // bytes; 0: one datagram
    int64_t time_ns;
    uint8_t ecn;
};

struct datagram_wants {
    bool local, ecn, time, segments;
};

// Asks the socket for it. 0, -ENOTSUP, or what setsockopt says; segments is a wish that may stay unheard.
int datagram_want(const sys *calls, int fd, int family, const datagram_wants *wants);
// Makes errors of the network be queued with the address of the datagram that they are about. false: no such queue.
bool datagram_errors_open(const sys *calls, int fd, int family);
// IP_MULTICAST_IF by number. -ENOTSUP: this system knows it by address only.
int datagram_interface4(const sys *calls, int fd, uint32_t ifindex);
bool datagram_can_segment(const sys *calls, int fd);

// Of received control data.
void datagram_read(const char *control, size_t len, datagram_notes *out);
// Control data of a datagram to be sent on a socket of that family: its length, at most DATAGRAM_CONTROL_SENT. 0: none is
// needed. Of the notes all but time_ns. -ENOTSUP: this system cannot be told.
int datagram_write(char *control, int family, const datagram_notes *notes);
// The error in a message of the queue; 0: it is about something else.
int datagram_error(const struct msghdr *message);

// For a simulated kernel: control data as datagram_read finds it, at most DATAGRAM_CONTROL bytes; and the notes that
// datagram_write wrote.
size_t datagram_write_received(char *control, const datagram_notes *notes, const datagram_wants *wants);
void datagram_read_sent(const char *control, size_t len, datagram_notes *out);

}
