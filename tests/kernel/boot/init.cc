// The first process of a kernel that is booted for its tests: tests/kernel/boot/run packs it as /init with the programs
// that it is to start and with /jobs, which says how. It decides nothing about what is right: it does what a line says
// and tells on the second serial port what came of it. There is no shell and no library beside it, so it is linked
// statically; what goes wrong in it ends the machine.
//
//   sysctl NAME VALUE      writes it; "@sysctl NAME VALUE", or "@sysctl NAME none" where this kernel has none
//   job NAME SECONDS [user=UID] [group=GID] [capability=N] [memlock=BYTES] [env=NAME=VALUE] -- COMMAND...
//                          "@begin NAME", what it writes, "@end NAME EXIT_STATUS MILLISECONDS": 124 when it was ended
//                          for its time, 128 + N when it was ended by signal N
//
// Words are parted by single blanks and not quoted. Everything that a job has started is gone before the next begins.
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <initializer_list>

namespace boot {

constexpr int ENDED_FOR_ITS_TIME = 124, NOT_STARTED = 127, WORDS_MAX = 64;

static const char *doing = "begin";

[[noreturn]] static void give_up() {
    printf("@broken %s: %s\n", doing, strerror(errno));
    fflush(stdout);
    tcdrain(STDOUT_FILENO);
    reboot(RB_AUTOBOOT);
    for (;;) pause();
}

static void need(bool holds, const char *what) {
    doing = what;
    if (!holds) give_up();
}

static int64_t clock_ms() {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

// --- the machine ----------------------------------------------------------------------------------------------------

static void mount_all() {
    for (const char *at : {"/proc", "/sys", "/dev", "/tmp", "/etc"}) mkdir(at, 0755);
    need(mount("proc", "/proc", "proc", 0, nullptr) == 0, "mount /proc");
    need(mount("sysfs", "/sys", "sysfs", 0, nullptr) == 0, "mount /sys");
    need(mount("dev", "/dev", "devtmpfs", 0, nullptr) == 0, "mount /dev");
    need(mount("tmp", "/tmp", "tmpfs", 0, "mode=1777") == 0, "mount /tmp");
    mkdir("/dev/shm", 01777);
    need(mount("shm", "/dev/shm", "tmpfs", 0, "mode=1777") == 0, "mount /dev/shm");
}

// What is said goes to the second port: the first one belongs to the kernel's own messages.
static void speak() {
    const int port = open("/dev/ttyS1", O_RDWR | O_NOCTTY);
    need(port >= 0, "open /dev/ttyS1");
    struct termios settings;
    need(tcgetattr(port, &settings) == 0, "tcgetattr");
    cfmakeraw(&settings);
    need(tcsetattr(port, TCSANOW, &settings) == 0, "tcsetattr");
    const int nothing = open("/dev/null", O_RDWR);
    need(nothing >= 0, "open /dev/null");
    dup2(nothing, STDIN_FILENO);
    dup2(port, STDOUT_FILENO);
    dup2(port, STDERR_FILENO);
    if (nothing > STDERR_FILENO) close(nothing);
    if (port > STDERR_FILENO) close(port);
    setvbuf(stdout, nullptr, _IOLBF, 0);
}

static void raise_loopback() {
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    need(fd >= 0, "socket");
    struct ifreq request = {};
    strcpy(request.ifr_name, "lo");
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    need(ioctl(fd, SIOCSIFFLAGS, &request) == 0, "raise lo");
    close(fd);
}

// --- one job --------------------------------------------------------------------------------------------------------

struct job {
    const char *name;
    int64_t limit_ms;
    long user, group, capability, memlock; // -1: as they are
    char *environment[WORDS_MAX + 1], *command[WORDS_MAX + 1];
};

static bool value_of(char *word, const char *name, long *to) {
    const size_t n = strlen(name);
    if (strncmp(word, name, n) != 0 || word[n] != '=') return false;
    *to = atol(word + n + 1);
    return true;
}

static bool job_read(char **words, int n, job *to) {
    static char path[] = "PATH=/bin", home[] = "HOME=/tmp";
    *to = {};
    to->user = to->group = to->capability = to->memlock = -1;
    if (n < 5) return false;
    to->name = words[1];
    to->limit_ms = atol(words[2]) * 1000;
    int at = 3, variables = 0;
    to->environment[variables++] = path;
    to->environment[variables++] = home;
    for (; at < n && strcmp(words[at], "--") != 0; at++) {
        if (strncmp(words[at], "env=", 4) == 0) to->environment[variables++] = words[at] + 4;
        else if (!value_of(words[at], "user", &to->user) && !value_of(words[at], "group", &to->group) &&
                 !value_of(words[at], "capability", &to->capability) && !value_of(words[at], "memlock", &to->memlock))
            return false;
    }
    for (int i = at + 1; i < n; i++) to->command[i - at - 1] = words[i];
    return to->command[0] != nullptr;
}

// One capability that outlives the change of the user and the exec.
static void keep_capability(long which) {
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2] = {};
    const uint32_t bit = 1u << (which % 32);
    sets[which / 32] = {bit, bit, bit};
    need(syscall(SYS_capset, &head, sets) == 0, "capset");
    need(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, which, 0, 0) == 0, "raise a capability");
}

