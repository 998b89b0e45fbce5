/* Files: what a program asks of a file system, without its loop ever waiting for a disk.
 * SPDX-License-Identifier: MIT
 *
 * Requests without a handle: each is started on a loop and calls back once, on the loop's thread. Open files are plain
 * descriptors, the program's own, as open(2) gives them: close them with mio_fs_close or close(2). Paths are copied at
 * the start; relative ones are resolved when the operation runs, which is later: who changes the working folder of the
 * process meanwhile changes where they lead. Two requests in flight may run in either order: start the second in the
 * callback of the first where it matters.
 *
 * Starts give a request's id, or an error with nothing taken: MIO_EINVAL (NULL, a flag or a number out of range),
 * MIO_EBADF (a negative descriptor), MIO_ENOMEM, MIO_ESHUTDOWN, MIO_EPERM (a fork's child). Everything else comes by
 * callback: the errors of the manual page that is named with each. mio_fs_cb may be NULL: nobody is told.
 *
 * Cancel, deadline, abandon (mio/req.h). An operation is one of two:
 *   held         mio_fs_read, mio_fs_write: the caller's buffers are in it. One that runs already ends with its own
 *                result when the kernel is done, however long that takes; one that waits for its turn ends at once.
 *                Abandoned, its buffers go home when the kernel is done.
 *   abandonable  all others: they own all that they need. Cancelled or out of time they call back at once, with
 *                MIO_ECANCELED or MIO_ETIMEDOUT; what had begun may still happen, unseen. A descriptor that comes too
 *                late is closed. What is made of many steps (mio_fs_copy, mio_fs_remove_all, mio_fs_mkdir_all) stops
 *                soon; a copy that stops removes the file that it made.
 * Who closes the descriptor of an abandonable one that was cancelled: one that had not begun does not begin any more. But
 * the system looks a descriptor up by its number when it begins, and one that was beginning in that very moment may find
 * whatever has the number by then. Where that must not be (mio_fs_ftruncate, mio_fs_allocate) cancel nothing, and close
 * when the callback came. Reads and writes are held, and have no such moment. */
#ifndef MIO_FS_H
#define MIO_FS_H

#include <mio/base.h>
#include <mio/buf.h>

/* Flags of mio_fs_rename: renameat2(2). Where a file system lacks them MIO_EINVAL comes. */
#define MIO_FS_RENAME_EXCLUSIVE 1u /* MIO_EEXIST instead of replacing what is at `to` */
#define MIO_FS_RENAME_EXCHANGE 2u  /* both must exist, and change places */

/* Flags of mio_fs_copy. */
#define MIO_FS_COPY_EXCLUSIVE 1u /* MIO_EEXIST instead of overwriting */
#define MIO_FS_COPY_REFLINK 2u   /* share the blocks, or fail: MIO_ENOTSUP, MIO_EXDEV, MIO_EINVAL, ioctl_ficlone(2) */
#define MIO_FS_COPY_BYTES 4u     /* read and write them, whatever else there is */

/* Flags of mio_fs_allocate: fallocate(2). */
#define MIO_FS_ALLOCATE_KEEP_SIZE 1u
#define MIO_FS_ALLOCATE_PUNCH_HOLE 2u /* with KEEP_SIZE: the bytes become a hole */
#define MIO_FS_ALLOCATE_ZERO 16u      /* the bytes become zeroes */

/* A time that a file system does not know (mio_fs_facts_t), or that is to stay as it is (mio_fs_utimes). */
#define MIO_FS_TIME_UNKNOWN INT64_MIN

/* statx(2). Zero where the system or the file system does not say. */
typedef struct mio_fs_facts {
    uint32_t mode;                       /* type and permissions, inode(7): S_ISREG(mode), mode & 07777 */
    uint32_t links, uid, gid;
    uint64_t inode;
    uint64_t size;                       /* bytes */
    uint64_t blocks;                     /* of 512 bytes, allocated */
    uint32_t block_size;                 /* bytes: preferred for input and output */
    uint32_t device_major, device_minor; /* where the file lies */
    uint32_t rdevice_major, rdevice_minor; /* which device it is, if it is one */
    int64_t atime_ns, mtime_ns, ctime_ns, btime_ns; /* since 1970; btime: of its birth, or MIO_FS_TIME_UNKNOWN */
    uint64_t attributes, attributes_mask; /* STATX_ATTR_..., and which of them the file system knows */
    uint64_t mount_id;
    uint32_t direct_memory_align, direct_offset_align; /* for O_DIRECT */
} mio_fs_facts_t;

