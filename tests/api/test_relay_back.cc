// Relays that end early: what goes back, in which order, and when.
#include "relay.h"

using namespace api;

TEST(what_cannot_be_carried_any_more_comes_back_behind_what_was_on_its_way) {
    between s;
    between_open(&s, true, false);
    mio_relay_options_t options = relay_options();
    options.window = LOCAL_ROOM;
    relay_start(&s, &options);
    uint64_t offset = 0;
    for (; offset < LOCAL_ROOM / 2; offset += 65536) say(s.loop, s.left.client, 65536, offset);
    for (int i = 0; i < 20000 && mio_stream_queued_bytes(s.left.client) != 0; i++) run_for(s.loop, MIO_MILLISECOND);
    run_for(s.loop, 2 * MIO_MILLISECOND);
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
