// The calls on files that loops of a simulated world see (base/sys_files.h). They take no time: when one happens is
// decided where it is asked for. Before it does anything each may fail by chance (mio_sim_options file_error_ppm, a
// fault of MIO_SIM_CALL_FILE): then nothing has changed.
//
// What a world's files lack: FICLONE and copy_file_range (who copies reads and writes then), renameat2's exchange,
// fallocate but for growing. Permissions are kept and never asked.

#include "backend/sim_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

namespace mio {

constexpr unsigned UMASK = 022;

static uint64_t chance(sim_world *w) {
    sim_files *files = sim_files_of(w);
    if (files == nullptr) return 0;
    files->random += 0x9e3779b97f4a7c15u;
    return sim_mixed(files->random);
}

// 0, or why this call fails. space: it needs some.
static int fails(sim_world *w, bool space) {
    if (w == nullptr) return -EPERM;
    const uint32_t ppm = w->options.file_error_ppm;
    if (ppm != 0) {
        const uint64_t drawn = chance(w);
        if ((drawn >> 32) % 1000000 < ppm) return space && (drawn & 1) != 0 ? -ENOSPC : -EIO;
    }
    return sim_call_fails(w, MIO_SIM_CALL_FILE, nullptr, nullptr);
}

static int traced(sim_world *w, const sim_file *file, int result) {
    sim_trace(w, SIM_DID_FILE, file == nullptr ? 0 : static_cast<uint32_t>(file->inode), result);
    return result;
}

static void touch(sim_world *w, sim_file *file) { file->mtime_ns = file->ctime_ns = sim_files_now(w); }

// Of an existing file; what a failed call or a path that leads nowhere says.
static int find(int dir, const char *path, bool follow, sim_world **w, sim_place_of *out) {
    *w = sim_world_here();
    int error = fails(*w, false);
    if (error == 0) error = sim_resolve(*w, dir, path, follow, out);
    return error == 0 && out->file == nullptr ? -ENOENT : error;
}

static int find_open(int fd, bool space, sim_world **w, sim_open **out) {
    *w = sim_world_here();
    const int error = fails(*w, space);
    *out = sim_open_of(*w, fd);
    return error < 0 ? error : *out == nullptr ? -EBADF : 0;
}

// --- making and removing --------------------------------------------------------------------------------------------

static int make(sim_world *w, const sim_place_of *at, uint32_t mode, sim_file **out) {
    if (at->file != nullptr || at->name[0] == 0) return -EEXIST;
    sim_file *file = sim_file_create(w, mode);
    int error = file == nullptr ? -ENOMEM : sim_entry_add(w, at->folder, at->name, file);
    if (error < 0) {
        if (file != nullptr) sim_file_settle(w, file);
        return error;
    }
    file->links = 1;
    if (sim_is_folder(file)) {
        file->parent = at->folder;
        file->links = 2;
        at->folder->links++;
    }
    *out = file;
    return 0;
}

static int files_open(int dir, const char *path, int flags, unsigned mode) {
    sim_world *w = sim_world_here();
    const int accepted = flags & O_ACCMODE;
    int error = fails(w, (flags & O_CREAT) != 0);
    if (error < 0) return error;
    const bool exclusive = (flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL);
    sim_place_of at;
    error = sim_resolve(w, dir, path, !exclusive && (flags & O_NOFOLLOW) == 0, &at);
    if (error < 0) return error;
    sim_file *file = at.file;
    if (file == nullptr) {
        if ((flags & O_CREAT) == 0) return -ENOENT;
        if (at.slash) return -EISDIR;
        error = make(w, &at, S_IFREG | (mode & 07777 & ~UMASK), &file);
        if (error < 0) return error;
    } else {
        if (exclusive) return -EEXIST;
        if (sim_is_link(file)) return (flags & O_DIRECTORY) != 0 ? -ENOTDIR : -ELOOP;
        if ((flags & O_DIRECTORY) != 0 && !sim_is_folder(file)) return -ENOTDIR;
        if (sim_is_folder(file) && (accepted != O_RDONLY || (flags & O_CREAT) != 0)) return -EISDIR;
    }
    const int fd = sim_open_create(w, file, flags);
    if (fd < 0 && at.file == nullptr) {
        sim_entry_remove(w, at.folder, sim_entry_find(at.folder, at.name, strlen(at.name)));
        file->links = 0;
        sim_file_settle(w, file);
        return fd;
    }
    if (fd >= 0 && (flags & O_TRUNC) != 0 && accepted != O_RDONLY && file->size != 0) {
        (void)sim_file_resize(w, file, 0); // to less: nothing is needed
        touch(w, file);
    }
    return fd < 0 ? fd : traced(w, file, fd - SIM_FILE_FD_BASE) + SIM_FILE_FD_BASE;
}

static int files_mkdir(const char *path, unsigned mode) {
    sim_world *w = sim_world_here();
    int error = fails(w, true);
    sim_place_of at;
    if (error == 0) error = sim_resolve(w, AT_FDCWD, path, false, &at);
    if (error < 0) return error;
    sim_file *file = nullptr;
    error = make(w, &at, S_IFDIR | (mode & 01777 & ~UMASK), &file);
    return traced(w, file, error);
}

// The name goes, and with the last one the file.
static void unname(sim_world *w, sim_place_of *at) {
    sim_file *file = at->file;
    sim_entry_remove(w, at->folder, sim_entry_find(at->folder, at->name, strlen(at->name)));
    if (sim_is_folder(file)) {
        file->parent = nullptr;
        file->links = 0;
        at->folder->links--;
    } else {
        file->links--;
        file->ctime_ns = sim_files_now(w);
    }
    sim_file_settle(w, file);
}

static int files_unlink(int dir, const char *path, int flags) {
    sim_world *w;
    sim_place_of at;
    const int error = find(dir, path, false, &w, &at);
    if (error < 0) return error;
    const bool folder = sim_is_folder(at.file);
    if ((flags & AT_REMOVEDIR) == 0) {
        if (folder) return -EISDIR;
    } else {
        if (!folder) return -ENOTDIR;
        if (at.name[0] == 0) return at.file == w->files->root ? -EBUSY : -EINVAL;
        if (at.file->name_count != 0) return -ENOTEMPTY;
    }
    traced(w, at.file, 0);
    unname(w, &at);
    return 0;
}

static bool lies_below(const sim_file *folder, const sim_file *above) {
    for (; folder->parent != folder; folder = folder->parent)
        if (folder == above) return true;
    return folder == above;
}

static int files_rename(const char *from, const char *to, unsigned flags) {
    if (flags > 1) return -EINVAL;
    sim_world *w;
    sim_place_of old, fresh;
    int error = find(AT_FDCWD, from, false, &w, &old);
    if (error == 0) error = sim_resolve(w, AT_FDCWD, to, false, &fresh);
    if (error < 0) return error;
    if (old.name[0] == 0 || fresh.name[0] == 0) return -EBUSY;
    const bool folder = sim_is_folder(old.file);
    if (folder && lies_below(fresh.folder, old.file)) return -EINVAL;
    if (!folder && fresh.slash) return -ENOTDIR;
    if (fresh.file != nullptr) {
        if (flags != 0) return -EEXIST;
        if (fresh.file == old.file) return 0;
        if (folder && !sim_is_folder(fresh.file)) return -ENOTDIR;
        if (!folder && sim_is_folder(fresh.file)) return -EISDIR;
        if (fresh.file->name_count != 0) return -ENOTEMPTY;
    }
    error = sim_entry_add(w, fresh.folder, fresh.name, old.file); // for a moment there are two, the new one last
    if (error < 0) return error;
    if (fresh.file != nullptr) unname(w, &fresh);
    sim_entry_remove(w, old.folder, sim_entry_find(old.folder, old.name, strlen(old.name)));
    if (folder) {
        old.file->parent = fresh.folder;
        old.folder->links--;
        fresh.folder->links++;
    }
    old.file->ctime_ns = sim_files_now(w);
    return traced(w, old.file, 0);
}

static int files_link(const char *from, const char *to) {
    sim_world *w;
    sim_place_of old, fresh;
    int error = find(AT_FDCWD, from, false, &w, &old);
    if (error == 0) error = sim_resolve(w, AT_FDCWD, to, false, &fresh);
    if (error < 0) return error;
    if (sim_is_folder(old.file)) return -EPERM;
    if (fresh.file != nullptr) return -EEXIST;
    if (fresh.slash) return -ENOENT;
    error = sim_entry_add(w, fresh.folder, fresh.name, old.file);
    if (error < 0) return error;
    old.file->links++;
    old.file->ctime_ns = sim_files_now(w);
    return traced(w, old.file, 0);
}

static int files_symlink(const char *target, const char *path) {
    sim_world *w = sim_world_here();
    int error = fails(w, true);
    sim_place_of at;
    if (error == 0) error = sim_resolve(w, AT_FDCWD, path, false, &at);
    if (error < 0) return error;
    const size_t n = strlen(target);
    if (n == 0) return -ENOENT;
    if (n >= SIM_PATH_MAX) return -ENAMETOOLONG;
    if (at.file == nullptr && at.slash) return -ENOENT;
    sim_file *file = nullptr;
    error = make(w, &at, S_IFLNK | 0777, &file);
    if (error < 0) return error;
    error = sim_file_resize(w, file, n);
    if (error < 0) {
        at.file = file;
        unname(w, &at);
        return error;
    }
    memcpy(file->bytes, target, n);
    return traced(w, file, 0);
}

// What follows the Xs is chosen until nobody has it.
static void pattern_fill(sim_world *w, char *pattern) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    uint64_t drawn = chance(w);
    for (char *at = pattern + strlen(pattern) - 6; *at != 0; at++) {
        *at = letters[drawn % 62];
        drawn /= 62;
    }
}

