// Watches with a kernel that says what the test wants: its records, in its portions, and its refusals.
#include "support/cmocka.h"
#include "support/failing.h"

#include "base/notify.h"
#include "core/loop.h"

#include <mio.h>

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <deque>
#include <string>
#include <vector>

using namespace mio;

// --- a kernel of the test's own: an eventfd that can be read while it has something to say ----------------------------

struct kernel {
    std::deque<std::string> portions; // what each read gives; "!": an error
    std::vector<int> removed;
    int next_id, read_error, fd;
};
static kernel world;
static sys table;
static int64_t now_ns; // a half is kept for so short a time that no two turns are certain to be within it

static int64_t own_now() { return now_ns; }

static int own_open() {
    world.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return world.fd;
}
static int own_add(int, const char *path, uint32_t) { return path[0] == '=' ? path[1] - '0' : world.next_id++; }
static int own_remove(int, int id) {
    world.removed.push_back(id);
    return 0;
}
static void say(const std::string &portion) {
    world.portions.push_back(portion);
    const uint64_t one = 1;
    assert_int_equal(write(world.fd, &one, sizeof one), 8);
}
static ssize_t own_read(int, void *to, size_t n) {
    if (world.portions.empty()) return -EAGAIN;
    const std::string portion = world.portions.front();
    world.portions.pop_front();
    uint64_t count;
    if (world.portions.empty()) assert_int_equal(read(world.fd, &count, sizeof count), 8);
    if (portion == "!") return -world.read_error;
    assert_true(portion.size() <= n);
    memcpy(to, portion.data(), portion.size());
    return static_cast<ssize_t>(portion.size());
}

static std::string record(int id, uint32_t mask, uint32_t cookie, const char *name) {
    const std::string text(name);
    const uint32_t len = text.empty() ? 0 : static_cast<uint32_t>((text.size() + 16) / 16 * 16);
    const notify_record head = {id, mask, cookie, len};
    std::string out(reinterpret_cast<const char *>(&head), sizeof head);
    return out + text + std::string(len - text.size(), '\0');
}

// --- a loop with watches ----------------------------------------------------------------------------------------------

static loop *l;
static mio_loop_t *on;
static std::string told;
static mio_watch_t *closes; // by whoever is told next
static const char *opens;   // the same

static void watch_told(mio_watch_t *, int status, const mio_watch_event_t *event, void *arg) {
    told += static_cast<const char *>(arg);
    if (status < 0) {
        told += std::string(mio_error_name(status)) + " ";
        return;
    }
    static const char *const signs[] = {"+", "~", "=", "-", ">", "@", "!"};
    int sign = 0;
    while ((event->what >> sign) != 1) sign++;
    told += std::string(signs[sign]) + (event->name != nullptr ? event->name : "*");
    if (event->what == MIO_WATCH_RENAMED) told += std::string(",") + (event->new_name != nullptr ? event->new_name : "*");
    told += " ";
    if (closes != nullptr) mio_handle_close(closes, nullptr, nullptr);
    closes = nullptr;
    const char *path = opens;
    opens = nullptr;
    mio_watch_t *out;
    if (path != nullptr)
        assert_int_equal(mio_watch_open(on, path, MIO_WATCH_ALL, watch_told, const_cast<char *>("N"), &out), 0);
}

static int scene_open(void **) {
    world = kernel();
    world.next_id = 1;
    table = sys_real;
    now_ns = MIO_SECOND;
    table.monotonic_ns = own_now;
    table.notify_open = own_open;
    table.notify_add = own_add;
    table.notify_remove = own_remove;
    table.notify_read = own_read;
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.backend = MIO_BACKEND_EPOLL;
    told.clear();
    closes = nullptr;
    opens = nullptr;
    const int error = loop_create(&l, &options, &table);
    on = loop_public(l);
    return error;
}

static int scene_close(void **) { return mio_loop_destroy(on, MIO_FOREVER); }

static mio_watch_t *watch(const char *path, const char *name, unsigned what = MIO_WATCH_ALL) {
    mio_watch_t *out;
    assert_int_equal(mio_watch_open(on, path, what, watch_told, const_cast<char *>(name), &out), 0);
    return out;
}

static void turns(int n) {
    while (n-- > 0) assert_true(mio_loop_run_once(on, 0) >= 0);
}

static void assert_told(const char *text) {
    assert_string_equal(told.c_str(), text);
    told.clear();
}

