// Prints what happens to the service web until Enter is pressed: watch.
#include <discover.hpp>

#include <iostream>
#include <string>

// Called on the client's own thread, with one event at a time.
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
    // Without a URL, the registry is the one named by DISCOVER_URL, else local://.
    discover::client client;

    // Follow the service: first the whole state, then `current`, then every change.
    discover::subscription subscription = client.services("web").subscribe(print_event);

    // The events come by themselves; we are free to do our work.
    std::string line;
    std::getline(std::cin, line);

    // Once the client is closed, no event follows.
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
