//! The program `tracker` as scripts see it when it does not start.

use std::process::Command;

#[test]
fn json_errors_are_one_object_on_stdout() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (args, code, exit, word) in [
        (
            &["--relay", "99999999999G"][..],
            "usage",
            2,
            "at most 1000G",
        ),
        (&["--relay", "much"], "usage", 2, "example 100M"),
        (&["--listen", &taken], "not_started", 1, "another tracker"),
    ] {
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tracker"));
        command.arg("--home").arg(home.path()).arg("--json");
        let output = command.args(args).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(exit), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        let line: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!((&line["type"], &line["v"]), (&"error".into(), &1.into()));
        assert_eq!((&line["code"], &line["exit"]), (&code.into(), &exit.into()));
        assert!(said.contains(word), "{said}");
        assert!(!line["hint"].as_str().unwrap().is_empty(), "{said}");
        assert_eq!(output.stderr, b"", "{line}");
    }
}