// Until a half is told alone, which it is soon.
static void wait_for_halves() {
    for (int i = 0; i < 2000 && told.empty(); i++) {
        now_ns += MIO_MILLISECOND;
        turns(1);
    }
}

static void two_halves_in_two_portions_are_one_rename(void **) {
    watch("a", "A");
    say(record(1, NOTIFY_MOVED_FROM, 7, "old"));
    turns(2);
    assert_told("");
    say(record(1, NOTIFY_MOVED_TO, 7, "new"));
    turns(2);
    assert_told("A>old,new ");
}

static void renames_that_cross_are_told_apart(void **) {
    watch("a", "A");
    say(record(1, NOTIFY_MOVED_FROM, 1, "one") + record(1, NOTIFY_MOVED_FROM, 2, "two") + record(1, NOTIFY_CREATE, 0, "other") +
        record(1, NOTIFY_MOVED_TO, 2, "zwei") + record(1, NOTIFY_MOVED_TO, 1, "eins"));
    turns(2);
    assert_told("A+other A>two,zwei A>one,eins ");
}

static void a_half_alone_is_told_soon(void **) {
    watch("a", "A");
    watch("b", "B", MIO_WATCH_REMOVED | MIO_WATCH_CREATED);
    say(record(1, NOTIFY_MOVED_FROM, 1, "gone") + record(2, NOTIFY_MOVED_TO, 1, "came"));
    turns(2);
    assert_told("B+came "); // the folders know one name each
    wait_for_halves();
    assert_told("A>gone,* ");
    say(record(2, NOTIFY_MOVED_FROM, 2, "left"));
    wait_for_halves();
    assert_told("B-left ");
}

// The time of an earlier one is up while the second half waits to be read.
static void a_second_half_that_waits_is_read_first(void **) {
    watch("a", "A");
    say(record(1, NOTIFY_MOVED_FROM, 1, "gone"));
    turns(2); // its time runs
    say(record(1, NOTIFY_MOVED_FROM, 2, "old"));
    turns(1);
    say(record(1, NOTIFY_MOVED_TO, 2, "new") + record(1, NOTIFY_MOVED_FROM, 3, "young"));
    now_ns += 20 * MIO_MILLISECOND;
    wait_for_halves();
    assert_told("A>old,new A>gone,* ");
    wait_for_halves();
    assert_told("A>young,* ");
}

static void news_of_the_old_name_end_the_wait(void **) {
    watch("a", "A");
    say(record(1, NOTIFY_MOVED_FROM, 1, "name") + record(1, NOTIFY_CREATE, 0, "name") + record(1, NOTIFY_MOVED_TO, 1, "late"));
    turns(2);
    assert_told("A>name,* A+name A>*,late ");
    say(record(1, NOTIFY_MOVED_FROM, 2, "same") + record(1, NOTIFY_MOVED_TO, 2, "same")); // onto itself: one rename
    turns(2);
    assert_told("A>same,same ");
}

static void more_halves_than_are_kept_lose_no_name(void **) {
    watch("a", "A");
    std::string many;
    for (char c = '1'; c <= '6'; c++) many += record(1, NOTIFY_MOVED_FROM, static_cast<uint32_t>(c), std::string(1, c).c_str());
    say(many + record(1, NOTIFY_MOVED_TO, '6', "six"));
    turns(2);
    assert_told("A>1,* A>2,* A>6,six ");
    wait_for_halves();
    assert_told("A>3,* A>4,* A>5,* ");
}

static void the_end_comes_behind_what_was_before(void **) {
    watch("a", "A");
    watch("b", "B");
    say(record(1, NOTIFY_MOVED_FROM, 1, "x") + record(1, NOTIFY_DELETE_SELF, 0, "") + record(1, NOTIFY_IGNORED, 0, "") +
        record(1, NOTIFY_CREATE, 0, "ghost"));
    turns(3);
    assert_told("A>x,* A- AMIO_ENOENT ");
    say(record(1, NOTIFY_CREATE, 0, "ghost") + record(2, NOTIFY_CREATE, 0, "x"));
    turns(2);
    assert_told("B+x ");
}

