// The life of a loop's ring once it is made: moved to another thread, refused by the kernel while it runs, buried. In
// every case everything ends once, buffers come home, and nothing is given back that the kernel may still write to.
#include "support/ring_model_loop.h"

#if MIO_HAVE_URING

#include <errno.h>
#include <poll.h>
#include <pthread.h>

using namespace test;

// --- elsewhere ------------------------------------------------------------------------------------------------------

struct errand {
    void (*run)();
    int results[8]; // of run_once
    unsigned n;
};

static errand elsewhere;

static void *thread_main(void *) {
    elsewhere.run();
    return nullptr;
}

// On a thread of its own, which has ended afterwards.
static void on_thread(void (*run)()) {
    elsewhere = {run, {}, 0};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, nullptr, thread_main, nullptr), 0);
    assert_int_equal(pthread_join(thread, nullptr), 0);
}

// cmocka's checks are the main thread's: results are looked at there.
static void run_turns(unsigned n) {
    while (n-- > 0 && elsewhere.n < 8) elsewhere.results[elsewhere.n++] = mio_loop_run_once(the_loop, 0);
}

static void expect_alive(unsigned n) {
    assert_int_equal(elsewhere.n, n);
    for (unsigned i = 0; i < n; i++) assert_int_equal(elsewhere.results[i], MIO_ALIVE);
}

// --- streams in every state -----------------------------------------------------------------------------------------

static conn reading, polling, full, own;
static ear listening;
static mio_stream_t *connecting;
static unsigned connects;
static int connect_status, connect_fd;
static char own_memory[16];
static uint32_t lacking; // MIO_URING_...

static void on_connected(mio_stream_t *, int status, void *) {
    connects++;
    connect_status = status;
}

static void make_everything() {
    for (conn *c : {&reading, &full, &own}) conn_open(c);
    conn_open_on(&polling, 0, AF_UNIX);
    conn_read(&reading);
    conn_read(&polling);
    mio_buf_t space = mio_buf_space(own_memory, sizeof own_memory);
    assert_true(mio_stream_read(own.stream, &space, conn_got, &own) > 0);
    if ((lacking & MIO_URING_SEND) == 0) ring_model_answer_next(IORING_OP_SEND, full.fd, 2);
    else
        for (int result : {2, -EAGAIN}) scripted_push(call::send, full.fd, result);
    conn_write(&full, "hello");
    conn_write(&reading, "partner");
    ear_open(&listening);
    mio_addr_t addr;
    assert_int_equal(mio_addr_parse("127.0.0.1", 7, &addr), 0);
    connects = 0;
    assert_true(mio_tcp_connect(the_loop, &addr, nullptr, on_connected, nullptr, &connecting) > 0);
    connect_fd = mio_stream_fd(connecting);
    if ((lacking & MIO_URING_CONNECT) != 0) scripted_push(call::connect, connect_fd, -EINPROGRESS);
}

static void make_everything_elsewhere() {
    make_everything();
    run_turns(3);
}

static void open_world(const ring_world *w) {
    ring_loop_open(w);
    lacking = w->without;
    if ((lacking & MIO_URING_CANCEL) != 0) lacking |= MIO_URING_CONNECT | MIO_URING_ACCEPT | MIO_URING_RECEIVE;
    for (conn *c : {&reading, &polling, &full, &own}) conn_forget(c);
}

static void open_everything_elsewhere(const ring_world *w) {
    open_world(w);
    on_thread(make_everything_elsewhere);
    expect_alive(3);
    expect_sent(&full, "he");
    assert_int_equal(connects, 0);
}

// After the end of the loop: one last call each.
static void expect_all_ended() {
    assert_int_equal(reading.ends, 1);
    assert_int_equal(reading.end, MIO_ECANCELED);
    assert_int_equal(polling.ends, 1);
    assert_int_equal(own.ends, 1);
    assert_int_equal(full.statuses.size(), 1);
    assert_int_equal(full.statuses[0], MIO_ECANCELED);
    assert_int_equal(full.sent[0], 2);
    assert_int_equal(connects, 1);
    assert_int_equal(connect_status, MIO_ECANCELED);
    assert_int_equal(listening.errors.size(), 1);
}

static const ring_world worlds[] = {{0, 0, false, 0, 0},
                                    {0, mio::URING_RECEIVE_UNIX, false, 0, 0},
                                    {0, MIO_URING_RECEIVE | mio::URING_RECEIVE_UNIX, false, 0, 0},
                                    {0, 0, true, 0, 0},
                                    {0, MIO_URING_CANCEL, false, 0, 0},
                                    {0, MIO_URING_ALL & ~MIO_URING_CANCEL, true, 0, 0}};

static const ring_world usual = {};

// --- never run -------------------------------------------------------------------------------------------------------