static int files_make_temp(char *pattern) {
    sim_world *w = sim_world_here();
    if (w == nullptr) return -EPERM;
    int fd = -EEXIST;
    for (int tries = 0; tries < 100 && fd == -EEXIST; tries++) {
        pattern_fill(w, pattern);
        fd = files_open(AT_FDCWD, pattern, O_RDWR | O_CREAT | O_EXCL, 0600);
    }
    return fd;
}

static int files_make_temp_dir(char *pattern) {
    sim_world *w = sim_world_here();
    if (w == nullptr) return -EPERM;
    int error = -EEXIST;
    for (int tries = 0; tries < 100 && error == -EEXIST; tries++) {
        pattern_fill(w, pattern);
        error = files_mkdir(pattern, 0700);
    }
    return error;
}

// --- bytes ----------------------------------------------------------------------------------------------------------

static ssize_t files_read(int fd, const struct iovec *to, int n, int64_t offset) {
    sim_world *w;
    sim_open *open;
    const int error = find_open(fd, false, &w, &open);
    if (error < 0) return error;
    if ((open->flags & O_ACCMODE) == O_WRONLY) return -EBADF;
    const sim_file *file = open->file;
    if (sim_is_folder(file)) return -EISDIR;
    uint64_t at = offset < 0 ? open->position : static_cast<uint64_t>(offset);
    ssize_t moved = 0;
    for (int i = 0; i < n && at < file->size; i++) {
        const size_t piece = to[i].iov_len < file->size - at ? to[i].iov_len : static_cast<size_t>(file->size - at);
        if (piece != 0) memcpy(to[i].iov_base, file->bytes + at, piece);
        at += piece;
        moved += static_cast<ssize_t>(piece);
    }
    if (offset < 0) open->position = at;
    open->file->atime_ns = sim_files_now(w);
    traced(w, file, static_cast<int>(moved));
    return moved;
}

