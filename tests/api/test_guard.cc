// Guard mode: a late write of the kernel's into memory that is free is caught, and so is a touch of a buffer that was
// given away. Each crime is committed in a child, whose last words are read. Other builds skip all of it.
#include "harness.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__has_include)
#if __has_include(<linux/io_uring.h>)
#include <linux/io_uring.h>
#define HAVE_RING 1
#endif
#endif

using namespace api;

#define GUARD_ONLY() \
    if (!guard_build()) SKIP("not a guard build")

// --- children -------------------------------------------------------------------------------------------------------

static constexpr int CANNOT = 77; // the machine has not what the crime needs
static constexpr int FAILED = 3;

struct words {
    int status;
    char text[8192];
};

// A child's last words: what it wrote to descriptor 2.
static words commit(void (*crime)(mio_loop_t *)) {
    words last = {};
    int ends[2];
    assert_is(pipe(ends), 0);
    const mio_loop_options_t options = loop_options(); // a world is made here, not there
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        mio_loop_t *loop = nullptr;
        if (mio_loop_create(&loop, &options) != 0 || mio_loop_hold(loop, 1) != 0) _exit(FAILED);
        if (mio_loop_run_once(loop, 0) < 0) _exit(FAILED);
        crime(loop);
        _exit(mio_loop_destroy(loop, 0) == 0 ? 0 : FAILED);
    }
    close(ends[1]);
    size_t n = 0;
    for (ssize_t got; n < sizeof last.text - 1; n += static_cast<size_t>(got)) {
        got = read(ends[0], last.text + n, sizeof last.text - 1 - n);
        if (got <= 0) break;
    }
    close(ends[0]);
    last.status = child_status(child);
    return last;
}

static void home(mio_loop_t *loop) { // what was released between runs comes home in the next
    if (mio_loop_run_once(loop, 0) < 0) _exit(FAILED);
}

static mio_buf_t buf_of(mio_loop_t *loop, size_t cap) {
    mio_buf_t buf = {};
    if (mio_buf_alloc(loop, cap, &buf) != 0) _exit(FAILED);
    return buf;
}

static void must_be_caught(const words &last, const char *where, const char *how) {
    if (last.status == CANNOT) SKIP("no io_uring here");
    ck_assert_msg(last.status == 1000 + SIGABRT, "ended with %d: %s", last.status, last.text);
    ck_assert_msg(strstr(last.text, "guard: ") != nullptr && strstr(last.text, where) != nullptr &&
                  strstr(last.text, how) != nullptr, "said: %s", last.text);
}

// --- what a kernel writes late --------------------------------------------------------------------------------------

// Not by read(2): a sanitizer looks over its shoulder, but not over the kernel's.
static void kernel_reads(const char *bytes, size_t n, char *to) {
    int ends[2];
    if (pipe(ends) != 0 || write(ends[1], bytes, n) != static_cast<ssize_t>(n)) _exit(FAILED);
    if (syscall(SYS_read, ends[0], to, n) != static_cast<long>(n)) _exit(FAILED);
    close(ends[0]);
    close(ends[1]);
}

#ifdef HAVE_RING
// A ring of eight, by hand: the program's own, that the library knows nothing of.
struct bare_ring {
    int fd;
    io_uring_params params;
    char *rings;
    io_uring_sqe *entries;
};

static unsigned *ring_word(const bare_ring *ring, uint32_t offset) {
    return reinterpret_cast<unsigned *>(ring->rings + offset);
}

static void ring_open(bare_ring *ring) {
    *ring = {};
    ring->fd = static_cast<int>(syscall(__NR_io_uring_setup, 8, &ring->params));
    if (ring->fd < 0 || (ring->params.features & IORING_FEAT_SINGLE_MMAP) == 0) _exit(CANNOT);
    void *rings = mmap(nullptr, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, IORING_OFF_SQ_RING);
    void *entries = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, IORING_OFF_SQES);
    if (rings == MAP_FAILED || entries == MAP_FAILED) _exit(FAILED);
    ring->rings = static_cast<char *>(rings);
    ring->entries = static_cast<io_uring_sqe *>(entries);
}

