// A model of io_uring in memory: scripted_open's table (support/scripted.h) with rings in it, for tests of whoever
// speaks to a ring. The kernel of this model does what the test says, when the test says it: also what real ones do
// once a year, and some things that none should. What it does by itself was compared with Linux 6.18.
//
//     const mio::sys *calls = test::ring_model_open(1000);           // the clock says 1000 ns
//     test::ring_model_answer(IORING_OP_SEND, test::RING_SUCCEEDS);  // nothing posted, if the entry wants it so
//     ... what is tested gets `calls`, makes its ring, arms a receive on descriptor 1001, enters ...
//     const int ring = test::ring_model_newest();
//     test::ring_model_receive(1001, "hello", 5);                    // seen by the next enter that asks for events
//     test::ring_model_complete(ring, test::ring_model_find(ring, IORING_OP_CONNECT, 1002), -ECONNREFUSED, 0);
//     ... enters ...
//     assert_int_equal(test::ring_model_close(), 0);                 // nothing left of model and script
//
// An entry that is taken stays pending until the test completes it, but for NOP, ASYNC_CANCEL, POLL_REMOVE, what has an
// answer (ring_model_answer), what is refused at once (an opcode or a field that no kernel takes, a closed descriptor
// of 1000 or above; numbers below may be used again), and receives and accepts that find something in their socket.
//
// When completions become visible: those of entries that end while they are taken, at once; all others are put off to
// the next enter that asks for events (IORING_SETUP_DEFER_TASKRUN), to the next enter (COOP_TASKRUN), or not at all
// (neither). ring_model_flush posts what was put off without an enter. A cancel finds what is put off, as long as no
// last result was given for it.
//
// A scripted result for uring_setup, uring_enter, uring_register or map_fd is returned instead of the model's. All
// calls are in the script's log. Offsets of the queues are unlike any kernel's; memory is the script's, given back by
// unmap. One thread; what scripted.h allows to others (write, the clock) they may do here too.
//
// The test ends with a message: for what is not modelled (linked, drained and fixed-file entries, multishot RECVMSG,
// POLL_UPDATE, a ring's memory mapped twice), for an enter that would wait for ever, and when memory is unmapped that a
// pending receive may still write to.
#pragma once

#if MIO_HAVE_URING

#include "support/scripted.h"

#include <liburing.h>
#include <limits.h>

#ifndef IORING_CQE_F_BUF_MORE
#define IORING_CQE_F_BUF_MORE (1U << 4) // 6.12: the buffer is not used up
#endif

