// Registers a service until Enter is pressed: register PORT.
#include <discover.hpp>

#include <iostream>
#include <string>

static void run(int port) {
    // Without a URL, the registry is the one named by DISCOVER_URL, else local://.
    discover::client client;

    // Say who we are. Once register_instance returns, others see us.
    discover::registration registration{"web", port};
    registration.host("127.0.0.1").attribute("zone", "eu").attribute("version", "1");
    discover::lease lease = client.register_instance(registration);
    std::cout << "registered web at " << lease.address() << std::endl;

    // The library keeps us alive; we are free to do our work.
    std::string line;
    std::getline(std::cin, line);

    // Leave: others see us go at once. Destroying the lease would do the same.
    lease.unregister();
    std::cout << "unregistered" << std::endl;
    client.close();
}

int main(int argc, char **argv) {
    if (argc != 2) {
        std::cerr << "register: usage: register PORT\n";
        return 1;
    }
    try {
        run(std::stoi(argv[1]));
        return 0;
    } catch (const std::exception &error) {
        std::cerr << "register: " << error.what() << '\n';
        return 1;
    }
}