/* statfs(2). */
typedef struct mio_fs_space {
    uint64_t type;             /* Linux: f_type, else 0 */
    uint64_t block_size;       /* bytes; the unit of the next three */
    uint64_t blocks, blocks_free, blocks_available; /* available: to who is not root */
    uint64_t files, files_free;
    uint64_t name_max;         /* bytes of a name */
} mio_fs_space_t;

enum mio_fs_type MIO_ENUM_ { /* of an entry; the numbers are those of DT_..., readdir(3) */
    MIO_FS_UNKNOWN = 0, /* the file system does not say: ask mio_fs_lstat */
    MIO_FS_FIFO = 1,
    MIO_FS_CHARACTER = 2,
    MIO_FS_FOLDER = 4,
    MIO_FS_BLOCK = 6,
    MIO_FS_FILE = 8,
    MIO_FS_LINK = 10,
    MIO_FS_SOCKET = 12
};

typedef struct mio_fs_entry {
    const char *name; /* never "." or ".." */
    uint64_t inode;
    int type;         /* enum mio_fs_type */
} mio_fs_entry_t;

/* What the pointers of a callback point to is valid until it returns. status: 0 or an error. */
typedef void (*mio_fs_cb)(mio_loop_t *loop, int status, void *arg);
typedef void (*mio_fs_open_cb)(mio_loop_t *loop, int fd, void *arg); /* fd < 0: the error; else it is yours */
/* n > 0: bytes read, behind what was in the buffers; their len has grown. n < 0: MIO_EOF, or an error. */
typedef void (*mio_fs_read_cb)(mio_loop_t *loop, int64_t n, mio_buf_t *bufs, unsigned nbufs, void *arg);
/* status 0: all of it was written. Else `written` bytes were before the error. The buffers are as they were given. */
typedef void (*mio_fs_write_cb)(mio_loop_t *loop, int status, int64_t written, mio_buf_t *bufs, unsigned nbufs,
                                void *arg);
typedef void (*mio_fs_stat_cb)(mio_loop_t *loop, int status, const mio_fs_facts_t *facts, void *arg); /* < 0: facts is NULL */
typedef void (*mio_fs_statfs_cb)(mio_loop_t *loop, int status, const mio_fs_space_t *space, void *arg); /* < 0: NULL */
typedef void (*mio_fs_path_cb)(mio_loop_t *loop, int status, const char *path, void *arg); /* < 0: path is NULL */
typedef void (*mio_fs_temp_cb)(mio_loop_t *loop, int fd, const char *path, void *arg); /* fd < 0: path is NULL */
/* status 0: n > 0 entries. MIO_EOF: there are no more. Else an error. */
typedef void (*mio_fs_readdir_cb)(mio_loop_t *loop, int status, const mio_fs_entry_t *entries, unsigned n, void *arg);
typedef void (*mio_fs_copy_cb)(mio_loop_t *loop, int status, int64_t bytes, void *arg); /* bytes: copied, as far as is known */

MIO_BEGIN

/* open(2). flags: O_RDONLY and so on, <fcntl.h>; O_CLOEXEC is added. mode: of a file that is made, less the umask.
 * A folder is opened with O_RDONLY | O_DIRECTORY, for mio_fs_readdir. Opening a FIFO waits for its other end, on a
 * thread of the pool, unless O_NONBLOCK is given. */
MIO_API mio_req_t mio_fs_open(mio_loop_t *loop, const char *path, int flags, unsigned mode, mio_fs_open_cb cb, void *arg);

/* close(2): also of descriptors that were not opened here. The descriptor is gone whatever the status; MIO_EIO,
 * MIO_ENOSPC, MIO_EDQUOT: earlier writes were lost. A start that succeeds has taken it: it is closed also when the request
 * is cancelled or abandoned, or its loop is destroyed; then perhaps only later, by a thread of the pool. */
MIO_API mio_req_t mio_fs_close(mio_loop_t *loop, int fd, mio_fs_cb cb, void *arg);

