// File operations in the ring: each is one submission, asked for by its call (core/fs_call.h) and answered by one
// completion. What the kernel reads and writes meanwhile lies in the job, or in buffers that the request holds.
//
//   reads, writes                    READ, WRITE of one piece, READV, WRITEV of several; a short write goes on
//   close, sync, stat, rename, ...   one opcode each
//   the rest                         the workers: no opcode, or many steps
//
// What one must know:
//   1. An opcode that a kernel knows need not do it for every file system: EINVAL, EOPNOTSUPP and ENOSYS are answers
//      that the workers' call is asked for once more. Not so a close: whatever it says, the descriptor is gone, and its
//      number may be somebody else's by now.
//   2. What would wait is done by threads of the kernel's: beyond the bytes of a file that are in memory it is a pool.
//   3. A cancel ends what such a thread has not begun; what it has begun may go on. So an abandonable operation is not
//      waited for: its job stays here until the completion, and what that brings is disposed of. Such a thread looks for
//      a descriptor's file when it begins: the number may be somebody else's once the callback has come. So what changes a
//      file by its number is let go of when the kernel has the cancel, not before. A close is not cancelled.
//   4. Of a ring that another thread leaves behind results are lost (uring_move.cc), also when it has ended (6.18). What
//      gives the same when it is done twice is done again by the next ring; of the rest nobody knows: MIO_EIO. (A thread
//      that ends cancels what it has not begun: ECANCELED that nobody asked for.)
//   5. An open is tried with O_NONBLOCK first, which a FIFO takes for the caller's wish: it does not wait for its other
//      end, or fails with ENXIO. From the beginning in a thread of the kernel's it is no faster than a worker's, and when
//      its result is lost or late (4) nobody can close the descriptor. So the workers open.
//   6. A read or write of what has no positions ignores the offset, where pread(2) would refuse.
//   7. A write to a pipe or a socket that nobody reads raises SIGPIPE in the thread that enters, so each says that it must
//      not (RWF_NOSIGNAL). A kernel that does not know that (before 6.18) says EOPNOTSUPP: the workers write then, whose
//      threads block all signals, and no further write of this loop's is in the ring.

#include "backend/uring.h"

#include "core/backend.h"

#include <mio/error.h>
#include <mio/fs.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include <atomic>

