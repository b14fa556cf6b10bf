// Runs the scenario of story.txt in C++ and prints its trace: story URL.
#include <discover.hpp>

#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <mutex>
#include <optional>
#include <queue>
#include <sstream>
#include <string>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

using namespace std::chrono_literals;
using words = std::vector<std::string>;

static constexpr auto wait_timeout = 30s;

// The events that were received and not yet printed, in order.
class event_queue {
public:
    // The callback. Runs on the client's callback thread.
    void push(const discover::event &event) {
        std::ostringstream text;
        text << event.kind_name();
        if (auto instance = event.instance()) {
            text << ' ' << instance->address();
            for (const auto &[name, value] : instance->attributes()) text << ' ' << name << '=' << value;
        } else if (event.kind() == DISCOVER_EVENT_LEADER) {
            text << " -";
        }
        std::lock_guard<std::mutex> locked(lock_);
        events_.push(text.str());
        changed_.notify_one();
    }

    // The next event, if one arrives in time.
    std::optional<std::string> next(std::chrono::seconds timeout) {
        std::unique_lock<std::mutex> locked(lock_);
        if (!changed_.wait_for(locked, timeout, [this] { return !events_.empty(); })) return std::nullopt;
        std::string text = events_.front();
        events_.pop();
        return text;
    }

private:
    std::mutex lock_;
    std::condition_variable changed_;
    std::queue<std::string> events_;
};

static discover::attributes parse(words::const_iterator word, words::const_iterator end) {
    discover::attributes all;
    for (; word != end; ++word) {
        const auto equals = word->find('=');
        if (equals == word->npos) throw std::runtime_error("an attribute is name=value");
        all[word->substr(0, equals)] = word->substr(equals + 1);
    }
    return all;
}

static discover::lease register_at(const discover::client &client, const std::string &service,
                                   const std::string &address, const discover::attributes &all) {
    const auto colon = address.rfind(':');
    if (colon == address.npos) throw std::runtime_error(address + " has no port");
    discover::registration registration{service, std::stoi(address.substr(colon + 1))};
    registration.host(address.substr(0, colon));
    for (const auto &[name, value] : all) registration.attribute(name, value);
    return client.register_instance(registration, wait_timeout);
}

class runner {
public:
    runner(char *program, char *url) : program_(program), url_(url) {}

    void run() {
        const char *path = std::getenv("STORY");
        std::ifstream story(path ? path : "tests/story/story.txt");
        if (!story) throw std::runtime_error("cannot read the scenario");
        for (std::string line; std::getline(story, line);) {
            std::istringstream text(line);
            words all{std::istream_iterator<std::string>(text), {}};
            if (all.empty() || all[0][0] == '#') continue;
            if (all[0] == "+") {
                if (std::string_view(url_).substr(0, 7) == "memory:") continue;
                all.erase(all.begin());
            }
            step(all);
        }
    }

private:
    void step(words &all) {
        const std::string &verb = all[0];
        if (verb == "open") client_.emplace(url_);
        else if (verb == "watch") watch(all.at(1));
        else if (verb == "register")
            lease_.emplace(register_at(*client_, all.at(1), all.at(2), parse(all.begin() + 3, all.end())));
        else if (verb == "update") lease_->update(parse(all.begin() + 1, all.end()), wait_timeout);
        else if (verb == "unregister") lease_->unregister(wait_timeout);
        else if (verb == "spawn") spawn(all.at(1), all.at(2));
        else if (verb == "kill") kill_member();
        else if (verb == "close") client_->close(wait_timeout);
        else if (verb == "hear") print_next();
        else if (verb == "silence") silence();
        else throw std::runtime_error("no such step: " + verb);
    }

    void watch(const std::string &service) {
        auto on_event = [this](const discover::event &event) { queue_.push(event); };
        subscription_.emplace(client_->services(service).subscribe(on_event));
    }

    void print_next() {
        auto event = queue_.next(wait_timeout);
        if (!event) throw std::runtime_error("no event received");
        std::cout << *event << std::endl;
    }

    void silence() {
        auto event = queue_.next(0s);
        if (!event) std::cout << "silence" << std::endl;
        for (; event; event = queue_.next(0s)) std::cout << *event << std::endl;
    }

    // Starts this program again as a member, and waits until the member is registered.
    void spawn(std::string &service, std::string &address) {
        char member[] = "member";
        char *arguments[] = {program_, url_, member, service.data(), address.data(), nullptr};
        int ends[2];
        if (pipe(ends) != 0 || (member_ = fork()) < 0) throw std::runtime_error("cannot fork");
        if (member_ == 0) {
            dup2(ends[1], STDOUT_FILENO);
            execv(program_, arguments);
            _exit(1);
        }
        close(ends[1]);
        char output[6] = "";
        const bool ready = read(ends[0], output, sizeof output) == 6 && std::string_view(output, 6) == "ready\n";
        close(ends[0]);
        if (!ready) throw std::runtime_error("the member is not ready");
    }

    void kill_member() {
        kill(member_, SIGKILL);
        waitpid(member_, nullptr, 0);
    }

    char *program_;
    char *url_;
    pid_t member_ = 0;
    event_queue queue_;
    std::optional<discover::client> client_;
    std::optional<discover::subscription> subscription_;
    std::optional<discover::lease> lease_;
};

static void run_member(const char *url, const char *service, const char *address) {
    discover::client client{url};
    discover::lease lease = register_at(client, service, address, {});
    std::cout << "ready" << std::endl;
    for (;;) pause();
}

int main(int argc, char **argv) {
    try {
        if (argc == 5 && std::string_view(argv[2]) == "member") run_member(argv[1], argv[3], argv[4]);
        if (argc != 2) throw std::runtime_error("usage: story URL");
        runner(argv[0], argv[1]).run();
        return 0;
    } catch (const std::exception &error) {
        std::cerr << "story: " << error.what() << '\n';
        return 1;
    }
}
