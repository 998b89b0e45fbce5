// Files: reads of 4 KiB that are in memory, at random places, with so many on the way at once. Beside libmio (on the
// backend that it chooses, and on epoll): pread(2) one after the other, and a ring written by
// hand that enters once for each batch.
//
// Figures are ns per read: of the wall clock, and of CPU, all threads of the process together.
#include "bench/bench.h"

#include <mio.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

#ifdef BENCH_LIBURING
#include <liburing.h>
#endif

namespace bench {

constexpr unsigned PIECE = 4096;
constexpr unsigned PIECES = 4096; // 16 MiB
constexpr unsigned READS = 20000; // of a round
constexpr unsigned DEPTH_MAX = 32;

struct reader {
    int fd;
    unsigned depth;
    uint64_t random;
    // libmio
    mio_loop_t *loop;
    uint64_t begun, wanted;
#ifdef BENCH_LIBURING
    struct io_uring ring;
#endif
    char memory[DEPTH_MAX][PIECE];
};

static int64_t place_next(reader *r) { return static_cast<int64_t>(random_next(&r->random) % PIECES) * PIECE; }

// --- pread ----------------------------------------------------------------------------------------------------------

static void plain_read(reader *r, unsigned n) {
    for (unsigned i = 0; i < n; i++)
        if (pread(r->fd, r->memory[0], PIECE, place_next(r)) != static_cast<ssize_t>(PIECE)) fail_errno("pread");
}

// --- a ring by hand -------------------------------------------------------------------------------------------------

#ifdef BENCH_LIBURING
static void hand_open(reader *r) {
    const unsigned flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    int error = io_uring_queue_init(64, &r->ring, flags);
    if (error == -EINVAL) error = io_uring_queue_init(64, &r->ring, 0);
    if (error < 0) fail("io_uring_queue_init: %s", strerror(-error));
}

static void hand_put(reader *r, unsigned place) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&r->ring);
    io_uring_prep_read(sqe, r->fd, r->memory[place], PIECE, static_cast<uint64_t>(place_next(r)));
    sqe->user_data = place;
}

static void hand_read(reader *r, unsigned n) {
    unsigned begun = 0, ended = 0;
    for (; begun < r->depth; begun++) hand_put(r, begun);
    while (ended < n) {
        const int entered = io_uring_submit_and_wait(&r->ring, 1);
        if (entered < 0) fail("io_uring_submit_and_wait: %s", strerror(-entered));
        struct io_uring_cqe *cqe;
        unsigned head, seen = 0;
        io_uring_for_each_cqe(&r->ring, head, cqe) {
            if (cqe->res != static_cast<int>(PIECE)) fail("a read of the ring: %d", cqe->res);
            seen++;
            ended++;
            if (begun < n) {
                hand_put(r, static_cast<unsigned>(cqe->user_data));
                begun++;
            }
        }
        io_uring_cq_advance(&r->ring, seen);
    }
}

static void hand_close(reader *r) { io_uring_queue_exit(&r->ring); }
#endif

// --- libmio ---------------------------------------------------------------------------------------------------------

static void on_read(mio_loop_t *loop, int64_t n, mio_buf_t *bufs, unsigned nbufs, void *arg) {
    reader *r = static_cast<reader *>(arg);
    if (n != PIECE) fail("mio_fs_read: %s", mio_error_name(n));
    if (r->begun == r->wanted) return;
    r->begun++;
    bufs[0].len = 0;
    if (mio_fs_read(loop, r->fd, bufs, nbufs, place_next(r), on_read, r) < 0) fail("mio_fs_read");
}

static void mio_open(reader *r, mio_backend backend) {
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.backend = backend;
    const int error = mio_loop_create(&r->loop, &options);
    if (error < 0) fail("mio_loop_create: %s", mio_error_name(error));
}

static void mio_open_chosen(reader *r) { mio_open(r, MIO_BACKEND_AUTO); }
static void mio_open_epoll(reader *r) { mio_open(r, MIO_BACKEND_EPOLL); }

