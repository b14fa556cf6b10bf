// What discover.hpp, which includes it, begins with: times, failures, how the C library is called, and
// instances.

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

using attributes = std::map<std::string, std::string>;
using timeout = std::chrono::milliseconds;

/// No deadline of the caller's.
inline constexpr timeout no_timeout = timeout::max();

/// Why a call failed: one of DISCOVER_ERR_..., and what was wrong.
class error : public std::runtime_error {
public:
    explicit error(const discover_error *e)
        : std::runtime_error(discover_error_message(e)), status_(discover_error_status(e)) {}

    discover_status status() const noexcept { return status_; }
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

/// Calls a function of the C library that is given a place for its error; throws what it leaves there.
template <typename Call>
void check(Call call) {
    discover_error *raw = nullptr;
    const discover_status status = call(&raw);
    const error_handle owned(raw);
    if (status != DISCOVER_OK) throw error(raw);
}

/// The same for one that also makes something.
template <typename T, typename Call>
T *make(Call call) {
    T *out = nullptr;
    check([&](discover_error **e) { return call(&out, e); });
    return out;
}

/// What is there or not.
template <typename T, typename Raw>
std::optional<T> maybe(const Raw *raw) {
    return raw ? std::optional<T>(T(raw)) : std::nullopt;
}

inline std::uint32_t milliseconds(timeout t) {
    if (t.count() >= DISCOVER_NO_TIMEOUT) return DISCOVER_NO_TIMEOUT;
    return t.count() < 0 ? 0 : static_cast<std::uint32_t>(t.count());
}

inline std::chrono::system_clock::time_point time(std::int64_t ms) {
    return std::chrono::system_clock::time_point(std::chrono::milliseconds(ms));
}

/// Attributes as C has them.
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

/// One running copy of a service, as others see it.
class instance {
public:
    /// Keeps what is borrowed.
    explicit instance(const discover_instance *borrowed)
        : handle_(discover_instance_clone(borrowed)) {}
    instance(const instance &other) : instance(other.get()) {}
    instance(instance &&) noexcept = default;
    instance &operator=(instance other) noexcept {
        return handle_.swap(other.handle_), *this;
    }

    std::string_view service() const { return discover_instance_service(get()); }
    std::string_view id() const { return discover_instance_id(get()); }
    std::string_view host() const { return discover_instance_host(get()); }
    std::uint16_t port() const { return discover_instance_port(get()); }
    std::string_view address() const { return discover_instance_address(get()); }
    std::uint64_t created() const { return discover_instance_created(get()); }
    std::uint32_t weight() const { return discover_instance_weight(get()); }
    bool is_suspect() const { return discover_instance_is_suspect(get()); }
    std::optional<std::string_view> zone() const {
        return detail::maybe<std::string_view>(discover_instance_zone(get()));
    }
    std::optional<std::string_view> attribute(const std::string &name) const {
        return detail::maybe<std::string_view>(discover_instance_attribute(get(), name.c_str()));
    }

    discover::attributes attributes() const {
        discover::attributes all;
        for (std::size_t i = 0; i < discover_instance_attribute_count(get()); i++) {
            all.emplace(discover_instance_attribute_name(get(), i),
                        discover_instance_attribute_value(get(), i));
        }
        return all;
    }

    std::vector<std::string> tags() const {
        std::vector<std::string> all;
        for (std::size_t i = 0; i < discover_instance_tag_count(get()); i++) {
            all.emplace_back(discover_instance_tag(get(), i));
        }
        return all;
    }

    /// The names of the layouts in whose form it is in the registry.
    std::vector<std::string> layouts() const {
        std::vector<std::string> all;
        for (std::size_t i = 0; i < discover_instance_layout_count(get()); i++) {
            all.emplace_back(discover_instance_layout(get(), i));
        }
        return all;
    }

    const discover_instance *get() const noexcept { return handle_.get(); }

private:
    detail::handle<discover_instance, discover_instance_free> handle_;
};

}  // namespace discover

#endif  // DISCOVER_BASE_HPP
