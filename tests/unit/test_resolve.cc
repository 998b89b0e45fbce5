// The resolver from the inside: one that hangs, one that fails in each of its ways, lists that are freed once.
#include "support/cmocka.h"
#include "support/failing.h"

#include "core/loop.h"

#include <mio/error.h>
#include <mio/req.h>
#include <mio/resolve.h>

#include <atomic>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

using namespace mio;

static loop *l;
static sys table; // the failing one, with a resolver of ours
static std::atomic<int> asking, lists, door;
static int answers;       // what it says
static char asked_host[512], asked_service[64];
static struct addrinfo asked_hints;

static void pause_us(long us) {
    const struct timespec time = {0, us * 1000};
    nanosleep(&time, nullptr);
}

// 10.0.0.1 twice, something of a family that nobody knows, 10.0.0.2; with a canonical name.
struct scripted_list {
    struct addrinfo info[4];
    struct sockaddr_in addr[4];
    char name[16];
};

static int ours_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **out) {
    if (door != 0) { // one at a time
        snprintf(asked_host, sizeof asked_host, "%s", host);
        snprintf(asked_service, sizeof asked_service, "%s", service);
        asked_hints = *hints;
    }
    asking++;
    while (door == 0) pause_us(100);
    if (answers < 0) return answers;
    auto *list = new scripted_list();
    static const unsigned last[4] = {1, 1, 9, 2};
    for (int i = 0; i < 4; i++) {
        list->addr[i].sin_family = AF_INET;
        list->addr[i].sin_port = htons(80);
        list->addr[i].sin_addr.s_addr = htonl(0x0a000000 + last[i]);
        list->info[i].ai_family = i == 2 ? 99 : AF_INET;
        list->info[i].ai_addrlen = sizeof list->addr[i];
        list->info[i].ai_addr = reinterpret_cast<struct sockaddr *>(&list->addr[i]);
        if (i < 3) list->info[i].ai_next = &list->info[i + 1];
    }
    strcpy(list->name, "real.example");
    list->info[0].ai_canonname = list->name;
    lists++;
    *out = &list->info[0];
    return 0;
}

static void ours_freeaddrinfo(struct addrinfo *list) {
    lists--;
    delete reinterpret_cast<scripted_list *>(list);
}

static int told, status;
static mio_addrs_t kept;
static bool keep;

static void on_answer(mio_loop_t *, int error, mio_addrs_t *addrs, void *) {
    told++;
    status = error;
    assert_int_equal(addrs != nullptr, error == 0);
    if (addrs == nullptr) return;
    assert_int_equal(addrs->count, 2);
    char text[MIO_ADDR_TEXT_MAX];
    assert_true(mio_addr_format(&addrs->list[0], text, sizeof text) > 0);
    assert_string_equal(text, "10.0.0.1:80");
    assert_true(mio_addr_format(&addrs->list[1], text, sizeof text) > 0);
    assert_string_equal(text, "10.0.0.2:80");
    assert_string_equal(addrs->canonical, "real.example");
    if (keep) kept = mio_addrs_take(addrs);
}

static int scene_open(void **) {
    told = status = answers = 0;
    asking = 0;
    lists = 0;
    door = 1;
    keep = false;
    table = *test::failing_open(&sys_real);
    test::failing_never();
    table.getaddrinfo = ours_getaddrinfo;
    table.freeaddrinfo = ours_freeaddrinfo;
    return loop_create(&l, nullptr, &table);
}

static int memory_comes_home() {
    for (int i = 0; i < 300000 && test::failing_alive() != 0; i++) pause_us(100);
    return test::failing_close();
}

static int scene_close(void **) {
    assert_int_equal(mio_loop_destroy(loop_public(l), MIO_FOREVER), 0);
    assert_int_equal(lists, 0);
    return memory_comes_home();
}

static mio_req_t ask(const char *host) {
    return mio_resolve_host(loop_public(l), host, MIO_TEXT, 80, nullptr, on_answer, nullptr);
}

static void wait_for(const std::atomic<int> &count, int n) {
    for (int i = 0; i < 300000 && count.load() < n; i++) pause_us(100);
    assert_true(count.load() >= n);
}

