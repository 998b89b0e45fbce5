// Names that some systems lack. The flags get a value that the real table understands (sys_bsd.cc) or that changes
// nothing; the options and errors one that no kernel knows, so that setting such an option is MIO_ENOPROTOOPT.
#pragma once

#include "base/sys.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>
#if __has_include(<sys/ucred.h>)
#include <sys/param.h>
#include <sys/ucred.h>
#endif

#ifndef SOCK_CLOEXEC
#define SOCK_CLOEXEC 0x10000000
#define SOCK_NONBLOCK 0x20000000
#endif

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif
#ifndef MSG_MORE
#define MSG_MORE 0
#endif
#ifndef MSG_ERRQUEUE
#define MSG_ERRQUEUE 0 // no socket says that it has one
#endif
#ifndef MSG_CMSG_CLOEXEC
#define MSG_CMSG_CLOEXEC 0
#endif
#ifndef MSG_EOR
#define MSG_EOR 0
#endif

#ifndef SO_DOMAIN
#define SO_DOMAIN (-1) // answered by sys_bsd.cc, as the next one
#endif
#ifndef SO_PROTOCOL
#define SO_PROTOCOL (-2)
#endif
#ifndef SO_MARK
#define SO_MARK (-3)
#endif
#ifndef SO_PRIORITY
#define SO_PRIORITY (-4)
#endif
#ifndef SO_BUSY_POLL
#define SO_BUSY_POLL (-5)
#endif
#ifndef SO_INCOMING_CPU
#define SO_INCOMING_CPU (-6)
#endif
#ifndef SO_ZEROCOPY
#define SO_ZEROCOPY (-7)
#endif

#ifndef IP_FREEBIND
#define IP_FREEBIND (-1)
#endif
#ifndef IP_TRANSPARENT
#define IP_TRANSPARENT (-2)
#endif
#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT (-3)
#endif

#ifndef IP_PKTINFO
#define IP_PKTINFO (-4)
#endif
#ifndef IP_RECVTOS
#define IP_RECVTOS (-5)
#endif
#ifndef IPV6_RECVPKTINFO
#define IPV6_RECVPKTINFO (-6)
#endif
#ifndef IPV6_RECVTCLASS
#define IPV6_RECVTCLASS (-7)
#endif
#ifndef SO_TIMESTAMPNS
#define SO_TIMESTAMPNS (-8)
#endif

#ifndef TCP_KEEPIDLE
#ifdef TCP_KEEPALIVE
#define TCP_KEEPIDLE TCP_KEEPALIVE // macOS
#else
#define TCP_KEEPIDLE (-1)
#endif
#endif
#ifndef TCP_CORK
#define TCP_CORK (-2)
#endif
#ifndef TCP_QUICKACK
#define TCP_QUICKACK (-3)
#endif
#ifndef TCP_SYNCNT
#define TCP_SYNCNT (-4)
#endif
#ifndef TCP_USER_TIMEOUT
#define TCP_USER_TIMEOUT (-5)
#endif
#ifndef TCP_NOTSENT_LOWAT
#define TCP_NOTSENT_LOWAT (-6)
#endif
#ifndef TCP_DEFER_ACCEPT
#define TCP_DEFER_ACCEPT (-7)
#endif
#ifndef TCP_FASTOPEN
#define TCP_FASTOPEN (-8)
#endif
#ifndef TCP_FASTOPEN_CONNECT
#define TCP_FASTOPEN_CONNECT (-9)
#endif

#ifndef ENONET
#define ENONET 0x7fff0001
#endif

namespace mio {

// A send on a broken socket is an error, never SIGPIPE. On macOS no send can say that (old ones have no MSG_NOSIGNAL), so
// the socket does. The real table calls this for its own.
inline int socket_never_signals([[maybe_unused]] const sys *calls, [[maybe_unused]] int fd) {
#ifdef __APPLE__
    const int on = 1;
    return calls->setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
#else
    return 0;
#endif
}

// An empty record is told from the end of the stream by the time that comes with it (Linux), or by MSG_EOR.
inline int socket_tells_records(const sys *calls, int fd) {
    const int on = 1;
    return calls->setsockopt(fd, SOL_SOCKET, SO_TIMESTAMP, &on, sizeof on);
}

// Who made the other end of a unix socket, as the system knew then; pid 0: it does not tell.
inline int socket_peer(const sys *calls, int fd, int64_t *pid, uint32_t *uid, uint32_t *gid) {
#ifdef SO_PEERCRED
#ifdef __OpenBSD__
    struct sockpeercred peer;
#else
    struct ucred peer;
#endif
    socklen_t len = sizeof peer;
    const int error = calls->getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
    if (error < 0) return error;
    *pid = peer.pid;
    *uid = static_cast<uint32_t>(peer.uid);
    *gid = static_cast<uint32_t>(peer.gid);
    return 0;
#elif defined(LOCAL_PEERCRED) && defined(XUCRED_VERSION)
    struct xucred peer;
    socklen_t len = sizeof peer;
    const int error = calls->getsockopt(fd, 0, LOCAL_PEERCRED, &peer, &len); // level SOL_LOCAL
    if (error < 0) return error;
    *uid = static_cast<uint32_t>(peer.cr_uid);
    *gid = peer.cr_ngroups > 0 ? static_cast<uint32_t>(peer.cr_groups[0]) : UINT32_MAX;
    *pid = 0;
#ifdef LOCAL_PEERPID
    pid_t number = 0;
    len = sizeof number;
    if (calls->getsockopt(fd, 0, LOCAL_PEERPID, &number, &len) == 0) *pid = number;
#elif defined(__FreeBSD__)
    *pid = peer.cr_pid;
#endif
    return 0;
#else
    (void)calls, (void)fd, (void)pid, (void)uid, (void)gid;
    return -EOPNOTSUPP;
#endif
}

// Makes a socket that came from elsewhere one that sends as ours do. On macOS MSG_DONTWAIT means something to receives
// only (sosendcheck of XNU looks at the socket, not at that flag): there it becomes O_NONBLOCK.
inline int socket_adopt([[maybe_unused]] const sys *calls, [[maybe_unused]] int fd) {
#ifdef __APPLE__
    const int error = socket_never_signals(calls, fd);
    return error < 0 ? error : calls->set_nonblocking(fd);
#else
    return 0;
#endif
}

}
