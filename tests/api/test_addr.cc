// Addresses as text: what is one and what is not.
#include "harness.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>

using namespace api;

static void round_trip(const char *host, int port, const char *expected) {
    mio_addr_t at;
    char text[MIO_ADDR_TEXT_MAX];
    ck_assert_msg(mio_addr_parse(host, port, &at) == 0, "\"%s\"", host);
    const int n = mio_addr_format(&at, text, sizeof text);
    assert_is(n, static_cast<int>(strlen(expected)));
    ck_assert_str_eq(text, expected);
    assert_is(mio_addr_port(&at), port);
}

TEST(addresses_are_parsed_and_printed) {
    round_trip("127.0.0.1", 80, "127.0.0.1:80");
    round_trip("0.0.0.0", 0, "0.0.0.0:0");
    round_trip("255.255.255.255", 65535, "255.255.255.255:65535");
    round_trip("::1", 443, "[::1]:443");
    round_trip("[::1]", 443, "[::1]:443");
    round_trip("::", 1, "[::]:1");
    round_trip("2001:db8:0:0:0:0:0:1", 2, "[2001:db8::1]:2");
    round_trip("::ffff:192.0.2.1", 3, "[::ffff:192.0.2.1]:3");
}

TEST(what_is_no_address_is_refused_and_nothing_is_written) {
    const char *const wrong[] = {
        "", " ", "localhost", "1", "1.2", "1.2.3", "1.2.3.", ".1.2.3", "1.2.3.4.5", "1.2.3.256", "1.2.3.-4", "1.2.3.4 ",
        " 1.2.3.4", "01.2.3.4", "1.2.3.04", "0x1.2.3.4", "1,2,3,4", "1.2.3.4:80", "1.2.3.4%1", "[1.2.3.4", ":", ":::",
        "1::2::3", "12345::", "::g", "[::1", "::1]", "[[::1]]", "[]", "[::1]x", "::1%", "1:2:3:4:5:6:7:8:9",
        "1:2:3:4:5:6:7", "::1.2.3", "\xff\xfe", "%1", "::1/64",
    };
    mio_addr_t at, before;
    memset(&at, 0x5c, sizeof at);
    before = at;
    for (const char *host : wrong) {
        const int got = mio_addr_parse(host, 80, &at);
        ck_assert_msg(got == MIO_EINVAL, "\"%s\" gave %d", host, got);
        assert_is(memcmp(&at, &before, sizeof at), 0);
    }
    const int ports[] = {-1, 65536, INT32_MAX, INT32_MIN};
    for (int port : ports) assert_is(mio_addr_parse("127.0.0.1", port, &at), MIO_EINVAL);
    assert_is(mio_addr_parse(nullptr, 80, &at), MIO_EINVAL);
    assert_is(mio_addr_parse("127.0.0.1", 80, nullptr), MIO_EINVAL);
    assert_is(memcmp(&at, &before, sizeof at), 0);
    static char endless[100000];
    memset(endless, ':', sizeof endless - 1);
    assert_is(mio_addr_parse(endless, 1, &at), MIO_EINVAL);
    memset(endless, '1', sizeof endless - 1);
    assert_is(mio_addr_parse(endless, 1, &at), MIO_EINVAL);
    memcpy(endless, "fe80::1%", 8);
    const int zone = mio_addr_parse(endless, 1, &at);
    ck_assert(zone == MIO_EINVAL || zone == MIO_ENODEV);
    memset(endless, '[', sizeof endless - 1);
    assert_is(mio_addr_parse(endless, 1, &at), MIO_EINVAL);
}

TEST(zones_are_interfaces_of_this_machine) {
    mio_addr_t at;
    assert_is(mio_addr_parse("fe80::1%nosuchif0", 80, &at), MIO_ENODEV);
    char name[IF_NAMESIZE];
    if (if_indextoname(1, name) == nullptr) SKIP("no interface with number 1");
    char host[64], expected[128], text[MIO_ADDR_TEXT_MAX];
    snprintf(host, sizeof host, "fe80::1%%%s", name);
    snprintf(expected, sizeof expected, "[fe80::1%%%s]:80", name);
    assert_is(mio_addr_parse(host, 80, &at), 0);
    assert_is(reinterpret_cast<const struct sockaddr_in6 *>(&at.u.any)->sin6_scope_id, 1);
    assert_ok(mio_addr_format(&at, text, sizeof text));
    ck_assert_str_eq(text, expected);
    assert_is(mio_addr_parse("fe80::1%1", 80, &at), 0);
    assert_is(reinterpret_cast<const struct sockaddr_in6 *>(&at.u.any)->sin6_scope_id, 1);
}

TEST(format_and_port_answer_each_mistake) {
    mio_addr_t at, unknown;
    char text[MIO_ADDR_TEXT_MAX];
    assert_is(mio_addr_parse("127.0.0.1", 80, &at), 0);
    assert_is(mio_addr_format(nullptr, text, sizeof text), MIO_EINVAL);
    assert_is(mio_addr_format(&at, nullptr, 10), MIO_EINVAL);
    memset(text, 'x', sizeof text);
    assert_is(mio_addr_format(&at, text, strlen("127.0.0.1:80")), MIO_ENOBUFS); // no room for the NUL
    assert_is(mio_addr_format(&at, text, 0), MIO_ENOBUFS);
    assert_is(mio_addr_format(&at, text, strlen("127.0.0.1:80") + 1), 12);
    assert_is(text[13], 'x');
    memset(&unknown, 0, sizeof unknown);
    unknown.u.any.sa_family = AF_UNIX;
    unknown.len = sizeof(struct sockaddr);
    assert_is(mio_addr_format(&unknown, text, sizeof text), MIO_EAFNOSUPPORT);
    assert_is(mio_addr_port(&unknown), MIO_EAFNOSUPPORT);
    assert_is(mio_addr_port(nullptr), MIO_EINVAL);
}