namespace test {

constexpr int RING_FD_FIRST = 6000;              // descriptors that the model gives: rings, accepted and made sockets
constexpr int32_t RING_STAYS = INT32_MIN;        // an answer: it stays pending
constexpr int32_t RING_SUCCEEDS = INT32_MIN + 1; // an answer: all bytes, a new descriptor, or 0
constexpr unsigned RING_TAKES_ALL = UINT_MAX;

// What kind of kernel it is. From ring_model_open on a recent one; may be changed at any time.
struct ring_kernel {
    uint32_t features;          // IORING_FEAT_...; without SINGLE_MMAP the two queues lie apart
    uint32_t setup_flags;       // IORING_SETUP_... that it knows; others are -EINVAL
    uint32_t enter_flags;       // IORING_ENTER_..., likewise
    uint16_t buffer_flags;      // of a ring of buffers, likewise; 2: incremental
    unsigned cq_entries;        // how many every ring gets; 0: as the caller asks
    unsigned lingers;           // how often poll_one finds the registered files of a closed ring still held
    bool opcode_missing[256];   // the probe says no, an entry gets -EINVAL
    int register_error[64];     // by what is registered; 0: it works
    int enter_error;            // every enter is refused with it; 0: none is
    unsigned enter_error_after; // so many more are not
};

struct ring_enter { // one call of uring_enter
    unsigned to_submit, min_complete, flags;
    int64_t timeout_ns; // -1: none
    unsigned taken;     // entries consumed
    int result;
};

const mio::sys *ring_model_open(int64_t now_ns);
// What is left over, each printed: answers, plans and late cancels not used, rings and the model's descriptors not
// closed, and what scripted_close finds.
int ring_model_close();
ring_kernel *ring_model_kernel();

// --- rings ----------------------------------------------------------------------------------------------------------

int ring_model_ring(unsigned nth);     // the descriptor of the nth that was made, from 0; -1: not so many
int ring_model_newest();               // -1: none
bool ring_model_is_enabled(int ring);  // open, and not (any more) R_DISABLED
uint32_t ring_model_setup(int ring);   // IORING_SETUP_... it was made with
unsigned ring_model_ready(int ring);   // completions in the queue, not reaped
unsigned ring_model_backlog(int ring); // completions that the queue had no room for
unsigned ring_model_put_off(int ring); // what the next enter that asks for events will look at
uint64_t ring_model_signals(int ring); // how often a registered eventfd would have been written
unsigned ring_model_buffers(int ring, unsigned group); // buffers that the kernel may use; 0: no such group
unsigned ring_model_enters(int ring);
const ring_enter *ring_model_enter_at(int ring, unsigned nth); // from 0; nullptr: not so many
const ring_enter *ring_model_enter_last(int ring);

// --- entries that were taken ----------------------------------------------------------------------------------------

unsigned ring_model_taken(int ring);
const struct io_uring_sqe *ring_model_sqe(int ring, int nth); // as it was taken, from 0; valid until the close
bool ring_model_is_pending(int ring, int nth);                // its last completion is not posted
unsigned ring_model_pending(int ring);
// The oldest that still waits for its result; ANY_FD: on any descriptor. -1: none.
int ring_model_find(int ring, uint8_t opcode, int fd);
int ring_model_find_data(int ring, uint64_t user_data);
int ring_model_owing(int ring); // the oldest that owes its notification, which is not put off either; -1: none

// --- results --------------------------------------------------------------------------------------------------------

// Gives a pending entry its result, put off; with IORING_CQE_F_MORE it goes on, else this is its last. What sends have
// sent is read from their memory when it is posted. Nothing is posted for a success where the entry wants it so.
void ring_model_complete(int ring, int nth, int32_t res, uint32_t flags);
// zero-copy: the notification, put off; the result was posted before. A ring that is closed has nobody to be told, but
// until then it does not let go of its registered files.
void ring_model_notify(int ring, int nth);
void ring_model_notify_copied(int ring, int nth); // the same: it was copied after all
void ring_model_flush(int ring);           // posts what was put off, now
// Posts any completion, now: late, stale, or such as no kernel sends.
void ring_model_post_raw(int ring, uint64_t user_data, int32_t res, uint32_t flags);

// What each entry with this opcode gets from now on: a result, RING_SUCCEEDS or RING_STAYS. Bytes that a silent send
// leaves unsent are told only with MSG_WAITALL, as by a kernel. A zero-copy send posts its result with F_MORE.
void ring_model_answer(uint8_t opcode, int32_t res);
// What the next such entry on this descriptor (or ANY_FD) gets; several are used in their order.
void ring_model_answer_next(uint8_t opcode, int fd, int32_t res);
// The next cancel or poll-remove that finds its target is late: the target posts this result first (RING_STAYS: none),
// then the cancel its own.
void ring_model_cancel_late(int32_t target_res, uint32_t target_flags, int32_t own_res);

// --- sockets --------------------------------------------------------------------------------------------------------

// Bytes arrive. They go to a receive that is or will be pending on the socket (one-shot into its memory; into buffers
// of its group as a kernel does, -ENOBUFS if there are none), or to recv, recvmsg and read of the table, for which then
// no result should be scripted. Polls for them are told, as long as they are there; poll_one of the table, too.
void ring_model_receive(int socket, const void *bytes, size_t n);
void ring_model_receive_end(int socket, int res); // after these bytes: 0 the end, or an error
size_t ring_model_unread(int socket);
// Each poll pending on the descriptor that waits for one of these events is told of them, put off, true or not; of
// POLLERR, POLLHUP and POLLRDHUP all are.
void ring_model_fire(int fd, unsigned events);
// A connection for a pending or future ACCEPT on the listener: its descriptor, there from when it is posted.
int ring_model_accept(int listener);
// All that was sent by entries and by send and sendmsg of the table, in order. Valid until more is sent.
const char *ring_model_sent(int socket, size_t *n);

// --- enters ---------------------------------------------------------------------------------------------------------

// What the next enter of the ring does, after those planned before: it takes at most so many entries; then error < 0 is
// returned and nothing more is done, or (0) it goes on as a kernel does: -EAGAIN or the count without waiting if it did
// not take all. (0, -EINTR): an error before. (RING_TAKES_ALL, -EINTR): an error after. (RING_TAKES_ALL, 0): no fault.
void ring_model_plan(int ring, unsigned takes, int error);
unsigned ring_model_planned(int ring); // planned and not used yet
// Called once, when an enter of any ring has to wait; then it looks again. Else time passes by its time-out.
void ring_model_on_wait(void (*effect)(void *arg), void *arg);

}

#endif
