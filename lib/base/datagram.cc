// Control data of datagrams: which message of which system says what.
//
//   local address   Linux, macOS, NetBSD: IP_PKTINFO; FreeBSD, OpenBSD: IP_RECVDSTADDR, which tells no interface;
//                   IPv6 everywhere: IPV6_PKTINFO (RFC 3542), where IPv4 is mapped
//   ECN             IP_TOS as it came, IPV6_TCLASS; a socket of both families asks for both
//   time            SO_TIMESTAMPNS, else SO_TIMESTAMP
//   joined          UDP_GRO and UDP_SEGMENT: Linux
//   errors          IP_RECVERR, IPV6_RECVERR: Linux. What the host itself refused is told to who sent it, and left out
//
// Control data is copied in and out: it need not lie aligned for its contents.
#define __APPLE_USE_RFC_3542 // before any header: macOS has IPV6_PKTINFO only then
#include "base/datagram.h"

#include <errno.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#ifdef __linux__
#include <linux/errqueue.h>
#endif

#ifndef SOL_UDP
#define SOL_UDP IPPROTO_UDP
#endif

namespace mio {

static int option_on(const sys *calls, int fd, int level, int name) {
    const int on = 1;
    return calls->setsockopt(fd, level, name, &on, sizeof on);
}

// --- asking -----------------------------------------------------------------------------------------------------------

static int want_local(const sys *calls, int fd, int family) {
#ifdef IPV6_RECVPKTINFO
    if (family == AF_INET6) return option_on(calls, fd, IPPROTO_IPV6, IPV6_RECVPKTINFO);
#endif
    if (family != AF_INET) return -ENOTSUP;
#if defined(IP_RECVPKTINFO) && !defined(__linux__)
    return option_on(calls, fd, IPPROTO_IP, IP_RECVPKTINFO);
#elif defined(IP_PKTINFO)
    return option_on(calls, fd, IPPROTO_IP, IP_PKTINFO);
#elif defined(IP_RECVDSTADDR)
    return option_on(calls, fd, IPPROTO_IP, IP_RECVDSTADDR);
#else
    return -ENOTSUP;
#endif
}

static int want_ecn(const sys *calls, int fd, int family) {
#if defined(IP_RECVTOS) && defined(IPV6_RECVTCLASS)
    if (family == AF_INET) return option_on(calls, fd, IPPROTO_IP, IP_RECVTOS);
    if (family != AF_INET6) return -ENOTSUP;
    (void)option_on(calls, fd, IPPROTO_IP, IP_RECVTOS); // of IPv4 on a socket of both; refused where it is of one
    return option_on(calls, fd, IPPROTO_IPV6, IPV6_RECVTCLASS);
#else
    return -ENOTSUP;
#endif
}

static int want_time(const sys *calls, int fd) {
#ifdef SO_TIMESTAMPNS
    return option_on(calls, fd, SOL_SOCKET, SO_TIMESTAMPNS);
#else
    return option_on(calls, fd, SOL_SOCKET, SO_TIMESTAMP);
#endif
}

int datagram_want(const sys *calls, int fd, int family, const datagram_wants *wants) {
    int error = 0;
    if (wants->local) error = want_local(calls, fd, family);
    if (wants->ecn && error == 0) error = want_ecn(calls, fd, family);
    if (wants->time && error == 0) error = want_time(calls, fd);
#ifdef UDP_GRO
    if (wants->segments && error == 0) (void)option_on(calls, fd, SOL_UDP, UDP_GRO);
#endif
    return error == -ENOPROTOOPT || error == -EOPNOTSUPP ? -ENOTSUP : error;
}

bool datagram_errors_open([[maybe_unused]] const sys *calls, [[maybe_unused]] int fd, [[maybe_unused]] int family) {
#if defined(IP_RECVERR) && defined(IPV6_RECVERR)
    if (family == AF_INET) return option_on(calls, fd, IPPROTO_IP, IP_RECVERR) == 0;
    if (family != AF_INET6) return false;
    (void)option_on(calls, fd, IPPROTO_IP, IP_RECVERR); // of IPv4 on a socket of both
    return option_on(calls, fd, IPPROTO_IPV6, IPV6_RECVERR) == 0;
#else
    return false;
#endif
}

bool datagram_can_segment([[maybe_unused]] const sys *calls, [[maybe_unused]] int fd) {
#ifdef UDP_SEGMENT
    int size = 0;
    socklen_t len = sizeof size;
    return calls->getsockopt(fd, SOL_UDP, UDP_SEGMENT, &size, &len) == 0;
#else
    return false;
#endif
}

int datagram_interface4([[maybe_unused]] const sys *calls, [[maybe_unused]] int fd, [[maybe_unused]] uint32_t ifindex) {
#if defined(__linux__) || defined(__APPLE__) || defined(__FreeBSD__)
    struct ip_mreqn req;
    memset(&req, 0, sizeof req);
    req.imr_ifindex = static_cast<decltype(req.imr_ifindex)>(ifindex);
    return calls->setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &req, sizeof req);
#else
    return -ENOTSUP;
#endif
}

