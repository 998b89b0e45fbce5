// Connecting by name with a resolver of ours, over the kernel's loopback: several addresses, and no memory for any part.
#include "support/cmocka.h"
#include "support/failing.h"

#include "core/loop.h"

#include <mio/error.h>
#include <mio/tcp.h>

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

using namespace mio;

static loop *l;
static sys table;
static const char *const *answers; // numeric hosts, the last nullptr
static mio_listener_t *listener;
static int port;

static void *list_alloc(const mio_addr_t *at) {
    auto *one = static_cast<struct addrinfo *>(calloc(1, sizeof(struct addrinfo) + sizeof(struct sockaddr_storage)));
    one->ai_family = at->u.any.sa_family;
    one->ai_addrlen = at->len;
    one->ai_addr = reinterpret_cast<struct sockaddr *>(one + 1);
    memcpy(one->ai_addr, &at->u, at->len);
    return one;
}

static int ours_getaddrinfo(const char *, const char *service, const struct addrinfo *, struct addrinfo **out) {
    struct addrinfo **last = out;
    for (int i = 0; answers[i] != nullptr; i++) {
        mio_addr_t at;
        assert_int_equal(mio_addr_parse(answers[i], atoi(service), &at), 0);
        *last = static_cast<struct addrinfo *>(list_alloc(&at));
        last = &(*last)->ai_next;
    }
    return 0;
}

static void ours_freeaddrinfo(struct addrinfo *list) {
    while (list != nullptr) {
        struct addrinfo *next = list->ai_next;
        free(list);
        list = next;
    }
}

static int told, status;
static unsigned tried;
static char text[512];

static void on_connect(mio_stream_t *stream, int result, const mio_connect_tried_t *list, unsigned n, void *) {
    told++;
    status = result;
    tried = n;
    assert_true(mio_connect_tried_format(list, n, text, sizeof text) > 0);
    mio_handle_close(stream, nullptr, nullptr);
}

static int scene_open(void **) {
    table = *test::failing_open(&sys_real);
    test::failing_never();
    table.getaddrinfo = ours_getaddrinfo;
    table.freeaddrinfo = ours_freeaddrinfo;
    told = 0;
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.backend = MIO_BACKEND_EPOLL;
    if (loop_create(&l, &options, &table) != 0) return 1;
    mio_addr_t at;
    if (mio_tcp_listen(loop_public(l), "127.0.0.1", 0, nullptr, [](mio_listener_t *, int, mio_stream_t *, void *) {},
                       nullptr, &listener) != 0)
        return 2;
    if (mio_listener_local(listener, &at) != 0 || mio_handle_unref(listener) != 0) return 3;
    port = mio_addr_port(&at);
    return 0;
}

static int scene_close(void **) {
    assert_int_equal(mio_loop_destroy(loop_public(l), MIO_FOREVER), 0);
    return test::failing_close();
}

// The next address is tried because one has failed, not because time has passed.
static mio_req_t start() {
    mio_stream_t *stream;
    mio_connect_host_options_t options = MIO_CONNECT_HOST_OPTIONS_INIT;
    options.stagger_ns = 60 * MIO_MINUTE;
    return mio_tcp_connect_host(loop_public(l), "host.example", MIO_TEXT, port, &options, on_connect, nullptr, &stream);
}

static void until_told() {
    for (int i = 0; i < 30000 && told == 0; i++) assert_true(mio_loop_run_once(loop_public(l), MIO_MILLISECOND) >= 0);
    assert_int_equal(told, 1);
    assert_int_equal(mio_loop_run(loop_public(l)), 0); // what was closed is gone
}

static void the_next_address_follows_one_that_fails(void **) {
    static const char *const some[] = {"::1", "127.0.0.2", "127.0.0.3", "127.0.0.1", nullptr};
    answers = some;
    assert_true(start() > 0);
    until_told();
    assert_int_equal(status, 0);
    assert_int_equal(tried, 4); // nobody listens on the first three, or there is no IPv6
    char end[128];
    snprintf(end, sizeof end, ", 127.0.0.3:%d MIO_ECONNREFUSED, 127.0.0.1:%d MIO_OK", port, port);
    assert_non_null(strstr(text, end));
}

