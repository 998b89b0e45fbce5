// Processes: started and waited for, so many at once. Beside libmio (on the backend that it chooses, and on epoll):
// posix_spawn(3) and waitpid(2), and the bare vfork(2), execve(2), waitpid(2). The child is as small as one can be: a
// program of two instructions, without a loader and libraries, so that what is measured is the starting.
//
// Figures are ns per process: of the wall clock, and of CPU, children included. libmio's child gets its standard
// descriptors from the parent, as the others do; what it does beyond them is told in docs/performance.md.
#include "bench/bench.h"

#include <mio.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <elf.h>
#include <fcntl.h>
#include <initializer_list>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

namespace bench {

constexpr unsigned SPAWNS = 128; // of a round
constexpr unsigned SPAWN_DEPTH_MAX = 8;

struct spawner {
    char *path;
    unsigned depth;
    mio_loop_t *loop;
    unsigned begun, wanted;
};

// --- the child ------------------------------------------------------------------------------------------------------

#if defined(__x86_64__)
constexpr unsigned short MACHINE = EM_X86_64;
// mov $60, %eax; xor %edi, %edi; syscall
constexpr unsigned char CODE[] = {0xb8, 0x3c, 0x00, 0x00, 0x00, 0x31, 0xff, 0x0f, 0x05};
#elif defined(__aarch64__) && defined(__LITTLE_ENDIAN__)
constexpr unsigned short MACHINE = EM_AARCH64;
// mov x8, #93; mov x0, #0; svc #0
constexpr unsigned char CODE[] = {0xa8, 0x0b, 0x80, 0xd2, 0x00, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4};
#else
constexpr unsigned short MACHINE = EM_NONE;
constexpr unsigned char CODE[] = {0};
#endif

struct program {
    Elf64_Ehdr head;
    Elf64_Phdr segment;
    unsigned char code[sizeof CODE];
};

static void program_fill(program *p) {
    constexpr Elf64_Addr base = 0x400000;
    memset(p, 0, sizeof *p);
    memcpy(p->head.e_ident, ELFMAG, SELFMAG);
    p->head.e_ident[EI_CLASS] = ELFCLASS64;
    p->head.e_ident[EI_DATA] = ELFDATA2LSB;
    p->head.e_ident[EI_VERSION] = EV_CURRENT;
    p->head.e_type = ET_EXEC;
    p->head.e_machine = MACHINE;
    p->head.e_version = EV_CURRENT;
    p->head.e_entry = base + offsetof(program, code);
    p->head.e_phoff = offsetof(program, segment);
    p->head.e_ehsize = sizeof p->head;
    p->head.e_phentsize = sizeof p->segment;
    p->head.e_phnum = 1;
    p->segment.p_type = PT_LOAD;
    p->segment.p_flags = PF_R | PF_X;
    p->segment.p_vaddr = p->segment.p_paddr = base;
    p->segment.p_filesz = p->segment.p_memsz = sizeof *p;
    p->segment.p_align = 4096;
    memcpy(p->code, CODE, sizeof CODE);
}

static int status_of(char *path) {
    char *const arguments[] = {path, nullptr};
    pid_t pid;
    int status = -1;
    if (posix_spawn(&pid, path, nullptr, nullptr, arguments, environ) != 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    return status;
}

// Where files may not be run, or for another machine: /bin/true, with its loader.
static const char *child_make(char *path) {
    program small;
    program_fill(&small);
    const int fd = MACHINE == EM_NONE ? -1 : mkostemp(path, O_CLOEXEC);
    const bool made =
        fd >= 0 && write(fd, &small, sizeof small) == static_cast<ssize_t>(sizeof small) && fchmod(fd, 0700) == 0;
    if (fd >= 0) close(fd);
    if (made && status_of(path) == 0) return "two instructions";
    if (fd >= 0) unlink(path);
    strcpy(path, "/bin/true");
    if (status_of(path) != 0) fail("/bin/true cannot be run");
    return "/bin/true";
}

// --- by hand --------------------------------------------------------------------------------------------------------

static pid_t start_posix(char *path) {
    char *const arguments[] = {path, nullptr};
    pid_t pid;
    const int error = posix_spawn(&pid, path, nullptr, nullptr, arguments, environ);
    if (error != 0) fail("posix_spawn: %s", strerror(error));
    return pid;
}

static pid_t start_vfork(char *path) {
    char *const arguments[] = {path, nullptr};
    const pid_t pid = vfork();
    if (pid < 0) fail_errno("vfork");
    if (pid == 0) {
        execve(path, arguments, environ);
        _exit(127);
    }
    return pid;
}

static void hand_spawn(spawner *s, pid_t (*start)(char *), unsigned n) {
    pid_t running[SPAWN_DEPTH_MAX];
    unsigned begun = 0;
    for (; begun < s->depth; begun++) running[begun] = start(s->path);
    for (unsigned ended = 0; ended < n; ended++) {
        int status;
        if (waitpid(running[ended % s->depth], &status, 0) < 0) fail_errno("waitpid");
        if (status != 0) fail("a child ended with %d", status);
        if (begun < n) running[begun++ % s->depth] = start(s->path);
    }
}

static void nothing(spawner *) {}
static void posix_spawned(spawner *s, unsigned n) { hand_spawn(s, start_posix, n); }
static void vfork_spawned(spawner *s, unsigned n) { hand_spawn(s, start_vfork, n); }

// --- libmio ---------------------------------------------------------------------------------------------------------

static void mio_start(spawner *s);

static void on_exit(mio_process_t *process, const mio_process_exit_t *how, void *arg) {
    spawner *s = static_cast<spawner *>(arg);
    if (how->error != 0 || how->status != 0) fail("a child ended with %s, %d", mio_error_name(how->error), how->status);
    mio_handle_close(process, nullptr, nullptr);
    if (s->begun < s->wanted) mio_start(s);
}

static void mio_start(spawner *s) {
    mio_stdio_t stdio[3] = {};
    for (mio_stdio_t &one : stdio) one.kind = MIO_STDIO_INHERIT;
    mio_process_options_t options = MIO_PROCESS_OPTIONS_INIT;
    options.file = s->path;
    options.stdio = stdio;
    options.stdio_count = 3;
    mio_process_t *process;
    const int error = mio_process_spawn(s->loop, &options, on_exit, s, &process);
    if (error < 0) fail("mio_process_spawn: %s", mio_error_name(error));
    s->begun++;
}

static void mio_open(spawner *s, mio_backend backend) {
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.backend = backend;
    const int error = mio_loop_create(&s->loop, &options);
    if (error < 0) fail("mio_loop_create: %s", mio_error_name(error));
}

static void mio_open_chosen(spawner *s) { mio_open(s, MIO_BACKEND_AUTO); }
static void mio_open_epoll(spawner *s) { mio_open(s, MIO_BACKEND_EPOLL); }

static void mio_spawned(spawner *s, unsigned n) {
    s->wanted = n;
    s->begun = 0;
    while (s->begun < s->depth) mio_start(s);
    if (mio_loop_run(s->loop) != 0) fail("mio_loop_run");
}

static void mio_close(spawner *s) {
    if (mio_loop_destroy(s->loop, MIO_SECOND) != 0) fail("mio_loop_destroy");
}

// --- the cells ------------------------------------------------------------------------------------------------------

static const struct way {
    const char *what;
    void (*open)(spawner *s);
    void (*spawn)(spawner *s, unsigned n);
    void (*close)(spawner *s);
} ways[] = {
    {"vfork(2), execve(2), waitpid(2)", nothing, vfork_spawned, nothing},
    {"posix_spawn(3), waitpid(2)", nothing, posix_spawned, nothing},
    {"libmio on the backend it chooses", mio_open_chosen, mio_spawned, mio_close},
    {"libmio on epoll", mio_open_epoll, mio_spawned, mio_close},
};
constexpr unsigned WAYS = sizeof ways / sizeof ways[0];
constexpr unsigned COMPARED_WITH = 1; // of the ways

static double used_ns(int whose) {
    struct rusage used;
    if (getrusage(whose, &used) != 0) fail_errno("getrusage");
    const int64_t us = (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * INT64_C(1000000) + used.ru_utime.tv_usec +
                       used.ru_stime.tv_usec;
    return static_cast<double>(us) * 1000;
}

static double all_used_ns() { return used_ns(RUSAGE_SELF) + used_ns(RUSAGE_CHILDREN); }

static void depth_run(const settings *with, char *path, unsigned depth) {
    static spawner spawners[WAYS];
    figures wall[WAYS], cpu[WAYS], wall_ratio[WAYS], cpu_ratio[WAYS];
    const unsigned rounds = with->rounds < 40 ? with->rounds : 40;
    for (unsigned i = 0; i < WAYS; i++) {
        spawners[i].path = path;
        spawners[i].depth = depth;
        ways[i].open(&spawners[i]);
        ways[i].spawn(&spawners[i], SPAWNS / 8);
        for (figures *f : {&wall[i], &cpu[i], &wall_ratio[i], &cpu_ratio[i]}) figures_open(f, rounds);
    }
    for (unsigned round = 0; round < rounds; round++) {
        double took[WAYS], used[WAYS];
        for (unsigned k = 0; k < WAYS; k++) {
            const unsigned i = round % 2 == 0 ? k : WAYS - 1 - k;
            const double used_begun_ns = all_used_ns();
            const int64_t begun_ns = clock_ns();
            ways[i].spawn(&spawners[i], SPAWNS);
            took[i] = static_cast<double>(clock_ns() - begun_ns) / SPAWNS;
            used[i] = (all_used_ns() - used_begun_ns) / SPAWNS;
        }
        for (unsigned i = 0; i < WAYS; i++) {
            figures_add(&wall[i], took[i]);
            figures_add(&cpu[i], used[i]);
            figures_add(&wall_ratio[i], took[i] / took[COMPARED_WITH]);
            figures_add(&cpu_ratio[i], used[i] / used[COMPARED_WITH]);
        }
    }
    for (unsigned i = 0; i < WAYS; i++) {
        char name[64], what[96];
        snprintf(name, sizeof name, "spawn/%u", depth);
        snprintf(what, sizeof what, "%s (x%.2f)", ways[i].what, figures_percentile(&wall_ratio[i], 50));
        report_one(with, name, what, figures_percentile(&wall[i], 10), figures_percentile(&wall[i], 50));
        snprintf(what, sizeof what, "%s, CPU (x%.2f)", ways[i].what, figures_percentile(&cpu_ratio[i], 50));
        report_one(with, name, what, figures_percentile(&cpu[i], 10), figures_percentile(&cpu[i], 50));
        ways[i].close(&spawners[i]);
        for (figures *f : {&wall[i], &cpu[i], &wall_ratio[i], &cpu_ratio[i]}) figures_close(f);
    }
}

void spawn_run(const settings *with) {
    static constexpr unsigned depths[] = {1, SPAWN_DEPTH_MAX};
    char path[] = "/tmp/mio-bench-XXXXXX";
    bool made = false;
    for (unsigned depth : depths) {
        char name[64];
        snprintf(name, sizeof name, "spawn/%u", depth);
        if (!cell_wanted(with, name)) continue;
        if (with->list) {
            printf("%s\n", name);
            continue;
        }
        if (!made) {
            char line[160];
            snprintf(line, sizeof line,
                     "Processes (%s), ns each; x: median of the rounds' ratios to posix_spawn:", child_make(path));
            report_heading(with, line);
            report_one_heading(with);
            made = true;
        }
        depth_run(with, path, depth);
    }
    if (made && strcmp(path, "/bin/true") != 0) unlink(path);
}

}
