// Files in memory: what there is, and by which names. What a call on them means is sim_files_sys.cc's.
//
// A path is walked component by component, symbolic links by putting what they say in front of the rest, at most 40 of
// them, as Linux does. Nothing here waits or fails by chance.

#include "backend/sim_files.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

namespace mio {

constexpr unsigned LINKS_MAX = 40;

bool sim_is_folder(const sim_file *file) { return (file->mode & S_IFMT) == S_IFDIR; }
bool sim_is_link(const sim_file *file) { return (file->mode & S_IFMT) == S_IFLNK; }

static sim_file *file_of_all(link *at) { return reinterpret_cast<sim_file *>(at); }

int64_t sim_files_now(const sim_world *w) {
    return mio_sim_wall_ns(reinterpret_cast<const struct mio_sim *>(w));
}

// --- life -----------------------------------------------------------------------------------------------------------

sim_file *sim_file_create(sim_world *w, uint32_t mode) {
    sim_files *files = sim_files_of(w);
    auto *file = static_cast<sim_file *>(files == nullptr ? nullptr : sim_memory_alloc(sizeof(sim_file)));
    if (file == nullptr) return nullptr;
    memset(static_cast<void *>(file), 0, sizeof *file);
    link_before(&files->all, &file->all);
    file->inode = ++files->inodes;
    file->mode = mode;
    file->atime_ns = file->mtime_ns = file->ctime_ns = file->btime_ns = sim_files_now(w);
    return file;
}

static void file_free(sim_world *w, sim_file *file) {
    link_remove(&file->all);
    w->files->bytes -= file->size;
    for (uint32_t i = 0; i < file->name_count; i++) sim_memory_release(file->names[i].text, file->names[i].length + 1u);
    sim_memory_release(file->names, file->name_capacity * sizeof(sim_entry));
    sim_memory_release(file->bytes, file->capacity);
    sim_memory_release(file, sizeof *file);
}

void sim_file_settle(sim_world *w, sim_file *file) {
    if (file->links == 0 && file->opens == 0) file_free(w, file);
}

sim_files *sim_files_of(sim_world *w) {
    if (w->files != nullptr) return w->files;
    auto *files = static_cast<sim_files *>(sim_memory_alloc(sizeof(sim_files)));
    if (files == nullptr) return nullptr;
    memset(static_cast<void *>(files), 0, sizeof *files);
    link_init(&files->all);
    files->random = sim_mixed(w->options.seed ^ 0x66696c6573u);
    w->files = files;
    sim_file *root = sim_file_create(w, S_IFDIR | 0755);
    sim_file *tmp = root == nullptr ? nullptr : sim_file_create(w, S_IFDIR | 01777);
    if (tmp != nullptr && sim_entry_add(w, root, "tmp", tmp) == 0) {
        root->links = 3;
        tmp->links = 2;
        root->parent = tmp->parent = files->root = root;
        return files;
    }
    sim_files_free(w);
    return nullptr;
}

void sim_files_free(sim_world *w) {
    sim_files *files = w->files;
    if (files == nullptr) return;
    for (uint32_t i = 0; i < files->slots; i++) sim_memory_release(files->open[i], sizeof(sim_open));
    sim_memory_release(files->open, files->slots * sizeof(sim_open *));
    while (!link_alone(&files->all)) file_free(w, file_of_all(files->all.next));
    sim_memory_release(files, sizeof *files);
    w->files = nullptr;
}

// --- bytes ----------------------------------------------------------------------------------------------------------

int sim_file_resize(sim_world *w, sim_file *file, uint64_t size) {
    if (size > INT64_MAX / 4) return -EFBIG;
    const uint64_t disk = static_cast<uint64_t>(w->options.disk_bytes);
    if (size > file->size && disk != 0 && w->files->bytes - file->size + size > disk) return -ENOSPC;
    if (size > file->capacity) {
        const uint64_t capacity = size < 2 * file->capacity ? 2 * file->capacity : size;
        auto *bytes = static_cast<char *>(sim_memory_resize(file->bytes, file->capacity, capacity));
        if (bytes == nullptr) return -ENOSPC; // the memory of the world is its disk
        file->bytes = bytes;
        file->capacity = capacity;
    }
    if (size > file->size) memset(file->bytes + file->size, 0, size - file->size);
    w->files->bytes += size - file->size;
    file->size = size;
    return 0;
}

// --- names ----------------------------------------------------------------------------------------------------------

sim_entry *sim_entry_find(const sim_file *folder, const char *name, size_t length) {
    for (uint32_t i = 0; i < folder->name_count; i++) {
        sim_entry *one = &folder->names[i];
        if (one->length == length && memcmp(one->text, name, length) == 0) return one;
    }
    return nullptr;
}

int sim_entry_add(sim_world *w, sim_file *folder, const char *name, sim_file *file) {
    if (folder->name_count == folder->name_capacity) {
        const uint32_t capacity = folder->name_capacity == 0 ? 8 : folder->name_capacity * 2;
        auto *names = static_cast<sim_entry *>(sim_memory_resize(folder->names, folder->name_capacity * sizeof(sim_entry),
                                                                capacity * sizeof(sim_entry)));
        if (names == nullptr) return -ENOMEM;
        folder->names = names;
        folder->name_capacity = capacity;
    }
    const size_t length = strlen(name);
    auto *text = static_cast<char *>(sim_memory_alloc(length + 1));
    if (text == nullptr) return -ENOMEM;
    memcpy(text, name, length + 1);
    folder->names[folder->name_count++] = sim_entry{text, static_cast<uint16_t>(length), ++w->files->cookies, file};
    folder->mtime_ns = folder->ctime_ns = sim_files_now(w);
    return 0;
}

void sim_entry_remove(sim_world *w, sim_file *folder, sim_entry *name) {
    sim_memory_release(name->text, name->length + 1u);
    const auto at = static_cast<uint32_t>(name - folder->names);
    folder->name_count--;
    memmove(name, name + 1, (folder->name_count - at) * sizeof(sim_entry));
    folder->mtime_ns = folder->ctime_ns = sim_files_now(w);
}

// --- paths ----------------------------------------------------------------------------------------------------------

// The folder that a relative path begins in.
static int walk_begin(sim_world *w, int dir, const char *path, sim_file **at) {
    sim_files *files = sim_files_of(w);
    if (files == nullptr) return -ENOMEM;
    *at = files->root;
    if (path[0] == '/' || dir == AT_FDCWD) return 0;
    const sim_open *open = sim_open_of(w, dir);
    if (open == nullptr) return -EBADF;
    if (!sim_is_folder(open->file)) return -ENOTDIR;
    *at = open->file;
    return 0;
}

static void place_here(sim_place_of *out, sim_file *at) {
    out->folder = at->parent;
    out->file = at;
    out->name[0] = 0;
}

// What the link says, and then the rest. -ENAMETOOLONG: together they do not fit.
static int walk_link(const sim_file *link, const char *rest, char *path) {
    const size_t n = strlen(rest);
    if (link->size + n + 1 > SIM_PATH_MAX) return -ENAMETOOLONG;
    memmove(path + link->size, rest, n + 1);
    memcpy(path, link->bytes, link->size);
    return 0;
}

static int walk(sim_world *w, int dir, char *path, bool follow, sim_place_of *out) {
    sim_file *at;
    int error = walk_begin(w, dir, path, &at);
    if (error < 0) return error;
    place_here(out, at);
    unsigned links = 0;
    const char *rest = path;
    for (;;) {
        while (*rest == '/') rest++;
        if (*rest == 0) return 0;
        if (out->file == nullptr) return -ENOENT;
        if (!sim_is_folder(out->file)) return -ENOTDIR;
        at = out->file;
        const size_t length = strcspn(rest, "/");
        const char *behind = rest + length;
        const char *next = behind + strspn(behind, "/");
        if (length > SIM_NAME_MAX) return -ENAMETOOLONG;
        if (at->parent == nullptr) return -ENOENT; // a folder that was removed has nothing
        if (length == 1 && rest[0] == '.') {
            place_here(out, at);
        } else if (length == 2 && rest[0] == '.' && rest[1] == '.') {
            place_here(out, at->parent);
        } else {
            const sim_entry *name = sim_entry_find(at, rest, length);
            out->folder = at;
            out->file = name == nullptr ? nullptr : name->file;
            memcpy(out->name, rest, length);
            out->name[length] = 0;
            const bool last = *next == 0;
            if (out->file != nullptr && sim_is_link(out->file) && (!last || follow || *behind == '/')) {
                if (++links > LINKS_MAX) return -ELOOP;
                const bool absolute = out->file->bytes[0] == '/';
                error = walk_link(out->file, behind, path);
                if (error < 0) return error;
                place_here(out, absolute ? w->files->root : at);
                rest = path;
                continue;
            }
        }
        if (*next == 0 && *behind == '/') out->slash = true;
        rest = behind;
    }
}

int sim_resolve(sim_world *w, int dir, const char *path, bool follow, sim_place_of *out) {
    char copy[SIM_PATH_MAX];
    memset(out, 0, sizeof *out);
    const size_t n = strlen(path);
    if (n == 0) return -ENOENT;
    if (n >= sizeof copy) return -ENAMETOOLONG;
    memcpy(copy, path, n + 1);
    const int error = walk(w, dir, copy, follow, out);
    if (error < 0) return error;
    if (out->file != nullptr && out->slash && !sim_is_folder(out->file)) return -ENOTDIR;
    return 0;
}

int sim_path_of(const sim_file *folder, char *to) {
    char reversed[SIM_PATH_MAX];
    size_t at = sizeof reversed - 1;
    reversed[at] = 0;
    while (folder->parent != folder) {
        const sim_file *parent = folder->parent;
        if (parent == nullptr) return -ENOENT;
        const sim_entry *name = parent->names;
        while (name != parent->names + parent->name_count && name->file != folder) name++;
        mio_assert(name != parent->names + parent->name_count);
        if (name->length + 1u > at) return -ENAMETOOLONG;
        at -= name->length;
        memcpy(reversed + at, name->text, name->length);
        reversed[--at] = '/';
        folder = parent;
    }
    if (reversed[at] == 0) reversed[--at] = '/';
    memcpy(to, reversed + at, sizeof reversed - at);
    return 0;
}

// --- descriptors ----------------------------------------------------------------------------------------------------

sim_open *sim_open_of(sim_world *w, int fd) {
    if (w == nullptr || w->files == nullptr || !sim_is_file(fd)) return nullptr;
    const auto slot = static_cast<uint32_t>(fd - SIM_FILE_FD_BASE);
    return slot < w->files->slots ? w->files->open[slot] : nullptr;
}

uint32_t sim_files_open(const sim_world *w) { return w->files == nullptr ? 0 : w->files->count; }

static int open_grow(sim_files *files) {
    if (files->slots >= SIM_FILE_FDS_MAX) return -EMFILE;
    const uint32_t slots = files->slots == 0 ? 16 : files->slots * 2;
    auto **open = static_cast<sim_open **>(
        sim_memory_resize(files->open, files->slots * sizeof(sim_open *), slots * sizeof(sim_open *)));
    if (open == nullptr) return -ENOMEM;
    for (uint32_t i = files->slots; i < slots; i++) open[i] = nullptr;
    files->open = open;
    files->slots = slots;
    return 0;
}

int sim_open_create(sim_world *w, sim_file *file, int flags) {
    sim_files *files = w->files;
    if (sim_fds_exhausted(w)) return -EMFILE;
    uint32_t slot = 0;
    while (slot < files->slots && files->open[slot] != nullptr) slot++;
    const int error = slot == files->slots ? open_grow(files) : 0;
    if (error < 0) return error;
    auto *open = static_cast<sim_open *>(sim_memory_alloc(sizeof(sim_open)));
    if (open == nullptr) return -ENOMEM;
    *open = sim_open{file, flags, 0};
    file->opens++;
    files->open[slot] = open;
    files->count++;
    return SIM_FILE_FD_BASE + static_cast<int>(slot);
}

int sim_file_facts(sim_world *w, int fd, struct fd_facts *out) {
    const sim_open *open = sim_open_of(w, fd);
    if (open == nullptr) return -EBADF;
    *out = fd_facts{open->file->mode, open->flags, false, 0};
    return 0;
}

int sim_file_close(sim_world *w, int fd) {
    sim_open *open = sim_open_of(w, fd);
    if (open == nullptr) return -EBADF;
    sim_file *file = open->file;
    w->files->open[fd - SIM_FILE_FD_BASE] = nullptr;
    w->files->count--;
    sim_memory_release(open, sizeof *open);
    sim_trace(w, SIM_DID_CLOSE, static_cast<uint32_t>(file->inode), fd - SIM_FILE_FD_BASE);
    file->opens--;
    sim_file_settle(w, file);
    return 0;
}

}
