// The timing wheel beside a model that keeps an array of nodes and looks at all of them each time. What both must agree
// on after every advance: which nodes are due, in which order, and that none was early or too late. Then the promises
// of base/wheel.h one by one.
#include "support/cmocka.h"

#include "base/wheel.h"
#include "support/random.h"

#include <stdlib.h>
#include <string.h>

using namespace mio;

static constexpr int64_t TICK_NS = int64_t(1) << WHEEL_TICK_SHIFT;
static constexpr int64_t DAY_NS = INT64_C(86400) * 1000000000;

// --- the model ------------------------------------------------------------------------------------------------------

struct model_node {
    timer_node node;
    bool armed;
    bool past;
    int64_t deadline_ns;
    uint64_t tick;
    uint64_t sequence;
};

struct model {
    wheel w;
    link due;
    model_node *nodes;
    unsigned count;
    unsigned *expected; // indices of due nodes
    uint64_t sequence;
    uint64_t running; // tick
    int64_t now_ns;
    int64_t observed_ns;
    uint64_t seed;
    uint64_t step;
};

#define model_check(m, condition)                                                                                     \
    do {                                                                                                              \
        if (!(condition))                                                                                             \
            fail_msg("seed %llu, step %llu: %s", (unsigned long long)(m)->seed, (unsigned long long)(m)->step,        \
                     #condition);                                                                                     \
    } while (0)

static uint64_t ceil_tick(int64_t deadline_ns) {
    if (deadline_ns <= 0) return 0;
    return static_cast<uint64_t>(deadline_ns / TICK_NS) + (deadline_ns % TICK_NS != 0);
}

static uint64_t model_running_at(int64_t now_ns) { return static_cast<uint64_t>(now_ns / TICK_NS) + 1; }

static void model_open(model *m, uint64_t seed, unsigned count) {
    memset(m, 0, sizeof(*m));
    m->seed = seed;
    m->count = count;
    m->nodes = static_cast<model_node *>(calloc(count, sizeof(model_node)));
    m->expected = static_cast<unsigned *>(calloc(count, sizeof(unsigned)));
    assert_non_null(m->nodes);
    assert_non_null(m->expected);
    link_init(&m->due);
}

static void model_start(model *m, int64_t now_ns) {
    wheel_open(&m->w, now_ns);
    link_init(&m->due);
    for (unsigned i = 0; i < m->count; i++) {
        timer_node_init(&m->nodes[i].node, 0);
        m->nodes[i].armed = false;
    }
    m->now_ns = m->observed_ns = now_ns;
    m->running = model_running_at(now_ns);
}

static void model_close(model *m) {
    free(m->nodes);
    free(m->expected);
}

static void model_set(model *m, model_node *n, int64_t deadline_ns) {
    n->armed = true;
    n->deadline_ns = deadline_ns;
    n->sequence = m->sequence++;
    n->past = deadline_ns <= m->observed_ns;
    n->tick = ceil_tick(deadline_ns);
    if (n->tick < m->running) n->tick = m->running;
}

static model *sorted_model; // for qsort

static int model_compare(const void *a, const void *b) {
    const model_node *x = &sorted_model->nodes[*static_cast<const unsigned *>(a)];
    const model_node *y = &sorted_model->nodes[*static_cast<const unsigned *>(b)];
    if (x->tick != y->tick) return x->tick < y->tick ? -1 : 1;
    return x->sequence < y->sequence ? -1 : 1;
}

static unsigned model_due(model *m, int64_t now_ns) {
    const uint64_t running = model_running_at(now_ns);
    if (running > m->running) m->running = running;
    unsigned n = 0;
    bool past = false;
    for (unsigned i = 0; i < m->count; i++) {
        model_node *node = &m->nodes[i];
        if (!node->armed) continue;
        if (node->tick < m->running) m->expected[n++] = i;
        else if (node->past) past = true;
    }
    for (unsigned i = 0; past && i < m->count; i++) {
        model_node *node = &m->nodes[i];
        if (node->armed && node->tick == m->running && node->deadline_ns <= now_ns) m->expected[n++] = i;
    }
    sorted_model = m;
    qsort(m->expected, n, sizeof(unsigned), model_compare);
    return n;
}

// What wheel_next_ns promises, for the state after an advance to m->now_ns.
static void model_check_next(model *m) {
    const int64_t next_ns = wheel_next_ns(&m->w);
    bool anything_due = false;
    bool anything = false;
    for (unsigned i = 0; i < m->count; i++) {
        const model_node *n = &m->nodes[i];
        if (!n->armed) continue;
        anything = true;
        if (n->past) anything_due = true;
        // Not late: at the end of each node's tick (or now, if that is over) the wheel has asked to be called.
        if (n->tick <= static_cast<uint64_t>(INT64_MAX / TICK_NS)) {
            const int64_t tick_end_ns = static_cast<int64_t>(n->tick) * TICK_NS;
            model_check(m, next_ns <= (tick_end_ns > m->observed_ns ? tick_end_ns : m->observed_ns));
        }
    }
    if (!anything) model_check(m, next_ns == INT64_MAX);
    if (!anything_due && m->now_ns != INT64_MAX) model_check(m, next_ns > m->now_ns);
}

static void model_advance(model *m, int64_t now_ns) {
    wheel_advance(&m->w, now_ns, &m->due);
    m->now_ns = now_ns;
    if (now_ns > m->observed_ns) m->observed_ns = now_ns;
    const unsigned n = model_due(m, now_ns);
    link *at = m->due.next;
    for (unsigned i = 0; i < n; i++) {
        model_node *expected = &m->nodes[m->expected[i]];
        model_check(m, at == &expected->node.at);
        model_check(m, expected->node.state == timer_state::due);
        model_check(m, expected->deadline_ns <= now_ns); // never early
        expected->armed = false;
        at = at->next;
    }
    model_check(m, at == &m->due);
    while (!link_alone(&m->due)) wheel_cancel(&m->w, timer_of(m->due.next));
    model_check_next(m);
}

static int64_t random_later(test::random_source *random, int64_t from_ns) {
    static const unsigned bits[] = {10, 17, 20, 24, 30, 40, 50, 63};
    const uint64_t ahead = random_magnitude(random, bits[random_below(random, 8)]);
    int64_t at_ns;
    if (__builtin_add_overflow(from_ns, static_cast<int64_t>(ahead), &at_ns)) return INT64_MAX;
    switch (random_below(random, 8)) {
    case 0: return at_ns / TICK_NS * TICK_NS; // edges of ticks
    case 1: return at_ns > INT64_MAX - TICK_NS ? at_ns : (at_ns / TICK_NS + 1) * TICK_NS - 1;
    case 2: return at_ns / (64 * TICK_NS) * (64 * TICK_NS);
    case 3: return at_ns / (4096 * TICK_NS) * (4096 * TICK_NS);
    default: return at_ns;
    }
}

// near: keeps most deadlines and steps within a few ticks, so that slots fill and orders get mixed
static void run_against_model(uint64_t seed, uint64_t steps, unsigned nodes, bool near_only) {
    test::random_source random = {seed};
    model m;
    model_open(&m, seed, nodes);
    model_start(&m, 0);
    for (m.step = 0; m.step < steps; m.step++) {
        model_node *n = &m.nodes[random_below(&random, m.count)];
        int64_t deadline_ns;
        if (near_only) {
            deadline_ns = m.observed_ns + static_cast<int64_t>(random_below(&random, 70 * TICK_NS)) - TICK_NS;
            if (random_below(&random, 3) == 0) deadline_ns = (m.observed_ns / TICK_NS + 5) * TICK_NS;
        } else {
            deadline_ns = random_later(&random, m.observed_ns);
            if (random_below(&random, 16) == 0) deadline_ns = m.observed_ns - deadline_ns % DAY_NS;
        }
        const unsigned what = static_cast<unsigned>(random_below(&random, 100));
        if (what < 60) {
            if (n->armed) wheel_rearm(&m.w, &n->node, deadline_ns);
            else wheel_arm(&m.w, &n->node, deadline_ns);
            model_set(&m, n, deadline_ns);
        } else if (what < 75) {
            if (n->armed) wheel_cancel(&m.w, &n->node);
            n->armed = false;
            model_check(&m, n->node.state == timer_state::idle && link_alone(&n->node.at));
        } else if (what < 80) {
            m.observed_ns += static_cast<int64_t>(random_magnitude(&random, 20));
            wheel_observe(&m.w, m.observed_ns);
        } else if (what < 90) {
            const int64_t next_ns = wheel_next_ns(&m.w);
            if (next_ns != INT64_MAX && next_ns < INT64_MAX - DAY_NS)
                model_advance(&m, next_ns > m.observed_ns ? next_ns : m.observed_ns);
        } else if (near_only) {
            model_advance(&m, m.observed_ns + static_cast<int64_t>(random_magnitude(&random, 18)));
        } else {
            model_advance(&m, random_later(&random, m.observed_ns) | 1);
        }
        if (m.observed_ns > INT64_MAX - DAY_NS) {
            model_advance(&m, INT64_MAX);
            model_start(&m, static_cast<int64_t>(random_magnitude(&random, 62)));
        }
    }
    model_close(&m);
}

static void test_model_far(void **) {
    const test::seed_range range = test::seeds(1, 3);
    for (uint64_t i = 0; i < range.count; i++) run_against_model(range.first + i, 1000000, 60, false);
}

static void test_model_near(void **) {
    const test::seed_range range = test::seeds(101, 3);
    for (uint64_t i = 0; i < range.count; i++) run_against_model(range.first + i, 1000000, 100, true);
}

// --- one promise at a time ------------------------------------------------------------------------------------------

struct small {
    wheel w;
    link due;
    timer_node nodes[64];
};

static small *small_open(int64_t now_ns) {
    small *s = static_cast<small *>(malloc(sizeof(small)));
    assert_non_null(s);
    wheel_open(&s->w, now_ns);
    link_init(&s->due);
    for (timer_node &node : s->nodes) timer_node_init(&node, 7);
    return s;
}

// The number of the next due node, which becomes idle; -1: none.
static int small_pop(small *s) {
    if (link_alone(&s->due)) return -1;
    timer_node *node = timer_of(s->due.next);
    wheel_cancel(&s->w, node);
    return static_cast<int>(node - s->nodes);
}

static void test_never_early_and_at_most_a_tick_late(void **) {
    small *s = small_open(1000);
    const int64_t deadline_ns = 10 * TICK_NS + 1;
    wheel_arm(&s->w, &s->nodes[0], deadline_ns);
    wheel_advance(&s->w, deadline_ns - 1, &s->due);
    assert_int_equal(small_pop(s), -1);
    wheel_advance(&s->w, deadline_ns + TICK_NS - 1, &s->due);
    assert_int_equal(small_pop(s), 0);
    assert_int_equal(s->nodes[0].owner, 7);

    wheel_arm(&s->w, &s->nodes[0], 20 * TICK_NS); // on an edge there is nothing to round
    wheel_advance(&s->w, 20 * TICK_NS - 1, &s->due);
    assert_int_equal(small_pop(s), -1);
    wheel_advance(&s->w, 20 * TICK_NS, &s->due);
    assert_int_equal(small_pop(s), 0);
    free(s);
}

static void test_zero_is_due_at_the_next_advance(void **) {
    const int64_t now_ns = 1000 * TICK_NS + 17;
    small *s = small_open(now_ns);
    for (int i = 0; i < 1000; i++) { // time stands still
        wheel_arm(&s->w, &s->nodes[0], now_ns);
        assert_true(wheel_next_ns(&s->w) <= now_ns);
        wheel_advance(&s->w, now_ns, &s->due);
        assert_int_equal(small_pop(s), 0);
        assert_true(wheel_next_ns(&s->w) == INT64_MAX);
    }
    wheel_arm(&s->w, &s->nodes[0], now_ns + 1); // not past: its tick has to end
    wheel_advance(&s->w, now_ns + 5, &s->due);
    assert_int_equal(small_pop(s), -1);
    assert_int_equal(wheel_next_ns(&s->w), 1001 * TICK_NS);
    free(s);
}

static void test_past_of_a_clock_read_later(void **) {
    const int64_t now_ns = 500 * TICK_NS + 100;
    small *s = small_open(now_ns);
    const int64_t flush_ns = now_ns + 3 * TICK_NS; // the clock went on over ticks since the last advance
    wheel_observe(&s->w, flush_ns);
    wheel_arm(&s->w, &s->nodes[0], flush_ns);
    assert_true(wheel_next_ns(&s->w) <= flush_ns);
    wheel_advance(&s->w, flush_ns - TICK_NS, &s->due); // somebody's older clock
    assert_int_equal(small_pop(s), -1);
    wheel_advance(&s->w, flush_ns, &s->due);
    assert_int_equal(small_pop(s), 0);
    free(s);
}

static void test_past_ones_keep_the_order(void **) {
    const int64_t now_ns = 500 * TICK_NS + 100;
    small *s = small_open(now_ns);
    wheel_arm(&s->w, &s->nodes[0], now_ns + 10);
    wheel_arm(&s->w, &s->nodes[1], now_ns + 1000);
    wheel_arm(&s->w, &s->nodes[2], now_ns + 20);
    wheel_advance(&s->w, now_ns + 50, &s->due);
    assert_int_equal(small_pop(s), -1);
    wheel_arm(&s->w, &s->nodes[3], now_ns + 50); // due at once, and so are those before it that are past theirs
    wheel_advance(&s->w, now_ns + 50, &s->due);
    assert_int_equal(small_pop(s), 0);
    assert_int_equal(small_pop(s), 2);
    assert_int_equal(small_pop(s), 3);
    assert_int_equal(small_pop(s), -1);
    wheel_advance(&s->w, 501 * TICK_NS, &s->due);
    assert_int_equal(small_pop(s), 1);
    free(s);
}

static void test_cancelled_past_one_wakes_nobody(void **) {
    const int64_t now_ns = 9 * TICK_NS;
    small *s = small_open(now_ns);
    wheel_arm(&s->w, &s->nodes[0], 0);
    wheel_arm(&s->w, &s->nodes[1], 0);
    wheel_cancel(&s->w, &s->nodes[0]);
    wheel_rearm(&s->w, &s->nodes[1], now_ns + DAY_NS);
    assert_true(wheel_next_ns(&s->w) > now_ns);
    assert_int_equal(s->w.armed, 1);
    wheel_advance(&s->w, now_ns, &s->due);
    assert_int_equal(small_pop(s), -1);
    free(s);
}

static void test_order_inside_a_tick(void **) {
    small *s = small_open(0);
    // Deadlines fall, ticks are equal: the order is that of arming, from whatever level they come.
    const int64_t tick_end_ns = 5000 * TICK_NS;
    for (int i = 0; i < 20; i++) wheel_arm(&s->w, &s->nodes[i], tick_end_ns - i);
    wheel_advance(&s->w, 4990 * TICK_NS, &s->due);
    for (int i = 20; i < 40; i++) wheel_arm(&s->w, &s->nodes[i], tick_end_ns - i);
    wheel_advance(&s->w, tick_end_ns, &s->due);
    for (int i = 0; i < 40; i++) assert_int_equal(small_pop(s), i);
    assert_int_equal(small_pop(s), -1);
    free(s);
}

static void test_order_after_rearming_to_later(void **) {
    small *s = small_open(0);
    const int64_t then_ns = 10000 * TICK_NS;
    for (int i = 0; i < 10; i++) wheel_arm(&s->w, &s->nodes[i], (10 + i) * TICK_NS);
    for (int i = 10; i < 20; i++) wheel_arm(&s->w, &s->nodes[i], then_ns);
    for (int i = 9; i >= 0; i--) wheel_rearm(&s->w, &s->nodes[i], then_ns);     // newer than 10..19, backwards
    for (int i = 20; i < 30; i++) wheel_arm(&s->w, &s->nodes[i], then_ns);
    wheel_rearm(&s->w, &s->nodes[15], then_ns);                                // the same time again: last
    wheel_advance(&s->w, then_ns, &s->due);
    for (int i = 10; i < 20; i++) {
        if (i != 15) assert_int_equal(small_pop(s), i);
    }
    for (int i = 9; i >= 0; i--) assert_int_equal(small_pop(s), i);
    for (int i = 20; i < 30; i++) assert_int_equal(small_pop(s), i);
    assert_int_equal(small_pop(s), 15);
    assert_int_equal(small_pop(s), -1);
    free(s);
}

static void test_rearming_to_later_moves_nothing(void **) {
    small *s = small_open(0);
    wheel_arm(&s->w, &s->nodes[0], 1000 * TICK_NS);
    const uint8_t slot = s->nodes[0].slot;
    const uint8_t level = s->nodes[0].level;
    for (int i = 1; i < 1000; i++) wheel_rearm(&s->w, &s->nodes[0], (1000 + i * 100) * TICK_NS);
    assert_int_equal(s->nodes[0].slot, slot);
    assert_int_equal(s->nodes[0].level, level);
    wheel_advance(&s->w, 2000 * TICK_NS, &s->due);
    assert_int_equal(small_pop(s), -1);
    assert_int_equal(s->w.armed, 1);
    wheel_rearm(&s->w, &s->nodes[0], 2001 * TICK_NS); // to earlier: at once
    assert_int_equal(wheel_next_ns(&s->w), 2001 * TICK_NS);
    wheel_advance(&s->w, 2001 * TICK_NS, &s->due);
    assert_int_equal(small_pop(s), 0);
    free(s);
}

static void test_due_ones_can_be_cancelled_and_armed_again(void **) {
    small *s = small_open(0);
    for (int i = 0; i < 5; i++) wheel_arm(&s->w, &s->nodes[i], TICK_NS);
    wheel_advance(&s->w, TICK_NS, &s->due);
    assert_int_equal(s->w.armed, 0);
    wheel_cancel(&s->w, &s->nodes[2]);
    assert_true(s->nodes[2].state == timer_state::idle);
    assert_int_equal(small_pop(s), 0);
    wheel_arm(&s->w, &s->nodes[0], 0); // stops others, re-arms itself with 0: comes with the next advance, not this one
    assert_int_equal(small_pop(s), 1);
    assert_int_equal(small_pop(s), 3);
    assert_int_equal(small_pop(s), 4);
    assert_int_equal(small_pop(s), -1);
    wheel_advance(&s->w, TICK_NS, &s->due);
    assert_int_equal(small_pop(s), 0);
    free(s);
}

static void test_the_end_of_time(void **) {
    small *s = small_open(123456789);
    wheel_arm(&s->w, &s->nodes[0], INT64_MAX);
    wheel_arm(&s->w, &s->nodes[1], INT64_MAX - 1);
    wheel_arm(&s->w, &s->nodes[2], INT64_MAX - TICK_NS);
    wheel_arm(&s->w, &s->nodes[3], INT64_MIN);
    wheel_advance(&s->w, 123456789, &s->due);
    assert_int_equal(small_pop(s), 3);
    assert_true(wheel_next_ns(&s->w) > 123456789);
    wheel_rearm(&s->w, &s->nodes[2], INT64_MAX);
    wheel_rearm(&s->w, &s->nodes[2], INT64_MAX - 2 * TICK_NS);
    wheel_advance(&s->w, INT64_MAX - TICK_NS, &s->due);
    assert_int_equal(small_pop(s), 2);
    assert_int_equal(small_pop(s), -1);
    wheel_advance(&s->w, INT64_MAX, &s->due);
    assert_int_equal(small_pop(s), -1); // their tick ends after it
    assert_int_equal(s->w.armed, 2);
    free(s);
}

static void test_jump_over_days(void **) {
    small *s = small_open(77);
    for (int i = 0; i < 60; i++) wheel_arm(&s->w, &s->nodes[i], (60 - i) * (DAY_NS / 7));
    wheel_advance(&s->w, 30 * DAY_NS, &s->due);
    for (int i = 59; i >= 0; i--) assert_int_equal(small_pop(s), i);
    assert_int_equal(small_pop(s), -1);
    wheel_arm(&s->w, &s->nodes[0], 30 * DAY_NS + 1);
    wheel_advance(&s->w, 40 * DAY_NS, &s->due);
    assert_int_equal(small_pop(s), 0);
    free(s);
}

static void test_waiting_until_next_gets_on(void **) {
    small *s = small_open(0);
    test::random_source random = {42};
    int64_t latest_ns = 0;
    for (timer_node &node : s->nodes) {
        const int64_t at_ns = static_cast<int64_t>(random_magnitude(&random, 52));
        wheel_arm(&s->w, &node, at_ns);
        if (at_ns > latest_ns) latest_ns = at_ns;
    }
    int64_t now_ns = 0;
    int waits = 0;
    while (s->w.armed != 0) {
        const int64_t next_ns = wheel_next_ns(&s->w);
        assert_true(next_ns > now_ns || s->w.past != 0);
        if (next_ns > now_ns) now_ns = next_ns;
        wheel_advance(&s->w, now_ns, &s->due);
        waits++;
        while (small_pop(s) >= 0) {}
    }
    assert_true(now_ns < latest_ns + TICK_NS);
    assert_true(waits < 64 * 4); // a few steps down for each, not a wake-up per tick
    // One alone is waited for in one go.
    wheel_arm(&s->w, &s->nodes[0], now_ns + 3 * DAY_NS);
    now_ns = wheel_next_ns(&s->w);
    wheel_advance(&s->w, now_ns, &s->due);
    assert_int_equal(small_pop(s), 0);
    free(s);
}

static void test_sequence_wraps(void **) {
    small *s = small_open(0);
    s->w.sequence = UINT32_MAX - 4;
    for (int i = 0; i < 10; i++) wheel_arm(&s->w, &s->nodes[i], 100 * TICK_NS);
    for (int i = 0; i < 10; i += 2) wheel_rearm(&s->w, &s->nodes[i], 100 * TICK_NS);
    wheel_advance(&s->w, 100 * TICK_NS, &s->due);
    for (int i = 1; i < 10; i += 2) assert_int_equal(small_pop(s), i);
    for (int i = 0; i < 10; i += 2) assert_int_equal(small_pop(s), i);
    free(s);
}

// A hundred thousand nodes that were pushed on in a random order into one tick: sorted, and soon.
static void test_many_in_one_tick(void **) {
    constexpr unsigned count = 100000;
    small *s = small_open(0);
    auto *nodes = static_cast<timer_node *>(calloc(count, sizeof(timer_node)));
    auto *order = static_cast<unsigned *>(calloc(count, sizeof(unsigned)));
    assert_non_null(nodes);
    assert_non_null(order);
    test::random_source random = {7};
    for (unsigned i = 0; i < count; i++) {
        order[i] = i;
        timer_node_init(&nodes[i], 0);
        wheel_arm(&s->w, &nodes[i], static_cast<int64_t>(1 + random_below(&random, 3000)) * TICK_NS);
    }
    for (unsigned i = count - 1; i > 0; i--) {
        const unsigned j = static_cast<unsigned>(random_below(&random, i + 1));
        const unsigned swapped = order[i];
        order[i] = order[j];
        order[j] = swapped;
    }
    for (unsigned i = 0; i < count; i++) wheel_rearm(&s->w, &nodes[order[i]], 9000 * TICK_NS);
    for (int64_t tick = 0; tick <= 9000; tick += 10) wheel_advance(&s->w, tick * TICK_NS, &s->due);
    for (unsigned i = 0; i < count; i++) {
        assert_ptr_equal(s->due.next, &nodes[order[i]].at);
        wheel_cancel(&s->w, &nodes[order[i]]);
    }
    assert_true(link_alone(&s->due));
    free(nodes);
    free(order);
    free(s);
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_never_early_and_at_most_a_tick_late),
        cmocka_unit_test(test_zero_is_due_at_the_next_advance),
        cmocka_unit_test(test_past_of_a_clock_read_later),
        cmocka_unit_test(test_past_ones_keep_the_order),
        cmocka_unit_test(test_cancelled_past_one_wakes_nobody),
        cmocka_unit_test(test_order_inside_a_tick),
        cmocka_unit_test(test_order_after_rearming_to_later),
        cmocka_unit_test(test_rearming_to_later_moves_nothing),
        cmocka_unit_test(test_due_ones_can_be_cancelled_and_armed_again),
        cmocka_unit_test(test_the_end_of_time),
        cmocka_unit_test(test_jump_over_days),
        cmocka_unit_test(test_waiting_until_next_gets_on),
        cmocka_unit_test(test_sequence_wraps),
        cmocka_unit_test(test_many_in_one_tick),
        cmocka_unit_test(test_model_near),
        cmocka_unit_test(test_model_far),
    };
    return cmocka_run_group_tests_name("wheel", tests, nullptr, nullptr);
}
