// Addresses: which texts are one, which are not, and that what is printed is read back. Refused text must leave *out as
// it was; text that is too long for a buffer must leave the buffer as it was. Then random text, which must do neither
// and must not be read past its end.
#include "support/cmocka.h"

#include "support/random.h"

#include <mio/addr.h>
#include <mio/error.h>

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

using test::random_next;
using test::random_source;

static char loopback[IF_NAMESIZE]; // the interface of ::1; "" if there is none

static mio_addr_t marked() {
    mio_addr_t addr;
    memset(&addr, 0x5a, sizeof addr);
    return addr;
}

static void expect_refused(const char *host, int port, int error) {
    const mio_addr_t before = marked();
    mio_addr_t addr = before;
    const int result = mio_addr_parse(host, port, &addr);
    if (result != error)
        fail_msg("\"%s\", %d: %s instead of %s", host != nullptr ? host : "NULL", port, mio_error_name(result),
                 mio_error_name(error));
    assert_memory_equal(&addr, &before, sizeof addr);
}

static mio_addr_t parsed(const char *host, int port) {
    mio_addr_t addr = marked();
    const int result = mio_addr_parse(host, port, &addr);
    if (result != 0) fail_msg("\"%s\", %d: %s", host, port, mio_error_name(result));
    assert_int_equal(mio_addr_port(&addr), port);
    return addr;
}

static void expect_text(const mio_addr_t *addr, const char *expected) {
    char text[MIO_ADDR_TEXT_MAX];
    assert_int_equal(mio_addr_format(addr, text, sizeof text), strlen(expected));
    assert_string_equal(text, expected);
}

static void expect_round(const char *host, int port, const char *text) {
    const mio_addr_t addr = parsed(host, port);
    expect_text(&addr, text);
}

// --- reading --------------------------------------------------------------------------------------------------------

static void test_ipv4_is_four_decimal_numbers(void **) {
    expect_round("127.0.0.1", 80, "127.0.0.1:80");
    expect_round("0.0.0.0", 0, "0.0.0.0:0");
    expect_round("255.255.255.255", 65535, "255.255.255.255:65535");
    const char *refused[] = {"",           "1",           "127.1",       "1.2.3",       "1.2.3.4.",     "1.2.3.4.5",
                             ".1.2.3.4",   "1..2.3",      "256.0.0.1",   "1.2.3.999",   "01.2.3.4",     "1.2.3.010",
                             "0x7f.0.0.1", "1.2.3.0x4",   "2130706433",  " 1.2.3.4",    "1.2.3.4 ",     "1.2.3.4\n",
                             "-1.2.3.4",   "+1.2.3.4",    "1.2.3.-4",    "[127.0.0.1]", "127.0.0.1%lo", "127.0.0.1%1",
                             "localhost",  "example.org", "127.0.0.1:80"};
    for (const char *host : refused) expect_refused(host, 1, MIO_EINVAL);
}

static void test_ipv4_bytes_are_in_network_order(void **) {
    const mio_addr_t addr = parsed("1.2.3.4", 0x0102);
    struct sockaddr_in v4;
    assert_int_equal(addr.len, sizeof v4);
    memcpy(&v4, &addr.u, sizeof v4);
    assert_int_equal(v4.sin_family, AF_INET);
    assert_memory_equal(&v4.sin_addr, "\x01\x02\x03\x04", 4);
    assert_memory_equal(&v4.sin_port, "\x01\x02", 2);
    const char zeroes[sizeof v4.sin_zero] = {};
    assert_memory_equal(v4.sin_zero, zeroes, sizeof zeroes);
}

