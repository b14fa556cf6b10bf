// Takes part in a leader election until Enter is pressed: leader PORT.
#include <discover.hpp>

#include <iostream>
#include <string>

static void run(int port) {
    // Without a URL the registry is that of DISCOVER_URL, else local://.
    discover::client client;

    // Every registered instance is a candidate; the oldest one leads.
    discover::registration registration{"worker", port};
    discover::lease lease = client.register_instance(registration.host("127.0.0.1"));
    const std::string own{lease.address()};

    // The callback receives the current leader first and then each new one.
    auto on_event = [own](const discover::event &event) {
        auto leader = event.instance();
        if (event.kind() != DISCOVER_EVENT_LEADER || !leader) return;
        if (leader->address() == own) std::cout << "leading" << std::endl;
        else std::cout << "following " << leader->address() << std::endl;
    };
    discover::subscription subscription = client.services("worker").subscribe(on_event);

    // Do the leader's work here, or wait to become the leader.
    std::string line;
    std::getline(std::cin, line);

    // Closing unregisters the instance, and the next oldest one leads.
    client.close();
}

int main(int argc, char **argv) {
    if (argc != 2) {
        std::cerr << "leader: usage: leader PORT\n";
        return 1;
    }
    try {
        run(std::stoi(argv[1]));
        return 0;
    } catch (const std::exception &error) {
        std::cerr << "leader: " << error.what() << '\n';
        return 1;
    }
}
