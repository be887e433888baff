//! What keys and words of the daemon change, and pictures of what is shown: `tests/NAME.txt`, compared letter
//! by letter with what a terminal of that size would show.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::{Color, Modifier};
use warren_daemon::control::attempt::Role;
use warren_daemon::control::model::{
    Contents, Event, FileStanding, Gone, LimitRequest, Limits, Peer, PeerCounts, PeerPath,
    RemoveRequest, Share, ShareState, Tracker, Transport, Way,
};

use super::state::{Dialog, Screen, State};
use super::update::{Input, Order, update};
use super::view::view;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_list_looks_like_this() {
    let mut state = busy();
    shows(&state, (80, 24), "list-80x24");
    shows(&state, (120, 40), "list-120x40");
    press(&mut state, "?");
    shows(&state, (80, 24), "keys-80x24");
}

#[test]
fn the_details_look_like_this() {
    let state = in_details();
    shows(&state, (80, 24), "details-80x24");
    shows(&state, (120, 40), "details-120x40");
}

#[test]
fn nothing_shared_and_a_daemon_that_is_gone_look_like_this() {
    let mut empty = State::new(1, true);
    tell(&mut empty, Event::Tracker(tracker(true)));
    shows(&empty, (80, 24), "empty-80x24");
    let mut gone = busy();
    update(&mut gone, Input::Gone("daemon 1 is not running".into()));
    shows(&gone, (80, 24), "gone-80x24");
}

#[test]
fn a_paused_share_is_at_rest_at_once_and_one_that_is_verified_moves() {
    let mut state = busy();
    assert!(state.current().unwrap().down() > 0);
    let mut film = share(0, "film.mkv", ShareState::Paused);
    film.verified_bytes = film.bytes * 5 / 8;
    tell(&mut state, Event::Share(film.clone()));
    let paused = state.current().unwrap();
    assert_eq!((paused.down(), paused.left_s()), (0, None));
    // Nor does it go on with what it had.
    update(&mut state, Input::Tick(SECOND));
    film.state = ShareState::Downloading;
    tell(&mut state, Event::Share(film.clone()));
    assert_eq!(state.current().unwrap().down(), 0);

    film.state = ShareState::Hashing;
    for second in 0..20 {
        film.verified_bytes = second * (30 << 20);
        tell(&mut state, Event::Share(film.clone()));
        update(&mut state, Input::Tick(SECOND));
    }
    let read = state.current().unwrap();
    let rate = read.read() >> 20;
    assert!((29..=30).contains(&rate), "{rate} MiB/s");
    let left = film.bytes - film.verified_bytes;
    assert_eq!(read.left_s(), Some(left / read.read()));
    for (width, height) in [(80, 24), (120, 40)] {
        shows(
            &state,
            (width, height),
            &format!("verifying-{width}x{height}"),
        );
    }
    press(&mut state, "\n");
    shows(&state, (80, 24), "verifying-details-80x24");
    film.state = ShareState::Paused;
    tell(&mut state, Event::Share(film));
    press(&mut state, "\u{1b}");
    shows(&state, (80, 24), "paused-80x24");
    shows(&state, (120, 40), "paused-120x40");
}

#[test]
fn questions_look_like_this() {
    let mut state = busy();
    press(&mut state, "r");
    shows(&state, (80, 24), "remove-80x24");
    press(&mut state, "nl");
    shows(&state, (80, 24), "limits-80x24");
}

#[test]
fn of_ten_thousand_shares_those_around_the_selected_one_are_shown() {
    let mut state = State::new(1, true);
    for number in 0..10_000 {
        let name = format!("file-{number:05}.bin");
        tell(
            &mut state,
            Event::Share(share(number, &name, ShareState::Seeding)),
        );
    }
    assert_eq!(state.order.len(), 10_000);
    assert!(state.order.is_sorted());
    state.select(5_000);
    let picture = picture(&state, 80, 24);
    assert!(picture.contains("file-05000.bin") && picture.contains("file-05009.bin"));
    assert!(!picture.contains("file-00000.bin"));
    press(&mut state, "G");
    assert!(super::tests::picture(&state, 80, 24).contains("file-09999.bin"));
}

