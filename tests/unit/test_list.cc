// Lists, and the inbox with many senders: nothing lost, nothing twice, in order for each sender, and nothing gets in
// after the close.
#include "support/cmocka.h"

#include "base/inbox.h"
#include "base/list.h"
#include "base/thread.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace mio;

struct item {
    item *next;
    unsigned sender;
    unsigned number;
};

// --- lists ----------------------------------------------------------------------------------------------------------

static void test_queue(void **) {
    item items[5] = {};
    queue<item> q = {};
    assert_true(queue_empty(q));
    assert_null(queue_pop(&q));
    for (int round = 0; round < 3; round++) {
        for (item &i : items) queue_push(&q, &i);
        for (item &i : items) {
            assert_ptr_equal(queue_pop(&q), &i);
            assert_null(i.next);
        }
        assert_true(queue_empty(q));
    }
}

static void test_queue_take(void **) {
    item items[3] = {};
    queue<item> q = {};
    for (item &i : items) queue_push(&q, &i);
    queue<item> all = queue_take(&q);
    assert_true(queue_empty(q));
    for (item &i : items) assert_ptr_equal(queue_pop(&all), &i);
    assert_null(queue_pop(&all));
}

static unsigned link_count(const mio::link *head) {
    unsigned n = 0;
    for (const mio::link *at = head->next; at != head; at = at->next) {
        assert_ptr_equal(at->next->prev, at);
        n++;
    }
    return n;
}

static void test_links(void **) {
    mio::link head;
    mio::link nodes[4];
    link_init(&head);
    assert_true(link_alone(&head));
    for (mio::link &node : nodes) {
        link_init(&node);
        link_before(&head, &node);
    }
    assert_int_equal(link_count(&head), 4);
    assert_ptr_equal(head.next, &nodes[0]);
    assert_ptr_equal(head.prev, &nodes[3]);
    link_remove(&nodes[1]);
    assert_true(link_alone(&nodes[1]));
    link_remove(&nodes[1]); // one that is alone may be removed
    assert_int_equal(link_count(&head), 3);
    assert_ptr_equal(nodes[0].next, &nodes[2]);

    mio::link other;
    link_init(&other);
    link_splice(&other, &head);
    assert_true(link_alone(&head));
    assert_int_equal(link_count(&other), 3);
    link_splice(&other, &head); // nothing
    link_before(&head, &nodes[1]);
    link_splice(&other, &head);
    assert_ptr_equal(other.prev, &nodes[1]);
    assert_int_equal(link_count(&other), 4);
}

// --- the inbox ------------------------------------------------------------------------------------------------------

static void test_inbox_alone(void **) {
    item items[3] = {};
    inbox<item> box = {};
    assert_true(inbox_empty(&box));
    assert_true(queue_empty(inbox_take(&box)));
    for (item &i : items) assert_true(inbox_put(&box, &i));
    assert_false(inbox_empty(&box));
    queue<item> all = inbox_take(&box);
    assert_true(inbox_empty(&box));
    assert_ptr_equal(all.tail, &items[2]);
    for (item &i : items) assert_ptr_equal(queue_pop(&all), &i);

    assert_true(inbox_put(&box, &items[0]));
    all = inbox_close(&box);
    assert_ptr_equal(queue_pop(&all), &items[0]);
    assert_true(queue_empty(all));
    assert_false(inbox_put(&box, &items[0]));
    assert_true(inbox_empty(&box));
    assert_true(queue_empty(inbox_take(&box)));
    assert_false(inbox_put(&box, &items[0])); // taking does not open it again
    assert_true(queue_empty(inbox_close(&box)));
}

constexpr unsigned SENDERS = 4;
constexpr unsigned PER_SENDER = 50000;

struct sender {
    inbox<item> *box;
    item *items;
    unsigned number;
    unsigned accepted;
    std::atomic<unsigned> *running;
};

static void *send_all(void *arg) {
    sender *me = static_cast<sender *>(arg);
    for (unsigned i = 0; i < PER_SENDER; i++) {
        me->items[i].sender = me->number;
        me->items[i].number = i;
        if (!inbox_put(me->box, &me->items[i])) break;
        me->accepted++;
    }
    me->running->fetch_sub(1);
    return nullptr;
}

