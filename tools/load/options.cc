// The command line of mio-load: every value is checked here, so that nothing below has to.
#include "load/options.h"

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <getopt.h>

namespace load {

constexpr int EXIT_USAGE = 2;

// Bounds that keep memory and queues within reason.
constexpr double CONNECTIONS_MAX = 100000, THREADS_MAX = 256, PIPELINE_MAX = 10000;
constexpr double SIZE_MAX_BYTES = 16 << 20, IN_FLIGHT_MAX_BYTES = 64 << 20, IN_FLIGHT_MAX = 10e6;
constexpr double RATE_MAX = 100e6, SECONDS_MAX = 86400;

static const char help[] =
    "usage: mio-load [options] HOST:PORT\n"
    "Puts an echo server under load. HOST is numeric: 127.0.0.1:50002, [::1]:50002.\n"
    "\n"
    "  --connections N   connections (80)\n"
    "  --size BYTES      bytes of a request (100)\n"
    "  --pipeline N      requests in flight on each connection, at most (1)\n"
    "  --rate R          requests per second over all connections; a latency then counts from when its request was\n"
    "                    meant to be sent, so that a slow server is not asked less. 0: as fast as answers come (0)\n"
    "  --duration S      seconds that are measured (10); may be a fraction\n"
    "  --warmup S        seconds before that (0)\n"
    "  --threads N       loops, each on a thread of its own (1)\n"
    "  --verify          check every byte that comes back\n"
    "  --backend NAME    auto, epoll, io_uring or kqueue (auto)\n"
    "  --json            the report as one line of JSON\n"
    "  --quiet           no progress, and no report unless --json: only the exit status\n"
    "  --version, --help\n"
    "\n"
    "Exit status: 0: every request was answered; 1: there were errors; 2: the arguments are wrong.\n";

enum option_code {
    CONNECTIONS = 256,
    SIZE,
    PIPELINE,
    RATE,
    DURATION,
    WARMUP,
    THREADS,
    VERIFY,
    BACKEND,
    JSON,
    QUIET,
    VERSION,
    HELP
};

static const struct option table[] = {
    {"connections", required_argument, nullptr, CONNECTIONS},
    {"size", required_argument, nullptr, SIZE},
    {"pipeline", required_argument, nullptr, PIPELINE},
    {"rate", required_argument, nullptr, RATE},
    {"duration", required_argument, nullptr, DURATION},
    {"warmup", required_argument, nullptr, WARMUP},
    {"threads", required_argument, nullptr, THREADS},
    {"verify", no_argument, nullptr, VERIFY},
    {"backend", required_argument, nullptr, BACKEND},
    {"json", no_argument, nullptr, JSON},
    {"quiet", no_argument, nullptr, QUIET},
    {"version", no_argument, nullptr, VERSION},
    {"help", no_argument, nullptr, HELP},
    {nullptr, 0, nullptr, 0},
};

// A number from low to high, whole unless fraction; complains and returns false otherwise.
static bool parse_number(const char *name, const char *text, double low, double high, bool fraction, double *out) {
    char *end;
    errno = 0;
    const double value = strtod(text, &end);
    const bool plain = end != text && *end == 0 && strspn(text, "0123456789.") == strlen(text);
    if (plain && errno == 0 && value >= low && value <= high && (fraction || value == std::floor(value))) {
        *out = value;
        return true;
    }
    const char *kind = fraction ? "number" : "whole number";
    fprintf(stderr, "mio-load: --%s %s: not a %s from %.10g to %.10g\n", name, text, kind, low, high);
    return false;
}

static bool parse_whole(const char *name, const char *text, double high, unsigned *out) {
    double value;
    if (!parse_number(name, text, 1, high, false, &value)) return false;
    *out = static_cast<unsigned>(value);
    return true;
}

static bool parse_backend(const char *text, enum mio_backend *out) {
    static const struct {
        const char *name;
        enum mio_backend backend;
    } names[] = {{"auto", MIO_BACKEND_AUTO}, {"epoll", MIO_BACKEND_EPOLL}, {"io_uring", MIO_BACKEND_IO_URING},
                 {"kqueue", MIO_BACKEND_KQUEUE}};
    for (const auto &known : names) {
        if (strcmp(known.name, text) == 0) {
            *out = known.backend;
            return true;
        }
    }
    fprintf(stderr, "mio-load: --backend %s: auto, epoll, io_uring or kqueue\n", text);
    return false;
}

static bool parse_target(const char *text, options *out) {
    out->target = text;
    const size_t colon = out->target.rfind(':');
    const std::string port_text = colon == std::string::npos ? "" : out->target.substr(colon + 1);
    const bool digits = !port_text.empty() && port_text.size() <= 5 &&
                        port_text.find_first_not_of("0123456789") == std::string::npos;
    const int port = digits ? atoi(port_text.c_str()) : 0;
    if (port > 0 && mio_addr_parse(out->target.substr(0, colon).c_str(), port, &out->addr) == 0) return true;
    fprintf(stderr, "mio-load: %s: not HOST:PORT with a numeric host, such as 127.0.0.1:50002\n", text);
    return false;
}

static bool parse_option(int code, const char *text, options *out) {
    double size;
    switch (code) {
    case CONNECTIONS: return parse_whole("connections", text, CONNECTIONS_MAX, &out->connections);
    case PIPELINE: return parse_whole("pipeline", text, PIPELINE_MAX, &out->pipeline);
    case THREADS: return parse_whole("threads", text, THREADS_MAX, &out->threads);
    case SIZE:
        if (!parse_number("size", text, 1, SIZE_MAX_BYTES, false, &size)) return false;
        out->size = static_cast<size_t>(size);
        return true;
    case RATE: return parse_number("rate", text, 0, RATE_MAX, true, &out->rate);
    case DURATION: return parse_number("duration", text, 0.001, SECONDS_MAX, true, &out->duration_s);
    case WARMUP: return parse_number("warmup", text, 0, SECONDS_MAX, true, &out->warmup_s);
    case BACKEND: return parse_backend(text, &out->backend);
    case VERIFY: out->verify = true; return true;
    case JSON: out->json = true; return true;
    case QUIET: out->quiet = true; return true;
    }
    return false; // getopt_long has complained
}

int options_parse(int argc, char **argv, options *out) {
    char name[] = "mio-load";
    if (argc > 0) argv[0] = name; // what getopt_long calls us
    int code;
    while ((code = getopt_long(argc, argv, "", table, nullptr)) != -1) {
        if (code == HELP) {
            fputs(help, stdout);
            return 0;
        }
        if (code == VERSION) {
            printf("mio-load %s\n", mio_version());
            return 0;
        }
        if (!parse_option(code, optarg, out)) return EXIT_USAGE;
    }
    if (optind != argc - 1) {
        const char *wrong = optind < argc ? "more than one HOST:PORT" : "no HOST:PORT";
        fprintf(stderr, "mio-load: %s; see mio-load --help\n", wrong);
        return EXIT_USAGE;
    }
    if (!parse_target(argv[optind], out)) return EXIT_USAGE;
    const double in_flight = static_cast<double>(out->pipeline) * out->connections;
    if (in_flight > IN_FLIGHT_MAX || static_cast<double>(out->size) * out->pipeline > IN_FLIGHT_MAX_BYTES) {
        fprintf(stderr, "mio-load: too much in flight: at most %.0f requests, 64 MiB a connection\n", IN_FLIGHT_MAX);
        return EXIT_USAGE;
    }
    if (out->threads > out->connections) out->threads = out->connections;
    return OPTIONS_GO_ON;
}

}
