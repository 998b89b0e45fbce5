// File operations against a table of calls that misbehave: interrupted, short, refused in the middle, and a tree that is
// moved while it is removed.
#include "support/cmocka.h"

#include "base/sys.h"
#include "io/fs.h"

#include <mio/error.h>
#include <mio/fs.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

using namespace mio;

// --- a table --------------------------------------------------------------------------------------------------------

static sys_files files;
static sys calls;
static char said[512]; // what was called, in order
static int answers[16], answer_count, answer_next;

static void say(const char *what) {
    const size_t n = strlen(said);
    snprintf(said + n, sizeof said - n, "%s%s", n == 0 ? "" : " ", what);
}

static int answer(int otherwise) { return answer_next < answer_count ? answers[answer_next++] : otherwise; }

static int scripted_close(int) {
    say("close");
    return 0;
}

static int setup(void **) {
    files = sys_files();
    calls = sys();
    calls.files = &files;
    calls.close = scripted_close;
    said[0] = 0;
    answer_count = answer_next = 0;
    return 0;
}

static void script(const int *list, int n) {
    memcpy(answers, list, static_cast<size_t>(n) * sizeof(int));
    answer_count = n;
}

static char scratch[65536 + 4096];
static char path_a[64], path_b[64];

static fs_call call_of(fs_op op) {
    fs_call call;
    memset(&call, 0, sizeof call);
    call.op = op;
    call.fd = 7;
    strcpy(path_a, "a");
    strcpy(path_b, "b");
    call.path = path_a;
    call.to = path_b;
    call.out = scratch;
    call.room = 65536;
    call.result = MIO_ECANCELED;
    return call;
}

// --- bytes ----------------------------------------------------------------------------------------------------------

static int64_t last_offset;
static size_t last_length;

static ssize_t scripted_write(int, const struct iovec *from, int, int64_t offset) {
    say("write");
    last_offset = offset;
    last_length = from->iov_len;
    return answer(static_cast<int>(from->iov_len));
}

static ssize_t scripted_read(int, const struct iovec *to, int, int64_t offset) {
    say("read");
    last_offset = offset;
    return answer(static_cast<int>(to->iov_len));
}

static void a_short_write_goes_on_where_it_stopped(void **) {
    files.write = scripted_write;
    const int list[] = {-EINTR, 3, 4, 1, 2};
    script(list, 5);
    struct iovec pieces[] = {{scratch, 0}, {scratch, 5}, {scratch + 5, 0}, {scratch + 5, 5}};
    fs_call call = call_of(fs_op::write);
    call.pieces = pieces;
    call.piece_count = 4;
    call.offset = 1000;
    fs_perform(&calls, &call);
    assert_int_equal(call.result, 0);
    assert_int_equal(call.moved, 10);
    assert_int_equal(last_offset, 1008);
    assert_int_equal(last_length, 2);
    assert_string_equal(said, "write write write write write");
}

static void a_write_that_fails_in_its_middle_says_how_far_it_came(void **) {
    files.write = scripted_write;
    const int list[] = {6, -ENOSPC};
    script(list, 2);
    struct iovec piece = {scratch, 10};
    fs_call call = call_of(fs_op::write);
    call.pieces = &piece;
    call.piece_count = 1;
    fs_perform(&calls, &call);
    assert_int_equal(call.result, MIO_ENOSPC);
    assert_int_equal(call.moved, 6);
}

static void a_write_that_writes_nothing_does_not_go_on_for_ever(void **) {
    files.write = scripted_write;
    const int list[] = {0};
    script(list, 1);
    struct iovec piece = {scratch, 10};
    fs_call call = call_of(fs_op::write);
    call.pieces = &piece;
    call.piece_count = 1;
    fs_perform(&calls, &call);
    assert_int_equal(call.result, MIO_EIO);
}

static void a_write_of_nothing_makes_no_call(void **) {
    struct iovec piece = {scratch, 0};
    fs_call call = call_of(fs_op::write);
    call.pieces = &piece;
    call.piece_count = 1;
    fs_perform(&calls, &call);
    assert_int_equal(call.result, 0);
    assert_string_equal(said, "");
}

static void a_read_is_asked_again_when_interrupted_and_without_an_offset_where_there_are_none(void **) {
    files.read = scripted_read;
    const int list[] = {-EINTR, -ESPIPE, 4};
    script(list, 3);
    struct iovec piece = {scratch, 10};
    fs_call call = call_of(fs_op::read);
    call.pieces = &piece;
    call.piece_count = 1;
    call.offset = 50;
    fs_perform(&calls, &call);
    assert_int_equal(call.result, 0);
    assert_int_equal(call.moved, 4);
    assert_int_equal(last_offset, -1);
}

static void a_close_that_is_interrupted_has_closed(void **) {
    calls.close = [](int) { return -EINTR; };
    fs_call call = call_of(fs_op::close);
    fs_perform(&calls, &call);
    assert_int_equal(call.result, 0);
}

