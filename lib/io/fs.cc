// Files: what the program asks, and how it is told. Each request is a loose one (core/job.h) whose job holds a call
// (core/fs_call.h): the arguments, copied, and room for what comes out. Who does it - a thread of the pool, or a ring -
// is core's and the backend's affair; this file makes calls and takes them apart again.
//
//   payload of the job:  fs_work | pieces | buffers | room for what comes out | path | the other path
//
// What is larger than a job may be (a batch of entries, the memory of a copy) is a buffer of the loop's.

#include "core/arena.h"
#include "io/fs.h"

#include <mio/error.h>
#include <mio/fs.h>

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#ifndef PATH_MAX
#define PATH_MAX 4096
#endif

namespace mio {

constexpr size_t BATCH_DEFAULT = 32 << 10;
constexpr size_t BATCH_MIN = 512;
constexpr size_t BATCH_MAX = 16 << 20;
constexpr size_t COPY_ROOM = 64 << 10;
constexpr size_t REMOVE_ROOM = 64 << 10; // io/fs_tree.cc
constexpr size_t ENTRY_MIN = SYS_ENTRY_NAME + 2;

// --- the start ------------------------------------------------------------------------------------------------------

struct fs_ask { // what a start function wants; zero where it says nothing
    fs_op op;
    int fd;
    int flags;
    uint32_t mode, group;
    int64_t offset, length;
    const char *path, *to;
    bool has_path, has_to, has_fd, needs_cb;
    size_t room;    // for what comes out, in the job
    size_t scratch; // as a buffer; where it is given, `out` lies there
    size_t out;     // of scratch: what is told as room
    mio_buf_t *bufs;
    unsigned buf_count;
    void (*cb)();
    void *arg;
};

static fs_ask ask_path(fs_op op, const char *path, void (*cb)(), void *arg) {
    fs_ask ask = {};
    ask.op = op;
    ask.path = path;
    ask.has_path = true;
    ask.cb = cb;
    ask.arg = arg;
    return ask;
}

static fs_ask ask_paths(fs_op op, const char *path, const char *to, void (*cb)(), void *arg) {
    fs_ask ask = ask_path(op, path, cb, arg);
    ask.to = to;
    ask.has_to = true;
    return ask;
}

static fs_ask ask_fd(fs_op op, int fd, void (*cb)(), void *arg) {
    fs_ask ask = {};
    ask.op = op;
    ask.fd = fd;
    ask.has_fd = true;
    ask.cb = cb;
    ask.arg = arg;
    return ask;
}

// One byte more than any system takes: it says MIO_ENAMETOOLONG itself.
static size_t path_length(const char *path) { return path == nullptr ? 0 : strnlen(path, PATH_MAX); }

static char *path_put(char **at, const char *path, size_t length) {
    char *put = *at;
    memcpy(put, path, length);
    put[length] = 0;
    *at += length + 1;
    return put;
}

static int ask_check(const fs_ask *ask) {
    if (ask->has_path && ask->path == nullptr) return MIO_EINVAL;
    if (ask->has_to && ask->to == nullptr) return MIO_EINVAL;
    if (ask->needs_cb && ask->cb == nullptr) return MIO_EINVAL;
    return ask->has_fd && ask->fd < 0 ? MIO_EBADF : 0;
}

static size_t rounded(size_t n) { return (n + 15) & ~static_cast<size_t>(15); }

static mio_req_t fs_start(mio_loop_t *public_loop, const fs_ask *ask) {
    loop *l = loop_of(public_loop);
    int error = loop_check_start(l);
    if (error == 0) error = ask_check(ask);
    if (error < 0) return error;
    const size_t path_n = path_length(ask->path), to_n = path_length(ask->to);
    const size_t bufs_at = sizeof(fs_work) + rounded(ask->buf_count * sizeof(struct iovec));
    const size_t out_at = bufs_at + ask->buf_count * sizeof(mio_buf_t);
    const size_t paths_at = out_at + rounded(ask->room);
    const job_kind *kind = &fs_kinds[static_cast<unsigned>(ask->op)];
    mio_buf_t scratch = {};
    if (ask->scratch != 0) {
        error = mio_buf_alloc(public_loop, ask->scratch, &scratch);
        if (error < 0) return error;
    }
    loose_request *req = loose_create(l, kind, paths_at + path_n + to_n + 2, ask->cb, ask->arg);
    if (req == nullptr) {
        mio_buf_release(&scratch);
        return MIO_ENOMEM;
    }
    fs_work *w = job_payload<fs_work>(req->work);
    char *base = reinterpret_cast<char *>(w);
    fs_call *call = &w->call;
    call->op = ask->op;
    call->fd = ask->fd;
    call->flags = ask->flags;
    call->mode = ask->mode;
    call->group = ask->group;
    call->offset = ask->offset;
    call->length = ask->length;
    call->result = MIO_ECANCELED; // as long as nobody has done it there is nothing to dispose of
    call->pieces = reinterpret_cast<struct iovec *>(base + sizeof(fs_work));
    call->out = ask->scratch != 0 ? scratch.base : base + out_at;
    call->room = ask->scratch != 0 ? ask->out : ask->room;
    char *at = base + paths_at;
    if (ask->has_path) call->path = path_put(&at, ask->path, path_n);
    if (ask->has_to) call->to = path_put(&at, ask->to, to_n);
    w->scratch = scratch;
    w->bufs = reinterpret_cast<mio_buf_t *>(base + bufs_at);
    for (unsigned i = 0; i < ask->buf_count; i++) {
        mio_buf_t *buf = &ask->bufs[i];
        const bool reads = ask->op == fs_op::read;
        call->pieces[i].iov_base = reads ? buf->base + buf->len : buf->base;
        call->pieces[i].iov_len = reads ? buf->cap - buf->len : buf->len;
        w->bufs[i] = mio_buf_take(buf);
    }
    call->piece_count = w->buf_count = ask->buf_count;
    loose_start(l, req, op_code::file);
    return loose_id(req);
}

static mio_req_t fs_start_told(mio_loop_t *loop, fs_ask ask) {
    ask.needs_cb = true;
    return fs_start(loop, &ask);
}

template <class Callback> static void (*any(Callback cb))() { return reinterpret_cast<void (*)()>(cb); }

// Borrowed memory would have to be let go of when a loop is abandoned, and what a disk has in hand cannot be taken back.
static int bufs_check(const mio_buf_t *bufs, unsigned n, bool read) {
    if (bufs == nullptr || n == 0 || n > MIO_BUFS_MAX) return MIO_EINVAL;
    size_t room = 0;
    for (unsigned i = 0; i < n; i++) {
        const mio_buf_t *buf = &bufs[i];
        if (buf->owner == nullptr || buf->base == nullptr) return MIO_EINVAL;
        if (buf->cap < buf->len || buf->cap > MIO_BUF_SIZE_MAX || (read && buf_is_shared(buf))) return MIO_EINVAL;
        room += buf->cap - buf->len;
    }
    return read && room == 0 ? MIO_ENOBUFS : 0;
}

static mio_req_t fs_transfer(mio_loop_t *public_loop, fs_op op, int fd, mio_buf_t *bufs, unsigned n, int64_t offset,
                             void (*cb)(), void *arg) {
    const loop *l = loop_of(public_loop);
    int error = loop_check_start(l);
    if (error == 0 && (offset < -1 || cb == nullptr)) error = MIO_EINVAL;
    if (error == 0) error = bufs_check(bufs, n, op == fs_op::read);
    if (error < 0) return error;
    fs_ask ask = ask_fd(op, fd, cb, arg);
    ask.bufs = bufs;
    ask.buf_count = n;
    ask.offset = offset;
    return fs_start(public_loop, &ask);
}

static mio_req_t fs_stat_start(mio_loop_t *loop, fs_ask ask) {
    ask.room = FS_STAT_ROOM;
    return fs_start_told(loop, ask);
}

}

