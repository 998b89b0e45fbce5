// Faults without a world: what a seed holds, how it is told, and what a failure can do without.
#include "harness.h"

#include <initializer_list>

using namespace api;

static mio_sim_fault_t drawn(uint64_t from_seed, unsigned index, const mio_sim_draw_options_t *options) {
    mio_sim_fault_t fault = MIO_SIM_FAULT_INIT;
    assert_is(mio_sim_draw(&fault, from_seed, index, options), 0);
    return fault;
}

TEST(a_draw_answers_each_mistake) {
    SIM_ONLY("is about simulated worlds");
    mio_sim_fault_t fault = MIO_SIM_FAULT_INIT;
    mio_sim_draw_options_t options = MIO_SIM_DRAW_OPTIONS_INIT;
    assert_is(mio_sim_draw(nullptr, 1, 1, nullptr), MIO_EINVAL);
    fault.size = 3;
    assert_is(mio_sim_draw(&fault, 1, 1, nullptr), MIO_EINVAL);
    fault = MIO_SIM_FAULT_INIT;
    options.kinds = 1; // there is no kind 0
    assert_is(mio_sim_draw(&fault, 1, 1, &options), MIO_EINVAL);
    options.kinds = 1u << MIO_SIM_HEAL;
    assert_is(mio_sim_draw(&fault, 1, 1, &options), MIO_EINVAL);
    options.kinds = 1u << 31;
    assert_is(mio_sim_draw(&fault, 1, 1, &options), MIO_EINVAL);
    for (int64_t within_ns : {int64_t(-1), int64_t(1), INT64_MAX}) {
        options = MIO_SIM_DRAW_OPTIONS_INIT;
        options.within_ns = within_ns;
        assert_is(mio_sim_draw(&fault, 1, 1, &options), MIO_EINVAL);
    }
    options = MIO_SIM_DRAW_OPTIONS_INIT;
    options.longest_ns = -1;
    assert_is(mio_sim_draw(&fault, 1, 1, &options), MIO_EINVAL);
    assert_is(fault.kind, 0); // nothing was written
}

TEST(a_seed_holds_the_same_faults_every_time_and_all_are_valid) {
    SIM_ONLY("is about simulated worlds");
    mio_sim_draw_options_t options = MIO_SIM_DRAW_OPTIONS_INIT;
    options.nodes = 0x8000000000000015u; // 0, 2, 4, 63
    options.within_ns = 5 * MIO_SECOND;
    options.longest_ns = MIO_SECOND;
    for (int kind = MIO_SIM_PARTITION; kind <= MIO_SIM_REORDER; kind++)
        if (kind != MIO_SIM_HEAL) options.kinds |= 1u << kind;
    uint32_t seen = 0;
    char text[MIO_SIM_TEXT_MAX];
    for (unsigned i = 0; i < 2000; i++) {
        const mio_sim_fault_t one = drawn(seed(), i, &options), same = drawn(seed(), i, &options);
        const mio_sim_fault_t other = drawn(seed() + 1, i, &options);
        assert_is(memcmp(&one, &same, sizeof one), 0);
        assert_is(memcmp(&one, &other, sizeof one) != 0, 1);
        seen |= 1u << one.kind;
        ck_assert_int_ge(one.after_ns, 0);
        ck_assert_int_le(one.after_ns + one.for_ns, 5 * MIO_SECOND);
        ck_assert_int_le(one.for_ns, MIO_SECOND);
        assert_is((one.a.nodes & ~options.nodes) | (one.b.nodes & ~options.nodes) | (one.a.nodes & one.b.nodes), 0);
        assert_is(mio_sim_schedule(world(), &one), 0);
        ck_assert_int_gt(mio_sim_format(&one, text, sizeof text), 20);
    }
    ck_assert_uint_eq(seen, options.kinds);
    options.longest_ns = 1;
    for (unsigned i = 0; i < 200; i++) ck_assert_int_le(drawn(seed(), i, &options).for_ns, 1);
    seen = 0;
    for (unsigned i = 0; i < 200; i++) seen |= 1u << drawn(seed(), i, nullptr).kind;
    ck_assert_uint_eq(seen, 1u << MIO_SIM_PARTITION | 1u << MIO_SIM_BLACK_HOLE | 1u << MIO_SIM_RESET | 1u << MIO_SIM_LATENCY |
                                1u << MIO_SIM_BANDWIDTH | 1u << MIO_SIM_LOSS | 1u << MIO_SIM_PAUSE);
    mio_loop_t *loop = loop_open(); // each of them begins and ends in a world with a loop in it
    assert_is(mio_loop_hold(loop, 1), 0);
    assert_is(mio_sim_run(world(), 1000000 * MIO_SECOND), MIO_ETIMEDOUT);
    assert_is(mio_loop_hold(loop, -1), 0);
}

