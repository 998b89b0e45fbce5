// Relays that end with one of their streams: closed, abandoned, finished, before and in the callback. One callback or none,
// and no byte is lost but those that came from, or were on their way to, a stream that is gone.
#include "relay.h"

using namespace api;

TEST(closing_either_stream_ends_a_relay_before_the_close_is_told) {
    for (int which = 0; which < 2; which++)
        for (int turns = 0; turns < 3; turns++)
            for (int half = 0; half < 2; half++) {
                between s;
                between_open(&s);
                diary log = {};
                s.told.log = &log;
                if (half) ck_assert_int_gt(mio_stream_shutdown(s.left.client, nullptr, nullptr), 0);
                else say(s.loop, s.left.client, 100, 0);
                if (half) run_for(s.loop, 5 * MIO_MILLISECOND);
                for (int i = 0; i < turns; i++) (void)mio_loop_run_once(s.loop, 0);
                auto closed = [](mio_handle_t *, void *arg) { diary_add(static_cast<diary *>(arg), "c"); };
                mio_stream_t *stream = which == 0 ? s.a : s.b, *kept = which == 0 ? s.b : s.a;
                assert_is(mio_handle_close(stream, closed, &log), 0);
                until_told(&s);
                ck_assert(comes(s.loop, [&] { return strlen(log.text) > 1; }));
                ck_assert_str_eq(log.text, "rc");
                assert_is(s.told.status, MIO_ECANCELED);
                assert_is(s.told.failed, which == 0 ? MIO_RELAY_A : MIO_RELAY_B);
                ck_assert_ptr_eq(s.told.a, s.a);
                ck_assert_ptr_eq(s.told.b, s.b);
                inbox in = {};
                hear(kept, &in); // open, and free
                loop_close(s.loop);
            }
}

TEST(an_abandoned_stream_ends_its_relay_for_the_other_ones_sake) {
    for (int which = 0; which < 3; which++) // a, b, both
        for (int turns = 0; turns < 4; turns++) {
            between s;
            if (turns == 3) stuck_open(&s);
            else between_open(&s);
            if (turns < 3) say(s.loop, s.left.client, 100, 0);
            for (int i = 0; i < turns; i++) (void)mio_loop_run_once(s.loop, 0);
            if (which != 1) mio_handle_abandon(s.a);
            if (which != 0) mio_handle_abandon(s.b);
            assert_is(s.told.calls, 0);
            run_for(s.loop, 2 * MIO_MILLISECOND);
            if (which == 2) {
                assert_is(s.told.calls, 0);
                assert_is(relay_failed, 77);
            } else {
                until_told(&s);
                assert_is(s.told.status, MIO_ECANCELED);
                assert_is(s.told.failed, which == 0 ? MIO_RELAY_A : MIO_RELAY_B);
                ck_assert_ptr_eq(s.told.a, which == 0 ? nullptr : s.a);
                ck_assert_ptr_eq(s.told.b, which == 1 ? nullptr : s.b);
                static inbox in; // is told of the loop's end, too
                in = {};
                in.is_text = true; // bytes that were on their way to b have gone with it
                hear(which == 0 ? s.b : s.a, &in);
                run_for(s.loop, MIO_MILLISECOND);
            }
            loop_close(s.loop);
        }
}

TEST(a_closing_stream_that_is_abandoned_is_told_as_abandoned) {
    for (int finished = 0; finished < 2; finished++)
        for (int turns = 0; turns < 3; turns++) {
            between s;
            stuck_open(&s);
            if (finished) assert_is(mio_stream_finish(s.b, MIO_MINUTE, nullptr, nullptr), 0);
            else assert_is(mio_handle_close(s.b, nullptr, nullptr), 0);
            for (int i = 0; i < turns && s.told.calls == 0; i++) (void)mio_loop_run_once(s.loop, 0);
            const bool told = s.told.calls != 0;
            mio_handle_abandon(s.b);
            if (!told) {
                until_told(&s);
                ck_assert_ptr_null(s.told.b);
            }
            assert_is(s.told.status, MIO_ECANCELED);
            ck_assert_ptr_eq(s.told.a, s.a);
            loop_close(s.loop);
        }
}

TEST(both_streams_may_be_abandoned_or_closed_in_the_callback) {
    for (int how = 0; how < 3; how++) {
        between s;
        between_open(&s, false, false);
        static int way, calls;
        way = how;
        calls = 0;
        auto told = [](mio_stream_t *a, mio_stream_t *b, int status, int64_t, int64_t, void *) {
            calls++;
            assert_is(status, MIO_ECANCELED);
            if (way == 0) {
                mio_handle_abandon(a);
                mio_handle_abandon(b);
            } else if (way == 1) {
                assert_is(mio_handle_close(b, nullptr, nullptr), 0);
                assert_is(mio_handle_close(a, nullptr, nullptr), 0);
            } else {
                ck_assert_int_gt(mio_stream_relay(b, a, nullptr, [](mio_stream_t *, mio_stream_t *, int, int64_t, int64_t, void *) {
                    if (!is_over()) calls++;
                }, nullptr), 0);
            }
        };
        const mio_req_t id = mio_stream_relay(s.a, s.b, nullptr, told, nullptr);
        ck_assert_int_gt(id, 0);
        run_for(s.loop, MIO_MILLISECOND);
        assert_is(mio_req_cancel(s.loop, id), 0);
        ck_assert(comes(s.loop, [] { return calls != 0; }));
        run_for(s.loop, MIO_MILLISECOND);
        assert_is(calls, 1);
        assert_is(mio_handle_close(s.left.client, nullptr, nullptr), 0);
        assert_is(mio_handle_close(s.right.client, nullptr, nullptr), 0);
        if (way == 2) {
            ck_assert(comes(s.loop, [] { return calls == 2; }));
        }
        loop_close(s.loop);
    }
}

TEST(a_finish_flushes_what_is_on_its_way_before_the_relay_is_told) {
    between s;
    stuck_open(&s);
    outcome closed = {};
    assert_is(mio_stream_finish(s.b, MIO_MINUTE, close_told, &closed), 0);
    run_for(s.loop, 5 * MIO_MILLISECOND);
    assert_is(s.told.calls, 0);
    inbox there = {};
    there.close_at_end = true;
    hear(s.right.client, &there);
    until_told(&s);
    assert_is(s.told.status, MIO_ECANCELED);
    assert_is(s.told.failed, MIO_RELAY_B);
    ck_assert(comes(s.loop, [&] { return closed.calls != 0; }));
    assert_is(closed.calls, 1);
    assert_is(there.end, MIO_EOF);
    ck_assert(!there.wrong);
    ck_assert_int_eq(s.told.a_to_b, static_cast<int64_t>(there.received));
    inbox here = {};
    here.received = there.received; // nothing was lost: the rest is still in a
    hear(s.a, &here);
    until_received(s.loop, &here, LOCAL_ROOM);
}

TEST(a_finish_that_runs_out_of_time_gives_back_too) {
    between s;
    stuck_open(&s);
    assert_is(mio_stream_finish(s.b, 5 * MIO_MILLISECOND, nullptr, nullptr), 0);
    until_told(&s);
    assert_is(s.told.status, MIO_ECANCELED);
    inbox here = {};
    here.received = static_cast<uint64_t>(s.told.a_to_b);
    hear(s.a, &here);
    until_received(s.loop, &here, LOCAL_ROOM);
}
