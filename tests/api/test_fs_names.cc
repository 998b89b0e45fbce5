// Files by their names: folders, links, what is renamed, removed, listed, copied, and their attributes.
#include "fs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace api;

TEST(fs_makes_and_removes_folders) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    outcome_of o;
    assert_is(room.mkdir("a"), 0);
    assert_is(room.mkdir("a"), MIO_EEXIST);
    assert_is(room.mkdir("b/c"), MIO_ENOENT);
    room.close(room.file("file", 1));
    assert_is(room.mkdir("file/c"), MIO_ENOTDIR);
    assert_is(room.mkdir("file"), MIO_EEXIST);
    ck_assert(S_ISDIR(room.facts("a").mode));
    assert_is(room.mkdir("a/b"), 0);
    assert_ok(mio_fs_rmdir(loop, room.path("a"), o.cb, &o));
    assert_is(o.await(loop), MIO_ENOTEMPTY);
    assert_ok(mio_fs_rmdir(loop, room.path("a/b"), o.cb, &o));
    assert_is(o.await(loop), 0);
    assert_ok(mio_fs_rmdir(loop, room.path("a"), o.cb, &o));
    assert_is(o.await(loop), 0);
    assert_ok(mio_fs_rmdir(loop, room.path("a"), o.cb, &o));
    assert_is(o.await(loop), MIO_ENOENT);
    assert_ok(mio_fs_rmdir(loop, room.path("file"), o.cb, &o));
    assert_is(o.await(loop), MIO_ENOTDIR);
    assert_is(room.unlink("file"), 0);
    assert_is(room.unlink("file"), MIO_ENOENT);
    assert_is(room.mkdir("d"), 0);
    const int unlinked = room.unlink("d");
    ck_assert(unlinked == MIO_EISDIR || unlinked == MIO_EPERM); // Linux, POSIX
}

TEST(fs_makes_all_folders_that_are_missing) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    outcome_of o;
    assert_ok(mio_fs_mkdir_all(loop, room.path("a//b/c/d/"), 0700, o.cb, &o));
    assert_is(o.await(loop), 0);
    ck_assert(S_ISDIR(room.facts("a/b/c/d").mode));
    assert_is(room.facts("a/b/c/d").mode & 0777, 0700);
    assert_ok(mio_fs_mkdir_all(loop, room.path("a/b/c/d"), 0755, o.cb, &o)); // it is there
    assert_is(o.await(loop), 0);
    assert_ok(mio_fs_mkdir_all(loop, room.path("a/b/x"), 0755, o.cb, &o));
    assert_is(o.await(loop), 0);
    room.close(room.file("a/file", 1));
    assert_ok(mio_fs_mkdir_all(loop, room.path("a/file"), 0755, o.cb, &o));
    assert_is(o.await(loop), MIO_EEXIST);
    assert_ok(mio_fs_mkdir_all(loop, room.path("a/file/b/c"), 0755, o.cb, &o));
    assert_is(o.await(loop), MIO_ENOTDIR);
    assert_ok(mio_fs_mkdir_all(loop, "", 0755, o.cb, &o));
    assert_is(o.await(loop), MIO_ENOENT);
}

TEST(fs_removes_trees_and_follows_no_link_out_of_them) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    outcome_of o;
    assert_is(room.mkdir("kept"), 0);
    room.close(room.file("kept/file", 10));
    assert_is(room.mkdir("tree"), 0);
    assert_is(room.symlink("../kept", "tree/link"), 0);
    assert_is(room.symlink("nowhere", "tree/broken"), 0);
    char name[200] = "tree";
    for (int i = 0; i < 12; i++) {
        char file[260];
        snprintf(file, sizeof file, "%s/file", name);
        room.close(room.file(file, 1));
        snprintf(file, sizeof file, "%s/empty", name);
        assert_is(room.mkdir(file), 0);
        snprintf(name + strlen(name), sizeof name - strlen(name), "/below");
        assert_is(room.mkdir(name), 0);
    }
    for (int i = 0; i < 300; i++) {
        char file[64];
        snprintf(file, sizeof file, "tree/below/a-longer-name-so-that-it-takes-two-reads-%d", i);
        room.close(room.open(file, O_WRONLY | O_CREAT));
    }
    assert_ok(mio_fs_remove_all(loop, room.path("tree"), o.cb, &o));
    assert_is(o.await(loop), 0);
    ck_assert(!room.exists("tree"));
    ck_assert(room.is_file("kept/file", 10));
    assert_ok(mio_fs_remove_all(loop, room.path("tree"), o.cb, &o));
    assert_is(o.await(loop), MIO_ENOENT);
    assert_ok(mio_fs_remove_all(loop, room.path("kept/file"), o.cb, &o)); // a file alone
    assert_is(o.await(loop), 0);
    assert_is(room.symlink("kept", "link"), 0);
    assert_ok(mio_fs_remove_all(loop, room.path("link"), o.cb, &o));
    assert_is(o.await(loop), 0);
    ck_assert(room.exists("kept"));
}