static void who_has_the_id_is_told_and_nobody_else(void **) {
    watch("=3", "A", MIO_WATCH_CREATED);
    mio_watch_t *other = watch("=3", "B", MIO_WATCH_CREATED | MIO_WATCH_REMOVED);
    watch("=5", "C");
    say(record(3, NOTIFY_CREATE, 0, "x") + record(3, NOTIFY_DELETE, 0, "x") + record(9, NOTIFY_CREATE, 0, "nobody's"));
    turns(2);
    assert_true(told == "A+x B+x B-x " || told == "B+x A+x B-x ");
    told.clear();
    assert_int_equal(world.removed.size(), 0);
    closes = other; // by whoever is first: the other is not told, be it itself or not
    say(record(3, NOTIFY_DELETE, 0, "x") + record(3, NOTIFY_CREATE, 0, "y"));
    turns(3);
    assert_told("B-x A+y BMIO_ECANCELED ");
    assert_int_equal(world.removed.size(), 0); // somebody has it still
    say(record(-1, NOTIFY_OVERFLOW, 0, "") + record(5, NOTIFY_OVERFLOW, 0, ""));
    turns(2);
    assert_true(told == "A!* C!* C!* " || told == "C!* A!* C!* ");
}

// Everybody is told of an overflow, and the table of ids grows meanwhile: none is lost from it.
static void a_watch_is_opened_while_all_are_told(void **) {
    mio_watch_t *all[16];
    for (mio_watch_t *&one : all) one = watch("a", "A"); // as many as the first table has room for
    opens = "b";
    say(record(-1, NOTIFY_OVERFLOW, 0, ""));
    turns(2);
    std::string everybody;
    for (int i = 0; i < 16; i++) everybody += "A!* ";
    assert_told(everybody.c_str());
    for (int id = 1; id <= 17; id++) {
        say(record(id, NOTIFY_CREATE, 0, "x"));
        turns(2);
        assert_told(id == 17 ? "N+x " : "A+x ");
    }
    for (mio_watch_t *one : all) assert_int_equal(mio_handle_close(one, nullptr, nullptr), 0);
    turns(2);
    assert_int_equal(world.removed.size(), 16);
}

static void records_that_no_kernel_sends_are_left_out(void **) {
    watch("a", "A");
    std::string endless = record(1, NOTIFY_CREATE, 0, "name");
    const notify_record head = {1, NOTIFY_CREATE, 0, 0xfffffff0u};
    memcpy(&endless[0], &head, sizeof head);
    say(record(1, NOTIFY_CREATE, 0, "a") + endless);
    std::string open_end = record(1, NOTIFY_CREATE, 0, "0123456789abcdef");
    memset(&open_end[sizeof(notify_record)], 'x', open_end.size() - sizeof(notify_record));
    say(open_end + record(1, NOTIFY_CREATE, 0, "b") + std::string("short"));
    say(record(1, 0, 0, "of nothing") + record(1, NOTIFY_UNMOUNT, 0, ""));
    turns(5);
    assert_told("A+a A+b ");
}

static void an_error_is_told_and_passes(void **) {
    watch("a", "A");
    world.read_error = EINTR;
    say("!");
    say(record(1, NOTIFY_CREATE, 0, "a"));
    turns(3);
    assert_told("A+a ");
    world.read_error = EIO;
    say("!");
    turns(2);
    assert_told("AMIO_EIO ");
    say(record(1, NOTIFY_CREATE, 0, "b"));
    wait_for_halves();
    assert_told("A+b ");
}

static void what_watches_share_is_not_counted(void **) {
    watch("a", "A");
    watch("b", "B");
    mio_loop_metrics_t now = MIO_LOOP_METRICS_INIT;
    assert_int_equal(mio_loop_metrics(on, &now), 0);
    assert_int_equal(now.handles, 2);
    int lines = 0;
    assert_int_equal(mio_loop_dump(on, [](const char *, void *n) { ++*static_cast<int *>(n); }, &lines), 0);
    assert_int_equal(lines, 2);
}

static void the_last_one_gives_the_descriptor_back(void **) {
    mio_watch_t *one = watch("a", "A");
    mio_watch_t *two = watch("b", "B");
    turns(2);
    assert_int_equal(mio_handle_close(one, nullptr, nullptr), 0);
    turns(2);
    assert_int_equal(world.removed.size(), 1);
    say(record(2, NOTIFY_CREATE, 0, "x"));
    closes = two;
    turns(3);
    assert_told("AMIO_ECANCELED B+x BMIO_ECANCELED ");
    const uint64_t one_more = 1;
    assert_int_equal(write(world.fd, &one_more, sizeof one_more), -1);
    watch("c", "C"); // and there is a fresh one
    say(record(3, NOTIFY_CREATE, 0, "y"));
    turns(2);
    assert_told("C+y ");
}

