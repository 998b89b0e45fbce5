// Files: names in one folder, opened, renamed, copied, removed, listed, while what is in them is read and written.
//
// The model of a name is what it stands for. A request that changes a name, or depends on what it stands for, has it for
// itself, so its end is known beforehand; requests on other names are under way beside it. A listing tells each name once
// that stood for something all the while, and none that never did.
#include "files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace torture {

constexpr unsigned SLOTS = 7;
constexpr int OPS_MAX = 150;

static file *files;
static name *names;
static opened *openeds;
static name *slots[SLOTS];
static int name_count, name_total, op_count;

// --- the model ------------------------------------------------------------------------------------------------------

static name *name_new(const char *path) {
    auto *m = static_cast<name *>(calloc(1, sizeof(name)));
    if (path != nullptr) snprintf(m->path, sizeof m->path, "%s", path);
    else snprintf(m->path, sizeof m->path, "%s/n%d", seed_folder(), name_count++);
    m->index = name_total++;
    m->next = names;
    names = m;
    return m;
}

file *file_new() {
    auto *f = static_cast<file *>(calloc(1, sizeof(file)));
    f->followed = true;
    f->next = files;
    files = f;
    return f;
}

static name *slot_pick() {
    const unsigned i = below(SLOTS);
    if (slots[i] == nullptr || slots[i]->lost) slots[i] = name_new(nullptr);
    return slots[i]->busy ? nullptr : slots[i];
}

void opened_new(int fd, file *of) {
    auto *on = static_cast<opened *>(calloc(1, sizeof(opened)));
    on->fd = fd;
    on->of = of;
    on->next = openeds;
    openeds = on;
}

opened *opened_pick(bool of_file) {
    opened *found = nullptr;
    uint32_t seen = 0;
    for (opened *on = openeds; on != nullptr; on = on->next)
        if (!on->closed && (on->of != nullptr) == of_file && below(++seen) == 0) found = on;
    return found;
}

static void name_set(name *m, there what, file *of, bool filled) {
    m->what = what;
    m->of = of;
    m->filled = filled;
}

static void listing_free(int *touches, int *counted) {
    if (touches != nullptr) free(touches - 1);
    free(counted);
}

// --- requests -------------------------------------------------------------------------------------------------------

static void fs_dispose(loose *l) {
    auto *op = static_cast<fs_op *>(l);
    if (op->number < 0) fs_end(op, true); // refused
    free(op->data.at);
    listing_free(op->touches, op->counted);
    loose_free(l);
}

static void fs_lost(loose *l) { fs_end(static_cast<fs_op *>(l), false); }

fs_op *fs_new(fs_what what, const char *text) {
    fs_op *op = loose_new<fs_op>(text, fs_dispose);
    op->op = what;
    op->lost = fs_lost;
    op->number = -1;
    op_count++;
    return op;
}

static void name_hold(name *m) {
    if (m == nullptr) return;
    m->busy = true;
    m->touches++;
}

void fs_taken(fs_op *op, mio_req_t id) {
    name_hold(op->a);
    name_hold(op->b);
    if (op->on != nullptr) op->on->busy++;
    if (id > 0 && op->number < 0) op->number = 0; // else its end would count as a refusal
    if (loose_taken(op, id) && op->a != nullptr) say("  of %s", op->a->path);
}

bool fs_misfortune(int64_t status) { return is_want(status) || (now.bad_disk && (status == MIO_EIO || status == MIO_ENOSPC)); }

bool fs_told(fs_op *op, int64_t status) {
    const bool early = loose_told(op, status);
    const bool parts = op->op == fs_what::copy || op->op == fs_what::remove_all || op->op == fs_what::mkdir_all;
    if (status == MIO_ESHUTDOWN && !now.destroying) fail("%s %d: MIO_ESHUTDOWN", op->what, op->number);
    const bool held = op->op == fs_what::write || op->op == fs_what::read;
    if (early || status == MIO_ESHUTDOWN) return true;
    if (fs_misfortune(status)) return parts;
    if (!held && status != op->expected && !(op->expected == 0 && status >= 0))
        fail("%s %d%s%s: %s, and it should be %s", op->what, op->number, op->a != nullptr ? " of " : "",
             op->a != nullptr ? op->a->path : "", mio_error_name(status), mio_error_name(op->expected));
    if (held && status < 0 && status != MIO_EOF) fail("%s %d: %s", op->what, op->number, mio_error_name(status));
    return false;
}

