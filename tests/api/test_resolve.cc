// Names: what is refused before a resolver sees it, answers and whose they are, early ends. On a kernel's backend only
// what every machine knows ("localhost", numbers); in a world whatever it is told.
#include "harness.h"

#include <arpa/inet.h>
#include <netinet/in.h>

using namespace api;

struct answer {
    int told, status;
    unsigned count;
    char first[MIO_ADDR_TEXT_MAX], second[MIO_ADDR_TEXT_MAX], last[MIO_ADDR_TEXT_MAX];
    char canonical[256], host[256], service[64];
    bool take;
    mio_addrs_t taken;
    int stop_after;
};

static void address_text(const mio_addrs_t *addrs, unsigned i, char *text) {
    if (i < addrs->count) assert_ok(mio_addr_format(&addrs->list[i], text, MIO_ADDR_TEXT_MAX));
}

static void host_told(mio_loop_t *, int status, mio_addrs_t *addrs, void *arg) {
    if (is_over()) return;
    auto *a = static_cast<answer *>(arg);
    a->told++;
    a->status = status;
    ck_assert_int_eq(addrs != nullptr, status == 0);
    if (addrs == nullptr) return;
    ck_assert_uint_gt(addrs->count, 0);
    a->count = addrs->count;
    address_text(addrs, 0, a->first);
    address_text(addrs, 1, a->second);
    address_text(addrs, addrs->count - 1, a->last);
    if (addrs->canonical != nullptr) snprintf(a->canonical, sizeof a->canonical, "%s", addrs->canonical);
    if (a->take) {
        a->taken = mio_addrs_take(addrs);
        assert_is(addrs->count, 0);
        ck_assert_ptr_null(addrs->list);
    }
}

static void names_told(mio_loop_t *, int status, const char *host, const char *service, void *arg) {
    if (is_over()) return;
    auto *a = static_cast<answer *>(arg);
    a->told++;
    a->status = status;
    ck_assert_int_eq(host != nullptr, status == 0);
    ck_assert_int_eq(service != nullptr, status == 0);
    if (host != nullptr) snprintf(a->host, sizeof a->host, "%s", host);
    if (service != nullptr) snprintf(a->service, sizeof a->service, "%s", service);
}

static mio_req_t ask(mio_loop_t *loop, const char *host, answer *a, const mio_resolve_options_t *options = nullptr) {
    return mio_resolve_host(loop, host, MIO_TEXT, 80, options, host_told, a);
}

static answer asked(mio_loop_t *loop, const char *host, const mio_resolve_options_t *options = nullptr) {
    answer a = {};
    ck_assert_int_gt(ask(loop, host, &a, options), 0);
    assert_is(a.told, 0);
    run_to_end(loop);
    assert_is(a.told, 1);
    return a;
}

static void first_is(const answer &a, const char *text) {
    assert_is(a.status, 0);
    ck_assert_str_eq(a.first, text);
}

static mio_addr_t addr_of(const char *host, int port) {
    mio_addr_t addr;
    assert_is(mio_addr_parse(host, port, &addr), 0);
    return addr;
}

static void world_knows(const char *host, const char *addr) {
    const mio_addr_t at = addr_of(addr, 0);
    assert_is(mio_sim_add_name(world(), host, &at), 0);
}

// --- mistakes and hostile names -------------------------------------------------------------------------------------

TEST(what_is_no_host_name_is_refused_before_the_resolver) {
    mio_loop_t *loop = loop_open();
    answer a = {};
    char text[400];
    static const char *const bad[] = {"", ".", "..", "a..b", ".a", "a b", "a\tb", "a\n", "\x7f", "\303\274ber.example",
                                      "\xff", " localhost", "a.b.."};
    for (const char *host : bad) assert_is(ask(loop, host, &a), MIO_EINVAL);
    assert_is(mio_resolve_host(loop, "localhost", 0, 80, nullptr, host_told, &a), MIO_EINVAL);
    assert_is(mio_resolve_host(loop, "local\0host", 10, 80, nullptr, host_told, &a), MIO_EINVAL); // the NUL is inside
    assert_is(mio_resolve_host(loop, "localhost\0", 10, 80, nullptr, host_told, &a), MIO_EINVAL);
    memset(text, 'a', sizeof text);
    text[63] = '.';
    for (int i = 64; i < 399; i += 64) text[i + 63 < 399 ? i + 63 : 398] = '.';
    text[399] = 0;
    for (size_t n = 256; n < 399; n++) assert_is(mio_resolve_host(loop, text, n, 80, nullptr, host_told, &a), MIO_EINVAL);
    text[256] = 'a';
    text[257] = 0;
    assert_is(ask(loop, text, &a), MIO_EINVAL);
    memset(text, 'a', 64); // a label of 64 bytes
    text[64] = 0;
    assert_is(ask(loop, text, &a), MIO_EINVAL);
    assert_is(metrics(loop).requests, 0);
    assert_is(mio_loop_run(loop), 0);
    assert_is(a.told, 0);
}

