// One input: a world with two loops and a listener, calls from the bytes, and an end that leaves nothing behind.
#include "api.h"

namespace fuzz {

state now;

static bool world_open() {
    mio_sim_options_t options = MIO_SIM_OPTIONS_INIT;
    const unsigned kind = take_byte(now.in);
    options.seed = take_byte(now.in);
    options.short_read_ppm = (kind & 1) != 0 ? 200000 : 0;
    options.short_write_ppm = (kind & 2) != 0 ? 300000 : 0;
    options.reset_ppm = (kind & 4) != 0 ? 10000 : 0;
    options.refuse_ppm = (kind & 8) != 0 ? 50000 : 0;
    options.accept_error_ppm = (kind & 16) != 0 ? 50000 : 0;
    options.no_memory_ppm = (kind & 96) == 96 ? 20000 : 0;
    options.socket_buffer = (kind & 128) != 0 ? 700 : 0;
    now.no_memory = now.loose = options.no_memory_ppm != 0;
    if (mio_sim_create(&now.world, &options) < 0) return false;
    mio_loop_options_t lo = MIO_LOOP_OPTIONS_INIT;
    lo.sim = now.world;
    lo.completions = 64;
    lo.buffer_block = 4096;
    lo.buffer_max_bytes = 16384;
    lo.write_high = 2000;
    lo.write_queue_max = 200000;
    for (mio_loop_t *&loop : now.loops)
        for (int tries = 0; tries < 100 && loop == nullptr; tries++) {
            const int error = mio_loop_create(&loop, &lo);
            must(error == 0 || (error == MIO_ENOMEM && now.no_memory));
        }
    return now.loops[0] != nullptr && now.loops[1] != nullptr;
}

// Everything that is left on the loop is told of, inside.
static void loop_end(unsigned at) {
    if (now.loops[at] == nullptr) return;
    const int left = mio_loop_destroy(now.loops[at], 1000 * MIO_SECOND);
    must(left == 0);
    now.loops[at] = nullptr;
    for (thing &t : now.things)
        if (t.loop == at && !t.moving) { // else told of on the other loop
            must(t.gone || !t.closing || t.handle == nullptr);
            t.gone = true;
        }
}

static void held_release() {
    for (mio_buf_t &buf : now.held) mio_buf_release(&buf);
}

static void run(input *in) {
    now = {};
    now.in = in;
    now.budget_ns = 10 * MIO_SECOND;
    if (world_open()) {
        thing *t = thing_new(MIO_KIND_LISTENER, 0);
        mio_listener_t *listener = nullptr;
        if (mio_tcp_listen(now.loops[0], "127.0.0.1", 0, nullptr, told_accept, t, &listener) == 0) t->handle = listener;
        for (int steps = 0; in->left > 0 && steps < 400; steps++) act();
    }
    *in = {nullptr, 0}; // callbacks do nothing more
    loop_end(0);
    held_release(); // some of a loop that is gone
    loop_end(1);
    held_release();
    for (const request &r : now.requests) must(r.done || r.abandoned);
    for (const post &p : now.posts) must(p.told);
    must(now.wrapped == 0);
    if (now.world == nullptr) return;
    must(mio_sim_open_fds(now.world) == now.stranded);
    must(mio_sim_destroy(now.world) == 0);
}

}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz::input in = {data, size};
    fuzz::run(&in);
    return 0;
}
