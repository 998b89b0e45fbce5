// The table of nouns, and the model of a request that belongs to no handle: it calls back once, with its own result or
// because somebody asked for its end, and never after it was abandoned.
#include "nouns.h"

#include <errno.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

namespace torture {

static const noun *const table[] = {&noun_work, &noun_resolve, &noun_hosts, &noun_files, &noun_datagrams,
                                    &noun_polls, &noun_signals, &noun_sendfile, &noun_descriptors, &noun_processes, &noun_relays,
                                    &noun_watches};
constexpr unsigned NOUNS = sizeof table / sizeof table[0];
constexpr uint32_t SHARE = 40; // of the seeds have a noun, in a hundred

static loose *requests;
static int loose_count;

// --- folders --------------------------------------------------------------------------------------------------------

static char root[64], folder[96];

// One that all processes of this program share; removed when the last of them has ended.
void root_make() {
    snprintf(root, sizeof root, "/tmp/mio-torture-XXXXXX");
    if (mkdtemp(root) == nullptr) fail("no folder");
}

static int entry_remove(const char *path, const struct stat *, int, struct FTW *) { return remove(path); }

void root_remove() { nftw(root, entry_remove, 16, FTW_DEPTH | FTW_PHYS); }

const char *seed_folder() {
    if (now.sim) return "/tmp";
    snprintf(folder, sizeof folder, "%s/%llu", root, static_cast<unsigned long long>(now.seed));
    if (mkdir(folder, 0755) < 0 && errno != EEXIST) fail("no folder %s", folder);
    return folder;
}

// What a worker was left behind with may come later: root_remove finds it.
static void seed_folder_remove() {
    if (!now.sim && folder[0] != '\0') nftw(folder, entry_remove, 16, FTW_DEPTH | FTW_PHYS);
    folder[0] = '\0';
}

// --- which ----------------------------------------------------------------------------------------------------------

uint32_t nouns_of(uint64_t seed) {
    uint32_t mask = 0;
    for (unsigned i = 0; i < NOUNS; i++) {
        uint64_t x = (seed + 1) * 0xbf58476d1ce4e5b9u + i * 0x94d049bb133111ebu;
        x = (x ^ (x >> 31)) * 0x9e3779b97f4a7c15u;
        if ((x >> 32) % 100 < SHARE && (table[i]->in_worlds || !now.sim)) mask |= 1u << i;
    }
    return mask;
}

bool nouns_known(const char *list, uint32_t *mask) {
    *mask = strcmp(list, "all") == 0 ? ~0u : 0;
    if (*mask != 0 || strcmp(list, "none") == 0) return true;
    while (*list != '\0') {
        const size_t len = strcspn(list, ",");
        const uint32_t before = *mask;
        for (unsigned i = 0; i < NOUNS; i++)
            if (strlen(table[i]->name) == len && strncmp(table[i]->name, list, len) == 0) *mask |= 1u << i;
        if (*mask == before) return false;
        list += list[len] == ',' ? len + 1 : len;
    }
    return true;
}

bool noun_is_on(const noun *one) {
    for (unsigned i = 0; i < NOUNS; i++)
        if (table[i] == one) return (now.nouns & 1u << i) != 0;
    return false;
}

#define EACH_NOUN(one) \
    for (const noun *const one : table) \
        if (noun_is_on(one))

void nouns_open() {
    EACH_NOUN(one) {
        say("has %s", one->name);
        if (one->open != nullptr) one->open();
    }
}

void nouns_act() {
    if (now.nouns == 0) return;
    if (chance(15)) {
        loose_act();
        return;
    }
    uint32_t seen = 0;
    const noun *found = nullptr;
    EACH_NOUN(one) {
        if (one->act != nullptr && below(++seen) == 0) found = one;
    }
    if (found != nullptr) found->act();
}

void nouns_quiet() {
    EACH_NOUN(one) {
        if (one->quiet != nullptr) one->quiet();
    }
}

bool nouns_are_over() {
    bool over = loose_are_over();
    EACH_NOUN(one) {
        if (one->is_over != nullptr && !one->is_over()) over = false;
    }
    return over;
}

void nouns_check() {
    loose_check();
    EACH_NOUN(one) {
        if (one->check != nullptr) one->check();
    }
}

void nouns_close() {
    EACH_NOUN(one) {
        if (one->close != nullptr) one->close();
    }
}

void nouns_clear() {
    EACH_NOUN(one) {
        if (one->clear != nullptr) one->clear();
    }
    loose_clear();
    seed_folder_remove();
}

// --- a request of no handle -----------------------------------------------------------------------------------------

bool is_want(int64_t error) {
    if (error == MIO_ENOMEM) return now.no_memory || now.scarce;
    return (error == MIO_ENOBUFS || error == MIO_EMFILE || error == MIO_ENFILE) && now.scarce;
}

bool may_refuse(int64_t error) { return (error == MIO_ESHUTDOWN && now.destroying) || is_want(error); }

mio_loop_t *some_loop() { return now.loops[below(now.loop_count)]; }

void told_outside(const char *what) {
    if (calls_open != 0) fail("a callback of %s inside a call", what);
}

void loose_free(loose *l) { free(l); }

bool loose_taken(loose *l, mio_req_t id) {
    if (id < 0) {
        if (!may_refuse(id)) fail("%s gives %s", l->what, mio_error_name(id));
        l->dispose(l);
        return false;
    }
    if (id == 0) fail("%s gives the id 0", l->what);
    l->id = id;
    l->number = loose_count++;
    l->next = requests;
    requests = l;
    say("%s: loose %d", l->what, l->number);
    if (chance(30)) loose_disturb(l);
    return true;
}

void loose_disturb(loose *l) {
    const uint32_t which = below(100u);
    int error;
    if (which < 40) {
        error = CALL(mio_req_cancel(l->loop, l->id));
        say("cancel of loose %d gives %d", l->number, error);
        l->cancelled = true;
    } else if (which < 75) {
        const int64_t after_ns = chance(30) ? 0 : below(20000u) * MIO_MICROSECOND;
        error = CALL(mio_req_timeout(l->loop, l->id, after_ns));
        say("deadline of loose %d gives %d", l->number, error);
        if (error == 0) l->deadline = true;
    } else if (!now.no_abandons) {
        error = CALL(mio_req_abandon(l->loop, l->id));
        say("abandon of loose %d gives %d", l->number, error);
        if (error == MIO_EBUSY && l->keeps) return;
        if (error != 0) fail("abandon of %s %d gives %s", l->what, l->number, mio_error_name(error));
        l->abandoned = true;
        if (l->lost != nullptr) l->lost(l);
        error = CALL(mio_req_cancel(l->loop, l->id));
        if (error != MIO_ENOENT) fail("%s %d was abandoned, and its cancel gives %s", l->what, l->number, mio_error_name(error));
        return;
    } else {
        return;
    }
    if (error != 0 && error != MIO_EALREADY) fail("%s %d: %s", l->what, l->number, mio_error_name(error));
}

bool loose_told(loose *l, int64_t status) {
    say("told: %s %d, %lld", l->what, l->number, static_cast<long long>(status));
    told_outside(l->what);
    if (l->done) fail("%s %d calls back twice", l->what, l->number);
    if (l->abandoned) fail("%s %d calls back after an abandon", l->what, l->number);
    l->done = true;
    if (status == MIO_ECANCELED && !l->cancelled && !now.destroying)
        fail("%s %d is cancelled, and nobody asked for it", l->what, l->number);
    if (status == MIO_ETIMEDOUT && !l->deadline) fail("%s %d has no deadline, and it came", l->what, l->number);
    return status == MIO_ECANCELED || status == MIO_ETIMEDOUT;
}

void loose_act() {
    uint32_t seen = 0;
    loose *found = nullptr;
    for (loose *l = requests; l != nullptr; l = l->next)
        if (!l->done && !l->abandoned && below(++seen) == 0) found = l;
    if (found != nullptr) loose_disturb(found);
}

bool loose_are_over() {
    for (const loose *l = requests; l != nullptr; l = l->next)
        if (!l->done && !l->abandoned) return false;
    return true;
}

void loose_check() {
    for (const loose *l = requests; l != nullptr; l = l->next)
        if (!l->done && !l->abandoned) fail("%s %d hangs", l->what, l->number);
}

void loose_clear() {
    while (requests != nullptr) {
        loose *l = requests;
        requests = l->next;
        if (!l->done && !l->abandoned) fail("%s %d never called back", l->what, l->number);
        l->dispose(l);
    }
    loose_count = 0;
}

}
