use std::fs;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::file::Sections;
use super::*;

const SECTIONS: Sections = Sections {
    word: "daemon",
    is_name: |name| name.parse::<u16>().is_ok(),
    expected: "the number of a daemon",
};

#[test]
fn the_command_line_counts_over_the_environment_that_over_the_file_and_that_over_the_default() {
    let file = "rate = '1M'\n";
    let variables = [("TEST_RATE", "2M")];
    for (typed, variables, file, rate) in [
        ("--rate 3M", &variables[..], file, "3M"),
        ("", &variables, file, "2M"),
        ("", &[], file, "1M"),
        ("", &[], "", "off"),
    ] {
        let matches = parsed(typed, variables, file, None).unwrap();
        assert_eq!(text(&matches, "rate"), rate, "{typed} {file}");
    }
}

#[test]
fn a_flag_of_the_file_is_taken_back_on_the_command_line() {
    let on = |typed: &str| {
        let matches = parsed(typed, &[], "quiet = true\n", None).unwrap();
        matches.get_flag("quiet")
    };
    assert!(on(""));
    assert!(on("--quiet"));
    assert!(!on("--quiet=false"));
    assert!(
        !parsed("", &[], "quiet = false\n", None)
            .unwrap()
            .get_flag("quiet")
    );
}

#[test]
fn what_contradicts_a_stronger_word_is_left_out_and_among_equals_it_is_an_error() {
    let matches = parsed("--loud", &[], "quiet = true\n", None).unwrap();
    assert!(matches.get_flag("loud") && !matches.get_flag("quiet"));

    let variables = [("TEST_LOUD", "on")];
    let matches = parsed("", &variables, "quiet = true\n", None).unwrap();
    assert!(matches.get_flag("loud") && !matches.get_flag("quiet"));

    let both = "quiet = true\n\nloud = true\n";
    let error = parsed("", &[], both, None).unwrap_err();
    assert!(
        error.contains(":3: `loud` cannot be combined with `quiet`"),
        "{error}"
    );
    assert!(parsed("", &[], "quiet = true\nloud = false\n", None).is_ok());
    assert!(parsed("--loud --quiet", &[], "", None).is_err());
}

#[test]
fn what_is_required_may_come_from_anywhere() {
    let required = |file: &str, variables: &[(&str, &str)], typed: &str| {
        let mut words = vec!["test"];
        words.extend(typed.split_whitespace());
        let matches = filled(&words, variables, file, None)?;
        Ok::<_, String>(text(&matches, "place"))
    };
    assert_eq!(required("place = 'a'\n", &[], "").unwrap(), "a");
    assert_eq!(
        required("place = 'a'\n", &[("TEST_PLACE", "b")], "").unwrap(),
        "b"
    );
    assert_eq!(
        required("place = 'a'\n", &[("TEST_PLACE", "b")], "c").unwrap(),
        "c"
    );
    assert!(required("", &[], "").unwrap_err().contains("required"));
}

#[test]
fn a_section_counts_over_the_rest_of_the_file_for_whom_it_is_meant() {
    let file = "rate = '1M'\n[daemon.2]\nrate = '2M'\n";
    for (section, rate) in [(None, "1M"), (Some("1"), "1M"), (Some("2"), "2M")] {
        let matches = parsed("", &[], file, section).unwrap();
        assert_eq!(text(&matches, "rate"), rate, "{section:?}");
    }
}

#[test]
fn lists_are_lists_in_a_file_and_have_commas_in_a_variable() {
    let names = |variables: &[(&str, &str)], file: &str| {
        let matches = parsed("", variables, file, None).unwrap();
        let names = matches.get_many::<String>("name").unwrap();
        names.cloned().collect::<Vec<_>>()
    };
    assert_eq!(names(&[], "name = ['a', 'b']\n"), ["a", "b"]);
    assert_eq!(names(&[], "name = 'a'\n"), ["a"]);
    assert_eq!(names(&[("TEST_NAME", "c, d")], "name = 'a'\n"), ["c", "d"]);
}

