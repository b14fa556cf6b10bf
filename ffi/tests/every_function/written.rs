//! The C program that drives every function, written from the header.

#[path = "answers.rs"]
mod answers;

use std::fmt::Write;

use crate::support::{Function, Parameter};
pub use answers::{NEED_AN_OPEN_CLIENT, UNGUARDED};

/// A call, and what comes of it.
pub struct Case {
    function: Function,
    what: String,
    /// One for each parameter, in C.
    arguments: Vec<String>,
    answer: Answer,
    cue: bool,
}

#[derive(Clone)]
enum Answer {
    /// All is well.
    Good,
    /// A status, and words of the error; without a status, the neutral answer.
    Bad(&'static str, String),
}

/// A place for a number, which is 0 after a failure.
const COUNTER: &str = "uint64_t *";
const INVALID: &str = "DISCOVER_ERR_INVALID_ARGUMENT";

/// The function as it should be called, with NULL in each place and in all, and with bad text.
pub fn misuse(function: &Function) -> Vec<Case> {
    let good = good(function);
    let mut cases = vec![case(
        function,
        "as it should be",
        good.clone(),
        Answer::Good,
    )];
    for (at, parameter) in function.parameters.iter().enumerate() {
        for (what, argument, answer) in wrong(parameter) {
            let mut arguments = good.clone();
            arguments[at] = argument;
            let what = format!("{} {what}", parameter.name);
            cases.push(case(function, &what, arguments, answer));
        }
    }
    let nulls = |(parameter, good): (&Parameter, &String)| match is_pointer(parameter) {
        true => "NULL".to_owned(),
        false => good.clone(),
    };
    let all: Vec<String> = function.parameters.iter().zip(&good).map(nulls).collect();
    let needs = |p: &&Parameter| is_pointer(p) && (!p.is_optional() || is_array(p));
    let answer = match function.parameters.iter().find(needs) {
        Some(_) => Answer::Bad(INVALID, " is NULL".to_owned()),
        None => Answer::Good,
    };
    cases.push(case(function, "all NULL", all, answer));
    cases
}

/// The function with a bug inside.
pub fn bug(function: &Function) -> Vec<Case> {
    if UNGUARDED.contains(&function.name.as_str()) {
        return Vec::new();
    }
    let good = good(function);
    let answer = Answer::Bad("DISCOVER_ERR_INTERNAL", "a bug in libdiscover".to_owned());
    let mut case = case(function, "with a bug inside", good, answer);
    case.cue = true;
    vec![case]
}

/// The function on what is left of a closed client.
pub fn stale(function: &Function) -> Vec<Case> {
    if NEED_AN_OPEN_CLIENT.contains(&function.name.as_str()) {
        return Vec::new();
    }
    let good = good(function);
    let answer = match function.result.as_str() {
        "discover_status" => match answers::after_close(&function.name) {
            "DISCOVER_OK" => Answer::Good,
            status => Answer::Bad(status, "closed".to_owned()),
        },
        _ => Answer::Good,
    };
    vec![case(function, "with the client closed", good, answer)]
}

/// The whole program.
pub fn program(cases: &[Case], closed: bool) -> String {
    let mut text = String::from(
        "#include \"every_function.h\"\n\n\
         void discover_cue_panic(void);\nbool discover_cue_waits(void);\n\n",
    );
    for (at, case) in cases.iter().enumerate() {
        let _ = writeln!(text, "static void case_{at}(void) {{\n{}}}\n", case.body());
    }
    text.push_str("static void every_function(const discover_event *heard, void *user_data) {\n");
    text.push_str("    (void)user_data;\n    if (event != NULL) return;\n    event = heard;\n");
    if closed {
        text.push_str("    close_the_client();\n");
    }
    for at in 0..cases.len() {
        let _ = writeln!(text, "    case_{at}();");
    }
    text.push_str(
        "}\n\nint main(int argc, char **argv) {\n    \
             discover_client *outer = open_client(url_of(argc, argv));\n    \
             discover_set *web = services(outer, \"web\");\n    \
             discover_feed *news;\n\n    \
             prepare();\n    \
             discover_snapshot_free(await_online(web, 1));\n    \
             OK(discover_set_feed(web, &news, NULL));\n    \
             OK(discover_feed_drain(news, every_function, NULL, NULL));\n    \
             CHECK(event != NULL);\n    \
             give_everything_back();\n    \
             if (client) OK(discover_client_close(client, PATIENCE_MS, NULL));\n    \
             discover_feed_cancel(news);\n    \
             discover_set_release(web);\n    \
             OK(discover_client_close(outer, PATIENCE_MS, NULL));\n    \
             return 0;\n}\n",
    );
    text
}

fn case(function: &Function, what: &str, arguments: Vec<String>, answer: Answer) -> Case {
    Case {
        function: function.clone(),
        what: what.to_owned(),
        arguments,
        answer,
        cue: false,
    }
}

/// The ways in which an argument can be wrong, or be NULL and right.
fn wrong(parameter: &Parameter) -> Vec<(&'static str, String, Answer)> {
    let name = &parameter.name;
    let bad = |text: String| Answer::Bad(INVALID, text);
    let null = |answer| ("NULL", "NULL".to_owned(), answer);
    if is_array(parameter) {
        return vec![
            null(bad(format!("{name} is NULL"))),
            (
                "with NULL",
                "no_names".to_owned(),
                bad(format!("{name}[0] is NULL")),
            ),
            (
                "bad text",
                "bad_names".to_owned(),
                bad(format!("{name}[0] is not UTF-8 at byte 3")),
            ),
        ];
    }
    if !is_pointer(parameter) {
        return Vec::new();
    }
    let mut ways = vec![null(match parameter.is_optional() {
        true => Answer::Good,
        false => bad(format!("{name} is NULL")),
    })];
    if parameter.kind == "const char *" {
        let answer = bad(format!("{name} is not UTF-8 at byte 3"));
        ways.push(("bad text", "BAD".to_owned(), answer));
    }
    ways
}

fn is_pointer(parameter: &Parameter) -> bool {
    parameter.kind.ends_with('*') || parameter.kind.ends_with("_fn")
}

fn is_array(parameter: &Parameter) -> bool {
    parameter.kind == "const char *const *"
}

/// `set` of `const discover_set *` and of `discover_set **`; `string` of what a program owns as one.
fn noun(kind: &str) -> Option<&str> {
    if matches!(kind, "char *" | "char **") {
        return Some("string");
    }
    let kind = kind.strip_prefix("const ").unwrap_or(kind);
    let noun = kind.strip_prefix("discover_")?;
    noun.ends_with('*')
        .then(|| noun.trim_end_matches(['*', ' ']))
}

/// What each parameter is given when all is well.
fn good(function: &Function) -> Vec<String> {
    let one = |parameter| good_one(&function.name, parameter);
    function.parameters.iter().map(one).collect()
}

fn good_one(function: &str, parameter: &Parameter) -> String {
    let name = &parameter.name;
    match parameter.kind.as_str() {
        "const char *" => answers::text(function, name).to_owned(),
        "const char *const *" => name.clone(),
        "void *" => "&ear".to_owned(),
        kind if kind.ends_with("_fn") => name.clone(),
        kind if kind.ends_with("**") || kind == COUNTER => format!("&{name}"),
        "const discover_error *" => "failure".to_owned(),
        kind => match noun(kind) {
            Some(noun) if parameter.is_taken() => format!("fresh_{noun}()"),
            Some(noun) => noun.to_owned(),
            None => answers::number(name).to_owned(),
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
        let mut text = format!("    begin(\"{name}\", \"{}\");\n", self.what);
        let mut line = |line: String| text.push_str(&format!("    {line}\n"));
        // What is made for the call comes before it, and before the cue.
        let mut arguments = self.arguments.clone();
        for (parameter, argument) in parameters.iter().zip(&mut arguments) {
            let (kind, name) = (&parameter.kind, &parameter.name);
            if argument.starts_with('&') && kind.ends_with("**") {
                line(format!("{} {name} = JUNK;", &kind[..kind.len() - 1]));
            } else if argument.starts_with('&') && kind == COUNTER {
                line(format!("uint64_t {name} = 1;"));
            } else if argument.starts_with("fresh_") {
                line(format!("{kind} given = {argument};"));
                *argument = "given".to_owned();
            }
        }
        if self.cue {
            line("discover_cue_panic();".to_owned());
        }
        let call = format!("{name}({})", arguments.join(", "));
        match result.as_str() {
            "void" => line(format!("{call};")),
            _ => line(format!("{result} got = {call};")),
        }
        if self.cue {
            line("must(!discover_cue_waits(), \"nothing stands around it\");".to_owned());
        }
        for check in self.checks(&arguments) {
            line(check);
        }
        text
    }

    /// What is looked at after the call.
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
            checks.push(self.left_in(out));
        }
        let bad = matches!(self.answer, Answer::Bad(..));
        for out in parameters
            .iter()
            .filter(|p| p.kind == COUNTER && passed(p) && bad)
        {
            checks.push(format!("must({} == 0, \"left something\");", out.name));
        }
        if self.function.name == "discover_log_set" {
            checks.push("forget_log();".to_owned());
        }
        // Who takes user_data gives it back, whatever came of the call.
        if parameters.iter().any(|p| p.name == "destroy" && passed(p)) {
            checks.push("await_destroyed(&ear);".to_owned());
        }
        checks
    }

