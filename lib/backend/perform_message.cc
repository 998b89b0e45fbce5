// Perform, for messages: what travels beside the bytes of a unix socket (unix(7)).
//
//   records       of SOCK_SEQPACKET: one per receive, and one per send. The end of the stream is 0 bytes, and so is an
//                 empty record; but that one has its time with it (SO_TIMESTAMP, set by io), or says MSG_EOR
//   descriptors   those of one message go into the channel's place for them, and the carrier ends with the message: the
//                 next one is received when they were told. Without a place for them the kernel closes them, and what
//                 did not fit it closes, too
//
// A record that does not fit into what is left of the hot block gets memory of its own: it is asked for its length first.

#include "backend/perform.h"

#include "core/descriptors.h"

namespace mio {

constexpr size_t TIME_SPACE = CMSG_SPACE(16);

struct control {
    alignas(struct cmsghdr) char bytes[TIME_SPACE + CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
};

static descriptors *taken_of(const channel *c) { return c->extra == nullptr ? nullptr : c->extra->taken; }

// --- receiving ------------------------------------------------------------------------------------------------------

static void take_descriptor(loop *l, descriptors *to, int fd) {
    if (MSG_CMSG_CLOEXEC == 0 && to != nullptr && to->n < to->most) { // macOS: it comes without
        const int copy = l->calls->dup_cloexec(fd);
        l->calls->close(fd);
        if (copy >= 0) to->fds[to->n++] = copy;
        else to->status = copy;
        return;
    }
    if (to != nullptr && to->n < to->most) to->fds[to->n++] = fd;
    else l->calls->close(fd);
}

static bool is_time(const struct cmsghdr *piece) {
    return piece->cmsg_level == SOL_SOCKET && piece->cmsg_type == SCM_TIMESTAMP;
}

// What came beside the bytes. true: this was a record, also if it has no bytes.
static bool control_take(loop *l, descriptors *to, struct msghdr *message) {
    bool record = (message->msg_flags & MSG_EOR) != 0;
    for (struct cmsghdr *piece = CMSG_FIRSTHDR(message); piece != nullptr; piece = CMSG_NXTHDR(message, piece)) {
        if (is_time(piece)) record = true;
        if (piece->cmsg_level != SOL_SOCKET || piece->cmsg_type != SCM_RIGHTS) continue;
        const size_t n = (piece->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(piece) + i * sizeof fd, sizeof fd);
            take_descriptor(l, to, fd);
        }
    }
    return record;
}

struct received_message {
    ssize_t n;
    uint32_t flags;
};

// One message into `into`. FINISH_RECORD: it has an end here, FINISH_DESCRIPTORS: somebody is to be told of some.
static received_message message_receive(loop *l, channel *c, struct iovec *into) {
    control room;
    descriptors *to = taken_of(c);
    const bool records = (c->flags & CHANNEL_RECORDS) != 0;
    struct msghdr message;
    ssize_t n;
    do {
        memset(&message, 0, sizeof message);
        message.msg_iov = into;
        message.msg_iovlen = 1;
        message.msg_control = room.bytes;
        const size_t space = (records ? TIME_SPACE : 0) + (to != nullptr ? CMSG_LEN(to->most * sizeof(int)) : 0);
        message.msg_controllen = static_cast<decltype(message.msg_controllen)>(space);
        l->counters.backend_calls++;
        n = l->calls->recvmsg(c->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (n == -EINTR);
    if (n < 0) return {n, 0};
    if (to != nullptr) mio_assert(to->n == 0 && to->status == 0);
    uint32_t flags = control_take(l, to, &message) && records ? FINISH_RECORD : 0u;
    if (records && n != 0) flags |= FINISH_RECORD;
    if (records && (message.msg_flags & MSG_TRUNC) != 0) flags |= FINISH_CUT;
    if (to != nullptr && (message.msg_flags & MSG_CTRUNC) != 0)
        to->status = to->n == to->most ? static_cast<int>(MIO_EMSGSIZE) : static_cast<int>(MIO_EMFILE);
    if (to != nullptr && (to->n != 0 || to->status != 0)) flags |= FINISH_DESCRIPTORS;
    return {n, flags};
}

// Into the buffer of the first read that wants bytes: one shot.
static bool receive_own(loop *l, channel *c, struct iovec *own, bool doubtful) {
    lane_show(&c->reads);
    const received_message got = message_receive(l, c, own);
    lane_hide(&c->reads);
    if (got.n == -EAGAIN) return false;
    if (got.n < 0 || (got.n == 0 && got.flags == 0)) return perform_receive_end(l, c, got.n);
    request_finish(l, &c->in, got.n, got.flags, nullptr, 0);
    return static_cast<size_t>(got.n) == own->iov_len || doubtful;
}

// Length of the next record, 0 at the end of the stream (or of an empty one), or an error.
static ssize_t record_length(loop *l, channel *c) {
    char nothing;
    ssize_t n;
    do {
        l->counters.backend_calls++;
        n = l->calls->recv(c->fd, &nothing, 0, MSG_DONTWAIT | MSG_PEEK | MSG_TRUNC);
    } while (n == -EINTR);
    return n;
}

// The next record has memory of its own. *from: nullptr and -ENOMEM when there is none.
static received_message receive_apart(loop *l, channel *c, size_t length, block **from) {
    *from = pool_take_apart(l, length);
    if (*from == nullptr) return {MIO_ENOMEM, 0};
    struct iovec into = {(*from)->owner.base, length};
    const received_message got = message_receive(l, c, &into);
    if (got.n <= 0) {
        pool_give_apart(*from);
        *from = nullptr;
    }
    return got;
}

bool perform_receive_message(loop *l, channel *c, bool doubtful, size_t *received) {
    struct iovec into;
    if (lane_room(&c->reads, &into)) return receive_own(l, c, &into, doubtful);
    char *to;
    if (!pool_reserve(l, &to, &into.iov_len)) return perform_receive_end(l, c, MIO_ENOBUFS);
    into.iov_base = to;
    block *from = nullptr;
    uint32_t offset = 0;
    const ssize_t length = (c->flags & CHANNEL_RECORDS) != 0 ? record_length(l, c) : 0;
    if (length < 0) return length == -EAGAIN ? false : perform_receive_end(l, c, length);
    const bool apart = static_cast<size_t>(length) > into.iov_len;
    const received_message got = apart ? receive_apart(l, c, static_cast<size_t>(length), &from) : message_receive(l, c, &into);
    if (got.n == -EAGAIN) return false;
    if (got.n < 0 || (got.n == 0 && got.flags == 0)) return perform_receive_end(l, c, got.n);
    const size_t count = static_cast<size_t>(got.n);
    if (!apart && count != 0) pool_commit(l, count, &from, &offset);
    *received += count;
    const uint32_t more = (got.flags & FINISH_DESCRIPTORS) != 0 ? 0 : FINISH_MORE;
    request_finish(l, &c->in, got.n, got.flags | more, from, offset);
    return count == into.iov_len || doubtful;
}

// --- sending --------------------------------------------------------------------------------------------------------

static void control_put(const descriptor_pack *pack, control *room, struct msghdr *message) {
    const size_t bytes = pack->n * sizeof(int);
    memset(room->bytes, 0, CMSG_SPACE(bytes));
    message->msg_control = room->bytes;
    message->msg_controllen = static_cast<decltype(message->msg_controllen)>(CMSG_SPACE(bytes));
    struct cmsghdr *piece = CMSG_FIRSTHDR(message);
    piece->cmsg_level = SOL_SOCKET;
    piece->cmsg_type = SCM_RIGHTS;
    piece->cmsg_len = static_cast<decltype(piece->cmsg_len)>(CMSG_LEN(bytes));
    memcpy(CMSG_DATA(piece), pack->fds, bytes);
}

bool perform_send_message(loop *l, channel *c) {
    const lane_request *req = lane_message(&c->writes);
    if (req == nullptr) {
        request_finish(l, &c->out, 0, 0, nullptr, 0);
        return true;
    }
    struct iovec iov[PERFORM_VECTORS];
    control room;
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = iov;
    message.msg_iovlen = static_cast<decltype(message.msg_iovlen)>(write_gather(req, iov, PERFORM_VECTORS));
    const descriptor_pack *pack = req->moved == 0 ? request_pack(req) : nullptr; // they left with the first byte
    if (pack != nullptr) control_put(pack, &room, &message);
    ssize_t n;
    lane_show(&c->writes);
    do {
        l->counters.backend_calls++;
        n = l->calls->sendmsg(c->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n == -EINTR);
    lane_hide(&c->writes);
    if (n == -EAGAIN) return false;
    request_finish(l, &c->out, n, (c->flags & CHANNEL_RECORDS) != 0 ? FINISH_RECORD : 0, nullptr, 0);
    return true;
}

}
