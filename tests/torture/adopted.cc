// Descriptors that change hands: socket pairs adopted with bytes that were read already, descriptors that a detach gave
// and that are kept for some time, and what is no stream at all.
//
// The model of bytes that are given along: the other end sent them before, so they are received first.
#include "model.h"

#include <sys/socket.h>
#include <unistd.h>

namespace torture {

constexpr unsigned UNREAD_MAX = 16; // pieces that are given along

struct stray { // detached, and not adopted yet
    int fd;
    mio_buf_t unread[UNREAD_MAX];
    unsigned n;
    channel *on;
    int side;
    bool unknown;
    stray *next;
};

static stray *strays;

// --- bytes on their way ---------------------------------------------------------------------------------------------

// The program reads a part of what was unread itself, copies some, and cuts some in two. The bytes stay what they are.
static void unread_handle(stray *s, mio_loop_t *loop) {
    if (s->n > 0 && chance(30)) {
        const size_t part = below(s->unread[0].len);
        if (s->on != nullptr && part > 0 && !s->on->frozen[s->side])
            bytes_append(&s->on->received[s->side], s->unread[0].base, part);
        if (mio_buf_slice(&s->unread[0], part, s->unread[0].len - part) != 0) fail("a slice of what was unread");
    }
    if (s->n > 0 && chance(30)) {
        const int error = CALL(mio_buf_keep(loop, &s->unread[below(s->n)], below(50u)));
        if (error != 0 && error != MIO_ENOMEM && error != MIO_ESHUTDOWN) fail("keep gives %s", mio_error_name(error));
    }
    mio_buf_t *last = s->n > 0 ? &s->unread[s->n - 1] : nullptr;
    if (last == nullptr || last->len < 2 || s->n == UNREAD_MAX || !chance(40)) return;
    mio_buf_t second = {};
    const size_t at = 1 + below(last->len - 1), len = last->len;
    if (CALL(mio_buf_share(last, &second)) != 0) fail("what was unread is not shared");
    if (mio_buf_slice(&second, at, len - at) != 0 || mio_buf_slice(last, 0, at) != 0) fail("a cut of what was unread");
    s->unread[s->n++] = second;
}

static void unread_release(stray *s) {
    for (unsigned i = 0; i < s->n; i++) mio_buf_release(&s->unread[i]);
    s->n = 0;
}

static void stray_lose(stray *s) {
    polls_leave(s->fd);
    unread_release(s);
    if (s->on != nullptr) s->on->unknown[s->side] = s->on->frozen[s->side] = true;
    if (now.sim) now.stranded++;
    else close(s->fd);
}

// The stream that it becomes on `loop`; NULL: it was refused.
static connection *stray_adopt(stray *s, mio_loop_t *loop) {
    char *bases[UNREAD_MAX];
    for (unsigned i = 0; i < s->n; i++) bases[i] = s->unread[i].base;
    polls_leave(s->fd);
    mio_stream_t *stream = nullptr;
    const int error = CALL(mio_stream_adopt(loop, s->fd, s->unread, s->n, &stream));
    if (error != 0) {
        if (error != MIO_ESHUTDOWN && !(error == MIO_ENOMEM && (now.no_memory || now.scarce)))
            fail("adopt gives %s", mio_error_name(error));
        for (unsigned i = 0; i < s->n; i++)
            if (s->unread[i].base != bases[i]) fail("a refused adopt took a buffer");
        return nullptr;
    }
    for (unsigned i = 0; i < s->n; i++)
        if (s->unread[i].base != nullptr) fail("an adopt left a buffer with the program");
    connection *c = connection_new(loop);
    c->stream = stream;
    c->on = s->on;
    c->side = s->side;
    c->unknown = s->unknown;
    say("c%d: adopted with %u unread", c->number, s->n);
    return c;
}

// --- after a detach -------------------------------------------------------------------------------------------------

void stray_found(connection *from, int fd, mio_buf_t *unread, unsigned n) {
    auto *s = static_cast<stray *>(calloc(1, sizeof(stray)));
    if (n > UNREAD_MAX) fail("%u buffers unread", n);
    s->fd = fd;
    s->on = from->on;
    s->side = from->side;
    s->unknown = from->unknown;
    s->n = n;
    for (unsigned i = 0; i < n; i++) s->unread[i] = mio_buf_take(&unread[i]);
    unread_handle(s, from->loop);
    if (chance(30) && !now.stopping) {
        s->next = strays;
        strays = s;
        return;
    }
    connection *heir = stray_adopt(s, now.destroying ? from->loop : now.loops[below(now.loop_count)]);
    if (heir == nullptr) stray_lose(s);
    free(s);
    if (heir != nullptr) act_some(heir, below(4u));
}

int stray_fd() {
    int found = -1;
    uint32_t seen = 0;
    for (const stray *s = strays; s != nullptr; s = s->next)
        if (below(++seen) == 0) found = s->fd;
    return found;
}

static bool stray_return() {
    stray *s = strays;
    if (s == nullptr) return false;
    strays = s->next;
    connection *c = stray_adopt(s, now.loops[below(now.loop_count)]);
    if (c == nullptr) stray_lose(s);
    free(s);
    if (c != nullptr) act_some(c, below(3u));
    return true;
}

void strays_return() {
    while (stray_return()) {
    }
}

// --- socket pairs ---------------------------------------------------------------------------------------------------

static void unread_make(stray *s, mio_loop_t *loop) {
    const unsigned n = chance(60) ? 1 + below(4u) : 0;
    for (unsigned i = 0; i < n; i++) {
        const size_t len = 1 + below(chance(80) ? 100u : 5000u);
        mio_buf_t buf = buf_owned(loop, len);
        for (size_t k = 0; k < len; k++) buf.base[k] = static_cast<char>('a' + below(20u));
        buf.len = len;
        bytes_append(&s->on->sent[1 - s->side], buf.base, len);
        s->unread[s->n++] = buf;
    }
    unread_handle(s, loop);
}

static void pair_adopt() {
    int fds[2];
    if (now.connection_count > CONNECT_LIMIT) return;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) fail("no socket pair");
    channel *ch = channel_new(0, 0);
    ch->present[0] = ch->present[1] = true;
    connection *ends[2];
    for (int i = 0; i < 2; i++) {
        stray s = {};
        s.fd = fds[i];
        s.on = ch;
        s.side = i;
        mio_loop_t *loop = now.loops[below(now.loop_count)];
        unread_make(&s, loop);
        ends[i] = stray_adopt(&s, loop);
        if (ends[i] == nullptr) stray_lose(&s);
    }
    for (connection *c : ends)
        if (c != nullptr && !c->dead) act_some(c, below(3u));
}

