// The stream: what its parts (stream.cc, stream_read.cc, stream_write.cc, stream_end.cc, stream_move.cc) share.
#pragma once

#include "core/dispatch.h"

#include <mio/stream.h>

namespace mio {

struct pushback { // from the loop's slab
    pushback *next;
    mio_buf_t buf;
};

// channel.bits of a stream
constexpr uint32_t STREAM_READING = 1u << 0;      // a continuous read is started
constexpr uint32_t STREAM_PAUSED = 1u << 1;       // by the program
constexpr uint32_t STREAM_AUTOPAUSED = 1u << 2;   // own write queue above its high mark
constexpr uint32_t STREAM_NO_AUTOPAUSE = 1u << 3;
constexpr uint32_t STREAM_STOPPING = 1u << 4;     // the continuous read's last call is due
constexpr uint32_t STREAM_STARVED = 1u << 5;      // on loop.starved
constexpr uint32_t STREAM_ABOVE = 1u << 6;        // the last watermark told of was the high one
constexpr uint32_t STREAM_CONNECTING = 1u << 7;
constexpr uint32_t STREAM_BROKEN = 1u << 8;       // a write ended in its middle
constexpr uint32_t STREAM_SHUT = 1u << 9;         // shutdown is queued or done
constexpr uint32_t STREAM_FINISHING = 1u << 10;
constexpr uint32_t STREAM_DETACHING = 1u << 11;
constexpr uint32_t STREAM_EOF = 1u << 12;         // the last receive said 0
constexpr uint32_t STREAM_TIMED = 1u << 13;       // it has time-outs
constexpr uint32_t STREAM_TIMED_OUT = 1u << 14;   // why the continuous read stops
constexpr uint32_t STREAM_SHUT_DONE = 1u << 15;   // FIN was sent
constexpr uint32_t STREAM_DISCARDING = 1u << 16;  // finishing: input is read and thrown away
constexpr uint32_t STREAM_MARKED = 1u << 17;      // somebody wants to be told of watermark crossings
constexpr uint32_t STREAM_CANCEL_IN = 1u << 18;   // some request of the lane is to end when its carrier does
constexpr uint32_t STREAM_CANCEL_OUT = 1u << 19;
constexpr uint32_t STREAM_LOST = 1u << 20;        // bytes were lost for want of memory: MIO_ENOMEM is its end
constexpr uint32_t STREAM_ZEROCOPY = 1u << 21;    // some write of the lane wished not to be copied
constexpr uint32_t STREAM_ODD = 1u << 22;         // may be asked otherwise than by receive and send
constexpr uint32_t STREAM_NO_READ = 1u << 23;     // the writing end of a pipe
constexpr uint32_t STREAM_NO_WRITE = 1u << 24;    // the reading end
constexpr uint32_t STREAM_RELAYED = 1u << 25;     // a relay has it (io/relay.h)
constexpr uint32_t STREAM_DISK = 1u << 26;        // with CHANNEL_FILE: never ready, always may wait (stream_disk.cc)
constexpr uint32_t STREAM_SPLICED = 1u << 27;     // of a relay: receives by splice(2)

// A write side on which nothing but writes happens.
constexpr uint32_t STREAM_WRITE_SPECIAL = STREAM_AUTOPAUSED | STREAM_CONNECTING | STREAM_BROKEN | STREAM_FINISHING |
                                          STREAM_DETACHING | STREAM_TIMED | STREAM_MARKED | STREAM_CANCEL_OUT |
                                          STREAM_ZEROCOPY | STREAM_ODD | STREAM_NO_WRITE;

// A continuous read that takes data at once: these bits read exactly STREAM_READING.
constexpr uint32_t STREAM_READ_MASK = STREAM_READING | STREAM_PAUSED | STREAM_AUTOPAUSED | STREAM_STOPPING;

struct stream_times {
    uint32_t timeout_ms[3]; // by mio_timeout, units of 2^20 ns, 0: none
    uint32_t active_ms[2];  // last byte in, out
    int32_t read_error;     // to be told by the next read
};

struct stream : channel { // 184 bytes
    pushback *unread;       // first to be read
    size_t queued_bytes;
    timer_node timer;       // time-outs; finish's limit
    union {
        stream_times times; // while open
        close_note closing; // from then on
    };
};
static_assert(sizeof(stream) + sizeof(slab_header) <= 192, "a stream with its slab header");

// An OPEN stream over fd (connected, nonblocking or not; -1: none yet), nothing started. nullptr: no memory, and fd is
// still the caller's.
stream *stream_create(loop *l, int fd);

// What kind of descriptor it has: CHANNEL_..., before anything is started on it.
constexpr uint16_t STREAM_KINDS = CHANNEL_TCP | CHANNEL_UNIX | CHANNEL_RECORDS | CHANNEL_FILE | CHANNEL_NOWAIT;
inline void stream_set_kind(stream *s, uint16_t what) {
    s->flags = static_cast<uint16_t>(s->flags | what);
    if ((what & (CHANNEL_RECORDS | CHANNEL_FILE)) != 0) s->bits |= STREAM_ODD;
}

// How the kernel is asked for bytes, and for the next write of the lane.
op_code stream_receive_op(const stream *s);
op_code stream_send_op(const stream *s);

// Records (stream_record.cc): a result with FINISH_RECORD; the pushed back ones for whoever reads.
void record_received(loop *l, stream *s, const completion *done);
void record_feed_unread(loop *l, stream *s);

// Descriptors (unix_fds.cc). The write has ended: what it would have taken along is closed. Of what came: told, and what
// nobody took is closed.
void write_drop_pack(loop *l, lane_request *req);
void stream_descriptors_tell(loop *l, stream *s);
void stream_descriptors_free(stream *s);
// The continuous read's callback with a buffer that it may keep. false: abandoned. (stream_read.cc)
bool stream_read_call(loop *l, stream *s, mio_buf_t *buf);
mio_buf_t stream_unread_pop(loop *l, stream *s);
// The first read of the lane that bytes may be copied to; nullptr: none.
lane_request *stream_first_wanting(const stream *s);

// The connection has failed or stands (from tcp.cc): starts what waits, or ends it with status.
void stream_connected(stream *s, int status);

// The stream's wishes changed: starts or cancels its carriers accordingly. Call nothing of the user's.
void stream_update_read(stream *s);
void stream_update_write(stream *s);

// 0, or why nothing may be started on it.
inline int stream_check(const stream *s) { return handle_check(s, MIO_KIND_STREAM); }
int stream_check_start(const stream *s);
// The same when all is well; never true in a debug build, which also checks the thread.
inline bool stream_is_startable([[maybe_unused]] const stream *s) {
#ifdef MIO_DEBUG
    return false;
#else
    return s != nullptr && slab_is_live(s) && s->kind == MIO_KIND_STREAM && s->state == handle_state::open &&
           (s->on->flags & LOOP_DESTROYING) == 0 && *s->on->fork_page != 0;
#endif
}

// The first request of a lane that is not DONE; nullptr: none.
lane_request *lane_first_live(const lane *l);

// Ends lane requests early; their callbacks come from the completions phase.
void stream_read_request_cancel(loop *l, stream *s, lane_request *req, int32_t with);
void stream_write_request_cancel(loop *l, stream *s, lane_request *req, int32_t with);
void lane_cancel_all(loop *l, stream *s, lane *which, int32_t with);

// Nobody is to be told any more: continuous read, lanes and pushback go home at once.
void stream_drop_reads(loop *l, stream *s);
void stream_drop_writes(loop *l, stream *s);
void stream_drop_unread(loop *l, stream *s);

// Off the list of those that wait for receive blocks (the carrier is FREE there).
void stream_starved_leave(loop *l, stream *s);

// The write queue grew or shrank: autopause, and the telling of watermarks.
void stream_marks(loop *l, stream *s);

// Everything of the write lane that can be told now, and what follows from it. (stream_write.cc)
void stream_writes_run(loop *l, stream *s);
// Bytes of it were sent, its end is known, but the kernel still has its memory: it waits, nobody else does.
inline bool write_is_held(const lane_request *req) { return req->held != 0 && req->state == request_state::done; }
// Nobody is to be told: its buffers go home, and its slot is free, when the kernel lets go. (stream_zerocopy.cc)
void write_leave_held(loop *l, lane_request *req);

// Moves buf into a record of pushback, in no list yet; nullptr: no memory, nothing taken.
pushback *pushback_create(loop *l, mio_buf_t *buf);
// Pushback: behind everything (false: no memory, nothing taken).
bool stream_unread_append(loop *l, stream *s, mio_buf_t *buf);

// The carrier's end was heard and the lane dealt: what finish, detach and close wait for (stream_end.cc, stream_move.cc).
void stream_end_step(loop *l, stream *s);
void stream_finish_done(loop *l, stream *s);
void stream_detach_deliver(loop *l, stream *s, lane_request *req);
bool stream_detach_ready(const stream *s);
void stream_detach_dropped(lane_request *req);

// Time-outs: a byte came (way 0) or left (way 1): not later than the turn's time. Or waiting begins now: the turn's time
// may be long past, the clock is read.
void stream_touch(loop *l, stream *s, unsigned way);
void stream_touch_start(loop *l, stream *s, unsigned way);

// A stream's part of handle_begin_close and handle_ended (io/kinds.cc).
void stream_begin_close(stream *s);
void stream_ended(stream *s);

}