TEST(fs_renames) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    outcome_of o;
    const auto rename = [&](const char *from, const char *to, unsigned flags) {
        assert_ok(mio_fs_rename(loop, room.path(from), room.path(to), flags, o.cb, &o));
        return o.await(loop);
    };
    room.close(room.file("a", 10));
    room.close(room.file("b", 20));
    assert_is(room.mkdir("folder"), 0);
    assert_is(room.mkdir("folder/inner"), 0);
    assert_is(rename("a", "c", 0), 0);
    ck_assert(!room.exists("a"));
    assert_is(rename("c", "b", 0), 0); // replaces
    assert_is(room.facts("b").size, 10);
    assert_is(rename("nothing", "x", 0), MIO_ENOENT);
    assert_is(rename("b", "folder", 0), MIO_EISDIR);
    assert_is(rename("folder", "b", 0), MIO_ENOTDIR);
    assert_is(rename("folder", "folder/inner/x", 0), MIO_EINVAL);
    assert_is(room.mkdir("other"), 0);
    assert_is(rename("other", "folder", 0), MIO_ENOTEMPTY);
    assert_is(rename("b", "folder/inner/b", 0), 0);
    ck_assert(room.is_file("folder/inner/b", 10));
    assert_is(rename("folder", "moved", 0), 0);
    ck_assert(room.is_file("moved/inner/b", 10));
    room.close(room.file("one", 1));
    room.close(room.file("two", 2));
    const int exclusive = rename("one", "two", MIO_FS_RENAME_EXCLUSIVE);
    if (exclusive != MIO_EINVAL) assert_is(exclusive, MIO_EEXIST); // not every file system can
    assert_is(room.facts("two").size, 2);
    const int exchanged = rename("one", "two", MIO_FS_RENAME_EXCHANGE);
    if (exchanged == 0) assert_is(room.facts("two").size, 1);
    else assert_is(exchanged, MIO_EINVAL);
}

struct path_told {
    int status, calls;
    char path[4200];
};
static void told(mio_loop_t *, int status, const char *path, void *arg) {
    path_told *t = static_cast<path_told *>(arg);
    t->status = status;
    t->calls++;
    if (status < 0) ck_assert_ptr_null(path);
    else snprintf(t->path, sizeof t->path, "%s", path);
}

TEST(fs_links) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    outcome_of o;
    room.close(room.file("file", 10));
    assert_ok(mio_fs_link(loop, room.path("file"), room.path("hard"), o.cb, &o));
    assert_is(o.await(loop), 0);
    assert_is(room.facts("hard").inode, room.facts("file").inode);
    assert_is(room.facts("file").links, 2);
    assert_ok(mio_fs_link(loop, room.path("file"), room.path("hard"), o.cb, &o));
    assert_is(o.await(loop), MIO_EEXIST);
    assert_ok(mio_fs_link(loop, room.path("nothing"), room.path("x"), o.cb, &o));
    assert_is(o.await(loop), MIO_ENOENT);
    assert_is(room.unlink("file"), 0);
    ck_assert(room.is_file("hard", 10));

    assert_is(room.mkdir("folder"), 0);
    assert_is(room.symlink("folder/below", "soft"), 0);
    assert_is(room.symlink("folder", "soft"), MIO_EEXIST);
    path_told t = {};
    assert_ok(mio_fs_readlink(loop, room.path("soft"), told, &t));
    run_to_end(loop);
    assert_is(t.status, 0);
    ck_assert_str_eq(t.path, "folder/below");
    assert_ok(mio_fs_readlink(loop, room.path("hard"), told, &t));
    run_to_end(loop);
    assert_is(t.status, MIO_EINVAL);
    assert_ok(mio_fs_readlink(loop, room.path("nothing"), told, &t));
    run_to_end(loop);
    assert_is(t.status, MIO_ENOENT);
    assert_ok(mio_fs_realpath(loop, room.path("soft"), told, &t)); // leads nowhere yet
    run_to_end(loop);
    assert_is(t.status, MIO_ENOENT);
    room.close(room.file("folder/below", 1));
    char here[4200];
    assert_ok(mio_fs_realpath(loop, room.folder, told, &t));
    run_to_end(loop);
    assert_is(t.status, 0);
    snprintf(here, sizeof here, "%s/folder/below", t.path);
    assert_ok(mio_fs_realpath(loop, room.path("./folder/../soft"), told, &t));
    run_to_end(loop);
    assert_is(t.status, 0);
    ck_assert_str_eq(t.path, here);
    ck_assert(room.is_file("soft", 1));
}

