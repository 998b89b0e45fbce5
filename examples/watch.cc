// Watches: a configuration that is read again whenever somebody replaces it. What is watched is its folder, for editors
// and package managers write a new file and rename it over the old one, and the old one is what a watch of it would see.
//
//   watch            plays the editor itself, twice
#include <mio.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <unistd.h>

static std::string folder;
static int loaded, replaced;

static std::string path_of(const char *name) { return folder + "/" + name; }

static void load() {
    char text[64] = "";
    FILE *file = fopen(path_of("config").c_str(), "re");
    if (file == nullptr) return;                                  // between two of them: the next event tells
    if (fgets(text, sizeof text, file) != nullptr) {
        text[strcspn(text, "\n")] = 0;
        printf("loaded: %s\n", text);
        loaded = atoi(text + strlen("workers "));
    }
    fclose(file);
}

static bool is_config(const char *name) { return name != nullptr && strcmp(name, "config") == 0; }

static void on_change(mio_watch_t *watch, int status, const mio_watch_event_t *event, void *) {
    if (status < 0) {
        if (status == MIO_ENOENT) printf("the folder is gone\n");
        return;
    }
    // OVERFLOW: events were lost, or this system tells no names (kqueue). Then looking is all there is.
    if (event->what == MIO_WATCH_OVERFLOW || is_config(event->name) || is_config(event->new_name)) load();
    if (loaded == 3) mio_handle_close(watch, nullptr, nullptr);
}

static void on_edit(mio_timer_t *timer, void *) {
    FILE *file = fopen(path_of("config.new").c_str(), "we");
    if (file == nullptr) return;
    fprintf(file, "workers %d\n", 2 + replaced++);
    fclose(file);
    rename(path_of("config.new").c_str(), path_of("config").c_str());
    if (replaced == 2) mio_handle_close(timer, nullptr, nullptr);
}

int main() {
    char name[] = "/tmp/mio-example-XXXXXX";
    if (mkdtemp(name) == nullptr) return 1;
    folder = name;
    mio_loop_t *loop;
    mio_watch_t *watch;
    mio_timer_t *editor;
    if (mio_loop_create(&loop, nullptr) < 0) return 1;
    const int error = mio_watch_open(loop, name, MIO_WATCH_REPLACED, on_change, nullptr, &watch);
    if (error < 0) {
        fprintf(stderr, "watch: %s: %s\n", name, mio_error_text(error)); // MIO_ENOSPC: fs.inotify.max_user_watches
        return 1;
    }
    load();                                                       // after the watch: nothing can slip in between
    if (mio_timer_create(loop, &editor) < 0) return 1;
    if (mio_timer_start(editor, 0, 50 * MIO_MILLISECOND, on_edit, nullptr) < 0) return 1;
    const int status = mio_loop_run(loop);
    unlink(path_of("config").c_str());
    rmdir(name);
    return mio_loop_destroy(loop, MIO_FOREVER) == 0 && status == 0 && loaded == 3 ? 0 : 1;
}
