// A part of discover.hpp, which includes it: services and hosts in the terms of Scalingo's etcd-discovery.

#ifndef DISCOVER_SCALINGO_HPP
#define DISCOVER_SCALINGO_HPP

#include <discover_base.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace discover {

class set;

namespace detail {

/// Calls a C function that creates a string, and returns a copy of the string.
template <typename Call>
std::string text(Call call) {
    const handle<char, discover_string_free> owned(make<char>(call));
    return owned.get();
}

/// A port; nothing for 0.
inline std::optional<std::uint16_t> port(std::uint16_t number) {
    return number ? std::optional(number) : std::nullopt;
}

}  // namespace detail

/// The view of Scalingo's etcd-discovery: services, and hosts with URLs, ports by scheme, and shards.
namespace scalingo {

/// An instance in the terms of etcd-discovery. It is immutable. Fields that the instance does not set are empty or
/// false.
class host {
public:
    /// Converts an instance of any layout.
    static host from_instance(const discover::instance &instance) {
        return host(shared(discover_scalingo_host_from_instance(instance.get()), discover_scalingo_host_free));
    }

    /// The service name.
    std::string_view service_name() const { return discover_scalingo_host_service_name(get()); }
    /// The id of the instance.
    std::string_view uuid() const { return discover_scalingo_host_uuid(get()); }
    /// The public host name; without a public address the private one.
    std::string_view hostname() const { return discover_scalingo_host_hostname(get()); }
    /// The host name within the private network.
    std::string_view private_hostname() const { return discover_scalingo_host_private_hostname(get()); }
    /// The user name of the credentials, which all public hosts of a service share.
    std::string_view user() const { return discover_scalingo_host_user(get()); }
    /// The password of the credentials.
    std::string_view password() const { return discover_scalingo_host_password(get()); }
    /// The name of the shard that the host serves.
    std::string_view shard() const { return discover_scalingo_host_shard(get()); }
    /// Returns true if the host is reachable from the public network.
    bool is_public() const { return discover_scalingo_host_is_public(get()); }
    /// Returns true if the host is marked critical.
    bool is_critical() const { return discover_scalingo_host_is_critical(get()); }

    /// The public port for a scheme.
    std::optional<std::uint16_t> port(const std::string &scheme) const {
        return detail::port(discover_scalingo_host_port(get(), scheme.c_str()));
    }
    /// The private port for a scheme.
    std::optional<std::uint16_t> private_port(const std::string &scheme) const {
        return detail::port(discover_scalingo_host_private_port(get(), scheme.c_str()));
    }

    /// The public ports by scheme.
    std::map<std::string, std::uint16_t> ports() const {
        std::map<std::string, std::uint16_t> all;
        for (std::size_t i = 0; i < discover_scalingo_host_port_count(get()); i++) {
            const char *scheme = discover_scalingo_host_port_scheme(get(), i);
            all.emplace(scheme, discover_scalingo_host_port(get(), scheme));
        }
        return all;
    }
    /// The private ports by scheme.
    std::map<std::string, std::uint16_t> private_ports() const {
        std::map<std::string, std::uint16_t> all;
        for (std::size_t i = 0; i < discover_scalingo_host_private_port_count(get()); i++) {
            const char *scheme = discover_scalingo_host_private_port_scheme(get(), i);
            all.emplace(scheme, discover_scalingo_host_private_port(get(), scheme));
        }
        return all;
    }

    /// The public URL with a path. Without a scheme it uses http if the host has it, else https.
    std::string url(const std::string &scheme = "", const std::string &path = "") const {
        return detail::text([&](auto out, auto e) {
            return discover_scalingo_host_url(get(), scheme.c_str(), path.c_str(), out, e);
        });
    }
    /// The URL within the private network, as url().
    std::string private_url(const std::string &scheme = "", const std::string &path = "") const {
        return detail::text([&](auto out, auto e) {
            return discover_scalingo_host_private_url(get(), scheme.c_str(), path.c_str(), out, e);
        });
    }

    /// The C object, which stays owned by this object.
    const discover_scalingo_host *get() const noexcept { return handle_.get(); }

private:
    friend class service;
    using shared = std::shared_ptr<const discover_scalingo_host>;

    explicit host(shared handle) : handle_(std::move(handle)) {}

    shared handle_;
};

/// The instances of a set that were online when it was created, as the hosts of a service. It is immutable.
class service {
public:
    /// Converts the instances of a set that are online.
    static service from_set(const discover::set &set);

    /// Takes ownership of a C object.
    explicit service(discover_scalingo_service *owned) : handle_(owned, discover_scalingo_service_free) {}

    /// The service name.
    std::string_view name() const { return discover_scalingo_service_name(get()); }
    /// Returns true if at least one host is public.
    bool is_public() const { return discover_scalingo_service_is_public(get()); }
    /// Returns true if at least one host is marked critical.
    bool is_critical() const { return discover_scalingo_service_is_critical(get()); }

    /// All hosts, oldest first.
    std::vector<host> all() const {
        std::vector<host> all;
        for (std::size_t i = 0; i < discover_scalingo_service_host_count(get()); i++) {
            all.push_back(*to_host(discover_scalingo_service_host(get(), i)));
        }
        return all;
    }
    /// The oldest host, which is the leader.
    std::optional<host> first() const { return to_host(discover_scalingo_service_host(get(), 0)); }
    /// A random healthy host; see discover_scalingo_service_one().
    std::optional<host> one() const { return to_host(discover_scalingo_service_one(get())); }

    /// The service with only the hosts of one shard.
    service shard(const std::string &name) const {
        return service(detail::make<discover_scalingo_service>([&](auto out, auto e) {
            return discover_scalingo_service_shard(get(), name.c_str(), out, e);
        }));
    }

    /// The URL of the newest public host; without one, and for a shard, that of a random healthy host. Throws
    /// DISCOVER_ERR_NOT_FOUND if no host qualifies.
    std::string url(const std::string &scheme = "", const std::string &path = "") const {
        return detail::text([&](auto out, auto e) {
            return discover_scalingo_service_url(get(), scheme.c_str(), path.c_str(), out, e);
        });
    }

    /// The C object, which stays owned by this object.
    const discover_scalingo_service *get() const noexcept { return handle_.get(); }

private:
    /// A host that keeps its service alive.
    std::optional<host> to_host(const discover_scalingo_host *borrowed) const {
        if (!borrowed) return std::nullopt;
        return host(host::shared(handle_, borrowed));
    }

    std::shared_ptr<const discover_scalingo_service> handle_;
};

}  // namespace scalingo

}  // namespace discover

#endif  // DISCOVER_SCALINGO_HPP
