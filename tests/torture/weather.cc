// Misfortune of a simulated world: chances, and in a share of the seeds a schedule of faults drawn from the seed.
//
// Which of them a seed has decides what the model accepts: nothing that is scarce without scarcity, nothing that waits
// for ever where every end is heard of.
#include "nouns.h"

namespace torture {

constexpr unsigned FAULTS_MAX = 5;
constexpr int64_t FAULTS_WITHIN_NS = 150 * MIO_MILLISECOND; // of the program's 120: then it has calm

static uint32_t bit_of(int kind) { return 1u << kind; }

static bool loses_segments(int kind) {
    return kind == MIO_SIM_PARTITION || kind == MIO_SIM_BLACK_HOLE || kind == MIO_SIM_LOSS;
}

void world_open() {
    mio_sim_options_t options = MIO_SIM_OPTIONS_INIT;
    options.seed = now.seed;
    options.short_read_ppm = chance(60) ? 200000 : 0;
    options.short_write_ppm = chance(60) ? 300000 : 0;
    options.reset_ppm = chance(40) ? 1000 : 0;
    options.refuse_ppm = chance(30) ? 20000 : 0;
    options.accept_error_ppm = chance(30) ? 20000 : 0;
    options.no_memory_ppm = now.no_memory ? 20000 : 0;
    options.socket_buffer = chance(70) ? 500 + below(3000u) : 0;
    now.faulted = chance(35);
    if (now.faulted) {
        now.scarce = chance(40);
        options.call_error_ppm = now.scarce ? 5000 : 0;
        options.loss_ppm = chance(30) ? 10000 : 0;
        now.silent = options.loss_ppm != 0;
        options.late_cancel_ppm = chance(30) ? 200000 : 0;
    }
    if (noun_is_on(&noun_files) && chance(30)) {
        now.bad_disk = true;
        options.file_error_ppm = 20000;
        options.disk_bytes = chance(50) ? 20000 + below(100000u) : 0;
    }
    if (noun_is_on(&noun_datagrams) && chance(30)) {
        now.doubles = true;
        options.duplicate_ppm = 50000;
        options.reorder_ppm = 50000;
    }
    now.rough = options.reset_ppm != 0;
    if (mio_sim_create(&now.world, &options) < 0) fail("no world");
}

void faults_schedule() {
    if (!now.faulted) return;
    mio_sim_draw_options_t from = MIO_SIM_DRAW_OPTIONS_INIT;
    from.within_ns = FAULTS_WITHIN_NS;
    from.kinds = bit_of(MIO_SIM_PARTITION) | bit_of(MIO_SIM_BLACK_HOLE) | bit_of(MIO_SIM_RESET) |
                 bit_of(MIO_SIM_LATENCY) | bit_of(MIO_SIM_BANDWIDTH) | bit_of(MIO_SIM_LOSS) | bit_of(MIO_SIM_PAUSE) |
                 bit_of(MIO_SIM_CLOCK_JUMP) | bit_of(MIO_SIM_WALL_JUMP);
    if (now.scarce) from.kinds |= bit_of(MIO_SIM_FAIL) | bit_of(MIO_SIM_FD_LIMIT);
    if (now.no_memory) from.kinds |= bit_of(MIO_SIM_MEMORY_LIMIT);
    if (chance(30)) from.nodes = 1; // of the first loop with itself
    const unsigned n = 1 + below(FAULTS_MAX);
    for (unsigned i = 0; i < n; i++) {
        mio_sim_fault_t fault = MIO_SIM_FAULT_INIT;
        char text[MIO_SIM_TEXT_MAX];
        if (mio_sim_draw(&fault, now.seed, i, &from) < 0) fail("fault %u is not drawn", i);
        if (mio_sim_format(&fault, text, sizeof text) < 0) fail("fault %u has no words", i);
        if (mio_sim_schedule(now.world, &fault) < 0) fail("not scheduled: %s", text);
        say("fault: %s", text);
        if (loses_segments(fault.kind)) now.silent = true; // also an RST, which is not sent again
    }
}

}
