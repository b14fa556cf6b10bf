// A part of discover.hpp, which includes it: what a program asks for in a line of text.

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

/// What a program asks for in a line of text: "redis.master[prod,stats];6379/tcp".
class descriptor {
public:
    /// Takes what is owned.
    explicit descriptor(discover_descriptor *owned) : handle_(owned, discover_descriptor_free) {}

    /// Reads a descriptor; the error tells the column, and what is expected there.
    static descriptor parse(const std::string &text) {
        return descriptor(detail::make<discover_descriptor>(
            [&](auto out, auto e) { return discover_descriptor_parse(text.c_str(), out, e); }));
    }

    /// Those of this process's environment, by their names without the prefix.
    static std::map<std::string, descriptor> from_env(const std::string &prefix) {
        return all_of(detail::make<discover_descriptors>(
            [&](auto out, auto e) { return discover_descriptors_from_env(prefix.c_str(), out, e); }));
    }

    /// The same of variables that are given.
    static std::map<std::string, descriptor> from_pairs(const std::string &prefix,
                                                        const attributes &pairs) {
        const detail::pairs all(pairs);
        return all_of(detail::make<discover_descriptors>([&](auto out, auto e) {
            return discover_descriptors_from_pairs(prefix.c_str(), all.names.data(), all.values.data(),
                                                   all.names.size(), out, e);
        }));
    }

    std::string_view service() const { return discover_descriptor_service(get()); }
    std::optional<std::string_view> path() const {
        return detail::maybe<std::string_view>(discover_descriptor_path(get()));
    }

    std::vector<std::string> tags() const {
        std::vector<std::string> all;
        for (std::size_t i = 0; i < discover_descriptor_tag_count(get()); i++) {
            all.emplace_back(discover_descriptor_tag(get(), i));
        }
        return all;
    }

    std::uint16_t port() const { return discover_descriptor_port(get()); }
    /// "tcp" or "udp".
    std::string_view protocol() const { return discover_descriptor_protocol(get()); }
    /// A text that reads as the same.
    std::string_view format() const { return discover_descriptor_format(get()); }

    friend bool operator==(const descriptor &a, const descriptor &b) { return a.format() == b.format(); }
    friend bool operator!=(const descriptor &a, const descriptor &b) { return !(a == b); }

    const discover_descriptor *get() const noexcept { return handle_.get(); }

private:
    using shared = std::shared_ptr<const discover_descriptor>;

    explicit descriptor(shared handle) : handle_(std::move(handle)) {}

    static std::map<std::string, descriptor> all_of(discover_descriptors *owned) {
        const std::shared_ptr<discover_descriptors> list(owned, discover_descriptors_free);
        std::map<std::string, descriptor> all;
        for (std::size_t i = 0; i < discover_descriptors_count(owned); i++) {
            // Each keeps the list that it is in.
            const shared one(list, discover_descriptors_get(owned, i));
            all.emplace(discover_descriptors_name(owned, i), descriptor(one));
        }
        return all;
    }

    shared handle_;
};

}  // namespace discover

#endif  // DISCOVER_DESCRIPTOR_HPP
