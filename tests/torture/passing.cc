// Bytes passed on: what was read is written again as it came, in part, copied or shared, to where it came from or to
// somebody else; one buffer goes to many; several pieces go in one write.
#include "model.h"

namespace torture {

constexpr unsigned PIECES_MAX = 8;

static bool can_write(const connection *c) { return !c->dead && !c->closing && !c->moving; }

static connection *somebody() {
    connection *c = now.connection_count > 0 ? now.connections[below(now.connection_count)] : nullptr;
    return c != nullptr && can_write(c) ? c : nullptr;
}

// Moves them in; when the write is refused, they are released.
static void write_bufs(connection *c, mio_buf_t *bufs, unsigned n, const char *what) {
    request *r = request_new(c, kind::write);
    for (unsigned i = 0; i < n; i++) {
        request_buf(r, &bufs[i]);
        bytes_append(&r->data, bufs[i].base, bufs[i].len);
    }
    const mio_req_t id = CALL(mio_stream_write(c->stream, bufs, n, told_write, r));
    if (id < 0) {
        check_refusal(what, id, c);
        request_bufs_drop(r, bufs, n);
        request_forget(r);
        return;
    }
    for (unsigned i = 0; i < n; i++)
        if (bufs[i].base != nullptr || bufs[i].owner != nullptr) fail("a write left buffer %u with the program", i);
    request_taken(r, id);
    say("c%d: %s, %u buffers, request %d", c->number, what, n, r->number);
    if (now.deadlines) r->deadline = CALL(mio_req_timeout(c->loop, id, below(50u) * MIO_MILLISECOND)) == 0;
}

static void narrow(mio_buf_t *buf) {
    const size_t off = below(buf->len), len = 1 + below(buf->len - off);
    if (mio_buf_slice(buf, off, len) != 0 || buf->len != len || buf->cap != len) fail("a buffer is not narrowed");
}

// What was just read goes on.
void pass_on(connection *from, mio_buf_t *buf) {
    connection *to = chance(60) ? from : somebody();
    if (to == nullptr || !can_write(to)) return; // the buffer goes home when the callback returns
    const uint32_t how = below(4u);
    mio_buf_t second = {};
    if (how == 1) {
        narrow(buf);
    } else if (how == 2 && CALL(mio_buf_keep(to->loop, buf, below(20u))) != 0) {
        return;
    } else if (how == 3) {
        if (CALL(mio_buf_share(buf, &second)) != 0) fail("what was read is not shared");
        if (chance(50)) narrow(&second);
        write_bufs(to, &second, 1, "passes on a share");
        if (chance(50)) buf_hold(buf); // two owners: its bytes are watched
        return;
    }
    second = mio_buf_take(buf);
    write_bufs(to, &second, 1, "passes on");
}

// One buffer, many streams: its memory comes home once, when the last of them is done.
static void broadcast(connection *first) {
    const size_t len = 1 + below(chance(80) ? 500u : 8000u);
    mio_buf_t all = buf_owned(first->loop, len);
    for (size_t i = 0; i < len; i++) all.base[i] = static_cast<char>('a' + below(20u));
    all.len = len;
    const unsigned n = 1 + below(6u);
    connection *to = first;
    for (unsigned i = 0; i < n; i++, to = somebody()) {
        if (to == nullptr) continue;
        mio_buf_t one = {};
        if (CALL(mio_buf_share(&all, &one)) != 0) fail("a buffer is not shared");
        if (chance(30)) narrow(&one);
        write_bufs(to, &one, 1, "broadcast");
    }
    if (chance(50)) buf_hold(&all);
    mio_buf_release(&all);
}

// Shares of what the program holds, in one write; perhaps the same bytes twice.
static void pieces(connection *c) {
    mio_buf_t bufs[PIECES_MAX];
    unsigned n = 0;
    for (unsigned left = 1 + below(PIECES_MAX); left > 0 && now.held_count > 0; left--) {
        mio_buf_t *one = &now.held[below(now.held_count)];
        mio_buf_t second = {};
        if (one->len == 0) continue;
        if (CALL(mio_buf_share(one, &second)) != 0) fail("a buffer is not shared");
        narrow(&second);
        bufs[n++] = second;
    }
    if (n > 0) write_bufs(c, bufs, n, "pieces");
}

void act_pass(connection *c) {
    if (chance(50)) broadcast(c);
    else pieces(c);
}

}
