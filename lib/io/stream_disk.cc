// Streams over what no kernel tells the readiness of: regular files and disks. A read of one may wait for a disk whatever
// O_NONBLOCK says, so each carrier is a job for the workers (core/job.h), on every backend.
//
//   flush -> the job, with memory of its own:  receive: room for what comes        send: a copy of what is to leave
//         -> a worker: read(2), write(2), at the position of the open file, which others may share (O_APPEND: at the end)
//         -> home: the carrier has ended, and its result is dealt as any other's
//
// Not by the ring: it reads the position without the lock that read(2) and write(2) hold, so two writes to one open file
// (>log 2>&1) could meet at one place.
//
// A worker never has memory of the program's. So what is cancelled, abandoned or borrowed is no matter of the worker's;
// only the descriptor is: it is not closed as long as the carrier is STARTED, and the carrier ends early only if no worker
// is at its job yet.
//
// Invariants: a STARTED carrier's `next` is its loose request, which the loop's being alive does not count, and nobody gives
// up. Bytes that were read for somebody who has gone are pushed back, as any others.

#include "core/fs_call.h"
#include "core/job.h"
#include "core/lane.h"
#include "io/stream.h"

#include <mio/error.h>

#include <string.h>

namespace mio {

constexpr size_t DISK_READ_MOST = 64 << 10;
constexpr size_t DISK_WRITE_MOST = 256 << 10;
constexpr unsigned DISK_PIECES = 64;

struct disk_work { // the payload of the job
    fs_call call;
    struct iovec piece;
    block *room; // the job's until the bytes are told of
};

// --- on the worker --------------------------------------------------------------------------------------------------

// What was moved before an error is told first; who asks again meets the error again.
static void disk_run(job *work) {
    fs_call *call = &job_payload<disk_work>(work)->call;
    fs_perform(work->calls, call);
    if (call->moved != 0) work->result = call->moved;
    else work->result = call->result == MIO_EOF ? 0 : call->result;
}

// --- and home -------------------------------------------------------------------------------------------------------

static void disk_dispose(job *work) {
    auto *w = job_payload<disk_work>(work);
    if (w->room != nullptr) block_release(w->room);
    w->room = nullptr;
}

static void disk_done(loop *l, job *work, int64_t status, void (*)(), void *arg) {
    auto *carrier = static_cast<request *>(arg);
    auto *w = job_payload<disk_work>(work);
    mio_assert(carrier->state == request_state::started);
    carrier->state = request_state::free;
    carrier->flags = 0;
    carrier->next = nullptr;
    channel *c = channel_of(carrier);
    completion done = {carrier, nullptr, status, 0, 0};
    if (carrier->op == op_code::send_disk) {
        disk_dispose(work); // before the user's next write wants memory
        stream_write_done(l, c, &done);
        return;
    }
    if (status > 0) {
        done.from = w->room;
        w->room = nullptr;
    }
    stream_read_done(l, c, &done);
}

static const job_kind disk_read = {"read of a stream", LANE_FILES, job_rule::held, disk_run, disk_done, disk_dispose};
static const job_kind disk_write = {"write of a stream", LANE_FILES, job_rule::held, disk_run, disk_done, disk_dispose};

// --- on the way there -----------------------------------------------------------------------------------------------

static void disk_start(loop *l, const channel *c, request *carrier, block *room, size_t n) {
    const bool out = carrier->op == op_code::send_disk;
    loose_request *req = loose_create(l, out ? &disk_write : &disk_read, sizeof(disk_work), nullptr, carrier);
    if (req == nullptr) {
        block_release(room);
        request_settle(l, carrier, MIO_ENOMEM);
        return;
    }
    auto *w = job_payload<disk_work>(req->work);
    w->room = room;
    w->piece = {room->owner.base, n};
    w->call.op = out ? fs_op::write : fs_op::read;
    w->call.fd = c->fd;
    w->call.offset = -1;
    w->call.pieces = &w->piece;
    w->call.piece_count = 1;
    carrier->next = req;
    loose_unref(l, req);
    loose_submit(l, req);
}

static void disk_receive(loop *l, channel *c, request *carrier) {
    struct iovec own;
    size_t n = DISK_READ_MOST; // no more than is asked for: whoever shares the position may want the rest
    if (lane_room(&c->reads, &own) && own.iov_len < n) n = own.iov_len;
    block *room = pool_reserve_apart(l, n);
    if (room != nullptr) disk_start(l, c, carrier, room, n);
    else request_settle(l, carrier, pool_has_room(l) ? MIO_ENOMEM : MIO_ENOBUFS);
}

static void disk_send(loop *l, channel *c, request *carrier) {
    struct iovec from[DISK_PIECES];
    const unsigned count = lane_gather(&c->writes, from, DISK_PIECES);
    size_t total = 0;
    for (unsigned i = 0; i < count; i++) total += from[i].iov_len;
    if (total > DISK_WRITE_MOST) total = DISK_WRITE_MOST;
    block *room = total != 0 ? arena_take(l->buffers, total) : nullptr;
    if (room == nullptr) { // nothing of the lane is left, or there is no memory
        request_settle(l, carrier, total == 0 ? 0 : MIO_ENOMEM);
        return;
    }
    lane_show(&c->writes);
    size_t copied = 0;
    for (unsigned i = 0; copied != total; i++) {
        const size_t part = from[i].iov_len < total - copied ? from[i].iov_len : total - copied;
        memcpy(room->owner.base + copied, from[i].iov_base, part);
        copied += part;
    }
    lane_hide(&c->writes);
    disk_start(l, c, carrier, room, total);
}

void stream_disk_submit(loop *l, channel *c, request *carrier) {
    mio_assert(carrier->state == request_state::started && c->fd >= 0);
    if (carrier->op == op_code::send_disk) disk_send(l, c, carrier);
    else disk_receive(l, c, carrier);
}

void stream_disk_cancel(loop *l, request *carrier) {
    (void)loose_cancel(l, static_cast<loose_request *>(carrier->next), MIO_ECANCELED);
}

}