// The longest name and the longest label go to the resolver, which knows none of that kind.
TEST(the_longest_name_is_asked_for) {
    SIM_ONLY("a resolver that asks a name server may take its time");
    mio_loop_t *loop = loop_open();
    char text[257];
    memset(text, 'a', sizeof text);
    for (int i = 63; i < 255; i += 64) text[i] = '.';
    text[255] = 0;
    assert_is(asked(loop, text).status, MIO_EAI_NONAME);
    world_knows(text, "10.1.2.3");
    first_is(asked(loop, text), "10.1.2.3:80");
    text[255] = 'a';
    text[256] = 0;
    answer a = {};
    assert_is(ask(loop, text, &a), MIO_EINVAL);
}

TEST(a_resolver_answers_each_mistake) {
    mio_loop_t *loop = loop_open();
    answer a = {};
    mio_resolve_options_t options = MIO_RESOLVE_OPTIONS_INIT;
    assert_is(mio_resolve_host(nullptr, "localhost", MIO_TEXT, 80, nullptr, host_told, &a), MIO_EINVAL);
    assert_is(mio_resolve_host(loop, nullptr, MIO_TEXT, 80, nullptr, host_told, &a), MIO_EINVAL);
    assert_is(mio_resolve_host(loop, "localhost", MIO_TEXT, 80, nullptr, nullptr, &a), MIO_EINVAL);
    assert_is(mio_resolve_host(loop, "localhost", MIO_TEXT, -1, nullptr, host_told, &a), MIO_EINVAL);
    assert_is(mio_resolve_host(loop, "localhost", MIO_TEXT, 65536, nullptr, host_told, &a), MIO_EINVAL);
    options.family = AF_UNIX;
    assert_is(ask(loop, "localhost", &a, &options), MIO_EINVAL);
    options.family = 0;
    options.flags = MIO_RESOLVE_NAME_NEEDED; // of the other way
    assert_is(ask(loop, "localhost", &a, &options), MIO_EINVAL);
    options.flags = 1u << 31;
    assert_is(ask(loop, "localhost", &a, &options), MIO_EINVAL);
    options.flags = 0;
    options.service = "";
    assert_is(ask(loop, "localhost", &a, &options), MIO_EINVAL);
    char service[65];
    memset(service, 'x', sizeof service);
    service[64] = 0;
    options.service = service;
    assert_is(ask(loop, "localhost", &a, &options), MIO_EINVAL);
    options.size = 0;
    assert_is(ask(loop, "localhost", &a, &options), MIO_EINVAL);

    mio_addr_t at = addr_of("127.0.0.1", 80);
    assert_is(mio_resolve_addr(nullptr, &at, 0, names_told, &a), MIO_EINVAL);
    assert_is(mio_resolve_addr(loop, nullptr, 0, names_told, &a), MIO_EINVAL);
    assert_is(mio_resolve_addr(loop, &at, 0, nullptr, &a), MIO_EINVAL);
    assert_is(mio_resolve_addr(loop, &at, MIO_RESOLVE_CANONICAL, names_told, &a), MIO_EINVAL);
    at.len = 3;
    assert_is(mio_resolve_addr(loop, &at, 0, names_told, &a), MIO_EINVAL);
    mio_addrs_release(nullptr);
    mio_addrs_t none = {};
    mio_addrs_release(&none);
    none = mio_addrs_take(nullptr);
    assert_is(none.count, 0);
    assert_is(mio_loop_run(loop), 0);
    assert_is(a.told, 0);
}

TEST(a_question_without_memory_takes_nothing) {
    mio_loop_t *loop = loop_open();
    counting *count = loop_counting(loop);
    answer a = {};
    const mio_addr_t at = addr_of("127.0.0.1", 80);
    count->fail_at = 1;
    assert_is(ask(loop, "localhost", &a), MIO_ENOMEM);
    count->fail_at = 1;
    assert_is(mio_resolve_addr(loop, &at, 0, names_told, &a), MIO_ENOMEM);
    assert_is(metrics(loop).requests, 0);
    assert_is(asked(loop, "localhost").status, 0);
}

