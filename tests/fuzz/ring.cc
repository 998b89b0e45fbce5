// A kernel that lies: completions that none should send, to a loop on the model of io_uring.
//
// An input makes a loop, gives it streams, a listener, connects, reads and writes, and makes its kernel answer: honestly,
// in any order and with any error; and with completions of the fuzzer's own making: any token, result and flags, or the
// token of something that is, or was, in the ring. What must hold, whatever the kernel says:
//   - no error of memory: the bytes of each read are touched
//   - a request calls back once, and not after the close of its stream; no write has sent more than it has
//   - the end of the program by mio_assert is allowed (it is how the library refuses what cannot be) after a lie, and
//     only then: of a kernel that has not lied, every loop must come to its end with nothing left
//
// mio_assert's panic is this file's own: it jumps back, and what the loop had is freed here.
#include "input.h"

#include "support/ring_model_inside.h"
#include "support/ring_model_loop.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>

#include <deque>
#include <unordered_set>

using namespace fuzz;
using namespace test;

constexpr unsigned STEPS_MAX = 300;
constexpr size_t ALLOCATION_MAX = 4 << 20; // beyond it there is no memory
constexpr unsigned STREAMS_MAX = 40;

static bool lied;
static jmp_buf escape;

namespace mio {

[[noreturn]] void panic(const char *file, int line, const char *what) {
    if (!lied) {
        fprintf(stderr, "a panic without a lie: %s:%d: %s\n", file, line, what);
        abort();
    }
    if (getenv("MIO_FUZZ_VERBOSE") != nullptr) fprintf(stderr, "panic: %s:%d: %s\n", file, line, what);
    longjmp(escape, 1);
}

}

// --- memory: known here, so that a loop which is left behind can be freed ---------------------------------------------

static std::unordered_set<void *> memory;
static mio::sys below_table; // the model's

static void *noted(void *ptr) {
    if (ptr != nullptr) memory.insert(ptr);
    return ptr;
}
static void *noted_alloc(size_t size) { return size > ALLOCATION_MAX ? nullptr : noted(below_table.alloc(size)); }
static void *noted_resize(void *ptr, size_t old_size, size_t new_size) {
    if (new_size > ALLOCATION_MAX) return nullptr;
    memory.erase(ptr);
    return noted(below_table.resize(ptr, old_size, new_size));
}
static void noted_release(void *ptr, size_t size) {
    memory.erase(ptr);
    below_table.release(ptr, size);
}
static void *noted_map(size_t size) { return noted(below_table.map(size)); }
static void *noted_map_wipe(size_t size) { return noted(below_table.map_wipe_on_fork(size)); }
static void *noted_map_shared(size_t size) { return noted(below_table.map_shared(size)); }
static void *noted_map_fd(int fd, size_t size, int64_t offset) { return noted(below_table.map_fd(fd, size, offset)); }

static bool is_of_a_ring(const void *ptr) {
    for (const auto &r : model::world->rings)
        for (const model::model_region &region : r->regions)
            if (region.at == ptr) return true;
    return false;
}

// After a lie the model knows no more what its kernel still receives into: it has no opinion about memory.
static void noted_unmap(void *ptr, size_t size) {
    memory.erase(ptr);
    if (lied) for (const auto &r : model::world->rings) r->pending.clear();
    if (lied && !is_of_a_ring(ptr)) model::world->base->unmap(ptr, size);
    else below_table.unmap(ptr, size);
}

// Buffers of which it was told that they are used up, and which the kernel had not used: it has them twice, now once.
static int noted_enter(int fd, unsigned submit, unsigned wait, unsigned flags, const void *arg, size_t arg_size) {
    model::model_ring *r = model::ring_of(fd);
    if (lied && r != nullptr)
        for (model::model_group &g : r->groups)
            if (static_cast<uint16_t>(g.bufs[0].resv - g.head) > g.entries)
                g.head = static_cast<uint16_t>(g.bufs[0].resv - g.entries);
    return below_table.uring_enter(fd, submit, wait, flags, arg, arg_size);
}

static void memory_watch() {
    below_table = model::table;
    model::table.alloc = noted_alloc;
    model::table.resize = noted_resize;
    model::table.release = noted_release;
    model::table.map = noted_map;
    model::table.map_wipe_on_fork = noted_map_wipe;
    model::table.map_shared = noted_map_shared;
    model::table.map_fd = noted_map_fd;
    model::table.unmap = noted_unmap;
    model::table.uring_enter = noted_enter;
}

// --- the program ----------------------------------------------------------------------------------------------------

