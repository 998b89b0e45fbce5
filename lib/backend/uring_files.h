// File operations in the ring: what of them the ring of this kernel takes, and what becomes of it. They belong to no
// descriptor's entry (closes and opens of any number may be under way), so each has a place of its own here, and its
// token names the place and the place's generation.
#pragma once

#include "core/fs_call.h"
#include "core/job.h"

struct io_uring_cqe;

namespace mio {

struct uring_state;

//  wanted ---build---> in the kernel ---completion---> result, or wanted again (a short write), or to the workers
//     |                    |
//     |                    +--early end of an abandonable one---> nobody's: what it brings is disposed of
//     +--early end---> ends with the next build
//
// A carrier knows where it is by its result: 0 wanted, -1 wanted no more, else its place's number + 1.
struct uring_file {
    loose_request *req; // nullptr: nobody's any more, or the place is free
    job *work;          // nullptr: the place is free
    uint32_t generation;
    uint32_t next_free; // number + 1; 0: none
    bool cancel;        // is to be cancelled in the kernel
    bool cancelled;     // was asked to end
    bool parting;       // is nobody's as soon as its cancel is the kernel's
};

constexpr uint32_t URING_FILES_MAX = 1024; // in the kernel at once; the others wait

struct uring_files {
    queue<request> wanted;
    uring_file *all;     // URING_FILES_MAX; nullptr: not needed yet
    uint32_t used;       // places that were ever used
    uint32_t first_free; // number + 1; 0: none
    uint32_t out;        // in the kernel
    uint32_t cancels;    // places with cancel
    uint32_t partings;   // places with parting
    bool given_up;       // somebody is wanted no more
    job *buried;         // nobody's, in a ring that was left behind and lives on
    uint64_t opcodes;    // bit IORING_OP_...: the kernel knows it
    bool quiet_writes;   // and has taken a write that must not raise SIGPIPE
};

// The ring has it from now on; false: it takes no such operation.
bool uring_file_submit(loop *l, uring_state *u, request *carrier);
// An early end of what the ring has.
void uring_file_cancel(loop *l, uring_state *u, request *carrier);
// Into the next enter, as far as there is space.
void uring_files_build(loop *l, uring_state *u);
// After an enter, and what it brought.
void uring_files_part(loop *l, uring_state *u);
inline bool uring_files_wait(const uring_files *f) { return !queue_empty(f->wanted) || f->cancels != 0; }
// Built and not taken by the kernel: wanted again.
void uring_file_unbuilt(uring_state *u, uint64_t token);
void uring_file_complete(loop *l, uring_state *u, const struct io_uring_cqe *cqe);
// The ring is gone and the kernel has let go of all: what was in it has ended, nobody knows how. again: what was not in
// it is done by the next ring, else it ends, too.
void uring_files_uproot(loop *l, uring_state *u, bool again);
// Whether somebody waits for something that is in the kernel.
bool uring_files_awaited(const uring_files *f);
// The ring is gone, and what nobody waits for goes on in it, until its grave speaks.
void uring_files_bury(uring_files *f);
void uring_files_exhume(uring_files *f);
void uring_files_close(loop *l, uring_state *u, bool in_child);

}
