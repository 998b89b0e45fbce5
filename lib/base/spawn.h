// A new process: everything that is to be done between fork and exec, told as data, because only calls that are safe in
// a signal handler may be made there. Asked for through sys.spawn; done by spawn_process.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

namespace mio {

enum class spawn_fd_kind : uint8_t { closed, null, copy, file };

struct spawn_fd { // descriptor i of the child
    spawn_fd_kind kind;
    int fd;           // copy
    const char *path; // file, with flags and mode of open(2)
    int flags;
    unsigned mode;
};

constexpr unsigned SPAWN_FDS_MOST = 256;

struct spawn_failure;

struct spawn_plan {
    const char *file;
    const char *path; // the list of directories to look in for it; nullptr: file is a path
    char *const *argv;
    char *const *envp;
    const char *cwd; // nullptr: stays
    const spawn_fd *fds;
    unsigned fd_count; // at most SPAWN_FDS_MOST
    bool detached, set_uid, set_gid, set_groups;
    bool drop_groups; // all of them, as far as this process may
    uid_t uid;
    gid_t gid;
    const gid_t *groups;
    unsigned group_count;
    // Where a failure is told, if it comes to that:
    int report;                // a pipe's writing end, closed by exec; -1: spawn_is_seen says that none is needed
    spawn_failure *seen;       // and then here, before spawn_process returns; zeroes so far
};

enum spawn_step : int { SPAWN_SESSION = 1, SPAWN_IDS, SPAWN_DIRECTORY, SPAWN_STDIO, SPAWN_EXEC };

struct spawn_failure {
    spawn_step step;
    int error; // positive
};

// How a child ended.
struct spawn_end {
    int status; // -1: a signal
    int signal;
    bool core_dumped;
    struct rusage usage;
};

// The child's process number, or -errno. The caller may be held until exec was done or has failed.
int spawn_process(const spawn_plan *plan);
// The caller will be held, and the child fails in memory that it shares with it.
bool spawn_is_seen(const spawn_plan *plan);

int64_t spawn_max_rss(const struct rusage *usage); // bytes

}