#[test]
fn names_can_neither_command_the_terminal_nor_break_the_columns() {
    let mut state = State::new(1, true);
    for (number, name) in [
        "\u{1b}[2J\u{1b}]0;title\u{7}escape",
        "line\nfeed\tand\rreturn",
        "\u{202e}fdp.exe",
        "漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字",
        &"long ".repeat(100),
        "e\u{301}\u{301}\u{301}combining",
        "",
    ]
    .iter()
    .enumerate()
    {
        let named = share(number as u64, name, ShareState::Downloading);
        tell(&mut state, Event::Share(named));
    }
    let mut peer = peer("evil\u{1b}[31m", PeerPath::Direct);
    peer.address = "\u{9b}31m".into();
    tell(&mut state, Event::Peer(peer));
    state.select(0);
    press(&mut state, "\n");
    let contents = Contents {
        peers: vec!["evil\u{1b}[31m".into()],
        files: vec![file("a/\u{1b}]52;c;x\u{7}b", 10, 10)],
        ..contents(&state)
    };
    tell(&mut state, Event::Contents(contents));
    for screen in [Screen::List, Screen::Details] {
        state.screen = screen;
        for (width, height) in [(80, 24), (40, 8), (120, 40), (41, 9), (99, 50), (100, 12)] {
            let picture = picture(&state, width, height);
            let is_control = |letter: char| letter != '\n' && letter.is_control();
            assert!(!picture.contains(is_control), "{picture:?}");
            assert!(!picture.contains('\u{202e}'), "{picture:?}");
        }
    }
    state.screen = Screen::List;
    shows(&state, (80, 24), "hostile-80x24");
}

#[test]
fn every_size_is_drawn_and_a_tiny_one_says_so() {
    let mut state = in_details();
    for dialog in ["", "?", "\u{1b}r", "nl"] {
        press(&mut state, dialog);
        for width in [1, 2, 10, 39, 40, 57, 79, 80, 100, 200, 500] {
            for height in [1, 2, 7, 8, 9, 12, 24, 100] {
                picture(&state, width, height);
            }
        }
    }
    assert!(picture(&state, 39, 24).starts_with("the window is too small:"));
}

#[test]
fn without_colours_none_is_used_and_the_selected_share_is_still_seen() {
    for colour in [true, false] {
        let mut state = busy();
        state.colour = colour;
        let terminal = drawn(&state, 80, 24);
        let buffer = terminal.backend().buffer();
        let cells = buffer.content();
        let has_colour = cells.iter().any(|cell| cell.fg != Color::Reset);
        assert_eq!(has_colour, colour);
        let is_marked = |cell: &&ratatui::buffer::Cell| cell.modifier.contains(Modifier::REVERSED);
        assert_eq!(cells.iter().filter(is_marked).count(), 80);
    }
}

#[test]
fn keys_go_through_the_list_and_back() {
    let mut state = busy();
    let name = |state: &State| state.current().unwrap().share.name.clone();
    assert_eq!(name(&state), "film.mkv");
    press(&mut state, "j");
    assert_eq!(name(&state), "letters");
    press(&mut state, "jjjjjjjj");
    assert_eq!(name(&state), "photos");
    press(&mut state, "k");
    assert_eq!(name(&state), "music");
    press(&mut state, "g");
    assert_eq!(name(&state), "film.mkv");
    let order = press(&mut state, "\n");
    assert_eq!(order, Some(Order::Contents(id(0))));
    assert_eq!(state.screen, Screen::Details);
    // Asked for anew each second, while it is shown and who was asked has answered.
    let shown = contents(&state);
    let answers: [fn(Contents) -> Input; 3] = [
        |contents| Input::Told(Box::new(Event::Contents(contents))),
        |_| Input::NoContents,
        |_| Input::Gone("it stopped".into()),
    ];
    for answer in answers {
        assert_eq!(update(&mut state, Input::Tick(SECOND)), None);
        assert_eq!(update(&mut state, answer(shown.clone())), None);
        assert_eq!(state.note, None);
        state.gone = None;
        let order = update(&mut state, Input::Tick(SECOND));
        assert_eq!(order, Some(Order::Contents(id(0))));
    }
    press(&mut state, "\u{1b}");
    assert_eq!(update(&mut state, Input::Tick(SECOND)), None);
    assert_eq!(press(&mut state, "q"), Some(Order::Quit));
    let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    for dialog in ["", "?", "r", "l"] {
        press(&mut state, dialog);
        assert_eq!(update(&mut state, Input::Key(control)), Some(Order::Quit));
        press(&mut state, "\u{1b}");
    }
}