/* preadv(2) of 1 to MIO_BUFS_MAX buffers, moved in; offset -1: readv(2), from the file's own position on, which other
 * descriptors and processes may share; what has no positions (a pipe, a terminal) is read as it comes, whatever the
 * offset. Appends to each buffer's len up to its cap, in order. Fewer bytes than there is
 * room for come before the end of a file, and from what is no file. MIO_ENOBUFS (at the start): there is no room at all.
 * MIO_EINVAL (at the start): an empty buffer, one that is shared, a borrowed one (what a disk writes into cannot be taken
 * back: use mio_buf_alloc or mio_buf_wrap), other offsets below 0. */
MIO_API mio_req_t mio_fs_read(mio_loop_t *loop, int fd, mio_buf_t *bufs, unsigned nbufs, int64_t offset,
                              mio_fs_read_cb cb, void *arg);

/* pwritev(2), again and again until all len bytes of each buffer are written; offset -1: writev(2), at the file's own
 * position, or where there are none. Borrowed buffers are MIO_EINVAL here, too. MIO_ENOSPC, MIO_EDQUOT, MIO_EFBIG, MIO_EIO, MIO_EBADF... */
MIO_API mio_req_t mio_fs_write(mio_loop_t *loop, int fd, mio_buf_t *bufs, unsigned nbufs, int64_t offset,
                               mio_fs_write_cb cb, void *arg);

/* fsync(2) (macOS: F_FULLFSYNC), fdatasync(2). MIO_EIO: some of what was written is lost. */
MIO_API mio_req_t mio_fs_fsync(mio_loop_t *loop, int fd, mio_fs_cb cb, void *arg);
MIO_API mio_req_t mio_fs_fdatasync(mio_loop_t *loop, int fd, mio_fs_cb cb, void *arg);

/* statx(2). lstat: of a symbolic link itself. */
MIO_API mio_req_t mio_fs_stat(mio_loop_t *loop, const char *path, mio_fs_stat_cb cb, void *arg);
MIO_API mio_req_t mio_fs_lstat(mio_loop_t *loop, const char *path, mio_fs_stat_cb cb, void *arg);
MIO_API mio_req_t mio_fs_fstat(mio_loop_t *loop, int fd, mio_fs_stat_cb cb, void *arg);

/* truncate(2), ftruncate(2). MIO_EINVAL: length < 0. */
MIO_API mio_req_t mio_fs_truncate(mio_loop_t *loop, const char *path, int64_t length, mio_fs_cb cb, void *arg);
MIO_API mio_req_t mio_fs_ftruncate(mio_loop_t *loop, int fd, int64_t length, mio_fs_cb cb, void *arg);

/* fallocate(2): room for length (> 0) bytes from offset; the file grows. flags: MIO_FS_ALLOCATE_... By callback
 * MIO_ENOSPC; MIO_ENOTSUP: this file system cannot. */
MIO_API mio_req_t mio_fs_allocate(mio_loop_t *loop, int fd, unsigned flags, int64_t offset, int64_t length, mio_fs_cb cb,
                                  void *arg);

/* rename(2): replaces what is at `to`. flags: 0 or one of MIO_FS_RENAME_... */
MIO_API mio_req_t mio_fs_rename(mio_loop_t *loop, const char *from, const char *to, unsigned flags, mio_fs_cb cb,
                                void *arg);
MIO_API mio_req_t mio_fs_unlink(mio_loop_t *loop, const char *path, mio_fs_cb cb, void *arg); /* unlink(2) */

/* mkdir(2). mkdir_all: with all folders above it that are missing; what is a folder already is no error. */
MIO_API mio_req_t mio_fs_mkdir(mio_loop_t *loop, const char *path, unsigned mode, mio_fs_cb cb, void *arg);
MIO_API mio_req_t mio_fs_mkdir_all(mio_loop_t *loop, const char *path, unsigned mode, mio_fs_cb cb, void *arg);

/* rmdir(2): an empty folder. remove_all: a file, or a folder with all below it; symbolic links are removed, never
 * followed. Stops at the first error, with what was removed so far gone. MIO_ENOENT: nothing is there.
 * MIO_ENAMETOOLONG: more than 2,000 folders inside each other. */
MIO_API mio_req_t mio_fs_rmdir(mio_loop_t *loop, const char *path, mio_fs_cb cb, void *arg);
MIO_API mio_req_t mio_fs_remove_all(mio_loop_t *loop, const char *path, mio_fs_cb cb, void *arg);