TEST(resolver_errors_have_names_and_texts_of_their_own) {
    static const int errors[] = {MIO_EAI_AGAIN,  MIO_EAI_FAIL,    MIO_EAI_NONAME,   MIO_EAI_NODATA,  MIO_EAI_FAMILY,
                                 MIO_EAI_SERVICE, MIO_EAI_BADFLAGS, MIO_EAI_SOCKTYPE, MIO_EAI_OVERFLOW};
    for (int error : errors) {
        ck_assert_int_lt(error, -4096);
        ck_assert_int_eq(strncmp(mio_error_name(error), "MIO_EAI_", 8), 0);
        ck_assert_str_ne(mio_error_text(error), "unknown error");
    }
}

// --- answers --------------------------------------------------------------------------------------------------------

TEST(localhost_is_this_machine) {
    mio_loop_t *loop = loop_open();
    mio_resolve_options_t options = MIO_RESOLVE_OPTIONS_INIT;
    options.family = AF_INET;
    const answer v4 = asked(loop, "localhost", &options);
    assert_is(v4.status, 0);
    ck_assert_str_eq(v4.first, "127.0.0.1:80");
    assert_is(v4.count, 1); // none twice
    options.service = "443";
    first_is(asked(loop, "localhost", &options), "127.0.0.1:443");
}

TEST(numbers_are_answered_without_a_worker) {
    mio_loop_t *loop = loop_open();
    first_is(asked(loop, "127.0.0.1"), "127.0.0.1:80");
    first_is(asked(loop, "::1"), "[::1]:80");
    first_is(asked(loop, "[2001:db8::7]"), "[2001:db8::7]:80");
    assert_is(asked(loop, "fe80::1%nobody").status, MIO_ENODEV);
    assert_is(metrics(loop).jobs, 0);
    mio_resolve_options_t options = MIO_RESOLVE_OPTIONS_INIT;
    options.flags = MIO_RESOLVE_NUMERIC;
    assert_is(asked(loop, "localhost", &options).status, MIO_EAI_NONAME);
    options.family = AF_INET6;
    ck_assert_int_lt(asked(loop, "127.0.0.1", &options).status, -4096);
}

TEST(an_answer_that_is_taken_outlives_its_loop) {
    mio_loop_t *loop = loop_open();
    answer a = {}, number = {};
    a.take = number.take = true;
    ck_assert_int_gt(ask(loop, "localhost", &a), 0);
    ck_assert_int_gt(ask(loop, "10.0.0.1", &number), 0);
    run_to_end(loop);
    loop_close(loop);
    ck_assert_uint_gt(a.taken.count, 0);
    char text[MIO_ADDR_TEXT_MAX];
    assert_ok(mio_addr_format(&a.taken.list[0], text, sizeof text));
    ck_assert_str_eq(text, a.first);
    mio_addrs_release(&a.taken);
    assert_is(a.taken.count, 0);
    mio_addrs_release(&a.taken);
    mio_addrs_release(&number.taken);
}

TEST(an_address_has_a_name_or_at_least_numbers) {
    mio_loop_t *loop = loop_open();
    answer a = {}, number = {};
    const mio_addr_t at = addr_of("127.0.0.1", 65000), far = addr_of("192.0.2.1", 65000);
    ck_assert_int_gt(mio_resolve_addr(loop, &at, 0, names_told, &a), 0);
    ck_assert_int_gt(mio_resolve_addr(loop, &far, MIO_RESOLVE_NUMERIC, names_told, &number), 0);
    run_to_end(loop);
    assert_is(a.told, 1);
    assert_is(a.status, 0);
    ck_assert_str_ne(a.host, "");
    ck_assert_str_eq(a.service, "65000");
    ck_assert_str_eq(number.host, "192.0.2.1");
    ck_assert_str_eq(number.service, "65000");
    if (on_sim()) ck_assert_str_eq(a.host, "localhost");
}

TEST(many_questions_are_all_answered_and_once_warm_allocate_nothing_of_the_loops) {
    mio_loop_t *loop = loop_open();
    static answer all[40];
    uint64_t warm = 0;
    for (int round = 0; round < 4; round++) {
        memset(all, 0, sizeof all);
        for (int i = 0; i < 40; i++) ck_assert_int_gt(ask(loop, i % 2 == 0 ? "localhost" : "127.0.0.1", &all[i]), 0);
        run_to_end(loop);
        for (const answer &a : all) {
            assert_is(a.told, 1);
            assert_is(a.status, 0);
        }
        if (round == 0) warm = metrics(loop).allocations;
    }
    assert_is(metrics(loop).allocations, warm);
}

