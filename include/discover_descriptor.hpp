// A part of discover.hpp, which includes it: service references in one line of text.

#ifndef DISCOVER_DESCRIPTOR_HPP
#define DISCOVER_DESCRIPTOR_HPP

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

/// A service reference in one line of text: "redis.master[prod,stats];6379/tcp". It is immutable. Copies share
/// the data.
class descriptor {
public:
    /// Takes ownership of a C object.
    explicit descriptor(discover_descriptor *owned) : handle_(owned, discover_descriptor_free) {}

    /// Parses a descriptor. Throws DISCOVER_ERR_INVALID_ARGUMENT with the column and what is expected there.
    static descriptor parse(const std::string &text) {
        return descriptor(detail::make<discover_descriptor>(
            [&](auto out, auto e) { return discover_descriptor_parse(text.c_str(), out, e); }));
    }

    /// Parses the descriptors in the environment variables with a prefix; keys are the names without it.
    static std::map<std::string, descriptor> from_env(const std::string &prefix) {
        return to_map(detail::make<discover_descriptors>(
            [&](auto out, auto e) { return discover_descriptors_from_env(prefix.c_str(), out, e); }));
    }

    /// Parses the descriptors in given variables, as from_env() does.
    static std::map<std::string, descriptor> from_pairs(const std::string &prefix,
                                                        const attributes &pairs) {
        const detail::pairs all(pairs);
        return to_map(detail::make<discover_descriptors>([&](auto out, auto e) {
            return discover_descriptors_from_pairs(prefix.c_str(), all.names.data(), all.values.data(),
                                                   all.names.size(), out, e);
        }));
    }

    /// The service name, for client::services().
    std::string_view service() const { return discover_descriptor_service(get()); }
    /// The whole path; nothing if the descriptor has only a name.
    std::optional<std::string_view> path() const {
        return detail::maybe<std::string_view>(discover_descriptor_path(get()));
    }

    /// The tags, for set::filter().
    std::vector<std::string> tags() const {
        std::vector<std::string> all;
        for (std::size_t i = 0; i < discover_descriptor_tag_count(get()); i++) {
            all.emplace_back(discover_descriptor_tag(get(), i));
        }
        return all;
    }

    /// The port at which the program wants to reach the service.
    std::uint16_t port() const { return discover_descriptor_port(get()); }
    /// The protocol: "tcp" or "udp".
    std::string_view protocol() const { return discover_descriptor_protocol(get()); }
    /// The descriptor as text; parsing it gives an equal descriptor.
    std::string_view format() const { return discover_descriptor_format(get()); }

    /// Compares the texts.
    friend bool operator==(const descriptor &a, const descriptor &b) { return a.format() == b.format(); }
    /// Compares the texts.
    friend bool operator!=(const descriptor &a, const descriptor &b) { return !(a == b); }

    /// The C object, which stays owned by this object.
    const discover_descriptor *get() const noexcept { return handle_.get(); }

private:
    using shared = std::shared_ptr<const discover_descriptor>;

    explicit descriptor(shared handle) : handle_(std::move(handle)) {}

    static std::map<std::string, descriptor> to_map(discover_descriptors *owned) {
        const std::shared_ptr<discover_descriptors> list(owned, discover_descriptors_free);
        std::map<std::string, descriptor> all;
        for (std::size_t i = 0; i < discover_descriptors_count(owned); i++) {
            // Each descriptor keeps its list alive.
            const shared element(list, discover_descriptors_get(owned, i));
            all.emplace(discover_descriptors_name(owned, i), descriptor(element));
        }
        return all;
    }

    shared handle_;
};

}  // namespace discover

#endif  // DISCOVER_DESCRIPTOR_HPP