// Takes until all senders have ended (close_after == 0), or closes after that many items.
static void run_senders(unsigned close_after) {
    inbox<item> box = {};
    sender senders[SENDERS] = {};
    pthread_t threads[SENDERS];
    unsigned expected[SENDERS] = {};
    std::atomic<unsigned> running{SENDERS};
    for (unsigned i = 0; i < SENDERS; i++) {
        senders[i].box = &box;
        senders[i].items = static_cast<item *>(calloc(PER_SENDER, sizeof(item)));
        senders[i].number = i;
        senders[i].running = &running;
        assert_int_equal(pthread_create(&threads[i], nullptr, send_all, &senders[i]), 0);
    }
    unsigned taken = 0;
    bool closed = false;
    bool ordered = true;
    for (bool last = false; !last && !closed;) {
        last = running.load() == 0;
        queue<item> all;
        if (close_after != 0 && taken >= close_after) {
            all = inbox_close(&box);
            closed = true;
        } else {
            all = inbox_take(&box);
        }
        if (queue_empty(all)) sched_yield();
        while (item *i = queue_pop(&all)) {
            ordered = ordered && i->number == expected[i->sender];
            expected[i->sender] = i->number + 1;
            taken++;
        }
    }
    unsigned accepted = 0;
    for (unsigned i = 0; i < SENDERS; i++) {
        pthread_join(threads[i], nullptr);
        accepted += senders[i].accepted;
        assert_int_equal(senders[i].accepted, expected[i]);
        free(senders[i].items);
    }
    assert_true(ordered);
    assert_int_equal(taken, accepted);
    assert_true(queue_empty(inbox_take(&box)));
    if (!closed) assert_int_equal(taken, SENDERS * PER_SENDER);
}

static void test_inbox_loses_nothing(void **) { run_senders(0); }

static void test_inbox_closes_while_others_put(void **) {
    for (unsigned after = 1; after < 20000; after = after * 3 + 1) run_senders(after);
}

static inbox<item> signal_box;
static item signal_items[100];
static volatile sig_atomic_t signals;

static void on_signal(int) {
    inbox_put(&signal_box, &signal_items[signals]);
    signals = signals + 1;
}

static void test_inbox_from_a_signal_handler(void **) {
    struct sigaction action = {};
    struct sigaction before = {};
    action.sa_handler = on_signal;
    sigaction(SIGUSR1, &action, &before);
    item own[100] = {};
    unsigned taken = 0;
    for (item &i : own) {
        assert_true(inbox_put(&signal_box, &i));
        raise(SIGUSR1);
        queue<item> all = inbox_take(&signal_box);
        while (queue_pop(&all) != nullptr) taken++;
    }
    sigaction(SIGUSR1, &before, nullptr);
    assert_int_equal(taken, 200);
}

// --- what the lists stand on ----------------------------------------------------------------------------------------

static void *number_of_thread(void *arg) {
    *static_cast<uint64_t *>(arg) = thread_number();
    return nullptr;
}

static void test_thread_numbers_are_never_reused(void **) {
    const uint64_t mine = thread_number();
    assert_true(mine != 0);
    uint64_t seen[50] = {};
    for (uint64_t &number : seen) { // one after the other: stacks and thread-locals come again, numbers do not
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, nullptr, number_of_thread, &number), 0);
        pthread_join(thread, nullptr);
    }
    for (unsigned i = 0; i < 50; i++) {
        assert_true(seen[i] != 0 && seen[i] != mine);
        for (unsigned j = 0; j < i; j++) assert_true(seen[i] != seen[j]);
    }
    assert_true(thread_number() == mine);
}

static void test_a_broken_invariant_says_where_and_aborts(void **) {
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        dup2(pipe_fds[1], STDERR_FILENO);
        panic("some/file.cc", 1234, "a < b");
    }
    close(pipe_fds[1]);
    char text[256] = {};
    const ssize_t n = read(pipe_fds[0], text, sizeof(text) - 1);
    close(pipe_fds[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_true(n > 0);
    assert_string_equal(text, "libmio: some/file.cc:1234: a < b\n");
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_queue),
        cmocka_unit_test(test_queue_take),
        cmocka_unit_test(test_links),
        cmocka_unit_test(test_inbox_alone),
        cmocka_unit_test(test_inbox_loses_nothing),
        cmocka_unit_test(test_inbox_closes_while_others_put),
        cmocka_unit_test(test_inbox_from_a_signal_handler),
        cmocka_unit_test(test_thread_numbers_are_never_reused),
        cmocka_unit_test(test_a_broken_invariant_says_where_and_aborts),
    };
    return cmocka_run_group_tests_name("list", tests, nullptr, nullptr);
}
