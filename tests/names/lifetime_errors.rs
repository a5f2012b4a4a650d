//! The messages of doc/lifetime-errors.md are those that the compiler prints.

use std::fs;

use super::root;

#[test]
fn every_message_is_printed_for_its_program() {
    let page = fs::read_to_string(root().join("doc/lifetime-errors.md")).unwrap();
    let (mut messages, mut lines) = (0, 0);
    for section in page.split("\n## ").skip(1) {
        let program = section.split("`ui-tests/").nth(1).and_then(|rest| rest.split('`').next()).unwrap();
        let printed = fs::read_to_string(root().join(format!("ui-tests/{program}.stderr"))).unwrap();
        let message = section.split("```text\n").nth(1).and_then(|rest| rest.split("\n```").next()).unwrap();
        for line in message.lines().map(str::trim) {
            // The compiler prints a number and a bar in front of a line.
            assert!(printed.lines().any(|out| out.ends_with(line)), "{program} does not print: {line}");
            lines += 1;
        }
        messages += 1;
    }
    assert!(messages == 5 && lines > 25, "{messages} messages, {lines} lines");
    // The other programs that the page names.
    for program in page.split("`ui-tests/").skip(1).map(|rest| rest.split('`').next().unwrap()) {
        assert!(root().join(format!("ui-tests/{program}.stderr")).is_file(), "{program}");
    }
}