static ssize_t files_write(int fd, const struct iovec *from, int n, int64_t offset) {
    sim_world *w;
    sim_open *open;
    const int error = find_open(fd, true, &w, &open);
    if (error < 0) return error;
    if ((open->flags & O_ACCMODE) == O_RDONLY) return -EBADF;
    sim_file *file = open->file;
    const bool appends = (open->flags & O_APPEND) != 0;
    const uint64_t begin = appends ? file->size : offset < 0 ? open->position : static_cast<uint64_t>(offset);
    uint64_t total = 0;
    for (int i = 0; i < n; i++) total += from[i].iov_len;
    const uint32_t short_ppm = w->options.short_write_ppm;
    if (total > 1 && short_ppm != 0 && (chance(w) >> 32) % 1000000 < short_ppm) total = 1 + chance(w) % (total - 1);
    int failed = 0;
    if (begin + total > file->size) failed = sim_file_resize(w, file, begin + total);
    while (failed == -ENOSPC && total > 1) { // as much as there is room for
        total /= 2;
        failed = begin + total > file->size ? sim_file_resize(w, file, begin + total) : 0;
    }
    if (failed < 0) return failed;
    uint64_t at = begin;
    for (int i = 0; i < n && at < begin + total; i++) {
        const uint64_t left = begin + total - at;
        const size_t piece = from[i].iov_len < left ? from[i].iov_len : static_cast<size_t>(left);
        if (piece != 0) memcpy(file->bytes + at, from[i].iov_base, piece);
        at += piece;
    }
    if (offset < 0) open->position = at;
    touch(w, file);
    traced(w, file, static_cast<int>(total));
    return static_cast<ssize_t>(total);
}

static ssize_t files_read_now(int, const struct iovec *, int, int64_t) { return -EAGAIN; } // all takes time

static int files_sync(int fd, int) {
    sim_world *w;
    sim_open *open;
    return find_open(fd, false, &w, &open);
}

