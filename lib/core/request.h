// The life of a request. Its state says which room it is in, and only that room may touch it:
//
//            start            flush              finish             run_done
//   FREE ------------> WAITING -----> STARTED ----------> DONE ------------> FREE, then the callback
//   slab, parked       io: lane,      backend             core: done record,
//                      dirty list                         settled list
//
// What is started in the backend is a *carrier*: the one thing a direction of a handle has in the kernel (in, out).
// What a user started on a stream waits in the *lane* of that direction; the carrier's results are dealt out to the
// lane in order. One byte of state, written in core/request.cc (and its inlines here) only.
#pragma once

#include "base/list.h"
#include "base/slab.h"
#include "base/wheel.h"

#include <mio/buf.h>

#include <stdint.h>

namespace mio {

struct loop;
struct handle;
struct block;

enum class op_code : uint8_t {
    none,
    // carriers: what a backend is asked
    receive, // stream, continuous: into the pool, or into the buffer of the first read of the lane
    send,    // stream, one shot: as much of the lane as one call takes
    accept,  // listener, continuous: result is a descriptor
    connect, // stream, one shot, in the out direction
    send_zerocopy, // as send; some of the lane wishes not to be copied (lane_zerocopy)
    sendfile, // as send, when the lane's first write is a file's (lane_file): as much of it as one call takes
    poll,    // of any descriptor, one shot, in the in direction: result is what it is ready for (core/handle.h)
    receive_datagrams, // datagram socket, continuous: into the pool (base/datagram.h)
    send_datagrams,    // datagram socket, one shot: as many of the lane as one call takes (core/datagram.h)
    receive_message, // as receive, with what travels beside bytes: the ends of records, descriptors
    send_message,    // as send, of one write of the lane, with its descriptors
    receive_file,    // as receive, by read(2)
    send_file,       // as send, by write(2)
    splice_in,       // as receive, one shot: by splice(2) into a pipe (channel_splice_into); result: bytes in it
    splice_out,      // as send, when the lane's first write is a pipe's (lane_pipe): as much of it as one call takes
    // lane requests: what a user asked; no backend sees these
    write,
    shutdown,
    detach,
    connected, // the user's half of connect: ends when the carrier's connect ends
    read_some,
    read_exact,
    read_until,
    datagram, // to be sent
    // a carrier of the out direction that no backend is asked: io ends it (io/connect_host.cc)
    connect_host,
    // of two streams; in no lane, and no backend is asked: io ends it (io/relay.cc)
    relay,
    // loose requests (core/job.h): of no handle
    file, // of a file (core/fs_call.h): a backend does it, or gives it to the workers
    // from here on no backend is asked: workers do it
    job,          // a loose request
    receive_disk, // as receive_file, of what is never ready and always may wait (io/stream_disk.cc)
    send_disk,
};

struct op_row {
    const char *name;
    bool continuous;      // may finish with MORE
    bool owns_descriptor; // a result >= 0 is a descriptor that must be closed when nobody wants it
    bool out;             // direction of the carrier
};
inline constexpr op_row op_table[] = {
    {"none", false, false, false},
    {"receive", true, false, false},
    {"send", false, false, true},
    {"accept", true, true, false},
    {"connect", false, false, true},
    {"send", false, false, true},
    {"sendfile", false, false, true},
    {"poll", false, false, false},
    {"receive", true, false, false}, // datagrams
    {"send", false, false, true},
    {"receive", true, false, false}, // a message
    {"send", false, false, true},
    {"receive", true, false, false}, // of a file
    {"send", false, false, true},
    {"splice", false, false, false},
    {"splice", false, false, true},
    {"write", false, false, true},
    {"shutdown", false, false, true},
    {"detach", false, true, true},
    {"connect", false, false, true}, // the user's half
    {"read", false, false, false},
    {"read_exact", false, false, false},
    {"read_until", false, false, false},
    {"datagram", false, false, true},
    {"connect_host", false, false, true},
    {"relay", false, false, false},
    {"file", false, false, false},
    {"job", false, false, false},
    {"receive", false, false, false}, // of a disk
    {"send", false, false, true},
};

inline bool op_is_send(op_code op) { return op == op_code::send || op == op_code::send_zerocopy; }

enum class request_state : uint8_t { free, waiting, started, done };

// request.flags
constexpr uint16_t REQUEST_CANCEL = 1;    // an early end was asked for; result holds with what
constexpr uint16_t REQUEST_ABANDONED = 2; // nobody is to be called
constexpr uint16_t REQUEST_ZEROCOPY = 4;  // a write that wishes not to be copied
constexpr uint16_t REQUEST_DESCRIPTORS = 8; // a write that takes descriptors along (core/descriptors.h)
constexpr uint16_t REQUEST_FILE = 16;     // a write whose bytes are in a file (request_file); not in queued_bytes
constexpr uint16_t REQUEST_RELAY = 32;    // a write of a relay's: ended in its middle it leaves no gap (io/relay.cc)
constexpr uint16_t REQUEST_PIPE = 64;     // of these: its bytes are in a pipe (request_pipe)

struct request { // 16 bytes
    request *next; // dirty list, settled list, lane: the state says which
    int32_t result;
    op_code op;
    request_state state;
    uint16_t flags;
};

// With somebody to call: the embedded continuous request of a handle.
struct user_request : request { // 32 bytes
    void (*cb)();
    void *arg;
};
static_assert(sizeof(request) == 16 && sizeof(user_request) == 32, "request sizes");

// One in a lane, from the slab of its class; bufs has room for 1, 4, 16 or 64.
struct lane_request : user_request {
    handle *owner;
    int64_t moved;        // bytes the kernel has moved for it
    int64_t total;        // bytes to move; reads: the most
    uint32_t since_ms;    // when it was started, loop time, for dumps
    uint8_t size_class;   // request_class
    uint8_t bufs_used;    // entries of bufs
    uint8_t delimiter_len;
    uint8_t held;         // a write: how often the kernel has its memory, beyond the carrier's result (request_hold)
    char delimiter[8];
    timer_node deadline;
    mio_buf_t bufs[1];
};

static_assert(sizeof(lane_request) == 136, "a request with one buffer");
constexpr size_t LANE_REQUEST_DEADLINE = sizeof(lane_request) - sizeof(mio_buf_t) - sizeof(timer_node);

// Where the bytes of a REQUEST_FILE are, in the place of its first buffer (bufs_used is 0). The descriptor is borrowed.
struct file_place {
    int64_t offset; // of the first of them
    int fd;
};
static_assert(sizeof(file_place) <= sizeof(mio_buf_t), "fits");

// Of a REQUEST_PIPE the same: the end to read from.
inline int *request_pipe(lane_request *req) { return reinterpret_cast<int *>(&req->bufs[0]); }
inline const int *request_pipe(const lane_request *req) { return reinterpret_cast<const int *>(&req->bufs[0]); }

inline file_place *request_file(lane_request *req) { return reinterpret_cast<file_place *>(&req->bufs[0]); }
inline const file_place *request_file(const lane_request *req) { return reinterpret_cast<const file_place *>(&req->bufs[0]); }

// Loose requests have the slab and the id class that no kind of handle has.
constexpr unsigned SLAB_LOOSE = 0;

constexpr uint8_t REQUEST_TIMER_OWNER = 1; // timer_owner's TIMER_OF_REQUEST (core/dispatch.h)

enum request_class : uint8_t { REQUEST_1, REQUEST_4, REQUEST_16, REQUEST_64, REQUEST_CLASSES };

// A lane: requests of one direction in the order of their starts. Circular through next, so one pointer suffices.
struct lane {
    lane_request *tail;
};

inline bool lane_empty(const lane *l) { return l->tail == nullptr; }
inline lane_request *lane_next(const lane_request *req) { return static_cast<lane_request *>(req->next); }
inline lane_request *lane_head(const lane *l) { return l->tail == nullptr ? nullptr : lane_next(l->tail); }

inline void lane_push(lane *l, lane_request *req) {
    if (l->tail == nullptr) req->next = req;
    else {
        req->next = l->tail->next;
        l->tail->next = req;
    }
    l->tail = req;
}

inline lane_request *lane_pop(lane *l) {
    lane_request *head = lane_head(l);
    if (head == l->tail) l->tail = nullptr;
    else l->tail->next = head->next;
    head->next = nullptr;
    return head;
}

// What a backend reports: a carrier's result, kept until the done phase.
// receive into the pool: result bytes lie at offset of the block `from`, which holds a reference for them.
struct completion { // 32 bytes
    request *req;
    block *from;
    int64_t result;
    uint32_t flags;
    uint32_t offset;
};
static_assert(sizeof(completion) == 32 && sizeof(mio_buf_t) == 32, "record sizes");

constexpr uint32_t FINISH_MORE = 1;     // the carrier stays STARTED; another record will come
constexpr uint32_t FINISH_RELEASED = 2; // no carrier's: the kernel has let go of the memory of this lane request
constexpr uint32_t FINISH_RECORD = 4;   // the bytes are one record, also when there are none
constexpr uint32_t FINISH_CUT = 8;      // of which there was more than room
constexpr uint32_t FINISH_DESCRIPTORS = 16; // descriptors came along: in extension.taken; never with MORE

// Ids: bit 63 and bit 31 are 0, so that an id is positive also when truncated to int.
//   62..32 generation >> 1 | 30 generation & 1 | 29..26 class | 25..0 index + 1
constexpr unsigned ID_CLASSES = 16;
struct id_parts {
    unsigned id_class;
    uint32_t index;
    uint32_t generation;
};

inline mio_req_t id_make(unsigned id_class, uint32_t index, uint32_t generation) {
    const uint64_t low = (static_cast<uint64_t>(generation & 1) << 30) | (static_cast<uint64_t>(id_class) << 26) |
                         static_cast<uint64_t>(index + 1);
    return static_cast<mio_req_t>((static_cast<uint64_t>(generation >> 1) << 32) | low);
}

bool id_split(mio_req_t id, id_parts *out); // false: no id at all


}
