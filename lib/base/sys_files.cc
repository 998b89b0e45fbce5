// The real table's calls on files: each system call as it is, with errno negated on the spot. What only some systems
// have stands in the second half.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "base/sys_files.h"

#include "base/sys_platform.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#ifdef __linux__
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#endif

namespace mio {

static int files_open(int dir, const char *path, int flags, unsigned mode) {
    return negated(::openat(dir, path, flags | O_CLOEXEC, static_cast<mode_t>(mode)));
}

static ssize_t files_read(int fd, const struct iovec *to, int n, int64_t offset) {
    return negated(offset < 0 ? ::readv(fd, to, n) : ::preadv(fd, to, n, static_cast<off_t>(offset)));
}
static ssize_t files_write(int fd, const struct iovec *from, int n, int64_t offset) {
    return negated(offset < 0 ? ::writev(fd, from, n) : ::pwritev(fd, from, n, static_cast<off_t>(offset)));
}

static int files_truncate(const char *path, int64_t length) {
    return negated(::truncate(path, static_cast<off_t>(length)));
}
static int files_ftruncate(int fd, int64_t length) { return negated(::ftruncate(fd, static_cast<off_t>(length))); }
static int files_unlink(int dir, const char *path, int flags) { return negated(::unlinkat(dir, path, flags)); }
static int files_mkdir(const char *path, unsigned mode) { return negated(::mkdir(path, static_cast<mode_t>(mode))); }
static int files_link(const char *from, const char *to) { return negated(::link(from, to)); }
static int files_symlink(const char *target, const char *path) { return negated(::symlink(target, path)); }
static ssize_t files_readlink(const char *path, char *to, size_t size) { return negated(::readlink(path, to, size)); }
static int files_realpath(const char *path, char *to) { return ::realpath(path, to) == nullptr ? -errno : 0; }
static int files_chmod(const char *path, unsigned mode) { return negated(::chmod(path, static_cast<mode_t>(mode))); }
static int files_fchmod(int fd, unsigned mode) { return negated(::fchmod(fd, static_cast<mode_t>(mode))); }
static int files_chown(const char *path, unsigned uid, unsigned gid, int flags) {
    return negated(::fchownat(AT_FDCWD, path, uid, gid, flags));
}
static int files_fchown(int fd, unsigned uid, unsigned gid) { return negated(::fchown(fd, uid, gid)); }

static struct timespec time_of(int64_t ns) {
    struct timespec t = {};
    if (ns == SYS_TIME_UNKNOWN) {
        t.tv_nsec = UTIME_OMIT;
        return t;
    }
    const int64_t part = (ns % 1000000000 + 1000000000) % 1000000000; // of times before 1970, too
    t.tv_sec = static_cast<time_t>((ns - part) / 1000000000);
    t.tv_nsec = static_cast<long>(part);
    return t;
}

static int files_utimes(int fd, const char *path, int64_t atime_ns, int64_t mtime_ns, int flags) {
    const struct timespec both[2] = {time_of(atime_ns), time_of(mtime_ns)};
    return negated(path == nullptr ? ::futimens(fd, both) : ::utimensat(AT_FDCWD, path, both, flags));
}
static int files_access(const char *path, int mode) { return negated(::access(path, mode)); }
static int files_make_temp(char *pattern) { return negated(::mkostemp(pattern, O_CLOEXEC)); }
static int files_make_temp_dir(char *pattern) { return ::mkdtemp(pattern) == nullptr ? -errno : 0; }

static uint64_t statfs_type(const char *path) {
#ifdef __linux__
    struct statfs known;
    return ::statfs(path, &known) == 0 ? static_cast<uint64_t>(known.f_type) : 0;
#else
    (void)path;
    return 0;
#endif
}

static int files_statfs(const char *path, sys_statfs *out) {
    struct statvfs known;
    if (::statvfs(path, &known) != 0) return -errno;
    out->type = statfs_type(path);
    out->block_size = known.f_frsize != 0 ? known.f_frsize : known.f_bsize;
    out->blocks = known.f_blocks;
    out->blocks_free = known.f_bfree;
    out->blocks_available = known.f_bavail;
    out->files = known.f_files;
    out->files_free = known.f_ffree;
    out->name_max = known.f_namemax;
    return 0;
}

// --- what systems do each in a way of their own ---------------------------------------------------------------------

static int64_t ns_of(int64_t seconds, int64_t nanoseconds) {
    int64_t ns;
    if (__builtin_mul_overflow(seconds, static_cast<int64_t>(1000000000), &ns) || __builtin_add_overflow(ns, nanoseconds, &ns))
        return seconds < 0 ? INT64_MIN + 1 : INT64_MAX;
    return ns;
}

#ifdef __linux__

static ssize_t files_read_now(int fd, const struct iovec *to, int n, int64_t offset) {
#ifdef RWF_NOWAIT
    // Past the cache it asks the disk, and waits for it all the same.
    const int status = ::fcntl(fd, F_GETFL);
    if (status < 0 || (status & O_DIRECT) != 0) return status < 0 ? -errno : -EOPNOTSUPP;
    return negated(::preadv2(fd, to, n, offset, RWF_NOWAIT));
#else
    (void)fd, (void)to, (void)n, (void)offset;
    return -ENOSYS;
#endif
}

static int files_sync(int fd, int data_only) { return negated(data_only != 0 ? ::fdatasync(fd) : ::fsync(fd)); }

size_t sys_statx_size() { return sizeof(struct statx); }

#ifndef STATX_MNT_ID
#define STATX_MNT_ID 0x1000u
#endif
#ifndef STATX_DIOALIGN
#define STATX_DIOALIGN 0x2000u
#endif
unsigned sys_statx_mask() { return STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID | STATX_DIOALIGN; }

void sys_statx_read(const void *statx, sys_stat *out) {
    const auto *in = static_cast<const struct statx *>(statx);
    memset(out, 0, sizeof *out);
    out->mode = in->stx_mode;
    out->links = in->stx_nlink;
    out->uid = in->stx_uid;
    out->gid = in->stx_gid;
    out->inode = in->stx_ino;
    out->size = in->stx_size;
    out->blocks = in->stx_blocks;
    out->block_size = in->stx_blksize;
    out->device_major = in->stx_dev_major;
    out->device_minor = in->stx_dev_minor;
    out->rdevice_major = in->stx_rdev_major;
    out->rdevice_minor = in->stx_rdev_minor;
    out->atime_ns = ns_of(in->stx_atime.tv_sec, in->stx_atime.tv_nsec);
    out->mtime_ns = ns_of(in->stx_mtime.tv_sec, in->stx_mtime.tv_nsec);
    out->ctime_ns = ns_of(in->stx_ctime.tv_sec, in->stx_ctime.tv_nsec);
    const bool born = (in->stx_mask & STATX_BTIME) != 0;
    out->btime_ns = born ? ns_of(in->stx_btime.tv_sec, in->stx_btime.tv_nsec) : SYS_TIME_UNKNOWN;
    out->attributes = in->stx_attributes;
    out->attributes_mask = in->stx_attributes_mask;
    // Members that came later than the oldest headers: by their place in the kernel's struct, which does not change.
    const char *raw = static_cast<const char *>(statx);
    if ((in->stx_mask & STATX_MNT_ID) != 0) memcpy(&out->mount_id, raw + 0x90, sizeof out->mount_id);
    if ((in->stx_mask & STATX_DIOALIGN) != 0) {
        memcpy(&out->direct_memory_align, raw + 0x98, sizeof out->direct_memory_align);
        memcpy(&out->direct_offset_align, raw + 0x9c, sizeof out->direct_offset_align);
    }
}

static int files_stat(int dir, const char *path, int flags, sys_stat *out) {
    struct statx known;
    memset(&known, 0, sizeof known);
    if (path[0] == 0 && dir >= 0) flags |= AT_EMPTY_PATH;
    if (::statx(dir, path, flags, sys_statx_mask(), &known) != 0) return -errno;
    sys_statx_read(&known, out);
    return 0;
}

static int files_allocate(int fd, int mode, int64_t offset, int64_t length) {
    return negated(::fallocate(fd, mode, offset, length));
}

static int files_rename(const char *from, const char *to, unsigned flags) {
    if (flags == 0) return negated(::rename(from, to));
    return negated(static_cast<int>(syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags)));
}

