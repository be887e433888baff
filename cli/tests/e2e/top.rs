//! `client top` in a terminal of its own, which `script` makes: what it draws, and that it gives it back.

use std::{
    fs,
    io::{Read, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    content::MIB,
    harness::{Place, Swarm, run, wait_for},
};

/// Takes the alternate screen, and leaves it (xterm, DEC private mode 1049).
const TAKEN: &str = "\u{1b}[?1049h";
const GIVEN_BACK: &str = "\u{1b}[?1049l";

#[test]
fn shares_are_drawn_keys_work_and_the_terminal_is_given_back() {
    let swarm = Swarm::start();
    let daemon = swarm.daemon(1);
    let shared = daemon.register(&swarm.file("film.mkv", MIB, 1));
    let mut terminal = Terminal::start(swarm.place());
    terminal.until("film.mkv");
    terminal.until("seeding");
    terminal.press("\r");
    terminal.until("of 16");
    terminal.press("p");
    terminal.until("film.mkv is paused");
    assert_eq!(daemon.share(&shared.content_id).state.word(), "paused");
    terminal.press("q");
    terminal.ends();
    // The daemon goes on.
    daemon.client(&["status"]).expect(0);
}

#[test]
fn a_signal_ends_it_in_good_order() {
    let swarm = Swarm::start();
    let daemon = swarm.daemon(1);
    for signal in [Signal::TERM, Signal::INT] {
        let terminal = Terminal::start(swarm.place());
        terminal.until("nothing");
        kill_process(terminal.client(), signal).unwrap();
        terminal.ends();
    }
    let mut terminal = Terminal::start(swarm.place());
    terminal.until("nothing");
    daemon.stop();
    terminal.until("trying again");
    terminal.press("\u{3}");
    terminal.ends();
}

#[test]
fn without_a_daemon_it_is_exit_3_and_without_a_terminal_exit_2() {
    let place = Place::new();
    run(place.client().args(["top", "1"])).expect_error(3, "not running");
    let swarm = Swarm::start();
    let _daemon = swarm.daemon(1);
    run(swarm.place().client().args(["top", "1"])).expect_error(2, "terminal");
}

/// A terminal with `client top 1` in it, and then `stty`.
struct Terminal {
    place: Arc<Place>,
    script: Child,
    keys: ChildStdin,
    /// What the terminal was sent so far.
    drawn: Arc<Mutex<String>>,
}

impl Terminal {
    fn start(place: &Arc<Place>) -> Terminal {
        let _ = fs::remove_file(place.path("top.pid"));
        let client = format!(
            "stty rows 24 cols 80; sh -c 'echo $$ > top.pid; exec {} --home {} top 1'; \
             echo \"exit $?\"; stty -a",
            env!("CARGO_BIN_EXE_client"),
            place.home().display()
        );
        let mut command: Command = place.command("script");
        let mut script = command
            .args(["-qfc", &client, "/dev/null"])
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let drawn = Arc::<Mutex<String>>::default();
        let (mut output, into) = (script.stdout.take().unwrap(), Arc::clone(&drawn));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..count]);
                into.lock().unwrap().push_str(&text);
            }
        });
        Terminal {
            place: Arc::clone(place),
            keys: script.stdin.take().unwrap(),
            script,
            drawn,
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until this was drawn. What stays as it was from one picture to the next is not sent again, so
    /// that words may come with others' letters between them.
    #[track_caller]
    fn until(&self, text: &str) {
        wait_for(&format!("{text:?} to be drawn"), || {
            self.drawn.lock().unwrap().contains(text).then_some(())
        });
    }

    fn client(&self) -> Pid {
        let pid = fs::read_to_string(self.place.path("top.pid")).unwrap();
        Pid::from_raw(pid.trim().parse().unwrap()).unwrap()
    }

    /// It has ended well, and the terminal is as it was.
    #[track_caller]
    fn ends(mut self) {
        wait_for("the terminal to close", || self.script.try_wait().unwrap());
        self.until("echoe");
        let drawn = self.drawn.lock().unwrap();
        let (taken, rest) = drawn.split_once(TAKEN).unwrap();
        assert_eq!(taken.matches(GIVEN_BACK).count(), 0);
        let (_, after) = rest.split_once(GIVEN_BACK).unwrap();
        assert!(after.contains("exit 0"), "{after}");
        for setting in ["icanon", "echo", "isig"] {
            let mut words = after.split_whitespace();
            assert!(words.any(|word| word == setting), "{setting} in {after}");
        }
    }
}
