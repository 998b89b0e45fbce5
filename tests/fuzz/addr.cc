// Addresses: any text in, any bytes out.
//
// An input is a mode, a port, and then either text for mio_addr_parse or the bytes of an address for mio_addr_format.
// What must hold:
//   - text is an address exactly if inet_pton(3) says so of what is left without brackets and zone
//   - what was parsed is formatted, and parsed again it is the same address; a text buffer is written only if it holds all
//   - what was refused has left the caller's memory alone
// Host names are no text of these: the library resolves none.
#include "input.h"

#include <mio/addr.h>
#include <mio/error.h>

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>

#include <memory>
#include <string>

using namespace fuzz;

static const char *zone_name(uint32_t number) {
    static char name[IF_NAMESIZE];
    return if_indextoname(number, name) != nullptr ? name : nullptr;
}

static bool same(const mio_addr_t *a, const mio_addr_t *b) {
    return a->len == b->len && memcmp(&a->u, &b->u, a->len) == 0;
}

// Text to address once more: what mio_addr_format wrote.
static void expect_parsed(const char *text, const mio_addr_t *addr) {
    const std::string whole = text;
    const size_t colon = whole.rfind(':');
    must(colon != std::string::npos);
    const std::string port = whole.substr(colon + 1);
    mio_addr_t again;
    must(mio_addr_parse(whole.substr(0, colon).c_str(), atoi(port.c_str()), &again) == 0);
    must(std::to_string(mio_addr_port(addr)) == port);
    must(same(&again, addr));
}

// In buffers of just so many bytes, so that one more is an error of memory.
static void expect_formatted(const mio_addr_t *addr) {
    char whole[MIO_ADDR_TEXT_MAX];
    const int n = mio_addr_format(addr, whole, sizeof whole);
    must(n > 0 && n < MIO_ADDR_TEXT_MAX && strlen(whole) == static_cast<size_t>(n));
    const size_t size = static_cast<size_t>(n) + 1;
    const std::unique_ptr<char[]> exact(new char[size]), less(new char[size - 1]);
    must(mio_addr_format(addr, exact.get(), size) == n && strcmp(exact.get(), whole) == 0);
    memset(less.get(), 'x', size - 1);
    must(mio_addr_format(addr, less.get(), size - 1) == MIO_ENOBUFS);
    for (size_t i = 0; i < size - 1; i++) must(less[i] == 'x');
    must(mio_addr_format(addr, nullptr, 0) == MIO_EINVAL);
    expect_parsed(whole, addr);
}

// --- text -----------------------------------------------------------------------------------------------------------

// What the text should be, as libc reads it. false: no address. *zone: it has one, which libc is not asked about.
static bool libc_parse(std::string host, struct sockaddr_storage *out, bool *zone) {
    memset(out, 0, sizeof *out);
    *zone = false;
    if (host.find(':') == std::string::npos) {
        auto *v4 = reinterpret_cast<struct sockaddr_in *>(out);
        v4->sin_family = AF_INET;
        return inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1;
    }
    if (host[0] == '[') {
        if (host.back() != ']') return false;
        host = host.substr(1, host.size() - 2);
    }
    const size_t percent = host.find('%');
    *zone = percent != std::string::npos;
    if (*zone && percent + 1 == host.size()) return false;
    auto *v6 = reinterpret_cast<struct sockaddr_in6 *>(out);
    v6->sin6_family = AF_INET6;
    return inet_pton(AF_INET6, host.substr(0, percent).c_str(), &v6->sin6_addr) == 1;
}

