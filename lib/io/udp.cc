// Datagram sockets: made, adopted, closed; and the rest that both directions take. Receiving is in udp_receive.cc, sending
// in udp_send.cc, options and questions in udp_option.cc.
//
//   close     every request is to end (MIO_ECANCELED); carriers are cancelled; when both are FREE core closes the
//             descriptor; the last callbacks come; then the close callback
//   abandon   lane and unread datagrams go home at once; what carriers still bring is disposed of in their done functions
//
// Opening, binding and connecting never wait: what the system says is answered at once.

#include "base/socket.h"
#include "core/options.h"
#include "io/udp.h"

#include <mio/error.h>

#include <string.h>
#include <sys/un.h>

namespace mio {

constexpr uint32_t REST_OUT_MOST_MS = 64;
constexpr uint32_t REST_IN_FIRST_MS = 10;
constexpr uint32_t REST_IN_MOST_MS = 1000;

static udp *udp_of_node(timer_node *node) {
    return reinterpret_cast<udp *>(reinterpret_cast<char *>(node) - sizeof(channel));
}

// --- options --------------------------------------------------------------------------------------------------------

int udp_options_read(mio_udp_options_t *complete, const mio_udp_options_t *from) {
    const int error = options_copy(complete, sizeof *complete, from);
    if (error < 0) return error;
    if (complete->receive_buffer < 0 || complete->send_buffer < 0 || complete->block_size > MIO_DATAGRAM_MAX)
        return MIO_EINVAL;
    return 0;
}

static int option_on(const loop *l, int fd, int level, int name, int value) {
    return value == 0 ? 0 : l->calls->setsockopt(fd, level, name, &value, sizeof value);
}

static bool is_ip(int family) { return family == AF_INET || family == AF_INET6; }

int udp_prepare(const loop *l, int fd, int family, const mio_udp_options_t *o) {
    int error = option_on(l, fd, SOL_SOCKET, SO_REUSEADDR, o->reuse_addr != 0 ? 1 : 0);
    if (error == 0 && is_ip(family)) error = option_on(l, fd, SOL_SOCKET, SO_REUSEPORT, o->reuse_port != 0 ? 1 : 0);
    if (error == 0 && is_ip(family)) error = option_on(l, fd, SOL_SOCKET, SO_BROADCAST, o->broadcast != 0 ? 1 : 0);
    if (error == 0) error = option_on(l, fd, SOL_SOCKET, SO_RCVBUF, o->receive_buffer);
    if (error == 0) error = option_on(l, fd, SOL_SOCKET, SO_SNDBUF, o->send_buffer);
    const datagram_wants wants = {o->want_local != 0, o->want_ecn != 0, o->want_time != 0, o->gro != 0 && is_ip(family)};
    return error < 0 ? error : datagram_want(l->calls, fd, family, &wants);
}

static void shape_set(const loop *l, int fd, int family, const mio_udp_options_t *o, datagram_shape *shape) {
    const bool gro = o->gro != 0 && is_ip(family);
    const bool along = o->want_local != 0 || o->want_ecn != 0 || o->want_time != 0 || gro;
    shape->payload_room = static_cast<uint32_t>(o->block_size);
    if (o->block_size == 0) shape->payload_room = gro ? MIO_DATAGRAM_MAX : MIO_DATAGRAM_BLOCK;
    shape->name_room = is_ip(family) ? DATAGRAM_NAME_IP : DATAGRAM_NAME_UNIX;
    shape->control_room = along ? DATAGRAM_CONTROL : 0;
    shape->family = static_cast<sa_family_t>(family);
    shape->errors = is_ip(family) && datagram_errors_open(l->calls, fd, family);
    shape->segments = is_ip(family) && datagram_can_segment(l->calls, fd);
}

udp *udp_create(loop *l, int fd, int family, const mio_udp_options_t *o) {
    auto *u = static_cast<udp *>(handle_create(l, MIO_KIND_UDP));
    if (u == nullptr) return nullptr;
    mio_assert(udp_of_node(&u->rest) == u);
    u->fd = fd;
    u->flags = static_cast<uint16_t>(u->flags | CHANNEL_DATAGRAM | (is_ip(family) ? 0 : CHANNEL_UNIX));
    u->in.op = op_code::receive_datagrams;
    u->out.op = op_code::send_datagrams;
    u->queue_max = o->queue_max != 0 ? o->queue_max : l->options.write_queue_max;
    timer_node_init(&u->rest, TIMER_OF_UDP);
    shape_set(l, fd, family, o, &u->shape);
    return u;
}

int udp_check_start(const udp *u) {
    const int error = handle_check(u, MIO_KIND_UDP);
    if (error < 0) return error;
    return (u->on->flags & LOOP_DESTROYING) != 0 ? MIO_ESHUTDOWN : 0;
}

int udp_addr_check(const udp *u, const mio_addr_t *addr) {
    if (addr == nullptr || addr->len > sizeof addr->u || addr->len < sizeof addr->u.any.sa_family) return MIO_EINVAL;
    const int family = addr->u.any.sa_family;
    if (family != u->shape.family) return MIO_EINVAL;
    if (family == AF_INET) return addr->len >= sizeof(struct sockaddr_in) ? 0 : MIO_EINVAL;
    if (family == AF_INET6) return addr->len >= sizeof(struct sockaddr_in6) ? 0 : MIO_EINVAL;
    return addr->len <= sizeof(struct sockaddr_un) ? 0 : MIO_EINVAL;
}

// --- rests ----------------------------------------------------------------------------------------------------------

void udp_rest(loop *l, udp *u, uint32_t which) {
    u->bits |= which;
    if (u->rest.state != timer_state::idle) return; // one for both
    const bool in = (which & UDP_IN_RESTS) != 0;
    const uint32_t most_ms = in ? REST_IN_MOST_MS : REST_OUT_MOST_MS;
    u->rest_ms = u->rest_ms == 0 ? (in ? REST_IN_FIRST_MS : 1) : u->rest_ms * 2;
    if (u->rest_ms > most_ms) u->rest_ms = most_ms;
    timer_arm_after(l, &u->rest, u->rest_ms * MIO_MILLISECOND);
}

void udp_timer_due(loop *l, timer_node *node) {
    udp *u = udp_of_node(node);
    mio_assert(u->kind == MIO_KIND_UDP && node->state == timer_state::idle);
    u->bits &= ~(UDP_IN_RESTS | UDP_OUT_RESTS);
    if ((u->bits & UDP_RECEIVING) != 0) udp_update_in(l, u);
    udp_update_out(l, u);
}

// --- closing --------------------------------------------------------------------------------------------------------

void udp_begin_close(loop *l, udp *u) {
    timer_disarm(l, &u->rest);
    u->bits &= ~(UDP_IN_RESTS | UDP_OUT_RESTS);
    if ((u->bits & UDP_STARVED) != 0) udp_starved_leave(l, u);
    udp_drop_unread(l, u);
    if ((u->flags & HANDLE_ABANDONED) != 0) {
        if ((u->bits & UDP_RECEIVING) != 0) handle_request_end(u);
        u->bits &= ~(UDP_RECEIVE_MASK | UDP_BROKEN);
        udp_drop_sends(l, u);
    } else {
        if ((u->bits & UDP_RECEIVING) != 0) {
            u->bits |= UDP_STOPPING;
            udp_update_in(l, u);
        }
        udp_cancel_sends(l, u);
    }
    carrier_cancel(l, &u->in, MIO_ECANCELED);
    carrier_cancel(l, &u->out, MIO_ECANCELED);
}

}

