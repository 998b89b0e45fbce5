// A file operation as data: what is asked and what came of it. io fills it in (io/fs.cc); a thread of the pool, or a
// ring, does it and fills in the result; io tells the user. Whoever does it touches nothing but the call and the memory
// that it points to, which all lies in the call's own block or in buffers that the request holds.
#pragma once

#include "base/sys_files.h"

#include <stdint.h>


namespace mio {

struct sys;

enum class fs_op : uint8_t {
    open,
    close,
    read,
    write,
    fsync,
    fdatasync,
    stat,
    lstat,
    fstat,
    truncate,
    ftruncate,
    allocate,
    rename,
    unlink,
    mkdir,
    mkdir_all,
    rmdir,
    remove_all,
    link,
    symlink,
    readlink,
    realpath,
    readdir,
    chmod,
    fchmod,
    chown,
    lchown,
    fchown,
    utimes,
    lutimes,
    futimes,
    access,
    temp_file,
    temp_folder,
    copy,
    statfs,
};

struct fs_call {
    fs_op op;
    bool done;            // somebody has done it, or nobody can know whether it was done
    uint8_t repeats;      // so often a ring has begun it anew
    const bool *given_up; // nobody wants the result any more: long operations stop early. nullptr: nobody can say so
    int fd;
    int flags;
    uint32_t mode, group; // chown: the owner, the group
    int64_t offset, length; // utimes: atime, mtime
    char *path, *to;      // end with a NUL; `to`: the second one
    char *out;            // room for what comes out, room bytes
    size_t room;
    struct iovec *pieces; // of read and write: what is left to move
    unsigned piece_count;
    int64_t result;       // 0, a descriptor, or an error
    int64_t moved;        // bytes: read, write, copy; of a readdir: bytes of entries at out
};

// A call that yields a descriptor: to be closed when nobody wants it.
inline bool fs_call_opens(const fs_call *call) { return call->op == fs_op::open || call->op == fs_op::temp_file; }
// The caller's buffers are in it: it ends when the kernel is done with them.
inline bool fs_call_is_held(const fs_call *call) { return call->op == fs_op::read || call->op == fs_op::write; }

inline bool fs_call_given_up(const fs_call *call) {
    return call->given_up != nullptr && __atomic_load_n(call->given_up, __ATOMIC_RELAXED);
}

// Room for what comes out of a stat: a ring leaves the kernel's struct statx there first.
constexpr size_t FS_STAT_ROOM = 256;

// The n bytes at the front of the pieces were moved. (io/fs_perform.cc, as are the others)
void fs_call_advance(fs_call *call, size_t n);
// Does it with calls of the table: blocks. Any thread.
void fs_perform(const sys *calls, fs_call *call);
// Nobody wants what it brought: a descriptor is closed. A close that was not done is done: it was promised.
void fs_dispose(const sys *calls, fs_call *call);

}