/* link(2): `to` becomes another name of the file `from`. symlink(2): path becomes a link that says `target`. */
MIO_API mio_req_t mio_fs_link(mio_loop_t *loop, const char *from, const char *to, mio_fs_cb cb, void *arg);
MIO_API mio_req_t mio_fs_symlink(mio_loop_t *loop, const char *target, const char *path, mio_fs_cb cb, void *arg);
MIO_API mio_req_t mio_fs_readlink(mio_loop_t *loop, const char *path, mio_fs_path_cb cb, void *arg); /* readlink(2) */
MIO_API mio_req_t mio_fs_realpath(mio_loop_t *loop, const char *path, mio_fs_path_cb cb, void *arg); /* realpath(3) */

/* The next entries of a folder that mio_fs_open has opened, in no order, as many as fit into batch_bytes (0: 32 KiB;
 * 512 to 16 MiB) as getdents64(2) packs them. One at a time for a descriptor. MIO_ENOTDIR, MIO_ENOENT (removed). */
MIO_API mio_req_t mio_fs_readdir(mio_loop_t *loop, int fd, size_t batch_bytes, mio_fs_readdir_cb cb, void *arg);

/* chmod(2), fchmod(2). mode: 0 to 07777. */
MIO_API mio_req_t mio_fs_chmod(mio_loop_t *loop, const char *path, unsigned mode, mio_fs_cb cb, void *arg);
MIO_API mio_req_t mio_fs_fchmod(mio_loop_t *loop, int fd, unsigned mode, mio_fs_cb cb, void *arg);

/* chown(2), lchown(2), fchown(2). (uint32_t)-1: stays as it is. */
MIO_API mio_req_t mio_fs_chown(mio_loop_t *loop, const char *path, uint32_t uid, uint32_t gid, mio_fs_cb cb, void *arg);
MIO_API mio_req_t mio_fs_lchown(mio_loop_t *loop, const char *path, uint32_t uid, uint32_t gid, mio_fs_cb cb, void *arg);
MIO_API mio_req_t mio_fs_fchown(mio_loop_t *loop, int fd, uint32_t uid, uint32_t gid, mio_fs_cb cb, void *arg);

/* utimensat(2): times of access and change in nanoseconds since 1970, or MIO_FS_TIME_UNKNOWN. lutimes: of a link. */
MIO_API mio_req_t mio_fs_utimes(mio_loop_t *loop, const char *path, int64_t atime_ns, int64_t mtime_ns, mio_fs_cb cb,
                                void *arg);
MIO_API mio_req_t mio_fs_lutimes(mio_loop_t *loop, const char *path, int64_t atime_ns, int64_t mtime_ns, mio_fs_cb cb,
                                 void *arg);
MIO_API mio_req_t mio_fs_futimes(mio_loop_t *loop, int fd, int64_t atime_ns, int64_t mtime_ns, mio_fs_cb cb, void *arg);

/* access(2), for the real user: mode is F_OK, or R_OK, W_OK, X_OK together, <unistd.h>. */
MIO_API mio_req_t mio_fs_access(mio_loop_t *loop, const char *path, int mode, mio_fs_cb cb, void *arg);

/* mkostemp(3), mkdtemp(3): a file, open for reading and writing, of mode 0600, or a folder of mode 0700, that nobody
 * else has. pattern ends in XXXXXX, which is replaced: the callback is told the path. MIO_EINVAL (at the start): it does
 * not. A file that comes too late is closed, and stays. */
MIO_API mio_req_t mio_fs_temp_file(mio_loop_t *loop, const char *pattern, mio_fs_temp_cb cb, void *arg);
MIO_API mio_req_t mio_fs_temp_folder(mio_loop_t *loop, const char *pattern, mio_fs_path_cb cb, void *arg);

/* Copies a file's bytes and permissions (less the umask, when `to` is made): shares its blocks (FICLONE) where the file
 * system can, else copy_file_range(2), else reads and writes. flags: MIO_FS_COPY_... When it fails, a file that it made
 * is removed. MIO_EISDIR: from is a folder. MIO_EINVAL: both are one file. */
MIO_API mio_req_t mio_fs_copy(mio_loop_t *loop, const char *from, const char *to, unsigned flags, mio_fs_copy_cb cb,
                              void *arg);

/* statfs(2): the file system that path is on. */
MIO_API mio_req_t mio_fs_statfs(mio_loop_t *loop, const char *path, mio_fs_statfs_cb cb, void *arg);

MIO_END

#endif