static void name_let_go(name *m, bool known) {
    if (m == nullptr) return;
    m->busy = false;
    m->touches++;
    if (!known) m->lost = true;
}

void fs_end(fs_op *op, bool known) {
    name_let_go(op->a, known);
    name_let_go(op->b, known);
    if (op->on != nullptr) op->on->busy--;
    if (op->on != nullptr && !known) op->on->tied = true;
    if (op->changes != nullptr) op->changes->changing = false;
    if (op->changes != nullptr && !known) op->changes->followed = false;
    if (op->op == fs_what::copy && op->reads != nullptr) op->reads->copying--;
    op->a = op->b = nullptr;
    op->on = nullptr;
    op->changes = nullptr;
    if (op->op == fs_what::copy) op->reads = nullptr;
}

// --- told -----------------------------------------------------------------------------------------------------------

static void told_fs_open(mio_loop_t *, int fd, void *arg) {
    auto *op = static_cast<fs_op *>(arg);
    const bool unknown = fs_told(op, fd < 0 ? fd : 0);
    if (fd >= 0) {
        if (op->a != nullptr && op->a->what == there::nothing) name_set(op->a, there::file, file_new(), false);
        if (op->changes != nullptr) file_resize(op->changes, 0); // O_TRUNC
        opened_new(fd, op->a != nullptr ? op->a->of : nullptr);
    }
    fs_end(op, !unknown);
    act_some(nullptr, below(3u));
}

static void told_fs_temp(mio_loop_t *, int fd, const char *path, void *arg) {
    auto *op = static_cast<fs_op *>(arg);
    fs_told(op, fd < 0 ? fd : 0);
    if ((path != nullptr) != (fd >= 0)) fail("temp file %d: %d, and the path", op->number, fd);
    name *old = slots[0];
    if (fd >= 0 && (old == nullptr || !old->busy)) {
        slots[0] = name_new(path);
        name_set(slots[0], there::file, file_new(), false);
        opened_new(fd, slots[0]->of);
    } else if (fd >= 0) {
        opened_new(fd, file_new());
    }
    act_some(nullptr, below(2u));
}

static void told_fs_done(mio_loop_t *, int status, void *arg) {
    auto *op = static_cast<fs_op *>(arg);
    const bool unknown = fs_told(op, status);
    if (status == 0) {
        switch (op->op) {
        case fs_what::rename:
            name_set(op->b, op->a->what, op->a->of, op->a->filled);
            name_set(op->a, there::nothing, nullptr, false);
            break;
        case fs_what::unlink:
        case fs_what::rmdir:
        case fs_what::remove_all: name_set(op->a, there::nothing, nullptr, false); break;
        case fs_what::mkdir: name_set(op->a, there::folder, nullptr, false); break;
        case fs_what::mkdir_all: name_set(op->a, there::folder, nullptr, true); break;
        case fs_what::open:
        case fs_what::close:
        case fs_what::read:
        case fs_what::write:
        case fs_what::sync:
        case fs_what::truncate:
        case fs_what::stat:
        case fs_what::readdir:
        case fs_what::copy:
        case fs_what::temp: break;
        }
    }
    fs_end(op, !unknown);
    act_some(nullptr, below(3u));
}

static void told_fs_stat(mio_loop_t *, int status, const mio_fs_facts_t *facts, void *arg) {
    auto *op = static_cast<fs_op *>(arg);
    const bool unknown = fs_told(op, status);
    if ((facts != nullptr) != (status == 0)) fail("stat %d: %d, and the facts", op->number, status);
    if (status == 0) {
        const file *f = op->on != nullptr ? op->on->of : op->a->of;
        if (S_ISREG(facts->mode) != (f != nullptr) || S_ISDIR(facts->mode) == (f != nullptr)) fail("stat %d: another type", op->number);
        if (f != nullptr && f->followed && !f->changing && f->changes == op->seen && facts->size != f->now_.len)
            fail("stat %d: %llu bytes of %zu", op->number, static_cast<unsigned long long>(facts->size), f->now_.len);
    }
    fs_end(op, !unknown);
    act_some(nullptr, below(2u));
}

