// Perform, for datagrams: batches in and out with one call each, and what errors of a datagram socket are about.
//
//   in    up to DATAGRAM_BATCH into runs of the pool, each with what came along (base/datagram.h). A batch that is not full
//         proves that there is no more, unless an error was told of: it may hide behind the batch.
//   out   what the head of the lane has (core/datagram.h). The result is how many pieces left.
//
// An error that ICMP brought is about a datagram that left long ago; the socket tells it to whoever asks next, and forgets
// it by that. So the first error of a send may not be its own: it is tried once more, and what the second attempt says is.
// Where the socket queues errors, the queue has it with its address; elsewhere who receives is told without one.

#include "backend/perform.h"

#include "core/datagram.h"
#include "core/dispatch.h"

#include <string.h>

namespace mio {

constexpr unsigned ERRORS_MOST = 16; // fetched per attempt

// Of the network, told once: the next attempt may well succeed.
static bool is_of_network(int error) {
    switch (-error) {
    case ECONNREFUSED:
    case ECONNRESET:
    case EHOSTUNREACH:
    case EHOSTDOWN:
    case ENETUNREACH:
    case ENETDOWN:
    case ENONET:
    case ENOPROTOOPT:
    case EPROTO:
    case EMSGSIZE:
    case ETIMEDOUT:
    case EACCES: return true;
    default: return false;
    }
}

// --- errors ---------------------------------------------------------------------------------------------------------

// With the name of whom it is about, if there is memory for that.
static void report_named(loop *l, request *carrier, int error, const void *name, socklen_t name_len) {
    char *at;
    size_t room;
    block *from = nullptr;
    uint32_t offset = 0;
    if (name_len != 0 && pool_reserve(l, &at, &room) && room >= sizeof(datagram_head) + name_len) {
        const datagram_head head = {name_len, 0, 0, 0};
        memcpy(at, &head, sizeof head);
        memcpy(at + sizeof head, name, name_len);
        pool_commit(l, sizeof head + name_len, &from, &offset);
    }
    request_finish(l, carrier, error, FINISH_MORE, from, offset);
}

// Takes what the queue has. Returns how many messages that were, told of or not.
static unsigned errors_fetch(loop *l, channel *c) {
    struct sockaddr_storage name;
    char bytes[1];
    alignas(struct cmsghdr) char control[512];
    unsigned n = 0;
    for (; n < ERRORS_MOST && done_room(l) != 0; n++) {
        struct iovec iov = {bytes, sizeof bytes};
        struct msghdr message = {};
        message.msg_name = &name;
        message.msg_namelen = sizeof name;
        message.msg_iov = &iov;
        message.msg_iovlen = 1;
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        l->counters.backend_calls++;
        ssize_t got;
        do got = l->calls->recvmsg(c->fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT);
        while (got == -EINTR); // or a report would not say whom it is about
        if (got < 0) break;
        const int error = datagram_error(&message);
        if (error != 0) report_named(l, &c->in, error, &name, message.msg_namelen);
    }
    return n;
}

static bool receive_failed(loop *l, channel *c, const datagram_shape *shape, int error) {
    if (shape->errors && errors_fetch(l, c) != 0) return true;
    if (done_room(l) == 0) return true;
    if (is_of_network(error)) {
        request_finish(l, &c->in, error, FINISH_MORE, nullptr, 0);
        return true;
    }
    // Anything else might be said again at once. ENOBUFS is what the pool says.
    return perform_receive_end(l, c, error == -ENOBUFS ? -ENOMEM : error);
}

// --- in -------------------------------------------------------------------------------------------------------------

static void message_prepare(const datagram_shape *shape, char *run, struct sys_message *message, struct iovec *iov) {
    struct msghdr *head = &message->head;
    memset(head, 0, sizeof *head);
    char *name = run + sizeof(datagram_head);
    head->msg_name = name;
    head->msg_namelen = shape->name_room;
    if (shape->control_room != 0) {
        head->msg_control = name + shape->name_room;
        head->msg_controllen = shape->control_room;
    }
    *iov = iovec{run + datagram_offset(shape), shape->payload_room};
    head->msg_iov = iov;
    head->msg_iovlen = 1;
}

static void message_keep(const datagram_shape *shape, char *run, const struct sys_message *message) {
    datagram_head head;
    const size_t name_len = message->head.msg_namelen;
    const size_t control_len = shape->control_room != 0 ? static_cast<size_t>(message->head.msg_controllen) : 0;
    head.name_len = static_cast<uint32_t>(name_len < shape->name_room ? name_len : shape->name_room);
    head.control_len = static_cast<uint32_t>(control_len < shape->control_room ? control_len : shape->control_room);
    head.payload_len = message->len < shape->payload_room ? message->len : shape->payload_room;
    head.flags = static_cast<uint32_t>(message->head.msg_flags);
    memcpy(run, &head, sizeof head);
}

bool perform_receive_datagrams(loop *l, channel *c, bool doubtful, size_t *received) {
    const datagram_shape *shape = channel_datagrams(c);
    const size_t stride = datagram_stride(shape);
    const unsigned most = done_room(l) < DATAGRAM_BATCH ? done_room(l) : DATAGRAM_BATCH;
    char *runs;
    unsigned count;
    block *large;
    if (!pool_reserve_runs(l, stride, most, &runs, &count, &large))
        return perform_receive_end(l, c, pool_has_room(l) ? MIO_ENOMEM : MIO_ENOBUFS);
    struct sys_message messages[DATAGRAM_BATCH];
    struct iovec iov[DATAGRAM_BATCH];
    for (unsigned i = 0; i < count; i++) message_prepare(shape, runs + i * stride, &messages[i], &iov[i]);
    int n;
    do {
        l->counters.backend_calls++;
        n = l->calls->recvmmsg(c->fd, messages, count, MSG_DONTWAIT);
    } while (n == -EINTR);
    const unsigned filled = n > 0 ? static_cast<unsigned>(n) : 0;
    mio_assert(filled <= count);
    for (unsigned i = 0; i < filled; i++) message_keep(shape, runs + i * stride, &messages[i]);
    block *from;
    uint32_t offset;
    pool_commit_runs(l, stride, filled, large, &from, &offset);
    for (unsigned i = 0; i < filled; i++) {
        const int64_t len = messages[i].len < shape->payload_room ? messages[i].len : shape->payload_room;
        *received += static_cast<size_t>(len);
        request_finish(l, &c->in, len, FINISH_MORE, from, offset + i * static_cast<uint32_t>(stride));
    }
    if (n == -EAGAIN) return doubtful && shape->errors && errors_fetch(l, c) != 0;
    if (n <= 0) return receive_failed(l, c, shape, n == 0 ? -EIO : n);
    return filled == count || doubtful;
}

// --- out ------------------------------------------------------------------------------------------------------------

static int send_batch(loop *l, const channel *c, datagram_batch *batch) {
    int sent;
    do {
        l->counters.backend_calls++;
        sent = l->calls->sendmmsg(c->fd, batch->messages, batch->count, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent == -EINTR);
    return sent;
}

// An error, of which it is not known what it is about.
__attribute__((noinline)) static int send_again(loop *l, channel *c, const datagram_shape *shape, datagram_batch *batch,
                                                int error) {
    const int sent = send_batch(l, c, batch);
    const bool untold = !shape->errors && c->in.state == request_state::started && c->in.op == op_code::receive_datagrams;
    // Room for the result of the send stays.
    if (sent > 0 && untold && done_room(l) > 1) request_finish(l, &c->in, error, FINISH_MORE, nullptr, 0);
    return sent;
}

bool perform_send_datagrams(loop *l, channel *c) {
    const datagram_shape *shape = channel_datagrams(c);
    datagram_batch batch;
    datagram_gather(c, shape, &batch);
    int sent = 0; // of an empty lane: what it was for was taken back
    if (batch.count != 0) {
        lane_show(&c->writes);
        sent = send_batch(l, c, &batch);
        if (__builtin_expect(sent < 0 && is_of_network(sent) && (c->flags & CHANNEL_UNIX) == 0, 0))
            sent = send_again(l, c, shape, &batch, sent);
        lane_hide(&c->writes);
    }
    // A unix socket that is not connected is never told when its receiver has room again: that is waited for by the clock.
    const bool told = (c->flags & CHANNEL_UNIX) == 0 || batch.count == 0 || batch.messages[0].head.msg_name == nullptr;
    if (sent == -EAGAIN && told) return false;
    request_finish(l, &c->out, sent, 0, nullptr, 0);
    return true;
}

}