static void mio_read(reader *r, unsigned n) {
    r->wanted = n;
    for (r->begun = 0; r->begun < r->depth; r->begun++) {
        mio_buf_t buf;
        if (mio_buf_alloc(r->loop, PIECE, &buf) < 0) fail("no memory");
        if (mio_fs_read(r->loop, r->fd, &buf, 1, place_next(r), on_read, r) < 0) fail("mio_fs_read");
    }
    if (mio_loop_run(r->loop) != 0) fail("mio_loop_run");
}

static void mio_close(reader *r) {
    if (mio_loop_destroy(r->loop, MIO_SECOND) != 0) fail("mio_loop_destroy");
}

// --- the cells ------------------------------------------------------------------------------------------------------

static void nothing(reader *) {}

static const struct way {
    const char *name, *what;
    void (*open)(reader *r);
    void (*read)(reader *r, unsigned n);
    void (*close)(reader *r);
} ways[] = {
    {"pread", "pread(2), one after the other", nothing, plain_read, nothing},
#ifdef BENCH_LIBURING
    {"ring", "a ring by hand", hand_open, hand_read, hand_close},
#endif
    {"mio", "libmio on the backend it chooses", mio_open_chosen, mio_read, mio_close},
    {"mio-epoll", "libmio on epoll", mio_open_epoll, mio_read, mio_close},
};
constexpr unsigned WAYS = sizeof ways / sizeof ways[0];

static int file_make() {
    char path[] = "/tmp/mio-bench-XXXXXX";
    const int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0) fail_errno("mkostemp");
    unlink(path);
    char piece[PIECE];
    memset(piece, 'x', sizeof piece);
    for (unsigned i = 0; i < PIECES; i++)
        if (write(fd, piece, sizeof piece) != static_cast<ssize_t>(sizeof piece)) fail_errno("write");
    return fd;
}

static void depth_run(const settings *with, int fd, unsigned depth) {
    static reader readers[WAYS];
    figures wall[WAYS], cpu[WAYS];
    const unsigned rounds = with->rounds < 20 ? with->rounds : 20;
    for (unsigned i = 0; i < WAYS; i++) {
        readers[i].fd = fd;
        readers[i].depth = depth;
        readers[i].random = 1;
        ways[i].open(&readers[i]);
        ways[i].read(&readers[i], READS / 10);
        figures_open(&wall[i], rounds);
        figures_open(&cpu[i], rounds);
    }
    for (unsigned round = 0; round < rounds; round++)
        for (unsigned k = 0; k < WAYS; k++) {
            const unsigned i = round % 2 == 0 ? k : WAYS - 1 - k;
            const int64_t begun_ns = clock_ns(), cpu_begun_ns = cpu_ns();
            ways[i].read(&readers[i], READS);
            figures_add(&cpu[i], static_cast<double>(cpu_ns() - cpu_begun_ns) / READS);
            figures_add(&wall[i], static_cast<double>(clock_ns() - begun_ns) / READS);
        }
    for (unsigned i = 0; i < WAYS; i++) {
        char name[64], what[96];
        snprintf(name, sizeof name, "files/read/%u", depth);
        snprintf(what, sizeof what, "%s", ways[i].what);
        report_one(with, name, what, figures_percentile(&wall[i], 10), figures_percentile(&wall[i], 50));
        snprintf(what, sizeof what, "%s, CPU", ways[i].what);
        report_one(with, name, what, figures_percentile(&cpu[i], 10), figures_percentile(&cpu[i], 50));
        ways[i].close(&readers[i]);
        figures_close(&wall[i]);
        figures_close(&cpu[i]);
    }
}

void files_run(const settings *with) {
    static constexpr unsigned depths[] = {1, 8, DEPTH_MAX};
    int fd = -1;
    for (unsigned depth : depths) {
        char name[64];
        snprintf(name, sizeof name, "files/read/%u", depth);
        if (!cell_wanted(with, name)) continue;
        if (with->list) {
            printf("%s\n", name);
            continue;
        }
        if (fd < 0) {
            report_heading(with, "Reads of 4 KiB that are in memory, ns each:");
            report_one_heading(with);
            fd = file_make();
        }
        depth_run(with, fd, depth);
    }
    if (fd >= 0) close(fd);
}

}