static ssize_t files_read_dir(int fd, void *to, size_t size) {
    return negated(static_cast<ssize_t>(syscall(SYS_getdents64, fd, to, size)));
}

static int files_clone(int from, int to) { return negated(::ioctl(to, FICLONE, from)); }

static ssize_t files_copy_range(int from, int to, size_t n) {
    return negated(::copy_file_range(from, nullptr, to, nullptr, n, 0));
}

#else

static ssize_t files_read_now(int, const struct iovec *, int, int64_t) { return -ENOSYS; }

static int files_sync(int fd, int data_only) {
#if defined(__APPLE__)
    (void)data_only;
    if (::fcntl(fd, F_FULLFSYNC) == 0) return 0; // fsync(2) of this system leaves the bytes in the disk's cache
    return negated(::fsync(fd));
#else
    return negated(data_only != 0 ? ::fdatasync(fd) : ::fsync(fd));
#endif
}

static int files_stat(int dir, const char *path, int flags, sys_stat *out) {
    struct stat known;
    const int result = path[0] == 0 && dir >= 0 ? ::fstat(dir, &known) : ::fstatat(dir, path, &known, flags);
    if (result != 0) return -errno;
    memset(out, 0, sizeof *out);
    out->mode = known.st_mode;
    out->links = static_cast<uint32_t>(known.st_nlink);
    out->uid = known.st_uid;
    out->gid = known.st_gid;
    out->inode = known.st_ino;
    out->size = static_cast<uint64_t>(known.st_size);
    out->blocks = static_cast<uint64_t>(known.st_blocks);
    out->block_size = static_cast<uint32_t>(known.st_blksize);
    out->device_major = static_cast<uint32_t>(major(static_cast<unsigned>(known.st_dev)));
    out->device_minor = static_cast<uint32_t>(minor(static_cast<unsigned>(known.st_dev)));
    out->rdevice_major = static_cast<uint32_t>(major(static_cast<unsigned>(known.st_rdev)));
    out->rdevice_minor = static_cast<uint32_t>(minor(static_cast<unsigned>(known.st_rdev)));
#if defined(__APPLE__)
    out->atime_ns = ns_of(known.st_atimespec.tv_sec, known.st_atimespec.tv_nsec);
    out->mtime_ns = ns_of(known.st_mtimespec.tv_sec, known.st_mtimespec.tv_nsec);
    out->ctime_ns = ns_of(known.st_ctimespec.tv_sec, known.st_ctimespec.tv_nsec);
    out->btime_ns = ns_of(known.st_birthtimespec.tv_sec, known.st_birthtimespec.tv_nsec);
#else
    out->atime_ns = ns_of(known.st_atim.tv_sec, known.st_atim.tv_nsec);
    out->mtime_ns = ns_of(known.st_mtim.tv_sec, known.st_mtim.tv_nsec);
    out->ctime_ns = ns_of(known.st_ctim.tv_sec, known.st_ctim.tv_nsec);
    out->btime_ns = SYS_TIME_UNKNOWN;
#endif
    return 0;
}

