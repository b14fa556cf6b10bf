//! Generates the C program that calls every function of the header.

#[path = "expectations.rs"]
mod expectations;

use std::fmt::Write;

use crate::support::{Function, Parameter};
pub use expectations::{NEED_AN_OPEN_CLIENT, WITHOUT_BOUNDARY};

/// A call and its expected result.
pub struct Case {
    function: Function,
    label: String,
    /// One for each parameter, in C.
    arguments: Vec<String>,
    expected: Expected,
    panics: bool,
}

#[derive(Clone)]
enum Expected {
    Success,
    /// A status and a part of the error message; for functions without a status, the default result.
    Failure(&'static str, String),
}

/// The type of an out parameter for a number, which is 0 after a failure.
const NUMBER_OUT: &str = "uint64_t *";
const INVALID: &str = "DISCOVER_ERR_INVALID_ARGUMENT";

/// Cases with valid arguments, with each argument NULL, with all arguments NULL, and with malformed text.
pub fn misuse_cases(function: &Function) -> Vec<Case> {
    let valid = valid_arguments(function);
    let mut cases = vec![case(
        function,
        "with valid arguments",
        valid.clone(),
        Expected::Success,
    )];
    for (at, parameter) in function.parameters.iter().enumerate() {
        for (label, argument, expected) in invalid_arguments(function, parameter) {
            let mut arguments = valid.clone();
            arguments[at] = argument;
            let label = format!("{} {label}", parameter.name);
            cases.push(case(function, &label, arguments, expected));
        }
    }
    let nulls = |(parameter, valid): (&Parameter, &String)| match is_pointer(parameter) {
        true => "NULL".to_owned(),
        false => valid.clone(),
    };
    let all: Vec<String> = function.parameters.iter().zip(&valid).map(nulls).collect();
    let is_required = |p: &&Parameter| is_pointer(p) && (!p.is_optional() || is_array(p));
    let expected = match function.parameters.iter().find(is_required) {
        Some(_) => Expected::Failure(INVALID, " is NULL".to_owned()),
        None => Expected::Success,
    };
    cases.push(case(function, "all NULL", all, expected));
    cases
}

/// Cases with an injected panic.
pub fn panic_cases(function: &Function) -> Vec<Case> {
    if WITHOUT_BOUNDARY.contains(&function.name.as_str()) {
        return Vec::new();
    }
    let valid = valid_arguments(function);
    let expected = Expected::Failure("DISCOVER_ERR_INTERNAL", "a bug in libdiscover".to_owned());
    let mut case = case(function, "with an injected panic", valid, expected);
    case.panics = true;
    vec![case]
}

/// Cases on handles of a closed client.
pub fn closed_client_cases(function: &Function) -> Vec<Case> {
    if NEED_AN_OPEN_CLIENT.contains(&function.name.as_str()) {
        return Vec::new();
    }
    let valid = valid_arguments(function);
    let expected = match function.result.as_str() {
        "discover_status" => match expectations::after_close(&function.name) {
            "DISCOVER_OK" => Expected::Success,
            status => Expected::Failure(status, "closed".to_owned()),
        },
        _ => Expected::Success,
    };
    vec![case(function, "with the client closed", valid, expected)]
}

/// The source of the whole program.
pub fn program(cases: &[Case], closed: bool) -> String {
    let mut text = String::from(
        "#include \"every_function_fixture.h\"\n\n\
         void discover_inject_panic(void);\nbool discover_injected_panic_is_pending(void);\n\n",
    );
    for (at, case) in cases.iter().enumerate() {
        let _ = writeln!(text, "static void case_{at}(void) {{\n{}}}\n", case.body());
    }
    text.push_str(
        "static void every_function(const discover_event *received, void *user_data) {\n",
    );
    text.push_str("    (void)user_data;\n    if (event != NULL) return;\n    event = received;\n");
    if closed {
        text.push_str("    close_the_client();\n");
    }
    for at in 0..cases.len() {
        let _ = writeln!(text, "    case_{at}();");
    }
    text.push_str(
        "}\n\nint main(int argc, char **argv) {\n    \
             discover_client *outer = open_client(test_url(argc, argv));\n    \
             discover_set *web = open_set(outer, \"web\");\n    \
             discover_feed *outer_feed;\n\n    \
             prepare();\n    \
             discover_snapshot_free(await_online(web, 1));\n    \
             OK(discover_set_feed(web, &outer_feed, NULL));\n    \
             OK(discover_feed_drain(outer_feed, every_function, NULL, NULL));\n    \
             CHECK(event != NULL);\n    \
             release_everything();\n    \
             if (client) OK(discover_client_close(client, TIMEOUT_MS, NULL));\n    \
             discover_feed_cancel(outer_feed);\n    \
             discover_set_release(web);\n    \
             OK(discover_client_close(outer, TIMEOUT_MS, NULL));\n    \
             return 0;\n}\n",
    );
    text
}

fn case(function: &Function, label: &str, arguments: Vec<String>, expected: Expected) -> Case {
    Case {
        function: function.clone(),
        label: label.to_owned(),
        arguments,
        expected,
        panics: false,
    }
}

/// The invalid arguments for a parameter, and NULL for an optional one.
fn invalid_arguments(
    function: &Function,
    parameter: &Parameter,
) -> Vec<(&'static str, String, Expected)> {
    let name = &parameter.name;
    let invalid = |cause: &str| Expected::Failure(INVALID, format!("{}: {cause}", function.name));
    let null = |expected| ("NULL", "NULL".to_owned(), expected);
    if is_array(parameter) {
        return vec![
            null(invalid(&format!("{name} is NULL"))),
            (
                "with NULL",
                "null_names".to_owned(),
                invalid(&format!("{name}[0] is NULL")),
            ),
            (
                "malformed text",
                "malformed_names".to_owned(),
                invalid(&format!("{name}[0] is not UTF-8 at byte 3")),
            ),
        ];
    }
    if !is_pointer(parameter) {
        return Vec::new();
    }
    let mut cases = vec![null(match parameter.is_optional() {
        true => Expected::Success,
        false => invalid(&format!("{name} is NULL")),
    })];
    if parameter.kind == "const char *" {
        let expected = invalid(&format!("{name} is not UTF-8 at byte 3"));
        cases.push(("malformed text", "MALFORMED".to_owned(), expected));
    }
    cases
}

fn is_pointer(parameter: &Parameter) -> bool {
    parameter.kind.ends_with('*') || parameter.kind.ends_with("_fn")
}

fn is_array(parameter: &Parameter) -> bool {
    parameter.kind == "const char *const *"
}

/// The noun of a type: `set` for `const discover_set *` and `discover_set **`, `string` for an owned string.
fn noun(kind: &str) -> Option<&str> {
    if matches!(kind, "char *" | "char **") {
        return Some("string");
    }
    let kind = kind.strip_prefix("const ").unwrap_or(kind);
    let noun = kind.strip_prefix("discover_")?;
    noun.ends_with('*')
        .then(|| noun.trim_end_matches(['*', ' ']))
}

/// A valid argument for each parameter.
fn valid_arguments(function: &Function) -> Vec<String> {
    let argument = |parameter| valid_argument(&function.name, parameter);
    function.parameters.iter().map(argument).collect()
}

fn valid_argument(function: &str, parameter: &Parameter) -> String {
    let name = &parameter.name;
    match parameter.kind.as_str() {
        "const char *" => expectations::valid_text(function, name).to_owned(),
        "const char *const *" => name.clone(),
        "void *" => "&observer".to_owned(),
        kind if kind.ends_with("_fn") => name.clone(),
        kind if kind.ends_with("**") || kind == NUMBER_OUT => format!("&{name}"),
        "const discover_error *" => "failure".to_owned(),
        kind => match noun(kind) {
            Some(noun) if parameter.is_taken() => format!("fresh_{noun}()"),
            Some(noun) => noun.to_owned(),
            None => expectations::valid_number(name).to_owned(),
        },
    }
}

impl Case {
    fn body(&self) -> String {
        let Function {
            name,
            result,
            parameters,
            ..
        } = &self.function;
        let mut text = format!("    begin(\"{name}\", \"{}\");\n", self.label);
        let mut line = |line: String| text.push_str(&format!("    {line}\n"));
        // Arguments that the call takes are created before it, and before the panic is injected.
        let mut arguments = self.arguments.clone();
        for (parameter, argument) in parameters.iter().zip(&mut arguments) {
            let (kind, name) = (&parameter.kind, &parameter.name);
            if argument.starts_with('&') && kind.ends_with("**") {
                line(format!("{} {name} = JUNK;", &kind[..kind.len() - 1]));
            } else if argument.starts_with('&') && kind == NUMBER_OUT {
                line(format!("uint64_t {name} = 1;"));
            } else if argument.starts_with("fresh_") {
                line(format!("{kind} given = {argument};"));
                *argument = "given".to_owned();
            }
        }
        if self.panics {
            line("discover_inject_panic();".to_owned());
        }
        let call = format!("{name}({})", arguments.join(", "));
        match result.as_str() {
            "void" => line(format!("{call};")),
            _ => line(format!("{result} got = {call};")),
        }
        if self.panics {
            line(
                "require(!discover_injected_panic_is_pending(), \"no panic boundary\");".to_owned(),
            );
        }
        for check in self.checks(&arguments) {
            line(check);
        }
        text
    }

