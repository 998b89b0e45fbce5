// Datagrams of a simulated world: lost, doubled, overtaken by its seed and by faults; the same again with the same seed.
#include "datagrams.h"

#include <initializer_list>

using namespace api;

constexpr int COUNT = 400;

struct crossing {
    int times[COUNT]; // that each one came
    int order[2 * COUNT + 1];
    int n;
};

static void crossed(mio_udp_t *, int status, mio_datagram_t *d, void *arg) {
    if (status < 0 || is_over()) return;
    crossing *c = static_cast<crossing *>(arg);
    int i;
    assert_is(d->buf.len, sizeof i);
    memcpy(&i, d->buf.base, sizeof i);
    c->times[i]++;
    c->order[c->n++] = i;
}

// COUNT numbers from one loop to another in a world of its own, one each millisecond.
static uint64_t cross(const mio_sim_options_t *options, const mio_sim_fault_t *fault, crossing *c) {
    mio_sim_t *w;
    assert_is(mio_sim_create(&w, options), 0);
    mio_loop_options_t of_world = MIO_LOOP_OPTIONS_INIT;
    of_world.backend = MIO_BACKEND_SIM;
    of_world.sim = w;
    mio_loop_t *here, *there;
    assert_is(mio_loop_create(&here, &of_world), 0);
    assert_is(mio_loop_create(&there, &of_world), 0);
    if (fault != nullptr) assert_is(mio_sim_schedule(w, fault), 0);
    mio_addr_t a_at, b_at;
    mio_udp_t *a = udp_at(here, "127.0.0.1", &a_at), *b = udp_at(there, "127.0.0.1", &b_at);
    ck_assert_int_gt(mio_udp_recv_start(b, crossed, c), 0);
    for (int i = 0; i < COUNT; i++) {
        mio_buf_t buf;
        assert_is(mio_buf_alloc(here, sizeof i, &buf), 0);
        memcpy(buf.base, &i, sizeof i);
        buf.len = sizeof i;
        ck_assert_int_gt(mio_udp_send(a, &buf, 1, &b_at, nullptr, nullptr), 0);
        const int run = mio_sim_run(w, MIO_MILLISECOND);
        ck_assert(run == 0 || run == MIO_ETIMEDOUT);
    }
    assert_is(mio_sim_run(w, MIO_SECOND), MIO_ETIMEDOUT);
    assert_is(mio_loop_destroy(here, MIO_SECOND), 0);
    assert_is(mio_loop_destroy(there, MIO_SECOND), 0);
    assert_is(mio_sim_open_fds(w), 0);
    const uint64_t hash = mio_sim_trace_hash(w);
    assert_is(mio_sim_destroy(w), 0);
    return hash;
}

static int came(const crossing *c, int times) {
    int n = 0;
    for (int one : c->times) n += one == times;
    return n;
}

static bool in_order(const crossing *c) {
    for (int i = 1; i < c->n; i++)
        if (c->order[i] < c->order[i - 1]) return false;
    return true;
}

static mio_sim_options_t seeded() {
    mio_sim_options_t options = MIO_SIM_OPTIONS_INIT;
    options.seed = seed();
    return options;
}

TEST(datagrams_of_a_quiet_world_all_come_in_order) {
    SIM_ONLY("a simulated network");
    crossing c = {};
    mio_sim_options_t options = seeded();
    cross(&options, nullptr, &c);
    assert_is(came(&c, 1), COUNT);
    ck_assert(in_order(&c));
}

TEST(datagrams_are_lost_doubled_and_overtaken_by_the_seed) {
    SIM_ONLY("a simulated network");
    mio_sim_options_t options = seeded();
    options.loss_ppm = 200000;
    options.duplicate_ppm = 200000;
    options.reorder_ppm = 200000;
    crossing c = {}, again = {};
    const uint64_t hash = cross(&options, nullptr, &c);
    ck_assert_int_gt(came(&c, 0), 0);
    ck_assert_int_gt(came(&c, 1), COUNT / 4);
    ck_assert_int_gt(came(&c, 2), 0);
    ck_assert(!in_order(&c));
    ck_assert_uint_eq(cross(&options, nullptr, &again), hash);
    assert_is(memcmp(&c, &again, sizeof c), 0);
}