[[noreturn]] static void job_become(const job *of) {
    setsid();
    if (of->memlock >= 0) {
        const struct rlimit limit = {static_cast<rlim_t>(of->memlock), static_cast<rlim_t>(of->memlock)};
        need(setrlimit(RLIMIT_MEMLOCK, &limit) == 0, "limit locked memory");
    }
    if (of->capability >= 0) need(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0, "keep capabilities");
    if (of->group >= 0) {
        const gid_t group = static_cast<gid_t>(of->group);
        need(syscall(SYS_setgroups, 0, nullptr) == 0 && setresgid(group, group, group) == 0, "change the group");
    }
    if (of->user >= 0) {
        const uid_t user = static_cast<uid_t>(of->user);
        need(setresuid(user, user, user) == 0, "change the user");
    }
    if (of->capability >= 0) keep_capability(of->capability);
    execve(of->command[0], of->command, of->environment);
    printf("%s: %s\n", of->command[0], strerror(errno));
    fflush(stdout);
    _exit(NOT_STARTED);
}

// Everybody but this process; as the first one it inherits whoever loses its parent.
static void end_all() {
    kill(-1, SIGKILL);
    while (waitpid(-1, nullptr, 0) > 0 || errno == EINTR) {}
}

static void job_run(const job *of) {
    printf("@begin %s\n", of->name);
    fflush(stdout);
    const int64_t begun_ms = clock_ms();
    const pid_t child = fork();
    need(child >= 0, "fork");
    if (child == 0) job_become(of);
    int status = 0, result = ENDED_FOR_ITS_TIME;
    for (;;) {
        const pid_t gone = waitpid(-1, &status, WNOHANG);
        if (gone == child) {
            result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            break;
        }
        if (clock_ms() - begun_ms > of->limit_ms) break;
        if (gone <= 0) poll(nullptr, 0, 20);
    }
    end_all();
    printf("\n@end %s %d %lld\n", of->name, result, static_cast<long long>(clock_ms() - begun_ms));
    fflush(stdout);
    tcdrain(STDOUT_FILENO);
}

// --- the list -------------------------------------------------------------------------------------------------------

static void sysctl_write(const char *name, const char *value) {
    char path[256];
    snprintf(path, sizeof path, "/proc/sys/%s", name);
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        need(errno == ENOENT, "open a sysctl");
        printf("@sysctl %s none\n", name);
        return;
    }
    const ssize_t n = static_cast<ssize_t>(strlen(value));
    need(write(fd, value, static_cast<size_t>(n)) == n, "write a sysctl");
    close(fd);
    printf("@sysctl %s %s\n", name, value);
}

static void line_do(char *line) {
    char *words[WORDS_MAX];
    int n = 0;
    for (char *word = strtok(line, " \n"); word != nullptr && n < WORDS_MAX; word = strtok(nullptr, " \n")) words[n++] = word;
    if (n == 0) return;
    static job one;
    if (n == 3 && strcmp(words[0], "sysctl") == 0) sysctl_write(words[1], words[2]);
    else if (strcmp(words[0], "job") == 0 && job_read(words, n, &one)) job_run(&one);
    else {
        errno = EINVAL;
        need(false, "read /jobs");
    }
}

static void jobs_do() {
    FILE *list = fopen("/jobs", "re");
    need(list != nullptr, "open /jobs");
    static char line[4096];
    while (fgets(line, sizeof line, list) != nullptr) line_do(line);
    fclose(list);
}

}

int main() {
    using namespace boot;
    umask(022);
    mount_all();
    speak();
    raise_loopback();
    struct utsname names;
    need(uname(&names) == 0, "uname");
    printf("@kernel %s %s\n", names.release, names.version);
    sysctl_write("kernel/printk", "1");
    jobs_do();
    printf("@over\n");
    fflush(stdout);
    tcdrain(STDOUT_FILENO);
    reboot(RB_AUTOBOOT); // qemu's -no-reboot makes an end of it
    return 1;
}
