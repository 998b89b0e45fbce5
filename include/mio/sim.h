/* Simulated worlds: virtual time, an in-memory network and seeded misfortune, for testing programs.
 * SPDX-License-Identifier: MIT
 *
 * Loops created with options.sim = world (or with backend AUTO or SIM while the world is the thread's current one)
 * live in it. mio_sim_run drives them all on one thread; time advances only when every one of them is idle. The same
 * seed and the same program give the same run, told by the trace hash. A world is used by the thread that created
 * it only. Where a loop is never idle (an idle hook, posts that post) time would stand still: after 1,000 polls at one
 * instant each further one takes a microsecond. A run that nothing can ever wake ends with MIO_ETIMEDOUT, also
 * mio_loop_run's. Descriptors are numbers from 1 << 30 on, known to this world only. See docs/simulation.md. */
#ifndef MIO_SIM_H
#define MIO_SIM_H

#include <mio/addr.h>
#include <mio/base.h>

/* Chances are in parts per million of each occasion. Zero is the default: no misfortune, but completions and loops in
 * seeded order and latency of 50 to 150 microseconds. */
typedef struct mio_sim_options {
    size_t size;
    uint64_t seed;
    uint32_t short_read_ppm;    /* a read delivers fewer bytes than are there */
    uint32_t short_write_ppm;   /* the kernel accepts fewer bytes than it could */
    uint32_t refuse_ppm;        /* a connect is refused */
    uint32_t reset_ppm;         /* per transfer: the connection is reset */
    uint32_t accept_error_ppm;  /* accept fails: MIO_ECONNABORTED, MIO_EMFILE or MIO_ENFILE */
    uint32_t no_memory_ppm;     /* an allocation of a loop in this world fails */
    int64_t latency_min_ns;     /* one way; both 0: 50 us to 150 us */
    int64_t latency_max_ns;
    uint32_t socket_buffer;     /* bytes in flight per direction; default 65,536 */
    uint32_t call_error_ppm;    /* a socket, connect, send or receive fails for want of something, and changes nothing:
                                 * MIO_ENOMEM, MIO_ENOBUFS; socket also MIO_EMFILE, MIO_ENFILE */
    uint32_t loss_ppm;          /* a segment is lost: it comes when TCP sends it again, after 200 ms and more */
    uint32_t late_cancel_ppm;   /* a cancel takes up to 10 ms, and the operation's own result may be faster */
    int64_t bandwidth;          /* bytes per second in each direction of each connection; 0: no limit */
    uint32_t file_error_ppm;    /* a call on files fails: MIO_EIO, or, where space is needed, MIO_ENOSPC */
    int64_t disk_bytes;         /* bytes that all files may have together, then MIO_ENOSPC; 0: no limit */
    uint32_t duplicate_ppm;     /* a datagram comes twice. (loss_ppm loses datagrams for good) */
    uint32_t reorder_ppm;       /* a datagram is up to 10 ms late, and others overtake it; else they come in order */
    uint32_t datagram_max;      /* bytes; a longer datagram is MIO_EMSGSIZE; default 65,507 */
} mio_sim_options_t;
MIO_DEFINE_INIT_(mio_sim_options_t);
#define MIO_SIM_OPTIONS_INIT MIO_OPTIONS_INIT_(mio_sim_options_t)

/* --- faults ---------------------------------------------------------------------------------------------------------
 * What happens in a world at a time of its own, written by the program (mio_sim_schedule) or drawn from a seed
 * (mio_sim_draw). Between `a` and `b` means in both directions, unless the kind or one_way says otherwise. Where several
 * of one kind meet, the one that began last counts (MIO_SIM_PARTITION, MIO_SIM_BLACK_HOLE, MIO_SIM_PAUSE: any). */