static void told_fs_copy(mio_loop_t *, int status, int64_t n, void *arg) {
    auto *op = static_cast<fs_op *>(arg);
    const bool unknown = fs_told(op, status);
    if (status == 0 && op->reads->followed && n != static_cast<int64_t>(op->reads->now_.len))
        fail("copy %d: %lld bytes of %zu", op->number, static_cast<long long>(n), op->reads->now_.len);
    if (status == 0) {
        if (op->b->what == there::nothing) name_set(op->b, there::file, file_new(), false);
        file *to = op->b->of;
        to->followed = to->followed && op->reads->followed;
        to->now_.len = 0;
        bytes_append(&to->now_, op->reads->now_.at, op->reads->now_.len);
    }
    if (op->a != nullptr) name_let_go(op->a, true); // it was only read
    op->a = nullptr;
    fs_end(op, !unknown);
    act_some(nullptr, below(2u));
}

// --- listings -------------------------------------------------------------------------------------------------------

static void list_next(opened *on, int *touches, int *counted);

// All of it has been told: was each name told of that stood for something all the while?
static void list_check(const fs_op *op) {
    for (const name *m = names; m != nullptr; m = m->next) {
        const int i = m->index;
        if (i >= op->touches[-1] || m->lost || m->busy || m->touches != op->touches[i]) continue;
        if (op->counted[i] != (m->what != there::nothing ? 1 : 0))
            fail("readdir %d: %s is told of %d times", op->number, m->path, op->counted[i]);
    }
}

static void told_list(mio_loop_t *, int status, const mio_fs_entry_t *entries, unsigned n, void *arg) {
    auto *op = static_cast<fs_op *>(arg);
    if (status == MIO_EOF) op->expected = status;
    const bool broken = fs_told(op, status) || fs_misfortune(status);
    if ((n > 0) != (status == 0)) fail("readdir %d: status %d, %u entries", op->number, status, n);
    for (unsigned i = 0; i < n; i++)
        for (const name *m = names; m != nullptr; m = m->next)
            if (m->index < op->touches[-1] && strcmp(strrchr(m->path, '/') + 1, entries[i].name) == 0) op->counted[m->index]++;
    if (status == MIO_EOF) list_check(op);
    opened *on = op->on;
    int *touches = op->touches, *counted = op->counted;
    op->touches = op->counted = nullptr;
    fs_end(op, !broken);
    if (status == 0) list_next(on, touches, counted);
    else listing_free(touches, counted);
    act_some(nullptr, below(2u));
}

static void list_next(opened *on, int *touches, int *counted) {
    fs_op *op = fs_new(fs_what::readdir, "readdir");
    op->on = on;
    op->touches = touches;
    op->counted = counted;
    fs_taken(op, CALL(mio_fs_readdir(op->loop, on->fd, chance(50) ? 512 : 0, told_list, op)));
}

static void list_act(opened *on) {
    if (on->listed || on->busy > 0) return;
    on->listed = true;
    const size_t n = static_cast<size_t>(name_total) + 1;
    auto *touches = static_cast<int *>(calloc(n, sizeof(int))) + 1;
    touches[-1] = name_total;
    for (const name *m = names; m != nullptr; m = m->next) touches[m->index] = m->touches;
    list_next(on, touches, static_cast<int *>(calloc(n, sizeof(int))));
}

// --- done -----------------------------------------------------------------------------------------------------------

