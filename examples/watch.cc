// Prints the events of the service web until Enter is pressed: watch.
#include <discover.hpp>

#include <iostream>
#include <string>

// Runs on the client's callback thread, one event at a time.
static void print_event(const discover::event &event) {
    std::cout << event.kind_name();
    if (auto instance = event.instance()) {
        std::cout << ' ' << instance->address();
    } else if (event.kind() == DISCOVER_EVENT_LEADER) {
        std::cout << " none";
    } else if (auto error = event.error()) {
        std::cout << ' ' << error->what();
    }
    std::cout << std::endl;
}

static void run() {
    // Without a URL the registry is that of DISCOVER_URL, else local://.
    discover::client client;

    // Watch the service: first the full state, then `current`, then every change.
    discover::subscription subscription = client.services("web").subscribe(print_event);

    // Do other work here; the callback receives the events.
    std::string line;
    std::getline(std::cin, line);

    // After closing, no event follows.
    client.close();
}

int main() {
    try {
        run();
        return 0;
    } catch (const std::exception &error) {
        std::cerr << "watch: " << error.what() << '\n';
        return 1;
    }
}
