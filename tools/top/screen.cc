// See screen.h. A rate is the difference of two looks by the time between them, in the loop's own clock; a loop that has
// slept all the while has not written, and its rates are 0.
#include "top/screen.h"

#include <cstdio>
#include <ctime>

namespace top {

// "1234567" as "1.23M", so that columns stay where they are.
static std::string count(double value, const char *unit = "") {
    static const char *const scale[] = {"", "k", "M", "G", "T", "P"};
    unsigned step = 0;
    for (; value >= 9999.5 && step < 5; step++) value /= 1000;
    char text[32];
    snprintf(text, sizeof text, step > 0 && value < 99.95 ? "%.1f%s%s" : "%.0f%s%s", value, scale[step], unit);
    return text;
}

// Names come from files that anybody may have made: nothing in them is the terminal's to obey.
static std::string printable(std::string text) {
    for (char &c : text)
        if (static_cast<unsigned char>(c) < ' ' || c == 127) c = '?';
    return text;
}

static std::string duration(int64_t ns) {
    char text[32];
    const auto value = static_cast<double>(ns);
    if (ns < 1000 * MIO_MICROSECOND) snprintf(text, sizeof text, "%.0fus", value / 1e3);
    else if (ns < 1000 * MIO_MILLISECOND) snprintf(text, sizeof text, "%.1fms", value / 1e6);
    else snprintf(text, sizeof text, "%.1fs", value / 1e9);
    return text;
}

// Asleep up to now: a loop that sleeps cannot write that it still does.
static int64_t asleep_ns(const mio_export_t *look, int64_t now_ns) {
    if (look->asleep_since_ns == 0 || now_ns < look->asleep_since_ns) return look->asleep_ns;
    return look->asleep_ns + (now_ns - look->asleep_since_ns);
}

static void print_loop(const page &p, int64_t now_ns) {
    const mio_export_t &now = p.now, &before = p.before;
    const bool twice = before.written_ns != 0;
    // Of one look alone: since it was exported.
    const int64_t from_ns = twice ? before.written_ns : now.exported_ns;
    const double seconds = static_cast<double>(now.written_ns - from_ns) / 1e9;
    const auto rate = [&](uint64_t mio_metrics::*what) {
        const uint64_t was = twice ? before.metrics.*what : 0;
        return seconds <= 0 ? std::string("0") : count(static_cast<double>(now.metrics.*what - was) / seconds);
    };
    // Of the time up to this moment, which the counts above do not know.
    const int64_t slept_ns = asleep_ns(&now, now_ns) - (twice ? before.asleep_ns : 0);
    const int64_t span_ns = now_ns - from_ns;
    const double idle = span_ns <= 0 ? 0 : 100.0 * static_cast<double>(slept_ns) / static_cast<double>(span_ns);
    printf("%8lld %-12.12s %-8s %7s %7s %8s %4.0f%% %7s %7s %7s %7s %7s %7s %7s\n", static_cast<long long>(now.pid),
           now.name[0] != 0 ? printable(now.name).c_str() : "-", printable(now.backend).c_str(), rate(&mio_metrics::turns).c_str(),
           rate(&mio_metrics::callbacks).c_str(), duration(now.slowest_ns).c_str(), idle < 0 ? 0 : idle > 100 ? 100 : idle,
           count(static_cast<double>(now.metrics.handles)).c_str(), count(static_cast<double>(now.metrics.requests)).c_str(),
           rate(&mio_metrics::posts).c_str(), rate(&mio_metrics::bytes_read).c_str(),
           rate(&mio_metrics::bytes_written).c_str(), count(static_cast<double>(now.metrics.buffer_bytes)).c_str(),
           count(static_cast<double>(now.metrics.buffer_held_bytes)).c_str());
}

void screen_print(const std::vector<page> &pages, int64_t now_ns) {
    unsigned loops = 0, gone = 0;
    for (const page &p : pages) {
        if (p.error == 0 && p.alive) loops++;
        else if (p.error == 0) gone++;
    }
    char at[16];
    const time_t seconds = time(nullptr);
    struct tm parts;
    strftime(at, sizeof at, "%H:%M:%S", localtime_r(&seconds, &parts));
    printf("mio-top %s: %u loop%s%s\n", at, loops, loops == 1 ? "" : "s",
           gone == 0 ? "" : ", and files of programs that are gone (mio-top --clean)");
    printf("%8s %-12s %-8s %7s %7s %8s %5s %7s %7s %7s %7s %7s %7s %7s\n", "PID", "NAME", "BACKEND", "TURNS/s", "CALLS/s",
           "LONGEST", "IDLE", "HANDLES", "REQUEST", "POSTS/s", "IN B/s", "OUT B/s", "BUFFERS", "HELD");
    for (const page &p : pages) {
        if (p.error != 0) printf("%s: %s\n", printable(p.path).c_str(), mio_error_text(p.error));
        else if (p.alive) print_loop(p, now_ns);
    }
}

}
