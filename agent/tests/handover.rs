//! Signals that arrive while one process of the agent replaces another.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use discover_testkit::agent::AgentOptions;
use discover_testkit::eventually;

#[test]
fn a_signal_that_arrives_during_a_hand_over_is_handled_by_the_next_process() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("discoverd");
    let next = directory.path().join("next");
    std::fs::copy(env!("CARGO_BIN_EXE_discoverd"), &program).unwrap();
    std::fs::copy(&program, &next).unwrap();
    let mut agent = AgentOptions::new(&program)
        .bind("127.0.0.1:0")
        .arguments(&["--state", "none"])
        .start();
    // The next program receives the signals before it can handle them, in the place of the kernel.
    // A shell would unblock them.
    let script = format!(
        "#!/usr/bin/env python3\nimport os, signal, sys\n\
         if '--check' in sys.argv: sys.exit()\n\
         for number in signal.SIGHUP, signal.SIGUSR2, signal.SIGTERM: os.kill(os.getpid(), number)\n\
         os.execv('{0}', ['{0}', *sys.argv[1:]])\n",
        next.display()
    );
    let replacement = directory.path().join("script");
    std::fs::write(&replacement, script).unwrap();
    std::fs::set_permissions(&replacement, Permissions::from_mode(0o700)).unwrap();
    std::fs::rename(&replacement, &program).unwrap();
    agent.signal("USR2");
    eventually("the next process handles the signal", || {
        let log = agent.log();
        let after = log.split_once("handing over to the next process")?.1;
        after.contains("signal received").then_some(())
    });
    agent.wait_for_exit();
}
