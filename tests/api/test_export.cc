// Exported loops: the file that others look at.
#include "harness.h"

#include <atomic>

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace api;

struct place {
    char directory[64];
    char path[96];
};

static void place_make(place *p) {
    snprintf(p->directory, sizeof p->directory, "/tmp/mio-export-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(p->directory));
    snprintf(p->path, sizeof p->path, "%s/page", p->directory);
}

static void place_end(const place *p) { assert_is(rmdir(p->directory), 0); }

static mio_export_t look(const char *path) {
    mio_export_t seen = MIO_EXPORT_INIT;
    assert_is(mio_export_read(path, &seen), 0);
    return seen;
}

TEST(an_export_answers_each_mistake) {
    mio_loop_t *loop = loop_open();
    place p;
    place_make(&p);
    char missing[128], longer[5000];
    snprintf(missing, sizeof missing, "%s/not/there", p.directory);
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    assert_is(mio_loop_export(nullptr, nullptr, p.path), MIO_EINVAL);
    assert_is(mio_loop_export(loop, longer, p.path), MIO_EINVAL);
    assert_is(mio_loop_export(loop, nullptr, longer), MIO_EINVAL);
    assert_is(mio_loop_export(loop, nullptr, ""), MIO_EINVAL);
    if (on_sim()) {
        assert_is(mio_loop_export(loop, nullptr, p.path), MIO_ENOTSUP);
        place_end(&p);
        return;
    }
    assert_is(mio_loop_export(loop, nullptr, missing), MIO_ENOENT);
    assert_is(mio_loop_export(loop, nullptr, p.directory), MIO_EEXIST);
    assert_is(symlink("elsewhere", p.path), 0);
    assert_is(mio_loop_export(loop, nullptr, p.path), MIO_EEXIST); // not through a link that somebody put there
    assert_is(unlink(p.path), 0);
    assert_is(mio_loop_export(loop, nullptr, p.path), 0);
    assert_is(mio_loop_export(loop, nullptr, p.path), MIO_EALREADY);
    loop_close(loop);
    place_end(&p);
}

TEST(a_read_of_an_export_answers_each_mistake) {
    place p;
    place_make(&p);
    mio_export_t seen = MIO_EXPORT_INIT;
    assert_is(mio_export_read(nullptr, &seen), MIO_EINVAL);
    assert_is(mio_export_read(p.path, nullptr), MIO_EINVAL);
    assert_is(mio_export_read(p.path, &seen), MIO_ENOENT);
    assert_is(mio_export_read(p.directory, &seen), MIO_EINVAL);
    const int fd = open(p.path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_ok(fd);
    assert_is(mio_export_read(p.path, &seen), MIO_EINVAL); // an empty file
    assert_is(ftruncate(fd, 4096), 0);
    assert_is(mio_export_read(p.path, &seen), MIO_EINVAL); // of nothing
    close(fd);
    assert_is(unlink(p.path), 0);
    assert_is(mkfifo(p.path, 0600), 0);
    assert_is(mio_export_read(p.path, &seen), MIO_EINVAL); // and does not wait for a writer
    assert_is(unlink(p.path), 0);
    seen.size = 0;
    assert_is(mio_export_read(p.path, &seen), MIO_EINVAL);
    place_end(&p);
}

// A name that does not end, in a file that somebody else wrote, ends all the same.
TEST(a_hostile_name_in_an_export_ends) {
    KERNEL_ONLY("a world's loops are not exported");
    mio_loop_t *loop = loop_open();
    place p;
    place_make(&p);
    assert_is(mio_loop_export(loop, "0123456789", p.path), 0);
    const int fd = open(p.path, O_RDWR | O_CLOEXEC);
    assert_ok(fd);
    char bytes[4096], long_name[sizeof(mio_export_t::name) + sizeof(mio_export_t::backend)];
    assert_is(pread(fd, bytes, sizeof bytes, 0), 4096);
    auto *at = static_cast<char *>(memmem(bytes, sizeof bytes, "0123456789", 10));
    ck_assert_ptr_nonnull(at);
    memset(long_name, 'x', sizeof long_name);
    assert_is(pwrite(fd, long_name, sizeof long_name, at - bytes), static_cast<ssize_t>(sizeof long_name));
    const mio_export_t seen = look(p.path);
    assert_is(strnlen(seen.name, sizeof seen.name), sizeof seen.name - 1);
    assert_is(strnlen(seen.backend, sizeof seen.backend), sizeof seen.backend - 1);
    close(fd);
    loop_close(loop);
    place_end(&p);
}

// A file that is cut off while somebody looks at it is an error, not a signal.
TEST(a_file_that_shrinks_under_a_read_kills_nobody) {
    KERNEL_ONLY("a world's loops are not exported");
    mio_loop_t *loop = loop_open();
    place p;
    place_make(&p);
    assert_is(mio_loop_export(loop, nullptr, p.path), 0);
    struct cutter {
        std::atomic<bool> over;
        char bytes[4096];
        int fd;
    } c = {};
    char copy[112];
    snprintf(copy, sizeof copy, "%s-copy", p.path);
    c.fd = open(copy, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_ok(c.fd);
    const int from = open(p.path, O_RDONLY | O_CLOEXEC);
    assert_is(pread(from, c.bytes, sizeof c.bytes, 0), 4096);
    close(from);
    pthread_t thread;
    assert_is(pthread_create(&thread, nullptr, [](void *arg) -> void * {
        auto *of = static_cast<cutter *>(arg);
        while (!of->over.load()) {
            if (ftruncate(of->fd, 0) != 0 || pwrite(of->fd, of->bytes, 4096, 0) != 4096) abort();
        }
        return nullptr;
    }, &c), 0);
    int whole = 0, cut = 0;
    const int64_t end_ns = clock_ns() + patience(10 * MIO_SECOND);
    for (int i = 0; i < 2000 || ((whole == 0 || cut == 0) && clock_ns() < end_ns); i++) {
        mio_export_t seen = MIO_EXPORT_INIT;
        const int error = mio_export_read(copy, &seen);
        ck_assert_msg(error == 0 || error == MIO_EINVAL || error == MIO_EAGAIN, "%d", error);
        if (error == 0) whole++;
        else cut++;
    }
    ck_assert_int_gt(whole, 0);
    ck_assert_int_gt(cut, 0);
    c.over.store(true);
    assert_is(pthread_join(thread, nullptr), 0);
    close(c.fd);
    assert_is(unlink(copy), 0);
    loop_close(loop);
    place_end(&p);
}

// Posts to a loop that has been asleep for a while, as its export says: it sleeps, however late it came to that.
struct waker {
    const char *path;
    mio_remote_t *remote;
    mio_post_cb post;
    void *arg;
    pthread_t thread;
};

static void *waker_run(void *arg) {
    const waker *w = static_cast<const waker *>(arg);
    const int64_t end_ns = clock_ns() + patience(15 * MIO_SECOND);
    mio_export_t seen = MIO_EXPORT_INIT;
    while ((mio_export_read(w->path, &seen) != 0 || seen.asleep_since_ns == 0) && clock_ns() < end_ns)
        sleep_ns(MIO_MILLISECOND);
    sleep_ns(15 * MIO_MILLISECOND);
    if (mio_remote_post(w->remote, w->post, w->arg) != 0) abort();
    return nullptr;
}

static void sleep_and_wake(mio_loop_t *loop, const place *p, mio_post_cb post, void *arg) {
    waker w = {p->path, mio_loop_remote(loop), post, arg, {}};
    assert_is(pthread_create(&w.thread, nullptr, waker_run, &w), 0);
    run_to_stop(loop);
    assert_is(pthread_join(w.thread, nullptr), 0);
}

TEST(an_export_shows_the_metrics_until_the_loop_ends) {
    KERNEL_ONLY("a world's loops are not exported");
    mio_loop_t *loop = loop_open();
    place p;
    place_make(&p);
    assert_is(mio_loop_export(loop, "front", p.path), 0);
    struct stat facts;
    assert_is(stat(p.path, &facts), 0);
    assert_is(facts.st_mode & 0777, 0600);
    mio_export_t seen = look(p.path);
    assert_is(seen.pid, getpid());
    ck_assert_str_eq(seen.name, "front");
    ck_assert_str_eq(seen.backend, mio_loop_backend(loop));
    ck_assert_int_gt(seen.exported_ns, 0);
    static mio_timer_t *timer;
    assert_is(mio_timer_create(loop, &timer), 0);
    assert_is(mio_loop_hold(loop, 1), 0);
    uint64_t rounds = 0;
    do { // what was slowest is told of two seconds, which may be over when we look
        rounds++;
        sleep_and_wake(loop, &p, [](mio_loop_t *, int, void *arg) {
            const mio_export_t inside = look(static_cast<const place *>(arg)->path);
            // What was written before the sleep is what is seen now.
            ck_assert_int_gt(inside.asleep_since_ns, 0);
            assert_is(inside.metrics.handles, 1);
            busy_ns(3 * MIO_MILLISECOND);
            assert_is(mio_timer_start(timer, 0, 0, timer_stops, nullptr), 0);
        }, &p);
        seen = look(p.path);
    } while (rounds < 2 || (seen.slowest_ns < 3 * MIO_MILLISECOND && rounds < 20));
    assert_is(mio_loop_hold(loop, -1), 0);
    assert_is(seen.asleep_since_ns, 0);
    assert_is(seen.metrics.timers_fired, rounds); // of this moment: the run's end is written, too
    ck_assert_int_ge(seen.metrics.timers_fired, 1);
    ck_assert_int_ge(seen.metrics.polls_waited, 2);
    ck_assert_int_ge(seen.asleep_ns, 10 * MIO_MILLISECOND);
    ck_assert_int_ge(seen.slowest_ns, 3 * MIO_MILLISECOND);
    ck_assert_int_ge(metrics(loop).slowest_callback_ns, 3 * MIO_MILLISECOND);
    loop_close(loop);
    assert_is(access(p.path, F_OK), -1);
    place_end(&p);
}

TEST(a_host_that_sleeps_in_the_loops_place_is_seen) {
    KERNEL_ONLY("a world's loops are not exported");
    mio_loop_t *loop = loop_open();
    if (mio_loop_fd(loop) == MIO_ENOTSUP) SKIP("this ring takes no host");
    place p;
    place_make(&p);
    assert_is(mio_loop_export(loop, nullptr, p.path), 0);
    int64_t timeout_ns = 0;
    assert_is(mio_loop_prepare(loop, &timeout_ns), 0);
    assert_is(timeout_ns, -1);
    ck_assert_int_gt(look(p.path).asleep_since_ns, 0);
    sleep_ns(5 * MIO_MILLISECOND);
    assert_ok(mio_loop_dispatch(loop));
    const mio_export_t seen = look(p.path);
    assert_is(seen.asleep_since_ns, 0);
    ck_assert_int_ge(seen.asleep_ns, 5 * MIO_MILLISECOND);
    loop_close(loop);
    place_end(&p);
}

TEST(who_runs_a_loop_that_another_process_made_is_shown) {
    KERNEL_ONLY("a world's loops are not exported");
    mio_loop_t *loop = loop_open();
    place p;
    place_make(&p);
    assert_is(mio_loop_export(loop, nullptr, p.path), 0);
    const pid_t child = fork(); // as daemon(3) does
    assert_ok(child);
    if (child == 0) {
        const bool good = mio_loop_run(loop) == 0 && look(p.path).pid == getpid() && mio_loop_destroy(loop, 0) == 0;
        leave(good && access(p.path, F_OK) == -1 ? 0 : 1);
    }
    assert_is(child_status(child), 0);
    loop_close(loop);
    place_end(&p);
}

TEST(a_program_that_goes_elsewhere_still_removes_its_file) {
    KERNEL_ONLY("a world's loops are not exported");
    mio_loop_t *loop = loop_open();
    place p;
    place_make(&p);
    assert_is(chdir(p.directory), 0);
    assert_is(mio_loop_export(loop, nullptr, "page"), 0);
    assert_is(chdir("/"), 0);
    assert_is(access(p.path, F_OK), 0);
    loop_close(loop);
    assert_is(access(p.path, F_OK), -1);
    place_end(&p);
}

TEST(a_shorter_look_at_an_export_fills_what_it_knows) {
    KERNEL_ONLY("a world's loops are not exported");
    mio_loop_t *loop = loop_open();
    place p;
    place_make(&p);
    assert_is(mio_loop_export(loop, nullptr, p.path), 0);
    mio_export_t seen;
    memset(&seen, 0x5a, sizeof seen);
    seen.size = offsetof(mio_export_t, name);
    assert_is(mio_export_read(p.path, &seen), 0);
    assert_is(seen.pid, getpid());
    assert_is(seen.name[0], 0x5a);
    loop_close(loop);
    place_end(&p);
}

TEST(two_loops_are_exported_to_files_of_their_own) {
    KERNEL_ONLY("a world's loops are not exported");
    mio_loop_t *a = loop_open(), *b = loop_open();
    assert_is(mio_loop_export(a, "a", nullptr), 0);
    assert_is(mio_loop_export(b, "b", nullptr), 0);
    char prefix[64];
    snprintf(prefix, sizeof prefix, MIO_EXPORT_PREFIX "%d.", getpid());
    const char *directory = access(MIO_EXPORT_DIRECTORY, F_OK) == 0 ? MIO_EXPORT_DIRECTORY : MIO_EXPORT_DIRECTORY_2;
    for (int expected = 2; expected >= 0; expected -= 2) {
        int found = 0;
        DIR *list = opendir(directory);
        ck_assert_ptr_nonnull(list);
        while (const dirent *entry = readdir(list)) found += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
        closedir(list);
        assert_is(found, expected);
        if (expected == 0) break;
        loop_close(a);
        loop_close(b);
    }
}

// The words of one state belong together, whoever looks, whenever.
TEST(who_looks_while_the_loop_turns_sees_whole_states) {
    KERNEL_ONLY("a world's loops are not exported");
    mio_loop_t *loop = loop_open();
    static place p;
    static std::atomic<bool> over, has_looked;
    over = has_looked = false;
    place_make(&p);
    assert_is(mio_loop_export(loop, nullptr, p.path), 0);
    pthread_t reader;
    assert_is(pthread_create(&reader, nullptr, [](void *) -> void * {
        intptr_t looks = 0;
        uint64_t turns = 0;
        while (!over.load()) {
            mio_export_t seen = MIO_EXPORT_INIT;
            const int error = mio_export_read(p.path, &seen);
            if (error == MIO_EAGAIN) continue; // descheduled in the midst of it
            if (error != 0 || seen.metrics.turns < turns || seen.metrics.polls + 1 < seen.metrics.turns) return nullptr;
            turns = seen.metrics.turns;
            looks++;
            has_looked = true;
        }
        return reinterpret_cast<void *>(looks);
    }, nullptr), 0);
    mio_timer_t *timer;
    static int64_t end_ns;
    end_ns = clock_ns() + patience(15 * MIO_SECOND);
    assert_is(mio_timer_create(loop, &timer), 0);
    assert_is(mio_timer_start(timer, 0, 100 * MIO_MICROSECOND, [](mio_timer_t *self, void *) {
        static int rounds;
        if (++rounds >= 300 && (has_looked.load() || clock_ns() > end_ns)) mio_timer_stop(self);
    }, nullptr), 0);
    run_to_end(loop);
    over = true;
    void *looks;
    assert_is(pthread_join(reader, &looks), 0);
    ck_assert_int_gt(reinterpret_cast<intptr_t>(looks), 0);
    loop_close(loop);
    place_end(&p);
}

TEST(a_forks_child_leaves_the_file_to_its_parent) {
    KERNEL_ONLY("a world's loops are not exported");
    mio_loop_t *loop = loop_open();
    place p;
    place_make(&p);
    assert_is(mio_loop_export(loop, nullptr, p.path), 0);
    const pid_t child = fork();
    assert_ok(child);
    if (child == 0) {
        const bool good = mio_loop_export(loop, nullptr, nullptr) == MIO_EPERM && mio_loop_destroy(loop, 0) == 0;
        leave(good ? 0 : 1);
    }
    assert_is(child_status(child), 0);
    assert_is(look(p.path).pid, getpid());
    loop_close(loop);
    assert_is(access(p.path, F_OK), -1);
    place_end(&p);
}
