//! A run of 15 `file.managed` states with nothing to change, compiling included. The budget is 40 ms
//! on the minion.

use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use drover_states::{Compiler, Context, DirectoryRoots, Host, Run, RunOptions};
use serde_json::Map;

fn no_change(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = directory.path().display();
    let sls = format!(
        "{{% for i in range(15) %}}\n{at}/file{{{{ i }}}}:\n  file.managed:\n    - contents: text \
         {{{{ i }}}}\n    - mode: '0644'\n{{% endfor %}}\n"
    );
    let roots = directory.path().join("states");
    std::fs::create_dir(&roots).expect("the directory is new");
    std::fs::write(roots.join("bench.sls"), sls).expect("the directory is writable");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let apply = || {
        let files = Arc::new(DirectoryRoots::base(&roots));
        let context = Context::new(Map::new(), Map::new());
        let compiler = Compiler::new(Arc::clone(&files) as _, context);
        let low = compiler.sls("base", &["bench"]).expect("the file compiles");
        let host = Host::new(files, Map::new(), Map::new());
        runtime.block_on(Run::new(low, RunOptions::default()).execute(&host, |_, _| {}))
    };
    assert!(apply().changed());
    criterion.bench_function("apply 15 states without a change (budget 40 ms)", |bencher| {
        bencher.iter(|| {
            let returned = apply();
            assert!(returned.0.len() == 15 && !returned.changed());
        });
    });
}

criterion_group!(benches, no_change);
criterion_main!(benches);
