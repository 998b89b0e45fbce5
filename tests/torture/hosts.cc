// Connects by name: to hosts where somebody listens at the first address, at a later one, or at none; to hosts that
// nobody knows. What comes about is a connection like any other.
//
// The model is what the program was told of the addresses: each at most once, the one that is connected last of all, and
// a failure that one of them had.
#include "nouns.h"

#include <netinet/in.h>

namespace torture {

constexpr int CONNECTS_MAX = 12;

struct host {
    const char *name;
    const char *addresses[4];
};

static const host hosts[] = {
    {"near.test", {"127.0.0.1", "::1"}},
    {"second.test", {"127.0.0.9", "127.0.0.1", "::9", "::1"}},
    {"nowhere.test", {"127.0.0.9", "::9"}},
    {"empty.test", {}},
};
static const char *const numbers[] = {"127.0.0.1", "::1", "127.0.0.9", "localhost"};
static int connects;

static void hosts_open() {
    for (const host &h : hosts) {
        if (!now.sim) return;
        if (h.addresses[0] == nullptr && mio_sim_add_name(now.world, h.name, nullptr) < 0) fail("no name");
        for (const char *text : h.addresses) {
            mio_addr_t at;
            if (text == nullptr) break;
            if (mio_addr_parse(text, 0, &at) < 0 || mio_sim_add_name(now.world, h.name, &at) < 0) fail("no name");
        }
    }
}

bool is_of_a_host(int64_t status) {
    switch (status) {
    case MIO_EAI_NONAME:
    case MIO_EAI_NODATA:
    case MIO_EAI_AGAIN:
    case MIO_EAI_FAIL: // of the machine's resolver: whatever it thinks of localhost
    case MIO_EADDRNOTAVAIL:
    case MIO_ENETUNREACH:
    case MIO_EHOSTUNREACH: return true; // no IPv6
    }
    return false;
}

static bool same(const mio_addr_t *a, const mio_addr_t *b) { return a->len == b->len && memcmp(&a->u, &b->u, a->len) == 0; }

static void told_host(mio_stream_t *stream, int status, const mio_connect_tried_t *tried, unsigned n, void *arg) {
    auto *r = static_cast<request *>(arg);
    connection *c = r->of;
    if (n > MIO_CONNECT_HOST_TRIES) fail("connect %d tried %u addresses", r->number, n);
    unsigned good = 0;
    bool has = status == MIO_ECANCELED || status == MIO_ETIMEDOUT || is_want(status);
    for (unsigned i = 0; i < n; i++) {
        if (mio_addr_port(tried[i].addr) != c->port) fail("connect %d tried another port", r->number);
        if (tried[i].status > 0) fail("connect %d: an address has %d", r->number, tried[i].status);
        if (tried[i].status == 0) good++;
        if (tried[i].status == status) has = true;
        for (unsigned k = 0; k < i; k++)
            if (same(tried[i].addr, tried[k].addr)) fail("connect %d tried an address twice", r->number);
    }
    if (good != (status == 0 ? 1u : 0u)) fail("connect %d: status %d, %u addresses connected", r->number, status, good);
    if (n > 0 && !has) fail("connect %d: %s, which none of its addresses has", r->number, mio_error_name(status));
    if (n == 0 && !has && !is_of_a_host(status)) fail("connect %d: %s without a try", r->number, mio_error_name(status));
    told_connect(stream, status, arg);
}

static void hosts_act() {
    if (connects >= CONNECTS_MAX || now.connection_count > CONNECTIONS_MAX / 2) return;
    connects++;
    const mio_addr_t *at = listener_address(!chance(15));
    if (at == nullptr) return;
    mio_connect_host_options_t options = MIO_CONNECT_HOST_OPTIONS_INIT;
    options.stagger_ns = chance(50) ? 0 : (10 + below(50u)) * MIO_MILLISECOND;
    if (chance(20)) options.timeout_ns = (1 + below(100u)) * MIO_MILLISECOND;
    if (chance(20)) options.family = chance(50) ? AF_INET : AF_INET6;
    const char *name = now.sim && chance(80) ? hosts[below(4u)].name : numbers[below(4u)];
    connection *c = connection_new(some_loop());
    c->by_name = true;
    c->port = mio_addr_port(at);
    request *r = request_new(c, kind::connect);
    const mio_req_t id =
        CALL(mio_tcp_connect_host(c->loop, name, MIO_TEXT, c->port, &options, told_host, r, &c->stream));
    if (id < 0) {
        if (!may_refuse(id)) fail("connect_host gives %s", mio_error_name(id));
        request_forget(r);
        c->dead = true;
        return;
    }
    request_taken(r, id);
    say("c%d: connect to %s port %d, request %d", c->number, name, c->port, r->number);
    c->connecting = true;
    r->deadline = options.timeout_ns > 0;
    connect_disturb(c, r);
}

static void hosts_clear() { connects = 0; }

const noun noun_hosts = {"hosts", true, hosts_open, hosts_act, nullptr, nullptr, nullptr, nullptr, hosts_clear};

}