    /// The checks after the call.
    fn checks(&self, arguments: &[String]) -> Vec<String> {
        let mut checks = vec![self.result()];
        let parameters = &self.function.parameters;
        let passed = |p: &Parameter| {
            let at = parameters.iter().position(|one| one.name == p.name);
            at.is_some_and(|at| arguments[at] != "NULL")
        };
        for out in parameters
            .iter()
            .filter(|p| p.kind.ends_with("**") && passed(p))
        {
            checks.push(self.check_out(out));
        }
        let fails = matches!(self.expected, Expected::Failure(..));
        for out in parameters
            .iter()
            .filter(|p| p.kind == NUMBER_OUT && passed(p) && fails)
        {
            checks.push(format!(
                "require({} == 0, \"an output is not empty after a failure\");",
                out.name
            ));
        }
        if self.function.name == "discover_log_set" {
            checks.push("unset_log();".to_owned());
        }
        // A function that takes user_data calls destroy, whatever its result.
        if parameters.iter().any(|p| p.name == "destroy" && passed(p)) {
            checks.push("await_destroyed(&observer);".to_owned());
        }
        checks
    }

    fn result(&self) -> String {
        let Function { name, result, .. } = &self.function;
        if result == "discover_status" && name != "discover_error_status" {
            return match &self.expected {
                Expected::Success => "check_status_is(got, DISCOVER_OK);".to_owned(),
                Expected::Failure(status, _) => format!("check_status_is(got, {status});"),
            };
        }
        let default = expectations::default_result(name);
        let owned = self
            .function
            .comment
            .iter()
            .any(|line| line.starts_with("Returns [owned]"));
        match (&self.expected, result.as_str(), default) {
            (_, "void", _) => String::new(),
            // With an optional argument left out, either result is possible.
            (Expected::Success, _, _) if self.arguments.iter().any(|one| one == "NULL") => {
                "(void)got;".to_owned()
            }
            (Expected::Success, _, _)
                if expectations::DEFAULT_ON_SUCCESS.contains(&name.as_str()) =>
            {
                "(void)got;".to_owned()
            }
            (Expected::Success, kind, _) if owned => {
                format!("release_{}(got);", noun(kind).unwrap_or_default())
            }
            (Expected::Success, "const char *", Some(text)) => {
                format!("require(strcmp(got, {text}) != 0, \"the default result\");")
            }
            (Expected::Success, _, default) => format!(
                "require(got != {}, \"the default result\");",
                default.unwrap_or("0")
            ),
            (Expected::Failure(..), "const char *", Some(text)) => {
                format!("check_text_is(got, {text});")
            }
            (Expected::Failure(..), _, default) => format!(
                "require(got == {}, \"not the default result\");",
                default.unwrap_or("0")
            ),
        }
    }

    /// The check of an out parameter after the call.
    fn check_out(&self, out: &Parameter) -> String {
        let name = &out.name;
        let is_error = out.kind.contains("discover_error");
        match &self.expected {
            Expected::Success if is_error => format!("require({name} == NULL, \"an error\");"),
            Expected::Success => {
                format!("release_{}({name});", noun(&out.kind).unwrap_or_default())
            }
            Expected::Failure(status, words) if is_error => {
                format!("check_error({name}, {status}, \"{words}\");")
            }
            Expected::Failure(..) => {
                format!("require({name} == NULL, \"an output is not empty after a failure\");")
            }
        }
    }
}
