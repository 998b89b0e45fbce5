// Addresses: text to sockaddr and back, numeric only.
//
// Decides what counts as an address: the strict dotted quad (four decimal numbers without leading zeros, as inet_pton
// reads it; never "127.1" or "0x7f.1"), IPv6 in every spelling of RFC 4291, with a zone of RFC 4007 behind "%", and
// square brackets around IPv6 as in a URL. Resolves nothing but the name of an interface.
//
// Must not know of loops: both directions work on any thread, and formatting also in diagnostics. That is why the two
// questions to the kernel (interface name to number and back) go to libc directly and not through a loop's table.
//
// Invariant: *out and text are written only when all is well.

#include <mio/addr.h>
#include <mio/error.h>

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

// The longest part in front of a zone, and the longest zone; what is longer is no address and is not looked at further.
constexpr size_t HOST_MAX = INET6_ADDRSTRLEN;
constexpr size_t ZONE_MAX = IF_NAMESIZE;

// Copies n bytes and the NUL; false: too long, or empty.
static bool text_cut(char *to, size_t size, const char *from, size_t n) {
    if (n == 0 || n >= size) return false;
    memcpy(to, from, n);
    to[n] = 0;
    return true;
}

// A number is taken as it stands, whether or not such an interface exists here now; a name must exist.
static int zone_parse(const char *zone, uint32_t *out) {
    uint64_t number = 0;
    const char *at = zone;
    while (*at >= '0' && *at <= '9') {
        number = number * 10 + static_cast<uint64_t>(*at - '0'); // ZONE_MAX digits fit
        at++;
    }
    if (*at == 0) {
        if (number > UINT32_MAX) return MIO_EINVAL;
        *out = static_cast<uint32_t>(number);
        return 0;
    }
    errno = 0;
    const unsigned index = if_nametoindex(zone);
    if (index == 0) return errno != 0 ? -errno : MIO_ENODEV;
    *out = index;
    return 0;
}

// host is IPv6 without its brackets, n bytes of it.
static int ipv6_parse(const char *host, size_t n, struct sockaddr_in6 *out) {
    char text[HOST_MAX], zone[ZONE_MAX];
    const char *percent = static_cast<const char *>(memchr(host, '%', n));
    const size_t length = percent == nullptr ? n : static_cast<size_t>(percent - host);
    if (!text_cut(text, sizeof text, host, length)) return MIO_EINVAL;
    if (inet_pton(AF_INET6, text, &out->sin6_addr) != 1) return MIO_EINVAL;
    out->sin6_family = AF_INET6;
    if (percent == nullptr) return 0;
    const size_t zone_length = n - length - 1;
    if (zone_length == 0) return MIO_EINVAL;
    if (!text_cut(zone, sizeof zone, percent + 1, zone_length)) return MIO_ENODEV; // no interface has so long a name
    return zone_parse(zone, &out->sin6_scope_id);
}

int mio_addr_parse(const char *host, int port, mio_addr_t *out) {
    if (host == nullptr || out == nullptr || port < 0 || port > 65535) return MIO_EINVAL;
    mio_addr_t addr;
    memset(&addr, 0, sizeof addr);
    const size_t n = strlen(host);
    if (memchr(host, ':', n) == nullptr) {
        struct sockaddr_in v4;
        memset(&v4, 0, sizeof v4);
        if (inet_pton(AF_INET, host, &v4.sin_addr) != 1) return MIO_EINVAL;
        v4.sin_family = AF_INET;
        v4.sin_port = htons(static_cast<uint16_t>(port));
        memcpy(&addr.u.storage, &v4, sizeof v4);
        addr.len = sizeof v4;
    } else {
        struct sockaddr_in6 v6;
        memset(&v6, 0, sizeof v6);
        const bool bracketed = host[0] == '[';
        if (bracketed && host[n - 1] != ']') return MIO_EINVAL;
        const int error = bracketed ? ipv6_parse(host + 1, n - 2, &v6) : ipv6_parse(host, n, &v6);
        if (error < 0) return error;
        v6.sin6_port = htons(static_cast<uint16_t>(port));
        memcpy(&addr.u.storage, &v6, sizeof v6);
        addr.len = sizeof v6;
    }
    *out = addr;
    return 0;
}

// --- and back -------------------------------------------------------------------------------------------------------

// The family, if addr is long enough to be of it.
static int addr_family(const mio_addr_t *addr) {
    if (addr == nullptr || addr->len > sizeof addr->u) return MIO_EINVAL;
    if (addr->len < sizeof addr->u.any.sa_family) return MIO_EAFNOSUPPORT;
    const sa_family_t family = addr->u.any.sa_family;
    if (family == AF_INET && addr->len >= sizeof(struct sockaddr_in)) return AF_INET;
    if (family == AF_INET6 && addr->len >= sizeof(struct sockaddr_in6)) return AF_INET6;
    return MIO_EAFNOSUPPORT;
}

static int ipv6_format(const struct sockaddr_in6 *v6, char *text, size_t size) {
    char host[INET6_ADDRSTRLEN], name[IF_NAMESIZE];
    const unsigned port = ntohs(v6->sin6_port);
    if (inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host) == nullptr) return -1;
    if (v6->sin6_scope_id == 0) return snprintf(text, size, "[%s]:%u", host, port);
    // An interface that is gone still has its number.
    if (if_indextoname(v6->sin6_scope_id, name) != nullptr) return snprintf(text, size, "[%s%%%s]:%u", host, name, port);
    return snprintf(text, size, "[%s%%%u]:%u", host, static_cast<unsigned>(v6->sin6_scope_id), port);
}

int mio_addr_format(const mio_addr_t *addr, char *text, size_t size) {
    const int family = addr_family(addr);
    if (text == nullptr) return MIO_EINVAL;
    if (family < 0) return family;
    char whole[MIO_ADDR_TEXT_MAX];
    int length = -1;
    if (family == AF_INET) {
        struct sockaddr_in v4;
        char host[INET_ADDRSTRLEN];
        memcpy(&v4, &addr->u, sizeof v4);
        if (inet_ntop(AF_INET, &v4.sin_addr, host, sizeof host) != nullptr)
            length = snprintf(whole, sizeof whole, "%s:%u", host, static_cast<unsigned>(ntohs(v4.sin_port)));
    } else {
        struct sockaddr_in6 v6;
        memcpy(&v6, &addr->u, sizeof v6);
        length = ipv6_format(&v6, whole, sizeof whole);
    }
    if (length < 0) return MIO_EINVAL; // cannot be: every buffer here holds the longest text
    if (static_cast<size_t>(length) >= size) return MIO_ENOBUFS;
    memcpy(text, whole, static_cast<size_t>(length) + 1);
    return length;
}

int mio_addr_port(const mio_addr_t *addr) {
    const int family = addr_family(addr);
    if (family < 0) return family;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    if (family == AF_INET) {
        memcpy(&v4, &addr->u, sizeof v4);
        return ntohs(v4.sin_port);
    }
    memcpy(&v6, &addr->u, sizeof v6);
    return ntohs(v6.sin6_port);
}