static void test_ipv6_in_every_spelling(void **) {
    expect_round("::", 0, "[::]:0");
    expect_round("::1", 443, "[::1]:443");
    expect_round("[::1]", 443, "[::1]:443");
    expect_round("2001:DB8:0:0:0:0:0:1", 1, "[2001:db8::1]:1");
    expect_round("2001:db8::1", 1, "[2001:db8::1]:1");
    expect_round("::ffff:192.0.2.1", 1, "[::ffff:192.0.2.1]:1");
    expect_round("1:2:3:4:5:6:7:8", 1, "[1:2:3:4:5:6:7:8]:1");
    expect_round("1:2:3:4:5:6:7::", 1, "[1:2:3:4:5:6:7:0]:1");
    expect_round("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", 65535,
                 "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
    const char *refused[] = {":",         ":::",        "1:2:3:4:5:6:7",   "1:2:3:4:5:6:7:8:9", "1::2::3",
                             "12345::",   "g::1",       "::1 ",            " ::1",              "::1.2.3",
                             "[::1",      "::1]",       "[]",              "[:]",               "[[::1]]",
                             "[::1]x",    "[::1]:80",   "x[::1]",          "::256.0.0.1",       "::01.2.3.4",
                             "[::1",      "::1/64",     "::1\t",           "1:2:3:4:5:6:7:8::", "[fe80::1%1"};
    for (const char *host : refused) expect_refused(host, 1, MIO_EINVAL);
}

static void test_zone_by_number(void **) {
    const mio_addr_t addr = parsed("fe80::1%4294967295", 9);
    struct sockaddr_in6 v6;
    assert_int_equal(addr.len, sizeof v6);
    memcpy(&v6, &addr.u, sizeof v6);
    assert_int_equal(v6.sin6_family, AF_INET6);
    assert_int_equal(v6.sin6_scope_id, 4294967295u);
    assert_int_equal(v6.sin6_flowinfo, 0);
    expect_text(&addr, "[fe80::1%4294967295]:9"); // no such interface: the number stays
    expect_round("fe80::1%0", 9, "[fe80::1]:9");
    expect_round("[fe80::1%000000000000000]", 9, "[fe80::1]:9");
    expect_refused("fe80::1%4294967296", 9, MIO_EINVAL);
    expect_refused("fe80::1%999999999999999", 9, MIO_EINVAL);
}

static void test_zone_by_name(void **) {
    if (loopback[0] == 0) skip();
    char host[64], text[64];
    snprintf(host, sizeof host, "fe80::1%%%s", loopback);
    snprintf(text, sizeof text, "[fe80::1%%%s]:7", loopback);
    expect_round(host, 7, text);
    snprintf(host, sizeof host, "[fe80::1%%%s]", loopback);
    expect_round(host, 7, text);
    struct sockaddr_in6 v6;
    const mio_addr_t addr = parsed(host, 7);
    memcpy(&v6, &addr.u, sizeof v6);
    assert_int_equal(v6.sin6_scope_id, if_nametoindex(loopback));
}

static void test_zones_that_are_none(void **) {
    expect_refused("fe80::1%", 1, MIO_EINVAL);
    expect_refused("[fe80::1%]", 1, MIO_EINVAL);
    expect_refused("%1", 1, MIO_EINVAL);
    expect_refused("%lo", 1, MIO_EINVAL);
    expect_refused("fe80::x%1", 1, MIO_EINVAL);
    expect_refused("fe80::1%nobodys", 1, MIO_ENODEV);
    expect_refused("fe80::1%1%1", 1, MIO_ENODEV);
    expect_refused("fe80::1%1 ", 1, MIO_ENODEV);
    expect_refused("fe80::1%-1", 1, MIO_ENODEV);
    expect_refused("fe80::1%1]", 1, MIO_ENODEV);
    expect_refused("fe80::1%aninterfacename0", 1, MIO_ENODEV);  // as long as none can be
    expect_refused("fe80::1%0000000000000001", 1, MIO_ENODEV);
}

static void test_ports_have_sixteen_bits(void **) {
    const int refused[] = {-1, 65536, 65536 + 80, INT32_MAX, INT32_MIN};
    for (int port : refused) {
        expect_refused("127.0.0.1", port, MIO_EINVAL);
        expect_refused("::1", port, MIO_EINVAL);
    }
    for (int port = 0; port <= 65535; port += 257) {
        parsed("127.0.0.1", port);
        parsed("::1", port);
    }
}

static void test_null_arguments(void **) {
    char text[MIO_ADDR_TEXT_MAX];
    const mio_addr_t addr = parsed("127.0.0.1", 1);
    expect_refused(nullptr, 1, MIO_EINVAL);
    assert_int_equal(mio_addr_parse("127.0.0.1", 1, nullptr), MIO_EINVAL);
    assert_int_equal(mio_addr_format(nullptr, text, sizeof text), MIO_EINVAL);
    assert_int_equal(mio_addr_format(&addr, nullptr, 0), MIO_EINVAL);
    assert_int_equal(mio_addr_port(nullptr), MIO_EINVAL);
}

static void test_text_without_end(void **) {
    const size_t lengths[] = {15, 16, 45, 46, 47, 255, 256, 100000};
    const char *fills = "1:.%[0a";
    for (size_t length : lengths) {
        for (const char *fill = fills; *fill != 0; fill++) {
            char *host = static_cast<char *>(malloc(length + 5));
            assert_non_null(host);
            memset(host, *fill, length);
            host[length] = 0;
            expect_refused(host, 1, MIO_EINVAL);
            memcpy(host, "::1%", 4);
            mio_addr_t addr = marked();
            assert_true(mio_addr_parse(host, 1, &addr) < 0 || length < 20); // a short zone of digits is one
            memcpy(host, "[::1", 4);
            host[length - 1] = ']';
            expect_refused(host, 1, memchr(host, '%', length) != nullptr ? MIO_ENODEV : MIO_EINVAL);
            free(host);
        }
    }
}

// --- printing -------------------------------------------------------------------------------------------------------

static void test_format_fits_or_says_so(void **) {
    const char *hosts[] = {"127.0.0.1", "::1", "fe80::1%4294967295"};
    const char *texts[] = {"127.0.0.1:80", "[::1]:80", "[fe80::1%4294967295]:80"};
    for (size_t i = 0; i < 3; i++) {
        const mio_addr_t addr = parsed(hosts[i], 80);
        const size_t length = strlen(texts[i]);
        for (size_t size = 0; size <= length; size++) {
            char text[MIO_ADDR_TEXT_MAX], before[MIO_ADDR_TEXT_MAX];
            memset(text, 'x', sizeof text);
            memcpy(before, text, sizeof text);
            assert_int_equal(mio_addr_format(&addr, text, size), MIO_ENOBUFS);
            assert_memory_equal(text, before, sizeof text);
        }
        char *exact = static_cast<char *>(malloc(length + 1)); // a byte too many is seen by the address sanitizer
        assert_int_equal(mio_addr_format(&addr, exact, length + 1), length);
        assert_string_equal(exact, texts[i]);
        free(exact);
    }
}

static void test_the_longest_text_fits(void **) {
    const mio_addr_t addr = parsed("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295", 65535);
    char text[MIO_ADDR_TEXT_MAX];
    assert_true(mio_addr_format(&addr, text, sizeof text) + IF_NAMESIZE < MIO_ADDR_TEXT_MAX);
}

static void test_other_families_and_short_ones(void **) {
    char text[MIO_ADDR_TEXT_MAX];
    mio_addr_t addr = mio_addr_t();
    assert_int_equal(mio_addr_format(&addr, text, sizeof text), MIO_EAFNOSUPPORT);
    assert_int_equal(mio_addr_port(&addr), MIO_EAFNOSUPPORT);
    addr.u.any.sa_family = AF_UNIX;
    addr.len = sizeof(struct sockaddr_un);
    assert_int_equal(mio_addr_format(&addr, text, sizeof text), MIO_EAFNOSUPPORT);
    assert_int_equal(mio_addr_port(&addr), MIO_EAFNOSUPPORT);
    const char *hosts[] = {"127.0.0.1", "::1"};
    for (const char *host : hosts) {
        addr = parsed(host, 1);
        addr.len--;
        assert_int_equal(mio_addr_format(&addr, text, sizeof text), MIO_EAFNOSUPPORT);
        assert_int_equal(mio_addr_port(&addr), MIO_EAFNOSUPPORT);
        addr.len = sizeof addr.u + 1;
        assert_int_equal(mio_addr_format(&addr, text, sizeof text), MIO_EINVAL);
        assert_int_equal(mio_addr_port(&addr), MIO_EINVAL);
    }
}

// --- both, at random ------------------------------------------------------------------------------------------------

static void test_what_is_printed_is_read_back(void **) {
    random_source random = {1};
    for (int i = 0; i < 20000; i++) {
        mio_addr_t addr = mio_addr_t();
        const uint64_t zeroes = random_next(&random); // runs of zeroes are what the short form is about
        uint8_t bytes[16];
        for (unsigned k = 0; k < 16; k++) bytes[k] = (zeroes >> (k / 2) & 1) != 0 ? 0 : (uint8_t)random_next(&random);
        const uint16_t port = static_cast<uint16_t>(random_next(&random));
        if ((i & 1) != 0) {
            struct sockaddr_in v4 = {};
            v4.sin_family = AF_INET;
            memcpy(&v4.sin_addr, bytes, 4);
            v4.sin_port = htons(port);
            memcpy(&addr.u, &v4, sizeof v4);
            addr.len = sizeof v4;
        } else {
            struct sockaddr_in6 v6 = {};
            v6.sin6_family = AF_INET6;
            memcpy(&v6.sin6_addr, bytes, 16);
            v6.sin6_port = htons(port);
            if ((zeroes & 1024) != 0) v6.sin6_scope_id = 1000000 + (zeroes >> 40);
            memcpy(&addr.u, &v6, sizeof v6);
            addr.len = sizeof v6;
        }
        char text[MIO_ADDR_TEXT_MAX];
        const int length = mio_addr_format(&addr, text, sizeof text);
        assert_true(length > 0 && static_cast<size_t>(length) == strlen(text));
        char *colon = strrchr(text, ':');
        assert_non_null(colon);
        assert_int_equal(atoi(colon + 1), port);
        *colon = 0;
        mio_addr_t again = parsed(text, port);
        assert_int_equal(again.len, addr.len);
        assert_memory_equal(&again.u, &addr.u, addr.len);
    }
}

static void test_random_text_harms_nobody(void **) {
    static const char alphabet[] = "0123456789abcdefx:::...[]%% \x80\xff";
    random_source random = {2};
    int accepted = 0;
    for (int i = 0; i < 200000; i++) {
        const size_t length = random_next(&random) % 48;
        char *host = static_cast<char *>(malloc(length + 1)); // its end is guarded by the address sanitizer
        for (size_t k = 0; k < length; k++) host[k] = alphabet[random_next(&random) % (sizeof alphabet - 1)];
        host[length] = 0;
        const mio_addr_t before = marked();
        mio_addr_t addr = before;
        const int result = mio_addr_parse(host, 1, &addr);
        if (result < 0) assert_memory_equal(&addr, &before, sizeof addr);
        else accepted++;
        free(host);
    }
    assert_true(accepted > 0);
}

static int find_loopback(void **) {
    if (if_indextoname(1, loopback) == nullptr) loopback[0] = 0;
    return 0;
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ipv4_is_four_decimal_numbers),
        cmocka_unit_test(test_ipv4_bytes_are_in_network_order),
        cmocka_unit_test(test_ipv6_in_every_spelling),
        cmocka_unit_test(test_zone_by_number),
        cmocka_unit_test(test_zone_by_name),
        cmocka_unit_test(test_zones_that_are_none),
        cmocka_unit_test(test_ports_have_sixteen_bits),
        cmocka_unit_test(test_null_arguments),
        cmocka_unit_test(test_text_without_end),
        cmocka_unit_test(test_format_fits_or_says_so),
        cmocka_unit_test(test_the_longest_text_fits),
        cmocka_unit_test(test_other_families_and_short_ones),
        cmocka_unit_test(test_what_is_printed_is_read_back),
        cmocka_unit_test(test_random_text_harms_nobody),
    };
    return cmocka_run_group_tests_name("addr", tests, find_loopback, nullptr);
}