using namespace mio;

mio_req_t mio_fs_open(mio_loop_t *loop, const char *path, int flags, unsigned mode, mio_fs_open_cb cb, void *arg) {
    fs_ask ask = ask_path(fs_op::open, path, any(cb), arg);
    ask.flags = flags;
    ask.mode = mode;
    return fs_start_told(loop, ask);
}

mio_req_t mio_fs_close(mio_loop_t *loop, int fd, mio_fs_cb cb, void *arg) {
    const fs_ask ask = ask_fd(fs_op::close, fd, any(cb), arg);
    return fs_start(loop, &ask);
}

mio_req_t mio_fs_read(mio_loop_t *loop, int fd, mio_buf_t *bufs, unsigned n, int64_t offset, mio_fs_read_cb cb, void *arg) {
    return fs_transfer(loop, fs_op::read, fd, bufs, n, offset, any(cb), arg);
}

mio_req_t mio_fs_write(mio_loop_t *loop, int fd, mio_buf_t *bufs, unsigned n, int64_t offset, mio_fs_write_cb cb,
                       void *arg) {
    return fs_transfer(loop, fs_op::write, fd, bufs, n, offset, any(cb), arg);
}

mio_req_t mio_fs_fsync(mio_loop_t *loop, int fd, mio_fs_cb cb, void *arg) {
    const fs_ask ask = ask_fd(fs_op::fsync, fd, any(cb), arg);
    return fs_start(loop, &ask);
}

