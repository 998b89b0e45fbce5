/* Processes: started, waited for, signalled.
 * SPDX-License-Identifier: MIT
 *
 * The host program is left alone: no handler of SIGCHLD is installed, and no other child is ever waited for. A child that
 * the library started is reaped by the library in every case: after its end was told, and also when its handle was
 * closed or abandoned, or its loop destroyed, while it ran (it is not killed then; a thread waits for it). If the host
 * reaps it first (waitpid(2) of any child, or SIGCHLD ignored), how it ended is not known: MIO_ECHILD.
 *
 * The child has the descriptors that it was given and no other, every signal at its default and none blocked. Not in
 * simulated worlds (MIO_ENOTSUP). */
#ifndef MIO_PROCESS_H
#define MIO_PROCESS_H

#include <mio/base.h>

/* What becomes a descriptor of the child. */
enum mio_stdio_kind MIO_ENUM_ {
    MIO_STDIO_IGNORE = 0,  /* 0, 1 and 2: /dev/null. Others: closed */
    MIO_STDIO_INHERIT = 1, /* the one of the same number of this process; MIO_EBADF if there is none */
    MIO_STDIO_FD = 2,      /* a copy of `fd`, which stays the program's */
    MIO_STDIO_FILE = 3,    /* `path`, opened by the child with `flags` and `mode` as open(2) does */
    MIO_STDIO_STREAM = 4   /* one end of a socket pair (unix(7), both ways); the other one is given as `stream` */
};

typedef struct mio_stdio {
    enum mio_stdio_kind kind;
    int fd;               /* FD */
    const char *path;     /* FILE */
    int flags;            /* FILE: O_RDONLY, O_WRONLY | O_CREAT | O_APPEND, ... */
    unsigned mode;        /* FILE, when it is created */
    mio_stream_t *stream; /* STREAM: written on success, the program's; on the loop of the process */
} mio_stdio_t;

#define MIO_STDIO_MAX 256 /* descriptors that can be given */

/* Flags of mio_process_options. */
#define MIO_PROCESS_PATH 1u     /* a file without a slash is looked for in PATH: of envp if given, else of this process */
#define MIO_PROCESS_DETACHED 2u /* in a session of its own (setsid(2)) */
#define MIO_PROCESS_UID 4u      /* `uid` counts */
#define MIO_PROCESS_GID 8u      /* `gid` counts */
#define MIO_PROCESS_GROUPS 16u  /* `groups` counts. With UID or GID and without GROUPS a privileged program's child has none */

/* All of it is copied or used up before mio_process_spawn returns. */
typedef struct mio_process_options {
    size_t size;
    const char *file;        /* execve(2); relative to cwd, if that is given */
    const char *const *argv; /* NULL at the end. NULL: {file} */
    const char *const *envp; /* NULL at the end. NULL: this process' */
    const char *cwd;         /* NULL: this process' */
    mio_stdio_t *stdio;      /* descriptors 0 to stdio_count - 1 of the child; 0 to 2 if not given: MIO_STDIO_IGNORE */
    unsigned stdio_count;
    unsigned flags;
    uint32_t uid;
    uint32_t gid;
    const uint32_t *groups;
    unsigned group_count;
} mio_process_options_t;
MIO_DEFINE_INIT_(mio_process_options_t);
#define MIO_PROCESS_OPTIONS_INIT MIO_OPTIONS_INIT_(mio_process_options_t)

/* What of the way to the new program failed. */
enum mio_process_step MIO_ENUM_ {
    MIO_PROCESS_STEP_NONE = 0,
    MIO_PROCESS_STEP_SESSION = 1,   /* setsid */
    MIO_PROCESS_STEP_IDS = 2,       /* setgroups, setgid, setuid */
    MIO_PROCESS_STEP_DIRECTORY = 3, /* chdir */
    MIO_PROCESS_STEP_STDIO = 4,     /* a descriptor, or the opening of a file for it */
    MIO_PROCESS_STEP_EXEC = 5       /* execve */
};

/* How it ended. */
typedef struct mio_process_exit {
    size_t size;
    int error;           /* 0: the program ran and ended, as is said below. MIO_ENOENT, MIO_EACCES, ...: it was never run,
                          * for `step` failed. MIO_ECHILD: it is not known. MIO_ECANCELED: closed before its end */
    int step;            /* enum mio_process_step */
    int status;          /* what it gave to exit(3), 0 to 255; -1: a signal ended it */
    int signal;          /* that signal; 0: none */
    int core_dumped;
    int64_t user_ns;     /* processor time, in user mode and in the kernel: getrusage(2), of it and its reaped children */
    int64_t system_ns;
    int64_t max_rss;     /* bytes, at most resident */
    int64_t minor_faults, major_faults;
    int64_t blocks_in, blocks_out;
    int64_t switches, preemptions; /* voluntary and involuntary context switches */
} mio_process_exit_t;

/* Exactly once, unless the handle is abandoned. *how is valid until it returns. */
typedef void (*mio_process_cb)(mio_process_t *process, const mio_process_exit_t *how, void *arg);

MIO_BEGIN

/* Starts a program. What this process lacks is answered at once; what the file system says (no such file or directory, not
 * permitted, no program) comes by cb, with MIO_PROCESS_STEP_... . The handle is alive until cb has run; it stays open.
 * The streams among `stdio` are written, and *out, on success only.
 * MIO_EINVAL: NULL, no file, no cb, an unknown flag or kind, too many descriptors or a path that is missing. MIO_E2BIG.
 * MIO_EBADF: a descriptor that is not open. MIO_EMFILE, MIO_ENFILE, MIO_ENOMEM. MIO_EAGAIN: too many processes or
 * threads. MIO_ENOTSUP: a simulated world. MIO_ESHUTDOWN, MIO_EPERM. */
MIO_API MIO_CHECK_RESULT int mio_process_spawn(mio_loop_t *loop, const mio_process_options_t *options, mio_process_cb cb,
                                               void *arg, mio_process_t **out);

/* Its number; of a child that was reaped the number may be another process' by now. 0: NULL. */
MIO_API int64_t mio_process_pid(const mio_process_t *process);

/* Sends a signal (kill(2)); 0: only asks whether it is there. Never to another process that has its number by now.
 * MIO_ESRCH: it has ended. MIO_EINVAL: no such signal. MIO_EPERM: it runs as another user, or a fork's child.
 * MIO_EBADF. */
MIO_API int mio_process_kill(mio_process_t *process, int number);

MIO_END

#endif