// --- the real one, with refusals --------------------------------------------------------------------------------------

static int refused_open(void **) {
    const sys *calls = test::failing_open(&sys_real);
    told.clear();
    closes = nullptr;
    mio_loop_options_t options = MIO_LOOP_OPTIONS_INIT;
    options.backend = MIO_BACKEND_EPOLL;
    const int error = loop_create(&l, &options, calls);
    on = loop_public(l);
    return error;
}
static int refused_close(void **) {
    test::failing_never();
    const int left = mio_loop_destroy(on, MIO_FOREVER);
    return left != 0 ? left : test::failing_close();
}

static void refused(test::call which, int error, int expected) {
    mio_watch_t *out = nullptr;
    test::failing_at(which, 1, error);
    assert_int_equal(mio_watch_open(on, "/", MIO_WATCH_CREATED, watch_told, const_cast<char *>("R"), &out), expected);
    assert_true(test::failing_happened());
    assert_null(out);
    test::failing_never();
}

static void exhausted_watches_are_told_and_nothing_is_taken(void **) {
    refused(test::call::notify_add, ENOSPC, MIO_ENOSPC);
    refused(test::call::notify_add, EACCES, MIO_EACCES);
    refused(test::call::notify_open, EMFILE, MIO_EMFILE);
    refused(test::call::notify_open, ENOSYS, MIO_ENOTSUP);
    turns(3);
    assert_int_equal(l->open_handles, 0);
    assert_null(l->watches);
    mio_watch_t *out;
    assert_int_equal(mio_watch_open(on, "/", MIO_WATCH_CREATED, watch_told, const_cast<char *>("A"), &out), 0);
    turns(2);
    refused(test::call::notify_add, ENOSPC, MIO_ENOSPC); // those that are there go on
    assert_non_null(l->watches);
    assert_int_equal(l->open_handles, 2);
    turns(2);
    assert_told("");
}

// The backend cannot watch the notices' own descriptor for a while.
static void a_backend_that_is_short_of_memory_is_told_and_passes(void **) {
    test::failing_at(test::call::epoll_ctl, 1, ENOMEM);
    mio_watch_t *out;
    char name[] = "/tmp/mio-unit-XXXXXX";
    assert_non_null(mkdtemp(name));
    assert_int_equal(mio_watch_open(on, name, MIO_WATCH_REMOVED, watch_told, const_cast<char *>("A"), &out), 0);
    turns(2);
    assert_told("AMIO_ENOMEM ");
    assert_int_equal(rmdir(name), 0);
    for (int i = 0; i < 2000 && told != "A- AMIO_ENOENT "; i++) assert_true(mio_loop_run_once(on, 5 * MIO_MILLISECOND) >= 0);
    assert_told("A- AMIO_ENOENT ");
}

static int child_destroys() { return mio_loop_destroy(on, 0) == 0 ? test::failing_close() : 1; }

static void in_a_forks_child_all_memory_goes_with_the_loop(void **) {
    mio_watch_t *out;
    assert_int_equal(mio_watch_open(on, "/", MIO_WATCH_CREATED, watch_told, const_cast<char *>("A"), &out), 0);
    turns(2);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(child_destroys() == 0 ? 0 : 1);
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_told("");
}

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(two_halves_in_two_portions_are_one_rename, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(renames_that_cross_are_told_apart, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(a_half_alone_is_told_soon, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(a_second_half_that_waits_is_read_first, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(news_of_the_old_name_end_the_wait, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(more_halves_than_are_kept_lose_no_name, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(the_end_comes_behind_what_was_before, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(who_has_the_id_is_told_and_nobody_else, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(a_watch_is_opened_while_all_are_told, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(records_that_no_kernel_sends_are_left_out, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(an_error_is_told_and_passes, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(what_watches_share_is_not_counted, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(the_last_one_gives_the_descriptor_back, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(exhausted_watches_are_told_and_nothing_is_taken, refused_open, refused_close),
        cmocka_unit_test_setup_teardown(a_backend_that_is_short_of_memory_is_told_and_passes, refused_open, refused_close),
        cmocka_unit_test_setup_teardown(in_a_forks_child_all_memory_goes_with_the_loop, refused_open, refused_close),
    };
    return cmocka_run_group_tests_name("watch", tests, nullptr, nullptr);
}
