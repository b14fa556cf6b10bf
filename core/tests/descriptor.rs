//! Service descriptors: the test table shared by all languages (S3.2, S3.5, S3.40, S3.41, S3.45), generated
//! descriptors, and the instances that a descriptor matches.

mod support;

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::process::Command;
use std::sync::Mutex;

use discover_core::{Attributes, Client, Descriptor, ErrorKind, Result};
use proptest::prelude::*;
use support::{WAIT_TIMEOUT, web};

/// Returns the rows of one kind, without the column of the kind.
fn table(kind: &str) -> Vec<Vec<String>> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/descriptors.tsv"
    );
    let text = fs::read_to_string(path).expect("the table");
    let fields = |line: &str| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
    let rows = text.lines().map(fields);
    let mine: Vec<_> = rows.filter(|row| row[0] == kind).collect();
    assert!(!mine.is_empty(), "no rows of kind {kind}");
    mine.into_iter().map(|row| row[1..].to_vec()).collect()
}

/// Returns the name and value of each valid variable, and of variables without the prefix.
fn variables() -> Vec<(String, String)> {
    let rows = table("variable").into_iter().chain(table("other"));
    rows.map(|row| (row[0].clone(), row[1].clone())).collect()
}

/// Returns the expected descriptors, by name.
fn expected() -> BTreeMap<String, String> {
    let rows = table("variable").into_iter();
    rows.map(|row| (row[2].clone(), row[3].clone())).collect()
}

fn texts(all: Result<BTreeMap<String, Descriptor>>) -> BTreeMap<String, String> {
    let pairs = all.expect("descriptors").into_iter();
    pairs.map(|(name, one)| (name, one.to_string())).collect()
}

fn message<T>(result: Result<T>) -> String {
    let error = result.err().expect("an error");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    error.to_string()
}

#[test]
fn good_descriptors_are_read_and_printed() {
    for row in table("good") {
        let [text, service, path, tags, port, protocol, printed] = &row[..] else {
            panic!("wrong number of fields: {row:?}");
        };
        let read = Descriptor::parse(text).unwrap();
        assert_eq!(read.service(), service);
        assert_eq!(read.path().unwrap_or_default(), path);
        assert_eq!(&read.tags().join(","), tags);
        assert_eq!(&read.port().to_string(), port);
        assert_eq!(read.protocol().name(), protocol);
        assert_eq!(&read.to_string(), printed);
        assert_eq!(Descriptor::parse(printed).unwrap(), read);
    }
}

#[test]
fn bad_descriptors_are_refused_with_the_place_and_what_is_expected_there() {
    for row in table("bad") {
        assert_eq!(message(Descriptor::parse(&row[0])), row[1]);
    }
}

#[test]
fn names_and_tags_are_as_long_as_they_may_be_elsewhere() {
    let long = "x".repeat(128);
    let text = format!("/{long}/{long}[{long},{long}];80/tcp");
    assert_eq!(Descriptor::parse(&text).unwrap().to_string(), text);
    let name = message(Descriptor::parse(&format!("a/{long}x;80")));
    assert!(name.ends_with("column 3: the name has 129 bytes; it must have 1 to 128"));
    let tag = message(Descriptor::parse(&format!("a[b,{long}x];80")));
    assert!(tag.ends_with("column 5: the tag has 129 bytes; it must have 1 to 128"));
}

#[test]
fn variables_with_the_prefix_are_descriptors_by_name() {
    assert_eq!(
        texts(Descriptor::from_pairs("BACKEND_", variables())),
        expected()
    );
    assert!(texts(Descriptor::from_pairs("FRONTEND_", variables())).is_empty());
    let twice = [("B_WEB", "nothing"), ("B_WEB", "web;80")];
    assert_eq!(
        texts(Descriptor::from_pairs("B_", twice))["WEB"],
        "web;80/tcp"
    );
}

/// Returns the messages that the library has logged.
fn logged() -> Vec<String> {
    struct CapturedLog(Mutex<Vec<String>>);
    impl log::Log for CapturedLog {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            let mut messages = self.0.lock().unwrap();
            messages.push(record.args().to_string());
        }
        fn flush(&self) {}
    }
    static LOG: CapturedLog = CapturedLog(Mutex::new(Vec::new()));
    if log::set_logger(&LOG).is_ok() {
        log::set_max_level(log::LevelFilter::Warn);
    }
    LOG.0.lock().unwrap().clone()
}

