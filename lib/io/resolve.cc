// Names: hosts to addresses and back, by jobs for the resolver's lane.
//
// Decides what is a host name, before any resolver sees it, and whose the answer is: it is made on the worker's thread,
// in one piece of memory, is the callback's until that returns, and the program's if it takes it. Must not know how a
// name is resolved: that is the table of calls' (a simulated world has names of its own).
//
// Invariant: an answer is freed exactly once: by the job's dispose, unless the callback took it.

#include "io/resolve.h"

#include "core/dispatch.h"
#include "core/options.h"

#include <mio/error.h>

#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

namespace mio {

static_assert(MIO_EAI_AGAIN == SYS_RESOLVER - RESOLVER_AGAIN && MIO_EAI_FAIL == SYS_RESOLVER - RESOLVER_FAIL &&
                  MIO_EAI_NONAME == SYS_RESOLVER - RESOLVER_NONAME && MIO_EAI_NODATA == SYS_RESOLVER - RESOLVER_NODATA &&
                  MIO_EAI_FAMILY == SYS_RESOLVER - RESOLVER_FAMILY &&
                  MIO_EAI_SERVICE == SYS_RESOLVER - RESOLVER_SERVICE &&
                  MIO_EAI_BADFLAGS == SYS_RESOLVER - RESOLVER_BADFLAGS &&
                  MIO_EAI_SOCKTYPE == SYS_RESOLVER - RESOLVER_SOCKTYPE &&
                  MIO_EAI_OVERFLOW == SYS_RESOLVER - RESOLVER_OVERFLOW,
              "the table of calls names the resolver's errors as the public header does");

constexpr size_t SERVICE_MAX = 63;
constexpr size_t LABEL_MAX = 63;
constexpr uint32_t HOST_FLAGS = MIO_RESOLVE_CANONICAL | MIO_RESOLVE_CONFIGURED | MIO_RESOLVE_V4MAPPED |
                                MIO_RESOLVE_NUMERIC | MIO_RESOLVE_DATAGRAM;
constexpr uint32_t ADDR_FLAGS = MIO_RESOLVE_NUMERIC | MIO_RESOLVE_NAME_NEEDED | MIO_RESOLVE_DATAGRAM;

// --- the answer -----------------------------------------------------------------------------------------------------

// One piece of memory: this, the addresses, the canonical name.
struct answer {
    const sys *calls;
    size_t size;
    unsigned count;
    bool named;
    mio_addr_t list[1];
};

static char *answer_name(answer *a) { return reinterpret_cast<char *>(&a->list[a->count]); }

static void answer_free(answer *a) {
    if (a != nullptr) a->calls->release(a, a->size);
}

static answer *answer_make(const sys *calls, unsigned count, const char *canonical) {
    const size_t name_size = canonical != nullptr ? strlen(canonical) + 1 : 0;
    const size_t size = sizeof(answer) + (count - 1) * sizeof(mio_addr_t) + name_size;
    auto *a = static_cast<answer *>(calls->alloc(size));
    if (a == nullptr) return nullptr;
    memset(static_cast<void *>(a), 0, size);
    a->calls = calls;
    a->size = size;
    a->count = count;
    a->named = canonical != nullptr;
    if (canonical != nullptr) memcpy(answer_name(a), canonical, name_size);
    return a;
}

static mio_addrs_t answer_public(answer *a) {
    return mio_addrs_t{a->list, a->count, a->named ? answer_name(a) : nullptr, a};
}

// --- hosts ----------------------------------------------------------------------------------------------------------

struct host_question {
    answer *result;
    resolve_told told; // connect_host's; nullptr: the user's callback
    int family;
    uint32_t flags;
    char service[SERVICE_MAX + 1];
    char host[MIO_HOST_MAX + 1];
};

static bool address_is_new(const answer *a, unsigned n, const struct addrinfo *one) {
    for (unsigned i = 0; i < n; i++)
        if (a->list[i].len == one->ai_addrlen && memcmp(&a->list[i].u, one->ai_addr, one->ai_addrlen) == 0) return false;
    return true;
}

static bool address_fits(const struct addrinfo *one) {
    return (one->ai_family == AF_INET || one->ai_family == AF_INET6) &&
           one->ai_addrlen <= sizeof(struct sockaddr_storage);
}

// A copy of the resolver's list.
static int answer_copy(const sys *calls, const struct addrinfo *list, answer **out) {
    unsigned most = 0;
    for (const struct addrinfo *one = list; one != nullptr; one = one->ai_next) most++;
    if (most == 0) return MIO_EAI_NODATA;
    answer *a = answer_make(calls, most, list->ai_canonname);
    if (a == nullptr) return MIO_ENOMEM;
    unsigned n = 0;
    for (const struct addrinfo *one = list; one != nullptr; one = one->ai_next) {
        if (!address_fits(one) || !address_is_new(a, n, one)) continue;
        memcpy(&a->list[n].u, one->ai_addr, one->ai_addrlen);
        a->list[n++].len = one->ai_addrlen;
    }
    if (n == 0) {
        answer_free(a);
        return MIO_EAI_NODATA;
    }
    if (a->named) memmove(&a->list[n], answer_name(a), strlen(answer_name(a)) + 1);
    a->count = n;
    *out = a;
    return 0;
}

static void host_run(job *work) {
    auto *q = job_payload<host_question>(work);
    struct addrinfo hints;
    memset(&hints, 0, sizeof hints);
    hints.ai_family = q->family; // 0 is AF_UNSPEC
    hints.ai_socktype = (q->flags & MIO_RESOLVE_DATAGRAM) != 0 ? SOCK_DGRAM : SOCK_STREAM;
    if ((q->flags & MIO_RESOLVE_CANONICAL) != 0) hints.ai_flags |= AI_CANONNAME;
    if ((q->flags & MIO_RESOLVE_CONFIGURED) != 0) hints.ai_flags |= AI_ADDRCONFIG;
    if ((q->flags & MIO_RESOLVE_V4MAPPED) != 0) hints.ai_flags |= AI_V4MAPPED;
    if ((q->flags & MIO_RESOLVE_NUMERIC) != 0) hints.ai_flags |= AI_NUMERICHOST;
    struct addrinfo *list = nullptr;
    int error = work->calls->getaddrinfo(q->host, q->service, &hints, &list);
    if (error == 0) error = answer_copy(work->calls, list, &q->result);
    if (list != nullptr) work->calls->freeaddrinfo(list);
    work->result = error;
}

static void host_done(loop *l, job *work, int64_t status, void (*cb)(), void *arg) {
    auto *q = work != nullptr ? job_payload<host_question>(work) : nullptr;
    mio_addrs_t addrs = mio_addrs_t();
    if (status == 0) addrs = answer_public(q->result);
    mio_addrs_t *told_of = status == 0 ? &addrs : nullptr;
    if (q != nullptr) q->result = nullptr;
    if (cb == nullptr) {
        if (q != nullptr) q->told(l, static_cast<int>(status), told_of, arg); // who asks so does not cancel, it abandons
    } else {
        const int64_t begun_ns = callback_begin(l, nullptr);
        reinterpret_cast<mio_resolve_cb>(cb)(loop_public(l), static_cast<int>(status), told_of, arg);
        callback_end(l, nullptr, begun_ns, "resolve");
    }
    mio_addrs_release(&addrs);
}

static void host_dispose(job *work) {
    auto *q = job_payload<host_question>(work);
    answer_free(q->result);
    q->result = nullptr;
}

static const job_kind host_kind = {"resolve", LANE_RESOLVE, job_rule::abandonable, host_run, host_done, host_dispose};

// What may be asked of a resolver: a name as in the header, or the text of an IPv6 address.
static bool host_is_valid(const char *host, size_t n) {
    if (n == 0 || n > MIO_HOST_MAX) return false;
    size_t label = 0;
    bool numeric = false;
    for (size_t i = 0; i < n; i++) {
        const char c = host[i];
        if (c <= ' ' || c >= 0x7f) return false;
        if (c == ':') numeric = true;
        if (c == '.' && label == 0 && !numeric) return false;
        label = c == '.' ? 0 : label + 1;
        if (label > LABEL_MAX && !numeric) return false;
    }
    return true;
}

static bool options_valid(const mio_resolve_options_t *o) {
    if (o->family != 0 && o->family != AF_INET && o->family != AF_INET6) return false;
    if ((o->flags & ~HOST_FLAGS) != 0) return false;
    if (o->service == nullptr) return true;
    const size_t n = strnlen(o->service, SERVICE_MAX + 1);
    return n != 0 && n <= SERVICE_MAX;
}

// An answer that needs nobody: host is numeric, of a family that is wanted, and the port is a number. 0: not so; it is
// a matter of the resolver's. > 0: the answer is there. Else why there is none.
static int host_at_once(const sys *calls, host_question *q, int port) {
    if ((q->flags & MIO_RESOLVE_CANONICAL) != 0 || port < 0) return 0;
    mio_addr_t at;
    const int error = mio_addr_parse(q->host, port, &at);
    if (error == MIO_EINVAL) return 0;
    if (error < 0) return error;
    if (q->family != 0 && q->family != at.u.any.sa_family) return 0;
    q->result = answer_make(calls, 1, nullptr);
    if (q->result == nullptr) return MIO_ENOMEM;
    q->result->list[0] = at;
    return 1;
}

static loose_request *host_ask(loop *l, const char *host, size_t n, int port, const mio_resolve_options_t *options,
                               void (*cb)(), resolve_told told, void *arg, int *error) {
    mio_resolve_options_t o;
    *error = options_copy(&o, sizeof o, options);
    if (*error < 0) return nullptr;
    *error = MIO_EINVAL;
    if (host == nullptr || port < 0 || port > 65535 || !options_valid(&o)) return nullptr;
    if (n == MIO_TEXT) n = strnlen(host, MIO_HOST_MAX + 1);
    if (!host_is_valid(host, n)) return nullptr;
    loose_request *req = loose_create(l, &host_kind, sizeof(host_question), cb, arg);
    *error = MIO_ENOMEM;
    if (req == nullptr) return nullptr;
    auto *q = job_payload<host_question>(req->work);
    q->told = told;
    q->family = o.family;
    q->flags = o.flags;
    memcpy(q->host, host, n);
    if (o.service != nullptr) memcpy(q->service, o.service, strlen(o.service));
    else snprintf(q->service, sizeof q->service, "%d", port);
    const int known = host_at_once(l->calls, q, o.service != nullptr ? -1 : port);
    if (known == 0) loose_start(l, req, op_code::job);
    else loose_settle(l, req, known > 0 ? 0 : known);
    *error = 0;
    return req;
}

loose_request *resolve_ask(loop *l, const char *host, size_t n, int port, const mio_resolve_options_t *options,
                           resolve_told told, void *arg, int *error) {
    loose_request *req = host_ask(l, host, n, port, options, nullptr, told, arg, error);
    if (req != nullptr) loose_unref(l, req);
    return req;
}

// --- addresses ------------------------------------------------------------------------------------------------------

struct addr_question {
    mio_addr_t addr;
    uint32_t flags;
    char host[NI_MAXHOST];
    char service[NI_MAXSERV];
};

static void addr_run(job *work) {
    auto *q = job_payload<addr_question>(work);
    int flags = 0;
    if ((q->flags & MIO_RESOLVE_NUMERIC) != 0) flags |= NI_NUMERICHOST | NI_NUMERICSERV;
    if ((q->flags & MIO_RESOLVE_NAME_NEEDED) != 0) flags |= NI_NAMEREQD;
    if ((q->flags & MIO_RESOLVE_DATAGRAM) != 0) flags |= NI_DGRAM;
    work->result = work->calls->getnameinfo(&q->addr.u.any, q->addr.len, q->host, sizeof q->host, q->service,
                                            sizeof q->service, flags);
}

static void addr_done(loop *l, job *work, int64_t status, void (*cb)(), void *arg) {
    const auto *q = status == 0 ? job_payload<addr_question>(work) : nullptr;
    const int64_t begun_ns = callback_begin(l, nullptr);
    reinterpret_cast<mio_resolve_addr_cb>(cb)(loop_public(l), static_cast<int>(status), q != nullptr ? q->host : nullptr,
                                              q != nullptr ? q->service : nullptr, arg);
    callback_end(l, nullptr, begun_ns, "resolve");
}

static const job_kind addr_kind = {"resolve (address)", LANE_RESOLVE, job_rule::abandonable, addr_run, addr_done, nullptr};

}