static void ring_submit(bare_ring *ring, uint8_t op, int fd, char *to, uint32_t n) {
    io_uring_sqe *sqe = &ring->entries[0];
    *sqe = {};
    sqe->opcode = op;
    sqe->fd = fd;
    sqe->addr = reinterpret_cast<uintptr_t>(to);
    sqe->len = n;
    unsigned *tail = ring_word(ring, ring->params.sq_off.tail);
    ring_word(ring, ring->params.sq_off.array)[0] = 0;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    if (syscall(__NR_io_uring_enter, ring->fd, 1, 0, 0, nullptr, 0) != 1) _exit(CANNOT);
}

static void ring_await(const bare_ring *ring, int result) {
    syscall(__NR_io_uring_enter, ring->fd, 0, 1, IORING_ENTER_GETEVENTS, nullptr, 0);
    const auto *done = reinterpret_cast<const io_uring_cqe *>(ring->rings + ring->params.cq_off.cqes);
    if (__atomic_load_n(ring_word(ring, ring->params.cq_off.tail), __ATOMIC_ACQUIRE) != 1) _exit(FAILED);
    if (done->res != result) _exit(done->res == -EINVAL ? CANNOT : FAILED);
}
#endif

// The mistake that no sanitizer sees: memory is released with a read of it in the kernel, and the bytes come later.
static void ring_read_comes_late(mio_loop_t *loop) {
#ifdef HAVE_RING
    bare_ring ring;
    ring_open(&ring);
    int ends[2];
    if (pipe(ends) != 0) _exit(FAILED);
    mio_buf_t buf = buf_of(loop, 4096);
    ring_submit(&ring, IORING_OP_READ, ends[0], buf.base + 1234, 100);
    mio_buf_release(&buf);
    home(loop);
    if (write(ends[1], "late", 4) != 4) _exit(FAILED);
    ring_await(&ring, 4);
#else
    static_cast<void>(loop);
    _exit(CANNOT);
#endif
}

TEST(a_read_of_a_ring_into_memory_that_was_released_is_caught) {
    GUARD_ONLY();
    must_be_caught(commit(ring_read_comes_late), "the buffer block of 4096 bytes at 0x", "at offset 1234 (4 bytes differ");
}

static mio_buf_t received;

static void ring_recv_comes_late(mio_loop_t *loop) {
#ifdef HAVE_RING
    int ends[2], late[2];
    mio_stream_t *stream;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, late) != 0) _exit(FAILED);
    if (mio_stream_adopt(loop, ends[0], nullptr, 0, &stream) != 0 || write(ends[1], "hello", 5) != 5) _exit(FAILED);
    auto read = [](mio_stream_t *, int64_t n, mio_buf_t *buf, void *) {
        if (n > 0 && received.base == nullptr) received = mio_buf_take(buf);
    };
    if (mio_stream_read_start(stream, 0, read, nullptr) < 0) _exit(FAILED);
    for (int i = 0; i < 100 && received.len != 5; i++) mio_loop_run_once(loop, MIO_MILLISECOND);
    if (received.len != 5) _exit(FAILED);
    const char more[4000] = {};
    for (int i = 0; i < 30; i++) { // the block is used up: a ring keeps one as long as there is room in it
        if (write(ends[1], more, sizeof more) != sizeof more || mio_loop_run_once(loop, MIO_MILLISECOND) < 0) _exit(FAILED);
    }
    bare_ring ring;
    ring_open(&ring);
    ring_submit(&ring, IORING_OP_RECV, late[0], received.base, 5);
    mio_buf_release(&received);
    home(loop);
    if (write(late[1], "LATER", 5) != 5) _exit(FAILED);
    ring_await(&ring, 5);
#else
    static_cast<void>(loop);
    _exit(CANNOT);
#endif
}

TEST(a_recv_of_a_ring_into_a_received_run_that_was_released_is_caught) {
    GUARD_ONLY();
    KERNEL_ONLY("the other end is a descriptor of the test's");
    must_be_caught(commit(ring_recv_comes_late), "the receive block of 65536 bytes at 0x", "ms ago");
}

static void plain_write_comes_late(mio_loop_t *loop) {
    mio_buf_t buf = buf_of(loop, 300);
    char *base = buf.base;
    mio_buf_release(&buf);
    home(loop);
    kernel_reads("x", 1, base + 299);
}