// --- early ends -----------------------------------------------------------------------------------------------------

TEST(a_question_can_be_cancelled_and_abandoned_at_once) {
    mio_loop_t *loop = loop_open();
    answer a = {}, number = {}, abandoned = {}, late = {};
    const mio_addr_t at = addr_of("127.0.0.1", 1);
    const mio_req_t id = ask(loop, "localhost", &a);
    assert_is(mio_req_cancel(loop, id), 0);
    const mio_req_t number_id = ask(loop, "127.0.0.1", &number);
    assert_is(mio_req_cancel(loop, number_id), MIO_EALREADY); // its answer is there
    assert_is(mio_req_abandon(loop, ask(loop, "localhost", &abandoned)), 0);
    assert_is(mio_req_abandon(loop, ask(loop, "127.0.0.1", &abandoned)), 0);
    assert_is(mio_req_abandon(loop, mio_resolve_addr(loop, &at, 0, names_told, &abandoned)), 0);
    const mio_req_t late_id = mio_resolve_addr(loop, &at, 0, names_told, &late);
    assert_is(mio_req_deadline(loop, late_id, 1), 0);
    run_to_end(loop);
    assert_is(a.told, 1);
    assert_is(a.status, MIO_ECANCELED);
    assert_is(number.status, 0);
    assert_is(abandoned.told, 0);
    assert_is(late.told, 1);
    ck_assert(late.status == MIO_ETIMEDOUT || late.status == 0);
}

// Wherever a question is, a cancel of it is followed by one callback: its own answer or MIO_ECANCELED.
TEST(a_cancel_meets_a_question_in_every_state) {
    mio_loop_t *loop = loop_open();
    int cancelled = 0;
    for (int i = 0; i < 60; i++) {
        answer a = {};
        const mio_req_t id = ask(loop, "localhost", &a);
        for (int turns = 0; turns < i % 6 && a.told == 0; turns++)
            assert_ok(mio_loop_run_once(loop, on_sim() ? 50 * MIO_MICROSECOND : 0));
        const int result = mio_req_cancel(loop, id);
        if (a.told != 0) assert_is(result, MIO_ENOENT);
        run_to_end(loop);
        assert_is(a.told, 1);
        if (result == 0) {
            assert_is(a.status, MIO_ECANCELED);
            cancelled++;
        } else {
            assert_is(a.status, 0);
        }
    }
    ck_assert_int_gt(cancelled, 0);
}

TEST(a_loop_ends_its_questions_with_itself) {
    mio_loop_t *loop = loop_open();
    static answer all[20];
    memset(all, 0, sizeof all);
    static int told;
    static bool ending;
    told = 0;
    ending = false;
    const mio_resolve_cb counts = [](mio_loop_t *on, int status, mio_addrs_t *addrs, void *) {
        told++;
        ck_assert(status == MIO_ECANCELED || status == 0);
        ck_assert_int_eq(addrs != nullptr, status == 0);
        if (ending) assert_is(mio_resolve_host(on, "localhost", MIO_TEXT, 80, nullptr, host_told, &all[0]), MIO_ESHUTDOWN);
    };
    for (int i = 0; i < 10; i++)
        ck_assert_int_gt(mio_resolve_host(loop, "localhost", MIO_TEXT, 80, nullptr, counts, nullptr), 0);
    assert_ok(mio_loop_run_once(loop, 0) >= 0);
    for (int i = 0; i < 10; i++)
        ck_assert_int_gt(mio_resolve_host(loop, "localhost", MIO_TEXT, 80, nullptr, counts, nullptr), 0);
    ending = true;
    assert_is(mio_loop_destroy(loop, 0), 0); // nobody waits for a resolver
    loop_forget(loop);
    assert_is(told, 20);
}

// --- worlds ---------------------------------------------------------------------------------------------------------

