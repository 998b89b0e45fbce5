// The life of a handle, and the two shapes that the backends know: handle and channel (a handle with a descriptor).
//
//            create             close, abandon, finish              carriers FREE, lanes empty, descriptor closed
//   (slab) ---------> OPEN -------------------------> CLOSING --------------------------------> ENDED --> (slab)
//                                                     every request ends first                  close callback
//
// OPEN is the only state in which calls are taken. An abandoned handle goes the same way with nobody to call.
#pragma once

#include "core/request.h"

#include <mio/handle.h>
#include <mio/poll.h>

namespace mio {

// Kinds are the public ones; they double as slab numbers and as id classes (request classes come after them).
constexpr unsigned HANDLE_KINDS = 12;
constexpr unsigned ID_CLASS_REQUEST = HANDLE_KINDS; // + request_class

enum class handle_state : uint8_t { open, closing, ended };

// handle.flags: the low byte is every handle's, the high byte the kind's own.
constexpr uint16_t HANDLE_UNREFERENCED = 1;
constexpr uint16_t HANDLE_ABANDONED = 2;
constexpr uint16_t HANDLE_ACTIVE = 4;     // counts for "alive" when referenced
constexpr uint16_t HANDLE_KEPT = 8;       // an accepted stream somebody wants
constexpr uint16_t HANDLE_ENDING = 16;    // on the closings list
constexpr uint16_t HANDLE_REQUEST = 32;   // its continuous request is in flight

// handle.flags of a channel, set by io before anything is started on it: what kind of socket it is.
constexpr uint16_t CHANNEL_TCP = 0x0100;  // SOCK_STREAM, IPPROTO_TCP
constexpr uint16_t CHANNEL_UNIX = 0x0200; // SOCK_STREAM, AF_UNIX
constexpr uint16_t CHANNEL_SHARED = 0x0400; // a listener that others may accept on, too
constexpr uint16_t CHANNEL_RECORDS = 0x0800; // SOCK_SEQPACKET, AF_UNIX: with CHANNEL_UNIX
constexpr uint16_t CHANNEL_FILE = 0x1000;   // no socket: a pipe, a terminal, a device; read(2) and write(2)
constexpr uint16_t CHANNEL_NOWAIT = 0x2000; // of these: its open file may wait, so each call says that it must not
constexpr uint16_t CHANNEL_READY = 0x4000;  // of these: cannot be watched, as the backend found out: never waits
constexpr uint16_t CHANNEL_RESTORED = 0x8000; // of these: something is put back before it is closed (channel_restore)
constexpr uint16_t CHANNEL_DATAGRAM = 0x0080; // SOCK_DGRAM; with CHANNEL_UNIX: AF_UNIX

// channel.bits of what is polled (op_code::poll): the events asked for, MIO_POLL_IN and so on, in these bits; the others
// are the kind's own. The result is such events, ERR and HUP among them unasked.
constexpr uint32_t CHANNEL_POLL_EVENTS = MIO_POLL_IN | MIO_POLL_OUT | MIO_POLL_PRI | MIO_POLL_RDHUP;
constexpr uint32_t CHANNEL_POLL_ALWAYS = MIO_POLL_ERR | MIO_POLL_HUP;
// Set by the backend: another descriptor has the number now. What is asked and told from then on is MIO_EBADF.
constexpr uint32_t CHANNEL_POLL_EVICTED = 1u << 16;

// Rare things, allocated when first asked for.
struct extension {
    char name[32];
    size_t write_low, write_high, queue_max; // write_high 0: the loop's
    void (*watermark_cb)();
    void *watermark_arg;
    struct descriptors *taken; // of a stream that takes descriptors (core/descriptors.h)
    struct kept_state *kept_status, *kept_modes; // CHANNEL_RESTORED: as they were (io/tty_restore.h)
};

struct close_note { // who asked to be told of the end
    mio_close_cb cb;
    void *arg;
};

struct handle { // 40 bytes
    loop *on;
    void *data;
    handle *next;       // closings list
    extension *extra;
    uint8_t kind;       // mio_kind
    handle_state state;
    uint16_t flags;
    uint32_t requests;  // lane requests in flight + the continuous one
};
static_assert(sizeof(handle) == 40, "handle header");

// A handle with a descriptor and one carrier per direction: all a backend knows of it.
struct channel : handle { // 112 bytes
    user_request in;  // carrier of receive and accept, and the continuous request itself
    request out;      // carrier of send and connect
    lane reads;       // one-shot reads
    lane writes;      // writes, shutdown
    int fd;           // -1: none
    uint32_t bits; // the kind's own
};
static_assert(sizeof(channel) == 112, "channel");

// handle, in and out lie at fixed distances: no offsetof on types with bases
inline channel *channel_of_in(request *carrier) {
    return reinterpret_cast<channel *>(reinterpret_cast<char *>(carrier) - sizeof(handle));
}
inline channel *channel_of_out(request *carrier) {
    return reinterpret_cast<channel *>(reinterpret_cast<char *>(carrier) - sizeof(handle) - sizeof(user_request));
}
inline channel *channel_of(request *carrier) {
    return op_table[static_cast<unsigned>(carrier->op)].out ? channel_of_out(carrier) : channel_of_in(carrier);
}

// The one pair of functions between the public, never defined names and our bodies.
template <class Ours, class Theirs> inline Ours *ours(Theirs *p) { return reinterpret_cast<Ours *>(p); }
template <class Ours, class Theirs> inline const Ours *ours(const Theirs *p) { return reinterpret_cast<const Ours *>(p); }
template <class Theirs, class Ours> inline Theirs *theirs(Ours *p) { return reinterpret_cast<Theirs *>(p); }

}
