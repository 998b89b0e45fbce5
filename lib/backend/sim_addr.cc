// Addresses and ports of the simulated world: which addresses a socket covers, who may share a port with whom, and who
// listens where a connection goes. Every IPv4 and IPv6 address is an address of this one host.
//
// Knows sockets' addresses and options, not their connections. The rules are Linux': a port is shared by sockets that
// all have SO_REUSEPORT, or all SO_REUSEADDR while none of them listens; the exact address is asked before a wildcard,
// and IPv4's wildcard before the dual one.

#include "backend/sim.h"

#include <mio/error.h>

#include <arpa/inet.h>
#include <string.h>

namespace mio {

static constexpr uint16_t FIRST_FREE_PORT = 32768;
static constexpr uint16_t LAST_FREE_PORT = 60999;

static bool is_mapped(const sim_addr *a) { return IN6_IS_ADDR_V4MAPPED(&a->ip); }

static bool same_ip(const sim_addr *a, const sim_addr *b) {
    return memcmp(&a->ip, &b->ip, sizeof a->ip) == 0 && a->scope == b->scope;
}

static void map_ip4(sim_addr *a, struct in_addr ip4) {
    memset(a->ip.s6_addr, 0, 10);
    memset(a->ip.s6_addr + 10, 0xff, 2);
    memcpy(a->ip.s6_addr + 12, &ip4, 4);
}

int sim_addr_read(int domain, const struct sockaddr *from, socklen_t len, sim_addr *out) {
    if (domain == AF_UNIX) return sim_name_find(sim_world_here(), from, len, out);
    memset(out, 0, sizeof *out);
    if (from == nullptr || len < sizeof(sa_family_t)) return -EINVAL;
    if (domain == AF_INET) {
        struct sockaddr_in in;
        if (len < sizeof in) return -EINVAL;
        memcpy(&in, from, sizeof in);
        if (in.sin_family != AF_INET) return -EAFNOSUPPORT;
        map_ip4(out, in.sin_addr);
        out->port = ntohs(in.sin_port);
        return 0;
    }
    struct sockaddr_in6 in6;
    sa_family_t family;
    memcpy(&family, &from->sa_family, sizeof family);
    if (family != AF_INET6) return -EAFNOSUPPORT;
    if (len < sizeof in6) return -EINVAL;
    memcpy(&in6, from, sizeof in6);
    out->ip = in6.sin6_addr;
    out->scope = IN6_IS_ADDR_LINKLOCAL(&in6.sin6_addr) ? in6.sin6_scope_id : 0;
    out->port = ntohs(in6.sin6_port);
    return 0;
}

void sim_addr_write(int domain, const sim_addr *from, struct sockaddr *to, socklen_t *len) {
    if (domain == AF_UNIX) {
        sim_name_write(from, to, len);
        return;
    }
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    memset(&in, 0, sizeof in);
    memset(&in6, 0, sizeof in6);
    const void *bytes = &in6;
    socklen_t size = sizeof in6;
    if (domain == AF_INET) {
        in.sin_family = AF_INET;
        in.sin_port = htons(from->port);
        memcpy(&in.sin_addr, from->ip.s6_addr + 12, 4);
        bytes = &in;
        size = sizeof in;
    } else {
        in6.sin6_family = AF_INET6;
        in6.sin6_port = htons(from->port);
        in6.sin6_addr = from->ip;
        in6.sin6_scope_id = from->scope;
    }
    memcpy(to, bytes, *len < size ? *len : size);
    *len = size;
}

void sim_addr_any(sim_addr *a, int domain) {
    memset(a, 0, sizeof *a);
    struct in_addr any4;
    any4.s_addr = htonl(INADDR_ANY);
    if (domain == AF_INET) map_ip4(a, any4);
    if (domain == AF_UNIX) sim_name_none(a);
}

static bool is_any4(const sim_addr *a) {
    return is_mapped(a) && a->ip.s6_addr[12] == 0 && a->ip.s6_addr[13] == 0 && a->ip.s6_addr[14] == 0 &&
           a->ip.s6_addr[15] == 0;
}

static bool is_any6(const sim_addr *a) { return IN6_IS_ADDR_UNSPECIFIED(&a->ip); }
bool sim_addr_is_any(const sim_addr *a) { return is_any4(a) || is_any6(a); }

// How well the socket's address answers to a: 0 not at all, 3 exactly.
static int coverage(const sim_socket *s, const sim_addr *a) {
    if ((s->domain == AF_UNIX) != sim_addr_is_unix(a)) return 0;
    if (same_ip(&s->local, a)) return 3;
    if (is_any4(&s->local)) return is_mapped(a) ? 2 : 0;
    if (!is_any6(&s->local)) return 0;
    if (!is_mapped(a)) return 2;
    return s->options[SIM_V6ONLY] == 0 ? 1 : 0;
}

// --- binding --------------------------------------------------------------------------------------------------------

static bool may_share(const sim_socket *a, const sim_socket *b, bool a_listens) {
    if (a->options[SIM_REUSE_PORT] != 0 && b->options[SIM_REUSE_PORT] != 0) return true;
    return a->options[SIM_REUSE_ADDR] != 0 && b->options[SIM_REUSE_ADDR] != 0 && !a_listens &&
           b->state != sim_state::listening;
}

static bool overlaps(const sim_socket *a, const sim_socket *b) {
    return a->datagram == b->datagram && a->local.port == b->local.port && (coverage(a, &b->local) != 0 || coverage(b, &a->local) != 0);
}

static uint16_t free_port(sim_world *w) {
    for (int tries = 0; tries <= LAST_FREE_PORT - FIRST_FREE_PORT; tries++) {
        const uint16_t port = w->next_port;
        w->next_port = port == LAST_FREE_PORT ? FIRST_FREE_PORT : static_cast<uint16_t>(port + 1);
        if (w->ports[port] == 0) return port;
    }
    return 0;
}

static void take_port(sim_socket *s) {
    mio_assert(!s->bound);
    s->bound = true;
    s->world->ports[s->local.port]++;
}

void sim_unbind(sim_socket *s) {
    if (!s->bound) return;
    mio_assert(s->world->ports[s->local.port] != 0);
    if (s->name != nullptr) sim_name_leave(s);
    s->bound = false;
    s->world->ports[s->local.port]--;
}

int sim_bind(sim_socket *s, const sim_addr *addr) {
    sim_world *w = s->world;
    if (s->bound) return -EINVAL;
    s->local = *addr;
    if (addr->port == 0) {
        s->local.port = free_port(w);
        if (s->local.port == 0) return -EADDRINUSE;
    } else if (w->ports[addr->port] != 0) {
        for (link *at = w->sockets.next; at != &w->sockets; at = at->next) {
            const sim_socket *other = sim_socket_of_all(at);
            if (other != s && other->bound && overlaps(s, other) && !may_share(s, other, false)) return -EADDRINUSE;
        }
    }
    take_port(s);
    return 0;
}

void sim_bind_accepted(sim_socket *s, const sim_addr *local) {
    s->local = *local;
    take_port(s);
}

bool sim_may_listen(const sim_socket *s) {
    sim_world *w = s->world;
    mio_assert(s->bound);
    for (link *at = w->listeners.next; at != &w->listeners; at = at->next) {
        const sim_socket *other = sim_socket_of_place(at);
        if (other != s && overlaps(s, other) && !may_share(s, other, true)) return false;
    }
    return true;
}

int sim_bind_for_connect(sim_socket *s, const sim_addr *to) {
    sim_world *w = s->world;
    mio_assert(!sim_addr_is_any(to));
    if (s->domain == AF_UNIX) return 0; // it stays without a name
    if (!s->bound) {
        s->local = *to;
        s->local.port = free_port(w);
        if (s->local.port == 0) return -EADDRNOTAVAIL;
        take_port(s);
        return 0;
    }
    if (sim_addr_is_any(&s->local)) {
        s->local.ip = to->ip;
        s->local.scope = to->scope;
    }
    if (w->ports[s->local.port] == 1) return 0;
    for (link *at = w->sockets.next; at != &w->sockets; at = at->next) {
        const sim_socket *other = sim_socket_of_all(at);
        if (other == s || !other->bound || other->local.port != s->local.port) continue;
        if (other->remote.port != to->port) continue;
        if (other->state != sim_state::connecting && other->state != sim_state::connected) continue;
        if (same_ip(&other->local, &s->local) && same_ip(&other->remote, to)) return -EADDRNOTAVAIL;
    }
    return 0;
}

sim_socket *sim_find_listener(sim_world *w, const sim_addr *to) {
    int best = 0;
    uint32_t equals = 0;
    for (link *at = w->listeners.next; at != &w->listeners; at = at->next) {
        const sim_socket *s = sim_socket_of_place(at);
        const int score = s->local.port == to->port ? coverage(s, to) : 0;
        if (score > best) {
            best = score;
            equals = 0;
        }
        if (score != 0 && score == best) equals++;
    }
    if (best == 0) return nullptr;
    uint32_t skip = equals == 1 ? 0 : sim_below(w, SIM_FOR_NETWORK, equals);
    for (link *at = w->listeners.next; at != &w->listeners; at = at->next) {
        sim_socket *s = sim_socket_of_place(at);
        if (s->local.port == to->port && coverage(s, to) == best && skip-- == 0) return s;
    }
    mio_assert(false && "one of the best is the chosen one");
    return nullptr;
}


// Connected sockets hear only their peer, and are asked before all others.
static int receives(const sim_socket *s, const sim_addr *to, const sim_addr *from) {
    if (!s->datagram || !s->bound || s->gone || s->local.port != to->port) return 0;
    const int score = coverage(s, to);
    if (score == 0 || s->remote.port == 0 || from == nullptr) return score;
    return s->remote.port == from->port && same_ip(&s->remote, from) ? score + 3 : 0;
}

sim_socket *sim_find_datagram(sim_world *w, const sim_addr *to, const sim_addr *from, bool drawn) {
    int best = 0;
    uint32_t equals = 0;
    for (link *at = w->sockets.next; at != &w->sockets && w->ports[to->port] != 0; at = at->next) {
        const int score = receives(sim_socket_of_all(at), to, from);
        if (score > best) {
            best = score;
            equals = 0;
        }
        if (score != 0 && score == best) equals++;
    }
    if (best == 0) return nullptr;
    uint32_t skip = equals == 1 || !drawn ? 0 : sim_below(w, SIM_FOR_NETWORK, equals);
    for (link *at = w->sockets.next;; at = at->next) {
        sim_socket *s = sim_socket_of_all(at);
        if (receives(s, to, from) == best && skip-- == 0) return s;
    }
}

}
