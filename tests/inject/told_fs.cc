// Files: the callbacks of mio/fs.h, as told.cc has those of the rest, and what the test owns of files: descriptors that an
// open gave, buffers that a read or write took.
#include "inject.h"

namespace inject {

// --- ours -----------------------------------------------------------------------------------------------------------

static void on_status(mio_loop_t *loop, int status, void *arg) {
    struct with { mio_loop_t *loop; int status; } w = {loop, status};
    told_call(arg, [](void (*cb)(), void *own, const void *at) {
        const with *x = static_cast<const with *>(at);
        reinterpret_cast<mio_fs_cb>(cb)(x->loop, x->status, own);
    }, &w);
}

static void on_open(mio_loop_t *loop, int fd, void *arg) {
    owned_fd(fd, true);
    struct with { mio_loop_t *loop; int fd; } w = {loop, fd};
    told_call(arg, [](void (*cb)(), void *own, const void *at) {
        const with *x = static_cast<const with *>(at);
        reinterpret_cast<mio_fs_open_cb>(cb)(x->loop, x->fd, own);
    }, &w);
}

static void on_temp(mio_loop_t *loop, int fd, const char *path, void *arg) {
    owned_fd(fd, true);
    struct with { mio_loop_t *loop; int fd; const char *path; } w = {loop, fd, path};
    told_call(arg, [](void (*cb)(), void *own, const void *at) {
        const with *x = static_cast<const with *>(at);
        reinterpret_cast<mio_fs_temp_cb>(cb)(x->loop, x->fd, x->path, own);
    }, &w);
}

static void bufs_owned(const mio_buf_t *bufs, unsigned n, int delta) {
    for (unsigned i = 0; bufs != nullptr && i < n; i++) owned_buf(&bufs[i], delta);
}

static void on_read(mio_loop_t *loop, int64_t n, mio_buf_t *bufs, unsigned nbufs, void *arg) {
    struct with { mio_loop_t *loop; int64_t n; mio_buf_t *bufs; unsigned nbufs; } w = {loop, n, bufs, nbufs};
    bufs_owned(bufs, nbufs, 1);
    told_call(arg, [](void (*cb)(), void *own, const void *at) {
        const with *x = static_cast<const with *>(at);
        reinterpret_cast<mio_fs_read_cb>(cb)(x->loop, x->n, x->bufs, x->nbufs, own);
    }, &w);
    bufs_owned(bufs, nbufs, -1);
}

static void on_written(mio_loop_t *loop, int status, int64_t n, mio_buf_t *bufs, unsigned nbufs, void *arg) {
    struct with { mio_loop_t *loop; int status; int64_t n; mio_buf_t *bufs; unsigned nbufs; } w = {loop, status, n, bufs, nbufs};
    bufs_owned(bufs, nbufs, 1);
    told_call(arg, [](void (*cb)(), void *own, const void *at) {
        const with *x = static_cast<const with *>(at);
        reinterpret_cast<mio_fs_write_cb>(cb)(x->loop, x->status, x->n, x->bufs, x->nbufs, own);
    }, &w);
    bufs_owned(bufs, nbufs, -1);
}

// A status and one thing more, passed on as it is.
template <typename callback, typename type> static void on_one(mio_loop_t *loop, int status, type more, void *arg) {
    struct with { mio_loop_t *loop; int status; type more; } w = {loop, status, more};
    told_call(arg, [](void (*cb)(), void *own, const void *at) {
        const with *x = static_cast<const with *>(at);
        reinterpret_cast<callback>(cb)(x->loop, x->status, x->more, own);
    }, &w);
}

static void on_entries(mio_loop_t *loop, int status, const mio_fs_entry_t *entries, unsigned n, void *arg) {
    struct with { mio_loop_t *loop; int status; const mio_fs_entry_t *entries; unsigned n; } w = {loop, status, entries, n};
    told_call(arg, [](void (*cb)(), void *own, const void *at) {
        const with *x = static_cast<const with *>(at);
        reinterpret_cast<mio_fs_readdir_cb>(cb)(x->loop, x->status, x->entries, x->n, own);
    }, &w);
}

}

using namespace inject;

// --- the test's calls -----------------------------------------------------------------------------------------------

