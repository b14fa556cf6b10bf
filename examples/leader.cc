// Takes part in the election of a leader until Enter is pressed: leader PORT.
#include <discover.hpp>

#include <iostream>
#include <string>

static void run(int port) {
    // Without a URL, the registry is the one named by DISCOVER_URL, else local://.
    discover::client client;

    // Everybody who registers is a candidate; the oldest instance leads.
    discover::registration registration{"worker", port};
    discover::lease lease = client.register_instance(registration.host("127.0.0.1"));
    const std::string own{lease.address()};

    // A leader is told at once, and again whenever it is another.
    auto on_event = [own](const discover::event &event) {
        auto leader = event.instance();
        if (event.kind() != DISCOVER_EVENT_LEADER || !leader) return;
        if (leader->address() == own) std::cout << "leading" << std::endl;
        else std::cout << "following " << leader->address() << std::endl;
    };
    discover::subscription subscription = client.services("worker").subscribe(on_event);

    // Do the leader's work, or wait for the turn; here, until Enter.
    std::string line;
    std::getline(std::cin, line);

    // Closing unregisters us, and the next oldest leads.
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
