// Names of the simulated world: what its resolver is told, and what it says.
//
// Decides how names compare and which address answers for which; when an answer comes is the seam's (job_delay_ns).
// Knows "localhost" by itself, numeric hosts and ports, and no service by name. Every list that it gives away is one
// piece of memory per address, as freeaddrinfo(3) expects.

#include "backend/sim.h"

#include "base/sys.h"
#include "base/thread.h"

#include <mio/error.h>

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace mio {

constexpr size_t NAME_MAX_BYTES = 255;

// One address of a name (none: len 0), or its error; in the order in which they were told.
struct sim_host {
    sim_host *next;
    mio_addr_t addr;
    int error;
    char host[NAME_MAX_BYTES + 1];
};

static char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

// false: not a name that anybody can ask for.
static bool name_copy(char *to, const char *from) {
    if (from == nullptr) return false;
    size_t n = strnlen(from, NAME_MAX_BYTES + 1);
    if (n == 0 || n > NAME_MAX_BYTES) return false;
    if (from[n - 1] == '.') n--;
    for (size_t i = 0; i < n; i++) {
        if (from[i] <= ' ' || from[i] >= 0x7f) return false;
        to[i] = lower(from[i]);
    }
    to[n] = '\0';
    return n != 0;
}

void sim_hosts_free(sim_world *w) {
    while (sim_host *name = w->hosts) {
        w->hosts = name->next;
        sim_memory_release(name, sizeof *name);
    }
}

static int name_append(sim_world *w, const char *host, const mio_addr_t *addr, int error) {
    auto *name = static_cast<sim_host *>(sim_memory_alloc(sizeof(sim_host)));
    if (name == nullptr) return MIO_ENOMEM;
    memset(static_cast<void *>(name), 0, sizeof *name);
    memcpy(name->host, host, strlen(host) + 1);
    if (addr != nullptr) name->addr = *addr;
    name->error = error;
    sim_host **at = &w->hosts;
    while (*at != nullptr) at = &(*at)->next;
    *at = name;
    return 0;
}

// Takes out what is told of host: its errors, or all. The number of entries.
static int name_remove(sim_world *w, const char *host, bool errors_only) {
    int n = 0;
    for (sim_host **at = &w->hosts; *at != nullptr;) {
        sim_host *name = *at;
        if (strcmp(name->host, host) != 0 || (errors_only && name->error == 0)) {
            at = &name->next;
            continue;
        }
        *at = name->next;
        sim_memory_release(name, sizeof *name);
        n++;
    }
    return n;
}

// --- to addresses ---------------------------------------------------------------------------------------------------

struct found_list {
    struct addrinfo *first, **last;
    const struct addrinfo *hints;
    uint16_t port;
    bool any;   // the name is there
    bool failed;
};

static void found_add(found_list *f, const mio_addr_t *addr) {
    const int family = addr->u.any.sa_family;
    f->any = true;
    if (f->hints->ai_family != AF_UNSPEC && f->hints->ai_family != family) return;
    const size_t size = sizeof(struct addrinfo) + sizeof(struct sockaddr_storage);
    auto *one = static_cast<struct addrinfo *>(sim_memory_alloc(size));
    if (one == nullptr) {
        f->failed = true;
        return;
    }
    memset(static_cast<void *>(one), 0, size);
    one->ai_family = family;
    one->ai_socktype = f->hints->ai_socktype;
    one->ai_addrlen = addr->len;
    one->ai_addr = reinterpret_cast<struct sockaddr *>(one + 1);
    memcpy(one->ai_addr, &addr->u, addr->len);
    // The port lies at the same place in both.
    reinterpret_cast<struct sockaddr_in *>(one->ai_addr)->sin_port = htons(f->port);
    *f->last = one;
    f->last = &one->ai_next;
}

void sim_freeaddrinfo(struct addrinfo *list) {
    while (list != nullptr) {
        struct addrinfo *next = list->ai_next;
        sim_memory_release(list->ai_canonname, NAME_MAX_BYTES + 1);
        sim_memory_release(list, sizeof(struct addrinfo) + sizeof(struct sockaddr_storage));
        list = next;
    }
}

static bool port_parse(const char *service, uint16_t *port) {
    *port = 0;
    if (service == nullptr) return true;
    char *end;
    const unsigned long n = strtoul(service, &end, 10);
    *port = static_cast<uint16_t>(n);
    return *service >= '0' && *service <= '9' && *end == '\0' && n <= 65535;
}

static int names_find(const sim_world *w, const char *host, found_list *f) {
    for (const sim_host *name = w->hosts; name != nullptr; name = name->next) {
        if (strcmp(name->host, host) != 0) continue;
        if (name->error < 0) return name->error;
        f->any = true;
        if (name->addr.len != 0) found_add(f, &name->addr);
    }
    mio_addr_t own;
    if (!f->any && strcmp(host, "localhost") == 0) {
        if (mio_addr_parse("::1", 0, &own) == 0) found_add(f, &own);
        if (mio_addr_parse("127.0.0.1", 0, &own) == 0) found_add(f, &own);
    }
    return f->any ? 0 : SYS_RESOLVER - RESOLVER_NONAME;
}

static bool canonical_set(struct addrinfo *first, const char *host) {
    first->ai_canonname = static_cast<char *>(sim_memory_alloc(NAME_MAX_BYTES + 1));
    if (first->ai_canonname == nullptr) return false;
    memcpy(first->ai_canonname, host, strlen(host) + 1);
    return true;
}

int sim_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **out) {
    const sim_world *w = sim_world_here();
    found_list f = {nullptr, nullptr, hints, 0, false, false};
    f.last = &f.first;
    char name[NAME_MAX_BYTES + 1];
    mio_addr_t numeric;
    int error = 0;
    if (w == nullptr || !name_copy(name, host)) return SYS_RESOLVER - RESOLVER_NONAME;
    if (!port_parse(service, &f.port)) return SYS_RESOLVER - RESOLVER_SERVICE;
    if (mio_addr_parse(host, 0, &numeric) == 0) found_add(&f, &numeric);
    else if ((hints->ai_flags & AI_NUMERICHOST) != 0) return SYS_RESOLVER - RESOLVER_NONAME;
    else error = names_find(w, name, &f);
    if (error == 0 && f.first == nullptr && !f.failed) error = SYS_RESOLVER - RESOLVER_NODATA;
    if (error == 0 && !f.failed && (hints->ai_flags & AI_CANONNAME) != 0) f.failed = !canonical_set(f.first, name);
    if (error == 0 && f.failed) error = -ENOMEM;
    if (error == 0) *out = f.first;
    else sim_freeaddrinfo(f.first);
    return error;
}