#[test]
fn pause_is_resume_for_what_is_stopped() {
    let mut state = busy();
    assert_eq!(press(&mut state, "p"), Some(Order::Pause(id(0))));
    let mut paused = share(0, "film.mkv", ShareState::Paused);
    tell(&mut state, Event::Share(paused.clone()));
    assert_eq!(press(&mut state, " "), Some(Order::Resume(id(0))));
    paused.state = ShareState::Failed;
    tell(&mut state, Event::Share(paused));
    assert_eq!(press(&mut state, "p"), Some(Order::Resume(id(0))));
    assert_eq!(press(&mut state, "v"), Some(Order::Verify(id(0))));
    assert_eq!(press(&mut State::new(1, true), "p"), None);
}

#[test]
fn nothing_is_removed_without_a_yes() {
    let mut state = busy();
    for no in ["rn", "r\n", "r\u{1b}", "rr"] {
        assert_eq!(press(&mut state, no), None);
        assert_eq!(state.dialog, Dialog::None);
    }
    for (keys, data) in [("ry", false), ("rd", true)] {
        let share = id(0);
        let expected = Order::Remove(RemoveRequest { share, data });
        assert_eq!(press(&mut state, keys), Some(expected));
    }
    // The question is about the share that was shown, and goes with it.
    press(&mut state, "r");
    gone(&mut state, "share", &id(0));
    assert_eq!(state.dialog, Dialog::None);
    assert_eq!(state.current().unwrap().share.name, "letters");
}

#[test]
fn limits_are_typed_checked_and_set_together() {
    let mut state = busy();
    let order = press(&mut state, "l20M\t\u{8}\u{8}\u{8}\u{8}500k\n");
    let expected = LimitRequest {
        up_bits_per_s: Some(20_000_000),
        down_bits_per_s: Some(500_000),
        ..LimitRequest::default()
    };
    assert_eq!(order, Some(Order::Limit(expected)));
    assert_eq!(press(&mut state, "l7\n"), None);
    match &state.dialog {
        Dialog::Limits(form) => assert!(form.error.as_ref().unwrap().starts_with("up: ")),
        other => panic!("{other:?}"),
    }
    press(&mut state, "\u{1b}");
    assert_eq!(state.dialog, Dialog::None);
}

#[test]
fn rates_follow_what_was_received() {
    let mut state = busy();
    let mut film = share(0, "film.mkv", ShareState::Downloading);
    for second in 1..=20 {
        film.direct_bytes = 1_000_000 + second * 2_000_000;
        tell(&mut state, Event::Share(film.clone()));
        update(&mut state, Input::Tick(SECOND));
    }
    let rate = state.current().unwrap().down();
    assert!((1_950_000..=2_050_000).contains(&rate), "{rate}");
    // A daemon that was started anew counts from the beginning.
    film.direct_bytes = 0;
    tell(&mut state, Event::Share(film));
    for _ in 0..60 {
        update(&mut state, Input::Tick(SECOND));
    }
    assert_eq!(state.current().unwrap().down(), 0);
}

#[test]
fn what_is_renamed_moves_and_what_is_gone_goes() {
    let mut state = busy();
    tell(
        &mut state,
        Event::Share(share(3, "aaa", ShareState::Seeding)),
    );
    assert_eq!(state.order[0], id(3));
    assert_eq!(state.order.len(), 4);
    gone(&mut state, "share", &id(3));
    gone(&mut state, "peer", "p1");
    gone(&mut state, "tracker", "tracker.example:59000");
    assert_eq!((state.order.len(), state.peers.len()), (3, 1));
    assert!(state.trackers.is_empty());
}

