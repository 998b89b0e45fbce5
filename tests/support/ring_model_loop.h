// A whole loop over the model of io_uring, and streams over scripted descriptors that note what they were told.
//
//     ring_loop_open(&(ring_world){...})                 the model, what its kernel can do, a loop on it
//     conn c; conn_open(&c); conn_read(&c);              a stream; its descriptor is the script's
//     turn();                                            one turn that does not wait: at most one enter
//     ring_model_receive(c.fd, "hello", 5); turn();      c.got is "hello"
//     ring_loop_close();                                 destroy: everything has ended once, nothing is left over
//
// Bytes that are written are memory of the test's; how much of it has not come home is counted. Included by one source
// file per program.
#pragma once

#include "support/cmocka.h"

#include "support/ring_model.h"

#if MIO_HAVE_URING

#include "backend/uring.h"
#include "backend/uring_features.h"
#include "core/loop.h"

#include <mio.h>

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include <string>
#include <vector>

namespace test {

struct ring_world {
    uint32_t completions; // records of the loop, and of its ring; 0: 64
    uint32_t without;     // MIO_URING_..., URING_RECEIVE_UNIX that the kernel lacks
    bool eager;           // completions come at any time, not only in an enter: as where a thread of the kernel's submits
    size_t buffer_block, buffer_max_bytes;
};

inline const mio::sys *calls;
inline mio_loop_t *the_loop;
inline int ring;            // of the loop; -1: not made
inline unsigned writes_out; // buffers that were written and have not come home
inline std::string logged;  // lines of the loop's log

inline void note_log(mio_loop_t *, enum mio_log_level, const char *text, void *) { logged.append(text).append("\n"); }

constexpr uint32_t RING_DEFER = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
constexpr uint32_t RING_PLAIN = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN;

// The model, and what its kernel can do; no loop yet.
inline void ring_world_open(const ring_world *w) {
    calls = ring_model_open(1000000000);
    mio::uring_features features = {};
    features.works = (MIO_URING_ALL | mio::URING_RECEIVE_UNIX) & ~(w->without | (w->eager ? MIO_URING_DEFER : 0));
    features.setup = RING_DEFER;
    features.setup_plain = w->eager ? IORING_SETUP_SUBMIT_ALL : RING_PLAIN;
    mio::uring_features_preset(&features);
    ring_model_answer(IORING_OP_SEND, RING_SUCCEEDS);
    ring_model_answer(IORING_OP_SENDMSG, RING_SUCCEEDS);
    ring = -1;
    writes_out = 0;
    logged.clear();
}

inline mio_loop_options_t ring_loop_options(const ring_world *w) {
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.backend = MIO_BACKEND_IO_URING;
    options.completions = w->completions != 0 ? w->completions : 64;
    options.buffer_block = w->buffer_block;
    options.buffer_max_bytes = w->buffer_max_bytes;
    options.log = note_log;
    return options;
}

inline mio::loop *inside() { return mio::loop_of(the_loop); }

// The loop; the model is open.
inline void ring_loop_make(const ring_world *w) {
    const mio_loop_options_t options = ring_loop_options(w);
    mio::loop *l;
    assert_int_equal(mio::loop_create(&l, &options, calls), 0);
    the_loop = mio::loop_public(l);
    // Only a ring with such a thread receives into itself at any time; here one without it does, which is harder.
    constexpr uint32_t held = MIO_URING_RECEIVE | MIO_URING_INCREMENTAL | MIO_URING_ACCEPT | mio::URING_RECEIVE_UNIX;
    if ((w->without & MIO_URING_CANCEL) == 0) mio::uring_of(l)->features |= held & ~w->without;
    ring = ring_model_newest();
    assert_int_equal(mio_loop_hold(the_loop, 1), 0);
}

inline void ring_loop_open(const ring_world *w) {
    ring_world_open(w);
    ring_loop_make(w);
}

inline void turn() { assert_int_equal(mio_loop_run_once(the_loop, 0), MIO_ALIVE); }
inline void turns(unsigned n) {
    while (n-- > 0) turn();
}

inline void ring_loop_close() {
    assert_int_equal(mio_loop_destroy(the_loop, MIO_FOREVER), 0);
    the_loop = nullptr;
    assert_int_equal(writes_out, 0);
    assert_int_equal(ring_model_close(), 0);
}

inline mio_loop_metrics_t metrics() {
    mio_loop_metrics_t m = MIO_LOOP_METRICS_INIT;
    assert_int_equal(mio_loop_metrics(the_loop, &m), 0);
    return m;
}

// --- streams --------------------------------------------------------------------------------------------------------

struct conn {
    mio_stream_t *stream;
    int fd;
    std::string got;              // bytes of its continuous read
    unsigned reads, ends, closes; // calls with bytes, last calls, close callbacks
    int64_t end;                  // what the last call said
    std::vector<int> statuses;    // of its writes, in the order of their callbacks
    std::vector<int64_t> sent;
    bool echo; // writes back what it reads
    bool keep; // keeps the buffers it is given
    std::vector<mio_buf_t> kept;
    void (*on_read)(conn *c); // called after the above
    void (*on_written)(conn *c);
};

inline void conn_forget(conn *c) { *c = conn(); }

inline void option_push(int fd, int value) { // what the next getsockopt says
    scripted_result r = {};
    r.value = 1;
    r.data = &value;
    r.size = sizeof value;
    scripted_push_result(call::getsockopt, fd, &r);
}

// A socket of this kind on fd, or (0) on a new descriptor of the script's.
inline int socket_make(int fd, int domain, int protocol) {
    if (fd == 0) fd = calls->socket(domain, SOCK_STREAM, protocol);
    for (int value : {static_cast<int>(SOCK_STREAM), domain, protocol}) option_push(fd, value);
    return fd;
}

inline void conn_open_on(conn *c, int fd, int domain) {
    conn_forget(c);
    c->fd = socket_make(fd, domain, domain == AF_INET ? IPPROTO_TCP : 0);
    assert_int_equal(mio_stream_adopt(the_loop, c->fd, nullptr, 0, &c->stream), 0);
    assert_int_equal(mio_handle_set_data(c->stream, c), 0);
}
inline void conn_open(conn *c) { conn_open_on(c, 0, AF_INET); }

inline void conn_written(mio_stream_t *, int status, int64_t sent, mio_buf_t *, unsigned, void *arg) {
    auto *c = static_cast<conn *>(arg);
    c->statuses.push_back(status);
    c->sent.push_back(sent);
    if (c->on_written != nullptr) c->on_written(c);
}

inline void conn_got(mio_stream_t *s, int64_t n, mio_buf_t *buf, void *arg) {
    auto *c = static_cast<conn *>(arg);
    if (n < 0) {
        c->ends++;
        c->end = n;
    } else {
        assert_true(n > 0);
        c->reads++;
        c->got.append(buf->base, static_cast<size_t>(n));
        if (c->keep) c->kept.push_back(mio_buf_take(buf));
        else if (c->echo) assert_true(mio_stream_write(s, buf, 1, conn_written, c) > 0);
    }
    if (c->on_read != nullptr) c->on_read(c);
}

inline void conn_closed(mio_handle_t *, void *arg) { static_cast<conn *>(arg)->closes++; }

inline mio_req_t conn_read(conn *c) {
    const mio_req_t id = mio_stream_read_start(c->stream, 0, conn_got, c);
    assert_true(id > 0);
    return id;
}

inline void conn_close(conn *c) { assert_int_equal(mio_handle_close(c->stream, conn_closed, c), 0); }

inline void conn_drop_kept(conn *c) {
    for (mio_buf_t &buf : c->kept) mio_buf_release(&buf);
    c->kept.clear();
}

// Memory that is counted until it comes home.
inline void written_home(mio_buf_owner_t *owner, char *base, size_t) {
    free(base);
    free(owner);
    writes_out--;
}

inline mio_buf_t bytes_of(const std::string &text) {
    auto *owner = static_cast<mio_buf_owner_t *>(calloc(1, sizeof(mio_buf_owner_t)));
    owner->size = sizeof *owner;
    owner->release = written_home;
    auto *memory = static_cast<char *>(malloc(text.size()));
    memcpy(memory, text.data(), text.size());
    mio_buf_t buf = mio_buf_wrap(memory, text.size(), owner);
    buf.len = text.size();
    writes_out++;
    return buf;
}

inline mio_req_t conn_write(conn *c, const std::string &text) {
    mio_buf_t buf = bytes_of(text);
    const mio_req_t id = mio_stream_write(c->stream, &buf, 1, conn_written, c);
    assert_true(id > 0);
    return id;
}

inline std::string sent_by(const conn *c) {
    size_t n;
    const char *bytes = ring_model_sent(c->fd, &n);
    return std::string(bytes, n);
}

inline void expect_sent(const conn *c, const std::string &bytes) {
    assert_string_equal(sent_by(c).c_str(), bytes.c_str());
}

// --- listeners ------------------------------------------------------------------------------------------------------

struct ear {
    mio_listener_t *listener;
    int fd;
    std::vector<int> errors;
    std::vector<mio_stream_t *> streams; // kept
    unsigned closes;
};

inline void ear_called(mio_listener_t *, int status, mio_stream_t *s, void *arg) {
    auto *e = static_cast<ear *>(arg);
    if (status < 0) e->errors.push_back(status);
    else e->streams.push_back(s);
    if (status == 0) mio_handle_keep(s);
}

inline void ear_closed(mio_handle_t *, void *arg) { static_cast<ear *>(arg)->closes++; }

inline void ear_open(ear *e) {
    *e = ear();
    assert_int_equal(mio_tcp_listen(the_loop, "127.0.0.1", 0, nullptr, ear_called, e, &e->listener), 0);
    e->fd = mio_listener_fd(e->listener);
}

// One that others may accept on, too.
inline void ear_adopt(ear *e) {
    *e = ear();
    e->fd = calls->socket(AF_INET, SOCK_STREAM, IPPROTO_TCP);
    for (int value : {1, static_cast<int>(SOCK_STREAM)}) option_push(e->fd, value);
    assert_int_equal(mio_listener_adopt(the_loop, e->fd, ear_called, e, &e->listener), 0);
}

inline void ear_close(ear *e) { assert_int_equal(mio_handle_close(e->listener, ear_closed, e), 0); }

// --- the ring -------------------------------------------------------------------------------------------------------

// What waits in the ring of the loop; -1: nothing of that kind.
inline int waiting(uint8_t opcode, int fd) { return ring_model_find(ring, opcode, fd); }
inline bool is_armed(uint8_t opcode, const conn *c) { return waiting(opcode, c->fd) >= 0; }

// Entries of this kind that were taken so far, on fd or ANY_FD.
inline unsigned taken_of(uint8_t opcode, int fd) {
    unsigned n = 0;
    for (unsigned i = 0; i < ring_model_taken(ring); i++) {
        const struct io_uring_sqe *sqe = ring_model_sqe(ring, static_cast<int>(i));
        n += sqe->opcode == opcode && (fd == ANY_FD || sqe->fd == fd);
    }
    return n;
}

inline const struct io_uring_sqe *last_taken(uint8_t opcode, int fd) {
    for (unsigned i = ring_model_taken(ring); i > 0; i--) {
        const struct io_uring_sqe *sqe = ring_model_sqe(ring, static_cast<int>(i - 1));
        if (sqe->opcode == opcode && (fd == ANY_FD || sqe->fd == fd)) return sqe;
    }
    fail_msg("no entry %u on descriptor %d was taken", opcode, fd);
    return nullptr;
}

inline void complete(uint8_t opcode, int fd, int32_t res, uint32_t flags) {
    const int nth = waiting(opcode, fd);
    assert_true(nth >= 0);
    ring_model_complete(ring, nth, res, flags);
}

inline unsigned enters() { return ring_model_enters(ring); }

}

#else

namespace test {

inline void test_without_io_uring(void **) {
    print_message("skip: built without io_uring\n");
    skip();
}

// The main of a program that has nothing to test.
inline int ring_tests_skipped(const char *name) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_without_io_uring)};
    return cmocka_run_group_tests_name(name, tests, nullptr, nullptr);
}

}

#endif
