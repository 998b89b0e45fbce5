// What the command line says.
#pragma once

#include <mio.h>

#include <string>

namespace load {

struct options {
    mio_addr_t addr;
    std::string target;                       // as written
    unsigned connections = 80;
    unsigned threads = 1;
    unsigned pipeline = 1;                    // requests in flight on each connection, at most
    size_t size = 100;                        // bytes of a request, and of its answer
    double rate = 0;                          // requests per second over all connections; 0: as fast as answers come
    double duration_s = 10;
    double warmup_s = 0;
    bool verify = false;
    bool json = false;
    bool quiet = false;
    enum mio_backend backend = MIO_BACKEND_AUTO;
};

constexpr int OPTIONS_GO_ON = -1;

// OPTIONS_GO_ON, or the status to exit with: 0 after --help and --version, 2 after an error, told in one line.
int options_parse(int argc, char **argv, options *out);

}