#[test]
fn who_comes_back_tells_everything_anew_and_no_key_falls_on_another_share() {
    let standing = |numbers: &[u64]| {
        let share = |number| share(number, &format!("share {number}"), ShareState::Seeding);
        let shares = numbers.iter().map(|number| Event::Share(share(*number)));
        Input::Anew(shares.collect())
    };
    let mut state = in_details();
    update(&mut state, Input::Gone("it stopped".into()));
    update(&mut state, standing(&[2, 1, 0]));
    assert!(state.gone.is_none() && state.peers.is_empty());
    assert_eq!(state.order, [id(0), id(1), id(2)]);
    assert_eq!(state.screen, Screen::Details);
    assert!(state.contents.is_some());
    assert_eq!(press(&mut state, "v"), Some(Order::Verify(id(0))));

    // What has ended while nobody could tell is neither shown nor asked about.
    press(&mut state, "r");
    update(&mut state, standing(&[2, 1]));
    assert_eq!((state.screen, &state.dialog), (Screen::List, &Dialog::None));
    assert!(state.contents.is_none());
    assert_eq!(press(&mut state, "v"), Some(Order::Verify(id(1))));
    update(&mut state, standing(&[]));
    assert_eq!(press(&mut state, "v"), None);
    update(&mut state, standing(&[2]));
    assert_eq!(press(&mut state, "v"), Some(Order::Verify(id(2))));
}

#[test]
fn why_no_files_are_shown_is_told_as_it_is() {
    for (standing, text) in [
        (ShareState::Metadata, "FILES  not known yet"),
        (ShareState::Paused, "FILES  not told now"),
        (ShareState::Hashing, "FILES  not told now"),
        (ShareState::Seeding, "FILES  none"),
    ] {
        let mut state = in_details();
        tell(&mut state, Event::Share(share(0, "film.mkv", standing)));
        let (files, more_files) = (Vec::new(), 0);
        let contents = Contents {
            files,
            more_files,
            ..contents(&state)
        };
        tell(&mut state, Event::Contents(contents));
        let picture = picture(&state, 80, 24);
        assert!(picture.contains(text), "{standing:?}: {picture}");
    }
}

/// Four shares, two peers, a limit; what came in the last minute.
fn busy() -> State {
    let mut state = State::new(1, true);
    let mut film = share(0, "film.mkv", ShareState::Downloading);
    film.verified_bytes = film.bytes * 5 / 8;
    film.peers = PeerCounts {
        lan: 0,
        direct: 1,
        relay: 1,
    };
    let mut letters = share(1, "letters", ShareState::Failed);
    letters.verified_bytes = 0;
    letters.note = Some("no space is left on the disk".into());
    let events = [
        Event::Tracker(tracker(true)),
        Event::Limits(Limits {
            up_bits_per_s: None,
            down_bits_per_s: Some(100_000_000),
            ..Limits::default()
        }),
        Event::Share(film.clone()),
        Event::Share(letters),
        Event::Share(share(2, "photos", ShareState::Seeding)),
        Event::Share(share(3, "music", ShareState::Paused)),
        Event::Peer(peer("p1", PeerPath::Direct)),
        Event::Peer(peer("p2", PeerPath::Relay)),
    ];
    events.into_iter().for_each(|event| tell(&mut state, event));
    for second in 1..=60_u64 {
        let bytes = second * 1_000_000 + second.pow(2) * 40_000;
        film.direct_bytes = bytes;
        let mut first = peer("p1", PeerPath::Direct);
        (first.down_bytes, first.up_bytes) = (bytes, bytes / 10);
        tell(&mut state, Event::Share(film.clone()));
        tell(&mut state, Event::Peer(first));
        update(&mut state, Input::Tick(SECOND));
    }
    state
}

fn in_details() -> State {
    let mut state = busy();
    press(&mut state, "\n");
    let contents = contents(&state);
    tell(&mut state, Event::Contents(contents));
    state
}