// --- reading ----------------------------------------------------------------------------------------------------------

static void note_local4(datagram_notes *out, const struct in_addr *addr) {
    memset(&out->local.in, 0, sizeof out->local.in);
    out->local.in.sin_family = AF_INET;
    out->local.in.sin_addr = *addr;
    out->local_len = sizeof out->local.in;
}

static void note_local6(datagram_notes *out, const struct in6_addr *addr, uint32_t ifindex) {
    memset(&out->local.in6, 0, sizeof out->local.in6);
    out->local.in6.sin6_family = AF_INET6;
    out->local.in6.sin6_addr = *addr;
    if (IN6_IS_ADDR_LINKLOCAL(addr)) out->local.in6.sin6_scope_id = ifindex;
    out->local_len = sizeof out->local.in6;
    out->ifindex = ifindex;
}

template <class T> static bool contents(const struct cmsghdr *header, T *out) {
    if (header->cmsg_len < CMSG_LEN(sizeof *out)) return false;
    memcpy(out, CMSG_DATA(header), sizeof *out);
    return true;
}

static void read_socket(const struct cmsghdr *header, datagram_notes *out) {
#ifdef SCM_TIMESTAMPNS
    struct timespec at;
    if (header->cmsg_type == SCM_TIMESTAMPNS && contents(header, &at))
        out->time_ns = static_cast<int64_t>(at.tv_sec) * 1000000000 + at.tv_nsec;
#endif
    struct timeval coarse;
    if (header->cmsg_type == SCM_TIMESTAMP && contents(header, &coarse))
        out->time_ns = static_cast<int64_t>(coarse.tv_sec) * 1000000000 + static_cast<int64_t>(coarse.tv_usec) * 1000;
}

// sent: of a datagram that is on its way out.
static void read_ip(const struct cmsghdr *header, [[maybe_unused]] bool sent, datagram_notes *out) {
#ifdef IP_PKTINFO
    struct in_pktinfo info;
    if (header->cmsg_type == IP_PKTINFO && contents(header, &info)) {
        note_local4(out, sent ? &info.ipi_spec_dst : &info.ipi_addr);
        out->ifindex = static_cast<uint32_t>(info.ipi_ifindex);
    }
#elif defined(IP_RECVDSTADDR)
    struct in_addr addr;
    if (header->cmsg_type == IP_RECVDSTADDR && contents(header, &addr)) note_local4(out, &addr);
#endif
    bool is_tos = header->cmsg_type == IP_TOS;
#ifdef IP_RECVTOS
    is_tos = is_tos || header->cmsg_type == IP_RECVTOS;
#endif
    if (is_tos && header->cmsg_len >= CMSG_LEN(1)) out->ecn = *CMSG_DATA(header) & 3; // a byte; or an int of a little endian
}

static void read_ip6(const struct cmsghdr *header, datagram_notes *out) {
#ifdef IPV6_PKTINFO
    struct in6_pktinfo info;
    if (header->cmsg_type == IPV6_PKTINFO && contents(header, &info))
        note_local6(out, &info.ipi6_addr, static_cast<uint32_t>(info.ipi6_ifindex));
#endif
#ifdef IPV6_TCLASS
    int tclass;
    if (header->cmsg_type == IPV6_TCLASS && contents(header, &tclass)) out->ecn = static_cast<uint8_t>(tclass & 3);
#endif
}

static void read_udp([[maybe_unused]] const struct cmsghdr *header, [[maybe_unused]] datagram_notes *out) {
#ifdef UDP_GRO
    int size;
    if (header->cmsg_type == UDP_GRO && contents(header, &size) && size > 0) out->segment = static_cast<uint32_t>(size);
#endif
#ifdef UDP_SEGMENT
    uint16_t segment;
    if (header->cmsg_type == UDP_SEGMENT && contents(header, &segment)) out->segment = segment;
#endif
}

static void read_all(const char *control, size_t len, bool sent, datagram_notes *out) {
    memset(static_cast<void *>(out), 0, sizeof *out);
    struct msghdr message = {};
    message.msg_control = const_cast<char *>(control);
    message.msg_controllen = static_cast<decltype(message.msg_controllen)>(len);
    for (struct cmsghdr *at = CMSG_FIRSTHDR(&message); at != nullptr; at = CMSG_NXTHDR(&message, at)) {
        if (at->cmsg_level == SOL_SOCKET) read_socket(at, out);
        else if (at->cmsg_level == IPPROTO_IP) read_ip(at, sent, out);
        else if (at->cmsg_level == IPPROTO_IPV6) read_ip6(at, out);
        else if (at->cmsg_level == SOL_UDP) read_udp(at, out);
    }
}

void datagram_read(const char *control, size_t len, datagram_notes *out) { read_all(control, len, false, out); }
void datagram_read_sent(const char *control, size_t len, datagram_notes *out) { read_all(control, len, true, out); }