#[test]
fn an_empty_variable_is_none() {
    let matches = parsed("", &[("TEST_RATE", "")], "rate = '1M'\n", None).unwrap();
    assert_eq!(text(&matches, "rate"), "1M");
}

#[test]
fn paths_of_a_file_begin_at_a_root() {
    let matches = parsed("", &[], "folder = '/a/b'\n", None).unwrap();
    assert_eq!(
        matches.get_one::<PathBuf>("folder").unwrap(),
        &PathBuf::from("/a/b")
    );
    let error = parsed("", &[], "folder = 'a/b'\n", None).unwrap_err();
    assert!(
        error.contains(":1:") && error.contains("begins with / or ~/"),
        "{error}"
    );
    if let Some(home) = std::env::home_dir().filter(|home| home.is_absolute()) {
        let matches = parsed("", &[], "folder = '~/b'\n", None).unwrap();
        assert_eq!(
            matches.get_one::<PathBuf>("folder").unwrap(),
            &home.join("b")
        );
    }
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_what_was_meant() {
    for (file, words) in [
        (
            "\nratte = '1M'\n",
            &[":2:", "`ratte`", "Did you mean `rate`?"][..],
        ),
        ("zzz = 1\n", &[":1:", "`zzz`", "All that can be set"]),
        (
            "[demon.2]\nrate = '1M'\n",
            &[":1:", "Did you mean `daemon`?"],
        ),
        (
            "[daemon.2]\n\nratte = '1M'\n",
            &[":3:", "Did you mean `rate`?"],
        ),
        ("[daemon.two]\n", &[":1:", "the number of a daemon"]),
        ("[daemon]\n2 = 1\n", &[":2:", "`daemon.2`", "a table"]),
        (
            "# one\nquiet = 'yes'\n",
            &[":2:", "true or false, not a text"],
        ),
        (
            "rate = true\n",
            &[":1:", "a text in double quotes, not true or false"],
        ),
        ("much = '4'\n", &[":1:", "a whole number, not a text"]),
        ("much = 99999999999\n", &[":1:", "`much`", "99999999999"]),
        ("name = ['a', 1]\n", &[":1:", "a list of texts", "a number"]),
        ("rate = 'much'\n", &[":1:", "`rate`", "no rate"]),
        ("rate = '1M\n", &[":1:"]),
        ("rate = '1M'\nrate = '2M'\n", &[":2:"]),
    ] {
        let error = parsed("", &[], file, None).unwrap_err();
        for word in words {
            assert!(error.contains(word), "{file}: {error}");
        }
    }
    let error = parsed("", &[("TEST_RATE", "much")], "", None).unwrap_err();
    assert!(error.starts_with("TEST_RATE: `rate`"), "{error}");
    let error = parsed("", &[("TEST_QUIET", "perhaps")], "", None).unwrap_err();
    assert!(error.contains("expected true or false"), "{error}");
}

#[test]
fn what_is_shown_says_who_said_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, "\nmuch = 0x10\nquiet = true\n").unwrap();
    let settings = settings();
    let file = File::read(&path, &settings, None).unwrap();
    let variables = |name: &str| (name == "TEST_NAME").then(|| "a,b".into());
    let found = settings
        .find(&BTreeSet::new(), &variables, Some(&file), None)
        .unwrap();
    let typed = [("rate".to_owned(), vec!["3M".to_owned()])];
    let shown = settings.shown(&found, &typed);

    let of = |key: &str| {
        let it = shown.iter().find(|it| it.key == key).unwrap();
        (it.value.to_string(), it.origin.clone())
    };
    assert_eq!(of("rate"), (r#""3M""#.into(), Origin::CommandLine));
    let line = |line| Origin::File {
        path: path.clone(),
        line,
    };
    assert_eq!(of("much"), ("16".into(), line(2)));
    assert_eq!(of("quiet"), ("true".into(), line(3)));
    assert_eq!(
        of("name"),
        (r#"["a","b"]"#.into(), Origin::Variable("TEST_NAME".into()))
    );
    assert_eq!(of("loud"), ("false".into(), Origin::Default));
    assert_eq!(of("folder"), ("null".into(), Origin::Default));

    let json = shown.iter().find(|it| it.key == "much").unwrap().to_json();
    assert_eq!((&json["from"], &json["line"]), (&"file".into(), &2.into()));
    assert_eq!(json["variable"], "TEST_MUCH");
    let table = shown::table(&shown);
    assert!(table.contains("TEST_NAME"), "{table}");
}

#[test]
fn a_template_names_everything_and_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let settings = settings();
    let template = settings.template("First.\nSecond.");
    fs::write(&path, &template).unwrap();
    let file = File::read(&path, &settings, None).unwrap();
    for setting in &settings.0 {
        assert!(
            template.contains(&format!("\n#{} = ", setting.key)),
            "{template}"
        );
        assert_eq!(file.given(&setting.id, None), None);
    }
    assert!(template.starts_with("# First.\n# Second.\n"), "{template}");
}

#[test]
fn a_missing_file_may_be_missing_and_a_huge_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let settings = settings();
    assert!(
        File::read_if_there(&path, &settings, None)
            .unwrap()
            .is_none()
    );
    assert!(File::read(&path, &settings, None).is_err());
    fs::write(&path, "#".repeat((1 << 20) + 1)).unwrap();
    assert!(File::read_if_there(&path, &settings, None).is_err());
}

