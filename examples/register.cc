// Registers a service until Enter is pressed: register PORT.
#include <discover.hpp>

#include <iostream>
#include <string>

static void run(int port) {
    // Without a URL the registry is that of DISCOVER_URL, else local://.
    discover::client client;

    // Register an instance. When register_instance returns, other clients see it.
    discover::registration registration{"web", port};
    registration.host("127.0.0.1").attribute("zone", "eu").attribute("version", "1");
    discover::lease lease = client.register_instance(registration);
    std::cout << "registered web at " << lease.address() << std::endl;

    // Do the service's work here; the library keeps the registration alive.
    std::string line;
    std::getline(std::cin, line);

    // Unregister: other clients see the instance go offline at once. Destroying the lease has the same effect.
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