TEST(fs_lists_a_folder_in_batches) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    char names[64];
    assert_is(room.entries(".", names, sizeof names), 0);
    assert_is(room.mkdir("folder"), 0);
    assert_is(room.symlink("x", "link"), 0);
    room.close(room.file("file", 1));
    assert_is(room.entries(".", names, sizeof names), 3);
    ck_assert_str_eq(names, "file folder link");
    constexpr int N = 300;
    for (int i = 0; i < N; i++) {
        char name[64];
        snprintf(name, sizeof name, "folder/entry-number-%d", i);
        room.close(room.open(name, O_WRONLY | O_CREAT));
    }
    assert_is(room.entries("folder", nullptr, 0), N);

    struct listing {
        int status, calls, seen;
        bool types, once[N];
    } self = {};
    self.types = true;
    const int fd = room.open("folder", O_RDONLY | O_DIRECTORY);
    const auto some = [](mio_loop_t *, int status, const mio_fs_entry_t *entries, unsigned n, void *arg) {
        listing *l = static_cast<listing *>(arg);
        l->status = status;
        l->calls++;
        for (unsigned i = 0; i < n; i++) {
            const int number = atoi(entries[i].name + strlen("entry-number-"));
            ck_assert(!l->once[number]);
            l->once[number] = true;
            l->seen++;
            if (entries[i].type != MIO_FS_FILE && entries[i].type != MIO_FS_UNKNOWN) l->types = false;
            ck_assert_uint_ne(entries[i].inode, 0);
        }
    };
    while (self.status == 0) {
        assert_ok(mio_fs_readdir(loop, fd, 512, some, &self));
        run_to_end(loop);
    }
    assert_is(self.status, MIO_EOF);
    assert_is(self.seen, N);
    ck_assert(self.types);
    ck_assert_int_gt(self.calls, 10);
    room.close(fd);
    const int file = room.open("file", O_RDONLY);
    assert_ok(mio_fs_readdir(loop, file, 0, some, &self));
    run_to_end(loop);
    assert_is(self.status, MIO_ENOTDIR);
    room.close(file);
}