enum mio_sim_kind MIO_ENUM_ {
    MIO_SIM_PARTITION = 1, /* nothing passes between a and b (one_way: from a to b). TCP sends again after 200 ms, 400 ms,
                            * ... 2 min and gives up with MIO_ETIMEDOUT after 15 minutes; a connect after 127 s */
    MIO_SIM_BLACK_HOLE,    /* as a partition; and connections that it finds between a and b never recover: they take what
                            * fits into a socket's buffer, and nothing of it ever arrives */
    MIO_SIM_HEAL,          /* ends the faults of a and b that last, of every kind but PAUSE, FAIL and the limits; with
                            * neither side given all such faults of the world */
    MIO_SIM_RESET,         /* connections between a and b are reset, on both ends */
    MIO_SIM_LATENCY,       /* latency_min_ns to latency_max_ns between a and b, one way */
    MIO_SIM_BANDWIDTH,     /* `bandwidth` between a and b, as in mio_sim_options */
    MIO_SIM_LOSS,          /* `ppm` of the segments between a and b are lost */
    MIO_SIM_PAUSE,         /* loops of a.nodes take no turn, as a stopped process; the world goes on */
    MIO_SIM_FAIL,          /* `call` fails with `error`, `ppm` of the time (0: always), on sockets of a (connected to b) */
    MIO_SIM_FD_LIMIT,      /* `room` more descriptors than there are when it begins, then MIO_EMFILE */
    MIO_SIM_MEMORY_LIMIT,  /* loops of the world may allocate `room` bytes more than they have when it begins */
    MIO_SIM_CLOCK_JUMP,    /* time jumps forward by jump_ns, the loops' clocks with it: what became due comes late */
    MIO_SIM_WALL_JUMP,     /* mio_sim_wall_ns jumps by jump_ns, forward or back; no loop looks at it */
    MIO_SIM_DUPLICATE,     /* `ppm` of the datagrams between a and b come twice */
    MIO_SIM_REORDER,       /* `ppm` of the datagrams between a and b are up to 10 ms late */
    MIO_SIM_SIGNAL         /* no misfortune: signal number `signal` is delivered once to the loops of a.nodes, to each
                            * handle that watches it (<mio/signal.h>); where none does, nothing happens */
};

enum mio_sim_call MIO_ENUM_ { /* of MIO_SIM_FAIL */
    MIO_SIM_CALL_SOCKET = 1, /* has no sides */
    MIO_SIM_CALL_ACCEPT,
    MIO_SIM_CALL_CONNECT,
    MIO_SIM_CALL_SEND,
    MIO_SIM_CALL_RECEIVE,
    MIO_SIM_CALL_FILE /* any of mio/fs.h but close; has no sides */
};

/* Sockets, by what is given: all of it must fit. Nothing given: every one. */
typedef struct mio_sim_side {
    uint64_t nodes;         /* bit n: those of loops on node n, mio_sim_node; 0: every one */
    const mio_addr_t *addr; /* the address of their own end; its port does not matter. NULL: every one */
    int port;               /* of their own end; 0: every one */
} mio_sim_side_t;

typedef struct mio_sim_fault {
    size_t size;
    int kind;         /* enum mio_sim_kind */
    int one_way;      /* PARTITION, LATENCY, BANDWIDTH, LOSS, DUPLICATE, REORDER: from a to b only */
    int64_t after_ns; /* begins so long after it was scheduled */
    int64_t for_ns;   /* and ends so long after that; 0: not by itself. Of those that last */
    mio_sim_side_t a, b;
    int64_t latency_min_ns, latency_max_ns;
    int64_t bandwidth;
    int64_t room;
    int64_t jump_ns;
    uint32_t ppm;
    int call;         /* enum mio_sim_call */
    int error;
    int signal;
} mio_sim_fault_t;
MIO_DEFINE_INIT_(mio_sim_fault_t);
#define MIO_SIM_FAULT_INIT MIO_OPTIONS_INIT_(mio_sim_fault_t)

/* What mio_sim_draw draws from. */
typedef struct mio_sim_draw_options {
    size_t size;
    uint32_t kinds;     /* bit k: mio_sim_kind k. 0: all of the network's (PARTITION, BLACK_HOLE, RESET, LATENCY,
                         * BANDWIDTH, LOSS) and PAUSE. MIO_SIM_HEAL is not drawn: what lasts ends by itself;
                         * nor is MIO_SIM_SIGNAL */
    uint64_t nodes;     /* bit n: node n takes part; 0: nodes 0 and 1 */
    int64_t within_ns;  /* every fault has begun and ended by then; default 10 s */
    int64_t longest_ns; /* of one fault; default: a quarter of within_ns */
} mio_sim_draw_options_t;
MIO_DEFINE_INIT_(mio_sim_draw_options_t);
#define MIO_SIM_DRAW_OPTIONS_INIT MIO_OPTIONS_INIT_(mio_sim_draw_options_t)

#define MIO_SIM_TEXT_MAX 384 /* bytes that mio_sim_format writes at most, with its NUL */

/* Does the run fail with these alone? Not 0: it does. */
typedef int (*mio_sim_fails_cb)(const unsigned *list, unsigned n, void *arg);

MIO_BEGIN

/* A world; it becomes the thread's current one. options may be NULL. MIO_EINVAL, MIO_E2BIG, MIO_ENOMEM; MIO_EBUSY: the
 * thread has a current world. */
MIO_API MIO_CHECK_RESULT int mio_sim_create(mio_sim_t **out, const mio_sim_options_t *options);

/* Runs turns of its loops in seeded order until none is alive (0), every loop that is alive was stopped (MIO_STOPPED),
 * virtual time has advanced by limit_ns (MIO_ETIMEDOUT; also, with MIO_FOREVER, when nothing can ever happen any more),
 * or a loop failed. MIO_EINVAL: NULL, a negative limit. MIO_EBUSY: from a callback. MIO_EPERM: another thread. */
