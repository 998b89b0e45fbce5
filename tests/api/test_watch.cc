// Watches: what happens to files and folders.
#include "harness.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace api;

// --- a folder of the test's own -------------------------------------------------------------------------------------

static char folder[64];

static const char *path_of(const char *name) {
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void folder_make() {
    strcpy(folder, "/tmp/mio-watch-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void folder_remove() {
    DIR *dir = opendir(folder);
    if (dir == nullptr) return;
    while (const struct dirent *entry = readdir(dir)) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (unlink(path_of(entry->d_name)) < 0) rmdir(path_of(entry->d_name));
    }
    closedir(dir);
    rmdir(folder);
}

static void file_write(const char *name, const char *text) {
    const int fd = open(path_of(name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    assert_is(write(fd, text, strlen(text)), static_cast<int>(strlen(text)));
    close(fd);
}

static void file_rename(const char *from, const char *to) { assert_is(rename(path_of(from), path_of(to)), 0); }

// --- what a watch told ----------------------------------------------------------------------------------------------

struct seen {
    int calls, ends, status;
    char text[2048]; // "+a " created, "-a " removed, "a>b " renamed, "~a " changed, "=a " written, "@a " attributes, "! " lost
};

static void watch_told(mio_watch_t *, int status, const mio_watch_event_t *event, void *arg) {
    if (is_over()) return;
    seen *told = static_cast<seen *>(arg);
    told->calls++;
    assert_is(status == 0, event != nullptr);
    if (status < 0) {
        told->status = status;
        if (status == MIO_ECANCELED || status == MIO_ENOENT) told->ends++;
        return;
    }
    assert_is(told->ends, 0);
    char line[600] = "?";
    const char *name = event->name != nullptr ? event->name : "*";
    const char *new_name = event->new_name != nullptr ? event->new_name : "*";
    const char *slash = event->is_folder != 0 ? "/" : "";
    switch (event->what) {
    case MIO_WATCH_CREATED: snprintf(line, sizeof line, "+%s%s ", name, slash); break;
    case MIO_WATCH_REMOVED: snprintf(line, sizeof line, "-%s%s ", name, slash); break;
    case MIO_WATCH_RENAMED: snprintf(line, sizeof line, "%s>%s%s ", name, new_name, slash); break;
    case MIO_WATCH_CHANGED: snprintf(line, sizeof line, "~%s ", name); break;
    case MIO_WATCH_WRITTEN: snprintf(line, sizeof line, "=%s ", name); break;
    case MIO_WATCH_ATTRIBUTES: snprintf(line, sizeof line, "@%s ", name); break;
    case MIO_WATCH_OVERFLOW: snprintf(line, sizeof line, "! "); break;
    }
    ck_assert_uint_lt(strlen(told->text) + strlen(line), sizeof told->text);
    strcat(told->text, line);
}

static mio_watch_t *watch_open(mio_loop_t *loop, const char *path, unsigned what, seen *told) {
    mio_watch_t *watch;
    *told = seen();
    assert_is(mio_watch_open(loop, path, what, watch_told, told, &watch), 0);
    return watch;
}

// Runs until the watch has told as much, or time that is long for a kernel to tell.
static void run_until(mio_loop_t *loop, const seen *told, const char *text) {
    const int64_t until_ns = clock_ns() + patience(20 * MIO_SECOND);
    while (strlen(told->text) < strlen(text) && clock_ns() < until_ns) assert_ok(mio_loop_run_once(loop, 20 * MIO_MILLISECOND));
    ck_assert_str_eq(told->text, text);
}

// What is told soon if it is told at all.
static void run_quietly(mio_loop_t *loop) {
    for (int i = 0; i < 10; i++) assert_ok(mio_loop_run_once(loop, MIO_MILLISECOND));
}

#define NEEDS_NAMES()                                             \
    KERNEL_ONLY("a simulated world has no files");                \
    if (on_kqueue()) SKIP("kqueue tells no names, and its model has no files"); \
    folder_make()

TEST(a_watch_answers_each_mistake) {
    mio_loop_t *loop = loop_open();
    static seen told;
    mio_watch_t *watch = nullptr;
    assert_is(mio_watch_open(nullptr, "/", MIO_WATCH_ALL, watch_told, &told, &watch), MIO_EINVAL);
    assert_is(mio_watch_open(loop, nullptr, MIO_WATCH_ALL, watch_told, &told, &watch), MIO_EINVAL);
    assert_is(mio_watch_open(loop, "/", 0, watch_told, &told, &watch), MIO_EINVAL);
    assert_is(mio_watch_open(loop, "/", MIO_WATCH_OVERFLOW, watch_told, &told, &watch), MIO_EINVAL);
    assert_is(mio_watch_open(loop, "/", MIO_WATCH_ALL, nullptr, &told, &watch), MIO_EINVAL);
    assert_is(mio_watch_open(loop, "/", MIO_WATCH_ALL, watch_told, &told, nullptr), MIO_EINVAL);
    if (on_sim()) {
        assert_is(mio_watch_open(loop, "/", MIO_WATCH_ALL, watch_told, &told, &watch), MIO_ENOTSUP);
    } else {
        const size_t before = open_descriptors();
        char endless[5000];
        memset(endless, 'x', sizeof endless);
        endless[sizeof endless - 1] = 0;
        assert_is(mio_watch_open(loop, "", MIO_WATCH_ALL, watch_told, &told, &watch), MIO_ENOENT);
        assert_is(mio_watch_open(loop, "/there/is/no/such/file", MIO_WATCH_ALL, watch_told, &told, &watch), MIO_ENOENT);
        assert_is(mio_watch_open(loop, "/dev/null/file", MIO_WATCH_ALL, watch_told, &told, &watch), MIO_ENOTDIR);
        assert_is(mio_watch_open(loop, endless, MIO_WATCH_ALL, watch_told, &told, &watch), MIO_ENAMETOOLONG);
        run_to_end(loop);
        ck_assert_uint_eq(open_descriptors(), before);
    }
    ck_assert_ptr_null(watch);
    assert_is(told.calls, 0);
    run_to_end(loop);
}

TEST(a_file_that_is_written_is_told) {
    NEEDS_NAMES();
    mio_loop_t *loop = loop_open();
    file_write("file", "one");
    static seen told;
    mio_watch_t *watch = watch_open(loop, path_of("file"), MIO_WATCH_ALL, &told);
    assert_is(mio_handle_kind(watch), MIO_KIND_WATCH);
    ck_assert_ptr_eq(mio_watch_from(watch), watch);
    ck_assert_ptr_null(mio_poll_from(watch));
    file_write("file", "two");
    run_until(loop, &told, "~ = ");
    assert_is(chmod(path_of("file"), 0640), 0);
    run_until(loop, &told, "~ = @ ");
    assert_is(truncate(path_of("file"), 0), 0);
    run_until(loop, &told, "~ = @ ~ ");
    outcome closed = {};
    assert_is(mio_handle_close(watch, close_told, &closed), 0);
    file_write("file", "three");
    run_to_end(loop);
    ck_assert_str_eq(told.text, "~ = @ ~ ");
    assert_is(told.status, MIO_ECANCELED);
    assert_is(told.ends, 1);
    assert_is(closed.calls, 1);
    folder_remove();
}

TEST(the_names_of_a_folder_are_told) {
    NEEDS_NAMES();
    mio_loop_t *loop = loop_open();
    static seen told;
    mio_watch_t *watch = watch_open(loop, folder, MIO_WATCH_CREATED | MIO_WATCH_REMOVED | MIO_WATCH_RENAMED, &told);
    file_write("a", "x");
    file_rename("a", "b");
    assert_is(mkdir(path_of("deep"), 0700), 0);
    assert_is(link(path_of("b"), path_of("c")), 0);
    assert_is(unlink(path_of("b")), 0);
    file_rename("deep", "deeper");
    file_write("deeper/inside", "not told");
    assert_is(unlink(path_of("deeper/inside")), 0);
    assert_is(rmdir(path_of("deeper")), 0);
    run_until(loop, &told, "+a a>b +deep/ +c -b deep>deeper/ -deeper/ ");
    char longest[256];
    memset(longest, 'n', 255);
    longest[255] = 0;
    told.text[0] = 0;
    file_rename("c", longest);
    char expected[600];
    snprintf(expected, sizeof expected, "c>%s ", longest);
    run_until(loop, &told, expected);
    told.text[0] = 0;
    file_rename(longest, "c");
    snprintf(expected, sizeof expected, "%s>c ", longest);
    run_until(loop, &told, expected);
    mio_handle_abandon(watch);
    folder_remove();
    run_to_end(loop);
}

TEST(a_name_that_comes_from_elsewhere_or_goes_there_is_told) {
    NEEDS_NAMES();
    mio_loop_t *loop = loop_open();
    assert_is(mkdir(path_of("left"), 0700), 0);
    assert_is(mkdir(path_of("right"), 0700), 0);
    file_write("a", "x");
    static seen left, right, names;
    mio_watch_t *first = watch_open(loop, path_of("left"), MIO_WATCH_ALL & ~MIO_WATCH_ATTRIBUTES, &left);
    mio_watch_t *second = watch_open(loop, path_of("right"), MIO_WATCH_RENAMED, &right);
    file_rename("a", "left/b"); // from a folder that is not watched
    run_until(loop, &left, "*>b ");
    file_rename("left/b", "right/c"); // each knows one name
    run_until(loop, &left, "*>b b>* ");
    run_until(loop, &right, "*>c ");
    file_rename("right/c", "a");
    run_until(loop, &right, "*>c c>* ");
    mio_handle_abandon(second);
    mio_watch_t *third = watch_open(loop, path_of("right"), MIO_WATCH_CREATED | MIO_WATCH_REMOVED, &names); // no renames
    file_rename("a", "right/d");
    file_rename("right/d", "right/e");
    file_rename("right/e", "a");
    run_until(loop, &names, "+d -d +e -e ");
    // The name comes anew before it is known where the old one went: in order all the same.
    file_rename("a", "left/f");
    left.text[0] = 0;
    run_until(loop, &left, "*>f ");
    left.text[0] = 0;
    file_rename("left/f", "a");
    file_write("left/f", "y");
    run_until(loop, &left, "f>* +f ~f =f ");
    mio_handle_abandon(first);
    mio_handle_abandon(third);
    run_to_end(loop);
    assert_is(unlink(path_of("left/f")), 0);
    folder_remove();
}

// More renames wait than are read at once, so that the two halves of one come in two reads; one name went elsewhere and
// is waited for meanwhile, and who is told takes longer than that.
TEST(a_rename_is_one_however_slow_its_listener_is) {
    NEEDS_NAMES();
    mio_loop_t *loop = loop_open();
    static int renames, halves;
    renames = halves = 0;
    file_write("a", "x");
    file_write("gone", "x");
    assert_is(mkdir(path_of("deep"), 0700), 0);
    auto slow = [](mio_watch_t *, int status, const mio_watch_event_t *event, void *) {
        if (status < 0 || is_over()) return;
        if (event->what != MIO_WATCH_RENAMED || event->name == nullptr || event->new_name == nullptr) halves++;
        else if (renames++ % 50 == 0) usleep(10000);
    };
    mio_watch_t *watch;
    assert_is(mio_watch_open(loop, folder, MIO_WATCH_RENAMED | MIO_WATCH_ATTRIBUTES, slow, nullptr, &watch), 0);
    file_rename("gone", "deep/gone");
    for (int i = 0; i < 400; i++) file_rename(i % 2 == 0 ? "a" : "b", i % 2 == 0 ? "b" : "a");
    const int64_t until_ns = clock_ns() + patience(5 * MIO_SECOND);
    while (renames + halves < 401 && clock_ns() < until_ns) assert_ok(mio_loop_run_once(loop, 20 * MIO_MILLISECOND));
    assert_is(renames, 400);
    assert_is(halves, 1); // who went
    mio_handle_abandon(watch);
    assert_is(unlink(path_of("deep/gone")), 0);
    folder_remove();
}

// The kernel would make one of two first halves of a rename that lie side by side, and the second rename would be two.
TEST(a_name_that_went_and_came_back_is_renamed_in_one) {
    NEEDS_NAMES();
    mio_loop_t *loop = loop_open();
    static seen told;
    file_write("a", "x");
    assert_is(mkdir(path_of("deep"), 0700), 0);
    mio_watch_t *watch = watch_open(loop, folder, MIO_WATCH_RENAMED, &told);
    file_rename("a", "deep/a");
    file_write("a", "y"); // not asked for
    file_rename("a", "b");
    run_until(loop, &told, "a>* a>b ");
    assert_is(unlink(path_of("deep/a")), 0);
    mio_handle_abandon(watch);
    folder_remove();
    run_to_end(loop);
}

// As editors do; and what the header says that one should watch.
TEST(a_file_that_is_replaced_is_gone_and_its_folder_tells_the_new_one) {
    NEEDS_NAMES();
    mio_loop_t *loop = loop_open();
    file_write("config", "old");
    static seen file, around;
    mio_watch_t *on_file = watch_open(loop, path_of("config"), MIO_WATCH_CHANGED | MIO_WATCH_REMOVED, &file);
    mio_watch_t *on_folder = watch_open(loop, folder, MIO_WATCH_REPLACED, &around);
    for (int i = 0; i < 2; i++) {
        around.text[0] = 0;
        file_write("config.new", "new");
        file_rename("config.new", "config");
        run_until(loop, &around, "+config.new =config.new config.new>config ");
    }
    run_until(loop, &file, "- ");
    run_quietly(loop);
    assert_is(file.ends, 1);
    assert_is(file.status, MIO_ENOENT);
    outcome closed = {};
    assert_is(mio_handle_close(on_file, close_told, &closed), 0);
    mio_handle_abandon(on_folder);
    run_to_end(loop);
    assert_is(closed.calls, 1);
    assert_is(file.ends, 1); // the last call had been
    folder_remove();
}

TEST(a_folder_that_is_removed_is_gone) {
    NEEDS_NAMES();
    mio_loop_t *loop = loop_open();
    assert_is(mkdir(path_of("deep"), 0700), 0);
    static seen told, other;
    watch_open(loop, path_of("deep"), MIO_WATCH_ALL, &told);
    watch_open(loop, path_of("deep"), MIO_WATCH_CREATED, &other); // the same for the kernel
    file_rename("deep", "moved"); // it is the folder that is watched, not its name
    run_until(loop, &told, ">* ");
    file_write("moved/a", "x");
    assert_is(unlink(path_of("moved/a")), 0);
    assert_is(rmdir(path_of("moved")), 0);
    run_to_end(loop); // a watch of what is gone keeps no loop
    ck_assert_ptr_nonnull(strstr(told.text, ">* +a ~a =a -a "));
    ck_assert_str_eq(other.text, "+a ");
    assert_is(told.status, MIO_ENOENT);
    assert_is(other.status, MIO_ENOENT);
    assert_is(told.ends + other.ends, 2);
    folder_remove();
}

TEST(watches_of_one_file_are_told_each_what_it_asked_for) {
    NEEDS_NAMES();
    mio_loop_t *loop = loop_open();
    static seen one, two, three;
    mio_watch_t *first = watch_open(loop, folder, MIO_WATCH_CREATED, &one);
    mio_watch_t *second = watch_open(loop, folder, MIO_WATCH_REMOVED, &two);
    file_write("a", "x");
    assert_is(unlink(path_of("a")), 0);
    run_until(loop, &one, "+a ");
    run_until(loop, &two, "-a ");
    mio_handle_abandon(first); // the other one goes on
    watch_open(loop, path_of("."), MIO_WATCH_CREATED, &three);
    file_write("b", "x");
    assert_is(unlink(path_of("b")), 0);
    run_until(loop, &two, "-a -b ");
    run_until(loop, &three, "+b ");
    ck_assert_str_eq(one.text, "+a ");
    mio_handle_abandon(second);
    folder_remove();
    run_to_end(loop); // the third sees its folder go
    assert_is(three.status, MIO_ENOENT);
}

// --- whoever is told does something to the rest ---------------------------------------------------------------------

constexpr int HERD = 6;
struct herd {
    mio_watch_t *all[HERD];
    bool gone[HERD];
    int events, lasts, how;
    seen fresh;
};
static herd now;

static void herd_told(mio_watch_t *self, int status, const mio_watch_event_t *, void *arg) {
    if (is_over()) return;
    const int me = static_cast<int>(reinterpret_cast<intptr_t>(arg));
    if (status < 0) {
        now.lasts++;
        return;
    }
    ck_assert(!now.gone[me]);
    now.events++;
    for (int i = 0; i < HERD; i++) {
        if (now.gone[i]) continue;
        now.gone[i] = true;
        if (now.how == 0) assert_is(mio_handle_close(now.all[i], nullptr, nullptr), 0);
        else mio_handle_abandon(now.all[i]);
    }
    if (now.how == 2) watch_open(mio_handle_loop(self), folder, MIO_WATCH_CREATED, &now.fresh);
}

TEST(watches_are_closed_by_whoever_is_told_first) {
    NEEDS_NAMES();
    mio_loop_t *loop = loop_open();
    for (int how = 0; how < 3; how++) {
        now = herd();
        now.how = how;
        for (int i = 0; i < HERD; i++) { // half of them on the same folder
            char name[8] = "";
            if (i >= HERD / 2) snprintf(name, sizeof name, "d%d", i);
            if (i >= HERD / 2 && how == 0) assert_is(mkdir(path_of(name), 0700), 0);
            assert_is(mio_watch_open(loop, path_of(name), MIO_WATCH_ATTRIBUTES | MIO_WATCH_CREATED, herd_told,
                                     reinterpret_cast<void *>(static_cast<intptr_t>(i)), &now.all[i]), 0);
        }
        for (int i = HERD / 2; i < HERD; i++) {
            char name[8];
            snprintf(name, sizeof name, "d%d", i);
            assert_is(chmod(path_of(name), 0750), 0);
        }
        char fresh[8];
        snprintf(fresh, sizeof fresh, "n%d", how);
        file_write(fresh, "x");
        if (how == 2) {
            while (now.events == 0) assert_ok(mio_loop_run_once(loop, MIO_SECOND));
            ck_assert_str_eq(now.fresh.text, ""); // what was read before is none of its affair
            file_write("later", "x");
            run_until(loop, &now.fresh, "+later ");
        } else {
            run_to_end(loop);
        }
        assert_is(now.events, 1);
        assert_is(now.lasts, how == 0 ? HERD : 0);
    }
    loop_close(loop);
    folder_remove();
}

TEST(a_loop_is_destroyed_with_watches_on_it) {
    NEEDS_NAMES();
    mio_loop_t *loop = loop_open();
    const size_t before = open_descriptors();
    static int cancelled;
    cancelled = 0;
    mio_watch_t *watch;
    for (int i = 0; i < 40; i++) {
        char name[8];
        snprintf(name, sizeof name, "f%d", i / 2);
        if (i % 2 == 0) file_write(name, "x");
        assert_is(mio_watch_open(loop, path_of(name), MIO_WATCH_ALL, [](mio_watch_t *, int status, const mio_watch_event_t *, void *) {
            if (status == MIO_ECANCELED) cancelled++;
        }, nullptr, &watch), 0);
    }
    run_quietly(loop);
    for (int i = 0; i < 20; i++) {
        char name[8];
        snprintf(name, sizeof name, "f%d", i);
        file_write(name, "y");
    }
    assert_is(mio_loop_destroy(loop, MIO_FOREVER), 0);
    loop_forget(loop);
    assert_is(cancelled, 40);
    ck_assert_uint_lt(open_descriptors(), before);
    folder_remove();
}

TEST(a_watch_is_closed_and_abandoned_in_every_state) {
    NEEDS_NAMES();
    mio_loop_t *loop = loop_open();
    static seen told;
    size_t before = 0;
    for (int i = 0; i < 12; i++) {
        mio_watch_t *watch = watch_open(loop, folder, MIO_WATCH_ALL, &told);
        if (i % 3 >= 1) run_quietly(loop);
        if (i % 3 == 2) file_write("a", "x");
        outcome closed = {};
        const bool abandons = i % 4 >= 2;
        if (i % 4 != 3) assert_is(mio_handle_close(watch, close_told, &closed), 0);
        if (abandons) mio_handle_abandon(watch);
        run_to_end(loop);
        assert_is(told.calls, abandons ? 0 : 1);
        assert_is(closed.calls, abandons ? 0 : 1);
        if (i == 2) before = open_descriptors(); // the ring has what it needs for the first one by then
        if (i > 2) ck_assert_uint_eq(open_descriptors(), before);
    }
    folder_remove();
}

TEST(an_unreferenced_watch_keeps_no_loop) {
    NEEDS_NAMES();
    mio_loop_t *loop = loop_open();
    static seen told;
    mio_watch_t *watch = watch_open(loop, folder, MIO_WATCH_ALL, &told);
    assert_is(mio_loop_run_once(loop, 0), MIO_ALIVE);
    assert_is(mio_handle_unref(watch), 0);
    assert_is(mio_loop_run(loop), 0);
    mio_handle_abandon(watch);
    folder_remove();
}

TEST(a_watch_without_memory_is_refused) {
    NEEDS_NAMES();
    mio_loop_t *loop = loop_open();
    counting *count = loop_counting(loop);
    const size_t before = open_descriptors();
    static seen told;
    mio_watch_t *watch = nullptr;
    int tries = 0;
    for (int64_t nth = 1;; nth++) { // each of the allocations that the first one needs
        count->fail_at = nth;
        const int error = mio_watch_open(loop, folder, MIO_WATCH_ALL, watch_told, &told, &watch);
        count->fail_at = 0;
        if (error == 0) break;
        assert_is(error, MIO_ENOMEM);
        ck_assert_int_lt(++tries, 10);
        run_to_end(loop);
        ck_assert_uint_eq(open_descriptors(), before);
    }
    ck_assert_int_ge(tries, 2);
    told = seen();
    file_write("a", "x");
    run_until(loop, &told, "+a ~a =a ");
    mio_handle_abandon(watch);
    folder_remove();
}

TEST(a_queue_that_overflows_is_told) {
    NEEDS_NAMES();
    unsigned most = 0;
    FILE *limit = fopen("/proc/sys/fs/inotify/max_queued_events", "re");
    if (limit != nullptr) {
        if (fscanf(limit, "%u", &most) != 1) most = 0;
        fclose(limit);
    }
    if (most == 0 || most > 50000) SKIP("the limit of inotify's queue is not known, or not reached soon");
    mio_loop_t *loop = loop_open();
    static int events, lost;
    events = lost = 0;
    file_write("a", "x");
    file_write("b", "x");
    auto count = [](mio_watch_t *watch, int status, const mio_watch_event_t *event, void *) {
        if (status < 0 || is_over()) return;
        if (event->what != MIO_WATCH_OVERFLOW) {
            events++;
            return;
        }
        ck_assert_ptr_null(event->name);
        if (++lost == 2) mio_loop_stop(mio_handle_loop(watch));
    };
    mio_watch_t *watches[2];
    assert_is(mio_watch_open(loop, folder, MIO_WATCH_ATTRIBUTES, count, nullptr, &watches[0]), 0);
    assert_is(mio_watch_open(loop, "/", MIO_WATCH_CREATED, count, nullptr, &watches[1]), 0); // everybody is told
    for (unsigned i = 0; i < most + 100; i++) assert_is(chmod(path_of(i % 2 == 0 ? "a" : "b"), i % 4 < 2 ? 0600 : 0640), 0);
    run_to_stop(loop);
    ck_assert_int_le(events, static_cast<int>(most));
    const int before = events;
    assert_is(chmod(path_of("a"), 0700), 0); // and it goes on
    const int64_t until_ns = clock_ns() + patience(20 * MIO_SECOND);
    while (events == before && clock_ns() < until_ns) assert_ok(mio_loop_run_once(loop, 20 * MIO_MILLISECOND));
    ck_assert_int_gt(events, before);
    for (mio_watch_t *watch : watches) mio_handle_abandon(watch);
    folder_remove();
}

constexpr int FLOCK = 200;

TEST(many_watches_share_one_descriptor) {
    NEEDS_NAMES();
    mio_loop_t *loop = loop_open();
    const size_t before = open_descriptors();
    static seen told[FLOCK];
    static mio_watch_t *watches[FLOCK];
    char name[16];
    for (int i = 0; i < FLOCK; i++) {
        snprintf(name, sizeof name, "f%d", i);
        file_write(name, "x");
        watches[i] = watch_open(loop, path_of(name), MIO_WATCH_WRITTEN, &told[i]);
    }
    ck_assert_uint_le(open_descriptors(), before + 1);
    for (int i = 0; i < FLOCK; i += 2) mio_handle_abandon(watches[i]);
    for (int i = 0; i < FLOCK; i++) {
        snprintf(name, sizeof name, "f%d", i);
        file_write(name, "y");
    }
    run_until(loop, &told[FLOCK - 1], "= ");
    run_quietly(loop);
    for (int i = 0; i < FLOCK; i++) ck_assert_str_eq(told[i].text, i % 2 == 0 ? "" : "= ");
    for (int i = 1; i < FLOCK; i += 2) assert_is(mio_handle_close(watches[i], nullptr, nullptr), 0);
    run_to_end(loop);
    folder_remove();
}