TEST(fs_changes_modes_owners_and_times) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    outcome_of o;
    const int fd = room.file("file", 10);
    assert_ok(mio_fs_chmod(loop, room.path("file"), 0600, o.cb, &o));
    assert_is(o.await(loop), 0);
    assert_is(room.facts("file").mode & 07777, 0600);
    assert_ok(mio_fs_fchmod(loop, fd, 0741, o.cb, &o));
    assert_is(o.await(loop), 0);
    assert_is(room.facts("file").mode & 07777, 0741);
    assert_ok(mio_fs_chmod(loop, room.path("nothing"), 0600, o.cb, &o));
    assert_is(o.await(loop), MIO_ENOENT);
    assert_ok(mio_fs_fchmod(loop, 987654, 0600, o.cb, &o));
    assert_is(o.await(loop), MIO_EBADF);

    const uint32_t uid = room.facts("file").uid, gid = room.facts("file").gid;
    assert_is(room.symlink("nowhere", "link"), 0);
    assert_ok(mio_fs_chown(loop, room.path("file"), uid, static_cast<uint32_t>(-1), o.cb, &o)); // to whom it belongs
    assert_is(o.await(loop), 0);
    assert_ok(mio_fs_fchown(loop, fd, static_cast<uint32_t>(-1), gid, o.cb, &o));
    assert_is(o.await(loop), 0);
    assert_ok(mio_fs_lchown(loop, room.path("link"), uid, gid, o.cb, &o));
    assert_is(o.await(loop), 0);
    assert_ok(mio_fs_chown(loop, room.path("link"), uid, gid, o.cb, &o));
    assert_is(o.await(loop), MIO_ENOENT);
    if (on_sim() || geteuid() == 0) {
        assert_ok(mio_fs_chown(loop, room.path("file"), 1234, 5678, o.cb, &o));
        assert_is(o.await(loop), 0);
        assert_is(room.facts("file").uid, 1234);
        assert_is(room.facts("file").gid, 5678);
    }

    const int64_t second = MIO_SECOND;
    assert_ok(mio_fs_utimes(loop, room.path("file"), 1000 * second + 500000000, 2000 * second, o.cb, &o));
    assert_is(o.await(loop), 0);
    assert_is(room.facts("file").atime_ns, 1000 * second + 500000000);
    assert_is(room.facts("file").mtime_ns, 2000 * second);
    assert_ok(mio_fs_futimes(loop, fd, MIO_FS_TIME_UNKNOWN, -3 * second, o.cb, &o)); // before 1970
    assert_is(o.await(loop), 0);
    assert_is(room.facts("file").atime_ns, 1000 * second + 500000000);
    assert_is(room.facts("file").mtime_ns, -3 * second);
    assert_ok(mio_fs_lutimes(loop, room.path("link"), 5 * second, 6 * second, o.cb, &o));
    assert_is(o.await(loop), 0);
    assert_is(room.lfacts("link").mtime_ns, 6 * second);
    assert_ok(mio_fs_utimes(loop, room.path("link"), 5 * second, 6 * second, o.cb, &o));
    assert_is(o.await(loop), MIO_ENOENT);
    assert_ok(mio_fs_futimes(loop, 987654, 0, 0, o.cb, &o));
    assert_is(o.await(loop), MIO_EBADF);
    room.close(fd);
}

TEST(fs_tells_who_may) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    outcome_of o;
    room.close(room.file("file", 1)); // 0644: nobody may run it, root not either
    assert_ok(mio_fs_access(loop, room.path("file"), F_OK, o.cb, &o));
    assert_is(o.await(loop), 0);
    assert_ok(mio_fs_access(loop, room.path("file"), R_OK | W_OK, o.cb, &o));
    assert_is(o.await(loop), 0);
    assert_ok(mio_fs_access(loop, room.path("file"), X_OK, o.cb, &o));
    assert_is(o.await(loop), MIO_EACCES);
    assert_ok(mio_fs_access(loop, room.path("nothing"), F_OK, o.cb, &o));
    assert_is(o.await(loop), MIO_ENOENT);
}

struct temp_told {
    int fd;
    char path[300];
};
static void temp_made(mio_loop_t *, int fd, const char *path, void *arg) {
    temp_told *t = static_cast<temp_told *>(arg);
    t->fd = fd;
    if (fd < 0) ck_assert_ptr_null(path);
    else snprintf(t->path, sizeof t->path, "%s", path);
}

TEST(fs_makes_temporary_files_and_folders) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    temp_told a = {}, b = {};
    assert_ok(mio_fs_temp_file(loop, room.path("t-XXXXXX"), temp_made, &a));
    assert_ok(mio_fs_temp_file(loop, room.path("t-XXXXXX"), temp_made, &b));
    run_to_end(loop);
    ck_assert_int_ge(a.fd, 0);
    ck_assert_int_ge(b.fd, 0);
    ck_assert_str_ne(a.path, b.path);
    ck_assert_ptr_null(strstr(a.path, "XXXXXX"));
    assert_is(room.write(a.fd, "temporary", 0), 0);
    ck_assert_str_eq(room.read(a.fd, 20, 0), "temporary");
    assert_is(room.ffacts(a.fd).mode & 0777, 0600);
    room.close(a.fd);
    room.close(b.fd);
    assert_is(room.entries(".", nullptr, 0), 2);
    assert_ok(mio_fs_temp_file(loop, room.path("nowhere/t-XXXXXX"), temp_made, &a));
    run_to_end(loop);
    assert_is(a.fd, MIO_ENOENT);
    path_told folder = {};
    assert_ok(mio_fs_temp_folder(loop, room.path("f-XXXXXX"), told, &folder));
    run_to_end(loop);
    assert_is(folder.status, 0);
    assert_is(strncmp(folder.path, room.path("f-"), strlen(room.path("f-"))), 0);
    assert_ok(mio_fs_temp_folder(loop, room.path("nowhere/f-XXXXXX"), told, &folder));
    run_to_end(loop);
    assert_is(folder.status, MIO_ENOENT);
}

