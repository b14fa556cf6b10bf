// The view of Scalingo's etcd-discovery: services, hosts, URLs. Every language has this test.
#include <discover.hpp>

#include <cstdlib>
#include <iostream>

using namespace std::chrono_literals;

#define CHECK(condition)                                                                     \
    do {                                                                                     \
        if (!(condition)) {                                                                  \
            std::cerr << __FILE__ << ':' << __LINE__ << ": check failed: " #condition "\n"; \
            std::exit(1);                                                                    \
        }                                                                                    \
    } while (false)

static discover::lease register_host(discover::client &client, const std::string &host,
                           const discover::attributes &attributes) {
    discover::registration one("api", 80);
    one.host(host);
    for (const auto &[name, value] : attributes) one.attribute(name, value);
    return client.register_instance(one);
}

static void check_host_addresses(const discover::scalingo::host &host) {
    CHECK(host.service_name() == "api" && host.uuid() == "b:80" && host.hostname() == "api.dev");
    CHECK(host.private_hostname() == "b" && host.user() == "u" && host.password() == "p@");
    CHECK(host.shard().empty() && host.is_public() && !host.is_critical());
    CHECK(host.port("https") == 443 && !host.port("http") && host.private_port("http") == 80);
    const auto ports = host.ports(), inside = host.private_ports();
    CHECK(ports.size() == 1 && ports.at("https") == 443);
    CHECK(inside.size() == 1 && inside.at("http") == 80);
    CHECK(host.url("", "/x") == "https://u:p%40@api.dev:443/x");
    CHECK(host.private_url() == "http://u:p%40@b:80");
    try {
        host.url("ftp");
        CHECK(false);
    } catch (const discover::error &error) {
        CHECK(error.status() == DISCOVER_ERR_INVALID_ARGUMENT);
    }
}

int main(int, char **argv) {
    discover::client client(argv[1]);
    const auto first = register_host(client, "a", {{"shard", "s1"}, {"critical", "true"}});
    const auto second = register_host(client, "b",
                            {{"public", "true"},
                             {"hostname", "api.dev"},
                             {"ports.https", "443"},
                             {"user", "u"},
                             {"password", "p@"}});
    const discover::set set = client.services("api");
    const auto online = set.wait(2, 30s).online();
    std::optional<discover::scalingo::service> api = discover::scalingo::service::from_set(set);
    CHECK(api->name() == "api" && api->is_public() && api->is_critical());
    CHECK(api->all().size() == 2 && api->first()->hostname() == "a" && api->one());
    CHECK(api->url("", "/x") == "https://u:p%40@api.dev:443/x");
    check_host_addresses(discover::scalingo::host::from_instance(online[1]));
    CHECK(api->shard("s1").one()->hostname() == "a" && !api->shard("s1").is_public());
    CHECK(api->shard("s1").url("", "/x") == "http://a:80/x");
    CHECK(!api->shard("s2").one() && !api->shard("s2").first());
    try {
        api->shard("s2").url();
        CHECK(false);
    } catch (const discover::error &error) {
        CHECK(error.status() == DISCOVER_ERR_NOT_FOUND);
    }
    // A host keeps its service alive.
    const discover::scalingo::host last = api->all()[1];
    api.reset();
    check_host_addresses(last);
}