static void run_text(input *in, int port) {
    const std::string host(reinterpret_cast<const char *>(in->at), strnlen(reinterpret_cast<const char *>(in->at), in->left));
    const std::unique_ptr<char[]> text(new char[host.size() + 1]); // what is read behind it is an error of memory
    memcpy(text.get(), host.c_str(), host.size() + 1);
    struct sockaddr_storage expected;
    bool zone;
    const bool is_one = libc_parse(host, &expected, &zone) && port >= 0 && port <= 65535;
    mio_addr_t addr, before;
    memset(&addr, 0xa5, sizeof addr);
    before = addr;
    const int error = mio_addr_parse(text.get(), port, &addr);
    if (error != 0) {
        must(error == MIO_EINVAL || (error == MIO_ENODEV && zone));
        must(!is_one || zone);
        must(memcmp(&addr, &before, sizeof addr) == 0);
        return;
    }
    must(is_one);
    must(mio_addr_port(&addr) == port);
    if (addr.u.any.sa_family == AF_INET) {
        must(addr.len == sizeof(struct sockaddr_in));
        const auto *v4 = reinterpret_cast<const struct sockaddr_in *>(&expected);
        must(memcmp(&reinterpret_cast<const struct sockaddr_in *>(&addr.u)->sin_addr, &v4->sin_addr, 4) == 0);
    } else {
        must(addr.u.any.sa_family == AF_INET6 && addr.len == sizeof(struct sockaddr_in6));
        const auto *v6 = reinterpret_cast<const struct sockaddr_in6 *>(&expected);
        const auto *got = reinterpret_cast<const struct sockaddr_in6 *>(&addr.u);
        must(memcmp(&got->sin6_addr, &v6->sin6_addr, 16) == 0);
        must(zone || got->sin6_scope_id == 0);
    }
    expect_formatted(&addr);
}

// --- bytes ----------------------------------------------------------------------------------------------------------

static void run_bytes(input *in, int port) {
    mio_addr_t addr;
    memset(&addr, 0, sizeof addr);
    addr.len = static_cast<socklen_t>(port) % (sizeof addr.u + 16);
    const size_t n = in->left < sizeof addr.u ? in->left : sizeof addr.u;
    if (n > 0) memcpy(&addr.u, in->at, n);
    if (in->left > 1 && in->at[0] < 128) addr.u.any.sa_family = in->at[0] % 2 == 0 ? AF_INET : AF_INET6; // the two that it knows
    char text[MIO_ADDR_TEXT_MAX];
    memset(text, 'x', sizeof text);
    const int error = mio_addr_format(&addr, text, sizeof text);
    if (error < 0) {
        must(error == MIO_EAFNOSUPPORT || (error == MIO_EINVAL && addr.len > sizeof addr.u));
        must(text[0] == 'x' && mio_addr_port(&addr) == error);
        return;
    }
    // Of these bytes text says all but the padding and the flow.
    mio_addr_t plain;
    memset(&plain, 0, sizeof plain);
    plain.u.any.sa_family = addr.u.any.sa_family;
    if (plain.u.any.sa_family == AF_INET) {
        plain.len = sizeof(struct sockaddr_in);
        const auto *from = reinterpret_cast<const struct sockaddr_in *>(&addr.u);
        auto *to = reinterpret_cast<struct sockaddr_in *>(&plain.u);
        to->sin_port = from->sin_port;
        to->sin_addr = from->sin_addr;
    } else {
        plain.len = sizeof(struct sockaddr_in6);
        const auto *from = reinterpret_cast<const struct sockaddr_in6 *>(&addr.u);
        auto *to = reinterpret_cast<struct sockaddr_in6 *>(&plain.u);
        to->sin6_port = from->sin6_port;
        to->sin6_addr = from->sin6_addr;
        to->sin6_scope_id = from->sin6_scope_id;
        const char *name = zone_name(from->sin6_scope_id);
        must(name == nullptr || strstr(text, name) != nullptr);
    }
    expect_formatted(&plain);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input in = {data, size};
    const unsigned mode = take_byte(&in);
    const int port = static_cast<int>(take_number(&in, 2));
    if (mode % 4 == 3) run_bytes(&in, port);
    else if (mode % 4 == 2) run_text(&in, static_cast<int>(static_cast<uint32_t>(port) << 16 | mode)); // seldom a port
    else run_text(&in, port);
    return 0;
}
