// Two streams on a ring of the model, and the steps of a send without a copy: lent, sent, let go of. Included by one
// source file per program.
#pragma once

#include "support/ring_model_loop.h"

#if MIO_HAVE_URING

namespace test {

inline conn a, b;
constexpr size_t LARGE = 100000;
inline std::string large; // LARGE bytes

inline int open_loop(void **) {
    const ring_world w = {};
    ring_loop_open(&w);
    for (uint8_t op : {IORING_OP_SEND_ZC, IORING_OP_SENDMSG_ZC}) ring_model_answer(op, RING_SUCCEEDS);
    large.clear();
    for (size_t i = 0; i < LARGE; i++) large.push_back(static_cast<char>('a' + i % 26));
    for (conn *c : {&a, &b}) conn_open(c);
    turn();
    return 0;
}

inline int close_loop(void **) {
    ring_loop_close();
    return 0;
}

// --- steps ----------------------------------------------------------------------------------------------------------

inline mio_req_t conn_lend(conn *c, const std::string &text) {
    mio_buf_t buf = bytes_of(text);
    const mio_req_t id = mio_stream_write_flags(c->stream, &buf, 1, MIO_WRITE_ZEROCOPY, conn_written, c);
    assert_true(id > 0);
    return id;
}

inline bool lends(const struct io_uring_sqe *sqe) {
    return sqe->opcode == IORING_OP_SEND_ZC || sqe->opcode == IORING_OP_SENDMSG_ZC;
}

inline unsigned lent() { return taken_of(IORING_OP_SEND_ZC, ANY_FD) + taken_of(IORING_OP_SENDMSG_ZC, ANY_FD); }

// The nth send without a copy, from 0: its number among all entries.
inline int lent_at(unsigned nth) {
    for (unsigned i = 0; i < ring_model_taken(ring); i++)
        if (lends(ring_model_sqe(ring, static_cast<int>(i))) && nth-- == 0) return static_cast<int>(i);
    fail_msg("there were not so many sends without a copy");
    return -1;
}

inline uint64_t token_at(unsigned nth) { return ring_model_sqe(ring, lent_at(nth))->user_data; }

inline void let_go(unsigned nth) {
    ring_model_notify(ring, lent_at(nth));
    turn();
}

inline void copied(unsigned nth) {
    ring_model_notify_copied(ring, lent_at(nth));
    turn();
}

inline void expect_written(const conn *c, unsigned nth, int status, int64_t sent) {
    assert_true(nth < c->statuses.size());
    assert_int_equal(c->statuses[nth], status);
    assert_int_equal(c->sent[nth], sent);
}

inline bool is_closed(const conn *c) { return scripted_count_fd(call::close, c->fd) != 0; }

#define ZEROCOPY_TEST(title) cmocka_unit_test_setup_teardown(title, open_loop, close_loop)

}

#endif
