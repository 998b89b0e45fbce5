// Memory that counts itself home, for writes that wish not to be copied. What comes home is spoiled at once, as any
// program may.
#pragma once

#include "await.h"

namespace api {

constexpr size_t LARGE = 300000; // more than a narrow pair takes at once, less than it swallows
constexpr unsigned ZEROCOPY = MIO_WRITE_ZEROCOPY;

struct memory_watch {
    int out;
};
inline memory_watch watch;

struct watched {
    mio_buf_owner_t owner;
    char bytes[1];
};

inline void watched_home(mio_buf_owner_t *owner, char *base, size_t cap) {
    memset(base, 0xee, cap);
    free(reinterpret_cast<watched *>(owner));
    watch.out--;
}

inline mio_buf_t watched_buf(size_t n, uint64_t offset) {
    watched *w = static_cast<watched *>(malloc(sizeof(watched) + n));
    w->owner = MIO_BUF_OWNER_INIT(watched_home);
    pattern_fill(w->bytes, n, offset);
    mio_buf_t buf = mio_buf_wrap(w->bytes, n, &w->owner);
    buf.len = n;
    watch.out++;
    return buf;
}

inline mio_req_t wish(mio_stream_t *stream, size_t n, uint64_t offset, mio_write_cb cb, void *arg) {
    mio_buf_t buf = watched_buf(n, offset);
    const mio_req_t id = mio_stream_write_flags(stream, &buf, 1, ZEROCOPY, cb, arg);
    ck_assert_int_gt(id, 0);
    return id;
}

inline void start_over() { watch = {}; }

}