/// Of the selected share.
fn contents(state: &State) -> Contents {
    Contents {
        content_id: state.selected.clone().unwrap(),
        chunks: 400,
        chunks_here: 250,
        map: (0..400).map(|part| u8::from(part % 8 < 5) * 100).collect(),
        files: vec![
            file("film/part-1.mkv", 700 << 20, 700 << 20),
            file("film/part-2.mkv", 700 << 20, 200 << 20),
            FileStanding {
                wanted: false,
                ..file("film/notes.txt", 3000, 0)
            },
            file("film/empty", 0, 0),
        ],
        more_files: 0,
        peers: vec!["p1".into(), "p2".into()],
    }
}

fn file(path: &str, bytes: u64, verified_bytes: u64) -> FileStanding {
    FileStanding {
        path: path.into(),
        bytes,
        verified_bytes,
        wanted: true,
    }
}

fn id(number: u64) -> String {
    format!("{number:064x}")
}

fn share(number: u64, name: &str, state: ShareState) -> Share {
    Share {
        content_id: id(number),
        name: name.into(),
        bytes: 1400 << 20,
        verified_bytes: 1400 << 20,
        state,
        ..Share::default()
    }
}

fn peer(name: &str, path: PeerPath) -> Peer {
    Peer {
        peer: name.into(),
        path,
        address: "203.0.113.9:4000".into(),
        rtt_ms: 12.4,
        down_bytes: 0,
        up_bytes: 0,
        side: Role::Client,
        kind: None,
        relayed_by: None,
        why_relayed: None,
        reached_ms: None,
        unlimited: false,
        standing: Default::default(),
        standings: Vec::new(),
    }
}

fn tracker(connected: bool) -> Tracker {
    Tracker {
        address: "tracker.example:59000".into(),
        key: "k".into(),
        connected,
        way: Some(Way {
            transport: Transport::Udp,
            port: 59000,
        }),
        note: None,
        fault: None,
        program: None,
        relays: None,
        mapping: "endpoint-independent".into(),
        mapping_depends_on: None,
        filtering: "port-dependent".into(),
        hairpinning: None,
    }
}

fn tell(state: &mut State, event: Event) {
    assert_eq!(update(state, Input::Told(Box::new(event))), None);
}

fn gone(state: &mut State, what: &str, id: &str) {
    let (what, id) = (what.into(), id.into());
    tell(state, Event::Gone(Gone { what, id }));
}

/// Each letter is a key. Returns what the last one asks for.
fn press(state: &mut State, keys: &str) -> Option<Order> {
    let mut order = None;
    for key in keys.chars() {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\t' => KeyCode::Tab,
            '\u{8}' => KeyCode::Backspace,
            '\u{1b}' => KeyCode::Esc,
            key => KeyCode::Char(key),
        };
        order = update(state, Input::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    }
    order
}

fn drawn(state: &State, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let draw = |frame: &mut ratatui::Frame<'_>| {
        let area = frame.area();
        view(state, area, frame.buffer_mut());
    };
    terminal.draw(draw).unwrap();
    terminal
}

/// The letters that are seen, line by line.
fn picture(state: &State, width: u16, height: u16) -> String {
    let terminal = drawn(state, width, height);
    let buffer = terminal.backend().buffer();
    let line = |y: u16| {
        let mut line = String::new();
        let mut x = 0;
        while x < width {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            // A wide letter hides the next cell.
            x += (ratatui::text::Span::raw(symbol).width() as u16).max(1);
        }
        line.trim_end().to_owned()
    };
    let lines: Vec<String> = (0..height).map(line).collect();
    lines.join("\n") + "\n"
}

#[track_caller]
fn shows(state: &State, (width, height): (u16, u16), name: &str) {
    let picture = picture(state, width, height);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/top/tests");
    let expected = fs::read_to_string(folder.join(format!("{name}.txt"))).ok();
    if expected.as_ref() != Some(&picture) {
        let made = std::env::temp_dir().join(format!("warren-top-{name}.txt"));
        fs::write(&made, &picture).unwrap();
        panic!(
            "look at {}; if it is right: copy it to cli/src/top/tests/{name}.txt",
            made.display()
        );
    }
}