static void test_a_loop_that_never_runs_is_destroyed(void **) {
    open_world(&usual);
    assert_false(ring_model_is_enabled(ring));
    assert_true((ring_model_setup(ring) & IORING_SETUP_R_DISABLED) != 0);
    ring_loop_close();
    open_world(&usual);
    make_everything();
    assert_int_equal(ring_model_enters(ring), 0);
    // Nothing reaches the kernel: all of it is cancelled before the first flush.
    assert_int_equal(mio_loop_destroy(the_loop, MIO_FOREVER), 0);
    assert_int_equal(reading.ends, 1);
    assert_int_equal(connects, 1);
    assert_int_equal(writes_out, 0);
    assert_int_equal(ring_model_taken(ring), taken_of(IORING_OP_POLL_ADD, ANY_FD)); // the wake-up's
    assert_int_equal(scripted_count(call::send) + scripted_count(call::connect), 0);
    assert_int_equal(ring_model_close(), 1); // the answer for a send that was not made
}

// --- moved ----------------------------------------------------------------------------------------------------------

static void test_made_here_run_there_destroyed_here(void **) {
    for (const ring_world &w : worlds) {
        open_everything_elsewhere(&w);
        ring_loop_close();
        expect_all_ended();
    }
}

static void run_three() { run_turns(3); }

// Runs, so that the ring is this thread's; then everything comes that is waited for.
static void run_and_let_happen() {
    run_turns(3);
    ring = ring_model_newest();
    ring_model_receive(own.fd, "three", 5);
    ring_model_fire(full.fd, POLLOUT);
    if (waiting(IORING_OP_ACCEPT, listening.fd) >= 0) ring_model_accept(listening.fd);
    else scripted_push(call::accept4, listening.fd, calls->socket(AF_INET, SOCK_STREAM, 0));
    ring_model_fire(listening.fd, POLLIN);
    ring_model_fire(connect_fd, POLLOUT); // the socket has connected on by itself
    run_turns(4);
}

// What was under way goes on in the new ring; nothing is asked of the old one.
static void test_a_loop_that_moves_goes_on(void **) {
    for (const ring_world &w : worlds) {
        open_everything_elsewhere(&w);
        const int first = ring;
        const unsigned before = ring_model_enters(first);
        ring_model_receive(reading.fd, "one", 3); // between two threads
        ring_model_receive(polling.fd, "two", 3);
        on_thread(run_three);
        expect_alive(3);
        assert_int_not_equal(ring_model_newest(), first);
        assert_true(ring_model_find(ring_model_newest(), IORING_OP_POLL_ADD, inside()->box->wake_fd) >= 0);
        assert_int_equal(ring_model_enters(first), before);
        assert_int_equal(scripted_count_fd(call::close, first), 1);
        assert_string_equal(reading.got.c_str(), "one");
        assert_string_equal(polling.got.c_str(), "two");
        if (w.without == mio::URING_RECEIVE_UNIX) // with its receive the poll for the end came along
            assert_true(ring_model_find(ring_model_newest(), IORING_OP_POLL_ADD, polling.fd) >= 0);

        on_thread(run_and_let_happen);
        expect_alive(7);
        assert_string_equal(own.got.c_str(), "three");
        assert_int_equal(connects, 1);
        assert_int_equal(connect_status, 0);
        assert_int_equal(listening.streams.size(), 1);
        assert_int_equal(full.statuses.size(), 1);
        assert_int_equal(full.statuses[0], 0);
        expect_sent(&full, "hello");
        assert_int_equal(reading.ends + polling.ends, 0);
        ring_loop_close();
    }
}

struct failure {
    call which;
    int64_t result; // 0: no memory
    unsigned skip;  // so many of these calls work
    int64_t told;   // by the run
};

// The new ring cannot be made, or not enabled: the run's error, and the next run tries again.
static void test_a_move_that_fails_is_tried_again(void **) {
    const failure failures[] = {{call::uring_setup, -ENOMEM, 0, MIO_ENOMEM},
                                {call::map_fd, 0, 0, MIO_ENOMEM},
                                {call::map_fd, 0, 1, MIO_ENOMEM},
                                {call::pipe_cloexec, -EMFILE, 0, MIO_EMFILE},
                                {call::uring_register, -ENOMEM, 0, MIO_ENOMEM}, // the tomb
                                {call::uring_register, -EPERM, 1, MIO_EPERM}};  // enabling
    for (const failure &f : failures) {
        for (bool destroy : {false, true}) {
            open_everything_elsewhere(&usual);
            scripted_result works = {};
            works.value = 1;
            if (f.skip != 0 && f.which == call::map_fd) scripted_push_result(f.which, ANY_FD, &works);
            if (f.skip != 0 && f.which == call::uring_register) {
                ring_model_kernel()->register_error[IORING_REGISTER_ENABLE_RINGS] = static_cast<int>(f.result);
            } else {
                scripted_push(f.which, ANY_FD, f.result);
            }
            if (!destroy) {
                assert_int_equal(mio_loop_run_once(the_loop, 0), f.told);
                assert_int_equal(reading.ends + polling.ends + own.ends + connects, 0);
                ring_model_kernel()->register_error[IORING_REGISTER_ENABLE_RINGS] = 0;
                turns(3);
                ring = ring_model_newest();
                ring_model_receive(reading.fd, "hello", 5);
                turn();
                assert_string_equal(reading.got.c_str(), "hello");
            }
            ring_loop_close();
            expect_all_ended();
        }
    }
}