mio_req_t mio_fs_fdatasync(mio_loop_t *loop, int fd, mio_fs_cb cb, void *arg) {
    const fs_ask ask = ask_fd(fs_op::fdatasync, fd, any(cb), arg);
    return fs_start(loop, &ask);
}

mio_req_t mio_fs_stat(mio_loop_t *loop, const char *path, mio_fs_stat_cb cb, void *arg) {
    return fs_stat_start(loop, ask_path(fs_op::stat, path, any(cb), arg));
}

mio_req_t mio_fs_lstat(mio_loop_t *loop, const char *path, mio_fs_stat_cb cb, void *arg) {
    return fs_stat_start(loop, ask_path(fs_op::lstat, path, any(cb), arg));
}

mio_req_t mio_fs_fstat(mio_loop_t *loop, int fd, mio_fs_stat_cb cb, void *arg) {
    return fs_stat_start(loop, ask_fd(fs_op::fstat, fd, any(cb), arg));
}

mio_req_t mio_fs_truncate(mio_loop_t *loop, const char *path, int64_t length, mio_fs_cb cb, void *arg) {
    fs_ask ask = ask_path(fs_op::truncate, path, any(cb), arg);
    ask.length = length;
    return length < 0 ? static_cast<mio_req_t>(MIO_EINVAL) : fs_start(loop, &ask);
}

mio_req_t mio_fs_ftruncate(mio_loop_t *loop, int fd, int64_t length, mio_fs_cb cb, void *arg) {
    fs_ask ask = ask_fd(fs_op::ftruncate, fd, any(cb), arg);
    ask.length = length;
    return length < 0 ? static_cast<mio_req_t>(MIO_EINVAL) : fs_start(loop, &ask);
}

mio_req_t mio_fs_allocate(mio_loop_t *loop, int fd, unsigned flags, int64_t offset, int64_t length, mio_fs_cb cb,
                          void *arg) {
    constexpr unsigned known = MIO_FS_ALLOCATE_KEEP_SIZE | MIO_FS_ALLOCATE_PUNCH_HOLE | MIO_FS_ALLOCATE_ZERO;
    if ((flags & ~known) != 0 || offset < 0 || length <= 0 || offset > INT64_MAX - length) return MIO_EINVAL;
    fs_ask ask = ask_fd(fs_op::allocate, fd, any(cb), arg);
    ask.flags = static_cast<int>(flags);
    ask.offset = offset;
    ask.length = length;
    return fs_start(loop, &ask);
}

mio_req_t mio_fs_rename(mio_loop_t *loop, const char *from, const char *to, unsigned flags, mio_fs_cb cb, void *arg) {
    if (flags > MIO_FS_RENAME_EXCHANGE) return MIO_EINVAL;
    fs_ask ask = ask_paths(fs_op::rename, from, to, any(cb), arg);
    ask.flags = static_cast<int>(flags);
    return fs_start(loop, &ask);
}

mio_req_t mio_fs_unlink(mio_loop_t *loop, const char *path, mio_fs_cb cb, void *arg) {
    const fs_ask ask = ask_path(fs_op::unlink, path, any(cb), arg);
    return fs_start(loop, &ask);
}

