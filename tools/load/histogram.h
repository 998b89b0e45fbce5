// Latencies, counted in buckets whose width grows with the value: 128 to an octave, so that a value read back is wrong
// by less than 1 %, from nanoseconds to hours, in 58 KiB, and recording is a handful of instructions.
#pragma once

#include <cstdint>

namespace load {

constexpr unsigned HISTOGRAM_BITS = 7;
constexpr unsigned HISTOGRAM_BUCKETS = (64 - HISTOGRAM_BITS + 1) << HISTOGRAM_BITS;

struct histogram {
    uint64_t count;
    int64_t max;                              // exact
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_clear(histogram *h);
void histogram_record(histogram *h, int64_t value);            // a negative value counts as 0
void histogram_add(histogram *to, const histogram *from);

// The value that percent (0 to 100) of all values do not exceed; 0 if there are none.
int64_t histogram_percentile(const histogram *h, double percent);

}