static void a_descriptor_that_nobody_wants_is_closed_once(void **) {
    fs_call call = call_of(fs_op::open);
    fs_dispose(&calls, &call); // nobody has done it
    assert_string_equal(said, "");
    call.result = 5;
    fs_dispose(&calls, &call);
    fs_dispose(&calls, &call);
    assert_string_equal(said, "close");
    call = call_of(fs_op::fsync);
    call.result = 0;
    fs_dispose(&calls, &call);
    assert_string_equal(said, "close");
}

static void a_close_that_nobody_has_done_is_done_once(void **) {
    fs_call call = call_of(fs_op::close);
    fs_dispose(&calls, &call);
    fs_dispose(&calls, &call);
    assert_string_equal(said, "close");
    call = call_of(fs_op::close);
    fs_perform(&calls, &call);
    fs_dispose(&calls, &call);
    assert_string_equal(said, "close close");
}

// --- copies ---------------------------------------------------------------------------------------------------------

static int copy_open(int, const char *path, int flags, unsigned) {
    say(strcmp(path, "a") == 0 ? "open-a" : (flags & O_EXCL) != 0 ? "make-b" : "open-b");
    return strcmp(path, "a") == 0 ? 5 : 6;
}
static int copy_stat(int fd, const char *, int, sys_stat *out) {
    memset(out, 0, sizeof *out);
    out->mode = S_IFREG | 0644;
    out->inode = static_cast<uint64_t>(fd);
    out->size = 100;
    return 0;
}
static int copy_unlink(int, const char *, int) {
    say("unlink");
    return 0;
}
static ssize_t copy_range(int, int, size_t) {
    say("range");
    return answer(0);
}

static void copy_table() {
    files.open = copy_open;
    files.stat = copy_stat;
    files.unlink = copy_unlink;
    files.clone = [](int, int) { return -EOPNOTSUPP; };
    files.copy_range = copy_range;
    files.read = scripted_read;
    files.write = scripted_write;
}

static void a_copy_that_fails_in_its_middle_removes_what_it_made(void **) {
    copy_table();
    const int list[] = {60, -EINTR, -EIO};
    script(list, 3);
    fs_call call = call_of(fs_op::copy);
    fs_perform(&calls, &call);
    assert_int_equal(call.result, MIO_EIO);
    assert_int_equal(call.moved, 60);
    assert_string_equal(said, "open-a make-b range range range close unlink close");
}

static void a_copy_reads_and_writes_where_the_kernel_will_not_copy(void **) {
    copy_table();
    const int list[] = {-EXDEV, 10, 4, 6, 0}; // range, read, write, write, read
    script(list, 5);
    fs_call call = call_of(fs_op::copy);
    fs_perform(&calls, &call);
    assert_int_equal(call.result, 0);
    assert_int_equal(call.moved, 10);
    assert_string_equal(said, "open-a make-b range read write write read close close");
}

static void a_copy_that_is_given_up_stops_and_removes_what_it_made(void **) {
    copy_table();
    const bool given_up = true;
    fs_call call = call_of(fs_op::copy);
    call.given_up = &given_up;
    fs_perform(&calls, &call);
    assert_int_equal(call.result, MIO_ECANCELED);
    assert_string_equal(said, "open-a make-b close unlink close");
}

// --- trees ----------------------------------------------------------------------------------------------------------

// a/sub, which holds a file. `where` is what the open folder is: 1 is a, 2 is sub, 3 is a stranger.
static int where, sub_files;
static bool moved, listed;

static int tree_open(int, const char *name, int, unsigned) {
    listed = false;
    if (strcmp(name, "a") == 0) where = 1;
    else if (strcmp(name, "sub") == 0) where = 2;
    else if (strcmp(name, "..") == 0) where = moved ? 3 : 1;
    return 10;
}
static int tree_stat(int, const char *, int, sys_stat *out) {
    memset(out, 0, sizeof *out);
    out->mode = S_IFDIR | 0755;
    out->inode = static_cast<uint64_t>(where);
    return 0;
}
static size_t entry_put(char *to, const char *name, uint8_t type) {
    const auto size = static_cast<uint16_t>(SYS_ENTRY_NAME + strlen(name) + 1);
    memset(to, 0, SYS_ENTRY_NAME);
    memcpy(to + 16, &size, sizeof size);
    to[18] = static_cast<char>(type);
    strcpy(to + SYS_ENTRY_NAME, name);
    return size;
}
static bool sub_there;
static ssize_t tree_read_dir(int, void *to, size_t) {
    if (listed) return 0;
    listed = true;
    char *at = static_cast<char *>(to);
    size_t n = entry_put(at, ".", 4);
    n += entry_put(at + n, "..", 4);
    if (where == 1 && sub_there) n += entry_put(at + n, "sub", 4);
    if (where == 2 && sub_files > 0) n += entry_put(at + n, "file", 8);
    if (where == 3) n += entry_put(at + n, "precious", 8);
    return static_cast<ssize_t>(n);
}
static int tree_unlink(int dir, const char *name, int flags) {
    if (strcmp(name, "precious") == 0) fail_msg("removed what lies outside");
    if (strcmp(name, "a") == 0 && dir == AT_FDCWD) {
        if ((flags & AT_REMOVEDIR) == 0) return -EISDIR;
        return sub_there ? -ENOTEMPTY : 0;
    }
    if (strcmp(name, "file") == 0) {
        sub_files--;
        return 0;
    }
    if (sub_files > 0) return -ENOTEMPTY;
    sub_there = false;
    return 0;
}