// --- what cannot be adopted -----------------------------------------------------------------------------------------

static void adopt_refused(int fd, int expected, const char *what) {
    mio_loop_t *loop = now.loops[below(now.loop_count)];
    stray s = {};
    s.unread[0] = buf_owned(loop, 10);
    s.unread[0].len = 10;
    const char *base = s.unread[0].base;
    mio_stream_t *stream = nullptr;
    const int error = CALL(mio_stream_adopt(loop, fd, s.unread, 1, &stream));
    if (error != expected && error != MIO_ESHUTDOWN && !(error == MIO_ENOMEM && now.no_memory))
        fail("adopting %s gives %d", what, error);
    if (stream != nullptr || s.unread[0].base != base) fail("adopting %s took something", what);
    mio_buf_release(&s.unread[0]);
}

static void wrong_adopt() {
    if (chance(30) || now.sim) {
        adopt_refused(-1, MIO_EBADF, "nothing");
        return;
    }
    if (chance(50)) {
        int fds[2];
        if (pipe(fds) < 0) fail("no pipe");
        adopt_refused(fds[0], MIO_ENOTSOCK, "a pipe");
        close(fds[0]);
        close(fds[1]);
        return;
    }
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    adopt_refused(fd, MIO_EINVAL, "a datagram socket");
    close(fd);
}

void act_adopt(connection *) {
    if (chance(50) && stray_return()) return;
    if (chance(20)) wrong_adopt();
    else if (!now.sim) pair_adopt(); // a world has no socket pairs
}

}
