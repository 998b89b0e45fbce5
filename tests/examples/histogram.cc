// mio-load's histogram: every value is read back with an error below 1 %, and percentiles are those of a sorted list.
#include "load/histogram.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <vector>

static int failed;

static void expect_near(const char *what, int64_t found, int64_t expected) {
    const double difference = std::fabs(static_cast<double>(found) - static_cast<double>(expected));
    if (difference <= 0.01 * static_cast<double>(expected)) return;
    printf("%s: %lld, not %lld\n", what, static_cast<long long>(found), static_cast<long long>(expected));
    failed++;
}

int main() {
    auto h = std::make_unique<load::histogram>();
    for (int64_t value = 0; value < INT64_MAX / 3; value = value * 3 / 2 + 1) {
        load::histogram_clear(h.get());
        load::histogram_record(h.get(), value);
        load::histogram_record(h.get(), INT64_MAX); // so that the value is not cut to the largest
        expect_near("one value", load::histogram_percentile(h.get(), 50), value);
    }

    load::histogram_clear(h.get());
    auto other = std::make_unique<load::histogram>();
    std::vector<int64_t> values;
    uint64_t state = 1;
    for (int i = 0; i < 100000; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const int64_t value = static_cast<int64_t>((state >> 33) % (i % 100 == 0 ? 1000000000 : 1000000));
        values.push_back(value);
        load::histogram_record(i % 2 ? h.get() : other.get(), value);
    }
    load::histogram_add(h.get(), other.get());
    std::sort(values.begin(), values.end());
    for (double percent : {1.0, 50.0, 90.0, 99.0, 99.9, 99.99}) {
        const auto rank = static_cast<size_t>(std::ceil(percent / 100 * static_cast<double>(values.size())));
        expect_near("percentile", load::histogram_percentile(h.get(), percent), values[rank - 1]);
    }
    if (h->max != values.back() || load::histogram_percentile(h.get(), 100) > h->max) failed++;
    if (h->count != values.size()) failed++;
    load::histogram_clear(h.get());
    if (load::histogram_percentile(h.get(), 50) != 0) failed++;
    return failed == 0 ? 0 : 1;
}