TEST(a_fault_of_an_older_program_is_drawn_as_far_as_it_goes) {
    SIM_ONLY("is about simulated worlds");
    mio_sim_fault_t whole = drawn(seed(), 7, nullptr), part;
    memset(static_cast<void *>(&part), 0xee, sizeof part);
    part.size = offsetof(mio_sim_fault_t, for_ns);
    assert_is(mio_sim_draw(&part, seed(), 7, nullptr), 0);
    assert_is(part.kind, whole.kind);
    assert_is(part.after_ns, whole.after_ns);
    assert_is(part.size, offsetof(mio_sim_fault_t, for_ns));
    ck_assert_uint_eq(static_cast<uint64_t>(part.for_ns), 0xeeeeeeeeeeeeeeeeu);
}

TEST(each_kind_of_fault_has_its_words) {
    SIM_ONLY("is about simulated worlds");
    char text[MIO_SIM_TEXT_MAX];
    mio_addr_t at;
    assert_is(mio_addr_parse("10.0.0.7", 99, &at), 0);
    mio_sim_fault_t f = MIO_SIM_FAULT_INIT;
    const auto says = [&](const char *words) {
        assert_is(mio_sim_format(&f, text, sizeof text), strlen(text));
        ck_assert_str_eq(text, words);
    };
    f.kind = MIO_SIM_PARTITION;
    f.after_ns = 1500 * MIO_MILLISECOND;
    f.for_ns = 20 * MIO_SECOND;
    f.a.nodes = 5;
    says("after 1.500000 s for 20.000000 s: partition between nodes 0,2 and all");
    f.one_way = 1;
    f.b.addr = &at;
    f.b.port = 80;
    says("after 1.500000 s for 20.000000 s: partition from nodes 0,2 to 10.0.0.7 port 80");
    f = MIO_SIM_FAULT_INIT;
    f.kind = MIO_SIM_BLACK_HOLE;
    f.a.nodes = 0x7fffffffffffffff;
    f.b.nodes = 1u << 3;
    f.b.port = 7;
    says("after 0.000000 s: black hole between nodes 0x7fffffffffffffff and node 3 port 7");
    f = MIO_SIM_FAULT_INIT;
    f.kind = MIO_SIM_HEAL;
    says("after 0.000000 s: heal between all and all");
    f.kind = MIO_SIM_RESET;
    f.a.port = 1;
    says("after 0.000000 s: reset between port 1 and all");
    f = MIO_SIM_FAULT_INIT;
    f.kind = MIO_SIM_LATENCY;
    f.latency_max_ns = MIO_SECOND;
    says("after 0.000000 s: latency of 0.000000 to 1.000000 s between all and all");
    f.kind = MIO_SIM_BANDWIDTH;
    f.bandwidth = 1000;
    says("after 0.000000 s: 1000 bytes/s between all and all");
    f.kind = MIO_SIM_LOSS;
    f.ppm = 12345;
    says("after 0.000000 s: 1.2345 % lost between all and all");
    f.kind = MIO_SIM_PAUSE;
    f.a.nodes = 2;
    says("after 0.000000 s: pause of node 1");
    f = MIO_SIM_FAULT_INIT;
    f.kind = MIO_SIM_FAIL;
    f.call = MIO_SIM_CALL_SOCKET;
    f.error = MIO_EMFILE;
    says("after 0.000000 s: socket fails with MIO_EMFILE");
    f.call = MIO_SIM_CALL_SEND;
    f.ppm = 500000;
    says("after 0.000000 s: send fails with MIO_EMFILE in 50.0000 % between all and all");
    f = MIO_SIM_FAULT_INIT;
    f.kind = MIO_SIM_FD_LIMIT;
    f.room = 4;
    says("after 0.000000 s: room for 4 descriptors");
    f.kind = MIO_SIM_MEMORY_LIMIT;
    says("after 0.000000 s: room for 4 bytes");
    f.kind = MIO_SIM_CLOCK_JUMP;
    f.jump_ns = 2 * MIO_SECOND;
    says("after 0.000000 s: clock jumps by 2.000000 s");
    f.kind = MIO_SIM_WALL_JUMP;
    f.jump_ns = -MIO_SECOND;
    says("after 0.000000 s: wall clock jumps by -1.000000 s");
    f.kind = MIO_SIM_SIGNAL;
    f.signal = 15;
    f.a = {};
    says("after 0.000000 s: signal 15 to all");
    f.a.nodes = 4;
    says("after 0.000000 s: signal 15 to node 2");
    f = MIO_SIM_FAULT_INIT; // none is longer
    f.kind = MIO_SIM_LATENCY;
    f.after_ns = f.for_ns = f.latency_min_ns = f.latency_max_ns = INT64_MAX;
    f.a.nodes = f.b.nodes = 0xff00000000000000u;
    f.a.port = f.b.port = 65535;
    assert_is(mio_addr_parse("1111:2222:3333:4444:5555:6666:7777:8888", 1, &at), 0);
    f.a.addr = f.b.addr = &at;
    says("after 9223372036.854776 s for 9223372036.854776 s: latency of 9223372036.854776 to 9223372036.854776 s between "
         "nodes 56,57,58,59,60,61,62,63 [1111:2222:3333:4444:5555:6666:7777:8888] port 65535 and "
         "nodes 56,57,58,59,60,61,62,63 [1111:2222:3333:4444:5555:6666:7777:8888] port 65535");
    assert_is(mio_sim_format(&f, text, 20), MIO_ENOBUFS);
    assert_is(mio_sim_format(&f, nullptr, 20), MIO_EINVAL);
    assert_is(mio_sim_format(nullptr, text, 20), MIO_EINVAL);
    f.kind = 0;
    assert_is(mio_sim_format(&f, text, sizeof text), MIO_EINVAL);
    f.kind = MIO_SIM_SIGNAL + 1;
    assert_is(mio_sim_format(&f, text, sizeof text), MIO_EINVAL);
}