// --- what the user asks ---------------------------------------------------------------------------------------------

using namespace mio;

mio_req_t mio_resolve_host(mio_loop_t *public_loop, const char *host, size_t host_len, int port,
                           const mio_resolve_options_t *options, mio_resolve_cb cb, void *arg) {
    loop *l = loop_of(public_loop);
    int error = loop_check_start(l);
    if (error < 0) return error;
    if (cb == nullptr) return MIO_EINVAL;
    const loose_request *req =
        host_ask(l, host, host_len, port, options, reinterpret_cast<void (*)()>(cb), nullptr, arg, &error);
    return req != nullptr ? loose_id(req) : error;
}

mio_req_t mio_resolve_addr(mio_loop_t *public_loop, const mio_addr_t *addr, uint32_t flags, mio_resolve_addr_cb cb,
                           void *arg) {
    loop *l = loop_of(public_loop);
    const int error = loop_check_start(l);
    if (error < 0) return error;
    if (cb == nullptr || addr == nullptr || mio_addr_port(addr) < 0 || (flags & ~ADDR_FLAGS) != 0) return MIO_EINVAL;
    loose_request *req = loose_create(l, &addr_kind, sizeof(addr_question), reinterpret_cast<void (*)()>(cb), arg);
    if (req == nullptr) return MIO_ENOMEM;
    auto *q = job_payload<addr_question>(req->work);
    q->addr = *addr;
    q->flags = flags;
    loose_start(l, req, op_code::job);
    return loose_id(req);
}

mio_addrs_t mio_addrs_take(mio_addrs_t *addrs) {
    mio_addrs_t taken = mio_addrs_t();
    if (addrs == nullptr) return taken;
    taken = *addrs;
    *addrs = mio_addrs_t();
    return taken;
}

void mio_addrs_release(mio_addrs_t *addrs) {
    if (addrs == nullptr) return;
    answer_free(static_cast<answer *>(addrs->owner));
    *addrs = mio_addrs_t();
}
