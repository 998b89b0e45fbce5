// Buckets: values below 256 have one each; above, the 8 highest bits of a value (the first is always 1) and its
// magnitude choose it. Bucket widths double from octave to octave, so the relative error stays the same.
#include "load/histogram.h"

#include <cmath>
#include <cstring>

namespace load {

static unsigned bucket_of(uint64_t value) {
    const unsigned magnitude = 63u - static_cast<unsigned>(__builtin_clzll(value | 1));
    const unsigned shift = magnitude > HISTOGRAM_BITS ? magnitude - HISTOGRAM_BITS : 0;
    return (shift << HISTOGRAM_BITS) + static_cast<unsigned>(value >> shift);
}

// The middle of a bucket.
static uint64_t value_of(unsigned bucket) {
    const unsigned octave = bucket >> HISTOGRAM_BITS;
    const unsigned shift = octave > 1 ? octave - 1 : 0;
    const uint64_t low = static_cast<uint64_t>(bucket - (shift << HISTOGRAM_BITS)) << shift;
    return low + ((uint64_t{1} << shift) >> 1);
}

void histogram_clear(histogram *h) {
    memset(h, 0, sizeof *h);
}

void histogram_record(histogram *h, int64_t value) {
    if (value < 0) value = 0;
    h->count++;
    if (value > h->max) h->max = value;
    h->buckets[bucket_of(static_cast<uint64_t>(value))]++;
}

void histogram_add(histogram *to, const histogram *from) {
    to->count += from->count;
    if (from->max > to->max) to->max = from->max;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) to->buckets[i] += from->buckets[i];
}

int64_t histogram_percentile(const histogram *h, double percent) {
    if (h->count == 0) return 0;
    const double exact = std::ceil(percent / 100.0 * static_cast<double>(h->count));
    const uint64_t rank = exact < 1 ? 1 : static_cast<uint64_t>(exact);
    uint64_t seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen < rank) continue;
        const int64_t value = static_cast<int64_t>(value_of(i));
        return value < h->max ? value : h->max;          // the middle may lie above the largest value there was
    }
    return h->max;
}

}
