// See facts.h. Nothing here changes anything, and what cannot be found out is said to be unknown, never guessed.
#include "info/facts.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

namespace info {

// ------------------------------------------------------------------------------------------------ what libmio says

static void on_backend(const char *name, int verdict, const char *reason, const char *remedy, void *arg) {
    static_cast<facts *>(arg)->backends.push_back({name, verdict, reason, remedy});
}

static void on_feature(const char *backend, const char *name, int verdict, const char *reason, void *arg) {
    static_cast<facts *>(arg)->features.push_back({backend, name, verdict, reason});
}

// The library reports what it was built with. Here the ring is what one looks for first, so its absence is told, too.
static void add_what_was_left_out(facts *f) {
    for (const backend &known : f->backends)
        if (known.name == "io_uring") return;
    f->backends.push_back({"io_uring", MIO_ENOTSUP, "this libmio was built without it",
                           "build it where the headers of liburing are: ./configure --with-io-uring"});
}

// A loop that cannot make a turn is of no use, though it could be created.
static int try_automatic(std::string *name) {
    mio_loop_t *loop;
    int error = mio_loop_create(&loop, nullptr);
    if (error < 0) return error;
    *name = mio_loop_backend(loop);
    error = mio_loop_hold(loop, +1);
    if (error == 0) error = mio_loop_run_once(loop, 0);
    if (mio_loop_destroy(loop, MIO_SECOND) != 0) fprintf(stderr, "mio-info: a loop did not end cleanly\n");
    return error < 0 ? error : 0;
}

static variable read_variable(const char *name) {
    const char *value = secure_getenv(name); // as the library does
    const bool is_set = value != nullptr && value[0] != 0;
    return {name, is_set, is_set ? value : ""};
}

// ----------------------------------------------------------------------------------------------------- the machine

// Processors as the kernel writes them: "0-3,8".
static void describe_processors(const cpu_set_t *set, size_t size, size_t n, facts *f) {
    f->allowed = CPU_COUNT_S(size, set);
    for (size_t first = 0; first < n; first++) {
        if (!CPU_ISSET_S(first, size, set)) continue;
        size_t last = first;
        while (last + 1 < n && CPU_ISSET_S(last + 1, size, set)) last++;
        if (!f->allowed_list.empty()) f->allowed_list += ",";
        f->allowed_list += std::to_string(first);
        if (last > first) f->allowed_list += "-" + std::to_string(last);
        first = last;
    }
}

static void gather_processors(facts *f) {
    f->online = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)); // -1 is UNKNOWN
    f->allowed = UNKNOWN;
    for (size_t n = 1024; n <= 1 << 20; n *= 2) { // EINVAL: the kernel was built for more
        cpu_set_t *set = CPU_ALLOC(n);
        if (set == nullptr) return;
        const size_t size = CPU_ALLOC_SIZE(n);
        const bool done = sched_getaffinity(0, size, set) == 0;
        const bool more = !done && errno == EINVAL;
        if (done) describe_processors(set, size, n, f);
        CPU_FREE(set);
        if (!more) return;
    }
}

static void gather_system(facts *f) {
    struct utsname names;
    if (uname(&names) == 0) {
        f->system = names.sysname;
        f->release = names.release;
        f->machine = names.machine;
    }
    gather_processors(f);
}

// ---------------------------------------------------------------------------------------------------------- limits

static const limit limits[] = {
    {"RLIMIT_NOFILE", "descriptors of a process: one for each connection, a few for each loop", RLIMIT_NOFILE},
    {"RLIMIT_MEMLOCK", "bytes: on some kernels rings count against it, unless CAP_IPC_LOCK is held", RLIMIT_MEMLOCK},
};

static void gather_limits(facts *f) {
    for (limit each : limits) {
        if (getrlimit(each.resource, &each.now) != 0) each.error = errno;
        f->limits.push_back(each);
    }
}

static const sysctl sysctls[] = {
    {"kernel.io_uring_disabled", "0: all may make rings; 1: CAP_SYS_ADMIN and kernel.io_uring_group; 2: nobody"},
    {"kernel.io_uring_group", "the group that may make rings when the line above is 1; -1: none"},
    {"fs.file-max", "open files of the whole system"},
    {"fs.nr_open", "what RLIMIT_NOFILE can be raised to"},
    {"net.core.somaxconn", "connections that wait in a listener's backlog, at most"},
    {"net.ipv4.tcp_max_syn_backlog", "half-open connections that a listener remembers"},
};

// The first line of a file without its end; 0 or errno.
static int read_line(const std::string &path, std::string *out) {
    FILE *file = fopen(path.c_str(), "re");
    if (file == nullptr) return errno;
    char line[256];
    errno = 0;
    const bool got = fgets(line, sizeof line, file) != nullptr;
    const int error = got ? 0 : errno != 0 ? errno : ENODATA;
    fclose(file);
    if (got) out->assign(line, strcspn(line, "\n"));
    return error;
}

static void gather_sysctls(facts *f) {
    for (sysctl each : sysctls) {
        std::string path = each.name;
        for (char &letter : path)
            if (letter == '.') letter = '/';
        each.error = read_line("/proc/sys/" + path, &each.value);
        f->sysctls.push_back(each);
    }
}

// --------------------------------------------------------------------------------------------------------- sandbox

static void gather_sandbox(facts *f) {
    f->seccomp_mode = f->seccomp_filters = f->no_new_privileges = UNKNOWN;
    FILE *file = fopen("/proc/self/status", "re");
    if (file == nullptr) return;
    char line[4096]; // "Groups:" may be longer: its rest is read as lines that nobody looks for
    while (fgets(line, sizeof line, file) != nullptr) {
        int value;
        if (sscanf(line, "Seccomp: %d", &value) == 1) f->seccomp_mode = value;
        if (sscanf(line, "Seccomp_filters: %d", &value) == 1) f->seccomp_filters = value;
        if (sscanf(line, "NoNewPrivs: %d", &value) == 1) f->no_new_privileges = value;
    }
    fclose(file);
}

void facts_gather(facts *f) {
    gather_system(f);
    f->backend_wanted = read_variable("MIO_BACKEND");
    f->mask = read_variable("MIO_URING_MASK");
    gather_limits(f);
    gather_sysctls(f);
    gather_sandbox(f);
    f->automatic = try_automatic(&f->automatic_name);
    mio_backend_report(on_backend, f);
    mio_backend_features(on_feature, f);
    add_what_was_left_out(f);
}

}
