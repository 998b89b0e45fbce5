#include "support/failing_files.h"

#include "base/sys_files.h"

namespace test {

static const mio::sys_files *files_base;

#define FAILING(result, name, parameters, arguments)                                                                  \
    static result failing_##name parameters {                                                                         \
        const int error = failing_called(call::file);                                                                 \
        return error != 0 ? -error : files_base->name arguments;                                                      \
    }

FAILING(int, open, (int dir, const char *path, int flags, unsigned mode), (dir, path, flags, mode))
FAILING(ssize_t, read, (int fd, const struct iovec *to, int n, int64_t offset), (fd, to, n, offset))
FAILING(ssize_t, write, (int fd, const struct iovec *from, int n, int64_t offset), (fd, from, n, offset))
FAILING(ssize_t, read_now, (int fd, const struct iovec *to, int n, int64_t offset), (fd, to, n, offset))
FAILING(int, sync, (int fd, int data_only), (fd, data_only))
FAILING(int, stat, (int dir, const char *path, int flags, mio::sys_stat *out), (dir, path, flags, out))
FAILING(int, truncate, (const char *path, int64_t length), (path, length))
FAILING(int, ftruncate, (int fd, int64_t length), (fd, length))
FAILING(int, allocate, (int fd, int mode, int64_t offset, int64_t length), (fd, mode, offset, length))
FAILING(int, rename, (const char *from, const char *to, unsigned flags), (from, to, flags))
FAILING(int, unlink, (int dir, const char *path, int flags), (dir, path, flags))
FAILING(int, mkdir, (const char *path, unsigned mode), (path, mode))
FAILING(int, link, (const char *from, const char *to), (from, to))
FAILING(int, symlink, (const char *target, const char *path), (target, path))
FAILING(ssize_t, readlink, (const char *path, char *to, size_t size), (path, to, size))
FAILING(int, realpath, (const char *path, char *to), (path, to))
FAILING(ssize_t, read_dir, (int fd, void *to, size_t size), (fd, to, size))
FAILING(int, chmod, (const char *path, unsigned mode), (path, mode))
FAILING(int, fchmod, (int fd, unsigned mode), (fd, mode))
FAILING(int, chown, (const char *path, unsigned uid, unsigned gid, int flags), (path, uid, gid, flags))
FAILING(int, fchown, (int fd, unsigned uid, unsigned gid), (fd, uid, gid))
FAILING(int, utimes, (int fd, const char *path, int64_t atime_ns, int64_t mtime_ns, int flags),
        (fd, path, atime_ns, mtime_ns, flags))
FAILING(int, access, (const char *path, int mode), (path, mode))
FAILING(int, make_temp, (char *pattern), (pattern))
FAILING(int, make_temp_dir, (char *pattern), (pattern))
FAILING(int, clone, (int from, int to), (from, to))
FAILING(ssize_t, copy_range, (int from, int to, size_t n), (from, to, n))
FAILING(int, statfs, (const char *path, mio::sys_statfs *out), (path, out))

#undef FAILING

const mio::sys_files *failing_files_open(const mio::sys_files *base) {
    static mio::sys_files table;
    files_base = base;
    table = mio::sys_files{
        failing_open,     failing_read,     failing_write,     failing_read_now, failing_sync,     failing_stat,   failing_truncate,
        failing_ftruncate, failing_allocate, failing_rename,   failing_unlink,   failing_mkdir,  failing_link,
        failing_symlink,  failing_readlink, failing_realpath,  failing_read_dir, failing_chmod,  failing_fchmod,
        failing_chown,    failing_fchown,   failing_utimes,    failing_access,   failing_make_temp,
        failing_make_temp_dir, failing_clone, failing_copy_range, failing_statfs,
    };
    return &table;
}

}
