// Files: what takes many calls of the kernel: folders with those above them, trees that are removed, copies. Runs on a
// thread of the pool and looks now and then whether it was given up.
//
// A tree is removed with one descriptor open, however deep it is: down into a folder that is not empty, up by "..". On
// the way up the folder must be the one that was left, or somebody moved a folder meanwhile and ".." leads elsewhere:
// nothing outside the tree is ever removed. A folder is read from its beginning after each one below it, so that what a
// file system skips while entries go is found.

#include "io/fs.h"

#include "base/assert.h"
#include "base/sys.h"

#include <mio/error.h>
#include <mio/fs.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

namespace mio {

// --- folders --------------------------------------------------------------------------------------------------------

// It is there: is it a folder?
static int64_t made_before(const sys_files *files, const char *path) {
    sys_stat found;
    const int error = files->stat(AT_FDCWD, path, 0, &found);
    if (error < 0) return error;
    return (found.mode & S_IFMT) == S_IFDIR ? 0 : MIO_EEXIST;
}

static int64_t make_one(const sys_files *files, const char *path, unsigned mode) {
    const int error = files->mkdir(path, mode);
    // A folder that may not be written to, but is there, is as good.
    if (error != -EEXIST && error != -EROFS && error != -EISDIR) return error;
    const int64_t before = made_before(files, path);
    return before == MIO_ENOENT ? error : before;
}

int64_t fs_tree_make(const sys_files *files, fs_call *call) {
    int64_t error = make_one(files, call->path, call->mode);
    if (error != MIO_ENOENT || call->path[0] == 0) return error;
    for (char *at = call->path + 1; *at != 0; at++) {
        if (*at != '/' || at[-1] == '/') continue;
        *at = 0;
        error = make_one(files, call->path, call->mode | S_IWUSR | S_IXUSR); // what is made below must find its way
        *at = '/';
        if (error < 0) return error;
        if (fs_call_given_up(call)) return MIO_ECANCELED;
    }
    return make_one(files, call->path, call->mode);
}

// --- removal --------------------------------------------------------------------------------------------------------

struct folder_id {
    uint64_t device, inode;
};

constexpr size_t REMOVE_READ = 32 << 10; // of the call's room; the rest is for the way up

struct removal {
    const sys *calls;
    const sys_files *files;
    fs_call *call;
    int fd;
    bool found;      // something, since the folder was opened
    unsigned depth, deepest;
    folder_id *way;  // up: the folders above this one
};

static int64_t folder_id_of(const removal *r, folder_id *out) {
    sys_stat found;
    const int error = r->files->stat(r->fd, "", 0, &found);
    if (error < 0) return error;
    out->device = static_cast<uint64_t>(found.device_major) << 32 | found.device_minor;
    out->inode = found.inode;
    return 0;
}

static int64_t folder_open(removal *r, const char *name) {
    const int fd = r->files->open(r->fd < 0 ? AT_FDCWD : r->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    if (fd < 0) return fd;
    if (r->fd >= 0) (void)r->calls->close(r->fd);
    r->fd = fd;
    r->found = false;
    return 0;
}

static int64_t folder_down(removal *r, const char *name) {
    if (r->depth == r->deepest) return MIO_ENAMETOOLONG;
    const int64_t error = folder_id_of(r, &r->way[r->depth]);
    if (error < 0) return error;
    r->depth++;
    return folder_open(r, name);
}

static int64_t folder_up(removal *r) {
    if (!r->found) return MIO_ENOTEMPTY; // it said so, and shows nothing
    int64_t error = folder_open(r, "..");
    if (error < 0) return error;
    folder_id now;
    error = folder_id_of(r, &now);
    if (error < 0) return error;
    const folder_id before = r->way[--r->depth];
    return now.device == before.device && now.inode == before.inode ? 0 : MIO_ENOENT; // it was moved away
}

// > 0: the folder below was entered. Some systems say EPERM of a folder that was to be unlinked.
static int64_t remove_entry(removal *r, const char *name, uint8_t type) {
    if (type != DT_DIR) {
        const int error = r->files->unlink(r->fd, name, 0);
        if (error == 0 || error == -ENOENT) return 0;
        if (error != -EISDIR && (error != -EPERM || type != DT_UNKNOWN)) return error;
    }
    const int error = r->files->unlink(r->fd, name, AT_REMOVEDIR);
    if (error == 0 || error == -ENOENT) return 0;
    if (error != -ENOTEMPTY && error != -EEXIST) return error;
    const int64_t down = folder_down(r, name);
    return down < 0 ? down : 1;
}

static int64_t remove_entries(removal *r, size_t n) {
    const char *entries = r->call->out;
    for (size_t at = 0; at < n; at += fs_entry_size(entries + at)) {
        const char *name = entries + at + SYS_ENTRY_NAME;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) continue;
        r->found = true;
        const int64_t result = remove_entry(r, name, fs_entry_type(entries + at));
        if (result != 0) return result < 0 ? result : 0;
        r->call->moved++;
    }
    return 0;
}

// All below the folder at the call's path.
static int64_t remove_below(removal *r) {
    int64_t error = folder_open(r, r->call->path);
    while (error == 0) {
        if (fs_call_given_up(r->call)) return MIO_ECANCELED;
        const ssize_t n = r->files->read_dir(r->fd, r->call->out, REMOVE_READ);
        if (n < 0) return n;
        if (n > 0) error = remove_entries(r, static_cast<size_t>(n));
        else if (r->depth == 0) return 0;
        else error = folder_up(r);
    }
    return error;
}

constexpr int REMOVE_TRIES = 4; // something appeared below it meanwhile

int64_t fs_tree_remove(const sys *calls, fs_call *call) {
    const sys_files *files = calls->files;
    const int unlinked = files->unlink(AT_FDCWD, call->path, 0);
    if (unlinked != -EISDIR && unlinked != -EPERM) return unlinked;
    int64_t error = files->unlink(AT_FDCWD, call->path, AT_REMOVEDIR);
    if (error == -ENOTDIR) return unlinked; // a file that may not be removed
    for (int tries = 0; tries < REMOVE_TRIES && (error == MIO_ENOTEMPTY || error == MIO_EEXIST); tries++) {
        removal r = {calls, files, call, -1, false, 0, 0, reinterpret_cast<folder_id *>(call->out + REMOVE_READ)};
        r.deepest = static_cast<unsigned>((call->room - REMOVE_READ) / sizeof(folder_id));
        error = remove_below(&r);
        if (r.fd >= 0) (void)calls->close(r.fd);
        if (error == 0) error = files->unlink(AT_FDCWD, call->path, AT_REMOVEDIR);
    }
    return error;
}

// --- copies ---------------------------------------------------------------------------------------------------------

constexpr size_t COPY_STEP = 16 << 20; // between two looks whether it was given up

// By the kernel's own copying. 1: not between these files.
static int64_t copy_by_range(const sys_files *files, fs_call *call, int from, int to) {
    for (;;) {
        if (fs_call_given_up(call)) return MIO_ECANCELED;
        const ssize_t n = files->copy_range(from, to, COPY_STEP);
        if (n == -EINTR) continue;
        if (n <= 0 && call->moved == 0) return 1; // a file that shows no size may still have bytes to read
        if (n <= 0) return n;
        call->moved += n;
    }
}

static int64_t copy_by_hand(const sys_files *files, fs_call *call, int from, int to) {
    for (;;) {
        if (fs_call_given_up(call)) return MIO_ECANCELED;
        struct iovec piece = {call->out, call->room};
        ssize_t n = files->read(from, &piece, 1, -1);
        if (n == -EINTR) continue;
        if (n <= 0) return n;
        piece.iov_len = static_cast<size_t>(n);
        while (piece.iov_len != 0) {
            n = files->write(to, &piece, 1, -1);
            if (n == -EINTR) continue;
            if (n <= 0) return n < 0 ? n : static_cast<ssize_t>(MIO_EIO);
            piece.iov_base = static_cast<char *>(piece.iov_base) + n;
            piece.iov_len -= static_cast<size_t>(n);
            call->moved += n;
        }
    }
}

static int64_t copy_bytes(const sys_files *files, fs_call *call, int from, int to, const sys_stat *source) {
    if ((static_cast<unsigned>(call->flags) & MIO_FS_COPY_BYTES) == 0) {
        const int cloned = files->clone(from, to);
        if (cloned == 0) {
            call->moved = static_cast<int64_t>(source->size);
            return 0;
        }
        if ((static_cast<unsigned>(call->flags) & MIO_FS_COPY_REFLINK) != 0)
            return cloned == -ENOTTY || cloned == -ENOSYS ? MIO_ENOTSUP : cloned;
        const int64_t result = copy_by_range(files, call, from, to);
        if (result != 1) return result;
    }
    return copy_by_hand(files, call, from, to);
}

// The file that the bytes go to. *made: it was not there before.
static int64_t copy_open(const sys_files *files, fs_call *call, const sys_stat *source, bool *made) {
    int fd = files->open(AT_FDCWD, call->to, O_WRONLY | O_CREAT | O_EXCL, source->mode & 07777);
    *made = fd >= 0;
    if (fd != -EEXIST || (static_cast<unsigned>(call->flags) & MIO_FS_COPY_EXCLUSIVE) != 0) return fd;
    fd = files->open(AT_FDCWD, call->to, O_WRONLY, 0);
    if (fd < 0) return fd;
    return fd;
}

static int64_t copy_into(const sys_files *files, fs_call *call, int from, int to, const sys_stat *source, bool made) {
    if (!made) {
        sys_stat target;
        int error = files->stat(to, "", 0, &target);
        if (error < 0) return error;
        const bool same = target.inode == source->inode && target.device_major == source->device_major &&
                          target.device_minor == source->device_minor;
        if (same) return MIO_EINVAL; // it would be emptied first
        error = files->ftruncate(to, 0);
        if (error < 0 && error != -EINVAL) return error; // a device or a pipe has no length
    }
    return copy_bytes(files, call, from, to, source);
}

int64_t fs_tree_copy(const sys *calls, fs_call *call) {
    const sys_files *files = calls->files;
    const int from = files->open(AT_FDCWD, call->path, O_RDONLY, 0);
    if (from < 0) return from;
    sys_stat source;
    int64_t result = files->stat(from, "", 0, &source);
    if (result == 0 && (source.mode & S_IFMT) == S_IFDIR) result = MIO_EISDIR;
    if (result == 0) {
        bool made = false;
        const int64_t to = copy_open(files, call, &source, &made);
        result = to;
        if (to >= 0) {
            result = copy_into(files, call, from, static_cast<int>(to), &source, made);
            const int closed = calls->close(static_cast<int>(to));
            if (result == 0 && closed < 0 && closed != -EINTR) result = closed; // some file systems write then
            if (result < 0 && made) (void)files->unlink(AT_FDCWD, call->to, 0);
        }
    }
    (void)calls->close(from);
    return result;
}

}
