// The clock, percentiles, and the report.
#include "bench/bench.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>

namespace bench {

int64_t clock_ns() {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<int64_t>(now.tv_sec) * 1000000000 + now.tv_nsec;
}

int64_t cpu_ns() {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<int64_t>(now.tv_sec) * 1000000000 + now.tv_nsec;
}

static double reading_cost_ns(int64_t (*clock)()) {
    figures costs;
    figures_open(&costs, 200);
    for (unsigned i = 0; i < 200; i++) {
        const int64_t begun_ns = clock();
        for (unsigned j = 0; j < 100; j++) (void)clock();
        figures_add(&costs, static_cast<double>(clock() - begun_ns) / 101);
    }
    const double cost_ns = figures_percentile(&costs, 10);
    figures_close(&costs);
    return cost_ns;
}

double clock_cost_ns() { return reading_cost_ns(clock_ns); }
double cpu_cost_ns() { return reading_cost_ns(cpu_ns); }

void figures_open(figures *f, unsigned capacity) {
    f->values = static_cast<double *>(malloc(capacity * sizeof(double)));
    if (f->values == nullptr) fail("no memory");
    f->count = 0;
    f->capacity = capacity;
}

void figures_close(figures *f) { free(f->values); }

void figures_add(figures *f, double value) {
    if (f->count < f->capacity) f->values[f->count++] = value;
}

double figures_percentile(figures *f, double percent) {
    if (f->count == 0) return 0;
    std::sort(f->values, f->values + f->count);
    return f->values[static_cast<unsigned>(percent / 100 * (f->count - 1) + 0.5)];
}

uint64_t random_next(uint64_t *state) {
    uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

// --- the report -----------------------------------------------------------------------------------------------------

static bool first_record;

void report_open(const settings *with) {
    first_record = true;
    if (with->json) printf("[");
}

void report_heading(const settings *with, const char *line) {
    if (!with->json) printf("\n%s\n", line);
}

static void record_begin(const char *name) {
    printf("%s\n{\"cell\":\"%s\"", first_record ? "" : ",", name);
    first_record = false;
}

void report_pair_heading(const settings *with, const char *const sides[2]) {
    if (with->json) return;
    printf("%-22s %9s %9s   %9s %9s   %6s\n", "", sides[0], "", sides[1], "", "ratio");
    printf("%-22s %9s %9s   %9s %9s   %6s %6s %6s\n", "", "p10", "median", "p10", "median", "p10", "median", "paired");
}

void report_pair(const settings *with, const char *name, const char *const sides[2], const double p10[2],
                 const double median[2], double paired) {
    if (with->json) {
        record_begin(name);
        for (unsigned i = 0; i < 2; i++)
            printf(",\"%s\":{\"p10_ns\":%.1f,\"median_ns\":%.1f}", i == 1 && sides[0] == sides[1] ? "again" : sides[i],
                   p10[i], median[i]);
        printf(",\"ratio_p10\":%.3f,\"ratio_median\":%.3f,\"ratio_paired\":%.3f}", p10[0] / p10[1],
               median[0] / median[1], paired);
    } else {
        printf("%-22s %9.0f %9.0f   %9.0f %9.0f   %6.3f %6.3f %6.3f\n", name, p10[0], median[0], p10[1], median[1],
               p10[0] / p10[1], median[0] / median[1], paired);
    }
    fflush(stdout);
}

void report_one_heading(const settings *with) {
    if (!with->json) printf("%-22s %-44s %9s %9s\n", "", "", "p10", "median");
}

void report_one(const settings *with, const char *name, const char *what, double p10, double median) {
    if (with->json) {
        record_begin(name);
        printf(",\"what\":\"%s\",\"p10_ns\":%.1f,\"median_ns\":%.1f}", what, p10, median);
    } else {
        printf("%-22s %-44s %9.1f %9.1f\n", name, what, p10, median);
    }
    fflush(stdout);
}

void report_close(const settings *with) {
    if (with->json) printf("\n]\n");
}

}
