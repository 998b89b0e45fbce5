// A worker: one loop on one thread, its share of the connections, and what it measured. What the parts of it share:
// connection.cc (one connection's life), worker.cc (the phases of a run), pace.cc (when requests are due).
#pragma once

#include "load/histogram.h"
#include "load/options.h"
#include "load/pattern.h"

#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace load {

struct worker;

struct connection {
    worker *owner;
    mio_stream_t *stream;                     // nullptr: not open (yet, or any more)
    std::vector<int64_t> sent_ns;             // ring of the requests in flight: when each was sent, or meant to be
    unsigned first, in_flight;
    bool ready;                               // has answered its first request
    size_t send_at, receive_at;               // positions in the pattern
    size_t partial;                           // bytes of an answer that is not complete
};

using error_counts = std::map<std::string, uint64_t>;

struct results {
    histogram latency;
    uint64_t requests;                        // answered while it was measured
    uint64_t unsent;                          // due by the rate, but never sent: no connection was free
    error_counts errors;
    error_counts connect_errors;
    int64_t elapsed_ns;
};

// ramp: connections are opened, a few at a time. wait: for the other workers. warm, measure: under load. drain: what is
// in flight may still be answered. over: closing.
enum class phase { ramp, wait, warm, measure, drain, over };

struct worker {
    const options *asked;
    const pattern *bytes;
    unsigned index;                           // of asked->threads
    mio_remote_t *boss;                       // where to report to
    mio_post_cb on_ramped, on_over;           // posted there with the worker as arg

    mio_loop_t *loop;
    mio_remote_t *remote;                     // of the loop
    mio_timer_t *clock;                       // the end of the present phase
    mio_timer_t *pacer;                       // the next request that is due, roughly
    mio_hook_t *spinner;                      // the same, to the microsecond
    enum phase phase;
    std::vector<connection> connections;
    size_t opened, unanswered;                // connections tried; of these, still without their first answer
    bool opening;                             // ramp_on is at work
    size_t ready;                             // connections that answered and are open
    uint64_t in_flight;                       // requests on all connections

    int64_t start_ns;                         // of the warm-up
    int64_t measure_ns;                       // of the measurement
    uint64_t paced;                           // requests sent by the rate
    std::vector<connection *> idle;           // ring: once for each request a connection may still take
    size_t idle_first, idle_count;

    std::atomic<uint64_t> answered;           // in all, for the progress line
    results found;
};

int64_t clock_ns();                           // the real clock, not the turn's

// --- worker.cc: called by the thread, and by posts -------------------------------------------------------------------

int worker_begin(worker *w);                  // opens the first connections; an error of libmio
void worker_go(worker *w);                    // the ramp is over everywhere: puts the load on
void worker_end(worker *w);

// --- worker.cc: called by connections --------------------------------------------------------------------------------

void worker_ready(worker *w);
void worker_answered(worker *w, connection *c, unsigned count, int64_t now_ns);
void worker_lost(worker *w, bool was_ready, const char *why);

// --- connection.cc ---------------------------------------------------------------------------------------------------

void connection_open(connection *c);
void connection_send(connection *c, unsigned count, int64_t at_ns);      // count requests that count from at_ns
void connection_lose(connection *c, const char *why);
void connection_close(connection *c);

// --- pace.cc ---------------------------------------------------------------------------------------------------------

int pace_create(worker *w);
void pace_start(worker *w);
void pace_idle(worker *w, connection *c, unsigned count);                // c may take so many more requests
void pace_send(worker *w);                                               // what is due and possible; arms for the rest
void pace_stop(worker *w, int64_t now_ns);

}
