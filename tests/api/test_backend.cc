// Choosing a backend: by option, by environment, by itself; never silently another one.
#include "harness.h"

#include <pwd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace api;

static int create_with(int backend, char *name, size_t size) {
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    memcpy(&options.backend, &backend, sizeof backend); // also what no enumerator is, as a C program may
    mio_loop_t *loop = nullptr;
    const int error = mio_loop_create(&loop, &options);
    if (error < 0) {
        ck_assert_ptr_null(loop);
        return error;
    }
    snprintf(name, size, "%s", mio_loop_backend(loop));
    assert_is(mio_loop_destroy(loop, 0), 0);
    return 0;
}

// The one that every machine of this kind has, and the one that it never has: no program has both.
static const char *usual_name() { return on_kqueue() ? "kqueue" : "epoll"; }
static int usual() { return on_kqueue() ? MIO_BACKEND_KQUEUE : MIO_BACKEND_EPOLL; }
static int foreign() { return on_kqueue() ? MIO_BACKEND_EPOLL : MIO_BACKEND_KQUEUE; }

TEST(a_backend_that_is_not_there_is_enotsup_and_never_another) {
    KERNEL_ONLY("is about choosing among those of the machine");
    char name[32] = "";
    assert_is(create_with(usual(), name, sizeof name), 0);
    ck_assert_str_eq(name, usual_name());
    assert_is(create_with(foreign(), name, sizeof name), MIO_ENOTSUP);
    const int ring = create_with(MIO_BACKEND_IO_URING, name, sizeof name);
    if (on_kqueue()) assert_is(ring, MIO_ENOTSUP);
    ck_assert(ring == MIO_ENOTSUP || (ring == 0 && strcmp(name, "io_uring") == 0));
    const int unknown = create_with(99, name, sizeof name);
    ck_assert(unknown == MIO_ENOTSUP || unknown == MIO_EINVAL);
    const int worldless = create_with(MIO_BACKEND_SIM, name, sizeof name); // there is no world
    ck_assert_int_lt(worldless, 0);
}

TEST(the_environment_overrides_auto_only) {
    KERNEL_ONLY("is about choosing among those of the machine");
    char name[32] = "";
    setenv("MIO_BACKEND", usual_name(), 1);
    assert_is(create_with(MIO_BACKEND_AUTO, name, sizeof name), 0);
    ck_assert_str_eq(name, usual_name());
    const char *const wrong[] = {"nonsense", on_kqueue() ? "KQUEUE" : "EPOLL", on_kqueue() ? "kqueue " : "epoll ",
                                 on_kqueue() ? "epoll" : "kqueue", "epol", "epolll", "auto,epoll"};
    for (const char *value : wrong) {
        setenv("MIO_BACKEND", value, 1);
        const int got = create_with(MIO_BACKEND_AUTO, name, sizeof name);
        ck_assert_msg(got == MIO_ENOTSUP, "MIO_BACKEND=%s gave %d", value, got);
        name[0] = 0;
        assert_is(create_with(usual(), name, sizeof name), 0); // asked for by name: not looked at
        ck_assert_str_eq(name, usual_name());
    }
    unsetenv("MIO_BACKEND");
    assert_is(create_with(MIO_BACKEND_AUTO, name, sizeof name), 0);
}

TEST(a_world_selects_sim_for_auto) {
    SIM_ONLY("needs a world");
    char name[32] = "";
    world();
    assert_is(create_with(MIO_BACKEND_AUTO, name, sizeof name), 0);
    ck_assert_str_eq(name, "sim");
    assert_is(create_with(MIO_BACKEND_SIM, name, sizeof name), 0);
    ck_assert_str_eq(name, "sim");
}

struct reports {
    int lines, working;
    char usual[200];
};