static void open_act(name *m) {
    fs_op *op = fs_new(fs_what::open, "open");
    op->a = m;
    int flags = O_RDWR;
    if (chance(60)) flags |= O_CREAT;
    if ((flags & O_CREAT) != 0 && chance(20)) flags |= O_EXCL;
    if (chance(10)) flags |= O_TRUNC;
    if (m->what == there::nothing) op->expected = (flags & O_CREAT) != 0 ? 0 : MIO_ENOENT;
    else if ((flags & O_EXCL) != 0) op->expected = MIO_EEXIST;
    else if (m->what == there::folder) op->expected = MIO_EISDIR;
    if (m->what == there::file && op->expected == 0 && (flags & O_TRUNC) != 0) {
        if (file_may_change(m->of)) file_change_begin(op, m->of);
        else flags &= ~O_TRUNC;
    }
    fs_taken(op, CALL(mio_fs_open(op->loop, m->path, flags, 0644, told_fs_open, op)));
}

static void folder_open_act() {
    fs_op *op = fs_new(fs_what::open, "open of the folder");
    fs_taken(op, CALL(mio_fs_open(op->loop, seed_folder(), O_RDONLY | O_DIRECTORY, 0, told_fs_open, op)));
}

static void opened_close(opened *on) {
    if (on->busy > 0 || on->tied) return;
    fs_op *op = fs_new(fs_what::close, "close");
    const mio_req_t id = CALL(mio_fs_close(op->loop, on->fd, told_fs_done, op));
    on->closed = id > 0;
    fs_taken(op, id);
}

static void rename_act(name *a, name *b) {
    if (a == b) return;
    const unsigned flags = chance(20) ? MIO_FS_RENAME_EXCLUSIVE : 0;
    fs_op *op = fs_new(fs_what::rename, "rename");
    op->a = a;
    op->b = b;
    if (a->what == there::nothing) op->expected = MIO_ENOENT;
    else if (flags != 0 && b->what != there::nothing) op->expected = MIO_EEXIST;
    else if (a->what == there::file && b->what == there::folder) op->expected = MIO_EISDIR;
    else if (a->what == there::folder && b->what == there::file) op->expected = MIO_ENOTDIR;
    else if (b->what == there::folder && b->filled) op->expected = MIO_ENOTEMPTY;
    fs_taken(op, CALL(mio_fs_rename(op->loop, a->path, b->path, flags, told_fs_done, op)));
}

static void remove_act(name *m) {
    static const fs_what ways[] = {fs_what::unlink, fs_what::rmdir, fs_what::remove_all};
    fs_op *op = fs_new(ways[below(3u)], "remove");
    op->a = m;
    mio_req_t id;
    if (m->what == there::nothing) op->expected = MIO_ENOENT;
    if (op->op == fs_what::unlink) {
        if (m->what == there::folder) op->expected = MIO_EISDIR;
        id = CALL(mio_fs_unlink(op->loop, m->path, told_fs_done, op));
    } else if (op->op == fs_what::rmdir) {
        if (m->what == there::file) op->expected = MIO_ENOTDIR;
        else if (m->what == there::folder && m->filled) op->expected = MIO_ENOTEMPTY;
        id = CALL(mio_fs_rmdir(op->loop, m->path, told_fs_done, op));
    } else {
        id = CALL(mio_fs_remove_all(op->loop, m->path, told_fs_done, op));
    }
    fs_taken(op, id);
}

static void mkdir_act(name *m) {
    const bool all = chance(40);
    fs_op *op = fs_new(all ? fs_what::mkdir_all : fs_what::mkdir, all ? "mkdir_all" : "mkdir");
    op->a = m;
    if (!all) {
        if (m->what != there::nothing) op->expected = MIO_EEXIST;
        fs_taken(op, CALL(mio_fs_mkdir(op->loop, m->path, 0755, told_fs_done, op)));
        return;
    }
    char path[sizeof m->path + 16];
    snprintf(path, sizeof path, "%s/below/it", m->path);
    if (m->what == there::file) op->expected = MIO_ENOTDIR;
    fs_taken(op, CALL(mio_fs_mkdir_all(op->loop, path, 0755, told_fs_done, op)));
}