// What the old ring has told and nobody has worked off yet is worked off by the next thread: here as much as two bulk
// streams bring beyond what one poll takes, and more completions than there is room for records.
static conn bulk[3], crowd[100];

static void make_leftovers() {
    for (conn &c : bulk) {
        conn_open(&c);
        conn_read(&c);
    }
    for (conn &c : crowd) {
        conn_open(&c);
        conn_read(&c);
    }
    run_turns(4);
    for (conn &c : bulk) ring_model_receive(c.fd, std::string(40000, 'b').data(), 40000);
    for (conn &c : crowd) ring_model_receive(c.fd, "hello", 5);
    run_turns(1);
}

static void test_what_is_left_in_the_queue_moves_along(void **) {
    for (uint32_t without : {0u, MIO_URING_RECEIVE | mio::URING_RECEIVE_UNIX}) {
        for (bool eager : {false, true}) {
            for (bool destroy : {false, true}) {
                const ring_world w = {0, without, eager, 0, 0};
                ring_loop_open(&w);
                on_thread(make_leftovers);
                expect_alive(5);
                if (!destroy) {
                    on_thread(run_three);
                    for (int i = 0; i < 10; i++) on_thread(run_three);
                    ring = ring_model_newest();
                    for (const conn &c : bulk) assert_int_equal(c.got.size(), 40000);
                    for (const conn &c : crowd) assert_string_equal(c.got.c_str(), "hello");
                }
                ring_loop_close();
                for (const conn &c : bulk) assert_int_equal(c.ends, 1);
                for (const conn &c : crowd) assert_int_equal(c.ends, 1);
            }
        }
    }
}

// --- buried ---------------------------------------------------------------------------------------------------------

// The kernel does not let go of a ring that received whenever it liked: nothing is given back (the model would see it),
// and destroy says what is left. Asked again when the kernel has let go, it is as if nothing had been.
static void test_nothing_is_given_back_while_the_kernel_holds_the_ring(void **) {
    const ring_world eager = {0, 0, true, 0, 0};
    open_everything_elsewhere(&eager);
    const int first = ring;
    ring_model_kernel()->lingers = 1000;
    assert_true(mio_loop_destroy(the_loop, 0) > 0);
    assert_true(scripted_count(call::poll_one) > 0);
    assert_int_equal(ring_model_newest(), first);
    assert_true(mio_loop_destroy(the_loop, 0) > 0);
    ring_model_kernel()->lingers = 0;
    ring_loop_close();
    expect_all_ended();
}

static void test_a_run_waits_for_the_old_ring(void **) {
    const ring_world eager = {0, 0, true, 0, 0};
    open_everything_elsewhere(&eager);
    ring_model_kernel()->lingers = 1;
    assert_int_equal(mio_loop_run_once(the_loop, 0), MIO_EBUSY);
    turns(3);
    ring = ring_model_newest();
    ring_model_receive(reading.fd, "hello", 5);
    turn();
    assert_string_equal(reading.got.c_str(), "hello");
    ring_loop_close();
    expect_all_ended();
}

// One that receives in its thread's calls only is no danger: the loop goes on.
static void test_a_quiet_ring_may_live_on(void **) {
    open_everything_elsewhere(&usual);
    ring_model_kernel()->lingers = 1000;
    turns(3);
    ring = ring_model_newest();
    assert_true(logged.find("lives on") != std::string::npos);
    assert_true(waiting(IORING_OP_POLL_ADD, listening.fd) >=
                0); // an accept of the old one may still stand in the queue
    assert_true(waiting(IORING_OP_ACCEPT, listening.fd) < 0);
    ring_model_receive(reading.fd, "hello", 5);
    turn();
    assert_string_equal(reading.got.c_str(), "hello");
    ring_loop_close();
    expect_all_ended();
}

static void test_an_interrupted_wait_for_the_old_ring_goes_on(void **) {
    const ring_world eager = {0, 0, true, 0, 0};
    open_everything_elsewhere(&eager);
    for (int i = 0; i < 3; i++) scripted_push(call::poll_one, ANY_FD, -EINTR);
    turn();
    ring_loop_close();
    expect_all_ended();
}

