// A part of discover.hpp, which includes it: a service and its hosts, as etcd-discovery knows them.

#ifndef DISCOVER_HOST_HPP
#define DISCOVER_HOST_HPP

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

namespace detail {

/// A string of the C library's, which it makes for us.
template <typename Call>
std::string text(Call call) {
    const handle<char, discover_string_free> owned(make<char>(call));
    return owned.get();
}

/// A port, where there is one.
inline std::optional<std::uint16_t> port(std::uint16_t number) {
    return number ? std::optional(number) : std::nullopt;
}

}  // namespace detail

/// What an instance says as a host: what it does not say is empty, or false.
class host {
public:
    static host of(const instance &one) {
        return host(shared(discover_host_of(one.get()), discover_host_free));
    }

    std::string_view service_name() const { return discover_host_service_name(get()); }
    std::string_view uuid() const { return discover_host_uuid(get()); }
    std::string_view hostname() const { return discover_host_hostname(get()); }
    std::string_view private_hostname() const { return discover_host_private_hostname(get()); }
    std::string_view user() const { return discover_host_user(get()); }
    std::string_view password() const { return discover_host_password(get()); }
    std::string_view shard() const { return discover_host_shard(get()); }
    bool is_public() const { return discover_host_is_public(get()); }
    bool is_critical() const { return discover_host_is_critical(get()); }

    std::optional<std::uint16_t> port(const std::string &scheme) const {
        return detail::port(discover_host_port(get(), scheme.c_str()));
    }
    std::optional<std::uint16_t> private_port(const std::string &scheme) const {
        return detail::port(discover_host_private_port(get(), scheme.c_str()));
    }

    /// By scheme.
    std::map<std::string, std::uint16_t> ports() const {
        std::map<std::string, std::uint16_t> all;
        for (std::size_t i = 0; i < discover_host_port_count(get()); i++) {
            const char *scheme = discover_host_port_scheme(get(), i);
            all.emplace(scheme, discover_host_port(get(), scheme));
        }
        return all;
    }
    std::map<std::string, std::uint16_t> private_ports() const {
        std::map<std::string, std::uint16_t> all;
        for (std::size_t i = 0; i < discover_host_private_port_count(get()); i++) {
            const char *scheme = discover_host_private_port_scheme(get(), i);
            all.emplace(scheme, discover_host_private_port(get(), scheme));
        }
        return all;
    }

    /// Without a scheme http, else https, whichever there is.
    std::string url(const std::string &scheme = "", const std::string &path = "") const {
        return detail::text([&](auto out, auto e) {
            return discover_host_url(get(), scheme.c_str(), path.c_str(), out, e);
        });
    }
    std::string private_url(const std::string &scheme = "", const std::string &path = "") const {
        return detail::text([&](auto out, auto e) {
            return discover_host_private_url(get(), scheme.c_str(), path.c_str(), out, e);
        });
    }

    const discover_host *get() const noexcept { return handle_.get(); }

private:
    friend class service;
    using shared = std::shared_ptr<const discover_host>;

    explicit host(shared handle) : handle_(std::move(handle)) {}

    shared handle_;
};

/// The instances of a set as the hosts of a service: those online when it was asked for.
class service {
public:
    /// Takes what is owned.
    explicit service(discover_service *owned) : handle_(owned, discover_service_free) {}

    std::string_view name() const { return discover_service_name(get()); }
    bool is_public() const { return discover_service_is_public(get()); }
    bool is_critical() const { return discover_service_is_critical(get()); }

    /// Oldest first.
    std::vector<host> all() const {
        std::vector<host> all;
        for (std::size_t i = 0; i < discover_service_host_count(get()); i++) {
            all.push_back(*kept(discover_service_host(get(), i)));
        }
        return all;
    }
    /// The oldest.
    std::optional<host> first() const { return kept(discover_service_host(get(), 0)); }
    /// Any at random, of those that are fit for calls.
    std::optional<host> one() const { return kept(discover_service_one(get())); }

    service shard(const std::string &name) const {
        return service(detail::make<discover_service>([&](auto out, auto e) {
            return discover_service_shard(get(), name.c_str(), out, e);
        }));
    }

    std::string url(const std::string &scheme = "", const std::string &path = "") const {
        return detail::text([&](auto out, auto e) {
            return discover_service_url(get(), scheme.c_str(), path.c_str(), out, e);
        });
    }

    const discover_service *get() const noexcept { return handle_.get(); }

private:
    /// Each keeps the service that it is of.
    std::optional<host> kept(const discover_host *borrowed) const {
        if (!borrowed) return std::nullopt;
        return host(host::shared(handle_, borrowed));
    }

    std::shared_ptr<const discover_service> handle_;
};

}  // namespace discover

#endif  // DISCOVER_HOST_HPP