struct peer;
struct job {
    peer *of;
    mio_req_t id;
    int64_t size; // of a write
    bool told;
    char space[200]; // of a one-shot read
};

struct peer {
    mio_stream_t *stream; // nullptr: closed, or not there
    int fd;
    bool reading, closing, abandoned, closed;
};

static std::deque<peer> peers;
static std::deque<job> jobs;
static mio_listener_t *listener;
static int listener_fd;
static unsigned listener_ends, touched;

// Bytes to write: known here as well.
struct word {
    mio_buf_owner_t owner;
    char *bytes;
};
static std::unordered_set<word *> words;

static void word_release(mio_buf_owner_t *owner, char *, size_t) {
    auto *w = reinterpret_cast<word *>(owner);
    must(words.erase(w) == 1);
    free(w->bytes);
    free(w);
}

static mio_buf_t word_make(size_t size) {
    auto *w = static_cast<word *>(calloc(1, sizeof(word)));
    w->owner = MIO_BUF_OWNER_INIT(word_release);
    w->bytes = static_cast<char *>(malloc(size));
    memset(w->bytes, 'w', size);
    words.insert(w);
    mio_buf_t buf = mio_buf_wrap(w->bytes, size, &w->owner);
    buf.len = size;
    return buf;
}

static void touch(const mio_buf_t *buf) {
    for (size_t i = 0; i < buf->len; i++) touched += static_cast<unsigned char>(buf->base[i]);
}

static void check_told(const peer *p) { must(!p->abandoned && !p->closed); }

static void on_got(mio_stream_t *s, int64_t n, mio_buf_t *buf, void *arg) {
    auto *p = static_cast<peer *>(arg);
    check_told(p);
    must(p->reading && n != 0);
    must(n < 0 || buf->len == static_cast<size_t>(n));
    touch(buf);
    if (n < 0) p->reading = false;
    else if (buf->base[0] == 'p' && !p->closing) (void)mio_stream_read_pause(s);
}

static void on_read_once(mio_stream_t *, int64_t n, mio_buf_t *buf, void *arg) {
    auto *j = static_cast<job *>(arg);
    check_told(j->of);
    must(!j->told && n != 0 && buf->len <= sizeof j->space);
    touch(buf);
    j->told = true;
}

static void on_written(mio_stream_t *, int status, int64_t sent, mio_buf_t *, unsigned, void *arg) {
    auto *j = static_cast<job *>(arg);
    check_told(j->of);
    must(!j->told && sent >= 0 && sent <= j->size);
    must(status != 0 || sent == j->size);
    j->told = true;
}

static void on_status(mio_stream_t *, int, void *arg) {
    auto *j = static_cast<job *>(arg);
    check_told(j->of);
    must(!j->told);
    j->told = true;
}

static void on_closed(mio_handle_t *, void *arg) {
    auto *p = static_cast<peer *>(arg);
    must(p->closing && !p->closed && !p->abandoned && !p->reading);
    for (const job &j : jobs) must(j.of != p || j.told || j.id <= 0);
    p->closed = true;
}

static job *job_new(peer *p) {
    jobs.emplace_back();
    job *j = &jobs.back();
    *j = {};
    j->of = p;
    return j;
}

static void read_start(peer *p) {
    if (mio_stream_read_start(p->stream, MIO_READ_NO_AUTOPAUSE, on_got, p) > 0) p->reading = true;
}

static void on_accepted(mio_listener_t *, int status, mio_stream_t *s, void *) {
    if (status == MIO_ECANCELED) listener_ends++;
    if (status != 0 || peers.size() >= STREAMS_MAX) return;
    peers.emplace_back();
    peer *p = &peers.back();
    *p = {};
    p->stream = s;
    p->fd = mio_stream_fd(s);
    must(mio_handle_keep(s) == 0);
    read_start(p);
}

static void peer_open(input *in) {
    if (peers.size() >= STREAMS_MAX) return;
    peers.emplace_back();
    peer *p = &peers.back();
    *p = {};
    const int domain = take_below(in, 3) == 0 ? AF_UNIX : AF_INET;
    p->fd = socket_make(0, domain, domain == AF_INET ? IPPROTO_TCP : 0);
    must(mio_stream_adopt(the_loop, p->fd, nullptr, 0, &p->stream) == 0);
    read_start(p);
}

static peer *peer_any(input *in) {
    if (peers.empty()) return nullptr;
    peer *p = &peers[take_below(in, static_cast<unsigned>(peers.size()))];
    return p->stream == nullptr ? nullptr : p;
}

