// mio-top: what the exported loops of this machine do, once a second. It attaches to nothing: it reads the files that
// mio_loop_export made.
#include "top/screen.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <getopt.h>
#include <unistd.h>

namespace top {

constexpr int EXIT_FAILED = 1, EXIT_USAGE = 2;

static const char help[] =
    "usage: mio-top [OPTION]... [FILE]...\n"
    "Shows the loops that programs export with mio_loop_export(), a line each, refreshed each second; those of the\n"
    "FILEs, or all in " MIO_EXPORT_DIRECTORY " (or " MIO_EXPORT_DIRECTORY_2 ") whose files this user may read.\n"
    "\n"
    "  TURNS/s, CALLS/s  turns of the loop, callbacks of the program\n"
    "  LONGEST           the longest callback of the last seconds\n"
    "  IDLE              share of its time that the loop slept\n"
    "  HANDLES, REQUEST  open and in flight now\n"
    "  POSTS/s           messages from other threads\n"
    "  IN B/s, OUT B/s   bytes read and written by streams\n"
    "  BUFFERS, HELD     bytes mapped for buffers; receive blocks that the program holds\n"
    "\n"
    "  -d, --delay=SECONDS  between two looks; default 1\n"
    "  -n, --count=N        looks, then ends; default: until it is interrupted\n"
    "      --once           one look: rates are since the export began\n"
    "      --clean          removes the files of programs that are gone, and ends\n"
    "      --version, --help\n"
    "\n"
    "Exit status: 0; 1: a FILE cannot be read, or the output cannot be written; 2: the arguments are wrong.\n";

enum option_code { ONCE = 256, CLEAN, VERSION, HELP };

static const struct option table[] = {
    {"delay", required_argument, nullptr, 'd'},
    {"count", required_argument, nullptr, 'n'},
    {"once", no_argument, nullptr, ONCE},
    {"clean", no_argument, nullptr, CLEAN},
    {"version", no_argument, nullptr, VERSION},
    {"help", no_argument, nullptr, HELP},
    {nullptr, 0, nullptr, 0},
};

struct options {
    double delay = 1;
    unsigned long count = 0; // 0: for ever
    bool clean = false;
    std::vector<std::string> files;
};

static bool number(const char *text, double least, double *out) {
    char *end;
    errno = 0;
    *out = strtod(text, &end);
    return errno == 0 && end != text && *end == 0 && *out >= least && *out <= 1e9;
}

static int64_t clock_ns() {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * MIO_SECOND + now.tv_nsec;
}

static int written(int exit_status) {
    if (fflush(stdout) == 0 && ferror(stdout) == 0) return exit_status;
    fprintf(stderr, "mio-top: the output cannot be written: %s\n", strerror(errno));
    return EXIT_FAILED;
}

static int watch(const options &o) {
    const bool screen = isatty(STDOUT_FILENO) != 0 && o.count != 1;
    std::vector<page> pages;
    int status = 0;
    for (unsigned long looks = 1;; looks++) {
        pages_look(o.files, &pages);
        if (screen) fputs("\033[H\033[J", stdout);
        else if (looks > 1) putchar('\n');
        screen_print(pages, clock_ns());
        status = 0;
        for (const page &p : pages)
            if (p.error != 0 && !o.files.empty()) status = EXIT_FAILED;
        if (fflush(stdout) != 0) return written(EXIT_FAILED);
        if (looks == o.count) return written(status);
        struct timespec pause = {static_cast<time_t>(o.delay), 0};
        pause.tv_nsec = static_cast<long>((o.delay - static_cast<double>(pause.tv_sec)) * 1e9);
        nanosleep(&pause, nullptr);
    }
}

static int top_main(int argc, char **argv) {
    char name[] = "mio-top";
    if (argc > 0) argv[0] = name; // what getopt_long calls us
    options o;
    double value;
    int code;
    while ((code = getopt_long(argc, argv, "d:n:", table, nullptr)) != -1) {
        switch (code) {
        case HELP: fputs(help, stdout); return written(0);
        case VERSION: printf("mio-top %s\n", mio_version()); return written(0);
        case ONCE: o.count = 1; break;
        case CLEAN: o.clean = true; break;
        case 'd':
            if (!number(optarg, 0.01, &o.delay)) {
                fprintf(stderr, "mio-top: --delay=%s: seconds, 0.01 or more\n", optarg);
                return EXIT_USAGE;
            }
            break;
        case 'n':
            if (!number(optarg, 1, &value) || value != static_cast<double>(static_cast<unsigned long>(value))) {
                fprintf(stderr, "mio-top: --count=%s: a whole number, 1 or more\n", optarg);
                return EXIT_USAGE;
            }
            o.count = static_cast<unsigned long>(value);
            break;
        default: return EXIT_USAGE; // getopt_long has complained
        }
    }
    o.files.assign(argv + optind, argv + argc);
    if (!o.clean) return watch(o);
    std::vector<page> pages;
    pages_look(o.files, &pages);
    printf("%d removed\n", pages_clean(pages));
    return written(0);
}

}

int main(int argc, char **argv) { return top::top_main(argc, argv); }