/// S3.5: an invalid variable does not affect the others.
#[test]
fn a_bad_variable_is_passed_over_and_named_in_the_log() {
    logged();
    for row in table("wrong") {
        let mut all = variables();
        all.push((row[0].clone(), row[1].clone()));
        assert_eq!(texts(Descriptor::from_pairs("BACKEND_", all)), expected());
        // The message does not contain the value.
        assert!(logged().contains(&row[2]), "{row:?}: {:?}", logged());
    }
    let none = message(Descriptor::from_pairs("", variables()));
    assert!(none.starts_with("the prefix is empty"), "{none}");
}

/// Returns true in a child process with these variables. In the parent, runs the test in such a child and returns
/// false.
fn is_child_with(test: &str, variables: Vec<(String, OsString)>) -> bool {
    const CHILD_MARK: &str = "DISCOVER_TEST_INSIDE";
    if env::var_os(CHILD_MARK).is_some() {
        return true;
    }
    let mut child = Command::new(env::current_exe().expect("this program"));
    child
        .args(["--exact", test])
        .envs(variables)
        .env(CHILD_MARK, "1");
    let output = child.output().expect("it runs");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && printed.contains("1 passed"),
        "{printed}"
    );
    false
}

#[test]
fn the_variables_of_the_process_are_read() {
    let all = variables().into_iter();
    let all = all.map(|(name, value)| (name, value.into())).collect();
    if is_child_with("the_variables_of_the_process_are_read", all) {
        assert_eq!(texts(Descriptor::from_env("BACKEND_")), expected());
    }
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_text_is_passed_over() {
    use std::os::unix::ffi::OsStringExt;
    let cafe = OsString::from_vec(b"caf\xe9;80".to_vec());
    let mut all = vec![("BACKEND_CAFE".to_owned(), cafe)];
    all.push(("BACKEND_WEB".to_owned(), "web;80".into()));
    if is_child_with("a_variable_that_is_no_text_is_passed_over", all) {
        logged();
        let read = texts(Descriptor::from_env("BACKEND_"));
        assert_eq!(read, [("WEB".to_owned(), "web;80/tcp".to_owned())].into());
        let message =
            "ignoring environment variable that is not a service descriptor error=the value is not UTF-8 variable=BACKEND_CAFE".to_owned();
        assert!(logged().contains(&message));
    }
}

#[tokio::test]
async fn a_descriptor_finds_the_instances_of_its_service_that_have_its_tags() {
    let client = Client::connect("memory://descriptor").await.unwrap();
    let wanted = Descriptor::parse("/services/prod/web[prod,blue];80").unwrap();
    let both = web(1).tags(["blue", "green", "prod"]).unwrap();
    let _both = client.register(both).await.unwrap();
    let one = web(2).tags(["prod"]).unwrap();
    let _one = client.register(one).await.unwrap();

    let all = client.services(wanted.service()).unwrap();
    all.wait(2, WAIT_TIMEOUT).await.unwrap();
    let found = all.filter(Attributes::new(), wanted.tags());
    let ports: Vec<u16> = found.online().iter().map(|one| one.port()).collect();
    assert_eq!(ports, [1]);
    client.close(WAIT_TIMEOUT).await.unwrap();
}

proptest! {
    #[test]
    fn parsing_never_panics(text in ".*") {
        let _ = Descriptor::parse(&text).map(|one| one.to_string());
    }

    /// Texts of significant characters, of which many are almost valid.
    #[test]
    fn a_printed_descriptor_parses_to_the_same_descriptor(text in "/?[a.*/]{1,6}(\\[[a,._-]{1,5}\\])?[;]?[0-9]{1,6}(/tcp|/udp|/|x)?") {
        match Descriptor::parse(&text) {
            Ok(read) => {
                let printed = read.to_string();
                prop_assert_eq!(Descriptor::parse(&printed).unwrap(), read);
            }
            Err(error) => prop_assert!(error.to_string().contains(": column ")),
        }
    }

    #[test]
    fn a_generated_descriptor_is_parsed_and_printed_unchanged(
        path in "(/?([a-z0-9_*-]{1,5}/){0,3})",
        service in "[A-Za-z0-9_*-][A-Za-z0-9._*-]{0,8}",
        tags in proptest::collection::vec("[A-Za-z0-9._-]{1,8}", 0..4),
        port in 1u16..,
        protocol in "tcp|udp",
    ) {
        let listed = if tags.is_empty() { String::new() } else { format!("[{}]", tags.join(",")) };
        let text = format!("{path}{service}{listed};{port}/{protocol}");
        let read = Descriptor::parse(&text).unwrap();
        prop_assert_eq!(read.to_string(), text);
        prop_assert_eq!((read.service(), read.tags(), read.port()), (&*service, &*tags, port));
        let whole = (!path.is_empty()).then(|| format!("{path}{service}"));
        prop_assert_eq!(read.path().map(str::to_owned), whole);
    }
}
