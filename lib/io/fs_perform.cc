// Files: what each operation asks of the kernel, one after the other, as a thread of the pool may do it. All of it is in
// the call (core/fs_call.h), and the calls go through the table. Knows neither loop nor request.
//
//   read    one call: as much as there is. 0 bytes where bytes were asked for is the end: MIO_EOF
//   write   until all is written, or an error: what was written before it is counted
//   both    what has no positions is read and written as it comes, wherever: so a ring does it, and cannot tell
//   the rest one call each, or several (io/fs_tree.cc)

#include "io/fs.h"

#include "base/assert.h"
#include "base/sys.h"

#include <mio/error.h>
#include <mio/fs.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>

namespace mio {

constexpr unsigned PIECES_MAX = 64; // one call's

void fs_call_advance(fs_call *call, size_t n) {
    call->moved += static_cast<int64_t>(n);
    while (call->piece_count != 0 && n >= call->pieces->iov_len) {
        n -= call->pieces->iov_len;
        call->pieces++;
        call->piece_count--;
    }
    if (n == 0) return;
    mio_assert(call->piece_count != 0);
    call->pieces->iov_base = static_cast<char *>(call->pieces->iov_base) + n;
    call->pieces->iov_len -= n;
}

static int64_t perform_read(const sys_files *files, fs_call *call) {
    ssize_t n;
    const unsigned most = call->piece_count < PIECES_MAX ? call->piece_count : PIECES_MAX;
    do {
        n = files->read(call->fd, call->pieces, static_cast<int>(most), call->offset);
        if (n == -ESPIPE) n = files->read(call->fd, call->pieces, static_cast<int>(most), -1);
    } while (n == -EINTR && !fs_call_given_up(call));
    if (n < 0) return n;
    if (n == 0) return MIO_EOF;
    fs_call_advance(call, static_cast<size_t>(n));
    return 0;
}

static int64_t perform_write(const sys_files *files, fs_call *call) {
    for (;;) {
        fs_call_advance(call, 0); // past what is empty
        if (call->piece_count == 0) return 0;
        const unsigned most = call->piece_count < PIECES_MAX ? call->piece_count : PIECES_MAX;
        const int64_t at = call->offset < 0 ? -1 : call->offset + call->moved;
        ssize_t n = files->write(call->fd, call->pieces, static_cast<int>(most), at);
        if (n == -ESPIPE) n = files->write(call->fd, call->pieces, static_cast<int>(most), -1);
        if (n == -EINTR && !fs_call_given_up(call)) continue;
        if (n < 0) return n;
        if (n == 0) return MIO_EIO; // no device of ours does that; never without end
        fs_call_advance(call, static_cast<size_t>(n));
    }
}

// What a signal interrupts is asked again; but close, whose descriptor is gone whatever it says.
#define AGAIN(call, expression)                                                                                       \
    int64_t again;                                                                                                    \
    do again = (expression);                                                                                          \
    while (again == -EINTR && !fs_call_given_up(call));                                                               \
    return again

static int64_t perform_open(const sys_files *files, fs_call *call) {
    AGAIN(call, files->open(AT_FDCWD, call->path, call->flags, call->mode));
}
static int64_t perform_sync(const sys_files *files, fs_call *call) {
    AGAIN(call, files->sync(call->fd, call->op == fs_op::fdatasync));
}
static int64_t perform_allocate(const sys_files *files, fs_call *call) {
    AGAIN(call, files->allocate(call->fd, call->flags, call->offset, call->length));
}

static int64_t perform_stat(const sys_files *files, fs_call *call) {
    sys_stat found;
    memset(&found, 0, sizeof found);
    int result;
    if (call->op == fs_op::fstat) result = files->stat(call->fd, "", 0, &found);
    else result = files->stat(AT_FDCWD, call->path, call->op == fs_op::lstat ? AT_SYMLINK_NOFOLLOW : 0, &found);
    if (result == 0) memcpy(call->out, &found, sizeof found);
    return result;
}

static int64_t perform_readlink(const sys_files *files, fs_call *call) {
    const ssize_t n = files->readlink(call->path, call->out, call->room);
    if (n < 0) return n;
    if (static_cast<size_t>(n) >= call->room) return MIO_ENAMETOOLONG;
    call->out[n] = 0;
    return 0;
}

static bool entry_is_dots(const char *entry) {
    const char *name = entry + SYS_ENTRY_NAME;
    return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
}

// Entries as they come, but "." and "..".
static int64_t perform_readdir(const sys_files *files, fs_call *call) {
    while (call->moved == 0) {
        const ssize_t n = files->read_dir(call->fd, call->out, call->room);
        if (n < 0) return n;
        if (n == 0) return MIO_EOF;
        size_t kept = 0;
        for (size_t at = 0; at < static_cast<size_t>(n);) {
            const uint16_t size = fs_entry_size(call->out + at);
            mio_assert(size > SYS_ENTRY_NAME && size <= static_cast<size_t>(n) - at);
            if (!entry_is_dots(call->out + at)) {
                memmove(call->out + kept, call->out + at, size);
                kept += size;
            }
            at += size;
        }
        call->moved = static_cast<int64_t>(kept);
    }
    return 0;
}

static int64_t perform_temp_file(const sys_files *files, fs_call *call) {
    return files->make_temp(call->path);
}

static int64_t perform_statfs(const sys_files *files, fs_call *call) {
    sys_statfs found;
    memset(&found, 0, sizeof found);
    const int result = files->statfs(call->path, &found);
    if (result == 0) memcpy(call->out, &found, sizeof found);
    return result;
}

static int64_t perform(const sys *calls, fs_call *call) {
    const sys_files *files = calls->files;
    switch (call->op) {
    case fs_op::open: return perform_open(files, call);
    case fs_op::close: {
        const int result = calls->close(call->fd);
        return result == -EINTR || result == -EINPROGRESS ? 0 : result; // it is closed
    }
    case fs_op::read: return perform_read(files, call);
    case fs_op::write: return perform_write(files, call);
    case fs_op::fsync:
    case fs_op::fdatasync: return perform_sync(files, call);
    case fs_op::stat:
    case fs_op::lstat:
    case fs_op::fstat: return perform_stat(files, call);
    case fs_op::truncate: return files->truncate(call->path, call->length);
    case fs_op::ftruncate: return files->ftruncate(call->fd, call->length);
    case fs_op::allocate: return perform_allocate(files, call);
    case fs_op::rename: return files->rename(call->path, call->to, static_cast<unsigned>(call->flags));
    case fs_op::unlink: return files->unlink(AT_FDCWD, call->path, 0);
    case fs_op::mkdir: return files->mkdir(call->path, call->mode);
    case fs_op::mkdir_all: return fs_tree_make(files, call);
    case fs_op::rmdir: return files->unlink(AT_FDCWD, call->path, AT_REMOVEDIR);
    case fs_op::remove_all: return fs_tree_remove(calls, call);
    case fs_op::link: return files->link(call->path, call->to);
    case fs_op::symlink: return files->symlink(call->path, call->to);
    case fs_op::readlink: return perform_readlink(files, call);
    case fs_op::realpath: return files->realpath(call->path, call->out);
    case fs_op::readdir: return perform_readdir(files, call);
    case fs_op::chmod: return files->chmod(call->path, call->mode);
    case fs_op::fchmod: return files->fchmod(call->fd, call->mode);
    case fs_op::chown: return files->chown(call->path, call->mode, call->group, 0);
    case fs_op::lchown: return files->chown(call->path, call->mode, call->group, AT_SYMLINK_NOFOLLOW);
    case fs_op::fchown: return files->fchown(call->fd, call->mode, call->group);
    case fs_op::utimes: return files->utimes(-1, call->path, call->offset, call->length, 0);
    case fs_op::lutimes: return files->utimes(-1, call->path, call->offset, call->length, AT_SYMLINK_NOFOLLOW);
    case fs_op::futimes: return files->utimes(call->fd, nullptr, call->offset, call->length, 0);
    case fs_op::access: return files->access(call->path, call->flags);
    case fs_op::temp_file: return perform_temp_file(files, call);
    case fs_op::temp_folder: return files->make_temp_dir(call->path);
    case fs_op::copy: return fs_tree_copy(calls, call);
    case fs_op::statfs: return perform_statfs(files, call);
    }
    mio_assert(false && "an operation is one of them");
    return MIO_EINVAL;
}

// Once it was given up its descriptor may be closed, and the number another file's. A close was promised.
static bool goes_by_number(const fs_call *call) {
    switch (call->op) {
    case fs_op::fsync:
    case fs_op::fdatasync:
    case fs_op::ftruncate:
    case fs_op::allocate:
    case fs_op::readdir: // moves the position
    case fs_op::fchmod:
    case fs_op::fchown:
    case fs_op::futimes: return true;
    default: return false;
    }
}

void fs_perform(const sys *calls, fs_call *call) {
    if (goes_by_number(call) && fs_call_given_up(call)) call->result = MIO_ECANCELED; // before it was begun
    else call->result = perform(calls, call);
    call->done = true;
}

void fs_dispose(const sys *calls, fs_call *call) {
    if (call->op == fs_op::close && !call->done) {
        call->done = true;
        (void)calls->close(call->fd);
    }
    if (!fs_call_opens(call) || call->result < 0) return;
    (void)calls->close(static_cast<int>(call->result)); // nobody is there to be told
    call->result = MIO_ECANCELED;
}

}
