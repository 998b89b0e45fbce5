// The table's calls on files, which the threads of the pool make: reached by sys->files, so that tests and a simulated
// world can take the kernel's place. As in sys.h each returns what the system call does, or -errno; EINTR is not hidden;
// what a system does not have answers -ENOSYS. Any thread.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

namespace mio {

constexpr int64_t SYS_TIME_UNKNOWN = INT64_MIN;

// What statx(2) gives; 0 (times: SYS_TIME_UNKNOWN) where a system or file system does not know.
struct sys_stat {
    uint32_t mode; // type and permissions, inode(7)
    uint32_t links, uid, gid;
    uint64_t inode, size, blocks; // blocks of 512 bytes
    uint32_t block_size;
    uint32_t device_major, device_minor, rdevice_major, rdevice_minor;
    int64_t atime_ns, mtime_ns, ctime_ns, btime_ns; // since 1970
    uint64_t attributes, attributes_mask;           // STATX_ATTR_...
    uint64_t mount_id;
    uint32_t direct_memory_align, direct_offset_align;
};

// What statvfs(3) gives.
struct sys_statfs {
    uint64_t type;
    uint64_t block_size, blocks, blocks_free, blocks_available;
    uint64_t files, files_free;
    uint64_t name_max;
};

// One entry of read_dir, as getdents64(2) has it on Linux; not aligned:
//   inode 8 | unused 8 | bytes on to the next one 2 | type (DT_..., readdir(3)) 1 | name with its NUL
constexpr size_t SYS_ENTRY_NAME = 19; // where name begins

struct sys_files {
    int (*open)(int dir, const char *path, int flags, unsigned mode); // openat; O_CLOEXEC is added
    // preadv, pwritev; offset < 0: readv, writev.
    ssize_t (*read)(int fd, const struct iovec *to, int n, int64_t offset);
    ssize_t (*write)(int fd, const struct iovec *from, int n, int64_t offset);
    // preadv2 with RWF_NOWAIT: what is in memory; -EAGAIN: it would wait. -ENOSYS, -EOPNOTSUPP: nobody can say
    // (of O_DIRECT: it would wait all the same).
    ssize_t (*read_now)(int fd, const struct iovec *to, int n, int64_t offset);
    int (*sync)(int fd, int data_only);                                  // fsync, fdatasync
    int (*stat)(int dir, const char *path, int flags, sys_stat *out);    // statx; path "": of dir itself
    int (*truncate)(const char *path, int64_t length);
    int (*ftruncate)(int fd, int64_t length);
    int (*allocate)(int fd, int mode, int64_t offset, int64_t length);   // fallocate
    int (*rename)(const char *from, const char *to, unsigned flags);     // renameat2
    int (*unlink)(int dir, const char *path, int flags);                 // unlinkat
    int (*mkdir)(const char *path, unsigned mode);
    int (*link)(const char *from, const char *to);
    int (*symlink)(const char *target, const char *path);
    ssize_t (*readlink)(const char *path, char *to, size_t size);        // not ended by a NUL
    int (*realpath)(const char *path, char *to);                         // PATH_MAX bytes, with the NUL
    ssize_t (*read_dir)(int fd, void *to, size_t size);                  // bytes of entries; 0: the end
    int (*chmod)(const char *path, unsigned mode);
    int (*fchmod)(int fd, unsigned mode);
    int (*chown)(const char *path, unsigned uid, unsigned gid, int flags); // AT_SYMLINK_NOFOLLOW
    int (*fchown)(int fd, unsigned uid, unsigned gid);
    // utimensat, futimens (path nullptr): since 1970, SYS_TIME_UNKNOWN: stays as it is
    int (*utimes)(int fd, const char *path, int64_t atime_ns, int64_t mtime_ns, int flags);
    int (*access)(const char *path, int mode);
    int (*make_temp)(char *pattern);                                     // mkostemp: the descriptor
    int (*make_temp_dir)(char *pattern);                                 // mkdtemp
    int (*clone)(int from, int to);                                      // FICLONE: all of it
    ssize_t (*copy_range)(int from, int to, size_t n);                   // copy_file_range at the current positions
    int (*statfs)(const char *path, sys_statfs *out);
};

extern const sys_files sys_files_real;

#ifdef __linux__
// Of the kernel's struct statx, which a ring fills in.
size_t sys_statx_size();
unsigned sys_statx_mask();
void sys_statx_read(const void *statx, sys_stat *out);
#endif

}
