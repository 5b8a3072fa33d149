//! Prints `docs/orderings.md`: every place whose memory ordering matters, its
//! partner, and how each weaker ordering is known to be wrong.
//!
//! ```text
//! cargo run -p loom-tests --bin orderings > docs/orderings.md
//! ```

use shm_primitives::sync::Shown;

fn main() {
    println!("# Memory orderings\n");
    println!(
        "Made by `cargo run -p loom-tests --bin orderings`; do not edit. Every access of\n\
         `shm-primitives` that orders anything names a site. `weaken` puts each weaker\n\
         ordering below in its place and runs the model named beside it, which has to fail\n\
         by its own assertion or by a data race that loom finds. Where loom cannot show the\n\
         fault, its limit and the reason for the ordering stand instead.\n"
    );
    println!("| site | ordering | partner | what it orders | weaker | shown by |");
    println!("|---|---|---|---|---|---|");
    for site in shm_primitives::sites() {
        for (row, weaker) in site.weaker.iter().enumerate() {
            let (name, ordering, partner, why) = if row == 0 {
                let ordering = format!("{:?}", site.ordering);
                (format!("`{}`", site.name), ordering, code(site.partner), site.why.trim())
            } else {
                Default::default()
            };
            let shown = match weaker.shown {
                Shown::Model(model) => format!("model `{model}`"),
                Shown::Limit(reason) => format!("loom's limit: {reason}"),
            };
            println!("| {name} | {ordering} | {partner} | {why} | {:?} | {shown} |", weaker.to);
        }
    }
}

fn code(names: &str) -> String {
    names.split(", ").map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
