// mio-info: says which backends of libmio work for this user on this machine, and if not, why and what to do. It
// measures nothing and changes nothing; what it finds holds for processes that are started as it was.
#include "info/report.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <getopt.h>

namespace info {

constexpr int EXIT_NO_BACKEND = 1, EXIT_USAGE = 2;

static const char help[] =
    "usage: mio-info [--json]\n"
    "Says which backends of libmio work here, which one AUTO takes, and what limits them. It tries every backend,\n"
    "whatever MIO_BACKEND says; a sandbox that kills for a system call of one of them kills mio-info as well. What is\n"
    "found holds for this user, this container, this unit: run it where the program runs.\n"
    "\n"
    "  --json            one line of JSON\n"
    "  --version, --help\n"
    "\n"
    "Exit status: 0: AUTO gets a backend that works; 1: it gets none, or the report cannot be written;\n"
    "2: the arguments are wrong.\n";

enum option_code { JSON = 256, VERSION, HELP };

static const struct option table[] = {
    {"json", no_argument, nullptr, JSON},
    {"version", no_argument, nullptr, VERSION},
    {"help", no_argument, nullptr, HELP},
    {nullptr, 0, nullptr, 0},
};

static int written(int exit_status) {
    if (fflush(stdout) == 0 && ferror(stdout) == 0) return exit_status;
    fprintf(stderr, "mio-info: the report cannot be written: %s\n", strerror(errno));
    return EXIT_NO_BACKEND;
}

static int info_main(int argc, char **argv) {
    char name[] = "mio-info";
    if (argc > 0) argv[0] = name; // what getopt_long calls us
    bool json = false;
    int code;
    while ((code = getopt_long(argc, argv, "", table, nullptr)) != -1) {
        if (code == HELP) {
            fputs(help, stdout);
            return written(0);
        }
        if (code == VERSION) {
            printf("mio-info %s\n", mio_version());
            return written(0);
        }
        if (code != JSON) return EXIT_USAGE; // getopt_long has complained
        json = true;
    }
    if (optind < argc) {
        fprintf(stderr, "mio-info: %s: it takes no arguments; see mio-info --help\n", argv[optind]);
        return EXIT_USAGE;
    }
    facts found = {};
    facts_gather(&found);
    if (json) report_json(&found);
    else report_text(&found);
    return written(found.automatic == 0 ? 0 : EXIT_NO_BACKEND);
}

}

int main(int argc, char **argv) { return info::info_main(argc, argv); }