static void peer_write(peer *p, input *in) {
    const unsigned kind = take_byte(in);
    size_t size = 1 + take_byte(in) * (kind % 4 == 1 ? 100u : 1u);
    if (kind % 4 == 2) size += MIO_ZEROCOPY_MIN;
    mio_buf_t bufs[3];
    const unsigned n = 1 + kind / 4 % 3;
    for (unsigned i = 0; i < n; i++) bufs[i] = word_make(size);
    job *j = job_new(p);
    j->size = static_cast<int64_t>(size * n);
    j->id = mio_stream_write_flags(p->stream, bufs, n, kind % 4 == 2 ? MIO_WRITE_ZEROCOPY : 0, on_written, j);
    for (unsigned i = 0; j->id < 0 && i < n; i++) mio_buf_release(&bufs[i]);
}

static void peer_read_once(peer *p, input *in) {
    job *j = job_new(p);
    mio_buf_t buf = mio_buf_space(j->space, sizeof j->space);
    const unsigned n = take_byte(in);
    if (n % 2 == 0) j->id = mio_stream_read(p->stream, &buf, on_read_once, j);
    else j->id = mio_stream_read_exact(p->stream, &buf, 1 + n % sizeof j->space, on_read_once, j);
}

static void peer_connect() {
    if (peers.size() >= STREAMS_MAX) return;
    peers.emplace_back();
    peer *p = &peers.back();
    *p = {};
    mio_addr_t to;
    must(mio_addr_parse("127.0.0.1", 80, &to) == 0);
    job *j = job_new(p);
    j->id = mio_tcp_connect(the_loop, &to, nullptr, on_status, j, &p->stream);
    must(j->id > 0 || p->stream == nullptr);
    p->fd = p->stream != nullptr ? mio_stream_fd(p->stream) : -1;
}

static void peer_close(peer *p, bool abandon) {
    p->closing = true;
    if (abandon) {
        p->abandoned = true;
        mio_handle_abandon(p->stream);
    } else {
        must(mio_handle_close(p->stream, on_closed, p) == 0);
    }
    p->stream = nullptr;
}

static void program_step(unsigned what, input *in) {
    peer *p = peer_any(in);
    switch (what) {
    case 0: peer_open(in); return;
    case 1: peer_connect(); return;
    case 2: (void)(take_below(in, 2) == 0 ? mio_listener_pause(listener) : mio_listener_resume(listener)); return;
    case 3:
        if (!jobs.empty()) (void)mio_req_cancel(the_loop, jobs[take_below(in, 256) % jobs.size()].id);
        return;
    case 4: mio::thread_number_or_zero = 1 + take_below(in, 2); return; // another thread runs it from now on
    default: break;
    }
    if (p == nullptr) return;
    switch (what) {
    case 5:
    case 6: peer_write(p, in); return;
    case 7: peer_read_once(p, in); return;
    case 8:
        if (!p->reading) read_start(p);
        else (void)mio_stream_read_stop(p->stream);
        return;
    case 9: (void)(take_below(in, 2) == 0 ? mio_stream_read_pause(p->stream) : mio_stream_read_resume(p->stream)); return;
    case 10: peer_close(p, take_below(in, 2) == 0); return;
    case 11: {
        job *j = job_new(p);
        j->id = mio_stream_shutdown(p->stream, on_status, j);
        return;
    }
    default: return;
    }
}

// --- the kernel -----------------------------------------------------------------------------------------------------

static int32_t a_result(input *in) {
    static const int32_t some[] = {0, 1, -1, -ECANCELED, -EINTR, -EAGAIN, -ENOBUFS, -EPIPE, -ENOMEM, -EMFILE, -EINPROGRESS,
                                   -ECONNRESET, INT32_MIN, INT32_MAX, -4095, -4097, 4096, 65536, 65537, 40000, POLLIN, POLLOUT,
                                   POLLHUP | POLLERR, POLLRDHUP, -EALREADY, -ENOENT};
    const unsigned which = take_byte(in);
    if (which < 200) return some[which % (sizeof some / sizeof some[0])];
    return static_cast<int32_t>(take_number(in, which < 230 ? 2 : 4));
}

static uint32_t a_flag(input *in) {
    const unsigned which = take_byte(in);
    const uint32_t low = which % 16; // BUFFER, MORE, SOCK_NONEMPTY, NOTIF
    const uint32_t more = (which & 16) != 0 ? IORING_CQE_F_BUF_MORE : 0;
    return low | more | (which >= 128 ? take_byte(in) : which / 32u) << 16 | ((which & 192) == 192 ? take_byte(in) << 24 : 0u);
}