extern "C" {

// name, what for people, our callback, (parameters), arguments with the callback CB and its argument ARG
#define START(name, ours, parameters, ...)                                                                            \
    mio_req_t WRAPPED(name) parameters {                                                                              \
        inside_call here(#name);                                                                                      \
        using type = decltype(cb);                                                                                    \
        if (cb == nullptr) return name(__VA_ARGS__, cb, arg);                                                         \
        void *t = told_once(#name, reinterpret_cast<void (*)()>(cb), arg, loop);                                      \
        return told_taken(t, name(__VA_ARGS__, static_cast<type>(ours), t));                                          \
    }

START(mio_fs_open, on_open,
      (mio_loop_t *loop, const char *path, int flags, unsigned mode, mio_fs_open_cb cb, void *arg), loop, path, flags, mode)
START(mio_fs_fsync, on_status, (mio_loop_t *loop, int fd, mio_fs_cb cb, void *arg), loop, fd)
START(mio_fs_fdatasync, on_status, (mio_loop_t *loop, int fd, mio_fs_cb cb, void *arg), loop, fd)
START(mio_fs_stat, (on_one<mio_fs_stat_cb, const mio_fs_facts_t *>),
      (mio_loop_t *loop, const char *path, mio_fs_stat_cb cb, void *arg), loop, path)
START(mio_fs_lstat, (on_one<mio_fs_stat_cb, const mio_fs_facts_t *>),
      (mio_loop_t *loop, const char *path, mio_fs_stat_cb cb, void *arg), loop, path)
START(mio_fs_fstat, (on_one<mio_fs_stat_cb, const mio_fs_facts_t *>),
      (mio_loop_t *loop, int fd, mio_fs_stat_cb cb, void *arg), loop, fd)
START(mio_fs_truncate, on_status,
      (mio_loop_t *loop, const char *path, int64_t length, mio_fs_cb cb, void *arg), loop, path, length)
START(mio_fs_ftruncate, on_status,
      (mio_loop_t *loop, int fd, int64_t length, mio_fs_cb cb, void *arg), loop, fd, length)
START(mio_fs_allocate, on_status,
      (mio_loop_t *loop, int fd, unsigned flags, int64_t offset, int64_t length, mio_fs_cb cb, void *arg), loop, fd, flags, offset, length)
START(mio_fs_rename, on_status,
      (mio_loop_t *loop, const char *from, const char *to, unsigned flags, mio_fs_cb cb, void *arg), loop, from, to, flags)
START(mio_fs_unlink, on_status, (mio_loop_t *loop, const char *path, mio_fs_cb cb, void *arg), loop, path)
START(mio_fs_mkdir, on_status,
      (mio_loop_t *loop, const char *path, unsigned mode, mio_fs_cb cb, void *arg), loop, path, mode)
START(mio_fs_mkdir_all, on_status,
      (mio_loop_t *loop, const char *path, unsigned mode, mio_fs_cb cb, void *arg), loop, path, mode)
START(mio_fs_rmdir, on_status, (mio_loop_t *loop, const char *path, mio_fs_cb cb, void *arg), loop, path)
START(mio_fs_remove_all, on_status, (mio_loop_t *loop, const char *path, mio_fs_cb cb, void *arg), loop, path)
START(mio_fs_link, on_status,
      (mio_loop_t *loop, const char *from, const char *to, mio_fs_cb cb, void *arg), loop, from, to)
START(mio_fs_symlink, on_status,
      (mio_loop_t *loop, const char *target, const char *path, mio_fs_cb cb, void *arg), loop, target, path)
START(mio_fs_readlink, (on_one<mio_fs_path_cb, const char *>),
      (mio_loop_t *loop, const char *path, mio_fs_path_cb cb, void *arg), loop, path)
START(mio_fs_realpath, (on_one<mio_fs_path_cb, const char *>),
      (mio_loop_t *loop, const char *path, mio_fs_path_cb cb, void *arg), loop, path)
START(mio_fs_readdir, on_entries,
      (mio_loop_t *loop, int fd, size_t batch_bytes, mio_fs_readdir_cb cb, void *arg), loop, fd, batch_bytes)
START(mio_fs_chmod, on_status,
      (mio_loop_t *loop, const char *path, unsigned mode, mio_fs_cb cb, void *arg), loop, path, mode)
START(mio_fs_fchmod, on_status, (mio_loop_t *loop, int fd, unsigned mode, mio_fs_cb cb, void *arg), loop, fd, mode)
START(mio_fs_chown, on_status,
      (mio_loop_t *loop, const char *path, uint32_t uid, uint32_t gid, mio_fs_cb cb, void *arg), loop, path, uid, gid)
START(mio_fs_lchown, on_status,
      (mio_loop_t *loop, const char *path, uint32_t uid, uint32_t gid, mio_fs_cb cb, void *arg), loop, path, uid, gid)
START(mio_fs_fchown, on_status,
      (mio_loop_t *loop, int fd, uint32_t uid, uint32_t gid, mio_fs_cb cb, void *arg), loop, fd, uid, gid)
START(mio_fs_utimes, on_status,
      (mio_loop_t *loop, const char *path, int64_t atime_ns, int64_t mtime_ns, mio_fs_cb cb, void *arg), loop, path, atime_ns, mtime_ns)
START(mio_fs_lutimes, on_status,
      (mio_loop_t *loop, const char *path, int64_t atime_ns, int64_t mtime_ns, mio_fs_cb cb, void *arg), loop, path, atime_ns, mtime_ns)
START(mio_fs_futimes, on_status,
      (mio_loop_t *loop, int fd, int64_t atime_ns, int64_t mtime_ns, mio_fs_cb cb, void *arg), loop, fd, atime_ns, mtime_ns)
START(mio_fs_access, on_status,
      (mio_loop_t *loop, const char *path, int mode, mio_fs_cb cb, void *arg), loop, path, mode)
START(mio_fs_temp_file, on_temp, (mio_loop_t *loop, const char *pattern, mio_fs_temp_cb cb, void *arg), loop, pattern)
START(mio_fs_temp_folder, (on_one<mio_fs_path_cb, const char *>),
      (mio_loop_t *loop, const char *pattern, mio_fs_path_cb cb, void *arg), loop, pattern)
START(mio_fs_copy, (on_one<mio_fs_copy_cb, int64_t>),
      (mio_loop_t *loop, const char *from, const char *to, unsigned flags, mio_fs_copy_cb cb, void *arg), loop, from, to, flags)
START(mio_fs_statfs, (on_one<mio_fs_statfs_cb, const mio_fs_space_t *>),
      (mio_loop_t *loop, const char *path, mio_fs_statfs_cb cb, void *arg), loop, path)

#undef START

mio_req_t WRAPPED(mio_fs_close)(mio_loop_t *loop, int fd, mio_fs_cb cb, void *arg) {
    inside_call here("mio_fs_close");
    void *t = cb == nullptr ? nullptr : told_once("mio_fs_close", reinterpret_cast<void (*)()>(cb), arg, loop);
    const mio_req_t id = mio_fs_close(loop, fd, cb == nullptr ? cb : on_status, t);
    if (id > 0) owned_fd(fd, false);
    return t == nullptr ? id : told_taken(t, id);
}

mio_req_t WRAPPED(mio_fs_read)(mio_loop_t *loop, int fd, mio_buf_t *bufs, unsigned nbufs, int64_t offset, mio_fs_read_cb cb,
                               void *arg) {
    inside_call here("mio_fs_read");
    if (cb == nullptr) return mio_fs_read(loop, fd, bufs, nbufs, offset, cb, arg);
    mio_buf_t given[MIO_BUFS_MAX] = {};
    for (unsigned i = 0; bufs != nullptr && i < nbufs && i < MIO_BUFS_MAX; i++) given[i] = bufs[i];
    void *t = told_once("mio_fs_read", reinterpret_cast<void (*)()>(cb), arg, loop);
    const mio_req_t id = told_taken(t, mio_fs_read(loop, fd, bufs, nbufs, offset, on_read, t));
    if (id > 0) bufs_owned(given, nbufs, -1);
    return id;
}

mio_req_t WRAPPED(mio_fs_write)(mio_loop_t *loop, int fd, mio_buf_t *bufs, unsigned nbufs, int64_t offset,
                                mio_fs_write_cb cb, void *arg) {
    inside_call here("mio_fs_write");
    if (cb == nullptr) return mio_fs_write(loop, fd, bufs, nbufs, offset, cb, arg);
    mio_buf_t given[MIO_BUFS_MAX] = {};
    for (unsigned i = 0; bufs != nullptr && i < nbufs && i < MIO_BUFS_MAX; i++) given[i] = bufs[i];
    void *t = told_once("mio_fs_write", reinterpret_cast<void (*)()>(cb), arg, loop);
    const mio_req_t id = told_taken(t, mio_fs_write(loop, fd, bufs, nbufs, offset, on_written, t));
    if (id > 0) bufs_owned(given, nbufs, -1);
    return id;
}

}