mio_req_t mio_fs_mkdir(mio_loop_t *loop, const char *path, unsigned mode, mio_fs_cb cb, void *arg) {
    fs_ask ask = ask_path(fs_op::mkdir, path, any(cb), arg);
    ask.mode = mode;
    return fs_start(loop, &ask);
}

mio_req_t mio_fs_mkdir_all(mio_loop_t *loop, const char *path, unsigned mode, mio_fs_cb cb, void *arg) {
    fs_ask ask = ask_path(fs_op::mkdir_all, path, any(cb), arg);
    ask.mode = mode;
    return fs_start(loop, &ask);
}

mio_req_t mio_fs_rmdir(mio_loop_t *loop, const char *path, mio_fs_cb cb, void *arg) {
    const fs_ask ask = ask_path(fs_op::rmdir, path, any(cb), arg);
    return fs_start(loop, &ask);
}

mio_req_t mio_fs_remove_all(mio_loop_t *loop, const char *path, mio_fs_cb cb, void *arg) {
    fs_ask ask = ask_path(fs_op::remove_all, path, any(cb), arg);
    ask.scratch = ask.out = REMOVE_ROOM;
    return fs_start(loop, &ask);
}

mio_req_t mio_fs_link(mio_loop_t *loop, const char *from, const char *to, mio_fs_cb cb, void *arg) {
    const fs_ask ask = ask_paths(fs_op::link, from, to, any(cb), arg);
    return fs_start(loop, &ask);
}

mio_req_t mio_fs_symlink(mio_loop_t *loop, const char *target, const char *path, mio_fs_cb cb, void *arg) {
    const fs_ask ask = ask_paths(fs_op::symlink, target, path, any(cb), arg);
    return fs_start(loop, &ask);
}

mio_req_t mio_fs_readlink(mio_loop_t *loop, const char *path, mio_fs_path_cb cb, void *arg) {
    fs_ask ask = ask_path(fs_op::readlink, path, any(cb), arg);
    ask.room = PATH_MAX + 1;
    return fs_start_told(loop, ask);
}

mio_req_t mio_fs_realpath(mio_loop_t *loop, const char *path, mio_fs_path_cb cb, void *arg) {
    fs_ask ask = ask_path(fs_op::realpath, path, any(cb), arg);
    ask.room = PATH_MAX;
    return fs_start_told(loop, ask);
}

mio_req_t mio_fs_readdir(mio_loop_t *loop, int fd, size_t batch_bytes, mio_fs_readdir_cb cb, void *arg) {
    if (batch_bytes == 0) batch_bytes = BATCH_DEFAULT;
    if (batch_bytes < BATCH_MIN || batch_bytes > BATCH_MAX) return MIO_EINVAL;
    fs_ask ask = ask_fd(fs_op::readdir, fd, any(cb), arg);
    ask.out = batch_bytes & ~static_cast<size_t>(15);
    ask.scratch = ask.out + (ask.out / ENTRY_MIN + 1) * sizeof(mio_fs_entry_t);
    return fs_start_told(loop, ask);
}

mio_req_t mio_fs_chmod(mio_loop_t *loop, const char *path, unsigned mode, mio_fs_cb cb, void *arg) {
    fs_ask ask = ask_path(fs_op::chmod, path, any(cb), arg);
    ask.mode = mode;
    return mode > 07777 ? static_cast<mio_req_t>(MIO_EINVAL) : fs_start(loop, &ask);
}

mio_req_t mio_fs_fchmod(mio_loop_t *loop, int fd, unsigned mode, mio_fs_cb cb, void *arg) {
    fs_ask ask = ask_fd(fs_op::fchmod, fd, any(cb), arg);
    ask.mode = mode;
    return mode > 07777 ? static_cast<mio_req_t>(MIO_EINVAL) : fs_start(loop, &ask);
}

static mio_req_t chown_start(mio_loop_t *loop, fs_ask ask, uint32_t uid, uint32_t gid) {
    ask.mode = uid;
    ask.group = gid;
    return fs_start(loop, &ask);
}

mio_req_t mio_fs_chown(mio_loop_t *loop, const char *path, uint32_t uid, uint32_t gid, mio_fs_cb cb, void *arg) {
    return chown_start(loop, ask_path(fs_op::chown, path, any(cb), arg), uid, gid);
}