static int resize(sim_world *w, sim_file *file, int64_t length) {
    if (sim_is_folder(file)) return -EISDIR;
    const int error = sim_file_resize(w, file, static_cast<uint64_t>(length));
    if (error == 0) touch(w, file);
    return traced(w, file, error);
}

static int files_truncate(const char *path, int64_t length) {
    sim_world *w;
    sim_place_of at;
    const int error = find(AT_FDCWD, path, true, &w, &at);
    return error < 0 ? error : resize(w, at.file, length);
}

static int files_ftruncate(int fd, int64_t length) {
    sim_world *w;
    sim_open *open;
    const int error = find_open(fd, true, &w, &open);
    if (error < 0) return error;
    return (open->flags & O_ACCMODE) == O_RDONLY ? -EINVAL : resize(w, open->file, length);
}

static int files_allocate(int fd, int mode, int64_t offset, int64_t length) {
    sim_world *w;
    sim_open *open;
    const int error = find_open(fd, true, &w, &open);
    if (error < 0) return error;
    if ((open->flags & O_ACCMODE) == O_RDONLY) return -EBADF;
    if (mode != 0) return -EOPNOTSUPP;
    const int64_t end = offset + length;
    return open->file->size >= static_cast<uint64_t>(end) ? 0 : resize(w, open->file, end);
}

// --- facts ----------------------------------------------------------------------------------------------------------

static void facts(const sim_file *file, sys_stat *out) {
    memset(out, 0, sizeof *out);
    out->mode = file->mode;
    out->links = file->links;
    out->uid = file->uid;
    out->gid = file->gid;
    out->inode = file->inode;
    out->size = file->size;
    out->blocks = (file->size + 511) / 512;
    out->block_size = 4096;
    out->device_major = 1;
    out->atime_ns = file->atime_ns;
    out->mtime_ns = file->mtime_ns;
    out->ctime_ns = file->ctime_ns;
    out->btime_ns = file->btime_ns;
}

static int files_stat(int dir, const char *path, int flags, sys_stat *out) {
    sim_world *w;
    if (path[0] == 0 && dir >= 0) {
        sim_open *open;
        const int error = find_open(dir, false, &w, &open);
        if (error == 0) facts(open->file, out);
        return error;
    }
    sim_place_of at;
    const int error = find(dir, path, (flags & AT_SYMLINK_NOFOLLOW) == 0, &w, &at);
    if (error == 0) facts(at.file, out);
    return error;
}

static ssize_t files_readlink(const char *path, char *to, size_t size) {
    sim_world *w;
    sim_place_of at;
    const int error = find(AT_FDCWD, path, false, &w, &at);
    if (error < 0) return error;
    if (!sim_is_link(at.file)) return -EINVAL;
    const size_t n = at.file->size < size ? static_cast<size_t>(at.file->size) : size;
    memcpy(to, at.file->bytes, n);
    return static_cast<ssize_t>(n);
}

static int files_realpath(const char *path, char *to) {
    sim_world *w;
    sim_place_of at;
    int error = find(AT_FDCWD, path, true, &w, &at);
    if (error < 0) return error;
    error = sim_path_of(at.name[0] == 0 ? at.file : at.folder, to);
    if (error < 0 || at.name[0] == 0) return error;
    const size_t n = strlen(to), name = strlen(at.name);
    const bool root = n == 1;
    if (n + name + 2 > SIM_PATH_MAX) return -ENAMETOOLONG;
    if (!root) to[n] = '/';
    memcpy(to + n + (root ? 0 : 1), at.name, name + 1);
    return 0;
}

static uint8_t type_of(const sim_file *file) {
    return sim_is_folder(file) ? DT_DIR : sim_is_link(file) ? DT_LNK : DT_REG;
}

static ssize_t files_read_dir(int fd, void *to, size_t size) {
    sim_world *w;
    sim_open *open;
    const int error = find_open(fd, false, &w, &open);
    if (error < 0) return error;
    const sim_file *folder = open->file;
    if (!sim_is_folder(folder)) return -ENOTDIR;
    if (folder->parent == nullptr) return -ENOENT;
    size_t used = 0;
    for (uint32_t i = 0; i < folder->name_count; i++) {
        const sim_entry *name = &folder->names[i];
        if (name->cookie <= open->position) continue;
        const auto entry_size = static_cast<uint16_t>(SYS_ENTRY_NAME + name->length + 1u);
        if (entry_size > size - used) {
            if (used == 0) return -EINVAL;
            break;
        }
        char *entry = static_cast<char *>(to) + used;
        memset(entry, 0, SYS_ENTRY_NAME);
        memcpy(entry, &name->file->inode, sizeof name->file->inode);
        memcpy(entry + 16, &entry_size, sizeof entry_size);
        entry[18] = static_cast<char>(type_of(name->file));
        memcpy(entry + SYS_ENTRY_NAME, name->text, name->length + 1u);
        used += entry_size;
        open->position = name->cookie;
    }
    traced(w, folder, static_cast<int>(used));
    return static_cast<ssize_t>(used);
}

