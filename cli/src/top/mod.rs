//! `client top`: a full-screen view of a daemon.
//!
//! [`update`] decides what a key or a word of the daemon changes, [`view`] how that looks; both are pure.
//! Here is the shell around them: keys, signals, the stream of events, what is asked of the daemon. A daemon
//! that is gone is looked for again each second.

mod state;
mod terminal;
#[cfg(test)]
mod tests;
mod update;
mod view;

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use warren_daemon::control::model::{ApiError, Event, ShareRequest, exit};
use warren_proto::content::path::printable;

use crate::commands::Client;
use crate::control::{Daemon, Events};
use crate::output::may_colour;
use state::State;
use terminal::{Screen, Told};
use update::{Input, Order, update};

/// Between two samples of rates, and two looks for a daemon that is gone.
const SECOND: Duration = Duration::from_secs(1);

/// Between two pictures, however much happens: as often as a person can follow.
const FRAME: Duration = Duration::from_millis(50);

/// What may wait to be looked at: the daemon tells up to 256 things at once.
const INPUTS: usize = 256;

impl Client {
    /// Shows the daemon until the person ends it, or a signal does.
    ///
    /// # Errors
    /// When there is no terminal, the daemon is not running, or either is lost for good.
    pub(crate) async fn top(self) -> Result<(), ApiError> {
        let mut terminate = listen(SignalKind::terminate())?;
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut hang_up = listen(SignalKind::hangup())?;
        let mut state = State::new(self.daemon.idx, may_colour());
        state.register = self.daemon.addressed("client register PATH IDX");
        let (events, standing) = begin(&self.daemon).await?;
        update(&mut state, Input::Anew(standing));
        let screen = Screen::open()?;
        let shell = Shell::new(self.daemon, screen, state);
        tokio::select! {
            ended = shell.run(events) => ended,
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            _ = hang_up.recv() => Ok(()),
        }
    }
}

fn listen(kind: SignalKind) -> Result<tokio::signal::unix::Signal, ApiError> {
    signal(kind).map_err(|error| {
        let message = format!("cannot listen for signals: {error}");
        ApiError::new("no_signals", exit::OTHER, message, "")
    })
}

/// The stream of events, and how everything stands, which the stream of a daemon with many shares would take
/// its time to tell. The stream is opened first: it tells of everything that ends after that.
async fn begin(daemon: &Daemon) -> Result<(Events, Vec<Event>), ApiError> {
    let events = daemon.watch("events").await?;
    let mut standing = daemon.list("status").await?;
    standing.extend(daemon.list("peers").await?);
    Ok((events, standing))
}

struct Shell {
    daemon: Daemon,
    screen: Screen,
    state: State,
    inputs: mpsc::Receiver<Input>,
    sender: mpsc::Sender<Input>,
}

impl Shell {
    fn new(daemon: Daemon, screen: Screen, state: State) -> Shell {
        let (sender, inputs) = mpsc::channel(INPUTS);
        Shell {
            daemon,
            screen,
            state,
            inputs,
            sender,
        }
    }

    async fn run(mut self, events: Events) -> Result<(), ApiError> {
        tokio::spawn(follow(self.daemon.clone(), events, self.sender.clone()));
        let mut seconds = interval(SECOND);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sampled = Instant::now();
        let (mut is_stale, mut drawn) = (true, None::<Instant>);
        loop {
            let next_frame = drawn.map_or_else(Instant::now, |drawn| drawn + FRAME);
            let input = tokio::select! {
                told = self.screen.next() => match told {
                    Some(Told::Key(key)) => Some(Input::Key(key)),
                    Some(Told::Resized) => None,
                    None => return Ok(()),
                },
                Some(input) = self.inputs.recv() => Some(input),
                now = seconds.tick() => {
                    let elapsed = now.saturating_duration_since(sampled);
                    sampled = now;
                    Some(Input::Tick(elapsed))
                }
                () = tokio::time::sleep_until(next_frame), if is_stale => {
                    self.screen.draw(&self.state)?;
                    (is_stale, drawn) = (false, Some(Instant::now()));
                    continue;
                }
            };
            is_stale = true;
            match input.and_then(|input| update(&mut self.state, input)) {
                Some(Order::Quit) => return Ok(()),
                Some(order) => drop(tokio::spawn(carry_out(
                    self.daemon.clone(),
                    order,
                    self.sender.clone(),
                ))),
                None => (),
            }
        }
    }
}

/// Passes on what the daemon tells until nobody looks any more, and looks for it when it is gone.
async fn follow(daemon: Daemon, mut events: Events, inputs: mpsc::Sender<Input>) {
    while let Err(mut error) = pass_on(&mut events, &inputs).await {
        loop {
            if inputs.send(Input::Gone(error.message)).await.is_err() {
                return;
            }
            sleep(SECOND).await;
            match begin(&daemon).await {
                Ok((anew, standing)) => {
                    events = anew;
                    // Who has gone is noticed at the next event.
                    let _ = inputs.send(Input::Anew(standing)).await;
                    break;
                }
                Err(refused) => error = refused,
            }
        }
    }
}

/// Until the daemon is gone; no error when nobody looks any more.
async fn pass_on(events: &mut Events, inputs: &mpsc::Sender<Input>) -> Result<(), ApiError> {
    loop {
        let event = events.next().await?;
        if inputs.send(Input::Told(Box::new(event))).await.is_err() {
            return Ok(());
        }
    }
}

/// Asks the daemon for it, and says what came of it.
async fn carry_out(daemon: Daemon, order: Order, inputs: mpsc::Sender<Input>) {
    // Asked for each second, and refused only where the share has just gone.
    let is_silent = matches!(order, Order::Contents(_));
    let answer = match ask(&daemon, order).await {
        Ok(Some(input)) => input,
        Ok(None) => return,
        Err(_) if is_silent => Input::NoContents,
        Err(error) => Input::Answered(Err(told(&error))),
    };
    // Who asked may have gone.
    let _ = inputs.send(answer).await;
}

fn told(error: &ApiError) -> String {
    match error.hint.is_empty() {
        true => error.message.clone(),
        false => format!("{}. {}", error.message, error.hint),
    }
}

async fn ask(daemon: &Daemon, order: Order) -> Result<Option<Input>, ApiError> {
    let of = |share: String| ShareRequest { share };
    let answer = match order {
        Order::Pause(id) => told_of(daemon.tell("pause", &of(id)).await?, "is paused"),
        Order::Resume(id) => told_of(daemon.tell("resume", &of(id)).await?, "goes on"),
        Order::Verify(id) => {
            // It goes on when nobody follows; how far it is, is told of the share.
            daemon.follow("verify", &of(id)).await?;
            Some(Input::Answered(Ok(
                "what is stored is read again".to_owned()
            )))
        }
        Order::Remove(request) => {
            daemon.order("remove", &request).await?;
            Some(Input::Answered(Ok("the share is removed".to_owned())))
        }
        Order::Limit(request) => {
            daemon.tell::<Vec<Event>>("limit", &request).await?;
            Some(Input::Answered(Ok("the limits are set".to_owned())))
        }
        Order::Contents(id) => {
            let event = daemon.tell("contents", &of(id)).await?;
            Some(Input::Told(Box::new(event)))
        }
        Order::Quit => None,
    };
    Ok(answer)
}

fn told_of(event: Event, does: &str) -> Option<Input> {
    let Event::Share(share) = event else {
        return None;
    };
    let text = format!("{} {does}", printable(&share.name));
    Some(Input::Answered(Ok(text)))
}