mio_req_t mio_fs_lchown(mio_loop_t *loop, const char *path, uint32_t uid, uint32_t gid, mio_fs_cb cb, void *arg) {
    return chown_start(loop, ask_path(fs_op::lchown, path, any(cb), arg), uid, gid);
}

mio_req_t mio_fs_fchown(mio_loop_t *loop, int fd, uint32_t uid, uint32_t gid, mio_fs_cb cb, void *arg) {
    return chown_start(loop, ask_fd(fs_op::fchown, fd, any(cb), arg), uid, gid);
}

static mio_req_t utimes_start(mio_loop_t *loop, fs_ask ask, int64_t atime_ns, int64_t mtime_ns) {
    ask.offset = atime_ns;
    ask.length = mtime_ns;
    return fs_start(loop, &ask);
}

mio_req_t mio_fs_utimes(mio_loop_t *loop, const char *path, int64_t atime_ns, int64_t mtime_ns, mio_fs_cb cb, void *arg) {
    return utimes_start(loop, ask_path(fs_op::utimes, path, any(cb), arg), atime_ns, mtime_ns);
}

mio_req_t mio_fs_lutimes(mio_loop_t *loop, const char *path, int64_t atime_ns, int64_t mtime_ns, mio_fs_cb cb, void *arg) {
    return utimes_start(loop, ask_path(fs_op::lutimes, path, any(cb), arg), atime_ns, mtime_ns);
}

mio_req_t mio_fs_futimes(mio_loop_t *loop, int fd, int64_t atime_ns, int64_t mtime_ns, mio_fs_cb cb, void *arg) {
    return utimes_start(loop, ask_fd(fs_op::futimes, fd, any(cb), arg), atime_ns, mtime_ns);
}

mio_req_t mio_fs_access(mio_loop_t *loop, const char *path, int mode, mio_fs_cb cb, void *arg) {
    if ((mode & ~(R_OK | W_OK | X_OK)) != 0) return MIO_EINVAL;
    fs_ask ask = ask_path(fs_op::access, path, any(cb), arg);
    ask.flags = mode;
    return fs_start(loop, &ask);
}

// mkostemp(3) wants them at the end; a pattern that is too long has no end here.
static bool is_pattern(const char *pattern) {
    const size_t n = path_length(pattern);
    return n >= 6 && n < PATH_MAX && memcmp(pattern + n - 6, "XXXXXX", 6) == 0;
}

mio_req_t mio_fs_temp_file(mio_loop_t *loop, const char *pattern, mio_fs_temp_cb cb, void *arg) {
    if (!is_pattern(pattern)) return MIO_EINVAL;
    return fs_start_told(loop, ask_path(fs_op::temp_file, pattern, any(cb), arg));
}

mio_req_t mio_fs_temp_folder(mio_loop_t *loop, const char *pattern, mio_fs_path_cb cb, void *arg) {
    if (!is_pattern(pattern)) return MIO_EINVAL;
    return fs_start_told(loop, ask_path(fs_op::temp_folder, pattern, any(cb), arg));
}

mio_req_t mio_fs_copy(mio_loop_t *loop, const char *from, const char *to, unsigned flags, mio_fs_copy_cb cb, void *arg) {
    if (flags > (MIO_FS_COPY_EXCLUSIVE | MIO_FS_COPY_REFLINK | MIO_FS_COPY_BYTES)) return MIO_EINVAL;
    if ((flags & MIO_FS_COPY_REFLINK) != 0 && (flags & MIO_FS_COPY_BYTES) != 0) return MIO_EINVAL;
    fs_ask ask = ask_paths(fs_op::copy, from, to, any(cb), arg);
    ask.flags = static_cast<int>(flags);
    ask.scratch = ask.out = COPY_ROOM;
    return fs_start_told(loop, ask);
}

mio_req_t mio_fs_statfs(mio_loop_t *loop, const char *path, mio_fs_statfs_cb cb, void *arg) {
    fs_ask ask = ask_path(fs_op::statfs, path, any(cb), arg);
    ask.room = sizeof(sys_statfs);
    return fs_start_told(loop, ask);
}