// Library and kernel disagree about who has which buffer from now on: the kernel writes nothing any more, or it would
// write where nobody can defend himself.
static bool silent;

static void lie(uint64_t token, int32_t res, uint32_t flags) {
    lied = true;
    if (res > 0) {
        silent = true;
        for (auto &socket : model::world->sockets) socket.second.unread.clear();
    }
    ring_model_post_raw(ring, token, res, flags);
}

static void receive(int fd, const void *bytes, size_t n) {
    if (fd >= 0 && !silent) ring_model_receive(fd, bytes, n);
}

// A completion for what the ring has had: the token is right.
static void lie_about_something(input *in) {
    model::model_ring *r = model::ring_of(ring);
    if (r->ops.empty()) return;
    const size_t back = take_byte(in);
    const auto nth = static_cast<unsigned>(back < r->ops.size() ? r->ops.size() - 1 - back : back % r->ops.size());
    const uint64_t token = r->ops[nth].sqe.user_data;
    const int32_t res = a_result(in);
    const uint32_t flags = a_flag(in);
    if ((flags & IORING_CQE_F_MORE) == 0) model::op_end(r, nth); // for this kernel it is over
    lie(token, res, flags);
}

static void lie_freely(input *in) {
    const unsigned shape = take_byte(in);
    uint64_t token = static_cast<uint64_t>(take_below(in, 15)) << 56 | take_number(in, 2) << 32;
    if (shape % 4 == 0) token |= take_number(in, 4);
    else if (shape % 4 == 1) token |= take_byte(in);
    else token |= static_cast<uint32_t>(peers.empty() ? listener_fd : peers[take_byte(in) % peers.size()].fd);
    if (shape == 255) token = take_number(in, 8);
    const int32_t res = a_result(in);
    const uint32_t flags = a_flag(in);
    lie(token, res, flags);
}

static bool is_honest(uint8_t opcode, int32_t res) {
    return opcode != IORING_OP_CONNECT ? res == -ECANCELED || res == -EINTR || res == -EAGAIN
                                       : res == 0 || (res < 0 && res > -4095);
}

static void end_honestly(uint8_t opcode, int fd, int32_t res) {
    const int nth = waiting(opcode, fd);
    if (nth >= 0 && is_honest(opcode, res)) ring_model_complete(ring, nth, res, 0);
}

static void let_go(bool of_all, bool copied) {
    for (unsigned i = 0; ring_model_ring(i) >= 0; i++) {
        const int from = ring_model_ring(i);
        for (int nth = ring_model_owing(from); nth >= 0; nth = of_all ? ring_model_owing(from) : -1) {
            if (copied) ring_model_notify_copied(from, nth);
            else ring_model_notify(from, nth);
        }
    }
    const auto *u = static_cast<const mio::uring_state *>(inside()->backend_state);
    if (u->grave >= 0) ring_model_fire(u->grave, POLLHUP);
}

static void answer(uint8_t opcode, int32_t res) {
    const bool honest = res == RING_SUCCEEDS || res > 0 || res == -EAGAIN || res == -EPIPE || res == -EINTR || res == -ENOMEM ||
                        res == -EINPROGRESS;
    ring_model_answer(opcode, honest ? res : RING_SUCCEEDS);
}

static void kernel_step(unsigned what, input *in) {
    const unsigned which = take_byte(in);
    const int fd = peers.empty() ? -1 : peers[which % peers.size()].fd;
    switch (what) {
    case 0:
        receive(fd, "some bytes that have come, paper and all", 1 + take_below(in, 40));
        return;
    case 1:
        for (unsigned n = 1 + take_byte(in); n > 0; n--) receive(fd, std::string(256, 'm').data(), 256);
        return;
    case 2:
        if (fd >= 0) ring_model_receive_end(fd, take_below(in, 2) == 0 ? 0 : -ECONNRESET);
        return;
    case 3: ring_model_accept(listener_fd); return;
    case 4: ring_model_fire(which % 8 == 0 ? listener_fd : fd, take_below(in, 2) == 0 ? POLLIN : POLLOUT); return;
    case 5: {
        static const uint8_t opcodes[] = {IORING_OP_RECV, IORING_OP_POLL_ADD, IORING_OP_CONNECT};
        end_honestly(opcodes[which % 3], peers.empty() ? -1 : peers[take_byte(in) % peers.size()].fd, a_result(in));
        return;
    }
    case 6: {
        static const uint8_t opcodes[] = {IORING_OP_SEND, IORING_OP_SENDMSG, IORING_OP_SEND_ZC, IORING_OP_SENDMSG_ZC};
        answer(opcodes[which % 4], which >= 128 ? RING_SUCCEEDS : a_result(in));
        return;
    }
    case 7: {
        static const int errors[] = {0, -EINTR, -EBUSY, -EAGAIN};
        ring_model_plan(ring, which % 7 == 6 ? RING_TAKES_ALL : which % 7, errors[which / 7 % 4]);
        return;
    }
    case 8: let_go(false, which % 2 == 0); return;
    case 9:
    case 10:
    case 11: lie_freely(in); return;
    default: lie_about_something(in); return;
    }
}

