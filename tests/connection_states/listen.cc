// Prints the state of its connection and its registration until its input ends: `listen URL PORT`.
#include <discover.hpp>

#include <cstdlib>
#include <iostream>

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    discover::client client{argv[1]};
    discover::subscription connection = client.on_connection([](const discover::connection_status &now) {
        std::cout << "connection " << discover_connection_name(now.state) << std::endl;
    });
    discover::registration registration{"states", std::atoi(argv[2])};
    discover::lease lease = client.register_instance(registration.host("127.0.0.1"));
    discover::subscription standing = lease.on_standing([](const discover::lease_status &now) {
        std::cout << "standing " << discover_standing_name(now.standing) << std::endl;
    });
    discover::set states = client.services("states");
    while (std::cin.get() != std::char_traits<char>::eof()) {}
    std::cout << "reconnected " << (client.metrics().at("reconnects") > 0 ? "True" : "False") << ' '
              << (states.snapshot().empty() ? "False" : "True") << std::endl;
    connection.cancel();
    lease.unregister();
    client.close();
}