static int files_access(const char *path, int mode) {
    sim_world *w;
    sim_place_of at;
    const int error = find(AT_FDCWD, path, true, &w, &at);
    if (error < 0) return error;
    // Root may do everything, but run what nobody may.
    const bool runs = sim_is_folder(at.file) || (at.file->mode & 0111) != 0;
    return (mode & 1) != 0 && !runs ? -EACCES : 0;
}

static int set_mode(sim_world *w, sim_file *file, unsigned mode) {
    file->mode = (file->mode & S_IFMT) | (mode & 07777);
    file->ctime_ns = sim_files_now(w);
    return 0;
}
static int files_chmod(const char *path, unsigned mode) {
    sim_world *w;
    sim_place_of at;
    const int error = find(AT_FDCWD, path, true, &w, &at);
    return error < 0 ? error : set_mode(w, at.file, mode);
}
static int files_fchmod(int fd, unsigned mode) {
    sim_world *w;
    sim_open *open;
    const int error = find_open(fd, false, &w, &open);
    return error < 0 ? error : set_mode(w, open->file, mode);
}

static int set_owner(sim_world *w, sim_file *file, unsigned uid, unsigned gid) {
    if (uid != UINT32_MAX) file->uid = uid;
    if (gid != UINT32_MAX) file->gid = gid;
    file->ctime_ns = sim_files_now(w);
    return 0;
}
static int files_chown(const char *path, unsigned uid, unsigned gid, int flags) {
    sim_world *w;
    sim_place_of at;
    const int error = find(AT_FDCWD, path, (flags & AT_SYMLINK_NOFOLLOW) == 0, &w, &at);
    return error < 0 ? error : set_owner(w, at.file, uid, gid);
}
static int files_fchown(int fd, unsigned uid, unsigned gid) {
    sim_world *w;
    sim_open *open;
    const int error = find_open(fd, false, &w, &open);
    return error < 0 ? error : set_owner(w, open->file, uid, gid);
}

static int files_utimes(int fd, const char *path, int64_t atime_ns, int64_t mtime_ns, int flags) {
    sim_world *w;
    sim_open *open = nullptr;
    sim_place_of at;
    const int error = path == nullptr ? find_open(fd, false, &w, &open)
                                      : find(AT_FDCWD, path, (flags & AT_SYMLINK_NOFOLLOW) == 0, &w, &at);
    if (error < 0) return error;
    sim_file *file = path == nullptr ? open->file : at.file;
    if (atime_ns != SYS_TIME_UNKNOWN) file->atime_ns = atime_ns;
    if (mtime_ns != SYS_TIME_UNKNOWN) file->mtime_ns = mtime_ns;
    file->ctime_ns = sim_files_now(w);
    return 0;
}

static int files_clone(int, int) { return -EOPNOTSUPP; }
static ssize_t files_copy_range(int, int, size_t) { return -EOPNOTSUPP; }

static int files_statfs(const char *path, sys_statfs *out) {
    sim_world *w;
    sim_place_of at;
    const int error = find(AT_FDCWD, path, true, &w, &at);
    if (error < 0) return error;
    const uint64_t disk = w->options.disk_bytes != 0 ? static_cast<uint64_t>(w->options.disk_bytes) : uint64_t(1) << 40;
    memset(out, 0, sizeof *out);
    out->block_size = 4096;
    out->blocks = disk / 4096;
    const uint64_t used = (w->files->bytes + 4095) / 4096;
    out->blocks_free = out->blocks_available = used < out->blocks ? out->blocks - used : 0;
    out->files = 1u << 20;
    out->files_free = (1u << 20) - (w->files->inodes < (1u << 20) ? w->files->inodes : (1u << 20));
    out->name_max = SIM_NAME_MAX;
    return 0;
}

const sys_files sys_files_sim = {
    files_open,      files_read,     files_write,    files_read_now, files_sync,     files_stat,      files_truncate, files_ftruncate,
    files_allocate,  files_rename,   files_unlink,   files_mkdir,    files_link,      files_symlink,  files_readlink,
    files_realpath,  files_read_dir, files_chmod,    files_fchmod,   files_chown,     files_fchown,   files_utimes,
    files_access,    files_make_temp, files_make_temp_dir, files_clone, files_copy_range, files_statfs,
};

}
