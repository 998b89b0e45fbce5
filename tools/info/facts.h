// What mio-info says, before it is put into words: what libmio tells of itself, and what this kernel grants the
// process.
#pragma once

#include <mio.h>

#include <string>
#include <sys/resource.h>
#include <vector>

namespace info {

struct backend {
    std::string name;
    int verdict; // 0, or an error of libmio
    std::string reason, remedy;
};

struct feature {
    std::string backend, name;
    int verdict;
    std::string reason;
};

// An environment variable as libmio reads it.
struct variable {
    const char *name;
    bool is_set;
    std::string value;
};

struct limit {
    const char *name, *what;
    decltype(RLIMIT_NOFILE) resource;
    int error = 0; // errno of getrlimit(2)
    struct rlimit now = {};
};

struct sysctl {
    const char *name, *what;
    int error = 0; // errno of reading it; ENOENT: this kernel has none
    std::string value = {};
};

constexpr int UNKNOWN = -1; // what /proc/self/status does not tell

struct facts {
    std::string system, release, machine;
    int online, allowed; // processors; UNKNOWN
    std::string allowed_list;
    variable backend_wanted, mask;
    int automatic; // 0, or why AUTO got none
    std::string automatic_name;
    std::vector<backend> backends;
    std::vector<feature> features;
    std::vector<limit> limits;
    std::vector<sysctl> sysctls;
    int seccomp_mode, seccomp_filters, no_new_privileges;
};

// Makes a loop with every backend, and one with AUTO; reads the rest from /proc.
void facts_gather(facts *f);

}
