// Files of a simulated world: one tree for all its nodes, in memory, as a file system that they share. Files, folders,
// symbolic and other links; no devices, no FIFOs. Whoever asks is root with the umask 022, in the folder "/".
//
//   sim_file    an inode: lives while a folder names it or a descriptor has it open
//   sim_entry    an entry of a folder
//   sim_open    what a descriptor refers to: the file, how it was opened, the position
//
// Times are the world's calendar (mio_sim_wall_ns). Misfortune is drawn from a generator of its own.
#pragma once

#include "backend/sim.h"
#include "base/sys_files.h"

namespace mio {

constexpr int SIM_FILE_FD_BASE = SIM_FD_BASE + (1 << 24); // descriptors from here on are of files
constexpr uint32_t SIM_FILE_FDS_MAX = 1 << 20;
constexpr size_t SIM_NAME_MAX = 255;
constexpr size_t SIM_PATH_MAX = 4096;

struct sim_file;

struct sim_entry {
    char *text; // its own
    uint16_t length;
    uint64_t cookie; // in order of creation: the position of a folder that is being read
    sim_file *file;
};

struct sim_file {
    link all;
    uint64_t inode;
    uint32_t mode, uid, gid, links;
    uint32_t opens;
    int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
    char *bytes; // of a file, or where a symbolic link leads
    uint64_t size, capacity;
    sim_entry *names; // of a folder, in order of creation
    uint32_t name_count, name_capacity;
    sim_file *parent; // of a folder; itself: the root; nullptr: it is gone
};

struct sim_open {
    sim_file *file;
    int flags;
    uint64_t position;
};

struct sim_files {
    link all;
    sim_file *root;
    sim_open **open;
    uint32_t slots, count;
    uint64_t inodes, cookies;
    uint64_t bytes; // of all files
    uint64_t random;
};

inline bool sim_is_file(int fd) { return fd >= SIM_FILE_FD_BASE; }
int sim_file_close(sim_world *w, int fd);
int sim_file_facts(sim_world *w, int fd, struct fd_facts *out);
uint32_t sim_files_open(const sim_world *w); // descriptors
void sim_files_free(sim_world *w);           // the world ends

// --- sim_files.cc ---------------------------------------------------------------------------------------------------

sim_files *sim_files_of(sim_world *w); // made at first use, with "/" and "/tmp"; nullptr: no memory
sim_open *sim_open_of(sim_world *w, int fd);
int sim_open_create(sim_world *w, sim_file *file, int flags); // the descriptor; -EMFILE, -ENOMEM

// Where a path leads. file: what is there, or nullptr; then folder and name say where it would be. The last component
// is not followed if it is a symbolic link and follow is false.
struct sim_place_of {
    sim_file *folder;
    sim_file *file;
    char name[SIM_NAME_MAX + 1]; // "": the root, or a path that ends in "." or ".."
    bool slash;                  // the path ends in one: only a folder will do
};
int sim_resolve(sim_world *w, int dir, const char *path, bool follow, sim_place_of *out); // or the error; -ENOENT too

sim_file *sim_file_create(sim_world *w, uint32_t mode); // named by nobody; nullptr: no memory
void sim_file_settle(sim_world *w, sim_file *file);     // frees it if nobody has it any more
int sim_entry_add(sim_world *w, sim_file *folder, const char *name, sim_file *file); // -ENOMEM
sim_entry *sim_entry_find(const sim_file *folder, const char *name, size_t length);
void sim_entry_remove(sim_world *w, sim_file *folder, sim_entry *name); // does not free the file
int sim_file_resize(sim_world *w, sim_file *file, uint64_t size); // -ENOSPC, -ENOMEM; zeroes what is new
int sim_path_of(const sim_file *folder, char *to); // of PATH_MAX bytes; -ENOENT: it is gone
int64_t sim_files_now(const sim_world *w);
bool sim_is_folder(const sim_file *file);
bool sim_is_link(const sim_file *file);

extern const sys_files sys_files_sim; // sim_files_sys.cc

}
