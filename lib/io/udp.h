// Datagram sockets: what their parts (udp.cc, udp_receive.cc, udp_send.cc, udp_option.cc, unix_datagram.cc) share.
#pragma once

#include "core/datagram.h"
#include "core/dispatch.h"
#include "io/stream.h"

#include <mio/udp.h>

namespace mio {

// channel.bits of a datagram socket
constexpr uint32_t UDP_RECEIVING = 1u << 0; // a continuous receive is started
constexpr uint32_t UDP_PAUSED = 1u << 1;    // by the program
constexpr uint32_t UDP_STOPPING = 1u << 2;  // its last call is due
constexpr uint32_t UDP_BROKEN = 1u << 3;    // with MIO_EBADF
constexpr uint32_t UDP_STARVED = 1u << 4;   // on loop.starved
constexpr uint32_t UDP_IN_RESTS = 1u << 5;  // until the timer is due
constexpr uint32_t UDP_OUT_RESTS = 1u << 6;
constexpr uint32_t UDP_CANCEL_OUT = 1u << 7; // some request of the lane is to end when its carrier does
constexpr uint32_t UDP_DETACHING = 1u << 8;

constexpr uint32_t UDP_RECEIVE_MASK = UDP_RECEIVING | UDP_PAUSED | UDP_STOPPING;

struct udp : channel { // 232 bytes
    timer_node rest;   // something is tried again then
    pushback *unread;  // received and not told: whole runs, head and all (base/datagram.h)
    size_t queued_bytes, queue_max;
    datagram_shape shape;
    uint32_t rest_ms; // the last rest; 0: none since all went well
    close_note closing;
};

// An OPEN datagram socket over fd. nullptr: no memory, and fd is still the caller's.
udp *udp_create(loop *l, int fd, int family, const mio_udp_options_t *o);

// Options as the loop completes them. 0 or an error.
int udp_options_read(mio_udp_options_t *complete, const mio_udp_options_t *from);
// Sets them on a socket of that family. 0 or an error.
int udp_prepare(const loop *l, int fd, int family, const mio_udp_options_t *o);

// 0, or why nothing may be started on it.
int udp_check_start(const udp *u);
// Whether it can be an address of that family: 0, MIO_EINVAL.
int udp_addr_check(const udp *u, const mio_addr_t *addr);

// The socket's wishes changed: starts or cancels its carriers accordingly.
void udp_update_in(loop *l, udp *u);
void udp_update_out(loop *l, udp *u);
// Something is to be tried again later, not at once.
void udp_rest(loop *l, udp *u, uint32_t which);

// Nobody is to be told any more.
void udp_drop_unread(loop *l, udp *u);
void udp_drop_sends(loop *l, udp *u);
void udp_starved_leave(loop *l, udp *u);
// Every request of the lane is to end.
void udp_cancel_sends(loop *l, udp *u);

void udp_begin_close(loop *l, udp *u);

}
