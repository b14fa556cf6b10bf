// Descriptors in C++: the test table shared by all languages.
#include <discover.hpp>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>

using namespace std::chrono_literals;
using discover::descriptor;

#define CHECK(condition)                                                                     \
    do {                                                                                     \
        if (!(condition)) {                                                                  \
            std::cerr << __FILE__ << ':' << __LINE__ << ": check failed: " #condition "\n"; \
            std::exit(1);                                                                    \
        }                                                                                    \
    } while (false)

using fields = std::vector<std::string>;

// The rows of one kind, without the first column.
static std::vector<fields> table(const std::string &kind) {
    std::ifstream file(std::getenv("DESCRIPTORS"));
    std::vector<fields> rows;
    for (std::string line, field; std::getline(file, line);) {
        fields row;
        std::istringstream from(line + '\t');
        while (std::getline(from, field, '\t')) row.push_back(field);
        if (row.size() > 1 && row[0] == kind) rows.emplace_back(row.begin() + 1, row.end());
    }
    CHECK(!rows.empty());
    return rows;
}

template <typename Call>
static std::string message_of(Call call) {
    try {
        call();
    } catch (const discover::error &error) {
        CHECK(error.status() == DISCOVER_ERR_INVALID_ARGUMENT);
        return error.what();
    }
    return "no error";
}

static discover::attributes variables() {
    discover::attributes all;
    for (const fields &row : table("variable")) all.emplace(row[0], row[1]);
    for (const fields &row : table("other")) all.emplace(row[0], row[1]);
    return all;
}

static void valid_descriptors_are_parsed_and_formatted() {
    for (const fields &row : table("good")) {
        const descriptor parsed = descriptor::parse(row[0]);
        std::string tags;
        for (const std::string &tag : parsed.tags()) tags += (tags.empty() ? "" : ",") + tag;
        const std::string path(parsed.path().value_or(""));
        const fields got{std::string(parsed.service()), path, tags, std::to_string(parsed.port()),
                         std::string(parsed.protocol()), std::string(parsed.format())};
        CHECK(got == fields(row.begin() + 1, row.end()));
        CHECK(parsed.path().has_value() == !row[2].empty());
        CHECK(descriptor::parse(row[6]) == parsed);
    }
}

static void malformed_descriptors_are_rejected() {
    for (const fields &row : table("bad")) {
        CHECK(message_of([&] { descriptor::parse(row[0]); }) == row[1]);
    }
}

static void environments_are_maps() {
    const auto given = descriptor::from_pairs("BACKEND_", variables());
    for (const auto &[name, value] : variables()) setenv(name.c_str(), value.c_str(), 1);
    CHECK(descriptor::from_env("BACKEND_") == given);
    std::map<std::string, std::string> wanted, got;
    for (const fields &row : table("variable")) wanted.emplace(row[2], row[3]);
    for (const auto &[name, descriptor] : given) got.emplace(name, descriptor.format());
    CHECK(got == wanted);
    for (const fields &row : table("wrong")) {
        CHECK(descriptor::from_pairs("BACKEND_", {{row[0], row[1]}}).empty());
    }
}

static void filtering_by_tags_finds_the_matching_instances(const char *url) {
    discover::client client{url};
    const descriptor copy = descriptor::parse("web[blue];80"), wanted = copy;
    discover::registration blue{"web", 7001}, plain{"web", 7002};
    blue.host("127.0.0.1").tag("blue");
    const auto first = client.register_instance(blue);
    const auto second = client.register_instance(plain.host("127.0.0.1"));
    const discover::set web = client.services(std::string(wanted.service()));
    CHECK(web.wait(2, 60s).size() == 2);
    const discover::snapshot found = web.filter({}, wanted.tags()).wait(1, 60s);
    CHECK(found.size() == 1 && found.online()[0].port() == 7001);
}

int main(int, char **argv) {
    valid_descriptors_are_parsed_and_formatted();
    malformed_descriptors_are_rejected();
    environments_are_maps();
    filtering_by_tags_finds_the_matching_instances(argv[1]);
}