    fn result(&self) -> String {
        let Function { name, result, .. } = &self.function;
        if result == "discover_status" && name != "discover_error_status" {
            return match &self.answer {
                Answer::Good => "answered(got, DISCOVER_OK);".to_owned(),
                Answer::Bad(status, _) => format!("answered(got, {status});"),
            };
        }
        let neutral = answers::neutral(name);
        let owned = self
            .function
            .comment
            .iter()
            .any(|line| line.starts_with("Returns [owned]"));
        match (&self.answer, result.as_str(), neutral) {
            (_, "void", _) => String::new(),
            // With a NULL that is allowed, the answer may be either.
            (Answer::Good, _, _) if self.arguments.iter().any(|one| one == "NULL") => {
                "(void)got;".to_owned()
            }
            (Answer::Good, _, _) if answers::NEUTRAL_WHEN_WELL.contains(&name.as_str()) => {
                "(void)got;".to_owned()
            }
            (Answer::Good, kind, _) if owned => {
                format!("release_{}(got);", noun(kind).unwrap_or_default())
            }
            (Answer::Good, "const char *", Some(text)) => {
                format!("must(strcmp(got, {text}) != 0, \"a neutral answer\");")
            }
            (Answer::Good, _, neutral) => format!(
                "must(got != {}, \"a neutral answer\");",
                neutral.unwrap_or("0")
            ),
            (Answer::Bad(..), "const char *", Some(text)) => format!("is_text(got, {text});"),
            (Answer::Bad(..), _, neutral) => format!(
                "must(got == {}, \"not the neutral answer\");",
                neutral.unwrap_or("0")
            ),
        }
    }

    /// What must be in a slot after the call.
    fn left_in(&self, out: &Parameter) -> String {
        let name = &out.name;
        let is_error = out.kind.contains("discover_error");
        match &self.answer {
            Answer::Good if is_error => format!("must({name} == NULL, \"an error\");"),
            Answer::Good => format!("release_{}({name});", noun(&out.kind).unwrap_or_default()),
            Answer::Bad(status, words) if is_error => {
                format!("told({name}, {status}, \"{words}\");")
            }
            Answer::Bad(..) => format!("must({name} == NULL, \"left something\");"),
        }
    }
}