static void copy_act(name *a, name *b) {
    if (a == b || a->what != there::file || a->of->changing) return;
    if (b->what == there::file && (b->of == a->of || !file_may_change(b->of))) return;
    fs_op *op = fs_new(fs_what::copy, "copy");
    op->a = a;
    op->b = b;
    op->reads = a->of;
    op->reads->copying++;
    if (b->what == there::folder) op->expected = MIO_EISDIR;
    if (b->what == there::file) file_change_begin(op, b->of);
    fs_taken(op, CALL(mio_fs_copy(op->loop, a->path, b->path, chance(50) ? MIO_FS_COPY_BYTES : 0, told_fs_copy, op)));
}

static void stat_act(name *m) {
    fs_op *op = fs_new(fs_what::stat, "stat");
    opened *on = chance(30) ? opened_pick(true) : nullptr;
    const file *f = on != nullptr ? on->of : m->of;
    if (on != nullptr) op->on = on;
    else op->a = m;
    if (f != nullptr) op->seen = f->changes - (f->changing ? 1 : 0);
    if (on == nullptr && m->what == there::nothing) op->expected = MIO_ENOENT;
    fs_taken(op, on != nullptr ? CALL(mio_fs_fstat(op->loop, on->fd, told_fs_stat, op))
                               : CALL(mio_fs_stat(op->loop, m->path, told_fs_stat, op)));
}

static void temp_act() {
    char pattern[sizeof(name::path)];
    snprintf(pattern, sizeof pattern, "%s/t-XXXXXX", seed_folder());
    fs_op *op = fs_new(fs_what::temp, "temp file");
    fs_taken(op, CALL(mio_fs_temp_file(op->loop, pattern, told_fs_temp, op)));
}

static void opened_act() {
    opened *on = opened_pick(!chance(15));
    if (on == nullptr) return;
    const uint32_t which = below(100u);
    if (which < 12) opened_close(on);
    else if (on->of == nullptr) list_act(on);
    else if (which < 50) file_write_act(on);
    else if (which < 85) file_read_act(on);
    else if (which < 93) file_truncate_act(on);
    else {
        fs_op *op = fs_new(fs_what::sync, "fsync");
        op->on = on;
        fs_taken(op, CALL(mio_fs_fdatasync(op->loop, on->fd, told_fs_done, op)));
    }
}

static void files_act() {
    if (op_count >= OPS_MAX) return;
    name *a = slot_pick(), *b = slot_pick();
    const uint32_t which = below(100u);
    if (which < 55 || a == nullptr || b == nullptr) opened_act();
    else if (which < 72) open_act(a);
    else if (which < 76) folder_open_act();
    else if (which < 81) rename_act(a, b);
    else if (which < 85) remove_act(a);
    else if (which < 89) mkdir_act(a);
    else if (which < 92) copy_act(a, b);
    else if (which < 98) stat_act(a);
    else temp_act();
}

// --- the end --------------------------------------------------------------------------------------------------------

static void files_quiet() {
    for (opened *on = openeds; on != nullptr; on = on->next)
        if (!on->closed && chance(50)) opened_close(on);
}

static void files_close() {
    for (opened *on = openeds; on != nullptr; on = on->next) {
        if (on->closed || on->busy > 0 || (on->tied && !now.sim)) continue; // a world has done what it had to do
        const mio_req_t id = CALL(mio_fs_close(some_loop(), on->fd, nullptr, nullptr));
        if (id < 0 && !may_refuse(id)) fail("close gives %s", mio_error_name(id));
        on->closed = id > 0;
    }
}

static void files_clear() {
    while (openeds != nullptr) {
        opened *on = openeds;
        openeds = on->next;
        if (!on->closed && !now.sim) close(on->fd);
        else if (!on->closed) now.stranded++;
        free(on);
    }
    while (names != nullptr) {
        name *m = names;
        names = m->next;
        free(m);
    }
    while (files != nullptr) {
        file *f = files;
        files = f->next;
        free(f->now_.at);
        free(f->before.at);
        free(f);
    }
    for (name *&slot : slots) slot = nullptr;
    name_count = name_total = op_count = 0;
}

const noun noun_files = {"files", true, nullptr, files_act, files_quiet, nullptr, nullptr, files_close, files_clear};

}