TEST(a_call_that_writes_into_memory_that_was_released_is_caught) {
    GUARD_ONLY();
    must_be_caught(commit(plain_write_comes_late), "at offset 299 (1 bytes differ, the first is 0x78)", " ms ago");
}

// Long before the loop goes: when the block has been held long enough.
static void plain_write_and_traffic(mio_loop_t *loop) {
    plain_write_comes_late(loop);
    for (int i = 0; i < 200; i++) {
        mio_buf_t buf = buf_of(loop, 40000);
        mio_buf_release(&buf);
        home(loop);
    }
    _exit(FAILED);
}

TEST(a_late_write_is_caught_when_the_block_leaves_the_quarantine) {
    GUARD_ONLY();
    must_be_caught(commit(plain_write_and_traffic), "at offset 299 (1 bytes differ", "ms ago");
}

static void write_behind_the_end(mio_loop_t *loop) {
    mio_buf_t buf = buf_of(loop, 300);
    kernel_reads("overlong", 8, buf.base + 296);
    mio_buf_release(&buf);
    home(loop);
    _exit(FAILED);
}

static void write_before_the_start(mio_loop_t *loop) {
    mio_buf_t buf = buf_of(loop, 300);
    kernel_reads("xy", 2, buf.base - 1);
    mio_buf_release(&buf);
    home(loop);
    _exit(FAILED);
}

TEST(a_write_outside_a_buffer_is_caught_when_it_comes_home) {
    GUARD_ONLY();
    must_be_caught(commit(write_behind_the_end), "at offset 300 (4 bytes differ", "outside the 300 bytes");
    must_be_caught(commit(write_before_the_start), "at offset -1 (1 bytes differ", "outside the 300 bytes");
}

// The same moves without a crime: the loop ends in peace.
static void nothing_comes_late(mio_loop_t *loop) {
    const size_t sizes[] = {1, 300, 4096, 40000, 1u << 20, 3u << 20, 5u << 20};
    for (int round = 0; round < 5; round++)
        for (const size_t size : sizes) {
            mio_buf_t buf = buf_of(loop, size);
            kernel_reads("x", 1, buf.base + size - 1);
            mio_buf_release(&buf);
            home(loop);
        }
}

TEST(memory_that_is_used_as_it_should_be_ends_in_peace) {
    GUARD_ONLY();
    const words last = commit(nothing_comes_late);
    ck_assert_msg(last.status == 0 && last.text[0] == '\0', "ended with %d: %s", last.status, last.text);
}

// --- what a user touches --------------------------------------------------------------------------------------------

static volatile char touched; // so that the load is not left out
static char own[64];

static mio_stream_t *connecting(mio_loop_t *loop) {
    mio_listener_t *listener;
    mio_addr_t at;
    mio_stream_t *stream;
    auto kept = [](mio_listener_t *, int status, mio_stream_t *conn, void *) {
        if (status == 0) mio_handle_keep(conn);
    };
    auto unheard = [](mio_stream_t *, int, void *) {};
    if (mio_tcp_listen(loop, "127.0.0.1", 0, nullptr, kept, nullptr, &listener) != 0) _exit(FAILED);
    if (mio_listener_local(listener, &at) != 0) _exit(FAILED);
    if (mio_tcp_connect(loop, &at, nullptr, unheard, nullptr, &stream) <= 0) _exit(FAILED);
    return stream;
}

static void write_and_touch(mio_loop_t *loop) {
    mio_buf_t buf = buf_of(loop, 64);
    buf.len = 64;
    char *base = buf.base;
    memset(base, 1, 64);
    if (mio_stream_write(connecting(loop), &buf, 1, nullptr, nullptr) <= 0) _exit(FAILED);
    base[10] = 2;
}

static void read_and_touch(mio_loop_t *loop) {
    mio_buf_t buf = buf_of(loop, 64);
    const char *base = buf.base;
    auto unheard = [](mio_stream_t *, int64_t, mio_buf_t *, void *) {};
    if (mio_stream_read(connecting(loop), &buf, unheard, nullptr) <= 0) _exit(FAILED);
    touched = base[63];
}

