use std::fs;
use std::path::Path;

use super::*;

#[test]
fn commands_are_words_and_no_shell_sees_them() {
    let command = |text: &str| text.parse::<HookCommand>();
    let words = command(r#"notify-send 'it is done' "$WARREN_NAME""#).unwrap();
    assert_eq!(words.program, "notify-send");
    assert_eq!(words.arguments, ["it is done", "$WARREN_NAME"]);
    assert_eq!(command("a 'b").unwrap_err(), HookCommandError::Quotes);
    for text in ["", "  ", "''"] {
        assert_eq!(command(text).unwrap_err(), HookCommandError::Empty);
    }
}

#[tokio::test]
async fn a_command_learns_what_happened_to_what() {
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("said");
    let script = format!(
        r#"sh -c 'echo "$WARREN_EVENT $WARREN_ID $WARREN_NAME $WARREN_PATH $WARREN_ERROR" > {}'"#,
        said.display()
    );
    let happened = Happened {
        error: Some("no room".into()),
        ..happened(Happening::Failed, "a b; c")
    };
    run_all(&[(Happening::Failed, &script)], vec![happened]).await;
    let text = fs::read_to_string(said).unwrap();
    assert_eq!(text, "failed 00ff a b; c /shared/a b; c no room\n");
}

#[tokio::test]
async fn only_what_a_command_is_for_runs_it_and_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "sh -c 'touch {}/$WARREN_EVENT-$WARREN_NAME'",
        folder.path().display()
    );
    let all = [Happening::Added, Happening::Complete, Happening::Removed];
    let happened = all.map(|what| happened(what, "one"));
    let mut happened = happened.to_vec();
    happened.push(super::tests::happened(Happening::Complete, "two"));
    run_all(&[(Happening::Complete, &script)], happened).await;
    assert_eq!(names(folder.path()), ["complete-one", "complete-two"]);
}

#[tokio::test]
async fn no_more_than_a_few_run_at_once_and_all_run_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    // Each says how many are in the room, itself included.
    let script = format!(
        "sh -c 'mkdir {path}/in-$WARREN_NAME; ls -d {path}/in-* | wc -l > {path}/saw-$WARREN_NAME; \
         sleep 0.05; rmdir {path}/in-$WARREN_NAME'"
    );
    let names: Vec<_> = (0..3 * AT_ONCE).map(|number| number.to_string()).collect();
    let happened = names.iter().map(|name| happened(Happening::Added, name));
    run_all(&[(Happening::Added, &script)], happened.collect()).await;
    for name in names {
        let saw = fs::read_to_string(folder.path().join(format!("saw-{name}"))).unwrap();
        let saw: usize = saw.trim().parse().unwrap();
        assert!((1..=AT_ONCE).contains(&saw), "{saw}");
    }
}

#[tokio::test]
async fn what_takes_too_long_is_killed_with_all_it_has_started() {
    let slow = Slow::start().await;
    tokio::time::pause();
    tokio::time::advance(TIME_LIMIT).await;
    slow.runner.await.unwrap();
    assert_gone(&slow.child).await;
}

#[tokio::test]
async fn what_still_runs_at_the_end_is_killed_and_the_end_waits_for_that() {
    let slow = Slow::start().await;
    slow.stop.cancel();
    slow.runner.await.unwrap();
    assert_gone(&slow.child).await;
}

#[tokio::test]
async fn a_command_that_is_missing_fails_or_talks_without_end_does_not_stop_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "sh -c 'yes | head -c 1000000; touch {}/$WARREN_NAME; exit 3'",
        folder.path().display()
    );
    let missing = "/no/such/program";
    run_all(
        &[(Happening::Added, missing), (Happening::Complete, &script)],
        vec![
            happened(Happening::Added, "a"),
            happened(Happening::Complete, "b"),
            happened(Happening::Complete, "c"),
        ],
    )
    .await;
    assert_eq!(names(folder.path()), ["b", "c"]);
}

#[test]
fn without_a_command_nothing_is_described() {
    Hooks::default().tell(Happening::Added, || unreachable!("nobody wants to know"));
}

/// A command that has started another, which would sleep for long.
struct Slow {
    runner: JoinHandle<()>,
    stop: CancellationToken,
    /// What `/proc` says of the other.
    child: PathBuf,
    _folder: tempfile::TempDir,
}

impl Slow {
    async fn start() -> Slow {
        let folder = tempfile::tempdir().unwrap();
        let (before, pid) = (folder.path().join("before"), folder.path().join("pid"));
        let (before_at, pid_at) = (before.display(), pid.display());
        let script =
            format!("sh -c 'sleep 1000 & echo $! > {before_at}; mv {before_at} {pid_at}; wait'");
        let stop = CancellationToken::new();
        let commands = [(Happening::Added, script.parse().unwrap())];
        let (hooks, runner) = Hooks::start(commands.into(), stop.clone());
        hooks.tell(Happening::Added, || happened(Happening::Added, "slow"));
        drop(hooks);
        while !pid.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let pid = fs::read_to_string(pid).unwrap();
        Slow {
            runner,
            stop,
            child: PathBuf::from(format!("/proc/{}/stat", pid.trim())),
            _folder: folder,
        }
    }
}

/// It is somebody else's child now, who may take a moment to bury it.
async fn assert_gone(child: &Path) {
    while fs::read_to_string(child).is_ok_and(|stat| !stat.contains(") Z ")) {
        tokio::task::yield_now().await;
    }
}

/// Has all of it happen, and waits until every command has ended.
async fn run_all(commands: &[(Happening, &str)], all: Vec<Happened>) {
    let commands = commands.iter();
    let commands = commands.map(|(what, text)| (*what, text.parse().unwrap()));
    let (hooks, runner) = Hooks::start(commands.collect(), CancellationToken::new());
    for happened in all {
        hooks.tell(happened.what, || happened.clone());
    }
    drop(hooks);
    runner.await.unwrap();
}

fn happened(what: Happening, name: &str) -> Happened {
    Happened {
        what,
        id: "00ff".into(),
        name: name.into(),
        path: Path::new("/shared").join(name),
        error: None,
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}