// --- and back -------------------------------------------------------------------------------------------------------

static bool same_address(const sim_addr *a, const mio_addr_t *b) {
    sim_addr other;
    if (sim_addr_read(b->u.any.sa_family, &b->u.any, b->len, &other) < 0) return false;
    return memcmp(&a->ip, &other.ip, sizeof a->ip) == 0 && a->scope == other.scope;
}

static const char *name_of(const sim_world *w, const sim_addr *at) {
    for (const sim_host *name = w->hosts; name != nullptr; name = name->next)
        if (name->addr.len != 0 && same_address(at, &name->addr)) return name->host;
    mio_addr_t own;
    for (int i = 0; i < 2; i++)
        if (mio_addr_parse(i == 0 ? "127.0.0.1" : "::1", 0, &own) == 0 && same_address(at, &own)) return "localhost";
    return nullptr;
}

int sim_getnameinfo(const struct sockaddr *addr, socklen_t len, char *host, size_t host_size, char *service,
                    size_t service_size, int flags) {
    const sim_world *w = sim_world_here();
    sim_addr at;
    const int family = addr->sa_family;
    if (w == nullptr || (family != AF_INET && family != AF_INET6) || sim_addr_read(family, addr, len, &at) < 0)
        return SYS_RESOLVER - RESOLVER_FAMILY;
    const char *name = (flags & NI_NUMERICHOST) != 0 ? nullptr : name_of(w, &at);
    char text[INET6_ADDRSTRLEN];
    if (name == nullptr) {
        if ((flags & NI_NAMEREQD) != 0) return SYS_RESOLVER - RESOLVER_NONAME;
        const void *ip = family == AF_INET ? static_cast<const void *>(at.ip.s6_addr + 12) : &at.ip;
        name = inet_ntop(family, ip, text, sizeof text);
    }
    if (name == nullptr || strlen(name) >= host_size) return SYS_RESOLVER - RESOLVER_OVERFLOW;
    memcpy(host, name, strlen(name) + 1);
    snprintf(service, service_size, "%u", static_cast<unsigned>(at.port));
    return 0;
}

}

using namespace mio;

static int name_prepare(const sim_world *w, const char *from, char *to) {
    if (w == nullptr || !name_copy(to, from)) return MIO_EINVAL;
    return w->thread != thread_number() ? static_cast<int>(MIO_EPERM) : 0;
}

int mio_sim_add_name(mio_sim_t *world, const char *host, const mio_addr_t *addr) {
    char name[NAME_MAX_BYTES + 1];
    const int error = name_prepare(sim_world_of(world), host, name);
    if (error < 0) return error;
    if (addr != nullptr && mio_addr_port(addr) < 0) return MIO_EINVAL;
    return name_append(sim_world_of(world), name, addr, 0);
}

int mio_sim_name_fails(mio_sim_t *world, const char *host, int failure) {
    char name[NAME_MAX_BYTES + 1];
    const int error = name_prepare(sim_world_of(world), host, name);
    if (error < 0) return error;
    if (failure > 0) return MIO_EINVAL;
    (void)name_remove(sim_world_of(world), name, true);
    return failure == 0 ? 0 : name_append(sim_world_of(world), name, nullptr, failure);
}

int mio_sim_forget_name(mio_sim_t *world, const char *host) {
    char name[NAME_MAX_BYTES + 1];
    const int error = name_prepare(sim_world_of(world), host, name);
    if (error < 0) return error;
    return name_remove(sim_world_of(world), name, false) != 0 ? 0 : static_cast<int>(MIO_ENOENT);
}
