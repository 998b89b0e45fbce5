// Questions to the resolver: hosts with addresses, without, unknown, failing, numeric ones, and addresses' names.
//
// The model of a host is its list of addresses or its error, and how often that has changed: an answer is what was so at
// some time between the question and it.
#include "nouns.h"

#include <string>

namespace torture {

constexpr int QUESTIONS_MAX = 50, VERSIONS_MAX = 6, ADDRESSES_MAX = 3;

struct version { // of what a host has; error 0: addresses
    int error;
    unsigned count;
    mio_addr_t list[ADDRESSES_MAX];
};

struct host {
    const char *name;
    int versions;
    version had[VERSIONS_MAX];
};

static host hosts[] = {{"one.test", 0, {}}, {"many.test", 0, {}}, {"Some.Test", 0, {}}, {"none.test", 0, {}}, {"unknown.test", 0, {}}};
constexpr unsigned HOSTS = sizeof hosts / sizeof hosts[0];

struct question : loose {
    host *of;     // NULL: a numeric one
    int first;    // the version when it was asked
    int port;
    int family;
    mio_addr_t numeric;
};

static int question_count;
static mio_addrs_t taken[QUESTIONS_MAX];
static int taken_count;

// --- the world's names ----------------------------------------------------------------------------------------------

static void host_change(host *h) {
    version v = {};
    const uint32_t which = h == &hosts[HOSTS - 1] ? 2 : below(3u);
    if (which == 0) {
        static const int errors[] = {MIO_EAI_AGAIN, MIO_EAI_FAIL};
        v.error = errors[below(2u)];
        if (mio_sim_name_fails(now.world, h->name, v.error) < 0) return;
    } else if (which == 1) {
        if (mio_sim_forget_name(now.world, h->name) < 0 && h->versions > 1 && h->had[h->versions - 1].error != MIO_EAI_NONAME)
            fail("%s is not forgotten", h->name);
        v.count = 1 + below(ADDRESSES_MAX);
        for (unsigned i = 0; i < v.count; i++) {
            char text[32];
            snprintf(text, sizeof text, chance(50) ? "127.0.%u.1" : "::%x", 1 + 16 * i + below(10u));
            if (mio_addr_parse(text, 0, &v.list[i]) < 0) fail("no address %s", text);
            if (mio_sim_add_name(now.world, h->name, &v.list[i]) < 0) fail("%s has no address", h->name);
        }
    } else {
        mio_sim_forget_name(now.world, h->name);
        v.error = MIO_EAI_NONAME;
    }
    h->had[h->versions++] = v;
}

static void resolve_open() {
    for (host &h : hosts) {
        h.versions = 0;
        h.had[h.versions++].error = MIO_EAI_NONAME;
        if (now.sim && h.name[0] != 'u') host_change(&h);
    }
}

// --- answers --------------------------------------------------------------------------------------------------------

static std::string host_of(const mio_addr_t *addr) {
    char text[MIO_ADDR_TEXT_MAX];
    if (mio_addr_format(addr, text, sizeof text) < 0) fail("an address has no text");
    *strrchr(text, ':') = '\0';
    return text;
}

static bool list_has(const mio_addr_t *list, unsigned n, const mio_addr_t *one) {
    for (unsigned i = 0; i < n; i++) {
        if (host_of(&list[i]) == host_of(one)) return true;
    }
    return false;
}

// An answer that this version gives?
static bool gives(const version *v, int family, int status, const mio_addrs_t *addrs) {
    mio_addr_t asked[ADDRESSES_MAX];
    unsigned n = 0;
    for (unsigned i = 0; i < v->count; i++)
        if ((family == 0 || v->list[i].u.any.sa_family == family) && !list_has(asked, n, &v->list[i])) asked[n++] = v->list[i];
    if (v->error != 0) return status == v->error;
    if (n == 0) return status == MIO_EAI_NODATA;
    if (status != 0 || addrs->count != n) return false;
    for (unsigned i = 0; i < n; i++)
        if (!list_has(addrs->list, addrs->count, &asked[i])) return false;
    return true;
}

static void told_answer(mio_loop_t *, int status, mio_addrs_t *addrs, void *arg) {
    auto *q = static_cast<question *>(arg);
    const bool early = loose_told(q, status);
    if ((addrs != nullptr) != (status == 0)) fail("resolve %d: status %d, and the list", q->number, status);
    if (!early && !is_want(status)) {
        bool may = false;
        version numeric = {0, 1, {q->numeric}};
        if (q->of == nullptr) may = gives(&numeric, 0, status, addrs);
        for (int i = q->first; q->of != nullptr && i < q->of->versions; i++) may |= gives(&q->of->had[i], q->family, status, addrs);
        if (!may) fail("resolve %d of %s: %s, which it never had", q->number, q->of != nullptr ? q->of->name : "a number",
                       mio_error_name(status));
    }
    for (unsigned i = 0; status == 0 && i < addrs->count; i++)
        if (mio_addr_port(&addrs->list[i]) != q->port) fail("resolve %d: another port", q->number);
    if (status == 0 && chance(40)) {
        taken[taken_count++] = mio_addrs_take(addrs);
        if (addrs->list != nullptr || addrs->count != 0) fail("what was taken is still there");
    }
    act_some(nullptr, below(2u));
}

static void told_name(mio_loop_t *, int status, const char *name, const char *service, void *arg) {
    auto *q = static_cast<question *>(arg);
    const bool early = loose_told(q, status);
    if (!early && status < 0 && !is_want(status)) fail("resolve %d: %s", q->number, mio_error_name(status));
    if ((name != nullptr) != (status == 0)) fail("resolve %d: status %d, and the name", q->number, status);
    mio_addr_t back;
    if (status == 0 && (mio_addr_parse(name, atoi(service), &back) < 0 || !list_has(&q->numeric, 1, &back) ||
                        mio_addr_port(&back) != q->port))
        fail("resolve %d: %s %s", q->number, name, service);
    act_some(nullptr, below(2u));
}

// --- questions ------------------------------------------------------------------------------------------------------

static void ask_refused() {
    static const char *const none[] = {"", "two..dots", "b\xc3\xbc.test", "with space", "new\nline"};
    const mio_req_t id = CALL(mio_resolve_host(some_loop(), none[below(5u)], MIO_TEXT, 1, nullptr, told_answer, nullptr));
    if (id != MIO_EINVAL && id != MIO_ESHUTDOWN) fail("what is no host name gives %lld", static_cast<long long>(id));
}

static void resolve_act() {
    if (taken_count > 0 && chance(30)) mio_addrs_release(&taken[--taken_count]);
    host *h = &hosts[below(HOSTS)];
    if (now.sim && chance(20) && h->versions < VERSIONS_MAX) host_change(h);
    if (chance(5)) ask_refused();
    if (question_count >= QUESTIONS_MAX) return;
    question_count++;
    question *q = loose_new<question>("resolve", loose_free);
    q->port = static_cast<int>(1 + below(60000u));
    const bool is_numeric = !now.sim || chance(30);
    const char *text = chance(50) ? "127.0.0.7" : "2001:db8::7";
    if (mio_addr_parse(text, q->port, &q->numeric) < 0) fail("no address");
    if (chance(25)) {
        loose_taken(q, CALL(mio_resolve_addr(q->loop, &q->numeric, MIO_RESOLVE_NUMERIC, told_name, q)));
        return;
    }
    mio_resolve_options_t options = MIO_RESOLVE_OPTIONS_INIT;
    if (!is_numeric) {
        static const int families[] = {0, 0, AF_INET, AF_INET6};
        q->of = h;
        q->first = h->versions - 1;
        options.family = q->family = families[below(4u)];
        text = h->name;
    }
    loose_taken(q, CALL(mio_resolve_host(q->loop, text, MIO_TEXT, q->port, &options, told_answer, q)));
}

static void resolve_clear() {
    while (taken_count > 0) mio_addrs_release(&taken[--taken_count]); // the loops are gone
    question_count = 0;
}

const noun noun_resolve = {"resolve", true, resolve_open, resolve_act, nullptr, nullptr, nullptr, nullptr, resolve_clear};

}
