//! Extracts constants and declarations from a header for comparison.

/// The header without comments.
fn without_comments(header: &str) -> String {
    let mut code = String::new();
    let mut rest = header;
    while let Some((before, after)) = rest.split_once("/*") {
        code.push_str(before);
        rest = after.split_once("*/").map_or("", |(_, rest)| rest);
    }
    code + rest
}

/// Returns `NAME VALUE` of each constant except the version numbers.
pub fn constants(header: &str) -> Vec<String> {
    let code = without_comments(header);
    let defined = code
        .lines()
        .filter_map(|line| line.strip_prefix("#define "));
    let is_constant = |line: &&str| line.split(' ').count() == 2 && !line.contains("_VERSION_");
    defined.filter(is_constant).map(str::to_owned).collect()
}

/// Returns each type and function declaration on one line.
pub fn declarations(header: &str) -> Vec<String> {
    let code = without_comments(header);
    let lines = code
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    let mut continued = false;
    let mut text = String::new();
    for line in lines {
        let directive = continued || line.starts_with('#');
        continued = directive && line.ends_with('\\');
        if !directive && !line.starts_with("extern") && line.trim() != "}" {
            text.push_str(line);
            text.push(' ');
        }
    }
    let words = |one: &str| one.split_whitespace().collect::<Vec<_>>().join(" ");
    let all = text.split(';').map(words);
    all.filter(|one| !one.is_empty()).collect()
}

/// Returns the entries of `before` that `now` lacks.
pub fn missing_from(before: &[String], now: &[String]) -> Vec<String> {
    let is_missing = |one: &&String| !now.contains(one);
    before.iter().filter(is_missing).cloned().collect()
}

#[test]
fn a_breaking_change_is_detected() {
    let before = "/* a */\n#define DISCOVER_OK 0\n#define DISCOVER_VERSION_MINOR 1\n\
                  typedef int32_t discover_status;\nvoid discover_run(int a,\n    int b);\n";
    let renumbered = before.replace("OK 0", "OK 1");
    assert_eq!(
        missing_from(&constants(before), &constants(&renumbered)),
        ["DISCOVER_OK 0"]
    );
    let later = before.replace("MINOR 1", "MINOR 2") + "int discover_more(void);\n";
    assert!(missing_from(&constants(before), &constants(&later)).is_empty());
    assert!(missing_from(&declarations(before), &declarations(&later)).is_empty());
    let another_type = before.replace("int b", "long b");
    let missing = missing_from(&declarations(before), &declarations(&another_type));
    assert_eq!(missing, ["void discover_run(int a, int b)"]);
    let another_width = before.replace("int32_t", "int64_t");
    let missing = missing_from(&declarations(before), &declarations(&another_width));
    assert_eq!(missing, ["typedef int32_t discover_status"]);
}
