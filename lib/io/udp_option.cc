// Options of datagram sockets: multicast, hops, broadcast; and the questions. Each is one system call, or a word of why
// not: nothing is kept here.
//
// Groups are joined by the calls that know both families (RFC 3678); the interface is a number everywhere. An IPv6 socket
// that also has IPv4 is an IPv6 socket here.

#include "io/udp.h"

#include "base/socket.h"

#include <mio/error.h>

#include <string.h>

namespace mio {

static int option_set(const udp *u, int level, int name, int value) {
    return u->on->calls->setsockopt(u->fd, level, name, &value, sizeof value);
}

// An open socket of IP. *family: which.
static int ip_check(const udp *u, int *family) {
    const int error = handle_check(u, MIO_KIND_UDP);
    if (error < 0) return error;
    *family = u->shape.family;
    return *family == AF_INET || *family == AF_INET6 ? 0 : static_cast<int>(MIO_ENOTSUP);
}

static bool is_multicast(const mio_addr_t *addr) {
    if (addr->u.any.sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, &addr->u, sizeof in);
        return IN_MULTICAST(ntohl(in.sin_addr.s_addr));
    }
    struct sockaddr_in6 in6;
    memcpy(&in6, &addr->u, sizeof in6);
    return IN6_IS_ADDR_MULTICAST(&in6.sin6_addr);
}

static int membership(const udp *u, const mio_addr_t *group, const mio_addr_t *source, uint32_t ifindex, bool join) {
    int family;
    int error = ip_check(u, &family);
    if (error == 0) error = udp_addr_check(u, group);
    if (error == 0 && source != nullptr) error = udp_addr_check(u, source);
    if (error < 0) return error;
    if (!is_multicast(group)) return MIO_EINVAL;
    const int level = family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
    if (source == nullptr) {
        struct group_req req;
        memset(&req, 0, sizeof req);
        req.gr_interface = ifindex;
        memcpy(&req.gr_group, &group->u, group->len);
        return u->on->calls->setsockopt(u->fd, level, join ? MCAST_JOIN_GROUP : MCAST_LEAVE_GROUP, &req, sizeof req);
    }
    struct group_source_req req;
    memset(&req, 0, sizeof req);
    req.gsr_interface = ifindex;
    memcpy(&req.gsr_group, &group->u, group->len);
    memcpy(&req.gsr_source, &source->u, source->len);
    const int name = join ? MCAST_JOIN_SOURCE_GROUP : MCAST_LEAVE_SOURCE_GROUP;
    return u->on->calls->setsockopt(u->fd, level, name, &req, sizeof req);
}

static int interface_set(const udp *u, int family, uint32_t ifindex) {
    if (family == AF_INET6) return option_set(u, IPPROTO_IPV6, IPV6_MULTICAST_IF, static_cast<int>(ifindex));
    return datagram_interface4(u->on->calls, u->fd, ifindex);
}

static int name_of(const udp *u, mio_addr_t *out, bool peer) {
    const int error = handle_check(u, MIO_KIND_UDP);
    if (error < 0) return error;
    if (out == nullptr) return MIO_EINVAL;
    mio_addr_t addr = mio_addr_t();
    addr.len = sizeof addr.u;
    const sys *calls = u->on->calls;
    const int failed = peer ? calls->getpeername(u->fd, &addr.u.any, &addr.len)
                            : calls->getsockname(u->fd, &addr.u.any, &addr.len);
    if (failed < 0) return failed;
    *out = addr;
    return 0;
}

}

using namespace mio;

int mio_udp_join(mio_udp_t *u, const mio_addr_t *group, const mio_addr_t *source, uint32_t ifindex) {
    return membership(ours<udp>(u), group, source, ifindex, true);
}

int mio_udp_leave(mio_udp_t *u, const mio_addr_t *group, const mio_addr_t *source, uint32_t ifindex) {
    return membership(ours<udp>(u), group, source, ifindex, false);
}

int mio_udp_multicast_ttl(mio_udp_t *public_udp, int hops) {
    const udp *u = ours<udp>(public_udp);
    int family;
    const int error = ip_check(u, &family);
    if (error < 0) return error;
    if (hops < 0 || hops > 255) return MIO_EINVAL;
    if (family == AF_INET6) return option_set(u, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, hops);
    const unsigned char ttl = static_cast<unsigned char>(hops); // the one size that every system takes
    return u->on->calls->setsockopt(u->fd, IPPROTO_IP, IP_MULTICAST_TTL, &ttl, sizeof ttl);
}

int mio_udp_multicast_loop(mio_udp_t *public_udp, int on) {
    const udp *u = ours<udp>(public_udp);
    int family;
    const int error = ip_check(u, &family);
    if (error < 0) return error;
    if (family == AF_INET6) return option_set(u, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, on != 0 ? 1 : 0);
    const unsigned char loop = on != 0 ? 1 : 0;
    return u->on->calls->setsockopt(u->fd, IPPROTO_IP, IP_MULTICAST_LOOP, &loop, sizeof loop);
}

int mio_udp_multicast_interface(mio_udp_t *public_udp, uint32_t ifindex) {
    const udp *u = ours<udp>(public_udp);
    int family;
    const int error = ip_check(u, &family);
    return error < 0 ? error : interface_set(u, family, ifindex);
}

int mio_udp_ttl(mio_udp_t *public_udp, int hops) {
    const udp *u = ours<udp>(public_udp);
    int family;
    const int error = ip_check(u, &family);
    if (error < 0) return error;
    if (hops < 1 || hops > 255) return MIO_EINVAL;
    if (family == AF_INET6) return option_set(u, IPPROTO_IPV6, IPV6_UNICAST_HOPS, hops);
    return option_set(u, IPPROTO_IP, IP_TTL, hops);
}

int mio_udp_broadcast(mio_udp_t *public_udp, int on) {
    const udp *u = ours<udp>(public_udp);
    int family;
    const int error = ip_check(u, &family);
    return error < 0 ? error : option_set(u, SOL_SOCKET, SO_BROADCAST, on != 0 ? 1 : 0);
}

int mio_udp_local(const mio_udp_t *u, mio_addr_t *out) { return name_of(ours<udp>(u), out, false); }
int mio_udp_peer(const mio_udp_t *u, mio_addr_t *out) { return name_of(ours<udp>(u), out, true); }

int mio_udp_fd(const mio_udp_t *public_udp) {
    const udp *u = ours<udp>(public_udp);
    const int error = handle_check(u, MIO_KIND_UDP);
    return error < 0 ? error : u->fd;
}