TEST(a_world_knows_the_names_it_is_told) {
    SIM_ONLY("names are the world's");
    mio_loop_t *loop = loop_open();
    world_knows("Two.Example", "2001:db8::2");
    world_knows("two.example.", "10.0.0.2");
    world_knows("other.example", "10.0.0.2");
    answer a = asked(loop, "two.EXAMPLE");
    assert_is(a.count, 2);
    ck_assert_str_eq(a.first, "[2001:db8::2]:80");
    ck_assert_str_eq(a.second, "10.0.0.2:80");
    mio_resolve_options_t options = MIO_RESOLVE_OPTIONS_INIT;
    options.family = AF_INET;
    options.flags = MIO_RESOLVE_CANONICAL;
    a = asked(loop, "two.example", &options);
    assert_is(a.count, 1);
    ck_assert_str_eq(a.first, "10.0.0.2:80");
    ck_assert_str_eq(a.canonical, "two.example");
    assert_is(asked(loop, "three.example").status, MIO_EAI_NONAME);
    options.family = AF_INET6;
    assert_is(asked(loop, "other.example", &options).status, MIO_EAI_NODATA);
    options.service = "http"; // a world knows numbers only
    assert_is(asked(loop, "other.example", &options).status, MIO_EAI_SERVICE);

    const mio_addr_t at = addr_of("10.0.0.2", 443);
    answer names = {}, needed = {};
    const mio_addr_t unknown = addr_of("10.0.0.9", 443);
    ck_assert_int_gt(mio_resolve_addr(loop, &at, 0, names_told, &names), 0);
    ck_assert_int_gt(mio_resolve_addr(loop, &unknown, MIO_RESOLVE_NAME_NEEDED, names_told, &needed), 0);
    run_to_end(loop);
    ck_assert_str_eq(names.host, "two.example");
    ck_assert_str_eq(names.service, "443");
    assert_is(needed.status, MIO_EAI_NONAME);

    assert_is(mio_sim_name_fails(world(), "two.example", MIO_EAI_FAIL), 0); // whatever else it has
    assert_is(asked(loop, "two.example").status, MIO_EAI_FAIL);
    assert_is(mio_sim_name_fails(world(), "down.example", MIO_EAI_AGAIN), 0);
    assert_is(asked(loop, "down.example").status, MIO_EAI_AGAIN);
    assert_is(mio_sim_name_fails(world(), "down.example", 0), 0);
    assert_is(asked(loop, "down.example").status, MIO_EAI_NONAME);
    assert_is(mio_sim_add_name(world(), "empty.example", nullptr), 0);
    assert_is(asked(loop, "empty.example").status, MIO_EAI_NODATA);
    assert_is(mio_sim_forget_name(world(), "TWO.example"), 0);
    assert_is(mio_sim_forget_name(world(), "two.example"), MIO_ENOENT);
    assert_is(asked(loop, "two.example").status, MIO_EAI_NONAME);
}

TEST(a_world_answers_each_mistake_about_names) {
    SIM_ONLY("names are the world's");
    (void)loop_open();
    mio_addr_t at = addr_of("10.0.0.1", 0);
    assert_is(mio_sim_add_name(nullptr, "a", &at), MIO_EINVAL);
    assert_is(mio_sim_add_name(world(), nullptr, &at), MIO_EINVAL);
    assert_is(mio_sim_add_name(world(), "", &at), MIO_EINVAL);
    assert_is(mio_sim_add_name(world(), ".", &at), MIO_EINVAL);
    assert_is(mio_sim_add_name(world(), "a b", &at), MIO_EINVAL);
    at.len = 2;
    assert_is(mio_sim_add_name(world(), "a", &at), MIO_EINVAL);
    assert_is(mio_sim_name_fails(nullptr, "a", MIO_EAI_FAIL), MIO_EINVAL);
    assert_is(mio_sim_name_fails(world(), "a", 1), MIO_EINVAL);
    assert_is(mio_sim_forget_name(nullptr, "a"), MIO_EINVAL);
    assert_is(mio_sim_forget_name(world(), "a"), MIO_ENOENT);
}

TEST(a_deadline_ends_a_question_that_takes_its_time) {
    SIM_ONLY("a resolver's time is the machine's");
    mio_loop_t *loop = loop_open();
    world_knows("slow.example", "10.0.0.1");
    int early = 0, in_time = 0;
    for (int i = 0; i < scaled(400); i++) {
        answer a = {};
        const mio_req_t id = ask(loop, "slow.example", &a);
        assert_is(mio_req_timeout(loop, id, 300 * MIO_MICROSECOND), 0);
        const int64_t begun_ns = mio_loop_now_ns(loop);
        run_to_end(loop);
        assert_is(a.told, 1);
        if (a.status == 0) in_time++;
        else {
            assert_is(a.status, MIO_ETIMEDOUT);
            ck_assert_int_ge(mio_loop_now_ns(loop) - begun_ns, 300 * MIO_MICROSECOND);
            early++;
        }
    }
    if (scaled(400) < 400) return; // too few to have met both
    ck_assert_int_gt(in_time, 0);
    ck_assert_int_gt(early, 0);
}
