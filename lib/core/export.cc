// Exported loops: the page, its writer, its reader.
//
//   file: words of 64 bits: mark | sequence | mio_export, beginning with its own size
//
// The writer makes the sequence odd, writes, makes it even again; a reader that saw it odd or changed looks again.

#include "core/export.h"

#include "base/sys.h"
#include "base/sys_files.h"
#include "core/backend.h"

#include <mio/error.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

namespace mio {

constexpr size_t PAGE = 4096;
constexpr uint64_t MARK = 0x6d696f6578700000u + sizeof(mio_export_t); // of this layout
constexpr int64_t OFTEN_NS = 50 * MIO_MILLISECOND;
constexpr size_t WORDS = (sizeof(mio_export_t) + 7) / 8;

using word = std::atomic<uint64_t>;

struct page {
    word mark;
    word sequence;
    word state[WORDS];
};
static_assert(sizeof(page) <= PAGE && word::is_always_lock_free, "a page of words");

struct exported { // from the loop's allocator
    page *shown;
    mio_export_t now;
    int64_t second_ns;              // when the count of the running second began
    int64_t slowest, slowest_before; // callbacks of this second and of the one before
    char path[PATH_MAX];            // absolute: it is removed wherever the program has gone meanwhile
};

// --- the writer -----------------------------------------------------------------------------------------------------

static void write_state(loop *l, exported *x) {
    x->now.metrics.size = sizeof x->now.metrics;
    mio_loop_metrics(loop_public(l), &x->now.metrics);
    x->now.slowest_ns = x->slowest > x->slowest_before ? x->slowest : x->slowest_before;
    uint64_t words[WORDS] = {};
    memcpy(words, &x->now, sizeof x->now);
    page *p = x->shown;
    const uint64_t sequence = p->sequence.load(std::memory_order_relaxed);
    p->sequence.store(sequence + 1, std::memory_order_relaxed);
    // Release on each word: a reader that sees one of them sees the odd sequence as well.
    for (size_t i = 0; i < WORDS; i++) p->state[i].store(words[i], std::memory_order_release);
    p->sequence.store(sequence + 2, std::memory_order_release);
}

static void second_ends(exported *x, int64_t now_ns) {
    if (now_ns - x->second_ns < MIO_SECOND) return;
    x->slowest_before = now_ns - x->second_ns < 2 * MIO_SECOND ? x->slowest : 0;
    x->slowest = 0;
    x->second_ns = now_ns;
}

void export_turn(loop *l) {
    exported *x = l->shown;
    const int64_t now_ns = l->calls->monotonic_ns();
    second_ends(x, now_ns);
    if (now_ns - x->now.written_ns < OFTEN_NS) return;
    x->now.written_ns = now_ns;
    write_state(l, x);
}

void export_rests(loop *l) {
    exported *x = l->shown;
    x->now.written_ns = l->calls->monotonic_ns();
    second_ends(x, x->now.written_ns);
    write_state(l, x);
}

void export_sleeps(loop *l) {
    exported *x = l->shown;
    const int64_t now_ns = l->calls->monotonic_ns();
    second_ends(x, now_ns);
    x->now.written_ns = x->now.asleep_since_ns = now_ns;
    write_state(l, x);
}

void export_wakes(loop *l) {
    exported *x = l->shown;
    if (x->now.asleep_since_ns == 0) return;
    x->now.asleep_ns += l->calls->monotonic_ns() - x->now.asleep_since_ns;
    x->now.asleep_since_ns = 0;
}

void export_taken_over(loop *l) { l->shown->now.pid = getpid(); }

void export_callback(loop *l, int64_t elapsed_ns) {
    if (elapsed_ns > l->shown->slowest) l->shown->slowest = elapsed_ns;
}

void export_close(loop *l, bool in_child) {
    exported *x = l->shown;
    if (x == nullptr) return;
    if (!in_child) l->calls->unlink(x->path);
    l->calls->unmap(x->shown, PAGE);
    memory_release(&l->mem, x, sizeof *x);
    l->shown = nullptr;
}

// --- making one -----------------------------------------------------------------------------------------------------

// The whole page is written, not only made room for: where there is none, that is told here and not by a SIGBUS.
static int page_open(loop *l, exported *x) {
    const sys *calls = l->calls;
    const int fd = calls->open(x->path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return fd;
    char zeroes[PAGE] = {};
    const iovec whole = {zeroes, PAGE};
    ssize_t n;
    do n = calls->files->write(fd, &whole, 1, 0);
    while (n == -EINTR);
    int error = n < 0 ? static_cast<int>(n) : static_cast<size_t>(n) < PAGE ? static_cast<int>(MIO_ENOSPC) : 0;
    if (error == 0) {
        x->shown = static_cast<page *>(calls->map_fd(fd, PAGE, 0));
        if (x->shown == nullptr) error = MIO_ENOMEM;
    }
    calls->close(fd);
    if (error < 0) calls->unlink(x->path);
    return error;
}

// A process number comes back; a file that it left behind is passed over.
static int page_open_in(loop *l, exported *x, const char *directory) {
    static std::atomic<unsigned> count;
    int error = MIO_EEXIST;
    for (int tries = 0; error == MIO_EEXIST && tries < 1000; tries++) {
        snprintf(x->path, sizeof x->path, "%s/" MIO_EXPORT_PREFIX "%lld.%u", directory, static_cast<long long>(x->now.pid),
                 count.fetch_add(1, std::memory_order_relaxed));
        error = page_open(l, x);
    }
    return error;
}

static int page_open_somewhere(loop *l, exported *x, const char *path) {
    if (path == nullptr) {
        const int error = page_open_in(l, x, MIO_EXPORT_DIRECTORY);
        return error == MIO_ENOENT ? page_open_in(l, x, MIO_EXPORT_DIRECTORY_2) : error;
    }
    memcpy(x->path, path, strlen(path) + 1);
    int error = page_open(l, x);
    if (error < 0 || path[0] == '/') return error;
    char whole[PATH_MAX];
    error = l->calls->files->realpath(path, whole);
    if (error == 0) {
        memcpy(x->path, whole, strlen(whole) + 1);
        return 0;
    }
    l->calls->unlink(path);
    l->calls->unmap(x->shown, PAGE);
    return error;
}

// --- the reader -----------------------------------------------------------------------------------------------------

// The file is read, not mapped: whose it is may cut it off at any moment, and a mapping of it would be a SIGBUS then.
struct image {
    uint64_t mark, sequence;
    uint64_t state[WORDS];
};
static_assert(sizeof(image) == sizeof(page), "as it is in the file");

// false: it is not long enough (any more).
static bool image_read(const sys *calls, int fd, void *to, size_t size) {
    const iovec piece = {to, size};
    ssize_t n;
    do n = calls->files->read(fd, &piece, 1, 0);
    while (n == -EINTR);
    return n == static_cast<ssize_t>(size);
}

// The sequence before is read by a call of its own: within one call the kernel promises no order.
static int image_take(const sys *calls, int fd, image *out) {
    uint64_t before[2], after[2];
    if (!image_read(calls, fd, before, sizeof before) || before[0] != MARK) return MIO_EINVAL;
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (!image_read(calls, fd, out, sizeof *out)) return MIO_EINVAL;
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (!image_read(calls, fd, after, sizeof after)) return MIO_EINVAL;
    return before[1] % 2 == 0 && after[1] == before[1] ? 0 : static_cast<int>(MIO_EAGAIN);
}

constexpr int TRIES = 200, PATIENT_AFTER = 100; // then a pause before each: the writer may wait for its processor

static int page_read(const sys *calls, int fd, mio_export_t *out) {
    image seen;
    int error = MIO_EAGAIN;
    for (int tries = 0; error == MIO_EAGAIN && tries < TRIES; tries++) {
        if (tries >= PATIENT_AFTER) (void)calls->poll_one(-1, 0, 1);
        error = image_take(calls, fd, &seen);
    }
    if (error < 0) return error;
    mio_export_t all;
    memcpy(&all, seen.state, sizeof all);
    all.name[sizeof all.name - 1] = 0; // whoever wrote it may be nobody's friend
    all.backend[sizeof all.backend - 1] = 0;
    const size_t given = out->size;
    memcpy(out, &all, given < sizeof all ? given : sizeof all);
    out->size = given;
    return 0;
}

}

using namespace mio;

int mio_loop_export(mio_loop_t *public_loop, const char *name, const char *path) {
    loop *l = loop_of(public_loop);
    int error = loop_check_start(l);
    if (error < 0) return error;
    if (name == nullptr) name = "";
    if (strlen(name) >= sizeof(mio_export_t::name)) return MIO_EINVAL;
    if (path != nullptr && (path[0] == 0 || strlen(path) >= sizeof(exported::path))) return MIO_EINVAL;
    if (l->world != nullptr) return MIO_ENOTSUP;
    if (l->shown != nullptr) return MIO_EALREADY;
    auto *x = static_cast<exported *>(memory_alloc(&l->mem, sizeof(exported)));
    if (x == nullptr) return MIO_ENOMEM;
    memset(static_cast<void *>(x), 0, sizeof *x);
    x->now.size = sizeof x->now;
    x->now.pid = getpid();
    memcpy(x->now.name, name, strlen(name));
    snprintf(x->now.backend, sizeof x->now.backend, "%s", l->with->name);
    error = page_open_somewhere(l, x, path);
    if (error < 0) {
        memory_release(&l->mem, x, sizeof *x);
        return error;
    }
    l->shown = x;
    l->clocked = true;
    x->now.exported_ns = x->now.written_ns = x->second_ns = l->calls->monotonic_ns();
    write_state(l, x);
    x->shown->mark.store(MARK, std::memory_order_release);
    return 0;
}

int mio_export_read(const char *path, mio_export_t *out) {
    if (path == nullptr || out == nullptr || out->size < sizeof(size_t)) return MIO_EINVAL;
    const sys *calls = &sys_real;
    const int fd = calls->open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0);
    if (fd < 0) return fd;
    sys_stat facts;
    int error = calls->files->stat(fd, "", AT_EMPTY_PATH, &facts);
    if (error == 0 && ((facts.mode & S_IFMT) != S_IFREG || facts.size != PAGE)) error = MIO_EINVAL;
    if (error == 0) error = page_read(calls, fd, out);
    calls->close(fd);
    return error;
}