static int fast; // attempts that stand before a peer has answered
static int some_setsockopt(int fd, int level, int name, const void *value, socklen_t len) {
    if (level == IPPROTO_TCP && name == TCP_FASTOPEN_CONNECT) fast++;
    return sys_real.setsockopt(fd, level, name, value, len);
}

static void a_race_is_not_won_before_a_peer_has_answered(void **) {
    static const char *const two[] = {"127.0.0.2", "127.0.0.1", nullptr}, *const only[] = {"127.0.0.1", nullptr};
    table.setsockopt = some_setsockopt;
    mio_connect_options_t each = MIO_CONNECT_OPTIONS_INIT;
    each.fastopen = 1;
    mio_connect_host_options_t options = MIO_CONNECT_HOST_OPTIONS_INIT;
    options.connect = &each;
    for (int round = 0; round < 2; round++) {
        answers = round == 0 ? two : only;
        told = fast = 0;
        mio_stream_t *stream;
        assert_true(mio_tcp_connect_host(loop_public(l), "host.example", MIO_TEXT, port, &options, on_connect, nullptr,
                                         &stream) > 0);
        until_told();
        assert_int_equal(status, 0);
        assert_int_equal(fast, round); // where there is nobody to race against it is as asked
    }
}

static void an_error_of_a_peers_is_told_before_one_of_this_machine(void **) {
    static const char *const some[] = {"2001:db8::1", "127.0.0.2", nullptr};
    answers = some;
    assert_true(start() > 0);
    for (int i = 0; i < 30000 && told == 0; i++) assert_true(mio_loop_run_once(loop_public(l), MIO_MILLISECOND) >= 0);
    assert_int_equal(told, 1);
    assert_int_equal(status, MIO_ECONNREFUSED);
}

static void nor_does_want_of_descriptors_or_a_prohibition_hide_it(void **) {
    static const char *const some[] = {"127.0.0.1", "127.0.0.2", nullptr}; // the first would be connected
    answers = some;
    static const int errors[] = {MIO_EMFILE, MIO_ENFILE, MIO_ENOBUFS, MIO_ENOMEM, MIO_EACCES, MIO_EPERM};
    for (int error : errors) {
        told = 0;
        test::failing_at(test::call::socket, 1, -error);
        assert_true(start() > 0);
        until_told();
        assert_true(test::failing_happened());
        test::failing_never();
        assert_int_equal(tried, 2);
        assert_non_null(strstr(text, mio_error_name(error)));
        assert_int_equal(status, MIO_ECONNREFUSED);
    }
}

static void without_memory_for_some_part_it_is_told_so_or_goes_on(void **) {
    static const char *const some[] = {"127.0.0.2", "127.0.0.1", nullptr};
    answers = some;
    int refused = 0, failed = 0;
    for (uint64_t n = 1; n < 60; n++) {
        told = 0;
        test::failing_allocation_at(n);
        const mio_req_t id = start();
        assert_true(id > 0 || id == MIO_ENOMEM);
        if (id > 0) until_told();
        else refused++;
        const bool happened = test::failing_happened();
        test::failing_never();
        if (id > 0 && status < 0) {
            assert_true(happened);
            failed++;
        }
        if (!happened) break;
        assert_int_equal(l->requests, 1);
    }
    assert_true(refused + failed > 0);
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_next_address_follows_one_that_fails, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(a_race_is_not_won_before_a_peer_has_answered, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(an_error_of_a_peers_is_told_before_one_of_this_machine, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(nor_does_want_of_descriptors_or_a_prohibition_hide_it, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(without_memory_for_some_part_it_is_told_so_or_goes_on, scene_open, scene_close),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
