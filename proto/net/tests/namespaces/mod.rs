//! Machines with networks of their own, in this process: each is a runtime in a network namespace.
//!
//! A test runs itself again, as root in namespaces of its own ([`inside`]). Where the machine allows no
//! such thing it says so on the terminal and passes; with `NATLAB=required` it fails instead.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a failed test"
)]

mod skip;

use std::env;
use std::fs;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// Says to a test that it is inside.
const INSIDE: &str = "WARREN_TEST_INSIDE";

/// Has the test of that name go on inside, and returns whether it is there already.
#[track_caller]
pub(crate) fn inside(test: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    if let Err(why) = possible() {
        skip::skip(&why);
        return false;
    }
    let mut again = Command::new("unshare");
    again
        .args(["-Urnm", "--kill-child"])
        .arg(env::current_exe().unwrap());
    again
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "yes");
    let output = again.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{failed}");
    assert!(said.contains("1 passed"), "there is no test {test}");
    false
}

/// Whether the kernel lets us, and if not, why.
fn possible() -> Result<(), String> {
    let tries = "ip link add one0 type veth peer name two0";
    let tried = Command::new("unshare")
        .args(["-Urnm", "sh", "-c", tries])
        .output();
    match tried {
        Err(error) => Err(format!("unshare: {error}")),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// A machine.
pub(crate) struct Host {
    runtime: Runtime,
    /// The thread by which the kernel finds its network.
    thread: String,
}

impl Host {
    pub(crate) fn new() -> Host {
        let runtime = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            // Its threads are where this one is.
            let mut runtime = Builder::new_multi_thread();
            runtime.worker_threads(1).enable_all().build().unwrap()
        });
        let runtime = runtime.join().unwrap();
        let named = async { fs::read_link("/proc/thread-self").unwrap() };
        let named = runtime.block_on(runtime.spawn(named)).unwrap();
        let thread = named.file_name().unwrap().to_str().unwrap().to_owned();
        let host = Host { runtime, thread };
        host.sh("ip link set lo up; echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
        host
    }

    /// Does something there.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        what: impl Future<Output = T> + Send + 'static,
    ) -> T {
        self.runtime.block_on(self.start(what)).unwrap()
    }

    /// Begins to do something there.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        what: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.runtime.spawn(what)
    }

    /// Has a shell do something there, all of it.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) {
        let script = script.to_owned();
        let run = async move { Command::new("sh").args(["-ec", &script]).output() };
        let output = self.run(run).unwrap();
        assert!(output.status.success(), "{output:#?}");
    }

    /// Has it pass on what is not for it.
    pub(crate) fn forward(&self) {
        self.sh("echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
    }
}

/// Lays a cable whose ends take IP packets of so many bytes; each end is a name, and addresses with
/// their prefixes.
pub(crate) fn cable(
    (one, name, addresses): (&Host, &str, [&str; 2]),
    (other, name_there, addresses_there): (&Host, &str, [&str; 2]),
    mtu: u32,
) {
    let there = &other.thread;
    one.sh(&format!(
        "ip link add {name} mtu {mtu} type veth peer name {name_there} mtu {mtu} netns {there}"
    ));
    for (host, name, addresses) in [(one, name, addresses), (other, name_there, addresses_there)] {
        let [v4, v6] = addresses;
        host.sh(&format!(
            "ip addr add {v4} dev {name}; ip addr add {v6} dev {name} nodad; ip link set {name} up"
        ));
    }
}