// --- a life ---------------------------------------------------------------------------------------------------------

static void run_turn() {
    const int result = mio_loop_run_once(the_loop, 0);
    if (result == MIO_EBUSY) let_go(true, false);
    must(lied || result == MIO_ALIVE || result == MIO_EBUSY);
    ring = ring_model_newest();
}

static void world_make(input *in) {
    ring_world w = {};
    static const uint32_t features[] = {0, 0, 0, MIO_URING_RECEIVE, MIO_URING_INCREMENTAL, MIO_URING_SEND, MIO_URING_ACCEPT,
                                        MIO_URING_CONNECT, MIO_URING_CANCEL, MIO_URING_ZEROCOPY, mio::URING_RECEIVE_UNIX};
    const unsigned without = take_byte(in), kind = take_byte(in);
    w.without = features[without % 11] | features[without / 11 % 11];
    w.eager = kind % 3 == 1;
    w.completions = (kind & 8) != 0 ? 256 : 64;
    w.buffer_block = (kind & 16) != 0 ? 4096 : 0;
    ring_world_open(&w);
    static const unsigned queues[] = {0, 0, 8, 16};
    ring_model_kernel()->cq_entries = queues[kind >> 6];
    if ((kind & 32) != 0) ring_model_kernel()->features &= ~static_cast<uint32_t>(IORING_FEAT_SINGLE_MMAP);
    for (uint8_t opcode : {IORING_OP_SEND_ZC, IORING_OP_SENDMSG_ZC}) ring_model_answer(opcode, RING_SUCCEEDS);
    memory_watch();
    ring_loop_make(&w);
    must(mio_tcp_listen(the_loop, "127.0.0.1", 0, nullptr, on_accepted, nullptr, &listener) == 0);
    listener_fd = mio_listener_fd(listener);
}

// The kernel is a good one again, and all is closed.
static void quiet_down() {
    for (uint8_t opcode : {IORING_OP_SEND, IORING_OP_SENDMSG, IORING_OP_SEND_ZC, IORING_OP_SENDMSG_ZC})
        ring_model_answer(opcode, RING_SUCCEEDS);
    model::ring_of(ring)->plans.clear();
    for (peer &p : peers)
        if (p.stream != nullptr) peer_close(&p, false);
    for (int i = 0; i < 12; i++) {
        run_turn();
        let_go(true, false);
    }
}

static void live(input *in) {
    world_make(in);
    run_turn();
    for (unsigned step = 0; in->left > 0 && step < STEPS_MAX; step++) {
        const unsigned what = take_byte(in) % 32;
        if (what < 12) program_step(what, in);
        else if (what < 27) kernel_step(what - 12, in);
        else run_turn();
    }
    run_turn();
    if (!lied) quiet_down(); // by whoever ran it last: nobody else may destroy it
    if (lied) {
        (void)mio_loop_destroy(the_loop, 0); // it need not come to an end
        return;
    }
    must(mio_loop_destroy(the_loop, MIO_SECOND) == 0);
    must(listener_ends == 1 && words.empty() && memory.empty());
    for (const job &j : jobs) must(j.told || j.id <= 0 || j.of->abandoned);
    for (const peer &p : peers) must(!p.closing || p.closed || p.abandoned);
}

// What the script and the model have to say about what is left is not interesting here.
static void world_end() {
    FILE *told = stderr;
    stderr = fopen("/dev/null", "w");
    must(stderr != nullptr);
    (void)ring_model_close();
    fclose(stderr);
    stderr = told;
    for (void *ptr : memory) free(ptr);
    memory.clear();
    for (word *w : words) {
        free(w->bytes);
        free(w);
    }
    words.clear();
    peers.clear();
    jobs.clear();
    listener_ends = 0;
    the_loop = nullptr;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input in = {data, size};
    lied = silent = false;
    mio::thread_number_or_zero = 1;
    if (setjmp(escape) == 0) live(&in);
    world_end();
    return 0;
}