TEST(the_report_tells_each_candidates_verdict_and_reason) {
    reports seen = {};
    assert_is(mio_backend_report(nullptr, nullptr), MIO_EINVAL);
    assert_ok(mio_backend_report([](const char *backend, int verdict, const char *reason, const char *remedy, void *arg) {
        reports *to = static_cast<reports *>(arg);
        to->lines++;
        ck_assert_ptr_nonnull(reason);
        ck_assert_ptr_nonnull(remedy);
        ck_assert_int_le(verdict, 0);
        if (verdict == 0) to->working++;
        else ck_assert_uint_gt(strlen(reason), 0);
        if (strcmp(backend, usual_name()) == 0) assert_is(verdict, 0);
        if (strcmp(backend, usual_name()) == 0) to->usual[0] = 1;
    }, &seen));
    ck_assert_int_ge(seen.lines, 2);
    ck_assert_int_ge(seen.working, 1);
    assert_is(seen.usual[0], 1);
}

// A copy of this program, asked to make a loop with AUTO: its exit status says what came of it (harness.cc).
static int probe(const char *path, uid_t user, const char *value) {
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        if (user != 0 && setresuid(user, user, user) != 0) leave(99);
        setenv("MIO_BACKEND", value, 1);
        execl(path, "api", "--probe-environment", nullptr);
        leave(98);
    }
    int status = 0;
    assert_is(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(a_setuid_program_ignores_the_environment) {
    KERNEL_ONLY("is about choosing among those of the machine");
    if (geteuid() != 0) SKIP("only root can make a setuid program");
    const struct passwd *nobody = getpwnam("nobody");
    if (nobody == nullptr) SKIP("there is no user nobody");
    char directory[] = "/tmp/mio-setuid-XXXXXX", path[64], command[128];
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/probe", directory);
    snprintf(command, sizeof command, "cp /proc/%d/exe %s", static_cast<int>(getpid()), path);
    assert_is(system(command), 0);
    assert_is(chmod(directory, 0755), 0);
    assert_is(chmod(path, 0755), 0);
    const int plain = probe(path, nobody->pw_uid, "nonsense");
    assert_is(chmod(path, 04755), 0);
    const int privileged = probe(path, nobody->pw_uid, "nonsense");
    unlink(path);
    rmdir(directory);
    if (plain == 98 || plain == 99 || plain == 127) SKIP("the copy cannot be run here");
    assert_is(plain, 3);      // MIO_ENOTSUP: the variable was read
    if (privileged == 3) {    // a mount without suid looks like this
        FILE *mounts = popen("findmnt -no OPTIONS -T /tmp", "r");
        char options[512] = "";
        if (mounts != nullptr && fgets(options, sizeof options, mounts) == nullptr) options[0] = 0;
        if (mounts != nullptr) pclose(mounts);
        if (strstr(options, "nosuid") != nullptr) SKIP("/tmp is mounted nosuid");
    }
    assert_is(privileged, 0);
}

TEST(each_feature_has_a_verdict_and_a_reason_where_it_is_missing) {
    struct seen {
        int features, wrong;
    } all = {};
    const auto one = [](const char *backend, const char *feature, int verdict, const char *reason, void *arg) {
        auto *into = static_cast<seen *>(arg);
        into->features++;
        const bool known = verdict == 0 || verdict == MIO_ENOTSUP || verdict == MIO_ECANCELED;
        if (backend == nullptr || feature == nullptr || *feature == '\0' || !known) into->wrong++;
        if (reason == nullptr || (verdict != 0 && *reason == '\0')) into->wrong++;
    };
    assert_is(mio_backend_features(nullptr, &all), MIO_EINVAL);
    assert_is(mio_backend_features(one, &all), 0);
    assert_is(all.wrong, 0);
    int bits = 0; // a build without io_uring has none
    for (unsigned left = MIO_URING_ALL; left != 0; left >>= 1) bits += static_cast<int>(left & 1);
    ck_assert(all.features == 0 || all.features == bits);
    const int first = all.features;
    assert_is(mio_backend_features(one, &all), 0); // tested once, told as often as one asks
    assert_is(all.features, 2 * first);
}