static mio_buf_owner_t owner;

static mio_buf_t wrapped() {
    owner = MIO_BUF_OWNER_INIT([](mio_buf_owner_t *, char *, size_t) {});
    mio_buf_t buf = mio_buf_wrap(own, sizeof own, &owner);
    buf.len = sizeof own;
    return buf;
}

static void wrap_and_touch(mio_loop_t *loop) {
    mio_buf_t buf = wrapped();
    if (mio_stream_write(connecting(loop), &buf, 1, nullptr, nullptr) <= 0) _exit(FAILED);
    const char *volatile at = own; // of its own variables a compiler knows that they may be touched
    touched = at[0];
}

static void unread_and_touch(mio_loop_t *loop) {
    mio_buf_t buf = buf_of(loop, 64);
    buf.len = 64;
    const char *base = buf.base;
    if (mio_stream_unread(connecting(loop), &buf) < 0) _exit(FAILED);
    touched = base[0];
}

static void release_and_touch(mio_loop_t *loop) {
    mio_buf_t buf = buf_of(loop, 64);
    const char *base = buf.base;
    mio_buf_release(&buf);
    touched = base[0];
}

// GCC has a macro, clang a feature.
static bool touches_are_seen() {
#if defined(__SANITIZE_ADDRESS__)
    return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
    return true;
#else
    return false;
#endif
#else
    return false;
#endif
}

#define ADDRESS_ONLY() \
    if (!guard_build() || !touches_are_seen()) SKIP("not a guard build with the address sanitizer")

TEST(a_touch_of_a_buffer_that_was_given_away_is_reported) {
    ADDRESS_ONLY();
    void (*const crimes[])(mio_loop_t *) = {write_and_touch, read_and_touch, wrap_and_touch, unread_and_touch,
                                            release_and_touch};
    for (size_t i = 0; i < sizeof crimes / sizeof *crimes; i++) {
        const words last = commit(crimes[i]);
        ck_assert_msg(last.status != 0 && last.status != FAILED && strstr(last.text, "use-after-poison") != nullptr,
                      "crime %zu ended with %d: %s", i, last.status, last.text);
    }
}

// What others may read stays readable: borrowed memory, and memory with a second reference.
static void touches_that_are_legal(mio_loop_t *loop) {
    mio_stream_t *stream = connecting(loop);
    mio_buf_t borrowed = mio_buf_borrow(own, sizeof own);
    if (mio_stream_write(stream, &borrowed, 1, nullptr, nullptr) <= 0) _exit(FAILED);
    own[0] = 'a';
    mio_buf_t first = buf_of(loop, 64), second = {};
    first.len = 64;
    memset(first.base, 1, 64);
    if (mio_buf_share(&first, &second) != 0) _exit(FAILED);
    if (mio_stream_write(stream, &first, 1, nullptr, nullptr) <= 0) _exit(FAILED);
    touched = second.base[5];
    mio_buf_release(&second);
    auto returned = [](mio_stream_t *, int status, int64_t, mio_buf_t *bufs, unsigned, void *arg) {
        if (status != 0) _exit(FAILED);
        memset(bufs[0].base, 2, bufs[0].cap); // it is the user's again
        ++*static_cast<int *>(arg);
    };
    int calls = 0;
    mio_buf_t third = buf_of(loop, 64), fourth = wrapped();
    third.len = 64;
    memset(third.base, 1, 64);
    if (mio_stream_write(stream, &third, 1, returned, &calls) <= 0) _exit(FAILED);
    if (mio_stream_write(stream, &fourth, 1, returned, &calls) <= 0) _exit(FAILED);
    for (int i = 0; i < 20000 && calls != 2; i++)
        if (mio_loop_run_once(loop, MIO_MILLISECOND) < 0) _exit(FAILED);
    if (calls != 2) _exit(FAILED);
    memset(own, 3, sizeof own);
}

TEST(what_others_may_read_is_not_poisoned_and_what_came_back_is_not) {
    ADDRESS_ONLY();
    const words last = commit(touches_that_are_legal);
    ck_assert_msg(last.status == 0, "ended with %d: %s", last.status, last.text);
}
