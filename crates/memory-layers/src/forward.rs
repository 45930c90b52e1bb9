//! Every trait of the core around any policy: each method is handed over as one call.

mod bulk;
mod changes;
mod embedder;
mod keywords;
mod leases;
mod meta;
mod records;
mod source;
mod tenants;
mod upkeep;
mod vectors;
