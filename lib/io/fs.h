// Between the files of file operations: what a request's job holds (io/fs.cc, io/fs_told.cc), and what takes more than
// one call of the kernel (io/fs_tree.cc).
#pragma once

#include "core/fs_call.h"
#include "core/job.h"

#include <string.h>

namespace mio {

// The payload of a job; behind it: pieces, buffers, room for what comes out, paths.
struct alignas(16) fs_work {
    fs_call call;      // first: who does it looks for it there
    mio_buf_t scratch; // what does not fit into a job
    mio_buf_t *bufs;   // of a read or write
    unsigned buf_count;
};
static_assert(sizeof(fs_work) % 16 == 0, "what lies behind it is aligned");

extern const job_kind fs_kinds[]; // by fs_op (io/fs_told.cc)

// Of an entry of read_dir (base/sys_files.h): they are not aligned.
inline uint16_t fs_entry_size(const char *entry) {
    uint16_t size;
    memcpy(&size, entry + 16, sizeof size);
    return size;
}
inline uint64_t fs_entry_inode(const char *entry) {
    uint64_t inode;
    memcpy(&inode, entry, sizeof inode);
    return inode;
}
inline uint8_t fs_entry_type(const char *entry) { return static_cast<uint8_t>(entry[18]); }

int64_t fs_tree_make(const sys_files *files, fs_call *call);
int64_t fs_tree_remove(const sys *calls, fs_call *call);
int64_t fs_tree_copy(const sys *calls, fs_call *call);

}
