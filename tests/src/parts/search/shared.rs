//! One server of each kind for all tests of a program: a start costs seconds. A test has it for itself while it runs,
//! so it may kill it, suspend it or change the cluster's settings.

use std::{
    io,
    path::PathBuf,
    process::{ChildStdin, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError, TryLockError},
};

use serde_json::{Value, json};

use super::{Kind, Server};
use crate::parts::script_path;

/// A server and the pipe whose end ends it: a static is never dropped, and a test program may be killed.
struct Kept {
    server: Server,
    _guard: ChildStdin,
}

static SERVERS: [Mutex<Option<Kept>>; Kind::ALL.len()] = [const { Mutex::new(None) }; 5];

/// Runs a scenario on each chosen server, on whichever no other test uses first.
pub fn on_each(scenario: impl Fn(&Server)) {
    let mut kinds = Kind::chosen();
    while !kinds.is_empty() {
        on_free(&mut kinds, &scenario);
    }
}

/// Runs a scenario on one of the chosen servers: what lies before a server is the same whatever it is.
pub fn on_any(scenario: impl Fn(&Server)) {
    on_free(&mut Kind::chosen(), &scenario);
}

/// Runs a scenario on the server that no other test uses, or waits for one, and takes it from the list.
fn on_free(kinds: &mut Vec<Kind>, scenario: &impl Fn(&Server)) {
    let free = kinds.iter().position(|kind| try_lock(*kind).is_some()).unwrap_or(0);
    let kind = kinds.remove(free);
    eprintln!("on {}", kind.name());
    let mut kept = lock(kind);
    let kept = kept.get_or_insert_with(|| Kept::start(kind));
    kept.server.restore();
    scenario(&kept.server);
}

fn slot(kind: Kind) -> &'static Mutex<Option<Kept>> {
    let at = Kind::ALL.iter().position(|other| *other == kind);
    &SERVERS[at.expect("every kind has a place")]
}

fn lock(kind: Kind) -> MutexGuard<'static, Option<Kept>> {
    // A test that failed on it leaves it as it left it: `restore` puts that right.
    slot(kind).lock().unwrap_or_else(PoisonError::into_inner)
}

fn try_lock(kind: Kind) -> Option<MutexGuard<'static, Option<Kept>>> {
    match slot(kind).try_lock() {
        Ok(kept) => Some(kept),
        Err(TryLockError::Poisoned(kept)) => Some(kept.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

impl Kept {
    fn start(kind: Kind) -> Self {
        let dir = tempfile::Builder::new().prefix("drover-search-").tempdir().expect("a directory");
        let dir = dir.keep();
        let guard = guard(&dir).expect("a shell can be started");
        Self { server: Server::start(kind, dir, &[]), _guard: guard }
    }
}

/// A process that outlives this one, to stop the server and delete its directory.
fn guard(dir: &PathBuf) -> io::Result<ChildStdin> {
    let mut guard = Command::new("setsid");
    guard.args(["sh", "-c", "cat; \"$1\" stop --kill \"$2\"; rm -rf \"$2\"", "guard"]);
    guard.arg(script_path("search")).arg(dir);
    guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut guard = guard.spawn()?;
    Ok(guard.stdin.take().expect("it was asked for"))
}

impl Server {
    /// Puts right what another test did to the server and its cluster. The documents stay.
    fn restore(&self) {
        if self.pid().is_some_and(|id| rustix::process::test_kill_process(id).is_ok()) {
            self.resume();
        } else {
            self.start_again(&[]);
        }
        let all = json!({"transient": {"*": null}, "persistent": {"*": null}});
        let _ = self.request("PUT", "/_cluster/settings", &all).ok();
        let open = json!({"index.blocks.write": null, "index.blocks.read_only_allow_delete": null});
        let _ = self.request("PUT", "/_all/_settings?expand_wildcards=all", &open);
        debug_assert_ne!(self.get("/_cluster/health")["status"], Value::Null);
    }
}
