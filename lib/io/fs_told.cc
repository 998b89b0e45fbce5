// Files: how the program is told, and what becomes of what it is not told of. One function for each shape of callback.

#include "io/fs.h"

#include <mio/error.h>
#include <mio/fs.h>

namespace mio {

static_assert(sizeof(mio_fs_facts_t) == sizeof(sys_stat) &&
                  offsetof(mio_fs_facts_t, size) == offsetof(sys_stat, size) &&
                  offsetof(mio_fs_facts_t, atime_ns) == offsetof(sys_stat, atime_ns) &&
                  offsetof(mio_fs_facts_t, direct_offset_align) == offsetof(sys_stat, direct_offset_align) &&
                  MIO_FS_TIME_UNKNOWN == SYS_TIME_UNKNOWN,
              "the public struct is the table's");
static_assert(sizeof(mio_fs_space_t) == sizeof(sys_statfs) &&
                  offsetof(mio_fs_space_t, name_max) == offsetof(sys_statfs, name_max),
              "the public struct is the table's");

// --- the end --------------------------------------------------------------------------------------------------------

static fs_work *work_of(job *work) { return work == nullptr ? nullptr : job_payload<fs_work>(work); }

template <class Callback, class... Arguments>
static void fs_tell(loop *l, void (*cb)(), const char *what, Arguments... arguments) {
    if (cb == nullptr) return;
    const int64_t begun_ns = callback_begin(l, nullptr);
    reinterpret_cast<Callback>(cb)(loop_public(l), arguments...);
    (void)callback_end(l, nullptr, begun_ns, what);
}

static void fs_told_status(loop *l, job *, int64_t status, void (*cb)(), void *arg) {
    fs_tell<mio_fs_cb>(l, cb, "fs", static_cast<int>(status), arg);
}

static void fs_told_open(loop *l, job *work, int64_t status, void (*cb)(), void *arg) {
    if (status >= 0) work_of(work)->call.result = MIO_ECANCELED; // the descriptor is the program's from now on
    fs_tell<mio_fs_open_cb>(l, cb, "fs_open", static_cast<int>(status), arg);
}

static void fs_told_temp(loop *l, job *work, int64_t status, void (*cb)(), void *arg) {
    fs_work *w = work_of(work);
    if (status >= 0) w->call.result = MIO_ECANCELED;
    fs_tell<mio_fs_temp_cb>(l, cb, "fs_temp", static_cast<int>(status), status < 0 ? nullptr : w->call.path, arg);
}

// The bytes that were read, onto the lens.
static void bufs_grow(mio_buf_t *bufs, unsigned n, int64_t bytes) {
    auto left = static_cast<size_t>(bytes);
    for (unsigned i = 0; i < n && left != 0; i++) {
        const size_t room = bufs[i].cap - bufs[i].len;
        const size_t got = left < room ? left : room;
        bufs[i].len += got;
        left -= got;
    }
    mio_assert(left == 0);
}

static void fs_told_read(loop *l, job *work, int64_t status, void (*cb)(), void *arg) {
    fs_work *w = work_of(work);
    mio_buf_t *bufs = w == nullptr ? nullptr : w->bufs;
    const unsigned n = w == nullptr ? 0 : w->buf_count;
    int64_t told = status;
    if (status >= 0) {
        bufs_grow(bufs, n, w->call.moved);
        told = w->call.moved;
    }
    fs_tell<mio_fs_read_cb>(l, cb, "fs_read", told, bufs, n, arg);
}

static void fs_told_write(loop *l, job *work, int64_t status, void (*cb)(), void *arg) {
    fs_work *w = work_of(work);
    mio_buf_t *bufs = w == nullptr ? nullptr : w->bufs;
    const unsigned n = w == nullptr ? 0 : w->buf_count;
    const int64_t written = w == nullptr ? 0 : w->call.moved;
    fs_tell<mio_fs_write_cb>(l, cb, "fs_write", static_cast<int>(status), written, bufs, n, arg);
}

static void fs_told_stat(loop *l, job *work, int64_t status, void (*cb)(), void *arg) {
    mio_fs_facts_t facts;
    if (status >= 0) memcpy(&facts, work_of(work)->call.out, sizeof facts);
    fs_tell<mio_fs_stat_cb>(l, cb, "fs_stat", static_cast<int>(status), status < 0 ? nullptr : &facts, arg);
}

static void fs_told_statfs(loop *l, job *work, int64_t status, void (*cb)(), void *arg) {
    mio_fs_space_t space;
    if (status >= 0) memcpy(&space, work_of(work)->call.out, sizeof space);
    fs_tell<mio_fs_statfs_cb>(l, cb, "fs_statfs", static_cast<int>(status), status < 0 ? nullptr : &space, arg);
}

static void fs_told_path(loop *l, job *work, int64_t status, void (*cb)(), void *arg) {
    const fs_work *w = work_of(work);
    const char *path = status < 0 ? nullptr : w->call.op == fs_op::temp_folder ? w->call.path : w->call.out;
    fs_tell<mio_fs_path_cb>(l, cb, "fs_path", static_cast<int>(status), path, arg);
}

static void fs_told_copy(loop *l, job *work, int64_t status, void (*cb)(), void *arg) {
    const int64_t bytes = work == nullptr ? 0 : work_of(work)->call.moved;
    fs_tell<mio_fs_copy_cb>(l, cb, "fs_copy", static_cast<int>(status), bytes, arg);
}

// The entries' public shape lies behind their bytes.
static void fs_told_readdir(loop *l, job *work, int64_t status, void (*cb)(), void *arg) {
    mio_fs_entry_t *entries = nullptr;
    unsigned n = 0;
    if (status >= 0) {
        const fs_call *call = &work_of(work)->call;
        entries = reinterpret_cast<mio_fs_entry_t *>(call->out + call->room);
        for (size_t at = 0; at < static_cast<size_t>(call->moved); at += fs_entry_size(call->out + at)) {
            const char *entry = call->out + at;
            entries[n++] = mio_fs_entry_t{entry + SYS_ENTRY_NAME, fs_entry_inode(entry), fs_entry_type(entry)};
        }
    }
    fs_tell<mio_fs_readdir_cb>(l, cb, "fs_readdir", static_cast<int>(status), entries, n, arg);
}

// --- the job --------------------------------------------------------------------------------------------------------

static void fs_run(job *work) {
    fs_call *call = &job_payload<fs_work>(work)->call;
    call->given_up = &work->left_behind;
    fs_perform(work->calls, call);
    work->result = call->result;
}

static void fs_forget(job *work) {
    fs_work *w = job_payload<fs_work>(work);
    fs_dispose(work->calls, &w->call);
    for (unsigned i = 0; i < w->buf_count; i++) mio_buf_release(&w->bufs[i]);
    w->buf_count = 0;
    mio_buf_release(&w->scratch);
}

// A close was promised at its start.
static bool fs_owed(const job *work) {
    const fs_call *call = &job_payload<fs_work>(const_cast<job *>(work))->call;
    return call->op == fs_op::close && !call->done;
}

using told = void (*)(loop *, job *, int64_t, void (*)(), void *);

static constexpr job_kind fs_kind(const char *name, told done, job_rule rule = job_rule::abandonable) {
    return job_kind{name, LANE_FILES, rule, fs_run, done, fs_forget, fs_owed};
}

extern const job_kind fs_kinds[] = {
    fs_kind("fs_open", fs_told_open),
    fs_kind("fs_close", fs_told_status),
    fs_kind("fs_read", fs_told_read, job_rule::held),
    fs_kind("fs_write", fs_told_write, job_rule::held),
    fs_kind("fs_fsync", fs_told_status),
    fs_kind("fs_fdatasync", fs_told_status),
    fs_kind("fs_stat", fs_told_stat),
    fs_kind("fs_lstat", fs_told_stat),
    fs_kind("fs_fstat", fs_told_stat),
    fs_kind("fs_truncate", fs_told_status),
    fs_kind("fs_ftruncate", fs_told_status),
    fs_kind("fs_allocate", fs_told_status),
    fs_kind("fs_rename", fs_told_status),
    fs_kind("fs_unlink", fs_told_status),
    fs_kind("fs_mkdir", fs_told_status),
    fs_kind("fs_mkdir_all", fs_told_status),
    fs_kind("fs_rmdir", fs_told_status),
    fs_kind("fs_remove_all", fs_told_status),
    fs_kind("fs_link", fs_told_status),
    fs_kind("fs_symlink", fs_told_status),
    fs_kind("fs_readlink", fs_told_path),
    fs_kind("fs_realpath", fs_told_path),
    fs_kind("fs_readdir", fs_told_readdir),
    fs_kind("fs_chmod", fs_told_status),
    fs_kind("fs_fchmod", fs_told_status),
    fs_kind("fs_chown", fs_told_status),
    fs_kind("fs_lchown", fs_told_status),
    fs_kind("fs_fchown", fs_told_status),
    fs_kind("fs_utimes", fs_told_status),
    fs_kind("fs_lutimes", fs_told_status),
    fs_kind("fs_futimes", fs_told_status),
    fs_kind("fs_access", fs_told_status),
    fs_kind("fs_temp_file", fs_told_temp),
    fs_kind("fs_temp_folder", fs_told_path),
    fs_kind("fs_copy", fs_told_copy),
    fs_kind("fs_statfs", fs_told_statfs),
};
static_assert(sizeof fs_kinds / sizeof fs_kinds[0] == static_cast<size_t>(fs_op::statfs) + 1, "one for each");

}
