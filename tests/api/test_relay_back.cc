// Relays that end early: what goes back, in which order, and when.
#include "hole.h"
#include "relay.h"

#include <sys/resource.h>

using namespace api;

TEST(what_cannot_be_carried_any_more_comes_back_behind_what_was_on_its_way) {
    between s;
    between_open(&s, true, false);
    mio_relay_options_t options = relay_options();
    options.window = LOCAL_ROOM;
    relay_start(&s, &options);
    struct rlimit before, less; // no pipes: a way that splices reads no more while something is in its pipe
    assert_is(getrlimit(RLIMIT_NOFILE, &before), 0);
    less = before;
    if (!on_kqueue()) less.rlim_cur = 0; // its model polls, which is refused then; and it has no splice(2)
    assert_is(setrlimit(RLIMIT_NOFILE, &less), 0);
    uint64_t offset = 0;
    for (; offset < LOCAL_ROOM / 2; offset += 65536) say(s.loop, s.left.client, 65536, offset);
    ck_assert(comes(s.loop, [&] { return mio_stream_queued_bytes(s.left.client) == 0; }));
    run_for(s.loop, 2 * MIO_MILLISECOND);
    assert_is(setrlimit(RLIMIT_NOFILE, &before), 0);
    ck_assert_uint_gt(mio_stream_queued_bytes(s.b), 0);
    ck_assert_int_gt(mio_stream_shutdown(s.b, nullptr, nullptr), 0);
    say(s.loop, s.left.client, 1000, offset);
    until_told(&s);
    assert_is(s.told.status, MIO_EPIPE);
    assert_is(s.told.failed, MIO_RELAY_B);
    inbox here = {};
    here.received = static_cast<uint64_t>(s.told.a_to_b);
    hear(s.a, &here);
    until_received(s.loop, &here, offset + 1000);
}

TEST(a_relay_to_a_stream_that_still_connects_ends_at_once) {
    mio_loop_t *loop = loop_open();
    hole black;
    hole_open(loop, &black);
    int64_t limit_ns = 300 * MIO_MILLISECOND;
    for (int how = 0; how < 5; how++) {
        between s = {};
        s.loop = loop;
        s.left = connect_pair(loop);
        s.a = s.left.server;
        outcome connected = {}, behind = {};
        ck_assert_int_gt(mio_tcp_connect(loop, &black.at, nullptr, stream_told, &connected, &s.b), 0);
        mio_relay_options_t options = relay_options();
        if (how == 1) options.idle_ns = limit_ns;
        relay_start(&s, &options);
        say(loop, s.left.client, 1000, 0);
        ck_assert_int_gt(mio_stream_shutdown(s.left.client, nullptr, nullptr), 0);
        ck_assert(comes(loop, [&] { return mio_stream_queued_bytes(s.b) != 0 || s.told.calls != 0; }));
        run_for(loop, 5 * MIO_MILLISECOND);
        if (how == 1 && s.told.calls != 0 && limit_ns < 10 * MIO_SECOND) { // the machine stood still: once more
            limit_ns *= 4;
            how--;
            mio_handle_abandon(s.b);
            continue;
        }
        ck_assert_uint_eq(mio_stream_queued_bytes(s.b), 1000);
        assert_is(s.told.calls, 0);
        if (how == 0) assert_is(mio_req_cancel(loop, s.id), 0);
        if (how == 2) assert_is(mio_handle_close(s.a, nullptr, nullptr), 0);
        if (how == 3) assert_is(mio_req_abandon(loop, s.id), 0);
        if (how == 4) assert_is(mio_handle_close(s.b, nullptr, nullptr), 0);
        if (how != 3) until_told(&s);
        else for (int i = 0; i < 2; i++) (void)mio_loop_run_once(loop, 0);
        if (how != 3) assert_is(s.told.status, how == 1 ? MIO_ETIMEDOUT : MIO_ECANCELED);
        assert_is(s.told.a_to_b, 0);
        if (how != 4) assert_is(connected.calls, 0);
        if (how != 2) {
            inbox here = {};
            hear(s.a, &here);
            until_received(loop, &here, 1000);
            until_ended(loop, &here);
        }
        if (how != 4) {
            assert_is(mio_stream_queued_bytes(s.b), 0);
            ck_assert_int_gt(mio_stream_shutdown(s.b, stream_told, &behind), 0);
            mio_handle_abandon(s.b);
        }
        run_for(loop, MIO_MILLISECOND);
        assert_is(s.told.calls, how == 3 ? 0 : 1);
    }
    hole_close(&black);
}