// --- shrinking ------------------------------------------------------------------------------------------------------

struct need {
    unsigned numbers[4];
    unsigned count;
    int asked;
    bool unordered;
};

static int has_all(const unsigned *list, unsigned n, void *arg) {
    need *of = static_cast<need *>(arg);
    of->asked++;
    for (unsigned i = 1; i < n; i++)
        if (list[i] <= list[i - 1]) of->unordered = true;
    unsigned found = 0;
    for (unsigned i = 0; i < of->count; i++)
        for (unsigned j = 0; j < n; j++)
            if (list[j] == of->numbers[i]) found++;
    return found == of->count;
}

TEST(a_failure_is_shrunk_to_what_it_needs) {
    SIM_ONLY("is about simulated worlds");
    const need needs[] = {{{}, 0, 0, false}, {{0}, 1, 0, false}, {{99}, 1, 0, false}, {{3, 4}, 2, 0, false}, {{0, 50, 98, 99}, 4, 0, false}};
    for (need one : needs) {
        unsigned list[100];
        for (unsigned i = 0; i < 100; i++) list[i] = i;
        assert_is(mio_sim_shrink(list, 100, has_all, &one), one.count);
        for (unsigned i = 0; i < one.count; i++) ck_assert_uint_eq(list[i], one.numbers[i]);
        ck_assert_int_lt(one.asked, 200);
        ck_assert(!one.unordered);
    }
    // One that can do without either, but not without both.
    unsigned two[2] = {1, 2};
    const mio_sim_fails_cb either = [](const unsigned *, unsigned n, void *) -> int { return n != 0; };
    assert_is(mio_sim_shrink(two, 2, either, nullptr), 1);
}

TEST(what_does_not_fail_cannot_be_shrunk) {
    SIM_ONLY("is about simulated worlds");
    unsigned list[3] = {5, 6, 7};
    const mio_sim_fails_cb never = [](const unsigned *, unsigned, void *) { return 0; };
    assert_is(mio_sim_shrink(list, 3, never, nullptr), MIO_ENOENT);
    for (unsigned i = 0; i < 3; i++) ck_assert_uint_eq(list[i], 5 + i);
    assert_is(mio_sim_shrink(list, 3, nullptr, nullptr), MIO_EINVAL);
    assert_is(mio_sim_shrink(nullptr, 3, never, nullptr), MIO_EINVAL);
    assert_is(mio_sim_shrink(nullptr, 0, [](const unsigned *, unsigned, void *) { return 1; }, nullptr), 0);
}