// --- what the user asks ---------------------------------------------------------------------------------------------

using namespace mio;

int mio_udp_open(mio_loop_t *public_loop, int family, const mio_udp_options_t *options, mio_udp_t **out) {
    loop *l = loop_of(public_loop);
    int error = loop_check_start(l);
    if (error < 0) return error;
    if (out == nullptr || !is_ip(family)) return MIO_EINVAL;
    mio_udp_options_t o;
    error = udp_options_read(&o, options);
    if (error < 0) return error;
    const int fd = l->calls->socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP);
    if (fd < 0) return fd;
    if (family == AF_INET6) { // said either way: the system's default can be changed
        const int only = o.v6only != 0 ? 1 : 0;
        error = l->calls->setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
    }
    if (error == 0) error = udp_prepare(l, fd, family, &o);
    udp *u = error < 0 ? nullptr : udp_create(l, fd, family, &o);
    if (u == nullptr) {
        l->calls->close(fd);
        return error < 0 ? error : static_cast<int>(MIO_ENOMEM);
    }
    *out = theirs<mio_udp_t>(u);
    return 0;
}

// The family of a datagram socket that came from elsewhere, or an error.
static int adopted_family(const loop *l, int fd) {
    int type = 0, family = 0;
    socklen_t len = sizeof type;
    int error = l->calls->getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len);
    if (error < 0) return error;
    if (type != SOCK_DGRAM) return MIO_EINVAL;
    len = sizeof family;
    error = l->calls->getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &len);
    if (error < 0) return error;
    return is_ip(family) || family == AF_UNIX ? family : static_cast<int>(MIO_EINVAL);
}

int mio_udp_adopt(mio_loop_t *public_loop, int fd, const mio_udp_options_t *options, mio_udp_t **out) {
    loop *l = loop_of(public_loop);
    int error = loop_check_start(l);
    if (error < 0) return error;
    if (out == nullptr) return MIO_EINVAL;
    if (fd < 0) return MIO_EBADF;
    mio_udp_options_t o;
    error = udp_options_read(&o, options);
    if (error < 0) return error;
    const int family = adopted_family(l, fd);
    if (family < 0) return family;
    error = socket_adopt(l->calls, fd);
    if (error == 0) error = udp_prepare(l, fd, family, &o);
    if (error < 0) return error;
    udp *u = udp_create(l, fd, family, &o);
    if (u == nullptr) return MIO_ENOMEM;
    *out = theirs<mio_udp_t>(u);
    return 0;
}

int mio_udp_bind(mio_udp_t *public_udp, const mio_addr_t *addr) {
    const udp *u = ours<udp>(public_udp);
    int error = handle_check(u, MIO_KIND_UDP);
    if (error == 0) error = udp_addr_check(u, addr);
    return error < 0 ? error : u->on->calls->bind(u->fd, &addr->u.any, addr->len);
}

int mio_udp_connect(mio_udp_t *public_udp, const mio_addr_t *addr) {
    const udp *u = ours<udp>(public_udp);
    int error = handle_check(u, MIO_KIND_UDP);
    if (error == 0 && addr != nullptr) error = udp_addr_check(u, addr);
    if (error < 0) return error;
    if (addr != nullptr) return u->on->calls->connect(u->fd, &addr->u.any, addr->len);
    struct sockaddr_storage none;
    memset(&none, 0, sizeof none);
    none.ss_family = AF_UNSPEC;
    const socklen_t len = is_ip(u->shape.family) ? sizeof(struct sockaddr_in6) : sizeof none.ss_family;
    error = u->on->calls->connect(u->fd, reinterpret_cast<struct sockaddr *>(&none), len);
    return error == MIO_EAFNOSUPPORT ? 0 : error; // what some systems say when they have done it
}