// Grows the file if it must; the space itself is the file system's affair. No other mode is known here.
static int files_allocate(int fd, int mode, int64_t offset, int64_t length) {
    if (mode != 0) return -EOPNOTSUPP;
    struct stat known;
    if (::fstat(fd, &known) != 0) return -errno;
    const int64_t end = offset + length;
    return known.st_size >= end ? 0 : negated(::ftruncate(fd, static_cast<off_t>(end)));
}

static int files_rename(const char *from, const char *to, unsigned flags) {
    return flags != 0 ? -EINVAL : negated(::rename(from, to));
}

#if defined(__APPLE__)
extern "C" ssize_t __getdirentries64(int fd, void *to, size_t size, off_t *base);
#endif

static ssize_t entries_read(int fd, void *to, size_t size) {
    off_t base = 0;
#if defined(__APPLE__)
    return negated(__getdirentries64(fd, to, size, &base));
#elif defined(__NetBSD__) || defined(__OpenBSD__)
    (void)base;
    return negated(static_cast<ssize_t>(::getdents(fd, static_cast<char *>(to), size)));
#else
    return negated(static_cast<ssize_t>(::getdirentries(fd, static_cast<char *>(to), size, &base)));
#endif
}

// The system's entries become ours in their place: ours are never longer.
static ssize_t files_read_dir(int fd, void *to, size_t size) {
    const ssize_t n = entries_read(fd, to, size);
    if (n <= 0) return n;
    char *bytes = static_cast<char *>(to);
    size_t used = 0;
    for (size_t at = 0; at < static_cast<size_t>(n);) {
        struct dirent one;
        memcpy(static_cast<void *>(&one), bytes + at, offsetof(struct dirent, d_name));
        const char *name = bytes + at + offsetof(struct dirent, d_name);
        at += one.d_reclen;
        if (one.d_ino == 0) continue; // was removed
        const size_t name_size = strlen(name) + 1;
        const uint64_t inode = one.d_ino;
        const int64_t next = 0;
        const auto entry_size = static_cast<uint16_t>(SYS_ENTRY_NAME + name_size);
        const uint8_t type = one.d_type;
        char *entry = bytes + used;
        memmove(entry + SYS_ENTRY_NAME, name, name_size);
        memcpy(entry, &inode, sizeof inode);
        memcpy(entry + 8, &next, sizeof next);
        memcpy(entry + 16, &entry_size, sizeof entry_size);
        memcpy(entry + 18, &type, sizeof type);
        used += entry_size;
    }
    if (used == 0) return files_read_dir(fd, to, size); // all of them were removed: this is not the end
    return static_cast<ssize_t>(used);
}

static int files_clone(int, int) { return -ENOSYS; }
static ssize_t files_copy_range(int, int, size_t) { return -ENOSYS; }

#endif

const sys_files sys_files_real = {
    files_open,      files_read,     files_write,    files_read_now, files_sync,     files_stat,      files_truncate, files_ftruncate,
    files_allocate,  files_rename,   files_unlink,   files_mkdir,    files_link,      files_symlink,  files_readlink,
    files_realpath,  files_read_dir, files_chmod,    files_fchmod,   files_chown,     files_fchown,   files_utimes,
    files_access,    files_make_temp, files_make_temp_dir, files_clone, files_copy_range, files_statfs,
};

}