struct copy_told {
    int status, calls;
    int64_t bytes;
};
static void copied(mio_loop_t *, int status, int64_t bytes, void *arg) {
    copy_told *t = static_cast<copy_told *>(arg);
    *t = {status, t->calls + 1, bytes};
}

TEST(fs_copies) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    copy_told t = {};
    const auto copy = [&](const char *from, const char *to, unsigned flags) {
        t = {};
        assert_ok(mio_fs_copy(loop, room.path(from), room.path(to), flags, copied, &t));
        run_to_end(loop);
        assert_is(t.calls, 1);
        return t.status;
    };
    constexpr uint64_t SIZE = 300000;
    room.close(room.file("from", SIZE));
    outcome_of o;
    assert_ok(mio_fs_chmod(loop, room.path("from"), 0640, o.cb, &o));
    assert_is(o.await(loop), 0);
    assert_is(copy("from", "to", 0), 0);
    assert_is(t.bytes, SIZE);
    ck_assert(room.is_file("to", SIZE));
    assert_is(room.facts("to").mode & 0777, 0640);
    assert_is(copy("from", "bytes", MIO_FS_COPY_BYTES), 0);
    assert_is(t.bytes, SIZE);
    ck_assert(room.is_file("bytes", SIZE));
    assert_is(copy("from", "to", MIO_FS_COPY_EXCLUSIVE), MIO_EEXIST);
    room.close(room.file("short", 5));
    assert_is(copy("short", "to", 0), 0); // nothing of the longer one is left
    ck_assert(room.is_file("to", 5));
    room.close(room.file("empty", 0));
    assert_is(copy("empty", "to", 0), 0);
    assert_is(t.bytes, 0);
    assert_is(room.facts("to").size, 0);
    const int shared = copy("from", "reflink", MIO_FS_COPY_REFLINK);
    if (shared == 0) {
        ck_assert(room.is_file("reflink", SIZE));
    } else {
        ck_assert(shared == MIO_ENOTSUP || shared == MIO_EXDEV || shared == MIO_EINVAL);
        ck_assert(!room.exists("reflink")); // what it made is gone
    }
    assert_is(room.mkdir("folder"), 0);
    assert_is(copy("folder", "x", 0), MIO_EISDIR);
    assert_is(copy("from", "folder", 0), MIO_EISDIR);
    assert_is(copy("nothing", "x", 0), MIO_ENOENT);
    assert_is(copy("from", "nothing/x", 0), MIO_ENOENT);
    assert_is(copy("from", "from", 0), MIO_EINVAL);
    assert_is(room.symlink("from", "link"), 0);
    assert_is(copy("from", "link", 0), MIO_EINVAL); // the same file by another name
    ck_assert(room.is_file("from", SIZE));
}

TEST(fs_tells_space) {
    mio_loop_t *loop = loop_open();
    fs_room room(loop);
    struct told { int status; mio_fs_space_t space; } t = {};
    const auto cb = [](mio_loop_t *, int status, const mio_fs_space_t *space, void *arg) {
        static_cast<told *>(arg)->status = status;
        if (space != nullptr) static_cast<told *>(arg)->space = *space;
    };
    assert_ok(mio_fs_statfs(loop, room.folder, cb, &t));
    run_to_end(loop);
    assert_is(t.status, 0);
    ck_assert_uint_gt(t.space.block_size, 0);
    ck_assert_uint_gt(t.space.blocks, 0);
    ck_assert_uint_ge(t.space.blocks, t.space.blocks_free);
    ck_assert_uint_ge(t.space.name_max, 14);
    assert_ok(mio_fs_statfs(loop, room.path("nothing"), cb, &t));
    run_to_end(loop);
    assert_is(t.status, MIO_ENOENT);
}
