// mio-bench: what every part of it uses.
//
// A measurement is a cell, named by a path: echo/tcp/32/100, timers/wheel, posts. Each part offers its cells and runs
// those it is asked for. What two programs of the same purpose need is measured in interleaved rounds (A B, B A, A B
// ...), so that a machine that is slower for a while is slower for both, and told by the 10th percentile of the rounds:
// what the code costs when nothing interferes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bench {

struct settings {
    const char *cell;     // a pattern of fnmatch(3)
    unsigned rounds;
    unsigned echoes;      // of one side in one round, at least
    const char *sides[2]; // of the echo cells: the measured one, and what it is compared with
    bool json;
    bool list;
};

// Prints a message and exits: a figure from a run in which something went wrong is worse than none.
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
// Of a call that returns -1 and sets errno.
[[noreturn]] void fail_errno(const char *what);

bool cell_wanted(const settings *with, const char *name);

// --- time and figures (figures.cc) ----------------------------------------------------------------------------------

int64_t clock_ns();
// What two readings of the clock one after the other are apart, at best.
double clock_cost_ns();
// Of the process, all its threads together, and what two readings are apart.
int64_t cpu_ns();
double cpu_cost_ns();

struct figures {
    double *values;
    unsigned count, capacity;
};
void figures_open(figures *f, unsigned capacity);
void figures_close(figures *f);
void figures_add(figures *f, double value);
// percent 0 to 100; sorts.
double figures_percentile(figures *f, double percent);

uint64_t random_next(uint64_t *state); // splitmix64

// One line of the report: text, or a record of JSON. Columns that a cell does not have are left out.
void report_open(const settings *with);
void report_heading(const settings *with, const char *line);
void report_pair_heading(const settings *with, const char *const sides[2]);
void report_pair(const settings *with, const char *name, const char *const sides[2], const double p10[2],
                 const double median[2], double paired);
void report_one_heading(const settings *with);
void report_one(const settings *with, const char *name, const char *what, double p10, double median);
void report_close(const settings *with);

// --- echo servers (echo_mio.cc, echo_hand.cc, echo_ring.cc) ---------------------------------------------------------

// A server in this process and on this thread. Descriptors are its own from open on.
struct side {
    const char *name;
    const char *what;
    // nullptr: this build does not have it.
    void *(*open)(const int *fds, unsigned n);
    // Turns until that many more bytes were accepted by the kernel on their way back.
    void (*serve)(void *state, uint64_t bytes);
    // The other ends are closed.
    void (*close)(void *state);
};
extern const side side_mio, side_mio_epoll, side_mio_ring, side_level, side_edge, side_ring, side_ring_classic;

// serve for so long without a byte is an error.
constexpr uint64_t TURNS_WITHOUT_END = UINT64_C(1) << 28;

// --- the parts ------------------------------------------------------------------------------------------------------

void echo_run(const settings *with);
// One side alone, for a profiler: warms up, then echoes so many messages.
void echo_single(const char *cell, const char *side_name, uint64_t echoes);
void timers_run(const settings *with);
void posts_run(const settings *with);
void files_run(const settings *with);
void datagrams_run(const settings *with); // datagrams.cc
void spawn_run(const settings *with);     // spawn.cc

}
