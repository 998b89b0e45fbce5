// mio-bench: measures libmio in one process.
#include "bench/bench.h"

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fnmatch.h>
#include <getopt.h>

namespace bench {

static const char help[] =
    "usage: mio-bench [options]\n"
    "Measures libmio in one process: an echo server beside hand-written loops, timers, posts, reads of files,\n"
    "datagrams, processes.\n"
    "\n"
    "  --cell PATTERN    only the cells whose name fits, as a shell would match: 'echo/tcp/*', 'timers/*'; those with\n"
    "                    a depth (echo/tcp/32/100x16: so many messages on the way at once) are run only with this\n"
    "  --rounds N        rounds of each echo cell (300); timers: at most 5\n"
    "  --echoes N        echoes of each side in a round, at least (256)\n"
    "  --sides A,B       what the echo cells compare (mio,level): libmio on the backend it chooses (mio) or on one by\n"
    "                    name (mio-epoll, mio-ring); loops written by hand on epoll (level, edge) and on io_uring\n"
    "                    (ring; ring-classic, with small buffers), if liburing was there when this was built\n"
    "  --single SIDE     that side alone, one echo cell, --echoes messages: for a profiler\n"
    "  --list            the names of the cells\n"
    "  --json            the report as JSON\n"
    "  --help\n"
    "\n"
    "Figures are the 10th percentile and the median of the rounds. Exit status: 0; 1: something failed; 2: the\n"
    "arguments are wrong.\n";

void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("mio-bench: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

void fail_errno(const char *what) { fail("%s: %s", what, strerror(errno)); }

bool cell_wanted(const settings *with, const char *name) {
    return with->cell == nullptr || fnmatch(with->cell, name, 0) == 0;
}

[[noreturn]] static void usage(const char *what, const char *value) {
    fprintf(stderr, "mio-bench: %s: %s (--help lists the options)\n", what, value);
    exit(2);
}

static unsigned number(const char *what, const char *text) {
    char *end;
    errno = 0;
    const long value = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != 0 || value < 1 || value > 100000000) usage(what, text);
    return static_cast<unsigned>(value);
}

enum option_code { CELL = 256, ROUNDS, ECHOES, SIDES, SINGLE, LIST, JSON, HELP };

static const struct option table[] = {
    {"cell", required_argument, nullptr, CELL},     {"rounds", required_argument, nullptr, ROUNDS},
    {"echoes", required_argument, nullptr, ECHOES}, {"sides", required_argument, nullptr, SIDES},
    {"single", required_argument, nullptr, SINGLE}, {"list", no_argument, nullptr, LIST},
    {"json", no_argument, nullptr, JSON},           {"help", no_argument, nullptr, HELP},
    {nullptr, 0, nullptr, 0},
};

static void sides_parse(settings *with, char *text) {
    char *comma = strchr(text, ',');
    if (comma == nullptr) usage("--sides takes two names", text);
    *comma = 0;
    with->sides[0] = text;
    with->sides[1] = comma + 1;
}

static int run(int argc, char **argv) {
    settings with = {nullptr, 300, 256, {"mio", "level"}, false, false};
    const char *single = nullptr;
    for (int code; (code = getopt_long(argc, argv, "", table, nullptr)) != -1;) {
        switch (code) {
        case CELL: with.cell = optarg; break;
        case ROUNDS: with.rounds = number("--rounds", optarg); break;
        case ECHOES: with.echoes = number("--echoes", optarg); break;
        case SIDES: sides_parse(&with, optarg); break;
        case SINGLE: single = optarg; break;
        case LIST: with.list = true; break;
        case JSON: with.json = true; break;
        case HELP: fputs(help, stdout); return 0;
        default: return 2; // getopt has spoken
        }
    }
    if (optind != argc) usage("not an option", argv[optind]);
    if (single != nullptr) {
        if (with.cell == nullptr) usage("--single needs", "--cell");
        echo_single(with.cell, single, with.echoes);
        return 0;
    }
    if (!with.list) report_open(&with);
    echo_run(&with);
    timers_run(&with);
    posts_run(&with);
    files_run(&with);
    datagrams_run(&with);
    spawn_run(&with);
    if (!with.list) report_close(&with);
    return 0;
}

}

int main(int argc, char **argv) { return bench::run(argc, argv); }
