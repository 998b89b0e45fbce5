// See report.h. Latencies in the text have three digits that mean something; in JSON they are nanoseconds.
#include "load/report.h"

#include <cinttypes>
#include <cstdio>

namespace load {

struct percentile {
    const char *text, *json;
    double percent;
};
static const percentile percentiles[] = {
    {"p50", "p50", 50}, {"p90", "p90", 90}, {"p99", "p99", 99}, {"p99.9", "p99_9", 99.9}};

static double seconds(int64_t ns) { return static_cast<double>(ns) / static_cast<double>(MIO_SECOND); }

static uint64_t total(const error_counts &errors) {
    uint64_t sum = 0;
    for (const auto &error : errors) sum += error.second;
    return sum;
}

int report_status(const summary *s) {
    return total(s->found.errors) == 0 && total(s->found.connect_errors) == 0 && s->found.requests > 0 ? 0 : 1;
}

static double per_second(const summary *s) {
    return s->found.elapsed_ns > 0 ? static_cast<double>(s->found.requests) / seconds(s->found.elapsed_ns) : 0;
}

static double megabytes_per_second(const summary *s) {
    return per_second(s) * static_cast<double>(s->asked->size) / 1e6;
}

// ---------------------------------------------------------------------------------------------------------- text

static void print_time(const char *name, int64_t ns) {
    const double us = static_cast<double>(ns) / 1e3;
    if (us < 1000) printf("  %s %.*f us", name, us < 100 ? 1 : 0, us);
    else if (us < 1e6) printf("  %s %.2f ms", name, us / 1e3);
    else printf("  %s %.2f s", name, us / 1e6);
}

static void print_errors(const char *title, const error_counts &errors) {
    printf("%-14s", title);
    if (errors.empty()) printf("  none");
    for (const auto &error : errors) printf("  %s %" PRIu64, error.first.c_str(), error.second);
    printf("\n");
}

static void print_text(const summary *s) {
    const options *o = s->asked;
    printf("backend         %s, %u thread%s\n", s->backend, o->threads, o->threads == 1 ? "" : "s");
    printf("connections     %u of %u to %s\n", s->connected, o->connections, o->target.c_str());
    printf("load            %zu bytes, %u in flight on each, ", o->size, o->pipeline);
    if (o->rate > 0) printf("%.10g requests/s asked", o->rate);
    else printf("as fast as answers come");
    printf(", %.2f s%s\n", seconds(s->found.elapsed_ns), o->verify ? ", every byte checked" : "");
    printf("requests        %" PRIu64 ", %.0f/s, %.2f MB/s each way\n", s->found.requests, per_second(s),
           megabytes_per_second(s));
    printf("latency       ");
    for (const percentile &p : percentiles) print_time(p.text, histogram_percentile(&s->found.latency, p.percent));
    print_time("max", s->found.latency.max);
    printf("\n");
    if (s->found.unsent > 0)
        printf("not sent        %" PRIu64 " requests were due, but no connection was free\n", s->found.unsent);
    print_errors("connect errors", s->found.connect_errors);
    print_errors("errors", s->found.errors);
}

// ---------------------------------------------------------------------------------------------------------- JSON

static void print_json_errors(const char *name, const error_counts &errors) {
    printf(", \"%s\": {", name);
    const char *separator = "";
    for (const auto &error : errors) { // names without anything to escape
        printf("%s\"%s\": %" PRIu64, separator, error.first.c_str(), error.second);
        separator = ", ";
    }
    printf("}");
}

static void print_json(const summary *s) {
    const options *o = s->asked;
    printf("{\"version\": \"%s\", \"backend\": \"%s\", \"threads\": %u", mio_version(), s->backend, o->threads);
    printf(", \"connections\": %u, \"connected\": %u", o->connections, s->connected);
    printf(", \"size\": %zu, \"pipeline\": %u, \"rate\": %.10g", o->size, o->pipeline, o->rate);
    printf(", \"verified\": %s, \"seconds\": %.6f", o->verify ? "true" : "false", seconds(s->found.elapsed_ns));
    printf(", \"requests\": %" PRIu64 ", \"requests_per_s\": %.1f", s->found.requests, per_second(s));
    printf(", \"megabytes_per_s\": %.3f, \"latency_ns\": {", megabytes_per_second(s));
    for (const percentile &p : percentiles)
        printf("\"%s\": %" PRId64 ", ", p.json, histogram_percentile(&s->found.latency, p.percent));
    printf("\"max\": %" PRId64 "}, \"not_sent\": %" PRIu64, s->found.latency.max, s->found.unsent);
    print_json_errors("connect_errors", s->found.connect_errors);
    print_json_errors("errors", s->found.errors);
    printf("}\n");
}

void report_print(const summary *s) {
    if (s->asked->json) print_json(s);
    else if (!s->asked->quiet) print_text(s);
    fflush(stdout);
}

// ------------------------------------------------------------------------------------------------------ progress

void progress_print(int second, uint64_t requests_per_s, size_t connections) {
    fprintf(stderr, "\r%4d s  %9" PRIu64 " requests/s  %zu connections ", second, requests_per_s, connections);
    fflush(stderr);
}

void progress_clear() {
    fprintf(stderr, "\r%60s\r", "");
    fflush(stderr);
}

}
