// See report.h. What the environment says is anybody's: it is quoted, so that it breaks no line and no terminal. In the
// JSON every text is.
#include "info/report.h"

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>

namespace info {

// -------------------------------------------------------------------------------------------------------- escaping

// Bytes of the UTF-8 sequence at the begin of text, 0: it is none (RFC 3629: no surrogates, nothing overlong).
static size_t sequence(const char *text, size_t left) {
    unsigned char byte[4] = {};
    memcpy(byte, text, left < sizeof byte ? left : sizeof byte);
    const auto follows = [&](size_t i) { return (byte[i] & 0xc0) == 0x80; }; // beyond the end there are zeroes
    if (byte[0] < 0x80) return 1;
    if (byte[0] >= 0xc2 && byte[0] <= 0xdf && follows(1)) return 2;
    if ((byte[0] & 0xf0) == 0xe0 && follows(1) && follows(2)) {
        const bool overlong = byte[0] == 0xe0 && byte[1] < 0xa0, surrogate = byte[0] == 0xed && byte[1] >= 0xa0;
        return overlong || surrogate ? 0 : 3;
    }
    if (byte[0] >= 0xf0 && byte[0] <= 0xf4 && follows(1) && follows(2) && follows(3)) {
        const bool overlong = byte[0] == 0xf0 && byte[1] < 0x90, beyond = byte[0] == 0xf4 && byte[1] >= 0x90;
        return overlong || beyond ? 0 : 4;
    }
    return 0;
}

// In quotes, as JSON has it; what is not UTF-8 becomes U+FFFD.
static std::string quoted(const std::string &text) {
    std::string out = "\"";
    for (size_t i = 0; i < text.size();) {
        const size_t n = sequence(text.data() + i, text.size() - i);
        // The last byte of a control character (U+0000 to 1f, 7f to 9f) is its number.
        const unsigned char byte = static_cast<unsigned char>(text[i]);
        const unsigned char last = static_cast<unsigned char>(n == 2 ? text[i + 1] : text[i]);
        const bool control = n == 1 ? byte < 0x20 || byte == 0x7f : byte == 0xc2 && last < 0xa0;
        if (n == 0) {
            out += "\\ufffd";
        } else if (byte == '"' || byte == '\\') {
            out += '\\';
            out += text[i];
        } else if (control) {
            char escape[8];
            snprintf(escape, sizeof escape, "\\u%04x", last);
            out += escape;
        } else {
            out.append(text, i, n);
        }
        i += n > 0 ? n : 1;
    }
    return out + "\"";
}

static bool is_number(const std::string &text) {
    const size_t sign = text[0] == '-';
    const bool digits = text.size() > sign && text.find_first_not_of("0123456789", sign) == std::string::npos;
    return digits && (text[sign] != '0' || text.size() == sign + 1); // JSON has no leading zeroes
}

// ------------------------------------------------------------------------------------------------------------ text

static void line(const char *title, const std::string &text) { printf("%-16s%s\n", title, text.c_str()); }

// A verdict in words: what works needs none but "works".
static std::string verdict(int error, const std::string &reason) {
    if (error == 0) return reason.empty() || reason == "works" ? "works" : "works: " + reason;
    return std::string(mio_error_name(error)) + ": " + (reason.empty() ? mio_error_text(error) : reason);
}

static bool has_backend(const facts *f, const std::string &name) {
    for (const backend &known : f->backends)
        if (known.name == name) return true;
    return false;
}

static bool has_feature(const facts *f, const std::string &name) {
    for (const feature &known : f->features)
        if (known.name == name) return true;
    return false;
}

// The first name of MIO_URING_MASK that no feature has; "": none, or the features are not known here.
static std::string unknown_feature(const facts *f) {
    const std::string &mask = f->mask.value;
    for (size_t begin = 0; begin < mask.size() && !f->features.empty();) {
        size_t end = mask.find(',', begin);
        if (end == std::string::npos) end = mask.size();
        const std::string name = mask.substr(begin, end - begin);
        if (!name.empty() && name != "all" && !has_feature(f, name)) return name;
        begin = end + 1;
    }
    return "";
}

static void print_variables(const facts *f) {
    std::string text = f->backend_wanted.is_set ? quoted(f->backend_wanted.value) : "not set";
    if (f->backend_wanted.is_set && !has_backend(f, f->backend_wanted.value)) text += ": no backend has this name";
    line(f->backend_wanted.name, text);
    text = f->mask.is_set ? quoted(f->mask.value) : "not set";
    const std::string unknown = unknown_feature(f);
    if (!unknown.empty()) text += ": no feature is called " + quoted(unknown);
    line(f->mask.name, text);
}

static std::string automatic_text(const facts *f) {
    if (f->automatic == 0) return f->automatic_name;
    const bool asked = f->automatic == MIO_ENOTSUP && f->backend_wanted.is_set;
    return "nothing: " + verdict(f->automatic, asked ? "what MIO_BACKEND asks for does not work here" : "");
}

static void print_backends(const facts *f) {
    printf("\nbackends\n");
    for (const backend &each : f->backends) {
        line(("  " + each.name).c_str(), verdict(each.verdict, each.reason));
        if (!each.remedy.empty()) line("", "remedy: " + each.remedy);
    }
    const std::string *of = nullptr;
    for (const feature &each : f->features) {
        if (of == nullptr || *of != each.backend) printf("\nfeatures of %s\n", each.backend.c_str());
        of = &each.backend;
        const bool masked = each.verdict == MIO_ECANCELED && each.reason.empty();
        line(("  " + each.name).c_str(), verdict(each.verdict, masked ? "left out by MIO_URING_MASK" : each.reason));
    }
    if (f->features.empty()) printf("\nfeatures of backends: none is reported\n");
}

static std::string limit_value(rlim_t value) {
    return value == RLIM_INFINITY ? "unlimited" : std::to_string(static_cast<uintmax_t>(value));
}

static void print_limits(const facts *f) {
    printf("\nlimits\n");
    for (const limit &each : f->limits) {
        const std::string now = limit_value(each.now.rlim_cur), most = limit_value(each.now.rlim_max);
        const std::string text = each.error != 0 ? std::string("cannot be read: ") + strerror(each.error)
                                 : now == most   ? now
                                                 : now + ", can be raised to " + most;
        printf("  %-30s%s\n  %-30s%s\n", each.name, text.c_str(), "", each.what);
    }
    for (const sysctl &each : f->sysctls) {
        const std::string text = each.error == 0        ? each.value
                                 : each.error == ENOENT ? "absent: not on this kernel, or hidden from this process"
                                                        : std::string("cannot be read: ") + strerror(each.error);
        printf("  %-30s%s\n  %-30s%s\n", each.name, text.c_str(), "", each.what);
    }
}

// Which calls a filter refuses cannot be read: what can be known is what the backends met when they tried.
static std::string seccomp_text(const facts *f) {
    if (f->seccomp_mode == UNKNOWN) return "not told by this kernel";
    if (f->seccomp_mode == 0) return "0: no filter, every system call reaches the kernel";
    if (f->seccomp_mode != 2) return std::to_string(f->seccomp_mode) + ": strict";
    const std::string filters = f->seccomp_filters > 0 ? " (" + std::to_string(f->seccomp_filters) + ")" : "";
    return "2: filters" + filters + "; what they refuse cannot be read, the verdicts above were found under them";
}

static std::string privileges_text(const facts *f) {
    if (f->no_new_privileges == UNKNOWN) return "not told by this kernel";
    return f->no_new_privileges == 0 ? "0: a program that is executed may gain rights (set-user-ID)"
                                     : "1: no program that is executed gains rights; a sandbox sets it";
}

void report_text(const facts *f) {
    line("libmio", mio_version());
    line("kernel", f->system + " " + f->release + " " + f->machine);
    const std::string online = f->online == UNKNOWN ? "unknown" : std::to_string(f->online);
    if (f->allowed == UNKNOWN) line("processors", online);
    else line("processors", std::to_string(f->allowed) + " of " + online + " (" + f->allowed_list + ")");
    print_variables(f);
    line("AUTO takes", automatic_text(f));
    print_backends(f);
    print_limits(f);
    printf("\nsandbox\n");
    line("  seccomp", seccomp_text(f));
    line("  no_new_privs", privileges_text(f));
}

// ------------------------------------------------------------------------------------------------------------ JSON

static std::string number_or_null(int value) { return value == UNKNOWN ? "null" : std::to_string(value); }

static std::string variable_json(const variable &v) {
    return quoted(v.name) + ": " + (v.is_set ? quoted(v.value) : "null");
}

// "verdict" is the number, "error" its name, null where there is none.
static std::string verdict_json(int error) {
    return "\"verdict\": " + std::to_string(error) +
           ", \"error\": " + (error == 0 ? "null" : quoted(mio_error_name(error)));
}

static std::string limit_json(rlim_t value) {
    const std::string text = limit_value(value);
    return is_number(text) ? text : quoted(text);
}

static std::string sysctl_json(const sysctl &each) {
    if (each.error != 0) return "null";
    return is_number(each.value) ? each.value : quoted(each.value);
}

static void print_json_backends(const facts *f) {
    printf(", \"backends\": [");
    const char *separator = "";
    for (const backend &each : f->backends) {
        printf("%s{\"name\": %s, %s, \"reason\": %s, \"remedy\": %s}", separator, quoted(each.name).c_str(),
               verdict_json(each.verdict).c_str(), quoted(each.reason).c_str(), quoted(each.remedy).c_str());
        separator = ", ";
    }
    printf("], \"features\": [");
    separator = "";
    for (const feature &each : f->features) {
        printf("%s{\"backend\": %s, \"name\": %s, %s, \"reason\": %s}", separator, quoted(each.backend).c_str(),
               quoted(each.name).c_str(), verdict_json(each.verdict).c_str(), quoted(each.reason).c_str());
        separator = ", ";
    }
    printf("]");
}

static void print_json_limits(const facts *f) {
    printf(", \"limits\": {");
    const char *separator = "";
    for (const limit &each : f->limits) {
        if (each.error != 0) printf("%s\"%s\": null", separator, each.name);
        else
            printf("%s\"%s\": {\"soft\": %s, \"hard\": %s}", separator, each.name,
                   limit_json(each.now.rlim_cur).c_str(), limit_json(each.now.rlim_max).c_str());
        separator = ", ";
    }
    printf("}, \"sysctl\": {");
    separator = "";
    for (const sysctl &each : f->sysctls) {
        printf("%s\"%s\": %s", separator, each.name, sysctl_json(each).c_str());
        separator = ", ";
    }
    printf("}");
}

void report_json(const facts *f) {
    printf("{\"version\": %s", quoted(mio_version()).c_str());
    printf(", \"kernel\": {\"system\": %s, \"release\": %s, \"machine\": %s}", quoted(f->system).c_str(),
           quoted(f->release).c_str(), quoted(f->machine).c_str());
    printf(", \"processors\": {\"online\": %s, \"allowed\": %s, \"list\": %s}", number_or_null(f->online).c_str(),
           number_or_null(f->allowed).c_str(), quoted(f->allowed_list).c_str());
    printf(", \"environment\": {%s, %s}", variable_json(f->backend_wanted).c_str(), variable_json(f->mask).c_str());
    printf(", \"auto\": {\"backend\": %s, %s}", f->automatic == 0 ? quoted(f->automatic_name).c_str() : "null",
           verdict_json(f->automatic).c_str());
    print_json_backends(f);
    print_json_limits(f);
    printf(", \"seccomp\": {\"mode\": %s, \"filters\": %s, \"no_new_privs\": %s}}\n",
           number_or_null(f->seccomp_mode).c_str(), number_or_null(f->seccomp_filters).c_str(),
           number_or_null(f->no_new_privileges).c_str());
}

}