fn command() -> Command {
    let rate = |text: &str| match text {
        "off" => Ok(text.to_owned()),
        _ if text.ends_with('M') => Ok(text.to_owned()),
        _ => Err("this is no rate"),
    };
    Command::new("test").args([
        Arg::new("place").required(true),
        Arg::new("rate")
            .long("rate")
            .value_parser(rate)
            .default_value("off")
            .help("How fast."),
        Arg::new("much")
            .long("much")
            .value_parser(value_parser!(u32)),
        Arg::new("folder")
            .long("folder")
            .value_parser(value_parser!(PathBuf)),
        Arg::new("name").long("name").action(ArgAction::Append),
        Arg::new("quiet").long("quiet").action(ArgAction::SetTrue),
        Arg::new("loud")
            .long("loud")
            .action(ArgAction::SetTrue)
            .conflicts_with("quiet"),
        Arg::new("config").long("config"),
    ])
}

fn settings() -> Settings {
    Settings::of(&command(), "TEST_", &["config"])
}

fn text(matches: &ArgMatches, id: &str) -> String {
    matches.get_one::<String>(id).unwrap().clone()
}

/// What comes of a command line that says the place.
fn parsed(
    typed: &str,
    variables: &[(&str, &str)],
    file: &str,
    section: Option<&str>,
) -> Result<ArgMatches, String> {
    let mut words = vec!["test", "here"];
    words.extend(typed.split_whitespace());
    filled(&words, variables, file, section)
}

fn filled(
    words: &[&str],
    variables: &[(&str, &str)],
    file: &str,
    section: Option<&str>,
) -> Result<ArgMatches, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, file).unwrap();
    let settings = settings();
    let explained = |error: SettingsError| format!("{error} {}", error.hint("test config"));
    let file = File::read(&path, &settings, Some(SECTIONS)).map_err(explained)?;
    let typed = settings.relax(command()).try_get_matches_from(words);
    let typed = settings.typed(&typed.map_err(|error| error.to_string())?);
    let variable = |name: &str| {
        let found = variables.iter().find(|(other, _)| *other == name);
        found.map(|(_, value)| OsString::from(value))
    };
    let found = settings
        .find(&typed, &variable, Some(&file), section)
        .map_err(explained)?;
    let filled = settings.fill(command(), &found).try_get_matches_from(words);
    filled.map_err(|error| error.to_string())
}
