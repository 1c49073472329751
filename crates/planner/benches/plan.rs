//! 1,000 servers out of 10,000.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

#[path = "../tests/all/world/mod.rs"]
mod world;

use criterion::{Criterion, criterion_group, criterion_main};

fn bench(c: &mut Criterion) {
    let input = world::large(10_000, 1_000);
    let mut group = c.benchmark_group("plan");
    group.sample_size(10);
    group.bench_function("1000 of 10000 servers", |b| b.iter(|| planner::plan(&input).unwrap()));
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
