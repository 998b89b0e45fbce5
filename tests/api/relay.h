// Two pairs with a relay between them: client --- server ==relay== other.server --- other.client
#pragma once

#include "await.h"

namespace api {

// Where relays say which side it was: written as long as one of them lives, which may be longer than its test.
inline enum mio_relay_side relay_failed;

// What a relay told.
struct relay_told {
    int calls;
    int status;
    int64_t a_to_b, b_to_a;
    mio_stream_t *a, *b;
    enum mio_relay_side failed;
    bool stop; // stops the loop when called
    mio_loop_t *loop;
    diary *log;
};
inline void relay_note(mio_stream_t *a, mio_stream_t *b, int status, int64_t a_to_b, int64_t b_to_a, void *arg) {
    if (is_over()) return;
    relay_told *told = static_cast<relay_told *>(arg);
    told->calls++;
    told->status = status;
    told->a_to_b = a_to_b;
    told->b_to_a = b_to_a;
    told->failed = relay_failed;
    told->a = a;
    told->b = b;
    if (told->log != nullptr) diary_add(told->log, "r");
    if (told->stop) mio_loop_stop(told->loop);
}

struct between {
    mio_loop_t *loop;
    pair left, right;      // the relay is between their servers: a is left's
    mio_stream_t *a, *b;
    relay_told told;
    mio_req_t id;
};

inline mio_relay_options_t relay_options() {
    mio_relay_options_t options = MIO_RELAY_OPTIONS_INIT;
    options.failed = &relay_failed;
    return options;
}

inline void relay_start(between *s, const mio_relay_options_t *with = nullptr) {
    const mio_relay_options_t options = with != nullptr ? *with : relay_options();
    s->told = {};
    relay_failed = static_cast<enum mio_relay_side>(77);
    s->told.loop = s->loop;
    s->id = mio_stream_relay(s->a, s->b, &options, relay_note, &s->told);
    ck_assert_int_gt(s->id, 0);
}

inline pair unix_pair(mio_loop_t *loop) {
    pair streams;
    assert_is(mio_unix_pair(loop, nullptr, MIO_UNIX_STREAM, &streams.client, &streams.server), 0);
    return streams;
}

// local: unix sockets, which take little that nobody reads, and go on at once when somebody does.
constexpr size_t LOCAL_ROOM = 3 << 20; // more than all of it takes unread
inline void between_open(between *s, bool local = false, bool started = true) {
    memset(static_cast<void *>(s), 0, sizeof *s);
    s->loop = loop_open();
    s->left = local ? unix_pair(s->loop) : connect_pair(s->loop);
    s->right = local ? unix_pair(s->loop) : connect_pair(s->loop);
    s->a = s->left.server;
    s->b = s->right.server;
    if (started) relay_start(s);
}

inline void say(mio_loop_t *loop, mio_stream_t *stream, size_t n, uint64_t offset) {
    mio_buf_t buf = pattern_buf(loop, n, offset);
    ck_assert_int_gt(mio_stream_write(stream, &buf, 1, nullptr, nullptr), 0);
}

inline void hear(mio_stream_t *stream, inbox *in) {
    ck_assert_int_gt(mio_stream_read_start(stream, MIO_READ_NO_AUTOPAUSE, read_into, in), 0);
}

// Until it was told; a machine may be slow.
inline void until_told(between *s) {
    ck_assert(comes(s->loop, [&] { return s->told.calls != 0; }));
    assert_is(s->told.calls, 1);
}

inline void until_received(mio_loop_t *loop, const inbox *in, uint64_t bytes) {
    (void)comes(loop, [&] { return in->received >= bytes || in->ends != 0; });
    ck_assert_msg(in->received == bytes, "%llu bytes instead of %llu, %d ends, the last with %lld",
                  static_cast<unsigned long long>(in->received), static_cast<unsigned long long>(bytes), in->ends,
                  static_cast<long long>(in->end));
    ck_assert(!in->wrong);
}

inline void until_ended(mio_loop_t *loop, const inbox *in, int64_t end = MIO_EOF) {
    (void)comes(loop, [&] { return in->ends != 0; });
    assert_is(in->end, end);
}

// A relay that is stuck: the left client has said more than all the kernels take, the right one does not read.
inline uint64_t stuck_open(between *s) {
    between_open(s, true);
    for (uint64_t offset = 0; offset < LOCAL_ROOM; offset += 65536) say(s->loop, s->left.client, 65536, offset);
    ck_assert_int_gt(mio_stream_shutdown(s->left.client, nullptr, nullptr), 0);
    size_t before = 0;
    for (int i = 0; i < 200; i++) {
        run_for(s->loop, 2 * MIO_MILLISECOND);
        const size_t now = mio_stream_queued_bytes(s->left.client);
        if (now == before && i > 5) break;
        before = now;
    }
    ck_assert_uint_gt(before, 0);
    ck_assert_uint_gt(mio_stream_queued_bytes(s->b), 0);
    assert_is(s->told.calls, 0);
    return LOCAL_ROOM;
}

// All of it, in order: what b's kernel accepted is for the right client, the rest for whoever reads a now.
inline void nothing_is_lost(between *s, uint64_t total) {
    ck_assert_int_gt(s->told.a_to_b, 0);
    const uint64_t accepted = static_cast<uint64_t>(s->told.a_to_b);
    ck_assert_uint_lt(accepted, total);
    static inbox there, here;
    there = here = {};
    here.received = accepted; // where the pattern goes on
    hear(s->right.client, &there);
    hear(s->a, &here);
    until_received(s->loop, &here, total);
    until_received(s->loop, &there, accepted);
    until_ended(s->loop, &here);
    run_for(s->loop, 2 * MIO_MILLISECOND);
    assert_is(there.ends, 0);
    // The write side is not broken, though a write ended in its middle.
    say(s->loop, s->b, 1000, accepted);
    until_received(s->loop, &there, accepted + 1000);
}

}