static mio_sim_fault_t always(int kind) {
    mio_sim_fault_t fault = MIO_SIM_FAULT_INIT;
    fault.kind = kind;
    fault.after_ns = 100 * MIO_MILLISECOND;
    fault.for_ns = 100 * MIO_MILLISECOND;
    fault.a.nodes = 1;
    fault.b.nodes = 2;
    fault.ppm = kind == MIO_SIM_PARTITION ? 0 : 1000000;
    return fault;
}

TEST(faults_double_delay_and_lose_datagrams_while_they_last) {
    SIM_ONLY("a simulated network");
    mio_sim_options_t options = seeded();
    crossing c = {};
    mio_sim_fault_t fault = always(MIO_SIM_DUPLICATE);
    cross(&options, &fault, &c);
    ck_assert_int_ge(came(&c, 2), 95);
    ck_assert_int_le(came(&c, 2), 105);
    assert_is(came(&c, 0), 0);
    c = {};
    fault = always(MIO_SIM_REORDER);
    cross(&options, &fault, &c);
    assert_is(came(&c, 1), COUNT);
    ck_assert(!in_order(&c));
    for (int kind : {static_cast<int>(MIO_SIM_LOSS), static_cast<int>(MIO_SIM_PARTITION)}) {
        c = {};
        fault = always(kind);
        cross(&options, &fault, &c);
        ck_assert_int_ge(came(&c, 0), 95); // for good: nobody sends them again
        ck_assert_int_le(came(&c, 0), 105);
        assert_is(came(&c, 1), COUNT - came(&c, 0));
    }
}

TEST(the_largest_datagram_of_a_world_is_what_it_says) {
    SIM_ONLY("a simulated network");
    mio_sim_options_t options = seeded();
    options.datagram_max = 65536;
    mio_sim_t *w = nullptr;
    assert_is(mio_sim_create(&w, &options), MIO_EINVAL);
    options.datagram_max = 0;
    options.reorder_ppm = 1000001;
    assert_is(mio_sim_create(&w, &options), MIO_EINVAL);
    options.reorder_ppm = 0;
    options.datagram_max = 3; // a number has 4 bytes
    crossing c = {};
    cross(&options, nullptr, &c);
    assert_is(c.n, 0);
}

TEST(the_new_faults_are_drawn_and_told) {
    SIM_ONLY("a simulated network");
    mio_sim_draw_options_t from = MIO_SIM_DRAW_OPTIONS_INIT;
    from.kinds = 1u << MIO_SIM_DUPLICATE | 1u << MIO_SIM_REORDER;
    int doubled = 0, late = 0;
    for (unsigned i = 0; i < 40; i++) {
        mio_sim_fault_t fault = MIO_SIM_FAULT_INIT;
        assert_is(mio_sim_draw(&fault, seed(), i, &from), 0);
        char text[MIO_SIM_TEXT_MAX];
        ck_assert_int_gt(mio_sim_format(&fault, text, sizeof text), 0);
        if (strstr(text, "doubled") != nullptr) doubled++;
        if (strstr(text, "late") != nullptr) late++;
        ck_assert_uint_gt(fault.ppm, 0);
    }
    ck_assert_int_gt(doubled, 0);
    assert_is(doubled + late, 40);
}

TEST(a_full_queue_loses_what_comes_next) {
    SIM_ONLY("a simulated network");
    mio_loop_t *loop = loop_open();
    mio_addr_t a_at, b_at;
    mio_udp_t *a = udp_at(loop, "127.0.0.1", &a_at), *b = udp_at(loop, "127.0.0.1", &b_at);
    for (int i = 0; i < 100; i++) {
        mio_buf_t buf = pattern_buf(loop, 1000, 0);
        ck_assert_int_gt(mio_udp_send(a, &buf, 1, &b_at, nullptr, nullptr), 0);
    }
    run_for(loop, MIO_SECOND);
    told t = {};
    ck_assert_int_gt(mio_udp_recv_start(b, told_by, &t), 0);
    run_for(loop, MIO_SECOND);
    assert_is(t.datagrams, 65); // 65,536 bytes
}