int datagram_error([[maybe_unused]] const struct msghdr *message) {
#if defined(__linux__) && defined(IP_RECVERR) && defined(IPV6_RECVERR)
    struct msghdr copy = *message;
    for (struct cmsghdr *at = CMSG_FIRSTHDR(&copy); at != nullptr; at = CMSG_NXTHDR(&copy, at)) {
        const bool is_error = (at->cmsg_level == IPPROTO_IP && at->cmsg_type == IP_RECVERR) ||
                              (at->cmsg_level == IPPROTO_IPV6 && at->cmsg_type == IPV6_RECVERR);
        struct sock_extended_err error;
        if (!is_error || !contents(at, &error)) continue;
        const bool by_network = error.ee_origin == SO_EE_ORIGIN_ICMP || error.ee_origin == SO_EE_ORIGIN_ICMP6;
        return by_network ? -static_cast<int>(error.ee_errno) : 0;
    }
#endif
    return 0;
}

// --- writing ----------------------------------------------------------------------------------------------------------

template <class T> static size_t put(char *control, size_t at, int level, int type, const T &what) {
    struct cmsghdr header;
    memset(&header, 0, sizeof header);
    header.cmsg_level = level;
    header.cmsg_type = type;
    header.cmsg_len = static_cast<decltype(header.cmsg_len)>(CMSG_LEN(sizeof what));
    memset(control + at, 0, CMSG_SPACE(sizeof what));
    memcpy(control + at, &header, sizeof header);
    memcpy(control + at + CMSG_LEN(0), &what, sizeof what);
    return at + CMSG_SPACE(sizeof what);
}

static bool writes_ip4(int family, const datagram_notes *notes) {
    return family == AF_INET || (notes->local_len != 0 && notes->local.any.sa_family == AF_INET);
}

static size_t write_local4(char *control, size_t at, const datagram_notes *notes, [[maybe_unused]] bool sent) {
#ifdef IP_PKTINFO
    struct in_pktinfo info;
    memset(&info, 0, sizeof info);
    info.ipi_ifindex = static_cast<decltype(info.ipi_ifindex)>(notes->ifindex);
    if (notes->local_len != 0) (sent ? info.ipi_spec_dst : info.ipi_addr) = notes->local.in.sin_addr;
    return put(control, at, IPPROTO_IP, IP_PKTINFO, info);
#elif defined(IP_RECVDSTADDR)
    return put(control, at, IPPROTO_IP, IP_RECVDSTADDR, notes->local.in.sin_addr); // IP_SENDSRCADDR is the same
#else
    (void)control;
    (void)notes;
    return at;
#endif
}

static size_t write_local6(char *control, size_t at, const datagram_notes *notes) {
#ifdef IPV6_PKTINFO
    struct in6_pktinfo info;
    memset(&info, 0, sizeof info);
    if (notes->local_len != 0) info.ipi6_addr = notes->local.in6.sin6_addr;
    info.ipi6_ifindex = static_cast<decltype(info.ipi6_ifindex)>(notes->ifindex);
    return put(control, at, IPPROTO_IPV6, IPV6_PKTINFO, info);
#else
    (void)control;
    (void)notes;
    return at;
#endif
}

int datagram_write(char *control, int family, const datagram_notes *notes) {
    size_t at = 0;
    const bool ip4 = writes_ip4(family, notes);
    if (notes->local_len != 0 || notes->ifindex != 0) {
        at = ip4 ? write_local4(control, at, notes, true) : write_local6(control, at, notes);
        if (at == 0) return -ENOTSUP;
    }
    if (notes->ecn != 0) {
        const int ecn = notes->ecn;
        if (ip4) at = put(control, at, IPPROTO_IP, IP_TOS, ecn);
#ifdef IPV6_TCLASS
        else at = put(control, at, IPPROTO_IPV6, IPV6_TCLASS, ecn);
#endif
#ifdef __linux__
        // To a mapped IPv4 address that is what counts. Each family leaves the other's out.
        if (!ip4) at = put(control, at, IPPROTO_IP, IP_TOS, ecn);
#endif
    }
#ifdef UDP_SEGMENT
    if (notes->segment != 0) at = put(control, at, SOL_UDP, UDP_SEGMENT, static_cast<uint16_t>(notes->segment));
#endif
    return static_cast<int>(at);
}

size_t datagram_write_received(char *control, const datagram_notes *notes, const datagram_wants *wants) {
    size_t at = 0;
    const bool ip4 = notes->local_len != 0 && notes->local.any.sa_family == AF_INET;
    if (wants->local) at = ip4 ? write_local4(control, at, notes, false) : write_local6(control, at, notes);
    if (wants->ecn) {
        const int ecn = notes->ecn;
#ifdef IPV6_TCLASS
        if (!ip4) at = put(control, at, IPPROTO_IPV6, IPV6_TCLASS, ecn);
        else
#endif
            at = put(control, at, IPPROTO_IP, IP_TOS, static_cast<uint8_t>(ecn));
    }
#ifdef SCM_TIMESTAMPNS
    if (wants->time) {
        struct timespec when;
        when.tv_sec = static_cast<time_t>(notes->time_ns / 1000000000);
        when.tv_nsec = static_cast<long>(notes->time_ns % 1000000000);
        at = put(control, at, SOL_SOCKET, SCM_TIMESTAMPNS, when);
    }
#endif
    return at;
}

}
