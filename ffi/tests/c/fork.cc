// Reads of a set in a forked child: they throw, because the C functions return no status.
#include <discover.hpp>

#include <cstdlib>
#include <iostream>

#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                                     \
    do {                                                                                     \
        if (!(condition)) {                                                                  \
            std::cerr << __FILE__ << ':' << __LINE__ << ": check failed: " #condition "\n"; \
            std::_Exit(1);                                                                   \
        }                                                                                    \
    } while (false)

template <typename Call>
static bool is_forked(Call call) {
    try {
        call();
        return false;
    } catch (const discover::error &error) {
        return error.status() == DISCOVER_ERR_FORKED;
    }
}

static void reads_throw(const discover::set &web) {
    CHECK(web.service() == "web");
    CHECK(is_forked([&] { web.state(); }));
    CHECK(is_forked([&] { web.snapshot(); }));
    CHECK(is_forked([&] { web.online(); }));
    CHECK(is_forked([&] { web.offline(); }));
    CHECK(is_forked([&] { web.leader(); }));
    CHECK(is_forked([&] { web.pick("random"); }));
    CHECK(is_forked([&] { discover::scalingo::service::from_set(web); }));
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    discover::client client{argv[1]};
    const discover::set web = client.services("web");
    CHECK(web.state() != 0 && web.online().empty());
    const pid_t child = fork();
    if (child == 0) {
        reads_throw(web);
        std::_Exit(0);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}
