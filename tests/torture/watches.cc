// Watches: files and folders in a folder of the seed's are made, written, renamed, linked and removed by plain calls
// (watched.cc), while watches of them come and go on both loops, several on one file.
//
// The model of a watch is the list of what has happened to its file since it was opened, as far as it asked for that.
// What is told is the next of the list. May be missing: the same thing twice in a row (the kernel makes one of it), what
// was before the watch where another one of its loop had the file already, what is done through a name that is gone, and
// what the kernel's full queue has lost. A name that went elsewhere may be told later, before the next news of that name.
// This leaves open where in the list a watch is: all places where it may be are kept. None left is a failure, and so is
// a rest that had to be told.
#include "watches.h"

#include <set>

namespace torture {

constexpr int WATCHES_MAX = 24;

struct watch_place {
    size_t at;
    std::set<size_t> owed; // of those before: late, not told yet
    bool operator<(const watch_place &other) const { return at != other.at ? at < other.at : owed < other.owed; }
};

struct watched {
    int number;
    mio_watch_t *watch;
    mio_loop_t *loop;
    watched_node *on;
    unsigned asked;
    bool last_told, closing, dead, abandoned;
    bool lossy, overflow_owed; // the kernel's queue is full
    std::vector<happening> due;
    std::set<watch_place> places;
};

static std::vector<watched *> watches;
static mio_loop_t *flooded; // once, if at all
static bool flood_told;

static bool has_files; // a simulated world has none, nor has the model of kqueue
static bool is_usable(const watched *w) { return !w->closing && !w->dead && !w->abandoned; }
static bool is_attached(const watched *w) { return is_usable(w) && !w->last_told; }

// --- what is to be told ---------------------------------------------------------------------------------------------

static void due_add(watched *w, int what, const happening &h, const std::string &name, const std::string &new_name,
                    bool late) {
    if (what == ENDED || (w->asked & static_cast<unsigned>(what)) != 0)
        w->due.push_back({what, h.is_folder, name, new_name, h.may, late});
}

static void due_from(watched *w, happening h, bool may) {
    h.may |= may || w->lossy;
    if (h.what != MIO_WATCH_RENAMED || h.name.empty()) {
        due_add(w, h.what, h, h.name, h.new_name, false);
        return;
    }
    const bool renames = (w->asked & MIO_WATCH_RENAMED) != 0, pair = h.name != NONE && h.new_name != NONE;
    const bool halves = pair && h.may && renames; // the kernel may have been asked for one of the two
    if (halves) due_add(w, MIO_WATCH_RENAMED, h, h.name, NONE, true);
    if (renames) due_add(w, MIO_WATCH_RENAMED, h, h.name, h.new_name, h.new_name == NONE);
    if (halves) due_add(w, MIO_WATCH_RENAMED, h, NONE, h.new_name, false);
    if (renames) return;
    const bool late = !pair || h.may || (w->asked & MIO_WATCH_CREATED) == 0;
    if (h.name != NONE) due_add(w, MIO_WATCH_REMOVED, h, h.name, NONE, late);
    if (h.new_name != NONE) due_add(w, MIO_WATCH_CREATED, h, h.new_name, NONE, false);
}

void happen(watched_node *to, int what, bool is_folder, const std::string &name, const std::string &new_name, bool may) {
    const happening h = {what, is_folder, name, new_name, may, false};
    to->past.push_back(h);
    for (watched *w : watches)
        if (is_attached(w) && w->on == to) due_from(w, h, false);
}

static bool is_same(const happening &h, const happening &told) {
    const bool folder_known = !h.name.empty();
    return h.what == told.what && h.name == told.name && h.new_name == told.new_name &&
           (h.is_folder == told.is_folder || (!folder_known && !told.is_folder));
}

// Is what lay before it in the kernel's queue, as far as is known, like that?
template <typename predicate> bool follows(const watched *w, size_t k, predicate like) {
    for (size_t i = k; i > 0; i--) {
        if (like(w->due[i - 1])) return true;
        if (!w->due[i - 1].may) return false;
    }
    return false;
}

static bool may_miss(const watched *w, size_t k) {
    const happening &h = w->due[k];
    return h.may || follows(w, k, [&](const happening &before) { return h.what != ENDED && is_same(before, h); });
}

// Before the watch nobody of its loop may have asked for more than removals: then the kernel may have made the first half
// of a rename one with that of an earlier one, which went elsewhere.
static bool is_second_half(const watched *w, size_t k, const happening &told) {
    const happening &h = w->due[k];
    return h.what == MIO_WATCH_RENAMED && told.what == MIO_WATCH_RENAMED && told.name == NONE &&
           h.new_name == told.new_name && h.is_folder == told.is_folder &&
           follows(w, k, [&](const happening &before) { return before.may && before.late && before.name == h.name; });
}

// News of a name, or the end: what is owed of it has been told.
static bool owed_settle(const watched *w, watch_place *p, const happening &told) {
    for (auto at = p->owed.begin(); at != p->owed.end();) {
        const std::string &name = w->due[*at].name;
        const bool concerns = told.what == ENDED || name == told.name || name == told.new_name;
        if (concerns && !may_miss(w, *at)) return false;
        at = concerns ? p->owed.erase(at) : std::next(at);
    }
    return true;
}

static bool step(watched *w, const happening &told) {
    std::set<watch_place> next;
    for (const watch_place &from : w->places) {
        for (const size_t owed : from.owed) {
            if (!is_same(w->due[owed], told)) continue;
            watch_place to = from;
            to.owed.erase(owed);
            next.insert(to);
        }
        watch_place on = from;
        for (; on.at < w->due.size(); on.at++) {
            if (is_same(w->due[on.at], told) || is_second_half(w, on.at, told)) {
                watch_place to = on;
                to.at++;
                if (owed_settle(w, &to, told)) next.insert(to);
            }
            if (w->due[on.at].late) on.owed.insert(on.at);
            else if (!may_miss(w, on.at)) break;
        }
    }
    w->places = next;
    return !next.empty();
}

static bool all_is_told(const watched *w) {
    if (w->lossy) return !w->overflow_owed;
    for (const watch_place &p : w->places) {
        bool all = true;
        for (const size_t owed : p.owed) all = all && may_miss(w, owed);
        for (size_t k = p.at; k < w->due.size(); k++) all = all && may_miss(w, k);
        if (all) return true;
    }
    return false;
}

static std::string words(const happening &h) {
    return std::to_string(h.what) + " '" + h.name + "' '" + h.new_name + "'" + (h.is_folder ? " folder" : "") +
           (h.may ? " may" : "") + (h.late ? " late" : "");
}

[[noreturn]] static void watch_fail(const watched *w, const char *what) {
    for (const happening &h : w->on->past) printf("  of the file: %s\n", words(h).c_str());
    for (size_t k = 0; k < w->due.size(); k++) printf("  %zu: %s\n", k, words(w->due[k]).c_str());
    for (const watch_place &p : w->places) printf("  at %zu, owes %zu\n", p.at, p.owed.size());
    fail("watch %d (%u) %s", w->number, w->asked, what);
}

// --- told -----------------------------------------------------------------------------------------------------------

static void told_overflow(watched *w) {
    if (w->loop != flooded) fail("watch %d overflows", w->number);
    flood_told = true;
    w->overflow_owed = false;
    for (watched *one : watches)
        if (one->loop == flooded && !one->overflow_owed) one->lossy = false;
}

static void told_last(watched *w, int status) {
    if (status != MIO_ECANCELED && status != MIO_ENOENT) fail("watch %d is told %s", w->number, mio_error_name(status));
    if (status == MIO_ECANCELED && !w->closing && !now.destroying)
        fail("watch %d is cancelled, and nobody asked for it", w->number);
    if (status == MIO_ENOENT && w->closing) fail("watch %d is gone after its close", w->number);
    w->last_told = true;
}

static void told_watch(mio_watch_t *watch, int status, const mio_watch_event_t *event, void *arg) {
    auto *w = static_cast<watched *>(arg);
    told_outside("a watch");
    if (w->dead || w->abandoned || w->last_told || watch != w->watch) fail("a watch is told after its end, or as another");
    if ((status == 0) != (event != nullptr)) fail("a watch is told status %d, and its event", status);
    happening told = {ENDED, w->on->is_folder, "", NONE, false, false};
    if (event != nullptr)
        told = {event->what, event->is_folder != 0, event->name != nullptr ? event->name : NONE,
                event->new_name != nullptr ? event->new_name : NONE, false, false};
    say("told: watch %d, status %d, %s", w->number, status, words(told).c_str());
    if (event != nullptr && w->closing) fail("watch %d is told of events after its close", w->number);
    if (event != nullptr && event->what == MIO_WATCH_OVERFLOW) told_overflow(w);
    else if (status != MIO_ECANCELED && !w->lossy && !step(w, told)) watch_fail(w, ("is told " + words(told)).c_str());
    if (status < 0) told_last(w, status);
    act_some(nullptr, below(2u));
}

static void told_watch_closed(mio_handle_t *handle, void *arg) {
    auto *w = static_cast<watched *>(arg);
    told_outside("a close");
    if (w->dead || w->abandoned || handle != w->watch) fail("a watch closes twice, or after an abandon");
    if (!w->last_told) fail("watch %d closes before its last call", w->number);
    w->dead = true;
}

// --- done -----------------------------------------------------------------------------------------------------------

bool watch_open(mio_loop_t *loop, watched_node *on, unsigned asked) {
    bool shares = false;
    for (const watched *w : watches) shares |= is_attached(w) && w->loop == loop && w->on == on;
    auto *w = new watched();
    w->number = static_cast<int>(watches.size());
    w->loop = loop;
    w->on = on;
    w->asked = asked;
    w->lossy = loop == flooded && !flood_told;
    w->places = {watch_place()};
    const std::string path = watched_path(on);
    const int error = CALL(mio_watch_open(loop, path.c_str(), asked, told_watch, w, &w->watch));
    say("watch %d of %s for %u: %d", w->number, path.c_str(), asked, error);
    if (error < 0) {
        if (!may_refuse(error)) fail("no watch: %s", mio_error_name(error));
        delete w;
        return false;
    }
    watches.push_back(w);
    for (const happening &h : on->past)
        if (shares) due_from(w, h, true);
    return true;
}

void watches_flooded(mio_loop_t *loop) {
    flooded = loop;
    flood_told = false;
    for (watched *w : watches) {
        if (w->loop != loop || !is_attached(w)) continue;
        w->lossy = w->overflow_owed = true;
        w->due.clear();
        w->places = {watch_place()};
        for (const happening &h : w->on->past) // a folder is gone when no file that was last in it is open
            if (h.what == ENDED || (h.what == MIO_WATCH_REMOVED && h.name.empty())) due_from(w, h, true);
    }
}

static void watch_end(watched *w) {
    if (chance(30) && !now.no_abandons) {
        say("watch %d: abandon", w->number);
        w->abandoned = true;
        CALL_VOID(mio_handle_abandon(w->watch));
        return;
    }
    say("watch %d: close", w->number);
    if (CALL(mio_handle_close(w->watch, told_watch_closed, w)) != 0) fail("a watch does not close");
    w->closing = true;
    if (chance(10) && !now.no_abandons) {
        w->abandoned = true;
        CALL_VOID(mio_handle_abandon(w->watch));
    }
}

static void watches_open() {
    mio_watch_t *none;
    has_files = !now.sim && strcmp(mio_loop_backend(now.loops[0]), "kqueue") != 0;
    if (has_files) watched_open();
    else if (now.sim && CALL(mio_watch_open(now.loops[0], "/", MIO_WATCH_ALL, told_watch, nullptr, &none)) != MIO_ENOTSUP)
        fail("a simulated world has files to watch");
}

static void watches_act() {
    if (!has_files) return;
    if (chance(75)) {
        watched_change();
        return;
    }
    watched *found = nullptr;
    uint32_t seen = 0;
    for (watched *w : watches)
        if (is_usable(w) && below(++seen) == 0) found = w;
    if (watches.size() < WATCHES_MAX && (seen < 4 || chance(40)))
        watch_open(some_loop(), watched_pick(), chance(40) ? 0u + MIO_WATCH_ALL : 1 + below(0u + MIO_WATCH_ALL));
    else if (found != nullptr && (found->last_told || chance(40))) watch_end(found);
}

// --- the end --------------------------------------------------------------------------------------------------------

static bool watches_are_over() {
    for (const watched *w : watches)
        if (is_attached(w) && !all_is_told(w)) return false;
    return true;
}

static void watches_check() {
    for (const watched *w : watches) {
        if (w->closing && !w->dead && !w->abandoned) fail("watch %d does not close", w->number);
        if (is_attached(w) && !all_is_told(w)) watch_fail(w, "is not told of something");
    }
}

static void watches_close() {
    for (watched *w : watches)
        if (is_usable(w)) watch_end(w);
}

static void watches_clear() {
    for (const watched *w : watches) {
        if (w->closing && !w->dead && !w->abandoned) fail("the close of a watch was never told");
        if (!w->last_told && !w->abandoned) fail("a watch was never told of its end");
        delete w;
    }
    watches.clear();
    flooded = nullptr;
    if (has_files) watched_clear();
}

const noun noun_watches = {"watches", true, watches_open, watches_act, watched_quiet, watches_are_over, watches_check,
                           watches_close, watches_clear};

}