static void lists_become_answers(void **) {
    mio_resolve_options_t options = MIO_RESOLVE_OPTIONS_INIT;
    options.family = AF_INET6;
    options.service = "http";
    options.flags = MIO_RESOLVE_CANONICAL | MIO_RESOLVE_CONFIGURED | MIO_RESOLVE_V4MAPPED | MIO_RESOLVE_DATAGRAM;
    assert_true(mio_resolve_host(loop_public(l), "host.example;rest", 12, 80, &options, on_answer, nullptr) > 0);
    assert_int_equal(mio_loop_run(loop_public(l)), 0);
    assert_int_equal(told, 1);
    assert_int_equal(status, 0);
    assert_string_equal(asked_host, "host.example"); // so many bytes of it
    assert_string_equal(asked_service, "http");
    assert_int_equal(asked_hints.ai_family, AF_INET6);
    assert_int_equal(asked_hints.ai_socktype, SOCK_DGRAM);
    assert_int_equal(asked_hints.ai_flags, AI_CANONNAME | AI_ADDRCONFIG | AI_V4MAPPED);
    keep = true;
    assert_true(ask("host.example") > 0);
    assert_int_equal(mio_loop_run(loop_public(l)), 0);
    assert_string_equal(asked_service, "80");
    assert_string_equal(kept.canonical, "real.example");
    mio_addrs_release(&kept);
}

static void each_error_is_told(void **) {
    static const int errors[] = {MIO_EAI_AGAIN, MIO_EAI_FAIL, MIO_EAI_NONAME, MIO_EAI_NODATA, MIO_ENOMEM, MIO_EMFILE};
    for (int error : errors) {
        answers = error;
        told = 0;
        assert_true(ask("host.example") > 0);
        assert_int_equal(mio_loop_run(loop_public(l)), 0);
        assert_int_equal(told, 1);
        assert_int_equal(status, error);
    }
}

static void nobody_waits_for_a_resolver_that_hangs(void **) {
    door = 0;
    const mio_req_t cancelled = ask("one.example"), late = ask("two.example"), gone = ask("three.example");
    assert_true(cancelled > 0 && late > 0 && gone > 0);
    assert_true(mio_loop_run_once(loop_public(l), 0) >= 0);
    wait_for(asking, 3);
    assert_int_equal(mio_req_timeout(loop_public(l), late, MIO_MILLISECOND), 0);
    assert_int_equal(mio_req_cancel(loop_public(l), cancelled), 0);
    assert_int_equal(mio_req_abandon(loop_public(l), gone), 0);
    assert_int_equal(mio_loop_run(loop_public(l)), 0);
    assert_int_equal(told, 2);
    assert_true(ask("four.example") > 0); // and the fourth of four
    assert_true(mio_loop_run_once(loop_public(l), 0) >= 0);
    wait_for(asking, 4);
    assert_int_equal(mio_loop_destroy(loop_public(l), 0), 0);
    assert_int_equal(told, 3);
    assert_int_equal(status, MIO_ECANCELED);
    door = 1;
    assert_int_equal(memory_comes_home(), 0); // answers that nobody waits for are freed by the workers
    assert_int_equal(lists, 0);
    assert_int_equal(scene_open(nullptr), 0);
}

static void an_answer_without_memory_is_told_and_freed(void **) {
    for (uint64_t n = 1; n < 20; n++) {
        told = 0;
        test::failing_allocation_at(n);
        const mio_req_t id = ask("host.example");
        assert_true(id > 0 || id == MIO_ENOMEM);
        if (id > 0) assert_int_equal(mio_loop_run(loop_public(l)), 0);
        const bool happened = test::failing_happened();
        test::failing_never();
        if (id > 0) assert_int_equal(told, 1);
        if (id > 0) assert_int_equal(status, happened ? static_cast<int>(MIO_ENOMEM) : 0);
        assert_int_equal(lists, 0);
        if (!happened) return;
    }
    fail();
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lists_become_answers, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(each_error_is_told, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(nobody_waits_for_a_resolver_that_hangs, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(an_answer_without_memory_is_told_and_freed, scene_open, scene_close),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
