// The second halves: what core calls when a carrier has a result, a timer is due, or a handle ends. Declared here,
// defined in lib/io beside their first halves; core switches over op_code and kind, there is no function pointer per
// operation.
#pragma once

#include "core/loop.h"

namespace mio {

// Carriers. done: a copy of the record. The final one (no MORE) finds the carrier FREE already.
void stream_read_done(loop *l, channel *c, const completion *done);
void stream_write_done(loop *l, channel *c, const completion *done);
void tcp_connect_done(loop *l, channel *c, const completion *done);
void connect_host_done(loop *l, channel *c, const completion *done);
void relay_done(loop *l, lane_request *req); // no carrier: it settled
void relay_splice_done(loop *l, channel *c, const completion *done);
// A STARTED one is to end early: it settles.
void connect_host_cancel(loop *l, channel *c);
// A stream's that workers do (receive_disk, send_disk): STARTED just now; to end early, if no worker is at it yet.
void stream_disk_submit(loop *l, channel *c, request *carrier);
void stream_disk_cancel(loop *l, request *carrier);
void listener_accept_done(loop *l, channel *c, const completion *done);
void channel_polled(loop *l, channel *c, const completion *done); // told apart by kind
void udp_receive_done(loop *l, channel *c, const completion *done);
void udp_send_done(loop *l, channel *c, const completion *done);

// A write whose memory the kernel had (request_hold): once less.
void stream_write_released(loop *l, lane_request *req);

// A lane request is to end early with `with` (MIO_ECANCELED, MIO_ETIMEDOUT): it is WAITING in its lane or carried.
void stream_request_cancel(loop *l, lane_request *req, int32_t with);
void udp_request_cancel(loop *l, lane_request *req, int32_t with);
// The same for the continuous request of a handle, by id: 0, or MIO_EALREADY when its last call is queued.
int stream_read_cancel(loop *l, channel *c);
int listener_accept_cancel(loop *l, channel *c);
int udp_receive_cancel(loop *l, channel *c);
// Nobody is to be told of this one any more; its buffers are released now or when the kernel lets go.
void stream_request_abandon(loop *l, lane_request *req);
void udp_request_abandon(loop *l, lane_request *req);
void stream_read_abandon(loop *l, channel *c);
void listener_accept_abandon(loop *l, channel *c);
void udp_receive_abandon(loop *l, channel *c);

// A stream that is finishing gracefully has no more time for it.
void stream_hurry(loop *l, channel *c);

// Timers, by timer_node.owner. The node is idle when these run.
enum timer_owner : uint8_t {
    TIMER_OF_TIMER,
    TIMER_OF_REQUEST,
    TIMER_OF_STREAM,
    TIMER_OF_LISTENER,
    TIMER_OF_LOOSE,
    TIMER_OF_JOB,
    TIMER_OF_WATCH,
    TIMER_OF_UDP,
    TIMER_OF_HOST,
    TIMER_OF_RELAY,
};
static_assert(TIMER_OF_REQUEST == REQUEST_TIMER_OWNER, "requests name their timers' owner themselves");
void timer_fire(loop *l, timer_node *node);
void stream_timer_due(loop *l, timer_node *node);
void listener_timer_due(loop *l, timer_node *node);
void watch_timer_due(loop *l, timer_node *node);
void udp_timer_due(loop *l, timer_node *node);
void connect_host_timer_due(loop *l, timer_node *node);
void relay_timer_due(loop *l, timer_node *node);

// Wakeups and hooks.
void wakeup_run(loop *l, struct wakeup_node *node);
void hook_run_phase(loop *l, int phase);

// Signals. run: the node of a watch came out of the inbox. raise: of a simulated world.
void signal_run(loop *l, struct wakeup_node *node);
void signals_raise(loop *l, int number);
// As stream_read_cancel, stream_read_abandon.
int signal_cancel(handle *h);
void signal_abandon(handle *h);
// The node of a child came out of the inbox.
void process_run(loop *l, struct wakeup_node *node);

// Handles. sizes: of the bodies, by kind. begin: the handle became CLOSING: end its requests, cancel its carriers;
// called once more when a CLOSING handle is abandoned: drop what is queued for the user.
// ended: carriers are FREE and lanes empty, the descriptor is closed: free what the kind owns. No user code.
extern const uint32_t handle_sizes[HANDLE_KINDS];
void handle_begin_close(loop *l, handle *h);
void handle_ended(loop *l, handle *h);
// A fork's child frees the loop, in whatever state the handle is: what else than the loop knows of it forgets it.
void handle_forget(handle *h);
close_note *handle_close_note(handle *h);

// CHANNEL_RESTORED: what was changed of its descriptor is put back.
void channel_restore(loop *l, channel *c);

// Starved readers may try again.
void stream_feed(loop *l, request *carrier);
void udp_feed(loop *l, request *carrier);

// Where a STARTED connect goes: the address rides in the first request of the write lane.
const struct sockaddr *channel_connect_target(const channel *c, socklen_t *len);

// The end to write to of the pipe that a splice_in fills, empty; or why not (< 0). What went in: n bytes, or <= 0.
int channel_splice_into(loop *l, const channel *c);
void channel_spliced(loop *l, const channel *c, ssize_t n);

// How a datagram socket receives.
const struct datagram_shape *channel_datagrams(const channel *c);

}