static void tree_table() {
    files.open = tree_open;
    files.stat = tree_stat;
    files.read_dir = tree_read_dir;
    files.unlink = tree_unlink;
    sub_there = true;
    sub_files = 1;
    moved = false;
}

// Its descriptor's number may be another file's by now.
static void what_goes_by_a_number_is_not_begun_when_it_was_given_up(void **) {
    static const fs_op by_number[] = {fs_op::fsync,  fs_op::fdatasync, fs_op::ftruncate, fs_op::allocate,
                                      fs_op::fchmod, fs_op::fchown,    fs_op::futimes,   fs_op::readdir};
    files.sync = [](int, int) { return say("sync"), 0; };
    files.ftruncate = [](int, int64_t) { return say("ftruncate"), 0; };
    files.allocate = [](int, int, int64_t, int64_t) { return say("allocate"), 0; };
    files.fchmod = [](int, unsigned) { return say("fchmod"), 0; };
    files.fchown = [](int, unsigned, unsigned) { return say("fchown"), 0; };
    files.utimes = [](int, const char *, int64_t, int64_t, int) { return say("utimes"), 0; };
    files.read_dir = [](int, void *, size_t) -> ssize_t { return say("read_dir"), 0; };
    bool given_up = true;
    for (const fs_op op : by_number) {
        fs_call call = call_of(op);
        call.given_up = &given_up;
        fs_perform(&calls, &call);
        assert_int_equal(call.result, MIO_ECANCELED);
    }
    assert_string_equal(said, "");
    given_up = false;
    for (const fs_op op : by_number) {
        fs_call call = call_of(op);
        call.given_up = &given_up;
        fs_perform(&calls, &call);
        assert_int_equal(call.result, op == fs_op::readdir ? static_cast<int>(MIO_EOF) : 0);
    }
    assert_string_equal(said, "sync sync ftruncate allocate fchmod fchown utimes read_dir");
    given_up = true; // but a close, which was promised
    fs_call call = call_of(fs_op::close);
    call.given_up = &given_up;
    fs_perform(&calls, &call);
    assert_int_equal(call.result, 0);
}

static void a_tree_is_removed(void **) {
    tree_table();
    fs_call call = call_of(fs_op::remove_all);
    fs_perform(&calls, &call);
    assert_int_equal(call.result, 0);
    assert_false(sub_there);
}

static void a_folder_that_is_moved_away_does_not_lead_out_of_the_tree(void **) {
    tree_table();
    moved = true; // "..", from sub, is another folder now
    fs_call call = call_of(fs_op::remove_all);
    fs_perform(&calls, &call);
    assert_int_equal(call.result, MIO_ENOENT);
}

static void a_folder_that_is_not_empty_and_shows_nothing_ends_it(void **) {
    tree_table();
    sub_files = 1;
    files.read_dir = [](int fd, void *to, size_t size) -> ssize_t {
        if (where == 2) return 0;
        return tree_read_dir(fd, to, size);
    };
    fs_call call = call_of(fs_op::remove_all);
    fs_perform(&calls, &call);
    assert_int_equal(call.result, MIO_ENOTEMPTY);
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_short_write_goes_on_where_it_stopped, setup),
        cmocka_unit_test_setup(a_write_that_fails_in_its_middle_says_how_far_it_came, setup),
        cmocka_unit_test_setup(a_write_that_writes_nothing_does_not_go_on_for_ever, setup),
        cmocka_unit_test_setup(a_write_of_nothing_makes_no_call, setup),
        cmocka_unit_test_setup(a_read_is_asked_again_when_interrupted_and_without_an_offset_where_there_are_none, setup),
        cmocka_unit_test_setup(a_close_that_is_interrupted_has_closed, setup),
        cmocka_unit_test_setup(a_descriptor_that_nobody_wants_is_closed_once, setup),
        cmocka_unit_test_setup(a_close_that_nobody_has_done_is_done_once, setup),
        cmocka_unit_test_setup(a_copy_that_fails_in_its_middle_removes_what_it_made, setup),
        cmocka_unit_test_setup(a_copy_reads_and_writes_where_the_kernel_will_not_copy, setup),
        cmocka_unit_test_setup(a_copy_that_is_given_up_stops_and_removes_what_it_made, setup),
        cmocka_unit_test_setup(what_goes_by_a_number_is_not_begun_when_it_was_given_up, setup),
        cmocka_unit_test_setup(a_tree_is_removed, setup),
        cmocka_unit_test_setup(a_folder_that_is_moved_away_does_not_lead_out_of_the_tree, setup),
        cmocka_unit_test_setup(a_folder_that_is_not_empty_and_shows_nothing_ends_it, setup),
    };
    return cmocka_run_group_tests_name("fs_perform", tests, nullptr, nullptr);
}
