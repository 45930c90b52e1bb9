//! A program that was built without Cloud Firestore says so.

use crate::world::World;

#[test]
fn the_feature_is_named() {
    let world = World::new();
    world.file("settings.toml", "[firestore]\nproject = \"p\"\n");
    for args in [
        &["setup", "firestore"][..],
        &["setup", "firestore", "--format", "json"],
        &["setup", "firestore", "--declare-keys"],
        &["stats", "--store", "firestore://p"],
        &["stats", "--config", "settings.toml"],
    ] {
        let error = world.error(args, 8);
        assert_eq!(error["kind"], "unsupported", "{args:?}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("feature `firestore`"), "{args:?}: {message}");
    }
}
