//! The bytes that an index says it occupies against those that the allocator has handed out.

use std::process::Command;

use cap::Cap;
use memory_index::{Bm25, DocEntry, TenantIndex};

#[global_allocator]
static HEAP: Cap<std::alloc::System> = Cap::new(std::alloc::System, usize::MAX);

/// Tells the test that it runs in a process of its own, where nobody else allocates.
const ALONE: &str = "MEMORY_INDEX_COUNTS_ALONE";

/// A small generator of numbers (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }

    /// Most words are rare.
    fn word(&mut self) -> String {
        let band = 1 << self.below(13);
        format!("word{}", self.below(band))
    }
}

fn upsert(index: &mut TenantIndex, numbers: &mut Numbers, key: u64) {
    let words: Vec<_> = (0..1 + numbers.below(40)).map(|_| (numbers.word(), 1)).collect();
    let name = format!("memory-{key:030}");
    let length = u32::try_from(words.len()).expect("at most 40");
    index.upsert(&DocEntry::new(key, length, &words).named(&name, 1)).expect("no vector to refuse");
}

#[test]
fn the_bytes_reported_are_those_of_the_allocator() {
    if std::env::var_os(ALONE).is_none() {
        let output = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "memory::the_bytes_reported_are_those_of_the_allocator"])
            .args(["--test-threads", "1", "--nocapture"])
            .env(ALONE, "1")
            .output()
            .expect("this program starts");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let mut numbers = Numbers(11);
    let before = HEAP.allocated();
    let mut index = TenantIndex::new();
    let check = |index: &TenantIndex, when: &str| {
        let counted = HEAP.allocated() - before + size_of::<TenantIndex>();
        let reported = index.memory_bytes();
        println!("{when}: {} documents, {reported} bytes, {counted} counted", index.len());
        // Lines that are printed and strings of this test are the rest.
        assert!(counted.abs_diff(reported) <= 4_096, "{when}: {reported} for {counted}");
    };
    for key in 0..6_000 {
        upsert(&mut index, &mut numbers, key);
    }
    check(&index, "after additions");
    let query = [("word1", 1.0), ("word3", 1.0), ("word40", 1.0)];
    assert_eq!(index.keywords().search(&query, 10, Bm25::default(), |_| true).len(), 10);
    check(&index, "after a search");
    for _ in 0..5_000 {
        let key = numbers.below(6_000);
        upsert(&mut index, &mut numbers, key);
    }
    check(&index, "after replacements");
    for key in 0..5_000 {
        index.remove(key);
    }
    check(&index, "after removals");
    assert_eq!(index.len(), 1_000);
    index.clear();
    check(&index, "after clearing");
}