MIO_API int mio_sim_run(mio_sim_t *world, int64_t limit_ns);

/* A number that depends on everything that happened in this world so far. */
MIO_API uint64_t mio_sim_trace_hash(const mio_sim_t *world);
MIO_API int64_t mio_sim_now_ns(const mio_sim_t *world);
MIO_API uint64_t mio_sim_random(mio_sim_t *world); /* from the seed: for the program's own choices */

/* The time of day in this world, nanoseconds since 1970: 2020 began when the world did. For programs that would look
 * at the real one. 0: NULL. */
MIO_API int64_t mio_sim_wall_ns(const mio_sim_t *world);

/* Descriptors that exist in this world now; 0 after a clean end. MIO_EINVAL: NULL. */
MIO_API int mio_sim_open_fds(const mio_sim_t *world);

/* The node that a loop of a world lives on, 0 to 63: the machine, as faults see it. By itself each loop has its own, in
 * order of creation, and the 65th begins again at 0. mio_sim_set_node puts it on another; what it has opened goes along
 * as it is used. MIO_EINVAL: NULL, a loop of no world, no such node. */
MIO_API int mio_sim_node(const mio_loop_t *loop);
MIO_API int mio_sim_set_node(mio_loop_t *loop, int node);

/* Adds a fault to the world's schedule; all of it is copied. Legal at any time, also in callbacks. What takes no time
 * (after_ns 0) happens before the next turn. MIO_EINVAL: NULL, an unknown kind, call or one that cannot fail so, a time
 * or an amount out of range, a for_ns for what does not last. MIO_E2BIG, MIO_ENOMEM. MIO_EPERM: another thread. */
MIO_API MIO_CHECK_RESULT int mio_sim_schedule(mio_sim_t *world, const mio_sim_fault_t *fault);

/* The fault number `index` of those that the seed holds; the same arguments give the same fault, so that a run may be
 * repeated with some of them left out. It is not scheduled, and no world is asked. out->size must be set, as
 * MIO_SIM_FAULT_INIT does. MIO_EINVAL: NULL, a kind or a time out of range. MIO_E2BIG. [any thread] */
MIO_API MIO_CHECK_RESULT int mio_sim_draw(mio_sim_fault_t *out, uint64_t seed, unsigned index,
                                          const mio_sim_draw_options_t *options);

/* One line about a fault, for people. Returns its length; MIO_ENOBUFS: size is too small; MIO_EINVAL: NULL, no such
 * kind. MIO_E2BIG. [any thread] */
MIO_API int mio_sim_format(const mio_sim_fault_t *fault, char *text, size_t size);

/* Looks for a shorter list that still fails: leaves out halves, quarters, ... single numbers (the indices of faults, or
 * anything else that a run can do without), until no one of those left can be. The list keeps its order; `fails` is
 * called with the first n and may do anything, run worlds above all. Returns how many are left at the beginning of the
 * list; MIO_ENOENT: the whole list does not fail, and is as it was. MIO_EINVAL: NULL. [any thread] */
MIO_API int mio_sim_shrink(unsigned *list, unsigned n, mio_sim_fails_cb fails, void *arg);

/* The resolver of a world knows "localhost" (::1 and 127.0.0.1), and what it is told here: addr is one more address of
 * host, in this order, its port ignored; of several names that an address has, the first one told answers for it. NULL:
 * host is there and has none (MIO_EAI_NODATA). mio_sim_name_fails: asking for host ends with error, whatever else it has
 * (MIO_EAI_AGAIN, MIO_EAI_FAIL, ...; 0: no longer). mio_sim_forget_name: all of host goes. Names compare without regard
 * to case and to a dot at the end. A question gets the answer of the moment at which it is answered.
 * MIO_EINVAL: NULL, no host name (mio/resolve.h), an address that is neither IPv4 nor IPv6, an error > 0. MIO_ENOMEM.
 * MIO_ENOENT: forget an unknown name. MIO_EPERM: another thread. */
MIO_API MIO_CHECK_RESULT int mio_sim_add_name(mio_sim_t *world, const char *host, const mio_addr_t *addr);
MIO_API MIO_CHECK_RESULT int mio_sim_name_fails(mio_sim_t *world, const char *host, int error);
MIO_API int mio_sim_forget_name(mio_sim_t *world, const char *host);

/* Frees the world with all that is left in it. MIO_EBUSY: a loop lives in it, or it is run. MIO_EPERM: another thread.
 * NULL: 0. */
MIO_API int mio_sim_destroy(mio_sim_t *world);

MIO_END

#endif
