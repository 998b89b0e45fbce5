// What is printed: the report, as text or JSON, and the progress line.
#pragma once

#include "load/worker.h"

namespace load {

struct summary {
    const options *asked;
    const char *backend;
    results found;                            // of all workers
    unsigned connected;
};

// 0: every connection was answered and no request failed.
int report_status(const summary *s);
void report_print(const summary *s);

// One line on a terminal, over the previous one.
void progress_print(int second, uint64_t requests_per_s, size_t connections);
void progress_clear();

}