namespace mio {

#ifndef IORING_OP_FTRUNCATE
constexpr unsigned OP_FTRUNCATE = 55; // 6.9; an older header has no name for it
#else
constexpr unsigned OP_FTRUNCATE = IORING_OP_FTRUNCATE;
#endif

#ifndef RWF_NOSIGNAL
#define RWF_NOSIGNAL 0x00000100
#endif

static fs_call *call_of(const job *work) { return job_payload<fs_call>(const_cast<job *>(work)); }

constexpr unsigned NO_OPCODE = 255;
constexpr int32_t WANTED_NO_MORE = -1;

static unsigned opcode_of(const fs_call *call) {
    const bool one = call->piece_count == 1;
    switch (call->op) {
    case fs_op::close: return IORING_OP_CLOSE;
    case fs_op::read: return one ? IORING_OP_READ : IORING_OP_READV;
    case fs_op::write: return one ? IORING_OP_WRITE : IORING_OP_WRITEV;
    case fs_op::fsync:
    case fs_op::fdatasync: return IORING_OP_FSYNC;
    case fs_op::stat:
    case fs_op::lstat:
    case fs_op::fstat: return IORING_OP_STATX;
    case fs_op::ftruncate: return OP_FTRUNCATE;
    case fs_op::allocate: return IORING_OP_FALLOCATE;
    case fs_op::rename: return IORING_OP_RENAMEAT;
    case fs_op::unlink:
    case fs_op::rmdir: return IORING_OP_UNLINKAT;
    case fs_op::mkdir: return IORING_OP_MKDIRAT;
    case fs_op::link: return IORING_OP_LINKAT;
    case fs_op::symlink: return IORING_OP_SYMLINKAT;
    case fs_op::open: // 5
    case fs_op::truncate:
    case fs_op::mkdir_all:
    case fs_op::remove_all:
    case fs_op::readlink:
    case fs_op::realpath:
    case fs_op::readdir:
    case fs_op::chmod:
    case fs_op::fchmod:
    case fs_op::chown:
    case fs_op::lchown:
    case fs_op::fchown:
    case fs_op::utimes:
    case fs_op::lutimes:
    case fs_op::futimes:
    case fs_op::access:
    case fs_op::temp_file:
    case fs_op::temp_folder:
    case fs_op::copy:
    case fs_op::statfs: return NO_OPCODE;
    }
    return NO_OPCODE;
}

// --- asked ----------------------------------------------------------------------------------------------------------

static bool files_ready(loop *l, uring_files *f) {
    if (f->all != nullptr) return true;
    constexpr size_t size = URING_FILES_MAX * sizeof(uring_file);
    f->all = static_cast<uring_file *>(memory_alloc(&l->mem, size));
    if (f->all != nullptr) memset(static_cast<void *>(f->all), 0, size);
    return f->all != nullptr;
}

static void file_want(uring_files *f, request *carrier) {
    carrier->result = 0;
    queue_push(&f->wanted, carrier);
}

bool uring_file_submit(loop *l, uring_state *u, request *carrier) {
    if (u->dead || (u->features & MIO_URING_FILES) == 0) return false;
    fs_call *call = call_of(static_cast<loose_request *>(carrier)->work);
    if (call->op == fs_op::write) fs_call_advance(call, 0); // past what is empty
    const unsigned opcode = opcode_of(call);
    if (opcode >= 64 || (u->files.opcodes >> opcode & 1) == 0) return false;
    if (call->op == fs_op::write && call->piece_count == 0) return false; // nothing: no call either
    if (!files_ready(l, &u->files)) return false;
    file_want(&u->files, carrier);
    return true;
}

static void file_prepare(struct io_uring_sqe *sqe, fs_call *call) {
    const uint64_t at = call->offset < 0 ? UINT64_MAX : static_cast<uint64_t>(call->offset + call->moved);
    void *base = call->piece_count != 0 ? call->pieces->iov_base : nullptr;
    const auto n = static_cast<unsigned>(call->piece_count != 0 ? call->pieces->iov_len : 0);
    const unsigned opcode = opcode_of(call);
    switch (opcode) {
    case IORING_OP_CLOSE: io_uring_prep_close(sqe, call->fd); break;
    case IORING_OP_READ: io_uring_prep_read(sqe, call->fd, base, n, at); break;
    case IORING_OP_WRITE: io_uring_prep_write(sqe, call->fd, base, n, at); break;
    case IORING_OP_READV: io_uring_prep_readv(sqe, call->fd, call->pieces, call->piece_count, at); break;
    case IORING_OP_WRITEV: io_uring_prep_writev(sqe, call->fd, call->pieces, call->piece_count, at); break;
    case IORING_OP_FSYNC:
        io_uring_prep_fsync(sqe, call->fd, call->op == fs_op::fdatasync ? IORING_FSYNC_DATASYNC : 0);
        break;
    case IORING_OP_STATX: {
        const int flags = call->op == fs_op::fstat   ? AT_EMPTY_PATH
                          : call->op == fs_op::lstat ? AT_SYMLINK_NOFOLLOW
                                                     : 0;
        const int dir = call->op == fs_op::fstat ? call->fd : AT_FDCWD;
        const char *path = call->op == fs_op::fstat ? "" : call->path;
        io_uring_prep_statx(sqe, dir, path, flags, sys_statx_mask(), reinterpret_cast<struct statx *>(call->out));
        break;
    }
    case IORING_OP_FALLOCATE:
        // Older headers of liburing take signed numbers here, newer ones unsigned ones.
        io_uring_prep_rw(IORING_OP_FALLOCATE, sqe, call->fd, nullptr, static_cast<unsigned>(call->flags),
                         static_cast<uint64_t>(call->offset));
        sqe->addr = static_cast<uint64_t>(call->length);
        break;
    case IORING_OP_RENAMEAT:
        io_uring_prep_renameat(sqe, AT_FDCWD, call->path, AT_FDCWD, call->to, static_cast<unsigned>(call->flags));
        break;
    case IORING_OP_UNLINKAT:
        io_uring_prep_unlinkat(sqe, AT_FDCWD, call->path, call->op == fs_op::rmdir ? AT_REMOVEDIR : 0);
        break;
    case IORING_OP_MKDIRAT: io_uring_prep_mkdirat(sqe, AT_FDCWD, call->path, static_cast<mode_t>(call->mode)); break;
    case IORING_OP_LINKAT: io_uring_prep_linkat(sqe, AT_FDCWD, call->path, AT_FDCWD, call->to, 0); break;
    case IORING_OP_SYMLINKAT: io_uring_prep_symlinkat(sqe, call->path, AT_FDCWD, call->to); break;
    default: // FTRUNCATE, for which an older liburing has no preparation
        mio_assert(opcode == OP_FTRUNCATE);
        sqe->opcode = static_cast<uint8_t>(OP_FTRUNCATE);
        sqe->fd = call->fd;
        sqe->off = static_cast<uint64_t>(call->length);
        break;
    }
    if (call->op == fs_op::write) sqe->rw_flags = RWF_NOSIGNAL; // 7
}

static uint64_t file_token(const uring_files *f, const uring_file *file) {
    const auto number = static_cast<uint32_t>(file - f->all);
    return static_cast<uint64_t>(uring_op::file) << 56 | static_cast<uint64_t>(file->generation & 0xffffffu) << 32 | number;
}

// What a token names; nullptr: stale.
static uring_file *token_file(const uring_files *f, uint64_t token) {
    const auto number = static_cast<uint32_t>(token);
    if (f->all == nullptr || number >= f->used) return nullptr;
    uring_file *file = &f->all[number];
    return file->work != nullptr && file_token(f, file) == token ? file : nullptr;
}

static uring_file *file_take(uring_files *f) {
    uring_file *file;
    if (f->first_free != 0) {
        file = &f->all[f->first_free - 1];
        f->first_free = file->next_free;
    } else if (f->used != URING_FILES_MAX) {
        file = &f->all[f->used++];
    } else {
        return nullptr;
    }
    f->out++;
    file->generation++;
    file->cancel = file->cancelled = file->parting = false;
    return file;
}

static void file_give(uring_files *f, uring_file *file) {
    if (file->cancel) f->cancels--;
    if (file->parting) f->partings--;
    file->cancel = file->parting = false;
    file->req = nullptr;
    file->work = nullptr;
    file->next_free = f->first_free;
    f->first_free = static_cast<uint32_t>(file - f->all) + 1;
    f->out--;
}

static void files_build_cancels(uring_state *u) {
    uring_files *f = &u->files;
    for (uint32_t i = 0; i < f->used && f->cancels != 0 && uring_ring_space(&u->ring) != 0; i++) {
        uring_file *file = &f->all[i];
        if (!file->cancel) continue;
        file->cancel = false;
        f->cancels--;
        struct io_uring_sqe *sqe = uring_ring_sqe(&u->ring);
        io_uring_prep_cancel64(sqe, file_token(f, file), 0);
        if ((u->ring.features & IORING_FEAT_CQE_SKIP) != 0) sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
        sqe->user_data = uring_token(uring_op::cancel, 0, 0);
    }
}

static void wanted_sweep(loop *l, uring_files *f) {
    queue<request> before = queue_take(&f->wanted);
    while (request *carrier = queue_pop(&before)) {
        if (carrier->result == WANTED_NO_MORE) request_settle(l, carrier, MIO_ECANCELED);
        else queue_push(&f->wanted, carrier);
    }
    f->given_up = false;
}

void uring_files_build(loop *l, uring_state *u) {
    uring_files *f = &u->files;
    if (f->cancels != 0) files_build_cancels(u);
    if (f->given_up) wanted_sweep(l, f);
    while (!queue_empty(f->wanted) && uring_ring_space(&u->ring) != 0) {
        uring_file *file = file_take(f);
        if (file == nullptr) return;
        file->req = static_cast<loose_request *>(queue_pop(&f->wanted));
        file->req->result = static_cast<int32_t>(file - f->all) + 1;
        file->work = file->req->work;
        struct io_uring_sqe *sqe = uring_ring_sqe(&u->ring);
        file_prepare(sqe, call_of(file->work));
        sqe->user_data = file_token(f, file);
    }
}

void uring_file_unbuilt(uring_state *u, uint64_t token) {
    uring_file *file = token_file(&u->files, token);
    mio_assert(file != nullptr && file->req != nullptr); // nothing of the user's ran since it was built
    request *carrier = file->req;
    file_give(&u->files, file);
    file_want(&u->files, carrier);
}

// --- answered -------------------------------------------------------------------------------------------------------

static bool answer_is_refusal(int result) { return result == -EINVAL || result == -EOPNOTSUPP || result == -ENOSYS; }

// 7: unless a write was taken before (then a file system speaks), no other one is tried.
static void write_was_answered(uring_files *f, int result) {
    constexpr uint64_t writes = UINT64_C(1) << IORING_OP_WRITE | UINT64_C(1) << IORING_OP_WRITEV;
    if (!answer_is_refusal(result)) f->quiet_writes = f->quiet_writes || result != -ECANCELED;
    else if (!f->quiet_writes) f->opcodes &= ~writes;
}

// The facts take the place of what the kernel wrote.
static void facts_arrived(fs_call *call) {
    sys_stat found;
    mio_assert(call->room >= sys_statx_size());
    sys_statx_read(call->out, &found);
    memcpy(call->out, &found, sizeof found);
}

// A read or write moved bytes. false: it is not over.
static bool bytes_arrived(fs_call *call, int n) {
    if (n == 0) {
        call->result = call->op == fs_op::read ? MIO_EOF : MIO_EIO;
        return true;
    }
    fs_call_advance(call, static_cast<size_t>(n));
    call->result = 0;
    return call->op == fs_op::read || call->piece_count == 0;
}

// Nobody asked for that: it has not begun. But a file system may say so, too, and again and again.
constexpr unsigned REPEATS_MAX = 8;

static bool call_was_cancelled(fs_call *call) {
    call->result = MIO_ECANCELED;
    if (call->op == fs_op::close) call->result = MIO_EIO; // 1
    return call->op == fs_op::close || ++call->repeats > REPEATS_MAX;
}

// The call's result, by what the kernel says. false: it is not over.
static bool call_answered(fs_call *call, int result) {
    if (result == -ECANCELED) return call_was_cancelled(call);
    const bool closed = call->op == fs_op::close && (result == -EINTR || result == -EINPROGRESS);
    call->result = result > 0 || closed ? 0 : result;
    if (result < 0) return closed || result != -EINTR;
    if (fs_call_is_held(call)) return bytes_arrived(call, result);
    if (call->op == fs_op::stat || call->op == fs_op::lstat || call->op == fs_op::fstat) facts_arrived(call);
    return true;
}

void uring_file_complete(loop *l, uring_state *u, const struct io_uring_cqe *cqe) {
    uring_files *f = &u->files;
    uring_file *file = token_file(f, cqe->user_data);
    if (file == nullptr) return;
    loose_request *req = file->req;
    job *work = file->work;
    const bool cancelled = file->cancelled;
    file_give(f, file);
    fs_call *call = call_of(work);
    if (call->op == fs_op::write) write_was_answered(f, cqe->res);
    if (req == nullptr) {
        call->done = cqe->res != -ECANCELED;
        job_part(l, work);
        return;
    }
    const bool refused = answer_is_refusal(cqe->res) && call->op != fs_op::close;
    if (refused && !cancelled) {
        job_submit(l, req);
        return;
    }
    if (refused || !call_answered(call, cqe->res)) {
        if (!cancelled) {
            file_want(f, req);
            return;
        }
        call->result = MIO_ECANCELED; // what it had moved is told with it
    }
    call->done = call->result != MIO_ECANCELED;
    request_finish(l, req, call->result, 0, nullptr, 0);
}

// --- early ends -----------------------------------------------------------------------------------------------------

static bool changes_by_number(const fs_call *call) {
    return call->op == fs_op::fsync || call->op == fs_op::fdatasync || call->op == fs_op::ftruncate ||
           call->op == fs_op::allocate;
}

// The job is the ring's alone now.
static void file_part(loop *l, uring_file *file) {
    loose_request *req = file->req;
    file->req = nullptr;
    req->work = nullptr;
    request_settle(l, req, MIO_ECANCELED);
}

void uring_file_cancel(loop *l, uring_state *u, request *carrier) {
    uring_files *f = &u->files;
    if (carrier->result <= 0) {
        carrier->result = WANTED_NO_MORE;
        f->given_up = true;
        return;
    }
    uring_file *file = &f->all[carrier->result - 1];
    mio_assert(file->req == carrier);
    if (file->cancelled) return; // it ends already
    const fs_call *call = call_of(file->work);
    file->cancelled = true;
    if (call->op != fs_op::close) { // 3
        file->cancel = true;
        f->cancels++;
    }
    if (fs_call_is_held(call)) return;
    if (changes_by_number(call)) {
        file->parting = true;
        f->partings++;
    } else {
        file_part(l, file);
    }
}

void uring_files_part(loop *l, uring_state *u) {
    uring_files *f = &u->files;
    if (uring_ring_unsubmitted(&u->ring) != 0) return; // their cancels may be among these
    for (uint32_t i = 0; i < f->used && f->partings != 0; i++) {
        uring_file *file = &f->all[i];
        if (!file->parting || file->cancel) continue;
        file->parting = false;
        f->partings--;
        file_part(l, file);
    }
}

// --- the ring goes --------------------------------------------------------------------------------------------------

// Bytes at an offset are the same ones each time only where there are positions (6), and nothing is appended.
static bool transfer_may_repeat(const loop *l, const fs_call *call) {
    fd_facts about;
    if (call->offset < 0 || l->calls->facts(call->fd, &about) < 0) return false;
    const bool regular = S_ISREG(about.mode);
    if (call->op == fs_op::read) return regular || S_ISBLK(about.mode);
    return regular && (about.status & O_APPEND) == 0;
}

// Whether it was done or not, or in part: done once more it has done the same.
static bool call_may_repeat(const loop *l, const fs_call *call) {
    switch (call->op) {
    case fs_op::read:
    case fs_op::write: return transfer_may_repeat(l, call);
    case fs_op::stat:
    case fs_op::lstat:
    case fs_op::fstat:
    case fs_op::ftruncate:
    case fs_op::allocate: return true;
    case fs_op::fsync: // an error of the file's is told once, and may have been
    case fs_op::fdatasync:
    case fs_op::close: // these leave something behind
    case fs_op::rename:
    case fs_op::unlink:
    case fs_op::rmdir:
    case fs_op::mkdir:
    case fs_op::link:
    case fs_op::symlink: return false;
    case fs_op::open: // and these are never in the ring
    case fs_op::truncate:
    case fs_op::mkdir_all:
    case fs_op::remove_all:
    case fs_op::readlink:
    case fs_op::realpath:
    case fs_op::readdir:
    case fs_op::chmod:
    case fs_op::fchmod:
    case fs_op::chown:
    case fs_op::lchown:
    case fs_op::fchown:
    case fs_op::utimes:
    case fs_op::lutimes:
    case fs_op::futimes:
    case fs_op::access:
    case fs_op::temp_file:
    case fs_op::temp_folder:
    case fs_op::copy:
    case fs_op::statfs: break;
    }
    return false;
}

void uring_files_uproot(loop *l, uring_state *u, bool again) {
    uring_files *f = &u->files;
    for (uint32_t i = 0; i < f->used; i++) {
        uring_file *file = &f->all[i];
        if (file->work == nullptr) continue;
        loose_request *req = file->req;
        job *work = file->work;
        const bool cancelled = file->cancelled;
        file_give(f, file);
        call_of(work)->done = true;
        if (req == nullptr) job_free(work);
        else if (again && !cancelled && call_may_repeat(l, call_of(work))) file_want(f, req);
        else request_settle(l, req, cancelled ? MIO_ECANCELED : MIO_EIO);
    }
    if (again) return;
    while (request *carrier = queue_pop(&f->wanted)) request_settle(l, carrier, MIO_ECANCELED);
}

bool uring_files_awaited(const uring_files *f) {
    for (uint32_t i = 0; i < f->used; i++)
        if (f->all[i].req != nullptr) return true;
    return false;
}

void uring_files_bury(uring_files *f) {
    for (uint32_t i = 0; i < f->used; i++) {
        job *work = f->all[i].work;
        if (work == nullptr) continue;
        mio_assert(f->all[i].req == nullptr);
        file_give(f, &f->all[i]);
        call_of(work)->done = true;
        work->next = f->buried;
        f->buried = work;
    }
}

void uring_files_exhume(uring_files *f) {
    while (job *work = f->buried) {
        f->buried = work->next;
        job_free(work);
    }
}

void uring_files_close(loop *l, uring_state *u, bool in_child) {
    uring_files *f = &u->files;
    for (uint32_t i = 0; i < f->used; i++) {
        const uring_file *file = &f->all[i];
        mio_assert(in_child || file->req == nullptr);
        // In a child, core frees the jobs of requests; here are those that have none. Elsewhere the kernel may still
        // write into theirs: they stay.
        if (!in_child || file->work == nullptr || file->req != nullptr) continue;
        call_of(file->work)->done = true; // by the parent's ring: a close must not close the child's descriptor, too
        job_free(file->work);
    }
    if (in_child) uring_files_exhume(f);
    memory_release(&l->mem, f->all, f->all == nullptr ? 0 : URING_FILES_MAX * sizeof(uring_file));
    *f = uring_files();
}

}
