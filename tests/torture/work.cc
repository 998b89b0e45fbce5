// Work, in every lane: some of it is cancelled, timed out or abandoned while it waits, some while it runs.
//
// The model of a piece is whether its function was called, and whether that is over. Told 0 it was called once and is
// over; told anything else it was never called, and never will be.
#include "nouns.h"

#include <atomic>
#include <unistd.h>

namespace torture {

constexpr int PIECES_MAX = 60;

struct piece : loose {
    std::atomic<int> begun, ended;
    int begun_then;   // when it was abandoned: then it was over, or it never begins
    uint32_t takes_us;
    uint64_t in, out; // the function's
};

static int piece_count;

static void piece_dispose(loose *l) {
    auto *p = static_cast<piece *>(l);
    if (p->number >= 0 && (p->done || p->abandoned)) {
        while (p->begun > p->ended) usleep(100); // told MIO_ESHUTDOWN, and runs still
        if (p->abandoned && p->begun != p->begun_then) fail("work %d was abandoned, and its function called", p->number);
    }
    loose_free(l);
}

static void piece_lost(loose *l) {
    auto *p = static_cast<piece *>(l);
    if (p->begun > p->ended) fail("work %d was abandoned while it ran", p->number);
    p->begun_then = p->begun;
}

static void run_piece(void *arg) {
    auto *p = static_cast<piece *>(arg);
    p->begun++;
    if (p->takes_us > 0) usleep(p->takes_us);
    p->out = p->in * 3 + 1;
    p->ended++;
}

static void told_piece(mio_loop_t *loop, int status, void *arg) {
    auto *p = static_cast<piece *>(arg);
    const bool early = loose_told(p, status);
    if (loop != p->loop) fail("work %d is told on another loop", p->number);
    if (status == 0) {
        if (p->begun != 1 || p->ended != 1) fail("work %d is done, and was called %d times", p->number, p->begun.load());
        if (p->out != p->in * 3 + 1) fail("work %d is done, and its result is not there", p->number);
    } else if (status == MIO_ESHUTDOWN) {
        if (!now.destroying) fail("work %d: MIO_ESHUTDOWN", p->number);
    } else {
        if (!early && !(status == MIO_ENOMEM && now.no_memory)) fail("work %d ends with %s", p->number, mio_error_name(status));
        if (p->begun != 0) fail("work %d ends with %s, and was called", p->number, mio_error_name(status));
        p->begun = -1; // never
    }
    act_some(nullptr, below(3u));
}

static void work_act() {
    if (piece_count >= PIECES_MAX) return;
    piece_count++;
    piece *p = loose_new<piece>("work", piece_dispose);
    p->number = -1;
    p->keeps = true;
    p->lost = piece_lost;
    p->in = now.random;
    p->takes_us = !now.sim && chance(30) ? below(2000u) : 0;
    mio_work_options_t options = MIO_WORK_OPTIONS_INIT;
    options.lane = static_cast<int>(below(MIO_LANES + 0u));
    loose_taken(p, CALL(mio_work_start(p->loop, chance(30) ? nullptr : &options, run_piece, told_piece, p)));
}

static void work_clear() { piece_count = 0; }

const noun noun_work = {"work", true, nullptr, work_act, nullptr, nullptr, nullptr, nullptr, work_clear};

// One or two threads of its own: more of it waits, and may be cancelled there.
mio_workers_t *workers_open() {
    if (now.sim || !noun_is_on(&noun_work) || chance(50)) return nullptr;
    mio_workers_options_t options = MIO_WORKERS_OPTIONS_INIT;
    options.threads = 1 + below(2u);
    mio_workers_t *workers = nullptr;
    if (mio_workers_create(&workers, &options) < 0) fail("no workers");
    return workers;
}

}