// --- refused --------------------------------------------------------------------------------------------------------

// A sandbox closes while the loop runs. The run says so, as often as it is asked; destroy gives everything back.
static void test_enter_refused_for_good(void **) {
    for (const ring_world &w : worlds) {
        for (int error : {-EPERM, -EACCES, -ENOSYS}) {
            open_world(&w);
            make_everything();
            turns(3);
            conn_write(&reading, "never");
            conn_write(&own, "nor this");
            ring_model_kernel()->enter_error = error;
            if (mio_loop_run_once(the_loop, 0) == MIO_ALIVE) // sends by calls may do without an enter, once
                assert_int_equal(mio_loop_run_once(the_loop, 0), error);
            assert_int_equal(mio_loop_run(the_loop), error);
            ring_loop_close();
            expect_all_ended();
        }
    }
}

static void test_enter_refused_in_the_middle_of_the_end(void **) {
    for (const ring_world &w : worlds) {
        for (unsigned after = 0; after < 6; after++) {
            open_world(&w);
            make_everything();
            turns(3);
            conn_write(&reading, "never");
            conn_write(&own, "nor this");
            ring_model_kernel()->enter_error = -EPERM;
            ring_model_kernel()->enter_error_after = after;
            ring_loop_close();
            expect_all_ended();
        }
    }
}

// Refused, and the kernel does not let go of what it has: destroy says so, and may be asked again.
static void test_refused_and_held(void **) {
    const ring_world eager = {0, 0, true, 0, 0};
    open_world(&eager);
    make_everything();
    turns(3);
    ring_model_kernel()->enter_error = -EPERM;
    ring_model_kernel()->lingers = 1000;
    assert_true(mio_loop_destroy(the_loop, 0) > 0);
    assert_true(mio_loop_destroy(the_loop, 0) > 0);
    ring_model_kernel()->lingers = 0;
    ring_loop_close();
    expect_all_ended();
}

// Another thread destroys, and the kernel gives no ring any more.
static void test_no_new_ring_for_the_one_who_destroys(void **) {
    for (const ring_world &w : worlds) {
        open_everything_elsewhere(&w);
        for (int i = 0; i < 3; i++) scripted_push(call::uring_setup, ANY_FD, -EPERM);
        assert_int_equal(mio_loop_destroy(the_loop, MIO_FOREVER), 0);
        expect_all_ended();
        while (scripted_pending(call::uring_setup) != 0) (void)calls->uring_setup(1, nullptr);
        assert_int_equal(ring_model_close(), 0);
    }
}

// --- many -----------------------------------------------------------------------------------------------------------

static conn thousand[1000];

static void make_thousand() {
    for (conn &c : thousand) {
        conn_open(&c);
        conn_read(&c);
    }
    run_turns(8);
}

static void test_a_thousand_requests_in_flight_at_the_end(void **) {
    for (bool elsewhere_first : {false, true}) {
        ring_world w = {};
        w.completions = 256;
        ring_loop_open(&w);
        if (elsewhere_first) on_thread(make_thousand);
        else make_thousand();
        assert_true(ring_model_pending(ring) > 1000);
        ring_loop_close();
        for (const conn &c : thousand) {
            assert_int_equal(c.ends, 1);
            assert_int_equal(c.end, MIO_ECANCELED);
        }
    }
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_loop_that_never_runs_is_destroyed),
        cmocka_unit_test(test_made_here_run_there_destroyed_here),
        cmocka_unit_test(test_a_loop_that_moves_goes_on),
        cmocka_unit_test(test_a_move_that_fails_is_tried_again),
        cmocka_unit_test(test_what_is_left_in_the_queue_moves_along),
        cmocka_unit_test(test_nothing_is_given_back_while_the_kernel_holds_the_ring),
        cmocka_unit_test(test_a_run_waits_for_the_old_ring),
        cmocka_unit_test(test_a_quiet_ring_may_live_on),
        cmocka_unit_test(test_an_interrupted_wait_for_the_old_ring_goes_on),
        cmocka_unit_test(test_enter_refused_for_good),
        cmocka_unit_test(test_enter_refused_in_the_middle_of_the_end),
        cmocka_unit_test(test_no_new_ring_for_the_one_who_destroys),
        cmocka_unit_test(test_a_thousand_requests_in_flight_at_the_end),
        cmocka_unit_test(test_refused_and_held),
    };
    alarm(120); // what would go on for ever ends
    return cmocka_run_group_tests_name("uring_life", tests, nullptr, nullptr);
}

#else

int main() { return test::ring_tests_skipped("uring_life"); }

#endif
