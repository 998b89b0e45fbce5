// Datagrams: UDP sockets of both families, connected or not, and on a kernel pairs of unix datagram sockets.
//
// Each piece that is sent begins with its number and goes on with bytes that follow from it, so that whoever receives it
// can say which one it is, from whom, and whether it is whole. The model: it comes to where it was sent, once (twice in a
// world that doubles), in order (but for a world that reorders), as it was; a unix one is never lost. Sends call back in
// the order of their starts, with their buffers.
#include "nouns.h"

#include <netinet/in.h>
#include <unistd.h>

namespace torture {

constexpr int SOCKETS_MAX = 10, SENDS_MAX = 160, PIECES_MAX = 4000;
constexpr unsigned BUFS_MAX = 4;
constexpr size_t HEAD = 8, SMALL_BLOCK = 300;

struct socket_of;

struct piece {
    socket_of *from;
    mio_addr_t to;
    uint32_t len;
    bool anywhere;      // it waited while its socket was connected anew
    bool sure;          // unix: the kernel has it
    int times;          // received
};

struct sending {
    int number;
    mio_req_t id;
    int first_piece, pieces;
    unsigned n;
    char *bases[BUFS_MAX];
    size_t lens[BUFS_MAX], total;
    bool early;         // asked to end
    bool addressed, too_long, abandoned, done;
    sending *next_of, *next;
};

struct socket_of {
    int number;
    mio_udp_t *udp;
    mio_loop_t *loop;
    mio_addr_t at;
    int family;
    socket_of *peer;    // of a pair
    bool connected;
    mio_addr_t to;      // whom to
    size_t block;
    bool receiving, paused, stopped, closing, dead, abandoned, detaching;
    bool moved;         // it has another address now
    bool unfollowed;    // some of what was received was told to nobody
    int last[SOCKETS_MAX]; // the last piece from each
    sending *first, *last_send; // not told of
    socket_of *next;
};

static socket_of *sockets;
static int socket_count, send_count, piece_count;
static piece pieces[PIECES_MAX];
static sending *sendings;

static bool is_usable(const socket_of *s) { return !s->closing && !s->dead && !s->abandoned && !s->detaching; }

static socket_of *pick() {
    socket_of *found = nullptr;
    uint32_t seen = 0;
    for (socket_of *s = sockets; s != nullptr; s = s->next)
        if (is_usable(s) && below(++seen) == 0) found = s;
    return found;
}

static bool same(const mio_addr_t *a, const mio_addr_t *b) {
    char one[MIO_ADDR_TEXT_MAX], other[MIO_ADDR_TEXT_MAX];
    return mio_addr_format(a, one, sizeof one) > 0 && mio_addr_format(b, other, sizeof other) > 0 && strcmp(one, other) == 0;
}

// --- pieces ---------------------------------------------------------------------------------------------------------

// The same seed may run in other processes, and a port that was theirs be ours now.
static uint32_t ours() {
    return static_cast<uint32_t>(now.seed * 2654435761u) ^ (now.sim ? 0 : static_cast<uint32_t>(getpid()) * 2246822519u);
}

static char byte_of(uint32_t number, size_t at) { return static_cast<char>('a' + (number * 7 + at) % 23); }

static void piece_fill(char *to, size_t len, socket_of *from, const mio_addr_t *at) {
    const uint32_t number = static_cast<uint32_t>(piece_count), magic = ours() ^ number;
    if (len < HEAD) { // too short to be told apart
        memset(to, '-', len);
        return;
    }
    pieces[piece_count++] = {from, at != nullptr ? *at : from->to, static_cast<uint32_t>(len), false, false, 0};
    memcpy(to, &number, 4);
    memcpy(to + 4, &magic, 4);
    for (size_t i = HEAD; i < len; i++) to[i] = byte_of(number, i);
}

static void piece_check(socket_of *s, const mio_datagram_t *d) {
    uint32_t number, magic;
    if (d->buf.len < HEAD) return;
    memcpy(&number, d->buf.base, 4);
    memcpy(&magic, d->buf.base + 4, 4);
    say("  piece %u", number);
    if (number >= static_cast<uint32_t>(piece_count) || magic != (ours() ^ number)) {
        if (s->family != AF_UNIX && !now.sim) return; // somebody else's: the ports of a machine are everybody's
        fail("socket %d received what nobody sent", s->number);
    }
    piece *p = &pieces[number];
    if (s->family == AF_UNIX ? p->from != s->peer : !p->anywhere && !same(&p->to, &s->at))
        fail("socket %d received piece %u, which was for another", s->number, number);
    if (s->family != AF_UNIX && !p->from->moved && !same(&d->addr, &p->from->at)) fail("piece %u comes from another address", number);
    if (d->buf.len != (p->len < s->block ? p->len : s->block) || (d->truncated != 0) != (p->len > s->block))
        fail("piece %u has %zu bytes of %u, truncated %d", number, d->buf.len, p->len, d->truncated);
    for (size_t i = HEAD; i < d->buf.len; i++)
        if (d->buf.base[i] != byte_of(number, i)) fail("byte %zu of piece %u is another", i, number);
    if (++p->times > (now.doubles ? 2 : 1)) fail("piece %u comes again", number);
    int *last = &s->last[p->from->number];
    const bool in_order = s->family == AF_UNIX || (now.sim && !now.doubles); // loopback changes processors
    if (in_order && static_cast<int>(number) < *last) fail("piece %u comes after %d", number, *last);
    *last = static_cast<int>(number);
}

// --- told -----------------------------------------------------------------------------------------------------------

static void told_datagram(mio_udp_t *udp, int status, mio_datagram_t *d, void *arg) {
    auto *s = static_cast<socket_of *>(arg);
    told_outside("a datagram");
    say("told: datagram of %d, status %d, %zu bytes", s->number, status, d->buf.len);
    if (s->dead || s->abandoned || !s->receiving || udp != s->udp) fail("socket %d receives after its end", s->number);
    if (status == 0) {
        if (s->paused || s->stopped || s->closing || s->detaching) fail("socket %d receives, and was told not to", s->number);
        piece_check(s, d);
        if (chance(20)) buf_hold(&d->buf);
    } else {
        if (d->buf.base != nullptr) fail("socket %d: a report has a buffer", s->number);
        switch (status) {
        case MIO_ECANCELED:
            if (!s->stopped && !s->closing && !s->detaching && !now.destroying) fail("socket %d is cancelled, and nobody asked for it", s->number);
            s->receiving = s->paused = s->stopped = false;
            break;
        case MIO_ECONNREFUSED: break;
        case MIO_ENOMEM:
        case MIO_ENOBUFS:
            if (now.no_memory || now.scarce) break;
            [[fallthrough]];
        default: fail("socket %d is told %s", s->number, mio_error_name(status));
        }
    }
    act_some(nullptr, below(2u));
}

static void told_sent(mio_udp_t *udp, int status, int64_t sent, mio_buf_t *bufs, unsigned n, void *arg) {
    auto *s = static_cast<socket_of *>(arg);
    told_outside("a send");
    sending *one = s->first;
    while (one != nullptr && one->abandoned) one = one->next_of;
    if (s->dead || s->abandoned || one == nullptr || udp != s->udp) fail("socket %d is told of a send that it did not make", s->number);
    say("told: send %d of socket %d, status %d, sent %lld", one->number, s->number, status, static_cast<long long>(sent));
    s->first = one->next_of;
    one->done = true;
    if (s->first == nullptr) s->last_send = nullptr;
    if (n != one->n) fail("send %d: %u buffers of %u", one->number, n, one->n);
    for (unsigned i = 0; i < n; i++)
        if (bufs[i].base != one->bases[i] || bufs[i].len != one->lens[i]) fail("send %d: buffer %u is another", one->number, i);
    if (sent < 0 || sent > static_cast<int64_t>(one->total) || (status == 0 && sent != static_cast<int64_t>(one->total)))
        fail("send %d: status %d, sent %lld of %zu", one->number, status, static_cast<long long>(sent), one->total);
    switch (status) {
    case 0:
        if (one->too_long) fail("send %d is too long, and was sent", one->number);
        for (int i = 0; i < one->pieces; i++) pieces[one->first_piece + i].sure = true;
        break;
    case MIO_ECANCELED:
    case MIO_ETIMEDOUT:
        if (!one->early && !s->closing && !now.destroying) fail("send %d ends early, and nobody asked for it", one->number);
        break;
    case MIO_EDESTADDRREQ:
        if (one->addressed) fail("send %d has somebody to go to", one->number);
        break;
    case MIO_EMSGSIZE:
        if (!one->too_long) fail("send %d is not too long", one->number);
        break;
    case MIO_ECONNREFUSED: // of a pair: the peer is gone
    case MIO_ENOTCONN:
    case MIO_ECONNRESET:
    case MIO_EPIPE:
        if (s->family != AF_UNIX || is_usable(s->peer)) fail("send %d: %s", one->number, mio_error_name(status));
        break;
    default:
        if (!is_want(status)) fail("send %d: %s", one->number, mio_error_name(status));
    }
    if (n > 0 && chance(30)) mio_buf_release(&bufs[0]);
    act_some(nullptr, below(2u));
}

static void told_udp_closed(mio_handle_t *handle, void *arg) {
    auto *s = static_cast<socket_of *>(arg);
    told_outside("a close");
    if (s->dead || s->abandoned || handle != s->udp) fail("socket %d closes twice, or after an abandon", s->number);
    if (s->receiving) fail("socket %d closes before its last call", s->number);
    for (const sending *one = s->first; one != nullptr; one = one->next_of)
        if (!one->abandoned) fail("socket %d closes before send %d is told", s->number, one->number);
    s->dead = true;
    act_some(nullptr, below(2u));
}

// --- opening --------------------------------------------------------------------------------------------------------

static socket_of *socket_new(mio_loop_t *loop, int family, size_t block) {
    auto *s = static_cast<socket_of *>(calloc(1, sizeof(socket_of)));
    s->number = socket_count++;
    s->loop = loop;
    s->family = family;
    s->block = block;
    for (int &last : s->last) last = -1;
    s->next = sockets;
    sockets = s;
    return s;
}

static bool refused(int error) {
    if (error < 0 && !may_refuse(error)) fail("no datagram socket: %s", mio_error_name(error));
    return error < 0;
}

static void receive_start(socket_of *s) {
    const mio_req_t id = CALL(mio_udp_recv_start(s->udp, told_datagram, s));
    if (s->receiving) {
        if (id != MIO_EBUSY) fail("socket %d receives twice: %lld", s->number, static_cast<long long>(id));
        return;
    }
    if (id < 0 && !may_refuse(id)) fail("socket %d does not receive: %s", s->number, mio_error_name(id));
    if (id < 0) return;
    s->receiving = true;
    s->paused = s->stopped = false;
}

static void open_act() {
    if (socket_count > SOCKETS_MAX - 2) return;
    mio_udp_options_t options = MIO_UDP_OPTIONS_INIT;
    options.block_size = chance(20) ? SMALL_BLOCK : 0;
    options.queue_max = chance(30) ? 3000 : 0;
    const size_t block = options.block_size != 0 ? options.block_size : MIO_DATAGRAM_BLOCK;
    mio_loop_t *loop = some_loop();
    mio_udp_t *one = nullptr, *other = nullptr;
    if (chance(50) && !now.sim) {
        if (refused(CALL(mio_unix_datagram_pair(loop, &options, &one, &other)))) return;
        socket_of *a = socket_new(loop, AF_UNIX, block), *b = socket_new(loop, AF_UNIX, block);
        a->udp = one;
        b->udp = other;
        a->peer = b;
        b->peer = a;
        a->connected = b->connected = true;
        receive_start(b);
        return;
    }
    const bool six = now.has_six && chance(30);
    if (refused(CALL(mio_udp_open(loop, six ? AF_INET6 : AF_INET, &options, &one)))) return;
    socket_of *s = socket_new(loop, six ? AF_INET6 : AF_INET, block);
    s->udp = one;
    mio_addr_t at;
    if (mio_addr_parse(six ? "::1" : "127.0.0.1", 0, &at) < 0 || CALL(mio_udp_bind(one, &at)) < 0 || mio_udp_local(one, &s->at) < 0)
        fail("socket %d is not bound", s->number);
    receive_start(s);
}

// --- sending --------------------------------------------------------------------------------------------------------

// Whom to: a socket of the same family that is open; NULL: the connected peer, or nobody.
static const mio_addr_t *whom(const socket_of *s) {
    if (s->family == AF_UNIX || chance(s->connected ? 60 : 5)) return nullptr;
    const mio_addr_t *found = nullptr;
    uint32_t seen = 0;
    for (const socket_of *to = sockets; to != nullptr; to = to->next)
        if (to->family == s->family && below(++seen) == 0) found = &to->at;
    return found;
}

static size_t some_len(const socket_of *s) {
    const uint32_t which = below(100u);
    return which < 5 ? 0 : which < 10 ? below(HEAD) : HEAD + (which < 80 ? below(250u) : below(s->family == AF_UNIX ? 4000u : 2500u));
}

static sending *sending_new(socket_of *s, int first_piece) {
    auto *one = static_cast<sending *>(calloc(1, sizeof(sending)));
    one->number = send_count++;
    one->first_piece = first_piece;
    one->pieces = piece_count - first_piece;
    one->next = sendings;
    sendings = one;
    if (s->last_send != nullptr) s->last_send->next_of = one;
    else s->first = one;
    s->last_send = one;
    return one;
}

static void send_buf(sending *one, const mio_buf_t *buf) {
    one->bases[one->n] = buf->base;
    one->lens[one->n++] = buf->len;
    one->total += buf->len;
}

// The bufs of one datagram: cut out of what was made as one.
static void send_act(socket_of *s) {
    const bool too_long = chance(2) && s->family != AF_UNIX;
    const size_t len = too_long ? 66000 : some_len(s);
    const mio_addr_t *to = whom(s);
    const int first_piece = piece_count;
    char *text = static_cast<char *>(malloc(len + 1));
    piece_fill(text, len, s, to);
    mio_buf_t bufs[BUFS_MAX];
    sending made = {};
    unsigned n = 1 + (chance(30) ? below(BUFS_MAX) : 0);
    for (size_t i = 0, at = 0; i < n; i++) {
        const size_t part = i + 1 == n ? len - at : below(len - at + 1);
        bufs[i] = buf_owned(s->loop, part + 1);
        memcpy(bufs[i].base, text + at, part);
        bufs[i].len = part;
        at += part;
        send_buf(&made, &bufs[i]);
    }
    free(text);
    const mio_req_t id = CALL(mio_udp_send(s->udp, bufs, n, to, told_sent, s));
    if (id < 0) {
        if (id != MIO_ENOBUFS && !may_refuse(id)) fail("socket %d does not send: %s", s->number, mio_error_name(id));
        for (unsigned i = 0; i < n; i++) {
            if (bufs[i].base != made.bases[i]) fail("a refused send took a buffer");
            mio_buf_release(&bufs[i]);
        }
        return;
    }
    sending *one = sending_new(s, first_piece);
    one->id = id;
    one->n = n;
    memcpy(one->bases, made.bases, sizeof made.bases);
    memcpy(one->lens, made.lens, sizeof made.lens);
    one->total = made.total;
    one->addressed = to != nullptr || s->connected;
    one->too_long = too_long;
    say("socket %d: send %d of %zu bytes, piece %d", s->number, one->number, len, first_piece);
}

static void send_many_act(socket_of *s) {
    mio_datagram_t list[BUFS_MAX] = {};
    mio_req_t ids[BUFS_MAX];
    int firsts[BUFS_MAX + 1];
    const mio_addr_t *to = whom(s);
    const unsigned n = 1 + below(BUFS_MAX);
    for (unsigned i = 0; i < n; i++) {
        const unsigned parts = s->family != AF_UNIX && chance(20) ? 2 + below(3u) : 1;
        const size_t len = parts > 1 ? HEAD + below(200u) : some_len(s);
        firsts[i] = piece_count;
        list[i].buf = buf_owned(s->loop, len * parts + 1);
        list[i].buf.len = len * parts;
        for (size_t k = 0; k < parts; k++) piece_fill(list[i].buf.base + k * len, len, s, to);
        if (parts > 1) list[i].segment_size = static_cast<uint32_t>(len);
        if (to != nullptr) list[i].addr = *to;
    }
    firsts[n] = piece_count;
    mio_buf_t was[BUFS_MAX];
    for (unsigned i = 0; i < n; i++) was[i] = list[i].buf;
    const int error = CALL(mio_udp_send_many(s->udp, list, n, told_sent, s, ids));
    for (unsigned i = 0; i < n; i++) {
        if ((error == 0) != (list[i].buf.base == nullptr)) fail("send_many gives %d, and buffer %u", error, i);
        mio_buf_release(&list[i].buf);
        if (error != 0) continue;
        sending *one = sending_new(s, firsts[i]);
        one->pieces = firsts[i + 1] - firsts[i];
        one->id = ids[i];
        one->addressed = to != nullptr || s->connected;
        send_buf(one, &was[i]);
    }
    say("socket %d: send_many of %u, pieces from %d", s->number, n, firsts[0]);
    if (error != 0 && error != MIO_ENOBUFS && !may_refuse(error)) fail("send_many gives %s", mio_error_name(error));
}

static void try_send_act(socket_of *s) {
    char text[400];
    const size_t len = HEAD + below(sizeof text - HEAD);
    const mio_addr_t *to = whom(s);
    piece_fill(text, len, s, to);
    const int64_t sent = CALL(mio_udp_try_send(s->udp, text, len, to));
    if (sent >= 0 && sent != static_cast<int64_t>(len)) fail("try_send gives %lld", static_cast<long long>(sent));
    say("socket %d: try_send of piece %d gives %lld", s->number, piece_count - 1, static_cast<long long>(sent));
    if (sent > 0) pieces[piece_count - 1].sure = true;
    if (sent == MIO_EDESTADDRREQ && to == nullptr && !s->connected) return;
    if (sent < 0 && sent != MIO_EAGAIN && sent != MIO_ECONNREFUSED && !is_want(sent) && s->family != AF_UNIX)
        fail("try_send gives %s", mio_error_name(sent));
}

static void send_disturb(socket_of *s) {
    sending *found = nullptr;
    uint32_t seen = 0;
    for (sending *one = s->first; one != nullptr; one = one->next_of)
        if (!one->abandoned && below(++seen) == 0) found = one;
    if (found == nullptr) return;
    const uint32_t which = below(3u);
    int error;
    if (which == 0) {
        error = CALL(mio_req_cancel(s->loop, found->id));
    } else if (which == 1 || now.no_abandons) {
        error = CALL(mio_req_timeout(s->loop, found->id, chance(50) ? 0 : below(3000u) * MIO_MICROSECOND));
    } else {
        error = CALL(mio_req_abandon(s->loop, found->id));
        if (error != 0) fail("send %d is not abandoned: %s", found->number, mio_error_name(error));
        found->abandoned = true;
        return;
    }
    if (error != 0 && error != MIO_EALREADY) fail("send %d: %s", found->number, mio_error_name(error));
    found->early = true;
}

// --- coming and going -----------------------------------------------------------------------------------------------

static void connect_act(socket_of *s) {
    if (s->family == AF_UNIX) return;
    const bool dissolve = s->connected && chance(30);
    const mio_addr_t *to = nullptr;
    uint32_t seen = 0;
    for (const socket_of *other = sockets; other != nullptr; other = other->next)
        if (other->family == s->family && below(++seen) == 0) to = &other->at;
    const int error = CALL(mio_udp_connect(s->udp, dissolve ? nullptr : to));
    say("socket %d: connect gives %d", s->number, error);
    if (error < 0 && !may_refuse(error)) fail("socket %d does not connect: %s", s->number, mio_error_name(error));
    if (error < 0) return;
    for (const sending *one = s->first; one != nullptr; one = one->next_of)
        for (int i = 0; i < one->pieces; i++) pieces[one->first_piece + i].anywhere = true;
    for (sending *one = s->first; one != nullptr; one = one->next_of) one->addressed = one->addressed && !dissolve;
    mio_addr_t at;
    if (dissolve && mio_udp_local(s->udp, &at) == 0 && !same(&at, &s->at)) s->moved = true; // Linux: the port was not its own choice
    s->connected = !dissolve;
    if (!dissolve) s->to = *to;
}

static void told_udp_detach(mio_udp_t *, int status, int fd, void *arg) {
    auto *s = static_cast<socket_of *>(arg);
    told_outside("a detach");
    say("told: detach of socket %d, %d", s->number, status);
    if (!s->detaching || s->dead || s->abandoned) fail("socket %d is detached, and nobody asked for it", s->number);
    if ((fd >= 0) != (status == 0)) fail("socket %d: detach %d, and the descriptor", s->number, status);
    s->detaching = false;
    if (status < 0) {
        if (status != MIO_ECANCELED || (!s->closing && !now.destroying)) fail("socket %d: detach %s", s->number, mio_error_name(status));
        return;
    }
    if (s->receiving) fail("socket %d leaves before its last call", s->number);
    s->unfollowed = true;
    s->loop = now.destroying ? s->loop : some_loop();
    mio_udp_options_t options = MIO_UDP_OPTIONS_INIT;
    options.block_size = s->block;
    const int error = CALL(mio_udp_adopt(s->loop, fd, &options, &s->udp));
    if (error == 0) {
        receive_start(s);
        return;
    }
    if (!may_refuse(error)) fail("socket %d is not adopted: %s", s->number, mio_error_name(error));
    s->dead = true;
    if (now.sim) now.stranded++;
    else close(fd);
}

static void end_act(socket_of *s) {
    const uint32_t which = below(100u);
    say("socket %d: end %u", s->number, which);
    if (which < 30) {
        const mio_req_t id = CALL(mio_udp_detach(s->udp, told_udp_detach, s));
        if (id < 0 && !may_refuse(id)) fail("socket %d is not detached: %s", s->number, mio_error_name(id));
        if (id > 0) s->detaching = true;
    } else if (which < 50 && !now.no_abandons) {
        CALL_VOID(mio_handle_abandon(s->udp));
        s->abandoned = true;
    } else {
        if (CALL(mio_handle_close(s->udp, told_udp_closed, s)) != 0) fail("socket %d does not close", s->number);
        s->closing = true;
    }
}

static void receive_act(socket_of *s) {
    const uint32_t which = below(4u);
    if (which == 0 || !s->receiving) {
        receive_start(s);
        return;
    }
    int error;
    if (which == 1) {
        error = CALL(mio_udp_recv_pause(s->udp));
        if (error == 0) s->paused = true;
    } else if (which == 2) {
        error = CALL(mio_udp_recv_resume(s->udp));
        if (error == 0) s->paused = false;
    } else {
        error = CALL(mio_udp_recv_stop(s->udp));
        if (error == 0 || error == MIO_EALREADY) s->stopped = true;
    }
    if (error != 0 && !(error == MIO_EALREADY && s->stopped)) fail("socket %d: %u gives %s", s->number, which, mio_error_name(error));
}

static void datagrams_act() {
    socket_of *s = pick();
    if (s == nullptr || chance(8)) {
        open_act();
        return;
    }
    const uint32_t which = below(100u);
    const bool full = send_count >= SENDS_MAX || piece_count + 20 > PIECES_MAX;
    if (which < 40 && !full) send_act(s);
    else if (which < 55 && !full) send_many_act(s);
    else if (which < 62 && !full) try_send_act(s);
    else if (which < 74) send_disturb(s);
    else if (which < 88) receive_act(s);
    else if (which < 94) connect_act(s);
    else if (which < 97) end_act(s);
}

// --- the end --------------------------------------------------------------------------------------------------------

static void datagrams_quiet() {
    for (socket_of *s = sockets; s != nullptr; s = s->next) {
        if (!is_usable(s)) continue;
        if (!s->receiving) receive_start(s);
        else if (s->paused && CALL(mio_udp_recv_resume(s->udp)) == 0) s->paused = false;
    }
}

// A peer that is gone may take along what it sent: Linux empties the queue of who sends to it.
static bool is_missing(const piece *p) {
    const socket_of *to = p->from->peer;
    return to != nullptr && is_usable(p->from) && is_usable(to) && to->receiving && !to->paused && !to->unfollowed && p->sure &&
           p->times == 0 && !reading_waits(to->loop);
}

static const sending *untold() {
    for (const socket_of *s = sockets; s != nullptr; s = s->next)
        for (const sending *one = s->first; is_usable(s) && one != nullptr; one = one->next_of)
            if (!one->abandoned && (s->peer == nullptr || (s->peer->receiving && !reading_waits(s->peer->loop)))) return one;
    return nullptr;
}

static bool datagrams_are_over() {
    for (int i = 0; i < piece_count; i++)
        if (is_missing(&pieces[i])) return false;
    for (const socket_of *s = sockets; s != nullptr; s = s->next)
        if ((s->closing && !s->dead) || (s->detaching && !s->abandoned)) return false;
    return untold() == nullptr;
}

static void datagrams_check() {
    if (untold() != nullptr) fail("send %d hangs", untold()->number);
    for (int i = 0; i < piece_count; i++)
        if (is_missing(&pieces[i])) fail("piece %d of socket %d, %u bytes, was lost", i, pieces[i].from->number, pieces[i].len);
    for (const socket_of *s = sockets; s != nullptr; s = s->next)
        if ((s->closing && !s->dead) || (s->detaching && !s->abandoned)) fail("socket %d does not end", s->number);
}

static void datagrams_close() {
    for (socket_of *s = sockets; s != nullptr; s = s->next) {
        if (!is_usable(s)) continue;
        if (CALL(mio_handle_close(s->udp, told_udp_closed, s)) != 0) fail("socket %d does not close", s->number);
        s->closing = true;
    }
}

static void datagrams_clear() {
    while (sockets != nullptr) {
        socket_of *s = sockets;
        sockets = s->next;
        for (const sending *one = s->first; one != nullptr && !s->abandoned; one = one->next_of)
            if (!one->abandoned) fail("send %d was never told", one->number);
        if (s->receiving && !s->abandoned) fail("socket %d was never told of its end", s->number);
        if (s->closing && !s->dead) fail("the close of socket %d was never told", s->number);
        free(s);
    }
    while (sendings != nullptr) {
        sending *one = sendings;
        sendings = one->next;
        free(one);
    }
    socket_count = send_count = piece_count = 0;
}

const noun noun_datagrams = {"datagrams", true, nullptr, datagrams_act, datagrams_quiet, datagrams_are_over, datagrams_check,
                             datagrams_close, datagrams_clear};

}
