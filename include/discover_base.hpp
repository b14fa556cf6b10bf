// A part of discover.hpp, which includes it: durations, errors, calls of the C library, and instances.

#ifndef DISCOVER_BASE_HPP
#define DISCOVER_BASE_HPP

#include <discover.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace discover {

/// Attributes of an instance, ordered by name.
using attributes = std::map<std::string, std::string>;
/// A duration in milliseconds; longer ones are capped at DISCOVER_NO_TIMEOUT, negative ones are 0.
using duration = std::chrono::milliseconds;

/// No timeout: the call blocks until it has a result, or as the C function states.
inline constexpr duration no_timeout = duration::max();

/// A failed call. what() is the message, which names the operation, the object and the cause.
class error : public std::runtime_error {
public:
    /// Copies the status and the message of a C error.
    explicit error(const discover_error *e)
        : std::runtime_error(discover_error_message(e)), status_(discover_error_status(e)) {}

    /// One of DISCOVER_ERR_...
    discover_status status() const noexcept { return status_; }
    /// Returns true if the same call with the same arguments may succeed later.
    bool is_retriable() const noexcept { return discover_status_is_retriable(status_); }

private:
    discover_status status_;
};

namespace detail {

template <auto Release>
struct releaser {
    template <typename T>
    void operator()(T *owned) const noexcept { Release(owned); }
};

template <typename T, auto Release>
using handle = std::unique_ptr<T, releaser<Release>>;
using error_handle = handle<discover_error, discover_error_free>;

/// Calls a C function with an error pointer; throws the error that it stores there.
template <typename Call>
void check(Call call) {
    discover_error *raw = nullptr;
    const discover_status status = call(&raw);
    const error_handle owned(raw);
    if (status != DISCOVER_OK) throw error(raw);
}

/// Calls a C function that also creates an object, and returns the object.
template <typename T, typename Call>
T *make(Call call) {
    T *out = nullptr;
    check([&](discover_error **e) { return call(&out, e); });
    return out;
}

/// A value converted from a pointer; nothing for NULL.
template <typename T, typename Raw>
std::optional<T> maybe(const Raw *raw) {
    return raw ? std::optional<T>(T(raw)) : std::nullopt;
}

/// The duration as the C functions take it.
inline std::uint32_t milliseconds(duration t) {
    if (t.count() >= DISCOVER_NO_TIMEOUT) return DISCOVER_NO_TIMEOUT;
    return t.count() < 0 ? 0 : static_cast<std::uint32_t>(t.count());
}

/// A point in time from milliseconds since 1970 UTC.
inline std::chrono::system_clock::time_point time(std::int64_t ms) {
    return std::chrono::system_clock::time_point(std::chrono::milliseconds(ms));
}

/// Attributes as two arrays of C strings.
struct pairs {
    explicit pairs(const attributes &all) {
        for (const auto &[name, value] : all) {
            names.push_back(name.c_str());
            values.push_back(value.c_str());
        }
    }
    std::vector<const char *> names, values;
};

}  // namespace detail

/// One running copy of a service, as other clients see it. It is immutable. Copies share the data.
///
/// Strings are valid as long as the instance object that returned them.
class instance {
public:
    /// Adds a reference to a borrowed instance.
    explicit instance(const discover_instance *borrowed)
        : handle_(discover_instance_clone(borrowed)) {}
    /// Adds a reference.
    instance(const instance &other) : instance(other.get()) {}
    instance(instance &&) noexcept = default;
    instance &operator=(instance other) noexcept {
        return handle_.swap(other.handle_), *this;
    }

    /// The service name.
    std::string_view service() const { return discover_instance_service(get()); }
    /// The id, which is unique within the service.
    std::string_view id() const { return discover_instance_id(get()); }
    /// The host name or IP address, without brackets.
    std::string_view host() const { return discover_instance_host(get()); }
    /// The port, 1 to 65535.
    std::uint16_t port() const { return discover_instance_port(get()); }
    /// The address as host:port, with IPv6 in brackets.
    std::string_view address() const { return discover_instance_address(get()); }
    /// The registry revision at which the instance came online; the leader has the lowest one in a set.
    std::uint64_t created() const { return discover_instance_created(get()); }
    /// The weight, from the attribute "weight"; 1 if it is not set.
    std::uint32_t weight() const { return discover_instance_weight(get()); }
    /// Returns true if the registry may have lost the instance by mistake; see discover_instance_is_suspect().
    bool is_suspect() const { return discover_instance_is_suspect(get()); }
    /// The zone, from the attribute "zone".
    std::optional<std::string_view> zone() const {
        return detail::maybe<std::string_view>(discover_instance_zone(get()));
    }
    /// The value of one attribute.
    std::optional<std::string_view> attribute(const std::string &name) const {
        return detail::maybe<std::string_view>(discover_instance_attribute(get(), name.c_str()));
    }

    /// All attributes.
    discover::attributes attributes() const {
        discover::attributes all;
        for (std::size_t i = 0; i < discover_instance_attribute_count(get()); i++) {
            all.emplace(discover_instance_attribute_name(get(), i),
                        discover_instance_attribute_value(get(), i));
        }
        return all;
    }

    /// The tags, in the order of the registration.
    std::vector<std::string> tags() const {
        std::vector<std::string> all;
        for (std::size_t i = 0; i < discover_instance_tag_count(get()); i++) {
            all.emplace_back(discover_instance_tag(get(), i));
        }
        return all;
    }

    /// The names of the layouts in which the registry stores the instance.
    std::vector<std::string> layouts() const {
        std::vector<std::string> all;
        for (std::size_t i = 0; i < discover_instance_layout_count(get()); i++) {
            all.emplace_back(discover_instance_layout(get(), i));
        }
        return all;
    }

    /// The C object, which stays owned by this object.
    const discover_instance *get() const noexcept { return handle_.get(); }

private:
    detail::handle<discover_instance, discover_instance_free> handle_;
};

}  // namespace discover

#endif  // DISCOVER_BASE_HPP
